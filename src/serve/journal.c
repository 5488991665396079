/* journal: see journal.h.
 *
 *   who has something to say -> queue (whole lines in one buffer) -> thread: takes the buffer, writes it
 *
 * What cannot be written is counted and forgotten, so that the queue is always taken. A line that went in by half is cut off again where
 * the file lets us, else ended, so that the next one stands alone. */
#include "serve/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "serve/put.h"

enum {
    MAX_QUEUE = 8 << 20, /* bytes; what comes when it is full is lost */
    PIECE = 4096,        /* what a pipe that can be written to takes without waiting (PIPE_BUF) */
    CLOSE_MS = 2000
};

struct mlxr_journal {
    mlxr_journal_options options;
    char *path;
    int fd;             /* of the thread, but for open */
    bool torn;          /* the thread's: the last line in the file has no end */
    uint64_t told_lost; /* the thread's */

    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t more;
    mlxr_buf queue;
    size_t n_lines; /* in it */
    uint64_t n_lost;
    bool reopen, closing;
    uint64_t close_ns; /* until when, once it closes */
    pthread_t thread;
};

/* ---- the thread ---- */

static bool is_stderr(const mlxr_journal *j)
{
    return strcmp(j->path, "-") == 0;
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
}

static size_t count_lines(const char *text, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) k += text[i] == '\n';
    return k;
}

static bool is_closing(mlxr_journal *j, uint64_t *until)
{
    bool closing;

    pthread_mutex_lock(&j->lock);
    closing = j->closing;
    *until = j->close_ns;
    pthread_mutex_unlock(&j->lock);
    return closing;
}

/* Waits until a piece can be written; false: it is time to end. */
static bool wait_writable(mlxr_journal *j)
{
    for (;;) {
        struct pollfd fd = {.fd = j->fd, .events = POLLOUT};
        uint64_t until;
        if (poll(&fd, 1, 200) != 0) return true;
        if (is_closing(j, &until) && mlxr_now_ns() >= until) return false;
    }
}

/* How many of n bytes were written. */
static size_t write_all(mlxr_journal *j, const char *text, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t k;
        if (is_stderr(j) && !wait_writable(j)) break;
        k = write(j->fd, text + done, is_stderr(j) && n - done > PIECE ? PIECE : n - done);
        if (k < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (k <= 0) break;
        done += (size_t)k;
    }
    return done;
}

/* Whole lines. How many were lost. */
static size_t write_lines(mlxr_journal *j, const char *text, size_t n)
{
    struct stat before;
    bool is_file = fstat(j->fd, &before) == 0 && S_ISREG(before.st_mode);
    size_t done, whole;

    if (j->torn) {
        if (write_all(j, "\n", 1) != 1) return count_lines(text, n);
        j->torn = false;
        before.st_size++;
    }
    done = write_all(j, text, n);
    if (done == n) return 0;
    for (whole = done; whole && text[whole - 1] != '\n'; whole--) {
    }
    if (done > whole) j->torn = !is_file || ftruncate(j->fd, before.st_size + (off_t)whole) != 0;
    return count_lines(text + whole, n - whole);
}

static void put_head(mlxr_buf *out, const char *level, const char *event)
{
    mlxr_buf_str(out, "{\"time\":\"");
    mlxr_put_time(out);
    mlxr_buf_printf(out, "\",\"level\":\"%s\",\"event\":\"%s\"", level, event);
}

/* What was lost until now, once lines can be written again. */
static void tell_lost(mlxr_journal *j, uint64_t n_lost)
{
    mlxr_buf line = {0};
    unsigned long long n = n_lost - j->told_lost;

    if (n == 0) return;
    if (j->options.for_people) {
        mlxr_buf_printf(&line, "%llu lines of the log were lost\n", n);
    } else {
        put_head(&line, "warn", "lost");
        mlxr_buf_printf(&line, ",\"lines\":%llu}\n", n);
    }
    if (!line.failed && write_lines(j, line.data, line.len) == 0) j->told_lost = n_lost;
    mlxr_buf_clear(&line);
}

static void *write_queue(void *ud)
{
    mlxr_journal *j = ud;
    mlxr_buf lines = {0};

    for (;;) {
        bool reopen, closing;
        uint64_t n_lost;
        size_t lost = 0;

        pthread_mutex_lock(&j->lock);
        while (j->queue.len == 0 && !j->reopen && !j->closing) pthread_cond_wait(&j->more, &j->lock);
        lines.len = 0;
        mlxr_buf swap = j->queue;
        j->queue = lines; /* empty, its room used again */
        lines = swap;
        reopen = j->reopen;
        j->reopen = false;
        closing = j->closing;
        n_lost = j->n_lost;
        j->n_lines = 0;
        pthread_mutex_unlock(&j->lock);

        if (lines.len) {
            tell_lost(j, n_lost);
            lost = write_lines(j, lines.data, lines.len);
        }
        if (lost) {
            pthread_mutex_lock(&j->lock);
            j->n_lost += lost;
            pthread_mutex_unlock(&j->lock);
        }
        if (reopen && !is_stderr(j)) {
            int fd = open_file(j->path);
            if (fd >= 0) {
                close(j->fd);
                j->fd = fd;
                j->torn = false;
            } else {
                mlxr_journal_text(j, MLXR_LOG_WARN,
                                  "the log could not be opened anew: it goes on where it was");
            }
        }
        if (lines.cap > 1 << 20) mlxr_buf_clear(&lines);
        if (closing && lines.len == 0) break;
        if (closing) lines.len = 0;
    }
    mlxr_buf_clear(&lines);
    return NULL;
}

/* ---- life ---- */

mlxr_status mlxr_journal_open(mlxr_journal **out, const mlxr_journal_options *options, mlxr_error *err)
{
    mlxr_journal *j = calloc(1, sizeof *j);
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (!j) return mlxr_fail_nomem(err, "log");
    j->options = *options;
    j->fd = -1;
    j->path = mlxr_strdup(options->path);
    if (!j->path || pthread_mutex_init(&j->lock, NULL) != 0) {
        free(j->path);
        free(j);
        return mlxr_fail_nomem(err, "log");
    }
    if (pthread_cond_init(&j->more, NULL) != 0) {
        st = mlxr_fail_nomem(err, "log");
        goto no_cond;
    }
    j->fd = is_stderr(j) ? STDERR_FILENO : open_file(j->path);
    if (j->fd < 0) {
        int e = errno;
        st = mlxr_fail(err, e == EACCES || e == EPERM ? MLXR_E_DENIED : MLXR_E_IO, "log: %s: %s", j->path,
                       strerror(e));
    } else if (pthread_create(&j->thread, NULL, write_queue, j) != 0) {
        st = mlxr_fail_nomem(err, "log");
    }
    if (st == MLXR_OK) {
        *out = j;
        return MLXR_OK;
    }
    if (j->fd >= 0 && !is_stderr(j)) close(j->fd);
    pthread_cond_destroy(&j->more);
no_cond:
    pthread_mutex_destroy(&j->lock);
    free(j->path);
    free(j);
    return st;
}

void mlxr_journal_close(mlxr_journal *j)
{
    if (!j) return;
    pthread_mutex_lock(&j->lock);
    j->closing = true;
    j->close_ns = mlxr_now_ns() + (uint64_t)CLOSE_MS * 1000000;
    pthread_cond_signal(&j->more);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    if (!is_stderr(j)) close(j->fd);
    mlxr_buf_clear(&j->queue);
    pthread_cond_destroy(&j->more);
    pthread_mutex_destroy(&j->lock);
    free(j->path);
    free(j);
}

void mlxr_journal_reopen(mlxr_journal *j)
{
    if (!j) return;
    pthread_mutex_lock(&j->lock);
    j->reopen = true;
    pthread_cond_signal(&j->more);
    pthread_mutex_unlock(&j->lock);
}

bool mlxr_journal_has_bodies(const mlxr_journal *j)
{
    return j && j->options.with_bodies;
}

uint64_t mlxr_journal_lost(const mlxr_journal *j)
{
    pthread_mutex_t *lock;
    uint64_t n;

    if (!j) return 0;
    lock = (pthread_mutex_t *)(uintptr_t)&j->lock;
    pthread_mutex_lock(lock);
    n = j->n_lost;
    pthread_mutex_unlock(lock);
    return n;
}

/* ---- lines ---- */

/* A whole line, which is emptied. */
static void post(mlxr_journal *j, mlxr_buf *line)
{
    pthread_mutex_lock(&j->lock);
    if (line->failed || j->queue.len + line->len > MAX_QUEUE) {
        j->n_lost++;
    } else {
        mlxr_buf_append(&j->queue, line->data, line->len);
        j->n_lines++;
        if (j->queue.failed) { /* no memory: all that was queued is gone */
            j->n_lost += j->n_lines;
            j->n_lines = 0;
            mlxr_buf_clear(&j->queue);
            j->queue = (mlxr_buf){0};
        }
        pthread_cond_signal(&j->more);
    }
    pthread_mutex_unlock(&j->lock);
    mlxr_buf_clear(line);
}

static void put_ms(mlxr_buf *out, const char *key, uint64_t ns)
{
    if (ns) mlxr_buf_printf(out, ",\"%s\":%.3f", key, (double)ns / 1e6);
}

/* ,"key":"text"; what was cut within a character ends before it. */
static void put_text(mlxr_buf *out, const char *key, const char *text)
{
    if (!text || !*text) return;
    mlxr_buf_printf(out, ",\"%s\":", key);
    mlxr_json_escape(out, text, mlxr_utf8_valid(text, strlen(text)));
}

/* ,"key":VALUE as it stands when it is JSON on one line, else as a text; null when it is no text. */
static void put_body(mlxr_buf *out, const char *key, const char *text, size_t n)
{
    mlxr_buf_printf(out, ",\"%s\":", key);
    if (mlxr_utf8_valid(text, n) == n)
        mlxr_json_escape(out, text, n);
    else
        mlxr_buf_str(out, "null");
}

static void people_time(mlxr_buf *out)
{
    time_t now = time(NULL);
    struct tm tm;
    char text[16];

    if (localtime_r(&now, &tm) && strftime(text, sizeof text, "%H:%M:%S ", &tm)) mlxr_buf_str(out, text);
}

/* Control characters, which could speak to the terminal, become "?". */
static void people_text(mlxr_buf *out, const char *text)
{
    for (; *text; text++) mlxr_buf_char(out, (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void for_people(mlxr_buf *out, const mlxr_request_in *r, const mlxr_record *record, int status,
                       uint64_t duration_ns, bool complete)
{
    people_time(out);
    mlxr_buf_printf(out, "%d %s ", status, mlxr_request_method(r));
    people_text(out, mlxr_request_path(r));
    if (duration_ns < 10000000)
        mlxr_buf_printf(out, " %.2f ms", (double)duration_ns / 1e6);
    else if (duration_ns < 10000000000)
        mlxr_buf_printf(out, " %.0f ms", (double)duration_ns / 1e6);
    else
        mlxr_buf_printf(out, " %.1f s", (double)duration_ns / 1e9);
    if (*record->model) {
        mlxr_buf_char(out, ' ');
        people_text(out, record->model);
    }
    if (record->has_answer)
        mlxr_buf_printf(out, " %zu+%zu tokens", record->n_prompt_tokens, record->n_generated_tokens);
    if (record->decode_ns && record->n_generated_tokens)
        mlxr_buf_printf(out, ", %.1f/s",
                        (double)record->n_generated_tokens * 1e9 / (double)record->decode_ns);
    if (!complete) mlxr_buf_str(out, " (the client left)");
    if (*record->error) {
        mlxr_buf_str(out, ": ");
        people_text(out, record->error);
    }
    mlxr_buf_char(out, '\n');
}

void mlxr_journal_request(mlxr_journal *j, const mlxr_request_in *r, const mlxr_record *record, int status,
                          uint64_t n_sent, uint64_t duration_ns, bool complete)
{
    mlxr_buf line = {0};

    if (j->options.for_people) {
        for_people(&line, r, record, status, duration_ns, complete);
        post(j, &line);
        return;
    }
    put_head(&line, "info", "request");
    put_text(&line, "id", record->id);
    put_text(&line, "client", mlxr_request_client(r));
    put_text(&line, "method", mlxr_request_method(r));
    put_text(&line, "path", mlxr_request_path(r));
    mlxr_buf_printf(&line, ",\"status\":%d", status);
    put_text(&line, "model", record->model);
    if (record->has_answer) {
        mlxr_buf_printf(&line,
                        ",\"stream\":%s,\"prompt_tokens\":%zu,\"cached_tokens\":%zu,\"generated_tokens\":%zu",
                        record->stream ? "true" : "false", record->n_prompt_tokens, record->n_cached_tokens,
                        record->n_generated_tokens);
        if (record->n_choices > 1) mlxr_buf_printf(&line, ",\"choices\":%zu", record->n_choices);
        if (record->n_dropped_tokens)
            mlxr_buf_printf(&line, ",\"dropped_tokens\":%zu", record->n_dropped_tokens);
    }
    put_ms(&line, "load_ms", record->load_ns);
    put_ms(&line, "queue_ms", record->queue_ns);
    put_ms(&line, "prefill_ms", record->prefill_ns);
    put_ms(&line, "decode_ms", record->decode_ns);
    put_ms(&line, "first_token_ms", record->first_token_ns);
    mlxr_buf_printf(&line, ",\"total_ms\":%.3f", (double)duration_ns / 1e6);
    put_text(&line, "done_reason", record->done_reason);
    mlxr_buf_printf(&line, ",\"bytes\":%llu", (unsigned long long)n_sent);
    put_text(&line, "error", record->error);
    mlxr_buf_printf(&line, ",\"complete\":%s", complete ? "true" : "false");
    if (j->options.with_bodies) {
        size_t n;
        const char *body = mlxr_request_body(r, &n);
        if (n) put_body(&line, "request", body, n);
        body = mlxr_request_answer(r, &n);
        if (body) put_body(&line, "answer", body, n);
    }
    mlxr_buf_str(&line, "}\n");
    post(j, &line);
}

void mlxr_journal_text(mlxr_journal *j, mlxr_log_level level, const char *text)
{
    static const char *const names[] = {"debug", "info", "warn"};
    mlxr_buf line = {0};

    if (level < j->options.level) return;
    if (j->options.for_people) {
        people_time(&line);
        if (level == MLXR_LOG_WARN) mlxr_buf_str(&line, "warning: ");
        people_text(&line, text);
        mlxr_buf_char(&line, '\n');
    } else {
        put_head(&line, names[level], "message");
        put_text(&line, "text", text);
        mlxr_buf_str(&line, "}\n");
    }
    post(j, &line);
}
