/* modelfile: Ollama's form of a recipe. https://docs.ollama.com/modelfile
 *
 *   # comment
 *   FROM base
 *   PARAMETER name value
 *   SYSTEM """text
 *   over lines"""
 *
 * Instructions are words of any case at the beginning of a line. A value that begins with one or three double quotes ends with
 * as many at the end of a line, that one or a later one; what is between them stands as it is, without escapes. */
#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "base/parameters.h"
#include "store/recipe_read.h"

/* ---- lines ---- */

typedef struct scanner {
    const char *at, *end; /* of what is left, from the beginning of a line */
    size_t line;          /* of `at` */
} scanner;

/* The next line without its end, of n bytes. false: there is none. */
static bool next_line(scanner *s, const char **line, size_t *n)
{
    const char *end;

    if (s->at == s->end) return false;
    end = memchr(s->at, '\n', (size_t)(s->end - s->at));
    *line = s->at;
    *n = (size_t)((end ? end : s->end) - s->at);
    s->at = end ? end + 1 : s->end;
    s->line++;
    if (end && *n && (*line)[*n - 1] == '\r') (*n)--;
    return true;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_spaces(const char **s, size_t *n)
{
    while (*n && is_space(**s)) {
        (*s)++;
        (*n)--;
    }
}

static size_t trimmed(const char *s, size_t n)
{
    while (n && is_space(s[n - 1])) n--;
    return n;
}

/* A word, which *s is moved behind. */
static size_t take_word(const char **s, size_t *n)
{
    size_t k = 0;

    while (k < *n && !is_space((*s)[k])) k++;
    *s += k;
    *n -= k;
    return k;
}

static size_t characters(const char *s, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) k += ((unsigned char)s[i] & 0xc0) != 0x80;
    return k;
}

/* Quotes at the beginning of a value: 3, 1 or 0. */
static size_t quotes_at(const char *s, size_t n)
{
    if (n >= 3 && memcmp(s, "\"\"\"", 3) == 0) return 3;
    return n >= 1 && *s == '"';
}

/* Whether the value, which begins with quotes, ends here, with its closing ones. */
static bool is_closed(const char *s, size_t n, size_t quotes)
{
    return n >= 2 * quotes && memcmp(s + n - quotes, "\"\"\"", quotes) == 0;
}

/* ---- instructions ---- */

typedef struct instruction {
    const char *name;
    recipe_place at;   /* of the value */
    const char *word;  /* of PARAMETER and MESSAGE: what stands before the value; NUL-terminated */
    const char *value; /* NUL-terminated */
    size_t n;
} instruction;

typedef struct seen {
    size_t from, adapter; /* the lines they stand in, or 0 */
} seen;

static void take_once(recipe_reader *r, size_t *line, const instruction *i)
{
    if (*line)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, i->at, "%s is there twice, first in line %zu", i->name, *line);
    else
        *line = i->at.line;
}

static void do_from(recipe_reader *r, seen *s, const instruction *i)
{
    take_once(r, &s->from, i);
    mlxr_recipe_set_base(r, i->value, i->n);
}

static void do_adapter(recipe_reader *r, seen *s, const instruction *i)
{
    take_once(r, &s->adapter, i);
    mlxr_recipe_set(r, &r->out->adapter, i->value, i->n);
}

static void do_parameter(recipe_reader *r, seen *s, const instruction *i)
{
    mlxr_recipe_set_parameter(r, i->word, json_stringn(i->value, i->n), i->at, true);
}

static void do_template(recipe_reader *r, seen *s, const instruction *i)
{
    mlxr_recipe_set_template(r, i->value, i->n, i->at);
}

static void do_system(recipe_reader *r, seen *s, const instruction *i)
{
    mlxr_recipe_set(r, &r->out->system, i->value, i->n);
}

static void do_license(recipe_reader *r, seen *s, const instruction *i)
{
    mlxr_recipe_add_license(r, i->value, i->n);
}

static void do_message(recipe_reader *r, seen *s, const instruction *i)
{
    mlxr_recipe_add_message(r, i->word, i->value, i->at);
}

static void do_nothing(recipe_reader *r, seen *s, const instruction *i) {}

static const struct {
    const char *name;
    void (*run)(recipe_reader *r, seen *s, const instruction *i);
    const char *word; /* what stands before the value */
    bool may_be_empty;
} instructions[] = {
    {"FROM", do_from, NULL, false},         {"PARAMETER", do_parameter, "name", false},
    {"TEMPLATE", do_template, NULL, false}, {"SYSTEM", do_system, NULL, true},
    {"ADAPTER", do_adapter, NULL, false},   {"LICENSE", do_license, NULL, false},
    {"MESSAGE", do_message, "role", true},  {"REQUIRES", do_nothing, NULL, false},
    {"RENDERER", do_nothing, NULL, false},  {"PARSER", do_nothing, NULL, false},
};

static size_t find_instruction(const char *s, size_t n)
{
    size_t i = 0;

    while (i < MLXR_COUNT(instructions) &&
           (strlen(instructions[i].name) != n || strncasecmp(instructions[i].name, s, n) != 0))
        i++;
    return i;
}

/* The value that begins at s in the line at hand, and may go on in the next. false: a fault was told. */
static bool read_value(recipe_reader *r, scanner *sc, mlxr_buf *out, const instruction *i, const char *s,
                       size_t n)
{
    size_t quotes = quotes_at(s, n), len;

    out->len = 0;
    mlxr_buf_append(out, s, n);
    len = trimmed(s, n);
    while (quotes && !out->failed && !is_closed(out->data, len, quotes)) {
        if (!next_line(sc, &s, &n)) {
            mlxr_recipe_fault(r, MLXR_E_FORMAT, i->at,
                              "no line from here on ends with the closing %s of this %s",
                              quotes == 3 ? "\"\"\"" : "\"", i->name);
            return false;
        }
        mlxr_buf_char(out, '\n');
        if (trimmed(s, n))
            len = out->len + trimmed(s, n); /* not over all that is there: lines may be many and empty */
        mlxr_buf_append(out, s, n);
    }
    if (out->failed) {
        mlxr_recipe_nomem(r);
        return false;
    }
    if (!out->data) mlxr_buf_str(out, "");
    if (!out->data) {
        mlxr_recipe_nomem(r);
        return false;
    }
    memmove(out->data, out->data + quotes, len - 2 * quotes);
    out->len = len - 2 * quotes;
    out->data[out->len] = '\0';
    return true;
}

static void read_line(recipe_reader *r, scanner *sc, seen *sn, const char *line, size_t n, mlxr_buf *word,
                      mlxr_buf *value)
{
    const char *s = line, *start;
    instruction i = {.at.line = sc->line};
    size_t which, k;

    skip_spaces(&s, &n);
    if (n == 0 || *s == '#') return;
    i.at.column = characters(line, (size_t)(s - line)) + 1;
    start = s;
    k = take_word(&s, &n);
    which = find_instruction(start, k);
    if (which == MLXR_COUNT(instructions)) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, i.at, "there is no instruction \"%.*s\"",
                          (int)(k < 200 ? k : 200), start);
        return;
    }
    i.name = instructions[which].name;
    if (instructions[which].word) {
        skip_spaces(&s, &n);
        word->len = 0;
        mlxr_buf_str(word, "");
        start = s;
        k = take_word(&s, &n);
        mlxr_buf_append(word, start, k);
        if (word->failed) {
            mlxr_recipe_nomem(r);
            return;
        }
        for (size_t c = 0; c < word->len; c++)
            if (word->data[c] >= 'A' && word->data[c] <= 'Z')
                word->data[c] = (char)(word->data[c] - 'A' + 'a');
        i.word = word->data;
    }
    skip_spaces(&s, &n);
    if (n) i.at.column = characters(line, (size_t)(s - line)) + 1;
    if (n == 0) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, i.at, "%s wants %s%sa value behind it", i.name,
                          instructions[which].word ? "a " : "", instructions[which].word ? "word and " : "");
        return;
    }
    if (!read_value(r, sc, value, &i, s, n)) return;
    i.value = value->data;
    i.n = value->len;
    if (i.n == 0 && !instructions[which].may_be_empty)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, i.at, "%s has an empty value", i.name);
    else
        instructions[which].run(r, sn, &i);
}

/* Faults that leave nothing to read on. */
static bool check_text(recipe_reader *r, const char *text, size_t n)
{
    size_t valid = mlxr_utf8_valid(text, n), bad = valid;
    const char *nul = memchr(text, 0, valid);
    recipe_place at = {1, 1};

    if (nul) bad = (size_t)(nul - text);
    if (bad == n) return true;
    for (size_t i = 0; i < bad; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80) at.column++;
        if (text[i] == '\n') at = (recipe_place){at.line + 1, 1};
    }
    mlxr_recipe_fault(r, MLXR_E_FORMAT, at,
                      nul ? "the character U+0000 cannot stand here" : "the byte 0x%02x is no UTF-8",
                      (unsigned char)text[bad]);
    return false;
}

void mlxr_modelfile_read(recipe_reader *r, const char *text, size_t n)
{
    scanner sc = {.at = text, .end = text + n};
    seen sn = {0};
    mlxr_buf word = {0}, value = {0};
    const char *line;
    size_t n_line;

    if (n > MLXR_RECIPE_MAX_BYTES) {
        mlxr_recipe_fault(r, MLXR_E_LIMIT, (recipe_place){1, 1}, "%zu bytes, and a Modelfile has %d at most",
                          n, (int)MLXR_RECIPE_MAX_BYTES);
        return;
    }
    if (!check_text(r, text, n)) return;
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) sc.at += 3;
    while (r->status != MLXR_E_NOMEM && next_line(&sc, &line, &n_line))
        read_line(r, &sc, &sn, line, n_line, &word, &value);
    if (!sn.from && r->status != MLXR_E_NOMEM)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, (recipe_place){1, 1}, "a Modelfile wants a FROM");
    mlxr_buf_clear(&word);
    mlxr_buf_clear(&value);
}

bool mlxr_recipe_is_modelfile(const char *text, size_t n)
{
    scanner sc = {.at = text, .end = text + n};
    const char *line;
    size_t n_line;

    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) sc.at += 3;
    while (next_line(&sc, &line, &n_line)) {
        const char *s = line;
        skip_spaces(&s, &n_line);
        if (n_line == 0 || *s == '#') continue;
        line = s;
        return find_instruction(line, take_word(&s, &n_line)) < MLXR_COUNT(instructions);
    }
    return false;
}

/* ---- writing ---- */

/* Whether a text between three quotes would end before its end, or come back another. */
static bool would_break(const char *s, size_t n)
{
    size_t k = 0; /* of s, without spaces at its end so far */

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n' && ((i && s[i - 1] == '\r') || (k >= 3 && memcmp(s + k - 3, "\"\"\"", 3) == 0)))
            return true;
        if (!is_space(s[i])) k = i + 1;
    }
    return false;
}

static bool write_value(mlxr_buf *out, const char *s)
{
    size_t n = strlen(s);
    bool bare = n && *s != '"' && !is_space(*s) && !is_space(s[n - 1]) && !memchr(s, '\n', n);

    if (would_break(s, n)) return false;
    mlxr_buf_str(out, bare ? "" : "\"\"\"");
    mlxr_buf_append(out, s, n);
    mlxr_buf_str(out, bare ? "\n" : "\"\"\"\n");
    return true;
}

static bool write_one(mlxr_buf *out, const char *name, const char *value)
{
    mlxr_buf_printf(out, "%s ", name);
    return write_value(out, value);
}

/* false: a value cannot be written; out of memory is in out. */
static bool write_parameter(mlxr_buf *out, const char *name, const json_t *value)
{
    bool ok = true;

    for (size_t i = 0; i < json_array_size(value) && ok; i++) {
        mlxr_buf_printf(out, "PARAMETER %s ", name);
        ok = write_value(out, json_string_value(json_array_get(value, i)));
    }
    if (json_is_string(value)) {
        mlxr_buf_printf(out, "PARAMETER %s ", name);
        ok = write_value(out, json_string_value(value));
    } else if (json_is_number(value)) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        if (text) mlxr_buf_printf(out, "PARAMETER %s %s\n", name, text);
        if (!text) out->failed = true;
        free(text);
    }
    return ok;
}

mlxr_status mlxr_modelfile_write(mlxr_buf *out, const mlxr_recipe *r, const char *from, mlxr_error *err)
{
    bool ok = write_one(out, "FROM", from);
    const mlxr_parameter *p;

    for (size_t i = 0; ok && (p = mlxr_parameter_at(i)) != NULL; i++) {
        const json_t *value = json_object_get(r->defaults, p->name);
        if (value) ok = write_parameter(out, p->name, value);
    }
    if (ok && r->template_text) ok = write_one(out, "TEMPLATE", r->template_text);
    if (ok && r->system) ok = write_one(out, "SYSTEM", r->system);
    if (ok && r->adapter) ok = write_one(out, "ADAPTER", r->adapter);
    for (size_t i = 0; ok && i < r->n_licenses; i++) ok = write_one(out, "LICENSE", r->licenses[i]);
    for (size_t i = 0; ok && i < json_array_size(r->messages); i++) {
        const json_t *m = json_array_get(r->messages, i);
        mlxr_buf_printf(out, "MESSAGE %s ", json_string_value(json_object_get(m, "role")));
        ok = write_value(out, json_string_value(json_object_get(m, "content")));
    }
    if (!ok)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "Modelfile: a text has a line that ends in three double quotes, or in a carriage "
                         "return, which that form "
                         "cannot hold");
    return mlxr_buf_check(out, "Modelfile", err);
}
