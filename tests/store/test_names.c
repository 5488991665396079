/* Names: what texts mean, what is refused, and that names, texts and paths are one to one. */
#include "test.h"

#include "store/name.h"

static mlxr_error err;

static const char *display(const mlxr_name *n)
{
    static mlxr_buf b;
    b.len = 0;
    mlxr_name_display(&b, n);
    return b.data;
}

static const char *path_of(const mlxr_name *n)
{
    static mlxr_buf b;
    b.len = 0;
    mlxr_name_path(&b, n);
    return b.data;
}

static const char *full(const mlxr_name *n)
{
    static mlxr_buf b;
    b.len = 0;
    mlxr_name_full(&b, n);
    return b.data;
}

static void texts_mean_names(void **state)
{
    static const struct {
        const char *text, *display, *path;
    } cases[] = {
        {"llama", "llama:latest", "huggingface.co/library/llama/latest"},
        {"llama:8b", "llama:8b", "huggingface.co/library/llama/8b"},
        {"LIBRARY/llama", "llama:latest", "huggingface.co/library/llama/latest"},
        {"mlx-community/Qwen3-4B-4bit", "mlx-community/Qwen3-4B-4bit:latest",
         "huggingface.co/mlx-community/Qwen3-4B-4bit/latest"},
        {"hf.co/org/m:main", "org/m:main", "huggingface.co/org/m/main"},
        {"HuggingFace.CO/org/m", "org/m:latest", "huggingface.co/org/m/latest"},
        {"hf.co/llama", "llama:latest", "huggingface.co/library/llama/latest"},
        {"a/b/c", "a/b/c:latest", "huggingface.co/a+b/c/latest"},
        {"localhost/x", "localhost/x:latest", "localhost/-/x/latest"},
        {"localhost:5000/team/x/llama:8b", "localhost:5000/team/x/llama:8b",
         "localhost:5000/team+x/llama/8b"},
        {"localhost:5000/library/x", "localhost:5000/library/x:latest", "localhost:5000/library/x/latest"},
        {"GHCR.io/x", "ghcr.io/x:latest", "ghcr.io/-/x/latest"},
        {"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/-/x/latest"},
        {"127.0.0.1:80/x/y", "127.0.0.1:80/x/y:latest", "127.0.0.1:80/x/y/latest"},
        {"hf.co/org.x/m", "huggingface.co/org.x/m:latest", "huggingface.co/org.x/m/latest"},
        {"hf.co/localhost/m", "huggingface.co/localhost/m:latest", "huggingface.co/localhost/m/latest"},
        {"a.b", "a.b:latest", "huggingface.co/library/a.b/latest"},
        {"localhost:5000", "localhost:5000", "huggingface.co/library/localhost/5000"},
        {"_x/_y:_z", "_x/_y:_z", "huggingface.co/_x/_y/_z"},
        {"sha256:1234567", "sha256:1234567", "huggingface.co/library/sha256/1234567"},
        {"org/sha256:12345678", "org/sha256:12345678", "huggingface.co/org/sha256/12345678"},
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        mlxr_name n, again;
        assert_ok(mlxr_name_parse(&n, cases[i].text, &err), &err);
        assert_string_equal(display(&n), cases[i].display);
        assert_string_equal(path_of(&n), cases[i].path);
        assert_ok(mlxr_name_parse(&again, cases[i].display, &err), &err);
        assert_memory_equal(&n, &again, sizeof n);
        assert_true(mlxr_name_from_path(&again, cases[i].path));
        assert_memory_equal(&n, &again, sizeof n);
        assert_ok(mlxr_name_parse(&again, full(&n), &err), &err);
        assert_memory_equal(&n, &again, sizeof n);
    }
}

#define A16  "aaaaaaaaaaaaaaaa"
#define A128 A16 A16 A16 A16 A16 A16 A16 A16
#define A127 A16 A16 A16 A16 A16 A16 A16 "aaaaaaaaaaaaaaa"

static void wrong_texts_are_refused_by_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *wrong;
    } cases[] = {
        {"", "is empty"},
        {":", "name is empty"},
        {"x:", "tag is empty"},
        {":x", "name is empty"},
        {"/x", "namespace is empty"},
        {"a//x", "namespace is empty"},
        {"a/", "name is empty"},
        {"localhost:5000/", "name is empty"},
        {"..", "does not begin"},
        {"../x", "the host"},
        {"a/../x", "does not begin"},
        {"a/./x", "does not begin"},
        {"a/..:x", "does not begin"},
        {"-x", "does not begin"},
        {"x:-y", "does not begin"},
        {".x", "does not begin"},
        {"a b", "has more in it"},
        {"a\nb", "has more in it"},
        {"a\\b", "has more in it"},
        {"a:b:c", "has more in it"},
        {"n\xc3\xa4me", "has more in it"},
        {"a+b/c", "has more in it"},
        {"x@sha256:00", "found by its digest"},
        {"sha256:12345678", "is the digest"},
        {"SHA256:abcdef0123", "is the digest"},
        {"library/sha256:12345678", "is the digest"},
        {"localhost:0/x", "port"},
        {"localhost:65536/x", "port"},
        {"localhost:/x", "port"},
        {"localhost:5a/x", "port"},
        {"localhost:007/x", "port"},
        {"a..b/x", "host is empty"},
        {"a.b./x", "host is empty"},
        {"[::1/x", "host"},
        {"[]:1/x", "no address"},
        {"[::1]x:5/x", "no address"},
        {A128 "a", "longer than 128"},
        {"x:" A128 "a", "longer than 128"},
        {A128 "a/x", "longer than 128"},
        {A128 "/" A128 "/x", "longer than 255"},
    };
    mlxr_name n;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_fails(mlxr_name_parse(&n, cases[i].text, &err), MLXR_E_INVALID_ARGUMENT, cases[i].wrong, &err);
    assert_ok(mlxr_name_parse(&n, A127 "/" A127 "/" A128 ":" A128, &err), &err);
}

static void paths_that_are_none(void **state)
{
    static const char *const cases[] = {"",
                                        "a",
                                        "a/b/c",
                                        "huggingface.co/library/x",
                                        "huggingface.co/library/x/y/z",
                                        "huggingface.co/-/x/latest",
                                        "hf.co/library/x/latest",
                                        "HuggingFace.co/a/x/y",
                                        "nohost/a/x/y",
                                        "huggingface.co/Library/x/latest",
                                        "ghcr.io//x/y",
                                        "ghcr.io/-x/x/y",
                                        "ghcr.io/a+/x/y",
                                        "ghcr.io/../x/y",
                                        "ghcr.io/a/../y",
                                        "ghcr.io/a/x/..",
                                        "ghcr.io/a/x/.tmp",
                                        "ghcr.io/a/x/y~",
                                        "/ghcr.io/a/x/y",
                                        "ghcr.io/a/x/y/",
                                        "huggingface.co/library/sha256/12345678"};
    mlxr_name n;
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        if (mlxr_name_from_path(&n, cases[i])) fail_msg("\"%s\" is a name", cases[i]);
}

static void random_texts_come_round(void **state)
{
    static const char letters[] = "abZ09_-.:/+@~ \\[]%\xc3";
    size_t n_good = 0;
    srand(5);
    for (int turn = 0; turn < 300000; turn++) {
        char text[64];
        int n = rand() % 24;
        mlxr_name a, b;
        mlxr_buf copy = {0};
        for (int i = 0; i < n; i++) /* mostly of the good ones */
            text[i] = letters[(size_t)rand() % (rand() % 8 ? 10 : sizeof letters - 1)];
        text[n] = '\0';
        if (mlxr_name_from_path(&a, text)) assert_string_equal(path_of(&a), text);
        if (mlxr_name_parse(&a, text, NULL) != MLXR_OK) continue;
        n_good++;
        mlxr_buf_str(&copy, display(&a));
        assert_ok(mlxr_name_parse(&b, copy.data, &err), &err);
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(mlxr_name_from_path(&b, path_of(&a)));
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(mlxr_name_same(&a, &b));
        mlxr_buf_clear(&copy);
    }
    assert_true(n_good > 10000);
}

static void names_and_letters_case(void **state)
{
    mlxr_name a, b;
    mlxr_buf repository = {0};
    assert_ok(mlxr_name_parse(&a, "Org/Model:Tag", &err), &err);
    assert_ok(mlxr_name_parse(&b, "oRG/mODEL:tAG", &err), &err);
    assert_true(mlxr_name_same(&a, &b));
    assert_ok(mlxr_name_parse(&b, "oRG/mODEL:tAGs", &err), &err);
    assert_false(mlxr_name_same(&a, &b));
    mlxr_name_repository(&repository, &a);
    assert_string_equal(repository.data, "Org/Model");
    assert_true(mlxr_name_is_hub(&a));
    assert_ok(mlxr_name_parse(&b, "ghcr.io/x", &err), &err);
    assert_false(mlxr_name_is_hub(&b));
    repository.len = 0;
    mlxr_name_repository(&repository, &b);
    assert_string_equal(repository.data, "x");
    mlxr_buf_clear(&repository);
}

static void digests(void **state)
{
    char d[72] = "sha256:";
    memset(d + 7, 'a', 64);
    assert_true(mlxr_digest_valid(d));
    d[70] = 'g';
    assert_false(mlxr_digest_valid(d));
    d[70] = 'A';
    assert_false(mlxr_digest_valid(d));
    d[70] = '\0';
    assert_false(mlxr_digest_valid(d));
    assert_false(mlxr_digest_valid(""));
    assert_false(mlxr_digest_valid("sha512:00"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_mean_names),       cmocka_unit_test(wrong_texts_are_refused_by_what_is_wrong),
        cmocka_unit_test(paths_that_are_none),    cmocka_unit_test(random_texts_come_round),
        cmocka_unit_test(names_and_letters_case), cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
