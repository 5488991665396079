/* mlxctl render: template contexts in, prompts out, one JSON object a line each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "jsonl.h"
#include "runner/prompt.h"
#include "text/chat_template.h"

struct render {
    const mlxr_chat_template *ct;
    const char *name;
    int64_t now;
    mlxr_status broken; /* the template itself is at fault, and so is every request */
    const char *why;
    uint64_t n_rendered, bytes, ns;
};

/* The time strftime_now shows: SOURCE_DATE_EPOCH when it is set, so that runs can be repeated. */
static bool the_time(int64_t *now)
{
    const char *s = getenv("SOURCE_DATE_EPOCH");
    char *end;
    long long v;
    *now = (int64_t)time(NULL);
    if (!s || !*s) return true;
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno || *end) return false;
    *now = v;
    return true;
}

static mlxr_status answer(void *ud, const char *line, size_t n_line, mlxr_buf *out, mlxr_error *err)
{
    struct render *r = ud;
    char *text = NULL;
    size_t n = 0;
    uint64_t from = mlxr_now_ns();
    mlxr_status st;

    if (r->broken != MLXR_OK) return mlxr_fail(err, r->broken, "%s", r->why);
    st = mlxr_chat_template_render_text(&text, &n, r->ct, line, n_line, r->name, r->now, NULL, err);
    r->ns += mlxr_now_ns() - from;
    if (st != MLXR_OK) return st;
    mlxr_buf_str(out, "{\"prompt\": ");
    mlxr_json_escape(out, text, mlxr_utf8_valid(text, n));
    mlxr_buf_char(out, '}');
    r->n_rendered++;
    r->bytes += n;
    mlxr_free(text);
    return MLXR_OK;
}

/* A folder without a template renders as mlx-demo prompts it: with the built-in Llama prompt. */
static mlxr_status open_template(mlxr_chat_template **out, const char *path, mlxr_error *err)
{
    mlxr_tokenizer *tok = NULL;
    mlxr_status st = mlxr_chat_template_open(out, path, err);

    if (st != MLXR_E_NOT_FOUND || !mlxr_path_is_dir(path)) return st;
    if ((st = mlxr_tokenizer_open(&tok, path, err)) == MLXR_OK)
        st = mlxr_chat_template_open_with(out, path, mlxr_prompt_llama_source(tok), err);
    mlxr_tokenizer_close(tok);
    return st;
}

int cmd_render(int argc, char **argv)
{
    const char *model_paths = NULL, *args[1];
    struct render r = {0};
    bool stats = false;
    const struct cli_option options[] = {
        {"template", CLI_STRING, "NAME", &r.name, 0, 0,
         "which of a folder's templates (default: as transformers chooses)"},
        {"stats", CLI_FLAG, NULL, &stats, 0, 0, "counts and times on standard error at the end"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl render smollm2 < contexts.jsonl", "prompts out of messages", NULL},
        {"echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | mlxctl render chat.jinja",
         "with a template that is being written", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl render",
        .synopsis = "MODEL|FILE.jinja [--template NAME] [--stats] < contexts.jsonl",
        .summary =
            "Renders chat templates, a JSON object a line on standard input and output: a template's\n"
            "context {\"messages\": [...], \"tools\": [...], \"add_generation_prompt\": true, ...} gives\n"
            "{\"prompt\": ...}; one that fails gives {\"error\": ...}. strftime_now shows the time of\n"
            "SOURCE_DATE_EPOCH, if that is set, in the time zone TZ.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_chat_template *ct = NULL;
    mlxr_error err = {0};
    uint64_t open_ns;
    size_t n_args, n_errors;
    char *path = NULL;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL or FILE.jinja is needed");
    if (!the_time(&r.now)) {
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "SOURCE_DATE_EPOCH is not a number of seconds");
        return cli_fail(cli.program, &err);
    }
    tzset();
    open_ns = mlxr_now_ns();
    if (cli_model_file_or_dir(&path, args[0], model_paths, &err) != MLXR_OK)
        return cli_fail(cli.program, &err);
    r.broken = open_template(&ct, path, &err);
    if (r.broken != MLXR_OK && r.broken != MLXR_E_TEMPLATE && r.broken != MLXR_E_LIMIT &&
        r.broken != MLXR_E_UNSUPPORTED) {
        free(path);
        return cli_fail(cli.program, &err);
    }
    open_ns = mlxr_now_ns() - open_ns;
    r.ct = ct;
    r.why = err.message;
    code = jsonl_serve(cli.program, answer, &r, &n_errors);
    if (stats)
        fprintf(stderr, "compiled in %.3f ms; %llu rendered, %zu failed, %llu bytes in %.3f ms\n",
                (double)open_ns / 1e6, (unsigned long long)r.n_rendered, n_errors,
                (unsigned long long)r.bytes, (double)r.ns / 1e6);
    mlxr_chat_template_close(ct);
    free(path);
    return code;
}
