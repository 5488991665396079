/* Import and export: folders of all kinds, hostile ones, links, GGUF files, OCI layouts. */
#include <sys/wait.h>

#include "store/bring.h"
#include "store/folder.h"
#include "store/tiny_gguf.h"

static mlxr_error err;
static mlxr_store *store;

static int set_up(void **state)
{
    if (temp_dir_make(state) != 0) return -1;
    return mlxr_store_open(&store, temp_path("store"), NULL, &err) == MLXR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    mlxr_store_close(store);
    return temp_dir_remove(state);
}

/* Imports; digest (may be NULL) gets the manifest's. */
static void import(char digest[72], const char *path, const char *name, mlxr_store_import_options o)
{
    char *d = NULL;

    assert_ok(mlxr_store_import(&d, store, path, name, &o, NULL, &err), &err);
    assert_int_equal(strlen(d), 71);
    if (digest) memcpy(digest, d, 72);
    mlxr_free(d);
}

static void import_fails(const char *path, mlxr_status status, const char *text)
{
    char *d = (char *)1;

    assert_fails(mlxr_store_import(&d, store, path, "m", NULL, NULL, &err), status, text, &err);
    assert_null(d);
}

/* How deep verify finds the store: how many findings. */
static void print_finding(const char *name, const char *file, const char *tensor, const char *text,
                          bool repaired, void *ud)
{
    if (ud) print_message("%s %s %s: %s\n", name, file, tensor ? tensor : "-", text);
}

static size_t n_findings(bool say)
{
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;

    o.deep = true;
    o.on_finding = print_finding;
    o.ud = say ? &o : NULL;
    assert_ok(mlxr_store_verify(&r, store, NULL, 0, &o, NULL, &err), &err);
    return r.n_bad;
}

static void assert_same_file(const char *a, const char *b)
{
    mlxr_buf x = {0}, y = {0};

    assert_ok(mlxr_file_read(&x, a, 1 << 28, &err), &err);
    assert_ok(mlxr_file_read(&y, b, 1 << 28, &err), &err);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    mlxr_buf_clear(&x);
    mlxr_buf_clear(&y);
}

static size_t count_in(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;

    while (d && (e = readdir(d)) != NULL) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d) closedir(d);
    return n;
}

static size_t n_blobs(void)
{
    return count_in(temp_path("store/blobs/sha256"));
}

static ino_t inode(const char *path)
{
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    return sb.st_ino;
}

static const mlxr_store_import_options plain = {0}, linked = {.link = true}, copied = {.copy = true};

/* ---- folders ---- */

static void a_folder(void **state)
{
    static const char *const taken[] = {"config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "LICENSE",
                                        "README.md",
                                        "mlxr.json",
                                        "chat_template.jinja",
                                        "additional_chat_templates/tool.jinja",
                                        "modules.json",
                                        "1_Pooling/config.json",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    char digest[72], again[72], copy[72], *view = NULL;
    mlxr_manifest m;

    put_model(temp_path("m"), 1);
    put_text(temp_path("m/README.md"), "# A model\n");
    put_text(temp_path("m/mlxr.json"), "{\"mlxr\": 1}");
    put_text(temp_path("m/chat_template.jinja"), "{{ messages }}");
    mkdir(temp_path("m/additional_chat_templates"), 0755);
    put_text(temp_path("m/additional_chat_templates/tool.jinja"), "{{ tools }}");
    put_text(temp_path("m/modules.json"),
             "[{\"path\": \"\"}, {\"path\": \"1_Pooling\"}, {\"path\": \"../x\"}, "
             "{\"path\": \"none\"}, 3]");
    mkdir(temp_path("m/1_Pooling"), 0755);
    put_text(temp_path("m/1_Pooling/config.json"), "{\"pooling_mode_cls_token\": true}");
    /* none of these */
    put_text(temp_path("m/.gitattributes"), "x");
    put_text(temp_path("m/pytorch_model.bin"), "x");
    put_text(temp_path("m/pytorch_model.bin.index.json"), "{}");
    put_text(temp_path("m/consolidated.safetensors"), "x");
    put_text(temp_path("m/model.gguf"), "x");
    put_text(temp_path("m/modeling.py"), "x");
    put_text(temp_path("m/license.bin"), "x");
    put_text(temp_path("m/config.json~"), "x");
    mkdir(temp_path("m/notice board"), 0755);
    mkdir(temp_path("m/.git"), 0755);
    put_text(temp_path("m/.git/config.json"), "x");
    import(digest, temp_path("m"), "team/m:1", plain);

    assert_ok(mlxr_store_find(&m, NULL, store, "team/m:1", &err), &err);
    assert_string_equal(m.digest, digest);
    assert_int_equal(m.n_layers, MLXR_COUNT(taken));
    for (size_t i = 0; i < MLXR_COUNT(taken); i++) assert_non_null(mlxr_manifest_find(&m, taken[i]));
    mlxr_manifest_clear(&m);
    assert_int_equal(n_findings(true), 0);

    /* the same again, under another name and with copies: the same digest, and nothing new */
    {
        size_t n = n_blobs();
        import(again, temp_path("m"), "again", plain);
        import(copy, temp_path("m"), "copy", copied);
        assert_string_equal(again, digest);
        assert_string_equal(copy, digest);
        assert_int_equal(n_blobs(), n);
    }
    assert_ok(mlxr_store_model_path(&view, store, "team/m:1", &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(taken); i++)
        assert_same_file(in(view, taken[i]), in(temp_path("m"), taken[i]));
    mlxr_free(view);
    assert_int_equal(count_in(temp_path("store/sessions")), 0);
}

/* Weights are shared where that is possible, texts are not: people edit them in place. */
static void what_is_shared(void **state)
{
    char *view = NULL;

    put_model(temp_path("m"), 1);
    import(NULL, temp_path("m"), "m", plain);
    assert_ok(mlxr_store_model_path(&view, store, "m", &err), &err);
    assert_int_not_equal(inode(in(view, "config.json")), inode(temp_path("m/config.json")));
    put_text(temp_path("m/config.json"), "{\"model_type\": \"other\"}");
    assert_int_equal(n_findings(true), 0);
    mlxr_free(view);

    put_model(temp_path("c"), 9);
    import(NULL, temp_path("c"), "c", copied);
    assert_ok(mlxr_store_model_path(&view, store, "c", &err), &err);
    assert_int_not_equal(inode(in(view, "model-00001-of-00002.safetensors")),
                         inode(temp_path("c/model-00001-of-00002.safetensors")));
    mlxr_free(view);
    flip_bit(temp_path("c/model-00001-of-00002.safetensors"), 300, 0);
    assert_int_equal(n_findings(true), 0);
}

static void a_fixture(void **state)
{
    mlxr_store_entry *e;
    size_t n;

    import(NULL, MLXR_SOURCE_DIR "/tests/runner/fixtures/tiny_chat", "tiny", copied);
    assert_ok(mlxr_store_list(&e, &n, store, &err), &err);
    assert_int_equal(n, 1);
    assert_null(e[0].broken);
    assert_true(e[0].n_parameters > 0);
    mlxr_store_entries_free(e, n);
    assert_int_equal(n_findings(true), 0);
}

/* The reference cases' models, of many families and quantizations. */
static void shared_models(void **state)
{
    char command[3000];
    DIR *d = opendir(MLXR_SHARED_DIR "/cases/models");
    const struct dirent *e;
    size_t n = 0, listed = 0;
    mlxr_store_entry *entries;

    if (!d) {
        print_message("SKIP: no reference models in " MLXR_SHARED_DIR "\n");
        return;
    }
    while ((e = readdir(d)) != NULL) {
        char name[200], inside[210];
        if (!strstr(e->d_name, ".tar.xz")) continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(e->d_name) - 7), e->d_name);
        snprintf(command, sizeof command, "tar -xJf '%s/cases/models/%s' -C '%s'", MLXR_SHARED_DIR, e->d_name,
                 temp_path(""));
        snprintf(inside, sizeof inside, "%s/model", name);
        assert_int_equal(system(command), 0);
        import(NULL, temp_path(inside), name, n % 2 ? plain : linked);
        n++;
    }
    closedir(d);
    assert_int_equal(n_findings(true), 0);
    assert_ok(mlxr_store_list(&entries, &listed, store, &err), &err);
    assert_int_equal(listed, n);
    for (size_t i = 0; i < listed; i++) {
        assert_null(entries[i].broken);
        assert_true(entries[i].n_parameters > 0);
        print_message("%s: %s, %s, %llu parameters\n", entries[i].name, entries[i].family,
                      entries[i].quantization, (unsigned long long)entries[i].n_parameters);
    }
    mlxr_store_entries_free(entries, listed);
}

/* As Hugging Face's cache has it: a snapshot of links into blobs. */
static void a_cache_snapshot(void **state)
{
    char digest[72], direct[72];
    const char *names[] = {"config.json",
                           "tokenizer.json",
                           "tokenizer_config.json",
                           "LICENSE",
                           "model.safetensors.index.json",
                           "model-00001-of-00002.safetensors",
                           "model-00002-of-00002.safetensors"};

    put_model(temp_path("blobs"), 3);
    mkdir(temp_path("snapshot"), 0755);
    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        char target[256];
        snprintf(target, sizeof target, "../blobs/%s", names[i]);
        assert_int_equal(symlink(target, in(temp_path("snapshot"), names[i])), 0);
    }
    import(direct, temp_path("blobs"), "direct", copied);
    import(digest, temp_path("snapshot"), "s", plain);
    assert_string_equal(digest, direct);
    assert_ok(mlxr_store_remove(store, "direct", NULL, &err), &err);
    assert_ok(mlxr_store_remove(store, "s", NULL, &err), &err);
    import(digest, temp_path("snapshot"), "s", linked);
    assert_string_equal(digest, direct);
    remove_tree(temp_path("snapshot")); /* the files behind it are what was linked */
    assert_int_equal(n_findings(true), 0);
}

static void stale_index(void **state)
{
    const tensor_spec t[] = {{"w.weight", MLXR_F16, {8, 8}}};
    mlxr_manifest m;

    put_model(temp_path("m"), 1);
    unlink(temp_path("m/model-00001-of-00002.safetensors"));
    unlink(temp_path("m/model-00002-of-00002.safetensors"));
    put_tensors(temp_path("m/model.safetensors"), t, 1, 1);
    put_text(temp_path("m/model-old.safetensors"), "not looked at");
    import(NULL, temp_path("m"), "m", plain);
    assert_ok(mlxr_store_find(&m, NULL, store, "m", &err), &err);
    assert_non_null(mlxr_manifest_find(&m, "model.safetensors"));
    assert_null(mlxr_manifest_find(&m, "model-old.safetensors"));
    mlxr_manifest_clear(&m);
    assert_int_equal(n_findings(true), 0);
}

/* A file of its own for a model that was a link, when it is imported without. */
static void link_gives_way(void **state)
{
    struct stat sb;
    char *view = NULL;

    put_model(temp_path("m"), 1);
    import(NULL, temp_path("m"), "m", linked);
    assert_ok(mlxr_store_model_path(&view, store, "m", &err), &err);
    assert_int_equal(inode(in(view, "model-00001-of-00002.safetensors")),
                     inode(temp_path("m/model-00001-of-00002.safetensors")));
    mlxr_free(view);
    import(NULL, temp_path("m"), "m2", plain);
    remove_tree(temp_path("m"));
    assert_int_equal(n_findings(true), 0);
    assert_ok(mlxr_store_model_path(&view, store, "m", &err), &err);
    assert_int_equal(stat(in(view, "model-00001-of-00002.safetensors"), &sb), 0);
    mlxr_free(view);
}

/* ---- hostile folders ---- */

static void missing_and_short_shards(void **state)
{
    put_model(temp_path("m"), 1);
    assert_int_equal(truncate(temp_path("m/model-00002-of-00002.safetensors"), 200), 0);
    import_fails(temp_path("m"), MLXR_E_FORMAT, "model-00002-of-00002.safetensors");
    unlink(temp_path("m/model-00002-of-00002.safetensors"));
    import_fails(temp_path("m"), MLXR_E_FORMAT, "model-00002-of-00002.safetensors");
    assert_int_equal(symlink("nowhere", temp_path("m/model-00002-of-00002.safetensors")), 0);
    import_fails(temp_path("m"), MLXR_E_FORMAT, "model-00002-of-00002.safetensors");
    assert_int_equal(n_blobs(), 0);
    assert_int_equal(count_in(temp_path("store/sessions")), 0);
}

static void broken_texts(void **state)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "model.safetensors.index.json"};

    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        put_model(temp_path("m"), 1);
        put_text(in(temp_path("m"), names[i]), "{\"a\": ");
        import_fails(temp_path("m"), MLXR_E_FORMAT, names[i]);
        remove_tree(temp_path("m"));
    }
    put_model(temp_path("m"), 1);
    put_text(temp_path("m/tokenizer.json"),
             "{\"model\": {\"vocab\": {\"a\": 1, \"a\": 1}}}"); /* readers take it */
    import(NULL, temp_path("m"), "m", plain);
}

static void links_that_lead_nowhere(void **state)
{
    put_model(temp_path("m"), 1);
    assert_int_equal(symlink("loop.md", temp_path("m/loop.md")), 0);
    assert_int_equal(symlink("gone", temp_path("m/NOTICE")), 0);
    assert_int_equal(symlink("/dev/zero", temp_path("m/zero.txt")), 0);
    assert_int_equal(mkfifo(temp_path("m/pipe.md"), 0600), 0);
    assert_int_equal(mkfifo(temp_path("m/pipe.safetensors"), 0600), 0);
    import(NULL, temp_path("m"), "m", plain);
    assert_int_equal(n_findings(true), 0);
    assert_int_equal(symlink("loop.json", temp_path("m/loop.json")), 0); /* what is JSON may be needed */
    import_fails(temp_path("m"), MLXR_E_IO, "loop.json");
    unlink(temp_path("m/loop.json"));
    unlink(temp_path("m/tokenizer_config.json"));
    assert_int_equal(mkfifo(temp_path("m/tokenizer_config.json"), 0600), 0);
    import_fails(temp_path("m"), MLXR_E_FORMAT, "tokenizer_config.json");
    unlink(temp_path("m/tokenizer_config.json"));
    unlink(temp_path("m/config.json"));
    assert_int_equal(mkfifo(temp_path("m/config.json"), 0600), 0);
    import_fails(temp_path("m"), MLXR_E_IO, "config.json");
    unlink(temp_path("m/config.json"));
    assert_int_equal(symlink("/dev/zero", temp_path("m/config.json")), 0);
    import_fails(temp_path("m"), MLXR_E_IO, "config.json");
    assert_int_equal(mkfifo(temp_path("pipe"), 0600), 0);
    import_fails(temp_path("pipe"), MLXR_E_FORMAT, "special file");
}

static void huge_files(void **state)
{
    put_model(temp_path("m"), 1);
    put_text(temp_path("m/README.md"), "x");
    assert_int_equal(truncate(temp_path("m/README.md"), (off_t)1 << 40), 0); /* passed over */
    import(NULL, temp_path("m"), "m", plain);
    put_text(temp_path("m/tokenizer.model"), "x");
    assert_int_equal(truncate(temp_path("m/tokenizer.model"), (off_t)1 << 40), 0);
    import_fails(temp_path("m"), MLXR_E_LIMIT, "tokenizer.model");
    unlink(temp_path("m/tokenizer.model"));
    assert_int_equal(truncate(temp_path("m/config.json"), (off_t)1 << 40), 0);
    import_fails(temp_path("m"), MLXR_E_LIMIT, "config.json");
}

static void odd_names(void **state)
{
    put_model(temp_path("m"), 1);
    put_text(temp_path("m/a\\b.md"), "x");
    put_text(temp_path("m/a\nb.md"), "x");
    put_text(temp_path("m/a\xff.md"), "x");
    put_text(temp_path("m/..md"), "x");
    import(NULL, temp_path("m"), "m", plain);
    assert_int_equal(n_findings(true), 0);
    put_text(temp_path("m/readme.md"), "x");
    put_text(temp_path("m/README.md"), "x");
    import_fails(temp_path("m"), MLXR_E_FORMAT, "case of letters");
}

static void not_models(void **state)
{
    import_fails(temp_path("nowhere"), MLXR_E_NOT_FOUND, "nowhere");
    mkdir(temp_path("empty"), 0755);
    import_fails(temp_path("empty"), MLXR_E_FORMAT, "no config.json");
    put_text(temp_path("empty/x.gguf"), "GGUF");
    import_fails(temp_path("empty"), MLXR_E_FORMAT, "x.gguf in it can be imported");
    put_text(temp_path("file"), "hello");
    import_fails(temp_path("file"), MLXR_E_FORMAT, "not a GGUF file");
    put_text(temp_path("empty/short.gguf"), "GGUF");
    import_fails(temp_path("empty/short.gguf"), MLXR_E_FORMAT, "short.gguf");
    put_model(temp_path("m"), 1);
    assert_fails(mlxr_store_import(NULL, store, temp_path("m"), "../m", NULL, NULL, &err),
                 MLXR_E_INVALID_ARGUMENT, "..", &err);
    {
        mlxr_store_import_options both = {.link = true, .copy = true};
        assert_fails(mlxr_store_import(NULL, store, temp_path("m"), "m", &both, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT, "exclude", &err);
    }
    assert_int_equal(n_blobs(), 0);
}

/* ---- GGUF ---- */

static void a_gguf_file(void **state)
{
    char digest[72], again[72], folder[72];
    mlxr_store_entry *e;
    size_t n;

    put_gguf(temp_path("x.bin")); /* known by what it holds */
    import(digest, temp_path("x.bin"), "g", plain);
    import(again, temp_path("x.bin"), "g2", copied);
    assert_string_equal(again, digest);
    assert_ok(mlxr_store_list(&e, &n, store, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(e[0].family, "llama");
    assert_string_equal(e[0].quantization, "f32");
    mlxr_store_entries_free(e, n);
    assert_int_equal(n_findings(true), 0);
    assert_int_equal(count_in(temp_path("store/sessions")), 0);
    /* the same as its conversion, imported as a folder */
    assert_ok(mlxr_gguf_import(temp_path("x.bin"), temp_path("converted"), NULL, &err), &err);
    import(folder, temp_path("converted"), "f", plain);
    assert_string_equal(folder, digest);
    assert_fails(mlxr_store_import(NULL, store, temp_path("x.bin"), "l", &linked, NULL, &err),
                 MLXR_E_UNSUPPORTED, "converted", &err);
    assert_int_equal(truncate(temp_path("x.bin"), 20000), 0);
    import_fails(temp_path("x.bin"), MLXR_E_FORMAT, "x.bin");
    assert_int_equal(count_in(temp_path("store/sessions")), 0);
}

/* ---- links ---- */

static void changed_links(void **state)
{
    const char *shard;
    char *view = NULL;
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;

    put_model(temp_path("m"), 1);
    import(NULL, temp_path("m"), "m", linked);
    assert_int_equal(n_findings(true), 0);
    shard = temp_path("m/model-00002-of-00002.safetensors");
    assert_int_equal(utimensat(AT_FDCWD, shard, times, 0), 0);
    assert_fails(mlxr_store_model_path(&view, store, "m", &err), MLXR_E_CORRUPT, "changed", &err);
    assert_int_equal(n_findings(false), 1);
    o.repair = true; /* its content is the same: its record is made anew */
    assert_ok(mlxr_store_verify(&r, store, NULL, 0, &o, NULL, &err), &err);
    assert_int_equal(r.n_bad, 1);
    assert_int_equal(r.n_repaired, 1);
    assert_int_equal(n_findings(true), 0);
    assert_ok(mlxr_store_model_path(&view, store, "m", &err), &err);
    mlxr_free(view);

    flip_bit(shard, 150, 3);
    {
        mlxr_buf before = {0}, after = {0};
        assert_ok(mlxr_file_read(&before, shard, 1 << 20, &err), &err);
        assert_ok(mlxr_store_verify(&r, store, NULL, 0, &o, NULL, &err), &err);
        assert_int_equal(r.n_bad, 1);
        assert_int_equal(r.n_repaired, 0);
        assert_ok(mlxr_file_read(&after, shard, 1 << 20, &err), &err); /* never written to */
        assert_memory_equal(before.data, after.data, before.len);
        mlxr_buf_clear(&before);
        mlxr_buf_clear(&after);
    }
    assert_int_equal(unlink(shard), 0);
    assert_int_equal(n_findings(false), 1);
}

/* ---- export ---- */

static void exported_folder(void **state)
{
    char digest[72], again[72];
    const char *const dirs[] = {"out", "deep/er/out", "empty", "slash/"};

    put_model(temp_path("m"), 1);
    mkdir(temp_path("m/additional_chat_templates"), 0755);
    put_text(temp_path("m/additional_chat_templates/tool.jinja"), "{{ tools }}");
    import(digest, temp_path("m"), "m", plain);
    mkdir(temp_path("empty"), 0755);
    for (size_t i = 0; i < MLXR_COUNT(dirs); i++) {
        struct stat sb;
        assert_ok(mlxr_store_export(store, "m", temp_path(dirs[i]), false, NULL, &err), &err);
        assert_same_file(in(temp_path(dirs[i]), "model-00001-of-00002.safetensors"),
                         temp_path("m/model-00001-of-00002.safetensors"));
        assert_int_equal(stat(in(temp_path(dirs[i]), "model-00001-of-00002.safetensors"), &sb), 0);
        assert_int_equal(sb.st_nlink, 1);
        assert_true(sb.st_mode & S_IWUSR);
        import(again, temp_path(dirs[i]), "again", plain);
        assert_string_equal(again, digest);
    }
    assert_fails(mlxr_store_export(store, "m", temp_path("out"), false, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "not empty", &err);
    put_text(temp_path("file"), "x");
    assert_fails(mlxr_store_export(store, "m", temp_path("file"), false, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "no folder", &err);
    assert_fails(mlxr_store_export(store, "none", temp_path("x"), false, NULL, &err), MLXR_E_NOT_FOUND,
                 "none", &err);
    assert_int_equal(symlink("elsewhere", temp_path("link")), 0);
    mkdir(temp_path("elsewhere"), 0755);
    assert_ok(mlxr_store_export(store, "m", temp_path("link"), false, NULL, &err), &err);
    assert_true(mlxr_path_is_file(temp_path("elsewhere/config.json")));
}

/* What is damaged does not leave the store as if it were whole, and leaves nothing half. */
static void damaged_export(void **state)
{
    size_t n;

    put_model(temp_path("m"), 1);
    import(NULL, temp_path("m"), "m", plain);
    flip_bit(temp_path("m/model-00002-of-00002.safetensors"), 200, 0); /* hard-linked, as a rule */
    if (n_findings(false) == 0) {
        print_message("SKIP: this file system clones files\n");
        return;
    }
    n = count_in(temp_path(""));
    assert_fails(mlxr_store_export(store, "m", temp_path("out"), false, NULL, &err), MLXR_E_CORRUPT,
                 "model-00002-of-00002.safetensors is damaged", &err);
    assert_int_equal(count_in(temp_path("")), n);
}

/* ---- OCI layouts ---- */

static int export_layout(void)
{
    put_model(temp_path("m"), 1);
    import(NULL, temp_path("m"), "team/m:v2", plain);
    assert_ok(mlxr_store_export(store, "team/m:v2", temp_path("oci"), true, NULL, &err), &err);
    return 0;
}

static void layout_round_trip(void **state)
{
    mlxr_store *other;
    mlxr_manifest m;
    char *digest = NULL;

    export_layout();
    assert_ok(mlxr_store_find(&m, NULL, store, "team/m:v2", &err), &err);
    assert_ok(mlxr_store_open(&other, temp_path("other"), NULL, &err), &err);
    assert_ok(mlxr_store_import(&digest, other, temp_path("oci"), "x", NULL, NULL, &err), &err);
    assert_string_equal(digest, m.digest);
    mlxr_manifest_clear(&m);
    mlxr_free(digest);
    mlxr_store_close(other);
    /* links into a layout are fine too */
    assert_ok(mlxr_store_open(&other, temp_path("third"), NULL, &err), &err);
    assert_ok(mlxr_store_import(NULL, other, temp_path("oci"), "x", &linked, NULL, &err), &err);
    mlxr_store_close(other);
    if (system("command -v skopeo >/dev/null 2>&1") == 0) {
        char command[1400];
        snprintf(command, sizeof command, "skopeo inspect --raw oci:%s:v2 | grep -q vnd.mlxr.model",
                 temp_path("oci"));
        assert_int_equal(system(command), 0);
    } else {
        print_message("SKIP: no skopeo to read the layout\n");
    }
}

/* Each blob of it damaged in turn, by a flipped bit, by being short, by being gone. */
static void layout_damage(void **state)
{
    char names[32][80];
    size_t n = 0;
    DIR *d;
    const struct dirent *e;
    mlxr_store *other;

    export_layout();
    assert_ok(mlxr_store_open(&other, temp_path("other"), NULL, &err), &err);
    d = opendir(temp_path("oci/blobs/sha256"));
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && n < 32) snprintf(names[n++], sizeof names[0], "%.70s", e->d_name);
    closedir(d);
    assert_int_equal(n, 9); /* seven files, config and manifest */
    for (size_t i = 0; i < n; i++) {
        const char *blob = in(temp_path("oci/blobs/sha256"), names[i]);
        struct stat sb;
        assert_int_equal(stat(blob, &sb), 0);
        flip_bit(blob, (uint64_t)sb.st_size / 2, 1);
        assert_fails(mlxr_store_import(NULL, other, temp_path("oci"), "x", NULL, NULL, &err), MLXR_E_CORRUPT,
                     "digest", &err);
        flip_bit(blob, (uint64_t)sb.st_size / 2, 1);
        assert_int_equal(truncate(blob, sb.st_size + 1), 0);
        assert_fails(mlxr_store_import(NULL, other, temp_path("oci"), "x", NULL, NULL, &err), MLXR_E_CORRUPT,
                     "bytes", &err);
        assert_int_equal(truncate(blob, sb.st_size), 0);
        assert_int_equal(rename(blob, temp_path("aside")), 0);
        assert_true(mlxr_store_import(NULL, other, temp_path("oci"), "x", NULL, NULL, &err) != MLXR_OK);
        assert_int_equal(rename(temp_path("aside"), blob), 0);
    }
    assert_int_equal(count_in(temp_path("other/blobs/sha256")), 0);
    assert_ok(mlxr_store_import(NULL, other, temp_path("oci"), "x", NULL, NULL, &err), &err);
    mlxr_store_close(other);
}

static void layout_indexes(void **state)
{
    mlxr_buf index = {0};
    mlxr_store *other;
    mlxr_manifest m;
    char text[4096], hex[65];
    size_t n;

    export_layout();
    assert_ok(mlxr_store_open(&other, temp_path("other"), NULL, &err), &err);
    assert_ok(mlxr_store_find(&m, NULL, store, "team/m:v2", &err), &err);
    n = m.n_text;
#define TRY(status, words)                                                                                  \
    assert_fails(mlxr_store_import(NULL, other, temp_path("oci"), "x:v2", NULL, NULL, &err), status, words, \
                 &err)
    put_text(temp_path("oci/index.json"), "{\"manifests\": []}");
    TRY(MLXR_E_NOT_FOUND, "lists no model");
    put_text(temp_path("oci/index.json"), "{}");
    TRY(MLXR_E_FORMAT, "manifests");
    put_text(temp_path("oci/index.json"), "[");
    TRY(MLXR_E_FORMAT, "index.json");
    put_text(temp_path("oci/index.json"), "{\"manifests\": [{\"digest\": \"sha256:../../x\", \"size\": 3}]}");
    TRY(MLXR_E_FORMAT, "digest");
    put_text(temp_path("oci/index.json"),
             "{\"manifests\": [{\"mediaType\": \"application/x\", \"digest\": "
             "\"sha256:"
             "0000000000000000000000000000000000000000000000000000000000000000\", "
             "\"size\": 3}]}");
    TRY(MLXR_E_NOT_FOUND, "lists no model");
    /* two, told apart by the tag */
    snprintf(text, sizeof text,
             "{\"manifests\": [{\"digest\": \"%s\", \"size\": %zu, \"annotations\": "
             "{\"org.opencontainers.image.ref.name\": \"reg/m:v2\"}}, {\"digest\": "
             "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\", \"size\": 3, "
             "\"annotations\": {\"org.opencontainers.image.ref.name\": \"v3\"}}]}",
             m.digest, n);
    put_text(temp_path("oci/index.json"), text);
    assert_ok(mlxr_store_import(NULL, other, temp_path("oci"), "x:v2", NULL, NULL, &err), &err);
    assert_fails(mlxr_store_import(NULL, other, temp_path("oci"), "x:v4", NULL, NULL, &err),
                 MLXR_E_INVALID_ARGUMENT, "reg/m:v2, v3", &err);
    /* within another index, and an index too deep in itself cannot be, but many levels can */
    mlxr_buf_str(&index, text);
    for (int depth = 0; depth < 6; depth++) {
        assert_ok(mlxr_sha256_hex(hex, index.data, index.len, &err), &err);
        put_bytes(in(temp_path("oci/blobs/sha256"), hex), index.data, index.len);
        snprintf(text, sizeof text,
                 "{\"manifests\": [{\"mediaType\": \"" MLXR_MEDIA_INDEX
                 "\", \"digest\": \"sha256:%s\", \"size\": %zu}]}",
                 hex, index.len);
        index.len = 0;
        mlxr_buf_str(&index, text);
        put_text(temp_path("oci/index.json"), text);
        if (depth < 4)
            assert_ok(mlxr_store_import(NULL, other, temp_path("oci"), "x:v2", NULL, NULL, &err), &err);
        else
            TRY(MLXR_E_LIMIT, "deep");
    }
    put_text(temp_path("oci/oci-layout"), "{\"imageLayoutVersion\": \"2.0.0\"}");
    TRY(MLXR_E_UNSUPPORTED, "2.0.0");
    mlxr_buf_clear(&index);
    mlxr_manifest_clear(&m);
    mlxr_store_close(other);
}

/* ---- calls that are stopped ---- */

static int cancel;
static void cancel_at(const mlxr_store_step *step, void *ud)
{
    if (strcmp(step->what, ud) == 0) __atomic_store_n(&cancel, 1, __ATOMIC_RELAXED);
}

static void cancelled(void **state)
{
    static const char *const at[] = {"hashing", "copying", "converting"};

    put_model(temp_path("m"), 1);
    put_gguf(temp_path("g"));
    for (size_t i = 0; i < 3; i++) {
        mlxr_store_job job = {.on_step = cancel_at, .ud = (void *)(uintptr_t)at[i], .cancel = &cancel};
        cancel = 0;
        assert_fails(mlxr_store_import(NULL, store, temp_path(i < 2 ? "m" : "g"), "m", NULL, &job, &err),
                     MLXR_E_CANCELLED, "", &err);
        assert_int_equal(count_in(temp_path("store/sessions")), 0);
        assert_fails(mlxr_store_remove(store, "m", NULL, &err), MLXR_E_NOT_FOUND, "", &err);
    }
    import(NULL, temp_path("m"), "m", plain);
    for (size_t i = 0; i < 2; i++) {
        mlxr_store_job job = {.on_step = cancel_at, .ud = (char[]){"exporting"}, .cancel = &cancel};
        cancel = 0;
        assert_fails(mlxr_store_export(store, "m", temp_path("out"), i, &job, &err), MLXR_E_CANCELLED, "",
                     &err);
        assert_false(mlxr_path_is_dir(temp_path("out")));
    }
}

static void over_quota(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *small;

    o.quota_bytes = 700;
    put_model(temp_path("m"), 1);
    assert_ok(mlxr_store_open(&small, temp_path("small"), &o, &err), &err);
    assert_fails(mlxr_store_import(NULL, small, temp_path("m"), "m", NULL, NULL, &err), MLXR_E_NO_SPACE,
                 "quota", &err);
    assert_int_equal(count_in(temp_path("small/blobs/sha256")), 0);
    mlxr_store_close(small);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {T(a_folder),
                                       T(what_is_shared),
                                       T(a_fixture),
                                       T(shared_models),
                                       T(a_cache_snapshot),
                                       T(stale_index),
                                       T(link_gives_way),
                                       T(broken_texts),
                                       T(huge_files),
                                       T(missing_and_short_shards),
                                       T(odd_names),
                                       T(not_models),
                                       T(changed_links),
                                       T(cancelled),
                                       T(links_that_lead_nowhere),
                                       T(exported_folder),
                                       T(damaged_export),
                                       T(layout_round_trip),
                                       T(layout_damage),
                                       T(layout_indexes),
                                       T(over_quota),
                                       T(a_gguf_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
