/* A JSON Schema from hostile bytes, and a few random texts of its grammar: each byte that a matcher offers it takes, and from
 * wherever it is some text can be completed, so it never stands before nothing. */
#include <stdlib.h>

#include "engine/grammar/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 300, WALKS = 3 };

static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void walk(mlxr_masker *k, uint64_t *rng)
{
    mlxr_matcher *m;
    bool next[256];

    if (mlxr_matcher_create(&m, k, NULL) != MLXR_OK) return;
    for (size_t i = 0; i < MOST_BYTES; i++) {
        size_t taken, n = 0;
        uint8_t some[256];
        mlxr_matcher_next_bytes(next, m);
        for (int c = 0; c < 256; c++)
            if (next[c]) some[n++] = (uint8_t)c;
        if (!n) {
            if (!mlxr_matcher_may_end(m)) abort(); /* a dead end */
            break;
        }
        if (mlxr_matcher_push(&taken, m, &some[mix(rng) % n], 1, NULL) != MLXR_OK) break; /* a limit */
        if (taken != 1) abort();
    }
    mlxr_matcher_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    mlxr_grammar *g;
    mlxr_masker *k;
    mlxr_error err;
    uint64_t rng = size;

    /* Small limits: what costs the same for all is not what is looked for. */
    options.max_cases = 300;
    limits.max_nodes = 20000;
    limits.lang.max_states = 1000;
    limits.lang.max_steps = 100000;
    if (mlxr_grammar_from_schema(&g, (const char *)data, size, "schema", &options, &limits, &err) !=
        MLXR_OK) {
        if (!err.message[0] || g) abort();
        return 0;
    }
    if (mlxr_masker_create(&k, g, NULL, &err) == MLXR_OK) {
        for (int i = 0; i < WALKS; i++) walk(k, &rng);
        mlxr_masker_free(k);
    }
    mlxr_grammar_unref(g);
    return 0;
}
