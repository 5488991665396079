/* UTF-8, half-precision rounding, the clock. */
#include <time.h>

#include "base/base.h"

size_t mlxr_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    uint32_t c;

    *cp = 0;
    if (n == 0) return 0;
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    if (p[0] < 0xc2) return 0;
    if (p[0] < 0xe0) {
        if (n < 2 || (p[1] & 0xc0) != 0x80) return 0;
        *cp = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
        return 2;
    }
    if (p[0] < 0xf0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
        c = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        if (c < 0x800 || (c >= 0xd800 && c < 0xe000)) return 0;
        *cp = c;
        return 3;
    }
    if (p[0] > 0xf4 || n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
        return 0;
    c = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
        (p[3] & 0x3f);
    if (c < 0x10000 || c > 0x10ffff) return 0;
    *cp = c;
    return 4;
}

size_t mlxr_utf8_encode(char out[4], uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (cp >> 18 & 7));
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

size_t mlxr_utf8_valid(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t cp;
        uint64_t w;
        size_t k;
        while (n - i >= 8) { /* eight ASCII bytes at a time */
            memcpy(&w, s + i, 8);
            if (w & 0x8080808080808080u) break;
            i += 8;
        }
        if (i == n) break;
        k = mlxr_utf8_decode(s + i, n - i, &cp);
        if (k == 0) break;
        i += k;
    }
    return i;
}

bool mlxr_utf8_is_partial(const char *s, size_t n)
{
    /* A start is partial exactly if some continuation makes it valid: the second byte decides the range, so
     * trying the lowest and highest ones is enough. */
    static const char low[3] = {(char)0x80, (char)0x80, (char)0x80};
    static const char high[3] = {(char)0xbf, (char)0xbf, (char)0xbf};
    unsigned char lead = n ? (unsigned char)s[0] : 0;
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 1;
    char whole[4];
    uint32_t cp;

    if (n == 0 || n >= want) return false;
    memcpy(whole, s, n);
    memcpy(whole + n, low, want - n);
    if (mlxr_utf8_decode(whole, want, &cp) == want) return true;
    memcpy(whole + n, high, want - n);
    return mlxr_utf8_decode(whole, want, &cp) == want;
}

uint16_t mlxr_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* NaN stays one */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

uint16_t mlxr_f32_to_f16(float f)
{
    uint32_t u, sign, mag;
    memcpy(&u, &f, sizeof u);
    sign = u >> 16 & 0x8000u;
    mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 2^16 or more */
    if (mag < 0x38800000u) {                                   /* subnormal half: in units of 2^-24 */
        float a;
        uint32_t shifted;
        memcpy(&a, &mag, sizeof a);
        a += 0.5f; /* the sum's last bit is worth 2^-24, so the addition itself rounds to even */
        memcpy(&shifted, &a, sizeof shifted);
        return (uint16_t)(sign | (shifted - 0x3f000000u));
    }
    mag += 0xc8000fffu + (mag >> 13 & 1); /* rebias the exponent by -112, round to even */
    return (uint16_t)(sign | mag >> 13);
}

uint64_t mlxr_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
