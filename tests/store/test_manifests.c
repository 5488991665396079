/* Manifests and descriptions: what is written is read back, the same files give the same bytes, and what is hostile is refused by name. */
#include "test.h"

#include "store/manifest.h"

static mlxr_error err;

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D3 "sha256:3333333333333333333333333333333333333333333333333333333333333333"

static mlxr_layer layer(const char *path, const char *digest, uint64_t size)
{
    mlxr_layer l = {.path = (char *)(uintptr_t)path, .size = size};
    strcpy(l.digest, digest);
    return l;
}

static void what_is_made_is_read(void **state)
{
    const mlxr_layer config = layer(NULL, D1, 10);
    const mlxr_layer one[] = {layer("model.safetensors", D2, 1000), layer("config.json", D3, 7),
                              layer("a/b\"c.txt", D3, 7)};
    const mlxr_layer other[] = {one[2], one[0], one[1]};
    json_t *notes = json_pack("{s:s, s:s}", "z", "1", "a", "2");
    mlxr_manifest m, n, p;

    assert_ok(mlxr_manifest_make(&m, &config, one, 3, notes, &err), &err);
    assert_ok(mlxr_manifest_make(&n, &config, other, 3, notes, &err), &err);
    assert_string_equal(m.digest, n.digest);
    assert_int_equal(m.n_layers, 3);
    assert_string_equal(m.layers[0].path, "a/b\"c.txt");
    assert_string_equal(m.layers[2].media_type, MLXR_MEDIA_WEIGHTS);
    assert_string_equal(m.config.media_type, MLXR_MEDIA_CONFIG);
    assert_null(m.config.path);
    assert_int_equal(mlxr_manifest_bytes(&m), 1017);
    assert_ptr_equal(mlxr_manifest_find(&m, "config.json"), &m.layers[1]);
    assert_null(mlxr_manifest_find(&m, "Config.json"));
    assert_string_equal(json_string_value(json_object_get(m.annotations, "z")), "1");
    assert_ok(mlxr_manifest_parse(&p, m.text, m.n_text, "m", &err), &err);
    assert_string_equal(m.digest, p.digest);
    mlxr_manifest_clear(&p);
    mlxr_manifest_clear(&n);
    assert_ok(mlxr_manifest_make(&n, &m.config, m.layers, m.n_layers, m.annotations, &err), &err);
    assert_string_equal(m.text, n.text);
    mlxr_manifest_clear(&n);
    mlxr_manifest_clear(&m);
    json_decref(notes);
    assert_ok(mlxr_manifest_make(&m, &config, NULL, 0, NULL, &err), &err); /* odd, but a manifest */
    assert_null(m.annotations);
    mlxr_manifest_clear(&m);
}

static void what_cannot_be_made(void **state)
{
    const mlxr_layer config = layer(NULL, D1, 10);
    mlxr_layer bad[] = {layer("a", D2, 1), layer("A", D3, 1)}, untitled = layer(NULL, D2, 1),
               odd = layer("a\xff", D2, 1);
    mlxr_manifest m;
    assert_fails(mlxr_manifest_make(&m, &config, bad, 2, NULL, &err), MLXR_E_FORMAT, "there twice", &err);
    assert_fails(mlxr_manifest_make(&m, &config, &untitled, 1, NULL, &err), MLXR_E_INVALID_ARGUMENT, "empty",
                 &err);
    assert_fails(mlxr_manifest_make(&m, &config, &odd, 1, NULL, &err), MLXR_E_INVALID_ARGUMENT, "UTF-8",
                 &err);
    assert_fails(mlxr_manifest_make(&m, &untitled, bad, 1, json_object_get(NULL, ""), &err), MLXR_OK, "",
                 &err);
    mlxr_manifest_clear(&m);
}

/* {head, layers...}: a manifest with parts of it replaced. */
static mlxr_status parse(const char *head, const char *config, const char *layers)
{
    char text[8192];
    mlxr_manifest m;
    mlxr_status st;
    int n = snprintf(text, sizeof text, "{%s,\"config\":%s,\"layers\":%s}", head, config, layers);
    assert_true(n > 0 && n < (int)sizeof text);
    st = mlxr_manifest_parse(&m, text, (size_t)n, "evil", &err);
    if (st != MLXR_OK) {
        assert_null(m.text);
        assert_null(m.layers);
        assert_int_equal(strncmp(err.message, "evil: ", 6), 0);
    }
    mlxr_manifest_clear(&m);
    return st;
}

#define HEAD   "\"schemaVersion\":2"
#define CONFIG "{\"mediaType\":\"" MLXR_MEDIA_CONFIG "\",\"digest\":\"" D1 "\",\"size\":2}"
#define LAYER(digest, size, title)                                  \
    "{\"mediaType\":\"x\",\"digest\":\"" digest "\",\"size\":" size \
    ",\"annotations\":{\"" MLXR_ANNOTATION_TITLE "\":\"" title "\"}}"

static void hostile_manifests_are_refused(void **state)
{
    static const struct {
        const char *head, *config, *layers, *wrong;
        mlxr_status status;
    } cases[] = {
        {"\"x\":1", CONFIG, "[]", "\"schemaVersion\" is 0", MLXR_E_UNSUPPORTED},
        {"\"schemaVersion\":1", CONFIG, "[]", "\"schemaVersion\" is 1", MLXR_E_UNSUPPORTED},
        {"\"schemaVersion\":\"2\"", CONFIG, "[]", "schemaVersion", MLXR_E_FORMAT},
        {HEAD ",\"mediaType\":\"" MLXR_MEDIA_INDEX "\"", CONFIG, "[]", "media type", MLXR_E_UNSUPPORTED},
        {HEAD ",\"artifactType\":\"other\"", CONFIG, "[]", "no model of ours", MLXR_E_UNSUPPORTED},
        {HEAD ",\"annotations\":[]", CONFIG, "[]", "\"annotations\" is no object", MLXR_E_FORMAT},
        {HEAD ",\"annotations\":{\"a\":1}", CONFIG, "[]", "annotation \"a\"", MLXR_E_FORMAT},
        {HEAD, "null", "[]", "no model of ours", MLXR_E_UNSUPPORTED},
        {HEAD, "{\"mediaType\":\"application/vnd.oci.image.config.v1+json\"}", "[]", "no model of ours",
         MLXR_E_UNSUPPORTED},
        {HEAD, "{\"mediaType\":\"" MLXR_MEDIA_CONFIG "\",\"digest\":\"sha256:12\",\"size\":2}", "[]",
         "sha256:12", MLXR_E_FORMAT},
        {HEAD, "{\"mediaType\":\"" MLXR_MEDIA_CONFIG "\",\"digest\":\"" D1 "\",\"size\":2000000}", "[]",
         "at most", MLXR_E_LIMIT},
        {HEAD, CONFIG, "{}", "\"layers\"", MLXR_E_FORMAT},
        {HEAD, CONFIG, "null", "\"layers\"", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[1]", "layers[0]", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[{}]", "layers[0]", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "-1", "a") "]", "\"size\" is -1", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1.5", "a") "]", "size", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "null", "a") "]", "\"size\" is absent", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "9000000000000000000", "a") "]", "size", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "4611686018427387904", "a") "]", "2^62", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a") "," LAYER(D2, "2", "b") "]", "two sizes", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D1, "3", "a") "]", "two sizes", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER("sha256:XX", "1", "a") "]", "digest", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2 "0", "1", "a") "]", "digest", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "") "]", "is empty", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "..") "]", "leads out", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a/../../b") "]", "leads out", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "./b") "]", "leads out", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "/etc/passwd") "]", "empty part", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a//b") "]", "empty part", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a/") "]", "empty part", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a\\\\b") "]", "backslash", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a\\u0000b") "]", "NUL", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a\\u001bb") "]", "control", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a") "," LAYER(D3, "1", "a") "]", "there twice", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "Ab/C") "," LAYER(D3, "1", "x") "," LAYER(D3, "1", "aB/c") "]",
         "there twice", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[" LAYER(D2, "1", "a") "," LAYER(D3, "1", "a-b") "," LAYER(D3, "1", "A/b") "]",
         "the folder of", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[{\"mediaType\":\"x\",\"digest\":\"" D2 "\",\"size\":1}]", "has no annotation",
         MLXR_E_FORMAT},
        {HEAD, CONFIG, "[{\"mediaType\":\"\",\"digest\":\"" D2 "\",\"size\":1}]", "mediaType", MLXR_E_FORMAT},
        {HEAD, CONFIG, "[", "not valid JSON", MLXR_E_FORMAT},
        {HEAD "," HEAD, CONFIG, "[]", "not valid JSON", MLXR_E_FORMAT},
    };
    assert_ok(
        parse(HEAD, CONFIG, "[" LAYER(D2, "1", "a") "," LAYER(D2, "1", "a-b/c") "," LAYER(D3, "0", "ab") "]"),
        &err);
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_fails(parse(cases[i].head, cases[i].config, cases[i].layers), cases[i].status, cases[i].wrong,
                     &err);
}

static void limits(void **state)
{
    char *big = malloc(MLXR_MANIFEST_MAX_BYTES + 1), title[1100];
    mlxr_layer *many = calloc(MLXR_MANIFEST_MAX_LAYERS + 1, sizeof *many);
    const mlxr_layer config = layer(NULL, D1, 10);
    char(*paths)[16] = calloc(MLXR_MANIFEST_MAX_LAYERS + 1, sizeof *paths);
    mlxr_manifest m;

    memset(big, ' ', MLXR_MANIFEST_MAX_BYTES + 1);
    assert_fails(mlxr_manifest_parse(&m, big, MLXR_MANIFEST_MAX_BYTES + 1, "big", &err), MLXR_E_LIMIT,
                 "at most", &err);
    memset(big, '[', 100000);
    assert_fails(mlxr_manifest_parse(&m, big, 100000, "deep", &err), MLXR_E_FORMAT, "deep", &err);
    for (size_t i = 0; i <= MLXR_MANIFEST_MAX_LAYERS; i++) {
        snprintf(paths[i], sizeof paths[i], "f%zu", i);
        many[i] = layer(paths[i], D2, 5);
    }
    assert_ok(mlxr_manifest_make(&m, &config, many, MLXR_MANIFEST_MAX_LAYERS, NULL, &err), &err);
    assert_int_equal(mlxr_manifest_bytes(&m), 15);
    mlxr_manifest_clear(&m);
    assert_fails(mlxr_manifest_make(&m, &config, many, MLXR_MANIFEST_MAX_LAYERS + 1, NULL, &err),
                 MLXR_E_FORMAT, "more than 4096", &err);
    for (size_t i = 0; i < sizeof title - 1; i++) title[i] = i % 200 == 199 ? '/' : 'a';
    title[1025] = '\0';
    many[0] = layer(title, D2, 5);
    assert_fails(mlxr_manifest_make(&m, &config, many, 1, NULL, &err), MLXR_E_FORMAT, "longer than 1024",
                 &err);
    memset(title, 'a', 256);
    title[256] = '\0';
    assert_fails(mlxr_manifest_make(&m, &config, many, 1, NULL, &err), MLXR_E_FORMAT, "more than 255", &err);
    free(big);
    free(many);
    free(paths);
}

static void kinds_of_files(void **state)
{
    assert_string_equal(mlxr_media_type("model-00001-of-00002.safetensors"), MLXR_MEDIA_WEIGHTS);
    assert_string_equal(mlxr_media_type("model.safetensors.index.json"), MLXR_MEDIA_FILE);
    assert_string_equal(mlxr_media_type("config.json"), MLXR_MEDIA_FILE);
    assert_string_equal(mlxr_media_type("tokenizer.json"), MLXR_MEDIA_TOKENIZER);
    assert_string_equal(mlxr_media_type("chat_template.jinja"), MLXR_MEDIA_TEMPLATE);
    assert_string_equal(mlxr_media_type("additional_chat_templates/tool_use.jinja"), MLXR_MEDIA_TEMPLATE);
    assert_string_equal(mlxr_media_type("mlxr.json"), MLXR_MEDIA_RECIPE);
    assert_string_equal(mlxr_media_type("sub/mlxr.json"), MLXR_MEDIA_FILE);
    assert_string_equal(mlxr_media_type("LICENSE.txt"), MLXR_MEDIA_LICENSE);
    assert_string_equal(mlxr_media_type("licence"), MLXR_MEDIA_LICENSE);
}

static void descriptions(void **state)
{
    mlxr_description d = {.family = (char[]){"llama"},
                          .quantization = (char[]){"4-bit, groups of 64"},
                          .dtype = (char[]){"bf16"},
                          .n_parameters = 134515008,
                          .context_length = 8192,
                          .source = (char[]){"ghcr.io/x\"y"},
                          .base = (char[]){D1}},
                     r;
    mlxr_buf b = {0};
    static const struct {
        const char *text, *wrong;
        mlxr_status status;
    } cases[] = {{"", "not valid JSON", MLXR_E_FORMAT},
                 {"[]", "wanted an object", MLXR_E_FORMAT},
                 {"{}", "\"mlxr\" is 0", MLXR_E_UNSUPPORTED},
                 {"{\"mlxr\":2}", "\"mlxr\" is 2", MLXR_E_UNSUPPORTED},
                 {"{\"mlxr\":1,\"family\":1}", "family", MLXR_E_FORMAT},
                 {"{\"mlxr\":1,\"family\":\"\\u001b[2J\"}", "control", MLXR_E_FORMAT},
                 {"{\"mlxr\":1,\"parameters\":-1}", "parameters", MLXR_E_FORMAT},
                 {"{\"mlxr\":1,\"context_length\":\"8\"}", "context_length", MLXR_E_FORMAT},
                 {"{\"mlxr\":1,\"base\":\"x\"}", "no digest", MLXR_E_FORMAT}};

    assert_ok(mlxr_description_write(&b, &d, &err), &err);
    assert_ok(mlxr_description_parse(&r, b.data, b.len, "d", &err), &err);
    assert_string_equal(r.family, d.family);
    assert_string_equal(r.quantization, d.quantization);
    assert_string_equal(r.dtype, d.dtype);
    assert_string_equal(r.source, d.source);
    assert_string_equal(r.base, d.base);
    assert_int_equal(r.n_parameters, d.n_parameters);
    assert_int_equal(r.context_length, d.context_length);
    mlxr_description_clear(&r);
    b.len = 0;
    d = (mlxr_description){0};
    assert_ok(mlxr_description_write(&b, &d, &err), &err);
    assert_string_equal(b.data, "{\"mlxr\":1}");
    assert_ok(mlxr_description_parse(&r, b.data, b.len, "d", &err), &err);
    assert_null(r.family);
    mlxr_description_clear(&r);
    mlxr_buf_clear(&b);
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_fails(mlxr_description_parse(&r, cases[i].text, strlen(cases[i].text), "d", &err),
                     cases[i].status, cases[i].wrong, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_is_read),
        cmocka_unit_test(what_cannot_be_made),
        cmocka_unit_test(hostile_manifests_are_refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(kinds_of_files),
        cmocka_unit_test(descriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
