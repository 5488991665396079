/* Models made by recipes: what they share with their base, what they have of their own, what is inherited; the same digest each time; and a
 * store that is as it was when something is wrong, or fails anywhere on the way. */
#include "convert/convert.h"

#include <errno.h>

#include "store/folder.h"

#define ADAPTER MLXR_TEST_DIR "/fixtures/adapters/lora_quantized"
#define TINY    MLXR_SOURCE_DIR "/tests/runner/fixtures/tiny_chat"

static mlxr_error err;
static mlxr_store *store;

static int begin(void **state)
{
    mlxr_store_import_options copy = mlxr_store_import_options_default();

    if (temp_dir_make(state) != 0) return -1;
    copy.copy = true;
    assert_ok(mlxr_store_open(&store, temp_path("s"), NULL, &err), &err);
    assert_ok(mlxr_store_import(NULL, store, TINY, "tiny", &copy, NULL, &err), &err);
    return 0;
}

static int end(void **state)
{
    mlxr_store_close(store);
    store = NULL;
    return temp_dir_remove(state);
}

/* A model by a recipe's text; *digest (may be NULL) is freed and set. */
static mlxr_status create_in(mlxr_store *s, char digest[72], const char *name, const char *yaml,
                             const mlxr_create_options *given)
{
    mlxr_create_options options = given ? *given : (mlxr_create_options){0};
    mlxr_recipe r;
    char *made = NULL;
    mlxr_status st = strncmp(yaml, "FROM", 4) == 0
                         ? mlxr_modelfile_parse(&r, yaml, strlen(yaml), "Modelfile", &err)
                         : mlxr_recipe_parse(&r, yaml, strlen(yaml), "r.yaml", &err);

    assert_ok(st, &err);
    if (!options.recipe_dir) options.recipe_dir = temp_dir;
    st = mlxr_create(&made, s, name, &r, &options, &err);
    assert_int_equal(st == MLXR_OK, made != NULL);
    if (digest) snprintf(digest, 72, "%s", made ? made : "");
    mlxr_free(made);
    mlxr_recipe_clear(&r);
    return st;
}

static mlxr_status create(const char *name, const char *yaml)
{
    return create_in(store, NULL, name, yaml, NULL);
}

static mlxr_manifest manifest_of(const char *name)
{
    mlxr_manifest m;
    assert_ok(mlxr_store_find(&m, NULL, store, name, &err), &err);
    return m;
}

/* Text of a file of a model; free it. NULL: it has none. */
static char *file_of(const char *name, const char *path)
{
    char *dir, *whole;
    mlxr_buf text = {0};
    mlxr_status st;

    assert_ok(mlxr_store_model_path(&dir, store, name, &err), &err);
    whole = mlxr_path_join(dir, path);
    st = mlxr_file_read(&text, whole, 1 << 20, NULL);
    free(whole);
    mlxr_free(dir);
    if (st == MLXR_E_NOT_FOUND) return NULL;
    assert_int_equal(st, MLXR_OK);
    return mlxr_buf_take(&text, NULL);
}

static json_t *settings_of(const char *name)
{
    char *text = file_of(name, "mlxr.json");
    json_t *doc;

    if (!text) return NULL;
    assert_ok(mlxr_json_parse(&doc, text, strlen(text), "mlxr.json", &err), &err);
    free(text);
    return doc;
}

/* Whether both have the file with the same bytes. */
static bool same_file(const mlxr_manifest *a, const mlxr_manifest *b, const char *path)
{
    const mlxr_layer *x = mlxr_manifest_find(a, path), *y = mlxr_manifest_find(b, path);
    return x && y && strcmp(x->digest, y->digest) == 0;
}

static mlxr_description description_of(const mlxr_manifest *m)
{
    char *path = mlxr_store_blob_path(store, m->config.digest);
    mlxr_buf text = {0};
    mlxr_description d;

    assert_ok(mlxr_file_read(&text, path, 1 << 20, &err), &err);
    assert_ok(mlxr_description_parse(&d, text.data, text.len, "config", &err), &err);
    mlxr_buf_clear(&text);
    free(path);
    return d;
}

/* ---- what is made ---- */

static void the_rest_is_shared(void **state)
{
    static const char yaml[] =
        "base: tiny\nsystem: Be brief.\ndefaults: {temperature: 0.5}\nmetadata: {a: b}\n";
    mlxr_manifest base, made;
    mlxr_description d;
    mlxr_store *other;
    char first[72], second[72];
    json_t *doc;

    (void)state;
    assert_ok(create_in(store, first, "a", yaml, NULL), &err);
    assert_ok(create_in(store, second, "b", yaml, NULL), &err);
    assert_string_equal(first, second);
    base = manifest_of("tiny");
    made = manifest_of("a");
    assert_string_equal(made.digest, first);
    assert_int_equal(made.n_layers, base.n_layers + 1);
    for (size_t i = 0; i < base.n_layers; i++) assert_true(same_file(&base, &made, base.layers[i].path));
    assert_string_equal(mlxr_manifest_find(&made, "mlxr.json")->media_type, MLXR_MEDIA_RECIPE);
    d = description_of(&made);
    assert_string_equal(d.base, base.digest);
    assert_string_equal(d.family, "llama");
    mlxr_description_clear(&d);
    doc = settings_of("a");
    assert_string_equal(json_string_value(json_object_get(doc, "system")), "Be brief.");
    assert_float_equal(json_real_value(json_object_get(json_object_get(doc, "parameters"), "temperature")),
                       0.5, 0);
    json_decref(doc);

    /* The same in another store that has the same base, and in one that only looks there. */
    assert_ok(mlxr_store_open(&other, temp_path("other"), NULL, &err), &err);
    assert_ok(create_in(other, second, "c", yaml, &(mlxr_create_options){.bases = store}), &err);
    assert_string_equal(first, second);
    mlxr_store_close(other);
    mlxr_manifest_clear(&base);
    mlxr_manifest_clear(&made);
}

static void what_a_created_base_says_is_inherited(void **state)
{
    json_t *doc;
    const json_t *p;

    (void)state;
    assert_ok(create("a", "base: tiny\nsystem: A\ndefaults: {temperature: 0.5, max_tokens: 9, stop: "
                          "[x]}\nmetadata: {a: b, c: d}\n"
                          "messages: [{role: user, content: one}]\n"),
              &err);
    assert_ok(create("b", "FROM a\nPARAMETER num_predict 4\nPARAMETER top_k 3\nMESSAGE user two\n"), &err);
    doc = settings_of("b");
    p = json_object_get(doc, "parameters");
    assert_string_equal(json_string_value(json_object_get(doc, "system")), "A");
    assert_int_equal(json_object_size(p), 4);
    assert_int_equal(json_integer_value(json_object_get(p, "num_predict")), 4);
    assert_null(json_object_get(p, "max_tokens")); /* the same thing by another name */
    assert_int_equal(json_integer_value(json_object_get(p, "top_k")), 3);
    assert_int_equal(json_array_size(json_object_get(doc, "messages")), 1);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(doc, "messages"), 0), "content")),
        "two");
    json_decref(doc);
    assert_ok(create("c", "base: b\nsystem: ''\nmetadata: {c: e}\n"), &err);
    doc = settings_of("c");
    assert_string_equal(json_string_value(json_object_get(doc, "system")), "");
    assert_string_equal(json_string_value(json_object_get(json_object_get(doc, "metadata"), "a")), "b");
    assert_string_equal(json_string_value(json_object_get(json_object_get(doc, "metadata"), "c")), "e");
    json_decref(doc);
}

static void from_a_folder(void **state)
{
    mlxr_manifest base, made;
    mlxr_description d;

    (void)state;
    assert_ok(create("a", "base: {path: " TINY "}\nsystem: A\n"), &err);
    base = manifest_of("tiny");
    made = manifest_of("a");
    for (size_t i = 0; i < base.n_layers; i++) assert_true(same_file(&base, &made, base.layers[i].path));
    d = description_of(&made);
    assert_null(d.base);
    mlxr_description_clear(&d);
    mlxr_manifest_clear(&made);
    mlxr_manifest_clear(&base);
    assert_ok(create("b", "base: a\nname: other/name\n"), &err); /* nothing changes but the name */
    assert_ok(create(NULL, "base: a\nname: other/name\nversion: 1.10\n"), &err);
    made = manifest_of("other/name:1.10");
    assert_string_equal(
        json_string_value(json_object_get(made.annotations, "org.opencontainers.image.version")), "1.10");
    mlxr_manifest_clear(&made);
}

static void templates(void **state)
{
    char *text;

    (void)state;
    assert_ok(create("a", "base: tiny\ntemplate: \"{% for m in messages %}{{ m.content }}{% endfor %}\"\n"),
              &err);
    text = file_of("a", "chat_template.jinja");
    assert_string_equal(text, "{% for m in messages %}{{ m.content }}{% endfor %}");
    free(text);
    put_text(temp_path("t.jinja"), "{{ messages[0].content }}");
    assert_ok(create("a", "base: a\ntemplate: t.jinja\n"), &err);
    text = file_of("a", "chat_template.jinja");
    assert_string_equal(text, "{{ messages[0].content }}");
    free(text);
    put_text(temp_path("t.jinja"), "{% for %}");
    assert_fails(create("a", "base: a\ntemplate: t.jinja\n"), MLXR_E_TEMPLATE, "t.jinja", &err);
    assert_fails(create("a", "base: a\ntemplate: none.jinja\n"), MLXR_E_NOT_FOUND, "none.jinja", &err);
    text = file_of("a", "chat_template.jinja");
    assert_string_equal(text, "{{ messages[0].content }}"); /* as it was */
    free(text);
}

static void tokenizers(void **state)
{
    mlxr_manifest base = manifest_of("tiny"), made;
    mlxr_buf text = {0};

    (void)state;
    assert_int_equal(mkdir(temp_path("tok"), 0755), 0);
    assert_ok(mlxr_file_read(&text, TINY "/tokenizer.json", 1 << 20, &err), &err);
    mlxr_buf_char(&text, '\n');
    put_text(temp_path("tok/tokenizer.json"), text.data);
    put_text(temp_path("tok/special_tokens_map.json"), "{}");
    put_text(temp_path("tok/other.json"), "{}");
    assert_ok(create("a", "base: tiny\ntokenizer: ./tok\n"), &err);
    made = manifest_of("a");
    assert_false(same_file(&base, &made, "tokenizer.json"));
    assert_true(same_file(&base, &made, "tokenizer_config.json"));
    assert_true(same_file(&base, &made, "model.safetensors"));
    assert_non_null(mlxr_manifest_find(&made, "special_tokens_map.json"));
    assert_null(mlxr_manifest_find(&made, "other.json"));
    mlxr_manifest_clear(&made);
    assert_ok(create("b", "base: tiny\ntokenizer: tok/tokenizer.json\n"), &err);
    made = manifest_of("b");
    assert_int_equal(made.n_layers, base.n_layers);
    assert_false(same_file(&base, &made, "tokenizer.json"));
    mlxr_manifest_clear(&made);
    put_text(temp_path("tok/tokenizer.json"), "{}");
    assert_fails(create("c", "base: tiny\ntokenizer: ./tok\n"), MLXR_E_FORMAT, "recipe: the tokenizer", &err);
    assert_fails(create("c", "base: tiny\ntokenizer: tok/other.json\n"), MLXR_E_FORMAT,
                 "no file of a tokenizer", &err);
    assert_fails(create("c", "base: tiny\ntokenizer: none\n"), MLXR_E_NOT_FOUND,
                 "there is no such folder or file", &err);
    assert_int_equal(mkdir(temp_path("empty"), 0755), 0);
    assert_fails(create("c", "base: tiny\ntokenizer: empty\n"), MLXR_E_NOT_FOUND, "has no tokenizer.json",
                 &err);
    mlxr_manifest_clear(&base);
    mlxr_buf_clear(&text);
}

static void licences(void **state)
{
    char *text;
    mlxr_manifest m;

    (void)state;
    assert_ok(create("a", "base: tiny\nlicense: [one, two, one]\n"), &err);
    assert_ok(create("b", "base: a\nlicense: [three, two]\n"), &err);
    m = manifest_of("b");
    text = file_of("b", "LICENSE");
    assert_string_equal(text, "one");
    free(text);
    text = file_of("b", "LICENSE-2");
    assert_string_equal(text, "two");
    free(text);
    text = file_of("b", "LICENSE-3");
    assert_string_equal(text, "three");
    free(text);
    assert_null(mlxr_manifest_find(&m, "LICENSE-4"));
    assert_string_equal(mlxr_manifest_find(&m, "LICENSE-3")->media_type, MLXR_MEDIA_LICENSE);
    mlxr_manifest_clear(&m);
}

/* ---- weights ---- */

static void quantizations(void **state)
{
    mlxr_manifest base = manifest_of("tiny"), made;
    mlxr_description d;
    char first[72], second[72];

    (void)state;
    assert_ok(create_in(store, first, "q8",
                        "base: tiny\nquantization: {bits: 8, group_size: 32}\nsystem: A\n", NULL),
              &err);
    assert_ok(create_in(store, second, "q8b",
                        "base: tiny\nquantization: {bits: 8, group_size: 32}\nsystem: A\n", NULL),
              &err);
    assert_string_equal(first, second);
    made = manifest_of("q8");
    assert_false(same_file(&base, &made, "model.safetensors"));
    assert_false(same_file(&base, &made, "config.json"));
    assert_true(same_file(&base, &made, "tokenizer.json"));
    assert_non_null(mlxr_manifest_find(&made, "mlxr.json"));
    d = description_of(&made);
    assert_string_equal(d.quantization, "8-bit, groups of 32");
    assert_string_equal(d.base, base.digest);
    mlxr_description_clear(&d);
    mlxr_manifest_clear(&made);

    /* As it is already: its own weights stay. */
    assert_ok(create("q4", "base: tiny\nquantization: {bits: 4, group_size: 32}\n"), &err);
    made = manifest_of("q4");
    assert_true(same_file(&base, &made, "model.safetensors"));
    assert_true(same_file(&base, &made, "config.json"));
    mlxr_manifest_clear(&made);

    assert_ok(create("plain", "base: {path: " TINY "}\nquantization: none\n"), &err);
    made = manifest_of("plain");
    d = description_of(&made);
    assert_null(strstr(d.quantization, "bit,"));
    mlxr_description_clear(&d);
    mlxr_manifest_clear(&made);
    assert_ok(create("plain2", "base: plain\nquantization: none\n"), &err);
    mlxr_manifest_clear(&base);
}

/* A quantized base stays as it is quantized; what a merged weight has to be is in test_adapter.c. */
static void adapters(void **state)
{
    mlxr_manifest base = manifest_of("tiny"), made;
    mlxr_description d;
    char first[72], second[72];

    (void)state;
    assert_ok(create_in(store, first, "a", "FROM tiny\nADAPTER " ADAPTER "\n", NULL), &err);
    assert_ok(create_in(store, second, "b", "base: {path: " TINY "}\nadapter: " ADAPTER "\n", NULL), &err);
    made = manifest_of("a");
    assert_false(same_file(&base, &made, "model.safetensors"));
    assert_true(same_file(&base, &made, "tokenizer.json"));
    assert_null(mlxr_manifest_find(&made, "adapter_config.json"));
    d = description_of(&made);
    assert_string_equal(d.quantization, "4-bit, groups of 32");
    assert_string_equal(d.base, base.digest);
    mlxr_description_clear(&d);
    {
        mlxr_manifest other = manifest_of("b");
        assert_true(same_file(&other, &made, "model.safetensors"));
        mlxr_manifest_clear(&other);
    }
    mlxr_manifest_clear(&made);
    mlxr_manifest_clear(&base);
}

/* ---- what is wrong ---- */

static size_t count_files(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d)) != NULL) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static size_t n_names(void)
{
    mlxr_store_entry *entries;
    size_t n;

    assert_ok(mlxr_store_list(&entries, &n, store, &err), &err);
    mlxr_store_entries_free(entries, n);
    return n;
}

static void wrong_recipes(void **state)
{
    static const struct {
        const char *yaml, *message;
        mlxr_status status;
    } cases[] = {
        {"base: nothing\n", "recipe: the base: ", MLXR_E_NOT_FOUND},
        {"base: ./nothing\n", "there is no such folder or file", MLXR_E_NOT_FOUND},
        {"base: {path: notes.txt}\n", "neither a model folder nor a GGUF file", MLXR_E_UNSUPPORTED},
        {"base: {path: notes.txt}\nformat: mlx\n", "is a file, and the recipe's format is mlx",
         MLXR_E_FORMAT},
        {"base: {path: " TINY "}\nformat: gguf\n", "is a folder, and the recipe's format is gguf",
         MLXR_E_FORMAT},
        {"base: tiny\nformat: gguf\n", "is a model folder, and the recipe's format is gguf", MLXR_E_FORMAT},
        {"base: {repo: 'tiny:latest', revision: main}\n", "has a tag, and the recipe a revision",
         MLXR_E_FORMAT},
        {"base: {path: empty}\n", "config.json", MLXR_E_FORMAT},
        {"base: {path: bad.gguf}\n", "bad.gguf", MLXR_E_FORMAT},
        {"base: tiny\nadapter: ./none\n", "recipe: the adapter", MLXR_E_NOT_FOUND},
        {"base: tiny\nadapter: ./notes.txt\n", "is no folder with adapter_config.json", MLXR_E_UNSUPPORTED},
        {"base: tiny\nadapter: ./empty\n", "adapter", MLXR_E_NOT_FOUND},
    };
    const volatile int cancel = 1;
    const mlxr_store_job job = {.cancel = &cancel};
    mlxr_recipe r = {0};

    (void)state;
    put_text(temp_path("notes.txt"), "x");
    put_text(temp_path("bad.gguf"), "no such thing, and short besides");
    assert_int_equal(mkdir(temp_path("empty"), 0755), 0);
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        assert_fails(create("a", cases[i].yaml), cases[i].status, cases[i].message, &err);
        assert_int_equal(n_names(), 1);
    }
    assert_fails(create(NULL, "base: tiny\n"), MLXR_E_INVALID_ARGUMENT, "no name is given", &err);
    assert_fails(create("a b", "base: tiny\n"), MLXR_E_INVALID_ARGUMENT, "a b", &err);
    assert_fails(mlxr_create(NULL, store, "a", &r, NULL, &err), MLXR_E_INVALID_ARGUMENT, "has no base", &err);
    assert_fails(create_in(store, NULL, "a", "base: tiny\nsystem: A\n", &(mlxr_create_options){.job = &job}),
                 MLXR_E_CANCELLED, "", &err);
    assert_int_equal(n_names(), 1);
    assert_int_equal(count_files(temp_path("s/sessions")), 0);
}

static void a_broken_mlxr_json_of_a_base(void **state)
{
    mlxr_store_import_options copy = mlxr_store_import_options_default();
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};

    (void)state;
    assert_int_equal(mkdir(temp_path("m"), 0755), 0);
    for (size_t i = 0; i < MLXR_COUNT(files); i++) {
        char *from = mlxr_path_join(TINY, files[i]);
        mlxr_buf b = {0};
        assert_ok(mlxr_file_read(&b, from, 1 << 20, &err), &err);
        put_bytes(in(temp_path("m"), files[i]), b.data, b.len);
        mlxr_buf_clear(&b);
        free(from);
    }
    put_text(temp_path("m/mlxr.json"), "[]");
    copy.copy = true;
    assert_ok(mlxr_store_import(NULL, store, temp_path("m"), "m", &copy, NULL, &err), &err);
    assert_fails(create("a", "base: m\n"), MLXR_E_FORMAT, "mlxr.json of the base", &err);
    put_text(temp_path("m/mlxr.json"), "{\"mlxr\": 1, \"parameters\": 5, \"system\": \"S\"}");
    assert_ok(mlxr_store_import(NULL, store, temp_path("m"), "m", &copy, NULL, &err), &err);
    assert_fails(create("a", "base: m\ndefaults: {top_k: 1}\n"), MLXR_E_FORMAT, "\"parameters\"", &err);
}

/* ---- a file system that fails ---- */

static size_t n_changes, fails_at;

static int fault(const char *kind, const char *path, void *ud)
{
    (void)kind;
    (void)path;
    (void)ud;
    return ++n_changes == fails_at ? ENOSPC : 0;
}

static void whatever_fails_the_name_stands_for_a_whole_model(void **state)
{
    static const char yaml[] =
        "base: tiny\nsystem: new\nlicense: x\nquantization: {bits: 8, group_size: 32}\n";
    mlxr_store_options options = mlxr_store_options_default();
    mlxr_store *failing;
    char before[72], after[72], now[72];
    size_t at;

    (void)state;
    assert_ok(create_in(store, before, "a", "base: tiny\nsystem: old\n", NULL), &err);
    assert_ok(create_in(store, after, "b", yaml, NULL), &err);
    assert_ok(mlxr_store_remove(store, "b", NULL, &err), &err);
    options.fault = fault;
    assert_ok(mlxr_store_open(&failing, temp_path("s"), &options, &err), &err);
    for (at = 1;; at++) {
        mlxr_manifest m;
        mlxr_status st;
        char *text;
        n_changes = 0;
        fails_at = at;
        st = create_in(failing, now, "a", yaml, NULL);
        fails_at = 0;
        m = manifest_of("a");
        text = file_of("a", "mlxr.json"); /* sizes of all files are looked at */
        assert_non_null(text);
        assert_string_equal(m.digest, st == MLXR_OK || strcmp(m.digest, before) != 0 ? after : before);
        if (st == MLXR_OK) assert_string_equal(now, after);
        free(text);
        mlxr_manifest_clear(&m);
        if (n_changes < at) break;
        assert_true(at < 2000);
    }
    assert_true(at > 20);
    mlxr_store_close(failing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_rest_is_shared, begin, end),
        cmocka_unit_test_setup_teardown(what_a_created_base_says_is_inherited, begin, end),
        cmocka_unit_test_setup_teardown(from_a_folder, begin, end),
        cmocka_unit_test_setup_teardown(templates, begin, end),
        cmocka_unit_test_setup_teardown(tokenizers, begin, end),
        cmocka_unit_test_setup_teardown(licences, begin, end),
        cmocka_unit_test_setup_teardown(quantizations, begin, end),
        cmocka_unit_test_setup_teardown(adapters, begin, end),
        cmocka_unit_test_setup_teardown(wrong_recipes, begin, end),
        cmocka_unit_test_setup_teardown(a_broken_mlxr_json_of_a_base, begin, end),
        cmocka_unit_test_setup_teardown(whatever_fails_the_name_stands_for_a_whole_model, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
