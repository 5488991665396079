/* Made grammars against an oracle that enumerates: the language of every expression as the set of its texts of up to MAX_LEN
 * bytes over two letters, rules by iteration to the least fixed point. What the machine takes, where it may end, which bytes and
 * which tokens may come next must be the same. */
#include "engine/grammar/grammar.h"
#include "test.h"

enum { MAX_LEN = 7, N_TEXTS = 1 << (MAX_LEN + 1), MAX_EXPRS = 400, MAX_RULES = 4 };

/* A text is 1 and then its letters as bits: 1 is the empty one. */
typedef struct lang {
    bool has[N_TEXTS];
} lang;

static uint64_t rng;
static uint32_t draw(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 16) % n);
}

static int length(uint32_t t)
{
    return 31 - __builtin_clz(t);
}

static uint32_t join(uint32_t a, uint32_t b)
{
    return a << length(b) | (b ^ 1u << length(b));
}

typedef enum {
    EMPTY,
    NEVER,
    TEXT,
    WORDS,
    CHARS,
    FREE,
    UNTIL,
    SEQ,
    ALT,
    OPTIONAL,
    REPEAT,
    GRAPH,
    CALL,
    N_KINDS
} kind;

typedef struct ex {
    kind k;
    int n, child[6], from[6], to[6];
    uint32_t text[3]; /* TEXT, WORDS, FREE, UNTIL */
    int min, max;     /* max -1: no bound */
    bool counted;
    int accepting, n_states; /* GRAPH: bits */
    int rule;
} ex;

static ex exprs[MAX_EXPRS];
static int n_exprs, n_rules, bodies[MAX_RULES];

static int make(int depth)
{
    int id = n_exprs++;
    ex e = {.k = (kind)draw(depth > 0 ? N_KINDS : SEQ)};
    if (n_exprs > MAX_EXPRS - 20) e.k = TEXT;
    if (e.k == NEVER && draw(3)) e.k = TEXT;
    for (int i = 0; i < 3; i++) {
        int n = 1 + (int)draw(3);
        e.text[i] = 1;
        for (int j = 0; j < n; j++) e.text[i] = e.text[i] << 1 | draw(2);
    }
    switch (e.k) {
    case WORDS:
    case FREE:
    case UNTIL: e.n = 1 + (int)draw(3); break;
    case CHARS:
        e.min = (int)draw(4);
        e.max = draw(3) ? e.min + (int)draw(3) : -1;
        break;
    case SEQ:
    case ALT: e.n = 1 + (int)draw(4); break;
    case OPTIONAL: e.n = 1; break;
    case REPEAT:
        e.n = 1;
        e.min = (int)draw(4);
        e.max = draw(2) ? e.min + (int)draw(4) : -1;
        e.counted = draw(2);
        break;
    case GRAPH:
        e.n = 1 + (int)draw(5);
        e.n_states = 1 + (int)draw(4);
        for (int i = 0; i < e.n; i++)
            e.from[i] = (int)draw((uint32_t)e.n_states), e.to[i] = (int)draw((uint32_t)e.n_states);
        e.accepting = (int)draw(1u << e.n_states);
        break;
    case CALL: e.rule = (int)draw((uint32_t)n_rules); break;
    default: break;
    }
    if (e.k >= SEQ && e.k != CALL)
        for (int i = 0; i < e.n; i++) e.child[i] = make(depth - 1);
    exprs[id] = e;
    return id;
}

/* ---- the oracle ---- */

static lang rules[MAX_RULES];

static void concat(lang *out, const lang *a, const lang *b)
{
    lang r = {0};
    for (uint32_t x = 1; x < N_TEXTS; x++)
        if (a->has[x])
            for (uint32_t y = 1; y < N_TEXTS && length(x) + length(y) <= MAX_LEN; y++)
                if (b->has[y]) r.has[join(x, y)] = true;
    *out = r;
}

static bool add(lang *to, const lang *from)
{
    bool more = false;
    for (int i = 1; i < N_TEXTS; i++)
        if (from->has[i] && !to->has[i]) to->has[i] = more = true;
    return more;
}

/* The first place where t ends with one of the words, 0: none. */
static bool ends_with(uint32_t t, uint32_t w)
{
    return length(t) >= length(w) && ((t ^ w) & ((1u << length(w)) - 1)) == 0;
}

static int first_word(uint32_t t, const ex *e)
{
    for (int n = 1; n <= length(t); n++)
        for (int i = 0; i < e->n; i++)
            if (ends_with(t >> (length(t) - n), e->text[i])) return n;
    return 0;
}

static lang eval(int id)
{
    const ex *e = &exprs[id];
    lang r = {0}, one, part;
    switch (e->k) {
    case EMPTY: r.has[1] = true; break;
    case NEVER: break;
    case TEXT: r.has[e->text[0]] = true; break;
    case WORDS:
        for (int i = 0; i < e->n; i++) r.has[e->text[i]] = true;
        break;
    case CHARS:
        for (uint32_t t = 1; t < N_TEXTS; t++)
            r.has[t] = length(t) >= e->min && (e->max < 0 || length(t) <= e->max);
        break;
    case FREE:
        for (uint32_t t = 1; t < N_TEXTS; t++) r.has[t] = !first_word(t, e);
        break;
    case UNTIL:
        for (uint32_t t = 1; t < N_TEXTS; t++) r.has[t] = length(t) && first_word(t, e) == length(t);
        break;
    case SEQ:
        r.has[1] = true;
        for (int i = 0; i < e->n; i++) {
            one = eval(e->child[i]);
            concat(&r, &r, &one);
        }
        break;
    case ALT:
        for (int i = 0; i < e->n; i++) {
            one = eval(e->child[i]);
            add(&r, &one);
        }
        break;
    case OPTIONAL:
        r = eval(e->child[0]);
        r.has[1] = true;
        break;
    case REPEAT:
        one = eval(e->child[0]);
        memset(&part, 0, sizeof part);
        part.has[1] = true;
        for (int i = 0; i <= (e->max < 0 ? e->min + MAX_LEN : e->max); i++) {
            if (i) concat(&part, &part, &one);
            if (i >= e->min) add(&r, &part);
        }
        break;
    case GRAPH: {
        lang at[4] = {0}, edge[6];
        bool more = true;
        for (int i = 0; i < e->n; i++) edge[i] = eval(e->child[i]);
        at[0].has[1] = true;
        while (more) {
            more = false;
            for (int i = 0; i < e->n; i++) {
                concat(&part, &at[e->from[i]], &edge[i]);
                more |= add(&at[e->to[i]], &part);
            }
        }
        for (int i = 0; i < e->n_states; i++)
            if (e->accepting >> i & 1) add(&r, &at[i]);
        break;
    }
    case CALL: r = rules[e->rule]; break;
    default: break;
    }
    return r;
}

/* ---- the same with the builder ---- */

static size_t letters(char out[MAX_LEN + 1], uint32_t t)
{
    size_t n = (size_t)length(t);
    for (size_t i = 0; i < n; i++) out[i] = t >> (n - 1 - i) & 1 ? 'b' : 'a';
    out[n] = '\0';
    return n;
}

static mlxr_expr build(mlxr_grammar_builder *b, int id, const mlxr_rule *r)
{
    const ex *e = &exprs[id];
    char text[3][MAX_LEN + 1];
    const char *words[3] = {text[0], text[1], text[2]};
    mlxr_text texts[3];
    mlxr_expr child[80];
    mlxr_gb_edge edge[6];
    uint32_t accepting[4];
    size_t n = 0;
    mlxr_dfa *d;
    mlxr_error err;
    for (int i = 0; i < 3; i++) {
        texts[i].n = letters(text[i], e->text[i]);
        texts[i].bytes = text[i];
    }
    if (e->k >= SEQ && e->k != CALL)
        for (int i = 0; i < e->n; i++) child[i] = build(b, e->child[i], r);
    switch (e->k) {
    case EMPTY: return mlxr_gb_empty(b);
    case NEVER: return mlxr_gb_never(b);
    case TEXT: return mlxr_gb_text(b, text[0], texts[0].n);
    case WORDS: assert_ok(mlxr_dfa_literals(&d, texts, (size_t)e->n, &err), &err); return mlxr_gb_dfa(b, d);
    case CHARS: return mlxr_gb_chars(b, (size_t)e->min, e->max < 0 ? SIZE_MAX : (size_t)e->max);
    case FREE: return mlxr_gb_free(b, words, (size_t)e->n);
    case UNTIL: return mlxr_gb_until(b, words, (size_t)e->n);
    case SEQ: return mlxr_gb_seq(b, child, (size_t)e->n);
    case ALT: return mlxr_gb_alt(b, child, (size_t)e->n);
    case OPTIONAL: return mlxr_gb_optional(b, child[0]);
    case REPEAT:
        if (e->counted) { /* grow it, so that it is not written out */
            for (n = 1; n < 70; n++) child[n] = mlxr_gb_never(b);
            child[0] = mlxr_gb_alt(b, child, n);
        }
        return mlxr_gb_repeat(b, child[0], (size_t)e->min, e->max < 0 ? SIZE_MAX : (size_t)e->max);
    case GRAPH:
        for (int i = 0; i < e->n; i++)
            edge[i] = (mlxr_gb_edge){(uint32_t)e->from[i], (uint32_t)e->to[i], child[i]};
        for (uint32_t i = 0; i < (uint32_t)e->n_states; i++)
            if (e->accepting >> i & 1) accepting[n++] = i;
        return mlxr_gb_graph(b, (uint32_t)e->n_states, edge, (size_t)e->n, accepting, n);
    case CALL: return mlxr_gb_call(b, r[e->rule]);
    default: return MLXR_EXPR_NONE;
    }
}

static mlxr_status build_all(mlxr_grammar **g, mlxr_error *err)
{
    mlxr_grammar_builder *b;
    mlxr_rule r[MAX_RULES];
    mlxr_status st;
    assert_ok(mlxr_grammar_builder_create(&b, NULL, err), err);
    for (int i = 0; i < n_rules; i++) r[i] = mlxr_gb_rule(b, "r");
    for (int i = 0; i < n_rules; i++) mlxr_gb_define(b, r[i], build(b, bodies[i], r));
    st = mlxr_grammar_finish(g, b, r[0], err);
    mlxr_grammar_builder_free(b);
    return st;
}

/* ---- vocabulary ---- */

enum { N_TOKENS = 60, EOS = 59 };
static char tokens[N_TOKENS][8];
static void token_bytes(void *ud, int32_t id, mlxr_buf *out)
{
    mlxr_buf_str(out, tokens[id]);
}

static mlxr_vocabulary *make_vocabulary(bool strips)
{
    static const int32_t eos = EOS;
    mlxr_vocabulary_params p = {.vocab_size = N_TOKENS,
                                .bytes = token_bytes,
                                .eos_ids = &eos,
                                .n_eos = 1,
                                .strips_first_space = strips};
    mlxr_vocabulary *v;
    mlxr_error err;
    for (int i = 0; i < N_TOKENS; i++) {
        int n = i < 2 ? 1 : (int)draw(7);
        for (int j = 0; j < n; j++) tokens[i][j] = draw(20) ? (char)('a' + draw(2)) : " \"x"[draw(3)];
        if (i < 2) tokens[i][0] = (char)('a' + i);
        tokens[i][n] = '\0';
    }
    assert_ok(mlxr_vocabulary_create(&v, &p, &err), &err);
    return v;
}

static bool bit(const uint32_t *mask, int id)
{
    return mask[id / 32] >> (id % 32) & 1;
}

/* ---- the comparison ---- */

static uint64_t seed_now;

/* A text that completes what m has, found breadth first, exists. */
static bool completes(const mlxr_matcher *m, int depth)
{
    mlxr_matcher *c;
    bool next[256], found = false;
    size_t n;
    if (mlxr_matcher_may_end(m)) return true;
    if (!depth) return false;
    mlxr_matcher_next_bytes(next, m);
    for (int b = 0; b < 256 && !found; b++) {
        char byte = (char)b;
        if (!next[b] || (b != 'a' && b != 'b')) continue;
        if (mlxr_matcher_clone(&c, m, NULL) != MLXR_OK) return false;
        assert_int_equal(mlxr_matcher_push(&n, c, &byte, 1, NULL), MLXR_OK);
        if (n != 1) fail_msg("seed %llu: a next byte that does not fit", (unsigned long long)seed_now);
        found = completes(c, depth - 1);
        mlxr_matcher_free(c);
    }
    return found;
}

static bool can_complete(const mlxr_matcher *m)
{
    for (int depth = 0; depth < 12; depth++)
        if (completes(m, depth)) return true;
    for (int i = 0; i < 100; i++) { /* or a long one, by chance */
        mlxr_matcher *c;
        bool next[256], ends = false;
        assert_int_equal(mlxr_matcher_clone(&c, m, NULL), MLXR_OK);
        for (int j = 0; j < 300 && !ends; j++) {
            size_t n;
            char byte;
            ends = mlxr_matcher_may_end(c);
            mlxr_matcher_next_bytes(next, c);
            byte = next['a'] && (!next['b'] || draw(2)) ? 'a' : 'b';
            if (!next['a'] && !next['b']) break;
            assert_int_equal(mlxr_matcher_push(&n, c, &byte, 1, NULL), MLXR_OK);
        }
        mlxr_matcher_free(c);
        if (ends) return true;
    }
    return false;
}

static void compare_bytes(mlxr_grammar *g, const lang *want)
{
    mlxr_masker *k;
    mlxr_matcher *m;
    mlxr_error err;
    bool prefix[N_TEXTS] = {0}, next[256];
    for (uint32_t t = N_TEXTS - 1; t > 0; t--)
        if (want->has[t])
            for (uint32_t p = t; p; p >>= 1) prefix[p] = true;
    assert_ok(mlxr_masker_create(&k, g, NULL, &err), &err);
    for (uint32_t t = 1; t < N_TEXTS; t++) {
        char text[MAX_LEN + 1];
        size_t n = letters(text, t), taken;
        bool fits;
        assert_ok(mlxr_matcher_create(&m, k, &err), &err);
        assert_ok(mlxr_matcher_push(&taken, m, text, n, &err), &err);
        fits = taken == n;
        if ((fits && mlxr_matcher_may_end(m)) != want->has[t])
            fail_msg("seed %llu: \"%s\": taken %zu, ends %d, wanted %d", (unsigned long long)seed_now, text,
                     taken, mlxr_matcher_may_end(m), want->has[t]);
        if (prefix[t] && !fits)
            fail_msg("seed %llu: \"%s\" must begin a text", (unsigned long long)seed_now, text);
        if (fits && !prefix[t] && !can_complete(m))
            fail_msg("seed %llu: \"%s\" is a dead end", (unsigned long long)seed_now, text);
        if (fits && length(t) < MAX_LEN) {
            mlxr_matcher_next_bytes(next, m);
            for (unsigned i = 0; i < 2; i++) {
                mlxr_matcher *c;
                char byte = (char)('a' + i);
                assert_ok(mlxr_matcher_clone(&c, m, &err), &err);
                assert_ok(mlxr_matcher_push(&taken, c, &byte, 1, &err), &err);
                if ((taken == 1) != next[(uint8_t)byte])
                    fail_msg("seed %llu: \"%s\" next %c", (unsigned long long)seed_now, text, byte);
                mlxr_matcher_free(c);
            }
            if (mlxr_matcher_must_end(m) != (mlxr_matcher_may_end(m) && !memchr(next, true, sizeof next)))
                fail_msg("seed %llu: \"%s\" must end", (unsigned long long)seed_now, text);
        }
        mlxr_matcher_free(m);
    }
    mlxr_masker_free(k);
}

static void compare_masks(mlxr_grammar *g, const mlxr_vocabulary *v, int n_walks)
{
    mlxr_masker *k;
    mlxr_matcher *m, *c;
    mlxr_error err;
    assert_ok(mlxr_masker_create(&k, g, v, &err), &err);
    for (int w = 0; w < n_walks; w++) {
        mlxr_buf text = {0};
        assert_ok(mlxr_matcher_create(&m, k, &err), &err);
        for (int step = 0; step < 10; step++) {
            const uint32_t *mask;
            uint32_t copy[(N_TOKENS + 31) / 32];
            int allowed[N_TOKENS], n_allowed = 0;
            mlxr_status st = MLXR_OK;
            assert_ok(mlxr_matcher_mask(&mask, m, &err), &err);
            memcpy(copy, mask, sizeof copy);
            for (int id = 0; id < N_TOKENS; id++) {
                size_t n = strlen(tokens[id]), taken;
                bool want;
                assert_ok(mlxr_matcher_clone(&c, m, &err), &err);
                st = mlxr_matcher_push(&taken, c, tokens[id], n, &err);
                mlxr_matcher_free(c);
                if (st == MLXR_E_LIMIT)
                    break; /* too ambiguous to be read byte by byte with no way left out */
                assert_ok(st, &err);
                want = n && taken == n && id != EOS;
                if (want != bit(copy, id))
                    fail_msg("seed %llu: behind \"%s\": token \"%s\": mask %d, by bytes %d",
                             (unsigned long long)seed_now, text.data ? text.data : "", tokens[id],
                             bit(copy, id), want);
                if (want) allowed[n_allowed++] = id;
            }
            if (st == MLXR_E_LIMIT) break;
            assert_int_equal(mlxr_matcher_accept(m, EOS, &err), MLXR_E_INVALID_ARGUMENT);
            if (!n_allowed) break;
            int id = allowed[draw((uint32_t)n_allowed)];
            assert_ok(mlxr_matcher_accept(m, id, &err), &err);
            mlxr_buf_str(&text, tokens[id]);
            if (draw(50) == 0) mlxr_masker_trim(k, 0);
        }
        mlxr_buf_clear(&text);
        mlxr_matcher_free(m);
    }
    mlxr_masker_free(k);
}

static void made_grammars(void **state)
{
    size_t n_good = 0, n_refused = 0;
    const char *from = getenv("SEED");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1, count = from ? 1 : 1500;
    if (getenv("COUNT")) count = strtoull(getenv("COUNT"), NULL, 10);
    for (uint64_t seed = first; seed < first + count; seed++) {
        mlxr_grammar *g = NULL;
        mlxr_error err;
        bool more = true;
        mlxr_status st;
        mlxr_vocabulary *v;
        seed_now = seed;
        rng = seed * 0x9e3779b97f4a7c15u + 1;
        draw(2), draw(2);
        n_exprs = 0;
        n_rules = 1 + (int)draw(MAX_RULES);
        for (int i = 0; i < n_rules; i++) bodies[i] = make(3);
        memset(rules, 0, sizeof rules);
        while (more) {
            more = false;
            for (int i = 0; i < n_rules; i++) {
                lang l = eval(bodies[i]);
                more |= add(&rules[i], &l);
            }
        }
        st = build_all(&g, &err);
        if (st != MLXR_OK) {
            assert_int_equal(st, MLXR_E_INVALID_ARGUMENT);
            if (strstr(err.message, "no text"))
                for (int i = 1; i < N_TEXTS; i++) assert_false(rules[0].has[i]);
            n_refused++;
            continue;
        }
        n_good++;
        compare_bytes(g, &rules[0]);
        v = make_vocabulary(draw(3) == 0);
        compare_masks(g, v, 6);
        mlxr_vocabulary_free(v);
        mlxr_grammar_unref(g);
    }
    print_message("%zu grammars compared, %zu refused\n", n_good, n_refused);
    if (!from && !getenv("COUNT")) assert_true(n_good > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(made_grammars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
