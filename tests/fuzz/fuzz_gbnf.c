/* Any text as GBNF; what is one is walked with the bytes behind the first NUL. A byte that is said to come next must fit, and
 * limits must hold. */
#include <stdlib.h>

#include "engine/grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t n = end ? (size_t)(end - data) : size, taken;
    mlxr_grammar *g;
    mlxr_masker *k;
    mlxr_matcher *m;
    bool next[256];

    limits.max_nodes = 2000;
    limits.max_depth = 50;
    limits.max_configurations = 200;
    limits.max_places = 300;
    if (mlxr_grammar_from_gbnf(&g, (const char *)data, n, "fuzz", &limits, NULL) != MLXR_OK) {
        if (g) abort();
        return 0;
    }
    if (mlxr_masker_create(&k, g, NULL, NULL) != MLXR_OK) abort();
    if (mlxr_matcher_create(&m, k, NULL) == MLXR_OK) {
        for (size_t i = n + 1; i < size && i < n + 200; i++) {
            mlxr_status st;
            bool must_end = mlxr_matcher_must_end(m);
            mlxr_matcher_next_bytes(next, m);
            st = mlxr_matcher_push(&taken, m, data + i, 1, NULL);
            if (st == MLXR_OK && next[data[i]] != (taken == 1)) abort();
            if (st == MLXR_OK && must_end && taken) abort();
            if (st != MLXR_OK || !taken) break;
        }
        mlxr_matcher_free(m);
    }
    mlxr_masker_free(k);
    mlxr_grammar_unref(g);
    return 0;
}
