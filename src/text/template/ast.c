/* Nodes: making them, walking them. */
#include <stdlib.h>

#include "text/template/template.h"

void *parse_alloc(parse *p, size_t n, size_t size)
{
    void *q = mlxr_arena_calloc(&p->t->arena, n ? n : 1, size);
    if (!q) parse_fail_status(p, MLXR_E_NOMEM, "out of memory");
    return q;
}

node *node_new(parse *p, node_kind kind, uint32_t line)
{
    node *x = parse_alloc(p, 1, sizeof *x);
    if (!x) return NULL;
    x->kind = (uint8_t)kind;
    x->line = line;
    x->height = 1;
    switch (kind) {
    case N_FOR: x->loop = parse_alloc(p, 1, sizeof *x->loop); break;
    case N_MACRO:
    case N_CALLBLOCK: x->macro = parse_alloc(p, 1, sizeof *x->macro); break;
    case N_BLOCK: x->fn_info = parse_alloc(p, 1, sizeof *x->fn_info); break;
    case N_CALL:
    case N_FILTER:
    case N_TEST: x->call = parse_alloc(p, 1, sizeof *x->call); break;
    default: break;
    }
    return p->status == MLXR_OK ? x : NULL;
}

bool nodes_add(parse *p, nodes *l, node *x)
{
    if (!x) return false;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        node **v = parse_alloc(p, cap, sizeof *v);
        if (!v) return false;
        if (l->n) memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = x;
    return true;
}

str *parse_str(parse *p, const char *s, size_t n)
{
    str *x = parse_alloc(p, 1, sizeof *x);
    if (!x) return NULL;
    x->s = s;
    x->n = n;
    x->n_chars = SIZE_MAX;
    str_len(x); /* threads share the template: nothing is computed later */
    str_hash(x);
    return x;
}

#define GO(child)                                      \
    do {                                               \
        if ((child) && !fn(ud, (child))) return false; \
    } while (0)
#define GO_ALL(list_)                                 \
    do {                                              \
        for (size_t i_ = 0; i_ < (list_).n; i_++)     \
            if (!fn(ud, (list_).v[i_])) return false; \
    } while (0)

bool node_children(const node *x, bool (*fn)(void *ud, node *child), void *ud)
{
    switch ((node_kind)x->kind) {
    case N_CONST:
    case N_DATA:
    case N_NAME:
    case N_NSREF:
    case N_BREAK:
    case N_CONTINUE: break;
    case N_FOR:
        GO(x->loop->target);
        GO(x->loop->iter);
        GO_ALL(x->body);
        GO_ALL(x->orelse);
        GO(x->loop->test);
        break;
    case N_IF: /* items: the elif nodes */
        GO(x->a);
        GO_ALL(x->body);
        GO_ALL(x->items);
        GO_ALL(x->orelse);
        break;
    case N_MACRO:
        GO_ALL(x->macro->args);
        GO_ALL(x->macro->defaults);
        GO_ALL(x->body);
        break;
    case N_CALLBLOCK:
        GO(x->a);
        GO_ALL(x->macro->args);
        GO_ALL(x->macro->defaults);
        GO_ALL(x->body);
        break;
    case N_FILTERBLOCK:
        GO_ALL(x->body);
        GO(x->a);
        break;
    case N_COND:
        GO(x->c);
        GO(x->a);
        GO(x->b);
        break;
    case N_WITH: /* items: the targets; orelse: their values */
        GO_ALL(x->items);
        GO_ALL(x->orelse);
        GO_ALL(x->body);
        break;
    default:
        GO(x->a);
        GO(x->b);
        GO(x->c);
        GO_ALL(x->items);
        if (x->call) {
            GO_ALL(x->call->pos);
            GO_ALL(x->call->kw);
            GO(x->call->dyn_args);
            GO(x->call->dyn_kwargs);
        }
        GO_ALL(x->body);
        GO_ALL(x->orelse);
        break;
    }
    return true;
}

node *node_copy_target(parse *p, const node *x)
{
    node *y = parse_alloc(p, 1, sizeof *y);
    if (!y) return NULL;
    *y = *x;
    y->items = (nodes){0};
    for (size_t i = 0; i < x->items.n; i++)
        if (!nodes_add(p, &y->items, node_copy_target(p, x->items.v[i]))) return NULL;
    return y;
}

node *node_fold(parse *p, node *x)
{
    list *l;
    if (x->kind != N_TUPLE && x->kind != N_LIST) return x;
    for (size_t i = 0; i < x->items.n; i++)
        if (x->items.v[i]->kind != N_CONST) return x;
    l = parse_alloc(p, 1, sizeof *l);
    if (!l) return NULL;
    l->n = l->cap = x->items.n;
    l->v = parse_alloc(p, l->n, sizeof *l->v);
    if (!l->v) return NULL;
    for (size_t i = 0; i < l->n; i++) l->v[i] = x->items.v[i]->value;
    x->value = x->kind == N_TUPLE ? v_of_tuple(l) : v_of_list(l);
    x->kind = N_CONST;
    x->items = (nodes){0};
    return x;
}
