/* Expressions. */
#include "text/template/template.h"

static bool eval_kwargs(rt *r, val map, args *out, size_t cap)
{
    if (map.type == T_UNDEF) {
        raise_undef(r, map.u);
        return false;
    }
    if (map.type != T_DICT) {
        if (!IS_ERR(map)) raise(r, EXC_TYPE, "argument after ** must be a mapping, not %s", type_name(map));
        return false;
    }
    for (size_t i = 0; i < map.d->n && out->n_kw < cap; i++) {
        val key = map.d->e[i].key;
        if (key.type != T_STR) {
            raise(r, EXC_TYPE, "keywords must be strings");
            return false;
        }
        if (!step(r, out->n_kw)) return false;
        for (size_t k = 0; k < out->n_kw; k++)
            if (str_eq(out->kw_name[k], key.s)) {
                raise(r, EXC_TYPE, "got multiple values for keyword argument '%.*s'",
                      (int)(key.s->n < 100 ? key.s->n : 100), key.s->s);
                return false;
            }
        out->kw_name[out->n_kw] = key.s;
        out->kw[out->n_kw++] = map.d->e[i].value;
    }
    return true;
}

bool eval_args(rt *r, const call_args *c, env *e, args *out)
{
    val dyn, map;
    list *rest = NULL;
    size_t n = c->pos.n, n_kw = c->kw.n;

    *out = (args){0};
    if (!n && !n_kw && !c->dyn_args && !c->dyn_kwargs) return true;
    out->pos = rt_alloc_array(r, n + n_kw, sizeof(val));
    if (!out->pos) return false;
    out->kw = out->pos + n;
    out->kw_name = c->kw_name;
    for (size_t i = 0; i < n; i++) {
        out->pos[i] = eval(r, c->pos.v[i], e);
        if (IS_ERR(out->pos[i])) return false;
    }
    out->n = n;
    if (c->dyn_args) {
        dyn = eval(r, c->dyn_args, e);
        if (IS_ERR(dyn)) return false;
        if (!is_iterable(dyn)) {
            raise(r, EXC_TYPE, "Value after * must be an iterable, not %s", type_name(dyn));
            return false;
        }
        rest = list_from(r, dyn);
        if (!rest) return false;
    }
    for (size_t i = 0; i < n_kw; i++) {
        out->kw[i] = eval(r, c->kw.v[i], e);
        if (IS_ERR(out->kw[i])) return false;
    }
    out->n_kw = n_kw;
    if (rest) {
        val *pos = rt_alloc_array(r, n + rest->n + 1, sizeof *pos);
        if (!pos) return false;
        memcpy(pos, out->pos, n * sizeof *pos);
        if (rest->n) memcpy(pos + n, rest->v, rest->n * sizeof *pos);
        out->pos = pos;
        out->n = n + rest->n;
    }
    if (c->dyn_kwargs) {
        val *kw;
        str **names;
        size_t cap;
        map = eval(r, c->dyn_kwargs, e);
        if (IS_ERR(map)) return false;
        cap = n_kw + (map.type == T_DICT ? map.d->n : 0) + 1;
        kw = rt_alloc_array(r, cap, sizeof *kw);
        names = rt_alloc_array(r, cap, sizeof *names);
        if (!kw || !names) return false;
        if (n_kw) {
            memcpy(kw, out->kw, n_kw * sizeof *kw);
            memcpy(names, out->kw_name, n_kw * sizeof *names);
        }
        out->kw = kw;
        out->kw_name = names;
        return eval_kwargs(r, map, out, cap);
    }
    return true;
}

static const builtin *direct_method(const node *x, val obj)
{
    switch ((vtype)obj.type) {
    case T_STR: return x->attr_of[0];
    case T_LIST: return x->attr_of[1];
    case T_TUPLE: return obj.flag & F_GROUP ? NULL : x->attr_of[2];
    case T_DICT: return x->attr_of[3];
    default: return NULL;
    }
}

static val eval_call(rt *r, const node *x, env *e)
{
    args a;
    val callee;
    const node *f = x->a;

    if (f->kind == N_GETATTR) {
        val obj = eval(r, f->a, e);
        const builtin *fn = direct_method(f, obj);
        if (IS_ERR(obj)) return obj;
        if (fn && !(fn->flags & BIND_UNSAFE)) {
            if (!eval_args(r, x->call, e, &a)) return v_err();
            return call_builtin(r, fn, obj, &a);
        }
        callee = get_attr(r, obj, f->name);
    } else {
        callee = eval(r, f, e);
    }
    if (IS_ERR(callee) || !eval_args(r, x->call, e, &a)) return v_err();
    return call_value(r, callee, &a);
}

static val eval_getattr(rt *r, const node *x, env *e)
{
    val obj = eval(r, x->a, e);
    const builtin *fn;
    if (obj.type == T_DICT && !x->attr_of[3] && x->name->s[0] != '_') {
        val *p = dict_get_str(obj.d, x->name);
        return p ? *p : v_undef_attr(r, obj, v_of_str(x->name));
    }
    if (IS_ERR(obj)) return obj;
    fn = direct_method(x, obj);
    if (fn && !(fn->flags & BIND_UNSAFE)) return bound_method(r, obj, fn);
    if (obj.type == T_LOOP) {
        val v = loop_attr(r, obj.loop, x->name);
        if (v.type != T_MISSING) return v;
    }
    return get_attr(r, obj, x->name);
}

static val eval_slice_value(rt *r, const node *x, env *e)
{
    val v = {.type = T_SLICE};
    v.sl = rt_alloc(r, sizeof *v.sl);
    if (!v.sl) return v_err();
    v.sl->start = x->a ? eval(r, x->a, e) : v_none();
    if (IS_ERR(v.sl->start)) return v_err();
    v.sl->stop = x->b ? eval(r, x->b, e) : v_none();
    if (IS_ERR(v.sl->stop)) return v_err();
    v.sl->step = x->c ? eval(r, x->c, e) : v_none();
    return IS_ERR(v.sl->step) ? v_err() : v;
}

static val eval_getitem(rt *r, const node *x, env *e)
{
    val obj = eval(r, x->a, e), key;
    if (IS_ERR(obj)) return obj;
    if (x->b->kind == N_SLICE) {
        const node *s = x->b;
        val a, b, c;
        a = s->a ? eval(r, s->a, e) : v_none();
        if (IS_ERR(a)) return a;
        b = s->b ? eval(r, s->b, e) : v_none();
        if (IS_ERR(b)) return b;
        c = s->c ? eval(r, s->c, e) : v_none();
        if (IS_ERR(c)) return c;
        return get_slice(r, obj, a, b, c);
    }
    key = eval(r, x->b, e);
    if (obj.type == T_DICT && key.type == T_STR) {
        val *p;
        str_hash(key.s);
        p = dict_get_str(obj.d, key.s);
        if (p) return *p;
    }
    return get_item(r, obj, key);
}

static val eval_compare(rt *r, const node *x, env *e)
{
    val left = eval(r, x->a, e);
    if (IS_ERR(left)) return left;
    for (size_t i = 0; i < x->items.n; i++) {
        val right = eval(r, x->items.v[i], e);
        int c;
        if (IS_ERR(right)) return right;
        c = compare(r, (cmp_op)x->ops[i], left, right);
        if (c < 0) return v_err();
        if (!c) return v_bool(false);
        left = right;
    }
    return v_bool(true);
}

static val eval_concat(rt *r, const node *x, env *e)
{
    val first = v_missing();
    sb b = {0};
    bool markup = false;
    val *v;

    if (x->escape != ESC_ON || x->flag) {
        /* the first piece may have room behind it for the others */
        for (size_t i = 0; i < x->items.n; i++) {
            val s = eval(r, x->items.v[i], e);
            if (IS_ERR(s)) return s;
            if (i == 0 && s.type == T_STR && s.s->n >= 256) {
                first = s;
                first.flag &= F_ROOM;
            } else if (!write_str(r, &b, s)) {
                return v_err();
            }
        }
        if (first.type == T_STR) {
            val rest = sb_val(r, &b);
            return IS_ERR(rest) ? rest : str_concat(r, first, rest);
        }
        return sb_val(r, &b);
    }
    v = rt_alloc_array(r, x->items.n, sizeof *v);
    if (!v) return v_err();
    for (size_t i = 0; i < x->items.n; i++) {
        v[i] = eval(r, x->items.v[i], e);
        if (IS_ERR(v[i])) return v_err();
        v[i] = soft_str(r, v[i]);
        if (IS_ERR(v[i])) return v_err();
        markup |= is_markup(v[i]);
    }
    for (size_t i = 0; i < x->items.n; i++) {
        val s = markup ? escape_html(r, v[i]) : v[i];
        if (IS_ERR(s)) return s;
        sb_add(r, &b, s.s->s, s.s->n);
    }
    return markup ? v_markup(sb_val(r, &b)) : sb_val(r, &b);
}

static val eval_items(rt *r, const node *x, env *e)
{
    list *l = list_new(r, x->items.n);
    if (!l) return v_err();
    for (size_t i = 0; i < x->items.n; i++) {
        l->v[i] = eval(r, x->items.v[i], e);
        if (IS_ERR(l->v[i])) return v_err();
    }
    l->n = x->items.n;
    return x->kind == N_LIST ? v_of_list(l) : v_of_tuple(l);
}

static val eval_dict(rt *r, const node *x, env *e)
{
    dict *d = dict_new(r, x->items.n / 2);
    if (!d) return v_err();
    for (size_t i = 0; i < x->items.n; i += 2) {
        val k = eval(r, x->items.v[i], e), v;
        if (IS_ERR(k)) return k;
        v = eval(r, x->items.v[i + 1], e);
        if (IS_ERR(v) || !dict_put(r, d, k, v)) return v_err();
    }
    return v_of_dict(d);
}

val eval_filter_on(rt *r, const node *x, val input, env *e)
{
    args a;
    if (x->a) input = eval_filter_on(r, x->a, input, e);
    if (IS_ERR(input) || !eval_args(r, x->call, e, &a)) return v_err();
    if (!x->fn)
        return raise(r, EXC_RUNTIME, "No filter named '%.*s' found.",
                     (int)(x->name->n < 100 ? x->name->n : 100), x->name->s);
    return call_builtin(r, x->fn, input, &a);
}

static val eval_applied(rt *r, const node *x, env *e)
{
    args a;
    val input = eval(r, x->a, e);
    if (IS_ERR(input) || !eval_args(r, x->call, e, &a)) return v_err();
    if (!x->fn)
        return raise(r, EXC_RUNTIME, "No %s named '%.*s' found.", x->kind == N_FILTER ? "filter" : "test",
                     (int)(x->name->n < 100 ? x->name->n : 100), x->name->s);
    return call_builtin(r, x->fn, input, &a);
}

static val eval_cond(rt *r, const node *x, env *e)
{
    val test = eval(r, x->c, e);
    bool yes;
    if (!truthy(r, test, &yes)) return v_err();
    if (yes) return eval(r, x->a, e);
    if (x->b) return eval(r, x->b, e);
    return v_undef_hint(
        r, "the inline if-expression on line %u evaluated to false and no else section was defined.",
        x->line);
}

static val eval_node(rt *r, const node *x, env *e)
{
    val v;
    bool yes;
    switch ((node_kind)x->kind) {
    case N_TUPLE:
    case N_LIST: return eval_items(r, x, e);
    case N_DICT: return eval_dict(r, x, e);
    case N_AND:
    case N_OR:
        v = eval(r, x->a, e);
        if (!truthy(r, v, &yes)) return v_err();
        return yes == (x->kind == N_AND) ? eval(r, x->b, e) : v;
    case N_NOT: v = eval(r, x->a, e); return truthy(r, v, &yes) ? v_bool(!yes) : v_err();
    case N_NEG: v = eval(r, x->a, e); return negate(r, v);
    case N_POS: v = eval(r, x->a, e); return positive(r, v);
    case N_ADD:
    case N_SUB:
    case N_MUL:
    case N_DIV:
    case N_FLOORDIV:
    case N_MOD:
    case N_POW: {
        val b;
        v = eval(r, x->a, e);
        if (IS_ERR(v)) return v;
        b = eval(r, x->b, e);
        return IS_ERR(b) ? b : arith(r, (node_kind)x->kind, v, b);
    }
    case N_COMPARE: return eval_compare(r, x, e);
    case N_CONCAT: return eval_concat(r, x, e);
    case N_COND: return eval_cond(r, x, e);
    case N_GETATTR: return eval_getattr(r, x, e);
    case N_GETITEM: return eval_getitem(r, x, e);
    case N_SLICE: return eval_slice_value(r, x, e);
    case N_CALL: return eval_call(r, x, e);
    case N_FILTER:
    case N_TEST: return eval_applied(r, x, e);
    default: return raise(r, EXC_RUNTIME, "not an expression");
    }
}

val eval(rt *r, const node *x, env *e)
{
    val v;
    if (x->kind == N_CONST) return x->value;
    if (x->kind == N_NAME) {
        v = *slot_of(e, x->ref);
        return v.type == T_MISSING ? v_undef_name(r, x->name) : v;
    }
    if (r->steps >= r->limits.max_steps) {
        step(r, 1);
        return v_err();
    }
    r->steps++;
    if (r->nest >= MAX_NEST) return raise(r, EXC_LIMIT, "evaluation is nested more than %d deep", MAX_NEST);
    r->nest++;
    v = eval_node(r, x, e);
    r->nest--;
    return v;
}
