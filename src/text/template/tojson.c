/* json.dumps, as transformers' tojson filter calls it. */
#include <math.h>
#include <stdio.h>

#include "text/template/template.h"

typedef struct dump {
    rt *r;
    sb b;
    bool ascii, sort, pretty;
    const str *item_sep, *key_sep;
    const char *indent; /* one level */
    size_t n_indent;
} dump;

static bool dump_value(dump *d, val v, size_t level);

static void dump_str(dump *d, const str *s)
{
    size_t from = 0;
    char buf[16];
    sb_char(d->r, &d->b, '"');
    for (size_t i = 0; i < s->n;) {
        unsigned char c = (unsigned char)s->s[i];
        size_t at = i;
        uint32_t cp;
        if (c >= 0x20 && c != '"' && c != '\\' && (!d->ascii || c < 0x7f)) {
            i++;
            continue;
        }
        cp = next_cp(s->s, s->n, &i);
        sb_add(d->r, &d->b, s->s + from, at - from);
        from = i;
        switch (cp) {
        case '"': sb_add(d->r, &d->b, "\\\"", 2); continue;
        case '\\': sb_add(d->r, &d->b, "\\\\", 2); continue;
        case '\n': sb_add(d->r, &d->b, "\\n", 2); continue;
        case '\r': sb_add(d->r, &d->b, "\\r", 2); continue;
        case '\t': sb_add(d->r, &d->b, "\\t", 2); continue;
        case '\f': sb_add(d->r, &d->b, "\\f", 2); continue;
        case '\b': sb_add(d->r, &d->b, "\\b", 2); continue;
        default: break;
        }
        if (cp >= 0x10000)
            snprintf(buf, sizeof buf, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                     0xdc00 + (cp & 0x3ff));
        else
            snprintf(buf, sizeof buf, "\\u%04x", cp);
        sb_str(d->r, &d->b, buf);
    }
    sb_add(d->r, &d->b, s->s + from, s->n - from);
    sb_char(d->r, &d->b, '"');
}

static void dump_float(dump *d, double f)
{
    if (isnan(f))
        sb_str(d->r, &d->b, "NaN");
    else if (isinf(f))
        sb_str(d->r, &d->b, f < 0 ? "-Infinity" : "Infinity");
    else
        write_float_repr(d->r, &d->b, f);
}

static bool dump_key(dump *d, val k)
{
    switch ((vtype)k.type) {
    case T_STR: dump_str(d, k.s); return true;
    case T_BOOL: sb_str(d->r, &d->b, k.i ? "\"true\"" : "\"false\""); return true;
    case T_NONE: sb_str(d->r, &d->b, "\"null\""); return true;
    case T_INT:
    case T_FLOAT:
        sb_char(d->r, &d->b, '"');
        if (k.type == T_INT)
            write_repr(d->r, &d->b, k);
        else
            dump_float(d, k.f);
        sb_char(d->r, &d->b, '"');
        return true;
    default:
        raise(d->r, EXC_TYPE, "keys must be str, int, float, bool or None, not %s", type_name(k));
        return false;
    }
}

static void newline(dump *d, size_t level)
{
    sb_char(d->r, &d->b, '\n');
    for (size_t i = 0; i < level; i++) sb_add(d->r, &d->b, d->indent, d->n_indent);
}

static bool dump_dict(dump *d, const dict *x, size_t level)
{
    val *keys = NULL, *order = NULL;
    if (x->n == 0) {
        sb_add(d->r, &d->b, "{}", 2);
        return true;
    }
    if (d->sort) {
        keys = rt_alloc_array(d->r, x->n, sizeof *keys);
        order = rt_alloc_array(d->r, x->n, sizeof *order);
        if (!keys || !order) return false;
        for (size_t i = 0; i < x->n; i++) {
            keys[i] = x->e[i].key;
            order[i] = v_int((int64_t)i);
        }
        if (!sort_values(d->r, order, keys, x->n, false)) return false;
    }
    sb_char(d->r, &d->b, '{');
    for (size_t i = 0; i < x->n; i++) {
        const entry *e = &x->e[order ? (size_t)order[i].i : i];
        if (i) sb_add(d->r, &d->b, d->item_sep->s, d->item_sep->n);
        if (d->pretty) newline(d, level + 1);
        if (!dump_key(d, e->key)) return false;
        sb_add(d->r, &d->b, d->key_sep->s, d->key_sep->n);
        if (!dump_value(d, e->value, level + 1)) return false;
    }
    if (d->pretty) newline(d, level);
    sb_char(d->r, &d->b, '}');
    return true;
}

static bool dump_list(dump *d, const list *l, size_t level)
{
    if (l->n == 0) {
        sb_add(d->r, &d->b, "[]", 2);
        return true;
    }
    sb_char(d->r, &d->b, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i) sb_add(d->r, &d->b, d->item_sep->s, d->item_sep->n);
        if (d->pretty) newline(d, level + 1);
        if (!dump_value(d, l->v[i], level + 1)) return false;
    }
    if (d->pretty) newline(d, level);
    sb_char(d->r, &d->b, ']');
    return true;
}

static bool dump_value(dump *d, val v, size_t level)
{
    bool ok;
    if (d->b.failed) return false;
    switch ((vtype)v.type) {
    case T_STR: dump_str(d, v.s); break;
    case T_NONE: sb_add(d->r, &d->b, "null", 4); break;
    case T_BOOL: sb_str(d->r, &d->b, v.i ? "true" : "false"); break;
    case T_INT: return write_repr(d->r, &d->b, v);
    case T_FLOAT: dump_float(d, v.f); break;
    case T_LIST:
    case T_TUPLE:
    case T_DICT:
        if (!value_enter(d->r)) return false;
        ok = v.type == T_DICT ? dump_dict(d, v.d, level) : dump_list(d, v.l, level);
        value_leave(d->r);
        return ok && !d->b.failed;
    case T_ERROR: return false;
    default: raise(d->r, EXC_TYPE, "Object of type %s is not JSON serializable", type_name(v)); return false;
    }
    return !d->b.failed;
}

static str literal(const char *s)
{
    return (str){.s = s, .n = strlen(s), .n_chars = SIZE_MAX};
}

val tojson_value(rt *r, val v, bool ensure_ascii, val indent, val separators, bool sort_keys)
{
    str comma = literal(", "), comma_nl = literal(","), colon = literal(": ");
    dump d = {.r = r, .ascii = ensure_ascii, .sort = sort_keys, .item_sep = &comma, .key_sep = &colon};

    if (indent.type != T_NONE && indent.type != T_MISSING) {
        d.pretty = true;
        d.item_sep = &comma_nl;
        if (indent.type == T_STR) {
            d.indent = indent.s->s;
            d.n_indent = indent.s->n;
        } else {
            val spaces = arith(r, N_MUL, v_cstr(r, " "), indent);
            if (IS_ERR(spaces)) return spaces;
            d.indent = spaces.s->s;
            d.n_indent = spaces.s->n;
        }
    }
    if (separators.type != T_NONE && separators.type != T_MISSING) {
        list *l = list_from(r, separators);
        if (!l) return v_err();
        if (l->n != 2)
            return raise(r, EXC_VALUE,
                         l->n < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                  : "too many values to unpack (expected 2)",
                         l->n);
        if (l->v[0].type != T_STR || l->v[1].type != T_STR)
            return raise(r, EXC_TYPE, "make_encoder() argument must be str, not %s",
                         type_name(l->v[0].type != T_STR ? l->v[0] : l->v[1]));
        d.item_sep = l->v[0].s;
        d.key_sep = l->v[1].s;
    }
    if (!dump_value(&d, v, 0)) return v_err();
    return sb_val(r, &d.b);
}
