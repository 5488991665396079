/* mlxctl render: template contexts in, prompts out, one JSON object a line each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"
#include "mlxctl.h"
#include "runner/prompt.h"
#include "text/chat_template.h"

static const char usage[] =
    "usage: mlxctl render MODEL|FILE.jinja [--template NAME] [--stats] < contexts.jsonl\n";

typedef struct render_stats {
    uint64_t n_rendered, n_failed, bytes, open_ns, render_ns;
} render_stats;

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

static void answer(const char *key, const char *text, size_t n)
{
    mlxr_buf line = {0};
    size_t ok = mlxr_utf8_valid(text, n);
    mlxr_buf_printf(&line, "{\"%s\": ", key);
    mlxr_json_escape(&line, text, ok);
    mlxr_buf_str(&line, "}\n");
    if (line.failed)
        fputs("{\"error\": \"out of memory\"}\n", stdout);
    else
        fwrite(line.data, 1, line.len, stdout);
    mlxr_buf_clear(&line);
}

static void render_line(const mlxr_chat_template *ct, const char *name, const char *line, size_t n,
                        int64_t now, render_stats *stats)
{
    mlxr_error err = {0};
    char *text = NULL;
    size_t n_text;
    uint64_t t0 = mlxr_now_ns();
    mlxr_status st = mlxr_chat_template_render_text(&text, &n_text, ct, line, n, name, now, NULL, &err);

    stats->render_ns += mlxr_now_ns() - t0;
    if (st == MLXR_OK) {
        answer("prompt", text, n_text);
        stats->n_rendered++;
        stats->bytes += n_text;
    } else {
        answer("error", err.message, strlen(err.message));
        stats->n_failed++;
    }
    mlxr_free(text);
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
    const char *model = NULL, *name = NULL;
    bool with_stats = false;
    mlxr_chat_template *ct = NULL;
    render_stats stats = {0};
    mlxr_error err = {0};
    mlxr_status st;
    int64_t now;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int rc = 1;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stats") == 0) {
            with_stats = true;
        } else if (strcmp(argv[i], "--template") == 0 && i + 1 < argc) {
            name = argv[++i];
        } else if (argv[i][0] == '-' || model) {
            fputs(usage, stderr);
            return 2;
        } else {
            model = argv[i];
        }
    }
    if (!model) {
        fputs(usage, stderr);
        return 2;
    }
    if (!the_time(&now)) {
        fputs("mlxctl render: SOURCE_DATE_EPOCH is not a number of seconds\n", stderr);
        return 1;
    }
    tzset();
    stats.open_ns = mlxr_now_ns();
    st = open_template(&ct, model, &err);
    if (st != MLXR_OK && st != MLXR_E_TEMPLATE && st != MLXR_E_LIMIT && st != MLXR_E_UNSUPPORTED) {
        fprintf(stderr, "mlxctl render: %s\n", err.message);
        goto done;
    }
    stats.open_ns = mlxr_now_ns() - stats.open_ns;
    while ((n = getline(&line, &cap, stdin)) >= 0) {
        size_t len = (size_t)n;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
        if (!len) continue;
        if (st == MLXR_OK) {
            render_line(ct, name, line, len, now, &stats);
        } else { /* the template itself is at fault: so is every request */
            answer("error", err.message, strlen(err.message));
            stats.n_failed++;
        }
        fflush(stdout);
    }
    if (ferror(stdin) || ferror(stdout)) {
        fputs("mlxctl render: input or output failed\n", stderr);
        goto done;
    }
    if (with_stats)
        fprintf(stderr, "compiled in %.3f ms; %llu rendered, %llu failed, %llu bytes in %.3f ms\n",
                (double)stats.open_ns / 1e6, (unsigned long long)stats.n_rendered,
                (unsigned long long)stats.n_failed, (unsigned long long)stats.bytes,
                (double)stats.render_ns / 1e6);
    rc = 0;
done:
    free(line);
    mlxr_chat_template_close(ct);
    return rc;
}
