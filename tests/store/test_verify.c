/* What verify finds: a flipped bit anywhere, named by file and tensor; files that are missing, short, or something else; manifests. */
#include "store/bring.h"
#include "store/folder.h"

static mlxr_error err;
static mlxr_store *store;

/* ---- a model, and what is said of it ---- */

/* Tensors of whole parts of the sums and small ones between them; 4 KiB to a part. */
static const tensor_spec specs[] = {{"big.weight", MLXR_F32, {64, 64}},
                                    {"big.bias", MLXR_F32, {16}},
                                    {"middle.weight", MLXR_F16, {32, 128}},
                                    {"norm.weight", MLXR_F32, {8}},
                                    {"last.weight", MLXR_F32, {160, 100}}};

static int set_up(void **state)
{
    mlxr_store_import_options copy = {.copy = true};

    if (temp_dir_make(state) != 0) return -1;
    if (mlxr_store_open(&store, temp_path("store"), NULL, &err) != MLXR_OK) return -1;
    mkdir(temp_path("m"), 0755);
    put_text(temp_path("m/config.json"), "{\"model_type\": \"llama\", \"max_position_embeddings\": 128}");
    put_text(temp_path("m/tokenizer.json"),
             "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}");
    put_text(temp_path("m/chat_template.jinja"), "{{ messages }}");
    put_text(temp_path("m/LICENSE"), "As you like.\n");
    put_tensors(temp_path("m/model.safetensors"), specs, MLXR_COUNT(specs), 5);
    if (mlxr_store_import(NULL, store, temp_path("m"), "m", &copy, NULL, &err) == MLXR_OK) return 0;
    fprintf(stderr, "%s\n", err.message);
    return -1;
}

static int tear_down(void **state)
{
    mlxr_store_close(store);
    return temp_dir_remove(state);
}

typedef struct finding {
    char name[64], file[128], tensor[512], text[1024];
    bool has_tensor, repaired;
} finding;
static finding found[64];
static size_t n_found;

static void on_finding(const char *name, const char *file, const char *tensor, const char *text,
                       bool repaired, void *ud)
{
    finding *f = &found[n_found < 63 ? n_found : 63];

    n_found++;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->file, sizeof f->file, "%s", file);
    snprintf(f->tensor, sizeof f->tensor, "%s", tensor ? tensor : "");
    snprintf(f->text, sizeof f->text, "%s", text);
    f->has_tensor = tensor != NULL;
    f->repaired = repaired;
    assert_null(strchr(text, '\n'));
}

static mlxr_store_verify_result verify(bool deep, bool repair)
{
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;

    o.deep = deep;
    o.repair = repair;
    o.on_finding = on_finding;
    n_found = 0;
    assert_ok(mlxr_store_verify(&r, store, NULL, 0, &o, NULL, &err), &err);
    assert_int_equal(r.n_bad, n_found);
    return r;
}

static const char *blob_of(const char *title)
{
    static char path[1200];
    mlxr_manifest m;
    const mlxr_layer *l;

    assert_ok(mlxr_store_find(&m, NULL, store, "m", &err), &err);
    l = title ? mlxr_manifest_find(&m, title) : &m.config;
    assert_non_null(l);
    snprintf(path, sizeof path, "%s/blobs/sha256/%s", temp_path("store"), l->digest + 7);
    mlxr_manifest_clear(&m);
    return path;
}

static const char *const manifest_file = "store/manifests/huggingface.co/library/m/latest";

static uint64_t size_of(const char *path)
{
    struct stat sb;
    assert_int_equal(stat(path, &sb), 0);
    return (uint64_t)sb.st_size;
}

/* ---- flipped bits ---- */

static void nothing_to_find(void **state)
{
    mlxr_store_verify_result r = verify(true, false);

    assert_int_equal(r.n_bad, 0);
    assert_int_equal(r.n_models, 1);
    assert_int_equal(r.n_files, 6);
    assert_true(r.read_bytes > 80000);
    r = verify(false, false);
    assert_int_equal(r.n_bad, 0);
    assert_int_equal(r.read_bytes, 0);
}

static void each_file(void **state)
{
    static const char *const titles[] = {"config.json", "tokenizer.json", "chat_template.jinja", "LICENSE",
                                         NULL};

    for (size_t i = 0; i < MLXR_COUNT(titles); i++) {
        const char *blob = blob_of(titles[i]);
        uint64_t n = size_of(blob);
        for (uint64_t at = 0; at < n; at++) {
            if (at > 3 && at + 3 < n && at % 7) continue;
            flip_bit(blob, at, at % 8);
            verify(true, false);
            assert_int_equal(n_found, 1);
            assert_string_equal(found[0].name, "m:latest");
            assert_string_equal(found[0].file, titles[i] ? titles[i] : "(config)");
            assert_false(found[0].has_tensor);
            assert_non_null(strstr(found[0].text, "damaged"));
            flip_bit(blob, at, at % 8);
        }
    }
    assert_int_equal(verify(true, false).n_bad, 0);
}

/* The tensor that holds the byte is named; of a byte in the header, that. */
static void each_tensor(void **state)
{
    const char *blob = blob_of("model.safetensors");
    const uint64_t size = size_of(blob);
    mlxr_checkpoint *c = NULL;
    uint64_t n_header = 0;
    int fd = open(blob, O_RDONLY);

    assert_int_equal(pread(fd, &n_header, 8, 0), 8);
    close(fd);
    n_header += 8;
    assert_ok(mlxr_checkpoint_open_file(&c, temp_path("m/model.safetensors"), &err), &err);
    for (uint64_t at = 0; at < size; at += at < n_header + 8 ? 3 : 509) {
        const uint8_t *first = mlxr_checkpoint_get(c, 0)->data;
        flip_bit(blob, at, at % 8);
        verify(true, false);
        assert_int_equal(n_found, 1);
        assert_string_equal(found[0].file, "model.safetensors");
        if (at < n_header) {
            assert_non_null(strstr(found[0].text, "header"));
        } else {
            size_t i = 0;
            while ((uint64_t)((const uint8_t *)mlxr_checkpoint_get(c, i)->data - first) +
                       mlxr_checkpoint_get(c, i)->n_bytes <=
                   at - n_header)
                i++;
            assert_non_null(strstr(found[0].tensor, mlxr_checkpoint_get(c, i)->name));
            if (at > n_header + 4096 && at < n_header + 2 * 4096) /* a part within one tensor */
                assert_string_equal(found[0].tensor, "big.weight");
        }
        flip_bit(blob, at, at % 8);
    }
    mlxr_checkpoint_close(c);
    assert_int_equal(verify(true, false).n_bad, 0);
}

/* Each byte of the manifest: one that can still be read is found as well. */
static void each_byte_of_the_manifest(void **state)
{
    const char *path = temp_path(manifest_file);
    const uint64_t n = size_of(path);

    for (uint64_t at = 0; at < n; at += 2) {
        flip_bit(path, at, at % 7);
        verify(true, false);
        assert_true(n_found >= 1);
        assert_string_equal(found[n_found - 1].name, "m:latest");
        for (size_t i = 0; i <= n_found; i++) {
            assert_true(i < n_found);
            if (strcmp(found[i].file, "(manifest)") == 0) break;
        }
        flip_bit(path, at, at % 7);
    }
    assert_int_equal(verify(true, false).n_bad, 0);
    /* without what is remembered of it there is only what can be read */
    remove_tree(temp_path("store/sums/manifests"));
    assert_int_equal(verify(true, false).n_bad, 0);
}

static void several_places(void **state)
{
    const char *blob = blob_of("model.safetensors");
    const uint64_t size = size_of(blob);

    flip_bit(blob, 3 * 4096, 0);
    flip_bit(blob, size - 1, 0);
    verify(true, false);
    assert_int_equal(n_found, 1);
    assert_non_null(strstr(found[0].tensor, "big.weight"));
    assert_non_null(strstr(found[0].tensor, "last.weight"));
    assert_non_null(strstr(found[0].text, "2 places"));
    remove_tree(temp_path("store/sums/sha256")); /* then only that it is wrong is known */
    verify(true, false);
    assert_int_equal(n_found, 1);
    assert_false(found[0].has_tensor);
    assert_non_null(strstr(found[0].text, "not known"));
}

/* ---- without reading all ---- */

static void cheap(void **state)
{
    const char *blob = blob_of("model.safetensors");

    flip_bit(blob, 8, 0); /* the header does not begin with a brace */
    verify(false, false);
    assert_int_equal(n_found, 1);
    assert_string_equal(found[0].file, "model.safetensors");
    assert_null(strstr(found[0].text, temp_path("")));
    flip_bit(blob, 8, 0);
    flip_bit(blob, size_of(blob) - 9, 0); /* inside a tensor: not looked at */
    assert_int_equal(verify(false, false).n_bad, 0);
    assert_int_equal(verify(true, false).n_bad, 1);
    flip_bit(blob_of("tokenizer.json"), 0, 0);
    verify(false, false);
    assert_int_equal(n_found, 1);
    assert_string_equal(found[0].file, "tokenizer.json");
    flip_bit(blob_of(NULL), 0, 0);
    verify(false, false);
    assert_int_equal(n_found, 2);
    assert_string_equal(found[1].file, "(config)");
}

static void sizes(void **state)
{
    const char *blob = blob_of("model.safetensors");
    const off_t size = (off_t)size_of(blob);

    (void)chmod(blob, 0644);
    for (int deep = 0; deep < 2; deep++) {
        assert_int_equal(truncate(blob, size - 1), 0);
        verify(deep, false);
        assert_int_equal(n_found, 1);
        assert_string_equal(found[0].file, "model.safetensors");
        assert_non_null(strstr(found[0].text, "wanted"));
        assert_int_equal(truncate(blob, 0), 0);
        assert_int_equal(verify(deep, false).n_bad, 1);
        assert_int_equal(truncate(blob, size + 1), 0);
        assert_int_equal(verify(deep, false).n_bad, 1);
    }
    assert_int_equal(unlink(blob), 0);
    verify(true, false);
    assert_int_equal(n_found, 1);
    assert_string_equal(found[0].text, "is missing");
    assert_int_equal(mkdir(blob, 0755), 0);
    assert_int_equal(verify(true, false).n_bad, 1);
    assert_int_equal(rmdir(blob), 0);
    assert_int_equal(symlink("/dev/zero", blob), 0); /* a link that nobody wrote down */
    assert_int_equal(verify(true, false).n_bad, 1);
    assert_int_equal(unlink(blob), 0);
    assert_int_equal(mkfifo(blob, 0600), 0);
    assert_int_equal(verify(true, false).n_bad, 1);
}

/* A model that is whole by its digests but none that can be opened, as another tool might have pushed it. */
static void wrong_from_the_start(void **state)
{
    static const char config[] = "{\"mlxr\":1,\"family\":\"llama\"}", other[] = "not JSON";
    char media_file[] = MLXR_MEDIA_FILE, media_config[] = MLXR_MEDIA_CONFIG;
    mlxr_layer layers[2] = {{.path = (char[]){"config.json"}},
                            {.path = (char[]){"model.safetensors.index.json"}}},
               c = {0};
    mlxr_session *s;
    mlxr_manifest m;
    mlxr_name name;

    assert_ok(mlxr_session_begin(&s, store, &err), &err);
    assert_ok(mlxr_session_put(s, &c, config, sizeof config - 1, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(mlxr_session_put(s, &layers[i], other, sizeof other - 1, &err), &err);
        layers[i].media_type = media_file;
    }
    c.media_type = media_config;
    assert_ok(mlxr_manifest_make(&m, &c, layers, 2, NULL, &err), &err);
    assert_ok(mlxr_name_parse(&name, "bad", &err), &err);
    assert_ok(mlxr_session_name(s, &name, &m, &err), &err);
    mlxr_session_end(s);
    mlxr_manifest_clear(&m);
    for (int repair = 0; repair < 2; repair++) {
        verify(true, repair);
        assert_int_equal(n_found, 3); /* config.json, the index, no weights */
        for (size_t i = 0; i < 3; i++) {
            assert_string_equal(found[i].name, "bad:latest");
            assert_false(found[i].repaired);
        }
    }
}

/* ---- manifests ---- */

static void unreadable_manifests(void **state)
{
    put_text(temp_path(manifest_file), "{}");
    verify(true, false);
    assert_int_equal(n_found, 1);
    assert_string_equal(found[0].file, "(manifest)");
    put_text(temp_path(manifest_file), "");
    assert_int_equal(verify(false, false).n_bad, 1);
    {
        const char *const names[] = {"m"};
        mlxr_store_verify_result r;
        assert_ok(mlxr_store_verify(&r, store, names, 1, NULL, NULL, &err), &err);
        assert_int_equal(r.n_bad, 1);
        assert_fails(mlxr_store_verify(&r, store, (const char *const[]){"none"}, 1, NULL, NULL, &err),
                     MLXR_E_NOT_FOUND, "none", &err);
    }
}

/* ---- several models ---- */

static void shared_files(void **state)
{
    mlxr_store_verify_result one = verify(true, false), both;

    assert_ok(mlxr_store_copy(store, "m", "n", &err), &err);
    both = verify(true, false);
    assert_int_equal(both.n_models, 2);
    assert_int_equal(both.n_files, one.n_files);
    assert_int_equal(both.read_bytes, one.read_bytes); /* read once */
    flip_bit(blob_of("LICENSE"), 1, 1);
    verify(true, false);
    assert_int_equal(n_found, 2); /* told of both */
    assert_string_equal(found[0].name, "m:latest");
    assert_string_equal(found[1].name, "n:latest");
    {
        const char *const names[] = {"n", "N", "n:latest"};
        mlxr_store_verify_options o = mlxr_store_verify_options_default();
        mlxr_store_verify_result r;
        o.deep = true;
        assert_ok(mlxr_store_verify(&r, store, names, 3, &o, NULL, &err), &err);
        assert_int_equal(r.n_models, 1);
        assert_int_equal(r.n_bad, 1);
    }
}

static void an_empty_store(void **state)
{
    mlxr_store_verify_result r;
    mlxr_store *none;

    assert_ok(mlxr_store_open(&none, temp_path("none"), NULL, &err), &err);
    assert_ok(mlxr_store_verify(&r, none, NULL, 0, NULL, NULL, &err), &err);
    assert_int_equal(r.n_models, 0);
    assert_false(mlxr_path_is_dir(temp_path("none")));
    mlxr_store_close(none);
}

/* ---- repairs that cannot be ---- */

static void nowhere_to_fetch_from(void **state)
{
    flip_bit(blob_of("model.safetensors"), 5000, 0);
    assert_int_equal(verify(true, true).n_repaired, 0);
    assert_int_equal(n_found, 1);
    assert_false(found[0].repaired);
    assert_non_null(strstr(found[0].text, "not repaired"));
    flip_bit(blob_of("model.safetensors"), 5000, 0);
    flip_bit(blob_of("tokenizer.json"), 0, 0); /* found without deep, then read */
    assert_int_equal(verify(false, true).n_repaired, 0);
    assert_int_equal(n_found, 1);
    assert_non_null(strstr(found[0].text, "damaged"));
    assert_non_null(strstr(found[0].text, "not repaired"));
}

/* Importing the model again does it. */
static void imported_again(void **state)
{
    mlxr_store_import_options copy = {.copy = true};

    assert_int_equal(unlink(blob_of("model.safetensors")), 0);
    assert_int_equal(verify(true, false).n_bad, 1);
    assert_ok(mlxr_store_import(NULL, store, temp_path("m"), "m", &copy, NULL, &err), &err);
    assert_int_equal(verify(true, false).n_bad, 0);
}

static void views(void **state)
{
    char *view = NULL;

    assert_ok(mlxr_store_model_path(&view, store, "m", &err), &err);
    assert_int_equal(unlink(in(view, "config.json")), 0);
    put_text(in(view, "config.json"), "{}");
    assert_int_equal(verify(true, false).n_bad, 0);
    assert_true(size_of(in(view, "config.json")) > 2);
    mlxr_free(view);
}

static int cancel;
static uint64_t last;
static void on_step(const mlxr_store_step *step, void *ud)
{
    assert_string_equal(step->what, "verifying");
    assert_true(step->done_all >= last && step->done_all <= step->total_all);
    last = step->done_all;
    __atomic_store_n(&cancel, *(int *)ud, __ATOMIC_RELAXED);
}

static void told_and_stopped(void **state)
{
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result r;
    int stop = 0;
    mlxr_store_job job = {.on_step = on_step, .ud = &stop, .cancel = &cancel};

    o.deep = true;
    assert_ok(mlxr_store_verify(&r, store, NULL, 0, &o, &job, &err), &err);
    assert_int_equal(last, r.read_bytes);
    stop = 1;
    last = 0;
    assert_fails(mlxr_store_verify(&r, store, NULL, 0, &o, &job, &err), MLXR_E_CANCELLED, "cancelled", &err);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(nothing_to_find),      T(each_file),    T(each_tensor),     T(each_byte_of_the_manifest),
        T(several_places),       T(cheap),        T(sizes),           T(wrong_from_the_start),
        T(unreadable_manifests), T(shared_files), T(an_empty_store),  T(nowhere_to_fetch_from),
        T(imported_again),       T(views),        T(told_and_stopped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
