/* What Python does with any value: truth, text, equality, order, hash, length. */
#include <math.h>
#include <stdio.h>

#include "text/template/template.h"

bool value_enter(rt *r)
{
    if (!step(r, 1)) return false;
    if (r->vdepth >= MAX_VALUE_DEPTH) {
        raise(r, EXC_LIMIT, "values are nested more than %d deep", MAX_VALUE_DEPTH);
        return false;
    }
    r->vdepth++;
    return true;
}

list *list_new(rt *r, size_t cap)
{
    list *l = rt_alloc(r, sizeof *l);
    if (!l) return NULL;
    *l = (list){0};
    if (cap) {
        l->v = rt_alloc_array(r, cap, sizeof *l->v);
        if (!l->v) return NULL;
        l->cap = cap;
    }
    return l;
}

bool list_add(rt *r, list *l, val v)
{
    if (IS_ERR(v)) return false;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        val *p = rt_alloc_array(r, cap, sizeof *p);
        if (!p) return false;
        if (l->n) memcpy(p, l->v, l->n * sizeof *p);
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return true;
}

val v_pair(rt *r, val a, val b)
{
    list *l = list_new(r, 2);
    if (!l) return v_err();
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    return v_of_tuple(l);
}

static val undef_new(rt *r, undef u)
{
    val v = {.type = T_UNDEF};
    v.u = rt_alloc(r, sizeof *v.u);
    if (!v.u) return v_err();
    *v.u = u;
    return v;
}

val v_undef_name(rt *r, str *name)
{
    return undef_new(r, (undef){.obj = v_missing(), .name = v_of_str(name), .exc = EXC_UNDEFINED});
}

val v_undef_hint(rt *r, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    char *copy;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    copy = mlxr_arena_strndup(&r->arena, text, mlxr_utf8_valid(text, strlen(text)));
    if (!copy) return raise(r, EXC_NOMEM, "out of memory");
    return undef_new(r, (undef){.hint = copy, .obj = v_missing(), .name = v_none(), .exc = EXC_UNDEFINED});
}

val v_undef_attr(rt *r, val obj, val name)
{
    return undef_new(r, (undef){.obj = obj, .name = name, .exc = EXC_UNDEFINED});
}

const char *type_name(val v)
{
    switch ((vtype)v.type) {
    case T_NONE: return "NoneType";
    case T_BOOL: return "bool";
    case T_INT: return "int";
    case T_FLOAT: return "float";
    case T_STR: return is_markup(v) ? "Markup" : "str";
    case T_LIST: return "list";
    case T_TUPLE: return v.flag & F_GROUP ? "_GroupTuple" : "tuple";
    case T_DICT: return "dict";
    case T_RANGE: return "range";
    case T_UNDEF: return "Undefined";
    case T_NAMESPACE: return "TemplateNamespace";
    case T_MACRO: return "Macro";
    case T_LOOP: return "LoopContext";
    case T_ITER: return v.it->type_name;
    case T_VIEW:
        return v.flag == VIEW_KEYS ? "dict_keys" : v.flag == VIEW_VALUES ? "dict_values" : "dict_items";
    case T_METHOD: return "builtin_function_or_method";
    case T_FUNC:
        return v.fn->flags & BIND_CLASS          ? "type"
               : strcmp(v.fn->name, "dict") == 0 ? "TemplateDict"
                                                 : "function";
    case T_CYCLER: return "Cycler";
    case T_JOINER: return "Joiner";
    case T_SELF: return "TemplateReference";
    case T_BLOCKREF: return "BlockReference";
    case T_SLICE: return "slice";
    case T_BYTES: return "bytes";
    case T_MISSING:
    case T_ERROR: break;
    }
    return "object";
}

bool truthy(rt *r, val v, bool *out)
{
    (void)r;
    switch ((vtype)v.type) {
    case T_NONE:
    case T_UNDEF: *out = false; break;
    case T_BOOL:
    case T_INT: *out = v.i != 0; break;
    case T_FLOAT: *out = v.f != 0; break;
    case T_STR:
    case T_BYTES: *out = v.s->n != 0; break;
    case T_LIST:
    case T_TUPLE: *out = v.l->n != 0; break;
    case T_DICT:
    case T_VIEW: *out = v.d->n != 0; break;
    case T_RANGE: *out = v.range->n != 0; break;
    case T_LOOP: {
        int64_t n = length_of(r, v);
        if (n < 0) return false;
        *out = n != 0;
        break;
    }
    case T_ERROR: return false;
    default: *out = true; break;
    }
    return true;
}

/* ---- text ---- */

void write_str_repr(rt *r, sb *b, const str *s)
{
    bool sq = s->n && memchr(s->s, '\'', s->n), dq = s->n && memchr(s->s, '"', s->n);
    char q = sq && !dq ? '"' : '\'';
    sb_char(r, b, q);
    for (size_t i = 0; i < s->n && !b->failed;) {
        size_t at = i;
        uint32_t cp = next_cp(s->s, s->n, &i);
        char buf[16];
        if (cp == (unsigned char)q || cp == '\\') {
            sb_char(r, b, '\\');
            sb_char(r, b, (char)cp);
        } else if (cp == '\n') {
            sb_add(r, b, "\\n", 2);
        } else if (cp == '\r') {
            sb_add(r, b, "\\r", 2);
        } else if (cp == '\t') {
            sb_add(r, b, "\\t", 2);
        } else if (cp_is_printable(cp)) {
            sb_add(r, b, s->s + at, i - at);
        } else {
            snprintf(buf, sizeof buf, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
            sb_str(r, b, buf);
        }
    }
    sb_char(r, b, q);
}

static bool write_items(rt *r, sb *b, const list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (i) sb_add(r, b, ", ", 2);
        if (!write_repr(r, b, l->v[i])) return false;
    }
    return true;
}

static bool write_dict(rt *r, sb *b, const dict *d, int view)
{
    sb_char(r, b, view < 0 ? '{' : '[');
    for (size_t i = 0; i < d->n; i++) {
        if (i) sb_add(r, b, ", ", 2);
        if (view == VIEW_ITEMS) sb_char(r, b, '(');
        if (view != VIEW_VALUES && !write_repr(r, b, d->e[i].key)) return false;
        if (view < 0) sb_add(r, b, ": ", 2);
        if (view == VIEW_ITEMS) sb_add(r, b, ", ", 2);
        if (view != VIEW_KEYS && !write_repr(r, b, d->e[i].value)) return false;
        if (view == VIEW_ITEMS) sb_char(r, b, ')');
    }
    sb_char(r, b, view < 0 ? '}' : ']');
    return true;
}

static void write_int(rt *r, sb *b, int64_t i)
{
    char buf[24];
    size_t k = sizeof buf;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    do buf[--k] = (char)('0' + u % 10);
    while (u /= 10);
    if (i < 0) buf[--k] = '-';
    sb_add(r, b, buf + k, sizeof buf - k);
}

static void write_bytes_repr(rt *r, sb *b, const str *s)
{
    bool sq = s->n && memchr(s->s, '\'', s->n), dq = s->n && memchr(s->s, '"', s->n);
    char q = sq && !dq ? '"' : '\'';
    sb_char(r, b, 'b');
    sb_char(r, b, q);
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->s[i];
        char buf[8];
        if (c == (unsigned char)q || c == '\\')
            snprintf(buf, sizeof buf, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(buf, sizeof buf, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c >= 0x20 && c < 0x7f)
            snprintf(buf, sizeof buf, "%c", c);
        else
            snprintf(buf, sizeof buf, "\\x%02x", c);
        sb_str(r, b, buf);
    }
    sb_char(r, b, q);
}

static bool write_nested(rt *r, sb *b, val v)
{
    bool ok = true;
    char buf[96];
    switch ((vtype)v.type) {
    case T_LIST:
        sb_char(r, b, '[');
        ok = write_items(r, b, v.l);
        sb_char(r, b, ']');
        break;
    case T_TUPLE:
        sb_char(r, b, '(');
        ok = write_items(r, b, v.l);
        if (v.l->n == 1) sb_char(r, b, ',');
        sb_char(r, b, ')');
        break;
    case T_DICT: ok = write_dict(r, b, v.d, -1); break;
    case T_VIEW:
        sb_str(r, b, type_name(v));
        sb_char(r, b, '(');
        ok = write_dict(r, b, v.d, v.flag);
        sb_char(r, b, ')');
        break;
    case T_NAMESPACE:
        sb_str(r, b, "<Namespace ");
        ok = write_dict(r, b, v.d, -1);
        sb_char(r, b, '>');
        break;
    case T_RANGE:
        sb_str(r, b, "range(");
        write_int(r, b, v.range->start);
        sb_str(r, b, ", ");
        write_int(r, b, v.range->stop);
        if (v.range->step != 1) {
            sb_str(r, b, ", ");
            write_int(r, b, v.range->step);
        }
        sb_char(r, b, ')');
        break;
    case T_MACRO:
        sb_str(r, b, "<Macro ");
        if (v.macro->name)
            write_str_repr(r, b, v.macro->name);
        else
            sb_str(r, b, "anonymous");
        sb_char(r, b, '>');
        break;
    case T_LOOP: {
        int64_t n = length_of(r, v);
        if (n < 0) return false;
        snprintf(buf, sizeof buf, "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1, (long long)n);
        sb_str(r, b, buf);
        break;
    }
    case T_SELF: sb_str(r, b, "<TemplateReference None>"); break;
    case T_SLICE:
        sb_str(r, b, "slice(");
        ok = write_repr(r, b, v.sl->start);
        sb_str(r, b, ", ");
        ok = ok && write_repr(r, b, v.sl->stop);
        sb_str(r, b, ", ");
        ok = ok && write_repr(r, b, v.sl->step);
        sb_char(r, b, ')');
        break;
    case T_FUNC:
        if (v.fn->flags & BIND_CLASS)
            snprintf(buf, sizeof buf, "<class '%s'>", v.fn->name);
        else
            snprintf(buf, sizeof buf, "<function %s>", v.fn->name);
        sb_str(r, b, buf);
        break;
    case T_METHOD:
        snprintf(buf, sizeof buf, "<built-in method %s of %s object>", v.m->fn->name, type_name(v.m->self));
        sb_str(r, b, buf);
        break;
    default: /* the reference prints an address here, which nobody can rely on */
        snprintf(buf, sizeof buf, "<%s object>", type_name(v));
        sb_str(r, b, buf);
        break;
    }
    return ok;
}

bool write_repr(rt *r, sb *b, val v)
{
    bool ok;
    switch ((vtype)v.type) {
    case T_NONE: sb_add(r, b, "None", 4); break;
    case T_BOOL: sb_str(r, b, v.i ? "True" : "False"); break;
    case T_INT: write_int(r, b, v.i); break;
    case T_FLOAT: write_float_repr(r, b, v.f); break;
    case T_STR:
        if (!step(r, 1)) return false;
        if (is_markup(v)) sb_str(r, b, "Markup(");
        write_str_repr(r, b, v.s);
        if (is_markup(v)) sb_char(r, b, ')');
        break;
    case T_BYTES: write_bytes_repr(r, b, v.s); break;
    case T_UNDEF: sb_str(r, b, "Undefined"); break;
    case T_ERROR: return false;
    default:
        if (!value_enter(r)) return false;
        ok = write_nested(r, b, v);
        value_leave(r);
        return ok && !b->failed;
    }
    return !b->failed;
}

bool write_str(rt *r, sb *b, val v)
{
    if (v.type == T_STR) {
        sb_add(r, b, v.s->s, v.s->n);
        return !b->failed;
    }
    if (v.type == T_UNDEF) return true;
    return write_repr(r, b, v);
}

val to_str(rt *r, val v)
{
    sb b = {0};
    if (v.type == T_STR) return v_of_str(v.s);
    if (IS_ERR(v) || !write_str(r, &b, v)) return v_err();
    return sb_val(r, &b);
}

val soft_str(rt *r, val v)
{
    return v.type == T_STR ? v : to_str(r, v);
}

static const char *object_type_repr(val v)
{
    switch ((vtype)v.type) {
    case T_NONE: return "None";
    case T_UNDEF: return "jinja2.runtime.Undefined object";
    case T_MACRO: return "jinja2.runtime.Macro object";
    case T_LOOP: return "jinja2.runtime.LoopContext object";
    case T_SELF: return "jinja2.runtime.TemplateReference object";
    case T_BLOCKREF: return "jinja2.runtime.BlockReference object";
    case T_CYCLER: return "jinja2.utils.Cycler object";
    case T_JOINER: return "jinja2.utils.Joiner object";
    case T_NAMESPACE: return "transformers.utils.chat_template_utils.TemplateNamespace object";
    default: return NULL;
    }
}

const char *undef_message(rt *r, const undef *u)
{
    sb b = {0}, name = {0};
    const char *type;
    val t;

    if (u->hint && *u->hint) return u->hint;
    if (!write_repr(r, &name, u->name)) return "undefined";
    if (u->obj.type == T_MISSING) {
        sb_add(r, &b, name.p, name.n);
        sb_str(r, &b, " is undefined");
    } else {
        bool attr = u->name.type == T_STR;
        type = object_type_repr(u->obj);
        if (is_markup(u->obj)) type = "markupsafe.Markup object";
        if (attr) sb_char(r, &b, '\'');
        sb_str(r, &b, type ? type : type_name(u->obj));
        if (!type) sb_str(r, &b, " object");
        if (attr) sb_char(r, &b, '\'');
        sb_str(r, &b, attr ? " has no attribute " : " has no element ");
        sb_add(r, &b, name.p, name.n);
    }
    sb_char(r, &b, '\0');
    t = sb_val(r, &b);
    return IS_ERR(t) ? "undefined" : t.s->s;
}

val raise_undef(rt *r, const undef *u)
{
    const char *m = undef_message(r, u);
    return raise(r, u->exc, "%s", m);
}

bool write_escaped(rt *r, sb *b, const char *s, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        const char *e;
        switch (s[i]) {
        case '&': e = "&amp;"; break;
        case '<': e = "&lt;"; break;
        case '>': e = "&gt;"; break;
        case '\'': e = "&#39;"; break;
        case '"': e = "&#34;"; break;
        default: continue;
        }
        sb_add(r, b, s + from, i - from);
        sb_str(r, b, e);
        from = i + 1;
    }
    sb_add(r, b, s + from, n - from);
    return !b->failed;
}

val escape_html(rt *r, val v)
{
    sb b = {0};
    val s;
    if (is_markup(v)) return v;
    s = to_str(r, v);
    if (IS_ERR(s) || !write_escaped(r, &b, s.s->s, s.s->n)) return v_err();
    return v_markup(sb_val(r, &b));
}

/* ---- equality and order ---- */

bool same(val a, val b)
{
    if (a.type != b.type) return false;
    switch ((vtype)a.type) {
    case T_NONE: return true;
    case T_BOOL:
    case T_INT: return a.i == b.i;
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): the bits are meant: a NaN is itself, -0 is not 0 */
    case T_FLOAT: return memcmp(&a.f, &b.f, sizeof a.f) == 0;
    case T_STR: return a.flag == b.flag && str_eq(a.s, b.s); /* equal literals are one object, mostly */
    case T_TUPLE: return a.l == b.l || (a.l->n == 0 && b.l->n == 0);
    case T_VIEW: return false;
    case T_METHOD: return false;
    default: return a.u == b.u;
    }
}

static int compare_int_float(int64_t i, double f) /* -1, 0, 1; 2: not ordered */
{
    double d;
    if (isnan(f)) return 2;
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    d = trunc(f);
    if (i != (int64_t)d) return i < (int64_t)d ? -1 : 1;
    return f > d ? -1 : f < d ? 1 : 0;
}

static int compare_numbers(val a, val b)
{
    if (a.type != T_FLOAT && b.type != T_FLOAT) return a.i < b.i ? -1 : a.i > b.i;
    if (a.type == T_FLOAT && b.type == T_FLOAT) {
        if (isnan(a.f) || isnan(b.f)) return 2;
        return a.f < b.f ? -1 : a.f > b.f;
    }
    if (a.type == T_FLOAT) {
        int c = compare_int_float(b.i, a.f);
        return c == 2 ? 2 : -c;
    }
    return compare_int_float(a.i, b.f);
}

static int compare_strs(const str *a, const str *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int c = n ? memcmp(a->s, b->s, n) : 0; /* the order of UTF-8 bytes is that of code points */
    if (c) return c < 0 ? -1 : 1;
    return a->n < b->n ? -1 : a->n > b->n;
}

static int equal_lists(rt *r, const list *a, const list *b)
{
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n; i++) {
        int eq = same(a->v[i], b->v[i]) ? 1 : equal(r, a->v[i], b->v[i]);
        if (eq <= 0) return eq;
    }
    return 1;
}

static int equal_dicts(rt *r, const dict *a, const dict *b)
{
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n; i++) {
        val other;
        int found = dict_get(r, b, a->e[i].key, &other), eq;
        if (found <= 0) return found;
        eq = same(a->e[i].value, other) ? 1 : equal(r, a->e[i].value, other);
        if (eq <= 0) return eq;
    }
    return 1;
}

static int equal_views(rt *r, val a, val b)
{
    if (a.flag == VIEW_VALUES || b.flag == VIEW_VALUES) return a.d == b.d && a.flag == b.flag ? 0 : 0;
    if (a.d->n != b.d->n) return 0;
    if (a.flag != b.flag) return a.d->n == 0;
    if (a.flag == VIEW_ITEMS) return equal_dicts(r, a.d, b.d);
    for (size_t i = 0; i < a.d->n; i++) {
        val other;
        int found = dict_get(r, b.d, a.d->e[i].key, &other);
        if (found <= 0) return found;
    }
    return 1;
}

int equal(rt *r, val a, val b)
{
    int eq;
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return 0;
    switch ((vtype)a.type) {
    case T_STR:
    case T_BYTES:
        if (a.s->n == b.s->n && a.s->n >= 1024 && !step(r, a.s->n >> 10)) return -1;
        return str_eq(a.s, b.s);
    case T_NONE:
    case T_UNDEF: return 1;
    case T_LIST:
    case T_TUPLE:
    case T_DICT:
    case T_VIEW:
        if (a.type != T_VIEW && a.l == b.l && a.type != T_DICT) return 1;
        if (!value_enter(r)) return -1;
        if (a.type == T_DICT)
            eq = equal_dicts(r, a.d, b.d);
        else if (a.type == T_VIEW)
            eq = equal_views(r, a, b);
        else
            eq = equal_lists(r, a.l, b.l);
        value_leave(r);
        return eq;
    case T_RANGE:
        if (a.range->n != b.range->n) return 0;
        if (a.range->n == 0) return 1;
        return a.range->start == b.range->start && (a.range->n == 1 || a.range->step == b.range->step);
    case T_METHOD: return a.m->fn == b.m->fn && same(a.m->self, b.m->self);
    case T_SLICE:
        eq = equal(r, a.sl->start, b.sl->start);
        if (eq == 1) eq = equal(r, a.sl->stop, b.sl->stop);
        return eq == 1 ? equal(r, a.sl->step, b.sl->step) : eq;
    default: return same(a, b);
    }
}

static const char *const op_text[] = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"};

static int by_order(cmp_op op, int c)
{
    if (c == 2) return 0;
    switch (op) {
    case CMP_LT: return c < 0;
    case CMP_LE: return c <= 0;
    case CMP_GT: return c > 0;
    default: return c >= 0;
    }
}

static int compare_lists(rt *r, cmp_op op, const list *a, const list *b)
{
    size_t i, n = a->n < b->n ? a->n : b->n;
    for (i = 0; i < n; i++) {
        int eq = same(a->v[i], b->v[i]) ? 1 : equal(r, a->v[i], b->v[i]);
        if (eq < 0) return -1;
        if (!eq) return compare(r, op, a->v[i], b->v[i]);
    }
    return by_order(op, a->n < b->n ? -1 : a->n > b->n);
}

int compare(rt *r, cmp_op op, val a, val b)
{
    int c;
    switch (op) {
    case CMP_EQ: return equal(r, a, b);
    case CMP_NE: c = equal(r, a, b); return c < 0 ? c : !c;
    case CMP_IN: return contains(r, b, a);
    case CMP_NOTIN: c = contains(r, b, a); return c < 0 ? c : !c;
    default: break;
    }
    if (is_number(a) && is_number(b)) return by_order(op, compare_numbers(a, b));
    if (a.type == T_UNDEF || b.type == T_UNDEF) {
        raise_undef(r, a.type == T_UNDEF ? a.u : b.u);
        return -1;
    }
    if (a.type == b.type && (a.type == T_STR || a.type == T_BYTES))
        return by_order(op, compare_strs(a.s, b.s));
    if (a.type == b.type && (a.type == T_LIST || a.type == T_TUPLE)) {
        if (!value_enter(r)) return -1;
        c = compare_lists(r, op, a.l, b.l);
        value_leave(r);
        return c;
    }
    if (a.type == T_VIEW && b.type == T_VIEW && a.flag != VIEW_VALUES && b.flag != VIEW_VALUES) {
        /* subset and superset */
        val small = op == CMP_LT || op == CMP_LE ? a : b, large = op == CMP_LT || op == CMP_LE ? b : a;
        iter it;
        val x;
        if ((op == CMP_LT || op == CMP_GT) ? small.d->n >= large.d->n : small.d->n > large.d->n) return 0;
        if (!iter_init(r, &it, small)) return -1;
        while ((c = iter_next(r, &it, &x)) > 0) {
            c = contains(r, large, x);
            if (c <= 0) return c;
        }
        return c < 0 ? -1 : 1;
    }
    raise(r, EXC_TYPE, "'%s' not supported between instances of '%s' and '%s'", op_text[op], type_name(a),
          type_name(b));
    return -1;
}

int contains(rt *r, val seq, val x)
{
    val got;
    int c;
    switch ((vtype)seq.type) {
    case T_STR:
        if (x.type != T_STR) {
            raise(r, EXC_TYPE, "'in <string>' requires string as left operand, not %s", type_name(x));
            return -1;
        }
        if (!step(r, seq.s->n >> 8)) return -1;
        return bytes_find(seq.s->s, seq.s->n, x.s->s, x.s->n) != SIZE_MAX;
    case T_LIST:
    case T_TUPLE:
        if (!step(r, seq.l->n)) return -1;
        for (size_t i = 0; i < seq.l->n; i++) {
            c = same(seq.l->v[i], x) ? 1 : equal(r, seq.l->v[i], x);
            if (c) return c;
        }
        return 0;
    case T_DICT: return dict_get(r, seq.d, x, &got);
    case T_VIEW:
        if (seq.flag == VIEW_KEYS) return dict_get(r, seq.d, x, &got);
        if (seq.flag == VIEW_ITEMS) {
            if (x.type != T_TUPLE || x.l->n != 2) return 0;
            c = dict_get(r, seq.d, x.l->v[0], &got);
            return c > 0 ? equal(r, got, x.l->v[1]) : c;
        }
        for (size_t i = 0; i < seq.d->n; i++) {
            c = equal(r, seq.d->e[i].value, x);
            if (c) return c;
        }
        return 0;
    case T_RANGE:
        if (x.type == T_FLOAT && x.f == trunc(x.f) && fabs(x.f) < 9e18) x = v_int((int64_t)x.f);
        if (!is_int_like(x)) return 0;
        {
            const range *g = seq.range;
            __int128 off = (__int128)x.i - g->start;
            return g->n && off % g->step == 0 && off / g->step >= 0 && off / g->step < (__int128)g->n;
        }
    case T_UNDEF: return 0;
    case T_ITER:
    case T_LOOP: {
        iter it;
        if (!iter_init(r, &it, seq)) return -1;
        while ((c = iter_next(r, &it, &got)) > 0) {
            if (!step(r, 1)) return -1;
            c = equal(r, got, x);
            if (c) return c;
        }
        return c;
    }
    case T_ERROR: return -1;
    default: raise(r, EXC_TYPE, "argument of type '%s' is not iterable", type_name(seq)); return -1;
    }
}

static uint64_t hash_mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

bool hash_value(rt *r, val v, uint64_t *h)
{
    switch ((vtype)v.type) {
    case T_STR:
    case T_BYTES: *h = str_hash(v.s); return true;
    case T_BOOL:
    case T_INT: *h = hash_mix(1, (uint64_t)v.i); return true;
    case T_FLOAT:
        if (v.f == trunc(v.f) && fabs(v.f) < 9.2e18) {
            *h = hash_mix(1, (uint64_t)(int64_t)v.f);
        } else {
            uint64_t bits;
            memcpy(&bits, &v.f, sizeof bits);
            *h = hash_mix(2, bits);
        }
        return true;
    case T_NONE: *h = 3; return true;
    case T_UNDEF: *h = 4; return true;
    case T_TUPLE: {
        bool ok = true;
        *h = 5;
        if (!value_enter(r)) return false;
        for (size_t i = 0; ok && i < v.l->n; i++) {
            uint64_t k;
            ok = hash_value(r, v.l->v[i], &k);
            if (ok) *h = hash_mix(*h, k);
        }
        value_leave(r);
        return ok;
    }
    case T_RANGE: *h = hash_mix(6, v.range->n); return true;
    case T_LIST:
    case T_DICT:
    case T_SLICE:
    case T_VIEW:
        if (v.type == T_VIEW && v.flag == VIEW_VALUES) break;
        raise(r, EXC_TYPE, "unhashable type: '%s'", type_name(v));
        return false;
    case T_ERROR: return false;
    default: break;
    }
    *h = hash_mix(7, (uint64_t)(uintptr_t)v.u);
    return true;
}

int64_t length_of(rt *r, val v)
{
    switch ((vtype)v.type) {
    case T_STR: return (int64_t)str_len(v.s);
    case T_BYTES: return (int64_t)v.s->n;
    case T_LIST:
    case T_TUPLE: return (int64_t)v.l->n;
    case T_DICT:
    case T_VIEW: return (int64_t)v.d->n;
    case T_RANGE: return (int64_t)v.range->n;
    case T_UNDEF: return 0;
    case T_LOOP: {
        loop *l = v.loop;
        if (l->length < 0) {
            if (l->iterable.type != T_ITER && is_iterable(l->iterable)) {
                l->length = length_of(r, l->iterable);
            } else {
                /* no length of its own: what is left is read now and iterated later */
                list *rest = list_new(r, 8);
                val x;
                int c;
                if (!rest) return -1;
                while ((c = iter_next(r, &l->it, &x)) > 0)
                    if (!step(r, 1) || !list_add(r, rest, x)) return -1;
                if (c < 0 || !iter_init(r, &l->it, v_of_list(rest))) return -1;
                l->length = (int64_t)rest->n + l->index0 + 1 + (l->after.type != T_MISSING);
            }
        }
        return l->length;
    }
    case T_ERROR: return -1;
    default: raise(r, EXC_TYPE, "object of type '%s' has no len()", type_name(v)); return -1;
    }
}

/* ---- JSON ---- */

val v_from_json(rt *r, json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_NULL: return v_none();
    case JSON_TRUE: return v_bool(true);
    case JSON_FALSE: return v_bool(false);
    case JSON_INTEGER: return v_int(json_integer_value(j));
    case JSON_REAL: return v_float(json_real_value(j));
    case JSON_STRING: return v_str_borrow(r, json_string_value(j), json_string_length(j));
    case JSON_ARRAY: {
        size_t n = json_array_size(j);
        list *l = list_new(r, n);
        if (!l || !value_enter(r)) return v_err();
        for (size_t i = 0; i < n; i++) {
            l->v[i] = v_from_json(r, json_array_get(j, i));
            if (IS_ERR(l->v[i])) return v_err();
        }
        l->n = n;
        value_leave(r);
        return v_of_list(l);
    }
    case JSON_OBJECT: {
        dict *d = dict_new(r, json_object_size(j));
        const char *key;
        json_t *x;
        if (!d || !value_enter(r)) return v_err();
        json_object_foreach(j, key, x)
        {
            val k = v_str_borrow(r, key, strlen(key)), v = v_from_json(r, x);
            if (IS_ERR(k) || IS_ERR(v) || !dict_put(r, d, k, v)) return v_err();
        }
        value_leave(r);
        return v_of_dict(d);
    }
    }
    return v_none();
}
