/* JSON text straight to values, by yajl's events: keys may hold any character, and nothing is built twice. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <yajl/yajl_parse.h>

#include "text/template/template.h"

typedef struct level {
    val v;   /* the list or dict being filled */
    val key; /* of a dict */
} level;

typedef struct builder {
    rt *r;
    level *stack;
    size_t n, cap;
    val top;
} builder;

static int add(builder *b, val v)
{
    level *l;
    if (IS_ERR(v)) return 0;
    if (b->n == 0) {
        b->top = v;
        return 1;
    }
    l = &b->stack[b->n - 1];
    return l->v.type == T_LIST ? list_add(b->r, l->v.l, v) : dict_put(b->r, l->v.d, l->key, v);
}

static int open_level(builder *b, val v)
{
    if (!add(b, v)) return 0;
    if (b->n >= MAX_VALUE_DEPTH) {
        raise(b->r, EXC_LIMIT, "values are nested more than %d deep", MAX_VALUE_DEPTH);
        return 0;
    }
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16;
        level *s = rt_alloc_array(b->r, cap, sizeof *s);
        if (!s) return 0;
        if (b->n) memcpy(s, b->stack, b->n * sizeof *s);
        b->stack = s;
        b->cap = cap;
    }
    b->stack[b->n++] = (level){.v = v};
    return 1;
}

static int on_null(void *ud)
{
    return add(ud, v_none());
}

static int on_bool(void *ud, int x)
{
    return add(ud, v_bool(x != 0));
}

static int on_number(void *ud, const char *s, size_t n)
{
    builder *b = ud;
    char buf[64], *p = buf, *end;
    bool real = memchr(s, '.', n) || memchr(s, 'e', n) || memchr(s, 'E', n);
    val v;

    if (n >= sizeof buf && !(p = rt_alloc(b->r, n + 1))) return 0;
    memcpy(p, s, n);
    p[n] = '\0';
    errno = 0;
    v = real ? v_float(strtod(p, &end)) : v_int(strtoll(p, &end, 10));
    if (!real && errno == ERANGE) {
        raise(b->r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported: %.40s", p);
        return 0;
    }
    return add(b, v);
}

static int on_string(void *ud, const unsigned char *s, size_t n)
{
    builder *b = ud;
    return add(b, v_str_copy(b->r, (const char *)s, n));
}

static int on_key(void *ud, const unsigned char *s, size_t n)
{
    builder *b = ud;
    val k = v_str_copy(b->r, (const char *)s, n);
    if (IS_ERR(k)) return 0;
    b->stack[b->n - 1].key = k;
    return 1;
}

static int on_start_map(void *ud)
{
    builder *b = ud;
    dict *d = dict_new(b->r, 0);
    return d && open_level(b, v_of_dict(d));
}

static int on_start_list(void *ud)
{
    builder *b = ud;
    list *l = list_new(b->r, 0);
    return l && open_level(b, v_of_list(l));
}

static int on_end(void *ud)
{
    builder *b = ud;
    b->n--;
    return 1;
}

val v_from_json_text(rt *r, const char *text, size_t n, mlxr_error *err)
{
    static const yajl_callbacks calls = {
        .yajl_null = on_null,
        .yajl_boolean = on_bool,
        .yajl_number = on_number,
        .yajl_string = on_string,
        .yajl_start_map = on_start_map,
        .yajl_map_key = on_key,
        .yajl_end_map = on_end,
        .yajl_start_array = on_start_list,
        .yajl_end_array = on_end,
    };
    builder b = {.r = r, .top = v_err()};
    yajl_handle h = yajl_alloc(&calls, NULL, &b);
    yajl_status st;

    if (!h) return raise(r, EXC_NOMEM, "out of memory");
    st = yajl_parse(h, (const unsigned char *)text, n);
    if (st == yajl_status_ok) st = yajl_complete_parse(h);
    if (st != yajl_status_ok && r->exc.kind == EXC_NONE) {
        unsigned char *why = yajl_get_error(h, 0, NULL, 0);
        size_t len = why ? strcspn((const char *)why, "\n") : 0;
        mlxr_fail(err, MLXR_E_FORMAT, "template context: not valid JSON at byte %zu: %.*s",
                  yajl_get_bytes_consumed(h), (int)len, why ? (const char *)why : "");
        yajl_free_error(h, why);
    }
    yajl_free(h);
    return st == yajl_status_ok ? b.top : v_err();
}
