/* call_writer: see call_writer.h. */
#include "engine/grammar/call_writer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_PIECES = 64 };

void mlxr_call_fail(mlxr_grammar_builder *b, mlxr_status st, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    mlxr_gb_fail(b, st, message);
}

void mlxr_call_nomem(mlxr_grammar_builder *b)
{
    mlxr_gb_fail(b, MLXR_E_NOMEM, "tools: out of memory");
}

mlxr_expr mlxr_call_regex(mlxr_grammar_builder *b, const char *pattern)
{
    mlxr_dfa *d;
    mlxr_error err;
    if (mlxr_dfa_regex(&d, pattern, strlen(pattern), true, &mlxr_grammar_builder_limits(b)->lang, &err) !=
        MLXR_OK) {
        mlxr_gb_fail(b, err.code, err.message);
        return MLXR_EXPR_NONE;
    }
    return mlxr_gb_dfa(b, d);
}

/* ---- expressions in a row ---- */

typedef struct row {
    mlxr_grammar_builder *b;
    mlxr_expr e[MAX_PIECES];
    size_t n;
} row;

static void row_add(row *r, mlxr_expr e)
{
    if (r->n == MAX_PIECES) { /* what there is so far becomes one */
        r->e[0] = mlxr_gb_seq(r->b, r->e, r->n);
        r->n = 1;
    }
    r->e[r->n++] = e;
}

static mlxr_expr row_end(row *r)
{
    return mlxr_gb_seq(r->b, r->e, r->n);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* ---- text of a layout ---- */

/* One bar of DeepSeek's markers is three bytes, U+FF5C. */
static const char wide_bar[] = "\xef\xbd\x9c";

/* How many of the n bytes at s are what vocabularies have as one special token: <|name|>, <name>, </name>, [NAME]. 0: none. */
static size_t special_at(const char *s, size_t n)
{
    size_t i;
    if (s[0] == '<') {
        bool bar = n > 1 && s[1] == '|';
        for (i = 1; i < n && s[i] != '>'; i++)
            if (s[i] == '<' || s[i] == '=' || is_space(s[i]) || (s[i] == '"' && !bar)) return 0;
        return i < n && i > 1 ? i + 1 : 0;
    }
    if (s[0] == '[') {
        for (i = 1; i < n && (isupper((unsigned char)s[i]) || s[i] == '_' || s[i] == '/'); i++) {
        }
        return i < n && i > 2 && s[i] == ']' ? i + 1 : 0;
    }
    /* |NAME| with wide bars inside of a longer marker, <|NAME|invoke name=">, is a token by itself. */
    if (n > 3 && !memcmp(s, wide_bar, 3)) {
        for (i = 3; i + 3 <= n && (isalnum((unsigned char)s[i]) || s[i] == '_'); i++) {
        }
        return i > 3 && i + 3 <= n && !memcmp(s + i, wide_bar, 3) ? i + 3 : 0;
    }
    return 0;
}

/* <|NAME|invoke> with wide bars is not one token, but has one inside. */
static size_t token_at(const char *s, size_t n)
{
    size_t k = special_at(s, n), i;
    if (s[0] != '<') return k;
    for (i = 1; i < 3 && i + 3 < k; i++)
        if (memcmp(s + i, wide_bar, 3) == 0 && memcmp(s + k - 4, wide_bar, 3) != 0) return 0;
    return k;
}

static void add_text(row *r, const char *text, size_t n)
{
    size_t i, from = 0, k;
    char *marker;

    for (i = 0; i < n; i += k ? k : 1) {
        if (!(k = token_at(text + i, n - i))) continue;
        if (i > from) row_add(r, mlxr_gb_text(r->b, text + from, i - from));
        marker = mlxr_strndup(text + i, k);
        if (!marker) mlxr_call_nomem(r->b);
        row_add(r, marker ? mlxr_gb_marker(r->b, marker) : MLXR_EXPR_NONE);
        free(marker);
        from = i + k;
    }
    if (n > from) row_add(r, mlxr_gb_text(r->b, text + from, n - from));
}

static bool is_json_style(const mlxr_answer_format *f)
{
    return f->style == MLXR_CALLS_JSON || f->style == MLXR_CALLS_JSON_LIST;
}

/* Text of the layout with what stands in it for text that is not fixed. name: $N. */
static void add_layout(row *r, mlxr_call_writer *w, const char *s, const mlxr_text *name)
{
    size_t i, from = 0, n = strlen(s);
    for (i = 0; i <= n; i++) {
        bool hole = i + 1 < n && s[i] == '$' && strchr("IDN", s[i + 1]);
        bool space = i < n && is_space(s[i]) && is_json_style(w->f);
        if (i < n && !hole && !space) continue;
        if (i > from) add_text(r, s + from, i - from);
        if (hole) {
            if (s[++i] == 'I')
                row_add(r, mlxr_call_regex(w->b, "0|[1-9][0-9]{0,3}"));
            else if (s[i] == 'D')
                row_add(r, mlxr_call_regex(w->b, "[0-9a-z]{10}"));
            else if (name)
                row_add(r, mlxr_gb_text(w->b, name->bytes, name->n));
        } else if (space) {
            while (i + 1 < n && is_space(s[i + 1])) i++;
            row_add(r, mlxr_gb_dfa(w->b, mlxr_dfa_ref(w->space)));
        }
        from = i + 1;
    }
}

mlxr_expr mlxr_call_marker(mlxr_call_writer *w, const char *text)
{
    row r = {.b = w->b};
    add_text(&r, text, strlen(text));
    return row_end(&r);
}

static mlxr_expr layout_expr(mlxr_call_writer *w, const char *text)
{
    row r = {.b = w->b};
    add_layout(&r, w, text, NULL);
    return row_end(&r);
}

/* ---- one call ---- */

/* What those who read calls take for a name. */
static bool name_fits(const mlxr_answer_format *f, const mlxr_tool *t)
{
    size_t i;
    if (t->n_name > 256) return false;
    for (i = 0; i < t->n_name; i++) {
        unsigned char c = (unsigned char)t->name[i];
        if (is_json_style(f) ? c <= ' ' || c == 0x7f : !isalnum(c) && !strchr("_-.", c)) return false;
        if (f->style == MLXR_CALLS_PYTHONIC && i == 0 && !isalpha(c) && c != '_') return false;
    }
    return true;
}

/* The name as it stands in a call: JSON styles have it in quotes, with escapes. */
static bool written_name(mlxr_text *out, mlxr_call_writer *w, const mlxr_tool *t)
{
    mlxr_buf buf = {0};

    if (!name_fits(w->f, t)) {
        mlxr_call_fail(w->b, MLXR_E_UNSUPPORTED,
                       "tools[%zu]: the name \"%.300s\" cannot be written in calls of the format %s: %s",
                       t->i, t->name, w->f->name,
                       is_json_style(w->f) ? "at most 256 bytes without white space are wanted"
                                           : "at most 256 letters, digits, _ - and . are wanted");
        return false;
    }
    if (!is_json_style(w->f)) {
        *out = (mlxr_text){t->name, t->n_name};
        return true;
    }
    mlxr_value_write(&buf, &(mlxr_value){.type = MLXR_VALUE_STRING, .text = t->name, .n_text = t->n_name});
    out->n = buf.len - 2; /* without the quotes */
    out->bytes = buf.failed ? NULL : mlxr_arena_strndup(&w->arena, buf.data + 1, out->n);
    mlxr_buf_clear(&buf);
    if (!out->bytes) mlxr_call_nomem(w->b);
    return out->bytes != NULL;
}

/* middles: any of n_middles may stand between name and arguments. */
static mlxr_expr tool_part(mlxr_call_writer *w, size_t i_tool, const char *const *middles, size_t n_middles)
{
    mlxr_expr e[4];
    row r = {.b = w->b};
    mlxr_text name;

    if (!written_name(&name, w, &w->tools[i_tool])) return MLXR_EXPR_NONE;
    row_add(&r, mlxr_gb_text(w->b, name.bytes, name.n));
    for (size_t i = 0; i < n_middles; i++) {
        row middle = {.b = w->b};
        add_layout(&middle, w, middles[i], &name);
        e[i] = row_end(&middle);
    }
    row_add(&r, mlxr_gb_alt(w->b, e, n_middles));
    row_add(&r, mlxr_gb_call(w->b, w->arguments[i_tool]));
    return row_end(&r);
}

/* The end of a harmony call ends the answer too, and is then no part of the text: only a call behind it needs it. */
static bool ends_answer(const mlxr_answer_format *f)
{
    return f->style == MLXR_CALLS_HARMONY;
}

static mlxr_expr call_with(mlxr_call_writer *w, const char *head, const char *const *middles,
                           size_t n_middles)
{
    mlxr_expr *e = mlxr_arena_calloc(&w->arena, w->n_tools, sizeof *e);
    row r = {.b = w->b};

    if (!e) {
        mlxr_call_nomem(w->b);
        return MLXR_EXPR_NONE;
    }
    for (size_t i = 0; i < w->n_tools; i++) e[i] = tool_part(w, i, middles, n_middles);
    add_layout(&r, w, head, NULL);
    row_add(&r, mlxr_gb_alt(w->b, e, w->n_tools));
    if (!ends_answer(w->f)) add_layout(&r, w, w->f->layout.tail, NULL);
    return row_end(&r);
}

/* Harmony has the recipient behind the channel or before it, and need not say that JSON follows. */
static mlxr_expr harmony_body(mlxr_call_writer *w)
{
    static const char *const behind[] = {" <|constrain|>json<|message|>", " json<|message|>", "<|message|>"};
    static const char *const before[] = {"<|channel|>commentary <|constrain|>json<|message|>",
                                         "<|channel|>commentary json<|message|>",
                                         "<|channel|>commentary<|message|>"};
    mlxr_expr e[2] = {call_with(w, w->f->layout.head, behind, MLXR_COUNT(behind)),
                      call_with(w, " to=functions.", before, MLXR_COUNT(before))};
    return mlxr_gb_alt(w->b, e, 2);
}

/* head: the layout's, or what is left of it. */
static mlxr_expr call_body(mlxr_call_writer *w, const char *head)
{
    if (w->f->style == MLXR_CALLS_HARMONY) return harmony_body(w);
    return call_with(w, head, &w->f->layout.middle, 1);
}

/* ---- all calls ---- */

bool mlxr_call_repeats(const mlxr_answer_format *f)
{
    return !f->bare && (!f->layout.calls_open[0] || f->layout.one_call);
}

/* What is behind calls_open; with first NULL beginning with a `call`, else with that. */
static void add_calls(row *r, mlxr_call_writer *w, const mlxr_expr *first)
{
    const mlxr_call_layout *l = &w->f->layout;
    row more = {.b = w->b};

    row_add(r, first ? *first : mlxr_gb_call(w->b, w->call));
    if (w->parallel && w->f->parallel) {
        if (ends_answer(w->f)) add_layout(&more, w, l->tail, NULL);
        if (l->one_call) add_layout(&more, w, l->calls_close, NULL);
        add_layout(&more, w, l->between, NULL);
        if (l->one_call) add_layout(&more, w, l->calls_open, NULL);
        row_add(&more, mlxr_gb_call(w->b, w->call));
        row_add(r, mlxr_gb_repeat(w->b, row_end(&more), 0, SIZE_MAX));
    }
    /* In Solar the end of all calls is that of the answer too. */
    if (!strcmp(l->calls_close, "<|calls|>"))
        row_add(r, mlxr_gb_optional(w->b, layout_expr(w, l->calls_close)));
    else
        add_layout(r, w, l->calls_close, NULL);
    if (ends_answer(w->f)) row_add(r, mlxr_gb_optional(w->b, layout_expr(w, l->tail)));
}

static mlxr_expr calls_body(mlxr_call_writer *w)
{
    row r = {.b = w->b};
    add_layout(&r, w, w->f->layout.calls_open, NULL);
    add_calls(&r, w, NULL);
    return row_end(&r);
}

/* The marker that calls begin with, NULL: they have none. */
static const char *first_marker(const mlxr_answer_format *f)
{
    if (f->calls_open) return f->calls_open;
    if (f->call_open) return f->call_open;
    return f->bare ? NULL : f->name_open;
}

/* Whether text that is no call has it too: then it does not make one by itself. */
static bool is_ordinary(const char *marker)
{
    return marker[0] != '<' && marker[0] != '[' && strcmp(marker, "```tool_code") != 0;
}

/* Calls that begin with calls_open_other, `marker`, in place of the first marker. */
static mlxr_expr other_body(mlxr_call_writer *w, const char *marker)
{
    const mlxr_call_layout *l = &w->f->layout;
    const char *first = first_marker(w->f), *in_open = strstr(l->calls_open, marker),
               *in_head = strstr(l->head, marker);
    row r = {.b = w->b};
    mlxr_expr call;

    add_text(&r, marker, strlen(marker));
    if (in_open) {
        add_layout(&r, w, in_open + strlen(marker), NULL);
        add_calls(&r, w, NULL);
    } else if (in_head) { /* the call begins further on: what is before it has the first marker, and goes */
        call = call_body(w, in_head + strlen(marker));
        add_calls(&r, w, &call);
    } else if (!strncmp(l->calls_open, first, strlen(first))) {
        add_layout(&r, w, l->calls_open + strlen(first), NULL);
        add_calls(&r, w, NULL);
    } else {
        mlxr_call_fail(w->b, MLXR_E_INTERNAL, "tools: the layout of the format %s has none of its markers",
                       w->f->name);
        return MLXR_EXPR_NONE;
    }
    return row_end(&r);
}

/* A marker before calls that need none, and what may close them. */
static mlxr_expr bare_body(mlxr_call_writer *w, const char *marker)
{
    row r = {.b = w->b};
    add_text(&r, marker, strlen(marker));
    row_add(&r, mlxr_call_regex(w->b, "[ \\n]?"));
    row_add(&r, mlxr_gb_call(w->b, w->calls));
    if (w->f->calls_close) row_add(&r, mlxr_gb_optional(w->b, mlxr_call_marker(w, w->f->calls_close)));
    return row_end(&r);
}

static void make_marked(mlxr_call_writer *w)
{
    const mlxr_answer_format *f = w->f;
    const char *first = first_marker(f), *other = f->calls_open_other;
    mlxr_expr e[2];
    size_t n = 0;

    if (f->bare) {
        if (first && !is_ordinary(first)) e[n++] = bare_body(w, first);
        if (other && !is_ordinary(other)) e[n++] = bare_body(w, other);
    } else {
        e[n++] = mlxr_call_repeats(f) && !f->layout.one_call ? mlxr_gb_call(w->b, w->call)
                                                             : mlxr_gb_call(w->b, w->calls);
        if (other && !is_ordinary(other)) e[n++] = other_body(w, other);
    }
    w->has_marked = n > 0;
    if (!n) return;
    w->marked = mlxr_gb_rule(w->b, "calls behind their marker");
    mlxr_gb_define(w->b, w->marked, mlxr_gb_alt(w->b, e, n));
}

/* ---- texts to look for ---- */

static void add_form(mlxr_call_writer *w, mlxr_call_texts *t, const mlxr_buf *form)
{
    char *s = form->failed ? NULL : mlxr_arena_strndup(&w->arena, form->data, form->len);
    if (!s)
        mlxr_call_nomem(w->b);
    else if (t->n == MLXR_CALL_MAX_TEXTS)
        mlxr_call_fail(w->b, MLXR_E_INTERNAL, "tools: the markers of the format %s have too many forms",
                       w->f->name);
    else
        t->text[t->n++] = s;
}

/* A text is found wherever its bytes are, so special tokens matter only inside of it: with and without their first byte. */
void mlxr_call_add_text(mlxr_call_writer *w, mlxr_call_texts *t, const char *text)
{
    size_t i, k, n = strlen(text), at[4], n_at = 0;
    unsigned forms;

    for (i = 0; i < n; i += k ? k : 1) {
        k = token_at(text + i, n - i);
        if (k && i > 0 && n_at < MLXR_COUNT(at)) at[n_at++] = i;
    }
    for (forms = 0; forms < 1u << n_at; forms++) {
        mlxr_buf form = {0};
        size_t from = 0;
        for (i = 0; i < n_at; i++) {
            if (!(forms >> i & 1)) continue;
            mlxr_buf_append(&form, text + from, at[i] - from);
            mlxr_buf_char(&form, '\xff');
            from = at[i];
        }
        mlxr_buf_append(&form, text + from, n - from);
        add_form(w, t, &form);
        mlxr_buf_clear(&form);
    }
}

void mlxr_call_openings(mlxr_call_writer *w, mlxr_call_texts *t)
{
    static const char *const spaces[] = {"", " ", "\n"};
    const mlxr_answer_format *f = w->f;
    const char *first = first_marker(f), *other = f->calls_open_other;
    size_t i;

    if (first && !is_ordinary(first)) {
        mlxr_call_add_text(w, t, first);
    } else if (first && f->call_open && !f->bare) { /* a word, and the marker behind it */
        for (i = 0; i < MLXR_COUNT(spaces); i++) {
            char *s = mlxr_arena_printf(&w->arena, "%s%s%s", first, spaces[i], f->call_open);
            if (s)
                mlxr_call_add_text(w, t, s);
            else
                mlxr_call_nomem(w->b);
        }
    }
    if (other && !is_ordinary(other)) mlxr_call_add_text(w, t, other);
}

/* Those who read calls take the marker of one call without that of all for a beginning too. */
void mlxr_call_inner_openings(mlxr_call_writer *w, mlxr_call_texts *t)
{
    const mlxr_answer_format *f = w->f;
    if (f->calls_open && f->call_open && !is_ordinary(f->call_open)) mlxr_call_add_text(w, t, f->call_open);
}

/* ---- text that is no call ---- */

/* The language in the making: takes the references of all it is given. */
typedef struct language {
    const mlxr_lang_limits *limits;
    mlxr_dfa *any; /* bytes of all kinds, those of special tokens too */
    mlxr_status st;
    mlxr_error err;
} language;

static mlxr_dfa *joined(language *l, mlxr_dfa *a, mlxr_dfa *b)
{
    mlxr_dfa *d = NULL;
    if (l->st == MLXR_OK && a && b) l->st = mlxr_dfa_concat(&d, a, b, l->limits, &l->err);
    mlxr_dfa_unref(a);
    mlxr_dfa_unref(b);
    return d;
}

static mlxr_dfa *less(language *l, mlxr_dfa *a, mlxr_dfa *b)
{
    mlxr_dfa *d = NULL;
    if (l->st == MLXR_OK) l->st = mlxr_dfa_minus(&d, a, b, l->limits, &l->err);
    mlxr_dfa_unref(a);
    mlxr_dfa_unref(b);
    return d;
}

static mlxr_dfa *literal(language *l, const char *text)
{
    mlxr_dfa *d = NULL;
    if (l->st == MLXR_OK) l->st = mlxr_dfa_literal(&d, text, strlen(text), &l->err);
    return d;
}

static mlxr_dfa *anything(language *l)
{
    return l->any ? mlxr_dfa_ref(l->any) : NULL;
}

static void make_any(language *l)
{
    char bytes[256];
    mlxr_text one[256];
    mlxr_dfa *d = NULL;

    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        one[i] = (mlxr_text){&bytes[i], 1};
    }
    l->st = mlxr_dfa_literals(&d, one, 256, &l->err);
    if (l->st == MLXR_OK) l->st = mlxr_dfa_repeat(&l->any, d, 0, SIZE_MAX, l->limits, &l->err);
    mlxr_dfa_unref(d);
}

#define WHITE "[ \\t\\r\\n]*"
#define WORD  "[A-Za-z_][A-Za-z0-9_.-]*"

/* Appends text as a regular expression. */
static void quote(mlxr_buf *p, const char *text)
{
    for (; *text; text++) {
        if (ispunct((unsigned char)*text) && *text != '_' && *text != '`') mlxr_buf_char(p, '\\');
        mlxr_buf_char(p, *text);
    }
}

static mlxr_dfa *pattern(language *l, mlxr_buf *p)
{
    mlxr_dfa *d = NULL;
    if (l->st == MLXR_OK) l->st = mlxr_buf_check(p, "tools", &l->err);
    if (l->st == MLXR_OK) l->st = mlxr_dfa_regex(&d, p->data, p->len, true, l->limits, &l->err);
    mlxr_buf_clear(p);
    return d;
}

/* The beginning of a call as JSON, alone or in a list, and of a list in Python. */
#define JSON_CALL   "(\\[" WHITE ")?\\{" WHITE "\"name\"" WHITE ":" WHITE "\""
#define PYTHON_CALL "\\[" WHITE WORD WHITE "\\("

/* How an answer of nothing but calls begins. Llama 4 writes JSON, and lists of Python calls now and then. */
static mlxr_dfa *bare_beginning(language *l, const mlxr_answer_format *f)
{
    mlxr_buf p = {0};
    if (f->style == MLXR_CALLS_PYTHONIC)
        mlxr_buf_str(&p, PYTHON_CALL);
    else
        mlxr_buf_str(&p, f->values == MLXR_VALUES_PYTHON ? JSON_CALL "|" PYTHON_CALL : JSON_CALL);
    return pattern(l, &p);
}

/* A marker that ordinary text has too does not make a call here, but whoever reads the answer finds one where a call's text stands
 * behind it: that far it may not go. */
static mlxr_dfa *loose_beginning(language *l, const mlxr_answer_format *f, const char *marker)
{
    mlxr_buf p = {0};
    quote(&p, marker);
    mlxr_buf_str(&p, WHITE);
    if (f->style == MLXR_CALLS_PYTHONIC)
        mlxr_buf_str(&p, "(\\[" WHITE ")?" WORD WHITE "\\(");
    else if (marker[0] == '`')
        mlxr_buf_str(&p, JSON_CALL);
    else
        mlxr_buf_str(&p, "[\\[{]");
    return pattern(l, &p);
}

/* The byte that stands before a special token, or nothing. As a language of bytes, not of characters. */
static mlxr_dfa *maybe_special(language *l)
{
    static const mlxr_text either[] = {{"", 0}, {"\xff", 1}};
    mlxr_dfa *d = NULL;
    if (l->st == MLXR_OK) l->st = mlxr_dfa_literals(&d, either, 2, &l->err);
    return d;
}

/* What may stand before the beginning of a part without being one: white space, and markers that are dropped there. */
static mlxr_dfa *passed_over(language *l, const mlxr_answer_format *f)
{
    static const char *const blanks[] = {" ", "\t", "\r", "\n"};
    const char *const marks[] = {f->call_close,  f->calls_close,     f->body_close,
                                 f->think_close, f->arguments_close, f->call_separator};
    mlxr_text all[MLXR_COUNT(blanks) + MLXR_COUNT(marks) + MLXR_ANSWER_MAX_DROPPED];
    mlxr_dfa *d = NULL, *many = NULL;
    size_t n = 0;

    for (size_t i = 0; i < MLXR_COUNT(blanks); i++) all[n++] = (mlxr_text){blanks[i], 1};
    for (size_t i = 0; i < MLXR_COUNT(marks); i++)
        if (marks[i]) all[n++] = (mlxr_text){marks[i], strlen(marks[i])};
    for (size_t i = 0; i < MLXR_ANSWER_MAX_DROPPED; i++)
        if (f->dropped[i]) all[n++] = (mlxr_text){f->dropped[i], strlen(f->dropped[i])};
    if (l->st == MLXR_OK) l->st = mlxr_dfa_literals(&d, all, n, &l->err);
    d = joined(l, maybe_special(l), d);
    if (l->st == MLXR_OK) l->st = mlxr_dfa_repeat(&many, d, 0, SIZE_MAX, l->limits, &l->err);
    mlxr_dfa_unref(d);
    return many;
}

mlxr_expr mlxr_call_free_text(mlxr_call_writer *w, const mlxr_call_texts *apart,
                              mlxr_call_beginning beginning)
{
    static const mlxr_text brackets[] = {{"[", 1}, {"{", 1}};
    const mlxr_answer_format *f = w->f;
    const char *loose[2] = {f->call_open ? NULL : f->calls_open, f->calls_open_other};
    language l = {.limits = &mlxr_grammar_builder_limits(w->b)->lang};
    mlxr_dfa *d, *begin = NULL;

    make_any(&l);
    d = anything(&l);
    for (size_t i = 0; i < apart->n && l.st == MLXR_OK; i++)
        d = less(&l, d, joined(&l, anything(&l), joined(&l, literal(&l, apart->text[i]), anything(&l))));
    for (size_t i = 0; i < 2 && l.st == MLXR_OK; i++)
        if (loose[i] && is_ordinary(loose[i]))
            d = less(&l, d,
                     joined(&l, anything(&l), joined(&l, loose_beginning(&l, f, loose[i]), anything(&l))));
    if (f->think_open && !f->think_anywhere) {
        begin = joined(&l, passed_over(&l, f), joined(&l, maybe_special(&l), literal(&l, f->think_open)));
        d = less(&l, d, joined(&l, begin, anything(&l)));
    }
    if (beginning == MLXR_CALL_BEGINS_NO_CALL) {
        d = less(&l, d, joined(&l, passed_over(&l, f), joined(&l, bare_beginning(&l, f), anything(&l))));
    } else if (beginning == MLXR_CALL_BEGINS_NO_BRACKET) {
        begin = NULL;
        if (l.st == MLXR_OK) l.st = mlxr_dfa_literals(&begin, brackets, 2, &l.err);
        d = less(&l, d, joined(&l, passed_over(&l, f), joined(&l, begin, anything(&l))));
    }
    mlxr_dfa_unref(l.any);
    if (l.st == MLXR_OK) return mlxr_gb_dfa(w->b, d);
    mlxr_dfa_unref(d);
    mlxr_gb_fail(w->b, l.st, l.err.message);
    return MLXR_EXPR_NONE;
}

/* ---- the writer ---- */

void mlxr_call_writer_init(mlxr_call_writer *w, mlxr_grammar_builder *b, const mlxr_answer_format *f,
                           const mlxr_tool *tools, size_t n_tools, bool parallel)
{
    static const char space[] = "(\\r?\\n)?[ \\t]{0,8}";
    mlxr_error err;
    size_t i;

    *w = (mlxr_call_writer){.b = b, .f = f, .tools = tools, .n_tools = n_tools, .parallel = parallel};
    if (n_tools == 0) return;
    if (mlxr_dfa_regex(&w->space, space, strlen(space), true, NULL, &err) != MLXR_OK) {
        mlxr_gb_fail(b, err.code, err.message);
        return;
    }
    if (!(w->arguments = mlxr_arena_calloc(&w->arena, n_tools, sizeof *w->arguments))) {
        mlxr_call_nomem(b);
        return;
    }
    for (i = 0; i < n_tools && !mlxr_gb_failed(b); i++) w->arguments[i] = mlxr_call_arguments(w, &tools[i]);
    if (mlxr_gb_failed(b)) return;
    w->call = mlxr_gb_rule(b, "call");
    w->calls = mlxr_gb_rule(b, "calls");
    mlxr_gb_define(b, w->call, call_body(w, f->layout.head));
    mlxr_gb_define(b, w->calls, calls_body(w));
    make_marked(w);
}

void mlxr_call_writer_clear(mlxr_call_writer *w)
{
    if (!w) return;
    mlxr_dfa_unref(w->space);
    mlxr_arena_clear(&w->arena);
    *w = (mlxr_call_writer){0};
}
