/* sums: SHA-256 of files at the speed of the hash, and the states it passed through on the way. A state is all that is needed
 * to go on from where it was taken, so with one every 64 KiB any part of a file can be checked by itself: several threads on
 * one file, and every bad part by its place, where the digest alone only says that something is wrong somewhere. (64 KiB:
 * a part then seldom holds more than one matrix and its scales, and the states are 1/2048 of the file. Files of up to 16 MiB have
 * one every 4 KiB.)
 *
 *   <root>/sums/sha256/<hex>, numbers little-endian:
 *     0   8  "mlxrsums"
 *     8   4  version, 1
 *    12   4  bytes between two states: 4 KiB, 64 KiB, or 4 MiB
 *    16   8  size of the blob
 *    24  32  the blob's digest
 *    56  32  for each state: eight words as a digest has them, after 1, 2, ... whole chunks
 *     +  32  SHA-256 of all before it
 *
 * Sums are made by the hashing that gave the blob its digest. What is read back counts only when it is whole and of this blob, and
 * when parts seem bad the rest of the file is hashed to its digest before they are called so: wrong sums never make a
 * good blob a bad one. Nor a bad one good: all links of the chain, from SHA-256's own beginning to the digest, are computed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/sha256.h"
#include "store/bring.h"

enum {
    /* A few times the calls' cost and well inside the second-level cache, so that the hash reads what read() just
     * wrote from there: from 64 KiB to 1 MiB all the same within noise, at 0.88 of hashing memory; a mapping is at 0.77, and
     * a file cut short under one ends the process. */
    READ_BYTES = 256 << 10,
    TELL_BYTES = 1 << 20,
    AHEAD_BYTES = 8 << 20, /* asked of a disk while the hash works */
    STATE_BYTES = 32,
    HEAD_BYTES = 56,
    /* Between states of our own; others may bring some every MLXR_SUMS_CHUNK. */
    GRAIN_SMALL = 4 << 10,
    GRAIN_LARGE = 64 << 10,
    SMALL_BYTES = 16 << 20, /* most of a file with the smaller ones */
    SUMS_VERSION = 1
};
static const char magic[8] = {'m', 'l', 'x', 'r', 's', 'u', 'm', 's'};

/* One file that is read: by one thread each, but for n_done. */
typedef struct reading {
    const char *path, *what, *item;
    mlxr_store_pace *pace; /* or NULL */
    uint64_t size;
    uint64_t n_done; /* of this file; atomic */
    bool counts;     /* for the whole; a second pass does not */
    int fd;
    const char *to; /* where all that is read goes as well, or NULL */
    const mlxr_io *io;
    int to_fd;
} reading;

static void le_put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static void state_put(uint8_t out[STATE_BYTES], const mlxr_sha256 *s)
{
    for (unsigned i = 0; i < STATE_BYTES; i++) out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

/* The hash after n_bytes, which is a multiple of its blocks. */
static void state_get(mlxr_sha256 *s, const uint8_t in[STATE_BYTES], uint64_t n_bytes)
{
    mlxr_sha256_init(s);
    for (unsigned i = 0; i < 8; i++)
        s->h[i] = (uint32_t)in[4 * i] << 24 | (uint32_t)in[4 * i + 1] << 16 | (uint32_t)in[4 * i + 2] << 8 |
                  in[4 * i + 3];
    s->n_bytes = n_bytes;
}

static void digest_put(char digest[72], mlxr_sha256 *s)
{
    static const char kind[] = "sha256:";

    memcpy(digest, kind, sizeof kind);
    mlxr_sha256_final(digest + sizeof kind - 1, s);
}

/* ---- reading ---- */

/* Only of regular files: a pipe would keep us waiting for ever. */
static mlxr_status reading_open(reading *r, mlxr_error *err)
{
    struct stat sb;

    r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (r->fd < 0) return mlxr_io_fail(err, r->path, "open", errno);
    if (fstat(r->fd, &sb) != 0) return mlxr_io_fail(err, r->path, "stat", errno);
    if (!S_ISREG(sb.st_mode))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: is %s, not a regular file", r->path,
                         S_ISDIR(sb.st_mode) ? "a folder" : "a special file");
#ifdef POSIX_FADV_SEQUENTIAL
    (void)posix_fadvise(r->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
    return MLXR_OK;
}

static void reading_close(reading *r)
{
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
}

static mlxr_status tell(reading *r, size_t n, mlxr_error *err)
{
    uint64_t done = __atomic_add_fetch(&r->n_done, n, __ATOMIC_RELAXED);

    if (!r->pace) return MLXR_OK;
    return mlxr_store_pace_add(r->pace, r->what, r->item, r->counts ? n : 0, done, r->size, err);
}

/* Exactly n bytes at `begin`. MLXR_E_IO: they cannot be read, or the file ends before. */
static mlxr_status read_part(reading *r, uint8_t *buffer, size_t n, uint64_t begin, mlxr_error *err)
{
    size_t got = 0;

#ifdef POSIX_FADV_WILLNEED
    if (begin % AHEAD_BYTES == 0)
        (void)posix_fadvise(r->fd, (off_t)begin + AHEAD_BYTES, AHEAD_BYTES, POSIX_FADV_WILLNEED);
#endif
    while (got < n) {
        ssize_t k = pread(r->fd, buffer + got, n - got, (off_t)(begin + got));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return mlxr_fail(err, MLXR_E_IO, "%s: cannot read: %s", r->path, strerror(errno));
        if (k == 0)
            return mlxr_fail(err, MLXR_E_IO, "%s: ends after %llu bytes, %llu are wanted", r->path,
                             (unsigned long long)(begin + got), (unsigned long long)r->size);
        got += (size_t)k;
    }
    return MLXR_OK;
}

uint64_t mlxr_sums_grain(uint64_t size)
{
    return size <= SMALL_BYTES ? GRAIN_SMALL : GRAIN_LARGE;
}

/* Puts data, which begins at a multiple of the grain, into s; sums (may be NULL) gets the states on the way. */
static void update(mlxr_sha256 *s, mlxr_buf *sums, size_t grain, const uint8_t *data, size_t n)
{
    uint8_t state[STATE_BYTES];

    for (size_t at = 0; sums && n - at >= grain; at += grain) {
        mlxr_sha256_update(s, data + at, grain);
        state_put(state, s);
        mlxr_buf_append(sums, state, sizeof state);
    }
    if (sums)
        mlxr_sha256_update(s, data + (n - n % grain), n % grain);
    else
        mlxr_sha256_update(s, data, n);
}

/* s goes on from `begin`, a multiple of the grain, to the end of the file. */
static mlxr_status hash_rest(char digest[72], mlxr_buf *sums, mlxr_sha256 *s, reading *r, uint64_t begin,
                             mlxr_error *err)
{
    uint8_t *buffer = mlxr_aligned_alloc(READ_BYTES);
    mlxr_status st = MLXR_OK;

    if (!buffer) return mlxr_fail_nomem(err, r->path);
    while (begin < r->size && st == MLXR_OK) {
        size_t n = r->size - begin < READ_BYTES ? (size_t)(r->size - begin) : READ_BYTES;
        if ((st = read_part(r, buffer, n, begin, err)) != MLXR_OK) break;
        if (r->to) st = mlxr_io_write(r->io, r->to_fd, r->to, buffer, n, -1, err);
        if (st != MLXR_OK) break;
        update(s, sums, (size_t)mlxr_sums_grain(r->size), buffer, n);
        begin += n;
        st = tell(r, n, err);
    }
    if (st == MLXR_OK && r->size == 0) st = tell(r, 0, err);
    if (st == MLXR_OK) digest_put(digest, s);
    mlxr_aligned_free(buffer);
    return st;
}

static mlxr_status hash_all(char digest[72], mlxr_buf *sums, reading *r, mlxr_error *err)
{
    mlxr_sha256 s;
    mlxr_status st;

    mlxr_sha256_init(&s);
    if ((st = hash_rest(digest, sums, &s, r, 0, err)) != MLXR_OK) return st;
    return sums ? mlxr_buf_check(sums, r->path, err) : MLXR_OK;
}

mlxr_status mlxr_hash_file(char digest[72], mlxr_buf *sums, const char *path, uint64_t n,
                           mlxr_store_pace *pace, const char *what, const char *item, mlxr_error *err)
{
    reading r = {.path = path, .what = what, .item = item, .pace = pace, .size = n, .counts = true, .fd = -1};
    mlxr_status st;

    digest[0] = '\0';
    if ((st = reading_open(&r, err)) == MLXR_OK) st = hash_all(digest, sums, &r, err);
    reading_close(&r);
    return st;
}

mlxr_status mlxr_copy_hashed(char digest[72], mlxr_buf *sums, const mlxr_io *io, const char *from,
                             const char *to, uint64_t n, mlxr_store_pace *pace, const char *what,
                             const char *item, mlxr_error *err)
{
    reading r = {.path = from,
                 .to = to,
                 .io = io,
                 .what = what,
                 .item = item,
                 .pace = pace,
                 .size = n,
                 .counts = true,
                 .fd = -1,
                 .to_fd = -1};
    bool made = false;
    mlxr_status st;

    digest[0] = '\0';
    if ((st = reading_open(&r, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_create(&r.to_fd, io, to, true, err)) != MLXR_OK) goto done;
    made = true;
    if ((st = hash_all(digest, sums, &r, err)) != MLXR_OK) goto done;
    st = mlxr_io_sync(io, r.to_fd, to, err);
done:
    if (r.to_fd >= 0 && close(r.to_fd) != 0 && st == MLXR_OK) st = mlxr_io_fail(err, to, "write", errno);
    if (made && st != MLXR_OK) (void)mlxr_io_unlink(io, to, NULL);
    reading_close(&r);
    return st;
}

/* ---- the file of sums ---- */

static bool hex_get(uint8_t out[32], const char *hex)
{
    for (unsigned i = 0; i < 64; i++) {
        char c = hex[i];
        unsigned v = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                            : 16;
        if (v == 16) return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return true;
}

static bool append_hash(mlxr_buf *b)
{
    char hex[65];
    uint8_t sum[32];

    if (b->failed || mlxr_sha256_hex(hex, b->data, b->len, NULL) != MLXR_OK || !hex_get(sum, hex))
        return false;
    mlxr_buf_append(b, sum, sizeof sum);
    return !b->failed;
}

/* What comes before the states; false: the digest is none. */
static bool head_make(uint8_t head[HEAD_BYTES], const char *digest, uint64_t size, uint64_t grain)
{
    if (strlen(digest) != 71) return false;
    memcpy(head, magic, sizeof magic);
    le_put(head + 8, SUMS_VERSION, 4);
    le_put(head + 12, grain, 4);
    le_put(head + 16, size, 8);
    return hex_get(head + 24, digest + 7);
}

void mlxr_sums_write(mlxr_store *store, const char *digest, uint64_t size, const mlxr_buf *sums)
{
    uint64_t n = sums->len / STATE_BYTES,
             grain = n == size / mlxr_sums_grain(size) ? mlxr_sums_grain(size) : MLXR_SUMS_CHUNK;
    char *path = NULL, *dir = NULL;
    uint8_t head[HEAD_BYTES];
    mlxr_buf b = {0};

    if (n == 0 || sums->failed || sums->len % STATE_BYTES || n != size / grain) return;
    if (!head_make(head, digest, size, grain)) return;
    path = mlxr_store_path(store, "sums/sha256/%s", digest + 7);
    dir = mlxr_store_path(store, "sums/sha256");
    mlxr_buf_append(&b, head, sizeof head);
    mlxr_buf_append(&b, sums->data, sums->len);
    if (path && dir && append_hash(&b) && mlxr_io_make_dirs(&store->io, dir, NULL) == MLXR_OK)
        (void)mlxr_io_write_file(&store->io, path, b.data, b.len, NULL);
    mlxr_buf_clear(&b);
    free(path);
    free(dir);
}

/* The states of a blob and what lies between two; false: there are none that can be trusted. */
static bool sums_read(mlxr_buf *states, uint64_t *grain, const mlxr_store *store, const char *digest,
                      uint64_t size)
{
    const uint64_t grains[] = {mlxr_sums_grain(size), MLXR_SUMS_CHUNK};
    uint8_t sum[32];
    char hex[65], *path = NULL;
    mlxr_buf b = {0};
    bool good = false;

    if (size < grains[0] || size / grains[0] > SIZE_MAX / 64 || strlen(digest) != 71) return false;
    path = mlxr_store_path(store, "sums/sha256/%s", digest + 7);
    if (!path) return false;
    if (mlxr_file_read(&b, path, (size_t)(size / grains[0]) * STATE_BYTES + HEAD_BYTES + sizeof sum, NULL) !=
        MLXR_OK)
        goto done;
    for (size_t i = 0; i < MLXR_COUNT(grains) && !good; i++) {
        uint8_t head[HEAD_BYTES];
        good = size >= grains[i] &&
               b.len == (size_t)(size / grains[i]) * STATE_BYTES + HEAD_BYTES + sizeof sum &&
               head_make(head, digest, size, grains[i]) && memcmp(b.data, head, sizeof head) == 0;
        *grain = grains[i];
    }
    if (!good) goto done;
    good = mlxr_sha256_hex(hex, b.data, b.len - sizeof sum, NULL) == MLXR_OK && hex_get(sum, hex) &&
           memcmp(sum, b.data + b.len - sizeof sum, sizeof sum) == 0;
    if (!good) goto done;
    mlxr_buf_append(states, b.data + HEAD_BYTES, (size_t)(size / *grain) * STATE_BYTES);
    good = !states->failed;
done:
    mlxr_buf_clear(&b);
    free(path);
    return good;
}

/* ---- checking ---- */

typedef struct checking {
    reading *r;
    const char *digest;
    const uint8_t *states; /* [n_states] */
    uint64_t grain, n_states;
    uint8_t *is_bad;   /* [n_states + 1] */
    uint8_t **buffers; /* [n_threads] READ_BYTES each */
    int stopped;       /* atomic: some thread has failed */
    mlxr_status st;    /* of the one that set it */
    mlxr_error err;
} checking;

/* Whether part i does not lead from state i to state i + 1; the last one, which may be empty, to the digest. What cannot be
 * read is as bad as what is wrong. */
static bool part_is_bad(checking *c, uint8_t *buffer, uint64_t i)
{
    uint64_t at = i * c->grain, end = i < c->n_states ? at + c->grain : c->r->size;
    uint8_t state[STATE_BYTES];
    char digest[72];
    mlxr_sha256 s;

    if (i == 0)
        mlxr_sha256_init(&s);
    else
        state_get(&s, c->states + (i - 1) * STATE_BYTES, at);
    while (at < end) {
        size_t n = end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES;
        if (read_part(c->r, buffer, n, at, NULL) != MLXR_OK) return true;
        mlxr_sha256_update(&s, buffer, n);
        at += n;
    }
    if (i < c->n_states) {
        state_put(state, &s);
        return memcmp(state, c->states + i * STATE_BYTES, STATE_BYTES) != 0;
    }
    digest_put(digest, &s);
    return strcmp(digest, c->digest) != 0;
}

static void check_parts(void *arg, size_t begin, size_t end, size_t i_thread)
{
    checking *c = arg;

    while (begin < end) {
        size_t first = begin;
        uint64_t from, to;
        mlxr_error err;
        mlxr_status st;

        if (__atomic_load_n(&c->stopped, __ATOMIC_RELAXED)) return;
        do {
            c->is_bad[begin] = part_is_bad(c, c->buffers[i_thread], begin);
            begin++;
        } while (begin < end && (begin - first) * c->grain < TELL_BYTES);
        from = first * c->grain;
        to = begin <= c->n_states ? begin * c->grain : c->r->size;
        if ((st = tell(c->r, (size_t)(to - from), &err)) == MLXR_OK) continue;
        if (!__atomic_exchange_n(&c->stopped, 1, __ATOMIC_ACQ_REL)) {
            c->st = st;
            c->err = err;
        }
        return;
    }
}

/* Fills is_bad [n_states + 1]. */
static mlxr_status check_by_states(checking *c, size_t n_threads, mlxr_error *err)
{
    size_t n = (size_t)c->n_states + 1;
    mlxr_pool *pool = NULL;
    mlxr_status st = MLXR_OK;

    if (n_threads == 0) n_threads = 1;
    if (n_threads > n) n_threads = n;
    if (n_threads > MLXR_POOL_MAX_THREADS) n_threads = MLXR_POOL_MAX_THREADS;
    c->buffers = mlxr_calloc_array(n_threads, sizeof *c->buffers);
    if (!c->buffers) return mlxr_fail_nomem(err, c->r->path);
    for (size_t i = 0; i < n_threads; i++)
        if (!(c->buffers[i] = mlxr_aligned_alloc(READ_BYTES))) {
            st = mlxr_fail_nomem(err, c->r->path);
            goto done;
        }
    if (n_threads > 1 && (st = mlxr_pool_create(&pool, n_threads, err)) != MLXR_OK) goto done;
    if (pool)
        mlxr_pool_for(pool, n, (size_t)(MLXR_SUMS_CHUNK / c->grain), check_parts, c);
    else
        check_parts(c, 0, n, 0);
    if (c->st != MLXR_OK) {
        st = c->st;
        if (err) *err = c->err;
    }
done:
    mlxr_pool_free(pool);
    for (size_t i = 0; i < n_threads; i++) mlxr_aligned_free(c->buffers[i]);
    free(c->buffers);
    c->buffers = NULL;
    return st;
}

static void add_bad(mlxr_buf *bad, uint64_t begin, uint64_t end)
{
    mlxr_buf_append(bad, &begin, sizeof begin);
    mlxr_buf_append(bad, &end, sizeof end);
}

/* Whether the file has its digest after all, given that its first `begin` bytes lead to this state. */
static mlxr_status leads_to_digest(bool *does, checking *c, uint64_t i_first, mlxr_error *err)
{
    uint64_t begin = i_first * c->grain;
    char digest[72];
    mlxr_sha256 s;
    mlxr_status st;

    if (i_first == 0)
        mlxr_sha256_init(&s);
    else
        state_get(&s, c->states + (i_first - 1) * STATE_BYTES, begin);
    c->r->counts = false;
    st = hash_rest(digest, NULL, &s, c->r, begin, err);
    *does = st == MLXR_OK && strcmp(digest, c->digest) == 0;
    return st == MLXR_E_IO ? MLXR_OK : st;
}

mlxr_status mlxr_sums_check(mlxr_buf *bad, mlxr_store *store, const char *digest, uint64_t size,
                            const char *path, size_t n_threads, mlxr_store_pace *pace, const char *item,
                            mlxr_error *err)
{
    reading r = {.path = path,
                 .what = "verifying",
                 .item = item,
                 .pace = pace,
                 .size = size,
                 .counts = true,
                 .fd = -1};
    checking c = {.r = &r, .digest = digest};
    mlxr_buf states = {0}, fresh = {0};
    uint64_t i_first = 0;
    char found[72];
    bool is_good = false;
    mlxr_status st;

    if ((st = reading_open(&r, err)) != MLXR_OK) goto done;
    if (!sums_read(&states, &c.grain, store, digest, size)) {
        st = hash_all(found, &fresh, &r, err);
        if (st == MLXR_OK && strcmp(found, digest) == 0)
            mlxr_sums_write(store, digest, size, &fresh);
        else if (st == MLXR_OK || st == MLXR_E_IO)
            st = (add_bad(bad, 0, size), MLXR_OK);
        goto done;
    }
    c.states = (const uint8_t *)states.data;
    c.n_states = size / c.grain;
    c.is_bad = mlxr_calloc_array((size_t)c.n_states + 1, 1);
    if (!c.is_bad) {
        st = mlxr_fail_nomem(err, path);
        goto done;
    }
    if ((st = check_by_states(&c, n_threads, err)) != MLXR_OK) goto done;
    while (i_first <= c.n_states && !c.is_bad[i_first]) i_first++;
    if (i_first > c.n_states) goto done;
    r.n_done = i_first * c.grain;
    if ((st = leads_to_digest(&is_good, &c, i_first, err)) != MLXR_OK || is_good) goto done;
    if (c.is_bad[c.n_states] &&
        size % c.grain == 0) { /* no bytes lie between the last state and the digest */
        add_bad(bad, 0, size);
        goto done;
    }
    for (uint64_t i = i_first; i <= c.n_states; i++) {
        uint64_t begin = i * c.grain;
        if (!c.is_bad[i]) continue;
        while (i < c.n_states && c.is_bad[i + 1]) i++;
        add_bad(bad, begin, i < c.n_states ? (i + 1) * c.grain : size);
    }
done:
    if (st == MLXR_OK) st = mlxr_buf_check(bad, path, err);
    if (st == MLXR_OK && is_good) { /* the sums are what is wrong */
        char *sums_path = mlxr_store_path(store, "sums/sha256/%s", digest + 7);
        if (sums_path) (void)mlxr_io_unlink(&store->io, sums_path, NULL);
        free(sums_path);
    }
    reading_close(&r);
    free(c.is_bad);
    mlxr_buf_clear(&states);
    mlxr_buf_clear(&fresh);
    return st;
}
