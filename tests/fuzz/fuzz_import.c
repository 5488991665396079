/* What import and verify read beside models, from hostile bytes. The first byte tells which:
 *   i  index.json of an OCI image layout without blobs: never a model
 *   m  modules.json of a model folder: the import goes on or ends with a message
 *   x  model.safetensors.index.json, checked against one shard
 *   s  sums of a good blob: it stays good */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/bring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOB_BYTES = 10000 };

static char dir[] = "/tmp/mlxr-fuzz-import-XXXXXX";
static mlxr_store *store;
static char digest[72];

static const char *at(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *p = paths[turn++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(at(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) abort();
}

static void clean(void)
{
    mlxr_store_close(store);
    (void)mlxr_io_remove_tree(NULL, dir, NULL);
}

static mlxr_status fill(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    memset(dst, 1, n);
    return MLXR_OK;
}

static void make(void)
{
    static const size_t shape[] = {4};
    static uint8_t blob[BLOB_BYTES];
    mlxr_safetensors_writer *w = NULL;

    if (!mkdtemp(dir) || atexit(clean) != 0) abort();
    if (mlxr_store_open(&store, at("store"), NULL, NULL) != MLXR_OK) abort();
    if (mkdir(at("layout"), 0700) != 0 || mkdir(at("m"), 0700) != 0 || mkdir(at("m/1_Pooling"), 0700) != 0)
        abort();
    put("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
    put("m/config.json", "{}", 2);
    put("m/1_Pooling/config.json", "{}", 2);
    if (mlxr_safetensors_writer_create(&w, at("m/model.safetensors"), NULL) != MLXR_OK ||
        mlxr_safetensors_writer_add(w, "a", MLXR_F32, 1, shape, fill, NULL, NULL) != MLXR_OK ||
        mlxr_safetensors_writer_commit(w, NULL, NULL, NULL) != MLXR_OK)
        abort();
    mlxr_safetensors_writer_free(w);
    put("blob", blob, sizeof blob);
    if (mlxr_hash_file(digest, NULL, at("blob"), BLOB_BYTES, NULL, "hashing", NULL, NULL) != MLXR_OK) abort();
    if (mlxr_io_make_dirs(NULL, at("store/sums/sha256"), NULL) != MLXR_OK) abort();
}

static void on_bad(void *ud, const char *file, const char *tensor, const char *text)
{
    if (!*file || !*text) abort();
    ++*(size_t *)ud;
}

static void check_index(void)
{
    const mlxr_check_file files[] = {{"config.json", at("m/config.json")},
                                     {"model.safetensors.index.json", at("index")},
                                     {"model-1.safetensors", at("m/model.safetensors")}};
    size_t n_bad = 0;

    if (mlxr_check_files(files, 3, on_bad, &n_bad, NULL) != MLXR_OK) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_error err = {0};
    mlxr_buf bad = {0};
    mlxr_status st;
    char name[128];

    if (size == 0) return 0;
    if (!store) make();
    switch (data[0]) {
    case 'i':
        put("layout/index.json", data + 1, size - 1);
        st = mlxr_store_import(NULL, store, at("layout"), "m", NULL, NULL, &err);
        if (st == MLXR_OK || !*err.message) abort();
        break;
    case 'm':
        put("m/modules.json", data + 1, size - 1);
        st = mlxr_store_import(NULL, store, at("m"), "m", NULL, NULL, &err);
        if (st != MLXR_OK && !*err.message) abort();
        break;
    case 'x':
        put("index", data + 1, size - 1);
        check_index();
        break;
    case 's':
        snprintf(name, sizeof name, "store/sums/sha256/%.64s", digest + 7);
        put(name, data + 1, size - 1);
        if (mlxr_sums_check(&bad, store, digest, BLOB_BYTES, at("blob"), 1, NULL, NULL, &err) != MLXR_OK ||
            bad.len)
            abort();
        mlxr_buf_clear(&bad);
        break;
    default: break;
    }
    return 0;
}
