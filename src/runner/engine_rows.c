/* engine_rows: what reads a text and writes none: embeddings from final hidden states, scores from logits. Where the caller waits,
 * its job and all it points at are on the caller's stack or owned by the call; mlxr_embedding has its own. */
#include <math.h>
#include <stdlib.h>

#include "runner/engine_api.h"

/* One input as a sequence. */
typedef struct item {
    engine_row row;
    int32_t *ids; /* own */
    size_t n_ids;
    mlxr_sequence *sequence;
    bool done;
} item;

typedef struct reading {
    engine_job job;
    engine_hub *hub;
    mlxr_sequence_params params; /* of every item, ids apart */
    item *items;
    size_t n_items, n_done;
    mlxr_status failed;
    mlxr_error err; /* the first failure's */
    /* embeddings */
    mlxr_pooling pooling;
    size_t D, n_dimensions, n_tokens;
    double *sums;  /* [n_items, D]: MEAN */
    float *values; /* [n_items, D] */
    /* scores */
    mlxr_score *score;
    bool ended; /* hub->lock guards it */
} reading;

/* ---- on the engine's thread ---- */

static mlxr_status reading_start(engine_job *job, mlxr_engine *e, mlxr_error *err)
{
    reading *q = (reading *)job;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < q->n_items && st == MLXR_OK; i++) {
        mlxr_sequence_params p = q->params;
        p.ids = q->items[i].ids;
        p.n_ids = q->items[i].n_ids;
        p.ud = &q->items[i].row;
        st = mlxr_scheduler_add(&q->items[i].sequence, e->scheduler, &p, err);
        if (st != MLXR_OK && q->n_items > 1) mlxr_error_prefix(err, "input %zu: ", i);
    }
    return st;
}

static void take_hidden(reading *q, size_t i, const mlxr_step_result *r)
{
    for (size_t k = 0; k < q->D; k++) {
        if (q->pooling == MLXR_POOLING_MEAN)
            q->sums[i * q->D + k] += (double)r->hidden[k];
        else
            q->values[i * q->D + k] = r->hidden[k];
    }
}

static void reading_result(engine_job *job, engine_row *row, const mlxr_step_result *r)
{
    reading *q = (reading *)job;
    item *it = (item *)row;

    if (it->done || q->failed) return;
    if (r->status != MLXR_OK) {
        q->failed = mlxr_fail(&q->err, r->status, "%s",
                              r->message ? r->message : mlxr_status_text(r->status));
        return;
    }
    if (r->kind == MLXR_RESULT_HIDDEN) take_hidden(q, (size_t)(it - q->items), r);
    if (r->kind == MLXR_RESULT_SCORE && r->position < q->score->n_tokens)
        q->score->logprobs[r->position] = (float)r->logprob;
    if (r->done) {
        it->done = true;
        q->n_done++;
    }
}

static bool reading_settle(engine_job *job, mlxr_engine *e, mlxr_status *st, mlxr_error *err)
{
    reading *q = (reading *)job;

    for (size_t i = 0; i < q->n_items; i++) {
        if (!q->items[i].done) continue;
        mlxr_scheduler_remove(e->scheduler, q->items[i].sequence);
        q->items[i].sequence = NULL;
    }
    *st = q->failed;
    if (q->failed) *err = q->err;
    return q->failed || q->n_done == q->n_items;
}

static void reading_end(engine_job *job, mlxr_engine *e, mlxr_status st, const mlxr_error *err)
{
    reading *q = (reading *)job;

    for (size_t i = 0; i < q->n_items; i++) {
        mlxr_scheduler_remove(e->scheduler, q->items[i].sequence);
        q->items[i].sequence = NULL;
    }
    if (st != MLXR_OK) q->err = *err;
    q->failed = st;
    pthread_mutex_lock(&q->hub->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->hub->told);
    pthread_mutex_unlock(&q->hub->lock);
}

static const engine_job_kind reading_kind = {
    .start = reading_start, .result = reading_result, .settle = reading_settle, .end = reading_end};

/* ---- the caller's side ---- */

/* The tokens of an input. */
static mlxr_status take_input(item *it, const mlxr_engine *e, const mlxr_input *in, mlxr_error *err)
{
    size_t V = mlxr_model_program(e->folder.model)->vocab_size;

    if (in->text) {
        mlxr_status st = mlxr_tokenizer_encode(&it->ids, &it->n_ids, e->folder.tok, in->text, in->n_text,
                                               true, err);
        if (st != MLXR_OK) return st;
    } else if (in->n_ids) {
        if (!(it->ids = mlxr_malloc_array(in->n_ids, sizeof *it->ids))) return mlxr_fail_nomem(err, "input");
        memcpy(it->ids, in->ids, in->n_ids * sizeof *it->ids);
        it->n_ids = in->n_ids;
    }
    if (it->n_ids == 0) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "input: there are no tokens");
    for (size_t i = 0; i < it->n_ids; i++)
        if (it->ids[i] < 0 || (size_t)it->ids[i] >= V)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "input: token %d at position %zu is outside the model's vocabulary of %zu",
                             (int)it->ids[i], i, V);
    return MLXR_OK;
}

static mlxr_status check_length(const mlxr_engine *e, const item *it, mlxr_error *err)
{
    if (it->n_ids <= e->context_length) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW, "input: %zu tokens, the context holds %zu", it->n_ids,
                     e->context_length);
}

static mlxr_status run(mlxr_engine *e, reading *q, mlxr_error *err)
{
    q->job.kind = &reading_kind;
    q->hub = mlxr_hub_ref(e->hub);
    for (size_t i = 0; i < q->n_items; i++) q->items[i].row.job = &q->job;
    mlxr_engine_post(e, &q->job);
    pthread_mutex_lock(&q->hub->lock);
    while (!q->ended) pthread_cond_wait(&q->hub->told, &q->hub->lock);
    pthread_mutex_unlock(&q->hub->lock);
    mlxr_hub_unref(q->hub);
    if (err && q->failed) *err = q->err;
    return q->failed;
}

static void reading_clear(reading *q)
{
    for (size_t i = 0; i < q->n_items && q->items; i++) free(q->items[i].ids);
    free(q->items);
    free(q->sums);
    free(q->values);
}

/* ---- embeddings ---- */

const char *mlxr_pooling_name(mlxr_pooling p)
{
    switch (p) {
    case MLXR_POOLING_DEFAULT: return "default";
    case MLXR_POOLING_MEAN: return "mean";
    case MLXR_POOLING_LAST: return "last";
    }
    return "unknown";
}

mlxr_pooling mlxr_engine_pooling_default(const mlxr_engine *e)
{
    return e->folder.pooling;
}

mlxr_embed_options mlxr_embed_options_default(void)
{
    return (mlxr_embed_options){.pooling = MLXR_POOLING_DEFAULT};
}

void mlxr_embeddings_clear(mlxr_embeddings *e)
{
    free(e->values);
    *e = (mlxr_embeddings){0};
}

/* The first n of each row of D, of length 1, one behind the other. A row of zeros stays one. */
static void normalize(float *values, size_t n_rows, size_t D, size_t n)
{
    for (size_t i = 0; i < n_rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++) sum += (double)values[i * D + k] * (double)values[i * D + k];
        for (size_t k = 0; k < n; k++)
            values[i * n + k] = sum > 0 ? (float)((double)values[i * D + k] / sqrt(sum)) : 0;
    }
}

static mlxr_status choose_pooling(mlxr_pooling *out, const mlxr_engine *e, const mlxr_embed_options *o,
                                  mlxr_error *err)
{
    *out = o->pooling == MLXR_POOLING_DEFAULT ? e->folder.pooling : o->pooling;
    if (*out == MLXR_POOLING_MEAN || *out == MLXR_POOLING_LAST) return MLXR_OK;
    if (o->pooling != MLXR_POOLING_DEFAULT)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "embed: pooling is %d, which is none of its values",
                         (int)o->pooling);
    return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                     "embed: model %s wants %s for its embeddings; there is mean and last, to be asked for",
                     e->folder.dir, e->folder.pooling_name);
}

/* Everything that the engine's thread needs, in q; cleared by the caller in either case. */
static mlxr_status embed_prepare(reading *q, mlxr_engine *e, const mlxr_input *inputs, size_t n_inputs,
                                 const mlxr_embed_options *options, mlxr_error *err)
{
    size_t n_values;
    mlxr_status st;

    q->D = mlxr_model_program(e->folder.model)->hidden_size;
    if ((st = choose_pooling(&q->pooling, e, options, err)) != MLXR_OK) return st;
    q->n_dimensions = options->dimensions ? options->dimensions : q->D;
    if (q->n_dimensions > q->D)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "embed: %zu dimensions, the model has %zu",
                         q->n_dimensions, q->D);
    if (n_inputs == 0) return MLXR_OK;
    q->params = mlxr_sequence_params_default();
    q->params.hidden = q->pooling == MLXR_POOLING_MEAN ? MLXR_HIDDEN_ALL : MLXR_HIDDEN_LAST;
    q->items = mlxr_calloc_array(n_inputs, sizeof *q->items);
    if (mlxr_mul_size(&n_values, n_inputs, q->D)) {
        q->values = mlxr_calloc_array(n_values, sizeof *q->values);
        if (q->pooling == MLXR_POOLING_MEAN) q->sums = mlxr_calloc_array(n_values, sizeof *q->sums);
    }
    if (!q->items || !q->values || (q->pooling == MLXR_POOLING_MEAN && !q->sums))
        return mlxr_fail_nomem(err, "embed");
    q->n_items = n_inputs;
    for (size_t i = 0; i < n_inputs; i++) {
        item *it = &q->items[i];
        st = take_input(it, e, &inputs[i], err);
        if (st == MLXR_OK && options->truncate && it->n_ids > e->context_length)
            it->n_ids = e->context_length;
        if (st == MLXR_OK) st = check_length(e, it, err);
        if (st != MLXR_OK) {
            if (n_inputs > 1) mlxr_error_prefix(err, "input %zu: ", i);
            return st;
        }
        q->n_tokens += it->n_ids;
    }
    return MLXR_OK;
}

/* The rows, which *out then has. */
static void embed_take(mlxr_embeddings *out, reading *q)
{
    for (size_t i = 0; i < q->n_items && q->sums; i++)
        for (size_t k = 0; k < q->D; k++)
            q->values[i * q->D + k] = (float)(q->sums[i * q->D + k] / (double)q->items[i].n_ids);
    normalize(q->values, q->n_items, q->D, q->n_dimensions);
    *out = (mlxr_embeddings){
        .values = q->values, .n = q->n_items, .n_dimensions = q->n_dimensions, .n_tokens = q->n_tokens};
    q->values = NULL;
}

mlxr_status mlxr_engine_embed(mlxr_embeddings *out, mlxr_engine *e, const mlxr_input *inputs, size_t n_inputs,
                              const mlxr_embed_options *options, mlxr_error *err)
{
    mlxr_embed_options defaults = mlxr_embed_options_default();
    reading q = {0};
    mlxr_status st;

    *out = (mlxr_embeddings){0};
    st = embed_prepare(&q, e, inputs, n_inputs, options ? options : &defaults, err);
    if (st == MLXR_OK && n_inputs && (st = run(e, &q, err)) == MLXR_OK) embed_take(out, &q);
    reading_clear(&q);
    return st;
}

/* ---- embeddings that nobody waits for ---- */

struct mlxr_embedding {
    reading q; /* first: the job */
    mlxr_on_embedded on_done;
    void *ud;
    int n_refs; /* atomic: the caller's, the engine's until it ended */
};

static void embedding_unref(mlxr_embedding *m)
{
    if (__atomic_sub_fetch(&m->n_refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    reading_clear(&m->q);
    mlxr_hub_unref(m->q.hub);
    free(m);
}

static void embedding_end(engine_job *job, mlxr_engine *e, mlxr_status st, const mlxr_error *err)
{
    mlxr_embedding *m = (mlxr_embedding *)job;
    mlxr_embeddings rows = {0};
    mlxr_error why = {0};

    for (size_t i = 0; i < m->q.n_items; i++) {
        mlxr_scheduler_remove(e->scheduler, m->q.items[i].sequence);
        m->q.items[i].sequence = NULL;
    }
    if (st == MLXR_OK)
        embed_take(&rows, &m->q);
    else
        why = *err;
    why.code = st;
    m->on_done(&rows, &why, m->ud);
    mlxr_embeddings_clear(&rows);
    embedding_unref(m);
}

static const engine_job_kind embedding_kind = {
    .start = reading_start, .result = reading_result, .settle = reading_settle, .end = embedding_end};

mlxr_status mlxr_embedding_start(mlxr_embedding **out, mlxr_engine *e, const mlxr_input *inputs,
                                 size_t n_inputs, const mlxr_embed_options *options, mlxr_on_embedded on_done,
                                 void *ud, mlxr_error *err)
{
    mlxr_embedding *m = calloc(1, sizeof *m);
    mlxr_status st;

    *out = NULL;
    if (!m) return mlxr_fail_nomem(err, "embed");
    m->on_done = on_done;
    m->ud = ud;
    st = n_inputs ? embed_prepare(&m->q, e, inputs, n_inputs, options, err)
                  : mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "embed: there are no inputs");
    if (st != MLXR_OK) {
        reading_clear(&m->q);
        free(m);
        return st;
    }
    m->n_refs = 2;
    m->q.job.kind = &embedding_kind;
    m->q.hub = mlxr_hub_ref(e->hub);
    for (size_t i = 0; i < n_inputs; i++) m->q.items[i].row.job = &m->q.job;
    *out = m; /* before it can end */
    mlxr_engine_post(e, &m->q.job);
    return MLXR_OK;
}

void mlxr_embedding_cancel(mlxr_embedding *m)
{
    if (!m) return;
    __atomic_store_n(&m->q.job.cancel, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&m->q.hub->interrupt, 1, __ATOMIC_SEQ_CST);
}

void mlxr_embedding_free(mlxr_embedding *m)
{
    if (m) embedding_unref(m);
}

/* ---- scores ---- */

void mlxr_score_clear(mlxr_score *s)
{
    free(s->ids);
    free(s->logprobs);
    *s = (mlxr_score){0};
}

mlxr_status mlxr_engine_score(mlxr_score *out, mlxr_engine *e, const mlxr_input *input, mlxr_error *err)
{
    item it = {0};
    reading q = {.items = &it, .n_items = 1, .score = out};
    mlxr_status st;

    *out = (mlxr_score){0};
    if ((st = take_input(&it, e, input, err)) != MLXR_OK) goto done;
    if ((st = check_length(e, &it, err)) != MLXR_OK) goto done;
    out->n_tokens = it.n_ids;
    out->ids = mlxr_malloc_array(it.n_ids, sizeof *out->ids);
    out->logprobs = mlxr_calloc_array(it.n_ids, sizeof *out->logprobs);
    if (!out->ids || !out->logprobs) {
        st = mlxr_fail_nomem(err, "score");
        goto done;
    }
    memcpy(out->ids, it.ids, it.n_ids * sizeof *out->ids);
    q.params = mlxr_sequence_params_default();
    q.params.score_prompt = true;
    q.params.max_tokens = 0;
    if ((st = run(e, &q, err)) != MLXR_OK) goto done;
    for (size_t i = 1; i < out->n_tokens; i++) out->sum += (double)out->logprobs[i];
done:
    if (st != MLXR_OK) mlxr_score_clear(out);
    free(it.ids);
    return st;
}
