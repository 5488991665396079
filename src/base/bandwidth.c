/* bandwidth: see bandwidth.h. */
#include "base/bandwidth.h"

#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum {
    RANGE_BYTES = 1 << 20,   /* what a thread takes at a time: uneven cores share evenly */
    N_STREAMS = 4,           /* read side by side within a range, each followed by the prefetcher */
    LEAST_BYTES = 256 << 20, /* of the buffer */
    MOST_BYTES = 1 << 30,
};

/* Sums are kept so that no load can be left out. Each thread writes its own cache line. */
typedef struct probe {
    const unsigned char *data;
    struct {
        _Alignas(64) uint64_t sum;
    } threads[MLXR_POOL_MAX_THREADS];
    uint64_t (*read)(const unsigned char *p);
} probe;

typedef uint64_t lanes __attribute__((vector_size(64), may_alias));

/* One body for every instruction set: 64 bytes are one register, two or four. */
static inline __attribute__((always_inline)) uint64_t read_range(const unsigned char *p)
{
    const size_t n = RANGE_BYTES / N_STREAMS / sizeof(lanes);
    const lanes *s = (const lanes *)(const void *)p;
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        a ^= s[i];
        b ^= s[n + i];
        c ^= s[2 * n + i];
        d ^= s[3 * n + i];
    }
    a ^= b ^ c ^ d;
    for (size_t i = 0; i < sizeof(lanes) / sizeof(uint64_t); i++) sum ^= a[i];
    return sum;
}

static uint64_t read_base(const unsigned char *p)
{
    return read_range(p);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static uint64_t read_avx2(const unsigned char *p)
{
    return read_range(p);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const unsigned char *p)
{
    return read_range(p);
}
#endif

static void read_ranges(void *arg, size_t begin, size_t end, size_t i_thread)
{
    probe *b = arg;

    for (size_t i = begin; i < end; i++) b->threads[i_thread].sum ^= b->read(b->data + i * RANGE_BYTES);
}

/* Written once, so that every page is memory of its own and not the one page of zeros. */
static void fill_ranges(void *arg, size_t begin, size_t end, size_t i_thread)
{
    unsigned char *data = arg;

    (void)i_thread;
    for (size_t i = begin; i < end; i++) memset(data + i * RANGE_BYTES, (int)(i & 0x7f) + 1, RANGE_BYTES);
}

static size_t default_bytes(void)
{
    size_t n = LEAST_BYTES;
#ifdef _SC_LEVEL3_CACHE_SIZE
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (l3 > 0 && (size_t)l3 > LEAST_BYTES / 8) n = (size_t)l3 < MOST_BYTES / 8 ? (size_t)l3 * 8 : MOST_BYTES;
#endif
    return n;
}

mlxr_status mlxr_read_bandwidth(double *bytes_per_second, mlxr_pool *pool, size_t n_bytes, size_t n_runs,
                                const volatile int *cancel, mlxr_error *err)
{
    const size_t huge = 2 << 20;
    size_t n_ranges, bytes;
    mlxr_status st = MLXR_OK;
    void *memory = NULL;
    probe *b = mlxr_aligned_alloc(sizeof *b);

    *bytes_per_second = 0;
    if (n_bytes == 0) n_bytes = default_bytes();
    n_ranges = n_bytes / RANGE_BYTES + (n_bytes % RANGE_BYTES != 0);
    bytes = n_ranges * RANGE_BYTES;
    if (!b || n_bytes > MOST_BYTES || posix_memalign(&memory, huge, bytes) != 0) {
        mlxr_aligned_free(b);
        return mlxr_fail(err, MLXR_E_NOMEM, "bandwidth: out of memory for a buffer of %zu bytes", n_bytes);
    }
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE); /* address translation is not what is measured; without is fine */
#endif
    memset(b, 0, sizeof *b);
    b->data = memory;
    b->read = read_base;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        b->read = read_avx512;
    else if (__builtin_cpu_supports("avx2"))
        b->read = read_avx2;
#endif
    mlxr_pool_for(pool, n_ranges, 1, fill_ranges, memory);
    for (size_t i = 0; i < n_runs && st == MLXR_OK; i++) {
        uint64_t start = mlxr_now_ns(), ns;
        mlxr_pool_for(pool, n_ranges, 1, read_ranges, b);
        ns = mlxr_now_ns() - start;
        if ((double)bytes * 1e9 / (double)(ns ? ns : 1) > *bytes_per_second)
            *bytes_per_second = (double)bytes * 1e9 / (double)(ns ? ns : 1);
        if (mlxr_cancelled(cancel)) st = mlxr_fail(err, MLXR_E_CANCELLED, "bandwidth: cancelled");
    }
    free(memory);
    mlxr_aligned_free(b);
    return st;
}
