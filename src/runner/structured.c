/* structured: see structured.h. */
#include "runner/structured.h"

#include <stdlib.h>

#include "text/tokenizer/token_bytes.h"

enum { MAX_GRAMMARS = 64, MAX_MASKERS = 16 };
static const size_t MAX_GRAMMAR_BYTES = (size_t)64 << 20, MAX_MASKER_BYTES = (size_t)128 << 20;

typedef struct kept_grammar {
    struct kept_grammar *next; /* used before this one */
    char digest[65];
    mlxr_grammar *grammar;
} kept_grammar;

typedef struct kept_masker {
    struct kept_masker *next; /* used before this one */
    mlxr_grammar *grammar;
    mlxr_masker *masker;
    size_t n_users;
} kept_masker;

struct mlxr_structures {
    const mlxr_folder *folder;
    size_t vocab_size;
    pthread_mutex_t lock;        /* guards what comes next, up to the maskers */
    mlxr_vocabulary *vocabulary; /* made by the first who wants it, then immutable */
    kept_grammar *grammars;
    kept_masker *maskers; /* the engine's thread's */
};

mlxr_status mlxr_structures_create(mlxr_structures **out, const mlxr_folder *folder, mlxr_error *err)
{
    mlxr_structures *s = calloc(1, sizeof *s);

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, "structured answers");
    if (pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return mlxr_fail_nomem(err, "structured answers");
    }
    s->folder = folder;
    s->vocab_size = mlxr_model_program(folder->model)->vocab_size;
    *out = s;
    return MLXR_OK;
}

static void free_grammar(kept_grammar *k)
{
    mlxr_grammar_unref(k->grammar);
    free(k);
}

static void free_masker(kept_masker *k)
{
    mlxr_masker_free(k->masker);
    mlxr_grammar_unref(k->grammar);
    free(k);
}

void mlxr_structures_free(mlxr_structures *s)
{
    if (!s) return;
    while (s->maskers) {
        kept_masker *k = s->maskers;
        s->maskers = k->next;
        free_masker(k);
    }
    while (s->grammars) {
        kept_grammar *k = s->grammars;
        s->grammars = k->next;
        free_grammar(k);
    }
    mlxr_vocabulary_free(s->vocabulary);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- thinking ---- */

static mlxr_status check_thinking(mlxr_structures *s, const mlxr_request *r, const mlxr_answer_format *f,
                                  mlxr_error *err)
{
    mlxr_template_capabilities can;
    mlxr_status st;

    if ((unsigned)r->think > MLXR_THINK_HIGH)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: think is %d, which is none of its values",
                         (int)r->think);
    if (r->think == MLXR_THINK_DEFAULT) return MLXR_OK;
    if (r->raw || (r->prompt_ids && !r->parts))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: think works through the chat template, which a raw prompt has not");
    if ((st = mlxr_prompt_capabilities(&can, s->folder->prompt, err)) != MLXR_OK) return st;
    if (r->think == MLXR_THINK_OFF && mlxr_prompt_thinks(s->folder->prompt, f) &&
        !mlxr_prompt_can_stop_thinking(s->folder->prompt, &can))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "request: the model's chat template has no switch that turns thinking off");
    if (r->think != MLXR_THINK_OFF && !mlxr_prompt_thinks(s->folder->prompt, f) && !can.thinking_switch)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "request: the model's chat template knows no thinking");
    return MLXR_OK;
}

/* ---- the request ---- */

static mlxr_status find_format(const mlxr_answer_format **out, const mlxr_structures *s,
                               const mlxr_request *r, mlxr_error *err)
{
    bool parts = r->parts && !r->raw;
    const char *name = parts ? r->answer_format : "plain";

    if (!name && r->tools_json) return mlxr_prompt_tools_format(out, s->folder->prompt, err);
    *out = name ? mlxr_answer_format_find(name) : mlxr_prompt_answer_format(s->folder->prompt);
    if (!*out) return mlxr_fail(err, MLXR_E_NOT_FOUND, "request: there is no answer format \"%s\"", name);
    return MLXR_OK;
}

static mlxr_status check_forms(const mlxr_request *r, mlxr_error *err)
{
    if ((r->format != NULL) + (r->grammar != NULL) + (r->regex != NULL) > 1)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: an answer has one form: format, grammar or regex, not several");
    if ((unsigned)r->tool_choice > MLXR_TOOL_CHOICE_NAMED)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: tool_choice is %d, which is none of its values", (int)r->tool_choice);
    if (r->tool_choice >= MLXR_TOOL_CHOICE_REQUIRED && !r->tools_json)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: tool_choice wants a call, but there are no tools");
    if (r->tool_choice == MLXR_TOOL_CHOICE_NAMED && !r->tool_name)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: tool_choice names no tool");
    if (r->tool_choice != MLXR_TOOL_CHOICE_AUTO && !r->parts)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: tool_choice needs parts");
    if (r->parts && r->raw && r->tools_json)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "request: tools work through the chat template, which a raw prompt has not");
    return MLXR_OK;
}

mlxr_status mlxr_structure_check(mlxr_structures *s, const mlxr_request *r, mlxr_error *err)
{
    const mlxr_answer_format *f;
    mlxr_status st;

    if ((st = check_forms(r, err)) != MLXR_OK) return st;
    if ((st = find_format(&f, s, r, err)) != MLXR_OK) return st;
    return check_thinking(s, r, f, err);
}

/* ---- grammars ---- */

static void digest_part(mlxr_buf *b, const char *name, const char *text)
{
    mlxr_buf_printf(b, "%s %zu ", name, text ? strlen(text) : 0);
    mlxr_buf_str(b, text ? text : "-");
}

static mlxr_status digest_of(char out[65], const mlxr_answer_grammar *p, mlxr_error *err)
{
    mlxr_buf b = {0};
    mlxr_status st;

    mlxr_buf_printf(&b, "%s %d %d %d %d ", p->format->name, p->starts_thinking, p->may_think,
                    (int)p->tool_choice, p->parallel);
    digest_part(&b, "tools", p->tools_json);
    digest_part(&b, "name", p->tool_name);
    digest_part(&b, "schema", p->schema_json);
    digest_part(&b, "gbnf", p->gbnf);
    digest_part(&b, "regex", p->regex);
    if ((st = mlxr_buf_check(&b, "grammar", err)) == MLXR_OK) st = mlxr_sha256_hex(out, b.data, b.len, err);
    mlxr_buf_clear(&b);
    return st;
}

/* The grammar of a digest with a reference, and to the front with it; NULL: it is not there. */
static mlxr_grammar *find_grammar(mlxr_structures *s, const char *digest)
{
    for (kept_grammar **at = &s->grammars; *at; at = &(*at)->next) {
        kept_grammar *k = *at;
        if (strcmp(k->digest, digest) != 0) continue;
        *at = k->next;
        k->next = s->grammars;
        s->grammars = k;
        return mlxr_grammar_ref(k->grammar);
    }
    return NULL;
}

static void keep_grammar(mlxr_structures *s, const char *digest, mlxr_grammar *g)
{
    kept_grammar *k = malloc(sizeof *k);
    size_t n = 0, n_bytes = 0;

    if (!k) return; /* then it is made again the next time */
    memcpy(k->digest, digest, sizeof k->digest);
    k->grammar = mlxr_grammar_ref(g);
    k->next = s->grammars;
    s->grammars = k;
    for (kept_grammar **at = &s->grammars; *at;) {
        kept_grammar *old = *at;
        n_bytes += mlxr_grammar_bytes(old->grammar);
        if (n++ == 0 || (n <= MAX_GRAMMARS && n_bytes <= MAX_GRAMMAR_BYTES)) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        free_grammar(old);
    }
}

static mlxr_status make_grammar(mlxr_grammar **out, mlxr_structures *s, const mlxr_answer_grammar *p,
                                mlxr_error *err)
{
    char digest[65];
    mlxr_status st;

    *out = NULL;
    if ((st = digest_of(digest, p, err)) != MLXR_OK) return st;
    pthread_mutex_lock(&s->lock);
    *out = find_grammar(s, digest);
    pthread_mutex_unlock(&s->lock);
    if (*out) return MLXR_OK;
    /* Made without the lock: two requests may both do it, and one of them is forgotten. */
    if ((st = mlxr_grammar_for_answer(out, p, NULL, err)) != MLXR_OK || !*out) return st;
    pthread_mutex_lock(&s->lock);
    keep_grammar(s, digest, *out);
    pthread_mutex_unlock(&s->lock);
    return MLXR_OK;
}

/* Made while the request waits: some milliseconds, once. */
static mlxr_status need_vocabulary(mlxr_structures *s, mlxr_error *err)
{
    const mlxr_folder *f = s->folder;
    mlxr_vocabulary_params params = {.vocab_size = s->vocab_size,
                                     .bytes = tok_token_bytes,
                                     .ud = f->tok,
                                     .eos_ids = f->eos_ids,
                                     .n_eos = f->n_eos,
                                     .strips_first_space = tok_strips_first_space(f->tok)};
    mlxr_status st = MLXR_OK;

    pthread_mutex_lock(&s->lock);
    if (!s->vocabulary) st = mlxr_vocabulary_create(&s->vocabulary, &params, err);
    pthread_mutex_unlock(&s->lock);
    return st;
}

/* Whether a prompt that was given as tokens ends inside of thinking: its last tokens' text tells. */
static mlxr_status ids_open_thinking(bool *out, const mlxr_structures *s, const mlxr_answer_format *f,
                                     const mlxr_request *r, mlxr_error *err)
{
    size_t n = r->n_prompt_ids < 64 ? r->n_prompt_ids : 64, n_text;
    char *text;
    mlxr_status st = mlxr_tokenizer_decode(&text, &n_text, s->folder->tok,
                                           r->prompt_ids + r->n_prompt_ids - n, n, false, err);

    if (st != MLXR_OK) return st;
    *out = mlxr_answer_prompt_opens_thinking(f, text, n_text);
    mlxr_free(text);
    return MLXR_OK;
}

mlxr_status mlxr_structure_make(mlxr_structure *out, mlxr_structures *s, const mlxr_request *r,
                                const char *prompt, size_t n_prompt, mlxr_error *err)
{
    const mlxr_answer_format *f;
    mlxr_answer_grammar p = mlxr_answer_grammar_default();
    bool chat = r->parts && !r->raw;
    mlxr_status st;

    *out = (mlxr_structure){0};
    if ((st = find_format(&f, s, r, err)) != MLXR_OK) return st;
    p.format = f;
    p.starts_thinking = chat && prompt && mlxr_answer_prompt_opens_thinking(f, prompt, n_prompt);
    if (chat && !prompt && (st = ids_open_thinking(&p.starts_thinking, s, f, r, err)) != MLXR_OK) return st;
    p.may_think = chat && mlxr_prompt_thinks(s->folder->prompt, f) && r->think != MLXR_THINK_OFF;
    p.tools_json = chat ? r->tools_json : NULL;
    p.tool_choice = (mlxr_tool_choice_kind)r->tool_choice;
    p.tool_name = r->tool_choice == MLXR_TOOL_CHOICE_NAMED ? r->tool_name : NULL;
    p.parallel = r->parallel_tool_calls;
    p.schema_json = r->format;
    p.gbnf = r->grammar;
    p.regex = r->regex;
    if (p.tools_json || p.schema_json || p.gbnf || p.regex) {
        if ((st = make_grammar(&out->grammar, s, &p, err)) != MLXR_OK) return st;
        if (out->grammar && (st = need_vocabulary(s, err)) != MLXR_OK) return st;
    }
    if (!chat) return MLXR_OK;
    out->has_parts = true;
    out->parts = mlxr_answer_parser_options_default();
    out->parts.format = f;
    out->parts.starts_thinking = p.starts_thinking;
    out->parts.calls = r->tools_json && r->tool_choice != MLXR_TOOL_CHOICE_NONE;
    if (r->tools_json && !(out->tools_json = mlxr_strdup(r->tools_json)))
        return mlxr_fail_nomem(err, "request");
    out->parts.tools_json = out->tools_json;
    return MLXR_OK;
}

void mlxr_structure_clear(mlxr_structure *t)
{
    mlxr_grammar_unref(t->grammar);
    free(t->tools_json);
    *t = (mlxr_structure){0};
}

/* ---- maskers ---- */

/* Those that nobody uses go when they are too many, the tables of the others shrink. */
static void trim_maskers(mlxr_structures *s)
{
    size_t n = 0, n_bytes = 0;

    for (kept_masker **at = &s->maskers; *at;) {
        kept_masker *k = *at;
        n_bytes += mlxr_masker_bytes(k->masker);
        n++;
        if (k->n_users == 0 && n > 1 && (n > MAX_MASKERS || n_bytes > MAX_MASKER_BYTES)) {
            *at = k->next;
            free_masker(k);
        } else {
            if (n_bytes > MAX_MASKER_BYTES) mlxr_masker_trim(k->masker, MAX_MASKER_BYTES / MAX_MASKERS);
            at = &k->next;
        }
    }
}

mlxr_status mlxr_structures_get_masker(mlxr_masker **out, mlxr_structures *s, mlxr_grammar *grammar,
                                       mlxr_error *err)
{
    kept_masker *k;
    mlxr_status st;

    *out = NULL;
    for (kept_masker **at = &s->maskers; *at; at = &(*at)->next) {
        k = *at;
        if (k->grammar != grammar) continue;
        *at = k->next;
        k->next = s->maskers;
        s->maskers = k;
        k->n_users++;
        *out = k->masker;
        return MLXR_OK;
    }
    if (!(k = calloc(1, sizeof *k))) return mlxr_fail_nomem(err, "structured answers");
    if ((st = mlxr_masker_create(&k->masker, grammar, s->vocabulary, err)) != MLXR_OK) {
        free(k);
        return st;
    }
    k->grammar = mlxr_grammar_ref(grammar);
    k->n_users = 1;
    k->next = s->maskers;
    s->maskers = k;
    *out = k->masker;
    return MLXR_OK;
}

void mlxr_structures_release_masker(mlxr_structures *s, mlxr_masker *masker)
{
    for (kept_masker *k = s->maskers; k; k = k->next)
        if (k->masker == masker) {
            k->n_users--;
            break;
        }
    trim_maskers(s);
}
