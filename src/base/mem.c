/* Checked allocation, the growable buffer, the arena and the string table. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

void mlxr_free(void *p)
{
    free(p);
}

void *mlxr_malloc_array(size_t n, size_t size)
{
    size_t bytes;
    if (!mlxr_mul_size(&bytes, n, size)) return NULL;
    return malloc(bytes ? bytes : 1);
}

void *mlxr_calloc_array(size_t n, size_t size)
{
    size_t bytes;
    if (!mlxr_mul_size(&bytes, n, size)) return NULL;
    return calloc(bytes ? bytes : 1, 1);
}

void *mlxr_realloc_array(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (!mlxr_mul_size(&bytes, n, size)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *mlxr_aligned_alloc(size_t n_bytes)
{
    void *p = NULL;
    if (n_bytes > SIZE_MAX - 63) return NULL;
    n_bytes = (n_bytes + 63) & ~(size_t)63;
    if (posix_memalign(&p, 64, n_bytes ? n_bytes : 64) != 0) return NULL;
    return p;
}

void mlxr_aligned_free(void *p)
{
    free(p);
}

char *mlxr_strndup(const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? malloc(n + 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *mlxr_strdup(const char *s)
{
    return mlxr_strndup(s, strlen(s));
}

static char *vformat(const char *fmt, va_list ap, void *(*alloc)(void *, size_t), void *ud)
{
    va_list again;
    int n;
    char *p;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) return NULL;
    p = alloc(ud, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, ap);
    return p;
}

static void *heap_alloc(void *ud, size_t n)
{
    (void)ud;
    return malloc(n);
}

char *mlxr_asprintf(const char *fmt, ...)
{
    va_list ap;
    char *p;
    va_start(ap, fmt);
    p = vformat(fmt, ap, heap_alloc, NULL);
    va_end(ap);
    return p;
}

/* ---- buffer ---- */

char *mlxr_buf_reserve(mlxr_buf *b, size_t n)
{
    size_t want;
    if (b->failed) return NULL;
    if (!mlxr_add_size(&want, b->len, n) || !mlxr_add_size(&want, want, 1)) {
        b->failed = true;
        return NULL;
    }
    if (want > b->cap) {
        size_t cap = b->cap < SIZE_MAX / 2 ? b->cap + b->cap / 2 : want;
        char *data;
        if (cap < want) cap = want;
        if (cap < 64) cap = 64;
        data = realloc(b->data, cap);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void mlxr_buf_append(mlxr_buf *b, const void *data, size_t n)
{
    char *p = mlxr_buf_reserve(b, n);
    if (!p) return;
    if (n) memcpy(p, data, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void mlxr_buf_str(mlxr_buf *b, const char *s)
{
    mlxr_buf_append(b, s, strlen(s));
}

void mlxr_buf_char(mlxr_buf *b, char c)
{
    if (!b->failed && b->len + 1 < b->cap) {
        b->data[b->len++] = c;
        b->data[b->len] = '\0';
    } else {
        mlxr_buf_append(b, &c, 1);
    }
}

void mlxr_buf_utf8(mlxr_buf *b, uint32_t codepoint)
{
    char u[4];
    mlxr_buf_append(b, u, mlxr_utf8_encode(u, codepoint));
}

void mlxr_buf_printf(mlxr_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    int n;
    char *p;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) {
        b->failed = true;
    } else if ((p = mlxr_buf_reserve(b, (size_t)n)) != NULL) {
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        b->len += (size_t)n;
    }
    va_end(ap);
}

mlxr_status mlxr_buf_check(const mlxr_buf *b, const char *what, mlxr_error *err)
{
    return b->failed ? mlxr_fail_nomem(err, what) : MLXR_OK;
}

char *mlxr_buf_take(mlxr_buf *b, size_t *n)
{
    char *p;
    if (n) *n = 0;
    if (!b->failed && !b->data) mlxr_buf_append(b, "", 0);
    if (b->failed) {
        mlxr_buf_clear(b);
        return NULL;
    }
    p = b->data;
    if (n) *n = b->len;
    *b = (mlxr_buf){0};
    return p;
}

void mlxr_buf_clear(mlxr_buf *b)
{
    free(b->data);
    *b = (mlxr_buf){0};
}

/* ---- arena ---- */

struct mlxr_arena_chunk {
    struct mlxr_arena_chunk *next;
    size_t used, cap; /* of the bytes behind this header */
};

enum { ARENA_ALIGN = 16, ARENA_HEAD = 32, ARENA_FIRST = 4096, ARENA_MOST = 1 << 20 };
_Static_assert(sizeof(struct mlxr_arena_chunk) <= ARENA_HEAD, "chunk header fits its place");

void *mlxr_arena_alloc(mlxr_arena *a, size_t n_bytes)
{
    struct mlxr_arena_chunk *c = a->head;
    size_t n, cap, bytes;

    if (n_bytes > SIZE_MAX - ARENA_ALIGN) return NULL;
    n = (n_bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (!c || c->cap - c->used < n) {
        cap = c ? c->cap * 2 : ARENA_FIRST;
        if (cap > ARENA_MOST) cap = ARENA_MOST;
        if (cap < n) cap = n;
        if (!mlxr_add_size(&bytes, cap, ARENA_HEAD)) return NULL;
        c = malloc(bytes);
        if (!c) return NULL;
        c->next = a->head;
        c->used = 0;
        c->cap = cap;
        a->head = c;
    }
    c->used += n;
    a->used_bytes += n;
    return (char *)c + ARENA_HEAD + c->used - n;
}

void *mlxr_arena_calloc(mlxr_arena *a, size_t n, size_t size)
{
    size_t bytes;
    void *p;
    if (!mlxr_mul_size(&bytes, n, size)) return NULL;
    p = mlxr_arena_alloc(a, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

char *mlxr_arena_strndup(mlxr_arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? mlxr_arena_alloc(a, n + 1) : NULL;
    if (!p) return NULL;
    if (n) memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

static void *arena_alloc_ud(void *ud, size_t n)
{
    return mlxr_arena_alloc(ud, n);
}

char *mlxr_arena_printf(mlxr_arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;
    va_start(ap, fmt);
    p = vformat(fmt, ap, arena_alloc_ud, a);
    va_end(ap);
    return p;
}

void mlxr_arena_clear(mlxr_arena *a)
{
    struct mlxr_arena_chunk *c = a->head;
    while (c) {
        struct mlxr_arena_chunk *next = c->next;
        free(c);
        c = next;
    }
    *a = (mlxr_arena){0};
}

/* ---- string table: linear probing, at most 3/4 full ---- */

struct mlxr_strtab_entry {
    const char *key; /* NULL: free */
    size_t n_key;
    uint64_t hash;
    size_t value;
};

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h;
}

uint64_t mlxr_hash_bytes(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = seed ^ (n * 0x9e3779b97f4a7c15u), w;
    while (n >= 8) {
        memcpy(&w, p, 8);
        h = mix(h ^ w) + 0x9e3779b97f4a7c15u;
        p += 8;
        n -= 8;
    }
    w = 0;
    if (n) memcpy(&w, p, n);
    return mix(h ^ w);
}

static struct mlxr_strtab_entry *strtab_find(const mlxr_strtab *t, const char *key, size_t n, uint64_t hash)
{
    size_t i = hash & (t->cap - 1);
    for (;;) {
        struct mlxr_strtab_entry *e = &t->entries[i];
        if (!e->key) return e;
        if (e->hash == hash && e->n_key == n && memcmp(e->key, key, n) == 0) return e;
        i = (i + 1) & (t->cap - 1);
    }
}

static bool strtab_grow(mlxr_strtab *t)
{
    mlxr_strtab bigger = {.cap = t->cap ? t->cap * 2 : 64, .n = t->n, .hash_key = t->hash_key};
    if (bigger.cap < t->cap) return false;
    bigger.entries = mlxr_calloc_array(bigger.cap, sizeof *bigger.entries);
    if (!bigger.entries) return false;
    for (size_t i = 0; i < t->cap; i++) {
        struct mlxr_strtab_entry *e = &t->entries[i];
        if (e->key) *strtab_find(&bigger, e->key, e->n_key, e->hash) = *e;
    }
    free(t->entries);
    *t = bigger;
    return true;
}

bool mlxr_strtab_put(mlxr_strtab *t, const char *key, size_t n_key, size_t value, size_t *old)
{
    struct mlxr_strtab_entry *e;
    uint64_t hash;

    /* The address as the seed: a file cannot be made to collide without knowing where this one lies. */
    if (!t->hash_key) t->hash_key = mix((uint64_t)(uintptr_t)t) | 1;
    if (t->n >= t->cap - t->cap / 4 && !strtab_grow(t)) return false;
    hash = mlxr_hash_bytes(key, n_key, t->hash_key);
    e = strtab_find(t, key, n_key, hash);
    if (old) *old = e->key ? e->value : SIZE_MAX;
    if (!e->key) {
        *e = (struct mlxr_strtab_entry){.key = key, .n_key = n_key, .hash = hash};
        t->n++;
    }
    e->value = value;
    return true;
}

size_t mlxr_strtab_get(const mlxr_strtab *t, const char *key, size_t n_key)
{
    struct mlxr_strtab_entry *e;
    if (!t->n) return SIZE_MAX;
    e = strtab_find(t, key, n_key, mlxr_hash_bytes(key, n_key, t->hash_key));
    return e->key ? e->value : SIZE_MAX;
}

void mlxr_strtab_clear(mlxr_strtab *t)
{
    free(t->entries);
    *t = (mlxr_strtab){0};
}
