/* A pool of threads that run one function together: a decode step has hundreds of barriers, so workers spin
 * briefly for the next call and then park. Owned by one thread, which is worker 0 itself.
 *
 * The workers block every signal, so that handlers run on the program's own threads. After a fork the child may
 * only free the pool. */
#ifndef MLXR_POOL_H
#define MLXR_POOL_H

#include "base/base.h"

enum { MLXR_POOL_MAX_THREADS = 1024 };

typedef struct mlxr_pool mlxr_pool;

/* n_threads includes the calling thread; 0: as many as the CPUs this process may run on. */
mlxr_status mlxr_pool_create(mlxr_pool **out, size_t n_threads, mlxr_error *err);
void mlxr_pool_free(mlxr_pool *pool); /* joins the workers */
size_t mlxr_pool_n_threads(const mlxr_pool *pool);

/* Runs fn(arg, i_thread, n_threads) once on every thread and returns when all are done. */
typedef void (*mlxr_pool_fn)(void *arg, size_t i_thread, size_t n_threads);
void mlxr_pool_run(mlxr_pool *pool, mlxr_pool_fn fn, void *arg);

/* Runs fn over [0, n) in ranges of up to `grain`, handed out as threads become free; which thread takes which
 * range is not fixed, so results must not depend on it. Does not wait for a worker that has taken nothing: on a
 * busy machine the caller does the work itself. */
typedef void (*mlxr_pool_range_fn)(void *arg, size_t begin, size_t end, size_t i_thread);
void mlxr_pool_for(mlxr_pool *pool, size_t n, size_t grain, mlxr_pool_range_fn fn, void *arg);

/* As mlxr_pool_for, but each thread has a share of its own, [mlxr_pool_share(i), mlxr_pool_share(i + 1)), and takes it in
 * order, `grain` items at a time: so what it reads lies in a row and can be fetched ahead. A thread that is done takes from
 * the ends of the others' shares. `unit`: ranges begin at a multiple of it. n / unit below 2^24. */
void mlxr_pool_split(mlxr_pool *pool, size_t n, size_t unit, size_t grain, mlxr_pool_range_fn fn, void *arg);
/* Where the share of thread i of n_threads begins; n for i = n_threads. */
static inline size_t mlxr_pool_share(size_t n, size_t unit, size_t i, size_t n_threads)
{
    size_t n_units = (n + unit - 1) / unit, at = n_units * i / n_threads * unit;
    return at < n ? at : n;
}

#endif
