/* turn: one request for an answer of a model, whatever API it came by. A front (one a route: native_generate.c, openai_chat.c ...) reads the
 * body into a turn and says what the answer looks like on the wire; what lies between is the same for all and here: waiting for the
 * model, submitting, events, clients that leave, statistics, receipts.
 *
 *   front.read (worker) -> residency -> turn.start (worker): front.prepare, submit -> engine's thread: front.event ... -> end
 *
 * A turn belongs to its request and lives until all of that is over; callbacks of one turn never overlap. */
#ifndef MLXR_SERVE_TURN_H
#define MLXR_SERVE_TURN_H

#include "serve/fields.h"
#include "serve/put.h"
#include "serve/residency.h"
#include "serve/served.h"
#include "serve/server.h"
#include "serve/workers.h"

typedef struct mlxr_serve mlxr_serve; /* serve.h */
typedef struct mlxr_turn mlxr_turn;

/* Of a failure: what the API's error says. */
typedef struct mlxr_turn_error {
    int status;          /* HTTP */
    const char *message; /* NUL-terminated */
    const char *field;   /* of the request, or NULL */
    mlxr_status code;    /* what it was before it became an HTTP status */
} mlxr_turn_error;

typedef struct mlxr_front {
    const char *name; /* "generate": for logs, metrics */
    bool stream_default;
    const char *stream_type, *heartbeat; /* content type of a stream; what is sent in silence, or NULL */
    size_t state_size;                   /* of turn->state, zeroed */
    /* Reads turn->body into turn->request, turn->model_name ...; a worker's thread. What it returns other than MLXR_OK is answered by fail
     * with status 400 unless it has set turn->error_status. done_already: it has answered itself. */
    mlxr_status (*read)(mlxr_turn *t, mlxr_error *err);
    /* The model is there: what needs it (capabilities, templates, tokens). May be NULL. */
    mlxr_status (*prepare)(mlxr_turn *t, mlxr_error *err);
    /* Before the first event: the stream's first bytes. May be NULL. */
    void (*begin)(mlxr_turn *t);
    /* TOKEN, TOOL_CALL and COMPLETED of each choice, in the order they come. Streams push; others only gather. */
    void (*event)(mlxr_turn *t, const mlxr_event *event);
    /* In place of event and end, for what is to be embedded (turn->inputs), on a worker. */
    void (*embedded)(mlxr_turn *t, const mlxr_embeddings *e);
    /* All choices are complete: the stream's last bytes, or the whole answer. */
    void (*end)(mlxr_turn *t);
    /* In place of all that is left. A stream has begun when turn->begun. */
    void (*fail)(mlxr_turn *t, const mlxr_turn_error *error);
    void (*clear)(mlxr_turn *t); /* what state holds; may be NULL */
} mlxr_front;

/* In the table of every front's fields; the turn itself looks at it. */
#define MLXR_FIELD_RECEIPT                                                                                 \
    {                                                                                                      \
        .name = "receipt", .types = MLXR_FIELD_BOOL | MLXR_FIELD_STRING, .offset = MLXR_FIELD_NOWHERE,     \
        .words = "full", .fallback = "false", .schema = "{\"enum\":[true,false,\"full\",null]}",           \
        .help =                                                                                            \
            "what the answer came of, for mlxctl replay; \"full\": with the request's body and the tokens" \
    }

struct mlxr_turn {
    mlxr_serve *serve;
    const mlxr_front *front;
    mlxr_request_in *http;
    json_t *body;     /* the request's object; texts of `request` are borrowed from it, or from arena */
    json_t *warnings; /* a list of texts */
    mlxr_arena arena;
    void *state; /* the front's */

    char *model_name; /* as asked for, in arena */
    bool stream;
    int64_t keep_alive_ns; /* MLXR_KEEP_DEFAULT */
    size_t context_length; /* num_ctx, or 0 */
    size_t max_thinking;   /* tokens of thinking, or 0 */
    mlxr_request request;
    const mlxr_request
        *more; /* further prompts of the same turn, see mlxr_served_submit_all; set by read or prepare */
    size_t n_more;
    /* Set by prepare: these are embedded, in place of `request`. Borrowed from the turn. */
    const mlxr_input *inputs;
    size_t n_inputs;
    mlxr_embed_options embed;
    int error_status; /* of a failure in read or prepare; 0: 400 */
    const char *error_field;
    bool answered;          /* read or prepare have answered: nothing follows */
    bool load_only, unload; /* no tokens are wanted: the model is to be there, or to go */

    mlxr_resident *resident;
    mlxr_served *model;         /* from prepare on */
    uint64_t start_ns, load_ns; /* of the request; how long it waited for the model */
    bool begun;                 /* a stream's head is out */
    size_t n_open;              /* choices not complete */
    mlxr_stats stats;           /* of all choices: sums of generated tokens, the rest of the last */
    mlxr_served_run *run;
    bool wants_receipt;           /* the body or a header asks for one; set before the front reads */
    struct mlxr_receipt *receipt; /* NULL: nobody asked for one */
    mlxr_record *record;          /* of the request */
    mlxr_buf out;                 /* scratch of the front, and a stream's line */
};

/* A handler of a route whose ud is a struct mlxr_turn_route. */
typedef struct mlxr_turn_route {
    mlxr_serve *serve;
    const mlxr_front *front;
} mlxr_turn_route;
void mlxr_turn_handle(mlxr_request_in *http, void *ud);

/* ---- for fronts ---- */

/* Sends out (a stream's line or event) and empties it. */
void mlxr_turn_push(mlxr_turn *t, mlxr_buf *out);
/* The whole answer as JSON: out is taken. */
void mlxr_turn_answer(mlxr_turn *t, int status, mlxr_buf *out);
/* Nanoseconds of the whole request so far. */
uint64_t mlxr_turn_total_ns(const mlxr_turn *t);
/* JSON as a text of the turn's; NULL: out of memory. */
const char *mlxr_turn_dump(mlxr_turn *t, const json_t *value);
/* "field" is what is wrong: for the API's error. */
mlxr_status mlxr_turn_bad(mlxr_turn *t, const char *field, mlxr_error *err, const char *fmt, ...)
    MLXR_PRINTF(4, 5);

#endif
