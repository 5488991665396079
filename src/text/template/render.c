/* What a render stands on: its arena with a bound, exceptions, text under construction. */
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

void *rt_alloc(rt *r, size_t n_bytes)
{
    void *p;
    if (n_bytes > r->limits.max_memory_bytes - r->arena.used_bytes) {
        raise(r, EXC_LIMIT, "more than %zu bytes of memory are needed", r->limits.max_memory_bytes);
        return NULL;
    }
    p = mlxr_arena_alloc(&r->arena, n_bytes);
    if (!p) raise(r, EXC_NOMEM, "out of memory");
    return p;
}

void *rt_alloc_array(rt *r, size_t n, size_t size)
{
    size_t bytes;
    if (!mlxr_mul_size(&bytes, n, size)) {
        raise(r, EXC_LIMIT, "more than %zu bytes of memory are needed", r->limits.max_memory_bytes);
        return NULL;
    }
    return rt_alloc(r, bytes);
}

val raise(rt *r, exc_kind kind, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    size_t n;

    /* A limit or no memory cannot be caught: what came first stays. */
    if (r->exc.kind == EXC_LIMIT || r->exc.kind == EXC_NOMEM) return v_err();
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    n = strlen(text);
    n = mlxr_utf8_valid(text, n); /* the cut may have split a character */
    r->exc.kind = kind;
    r->exc.message = mlxr_arena_strndup(&r->arena, text, n);
    if (!r->exc.message) r->exc.kind = EXC_NOMEM;
    return v_err();
}

void clear_exc(rt *r)
{
    if (r->exc.kind != EXC_LIMIT && r->exc.kind != EXC_NOMEM) r->exc = (exception){0};
}

bool is_lookup_error(const rt *r)
{
    return r->exc.kind == EXC_TYPE || r->exc.kind == EXC_KEY || r->exc.kind == EXC_INDEX;
}

bool step(rt *r, uint64_t n)
{
    if (n > r->limits.max_steps - r->steps) {
        r->steps = r->limits.max_steps;
        raise(r, EXC_LIMIT, "more than %llu steps", (unsigned long long)r->limits.max_steps);
        return false;
    }
    r->steps += n;
    return true;
}

/* ---- text ---- */

char *sb_reserve(rt *r, sb *b, size_t n)
{
    if (b->failed) return NULL;
    if (n > b->cap - b->n || !b->p) {
        size_t cap = b->cap ? b->cap : b->heap ? 4096 : 64, want;
        char *p;
        if (!mlxr_add_size(&want, b->n, n)) want = SIZE_MAX;
        if (b->heap && want > r->limits.max_output_bytes + 1) {
            raise(r, EXC_LIMIT, "more than %zu bytes of output", r->limits.max_output_bytes);
            b->failed = true;
            return NULL;
        }
        while (cap < want && cap <= SIZE_MAX / 2) cap *= 2;
        if (cap < want) cap = want;
        p = b->heap ? realloc(b->p, cap) : rt_alloc(r, cap);
        if (!p) {
            if (b->heap) raise(r, EXC_NOMEM, "out of memory");
            b->failed = true;
            return NULL;
        }
        if (b->p && !b->heap) memcpy(p, b->p, b->n);
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

void sb_add(rt *r, sb *b, const char *s, size_t n)
{
    char *p = sb_reserve(r, b, n);
    if (!p || !n) return;
    memcpy(p, s, n);
    b->n += n;
}

void sb_str(rt *r, sb *b, const char *s)
{
    sb_add(r, b, s, strlen(s));
}

void sb_char(rt *r, sb *b, char c)
{
    if (b->n < b->cap && !b->failed)
        b->p[b->n++] = c;
    else
        sb_add(r, b, &c, 1);
}

void sb_cp(rt *r, sb *b, uint32_t cp)
{
    char u[4];
    if (cp < 0x80)
        sb_char(r, b, (char)cp);
    else
        sb_add(r, b, u, mlxr_utf8_encode(u, cp));
}

void sb_fill(rt *r, sb *b, uint32_t cp, size_t count)
{
    char u[4], *p;
    size_t k = mlxr_utf8_encode(u, cp), bytes;
    if (!mlxr_mul_size(&bytes, count, k)) bytes = SIZE_MAX;
    p = sb_reserve(r, b, bytes);
    if (!p) return;
    if (k == 1) {
        memset(p, u[0], count);
    } else {
        for (size_t i = 0; i < count; i++) memcpy(p + i * k, u, k);
    }
    b->n += bytes;
}

val sb_val(rt *r, sb *b)
{
    if (b->failed) return v_err();
    return v_str_borrow(r, b->n ? b->p : "", b->n);
}

bool out_add(rt *r, const char *s, size_t n)
{
    sb *b = r->out;
    char *p;
    if (n > r->limits.max_output_bytes || b->n > r->limits.max_output_bytes - n) {
        raise(r, EXC_LIMIT, "more than %zu bytes of output", r->limits.max_output_bytes);
        return false;
    }
    p = sb_reserve(r, b, n);
    if (b->failed) return false;
    if (n) memcpy(p, s, n);
    b->n += n;
    return true;
}
