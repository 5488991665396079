/* Masks against bytes: JSON-like grammars with everything that masks have a short way for (insides of strings, counts, names that are
 * used up), over a made vocabulary; and names by themselves against a recogniser that splits and compares. */
#include "engine/grammar/grammar.h"
#include "test.h"

static mlxr_error err;
static uint64_t rng, seed_now;
static uint32_t draw(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 16) % n);
}

static void seed(uint64_t s)
{
    seed_now = s;
    rng = s * 0x9e3779b97f4a7c15u + 12345;
    draw(2), draw(2);
}

/* ---- vocabulary ---- */

enum { MAX_TOKENS = 4000 };
static mlxr_text tokens[MAX_TOKENS];
static size_t n_tokens;

static void token_bytes(void *ud, int32_t id, mlxr_buf *out)
{
    mlxr_buf_append(out, tokens[id].bytes, tokens[id].n);
}

static void add_token(const char *bytes, size_t n)
{
    char *p = mlxr_strndup(bytes, n);
    assert_non_null(p);
    assert_true(n_tokens < MAX_TOKENS);
    tokens[n_tokens++] = (mlxr_text){p, n};
}

static void make_tokens(void)
{
    static const char *const parts[] = {
        "{",        "}",    "[",    "]",        ",",       ":",        "\"",
        "\\",       " ",    "\n",   "a",        "ab",      "b",        "1",
        "0",        "-",    ".",    "e",        "true",    "name",     "x1",
        "\\n",      "\\u",  "00e4", "d83d",     "\\ude00", "\xc3\xa4", "\xf0\x9f\x98\x80",
        "\xe2\x82", "\xac", "\xc3", "\xf0\x9f", "extra",   "u",        "\t",
        "\x7f"};
    for (unsigned b = 0; b < 256; b++) {
        char c = (char)b;
        add_token(&c, 1);
    }
    for (int i = 0; i < 1500; i++) {
        mlxr_buf t = {0};
        for (uint32_t j = 0, n = 1 + draw(5); j < n; j++) mlxr_buf_str(&t, parts[draw(MLXR_COUNT(parts))]);
        add_token(t.data, t.len);
        mlxr_buf_clear(&t);
    }
    for (int i = 1; i < 40; i++) { /* long ones, for bounds */
        char c[41];
        memset(c, i % 2 ? ' ' : 'a', sizeof c);
        add_token(c, (size_t)i);
    }
    add_token("\xff<call>", 7);
    add_token("\xff<end>", 6);
    add_token("<call>", 6);
    add_token("", 0);
}

static bool bit(const uint32_t *mask, size_t id)
{
    return mask[id / 32] >> (id % 32) & 1;
}

/* At the matcher's state every token of the mask fits by its bytes and every other does not. */
static void compare(mlxr_matcher *m, const uint32_t *borrowed, const char *behind)
{
    uint32_t mask[(MAX_TOKENS + 31) / 32];
    memcpy(mask, borrowed, (n_tokens + 31) / 32 * 4);
    for (size_t id = 0; id < n_tokens; id++) {
        const mlxr_text *t = &tokens[id];
        mlxr_matcher *c;
        size_t taken;
        bool want;
        /* Ordinary tokens with the byte of special ones are in no mask. */
        if (!t->n || (t->n == 1 && (uint8_t)t->bytes[0] == 0xff)) {
            assert_false(bit(mask, id));
            continue;
        }
        assert_ok(mlxr_matcher_clone(&c, m, &err), &err);
        assert_ok(mlxr_matcher_push(&taken, c, t->bytes, t->n, &err), &err);
        want = taken == t->n;
        mlxr_matcher_free(c);
        if (want != bit(mask, id))
            fail_msg("seed %llu: behind %s: token %zu \"%.*s\": mask %d, by bytes %d",
                     (unsigned long long)seed_now, behind, id, (int)t->n, t->bytes, bit(mask, id), want);
    }
}

static void walk(mlxr_grammar *g, const mlxr_vocabulary *v, int n_walks, int n_steps)
{
    mlxr_masker *k;
    mlxr_matcher *m;
    assert_ok(mlxr_masker_create(&k, g, v, &err), &err);
    for (int w = 0; w < n_walks; w++) {
        mlxr_buf text = {0};
        mlxr_buf_str(&text, "");
        assert_ok(mlxr_matcher_create(&m, k, &err), &err);
        for (int i = 0; i < n_steps; i++) {
            const uint32_t *mask;
            uint32_t copy[(MAX_TOKENS + 31) / 32];
            size_t n = 0, at;
            assert_ok(mlxr_matcher_mask(&mask, m, &err), &err);
            memcpy(copy, mask, (n_tokens + 31) / 32 * 4);
            for (size_t id = 0; id < n_tokens; id++) n += bit(copy, id);
            if (n == 0) {
                assert_true(mlxr_matcher_must_end(m));
                break;
            }
            if (draw(4) == 0) compare(m, copy, text.data);
            at = draw((uint32_t)n);
            for (size_t id = 0; id < n_tokens; id++)
                if (bit(copy, id) && at-- == 0) {
                    assert_ok(mlxr_matcher_accept(m, (int32_t)id, &err), &err);
                    mlxr_buf_append(&text, tokens[id].bytes, tokens[id].n);
                    break;
                }
            if (draw(40) == 0) mlxr_masker_trim(k, draw(2) ? 0 : 20000);
        }
        mlxr_buf_clear(&text);
        mlxr_matcher_free(m);
    }
    mlxr_masker_free(k);
}

/* ---- grammars like a schema's ---- */

static mlxr_grammar_builder *b;
static mlxr_rule any;

#define T(s) mlxr_gb_text(b, s, strlen(s))
#define SEQ(...) \
    mlxr_gb_seq(b, (const mlxr_expr[]){__VA_ARGS__}, sizeof((mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))
#define ALT(...) \
    mlxr_gb_alt(b, (const mlxr_expr[]){__VA_ARGS__}, sizeof((mlxr_expr[]){__VA_ARGS__}) / sizeof(mlxr_expr))

static mlxr_expr regex(const char *pattern)
{
    mlxr_dfa *d;
    assert_ok(mlxr_dfa_regex(&d, pattern, strlen(pattern), true, NULL, &err), &err);
    return mlxr_gb_dfa(b, d);
}

static mlxr_dfa *names_but(const mlxr_text *texts, size_t n)
{
    mlxr_dfa *all, *listed, *rest, *out;
    assert_ok(mlxr_dfa_any(&all, &err), &err);
    assert_ok(mlxr_dfa_literals(&listed, texts, n, &err), &err);
    assert_ok(mlxr_dfa_minus(&rest, all, listed, NULL, &err), &err);
    assert_ok(mlxr_dfa_json_string(&out, rest, NULL, &err), &err);
    mlxr_dfa_unref(all);
    mlxr_dfa_unref(listed);
    mlxr_dfa_unref(rest);
    return out;
}

static mlxr_expr value(int depth)
{
    static const mlxr_text listed[] = {{"name", 4}, {"a", 1}, {"extra", 5}};
    static const mlxr_text few[] = {{"a", 1}, {"ab", 2}, {"abb", 3}, {"b", 1}};
    mlxr_dfa *d;
    mlxr_expr e;
    mlxr_rule r;
    switch (draw(depth > 0 ? 13 : 7)) {
    case 0: return SEQ(T("\""), mlxr_gb_chars(b, 0, SIZE_MAX), T("\""));
    case 1: {
        uint32_t min = draw(8), n = draw(60);
        return SEQ(T("\""), mlxr_gb_chars(b, min, min + n), T("\""));
    }
    case 2: return regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?(e[0-9]+)?");
    case 3: return regex("\"[a-b ]*\"");
    case 4: return SEQ(T("\""), mlxr_gb_dfa(b, names_but(listed, 3)), T("\""));
    case 5: return mlxr_gb_call(b, any);
    case 6: return SEQ(T("\""), mlxr_gb_repeat(b, regex("[a-z ]"), draw(3), 50 + draw(50)), T("\""));
    case 7:
    case 8:
    case 9:
        e = SEQ(T("{"), T("\"name\": "), value(depth - 1));
        if (draw(2)) e = SEQ(e, mlxr_gb_optional(b, SEQ(T(", \"a\": "), value(depth - 1))));
        if (draw(2)) {
            size_t max = draw(2) ? SIZE_MAX : 30 + draw(100);
            if (draw(3) == 0)
                assert_ok(mlxr_dfa_literals(&d, few, 4, &err), &err);
            else
                d = names_but(listed, 3);
            e = SEQ(e, mlxr_gb_repeat(b,
                                      SEQ(T(", "), T("\""), mlxr_gb_unique(b, d), T("\":"), regex(" ?"),
                                          draw(2) ? regex("0|1|2") : value(depth - 1)),
                                      draw(2), max));
        }
        e = SEQ(e, regex("\n?"), T("}"));
        break;
    case 10:
    case 11:
        r = mlxr_gb_rule(b, "item");
        mlxr_gb_define(b, r, value(depth - 1));
        e = SEQ(T("["), regex(" ?"),
                mlxr_gb_optional(b, SEQ(mlxr_gb_call(b, r), mlxr_gb_repeat(b, SEQ(T(","), mlxr_gb_call(b, r)),
                                                                           0, draw(2) ? SIZE_MAX : 70))),
                T("]"));
        break;
    default: {
        static const char *const words[] = {"<call>", "<end>"};
        e = SEQ(T("<"), draw(2) ? mlxr_gb_until(b, words, 2)
                                : SEQ(mlxr_gb_free(b, words, 2), mlxr_gb_marker(b, "<end>")));
        break;
    }
    }
    if (draw(2)) return e;
    r = mlxr_gb_rule(b, "value");
    mlxr_gb_define(b, r, e);
    return mlxr_gb_call(b, r);
}

static void define_any(void)
{
    mlxr_rule member = mlxr_gb_rule(b, "member");
    any = mlxr_gb_rule(b, "any");
    mlxr_gb_define(b, member, SEQ(T("\""), mlxr_gb_chars(b, 0, SIZE_MAX), T("\": "), mlxr_gb_call(b, any)));
    mlxr_gb_define(
        b, any,
        ALT(regex("true|[0-9]+"), SEQ(T("\""), mlxr_gb_chars(b, 0, SIZE_MAX), T("\"")),
            SEQ(T("["),
                mlxr_gb_optional(b, SEQ(mlxr_gb_call(b, any),
                                        mlxr_gb_repeat(b, SEQ(T(","), mlxr_gb_call(b, any)), 0, SIZE_MAX))),
                T("]")),
            SEQ(T("{"),
                mlxr_gb_optional(b,
                                 SEQ(mlxr_gb_call(b, member),
                                     mlxr_gb_repeat(b, SEQ(T(", "), mlxr_gb_call(b, member)), 0, SIZE_MAX))),
                T("}"))));
}

static mlxr_grammar *made(void)
{
    mlxr_grammar *g;
    mlxr_rule root;
    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    root = mlxr_gb_rule(b, "root");
    define_any();
    mlxr_gb_define(b, root, value(3));
    assert_ok(mlxr_grammar_finish(&g, b, root, &err), &err);
    mlxr_grammar_builder_free(b);
    return g;
}

static void json_like(void **state)
{
    const char *from = getenv("SEED"), *many = getenv("COUNT");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1, count = many   ? strtoull(many, NULL, 10)
                                                                  : from ? 1
                                                                         : 150;
    for (uint64_t s = first; s < first + count; s++) {
        mlxr_vocabulary *v;
        mlxr_vocabulary_params p = {.bytes = token_bytes};
        mlxr_grammar *g;
        seed(s);
        make_tokens();
        p.vocab_size = n_tokens;
        p.strips_first_space = draw(4) == 0;
        assert_ok(mlxr_vocabulary_create(&v, &p, &err), &err);
        g = made();
        walk(g, v, 3, 40);
        mlxr_grammar_unref(g);
        mlxr_vocabulary_free(v);
        while (n_tokens) free((char *)tokens[--n_tokens].bytes);
    }
}

/* Behind names that were used, at every point of the next one: tokens that end a used name are in no mask. */
static void used_names(void **state)
{
    static const char *const names[] = {"a", "ab", "b", "u", "1", "name1", "x1", "abab", "u1", "true"};
    static const mlxr_text listed[] = {{"name", 4}, {"ab0", 3}};
    for (uint64_t s = 1; s <= 60; s++) {
        mlxr_vocabulary *v;
        mlxr_vocabulary_params p = {.bytes = token_bytes};
        mlxr_grammar *g;
        mlxr_masker *k;
        mlxr_rule root;
        mlxr_expr member;
        seed(s);
        make_tokens();
        for (size_t i = 0; i < MLXR_COUNT(names); i++) {
            char t[32];
            int n = snprintf(t, sizeof t, "%s\":0", names[i]);
            add_token(t, (size_t)n);
            add_token(t, (size_t)n - 1);
            n = snprintf(t, sizeof t, "%s\":0, \"a", names[i]);
            if (s % 2) add_token(t, (size_t)n); /* a second name within a token */
        }
        p.vocab_size = n_tokens;
        assert_ok(mlxr_vocabulary_create(&v, &p, &err), &err);
        assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
        root = mlxr_gb_rule(b, "root");
        member = SEQ(T("\""), mlxr_gb_unique(b, names_but(listed, 2)), T("\":"), regex("0|1"), T(", "));
        mlxr_gb_define(b, root, SEQ(mlxr_gb_repeat(b, member, 0, draw(2) ? SIZE_MAX : 100), T("}")));
        assert_ok(mlxr_grammar_finish(&g, b, root, &err), &err);
        mlxr_grammar_builder_free(b);
        assert_ok(mlxr_masker_create(&k, g, v, &err), &err);
        for (int w = 0; w < 4; w++) {
            bool used[MLXR_COUNT(names)] = {0};
            mlxr_matcher *m;
            mlxr_buf text = {0};
            size_t taken;
            assert_ok(mlxr_matcher_create(&m, k, &err), &err);
            for (int i = 0; i < 5; i++) {
                size_t which = draw(MLXR_COUNT(names)), at = text.len;
                if (used[which]) continue;
                used[which] = true;
                mlxr_buf_printf(&text, "\"%s\":%u, ", names[which], draw(2));
                for (; at < text.len; at++) {
                    const uint32_t *mask;
                    assert_ok(mlxr_matcher_push(&taken, m, text.data + at, 1, &err), &err);
                    assert_int_equal(taken, 1);
                    if (draw(3)) continue;
                    assert_ok(mlxr_matcher_mask(&mask, m, &err), &err);
                    compare(m, mask, text.data);
                }
            }
            mlxr_buf_clear(&text);
            mlxr_matcher_free(m);
        }
        mlxr_masker_free(k);
        mlxr_grammar_unref(g);
        mlxr_vocabulary_free(v);
        while (n_tokens) free((char *)tokens[--n_tokens].bytes);
    }
}

/* ---- names ---- */

static bool completes(const mlxr_matcher *m, int depth)
{
    static const char letters[] = "ab,";
    bool found = mlxr_matcher_may_end(m);
    for (int i = 0; i < 3 && !found && depth; i++) {
        mlxr_matcher *c;
        size_t n;
        assert_ok(mlxr_matcher_clone(&c, m, &err), &err);
        assert_ok(mlxr_matcher_push(&n, c, letters + i, 1, &err), &err);
        found = n && completes(c, depth - 1);
        mlxr_matcher_free(c);
    }
    return found;
}

static void unique_names(void **state)
{
    for (uint64_t s = 1; s <= 60; s++) {
        mlxr_text texts[5];
        char bytes[5][4];
        size_t n = 1 + (seed(s), draw(5)), min = draw(4), max;
        bool finite = draw(3) != 0, counted = draw(2);
        mlxr_dfa *d;
        mlxr_grammar *g;
        mlxr_masker *k;
        mlxr_rule root;
        mlxr_status st;
        mlxr_expr e;
        size_t n_texts = 1, n_different = 0;
        max = min + draw(4) + (min == 0);
        for (size_t i = 0; i < n; i++) {
            texts[i] = (mlxr_text){bytes[i], 1 + draw(3)};
            for (size_t j = 0; j < texts[i].n; j++) bytes[i][j] = (char)('a' + draw(2));
        }
        for (size_t i = 0; i < n; i++) {
            bool again = false;
            for (size_t j = 0; j < i; j++)
                again |= texts[i].n == texts[j].n && !memcmp(bytes[i], bytes[j], texts[i].n);
            n_different += !again;
        }
        if (finite)
            assert_ok(mlxr_dfa_literals(&d, texts, n, &err), &err);
        else
            assert_ok(mlxr_dfa_regex(&d, "a*b?", 4, true, NULL, &err), &err);
        assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
        root = mlxr_gb_rule(b, "root");
        e = SEQ(mlxr_gb_unique(b, mlxr_dfa_ref(d)), T(","));
        if (counted) { /* grown, so that it is not written out */
            mlxr_expr alt[70] = {e};
            for (size_t i = 1; i < 70; i++) alt[i] = mlxr_gb_never(b);
            e = mlxr_gb_alt(b, alt, 70);
        }
        mlxr_gb_define(b, root, mlxr_gb_repeat(b, e, min, max));
        st = mlxr_grammar_finish(&g, b, root, &err);
        mlxr_grammar_builder_free(b);
        if (finite && n_different < min) {
            if (st != MLXR_E_INVALID_ARGUMENT)
                fail_msg("seed %llu: more names than there are", (unsigned long long)s);
            mlxr_dfa_unref(d);
            continue;
        }
        assert_ok(st, &err);
        assert_ok(mlxr_masker_create(&k, g, NULL, &err), &err);
        for (int i = 0; i < 8; i++) n_texts *= 3;
        for (size_t t = 0; t < n_texts; t++) {
            char text[9];
            size_t length = t % 9, at = 0, n_names = 0, taken, begins[9], ends[9];
            bool want = true;
            mlxr_matcher *m;
            for (size_t i = 0, x = t; i < length; i++, x /= 3) text[i] = "ab,"[x % 3];
            for (size_t i = 0; i < length && want; i++) {
                if (text[i] != ',') continue;
                want = mlxr_dfa_has(d, text + at, i - at);
                for (size_t j = 0; j < n_names; j++)
                    if (ends[j] - begins[j] == i - at && !memcmp(text + begins[j], text + at, i - at))
                        want = false;
                begins[n_names] = at;
                ends[n_names++] = i;
                at = i + 1;
            }
            want = want && at == length && n_names >= min && n_names <= max;
            assert_ok(mlxr_matcher_create(&m, k, &err), &err);
            assert_ok(mlxr_matcher_push(&taken, m, text, length, &err), &err);
            if ((taken == length && mlxr_matcher_may_end(m)) != want)
                fail_msg("seed %llu: \"%.*s\": taken %zu, wanted %d", (unsigned long long)s, (int)length,
                         text, taken, want);
            if (t % 7 == 0 && !completes(m, 16))
                fail_msg("seed %llu: \"%.*s\" is a dead end", (unsigned long long)s, (int)taken, text);
            mlxr_matcher_free(m);
        }
        mlxr_masker_free(k);
        mlxr_grammar_unref(g);
        mlxr_dfa_unref(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json_like), cmocka_unit_test(used_names),
                                       cmocka_unit_test(unique_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
