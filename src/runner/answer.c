/* answer: see runner.h. */
#include "engine/stop.h"
#include "runner/runner.h"

mlxr_status mlxr_answer_init(mlxr_answer *a, const mlxr_request *request, mlxr_on_event on_event, void *ud,
                             mlxr_error *err)
{
    *a = (mlxr_answer){.on_event = on_event, .ud = ud};
    return mlxr_stop_create(&a->stop, request->stop, request->n_stop, err);
}

void mlxr_answer_clear(mlxr_answer *a)
{
    mlxr_stop_free(a->stop);
    mlxr_buf_clear(&a->piece);
    mlxr_buf_clear(&a->text);
    *a = (mlxr_answer){0};
}

/* Sends a->piece and adds it to the whole. */
static mlxr_status send_piece(mlxr_answer *a, int32_t id, mlxr_error *err)
{
    mlxr_buf_append(&a->text, a->piece.data, a->piece.len);
    if (a->piece.failed || a->text.failed) return mlxr_fail_nomem(err, "answer");
    if (a->on_event) {
        mlxr_event ev = {.type = MLXR_EVENT_TOKEN,
                         .text = a->piece.len ? a->piece.data : "",
                         .n_text = a->piece.len,
                         .id = id};
        a->on_event(&ev, a->ud);
    }
    a->piece.len = 0;
    return MLXR_OK;
}

mlxr_status mlxr_answer_push(mlxr_answer *a, int32_t id, const char *text, size_t n, mlxr_error *err)
{
    int matched;
    mlxr_status st = mlxr_stop_push(a->stop, text, n, &a->piece, &matched, err);
    if (st != MLXR_OK) return st;
    if (matched >= 0) a->stopped = true;
    return send_piece(a, id, err);
}

mlxr_status mlxr_answer_push_rest(mlxr_answer *a, const char *text, size_t n, mlxr_error *err)
{
    int matched;
    mlxr_status st = mlxr_stop_push(a->stop, text, n, &a->piece, &matched, err);
    if (st != MLXR_OK) return st;
    if (matched >= 0) a->stopped = true;
    return a->piece.len ? send_piece(a, -1, err) : MLXR_OK;
}

mlxr_status mlxr_answer_finish(mlxr_answer *a, const mlxr_stats *stats, mlxr_error *err)
{
    mlxr_status st = mlxr_stop_finish(a->stop, &a->piece, err);

    if (st == MLXR_OK && a->piece.len) st = send_piece(a, -1, err);
    if (st != MLXR_OK) return st;
    if (a->on_event) {
        mlxr_event ev = {.type = MLXR_EVENT_COMPLETED,
                         .text = a->text.len ? a->text.data : "",
                         .n_text = a->text.len,
                         .id = -1,
                         .stats = stats};
        a->on_event(&ev, a->ud);
    }
    return MLXR_OK;
}
