/* The filters over text and numbers. */
#include <math.h>
#include <stdio.h>

#include "text/template/filters.h"

static bool flag_of(rt *r, val v, bool dflt, bool *out)
{
    *out = dflt;
    return v.type == T_MISSING || truthy(r, v, out);
}

static val keep_markup(val like, val v)
{
    return is_markup(like) ? v_markup(v) : v;
}

/* An object's method of the name does not exist in Python. */
static val no_attribute(rt *r, val v, const char *name)
{
    if (v.type == T_UNDEF) return raise_undef(r, v.u);
    return raise(r, EXC_ATTRIBUTE, "'%s' object has no attribute '%s'", type_name(v), name);
}

static val cased(rt *r, val self, int how)
{
    val s = soft_str(r, self);
    return IS_ERR(s) ? s : keep_markup(s, str_case(r, s.s, how));
}

val f_upper(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return cased(r, self, 'u');
}

val f_lower(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return cased(r, self, 'l');
}

val f_capitalize(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return cased(r, self, 'c');
}

static bool starts_word(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || cp_is_space(cp);
}

val f_title(rt *r, val self, val *a, const args *raw)
{
    val s = soft_str(r, self);
    sb b = {0};
    (void)a;
    (void)raw;
    if (IS_ERR(s)) return s;
    for (size_t i = 0; i < s.s->n && !b.failed;) {
        size_t from = i, rest, end;
        uint32_t cp = next_cp(s.s->s, s.s->n, &i), up[3];
        bool sep = starts_word(cp);
        size_t n = cp_upper(cp, up);
        str tail;
        val low;
        rest = i;
        for (size_t k = 0; k < n; k++) sb_cp(r, &b, up[k]);
        end = i;
        while (end < s.s->n) {
            size_t j = end;
            if (starts_word(next_cp(s.s->s, s.s->n, &j)) != sep) break;
            end = j;
        }
        i = end;
        (void)from;
        tail = (str){.s = s.s->s + rest, .n = end - rest, .n_chars = SIZE_MAX};
        low = str_case(r, &tail, 'l');
        if (IS_ERR(low)) return low;
        sb_add(r, &b, low.s->s, low.s->n);
    }
    return sb_val(r, &b);
}

val f_string(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return soft_str(r, self);
}

val f_trim(rt *r, val self, val *a, const args *raw)
{
    val s = soft_str(r, self);
    (void)raw;
    return IS_ERR(s) ? s : keep_markup(s, str_strip(r, s, a[0], true, true));
}

val f_center(rt *r, val self, val *a, const args *raw)
{
    val s = soft_str(r, self);
    int64_t width = 80;
    (void)raw;
    if (IS_ERR(s) || (a[0].type != T_MISSING && !index_of(r, a[0], &width))) return v_err();
    return keep_markup(s, str_pad(r, s, width, ' ', 0));
}

val f_replace(rt *r, val self, val *a, const args *raw)
{
    val s, old, new_;
    int64_t count = -1;
    (void)raw;
    if (a[2].type != T_MISSING && a[2].type != T_NONE && !index_of(r, a[2], &count)) return v_err();
    if (r->autoescape) {
        s = is_markup(a[0]) || (is_markup(a[1]) && !is_markup(self)) ? escape_html(r, self)
                                                                     : soft_str(r, self);
        old = soft_str(r, a[0]);
        new_ = soft_str(r, a[1]);
        if (is_markup(s) && !IS_ERR(new_)) new_ = escape_html(r, new_);
    } else {
        s = to_str(r, self);
        old = to_str(r, a[0]);
        new_ = to_str(r, a[1]);
    }
    if (IS_ERR(s) || IS_ERR(old) || IS_ERR(new_)) return v_err();
    return keep_markup(s, str_replace(r, s.s, old.s, new_.s, count));
}

val f_format(rt *r, val self, val *a, const args *raw)
{
    val s = soft_str(r, self);
    (void)a;
    if (raw->n && raw->n_kw)
        return raise(r, EXC_FILTER_ARG, "can't handle positional and keyword arguments at the same time");
    if (IS_ERR(s)) return s;
    if (raw->n_kw) {
        dict *d = dict_new(r, raw->n_kw);
        if (!d) return v_err();
        for (size_t i = 0; i < raw->n_kw; i++)
            if (!dict_put(r, d, v_of_str(raw->kw_name[i]), raw->kw[i])) return v_err();
        return percent_format(r, s, v_of_dict(d));
    } else {
        list *l = list_new(r, raw->n);
        if (!l) return v_err();
        if (raw->n) memcpy(l->v, raw->pos, raw->n * sizeof *l->v);
        l->n = raw->n;
        return percent_format(r, s, v_of_tuple(l));
    }
}

val f_indent(rt *r, val self, val *a, const args *raw)
{
    /* width, first, blank */
    bool first, blank, at_start = true;
    val indention;
    sb b = {0};
    line_iter it;
    size_t from, to, keep;
    (void)raw;

    if (!flag_of(r, a[1], false, &first) || !flag_of(r, a[2], false, &blank)) return v_err();
    if (a[0].type == T_STR)
        indention = a[0];
    else
        indention = arith(r, N_MUL, v_cstr(r, " "), a[0].type == T_MISSING ? v_int(4) : a[0]);
    if (IS_ERR(indention)) return indention;
    if (self.type != T_STR) {
        val sum = arith(r, N_ADD, self, v_cstr(r, "\n"));
        return IS_ERR(sum) ? sum : no_attribute(r, sum, "splitlines");
    }
    if (is_markup(self)) indention = escape_html(r, v_markup(indention));
    if (first) sb_add(r, &b, indention.s->s, indention.s->n);
    it = (line_iter){.s = self.s->s, .n = self.s->n};
    /* the reference adds a newline and then splits: a text that ends in one has an empty line more */
    for (bool last = false; !last;) {
        size_t n;
        if (line_next(&it, &from, &to, &keep)) {
            n = to - from;
            last = keep == it.n && to == keep;
        } else {
            from = 0;
            n = 0;
            last = true;
        }
        if (!at_start) {
            sb_char(r, &b, '\n');
            if (n || blank) sb_add(r, &b, indention.s->s, indention.s->n);
        }
        sb_add(r, &b, self.s->s + from, n);
        at_start = false;
        if (b.failed) break;
    }
    return keep_markup(self, sb_val(r, &b));
}

val f_truncate(rt *r, val self, val *a, const args *raw)
{
    /* length, killwords, end, leeway */
    val length = a[0].type == T_MISSING ? v_int(255) : a[0], end = a[2], leeway = a[3], cut, keep;
    bool kill;
    int64_t n, n_end;
    int c;
    (void)raw;

    if (!flag_of(r, a[1], false, &kill)) return v_err();
    if (end.type == T_MISSING) end = v_cstr(r, "...");
    if (leeway.type == T_NONE || leeway.type == T_MISSING) leeway = v_int(5);
    if ((n_end = length_of(r, end)) < 0) return v_err();
    if ((c = compare(r, CMP_GE, length, v_int(n_end))) < 0) return v_err();
    if (!c)
        return raise(r, EXC_ASSERTION, "expected length >= %lld, got %lld", (long long)n_end,
                     (long long)(length.type == T_FLOAT ? (int64_t)length.f : length.i));
    if ((c = compare(r, CMP_GE, leeway, v_int(0))) < 0) return v_err();
    if (!c) return raise(r, EXC_ASSERTION, "expected leeway >= 0, got less");
    if ((n = length_of(r, self)) < 0) return v_err();
    if ((c = compare(r, CMP_LE, v_int(n), arith(r, N_ADD, length, leeway))) < 0) return v_err();
    if (c) return self;
    cut = get_slice(r, self, v_none(), arith(r, N_SUB, length, v_int(n_end)), v_none());
    if (IS_ERR(cut)) return cut;
    if (!kill) {
        size_t k;
        if (cut.type != T_STR) return no_attribute(r, cut, "rsplit");
        k = bytes_rfind(cut.s->s, cut.s->n, " ", 1);
        keep = k == SIZE_MAX ? cut : keep_markup(cut, str_sub(r, cut, 0, k));
    } else {
        keep = cut;
    }
    return arith(r, N_ADD, keep, end);
}

val f_wordcount(rt *r, val self, val *a, const args *raw)
{
    val s = soft_str(r, self);
    int64_t n = 0;
    bool in = false;
    (void)a;
    (void)raw;
    if (IS_ERR(s)) return s;
    for (size_t i = 0; i < s.s->n;) {
        bool w = cp_is_word(next_cp(s.s->s, s.s->n, &i));
        n += w && !in;
        in = w;
    }
    return v_int(n);
}

val f_abs(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    if (is_int_like(self)) return self.i < 0 ? negate(r, self) : v_int(self.i);
    if (self.type == T_FLOAT) return v_float(fabs(self.f));
    return raise(r, EXC_TYPE, "bad operand type for abs(): '%s'", type_name(self));
}

static bool caught(rt *r, bool overflow)
{
    return r->exc.kind == EXC_TYPE || r->exc.kind == EXC_VALUE || (overflow && r->exc.kind == EXC_OVERFLOW);
}

static bool to_float(rt *r, val v, double *out)
{
    switch ((vtype)v.type) {
    case T_BOOL:
    case T_INT: *out = (double)v.i; return true;
    case T_FLOAT: *out = v.f; return true;
    case T_STR: return parse_py_float(r, v.s, out);
    case T_UNDEF: raise_undef(r, v.u); return false;
    case T_ERROR: return false;
    default:
        raise(r, EXC_TYPE, "float() argument must be a string or a real number, not '%s'", type_name(v));
        return false;
    }
}

val f_float(rt *r, val self, val *a, const args *raw)
{
    double x;
    (void)raw;
    if (to_float(r, self, &x)) return v_float(x);
    if (!caught(r, false)) return v_err();
    clear_exc(r);
    return a[0].type == T_MISSING ? v_float(0) : a[0];
}

val f_int(rt *r, val self, val *a, const args *raw)
{
    /* default, base */
    val v = v_err();
    double x;
    (void)raw;
    switch ((vtype)self.type) {
    case T_STR: {
        int64_t base = 10;
        if (a[1].type == T_MISSING || index_of(r, a[1], &base)) {
            if (base < 0 || base > 36 || base == 1)
                raise(r, EXC_VALUE, "int() base must be >= 2 and <= 36, or 0");
            else if (parse_py_int(r, self.s, (int)base, &v))
                return v;
        }
        break;
    }
    case T_BOOL:
    case T_INT: return v_int(self.i);
    case T_FLOAT:
        v = float_to_int(r, self.f);
        if (!IS_ERR(v)) return v;
        break;
    case T_UNDEF: return raise_undef(r, self.u);
    case T_ERROR: return self;
    default: raise(r, EXC_TYPE, "int() argument must be a string or a real number"); break;
    }
    if (!caught(r, false)) return v_err();
    clear_exc(r);
    if (to_float(r, self, &x)) {
        v = float_to_int(r, x);
        if (!IS_ERR(v)) return v;
    }
    if (!caught(r, true)) return v_err();
    clear_exc(r);
    return a[0].type == T_MISSING ? v_int(0) : a[0];
}

val f_round(rt *r, val self, val *a, const args *raw)
{
    /* precision, method */
    val precision = a[0].type == T_MISSING ? v_int(0) : a[0], scale, x;
    bool up;
    uint64_t h;
    (void)raw;
    if (a[1].type != T_MISSING && !hash_value(r, a[1], &h)) return v_err();
    if (a[1].type == T_MISSING || (a[1].type == T_STR && str_is(a[1].s, "common")))
        return py_round(r, self, precision, true);
    up = a[1].type == T_STR && str_is(a[1].s, "ceil");
    if (!up && !(a[1].type == T_STR && str_is(a[1].s, "floor")))
        return raise(r, EXC_FILTER_ARG, "method must be common, ceil or floor");
    scale = arith(r, N_POW, v_int(10), precision);
    x = IS_ERR(scale) ? scale : arith(r, N_MUL, self, scale);
    if (IS_ERR(x)) return x;
    if (x.type == T_FLOAT)
        x = float_to_int(r, up ? ceil(x.f) : floor(x.f));
    else if (!is_int_like(x))
        return raise(r, EXC_TYPE, "must be real number, not %s", type_name(x));
    return IS_ERR(x) ? x : arith(r, N_DIV, x, scale);
}

val f_filesizeformat(rt *r, val self, val *a, const args *raw)
{
    static const char *const dec[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const bin[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    double x, base, unit;
    bool binary;
    char buf[512];
    size_t i = 0;
    (void)raw;
    if (!to_float(r, self, &x) || !flag_of(r, a[0], false, &binary)) return v_err();
    base = binary ? 1024 : 1000;
    if (x == 1) return v_cstr(r, "1 Byte");
    if (x < base) {
        val n = float_to_int(r, x);
        if (IS_ERR(n)) return n;
        snprintf(buf, sizeof buf, "%lld Bytes", (long long)n.i);
        return v_str_copy(r, buf, strlen(buf));
    }
    for (unit = base * base; i < 7 && !(x < unit); i++) unit *= base;
    /* the last prefix is used for all that is larger, with its own unit */
    snprintf(buf, sizeof buf, "%.1f %s", base * x / unit, (binary ? bin : dec)[i]);
    return v_str_copy(r, buf, strlen(buf));
}

val f_escape(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return escape_html(r, self);
}

val f_forceescape(rt *r, val self, val *a, const args *raw)
{
    val s = to_str(r, self);
    (void)a;
    (void)raw;
    return IS_ERR(s) ? s : escape_html(r, s);
}

val f_safe(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return v_markup(soft_str(r, self));
}

val f_striptags(rt *r, val self, val *a, const args *raw)
{
    val s = to_str(r, self);
    sb b = {0}, out = {0};
    size_t pos = 0;
    bool space = false, any = false;
    (void)a;
    (void)raw;
    if (IS_ERR(s)) return s;
    for (;;) {
        size_t start = bytes_find(s.s->s + pos, s.s->n - pos, "<", 1), end;
        bool comment;
        if (start == SIZE_MAX) break;
        start += pos;
        comment = s.s->n - start >= 4 && memcmp(s.s->s + start, "<!--", 4) == 0;
        if (comment)
            end = bytes_find(s.s->s + start + 4, s.s->n - start - 4, "-->", 3);
        else
            end = bytes_find(s.s->s + start, s.s->n - start, ">", 1);
        if (end == SIZE_MAX) break;
        end += comment ? start + 4 + 3 : start + 1;
        sb_add(r, &b, s.s->s + pos, start - pos);
        pos = end;
    }
    sb_add(r, &b, s.s->s + pos, s.s->n - pos);
    if (b.failed) return v_err();
    for (size_t i = 0; i < b.n;) {
        size_t at = i;
        if (cp_is_space(next_cp(b.p, b.n, &i))) {
            space = true;
            continue;
        }
        if (space && any) sb_char(r, &out, ' ');
        space = false;
        any = true;
        sb_add(r, &out, b.p + at, i - at);
    }
    s = sb_val(r, &out);
    return IS_ERR(s) ? s : html_unescape(r, s.s);
}

val f_xmlattr(rt *r, val self, val *a, const args *raw)
{
    bool autospace;
    sb b = {0};
    bool any = false;
    val v;
    (void)raw;
    if (!flag_of(r, a[0], true, &autospace)) return v_err();
    if (self.type != T_DICT) return no_attribute(r, self, "items");
    for (size_t i = 0; i < self.d->n; i++) {
        val key = self.d->e[i].key, value = self.d->e[i].value;
        if (value.type == T_NONE || value.type == T_UNDEF) continue;
        if (key.type != T_STR)
            return raise(r, EXC_TYPE, "expected string or bytes-like object, got '%s'", type_name(key));
        for (size_t k = 0; k < key.s->n; k++) {
            char c = key.s->s[k];
            if (c == '/' || c == '>' || c == '=' || c == ' ' || (c >= 9 && c <= 13)) {
                sb rep = {0};
                write_str_repr(r, &rep, key.s);
                if (rep.failed) return v_err();
                return raise(r, EXC_VALUE, "Invalid character in attribute name: %.*s",
                             (int)(rep.n < 200 ? rep.n : 200), rep.p);
            }
        }
        key = escape_html(r, key);
        value = escape_html(r, value);
        if (IS_ERR(key) || IS_ERR(value)) return v_err();
        if (any || autospace) sb_char(r, &b, ' ');
        any = true;
        sb_add(r, &b, key.s->s, key.s->n);
        sb_str(r, &b, "=\"");
        sb_add(r, &b, value.s->s, value.s->n);
        sb_char(r, &b, '"');
    }
    v = sb_val(r, &b);
    return r->autoescape ? v_markup(v) : v;
}

val f_tojson(rt *r, val self, val *a, const args *raw)
{
    /* ensure_ascii, indent, separators, sort_keys */
    bool ascii, sort;
    (void)raw;
    if (!flag_of(r, a[0], false, &ascii) || !flag_of(r, a[3], false, &sort)) return v_err();
    return tojson_value(r, self, ascii, a[1], a[2], sort);
}

/* ---- wordwrap: textwrap.wrap without tab expansion and whitespace replacement ---- */

typedef struct chunk {
    const uint32_t *s;
    size_t n;
} chunk;

static bool wrap_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ';
}

static bool wrap_punct(uint32_t c)
{
    return cp_is_word(c) || c == '!' || c == '"' || c == '\'' || c == '&' || c == '.' || c == ',' || c == '?';
}

static bool wrap_letter(uint32_t c)
{
    return cp_is_word(c) && !cp_is_decimal(c);
}

/* "--" or more at i, then a word character */
static bool em_dash(const uint32_t *s, size_t n, size_t i, size_t *end)
{
    size_t k = i;
    while (k < n && s[k] == '-') k++;
    *end = k;
    return k - i >= 2 && k < n && cp_is_word(s[k]);
}

/* The end of the chunk that starts at i, as textwrap's wordsep_re splits. */
static size_t chunk_end(const uint32_t *s, size_t n, size_t i, bool hyphens)
{
    size_t j = i, end;
    if (wrap_space(s[i])) {
        while (j < n && wrap_space(s[j])) j++;
        return j;
    }
    if (!hyphens) {
        while (j < n && !wrap_space(s[j])) j++;
        return j;
    }
    if (i > 0 && wrap_punct(s[i - 1]) && s[i] == '-' && em_dash(s, n, i, &end)) return end;
    for (j = i + 1;; j++) {
        if (j < n && s[j] == '-' &&
            ((j >= 2 && wrap_letter(s[j - 1]) && wrap_letter(s[j - 2])) ||
             (j >= 3 && wrap_punct(s[j - 1]) && s[j - 2] == '-' && wrap_letter(s[j - 3]))) &&
            j + 2 < n && wrap_letter(s[j + 1]) &&
            (wrap_letter(s[j + 2]) || (s[j + 2] == '-' && j + 3 < n && wrap_letter(s[j + 3]))))
            return j + 1;
        if (j >= n || wrap_space(s[j])) return j;
        if (wrap_punct(s[j - 1]) && s[j] == '-' && em_dash(s, n, j, &end)) return j;
    }
}

static bool blank(const chunk *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (!cp_is_space(c->s[i])) return false;
    return true;
}

static void add_chunk(rt *r, sb *b, const uint32_t *s, size_t n)
{
    for (size_t i = 0; i < n; i++) sb_cp(r, b, s[i]);
}

typedef struct wrap {
    rt *r;
    sb *out;
    size_t width;
    bool break_long, hyphens;
    const str *sep;
} wrap;

static bool wrap_line(wrap *w, const uint32_t *s, size_t n)
{
    chunk *c = rt_alloc_array(w->r, n + 1, sizeof *c), *line = rt_alloc_array(w->r, n + 1, sizeof *line);
    size_t n_c = 0, i = 0, n_lines = 0;

    if (!c || !line || !step(w->r, n)) return false;
    for (size_t k = 0; k < n;) {
        size_t end = chunk_end(s, n, k, w->hyphens);
        c[n_c++] = (chunk){s + k, end - k};
        k = end;
    }
    while (i < n_c && !w->out->failed) {
        size_t len = 0, n_line = 0;
        if (n_lines && blank(&c[i])) i++;
        while (i < n_c && len + c[i].n <= w->width) {
            len += c[i].n;
            line[n_line++] = c[i++];
        }
        if (i < n_c && c[i].n > w->width) {
            size_t left = w->width - len;
            if (w->break_long) {
                size_t end = left;
                if (w->hyphens && c[i].n > left) {
                    size_t h = left;
                    bool other = false;
                    while (h > 0 && c[i].s[h - 1] != '-') h--;
                    for (size_t k = 0; h > 0 && k + 1 < h; k++) other |= c[i].s[k] != '-';
                    if (h > 1 && other) end = h;
                }
                line[n_line++] = (chunk){c[i].s, end};
                c[i].s += end;
                c[i].n -= end;
            } else if (!n_line) {
                line[n_line++] = c[i++];
            }
        }
        if (n_line && blank(&line[n_line - 1])) n_line--;
        if (!n_line) continue;
        if (n_lines++) sb_add(w->r, w->out, w->sep->s, w->sep->n);
        for (size_t k = 0; k < n_line; k++) add_chunk(w->r, w->out, line[k].s, line[k].n);
    }
    return !w->out->failed;
}

val f_wordwrap(rt *r, val self, val *a, const args *raw)
{
    /* width, break_long_words, wrapstring, break_on_hyphens */
    val width = a[0].type == T_MISSING ? v_int(79) : a[0], sep = a[2];
    sb b = {0};
    wrap w = {.r = r, .out = &b};
    line_iter it;
    size_t from, to, keep, n_lines = 0;
    uint32_t *cps;
    int c;
    (void)raw;

    if (!flag_of(r, a[1], true, &w.break_long) || !flag_of(r, a[3], true, &w.hyphens)) return v_err();
    if (sep.type == T_MISSING || sep.type == T_NONE) sep = v_cstr(r, "\n");
    if (self.type != T_STR) return no_attribute(r, self, "splitlines");
    if (sep.type != T_STR) return no_attribute(r, sep, "join");
    w.sep = sep.s;
    it = (line_iter){.s = self.s->s, .n = self.s->n};
    cps = rt_alloc_array(r, self.s->n + 1, sizeof *cps);
    if (!cps) return v_err();
    while (line_next(&it, &from, &to, &keep)) {
        size_t n = 0;
        if (n_lines++) sb_add(r, &b, sep.s->s, sep.s->n);
        if ((c = compare(r, CMP_LE, width, v_int(0))) < 0) return v_err();
        if (c) {
            sb rep = {0};
            if (!write_repr(r, &rep, width)) return v_err();
            return raise(r, EXC_VALUE, "invalid width %.*s (must be > 0)", (int)rep.n, rep.p);
        }
        if (!is_int_like(width)) {
            if (width.type != T_FLOAT) return raise(r, EXC_TYPE, "width must be an integer");
            if (width.f != floor(width.f) && w.break_long)
                return raise(r, EXC_UNSUPPORTED, "a width with a fraction is not supported");
            width = float_to_int(r, width.f);
            if (IS_ERR(width)) return width;
        }
        w.width = (size_t)width.i;
        while (from < to) cps[n++] = next_cp(self.s->s, to, &from);
        if (!wrap_line(&w, cps, n)) return v_err();
    }
    return sb_val(r, &b);
}
