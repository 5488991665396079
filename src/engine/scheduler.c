/* scheduler: see scheduler.h. Here are the object, its queue of sequences, what they take and give up, and the counts;
 * step.c makes the batches. */
#include <stdlib.h>

#include "engine/sequence.h"

enum { DEFAULT_TOKENS_PER_STEP = 256, LEAST_SNAPSHOTS = 8 };

mlxr_scheduler_options mlxr_scheduler_options_default(void)
{
    return (mlxr_scheduler_options){.max_sequences = 16,
                                    .max_waiting = SIZE_MAX,
                                    .max_kv_bytes = SIZE_MAX,
                                    .max_cached_bytes = SIZE_MAX,
                                    .snapshot_blocks = 32};
}

mlxr_sequence_params mlxr_sequence_params_default(void)
{
    return (mlxr_sequence_params){.max_tokens = -1, .sampling = mlxr_sampling_default()};
}

/* ---- open, close ---- */

static mlxr_status resolve_context(mlxr_scheduler *s, mlxr_error *err)
{
    size_t model = s->program->context_length;

    s->context_length = s->options.context_length;
    if (s->context_length == 0)
        s->context_length = model < MLXR_DEFAULT_CONTEXT ? model : MLXR_DEFAULT_CONTEXT;
    if (s->context_length > model)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "scheduler: a context of %zu tokens was asked for, the model has %zu",
                         s->context_length, model);
    return MLXR_OK;
}

/* How many blocks there are, and the context that they can hold. */
static mlxr_status resolve_blocks(mlxr_scheduler *s, size_t *n_blocks, mlxr_error *err)
{
    size_t block_bytes = mlxr_executable_block_bytes(s->executable);
    size_t tokens = s->options.max_kv_tokens ? s->options.max_kv_tokens : s->context_length;
    size_t most = block_bytes ? s->options.max_kv_bytes / block_bytes : SIZE_MAX;

    *n_blocks = mlxr_blocks_for(tokens);
    if (*n_blocks > most) *n_blocks = most;
    if (*n_blocks == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "scheduler: %zu bytes for keys and values hold no block of %zu bytes (%d tokens)",
                         s->options.max_kv_bytes, block_bytes, MLXR_KV_BLOCK);
    if (*n_blocks < mlxr_blocks_for(s->context_length)) s->context_length = *n_blocks * MLXR_KV_BLOCK;
    if (*n_blocks >= UINT32_MAX || s->options.max_sequences > UINT32_MAX)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "scheduler: %zu cached tokens of %zu sequences are too many", tokens,
                         s->options.max_sequences);
    return MLXR_OK;
}

static mlxr_status make_cache(mlxr_scheduler *s, size_t n_blocks, mlxr_error *err)
{
    mlxr_kv_options o = {.n_blocks = n_blocks,
                         .block_tokens = MLXR_KV_BLOCK,
                         .block_bytes = mlxr_executable_block_bytes(s->executable),
                         .snapshot_bytes = s->snapshot_bytes,
                         .max_cached_bytes = s->options.max_cached_bytes};
    size_t pool, snapshots;

    /* Blocks are bounded by how many there are; snapshots are not: they get as much again. */
    if (o.max_cached_bytes == SIZE_MAX && o.snapshot_bytes > 0) {
        if (mlxr_mul_size(&pool, n_blocks, o.block_bytes) &&
            mlxr_mul_size(&snapshots, LEAST_SNAPSHOTS, o.snapshot_bytes) &&
            mlxr_add_size(&snapshots, snapshots > pool ? snapshots : pool, pool))
            o.max_cached_bytes = snapshots;
    }
    return mlxr_kv_create(&s->kv, &o, err);
}

static mlxr_status make_arrays(mlxr_scheduler *s, mlxr_error *err)
{
    size_t n_sequences = s->options.max_sequences;

    if (!mlxr_add_size(&s->cap_tokens, s->budget, n_sequences) ||
        !mlxr_add_size(&s->cap_tokens, s->cap_tokens, 1))
        return mlxr_fail_nomem(err, "scheduler");
    s->free_states = mlxr_malloc_array(n_sequences, sizeof *s->free_states);
    s->ids = mlxr_malloc_array(s->cap_tokens, sizeof *s->ids);
    s->positions = mlxr_malloc_array(s->cap_tokens, sizeof *s->positions);
    s->seqs = mlxr_malloc_array(s->cap_tokens, sizeof *s->seqs);
    s->rows = mlxr_malloc_array(s->cap_tokens, sizeof *s->rows);
    s->wanted = mlxr_malloc_array(s->cap_tokens, sizeof *s->wanted);
    s->tables = mlxr_malloc_array(n_sequences, sizeof *s->tables);
    s->prompts = mlxr_malloc_array(n_sequences, sizeof(mlxr_sequence *));
    s->shares = mlxr_malloc_array(n_sequences, sizeof *s->shares);
    s->found = mlxr_malloc_array(mlxr_blocks_for(s->context_length), sizeof *s->found);
    s->snapshot = malloc(s->snapshot_bytes ? s->snapshot_bytes : 1);
    s->mask = mlxr_malloc_array(MLXR_MASK_WORDS(s->program->vocab_size), sizeof *s->mask);
    if (!s->free_states || !s->ids || !s->positions || !s->seqs || !s->rows || !s->wanted || !s->tables ||
        !s->prompts || !s->shares || !s->found || !s->snapshot || !s->mask)
        return mlxr_fail_nomem(err, "scheduler");
    for (size_t i = 0; i < n_sequences; i++) s->free_states[i] = (uint32_t)(n_sequences - 1 - i);
    s->n_free_states = n_sequences;
    return MLXR_OK;
}

static size_t score_rows(const mlxr_scheduler_options *o, size_t vocab_size)
{
    const size_t least = 16, most = 256, n = ((size_t)64 << 20) / sizeof(float) / vocab_size;

    if (o->max_score_rows) return o->max_score_rows;
    return n < least ? least : n > most ? most : n;
}

mlxr_status mlxr_scheduler_open(mlxr_scheduler **out, mlxr_device *device, const mlxr_program *program,
                                const mlxr_scheduler_options *options, mlxr_error *err)
{
    mlxr_scheduler *s = calloc(1, sizeof *s);
    size_t n_blocks = 0;
    mlxr_status st;

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, "scheduler");
    s->program = program;
    s->options = options ? *options : mlxr_scheduler_options_default();
    if (s->options.max_sequences == 0)
        s->options.max_sequences = mlxr_scheduler_options_default().max_sequences;
    s->budget = s->options.max_tokens_per_step;
    if (s->budget == 0) s->budget = mlxr_device_preferred_tokens(device);
    if (s->budget == 0) s->budget = DEFAULT_TOKENS_PER_STEP;
    s->score_rows = score_rows(&s->options, program->vocab_size);

    if ((st = resolve_context(s, err)) != MLXR_OK) goto done;
    if ((st = mlxr_device_compile(&s->executable, device, program, err)) != MLXR_OK) goto done;
    s->shares_blocks = mlxr_executable_shares_blocks(s->executable);
    s->snapshot_bytes = mlxr_executable_snapshot_bytes(s->executable);
    if ((st = resolve_blocks(s, &n_blocks, err)) != MLXR_OK) goto done;
    st = mlxr_state_create(&s->state, s->executable, n_blocks, s->options.max_sequences, err);
    if (st != MLXR_OK) goto done;
    if ((st = make_cache(s, n_blocks, err)) != MLXR_OK) goto done;
    if ((st = mlxr_sampler_create(&s->sampler, program->vocab_size, err)) != MLXR_OK) goto done;
    if ((st = make_arrays(s, err)) != MLXR_OK) goto done;
    *out = s;
    s = NULL;
done:
    mlxr_scheduler_close(s);
    return st;
}

void mlxr_scheduler_close(mlxr_scheduler *s)
{
    if (!s) return;
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): remove moves s->first on, as the first one has no prev */
    while (s->first) mlxr_scheduler_remove(s, s->first);
    mlxr_sampler_free(s->sampler);
    mlxr_kv_free(s->kv);
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    free(s->snapshot);
    free(s->mask);
    free(s->free_states);
    free(s->ids);
    free(s->positions);
    free(s->seqs);
    free(s->rows);
    free(s->wanted);
    free(s->tables);
    free(s->prompts);
    free(s->shares);
    free(s->found);
    mlxr_aligned_free(s->logits);
    mlxr_aligned_free(s->hidden);
    free(s->likeliest);
    free(s->results);
    free(s->states);
    free(s->top);
    free(s);
}

size_t mlxr_scheduler_context_length(const mlxr_scheduler *s)
{
    return s->context_length;
}

/* ---- what a sequence has ---- */

void mlxr_sequence_enter(mlxr_sequence *q, mlxr_sequence_phase phase)
{
    uint64_t now = mlxr_now_ns(), spent = now - q->since_ns;
    mlxr_scheduler *s = q->scheduler;

    switch (q->phase) {
    case MLXR_SEQUENCE_WAITING: q->stats.queue_ns += spent; break;
    case MLXR_SEQUENCE_PREFILL: q->stats.prefill_ns += spent; break;
    case MLXR_SEQUENCE_DECODE: q->stats.decode_ns += spent; break;
    case MLXR_SEQUENCE_DONE: break;
    }
    s->n_waiting -= q->phase == MLXR_SEQUENCE_WAITING;
    s->n_running -= mlxr_sequence_runs(q);
    q->phase = phase;
    q->since_ns = now;
    s->n_waiting += q->phase == MLXR_SEQUENCE_WAITING;
    s->n_running += mlxr_sequence_runs(q);
}

bool mlxr_sequence_take_state(mlxr_sequence *q)
{
    mlxr_scheduler *s = q->scheduler;

    if (s->n_free_states == 0) return false;
    q->i_state = s->free_states[--s->n_free_states];
    q->n_blocks = q->n_named = q->n_computed = 0;
    q->follows = NULL;
    mlxr_sequence_enter(q, MLXR_SEQUENCE_PREFILL);
    return true;
}

void mlxr_sequence_give_up(mlxr_sequence *q, mlxr_sequence_phase phase)
{
    mlxr_scheduler *s = q->scheduler;

    if (mlxr_sequence_runs(q)) {
        while (q->n_blocks > 0) mlxr_kv_release(s->kv, q->blocks[--q->n_blocks]);
        s->free_states[s->n_free_states++] = q->i_state;
        if (q->n_computed > q->n_peak) q->n_peak = q->n_computed;
        q->n_named = q->n_computed = 0;
    }
    mlxr_sequence_enter(q, phase);
}

static bool reserve_blocks(mlxr_sequence *q, size_t n)
{
    uint32_t *p;

    if (n <= q->cap_blocks) return true;
    p = mlxr_realloc_array(q->blocks, n, sizeof *p);
    if (!p) return false;
    q->blocks = p;
    q->cap_blocks = n;
    return true;
}

bool mlxr_sequence_reserve_tokens(mlxr_sequence *q, size_t n)
{
    size_t cap = q->cap_tokens + q->cap_tokens / 2;
    int32_t *p;

    if (n > q->cap_tokens) {
        if (cap < n) cap = n;
        p = mlxr_realloc_array(q->tokens, cap, sizeof *p);
        if (!p) return false;
        q->tokens = p;
        q->cap_tokens = cap;
    }
    return reserve_blocks(q, mlxr_blocks_for(q->cap_tokens));
}

bool mlxr_sequence_share(mlxr_sequence *child, const mlxr_sequence *parent)
{
    mlxr_scheduler *s = child->scheduler;
    size_t n = mlxr_blocks_for(parent->n_computed);

    if (!s->shares_blocks || s->n_free_states == 0 || !reserve_blocks(child, n)) return false;
    /* A block of its own comes with its first token: without one to spare it would only push out another. */
    if (mlxr_kv_n_available(s->kv) <= s->n_running) return false;
    if (s->snapshot_bytes > 0 &&
        mlxr_state_read_sequence(s->snapshot, s->state, parent->i_state, parent->n_computed, NULL) != MLXR_OK)
        return false;
    if (!mlxr_sequence_take_state(child)) return false;
    if (mlxr_state_write_sequence(s->state, child->i_state, parent->n_computed, s->snapshot, NULL) !=
        MLXR_OK) {
        mlxr_sequence_give_up(child, MLXR_SEQUENCE_WAITING);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        mlxr_kv_hold(s->kv, parent->blocks[i]);
        child->blocks[i] = parent->blocks[i];
    }
    child->n_blocks = n;
    child->n_named = parent->n_named < n ? parent->n_named : n;
    child->n_computed = parent->n_computed;
    child->stats.n_cached += child->n_computed < child->n_prompt ? child->n_computed : child->n_prompt;
    return true;
}

void mlxr_sequence_lose_followers(mlxr_sequence *q)
{
    mlxr_sequence *leader = NULL;

    for (mlxr_sequence *f = q->scheduler->first; f; f = f->next)
        if (f->follows == q) {
            f->follows = leader;
            if (!leader) leader = f;
        }
}

static void sequence_free(mlxr_sequence *q)
{
    if (!q) return;
    free(q->tokens);
    free(q->blocks);
    free(q->eos_ids);
    free(q->forced);
    free(q->failure);
    mlxr_matcher_free(q->matcher);
    mlxr_matcher_free(q->next_matcher);
    mlxr_sampling_clear(&q->sampling);
    free(q);
}

mlxr_status mlxr_scheduler_force(mlxr_sequence *q, const int32_t *ids, size_t n, mlxr_error *err)
{
    size_t V = q->scheduler->program->vocab_size;
    int32_t *copy;

    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= V)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "scheduler: token %d is outside the vocabulary of %zu", (int)ids[i], V);
    if (!(copy = mlxr_malloc_array(n, sizeof *copy))) return mlxr_fail_nomem(err, "scheduler");
    if (n) memcpy(copy, ids, n * sizeof *copy);
    free(q->forced);
    q->forced = copy;
    q->n_forced = n;
    q->i_forced = 0;
    return MLXR_OK;
}

/* ---- the queue ---- */

static void append(mlxr_scheduler *s, mlxr_sequence *q)
{
    q->prev = s->last;
    if (s->last)
        s->last->next = q;
    else
        s->first = q;
    s->last = q;
    s->n_sequences++;
    s->n_waiting++;
    q->since_ns = mlxr_now_ns();
}

static mlxr_status check_room(const mlxr_scheduler *s, mlxr_error *err)
{
    size_t n = s->n_running + s->n_waiting, most = s->options.max_sequences;

    if (n < most || n - most < s->options.max_waiting) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_BUSY, "scheduler: %zu sequences are here, %zu may run and %zu may wait", n,
                     most, s->options.max_waiting);
}

static mlxr_status check_params(const mlxr_scheduler *s, const mlxr_sequence_params *p, mlxr_error *err)
{
    size_t n = p->n_ids, V = s->program->vocab_size;
    /* Without an answer, the last position needs none behind it. */
    bool answers = p->hidden == MLXR_HIDDEN_NONE && p->max_tokens != 0;

    if (n == 0) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "scheduler: the prompt has no tokens");
    for (size_t i = 0; i < n; i++)
        if (p->ids[i] < 0 || (size_t)p->ids[i] >= V)
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "scheduler: token %d at position %zu of the prompt is outside the model's vocabulary of %zu",
                p->ids[i], i, V);
    if (p->overflow == MLXR_OVERFLOW_ERROR && n + answers > s->context_length)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "scheduler: the prompt has %zu tokens, the context holds %zu%s", n,
                         s->context_length, answers ? " and the answer needs one at least" : "");
    if (p->overflow != MLXR_OVERFLOW_ERROR && p->n_keep > s->context_length / 4 * 3)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "scheduler: %zu tokens are to be kept, wanted at most %zu of a context of %zu",
                         p->n_keep, s->context_length / 4 * 3, s->context_length);
    if (p->overflow != MLXR_OVERFLOW_ERROR && (p->score_prompt || p->hidden != MLXR_HIDDEN_NONE) &&
        n + answers > s->context_length)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW,
                         "scheduler: the prompt has %zu tokens, the context holds %zu, and what is scored or "
                         "embedded is not truncated",
                         n, s->context_length);
    if (p->hidden != MLXR_HIDDEN_NONE && p->score_prompt)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "scheduler: a sequence gives scores or hidden states, not both");
    if (p->hidden != MLXR_HIDDEN_NONE && s->program->hidden == MLXR_NONE)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "scheduler: the model's program does not say where its hidden state is");
    return mlxr_sampling_check(&p->sampling, V, err);
}

/* How many tokens of the prompt go, so that it fits with room for the answer. */
static size_t n_too_many(const mlxr_scheduler *s, const mlxr_sequence_params *p)
{
    size_t room = s->context_length / 4, most;

    if (p->max_tokens >= 0 && (uint64_t)p->max_tokens < room) room = (size_t)p->max_tokens;
    if (room == 0 && p->max_tokens != 0) room = 1;
    most = s->context_length - room;
    /* What would fit without an answer's room is cut only when no token of it could come. */
    if (p->n_ids + (p->max_tokens != 0) <= s->context_length) return 0;
    return p->n_ids - most;
}

static mlxr_status set_prompt(mlxr_sequence *q, const mlxr_sequence_params *p, size_t n_dropped,
                              mlxr_error *err)
{
    size_t n = p->n_ids - n_dropped, keep = n_dropped ? p->n_keep : n;

    if (!mlxr_sequence_reserve_tokens(q, n + 1)) return mlxr_fail_nomem(err, "scheduler: sequence");
    memcpy(q->tokens, p->ids, keep * sizeof *q->tokens);
    if (n > keep) memcpy(q->tokens + keep, p->ids + keep + n_dropped, (n - keep) * sizeof *q->tokens);
    q->n_prompt = q->n_tokens = n;
    q->stats.n_prompt = p->n_ids;
    q->stats.n_dropped = q->n_pending_dropped = n_dropped;
    return MLXR_OK;
}

static mlxr_status copy_eos(mlxr_sequence *q, const int32_t *ids, size_t n, mlxr_error *err)
{
    q->eos_ids = mlxr_malloc_array(n, sizeof *q->eos_ids);
    if (!q->eos_ids) return mlxr_fail_nomem(err, "scheduler: sequence");
    if (n) memcpy(q->eos_ids, ids, n * sizeof *q->eos_ids);
    q->n_eos = n;
    return MLXR_OK;
}

mlxr_status mlxr_scheduler_add(mlxr_sequence **out, mlxr_scheduler *s, const mlxr_sequence_params *params,
                               mlxr_error *err)
{
    mlxr_sequence *q = NULL;
    mlxr_status st;

    *out = NULL;
    if ((st = check_params(s, params, err)) != MLXR_OK) return st;
    if ((st = check_room(s, err)) != MLXR_OK) return st;
    q = calloc(1, sizeof *q);
    if (!q) return mlxr_fail_nomem(err, "scheduler: sequence");
    q->scheduler = s;
    if ((st = mlxr_sampling_copy(&q->sampling, &params->sampling, err)) != MLXR_OK) goto done;
    if ((st = copy_eos(q, params->eos_ids, params->n_eos, err)) != MLXR_OK) goto done;
    st = set_prompt(q, params, params->overflow == MLXR_OVERFLOW_ERROR ? 0 : n_too_many(s, params), err);
    if (st != MLXR_OK) goto done;
    q->sampler_state = mlxr_sampler_state_init(&params->sampling);
    q->dry_breakers = params->dry_breakers;
    q->seed = params->seed;
    q->n_left = params->max_tokens < 0 || (uint64_t)params->max_tokens > SIZE_MAX
                    ? SIZE_MAX
                    : (size_t)params->max_tokens;
    q->logprobs = params->logprobs || params->n_top_logprobs > 0;
    q->n_top_logprobs = params->n_top_logprobs;
    if (q->n_top_logprobs > s->program->vocab_size) q->n_top_logprobs = s->program->vocab_size;
    q->score_prompt = params->score_prompt;
    q->hidden = params->hidden;
    q->overflow = params->overflow;
    q->n_keep = params->n_keep;
    q->ud = params->ud;
    q->matcher = params->matcher;
    append(s, q);
    *out = q;
    q = NULL;
done:
    sequence_free(q);
    return st;
}

static mlxr_status check_parent(const mlxr_sequence *parent, mlxr_error *err)
{
    if (parent->phase == MLXR_SEQUENCE_DONE || parent->score_prompt || parent->hidden != MLXR_HIDDEN_NONE)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "scheduler: a sequence that %s cannot be forked",
                         parent->phase == MLXR_SEQUENCE_DONE ? "has ended" : "scores or gives hidden states");
    return MLXR_OK;
}

mlxr_status mlxr_scheduler_fork(mlxr_sequence **out, mlxr_scheduler *s, mlxr_sequence *parent,
                                const mlxr_fork_params *params, mlxr_error *err)
{
    mlxr_sequence *q = NULL;
    mlxr_status st;

    *out = NULL;
    if ((st = check_parent(parent, err)) != MLXR_OK) return st;
    if ((st = mlxr_sampling_check(&params->sampling, s->program->vocab_size, err)) != MLXR_OK) return st;
    if ((st = check_room(s, err)) != MLXR_OK) return st;
    q = calloc(1, sizeof *q);
    if (!q) return mlxr_fail_nomem(err, "scheduler: sequence");
    q->scheduler = s;
    if ((st = mlxr_sampling_copy(&q->sampling, &params->sampling, err)) != MLXR_OK) goto done;
    if ((st = copy_eos(q, parent->eos_ids, parent->n_eos, err)) != MLXR_OK) goto done;
    if (!mlxr_sequence_reserve_tokens(q, parent->n_tokens + 1)) {
        st = mlxr_fail_nomem(err, "scheduler: sequence");
        goto done;
    }
    if (parent->matcher && (st = mlxr_matcher_clone(&q->matcher, parent->matcher, err)) != MLXR_OK) goto done;
    memcpy(q->tokens, parent->tokens, parent->n_tokens * sizeof *q->tokens);
    q->n_tokens = parent->n_tokens;
    q->n_prompt = parent->n_prompt;
    q->n_left = parent->n_left;
    q->n_generated = parent->n_generated;
    q->sampler_state = parent->sampler_state;
    if (parent->n_generated == 0) q->sampler_state = mlxr_sampler_state_init(&params->sampling);
    q->dry_breakers = parent->dry_breakers;
    q->seed = params->seed;
    q->logprobs = parent->logprobs;
    q->n_top_logprobs = parent->n_top_logprobs;
    q->overflow = parent->overflow;
    q->n_keep = parent->n_keep;
    q->n_pending_dropped = parent->n_pending_dropped;
    q->ud = params->ud;
    q->stats.n_prompt = parent->stats.n_prompt;
    q->stats.n_dropped = parent->stats.n_dropped;
    q->stats.n_generated = parent->stats.n_generated;
    append(s, q);
    if (parent->phase == MLXR_SEQUENCE_DECODE) {
        if (mlxr_sequence_share(q, parent)) mlxr_sequence_enter(q, MLXR_SEQUENCE_DECODE);
    } else {
        q->follows = parent->follows ? parent->follows : parent;
    }
    *out = q;
    q = NULL;
done:
    sequence_free(q);
    return st;
}

void mlxr_scheduler_remove(mlxr_scheduler *s, mlxr_sequence *q)
{
    if (!q) return;
    mlxr_sequence_lose_followers(q);
    mlxr_sequence_give_up(q, MLXR_SEQUENCE_DONE);
    if (q->prev)
        q->prev->next = q->next;
    else
        s->first = q->next;
    if (q->next)
        q->next->prev = q->prev;
    else
        s->last = q->prev;
    s->n_sequences--;
    sequence_free(q);
}

/* ---- counts ---- */

mlxr_sequence_stats mlxr_sequence_get_stats(const mlxr_sequence *q)
{
    mlxr_sequence_stats stats = q->stats;
    uint64_t spent = mlxr_now_ns() - q->since_ns;

    stats.phase = q->phase;
    if (q->phase == MLXR_SEQUENCE_WAITING) stats.queue_ns += spent;
    if (q->phase == MLXR_SEQUENCE_PREFILL) stats.prefill_ns += spent;
    if (q->phase == MLXR_SEQUENCE_DECODE) stats.decode_ns += spent;
    return stats;
}

const int32_t *mlxr_sequence_tokens(const mlxr_sequence *q, size_t *n)
{
    *n = q->n_tokens;
    return q->tokens;
}

bool mlxr_sequence_may_end(const mlxr_sequence *q)
{
    return !q->matcher || mlxr_matcher_may_end(q->matcher);
}

size_t mlxr_sequence_n_cached(const mlxr_sequence *q)
{
    return q->n_computed;
}

mlxr_scheduler_stats mlxr_scheduler_get_stats(const mlxr_scheduler *s)
{
    mlxr_kv_stats kv = mlxr_kv_get_stats(s->kv);

    return (mlxr_scheduler_stats){
        .n_running = s->n_running,
        .n_waiting = s->n_waiting,
        .n_blocks = kv.n_held + kv.n_cached + kv.n_free,
        .n_blocks_used = kv.n_held,
        .n_blocks_cached = kv.n_cached,
        .block_bytes = mlxr_executable_block_bytes(s->executable),
        .snapshot_bytes = s->snapshot_bytes,
        .n_snapshots = kv.n_snapshots,
        .cached_bytes = kv.cached_bytes,
        .n_steps = s->n_steps,
        .n_prompt_tokens = s->n_prompt_tokens,
        .n_decode_tokens = s->n_decode_tokens,
        .n_hit_tokens = s->n_hit_tokens,
        .n_evicted_blocks = kv.n_evicted,
        .n_copied_blocks = s->n_copied_blocks,
        .n_preemptions = s->n_preemptions,
        .device_ns = s->device_ns,
        .sampling_ns = s->sampling_ns,
        .own_ns = s->own_ns,
    };
}

void mlxr_scheduler_clear_cache(mlxr_scheduler *s)
{
    mlxr_kv_clear(s->kv);
}

/* ---- for tests ---- */

static mlxr_status check_sequence(const mlxr_sequence *q, uint32_t *holders, mlxr_error *err)
{
    const mlxr_scheduler *s = q->scheduler;

    if (!mlxr_sequence_runs(q))
        return q->n_blocks || q->n_computed
                   ? mlxr_fail(err, MLXR_E_INTERNAL, "scheduler: a sequence that does not run has %zu blocks",
                               q->n_blocks)
                   : MLXR_OK;
    if (q->n_computed >= q->n_tokens || q->n_tokens > s->context_length || q->follows ||
        mlxr_blocks_for(q->n_computed) > q->n_blocks || q->n_named > q->n_computed / MLXR_KV_BLOCK ||
        q->n_blocks > mlxr_blocks_for(q->n_tokens) ||
        (q->phase == MLXR_SEQUENCE_DECODE && q->n_computed + 1 != q->n_tokens))
        return mlxr_fail(err, MLXR_E_INTERNAL,
                         "scheduler: phase %d, %zu of %zu tokens computed in %zu blocks, %zu named",
                         (int)q->phase, q->n_computed, q->n_tokens, q->n_blocks, q->n_named);
    for (size_t i = 0; i < q->n_blocks; i++) holders[q->blocks[i]]++;
    for (size_t i = 0; i < s->n_free_states; i++)
        if (s->free_states[i] == q->i_state)
            return mlxr_fail(err, MLXR_E_INTERNAL, "scheduler: state %u is free and in use", q->i_state);
    for (size_t i = 0; i < q->n_named; i++)
        if (mlxr_kv_find(s->kv, i ? q->blocks[i - 1] : MLXR_KV_NONE, q->tokens + i * MLXR_KV_BLOCK) !=
            q->blocks[i])
            return mlxr_fail(err, MLXR_E_INTERNAL, "scheduler: block %zu of a sequence has another name", i);
    return MLXR_OK;
}

mlxr_status mlxr_scheduler_check(const mlxr_scheduler *s, mlxr_error *err)
{
    mlxr_scheduler_stats stats = mlxr_scheduler_get_stats(s);
    uint32_t *holders = mlxr_calloc_array(stats.n_blocks, sizeof *holders);
    size_t n = 0, n_running = 0, n_waiting = 0;
    mlxr_status st = holders ? MLXR_OK : mlxr_fail_nomem(err, "scheduler: check");

    for (const mlxr_sequence *q = s->first; q && st == MLXR_OK; q = q->next) {
        n++;
        n_running += mlxr_sequence_runs(q);
        n_waiting += q->phase == MLXR_SEQUENCE_WAITING;
        st = check_sequence(q, holders, err);
    }
    if (st == MLXR_OK && (n != s->n_sequences || n_running != s->n_running || n_waiting != s->n_waiting ||
                          n_running + s->n_free_states != s->options.max_sequences))
        st = mlxr_fail(
            err, MLXR_E_INTERNAL,
            "scheduler: %zu sequences (%zu counted), %zu run (%zu), %zu wait (%zu), %zu states free", n,
            s->n_sequences, n_running, s->n_running, n_waiting, s->n_waiting, s->n_free_states);
    if (st == MLXR_OK) st = mlxr_kv_check(s->kv, holders, err);
    free(holders);
    return st;
}
