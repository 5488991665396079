/* SHA-256 of what comes in pieces, over libcrypto. Its state can be taken out between two blocks and put back in, so that a
 * file's hash may be begun in one process and finished in another, and a range of a file be checked by itself: the state
 * before and the state after it are all that is needed. */
#ifndef MLXR_SHA256_H
#define MLXR_SHA256_H

#include "base/base.h"

typedef struct mlxr_sha256 {
    uint32_t h[8];     /* after whole blocks of 64 bytes */
    uint64_t n_bytes;  /* put in, in all */
    uint8_t block[64]; /* what does not fill a block yet: n_bytes % 64 bytes */
} mlxr_sha256;

void mlxr_sha256_init(mlxr_sha256 *s);
void mlxr_sha256_update(mlxr_sha256 *s, const void *data, size_t n);
/* 64 lower-case hex digits and a NUL; s is then to be init again. */
void mlxr_sha256_final(char out[65], mlxr_sha256 *s);

#endif
