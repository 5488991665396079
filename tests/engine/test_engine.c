/* The engine over a device made for the test: it keeps each position's id in the paged state, and a row's logits are a
 * hash of all ids the block table leads to. A wrong block, position, order or chunk changes the answer. */
#include "test.h"

#include <math.h>

#include "engine/engine.h"

enum { VOCAB = 97, CONTEXT = 200 };

static mlxr_error err;

struct fake_device {
    mlxr_device base;
    mlxr_program program;
    volatile int cancel;
    int fail_runs, cancel_runs; /* the next so many runs fail, or set the cancel flag half-way */
    int nan_runs;               /* the next so many give a row with a NaN */
    size_t n_runs, max_tokens, n_decode_first;
};

struct fake_state {
    mlxr_state base;
    int32_t *ids; /* [n_blocks][MLXR_KV_BLOCK] */
};

static mlxr_status fake_compile(mlxr_executable **out, mlxr_device *d, const mlxr_program *program,
                                mlxr_error *e)
{
    (void)e;
    *out = calloc(1, sizeof **out);
    (*out)->device = d;
    (*out)->program = program;
    return MLXR_OK;
}

static void fake_executable_free(mlxr_executable *e)
{
    free(e);
}
static size_t fake_block_bytes(const mlxr_executable *e)
{
    (void)e;
    return MLXR_KV_BLOCK * sizeof(int32_t);
}

static mlxr_status fake_state_create(mlxr_state **out, mlxr_executable *e, size_t n_blocks,
                                     size_t n_sequences, mlxr_error *er)
{
    struct fake_state *s = calloc(1, sizeof *s);
    (void)e;
    (void)n_sequences;
    (void)er;
    s->ids = calloc(n_blocks * MLXR_KV_BLOCK, sizeof *s->ids);
    *out = &s->base;
    return MLXR_OK;
}

static void fake_state_free(mlxr_state *s)
{
    if (!s) return;
    free(((struct fake_state *)s)->ids);
    free(s);
}

static int32_t *cell(struct fake_state *s, const mlxr_block_table *t, uint32_t position)
{
    assert_true(position / MLXR_KV_BLOCK < t->n_blocks);
    return &s->ids[t->blocks[position / MLXR_KV_BLOCK] * MLXR_KV_BLOCK + position % MLXR_KV_BLOCK];
}

static uint64_t hash_step(uint64_t h, int32_t id)
{
    return (h ^ (uint64_t)id) * 0x9e3779b97f4a7c15u + (h >> 29);
}

static void hash_row(float *row, uint64_t h)
{
    for (size_t i = 0; i < VOCAB; i++) row[i] = (float)(hash_step(h, (int32_t)i) >> 44) / 65536.0f;
}

static mlxr_status fake_run(mlxr_executable *e, mlxr_state *state, const mlxr_batch *b,
                            const volatile int *cancel, float *logits, mlxr_error *er)
{
    struct fake_device *d = (struct fake_device *)e->device;
    struct fake_state *s = (struct fake_state *)state;

    d->n_runs++;
    if (b->n_tokens > d->max_tokens) d->max_tokens = b->n_tokens;
    for (size_t t = 0; t < b->n_tokens; t++) {
        *cell(s, &b->tables[b->seqs[t]], b->positions[t]) = b->ids[t];
        if (t == b->n_tokens / 2 && d->cancel_runs > 0) {
            d->cancel_runs--;
            d->cancel = 1;
        }
        if (mlxr_cancelled(cancel)) return mlxr_fail(er, MLXR_E_CANCELLED, "fake: cancelled");
    }
    if (d->fail_runs > 0) {
        d->fail_runs--;
        return mlxr_fail(er, MLXR_E_DEVICE, "fake: failed");
    }
    for (size_t i = 0; i < b->n_rows; i++) {
        uint32_t t = b->rows[i];
        uint64_t h = 1;
        if (i) assert_true(t > b->rows[i - 1]);
        for (uint32_t p = 0; p <= b->positions[t]; p++) h = hash_step(h, *cell(s, &b->tables[b->seqs[t]], p));
        hash_row(logits + i * VOCAB, h);
        if (d->nan_runs > 0 && i + 1 == b->n_rows) {
            logits[i * VOCAB + VOCAB / 2] = NAN;
            d->nan_runs--;
        }
    }
    return MLXR_OK;
}

static const mlxr_device_ops fake_ops = {.name = "fake",
                                         .compile = fake_compile,
                                         .executable_free = fake_executable_free,
                                         .block_bytes = fake_block_bytes,
                                         .state_create = fake_state_create,
                                         .state_free = fake_state_free,
                                         .run = fake_run};

static void fake_init(struct fake_device *d)
{
    *d = (struct fake_device){.base.ops = &fake_ops,
                              .program = {.family = "fake", .vocab_size = VOCAB, .context_length = CONTEXT}};
}

static mlxr_engine *open_engine(struct fake_device *d, size_t budget, size_t kv_tokens)
{
    mlxr_engine_options o = mlxr_engine_options_default();
    mlxr_engine *e;
    o.max_tokens_per_step = budget;
    o.max_kv_tokens = kv_tokens;
    assert_ok(mlxr_engine_open(&e, &d->base, &d->program, &o, &err), &err);
    return e;
}

/* What greedy decoding must give, without an engine. */
static size_t expected(int32_t *out, const int32_t *prompt, size_t n, size_t n_new)
{
    uint64_t h = 1;
    float row[VOCAB];
    for (size_t i = 0; i < n; i++) h = hash_step(h, prompt[i]);
    for (size_t i = 0; i < n_new; i++) {
        size_t best = 0;
        hash_row(row, h);
        for (size_t k = 1; k < VOCAB; k++)
            if (row[k] > row[best]) best = k;
        out[i] = (int32_t)best;
        h = hash_step(h, out[i]);
    }
    return n_new;
}

struct job {
    int32_t prompt[CONTEXT], got[CONTEXT], want[CONTEXT];
    size_t n_prompt, n_got, n_new;
    mlxr_sequence *seq;
    bool done;
    mlxr_done_reason reason;
};

static void job_init(struct job *j, size_t i, size_t n_prompt, size_t n_new)
{
    memset(j, 0, sizeof *j);
    j->n_prompt = n_prompt;
    j->n_new = n_new;
    for (size_t k = 0; k < n_prompt; k++) j->prompt[k] = (int32_t)((i * 31 + k * 7 + k * k) % VOCAB);
    expected(j->want, j->prompt, n_prompt, n_new);
}

static mlxr_sequence_params job_params(struct job *j)
{
    return (mlxr_sequence_params){
        .ids = j->prompt,
        .n_ids = j->n_prompt,
        .max_tokens = (int64_t)j->n_new,
        .sampling = {.top_p = 1, .typical_p = 1, .repeat_penalty = 1, .dry_base = 1},
        .ud = j};
}

static void job_add(mlxr_engine *e, struct job *j)
{
    mlxr_sequence_params p = job_params(j);
    assert_ok(mlxr_engine_add(&j->seq, e, &p, &err), &err);
}

static void take_results(const mlxr_step_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct job *j = r[i].ud;
        assert_ptr_equal(j->seq, r[i].sequence);
        assert_false(j->done);
        if (r[i].id >= 0) j->got[j->n_got++] = r[i].id;
        j->done = r[i].done;
        j->reason = r[i].reason;
    }
}

/* Steps until idle; done sequences are removed at once. */
static void drain(mlxr_engine *e, struct job *jobs, size_t n_jobs)
{
    bool idle = false;
    for (size_t guard = 0; !idle; guard++) {
        const mlxr_step_result *r;
        size_t n;
        assert_true(guard < 100000);
        assert_ok(mlxr_engine_step(e, NULL, &r, &n, &idle, &err), &err);
        take_results(r, n);
        for (size_t i = 0; i < n_jobs; i++)
            if (jobs[i].done && jobs[i].seq) {
                mlxr_engine_remove(e, jobs[i].seq);
                jobs[i].seq = NULL;
            }
    }
    assert_int_equal(mlxr_engine_free_blocks(e), mlxr_engine_total_blocks(e));
}

static void check_job(const struct job *j)
{
    assert_true(j->done);
    assert_int_equal(j->reason, MLXR_DONE_LENGTH);
    assert_int_equal(j->n_got, j->n_new);
    if (j->n_new) assert_memory_equal(j->got, j->want, j->n_new * sizeof *j->got);
}

static void many_together_are_each_alone(void **state)
{
    static const size_t budgets[] = {1, 2, 7, 33, 256}, kv[] = {0, 2 * CONTEXT, 8 * CONTEXT};
    static struct job jobs[9];
    (void)state;
    for (size_t b = 0; b < MLXR_COUNT(budgets); b++)
        for (size_t k = 0; k < MLXR_COUNT(kv); k++) {
            struct fake_device d;
            mlxr_engine *e;
            fake_init(&d);
            e = open_engine(&d, budgets[b], kv[k]);
            for (size_t i = 0; i < MLXR_COUNT(jobs); i++) {
                job_init(&jobs[i], i, 1 + i * 17 % 90, 5 + i * 13 % 60);
                job_add(e, &jobs[i]);
            }
            drain(e, jobs, MLXR_COUNT(jobs));
            for (size_t i = 0; i < MLXR_COUNT(jobs); i++) check_job(&jobs[i]);
            assert_true(d.max_tokens <= budgets[b]);
            mlxr_engine_close(e);
        }
}

static void the_first_come_is_the_first_served(void **state)
{
    static struct job jobs[3];
    struct fake_device d;
    mlxr_engine *e;
    const mlxr_step_result *r;
    size_t n;
    (void)state;
    fake_init(&d);
    e = open_engine(&d, 64, CONTEXT); /* room for one whole context */
    job_init(&jobs[0], 0, 100, 60);   /* 5 blocks */
    job_init(&jobs[1], 1, 100, 60);   /* 5 blocks: must wait */
    job_init(&jobs[2], 2, 3, 3);      /* 1 block would fit, but it came later */
    for (size_t i = 0; i < 3; i++) job_add(e, &jobs[i]);
    assert_ok(mlxr_engine_step(e, NULL, &r, &n, NULL, &err), &err);
    take_results(r, n);
    assert_int_equal(mlxr_sequence_n_cached(jobs[0].seq), 64);
    assert_int_equal(mlxr_sequence_n_cached(jobs[1].seq), 0);
    assert_int_equal(mlxr_sequence_n_cached(jobs[2].seq), 0);
    drain(e, jobs, 3);
    for (size_t i = 0; i < 3; i++) check_job(&jobs[i]);
    mlxr_engine_close(e);
}

static void cancelled_and_failed_steps_can_be_tried_again(void **state)
{
    static struct job job;
    (void)state;
    for (int when = 0; when < 12; when++)
        for (int cancel = 0; cancel < 2; cancel++) {
            struct fake_device d;
            mlxr_engine *e;
            fake_init(&d);
            e = open_engine(&d, 10, 0);
            job_init(&job, 3, 40, 20);
            job_add(e, &job);
            for (int i = 0; !job.done; i++) {
                const mlxr_step_result *r;
                size_t n;
                if (i == when) *(cancel ? &d.cancel_runs : &d.fail_runs) = 1;
                if (i == when) {
                    size_t before = mlxr_sequence_n_cached(job.seq);
                    assert_int_equal(mlxr_engine_step(e, &d.cancel, &r, &n, NULL, &err),
                                     cancel ? MLXR_E_CANCELLED : MLXR_E_DEVICE);
                    assert_int_equal(n, 0);
                    assert_int_equal(mlxr_sequence_n_cached(job.seq), before);
                    d.cancel = 0;
                    continue;
                }
                assert_ok(mlxr_engine_step(e, &d.cancel, &r, &n, NULL, &err), &err);
                take_results(r, n);
            }
            check_job(&job);
            mlxr_engine_remove(e, job.seq);
            assert_int_equal(mlxr_engine_free_blocks(e), mlxr_engine_total_blocks(e));
            mlxr_engine_close(e);
        }
}

static void removing_in_any_state_frees_the_blocks(void **state)
{
    static struct job jobs[4];
    (void)state;
    for (int steps = 0; steps < 14; steps++) {
        struct fake_device d;
        mlxr_engine *e;
        fake_init(&d);
        e = open_engine(&d, 16, 2 * CONTEXT);
        for (size_t i = 0; i < 4; i++) {
            job_init(&jobs[i], i, 30 + i, 40);
            job_add(e, &jobs[i]);
        }
        for (int i = 0; i < steps; i++) {
            const mlxr_step_result *r;
            size_t n;
            assert_ok(mlxr_engine_step(e, NULL, &r, &n, NULL, &err), &err);
            take_results(r, n);
        }
        mlxr_engine_remove(e, jobs[1].seq);
        mlxr_engine_remove(e, jobs[2].seq);
        jobs[1].done = jobs[2].done = true;
        jobs[1].seq = jobs[2].seq = NULL;
        drain(e, jobs, 4);
        check_job(&jobs[0]);
        check_job(&jobs[3]);
        mlxr_engine_close(e);
    }
}

static void ends(void **state)
{
    static struct job job;
    struct fake_device d;
    mlxr_sequence_params p;
    int32_t eos[2];
    mlxr_engine *e;
    (void)state;
    fake_init(&d);
    e = open_engine(&d, 64, 0);

    job_init(&job, 5, 10, 30); /* an EOS id ends the answer and is not part of it */
    eos[0] = VOCAB + 5;
    eos[1] = job.want[7];
    p = job_params(&job);
    p.eos_ids = eos;
    p.n_eos = 2;
    assert_ok(mlxr_engine_add(&job.seq, e, &p, &err), &err);
    drain(e, &job, 1);
    assert_int_equal(job.reason, MLXR_DONE_STOP);
    for (size_t i = 0; i < job.n_got; i++) assert_int_not_equal(job.got[i], eos[1]);
    assert_true(job.n_got <= 7);

    job_init(&job, 6, 10, 0); /* max_tokens 0: the prompt is read, nothing is said */
    job_add(e, &job);
    drain(e, &job, 1);
    check_job(&job);

    job_init(&job, 7, 150, 50); /* -1: until the context is full */
    p = job_params(&job);
    p.max_tokens = -1;
    assert_ok(mlxr_engine_add(&job.seq, e, &p, &err), &err);
    drain(e, &job, 1);
    check_job(&job);

    job_init(&job, 8, CONTEXT - 1, 1); /* room for one */
    job_add(e, &job);
    drain(e, &job, 1);
    check_job(&job);
    mlxr_engine_close(e);
}

static void what_cannot_run_is_refused(void **state)
{
    static struct job job;
    struct fake_device d;
    mlxr_engine_options o = mlxr_engine_options_default();
    mlxr_sequence_params p;
    mlxr_engine *e;
    (void)state;
    fake_init(&d);
    o.context_length = CONTEXT + 1;
    assert_fails(mlxr_engine_open(&e, &d.base, &d.program, &o, &err), MLXR_E_CONTEXT_OVERFLOW, "201", &err);
    e = open_engine(&d, 64, 0);
    job_init(&job, 0, CONTEXT - 1, 1);
    p = job_params(&job);
    p.n_ids = CONTEXT;
    assert_fails(mlxr_engine_add(&job.seq, e, &p, &err), MLXR_E_CONTEXT_OVERFLOW,
                 "the prompt has 200 tokens, the context holds 200", &err);
    p.n_ids = 0;
    assert_fails(mlxr_engine_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "no tokens", &err);
    p.n_ids = 3;
    job.prompt[1] = VOCAB;
    assert_fails(mlxr_engine_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "token 97 at position 1",
                 &err);
    job.prompt[1] = -1;
    assert_fails(mlxr_engine_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "token -1", &err);
    job.prompt[1] = 0;
    p.sampling.temperature = -1;
    assert_fails(mlxr_engine_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "temperature", &err);
    mlxr_engine_close(e);
}

/* Greedy or drawn: a row that is no numbers is an error, nothing has moved, and the step can be tried again. */
static void a_row_with_a_nan_moves_nothing(void **state)
{
    static const int32_t prompt[] = {1, 2, 3};

    (void)state;
    for (int greedy = 0; greedy < 2; greedy++) {
        struct fake_device d;
        mlxr_engine *e;
        mlxr_sequence *s;
        const mlxr_step_result *results;
        size_t n, n_tokens;
        mlxr_sequence_params params = {.ids = prompt, .n_ids = 3, .max_tokens = 5};

        fake_init(&d);
        e = open_engine(&d, 32, CONTEXT);
        params.sampling = mlxr_sampling_default();
        params.sampling.temperature = greedy ? 0 : 1;
        assert_ok(mlxr_engine_add(&s, e, &params, &err), &err);
        d.nan_runs = 1;
        assert_int_equal(mlxr_engine_step(e, NULL, &results, &n, NULL, &err), MLXR_E_DEVICE);
        mlxr_sequence_tokens(s, &n_tokens);
        assert_int_equal(n_tokens, 3);
        assert_int_equal(mlxr_sequence_n_cached(s), 0);
        assert_ok(mlxr_engine_step(e, NULL, &results, &n, NULL, &err), &err);
        assert_int_equal(n, 1);
        assert_true(results[0].id >= 0);
        mlxr_engine_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_together_are_each_alone),
        cmocka_unit_test(the_first_come_is_the_first_served),
        cmocka_unit_test(cancelled_and_failed_steps_can_be_tried_again),
        cmocka_unit_test(a_row_with_a_nan_moves_nothing),
        cmocka_unit_test(removing_in_any_state_frees_the_blocks),
        cmocka_unit_test(ends),
        cmocka_unit_test(what_cannot_run_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
