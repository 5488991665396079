/* test_engine_families [MODEL]: the scheduler over real devices and a tiny model of every family: sixteen prompts together
 * give each the tokens, and the bits of the whole distribution at every token, that it has alone; with and without cached
 * prefixes, in any chunks, with one or two threads, greedy and seeded, with too little memory, and forked. With a folder
 * named, the same of that model on the cpu, once as it computes by default and once in float32; SKIP when it is not there. */
#include "base/fs.h"
#include "engine/scheduler.h"
#include "model/model.h"
#include "test.h"

static const char *const models[] = {
    "f32",        "q4_g32",         "mistral_q4",    "qwen2_q4",       "qwen3_q4",         "qwen3_moe_q4",
    "mixtral_q4", "phi3_q4",        "gemma2_q4",     "gemma3_text_q4", "gemma4_text_bf16", "gemma4_moe_q4",
    "cohere_q4",  "granite_q4",     "starcoder2_q4", "gpt_oss_q4",     "ministral3_q4",    "lfm2_q4",
    "qwen3_5_q4", "qwen3_5_moe_q4",
};

enum { N_JOBS = 16, MOST_NEW = 20, MOST_PROMPT = 110, CONTEXT = 160 };

/* ref and cpu differ by rounding, and so do a cpu's precisions: a rig is compared with the last one that begins. */
struct rig {
    const char *device;
    bool begins; /* its scheduler runs each prompt alone, with nothing cached, before all together */
    mlxr_precision precision;
    size_t n_threads, budget, kv_tokens; /* kv_tokens 0: enough */
    size_t max_cached_bytes;
};

struct job {
    int32_t prompt[MOST_PROMPT], got[MOST_NEW];
    uint64_t bits[MOST_NEW]; /* a digest of the log-probabilities of all tokens */
    size_t n_prompt, n_new, n_got;
    mlxr_sequence *seq;
};

static mlxr_error err;

static void job_init(struct job *j, size_t i, size_t vocab, size_t context, size_t least_new)
{
    memset(j, 0, sizeof *j);
    j->n_new = least_new + i % 10;
    j->n_prompt = 1 + i * 23 % 100;
    if (i % 4 == 3) j->n_prompt += 9;
    if (j->n_prompt + j->n_new > context) j->n_prompt = context - j->n_new;
    for (size_t k = 0; k < j->n_prompt; k++) { /* the first 40 are common to four */
        size_t t = k < 40 ? i / 4 : 10 + i;
        j->prompt[k] = (int32_t)((t * 29 + k * 11 + k * k / 3) % vocab);
    }
}

static mlxr_sequence_params params_of(struct job *j, size_t i, size_t vocab)
{
    mlxr_sequence_params p = mlxr_sequence_params_default();
    p.ids = j->prompt;
    p.n_ids = j->n_prompt;
    p.max_tokens = (int64_t)j->n_new;
    p.seed = i;
    p.n_top_logprobs = vocab;
    p.ud = j;
    if (i % 2 == 0) p.sampling.temperature = 0;
    return p;
}

static void take(const mlxr_step_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct job *j = r[i].ud;
        assert_int_equal(r[i].status, MLXR_OK);
        if (r[i].id < 0) continue;
        assert_true(j->n_got < MOST_NEW);
        j->got[j->n_got] = r[i].id;
        for (size_t k = 0; k < r[i].n_top; k++) {
            struct {
                int64_t id;
                double logprob;
            } one = {r[i].top[k].id, r[i].top[k].logprob};
            j->bits[j->n_got] = mlxr_hash_bytes(&one, sizeof one, j->bits[j->n_got]);
        }
        j->n_got++;
    }
}

static void drain(mlxr_scheduler *s)
{
    for (bool idle = false; !idle;) {
        const mlxr_step_result *r;
        size_t n;
        assert_ok(mlxr_scheduler_step(s, NULL, &r, &n, &idle, &err), &err);
        take(r, n);
        for (size_t i = 0; i < n; i++)
            if (r[i].done) mlxr_scheduler_remove(s, r[i].sequence);
        assert_ok(mlxr_scheduler_check(s, &err), &err);
    }
    assert_int_equal(mlxr_scheduler_get_stats(s).n_blocks_used, 0);
}

static void add(mlxr_scheduler *s, struct job *j, size_t i, size_t vocab)
{
    mlxr_sequence_params p = params_of(j, i, vocab);
    assert_ok(mlxr_scheduler_add(&j->seq, s, &p, &err), &err);
}

/* Answers of least_new tokens and up to 9 more. */
static void run_model(const char *path, const struct rig *rigs, size_t n_rigs, mlxr_kv_type kv_type,
                      size_t least_new)
{
    static struct job alone[N_JOBS], jobs[N_JOBS], fork;
    mlxr_model *m;
    size_t n_hits = 0;

    assert_ok(mlxr_model_open(&m, path, &err), &err);
    for (size_t c = 0; c < n_rigs; c++) {
        const mlxr_program *p = mlxr_model_program(m);
        mlxr_device_options options = {
            .n_threads = rigs[c].n_threads, .kv_type = kv_type, .precision = rigs[c].precision};
        mlxr_scheduler_options o = mlxr_scheduler_options_default();
        size_t context = p->context_length < CONTEXT ? p->context_length : CONTEXT, V = p->vocab_size;
        mlxr_device *d;
        mlxr_scheduler *s;

        o.context_length = context;
        o.max_tokens_per_step = rigs[c].budget;
        o.max_kv_tokens = rigs[c].kv_tokens ? rigs[c].kv_tokens : 40 * context;
        o.max_cached_bytes = rigs[c].max_cached_bytes;
        o.snapshot_blocks = 1;
        assert_ok(mlxr_device_open(&d, rigs[c].device, &options, &err), &err);
        if (rigs[c].begins) {
            mlxr_scheduler_options none = o;
            none.max_cached_bytes = 0;
            assert_ok(mlxr_scheduler_open(&s, d, p, &none, &err), &err);
            for (size_t i = 0; i < N_JOBS; i++) {
                job_init(&alone[i], i, V, context, least_new);
                add(s, &alone[i], i, V);
                drain(s);
                assert_int_equal(alone[i].n_got, alone[i].n_new);
            }
            mlxr_scheduler_close(s);
        }
        assert_ok(mlxr_scheduler_open(&s, d, p, &o, &err), &err);
        for (int round = 0; round < 2; round++) { /* the second one meets what the first has left */
            mlxr_fork_params f = {.sampling = mlxr_sampling_default(), .seed = 3, .ud = &fork};
            for (size_t i = 0; i < N_JOBS; i++) {
                job_init(&jobs[i], i, V, context, least_new);
                add(s, &jobs[i], i, V);
            }
            job_init(&fork, 3, V, context, least_new);
            assert_ok(mlxr_scheduler_fork(&fork.seq, s, jobs[3].seq, &f, &err), &err);
            drain(s);
            for (size_t i = 0; i < N_JOBS + 1; i++) {
                const struct job *want = &alone[i < N_JOBS ? i : 3], *got = i < N_JOBS ? &jobs[i] : &fork;
                assert_int_equal(got->n_got, want->n_got);
                for (size_t k = 0; k < want->n_got; k++)
                    if (got->got[k] != want->got[k] || got->bits[k] != want->bits[k])
                        fail_msg("%s on %s, case %zu, round %d: prompt %zu, token %zu is %d, wanted %d%s",
                                 path, rigs[c].device, c, round, i, k, (int)got->got[k], (int)want->got[k],
                                 got->got[k] == want->got[k] ? " (other bits)" : "");
            }
        }
        if (rigs[c].max_cached_bytes) n_hits += mlxr_scheduler_get_stats(s).n_hit_tokens;
        mlxr_scheduler_close(s);
        mlxr_device_close(d);
    }
    assert_true(n_hits > 0);
    mlxr_model_close(m);
}

static void run_tiny(const char *name, mlxr_kv_type kv_type)
{
    static const struct rig rigs[] = {
        {"ref", true, MLXR_PRECISION_DEFAULT, 1, 300, 0, SIZE_MAX},
        {"cpu", true, MLXR_PRECISION_DEFAULT, 1, 300, 0, 0},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 1, 17, 0, SIZE_MAX},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 2, 64, 0, SIZE_MAX},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 2, 50, 160, SIZE_MAX},
    };
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/model/models/%s", MLXR_SOURCE_DIR, name);
    run_model(path, rigs, MLXR_COUNT(rigs), kv_type, 3);
}

static void every_family_alone_and_together(void **state)
{
    (void)state;
    for (size_t i = 0; i < MLXR_COUNT(models); i++) run_tiny(models[i], MLXR_KV_DEFAULT);
}

/* Blocks that are shared, copied for a fork and found again hold halves and codes with their scales as well. */
static void every_kind_of_keys_and_values(void **state)
{
    (void)state;
    for (int kv = MLXR_KV_F32; kv <= MLXR_KV_INT8; kv++) {
        run_tiny("q4_g32", (mlxr_kv_type)kv);
        run_tiny("gemma3_text_q4", (mlxr_kv_type)kv); /* windows */
        run_tiny("qwen3_5_q4", (mlxr_kv_type)kv);     /* states besides blocks */
    }
}

static void one_model_alone_and_together(void **state)
{
    static const struct rig rigs[] = {
        {"cpu", true, MLXR_PRECISION_DEFAULT, 1, 512, 0, 0},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 1, 17, 0, SIZE_MAX},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 2, 64, 0, SIZE_MAX},
        {"cpu", false, MLXR_PRECISION_DEFAULT, 2, 50, 320, SIZE_MAX},
        {"cpu", true, MLXR_PRECISION_EXACT, 2, 512, 0, 0},
        {"cpu", false, MLXR_PRECISION_EXACT, 1, 33, 0, SIZE_MAX},
    };

    run_model(*state, rigs, MLXR_COUNT(rigs), MLXR_KV_DEFAULT, MOST_NEW - 9);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_family_alone_and_together),
                                       cmocka_unit_test(every_kind_of_keys_and_values)};
    const struct CMUnitTest one[] = {
        cmocka_unit_test_prestate(one_model_alone_and_together, argc > 1 ? argv[1] : NULL)};

    if (argc > 1) {
        if (!mlxr_path_is_dir(argv[1])) {
            printf("SKIP: no model at %s (the default model is brought by scripts/demo.sh)\n", argv[1]);
            return 77;
        }
        return cmocka_run_group_tests(one, NULL, NULL);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
