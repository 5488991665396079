/* Compressed bodies: the first byte chooses the encoding, the rest is the body. Whatever comes: plain bytes within the limit, or a failure with
 * its status. */
#include <stdio.h>
#include <stdlib.h>

#include "serve/encoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"zstd", "gzip", "deflate", "identity"};
    enum { MOST = 1 << 20 };
    mlxr_buf out = {0};
    mlxr_error err = {0};
    int status = 0;
    mlxr_status st;

    if (!size) return 0;
    st = mlxr_body_decode(&out, names[data[0] % MLXR_COUNT(names)], (const char *)data + 1, size - 1, MOST,
                          &status, &err);
    if (st == MLXR_OK ? out.len > MOST : !err.message[0] || (st != MLXR_E_NOMEM && status < 400)) {
        fprintf(stderr, "fuzz_serve_encoding: %zu bytes, status %d: %s\n", out.len, status, err.message);
        abort();
    }
    mlxr_buf_clear(&out);
    return 0;
}
