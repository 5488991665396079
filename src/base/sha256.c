/* sha256: see sha256.h. libcrypto's block function runs on the CPU's SHA instructions; its older interface is used since the newer
 * one keeps the state to itself. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/sha.h>

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

void mlxr_sha256_init(mlxr_sha256 *s)
{
    *s = (mlxr_sha256){0};
    memcpy(s->h, initial, sizeof s->h);
}

/* n_bytes after whole blocks; what libcrypto counts besides does not matter, since the end is made here. */
static void whole_blocks(mlxr_sha256 *s, const void *data, size_t n)
{
    SHA256_CTX c;

    memset(&c, 0, sizeof c);
    memcpy(c.h, s->h, sizeof s->h);
    c.md_len = SHA256_DIGEST_LENGTH;
    SHA256_Update(&c, data, n);
    memcpy(s->h, c.h, sizeof s->h);
}

void mlxr_sha256_update(mlxr_sha256 *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t in_block = s->n_bytes % sizeof s->block, whole;

    if (n == 0) return;
    s->n_bytes += n;
    if (in_block) {
        size_t k = sizeof s->block - in_block;
        if (k > n) k = n;
        memcpy(s->block + in_block, p, k);
        if (in_block + k < sizeof s->block) return;
        whole_blocks(s, s->block, sizeof s->block);
        p += k;
        n -= k;
    }
    whole = n - n % sizeof s->block;
    if (whole) whole_blocks(s, p, whole);
    if (n > whole) memcpy(s->block, p + whole, n - whole);
}

void mlxr_sha256_final(char out[65], mlxr_sha256 *s)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t end[128] = {0};
    size_t in_block = s->n_bytes % sizeof s->block, n = in_block < 56 ? 64 : 128;
    uint64_t n_bits = s->n_bytes * 8;

    memcpy(end, s->block, in_block);
    end[in_block] = 0x80;
    for (int i = 0; i < 8; i++) end[n - 1 - (size_t)i] = (uint8_t)(n_bits >> (8 * i));
    whole_blocks(s, end, n);
    for (int i = 0; i < 32; i++) {
        unsigned byte = s->h[i / 4] >> (24 - 8 * (i % 4)) & 0xff;
        out[2 * i] = hex[byte >> 4];
        out[2 * i + 1] = hex[byte & 15];
    }
    out[64] = '\0';
}

mlxr_status mlxr_sha256_hex(char out[65], const void *data, size_t n, mlxr_error *err)
{
    mlxr_sha256 s;

    mlxr_sha256_init(&s);
    mlxr_sha256_update(&s, data, n);
    mlxr_sha256_final(out, &s);
    return MLXR_OK;
}
