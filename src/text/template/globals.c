/* The functions every template sees: range, dict, namespace, cycler, joiner, lipsum, raise_exception, strftime_now. */
#include <stdio.h>
#include <time.h>

#include "text/template/template.h"

enum { MAX_RANGE = 100000 };

static val g_range(rt *r, val self, val *a, const args *raw)
{
    int64_t x[3] = {0, 0, 1};
    val v = {.type = T_RANGE};
    __int128 n = 0, span;
    (void)self;
    (void)a;
    if (raw->n_kw) return raise(r, EXC_TYPE, "safe_range() got an unexpected keyword argument");
    if (raw->n < 1) return raise(r, EXC_TYPE, "range expected at least 1 argument, got 0");
    if (raw->n > 3) return raise(r, EXC_TYPE, "range expected at most 3 arguments, got %zu", raw->n);
    for (size_t i = 0; i < raw->n; i++)
        if (!index_of(r, raw->pos[i], &x[raw->n == 1 ? 1 : i])) return v_err();
    if (x[2] == 0) return raise(r, EXC_VALUE, "range() arg 3 must not be zero");
    span = (__int128)x[1] - x[0];
    if (x[2] > 0 && span > 0) n = (span - 1) / x[2] + 1;
    if (x[2] < 0 && span < 0) n = (-span - 1) / -(__int128)x[2] + 1;
    if (n > MAX_RANGE)
        return raise(r, EXC_OVERFLOW, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                     MAX_RANGE);
    v.range = rt_alloc(r, sizeof *v.range);
    if (!v.range) return v_err();
    *v.range = (range){x[0], x[1], x[2], (size_t)n};
    return v;
}

static bool add_pairs(rt *r, dict *d, val v)
{
    iter it;
    val x;
    int c;
    size_t i = 0;
    if (v.type == T_DICT) {
        for (size_t k = 0; k < v.d->n; k++)
            if (!dict_put(r, d, v.d->e[k].key, v.d->e[k].value)) return false;
        return true;
    }
    if (v.type == T_UNDEF) {
        raise_undef(r, v.u);
        return false;
    }
    if (!iter_init(r, &it, v)) return false;
    while ((c = iter_next(r, &it, &x)) > 0) {
        list *l;
        if (!is_iterable(x)) {
            raise(r, EXC_TYPE, "cannot convert dictionary update sequence element #%zu to a sequence", i);
            return false;
        }
        l = list_from(r, x);
        if (!l) return false;
        if (l->n != 2) {
            raise(r, EXC_VALUE, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                  l->n);
            return false;
        }
        if (!step(r, 1) || !dict_put(r, d, l->v[0], l->v[1])) return false;
        i++;
    }
    return c == 0;
}

val dict_construct(rt *r, const args *a, const char *what)
{
    dict *d = dict_new(r, a->n_kw);
    if (!d) return v_err();
    if (a->n > 1) return raise(r, EXC_TYPE, "%s expected at most 1 argument, got %zu", what, a->n);
    if (a->n && !add_pairs(r, d, a->pos[0])) return v_err();
    for (size_t i = 0; i < a->n_kw; i++)
        if (!dict_put(r, d, v_of_str(a->kw_name[i]), a->kw[i])) return v_err();
    return v_of_dict(d);
}

static val g_dict(rt *r, val self, val *a, const args *raw)
{
    (void)self;
    (void)a;
    return dict_construct(r, raw, "dict");
}

static val g_namespace(rt *r, val self, val *a, const args *raw)
{
    val v = dict_construct(r, raw, "dict");
    (void)self;
    (void)a;
    if (IS_ERR(v)) return v;
    for (size_t i = 0; i < v.d->n; i++) {
        val k = v.d->e[i].key;
        if (k.type != T_STR || !k.s->n || k.s->s[0] != '_') continue;
        return raise(
            r, EXC_SECURITY,
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. "
            "Please rename the attribute.",
            (int)(k.s->n < 100 ? k.s->n : 100), k.s->s);
    }
    v.type = T_NAMESPACE;
    return v;
}

static val g_cycler(rt *r, val self, val *a, const args *raw)
{
    val v = {.type = T_CYCLER};
    (void)self;
    (void)a;
    if (raw->n_kw) return raise(r, EXC_TYPE, "Cycler.__init__() got an unexpected keyword argument");
    if (!raw->n) return raise(r, EXC_RUNTIME, "at least one item has to be provided");
    v.cy = rt_alloc(r, sizeof *v.cy);
    if (!v.cy) return v_err();
    v.cy->pos = 0;
    v.cy->items = list_new(r, raw->n);
    if (!v.cy->items) return v_err();
    memcpy(v.cy->items->v, raw->pos, raw->n * sizeof(val));
    v.cy->items->n = raw->n;
    return v;
}

static val g_joiner(rt *r, val self, val *a, const args *raw)
{
    val v = {.type = T_JOINER};
    (void)self;
    (void)raw;
    v.jo = rt_alloc(r, sizeof *v.jo);
    if (!v.jo) return v_err();
    v.jo->used = false;
    v.jo->sep = a[0].type == T_MISSING ? v_cstr(r, ", ") : a[0];
    return v;
}

/* Filler text. Which words come is up to chance in the reference too. */
static val g_lipsum(rt *r, val self, val *a, const args *raw)
{
    static const char *const words[] = {"lorem", "ipsum", "dolor", "sit", "amet", "tempus", "vitae", "massa"};
    int64_t n = 5, min = 20, max = 100;
    bool html = true;
    sb b = {0};
    val v;
    (void)self;
    (void)raw;
    if (a[0].type != T_MISSING && !index_of(r, a[0], &n)) return v_err();
    if (a[1].type != T_MISSING && !truthy(r, a[1], &html)) return v_err();
    if (a[2].type != T_MISSING && !index_of(r, a[2], &min)) return v_err();
    if (a[3].type != T_MISSING && !index_of(r, a[3], &max)) return v_err();
    if (n > 0 && min >= max) return raise(r, EXC_VALUE, "empty range for randrange()");
    for (int64_t i = 0; i < n && !b.failed; i++) {
        int64_t k = 0;
        if (i) sb_str(r, &b, html ? "\n" : "\n\n");
        if (html) sb_str(r, &b, "<p>");
        for (; k < min && !b.failed; k++) {
            const char *w = words[(size_t)(i + k) % MLXR_COUNT(words)];
            if (!step(r, 1)) return v_err();
            if (k) sb_char(r, &b, ' ');
            if (k == 0) sb_char(r, &b, (char)(w[0] - 32));
            sb_str(r, &b, k == 0 ? w + 1 : w);
        }
        sb_char(r, &b, '.');
        if (html) sb_str(r, &b, "</p>");
    }
    v = sb_val(r, &b);
    return html ? v_markup(v) : v;
}

static val g_raise(rt *r, val self, val *a, const args *raw)
{
    val s = to_str(r, a[0]);
    (void)self;
    (void)raw;
    if (IS_ERR(s)) return s;
    return raise(r, EXC_RAISED, "%.*s", (int)(s.s->n < 2000 ? s.s->n : 2000), s.s->s);
}

static val g_strftime(rt *r, val self, val *a, const args *raw)
{
    time_t t = (time_t)r->now;
    struct tm tm;
    sb fmt = {0}, b = {0};
    (void)self;
    (void)raw;
    if (a[0].type != T_STR)
        return raise(r, EXC_TYPE, "strftime() argument 1 must be str, not %s", type_name(a[0]));
    if (!localtime_r(&t, &tm)) return raise(r, EXC_OVERFLOW, "the time is out of range");
    /* what Python's datetime handles itself: no fraction is known, and the time has no zone */
    for (size_t i = 0; i < a[0].s->n; i++) {
        char c = a[0].s->s[i];
        if (c == '%' && i + 1 < a[0].s->n) {
            char d = a[0].s->s[++i];
            if (d == 'f') {
                sb_str(r, &fmt, "000000");
            } else if (d != 'z' && d != 'Z') {
                sb_char(r, &fmt, '%');
                sb_char(r, &fmt, d);
            }
            continue;
        }
        if (c == '\0') return raise(r, EXC_VALUE, "embedded null character");
        sb_char(r, &fmt, c);
    }
    if (fmt.n == 0) return fmt.failed ? v_err() : v_cstr(r, "");
    sb_char(r, &fmt, '\0');
    if (fmt.failed) return v_err();
    for (size_t cap = fmt.n * 4 + 256; cap <= fmt.n * 1024; cap *= 4) {
        char *p = sb_reserve(r, &b, cap);
        size_t n;
        if (!p) return v_err();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wformat-nonliteral" /* the template's own format; strftime writes within cap */
        n = strftime(p, cap, fmt.p, &tm);
#pragma GCC diagnostic pop
        if (n) {
            size_t ok = mlxr_utf8_valid(p, n);
            b.n = ok;
            return sb_val(r, &b);
        }
    }
    return v_cstr(r, "");
}

static const builtin fn_range = {"safe_range", g_range, 0, 0, BIND_VARARGS, {0}};
static const builtin fn_dict = {"dict", g_dict, 0, 0, BIND_VARARGS, {0}};
static const builtin fn_namespace = {"transformers.utils.chat_template_utils.TemplateNamespace",
                                     g_namespace,
                                     0,
                                     0,
                                     BIND_VARARGS | BIND_CLASS,
                                     {0}};
static const builtin fn_cycler = {"jinja2.utils.Cycler", g_cycler, 0, 0, BIND_VARARGS | BIND_CLASS, {0}};
static const builtin fn_joiner = {"jinja2.utils.Joiner", g_joiner, 0, 1, BIND_CLASS, {"sep"}};
static const builtin fn_lipsum = {"generate_lorem_ipsum", g_lipsum, 0, 4, 0, {"n", "html", "min", "max"}};
static const builtin fn_raise = {"raise_exception", g_raise, 1, 1, 0, {"message"}};
static const builtin fn_strftime = {"strftime_now", g_strftime, 1, 1, 0, {"format"}};

val global_find(str *name)
{
    static const struct {
        const char *name;
        const builtin *fn;
    } table[] = {
        {"range", &fn_range},           {"dict", &fn_dict},
        {"namespace", &fn_namespace},   {"cycler", &fn_cycler},
        {"joiner", &fn_joiner},         {"lipsum", &fn_lipsum},
        {"raise_exception", &fn_raise}, {"strftime_now", &fn_strftime},
    };
    for (size_t i = 0; i < MLXR_COUNT(table); i++)
        if (str_is(name, table[i].name)) {
            val v = {.type = T_FUNC};
            v.fn = table[i].fn;
            return v;
        }
    return v_missing();
}
