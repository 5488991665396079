/* encoding: bodies that come compressed (Content-Encoding: zstd, gzip, deflate). A library that was not there when this was built takes its
 * encoding away, nothing else. */
#ifndef MLXR_SERVE_ENCODING_H
#define MLXR_SERVE_ENCODING_H

#include "base/base.h"

/* However small a body is on the wire, it is never more than this. */
enum { MLXR_ENCODED_MAX_BYTES = 20 << 20 };

/* *out stays empty when the body is plain (encoding NULL or "identity"); else it is the body as it was before it was compressed, at most
 * max_bytes (and MLXR_ENCODED_MAX_BYTES) of it. With a failure *http_status is 415 for an encoding that is not known here, 413 for a body that is
 * too long, 400 for one that is broken; *out is to be cleared in any case. */
mlxr_status mlxr_body_decode(mlxr_buf *out, const char *encoding, const char *body, size_t n,
                             size_t max_bytes, int *http_status, mlxr_error *err);
/* "zstd, gzip, deflate": what is known here, for the header Accept-Encoding of an answer with 415. */
const char *mlxr_body_encodings(void);

#endif
