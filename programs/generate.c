/* generate: see generate.h. */
#include "generate.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

void generate_options_init(struct generate_options *g, const char *program)
{
    mlxr_sampling s = mlxr_sampling_default();
    *g = (struct generate_options){.program = program,
                                   .runner = "local",
                                   .device = "cpu",
                                   .max_tokens = 512,
                                   .top_k = s.top_k,
                                   .repeat_last_n = s.repeat_last_n,
                                   .seed = s.seed,
                                   .temperature = 0,
                                   .top_p = (double)s.top_p,
                                   .min_p = (double)s.min_p,
                                   .repeat_penalty = (double)s.repeat_penalty};
}

void generate_option_table(struct cli_option table[GENERATE_N_OPTIONS], struct generate_options *g)
{
    const double most = 2147483647.0;
    const struct cli_option options[] = {
        {"runner", CLI_CHOICE, "mock|local", &g->runner, 0, 0,
         "local: a model folder (default); mock: no model"},
        {"model-paths-json", CLI_STRING, "FILE", &g->paths_json, 0, 0,
         "model ids and their folders (default: " CLI_DEFAULT_PATHS ")"},
        {"model", CLI_STRING, "ID", &g->model, 0, 0, "a model folder or an id (default: the file's first)"},
        {"prompt", CLI_STRING, "TEXT", &g->prompt, 0, 0, "what to ask; - reads standard input"},
        {"system", CLI_STRING, "TEXT", &g->system, 0, 0, "system text"},
        {"raw", CLI_FLAG, NULL, &g->raw, 0, 0, "the prompt as it is, without the chat template"},
        {"max-tokens", CLI_INT, "N", &g->max_tokens, -1, most,
         "most tokens to answer with (512; -1: context)"},
        {"temperature", CLI_REAL, "T", &g->temperature, 0, 100, "0: greedy (default)"},
        {"top-k", CLI_INT, "K", &g->top_k, 0, most, "sample from the K likeliest (40; 0: all)"},
        {"top-p", CLI_REAL, "P", &g->top_p, 0, 1, "... from the likeliest that hold P (0.9; 1: all)"},
        {"min-p", CLI_REAL, "P", &g->min_p, 0, 1, "... from those at least P times the likeliest (0)"},
        {"repeat-penalty", CLI_REAL, "R", &g->repeat_penalty, 0.001, 100,
         "against tokens seen lately (1: off)"},
        {"repeat-last-n", CLI_INT, "N", &g->repeat_last_n, -1, most,
         "how many tokens are lately (64; -1: all)"},
        {"seed", CLI_INT, "N", &g->seed, -1, 9007199254740992.0,
         "the same seed, the same answer (-1: random)"},
        {"stop", CLI_LIST, "TEXT", &g->stop, 0, 0, "end before this text; may be given again"},
        {"ignore-eos", CLI_FLAG, NULL, &g->ignore_eos, 0, 0, "go on past the end-of-text token"},
        {"device", CLI_STRING, "NAME", &g->device, 0, 0, CLI_DEVICES},
        {"precision", CLI_CHOICE, "exact|fast", &g->precision, 0, 0,
         "exact: float32 throughout (default: fast, on mlx:cpu exact)"},
        {"kv", CLI_CHOICE, "f32|f16|int8", &g->kv, 0, 0, CLI_KV},
        {"threads", CLI_INT, "N", &g->threads, 0, 1024, "0: one a core (default)"},
        {"context", CLI_INT, "N", &g->context, 0, most,
         "tokens of prompt and answer (0: the model's, at most 8192)"},
        {"mock-token-ms", CLI_INT, "MS", &g->mock_token_ms, 0, 60000, "mock: a pause before each token"},
        {"verbose", CLI_FLAG, NULL, &g->verbose, 0, 0, "tell about loading and times on standard error"},
    };
    _Static_assert(MLXR_COUNT(options) == GENERATE_N_OPTIONS, "the table's size");
    memcpy(table, options, sizeof options);
}

struct output {
    mlxr_runner *runner;
    int write_errno; /* the first error of standard output */
};

static void cancel_runner(void *ud)
{
    mlxr_runner_cancel(ud);
}

static void on_event(const mlxr_event *event, void *ud)
{
    struct output *o = ud;

    if (event->type != MLXR_EVENT_TOKEN) return;
    if (!o->write_errno && event->n_text > 0 &&
        (fwrite(event->text, 1, event->n_text, stdout) != event->n_text || fflush(stdout) != 0))
        o->write_errno = errno ? errno : EIO;
    /* A signal that came before generate began is only seen here. */
    if (o->write_errno || cli_interrupted()) mlxr_runner_cancel(o->runner);
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void print_stats(FILE *to, const char *label, const mlxr_stats *s, const char *device)
{
    size_t n_decoded = s->generated_token_count > 1 ? s->generated_token_count - 1 : 0;
    fprintf(to, "[%s] %zu tokens in %.2f s (%s): prompt %zu tokens", label, s->generated_token_count,
            seconds(s->duration_ns), mlxr_done_reason_name(s->done_reason), s->prompt_token_count);
    if (s->prefill_ns && s->prompt_token_count)
        fprintf(to, " at %.1f/s", (double)s->prompt_token_count / seconds(s->prefill_ns));
    if (n_decoded && s->decode_ns) fprintf(to, ", decode %.1f/s", (double)n_decoded / seconds(s->decode_ns));
    fprintf(to, ", load %.2f s, %s\n", seconds(s->load_ns), device);
}

static mlxr_status answer(const struct generate_options *g, struct output *out, const char *model,
                          const char *prompt, mlxr_stats *stats, mlxr_error *err)
{
    mlxr_runner_options options = mlxr_runner_options_default();
    char *cache_dir = cli_cache_dir();
    mlxr_request request = mlxr_request_default();
    mlxr_status st;

    options.adapter = strcmp(g->runner, "mock") == 0 ? "mock" : "native";
    options.device = g->device;
    options.isa = cli_isa();
    options.mlx_library = cli_mlx_library();
    options.cache_dir = cache_dir;
    options.precision = cli_precision(g->precision);
    options.kv_type = cli_kv_type(g->kv);
    options.n_threads = (int32_t)g->threads;
    options.context_length = (size_t)g->context;
    options.mock_token_ms = (uint32_t)g->mock_token_ms;
    options.log = cli_log(g->program, g->verbose);
    options.progress = cli_progress("loading");

    request.prompt = prompt;
    request.system = g->system;
    request.raw = g->raw;
    request.max_tokens = (int32_t)g->max_tokens;
    request.ignore_eos = g->ignore_eos;
    request.stop = g->stop.items;
    request.n_stop = g->stop.n;
    request.sampling.temperature = (float)g->temperature;
    request.sampling.top_k = (int32_t)g->top_k;
    request.sampling.top_p = (float)g->top_p;
    request.sampling.min_p = (float)g->min_p;
    request.sampling.repeat_penalty = (float)g->repeat_penalty;
    request.sampling.repeat_last_n = (int32_t)g->repeat_last_n;
    request.sampling.seed = g->seed;

    st = mlxr_runner_open(&out->runner, model, &options, err);
    free(cache_dir);
    if (st != MLXR_OK) return st;
    cli_on_interrupt(cancel_runner, out->runner);
    return mlxr_runner_generate(out->runner, &request, on_event, out, stats, err);
}

int generate_run(const struct generate_options *g)
{
    struct output out = {0};
    char *model = NULL, *prompt = NULL;
    mlxr_stats stats = {0};
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;
    int code = 0;

    signal(SIGPIPE, SIG_IGN); /* a reader that left is a write error, told like any other */
    if (strcmp(g->runner, "mock") != 0) st = cli_model_dir(&model, g->model, g->paths_json, &err);
    if (st == MLXR_OK) st = cli_text(&prompt, g->prompt, &err);
    if (st == MLXR_OK) st = answer(g, &out, model ? model : "mock", prompt, &stats, &err);

    if (out.write_errno) {
        fprintf(stderr, "%s: cannot write the answer: %s\n", g->program, strerror(out.write_errno));
        code = CLI_EXIT_FAILED;
    } else if (st == MLXR_E_CANCELLED) {
        putchar('\n');
        print_stats(g->done_line ? stdout : stderr, "cancelled", &stats, mlxr_runner_device_name(out.runner));
        code = cli_interrupted() ? 128 + cli_interrupted() : CLI_EXIT_FAILED;
    } else if (st != MLXR_OK) {
        if (stats.generated_token_count > 0) putchar('\n');
        fflush(stdout);
        code = cli_fail(g->program, &err);
    } else {
        putchar('\n');
        if (g->done_line || g->verbose)
            print_stats(g->done_line ? stdout : stderr, "done", &stats, mlxr_runner_device_name(out.runner));
    }
    if (!out.write_errno && fflush(stdout) != 0) {
        fprintf(stderr, "%s: cannot write the answer: %s\n", g->program, strerror(errno));
        code = CLI_EXIT_FAILED;
    }
    cli_on_interrupt(NULL, NULL);
    mlxr_runner_close(out.runner);
    free(model);
    free(prompt);
    return code;
}
