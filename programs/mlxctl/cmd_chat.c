/* mlxctl chat MODEL: a conversation. Every turn goes through the chat template as a whole, so the engine finds the turns
 * before it in its prefix cache. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "chat.h"
#include "runner/settings.h"

/* ---- Ctrl-C: state of the process, since a handler has no other way to it ---- */

static volatile int interrupted;
static struct answerer *volatile answering;
static struct lines *volatile reading;

static void on_interrupt(int sig)
{
    (void)sig;
    __atomic_store_n(&interrupted, 1, __ATOMIC_RELAXED);
    answerer_cancel(answering);
    lines_wake(reading);
}

/* ---- a turn ---- */

struct turn {
    struct answerer *answerer;
    mlxr_buf text, thinking, line; /* the answer; what is written of an event */
    struct shown shown;
    int write_errno;
};

static void on_event(const mlxr_event *ev, void *ud)
{
    struct turn *t = ud;

    if (ev->type == MLXR_EVENT_TOKEN)
        mlxr_buf_append(ev->part == MLXR_PART_THINKING ? &t->thinking : &t->text, ev->text, ev->n_text);
    t->line.len = 0;
    generate_show(&t->line, &t->shown, ev);
    if (t->line.len && !t->write_errno &&
        (fwrite(t->line.data, 1, t->line.len, stdout) != t->line.len || fflush(stdout) != 0))
        t->write_errno = errno ? errno : EIO;
    /* A Ctrl-C before the request began is seen here. */
    if (t->write_errno || mlxr_cancelled(&interrupted)) answerer_cancel(t->answerer);
}

static bool add_message(json_t *messages, const char *role, const char *content)
{
    json_t *m = json_pack("{s:s, s:s}", "role", role, "content", content);
    return m && json_array_append_new(messages, m) == 0;
}

/* What the model thought before its last message: its template decides whether it sees it again. */
static bool add_thinking(json_t *messages, const mlxr_buf *thinking)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);

    return !thinking->len ||
           (!thinking->failed &&
            json_object_set_new(last, "reasoning_content", json_stringn(thinking->data, thinking->len)) == 0);
}

/* The whole conversation as the template takes it; free it. */
static char *messages_text(const struct chat *c)
{
    json_t *all = json_array();
    char *text = NULL;

    if (all && (!c->system || !*c->system || add_message(all, "system", c->system)) &&
        json_array_extend(all, c->messages) == 0)
        text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

static mlxr_status ask(struct chat *c, struct turn *t, mlxr_stats *stats, mlxr_error *err)
{
    mlxr_engine *engine = answerer_engine(c->answerer);
    mlxr_request request = mlxr_request_default();
    char *messages = messages_text(c);
    mlxr_status st;

    if (!messages) return mlxr_fail_nomem(err, "chat");
    request.messages_json = messages;
    if (engine) {
        request.sampling = mlxr_engine_sampling_default(engine);
        mlxr_settings_apply(mlxr_engine_settings(engine), &request);
        request.system = c->system; /* "": none, not the model's own either */
    }
    st = parameters_apply(&c->parameters, &request, err);
    request.n_choices = 1;
    request.parts = true;
    request.think = c->think;
    if (st == MLXR_OK) {
        __atomic_store_n(&interrupted, 0, __ATOMIC_RELAXED);
        answering = c->answerer;
        st = answerer_generate(c->answerer, &request, &c->parameters, on_event, t, stats, err);
        answering = NULL;
    }
    free(messages);
    return st;
}

/* false: standard output is gone. */
static bool take_turn(struct chat *c, const char *text)
{
    struct turn t = {.answerer = c->answerer,
                     .shown.terminal = lines_interactive(c->lines) && isatty(STDOUT_FILENO)};
    mlxr_stats stats = {0};
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    if (mlxr_utf8_valid(text, strlen(text)) != strlen(text))
        st = mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "chat: not valid UTF-8 from byte %zu on",
                       mlxr_utf8_valid(text, strlen(text)));
    else if (!add_message(c->messages, "user", text))
        st = mlxr_fail_nomem(&err, "chat");
    if (st == MLXR_OK) {
        st = ask(c, &t, &stats, &err);
        /* An answer that was stopped stays as far as it went; a question without an answer is taken back, so that the
         * parts still take turns. */
        if (t.text.len && !t.text.failed && (st == MLXR_OK || st == MLXR_E_CANCELLED)) {
            if (!add_message(c->messages, "assistant", t.text.data) ||
                !add_thinking(c->messages, &t.thinking))
                st = mlxr_fail_nomem(&err, "chat");
        } else if (st != MLXR_OK) {
            json_array_remove(c->messages, json_array_size(c->messages) - 1);
        } else if (!add_message(c->messages, "assistant", "")) {
            st = mlxr_fail_nomem(&err, "chat");
        }
    }
    if (!t.write_errno) {
        t.line.len = 0;
        generate_show_end(&t.line, &t.shown);
        if (t.line.len) fwrite(t.line.data, 1, t.line.len, stdout);
        putchar('\n');
        if (lines_interactive(c->lines)) putchar('\n');
        if (fflush(stdout) != 0) t.write_errno = errno;
    }
    if (st != MLXR_OK && st != MLXR_E_CANCELLED) {
        cli_fail(c->model.program, &err);
        if (!lines_interactive(c->lines)) c->failed = true;
    } else if (c->verbose) {
        generate_print_stats(stderr, st == MLXR_OK ? "done" : "stopped", &stats,
                             answerer_device_name(c->answerer));
    }
    if (t.write_errno)
        fprintf(stderr, "%s: cannot write the answer: %s\n", c->model.program, strerror(t.write_errno));
    mlxr_buf_clear(&t.text);
    mlxr_buf_clear(&t.thinking);
    mlxr_buf_clear(&t.line);
    return !t.write_errno;
}

/* ---- the conversation ---- */

/* A text of several lines that was pasted is a message, whatever it begins with, unless quotes hold its lines together. */
static bool is_command(const char *line)
{
    return line[0] == '/' && (!strchr(line, '\n') || strstr(line, "\"\"\""));
}

static int converse(struct chat *c)
{
    bool interactive = lines_interactive(c->lines);

    if (interactive)
        printf("Talk to %s; /help tells more, Ctrl-D ends.\n", c->model.model ? c->model.model : "mock");
    for (;;) {
        const char *line;
        char *text;
        bool go_on = true;
        enum lines_result r;
        __atomic_store_n(&interrupted, 0, __ATOMIC_RELAXED);
        r = lines_read(c->lines, ">>> ", &line);
        if (r == LINES_INTERRUPTED) {
            if (!interactive) return 128 + SIGINT;
            printf("\nCtrl-D or /bye ends.\n");
            continue;
        }
        if (r == LINES_END) break;
        if (*line && c->remembers) lines_remember(c->lines, line);
        if (strspn(line, " \t") == strlen(line)) continue;
        if (is_command(line)) {
            char *command = mlxr_strdup(line); /* it may read more lines */
            go_on = command && chat_command(c, command);
            free(command);
        } else if ((text = chat_block(c, line)) != NULL) {
            if (*text) go_on = take_turn(c, text);
            if (!go_on) c->failed = true;
            free(text);
        } else if (interactive) {
            printf("\n");
        }
        if (!go_on) break;
    }
    if (interactive) printf("\n");
    return c->failed ? CLI_EXIT_FAILED : 0;
}

static int run(struct chat *c)
{
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    char *cache = cli_cache_dir(), *root = cache ? mlxr_path_dirname(cache) : NULL;
    char *history = NULL;
    mlxr_error err = {0};
    int code = CLI_EXIT_FAILED;

    signal(SIGPIPE, SIG_IGN);
    if (root && mlxr_make_dirs(root, NULL) == MLXR_OK) history = mlxr_path_join(root, "chat_history");
    c->messages = json_array();
    c->lines = lines_open(history, &interrupted);
    if (!c->messages || !c->lines) {
        mlxr_fail_nomem(&err, "chat");
        cli_fail(c->model.program, &err);
    } else if (answerer_open(&c->answerer, &c->model, &err) != MLXR_OK ||
               answerer_load(c->answerer, &err) != MLXR_OK) {
        cli_fail(c->model.program, &err);
    } else {
        reading = c->lines;
        sigemptyset(&sa.sa_mask);
        sigaction(SIGINT, &sa, NULL);
        code = converse(c);
        signal(SIGINT, SIG_DFL);
        reading = NULL;
    }
    answerer_close(c->answerer);
    lines_close(c->lines);
    json_decref(c->messages);
    free(history);
    free(root);
    free(cache);
    return code;
}

int cmd_chat(int argc, char **argv)
{
    enum { N_OWN = 2, N_OPTIONS = MODEL_N_OPTIONS + PARAMETERS_N + DAEMON_N_OPTIONS + N_OWN };
    struct chat c = {.remembers = true, .interrupted = &interrupted};
    const char *system = NULL, *think = NULL, *args[1] = {0};
    struct cli_option table[N_OPTIONS] = {
        {"system", CLI_STRING, "TEXT", &system, 0, 0, "system text"},
        {"think", CLI_CHOICE, "off|on|low|medium|high", &think, 0, 0,
         "thinking before an answer (default: as the chat template has it)"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl chat smollm2", "a conversation; Ctrl-D ends it", NULL},
        {"printf 'Hello\\n/bye\\n' | mlxctl chat smollm2 --system 'Be short.'", "lines of a script", NULL},
        {"mlxctl chat smollm2 --host 127.0.0.1:11434", "with a daemon", "daemon"},
    };
    const struct cli cli = {
        .program = "mlxctl chat",
        .synopsis = "MODEL [options]",
        .summary = "A conversation with a model, with line editing and a history on a terminal, line by line "
                   "from a pipe. Sampling is the model's own (generation_config.json) where no option says "
                   "otherwise. /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends. A daemon that "
                   "--host or the environment names, or that serves the store, answers instead of this "
                   "process (mlxctl ps).",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    size_t n_args;
    int code;

    model_options_init(&c.model, cli.program);
    parameters_init(&c.parameters);
    parameters_options(table + N_OWN, &c.parameters);
    model_option_table(table + N_OWN + PARAMETERS_N, &c.model);
    daemon_option_table(table + N_OWN + PARAMETERS_N + MODEL_N_OPTIONS, &c.model);
    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (!c.model.model && n_args > 0)
        c.model.model = args[0];
    else if (n_args > 0)
        return cli_usage(&cli, "unexpected argument \"%s\"", args[0]);
    if (!c.model.model && strcmp(c.model.runner, "mock") != 0) return cli_usage(&cli, "MODEL is missing");
    if (c.model.host && c.model.local) return cli_usage(&cli, "--host and --local are both given");
    c.verbose = c.model.verbose;
    if (think) form_think(&c.think, think);
    if (system && !(c.system = mlxr_strdup(system))) return CLI_EXIT_FAILED;
    code = run(&c);
    free(c.system);
    mlxr_arena_clear(&c.texts);
    return code;
}
