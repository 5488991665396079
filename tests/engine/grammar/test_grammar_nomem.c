/* The machine with every allocation failing in turn, from the builder to masks: a status or a shorter way, nothing leaked
 * (LeakSanitizer sees it in the asan build), and what came before still right: the walk goes on to its end, and its masks are those
 * of a walk with memory. */
#include "nomem.h"
#include "test.h"

#include <stdlib.h>

#include "engine/grammar/schema.h"

static mlxr_error err;

/* ---- makers ---- */

static const char gbnf[] = "root ::= \"{\" pair (\",\" pair)* \"}\"\n"
                           "pair ::= \"\\\"\" [a-z]{1,90} \"\\\":\" value\n"
                           "value ::= [0-9]+ | root | \"[\" (value (\",\" value){0,70})? \"]\" | <end>\n";

static mlxr_status from_gbnf(mlxr_grammar **out)
{
    return mlxr_grammar_from_gbnf(out, gbnf, sizeof gbnf - 1, "test", NULL, &err);
}

/* What a schema is made of: free strings, names that are used once, counts. */
static mlxr_status from_schema(mlxr_grammar **out)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"},\"s\":{\"type\":\"string\","
        "\"maxLength\":300}},\"required\":[\"id\"],\"minProperties\":3}";
    return mlxr_grammar_from_schema(out, schema, sizeof schema - 1, "test", NULL, NULL, &err);
}

static void each_allocation_of(mlxr_status (*make)(mlxr_grammar **out))
{
    mlxr_grammar *g;
    mlxr_status st;
    size_t total;

    n_calls = 0;
    assert_ok(make(&g), &err);
    mlxr_grammar_unref(g);
    total = n_calls;
    for (size_t i = 1; i <= total; i += i < 300 ? 1 : total / 200 + 1) {
        n_calls = 0;
        fail_at = i;
        st = make(&g);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK ? !g : st != MLXR_E_NOMEM || g)
            fail_msg("allocation %zu of %zu: %s \"%s\"", i, total, mlxr_status_name(st),
                     st ? err.message : "");
        mlxr_grammar_unref(g);
    }
}

static void grammars(void **state)
{
    (void)state;
    each_allocation_of(from_gbnf);
    each_allocation_of(from_schema);
}

/* ---- a vocabulary and a walk ---- */

/* Bytes, and some of two and three; the last is special. */
enum { N_PAIRS = 64, VOCAB = 256 + N_PAIRS + 1 };
static const char alphabet[] = "abc\"{}[],:01 \\n";

static void token_bytes(void *ud, int32_t id, mlxr_buf *out)
{
    (void)ud;
    if (id < 256) {
        mlxr_buf_char(out, (char)id);
    } else if (id < VOCAB - 1) {
        mlxr_buf_char(out, alphabet[(id * 7) % (int)(sizeof alphabet - 1)]);
        mlxr_buf_char(out, alphabet[(id * 5 + 3) % (int)(sizeof alphabet - 1)]);
        if (id % 3 == 0) mlxr_buf_char(out, alphabet[id % (int)(sizeof alphabet - 1)]);
    } else {
        mlxr_buf_str(out, "\xff<end>");
    }
}

static mlxr_status make_vocabulary(mlxr_vocabulary **out)
{
    const mlxr_vocabulary_params params = {
        .vocab_size = VOCAB, .bytes = token_bytes, .strips_first_space = true};
    return mlxr_vocabulary_create(out, &params, &err);
}

static void vocabularies(void **state)
{
    mlxr_vocabulary *v;
    size_t total;
    (void)state;
    n_calls = 0;
    assert_ok(make_vocabulary(&v), &err);
    mlxr_vocabulary_free(v);
    total = n_calls;
    for (size_t i = 1; i <= total; i += i < 300 ? 1 : total / 200 + 1) {
        mlxr_status st;
        n_calls = 0;
        fail_at = i;
        st = make_vocabulary(&v);
        fail_at = SIZE_MAX;
        if (st == MLXR_OK ? !v : st != MLXR_E_NOMEM || v)
            fail_msg("allocation %zu: %s", i, mlxr_status_name(st));
        mlxr_vocabulary_free(v);
    }
}

/* Whatever a call needs that failed once for memory, it has the second time. */
#define AGAIN(call)                                              \
    do {                                                         \
        mlxr_status st_ = (call);                                \
        if (st_ == MLXR_E_NOMEM) n_failed++, st_ = (call);       \
        if (st_ != MLXR_OK) fail_msg(#call ": %s", err.message); \
    } while (0)

/* Follows a seed's choices for a while; a hash of all masks. */
static uint64_t walk(mlxr_grammar *g, const mlxr_vocabulary *v, size_t *n_failed_out)
{
    mlxr_masker *k = NULL;
    mlxr_matcher *m = NULL, *other = NULL;
    uint64_t hash = 0, rng = 12345;
    size_t n_failed = 0;

    AGAIN(mlxr_masker_create(&k, g, v, &err));
    AGAIN(mlxr_matcher_create(&m, k, &err));
    for (int i = 0; i < 60; i++) {
        const uint32_t *mask;
        int32_t ids[VOCAB], n = 0;
        AGAIN(mlxr_matcher_mask(&mask, m, &err));
        hash = mlxr_hash_bytes(mask, (VOCAB + 31) / 32 * sizeof *mask, hash);
        for (int32_t id = 0; id < VOCAB; id++)
            if (mask[id / 32] >> (id % 32) & 1) ids[n++] = id;
        if (n == 0) break;
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        if (i % 7 == 3) { /* the same by a clone, as a scheduler does */
            AGAIN(mlxr_matcher_clone(&other, m, &err));
            AGAIN(mlxr_matcher_accept(other, ids[(rng >> 33) % (uint64_t)n], &err));
            mlxr_matcher_free(m);
            m = other;
            other = NULL;
        } else {
            AGAIN(mlxr_matcher_accept(m, ids[(rng >> 33) % (uint64_t)n], &err));
        }
        if (i % 20 == 19) mlxr_masker_trim(k, 4096);
        if (mlxr_matcher_must_end(m)) break;
    }
    AGAIN(mlxr_matcher_clone(&other, m, &err));
    AGAIN(mlxr_matcher_merge(m, other, &err));
    hash += mlxr_matcher_may_end(m);
    mlxr_matcher_free(other);
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    *n_failed_out = n_failed;
    return hash;
}

static void walks(void **state)
{
    mlxr_status (*const makers[])(mlxr_grammar **) = {from_gbnf, from_schema};
    mlxr_vocabulary *v;
    (void)state;
    assert_ok(make_vocabulary(&v), &err);
    for (size_t j = 0; j < MLXR_COUNT(makers); j++) {
        mlxr_grammar *g;
        size_t total, n_failed, n_told = 0;
        uint64_t want;
        assert_ok(makers[j](&g), &err);
        n_calls = 0;
        want = walk(g, v, &n_failed);
        assert_int_equal(n_failed, 0);
        total = n_calls;
        for (size_t i = 1; i <= total; i += i < 300 ? 1 : total / 300 + 1) {
            uint64_t got;
            n_calls = 0;
            fail_at = i;
            got = walk(g, v, &n_failed);
            fail_at = SIZE_MAX;
            n_told += n_failed;
            if (got != want) fail_msg("allocation %zu of %zu: masks differ", i, total);
        }
        assert_true(n_told > 10);
        mlxr_grammar_unref(g);
    }
    mlxr_vocabulary_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammars),
        cmocka_unit_test(vocabularies),
        cmocka_unit_test(walks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
