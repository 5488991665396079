/* download: one file by its digest (remote.h). The file is cut into parts, which threads fetch side by side, each with its own
 * connection, into <root>/partial/<hex>; the thread that called hashes what lies there whole from the start meanwhile. The first
 * answer says whether the server has ranges at all: one without is read as a single stream, from the start each time.
 *
 *   <root>/partial/<hex>.state, numbers little-endian:
 *     0   8  "mlxrpart"
 *     8   8  size of the file
 *    16   8  bytes of a part; the last may be shorter
 *    24   8  check of all before it
 *    32   8  for each part: bytes that are there, counted from its start (4), and their check (4)
 *
 * Entries are written after their bytes and each by itself, so that a process that is killed has lost next to nothing. After a power
 * loss an entry may be there and its bytes not, though no more than those of parts that were under way: a part is synced before
 * its entry says that it is whole. The digest finds it in either case, and then all is fetched again. A check that is wrong makes its part
 * empty, or the whole file where it is the first. Who works on the two files holds the lock of the state. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "store/remote.h"

enum {
    SMALL_PART = 4 << 20,
    PART = 16 << 20,
    SMALL_FILE = 64 << 20, /* up to here parts are small, so that there is something to share out */
    MAX_PARTS = 1 << 16,
    MAX_THREADS = 64,
    HEAD_BYTES = 32,
    ENTRY_BYTES = 8,
    SAVE_BYTES = 16 << 10, /* an entry is written anew after so many */
    READ_BYTES = 1 << 20,
    WAIT_NS = 10000000,
    LOCK_WAIT_NS = 100000000
};
static const char magic[8] = {'m', 'l', 'x', 'r', 'p', 'a', 'r', 't'};

typedef struct part {
    uint32_t done, saved; /* bytes: there, and said to be there by the state */
    bool taken;
} part;

typedef enum ranges { RANGES_UNKNOWN, RANGES_ASKED, RANGES_YES, RANGES_NO } ranges;

typedef struct download {
    mlxr_session *session;
    mlxr_store *store;
    const mlxr_io *io;
    const mlxr_fetch *f;
    const mlxr_remote_options *o;
    mlxr_store_pace *pace;
    char *path, *state_path;
    int fd, state_fd;
    uint64_t part_bytes, key;
    size_t n_parts;
    bool resumed;  /* some of it was there before */
    int stop;      /* atomic: threads are to end */
    bool threaded; /* mutex and changed are there */

    pthread_mutex_t
        mutex; /* guards what follows, and calls of f->renew and of the log; nothing is waited for with it but those */
    pthread_cond_t changed; /* of `ranges` */
    part *parts;
    uint64_t done, told; /* bytes there; and those that the pace knows of */
    uint64_t moved;
    ranges ranges;
    char *etag;
    char *url, *authorization; /* as renewed last */
    unsigned generation;       /* of those two */
    char *direct;              /* where url redirected to, or NULL */
    size_t n_running, n_taken; /* threads, and parts that one of them has */
    bool other_file;           /* the server has another file than it had before */
    mlxr_status failed;
    mlxr_error err; /* of failed */
} download;

/* What one request of a thread works on. */
typedef struct piece {
    download *d;
    mlxr_http *http;
    const mlxr_http_answer *a;
    const char *url; /* that is asked for */
    size_t i_part;
    bool asked_range, stream;
    uint64_t at; /* stream: where the next byte goes */
    uint64_t n_written;
} piece;

static uint64_t part_begin(const download *d, size_t i)
{
    return (uint64_t)i * d->part_bytes;
}

static uint32_t part_size(const download *d, size_t i)
{
    uint64_t left = d->f->size - part_begin(d, i);
    return (uint32_t)(left < d->part_bytes ? left : d->part_bytes);
}

static bool cancelled(const download *d)
{
    return d->pace && mlxr_store_pace_cancelled(d->pace);
}

/* The pace hears of each byte once, also when some are fetched again. */
static mlxr_status tell(download *d, uint64_t done, mlxr_error *err)
{
    uint64_t n = 0;

    if (!d->pace) return MLXR_OK;
    pthread_mutex_lock(&d->mutex);
    if (done > d->told) {
        n = done - d->told;
        d->told = done;
    }
    pthread_mutex_unlock(&d->mutex);
    return mlxr_store_pace_add(d->pace, "pulling", d->f->item, n, done, d->f->size, err);
}

static void sleep_ns(long ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

/* ---- the state ---- */

static void le_put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t le_get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void head_make(const download *d, uint8_t head[HEAD_BYTES])
{
    memcpy(head, magic, sizeof magic);
    le_put(head + 8, d->f->size, 8);
    le_put(head + 16, d->part_bytes, 8);
    le_put(head + 24, mlxr_hash_bytes(head, 24, d->key), 8);
}

static void entry_make(const download *d, uint8_t entry[ENTRY_BYTES], size_t i, uint32_t done)
{
    uint8_t text[12];

    le_put(text, i, 8);
    le_put(text + 8, done, 4);
    le_put(entry, done, 4);
    le_put(entry + 4, mlxr_hash_bytes(text, sizeof text, d->key) & 0xffffffffu, 4);
}

static uint32_t entry_read(const download *d, const uint8_t entry[ENTRY_BYTES], size_t i)
{
    uint8_t good[ENTRY_BYTES];
    uint64_t done = le_get(entry, 4);

    if (done > part_size(d, i)) return 0;
    entry_make(d, good, i, (uint32_t)done);
    return memcmp(entry, good, ENTRY_BYTES) == 0 ? (uint32_t)done : 0;
}

static mlxr_status entry_save(download *d, size_t i, uint32_t done, mlxr_error *err)
{
    uint8_t entry[ENTRY_BYTES];

    entry_make(d, entry, i, done);
    return mlxr_io_write(d->io, d->state_fd, d->state_path, entry, sizeof entry,
                         (int64_t)(HEAD_BYTES + i * ENTRY_BYTES), err);
}

/* All entries of the state open as fd, NULL when it is none of this file. */
static uint8_t *state_read(const download *d, int fd)
{
    size_t n = HEAD_BYTES + d->n_parts * ENTRY_BYTES, got = 0;
    uint8_t *bytes = mlxr_malloc_array(n, 1), head[HEAD_BYTES];
    struct stat sb;

    if (!bytes) return NULL;
    head_make(d, head);
    while (got < n) {
        ssize_t k = pread(fd, bytes + got, n - got, (off_t)got);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) break;
        got += (size_t)k;
    }
    if (got == n && fstat(fd, &sb) == 0 && (uint64_t)sb.st_size == n && memcmp(bytes, head, HEAD_BYTES) == 0)
        return bytes;
    free(bytes);
    return NULL;
}

static uint64_t state_done(const download *d, const uint8_t *bytes)
{
    uint64_t done = 0;

    for (size_t i = 0; i < d->n_parts; i++) done += entry_read(d, bytes + HEAD_BYTES + i * ENTRY_BYTES, i);
    return done;
}

/* Nothing is there yet. The head comes last: without it the rest counts for nothing. */
static mlxr_status start_new(download *d, mlxr_error *err)
{
    uint8_t head[HEAD_BYTES];
    mlxr_status st;

    if (d->fd >= 0) close(d->fd);
    d->fd = -1;
    d->done = 0;
    d->resumed = false;
    memset(d->parts, 0, d->n_parts * sizeof *d->parts);
    if ((st = mlxr_io_truncate(d->io, d->state_fd, d->state_path, 0, err)) != MLXR_OK) return st;
    if ((st = mlxr_io_create(&d->fd, d->io, d->path, false, err)) != MLXR_OK) return st;
    if ((st = mlxr_io_truncate(d->io, d->fd, d->path, d->f->size, err)) != MLXR_OK) return st;
    st = mlxr_io_truncate(d->io, d->state_fd, d->state_path, HEAD_BYTES + d->n_parts * ENTRY_BYTES, err);
    if (st != MLXR_OK) return st;
    head_make(d, head);
    return mlxr_io_write(d->io, d->state_fd, d->state_path, head, sizeof head, 0, err);
}

/* Goes on from what is there, or starts anew. */
static mlxr_status start(download *d, mlxr_error *err)
{
    uint8_t *bytes = state_read(d, d->state_fd);
    struct stat sb;

    if (!bytes || stat(d->path, &sb) != 0 || !S_ISREG(sb.st_mode) || (uint64_t)sb.st_size != d->f->size ||
        mlxr_io_open_write(&d->fd, d->io, d->path, NULL) != MLXR_OK) {
        free(bytes);
        return start_new(d, err);
    }
    for (size_t i = 0; i < d->n_parts; i++)
        d->parts[i].done = d->parts[i].saved = entry_read(d, bytes + HEAD_BYTES + i * ENTRY_BYTES, i);
    d->done = state_done(d, bytes);
    d->resumed = d->done > 0;
    free(bytes);
    return MLXR_OK;
}

static mlxr_status check_room(const download *d, mlxr_error *err)
{
    struct statvfs fs;
    struct stat sb;
    uint64_t need = d->f->size, there;
    mlxr_status st = mlxr_store_check_quota(d->store, d->f->size, err);

    if (st != MLXR_OK) return st;
    if (fstatvfs(d->fd, &fs) != 0 || fstat(d->fd, &sb) != 0) return MLXR_OK; /* writing will say */
    there = (uint64_t)sb.st_blocks * 512;
    need = need > there ? need - there : 0;
    if (need / fs.f_frsize > fs.f_bavail)
        return mlxr_fail(err, MLXR_E_NO_SPACE, "%s: needs %.1f MB more, and the disk of %s has %.1f MB",
                         d->f->item, (double)need / 1e6, d->store->root,
                         (double)fs.f_bavail * (double)fs.f_frsize / 1e6);
    return MLXR_OK;
}

/* ---- what comes ---- */

/* "bytes 0-99/1234": the number behind the slash. */
static bool content_range_total(const char *v, uint64_t *total)
{
    char *end;

    if (!v || !(v = strchr(v, '/')) || v[1] < '0' || v[1] > '9') return false;
    *total = strtoull(v + 1, &end, 10);
    return *end == '\0';
}

static mlxr_status wrong_length(const download *d, uint64_t found, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_CORRUPT, "%s: the server's file has %llu bytes, %llu are wanted", d->f->item,
                     (unsigned long long)found, (unsigned long long)d->f->size);
}

static bool set_text(char **to, const char *text)
{
    char *copy = text ? mlxr_strdup(text) : NULL;

    if (text && !copy) return false;
    free(*to);
    *to = copy;
    return true;
}

static mlxr_status piece_start(void *ud, int status, const mlxr_http_headers *h, mlxr_error *err)
{
    piece *p = ud;
    download *d = p->d;
    const char *etag = mlxr_http_header(h, "ETag"), *length = mlxr_http_header(h, "Content-Length");
    uint64_t total;
    mlxr_status st = MLXR_OK;

    if (status != 200 && status != 206)
        return mlxr_fail(err, MLXR_E_NETWORK, "%s: wanted its bytes, the server answered %d", d->f->item,
                         status);
    if (status == 206 && content_range_total(mlxr_http_header(h, "Content-Range"), &total) &&
        total != d->f->size)
        return wrong_length(d, total, err);
    if (status == 200 && length && strtoull(length, NULL, 10) != d->f->size)
        return wrong_length(d, strtoull(length, NULL, 10), err);
    if (status == 206 && !p->asked_range)
        return mlxr_fail(err, MLXR_E_NETWORK, "%s: the server sent a part where none was asked for",
                         d->f->item);
    p->stream = status == 200;
    p->at = 0;
    pthread_mutex_lock(&d->mutex);
    if (etag && d->etag && strcmp(etag, d->etag) != 0) {
        d->other_file = true;
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: it changed there while it was fetched", d->f->item);
    } else if (p->stream && d->ranges == RANGES_YES) {
        d->other_file = true;
        st = mlxr_fail(err, MLXR_E_NETWORK, "%s: asked for a part, the server sent the whole file",
                       d->f->item);
    } else if (etag && !d->etag && !(d->etag = mlxr_strdup(etag))) {
        st = mlxr_fail_nomem(err, d->f->item);
    } else if (d->ranges == RANGES_UNKNOWN || d->ranges == RANGES_ASKED) {
        d->ranges = p->stream ? RANGES_NO : RANGES_YES;
        pthread_cond_broadcast(&d->changed);
    }
    if (!d->direct && st == MLXR_OK && p->a->url && strcmp(p->a->url, p->url) != 0)
        (void)set_text(&d->direct, p->a->url); /* for the parts to come */
    pthread_mutex_unlock(&d->mutex);
    return st;
}

/* n bytes that belong into one part, `offset` from its start. */
static mlxr_status part_write(download *d, size_t i, uint32_t offset, const void *data, uint32_t n,
                              mlxr_error *err)
{
    part *p = &d->parts[i];
    mlxr_status st = mlxr_io_write(d->io, d->fd, d->path, data, n, (int64_t)(part_begin(d, i) + offset), err);
    uint32_t now;
    uint64_t all;

    if (st != MLXR_OK) return st;
    pthread_mutex_lock(&d->mutex);
    if (offset + n > p->done) {
        d->done += offset + n - p->done;
        p->done = offset + n;
    }
    now = p->done;
    all = d->done;
    pthread_mutex_unlock(&d->mutex);
    /* `saved` is this thread's alone while it has the part */
    if (now != p->saved && (now == part_size(d, i) || now - p->saved >= SAVE_BYTES)) {
        if (now == part_size(d, i) && (st = mlxr_io_sync(d->io, d->fd, d->path, err)) != MLXR_OK) return st;
        if ((st = entry_save(d, i, now, err)) != MLXR_OK) return st;
        p->saved = now;
    }
    return tell(d, all, err);
}

static mlxr_status piece_write(void *ud, const void *data, size_t n, mlxr_error *err)
{
    piece *p = ud;
    download *d = p->d;
    const char *from = data;
    mlxr_status st = MLXR_OK;

    p->n_written += n;
    if (!p->stream) {
        uint32_t done = d->parts[p->i_part].done;
        if (n > part_size(d, p->i_part) - done)
            return mlxr_fail(err, MLXR_E_NETWORK, "%s: the server sent more than the part that was asked for",
                             d->f->item);
        return part_write(d, p->i_part, done, data, (uint32_t)n, err);
    }
    if (n > d->f->size - p->at) return wrong_length(d, p->at + n, err);
    while (n > 0 && st == MLXR_OK) {
        size_t i = (size_t)(p->at / d->part_bytes);
        uint32_t offset = (uint32_t)(p->at % d->part_bytes), left = part_size(d, i) - offset;
        uint32_t k = n < left ? (uint32_t)n : left;
        st = part_write(d, i, offset, from, k, err);
        from += k;
        n -= k;
        p->at += k;
    }
    return st;
}

static bool piece_resume(void *ud, uint64_t *offset)
{
    piece *p = ud;

    if (p->stream) return false; /* it would send all of it: seen to here */
    *offset = part_begin(p->d, p->i_part) + p->d->parts[p->i_part].done;
    return true;
}

static void piece_log(mlxr_log_level level, const char *message, void *ud)
{
    download *d = ud;

    pthread_mutex_lock(&d->mutex);
    mlxr_log_at(&d->store->log, level, "%s", message);
    pthread_mutex_unlock(&d->mutex);
}

/* ---- requests ---- */

/* New url and authorization, unless another thread got them since `generation`. *renewed: it is worth asking again. */
static mlxr_status renew(download *d, unsigned generation, bool *renewed, mlxr_error *err)
{
    const char *url = NULL, *authorization = NULL;
    mlxr_status st = MLXR_OK;

    *renewed = false;
    pthread_mutex_lock(&d->mutex);
    if (generation != d->generation) {
        *renewed = true;
    } else if (d->f->renew) {
        st = d->f->renew(d->f->renew_ud, &url, &authorization, err);
        if (st == MLXR_OK &&
            (!set_text(&d->url, url ? url : d->url) || !set_text(&d->authorization, authorization)))
            st = mlxr_fail_nomem(err, d->f->item);
        if (st == MLXR_OK) {
            d->generation++;
            *renewed = true;
        }
    }
    pthread_mutex_unlock(&d->mutex);
    return st;
}

/* One request for what the part lacks, or for all of the file. */
static mlxr_status ask(piece *p, mlxr_http_answer *a, bool *direct, unsigned *generation, mlxr_error *err)
{
    download *d = p->d;
    mlxr_http_request q = {
        .on_start = piece_start, .write = piece_write, .resume = piece_resume, .write_ud = p};
    char *url = NULL, *authorization = NULL;
    bool failed;
    mlxr_status st;

    pthread_mutex_lock(&d->mutex);
    *direct = d->direct != NULL;
    *generation = d->generation;
    failed = !set_text(&url, d->direct ? d->direct : d->url) || !set_text(&authorization, d->authorization);
    if (d->ranges != RANGES_NO) {
        q.range_begin = part_begin(d, p->i_part) + d->parts[p->i_part].done;
        q.range_end = part_begin(d, p->i_part) + part_size(d, p->i_part);
    }
    /* where the url redirected to gets it no more than by the redirect itself */
    q.authorization = *direct && !mlxr_url_same_origin(d->direct, d->url) ? NULL : authorization;
    pthread_mutex_unlock(&d->mutex);
    q.url = url;
    p->asked_range = q.range_end > 0;
    p->url = url;
    p->a = a;
    p->stream = false;
    p->n_written = 0;
    st = failed ? mlxr_fail_nomem(err, d->f->item) : mlxr_http_do(a, p->http, &q, err);
    pthread_mutex_lock(&d->mutex);
    d->moved += a->n_received;
    pthread_mutex_unlock(&d->mutex);
    free(url);
    free(authorization);
    return st;
}

static void forget_direct(download *d)
{
    pthread_mutex_lock(&d->mutex);
    free(d->direct);
    d->direct = NULL;
    pthread_mutex_unlock(&d->mutex);
}

static bool all_there(const download *d, const piece *p)
{
    if (p->stream) return p->at == d->f->size;
    return d->parts[p->i_part].done == part_size(d, p->i_part);
}

/* Until the part is whole (a server without ranges: the file). */
static mlxr_status fetch_part(download *d, mlxr_http *http, size_t i_part, mlxr_error *err)
{
    piece p = {.d = d, .http = http, .i_part = i_part};
    uint32_t n_tries = d->o->n_tries ? d->o->n_tries : 1, n_broken = 0, n_refused = 0;
    mlxr_http_answer a = {0};
    mlxr_status st;

    for (;;) {
        bool direct, again = false;
        unsigned generation;

        st = ask(&p, &a, &direct, &generation, err);
        if (p.n_written > 0) n_refused = 0;
        if (st == MLXR_E_NETWORK && p.stream && p.n_written > 0 && ++n_broken < n_tries) {
            long pause = 50; /* of 10 ms: a stream that broke begins again from the start */
            while (pause-- > 0 && !__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) sleep_ns(WAIT_NS);
            mlxr_log_at(&(mlxr_log){piece_log, d}, MLXR_LOG_INFO,
                        "%s: the connection broke, the server has no ranges: from the start", d->f->item);
            continue;
        }
        if (st != MLXR_OK) break;
        if (a.status == 200 || a.status == 206) {
            if (all_there(d, &p)) break;
            if (p.stream) { /* without a Content-Length nobody else notices */
                st = wrong_length(d, p.at, err);
                break;
            }
            if (p.n_written > 0) continue; /* a server may send less than it was asked for */
            st = mlxr_fail(err, MLXR_E_NETWORK, "%s: the server sent nothing of a part", d->f->item);
            break;
        }
        if (a.status >= 400 && a.status < 500 && direct && n_refused++ < n_tries) {
            forget_direct(d); /* such places are good for some time only */
            continue;
        }
        if ((a.status == 401 || a.status == 403) && n_refused++ < 2) {
            if ((st = renew(d, generation, &again, err)) != MLXR_OK) break;
            if (again) continue;
        }
        if (a.status == 416) {
            uint64_t total;
            if (content_range_total(mlxr_http_header(&a.headers, "Content-Range"), &total) &&
                total != d->f->size) {
                st = wrong_length(d, total, err);
                break;
            }
        }
        st = mlxr_http_status_fail(&a, d->f->item, err);
        break;
    }
    mlxr_http_answer_clear(&a);
    return st;
}

static void fail_all(download *d, mlxr_status st, const mlxr_error *err)
{
    if (d->failed == MLXR_OK) {
        d->failed = st;
        d->err = *err;
    }
    __atomic_store_n(&d->stop, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&d->changed);
}

static size_t next_part(const download *d)
{
    for (size_t i = 0; i < d->n_parts; i++)
        if (!d->parts[i].taken && d->parts[i].done < part_size(d, i)) return i;
    return SIZE_MAX;
}

/* A thread: parts, one after the other, until there are none. */
static void *worker(void *ud)
{
    download *d = ud;
    mlxr_http_options o = mlxr_remote_http_options(d->o, NULL, NULL);
    mlxr_http *http = NULL;
    mlxr_error err = {0};
    mlxr_status st;

    o.cancel = &d->stop;
    o.log = (mlxr_log){piece_log, d};
    st = mlxr_http_create(&http, &o, &err);
    pthread_mutex_lock(&d->mutex);
    while (st == MLXR_OK && !__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) {
        size_t i;
        bool first = d->ranges == RANGES_UNKNOWN;

        if (d->ranges == RANGES_ASKED) { /* another thread's first answer will tell */
            pthread_cond_wait(&d->changed, &d->mutex);
            continue;
        }
        if ((i = next_part(d)) == SIZE_MAX) break;
        if (d->ranges == RANGES_NO && d->n_taken > 0) break; /* one stream brings all */
        d->parts[i].taken = true;
        d->n_taken++;
        if (first) d->ranges = RANGES_ASKED;
        pthread_mutex_unlock(&d->mutex);
        st = fetch_part(d, http, i, &err);
        pthread_mutex_lock(&d->mutex);
        d->parts[i].taken = false;
        d->n_taken--;
        if (d->ranges == RANGES_ASKED && first) d->ranges = RANGES_UNKNOWN;
        pthread_cond_broadcast(&d->changed);
    }
    if (st != MLXR_OK) fail_all(d, st, &err);
    d->n_running--;
    pthread_mutex_unlock(&d->mutex);
    mlxr_http_free(http);
    return NULL;
}

/* ---- hashing beside it ---- */

typedef struct hashing {
    mlxr_sha256 sha;
    uint64_t done;
    uint8_t *buffer; /* READ_BYTES */
    mlxr_buf *sums;
} hashing;

/* Bytes that are there from the file's start on, without a gap. */
static uint64_t whole_prefix(const download *d, uint64_t from)
{
    size_t i = (size_t)(from / d->part_bytes);

    while (i < d->n_parts && d->parts[i].done == part_size(d, i)) i++;
    return i == d->n_parts ? d->f->size : part_begin(d, i) + d->parts[i].done;
}

/* Some of what lies before `end`. */
static mlxr_status hash_some(download *d, hashing *h, uint64_t end, mlxr_error *err)
{
    const uint64_t grain = mlxr_sums_grain(d->f->size), next_sum = (h->done / grain + 1) * grain;
    size_t n = end - h->done < READ_BYTES ? (size_t)(end - h->done) : READ_BYTES;
    ssize_t got;

    if (n > next_sum - h->done) n = (size_t)(next_sum - h->done);
    do got = pread(d->fd, h->buffer, n, (off_t)h->done);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return mlxr_fail(err, MLXR_E_IO, "%s: cannot read: %s", d->path,
                         got < 0 ? strerror(errno) : "it was cut short");
    mlxr_sha256_update(&h->sha, h->buffer, (size_t)got);
    h->done += (uint64_t)got;
    if (h->done == next_sum) { /* as sums.c has them */
        uint8_t state[32];
        for (unsigned i = 0; i < sizeof state; i++)
            state[i] = (uint8_t)(h->sha.h[i / 4] >> (24 - 8 * (i % 4)));
        mlxr_buf_append(h->sums, state, sizeof state);
    }
    return MLXR_OK;
}

/* Threads fetch what is missing; hashed by this one to the end. digest: of all of it. */
static mlxr_status fetch_all(download *d, char digest[72], mlxr_buf *sums, mlxr_error *err)
{
    hashing h = {.sums = sums, .buffer = mlxr_malloc_array(READ_BYTES, 1)};
    pthread_t threads[MAX_THREADS];
    size_t n_threads = 0, want = 0, i;
    sigset_t all, old;
    mlxr_status st = MLXR_OK;
    mlxr_error own = {0};

    sums->len = 0;
    if (!h.buffer) return mlxr_fail_nomem(err, d->f->item);
    mlxr_sha256_init(&h.sha);
    for (i = 0; i < d->n_parts; i++) want += d->parts[i].done < part_size(d, i);
    if (want > d->o->n_parallel) want = d->o->n_parallel ? d->o->n_parallel : 1;
    if (want > MAX_THREADS) want = MAX_THREADS;
    __atomic_store_n(&d->stop, 0, __ATOMIC_RELAXED);
    d->failed = MLXR_OK;
    d->n_running = want;
    sigfillset(&all); /* signals are the program's threads' */
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (n_threads < want && pthread_create(&threads[n_threads], NULL, worker, d) == 0) n_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_mutex_lock(&d->mutex);
    d->n_running -= want - n_threads;
    pthread_mutex_unlock(&d->mutex);
    if (want > 0 && n_threads == 0)
        st = mlxr_fail(&own, MLXR_E_NOMEM, "%s: cannot start a thread", d->f->item);

    while (st == MLXR_OK) {
        uint64_t end;
        size_t n_running;

        pthread_mutex_lock(&d->mutex);
        end = whole_prefix(d, h.done);
        n_running = d->n_running;
        st = d->failed;
        pthread_mutex_unlock(&d->mutex);
        if (st != MLXR_OK) break;
        if (cancelled(d)) {
            st = mlxr_fail(&own, MLXR_E_CANCELLED, "%s: cancelled", d->f->item);
        } else if (h.done < end) {
            st = hash_some(d, &h, end, &own);
            if (st == MLXR_OK && n_running == 0 && d->pace) /* nothing else tells that something goes on */
                st = mlxr_store_pace_add(d->pace, "hashing", d->f->item, 0, h.done, d->f->size, &own);
        } else if (n_running == 0) {
            break;
        } else {
            sleep_ns(WAIT_NS);
        }
    }
    pthread_mutex_lock(&d->mutex);
    if (st != MLXR_OK && d->failed == MLXR_OK) fail_all(d, st, &own);
    pthread_mutex_unlock(&d->mutex);
    for (i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    free(h.buffer);
    if (d->failed != MLXR_OK) {
        if (err) *err = d->err;
        /* the threads end with the same word when they are stopped */
        return d->failed == MLXR_E_CANCELLED && cancelled(d)
                   ? mlxr_fail(err, MLXR_E_CANCELLED, "%s: cancelled", d->f->item)
                   : d->failed;
    }
    if (h.done != d->f->size) return mlxr_fail(err, MLXR_E_INTERNAL, "%s: a part is missing", d->f->item);
    memcpy(digest, "sha256:", sizeof "sha256:");
    mlxr_sha256_final(digest + 7, &h.sha);
    return MLXR_OK;
}

/* ---- sharing ---- */

/* How far the other process is, as far as it can be seen. */
static mlxr_status tell_waiting(download *d, mlxr_error *err)
{
    int fd = open(d->state_path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = fd >= 0 ? state_read(d, fd) : NULL;
    uint64_t done = bytes ? state_done(d, bytes) : d->told;

    free(bytes);
    if (fd >= 0) close(fd);
    return tell(d, done, err);
}

static mlxr_status lock_state(download *d, bool *waited, mlxr_error *err)
{
    mlxr_status st;

    *waited = false;
    while ((st = mlxr_io_lock(&d->state_fd, d->io, d->state_path, true, false, NULL, err)) == MLXR_E_BUSY) {
        if (!*waited)
            mlxr_log_at(&d->store->log, MLXR_LOG_INFO, "%s: another pull is fetching it; waiting for that",
                        d->f->item);
        *waited = true;
        if (cancelled(d)) return mlxr_fail(err, MLXR_E_CANCELLED, "%s: cancelled", d->f->item);
        if ((st = tell_waiting(d, err)) != MLXR_OK) return st;
        sleep_ns(LOCK_WAIT_NS);
    }
    return st;
}

/* ---- the whole ---- */

static mlxr_status download_open(download *d, mlxr_error *err)
{
    const mlxr_fetch *f = d->f;
    char *dir;
    mlxr_status st;

    if (!mlxr_digest_valid(f->digest))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is no digest", f->item, f->digest);
    if (f->size > (uint64_t)1 << 62)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: %llu bytes are too many", f->item,
                         (unsigned long long)f->size);
    d->part_bytes = f->size <= SMALL_FILE ? SMALL_PART : PART;
    while (f->size / d->part_bytes >= MAX_PARTS && d->part_bytes < (uint64_t)1 << 30) d->part_bytes *= 2;
    if (f->size / d->part_bytes >= MAX_PARTS)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: %llu bytes are too many", f->item,
                         (unsigned long long)f->size);
    d->n_parts = (size_t)((f->size + d->part_bytes - 1) / d->part_bytes);
    d->key = mlxr_hash_bytes(f->digest, strlen(f->digest), 1);
    d->parts = mlxr_calloc_array(d->n_parts, sizeof *d->parts);
    d->path = mlxr_store_path(d->store, "partial/%s", f->digest + 7);
    d->state_path = mlxr_store_path(d->store, "partial/%s.state", f->digest + 7);
    if (!d->parts || !d->path || !d->state_path || !set_text(&d->url, f->url) ||
        !set_text(&d->authorization, f->authorization) || pthread_mutex_init(&d->mutex, NULL) != 0)
        return mlxr_fail_nomem(err, f->item);
    if (pthread_cond_init(&d->changed, NULL) != 0) {
        pthread_mutex_destroy(&d->mutex);
        return mlxr_fail_nomem(err, f->item);
    }
    d->threaded = true;
    if (!(dir = mlxr_store_path(d->store, "partial"))) return mlxr_fail_nomem(err, f->item);
    st = mlxr_io_make_dirs(d->io, dir, err);
    free(dir);
    return st;
}

static void download_close(download *d)
{
    if (d->fd >= 0) close(d->fd);
    mlxr_io_unlock(d->state_fd);
    if (d->threaded) {
        pthread_cond_destroy(&d->changed);
        pthread_mutex_destroy(&d->mutex);
    }
    free(d->parts);
    free(d->path);
    free(d->state_path);
    free(d->etag);
    free(d->url);
    free(d->authorization);
    free(d->direct);
}

static void remove_partial(download *d)
{
    (void)mlxr_io_unlink(d->io, d->path, NULL);
    (void)mlxr_io_unlink(d->io, d->state_path, NULL);
}

/* The file as it has to be, in partial/. */
static mlxr_status get_right(download *d, mlxr_buf *sums, mlxr_error *err)
{
    bool changed_once = false, resumed;
    char digest[72];
    mlxr_status st;

    if ((st = start(d, err)) != MLXR_OK) return st;
    for (;;) {
        resumed = d->resumed;
        if ((st = check_room(d, err)) != MLXR_OK) return st;
        if ((st = tell(d, d->done, err)) != MLXR_OK) return st;
        st = fetch_all(d, digest, sums, err);
        if (st == MLXR_OK && strcmp(digest, d->f->digest) == 0) return MLXR_OK;
        if (st == MLXR_OK && !resumed) {
            return mlxr_fail(err, MLXR_E_CORRUPT, "%s: what came has the digest %s, wanted %s", d->f->item,
                             digest, d->f->digest);
        } else if (st == MLXR_OK) {
            mlxr_log_at(&d->store->log, MLXR_LOG_WARN, "%s: what was there of it was wrong: from the start",
                        d->f->item);
        } else if (d->other_file && !changed_once) {
            mlxr_log_at(&d->store->log, MLXR_LOG_WARN, "%s: from the start", err ? err->message : d->f->item);
            changed_once = true;
        } else {
            return st;
        }
        free(d->etag);
        free(d->direct);
        d->etag = d->direct = NULL;
        /* one that gave parts of two files, or now parts and now the whole, is asked for the whole */
        d->ranges = changed_once ? RANGES_NO : RANGES_UNKNOWN;
        d->other_file = false;
        if ((st = start_new(d, err)) != MLXR_OK) return st;
    }
}

mlxr_status mlxr_fetch_blob(mlxr_session *s, const mlxr_fetch *fetch, const mlxr_remote_options *options,
                            bool replace, mlxr_store_pace *pace, uint64_t *moved, mlxr_error *err)
{
    mlxr_error own;
    mlxr_store *store = mlxr_session_store(s);
    download d = {.session = s,
                  .store = store,
                  .io = &store->io,
                  .f = fetch,
                  .o = options,
                  .pace = pace,
                  .fd = -1,
                  .state_fd = -1};
    mlxr_buf sums = {0};
    bool present = false, waited;
    mlxr_status st;

    if (!err) err = &own;
    if ((st = download_open(&d, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_want(s, fetch->digest, fetch->size, &present, err)) != MLXR_OK) goto done;
    if (present && !replace) {
        st = tell(&d, fetch->size, err);
        goto done;
    }
    if ((st = lock_state(&d, &waited, err)) != MLXR_OK) goto done;
    /* Looked again with the lock: another call may have finished it between the two. */
    if ((st = mlxr_session_want(s, fetch->digest, fetch->size, &present, err)) != MLXR_OK) goto done;
    if (present && !replace) {
        remove_partial(&d);
        st = tell(&d, fetch->size, err);
        goto done;
    }
    if ((st = get_right(&d, &sums, err)) == MLXR_OK) {
        st = mlxr_session_commit(s, d.path, fetch->digest, fetch->size, replace, err);
        if (st == MLXR_OK && !sums.failed) mlxr_sums_write(store, fetch->digest, fetch->size, &sums);
        if (st == MLXR_OK) remove_partial(&d);
    } else if (st == MLXR_E_CORRUPT || d.done == 0) {
        remove_partial(&d);
    }
    if (st == MLXR_E_NO_SPACE && d.done > 0)
        mlxr_error_append(err, "; what came of %s is kept: pulling again goes on from there", fetch->item);
done:
    if (moved) *moved += d.moved;
    mlxr_buf_clear(&sums);
    download_close(&d);
    return st;
}
