/* record: see record.h. */
#include "serve/record.h"

void mlxr_record_gap(mlxr_record *r, uint64_t ns)
{
    static const double bounds[] = MLXR_RECORD_GAP_BOUNDS;
    size_t i = 0;

    while (i < MLXR_COUNT(bounds) && (double)ns > bounds[i] * 1e9) i++;
    r->gaps[i]++;
    r->gaps_ns += ns;
}
