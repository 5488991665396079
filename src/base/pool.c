/* The thread pool.
 *
 * One word says all about the job at hand, so that a worker joins or stays out in one atomic step:
 *
 *     63        32 31   30  29      16 15       0
 *    | generation |open|all|  joined  |  active  |
 *
 * The owner writes the job's fields, then publishes a word with the next generation, open, nobody joined. A worker
 * that sees a generation it has not served joins with a compare-and-swap (joined + 1, active + 1) while the word
 * is open, and only then reads the fields; it leaves with active - 1. The owner clears `open` and waits for
 * active == 0 before it touches the fields again. A range job may be closed before a slow worker came; a job for
 * every thread (`all`) waits for joined == n_threads - 1 first.
 *
 * When other programs take the cores, more threads are slower than fewer: they take time from each other, and one that loses
 * its core within a range holds up all. So the owner looks now and then how much of the time it had its core, and lets only as
 * many threads work as that leaves cores for, until it tries them all again.
 *
 * A split job has a cursor for each thread's share, one word too:
 *
 *     63    48 47      24 23       0
 *    |  job   |   next   |   end    |      in units
 *
 * Its thread takes from the front, the others from the back, and whoever comes first in a job makes the word that job's: nobody
 * leaves a job before every share is taken, so each word is of the job at hand or of the one before.
 *
 * Whoever waits spins for a while and then parks on a condition. Parking is a store (n_parked, owner_parked)
 * followed by a load of the word; waking is a change of the word followed by a load of that flag; both sequentially
 * consistent, so that one of the two sides sees the other. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"

/* A waiting thread first only looks, for as long as the gaps inside a step last; then it lets others run between
 * looks, because what it waits for may be waiting for this very core; then it parks. */
enum { LOOK_NS = 5 * 1000, YIELD_NS = 50 * 1000 };

/* How long the owner watches; what gap between jobs is its own doing; how long it leaves threads out, at least and at most;
 * how often these look meanwhile whether they are wanted. */
enum {
    WATCH_NS = 20 * 1000 * 1000,
    GAP_NS = 1000 * 1000,
    LEAST_OUT_MS = 100,
    MOST_OUT_MS = 800,
    NAP_NS = 1000 * 1000
};

#define ACTIVE_ONE    ((uint64_t)1)
#define JOINED_ONE    ((uint64_t)1 << 16)
#define ALL           ((uint64_t)1 << 30)
#define OPEN          ((uint64_t)1 << 31)
#define ACTIVE(w)     ((w)&0xffffu)
#define JOINED(w)     (((w) >> 16) & 0x3fffu)
#define GENERATION(w) ((uint32_t)((w) >> 32))

#define CURSOR_BITS 24
#define CURSOR_MASK (((uint64_t)1 << CURSOR_BITS) - 1)

typedef struct cursor {
    _Alignas(64) _Atomic uint64_t word;
} cursor;

typedef struct worker {
    mlxr_pool *pool;
    size_t index;
    pthread_t thread;
} worker;

struct mlxr_pool {
    _Alignas(64) _Atomic uint64_t word;
    atomic_int n_parked;     /* workers that sleep on `work` or are about to */
    atomic_int owner_parked; /* the owner sleeps on `done` or is about to */
    atomic_bool stop;
    atomic_size_t n_active;          /* threads that work, the first ones */
    _Alignas(64) atomic_size_t next; /* of a range job: the first item nobody has taken */

    /* The job: written by the owner while nobody is active. */
    _Alignas(64) mlxr_pool_fn fn;
    mlxr_pool_range_fn range_fn; /* NULL: fn */
    void *arg;
    size_t n, grain;
    size_t unit;      /* of a split job, whose grain is in units; 0: no split job */
    uint16_t i_split; /* number of the split job, from 0 again after the last */
    cursor *cursors;  /* [n_threads] */

    /* The owner's watch. */
    uint64_t watch_start, watch_cpu, watch_waited, job_end, try_at, out_ms;

    size_t n_threads, n_started; /* workers running: n_threads - 1 but while creating */
    pid_t pid;
    worker *workers;
    pthread_mutex_t lock; /* guards nothing but the sleep on the two conditions */
    pthread_cond_t work, done;
    bool has_lock, has_work, has_done;
};

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static size_t cpus_allowed(void)
{
    long n;
#ifdef __linux__
    /* A machine may have more CPUs than cpu_set_t has bits: the call says EINVAL until the set is large enough. */
    for (size_t bits = 1024; bits <= 1024 * 64; bits *= 4) {
        cpu_set_t *set = CPU_ALLOC(bits);
        size_t bytes = CPU_ALLOC_SIZE(bits);
        int count = 0, rc;
        if (!set) break;
        rc = sched_getaffinity(0, bytes, set);
        if (rc == 0) count = CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (count > 0) return (size_t)count;
        if (rc != 0 && errno != EINVAL) break;
    }
#endif
    n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

/* Takes units of thread `of`'s share; false: none is left. */
static bool take(mlxr_pool *p, size_t of, bool own, size_t *begin, size_t *end)
{
    _Atomic uint64_t *at = &p->cursors[of].word;
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed), taken;

    do {
        size_t n_units = (p->n + p->unit - 1) / p->unit, next = word >> CURSOR_BITS & CURSOR_MASK;
        size_t last = word & CURSOR_MASK, n;
        if ((uint16_t)(word >> (2 * CURSOR_BITS)) != p->i_split) {
            next = n_units * of / p->n_threads;
            last = n_units * (of + 1) / p->n_threads;
        }
        n = last - next < p->grain ? last - next : p->grain;
        *begin = own ? next : last - n;
        *end = *begin + n;
        if (own)
            next += n;
        else
            last -= n;
        taken = (uint64_t)p->i_split << (2 * CURSOR_BITS) | (uint64_t)next << CURSOR_BITS | last;
        if (taken == word) return false;
    } while (
        !atomic_compare_exchange_weak_explicit(at, &word, taken, memory_order_relaxed, memory_order_relaxed));
    return *begin < *end;
}

static void split_body(mlxr_pool *p, size_t i_thread)
{
    for (size_t i = 0; i < p->n_threads; i++) {
        size_t of = (i_thread + i) % p->n_threads, begin, end;
        while (take(p, of, i == 0, &begin, &end)) {
            size_t stop = end * p->unit;
            p->range_fn(p->arg, begin * p->unit, stop < p->n ? stop : p->n, i_thread);
        }
    }
}

static void job_body(mlxr_pool *p, size_t i_thread)
{
    if (p->unit) {
        split_body(p, i_thread);
        return;
    }
    if (!p->range_fn) {
        p->fn(p->arg, i_thread, p->n_threads);
        return;
    }
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed), end;
        if (begin >= p->n) return;
        end = p->n - begin < p->grain ? p->n : begin + p->grain;
        p->range_fn(p->arg, begin, end, i_thread);
    }
}

/* ---- workers ---- */

static bool is_job_for(uint64_t word, uint32_t served)
{
    return (word & OPEN) && GENERATION(word) != served;
}

/* Waits for a job this worker has not served, or for the end (false). */
static bool worker_wait(mlxr_pool *p, uint32_t served)
{
    uint64_t start = mlxr_now_ns(), waited;

    do {
        for (int i = 0; i < 64; i++) {
            if (is_job_for(atomic_load_explicit(&p->word, memory_order_acquire), served)) return true;
            spin_pause();
        }
        if (atomic_load(&p->stop)) return false;
        waited = mlxr_now_ns() - start;
        if (waited >= LOOK_NS) sched_yield();
    } while (waited < YIELD_NS);

    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_parked, 1);
    while (!is_job_for(atomic_load(&p->word), served) && !atomic_load(&p->stop)) {
        pthread_cond_wait(&p->work, &p->lock);
    }
    atomic_fetch_sub(&p->n_parked, 1);
    pthread_mutex_unlock(&p->lock);
    return !atomic_load(&p->stop);
}

/* Sleeps while the worker is left out. */
static void sit_out(const worker *w, uint32_t served)
{
    mlxr_pool *p = w->pool;

    while (w->index >= atomic_load_explicit(&p->n_active, memory_order_relaxed) && !atomic_load(&p->stop)) {
        uint64_t word = atomic_load(&p->word);
        if (is_job_for(word, served) && (word & ALL)) return;
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    mlxr_pool *p = w->pool;
    uint32_t served = 0;

    for (;;) {
        sit_out(w, served);
        if (!worker_wait(p, served)) break;
        uint64_t word = atomic_load(&p->word);
        bool joined = false;
        while (!joined && is_job_for(word, served)) {
            joined = atomic_compare_exchange_weak(&p->word, &word, word + JOINED_ONE + ACTIVE_ONE);
        }
        if (!joined) continue; /* closed meanwhile */
        served = GENERATION(word);
        job_body(p, w->index);
        word = atomic_fetch_sub(&p->word, ACTIVE_ONE);
        if (ACTIVE(word) == 1 && atomic_load(&p->owner_parked)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return NULL;
}

/* ---- the owner ---- */

static bool job_done(mlxr_pool *p, size_t n_join)
{
    uint64_t word = atomic_load(&p->word);
    return ACTIVE(word) == 0 && JOINED(word) >= n_join;
}

/* How long it slept. */
static uint64_t owner_wait(mlxr_pool *p, size_t n_join)
{
    uint64_t start = 0, waited = 0;

    while (waited < YIELD_NS) {
        for (int i = 0; i < 64; i++) {
            if (job_done(p, n_join)) return 0;
            spin_pause();
        }
        if (!start) start = mlxr_now_ns();
        waited = mlxr_now_ns() - start;
        if (waited >= LOOK_NS) sched_yield();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->owner_parked, 1);
    while (!job_done(p, n_join)) pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->owner_parked, 0);
    pthread_mutex_unlock(&p->lock);
    return mlxr_now_ns() - start - waited;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0
               ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec
               : 0;
}

/* Before a job: how many threads are to work. */
static void watch(mlxr_pool *p)
{
    uint64_t now = mlxr_now_ns(), wall = now - p->watch_start, cpu;
    size_t n_active = atomic_load_explicit(&p->n_active, memory_order_relaxed);

    if (now - p->job_end < GAP_NS && wall < WATCH_NS) return;
    cpu = thread_cpu_ns();
    if (now - p->job_end < GAP_NS && n_active == p->n_threads) {
        double share = (double)(cpu - p->watch_cpu + p->watch_waited) / (double)wall;
        size_t n = (size_t)((double)p->n_threads * share + 0.75);
        if (n < p->n_threads) {
            p->out_ms = p->out_ms == 0 ? LEAST_OUT_MS : p->out_ms < MOST_OUT_MS ? p->out_ms * 2 : MOST_OUT_MS;
            p->try_at = now + p->out_ms * 1000000;
            atomic_store(&p->n_active, n > 0 ? n : 1);
        } else {
            p->out_ms = 0;
        }
    } else if (n_active < p->n_threads && now >= p->try_at) {
        atomic_store(&p->n_active, p->n_threads);
    }
    p->watch_start = now;
    p->watch_cpu = cpu;
    p->watch_waited = 0;
}

/* Whether the owner does the job at hand alone. */
static bool alone(mlxr_pool *p)
{
    if (p->n_threads == 1) return true;
    watch(p);
    return atomic_load_explicit(&p->n_active, memory_order_relaxed) == 1;
}

static void job_run(mlxr_pool *p, size_t n_join)
{
    uint64_t word = atomic_load_explicit(&p->word, memory_order_relaxed), start = mlxr_now_ns(), slept;
    uint32_t generation = GENERATION(word) + 1;

    if (generation == 0) generation = 1; /* 0 is what a new worker has served */
    atomic_store(&p->word, (uint64_t)generation << 32 | OPEN | (n_join ? ALL : 0));
    if (atomic_load(&p->n_parked) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    job_body(p, 0);
    if (n_join > 0) owner_wait(p, n_join);
    atomic_fetch_and(&p->word, ~OPEN);
    slept = owner_wait(p, n_join);
    p->job_end = mlxr_now_ns();
    /* Ranges are not all alike: to wait for less than the job itself took is no sign of a lost core. */
    if (slept * 2 < p->job_end - start) p->watch_waited += slept;
}

void mlxr_pool_run(mlxr_pool *p, mlxr_pool_fn fn, void *arg)
{
    p->fn = fn;
    p->range_fn = NULL;
    p->unit = 0;
    p->arg = arg;
    if (p->n_threads == 1) {
        job_body(p, 0);
    } else {
        job_run(p, p->n_threads - 1);
    }
}

void mlxr_pool_for(mlxr_pool *p, size_t n, size_t grain, mlxr_pool_range_fn fn, void *arg)
{
    if (n == 0) return;
    if (grain == 0) grain = 1;
    if (n <= grain || alone(p)) {
        for (size_t begin = 0; begin < n;) {
            size_t end = n - begin < grain ? n : begin + grain;
            fn(arg, begin, end, 0);
            begin = end;
        }
        if (n > grain && p->n_threads > 1) p->job_end = mlxr_now_ns();
        return;
    }
    p->fn = NULL;
    p->range_fn = fn;
    p->arg = arg;
    p->n = n;
    p->grain = grain;
    p->unit = 0;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    job_run(p, 0);
}

void mlxr_pool_split(mlxr_pool *p, size_t n, size_t unit, size_t grain, mlxr_pool_range_fn fn, void *arg)
{
    if (n == 0) return;
    if (unit == 0) unit = 1;
    if (n <= unit || n / unit >= CURSOR_MASK || alone(p)) {
        fn(arg, 0, n, 0);
        if (n > unit && p->n_threads > 1) p->job_end = mlxr_now_ns();
        return;
    }
    p->fn = NULL;
    p->range_fn = fn;
    p->arg = arg;
    p->n = n;
    p->unit = unit;
    p->grain = grain > unit ? grain / unit : 1;
    p->i_split++;
    job_run(p, 0);
}

size_t mlxr_pool_n_threads(const mlxr_pool *p)
{
    return p->n_threads;
}

/* ---- create, free ---- */

static mlxr_status start_workers(mlxr_pool *p, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    sigset_t all, old;
    int rc = 0;

    sigfillset(&all);
    sigdelset(&all, SIGBUS);                  /* comes of a worker's own reads (fs.h: mlxr_map_guard) */
    pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited by the workers */
    while (p->n_started < p->n_threads - 1 && rc == 0) {
        worker *w = &p->workers[p->n_started];
        w->pool = p;
        w->index = p->n_started + 1;
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        if (rc == 0) p->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        st = mlxr_fail(err, MLXR_E_NOMEM, "pool: cannot start thread %zu of %zu: %s", p->n_started + 2,
                       p->n_threads, strerror(rc));
    }
    return st;
}

mlxr_status mlxr_pool_create(mlxr_pool **out, size_t n_threads, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;
    mlxr_pool *p;

    *out = NULL;
    if (n_threads > MLXR_POOL_MAX_THREADS) {
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "pool: %zu threads wanted, at most %d are possible",
                         n_threads, MLXR_POOL_MAX_THREADS);
    }
    if (n_threads == 0) n_threads = cpus_allowed();
    if (n_threads > MLXR_POOL_MAX_THREADS) n_threads = MLXR_POOL_MAX_THREADS;
    p = mlxr_aligned_alloc(sizeof *p);
    if (!p) return mlxr_fail_nomem(err, "pool");
    memset(p, 0, sizeof *p);
    atomic_init(&p->word, 0);
    atomic_init(&p->n_parked, 0);
    atomic_init(&p->owner_parked, 0);
    atomic_init(&p->stop, false);
    atomic_init(&p->next, 0);
    atomic_init(&p->n_active, n_threads);
    p->n_threads = n_threads;
    p->pid = getpid();
    p->workers = mlxr_calloc_array(n_threads, sizeof *p->workers);
    p->cursors = mlxr_aligned_alloc(n_threads * sizeof *p->cursors);
    for (size_t i = 0; p->cursors && i < n_threads; i++) atomic_init(&p->cursors[i].word, 0);
    p->has_lock = pthread_mutex_init(&p->lock, NULL) == 0;
    p->has_work = pthread_cond_init(&p->work, NULL) == 0;
    p->has_done = pthread_cond_init(&p->done, NULL) == 0;
    if (!p->workers || !p->cursors || !p->has_lock || !p->has_work || !p->has_done) {
        st = mlxr_fail_nomem(err, "pool");
        goto done;
    }
    if ((st = start_workers(p, err)) != MLXR_OK) goto done;
    *out = p;
    p = NULL;
done:
    mlxr_pool_free(p);
    return st;
}

void mlxr_pool_free(mlxr_pool *p)
{
    if (!p) return;
    if (getpid() == p->pid) { /* in a forked child there are no workers, and the lock may be held for ever */
        if (p->n_started > 0) {
            atomic_store(&p->stop, true);
            pthread_mutex_lock(&p->lock);
            pthread_cond_broadcast(&p->work);
            pthread_mutex_unlock(&p->lock);
            for (size_t i = 0; i < p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
        }
        if (p->has_done) pthread_cond_destroy(&p->done);
        if (p->has_work) pthread_cond_destroy(&p->work);
        if (p->has_lock) pthread_mutex_destroy(&p->lock);
    }
    free(p->workers);
    mlxr_aligned_free(p->cursors);
    mlxr_aligned_free(p);
}
