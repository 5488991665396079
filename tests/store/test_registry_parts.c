/* What a registry's client reads and decides without a network: challenges, docker's config.json, Locations, repositories. */
#include <stdlib.h>

#include "nomem.h"
#include "store/registry.h"
#include "test.h"

static mlxr_challenge parsed(const char *value)
{
    mlxr_challenge c = {0};
    assert_int_equal(mlxr_challenge_parse(&c, value, NULL), MLXR_OK);
    return c;
}

static void test_challenges(void **state)
{
    static const struct {
        const char *value;
        int scheme;
        const char *realm, *service, *scope;
    } cases[] = {
        {"Basic realm=\"x\"", MLXR_CHALLENGE_BASIC, "x", NULL, NULL},
        {"basic", MLXR_CHALLENGE_BASIC, NULL, NULL, NULL},
        {"Bearer realm=\"https://a/b\",service=\"c d\",scope=\"repository:x:pull,push\"",
         MLXR_CHALLENGE_BEARER, "https://a/b", "c d", "repository:x:pull,push"},
        {"BEARER Realm = https://a/b , Service=c", MLXR_CHALLENGE_BEARER, "https://a/b", "c", NULL},
        {"Basic realm=\"x\", Bearer realm=\"https://a\"", MLXR_CHALLENGE_BEARER, "https://a", NULL, NULL},
        {"Bearer realm=\"https://a\", Basic realm=\"x\"", MLXR_CHALLENGE_BEARER, "https://a", NULL, NULL},
        {"Bearer service=\"without a realm\", Basic realm=\"x\"", MLXR_CHALLENGE_BASIC, "x", NULL, NULL},
        {"Negotiate abc==, Basic realm=\"a \\\"b\\\"\"", MLXR_CHALLENGE_BASIC, "a \"b\"", NULL, NULL},
        {"Bearer realm=\"https://a\",realm=\"https://b\"", MLXR_CHALLENGE_BEARER, "https://a", NULL, NULL},
        {"Digest realm=\"x\"", MLXR_CHALLENGE_NONE, NULL, NULL, NULL},
        {"Bearer realm=\"", MLXR_CHALLENGE_BEARER, "", NULL, NULL},
        {"", MLXR_CHALLENGE_NONE, NULL, NULL, NULL},
        {",,=\"\\", MLXR_CHALLENGE_NONE, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_challenge c = parsed(cases[i].value);
        assert_int_equal(c.scheme, cases[i].scheme);
        if (cases[i].realm)
            assert_string_equal(c.realm, cases[i].realm);
        else
            assert_null(c.realm);
        if (cases[i].service) assert_string_equal(c.service, cases[i].service);
        if (cases[i].scope) assert_string_equal(c.scope, cases[i].scope);
        mlxr_challenge_clear(&c);
    }
}

static mlxr_status find(mlxr_credentials *out, const char *text)
{
    *out = (mlxr_credentials){0};
    return mlxr_credentials_find(out, text, strlen(text), "config.json", "Host:5000", "team/llama", NULL);
}

static void test_credentials(void **state)
{
    static const char *const mine[] = {
        "{\"auths\": {\"host:5000\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"https://host:5000\": {\"auth\": \"dTpwOnE\"}}}",
        "{\"auths\": {\"http://HOST:5000/v2/\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"https://host:5000/v1/\": {\"username\": \"u\", \"password\": \"p:q\"}}}",
        "{\"auths\": {\"host:5000/team\": {\"auth\": \"dTpwOnE=\"}, \"host:5000\": {\"auth\": \"eDp5\"}}}",
        "{\"auths\": {\"host:5000/x\": {\"auth\": \"eDp5\"}, \"host:5000/team\": {\"auth\": \"dTpwOnEA\"}}}",
        "{\"auths\": {\"host:5000\": {\"auth\": \"dTpwOnE=\"}}, \"credsStore\": \"x\"}",
    };
    static const char *const none[] = {
        "{}",
        "{\"auths\": {}}",
        "{\"auths\": []}",
        "{\"auths\": {\"host\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"host:5000.evil\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"evil/host:5000\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"host:5000/tea\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"auths\": {\"host:5000/team/llama/x\": {\"auth\": \"dTpwOnE=\"}}}",
        "{\"credsStore\": \"x\"}",
        "{\"auths\": {\"host:5000\": {\"auth\": 7}}}",
    };
    mlxr_credentials c;

    for (size_t i = 0; i < MLXR_COUNT(mine); i++) {
        assert_int_equal(find(&c, mine[i]), MLXR_OK);
        assert_non_null(c.user);
        assert_string_equal(c.user, "u");
        assert_string_equal(c.password, "p:q");
        mlxr_credentials_clear(&c);
    }
    for (size_t i = 0; i < MLXR_COUNT(none); i++) {
        assert_int_equal(find(&c, none[i]), MLXR_OK);
        assert_true(mlxr_credentials_empty(&c));
    }
    assert_int_equal(find(&c, "{\"auths\": {\"host:5000\": {}}, \"credsStore\": \"desktop\"}"), MLXR_OK);
    assert_string_equal(c.helper, "desktop");
    mlxr_credentials_clear(&c);
    assert_int_equal(find(&c, "{\"credHelpers\": {\"host:5000\": \"pass\"}}"), MLXR_OK);
    assert_string_equal(c.helper, "pass");
    mlxr_credentials_clear(&c);
    assert_int_equal(find(&c, "{\"auths\": {\"host:5000\": {\"auth\": \"dTo=\", \"identitytoken\": \"t\"}}}"),
                     MLXR_OK);
    assert_string_equal(c.identity_token, "t");
    mlxr_credentials_clear(&c);
    assert_int_equal(find(&c, "{\"auths\": {\"host:5000\": {\"auth\": \"!\"}}}"), MLXR_E_FORMAT);
    assert_int_equal(find(&c, "{\"auths\": {\"host:5000\": {\"auth\": \"dQ==\"}}}"), MLXR_E_FORMAT);
    assert_int_equal(find(&c, "{"), MLXR_E_FORMAT);
}

static void test_locations(void **state)
{
    static const struct {
        const char *base, *location, *wanted; /* wanted NULL: refused */
    } cases[] = {
        {"https://h", "/v2/x?a=b%2F", "https://h/v2/x?a=b%2F"},
        {"https://h", "2?state=1", "https://h/v2/r/blobs/uploads/2?state=1"},
        {"https://h", "https://h/v2/x", "https://h/v2/x"},
        {"https://h", "https://h:443/v2/x", "https://h/v2/x"},
        {"https://h", "http://h/v2/x", "https://h/v2/x"},
        {"https://h:5000", "http://h:5000/v2/x", "https://h:5000/v2/x"},
        {"https://h:5000", "http://h/v2/x", "https://h:5000/v2/x"},
        {"https://h", "https://other/x?sig=1", "https://other/x?sig=1"},
        {"https://h", "http://other/x", NULL},
        {"https://h", "ftp://h/x", NULL},
        {"https://h", "file:///x", NULL},
        {"https://h", "http://h:81/x", NULL},
        {"http://localhost:5000", "http://localhost:5000/v2/x", "http://localhost:5000/v2/x"},
        {"http://localhost:5000", "http://other/x", "http://other/x"},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_registry r = {.host = (char *)"h", .base = (char *)cases[i].base};
        char *request = mlxr_asprintf("%s/v2/r/blobs/uploads/1", cases[i].base), *url = NULL;
        mlxr_status st = mlxr_registry_location(&url, &r, request, cases[i].location, NULL);
        assert_int_equal(st == MLXR_OK, cases[i].wanted != NULL);
        if (cases[i].wanted) assert_string_equal(url, cases[i].wanted);
        free(url);
        free(request);
    }
}

static void test_repositories(void **state)
{
    static const char *const good[] = {"a", "a/b/c", "team-1/a.b_c__d--e", "0/9"};
    static const char *const bad[] = {"",     "/",     "a/",   "/a",   "a//b", "A",   "a/B", "-a", "a-",
                                      "a..b", "a___b", "a._b", "a/_b", "a b",  "a:b", "a@b", "ä"};
    char *host, *repository;

    for (size_t i = 0; i < MLXR_COUNT(good); i++)
        assert_int_equal(mlxr_registry_repository_check(good[i], NULL), MLXR_OK);
    for (size_t i = 0; i < MLXR_COUNT(bad); i++)
        assert_int_equal(mlxr_registry_repository_check(bad[i], NULL), MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_registry_reference_split(&host, &repository, "h:5000/a/b:tag", NULL), MLXR_OK);
    assert_string_equal(host, "h:5000");
    assert_string_equal(repository, "a/b");
    free(host);
    free(repository);
    assert_int_equal(mlxr_registry_reference_split(&host, &repository, "h/b:t@sha256:00", NULL), MLXR_OK);
    assert_string_equal(repository, "b");
    free(host);
    free(repository);
    assert_int_equal(mlxr_registry_reference_split(&host, &repository, "h", NULL), MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_registry_reference_split(&host, &repository, "h/", NULL), MLXR_E_INVALID_ARGUMENT);
}

/* Each allocation in turn: running out of memory is said, and nothing else; the sanitizers look for what is left. */
static void test_allocations_that_fail(void **state)
{
    static const char config[] =
        "{\"auths\": {\"host:5000\": {\"auth\": \"dTpwOnE=\", \"identitytoken\": \"i\"}}}";
    const char *const files[] = {MLXR_TEST_DIR "/nothing.json"};
    mlxr_auth_options o = {
        .host = "h", .repository = "r", .user = "u", .password = "p", .files = files, .n_files = 1};
    mlxr_registry r = {.host = (char *)"h", .base = (char *)"https://h"};
    size_t i;

    o.http = mlxr_http_options_default();
    for (i = 1;; i++) {
        mlxr_challenge c = {0};
        mlxr_credentials found = {0};
        mlxr_auth *auth = NULL;
        char *url = NULL, *host = NULL, *repository = NULL, *value = NULL;
        mlxr_status st;

        n_calls = 0;
        fail_at = i;
        st = mlxr_challenge_parse(&c, "Basic realm=\"x\", Bearer realm=\"https://a\",service=b,scope=c",
                                  NULL);
        if (st == MLXR_OK)
            st = mlxr_credentials_find(&found, config, sizeof config - 1, "config.json", "host:5000", "r",
                                       NULL);
        if (st == MLXR_OK) st = mlxr_registry_location(&url, &r, "https://h/v2/", "../x?y", NULL);
        if (st == MLXR_OK) st = mlxr_registry_reference_split(&host, &repository, "h/r:t", NULL);
        if (st == MLXR_OK) st = mlxr_auth_create(&auth, &o, NULL);
        if (st == MLXR_OK) st = mlxr_auth_get(&value, auth, "repository:r:pull", NULL);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK)
            assert_null(value); /* nobody asked */
        else
            assert_int_equal(st, MLXR_E_NOMEM);
        mlxr_challenge_clear(&c);
        mlxr_credentials_clear(&found);
        mlxr_auth_free(auth);
        free(url);
        free(host);
        free(repository);
        free(value);
        if (n_calls < i) break;
    }
    assert_true(i > 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_challenges),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_repositories),
        cmocka_unit_test(test_allocations_that_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
