/* A store of a test's own, and small models made in it by hand: config, a weights file and a text, whose bytes follow from a number. */
#ifndef STORE_MADE_H
#define STORE_MADE_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "store/store.h"

static char made_dir[64]; /* of the store and of what else a test makes */
static mlxr_error err;

/* In memory where that can be: the tests sync thousands of times. */
static inline int made_begin(void **state)
{
    strcpy(made_dir, "/dev/shm/mlxr-store-XXXXXX");
    if (mkdtemp(made_dir)) return 0;
    strcpy(made_dir, P_tmpdir "/mlxr-store-XXXXXX");
    return mkdtemp(made_dir) ? 0 : -1;
}

static inline int made_end(void **state)
{
    return mlxr_io_remove_tree(NULL, made_dir, NULL) == MLXR_OK ? 0 : -1;
}

/* A path in the test's folder, good until the next but seven calls. */
static inline const char *in_dir(const char *fmt, ...) MLXR_PRINTF(1, 2);
static inline const char *in_dir(const char *fmt, ...)
{
    static char paths[8][1024];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    int n = snprintf(p, sizeof paths[0], "%s/", made_dir);
    va_list args;

    va_start(args, fmt);
    vsnprintf(p + n, sizeof paths[0] - (size_t)n, fmt, args);
    va_end(args);
    return p;
}

static inline mlxr_store *open_made(const mlxr_store_options *options)
{
    mlxr_store *s;
    assert_ok(mlxr_store_open(&s, in_dir("s"), options, &err), &err);
    return s;
}

/* Bytes of file k of model i; file 0 is the same for every model. */
enum { MADE_FILES = 3 };
static inline size_t made_bytes(char out[4096], unsigned i, unsigned k)
{
    size_t n = k == 0 ? 100 : 500 + (i * 37 + k * 11) % 3000;
    for (size_t at = 0; at < n; at++) out[at] = (char)(k == 0 ? at : at * 7 + i * 13 + k + (i >> 8) * at);
    return n;
}

static inline const char *made_path(unsigned k)
{
    static const char *const paths[MADE_FILES] = {"config.json", "model.safetensors", "sub/notes.txt"};
    return paths[k];
}

/* Model i under a name, as import does it; no asserts, since some are meant to fail. */
static inline mlxr_status make_model(char digest[72], mlxr_store *store, const char *name, unsigned i,
                                     mlxr_error *e)
{
    mlxr_layer config = {0}, layers[MADE_FILES] = {{0}};
    mlxr_description d = {.family = (char[]){"llama"},
                          .quantization = (char[]){"4-bit, groups of 64"},
                          .n_parameters = 1000 + i};
    mlxr_manifest m = {0};
    mlxr_session *s = NULL;
    mlxr_name n;
    mlxr_buf text = {0};
    char bytes[4096];
    mlxr_status st;

    if ((st = mlxr_name_parse(&n, name, e)) != MLXR_OK) return st;
    if ((st = mlxr_description_write(&text, &d, e)) != MLXR_OK) goto done;
    if ((st = mlxr_session_begin(&s, store, e)) != MLXR_OK) goto done;
    if ((st = mlxr_session_put(s, &config, text.data, text.len, e)) != MLXR_OK) goto done;
    for (unsigned k = 0; k < MADE_FILES; k++) {
        layers[k].path = (char *)(uintptr_t)made_path(k);
        if ((st = mlxr_session_put(s, &layers[k], bytes, made_bytes(bytes, i, k), e)) != MLXR_OK) goto done;
    }
    if ((st = mlxr_manifest_make(&m, &config, layers, MADE_FILES, NULL, e)) != MLXR_OK) goto done;
    if ((st = mlxr_session_name(s, &n, &m, e)) != MLXR_OK) goto done;
    if (digest) memcpy(digest, m.digest, 72);
done:
    mlxr_session_end(s);
    mlxr_manifest_clear(&m);
    mlxr_buf_clear(&text);
    return st;
}

static inline size_t count_in(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d)) != NULL) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d) closedir(d);
    return n;
}

static inline bool file_is(const char *path, const void *data, size_t n)
{
    mlxr_buf b = {0};
    bool same = mlxr_file_read(&b, path, (size_t)1 << 30, NULL) == MLXR_OK && b.len == n &&
                memcmp(b.data, data, n) == 0;
    mlxr_buf_clear(&b);
    return same;
}

static inline void write_text(const char *path, const char *text)
{
    assert_ok(mlxr_file_write(path, text, strlen(text), &err), &err);
}

/* As a store of an earlier version, whose models have no views until they are run. */
static inline void drop_views(void)
{
    assert_ok(mlxr_io_remove_tree(NULL, in_dir("s/views"), &err), &err);
}

/* NULL: every name stands for a model all of whose files are there, with the right bytes; else what is wrong. */
static inline const char *inconsistent(mlxr_store *store)
{
    static char what[1024];
    mlxr_catalog c;
    const char *bad = NULL;

    if (mlxr_catalog_read(&c, store, &err) != MLXR_OK) return err.message;
    for (size_t i = 0; i < c.n && !bad; i++) {
        const mlxr_manifest *m = &c.items[i].manifest;
        if (c.items[i].broken) {
            snprintf(what, sizeof what, "%s", c.items[i].broken);
            bad = what;
        }
        for (size_t k = 0; !bad && m->n_text && k <= m->n_layers; k++) {
            const mlxr_layer *l = k < m->n_layers ? &m->layers[k] : &m->config;
            char *path = mlxr_store_blob_path(store, l->digest), hex[65] = "";
            mlxr_buf b = {0};
            if (mlxr_file_read(&b, path, (size_t)1 << 30, &err) == MLXR_OK)
                (void)mlxr_sha256_hex(hex, b.data, b.len, NULL);
            if (strcmp(hex, l->digest + 7) != 0) {
                snprintf(what, sizeof what, "%s: %s of %s is %s", c.items[i].name.name, l->digest,
                         l->path ? l->path : "config", *hex ? hex : "absent");
                bad = what;
            }
            free(path);
            mlxr_buf_clear(&b);
        }
    }
    mlxr_catalog_clear(&c);
    return bad;
}

#endif
