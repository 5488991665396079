/* numbers in one form: exact decimal texts, so that what is compared is never rounded. */
#include "engine/grammar/lang.h"

/* Past this an exponent is out of every reach: no text is long enough to make up for it. */
#define EXPONENT_MOST (INT64_MAX / 4)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool mlxr_number_plain(mlxr_buf *out, const char *text, size_t n, size_t max_digits)
{
    size_t at = 0, from, n_whole, begin, n_digits, first = SIZE_MAX, last = 0, n_kept, n_all;
    bool negative = false;
    int64_t exponent = 0, point;

    if (at < n && text[at] == '-') {
        negative = true;
        at++;
    }
    begin = at;
    while (at < n && is_digit(text[at])) at++;
    n_whole = at - begin;
    if (n_whole == 0 || (n_whole > 1 && text[begin] == '0')) return false;
    n_digits = n_whole;
    if (at < n && text[at] == '.') {
        from = ++at;
        while (at < n && is_digit(text[at])) at++;
        if (at == from) return false;
        n_digits += at - from;
    }
    if (at < n && (text[at] == 'e' || text[at] == 'E')) {
        bool down = false;
        at++;
        if (at < n && (text[at] == '+' || text[at] == '-')) down = text[at++] == '-';
        from = at;
        for (; at < n && is_digit(text[at]); at++)
            if (exponent < EXPONENT_MOST / 10) exponent = exponent * 10 + (text[at] - '0');
        if (at == from) return false;
        if (down) exponent = -exponent;
    }
    if (at != n) return false;

        /* Digit i of all of them, the point passed over. */
#define DIGIT(i) (text[begin + (i) + ((i) >= n_whole ? 1 : 0)])
    for (size_t i = 0; i < n_digits; i++) {
        if (DIGIT(i) == '0') continue;
        if (first == SIZE_MAX) first = i;
        last = i;
    }
    if (first == SIZE_MAX) {
        if (max_digits == 0) return false;
        mlxr_buf_char(out, '0');
        return true;
    }
    n_kept = last - first + 1;
    point = (int64_t)n_whole - (int64_t)first + exponent; /* how many of the kept digits are before it */
    if (point > (int64_t)(max_digits < INT32_MAX ? max_digits : INT32_MAX)) return false;
    if (-point > (int64_t)(max_digits < INT32_MAX ? max_digits : INT32_MAX)) return false;
    if (point >= (int64_t)n_kept)
        n_all = (size_t)point;
    else
        n_all = point > 0 ? n_kept : n_kept + 1 + (size_t)-point;
    if (n_all > max_digits) return false;

    if (negative) mlxr_buf_char(out, '-');
    if (point <= 0) {
        mlxr_buf_str(out, "0.");
        for (int64_t i = point; i < 0; i++) mlxr_buf_char(out, '0');
    }
    for (size_t i = 0; i < n_kept; i++) {
        if (i > 0 && (int64_t)i == point) mlxr_buf_char(out, '.');
        mlxr_buf_char(out, DIGIT(first + i));
    }
    for (int64_t i = (int64_t)n_kept; i < point; i++) mlxr_buf_char(out, '0');
#undef DIGIT
    return true;
}

/* Both without a sign. */
static int compare_magnitudes(const char *a, const char *b)
{
    size_t n_a = strcspn(a, "."), n_b = strcspn(b, ".");
    int c;

    if (n_a != n_b) return n_a < n_b ? -1 : 1;
    c = memcmp(a, b, n_a);
    /* Behind equal whole parts: NUL and '.' are below every digit, and a fraction that goes on is the larger one. */
    if (c == 0) c = strcmp(a + n_a, b + n_b);
    return c < 0 ? -1 : c > 0;
}

int mlxr_number_compare(const char *a, const char *b)
{
    bool minus_a = a[0] == '-', minus_b = b[0] == '-';

    if (minus_a != minus_b) return minus_a ? -1 : 1;
    return minus_a ? compare_magnitudes(b + 1, a + 1) : compare_magnitudes(a, b);
}
