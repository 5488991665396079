/* lang: automata and their operations, against brute force over short texts, and the form they have. */
#include "test.h"

#include "engine/grammar/lang.h"

static mlxr_error err;

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* Texts over a, b, c up to MAX_LEN by number: what a language has of them is a table. */
enum { LETTERS = 3, MAX_LEN = 5, N_TEXTS = 1 + 3 + 9 + 27 + 81 + 243 };

typedef struct short_text {
    char s[MAX_LEN + 1];
    size_t n;
} short_text;
static short_text texts[N_TEXTS];

static int setup(void **state)
{
    size_t n = 1, first = 0;
    texts[0].n = 0;
    for (size_t len = 1; len <= MAX_LEN; len++) {
        size_t last = n;
        for (size_t i = first; i < last; i++)
            for (int c = 0; c < LETTERS; c++) {
                texts[n] = texts[i];
                texts[n].s[len - 1] = (char)('a' + c);
                texts[n++].n = len;
            }
        first = last;
    }
    return n == N_TEXTS ? 0 : 1;
}

static size_t text_number(const char *s, size_t n)
{
    size_t first = 0, width = 1, at = 0;
    for (size_t i = 0; i < n; i++) {
        first += width;
        width *= LETTERS;
        at = at * LETTERS + (size_t)(s[i] - 'a');
    }
    return first + at;
}

typedef struct table {
    bool has[N_TEXTS];
} table;

static void check_table(const mlxr_dfa *d, const table *t, const char *what)
{
    for (size_t i = 0; i < N_TEXTS; i++)
        if (mlxr_dfa_has(d, texts[i].s, texts[i].n) != t->has[i])
            fail_msg("%s: \"%.*s\" %s", what, (int)texts[i].n, texts[i].s,
                     t->has[i] ? "is missing" : "is in");
}

/* Trimmed, minimal (no two states agree on all short texts), in canonical order, and classes no more than needed. */
static void check_form(const mlxr_dfa *d)
{
    bool *live = calloc(d->n_states + 1, 1), changed = true;
    uint32_t seen = 1;
    for (uint32_t s = 0; s < d->n_states; s++) live[s] = d->accepts[s];
    while (changed) {
        changed = false;
        for (uint32_t s = 0; s < d->n_states; s++)
            for (uint32_t c = 0; c < d->n_classes && !live[s]; c++) {
                uint32_t to = d->next[s * d->n_classes + c];
                if (to != MLXR_DFA_NONE && live[to]) live[s] = changed = true;
            }
    }
    for (uint32_t s = 0; s < d->n_states; s++) assert_true(live[s]);
    for (uint32_t s = 0; s < d->n_states; s++) {
        assert_true(s < seen); /* was met before */
        for (uint32_t c = 0; c < d->n_classes; c++) {
            uint32_t to = d->next[s * d->n_classes + c];
            if (to == MLXR_DFA_NONE) continue;
            assert_true(to <= seen);
            if (to == seen) seen++;
        }
    }
    for (unsigned b = 0, n = 0; b < 256; b++) {
        assert_true(d->class_of[b] <= n && d->class_of[b] < d->n_classes);
        if (d->class_of[b] == n) n++;
        if (b == 255) assert_int_equal(n, d->n_classes);
    }
    for (uint32_t a = 0; a < d->n_classes; a++)
        for (uint32_t b = 0; b < a; b++) {
            bool same = true;
            for (uint32_t s = 0; s < d->n_states && same; s++)
                same = d->next[s * d->n_classes + a] == d->next[s * d->n_classes + b];
            assert_true(!same || d->n_states == 0);
        }
    free(live);
    if (d->n_states > 1 && d->n_states <= 200) { /* Moore's refinement ends in as many sets as states */
        uint32_t set[200], sets = 0, n = 1, next_set[200];
        for (uint32_t s = 0; s < d->n_states; s++) set[s] = d->accepts[s];
        while (n != sets) {
            sets = n;
            n = 0;
            for (uint32_t s = 0; s < d->n_states; s++) {
                uint32_t t = 0;
                for (; t < s; t++) {
                    bool same = set[s] == set[t];
                    for (uint32_t c = 0; c < d->n_classes && same; c++) {
                        uint32_t x = d->next[s * d->n_classes + c], y = d->next[t * d->n_classes + c];
                        same = (x == MLXR_DFA_NONE) == (y == MLXR_DFA_NONE) &&
                               (x == MLXR_DFA_NONE || set[x] == set[y]);
                    }
                    if (same) break;
                }
                next_set[s] = t < s ? next_set[t] : n++;
            }
            memcpy(set, next_set, sizeof set);
        }
        assert_int_equal(n, d->n_states);
    }
}

/* A random finite language as literals. */
static mlxr_dfa *random_literals(table *t, uint32_t max_len)
{
    mlxr_text list[12];
    mlxr_dfa *d;
    size_t n = random_below(8);
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < n; i++) {
        size_t k;
        do k = random_below(N_TEXTS);
        while (texts[k].n > max_len);
        list[i] = (mlxr_text){texts[k].s, texts[k].n};
        t->has[k] = true;
    }
    assert_ok(mlxr_dfa_literals(&d, list, n, &err), &err);
    return d;
}

static void tables_concat(table *out, const table *a, const table *b)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < N_TEXTS; i++)
        for (size_t cut = 0; cut <= texts[i].n && !out->has[i]; cut++)
            out->has[i] = a->has[text_number(texts[i].s, cut)] &&
                          b->has[text_number(texts[i].s + cut, texts[i].n - cut)];
}

static void tables_repeat(table *out, const table *a, size_t min, size_t max)
{
    table power = {{0}}, sum = {{0}}, next;
    size_t last = max == SIZE_MAX ? min + MAX_LEN
                                  : max; /* more rounds add no short text but by the empty one */
    power.has[0] = true;
    for (size_t i = 0; i <= last; i++) {
        if (i >= min)
            for (size_t j = 0; j < N_TEXTS; j++) sum.has[j] |= power.has[j];
        tables_concat(&next, &power, a);
        power = next;
    }
    *out = sum;
}

static void operations_agree_with_brute_force(void **state)
{
    for (int round = 0; round < 400; round++) {
        table ta, tb, t;
        mlxr_dfa *a = random_literals(&ta, MAX_LEN), *b = random_literals(&tb, MAX_LEN), *star, *d;
        size_t min = random_below(4), max = random_below(3) ? min + random_below(4) : SIZE_MAX;
        check_table(a, &ta, "literals");
        check_form(a);

        if (round & 1) { /* an infinite one */
            assert_ok(mlxr_dfa_repeat(&star, a, 0, SIZE_MAX, NULL, &err), &err);
            tables_repeat(&t, &ta, 0, SIZE_MAX);
            ta = t;
            mlxr_dfa_unref(a);
            a = star;
            check_table(a, &ta, "star");
            check_form(a);
        }

        assert_ok(mlxr_dfa_union(&d, a, b, NULL, &err), &err);
        for (size_t i = 0; i < N_TEXTS; i++) t.has[i] = ta.has[i] || tb.has[i];
        check_table(d, &t, "union");
        check_form(d);
        mlxr_dfa_unref(d);

        assert_ok(mlxr_dfa_intersect(&d, a, b, NULL, &err), &err);
        for (size_t i = 0; i < N_TEXTS; i++) t.has[i] = ta.has[i] && tb.has[i];
        check_table(d, &t, "intersection");
        check_form(d);
        mlxr_dfa_unref(d);

        assert_ok(mlxr_dfa_minus(&d, a, b, NULL, &err), &err);
        for (size_t i = 0; i < N_TEXTS; i++) t.has[i] = ta.has[i] && !tb.has[i];
        check_table(d, &t, "difference");
        check_form(d);
        mlxr_dfa_unref(d);

        assert_ok(mlxr_dfa_concat(&d, a, b, NULL, &err), &err);
        tables_concat(&t, &ta, &tb);
        check_table(d, &t, "concatenation");
        check_form(d);
        mlxr_dfa_unref(d);

        assert_ok(mlxr_dfa_repeat(&d, a, min, max, NULL, &err), &err);
        tables_repeat(&t, &ta, min, max);
        check_table(d, &t, "repetition");
        check_form(d);
        mlxr_dfa_unref(d);
        mlxr_dfa_unref(a);
        mlxr_dfa_unref(b);
    }
}

/* One language made in several ways is one automaton. */
static void equal_languages_are_equal(void **state)
{
    mlxr_dfa *any, *l0, *l1, *l2, *a, *b, *c, *d;
    assert_ok(mlxr_dfa_any(&any, &err), &err);
    check_form(any);
    assert_ok(mlxr_dfa_length(&l1, 1, 1, NULL, &err), &err);
    assert_ok(mlxr_dfa_repeat(&a, l1, 0, SIZE_MAX, NULL, &err), &err);
    assert_true(mlxr_dfa_equal(a, any));
    assert_ok(mlxr_dfa_length(&l2, 2, 5, NULL, &err), &err);
    check_form(l2);
    assert_ok(mlxr_dfa_repeat(&b, l1, 2, 5, NULL, &err), &err);
    assert_true(mlxr_dfa_equal(b, l2));
    assert_ok(mlxr_dfa_length(&l0, 0, 1, NULL, &err), &err);
    assert_ok(mlxr_dfa_length(&c, 6, SIZE_MAX, NULL, &err), &err);
    check_form(c);
    mlxr_dfa_unref(b);
    assert_ok(mlxr_dfa_union(&b, l0, c, NULL, &err), &err);
    assert_ok(mlxr_dfa_minus(&d, any, b, NULL, &err), &err);
    assert_true(mlxr_dfa_equal(d, l2));
    assert_false(mlxr_dfa_equal(d, any));
    mlxr_dfa_unref(a);
    mlxr_dfa_unref(b);
    mlxr_dfa_unref(c);
    mlxr_dfa_unref(d);
    mlxr_dfa_unref(l0);
    mlxr_dfa_unref(l1);
    mlxr_dfa_unref(l2);
    mlxr_dfa_unref(any);
}

static void any_is_valid_utf8(void **state)
{
    mlxr_dfa *any;
    char s[4];
    assert_ok(mlxr_dfa_any(&any, &err), &err);
    assert_true(mlxr_dfa_has(any, "", 0));
    for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x11000 ? 1 : 97) {
        size_t n;
        if (cp >= 0xd800 && cp < 0xe000) continue;
        n = mlxr_utf8_encode(s, cp);
        assert_true(mlxr_dfa_has(any, s, n));
        if (n > 1) assert_false(mlxr_dfa_has(any, s, n - 1));
    }
    for (uint32_t v = 0; v < 1 << 24; v += 251) { /* any three bytes, as base judges them */
        s[0] = (char)(v >> 16);
        s[1] = (char)(v >> 8);
        s[2] = (char)v;
        assert_int_equal(mlxr_dfa_has(any, s, 3), mlxr_utf8_valid(s, 3) == 3);
    }
    assert_true(mlxr_dfa_has(any, "\xf4\x8f\xbf\xbf", 4));
    assert_false(mlxr_dfa_has(any, "\xf4\x90\x80\x80", 4));
    assert_false(mlxr_dfa_has(any, "\xf0\x8f\xbf\xbf", 4));
    assert_true(mlxr_dfa_count(any) == UINT64_MAX);
    mlxr_dfa_unref(any);
}

static void ranges_are_characters(void **state)
{
    static const mlxr_char_range r[] = {
        {'a', 'c'}, {0x7e, 0x801}, {0xd700, 0xe010}, {0xfff0, 0x10020}, {0x10fffe, 0x10ffff}};
    mlxr_dfa *d;
    uint64_t n = 0;
    char s[4];
    assert_ok(mlxr_dfa_ranges(&d, r, MLXR_COUNT(r), &err), &err);
    check_form(d);
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        bool in = false;
        if (cp >= 0xd800 && cp < 0xe000) continue;
        for (size_t i = 0; i < MLXR_COUNT(r); i++) in |= cp >= r[i].first && cp <= r[i].last;
        n += in;
        if (mlxr_dfa_has(d, s, mlxr_utf8_encode(s, cp)) != in) fail_msg("U+%04X", cp);
    }
    assert_true(mlxr_dfa_count(d) == n);
    mlxr_dfa_unref(d);
    assert_ok(mlxr_dfa_ranges(&d, NULL, 0, &err), &err);
    assert_true(mlxr_dfa_is_empty(d));
    mlxr_dfa_unref(d);
}

typedef struct listing {
    mlxr_buf text;
    size_t n, stop_after;
} listing;

static bool list_text(const char *text, size_t n, void *ud)
{
    listing *l = ud;
    mlxr_buf_append(&l->text, text, n);
    mlxr_buf_char(&l->text, '|');
    return ++l->n != l->stop_after;
}

static void texts_are_counted_and_listed(void **state)
{
    static const mlxr_text t[] = {{"b", 1}, {"", 0}, {"ab", 2}, {"a", 1}, {"ab", 2}, {"\xff\0z", 3}};
    mlxr_dfa *d, *e;
    listing l = {0};
    assert_ok(mlxr_dfa_literals(&d, t, MLXR_COUNT(t), &err), &err);
    assert_int_equal(mlxr_dfa_count(d), 5);
    assert_ok(mlxr_dfa_each(d, 5, list_text, &l, &err), &err);
    assert_int_equal(l.text.len, 12);
    assert_memory_equal(l.text.data, "|a|ab|b|\xff\0z|", l.text.len);
    assert_fails(mlxr_dfa_each(d, 4, list_text, &l, &err), MLXR_E_LIMIT, "5 texts", &err);
    l.text.len = l.n = 0;
    l.stop_after = 2;
    assert_ok(mlxr_dfa_each(d, 5, list_text, &l, &err), &err);
    assert_string_equal(l.text.data, "|a|");
    mlxr_buf_clear(&l.text);
    assert_ok(mlxr_dfa_repeat(&e, d, 0, 64, NULL, &err), &err);
    assert_true(mlxr_dfa_count(e) == UINT64_MAX); /* an end, but far */
    mlxr_dfa_unref(e);
    assert_ok(mlxr_dfa_repeat(&e, d, 0, SIZE_MAX, NULL, &err), &err);
    assert_fails(mlxr_dfa_each(e, 1000, list_text, &l, &err), MLXR_E_LIMIT, "too many", &err);
    mlxr_dfa_unref(d);
    mlxr_dfa_unref(e);
    assert_ok(mlxr_dfa_empty(&d, &err), &err);
    assert_int_equal(mlxr_dfa_count(d), 0);
    assert_false(mlxr_dfa_has(d, "", 0));
    assert_ok(mlxr_dfa_each(d, 0, list_text, &l, &err), &err);
    mlxr_dfa_unref(d);
}

static void strings_are_escaped_one_way(void **state)
{
    static const struct {
        const char *decoded, *written;
        size_t n;
    } cases[] = {{"a\"b\\/", "a\\\"b\\\\/", 5},
                 {"\b\f\n\r\t", "\\b\\f\\n\\r\\t", 5},
                 {"\0\x1f\x7f", "\\u0000\\u001f\x7f", 3},
                 {"\x0b", "\\u000b", 1},
                 {"\xc3\xa9\xf0\x9f\x98\x80", "\xc3\xa9\xf0\x9f\x98\x80", 6}};
    mlxr_dfa *d, *s, *any, *any_s, *both;
    assert_ok(mlxr_dfa_any(&any, &err), &err);
    assert_ok(mlxr_dfa_json_string(&any_s, any, NULL, &err), &err);
    check_form(any_s);
    for (size_t i = 0; i < MLXR_COUNT(cases); i++) {
        assert_ok(mlxr_dfa_literal(&d, cases[i].decoded, cases[i].n, &err), &err);
        assert_ok(mlxr_dfa_json_string(&s, d, NULL, &err), &err);
        check_form(s);
        assert_int_equal(mlxr_dfa_count(s), 1);
        assert_true(mlxr_dfa_has(s, cases[i].written, strlen(cases[i].written)));
        assert_true(mlxr_dfa_has(any_s, cases[i].written, strlen(cases[i].written)));
        assert_ok(mlxr_dfa_intersect(&both, s, any_s, NULL, &err), &err);
        assert_true(mlxr_dfa_equal(both, s));
        mlxr_dfa_unref(both);
        mlxr_dfa_unref(d);
        mlxr_dfa_unref(s);
    }
    for (const char *const *bad = (const char *const[]){"\"", "\\", "\n", "\\/", "\\u000a", "\\u001F",
                                                        "\\u0061", "\\u", "\\x", NULL};
         *bad; bad++)
        if (mlxr_dfa_has(any_s, *bad, strlen(*bad))) fail_msg("%s", *bad);
    mlxr_dfa_unref(any);
    mlxr_dfa_unref(any_s);
}

static void limits_are_kept(void **state)
{
    mlxr_lang_limits few = {.max_states = 50, .max_steps = 100000},
                     short_time = {.max_states = 20000, .max_steps = 500};
    mlxr_dfa *a, *b, *d;
    assert_fails(mlxr_dfa_length(&d, 0, 1000000000, NULL, &err), MLXR_E_LIMIT, "max_states", &err);
    assert_null(d);
    assert_fails(mlxr_dfa_length(&d, 60, 60, &few, &err), MLXR_E_LIMIT, "50 states (max_states)", &err);
    assert_ok(mlxr_dfa_literal(&a, "abc", 3, &err), &err);
    assert_ok(mlxr_dfa_length(&b, 0, 5, &few, &err), &err);
    assert_fails(mlxr_dfa_repeat(&d, a, 0, 1000, &few, &err), MLXR_E_LIMIT, "max_states", &err);
    assert_fails(mlxr_dfa_repeat(&d, a, 0, SIZE_MAX - 1, NULL, &err), MLXR_E_LIMIT, "max_states", &err);
    assert_fails(mlxr_dfa_repeat(&d, a, 100, 300, &short_time, &err), MLXR_E_LIMIT, "max_steps", &err);
    assert_fails(mlxr_dfa_union(&d, a, b, &short_time, &err), MLXR_E_LIMIT, "max_steps", &err);
    assert_null(d);
    mlxr_dfa_unref(a);
    mlxr_dfa_unref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_agree_with_brute_force),
        cmocka_unit_test(equal_languages_are_equal),
        cmocka_unit_test(any_is_valid_utf8),
        cmocka_unit_test(ranges_are_characters),
        cmocka_unit_test(texts_are_counted_and_listed),
        cmocka_unit_test(strings_are_escaped_one_way),
        cmocka_unit_test(limits_are_kept),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
