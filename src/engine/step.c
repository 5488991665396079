/* A step of the scheduler: memory for those that run, admission, a batch, its rows, and what they mean for their
 * sequences. Everything that can fail comes before the first sequence moves. */
#include <stdlib.h>

#include "engine/sequence.h"

/* ---- prefixes ---- */

/* Tokens of q from its start that a cached prefix may stand for: the last token's row is wanted, and so are those of
 * results that are not out yet. */
static size_t most_cached(const mlxr_sequence *q)
{
    if (q->score_prompt || q->hidden == MLXR_HIDDEN_ALL)
        return q->n_rows_done < q->n_tokens ? q->n_rows_done : q->n_tokens - 1;
    return q->n_tokens - 1;
}

/* Named blocks that go on from q's first `from` ones, in s->found; only up to one with a snapshot where the model needs
 * that. */
static size_t find_prefix(mlxr_scheduler *s, const mlxr_sequence *q, size_t from)
{
    size_t most = most_cached(q) / MLXR_KV_BLOCK, n = 0, with_snapshot = 0;
    uint32_t parent = from ? q->blocks[from - 1] : MLXR_KV_NONE;

    if (!s->shares_blocks) return 0;
    for (size_t i = from; i < most; i++) {
        uint32_t b = mlxr_kv_find(s->kv, parent, q->tokens + i * MLXR_KV_BLOCK);
        if (b == MLXR_KV_NONE) break;
        s->found[n++] = parent = b;
        if (mlxr_kv_snapshot(s->kv, b)) with_snapshot = n;
    }
    return s->snapshot_bytes ? with_snapshot : n;
}

/* The found blocks, which are held for q already, become its next ones after `from`; false: the device would not. */
static bool use_prefix(mlxr_scheduler *s, mlxr_sequence *q, size_t from, size_t n)
{
    size_t n_tokens = (from + n) * MLXR_KV_BLOCK, fresh;

    if (s->snapshot_bytes > 0 &&
        mlxr_state_write_sequence(s->state, q->i_state, n_tokens, mlxr_kv_snapshot(s->kv, s->found[n - 1]),
                                  NULL) != MLXR_OK)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (from + i < q->n_blocks) mlxr_kv_release(s->kv, q->blocks[from + i]);
        q->blocks[from + i] = s->found[i];
    }
    if (q->n_blocks < from + n) q->n_blocks = from + n;
    fresh = q->n_peak > from * MLXR_KV_BLOCK ? q->n_peak : from * MLXR_KV_BLOCK;
    if (n_tokens > fresh) {
        size_t end = n_tokens < q->n_prompt ? n_tokens : q->n_prompt;
        if (end > fresh) q->stats.n_cached += end - fresh;
    }
    s->n_hit_tokens += n * MLXR_KV_BLOCK;
    q->n_named = from + n;
    q->n_computed = n_tokens;
    return true;
}

/* What others have computed since: q, between blocks in its prompt, takes it over. */
static void catch_up(mlxr_scheduler *s, mlxr_sequence *q)
{
    size_t from = q->n_computed / MLXR_KV_BLOCK, n;

    if (q->n_computed % MLXR_KV_BLOCK != 0 || q->n_named != from) return;
    if ((n = find_prefix(s, q, from)) == 0) return;
    for (size_t i = 0; i < n; i++) mlxr_kv_hold(s->kv, s->found[i]);
    if (use_prefix(s, q, from, n)) return;
    for (size_t i = n; i-- > 0;) mlxr_kv_release(s->kv, s->found[i]);
}

/* ---- memory ---- */

/* A block for q, if need be that of the youngest sequence that runs; MLXR_KV_NONE: q was the youngest itself, and waits
 * now. */
static uint32_t take_block(mlxr_scheduler *s, mlxr_sequence *q)
{
    for (;;) {
        uint32_t b = mlxr_kv_take(s->kv);
        mlxr_sequence *youngest = s->last;

        if (b != MLXR_KV_NONE) return b;
        while (!mlxr_sequence_runs(youngest)) youngest = youngest->prev;
        s->n_preemptions++;
        youngest->stats.n_preemptions++;
        mlxr_sequence_give_up(youngest, MLXR_SEQUENCE_WAITING);
        if (youngest == q) return MLXR_KV_NONE;
    }
}

/* The block that q's next token goes to: there, and nobody else's. */
static mlxr_status own_next_block(mlxr_scheduler *s, mlxr_sequence *q, mlxr_error *err)
{
    size_t i = q->n_computed / MLXR_KV_BLOCK;
    uint32_t b;
    mlxr_status st;

    if (i < q->n_blocks && mlxr_kv_n_holders(s->kv, q->blocks[i]) == 1) return MLXR_OK;
    if ((b = take_block(s, q)) == MLXR_KV_NONE) return MLXR_OK;
    if (i == q->n_blocks) {
        q->blocks[q->n_blocks++] = b;
        return MLXR_OK;
    }
    /* Those who had it too may have been preempted meanwhile: then the copy is not needed, and does no harm. */
    if ((st = mlxr_state_copy_block(s->state, b, q->blocks[i], err)) != MLXR_OK) {
        mlxr_kv_release(s->kv, b);
        return st;
    }
    s->n_copied_blocks++;
    mlxr_kv_release(s->kv, q->blocks[i]);
    q->blocks[i] = b;
    return MLXR_OK;
}

static mlxr_status grow(mlxr_scheduler *s, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (mlxr_sequence *q = s->first; q && st == MLXR_OK; q = q->next)
        if (q->phase == MLXR_SEQUENCE_DECODE) st = own_next_block(s, q, err);
    return st;
}

/* All blocks of its tokens, cached ones among them, beside one for each that runs. */
static bool admit(mlxr_scheduler *s, mlxr_sequence *q)
{
    size_t n = mlxr_blocks_for(q->n_tokens), n_found;

    if (s->n_free_states == 0) return false;
    n_found = find_prefix(s, q, 0);
    for (size_t i = 0; i < n_found; i++) mlxr_kv_hold(s->kv, s->found[i]);
    if (mlxr_kv_n_available(s->kv) < n - n_found + s->n_running) {
        for (size_t i = n_found; i-- > 0;) mlxr_kv_release(s->kv, s->found[i]);
        return false;
    }
    mlxr_sequence_take_state(q);
    if (n_found > 0 && !use_prefix(s, q, 0, n_found))
        for (size_t i = n_found; i-- > 0;) mlxr_kv_release(s->kv, s->found[i]);
    while (q->n_blocks < n) {
        uint32_t b = mlxr_kv_take(s->kv);
        if (b == MLXR_KV_NONE) { /* what was found could not be used after all */
            mlxr_sequence_give_up(q, MLXR_SEQUENCE_WAITING);
            return false;
        }
        q->blocks[q->n_blocks++] = b;
    }
    return true;
}

/* First come, first served: the first that does not fit holds back those behind it. */
static void admit_all(mlxr_scheduler *s)
{
    for (mlxr_sequence *q = s->first; q; q = q->next)
        if (q->phase == MLXR_SEQUENCE_WAITING && !q->follows && !admit(s, q)) return;
}

/* ---- the batch ---- */

/* Results of tokens that the batch has. */
static bool wants_row(const mlxr_sequence *q, size_t position)
{
    if (q->hidden == MLXR_HIDDEN_ALL || (q->score_prompt && position + 1 < q->n_prompt))
        return position >= q->n_rows_done;
    return position + 1 == q->n_tokens;
}

static void batch_tokens(mlxr_scheduler *s, mlxr_batch *b, mlxr_sequence *q, size_t n)
{
    q->n_in_batch = n;
    q->i_table = (uint32_t)b->n_seqs++;
    for (size_t i = 0; i < n; i++) {
        size_t position = q->n_computed + i;
        if (wants_row(q, position)) {
            mlxr_result_kind kind = q->hidden != MLXR_HIDDEN_NONE                   ? MLXR_RESULT_HIDDEN
                                    : q->score_prompt && position + 1 < q->n_prompt ? MLXR_RESULT_SCORE
                                                                                    : MLXR_RESULT_TOKEN;
            s->rows[b->n_rows] = (uint32_t)b->n_tokens;
            s->wanted[b->n_rows++] = (mlxr_wanted){q, kind, position};
        }
        s->ids[b->n_tokens] = q->tokens[position];
        s->positions[b->n_tokens] = (uint32_t)position;
        s->seqs[b->n_tokens++] = q->i_table;
    }
}

/* Where snapshots are taken: after the last full block of a prompt that another one could use, and now and then. */
static bool is_snapshot_border(const mlxr_scheduler *s, const mlxr_sequence *q, size_t n_tokens)
{
    size_t every = s->options.snapshot_blocks;

    if (s->snapshot_bytes == 0 || !s->shares_blocks || n_tokens == 0 || n_tokens % MLXR_KV_BLOCK != 0)
        return false;
    return n_tokens / MLXR_KV_BLOCK == (q->n_prompt - 1) / MLXR_KV_BLOCK ||
           (every > 0 && n_tokens / MLXR_KV_BLOCK % every == 0);
}

/* Of n tokens of q those up to the next border, so that the state there is seen. */
static size_t up_to_border(const mlxr_scheduler *s, const mlxr_sequence *q, size_t n)
{
    size_t end = q->n_computed + n;

    if (s->snapshot_bytes == 0 || !s->shares_blocks || s->options.max_cached_bytes < s->snapshot_bytes)
        return n;
    for (size_t at = (q->n_computed / MLXR_KV_BLOCK + 1) * MLXR_KV_BLOCK; at < end; at += MLXR_KV_BLOCK)
        if (is_snapshot_border(s, q, at)) return at - q->n_computed;
    return n;
}

/* Whether q is about to compute just what p, which came before it, computes now. */
static bool repeats(const mlxr_sequence *q, const mlxr_sequence *p)
{
    size_t from = q->n_computed, end = from + MLXR_KV_BLOCK;

    return !p->waits && p->n_computed / MLXR_KV_BLOCK == from / MLXR_KV_BLOCK && q->n_named == p->n_named &&
           (q->n_named == 0 || q->blocks[q->n_named - 1] == p->blocks[p->n_named - 1]) &&
           end <= p->n_tokens && end <= most_cached(q) &&
           memcmp(q->tokens + from, p->tokens + from, MLXR_KV_BLOCK * sizeof *q->tokens) == 0;
}

/* Sequences whose prompts are being read, in the order they came. One that would compute the same block as another is
 * left out until that is there: every step it has a part of moves the other one, so it comes. */
static size_t list_prompts(mlxr_scheduler *s, bool hidden)
{
    size_t n = 0;

    for (mlxr_sequence *q = s->first; q; q = q->next) {
        if (q->phase != MLXR_SEQUENCE_PREFILL || (q->hidden != MLXR_HIDDEN_NONE) != hidden) continue;
        q->waits = false;
        if (s->shares_blocks) catch_up(s, q);
        if (s->shares_blocks && s->snapshot_bytes == 0 && q->n_computed % MLXR_KV_BLOCK == 0)
            for (size_t i = 0; i < n && !q->waits; i++) q->waits = repeats(q, s->prompts[i]);
        if (!q->waits) s->prompts[n++] = q;
    }
    return n;
}

/* shares[i]: tokens of the i-th prompt, `left` in all at most; the rule is in scheduler.h. */
static void share(mlxr_scheduler *s, size_t n, size_t left)
{
    size_t half = left - left / 2, n_open = n, q;

    for (size_t i = 0; i < n; i++) {
        size_t want = s->prompts[i]->n_tokens - s->prompts[i]->n_computed, give = 0;
        if (i == 0) give = n == 1 ? left : half;
        if (give > want) give = want;
        s->shares[i] = give;
        left -= give;
    }
    while (left > 0 && n_open > 0) {
        n_open = 0;
        for (size_t i = 1; i < n; i++)
            n_open += s->shares[i] < s->prompts[i]->n_tokens - s->prompts[i]->n_computed;
        q = n_open ? left / n_open : 0;
        if (q == 0) q = 1; /* fewer tokens than prompts: to the first of them */
        for (size_t i = 1; i < n && left > 0; i++) {
            size_t more = s->prompts[i]->n_tokens - s->prompts[i]->n_computed - s->shares[i];
            if (more > q) more = q;
            if (more > left) more = left;
            s->shares[i] += more;
            left -= more;
        }
    }
    if (n > 0) {
        size_t more = s->prompts[0]->n_tokens - s->prompts[0]->n_computed - s->shares[0];
        s->shares[0] += more < left ? more : left;
    }
}

/* Of n tokens of q those whose rows fit. */
static size_t within_rows(const mlxr_sequence *q, size_t n, size_t *n_rows_left)
{
    size_t i = 0;

    if (!q->score_prompt) return n;
    for (; i < n; i++) {
        if (!wants_row(q, q->n_computed + i)) continue;
        if (*n_rows_left == 0) break;
        --*n_rows_left;
    }
    return i;
}

static void build_batch(mlxr_scheduler *s, mlxr_batch *b, bool hidden)
{
    size_t n_prompts, left, least = s->budget / 8 ? s->budget / 8 : 1, n_rows_left = s->score_rows;

    *b = (mlxr_batch){
        .ids = s->ids, .positions = s->positions, .seqs = s->seqs, .tables = s->tables, .rows = s->rows};
    for (mlxr_sequence *q = s->first; q; q = q->next) q->n_in_batch = 0;
    for (mlxr_sequence *q = s->first; q && !hidden; q = q->next)
        if (q->phase == MLXR_SEQUENCE_DECODE) batch_tokens(s, b, q, 1);
    s->n_decoding = b->n_tokens;
    left = s->budget > b->n_tokens + least ? s->budget - b->n_tokens : least;
    n_prompts = list_prompts(s, hidden);
    share(s, n_prompts, left);
    for (size_t i = 0; i < n_prompts; i++) {
        mlxr_sequence *q = s->prompts[i];
        size_t n = within_rows(q, up_to_border(s, q, s->shares[i]), &n_rows_left);
        if (n > 0) batch_tokens(s, b, q, n);
    }
}

/* ---- results ---- */

static bool grow_array(void *p, size_t *cap, size_t n, size_t size)
{
    void *bigger, *now;

    if (n <= *cap) return true;
    memcpy(&now, p, sizeof now);
    if (!(bigger = mlxr_realloc_array(now, n, size))) return false;
    memcpy(p, &bigger, sizeof bigger);
    *cap = n;
    return true;
}

static bool grow_floats(float **p, size_t *cap, size_t n_rows, size_t width)
{
    size_t n, bytes;
    float *bigger;

    if (!mlxr_mul_size(&n, n_rows, width) || !mlxr_mul_size(&bytes, n, sizeof **p)) return false;
    if (n <= *cap) return true;
    if (!(bigger = mlxr_aligned_alloc(bytes))) return false;
    mlxr_aligned_free(*p);
    *p = bigger;
    *cap = n;
    return true;
}

/* Everything that the rows of the batch may need, so that nothing fails for memory behind the device. */
static mlxr_status reserve_results(mlxr_scheduler *s, const mlxr_batch *b, bool hidden, mlxr_error *err)
{
    size_t n_results = b->n_rows, n_top = 0;
    bool ok = true;

    for (size_t i = 0; i < b->n_rows; i++) {
        mlxr_sequence *q = s->wanted[i].sequence;
        n_top += q->n_top_logprobs;
        if (s->wanted[i].kind == MLXR_RESULT_TOKEN)
            ok = ok && mlxr_sequence_reserve_tokens(q, q->n_tokens + 1);
    }
    for (mlxr_sequence *q = s->first; q; q = q->next) {
        if (!q->follows || q->follows->n_in_batch == 0) continue;
        n_results++;
        n_top += q->n_top_logprobs;
        ok = ok && mlxr_sequence_reserve_tokens(q, q->n_tokens + 1);
    }
    ok = ok &&
         (hidden ? grow_floats(&s->hidden, &s->cap_hidden, b->n_rows, s->program->hidden_size)
                 : grow_floats(&s->logits, &s->cap_logits, b->n_rows, s->program->vocab_size)) &&
         grow_array(&s->likeliest, &s->cap_likeliest, b->n_rows, sizeof *s->likeliest) &&
         grow_array(&s->results, &s->cap_results, n_results, sizeof *s->results) &&
         grow_array(&s->states, &s->cap_states, n_results, sizeof *s->states) &&
         grow_array(&s->top, &s->cap_top, n_top, sizeof *s->top);
    return ok ? MLXR_OK : mlxr_fail_nomem(err, "scheduler: batch");
}

static bool follows_row(const mlxr_sequence *q, const mlxr_wanted *w)
{
    return q->follows == w->sequence && w->kind == MLXR_RESULT_TOKEN;
}

/* Whether every row's next token is its likeliest one, so that the logits need not come back from the device. */
static bool all_greedy(const mlxr_scheduler *s, const mlxr_batch *b)
{
    for (size_t i = 0; i < b->n_rows; i++) {
        const mlxr_wanted *w = &s->wanted[i];
        if (w->kind != MLXR_RESULT_TOKEN || w->sequence->logprobs || w->sequence->matcher ||
            !mlxr_sampling_is_argmax(&w->sequence->sampling))
            return false;
        for (const mlxr_sequence *q = s->first; q; q = q->next)
            if (follows_row(q, w) && !mlxr_sampling_is_argmax(&q->sampling)) return false;
    }
    return b->n_rows > 0;
}

static bool is_eos(const mlxr_sequence *q, int32_t id)
{
    for (size_t i = 0; i < q->n_eos; i++)
        if (q->eos_ids[i] == id) return true;
    return false;
}

/* A sequence whose row is no numbers fails alone. */
static void fail(mlxr_step_result *r, mlxr_sequence *q, mlxr_status st, const char *message)
{
    free(q->failure);
    q->failure = mlxr_strdup(message);
    r->id = -1;
    r->done = true;
    r->status = st;
    r->message = q->failure ? q->failure : "out of memory";
    r->n_top = 0;
}

/* The ids that may come next for q: what its grammar allows, and EOS where the text is complete. NULL: all. */
static mlxr_status allowed(const uint32_t **mask, mlxr_scheduler *s, mlxr_sequence *q, mlxr_error *err)
{
    const uint32_t *fits;
    mlxr_status st;

    *mask = NULL;
    if (!q->matcher) return MLXR_OK;
    if ((st = mlxr_matcher_mask(&fits, q->matcher, err)) != MLXR_OK) return st;
    memcpy(s->mask, fits, MLXR_MASK_WORDS(s->program->vocab_size) * sizeof *s->mask);
    *mask = s->mask;
    for (size_t i = 0; i < q->n_eos && mlxr_matcher_may_end(q->matcher); i++)
        if (q->eos_ids[i] >= 0 && (size_t)q->eos_ids[i] < s->program->vocab_size)
            s->mask[q->eos_ids[i] / 32] |= (uint32_t)1 << q->eos_ids[i] % 32;
    return MLXR_OK;
}

/* The grammar's place behind id, kept apart until q takes it. */
static mlxr_status follow(mlxr_sequence *q, int32_t id, mlxr_error *err)
{
    mlxr_status st;

    mlxr_matcher_free(q->next_matcher);
    q->next_matcher = NULL;
    if ((st = mlxr_matcher_clone(&q->next_matcher, q->matcher, err)) != MLXR_OK) return st;
    return mlxr_matcher_accept(q->next_matcher, id, err);
}

static mlxr_status draw(mlxr_scheduler *s, mlxr_sequence *q, float *logits, mlxr_sampled *out,
                        mlxr_error *err)
{
    const uint32_t *mask;
    mlxr_status st = allowed(&mask, s, q, err);
    const mlxr_draw d = {.logits = logits,
                         .mask = mask,
                         .history = q->tokens,
                         .n_history = q->n_tokens,
                         .eos_ids = q->eos_ids,
                         .n_eos = q->n_eos,
                         .dry_breakers = q->dry_breakers,
                         .seed = q->seed,
                         .i_token = q->n_generated,
                         .state = q->sampler_state};
    if (st != MLXR_OK) return st;
    st = mlxr_sampler_sample(out, s->sampler, &q->sampling, &d, err);
    if (st == MLXR_E_INVALID_ARGUMENT && mask)
        return mlxr_fail(err, st, "grammar: no token that vocabulary and logit_bias allow fits here");
    return st;
}

/* The token that q has been told to take; one its grammar does not take ends that, and the model goes on by itself. */
static bool forced(mlxr_sequence *q, int32_t *id)
{
    if (q->i_forced == q->n_forced) return false;
    *id = q->forced[q->i_forced];
    if (!q->matcher || follow(q, *id, NULL) == MLXR_OK) return true;
    q->i_forced = q->n_forced;
    return false;
}

static mlxr_status logprobs(mlxr_scheduler *s, mlxr_step_result *r, const mlxr_sequence *q, size_t *i_top,
                            const float *logits, int32_t id, mlxr_error *err)
{
    size_t n = q->n_top_logprobs;
    mlxr_status st;

    st = mlxr_sampler_logprobs(&r->logprob, s->top + *i_top, &n, s->sampler, logits, id, err);
    if (st != MLXR_OK) return st;
    r->top = n ? s->top + *i_top : NULL;
    r->n_top = n;
    *i_top += n;
    return MLXR_OK;
}

/* q's next token from row i; *state is its sampler's after it. Only out of memory is returned. */
static mlxr_status next_token(mlxr_scheduler *s, mlxr_sequence *q, const mlxr_batch *b, size_t i,
                              mlxr_step_result *r, mlxr_sampler_state *state, size_t *i_top, mlxr_error *err)
{
    float *logits = s->logits + i * s->program->vocab_size;
    mlxr_sampled drawn = {.id = -1, .state = q->sampler_state};
    mlxr_error why;
    mlxr_status st = MLXR_OK;

    *r = (mlxr_step_result){.sequence = q, .ud = q->ud, .id = -1, .position = q->n_tokens};
    r->n_dropped = q->n_pending_dropped;
    *state = q->sampler_state;
    if (q->n_left == 0) { /* the prompt was all */
        r->done = true;
        r->reason = MLXR_DONE_LENGTH;
        return MLXR_OK;
    }
    if (q->matcher && mlxr_matcher_must_end(q->matcher)) { /* there is nothing to say */
        r->done = true;
        r->reason = MLXR_DONE_STOP;
        return MLXR_OK;
    }
    if (!forced(q, &drawn.id) && !b->likeliest)
        st = draw(s, q, logits, &drawn, &why);
    else if (q->i_forced == q->n_forced && (drawn.id = s->likeliest[i]) < 0)
        st = mlxr_fail(&why, MLXR_E_DEVICE,
                       "scheduler: the logits after token %zu hold a NaN or nothing finite", q->n_tokens);
    if (st == MLXR_OK && q->logprobs) st = logprobs(s, r, q, i_top, logits, drawn.id, &why);
    if (st == MLXR_OK && q->matcher && !is_eos(q, drawn.id)) st = follow(q, drawn.id, &why);
    if (st == MLXR_E_NOMEM) return mlxr_fail(err, st, "%s", why.message);
    if (st != MLXR_OK) {
        fail(r, q, st, why.message);
        return MLXR_OK;
    }
    *state = drawn.state;
    if (is_eos(q, drawn.id)) {
        r->done = true;
        r->reason = MLXR_DONE_STOP;
        return MLXR_OK;
    }
    r->id = drawn.id;
    if (q->matcher && mlxr_matcher_must_end(q->next_matcher)) {
        r->done = true;
        r->reason = MLXR_DONE_STOP;
    } else if (q->n_left == 1 ||
               (q->n_tokens + 1 >= s->context_length && q->overflow != MLXR_OVERFLOW_SHIFT)) {
        r->done = true;
        r->reason = MLXR_DONE_LENGTH;
    }
    return MLXR_OK;
}

/* The token behind the row, as the model saw it coming. */
static mlxr_status score(mlxr_scheduler *s, const mlxr_wanted *w, size_t i, mlxr_step_result *r,
                         size_t *i_top, mlxr_error *err)
{
    mlxr_sequence *q = w->sequence;
    mlxr_error why;
    mlxr_status st;

    *r = (mlxr_step_result){.sequence = q, .ud = q->ud, .kind = MLXR_RESULT_SCORE};
    r->position = w->position + 1;
    r->id = q->tokens[r->position];
    st = logprobs(s, r, q, i_top, s->logits + i * s->program->vocab_size, r->id, &why);
    if (st == MLXR_E_NOMEM) return mlxr_fail(err, st, "%s", why.message);
    if (st != MLXR_OK) fail(r, q, st, why.message);
    return MLXR_OK;
}

static void hidden_state(mlxr_scheduler *s, const mlxr_wanted *w, size_t i, mlxr_step_result *r)
{
    mlxr_sequence *q = w->sequence;
    bool done = w->position + 1 == q->n_tokens;

    *r = (mlxr_step_result){.sequence = q, .ud = q->ud, .kind = MLXR_RESULT_HIDDEN, .done = done};
    r->reason = MLXR_DONE_LENGTH;
    r->position = w->position;
    r->id = q->tokens[w->position];
    r->hidden = s->hidden + i * s->program->hidden_size;
}

/* Fills results of all rows; nothing has moved yet. */
static mlxr_status look_at_rows(mlxr_scheduler *s, const mlxr_batch *b, size_t *n_results, mlxr_error *err)
{
    size_t n = 0, i_top = 0;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < b->n_rows && st == MLXR_OK; i++) {
        const mlxr_wanted *w = &s->wanted[i];
        bool failed = n > 0 && s->results[n - 1].sequence == w->sequence &&
                      s->results[n - 1].status != MLXR_OK;
        if (failed) continue; /* nothing comes behind that */
        if (w->kind == MLXR_RESULT_HIDDEN) {
            hidden_state(s, w, i, &s->results[n++]);
        } else if (w->kind == MLXR_RESULT_SCORE) {
            st = score(s, w, i, &s->results[n++], &i_top, err);
        } else {
            st = next_token(s, w->sequence, b, i, &s->results[n], &s->states[n], &i_top, err);
            n++;
            for (mlxr_sequence *q = w->sequence->next; q && st == MLXR_OK; q = q->next) {
                if (!follows_row(q, w)) continue;
                st = next_token(s, q, b, i, &s->results[n], &s->states[n], &i_top, err);
                n++;
            }
        }
    }
    *n_results = st == MLXR_OK ? n : 0;
    return st;
}

/* ---- moving on ---- */

static void keep_snapshot(mlxr_scheduler *s, const mlxr_sequence *q)
{
    uint32_t block;
    void *to;

    if (!is_snapshot_border(s, q, q->n_computed) || q->n_named * MLXR_KV_BLOCK != q->n_computed) return;
    block = q->blocks[q->n_named - 1];
    if (!(to = mlxr_kv_add_snapshot(s->kv, block))) return;
    if (mlxr_state_read_sequence(to, s->state, q->i_state, q->n_computed, NULL) != MLXR_OK)
        mlxr_kv_drop_snapshot(s->kv, block);
}

/* The tokens of the batch are in the state: counts, names of full blocks. */
static void advance(mlxr_scheduler *s, mlxr_sequence *q)
{
    size_t from = q->n_computed, end = from + q->n_in_batch, old = q->n_peak > from ? q->n_peak : from;
    size_t of_prompt = end < q->n_prompt ? end : q->n_prompt;

    if (old > end) old = end;
    q->stats.n_recomputed += old - from;
    if (of_prompt > old) q->stats.n_computed += of_prompt - old;
    q->n_computed = end;
    while (s->shares_blocks && q->n_named < q->n_computed / MLXR_KV_BLOCK) {
        size_t i = q->n_named++;
        q->blocks[i] = mlxr_kv_name(s->kv, q->blocks[i], i ? q->blocks[i - 1] : MLXR_KV_NONE,
                                    q->tokens + i * MLXR_KV_BLOCK);
    }
    keep_snapshot(s, q);
}

/* Drops the older half behind n_keep; what is left is computed anew, from its first tokens' cached blocks on. */
static void shift(mlxr_sequence *q)
{
    size_t n = (q->n_tokens - q->n_keep) / 2, from = q->n_keep;

    if (n == 0) n = 1;
    memmove(q->tokens + from, q->tokens + from + n, (q->n_tokens - from - n) * sizeof *q->tokens);
    q->n_tokens -= n;
    if (q->n_prompt > from) q->n_prompt = q->n_prompt > from + n ? q->n_prompt - n : from;
    if (q->n_prompt == 0) q->n_prompt = 1;
    q->stats.n_dropped += n;
    q->n_pending_dropped = n;
    mlxr_sequence_give_up(q, MLXR_SEQUENCE_WAITING);
    q->n_peak = q->n_tokens;
}

/* What a result means for its sequence. */
static void settle(mlxr_scheduler *s, const mlxr_step_result *r, mlxr_sampler_state state)
{
    mlxr_sequence *q = r->sequence;

    if (r->kind != MLXR_RESULT_TOKEN) q->n_rows_done = r->position + (r->kind == MLXR_RESULT_HIDDEN);
    if (r->kind == MLXR_RESULT_TOKEN) {
        mlxr_sequence *parent = q->follows;
        q->n_pending_dropped = 0;
        q->follows = NULL;
        q->sampler_state = state;
        /* Before the parent takes its own token: it comes first, but its blocks are those of n_computed tokens. */
        if (parent && !r->done && mlxr_sequence_share(q, parent))
            mlxr_sequence_enter(q, MLXR_SEQUENCE_DECODE);
        if (!r->done && q->phase == MLXR_SEQUENCE_PREFILL) mlxr_sequence_enter(q, MLXR_SEQUENCE_DECODE);
        if (r->id >= 0) {
            q->tokens[q->n_tokens++] = r->id;
            if (q->matcher) {
                mlxr_matcher_free(q->matcher);
                q->matcher = q->next_matcher;
                q->next_matcher = NULL;
            }
            if (q->i_forced < q->n_forced) q->i_forced++;
            q->n_generated++;
            q->stats.n_generated++;
            if (q->n_left != SIZE_MAX) q->n_left--;
        }
    }
    if (r->done)
        mlxr_sequence_give_up(q, MLXR_SEQUENCE_DONE);
    else if (r->kind == MLXR_RESULT_TOKEN && q->n_tokens >= s->context_length)
        shift(q);
}

/* Results of followers come right behind their leader's. A leader that ends or shifts has no more blocks to share, so
 * they are settled first. */
static void settle_all(mlxr_scheduler *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && s->results[end].sequence->follows == s->results[i].sequence) end++;
        for (size_t j = i + 1; j < end; j++) settle(s, &s->results[j], s->states[j]);
        settle(s, &s->results[i], s->states[i]);
        i = end;
    }
}

static bool has_prompts(const mlxr_scheduler *s, bool hidden)
{
    for (const mlxr_sequence *q = s->first; q; q = q->next)
        if (mlxr_sequence_runs(q) && (q->hidden != MLXR_HIDDEN_NONE) == hidden) return true;
    return false;
}

static mlxr_status run_batch(mlxr_scheduler *s, mlxr_batch *b, bool hidden, const volatile int *cancel,
                             uint64_t *device_ns, mlxr_error *err)
{
    uint64_t start;
    mlxr_status st = reserve_results(s, b, hidden, err);

    if (st != MLXR_OK) return st;
    for (const mlxr_sequence *q = s->first; q; q = q->next) /* now that their arrays stay where they are */
        if (q->n_in_batch > 0)
            s->tables[q->i_table] = (mlxr_block_table){
                .blocks = q->blocks, .n_blocks = q->n_blocks, .sequence = q->i_state};
    b->likeliest = !hidden && all_greedy(s, b) ? s->likeliest : NULL;
    b->hidden = hidden ? s->hidden : NULL;
    start = mlxr_now_ns();
    st = mlxr_run(s->executable, s->state, b, cancel, s->logits, err);
    *device_ns = mlxr_now_ns() - start;
    return st;
}

mlxr_status mlxr_scheduler_step(mlxr_scheduler *s, const volatile int *cancel,
                                const mlxr_step_result **results, size_t *n_results, bool *idle,
                                mlxr_error *err)
{
    uint64_t start = mlxr_now_ns(), device_ns = 0, sampling_ns = 0;
    bool hidden;
    mlxr_batch b;
    mlxr_status st;

    *results = NULL;
    *n_results = 0;
    if (idle) *idle = false;
    if (mlxr_cancelled(cancel)) return mlxr_fail(err, MLXR_E_CANCELLED, "scheduler: cancelled");
    if ((st = grow(s, err)) != MLXR_OK) return st;
    admit_all(s);
    if (s->n_running == 0) {
        if (idle) *idle = true;
        return MLXR_OK;
    }
    hidden = has_prompts(s, true) && (s->hidden_turn || !has_prompts(s, false));
    build_batch(s, &b, hidden);
    if ((st = run_batch(s, &b, hidden, cancel, &device_ns, err)) != MLXR_OK) return st;
    sampling_ns = mlxr_now_ns();
    st = look_at_rows(s, &b, n_results, err);
    sampling_ns = mlxr_now_ns() - sampling_ns;
    if (st != MLXR_OK) return st;

    s->hidden_turn = !hidden;
    for (mlxr_sequence *q = s->first; q; q = q->next)
        if (q->n_in_batch > 0) advance(s, q);
    settle_all(s, *n_results);
    *results = s->results;
    s->n_steps++;
    s->n_prompt_tokens += b.n_tokens - s->n_decoding;
    s->n_decode_tokens += s->n_decoding;
    s->device_ns += device_ns;
    s->sampling_ns += sampling_ns;
    s->own_ns += mlxr_now_ns() - start - device_ns - sampling_ns;
    return MLXR_OK;
}
