/* engine: see engine.h. Owns the KV blocks and the order of work; what a batch computes is the device's business. */
#include "engine/engine.h"

#include <stdlib.h>

struct mlxr_sequence {
    mlxr_sequence *next, *prev; /* all sequences, oldest first */
    int32_t *tokens;            /* [limit]: prompt, then what was sampled */
    size_t n_tokens, n_prompt;
    size_t n_cached;  /* tokens whose K and V are in the state */
    size_t limit;     /* n_tokens at which the answer is full */
    uint32_t *blocks; /* [n_blocks_needed], reserved whole at admission */
    uint32_t i_state; /* the device's number for it, from admission on */
    size_t n_blocks, n_blocks_needed;
    bool admitted, done;
    int32_t *eos_ids;
    size_t n_eos;
    mlxr_sampling sampling;
    mlxr_sampler_state sampler_state;
    uint64_t seed;
    void *ud;
    /* in the batch being built: */
    mlxr_sampler_state next_state;
    size_t n_in_batch;
    uint32_t i_table;
};

struct mlxr_engine {
    const mlxr_program *program;
    mlxr_executable *executable;
    mlxr_state *state;
    mlxr_sampler *sampler;
    size_t context_length, budget;
    uint32_t *free_blocks; /* a stack */
    size_t n_free, n_blocks;
    uint32_t *free_states; /* a stack */
    size_t n_free_states;
    mlxr_sequence *first, *last;
    size_t n_sequences;
    /* the batch, [budget] each; rows grow with the number of sequences */
    int32_t *ids;
    uint32_t *positions, *seqs, *rows;
    mlxr_block_table *tables;
    mlxr_sequence **row_sequences;
    float *logits;      /* [cap_rows, V] */
    int32_t *likeliest; /* [cap_rows] */
    mlxr_step_result *results;
    size_t cap_rows;
};

enum { DEFAULT_TOKENS_PER_STEP = 256 };

mlxr_engine_options mlxr_engine_options_default(void)
{
    return (mlxr_engine_options){.max_sequences = 16};
}

static size_t blocks_for(size_t n_tokens)
{
    return (n_tokens + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK;
}

mlxr_status mlxr_engine_open(mlxr_engine **out, mlxr_device *device, const mlxr_program *program,
                             const mlxr_engine_options *options, mlxr_error *err)
{
    mlxr_engine_options defaults = mlxr_engine_options_default();
    mlxr_engine *e = calloc(1, sizeof *e);
    size_t kv_tokens, n_sequences;
    mlxr_status st;

    *out = NULL;
    if (!e) return mlxr_fail_nomem(err, "engine");
    if (!options) options = &defaults;
    e->program = program;
    e->budget = options->max_tokens_per_step ? options->max_tokens_per_step
                                             : mlxr_device_preferred_tokens(device);
    if (e->budget == 0) e->budget = DEFAULT_TOKENS_PER_STEP;
    e->context_length = options->context_length;
    if (e->context_length == 0)
        e->context_length = program->context_length < MLXR_DEFAULT_CONTEXT ? program->context_length
                                                                           : MLXR_DEFAULT_CONTEXT;
    if (e->context_length > program->context_length) {
        st = mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                       "engine: a context of %zu tokens was asked for, the model has %zu", e->context_length,
                       program->context_length);
        goto done;
    }
    kv_tokens = options->max_kv_tokens > e->context_length ? options->max_kv_tokens : e->context_length;
    e->n_blocks = blocks_for(kv_tokens);
    n_sequences = options->max_sequences ? options->max_sequences : defaults.max_sequences;
    if (e->n_blocks > UINT32_MAX || n_sequences > UINT32_MAX) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                       "engine: %zu cached tokens of %zu sequences are too many", kv_tokens, n_sequences);
        goto done;
    }

    if ((st = mlxr_device_compile(&e->executable, device, program, err)) != MLXR_OK) goto done;
    if ((st = mlxr_state_create(&e->state, e->executable, e->n_blocks, n_sequences, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_sampler_create(&e->sampler, program->vocab_size, err)) != MLXR_OK) goto done;
    e->free_blocks = mlxr_malloc_array(e->n_blocks, sizeof *e->free_blocks);
    e->free_states = mlxr_malloc_array(n_sequences, sizeof *e->free_states);
    e->ids = mlxr_malloc_array(e->budget, sizeof *e->ids);
    e->positions = mlxr_malloc_array(e->budget, sizeof *e->positions);
    e->seqs = mlxr_malloc_array(e->budget, sizeof *e->seqs);
    if (!e->free_blocks || !e->free_states || !e->ids || !e->positions || !e->seqs) {
        st = mlxr_fail_nomem(err, "engine");
        goto done;
    }
    for (size_t i = 0; i < e->n_blocks; i++) e->free_blocks[i] = (uint32_t)(e->n_blocks - 1 - i);
    e->n_free = e->n_blocks;
    for (size_t i = 0; i < n_sequences; i++) e->free_states[i] = (uint32_t)(n_sequences - 1 - i);
    e->n_free_states = n_sequences;
    *out = e;
    e = NULL;
done:
    mlxr_engine_close(e);
    return st;
}

void mlxr_engine_close(mlxr_engine *e)
{
    if (!e) return;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): remove moves e->first on, as the first one has no prev */
    while (e->first) mlxr_engine_remove(e, e->first);
    mlxr_sampler_free(e->sampler);
    mlxr_state_free(e->state);
    mlxr_executable_free(e->executable);
    free(e->free_blocks);
    free(e->free_states);
    free(e->ids);
    free(e->positions);
    free(e->seqs);
    free(e->rows);
    free(e->tables);
    free(e->row_sequences);
    mlxr_aligned_free(e->logits);
    free(e->results);
    free(e->likeliest);
    free(e);
}

size_t mlxr_engine_context_length(const mlxr_engine *e)
{
    return e->context_length;
}
size_t mlxr_engine_free_blocks(const mlxr_engine *e)
{
    return e->n_free;
}
size_t mlxr_engine_total_blocks(const mlxr_engine *e)
{
    return e->n_blocks;
}
size_t mlxr_sequence_n_cached(const mlxr_sequence *s)
{
    return s->n_cached;
}

const int32_t *mlxr_sequence_tokens(const mlxr_sequence *s, size_t *n)
{
    *n = s->n_tokens;
    return s->tokens;
}

/* ---- sequences ---- */

static void sequence_free(mlxr_sequence *s)
{
    if (!s) return;
    free(s->tokens);
    free(s->blocks);
    free(s->eos_ids);
    mlxr_sampling_clear(&s->sampling);
    free(s);
}

mlxr_status mlxr_engine_add(mlxr_sequence **out, mlxr_engine *e, const mlxr_sequence_params *params,
                            mlxr_error *err)
{
    mlxr_sequence *s = NULL;
    size_t n = params->n_ids, room;
    mlxr_status st;

    *out = NULL;
    if (n == 0) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "engine: the prompt has no tokens");
    if ((st = mlxr_sampling_check(&params->sampling, e->program->vocab_size, err)) != MLXR_OK) return st;
    if (n >= e->context_length)
        return mlxr_fail(
            err, MLXR_E_CONTEXT_OVERFLOW,
            "engine: the prompt has %zu tokens, the context holds %zu and the answer needs one at least", n,
            e->context_length);
    for (size_t i = 0; i < n; i++)
        if (params->ids[i] < 0 || (size_t)params->ids[i] >= e->program->vocab_size)
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "engine: token %d at position %zu of the prompt is outside the model's vocabulary of %zu",
                params->ids[i], i, e->program->vocab_size);

    s = calloc(1, sizeof *s);
    if (!s) return mlxr_fail_nomem(err, "engine: sequence");
    if ((st = mlxr_sampling_copy(&s->sampling, &params->sampling, err)) != MLXR_OK) {
        sequence_free(s);
        return st;
    }
    room = e->context_length - n;
    s->limit = n + (params->max_tokens >= 0 && (uint64_t)params->max_tokens < room
                        ? (size_t)params->max_tokens
                        : room);
    s->n_prompt = s->n_tokens = n;
    s->n_blocks_needed = blocks_for(s->limit > n ? s->limit : n);
    s->tokens = mlxr_malloc_array(s->limit, sizeof *s->tokens);
    s->blocks = mlxr_malloc_array(s->n_blocks_needed, sizeof *s->blocks);
    s->eos_ids = mlxr_malloc_array(params->n_eos, sizeof *s->eos_ids);
    if (!s->tokens || !s->blocks || !s->eos_ids) {
        sequence_free(s);
        return mlxr_fail_nomem(err, "engine: sequence");
    }
    memcpy(s->tokens, params->ids, n * sizeof *s->tokens);
    if (params->n_eos) memcpy(s->eos_ids, params->eos_ids, params->n_eos * sizeof *s->eos_ids);
    s->n_eos = params->n_eos;
    s->sampler_state = s->next_state = mlxr_sampler_state_init(&params->sampling);
    s->seed = params->seed;
    s->ud = params->ud;

    s->prev = e->last;
    if (e->last)
        e->last->next = s;
    else
        e->first = s;
    e->last = s;
    e->n_sequences++;
    *out = s;
    return MLXR_OK;
}

void mlxr_engine_remove(mlxr_engine *e, mlxr_sequence *s)
{
    if (!s) return;
    for (size_t i = s->n_blocks; i-- > 0;) e->free_blocks[e->n_free++] = s->blocks[i];
    if (s->admitted) e->free_states[e->n_free_states++] = s->i_state;
    if (s->prev)
        s->prev->next = s->next;
    else
        e->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        e->last = s->prev;
    e->n_sequences--;
    sequence_free(s);
}

/* ---- a step ---- */

/* Every sequence can have one row of logits in a step. */
static mlxr_status reserve_rows(mlxr_engine *e, mlxr_error *err)
{
    size_t want = e->n_sequences, n_logits, bytes;
    float *logits;
    void *p;

    if (want <= e->cap_rows) return MLXR_OK;
    if (!mlxr_mul_size(&n_logits, want, e->program->vocab_size) ||
        !mlxr_mul_size(&bytes, n_logits, sizeof *logits))
        return mlxr_fail_nomem(err, "engine: logits");
    if (!(p = mlxr_realloc_array(e->rows, want, sizeof *e->rows))) goto nomem;
    e->rows = p;
    if (!(p = mlxr_realloc_array(e->tables, want, sizeof *e->tables))) goto nomem;
    e->tables = p;
    if (!(p = mlxr_realloc_array(e->row_sequences, want, sizeof(mlxr_sequence *)))) goto nomem;
    e->row_sequences = p;
    if (!(p = mlxr_realloc_array(e->results, want, sizeof *e->results))) goto nomem;
    e->results = p;
    if (!(p = mlxr_realloc_array(e->likeliest, want, sizeof *e->likeliest))) goto nomem;
    e->likeliest = p;
    if (!(logits = mlxr_aligned_alloc(bytes))) goto nomem;
    mlxr_aligned_free(e->logits);
    e->logits = logits;
    e->cap_rows = want;
    return MLXR_OK;
nomem:
    return mlxr_fail_nomem(err, "engine: batch");
}

/* First come, first served: the first that does not fit holds back those behind it. */
static void admit(mlxr_engine *e)
{
    for (mlxr_sequence *s = e->first; s; s = s->next) {
        if (s->admitted || s->done) continue;
        if (s->n_blocks_needed > e->n_free || e->n_free_states == 0) return;
        for (size_t i = 0; i < s->n_blocks_needed; i++) s->blocks[i] = e->free_blocks[--e->n_free];
        s->n_blocks = s->n_blocks_needed;
        s->i_state = e->free_states[--e->n_free_states];
        s->admitted = true;
    }
}

static void batch_tokens(mlxr_engine *e, mlxr_batch *b, mlxr_sequence *s, size_t n)
{
    s->n_in_batch = n;
    s->i_table = (uint32_t)b->n_seqs;
    e->tables[b->n_seqs++] = (mlxr_block_table){
        .blocks = s->blocks, .n_blocks = s->n_blocks, .sequence = s->i_state};
    for (size_t i = 0; i < n; i++) {
        e->ids[b->n_tokens] = s->tokens[s->n_cached + i];
        e->positions[b->n_tokens] = (uint32_t)(s->n_cached + i);
        e->seqs[b->n_tokens++] = s->i_table;
    }
    if (s->n_cached + n == s->n_tokens) { /* the last known token is in: its logits give the next */
        e->rows[b->n_rows] = (uint32_t)(b->n_tokens - 1);
        e->row_sequences[b->n_rows++] = s;
    }
}

static void build_batch(mlxr_engine *e, mlxr_batch *b)
{
    *b = (mlxr_batch){
        .ids = e->ids, .positions = e->positions, .seqs = e->seqs, .tables = e->tables, .rows = e->rows};
    for (mlxr_sequence *s = e->first; s; s = s->next) s->n_in_batch = 0;
    /* decode rows first: one token each */
    for (mlxr_sequence *s = e->first; s && b->n_tokens < e->budget; s = s->next)
        if (s->admitted && !s->done && s->n_cached + 1 == s->n_tokens) batch_tokens(e, b, s, 1);
    for (mlxr_sequence *s = e->first; s && b->n_tokens < e->budget; s = s->next) {
        size_t n = s->n_tokens - s->n_cached, room = e->budget - b->n_tokens;
        if (!s->admitted || s->done || s->n_in_batch) continue;
        batch_tokens(e, b, s, n < room ? n : room);
    }
}

static bool is_eos(const mlxr_sequence *s, int32_t id)
{
    for (size_t i = 0; i < s->n_eos; i++)
        if (s->eos_ids[i] == id) return true;
    return false;
}

/* Whether every row's next token is its likeliest one, so that the logits need not come back from the device. */
static bool all_greedy(const mlxr_engine *e, const mlxr_batch *b)
{
    for (size_t i = 0; i < b->n_rows; i++)
        if (!mlxr_sampling_is_argmax(&e->row_sequences[i]->sampling)) return false;
    return b->n_rows > 0;
}

static mlxr_status sample(mlxr_engine *e, const mlxr_sequence *s, size_t i_row, mlxr_sampled *out,
                          mlxr_error *err)
{
    const mlxr_draw draw = {.logits = e->logits + i_row * e->program->vocab_size,
                            .history = s->tokens,
                            .n_history = s->n_tokens,
                            .eos_ids = s->eos_ids,
                            .n_eos = s->n_eos,
                            .seed = s->seed,
                            .i_token = s->n_tokens - s->n_prompt,
                            .state = s->sampler_state};
    return mlxr_sampler_sample(out, e->sampler, &s->sampling, &draw, err);
}

mlxr_status mlxr_engine_step(mlxr_engine *e, const volatile int *cancel, const mlxr_step_result **results,
                             size_t *n_results, bool *idle, mlxr_error *err)
{
    mlxr_batch b;
    mlxr_status st;

    *results = NULL;
    *n_results = 0;
    if (idle) *idle = false;
    if (mlxr_cancelled(cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "engine: cancelled");
    if ((st = reserve_rows(e, err)) != MLXR_OK) return st;
    admit(e);
    build_batch(e, &b);
    if (b.n_tokens == 0) {
        if (idle) *idle = true;
        return MLXR_OK;
    }
    b.likeliest = all_greedy(e, &b) ? e->likeliest : NULL;
    if ((st = mlxr_run(e->executable, e->state, &b, cancel, e->logits, err)) != MLXR_OK) return st;

    /* Every row is sampled before any sequence moves, so that a failure leaves all as they were. */
    for (size_t i = 0; i < b.n_rows; i++) {
        mlxr_sequence *s = e->row_sequences[i];
        mlxr_step_result *r = &e->results[i];
        *r = (mlxr_step_result){.sequence = s, .ud = s->ud, .id = -1};
        if (s->n_tokens >= s->limit) { /* max_tokens 0: the prompt was all */
            r->done = true;
            r->reason = MLXR_DONE_LENGTH;
            continue;
        }
        if (b.likeliest && e->likeliest[i] >= 0) {
            r->id = e->likeliest[i];
            st = MLXR_OK;
        } else if (b.likeliest) {
            st = mlxr_fail(err, MLXR_E_DEVICE,
                           "engine: the logits after token %zu hold a NaN or nothing finite", s->n_tokens);
        } else {
            mlxr_sampled drawn;
            st = sample(e, s, i, &drawn, err);
            r->id = drawn.id;
            s->next_state = drawn.state;
        }
        if (st != MLXR_OK) return st;
        if (is_eos(s, r->id)) {
            *r = (mlxr_step_result){
                .sequence = s, .ud = s->ud, .id = -1, .done = true, .reason = MLXR_DONE_STOP};
        } else if (s->n_tokens + 1 >= s->limit) {
            r->done = true;
            r->reason = MLXR_DONE_LENGTH;
        }
    }
    for (mlxr_sequence *s = e->first; s; s = s->next) s->n_cached += s->n_in_batch;
    for (size_t i = 0; i < b.n_rows; i++) {
        mlxr_step_result *r = &e->results[i];
        if (r->id >= 0) {
            r->sequence->tokens[r->sequence->n_tokens++] = r->id;
            r->sequence->sampler_state = r->sequence->next_state;
        }
        r->sequence->done = r->done;
    }
    *results = e->results;
    *n_results = b.n_rows;
    return MLXR_OK;
}
