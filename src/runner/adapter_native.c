/* adapter_native: a model folder through the engine on a device. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/scheduler.h"
#include "model/model.h"
#include "runner/generation.h"
#include "runner/prompt.h"
#include "runner/runner.h"

struct native {
    mlxr_model *model;
    mlxr_tokenizer *tok;
    mlxr_prompt_builder *prompt;
    mlxr_device *device;
    mlxr_scheduler *engine;
    int32_t *eos_ids;
    size_t n_eos;
};

static void native_unload(void *context)
{
    struct native *n = context;
    if (!n) return;
    mlxr_scheduler_close(n->engine);
    mlxr_device_close(n->device);
    mlxr_prompt_builder_close(n->prompt);
    mlxr_tokenizer_close(n->tok);
    mlxr_model_close(n->model);
    free(n->eos_ids);
    free(n);
}

static mlxr_status native_load(void **context, const char *model, const mlxr_runner_options *options,
                               mlxr_error *err)
{
    mlxr_device_options device = {.precision = options->precision,
                                  .kv_type = options->kv_type,
                                  .n_threads = options->n_threads > 0 ? (size_t)options->n_threads : 0,
                                  .isa = options->isa,
                                  .mlx_library = options->mlx_library,
                                  .memory_limit_bytes = options->memory_limit_bytes,
                                  .log = options->log};
    mlxr_tokenizer_options tokenizer = mlxr_tokenizer_options_default();
    mlxr_scheduler_options engine = mlxr_scheduler_options_default();
    struct native *n = calloc(1, sizeof *n);
    mlxr_status st;

    *context = NULL;
    if (!n) return mlxr_fail_nomem(err, "native adapter");
    tokenizer.cache_dir = options->cache_dir;
    tokenizer.log = options->log;
    if (!mlxr_path_is_dir(model)) {
        st = mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING, "model %s: there is no such folder", model);
        goto done;
    }
    if ((st = mlxr_model_open(&n->model, model, err)) != MLXR_OK) goto done;
    if ((st = mlxr_tokenizer_open_with(&n->tok, model, &tokenizer, err)) != MLXR_OK) goto done;
    if ((st = mlxr_prompt_builder_open(&n->prompt, model, n->tok, err)) != MLXR_OK) goto done;
    if (mlxr_prompt_builder_is_builtin(n->prompt))
        mlxr_log_at(&options->log, MLXR_LOG_INFO,
                    "model %s has no chat template: the built-in Llama prompt is used", model);
    st = mlxr_eos_ids(&n->eos_ids, &n->n_eos, model, mlxr_model_config(n->model), n->tok, err);
    if (st != MLXR_OK) goto done;
    if (n->n_eos == 0)
        mlxr_log_at(&options->log, MLXR_LOG_WARN,
                    "model %s names no end-of-text token: answers end by length alone", model);
    st = mlxr_device_open(&n->device, options->device ? options->device : "cpu", &device, err);
    if (st != MLXR_OK) goto done;
    mlxr_checkpoint_prefetch(mlxr_model_checkpoint(n->model), &options->progress);
    engine.context_length = options->context_length;
    st = mlxr_scheduler_open(&n->engine, n->device, mlxr_model_program(n->model), &engine, err);
    if (st != MLXR_OK) goto done;
    *context = n;
    n = NULL;
done:
    native_unload(n);
    return st;
}

static mlxr_status random_seed(uint64_t *seed, mlxr_error *err)
{
    if (getentropy(seed, sizeof *seed) != 0)
        return mlxr_fail(err, MLXR_E_IO, "sampling: the system gave no random seed");
    return MLXR_OK;
}

/* Steps until the answer ends, is stopped or is cancelled. */
static mlxr_status run(struct native *n, mlxr_detokenizer *detok, mlxr_answer *answer,
                       const volatile int *cancel, mlxr_stats *stats, mlxr_error *err)
{
    uint64_t start = mlxr_now_ns(), first = 0;
    const char *piece = "";
    size_t n_piece = 0;
    bool done = false;
    mlxr_status st = MLXR_OK;

    while (!done && st == MLXR_OK) {
        const mlxr_step_result *r;
        size_t n_results;
        st = mlxr_scheduler_step(n->engine, cancel, &r, &n_results, NULL, err);
        if (st != MLXR_OK || n_results == 0) continue;
        if (r->status != MLXR_OK) return mlxr_fail(err, r->status, "%s", r->message);
        if (!first) first = mlxr_now_ns();
        done = r->done;
        stats->done_reason = r->reason;
        if (r->id < 0) continue;
        stats->generated_token_count++;
        st = mlxr_detokenizer_push(detok, r->id, &piece, &n_piece, err);
        if (st == MLXR_OK) st = mlxr_answer_push(answer, r->id, piece, n_piece, err);
        if (st == MLXR_OK && answer->stopped) {
            done = true;
            stats->done_reason = MLXR_DONE_STOP;
        }
    }
    stats->prefill_ns = (first ? first : mlxr_now_ns()) - start;
    stats->decode_ns = first ? mlxr_now_ns() - first : 0;
    if (st != MLXR_OK || answer->stopped) return st;
    if ((st = mlxr_detokenizer_finish(detok, &piece, &n_piece, err)) == MLXR_OK)
        st = mlxr_answer_push_rest(answer, piece, n_piece, err);
    if (st == MLXR_OK && answer->stopped) stats->done_reason = MLXR_DONE_STOP;
    return st;
}

static mlxr_status native_generate(void *context, const mlxr_request *request, const volatile int *cancel,
                                   mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err)
{
    struct native *n = context;
    mlxr_sequence_params params = {.max_tokens = request->max_tokens,
                                   .eos_ids = n->eos_ids,
                                   .n_eos = request->ignore_eos ? 0 : n->n_eos,
                                   .sampling = request->sampling,
                                   .seed = (uint64_t)request->sampling.seed};
    mlxr_sequence *seq = NULL;
    mlxr_detokenizer *detok = NULL;
    mlxr_answer answer = {0};
    int32_t *ids = NULL;
    mlxr_status st;

    if (request->sampling.seed < 0 && (st = random_seed(&params.seed, err)) != MLXR_OK) return st;
    st = mlxr_prompt_encode(&ids, &params.n_ids, n->prompt, request, (int64_t)time(NULL), err);
    if (st != MLXR_OK) goto done;
    params.ids = ids;
    stats->prompt_token_count = params.n_ids;
    if ((st = mlxr_scheduler_add(&seq, n->engine, &params, err)) != MLXR_OK) goto done;
    if ((st = mlxr_detokenizer_create(&detok, n->tok, true, err)) != MLXR_OK) goto done;
    if ((st = mlxr_answer_init(&answer, request, on_event, ud, err)) != MLXR_OK) goto done;
    if ((st = run(n, detok, &answer, cancel, stats, err)) != MLXR_OK) goto done;
    st = mlxr_answer_finish(&answer, stats, err);
done:
    mlxr_answer_clear(&answer);
    mlxr_detokenizer_free(detok);
    mlxr_scheduler_remove(n->engine, seq);
    free(ids);
    return st;
}

static const char *native_device_name(const void *context)
{
    return mlxr_device_description(((const struct native *)context)->device);
}

const mlxr_adapter mlxr_adapter_native = {.name = "native",
                                          .load = native_load,
                                          .generate = native_generate,
                                          .device_name = native_device_name,
                                          .unload = native_unload};
