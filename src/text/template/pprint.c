/* The pprint filter: Python's pprint.pformat with a width of 80 and sorted dicts. */
#include "text/template/filters.h"

enum { WIDTH = 80 };

typedef struct pp {
    rt *r;
    sb b;
} pp;

static bool put(pp *p, val v, int64_t indent, int64_t allowance, int level);

/* Order of dict items: by "<" where it works, else by the type's name. */
static int safe_less(rt *r, val a, val b)
{
    int c = compare(r, CMP_LT, a, b);
    if (c >= 0) return c;
    if (r->exc.kind != EXC_TYPE) return -1;
    clear_exc(r);
    return strcmp(type_name(a), type_name(b)) < 0;
}

static bool sorted_entries(rt *r, const dict *d, size_t **out)
{
    size_t *o = rt_alloc_array(r, d->n + 1, sizeof *o);
    if (!o || !step(r, d->n)) return false;
    for (size_t i = 0; i < d->n; i++) {
        size_t k = i;
        while (k > 0) {
            int c = step(r, 1) ? safe_less(r, d->e[i].key, d->e[o[k - 1]].key) : -1;
            if (c < 0) return false;
            if (!c) break;
            o[k] = o[k - 1];
            k--;
        }
        o[k] = i;
    }
    *out = o;
    return true;
}

/* repr with the dicts sorted */
static bool sorted_repr(rt *r, sb *b, val v)
{
    bool ok = true;
    if (v.type != T_DICT && v.type != T_LIST && v.type != T_TUPLE) return write_repr(r, b, v);
    if (!value_enter(r)) return false;
    if (v.type == T_DICT) {
        size_t *o = NULL;
        ok = sorted_entries(r, v.d, &o);
        sb_char(r, b, '{');
        for (size_t i = 0; ok && i < v.d->n; i++) {
            if (i) sb_add(r, b, ", ", 2);
            ok = sorted_repr(r, b, v.d->e[o[i]].key);
            sb_add(r, b, ": ", 2);
            ok = ok && sorted_repr(r, b, v.d->e[o[i]].value);
        }
        sb_char(r, b, '}');
    } else {
        sb_char(r, b, v.type == T_LIST ? '[' : '(');
        for (size_t i = 0; ok && i < v.l->n; i++) {
            if (i) sb_add(r, b, ", ", 2);
            ok = sorted_repr(r, b, v.l->v[i]);
        }
        if (v.type == T_TUPLE && v.l->n == 1) sb_char(r, b, ',');
        sb_char(r, b, v.type == T_LIST ? ']' : ')');
    }
    value_leave(r);
    return ok && !b->failed;
}

static int64_t chars(const sb *b)
{
    int64_t n = 0;
    for (size_t i = 0; i < b->n; i++) n += ((unsigned char)b->p[i] & 0xc0) != 0x80;
    return n;
}

static void newline(pp *p, int64_t indent)
{
    sb_char(p->r, &p->b, '\n');
    sb_fill(p->r, &p->b, ' ', (size_t)indent);
}

static bool put_items(pp *p, const list *l, int64_t indent, int64_t allowance, int level)
{
    indent++;
    for (size_t i = 0; i < l->n; i++) {
        if (i) {
            sb_char(p->r, &p->b, ',');
            newline(p, indent);
        }
        if (!put(p, l->v[i], indent, i + 1 == l->n ? allowance : 1, level)) return false;
    }
    return true;
}

static bool put_dict(pp *p, const dict *d, int64_t indent, int64_t allowance, int level)
{
    size_t *o;
    if (!sorted_entries(p->r, d, &o)) return false;
    indent++;
    for (size_t i = 0; i < d->n; i++) {
        const entry *e = &d->e[o[i]];
        sb key = {0};
        if (i) {
            sb_char(p->r, &p->b, ',');
            newline(p, indent);
        }
        if (!sorted_repr(p->r, &key, e->key)) return false;
        sb_add(p->r, &p->b, key.p, key.n);
        sb_add(p->r, &p->b, ": ", 2);
        if (!put(p, e->value, indent + chars(&key) + 2, i + 1 == d->n ? allowance : 1, level)) return false;
    }
    return true;
}

/* A long string in pieces, one a line; level 1 is a string on its own. */
static bool put_str(pp *p, const str *s, int64_t indent, int64_t allowance, int level)
{
    rt *r = p->r;
    list *chunks = list_new(r, 8);
    line_iter it = {.s = s->s, .n = s->n};
    size_t from, to, keep;
    int64_t width, width1;
    sb rep = {0};

    if (!chunks) return false;
    if (level == 1) {
        indent++;
        allowance++;
    }
    width = width1 = WIDTH - indent;
    while (line_next(&it, &from, &to, &keep)) {
        bool last = it.at >= it.n;
        str line = {.s = s->s + from, .n = keep - from, .n_chars = SIZE_MAX};
        rep = (sb){0};
        write_str_repr(r, &rep, &line);
        if (last) width1 -= allowance;
        if (rep.failed) return false;
        if (chars(&rep) <= width1) {
            if (!list_add(r, chunks, sb_val(r, &rep))) return false;
        } else {
            int64_t width2 = width;
            size_t cur = 0, end = 0; /* the piece so far is line[cur, end) */
            while (end < line.n) {
                size_t k = end, j;
                sb t = {0};
                str cand;
                while (k < line.n) {
                    j = k;
                    if (cp_is_space(next_cp(line.s, line.n, &j))) break;
                    k = j;
                }
                while (k < line.n) {
                    j = k;
                    if (!cp_is_space(next_cp(line.s, line.n, &j))) break;
                    k = j;
                }
                if (k == line.n && last) width2 -= allowance;
                cand = (str){.s = line.s + cur, .n = k - cur, .n_chars = SIZE_MAX};
                if (!step(r, cand.n / 64 + 1)) return false;
                write_str_repr(r, &t, &cand);
                if (t.failed) return false;
                if (chars(&t) > width2) {
                    if (end > cur) {
                        sb u = {0};
                        cand.n = end - cur;
                        write_str_repr(r, &u, &cand);
                        if (!list_add(r, chunks, sb_val(r, &u))) return false;
                    }
                    cur = end;
                }
                end = k;
            }
            if (end > cur) {
                sb u = {0};
                str piece = {.s = line.s + cur, .n = end - cur, .n_chars = SIZE_MAX};
                write_str_repr(r, &u, &piece);
                if (!list_add(r, chunks, sb_val(r, &u))) return false;
            }
        }
    }
    if (chunks->n == 1) {
        sb_add(r, &p->b, rep.p, rep.n);
        return !p->b.failed;
    }
    if (level == 1) sb_char(r, &p->b, '(');
    for (size_t i = 0; i < chunks->n; i++) {
        if (i) newline(p, indent);
        sb_add(r, &p->b, chunks->v[i].s->s, chunks->v[i].s->n);
    }
    if (level == 1) sb_char(r, &p->b, ')');
    return !p->b.failed;
}

static bool put(pp *p, val v, int64_t indent, int64_t allowance, int level)
{
    sb rep = {0};
    bool ok;
    if (!sorted_repr(p->r, &rep, v)) return false;
    if (chars(&rep) <= WIDTH - indent - allowance || is_markup(v) ||
        (v.type != T_DICT && v.type != T_LIST && v.type != T_TUPLE && v.type != T_STR)) {
        sb_add(p->r, &p->b, rep.p, rep.n);
        return !p->b.failed;
    }
    if (!value_enter(p->r)) return false;
    level++;
    switch ((vtype)v.type) {
    case T_STR:
        if (v.s->n)
            ok = put_str(p, v.s, indent, allowance, level);
        else
            ok = write_repr(p->r, &p->b, v);
        break;
    case T_DICT:
        sb_char(p->r, &p->b, '{');
        ok = put_dict(p, v.d, indent, allowance + 1, level);
        sb_char(p->r, &p->b, '}');
        break;
    default: {
        bool one = v.type == T_TUPLE && v.l->n == 1;
        sb_char(p->r, &p->b, v.type == T_LIST ? '[' : '(');
        ok = put_items(p, v.l, indent, allowance + (one ? 2 : 1), level);
        if (one) sb_char(p->r, &p->b, ',');
        sb_char(p->r, &p->b, v.type == T_LIST ? ']' : ')');
        break;
    }
    }
    value_leave(p->r);
    return ok && !p->b.failed;
}

val f_pprint(rt *r, val self, val *a, const args *raw)
{
    pp p = {.r = r};
    (void)a;
    (void)raw;
    if (!put(&p, self, 0, 0, 0)) return v_err();
    return sb_val(r, &p.b);
}
