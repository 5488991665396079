/* bandwidth: how fast this machine's memory can be read, the bound that decoding is measured against. */
#ifndef MLXR_BANDWIDTH_H
#define MLXR_BANDWIDTH_H

#include "base/pool.h"

/* Reads a buffer of its own with all threads of the pool and gives the best of n_runs, in bytes a second. n_bytes 0:
 * well above the last cache; the most is 1 GiB. The widest vectors of the machine, plain loads: on memory that is cached like any other
 * they are the fastest there are, with the hardware's own prefetching. *cancel (may be NULL) ends it between runs
 * with MLXR_E_CANCELLED. The buffer counts in the process's peak memory: ask for that first. */
mlxr_status mlxr_read_bandwidth(double *bytes_per_second, mlxr_pool *pool, size_t n_bytes, size_t n_runs,
                                const volatile int *cancel, mlxr_error *err);

#endif
