/* mlxctl tokenize MODEL: JSON lines in, JSON lines out.
 *
 *   {"text": T, "pair": T2, "add_special_tokens": true} -> {"ids": [...]}
 *   {"ids": [...], "skip_special_tokens": false}        -> {"text": T}
 *
 * pair and the two flags may be left out; a request that fails is answered {"error": "..."}, and the next one
 * goes on. */
#include <stdio.h>
#include <stdlib.h>

#include "jsonl.h"

typedef struct totals {
    const mlxr_tokenizer *tok;
    size_t n_requests, n_tokens, n_bytes;
    uint64_t ns;
} totals;

static mlxr_status encode(totals *t, const json_t *request, mlxr_buf *out, mlxr_error *err)
{
    const json_t *text = json_object_get(request, "text"), *pair = json_object_get(request, "pair");
    bool special = true;
    int32_t *ids = NULL;
    size_t n = 0;
    uint64_t from;
    mlxr_status st;

    if (!json_is_string(text))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"text\" must be a string");
    if (pair && !json_is_null(pair) && !json_is_string(pair))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"pair\" must be a string");
    if ((st = mlxr_json_get_bool(&special, request, "add_special_tokens", "request", err)) != MLXR_OK)
        return st;
    from = mlxr_now_ns();
    if (json_is_string(pair)) {
        mlxr_text_pair p = {.first = json_string_value(text),
                            .second = json_string_value(pair),
                            .n_first = json_string_length(text),
                            .n_second = json_string_length(pair)};
        st = mlxr_tokenizer_encode_pair(&ids, &n, t->tok, &p, special, err);
        t->n_bytes += p.n_second;
    } else {
        st = mlxr_tokenizer_encode(&ids, &n, t->tok, json_string_value(text), json_string_length(text),
                                   special, err);
    }
    t->ns += mlxr_now_ns() - from;
    t->n_bytes += json_string_length(text);
    t->n_tokens += n;
    if (st == MLXR_OK) {
        mlxr_buf_str(out, "{\"ids\": ");
        jsonl_ids(out, ids, n);
        mlxr_buf_char(out, '}');
    }
    mlxr_free(ids);
    return st;
}

static mlxr_status decode(totals *t, const json_t *request, mlxr_buf *out, mlxr_error *err)
{
    const json_t *list = json_object_get(request, "ids");
    bool skip = false;
    size_t n = json_array_size(list), n_text = 0;
    int32_t *ids = NULL;
    char *text = NULL;
    uint64_t from;
    mlxr_status st = MLXR_OK;

    if (!json_is_array(list))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: it has neither \"text\" nor a list \"ids\"");
    if ((st = mlxr_json_get_bool(&skip, request, "skip_special_tokens", "request", err)) != MLXR_OK)
        return st;
    ids = calloc(n + 1, sizeof *ids);
    if (!ids) return mlxr_fail_nomem(err, "request");
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: ids[%zu] must be a token id", i);
        else
            ids[i] = id > INT32_MAX ? -1 : (int32_t)id; /* no token has it */
    }
    from = mlxr_now_ns();
    if (st == MLXR_OK) st = mlxr_tokenizer_decode(&text, &n_text, t->tok, ids, n, skip, err);
    t->ns += mlxr_now_ns() - from;
    if (st == MLXR_OK) {
        t->n_tokens += n;
        t->n_bytes += n_text;
        mlxr_buf_str(out, "{\"text\": ");
        mlxr_json_escape(out, text, n_text);
        mlxr_buf_char(out, '}');
    }
    free(ids);
    mlxr_free(text);
    return st;
}

static mlxr_status answer(void *ud, const char *line, size_t n, mlxr_buf *out, mlxr_error *err)
{
    totals *t = ud;
    json_t *request = NULL;
    mlxr_status st = jsonl_object(&request, line, n, err);

    t->n_requests++;
    if (st == MLXR_OK)
        st = json_object_get(request, "text") ? encode(t, request, out, err) : decode(t, request, out, err);
    json_decref(request);
    return st;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *model_paths = NULL, *args[1];
    bool stats = false, no_cache = false;
    const struct cli_option options[] = {
        {"no-cache", CLI_FLAG, NULL, &no_cache, 0, 0,
         "read the tokenizer's own files, not their compiled form"},
        {"stats", CLI_FLAG, NULL, &stats, 0, 0, "counts and times on standard error at the end"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"echo '{\"text\": \"Hello, world\"}' | mlxctl tokenize smollm2", "text to ids", NULL},
        {"echo '{\"ids\": [1, 2, 3]}' | mlxctl tokenize smollm2 --stats", "and back, with times", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl tokenize",
        .synopsis = "MODEL [--no-cache] [--stats] < requests.jsonl",
        .summary = "Text to token ids and back, a JSON object a line on standard input and output:\n"
                   "{\"text\": T, \"add_special_tokens\": true} gives {\"ids\": [...]}, and\n"
                   "{\"ids\": [...], \"skip_special_tokens\": false} gives {\"text\": T}. \"pair\" may hold "
                   "a second\n"
                   "text. A request that fails gives {\"error\": ...}.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_tokenizer_options tok_options = mlxr_tokenizer_options_default();
    mlxr_tokenizer *tok = NULL;
    mlxr_error err = {0};
    totals t = {0};
    uint64_t from = mlxr_now_ns(), open_ns;
    size_t n_args, n_errors;
    char *dir = NULL, *cache_dir;
    mlxr_status st;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL is needed");
    cache_dir = no_cache ? NULL : cli_cache_dir();
    tok_options.cache_dir = cache_dir;
    tok_options.log = cli_log(cli.program, false);
    st = cli_model_file_or_dir(&dir, args[0], model_paths, &err);
    if (st == MLXR_OK) st = mlxr_tokenizer_open_with(&tok, dir, &tok_options, &err);
    free(cache_dir);
    free(dir);
    if (st != MLXR_OK) return cli_fail(cli.program, &err);
    open_ns = mlxr_now_ns() - from;
    t.tok = tok;
    code = jsonl_serve(cli.program, answer, &t, &n_errors);
    if (stats)
        fprintf(stderr,
                "%zu requests, %zu errors, %zu tokens, %zu bytes; opened in %.1f ms, tokenized in %.1f ms "
                "(%.1f MB/s)\n",
                t.n_requests, n_errors, t.n_tokens, t.n_bytes, (double)open_ns / 1e6, (double)t.ns / 1e6,
                t.ns ? (double)t.n_bytes * 1e3 / (double)t.ns : 0.0);
    mlxr_tokenizer_close(tok);
    return code;
}
