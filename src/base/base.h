/* base: what every room stands on. Errors, checked sizes, a growable buffer, an arena, a string table,
 * UTF-8, half-precision numbers, clock, SHA-256. Files are in fs.h, JSON in json.h, threads in pool.h.
 *
 * Nothing here has state of its own; objects belong to one thread unless their comment says more. */
#ifndef MLXR_BASE_H
#define MLXR_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mlxr.h"

#define MLXR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MLXR_COUNT(array)      (sizeof(array) / sizeof((array)[0]))

/* ---- errors ---- */

/* Fills err (may be NULL) and returns code, so that `return mlxr_fail(...)` is the usual form. */
mlxr_status mlxr_fail(mlxr_error *err, mlxr_status code, const char *fmt, ...) MLXR_PRINTF(3, 4);
/* The same for running out of memory; what: the module and the object. */
mlxr_status mlxr_fail_nomem(mlxr_error *err, const char *what);
/* Puts text before an error's message ("model foo: " + ...). */
void mlxr_error_prefix(mlxr_error *err, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* Adds text after it; what does not fit ends in "...". */
void mlxr_error_append(mlxr_error *err, const char *fmt, ...) MLXR_PRINTF(2, 3);

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time and would take a failure for MLXR_OK now and then: here it is told that what
 * comes back is the code. */
static inline mlxr_status mlxr_failed_with(mlxr_status code, mlxr_status same)
{
    return code;
}
#define mlxr_fail(err, code, ...)  mlxr_failed_with((code), mlxr_fail((err), (code), __VA_ARGS__))
#define mlxr_fail_nomem(err, what) mlxr_failed_with(MLXR_E_NOMEM, mlxr_fail_nomem((err), (what)))
#endif

void mlxr_log_at(const mlxr_log *log, mlxr_log_level level, const char *fmt, ...) MLXR_PRINTF(3, 4);

/* ---- checked sizes: false when the result does not fit; *out is then untouched ---- */

static inline bool mlxr_mul_size(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool mlxr_add_size(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* malloc of n * size bytes; NULL on overflow too. mlxr_calloc_array zeroes. Never NULL for 0 bytes. */
void *mlxr_malloc_array(size_t n, size_t size);
void *mlxr_calloc_array(size_t n, size_t size);
void *mlxr_realloc_array(void *p, size_t n, size_t size);
/* n bytes at an address that is a multiple of 64 (vector loads, cache lines); free with mlxr_aligned_free. */
void *mlxr_aligned_alloc(size_t n_bytes);
void mlxr_aligned_free(void *p);
/* A NUL-terminated copy of n bytes; NULL when out of memory. */
char *mlxr_strndup(const char *s, size_t n);
char *mlxr_strdup(const char *s);
/* A new formatted string (free it), NULL when out of memory. */
char *mlxr_asprintf(const char *fmt, ...) MLXR_PRINTF(1, 2);

/* ---- growable buffer ----
 *
 * init to {0}. Running out of memory sets `failed` and later appends do nothing: append freely, check once
 * at the end with mlxr_buf_check. data is NULL until the first append, and is NUL-terminated after it. */
typedef struct mlxr_buf {
    char *data;
    size_t len, cap; /* bytes */
    bool failed;
} mlxr_buf;

void mlxr_buf_append(mlxr_buf *b, const void *data, size_t n);
void mlxr_buf_str(mlxr_buf *b, const char *s);
void mlxr_buf_char(mlxr_buf *b, char c);
void mlxr_buf_utf8(mlxr_buf *b, uint32_t codepoint);
void mlxr_buf_printf(mlxr_buf *b, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* Room for n more bytes: a place to write them, or NULL. Follow it with b->len += what was written. */
char *mlxr_buf_reserve(mlxr_buf *b, size_t n);
mlxr_status mlxr_buf_check(const mlxr_buf *b, const char *what, mlxr_error *err);
/* The bytes become the caller's (free them); NULL if failed. An empty buffer gives "". */
char *mlxr_buf_take(mlxr_buf *b, size_t *n);
void mlxr_buf_clear(mlxr_buf *b); /* frees */

/* ---- arena: many small things freed at once. init to {0} ---- */
typedef struct mlxr_arena {
    struct mlxr_arena_chunk *head;
    size_t used_bytes; /* handed out in all */
} mlxr_arena;

/* Aligned for any type, not zeroed; NULL when out of memory. */
void *mlxr_arena_alloc(mlxr_arena *a, size_t n_bytes);
void *mlxr_arena_calloc(mlxr_arena *a, size_t n, size_t size);
char *mlxr_arena_strndup(mlxr_arena *a, const char *s, size_t n);
char *mlxr_arena_printf(mlxr_arena *a, const char *fmt, ...) MLXR_PRINTF(2, 3);
void mlxr_arena_clear(mlxr_arena *a); /* frees everything */

/* ---- string table: bytes to a size_t. Open addressing, keys borrowed from the caller. init to {0} ---- */
typedef struct mlxr_strtab {
    struct mlxr_strtab_entry *entries;
    size_t n, cap;
    uint64_t hash_key; /* set from the table's address when first used */
} mlxr_strtab;

/* Sets key to value; *old (may be NULL) gets the former value or SIZE_MAX. false: out of memory. */
bool mlxr_strtab_put(mlxr_strtab *t, const char *key, size_t n_key, size_t value, size_t *old);
/* SIZE_MAX when absent. */
size_t mlxr_strtab_get(const mlxr_strtab *t, const char *key, size_t n_key);
void mlxr_strtab_clear(mlxr_strtab *t);
uint64_t mlxr_hash_bytes(const void *data, size_t n, uint64_t seed);

/* ---- UTF-8 ---- */

/* The character at s (n > 0 bytes left): its length 1..4 with *cp set, or 0 if s does not start a valid one
 * (overlong, surrogate, above U+10FFFF, cut short). */
size_t mlxr_utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes 1..4 bytes to out and returns how many. */
size_t mlxr_utf8_encode(char out[4], uint32_t cp);
/* Bytes of s that are valid UTF-8 from the start: n when all are. */
size_t mlxr_utf8_valid(const char *s, size_t n);
/* Whether s (n bytes, 1..3) could be the start of a character that more bytes would complete. */
bool mlxr_utf8_is_partial(const char *s, size_t n);

/* ---- numbers ---- */

static inline float mlxr_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* IEEE half to float, every bit pattern exact. */
static inline float mlxr_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu, u;
    float f;
    if (mag >= 0x7c00u) {
        u = sign | 0x7f800000u | ((mag & 0x3ffu) << 13);
    } else if (mag >= 0x400u) {
        u = sign | ((mag + 0x1c000u) << 13);
    } else { /* zero or subnormal: mag * 2^-24 */
        f = (float)mag * 5.9604644775390625e-08f;
        memcpy(&u, &f, sizeof u);
        u |= sign;
    }
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest, ties to even. */
uint16_t mlxr_f32_to_f16(float f);
uint16_t mlxr_f32_to_bf16(float f);

/* ---- cancelling: a flag set by another thread or a signal handler, looked at by the one that works ---- */

static inline bool mlxr_cancelled(const volatile int *cancel)
{
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

/* ---- clock, digest ---- */

uint64_t mlxr_now_ns(void); /* monotonic */
/* SHA-256 of n bytes as 64 lower-case hex digits and a NUL. */
mlxr_status mlxr_sha256_hex(char out[65], const void *data, size_t n, mlxr_error *err);

#endif
