/* schema_read: where the schemas of a document are, what their keywords are, and where $ref leads.
 *
 * Identifiers are resolved inside the document alone: JSON Schema 2020-12 core, sections 8 and 9; RFC 3986 section 5 for
 * references, RFC 6901 for pointers. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

static const char *const keyword_names[] = {
#define MLXR_SC_KEYWORD_NAME(id, name) name,
    MLXR_SC_KEYWORDS(MLXR_SC_KEYWORD_NAME)
#undef MLXR_SC_KEYWORD_NAME
};

const char *mlxr_sc_keyword_name(mlxr_sc_keyword k)
{
    return keyword_names[k];
}

/* The list is in the order of strcmp. */
static mlxr_sc_keyword keyword_of(const char *text, size_t n)
{
    size_t lo = 0, hi = MLXR_KW_COUNT;

    if (memchr(text, 0, n)) return MLXR_KW_COUNT;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = strcmp(text, keyword_names[mid]);
        if (c == 0) return (mlxr_sc_keyword)mid;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return MLXR_KW_COUNT;
}

/* ---- messages ---- */

#undef mlxr_sc_nomem /* the analyzer's macro of it */
mlxr_status mlxr_sc_nomem(mlxr_sc *s)
{
    return mlxr_fail_nomem(s->err, "schema");
}

static void path_of(mlxr_buf *out, const mlxr_sc_node *n)
{
    const mlxr_sc_node *up[2 * MLXR_VALUE_MAX_DEPTH];
    size_t n_up = 0;

    for (; n && n_up < MLXR_COUNT(up); n = n->parent) up[n_up++] = n;
    while (n_up) mlxr_buf_str(out, up[--n_up]->suffix);
}

char *mlxr_sc_path(mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_buf path = {0};

    mlxr_buf_str(&path, s->name);
    mlxr_buf_char(&path, '#');
    path_of(&path, n);
    return mlxr_buf_take(&path, NULL);
}

#undef mlxr_sc_fail /* the analyzer's macro of it */
mlxr_status mlxr_sc_fail(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, mlxr_status st,
                         const char *fmt, ...)
{
    mlxr_buf path = {0};
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    path_of(&path, n);
    mlxr_fail(s->err, st, "%s#%s%s%s: %s", s->name, path.data && !path.failed ? path.data : "",
              keyword ? "/" : "", keyword ? keyword : "", text);
    mlxr_buf_clear(&path);
    return st;
}

mlxr_status mlxr_sc_at(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, mlxr_status st)
{
    mlxr_buf path = {0};

    if (st == MLXR_OK || st == MLXR_E_NOMEM) return st;
    path_of(&path, n);
    mlxr_error_prefix(s->err, "%s#%s%s%s: ", s->name, path.data && !path.failed ? path.data : "",
                      keyword ? "/" : "", keyword ? keyword : "");
    mlxr_buf_clear(&path);
    return st;
}

bool mlxr_sc_may_be_old(const mlxr_sc *s, int last_draft)
{
    return s->draft == 0 || s->draft <= last_draft;
}

/* ---- URIs ---- */

/* The length of "scheme:", or 0. */
static size_t scheme_len(const char *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = u[i];
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (c == ':') return i ? i + 1 : 0;
        if (!alpha && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))) return 0;
    }
    return 0;
}

/* Appends a path without its "." and ".." segments to out, which holds what is before the path. */
static void append_path(mlxr_buf *out, const char *p, size_t n)
{
    size_t start = out->len;

    for (size_t i = 0; i <= n && !out->failed;) {
        size_t end = i;
        while (end < n && p[end] != '/') end++;
        if (end - i == 2 && p[i] == '.' && p[i + 1] == '.') {
            size_t cut = out->len;
            if (cut > start && out->data[cut - 1] == '/') cut--;
            while (cut > start && out->data[cut - 1] != '/') cut--;
            out->len = cut;
        } else if (!(end - i == 1 && p[i] == '.')) {
            mlxr_buf_append(out, p + i, end - i);
            if (end < n) mlxr_buf_char(out, '/');
        }
        i = end + 1;
    }
}

/* ref against base, both without fragments. */
static char *resolve(mlxr_sc *s, const char *base, const char *ref, size_t n_ref)
{
    mlxr_buf out = {0};
    size_t n_base = strlen(base), n_scheme = scheme_len(base, n_base), n_authority = n_scheme, cut;
    char *text;

    if (n_base >= n_scheme + 2 && !memcmp(base + n_scheme, "//", 2)) {
        n_authority += 2;
        while (n_authority < n_base && base[n_authority] != '/') n_authority++;
    }
    if (n_ref == 0) {
        mlxr_buf_append(&out, base, n_base);
    } else if (scheme_len(ref, n_ref)) {
        mlxr_buf_append(&out, ref, n_ref);
    } else if (n_ref >= 2 && ref[0] == '/' && ref[1] == '/') {
        mlxr_buf_append(&out, base, n_scheme);
        mlxr_buf_append(&out, ref, n_ref);
    } else if (ref[0] == '/') {
        mlxr_buf_append(&out, base, n_authority);
        append_path(&out, ref, n_ref);
    } else {
        mlxr_buf joined = {0};
        cut = n_base;
        while (cut > n_authority && base[cut - 1] != '/') cut--;
        mlxr_buf_append(&joined, base + n_authority, cut - n_authority);
        if (cut == n_authority && n_authority > n_scheme) mlxr_buf_char(&joined, '/');
        mlxr_buf_append(&joined, ref, n_ref);
        mlxr_buf_append(&out, base, n_authority);
        if (joined.failed)
            out.failed = true;
        else
            append_path(&out, joined.data, joined.len);
        mlxr_buf_clear(&joined);
    }
    text = out.failed ? NULL : mlxr_arena_strndup(&s->arena, out.data ? out.data : "", out.len);
    mlxr_buf_clear(&out);
    return text;
}

/* ---- nodes ---- */

mlxr_status mlxr_sc_name(uint32_t *out, mlxr_sc *s, const char *text, size_t n)
{
    size_t i = mlxr_strtab_get(&s->name_of, text, n);

    if (i == SIZE_MAX) {
        if (s->n_names == s->cap_names) {
            size_t cap = s->cap_names ? s->cap_names * 2 : 32;
            mlxr_text *more = mlxr_realloc_array(s->names, cap, sizeof *more);
            if (!more) return mlxr_sc_nomem(s);
            s->names = more;
            s->cap_names = cap;
        }
        i = s->n_names;
        if (i >= UINT32_MAX / 4) return mlxr_fail(s->err, MLXR_E_LIMIT, "%s: too many names", s->name);
        if (!mlxr_strtab_put(&s->name_of, text, n, i, NULL)) return mlxr_sc_nomem(s);
        s->names[s->n_names++] = (mlxr_text){text, n};
    }
    *out = (uint32_t)i;
    return MLXR_OK;
}

static mlxr_status make_node(mlxr_sc_node **out, mlxr_sc *s, const mlxr_value *v, bool is_value,
                             const mlxr_sc_node *parent, const char *suffix)
{
    mlxr_sc_node *n = mlxr_arena_calloc(&s->arena, 1, sizeof *n);

    if (!n) return mlxr_sc_nomem(s);
    n->key.v = v;
    n->key.is_value = is_value;
    n->parent = parent;
    n->suffix = suffix;
    n->base = parent ? parent->base : "";
    if (s->n_nodes == s->cap_nodes) {
        size_t cap = s->cap_nodes ? s->cap_nodes * 2 : 64;
        const mlxr_sc_node **more = mlxr_realloc_array((void *)s->nodes, cap, sizeof *more);
        if (!more) return mlxr_sc_nomem(s);
        s->nodes = more;
        s->cap_nodes = cap;
    }
    if (s->n_nodes >= UINT32_MAX / 4) return mlxr_fail(s->err, MLXR_E_LIMIT, "%s: too large", s->name);
    n->id = (uint32_t)s->n_nodes;
    if (!mlxr_strtab_put(&s->node_of, (const char *)&n->key, sizeof n->key, n->id, NULL))
        return mlxr_sc_nomem(s);
    s->nodes[s->n_nodes++] = n;
    *out = n;
    return MLXR_OK;
}

static const mlxr_sc_node *find_node(const mlxr_sc *s, const mlxr_value *v, bool is_value)
{
    mlxr_sc_node probe;
    size_t i;

    memset(&probe.key, 0, sizeof probe.key);
    probe.key.v = v;
    probe.key.is_value = is_value;
    i = mlxr_strtab_get(&s->node_of, (const char *)&probe.key, sizeof probe.key);
    return i == SIZE_MAX ? NULL : s->nodes[i];
}

static mlxr_status add_resource(mlxr_sc *s, const mlxr_sc_node *n, const char *uri, const char *anchor,
                                size_t n_anchor)
{
    size_t old;
    const char *key = uri;

    if (anchor) {
        mlxr_buf b = {0};
        mlxr_buf_str(&b, uri);
        mlxr_buf_char(&b, '#');
        mlxr_buf_append(&b, anchor, n_anchor);
        key = b.failed ? NULL : mlxr_arena_strndup(&s->arena, b.data, b.len);
        mlxr_buf_clear(&b);
        if (!key) return mlxr_sc_nomem(s);
    }
    if (!mlxr_strtab_put(&s->resources, key, strlen(key), n->id, &old)) return mlxr_sc_nomem(s);
    if (old != SIZE_MAX && old != n->id)
        return mlxr_sc_fail(s, n, NULL, MLXR_E_FORMAT, "the identifier \"%.200s\" is there twice", key);
    return MLXR_OK;
}

static mlxr_status add_identifiers(mlxr_sc *s, mlxr_sc_node *n)
{
    static const mlxr_sc_keyword anchors[] = {MLXR_KW_ANCHOR, MLXR_KW_DYNAMIC_ANCHOR};
    mlxr_sc_keyword k_id = s->draft == 4 ? MLXR_KW_OLD_ID : MLXR_KW_ID;
    const mlxr_value *id = n->kw[k_id];
    bool root = !n->parent;
    mlxr_status st;

    if (id && (s->draft == 0 || s->draft > 7 || !n->kw[MLXR_KW_REF])) {
        const char *hash;
        size_t len;
        if (id->type != MLXR_VALUE_STRING)
            return mlxr_sc_fail(s, n, keyword_names[k_id], MLXR_E_FORMAT, "wanted a string");
        hash = memchr(id->text, '#', id->n_text);
        len = hash ? (size_t)(hash - id->text) : id->n_text;
        if (len) {
            if (!(n->base = resolve(s, n->base, id->text, len))) return mlxr_sc_nomem(s);
            if ((st = add_resource(s, n, n->base, NULL, 0)) != MLXR_OK) return st;
        }
        /* Up to draft 7 an anchor is written as an $id that is a fragment. */
        if (hash && hash[1] && mlxr_sc_may_be_old(s, 7) &&
            (st = add_resource(s, n, n->base, hash + 1, id->n_text - len - 1)) != MLXR_OK)
            return st;
    }
    if (root && mlxr_strtab_get(&s->resources, n->base, strlen(n->base)) == SIZE_MAX &&
        (st = add_resource(s, n, n->base, NULL, 0)) != MLXR_OK)
        return st;
    for (size_t i = 0; i < MLXR_COUNT(anchors); i++) {
        const mlxr_value *a = n->kw[anchors[i]];
        if (!a) continue;
        if (a->type != MLXR_VALUE_STRING || a->n_text == 0)
            return mlxr_sc_fail(s, n, keyword_names[anchors[i]], MLXR_E_FORMAT, "wanted a name");
        if ((st = add_resource(s, n, n->base, a->text, a->n_text)) != MLXR_OK) return st;
        if (anchors[i] == MLXR_KW_DYNAMIC_ANCHOR) {
            size_t count = mlxr_strtab_get(&s->dynamic_names, a->text, a->n_text);
            if (!mlxr_strtab_put(&s->dynamic_names, a->text, a->n_text, count == SIZE_MAX ? 1 : count + 1,
                                 NULL))
                return mlxr_sc_nomem(s);
        }
    }
    if (n->kw[MLXR_KW_RECURSIVE_ANCHOR] && n->kw[MLXR_KW_RECURSIVE_ANCHOR]->type == MLXR_VALUE_TRUE)
        s->recursive_anchor = true;
    return MLXR_OK;
}

static void read_keywords(const mlxr_sc *s, mlxr_sc_node *n)
{
    const mlxr_value *v = n->key.v;

    for (size_t i = 0; i < v->n; i++) {
        mlxr_sc_keyword k = keyword_of(v->names[i].text, v->names[i].n_text);
        if (k == MLXR_KW_COUNT || (k == MLXR_KW_OLD_ID && s->draft != 4)) continue;
        n->kw[k] = v->items[i];
    }
    /* Up to draft 7 nothing beside $ref counts. */
    if (n->kw[MLXR_KW_REF] && s->draft && s->draft <= 7) {
        const mlxr_value *ref = n->kw[MLXR_KW_REF];
        memset((void *)n->kw, 0, sizeof n->kw);
        n->kw[MLXR_KW_REF] = ref;
    }
    for (int k = 0; k < MLXR_KW_COUNT; k++) {
        switch (k) {
        case MLXR_KW_ANCHOR:
        case MLXR_KW_DYNAMIC_ANCHOR:
        case MLXR_KW_ID:
        case MLXR_KW_OLD_ID:
        case MLXR_KW_RECURSIVE_ANCHOR: break;
        default: n->n_kw += n->kw[k] != NULL;
        }
    }
}

static char *suffix_of(mlxr_sc *s, const char *keyword, const char *part, size_t n_part)
{
    mlxr_buf b = {0};
    char *text;

    mlxr_buf_char(&b, '/');
    mlxr_buf_str(&b, keyword);
    if (part) mlxr_buf_char(&b, '/');
    for (size_t i = 0; part && i < n_part; i++) {
        if (part[i] == '~')
            mlxr_buf_str(&b, "~0");
        else if (part[i] == '/')
            mlxr_buf_str(&b, "~1");
        else if ((unsigned char)part[i] < ' ')
            mlxr_buf_char(&b, '?');
        else
            mlxr_buf_char(&b, part[i]);
    }
    text = b.failed ? NULL : mlxr_arena_strndup(&s->arena, b.data, b.len);
    mlxr_buf_clear(&b);
    return text;
}

static mlxr_status walk_below(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, const char *part,
                              size_t n_part, const mlxr_value *v)
{
    const mlxr_sc_node *child;
    const char *suffix;

    if (v->type != MLXR_VALUE_OBJECT && v->type != MLXR_VALUE_TRUE && v->type != MLXR_VALUE_FALSE)
        return MLXR_OK; /* a mistake that matters only where it is used */
    if (!(suffix = suffix_of(s, keyword, part, n_part))) return mlxr_sc_nomem(s);
    return mlxr_sc_node_at(&child, s, v, n, suffix);
}

static mlxr_status walk_list(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, const mlxr_value *v)
{
    mlxr_status st;

    for (size_t i = 0; i < v->n; i++) {
        char number[24];
        int len = snprintf(number, sizeof number, "%zu", i);
        if ((st = walk_below(s, n, keyword, number, (size_t)len, v->items[i])) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status walk_map(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, const mlxr_value *v)
{
    mlxr_status st;

    for (size_t i = 0; i < v->n; i++) {
        st = walk_below(s, n, keyword, v->names[i].text, v->names[i].n_text, v->items[i]);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status walk_children(mlxr_sc *s, const mlxr_sc_node *n)
{
    static const char *const maps[] = {"properties",   "patternProperties", "dependentSchemas",
                                       "dependencies", "definitions",       "$defs"};
    static const char *const one_or_list[] = {"additionalProperties",
                                              "unevaluatedProperties",
                                              "unevaluatedItems",
                                              "additionalItems",
                                              "items",
                                              "contains",
                                              "propertyNames",
                                              "not",
                                              "if",
                                              "then",
                                              "else",
                                              "allOf",
                                              "anyOf",
                                              "oneOf",
                                              "prefixItems"};
    const mlxr_value *v = n->key.v;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < MLXR_COUNT(maps) && st == MLXR_OK; i++) {
        const mlxr_value *m = mlxr_value_get(v, maps[i]);
        if (m && m->type == MLXR_VALUE_OBJECT) st = walk_map(s, n, maps[i], m);
    }
    for (size_t i = 0; i < MLXR_COUNT(one_or_list) && st == MLXR_OK; i++) {
        const mlxr_value *m = mlxr_value_get(v, one_or_list[i]);
        if (!m) continue;
        st = m->type == MLXR_VALUE_ARRAY ? walk_list(s, n, one_or_list[i], m)
                                         : walk_below(s, n, one_or_list[i], NULL, 0, m);
    }
    return st;
}

mlxr_status mlxr_sc_node_at(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_value *v,
                            const mlxr_sc_node *parent, const char *suffix)
{
    mlxr_sc_node *n;
    mlxr_status st;

    if ((*out = find_node(s, v, false))) return MLXR_OK;
    if ((st = make_node(&n, s, v, false, parent, suffix)) != MLXR_OK) return st;
    *out = n;
    if (v->type != MLXR_VALUE_OBJECT) return MLXR_OK;
    read_keywords(s, n);
    if ((st = add_identifiers(s, n)) != MLXR_OK) return st;
    return walk_children(s, n);
}

mlxr_status mlxr_sc_child(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *parent, mlxr_sc_keyword k,
                          const char *part, size_t n_part, const mlxr_value *v)
{
    const char *suffix;

    if ((*out = find_node(s, v, false))) return MLXR_OK;
    if (!(suffix = suffix_of(s, keyword_names[k], part, n_part))) return mlxr_sc_nomem(s);
    return mlxr_sc_node_at(out, s, v, parent, suffix);
}

mlxr_status mlxr_sc_child_index(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *parent,
                                mlxr_sc_keyword k, size_t i, const mlxr_value *v)
{
    char number[24];
    int len = snprintf(number, sizeof number, "%zu", i);

    return mlxr_sc_child(out, s, parent, k, number, (size_t)len, v);
}

mlxr_status mlxr_sc_value_node(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_value *v,
                               const mlxr_sc_node *parent)
{
    mlxr_sc_node *n;
    mlxr_status st;

    if ((*out = find_node(s, v, true))) return MLXR_OK;
    if ((st = make_node(&n, s, v, true, parent, "")) != MLXR_OK) return st;
    *out = n;
    return MLXR_OK;
}

static mlxr_status read_draft(mlxr_sc *s, const mlxr_value *root)
{
    static const struct {
        const char *part;
        int draft;
    } drafts[] = {{"draft-03", 3}, {"draft-04", 4},   {"draft-06", 6},
                  {"draft-07", 7}, {"2019-09", 2019}, {"2020-12", 2020}};
    const mlxr_value *v = mlxr_value_get(root, "$schema");

    if (!v) return MLXR_OK;
    if (v->type != MLXR_VALUE_STRING)
        return mlxr_fail(s->err, MLXR_E_FORMAT, "%s#/$schema: wanted a string", s->name);
    if (!strstr(v->text, "json-schema.org/")) return MLXR_OK;
    for (size_t i = 0; i < MLXR_COUNT(drafts); i++)
        if (strstr(v->text, drafts[i].part)) s->draft = drafts[i].draft;
    if (s->draft == 3)
        return mlxr_fail(s->err, MLXR_E_UNSUPPORTED, "%s#/$schema: draft 3 is not supported", s->name);
    return MLXR_OK;
}

mlxr_status mlxr_sc_read(mlxr_sc *s, const mlxr_value *root, const mlxr_sc_node **out)
{
    mlxr_status st = read_draft(s, root);

    return st == MLXR_OK ? mlxr_sc_node_at(out, s, root, NULL, "") : st;
}

/* ---- references ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void percent_decode(mlxr_buf *out, const char *p, size_t n)
{
    mlxr_buf_append(out, "", 0);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '%' && i + 2 < n && hex(p[i + 1]) >= 0 && hex(p[i + 2]) >= 0) {
            mlxr_buf_char(out, (char)(hex(p[i + 1]) * 16 + hex(p[i + 2])));
            i += 2;
        } else {
            mlxr_buf_char(out, p[i]);
        }
    }
}

/* Follows a pointer from a node; the nodes on the way give the base and the path. */
static mlxr_status follow(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *from, const char *p,
                          size_t n)
{
    const mlxr_value *v = from->key.v;
    const mlxr_sc_node *near = from;
    mlxr_buf part = {0}, suffix = {0};
    mlxr_status st = MLXR_OK;

    *out = NULL;
    for (size_t i = 0; i < n && v;) { /* p[i] is '/' */
        size_t end = ++i;
        while (end < n && p[end] != '/') end++;
        part.len = 0;
        mlxr_buf_append(&part, "", 0);
        for (; i < end; i++) {
            if (p[i] == '~' && i + 1 < end && (p[i + 1] == '0' || p[i + 1] == '1'))
                mlxr_buf_char(&part, p[++i] == '0' ? '~' : '/');
            else
                mlxr_buf_char(&part, p[i]);
        }
        if (part.failed) break;
        if (v->type == MLXR_VALUE_OBJECT) {
            v = mlxr_value_get_n(v, part.data ? part.data : "", part.len);
        } else if (v->type == MLXR_VALUE_ARRAY && part.len && part.len < 8 &&
                   (part.len == 1 || part.data[0] != '0')) {
            size_t k = 0;
            for (size_t j = 0; j < part.len && k != SIZE_MAX; j++)
                k = part.data[j] >= '0' && part.data[j] <= '9' ? k * 10 + (size_t)(part.data[j] - '0')
                                                               : SIZE_MAX;
            v = k < v->n ? v->items[k] : NULL;
        } else {
            v = NULL;
        }
        if (v) {
            const mlxr_sc_node *known = find_node(s, v, false);
            char *escaped = suffix_of(s, part.data ? part.data : "", NULL, 0);
            if (!escaped) {
                st = mlxr_sc_nomem(s);
                goto done;
            }
            mlxr_buf_str(&suffix, escaped);
            if (known) {
                near = known;
                suffix.len = 0;
            }
        }
    }
    if (part.failed || suffix.failed) {
        st = mlxr_sc_nomem(s);
    } else if (v) {
        char *text = mlxr_arena_strndup(&s->arena, suffix.data ? suffix.data : "", suffix.len);
        st = text ? mlxr_sc_node_at(out, s, v, near, text) : mlxr_sc_nomem(s);
    }
done:
    mlxr_buf_clear(&part);
    mlxr_buf_clear(&suffix);
    return st;
}

mlxr_status mlxr_sc_target(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k)
{
    const mlxr_value *ref = n->kw[k];
    const char *name = keyword_names[k], *hash, *uri;
    size_t len, at;
    mlxr_buf fragment = {0};
    mlxr_status st;

    *out = NULL;
    if (ref->type != MLXR_VALUE_STRING) return mlxr_sc_fail(s, n, name, MLXR_E_FORMAT, "wanted a string");
    if (k == MLXR_KW_RECURSIVE_REF && (s->recursive_anchor && s->resources.n > 1))
        return mlxr_sc_fail(s, n, name, MLXR_E_UNSUPPORTED, "depends on where it is used from");
    hash = memchr(ref->text, '#', ref->n_text);
    len = hash ? (size_t)(hash - ref->text) : ref->n_text;
    if (!(uri = resolve(s, n->base, ref->text, len))) return mlxr_sc_nomem(s);
    if ((at = mlxr_strtab_get(&s->resources, uri, strlen(uri))) == SIZE_MAX)
        return mlxr_sc_fail(s, n, name, MLXR_E_UNSUPPORTED,
                            "\"%.200s\" is another document; only what is in this one can be used", uri);
    if (!hash || !hash[1]) {
        *out = s->nodes[at];
        return MLXR_OK;
    }
    percent_decode(&fragment, hash + 1, ref->n_text - len - 1);
    if (fragment.failed) {
        st = mlxr_sc_nomem(s);
    } else if (fragment.data[0] == '/') {
        st = follow(out, s, s->nodes[at], fragment.data, fragment.len);
    } else {
        mlxr_buf key = {0};
        mlxr_buf_str(&key, uri);
        mlxr_buf_char(&key, '#');
        mlxr_buf_append(&key, fragment.data, fragment.len);
        st = key.failed ? mlxr_sc_nomem(s) : MLXR_OK;
        at = key.failed ? SIZE_MAX : mlxr_strtab_get(&s->resources, key.data, key.len);
        if (at != SIZE_MAX) *out = s->nodes[at];
        mlxr_buf_clear(&key);
    }
    mlxr_buf_clear(&fragment);
    if (st != MLXR_OK) return st;
    if (!*out)
        return mlxr_sc_fail(s, n, name, MLXR_E_FORMAT, "\"%.200s\" leads to nothing in this document",
                            ref->text);
    if (k == MLXR_KW_DYNAMIC_REF && (*out)->kw[MLXR_KW_DYNAMIC_ANCHOR]) {
        const mlxr_value *a = (*out)->kw[MLXR_KW_DYNAMIC_ANCHOR];
        if (mlxr_strtab_get(&s->dynamic_names, a->text, a->n_text) > 1)
            return mlxr_sc_fail(
                s, n, name, MLXR_E_UNSUPPORTED,
                "several schemas have this $dynamicAnchor: which one is meant depends on where "
                "it is used from");
    }
    return MLXR_OK;
}

/* ---- formulas ---- */

static mlxr_status intern(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_lit *lits, size_t n)
{
    size_t i;
    mlxr_sc_lit *copy;

    if (n == 0) {
        *out = MLXR_SC_TRUE;
        return MLXR_OK;
    }
    i = mlxr_strtab_get(&s->formula_of, (const char *)lits, n * sizeof *lits);
    if (i != SIZE_MAX) {
        *out = (mlxr_sc_formula)i;
        return MLXR_OK;
    }
    if (s->n_formulas + 2 >= s->cap_formulas) {
        size_t cap = s->cap_formulas ? s->cap_formulas * 2 : 64;
        mlxr_sc_formula_entry *more = mlxr_realloc_array(s->formulas, cap, sizeof *more);
        if (!more) return mlxr_sc_nomem(s);
        s->formulas = more;
        s->cap_formulas = cap;
        if (s->n_formulas == 0) {
            memset(s->formulas, 0, 2 * sizeof *s->formulas);
            s->n_formulas = 2;
        }
    }
    if (!(copy = mlxr_arena_calloc(&s->arena, n, sizeof *copy))) return mlxr_sc_nomem(s);
    memcpy(copy, lits, n * sizeof *lits);
    i = s->n_formulas;
    if (!mlxr_strtab_put(&s->formula_of, (const char *)copy, n * sizeof *copy, i, NULL))
        return mlxr_sc_nomem(s);
    s->formulas[s->n_formulas++] = (mlxr_sc_formula_entry){.lits = copy, .n = n};
    *out = (mlxr_sc_formula)i;
    return MLXR_OK;
}

/* The only schema in a list of one. */
static const mlxr_value *only(const mlxr_value *v)
{
    return v && v->type == MLXR_VALUE_ARRAY && v->n == 1 ? v->items[0] : NULL;
}

mlxr_status mlxr_sc_formula_of(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_node *n, bool negated)
{
    static const mlxr_sc_keyword lists[] = {MLXR_KW_ALL_OF, MLXR_KW_ANY_OF, MLXR_KW_ONE_OF};
    mlxr_status st;

    for (size_t i = 0; i < 1000; i++) {
        const mlxr_value *v = n->key.v, *inner;
        const mlxr_sc_node *next = NULL;
        if (!n->key.is_value && v->type != MLXR_VALUE_OBJECT) {
            if (v->type != MLXR_VALUE_TRUE && v->type != MLXR_VALUE_FALSE)
                return mlxr_sc_fail(s, n, NULL, MLXR_E_FORMAT, "a schema is an object, true or false");
            *out = (v->type == MLXR_VALUE_TRUE) == negated ? MLXR_SC_FALSE : MLXR_SC_TRUE;
            return MLXR_OK;
        }
        if (!n->key.is_value && n->n_kw == 0) {
            *out = negated ? MLXR_SC_FALSE : MLXR_SC_TRUE;
            return MLXR_OK;
        }
        if (!n->key.is_value && n->n_kw == 1) {
            if (n->kw[MLXR_KW_REF]) {
                if ((st = mlxr_sc_target(&next, s, n, MLXR_KW_REF)) != MLXR_OK) return st;
            } else if ((inner = n->kw[MLXR_KW_NOT])) {
                if ((st = mlxr_sc_child(&next, s, n, MLXR_KW_NOT, NULL, 0, inner)) != MLXR_OK) return st;
                negated = !negated;
            }
            for (size_t k = 0; k < MLXR_COUNT(lists) && !next; k++)
                if ((inner = only(n->kw[lists[k]])) &&
                    (st = mlxr_sc_child_index(&next, s, n, lists[k], 0, inner)) != MLXR_OK)
                    return st;
        }
        if (!next) {
            mlxr_sc_lit lit = n->id * 2 + negated;
            return intern(out, s, &lit, 1);
        }
        n = next;
    }
    return mlxr_sc_fail(s, n, NULL, MLXR_E_FORMAT, "refers to itself without an end");
}

mlxr_status mlxr_sc_both(mlxr_sc_formula *out, mlxr_sc *s, mlxr_sc_formula a, mlxr_sc_formula b)
{
    const mlxr_sc_formula_entry *ea, *eb;
    mlxr_sc_lit *lits;
    size_t n;
    mlxr_status st;

    if (a == MLXR_SC_FALSE || b == MLXR_SC_FALSE) {
        *out = MLXR_SC_FALSE;
        return MLXR_OK;
    }
    if (a == b || b == MLXR_SC_TRUE || a == MLXR_SC_TRUE) {
        *out = a == MLXR_SC_TRUE ? b : a;
        return MLXR_OK;
    }
    ea = &s->formulas[a];
    eb = &s->formulas[b];
    if ((st = mlxr_sc_step(s, ea->n * eb->n)) != MLXR_OK) return st;
    if (!(lits = mlxr_malloc_array(ea->n + eb->n, sizeof *lits))) return mlxr_sc_nomem(s);
    memcpy(lits, ea->lits, ea->n * sizeof *lits);
    n = ea->n;
    for (size_t i = 0; i < eb->n; i++) {
        bool known = false;
        for (size_t j = 0; j < ea->n && !known; j++) {
            if (ea->lits[j] == (eb->lits[i] ^ 1)) {
                *out = MLXR_SC_FALSE;
                goto done;
            }
            known = ea->lits[j] == eb->lits[i];
        }
        if (!known) lits[n++] = eb->lits[i];
    }
    st = intern(out, s, lits, n);
done:
    free(lits);
    return st;
}
