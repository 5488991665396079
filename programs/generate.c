/* generate: see generate.h. */
#include "generate.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answerer.h"
#include "base/fs.h"
#include "base/json.h"
#include "daemon.h"
#include "runner/settings.h"

/* ---- options ---- */

static const double most = 2147483647.0;

void model_options_init(struct model_options *m, const char *program)
{
    *m = (struct model_options){.program = program, .runner = "local"};
}

void engine_option_table(struct cli_option table[ENGINE_N_OPTIONS], struct model_options *m)
{
    const struct cli_option options[] = {
        {"model-paths-json", CLI_STRING, "FILE", &m->paths_json, 0, 0,
         "model ids and their folders (default: " CLI_DEFAULT_PATHS ")"},
        {"device", CLI_STRING, "NAME", &m->device, 0, 0, CLI_DEVICES},
        {"precision", CLI_CHOICE, "exact|fast", &m->precision, 0, 0,
         "exact: float32 throughout (default: fast, on mlx:cpu exact)"},
        {"kv", CLI_CHOICE, "f32|f16|int8", &m->kv, 0, 0, CLI_KV},
        {"threads", CLI_INT, "N", &m->threads, 0, 1024, "0: one a core (default)"},
        {"verbose", CLI_FLAG, NULL, &m->verbose, 0, 0, "tell about loading and times on standard error"},
    };
    _Static_assert(MLXR_COUNT(options) == ENGINE_N_OPTIONS, "the table's size");
    memcpy(table, options, sizeof options);
}

void model_option_table(struct cli_option table[MODEL_N_OPTIONS], struct model_options *m)
{
    const struct cli_option own[] = {
        {"runner", CLI_CHOICE, "mock|local", &m->runner, 0, 0,
         "local: a model folder (default); mock: no model"},
        {"model", CLI_STRING, "ID", &m->model, 0, 0, "a model folder or an id (default: the file's first)"},
        {"context", CLI_INT, "N", &m->context, 0, most,
         "tokens of prompt and answer (0: the model's, at most 8192)"},
        {"mock-token-ms", CLI_INT, "MS", &m->mock_token_ms, 0, 60000, "mock: a pause before each token"},
    };
    _Static_assert(MLXR_COUNT(own) + ENGINE_N_OPTIONS == MODEL_N_OPTIONS, "the table's size");
    memcpy(table, own, sizeof own);
    engine_option_table(table + MLXR_COUNT(own), m);
}

void daemon_option_table(struct cli_option table[DAEMON_N_OPTIONS], struct model_options *m)
{
    const struct cli_option options[] = {
        {"host", CLI_STRING, "HOST", &m->host, 0, 0, DAEMON_HOST_HELP},
        {"local", CLI_FLAG, NULL, &m->local, 0, 0,
         "answer in this process, also where a daemon serves the store"},
    };
    _Static_assert(MLXR_COUNT(options) == DAEMON_N_OPTIONS, "the table's size");
    memcpy(table, options, sizeof options);
    m->may_ask_daemon = true;
}

void generate_options_init(struct generate_options *g, const char *program)
{
    *g = (struct generate_options){.logprobs = -1};
    model_options_init(&g->model, program);
    parameters_init(&g->parameters);
}

void generate_option_table(struct cli_option table[GENERATE_N_OPTIONS], struct generate_options *g)
{
    const struct cli_option own[] = {
        {"prompt", CLI_STRING, "TEXT", &g->prompt, 0, 0, "what to ask; - reads standard input"},
        {"system", CLI_STRING, "TEXT", &g->system, 0, 0, "system text"},
        {"raw", CLI_FLAG, NULL, &g->raw, 0, 0, "the prompt as it is, without the chat template"},
        {"ignore-eos", CLI_FLAG, NULL, &g->ignore_eos, 0, 0, "go on past the end-of-text token"},
        {"json", CLI_FLAG, NULL, &g->json, 0, 0, "events as JSON, one a line, instead of text"},
        {"logprobs", CLI_INT, "N", &g->logprobs, 0, MLXR_MAX_TOP_LOGPROBS,
         "with --json: log-probabilities of each token and the N likeliest"},
    };
    _Static_assert(MLXR_COUNT(own) + MODEL_N_OPTIONS + PARAMETERS_N + FORM_N_OPTIONS == GENERATE_N_OPTIONS,
                   "the table's size");

    memcpy(table, own, sizeof own);
    form_option_table(table + MLXR_COUNT(own), &g->form);
    parameters_options(table + MLXR_COUNT(own) + FORM_N_OPTIONS, &g->parameters);
    model_option_table(table + MLXR_COUNT(own) + FORM_N_OPTIONS + PARAMETERS_N, &g->model);
}

/* ---- model ---- */

/* A model of the store may be removed by another process while it is opened; what was not found by then would count as absent. Asked once,
 * since it may be back the next moment. */
static bool is_gone(const char *dir, const char *model, mlxr_status *st, mlxr_error *err)
{
    if (mlxr_path_is_dir(dir)) return false;
    *st = mlxr_fail(err, MLXR_E_NOT_FOUND,
                    "no such model any more: model \"%s\" was removed while it was opened",
                    model ? model : dir);
    return true;
}

mlxr_status model_open(mlxr_runner **out, const struct model_options *m, mlxr_error *err)
{
    mlxr_runner_options options = mlxr_runner_options_default();
    bool mock = strcmp(m->runner, "mock") == 0;
    char *dir = NULL, *cache_dir;
    mlxr_status st;

    *out = NULL;
    if (!mock && (st = cli_model_dir(&dir, m->model, m->paths_json, err)) != MLXR_OK) return st;
    cache_dir = cli_cache_dir();
    options.adapter = mock ? "mock" : "native";
    if (m->device) options.device = m->device;
    options.isa = cli_isa();
    options.mlx_library = cli_mlx_library();
    options.cache_dir = cache_dir;
    options.precision = cli_precision(m->precision);
    options.kv_type = cli_kv_type(m->kv);
    options.n_threads = (int32_t)m->threads;
    options.context_length = (size_t)m->context;
    options.mock_token_ms = (uint32_t)m->mock_token_ms;
    options.log = cli_log(m->program, m->verbose);
    options.progress = cli_progress("loading");
    st = mlxr_runner_open(out, mock ? "mock" : dir, &options, err);
    if (!mock && is_gone(dir, m->model, &st, err)) {
        mlxr_runner_close(*out);
        *out = NULL;
    }
    free(cache_dir);
    free(dir);
    return st;
}

mlxr_status engine_open(mlxr_engine **out, const struct model_options *m, mlxr_error *err)
{
    mlxr_engine_options options = mlxr_engine_options_default();
    char *dir, *cache_dir;
    mlxr_status st;

    *out = NULL;
    if ((st = cli_model_dir(&dir, m->model, m->paths_json, err)) != MLXR_OK) return st;
    cache_dir = cli_cache_dir();
    if (m->device) options.device = m->device;
    options.isa = cli_isa();
    options.mlx_library = cli_mlx_library();
    options.cache_dir = cache_dir;
    options.precision = cli_precision(m->precision);
    options.kv_type = cli_kv_type(m->kv);
    options.n_threads = (int32_t)m->threads;
    options.context_length = (size_t)m->context;
    options.log = cli_log(m->program, m->verbose);
    options.progress = cli_progress("loading");
    st = mlxr_engine_open(out, dir, &options, err);
    if (is_gone(dir, m->model, &st, err)) {
        mlxr_engine_close(*out);
        *out = NULL;
    }
    free(cache_dir);
    free(dir);
    return st;
}

/* ---- output ---- */

struct output {
    struct answerer *answerer;
    const char *program;
    bool json, apart; /* apart: choices are told when they are whole */
    struct shown shown;
    mlxr_buf line;
    int write_errno; /* the first error of standard output */
};

static void cancel_answer(void *ud)
{
    answerer_cancel(ud);
}

static double milliseconds(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void json_call(mlxr_buf *b, const mlxr_tool_call *c)
{
    mlxr_buf_printf(b, "{\"index\": %zu, \"name\": ", c->index);
    mlxr_json_escape(b, c->name, strlen(c->name));
    if (c->id) {
        mlxr_buf_str(b, ", \"id\": ");
        mlxr_json_escape(b, c->id, strlen(c->id));
    }
    if (c->arguments) mlxr_buf_printf(b, ", \"arguments\": %s", c->arguments);
    mlxr_buf_char(b, '}');
}

static void json_token(mlxr_buf *b, const char *before, const char *text)
{
    mlxr_buf_printf(b, "%s\"token\": ", before);
    mlxr_json_escape(b, text ? text : "", text ? strlen(text) : 0);
}

/* One event as a JSON object. texts: where tokens have no ids, else NULL. */
static void json_line(mlxr_buf *b, const mlxr_event *ev, const struct token_texts *texts)
{
    bool token = ev->type == MLXR_EVENT_TOKEN;
    const mlxr_stats *s = ev->stats;

    mlxr_buf_printf(b, "{\"event\": \"%s\", \"choice\": %d",
                    token ? "token"
                    : s   ? "completed"
                          : "tool_call",
                    (int)ev->choice);
    if (token || s) {
        mlxr_buf_str(b, ", \"text\": ");
        mlxr_json_escape(b, ev->text, ev->n_text);
    }
    if (ev->part != MLXR_PART_CONTENT) mlxr_buf_printf(b, ", \"part\": \"%s\"", mlxr_part_name(ev->part));
    if (ev->call) {
        mlxr_buf_str(b, ", \"call\": ");
        json_call(b, ev->call);
    }
    if (ev->n_thinking) {
        mlxr_buf_str(b, ", \"thinking\": ");
        mlxr_json_escape(b, ev->thinking, ev->n_thinking);
    }
    for (size_t i = 0; i < ev->n_calls; i++) {
        mlxr_buf_str(b, i ? ", " : ", \"tool_calls\": [");
        json_call(b, &ev->calls[i]);
    }
    if (ev->n_calls) mlxr_buf_char(b, ']');
    if (ev->warning) {
        mlxr_buf_str(b, ", \"warning\": ");
        mlxr_json_escape(b, ev->warning, strlen(ev->warning));
    }
    if (token && ev->id >= 0) mlxr_buf_printf(b, ", \"id\": %d", (int)ev->id);
    if (ev->has_logprob) {
        if (texts) json_token(b, ", ", texts->token);
        mlxr_buf_printf(b, ", \"logprob\": %.9g, \"top\": [", ev->logprob);
        for (size_t i = 0; i < ev->n_top; i++) {
            mlxr_buf_str(b, i ? ", {" : "{");
            if (texts)
                json_token(b, "", texts->top[i]);
            else
                mlxr_buf_printf(b, "\"id\": %d", (int)ev->top[i].id);
            mlxr_buf_printf(b, ", \"logprob\": %.9g}", ev->top[i].logprob);
        }
        mlxr_buf_char(b, ']');
    }
    if (s)
        mlxr_buf_printf(b,
                        ", \"done_reason\": \"%s\", \"prompt_tokens\": %zu, \"cached_tokens\": %zu, "
                        "\"dropped_tokens\": %zu, \"generated_tokens\": %zu, \"queue_ms\": %.3f, "
                        "\"prefill_ms\": %.3f, \"decode_ms\": %.3f, \"load_ms\": %.3f",
                        mlxr_done_reason_name(s->done_reason), s->prompt_token_count, s->cached_token_count,
                        s->dropped_token_count, s->generated_token_count, milliseconds(s->queue_ns),
                        milliseconds(s->prefill_ns), milliseconds(s->decode_ns), milliseconds(s->load_ns));
    mlxr_buf_str(b, "}\n");
}

static void write_out(struct output *o, const char *text, size_t n)
{
    if (!o->write_errno && n > 0 && (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0))
        o->write_errno = errno ? errno : EIO;
}

static void on_event(const mlxr_event *event, void *ud)
{
    struct output *o = ud;

    if (o->json) {
        o->line.len = 0;
        json_line(&o->line, event, answerer_token_texts(o->answerer));
        if (o->line.failed) o->write_errno = ENOMEM;
        write_out(o, o->line.data, o->line.len);
    } else if (o->apart && event->type == MLXR_EVENT_COMPLETED) {
        struct shown calls = {0};
        o->line.len = 0;
        mlxr_buf_printf(&o->line, "[choice %d]\n", (int)event->choice);
        mlxr_buf_append(&o->line, event->text, event->n_text);
        for (size_t i = 0; i < event->n_calls; i++) {
            const mlxr_event call = {.type = MLXR_EVENT_TOOL_CALL, .call = &event->calls[i]};
            calls.any = i > 0 || event->n_text > 0;
            generate_show(&o->line, &calls, &call);
        }
        mlxr_buf_char(&o->line, '\n');
        if (o->line.failed) o->write_errno = ENOMEM;
        write_out(o, o->line.data, o->line.len);
    } else if (!o->apart) {
        o->line.len = 0;
        generate_show(&o->line, &o->shown, event);
        if (o->line.failed) o->write_errno = ENOMEM;
        write_out(o, o->line.data, o->line.len);
    }
    if (!o->json && event->type == MLXR_EVENT_COMPLETED && event->warning)
        fprintf(stderr, "%s: warning: %s\n", o->program, event->warning);
    /* A signal that came before generate began is only seen here. */
    if (o->write_errno || cli_interrupted()) answerer_cancel(o->answerer);
}

void generate_show_end(mlxr_buf *out, struct shown *s)
{
    if (s->part == MLXR_PART_THINKING && s->terminal) mlxr_buf_str(out, "\033[0m");
    s->part = MLXR_PART_CONTENT;
}

void generate_show(mlxr_buf *out, struct shown *s, const mlxr_event *ev)
{
    static const char faint[] = "\033[2m";

    if (ev->type == MLXR_EVENT_TOOL_CALL) {
        generate_show_end(out, s);
        if (s->any) mlxr_buf_char(out, '\n');
        json_call(out, ev->call);
        s->any = true;
        s->part = MLXR_PART_TOOL_CALL;
        return;
    }
    if (ev->type != MLXR_EVENT_TOKEN || ev->n_text == 0 || ev->part == MLXR_PART_TOOL_CALL) return;
    if (ev->part == MLXR_PART_THINKING && !s->terminal) return;
    if (ev->part != s->part) {
        bool thought = s->part == MLXR_PART_THINKING;
        generate_show_end(out, s);
        if (s->any) mlxr_buf_str(out, thought ? "\n\n" : "\n");
        if (ev->part == MLXR_PART_THINKING) mlxr_buf_str(out, faint);
        s->part = ev->part;
    }
    mlxr_buf_append(out, ev->text, ev->n_text);
    s->any = true;
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

void generate_print_stats(FILE *to, const char *label, const mlxr_stats *s, const char *device)
{
    size_t n_decoded = s->generated_token_count > 1 ? s->generated_token_count - 1 : 0;
    size_t n_computed = s->prompt_token_count - s->cached_token_count;

    fprintf(to, "[%s] %zu tokens in %.2f s (%s): prompt %zu tokens", label, s->generated_token_count,
            seconds(s->duration_ns), mlxr_done_reason_name(s->done_reason), s->prompt_token_count);
    if (s->cached_token_count) fprintf(to, ", %zu of them known", s->cached_token_count);
    if (s->dropped_token_count) fprintf(to, ", %zu dropped", s->dropped_token_count);
    if (s->prefill_ns && n_computed && s->cached_token_count <= s->prompt_token_count)
        fprintf(to, " at %.1f/s", (double)n_computed / seconds(s->prefill_ns));
    if (n_decoded && s->decode_ns) fprintf(to, ", decode %.1f/s", (double)n_decoded / seconds(s->decode_ns));
    fprintf(to, ", load %.2f s, %s\n", seconds(s->load_ns), device);
}

/* ---- one prompt ---- */

static mlxr_status answer(struct generate_options *g, struct output *out, const char *prompt,
                          mlxr_stats *stats, mlxr_error *err)
{
    mlxr_request request = mlxr_request_default();
    struct parameters parameters = g->parameters, given = g->parameters;
    mlxr_status st;

    request.prompt = prompt;
    request.system = g->system;
    request.raw = g->raw;
    request.ignore_eos = g->ignore_eos;
    request.logprobs = g->logprobs >= 0;
    request.top_logprobs = g->logprobs > 0 ? (int32_t)g->logprobs : 0;
    parameters_default(&parameters, "max_tokens", "512");
    parameters_default(&parameters, "temperature", "0");
    if ((st = form_apply(&g->form, &request, err)) != MLXR_OK) return st;
    if ((st = parameters_apply(&parameters, &request, err)) != MLXR_OK) return st;
    out->apart = request.n_choices > 1 && !g->json;
    out->shown.terminal = isatty(STDOUT_FILENO);
    if ((st = answerer_open(&out->answerer, &g->model, err)) != MLXR_OK) return st;
    /* What the model's recipe says stands between this program's defaults and its options. */
    if (answerer_engine(out->answerer)) {
        mlxr_settings_apply(mlxr_engine_settings(answerer_engine(out->answerer)), &request);
        if ((st = parameters_apply(&given, &request, err)) != MLXR_OK) return st;
        out->apart = request.n_choices > 1 && !g->json;
    }
    cli_on_interrupt(cancel_answer, out->answerer);
    return answerer_generate(out->answerer, &request, &parameters, on_event, out, stats, err);
}

/* Whether someone piped or redirected something in, as opposed to a terminal, /dev/null or nothing at all. */
static bool is_piped(void)
{
    struct stat s;
    return fstat(STDIN_FILENO, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISREG(s.st_mode) || S_ISSOCK(s.st_mode));
}

/* The prompt, with what was piped in behind it. */
static mlxr_status whole_prompt(char **out, const struct generate_options *g, mlxr_error *err)
{
    char *given = NULL, *piped = NULL;
    mlxr_status st = cli_text(&given, g->prompt, err);

    *out = NULL;
    if (st == MLXR_OK && g->append_stdin && strcmp(g->prompt, "-") != 0 && is_piped())
        st = cli_text(&piped, "-", err);
    if (st == MLXR_OK && piped && *piped) {
        *out = mlxr_asprintf("%s\n\n%s", given, piped);
        if (!*out) st = mlxr_fail_nomem(err, "prompt");
    } else if (st == MLXR_OK) {
        *out = given;
        given = NULL;
    }
    free(given);
    free(piped);
    return st;
}

int generate_run(struct generate_options *g)
{
    struct output out = {.program = g->model.program, .json = g->json};
    const char *program = g->model.program;
    char *prompt = NULL;
    mlxr_stats stats = {0};
    mlxr_error err = {0};
    mlxr_status st;
    int code = 0;

    signal(SIGPIPE, SIG_IGN); /* a reader that left is a write error, told like any other */
    st = whole_prompt(&prompt, g, &err);
    if (st == MLXR_OK) st = answer(g, &out, prompt, &stats, &err);

    out.line.len = 0;
    generate_show_end(&out.line, &out.shown);
    write_out(&out, out.line.data, out.line.len);
    if (out.write_errno) {
        fprintf(stderr, "%s: cannot write the answer: %s\n", program, strerror(out.write_errno));
        code = CLI_EXIT_FAILED;
    } else if (st == MLXR_E_CANCELLED) {
        if (!g->json) putchar('\n');
        generate_print_stats(g->done_line && !g->json ? stdout : stderr, "cancelled", &stats,
                             answerer_device_name(out.answerer));
        code = cli_interrupted() ? 128 + cli_interrupted() : CLI_EXIT_FAILED;
    } else if (st != MLXR_OK) {
        if (stats.generated_token_count > 0 && !g->json) putchar('\n');
        fflush(stdout);
        code = cli_fail(program, &err);
    } else {
        if (!g->json && !out.apart) putchar('\n');
        if (g->done_line || g->model.verbose)
            generate_print_stats(g->done_line && !g->json ? stdout : stderr, "done", &stats,
                                 answerer_device_name(out.answerer));
    }
    if (!out.write_errno && fflush(stdout) != 0) {
        fprintf(stderr, "%s: cannot write the answer: %s\n", program, strerror(errno));
        code = CLI_EXIT_FAILED;
    }
    cli_on_interrupt(NULL, NULL);
    answerer_close(out.answerer);
    mlxr_buf_clear(&out.line);
    form_clear(&g->form);
    free(prompt);
    return code;
}
