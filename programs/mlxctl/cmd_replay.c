/* mlxctl replay: makes an answer again from its receipt, by a server of this process's own that listens nowhere, and compares. */
#include <stdio.h>
#include <stdlib.h>

#include "../stores.h"
#include "base/fs.h"
#include "mlxctl.h"
#include "serve/receipt.h"
#include "serve/serve.h"

enum { MAX_FILE_BYTES = 256 << 20 };

struct replay {
    const char *program;
    const char *receipt_path, *request_path, *model, *model_paths, *device;
    int64_t n_threads;
    bool json;
    json_t *receipt, *body; /* body: of the request that is sent */
    char *folder, *store_root, *cache_dir;
    char isa[32], device_of_receipt[32];
    mlxr_serve *serve;
};

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* ---- what is read ---- */

static mlxr_status read_file(mlxr_buf *out, const char *path, mlxr_error *err)
{
    char *text = NULL;
    mlxr_status st;

    if (strcmp(path, "-") != 0) return mlxr_file_read(out, path, MAX_FILE_BYTES, err);
    if ((st = cli_text(&text, "-", err)) != MLXR_OK) return st;
    mlxr_buf_str(out, text);
    free(text);
    return mlxr_buf_check(out, "standard input", err);
}

static json_t *receipt_in(json_t *v)
{
    json_t *r = json_object_get(v, "receipt");

    return json_is_object(r) ? r : json_is_integer(r) ? v : NULL;
}

/* A receipt, an answer with one, or a saved stream: then it is in one of the lines. */
static mlxr_status read_receipt(struct replay *r, mlxr_error *err)
{
    mlxr_buf text = {0};
    json_t *v = NULL, *found = NULL;
    mlxr_status st = read_file(&text, r->receipt_path, err);

    if (st != MLXR_OK) goto done;
    if (mlxr_json_parse(&v, text.data ? text.data : "", text.len, r->receipt_path, err) == MLXR_OK)
        found = receipt_in(v);
    for (char *line = text.data, *next; !v && !found && line && *line; line = next) {
        json_t *one = NULL;
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        else
            next = line + strlen(line);
        if (strncmp(line, "data: ", 6) == 0) line += 6;
        if (*line == '{' && mlxr_json_parse(&one, line, strlen(line), "line", NULL) == MLXR_OK &&
            (found = receipt_in(one)) != NULL)
            v = json_incref(one);
        json_decref(one);
    }
    if (!found || json_integer_value(json_object_get(found, "receipt")) != 1)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: there is no receipt of version 1 in it", r->receipt_path);
    else
        r->receipt = json_incref(found);
done:
    json_decref(v);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status read_body(struct replay *r, mlxr_error *err)
{
    mlxr_buf text = {0};
    const json_t *own = json_object_get(r->receipt, "body");
    mlxr_status st = MLXR_OK;

    if (r->request_path) {
        st = read_file(&text, r->request_path, err);
        if (st == MLXR_OK) st = mlxr_body_object(&r->body, text.data ? text.data : "", text.len, err);
        mlxr_buf_clear(&text);
        if (st != MLXR_OK) return st;
    } else if (!json_is_object(own)) {
        return mlxr_fail(
            err, MLXR_E_INVALID_ARGUMENT,
            "%s: the receipt does not hold the request; give that with --request FILE (a receipt "
            "that was asked for with \"full\" holds it)",
            r->receipt_path);
    } else if (!(r->body = json_deep_copy(own))) {
        return mlxr_fail_nomem(err, "request");
    }
    json_object_del(r->body, "receipt");
    json_object_del(r->body, "keep_alive");
    if (json_object_set_new(r->body, "stream", json_false()) != 0) return mlxr_fail_nomem(err, "request");
    json_object_del(r->body, "stream_options");
    return MLXR_OK;
}

/* ---- the server ---- */

/* A folder, an id of the model-paths file, or a name of the store, which is found by the server, with its digest. */
static mlxr_status find_model(struct replay *r, mlxr_serve_options *o, mlxr_error *err)
{
    const char *name = r->model ? r->model : text_of(json_object_get(r->receipt, "model"), "name");
    mlxr_store_options so = mlxr_store_options_default();
    mlxr_store *store = NULL;
    char *path = NULL;
    mlxr_status st = MLXR_OK;

    if (!name) return mlxr_fail(err, MLXR_E_FORMAT, "%s: the receipt names no model", r->receipt_path);
    if (strcmp(r->device_of_receipt, "mock") == 0) /* which answers alike to every name, but not to a path */
        name = text_of(json_object_get(r->receipt, "model"), "name")
                   ? text_of(json_object_get(r->receipt, "model"), "name")
                   : "mock";
    if (json_object_set_new(r->body, "model", json_string(name)) != 0) return mlxr_fail_nomem(err, "request");
    if (strcmp(r->device_of_receipt, "mock") == 0) {
        o->mock = true;
        return MLXR_OK;
    }
    if (!mlxr_path_is_dir(name) && cli_store_root(&r->store_root, NULL) == MLXR_OK &&
        mlxr_store_open(&store, r->store_root, &so, NULL) == MLXR_OK)
        st = mlxr_store_model_path(&path, store, name, NULL);
    mlxr_store_close(store);
    if (path && st == MLXR_OK) {
        mlxr_free(path);
        o->store_root = r->store_root;
        return MLXR_OK;
    }
    if ((st = cli_model_dir(&r->folder, name, r->model_paths, err)) != MLXR_OK) return st;
    o->folder = r->folder;
    return MLXR_OK;
}

/* "cpu vnni": the device and its kernels, since others may round in another way. */
static void take_device(struct replay *r)
{
    const char *device = text_of(json_object_get(r->receipt, "build"), "device");

    if (!device) return;
    snprintf(r->device_of_receipt, sizeof r->device_of_receipt, "%.*s", (int)strcspn(device, " "), device);
    if (strcmp(r->device_of_receipt, "cpu") == 0 && device[strcspn(device, " ")])
        snprintf(r->isa, sizeof r->isa, "%s", device + strcspn(device, " ") + 1);
}

static mlxr_status open_server(struct replay *r, mlxr_error *err)
{
    mlxr_serve_options o = mlxr_serve_options_default();
    const json_t *build = json_object_get(r->receipt, "build");
    const char *precision = text_of(build, "precision"), *kv = text_of(build, "kv_type");
    json_int_t context = json_integer_value(
        json_object_get(json_object_get(r->receipt, "request"), "context_length"));
    mlxr_status st;

    take_device(r);
    o.server.host = NULL;
    o.engine.precision = precision && strcmp(precision, "default") != 0 ? cli_precision(precision)
                                                                        : MLXR_PRECISION_DEFAULT;
    o.engine.kv_type = kv && strcmp(kv, "default") != 0 ? cli_kv_type(kv) : MLXR_KV_DEFAULT;
    o.engine.n_threads = (int32_t)r->n_threads;
    o.engine.context_length = context > 0 ? (size_t)context : 0;
    o.engine.device = r->device ? r->device : *r->device_of_receipt ? r->device_of_receipt : o.engine.device;
    o.engine.isa = cli_isa() ? cli_isa() : !r->device && *r->isa ? r->isa : NULL;
    o.engine.mlx_library = cli_mlx_library();
    o.engine.cache_dir = r->cache_dir = cli_cache_dir();
    if ((st = find_model(r, &o, err)) != MLXR_OK) return st;
    return mlxr_serve_open(&r->serve, &o, err);
}

/* ---- again ---- */

static mlxr_status answer_again(json_t **out, struct replay *r, mlxr_error *err)
{
    const char *endpoint = text_of(r->receipt, "endpoint");
    const json_t *sampling = json_object_get(json_object_get(r->receipt, "request"), "sampling");
    char seed[64], *body = json_dumps(r->body, JSON_COMPACT | JSON_REAL_PRECISION(17));
    const char *headers[] = {"Content-Type: application/json", "X-Mlxr-Receipt: full", seed, NULL};
    mlxr_exchange x = {0};
    json_t *v = NULL;
    mlxr_status st;

    *out = NULL;
    snprintf(seed, sizeof seed, "X-Mlxr-Seed: %lld",
             (long long)json_integer_value(json_object_get(sampling, "seed")));
    if (!body || !endpoint) {
        free(body);
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: the receipt has no endpoint", r->receipt_path);
    }
    st = mlxr_server_exchange(&x, r->serve->server, "POST", endpoint, headers, body, strlen(body), err);
    free(body);
    if (st != MLXR_OK) return st;
    st = mlxr_json_parse(&v, x.body, x.n_body, "answer", err);
    if (st == MLXR_OK && x.status != 200) {
        const json_t *e = json_object_get(v, "error");
        const char *text = json_is_object(e) ? text_of(e, "message") : json_string_value(e);
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s", text ? text : "the request was refused");
    } else if (st == MLXR_OK && !json_is_object(json_object_get(v, "receipt"))) {
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "%s: answers of it have no receipts", endpoint);
    } else if (st == MLXR_OK) {
        *out = json_incref(json_object_get(v, "receipt"));
    }
    json_decref(v);
    mlxr_exchange_clear(&x);
    return st;
}

/* ---- what is told ---- */

static bool is_build(const json_t *difference)
{
    return strncmp(text_of(difference, "path"), "build.", 6) == 0;
}

/* The first place where two lists of tokens differ; false: one of them is not there, or they do not. */
static bool first_difference(const json_t *was, const json_t *is, size_t *at)
{
    const json_t *a = json_object_get(was, "ids"), *b = json_object_get(is, "ids");
    size_t n = json_array_size(a) < json_array_size(b) ? json_array_size(a) : json_array_size(b);

    if (!json_is_array(a) || !json_is_array(b)) return false;
    for (*at = 0; *at < n; ++*at)
        if (!json_equal(json_array_get(a, *at), json_array_get(b, *at))) return true;
    return json_array_size(a) != json_array_size(b);
}

/* {"where": "choices.0", "token", "was", "is"} of each list of tokens that differs. */
static json_t *first_tokens(const json_t *was, const json_t *is)
{
    static const char *const keys[] = {"prompts", "choices"};
    json_t *list = json_array();

    for (size_t k = 0; k < MLXR_COUNT(keys) && list; k++) {
        const json_t *a = json_object_get(was, keys[k]), *b = json_object_get(is, keys[k]);
        for (size_t i = 0; i < json_array_size(a) && i < json_array_size(b); i++) {
            const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
            const json_t *from, *to;
            size_t at;
            if (!first_difference(x, y, &at)) continue;
            from = json_array_get(json_object_get(x, "ids"), at);
            to = json_array_get(json_object_get(y, "ids"), at);
            json_array_append_new(list,
                                  json_pack("{s:o, s:I, s:O, s:O}", "where",
                                            json_sprintf("%s.%zu", keys[k], i), "token", (json_int_t)at,
                                            "was", from ? from : json_null(), "is", to ? to : json_null()));
        }
    }
    return list;
}

static void print_value(const char *before, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

    printf("%s%.80s", before, text ? text : "?");
    free(text);
}

static void print_text(const json_t *differences, const json_t *tokens, bool same, const json_t *is)
{
    size_t i, n_tokens = 0;
    json_t *v;

    json_array_foreach(json_object_get(is, "choices"), i, v)
        n_tokens += (size_t)json_integer_value(json_object_get(v, "tokens"));
    json_array_foreach((json_t *)(uintptr_t)differences, i, v)
    {
        printf("%s %s: ", is_build(v) ? "note:" : "differs:", text_of(v, "path"));
        print_value("was ", json_object_get(v, "was"));
        print_value(", is ", json_object_get(v, "is"));
        putchar('\n');
    }
    json_array_foreach((json_t *)(uintptr_t)tokens, i, v)
    {
        printf("differs: %s: first at token %lld: ", text_of(v, "where"),
               (long long)json_integer_value(json_object_get(v, "token")));
        print_value("was ", json_object_get(v, "was"));
        print_value(", is ", json_object_get(v, "is"));
        putchar('\n');
    }
    printf("%s: %zu choices, %zu tokens\n", same ? "same" : "different",
           json_array_size(json_object_get(is, "choices")), n_tokens);
}

static mlxr_status tell(bool *same, const struct replay *r, const json_t *is, mlxr_error *err)
{
    json_t *differences = NULL, *tokens = first_tokens(r->receipt, is), *whole = NULL, *v;
    char *text = NULL;
    size_t i;
    mlxr_status st = mlxr_receipt_compare(&differences, r->receipt, is, err);

    if (st != MLXR_OK) goto done;
    *same = true;
    json_array_foreach(differences, i, v) *same &= is_build(v);
    if (!r->json) {
        print_text(differences, tokens, *same, is);
        goto done;
    }
    whole = json_pack("{s:b, s:O, s:O}", "same", *same, "differences", differences, "first_tokens", tokens);
    text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
    if (text)
        puts(text);
    else
        st = mlxr_fail_nomem(err, "replay");
done:
    free(text);
    json_decref(whole);
    json_decref(tokens);
    json_decref(differences);
    return st;
}

int cmd_replay(int argc, char **argv)
{
    const char *args[1];
    struct replay r = {.program = "mlxctl replay"};
    const struct cli_option options[] = {
        {"request", CLI_STRING, "FILE", &r.request_path, 0, 0,
         "the body of the request, where the receipt does not hold it"},
        {"model", CLI_STRING, "MODEL", &r.model, 0, 0, "in place of the one that the receipt names"},
        {"device", CLI_STRING, "DEVICE", &r.device, 0, 0,
         "in place of the receipt's: cpu, ref, mlx, mlx:gpu or mlx:cpu"},
        {"t", CLI_INT, "N", &r.n_threads, 0, 4096, "threads (default: one a core); the answer is the same"},
        {"json", CLI_FLAG, NULL, &r.json, 0, 0, "{\"same\", \"differences\", \"first_tokens\"}"},
        {"model-paths-json", CLI_STRING, "FILE", &r.model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl replay receipt.json", "an answer or a receipt that was asked for with \"full\"", NULL},
        {"mlxctl replay answer.json --request request.json --model ./SmolLM2-135M-Instruct-4bit",
         "with the request that the client kept, on a folder", NULL},
    };
    static const struct cli_exit exits[] = {{0, "the same answer"}, {1, "another answer, or an error"}};
    const struct cli cli = {
        .program = r.program,
        .synopsis = "RECEIPT [--request FILE] [--model MODEL]",
        .summary =
            "Makes an answer again from its receipt, and says what differs. RECEIPT is a file (- is "
            "standard\n"
            "input) with a receipt, with an answer that has one, or with a whole saved stream. The model "
            "runs\n"
            "here, with the device, kernels, precision and seed that the receipt names; digests of model,\n"
            "prompt and answer are compared. On devices cpu and ref the answer is the same, bit for bit,\n"
            "whatever else the server did.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .exits = exits,
        .n_exits = MLXR_COUNT(exits),
        .arguments = "file",
    };
    mlxr_error err = {0};
    json_t *is = NULL;
    size_t n_args;
    bool same = false;
    int code;
    mlxr_status st;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "RECEIPT is needed");
    r.receipt_path = args[0];
    if ((st = read_receipt(&r, &err)) == MLXR_OK && (st = read_body(&r, &err)) == MLXR_OK &&
        (st = open_server(&r, &err)) == MLXR_OK && (st = answer_again(&is, &r, &err)) == MLXR_OK)
        st = tell(&same, &r, is, &err);
    json_decref(is);
    mlxr_serve_close(r.serve);
    json_decref(r.body);
    json_decref(r.receipt);
    free(r.folder);
    free(r.store_root);
    free(r.cache_dir);
    if (st != MLXR_OK) return cli_fail(r.program, &err);
    return same ? 0 : CLI_EXIT_FAILED;
}
