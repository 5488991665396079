/* meter: how far a long call of the store is, in a line that fits the terminal, in plain lines, or as JSON. */
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "stores.h"

enum { SHOWN_EVERY_MS = 80, RATE_EVERY_MS = 400, SHOWN_AFTER_MS = 250 };

/* "hashing" -> "hashed", "copying" -> "copied" */
static void past(char out[32], const char *what)
{
    size_t n = strlen(what);

    if (n > 4 && n < 30 && strcmp(what + n - 4, "ying") == 0)
        snprintf(out, 32, "%.*sied", (int)n - 4, what);
    else if (n > 3 && n < 30 && strcmp(what + n - 3, "ing") == 0)
        snprintf(out, 32, "%.*sed", (int)n - 3, what);
    else
        snprintf(out, 32, "%.31s", what);
}

static void measure(struct meter *m, uint64_t now, uint64_t done)
{
    double seconds = (double)(now - m->rate_ns) / 1e9, rate;

    if (m->rate_ns == 0 || done < m->rate_done) {
        m->rate_ns = now;
        m->rate_done = done;
        return;
    }
    if (seconds < RATE_EVERY_MS / 1e3) return;
    rate = (double)(done - m->rate_done) / seconds;
    m->rate = m->rate > 0 ? 0.7 * m->rate + 0.3 * rate : rate;
    m->rate_ns = now;
    m->rate_done = done;
}

/* "2.1 of 4.9 GB": one unit when both have the same. */
static void amounts(mlxr_buf *out, uint64_t done, uint64_t total)
{
    char a[32], b[32];
    const char *unit;

    words_size(a, done);
    words_size(b, total);
    unit = strrchr(b, ' ');
    if (unit && strlen(a) > strlen(unit) && strcmp(a + strlen(a) - strlen(unit), unit) == 0)
        a[strlen(a) - strlen(unit)] = '\0';
    mlxr_buf_printf(out, "  %s of %s", a, b);
}

static void time_left(mlxr_buf *out, double seconds)
{
    unsigned long s = seconds < 0 ? 0 : seconds > 1e8 ? 100000000 : (unsigned long)(seconds + 0.5);

    if (s < 100)
        mlxr_buf_printf(out, "  %lu s left", s);
    else if (s < 6000)
        mlxr_buf_printf(out, "  %lu min left", (s + 30) / 60);
    else
        mlxr_buf_printf(out, "  %lu h left", (s + 1800) / 3600);
}

static void draw(struct meter *m, const mlxr_store_step *step, uint64_t now)
{
    bool of_all = step->total_all > 0;
    uint64_t done = of_all ? step->done_all : step->done, total = of_all ? step->total_all : step->total;
    size_t width = cli_width(stderr, 80), room;
    mlxr_buf line = {0}, tail = {0};

    measure(m, now, done);
    if (now - m->start_ns < SHOWN_AFTER_MS * 1000000ull) return; /* what is over in a moment draws nothing */
    if (now - m->shown_ns < SHOWN_EVERY_MS * 1000000ull && done < total) return;
    m->shown_ns = now;
    if (total) {
        mlxr_buf_printf(&tail, "  %3d %%", done >= total ? 100 : (int)((double)done / (double)total * 100));
        amounts(&tail, done, total);
    }
    if (m->rate > 0) {
        char rate[32];
        mlxr_buf_printf(&tail, "  %s/s", words_size(rate, (uint64_t)m->rate));
        if (total > done) time_left(&tail, (double)(total - done) / m->rate);
    }
    mlxr_buf_str(&tail, "");
    room = width > tail.len + 1 ? width - tail.len - 1 : 0;
    mlxr_buf_printf(&line, "%s%s", step->what, step->item ? " " : "");
    if (step->item) {
        size_t n_left = room > line.len ? room - line.len : 0;
        words_shorten(&line, step->item, n_left);
    }
    if (line.data && tail.data) {
        if (tail.len + 1 > width) tail.data[width > 1 ? width - 1 : 0] = '\0';
        fprintf(stderr, "\r\033[K%s%s", room > strlen(step->what) ? line.data : "", tail.data);
        fflush(stderr);
    }
    mlxr_buf_clear(&line);
    mlxr_buf_clear(&tail);
}

/* Whether the item was told already: a file that was hashed and then copied gets one line. */
static bool is_told(struct meter *m, const char *item)
{
    uint64_t hash = mlxr_hash_bytes(item, strlen(item), 0);

    for (size_t i = 0; i < m->n_told; i++)
        if (m->told[i] == hash) return true;
    if (m->n_told % 64 == 0) {
        uint64_t *told = mlxr_realloc_array(m->told, m->n_told + 64, sizeof *told);
        if (!told) return false;
        m->told = told;
    }
    m->told[m->n_told++] = hash;
    return false;
}

static void plain(struct meter *m, const mlxr_store_step *step)
{
    char did[32], size[32];
    mlxr_buf item = {0};

    if (!step->item || step->done < step->total || is_told(m, step->item)) return;
    past(did, step->what);
    words_shorten(&item, step->item, SIZE_MAX);
    fprintf(stderr, "%s %s %s\n", did, item.data ? item.data : "", words_size(size, step->total));
    mlxr_buf_clear(&item);
}

static void json_step(const mlxr_store_step *step)
{
    json_t *o = json_pack("{ss ss so* sI sI sI sI}", "event", "progress", "what", step->what, "item",
                          step->item ? json_string(step->item) : NULL, "done", (json_int_t)step->done,
                          "total", (json_int_t)step->total, "done_all", (json_int_t)step->done_all,
                          "total_all", (json_int_t)step->total_all);
    char *text = o ? json_dumps(o, JSON_ENSURE_ASCII) : NULL;

    if (text) {
        puts(text);
        fflush(stdout);
    }
    free(text);
    json_decref(o);
}

static void on_step(const mlxr_store_step *step, void *ud)
{
    struct meter *m = ud;

    if (m->json)
        json_step(step);
    else if (m->quiet)
        return;
    else if (m->terminal)
        draw(m, step, mlxr_now_ns());
    else
        plain(m, step);
}

void meter_begin(struct meter *m)
{
    *m = (struct meter){.terminal = isatty(STDERR_FILENO) == 1, .quiet = cli_quiet()};
    m->start_ns = mlxr_now_ns();
    m->job = (mlxr_store_job){.on_step = on_step, .ud = m, .cancel = cli_cancel_flag()};
}

void meter_end(struct meter *m)
{
    if (m->terminal && m->shown_ns && !m->json) {
        fprintf(stderr, "\r\033[K");
        fflush(stderr);
    }
    m->shown_ns = 0;
    free(m->told);
    m->told = NULL;
    m->n_told = 0;
}
