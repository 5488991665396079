/* mlxctl perplexity MODEL FILE: exp of the mean negative log-likelihood of a text's tokens, over windows.
 *
 * A window begins every `stride` tokens and is `context` long; in each, the tokens no window before it has scored are
 * scored, but its first, which nothing precedes. With stride = context windows do not overlap, as in mlx-lm's
 * perplexity; a smaller stride gives every token at least context - stride tokens before it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../generate.h"
#include "base/fs.h"
#include "base/json.h"
#include "mlxctl.h"

struct course {
    size_t context, stride, max_windows;
    size_t n_windows, n_scored, n_tokens;
    double sum, squares; /* of negative log-likelihoods */
    uint64_t ns;
};

static mlxr_status read_text(mlxr_buf *out, const char *path, mlxr_error *err)
{
    enum { MAX_FILE = 1 << 30 };
    char *text;
    mlxr_status st;

    if (strcmp(path, "-") != 0) return mlxr_file_read(out, path, MAX_FILE, err);
    if ((st = cli_text(&text, path, err)) != MLXR_OK) return st;
    mlxr_buf_str(out, text);
    free(text);
    return mlxr_buf_check(out, "standard input", err);
}

static mlxr_status score_windows(struct course *c, mlxr_engine *engine, const int32_t *ids, size_t n,
                                 mlxr_error *err)
{
    size_t end = 0;

    for (size_t begin = 0; end < n && (!c->max_windows || c->n_windows < c->max_windows);
         begin += c->stride) {
        size_t len = n - begin < c->context ? n - begin : c->context, first = end > begin ? end - begin : 1;
        mlxr_input window = {.ids = ids + begin, .n_ids = len};
        uint64_t start = mlxr_now_ns();
        mlxr_score s;
        mlxr_status st;
        end = begin + len;
        if (first >= len) continue; /* a last token alone */
        if ((st = mlxr_engine_score(&s, engine, &window, err)) != MLXR_OK) return st;
        c->ns += mlxr_now_ns() - start;
        for (size_t i = first; i < len; i++) {
            double x = -(double)s.logprobs[i];
            c->sum += x;
            c->squares += x * x;
        }
        c->n_scored += len - first;
        c->n_tokens += len;
        c->n_windows++;
        mlxr_score_clear(&s);
    }
    return MLXR_OK;
}

static void tell(const struct course *c, const mlxr_engine *engine, bool json)
{
    double n = (double)c->n_scored, mean = c->sum / n, perplexity = exp(mean);
    double variance = n > 1 ? (c->squares - c->sum * mean) / (n - 1) : 0;
    /* To first order, the exponential's error is its slope times that of the mean. */
    double error = perplexity * sqrt((variance > 0 ? variance : 0) / n);
    double speed = (double)c->n_tokens / ((double)(c->ns ? c->ns : 1) / 1e9);
    mlxr_engine_info info = mlxr_engine_get_info(engine);

    if (json) {
        mlxr_buf b = {0};
        mlxr_buf_printf(
            &b,
            "{\"perplexity\": %.9g, \"standard_error\": %.9g, \"mean_nll\": %.9g, \"tokens\": %zu, "
            "\"windows\": %zu, \"context\": %zu, \"stride\": %zu, \"tokens_per_second\": %.1f, "
            "\"device\": ",
            perplexity, error, mean, c->n_scored, c->n_windows, c->context, c->stride, speed);
        mlxr_json_escape(&b, info.device_name, strlen(info.device_name));
        printf("%s}\n", b.data ? b.data : "");
        mlxr_buf_clear(&b);
    } else {
        printf("perplexity %.4f +- %.4f  (%zu tokens in %zu windows of %zu, stride %zu; %.1f tokens/s, %s)\n",
               perplexity, error, c->n_scored, c->n_windows, c->context, c->stride, speed, info.device_name);
    }
}

static int run(const struct model_options *model, struct course *c, const char *path, bool json)
{
    mlxr_engine *engine = NULL;
    mlxr_buf text = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    mlxr_error err = {0};
    mlxr_status st;

    if ((st = read_text(&text, path, &err)) != MLXR_OK) goto done;
    if ((st = engine_open(&engine, model, &err)) != MLXR_OK) goto done;
    st = mlxr_tokenizer_encode(&ids, &n, mlxr_engine_tokenizer(engine), text.data ? text.data : "", text.len,
                               true, &err);
    if (st != MLXR_OK) {
        mlxr_error_prefix(&err, "%s: ", path);
        goto done;
    }
    if (n < 2) {
        st = mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "%s: %zu tokens, wanted two at least", path, n);
        goto done;
    }
    if ((st = score_windows(c, engine, ids, n, &err)) != MLXR_OK) goto done;
    tell(c, engine, json);
done:
    mlxr_engine_close(engine);
    mlxr_free(ids);
    mlxr_buf_clear(&text);
    return st == MLXR_OK ? 0 : cli_fail(model->program, &err);
}

int cmd_perplexity(int argc, char **argv)
{
    enum { N_OWN = 4, N_OPTIONS = N_OWN + ENGINE_N_OPTIONS };
    struct model_options model;
    struct course c = {0};
    const char *args[2] = {0};
    int64_t context = 512, stride = 0, windows = 0;
    bool json = false;
    struct cli_option table[N_OPTIONS] = {
        {"context", CLI_INT, "N", &context, 2, 1048576, "tokens of a window (512)"},
        {"stride", CLI_INT, "N", &stride, 0, 1048576,
         "tokens from window to window (0: as many as a window has)"},
        {"windows", CLI_INT, "N", &windows, 0, 2147483647.0, "the first N windows alone (0: all)"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "one JSON object"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl perplexity smollm2 text.txt --context 64 --windows 4", "of the first four windows of a text",
         NULL},
        {"mlxctl perplexity smollm2 - --context 64 --windows 1 --json < text.txt",
         "of standard input, for a program", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl perplexity",
        .synopsis = "MODEL FILE [options]",
        .summary = "How well a model foretells a text (- reads standard input): the perplexity of its tokens "
                   "with its\n"
                   "standard error. The text is encoded once, with the special tokens the tokenizer adds.",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model file",
    };
    size_t n_args;
    int code;

    model_options_init(&model, cli.program);
    engine_option_table(table + N_OWN, &model);
    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, n_args ? "FILE is missing" : "MODEL is missing");
    if (stride > context) return cli_usage(&cli, "--stride is above --context: tokens would be left out");
    model.model = args[0];
    model.context = context;
    c.context = (size_t)context;
    c.stride = (size_t)(stride ? stride : context);
    c.max_windows = (size_t)windows;
    return run(&model, &c, args[1], json);
}
