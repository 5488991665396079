/* mlxr: local language models from MLX / Hugging Face folders.
 *
 * The one public header of libmlxr. It has, from the bottom up: status and errors, logging, the
 * tokenizer, chat templates, the engine that answers many requests at once, the runner, which answers one, and the store of
 * models.
 *
 * Rules that hold for every call:
 * - A call that can fail returns an mlxr_status; MLXR_OK is 0. `err` may be NULL; when it is not, a
 *   failed call leaves one line of text in it that names what failed, where, and what was wanted.
 * - The library never exits, aborts, prints or reads the environment. Running out of memory is a status.
 * - Strings in and out are UTF-8. Sizes are in bytes unless the name says otherwise.
 * - open/close: something outside the process's memory stands behind the object (a file, a mapping, a
 *   device). create/free: memory only. get: borrowed, the comment says until when. close and free take NULL.
 * - Each object says which threads may use it.
 */
#ifndef MLXR_H
#define MLXR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MLXR_API __attribute__((visibility("default")))
#else
#define MLXR_API
#endif

/* ---- status and errors ------------------------------------------------------------------------ */

/* X(name, what it means). The order is the numbers' order and is stable: new ones go to the end. */
#define MLXR_STATUS_LIST(X)                                                                     \
    X(OK, "ok")                                                                                 \
    X(E_INVALID_ARGUMENT, "a caller's argument is out of its stated range")                     \
    X(E_NOMEM, "out of memory")                                                                 \
    X(E_IO, "a file could not be read or written")                                              \
    X(E_NOT_FOUND, "a file, model or name does not exist")                                      \
    X(E_FORMAT, "a file's content breaks its format")                                           \
    X(E_UNSUPPORTED, "well-formed, but not supported here")                                     \
    X(E_MODEL_PATH_MISSING, "no path is configured for a model id, or the path does not exist") \
    X(E_CANCELLED, "the caller cancelled the work")                                             \
    X(E_CONTEXT_OVERFLOW, "prompt and answer do not fit the context")                           \
    X(E_TEMPLATE, "a chat template raised an error or failed to render")                        \
    X(E_LIMIT, "a limit on size, depth or steps was reached")                                   \
    X(E_DEVICE, "a device failed or is not there")                                              \
    X(E_BUSY, "the object is in use")                                                           \
    X(E_INTERNAL, "a mistake in mlxr itself")                                                   \
    X(E_CORRUPT, "content is not what its digest says")                                         \
    X(E_DENIED, "access was refused, by a server or by the file system")                        \
    X(E_NETWORK, "a server could not be reached, or did not answer as it should")               \
    X(E_NO_SPACE, "the disk is full, or a quota is")

typedef enum mlxr_status {
#define MLXR_STATUS_ENUM(name, text) MLXR_##name,
    MLXR_STATUS_LIST(MLXR_STATUS_ENUM)
#undef MLXR_STATUS_ENUM
        MLXR_STATUS_COUNT
} mlxr_status;

/* Held by the caller, filled by a call that fails. */
typedef struct mlxr_error {
    mlxr_status code;
    char message[4096]; /* one line, NUL-terminated; a longer one is cut and ends in "..." */
} mlxr_error;

/* "MLXR_E_NOMEM" and the like; never NULL. */
MLXR_API const char *mlxr_status_name(mlxr_status status);
/* The meaning in words; never NULL. */
MLXR_API const char *mlxr_status_text(mlxr_status status);

/* "0.1.0". */
MLXR_API const char *mlxr_version(void);

/* ---- logging and progress --------------------------------------------------------------------- */

typedef enum mlxr_log_level { MLXR_LOG_DEBUG, MLXR_LOG_INFO, MLXR_LOG_WARN } mlxr_log_level;

/* Where an object sends what is worth telling but is no error. fn NULL: nowhere. Called on the thread
 * that makes the call which has something to tell; it must not call back into the object. */
typedef struct mlxr_log {
    void (*fn)(mlxr_log_level level, const char *message, void *ud);
    void *ud;
} mlxr_log;

/* done of total, in bytes of weights, on the calling thread while a model loads. fn may be NULL. */
typedef struct mlxr_progress {
    void (*fn)(uint64_t done, uint64_t total, void *ud);
    void *ud;
} mlxr_progress;

/* Frees what the library allocated for the caller (ids, texts). NULL is fine. */
MLXR_API void mlxr_free(void *p);

/* ---- tokenizer -------------------------------------------------------------------------------- */

/* Text to token ids and back, from a Hugging Face tokenizer.json (or vocab.json with merges.txt, vocab.txt, or
 * SentencePiece's tokenizer.model).
 * Immutable once open: any number of threads may share one without a lock. */
typedef struct mlxr_tokenizer mlxr_tokenizer;

/* path: a model folder, or a tokenizer.json itself. On success *out is the caller's; on failure it is
 * NULL and err names the file and the place in it, or all the files looked for. */
MLXR_API mlxr_status mlxr_tokenizer_open(mlxr_tokenizer **out, const char *path, mlxr_error *err);
MLXR_API void mlxr_tokenizer_close(mlxr_tokenizer *tok);

/* Fill it with mlxr_tokenizer_options_default first. */
typedef struct mlxr_tokenizer_options {
    /* A folder for compiled tokenizers, made when it is not there; NULL: none is used. The second opening of a
     * file then maps its compiled form instead of reading it, which takes milliseconds. A cache that cannot be
     * used (stale, broken, of another version, not writable) is passed over and written anew where possible. */
    const char *cache_dir;
    mlxr_log log; /* why a cache was not used */
} mlxr_tokenizer_options;
MLXR_API mlxr_tokenizer_options mlxr_tokenizer_options_default(void);
/* As mlxr_tokenizer_open; options NULL: the defaults. */
MLXR_API mlxr_status mlxr_tokenizer_open_with(mlxr_tokenizer **out, const char *path,
                                              const mlxr_tokenizer_options *options, mlxr_error *err);

/* Encodes n_text bytes of UTF-8. *out_ids (free it with mlxr_free; NULL when there are none) and *out_n
 * are set on success. add_special_tokens: run the post-processor that adds BOS, EOS and the like.
 * Text that is not valid UTF-8 is MLXR_E_INVALID_ARGUMENT, with the offset of the bad byte. */
MLXR_API mlxr_status mlxr_tokenizer_encode(int32_t **out_ids, size_t *out_n, const mlxr_tokenizer *tok,
                                           const char *text, size_t n_text, bool add_special_tokens,
                                           mlxr_error *err);

/* Two texts, as classifiers take them: the post-processor's pair form. */
typedef struct mlxr_text_pair {
    const char *first, *second;
    size_t n_first, n_second; /* bytes */
} mlxr_text_pair;
MLXR_API mlxr_status mlxr_tokenizer_encode_pair(int32_t **out_ids, size_t *out_n, const mlxr_tokenizer *tok,
                                                const mlxr_text_pair *pair, bool add_special_tokens,
                                                mlxr_error *err);

/* Decodes ids to *out_text (NUL-terminated besides its *out_n bytes; free it with mlxr_free). Ids that no
 * token has are passed over, as the reference does. Bytes that are no UTF-8 become U+FFFD. */
MLXR_API mlxr_status mlxr_tokenizer_decode(char **out_text, size_t *out_n, const mlxr_tokenizer *tok,
                                           const int32_t *ids, size_t n_ids, bool skip_special_tokens,
                                           mlxr_error *err);

/* One more than the largest id, added tokens included. */
MLXR_API size_t mlxr_tokenizer_vocab_size(const mlxr_tokenizer *tok);
/* "BPE", "Unigram", "WordPiece" or "WordLevel". */
MLXR_API const char *mlxr_tokenizer_kind(const mlxr_tokenizer *tok);
/* The token's own form in the vocabulary ("Ġthe"), borrowed until close; NULL if id has none. */
MLXR_API const char *mlxr_tokenizer_id_to_token(const mlxr_tokenizer *tok, int32_t id, size_t *n_bytes);
/* -1 if there is no such token. Added tokens are looked up first. */
MLXR_API int32_t mlxr_tokenizer_token_to_id(const mlxr_tokenizer *tok, const char *token, size_t n_bytes);
/* Whether id is an added token marked special. */
MLXR_API bool mlxr_tokenizer_is_special(const mlxr_tokenizer *tok, int32_t id);

/* Text from ids as they come: the pieces' sum is what mlxr_tokenizer_decode gives for all the ids, and
 * every piece is whole UTF-8 characters. Owned by one thread; borrows the tokenizer. */
typedef struct mlxr_detokenizer mlxr_detokenizer;
MLXR_API mlxr_status mlxr_detokenizer_create(mlxr_detokenizer **out, const mlxr_tokenizer *tok,
                                             bool skip_special_tokens, mlxr_error *err);
MLXR_API void mlxr_detokenizer_free(mlxr_detokenizer *d);
/* The text that id makes certain, "" when more ids are needed first. *piece is borrowed until the next call. */
MLXR_API mlxr_status mlxr_detokenizer_push(mlxr_detokenizer *d, int32_t id, const char **piece,
                                           size_t *n_piece, mlxr_error *err);
/* What is still held back; the detokenizer is then as new. */
MLXR_API mlxr_status mlxr_detokenizer_finish(mlxr_detokenizer *d, const char **piece, size_t *n_piece,
                                             mlxr_error *err);

/* ---- chat templates --------------------------------------------------------------------------- */

/* A Jinja chat template, with the language and the environment of transformers' apply_chat_template.
 * Immutable once created: threads may share one. */
typedef struct mlxr_template mlxr_template;

/* name: what messages call it (a path, say). A syntax error is MLXR_E_TEMPLATE with its line. */
MLXR_API mlxr_status mlxr_template_create(mlxr_template **out, const char *source, size_t n_source,
                                          const char *name, mlxr_error *err);
MLXR_API void mlxr_template_free(mlxr_template *t);

/* Bounds on what a template may use; a breach is MLXR_E_LIMIT. */
typedef struct mlxr_template_limits {
    uint64_t max_steps;      /* evaluated nodes; default 50,000,000 */
    size_t max_output_bytes; /* default 64 MiB */
    size_t max_memory_bytes; /* of values made while rendering; default 512 MiB */
    unsigned max_depth;      /* of nested evaluation, macro calls included; default 200 */
} mlxr_template_limits;
MLXR_API mlxr_template_limits mlxr_template_limits_default(void);

/* Renders with the variables of a JSON object (context_json). now: seconds since the epoch for
 * strftime_now, in the local time zone (TZ). limits may be NULL. *out_text: free it with mlxr_free.
 * raise_exception in the template gives MLXR_E_TEMPLATE with its text. */
MLXR_API mlxr_status mlxr_template_render(char **out_text, size_t *out_n, const mlxr_template *t,
                                          const char *context_json, size_t n_context, int64_t now,
                                          const mlxr_template_limits *limits, mlxr_error *err);

/* ---- requests and what comes of them ----------------------------------------------------------- */

/* Added to one token's logit before everything else: finite, or -INFINITY to forbid the token. */
typedef struct mlxr_logit_bias {
    int32_t id;
    float bias;
} mlxr_logit_bias;

/* A token and the natural logarithm of its probability, -INFINITY for a probability of 0. */
typedef struct mlxr_logprob {
    int32_t id;
    double logprob;
} mlxr_logprob;

/* Sampling, with Ollama's names. Fill it with mlxr_sampling_default first: 0 is a real value here. The order in which the
 * options work and their formulas are in docs/sampling.md. Arrays are borrowed during the call they are given to. */
typedef struct mlxr_sampling {
    float temperature; /* 0: greedy; default 0.8 */
    int32_t top_k;     /* 0: off; default 40 */
    float top_p;       /* 0 to 1, 1: off; default 0.9 */
    float min_p;       /* 0 to 1, 0: off; default 0 */
    float typical_p;   /* 0 to 1, 1: off; default 1 */
    int32_t min_keep;  /* candidates that typical_p, top_p, min_p and XTC leave at least; default 0, as 1 */

    float repeat_penalty;    /* > 0, 1: off; default 1 */
    float presence_penalty;  /* 0: off; default 0 */
    float frequency_penalty; /* 0: off; default 0 */
    int32_t repeat_last_n;   /* last tokens these look at, prompt included; -1: all; default 64 */

    const mlxr_logit_bias *logit_bias; /* an id that is there twice gets both; default none */
    size_t n_logit_bias;

    float dry_multiplier;       /* >= 0, 0: off; default 0 */
    float dry_base;             /* >= 1; default 1.75 */
    int32_t dry_allowed_length; /* repeated tokens that are not penalised yet; >= 0; default 2 */
    int32_t dry_penalty_last_n; /* tokens it looks back; 0: off; -1 (default): all */
    const char *const *dry_sequence_breakers; /* texts; a token that holds one ends a repetition;
                                               * default newline, colon, double quote, asterisk */
    size_t n_dry_sequence_breakers;

    float xtc_probability; /* 0 to 1, 0: off; default 0 */
    float xtc_threshold;   /* 0 to 1, above 0.5 it has no effect; default 0.1 */

    int32_t mirostat;   /* 0: off (default), 1 or 2: in place of top_k, typical_p, top_p, min_p and XTC */
    float mirostat_tau; /* the surprise aimed at, in bits; >= 0; default 5 */
    float mirostat_eta; /* how fast it gets there; 0 to 1; default 0.1 */

    int32_t min_tokens; /* no EOS before so many tokens; default 0 */
    int64_t seed;       /* < 0: a new one each time; default -1 */
} mlxr_sampling;
MLXR_API mlxr_sampling mlxr_sampling_default(void);

/* What to do with a prompt that leaves no room in the context, or an answer that fills it. */
typedef enum mlxr_overflow {
    MLXR_OVERFLOW_ERROR, /* a prompt that leaves no room for a token is refused; an answer ends with LENGTH */
    MLXR_OVERFLOW_TRUNCATE, /* of a prompt that is too long the first num_keep and the newest tokens stay, with room for
                             * the answer: max_tokens, at most a quarter of the context */
    MLXR_OVERFLOW_SHIFT /* the same, and an answer that fills the context goes on: the older half of the tokens
                             * behind num_keep is dropped and the rest computed anew. That is exact, and costs a prompt of
                             * half a context for every half context of answer. max_tokens -1 is until EOS */
} mlxr_overflow;

/* Whether an answer calls tools. */
typedef enum mlxr_tool_choice {
    MLXR_TOOL_CHOICE_AUTO,     /* as the model likes */
    MLXR_TOOL_CHOICE_NONE,     /* no call */
    MLXR_TOOL_CHOICE_REQUIRED, /* at least one call, of any tool */
    MLXR_TOOL_CHOICE_NAMED     /* of the tool that is named */
} mlxr_tool_choice;

/* Thinking before the answer, for models that can. DEFAULT: as the chat template has it. LOW to HIGH: how much, where the
 * template knows that; ON where it only knows on and off. What a model cannot do is MLXR_E_UNSUPPORTED. */
typedef enum mlxr_think {
    MLXR_THINK_DEFAULT,
    MLXR_THINK_OFF,
    MLXR_THINK_ON,
    MLXR_THINK_LOW,
    MLXR_THINK_MEDIUM,
    MLXR_THINK_HIGH
} mlxr_think;

/* One request. Fill it with mlxr_request_default first. All pointers are borrowed during the call. */
typedef struct mlxr_request {
    const char *prompt;        /* the user's text; with raw, the whole prompt as it is */
    const char *system;        /* system text, or NULL */
    const char *messages_json; /* instead of prompt and system: a JSON list of messages, or NULL */
    const char *tools_json;    /* a JSON list of tools for the template, or NULL */
    const int32_t *prompt_ids; /* instead of all text: the prompt's tokens, or NULL */
    size_t n_prompt_ids;
    bool raw; /* no chat template, no special tokens but those the tokenizer itself adds */
    int32_t
        n_choices; /* answers to the one prompt, which is computed once; choice i has seed + i; default 1 */
    int32_t max_tokens; /* most tokens to generate, of each choice; -1: until EOS or the context is full */
    bool ignore_eos;    /* sampling.min_tokens is the milder form */
    const char *const *stop; /* stop strings: cut from the answer, never leaked in part */
    size_t n_stop;
    bool logprobs;        /* TOKEN events tell the probability of their token */
    int32_t top_logprobs; /* and of that many likeliest ones, 0 to MLXR_MAX_TOP_LOGPROBS */
    mlxr_overflow overflow;
    int32_t num_keep; /* tokens at the beginning that overflow never drops; default 0 */
    mlxr_sampling sampling;

    /* What the answer must be: one of these, or none (NULL). It then always is, or ends with LENGTH. The model may think
     * before it. What cannot be enforced is refused when the request is submitted. docs/grammars.md */
    const char *format;  /* "json": any JSON object; else a JSON Schema (draft 2020-12), as text */
    const char *grammar; /* GBNF */
    const char *regex;   /* matches the whole answer */

    /* Parts: thinking and calls of tools are told apart from content, in events of their own (mlxr_event.part). Default
     * false: everything is content, as the model writes it. Not with raw. */
    bool parts;
    const char *
        answer_format; /* parts: how this model writes them ("hermes", "harmony", ... as docs/answers.md lists them);
                                * NULL (default): what its chat template shows */
    mlxr_think think;
    mlxr_tool_choice
        tool_choice; /* with tools_json and parts; arguments follow the tool's JSON Schema in any case */
    const char *tool_name;    /* NAMED */
    bool parallel_tool_calls; /* default true: more than one call in an answer */
} mlxr_request;
enum { MLXR_MAX_TOP_LOGPROBS = 20 };
MLXR_API mlxr_request mlxr_request_default(void);

typedef enum mlxr_done_reason { MLXR_DONE_STOP, MLXR_DONE_LENGTH, MLXR_DONE_CANCELLED } mlxr_done_reason;
/* "stop", "length", "cancelled". */
MLXR_API const char *mlxr_done_reason_name(mlxr_done_reason reason);

/* Of one choice. Its time is queue, prefill, decode, one after the other. */
typedef struct mlxr_stats {
    size_t prompt_token_count;
    size_t cached_token_count;    /* of those, the ones found in the prefix cache: not computed again */
    size_t dropped_token_count;   /* of the prompt and the answer, dropped as mlxr_request.overflow allows */
    size_t generated_token_count; /* EOS is not counted */
    uint64_t duration_ns;         /* of the whole call */
    uint64_t queue_ns;            /* waiting for memory and for those before it */
    uint64_t prefill_ns;          /* the prompt's tokens, up to the first sampled token */
    uint64_t decode_ns;           /* the tokens after the first */
    uint64_t load_ns;             /* loading the model, when this call did it; else 0 */
    mlxr_done_reason done_reason;
} mlxr_stats;

typedef enum mlxr_event_type {
    MLXR_EVENT_TOKEN,
    MLXR_EVENT_COMPLETED,
    MLXR_EVENT_FAILED,
    MLXR_EVENT_TOOL_CALL /* a call is complete */
} mlxr_event_type;

/* What a piece of an answer belongs to; CONTENT without mlxr_request.parts. */
typedef enum mlxr_part { MLXR_PART_CONTENT, MLXR_PART_THINKING, MLXR_PART_TOOL_CALL } mlxr_part;
/* "content", "thinking", "tool_call". */
MLXR_API const char *mlxr_part_name(mlxr_part part);

typedef struct mlxr_tool_call {
    size_t index;              /* in the answer, from 0 */
    const char *name;          /* of the function */
    const char *id;            /* the model's own for this call; NULL: it gives none */
    const char *arguments;     /* a JSON object, compact; NULL while the call is being written */
    const char *arguments_raw; /* as the model wrote them; NULL while the call is being written */
} mlxr_tool_call;

/* Of each choice: TOKEN (and TOOL_CALL) any number of times, then COMPLETED once, and nothing after it. Choices are mixed. A generation of
 * an engine that fails or is cancelled ends in one FAILED instead, after which nothing comes of any choice; a runner's
 * generate then ends without COMPLETED, and its status tells. */
typedef struct mlxr_event {
    mlxr_event_type type;
    int32_t choice;   /* from 0; FAILED: -1 */
    const char *text; /* TOKEN: a piece of the answer, whole UTF-8 characters, may be "" while a character
                          or a stop string is incomplete. COMPLETED: the whole content. FAILED: what went wrong. NUL-terminated,
                          borrowed during the callback, or until the next mlxr_generation_next */
    size_t n_text;
    int32_t id; /* TOKEN: the sampled token's id; -1 for text that was held back, and for all but the first of
                       * several pieces that one token makes certain. COMPLETED: which stop string ended it, or -1 */
    mlxr_part part; /* TOKEN: what the text is part of. TOOL_CALL: a piece of a call's arguments */
    const mlxr_tool_call *
        call; /* TOKEN of a TOOL_CALL: which; event TOOL_CALL: the whole call. Borrowed like text, as all below */
    const char *thinking; /* COMPLETED: all of it, "" when there was none */
    size_t n_thinking;
    const mlxr_tool_call *calls; /* COMPLETED: all calls */
    size_t n_calls;
    const char *warning; /* TOKEN, COMPLETED: what was wrong with a call that comes as content; else NULL */
    bool has_logprob;    /* TOKEN with an id, when the request asked for logprobs */
    double logprob;      /* of the sampled token, before any sampling option changed the distribution */
    const mlxr_logprob
        *top; /* the likeliest tokens of the same distribution, best first; borrowed like text */
    size_t n_top;
    const mlxr_stats *stats; /* COMPLETED: of this choice; FAILED: of what was done; borrowed like text */
    mlxr_status status;      /* FAILED: why; MLXR_E_CANCELLED, when it was cancelled or the engine closed */
} mlxr_event;

/* Called on the thread that runs mlxr_runner_generate, and for an engine on the engine's own thread: then it must not
 * wait for anything, since all generations wait for it. It may cancel; for an engine also free and submit generations, and
 * make the calls that only look (mlxr_engine_tokenizer and the like). No others of the runner or engine. */
typedef void (*mlxr_on_event)(const mlxr_event *event, void *ud);

/* EXACT: float32 throughout. FAST: what the device does best within the bounds its documentation states. DEFAULT: the
 * device's own choice: FAST, but EXACT on mlx:cpu, where the model's half precision is slower by far. */
typedef enum mlxr_precision {
    MLXR_PRECISION_DEFAULT,
    MLXR_PRECISION_FAST,
    MLXR_PRECISION_EXACT
} mlxr_precision;

/* How keys and values are kept between steps. F16: half the memory of F32 and of what a long context reads; values
 * beyond 65504 become 65504. INT8: a quarter, with a scale for each head and position. DEFAULT: the device's own choice:
 * cpu F16, and F32 with MLXR_PRECISION_EXACT; ref F32; mlx the type it computes with, and it has no other. */
typedef enum mlxr_kv_type { MLXR_KV_DEFAULT, MLXR_KV_F32, MLXR_KV_F16, MLXR_KV_INT8 } mlxr_kv_type;

/* ---- schemas by themselves --------------------------------------------------------------------- */

/* A JSON Schema as mlxr_request.format holds an answer to it: to know early whether it can be, and what it lets through. Owned
 * by one thread. */
typedef struct mlxr_json_schema mlxr_json_schema;
/* name: what messages call it ("schema", a path). Refused as a request with this format is. */
MLXR_API mlxr_status mlxr_json_schema_create(mlxr_json_schema **out, const char *text, size_t n_text,
                                             const char *name, mlxr_error *err);
MLXR_API void mlxr_json_schema_free(mlxr_json_schema *schema);
/* Whether an answer could be this JSON value, the order of members aside. *why (may be NULL): for one that could not, what does
 * not fit, where, and what would; free it with mlxr_free. No JSON is MLXR_E_FORMAT. */
MLXR_API mlxr_status mlxr_json_schema_check(bool *valid, char **why, mlxr_json_schema *schema,
                                            const char *json, size_t n_json, mlxr_error *err);

/* ---- engine ----------------------------------------------------------------------------------- */

/* One model on one device, which answers many requests at once: their tokens share its steps, a prompt that begins as
 * an earlier one did is not computed again as far as it does, and a seed gives the same answer whatever else runs (bit
 * for bit on devices cpu and ref).
 *
 *   submit -> mlxr_generation: TOKEN ... COMPLETED, to a callback or by mlxr_generation_next -> free
 *
 * Threads: the engine has one of its own, which runs the device. Every call below may be made from any thread, many at
 * once, but: close is the last call on an engine and is made once; mlxr_generation_next, wait and free of one
 * generation are for one thread at a time, and free is its last call. A callback runs on the engine's thread. */
typedef struct mlxr_engine mlxr_engine;

/* Fill it with mlxr_engine_options_default first. Strings are borrowed during the call. */
typedef struct mlxr_engine_options {
    const char *device; /* "cpu" (default), "ref", or "mlx", "mlx:gpu", "mlx:cpu" */
    const char *isa;    /* cpu: NULL for the best the machine has, else "baseline", "avx2",
                         * "avxvnni", "avx512", "vnni", on ARM "neon", "dotprod" */
    const char
        *mlx_library; /* mlx: the file of its module; NULL (default): looked for where it is installed */
    size_t
        memory_limit_bytes; /* mlx: for all of MLX's arrays in this process; 0 (default): MLX's own limit */
    mlxr_precision precision;
    mlxr_kv_type kv_type;
    int32_t n_threads;     /* of the device; 0: one a core */
    size_t context_length; /* tokens a sequence may hold; 0: the model's own, at most 8192 */
    size_t max_sequences;  /* that run at once, choices counted; others wait; default 16 */
    size_t kv_bytes;       /* for keys and values of all sequences; 0 (default): room for one whole context */
    size_t max_waiting;    /* sequences that wait, a further one ends in MLXR_E_BUSY; default: no limit */
    size_t
        prefix_cache_bytes; /* of those, what may be kept of sequences that ended; SIZE_MAX (default): all that is
                                * free, 0: nothing */
    const char *cache_dir; /* for compiled tokenizers, see mlxr_tokenizer_options; NULL (default): none */
    mlxr_log log;          /* called on the thread that opens, then on the engine's own */
    mlxr_progress progress;
} mlxr_engine_options;
MLXR_API mlxr_engine_options mlxr_engine_options_default(void);

/* Loads the model in folder model_dir and starts the engine's thread. */
MLXR_API mlxr_status mlxr_engine_open(mlxr_engine **out, const char *model_dir,
                                      const mlxr_engine_options *options, mlxr_error *err);
/* Ends whatever runs and waits (generations in FAILED with MLXR_E_CANCELLED, embed and score with that status), and
 * returns once no callback can come any more. Generations stay valid until each is freed. Not from a callback. */
MLXR_API void mlxr_engine_close(mlxr_engine *engine);

/* What is loaded. The strings are borrowed until close. */
typedef struct mlxr_engine_info {
    const char *model_dir;
    const char *family;      /* "llama", "qwen3", ... */
    const char *device_name; /* how the device calls itself: "cpu avx2, 2 threads" */
    size_t hidden_size, vocab_size, n_layers;
    size_t context_length; /* tokens a sequence may hold here */
    uint64_t load_ns;
} mlxr_engine_info;
MLXR_API mlxr_engine_info mlxr_engine_get_info(const mlxr_engine *engine);
/* How much is going on; a moment's picture. */
typedef struct mlxr_engine_load {
    size_t n_running, n_waiting; /* sequences with memory of their own, and those without yet */
    size_t kv_bytes, kv_bytes_used,
        kv_bytes_cached; /* all, of sequences, of prefixes kept from earlier ones */
    uint64_t n_steps;    /* of the device, since the engine was opened */
    uint64_t n_prompt_tokens, n_cached_tokens, n_generated_tokens; /* computed; not computed again; sampled */
} mlxr_engine_load;
MLXR_API mlxr_engine_load mlxr_engine_get_load(mlxr_engine *engine);
/* Borrowed until close. */
MLXR_API const mlxr_tokenizer *mlxr_engine_tokenizer(const mlxr_engine *engine);
/* The source of the chat template that rendering uses by default (the built-in Llama prompt for a folder without one);
 * borrowed until close. */
MLXR_API const char *mlxr_engine_template_source(const mlxr_engine *engine);
/* The prompt that a request's messages, tools and texts make: the folder's template rendered, or with raw the prompt
 * as it is. *out_text: free it with mlxr_free. */
MLXR_API mlxr_status mlxr_engine_render(char **out_text, size_t *out_n, const mlxr_engine *engine,
                                        const mlxr_request *request, mlxr_error *err);
/* And its tokens, as submit takes them. *out_ids: free it with mlxr_free. */
MLXR_API mlxr_status mlxr_engine_encode(int32_t **out_ids, size_t *out_n, const mlxr_engine *engine,
                                        const mlxr_request *request, mlxr_error *err);
/* The model's own sampling: temperature, top_k, top_p, min_p and repetition_penalty where its generation_config.json has
 * them (temperature 0 where that says "do_sample": false), and mlxr_sampling_default for the rest. */
MLXR_API mlxr_sampling mlxr_engine_sampling_default(const mlxr_engine *engine);

/* ---- generations ---- */

typedef struct mlxr_generation mlxr_generation;

/* Queues a request. on_event: where its events go, on the engine's thread; NULL: they are kept until
 * mlxr_generation_next takes them. A request that can never run (wrong sampling, a prompt longer than the context)
 * fails here and now. The first callback may come before the call returns. *out: free it. */
MLXR_API mlxr_status mlxr_engine_submit(mlxr_generation **out, mlxr_engine *engine,
                                        const mlxr_request *request, mlxr_on_event on_event, void *ud,
                                        mlxr_error *err);
/* Waits for the next event and fills *event, whose pointers stay valid until the next call or free. false: none came
 * within timeout_ms (-1: waits as long as it takes), or all have been taken, which mlxr_generation_ended tells apart. For
 * generations without on_event. */
MLXR_API bool mlxr_generation_next(mlxr_generation *g, int64_t timeout_ms, mlxr_event *event);
/* Whether it ended, and every event was given out. */
MLXR_API bool mlxr_generation_ended(mlxr_generation *g);
/* Waits for the end, events that nobody took notwithstanding: MLXR_OK, or what its FAILED event told. stats (may be NULL)
 * are those of the choice that ended last, with the generated tokens of all. Not from a callback. */
MLXR_API mlxr_status mlxr_generation_wait(mlxr_generation *g, mlxr_stats *stats, mlxr_error *err);
/* It ends in FAILED with MLXR_E_CANCELLED within a step, its memory given back, unless it had ended before. From any thread,
 * from a callback, and from a signal handler; any number of times until free. */
MLXR_API void mlxr_generation_cancel(mlxr_generation *g);
/* Cancels what still runs, without waiting for it: no callback begins after free returns; one that is running is waited
 * for, unless free is called in it. */
MLXR_API void mlxr_generation_free(mlxr_generation *g);

/* ---- embeddings and scores ---- */

/* How the states of a text's tokens become one vector. DEFAULT: what 1_Pooling/config.json of the folder says (found by
 * modules.json where there is one, as sentence-transformers does); a folder without: LAST, as decoders are trained. */
typedef enum mlxr_pooling { MLXR_POOLING_DEFAULT, MLXR_POOLING_MEAN, MLXR_POOLING_LAST } mlxr_pooling;
/* "default", "mean", "last". */
MLXR_API const char *mlxr_pooling_name(mlxr_pooling pooling);

/* A text, with the special tokens the tokenizer adds, or its tokens as they are. */
typedef struct mlxr_input {
    const char *text; /* NULL: ids */
    size_t n_text;
    const int32_t *ids;
    size_t n_ids;
} mlxr_input;

/* Fill it with mlxr_embed_options_default first. */
typedef struct mlxr_embed_options {
    mlxr_pooling pooling;
    size_t dimensions; /* the first so many of each vector, normalised again; 0 (default): all */
    bool truncate; /* a text longer than the context is cut to it; default false: MLXR_E_CONTEXT_OVERFLOW */
} mlxr_embed_options;
MLXR_API mlxr_embed_options mlxr_embed_options_default(void);

typedef struct mlxr_embeddings {
    float *values; /* [n, n_dimensions], each row of length 1 */
    size_t n, n_dimensions;
    size_t n_tokens; /* of all inputs */
} mlxr_embeddings;
/* The last hidden states of each input, pooled and of length 1. Waits; inputs and other requests share steps. On success
 * clear *out; on failure it is empty. Not from a callback. */
MLXR_API mlxr_status mlxr_engine_embed(mlxr_embeddings *out, mlxr_engine *engine, const mlxr_input *inputs,
                                       size_t n_inputs, const mlxr_embed_options *options, mlxr_error *err);
MLXR_API void mlxr_embeddings_clear(mlxr_embeddings *e);
/* What MLXR_POOLING_DEFAULT is here; itself, where the folder asks for another, which is then MLXR_E_UNSUPPORTED. */
MLXR_API mlxr_pooling mlxr_engine_pooling_default(const mlxr_engine *engine);

typedef struct mlxr_score {
    int32_t *ids; /* [n_tokens] */
    float
        *logprobs; /* [n_tokens]: of token i after those before it; 0 for the first, which nothing precedes */
    size_t n_tokens;
    double sum; /* of tokens 1 and on */
} mlxr_score;
/* How likely the model finds a text. Waits. On success clear *out; on failure it is empty. Not from a callback. */
MLXR_API mlxr_status mlxr_engine_score(mlxr_score *out, mlxr_engine *engine, const mlxr_input *input,
                                       mlxr_error *err);
MLXR_API void mlxr_score_clear(mlxr_score *s);

/* ---- runner ----------------------------------------------------------------------------------- */

/* Runs models behind one adapter. generate is for one thread at a time (a second call meanwhile is
 * MLXR_E_BUSY); cancel is for any thread and for signal handlers. */
typedef struct mlxr_runner mlxr_runner;

/* Fill it with mlxr_runner_options_default first. */
typedef struct mlxr_runner_options {
    const char *adapter; /* "native" (default) or "mock" */
    const char *device;  /* "cpu" (default), "ref", or "mlx", "mlx:gpu", "mlx:cpu"; native only */
    const char *isa;     /* cpu: NULL for the best the machine has, else "baseline", "avx2",
                          * "avxvnni", "avx512", "vnni", on ARM "neon", "dotprod" */
    const char
        *mlx_library; /* mlx: the file of its module; NULL (default): looked for where it is installed */
    size_t
        memory_limit_bytes; /* mlx: for all of MLX's arrays in this process; 0 (default): MLX's own limit */
    mlxr_precision precision;
    mlxr_kv_type kv_type;
    int32_t n_threads;      /* 0: one a core */
    size_t context_length;  /* tokens a sequence may hold; 0: the model's own, at most 8192 */
    const char *cache_dir;  /* for compiled tokenizers, see mlxr_tokenizer_options; NULL (default): none */
    uint32_t mock_token_ms; /* mock: a pause before each token, to try cancelling and streaming; default 0 */
    mlxr_log log;
    mlxr_progress progress;
} mlxr_runner_options;
MLXR_API mlxr_runner_options mlxr_runner_options_default(void);

/* Loads the model. model: a model folder; for "mock" a name that is only echoed. Strings are copied. */
MLXR_API mlxr_status mlxr_runner_open(mlxr_runner **out, const char *model,
                                      const mlxr_runner_options *options, mlxr_error *err);
MLXR_API void mlxr_runner_close(mlxr_runner *runner);

/* Runs one request to its end; events go to on_event as they happen. Cancelled: MLXR_E_CANCELLED within
 * one token, everything of the request freed, the runner ready for the next. stats may be NULL; it is
 * filled for a cancelled call too. */
MLXR_API mlxr_status mlxr_runner_generate(mlxr_runner *runner, const mlxr_request *request,
                                          mlxr_on_event on_event, void *ud, mlxr_stats *stats,
                                          mlxr_error *err);
/* Cancels the running generate, if there is one. Safe in a signal handler. */
MLXR_API void mlxr_runner_cancel(mlxr_runner *runner);
/* How the device calls itself ("cpu avx2, 2 threads"), borrowed until close. */
MLXR_API const char *mlxr_runner_device_name(const mlxr_runner *runner);
/* The engine behind it, borrowed until close; NULL where the adapter has none. */
MLXR_API mlxr_engine *mlxr_runner_engine(mlxr_runner *runner);

/* A model's folder by id, from a JSON file { "model-id": "path", ... }: relative paths are taken from that
 * file's folder, "~" and "~/" expand to home (NULL: not expanded). model_id NULL: the file's first one.
 * *out_path: free it with mlxr_free. An id the file does not have, or a path that is not there:
 * MLXR_E_MODEL_PATH_MISSING, naming the id and the file. */
MLXR_API mlxr_status mlxr_model_path_resolve(char **out_path, const char *json_file, const char *model_id,
                                             const char *home, mlxr_error *err);

/* ---- store ------------------------------------------------------------------------------------ */

/* Models in a folder of their own: files by their SHA-256 (two models share what they have in common), an OCI image manifest
 * a model, names "[host/][namespace/]name[:tag]". docs/store.md has the layout. Whatever happens to a process or the machine, a
 * name stands for a whole model or for none.
 *
 * Any number of threads may use one mlxr_store, and any number of processes one folder. Names are found without regard to
 * the case of letters. NAME below is a name, or "sha256:" with at least 8 digits of a model's digest. */
typedef struct mlxr_store mlxr_store;

/* Fill it with mlxr_store_options_default first. */
typedef struct mlxr_store_options {
    uint64_t
        quota_bytes; /* most bytes of files; 0 (default): what the store's config.json says, else no limit */
    int64_t grace_seconds; /* how long mlxr_store_gc leaves files that no model has; default 3600 */
    mlxr_log log;
    /* For tests of what a crash or a full disk leaves: called before each change of the file system with its kind ("write",
     * "rename", ...) and path; what is not 0 is the errno it then fails with. NULL (default): nothing is asked. */
    int (*fault)(const char *kind, const char *path, void *ud);
    void *fault_ud;
} mlxr_store_options;
MLXR_API mlxr_store_options mlxr_store_options_default(void);

/* root is made when the first thing is put into it; a store that is only read needs no permission to write. Strings are
 * copied. */
MLXR_API mlxr_status mlxr_store_open(mlxr_store **out, const char *root, const mlxr_store_options *options,
                                     mlxr_error *err);
MLXR_API void mlxr_store_close(mlxr_store *store);

/* How far a long call is. */
typedef struct mlxr_store_step {
    const char *
        what; /* "hashing", "copying", "linking", "converting", "pulling", "pushing", "verifying", "exporting" */
    const char *item;             /* file of the model; NULL: the whole */
    uint64_t done, total;         /* bytes of the item */
    uint64_t done_all, total_all; /* bytes of all that this call does; 0 of 0: not known yet */
} mlxr_store_step;

/* What long calls take beside their own options; NULL is fine. */
typedef struct mlxr_store_job {
    /* One call at a time, on the caller's thread or on one of the library's; at most some 20 a second and the last of each
     * item. May be NULL. It must not call the store. */
    void (*on_step)(const mlxr_store_step *step, void *ud);
    void *ud;
    const volatile int *cancel; /* not 0: the call ends with MLXR_E_CANCELLED; NULL: it cannot be stopped */
} mlxr_store_job;

typedef struct mlxr_store_entry {
    char *name;         /* as people write it: "llama:latest", "mlx-community/Qwen3-4B-4bit:latest" */
    char *digest;       /* of the manifest: "sha256:<64 hex>" */
    char *family;       /* model_type of config.json */
    char *quantization; /* "4-bit, groups of 64", "mxfp4", "bf16" */
    uint64_t n_parameters;
    uint64_t size_bytes;      /* of all its files */
    uint64_t shared_bytes;    /* of them: also in other models of the store */
    uint64_t linked_bytes;    /* of them: lying outside the store (mlxr_store_import_options.link) */
    int64_t modified_seconds; /* since 1970 */
    char *broken;             /* NULL; else why it cannot be used ("model.safetensors is missing") */
} mlxr_store_entry;
/* By name; shared_bytes are counted over all models of the store. *out: mlxr_store_entries_free it. A manifest that cannot be
 * read is an entry with `broken`. */
MLXR_API mlxr_status mlxr_store_list(mlxr_store_entry **out, size_t *out_n, mlxr_store *store,
                                     mlxr_error *err);
MLXR_API void mlxr_store_entries_free(mlxr_store_entry *entries, size_t n);

/* A folder with the model's files under their own names, for everything that takes a model folder; made when it is not there
 * yet (it holds links alone). Sizes are checked against the manifest each time, and of files outside the store that they
 * have not changed since. *out_path: free it with mlxr_free. Unknown: MLXR_E_NOT_FOUND; parts missing or changed:
 * MLXR_E_CORRUPT, naming file and remedy. */
MLXR_API mlxr_status mlxr_store_model_path(char **out_path, mlxr_store *store, const char *name,
                                           mlxr_error *err);

/* Fill it with mlxr_store_import_options_default first. */
typedef struct mlxr_store_import_options {
    bool link; /* weights stay where they are, and the model ends when they change or go; default false */
    bool copy; /* never hard links: the store's files are its own; default false */
    bool
        requantize; /* GGUF: types that no MLX form holds exactly are quantized anew; default false: refused */
} mlxr_store_import_options;
MLXR_API mlxr_store_import_options mlxr_store_import_options_default(void);
/* path: a model folder, a GGUF file, or an OCI image layout (a folder). Reflinks where the file system can, else hard links
 * where it can, else copies. An older model of that name is replaced. *out_digest: free it with mlxr_free; may be NULL. */
MLXR_API mlxr_status mlxr_store_import(char **out_digest, mlxr_store *store, const char *path,
                                       const char *name, const mlxr_store_import_options *options,
                                       const mlxr_store_job *job, mlxr_error *err);
/* Writes the model's files to dir, which is made and must be empty; oci_layout: as an OCI image layout, which other tools
 * read too. */
MLXR_API mlxr_status mlxr_store_export(mlxr_store *store, const char *name, const char *dir, bool oci_layout,
                                       const mlxr_store_job *job, mlxr_error *err);

/* Takes the name away, and the files that no other model has. *out_freed (may be NULL): their bytes. */
MLXR_API mlxr_status mlxr_store_remove(mlxr_store *store, const char *name, uint64_t *out_freed,
                                       mlxr_error *err);
MLXR_API mlxr_status mlxr_store_copy(mlxr_store *store, const char *from, const char *to, mlxr_error *err);

typedef struct mlxr_store_gc_result {
    size_t n_files;
    uint64_t freed_bytes;
    size_t n_kept; /* younger than grace_seconds, or wanted by a call of some process that runs now */
} mlxr_store_gc_result;
/* Removes files that no model has and what dead processes left. */
MLXR_API mlxr_status mlxr_store_gc(mlxr_store_gc_result *out, mlxr_store *store, const mlxr_store_job *job,
                                   mlxr_error *err);

/* Where models come from and go to. Fill it with mlxr_remote_options_default first. */
typedef struct mlxr_remote_options {
    const char *hub_endpoint; /* of Hugging Face's protocol; default "https://huggingface.co" */
    const char *hub_token;    /* NULL (default): none */
    const char *revision; /* hub: branch, tag or commit; NULL (default): the name's tag, "latest" is "main" */
    const char *file;     /* hub: this GGUF file of the repository; NULL (default): its safetensors */
    const char *user, *password;   /* OCI registry; NULL (default): auth_files */
    const char *const *auth_files; /* as docker's config.json, the first that knows the host counts */
    size_t n_auth_files;
    bool insecure; /* plain HTTP, TLS without checking; loopback hosts are always tried without TLS too */
    uint32_t n_parallel; /* connections at a time; default 4 */
    uint32_t n_tries;    /* of a request that fails for a moment's reason; default 6, with growing pauses */
    uint32_t stall_seconds; /* a connection that brings nothing for so long is given up; default 30 */
} mlxr_remote_options;
MLXR_API mlxr_remote_options mlxr_remote_options_default(void);

typedef struct mlxr_transfer {
    char digest[72];        /* of the manifest */
    uint64_t total_bytes;   /* of the model's files */
    uint64_t moved_bytes;   /* over the network, in this call */
    uint64_t present_bytes; /* were on this side, or that, already */
} mlxr_transfer;
/* from: "[hf.co/]org/repo[:revision]", or "host/repository[:tag]" of an OCI registry (the first part has a dot or a colon, or is
 * "localhost"). name: what it is called here; NULL: the same. What was fetched before, by a call that was killed too,
 * is not fetched again; two calls for one file share the work. Every file is checked by its digest. out may be NULL. */
MLXR_API mlxr_status mlxr_store_pull(mlxr_transfer *out, mlxr_store *store, const char *from,
                                     const char *name, const mlxr_remote_options *options,
                                     const mlxr_store_job *job, mlxr_error *err);
/* To an OCI registry; to NULL: by the model's own name. Files the registry has are not sent. */
MLXR_API mlxr_status mlxr_store_push(mlxr_transfer *out, mlxr_store *store, const char *name, const char *to,
                                     const mlxr_remote_options *options, const mlxr_store_job *job,
                                     mlxr_error *err);

/* Fill it with mlxr_store_verify_options_default first. */
typedef struct mlxr_store_verify_options {
    bool deep;   /* read every byte; else sizes, headers and offsets; default false */
    bool repair; /* what is bad is fetched again from where the model came from; default false */
    const mlxr_remote_options *remote; /* for repair; NULL (default): the defaults */
    /* Each finding as it is made: model, file and tensor (NULL: of the file, or not known) and what is wrong in one line.
     * repaired: it was, and the model is whole in this. On the calling thread. May be NULL. */
    void (*on_finding)(const char *name, const char *file, const char *tensor, const char *text,
                       bool repaired, void *ud);
    void *ud;
} mlxr_store_verify_options;
MLXR_API mlxr_store_verify_options mlxr_store_verify_options_default(void);
typedef struct mlxr_store_verify_result {
    size_t n_models, n_files; /* looked at; a file of two models counts once */
    uint64_t read_bytes, fetched_bytes;
    size_t n_bad, n_repaired; /* findings */
} mlxr_store_verify_result;
/* names NULL: every model. Findings are no failure of the call. */
MLXR_API mlxr_status mlxr_store_verify(mlxr_store_verify_result *out, mlxr_store *store,
                                       const char *const *names, size_t n_names,
                                       const mlxr_store_verify_options *options, const mlxr_store_job *job,
                                       mlxr_error *err);

#ifdef __cplusplus
}
#endif

#endif
