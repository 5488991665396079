/* UTF-8, half-precision numbers, clock, digest. The numbers are tested over every 16-bit pattern. */
#include <math.h>

#include "test.h"

/* ---- UTF-8 ---- */

static bool is_scalar(uint32_t cp)
{
    return cp <= 0x10ffff && !(cp >= 0xd800 && cp <= 0xdfff);
}

static void every_character_there_and_back(void **state)
{
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[4];
        uint32_t back;
        size_t n = mlxr_utf8_encode(s, cp);
        size_t want = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

        if (n != want) fail_msg("U+%04X: %zu bytes", (unsigned)cp, n);
        if (mlxr_utf8_decode(s, n, &back) != (is_scalar(cp) ? n : 0) || (is_scalar(cp) && back != cp))
            fail_msg("U+%04X does not come back", (unsigned)cp);
        for (size_t k = 1; k < n && is_scalar(cp); k++) {
            if (mlxr_utf8_decode(s, k, &back) != 0) fail_msg("U+%04X: %zu bytes are enough", (unsigned)cp, k);
            if (!mlxr_utf8_is_partial(s, k)) fail_msg("U+%04X: %zu bytes are no start", (unsigned)cp, k);
        }
        if (is_scalar(cp) && mlxr_utf8_is_partial(s, n)) fail_msg("U+%04X is not whole", (unsigned)cp);
    }
}

/* Every sequence of two, and of three and four with telling last bytes: valid exactly if it is what some
 * character encodes to, partial exactly if some character starts with it. */
static void every_start_of_bytes(void **state)
{
    static unsigned char starts[1 << 24 >> 3]; /* bit set of the first three bytes of characters of four */
    static unsigned char pairs[1 << 16 >> 3];
    uint32_t cp;
    char s[4];

    for (uint32_t c = 0; c < 0x110000; c++) {
        if (!is_scalar(c)) continue;
        if (mlxr_utf8_encode(s, c) < 3) continue;
        uint32_t two = (uint32_t)(uint8_t)s[0] << 8 | (uint8_t)s[1], three = two << 8 | (uint8_t)s[2];
        pairs[two >> 3] |= (unsigned char)(1u << (two & 7));
        if (c >= 0x10000) starts[three >> 3] |= (unsigned char)(1u << (three & 7));
    }
    for (uint32_t a = 0x80; a < 0x100; a++) {
        s[0] = (char)a;
        assert_int_equal(mlxr_utf8_decode(s, 1, &cp), 0);
        assert_int_equal(mlxr_utf8_is_partial(s, 1), a >= 0xc2 && a <= 0xf4);
        for (uint32_t b = 0; b < 0x100; b++) {
            uint32_t two = a << 8 | b;
            bool cont = (b & 0xc0) == 0x80;
            s[1] = (char)b;
            assert_int_equal(mlxr_utf8_decode(s, 2, &cp), a >= 0xc2 && a < 0xe0 && cont ? 2 : 0);
            assert_int_equal(mlxr_utf8_is_partial(s, 2), pairs[two >> 3] >> (two & 7) & 1);
            for (uint32_t c = 0; c < 0x100; c += c < 0x7e || c > 0xc1 ? 0x3f : 1) {
                uint32_t three = two << 8 | c;
                s[2] = (char)c;
                assert_int_equal(mlxr_utf8_is_partial(s, 3), starts[three >> 3] >> (three & 7) & 1);
            }
        }
    }
    assert_false(mlxr_utf8_is_partial("", 0));
    assert_false(mlxr_utf8_is_partial("a", 1));
}

static void bad_utf8_is_found_where_it_is(void **state)
{
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"", 0},
        {"plain ascii of more than sixteen bytes", 38},
        {"12345678\x80", 8},
        {"1234567\xc3\xa9"
         "9abcdefgh\xff",
         18},
        {"\xc0\x80", 0},                    /* overlong NUL */
        {"a\xe0\x9f\xbf", 1},               /* overlong */
        {"a\xed\xa0\x80", 1},               /* surrogate */
        {"a\xf0\x8f\xbf\xbf", 1},           /* overlong */
        {"a\xf4\x90\x80\x80", 1},           /* above U+10FFFF */
        {"a\xf5\x80\x80\x80", 1},           /* no such lead */
        {"\xf0\x9f\x98\x80\xf0\x9f\x98", 4} /* cut short */
    };
    for (size_t i = 0; i < MLXR_COUNT(cases); i++)
        assert_int_equal(mlxr_utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    assert_int_equal(mlxr_utf8_valid("a\0b", 3), 3);
}

/* ---- numbers ---- */

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* The value by the definition, in double: exact for every half. */
static double half_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void every_half_there_and_back(void **state)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = mlxr_f16_to_f32((uint16_t)h);
        uint16_t back = mlxr_f32_to_f16(f);
        if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff)) {
            assert_true(isnan(f));
            assert_int_equal(bits(f) >> 31, h >> 15);
            assert_int_equal(back & 0xfc00, h & 0xfc00);
            assert_int_not_equal(back & 0x3ff, 0);
        } else {
            if ((h & 0x7fff) == 0x7c00)
                assert_true(isinf(f));
            else
                assert_true((double)f == half_value((uint16_t)h));
            assert_int_equal(bits(f) >> 31, h >> 15);
            if (back != h) fail_msg("half %04x comes back as %04x", (unsigned)h, back);
        }
    }
}

/* Between every two neighbours: the midpoint goes to the even one, its float neighbours to the nearer one. */
static void halves_round_to_nearest_even(void **state)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t h = 0; h < 0x7c00; h++) {
            double a = half_value((uint16_t)h), b = h == 0x7bff ? 65536.0 : half_value((uint16_t)(h + 1));
            float mid = (float)((a + b) / 2), s = sign ? -1.0f : 1.0f;
            uint32_t even = h & 1 ? h + 1 : h, top = sign << 15;
            assert_true((double)mid == (a + b) / 2);
            if (mlxr_f32_to_f16(s * mid) != (even | top) ||
                mlxr_f32_to_f16(s * nextafterf(mid, 0)) != (h | top) ||
                mlxr_f32_to_f16(s * nextafterf(mid, INFINITY)) != ((h + 1) | top))
                fail_msg("after half %04x", (unsigned)(h | top));
        }
    }
    assert_int_equal(mlxr_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(mlxr_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(mlxr_f32_to_f16(1e-30f), 0);
    assert_int_equal(mlxr_f32_to_f16(-1e-40f), 0x8000); /* a subnormal float */
}

static void every_bf16_there_and_back(void **state)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = mlxr_bf16_to_f32((uint16_t)h);
        uint16_t back = mlxr_f32_to_bf16(f);
        assert_int_equal(bits(f), h << 16);
        if (isnan(f)) {
            assert_int_equal(back & 0xff80, h & 0xff80);
            assert_int_not_equal(back & 0x7f, 0);
        } else if (back != h) {
            fail_msg("bf16 %04x comes back as %04x", (unsigned)h, back);
        }
    }
}

static void bf16_round_to_nearest_even(void **state)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint32_t u = h << 16, even = h & 1 ? h + 1 : h;
        float at, below, above;
        if ((h & 0x7f80) == 0x7f80) continue; /* infinite or not a number */
        uint32_t v[3] = {u + 0x7fff, u + 0x8000, u + 0x8001};
        memcpy(&below, &v[0], 4);
        memcpy(&at, &v[1], 4);
        memcpy(&above, &v[2], 4);
        if (mlxr_f32_to_bf16(below) != h || mlxr_f32_to_bf16(at) != even || mlxr_f32_to_bf16(above) != h + 1)
            fail_msg("after bf16 %04x", (unsigned)h);
    }
    uint32_t quiet = 0x7f800001; /* a NaN whose set bits lie below what bf16 keeps */
    float f;
    memcpy(&f, &quiet, 4);
    assert_true(isnan(mlxr_bf16_to_f32(mlxr_f32_to_bf16(f))));
}

/* ---- clock, digest ---- */

static void the_clock_goes_forward(void **state)
{
    uint64_t a = mlxr_now_ns(), b = mlxr_now_ns();
    assert_true(a > 0 && b >= a);
}

static void sha256_of_known_texts(void **state)
{
    char hex[65];
    /* FIPS 180-2's examples. */
    assert_int_equal(mlxr_sha256_hex(hex, "abc", 3, NULL), MLXR_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(
        mlxr_sha256_hex(hex, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, NULL), MLXR_OK);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_int_equal(mlxr_sha256_hex(hex, "", 0, NULL), MLXR_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_there_and_back), cmocka_unit_test(every_start_of_bytes),
        cmocka_unit_test(bad_utf8_is_found_where_it_is),  cmocka_unit_test(every_half_there_and_back),
        cmocka_unit_test(halves_round_to_nearest_even),   cmocka_unit_test(every_bf16_there_and_back),
        cmocka_unit_test(bf16_round_to_nearest_even),     cmocka_unit_test(the_clock_goes_forward),
        cmocka_unit_test(sha256_of_known_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
