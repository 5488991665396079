/* Allocations that fail when a test says so. For one source file of a test that is linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc; the sanitizers that replace malloc still see the real calls behind it. */
#ifndef TESTS_NOMEM_H
#define TESTS_NOMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static size_t n_calls, fail_at = SIZE_MAX; /* the allocation that fails; those after it succeed again */

static bool fails(void)
{
    return ++n_calls == fail_at;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}

#endif
