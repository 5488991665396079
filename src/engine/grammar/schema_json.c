/* schema_json: what rules of all schemas share: white space, quotes, any JSON, strings of one kind.
 *
 * White space is bounded, so that a model cannot write nothing else: a single space, or a line end and up to 64 spaces and tabs,
 * behind an opening bracket and a comma and before a closing bracket; behind a colon one space. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

enum { MOST_INDENT = 64 };

mlxr_expr mlxr_sc_use(mlxr_sc *s, mlxr_dfa *d)
{
    return mlxr_gb_dfa(s->b, mlxr_dfa_ref(d));
}

static mlxr_expr seq(mlxr_sc *s, mlxr_expr a, mlxr_expr b)
{
    mlxr_expr e[2] = {a, b};

    return mlxr_gb_seq(s->b, e, 2);
}

mlxr_expr mlxr_sc_open(mlxr_sc *s, char bracket)
{
    return seq(s, mlxr_gb_text(s->b, &bracket, 1), mlxr_sc_use(s, s->space));
}

mlxr_expr mlxr_sc_close(mlxr_sc *s, char bracket)
{
    return seq(s, mlxr_sc_use(s, s->space), mlxr_gb_text(s->b, &bracket, 1));
}

mlxr_expr mlxr_sc_comma(mlxr_sc *s)
{
    return seq(s, mlxr_gb_text(s->b, ",", 1), mlxr_sc_use(s, s->comma));
}

mlxr_expr mlxr_sc_colon(mlxr_sc *s)
{
    return mlxr_sc_use(s, s->colon);
}

mlxr_expr mlxr_sc_quoted(mlxr_sc *s, mlxr_expr inside)
{
    bool braced = s->notation == MLXR_SC_BRACED;
    mlxr_expr e[3] = {braced ? mlxr_gb_marker(s->b, MLXR_SC_MARK) : mlxr_gb_text(s->b, "\"", 1), inside,
                      braced ? mlxr_gb_marker(s->b, MLXR_SC_MARK) : mlxr_gb_text(s->b, "\"", 1)};

    return mlxr_gb_seq(s->b, e, 3);
}

static mlxr_status own_literals(mlxr_dfa **out, mlxr_sc *s, const mlxr_text *t, size_t n)
{
    mlxr_status st = mlxr_dfa_literals(out, t, n, s->err);

    if (st == MLXR_OK && (st = mlxr_sc_own(s, *out)) != MLXR_OK) *out = NULL;
    return st;
}

mlxr_status mlxr_sc_prepare(mlxr_sc *s)
{
    static const mlxr_text short_spaces[] = {{"", 0}, {" ", 1}}, line_ends[] = {{"\n", 1}, {"\r\n", 2}};
    static const mlxr_char_range blanks[] = {{' ', ' '}, {'\t', '\t'}};
    mlxr_dfa *ends, *blank, *indent, *any;
    mlxr_status st;

    if ((st = own_literals(&s->colon, s, short_spaces, 2)) != MLXR_OK ||
        (st = own_literals(&s->comma, s, short_spaces, s->options.white_space ? 2 : 1)) != MLXR_OK)
        return st;
    if (!s->options.white_space) {
        s->space = s->comma;
        s->comma = s->colon;
    } else {
        if ((st = own_literals(&ends, s, line_ends, 2)) != MLXR_OK) return st;
        if ((st = mlxr_dfa_ranges(&blank, blanks, 2, s->err)) != MLXR_OK) return st;
        st = mlxr_dfa_repeat(&indent, blank, 0, MOST_INDENT, s->limits, s->err);
        mlxr_dfa_unref(blank);
        if (st != MLXR_OK || (st = mlxr_sc_own(s, indent)) != MLXR_OK) return st;
        if ((st = mlxr_sc_op(&ends, s, mlxr_dfa_concat, ends, indent)) != MLXR_OK ||
            (st = mlxr_sc_op(&s->comma, s, mlxr_dfa_union, s->comma, ends)) != MLXR_OK)
            return st;
        s->space = s->comma;
    }
    if ((st = mlxr_sc_any_text(&any, s)) != MLXR_OK) return st;
    return mlxr_sc_json_text(&s->any_name, s, any);
}

const char *mlxr_sc_word(const mlxr_sc *s, mlxr_value_type type)
{
    static const char *const words[2][3] = {{"null", "false", "true"}, {"None", "False", "True"}};

    return words[s->notation == MLXR_SC_PYTHON][type];
}

bool mlxr_sc_is_bare_name(const mlxr_sc *s, const char *text, size_t n)
{
    if (s->notation != MLXR_SC_BRACED || n == 0) return false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
              c == '-'))
            return false;
    }
    return true;
}

/* Strings of min to max characters where not every escape of JSON is the notation's. Long counts are not written out: there a
 * character with which the text to avoid begins is left out altogether. */
static mlxr_status chars_expr(mlxr_expr *out, mlxr_sc *s, size_t min, size_t max)
{
    enum { WRITTEN_OUT = 128 };
    size_t count = max != SIZE_MAX ? max : min;
    mlxr_text first = {s->avoid, 1};
    mlxr_dfa *d, *less;
    mlxr_status st;

    if ((s->notation == MLXR_SC_JSON && !s->avoid) || max < min) {
        *out = mlxr_gb_chars(s->b, min, max);
        return MLXR_OK;
    }
    st = count <= WRITTEN_OUT ? mlxr_dfa_length(&d, min, max, s->limits, s->err)
                              : mlxr_dfa_length(&d, 1, 1, s->limits, s->err);
    if (st != MLXR_OK || (st = mlxr_sc_own(s, d)) != MLXR_OK) return st;
    if (count > WRITTEN_OUT && s->avoid &&
        ((st = own_literals(&less, s, &first, 1)) != MLXR_OK ||
         (st = mlxr_sc_op(&d, s, mlxr_dfa_minus, d, less)) != MLXR_OK))
        return st;
    if ((st = mlxr_sc_json_text(&d, s, d)) != MLXR_OK) return st;
    *out = mlxr_sc_use(s, d);
    if (count > WRITTEN_OUT) *out = mlxr_gb_repeat(s->b, *out, min, max);
    return MLXR_OK;
}

mlxr_status mlxr_sc_text_rule_of(mlxr_rule *out, mlxr_sc *s, mlxr_dfa *d, size_t min, size_t max)
{
    mlxr_sc_text_rule *r;
    mlxr_expr e = MLXR_EXPR_NONE;
    mlxr_status st;

    for (size_t i = 0; i < s->n_text_rules; i++) {
        r = &s->text_rules[i];
        if (d ? r->d && mlxr_dfa_equal(r->d, d) : !r->d && r->min == min && r->max == max) {
            *out = r->rule;
            return MLXR_OK;
        }
    }
    if (s->n_text_rules == s->cap_text_rules) {
        size_t cap = s->cap_text_rules ? s->cap_text_rules * 2 : 16;
        r = mlxr_realloc_array(s->text_rules, cap, sizeof *r);
        if (!r) return mlxr_sc_nomem(s);
        s->text_rules = r;
        s->cap_text_rules = cap;
    }
    if (d)
        e = mlxr_sc_use(s, d);
    else if ((st = chars_expr(&e, s, min, max)) != MLXR_OK)
        return st;
    *out = mlxr_gb_rule(s->b, "string");
    s->text_rules[s->n_text_rules++] = (mlxr_sc_text_rule){d, min, max, *out};
    mlxr_gb_define(s->b, *out, mlxr_sc_quoted(s, e));
    return mlxr_sc_step(s, 1 + s->n_text_rules / 8);
}

/* ---- graphs ---- */

void mlxr_sc_edge(mlxr_sc_graph *g, size_t from, size_t to, mlxr_expr e)
{
    if (g->n == g->cap && !g->failed) {
        size_t cap = g->cap ? g->cap * 2 : 32;
        mlxr_gb_edge *more = mlxr_realloc_array(g->edges, cap, sizeof *more);
        if (!more) {
            mlxr_sc_nomem(g->s);
            mlxr_gb_fail(g->s->b, MLXR_E_NOMEM, "schema: out of memory");
            g->failed = true;
        } else {
            g->edges = more;
            g->cap = cap;
        }
    }
    if (!g->failed) g->edges[g->n++] = (mlxr_gb_edge){(uint32_t)from, (uint32_t)to, e};
}

void mlxr_sc_skip(mlxr_sc_graph *g, size_t from, size_t to)
{
    mlxr_sc_edge(g, from, to, mlxr_gb_empty(g->s->b));
}

mlxr_expr mlxr_sc_graph_done(mlxr_sc_graph *g, size_t n_states, size_t accepting)
{
    uint32_t end = (uint32_t)accepting;

    if (g->failed) return MLXR_EXPR_NONE;
    return mlxr_gb_graph(g->s->b, (uint32_t)n_states, g->edges, g->n, &end, 1);
}

void mlxr_sc_graph_clear(mlxr_sc_graph *g)
{
    free(g->edges);
    g->edges = NULL;
}

/* ---- any JSON ---- */

static mlxr_expr json_object(mlxr_sc *s)
{
    enum { BEGIN, OPEN, NAME, VALUE, DONE, END, N_STATES };
    mlxr_sc_graph g = {.s = s};
    mlxr_expr name[3] = {mlxr_sc_quoted(s, mlxr_gb_unique(s->b, mlxr_dfa_ref(s->any_name))),
                         mlxr_gb_text(s->b, ":", 1), mlxr_sc_colon(s)},
              e;

    mlxr_sc_edge(&g, BEGIN, OPEN, mlxr_gb_text(s->b, "{", 1));
    mlxr_sc_edge(&g, OPEN, NAME, mlxr_sc_use(s, s->space));
    mlxr_sc_edge(&g, OPEN, END, mlxr_sc_close(s, '}'));
    mlxr_sc_edge(&g, NAME, VALUE, mlxr_gb_seq(s->b, name, 3));
    mlxr_sc_edge(&g, VALUE, DONE, mlxr_gb_call(s->b, s->json));
    mlxr_sc_edge(&g, DONE, NAME, mlxr_sc_comma(s));
    mlxr_sc_edge(&g, DONE, END, mlxr_sc_close(s, '}'));
    e = mlxr_sc_graph_done(&g, N_STATES, END);
    mlxr_sc_graph_clear(&g);
    return e;
}

static mlxr_expr json_array(mlxr_sc *s)
{
    enum { BEGIN, OPEN, VALUE, DONE, END, N_STATES };
    mlxr_sc_graph g = {.s = s};
    mlxr_expr e;

    mlxr_sc_edge(&g, BEGIN, OPEN, mlxr_gb_text(s->b, "[", 1));
    mlxr_sc_edge(&g, OPEN, VALUE, mlxr_sc_use(s, s->space));
    mlxr_sc_edge(&g, OPEN, END, mlxr_sc_close(s, ']'));
    mlxr_sc_edge(&g, VALUE, DONE, mlxr_gb_call(s->b, s->json));
    mlxr_sc_edge(&g, DONE, VALUE, mlxr_sc_comma(s));
    mlxr_sc_edge(&g, DONE, END, mlxr_sc_close(s, ']'));
    e = mlxr_sc_graph_done(&g, N_STATES, END);
    mlxr_sc_graph_clear(&g);
    return e;
}

mlxr_rule mlxr_sc_json(mlxr_sc *s)
{
    static const mlxr_sc_number all = {0};
    mlxr_text words[3];
    mlxr_dfa *scalars;
    mlxr_rule string;
    mlxr_expr e[4];
    mlxr_status st;

    if (s->has_json) return s->json;
    s->has_json = true;
    s->json = mlxr_gb_rule(s->b, "json");
    s->json_object = mlxr_gb_rule(s->b, "json object");
    s->json_array = mlxr_gb_rule(s->b, "json array");
    for (unsigned i = 0; i < 3; i++) {
        const char *word = mlxr_sc_word(s, (mlxr_value_type)i);
        words[i] = (mlxr_text){word, strlen(word)};
    }
    if ((st = own_literals(&scalars, s, words, MLXR_COUNT(words))) != MLXR_OK ||
        (st = mlxr_sc_number_dfa(&s->any_number, s, &all)) != MLXR_OK ||
        (st = mlxr_sc_op(&scalars, s, mlxr_dfa_union, scalars, s->any_number)) != MLXR_OK ||
        (st = mlxr_sc_text_rule_of(&string, s, NULL, 0, SIZE_MAX)) != MLXR_OK) {
        mlxr_gb_fail(s->b, st, s->err ? s->err->message : mlxr_status_text(st));
        return s->json;
    }
    e[0] = mlxr_gb_call(s->b, string);
    e[1] = mlxr_sc_use(s, scalars);
    e[2] = mlxr_gb_call(s->b, s->json_object);
    e[3] = mlxr_gb_call(s->b, s->json_array);
    mlxr_gb_define(s->b, s->json, mlxr_gb_alt(s->b, e, 4));
    mlxr_gb_define(s->b, s->json_object, json_object(s));
    mlxr_gb_members(s->b, s->json_object, NULL, 0);
    mlxr_gb_define(s->b, s->json_array, json_array(s));
    return s->json;
}
