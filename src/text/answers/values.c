/* values: what stands for a value in calls that are not JSON, as JSON. */
#include "text/answers/parser.h"

#include <math.h>

/* ---- schemas ---- */

enum {
    T_STRING = 1,
    T_INTEGER = 2,
    T_NUMBER = 4,
    T_BOOLEAN = 8,
    T_NULL = 16,
    T_OBJECT = 32,
    T_ARRAY = 64,
    T_ANY = 127,
    MAX_REFS = 16,
    MAX_SCHEMAS = 1000
};

static unsigned type_named(const char *name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } types[] = {{"string", T_STRING},
                 {"str", T_STRING},
                 {"integer", T_INTEGER},
                 {"int", T_INTEGER},
                 {"number", T_NUMBER | T_INTEGER},
                 {"float", T_NUMBER | T_INTEGER},
                 {"boolean", T_BOOLEAN},
                 {"bool", T_BOOLEAN},
                 {"null", T_NULL},
                 {"object", T_OBJECT},
                 {"dict", T_OBJECT},
                 {"array", T_ARRAY},
                 {"list", T_ARRAY}};

    for (size_t i = 0; i < MLXR_COUNT(types); i++)
        if (strcmp(types[i].name, name) == 0) return types[i].bit;
    return T_ANY;
}

static unsigned type_of_value(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING: return T_STRING;
    case JSON_INTEGER: return T_INTEGER | T_NUMBER;
    case JSON_REAL: return T_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return T_BOOLEAN;
    case JSON_NULL: return T_NULL;
    case JSON_OBJECT: return T_OBJECT;
    case JSON_ARRAY: return T_ARRAY;
    }
    return T_ANY;
}

/* "#/$defs/name", without escapes. */
static const json_t *resolve(const json_t *root, const char *ref)
{
    char key[128];

    if (ref[0] != '#') return NULL;
    for (ref++; *ref == '/' && root;) {
        size_t n = strcspn(++ref, "/");
        if (n >= sizeof key) return NULL;
        memcpy(key, ref, n);
        key[n] = '\0';
        root = json_object_get(root, key);
        ref += n;
    }
    return root;
}

/* The types that a schema lets through: a rough guess is enough, for the grammar or the caller judges the value. */
static unsigned types_of(const json_t *schema, const json_t *root, int depth, int *budget)
{
    unsigned types = T_ANY, some;
    const json_t *v;
    static const char *const any_of[] = {"anyOf", "oneOf"};
    json_t *item;
    size_t i;

    if (!json_is_object(schema) || depth > MAX_REFS || --*budget < 0) return T_ANY;
    v = json_object_get(schema, "$ref");
    if (json_is_string(v)) types &= types_of(resolve(root, json_string_value(v)), root, depth + 1, budget);
    v = json_object_get(schema, "type");
    if (json_is_string(v)) types &= type_named(json_string_value(v));
    if (json_is_array(v)) {
        some = 0;
        json_array_foreach(v, i, item) if (json_is_string(item)) some |= type_named(json_string_value(item));
        if (some) types &= some;
    }
    v = json_object_get(schema, "enum");
    if (json_is_array(v) && json_array_size(v)) {
        some = 0;
        json_array_foreach(v, i, item) some |= type_of_value(item);
        types &= some;
    }
    v = json_object_get(schema, "const");
    if (v) types &= type_of_value(v);
    for (size_t k = 0; k < MLXR_COUNT(any_of); k++) {
        v = json_object_get(schema, any_of[k]);
        if (!json_is_array(v) || !json_array_size(v)) continue;
        some = 0;
        json_array_foreach(v, i, item) some |= types_of(item, root, depth + 4, budget);
        types &= some;
    }
    v = json_object_get(schema, "allOf");
    if (json_is_array(v)) json_array_foreach(v, i, item) types &= types_of(item, root, depth + 4, budget);
    return types;
}

const json_t *answer_tool_parameters(const json_t *tools, const char *name)
{
    json_t *tool;
    size_t i;

    if (!tools || !name) return NULL;
    json_array_foreach(tools, i, tool)
    {
        const json_t *f = json_object_get(tool, "function"), *n;
        if (!json_is_object(f)) f = tool;
        n = json_object_get(f, "name");
        if (!json_is_string(n) || strcmp(json_string_value(n), name) != 0) continue;
        n = json_object_get(f, "parameters");
        return n ? n : json_object_get(f, "input_schema");
    }
    return NULL;
}

/* ---- bare values ---- */

static void trim(const char **s, size_t *n)
{
    while (*n && answer_is_space(**s)) (*s)++, (*n)--;
    while (*n && answer_is_space((*s)[*n - 1])) (*n)--;
}

/* As JSON, if it is: the bits of what it is, 0 if it is none. */
static unsigned type_of_text(const char *s, size_t n, mlxr_answer_parser *p)
{
    json_t *v = NULL;
    unsigned type;
    mlxr_status st;

    if (!n || !json_is_value(s, n)) return 0;
    st = mlxr_json_parse(&v, s, n, "value", NULL);
    if (st == MLXR_E_NOMEM) p->failed = st;
    if (st != MLXR_OK) return 0;
    type = type_of_value(v);
    /* 2.0 counts as an integer, as JSON Schema has it. */
    if (type == T_NUMBER && fabs(json_real_value(v)) < 1e15 &&
        floor(json_real_value(v)) == json_real_value(v))
        type |= T_INTEGER;
    json_decref(v);
    return type;
}

static bool word(const char *s, size_t n, const char *w)
{
    return n == strlen(w) && memcmp(s, w, n) == 0;
}

/* Python's way to write lists and objects. */
static bool python_literal(mlxr_buf *out, const char *s, size_t n)
{
    mlxr_buf argument = {0}, json = {0};
    bool ok;

    mlxr_buf_str(&argument, "v=");
    mlxr_buf_append(&argument, s, n);
    /* {"v":...}, and no second argument behind it. */
    ok = !argument.failed && !answer_pythonic_arguments(&json, argument.data, argument.len) && json.len > 6 &&
         json_is_value(json.data + 5, json.len - 6);
    if (argument.failed || json.failed)
        out->failed = true;
    else if (ok)
        mlxr_buf_append(out, json.data + 5, json.len - 6);
    mlxr_buf_clear(&argument);
    mlxr_buf_clear(&json);
    return ok;
}

void answer_value_bare(mlxr_answer_parser *p, mlxr_buf *out, const char *key, const char *s, size_t n,
                       int is_string)
{
    const json_t *parameters = answer_tool_parameters(p->tools, p->call.name.data);
    const json_t *properties = json_object_get(parameters, "properties");
    const json_t *schema = json_object_get(properties, key);
    int budget = MAX_SCHEMAS;
    unsigned types = schema ? types_of(schema, parameters, 0, &budget) : T_ANY, type;
    const char *t = s;
    size_t n_t = n;

    if (is_string == 1 || (is_string < 0 && types == T_STRING)) {
        mlxr_json_escape(out, s, n);
        return;
    }
    trim(&t, &n_t);
    /* Templates that write values with Python's str(). */
    if (types != T_ANY && (types & T_BOOLEAN) && word(t, n_t, "True"))
        t = "true", n_t = 4;
    else if (types != T_ANY && (types & T_BOOLEAN) && word(t, n_t, "False"))
        t = "false", n_t = 5;
    else if (types != T_ANY && (types & T_NULL) && word(t, n_t, "None"))
        t = "null", n_t = 4;
    type = type_of_text(t, n_t, p);
    /* 2.5 for an integer stays a number: wrong, but less so than "2.5". */
    if (!(type & types & ~(unsigned)T_STRING) && (!type || (type & T_STRING) || (types & T_STRING))) {
        if (!type && types != T_ANY && (types & (T_OBJECT | T_ARRAY)) && n_t &&
            (t[0] == '{' || t[0] == '[') && python_literal(out, t, n_t))
            return;
        mlxr_json_escape(out, s, n);
        return;
    }
    json_compact(out, t, n_t);
}

/* ---- literals of Python, and of Gemma 4 ---- */

typedef struct reader {
    const char *s;
    size_t n, i;
    const char *bad;
} reader;

static void skip(reader *r)
{
    while (r->i < r->n && answer_is_space(r->s[r->i])) r->i++;
}

static bool take(reader *r, char c)
{
    skip(r);
    if (r->i >= r->n || r->s[r->i] != c) return false;
    r->i++;
    return true;
}

static bool fails(reader *r, const char *why)
{
    if (!r->bad) r->bad = why;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c)) return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH: n digits at i. */
static bool hex_escape(reader *r, mlxr_buf *out, int n)
{
    uint32_t cp = 0;

    for (int k = 0; k < n; k++) {
        int d = r->i < r->n ? hex_digit(r->s[r->i]) : -1;
        if (d < 0) return fails(r, "a tool call with a wrong escape");
        cp = cp << 4 | (uint32_t)d;
        r->i++;
    }
    if (cp >= 0xd800 && cp < 0xdc00 && r->i + 6 <= r->n && r->s[r->i] == '\\' && r->s[r->i + 1] == 'u') {
        uint32_t low = 0;
        for (int k = 0; k < 4; k++) {
            int d = hex_digit(r->s[r->i + 2 + (size_t)k]);
            if (d < 0) return fails(r, "a tool call with a wrong escape");
            low = low << 4 | (uint32_t)d;
        }
        if (low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            r->i += 6;
        }
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) return fails(r, "a tool call with a wrong escape");
    mlxr_buf_utf8(out, cp);
    return true;
}

/* The string at i, as Python reads it; line ends are taken also where Python wants three quotes. */
static bool read_string(reader *r, mlxr_buf *text, bool raw)
{
    char q = r->s[r->i];
    bool triple = r->i + 2 < r->n && r->s[r->i + 1] == q && r->s[r->i + 2] == q;

    r->i += triple ? 3 : 1;
    while (r->i < r->n) {
        char c = r->s[r->i];
        if (c == q && (!triple || (r->i + 2 < r->n && r->s[r->i + 1] == q && r->s[r->i + 2] == q))) {
            r->i += triple ? 3 : 1;
            return true;
        }
        r->i++;
        if (c != '\\' || r->i >= r->n) {
            mlxr_buf_char(text, c);
            continue;
        }
        c = r->s[r->i++];
        if (raw) {
            mlxr_buf_char(text, '\\');
            mlxr_buf_char(text, c);
            continue;
        }
        switch (c) {
        case '\n': break;
        case '\\':
        case '\'':
        case '"': mlxr_buf_char(text, c); break;
        case 'a': mlxr_buf_char(text, '\a'); break;
        case 'b': mlxr_buf_char(text, '\b'); break;
        case 'f': mlxr_buf_char(text, '\f'); break;
        case 'n': mlxr_buf_char(text, '\n'); break;
        case 'r': mlxr_buf_char(text, '\r'); break;
        case 't': mlxr_buf_char(text, '\t'); break;
        case 'v': mlxr_buf_char(text, '\v'); break;
        case 'x':
            if (!hex_escape(r, text, 2)) return false;
            break;
        case 'u':
            if (!hex_escape(r, text, 4)) return false;
            break;
        case 'U':
            if (!hex_escape(r, text, 8)) return false;
            break;
        default:
            if (c >= '0' && c <= '7') {
                uint32_t v = (uint32_t)(c - '0');
                for (int k = 0; k < 2 && r->i < r->n && r->s[r->i] >= '0' && r->s[r->i] <= '7'; k++)
                    v = v * 8 + (uint32_t)(r->s[r->i++] - '0');
                mlxr_buf_utf8(text, v);
            } else {
                mlxr_buf_char(text, '\\');
                mlxr_buf_char(text, c);
            }
        }
    }
    return fails(r, "a tool call with a string that does not end");
}

static bool write_string(reader *r, mlxr_buf *out, const mlxr_buf *text)
{
    if (text->failed) {
        out->failed = true;
        return true;
    }
    if (mlxr_utf8_valid(text->data ? text->data : "", text->len) != text->len)
        return fails(r, "a tool call whose value is not UTF-8");
    mlxr_json_escape(out, text->data ? text->data : "", text->len);
    return true;
}

/* Python's numbers to JSON's: +1, 1_000, .5 and 1. are Python's alone. */
static bool read_number(reader *r, mlxr_buf *out)
{
    size_t from = r->i, start = out->len;
    bool digits = false, point = false;

    if (r->s[r->i] == '-' || r->s[r->i] == '+') {
        if (r->s[r->i] == '-') mlxr_buf_char(out, '-');
        r->i++;
    }
    for (; r->i < r->n; r->i++) {
        char c = r->s[r->i];
        if (c == '_' && digits) continue;
        if (c == '.' && !point) {
            if (!digits) mlxr_buf_char(out, '0');
            point = true;
            mlxr_buf_char(out, c);
            if (r->i + 1 >= r->n || !is_digit(r->s[r->i + 1])) mlxr_buf_char(out, '0');
        } else if (is_digit(c)) {
            digits = true;
            mlxr_buf_char(out, c);
        } else if ((c == 'e' || c == 'E' || c == '+' || c == '-') && digits) {
            mlxr_buf_char(out, c);
        } else {
            break;
        }
    }
    if (r->i == from || out->failed || !digits || !json_is_value(out->data + start, out->len - start))
        return fails(r, "a tool call with a value that is none");
    return true;
}

static size_t read_word(reader *r)
{
    size_t n = 0;

    while (r->i + n < r->n) {
        char c = r->s[r->i + n];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80 ||
              (n && is_digit(c))))
            break;
        n++;
    }
    return n;
}

static bool write_word(reader *r, mlxr_buf *out)
{
    static const struct {
        const char *word, *json;
    } words[] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                 {"true", "true"}, {"false", "false"}, {"null", "null"}};
    size_t n = read_word(r);

    for (size_t k = 0; k < MLXR_COUNT(words); k++) {
        if (!word(r->s + r->i, n, words[k].word)) continue;
        r->i += n;
        mlxr_buf_str(out, words[k].json);
        return true;
    }
    return fails(r, "a tool call with a value that is none");
}

static bool read_literal(reader *r, mlxr_buf *out, int depth);

static bool read_text(reader *r, mlxr_buf *out)
{
    mlxr_buf text = {0};
    bool ok = true;

    do { /* 'a' 'b' is one string */
        bool raw = r->s[r->i] == 'r' || r->s[r->i] == 'R';
        if (raw || r->s[r->i] == 'u') r->i++;
        ok = read_string(r, &text, raw);
        skip(r);
    } while (ok && r->i < r->n && (r->s[r->i] == '"' || r->s[r->i] == '\''));
    ok = ok && write_string(r, out, &text);
    mlxr_buf_clear(&text);
    return ok;
}

/* Items up to `close`; objects have keys. */
static bool read_items(reader *r, mlxr_buf *out, char close, int depth)
{
    bool object = close == '}', first = true;

    r->i++;
    mlxr_buf_char(out, object ? '{' : '[');
    while (!take(r, close)) {
        if (!first && !take(r, ',')) return fails(r, "a tool call with a list that does not follow Python");
        if (!first && take(r, close)) break; /* a comma at the end */
        if (!first) mlxr_buf_char(out, ',');
        first = false;
        skip(r);
        if (r->i >= r->n) return fails(r, "a tool call with a list that does not end");
        if (object) {
            if (r->s[r->i] != '"' && r->s[r->i] != '\'')
                return fails(r, "a tool call with an object whose key is no string");
            if (!read_text(r, out)) return false;
            if (!take(r, ':')) return fails(r, "a tool call with an object that does not follow Python");
            mlxr_buf_char(out, ':');
        }
        if (!read_literal(r, out, depth + 1)) return false;
    }
    mlxr_buf_char(out, object ? '}' : ']');
    return true;
}

static bool read_literal(reader *r, mlxr_buf *out, int depth)
{
    char c, next;

    skip(r);
    if (depth > MAX_LITERAL_DEPTH) return fails(r, "a tool call that nests too deeply");
    if (r->i >= r->n) return fails(r, "a tool call without a value");
    c = r->s[r->i];
    next = r->i + 1 < r->n ? r->s[r->i + 1] : '\0';
    if (c == '"' || c == '\'' || ((c == 'r' || c == 'R' || c == 'u') && (next == '"' || next == '\'')))
        return read_text(r, out);
    if (c == '[') return read_items(r, out, ']', depth);
    if (c == '(') return read_items(r, out, ')', depth);
    if (c == '{') return read_items(r, out, '}', depth);
    if (is_digit(c) || c == '-' || c == '+' || c == '.') return read_number(r, out);
    return write_word(r, out);
}

const char *answer_pythonic_arguments(mlxr_buf *out, const char *s, size_t n)
{
    reader r = {.s = s, .n = n};
    bool first = true;
    size_t len;

    mlxr_buf_char(out, '{');
    for (skip(&r); r.i < r.n; skip(&r)) {
        if (!first) {
            if (!take(&r, ',')) return "a tool call with arguments that are not separated by commas";
            skip(&r);
            if (r.i >= r.n) break;
            mlxr_buf_char(out, ',');
        }
        first = false;
        len = read_word(&r);
        if (!len) return "a tool call with an argument without a name";
        if (mlxr_utf8_valid(r.s + r.i, len) != len) return "a tool call whose value is not UTF-8";
        mlxr_json_escape(out, r.s + r.i, len);
        r.i += len;
        if (!take(&r, '=')) return "a tool call with an argument without a name";
        mlxr_buf_char(out, ':');
        if (!read_literal(&r, out, 0)) return r.bad;
    }
    mlxr_buf_char(out, '}');
    return NULL;
}

/* ---- Gemma 4 ---- */

static const char quote[] = "<|\"|>";
enum { N_QUOTE = sizeof quote - 1 };

static bool at_quote(const reader *r)
{
    return r->i + N_QUOTE <= r->n && memcmp(r->s + r->i, quote, N_QUOTE) == 0;
}

static bool read_quoted(reader *r, mlxr_buf *out)
{
    size_t from;

    r->i += N_QUOTE;
    for (from = r->i; r->i < r->n && !at_quote(r);) r->i++;
    if (r->i >= r->n) return fails(r, "a tool call with a string that does not end");
    if (mlxr_utf8_valid(r->s + from, r->i - from) != r->i - from)
        return fails(r, "a tool call whose value is not UTF-8");
    mlxr_json_escape(out, r->s + from, r->i - from);
    r->i += N_QUOTE;
    return true;
}

static bool read_json_string(reader *r, mlxr_buf *out)
{
    json_scan s;
    size_t from = r->i;
    json_scan_result k = JS_MORE;

    json_scan_begin(&s);
    while (r->i < r->n && k == JS_MORE) k = json_scan_byte(&s, r->s[r->i++]);
    if (k != JS_END) return fails(r, "a tool call with a string that does not end");
    mlxr_buf_append(out, r->s + from, r->i - from);
    return true;
}

/* Text up to a delimiter: a key, or a value that is a number, a word, or text without its marks. */
static bool read_bare(reader *r, mlxr_buf *out, const char *ends, bool key)
{
    const char *s = r->s + r->i;
    size_t n = 0;

    while (r->i + n < r->n && !strchr(ends, s[n]) && s[n] != '\0') n++;
    r->i += n;
    trim(&s, &n);
    if (!n) return fails(r, "a tool call without a value");
    if (mlxr_utf8_valid(s, n) != n) return fails(r, "a tool call whose value is not UTF-8");
    if (!key && json_is_value(s, n))
        mlxr_buf_append(out, s, n);
    else if (!key && word(s, n, "None"))
        mlxr_buf_str(out, "null");
    else if (!key && (word(s, n, "True") || word(s, n, "False")))
        mlxr_buf_str(out, s[0] == 'T' ? "true" : "false");
    else
        mlxr_json_escape(out, s, n);
    return true;
}

static bool read_braced(reader *r, mlxr_buf *out, int depth);

static bool read_members(reader *r, mlxr_buf *out, int depth, bool object, bool outermost)
{
    char close = object ? '}' : ']';
    bool first = true;

    mlxr_buf_char(out, object ? '{' : '[');
    for (;;) {
        skip(r);
        if (outermost ? r->i >= r->n : take(r, close)) break;
        if (!first) {
            if (!take(r, ',')) return fails(r, "a tool call with members that are not separated by commas");
            skip(r);
            mlxr_buf_char(out, ',');
        }
        first = false;
        if (r->i >= r->n) return fails(r, "a tool call with an object that does not end");
        if (object) {
            if (at_quote(r)
                    ? !read_quoted(r, out)
                    : (r->s[r->i] == '"' ? !read_json_string(r, out) : !read_bare(r, out, ":,{}[]", true)))
                return false;
            if (!take(r, ':')) return fails(r, "a tool call with a member without a value");
            mlxr_buf_char(out, ':');
        }
        if (!read_braced(r, out, depth + 1)) return false;
    }
    mlxr_buf_char(out, close);
    return true;
}

static bool read_braced(reader *r, mlxr_buf *out, int depth)
{
    skip(r);
    if (depth > MAX_LITERAL_DEPTH) return fails(r, "a tool call that nests too deeply");
    if (r->i >= r->n) return fails(r, "a tool call without a value");
    if (at_quote(r)) return read_quoted(r, out);
    if (r->s[r->i] == '"') return read_json_string(r, out);
    if (r->s[r->i] == '{' || r->s[r->i] == '[') {
        bool object = r->s[r->i++] == '{';
        return read_members(r, out, depth, object, false);
    }
    return read_bare(r, out, ",]}", false);
}

const char *answer_braced_arguments(mlxr_buf *out, const char *s, size_t n)
{
    reader r = {.s = s, .n = n};

    return read_members(&r, out, 0, true, true) ? NULL : r.bad;
}
