/* tables: rows and columns that fit the terminal; sizes, ages and counts in words; colours. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "stores.h"

/* ---- words ---- */

/* Three digits: "4.9 GB" has two, "512 MB", "12.3 GB" three. */
static void scaled(char *out, size_t n_out, double x, const char *const *units, size_t n_units, double base)
{
    size_t i = 0;

    while (x >= base * 0.9995 && i + 1 < n_units) {
        x /= base;
        i++;
    }
    snprintf(out, n_out, "%.*f%s", i && x < 99.95 ? 1 : 0, x, units[i]);
}

const char *words_size(char out[32], uint64_t n_bytes)
{
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB", " EB"};

    scaled(out, 32, (double)n_bytes, units, MLXR_COUNT(units), 1000);
    return out;
}

const char *words_count(char out[32], uint64_t n)
{
    static const char *const units[] = {"", "K", "M", "B", "T", "Q"};

    scaled(out, 32, (double)n, units, MLXR_COUNT(units), 1000);
    return out;
}

const char *words_age(char out[32], int64_t modified_seconds, int64_t now_seconds)
{
    static const struct {
        int64_t seconds;
        const char *word;
    } units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {7 * 86400, "week"},
                 {86400, "day"},        {3600, "hour"},        {60, "minute"}};
    int64_t age = now_seconds - modified_seconds;

    snprintf(out, 32, "%s", age < -60 ? "in the future" : "just now");
    for (size_t i = 0; i < MLXR_COUNT(units); i++) {
        if (age < units[i].seconds) continue;
        snprintf(out, 32, "%lld %s%s ago", (long long)(age / units[i].seconds), units[i].word,
                 age / units[i].seconds == 1 ? "" : "s");
        break;
    }
    return out;
}

/* ---- texts for terminals ---- */

static bool is_utf8(void)
{
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    for (size_t i = 0; i < MLXR_COUNT(names); i++) {
        const char *v = getenv(names[i]);
        if (v && *v)
            return strstr(v, "UTF-8") || strstr(v, "utf8") || strstr(v, "UTF8") || strstr(v, "utf-8");
    }
    return false;
}

/* Characters of s, each a column: names and types are of narrow letters. */
static size_t columns(const char *s)
{
    size_t n = strlen(s), k = 0;

    for (size_t i = 0; i < n; k++) {
        uint32_t cp;
        size_t len = mlxr_utf8_decode(s + i, n - i, &cp);
        i += len ? len : 1;
    }
    return k;
}

/* Characters [from, to) of s; control characters and bytes that are no UTF-8 as '?'. */
static void append_part(mlxr_buf *out, const char *s, size_t from, size_t to)
{
    size_t n = strlen(s), k = 0;

    for (size_t i = 0; i < n && k < to; k++) {
        uint32_t cp;
        size_t len = mlxr_utf8_decode(s + i, n - i, &cp);
        if (k >= from) {
            if (len == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
                mlxr_buf_char(out, '?');
            else
                mlxr_buf_append(out, s + i, len);
        }
        i += len ? len : 1;
    }
}

void words_shorten(mlxr_buf *out, const char *text, size_t width)
{
    size_t n = columns(text), head;
    const char *dots = is_utf8() ? "\xe2\x80\xa6" : "..";
    size_t n_dots = columns(dots);

    mlxr_buf_str(out, "");
    if (n <= width) {
        append_part(out, text, 0, n);
        return;
    }
    if (width <= n_dots) {
        append_part(out, text, 0, width);
        return;
    }
    head = (width - n_dots + 1) / 2;
    append_part(out, text, 0, head);
    mlxr_buf_str(out, dots);
    append_part(out, text, n - (width - n_dots - head), n);
}

bool cli_colours(FILE *to)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(to)) && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

/* ---- tables ---- */

struct table {
    size_t n_columns, n_cells, cap;
    const char *const *titles;
    const bool *right;
    char **cells;
    bool failed;
};

struct table *table_create(size_t n_columns, const char *const *titles, const bool *right)
{
    struct table *t = calloc(1, sizeof *t);

    if (t) *t = (struct table){.n_columns = n_columns, .titles = titles, .right = right};
    return t;
}

void table_cell(struct table *t, const char *text)
{
    mlxr_buf clean = {0};

    if (!t) return;
    if (t->n_cells == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        char **cells = mlxr_realloc_array(t->cells, cap, sizeof *cells);
        if (!cells) {
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->cap = cap;
    }
    words_shorten(&clean, text ? text : "", SIZE_MAX);
    t->cells[t->n_cells] = mlxr_buf_take(&clean, NULL);
    if (t->cells[t->n_cells])
        t->n_cells++;
    else
        t->failed = true;
}

static size_t sum(const size_t *widths, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += widths[i] + (i ? 2 : 0);
    return total;
}

/* How wide each column is, and how many there are: the first is shortened as far as a name is still told from another, then the last
 * columns go, then it is shortened to what there is. */
static size_t fit(size_t *widths, size_t n, size_t width)
{
    enum { FIRST_AT_LEAST = 24 };
    size_t full = widths[0], over;

    for (; n > 1; n--) {
        size_t all = sum(widths, n);
        if (all <= width) return n;
        over = all - width;
        if (full > over && full - over >= FIRST_AT_LEAST) {
            widths[0] = full - over;
            return n;
        }
    }
    if (widths[0] > width) widths[0] = width;
    return n;
}

static void put_cell(mlxr_buf *out, const char *text, size_t width, bool right, bool last)
{
    mlxr_buf cell = {0};
    size_t pad;

    words_shorten(&cell, text, width);
    pad = width - (cell.data ? columns(cell.data) : width);
    if (right)
        for (size_t i = 0; i < pad; i++) mlxr_buf_char(out, ' ');
    mlxr_buf_str(out, cell.data ? cell.data : "");
    if (!right && !last)
        for (size_t i = 0; i < pad; i++) mlxr_buf_char(out, ' ');
    if (last) { /* nothing follows: nor do spaces */
        while (out->len && out->data[out->len - 1] == ' ') out->data[--out->len] = '\0';
    }
    mlxr_buf_str(out, last ? "\n" : "  ");
    mlxr_buf_clear(&cell);
}

mlxr_status table_print(struct table *t, FILE *to, mlxr_error *err)
{
    size_t *widths = t ? mlxr_calloc_array(t->n_columns, sizeof *widths) : NULL, n;
    bool colours = cli_colours(to);
    mlxr_buf out = {0};
    mlxr_status st;

    if (!widths || t->failed || t->n_columns == 0) {
        free(widths);
        return mlxr_fail_nomem(err, "table");
    }
    for (size_t i = 0; i < t->n_columns; i++) widths[i] = columns(t->titles[i]);
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t w = columns(t->cells[i]);
        if (w > widths[i % t->n_columns]) widths[i % t->n_columns] = w;
    }
    n = fit(widths, t->n_columns, cli_width(to, SIZE_MAX));
    if (colours) mlxr_buf_str(&out, "\033[1m");
    for (size_t i = 0; i < n; i++) put_cell(&out, t->titles[i], widths[i], t->right[i], i + 1 == n);
    if (colours) mlxr_buf_str(&out, "\033[0m");
    for (size_t r = 0; r + t->n_columns <= t->n_cells; r += t->n_columns)
        for (size_t i = 0; i < n; i++) put_cell(&out, t->cells[r + i], widths[i], t->right[i], i + 1 == n);
    st = mlxr_buf_check(&out, "table", err);
    if (st == MLXR_OK && (fwrite(out.data, 1, out.len, to) != out.len || fflush(to) != 0))
        st = mlxr_fail(err, MLXR_E_IO, "the table could not be written");
    mlxr_buf_clear(&out);
    free(widths);
    return st;
}

void table_free(struct table *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n_cells; i++) free(t->cells[i]);
    free(t->cells);
    free(t);
}
