/* What a folder says about answers and embeddings, from hostile bytes: five parts between zero bytes are generation_config.json,
 * config.json, tokenizer_config.json, modules.json and 1_Pooling/config.json; an empty part is a file that is not there.
 * Whatever is accepted must be in range, and whatever is refused must say why. The files lie in a folder of this process,
 * one level below a config.json that no path of modules.json may lead to. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "engine/sampler.h"
#include "runner/generation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GENERATION, CONFIG, TOKENIZER_CONFIG, MODULES, POOLING, N_PARTS };

static const char *const part_names[N_PARTS] = {"generation_config.json", "config.json",
                                                "tokenizer_config.json", "modules.json",
                                                "1_Pooling/config.json"};
static const char outside[] = "outside-of-the-folder";
static const char tokenizer_json[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 2, \"content\": \"</s>\", \"single_word\": false, "
    "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}], "
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"</s>\": 2}, \"merges\": []}}";

static char root[] = P_tmpdir "/mlxr-fuzz-XXXXXX";
static char *dir, *paths[N_PARTS], *pooling_dir, *root_config;
static mlxr_tokenizer *tok;

/* A new file each time: mlxr_file_write waits for the disk, and some file systems do so at the end of one that was cut
 * to nothing before. */
static void write_file(const char *path, const void *text, size_t n)
{
    int fd;

    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, text, n) != (ptrdiff_t)n || close(fd) != 0) abort();
}

static void clean_up(void)
{
    for (size_t i = 0; i < N_PARTS; i++) {
        unlink(paths[i]);
        free(paths[i]);
    }
    unlink(root_config);
    rmdir(pooling_dir);
    rmdir(dir);
    rmdir(root);
    free(root_config);
    free(pooling_dir);
    free(dir);
    mlxr_tokenizer_close(tok);
}

static void set_up(void)
{
    char text[64], *tokenizer;
    int n = snprintf(text, sizeof text, "{\"pooling_mode\": \"%s\"}", outside);

    if (!mkdtemp(root)) abort();
    dir = mlxr_path_join(root, "model");
    root_config = mlxr_path_join(root, "config.json");
    if (!dir || !root_config || mkdir(dir, 0700) != 0) abort();
    for (size_t i = 0; i < N_PARTS; i++)
        if (!(paths[i] = mlxr_path_join(dir, part_names[i]))) abort();
    pooling_dir = mlxr_path_dirname(paths[POOLING]);
    tokenizer = mlxr_path_join(dir, "tokenizer.json");
    if (!pooling_dir || !tokenizer || mkdir(pooling_dir, 0700) != 0) abort();
    write_file(root_config, text, (size_t)n);
    write_file(tokenizer, tokenizer_json, sizeof tokenizer_json - 1);
    if (mlxr_tokenizer_open(&tok, dir, NULL) != MLXR_OK) abort();
    unlink(tokenizer);
    free(tokenizer);
    atexit(clean_up);
}

static void check_refused(mlxr_status st, const mlxr_error *err)
{
    size_t n = strlen(err->message);

    if (err->code != st || n == 0 || mlxr_utf8_valid(err->message, n) != n) abort();
}

static void ends(const json_t *config)
{
    int32_t *ids;
    size_t n;
    mlxr_error err;
    mlxr_status st = mlxr_eos_ids(&ids, &n, dir, config, tok, &err);

    if (st != MLXR_OK) check_refused(st, &err);
    if ((n > 0) != (ids != NULL) || (st != MLXR_OK && n > 0)) abort();
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0) abort();
    free(ids);
}

static void sampling(void)
{
    mlxr_sampling s;
    mlxr_log log = {0};
    mlxr_error err;
    mlxr_status st = mlxr_folder_sampling(&s, dir, &log, &err);

    if (st != MLXR_OK)
        check_refused(st, &err);
    else if (mlxr_sampling_check(&s, 0, NULL) != MLXR_OK)
        abort();
}

/* named: the input itself has the word by which the outside is known. */
static void pooling(bool named)
{
    char name[48];
    mlxr_pooling p;
    mlxr_error err;
    mlxr_status st;

    memset(name, 'x', sizeof name);
    st = mlxr_folder_pooling(&p, name, sizeof name, dir, &err);
    if (!memchr(name, '\0', sizeof name)) abort();
    if (!named && strstr(name, outside)) abort();
    if (st != MLXR_OK)
        check_refused(st, &err);
    else if ((p == MLXR_POOLING_DEFAULT) != (name[0] != '\0') ||
             (p != MLXR_POOLING_DEFAULT && p != MLXR_POOLING_MEAN && p != MLXR_POOLING_LAST))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    json_t *config = NULL;

    if (!dir) set_up();
    for (size_t i = 0, at = 0; i < N_PARTS; i++) {
        const char *end = at < size ? memchr(text + at, '\0', size - at) : NULL;
        size_t n = at >= size ? 0 : end && i + 1 < N_PARTS ? (size_t)(end - (text + at)) : size - at;
        if (i == CONFIG && mlxr_json_parse(&config, text + (n ? at : 0), n, "config.json", NULL) != MLXR_OK)
            config = NULL;
        if (n)
            write_file(paths[i], text + at, n);
        else
            unlink(paths[i]);
        at += n + 1;
    }
    ends(config);
    sampling();
    pooling(size && memmem(data, size, outside, sizeof outside - 1) != NULL);
    json_decref(config);
    return 0;
}
