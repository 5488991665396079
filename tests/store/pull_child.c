/* Drives pull for test_pull.py: opens a store, does one thing, and tells in one line of JSON on standard output how it ended.
 *
 *   pull_child pull|push STORE NAME [KEY=VALUE ...]
 *   pull_child repair STORE NAME FILE [KEY=VALUE ...]     fetches one file of the model again
 *
 * Keys: endpoint, token, name, revision, file, parallel, tries, stall, quota, insecure; cancel_ms, cancel_bytes (cancels then);
 * fault=KIND@N:ERRNO[:TEXT] (the N-th change of that kind whose path holds TEXT, and each after it, fails); log=1 (to standard error);
 * threads=N (so many pulls at once). */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/remote.h"

static int cancel_flag;
static uint64_t cancel_bytes = UINT64_MAX, start_ns, cancelled_ns, last_done, last_total;
static unsigned n_steps, n_backwards;
static const char *last_what;
static char fault_kind[32], fault_text[64];
static int fault_at, fault_errno, fault_seen;

static void cancel_now(void)
{
    if (!__atomic_exchange_n(&cancel_flag, 1, __ATOMIC_SEQ_CST)) cancelled_ns = mlxr_now_ns();
}

static void on_step(const mlxr_store_step *step, void *ud)
{
    n_steps++;
    if (!last_what || strcmp(last_what, step->what) != 0) last_done = 0; /* another thing is done now */
    last_what = step->what;
    if (step->done_all < last_done || (step->total_all && step->done_all > step->total_all)) n_backwards++;
    last_done = step->done_all;
    last_total = step->total_all;
    if (step->done_all >= cancel_bytes) cancel_now();
}

static void *cancel_later(void *ud)
{
    uint64_t ms = *(const uint64_t *)ud;
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
    cancel_now();
    return NULL;
}

static int fault(const char *kind, const char *path, void *ud)
{
    if (strcmp(kind, fault_kind) != 0 || !strstr(path, fault_text)) return 0;
    return __atomic_add_fetch(&fault_seen, 1, __ATOMIC_SEQ_CST) >= fault_at ? fault_errno : 0;
}

static void log_line(mlxr_log_level level, const char *message, void *ud)
{
    fprintf(stderr, "%s\n", message);
}

typedef struct pull {
    mlxr_store *store;
    const char *from, *name;
    const mlxr_remote_options *options;
    const mlxr_store_job *job;
    mlxr_transfer t;
    mlxr_status st;
    mlxr_error err;
} pull;

static void *do_pull(void *ud)
{
    pull *p = ud;
    p->st = mlxr_store_pull(&p->t, p->store, p->from, p->name, p->options, p->job, &p->err);
    return NULL;
}

static mlxr_status repair(pull *p, const char *file)
{
    mlxr_session *s = NULL;
    mlxr_manifest m = {0};
    mlxr_store_pace pace = {0};
    const mlxr_layer *layer;
    mlxr_status st;

    if ((st = mlxr_store_find(&m, NULL, p->store, p->from, &p->err)) != MLXR_OK) return st;
    layer = strcmp(file, "config") == 0 ? &m.config : mlxr_manifest_find(&m, file);
    if (!layer) return mlxr_fail(&p->err, MLXR_E_NOT_FOUND, "no %s", file);
    if ((st = mlxr_store_pace_init(&pace, p->job, layer->size, &p->err)) != MLXR_OK) return st;
    if ((st = mlxr_session_begin(&s, p->store, &p->err)) == MLXR_OK)
        st = mlxr_remote_fetch_layer(s, &m, layer, p->options, &pace, &p->t.moved_bytes, &p->err);
    mlxr_session_end(s);
    mlxr_store_pace_clear(&pace);
    mlxr_manifest_clear(&m);
    return st;
}

static const char *value(const char *arg, const char *key)
{
    size_t n = strlen(key);
    return strncmp(arg, key, n) == 0 && arg[n] == '=' ? arg + n + 1 : NULL;
}

int main(int argc, char **argv)
{
    mlxr_store_options so = mlxr_store_options_default();
    mlxr_remote_options ro = mlxr_remote_options_default();
    mlxr_store_job job = {on_step, NULL, &cancel_flag};
    enum { MAX = 8 };
    pull pulls[MAX] = {0}, *p = &pulls[0];
    pthread_t threads[MAX], canceller;
    size_t n_threads = 1;
    uint64_t cancel_ms = 0;
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_buf message = {0};
    bool is_repair;
    const char *v;
    int i;

    if (argc < 4) return 2;
    is_repair = strcmp(argv[1], "repair") == 0;
    p->from = argv[3];
    for (i = is_repair ? 5 : 4; i < argc; i++) {
        if ((v = value(argv[i], "endpoint")))
            ro.hub_endpoint = v;
        else if ((v = value(argv[i], "token")))
            ro.hub_token = v;
        else if ((v = value(argv[i], "name")))
            p->name = v;
        else if ((v = value(argv[i], "revision")))
            ro.revision = v;
        else if ((v = value(argv[i], "file")))
            ro.file = v;
        else if ((v = value(argv[i], "parallel")))
            ro.n_parallel = (uint32_t)atoi(v);
        else if ((v = value(argv[i], "tries")))
            ro.n_tries = (uint32_t)atoi(v);
        else if ((v = value(argv[i], "stall")))
            ro.stall_seconds = (uint32_t)atoi(v);
        else if ((v = value(argv[i], "quota")))
            so.quota_bytes = strtoull(v, NULL, 10);
        else if ((v = value(argv[i], "cancel_ms")))
            cancel_ms = strtoull(v, NULL, 10);
        else if ((v = value(argv[i], "cancel_bytes")))
            cancel_bytes = strtoull(v, NULL, 10);
        else if ((v = value(argv[i], "threads")))
            n_threads = (size_t)atoi(v);
        else if ((v = value(argv[i], "insecure")))
            ro.insecure = true;
        else if ((v = value(argv[i], "log")))
            so.log.fn = log_line;
        else if ((v = value(argv[i], "fault"))) {
            if (sscanf(v, "%31[^@]@%d:%d:%63s", fault_kind, &fault_at, &fault_errno, fault_text) < 3)
                return 2;
            so.fault = fault;
        } else
            return 2;
    }
    if (n_threads < 1 || n_threads > MAX) return 2;
    if (mlxr_store_open(&store, argv[2], &so, &err) != MLXR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    p->store = store;
    p->options = &ro;
    p->job = &job;
    start_ns = mlxr_now_ns();
    if (cancel_ms && pthread_create(&canceller, NULL, cancel_later, &cancel_ms) != 0) return 2;
    if (is_repair) {
        p->st = repair(p, argv[4]);
    } else if (strcmp(argv[1], "push") == 0) {
        p->st = mlxr_store_push(&p->t, store, p->from, p->name, &ro, &job, &p->err);
    } else if (n_threads == 1) {
        do_pull(p);
    } else {
        for (size_t k = 1; k < n_threads; k++) {
            pulls[k] = pulls[0];
            pulls[k].job = NULL;
        }
        for (size_t k = 0; k < n_threads; k++)
            if (pthread_create(&threads[k], NULL, do_pull, &pulls[k]) != 0) return 2;
        for (size_t k = 0; k < n_threads; k++) pthread_join(threads[k], NULL);
        for (size_t k = 1; k < n_threads; k++) {
            p->t.moved_bytes += pulls[k].t.moved_bytes;
            if (p->st == MLXR_OK && pulls[k].st != MLXR_OK) {
                p->st = pulls[k].st;
                p->err = pulls[k].err;
            }
        }
    }
    if (cancel_ms) pthread_join(canceller, NULL);
    mlxr_json_escape(&message, p->err.message, strlen(p->err.message));
    printf("{\"status\": \"%s\", \"message\": %s, \"digest\": \"%s\", \"total\": %llu, \"moved\": %llu, "
           "\"present\": %llu, "
           "\"steps\": %u, \"backwards\": %u, \"done\": %llu, \"of\": %llu, \"ms\": %llu, \"cancel_ms\": "
           "%lld}\n",
           mlxr_status_name(p->st), p->st == MLXR_OK ? "\"\"" : message.data, p->t.digest,
           (unsigned long long)p->t.total_bytes, (unsigned long long)p->t.moved_bytes,
           (unsigned long long)p->t.present_bytes, n_steps, n_backwards, (unsigned long long)last_done,
           (unsigned long long)last_total, (unsigned long long)((mlxr_now_ns() - start_ns) / 1000000),
           cancelled_ns ? (long long)((mlxr_now_ns() - cancelled_ns) / 1000000) : -1LL);
    mlxr_buf_clear(&message);
    mlxr_store_close(store);
    return p->st == MLXR_OK ? 0 : 1;
}
