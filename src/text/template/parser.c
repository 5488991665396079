/* Tokens to nodes: recursive descent with jinja2's grammar and its messages. */
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

/* What ends a tuple besides the tokens that always do. */
typedef struct end_rules {
    const char *name; /* NULL: nothing more */
} end_rules;

static node *expression(parse *p, bool with_cond);
static node *parse_tuple(parse *p, bool simplified, bool with_cond, const char *extra_end, bool parens,
                         bool with_ns);
static node *parse_unary(parse *p, bool with_filter);
static node *parse_filter(parse *p, node *x, bool start_inline);
static bool parse_statement(parse *p, nodes *out);
static bool subparse(parse *p, const char *const *ends, nodes *out);

bool parse_fail_status(parse *p, mlxr_status st, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (p->status != MLXR_OK) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->status = mlxr_fail(p->err, st, "template %s: %s", p->t->name, text);
    return false;
}

bool parse_fail(parse *p, uint32_t line, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (p->status != MLXR_OK) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->status = mlxr_fail(p->err, MLXR_E_TEMPLATE, "template %s: line %u: %s", p->t->name, line, text);
    return false;
}

/* ---- tokens ---- */

static token *cur(parse *p)
{
    return &p->tokens[p->at];
}

static token *look(parse *p)
{
    return &p->tokens[p->at + 1 < p->n_tokens ? p->at + 1 : p->at];
}

static token *next(parse *p)
{
    token *t = cur(p);
    if (p->at + 1 < p->n_tokens) p->at++;
    return t;
}

static bool tok_is(const token *t, const char *name)
{
    return t->type == TK_NAME && t->n == strlen(name) && memcmp(t->s, name, t->n) == 0;
}

static bool is_name(parse *p, const char *name)
{
    return tok_is(cur(p), name);
}

static bool skip_name(parse *p, const char *name)
{
    if (!is_name(p, name)) return false;
    next(p);
    return true;
}

static bool skip_tok(parse *p, tok t)
{
    if (cur(p)->type != t) return false;
    next(p);
    return true;
}

/* The token as messages quote it, in a buffer of the caller. */
static const char *describe(const token *t, char buf[128])
{
    if (t->type == TK_NAME)
        snprintf(buf, 128, "'%.*s'", (int)(t->n < 100 ? t->n : 100), t->s);
    else
        snprintf(buf, 128, "'%s'", tok_name(t->type));
    return buf;
}

static bool expect_failed(parse *p, const char *want)
{
    char buf[128];
    if (cur(p)->type == TK_EOF)
        return parse_fail(p, cur(p)->line, "unexpected end of template, expected '%s'.", want);
    return parse_fail(p, cur(p)->line, "expected token '%s', got %s", want, describe(cur(p), buf));
}

static token *expect(parse *p, tok t)
{
    if (cur(p)->type != t) {
        expect_failed(p, tok_name(t));
        return NULL;
    }
    return next(p);
}

static token *expect_name(parse *p, const char *name)
{
    if (!is_name(p, name)) {
        expect_failed(p, name);
        return NULL;
    }
    return next(p);
}

static bool enter(parse *p)
{
    if (++p->depth > MAX_PARSE_DEPTH)
        return parse_fail_status(p, MLXR_E_LIMIT, "nested too deeply (line %u)", cur(p)->line);
    return true;
}

static void leave(parse *p)
{
    p->depth--;
}

/* height of x from its children: evaluation recurses that deep. */
static bool max_height(void *ud, node *child)
{
    node *x = ud;
    if (child->height >= x->height) x->height = child->height + 1;
    return true;
}

static node *finish(parse *p, node *x)
{
    if (!x || p->status != MLXR_OK) return NULL;
    node_children(x, max_height, x);
    if (x->height > MAX_NODE_HEIGHT) {
        parse_fail_status(p, MLXR_E_LIMIT, "nested too deeply (line %u)", x->line);
        return NULL;
    }
    return x;
}

static node *binary(parse *p, node_kind kind, node *a, node *b, uint32_t line)
{
    node *x = a && b ? node_new(p, kind, line) : NULL;
    if (!x) return NULL;
    x->a = a;
    x->b = b;
    return finish(p, x);
}

static node *constant(parse *p, val v, uint32_t line)
{
    node *x = node_new(p, N_CONST, line);
    if (x) x->value = v;
    return x;
}

/* ---- expressions ---- */

static node *parse_condexpr(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x;
    if (!enter(p)) return NULL;
    x = expression(p, false);
    while (x && skip_name(p, "if")) {
        node *y = node_new(p, N_COND, line);
        if (!y) return NULL;
        y->a = x;
        y->c = expression(p, false);
        if (!y->c) return NULL;
        if (skip_name(p, "else") && !(y->b = parse_condexpr(p))) return NULL;
        x = finish(p, y);
        line = cur(p)->line;
    }
    leave(p);
    return x;
}

static node *parse_pow(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_unary(p, true);
    while (x && cur(p)->type == TK_POW) {
        next(p);
        x = binary(p, N_POW, x, parse_unary(p, true), line);
        line = cur(p)->line;
    }
    return x;
}

static node *parse_math2(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_pow(p);
    while (x) {
        tok t = cur(p)->type;
        node_kind k = t == TK_MUL ? N_MUL : t == TK_DIV ? N_DIV : t == TK_FLOORDIV ? N_FLOORDIV : N_MOD;
        if (t != TK_MUL && t != TK_DIV && t != TK_FLOORDIV && t != TK_MOD) break;
        next(p);
        x = binary(p, k, x, parse_pow(p), line);
        line = cur(p)->line;
    }
    return x;
}

static node *parse_concat(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_math2(p), *y;
    if (!x || cur(p)->type != TK_TILDE) return x;
    y = node_new(p, N_CONCAT, line);
    if (!y || !nodes_add(p, &y->items, x)) return NULL;
    while (skip_tok(p, TK_TILDE))
        if (!nodes_add(p, &y->items, parse_math2(p))) return NULL;
    return finish(p, y);
}

static node *parse_math1(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_concat(p);
    while (x && (cur(p)->type == TK_ADD || cur(p)->type == TK_SUB)) {
        node_kind k = next(p)->type == TK_ADD ? N_ADD : N_SUB;
        x = binary(p, k, x, parse_concat(p), line);
        line = cur(p)->line;
    }
    return x;
}

static bool compare_op(parse *p, uint8_t *op)
{
    switch (cur(p)->type) {
    case TK_EQ: *op = CMP_EQ; break;
    case TK_NE: *op = CMP_NE; break;
    case TK_LT: *op = CMP_LT; break;
    case TK_LTEQ: *op = CMP_LE; break;
    case TK_GT: *op = CMP_GT; break;
    case TK_GTEQ: *op = CMP_GE; break;
    default:
        if (is_name(p, "in")) {
            *op = CMP_IN;
        } else if (is_name(p, "not") && tok_is(look(p), "in")) {
            *op = CMP_NOTIN;
            next(p);
        } else {
            return false;
        }
    }
    next(p);
    return true;
}

static node *parse_compare(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_math1(p), *y = NULL;
    uint8_t op;
    size_t cap = 0;
    while (x && compare_op(p, &op)) {
        if (!y) {
            y = node_new(p, N_COMPARE, line);
            if (!y) return NULL;
            y->a = x;
        }
        if (y->items.n == cap) {
            uint8_t *ops;
            cap = cap ? cap * 2 : 4;
            ops = parse_alloc(p, cap, 1);
            if (!ops) return NULL;
            if (y->items.n) memcpy(ops, y->ops, y->items.n);
            y->ops = ops;
        }
        y->ops[y->items.n] = op;
        if (!nodes_add(p, &y->items, parse_math1(p))) return NULL;
    }
    return y ? finish(p, y) : x;
}

static node *parse_not(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x;
    if (!is_name(p, "not")) return parse_compare(p);
    if (!enter(p)) return NULL;
    next(p);
    x = node_new(p, N_NOT, line);
    if (!x || !(x->a = parse_not(p))) return NULL;
    leave(p);
    return finish(p, x);
}

static node *parse_and(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x = parse_not(p);
    while (x && skip_name(p, "and")) {
        x = binary(p, N_AND, x, parse_not(p), line);
        line = cur(p)->line;
    }
    return x;
}

static node *expression(parse *p, bool with_cond)
{
    uint32_t line = cur(p)->line;
    node *x;
    if (with_cond) return parse_condexpr(p);
    if (!enter(p)) return NULL;
    x = parse_and(p);
    while (x && skip_name(p, "or")) {
        x = binary(p, N_OR, x, parse_and(p), line);
        line = cur(p)->line;
    }
    leave(p);
    return x;
}

static node *parse_string(parse *p)
{
    token *t = next(p);
    uint32_t line = t->line;
    const char *s = t->s;
    size_t n = t->n;
    str *v;
    if (cur(p)->type == TK_STRING) {
        size_t first = p->at, total = n;
        char *buf;
        while (cur(p)->type == TK_STRING) total += next(p)->n;
        buf = parse_alloc(p, total + 1, 1);
        if (!buf) return NULL;
        memcpy(buf, s, n);
        for (size_t i = first, k = n; i < p->at; i++) {
            memcpy(buf + k, p->tokens[i].s, p->tokens[i].n);
            k += p->tokens[i].n;
        }
        s = buf;
        n = total;
    }
    v = parse_str(p, s, n);
    return v ? constant(p, v_of_str(v), line) : NULL;
}

static node *parse_list(parse *p)
{
    node *x = node_new(p, N_LIST, next(p)->line);
    if (!x) return NULL;
    while (cur(p)->type != TK_RBRACKET) {
        if (x->items.n && !expect(p, TK_COMMA)) return NULL;
        if (cur(p)->type == TK_RBRACKET) break;
        if (!nodes_add(p, &x->items, expression(p, true))) return NULL;
    }
    next(p);
    x = finish(p, x);
    return x ? node_fold(p, x) : NULL;
}

static node *parse_dict(parse *p)
{
    node *x = node_new(p, N_DICT, next(p)->line);
    if (!x) return NULL;
    while (cur(p)->type != TK_RBRACE) {
        if (x->items.n && !expect(p, TK_COMMA)) return NULL;
        if (cur(p)->type == TK_RBRACE) break;
        if (!nodes_add(p, &x->items, expression(p, true)) || !expect(p, TK_COLON)) return NULL;
        if (!nodes_add(p, &x->items, expression(p, true))) return NULL;
    }
    next(p);
    return finish(p, x);
}

static node *parse_primary(parse *p, bool with_ns)
{
    token *t = cur(p);
    node *x = NULL;
    char buf[128];
    switch (t->type) {
    case TK_NAME:
        next(p);
        if (tok_is(t, "true") || tok_is(t, "True")) return constant(p, v_bool(true), t->line);
        if (tok_is(t, "false") || tok_is(t, "False")) return constant(p, v_bool(false), t->line);
        if (tok_is(t, "none") || tok_is(t, "None")) return constant(p, v_none(), t->line);
        if (with_ns && cur(p)->type == TK_DOT) {
            token *attr;
            next(p);
            attr = expect(p, TK_NAME);
            x = attr ? node_new(p, N_NSREF, t->line) : NULL;
            if (x) x->attr = parse_str(p, attr->s, attr->n);
        } else {
            x = node_new(p, N_NAME, t->line);
        }
        if (x) x->name = parse_str(p, t->s, t->n);
        break;
    case TK_STRING: return parse_string(p);
    case TK_INTEGER: next(p); return constant(p, v_int(t->i), t->line);
    case TK_FLOAT: next(p); return constant(p, v_float(t->f), t->line);
    case TK_LPAREN:
        next(p);
        if (!enter(p)) return NULL;
        x = parse_tuple(p, false, true, NULL, true, false);
        leave(p);
        if (!x || !expect(p, TK_RPAREN)) return NULL;
        break;
    case TK_LBRACKET:
    case TK_LBRACE:
        if (!enter(p)) return NULL;
        x = t->type == TK_LBRACKET ? parse_list(p) : parse_dict(p);
        leave(p);
        break;
    default: parse_fail(p, t->line, "unexpected %s", describe(t, buf)); break;
    }
    return p->status == MLXR_OK ? x : NULL;
}

static bool tuple_end(parse *p, const char *extra_end)
{
    tok t = cur(p)->type;
    return t == TK_VAR_END || t == TK_BLOCK_END || t == TK_RPAREN || (extra_end && is_name(p, extra_end));
}

static node *parse_tuple(parse *p, bool simplified, bool with_cond, const char *extra_end, bool parens,
                         bool with_ns)
{
    uint32_t line = cur(p)->line;
    nodes items = {0};
    bool is_tuple = false;
    node *x;
    char buf[128];
    for (;;) {
        if (items.n && !expect(p, TK_COMMA)) return NULL;
        if (tuple_end(p, extra_end)) break;
        x = simplified ? parse_primary(p, with_ns) : expression(p, with_cond);
        if (!nodes_add(p, &items, x)) return NULL;
        if (cur(p)->type != TK_COMMA) break;
        is_tuple = true;
        line = cur(p)->line;
    }
    if (!is_tuple) {
        if (items.n) return items.v[0];
        if (!parens) {
            parse_fail(p, cur(p)->line, "Expected an expression, got %s", describe(cur(p), buf));
            return NULL;
        }
    }
    x = node_new(p, N_TUPLE, line);
    if (!x) return NULL;
    x->items = items;
    x = finish(p, x);
    return x && !simplified ? node_fold(p, x) : x;
}

static node *parse_subscribed(parse *p)
{
    uint32_t line = cur(p)->line;
    node *x, *a = NULL;
    if (cur(p)->type != TK_COLON) {
        a = expression(p, true);
        if (!a || cur(p)->type != TK_COLON) return a;
    }
    next(p);
    x = node_new(p, N_SLICE, line);
    if (!x) return NULL;
    x->a = a;
    if (cur(p)->type != TK_COLON && cur(p)->type != TK_RBRACKET && cur(p)->type != TK_COMMA)
        if (!(x->b = expression(p, true))) return NULL;
    if (cur(p)->type == TK_COLON) {
        next(p);
        if (cur(p)->type != TK_RBRACKET && cur(p)->type != TK_COMMA)
            if (!(x->c = expression(p, true))) return NULL;
    }
    return finish(p, x);
}

static node *parse_subscript(parse *p, node *a)
{
    token *t = next(p);
    node *x, *arg;
    nodes subs = {0};

    if (t->type == TK_DOT) {
        token *attr = cur(p);
        next(p);
        if (attr->type == TK_NAME) {
            static const vtype types[4] = {T_STR, T_LIST, T_TUPLE, T_DICT};
            x = node_new(p, N_GETATTR, t->line);
            if (!x) return NULL;
            x->a = a;
            x->name = parse_str(p, attr->s, attr->n);
            for (size_t i = 0; i < 4; i++) x->attr_of[i] = method_find(types[i], attr->s, attr->n);
            return finish(p, x);
        }
        if (attr->type != TK_INTEGER) {
            parse_fail(p, attr->line, "expected name or number");
            return NULL;
        }
        return binary(p, N_GETITEM, a, constant(p, v_int(attr->i), attr->line), t->line);
    }
    if (!enter(p)) return NULL;
    while (cur(p)->type != TK_RBRACKET) {
        if (subs.n && !expect(p, TK_COMMA)) return NULL;
        if (!nodes_add(p, &subs, parse_subscribed(p))) return NULL;
    }
    next(p);
    leave(p);
    if (subs.n == 1) {
        arg = subs.v[0];
    } else {
        arg = node_new(p, N_TUPLE, t->line);
        if (!arg) return NULL;
        arg->items = subs;
        arg = finish(p, arg);
        if (arg) arg = node_fold(p, arg);
    }
    return binary(p, N_GETITEM, a, arg, t->line);
}

static bool call_syntax(parse *p, uint32_t line)
{
    return parse_fail(p, line, "invalid syntax for function call expression");
}

static bool parse_call_args(parse *p, call_args *c)
{
    token *t = expect(p, TK_LPAREN);
    bool comma = false;
    size_t cap = 0;
    if (!t || !enter(p)) return false;
    while (cur(p)->type != TK_RPAREN) {
        if (comma) {
            if (!expect(p, TK_COMMA)) return false;
            if (cur(p)->type == TK_RPAREN) break;
        }
        if (cur(p)->type == TK_MUL) {
            if (c->dyn_args || c->dyn_kwargs) return call_syntax(p, t->line);
            next(p);
            if (!(c->dyn_args = expression(p, true))) return false;
        } else if (cur(p)->type == TK_POW) {
            if (c->dyn_kwargs) return call_syntax(p, t->line);
            next(p);
            if (!(c->dyn_kwargs = expression(p, true))) return false;
        } else if (cur(p)->type == TK_NAME && look(p)->type == TK_ASSIGN) {
            token *key = cur(p);
            if (c->dyn_kwargs) return call_syntax(p, t->line);
            next(p);
            next(p);
            if (c->kw.n == cap) {
                str **names;
                cap = cap ? cap * 2 : 4;
                names = parse_alloc(p, cap, sizeof *names);
                if (!names) return false;
                if (c->kw.n) memcpy(names, c->kw_name, c->kw.n * sizeof *names);
                c->kw_name = names;
            }
            for (size_t i = 0; i < c->kw.n; i++)
                if (c->kw_name[i]->n == key->n && memcmp(c->kw_name[i]->s, key->s, key->n) == 0)
                    return parse_fail(p, key->line, "keyword argument repeated: %.*s",
                                      (int)(key->n < 100 ? key->n : 100), key->s);
            if (!(c->kw_name[c->kw.n] = parse_str(p, key->s, key->n))) return false;
            if (!nodes_add(p, &c->kw, expression(p, true))) return false;
        } else {
            if (c->dyn_args || c->dyn_kwargs || c->kw.n) return call_syntax(p, t->line);
            if (!nodes_add(p, &c->pos, expression(p, true))) return false;
        }
        comma = true;
    }
    leave(p);
    next(p);
    return true;
}

static node *parse_call(parse *p, node *a)
{
    node *x = node_new(p, N_CALL, cur(p)->line);
    if (!x) return NULL;
    x->a = a;
    return parse_call_args(p, x->call) ? finish(p, x) : NULL;
}

static node *parse_postfix(parse *p, node *x)
{
    while (x) {
        tok t = cur(p)->type;
        if (t == TK_DOT || t == TK_LBRACKET)
            x = parse_subscript(p, x);
        else if (t == TK_LPAREN)
            x = parse_call(p, x);
        else
            break;
    }
    return x;
}

/* name.name.name of a filter or test */
static str *dotted_name(parse *p, token *t)
{
    size_t first = p->at, n = t->n, k;
    char *buf;
    while (skip_tok(p, TK_DOT)) {
        token *part = expect(p, TK_NAME);
        if (!part) return NULL;
        n += 1 + part->n;
    }
    if (p->at == first) return parse_str(p, t->s, t->n);
    buf = parse_alloc(p, n + 1, 1);
    if (!buf) return NULL;
    memcpy(buf, t->s, t->n);
    k = t->n;
    for (size_t i = first; i < p->at; i++) {
        token *part = &p->tokens[i];
        memcpy(buf + k, part->s, part->n);
        k += part->n;
    }
    return parse_str(p, buf, k);
}

static node *parse_filter(parse *p, node *x, bool start_inline)
{
    while (cur(p)->type == TK_PIPE || start_inline) {
        token *t;
        node *y;
        if (!start_inline) next(p);
        start_inline = false;
        t = expect(p, TK_NAME);
        y = t ? node_new(p, N_FILTER, t->line) : NULL;
        if (!y) return NULL;
        y->a = x;
        if (!(y->name = dotted_name(p, t))) return NULL;
        y->fn = filter_find(y->name->s, y->name->n);
        if (cur(p)->type == TK_LPAREN && !parse_call_args(p, y->call)) return NULL;
        if (!(x = finish(p, y))) return NULL;
    }
    return x;
}

static node *parse_test(parse *p, node *a)
{
    uint32_t line = next(p)->line;
    bool negated = skip_name(p, "not");
    token *t = expect(p, TK_NAME);
    node *x = t ? node_new(p, N_TEST, line) : NULL;
    tok k;
    if (!x) return NULL;
    x->a = a;
    if (!(x->name = dotted_name(p, t))) return NULL;
    x->fn = test_find(x->name->s, x->name->n);
    k = cur(p)->type;
    if (k == TK_LPAREN) {
        if (!parse_call_args(p, x->call)) return NULL;
    } else if ((k == TK_NAME || k == TK_STRING || k == TK_INTEGER || k == TK_FLOAT || k == TK_LBRACKET ||
                k == TK_LBRACE) &&
               !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and")) {
        if (is_name(p, "is")) {
            parse_fail(p, cur(p)->line, "You cannot chain multiple tests with is");
            return NULL;
        }
        if (!nodes_add(p, &x->call->pos, parse_postfix(p, parse_primary(p, false)))) return NULL;
    }
    x = finish(p, x);
    if (x && negated) {
        node *y = node_new(p, N_NOT, line);
        if (!y) return NULL;
        y->a = x;
        x = finish(p, y);
    }
    return x;
}

static node *parse_unary(parse *p, bool with_filter)
{
    tok t = cur(p)->type;
    uint32_t line = cur(p)->line;
    node *x;
    if (t == TK_SUB || t == TK_ADD) {
        if (!enter(p)) return NULL;
        next(p);
        x = node_new(p, t == TK_SUB ? N_NEG : N_POS, line);
        if (!x || !(x->a = parse_unary(p, false))) return NULL;
        x = finish(p, x);
        leave(p);
    } else {
        x = parse_primary(p, false);
    }
    x = parse_postfix(p, x);
    while (x && with_filter) {
        if (cur(p)->type == TK_PIPE)
            x = parse_filter(p, x, false);
        else if (is_name(p, "is"))
            x = parse_test(p, x);
        else if (cur(p)->type == TK_LPAREN)
            x = parse_call(p, x);
        else
            break;
    }
    return x;
}

/* ---- assignment targets ---- */

static bool can_assign(const node *x)
{
    if (x->kind == N_NSREF) return true;
    if (x->kind == N_NAME) return true; /* true, false and none are constants here */
    if (x->kind != N_TUPLE) return false;
    for (size_t i = 0; i < x->items.n; i++)
        if (!can_assign(x->items.v[i])) return false;
    return true;
}

static void set_ctx(node *x, uint8_t ctx_)
{
    x->ctx = ctx_;
    for (size_t i = 0; i < x->items.n; i++) set_ctx(x->items.v[i], ctx_);
}

static const char *class_name(const node *x)
{
    switch ((node_kind)x->kind) {
    case N_CONST: return x->value.type == T_TUPLE ? "tuple" : x->value.type == T_LIST ? "list" : "const";
    case N_LIST: return "list";
    case N_DICT: return "dict";
    case N_TUPLE: return "tuple";
    default: return "expr";
    }
}

static node *assign_target(parse *p, const char *extra_end, bool with_ns)
{
    node *x = parse_tuple(p, true, true, extra_end, false, with_ns);
    if (!x) return NULL;
    /* "()" was folded to a constant: it is an empty target */
    if (x->kind == N_CONST && x->value.type == T_TUPLE && x->value.l->n == 0) x->kind = N_TUPLE;
    if (!can_assign(x)) {
        parse_fail(p, x->line, "can't assign to '%s'", class_name(x));
        return NULL;
    }
    set_ctx(x, CTX_STORE);
    return x;
}

static token *target_name(parse *p)
{
    token *t = expect(p, TK_NAME);
    if (t && (tok_is(t, "true") || tok_is(t, "True") || tok_is(t, "false") || tok_is(t, "False") ||
              tok_is(t, "none") || tok_is(t, "None"))) {
        parse_fail(p, t->line, "can't assign to 'name'");
        return NULL;
    }
    return t;
}

/* ---- statements ---- */

static bool push(parse *p, void ***stack, size_t *n, size_t *cap, const void *x)
{
    if (*n == *cap) {
        size_t c = *cap ? *cap * 2 : 16;
        void **s = mlxr_realloc_array(*stack, c, sizeof *s);
        if (!s) return parse_fail_status(p, MLXR_E_NOMEM, "out of memory");
        *stack = s;
        *cap = c;
    }
    (*stack)[(*n)++] = (void *)(uintptr_t)x;
    return true;
}

/* An unknown tag (name), or the end of the template (NULL) where something is still open. */
static bool fail_open(parse *p, const char *name, const char *const *looking, uint32_t line)
{
    mlxr_buf b = {0};
    bool expected = false;

    if (name) {
        mlxr_buf_printf(&b, "Encountered unknown tag '%s'.", name);
        for (size_t i = 0; i < p->n_ends; i++)
            for (const char *const *e = p->end_stack[i]; *e; e++) expected |= strcmp(*e, name) == 0;
    } else {
        mlxr_buf_str(&b, "Unexpected end of template.");
    }
    if (!looking && p->n_ends) looking = p->end_stack[p->n_ends - 1];
    if (looking) {
        mlxr_buf_str(&b, expected ? " You probably made a nesting mistake. Jinja is expecting this tag, but "
                                    "currently looking for "
                                  : " Jinja was looking for the following tags: ");
        for (const char *const *e = looking; *e; e++)
            mlxr_buf_printf(&b, "%s'%s'", e == looking ? "" : " or ", *e);
        mlxr_buf_char(&b, '.');
    }
    if (p->n_tags)
        mlxr_buf_printf(&b, " The innermost block that needs to be closed is '%s'.",
                        p->tag_stack[p->n_tags - 1]);
    if (b.failed)
        parse_fail_status(p, MLXR_E_NOMEM, "out of memory");
    else
        parse_fail(p, line, "%s", b.data);
    mlxr_buf_clear(&b);
    return false;
}

/* The body of a statement up to one of ends, which stays the current token unless drop. */
static bool statements(parse *p, const char *const *ends, bool drop, nodes *out)
{
    skip_tok(p, TK_COLON);
    if (!expect(p, TK_BLOCK_END)) return false;
    if (!enter(p) || !subparse(p, ends, out)) return false;
    leave(p);
    if (cur(p)->type == TK_EOF) return fail_open(p, NULL, ends, cur(p)->line);
    if (drop) next(p);
    return true;
}

static bool parse_set(parse *p, node **out)
{
    static const char *const ends[] = {"endset", NULL};
    uint32_t line = next(p)->line;
    node *target = assign_target(p, NULL, true), *x;
    if (!target) return false;
    if (skip_tok(p, TK_ASSIGN)) {
        *out = x = node_new(p, N_SET, line);
        if (!x) return false;
        x->a = target;
        return (x->b = parse_tuple(p, false, true, NULL, false, false)) != NULL;
    }
    *out = x = node_new(p, N_SETBLOCK, line);
    if (!x) return false;
    x->a = target;
    if (cur(p)->type == TK_PIPE && !(x->b = parse_filter(p, NULL, false))) return false;
    return statements(p, ends, true, &x->body);
}

static bool parse_for(parse *p, node **out)
{
    static const char *const ends[] = {"endfor", "else", NULL}, *const ends2[] = {"endfor", NULL};
    node *x = *out = node_new(p, N_FOR, next(p)->line);
    if (!x) return false;
    if (!(x->loop->target = assign_target(p, "in", false)) || !expect_name(p, "in")) return false;
    if (!(x->loop->iter = parse_tuple(p, false, false, "recursive", false, false))) return false;
    if (skip_name(p, "if") && !(x->loop->test = expression(p, true))) return false;
    x->flag = skip_name(p, "recursive");
    if (!statements(p, ends, false, &x->body)) return false;
    if (tok_is(next(p), "endfor")) return true;
    return statements(p, ends2, true, &x->orelse);
}

static bool parse_if(parse *p, node **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const ends2[] = {"endif", NULL};
    node *x = *out = node_new(p, N_IF, next(p)->line), *y = x;
    while (y) {
        token *t;
        if (!(y->a = parse_tuple(p, false, false, NULL, false, false))) return false;
        if (!statements(p, ends, false, &y->body)) return false;
        if (y != x) y = finish(p, y);
        t = next(p);
        if (tok_is(t, "elif")) {
            y = node_new(p, N_IF, cur(p)->line);
            if (!y || !nodes_add(p, &x->items, y)) return false;
            continue;
        }
        return tok_is(t, "else") ? statements(p, ends2, true, &x->orelse) : y != NULL;
    }
    return false;
}

static bool parse_with(parse *p, node **out)
{
    static const char *const ends[] = {"endwith", NULL};
    node *x = *out = node_new(p, N_WITH, next(p)->line);
    if (!x) return false;
    while (cur(p)->type != TK_BLOCK_END) {
        node *target;
        if (x->items.n && !expect(p, TK_COMMA)) return false;
        if (!(target = assign_target(p, NULL, false))) return false;
        set_ctx(target, CTX_PARAM);
        if (!nodes_add(p, &x->items, target) || !expect(p, TK_ASSIGN)) return false;
        if (!nodes_add(p, &x->orelse, expression(p, true))) return false;
    }
    return statements(p, ends, true, &x->body);
}

static bool parse_signature(parse *p, macro_info *m)
{
    if (!expect(p, TK_LPAREN)) return false;
    while (cur(p)->type != TK_RPAREN) {
        token *t;
        node *arg;
        if (m->args.n && !expect(p, TK_COMMA)) return false;
        if (!(t = target_name(p))) return false;
        arg = node_new(p, N_NAME, t->line);
        if (!arg || !(arg->name = parse_str(p, t->s, t->n))) return false;
        arg->ctx = CTX_PARAM;
        for (size_t i = 0; i < m->args.n; i++)
            if (str_eq(m->args.v[i]->name, arg->name))
                return parse_fail(p, t->line, "duplicate argument '%.*s' in function definition",
                                  (int)(t->n < 100 ? t->n : 100), t->s);
        if (skip_tok(p, TK_ASSIGN)) {
            if (!nodes_add(p, &m->defaults, expression(p, true))) return false;
        } else if (m->defaults.n) {
            return parse_fail(p, cur(p)->line, "non-default argument follows default argument");
        }
        if (!nodes_add(p, &m->args, arg)) return false;
    }
    next(p);
    return true;
}

static bool parse_macro(parse *p, node **out)
{
    static const char *const ends[] = {"endmacro", NULL};
    node *x = *out = node_new(p, N_MACRO, next(p)->line);
    token *t = x ? target_name(p) : NULL;
    if (!t || !(x->name = parse_str(p, t->s, t->n))) return false;
    return parse_signature(p, x->macro) && statements(p, ends, true, &x->body);
}

static bool parse_call_block(parse *p, node **out)
{
    static const char *const ends[] = {"endcall", NULL};
    node *x = *out = node_new(p, N_CALLBLOCK, next(p)->line);
    if (!x) return false;
    if (cur(p)->type == TK_LPAREN && !parse_signature(p, x->macro)) return false;
    if (!(x->a = expression(p, true))) return false;
    if (x->a->kind != N_CALL) return parse_fail(p, x->line, "expected call");
    for (size_t i = 0; i < x->a->call->kw.n; i++)
        if (str_is(x->a->call->kw_name[i], "caller"))
            return parse_fail(p, x->line, "keyword argument repeated: caller");
    return statements(p, ends, true, &x->body);
}

static bool parse_block(parse *p, node **out)
{
    static const char *const ends[] = {"endblock", NULL};
    node *x = *out = node_new(p, N_BLOCK, next(p)->line);
    token *t = x ? expect(p, TK_NAME) : NULL;
    if (!t || !(x->name = parse_str(p, t->s, t->n))) return false;
    x->flag = skip_name(p, "scoped");
    x->flag2 = skip_name(p, "required");
    if (cur(p)->type == TK_SUB)
        return parse_fail(p, cur(p)->line,
                          "Block names in Jinja have to be valid Python identifiers and may not contain "
                          "hyphens, use an underscore instead.");
    if (!statements(p, ends, true, &x->body)) return false;
    for (size_t i = 0; x->flag2 && i < x->body.n; i++) {
        node *y = x->body.v[i];
        for (size_t k = 0; k < y->items.n || y->kind != N_OUTPUT; k++) {
            bool blank = y->kind == N_OUTPUT && y->items.v[k]->kind == N_DATA;
            str *s = blank ? y->items.v[k]->value.s : NULL;
            for (size_t j = 0; blank && j < s->n;) blank = cp_is_space(next_cp(s->s, s->n, &j));
            if (!blank)
                return parse_fail(p, cur(p)->line, "Required blocks can only contain comments or whitespace");
        }
    }
    if (cur(p)->type == TK_NAME && cur(p)->n == x->name->n && memcmp(cur(p)->s, x->name->s, x->name->n) == 0)
        next(p);
    return true;
}

/* "with context" and "without context" change nothing here: there is nothing to load from. */
static bool import_context(parse *p)
{
    if (!(is_name(p, "with") || is_name(p, "without")) || !tok_is(look(p), "context")) return false;
    next(p);
    next(p);
    return true;
}

static bool parse_include(parse *p, node **out)
{
    node *x = *out = node_new(p, N_INCLUDE, next(p)->line);
    if (!x || !(x->a = expression(p, true))) return false;
    if (is_name(p, "ignore") && tok_is(look(p), "missing")) {
        x->flag = true;
        next(p);
        next(p);
    }
    import_context(p);
    return true;
}

static bool parse_from(parse *p, node **out)
{
    node *x = *out = node_new(p, N_FROMIMPORT, next(p)->line);
    size_t cap = 0;
    if (!x || !(x->a = expression(p, true)) || !expect_name(p, "import")) return false;
    for (;;) {
        token *name, *alias;
        if (x->n_imports && !expect(p, TK_COMMA)) return false;
        if (cur(p)->type != TK_NAME) return expect(p, TK_NAME) != NULL;
        if (import_context(p)) return true;
        if (!(name = target_name(p))) return false;
        if (name->s[0] == '_')
            return parse_fail(p, name->line, "names starting with an underline can not be imported");
        alias = name;
        if (skip_name(p, "as") && !(alias = target_name(p))) return false;
        if (x->n_imports == cap) {
            import_name *v;
            cap = cap ? cap * 2 : 4;
            v = parse_alloc(p, cap, sizeof *v);
            if (!v) return false;
            if (x->n_imports) memcpy(v, x->imports, x->n_imports * sizeof *v);
            x->imports = v;
        }
        x->imports[x->n_imports].name = parse_str(p, name->s, name->n);
        x->imports[x->n_imports].alias = parse_str(p, alias->s, alias->n);
        if (!x->imports[x->n_imports].name || !x->imports[x->n_imports].alias) return false;
        x->n_imports++;
        if (import_context(p) || cur(p)->type != TK_COMMA) return true;
    }
}

static bool parse_import(parse *p, node **out)
{
    node *x = *out = node_new(p, N_IMPORT, next(p)->line);
    token *t;
    if (!x || !(x->a = expression(p, true)) || !expect_name(p, "as") || !(t = target_name(p))) return false;
    if (!(x->name = parse_str(p, t->s, t->n))) return false;
    import_context(p);
    return true;
}

static bool parse_print(parse *p, node **out)
{
    node *x = *out = node_new(p, N_OUTPUT, next(p)->line);
    if (!x) return false;
    while (cur(p)->type != TK_BLOCK_END) {
        if (x->items.n && !expect(p, TK_COMMA)) return false;
        if (!nodes_add(p, &x->items, expression(p, true))) return false;
    }
    return true;
}

static bool parse_extends(parse *p, node **out)
{
    node *x = *out = node_new(p, N_EXTENDS, next(p)->line);
    return x && (x->a = expression(p, true)) != NULL;
}

static bool parse_autoescape(parse *p, node **out)
{
    static const char *const ends[] = {"endautoescape", NULL};
    node *x = *out = node_new(p, N_AUTOESCAPE, next(p)->line);
    return x && (x->a = expression(p, true)) != NULL && statements(p, ends, true, &x->body);
}

static bool parse_filter_block(parse *p, node **out)
{
    static const char *const ends[] = {"endfilter", NULL};
    node *x = *out = node_new(p, N_FILTERBLOCK, next(p)->line);
    return x && (x->a = parse_filter(p, NULL, true)) != NULL && statements(p, ends, true, &x->body);
}

static bool parse_generation(parse *p, node **out)
{
    static const char *const ends[] = {"endgeneration", NULL};
    node *x = *out = node_new(p, N_CALLBLOCK, next(p)->line);
    return x && statements(p, ends, true, &x->body);
}

static bool parse_loop_control(parse *p, node **out)
{
    token *t = next(p);
    return (*out = node_new(p, tok_is(t, "break") ? N_BREAK : N_CONTINUE, t->line)) != NULL;
}

static bool parse_statement(parse *p, nodes *out)
{
    static const struct {
        const char *name;
        bool (*fn)(parse *p, node **out);
    } table[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"block", parse_block},
        {"print", parse_print},
        {"break", parse_loop_control},
        {"continue", parse_loop_control},
        {"generation", parse_generation},
        {"autoescape", parse_autoescape},
        {"include", parse_include},
        {"import", parse_import},
        {"from", parse_from},
        {"extends", parse_extends},
    };
    token *t = cur(p);
    node *x = NULL;
    char *name;

    if (t->type != TK_NAME) return parse_fail(p, t->line, "tag name expected");
    for (size_t i = 0; i < MLXR_COUNT(table); i++) {
        if (!tok_is(t, table[i].name)) continue;
        if (!push(p, (void ***)&p->tag_stack, &p->n_tags, &p->cap_tags, table[i].name)) return false;
        if (!table[i].fn(p, &x)) return false;
        p->n_tags--;
        return nodes_add(p, out, finish(p, x));
    }
    name = parse_alloc(p, t->n + 1, 1);
    if (!name) return false;
    memcpy(name, t->s, t->n);
    return fail_open(p, name, NULL, t->line);
}

/* Adds an expression or text to the output node at the end of out, or starts one. */
static bool add_output(parse *p, nodes *out, node **open, node *x)
{
    if (!x) return false;
    if (!*open) {
        if (!(*open = node_new(p, N_OUTPUT, x->line)) || !nodes_add(p, out, *open)) return false;
    }
    if (!nodes_add(p, &(*open)->items, x)) return false;
    if (x->height >= (*open)->height) (*open)->height = x->height + 1;
    return true;
}

static bool subparse(parse *p, const char *const *ends, nodes *out)
{
    node *open = NULL, *x;
    if (ends && !push(p, (void ***)&p->end_stack, &p->n_ends, &p->cap_ends, ends)) return false;
    while (cur(p)->type != TK_EOF) {
        token *t = cur(p);
        switch (t->type) {
        case TK_DATA: {
            str *s;
            next(p);
            x = node_new(p, N_DATA, t->line);
            s = x ? parse_str(p, t->s, t->n) : NULL;
            if (!s) return false;
            x->value = v_of_str(s);
            if (!add_output(p, out, &open, x)) return false;
            break;
        }
        case TK_VAR_BEGIN:
            next(p);
            if (!add_output(p, out, &open, parse_tuple(p, false, true, NULL, false, false))) return false;
            if (!expect(p, TK_VAR_END)) return false;
            break;
        case TK_BLOCK_BEGIN:
            open = NULL;
            next(p);
            for (const char *const *e = ends; e && *e; e++) {
                if (!is_name(p, *e)) continue;
                p->n_ends--;
                return true;
            }
            if (!parse_statement(p, out) || !expect(p, TK_BLOCK_END)) return false;
            break;
        default: return parse_fail(p, t->line, "internal parsing error");
        }
    }
    if (ends) p->n_ends--;
    return true;
}

bool parse_template(parse *p)
{
    return subparse(p, NULL, &p->t->body) && p->status == MLXR_OK;
}
