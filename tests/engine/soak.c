/* soak [SECONDS [SEED]]: random submissions, grammars, forks, cancellations, lost steps and evictions on schedulers with random limits, over
 * the made device and over tiny models on the cpu. After every step all counts must agree; every text, score and
 * hidden state must be that of its prompt and seed alone; in the end nothing may be left. Prints its seed, and fails with
 * status 1. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/fake_device.h"
#include "model/model.h"
#include "test.h"

enum { N_TEXTS = 12, N_SEEDS = 3, MOST_PROMPT = 140, MOST_NEW = 90, MOST_LIVE = 40, SOAK_CONTEXT = 160 };

typedef enum kind { ANSWER, SHIFTED, FORMED, SCORED, EMBEDDED, N_KINDS } kind; /* FORMED: held to a grammar */

/* What a text gives alone. */
typedef struct alone {
    bool known;
    int32_t ids[MOST_NEW];
    size_t n;
    uint64_t digest; /* of scores or hidden states */
} alone;

typedef struct stage {
    const char *name;
    fake_device fake;
    mlxr_model *model;
    mlxr_device *device;
    const mlxr_program *program;
    bool has_hidden;
    mlxr_grammar *grammar;
    mlxr_vocabulary *vocabulary;
    mlxr_masker *masker;
    alone known[N_KINDS][N_TEXTS][N_SEEDS];
} stage;

typedef struct live {
    mlxr_sequence *seq;
    kind kind;
    size_t i_text, i_seed, n_new, n_got;
    uint64_t digest;
} live;

static uint64_t random_state;
static uint64_t n_steps, n_done, n_cancelled, n_forks, n_lost, n_preempted, n_evicted, n_hits;

static size_t below(size_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

static void die(const stage *g, const char *what)
{
    fprintf(stderr, "soak: %s: %s\n", g->name, what);
    exit(1);
}

static void must(const stage *g, mlxr_status st, const mlxr_error *err)
{
    if (st != MLXR_OK) die(g, err->message);
}

/* ---- texts ---- */

static size_t prompt_of(const stage *g, int32_t *ids, size_t i_text)
{
    size_t n = 2 + i_text * 37 % (MOST_PROMPT - 2);

    for (size_t k = 0; k < n; k++) { /* three and three have 80 tokens in common */
        size_t t = k < 80 ? i_text / 3 : i_text + 20;
        ids[k] = (int32_t)((t * 13 + k * 5 + k * k / 2) % g->program->vocab_size);
    }
    return n;
}

/* Every token is one letter, some are two. */
static void token_text(void *ud, int32_t id, mlxr_buf *out)
{
    (void)ud;
    mlxr_buf_char(out, (char)('a' + id % 26));
    if (id % 5 == 0) mlxr_buf_char(out, (char)('a' + id / 5 % 26));
}

static void make_grammar(stage *g)
{
    static const char gbnf[] = "root ::= part{3,40} \"y\"\n"
                               "part ::= [a-h] [i-p]? | \"q\" part{0,60} \"r\" | [s-w]{1,200} \"x\"";
    mlxr_vocabulary_params params = {.vocab_size = g->program->vocab_size, .bytes = token_text};
    mlxr_error err;

    must(g, mlxr_grammar_from_gbnf(&g->grammar, gbnf, sizeof gbnf - 1, "soak", NULL, &err), &err);
    must(g, mlxr_vocabulary_create(&g->vocabulary, &params, &err), &err);
    must(g, mlxr_masker_create(&g->masker, g->grammar, g->vocabulary, &err), &err);
}

static mlxr_sequence_params params_of(const stage *g, const live *j, int32_t *ids)
{
    mlxr_sequence_params p = mlxr_sequence_params_default();
    mlxr_error err;

    p.ids = ids;
    p.n_ids = prompt_of(g, ids, j->i_text);
    p.max_tokens = (int64_t)j->n_new;
    p.seed = j->i_seed;
    if (j->i_seed == 0) p.sampling.temperature = 0;
    if (j->kind == SHIFTED) {
        p.overflow = MLXR_OVERFLOW_SHIFT;
        p.n_keep = 5 * j->i_text;
    }
    if (j->kind == SCORED) {
        p.score_prompt = true;
        p.n_top_logprobs = 2;
    }
    if (j->kind == FORMED) must(g, mlxr_matcher_create(&p.matcher, g->masker, &err), &err);
    if (j->kind == EMBEDDED) p.hidden = j->i_seed ? MLXR_HIDDEN_ALL : MLXR_HIDDEN_LAST;
    return p;
}

static void digest_result(const stage *g, uint64_t *digest, const mlxr_step_result *r)
{
    if (r->kind == MLXR_RESULT_SCORE) {
        *digest = mlxr_hash_bytes(&r->position, sizeof r->position, *digest);
        *digest = mlxr_hash_bytes(&r->logprob, sizeof r->logprob, *digest);
    }
    if (r->kind == MLXR_RESULT_HIDDEN)
        *digest = mlxr_hash_bytes(r->hidden, g->program->hidden_size * sizeof *r->hidden, *digest);
}

/* By a scheduler that has nothing else to do and keeps nothing. */
static const alone *alone_of(stage *g, const live *like)
{
    alone *a = &g->known[like->kind][like->i_text][like->i_seed];
    mlxr_scheduler_options o = mlxr_scheduler_options_default();
    live job = *like;
    int32_t ids[MOST_PROMPT];
    mlxr_sequence_params p;
    mlxr_scheduler *s;
    mlxr_sequence *q;
    mlxr_error err;

    if (a->known) return a;
    job.n_new = MOST_NEW;
    p = params_of(g, &job, ids);
    if (job.kind != SHIFTED && p.n_ids + MOST_NEW > SOAK_CONTEXT) p.max_tokens = -1;
    o.max_cached_bytes = 0;
    o.context_length = SOAK_CONTEXT;
    must(g, mlxr_scheduler_open(&s, g->device, g->program, &o, &err), &err);
    must(g, mlxr_scheduler_add(&q, s, &p, &err), &err);
    for (bool idle = false; !idle;) {
        const mlxr_step_result *r;
        size_t n;
        must(g, mlxr_scheduler_step(s, NULL, &r, &n, &idle, &err), &err);
        for (size_t i = 0; i < n; i++) {
            digest_result(g, &a->digest, &r[i]);
            if (r[i].kind == MLXR_RESULT_TOKEN && r[i].id >= 0) a->ids[a->n++] = r[i].id;
        }
    }
    mlxr_scheduler_close(s);
    a->known = true;
    return a;
}

/* ---- an episode ---- */

static void begin(stage *g, mlxr_scheduler *s, live *j)
{
    int32_t ids[MOST_PROMPT];
    mlxr_sequence_params p;
    mlxr_error err;
    mlxr_status st;

    *j = (live){.kind = (kind)(below(10) < 7 ? ANSWER : below(N_KINDS)),
                .i_text = below(N_TEXTS),
                .i_seed = below(N_SEEDS),
                .n_new = 1 + below(MOST_NEW)};
    if (j->kind == ANSWER && below(3) == 0) j->kind = FORMED;
    if (j->kind == EMBEDDED && !g->has_hidden) j->kind = ANSWER;
    p = params_of(g, j, ids);
    if (j->kind == SCORED || j->kind == EMBEDDED) p.max_tokens = (int64_t)(j->n_new = 0);
    if (j->kind == SHIFTED && below(2)) p.max_tokens = (int64_t)(j->n_new = MOST_NEW);
    p.ud = j;
    st = mlxr_scheduler_add(&j->seq, s, &p, &err);
    if (st != MLXR_OK) mlxr_matcher_free(p.matcher);
    if (st == MLXR_E_BUSY)
        j->seq = NULL;
    else
        must(g, st, &err);
}

static void fork_one(const stage *g, mlxr_scheduler *s, live *child, const live *parent)
{
    mlxr_fork_params f = {.sampling = mlxr_sampling_default(), .ud = child};
    mlxr_error err;
    mlxr_status st;

    *child = *parent;
    if (parent->n_got == 0) child->i_seed = below(N_SEEDS);
    f.seed = child->i_seed;
    if (child->i_seed == 0) f.sampling.temperature = 0;
    st = mlxr_scheduler_fork(&child->seq, s, parent->seq, &f, &err);
    if (st != MLXR_OK) child->seq = NULL;
    if (st == MLXR_E_BUSY) return;
    must(g, st, &err);
    n_forks++;
}

static void take(stage *g, mlxr_scheduler *s, const mlxr_step_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        live *j = r[i].ud;
        const alone *a = alone_of(g, j);

        if (r[i].sequence != j->seq) die(g, "a result is another sequence's");
        if (r[i].status != MLXR_OK) die(g, r[i].message);
        digest_result(g, &j->digest, &r[i]);
        if (r[i].kind == MLXR_RESULT_TOKEN && r[i].id >= 0) {
            if (j->n_got >= a->n || a->ids[j->n_got] != r[i].id) die(g, "a text is not as it is alone");
            j->n_got++;
        }
        if (!r[i].done) continue;
        if (j->kind <= FORMED) {
            if (j->n_got != (j->n_new < a->n ? j->n_new : a->n)) die(g, "a text is of another length");
        } else if (j->digest != a->digest) {
            die(g, "scores or hidden states are not as they are alone");
        }
        mlxr_scheduler_remove(s, j->seq);
        j->seq = NULL;
        n_done++;
    }
}

static void step(stage *g, mlxr_scheduler *s)
{
    const mlxr_step_result *r;
    const int cancelled = 1;
    bool lost = below(40) == 0;
    mlxr_error err;
    mlxr_status st;
    size_t n;

    if (lost && g->device == &g->fake.base) {
        if (below(2))
            g->fake.fail_runs = 1;
        else
            g->fake.cancel_runs = 1;
    }
    st = mlxr_scheduler_step(s,
                             g->device == &g->fake.base ? &g->fake.cancel
                             : lost                     ? &cancelled
                                                        : NULL,
                             &r, &n, NULL, &err);
    g->fake.cancel = g->fake.fail_runs = g->fake.cancel_runs = 0;
    n_steps++;
    if (st != MLXR_OK && (!lost || n != 0)) die(g, err.message);
    if (st != MLXR_OK)
        n_lost++;
    else
        take(g, s, r, n);
    must(g, mlxr_scheduler_check(s, &err), &err);
}

static void episode(stage *g, uint64_t until_ns)
{
    mlxr_scheduler_options o = mlxr_scheduler_options_default();
    static live jobs[MOST_LIVE];
    mlxr_scheduler_stats stats;
    mlxr_scheduler *s;
    mlxr_error err;
    size_t n_left = 1, pressure = 1 + below(6);

    o.context_length = SOAK_CONTEXT;
    o.max_tokens_per_step = 1 + below(below(2) ? 20 : 300);
    o.max_sequences = 1 + below(20);
    o.max_waiting = below(30);
    o.max_kv_tokens = SOAK_CONTEXT * (1 + below(below(2) ? 3 : 20));
    o.snapshot_blocks = below(4);
    must(g, mlxr_scheduler_open(&s, g->device, g->program, &o, &err), &err);
    stats = mlxr_scheduler_get_stats(s);
    if (below(3) == 0) { /* again, with a limit */
        mlxr_scheduler_close(s);
        o.max_cached_bytes = (stats.block_bytes + stats.snapshot_bytes) * below(20);
        must(g, mlxr_scheduler_open(&s, g->device, g->program, &o, &err), &err);
    }
    memset(jobs, 0, sizeof jobs);
    for (size_t k = 0; k < 1500 && mlxr_now_ns() < until_ns; k++) {
        live *j = &jobs[below(MOST_LIVE)], *other = &jobs[below(MOST_LIVE)];
        size_t what = below(20);
        if (what < pressure && !j->seq) {
            begin(g, s, j);
        } else if (what == 18 && j->seq && below(2)) {
            mlxr_scheduler_remove(s, j->seq);
            j->seq = NULL;
            n_cancelled++;
        } else if (what == 19 && j->seq && !other->seq && j->kind <= FORMED) {
            fork_one(g, s, other, j);
        } else if (what == 17 && below(100) == 0) {
            mlxr_scheduler_clear_cache(s);
        } else if (what == 16 && below(100) == 0) {
            mlxr_masker_trim(g->masker, 1000 * below(100));
        }
        step(g, s);
    }
    for (size_t k = 0; k < MOST_LIVE;
         k++) /* some end by themselves, some are removed, some with the scheduler */
        if (jobs[k].seq && below(3) == 0) {
            mlxr_scheduler_remove(s, jobs[k].seq);
            jobs[k].seq = NULL;
        }
    if (below(4)) {
        for (size_t guard = 0; n_left > 0; guard++) {
            step(g, s);
            n_left = 0;
            for (size_t k = 0; k < MOST_LIVE; k++) n_left += jobs[k].seq != NULL;
            if (guard > 200000) die(g, "sequences do not come to their end");
        }
        stats = mlxr_scheduler_get_stats(s);
        if (stats.n_blocks_used || stats.n_running || stats.n_waiting) die(g, "something is left");
    }
    stats = mlxr_scheduler_get_stats(s);
    n_preempted += stats.n_preemptions;
    n_evicted += stats.n_evicted_blocks;
    n_hits += stats.n_hit_tokens;
    mlxr_scheduler_close(s);
}

/* ---- stages ---- */

static bool open_stage(stage *g, size_t i)
{
    static const struct {
        const char *name, *model;
        size_t n_threads;
        bool recurrent, shares;
    } stages[] = {
        {"made", NULL, 0, false, true},
        {"made, recurrent", NULL, 0, true, true},
        {"made, nothing shared", NULL, 0, true, false},
        {"qwen3_q4", "qwen3_q4", 2, false, true},
        {"qwen3_5_q4", "qwen3_5_q4", 2, false, true},
    };
    mlxr_device_options options = {0};
    mlxr_error err;
    char path[4096];

    if (i >= MLXR_COUNT(stages)) return false;
    memset(g, 0, sizeof *g);
    g->name = stages[i].name;
    if (!stages[i].model) {
        fake_init(&g->fake, stages[i].recurrent, stages[i].shares);
        g->device = &g->fake.base;
        g->program = &g->fake.program;
        g->has_hidden = true;
        make_grammar(g);
        return true;
    }
    snprintf(path, sizeof path, "%s/tests/model/models/%s", MLXR_SOURCE_DIR, stages[i].model);
    must(g, mlxr_model_open(&g->model, path, &err), &err);
    g->program = mlxr_model_program(g->model);
    g->has_hidden = g->program->hidden != MLXR_NONE;
    make_grammar(g);
    options.n_threads = stages[i].n_threads;
    must(g, mlxr_device_open(&g->device, "cpu", &options, &err), &err);
    return true;
}

static void close_stage(stage *g)
{
    if (g->model) mlxr_device_close(g->device);
    mlxr_model_close(g->model);
    mlxr_masker_free(g->masker);
    mlxr_vocabulary_free(g->vocabulary);
    mlxr_grammar_unref(g->grammar);
}

int main(int argc, char **argv)
{
    static stage stages[8];
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 5, end;
    size_t n = 0, n_episodes = 0;

    random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : mlxr_now_ns();
    printf("soak: seed %llu\n", (unsigned long long)random_state);
    fflush(stdout);
    while (n < MLXR_COUNT(stages) && open_stage(&stages[n], n)) n++;
    end = mlxr_now_ns() + seconds * 1000000000u;
    for (; mlxr_now_ns() < end || n_episodes < n; n_episodes++) {
        uint64_t slice = mlxr_now_ns() + 2000000000u;
        if (slice > end) slice = end;
        if (slice < mlxr_now_ns() + 200000000u) slice = mlxr_now_ns() + 200000000u;
        episode(&stages[n_episodes % n], slice);
    }
    for (size_t i = 0; i < n; i++) close_stage(&stages[i]);
    printf("soak: %zu episodes, %llu steps, %llu ended, %llu cancelled, %llu forks, %llu lost steps, %llu "
           "preempted, "
           "%llu blocks evicted, %llu tokens from prefixes\n",
           n_episodes, (unsigned long long)n_steps, (unsigned long long)n_done,
           (unsigned long long)n_cancelled, (unsigned long long)n_forks, (unsigned long long)n_lost,
           (unsigned long long)n_preempted, (unsigned long long)n_evicted, (unsigned long long)n_hits);
    return 0;
}
