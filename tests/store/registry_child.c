/* registry_child: the store's calls as a program, for test_registry.py to start, kill and read from.
 *
 *   registry_child STORE put DIR NAME [SOURCE]   the files of DIR (not its folders) as a model
 *   registry_child STORE push NAME TO        registry_child STORE pull FROM NAME
 *   registry_child STORE check NAME          every file hashed by itself
 *   registry_child STORE verify NAME         mlxr_store_verify, deep and with repair
 *   registry_child STORE gc NAME             mlxr_store_gc (NAME is not looked at)
 *   registry_child STORE source HOST/REPOSITORY:TAG NAME FILE    the file of NAME again from there
 *   options: --user U --password P --auth FILE --insecure --parallel N --tries N
 *            --kill KIND PART N   SIGKILL at the N-th change of that kind whose path ends in PART
 *   SIGINT cancels a push or a pull.
 *
 * One line of JSON on standard output; of a failure the status and the message on standard error, and 1. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/remote.h"

static struct {
    const char *kind, *part;
    int n;
} killer;

static int fault(const char *kind, const char *path, void *ud)
{
    size_t n = strlen(path), n_part;
    if (!killer.kind || strcmp(kind, killer.kind) != 0) return 0;
    n_part = strlen(killer.part);
    if (n < n_part || strcmp(path + n - n_part, killer.part) != 0) return 0;
    if (--killer.n == 0) kill(getpid(), SIGKILL);
    return 0;
}

static volatile int cancel;

static void on_signal(int sig)
{
    __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
}

static uint64_t done_all, total_all; /* as told last */

static void on_step(const mlxr_store_step *step, void *ud)
{
    if (step->done_all < done_all || step->done_all > step->total_all || step->done > step->total)
        fprintf(stderr, "log: a step goes back or too far\n");
    done_all = step->done_all;
    total_all = step->total_all;
}

static void log_line(mlxr_log_level level, const char *message, void *ud)
{
    fprintf(stderr, "log: %s\n", message);
}

static mlxr_status put(mlxr_store *store, const char *dir, const char *name_text, const char *source,
                       mlxr_error *err)
{
    mlxr_status st;
    mlxr_session *s = NULL;
    mlxr_layer layers[64] = {0}, config = {.media_type = (char *)MLXR_MEDIA_CONFIG};
    mlxr_manifest m = {0};
    mlxr_name name;
    mlxr_buf text = {0};
    mlxr_description d = {
        .family = (char *)"llama", .dtype = (char *)"bf16", .n_parameters = 1, .source = (char *)source};
    size_t n = 0;
    struct dirent *entry;
    DIR *folder = opendir(dir);

    if (!folder) return mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: no folder", dir);
    if ((st = mlxr_name_parse(&name, name_text, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_begin(&s, store, err)) != MLXR_OK) goto done;
    while ((entry = readdir(folder)) && n < MLXR_COUNT(layers)) {
        char *path;
        if (entry->d_name[0] == '.') continue;
        path = mlxr_path_join(dir, entry->d_name);
        text.len = 0;
        st = mlxr_file_read(&text, path, (size_t)1 << 30, err);
        free(path);
        if (st != MLXR_OK) goto done;
        layers[n].path = mlxr_strdup(entry->d_name);
        layers[n].media_type = mlxr_strdup(mlxr_media_type(entry->d_name));
        st = mlxr_session_put(s, &layers[n++], text.data ? text.data : "", text.len, err);
        if (st != MLXR_OK) goto done;
    }
    text.len = 0;
    if ((st = mlxr_description_write(&text, &d, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_put(s, &config, text.data, text.len, err)) != MLXR_OK) goto done;
    if ((st = mlxr_manifest_make(&m, &config, layers, n, NULL, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_name(s, &name, &m, err)) != MLXR_OK) goto done;
    printf("{\"digest\": \"%s\", \"total\": %llu}\n", m.digest, (unsigned long long)mlxr_manifest_bytes(&m));
done:
    for (size_t i = 0; i < n; i++) {
        free(layers[i].path);
        free(layers[i].media_type);
    }
    closedir(folder);
    mlxr_buf_clear(&text);
    mlxr_manifest_clear(&m);
    mlxr_session_end(s);
    return st;
}

static mlxr_status check(mlxr_store *store, const char *name, mlxr_error *err)
{
    mlxr_status st;
    mlxr_manifest m = {0};

    if ((st = mlxr_store_find(&m, NULL, store, name, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i <= m.n_layers; i++) {
        const mlxr_layer *layer = i < m.n_layers ? &m.layers[i] : &m.config;
        char *path = mlxr_store_blob_path(store, layer->digest), digest[72];
        st = path ? mlxr_hash_file(digest, NULL, path, layer->size, NULL, NULL, NULL, err)
                  : mlxr_fail_nomem(err, "child");
        if (st == MLXR_OK && strcmp(digest, layer->digest) != 0)
            st = mlxr_fail(err, MLXR_E_CORRUPT, "%s is %s", path, digest);
        free(path);
        if (st != MLXR_OK) goto done;
    }
    printf("{\"digest\": \"%s\", \"total\": %llu}\n", m.digest, (unsigned long long)mlxr_manifest_bytes(&m));
done:
    mlxr_manifest_clear(&m);
    return st;
}

static mlxr_status layer_again(mlxr_store *store, const char *source, const char *name, const char *file,
                               const mlxr_remote_options *remote, mlxr_error *err)
{
    mlxr_status st;
    mlxr_manifest m = {0};
    mlxr_session *s = NULL;
    const mlxr_layer *layer;
    mlxr_store_pace pace = {0};
    uint64_t moved = 0;

    if ((st = mlxr_store_find(&m, NULL, store, name, err)) != MLXR_OK) goto done;
    if (!(layer = mlxr_manifest_find(&m, file))) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: no %s", name, file);
        goto done;
    }
    if ((st = mlxr_session_begin(&s, store, err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_pace_init(&pace, NULL, layer->size, err)) != MLXR_OK) goto done;
    st = mlxr_registry_fetch_layer(s, source, layer, remote, &pace, &moved, err);
    if (st == MLXR_OK) printf("{\"moved\": %llu}\n", (unsigned long long)moved);
done:
    mlxr_store_pace_clear(&pace);
    mlxr_session_end(s);
    mlxr_manifest_clear(&m);
    return st;
}

static void finding(const char *name, const char *file, const char *tensor, const char *text, bool repaired,
                    void *ud)
{
    fprintf(stderr, "finding: %s: %s: %s: %s%s\n", name, file ? file : "", tensor ? tensor : "", text,
            repaired ? " (repaired)" : "");
}

int main(int argc, char **argv)
{
    mlxr_status st = MLXR_E_INVALID_ARGUMENT;
    mlxr_error err = {.message = "usage: see registry_child.c"};
    mlxr_store_options so = mlxr_store_options_default();
    mlxr_remote_options ro = mlxr_remote_options_default();
    mlxr_store_verify_options vo = mlxr_store_verify_options_default();
    mlxr_transfer t = {0};
    mlxr_store *store = NULL;
    mlxr_store_job job = {.cancel = &cancel, .on_step = on_step};
    const char *words[6] = {0}, *auth[4];
    int n = 0;

    ro.n_tries = 3;
    ro.stall_seconds = 10;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            if (n < 6) words[n++] = argv[i];
        } else if (strcmp(argv[i], "--insecure") == 0) {
            ro.insecure = true;
        } else if (i + 3 < argc && strcmp(argv[i], "--kill") == 0) {
            killer.kind = argv[++i];
            killer.part = argv[++i];
            killer.n = atoi(argv[++i]);
        } else if (i + 1 < argc) {
            const char *value = argv[i + 1];
            if (strcmp(argv[i], "--user") == 0) ro.user = value;
            if (strcmp(argv[i], "--password") == 0) ro.password = value;
            if (strcmp(argv[i], "--parallel") == 0) ro.n_parallel = (uint32_t)atoi(value);
            if (strcmp(argv[i], "--tries") == 0) ro.n_tries = (uint32_t)atoi(value);
            if (strcmp(argv[i], "--auth") == 0 && ro.n_auth_files < MLXR_COUNT(auth))
                auth[ro.n_auth_files++] = value;
            i++;
        }
    }
    ro.auth_files = auth;
    signal(SIGINT, on_signal);
    if (n < 3) goto done;
    so.fault = fault;
    so.log.fn = log_line;
    if ((st = mlxr_store_open(&store, words[0], &so, &err)) != MLXR_OK) goto done;
    if (strcmp(words[1], "put") == 0 && n >= 4) {
        st = put(store, words[2], words[3], words[4], &err);
    } else if (strcmp(words[1], "check") == 0 && n == 3) {
        st = check(store, words[2], &err);
    } else if (strcmp(words[1], "gc") == 0) {
        mlxr_store_gc_result r;
        st = mlxr_store_gc(&r, store, NULL, &err);
        if (st == MLXR_OK) printf("{\"files\": %zu}\n", r.n_files);
    } else if (strcmp(words[1], "source") == 0 && n == 5) {
        st = layer_again(store, words[2], words[3], words[4], &ro, &err);
    } else if (strcmp(words[1], "verify") == 0 && n == 3) {
        mlxr_store_verify_result r = {0};
        vo.deep = vo.repair = true;
        vo.remote = &ro;
        vo.on_finding = finding;
        st = mlxr_store_verify(&r, store, &words[2], 1, &vo, NULL, &err);
        if (st == MLXR_OK)
            printf("{\"bad\": %zu, \"repaired\": %zu, \"fetched\": %llu}\n", r.n_bad, r.n_repaired,
                   (unsigned long long)r.fetched_bytes);
    } else if ((strcmp(words[1], "push") == 0 || strcmp(words[1], "pull") == 0) && n == 4) {
        st = words[1][2] == 's' ? mlxr_store_push(&t, store, words[2], words[3], &ro, &job, &err)
                                : mlxr_store_pull(&t, store, words[2], words[3], &ro, &job, &err);
        if (st == MLXR_OK)
            printf("{\"digest\": \"%s\", \"total\": %llu, \"moved\": %llu, \"present\": %llu, \"steps\": "
                   "[%llu, %llu]}\n",
                   t.digest, (unsigned long long)t.total_bytes, (unsigned long long)t.moved_bytes,
                   (unsigned long long)t.present_bytes, (unsigned long long)done_all,
                   (unsigned long long)total_all);
    } else {
        st = MLXR_E_INVALID_ARGUMENT;
    }
done:
    mlxr_store_close(store);
    if (st != MLXR_OK) fprintf(stderr, "%s: %s\n", mlxr_status_name(st), err.message);
    return st != MLXR_OK;
}
