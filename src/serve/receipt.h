/* receipt: what an answer came of, so that it can be made again and compared: mlxctl replay. A client asks for one with "receipt": true in
 * its request, or the header X-Mlxr-Receipt: 1, and finds it as "receipt" in the last object of the answer; "full" in either place puts
 * the request's body and the tokens in as well. Format and what is in it: docs/receipts.md.
 *
 *   turn reads the request -> create -> each event -> put, once
 *
 * NULL stands for a receipt nobody asked for, in every call. One thread at a time. */
#ifndef MLXR_SERVE_RECEIPT_H
#define MLXR_SERVE_RECEIPT_H

#include "serve/turn.h"

typedef struct mlxr_receipt mlxr_receipt;

/* Whether the body or a header asks for one. */
bool mlxr_receipt_wanted(const mlxr_turn *t);
/* After the front's prepare: one seed for all prompts of the turn, where the request has none, from the header X-Mlxr-Seed or drawn. So mlxctl
 * replay gives a seed to APIs that have no field for it. */
mlxr_status mlxr_receipt_seed(mlxr_turn *t, mlxr_error *err);
/* When the request has its last form. *out stays NULL when nobody asked for one. */
mlxr_status mlxr_receipt_create(mlxr_receipt **out, const mlxr_turn *t, mlxr_error *err);
void mlxr_receipt_event(mlxr_receipt *r, const mlxr_event *event);
/* ,"receipt":{...}; nothing for NULL. After COMPLETED of all choices. */
void mlxr_receipt_put(mlxr_buf *out, const mlxr_receipt *r, const mlxr_turn *t);
void mlxr_receipt_free(mlxr_receipt *r);

/* ---- comparing: for mlxctl replay ---- */

/* Where two receipts differ, by the paths of members ("prompts.0.ids_sha256"), as a list of {"path", "was", "is"}; what does not have to be the
 * same (the request's id, counts of cached tokens, the body) is passed over. *out: json_decref it; empty: nothing. */
mlxr_status mlxr_receipt_compare(json_t **out, const json_t *was, const json_t *is, mlxr_error *err);

#endif
