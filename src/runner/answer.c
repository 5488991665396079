/* answer: see runner.h. */
#include <stdlib.h>

#include "engine/stop.h"
#include "runner/runner.h"

/* ---- events ---- */

/* A TOKEN event; the first of a token has its id. */
static void tell(mlxr_answer *a, mlxr_part part, const char *text, size_t n, const mlxr_tool_call *call,
                 const char *warning)
{
    mlxr_event ev = {.type = MLXR_EVENT_TOKEN,
                     .text = n ? text : "",
                     .n_text = n,
                     .id = a->id,
                     .part = part,
                     .call = call,
                     .warning = warning};

    a->id = -1;
    a->part = part;
    if (a->on_event) a->on_event(&ev, a->ud);
}

static bool copy_string(mlxr_answer *a, const char **out, const char *s)
{
    *out = s ? mlxr_arena_strndup(&a->arena, s, strlen(s)) : NULL;
    return !s || *out;
}

/* A call that is complete, kept and told. */
static bool end_call(mlxr_answer *a, const mlxr_part_event *p)
{
    mlxr_tool_call *c;
    mlxr_event ev;

    if (a->n_calls == a->cap_calls) {
        size_t cap = a->cap_calls ? 2 * a->cap_calls : 4;
        if (!(c = mlxr_realloc_array(a->calls, cap, sizeof *c))) return false;
        a->calls = c;
        a->cap_calls = cap;
    }
    c = &a->calls[a->n_calls];
    c->index = p->i_call;
    if (!copy_string(a, &c->name, p->name) || !copy_string(a, &c->id, p->id) ||
        !copy_string(a, &c->arguments, p->arguments_json) ||
        !copy_string(a, &c->arguments_raw, p->arguments_raw))
        return false;
    a->n_calls++;
    ev = (mlxr_event){
        .type = MLXR_EVENT_TOOL_CALL, .text = "", .id = -1, .part = MLXR_PART_TOOL_CALL, .call = c};
    if (a->on_event) a->on_event(&ev, a->ud);
    return true;
}

static void on_part(const mlxr_part_event *p, void *ud)
{
    mlxr_answer *a = ud;

    if (p->part == MLXR_PART_TOOL_CALL) {
        mlxr_tool_call call = {.index = p->i_call, .name = p->name, .id = p->id};
        tell(a, p->part, p->text, p->n_text, &call, NULL);
        if (p->ends && !end_call(a, p)) a->failed = MLXR_E_NOMEM;
        return;
    }
    mlxr_buf_append(p->part == MLXR_PART_THINKING ? &a->thinking : &a->text, p->text, p->n_text);
    if (p->warning && !a->warning && !copy_string(a, &a->warning, p->warning)) a->failed = MLXR_E_NOMEM;
    tell(a, p->part, p->text, p->n_text, NULL, p->warning);
}

/* ---- text ---- */

bool mlxr_answer_is_thinking(const mlxr_answer *a)
{
    return a->parser && mlxr_answer_parser_is_thinking(a->parser);
}

mlxr_status mlxr_answer_init(mlxr_answer *a, const mlxr_request *request,
                             const mlxr_answer_parser_options *parts, mlxr_on_event on_event, void *ud,
                             mlxr_error *err)
{
    mlxr_status st;

    *a = (mlxr_answer){.on_event = on_event, .ud = ud, .id = -1, .i_stop = -1};
    if ((st = mlxr_stop_create(&a->stop, request->stop, request->n_stop, err)) != MLXR_OK || !parts)
        return st;
    mlxr_answer_parser_options options = *parts;
    options.on_part = on_part;
    options.ud = a;
    return mlxr_answer_parser_create(&a->parser, &options, err);
}

void mlxr_answer_clear(mlxr_answer *a)
{
    mlxr_stop_free(a->stop);
    mlxr_answer_parser_free(a->parser);
    mlxr_buf_clear(&a->piece);
    mlxr_buf_clear(&a->text);
    mlxr_buf_clear(&a->thinking);
    free(a->calls);
    mlxr_arena_clear(&a->arena);
    *a = (mlxr_answer){0};
}

/* Sends a->piece on: to the parser, or out. */
static mlxr_status pass_on(mlxr_answer *a, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    if (a->parser) {
        if (a->piece.len) st = mlxr_answer_parser_push(a->parser, a->piece.data, a->piece.len, false, err);
    } else if (a->piece.len) {
        mlxr_buf_append(&a->text, a->piece.data, a->piece.len);
        tell(a, MLXR_PART_CONTENT, a->piece.data, a->piece.len, NULL, NULL);
    }
    a->piece.len = 0;
    if (st == MLXR_OK && (a->failed || a->text.failed || a->thinking.failed))
        st = mlxr_fail_nomem(err, "answer");
    return st;
}

static mlxr_status push_text(mlxr_answer *a, const char *text, size_t n, mlxr_error *err)
{
    int matched;
    mlxr_status st = mlxr_stop_push(a->stop, text, n, &a->piece, &matched, err);

    if (st != MLXR_OK) return st;
    if (matched >= 0) {
        a->stopped = true;
        a->i_stop = matched;
    }
    return pass_on(a, err);
}

/* A special token is no text: it ends what was held back, and may be a stop string as a whole, or a marker. */
static mlxr_status push_special(mlxr_answer *a, const char *text, size_t n, mlxr_error *err)
{
    mlxr_status st = mlxr_stop_flush(a->stop, &a->piece, err);

    if (st == MLXR_OK) st = pass_on(a, err);
    if (st != MLXR_OK) return st;
    if ((a->i_stop = mlxr_stop_find(a->stop, text, n)) >= 0) {
        a->stopped = true;
        return MLXR_OK;
    }
    if (a->parser) st = mlxr_answer_parser_push(a->parser, text, n, true, err);
    return st == MLXR_OK ? pass_on(a, err) : st;
}

mlxr_status mlxr_answer_push(mlxr_answer *a, int32_t id, const char *text, size_t n, bool special,
                             mlxr_error *err)
{
    mlxr_status st;

    a->id = id;
    st = special ? push_special(a, text, n, err) : push_text(a, text, n, err);
    if (st == MLXR_OK && a->id >= 0) tell(a, a->part, "", 0, NULL, NULL);
    a->id = -1;
    return st;
}

mlxr_status mlxr_answer_push_rest(mlxr_answer *a, const char *text, size_t n, mlxr_error *err)
{
    return push_text(a, text, n, err);
}

mlxr_status mlxr_answer_finish(mlxr_answer *a, const mlxr_stats *stats, mlxr_error *err)
{
    mlxr_status st = mlxr_stop_finish(a->stop, &a->piece, err);

    if (st == MLXR_OK) st = pass_on(a, err);
    if (st == MLXR_OK && a->parser) st = mlxr_answer_parser_finish(a->parser, err);
    if (st == MLXR_OK) st = pass_on(a, err);
    if (st != MLXR_OK) return st;
    if (a->on_event) {
        mlxr_event ev = {.type = MLXR_EVENT_COMPLETED,
                         .text = a->text.len ? a->text.data : "",
                         .n_text = a->text.len,
                         .id = a->i_stop,
                         .thinking = a->thinking.len ? a->thinking.data : "",
                         .n_thinking = a->thinking.len,
                         .calls = a->calls,
                         .n_calls = a->n_calls,
                         .warning = a->warning,
                         .stats = stats};
        a->on_event(&ev, a->ud);
    }
    return MLXR_OK;
}
