/* Attributes and items, as the immutable sandbox hands them out. */
#include "text/template/template.h"

static const builtin *find_in(const builtin *t, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (t[i].name[0] == name[0] && strlen(t[i].name) == len && memcmp(t[i].name, name, len) == 0)
            return &t[i];
    return NULL;
}

const builtin *method_find(vtype type, const char *name, size_t n)
{
    switch (type) {
    case T_STR: return find_in(str_methods, n_str_methods, name, n);
    case T_LIST: return find_in(list_methods, n_list_methods, name, n);
    case T_TUPLE: return find_in(tuple_methods, n_tuple_methods, name, n);
    case T_DICT: return find_in(dict_methods, n_dict_methods, name, n);
    case T_RANGE: return find_in(range_methods, n_range_methods, name, n);
    case T_VIEW: return find_in(view_methods, n_view_methods, name, n);
    case T_BOOL:
    case T_INT: return find_in(int_methods, n_int_methods, name, n);
    case T_FLOAT: return find_in(float_methods, n_float_methods, name, n);
    case T_CYCLER: return find_in(cycler_methods, n_cycler_methods, name, n);
    case T_LOOP: return find_in(loop_methods, n_loop_methods, name, n);
    case T_BYTES: return find_in(bytes_methods, n_bytes_methods, name, n);
    default: return NULL;
    }
}

/* Attributes that begin with "_" and that Python's object of this kind has: reading one is refused. */
static bool has_private(val obj, const str *name)
{
    static const char *const all[] = {
        "__class__", "__delattr__",      "__dir__",    "__doc__",  "__eq__",           "__format__",
        "__ge__",    "__getattribute__", "__gt__",     "__hash__", "__init__",         "__init_subclass__",
        "__le__",    "__lt__",           "__ne__",     "__new__",  "__reduce__",       "__reduce_ex__",
        "__repr__",  "__setattr__",      "__sizeof__", "__str__",  "__subclasshook__", "__getstate__",
    };
    static const char *const seq[] = {"__len__", "__getitem__", "__iter__", "__contains__",
                                      "__add__", "__mul__",     "__rmul__"};
    static const char *const objects[] = {"__dict__", "__module__", "__weakref__", "__call__"};
    static const char *const nums[] = {"__add__",   "__sub__",  "__mul__",    "__abs__",      "__int__",
                                       "__float__", "__bool__", "__neg__",    "__pos__",      "__round__",
                                       "__radd__",  "__mod__",  "__divmod__", "__floordiv__", "__truediv__",
                                       "__pow__",   "__trunc__"};
    static const char *const undefs[] = {"_undefined_hint",    "_undefined_obj",
                                         "_undefined_name",    "_undefined_exception",
                                         "_undefined_message", "_fail_with_undefined_error",
                                         "__slots__",          "__module__",
                                         "__call__",           "__len__",
                                         "__getitem__",        "__iter__",
                                         "__bool__",           "__add__"};
#define HAS(table)                                 \
    for (size_t i = 0; i < MLXR_COUNT(table); i++) \
        if (str_is(name, table[i])) return true;
    if (obj.type == T_NAMESPACE) return str_is(name, "__class__") || str_is(name, "_Namespace__attrs");
    HAS(all)
    switch ((vtype)obj.type) {
    case T_STR:
        if (is_markup(obj) && (str_is(name, "__html__") || str_is(name, "__html_format__"))) return true;
        if (str_is(name, "__mod__") || str_is(name, "__rmod__")) return true;
        HAS(seq)
        return false;
    case T_LIST:
    case T_TUPLE:
    case T_RANGE: HAS(seq) return str_is(name, "__reversed__");
    case T_DICT:
        return str_is(name, "__len__") || str_is(name, "__getitem__") || str_is(name, "__iter__") ||
               str_is(name, "__contains__") || str_is(name, "__setitem__") || str_is(name, "__delitem__") ||
               str_is(name, "__reversed__") || str_is(name, "__or__") || str_is(name, "__class_getitem__");
    case T_INT:
    case T_BOOL:
    case T_FLOAT: HAS(nums) return false;
    case T_NONE: return str_is(name, "__bool__");
    case T_UNDEF: HAS(undefs) return false;
    case T_MACRO:
    case T_LOOP:
    case T_CYCLER:
    case T_JOINER:
    case T_FUNC:
    case T_BLOCKREF:
    case T_SELF: HAS(objects) return str_is(name, "__name__") && obj.type == T_FUNC;
    case T_METHOD: return str_is(name, "__name__") || str_is(name, "__call__") || str_is(name, "__self__");
    default: return false;
    }
#undef HAS
}

val bound_method(rt *r, val self, const builtin *fn)
{
    val v = {.type = T_METHOD};
    v.m = rt_alloc(r, sizeof *v.m);
    if (!v.m) return v_err();
    v.m->self = self;
    v.m->fn = fn;
    return v;
}

static val unsafe_undefined(rt *r, val obj, str *name)
{
    val rep, u;
    sb b = {0};
    write_str_repr(r, &b, name);
    rep = sb_val(r, &b);
    if (IS_ERR(rep)) return rep;
    u = v_undef_hint(r, "access to attribute %.*s of '%s' object is unsafe.",
                     (int)(rep.s->n < 200 ? rep.s->n : 200), rep.s->s, type_name(obj));
    if (!IS_ERR(u)) u.u->exc = EXC_SECURITY;
    return u;
}

static int64_t peek(rt *r, loop *l) /* 1: l->after is set; 0: no more; -1: raised */
{
    int c;
    if (l->after.type != T_MISSING) return 1;
    c = iter_next(r, &l->it, &l->after);
    if (c <= 0) l->after = v_missing();
    return c;
}

val loop_attr(rt *r, loop *l, str *name)
{
    val self = {.type = T_LOOP};
    int64_t n;
    self.loop = l;
    switch (name->n) {
    case 4:
        if (str_is(name, "last")) {
            n = peek(r, l);
            return n < 0 ? v_err() : v_bool(n == 0);
        }
        break;
    case 5:
        if (str_is(name, "index")) return v_int(l->index0 + 1);
        if (str_is(name, "first")) return v_bool(l->index0 == 0);
        if (str_is(name, "depth")) return v_int(l->depth0 + 1);
        break;
    case 6:
        if (str_is(name, "index0")) return v_int(l->index0);
        if (str_is(name, "length")) {
            n = length_of(r, self);
            return n < 0 ? v_err() : v_int(n);
        }
        if (str_is(name, "depth0")) return v_int(l->depth0);
        break;
    case 8:
        if (str_is(name, "revindex")) {
            n = length_of(r, self);
            return n < 0 ? v_err() : v_int(n - l->index0);
        }
        if (str_is(name, "nextitem")) {
            n = peek(r, l);
            if (n < 0) return v_err();
            return n ? l->after : v_undef_hint(r, "there is no next item");
        }
        if (str_is(name, "previtem"))
            return l->index0 == 0 ? v_undef_hint(r, "there is no previous item") : l->before;
        break;
    case 9:
        if (str_is(name, "revindex0")) {
            n = length_of(r, self);
            return n < 0 ? v_err() : v_int(n - l->index0 - 1);
        }
        break;
    default: break;
    }
    return v_missing();
}

static val macro_attr(rt *r, macro *m, str *name)
{
    if (str_is(name, "name")) return m->name ? v_of_str(m->name) : v_none();
    if (str_is(name, "arguments")) {
        list *l = list_new(r, m->info->args.n);
        if (!l) return v_err();
        for (size_t i = 0; i < m->info->args.n; i++) list_add(r, l, v_of_str(m->info->args.v[i]->name));
        return v_of_tuple(l);
    }
    if (str_is(name, "catch_kwargs")) return v_bool(m->info->kwargs);
    if (str_is(name, "catch_varargs")) return v_bool(m->info->varargs);
    if (str_is(name, "caller")) return v_bool(m->info->caller);
    if (str_is(name, "explicit_caller")) return v_bool(m->info->explicit_caller);
    return v_missing();
}

val attr_or_missing(rt *r, val obj, str *name)
{
    const builtin *fn;
    val v = v_missing();

    switch ((vtype)obj.type) {
    case T_ERROR: return obj;
    case T_UNDEF:
        if (name->n >= 2 && name->s[0] == '_' && name->s[1] == '_' && name->s[name->n - 1] == '_' &&
            name->s[name->n - 2] == '_')
            return v;
        return raise_undef(r, obj.u);
    case T_NAMESPACE: {
        val *p;
        str_hash(name);
        p = dict_get_str(obj.d, name);
        return p ? *p : v;
    }
    case T_INT:
    case T_BOOL:
        if (str_is(name, "real") || str_is(name, "numerator")) return v_int(obj.i);
        if (str_is(name, "imag")) return v_int(0);
        if (str_is(name, "denominator")) return v_int(1);
        break;
    case T_FLOAT:
        if (str_is(name, "real")) return obj;
        if (str_is(name, "imag")) return v_float(0);
        break;
    case T_RANGE:
        if (str_is(name, "start")) return v_int(obj.range->start);
        if (str_is(name, "stop")) return v_int(obj.range->stop);
        if (str_is(name, "step")) return v_int(obj.range->step);
        break;
    case T_TUPLE:
        if (obj.flag & F_GROUP) {
            if (str_is(name, "grouper")) return obj.l->v[0];
            if (str_is(name, "list")) return obj.l->v[1];
        }
        break;
    case T_LOOP:
        v = loop_attr(r, obj.loop, name);
        if (v.type != T_MISSING) return v;
        break;
    case T_MACRO: return macro_attr(r, obj.macro, name);
    case T_CYCLER:
        if (str_is(name, "current")) return obj.cy->items->v[obj.cy->pos];
        if (str_is(name, "pos")) return v_int((int64_t)obj.cy->pos);
        if (str_is(name, "items")) return v_of_tuple(obj.cy->items);
        break;
    case T_JOINER:
        if (str_is(name, "sep")) return obj.jo->sep;
        if (str_is(name, "used")) return v_bool(obj.jo->used);
        return v;
    case T_BLOCKREF:
        if (str_is(name, "name")) return v_of_str(obj.br->block->name);
        if (str_is(name, "super"))
            return v_undef_hint(r, "there is no parent block called '%.*s'.", (int)obj.br->block->name->n,
                                obj.br->block->name->s);
        return v;
    case T_FUNC:
        if (strcmp(obj.fn->name, "dict") == 0) {
            fn = find_in(dict_global_methods, n_dict_global_methods, name->s, name->n);
            if (fn) return bound_method(r, obj, fn);
        }
        return v;
    default: break;
    }
    fn = method_find((vtype)obj.type, name->s, name->n);
    return fn ? bound_method(r, obj, fn) : v;
}

bool has_attribute(val obj, str *name)
{
    return has_private(obj, name) || method_find((vtype)obj.type, name->s, name->n) != NULL;
}

static bool unsafe_method(val v)
{
    return v.type == T_METHOD && (v.m->fn->flags & BIND_UNSAFE);
}

static val block_of(rt *r, val self, val key)
{
    if (key.type == T_STR) {
        for (size_t i = 0; i < r->t->n_blocks; i++) {
            val v = {.type = T_BLOCKREF};
            if (!str_eq(r->t->blocks[i]->name, key.s)) continue;
            v.br = rt_alloc(r, sizeof *v.br);
            if (!v.br) return v_err();
            v.br->block = r->t->blocks[i];
            v.br->ctx = self.ctx;
            return v;
        }
    }
    return raise(r, EXC_KEY, "no such block");
}

val get_item_strict(rt *r, val obj, val key)
{
    val v;
    int64_t i, n;
    switch ((vtype)obj.type) {
    case T_DICT: {
        int c = dict_get(r, obj.d, key, &v);
        sb b = {0};
        if (c > 0) return v;
        if (c < 0 || !write_repr(r, &b, key)) return v_err();
        return raise(r, EXC_KEY, "%.*s", (int)(b.n < 200 ? b.n : 200), b.p);
    }
    case T_LIST:
    case T_TUPLE:
    case T_RANGE:
    case T_STR:
    case T_BYTES:
        if (key.type == T_SLICE) return get_slice(r, obj, key.sl->start, key.sl->stop, key.sl->step);
        if (!is_int_like(key)) {
            if (obj.type == T_STR)
                return raise(r, EXC_TYPE, "string indices must be integers, not '%s'", type_name(key));
            return raise(r, EXC_TYPE, "%s indices must be integers or slices, not %s",
                         obj.type == T_BYTES ? "byte" : type_name(obj), type_name(key));
        }
        i = key.i;
        n = length_of(r, obj);
        if (i < 0) i += n;
        if (i < 0 || i >= n)
            return raise(r, EXC_INDEX,
                         obj.type == T_RANGE ? "%s object index out of range" : "%s index out of range",
                         obj.type == T_STR ? "string" : type_name(obj));
        if (obj.type == T_RANGE) return v_int(obj.range->start + i * obj.range->step);
        if (obj.type == T_BYTES) return v_int((unsigned char)obj.s->s[i]);
        if (obj.type == T_STR) {
            size_t from, to;
            if (!str_ascii(obj.s) && !step(r, obj.s->n >> 8)) return v_err();
            from = str_offset(obj.s, (size_t)i);
            to = from;
            next_cp(obj.s->s, obj.s->n, &to);
            v = str_sub(r, obj, from, to);
            v.flag |= obj.flag & F_MARKUP;
            return v;
        }
        return obj.l->v[i];
    case T_UNDEF: return raise_undef(r, obj.u);
    case T_SELF: return block_of(r, obj, key);
    case T_ERROR: return obj;
    default: return raise(r, EXC_TYPE, "'%s' object is not subscriptable", type_name(obj));
    }
}

/* obj[key], or T_MISSING where Python raises a TypeError or LookupError. What fails often (a key that is absent, a
 * string asked for a name) is told apart without making an exception. */
static val item_or_missing(rt *r, val obj, val key)
{
    val v;
    if (obj.type == T_DICT && key.type == T_STR) {
        val *p;
        str_hash(key.s);
        p = dict_get_str(obj.d, key.s);
        return p ? *p : v_missing();
    }
    if (key.type == T_STR && obj.type != T_UNDEF && obj.type != T_SELF && !IS_ERR(obj)) return v_missing();
    v = get_item_strict(r, obj, key);
    if (!IS_ERR(v) || !is_lookup_error(r)) return v;
    clear_exc(r);
    return v_missing();
}

val get_item(rt *r, val obj, val key)
{
    val v;
    if (IS_ERR(key)) return key;
    v = item_or_missing(r, obj, key);
    if (v.type != T_MISSING) return v;
    if (key.type == T_STR) {
        bool private = key.s->n && key.s->s[0] == '_';
        if (private && has_private(obj, key.s)) return unsafe_undefined(r, obj, key.s);
        v = attr_or_missing(r, obj, key.s);
        if (IS_ERR(v)) return v;
        if (v.type != T_MISSING) return private || unsafe_method(v) ? unsafe_undefined(r, obj, key.s) : v;
    }
    return v_undef_attr(r, obj, key);
}

val get_attr(rt *r, val obj, str *name)
{
    val v;
    bool private = name->n && name->s[0] == '_';
    if (private && has_private(obj, name)) return unsafe_undefined(r, obj, name);
    v = attr_or_missing(r, obj, name);
    if (IS_ERR(v)) return v;
    if (v.type != T_MISSING) return private || unsafe_method(v) ? unsafe_undefined(r, obj, name) : v;
    v = item_or_missing(r, obj, v_of_str(name));
    return v.type == T_MISSING ? v_undef_attr(r, obj, v_of_str(name)) : v;
}

static bool slice_index(rt *r, val v, int64_t dflt, int64_t *out)
{
    if (v.type == T_NONE || v.type == T_MISSING) {
        *out = dflt;
        return true;
    }
    if (!is_int_like(v)) {
        raise(r, EXC_TYPE, "slice indices must be integers or None or have an __index__ method");
        return false;
    }
    *out = v.i;
    return true;
}

val get_slice(rt *r, val obj, val start, val stop, val step_)
{
    int64_t n, a, b, s, count;
    list *l;

    switch ((vtype)obj.type) {
    case T_STR:
    case T_BYTES:
    case T_LIST:
    case T_TUPLE:
    case T_RANGE: break;
    case T_UNDEF: return raise_undef(r, obj.u);
    case T_DICT: return raise(r, EXC_TYPE, "unhashable type: 'slice'");
    case T_SELF: return raise(r, EXC_TYPE, "unhashable type: 'slice'");
    case T_ERROR: return obj;
    default: return raise(r, EXC_TYPE, "'%s' object is not subscriptable", type_name(obj));
    }
    n = length_of(r, obj);
    if (!slice_index(r, step_, 1, &s)) return v_err();
    if (s == 0) return raise(r, EXC_VALUE, "slice step cannot be zero");
    if (s == INT64_MIN) s = -INT64_MAX;
    if (!slice_index(r, start, s > 0 ? 0 : n - 1, &a) || !slice_index(r, stop, s > 0 ? n : -n - 1, &b))
        return v_err();
    if (a < 0) a = a + n < 0 ? (s > 0 ? 0 : -1) : a + n;
    if (a > (s > 0 ? n : n - 1)) a = s > 0 ? n : n - 1;
    if (b < 0) b = b + n < 0 ? (s > 0 ? 0 : -1) : b + n;
    if (b > (s > 0 ? n : n - 1)) b = s > 0 ? n : n - 1;
    if (s > 0)
        count = b > a ? (b - a - 1) / s + 1 : 0;
    else
        count = a > b ? (a - b - 1) / -s + 1 : 0;
    if (!step(r, (uint64_t)count / 16)) return v_err();
    if (obj.type == T_RANGE) {
        val v = {.type = T_RANGE};
        v.range = rt_alloc(r, sizeof *v.range);
        if (!v.range) return v_err();
        v.range->start = obj.range->start + a * obj.range->step;
        v.range->step = obj.range->step * s;
        v.range->stop = obj.range->start + b * obj.range->step;
        v.range->n = (size_t)count;
        return v;
    }
    if (obj.type == T_STR || obj.type == T_BYTES) {
        val v;
        bool narrow = obj.type == T_BYTES || str_ascii(obj.s);
        if (!narrow && !step(r, obj.s->n >> 8)) return v_err();
        if (s == 1) {
            size_t from = narrow ? (size_t)a : str_offset(obj.s, (size_t)a);
            size_t to = count == 0 ? from
                        : narrow   ? (size_t)(a + count)
                                   : str_offset(obj.s, (size_t)(a + count));
            v = str_sub(r, obj, from, to);
        } else {
            sb out = {0};
            size_t *offset = NULL;
            if (!narrow) {
                size_t k = 0;
                offset = rt_alloc_array(r, (size_t)n + 1, sizeof *offset);
                if (!offset) return v_err();
                for (size_t i = 0; i < obj.s->n;) {
                    offset[k++] = i;
                    next_cp(obj.s->s, obj.s->n, &i);
                }
                offset[k] = obj.s->n;
            }
            for (int64_t i = 0, at = a; i < count; i++, at += s) {
                size_t from = narrow ? (size_t)at : offset[at], to = narrow ? from + 1 : offset[at + 1];
                sb_add(r, &out, obj.s->s + from, to - from);
            }
            v = sb_val(r, &out);
        }
        if (IS_ERR(v)) return v;
        v.type = obj.type;
        v.flag |= obj.flag & F_MARKUP;
        return v;
    }
    l = list_new(r, (size_t)count);
    if (!l) return v_err();
    for (int64_t i = 0, at = a; i < count; i++, at += s) l->v[i] = obj.l->v[at];
    l->n = (size_t)count;
    return obj.type == T_LIST ? v_of_list(l) : v_of_tuple(l);
}
