/* mlxctl logits MODEL [--greedy N] [--device NAME] [--precision exact|fast] [-t N]
 *
 * What a model says about token ids, for comparing runtimes: one JSON object a line on stdin, one on stdout.
 *
 *     {"ids": [1, 2, 3], "last": N}   ->  {"logits": [[...], ...]}   the last N positions, 0 (the default): all
 *     {"ids": [1, 2, 3]}, --greedy N  ->  {"ids": [...]}             N ids, each the likeliest after those before it
 *
 * A request that fails is answered by {"error": "..."} and the next one goes on. The default precision is exact,
 * since the numbers are asked for to be compared. */
#include <stdio.h>
#include <stdlib.h>

#include "device/device.h"
#include "jsonl.h"
#include "model/model.h"

/* Tokens a step: enough to share each dequantized row, few enough to keep the registers small. */
enum { CHUNK = 128, MAX_GREEDY = 1 << 20 };

typedef struct session {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    uint32_t *blocks; /* [state's n_blocks] 0, 1, 2, ...: one sequence has them all */
    size_t n_blocks;
    uint32_t rows[CHUNK], positions[CHUNK], seqs[CHUNK];
    float *logits;    /* [CHUNK, V] */
    int64_t n_greedy; /* < 0: requests are for logits */
} session;

/* ---- the model at work ---- */

static void session_close(session *s)
{
    mlxr_state_free(s->state);
    mlxr_executable_free(s->executable);
    mlxr_device_close(s->device);
    mlxr_model_close(s->model);
    free(s->blocks);
    free(s->logits);
}

static mlxr_status session_open(session *s, const char *dir, const char *device,
                                const mlxr_device_options *options, mlxr_error *err)
{
    mlxr_status st;

    if ((st = mlxr_model_open(&s->model, dir, err)) != MLXR_OK) return st;
    if ((st = mlxr_device_open(&s->device, device, options, err)) != MLXR_OK) return st;
    st = mlxr_device_compile(&s->executable, s->device, mlxr_model_program(s->model), err);
    if (st != MLXR_OK) return st;
    s->logits = mlxr_malloc_array(mlxr_model_program(s->model)->vocab_size, CHUNK * sizeof *s->logits);
    return s->logits ? MLXR_OK : mlxr_fail_nomem(err, "logits");
}

/* Cached positions for n tokens. */
static mlxr_status reserve(session *s, size_t n_positions, mlxr_error *err)
{
    size_t n = (n_positions + MLXR_KV_BLOCK - 1) / MLXR_KV_BLOCK;
    uint32_t *blocks;
    mlxr_status st;

    if (n <= s->n_blocks) return MLXR_OK;
    mlxr_state_free(s->state);
    s->state = NULL;
    s->n_blocks = 0;
    blocks = mlxr_realloc_array(s->blocks, n, sizeof *blocks);
    if (!blocks) return mlxr_fail_nomem(err, "logits");
    s->blocks = blocks;
    for (size_t i = 0; i < n; i++) blocks[i] = (uint32_t)i;
    if ((st = mlxr_state_create(&s->state, s->executable, n, 1, err)) != MLXR_OK) return st;
    s->n_blocks = n;
    return MLXR_OK;
}

/* Runs up to CHUNK ids from `position` on; s->logits gets the rows of the last n_rows of them. */
static mlxr_status step(session *s, const int32_t *ids, size_t n, size_t position, size_t n_rows,
                        mlxr_error *err)
{
    mlxr_block_table table = {.blocks = s->blocks, .n_blocks = s->n_blocks};
    mlxr_batch batch = {.n_tokens = n,
                        .ids = ids,
                        .positions = s->positions,
                        .seqs = s->seqs,
                        .tables = &table,
                        .n_seqs = 1,
                        .rows = s->rows,
                        .n_rows = n_rows};

    for (size_t i = 0; i < n; i++) s->positions[i] = (uint32_t)(position + i);
    for (size_t i = 0; i < n_rows; i++) s->rows[i] = (uint32_t)(n - n_rows + i);
    return mlxr_run(s->executable, s->state, &batch, NULL, s->logits, err);
}

/* ---- requests ---- */

static mlxr_status read_ids(int32_t **out, size_t *out_n, const session *s, const json_t *request,
                            size_t n_more, mlxr_error *err)
{
    const mlxr_program *p = mlxr_model_program(s->model);
    const json_t *list = json_object_get(request, "ids");
    size_t n = json_array_size(list);
    int32_t *ids;

    *out = NULL;
    if (!json_is_array(list) || n == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "\"ids\" is not a list with at least one id");
    if (n > p->context_length || n_more > p->context_length - n)
        return mlxr_fail(err, MLXR_E_CONTEXT_OVERFLOW, "%zu ids and %zu more do not fit the context of %zu",
                         n, n_more, p->context_length);
    ids = mlxr_malloc_array(n, sizeof *ids);
    if (!ids) return mlxr_fail_nomem(err, "logits");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            (uint64_t)json_integer_value(id) >= p->vocab_size) {
            free(ids);
            return json_is_integer(id)
                       ? mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "\"ids\"[%zu] is %lld, wanted 0 to %zu", i,
                                   (long long)json_integer_value(id), p->vocab_size - 1)
                       : mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "\"ids\"[%zu] is not an integer", i);
        }
        ids[i] = (int32_t)json_integer_value(id);
    }
    *out = ids;
    *out_n = n;
    return MLXR_OK;
}

static mlxr_status answer_logits(session *s, mlxr_buf *out, const json_t *request, mlxr_error *err)
{
    size_t V = mlxr_model_program(s->model)->vocab_size, n = 0, first;
    int64_t last = 0;
    int32_t *ids = NULL;
    mlxr_status st = mlxr_json_get_int(&last, request, "last", 0, INT32_MAX, "request", err);

    if (st == MLXR_OK) st = read_ids(&ids, &n, s, request, 0, err);
    if (st == MLXR_OK) st = reserve(s, n, err);
    first = last == 0 || (size_t)last > n ? 0 : n - (size_t)last;
    mlxr_buf_str(out, "{\"logits\":[");
    for (size_t at = 0; at < n && st == MLXR_OK; at += CHUNK) {
        size_t n_step = n - at < CHUNK ? n - at : CHUNK;
        size_t n_rows = at >= first ? n_step : at + n_step > first ? at + n_step - first : 0;
        st = step(s, ids + at, n_step, at, n_rows, err);
        for (size_t r = 0; r < n_rows && st == MLXR_OK; r++) {
            mlxr_buf_str(out, at + n_step - n_rows + r == first ? "[" : ",[");
            for (size_t i = 0; i < V; i++)
                mlxr_buf_printf(out, "%s%.9g", i ? "," : "", (double)s->logits[r * V + i]);
            mlxr_buf_char(out, ']');
        }
    }
    mlxr_buf_str(out, "]}");
    free(ids);
    return st;
}

/* The first of the largest. */
static int32_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

static mlxr_status answer_greedy(session *s, mlxr_buf *out, const json_t *request, size_t n_greedy,
                                 mlxr_error *err)
{
    size_t V = mlxr_model_program(s->model)->vocab_size, n = 0;
    size_t n_more = n_greedy ? n_greedy - 1 : 0; /* the last id is not run */
    int32_t *ids = NULL;
    mlxr_status st = read_ids(&ids, &n, s, request, n_more, err);

    if (st == MLXR_OK) st = reserve(s, n + n_more, err);
    for (size_t at = 0; at < n && st == MLXR_OK; at += CHUNK) {
        size_t n_step = n - at < CHUNK ? n - at : CHUNK;
        st = step(s, ids + at, n_step, at, at + n_step == n, err);
    }
    mlxr_buf_str(out, "{\"ids\":[");
    for (size_t i = 0; i < n_greedy && st == MLXR_OK; i++) {
        int32_t id = argmax(s->logits, V);
        mlxr_buf_printf(out, "%s%d", i ? "," : "", (int)id);
        if (i + 1 < n_greedy) st = step(s, &id, 1, n + i, 1, err);
    }
    mlxr_buf_str(out, "]}");
    free(ids);
    return st;
}

static mlxr_status answer(void *ud, const char *line, size_t n, mlxr_buf *out, mlxr_error *err)
{
    session *s = ud;
    json_t *request = NULL;
    mlxr_status st = jsonl_object(&request, line, n, err);

    if (st == MLXR_OK)
        st = s->n_greedy >= 0 ? answer_greedy(s, out, request, (size_t)s->n_greedy, err)
                              : answer_logits(s, out, request, err);
    json_decref(request);
    return st;
}

int cmd_logits(int argc, char **argv)
{
    const char *model_paths = NULL, *device = "cpu", *precision = "exact", *kv = NULL, *args[1];
    int64_t n_threads = 0;
    session s = {.n_greedy = -1};
    const struct cli_option options[] = {
        {"greedy", CLI_INT, "N", &s.n_greedy, 0, MAX_GREEDY,
         "answer with the N likeliest next ids, one after the other"},
        {"device", CLI_STRING, "NAME", &device, 0, 0, CLI_DEVICES},
        {"precision", CLI_CHOICE, "exact|fast", &precision, 0, 0, "exact (default): float32 activations"},
        {"kv", CLI_CHOICE, "f32|f16|int8", &kv, 0, 0, CLI_KV},
        {"t", CLI_INT, "THREADS", &n_threads, 0, 4096, "threads; 0 (default): one a core"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"echo '{\"ids\": [1, 2, 3], \"last\": 1}' | mlxctl logits smollm2", "logits of the last position",
         NULL},
        {"echo '{\"ids\": [1, 2, 3]}' | mlxctl logits smollm2 --greedy 8",
         "the likeliest eight tokens that follow", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl logits",
        .synopsis =
            "MODEL [--greedy N] [--device NAME] [--precision exact|fast] [--kv f32|f16|int8] [-t THREADS]",
        .summary = "What a model says about token ids, a JSON object a line on standard input and output:\n"
                   "{\"ids\": [1, 2], \"last\": N} gives {\"logits\": [[...]]} of the last N positions (0: "
                   "all), and\n"
                   "with --greedy N {\"ids\": [1, 2]} gives {\"ids\": [...]}. A request that fails gives "
                   "{\"error\": ...}.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_device_options device_options = {0};
    mlxr_error err = {0};
    char *dir = NULL;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL is needed");
    device_options.precision = cli_precision(precision);
    device_options.kv_type = cli_kv_type(kv);
    device_options.n_threads = (size_t)n_threads;
    device_options.isa = cli_isa();
    device_options.mlx_library = cli_mlx_library();
    device_options.log = cli_log(cli.program, false);
    if (cli_model_dir(&dir, args[0], model_paths, &err) != MLXR_OK ||
        session_open(&s, dir, device, &device_options, &err) != MLXR_OK)
        code = cli_fail(cli.program, &err);
    else
        code = jsonl_serve(cli.program, answer, &s, NULL);
    free(dir);
    session_close(&s);
    return code;
}
