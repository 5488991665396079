/* mlxctl logits MODEL [--greedy N] [--device NAME] [--precision exact|fast] [--threads N]
 *
 * What a model says about token ids, for comparing runtimes: one JSON object a line on stdin, one on stdout.
 *
 *     {"ids": [1, 2, 3], "last": N}   ->  {"logits": [[...], ...]}   the last N positions, 0 (the default): all
 *     {"ids": [1, 2, 3]}, --greedy N  ->  {"ids": [...]}             N ids, each the likeliest after those before it
 *
 * A request that fails is answered by {"error": "..."} and the next one goes on. The default precision is exact,
 * since the numbers are asked for to be compared. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "device/device.h"
#include "mlxctl/mlxctl.h"
#include "model/model.h"

/* Tokens a step: enough to share each dequantized row, few enough to keep the registers small. */
enum { CHUNK = 128, MAX_GREEDY = 1 << 20 };

typedef struct options {
    const char *model, *device;
    mlxr_precision precision;
    bool greedy;
    size_t n_greedy, n_threads;
} options;

typedef struct session {
    mlxr_model *model;
    mlxr_device *device;
    mlxr_executable *executable;
    mlxr_state *state;
    uint32_t *blocks; /* [state's n_blocks] 0, 1, 2, ...: one sequence has them all */
    size_t n_blocks;
    uint32_t rows[CHUNK], positions[CHUNK], seqs[CHUNK];
    float *logits; /* [CHUNK, V] */
} session;

static int usage(const char *problem, const char *arg)
{
    fprintf(stderr, "mlxctl logits: %s%s%s\n", problem, *arg ? ": " : "", arg);
    fprintf(
        stderr,
        "usage: mlxctl logits MODEL [--greedy N] [--device NAME] [--precision exact|fast] [--threads N]\n");
    return 2;
}

/* A whole number from 0 to max; false for anything else. */
static bool parse_size(size_t *out, const char *text, size_t max)
{
    unsigned long long v;
    char *end;

    if (*text < '0' || *text > '9') return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno || *end || v > max) return false;
    *out = (size_t)v;
    return true;
}

static int parse_options(options *o, int argc, char **argv)
{
    *o = (options){.device = "cpu", .precision = MLXR_PRECISION_EXACT};
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (arg[0] != '-') {
            if (o->model) return usage("one model at a time", arg);
            o->model = arg;
            continue;
        }
        if (strcmp(arg, "--greedy") != 0 && strcmp(arg, "--device") != 0 && strcmp(arg, "--precision") != 0 &&
            strcmp(arg, "--threads") != 0)
            return usage("unknown option", arg);
        if (!value) return usage("no value after", arg);
        i++;
        if (strcmp(arg, "--device") == 0) {
            o->device = value;
        } else if (strcmp(arg, "--precision") == 0) {
            if (strcmp(value, "exact") != 0 && strcmp(value, "fast") != 0)
                return usage("--precision is exact or fast, not", value);
            o->precision = strcmp(value, "exact") == 0 ? MLXR_PRECISION_EXACT : MLXR_PRECISION_FAST;
        } else if (strcmp(arg, "--threads") == 0) {
            if (!parse_size(&o->n_threads, value, 4096))
                return usage("--threads is a number up to 4096, not", value);
        } else {
            o->greedy = true;
            if (!parse_size(&o->n_greedy, value, MAX_GREEDY))
                return usage("--greedy is a number of ids, not", value);
        }
    }
    return o->model ? 0 : usage("no MODEL", "");
}

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

static mlxr_status session_open(session *s, const options *o, mlxr_error *err)
{
    mlxr_device_options device_options = {.precision = o->precision, .n_threads = o->n_threads};
    mlxr_status st;

    if ((st = mlxr_model_open(&s->model, o->model, err)) != MLXR_OK) return st;
    if ((st = mlxr_device_open(&s->device, o->device, &device_options, err)) != MLXR_OK) return st;
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
    if ((st = mlxr_state_create(&s->state, s->executable, n, err)) != MLXR_OK) return st;
    s->n_blocks = n;
    return MLXR_OK;
}

/* Runs up to CHUNK ids from `position` on; s->logits gets the rows of the last n_rows of them. */
static mlxr_status step(session *s, const int32_t *ids, size_t n, size_t position, size_t n_rows,
                        mlxr_error *err)
{
    mlxr_block_table table = {s->blocks, s->n_blocks};
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

static void answer(session *s, mlxr_buf *out, const options *o, const char *line, size_t n_line)
{
    json_t *request = NULL;
    mlxr_error err;
    mlxr_status st = mlxr_json_parse(&request, line, n_line, "request", &err);

    if (st == MLXR_OK && !json_is_object(request))
        st = mlxr_fail(&err, MLXR_E_FORMAT, "request: not a JSON object");
    if (st == MLXR_OK)
        st = o->greedy ? answer_greedy(s, out, request, o->n_greedy, &err)
                       : answer_logits(s, out, request, &err);
    if (st == MLXR_OK) st = mlxr_buf_check(out, "logits", &err);
    if (st != MLXR_OK) {
        mlxr_buf_clear(out);
        mlxr_buf_str(out, "{\"error\":");
        mlxr_json_escape(out, err.message, strlen(err.message));
        mlxr_buf_char(out, '}');
    }
    json_decref(request);
}

int cmd_logits(int argc, char **argv)
{
    options o;
    session s = {0};
    mlxr_buf out = {0};
    mlxr_error err;
    char *line = NULL;
    size_t cap_line = 0;
    ssize_t n;
    int code = parse_options(&o, argc, argv);

    if (code != 0) return code;
    if (session_open(&s, &o, &err) != MLXR_OK) {
        fprintf(stderr, "mlxctl logits: %s\n", err.message);
        code = 1;
        goto done;
    }
    while ((n = getline(&line, &cap_line, stdin)) >= 0) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        if (n == 0) continue;
        answer(&s, &out, &o, line, (size_t)n);
        mlxr_buf_char(&out, '\n');
        if (mlxr_buf_check(&out, "logits", &err) != MLXR_OK ||
            fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0) {
            fprintf(stderr, "mlxctl logits: could not write an answer\n");
            code = 1;
            break;
        }
        mlxr_buf_clear(&out);
    }
done:
    mlxr_buf_clear(&out);
    free(line);
    session_close(&s);
    return code;
}
