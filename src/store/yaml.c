/* yaml: see yaml.h. */
#include "store/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <yaml.h>

#include "store/recipe.h"

typedef struct open_node {
    mlxr_yaml *node, *key; /* key: of a map, when it has been read and its value has not */
    const char *anchor;
} open_node;

typedef struct reader {
    const char *what;
    mlxr_error *err;
    mlxr_arena *arena;
    yaml_parser_t parser;
    open_node open[MLXR_RECIPE_MAX_DEPTH];
    size_t n_open, n_nodes, n_bytes;
    mlxr_yaml *root;
    mlxr_strtab anchors; /* name to an index of nodes */
    mlxr_yaml **anchored;
    size_t n_anchored, cap_anchored;
} reader;

static mlxr_status fail_at(reader *r, size_t line, size_t column, const char *why)
{
    return mlxr_fail(r->err, MLXR_E_FORMAT, "%s:%zu:%zu: %s", r->what, line, column, why);
}

/* ---- the text ---- */

/* The characters that YAML allows in a text (5.1), so that messages about others have a place. */
static mlxr_status check_text(const char *text, size_t n, const char *what, mlxr_error *err)
{
    size_t line = 1, column = 1, i = 0;

    while (i < n) {
        uint32_t c;
        size_t k = mlxr_utf8_decode(text + i, n - i, &c);
        if (k == 0)
            return mlxr_fail(err, MLXR_E_FORMAT, "%s:%zu:%zu: the byte 0x%02x is no UTF-8", what, line,
                             column, (unsigned char)text[i]);
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f ||
            (c >= 0x80 && c < 0xa0 && c != 0x85) || c == 0xfffe || c == 0xffff || (c == 0xfeff && i > 0))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s:%zu:%zu: the character U+%04X cannot stand here", what,
                             line, column, (unsigned)c);
        i += k;
        column++;
        if (c == '\n') {
            line++;
            column = 1;
        }
    }
    return MLXR_OK;
}

static bool hex4(uint32_t *out, const char *s)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit > 15) return false;
        *out = *out << 4 | digit;
    }
    return true;
}

/* JSON writes a character beyond U+FFFF as two halves, "\ud83d\ude00", which YAML has not: it becomes "\U0001F600". In
 * JSON a backslash stands in strings alone. *out stays empty where there are none. */
static void join_halves(mlxr_buf *out, const char *text, size_t n)
{
    size_t from = 0, i = strspn(text, " \t\r\n");

    if (text[i] != '{') return;
    for (; i + 1 < n; i++) {
        uint32_t high, low;
        if (text[i] != '\\') continue;
        if (text[i + 1] == 'u' && n - i >= 12 && hex4(&high, text + i + 2) && high >> 10 == 0xd800 >> 10 &&
            text[i + 6] == '\\' && text[i + 7] == 'u' && hex4(&low, text + i + 8) &&
            low >> 10 == 0xdc00 >> 10) {
            mlxr_buf_append(out, text + from, i - from);
            mlxr_buf_printf(out, "\\U%08X", (unsigned)(0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff))));
            from = i + 12;
            i += 11;
        } else {
            i++; /* whatever is escaped */
        }
    }
    if (from) mlxr_buf_append(out, text + from, n - from);
}

/* ---- scalars ---- */

static bool one_of(const char *s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(s, words[i]) == 0) return true;
    return false;
}

static bool all_in(const char *s, const char *set)
{
    return *s && s[strspn(s, set)] == '\0';
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *s)
{
    size_t before, after = 0;

    s += *s == '-' || *s == '+';
    s += before = strspn(s, "0123456789");
    if (*s == '.') {
        s++;
        s += after = strspn(s, "0123456789");
    }
    if (before + after == 0) return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        return all_in(s, "0123456789");
    }
    return *s == '\0';
}

/* The core schema. false: a number that JSON has not. */
static bool resolve_plain(mlxr_yaml *node)
{
    static const char *const nulls[] = {"null", "Null", "NULL", "~", ""};
    static const char *const booleans[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    static const char *const numbers[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf", "+.INF",
                                          "-.inf", "-.Inf", "-.INF", ".nan",  ".NaN",  ".NAN"};
    const char *s = node->text, *digits = s + (*s == '-' || *s == '+');
    int base = 0;
    char *end;

    if (one_of(s, nulls, MLXR_COUNT(nulls))) {
        node->kind = MLXR_YAML_NULL;
    } else if (one_of(s, booleans, MLXR_COUNT(booleans))) {
        node->kind = MLXR_YAML_BOOL;
        node->boolean = *s == 't' || *s == 'T';
    } else if (one_of(s, numbers, MLXR_COUNT(numbers))) {
        return false;
    } else {
        if (all_in(digits, "0123456789")) base = 10;
        if (strncmp(s, "0o", 2) == 0 && all_in(s + 2, "01234567")) base = 8;
        if (strncmp(s, "0x", 2) == 0 && all_in(s + 2, "0123456789abcdefABCDEF")) base = 16;
        errno = 0;
        if (base) node->integer = strtoll(base == 10 ? s : s + 2, &end, base);
        if (base && errno == 0) {
            node->kind = MLXR_YAML_INT;
        } else if (base == 10 || is_float(s)) {
            node->kind = MLXR_YAML_REAL;
            node->real = strtod(s, &end);
            return isfinite(node->real);
        }
        /* an octal or hexadecimal number that is too large stays a text */
    }
    return true;
}

static mlxr_status make_scalar(reader *r, mlxr_yaml *node, const yaml_event_t *ev)
{
    const char *tag = (const char *)ev->data.scalar.tag;
    size_t n = ev->data.scalar.length;

    node->kind = MLXR_YAML_TEXT;
    node->text = mlxr_arena_strndup(r->arena, (const char *)ev->data.scalar.value, n);
    node->n_text = node->n_bytes = n;
    if (!node->text) return mlxr_fail_nomem(r->err, r->what);
    if (strlen(node->text) != n)
        return fail_at(r, node->line, node->column, "a text with a NUL character in it");
    if (tag && strcmp(tag, YAML_STR_TAG) != 0 && strcmp(tag, "!") != 0)
        return fail_at(r, node->line, node->column, "a tag other than !!str, which recipes have no use for");
    if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tag && !resolve_plain(node))
        return fail_at(r, node->line, node->column, "a number that is infinite, too large or none");
    return MLXR_OK;
}

/* ---- the tree ---- */

/* What stands for n nodes with n_bytes of text. An alias of a long text costs what it stands for as well. */
static mlxr_status count(reader *r, size_t n, size_t n_bytes, size_t line, size_t column)
{
    r->n_nodes += n; /* all four are bounded, so no sum of two wraps */
    r->n_bytes += n_bytes;
    if (r->n_bytes > MLXR_RECIPE_MAX_BYTES)
        return mlxr_fail(r->err, MLXR_E_LIMIT, "%s:%zu:%zu: more than %d bytes of text, aliases counted out",
                         r->what, line, column, (int)MLXR_RECIPE_MAX_BYTES);
    if (r->n_nodes <= MLXR_RECIPE_MAX_NODES) return MLXR_OK;
    return mlxr_fail(r->err, MLXR_E_LIMIT, "%s:%zu:%zu: more than %d values, aliases counted out", r->what,
                     line, column, (int)MLXR_RECIPE_MAX_NODES);
}

static mlxr_status too_deep(reader *r, size_t line, size_t column)
{
    return mlxr_fail(r->err, MLXR_E_LIMIT, "%s:%zu:%zu: nested deeper than %d levels", r->what, line, column,
                     (int)MLXR_RECIPE_MAX_DEPTH);
}

static bool grow(reader *r, mlxr_yaml *parent)
{
    size_t cap = parent->cap ? parent->cap * 2 : 8;
    mlxr_yaml **items, **keys = NULL;

    if (parent->n < parent->cap) return true;
    items = mlxr_arena_calloc(r->arena, cap, sizeof(mlxr_yaml *));
    if (parent->kind == MLXR_YAML_MAP) keys = mlxr_arena_calloc(r->arena, cap, sizeof(mlxr_yaml *));
    if (!items || (parent->kind == MLXR_YAML_MAP && !keys)) return false;
    if (parent->n) memcpy(items, parent->items, parent->n * sizeof(mlxr_yaml *));
    if (parent->n && keys) memcpy(keys, parent->keys, parent->n * sizeof(mlxr_yaml *));
    parent->items = items;
    parent->keys = keys;
    parent->cap = cap;
    return true;
}

static mlxr_status add_key(reader *r, open_node *parent, mlxr_yaml *key, size_t line, size_t column)
{
    if (key->kind >= MLXR_YAML_LIST) return fail_at(r, line, column, "a key that is a list or a map");
    /* Maps of a recipe are small, and the whole has 10,000 nodes at most. */
    for (size_t i = 0; i < parent->node->n; i++)
        if (strcmp(parent->node->keys[i]->text, key->text) == 0)
            return mlxr_fail(r->err, MLXR_E_FORMAT,
                             "%s:%zu:%zu: the key \"%.200s\" is there twice, first in line %zu", r->what,
                             line, column, key->text, parent->node->keys[i]->line);
    parent->key = key;
    return MLXR_OK;
}

/* A finished node, or an alias of one, goes where it belongs. */
static mlxr_status place(reader *r, mlxr_yaml *node, size_t line, size_t column)
{
    open_node *parent = r->n_open ? &r->open[r->n_open - 1] : NULL;

    if (!parent) {
        r->root = node;
        return MLXR_OK;
    }
    if (parent->node->kind == MLXR_YAML_MAP && !parent->key) return add_key(r, parent, node, line, column);
    if (!grow(r, parent->node)) return mlxr_fail_nomem(r->err, r->what);
    if (parent->key && parent->node->keys) {
        parent->node->keys[parent->node->n] = parent->key;
        parent->node->n_nodes += parent->key->n_nodes;
        parent->node->n_bytes += parent->key->n_bytes;
        parent->key = NULL;
    }
    parent->node->items[parent->node->n++] = node;
    parent->node->n_nodes += node->n_nodes;
    parent->node->n_bytes += node->n_bytes;
    if (node->height >= parent->node->height) parent->node->height = node->height + 1;
    return MLXR_OK;
}

static mlxr_status remember(reader *r, const char *anchor, mlxr_yaml *node)
{
    mlxr_yaml **grown;

    if (!anchor) return MLXR_OK;
    if (r->n_anchored == r->cap_anchored) {
        r->cap_anchored = r->cap_anchored ? r->cap_anchored * 2 : 16;
        grown = mlxr_realloc_array(r->anchored, r->cap_anchored, sizeof *grown);
        if (!grown) return mlxr_fail_nomem(r->err, r->what);
        r->anchored = grown;
    }
    r->anchored[r->n_anchored] = node;
    if (!mlxr_strtab_put(&r->anchors, anchor, strlen(anchor), r->n_anchored++, NULL))
        return mlxr_fail_nomem(r->err, r->what);
    return MLXR_OK;
}

static mlxr_status take_alias(reader *r, const char *anchor, size_t line, size_t column)
{
    size_t i = mlxr_strtab_get(&r->anchors, anchor, strlen(anchor));
    mlxr_yaml *node;
    mlxr_status st;

    for (size_t k = 0; k < r->n_open; k++)
        if (r->open[k].anchor && strcmp(r->open[k].anchor, anchor) == 0)
            return fail_at(r, line, column, "an alias inside what it stands for");
    if (i == SIZE_MAX)
        return mlxr_fail(r->err, MLXR_E_FORMAT, "%s:%zu:%zu: there is no anchor \"&%.200s\" before this",
                         r->what, line, column, anchor);
    node = r->anchored[i];
    if (r->n_open + node->height > MLXR_RECIPE_MAX_DEPTH) return too_deep(r, line, column);
    if ((st = count(r, node->n_nodes, node->n_bytes, line, column)) != MLXR_OK) return st;
    return place(r, node, line, column);
}

static mlxr_status take_event(reader *r, const yaml_event_t *ev)
{
    size_t line = ev->start_mark.line + 1, column = ev->start_mark.column + 1;
    bool map = ev->type == YAML_MAPPING_START_EVENT;
    const char *anchor = NULL, *tag = NULL;
    mlxr_yaml *node;
    mlxr_status st;

    if (ev->type == YAML_ALIAS_EVENT) return take_alias(r, (const char *)ev->data.alias.anchor, line, column);
    if (ev->type == YAML_SEQUENCE_END_EVENT || ev->type == YAML_MAPPING_END_EVENT) {
        open_node closed = r->open[--r->n_open];
        st = remember(r, closed.anchor, closed.node);
        return st == MLXR_OK ? place(r, closed.node, closed.node->line, closed.node->column) : st;
    }
    if (r->n_open == MLXR_RECIPE_MAX_DEPTH) return too_deep(r, line, column);
    if ((st = count(r, 1, 0, line, column)) != MLXR_OK) return st;
    if (!(node = mlxr_arena_calloc(r->arena, 1, sizeof *node))) return mlxr_fail_nomem(r->err, r->what);
    *node = (mlxr_yaml){.line = line, .column = column, .n_nodes = 1, .height = 1};
    if (ev->type == YAML_SCALAR_EVENT) {
        if ((st = make_scalar(r, node, ev)) != MLXR_OK) return st;
        if ((st = count(r, 0, node->n_bytes, line, column)) != MLXR_OK) return st;
        anchor = (const char *)ev->data.scalar.anchor;
        if (anchor && !(anchor = mlxr_arena_strndup(r->arena, anchor, strlen(anchor))))
            return mlxr_fail_nomem(r->err, r->what);
        if ((st = remember(r, anchor, node)) != MLXR_OK) return st;
        return place(r, node, line, column);
    }
    node->kind = map ? MLXR_YAML_MAP : MLXR_YAML_LIST;
    tag = (const char *)(map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag);
    anchor = (const char *)(map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor);
    if (tag) return fail_at(r, line, column, "a tag other than !!str, which recipes have no use for");
    if (anchor && !(anchor = mlxr_arena_strndup(r->arena, anchor, strlen(anchor))))
        return mlxr_fail_nomem(r->err, r->what);
    r->open[r->n_open++] = (open_node){.node = node, .anchor = anchor};
    return MLXR_OK;
}

static mlxr_status fail_parse(reader *r)
{
    const yaml_parser_t *p = &r->parser;

    if (p->error == YAML_MEMORY_ERROR) return mlxr_fail_nomem(r->err, r->what);
    return mlxr_fail(r->err, MLXR_E_FORMAT, "%s:%zu:%zu: no valid YAML: %s%s%s", r->what,
                     p->problem_mark.line + 1, p->problem_mark.column + 1, p->context ? p->context : "",
                     p->context ? ", " : "", p->problem ? p->problem : "it cannot be read");
}

static mlxr_status read_all(reader *r)
{
    yaml_event_t ev;
    size_t n_documents = 0;
    mlxr_status st = MLXR_OK;

    for (bool more = true; more && st == MLXR_OK;) {
        if (!yaml_parser_parse(&r->parser, &ev)) return fail_parse(r);
        switch (ev.type) {
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_STREAM_END_EVENT: more = false; break;
        case YAML_DOCUMENT_START_EVENT:
            if (++n_documents > 1)
                st = fail_at(r, ev.start_mark.line + 1, ev.start_mark.column + 1, "a second document");
            break;
        default: st = take_event(r, &ev);
        }
        yaml_event_delete(&ev);
    }
    if (st == MLXR_OK && !r->root) st = fail_at(r, 1, 1, "there is nothing in it");
    return st;
}

mlxr_status mlxr_yaml_parse(mlxr_yaml **out, mlxr_arena *arena, const char *text, size_t n, const char *what,
                            mlxr_error *err)
{
    reader *r;
    mlxr_buf joined = {0};
    mlxr_status st;

    *out = NULL;
    if (n > MLXR_RECIPE_MAX_BYTES)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: %zu bytes, and a recipe has %d at most", what, n,
                         (int)MLXR_RECIPE_MAX_BYTES);
    if ((st = check_text(text, n, what, err)) != MLXR_OK) return st;
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        n -= 3;
    }
    if (!(r = calloc(1, sizeof *r))) return mlxr_fail_nomem(err, what);
    *r = (reader){.what = what, .err = err, .arena = arena};
    if (!yaml_parser_initialize(&r->parser)) {
        free(r);
        return mlxr_fail_nomem(err, what);
    }
    if (n) {
        mlxr_buf_append(&joined, text, n); /* NUL-terminated now */
        if (!joined.failed) {
            mlxr_buf whole = {0};
            join_halves(&whole, joined.data, joined.len);
            if (whole.len || whole.failed) {
                mlxr_buf_clear(&joined);
                joined = whole;
            }
        }
        if ((st = mlxr_buf_check(&joined, what, err)) != MLXR_OK) goto done;
    }
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)(joined.data ? joined.data : ""),
                                 joined.len);
    if ((st = read_all(r)) == MLXR_OK) *out = r->root;
done:
    yaml_parser_delete(&r->parser);
    mlxr_buf_clear(&joined);
    mlxr_strtab_clear(&r->anchors);
    free(r->anchored);
    free(r);
    return st;
}

/* ---- what is asked of a tree ---- */

const char *mlxr_yaml_kind_name(mlxr_yaml_kind kind)
{
    switch (kind) {
    case MLXR_YAML_NULL: return "nothing";
    case MLXR_YAML_BOOL: return "a boolean";
    case MLXR_YAML_INT:
    case MLXR_YAML_REAL: return "a number";
    case MLXR_YAML_TEXT: return "a text";
    case MLXR_YAML_LIST: return "a list";
    case MLXR_YAML_MAP: break;
    }
    return "a map";
}

/* Recursion ends with MLXR_RECIPE_MAX_DEPTH. */
json_t *mlxr_yaml_to_json(const mlxr_yaml *node)
{
    json_t *out = NULL;

    switch (node->kind) {
    case MLXR_YAML_NULL: return json_null();
    case MLXR_YAML_BOOL: return json_boolean(node->boolean);
    case MLXR_YAML_INT: return json_integer(node->integer);
    case MLXR_YAML_REAL: return json_real(node->real);
    case MLXR_YAML_TEXT: return json_stringn(node->text, node->n_text);
    case MLXR_YAML_LIST: out = json_array(); break;
    case MLXR_YAML_MAP: out = json_object(); break;
    }
    for (size_t i = 0; out && i < node->n; i++) {
        json_t *item = mlxr_yaml_to_json(node->items[i]);
        if (node->keys ? json_object_set_new(out, node->keys[i]->text, item) != 0
                       : json_array_append_new(out, item) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}
