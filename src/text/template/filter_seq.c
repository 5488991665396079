/* The filters over sequences and mappings. Those that are generators in the reference are lazy here too. */
#include "text/template/filters.h"
#include "text/template/template.h"

/* ---- attribute paths ---- */

bool attr_prepare(rt *r, val attribute, attr_parts *out)
{
    const str *s;
    size_t n = 1, k = 0, from = 0;

    *out = (attr_parts){0};
    if (attribute.type == T_NONE || attribute.type == T_MISSING) return true;
    if (attribute.type != T_STR) {
        out->parts = rt_alloc_array(r, 1, sizeof(val));
        if (!out->parts) return false;
        out->parts[0] = attribute;
        out->n = 1;
        return true;
    }
    s = attribute.s;
    for (size_t i = 0; i < s->n; i++) n += s->s[i] == '.';
    out->parts = rt_alloc_array(r, n, sizeof(val));
    if (!out->parts) return false;
    for (size_t i = 0; i <= s->n; i++) {
        val part, num;
        bool digits = i > from;
        if (i < s->n && s->s[i] != '.') continue;
        part = str_sub(r, v_of_str(attribute.s), from, i);
        if (IS_ERR(part)) return false;
        for (size_t j = 0; j < part.s->n && digits;) digits = cp_is_digit(next_cp(part.s->s, part.s->n, &j));
        if (digits) {
            if (!parse_py_int(r, part.s, 10, &num)) return false;
            part = num;
        }
        out->parts[k++] = part;
        from = i + 1;
    }
    out->n = k;
    return true;
}

static val ignore_case(rt *r, val v)
{
    return v.type == T_STR ? str_case(r, v.s, 'l') : v;
}

val attr_fetch(rt *r, const attr_parts *p, val item, val dflt, bool lower)
{
    if (!step(r, 1)) return v_err();
    for (size_t i = 0; i < p->n; i++) {
        item = get_item(r, item, p->parts[i]);
        if (IS_ERR(item)) return item;
        if (item.type == T_UNDEF && dflt.type != T_NONE && dflt.type != T_MISSING) item = dflt;
    }
    return lower ? ignore_case(r, item) : item;
}

static bool flag_of(rt *r, val v, bool dflt, bool *out)
{
    *out = dflt;
    return v.type == T_MISSING || truthy(r, v, out);
}

/* ---- sorting: a stable merge sort that asks "<" only, as Python's does ---- */

static int less(rt *r, val a, val b)
{
    if (!step(r, 1)) return -1;
    return compare(r, CMP_LT, a, b);
}

bool sort_values(rt *r, val *v, val *keys, size_t n, bool reverse)
{
    size_t *order = rt_alloc_array(r, n + 1, sizeof *order), *tmp = rt_alloc_array(r, n + 1, sizeof *tmp);
    val *sorted = rt_alloc_array(r, n + 1, sizeof *sorted);

    if (!order || !tmp || !sorted) return false;
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t w = 1; w < n; w *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * w) {
            size_t mid = lo + w < n ? lo + w : n, hi = lo + 2 * w < n ? lo + 2 * w : n;
            size_t a = lo, b = mid, k = lo;
            while (a < mid && b < hi) {
                int c = reverse ? less(r, keys[order[a]], keys[order[b]])
                                : less(r, keys[order[b]], keys[order[a]]);
                if (c < 0) return false;
                tmp[k++] = c ? order[b++] : order[a++];
            }
            while (a < mid) tmp[k++] = order[a++];
            while (b < hi) tmp[k++] = order[b++];
        }
        memcpy(order, tmp, n * sizeof *order);
    }
    for (size_t i = 0; i < n; i++) sorted[i] = v[order[i]];
    if (n) memcpy(v, sorted, n * sizeof *v);
    return true;
}

val f_sort(rt *r, val self, val *a, const args *raw)
{
    /* reverse, case_sensitive, attribute */
    bool reverse, sensitive;
    list *l;
    val *keys, attr = a[2];
    attr_parts *paths;
    size_t n_paths = 1;
    (void)raw;

    if (!flag_of(r, a[0], false, &reverse) || !flag_of(r, a[1], false, &sensitive)) return v_err();
    if (attr.type == T_STR)
        for (size_t i = 0; i < attr.s->n; i++) n_paths += attr.s->s[i] == ',';
    paths = rt_alloc_array(r, n_paths, sizeof *paths);
    if (!paths) return v_err();
    if (attr.type == T_STR) {
        size_t from = 0, k = 0;
        for (size_t i = 0; i <= attr.s->n; i++) {
            val part;
            if (i < attr.s->n && attr.s->s[i] != ',') continue;
            part = str_sub(r, v_of_str(attr.s), from, i);
            if (IS_ERR(part) || !attr_prepare(r, part, &paths[k++])) return v_err();
            from = i + 1;
        }
    } else if (!attr_prepare(r, attr, &paths[0])) {
        return v_err();
    }
    l = list_from(r, self);
    if (!l) return v_err();
    keys = rt_alloc_array(r, l->n + 1, sizeof *keys);
    if (!keys) return v_err();
    for (size_t i = 0; i < l->n; i++) {
        list *key = list_new(r, n_paths);
        if (!key) return v_err();
        for (size_t k = 0; k < n_paths; k++) {
            key->v[k] = attr_fetch(r, &paths[k], l->v[i], v_missing(), !sensitive);
            if (IS_ERR(key->v[k])) return v_err();
        }
        key->n = n_paths;
        keys[i] = v_of_list(key);
    }
    return sort_values(r, l->v, keys, l->n, reverse) ? v_of_list(l) : v_err();
}

val f_dictsort(rt *r, val self, val *a, const args *raw)
{
    /* case_sensitive, by, reverse */
    bool sensitive, reverse, by_value = false;
    list *l;
    val *keys;
    (void)raw;

    if (!flag_of(r, a[0], false, &sensitive) || !flag_of(r, a[2], false, &reverse)) return v_err();
    if (a[1].type != T_MISSING) {
        by_value = a[1].type == T_STR && str_is(a[1].s, "value");
        if (!by_value && !(a[1].type == T_STR && str_is(a[1].s, "key")))
            return raise(r, EXC_FILTER_ARG, "You can only sort by either \"key\" or \"value\"");
    }
    if (self.type == T_UNDEF) return raise_undef(r, self.u);
    if (self.type != T_DICT)
        return raise(r, EXC_ATTRIBUTE, "'%s' object has no attribute 'items'", type_name(self));
    l = list_new(r, self.d->n);
    keys = rt_alloc_array(r, self.d->n + 1, sizeof *keys);
    if (!l || !keys) return v_err();
    for (size_t i = 0; i < self.d->n; i++) {
        val k = by_value ? self.d->e[i].value : self.d->e[i].key;
        l->v[i] = v_pair(r, self.d->e[i].key, self.d->e[i].value);
        keys[i] = sensitive ? k : ignore_case(r, k);
        if (IS_ERR(l->v[i]) || IS_ERR(keys[i])) return v_err();
    }
    l->n = self.d->n;
    return sort_values(r, l->v, keys, l->n, reverse) ? v_of_list(l) : v_err();
}

static val extreme(rt *r, val self, val *a, cmp_op op)
{
    /* case_sensitive, attribute */
    bool sensitive, first = true;
    attr_parts path;
    iter it;
    val x, best = v_missing(), best_key = v_missing();
    int c;
    if (!flag_of(r, a[0], false, &sensitive)) return v_err();
    if (!iter_init(r, &it, self)) return v_err();
    while ((c = iter_next(r, &it, &x)) > 0) {
        val key;
        if (first && !attr_prepare(r, a[1], &path)) return v_err();
        key = attr_fetch(r, &path, x, v_missing(), !sensitive);
        if (IS_ERR(key)) return key;
        c = first ? 1 : compare(r, op, key, best_key);
        if (c < 0) return v_err();
        if (c) {
            best = x;
            best_key = key;
        }
        first = false;
    }
    if (c < 0) return v_err();
    return first ? v_undef_hint(r, "No aggregated item, sequence was empty.") : best;
}

val f_min(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return extreme(r, self, a, CMP_LT);
}

val f_max(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return extreme(r, self, a, CMP_GT);
}

val f_groupby(rt *r, val self, val *a, const args *raw)
{
    /* attribute, default, case_sensitive */
    bool sensitive;
    attr_parts path;
    list *l, *out = list_new(r, 8);
    val *keys;
    (void)raw;
    if (!out || !flag_of(r, a[2], false, &sensitive) || !attr_prepare(r, a[0], &path)) return v_err();
    l = list_from(r, self);
    if (!l) return v_err();
    keys = rt_alloc_array(r, l->n + 1, sizeof *keys);
    if (!keys) return v_err();
    for (size_t i = 0; i < l->n; i++) {
        keys[i] = attr_fetch(r, &path, l->v[i], a[1], !sensitive);
        if (IS_ERR(keys[i])) return v_err();
    }
    if (!sort_values(r, l->v, keys, l->n, false)) return v_err();
    for (size_t i = 0; i < l->n;) {
        val key = attr_fetch(r, &path, l->v[i], a[1], !sensitive), t, name;
        list *group = list_new(r, 4);
        if (!group || IS_ERR(key)) return v_err();
        while (i < l->n) {
            val k = attr_fetch(r, &path, l->v[i], a[1], !sensitive);
            int eq = IS_ERR(k) ? -1 : equal(r, key, k);
            if (eq < 0) return v_err();
            if (!eq && group->n) break;
            if (!list_add(r, group, l->v[i++])) return v_err();
        }
        name = sensitive ? key : attr_fetch(r, &path, group->v[0], a[1], false);
        t = v_pair(r, name, v_of_list(group));
        if (IS_ERR(name) || IS_ERR(t)) return v_err();
        t.flag = F_GROUP;
        if (!list_add(r, out, t)) return v_err();
    }
    return v_of_list(out);
}

/* ---- generators ---- */

typedef struct gen {
    val value;
    iter in;
    bool started;
    attr_parts path;
    bool lower, negate, attr;
    val name, dflt;
    args a;
    dict *seen;
    list *seq;
    int64_t n, i;
    val fill;
    bool ended;
} gen;

static val gen_new(rt *r, iter_fn next, val value, gen **out)
{
    val v = iter_make(r, next, "generator");
    gen *g = IS_ERR(v) ? NULL : rt_alloc(r, sizeof *g);
    if (!g) return v_err();
    *g = (gen){.value = value};
    v.it->state = g;
    *out = g;
    return v;
}

/* 1: ready; 0: an empty value, nothing comes; -1: raised */
static int gen_start(rt *r, gen *g, bool if_truthy)
{
    bool yes = true;
    if (g->started) return g->ended ? 0 : 1;
    g->started = true;
    if (if_truthy && !truthy(r, g->value, &yes)) return -1;
    if (!yes) {
        g->ended = true;
        return 0;
    }
    return iter_init(r, &g->in, g->value) ? 1 : -1;
}

static args without_first(const args *a, size_t n)
{
    args b = *a;
    b.pos += n;
    b.n -= n;
    return b;
}

static int next_map(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    bool first = !g->started;
    int c = gen_start(r, g, true);
    val x;
    if (c <= 0) return c;
    if (first) {
        bool attribute = false;
        for (size_t i = 0; i < g->a.n_kw; i++) attribute |= str_is(g->a.kw_name[i], "attribute");
        if (!g->a.n && attribute) {
            val path = v_missing();
            g->attr = true;
            for (size_t i = 0; i < g->a.n_kw; i++) {
                if (str_is(g->a.kw_name[i], "attribute")) {
                    path = g->a.kw[i];
                } else if (str_is(g->a.kw_name[i], "default")) {
                    g->dflt = g->a.kw[i];
                } else {
                    raise(r, EXC_FILTER_ARG, "Unexpected keyword argument '%.*s'",
                          (int)(g->a.kw_name[i]->n < 100 ? g->a.kw_name[i]->n : 100), g->a.kw_name[i]->s);
                    return -1;
                }
            }
            if (!attr_prepare(r, path, &g->path)) return -1;
        } else if (!g->a.n) {
            raise(r, EXC_FILTER_ARG, "map requires a filter argument");
            return -1;
        } else {
            g->name = g->a.pos[0];
            g->a = without_first(&g->a, 1);
        }
    }
    c = iter_next(r, &g->in, &x);
    if (c <= 0) return c;
    if (!step(r, 1)) return -1;
    *out = g->attr ? attr_fetch(r, &g->path, x, g->dflt, false) : call_filter_named(r, g->name, x, &g->a);
    return IS_ERR(*out) ? -1 : 1;
}

val f_map(rt *r, val self, val *a, const args *raw)
{
    gen *g;
    val v = gen_new(r, next_map, self, &g);
    (void)a;
    if (!IS_ERR(v)) g->a = *raw;
    return v;
}

static int next_select(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    bool first = !g->started;
    int c = gen_start(r, g, true);
    if (c <= 0) return c;
    if (first) {
        size_t off = 0;
        if (g->attr) {
            if (!g->a.n) {
                raise(r, EXC_FILTER_ARG, "Missing parameter for attribute name");
                return -1;
            }
            if (!attr_prepare(r, g->a.pos[0], &g->path)) return -1;
            off = 1;
        }
        g->name = v_missing();
        if (g->a.n > off) {
            g->name = g->a.pos[off];
            g->a = without_first(&g->a, off + 1);
        }
    }
    for (;;) {
        val x, y;
        bool yes;
        c = iter_next(r, &g->in, &x);
        if (c <= 0) return c;
        if (!step(r, 1)) return -1;
        y = g->attr ? attr_fetch(r, &g->path, x, v_missing(), false) : x;
        if (IS_ERR(y)) return -1;
        if (g->name.type != T_MISSING) y = call_test_named(r, g->name, y, &g->a);
        if (!truthy(r, y, &yes)) return -1;
        if (yes == g->negate) continue;
        *out = x;
        return 1;
    }
}

static val select_or_reject(rt *r, val self, const args *raw, bool negate, bool attr)
{
    gen *g;
    val v = gen_new(r, next_select, self, &g);
    if (IS_ERR(v)) return v;
    g->a = *raw;
    g->negate = negate;
    g->attr = attr;
    return v;
}

val f_select(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    return select_or_reject(r, self, raw, false, false);
}

val f_reject(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    return select_or_reject(r, self, raw, true, false);
}

val f_selectattr(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    return select_or_reject(r, self, raw, false, true);
}

val f_rejectattr(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    return select_or_reject(r, self, raw, true, true);
}

static int next_unique(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    int c = gen_start(r, g, false);
    if (c <= 0) return c;
    if (!g->seen) {
        if (!attr_prepare(r, g->name, &g->path) || !(g->seen = dict_new(r, 8))) return -1;
    }
    for (;;) {
        val x, key, old;
        c = iter_next(r, &g->in, &x);
        if (c <= 0) return c;
        key = attr_fetch(r, &g->path, x, v_missing(), g->lower);
        if (IS_ERR(key)) return -1;
        c = dict_get(r, g->seen, key, &old);
        if (c < 0) return -1;
        if (c) continue;
        if (!dict_put(r, g->seen, key, v_none())) return -1;
        *out = x;
        return 1;
    }
}

val f_unique(rt *r, val self, val *a, const args *raw)
{
    /* case_sensitive, attribute */
    gen *g;
    bool sensitive;
    val v = gen_new(r, next_unique, self, &g);
    (void)raw;
    if (IS_ERR(v) || !flag_of(r, a[0], false, &sensitive)) return v_err();
    g->lower = !sensitive;
    g->name = a[1];
    return v;
}

static int next_batch(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    int c = gen_start(r, g, false);
    list *tmp;
    val x;
    bool number = is_number(g->name);
    double limit = number ? (g->name.type == T_FLOAT ? g->name.f : (double)g->name.i) : 0;
    if (c <= 0) return c;
    if (g->ended) return 0;
    tmp = list_new(r, 4);
    if (!tmp) return -1;
    if (g->n) { /* the item that did not fit before */
        if (!list_add(r, tmp, g->dflt)) return -1;
        g->n = 0;
    }
    while ((c = iter_next(r, &g->in, &x)) > 0) {
        if (!step(r, 1)) return -1;
        if (number && (double)tmp->n == limit) {
            g->n = 1;
            g->dflt = x;
            *out = v_of_list(tmp);
            return 1;
        }
        if (!list_add(r, tmp, x)) return -1;
    }
    if (c < 0) return -1;
    g->ended = true;
    if (!tmp->n) return 0;
    if (g->fill.type != T_NONE && g->fill.type != T_MISSING) {
        int lt = compare(r, CMP_LT, v_int((int64_t)tmp->n), g->name);
        if (lt < 0) return -1;
        if (lt && !is_int_like(g->name)) {
            raise(r, EXC_TYPE, "can't multiply sequence by non-int of type 'float'");
            return -1;
        }
        while (lt && (int64_t)tmp->n < g->name.i)
            if (!list_add(r, tmp, g->fill)) return -1;
    }
    *out = v_of_list(tmp);
    return 1;
}

val f_batch(rt *r, val self, val *a, const args *raw)
{
    /* linecount, fill_with */
    gen *g;
    val v = gen_new(r, next_batch, self, &g);
    (void)raw;
    if (IS_ERR(v)) return v;
    g->name = a[0];
    g->fill = a[1];
    return v;
}

static int next_slice(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    int64_t n, from, to, per, extra;
    list *l;
    if (!g->started) {
        val q, m;
        g->started = true;
        if (!(g->seq = list_from(r, g->value))) return -1;
        q = arith(r, N_FLOORDIV, v_int((int64_t)g->seq->n), g->name);
        if (IS_ERR(q)) return -1;
        m = arith(r, N_MOD, v_int((int64_t)g->seq->n), g->name);
        if (IS_ERR(m) || !index_of(r, g->name, &g->n)) return -1;
    }
    if (g->i >= g->n) return 0;
    n = (int64_t)g->seq->n;
    per = n / g->n;
    extra = n % g->n;
    from = g->i * per + (g->i < extra ? g->i : extra);
    to = from + per + (g->i < extra ? 1 : 0);
    l = list_new(r, (size_t)(to - from) + 1);
    if (!l) return -1;
    for (int64_t k = from; k < to; k++) l->v[l->n++] = g->seq->v[k];
    if (g->fill.type != T_NONE && g->fill.type != T_MISSING && g->i >= extra) l->v[l->n++] = g->fill;
    g->i++;
    *out = v_of_list(l);
    return step(r, 1) ? 1 : -1;
}

val f_slice(rt *r, val self, val *a, const args *raw)
{
    /* slices, fill_with */
    gen *g;
    val v = gen_new(r, next_slice, self, &g);
    (void)raw;
    if (IS_ERR(v)) return v;
    g->name = a[0];
    g->fill = a[1];
    return v;
}

static int next_items(rt *r, iter *it, val *out)
{
    gen *g = it->state;
    if (!g->started) {
        g->started = true;
        if (g->value.type == T_UNDEF) {
            g->ended = true;
        } else if (g->value.type != T_DICT) {
            raise(r, EXC_TYPE, "Can only get item pairs from a mapping.");
            return -1;
        } else {
            g->value.type = T_VIEW;
            g->value.flag = VIEW_ITEMS;
            if (!iter_init(r, &g->in, g->value)) return -1;
        }
    }
    return g->ended ? 0 : iter_next(r, &g->in, out);
}

val f_items(rt *r, val self, val *a, const args *raw)
{
    gen *g;
    (void)a;
    (void)raw;
    return gen_new(r, next_items, self, &g);
}

/* ---- one value out of many ---- */

val f_first(rt *r, val self, val *a, const args *raw)
{
    iter it;
    val x;
    int c;
    (void)a;
    (void)raw;
    if (!iter_init(r, &it, self)) return v_err();
    c = iter_next(r, &it, &x);
    if (c < 0) return v_err();
    return c ? x : v_undef_hint(r, "No first item, sequence was empty.");
}

val f_last(rt *r, val self, val *a, const args *raw)
{
    val rev = reversed_of(r, self), x;
    int c;
    (void)a;
    (void)raw;
    if (IS_ERR(rev)) return rev;
    c = iter_next(r, rev.it, &x);
    if (c < 0) return v_err();
    return c ? x : v_undef_hint(r, "No last item, sequence was empty.");
}

val f_random(rt *r, val self, val *a, const args *raw)
{
    int64_t n = length_of(r, self);
    (void)a;
    (void)raw;
    if (n < 0) return v_err();
    if (n == 0) return v_undef_hint(r, "No random item, sequence was empty.");
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return get_item_strict(r, self, v_int((int64_t)((r->random >> 33) % (uint64_t)n)));
}

val f_length(rt *r, val self, val *a, const args *raw)
{
    int64_t n = length_of(r, self);
    (void)a;
    (void)raw;
    return n < 0 ? v_err() : v_int(n);
}

val f_list(rt *r, val self, val *a, const args *raw)
{
    list *l = list_from(r, self);
    (void)a;
    (void)raw;
    return l ? v_of_list(l) : v_err();
}

val f_reverse(rt *r, val self, val *a, const args *raw)
{
    val v;
    list *l;
    (void)a;
    (void)raw;
    if (self.type == T_STR) return get_slice(r, self, v_none(), v_none(), v_int(-1));
    v = reversed_of(r, self);
    if (!IS_ERR(v) || r->exc.kind != EXC_TYPE) return v;
    clear_exc(r);
    l = list_from(r, self);
    if (!l) {
        if (r->exc.kind != EXC_TYPE) return v_err();
        clear_exc(r);
        return raise(r, EXC_FILTER_ARG, "argument must be iterable");
    }
    for (size_t i = 0; i < l->n / 2; i++) {
        val t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
    return v_of_list(l);
}

val f_sum(rt *r, val self, val *a, const args *raw)
{
    /* attribute, start */
    val total = a[1].type == T_MISSING ? v_int(0) : a[1], x;
    attr_parts path;
    iter it;
    int c;
    (void)raw;
    if (!attr_prepare(r, a[0], &path) || !iter_init(r, &it, self)) return v_err();
    if (total.type == T_STR) return raise(r, EXC_TYPE, "sum() can't sum strings [use ''.join(seq) instead]");
    while ((c = iter_next(r, &it, &x)) > 0) {
        x = attr_fetch(r, &path, x, v_missing(), false);
        if (IS_ERR(x)) return x;
        total = arith(r, N_ADD, total, x);
        if (IS_ERR(total)) return total;
    }
    return c < 0 ? v_err() : total;
}

val f_join(rt *r, val self, val *a, const args *raw)
{
    /* d, attribute */
    val d = a[0].type == T_MISSING ? v_cstr(r, "") : a[0], x, sep;
    attr_parts path;
    iter it;
    sb b = {0};
    bool first = true, attr = a[1].type != T_MISSING && a[1].type != T_NONE;
    int c;
    (void)raw;
    if (attr && !attr_prepare(r, a[1], &path)) return v_err();
    if (!iter_init(r, &it, self)) return v_err();
    if (r->autoescape) {
        list *l = list_new(r, 8);
        bool markup = is_markup(d);
        if (!l) return v_err();
        while ((c = iter_next(r, &it, &x)) > 0) {
            if (attr) x = attr_fetch(r, &path, x, v_missing(), false);
            x = soft_str(r, x);
            if (!step(r, 1) || !list_add(r, l, x)) return v_err();
            markup |= is_markup(x);
        }
        if (c < 0) return v_err();
        sep = soft_str(r, d);
        if (markup) sep = escape_html(r, sep);
        if (IS_ERR(sep)) return sep;
        for (size_t i = 0; i < l->n; i++) {
            x = markup ? escape_html(r, l->v[i]) : l->v[i];
            if (IS_ERR(x)) return x;
            if (i) sb_add(r, &b, sep.s->s, sep.s->n);
            sb_add(r, &b, x.s->s, x.s->n);
        }
        return markup ? v_markup(sb_val(r, &b)) : sb_val(r, &b);
    }
    sep = to_str(r, d);
    if (IS_ERR(sep)) return sep;
    while ((c = iter_next(r, &it, &x)) > 0) {
        if (!step(r, 1)) return v_err();
        if (attr) x = attr_fetch(r, &path, x, v_missing(), false);
        if (IS_ERR(x)) return x;
        if (!first) sb_add(r, &b, sep.s->s, sep.s->n);
        first = false;
        if (!write_str(r, &b, x) || b.failed) return v_err();
    }
    return c < 0 ? v_err() : sb_val(r, &b);
}

val f_attr(rt *r, val self, val *a, const args *raw)
{
    val v;
    (void)raw;
    if (a[0].type != T_STR)
        return raise(r, EXC_TYPE, "attribute name must be string, not '%s'", type_name(a[0]));
    if (has_attribute(self, a[0].s)) return get_attr(r, self, a[0].s);
    v = attr_or_missing(r, self, a[0].s);
    if (IS_ERR(v)) return v;
    return v.type == T_MISSING ? v_undef_attr(r, self, v_of_str(a[0].s)) : get_attr(r, self, a[0].s);
}

val f_default(rt *r, val self, val *a, const args *raw)
{
    /* default_value, boolean */
    bool boolean = false, yes = true;
    (void)raw;
    if (self.type != T_UNDEF) {
        if (!flag_of(r, a[1], false, &boolean)) return v_err();
        if (boolean && !truthy(r, self, &yes)) return v_err();
        if (!boolean || yes) return self;
    }
    return a[0].type == T_MISSING ? v_cstr(r, "") : a[0];
}
