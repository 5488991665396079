/* Checked allocation, the growable buffer, the arena, the string table. */
#include "test.h"

/* Not a constant in the compiler's eyes, which would warn of the overflow that is meant. */
static volatile size_t huge = SIZE_MAX;

static void sizes_that_overflow_are_refused(void **state)
{
    size_t out = 7;
    assert_false(mlxr_mul_size(&out, huge, 2));
    assert_false(mlxr_mul_size(&out, (huge >> 32) + 3, huge >> 32));
    assert_false(mlxr_add_size(&out, huge, 1));
    assert_int_equal(out, 7);
    assert_true(mlxr_mul_size(&out, huge, 1));
    assert_true(out == SIZE_MAX);
    assert_true(mlxr_mul_size(&out, 0, huge));
    assert_int_equal(out, 0);
    assert_true(mlxr_add_size(&out, huge - 1, 1));
    assert_true(out == SIZE_MAX);
}

static void arrays_that_overflow_are_null(void **state)
{
    char *p = malloc(1);
    assert_null(mlxr_malloc_array(huge, 2));
    assert_null(mlxr_calloc_array(huge, 2));
    assert_null(mlxr_realloc_array(p, huge, 2)); /* and p is still ours */
    assert_null(mlxr_aligned_alloc(huge - 10));
    assert_null(mlxr_strndup("x", huge));
    free(p);
}

static void no_bytes_are_not_null(void **state)
{
    void *p[] = {mlxr_malloc_array(0, 8), mlxr_calloc_array(8, 0), mlxr_calloc_array(0, 0),
                 mlxr_realloc_array(NULL, 0, 8)};
    for (size_t i = 0; i < MLXR_COUNT(p); i++) {
        assert_non_null(p[i]);
        free(p[i]);
    }
    void *a = mlxr_aligned_alloc(0);
    assert_non_null(a);
    mlxr_aligned_free(a);
    mlxr_aligned_free(NULL);
    mlxr_free(NULL);
}

static void aligned_and_zeroed(void **state)
{
    for (size_t n = 1; n < 300; n += 37) {
        unsigned char *a = mlxr_aligned_alloc(n), *z = mlxr_calloc_array(n, 3);
        assert_int_equal((uintptr_t)a % 64, 0);
        memset(a, 0xff, n);
        for (size_t i = 0; i < 3 * n; i++) assert_int_equal(z[i], 0);
        mlxr_aligned_free(a);
        free(z);
    }
}

static void copies_of_strings(void **state)
{
    char *a = mlxr_strdup("abc"), *b = mlxr_strndup("abcdef", 2), *c = mlxr_asprintf("%s-%03d", "x", 7),
         *d = mlxr_strndup(NULL, 0);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "x-007");
    assert_string_equal(d, "");
    free(a);
    free(b);
    free(c);
    free(d);
}

static void a_buffer_grows_and_ends_in_nul(void **state)
{
    mlxr_buf b = {0};
    char want[2001];

    for (size_t i = 0; i < 2000; i++) {
        char c = (char)('a' + i % 26);
        want[i] = c;
        if (i % 3 == 0)
            mlxr_buf_char(&b, c);
        else if (i % 3 == 1)
            mlxr_buf_append(&b, &c, 1);
        else
            mlxr_buf_printf(&b, "%c", c);
        assert_int_equal(b.len, i + 1);
        assert_int_equal(b.data[b.len], 0);
    }
    want[2000] = '\0';
    assert_string_equal(b.data, want);
    assert_int_equal(mlxr_buf_check(&b, "b", NULL), MLXR_OK);
    mlxr_buf_clear(&b);
    assert_null(b.data);
    mlxr_buf_clear(&b);
}

static void a_buffer_takes_every_kind(void **state)
{
    mlxr_buf b = {0};
    size_t n;
    char *p;

    mlxr_buf_str(&b, "");
    assert_non_null(b.data);
    mlxr_buf_append(&b, NULL, 0);
    mlxr_buf_utf8(&b, 0x20ac);
    mlxr_buf_str(&b, "1.5 ");
    mlxr_buf_printf(&b, "%s|%d", "text", -3);
    mlxr_buf_printf(&b, "%s", "");
    p = mlxr_buf_reserve(&b, 100);
    assert_non_null(p);
    memcpy(p, "xyz", 4);
    b.len += 3;
    p = mlxr_buf_take(&b, &n);
    assert_string_equal(p, "\xe2\x82\xac"
                           "1.5 text|-3xyz");
    assert_int_equal(n, strlen(p));
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    mlxr_free(p);
}

static void taking_an_empty_buffer_gives_an_empty_string(void **state)
{
    mlxr_buf b = {0};
    size_t n = 9;
    char *p = mlxr_buf_take(&b, &n);
    assert_string_equal(p, "");
    assert_int_equal(n, 0);
    free(p);
}

static void a_failed_buffer_stays_failed(void **state)
{
    mlxr_buf b = {0};
    mlxr_error err;
    size_t n = 9;

    mlxr_buf_str(&b, "before");
    assert_null(mlxr_buf_reserve(&b, huge));
    assert_null(mlxr_buf_reserve(&b, huge - 6)); /* room for the bytes, none for the NUL */
    assert_true(b.failed);
    mlxr_buf_str(&b, "after");
    mlxr_buf_char(&b, 'x');
    mlxr_buf_printf(&b, "%d", 1);
    assert_null(mlxr_buf_reserve(&b, 1));
    assert_string_equal(b.data, "before");
    assert_int_equal(mlxr_buf_check(&b, "answer", &err), MLXR_E_NOMEM);
    assert_string_equal(err.message, "answer: out of memory");
    assert_null(mlxr_buf_take(&b, &n));
    assert_int_equal(n, 0);
    assert_null(b.data);
    assert_false(b.failed);
}

static void arena_bytes_are_apart_and_aligned(void **state)
{
    mlxr_arena a = {0};
    enum { N = 3000 };
    unsigned char *p[N];
    size_t size[N], total = 0;

    for (size_t i = 0; i < N; i++) {
        size[i] = i % 500 == 499 ? 3000000 : i * 7 % 301;
        p[i] = mlxr_arena_alloc(&a, size[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)(i & 255), size[i]);
        total += size[i];
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k<size[i]; k += size[i]> 1000 ? 4001 : 1) assert_int_equal(p[i][k], i & 255);
    assert_in_range(a.used_bytes, total, total + 16 * N);
    mlxr_arena_clear(&a);
    assert_null(a.head);
    mlxr_arena_clear(&a);
}

static void arena_strings_and_zeroes(void **state)
{
    mlxr_arena a = {0};
    char *s, *t;
    int *z;

    s = mlxr_arena_alloc(&a, 64);
    memset(s, 0xff, 64);
    z = mlxr_arena_calloc(&a, 10, sizeof *z);
    for (int i = 0; i < 10; i++) assert_int_equal(z[i], 0);
    s = mlxr_arena_strndup(&a, "abcdef", 3);
    t = mlxr_arena_printf(&a, "%s-%d", s, 42);
    assert_string_equal(s, "abc");
    assert_string_equal(t, "abc-42");
    assert_string_equal(mlxr_arena_strndup(&a, NULL, 0), "");
    mlxr_arena_clear(&a);
}

static void arena_sizes_that_overflow_are_null(void **state)
{
    mlxr_arena a = {0};
    assert_null(mlxr_arena_alloc(&a, huge));
    assert_null(mlxr_arena_alloc(&a, huge - 20));
    assert_null(mlxr_arena_calloc(&a, huge, 2));
    assert_null(mlxr_arena_strndup(&a, "x", huge));
    assert_non_null(mlxr_arena_alloc(&a, 1)); /* and it still works */
    mlxr_arena_clear(&a);
}

static void a_table_finds_what_was_put(void **state)
{
    mlxr_strtab t = {0};
    mlxr_arena a = {0};
    enum { N = 20000 };
    size_t old;

    assert_true(mlxr_strtab_get(&t, "x", 1) == SIZE_MAX);
    for (size_t i = 0; i < N; i++) {
        char *key = mlxr_arena_printf(&a, "key %zu", i * i);
        assert_true(mlxr_strtab_put(&t, key, strlen(key), i, &old));
        assert_true(old == SIZE_MAX);
    }
    assert_int_equal(t.n, N);
    for (size_t i = 0; i < N; i++) {
        char key[64];
        int n = snprintf(key, sizeof key, "key %zu", i * i);
        assert_int_equal(mlxr_strtab_get(&t, key, (size_t)n), i);
        assert_true(mlxr_strtab_get(&t, key, (size_t)n - 1) != i); /* a shorter key is another key */
    }
    assert_true(mlxr_strtab_get(&t, "key 2", 5) == SIZE_MAX);
    mlxr_strtab_clear(&t);
    assert_true(mlxr_strtab_get(&t, "key 4", 5) == SIZE_MAX);
    mlxr_strtab_clear(&t);
    mlxr_arena_clear(&a);
}

static void a_table_replaces_and_tells_the_old_value(void **state)
{
    mlxr_strtab t = {0};
    size_t old = 0;

    assert_true(mlxr_strtab_put(&t, "a\0b", 3, 1, NULL));
    assert_true(mlxr_strtab_put(&t, "a\0c", 3, 2, &old));
    assert_true(old == SIZE_MAX);
    assert_true(mlxr_strtab_put(&t, "a\0b", 3, 3, &old));
    assert_int_equal(old, 1);
    assert_true(mlxr_strtab_put(&t, "", 0, 4, &old));
    assert_true(old == SIZE_MAX);
    assert_int_equal(t.n, 3);
    assert_int_equal(mlxr_strtab_get(&t, "a\0b", 3), 3);
    assert_int_equal(mlxr_strtab_get(&t, "a\0c", 3), 2);
    assert_int_equal(mlxr_strtab_get(&t, "", 0), 4);
    assert_true(mlxr_strtab_get(&t, "a", 1) == SIZE_MAX);
    mlxr_strtab_clear(&t);
}

static void hashes_differ_by_length_content_and_seed(void **state)
{
    static const char zeros[32] = {0};
    uint64_t h[33];
    for (size_t n = 0; n <= 32; n++) {
        h[n] = mlxr_hash_bytes(zeros, n, 1);
        for (size_t k = 0; k < n; k++) assert_true(h[n] != h[k]);
    }
    assert_true(mlxr_hash_bytes("abcdefgh", 8, 1) != mlxr_hash_bytes("abcdefgi", 8, 1));
    assert_true(mlxr_hash_bytes("abcdefgh", 8, 1) != mlxr_hash_bytes("abcdefgh", 8, 2));
    assert_true(mlxr_hash_bytes("abcdefgh", 8, 1) == mlxr_hash_bytes("abcdefgh", 8, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(arrays_that_overflow_are_null),
        cmocka_unit_test(no_bytes_are_not_null),
        cmocka_unit_test(aligned_and_zeroed),
        cmocka_unit_test(copies_of_strings),
        cmocka_unit_test(a_buffer_grows_and_ends_in_nul),
        cmocka_unit_test(a_buffer_takes_every_kind),
        cmocka_unit_test(taking_an_empty_buffer_gives_an_empty_string),
        cmocka_unit_test(a_failed_buffer_stays_failed),
        cmocka_unit_test(arena_bytes_are_apart_and_aligned),
        cmocka_unit_test(arena_strings_and_zeroes),
        cmocka_unit_test(arena_sizes_that_overflow_are_null),
        cmocka_unit_test(a_table_finds_what_was_put),
        cmocka_unit_test(a_table_replaces_and_tells_the_old_value),
        cmocka_unit_test(hashes_differ_by_length_content_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
