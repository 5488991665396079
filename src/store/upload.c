/* upload: pushing a model to an OCI registry: the files that it has not got, several at a time, then the manifest, which makes the model
 * exist there. Follows the distribution specification 1.1, "Push".
 *
 * A file goes whole (POST, PUT) when it is small, else in chunks (POST, PATCH ..., PUT). How far a session is, the registry knows; where it
 * is, lies in <root>/uploads/<sha256 of host/repository@digest>.json with a lock beside it, so that a later call asks
 * and goes on after a kill too. What is sent is hashed on its way: a file that is damaged here is never finished there.
 *
 * Registries differ in what they keep of a chunk that broke off. The specification wants Range to tell; one that loses the session
 * instead (distribution 2.8 does) gets the file anew. Between two chunks both go on. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/sha256.h"
#include "store/registry.h"

enum { CHUNK = 16 << 20, CHUNK_LEAST = 1 << 20, PIECE = 256 << 10, MAX_THREADS = 8, MAX_RETRY_SECONDS = 60 };
/* A registry that wants chunks above this would have whole files held in no way we know. */
static const uint64_t chunk_most = 1ull << 30;

static const char octets[] = "Content-Type: application/octet-stream";

struct push {
    mlxr_registry *r;
    mlxr_store *store;
    const mlxr_layer **blobs; /* largest first, each digest once */
    char **mount_from;        /* of each, a repository that should have it, or NULL */
    size_t n_blobs;
    mlxr_store_pace pace;
    int stop;                /* atomic: a thread failed */
    uint64_t moved, present; /* atomic */
    pthread_mutex_t mutex;
    /* guarded by mutex */
    size_t next;
    mlxr_status status; /* of the first that failed */
    mlxr_error error;
};

/* One file on its way; of one thread. */
struct upload {
    struct push *p;
    mlxr_http *http;
    const mlxr_layer *layer;
    const char *item, *mount_from;
    char *path;
    int fd;
    /* the session */
    char *location;            /* NULL: there is none */
    uint64_t offset, furthest; /* what the registry has; the most that it ever had */
    uint64_t chunk;
    bool whole;            /* in one piece */
    uint32_t n_failures;   /* since it came further than ever */
    uint64_t wait_seconds; /* what the registry asked for */
    /* where that is written down; lock_fd -1: nowhere */
    char *state_path, *lock_path;
    int lock_fd;
    bool looked; /* at what an earlier call left */
    /* what is read */
    mlxr_sha256 sha; /* of bytes [0, hashed) */
    uint64_t hashed;
    uint64_t body_begin;
    uint64_t told; /* to pace */
};

/* ---- reading ---- */

static mlxr_status damaged(struct upload *u, const char *found, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_CORRUPT,
                     "push: %s: the file here is damaged: %s, %s wanted; verify --repair mends it", u->item,
                     found, u->layer->digest);
}

static mlxr_status check_digest(struct upload *u, mlxr_error *err)
{
    mlxr_sha256 sha = u->sha;
    char digest[72] = "sha256:";
    mlxr_sha256_final(digest + 7, &sha);
    return strcmp(digest, u->layer->digest) == 0 ? MLXR_OK : damaged(u, digest, err);
}

static mlxr_status read_at(struct upload *u, void *buffer, size_t n, uint64_t at, size_t *n_read,
                           mlxr_error *err)
{
    ssize_t got;
    if (n > u->layer->size - at) n = (size_t)(u->layer->size - at);
    do got = pread(u->fd, buffer, n, (off_t)at);
    while (got < 0 && errno == EINTR);
    if (got < 0) return mlxr_io_fail(err, u->path, "read", errno);
    if (got == 0 && n > 0) return damaged(u, "it ends early", err);
    *n_read = (size_t)got;
    /* Each byte goes into the hash when it is read for the first time. */
    if (at <= u->hashed && at + (uint64_t)got > u->hashed) {
        size_t known = (size_t)(u->hashed - at);
        mlxr_sha256_update(&u->sha, (const char *)buffer + known, (size_t)got - known);
        u->hashed = at + (uint64_t)got;
    }
    return MLXR_OK;
}

static mlxr_status stopped(struct push *p, mlxr_error *err)
{
    if (__atomic_load_n(&p->stop, __ATOMIC_RELAXED) || mlxr_store_pace_cancelled(&p->pace))
        return mlxr_fail(err, MLXR_E_CANCELLED, "push: stopped");
    return MLXR_OK;
}

static mlxr_status tell(struct upload *u, uint64_t done, mlxr_error *err)
{
    uint64_t n = done > u->told ? done - u->told : 0;
    if (n == 0) return MLXR_OK;
    u->told = done;
    return mlxr_store_pace_add(&u->p->pace, "pushing", u->item, n, done, u->layer->size, err);
}

/* For mlxr_http_request.read. */
static mlxr_status body_read(void *ud, void *buffer, size_t n, uint64_t offset, size_t *n_read,
                             mlxr_error *err)
{
    mlxr_status st;
    struct upload *u = ud;
    uint64_t at = u->body_begin + offset;

    if ((st = stopped(u->p, err)) != MLXR_OK) return st;
    if ((st = read_at(u, buffer, n, at, n_read, err)) != MLXR_OK) return st;
    /* The last bytes stay here when they do not make what was promised. */
    if (at + *n_read == u->layer->size && u->hashed == u->layer->size &&
        (st = check_digest(u, err)) != MLXR_OK)
        return st;
    __atomic_fetch_add(&u->p->moved, *n_read, __ATOMIC_RELAXED);
    return tell(u, at + *n_read, err);
}

/* What the registry has already is read for its hash alone. */
static mlxr_status hash_to(struct upload *u, uint64_t end, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    char *buffer;
    size_t n;

    if (u->hashed >= end) return MLXR_OK;
    if (!(buffer = malloc(PIECE))) return mlxr_fail_nomem(err, "push: hash");
    while (u->hashed < end) {
        uint64_t left = end - u->hashed;
        if ((st = stopped(u->p, err)) != MLXR_OK) break;
        if ((st = read_at(u, buffer, left < PIECE ? (size_t)left : PIECE, u->hashed, &n, err)) != MLXR_OK)
            break;
    }
    free(buffer);
    return st;
}

/* ---- what is written down of a session ---- */

static void state_open(struct upload *u)
{
    struct push *p = u->p;
    mlxr_buf key = {0};
    char hex[65], *dir = mlxr_store_path(p->store, "uploads");
    mlxr_error why = {0};

    mlxr_buf_printf(&key, "%s/%s@%s", p->r->host, p->r->repository, u->layer->digest);
    if (!dir || key.failed || mlxr_sha256_hex(hex, key.data, key.len, &why) != MLXR_OK) goto done;
    u->state_path = mlxr_store_path(p->store, "uploads/%s.json", hex);
    u->lock_path = mlxr_store_path(p->store, "uploads/%s.lock", hex);
    if (!u->state_path || !u->lock_path) goto done;
    /* A store that cannot be written to can be pushed from, and so can a file that another process is pushing to the same place. */
    if (mlxr_io_make_dirs(&p->store->io, dir, &why) != MLXR_OK ||
        mlxr_io_lock(&u->lock_fd, &p->store->io, u->lock_path, true, false, NULL, &why) != MLXR_OK) {
        u->lock_fd = -1;
        mlxr_log_at(&p->store->log, MLXR_LOG_DEBUG, "push: %s: where it is is not written down: %s", u->item,
                    why.message);
    }
done:
    mlxr_buf_clear(&key);
    free(dir);
}

static void state_save(struct upload *u)
{
    mlxr_buf text = {0};
    mlxr_error why = {0};
    mlxr_status st;

    if (u->lock_fd < 0 || u->whole) return;
    mlxr_buf_str(&text, "{\"item\": ");
    mlxr_json_escape(&text, u->item, strlen(u->item));
    mlxr_buf_str(&text, ", \"location\": ");
    mlxr_json_escape(&text, u->location, strlen(u->location));
    mlxr_buf_str(&text, "}\n");
    st = mlxr_buf_check(&text, "push: state", &why);
    if (st == MLXR_OK) st = mlxr_io_write_file(&u->p->store->io, u->state_path, text.data, text.len, &why);
    if (st != MLXR_OK)
        mlxr_log_at(&u->p->store->log, MLXR_LOG_WARN, "push: %s: a later call could not go on from here: %s",
                    u->item, why.message);
    mlxr_buf_clear(&text);
}

static void state_load(struct upload *u)
{
    json_t *root = NULL;
    const char *location = NULL;
    mlxr_error why = {0};

    if (u->lock_fd < 0 || mlxr_json_read(&root, u->state_path, 1 << 20, &why) != MLXR_OK) return;
    if (mlxr_json_get_str(&location, root, "location", u->state_path, &why) == MLXR_OK && location &&
        mlxr_utf8_valid(location, strlen(location)) == strlen(location))
        u->location = mlxr_strdup(location);
    json_decref(root);
}

static void state_forget(struct upload *u)
{
    if (u->lock_fd >= 0) (void)mlxr_io_unlink(&u->p->store->io, u->state_path, NULL);
}

static void state_close(struct upload *u, bool finished)
{
    if (u->lock_fd >= 0 && finished) {
        state_forget(u);
        (void)mlxr_io_unlink(&u->p->store->io, u->lock_path, NULL);
    }
    mlxr_io_unlock(u->lock_fd);
    u->lock_fd = -1;
    free(u->state_path);
    free(u->lock_path);
}

/* ---- one session ---- */

static void session_drop(struct upload *u)
{
    free(u->location);
    u->location = NULL;
    u->offset = 0;
    state_forget(u);
}

static mlxr_status nomem_url(mlxr_error *err)
{
    return mlxr_fail_nomem(err, "push: url");
}

/* Where the session is from now on, which changes with every answer. */
static mlxr_status take_location(struct upload *u, const mlxr_http_answer *answer, const char *url,
                                 mlxr_error *err)
{
    mlxr_status st;
    const char *told = mlxr_http_header(&answer->headers, "Location");
    char *location;

    if (!told) {
        if (u->location) return MLXR_OK;
        return mlxr_fail(err, MLXR_E_NETWORK, "registry %s/%s: an upload without a Location", u->p->r->host,
                         u->p->r->repository);
    }
    if ((st = mlxr_registry_location(&location, u->p->r, url, told, err)) != MLXR_OK) return st;
    free(u->location);
    u->location = location;
    return MLXR_OK;
}

static void take_min_chunk(struct upload *u, const mlxr_http_answer *answer)
{
    const char *text = mlxr_http_header(&answer->headers, "OCI-Chunk-Min-Length");
    uint64_t n = text ? strtoull(text, NULL, 10) : 0;
    if (n > u->chunk) u->chunk = n < chunk_most ? n : chunk_most;
}

/* "0-99" is 100 bytes; "0-0", with which registries begin, is none. false: it is no such range of this file. */
static bool range_end(uint64_t *out, const mlxr_http_answer *answer, uint64_t size)
{
    const char *text = mlxr_http_header(&answer->headers, "Range");
    char *end;
    uint64_t last;

    *out = 0;
    if (!text) return true;
    if (strncmp(text, "bytes=", 6) == 0) text += 6;
    if (text[0] != '0' || text[1] != '-' || text[2] < '0' || text[2] > '9') return false;
    errno = 0;
    last = strtoull(text + 2, &end, 10);
    if (errno != 0 || *end || last >= size) return false;
    *out = last == 0 ? 0 : last + 1;
    return true;
}

static void take_wait(struct upload *u, const mlxr_http_answer *answer)
{
    const char *text = mlxr_http_header(&answer->headers, "Retry-After");
    uint64_t n = text ? strtoull(text, NULL, 10) : 0;
    u->wait_seconds = n < MAX_RETRY_SECONDS ? n : MAX_RETRY_SECONDS;
}

/* Each time that it is further than ever, it may fail again as often as at first. */
static void further(struct upload *u)
{
    if (u->offset <= u->furthest) return;
    u->furthest = u->offset;
    u->n_failures = 0;
}

/* Asks the registry how far the session is; one that it knows no more is dropped. */
static mlxr_status session_ask(struct upload *u, mlxr_error *err)
{
    mlxr_status st;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.url = u->location};
    char *url = mlxr_strdup(u->location);
    uint64_t end;

    if (!url) return nomem_url(err);
    rq.url = url;
    if ((st = mlxr_registry_do(&answer, u->p->r, u->http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status / 100 == 2 && range_end(&end, &answer, u->layer->size)) {
        if ((st = take_location(u, &answer, url, err)) != MLXR_OK) goto done;
        take_min_chunk(u, &answer);
        u->offset = end;
        further(u);
    } else if (answer.status == 401 || answer.status == 403) {
        st = mlxr_registry_fail(u->p->r, &answer, u->item, err);
    } else {
        session_drop(u);
    }
done:
    mlxr_http_answer_clear(&answer);
    free(url);
    return st;
}

/* *mounted: the registry had the file in another repository, and now has it here too. */
static mlxr_status session_begin(struct upload *u, bool *mounted, mlxr_error *err)
{
    mlxr_status st;
    mlxr_registry *r = u->p->r;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "POST"};
    char *url = NULL, *scope = NULL;
    mlxr_buf query = {0};

    *mounted = false;
    u->offset = 0;
    if (u->mount_from) {
        mlxr_error why = {0};
        mlxr_buf_str(&query, "blobs/uploads/?mount=");
        mlxr_url_encode(&query, u->layer->digest, false);
        mlxr_buf_str(&query, "&from=");
        mlxr_url_encode(&query, u->mount_from, false);
        scope = mlxr_asprintf("%s repository:%s:pull", r->scope, u->mount_from);
        url = query.failed ? NULL : mlxr_registry_url(r, "%s", query.data);
        if (!url || !scope) {
            st = nomem_url(err);
            goto done;
        }
        u->mount_from = NULL; /* once */
        rq.url = url;
        st = mlxr_registry_do(&answer, r, u->http, &rq, scope, &why);
        if (st == MLXR_OK && answer.status == 201) {
            *mounted = true;
            goto done;
        }
        if (st == MLXR_OK && answer.status == 202) goto begun;
        if (st == MLXR_E_NOMEM || st == MLXR_E_CANCELLED) {
            if (err) *err = why;
            goto done;
        }
        /* May not, knows not, is not there: it is sent. */
        mlxr_http_answer_clear(&answer);
        free(url);
    }
    if (!(url = mlxr_registry_url(r, "blobs/uploads/"))) {
        st = nomem_url(err);
        goto done;
    }
    rq.url = url;
    if ((st = mlxr_registry_do(&answer, r, u->http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status != 202) {
        st = mlxr_registry_fail(r, &answer, "a new upload", err);
        goto done;
    }
begun:
    if ((st = take_location(u, &answer, url, err)) != MLXR_OK) goto done;
    take_min_chunk(u, &answer);
    state_save(u);
done:
    mlxr_http_answer_clear(&answer);
    mlxr_buf_clear(&query);
    free(url);
    free(scope);
    return st;
}

static mlxr_status blob_is_there(bool *there, struct upload *u, mlxr_error *err)
{
    mlxr_status st;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "HEAD"};
    char *url = mlxr_registry_url(u->p->r, "blobs/%s", u->layer->digest);

    *there = false;
    if (!url) return nomem_url(err);
    rq.url = url;
    if ((st = mlxr_registry_do(&answer, u->p->r, u->http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status / 100 == 2)
        *there = true;
    else if (answer.status != 404)
        st = mlxr_registry_fail(u->p->r, &answer, u->item, err);
done:
    mlxr_http_answer_clear(&answer);
    free(url);
    return st;
}

/* ---- sending ---- */

/* What became of a request that sent something. */
enum outcome {
    WENT_ON, /* look at offset */
    FINISHED,
    ASTRAY, /* the registry has another offset; also when a connection broke and libcurl began anew: ask, go on */
    UNSURE, /* broke off, or the registry is busy: wait, ask, go on */
    LOST,   /* the session is no more */
    NO_CHUNKS,
    TOO_LARGE,
    FAILED
};

static enum outcome outcome_of(const struct upload *u, int status)
{
    if (status / 100 == 2) return WENT_ON;
    if (status == 416) return ASTRAY;
    if (status == 408 || status == 425 || status == 429 || status >= 500)
        return status == 501 ? NO_CHUNKS : UNSURE;
    if (status == 405 || status == 411 || status == 415 || (status == 400 && u->offset == 0))
        return NO_CHUNKS;
    if (status == 400 || status == 404 || status == 410) return LOST;
    return status == 413 ? TOO_LARGE : FAILED;
}

static mlxr_status send_chunk(enum outcome *outcome, struct upload *u, mlxr_error *err)
{
    mlxr_status st;
    uint64_t left = u->layer->size - u->offset, n = left < u->chunk ? left : u->chunk, end;
    char range[64], *url = mlxr_strdup(u->location);
    const char *headers[] = {octets, range};
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "PATCH",
                            .url = url,
                            .headers = headers,
                            .n_headers = MLXR_COUNT(headers),
                            .n_body = n,
                            .read = body_read,
                            .read_ud = u,
                            .no_retries = true};

    *outcome = FAILED;
    if (!url) return nomem_url(err);
    snprintf(range, sizeof range, "Content-Range: %llu-%llu", (unsigned long long)u->offset,
             (unsigned long long)(u->offset + n - 1));
    u->body_begin = u->offset;
    st = mlxr_registry_do(&answer, u->p->r, u->http, &rq, NULL, err);
    if (st == MLXR_E_NETWORK) {
        *outcome = UNSURE;
        goto done;
    }
    if (st != MLXR_OK) goto done;
    *outcome = outcome_of(u, answer.status);
    take_wait(u, &answer);
    if (*outcome == WENT_ON) {
        if ((st = take_location(u, &answer, url, err)) != MLXR_OK) goto done;
        take_min_chunk(u, &answer);
        /* It has what it says; one that does not say has taken all. */
        if (!mlxr_http_header(&answer.headers, "Range")) {
            u->offset += n;
        } else if (range_end(&end, &answer, u->layer->size) && end > u->offset) {
            u->offset = end;
        } else {
            *outcome = LOST;
            st = mlxr_fail(err, MLXR_E_NETWORK, "registry %s/%s: %s: took a chunk, but is no further",
                           u->p->r->host, u->p->r->repository, u->item);
            goto done;
        }
        state_save(u);
    } else {
        st = mlxr_registry_fail(u->p->r, &answer, u->item, err);
    }
done:
    mlxr_http_answer_clear(&answer);
    free(url);
    return st;
}

static mlxr_status send_last(enum outcome *outcome, struct upload *u, mlxr_error *err)
{
    mlxr_status st;
    const char *headers[] = {octets};
    mlxr_http_answer answer = {0};
    mlxr_buf url = {0};
    mlxr_http_request rq = {.method = "PUT", .headers = headers, .n_headers = 1, .no_retries = true};

    *outcome = FAILED;
    mlxr_buf_printf(&url, "%s%cdigest=", u->location, strchr(u->location, '?') ? '&' : '?');
    mlxr_url_encode(&url, u->layer->digest, false);
    if ((st = mlxr_buf_check(&url, "push: url", err)) != MLXR_OK) goto done;
    rq.url = url.data;
    u->body_begin = u->offset;
    if (u->whole && u->layer->size > 0) {
        rq.n_body = u->layer->size;
        rq.read = body_read;
        rq.read_ud = u;
    } else {
        if ((st = hash_to(u, u->layer->size, err)) != MLXR_OK) goto done;
        if ((st = check_digest(u, err)) != MLXR_OK) goto done;
    }
    st = mlxr_registry_do(&answer, u->p->r, u->http, &rq, NULL, err);
    if (st == MLXR_E_NETWORK) *outcome = UNSURE;
    if (st != MLXR_OK) goto done;
    take_wait(u, &answer);
    *outcome = answer.status / 100 == 2 ? FINISHED : outcome_of(u, answer.status);
    if (*outcome == FINISHED) goto done;
    st = mlxr_registry_fail(u->p->r, &answer, u->item, err);
    /* Ours is right, so what arrived is not: it is sent anew, as what a broken session left is. */
    if (*outcome == NO_CHUNKS || *outcome == TOO_LARGE) *outcome = answer.status == 400 ? LOST : FAILED;
done:
    mlxr_http_answer_clear(&answer);
    mlxr_buf_clear(&url);
    return st;
}

/* Waits before another try, longer each time; the error of the last one stays when there were enough. */
static mlxr_status wait_again(struct upload *u, mlxr_status st, mlxr_error *err)
{
    const mlxr_http_options *o = &u->p->r->http_options;
    uint64_t ms = o->first_pause_ms, until;
    mlxr_error why = {0};

    if (++u->n_failures >= (o->n_tries > 0 ? o->n_tries : 1)) {
        mlxr_error_append(err, " (%u tries)", (unsigned)u->n_failures);
        return st == MLXR_OK ? MLXR_E_NETWORK : st;
    }
    for (uint32_t i = 1; i < u->n_failures && ms < 30000; i++) ms *= 2;
    if (ms > 30000) ms = 30000;
    if (u->wait_seconds * 1000 > ms) ms = u->wait_seconds * 1000;
    u->wait_seconds = 0;
    mlxr_log_at(&u->p->store->log, MLXR_LOG_INFO, "push: %s: again in %llu ms: %s", u->item,
                (unsigned long long)ms, err ? err->message : "");
    until = mlxr_now_ns() + ms * 1000000;
    while (mlxr_now_ns() < until) {
        struct timespec nap = {.tv_nsec = 20000000};
        if ((st = stopped(u->p, &why)) != MLXR_OK) {
            if (err) *err = why;
            return st;
        }
        nanosleep(&nap, NULL);
    }
    return MLXR_OK;
}

/* One request, and what follows from its answer. */
static mlxr_status session_step(struct upload *u, bool *finished, mlxr_error *err)
{
    mlxr_status st;
    enum outcome outcome;
    bool last = u->whole || u->offset == u->layer->size, there;
    mlxr_error local = {0};

    if (!err) err = &local;
    if ((st = hash_to(u, u->offset, err)) != MLXR_OK) return st;
    st = last ? send_last(&outcome, u, err) : send_chunk(&outcome, u, err);
    if (st == MLXR_E_CANCELLED || st == MLXR_E_NOMEM) return st;
    switch (outcome) {
    case FINISHED: *finished = true; return MLXR_OK;
    case WENT_ON: further(u); return tell(u, u->offset, err);
    case NO_CHUNKS:
        if (u->whole) return st;
        u->whole = true;
        session_drop(u);
        return MLXR_OK;
    case TOO_LARGE:
        if (u->chunk / 2 < CHUNK_LEAST) return st;
        u->chunk /= 2;
        return session_ask(u, err);
    case LOST:
        if ((st = wait_again(u, st, err)) != MLXR_OK) return st;
        session_drop(u);
        return MLXR_OK;
    case ASTRAY:
        if (u->n_failures == 0 && !u->whole) {
            u->n_failures++;
            return session_ask(u, err);
        }
        /* fall through */
    case UNSURE:
        if ((st = wait_again(u, st, err)) != MLXR_OK) return st;
        /* The last answer may have been lost on its way. */
        if (last) {
            if ((st = blob_is_there(&there, u, err)) != MLXR_OK) return st;
            *finished = there;
            if (there) return MLXR_OK;
        }
        if (u->whole)
            session_drop(u);
        else
            st = session_ask(u, err);
        return st;
    case FAILED: break;
    }
    return st != MLXR_OK ? st : mlxr_fail(err, MLXR_E_INTERNAL, "push: %s: no outcome", u->item);
}

/* What was sent of a damaged file is no use to anybody; that it stays is no harm either. */
static void session_cancel(struct upload *u)
{
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {.method = "DELETE", .url = u->location, .no_retries = true};

    if (!u->location) return;
    (void)mlxr_registry_do(&answer, u->p->r, u->http, &rq, NULL, NULL);
    mlxr_http_answer_clear(&answer);
    session_drop(u);
}

static mlxr_status blob_send(struct upload *u, mlxr_error *err)
{
    mlxr_status st;
    bool there = false, finished = false;
    uint64_t resumed = 0;

    for (;;) {
        if ((st = stopped(u->p, err)) != MLXR_OK) goto done;
        if (!u->location) {
            if ((st = blob_is_there(&there, u, err)) != MLXR_OK) goto done;
            if (there) break;
            if (!u->looked && !u->whole) {
                state_open(u);
                state_load(u);
            }
            if (u->location && (st = session_ask(u, err)) != MLXR_OK) goto done;
            if (!u->looked) resumed = u->location ? u->offset : 0;
            u->looked = true;
            if (!u->location && (st = session_begin(u, &there, err)) != MLXR_OK) goto done;
            if (there) break;
        }
        if ((st = session_step(u, &finished, err)) != MLXR_OK) goto done;
        if (finished) break;
    }
    __atomic_fetch_add(&u->p->present, there ? u->layer->size : resumed, __ATOMIC_RELAXED);
    st = tell(u, u->layer->size, err);
done:
    if (st == MLXR_E_CORRUPT) session_cancel(u);
    state_close(u, st == MLXR_OK);
    return st;
}

static mlxr_status blob_push(struct push *p, mlxr_http *http, size_t i, mlxr_error *err)
{
    mlxr_status st;
    const mlxr_layer *layer = p->blobs[i];
    struct stat sb;
    struct upload u = {.p = p,
                       .http = http,
                       .layer = layer,
                       .item = layer->path ? layer->path : "config",
                       .mount_from = p->mount_from[i],
                       .fd = -1,
                       .lock_fd = -1,
                       .chunk = CHUNK,
                       .whole = layer->size <= CHUNK};

    mlxr_sha256_init(&u.sha);
    if (!(u.path = mlxr_store_blob_path(p->store, layer->digest))) return mlxr_fail_nomem(err, "push: path");
    u.fd = open(u.path, O_RDONLY | O_CLOEXEC);
    if (u.fd < 0 || fstat(u.fd, &sb) != 0) {
        st = mlxr_io_fail(err, u.path, "read", errno);
        mlxr_error_prefix(err, "push: %s: ", u.item);
        goto done;
    }
    if ((uint64_t)sb.st_size != layer->size) {
        char found[64];
        snprintf(found, sizeof found, "%llu bytes instead of %llu", (unsigned long long)sb.st_size,
                 (unsigned long long)layer->size);
        st = damaged(&u, found, err);
        goto done;
    }
    st = blob_send(&u, err);
done:
    if (u.fd >= 0) close(u.fd);
    free(u.location);
    free(u.path);
    return st;
}

/* ---- all files ---- */

static void *push_worker(void *ud)
{
    struct push *p = ud;
    mlxr_error err = {0};
    mlxr_http *http = NULL;
    mlxr_status st = mlxr_http_create(&http, &p->r->http_options, &err);

    while (st == MLXR_OK && !__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
        size_t i;
        pthread_mutex_lock(&p->mutex);
        i = p->next < p->n_blobs ? p->next++ : SIZE_MAX;
        pthread_mutex_unlock(&p->mutex);
        if (i == SIZE_MAX) break;
        st = blob_push(p, http, i, &err);
    }
    if (st != MLXR_OK) {
        pthread_mutex_lock(&p->mutex);
        if (p->status == MLXR_OK) {
            p->status = st;
            p->error = err;
        }
        __atomic_store_n(&p->stop, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&p->mutex);
    }
    mlxr_http_free(http);
    return NULL;
}

static mlxr_status blobs_push(struct push *p, mlxr_error *err)
{
    pthread_t threads[MAX_THREADS];
    size_t n = p->r->options->n_parallel, n_started = 0;
    sigset_t all, old;

    if (n > p->n_blobs) n = p->n_blobs;
    if (n > MAX_THREADS) n = MAX_THREADS;
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (size_t i = 1; i < n; i++) {
        if (pthread_create(&threads[n_started], NULL, push_worker, p) != 0) break;
        n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    push_worker(p);
    for (size_t i = 0; i < n_started; i++) pthread_join(threads[i], NULL);
    if (p->status != MLXR_OK && err) *err = p->error;
    return p->status;
}

static int larger_first(const void *a, const void *b)
{
    const mlxr_layer *x = *(const mlxr_layer *const *)a, *y = *(const mlxr_layer *const *)b;
    return x->size != y->size ? (x->size < y->size) - (x->size > y->size) : strcmp(x->digest, y->digest);
}

static mlxr_status blobs_list(struct push *p, const mlxr_manifest *m, mlxr_error *err)
{
    size_t n = 0;

    p->blobs = mlxr_malloc_array(m->n_layers + 1, sizeof *p->blobs);
    p->mount_from = mlxr_calloc_array(m->n_layers + 1, sizeof *p->mount_from);
    if (!p->blobs || !p->mount_from) return mlxr_fail_nomem(err, "push: files");
    p->blobs[n++] = &m->config;
    for (size_t i = 0; i < m->n_layers; i++) p->blobs[n++] = &m->layers[i];
    qsort(p->blobs, n, sizeof *p->blobs, larger_first);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(p->blobs[i]->digest, p->blobs[i - 1]->digest) != 0)
            p->blobs[p->n_blobs++] = p->blobs[i];
    return MLXR_OK;
}

/* ---- mounts ---- */

static bool manifest_has(const mlxr_manifest *m, const char *digest)
{
    if (strcmp(m->config.digest, digest) == 0) return true;
    for (size_t i = 0; i < m->n_layers; i++)
        if (strcmp(m->layers[i].digest, digest) == 0) return true;
    return false;
}

/* Files of a model that came from, or went to, another repository of this registry can be mounted from there. */
static mlxr_status mounts_of(struct push *p, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    char *origin = m->n_text > 0 ? mlxr_origin_read(p->store, m->digest) : NULL, *host = NULL,
         *repository = NULL;

    if (!origin) return MLXR_OK;
    /* Origins of hubs and what somebody wrote there are none of ours. */
    if (mlxr_registry_reference_split(&host, &repository, origin, NULL) != MLXR_OK) goto done;
    if (strcmp(host, p->r->host) != 0 || strcmp(repository, p->r->repository) == 0) goto done;
    if (mlxr_registry_repository_check(repository, NULL) != MLXR_OK) goto done;
    for (size_t i = 0; i < p->n_blobs; i++) {
        if (p->mount_from[i] || !manifest_has(m, p->blobs[i]->digest)) continue;
        if (!(p->mount_from[i] = mlxr_strdup(repository))) {
            st = mlxr_fail_nomem(err, "push: mounts");
            goto done;
        }
    }
done:
    free(origin);
    free(host);
    free(repository);
    return st;
}

/* The model's own origin first, then those of others that share files with it. */
static mlxr_status mounts_find(struct push *p, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_status st;
    mlxr_catalog catalog = {0};

    if ((st = mounts_of(p, m, err)) != MLXR_OK) return st;
    if (mlxr_catalog_read(&catalog, p->store, NULL) == MLXR_OK)
        for (size_t i = 0; i < catalog.n && st == MLXR_OK; i++)
            st = mounts_of(p, &catalog.items[i].manifest, err);
    mlxr_catalog_clear(&catalog);
    return st;
}

/* ---- push ---- */

static mlxr_status manifest_put(mlxr_registry *r, const mlxr_manifest *m, const char *reference,
                                mlxr_error *err)
{
    static const char *const headers[] = {"Content-Type: " MLXR_MEDIA_MANIFEST};
    mlxr_status st;
    mlxr_http *http = NULL;
    mlxr_http_answer answer = {0};
    mlxr_http_request rq = {
        .method = "PUT", .headers = headers, .n_headers = 1, .body = m->text, .n_body = m->n_text};
    char *url = mlxr_registry_url(r, "manifests/%s", reference);
    const char *told;

    if (!url) return nomem_url(err);
    rq.url = url;
    if ((st = mlxr_http_create(&http, &r->http_options, err)) != MLXR_OK) goto done;
    if ((st = mlxr_registry_do(&answer, r, http, &rq, NULL, err)) != MLXR_OK) goto done;
    if (answer.status / 100 != 2) {
        st = mlxr_registry_fail(r, &answer, "manifest", err);
        goto done;
    }
    told = mlxr_http_header(&answer.headers, "Docker-Content-Digest");
    if (told && strcmp(told, m->digest) != 0)
        st = mlxr_fail(err, MLXR_E_CORRUPT,
                       "registry %s/%s: took the manifest as %.80s, but its digest is %s", r->host,
                       r->repository, told, m->digest);
done:
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    free(url);
    return st;
}

/* Nobody removes the files meanwhile; a store that cannot be written to is read all the same. */
static void hold_files(mlxr_session **out, struct push *p)
{
    mlxr_error why = {0};
    bool present;

    if (mlxr_session_begin(out, p->store, &why) != MLXR_OK) {
        *out = NULL;
        return;
    }
    for (size_t i = 0; i < p->n_blobs; i++)
        (void)mlxr_session_want(*out, p->blobs[i]->digest, p->blobs[i]->size, &present, &why);
}

mlxr_status mlxr_registry_push(mlxr_transfer *out, mlxr_store *store, const mlxr_manifest *m,
                               const mlxr_name *to, const mlxr_remote_options *options,
                               const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_status st;
    struct push p = {.store = store};
    mlxr_session *session = NULL;
    mlxr_transfer t = {0};
    mlxr_buf repository = {0};
    char *reference = NULL;
    mlxr_error why = {0};

    if (pthread_mutex_init(&p.mutex, NULL) != 0) return mlxr_fail_nomem(err, "push");
    memcpy(t.digest, m->digest, sizeof t.digest);
    t.total_bytes = mlxr_manifest_bytes(m);
    mlxr_name_repository(&repository, to);
    if ((st = mlxr_buf_check(&repository, "push: name", err)) != MLXR_OK) goto done;
    if ((st = blobs_list(&p, m, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_pace_init(&p.pace, job, t.total_bytes, err)) != MLXR_OK) goto done;
    if ((st = mlxr_registry_open(&p.r, to->host, repository.data, true, options, job, &store->log, err)) !=
        MLXR_OK)
        goto done;
    if ((st = mounts_find(&p, m, err)) != MLXR_OK) goto done;
    hold_files(&session, &p);
    if ((st = blobs_push(&p, err)) != MLXR_OK) goto done;
    if ((st = manifest_put(p.r, m, to->tag, err)) != MLXR_OK) goto done;
    if (!(reference = mlxr_registry_reference(p.r, to->tag))) {
        st = mlxr_fail_nomem(err, "push: name");
        goto done;
    }
    if (mlxr_origin_write(store, m->digest, reference, &why) != MLXR_OK)
        mlxr_log_at(&store->log, MLXR_LOG_WARN, "push: repair will not know this registry: %s", why.message);
done:
    t.moved_bytes = p.moved;
    t.present_bytes = p.present;
    if (out) *out = t;
    mlxr_session_end(session);
    mlxr_registry_close(p.r);
    mlxr_store_pace_clear(&p.pace);
    for (size_t i = 0; p.mount_from && i < p.n_blobs; i++) free(p.mount_from[i]);
    free(p.mount_from);
    free(p.blobs);
    mlxr_buf_clear(&repository);
    pthread_mutex_destroy(&p.mutex);
    free(reference);
    return st;
}
