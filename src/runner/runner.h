/* runner: from a request to events, over one adapter.
 *
 *   request --prompt.c--> ids --adapter--> token ids --answer.c--> TOKEN ... COMPLETED
 *
 * An adapter is what can load a model and generate: the engine on a device (native), or fixed words (mock).
 * A runner has one adapter with one loaded model; it keeps generate to one caller and carries the cancel flag. */
#ifndef MLXR_RUNNER_H
#define MLXR_RUNNER_H

#include "base/base.h"
#include "text/answers/answers.h"

/* Called by one thread at a time; the strings of options are valid during load only. */
typedef struct mlxr_adapter {
    const char *name;
    /* *context is handed to the calls below and freed by unload. */
    mlxr_status (*load)(void **context, const char *model, const mlxr_runner_options *options,
                        mlxr_error *err);
    /* Sends TOKEN events and one COMPLETED; looks at *cancel at least once a token (mlxr_cancelled) and then returns
     * MLXR_E_CANCELLED, everything of the request freed. stats is never NULL and is filled in either case,
     * duration_ns and load_ns apart, which are the runner's. */
    mlxr_status (*generate)(void *context, const mlxr_request *request, const volatile int *cancel,
                            mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err);
    const char *(*device_name)(const void *context); /* borrowed until unload */
    mlxr_engine *(*engine)(void *context);           /* NULL: it has none */
    void (*unload)(void *context);                   /* NULL is fine */
} mlxr_adapter;

extern const mlxr_adapter mlxr_adapter_native, mlxr_adapter_mock;

/* mlxr_runner_open for an adapter that the library does not know by name. */
mlxr_status mlxr_runner_open_with(mlxr_runner **out, const mlxr_adapter *adapter, const char *model,
                                  const mlxr_runner_options *options, mlxr_error *err);

/* ---- answer: sampled pieces of text to events ----
 *
 *   text -> stop strings -> parts (thinking, content, calls) -> TOKEN, TOOL_CALL ... COMPLETED
 *
 * Holds back what may become a stop string or a marker, cuts the text at a stop string, keeps the whole answer. init to
 * {0}. */
typedef struct mlxr_answer {
    struct mlxr_stop *stop;
    mlxr_answer_parser *parser;     /* NULL: everything is content */
    mlxr_buf piece, text, thinking; /* what is certain of the text at hand; all content, all thinking */
    mlxr_tool_call *calls;          /* complete ones, their strings in arena */
    size_t n_calls, cap_calls;
    mlxr_arena arena;
    const char *warning; /* the first, in arena */
    mlxr_on_event on_event;
    void *ud;
    int32_t id;     /* of the token at hand, until an event has told it; then -1 */
    mlxr_part part; /* of the last event */
    mlxr_status failed;
    bool stopped; /* a stop string was found: nothing more is taken */
    int i_stop;   /* which one, of the request's and then the folder's; -1: none */
} mlxr_answer;

/* parts: how the answer is told apart (its on_part and ud are not looked at); NULL: not. */
mlxr_status mlxr_answer_init(mlxr_answer *a, const mlxr_request *request,
                             const mlxr_answer_parser_options *parts, mlxr_on_event on_event, void *ud,
                             mlxr_error *err);
/* One token's text; at least one TOKEN event. special: the text of a special token, which is no text of the answer. */
mlxr_status mlxr_answer_push(mlxr_answer *a, int32_t id, const char *text, size_t n, bool special,
                             mlxr_error *err);
/* Text that belongs to no token of its own (what a detokenizer held back); an event only if there is any. */
mlxr_status mlxr_answer_push_rest(mlxr_answer *a, const char *text, size_t n, mlxr_error *err);
/* What was held back, then COMPLETED, whose id is i_stop. stats is complete by now. */
mlxr_status mlxr_answer_finish(mlxr_answer *a, const mlxr_stats *stats, mlxr_error *err);
/* Whether the text so far ends within thinking. */
bool mlxr_answer_is_thinking(const mlxr_answer *a);
void mlxr_answer_clear(mlxr_answer *a);

#endif
