/* encoding: see encoding.h. */
#include "serve/encoding.h"

#include <stdlib.h>
#include <strings.h>

#ifdef MLXR_HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef MLXR_HAVE_ZLIB
#include <zlib.h>
#endif

enum { BLOCK = 64 << 10, MAX_WINDOW_LOG = 24 };

static mlxr_status fail(int *http_status, int status, mlxr_error *err, const char *encoding, const char *why)
{
    *http_status = status;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: the body with Content-Encoding \"%.40s\" %s",
                     encoding, why);
}

/* Room for the next block, or NULL with the failure in *st: the limit, or memory. */
static char *room(mlxr_buf *out, size_t max, mlxr_status *st, int *http_status, const char *encoding,
                  mlxr_error *err)
{
    char *at = out->len > max ? NULL : mlxr_buf_reserve(out, BLOCK);

    if (out->len > max)
        *st = fail(http_status, 413, err, encoding, "is too large when it is unpacked");
    else if (!at)
        *st = mlxr_fail_nomem(err, "request");
    return at;
}

#ifdef MLXR_HAVE_ZSTD
static mlxr_status unpack_zstd(mlxr_buf *out, const char *body, size_t n, size_t max, int *http_status,
                               mlxr_error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = {body, n, 0};
    mlxr_status st = MLXR_OK;
    size_t left = 1;
    bool full = false; /* the last block was: there may be more to come without more to read */

    if (!z || ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, MAX_WINDOW_LOG))) {
        ZSTD_freeDStream(z);
        return mlxr_fail_nomem(err, "request");
    }
    while (st == MLXR_OK && (in.pos < in.size || full)) {
        ZSTD_outBuffer block = {room(out, max, &st, http_status, "zstd", err), BLOCK, 0};
        if (!block.dst) break;
        left = ZSTD_decompressStream(z, &block, &in);
        if (ZSTD_isError(left)) {
            st = fail(http_status, 400, err, "zstd", "is broken");
            break;
        }
        out->len += block.pos;
        full = block.pos == BLOCK;
    }
    if (st == MLXR_OK && left != 0) st = fail(http_status, 400, err, "zstd", "ends too early");
    ZSTD_freeDStream(z);
    return st;
}
#endif

#ifdef MLXR_HAVE_ZLIB
/* gzip and zlib's own form ("deflate"), told apart by their heads. */
static mlxr_status unpack_zlib(mlxr_buf *out, const char *encoding, const char *body, size_t n, size_t max,
                               int *http_status, mlxr_error *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)body, .avail_in = (uInt)n};
    mlxr_status st = MLXR_OK;
    int rc = Z_OK;

    if (n > UINT32_MAX) return fail(http_status, 413, err, encoding, "is too large");
    if (inflateInit2(&z, 15 + 32) != Z_OK) return mlxr_fail_nomem(err, "request");
    while (rc != Z_STREAM_END) {
        char *at = room(out, max, &st, http_status, encoding, err);
        if (!at) break;
        z.next_out = (Bytef *)at;
        z.avail_out = BLOCK;
        rc = inflate(&z, Z_NO_FLUSH);
        out->len += BLOCK - z.avail_out;
        if (rc == Z_MEM_ERROR)
            st = mlxr_fail_nomem(err, "request");
        else if (rc == Z_BUF_ERROR || (rc == Z_OK && z.avail_in == 0 && z.avail_out))
            st = fail(http_status, 400, err, encoding, "ends too early");
        else if (rc != Z_OK && rc != Z_STREAM_END)
            st = fail(http_status, 400, err, encoding, "is broken");
        if (st != MLXR_OK) break;
    }
    if (st == MLXR_OK && z.avail_in) st = fail(http_status, 400, err, encoding, "goes on behind its end");
    inflateEnd(&z);
    return st;
}
#endif

const char *mlxr_body_encodings(void)
{
    return
#ifdef MLXR_HAVE_ZSTD
        "zstd, "
#endif
#ifdef MLXR_HAVE_ZLIB
        "gzip, deflate, "
#endif
        "identity";
}

mlxr_status mlxr_body_decode(mlxr_buf *out, const char *encoding, const char *body, size_t n,
                             size_t max_bytes, int *http_status, mlxr_error *err)
{
    size_t max = max_bytes < MLXR_ENCODED_MAX_BYTES ? max_bytes : MLXR_ENCODED_MAX_BYTES;
    mlxr_status st;

    if (!encoding || !*encoding || strcasecmp(encoding, "identity") == 0) return MLXR_OK;
#ifdef MLXR_HAVE_ZSTD
    if (strcasecmp(encoding, "zstd") == 0) {
        st = unpack_zstd(out, body, n, max, http_status, err);
        goto done;
    }
#endif
#ifdef MLXR_HAVE_ZLIB
    if (strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "x-gzip") == 0 ||
        strcasecmp(encoding, "deflate") == 0) {
        st = unpack_zlib(out, encoding, body, n, max, http_status, err);
        goto done;
    }
#endif
    *http_status = 415;
    return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                     "request: the Content-Encoding is \"%.40s\", what is understood here is %s", encoding,
                     mlxr_body_encodings());
#if defined(MLXR_HAVE_ZSTD) || defined(MLXR_HAVE_ZLIB)
done:
    if (st == MLXR_OK && out->len > max)
        st = fail(http_status, 413, err, encoding, "is too large when it is unpacked");
    return st == MLXR_OK ? mlxr_buf_check(out, "request", err) : st;
#endif
}
