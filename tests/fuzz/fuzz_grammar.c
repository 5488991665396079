/* A grammar made from the first bytes by a stack of expressions, walked by the others: the mask, bytes and tokens must agree. */
#include <stdlib.h>

#include "engine/grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const tokens[] = {
    "a",   "b", "ab",  "ba",  "aa", "abab", "\"",  "\\",         "\\u00", "d", "\xc3", "\xa4", "\xff<x>",
    "<x>", " ", "a\"", "\",", ",",  "b,",   "a,b", "bbbbbbbbbb", "",      "<", "x>",   ",a,"};
enum { N_TOKENS = sizeof tokens / sizeof *tokens };

static void token_bytes(void *ud, int32_t id, mlxr_buf *out)
{
    mlxr_buf_str(out, tokens[id]);
}

static mlxr_expr piece(mlxr_grammar_builder *b, uint8_t c, const mlxr_rule *rules)
{
    static const mlxr_text names[] = {{"a", 1}, {"ab", 2}, {"b", 1}, {"ba", 2}};
    static const char *const words[] = {"<x>", "ab"};
    mlxr_dfa *d = NULL;
    switch (c & 7) {
    case 0: return mlxr_gb_text(b, tokens[(c >> 3) % N_TOKENS], strlen(tokens[(c >> 3) % N_TOKENS]));
    case 1: return mlxr_gb_call(b, rules[c >> 3 & 3]);
    case 2: return mlxr_gb_chars(b, c >> 3 & 3, c >> 7 ? SIZE_MAX : (size_t)((c >> 5 & 3) + (c >> 3 & 3)));
    case 3:
        if (mlxr_dfa_literals(&d, names, 1 + (c >> 3 & 3), NULL) != MLXR_OK) return mlxr_gb_never(b);
        return mlxr_gb_dfa(b, d);
    case 4:
        if (mlxr_dfa_regex(&d, "a*b?", 4, true, NULL, NULL) != MLXR_OK) return mlxr_gb_never(b);
        return c >> 7 ? mlxr_gb_dfa(b, d) : mlxr_gb_unique(b, d);
    case 5: return mlxr_gb_free(b, words, c >> 3 & 1 ? 2 : 1);
    case 6: return mlxr_gb_until(b, words, c >> 3 & 1 ? 2 : 1);
    default: return mlxr_gb_marker(b, "<x>");
    }
}

/* Reversed Polish: a byte pushes a piece, or joins what is there. */
static const uint8_t *build(mlxr_grammar_builder *b, mlxr_rule rule, const mlxr_rule *rules, const uint8_t *p,
                            const uint8_t *end)
{
    mlxr_expr stack[32];
    size_t n = 0;
    for (; p < end && *p != 0xee; p++) {
        uint8_t c = *p;
        if (c < 0xc0 && n < 32) {
            stack[n++] = piece(b, (uint8_t)(c + (p + 1 < end ? p[1] << 6 : 0)), rules);
        } else if (n > 1 && c < 0xd0) {
            n--;
            stack[n - 1] = mlxr_gb_seq(b, stack + n - 1, 2);
        } else if (n > 1 && c < 0xd8) {
            n--;
            stack[n - 1] = mlxr_gb_alt(b, stack + n - 1, 2);
        } else if (n && c < 0xdc) {
            stack[n - 1] = mlxr_gb_optional(b, stack[n - 1]);
        } else if (n) {
            size_t min = c & 3;
            stack[n - 1] = mlxr_gb_repeat(b, stack[n - 1], min, c & 4 ? SIZE_MAX : min + (c & 8 ? 100 : 1));
        }
    }
    mlxr_gb_define(b, rule, mlxr_gb_seq(b, stack, n));
    return p < end ? p + 1 : p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    mlxr_vocabulary_params params = {.vocab_size = N_TOKENS, .bytes = token_bytes};
    mlxr_grammar_builder *b;
    static mlxr_vocabulary *vocabularies[2];
    mlxr_vocabulary *v;
    mlxr_grammar *g;
    mlxr_masker *k;
    mlxr_matcher *m;
    mlxr_rule rules[4];
    const uint8_t *p = data, *end = data + size;
    mlxr_status st;

    limits.max_nodes = 3000;
    limits.max_depth = 40;
    limits.max_configurations = 150;
    limits.max_places = 200;
    if (size > 400 || mlxr_grammar_builder_create(&b, &limits, NULL) != MLXR_OK) return 0;
    for (int i = 0; i < 4; i++) rules[i] = mlxr_gb_rule(b, "r");
    for (int i = 0; i < 4; i++) p = build(b, rules[i], rules, p, end);
    st = mlxr_grammar_finish(&g, b, rules[0], NULL);
    mlxr_grammar_builder_free(b);
    if (st != MLXR_OK) return 0;
    params.strips_first_space = size & 1;
    if (!vocabularies[size & 1] && mlxr_vocabulary_create(&vocabularies[size & 1], &params, NULL) != MLXR_OK)
        abort();
    v = vocabularies[size & 1];
    if (mlxr_masker_create(&k, g, v, NULL) != MLXR_OK) abort();
    if (mlxr_matcher_create(&m, k, NULL) == MLXR_OK) {
        for (size_t i = 0; i < 30; i++) {
            const uint32_t *mask;
            uint32_t word;
            int32_t id = (int32_t)((p < end ? *p++ : i) % N_TOKENS);
            mlxr_matcher *c;
            size_t taken, n = strlen(tokens[id]);
            bool fits, allowed;
            st = mlxr_matcher_mask(&mask, m, NULL);
            if (st != MLXR_OK) break;
            word = mask[0];
            if (mlxr_matcher_must_end(m) && word) abort();
            allowed = word >> id & 1;
            if (mlxr_matcher_clone(&c, m, NULL) != MLXR_OK) abort();
            st = mlxr_matcher_push(&taken, c, tokens[id], n, NULL);
            fits = n && taken == n;
            mlxr_matcher_free(c);
            /* By bytes a limit is a failure, in masks what breaks it is left out. */
            if (st == MLXR_OK && fits != allowed) abort();
            if (!allowed && word) id = __builtin_ctz(word), allowed = true;
            st = mlxr_matcher_accept(m, id, NULL);
            if (st == MLXR_OK && !allowed) abort();
            if (st == MLXR_E_INVALID_ARGUMENT && allowed) abort();
            if (st != MLXR_OK) break;
            if (i % 7 == 6) mlxr_masker_trim(k, 0);
        }
        mlxr_matcher_free(m);
    }
    mlxr_masker_free(k);
    mlxr_grammar_unref(g);
    return 0;
}
