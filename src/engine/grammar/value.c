/* value: the parser of JSON as it was written (RFC 8259), and what is asked of values.
 *
 * The parser keeps its own stack: open containers, and the values (with their names) that wait for theirs to end. A container's
 * items are copied into the arena when it ends, so that they lie together. Functions that walk a value call themselves, at most
 * MLXR_VALUE_MAX_DEPTH deep. */
#include "engine/grammar/value.h"

#include <stdlib.h>

#include "engine/grammar/lang.h"

enum { SORTED_FROM = 9 }; /* members; fewer are compared one by one */

typedef struct pending {
    const mlxr_value *value;
    struct mlxr_value_name name;
    uint32_t at; /* where the name begins */
} pending;

typedef struct parser {
    const char *text;
    size_t n, at;
    uint32_t line;
    mlxr_arena *arena;
    struct open {
        mlxr_value *value;
        size_t first; /* of its items in waiting */
    } open[MLXR_VALUE_MAX_DEPTH];
    size_t n_open;
    pending *waiting;
    size_t n_waiting, cap_waiting;
    mlxr_buf scratch;
    const char *what;
    mlxr_error *err;
} parser;

/* ---- messages ---- */

static mlxr_status wrong_at(parser *p, size_t at, mlxr_status code, const char *message)
{
    uint32_t line = 1;
    size_t from = 0, column = 1;

    for (size_t i = 0; i < at; i++)
        if (p->text[i] == '\n') {
            line++;
            from = i + 1;
        }
    for (size_t i = from; i < at; i++) column += ((unsigned char)p->text[i] & 0xc0) != 0x80;
    return mlxr_fail(p->err, code, "%s: not valid JSON: line %u column %zu: %s", p->what, line, column,
                     message);
}

static mlxr_status wrong(parser *p, const char *message)
{
    return wrong_at(p, p->at, MLXR_E_FORMAT, p->at < p->n ? message : "the text ends too early");
}

static mlxr_status nomem(parser *p)
{
    return mlxr_fail_nomem(p->err, p->what);
}

/* ---- pieces ---- */

static void skip_space(parser *p)
{
    for (; p->at < p->n; p->at++) {
        char c = p->text[p->at];
        if (c == '\n')
            p->line++;
        else if (c != ' ' && c != '\t' && c != '\r')
            return;
    }
}

static bool hex4(const parser *p, size_t at, uint32_t *out)
{
    uint32_t u = 0;

    if (at > p->n || p->n - at < 4) return false;
    for (size_t i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p->text[at + i], low = c | 0x20;
        if (c >= '0' && c <= '9')
            u = u << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            u = u << 4 | (uint32_t)(low - 'a' + 10);
        else
            return false;
    }
    *out = u;
    return true;
}

/* One escape, with at on its backslash; into scratch. */
static mlxr_status parse_escape(parser *p)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    size_t begin = p->at;
    const char *found;
    uint32_t u, low;

    if (++p->at == p->n) return wrong(p, "");
    if (p->text[p->at] != 'u') {
        found = memchr(letters, p->text[p->at], sizeof letters - 1);
        if (!found) return wrong_at(p, begin, MLXR_E_FORMAT, "there is no such escape");
        mlxr_buf_char(&p->scratch, meant[found - letters]);
        p->at++;
        return MLXR_OK;
    }
    if (!hex4(p, p->at + 1, &u))
        return wrong_at(p, begin, MLXR_E_FORMAT, "\\u wants four hexadecimal digits");
    p->at += 5;
    if (u >= 0xd800 && u <= 0xdfff) {
        if (u >= 0xdc00 || p->n - p->at < 6 || p->text[p->at] != '\\' || p->text[p->at + 1] != 'u' ||
            !hex4(p, p->at + 2, &low) || low < 0xdc00 || low > 0xdfff)
            return wrong_at(p, begin, MLXR_E_FORMAT, "an escape of half a surrogate pair");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
        p->at += 6;
    }
    mlxr_buf_utf8(&p->scratch, u);
    return MLXR_OK;
}

/* at on the opening quote, then behind the closing one. */
static mlxr_status parse_string(parser *p, const char **text, size_t *n_text)
{
    size_t from = ++p->at;
    mlxr_status st;

    p->scratch.len = 0;
    for (;;) {
        unsigned char c;
        while (p->at < p->n) {
            c = (unsigned char)p->text[p->at];
            if (c == '"' || c == '\\' || c < 0x20) break;
            p->at++;
        }
        if (p->at == p->n) return wrong(p, "");
        c = (unsigned char)p->text[p->at];
        if (c < 0x20) return wrong(p, "a control character in a string");
        if (c == '"') break;
        mlxr_buf_append(&p->scratch, p->text + from, p->at - from);
        if ((st = parse_escape(p)) != MLXR_OK) return st;
        from = p->at;
    }
    if (p->scratch.len > 0) {
        mlxr_buf_append(&p->scratch, p->text + from, p->at - from);
        if (p->scratch.failed) return nomem(p);
        *text = mlxr_arena_strndup(p->arena, p->scratch.data, p->scratch.len);
        *n_text = p->scratch.len;
    } else { /* no escapes: each gives a byte at least */
        *text = mlxr_arena_strndup(p->arena, p->text + from, p->at - from);
        *n_text = p->at - from;
    }
    p->at++;
    return *text && !p->scratch.failed ? MLXR_OK : nomem(p);
}

static bool at_digit(const parser *p)
{
    return p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9';
}

static mlxr_status parse_number(parser *p, mlxr_value *v)
{
    size_t begin = p->at, whole;
    bool is_plain = true;

    if (p->text[p->at] == '-') p->at++;
    whole = p->at;
    if (!at_digit(p)) return wrong(p, "a digit is wanted");
    while (at_digit(p)) p->at++;
    if (p->text[whole] == '0') {
        if (p->at > whole + 1) return wrong_at(p, whole, MLXR_E_FORMAT, "a number with a zero in front");
        is_plain = whole == begin; /* not -0 */
    }
    if (p->at < p->n && p->text[p->at] == '.') {
        is_plain = false;
        p->at++;
        if (!at_digit(p)) return wrong(p, "a digit is wanted");
        while (at_digit(p)) p->at++;
    }
    if (p->at < p->n && (p->text[p->at] | 0x20) == 'e') {
        is_plain = false;
        p->at++;
        if (p->at < p->n && (p->text[p->at] == '+' || p->text[p->at] == '-')) p->at++;
        if (!at_digit(p)) return wrong(p, "a digit is wanted");
        while (at_digit(p)) p->at++;
    }
    v->n_text = p->at - begin;
    v->text = mlxr_arena_strndup(p->arena, p->text + begin, v->n_text);
    if (!v->text) return nomem(p);
    if (is_plain) {
        if (p->at - whole <= MLXR_VALUE_MAX_DIGITS) v->plain = v->text;
        return MLXR_OK;
    }
    p->scratch.len = 0;
    if (!mlxr_number_plain(&p->scratch, v->text, v->n_text, MLXR_VALUE_MAX_DIGITS)) return MLXR_OK;
    if (p->scratch.failed) return nomem(p);
    v->plain = mlxr_arena_strndup(p->arena, p->scratch.data, p->scratch.len);
    return v->plain ? MLXR_OK : nomem(p);
}

static mlxr_status parse_word(parser *p, mlxr_value *v)
{
    static const struct {
        const char *word;
        mlxr_value_type type;
    } words[] = {{"null", MLXR_VALUE_NULL}, {"false", MLXR_VALUE_FALSE}, {"true", MLXR_VALUE_TRUE}};

    for (size_t i = 0; i < MLXR_COUNT(words); i++) {
        size_t n = strlen(words[i].word);
        if (p->n - p->at < n || memcmp(p->text + p->at, words[i].word, n) != 0) continue;
        v->type = words[i].type;
        p->at += n;
        return MLXR_OK;
    }
    return wrong(p, "a value is wanted");
}

/* ---- containers ---- */

/* Puts a value to those that wait; its name, where it has one, is there already. */
static mlxr_status wait_more(parser *p)
{
    if (p->n_waiting == p->cap_waiting) {
        size_t cap = p->cap_waiting ? p->cap_waiting * 2 : 64;
        pending *grown = mlxr_realloc_array(p->waiting, cap, sizeof *grown);
        if (!grown) return nomem(p);
        p->waiting = grown;
        p->cap_waiting = cap;
    }
    p->waiting[p->n_waiting++] = (pending){0};
    return MLXR_OK;
}

static int compare_names(const struct mlxr_value_name *a, const char *text, size_t n)
{
    int c = memcmp(a->text, text, a->n_text < n ? a->n_text : n);
    if (c != 0) return c;
    return a->n_text < n ? -1 : a->n_text > n;
}

typedef struct sorted {
    const struct mlxr_value_name *name;
    uint32_t i;
} sorted;

static int compare_sorted(const void *a, const void *b)
{
    const sorted *x = a, *y = b;
    int c = compare_names(x->name, y->name->text, y->name->n_text);
    if (c != 0) return c;
    return x->i < y->i ? -1 : x->i > y->i;
}

static mlxr_status same_name(parser *p, uint32_t at)
{
    return wrong_at(p, at, MLXR_E_FORMAT, "a second member of the same name");
}

/* No name twice; fills by_name where there are many. */
static mlxr_status check_names(parser *p, mlxr_value *v, const pending *items)
{
    uint32_t *by_name, again = UINT32_MAX;
    sorted *order;

    if (v->n < SORTED_FROM) {
        for (size_t i = 1; i < v->n; i++)
            for (size_t j = 0; j < i; j++)
                if (compare_names(&v->names[i], v->names[j].text, v->names[j].n_text) == 0)
                    return same_name(p, items[i].at);
        return MLXR_OK;
    }
    order = mlxr_malloc_array(v->n, sizeof *order);
    by_name = mlxr_arena_calloc(p->arena, v->n, sizeof *by_name);
    if (!order || !by_name) {
        free(order);
        return nomem(p);
    }
    for (size_t i = 0; i < v->n; i++) order[i] = (sorted){&v->names[i], (uint32_t)i};
    qsort(order, v->n, sizeof *order, compare_sorted);
    for (size_t i = 0; i < v->n; i++) {
        by_name[i] = order[i].i;
        if (i > 0 && order[i].i < again &&
            compare_names(order[i].name, order[i - 1].name->text, order[i - 1].name->n_text) == 0)
            again = order[i].i;
    }
    free(order);
    if (again != UINT32_MAX) return same_name(p, items[again].at);
    v->by_name = by_name;
    return MLXR_OK;
}

/* The end of the innermost container, at behind its bracket. */
static mlxr_status close_container(parser *p)
{
    mlxr_value *v = p->open[p->n_open - 1].value;
    size_t first = p->open[p->n_open - 1].first;
    const pending *items = p->waiting ? p->waiting + first : NULL;
    const mlxr_value **values;
    struct mlxr_value_name *names;

    v->n = p->n_waiting - first;
    p->n_waiting = first;
    p->n_open--;
    if (v->n == 0) return MLXR_OK;
    if (!(values = mlxr_arena_calloc(p->arena, v->n, sizeof *values))) return nomem(p);
    for (size_t i = 0; i < v->n; i++) values[i] = items[i].value;
    v->items = values;
    if (v->type == MLXR_VALUE_ARRAY) return MLXR_OK;
    if (!(names = mlxr_arena_calloc(p->arena, v->n, sizeof *names))) return nomem(p);
    for (size_t i = 0; i < v->n; i++) names[i] = items[i].name;
    v->names = names;
    return check_names(p, v, items);
}

/* The name of a member and the colon behind it. */
static mlxr_status parse_name(parser *p)
{
    uint32_t at = (uint32_t)p->at;
    pending *m;
    mlxr_status st;

    if (p->at == p->n || p->text[p->at] != '"') return wrong(p, "the name of a member is wanted, in quotes");
    if ((st = wait_more(p)) != MLXR_OK) return st;
    m = &p->waiting[p->n_waiting - 1];
    m->at = at;
    if ((st = parse_string(p, &m->name.text, &m->name.n_text)) != MLXR_OK) return st;
    skip_space(p);
    if (p->at == p->n || p->text[p->at] != ':') return wrong(p, "\":\" is wanted");
    p->at++;
    skip_space(p);
    return MLXR_OK;
}

/* A value at `at`: a scalar whole, a container up to behind its bracket. */
static mlxr_status parse_begin(parser *p, mlxr_value **out)
{
    mlxr_value *v = mlxr_arena_calloc(p->arena, 1, sizeof *v);
    char c;

    *out = v;
    if (!v) return nomem(p);
    if (p->at == p->n) return wrong(p, "");
    v->line = p->line;
    c = p->text[p->at];
    if (c == '{' || c == '[') {
        if (p->n_open == MLXR_VALUE_MAX_DEPTH)
            return wrong_at(p, p->at, MLXR_E_LIMIT, "nested deeper than 512");
        v->type = c == '{' ? MLXR_VALUE_OBJECT : MLXR_VALUE_ARRAY;
        p->at++;
        return MLXR_OK;
    }
    if (c == '"') {
        v->type = MLXR_VALUE_STRING;
        return parse_string(p, &v->text, &v->n_text);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        v->type = MLXR_VALUE_NUMBER;
        return parse_number(p, v);
    }
    return parse_word(p, v);
}

static bool is_container(const mlxr_value *v)
{
    return v->type == MLXR_VALUE_ARRAY || v->type == MLXR_VALUE_OBJECT;
}

/* A value with all that is in it. */
static mlxr_status parse_value(parser *p, const mlxr_value **root)
{
    mlxr_value *v;
    mlxr_status st;

    if ((st = parse_begin(p, &v)) != MLXR_OK) return st;
    *root = v;
    for (;;) {
        bool first = is_container(v), object; /* v has just begun */
        if (first) {
            p->open[p->n_open].value = v;
            p->open[p->n_open++].first = p->n_waiting;
        }
        for (;;) {
            if (p->n_open == 0) return MLXR_OK;
            object = p->open[p->n_open - 1].value->type == MLXR_VALUE_OBJECT;
            skip_space(p);
            if (p->at == p->n || p->text[p->at] != (object ? '}' : ']')) break;
            p->at++;
            if ((st = close_container(p)) != MLXR_OK) return st;
            first = false;
        }
        if (!first) {
            if (p->at == p->n || p->text[p->at] != ',')
                return wrong(p, object ? "\",\" or \"}\" is wanted" : "\",\" or \"]\" is wanted");
            p->at++;
            skip_space(p);
        }
        if (object)
            st = parse_name(p);
        else
            st = wait_more(p);
        if (st == MLXR_OK) st = parse_begin(p, &v);
        if (st != MLXR_OK) return st;
        p->waiting[p->n_waiting - 1].value = v;
    }
}

mlxr_status mlxr_value_parse(mlxr_value_doc *out, const char *text, size_t n, const char *what,
                             mlxr_error *err)
{
    mlxr_value_doc doc = {0};
    parser *p = calloc(1, sizeof *p);
    size_t n_valid;
    mlxr_status st;

    *out = (mlxr_value_doc){0};
    if (!p) return mlxr_fail_nomem(err, what);
    *p = (parser){.text = text ? text : "", .n = n, .line = 1, .arena = &doc.arena, .what = what, .err = err};
    if (n >= UINT32_MAX) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: %zu bytes of JSON, at most %u are read", what, n,
                       UINT32_MAX - 1);
        goto done;
    }
    n_valid = n ? mlxr_utf8_valid(text, n) : 0;
    if (n_valid < n) {
        st = wrong_at(p, n_valid, MLXR_E_FORMAT, "not valid UTF-8");
        goto done;
    }
    skip_space(p);
    if ((st = parse_value(p, &doc.root)) != MLXR_OK) goto done;
    skip_space(p);
    if (p->at < n) {
        st = wrong(p, "more text behind the value");
        goto done;
    }
    *out = doc;
    doc = (mlxr_value_doc){0};
done:
    mlxr_buf_clear(&p->scratch);
    free(p->waiting);
    free(p);
    mlxr_value_clear(&doc);
    return st;
}

void mlxr_value_clear(mlxr_value_doc *d)
{
    mlxr_arena_clear(&d->arena);
    d->root = NULL;
}

/* ---- questions ---- */

const mlxr_value *mlxr_value_get(const mlxr_value *v, const char *name)
{
    return mlxr_value_get_n(v, name, strlen(name));
}

const mlxr_value *mlxr_value_get_n(const mlxr_value *v, const char *name, size_t n_name)
{
    if (!v || v->type != MLXR_VALUE_OBJECT) return NULL;
    if (v->by_name) {
        size_t low = 0, high = v->n;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            int c = compare_names(&v->names[v->by_name[mid]], name, n_name);
            if (c == 0) return v->items[v->by_name[mid]];
            if (c < 0)
                low = mid + 1;
            else
                high = mid;
        }
        return NULL;
    }
    for (size_t i = 0; i < v->n; i++)
        if (v->names[i].n_text == n_name && memcmp(v->names[i].text, name, n_name) == 0) return v->items[i];
    return NULL;
}

bool mlxr_value_equal(const mlxr_value *a, const mlxr_value *b)
{
    if (a == b) return true;
    if (a->type != b->type) return false;
    switch (a->type) {
    case MLXR_VALUE_NUMBER:
        /* What is too long for a plain form is only ever the same as what is written the same way. */
        if (a->plain && b->plain) return strcmp(a->plain, b->plain) == 0;
        return !a->plain && !b->plain && a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0;
    case MLXR_VALUE_STRING: return a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0;
    case MLXR_VALUE_ARRAY:
    case MLXR_VALUE_OBJECT: break;
    default: return true;
    }
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const mlxr_value *other = b->items[i];
        if (a->type == MLXR_VALUE_OBJECT) other = mlxr_value_get_n(b, a->names[i].text, a->names[i].n_text);
        if (!other || !mlxr_value_equal(a->items[i], other)) return false;
    }
    return true;
}

static void write_string(mlxr_buf *out, const char *s, size_t n)
{
    size_t from = 0;

    mlxr_buf_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        mlxr_buf_append(out, s + from, i - from);
        from = i + 1;
        switch (c) {
        case '"': mlxr_buf_str(out, "\\\""); break;
        case '\\': mlxr_buf_str(out, "\\\\"); break;
        case '\b': mlxr_buf_str(out, "\\b"); break;
        case '\f': mlxr_buf_str(out, "\\f"); break;
        case '\n': mlxr_buf_str(out, "\\n"); break;
        case '\r': mlxr_buf_str(out, "\\r"); break;
        case '\t': mlxr_buf_str(out, "\\t"); break;
        default: mlxr_buf_printf(out, "\\u%04x", c);
        }
    }
    mlxr_buf_append(out, s + from, n - from);
    mlxr_buf_char(out, '"');
}

void mlxr_value_write(mlxr_buf *out, const mlxr_value *v)
{
    switch (v->type) {
    case MLXR_VALUE_NULL: mlxr_buf_str(out, "null"); return;
    case MLXR_VALUE_FALSE: mlxr_buf_str(out, "false"); return;
    case MLXR_VALUE_TRUE: mlxr_buf_str(out, "true"); return;
    case MLXR_VALUE_NUMBER:
        if (v->plain)
            mlxr_buf_str(out, v->plain);
        else
            mlxr_buf_append(out, v->text, v->n_text);
        return;
    case MLXR_VALUE_STRING: write_string(out, v->text, v->n_text); return;
    case MLXR_VALUE_ARRAY:
    case MLXR_VALUE_OBJECT: break;
    }
    mlxr_buf_char(out, v->type == MLXR_VALUE_OBJECT ? '{' : '[');
    for (size_t i = 0; i < v->n; i++) {
        if (i > 0) mlxr_buf_char(out, ',');
        if (v->type == MLXR_VALUE_OBJECT) {
            write_string(out, v->names[i].text, v->names[i].n_text);
            mlxr_buf_char(out, ':');
        }
        mlxr_value_write(out, v->items[i]);
    }
    mlxr_buf_char(out, v->type == MLXR_VALUE_OBJECT ? '}' : ']');
}
