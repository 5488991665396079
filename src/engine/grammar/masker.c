/* masker: a grammar's tables and their bounds. */
#include <stdlib.h>

#include "engine/grammar/machine.h"

mlxr_status mlxr_masker_create(mlxr_masker **out, mlxr_grammar *g, const mlxr_vocabulary *vocabulary,
                               mlxr_error *err)
{
    mlxr_masker *k = calloc(1, sizeof *k);
    *out = NULL;
    if (!k) return mlxr_fail_nomem(err, "grammar: masker");
    k->g = mlxr_grammar_ref(g);
    k->v = vocabulary;
    if (!gm_tables_init(k)) {
        mlxr_masker_free(k);
        return mlxr_fail_nomem(err, "grammar: masker");
    }
    *out = k;
    return MLXR_OK;
}

void mlxr_masker_free(mlxr_masker *k)
{
    if (!k) return;
    gm_memo_free(k);
    gm_tables_free(k);
    for (size_t i = 0; i < MLXR_COUNT(k->set); i++) gm_set_free(&k->set[i]);
    free(k->work);
    mlxr_grammar_unref(k->g);
    free(k);
}

size_t mlxr_masker_bytes(const mlxr_masker *k)
{
    return sizeof *k + gm_memo_bytes(k) + k->table_bytes + k->cap_objs * sizeof *k->objs +
           k->n_obj_slots * sizeof *k->obj_slots + k->n_place_slots * sizeof *k->place_slots +
           (size_t)k->g->n_nodes * (sizeof *k->node_place + sizeof *k->stamp);
}

void mlxr_masker_trim(mlxr_masker *k, size_t bytes)
{
    size_t now = mlxr_masker_bytes(k), rest;
    if (now <= bytes) return;
    rest = now - gm_memo_bytes(k);
    gm_memo_trim(k, bytes > rest ? bytes - rest : 0);
    if (mlxr_masker_bytes(k) > bytes) gm_collect(k, true);
}
