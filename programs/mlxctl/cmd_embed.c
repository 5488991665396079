/* mlxctl embed MODEL: {"text"} or {"ids"} -> {"embedding", "tokens"}, one object a line. */
#include <stdlib.h>

#include "../generate.h"
#include "jsonl.h"

struct embed {
    mlxr_engine *engine;
    mlxr_embed_options options;
};

/* The ids of a request; *out: free it. */
static mlxr_status read_ids(int32_t **out, size_t *n, const json_t *list, mlxr_error *err)
{
    *n = json_array_size(list);
    *out = NULL;
    if (!json_is_array(list))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: wanted \"text\" or a list \"ids\"");
    if (!(*out = mlxr_malloc_array(*n, sizeof **out))) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < *n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"ids\"[%zu] is not a token id", i);
        (*out)[i] = (int32_t)json_integer_value(v);
    }
    return MLXR_OK;
}

static mlxr_status answer(void *ud, const char *line, size_t n, mlxr_buf *out, mlxr_error *err)
{
    struct embed *e = ud;
    json_t *request;
    const json_t *text;
    int32_t *ids = NULL;
    mlxr_input input = {0};
    mlxr_embeddings v = {0};
    mlxr_status st = jsonl_object(&request, line, n, err);

    if (st != MLXR_OK) return st;
    text = json_object_get(request, "text");
    if (json_is_string(text)) {
        input.text = json_string_value(text);
        input.n_text = json_string_length(text);
    } else {
        if ((st = read_ids(&ids, &input.n_ids, json_object_get(request, "ids"), err)) != MLXR_OK) goto done;
        input.ids = ids;
    }
    if ((st = mlxr_engine_embed(&v, e->engine, &input, 1, &e->options, err)) != MLXR_OK) goto done;
    mlxr_buf_str(out, "{\"embedding\": [");
    for (size_t i = 0; i < v.n_dimensions; i++)
        mlxr_buf_printf(out, "%s%.9g", i ? ", " : "", (double)v.values[i]);
    mlxr_buf_printf(out, "], \"tokens\": %zu}", v.n_tokens);
done:
    mlxr_embeddings_clear(&v);
    free(ids);
    json_decref(request);
    return st;
}

int cmd_embed(int argc, char **argv)
{
    enum { N_OWN = 4, N_OPTIONS = N_OWN + ENGINE_N_OPTIONS };
    struct model_options model;
    struct embed e = {.options = mlxr_embed_options_default()};
    const char *pooling = NULL, *args[1] = {0};
    int64_t dimensions = 0;
    struct cli_option table[N_OPTIONS] = {
        {"pooling", CLI_CHOICE, "mean|last", &pooling, 0, 0,
         "of the tokens' states (default: what the folder says, else last)"},
        {"dimensions", CLI_INT, "N", &dimensions, 0, 1048576, "the first N, normalised again (0: all)"},
        {"truncate", CLI_FLAG, NULL, &e.options.truncate, 0, 0,
         "cut texts longer than the context, instead of an error"},
        {"context", CLI_INT, "N", &model.context, 0, 2147483647.0,
         "tokens of a text (0: the model's, at most 8192)"},
    };
    static const struct cli_example examples[] = {
        {"echo '{\"text\": \"a sentence\"}' | mlxctl embed smollm2", "the vector of a text", NULL},
        {"mlxctl embed smollm2 --pooling mean --dimensions 16 < requests.jsonl", "shorter ones of many",
         NULL},
    };
    const struct cli cli = {
        .program = "mlxctl embed",
        .synopsis = "MODEL [options]",
        .summary = "Reads {\"text\"} or {\"ids\"}, one JSON object a line, and answers each with "
                   "{\"embedding\": [...],\n"
                   "\"tokens\": N} or {\"error\"}. Vectors have length 1.",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_error err = {0};
    size_t n_args;
    int code;

    model_options_init(&model, cli.program);
    engine_option_table(table + N_OWN, &model);
    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args == 0) return cli_usage(&cli, "MODEL is missing");
    model.model = args[0];
    e.options.dimensions = (size_t)dimensions;
    if (pooling) e.options.pooling = *pooling == 'm' ? MLXR_POOLING_MEAN : MLXR_POOLING_LAST;
    if (engine_open(&e.engine, &model, &err) != MLXR_OK) return cli_fail(cli.program, &err);
    code = jsonl_serve(cli.program, answer, &e, NULL);
    mlxr_engine_close(e.engine);
    return code;
}
