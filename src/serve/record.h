/* record: what is worth telling of one request when it is over, for the log and the metrics. It is part of every request, all zero at
 * first; whoever works on the request fills in what it knows, one at a time, and nobody after the answer is whole. */
#ifndef MLXR_SERVE_RECORD_H
#define MLXR_SERVE_RECORD_H

#include "base/base.h"

/* Times between two tokens of a choice, counted by length: the upper bounds in seconds, the last is infinity. */
#define MLXR_RECORD_GAP_BOUNDS                                    \
    {                                                             \
        .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5 \
    }
enum { MLXR_RECORD_GAPS = 13 };

typedef struct mlxr_record {
    char id[32];             /* "req_<24 hex>": of the request, in its answer's headers too */
    const char *endpoint;    /* the path of its route ("/api/chat"), a constant; NULL: it had none */
    char model[160];         /* as asked for; "" when no model was */
    char found[160];         /* the name of the model that was found for it; "": none was */
    bool stream, has_answer; /* tokens were generated, or tried to be */
    size_t n_choices;
    size_t n_prompt_tokens, n_cached_tokens, n_generated_tokens; /* of all choices, a prompt once */
    size_t n_dropped_tokens;
    uint64_t load_ns, queue_ns, prefill_ns, decode_ns;
    uint64_t first_token_ns; /* since the request came; 0: there was none */
    uint32_t gaps[MLXR_RECORD_GAPS];
    uint64_t gaps_ns;        /* their sum */
    const char *done_reason; /* "stop", "length", "load", "unload"; NULL: none */
    char error[240];         /* what the client was told; "": nothing went wrong */
} mlxr_record;

/* A time between two tokens. */
void mlxr_record_gap(mlxr_record *r, uint64_t ns);

#endif
