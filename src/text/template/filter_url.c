/* The filters that know URLs and HTML: urlencode, urlize, and html.unescape for striptags. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "text/template/filters.h"
#include "text/template/html_entities.h"

/* ---- urlencode ---- */

static void quote(rt *r, sb *b, const str *s, bool query)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s->n; i++) {
        unsigned char c = (unsigned char)s->s[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
            c == '.' || c == '-' || c == '~' || (c == '/' && !query)) {
            sb_char(r, b, (char)c);
        } else if (c == ' ' && query) {
            sb_char(r, b, '+');
        } else {
            sb_char(r, b, '%');
            sb_char(r, b, hex[c >> 4]);
            sb_char(r, b, hex[c & 15]);
        }
    }
}

static bool quote_pair(rt *r, sb *b, val k, val v, bool first)
{
    val ks = k.type == T_BYTES ? k : to_str(r, k), vs = v.type == T_BYTES ? v : to_str(r, v);
    if (IS_ERR(ks) || IS_ERR(vs)) return false;
    if (!first) sb_char(r, b, '&');
    quote(r, b, ks.s, true);
    sb_char(r, b, '=');
    quote(r, b, vs.s, true);
    return !b->failed;
}

val f_urlencode(rt *r, val self, val *a, const args *raw)
{
    sb b = {0};
    iter it;
    val x;
    bool first = true;
    int c;
    (void)a;
    (void)raw;
    if (self.type == T_STR || self.type == T_SELF || !is_iterable(self)) {
        val s = to_str(r, self);
        if (IS_ERR(s)) return s;
        quote(r, &b, s.s, false);
        return sb_val(r, &b);
    }
    if (self.type == T_DICT) {
        for (size_t i = 0; i < self.d->n; i++)
            if (!quote_pair(r, &b, self.d->e[i].key, self.d->e[i].value, i == 0)) return v_err();
        return sb_val(r, &b);
    }
    if (!iter_init(r, &it, self)) return v_err();
    while ((c = iter_next(r, &it, &x)) > 0) {
        list *pair;
        if (!step(r, 1)) return v_err();
        if (!is_iterable(x)) return raise(r, EXC_TYPE, "cannot unpack non-iterable %s object", type_name(x));
        pair = list_from(r, x);
        if (!pair) return v_err();
        if (pair->n != 2)
            return raise(r, EXC_VALUE,
                         pair->n < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                     : "too many values to unpack (expected 2)",
                         pair->n);
        if (!quote_pair(r, &b, pair->v[0], pair->v[1], first)) return v_err();
        first = false;
    }
    return c < 0 ? v_err() : sb_val(r, &b);
}

/* ---- html.unescape ---- */

static const html_entity *entity(const char *s, size_t n)
{
    size_t lo = 0, hi = n_html_entities;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const char *name = html_entities[mid].name;
        size_t len = strlen(name), k = len < n ? len : n;
        int c = memcmp(name, s, k);
        if (c == 0) {
            if (len == n) return &html_entities[mid];
            c = len < n ? -1 : 1;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static void put_entity(rt *r, sb *b, const html_entity *e)
{
    sb_cp(r, b, e->cp[0]);
    if (e->cp[1]) sb_cp(r, b, e->cp[1]);
}

/* What a number stands for: Windows-1252 in the C1 range, nothing for what is no character. */
static void put_charref(rt *r, sb *b, uint64_t num)
{
    static const uint16_t c1[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                    0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                    0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                    0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
    if (num == 0 || (num >= 0xd800 && num <= 0xdfff) || num > 0x10ffff)
        sb_cp(r, b, 0xfffd);
    else if (num == 0x0d)
        sb_cp(r, b, 0x0d);
    else if (num >= 0x80 && num <= 0x9f)
        sb_cp(r, b, c1[num - 0x80]);
    else if (!((num >= 1 && num <= 8) || num == 0x0b || (num >= 0x0e && num <= 0x1f) ||
               (num >= 0x7f && num <= 0x9f) || (num >= 0xfdd0 && num <= 0xfdef) || (num & 0xfffe) == 0xfffe))
        sb_cp(r, b, (uint32_t)num);
}

static size_t unescape_one(rt *r, sb *b, const char *s,
                           size_t n) /* s starts behind "&"; 0: nothing matched */
{
    size_t i = 0, chars = 0;
    if (n && s[0] == '#') {
        bool hex = n > 1 && (s[1] == 'x' || s[1] == 'X');
        uint64_t num = 0;
        size_t from = i = hex ? 2 : 1;
        for (; i < n; i++) {
            char c = s[i];
            int d = c >= '0' && c <= '9'                        ? c - '0'
                    : hex && (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                : -1;
            if (d < 0) break;
            if (num < 0x1000000) num = num * (hex ? 16 : 10) + (uint64_t)d;
        }
        if (i == from) return 0;
        if (i < n && s[i] == ';') i++;
        put_charref(r, b, num);
        return i;
    }
    while (i < n && chars < 32 && !strchr("\t\n\f <&#;", s[i] ? s[i] : ' ')) {
        next_cp(s, n, &i);
        chars++;
    }
    if (!i) return 0;
    if (i < n && s[i] == ';') i++;
    for (size_t x = i; x > 1; x--) {
        const html_entity *e = entity(s, x);
        if (!e) continue;
        put_entity(r, b, e);
        sb_add(r, b, s + x, i - x);
        return i;
    }
    sb_char(r, b, '&');
    sb_add(r, b, s, i);
    return i;
}

val html_unescape(rt *r, const str *s)
{
    sb b = {0};
    size_t i = 0;
    while (i < s->n && !b.failed) {
        size_t k = bytes_find(s->s + i, s->n - i, "&", 1), n;
        if (k == SIZE_MAX) break;
        sb_add(r, &b, s->s + i, k);
        i += k + 1;
        n = unescape_one(r, &b, s->s + i, s->n - i);
        if (!n) sb_char(r, &b, '&');
        i += n;
    }
    sb_add(r, &b, s->s + i, s->n - i);
    return sb_val(r, &b);
}

/* ---- urlize ---- */

typedef struct urlize_ud {
    rt *r;
    pcre2_code *http, *email, *head, *tail, *scheme;
    pcre2_match_data *md;
    pcre2_match_context *mc;
    const str *rel, *target; /* ready to print */
    int64_t limit;           /* -1: none */
    list *schemes;           /* NULL: none given */
} urlize_ud;

static bool matches(urlize_ud *u, pcre2_code *code, const char *s, size_t n, size_t *from, size_t *to)
{
    size_t *v;
    int c = pcre2_match(code, (PCRE2_SPTR)s, n, 0, PCRE2_NO_UTF_CHECK, u->md, u->mc);
    if (c < 0) {
        if (c != PCRE2_ERROR_NOMATCH) raise(u->r, EXC_LIMIT, "urlize: a word needs too many steps");
        return false;
    }
    v = pcre2_get_ovector_pointer(u->md);
    *from = v[0];
    *to = v[1];
    return true;
}

static size_t count_of(const char *s, size_t n, const char *x)
{
    size_t k = 0, at, len = strlen(x);
    while ((at = bytes_find(s, n, x, len)) != SIZE_MAX) {
        k++;
        s += at + len;
        n -= at + len;
    }
    return k;
}

static bool ends_with(const char *s, size_t n, const char *x)
{
    size_t k = strlen(x);
    return n >= k && memcmp(s + n - k, x, k) == 0;
}

static bool starts_with(const char *s, size_t n, const char *x)
{
    size_t k = strlen(x);
    return n >= k && memcmp(s, x, k) == 0;
}

/* <a href="PREFIX MIDDLE" rel target>TEXT</a> */
static void link_to(urlize_ud *u, sb *b, const char *prefix, const char *s, size_t n, const char *text,
                    size_t n_text, bool attrs, bool trim)
{
    rt *r = u->r;
    str t = {.s = text, .n = n_text, .n_chars = SIZE_MAX};
    sb_str(r, b, "<a href=\"");
    sb_str(r, b, prefix);
    sb_add(r, b, s, n);
    sb_char(r, b, '"');
    if (attrs) {
        sb_add(r, b, u->rel->s, u->rel->n);
        sb_add(r, b, u->target->s, u->target->n);
    }
    sb_char(r, b, '>');
    if (trim && u->limit != INT64_MIN && (int64_t)str_len(&t) > u->limit) {
        val cut = get_slice(r, v_of_str(&t), v_none(), v_int(u->limit), v_none());
        if (IS_ERR(cut)) {
            b->failed = true;
            return;
        }
        sb_add(r, b, cut.s->s, cut.s->n);
        sb_add(r, b, "...", 3);
    } else {
        sb_add(r, b, text, n_text);
    }
    sb_str(r, b, "</a>");
}

static bool urlize_word(urlize_ud *u, sb *out, const char *s, size_t n)
{
    static const char *const pairs[3][2] = {{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}};
    rt *r = u->r;
    size_t from, to, head = 0, tail = n;
    const char *m;
    size_t n_m;

    if (matches(u, u->head, s, n, &from, &to)) head = to;
    m = s + head;
    n_m = n - head;
    if (ends_with(m, n_m, ")") || ends_with(m, n_m, ">") || ends_with(m, n_m, ".") ||
        ends_with(m, n_m, ",") || ends_with(m, n_m, "\n") || ends_with(m, n_m, "&gt;")) {
        if (matches(u, u->tail, m, n_m, &from, &to)) n_m = from;
    }
    tail = head + n_m;
    for (int p = 0; p < 3; p++) {
        size_t opened = count_of(m, n_m, pairs[p][0]), closed = count_of(m, n_m, pairs[p][1]), k;
        if (opened <= closed) continue;
        k = count_of(s + tail, n - tail, pairs[p][1]);
        for (k = opened < k ? opened : k; k > 0; k--) {
            size_t at = bytes_find(s + tail, n - tail, pairs[p][1], strlen(pairs[p][1]));
            if (at == SIZE_MAX) break;
            tail += at + strlen(pairs[p][1]);
            n_m = tail - head;
        }
    }
    if (r->exc.kind != EXC_NONE) return false;
    sb_add(r, out, s, head);
    if (matches(u, u->http, m, n_m, &from, &to)) {
        bool scheme = starts_with(m, n_m, "https://") || starts_with(m, n_m, "http://");
        link_to(u, out, scheme ? "" : "https://", m, n_m, m, n_m, true, true);
    } else if (starts_with(m, n_m, "mailto:") && matches(u, u->email, m + 7, n_m - 7, &from, &to)) {
        link_to(u, out, "", m, n_m, m + 7, n_m - 7, false, false);
    } else if (memchr(m, '@', n_m) && !starts_with(m, n_m, "www.") && m[0] != '@' && !memchr(m, ':', n_m) &&
               matches(u, u->email, m, n_m, &from, &to)) {
        link_to(u, out, "mailto:", m, n_m, m, n_m, false, false);
    } else {
        val cur = v_str_copy(r, m, n_m);
        if (IS_ERR(cur)) return false;
        for (size_t i = 0; u->schemes && i < u->schemes->n; i++) {
            const str *x = u->schemes->v[i].s;
            sb b = {0};
            if (cur.s->n == x->n || cur.s->n < x->n || memcmp(cur.s->s, x->s, x->n) != 0) continue;
            link_to(u, &b, "", cur.s->s, cur.s->n, cur.s->s, cur.s->n, true, false);
            cur = sb_val(r, &b);
            if (IS_ERR(cur)) return false;
        }
        sb_add(r, out, cur.s->s, cur.s->n);
    }
    sb_add(r, out, s + tail, n - tail);
    return r->exc.kind == EXC_NONE && !out->failed;
}

static pcre2_code *compile(const char *pattern, uint32_t options)
{
    int e;
    size_t at;
    return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | options, &e, &at,
                         NULL);
}

/* rel="..." : the words given and "noopener", sorted, each once */
static val rel_attr(rt *r, val rel, bool nofollow)
{
    sb b = {0};
    list *words = list_new(r, 4);
    val seen = v_missing();
    if (!words) return v_err();
    if (rel.type == T_STR && rel.s->n) {
        val parts;
        args none = {0};
        const builtin *split = method_find(T_STR, "split", 5);
        parts = call_builtin(r, split, rel, &none);
        if (IS_ERR(parts)) return parts;
        for (size_t i = 0; i < parts.l->n; i++) list_add(r, words, parts.l->v[i]);
    }
    if (nofollow && !list_add(r, words, v_cstr(r, "nofollow"))) return v_err();
    if (!list_add(r, words, v_cstr(r, "noopener"))) return v_err();
    if (!sort_values(r, words->v, words->v, words->n, false)) return v_err();
    sb_str(r, &b, " rel=\"");
    for (size_t i = 0; i < words->n; i++) {
        val w = words->v[i];
        if (seen.type == T_STR && str_eq(seen.s, w.s)) continue;
        if (seen.type == T_STR) sb_char(r, &b, ' ');
        write_escaped(r, &b, w.s->s, w.s->n);
        seen = w;
    }
    sb_char(r, &b, '"');
    return sb_val(r, &b);
}

static bool urlize_text(urlize_ud *u, sb *out, const str *s)
{
    size_t from = 0;
    bool space = false;
    for (size_t i = 0; i <= s->n;) {
        size_t at = i;
        bool sp = i < s->n && cp_is_space(next_cp(s->s, s->n, &i));
        if (at < s->n && sp == space) continue;
        if (!urlize_word(u, out, s->s + from, at - from)) return false;
        from = at;
        space = sp;
        if (at == s->n) break;
    }
    return true;
}

val f_urlize(rt *r, val self, val *a, const args *raw)
{
    /* trim_url_limit, nofollow, target, rel, extra_schemes */
    urlize_ud u = {.r = r, .limit = INT64_MIN};
    val text, rel, target, v = v_err();
    sb t = {0}, out = {0};
    bool nofollow = false, yes;
    (void)raw;

    if (a[1].type != T_MISSING && !truthy(r, a[1], &nofollow)) return v_err();
    if (a[0].type != T_MISSING && a[0].type != T_NONE && !index_of(r, a[0], &u.limit)) return v_err();
    if (a[3].type != T_MISSING && !truthy(r, a[3], &yes)) return v_err();
    if (a[3].type != T_MISSING && yes && a[3].type != T_STR)
        return raise(r, EXC_ATTRIBUTE, "'%s' object has no attribute 'split'", type_name(a[3]));
    rel = rel_attr(r, a[3], nofollow);
    if (IS_ERR(rel)) return rel;
    if (a[2].type != T_MISSING) {
        if (!truthy(r, a[2], &yes)) return v_err();
        if (yes) {
            val e = escape_html(r, a[2]);
            if (IS_ERR(e)) return e;
            sb_str(r, &t, " target=\"");
            sb_add(r, &t, e.s->s, e.s->n);
            sb_char(r, &t, '"');
        }
    }
    target = sb_val(r, &t);
    text = escape_html(r, self);
    if (IS_ERR(target) || IS_ERR(text)) return v_err();
    u.rel = rel.s;
    u.target = target.s;

    u.head = compile("^([(<]|&lt;)+", 0);
    u.tail = compile("([)>.,\\n]|&gt;)+$", 0);
    u.email = compile("^\\S+@\\w[\\w.-]*\\.\\w+$", 0);
    u.scheme = compile("^([\\w.+-]{2,}:(/){0,2})\\z", 0);
    u.http = compile(
        "^((https?://|www\\.)(([\\w%-]+\\.)+)?([a-z]{2,63}|xn--[\\w%]{2,59})"
        "|([\\w%-]{2,63}\\.)+(com|net|int|edu|gov|org|info|mil)"
        "|(https?://)((([\\d]{1,3})(\\.[\\d]{1,3}){3})|(\\[([\\da-f]{0,4}:){2}([\\da-f]{0,4}:?){1,6}])))"
        "(?::[\\d]{1,5})?(?:[/?#]\\S*)?$",
        PCRE2_CASELESS);
    u.md = pcre2_match_data_create(1, NULL);
    u.mc = pcre2_match_context_create(NULL);
    if (!u.head || !u.tail || !u.email || !u.http || !u.scheme || !u.md || !u.mc) {
        raise(r, EXC_NOMEM, "out of memory");
        goto done;
    }
    pcre2_set_match_limit(u.mc, 200000);
    pcre2_set_depth_limit(u.mc, 5000);
    if (a[4].type != T_MISSING && a[4].type != T_NONE) {
        if (!(u.schemes = list_from(r, a[4]))) goto done;
        for (size_t i = 0; i < u.schemes->n; i++) {
            size_t from, to;
            val x = u.schemes->v[i];
            if (x.type != T_STR) {
                raise(r, EXC_TYPE, "expected string or bytes-like object, got '%s'", type_name(x));
                goto done;
            }
            if (!matches(&u, u.scheme, x.s->s, x.s->n, &from, &to)) {
                raise(r, EXC_FILTER_ARG, "'%.*s' is not a valid URI scheme prefix.",
                      (int)(x.s->n < 100 ? x.s->n : 100), x.s->s);
                goto done;
            }
        }
    }
    if (!step(r, text.s->n) || !urlize_text(&u, &out, text.s)) goto done;
    v = sb_val(r, &out);
    if (r->autoescape) v = v_markup(v);
done:
    pcre2_code_free(u.head);
    pcre2_code_free(u.tail);
    pcre2_code_free(u.email);
    pcre2_code_free(u.http);
    pcre2_code_free(u.scheme);
    pcre2_match_data_free(u.md);
    pcre2_match_context_free(u.mc);
    return v;
}
