/* Model folders of a test's own making, and a temporary folder to make them in. */
#ifndef TESTS_STORE_FOLDER_H
#define TESTS_STORE_FOLDER_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "format/format.h"
#include "test.h"

static char temp_dir[64];

static void remove_tree(const char *path)
{
    struct stat sb;
    DIR *d = lstat(path, &sb) == 0 && S_ISDIR(sb.st_mode) ? opendir(path) : NULL;
    const struct dirent *e;

    if (d && !(sb.st_mode & S_IWUSR)) (void)chmod(path, 0700);
    while (d && (e = readdir(d)) != NULL) {
        char *inner;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        inner = mlxr_path_join(path, e->d_name);
        if (inner) remove_tree(inner);
        free(inner);
    }
    if (d) closedir(d);
    if (d)
        (void)rmdir(path);
    else
        (void)unlink(path);
}

static inline int temp_dir_make(void **state)
{
    /* In memory where that can be: the tests sync thousands of times. */
    strcpy(temp_dir, "/dev/shm/mlxr-test-XXXXXX");
    if (mkdtemp(temp_dir)) return 0;
    strcpy(temp_dir, P_tmpdir "/mlxr-test-XXXXXX");
    return mkdtemp(temp_dir) ? 0 : -1;
}

static inline int temp_dir_remove(void **state)
{
    remove_tree(temp_dir);
    return 0;
}

/* A path inside it, good until the next but seven calls. */
static inline const char *temp_path(const char *name)
{
    static char paths[8][1024];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    snprintf(p, sizeof paths[0], "%s%s%s", temp_dir, *name ? "/" : "", name);
    return p;
}

static inline const char *in(const char *dir, const char *name)
{
    static char paths[8][2048];
    static unsigned turn;
    char *p = paths[turn++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static inline void put_bytes(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

/* One tensor of a file: zeros. */
typedef struct tensor_spec {
    const char *name;
    mlxr_dtype dtype;
    size_t shape[3]; /* up to the first 0 */
} tensor_spec;

static inline mlxr_status fill_pattern(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    uint64_t seed = (uint64_t)(uintptr_t)ud;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)((begin + i + seed) * 2654435761u >> 13);
    return MLXR_OK;
}

/* A safetensors file; `seed` tells apart what several hold. */
static inline void put_tensors(const char *path, const tensor_spec *specs, size_t n, unsigned seed)
{
    mlxr_safetensors_writer *w = NULL;
    mlxr_error err;

    assert_ok(mlxr_safetensors_writer_create(&w, path, &err), &err);
    for (size_t i = 0; i < n; i++) {
        unsigned n_dims = 0;
        while (n_dims < 3 && specs[i].shape[n_dims]) n_dims++;
        assert_ok(mlxr_safetensors_writer_add(w, specs[i].name, specs[i].dtype, n_dims, specs[i].shape,
                                              fill_pattern, (void *)(uintptr_t)(seed + i), &err),
                  &err);
    }
    assert_ok(mlxr_safetensors_writer_commit(w, NULL, NULL, &err), &err);
    mlxr_safetensors_writer_free(w);
}

/* A small whole model at dir, which is made: config.json, tokenizer.json, tokenizer_config.json, two shards and their index. */
static inline void put_model(const char *dir, unsigned seed)
{
    static const tensor_spec first[] = {{"a.weight", MLXR_F32, {16, 8}}, {"b.weight", MLXR_F32, {32}}},
                             second[] = {{"c.weight", MLXR_F32, {8, 8}}};

    assert_int_equal(mkdir(dir, 0755), 0);
    put_text(in(dir, "config.json"), "{\"model_type\": \"llama\", \"max_position_embeddings\": 128}");
    put_text(in(dir, "tokenizer.json"), "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}");
    put_text(in(dir, "tokenizer_config.json"), "{\"chat_template\": \"{{ messages }}\"}");
    put_text(in(dir, "LICENSE"), "As you like.\n");
    put_tensors(in(dir, "model-00001-of-00002.safetensors"), first, 2, seed);
    put_tensors(in(dir, "model-00002-of-00002.safetensors"), second, 1, seed + 7);
    put_text(in(dir, "model.safetensors.index.json"), "{\"metadata\": {\"total_size\": 896}, \"weight_map\": "
                                                      "{\"a.weight\": \"model-00001-of-00002.safetensors\","
                                                      " \"b.weight\": \"model-00001-of-00002.safetensors\", "
                                                      "\"c.weight\": \"model-00002-of-00002.safetensors\"}}");
}

static inline void flip_bit(const char *path, uint64_t byte, unsigned bit)
{
    int fd;
    uint8_t b;

    (void)chmod(path, 0644);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, (off_t)byte), 1);
    b ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &b, 1, (off_t)byte), 1);
    close(fd);
}

#endif
