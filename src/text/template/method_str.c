/* The methods of str (and of Markup, whose results are Markup again). */
#include <stdio.h>

#include "text/template/template.h"

/* The result as self's type. */
static val like(val self, val v)
{
    return is_markup(self) ? v_markup(v) : v;
}

static bool want_str(rt *r, val v, const char *what)
{
    if (v.type == T_STR) return true;
    if (!IS_ERR(v)) raise(r, EXC_TYPE, "%s must be str, not %s", what, type_name(v));
    return false;
}

static val m_case(rt *r, val self, int how)
{
    return like(self, str_case(r, self.s, how));
}

#define CASE(fn_name, how)                                       \
    static val fn_name(rt *r, val self, val *a, const args *raw) \
    {                                                            \
        (void)a;                                                 \
        (void)raw;                                               \
        return m_case(r, self, how);                             \
    }
CASE(m_upper, 'u')
CASE(m_lower, 'l')
CASE(m_title, 't')
CASE(m_capitalize, 'c')
CASE(m_swapcase, 's')
CASE(m_casefold, 'f')

#define STRIP(fn_name, left, right)                               \
    static val fn_name(rt *r, val self, val *a, const args *raw)  \
    {                                                             \
        (void)raw;                                                \
        return like(self, str_strip(r, self, a[0], left, right)); \
    }
STRIP(m_strip, true, true)
STRIP(m_lstrip, true, false)
STRIP(m_rstrip, false, true)

/* Characters counted by kind, for the is... family. */
static val all_of(val self, bool (*pred)(uint32_t), bool empty)
{
    const str *s = self.s;
    for (size_t i = 0; i < s->n;)
        if (!pred(next_cp(s->s, s->n, &i))) return v_bool(false);
    return v_bool(s->n ? true : empty);
}

static bool is_alnum(uint32_t cp)
{
    return cp_is_alpha(cp) || cp_is_numeric(cp);
}

static bool is_ascii_cp(uint32_t cp)
{
    return cp < 0x80;
}

#define ALL(fn_name, pred, empty)                                \
    static val fn_name(rt *r, val self, val *a, const args *raw) \
    {                                                            \
        (void)r;                                                 \
        (void)a;                                                 \
        (void)raw;                                               \
        return all_of(self, pred, empty);                        \
    }
ALL(m_isalpha, cp_is_alpha, false)
ALL(m_isalnum, is_alnum, false)
ALL(m_isdigit, cp_is_digit, false)
ALL(m_isdecimal, cp_is_decimal, false)
ALL(m_isnumeric, cp_is_numeric, false)
ALL(m_isspace, cp_is_space, false)
ALL(m_isprintable, cp_is_printable, true)
ALL(m_isascii, is_ascii_cp, true)

static val is_cased_as(val self, bool upper)
{
    const str *s = self.s;
    bool any = false;
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = next_cp(s->s, s->n, &i);
        if (cp_is_title(cp) || (upper ? cp_is_lower(cp) : cp_is_upper(cp))) return v_bool(false);
        any |= upper ? cp_is_upper(cp) : cp_is_lower(cp);
    }
    return v_bool(any);
}

static val m_islower(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return is_cased_as(self, false);
}

static val m_isupper(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    return is_cased_as(self, true);
}

static val m_istitle(rt *r, val self, val *a, const args *raw)
{
    const str *s = self.s;
    bool any = false, prev = false;
    (void)r;
    (void)a;
    (void)raw;
    for (size_t i = 0; i < s->n;) {
        uint32_t cp = next_cp(s->s, s->n, &i);
        if (cp_is_upper(cp) || cp_is_title(cp)) {
            if (prev) return v_bool(false);
            prev = any = true;
        } else if (cp_is_lower(cp)) {
            if (!prev) return v_bool(false);
            any = true;
        } else {
            prev = false;
        }
    }
    return v_bool(any);
}

static val m_isidentifier(rt *r, val self, val *a, const args *raw)
{
    const str *s = self.s;
    (void)r;
    (void)a;
    (void)raw;
    for (size_t i = 0; i < s->n;) {
        bool first = i == 0;
        uint32_t cp = next_cp(s->s, s->n, &i);
        if (!(first ? cp_is_id_start(cp) : cp_is_id_continue(cp))) return v_bool(false);
    }
    return v_bool(s->n > 0);
}

/* ---- searching ---- */

typedef struct span {
    int64_t from_char, to_char; /* to < from: nothing can be there */
    size_t from, to;
} span;

static bool bound(rt *r, val v, int64_t dflt, int64_t *out)
{
    if (v.type == T_MISSING || v.type == T_NONE) {
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

static bool search_span(rt *r, str *s, val start, val end, span *out)
{
    int64_t n = (int64_t)str_len(s), a, b;
    if (!bound(r, start, 0, &a) || !bound(r, end, n, &b)) return false;
    if (b > n) b = n;
    if (b < 0) b = b + n < 0 ? 0 : b + n;
    if (a < 0) a = a + n < 0 ? 0 : a + n;
    out->from_char = a;
    out->to_char = b;
    out->from = a > n ? s->n : str_offset(s, (size_t)a);
    out->to = str_offset(s, (size_t)b);
    return true;
}

static size_t count_chars(const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((unsigned char)s[i] & 0xc0) != 0x80;
    return k;
}

static val find(rt *r, val self, val *a, bool last, bool must)
{
    span p;
    size_t k = SIZE_MAX;
    if (!want_str(r, a[0], "argument")) return v_err();
    if (!search_span(r, self.s, a[1], a[2], &p)) return v_err();
    if (p.from_char <= p.to_char) {
        if (last && !step(r, (p.to - p.from) / 256 * (a[0].s->n / 8 + 1))) return v_err();
        k = (last ? bytes_rfind : bytes_find)(self.s->s + p.from, p.to - p.from, a[0].s->s, a[0].s->n);
    }
    if (k == SIZE_MAX) return must ? raise(r, EXC_VALUE, "substring not found") : v_int(-1);
    if (str_ascii(self.s)) return v_int((int64_t)(p.from + k));
    /* an empty needle at the end of what is searched is found behind its last character */
    return v_int(p.from_char + (int64_t)count_chars(self.s->s + p.from, k));
}

#define FIND(fn_name, last, must)                                \
    static val fn_name(rt *r, val self, val *a, const args *raw) \
    {                                                            \
        (void)raw;                                               \
        return find(r, self, a, last, must);                     \
    }
FIND(m_find, false, false)
FIND(m_rfind, true, false)
FIND(m_index, false, true)
FIND(m_rindex, true, true)

static val m_count(rt *r, val self, val *a, const args *raw)
{
    span p;
    int64_t n = 0;
    (void)raw;
    if (!want_str(r, a[0], "argument") || !search_span(r, self.s, a[1], a[2], &p)) return v_err();
    if (p.from_char > p.to_char) return v_int(0);
    if (a[0].s->n == 0) return v_int(p.to_char - p.from_char + 1);
    while (p.from < p.to) {
        size_t k = bytes_find(self.s->s + p.from, p.to - p.from, a[0].s->s, a[0].s->n);
        if (k == SIZE_MAX) break;
        n++;
        p.from += k + a[0].s->n;
    }
    return v_int(n);
}

static val affix(rt *r, val self, val *a, bool end, const char *name)
{
    span p;
    val *list_ = &a[0];
    size_t n = 1;
    if (a[0].type == T_TUPLE) {
        list_ = a[0].l->v;
        n = a[0].l->n;
        for (size_t i = 0; i < n; i++)
            if (list_[i].type != T_STR)
                return raise(r, EXC_TYPE, "tuple for %s must only contain str, not %s", name,
                             type_name(list_[i]));
    } else if (a[0].type != T_STR) {
        return raise(r, EXC_TYPE, "%s first arg must be str or a tuple of str, not %s", name,
                     type_name(a[0]));
    }
    if (!search_span(r, self.s, a[1], a[2], &p)) return v_err();
    for (size_t i = 0; i < n; i++) {
        const str *x = list_[i].s;
        if (p.from_char > p.to_char || p.to - p.from < x->n) continue;
        if (memcmp(self.s->s + (end ? p.to - x->n : p.from), x->s, x->n) == 0) return v_bool(true);
    }
    return v_bool(false);
}

static val m_startswith(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return affix(r, self, a, false, "startswith");
}

static val m_endswith(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return affix(r, self, a, true, "endswith");
}

/* ---- cutting ---- */

static bool add_piece(rt *r, val self, list *l, size_t from, size_t to)
{
    return list_add(r, l, like(self, str_sub(r, self, from, to)));
}

static val split_space(rt *r, val self, int64_t max, bool right)
{
    list *l = list_new(r, 0);
    const str *s = self.s;
    size_t from = 0, to = s->n, j;
    if (!l) return v_err();
    for (;;) {
        size_t start;
        if (!right) {
            while (from < to) {
                j = from;
                if (!cp_is_space(next_cp(s->s, s->n, &j))) break;
                from = j;
            }
            if (from == to) break;
            if (max-- <= 0) {
                /* the rest, without the spaces at its end kept: Python keeps them */
                if (!add_piece(r, self, l, from, to)) return v_err();
                break;
            }
            start = from;
            while (from < to) {
                j = from;
                if (cp_is_space(next_cp(s->s, s->n, &j))) break;
                from = j;
            }
            if (!add_piece(r, self, l, start, from)) return v_err();
        } else {
            while (to > 0) {
                j = to;
                if (!cp_is_space(prev_cp(s->s, &j))) break;
                to = j;
            }
            if (to == 0) break;
            if (max-- <= 0) {
                if (!add_piece(r, self, l, 0, to)) return v_err();
                break;
            }
            start = to;
            while (to > 0) {
                j = to;
                if (cp_is_space(prev_cp(s->s, &j))) break;
                to = j;
            }
            if (!add_piece(r, self, l, to, start)) return v_err();
        }
        if (!step(r, 1)) return v_err();
    }
    if (right)
        for (size_t i = 0; i < l->n / 2; i++) {
            val t = l->v[i];
            l->v[i] = l->v[l->n - 1 - i];
            l->v[l->n - 1 - i] = t;
        }
    return v_of_list(l);
}

static val split(rt *r, val self, val *a, bool right)
{
    int64_t max = -1;
    const str *s = self.s, *sep;
    list *l;
    size_t from = 0, to = s->n;

    if (a[1].type != T_MISSING && !index_of(r, a[1], &max)) return v_err();
    if (max < 0) max = INT64_MAX;
    if (a[0].type == T_NONE || a[0].type == T_MISSING) return split_space(r, self, max, right);
    if (!want_str(r, a[0], "sep")) return v_err();
    sep = a[0].s;
    if (sep->n == 0) return raise(r, EXC_VALUE, "empty separator");
    l = list_new(r, 0);
    if (!l) return v_err();
    while (max-- > 0) {
        size_t k;
        if (right && !step(r, (to - from) / 256 * (sep->n / 8 + 1))) return v_err();
        k = right ? bytes_rfind(s->s, to, sep->s, sep->n)
                  : bytes_find(s->s + from, to - from, sep->s, sep->n);
        if (k == SIZE_MAX) break;
        if (right) {
            if (!add_piece(r, self, l, k + sep->n, to)) return v_err();
            to = k;
        } else {
            if (!add_piece(r, self, l, from, from + k)) return v_err();
            from += k + sep->n;
        }
    }
    if (!add_piece(r, self, l, from, to)) return v_err();
    if (right)
        for (size_t i = 0; i < l->n / 2; i++) {
            val t = l->v[i];
            l->v[i] = l->v[l->n - 1 - i];
            l->v[l->n - 1 - i] = t;
        }
    return v_of_list(l);
}

static val m_split(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return split(r, self, a, false);
}

static val m_rsplit(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return split(r, self, a, true);
}

static val m_splitlines(rt *r, val self, val *a, const args *raw)
{
    line_iter it = {.s = self.s->s, .n = self.s->n};
    size_t from, to, keep;
    bool with_ends = false;
    list *l = list_new(r, 0);
    (void)raw;
    if (!l) return v_err();
    if (a[0].type != T_MISSING && !truthy(r, a[0], &with_ends)) return v_err();
    while (line_next(&it, &from, &to, &keep))
        if (!add_piece(r, self, l, from, with_ends ? keep : to)) return v_err();
    return v_of_list(l);
}

static val partition(rt *r, val self, val sep, bool right)
{
    list *l = list_new(r, 3);
    size_t k, n = self.s->n;
    if (!l || !want_str(r, sep, "argument")) return v_err();
    if (sep.s->n == 0) return raise(r, EXC_VALUE, "empty separator");
    if (right && !step(r, n / 256 * (sep.s->n / 8 + 1))) return v_err();
    k = (right ? bytes_rfind : bytes_find)(self.s->s, n, sep.s->s, sep.s->n);
    if (k == SIZE_MAX) {
        if (!add_piece(r, self, l, 0, right ? 0 : n) || !add_piece(r, self, l, 0, 0) ||
            !add_piece(r, self, l, 0, right ? n : 0))
            return v_err();
    } else if (!add_piece(r, self, l, 0, k) || !add_piece(r, self, l, k, k + sep.s->n) ||
               !add_piece(r, self, l, k + sep.s->n, n)) {
        return v_err();
    }
    return v_of_tuple(l);
}

static val m_partition(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return partition(r, self, a[0], false);
}

static val m_rpartition(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return partition(r, self, a[0], true);
}

static val m_removeprefix(rt *r, val self, val *a, const args *raw)
{
    const str *s = self.s;
    (void)raw;
    if (!want_str(r, a[0], "removeprefix() argument")) return v_err();
    if (a[0].s->n > s->n || memcmp(s->s, a[0].s->s, a[0].s->n) != 0) return self;
    return like(self, str_sub(r, self, a[0].s->n, s->n));
}

static val m_removesuffix(rt *r, val self, val *a, const args *raw)
{
    const str *s = self.s;
    (void)raw;
    if (!want_str(r, a[0], "removesuffix() argument")) return v_err();
    if (a[0].s->n > s->n || memcmp(s->s + s->n - a[0].s->n, a[0].s->s, a[0].s->n) != 0) return self;
    return like(self, str_sub(r, self, 0, s->n - a[0].s->n));
}

/* ---- building ---- */

static val m_join(rt *r, val self, val *a, const args *raw)
{
    iter it;
    val x;
    sb b = {0};
    int c;
    size_t i = 0;
    (void)raw;
    if (!is_iterable(a[0])) return IS_ERR(a[0]) ? a[0] : raise(r, EXC_TYPE, "can only join an iterable");
    if (!iter_init(r, &it, a[0])) return v_err();
    while ((c = iter_next(r, &it, &x)) > 0) {
        if (!step(r, 1)) return v_err();
        if (is_markup(self)) {
            x = escape_html(r, x);
            if (IS_ERR(x)) return x;
        } else if (x.type != T_STR) {
            return raise(r, EXC_TYPE, "sequence item %zu: expected str instance, %s found", i, type_name(x));
        }
        if (i++) sb_add(r, &b, self.s->s, self.s->n);
        sb_add(r, &b, x.s->s, x.s->n);
        if (b.failed) return v_err();
    }
    return c < 0 ? v_err() : like(self, sb_val(r, &b));
}

static val m_replace(rt *r, val self, val *a, const args *raw)
{
    int64_t count = -1;
    val new_ = a[1];
    (void)raw;
    if (!want_str(r, a[0], "replace() argument 1")) return v_err();
    if (is_markup(self)) new_ = escape_html(r, new_);
    if (!want_str(r, new_, "replace() argument 2")) return v_err();
    if (a[2].type != T_MISSING && !index_of(r, a[2], &count)) return v_err();
    return like(self, str_replace(r, self.s, a[0].s, new_.s, count));
}

static val pad(rt *r, val self, val *a, int where)
{
    int64_t width;
    uint32_t fill = ' ';
    if (!index_of(r, a[0], &width)) return v_err();
    if (a[1].type != T_MISSING) {
        val f = is_markup(self) ? escape_html(r, a[1]) : a[1];
        size_t i = 0;
        if (IS_ERR(f)) return f;
        if (f.type != T_STR)
            return raise(r, EXC_TYPE, "The fill character must be a unicode character, not %s", type_name(f));
        if (str_len(f.s) != 1)
            return raise(r, EXC_TYPE, "The fill character must be exactly one character long");
        fill = next_cp(f.s->s, f.s->n, &i);
    }
    return like(self, str_pad(r, self, width, fill, where));
}

static val m_center(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return pad(r, self, a, 0);
}

static val m_ljust(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return pad(r, self, a, -1);
}

static val m_rjust(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return pad(r, self, a, 1);
}

static val m_zfill(rt *r, val self, val *a, const args *raw)
{
    int64_t width, n = (int64_t)str_len(self.s);
    sb b = {0};
    size_t sign = self.s->n && (self.s->s[0] == '+' || self.s->s[0] == '-');
    (void)raw;
    if (!index_of(r, a[0], &width)) return v_err();
    if (width <= n) return self;
    sb_add(r, &b, self.s->s, sign);
    sb_fill(r, &b, '0', (size_t)(width - n));
    sb_add(r, &b, self.s->s + sign, self.s->n - sign);
    return like(self, sb_val(r, &b));
}

static val m_expandtabs(rt *r, val self, val *a, const args *raw)
{
    int64_t size = 8, col = 0;
    sb b = {0};
    const str *s = self.s;
    (void)raw;
    if (a[0].type != T_MISSING && !index_of(r, a[0], &size)) return v_err();
    if (size > INT32_MAX) return raise(r, EXC_OVERFLOW, "Python int too large to convert to C int");
    for (size_t i = 0; i < s->n && !b.failed;) {
        size_t at = i;
        uint32_t cp = next_cp(s->s, s->n, &i);
        if (cp == '\t') {
            int64_t k = size > 0 ? size - col % size : 0;
            sb_fill(r, &b, ' ', (size_t)k);
            col += k;
        } else {
            sb_add(r, &b, s->s + at, i - at);
            col = cp == '\n' || cp == '\r' ? 0 : col + 1;
        }
    }
    return like(self, sb_val(r, &b));
}

static val m_translate(rt *r, val self, val *a, const args *raw)
{
    sb b = {0};
    const str *s = self.s;
    (void)raw;
    for (size_t i = 0; i < s->n && !b.failed;) {
        uint32_t cp = next_cp(s->s, s->n, &i);
        val to = get_item_strict(r, a[0], v_int(cp));
        if (IS_ERR(to)) {
            if (r->exc.kind != EXC_KEY && r->exc.kind != EXC_INDEX) return to;
            clear_exc(r);
            sb_cp(r, &b, cp);
        } else if (to.type == T_STR) {
            sb_add(r, &b, to.s->s, to.s->n);
        } else if (to.type == T_INT || to.type == T_BOOL) {
            if (to.i < 0 || to.i > 0x10ffff)
                return raise(r, EXC_VALUE, "character mapping must be in range(0x110000)");
            if (to.i >= 0xd800 && to.i < 0xe000)
                return raise(r, EXC_UNSUPPORTED, "a lone surrogate is not supported");
            sb_cp(r, &b, (uint32_t)to.i);
        } else if (to.type != T_NONE) {
            return raise(r, EXC_TYPE, "character mapping must return integer, None or str");
        }
    }
    return like(self, sb_val(r, &b));
}

static val m_maketrans(rt *r, val self, val *a, const args *raw)
{
    dict *d = dict_new(r, 8);
    (void)self;
    (void)raw;
    if (!d) return v_err();
    if (a[1].type == T_MISSING) {
        if (a[0].type != T_DICT)
            return raise(r, EXC_TYPE, "if you give only one argument to maketrans it must be a dict");
        for (size_t i = 0; i < a[0].d->n; i++) {
            val k = a[0].d->e[i].key;
            size_t at = 0;
            if (k.type == T_STR) {
                if (str_len(k.s) != 1)
                    return raise(r, EXC_VALUE, "string keys in translate table must be of length 1");
                k = v_int(next_cp(k.s->s, k.s->n, &at));
            } else if (!is_int_like(k)) {
                return raise(r, EXC_TYPE, "keys in translate table must be strings or integers");
            }
            if (!dict_put(r, d, k, a[0].d->e[i].value)) return v_err();
        }
        return v_of_dict(d);
    }
    if (!want_str(r, a[0], "first maketrans argument") || !want_str(r, a[1], "argument 2")) return v_err();
    if (str_len(a[0].s) != str_len(a[1].s))
        return raise(r, EXC_VALUE, "the first two maketrans arguments must have equal length");
    for (size_t i = 0, k = 0; i < a[0].s->n;) {
        val from = v_int(next_cp(a[0].s->s, a[0].s->n, &i)), to = v_int(next_cp(a[1].s->s, a[1].s->n, &k));
        if (!dict_put(r, d, from, to)) return v_err();
    }
    if (a[2].type != T_MISSING) {
        if (!want_str(r, a[2], "argument 3")) return v_err();
        for (size_t i = 0; i < a[2].s->n;)
            if (!dict_put(r, d, v_int(next_cp(a[2].s->s, a[2].s->n, &i)), v_none())) return v_err();
    }
    return v_of_dict(d);
}

static val m_encode(rt *r, val self, val *a, const args *raw)
{
    val v;
    (void)raw;
    if (a[0].type != T_MISSING) {
        if (!want_str(r, a[0], "encode() argument 'encoding'")) return v_err();
        if (!str_is(a[0].s, "utf-8") && !str_is(a[0].s, "utf8") && !str_is(a[0].s, "UTF-8") &&
            !(str_is(a[0].s, "ascii") && str_ascii(self.s)))
            return raise(r, EXC_UNSUPPORTED, "only UTF-8 is supported as an encoding");
    }
    v = v_of_str(self.s);
    v.type = T_BYTES;
    return v;
}

static val m_format(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    return brace_format(r, self, raw, false);
}

static val m_format_map(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    if (raw->n_kw) return raise(r, EXC_TYPE, "format_map() takes no keyword arguments");
    if (raw->n != 1) return raise(r, EXC_TYPE, "format_map() takes exactly one argument (%zu given)", raw->n);
    return brace_format(r, self, raw, true);
}

#define POS BIND_POSONLY
const builtin str_methods[] = {
    {"capitalize", m_capitalize, 0, 0, POS, {0}},
    {"casefold", m_casefold, 0, 0, POS, {0}},
    {"center", m_center, 1, 2, POS, {"width", "fillchar"}},
    {"count", m_count, 1, 3, POS, {"sub", "start", "end"}},
    {"encode", m_encode, 0, 2, 0, {"encoding", "errors"}},
    {"endswith", m_endswith, 1, 3, POS, {"suffix", "start", "end"}},
    {"expandtabs", m_expandtabs, 0, 1, 0, {"tabsize"}},
    {"find", m_find, 1, 3, POS, {"sub", "start", "end"}},
    {"format", m_format, 0, 0, BIND_VARARGS, {0}},
    {"format_map", m_format_map, 0, 0, BIND_VARARGS, {0}},
    {"index", m_index, 1, 3, POS, {"sub", "start", "end"}},
    {"isalnum", m_isalnum, 0, 0, POS, {0}},
    {"isalpha", m_isalpha, 0, 0, POS, {0}},
    {"isascii", m_isascii, 0, 0, POS, {0}},
    {"isdecimal", m_isdecimal, 0, 0, POS, {0}},
    {"isdigit", m_isdigit, 0, 0, POS, {0}},
    {"isidentifier", m_isidentifier, 0, 0, POS, {0}},
    {"islower", m_islower, 0, 0, POS, {0}},
    {"isnumeric", m_isnumeric, 0, 0, POS, {0}},
    {"isprintable", m_isprintable, 0, 0, POS, {0}},
    {"isspace", m_isspace, 0, 0, POS, {0}},
    {"istitle", m_istitle, 0, 0, POS, {0}},
    {"isupper", m_isupper, 0, 0, POS, {0}},
    {"join", m_join, 1, 1, POS, {"iterable"}},
    {"ljust", m_ljust, 1, 2, POS, {"width", "fillchar"}},
    {"lower", m_lower, 0, 0, POS, {0}},
    {"lstrip", m_lstrip, 0, 1, POS, {"chars"}},
    {"maketrans", m_maketrans, 1, 3, POS, {"x", "y", "z"}},
    {"partition", m_partition, 1, 1, POS, {"sep"}},
    {"removeprefix", m_removeprefix, 1, 1, POS, {"prefix"}},
    {"removesuffix", m_removesuffix, 1, 1, POS, {"suffix"}},
    {"replace", m_replace, 2, 3, POS, {"old", "new", "count"}},
    {"rfind", m_rfind, 1, 3, POS, {"sub", "start", "end"}},
    {"rindex", m_rindex, 1, 3, POS, {"sub", "start", "end"}},
    {"rjust", m_rjust, 1, 2, POS, {"width", "fillchar"}},
    {"rpartition", m_rpartition, 1, 1, POS, {"sep"}},
    {"rsplit", m_rsplit, 0, 2, 0, {"sep", "maxsplit"}},
    {"rstrip", m_rstrip, 0, 1, POS, {"chars"}},
    {"split", m_split, 0, 2, 0, {"sep", "maxsplit"}},
    {"splitlines", m_splitlines, 0, 1, 0, {"keepends"}},
    {"startswith", m_startswith, 1, 3, POS, {"prefix", "start", "end"}},
    {"strip", m_strip, 0, 1, POS, {"chars"}},
    {"swapcase", m_swapcase, 0, 0, POS, {0}},
    {"title", m_title, 0, 0, POS, {0}},
    {"translate", m_translate, 1, 1, POS, {"table"}},
    {"upper", m_upper, 0, 0, POS, {0}},
    {"zfill", m_zfill, 1, 1, POS, {"width"}},
};
const size_t n_str_methods = MLXR_COUNT(str_methods);

static val b_decode(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    if (mlxr_utf8_valid(self.s->s, self.s->n) != self.s->n)
        return raise(r, EXC_VALUE, "'utf-8' codec can't decode the bytes");
    return v_str_borrow(r, self.s->s, self.s->n);
}

static val b_hex(rt *r, val self, val *a, const args *raw)
{
    sb b = {0};
    (void)a;
    (void)raw;
    for (size_t i = 0; i < self.s->n; i++) {
        char buf[4];
        snprintf(buf, sizeof buf, "%02x", (unsigned char)self.s->s[i]);
        sb_add(r, &b, buf, 2);
    }
    return sb_val(r, &b);
}

const builtin bytes_methods[] = {
    {"decode", b_decode, 0, 2, 0, {"encoding", "errors"}},
    {"hex", b_hex, 0, 0, POS, {0}},
};
const size_t n_bytes_methods = MLXR_COUNT(bytes_methods);
