/* The scheduler over the made device of fake_device.h: whatever runs beside a sequence, however it is cut, preempted, forked or
 * helped by a cached prefix, its tokens are those of it alone; and blocks in equals blocks out. */
#include "engine/fake_device.h"
#include "test.h"

enum { VOCAB = FAKE_VOCAB, CONTEXT = FAKE_CONTEXT };

static mlxr_error err;

static mlxr_sampling greedy(void)
{
    mlxr_sampling p = mlxr_sampling_default();
    p.temperature = 0;
    return p;
}

static mlxr_scheduler_options options_of(size_t budget, size_t kv_tokens)
{
    mlxr_scheduler_options o = mlxr_scheduler_options_default();
    o.max_tokens_per_step = budget;
    o.max_kv_tokens = kv_tokens;
    return o;
}

static mlxr_scheduler *open_with(fake_device *d, const mlxr_scheduler_options *o)
{
    mlxr_scheduler *s;
    assert_ok(mlxr_scheduler_open(&s, &d->base, &d->program, o, &err), &err);
    return s;
}

static mlxr_scheduler *open_scheduler(fake_device *d, size_t budget, size_t kv_tokens)
{
    mlxr_scheduler_options o = options_of(budget, kv_tokens);
    return open_with(d, &o);
}

static void check(const mlxr_scheduler *s)
{
    assert_ok(mlxr_scheduler_check(s, &err), &err);
}

static mlxr_scheduler_stats stats_of(const mlxr_scheduler *s)
{
    return mlxr_scheduler_get_stats(s);
}

enum { MOST = 2 * CONTEXT };

struct job {
    int32_t prompt[MOST], got[MOST], want[MOST];
    double logprobs[MOST], want_logprobs[MOST];
    size_t n_prompt, n_got, n_new, n_dropped;
    mlxr_sampling sampling;
    uint64_t seed;
    bool want_them; /* logprobs */
    mlxr_sequence *seq;
    bool done;
    mlxr_status status;
    mlxr_done_reason reason;
};

/* Ids of text i; texts with the same i / 4 have their first 70 tokens in common. */
static int32_t text_id(size_t i, size_t k)
{
    size_t t = k < 70 ? i / 4 : i + 100;
    return (int32_t)((t * 31 + k * 7 + k * k) % VOCAB);
}

static void job_init(struct job *j, size_t i, size_t n_prompt, size_t n_new)
{
    memset(j, 0, sizeof *j);
    j->n_prompt = n_prompt;
    j->n_new = n_new;
    j->sampling = greedy();
    for (size_t k = 0; k < n_prompt; k++) j->prompt[k] = text_id(i, k);
}

static void job_seed(struct job *j, size_t i)
{
    j->sampling = mlxr_sampling_default();
    j->sampling.repeat_penalty = i % 2 ? 1.3f : 1.0f;
    j->sampling.mirostat = i % 5 == 3 ? 2 : 0;
    j->seed = i;
}

static mlxr_sequence_params job_params(struct job *j)
{
    mlxr_sequence_params p = mlxr_sequence_params_default();
    p.ids = j->prompt;
    p.n_ids = j->n_prompt;
    p.max_tokens = (int64_t)j->n_new;
    p.sampling = j->sampling;
    p.seed = j->seed;
    p.logprobs = j->want_them;
    p.ud = j;
    return p;
}

static void job_add(mlxr_scheduler *s, struct job *j)
{
    mlxr_sequence_params p = job_params(j);
    assert_ok(mlxr_scheduler_add(&j->seq, s, &p, &err), &err);
}

static void take_results(const mlxr_step_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct job *j = r[i].ud;
        assert_ptr_equal(j->seq, r[i].sequence);
        assert_false(j->done);
        if (r[i].id >= 0) {
            j->logprobs[j->n_got] = r[i].logprob;
            j->got[j->n_got++] = r[i].id;
        }
        j->done = r[i].done;
        j->reason = r[i].reason;
        j->status = r[i].status;
        j->n_dropped += r[i].n_dropped;
        assert_int_equal(r[i].status != MLXR_OK, r[i].message != NULL);
    }
}

static size_t step(mlxr_scheduler *s, bool *idle)
{
    const mlxr_step_result *r;
    size_t n;
    assert_ok(mlxr_scheduler_step(s, NULL, &r, &n, idle, &err), &err);
    take_results(r, n);
    check(s);
    return n;
}

/* Steps until idle; done sequences are removed at once. */
static void drain(mlxr_scheduler *s, struct job *jobs, size_t n_jobs)
{
    bool idle = false;
    for (size_t guard = 0; !idle; guard++) {
        assert_true(guard < 100000);
        step(s, &idle);
        for (size_t i = 0; i < n_jobs; i++)
            if (jobs[i].done && jobs[i].seq) {
                mlxr_scheduler_remove(s, jobs[i].seq);
                jobs[i].seq = NULL;
            }
    }
    assert_int_equal(stats_of(s).n_blocks_used, 0);
    assert_int_equal(stats_of(s).n_running + stats_of(s).n_waiting, 0);
    check(s);
}

static void expect(struct job *j, bool recurrent)
{
    fake_answer(j->want, j->want_logprobs, j->prompt, j->n_prompt, j->n_new, recurrent, &j->sampling,
                j->seed);
}

static void check_job(struct job *j, bool recurrent)
{
    assert_true(j->done);
    assert_int_equal(j->status, MLXR_OK);
    assert_int_equal(j->reason, MLXR_DONE_LENGTH);
    assert_int_equal(j->n_got, j->n_new);
    if (!j->n_new) return;
    expect(j, recurrent);
    assert_memory_equal(j->got, j->want, j->n_new * sizeof *j->got);
    if (j->want_them) assert_memory_equal(j->logprobs, j->want_logprobs, j->n_new * sizeof *j->logprobs);
}

/* ---- the same alone and together ---- */

static void many_together_are_each_alone(void **state)
{
    static const size_t budgets[] = {1, 2, 7, 33, 256}, kv[] = {0, 2 * CONTEXT, 8 * CONTEXT};
    static const size_t cached[] = {0, 20 * MLXR_KV_BLOCK * sizeof(int32_t), SIZE_MAX};
    static struct job jobs[16];
    size_t n_hits = 0, n_preemptions = 0, n_evicted = 0;
    (void)state;
    for (size_t c = 0; c < MLXR_COUNT(budgets) * MLXR_COUNT(kv) * MLXR_COUNT(cached) * 4; c++) {
        size_t b = c / 4 % MLXR_COUNT(budgets), k = c / 4 / MLXR_COUNT(budgets) % MLXR_COUNT(kv);
        bool recurrent = c % 2, shares = c % 4 < 2;
        mlxr_scheduler_options o = options_of(budgets[b], kv[k]);
        fake_device d;
        mlxr_scheduler *s;
        o.max_cached_bytes = cached[c / 4 / MLXR_COUNT(budgets) / MLXR_COUNT(kv)];
        o.snapshot_blocks = 1 + c % 3;
        fake_init(&d, recurrent, shares);
        s = open_with(&d, &o);
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < MLXR_COUNT(jobs); i++) {
                job_init(&jobs[i], i, 1 + i * 17 % 90 + (i % 4 == 1 ? 40 : 0), 5 + i * 13 % 60);
                if (i % 2) job_seed(&jobs[i], i);
                jobs[i].want_them = i % 3 == 0;
                job_add(s, &jobs[i]);
            }
            drain(s, jobs, MLXR_COUNT(jobs));
            for (size_t i = 0; i < MLXR_COUNT(jobs); i++) check_job(&jobs[i], recurrent);
        }
        assert_true(d.max_tokens <= MLXR_COUNT(jobs) + budgets[b]);
        n_hits += stats_of(s).n_hit_tokens;
        n_preemptions += stats_of(s).n_preemptions;
        n_evicted += stats_of(s).n_evicted_blocks;
        assert_true(shares || stats_of(s).n_hit_tokens == 0);
        mlxr_scheduler_close(s);
    }
    assert_true(n_hits > 1000);
    assert_true(n_preemptions > 10);
    assert_true(n_evicted > 100);
}

/* ---- order and shares ---- */

static void the_first_come_is_the_first_served(void **state)
{
    static struct job jobs[3];
    fake_device d;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, CONTEXT); /* seven blocks */
    job_init(&jobs[0], 0, 130, 60);      /* five */
    job_init(&jobs[1], 4, 100, 60);      /* four: must wait */
    job_init(&jobs[2], 8, 3, 3);         /* one would fit, but it came later */
    for (size_t i = 0; i < 3; i++) job_add(s, &jobs[i]);
    step(s, NULL);
    assert_int_equal(mlxr_sequence_n_cached(jobs[0].seq), 64);
    assert_int_equal(mlxr_sequence_get_stats(jobs[1].seq).phase, MLXR_SEQUENCE_WAITING);
    assert_int_equal(mlxr_sequence_get_stats(jobs[2].seq).phase, MLXR_SEQUENCE_WAITING);
    drain(s, jobs, 3);
    for (size_t i = 0; i < 3; i++) check_job(&jobs[i], false);
    mlxr_scheduler_close(s);
}

static void prompts_share_a_step(void **state)
{
    static struct job jobs[4];
    fake_device d;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, 8 * CONTEXT);
    job_init(&jobs[0], 0, 190, 3);
    job_init(&jobs[1], 4, 3, 20);
    job_init(&jobs[2], 8, 150, 3);
    job_init(&jobs[3], 12, 160, 3);
    for (size_t i = 0; i < 4; i++) job_add(s, &jobs[i]);
    step(s, NULL); /* half to the first; of the other half what the short one leaves to the two behind it */
    assert_int_equal(mlxr_sequence_n_cached(jobs[0].seq), 32);
    assert_int_equal(mlxr_sequence_n_cached(jobs[1].seq), 3);
    assert_int_equal(jobs[1].n_got, 1);
    assert_int_equal(mlxr_sequence_n_cached(jobs[2].seq) + mlxr_sequence_n_cached(jobs[3].seq), 29);
    assert_true(mlxr_sequence_n_cached(jobs[3].seq) >= 14);
    step(s, NULL); /* one row decodes, 63 are left */
    assert_int_equal(jobs[1].n_got, 2);
    assert_int_equal(mlxr_sequence_n_cached(jobs[0].seq), 64);
    drain(s, jobs, 4);
    for (size_t i = 0; i < 4; i++) check_job(&jobs[i], false);
    mlxr_scheduler_close(s);
}

/* A long prompt among sequences that decode, and short ones that keep coming: neither waits for ever. */
static void nobody_starves(void **state)
{
    static struct job jobs[60];
    fake_device d;
    mlxr_scheduler_options o = options_of(8, 20 * CONTEXT);
    mlxr_scheduler *s;
    size_t n_steps = 0, n_added = 9;
    (void)state;
    o.max_sequences = 12;
    fake_init(&d, false, true);
    s = open_with(&d, &o);
    for (size_t i = 0; i < MLXR_COUNT(jobs); i++)
        job_init(&jobs[i], 4 * i, i == 8 ? 180 : 4, i < 8 ? 190 : 2);
    for (size_t i = 0; i < n_added; i++) job_add(s, &jobs[i]);
    while (jobs[8].n_got == 0) { /* the eight fill the budget of eight */
        step(s, NULL);
        assert_true(++n_steps < 400);
        if (n_added < MLXR_COUNT(jobs)) {
            job_add(s, &jobs[n_added]);
            n_added++;
        }
        for (size_t i = 9; i < n_added; i++)
            if (jobs[i].done && jobs[i].seq) {
                mlxr_scheduler_remove(s, jobs[i].seq);
                jobs[i].seq = NULL;
            }
    }
    for (size_t i = 0; i < 8; i++) assert_true(jobs[i].n_got + 20 >= (n_steps < 190 ? n_steps : 190));
    drain(s, jobs, n_added);
    for (size_t i = 0; i < n_added; i++) check_job(&jobs[i], false);
    mlxr_scheduler_close(s);
}

/* Sixteen times the same prompt at once: it is computed once. */
static void the_same_at_once_is_computed_once(void **state)
{
    static struct job jobs[16];
    fake_device d;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, 20 * CONTEXT);
    for (size_t i = 0; i < MLXR_COUNT(jobs); i++) {
        job_init(&jobs[i], 1, 161, 8);
        job_seed(&jobs[i], i);
        job_add(s, &jobs[i]);
    }
    drain(s, jobs, MLXR_COUNT(jobs));
    for (size_t i = 0; i < MLXR_COUNT(jobs); i++) check_job(&jobs[i], false);
    assert_int_equal(stats_of(s).n_prompt_tokens, 161 + 15); /* and the last token of each */
    assert_int_equal(stats_of(s).n_hit_tokens, 15 * 160);
    mlxr_scheduler_close(s);
}

static void cancelled_and_failed_steps_can_be_tried_again(void **state)
{
    static struct job job;
    (void)state;
    for (int when = 0; when < 12; when++)
        for (int cancel = 0; cancel < 2; cancel++) {
            fake_device d;
            mlxr_scheduler *e;
            fake_init(&d, false, true);
            e = open_scheduler(&d, 10, 0);
            job_init(&job, 3, 40, 20);
            job_add(e, &job);
            for (int i = 0; !job.done; i++) {
                const mlxr_step_result *r;
                size_t n;
                if (i == when) *(cancel ? &d.cancel_runs : &d.fail_runs) = 1;
                if (i == when) {
                    size_t before = mlxr_sequence_n_cached(job.seq);
                    assert_int_equal(mlxr_scheduler_step(e, &d.cancel, &r, &n, NULL, &err),
                                     cancel ? MLXR_E_CANCELLED : MLXR_E_DEVICE);
                    assert_int_equal(n, 0);
                    assert_int_equal(mlxr_sequence_n_cached(job.seq), before);
                    d.cancel = 0;
                    continue;
                }
                assert_ok(mlxr_scheduler_step(e, &d.cancel, &r, &n, NULL, &err), &err);
                take_results(r, n);
            }
            check_job(&job, false);
            mlxr_scheduler_remove(e, job.seq);
            assert_int_equal(mlxr_scheduler_get_stats(e).n_blocks_used, 0);
            mlxr_scheduler_close(e);
        }
}

static void removing_in_any_state_frees_the_blocks(void **state)
{
    static struct job jobs[4];
    (void)state;
    for (int steps = 0; steps < 14; steps++) {
        fake_device d;
        mlxr_scheduler *e;
        fake_init(&d, false, true);
        e = open_scheduler(&d, 16, 2 * CONTEXT);
        for (size_t i = 0; i < 4; i++) {
            job_init(&jobs[i], i, 30 + i, 40);
            job_add(e, &jobs[i]);
        }
        for (int i = 0; i < steps; i++) {
            const mlxr_step_result *r;
            size_t n;
            assert_ok(mlxr_scheduler_step(e, NULL, &r, &n, NULL, &err), &err);
            take_results(r, n);
        }
        mlxr_scheduler_remove(e, jobs[1].seq);
        mlxr_scheduler_remove(e, jobs[2].seq);
        jobs[1].done = jobs[2].done = true;
        jobs[1].seq = jobs[2].seq = NULL;
        drain(e, jobs, 4);
        check_job(&jobs[0], false);
        check_job(&jobs[3], false);
        mlxr_scheduler_close(e);
    }
}

static void ends(void **state)
{
    static struct job job;
    fake_device d;
    mlxr_sequence_params p;
    int32_t eos[2];
    mlxr_scheduler *e;
    (void)state;
    fake_init(&d, false, true);
    e = open_scheduler(&d, 64, 0);

    job_init(&job, 5, 10, 30); /* an EOS id ends the answer and is not part of it */
    expect(&job, false);
    eos[0] = VOCAB + 5;
    eos[1] = job.want[7];
    p = job_params(&job);
    p.eos_ids = eos;
    p.n_eos = 2;
    assert_ok(mlxr_scheduler_add(&job.seq, e, &p, &err), &err);
    drain(e, &job, 1);
    assert_int_equal(job.reason, MLXR_DONE_STOP);
    for (size_t i = 0; i < job.n_got; i++) assert_int_not_equal(job.got[i], eos[1]);
    assert_true(job.n_got <= 7);

    job_init(&job, 6, 10, 0); /* max_tokens 0: the prompt is read, nothing is said */
    job_add(e, &job);
    drain(e, &job, 1);
    check_job(&job, false);

    job_init(&job, 7, 150, 50); /* -1: until the context is full */
    p = job_params(&job);
    p.max_tokens = -1;
    assert_ok(mlxr_scheduler_add(&job.seq, e, &p, &err), &err);
    drain(e, &job, 1);
    check_job(&job, false);

    job_init(&job, 8, CONTEXT - 1, 1); /* room for one */
    job_add(e, &job);
    drain(e, &job, 1);
    check_job(&job, false);
    mlxr_scheduler_close(e);
}

static void what_cannot_run_is_refused(void **state)
{
    static struct job job;
    fake_device d;
    mlxr_scheduler_options o = mlxr_scheduler_options_default();
    mlxr_sequence_params p;
    mlxr_scheduler *e;
    (void)state;
    fake_init(&d, false, true);
    o.context_length = CONTEXT + 1;
    assert_fails(mlxr_scheduler_open(&e, &d.base, &d.program, &o, &err), MLXR_E_CONTEXT_OVERFLOW, "201",
                 &err);
    e = open_scheduler(&d, 64, 0);
    job_init(&job, 0, CONTEXT - 1, 1);
    p = job_params(&job);
    p.n_ids = CONTEXT;
    assert_fails(mlxr_scheduler_add(&job.seq, e, &p, &err), MLXR_E_CONTEXT_OVERFLOW,
                 "the prompt has 200 tokens, the context holds 200", &err);
    p.n_ids = 0;
    assert_fails(mlxr_scheduler_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "no tokens", &err);
    p.n_ids = 3;
    job.prompt[1] = VOCAB;
    assert_fails(mlxr_scheduler_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "token 97 at position 1",
                 &err);
    job.prompt[1] = -1;
    assert_fails(mlxr_scheduler_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "token -1", &err);
    job.prompt[1] = 0;
    p.sampling.temperature = -1;
    assert_fails(mlxr_scheduler_add(&job.seq, e, &p, &err), MLXR_E_INVALID_ARGUMENT, "temperature", &err);
    mlxr_scheduler_close(e);
}

/* A row that is no numbers ends its own sequence; the others go on. */
static void a_row_with_a_nan_fails_alone(void **state)
{
    static struct job jobs[2];
    (void)state;
    for (int seeded = 0; seeded < 2; seeded++) {
        fake_device d;
        mlxr_scheduler *s;
        fake_init(&d, false, true);
        s = open_scheduler(&d, 64, 0);
        for (size_t i = 0; i < 2; i++) {
            job_init(&jobs[i], 4 * i, 20, 20);
            if (seeded) job_seed(&jobs[i], i);
            job_add(s, &jobs[i]);
        }
        step(s, NULL);
        d.nan_runs = 1;
        step(s, NULL);
        assert_true(jobs[1].done);
        assert_int_equal(jobs[1].status, MLXR_E_DEVICE);
        assert_false(jobs[0].done);
        drain(s, jobs, 2);
        check_job(&jobs[0], false);
        mlxr_scheduler_close(s);
    }
}

/* ---- prefixes ---- */

static void a_prefix_is_computed_once(void **state)
{
    static struct job jobs[3];
    (void)state;
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        fake_device d;
        mlxr_scheduler *s;
        mlxr_sequence_stats stats;
        fake_init(&d, recurrent, true);
        s = open_scheduler(&d, 64, 2 * CONTEXT);
        job_init(&jobs[0], 0, 128, 20); /* of four full blocks three: the last token is computed */
        job_add(s, &jobs[0]);
        drain(s, jobs, 1);
        assert_int_equal(stats_of(s).n_prompt_tokens, 128);
        assert_int_equal(stats_of(s).n_snapshots, recurrent);
        job_init(&jobs[1], 0, 128, 30);
        job_add(s, &jobs[1]);
        step(s, NULL);
        stats = mlxr_sequence_get_stats(jobs[1].seq);
        assert_int_equal(stats.n_prompt, 128);
        assert_int_equal(stats.n_cached, 96);
        assert_int_equal(stats.n_computed, 32);
        assert_int_equal(stats.n_generated, 1);
        drain(s, &jobs[1], 1);
        job_init(&jobs[2], 1, 128, 30); /* 70 tokens are the same, two blocks */
        job_add(s, &jobs[2]);
        step(s, NULL);
        stats = mlxr_sequence_get_stats(jobs[2].seq);
        assert_int_equal(stats.n_cached, recurrent ? 0 : 64); /* no snapshot is there */
        drain(s, &jobs[2], 1);
        for (size_t i = 0; i < 3; i++) check_job(&jobs[i], recurrent);
        mlxr_scheduler_clear_cache(s);
        assert_int_equal(stats_of(s).n_blocks_cached, 0);
        assert_int_equal(stats_of(s).n_snapshots, 0);
        assert_int_equal(stats_of(s).cached_bytes, 0);
        check(s);
        mlxr_scheduler_close(s);
    }
}

/* An answer is a prefix too: what follows it finds its full blocks, or a snapshot on the way. */
static void a_conversation_goes_on(void **state)
{
    static struct job first, second;
    (void)state;
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        fake_device d;
        mlxr_scheduler_options o = options_of(64, 2 * CONTEXT);
        mlxr_scheduler *s;
        o.snapshot_blocks = 2;
        fake_init(&d, recurrent, true);
        s = open_with(&d, &o);
        job_init(&first, 0, 50, 90);
        job_add(s, &first);
        drain(s, &first, 1);
        check_job(&first, recurrent);
        job_init(&second, 0, 50, 20);
        memcpy(second.prompt + 50, first.got, 90 * sizeof *first.got);
        second.prompt[140] = 5;
        second.n_prompt = 141;
        job_add(s, &second);
        step(s, NULL);
        assert_int_equal(mlxr_sequence_get_stats(second.seq).n_cached, 128);
        drain(s, &second, 1);
        check_job(&second, recurrent);
        mlxr_scheduler_close(s);
    }
}

static void cached_prefixes_stay_within_their_bytes(void **state)
{
    static struct job jobs[20];
    (void)state;
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        size_t block = MLXR_KV_BLOCK * sizeof(int32_t);
        mlxr_scheduler_options o = options_of(64, 20 * CONTEXT);
        fake_device d;
        mlxr_scheduler *s;
        o.max_cached_bytes = 9 * block + 5;
        o.snapshot_blocks = 1;
        fake_init(&d, recurrent, true);
        s = open_with(&d, &o);
        for (size_t i = 0; i < MLXR_COUNT(jobs); i++) {
            job_init(&jobs[i], 4 * i, 100, 10);
            job_add(s, &jobs[i]);
            drain(s, jobs, i + 1);
            assert_true(stats_of(s).cached_bytes <= o.max_cached_bytes);
        }
        assert_true(stats_of(s).n_blocks_cached >= 6);
        assert_true(stats_of(s).n_evicted_blocks > 0);
        d.n_tokens = 0; /* the last one is there, the first is not */
        job_init(&jobs[19], 4 * 19, 100, 10);
        job_add(s, &jobs[19]);
        drain(s, jobs, 20);
        assert_int_equal(d.n_tokens, 100 - 96 + 9);
        d.n_tokens = 0;
        job_init(&jobs[0], 0, 100, 10);
        job_add(s, &jobs[0]);
        drain(s, jobs, 20);
        assert_int_equal(d.n_tokens, 100 + 9);
        mlxr_scheduler_close(s);
    }
}

/* ---- forks ---- */

static void fork_job(mlxr_scheduler *s, struct job *child, const struct job *parent, size_t seed)
{
    mlxr_fork_params p = {.sampling = mlxr_sampling_default(), .seed = seed, .ud = child};
    *child = *parent;
    child->sampling = p.sampling;
    child->seed = seed;
    assert_ok(mlxr_scheduler_fork(&child->seq, s, parent->seq, &p, &err), &err);
}

/* n choices: the prompt is computed once, its full blocks are there once, and each choice is as it is alone. */
static void choices_of_a_prompt(void **state)
{
    static struct job jobs[9];
    (void)state;
    for (int c = 0; c < 4 * 3; c++) {
        bool recurrent = c % 2, shares = c % 4 < 2;
        fake_device d;
        mlxr_scheduler *s;
        fake_init(&d, recurrent, shares);
        s = open_scheduler(&d, 64, 20 * CONTEXT);
        job_init(&jobs[0], 0, 143, 40);
        job_seed(&jobs[0], 0);
        jobs[0].sampling = mlxr_sampling_default();
        job_add(s, &jobs[0]);
        for (int i = 0; i < c / 4; i++) step(s, NULL); /* not begun, or in the middle of the prompt */
        for (size_t i = 1; i < 8; i++) fork_job(s, &jobs[i], &jobs[0], i);
        fork_job(s, &jobs[8], &jobs[3], 8); /* of one that waits itself */
        while (jobs[0].n_got < 1) step(s, NULL);
        if (shares) {
            assert_int_equal(stats_of(s).n_prompt_tokens, 143);
            assert_int_equal(stats_of(s).n_blocks_used, 5);
            step(s, NULL);
            assert_int_equal(stats_of(s).n_blocks_used, 4 + 9);
            assert_int_equal(stats_of(s).n_copied_blocks, 8);
            assert_int_equal(mlxr_sequence_get_stats(jobs[5].seq).n_cached, 143);
        }
        drain(s, jobs, 9);
        for (size_t i = 0; i < 9; i++) check_job(&jobs[i], recurrent);
        mlxr_scheduler_close(s);
    }
}

/* A fork in the middle of an answer goes on from there; with the parent's seed it says the same. */
static void a_fork_of_an_answer(void **state)
{
    static struct job parent, children[3];
    (void)state;
    for (int c = 0; c < 4 * 40; c++) {
        bool recurrent = c % 2, shares = c % 4 < 2;
        size_t at = 1 + (size_t)c / 4;
        fake_device d;
        mlxr_scheduler *s;
        fake_init(&d, recurrent, shares);
        s = open_scheduler(&d, 64, 20 * CONTEXT);
        job_init(&parent, 0, 50, 60);
        parent.sampling = mlxr_sampling_default();
        parent.seed = 7;
        job_add(s, &parent);
        while (parent.n_got < at) step(s, NULL);
        for (size_t i = 0; i < 3; i++) fork_job(s, &children[i], &parent, i == 0 ? 7 : i);
        if (c % 8 < 4) { /* the parent goes: its children keep what they share */
            mlxr_scheduler_remove(s, parent.seq);
            parent.seq = NULL;
        }
        drain(s, children, 3);
        if (parent.seq) mlxr_scheduler_remove(s, parent.seq);
        check_job(&children[0], recurrent);
        for (size_t i = 1; i < 3; i++) { /* as a prompt of what was said before, drawn on from there */
            struct job *j = &children[i];
            int32_t all[MOST];
            assert_int_equal(j->n_got, 60);
            memcpy(all, j->prompt, 50 * sizeof *all);
            memcpy(all + 50, j->got, 60 * sizeof *all);
            for (size_t k = at; k < 60; k++) {
                float row[VOCAB];
                mlxr_sampler *sampler;
                mlxr_sampled drawn;
                mlxr_draw draw = {
                    .logits = row, .history = all, .n_history = 50 + k, .seed = j->seed, .i_token = k};
                assert_ok(mlxr_sampler_create(&sampler, VOCAB, &err), &err);
                fake_logits(row, all, 50 + k, recurrent);
                assert_ok(mlxr_sampler_sample(&drawn, sampler, &j->sampling, &draw, &err), &err);
                assert_int_equal(drawn.id, j->got[k]);
                mlxr_sampler_free(sampler);
            }
        }
        mlxr_scheduler_close(s);
    }
}

/* A leader that is removed while others wait for its row leaves the work to the first of them. */
static void a_leader_goes(void **state)
{
    static struct job jobs[4];
    fake_device d;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, 20 * CONTEXT);
    job_init(&jobs[0], 0, 150, 10);
    jobs[0].sampling = mlxr_sampling_default();
    job_add(s, &jobs[0]);
    for (size_t i = 1; i < 4; i++) fork_job(s, &jobs[i], &jobs[0], i);
    step(s, NULL);
    mlxr_scheduler_remove(s, jobs[0].seq);
    jobs[0].seq = NULL;
    drain(s, jobs, 4);
    for (size_t i = 1; i < 4; i++) check_job(&jobs[i], false);
    assert_int_equal(stats_of(s).n_prompt_tokens, 150); /* what the leader had is cached */
    mlxr_scheduler_close(s);
}

static void what_cannot_be_forked_is_refused(void **state)
{
    static struct job job;
    mlxr_fork_params p = {.sampling = mlxr_sampling_default()};
    mlxr_sequence_params params;
    mlxr_sequence *q;
    fake_device d;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, 0);
    job_init(&job, 0, 10, 1);
    job_add(s, &job);
    step(s, NULL);
    assert_fails(mlxr_scheduler_fork(&q, s, job.seq, &p, &err), MLXR_E_INVALID_ARGUMENT, "has ended", &err);
    mlxr_scheduler_remove(s, job.seq);
    job_init(&job, 0, 10, 1);
    params = job_params(&job);
    params.score_prompt = true;
    assert_ok(mlxr_scheduler_add(&job.seq, s, &params, &err), &err);
    assert_fails(mlxr_scheduler_fork(&q, s, job.seq, &p, &err), MLXR_E_INVALID_ARGUMENT, "scores", &err);
    mlxr_scheduler_close(s);
}

/* ---- memory ---- */

/* Far more sequences than blocks: they give way and come back, all end, none is wrong. */
static void little_memory_is_enough(void **state)
{
    static struct job jobs[24];
    (void)state;
    for (int c = 0; c < 8; c++) {
        bool recurrent = c % 2, shares = c % 4 < 2;
        mlxr_scheduler_options o = options_of(48, c < 4 ? CONTEXT : 3 * CONTEXT);
        fake_device d;
        mlxr_scheduler *s;
        size_t n_recomputed = 0;
        fake_init(&d, recurrent, shares);
        s = open_with(&d, &o);
        for (size_t i = 0; i < MLXR_COUNT(jobs); i++) {
            job_init(&jobs[i], i, 5 + i * 7 % 60, 30 + i * 11 % 100);
            if (i % 2) job_seed(&jobs[i], i);
            job_add(s, &jobs[i]);
        }
        for (bool idle = false; !idle;) {
            step(s, &idle);
            for (size_t i = 0; i < MLXR_COUNT(jobs); i++)
                if (jobs[i].done && jobs[i].seq) {
                    mlxr_sequence_stats stats = mlxr_sequence_get_stats(jobs[i].seq);
                    n_recomputed += stats.n_recomputed;
                    assert_int_equal(stats.n_computed + stats.n_cached, stats.n_prompt);
                    assert_int_equal(stats.n_generated, jobs[i].n_new);
                    mlxr_scheduler_remove(s, jobs[i].seq);
                    jobs[i].seq = NULL;
                }
        }
        for (size_t i = 0; i < MLXR_COUNT(jobs); i++) check_job(&jobs[i], recurrent);
        assert_true(stats_of(s).n_preemptions > 0);
        assert_true(n_recomputed > 0);
        mlxr_scheduler_close(s);
    }
}

/* Bytes for less than a context make the context that much shorter. */
static void bytes_bound_the_context(void **state)
{
    static struct job job;
    fake_device d;
    mlxr_scheduler_options o = options_of(64, 0);
    mlxr_sequence_params p;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    o.max_kv_bytes = 3 * MLXR_KV_BLOCK * sizeof(int32_t) + 7;
    s = open_with(&d, &o);
    assert_int_equal(mlxr_scheduler_context_length(s), 3 * MLXR_KV_BLOCK);
    job_init(&job, 0, 96, 1);
    p = job_params(&job);
    assert_fails(mlxr_scheduler_add(&job.seq, s, &p, &err), MLXR_E_CONTEXT_OVERFLOW,
                 "has 96 tokens, the context holds 96", &err);
    job_init(&job, 0, 40, 56);
    job_add(s, &job);
    drain(s, &job, 1);
    check_job(&job, false);
    mlxr_scheduler_close(s);
    o.max_kv_bytes = 5;
    assert_fails(mlxr_scheduler_open(&s, &d.base, &d.program, &o, &err), MLXR_E_INVALID_ARGUMENT,
                 "5 bytes for keys and values", &err);
}

static void too_many_are_busy(void **state)
{
    static struct job jobs[6];
    fake_device d;
    mlxr_scheduler_options o = options_of(64, 8 * CONTEXT);
    mlxr_fork_params f = {.sampling = mlxr_sampling_default()};
    mlxr_sequence_params p;
    mlxr_sequence *q;
    mlxr_scheduler *s;
    (void)state;
    fake_init(&d, false, true);
    o.max_sequences = 3;
    o.max_waiting = 2;
    s = open_with(&d, &o);
    for (size_t i = 0; i < 6; i++) job_init(&jobs[i], 4 * i, 20, 10);
    for (size_t i = 0; i < 5; i++) job_add(s, &jobs[i]);
    p = job_params(&jobs[5]);
    assert_fails(mlxr_scheduler_add(&q, s, &p, &err), MLXR_E_BUSY, "3 may run and 2 may wait", &err);
    assert_fails(mlxr_scheduler_fork(&q, s, jobs[0].seq, &f, &err), MLXR_E_BUSY, "2 may wait", &err);
    step(s, NULL);
    assert_int_equal(stats_of(s).n_running, 3);
    assert_int_equal(stats_of(s).n_waiting, 2);
    mlxr_scheduler_remove(s, jobs[4].seq);
    jobs[4].seq = NULL;
    job_add(s, &jobs[5]);
    drain(s, jobs, 6);
    mlxr_scheduler_close(s);
}

/* ---- a context that is too short ---- */

static void a_prompt_is_truncated(void **state)
{
    static struct job job;
    fake_device d;
    mlxr_sequence_params p;
    mlxr_scheduler *s;
    const int32_t *ids;
    size_t n;
    (void)state;
    fake_init(&d, false, true);
    s = open_scheduler(&d, 64, 0);
    job_init(&job, 0, 300, 30);
    p = job_params(&job);
    p.overflow = MLXR_OVERFLOW_TRUNCATE;
    p.n_keep = 40;
    assert_ok(mlxr_scheduler_add(&job.seq, s, &p, &err), &err);
    ids = mlxr_sequence_tokens(job.seq, &n);
    assert_int_equal(n, CONTEXT - 30);
    assert_memory_equal(ids, job.prompt, 40 * sizeof *ids);
    assert_memory_equal(ids + 40, job.prompt + 300 - (n - 40), (n - 40) * sizeof *ids);
    assert_int_equal(mlxr_sequence_get_stats(job.seq).n_dropped, 300 - n);
    memcpy(job.prompt, ids, n * sizeof *ids);
    job.n_prompt = n;
    drain(s, &job, 1);
    assert_int_equal(job.n_dropped, 300 - n); /* told once */
    check_job(&job, false);

    job_init(&job, 0, 300, 30);
    p = job_params(&job);
    assert_fails(mlxr_scheduler_add(&job.seq, s, &p, &err), MLXR_E_CONTEXT_OVERFLOW,
                 "300 tokens, the context holds 200", &err);
    p.overflow = MLXR_OVERFLOW_TRUNCATE;
    p.n_keep = 151;
    assert_fails(mlxr_scheduler_add(&job.seq, s, &p, &err), MLXR_E_INVALID_ARGUMENT,
                 "151 tokens are to be kept", &err);
    p.n_keep = 0;
    p.score_prompt = true;
    assert_fails(mlxr_scheduler_add(&job.seq, s, &p, &err), MLXR_E_CONTEXT_OVERFLOW, "is not truncated",
                 &err);
    mlxr_scheduler_close(s);
}

/* An answer of three contexts: at every shift the tokens that are left are those that should be, and the next token is
 * what they alone would give. */
static void an_answer_shifts(void **state)
{
    enum { N = 600, KEEP = 70 };
    (void)state;
    for (int c = 0; c < 8; c++) {
        bool recurrent = c % 2, shares = c % 4 < 2;
        fake_device d;
        mlxr_sequence_params p = mlxr_sequence_params_default();
        mlxr_scheduler *s;
        mlxr_sequence *q;
        int32_t window[CONTEXT];
        size_t n = 90, n_got = 0, n_dropped = 0;
        fake_init(&d, recurrent, shares);
        s = open_scheduler(&d, c < 4 ? 64 : 11, 0);
        for (size_t i = 0; i < n; i++) window[i] = text_id(1, i);
        p.ids = window;
        p.n_ids = n;
        p.max_tokens = N;
        p.sampling = greedy();
        p.overflow = MLXR_OVERFLOW_SHIFT;
        p.n_keep = KEEP;
        assert_ok(mlxr_scheduler_add(&q, s, &p, &err), &err);
        for (bool done = false; !done;) {
            const mlxr_step_result *r;
            size_t n_results;
            assert_ok(mlxr_scheduler_step(s, NULL, &r, &n_results, NULL, &err), &err);
            check(s);
            if (n_results == 0) continue;
            if (n == CONTEXT) {
                size_t n_drop = (CONTEXT - KEEP) / 2;
                memmove(window + KEEP, window + KEEP + n_drop, (n - KEEP - n_drop) * sizeof *window);
                n -= n_drop;
                assert_int_equal(r->n_dropped, n_drop);
                n_dropped += n_drop;
            } else {
                assert_int_equal(r->n_dropped, 0);
            }
            {
                int32_t want;
                fake_answer(&want, NULL, window, n, 1, recurrent, &p.sampling, 0);
                assert_int_equal(r->id, want);
                window[n++] = r->id;
                n_got++;
                done = r->done;
            }
        }
        assert_int_equal(n_got, N);
        assert_true(n_dropped > 400);
        assert_int_equal(mlxr_sequence_get_stats(q).n_dropped, n_dropped);
        assert_true(mlxr_sequence_get_stats(q).n_recomputed > 0);
        mlxr_scheduler_close(s);
    }
}

/* ---- scores, hidden states, logprobs ---- */

static void prompts_are_scored(void **state)
{
    static struct job company[3];
    static const size_t budgets[] = {1, 20, 200};
    (void)state;
    for (size_t c = 0; c < 2 * MLXR_COUNT(budgets); c++) {
        bool recurrent = c % 2;
        int32_t ids[CONTEXT];
        mlxr_sequence_params p = mlxr_sequence_params_default();
        mlxr_sampler *sampler;
        mlxr_sequence *q;
        fake_device d;
        mlxr_scheduler *s;
        mlxr_scheduler_options o;
        size_t next = 1;
        bool done = false;
        fake_init(&d, recurrent, true);
        o = options_of(budgets[c / 2], 3 * CONTEXT);
        o.max_score_rows = 32;
        s = open_with(&d, &o);
        assert_ok(mlxr_sampler_create(&sampler, VOCAB, &err), &err);
        for (size_t i = 0; i < CONTEXT; i++) ids[i] = text_id(0, i);
        for (size_t i = 0; i < 3; i++) { /* the same prefix is there, and must not be used */
            job_init(&company[i], i, 100, 30);
            job_add(s, &company[i]);
        }
        for (int i = 0; i < 10; i++) step(s, NULL);
        p.ids = ids;
        p.n_ids = CONTEXT;
        p.max_tokens = 0;
        p.score_prompt = true;
        p.n_top_logprobs = 3;
        assert_ok(mlxr_scheduler_add(&q, s, &p, &err), &err);
        while (!done) {
            const mlxr_step_result *r;
            size_t n;
            assert_ok(mlxr_scheduler_step(s, NULL, &r, &n, NULL, &err), &err);
            check(s);
            for (size_t i = 0; i < n; i++) {
                float row[VOCAB];
                double want;
                mlxr_logprob top[3];
                size_t n_top = 3;
                if (r[i].sequence != q) {
                    take_results(&r[i], 1);
                    continue;
                }
                if ((done = r[i].done)) {
                    assert_int_equal(r[i].kind, MLXR_RESULT_TOKEN);
                    assert_int_equal(r[i].id, -1);
                    continue;
                }
                assert_int_equal(r[i].kind, MLXR_RESULT_SCORE);
                assert_int_equal(r[i].position, next);
                assert_int_equal(r[i].id, ids[next]);
                fake_logits(row, ids, next, recurrent);
                assert_ok(mlxr_sampler_logprobs(&want, top, &n_top, sampler, row, ids[next], &err), &err);
                assert_memory_equal(&r[i].logprob, &want, sizeof want);
                assert_int_equal(r[i].n_top, n_top);
                for (size_t k = 0; k < n_top; k++) {
                    assert_int_equal(r[i].top[k].id, top[k].id);
                    assert_memory_equal(&r[i].top[k].logprob, &top[k].logprob, sizeof top[k].logprob);
                }
                next++;
            }
        }
        assert_int_equal(next, CONTEXT);
        assert_true(d.max_rows <= 32 + 4);
        mlxr_scheduler_remove(s, q);
        drain(s, company, 3);
        for (size_t i = 0; i < 3; i++) check_job(&company[i], recurrent);
        mlxr_sampler_free(sampler);
        mlxr_scheduler_close(s);
    }
}

static void hidden_states_are_given(void **state)
{
    static struct job company[2];
    (void)state;
    for (int c = 0; c < 8; c++) {
        bool recurrent = c % 2, all = c % 4 < 2;
        int32_t ids[CONTEXT];
        mlxr_sequence_params p = mlxr_sequence_params_default();
        mlxr_sequence *q;
        fake_device d;
        mlxr_scheduler *s;
        size_t next = all ? 0 : CONTEXT - 1;
        bool done = false;
        fake_init(&d, recurrent, true);
        s = open_scheduler(&d, c < 4 ? 7 : 64, 3 * CONTEXT);
        for (size_t i = 0; i < CONTEXT; i++) ids[i] = text_id(0, i);
        for (size_t i = 0; i < 2; i++) {
            job_init(&company[i], i, 100, 90);
            job_add(s, &company[i]);
        }
        p.ids = ids;
        p.n_ids = CONTEXT;
        p.hidden = all ? MLXR_HIDDEN_ALL : MLXR_HIDDEN_LAST;
        assert_ok(mlxr_scheduler_add(&q, s, &p, &err), &err);
        while (!done) {
            const mlxr_step_result *r;
            size_t n;
            assert_ok(mlxr_scheduler_step(s, NULL, &r, &n, NULL, &err), &err);
            check(s);
            for (size_t i = 0; i < n; i++) {
                float row[FAKE_HIDDEN];
                if (r[i].sequence != q) {
                    take_results(&r[i], 1);
                    continue;
                }
                assert_int_equal(r[i].kind, MLXR_RESULT_HIDDEN);
                assert_int_equal(r[i].position, next);
                assert_int_equal(r[i].id, ids[next]);
                fake_hidden(row, ids, next + 1, recurrent);
                assert_memory_equal(r[i].hidden, row, sizeof row);
                next++;
                done = r[i].done;
            }
        }
        assert_int_equal(next, CONTEXT);
        assert_true(company[0].n_got > 0); /* steps are taken in turn */
        mlxr_scheduler_remove(s, q);
        drain(s, company, 2);
        for (size_t i = 0; i < 2; i++) check_job(&company[i], recurrent);
        mlxr_scheduler_close(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_together_are_each_alone),
        cmocka_unit_test(the_first_come_is_the_first_served),
        cmocka_unit_test(prompts_share_a_step),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(the_same_at_once_is_computed_once),
        cmocka_unit_test(cancelled_and_failed_steps_can_be_tried_again),
        cmocka_unit_test(a_row_with_a_nan_fails_alone),
        cmocka_unit_test(removing_in_any_state_frees_the_blocks),
        cmocka_unit_test(ends),
        cmocka_unit_test(what_cannot_run_is_refused),
        cmocka_unit_test(a_prefix_is_computed_once),
        cmocka_unit_test(a_conversation_goes_on),
        cmocka_unit_test(cached_prefixes_stay_within_their_bytes),
        cmocka_unit_test(choices_of_a_prompt),
        cmocka_unit_test(a_fork_of_an_answer),
        cmocka_unit_test(a_leader_goes),
        cmocka_unit_test(what_cannot_be_forked_is_refused),
        cmocka_unit_test(little_memory_is_enough),
        cmocka_unit_test(bytes_bound_the_context),
        cmocka_unit_test(too_many_are_busy),
        cmocka_unit_test(a_prompt_is_truncated),
        cmocka_unit_test(an_answer_shifts),
        cmocka_unit_test(prompts_are_scored),
        cmocka_unit_test(hidden_states_are_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
