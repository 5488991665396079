/* Patterns to search a text for: a plain string, a pattern with a hand-written scanner, or a regular expression
 * through PCRE2 with its just-in-time compiler. Iteration takes the same matches as the reference, which goes
 * through the onig crate: an empty match that follows a match at once is passed over. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "text/tokenizer/regex.h"

struct tok_pattern {
    char *literal; /* NULL: scanner or code */
    size_t n_literal;
    tok_scanner scanner;
    pcre2_code *code;
    char *what;
};

mlxr_status tok_pattern_create(tok_pattern **out, const char *source, size_t n, bool is_regex,
                               const char *what, mlxr_error *err)
{
    tok_pattern *p = calloc(1, sizeof *p);
    pcre2_compile_context *ctx = NULL;
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;
    PCRE2_UCHAR message[256] = {0};
    PCRE2_SIZE at;
    int code;

    *out = NULL;
    if (!p || !(p->what = mlxr_strdup(what))) {
        st = mlxr_fail_nomem(err, what);
        goto done;
    }
    if (!is_regex) {
        p->literal = mlxr_strndup(source, n);
        p->n_literal = n;
        if (!p->literal) st = mlxr_fail_nomem(err, what);
        goto done;
    }
    p->scanner = tok_scanner_find(source, n);
    if (p->scanner != TOK_SCAN_NONE) goto done;
    ctx = pcre2_compile_context_create(NULL);
    if (!ctx) {
        st = mlxr_fail_nomem(err, what);
        goto done;
    }
    pcre2_set_newline(ctx, PCRE2_NEWLINE_LF);
    for (int compact = 0; compact < 2 && !p->code; compact++) {
        text.len = 0;
        if ((st = tok_regex_translate(&text, source, n, compact, what, err)) != MLXR_OK) goto done;
        p->code = pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.len,
                                PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK, &code, &at, ctx);
        if (!p->code && code != PCRE2_ERROR_PATTERN_TOO_LARGE) break;
    }
    if (!p->code) {
        pcre2_get_error_message(code, message, sizeof message);
        st = mlxr_fail(err, MLXR_E_UNSUPPORTED, "tokenizer: %s: pattern \"%.*s\" does not compile: %s", what,
                       n < 200 ? (int)n : 200, source, (const char *)message);
        goto done;
    }
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without it, matching is slower but the same */
done:
    if (st == MLXR_OK) {
        *out = p;
        p = NULL;
    }
    mlxr_buf_clear(&text);
    pcre2_compile_context_free(ctx);
    tok_pattern_free(p);
    return st;
}

void tok_pattern_free(tok_pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    free(p->literal);
    free(p->what);
    free(p);
}

tok_scanner tok_pattern_scanner(const tok_pattern *p)
{
    return p->scanner;
}

void tok_matches_begin(tok_matches *m, const tok_pattern *p, const char *s, size_t n)
{
    m->pattern = p;
    m->s = s;
    m->n = n;
    m->at = 0;
    m->last_end = SIZE_MAX;
}

void tok_matches_clear(tok_matches *m)
{
    pcre2_match_data_free(m->match);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (tok_matches){0};
}

static mlxr_status search_regex(tok_matches *m, bool *found, size_t *begin, size_t *end, mlxr_error *err)
{
    const tok_pattern *p = m->pattern;
    const PCRE2_SIZE *v;
    int rc;

    if (!m->match) {
        m->match = pcre2_match_data_create(32, NULL);
        m->context = pcre2_match_context_create(NULL);
        m->stack = pcre2_jit_stack_create(32 * 1024, (size_t)16 << 20, NULL);
        if (!m->match || !m->context) return mlxr_fail_nomem(err, p->what);
        if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    }
    rc = pcre2_match(p->code, (PCRE2_SPTR)m->s, m->n, m->at, PCRE2_NO_UTF_CHECK, m->match, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *found = false;
        return MLXR_OK;
    }
    if (rc < 0) {
        PCRE2_UCHAR message[128] = {0};
        pcre2_get_error_message(rc, message, sizeof message);
        return mlxr_fail(err, rc == PCRE2_ERROR_NOMEMORY ? MLXR_E_NOMEM : MLXR_E_LIMIT,
                         "tokenizer: %s: matching at byte %zu: %s", p->what, m->at, (const char *)message);
    }
    v = pcre2_get_ovector_pointer(m->match);
    *found = true;
    *begin = v[0];
    *end = v[1] < v[0] ? v[0] : v[1]; /* \K in a look-ahead can put the start behind the end */
    return MLXR_OK;
}

mlxr_status tok_matches_next(tok_matches *m, bool *found, size_t *begin, size_t *end, mlxr_error *err)
{
    const tok_pattern *p = m->pattern;
    mlxr_status st;

    *found = false;
    if (p->scanner != TOK_SCAN_NONE) {
        *found = tok_scan(p->scanner, m->s, m->n, m->at, begin, end);
        m->at = *found ? *end : m->n;
        return MLXR_OK;
    }
    while (m->at <= m->n) {
        if (p->literal) {
            const char *from = m->s + m->at, *hit = from;
            if (p->n_literal == 1)
                hit = memchr(from, (unsigned char)p->literal[0], m->n - m->at);
            else if (p->n_literal)
                hit = memmem(from, m->n - m->at, p->literal, p->n_literal);
            *found = hit != NULL;
            if (hit) {
                *begin = (size_t)(hit - m->s);
                *end = *begin + p->n_literal;
            }
        } else if ((st = search_regex(m, found, begin, end, err)) != MLXR_OK) {
            return st;
        }
        if (!*found) {
            m->at = m->n + 1;
            return MLXR_OK;
        }
        if (*begin == *end && m->last_end == *end) {
            m->at += m->at < m->n ? tok_char_len(m->s + m->at) : 1;
            *found = false;
            continue;
        }
        m->at = m->last_end = *end;
        return MLXR_OK;
    }
    return MLXR_OK;
}

mlxr_status tok_pattern_replace(mlxr_buf *out, const tok_pattern *p, tok_matches *m, const char *s, size_t n,
                                tok_str with, mlxr_error *err)
{
    size_t from = 0, begin = 0, end = 0;
    bool found;
    mlxr_status st;

    if (n == 0) return MLXR_OK;
    tok_matches_begin(m, p, s, n);
    for (;;) {
        if ((st = tok_matches_next(m, &found, &begin, &end, err)) != MLXR_OK) return st;
        if (!found) break;
        if (begin < from) continue; /* only \K can do that */
        mlxr_buf_append(out, s + from, begin - from);
        mlxr_buf_append(out, with.s, with.n);
        from = end;
    }
    mlxr_buf_append(out, s + from, n - from);
    return mlxr_buf_check(out, p->what, err);
}
