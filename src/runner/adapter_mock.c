/* adapter_mock: fixed words without a model, for clients' tests and CI. The answer to a prompt is
 * `You said: PROMPT`, a word a token, so that a caller can foretell every event. */
#include <stdlib.h>
#include <time.h>

#include "base/json.h"
#include "engine/sampler.h"
#include "runner/runner.h"

struct mock {
    uint32_t token_ms;
    char description[128];
};

static mlxr_status mock_load(void **context, const char *model, const mlxr_runner_options *options,
                             mlxr_error *err)
{
    struct mock *m = calloc(1, sizeof *m);

    *context = m;
    if (!m) return mlxr_fail_nomem(err, "mock adapter");
    (void)model;
    m->token_ms = options->mock_token_ms;
    memcpy(m->description, "mock", sizeof "mock");
    return MLXR_OK;
}

static void mock_unload(void *context)
{
    free(context);
}

static const char *mock_device_name(const void *context)
{
    return ((const struct mock *)context)->description;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The next word of s with the spaces before it; 0 at the end. */
static size_t next_word(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && is_space(s[i])) i++;
    while (i < n && !is_space(s[i])) i++;
    return i;
}

/* Waits in slices, so that a cancel is seen in the middle of a long one. */
static void wait_token(uint32_t ms, const volatile int *cancel)
{
    uint64_t end = mlxr_now_ns() + (uint64_t)ms * 1000000u;
    struct timespec slice = {.tv_nsec = 1000000};
    while (!mlxr_cancelled(cancel) && mlxr_now_ns() < end) nanosleep(&slice, NULL);
}

/* The last user text of a request; *out: free it. */
static mlxr_status user_text(char **out, const mlxr_request *request, mlxr_error *err)
{
    json_t *messages = NULL;
    const char *text = request->prompt ? request->prompt : "";
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (request->messages_json) {
        const char *last = NULL;
        st = mlxr_json_parse(&messages, request->messages_json, strlen(request->messages_json), "messages",
                             err);
        if (st != MLXR_OK) return st;
        if (!json_is_array(messages))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: messages are not a JSON list");
        for (size_t i = json_array_size(messages); i-- > 0 && !last;)
            last = json_string_value(json_object_get(json_array_get(messages, i), "content"));
        text = last ? last : "";
    }
    if (st == MLXR_OK && mlxr_utf8_valid(text, strlen(text)) != strlen(text))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "prompt: not valid UTF-8 from byte %zu on",
                       mlxr_utf8_valid(text, strlen(text)));
    if (st == MLXR_OK && !(*out = mlxr_strdup(text))) st = mlxr_fail_nomem(err, "mock adapter");
    json_decref(messages);
    return st;
}

/* Fixed words have no form. */
static mlxr_status refuse_forms(const mlxr_request *r, mlxr_error *err)
{
    const char *what = r->format                                     ? "format"
                       : r->grammar                                  ? "grammar"
                       : r->regex                                    ? "regex"
                       : r->tool_choice >= MLXR_TOOL_CHOICE_REQUIRED ? "tool_choice"
                       : r->think > MLXR_THINK_OFF                   ? "think"
                                                                     : NULL;

    return what ? mlxr_fail(err, MLXR_E_UNSUPPORTED, "mock: %s works with a model alone", what) : MLXR_OK;
}

static mlxr_status mock_generate(void *context, const mlxr_request *request, const volatile int *cancel,
                                 mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err)
{
    const struct mock *m = context;
    uint64_t start = mlxr_now_ns();
    mlxr_answer answer = {0};
    char *prompt = NULL, *text = NULL;
    size_t n, at = 0, n_word;
    mlxr_status st;

    if ((st = mlxr_sampling_check(&request->sampling, 0, err)) != MLXR_OK) goto done;
    if ((st = refuse_forms(request, err)) != MLXR_OK) goto done;
    if ((st = user_text(&prompt, request, err)) != MLXR_OK) goto done;
    n = strlen(prompt);
    for (size_t i = 0; (n_word = next_word(prompt + i, n - i)) > 0; i += n_word) stats->prompt_token_count++;
    text = mlxr_asprintf("You said: %s", prompt);
    if (!text) {
        st = mlxr_fail_nomem(err, "mock adapter");
        goto done;
    }
    if ((st = mlxr_answer_init(&answer, request, NULL, on_event, ud, err)) != MLXR_OK) goto done;
    stats->prefill_ns = mlxr_now_ns() - start;
    stats->done_reason = MLXR_DONE_STOP;
    n = strlen(text);
    while (!answer.stopped && (n_word = next_word(text + at, n - at)) > 0) {
        if (request->max_tokens >= 0 && stats->generated_token_count >= (size_t)request->max_tokens) {
            stats->done_reason = MLXR_DONE_LENGTH;
            break;
        }
        if (m->token_ms) wait_token(m->token_ms, cancel);
        if (mlxr_cancelled(cancel)) {
            st = mlxr_fail(err, MLXR_E_CANCELLED, "mock: cancelled");
            goto done;
        }
        stats->generated_token_count++;
        st = mlxr_answer_push(&answer, (int32_t)(mlxr_hash_bytes(text + at, n_word, 0) & 0x7fff), text + at,
                              n_word, false, err);
        if (st != MLXR_OK) goto done;
        at += n_word;
    }
    stats->decode_ns = mlxr_now_ns() - start - stats->prefill_ns;
    st = mlxr_answer_finish(&answer, stats, err);
done:
    mlxr_answer_clear(&answer);
    free(prompt);
    free(text);
    return st;
}

const mlxr_adapter mlxr_adapter_mock = {.name = "mock",
                                        .load = mock_load,
                                        .generate = mock_generate,
                                        .device_name = mock_device_name,
                                        .unload = mock_unload};
