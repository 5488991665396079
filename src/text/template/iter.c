/* Iteration over values, reversed(), and the loop object. */
#include "text/template/template.h"

static int next_list(rt *r, iter *it, val *out)
{
    (void)r;
    if (it->i >= it->src.l->n) return 0;
    *out = it->src.l->v[it->i++];
    return 1;
}

static int next_str(rt *r, iter *it, val *out)
{
    const str *s = it->src.s;
    size_t from = it->i;
    if (from >= s->n) return 0;
    next_cp(s->s, s->n, &it->i);
    *out = v_str_borrow(r, s->s + from, it->i - from);
    if (IS_ERR(*out)) return -1;
    out->flag = it->src.flag & F_MARKUP & 0; /* iterating Markup gives plain characters */
    return 1;
}

static int next_bytes(rt *r, iter *it, val *out)
{
    (void)r;
    if (it->i >= it->src.s->n) return 0;
    *out = v_int((unsigned char)it->src.s->s[it->i++]);
    return 1;
}

static int next_dict(rt *r, iter *it, val *out)
{
    const dict *d = it->src.d;
    int kind = it->src.type == T_VIEW ? it->src.flag : VIEW_KEYS;
    if (it->i >= d->n) return 0;
    if (kind == VIEW_KEYS)
        *out = d->e[it->i].key;
    else if (kind == VIEW_VALUES)
        *out = d->e[it->i].value;
    else
        *out = v_pair(r, d->e[it->i].key, d->e[it->i].value);
    it->i++;
    return IS_ERR(*out) ? -1 : 1;
}

static int next_range(rt *r, iter *it, val *out)
{
    const range *g = it->src.range;
    (void)r;
    if (it->i >= g->n) return 0;
    *out = v_int(g->start + (int64_t)it->i * g->step);
    it->i++;
    return 1;
}

static int next_none(rt *r, iter *it, val *out)
{
    (void)r;
    (void)it;
    (void)out;
    return 0;
}

static int next_inner(rt *r, iter *it, val *out)
{
    return it->in->next(r, it->in, out);
}

/* A loop object is an iterator of (item, loop) pairs. */
static int next_loop(rt *r, iter *it, val *out)
{
    val item;
    int c = loop_next(r, it->src.loop, &item);
    if (c <= 0) return c;
    *out = v_pair(r, item, it->src);
    return IS_ERR(*out) ? -1 : 1;
}

bool is_iterable(val v)
{
    switch ((vtype)v.type) {
    case T_STR:
    case T_BYTES:
    case T_LIST:
    case T_TUPLE:
    case T_DICT:
    case T_VIEW:
    case T_RANGE:
    case T_UNDEF:
    case T_ITER:
    case T_LOOP: return true;
    case T_SELF: return true; /* has __getitem__ */
    default: return false;
    }
}

bool iter_init(rt *r, iter *it, val v)
{
    *it = (iter){.src = v, .type_name = "iterator"};
    switch ((vtype)v.type) {
    case T_LIST:
    case T_TUPLE: it->next = next_list; return true;
    case T_STR: it->next = next_str; return true;
    case T_BYTES: it->next = next_bytes; return true;
    case T_DICT:
    case T_VIEW: it->next = next_dict; return true;
    case T_RANGE: it->next = next_range; return true;
    case T_UNDEF: it->next = next_none; return true;
    case T_ITER:
        it->next = next_inner;
        it->in = v.it;
        return true;
    case T_LOOP: it->next = next_loop; return true;
    case T_SELF: raise(r, EXC_KEY, "0"); return false;
    case T_ERROR: return false;
    default: raise(r, EXC_TYPE, "'%s' object is not iterable", type_name(v)); return false;
    }
}

list *list_from(rt *r, val v)
{
    list *l;
    iter it;
    val x;
    int c;
    if (v.type == T_LIST || v.type == T_TUPLE) {
        l = list_new(r, v.l->n);
        if (!l || !step(r, v.l->n / 16)) return NULL;
        if (v.l->n) memcpy(l->v, v.l->v, v.l->n * sizeof *l->v);
        l->n = v.l->n;
        return l;
    }
    if (!iter_init(r, &it, v)) return NULL;
    l = list_new(r, 0);
    if (!l) return NULL;
    while ((c = iter_next(r, &it, &x)) > 0)
        if (!step(r, 1) || !list_add(r, l, x)) return NULL;
    return c < 0 ? NULL : l;
}

val iter_make(rt *r, iter_fn next, const char *name)
{
    iter *it = rt_alloc(r, sizeof *it);
    if (!it) return v_err();
    *it = (iter){.next = next, .type_name = name};
    return v_of_iter(it);
}

static int next_reversed(rt *r, iter *it, val *out)
{
    val v = it->src;
    size_t at;
    if (it->i == 0) return 0;
    at = --it->i;
    switch ((vtype)v.type) {
    case T_LIST:
    case T_TUPLE: *out = v.l->v[at]; break;
    case T_RANGE: *out = v_int(v.range->start + (int64_t)at * v.range->step); break;
    case T_STR: {
        size_t end = at + 1;
        while (at > 0 && ((unsigned char)v.s->s[at] & 0xc0) == 0x80) at--;
        it->i = at;
        *out = v_str_borrow(r, v.s->s + at, end - at);
        break;
    }
    case T_BYTES: *out = v_int((unsigned char)v.s->s[at]); break;
    default: {
        iter one = {.src = v, .i = at};
        return next_dict(r, &one, out);
    }
    }
    return IS_ERR(*out) ? -1 : 1;
}

val reversed_of(rt *r, val v)
{
    val x;
    const char *name = "reversed";
    size_t n;
    switch ((vtype)v.type) {
    case T_LIST:
        name = "list_reverseiterator";
        n = v.l->n;
        break;
    case T_TUPLE: n = v.l->n; break;
    case T_STR:
    case T_BYTES: n = v.s->n; break;
    case T_DICT:
        name = "dict_reversekeyiterator";
        n = v.d->n;
        break;
    case T_VIEW:
        name = "dict_reverseiterator";
        n = v.d->n;
        break;
    case T_RANGE:
        name = "range_iterator";
        n = v.range->n;
        break;
    case T_UNDEF: n = 0; break; /* has __len__ and __getitem__; nothing is asked of it */
    case T_ERROR: return v;
    default: return raise(r, EXC_TYPE, "'%s' object is not reversible", type_name(v));
    }
    x = iter_make(r, next_reversed, name);
    if (IS_ERR(x)) return x;
    x.it->src = v;
    x.it->i = n;
    return x;
}

int loop_next(rt *r, loop *l, val *item)
{
    val v;
    if (l->after.type != T_MISSING) {
        v = l->after;
        l->after = v_missing();
    } else {
        int c = iter_next(r, &l->it, &v);
        if (c <= 0) return c;
    }
    l->index0++;
    l->before = l->cur;
    l->cur = v;
    *item = v;
    return 1;
}
