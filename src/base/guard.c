/* guard: mappings whose file is cut off while they are read (fs.h). The table is the one piece of state of the whole process that the library
 * has: a signal handler gets nothing else to find a mapping by. Entries are written before they count (n_bytes last), and taken out in the
 * opposite order, so the handler needs no lock. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"

enum { MAX_GUARDED = 1024 };

static struct guarded {
    uintptr_t data;
    size_t n_bytes; /* 0: the entry is free */
    int damaged;
} table[MAX_GUARDED];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER; /* of who adds and removes */
static int active;
static size_t page_bytes;
static struct sigaction before;

/* From the page that could not be read to the end of the mapping there are zeros from now on. */
static bool mend(uintptr_t at)
{
    for (size_t i = 0; i < MAX_GUARDED; i++) {
        size_t n = __atomic_load_n(&table[i].n_bytes, __ATOMIC_ACQUIRE);
        uintptr_t start = table[i].data, page = at - at % page_bytes, end = start + n;
        if (!n || at < start || at >= end) continue;
        __atomic_store_n(&table[i].damaged, 1, __ATOMIC_RELEASE);
        return mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
               MAP_FAILED;
    }
    return false;
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_addr && mend((uintptr_t)info->si_addr)) return;
    sigaction(sig, &before, NULL); /* the access is made again, and ends as it would have */
}

mlxr_status mlxr_map_guard(mlxr_error *err)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    long n = sysconf(_SC_PAGESIZE);

    if (__atomic_load_n(&active, __ATOMIC_ACQUIRE)) return MLXR_OK;
    if (n <= 0) return mlxr_fail(err, MLXR_E_INTERNAL, "guard: the size of a page is not known");
    page_bytes = (size_t)n;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &before) != 0)
        return mlxr_fail(err, MLXR_E_INTERNAL, "guard: the handler of SIGBUS could not be set");
    __atomic_store_n(&active, 1, __ATOMIC_RELEASE);
    return MLXR_OK;
}

int mlxr_guard_add(const void *data, size_t n_bytes)
{
    int place = 0;

    if (!__atomic_load_n(&active, __ATOMIC_ACQUIRE) || !n_bytes) return 0;
    pthread_mutex_lock(&table_lock);
    for (int i = 0; i < MAX_GUARDED && !place; i++) {
        if (table[i].n_bytes) continue;
        table[i].data = (uintptr_t)data;
        table[i].damaged = 0;
        __atomic_store_n(&table[i].n_bytes, n_bytes, __ATOMIC_RELEASE);
        place = i + 1;
    }
    pthread_mutex_unlock(&table_lock);
    return place;
}

void mlxr_guard_remove(int guard)
{
    if (!guard) return;
    pthread_mutex_lock(&table_lock);
    __atomic_store_n(&table[guard - 1].n_bytes, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table_lock);
}

bool mlxr_map_damaged(const mlxr_map *map)
{
    return map->guard && __atomic_load_n(&table[map->guard - 1].damaged, __ATOMIC_ACQUIRE);
}
