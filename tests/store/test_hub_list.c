/* What a hub says of a repository, and what is taken of one. */
#include "nomem.h"
#include "store/hub.h"
#include "store/remote.h"
#include "test.h"

#define SHA            "0123456789abcdef0123456789abcdef01234567"
#define SHA2           "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define INFO(siblings) "{\"id\": \"o/r\", \"sha\": \"" SHA "\", \"siblings\": [" siblings "]}"

static void test_wants(void **state)
{
    static const char *const yes[] = {"config.json",
                                      "generation_config.json",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "vocab.txt",
                                      "merges.txt",
                                      "tokenizer.model",
                                      "chat_template.jinja",
                                      "chat_template.json",
                                      "modules.json",
                                      "1_Pooling/config.json",
                                      "12_Dense/config.json",
                                      "model.safetensors",
                                      "model-00001-of-00002.safetensors",
                                      "model.safetensors.index.json",
                                      "LICENSE",
                                      "LICENSE.txt",
                                      "License",
                                      "additional_chat_templates/tool_use.jinja",
                                      "mlxr.json"},
                             *const no[] = {"",
                                            "README.md",
                                            ".gitattributes",
                                            ".jinja",
                                            "onnx/model.onnx",
                                            "onnx/config.json",
                                            "consolidated.safetensors",
                                            "Consolidated.00.safetensors",
                                            "original/model.safetensors",
                                            "pytorch_model.bin",
                                            "model.gguf",
                                            "trainer_state.json",
                                            "optimizer.pt",
                                            "pytorch_model.bin.index.json",
                                            "1_Pooling/model.safetensors",
                                            "1_Pooling/x/config.json",
                                            "_Pooling/config.json",
                                            "1Pooling/config.json",
                                            "../config.json",
                                            "/config.json",
                                            "./config.json",
                                            "a/../config.json",
                                            "additional_chat_templates/../x.jinja",
                                            "additional_chat_templates/.x.jinja",
                                            "additional_chat_templates/a/x.jinja",
                                            ".safetensors",
                                            "..",
                                            "../1_x/config.json"};

    for (size_t i = 0; i < MLXR_COUNT(yes); i++)
        if (!mlxr_hub_wants(yes[i])) fail_msg("%s is wanted", yes[i]);
    for (size_t i = 0; i < MLXR_COUNT(no); i++)
        if (mlxr_hub_wants(no[i])) fail_msg("%s is not wanted", no[i]);
}

static const char info[] = INFO("{\"rfilename\": \"config.json\", \"size\": 12, \"blobId\": \"" SHA "\"},"
                                "{\"rfilename\": \"m.safetensors\", \"size\": 9, \"blobId\": \"" SHA "\","
                                " \"lfs\": {\"sha256\": \"" SHA2
                                "\", \"size\": 5000000000, \"pointerSize\": 135}}");
static const char tree[] = "[{\"type\": \"directory\", \"oid\": \"" SHA
                           "\", \"size\": 0, \"path\": \"onnx\"},"
                           "{\"type\": \"file\", \"oid\": \"" SHA
                           "\", \"size\": 12, \"path\": \"config.json\"},"
                           "{\"type\": \"file\", \"oid\": \"" SHA
                           "\", \"size\": 135, \"path\": \"m.safetensors\","
                           " \"lfs\": {\"oid\": \"" SHA2 "\", \"size\": 5000000000}}]";

static void check_both(const mlxr_hub_list *l)
{
    assert_int_equal(l->n, 2);
    assert_string_equal(l->v[0].path, "config.json");
    assert_int_equal(l->v[0].size, 12);
    assert_string_equal(l->v[0].git_id, SHA);
    assert_false(l->v[0].lfs);
    assert_string_equal(l->v[0].digest, "");
    assert_string_equal(l->v[1].path, "m.safetensors");
    assert_true(l->v[1].size == 5000000000u);
    assert_true(l->v[1].lfs);
    assert_string_equal(l->v[1].digest, "sha256:" SHA2);
    assert_true(mlxr_hub_list_complete(l));
}

static void test_lists(void **state)
{
    mlxr_hub_list l = {0};
    mlxr_error err;

    assert_ok(mlxr_hub_list_info(&l, info, sizeof info - 1, "o/r", &err), &err);
    assert_string_equal(l.commit, SHA);
    check_both(&l);
    mlxr_hub_list_clear(&l);
    assert_false(mlxr_hub_list_complete(&l));
    assert_ok(mlxr_hub_list_tree(&l, tree, sizeof tree - 1, "o/r", &err), &err);
    check_both(&l);
    assert_ok(mlxr_hub_list_tree(&l, "[]", 2, "o/r", &err), &err);
    assert_int_equal(l.n, 2);
    mlxr_hub_list_clear(&l);
    mlxr_hub_list_clear(&l);
}

static void bad(const char *text, const char *says)
{
    mlxr_hub_list l = {0};
    mlxr_error err;
    bool is_tree = *text == '[' || *text == '!';

    if (*text == '!') text++;
    assert_fails(is_tree ? mlxr_hub_list_tree(&l, text, strlen(text), "o/r", &err)
                         : mlxr_hub_list_info(&l, text, strlen(text), "o/r", &err),
                 MLXR_E_FORMAT, says, &err);
    mlxr_hub_list_clear(&l);
}

static void test_bad_lists(void **state)
{
    mlxr_hub_list l = {0};
    mlxr_error err;
    static const char plain[] = INFO("{\"rfilename\": \"a\"}");

    bad("", "o/r");
    bad("{", "o/r");
    bad("7", "o/r");
    bad("{}", "names no commit");
    bad("{\"sha\": \"main\"}", "names no commit");
    bad("{\"sha\": 7}", "sha");
    bad("{\"sha\": \"" SHA2 "0\"}", "names no commit");
    bad("{\"sha\": \"../../0123456789abcdef0123456789abcdef01\"}", "names no commit");
    bad(INFO("7"), "an entry that is none");
    bad(INFO("{}"), "without a name");
    bad(INFO("{\"rfilename\": \"\"}"), "without a name");
    bad(INFO("{\"rfilename\": 7}"), "rfilename");
    bad(INFO("{\"rfilename\": \"a\\u0000b\"}"), "o/r");
    bad(INFO("{\"rfilename\": \"a\", \"size\": -1}"), "size");
    bad(INFO("{\"rfilename\": \"a\", \"size\": 9223372036854775807}"), "size");
    bad(INFO("{\"rfilename\": \"a\", \"lfs\": {}}"), "SHA-256");
    bad(INFO("{\"rfilename\": \"a\", \"lfs\": {\"sha256\": \"" SHA "\"}}"), "SHA-256");
    bad(INFO("{\"rfilename\": \"a\", \"lfs\": {\"sha256\": \"" SHA2 "\", \"size\": \"7\"}}"), "size");
    bad("!{}", "no list");
    bad("[[]]", "an entry that is none");
    bad("[{\"type\": \"file\"}]", "without a name");
    bad("[{\"path\": \"a\", \"lfs\": {\"oid\": "
        "\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"}}]",
        "SHA-256");

    assert_ok(mlxr_hub_list_info(&l, plain, sizeof plain - 1, "o/r", &err), &err);
    assert_true(l.v[0].size == UINT64_MAX);
    assert_false(mlxr_hub_list_complete(&l));
    mlxr_hub_list_clear(&l);
}

static void links(const char *value, const char *want)
{
    char name[] = "link", text[200], *names[] = {name}, *values[] = {text}, *got;
    mlxr_http_headers h = {names, values, 1};

    snprintf(text, sizeof text, "%s", value);
    got = mlxr_hub_link_next(&h);
    if (want)
        assert_string_equal(got, want);
    else
        assert_null(got);
    free(got);
}

static void test_links(void **state)
{
    mlxr_http_headers none = {0};

    assert_null(mlxr_hub_link_next(&none));
    links("<https://h/a?cursor=1>; rel=\"next\"", "https://h/a?cursor=1");
    links("<https://h/a>; rel=next", "https://h/a");
    links("<https://h/p>; rel=\"prev\", <https://h/n>; title=x; rel=\"next\"", "https://h/n");
    links("<https://h/n>; rel=\"next\", <https://h/l>; rel=\"last\"", "https://h/n");
    links("<https://h/p>; rel=\"prev\"", NULL);
    links("<https://h/p>", NULL);
    links("<https://h/p", NULL);
    links("", NULL);
    links("rel=\"next\"", NULL);
}

static void test_no_memory(void **state)
{
    size_t i;
    mlxr_status st = MLXR_E_NOMEM;

    for (i = 1; st == MLXR_E_NOMEM; i++) {
        mlxr_hub_list l = {0};
        mlxr_error err = {0};
        n_calls = 0;
        fail_at = i;
        st = mlxr_hub_list_info(&l, info, sizeof info - 1, "o/r", &err);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK)
            check_both(&l);
        else if (st == MLXR_E_FORMAT)
            st = MLXR_E_NOMEM; /* jansson cannot tell the two apart */
        mlxr_hub_list_clear(&l);
    }
    assert_int_equal(st, MLXR_OK);
    assert_true(i > 3); /* two names and the list */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wants), cmocka_unit_test(test_lists),     cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_links), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
