/* The methods of list, tuple, dict, range, dict views, numbers, cycler and loop. What would change a list or dict
 * is known by name only: the sandbox refuses it. */
#include <math.h>

#include "text/template/template.h"

static val m_refused(rt *r, val self, val *a, const args *raw)
{
    (void)self;
    (void)a;
    (void)raw;
    return raise(r, EXC_SECURITY, "not allowed");
}

static val seq_count(rt *r, val self, val *a, const args *raw)
{
    int64_t n = 0;
    (void)raw;
    if (!step(r, self.l->n)) return v_err();
    for (size_t i = 0; i < self.l->n; i++) {
        int c = same(self.l->v[i], a[0]) ? 1 : equal(r, self.l->v[i], a[0]);
        if (c < 0) return v_err();
        n += c;
    }
    return v_int(n);
}

static val seq_index(rt *r, val self, val *a, const args *raw)
{
    int64_t n = (int64_t)self.l->n, from = 0, to = n;
    sb b = {0};
    (void)raw;
    if (!step(r, self.l->n)) return v_err();
    if (a[1].type != T_MISSING && !index_of(r, a[1], &from)) return v_err();
    if (a[2].type != T_MISSING && !index_of(r, a[2], &to)) return v_err();
    if (from < 0) from = from + n < 0 ? 0 : from + n;
    if (to < 0) to = to + n < 0 ? 0 : to + n;
    for (int64_t i = from; i < to && i < n; i++) {
        int c = same(self.l->v[i], a[0]) ? 1 : equal(r, self.l->v[i], a[0]);
        if (c < 0) return v_err();
        if (c) return v_int(i);
    }
    if (self.type == T_TUPLE) return raise(r, EXC_VALUE, "tuple.index(x): x not in tuple");
    if (!write_repr(r, &b, a[0])) return v_err();
    return raise(r, EXC_VALUE, "%.*s is not in list", (int)(b.n < 200 ? b.n : 200), b.p);
}

static val list_copy(rt *r, val self, val *a, const args *raw)
{
    list *l = list_from(r, self);
    (void)a;
    (void)raw;
    return l ? v_of_list(l) : v_err();
}

static val dict_view(val self, uint8_t kind)
{
    self.type = T_VIEW;
    self.flag = kind;
    return self;
}

static val dict_keys(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return dict_view(self, VIEW_KEYS);
}

static val dict_values(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return dict_view(self, VIEW_VALUES);
}

static val dict_items(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return dict_view(self, VIEW_ITEMS);
}

static val dict_get_method(rt *r, val self, val *a, const args *raw)
{
    val v;
    int c = dict_get(r, self.d, a[0], &v);
    (void)raw;
    if (c < 0) return v_err();
    if (c) return v;
    return a[1].type == T_MISSING ? v_none() : a[1];
}

static val dict_copy(rt *r, val self, val *a, const args *raw)
{
    dict *d = dict_new(r, self.d->n);
    (void)a;
    (void)raw;
    if (!d) return v_err();
    for (size_t i = 0; i < self.d->n; i++)
        if (!dict_put(r, d, self.d->e[i].key, self.d->e[i].value)) return v_err();
    return v_of_dict(d);
}

static val dict_fromkeys(rt *r, val self, val *a, const args *raw)
{
    dict *d = dict_new(r, 0);
    iter it;
    val x;
    int c;
    (void)self;
    (void)raw;
    if (!d || !iter_init(r, &it, a[0])) return v_err();
    while ((c = iter_next(r, &it, &x)) > 0)
        if (!step(r, 1) || !dict_put(r, d, x, a[1].type == T_MISSING ? v_none() : a[1])) return v_err();
    return c < 0 ? v_err() : v_of_dict(d);
}

static val range_count(rt *r, val self, val *a, const args *raw)
{
    int c = contains(r, self, a[0]);
    (void)raw;
    return c < 0 ? v_err() : v_int(c);
}

static val range_index(rt *r, val self, val *a, const args *raw)
{
    int c = contains(r, self, a[0]);
    sb b = {0};
    (void)raw;
    if (c < 0) return v_err();
    if (c)
        return v_int(((a[0].type == T_FLOAT ? (int64_t)a[0].f : a[0].i) - self.range->start) /
                     self.range->step);
    if (!write_repr(r, &b, a[0])) return v_err();
    return raise(r, EXC_VALUE, "%.*s is not in range", (int)(b.n < 200 ? b.n : 200), b.p);
}

static val view_isdisjoint(rt *r, val self, val *a, const args *raw)
{
    iter it;
    val x;
    int c;
    (void)raw;
    if (self.flag == VIEW_VALUES) return raise(r, EXC_ATTRIBUTE, "dict_values has no isdisjoint");
    if (!iter_init(r, &it, a[0])) return v_err();
    while ((c = iter_next(r, &it, &x)) > 0) {
        if (!step(r, 1)) return v_err();
        c = contains(r, self, x);
        if (c) return c < 0 ? v_err() : v_bool(false);
    }
    return c < 0 ? v_err() : v_bool(true);
}

static val int_bit_length(rt *r, val self, val *a, const args *raw)
{
    uint64_t u = self.i < 0 ? 0 - (uint64_t)self.i : (uint64_t)self.i;
    (void)r;
    (void)a;
    (void)raw;
    return v_int(u ? 64 - __builtin_clzll(u) : 0);
}

static val int_bit_count(rt *r, val self, val *a, const args *raw)
{
    uint64_t u = self.i < 0 ? 0 - (uint64_t)self.i : (uint64_t)self.i;
    (void)r;
    (void)a;
    (void)raw;
    return v_int(__builtin_popcountll(u));
}

static val num_conjugate(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return positive(r, self);
}

static val int_ratio(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return v_pair(r, v_int(self.i), v_int(1));
}

static val float_is_integer(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return v_bool(isfinite(self.f) && floor(self.f) == self.f);
}

static val cycler_next(rt *r, val self, val *a, const args *raw)
{
    cycler *c = self.cy;
    val v = c->items->v[c->pos];
    (void)r;
    (void)a;
    (void)raw;
    c->pos = (c->pos + 1) % c->items->n;
    return v;
}

static val cycler_reset(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    self.cy->pos = 0;
    return v_none();
}

static val loop_cycle(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    if (raw->n_kw) return raise(r, EXC_TYPE, "LoopContext.cycle() got an unexpected keyword argument");
    if (!raw->n) return raise(r, EXC_TYPE, "no items for cycling given");
    return raw->pos[(size_t)(self.loop->index0 < 0 ? 0 : self.loop->index0) % raw->n];
}

static val loop_changed(rt *r, val self, val *a, const args *raw)
{
    loop *l = self.loop;
    list *now = list_new(r, raw->n);
    int eq = 0;
    (void)a;
    if (raw->n_kw) return raise(r, EXC_TYPE, "LoopContext.changed() got an unexpected keyword argument");
    if (!now) return v_err();
    for (size_t i = 0; i < raw->n; i++) now->v[i] = raw->pos[i];
    now->n = raw->n;
    if (l->last_changed.type != T_MISSING) eq = equal(r, l->last_changed, v_of_tuple(now));
    if (eq < 0) return v_err();
    if (!eq) l->last_changed = v_of_tuple(now);
    return v_bool(!eq);
}

#define POS BIND_POSONLY
#define REFUSED(name)                       \
    {                                       \
        name, m_refused, 0, 0, BIND_UNSAFE, \
        {                                   \
            0                               \
        }                                   \
    }
const builtin list_methods[] = {
    {"count", seq_count, 1, 1, POS, {"value"}},
    {"index", seq_index, 1, 3, POS, {"value", "start", "stop"}},
    {"copy", list_copy, 0, 0, POS, {0}},
    REFUSED("append"),
    REFUSED("clear"),
    REFUSED("extend"),
    REFUSED("insert"),
    REFUSED("pop"),
    REFUSED("remove"),
    REFUSED("reverse"),
    REFUSED("sort"),
};
const size_t n_list_methods = MLXR_COUNT(list_methods);

const builtin tuple_methods[] = {
    {"count", seq_count, 1, 1, POS, {"value"}},
    {"index", seq_index, 1, 3, POS, {"value", "start", "stop"}},
};
const size_t n_tuple_methods = MLXR_COUNT(tuple_methods);

const builtin dict_methods[] = {
    {"get", dict_get_method, 1, 2, POS, {"key", "default"}},
    {"keys", dict_keys, 0, 0, POS, {0}},
    {"values", dict_values, 0, 0, POS, {0}},
    {"items", dict_items, 0, 0, POS, {0}},
    {"copy", dict_copy, 0, 0, POS, {0}},
    {"fromkeys", dict_fromkeys, 1, 2, POS, {"iterable", "value"}},
    REFUSED("clear"),
    REFUSED("pop"),
    REFUSED("popitem"),
    REFUSED("setdefault"),
    REFUSED("update"),
};
const size_t n_dict_methods = MLXR_COUNT(dict_methods);

const builtin range_methods[] = {
    {"count", range_count, 1, 1, POS, {"value"}},
    {"index", range_index, 1, 1, POS, {"value"}},
};
const size_t n_range_methods = MLXR_COUNT(range_methods);

const builtin view_methods[] = {
    {"isdisjoint", view_isdisjoint, 1, 1, POS, {"other"}},
};
const size_t n_view_methods = MLXR_COUNT(view_methods);

const builtin int_methods[] = {
    {"bit_length", int_bit_length, 0, 0, POS, {0}},
    {"bit_count", int_bit_count, 0, 0, POS, {0}},
    {"conjugate", num_conjugate, 0, 0, POS, {0}},
    {"as_integer_ratio", int_ratio, 0, 0, POS, {0}},
};
const size_t n_int_methods = MLXR_COUNT(int_methods);

const builtin float_methods[] = {
    {"is_integer", float_is_integer, 0, 0, POS, {0}},
    {"conjugate", num_conjugate, 0, 0, POS, {0}},
};
const size_t n_float_methods = MLXR_COUNT(float_methods);

const builtin cycler_methods[] = {
    {"next", cycler_next, 0, 0, 0, {0}},
    {"reset", cycler_reset, 0, 0, 0, {0}},
};
const size_t n_cycler_methods = MLXR_COUNT(cycler_methods);

const builtin loop_methods[] = {
    {"cycle", loop_cycle, 0, 0, BIND_VARARGS, {0}},
    {"changed", loop_changed, 0, 0, BIND_VARARGS, {0}},
};
const size_t n_loop_methods = MLXR_COUNT(loop_methods);

const builtin dict_global_methods[] = {
    {"fromkeys", dict_fromkeys, 1, 2, POS, {"iterable", "value"}},
};
const size_t n_dict_global_methods = MLXR_COUNT(dict_global_methods);
