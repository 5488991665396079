/* Strings: UTF-8 bytes with the length in code points beside them. */
#include "text/template/template.h"

size_t str_len(str *s)
{
    if (s->n_chars == SIZE_MAX) {
        size_t n = 0;
        for (size_t i = 0; i < s->n; i++) n += ((unsigned char)s->s[i] & 0xc0) != 0x80;
        s->n_chars = n;
    }
    return s->n_chars;
}

size_t str_offset(str *s, size_t i_char)
{
    size_t i = 0;
    if (i_char >= str_len(s)) return s->n;
    if (s->n_chars == s->n) return i_char;
    for (; i < s->n; i++)
        if (((unsigned char)s->s[i] & 0xc0) != 0x80 && i_char-- == 0) break;
    return i;
}

bool str_eq(const str *a, const str *b)
{
    return a == b || (a->n == b->n && (a->n == 0 || memcmp(a->s, b->s, a->n) == 0));
}

bool str_is(const str *a, const char *b)
{
    size_t n = strlen(b);
    return a->n == n && memcmp(a->s, b, n) == 0;
}

val v_str_borrow(rt *r, const char *s, size_t n)
{
    str *x = rt_alloc(r, sizeof *x);
    if (!x) return v_err();
    *x = (str){.s = s, .n = n, .n_chars = SIZE_MAX};
    return v_of_str(x);
}

val v_str_copy(rt *r, const char *s, size_t n)
{
    char *p = rt_alloc(r, n + 1);
    if (!p) return v_err();
    if (n) memcpy(p, s, n);
    return v_str_borrow(r, p, n);
}

val v_cstr(rt *r, const char *s)
{
    return v_str_borrow(r, s, strlen(s));
}

val v_cp(rt *r, uint32_t cp)
{
    char u[4];
    return v_str_copy(r, u, mlxr_utf8_encode(u, cp));
}

val v_markup(val v)
{
    if (v.type == T_STR) v.flag |= F_MARKUP;
    return v;
}

val str_sub(rt *r, val s, size_t from, size_t to)
{
    if (from >= to) return v_str_borrow(r, "", 0);
    if (from == 0 && to == s.s->n) return v_of_str(s.s);
    return v_str_borrow(r, s.s->s + from, to - from);
}

size_t bytes_find(const char *h, size_t nh, const char *n, size_t nn)
{
    const char *p;
    if (nn == 0) return 0;
    if (nh < nn) return SIZE_MAX;
    p = memmem(h, nh, n, nn);
    return p ? (size_t)(p - h) : SIZE_MAX;
}

size_t bytes_rfind(const char *h, size_t nh, const char *n, size_t nn)
{
    if (nh < nn) return SIZE_MAX;
    for (size_t i = nh - nn + 1; i-- > 0;)
        if (nn == 0 || (h[i] == n[0] && memcmp(h + i, n, nn) == 0)) return i;
    return SIZE_MAX;
}

val str_replace(rt *r, str *s, str *old, str *new_, int64_t count)
{
    sb b = {0};
    size_t i = 0;
    if (count < 0) count = INT64_MAX;
    if (old->n == 0) {
        /* between all characters, and at both ends */
        while (count > 0) {
            size_t k = i;
            sb_add(r, &b, new_->s, new_->n);
            count--;
            if (i >= s->n) break;
            next_cp(s->s, s->n, &k);
            sb_add(r, &b, s->s + i, k - i);
            i = k;
            if (b.failed) break;
        }
    } else {
        while (count-- > 0) {
            size_t k = bytes_find(s->s + i, s->n - i, old->s, old->n);
            if (k == SIZE_MAX) break;
            sb_add(r, &b, s->s + i, k);
            sb_add(r, &b, new_->s, new_->n);
            i += k + old->n;
            if (b.failed) break;
        }
    }
    sb_add(r, &b, s->s + i, s->n - i);
    return sb_val(r, &b);
}

val str_repeat(rt *r, val s, int64_t n)
{
    size_t total;
    char *p;
    if (n <= 0 || s.s->n == 0) return v_str_borrow(r, "", 0);
    if (n == 1) return v_of_str(s.s);
    if (!mlxr_mul_size(&total, s.s->n, (size_t)n)) total = SIZE_MAX;
    p = rt_alloc(r, total);
    if (!p) return v_err();
    if (s.s->n == 1) {
        memset(p, s.s->s[0], total);
    } else {
        for (size_t i = 0; i < (size_t)n; i++) memcpy(p + i * s.s->n, s.s->s, s.s->n);
    }
    return v_str_borrow(r, p, total);
}

/* Long texts are often built by appending to what was built before. A result is given room behind it; when the
 * left side ends where the used part of such a room ends, the right side is put there and nothing is copied. The
 * room's bookkeeping stands in front of its bytes, marked, and only texts over this size have one. */
enum { ROOM_FROM = 1024 };
typedef struct room {
    size_t used, cap;
} room;

val str_concat(rt *r, val a, val b)
{
    size_t n;
    char *p;
    str *s;
    if (b.s->n == 0 && a.type == T_STR) return v_of_str(a.s);
    if (a.s->n == 0) return v_of_str(b.s);
    if (!mlxr_add_size(&n, a.s->n, b.s->n)) n = SIZE_MAX;
    if (a.flag & F_ROOM) { /* a.s->s starts a room */
        room *q = (room *)(void *)((char *)(uintptr_t)a.s->s - sizeof(room));
        if (q->used == a.s->n && q->cap - q->used >= b.s->n) {
            val v;
            memcpy((char *)(uintptr_t)a.s->s + q->used, b.s->s, b.s->n);
            q->used += b.s->n;
            v = v_str_borrow(r, a.s->s, n);
            if (!IS_ERR(v)) v.flag = F_ROOM;
            return v;
        }
    }
    if (n >= ROOM_FROM && n < SIZE_MAX / 4) {
        room *q = rt_alloc(r, sizeof *q + n + n / 2);
        val v;
        if (!q) return v_err();
        q->used = n;
        q->cap = n + n / 2;
        p = (char *)(q + 1);
        memcpy(p, a.s->s, a.s->n);
        memcpy(p + a.s->n, b.s->s, b.s->n);
        v = v_str_borrow(r, p, n);
        if (!IS_ERR(v)) v.flag = F_ROOM;
        return v;
    }
    s = rt_alloc(r, sizeof *s + n);
    if (!s) return v_err();
    p = (char *)(s + 1);
    memcpy(p, a.s->s, a.s->n);
    memcpy(p + a.s->n, b.s->s, b.s->n);
    *s = (str){.s = p, .n = n, .n_chars = SIZE_MAX};
    return v_of_str(s);
}

static bool in_chars(const str *chars, uint32_t cp)
{
    for (size_t i = 0; i < chars->n;)
        if (next_cp(chars->s, chars->n, &i) == cp) return true;
    return false;
}

val str_strip(rt *r, val s, val chars, bool left, bool right)
{
    size_t from = 0, to = s.s->n, j;
    bool space = chars.type == T_NONE || chars.type == T_MISSING;
    if (!space && chars.type != T_STR) return raise(r, EXC_TYPE, "strip arg must be None or str");
    if (!space && !step(r, s.s->n / 64 * chars.s->n)) return v_err();
    while (left && from < to) {
        uint32_t cp;
        j = from;
        cp = next_cp(s.s->s, s.s->n, &j);
        if (space ? !cp_is_space(cp) : !in_chars(chars.s, cp)) break;
        from = j;
    }
    while (right && to > from) {
        uint32_t cp;
        size_t k = to, m;
        do k--;
        while (k > from && ((unsigned char)s.s->s[k] & 0xc0) == 0x80);
        m = k;
        cp = next_cp(s.s->s, s.s->n, &m);
        if (space ? !cp_is_space(cp) : !in_chars(chars.s, cp)) break;
        to = k;
    }
    return str_sub(r, s, from, to);
}

val str_pad(rt *r, val s, int64_t width, uint32_t fill, int where)
{
    int64_t n = (int64_t)str_len(s.s), pad = width - n, left;
    sb b = {0};
    if (width <= n) return v_of_str(s.s);
    /* CPython's center: the odd one goes left when the width is odd too */
    left = where > 0 ? pad : where < 0 ? 0 : pad / 2 + (pad & width & 1);
    sb_fill(r, &b, fill, (size_t)left);
    sb_add(r, &b, s.s->s, s.s->n);
    sb_fill(r, &b, fill, (size_t)(pad - left));
    return sb_val(r, &b);
}

bool line_next(line_iter *it, size_t *from, size_t *to, size_t *to_keep)
{
    size_t i = it->at;
    if (i >= it->n) return false;
    *from = i;
    while (i < it->n) {
        size_t j = i;
        uint32_t cp = next_cp(it->s, it->n, &j);
        if ((cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
            cp == 0x2029) {
            *to = i;
            if (cp == 13 && j < it->n && it->s[j] == '\n') j++;
            *to_keep = it->at = j;
            return true;
        }
        i = j;
    }
    *to = *to_keep = it->at = it->n;
    return true;
}

/* Sigma at byte i: final when a cased character comes before and none after, case-ignorable ones apart. */
static bool final_sigma(const str *s, size_t i)
{
    size_t j = i;
    bool before = false;
    while (j > 0) {
        uint32_t cp;
        size_t m;
        do j--;
        while (j > 0 && ((unsigned char)s->s[j] & 0xc0) == 0x80);
        m = j;
        cp = next_cp(s->s, s->n, &m);
        if (cp_is_case_ignorable(cp)) continue;
        before = cp_is_cased(cp);
        break;
    }
    if (!before) return false;
    j = i + 2;
    while (j < s->n) {
        uint32_t cp = next_cp(s->s, s->n, &j);
        if (cp_is_case_ignorable(cp)) continue;
        return !cp_is_cased(cp);
    }
    return true;
}

val str_case(rt *r, str *s, int how)
{
    sb b = {0};
    bool prev_cased = false, first = true;
    uint64_t sigma_cost = 0;

    if (how != 't' && how != 'c' && how != 's' && str_ascii(s)) {
        char *p = sb_reserve(r, &b, s->n);
        if (!p) return v_err();
        for (size_t i = 0; i < s->n; i++) {
            char c = s->s[i];
            if (how == 'u')
                p[i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
            else
                p[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        b.n = s->n;
        return sb_val(r, &b);
    }
    for (size_t i = 0; i < s->n;) {
        size_t at = i, n;
        uint32_t cp = next_cp(s->s, s->n, &i), to[3] = {0};
        int op = how;
        if (how == 'c') op = first ? 't' : 'l';
        if (how == 't' && prev_cased) op = 'l';
        if (how == 's') op = cp_is_upper(cp) ? 'l' : cp_is_lower(cp) ? 'u' : 0;
        switch (op) {
        case 'u': n = cp_upper(cp, to); break;
        case 't': n = cp_title(cp, to); break;
        case 'f': n = cp_fold(cp, to); break;
        case 'l':
            if (cp == 0x3a3) {
                sigma_cost += s->n / 16;
                if (!step(r, sigma_cost / 64)) return v_err();
                to[0] = final_sigma(s, at) ? 0x3c2 : 0x3c3;
                n = 1;
            } else {
                n = cp_lower(cp, to);
            }
            break;
        default: to[0] = cp; n = 1;
        }
        for (size_t k = 0; k < n; k++) sb_cp(r, &b, to[k]);
        prev_cased = cp_is_cased(cp);
        first = false;
        if (b.failed) break;
    }
    return sb_val(r, &b);
}
