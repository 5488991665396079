/* schema_norm: what a schema says, and what it forbids, as a union of cases.
 *
 * Each keyword is a union of cases, and so is its opposite; a schema is what is in all of its keywords' unions, and its opposite the
 * union of their opposites. Only what applies to the instance itself is put together here: members and items stay formulas.
 *
 * unevaluatedProperties and unevaluatedItems look at what else has been evaluated: inside such a schema cases are "tracked" and carry
 * that, and a union holds every combination of its branches (what matches two evaluates the sum). */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

enum { PROBE_DEPTH = 2, MOST_TRACKED = 6 };
#define COUNT_MAX ((size_t)1 << 40) /* no instance has more of anything */

/* ---- reading keywords ---- */

static mlxr_status wrong(mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k, const char *wanted)
{
    return mlxr_sc_fail(s, n, mlxr_sc_keyword_name(k), MLXR_E_FORMAT, "wanted %s", wanted);
}

/* A whole number from 0; *has false when the keyword is not there. */
static mlxr_status read_count(size_t *out, bool *has, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k)
{
    const mlxr_value *v = n->kw[k];
    size_t len;

    *has = v != NULL;
    if (!v) return MLXR_OK;
    if (v->type != MLXR_VALUE_NUMBER || (v->plain && (v->plain[0] == '-' || strchr(v->plain, '.'))) ||
        (!v->plain && v->text[0] == '-'))
        return wrong(s, n, k, "a whole number from 0");
    len = v->plain ? strlen(v->plain) : 100;
    *out = len > 12 ? COUNT_MAX : (size_t)strtoull(v->plain, NULL, 10);
    if (*out > COUNT_MAX) *out = COUNT_MAX;
    return MLXR_OK;
}

static mlxr_status read_bounds(size_t *min, size_t *max, bool *has, mlxr_sc *s, const mlxr_sc_node *n,
                               mlxr_sc_keyword k_min, mlxr_sc_keyword k_max)
{
    bool has_min, has_max;
    mlxr_status st;

    *min = 0;
    *max = SIZE_MAX;
    if ((st = read_count(min, &has_min, s, n, k_min)) != MLXR_OK ||
        (st = read_count(max, &has_max, s, n, k_max)) != MLXR_OK)
        return st;
    *has = has_min || has_max;
    return MLXR_OK;
}

static mlxr_status read_plain(const char **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k)
{
    const mlxr_value *v = n->kw[k];

    *out = NULL;
    if (!v) return MLXR_OK;
    if (v->type != MLXR_VALUE_NUMBER) return wrong(s, n, k, "a number");
    if (!v->plain)
        return mlxr_sc_fail(s, n, mlxr_sc_keyword_name(k), MLXR_E_LIMIT, "a number of more than %d digits",
                            MLXR_VALUE_MAX_DIGITS);
    *out = v->plain;
    return MLXR_OK;
}

static mlxr_status want_list(mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k, bool may_be_empty)
{
    const mlxr_value *v = n->kw[k];

    if (v && (v->type != MLXR_VALUE_ARRAY || (v->n == 0 && !may_be_empty)))
        return wrong(s, n, k, may_be_empty ? "a list" : "a list of schemas");
    return MLXR_OK;
}

static mlxr_status want_map(mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k)
{
    const mlxr_value *v = n->kw[k];

    return v && v->type != MLXR_VALUE_OBJECT ? wrong(s, n, k, "an object") : MLXR_OK;
}

static mlxr_status want_names(mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k, const mlxr_value *v)
{
    if (v->type != MLXR_VALUE_ARRAY) return wrong(s, n, k, "a list of names");
    for (size_t i = 0; i < v->n; i++)
        if (v->items[i]->type != MLXR_VALUE_STRING) return wrong(s, n, k, "a list of names");
    return MLXR_OK;
}

static mlxr_status child_formula(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k,
                                 const char *part, size_t n_part, const mlxr_value *v, bool negated)
{
    const mlxr_sc_node *child;
    mlxr_status st = mlxr_sc_child(&child, s, n, k, part, n_part, v);

    return st == MLXR_OK ? mlxr_sc_formula_of(out, s, child, negated) : st;
}

static mlxr_status index_formula(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k,
                                 size_t i, const mlxr_value *v, bool negated)
{
    const mlxr_sc_node *child;
    mlxr_status st = mlxr_sc_child_index(&child, s, n, k, i, v);

    return st == MLXR_OK ? mlxr_sc_formula_of(out, s, child, negated) : st;
}

/* ---- type ---- */

enum { ALL_TYPES = 0x7f, INTEGER = 0x80 }; /* bits of mlxr_value_type; INTEGER beside the one of numbers */

static unsigned type_bits(const mlxr_value *v)
{
    static const struct {
        const char *name;
        unsigned bits;
    } types[] = {
        {"null", 1u << MLXR_VALUE_NULL},     {"boolean", 1u << MLXR_VALUE_FALSE | 1u << MLXR_VALUE_TRUE},
        {"number", 1u << MLXR_VALUE_NUMBER}, {"integer", 1u << MLXR_VALUE_NUMBER | INTEGER},
        {"string", 1u << MLXR_VALUE_STRING}, {"array", 1u << MLXR_VALUE_ARRAY},
        {"object", 1u << MLXR_VALUE_OBJECT}};

    if (v->type != MLXR_VALUE_STRING) return 0;
    for (size_t i = 0; i < MLXR_COUNT(types); i++)
        if (strcmp(v->text, types[i].name) == 0) return types[i].bits;
    return 0;
}

static mlxr_status read_types(unsigned *out, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *v = n->kw[MLXR_KW_TYPE], *nullable = n->kw[MLXR_KW_NULLABLE];
    bool number = false;
    unsigned bits;

    *out = ALL_TYPES;
    if (!v) return MLXR_OK;
    *out = 0;
    if (v->type == MLXR_VALUE_STRING) {
        if (!(*out = type_bits(v))) return wrong(s, n, MLXR_KW_TYPE, "the name of a type");
    } else if (v->type == MLXR_VALUE_ARRAY && v->n) {
        for (size_t i = 0; i < v->n; i++) {
            if (!(bits = type_bits(v->items[i]))) return wrong(s, n, MLXR_KW_TYPE, "names of types");
            number = number || bits == 1u << MLXR_VALUE_NUMBER;
            *out |= bits;
        }
        if (number) *out &= ALL_TYPES;
    } else {
        return wrong(s, n, MLXR_KW_TYPE, "the name of a type, or a list of them");
    }
    /* OpenAPI 3.0 */
    if (nullable && nullable->type == MLXR_VALUE_TRUE) *out |= 1u << MLXR_VALUE_NULL;
    return MLXR_OK;
}

/* ---- numbers ---- */

static mlxr_status one_plain(mlxr_sc_plains *out, mlxr_sc *s, const char *text)
{
    const char **t = mlxr_arena_calloc(&s->arena, 1, sizeof *t);

    if (!t) return mlxr_sc_nomem(s);
    t[0] = text;
    *out = (mlxr_sc_plains){t, 1, false};
    return MLXR_OK;
}

/* One side's bound: {min, exclusive}, the tighter of the keywords. sign: 1 for minimum, -1 for maximum. */
static mlxr_status read_bound(const char **out, bool *exclusive, mlxr_sc *s, const mlxr_sc_node *n,
                              mlxr_sc_keyword k, mlxr_sc_keyword k_exclusive, int sign)
{
    const mlxr_value *v = n->kw[k_exclusive];
    const char *strict = NULL;
    mlxr_status st;

    *exclusive = false;
    if ((st = read_plain(out, s, n, k)) != MLXR_OK) return st;
    if (v && (v->type == MLXR_VALUE_TRUE || v->type == MLXR_VALUE_FALSE) && mlxr_sc_may_be_old(s, 4)) {
        *exclusive = v->type == MLXR_VALUE_TRUE;
        return MLXR_OK;
    }
    if ((st = read_plain(&strict, s, n, k_exclusive)) != MLXR_OK) return st;
    if (strict && (!*out || sign * mlxr_number_compare(strict, *out) >= 0)) {
        *out = strict;
        *exclusive = true;
    }
    return MLXR_OK;
}

/* Formats of OpenAPI that bound numbers. */
static bool format_bounds(const mlxr_value *format, const char **min, const char **max)
{
    static const struct {
        const char *name, *min, *max;
    } bounds[] = {{"int8", "-128", "127"},
                  {"int16", "-32768", "32767"},
                  {"int32", "-2147483648", "2147483647"},
                  {"int64", "-9223372036854775808", "9223372036854775807"},
                  {"uint8", "0", "255"},
                  {"uint16", "0", "65535"},
                  {"uint32", "0", "4294967295"},
                  {"uint64", "0", "18446744073709551615"}};

    for (size_t i = 0; format && format->type == MLXR_VALUE_STRING && i < MLXR_COUNT(bounds); i++) {
        if (strcmp(format->text, bounds[i].name) == 0) {
            *min = bounds[i].min;
            *max = bounds[i].max;
            return true;
        }
    }
    return false;
}

static mlxr_status read_number(mlxr_sc_number *out, bool *free, mlxr_sc *s, const mlxr_sc_node *n)
{
    const char *multiple, *min = NULL, *max = NULL;
    mlxr_status st;

    *out = (mlxr_sc_number){0};
    if ((st = read_bound(&out->min, &out->min_exclusive, s, n, MLXR_KW_MINIMUM, MLXR_KW_EXCLUSIVE_MINIMUM,
                         1)) != MLXR_OK ||
        (st = read_bound(&out->max, &out->max_exclusive, s, n, MLXR_KW_MAXIMUM, MLXR_KW_EXCLUSIVE_MAXIMUM,
                         -1)) != MLXR_OK ||
        (st = read_plain(&multiple, s, n, MLXR_KW_MULTIPLE_OF)) != MLXR_OK)
        return st;
    if (multiple) {
        if (mlxr_number_compare(multiple, "0") <= 0)
            return wrong(s, n, MLXR_KW_MULTIPLE_OF, "a number above 0");
        if ((st = one_plain(&out->multiple_of, s, multiple)) != MLXR_OK) return st;
    }
    if (format_bounds(n->kw[MLXR_KW_FORMAT], &min, &max)) {
        out->integer = true;
        if (!out->min || mlxr_number_compare(out->min, min) < 0) {
            out->min = min;
            out->min_exclusive = false;
        }
        if (!out->max || mlxr_number_compare(out->max, max) > 0) {
            out->max = max;
            out->max_exclusive = false;
        }
    }
    *free = !out->min && !out->max && !multiple && !out->integer;
    return MLXR_OK;
}

static mlxr_status number_case(const mlxr_sc_case **out, mlxr_sc *s, const mlxr_sc_node *n, bool integer)
{
    mlxr_sc_number number;
    mlxr_sc_case *c;
    bool free;
    mlxr_status st = read_number(&number, &free, s, n);

    if (st != MLXR_OK) return st;
    *out = s->any->cases[MLXR_VALUE_NUMBER];
    if (free && !integer) return MLXR_OK;
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
    c->number = number;
    c->number.integer = number.integer || integer;
    *out = c;
    return MLXR_OK;
}

static mlxr_status not_number(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    mlxr_sc_number number;
    mlxr_sc_case *c;
    bool free;
    mlxr_status st = read_number(&number, &free, s, n);

    if (st == MLXR_OK && number.min) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
        c->number.max = number.min;
        c->number.max_exclusive = !number.min_exclusive;
        st = mlxr_sc_add(s, l, c);
    }
    if (st == MLXR_OK && number.max) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
        c->number.min = number.max;
        c->number.min_exclusive = !number.max_exclusive;
        st = mlxr_sc_add(s, l, c);
    }
    if (st == MLXR_OK && number.multiple_of.n) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
        c->number.not_multiple_of = number.multiple_of;
        st = mlxr_sc_add(s, l, c);
    }
    if (st == MLXR_OK && number.integer) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
        c->number.fraction = true;
        st = mlxr_sc_add(s, l, c);
    }
    return st;
}

/* ---- strings ---- */

/* pattern and format as one language; NULL: neither is there. */
static mlxr_status read_language(mlxr_dfa **pattern, mlxr_dfa **format, mlxr_sc *s, const mlxr_sc_node *n)
{
    /* Names that say how a string is used, or that are for numbers: no string is ruled out. */
    static const char *const loose[] = {"binary", "password", "float", "double", "decimal", "int8",  "int16",
                                        "int32",  "int64",    "uint8", "uint16", "uint32",  "uint64"};
    const mlxr_value *p = n->kw[MLXR_KW_PATTERN], *f = n->kw[MLXR_KW_FORMAT];
    mlxr_status st;

    *pattern = *format = NULL;
    if (p) {
        if (p->type != MLXR_VALUE_STRING) return wrong(s, n, MLXR_KW_PATTERN, "a regular expression");
        st = mlxr_sc_pattern(pattern, s, p->text, p->n_text);
        if (st != MLXR_OK) return mlxr_sc_at(s, n, "pattern", st);
    }
    if (!f) return MLXR_OK;
    if (f->type != MLXR_VALUE_STRING) return wrong(s, n, MLXR_KW_FORMAT, "a name");
    for (size_t i = 0; i < MLXR_COUNT(loose); i++)
        if (strcmp(loose[i], f->text) == 0) return MLXR_OK;
    return mlxr_sc_at(s, n, "format", mlxr_sc_format(format, s, f->text));
}

static mlxr_status string_case(const mlxr_sc_case **out, mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_dfa *pattern, *format, *both;
    size_t min, max;
    mlxr_sc_case *c;
    bool has;
    mlxr_status st = read_bounds(&min, &max, &has, s, n, MLXR_KW_MIN_LENGTH, MLXR_KW_MAX_LENGTH);

    if (st != MLXR_OK || (st = read_language(&pattern, &format, s, n)) != MLXR_OK) return st;
    *out = s->any->cases[MLXR_VALUE_STRING];
    if (!has && !pattern && !format) return MLXR_OK;
    both = pattern ? pattern : format;
    if (pattern && format && (st = mlxr_sc_op(&both, s, mlxr_dfa_intersect, pattern, format)) != MLXR_OK)
        return st;
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_STRING, n)) != MLXR_OK) return st;
    c->string = (mlxr_sc_string){.min = min, .max = max, .dfa = both};
    *out = c;
    return MLXR_OK;
}

static mlxr_status not_string(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    mlxr_dfa *languages[2], *any;
    size_t min, max;
    mlxr_sc_case *c;
    bool has;
    mlxr_status st = read_bounds(&min, &max, &has, s, n, MLXR_KW_MIN_LENGTH, MLXR_KW_MAX_LENGTH);

    if (st != MLXR_OK || (st = read_language(&languages[0], &languages[1], s, n)) != MLXR_OK) return st;
    if (min) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_STRING, n)) != MLXR_OK) return st;
        c->string.max = min - 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    if (max != SIZE_MAX) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_STRING, n)) != MLXR_OK) return st;
        c->string.min = max + 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    for (size_t i = 0; i < 2; i++) {
        if (!languages[i]) continue;
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_STRING, n)) != MLXR_OK ||
            (st = mlxr_sc_any_text(&any, s)) != MLXR_OK ||
            (st = mlxr_sc_op(&c->string.dfa, s, mlxr_dfa_minus, any, languages[i])) != MLXR_OK)
            return st;
        if (!mlxr_dfa_is_empty(c->string.dfa) && (st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* ---- arrays ---- */

/* The list of first items, and the keyword of the rest; `items` was both before 2020-12. */
static mlxr_status item_keywords(mlxr_sc_keyword *prefix, mlxr_sc_keyword *rest, mlxr_sc *s,
                                 const mlxr_sc_node *n)
{
    const mlxr_value *items = n->kw[MLXR_KW_ITEMS];

    *prefix = MLXR_KW_PREFIX_ITEMS;
    *rest = MLXR_KW_ITEMS;
    if (items && items->type == MLXR_VALUE_ARRAY) {
        if (!mlxr_sc_may_be_old(s, 2019) || n->kw[MLXR_KW_PREFIX_ITEMS])
            return wrong(s, n, MLXR_KW_ITEMS, "a schema (a list of them is prefixItems)");
        *prefix = MLXR_KW_ITEMS;
        *rest = MLXR_KW_ADDITIONAL_ITEMS;
    }
    return want_list(s, n, *prefix, true);
}

static mlxr_status read_contains(mlxr_sc_contains *out, bool *has, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *v = n->kw[MLXR_KW_CONTAINS];
    bool has_min, has_max;
    mlxr_status st;

    *out = (mlxr_sc_contains){.min = 1, .max = SIZE_MAX};
    *has = v != NULL;
    if ((st = read_count(&out->min, &has_min, s, n, MLXR_KW_MIN_CONTAINS)) != MLXR_OK ||
        (st = read_count(&out->max, &has_max, s, n, MLXR_KW_MAX_CONTAINS)) != MLXR_OK || !v)
        return st;
    if ((st = child_formula(&out->yes, s, n, MLXR_KW_CONTAINS, NULL, 0, v, false)) != MLXR_OK) return st;
    return child_formula(&out->no, s, n, MLXR_KW_CONTAINS, NULL, 0, v, true);
}

static mlxr_status is_unique(bool *out, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *v = n->kw[MLXR_KW_UNIQUE_ITEMS];

    *out = v && v->type == MLXR_VALUE_TRUE;
    return v && !*out && v->type != MLXR_VALUE_FALSE ? wrong(s, n, MLXR_KW_UNIQUE_ITEMS, "true or false")
                                                     : MLXR_OK;
}

static mlxr_status array_case(const mlxr_sc_case **out, bool *empty, mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_sc_keyword k_prefix, k_rest;
    const mlxr_value *list, *rest;
    mlxr_sc_formula *prefix;
    mlxr_sc_contains contains;
    mlxr_sc_array a = {.max = SIZE_MAX};
    mlxr_sc_case *c;
    bool has, has_contains, unique;
    mlxr_status st;

    *empty = false;
    if ((st = read_bounds(&a.min, &a.max, &has, s, n, MLXR_KW_MIN_ITEMS, MLXR_KW_MAX_ITEMS)) != MLXR_OK ||
        (st = item_keywords(&k_prefix, &k_rest, s, n)) != MLXR_OK ||
        (st = read_contains(&contains, &has_contains, s, n)) != MLXR_OK ||
        (st = is_unique(&unique, s, n)) != MLXR_OK)
        return st;
    list = n->kw[k_prefix];
    rest = n->kw[k_rest];
    *out = s->any->cases[MLXR_VALUE_ARRAY];
    if (!has && !list && !rest && !has_contains && !unique) return MLXR_OK;
    if (list) {
        if (!(prefix = mlxr_arena_calloc(&s->arena, list->n + 1, sizeof *prefix))) return mlxr_sc_nomem(s);
        for (size_t i = 0; i < list->n; i++)
            if ((st = index_formula(&prefix[i], s, n, k_prefix, i, list->items[i], false)) != MLXR_OK)
                return st;
        a.prefix = prefix;
        a.n_prefix = a.n_evaluated = list->n;
    }
    if (rest) {
        if ((st = child_formula(&a.rest, s, n, k_rest, NULL, 0, rest, false)) != MLXR_OK) return st;
        a.n_evaluated = SIZE_MAX;
    }
    if (has_contains) {
        mlxr_sc_contains *one = mlxr_arena_calloc(&s->arena, 1, sizeof *one);
        if (!one) return mlxr_sc_nomem(s);
        *one = contains;
        a.contains = one;
        a.n_contains = 1;
    }
    a.unique = unique ? n : NULL;
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, n)) != MLXR_OK) return st;
    mlxr_sc_tidy_array(&a, empty);
    c->array = a;
    *out = c;
    return MLXR_OK;
}

static mlxr_status add_count(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n, mlxr_sc_formula yes,
                             mlxr_sc_formula no, size_t from, size_t min, size_t max)
{
    mlxr_sc_contains *one = mlxr_arena_calloc(&s->arena, 1, sizeof *one);
    mlxr_sc_case *c;
    bool empty = false;
    mlxr_status st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, n);

    if (st != MLXR_OK) return st;
    if (!one) return mlxr_sc_nomem(s);
    *one = (mlxr_sc_contains){yes, no, from, min, max};
    c->array.contains = one;
    c->array.n_contains = 1;
    mlxr_sc_tidy_array(&c->array, &empty);
    return empty ? MLXR_OK : mlxr_sc_add(s, l, c);
}

static mlxr_status not_array(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    mlxr_sc_keyword k_prefix, k_rest;
    const mlxr_value *list, *rest;
    mlxr_sc_contains contains;
    size_t min, max;
    mlxr_sc_case *c;
    bool has, has_contains, unique;
    mlxr_status st;

    if ((st = read_bounds(&min, &max, &has, s, n, MLXR_KW_MIN_ITEMS, MLXR_KW_MAX_ITEMS)) != MLXR_OK ||
        (st = item_keywords(&k_prefix, &k_rest, s, n)) != MLXR_OK ||
        (st = read_contains(&contains, &has_contains, s, n)) != MLXR_OK ||
        (st = is_unique(&unique, s, n)) != MLXR_OK)
        return st;
    if (unique)
        return mlxr_sc_fail(s, n, "uniqueItems", MLXR_E_UNSUPPORTED,
                            "its opposite (under not, if or oneOf) cannot be enforced");
    if (min) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, n)) != MLXR_OK) return st;
        c->array.max = min - 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    if (max != SIZE_MAX) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, n)) != MLXR_OK) return st;
        c->array.min = max + 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    list = n->kw[k_prefix];
    rest = n->kw[k_rest];
    for (size_t i = 0; list && i < list->n; i++) {
        mlxr_sc_formula *prefix = mlxr_arena_calloc(&s->arena, i + 1, sizeof *prefix);
        if (!prefix) return mlxr_sc_nomem(s);
        if ((st = mlxr_sc_step(s, i)) != MLXR_OK) return st;
        if ((st = index_formula(&prefix[i], s, n, k_prefix, i, list->items[i], true)) != MLXR_OK) return st;
        if (prefix[i] == MLXR_SC_FALSE) continue;
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_ARRAY, n)) != MLXR_OK) return st;
        c->array.prefix = prefix;
        c->array.n_prefix = c->array.min = i + 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    if (rest) {
        mlxr_sc_formula yes, no;
        if ((st = child_formula(&yes, s, n, k_rest, NULL, 0, rest, true)) != MLXR_OK ||
            (st = child_formula(&no, s, n, k_rest, NULL, 0, rest, false)) != MLXR_OK ||
            (st = add_count(s, l, n, yes, no, list ? list->n : 0, 1, SIZE_MAX)) != MLXR_OK)
            return st;
    }
    if (has_contains && contains.min &&
        (st = add_count(s, l, n, contains.yes, contains.no, 0, 0, contains.min - 1)) != MLXR_OK)
        return st;
    if (has_contains && contains.max != SIZE_MAX &&
        (st = add_count(s, l, n, contains.yes, contains.no, 0, contains.max + 1, SIZE_MAX)) != MLXR_OK)
        return st;
    return MLXR_OK;
}

/* ---- objects ---- */

/* What the keywords of an object say, before it is a case or its opposite. */
typedef struct object_keywords {
    mlxr_sc_member *members; /* properties, then what is required besides */
    size_t n_properties, n_members;
    mlxr_dfa **patterns; /* of patternProperties */
    size_t n_patterns;
    mlxr_sc_names others; /* additionalProperties speaks of these */
    mlxr_dfa *bad_names;  /* by propertyNames; NULL: none are */
    size_t min, max;
    bool any; /* there is a keyword for objects */
} object_keywords;

static mlxr_status read_property_names(object_keywords *o, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *v = n->kw[MLXR_KW_PROPERTY_NAMES];
    const mlxr_sc_norm *norm;
    mlxr_sc_formula f;
    mlxr_dfa *good;
    mlxr_status st;

    if (!v) return MLXR_OK;
    if ((st = child_formula(&f, s, n, MLXR_KW_PROPERTY_NAMES, NULL, 0, v, false)) != MLXR_OK) return st;
    if (f == MLXR_SC_TRUE) return MLXR_OK;
    if ((st = mlxr_sc_any_text(&o->bad_names, s)) != MLXR_OK || f == MLXR_SC_FALSE) return st;
    if ((st = mlxr_sc_norm_formula(&norm, s, f)) != MLXR_OK ||
        (st = mlxr_sc_strings_of(&good, s, norm)) != MLXR_OK)
        return st;
    return mlxr_sc_op(&o->bad_names, s, mlxr_dfa_minus, o->bad_names, good);
}

static mlxr_status read_members(object_keywords *o, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *properties = n->kw[MLXR_KW_PROPERTIES], *required = n->kw[MLXR_KW_REQUIRED];
    size_t most = (properties ? properties->n : 0) + (required ? required->n : 0);
    uint32_t name, *at = NULL;
    mlxr_status st;

    if (!(o->members = mlxr_arena_calloc(&s->arena, most + 1, sizeof *o->members))) return mlxr_sc_nomem(s);
    for (size_t i = 0; properties && i < properties->n; i++) {
        const struct mlxr_value_name *p = &properties->names[i];
        mlxr_sc_member *m = &o->members[o->n_members++];
        m->declared = true;
        if ((st = mlxr_sc_name(&m->name, s, p->text, p->n_text)) != MLXR_OK) return st;
        st = child_formula(&m->f, s, n, MLXR_KW_PROPERTIES, p->text, p->n_text, properties->items[i], false);
        if (st != MLXR_OK) return st;
    }
    o->n_properties = o->n_members;
    if (!required) return MLXR_OK;
    for (size_t i = 0; i < required->n; i++)
        if ((st = mlxr_sc_name(&name, s, required->items[i]->text, required->items[i]->n_text)) != MLXR_OK)
            return st;
    if ((st = mlxr_sc_step(s, 1 + s->n_names / 64)) != MLXR_OK) return st;
    if (!(at = mlxr_malloc_array(s->n_names, sizeof *at))) return mlxr_sc_nomem(s);
    memset(at, 0xff, s->n_names * sizeof *at);
    for (size_t i = 0; i < o->n_members; i++) at[o->members[i].name] = (uint32_t)i;
    for (size_t i = 0; i < required->n && st == MLXR_OK; i++) {
        st = mlxr_sc_name(&name, s, required->items[i]->text, required->items[i]->n_text);
        if (st != MLXR_OK) break;
        if (at[name] == UINT32_MAX) {
            at[name] = (uint32_t)o->n_members;
            o->members[o->n_members++].name = name;
        }
        o->members[at[name]].required = true;
    }
    free(at);
    return st;
}

static mlxr_status read_object(object_keywords *o, mlxr_sc *s, const mlxr_sc_node *n)
{
    static const mlxr_sc_keyword maps[] = {MLXR_KW_PROPERTIES, MLXR_KW_PATTERN_PROPERTIES};
    const mlxr_value *v;
    uint32_t *names;
    bool has;
    mlxr_status st;

    *o = (object_keywords){0};
    for (size_t i = 0; i < MLXR_COUNT(maps); i++)
        if ((st = want_map(s, n, maps[i])) != MLXR_OK) return st;
    if (n->kw[MLXR_KW_REQUIRED] &&
        (st = want_names(s, n, MLXR_KW_REQUIRED, n->kw[MLXR_KW_REQUIRED])) != MLXR_OK)
        return st;
    if ((st = read_bounds(&o->min, &o->max, &has, s, n, MLXR_KW_MIN_PROPERTIES, MLXR_KW_MAX_PROPERTIES)) !=
        MLXR_OK)
        return st;
    o->any = has || n->kw[MLXR_KW_PROPERTIES] || n->kw[MLXR_KW_REQUIRED] ||
             n->kw[MLXR_KW_PATTERN_PROPERTIES] || n->kw[MLXR_KW_ADDITIONAL] || n->kw[MLXR_KW_PROPERTY_NAMES];
    if (!o->any) return MLXR_OK;
    if ((st = read_members(o, s, n)) != MLXR_OK || (st = read_property_names(o, s, n)) != MLXR_OK) return st;
    if ((v = n->kw[MLXR_KW_PATTERN_PROPERTIES])) {
        if (!(o->patterns = mlxr_arena_calloc(&s->arena, v->n + 1, sizeof *o->patterns)))
            return mlxr_sc_nomem(s);
        for (size_t i = 0; i < v->n; i++) {
            mlxr_dfa *d;
            st = mlxr_sc_pattern(&d, s, v->names[i].text, v->names[i].n_text);
            if (st != MLXR_OK) return mlxr_sc_at(s, n, "patternProperties", st);
            o->patterns[o->n_patterns++] = d;
        }
    }
    if (!(names = mlxr_arena_calloc(&s->arena, o->n_properties + 1, sizeof *names))) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < o->n_properties; i++) names[i] = o->members[i].name;
    o->others = (mlxr_sc_names){
        .not_names = names, .n_not_names = o->n_properties, .not_in = o->patterns, .n_not_in = o->n_patterns};
    return MLXR_OK;
}

static mlxr_status object_case(const mlxr_sc_case **out, bool *empty, mlxr_sc *s, const mlxr_sc_node *n)
{
    const mlxr_value *patterns = n->kw[MLXR_KW_PATTERN_PROPERTIES], *additional = n->kw[MLXR_KW_ADDITIONAL];
    mlxr_sc_name_rule *rules;
    size_t n_rules = 0;
    object_keywords o;
    mlxr_sc_case *c;
    mlxr_status st = read_object(&o, s, n);

    *empty = false;
    if (st != MLXR_OK) return st;
    *out = s->any->cases[MLXR_VALUE_OBJECT];
    if (!o.any) return MLXR_OK;
    if (!(rules = mlxr_arena_calloc(&s->arena, o.n_patterns + 2, sizeof *rules))) return mlxr_sc_nomem(s);
    if (o.bad_names) rules[n_rules++] = (mlxr_sc_name_rule){.names.d = o.bad_names, .f = MLXR_SC_FALSE};
    for (size_t i = 0; i < o.n_patterns; i++) {
        mlxr_sc_name_rule *r = &rules[n_rules++];
        r->names.d = o.patterns[i];
        st = child_formula(&r->f, s, n, MLXR_KW_PATTERN_PROPERTIES, patterns->names[i].text,
                           patterns->names[i].n_text, patterns->items[i], false);
        if (st != MLXR_OK) return st;
        if (r->f == MLXR_SC_TRUE) n_rules--;
    }
    if (additional) {
        mlxr_sc_name_rule *r = &rules[n_rules];
        r->names = o.others;
        if ((st = child_formula(&r->f, s, n, MLXR_KW_ADDITIONAL, NULL, 0, additional, false)) != MLXR_OK)
            return st;
        if (r->f != MLXR_SC_TRUE) n_rules++;
    }
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, n)) != MLXR_OK) return st;
    c->object = (mlxr_sc_object){.members = o.members,
                                 .n_members = o.n_members,
                                 .rules = rules,
                                 .n_rules = n_rules,
                                 .min = o.min,
                                 .max = o.max,
                                 .all_evaluated = additional != NULL,
                                 .evaluated = o.others.not_names,
                                 .n_evaluated = o.n_properties,
                                 .evaluated_in = o.patterns,
                                 .n_evaluated_in = o.n_patterns};
    *out = c;
    for (size_t i = 0; i < o.n_members && !*empty; i++) {
        mlxr_sc_formula f;
        if (!o.members[i].required) continue;
        if ((st = mlxr_sc_member_formula(&f, s, &c->object, &o.members[i])) != MLXR_OK) return st;
        *empty = f == MLXR_SC_FALSE;
    }
    if (o.min > o.max) *empty = true;
    return MLXR_OK;
}

/* An object with this member, or, with f FALSE and not required, without it. */
static mlxr_status add_member(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n, uint32_t name,
                              bool required, mlxr_sc_formula f)
{
    mlxr_sc_member *m = mlxr_arena_calloc(&s->arena, 1, sizeof *m);
    mlxr_sc_case *c;
    mlxr_status st;

    if (required && f == MLXR_SC_FALSE) return MLXR_OK;
    if (!m) return mlxr_sc_nomem(s);
    *m = (mlxr_sc_member){.name = name, .required = required, .f = f};
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, n)) != MLXR_OK) return st;
    c->object.members = m;
    c->object.n_members = 1;
    return mlxr_sc_add(s, l, c);
}

static mlxr_status add_some(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n, mlxr_sc_names names,
                            mlxr_sc_formula f)
{
    mlxr_sc_name_rule *r = mlxr_arena_calloc(&s->arena, 1, sizeof *r);
    mlxr_sc_case *c;
    mlxr_status st;

    if (f == MLXR_SC_FALSE || (names.d && mlxr_dfa_is_empty(names.d))) return MLXR_OK;
    if (!r) return mlxr_sc_nomem(s);
    *r = (mlxr_sc_name_rule){names, f};
    if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, n)) != MLXR_OK) return st;
    c->object.some = r;
    c->object.n_some = 1;
    return mlxr_sc_add(s, l, c);
}

static mlxr_status not_object(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    const mlxr_value *properties = n->kw[MLXR_KW_PROPERTIES], *patterns = n->kw[MLXR_KW_PATTERN_PROPERTIES],
                     *additional = n->kw[MLXR_KW_ADDITIONAL];
    object_keywords o;
    mlxr_sc_formula f;
    mlxr_sc_case *c;
    mlxr_status st = read_object(&o, s, n);

    if (st != MLXR_OK || !o.any) return st;
    /* A member that is required is not there or is not as it should be: together, an optional one that is not. */
    for (size_t i = 0; i < o.n_members; i++) {
        const mlxr_sc_member *m = &o.members[i];
        f = MLXR_SC_FALSE;
        if (i < o.n_properties) {
            st = child_formula(&f, s, n, MLXR_KW_PROPERTIES, properties->names[i].text,
                               properties->names[i].n_text, properties->items[i], true);
            if (st != MLXR_OK) return st;
        }
        if ((st = add_member(s, l, n, m->name, !m->required, f)) != MLXR_OK) return st;
    }
    for (size_t i = 0; i < o.n_patterns; i++) {
        st = child_formula(&f, s, n, MLXR_KW_PATTERN_PROPERTIES, patterns->names[i].text,
                           patterns->names[i].n_text, patterns->items[i], true);
        if (st != MLXR_OK) return st;
        if ((st = add_some(s, l, n, (mlxr_sc_names){.d = o.patterns[i]}, f)) != MLXR_OK) return st;
    }
    if (additional) {
        if ((st = child_formula(&f, s, n, MLXR_KW_ADDITIONAL, NULL, 0, additional, true)) != MLXR_OK ||
            (st = add_some(s, l, n, o.others, f)) != MLXR_OK)
            return st;
    }
    if (o.bad_names && (st = add_some(s, l, n, (mlxr_sc_names){.d = o.bad_names}, MLXR_SC_TRUE)) != MLXR_OK)
        return st;
    if (o.min) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, n)) != MLXR_OK) return st;
        c->object.max = o.min - 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    if (o.max != SIZE_MAX) {
        if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_OBJECT, n)) != MLXR_OK) return st;
        c->object.min = o.max + 1;
        if ((st = mlxr_sc_add(s, l, c)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* ---- all the keywords of one type each ---- */

static mlxr_status base(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_sc_list l = {0};
    const mlxr_sc_case *c;
    bool all_free = true;
    unsigned types;
    mlxr_status st = read_types(&types, s, n);

    for (int t = MLXR_VALUE_NULL; t <= MLXR_VALUE_OBJECT && st == MLXR_OK; t++) {
        bool empty = false;
        if (!(types & 1u << t)) {
            all_free = false;
            continue;
        }
        c = s->any->cases[t];
        switch (t) {
        case MLXR_VALUE_NUMBER: st = number_case(&c, s, n, types & INTEGER); break;
        case MLXR_VALUE_STRING: st = string_case(&c, s, n); break;
        case MLXR_VALUE_ARRAY: st = array_case(&c, &empty, s, n); break;
        case MLXR_VALUE_OBJECT: st = object_case(&c, &empty, s, n); break;
        default: break;
        }
        all_free = all_free && c->free && !empty;
        if (st == MLXR_OK && !empty) st = mlxr_sc_add(s, &l, c);
    }
    if (st != MLXR_OK) return st;
    *out = s->any;
    return all_free ? MLXR_OK : mlxr_sc_done(out, s, &l);
}

static mlxr_status not_base(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    mlxr_sc_case *c;
    unsigned types;
    mlxr_status st = read_types(&types, s, n);

    for (int t = MLXR_VALUE_NULL; t <= MLXR_VALUE_OBJECT && st == MLXR_OK; t++) {
        if (!(types & 1u << t)) {
            st = mlxr_sc_add(s, l, s->any->cases[t]);
            continue;
        }
        switch (t) {
        case MLXR_VALUE_NUMBER:
            st = not_number(s, l, n);
            if (st == MLXR_OK && types & INTEGER) {
                if ((st = mlxr_sc_new_case(&c, s, MLXR_VALUE_NUMBER, n)) != MLXR_OK) return st;
                c->number.fraction = true;
                st = mlxr_sc_add(s, l, c);
            }
            break;
        case MLXR_VALUE_STRING: st = not_string(s, l, n); break;
        case MLXR_VALUE_ARRAY: st = not_array(s, l, n); break;
        case MLXR_VALUE_OBJECT: st = not_object(s, l, n); break;
        default: break;
        }
    }
    return st;
}

/* ---- keywords that take schemas for the instance itself ---- */

static mlxr_status norm_child(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *child,
                              mlxr_sc_variant variant)
{
    mlxr_sc_formula f;
    mlxr_status st;

    /* Tracked cases have to tell what the nodes on the way evaluate, so nothing is looked through. */
    if (variant == MLXR_SC_TRACKED && child->key.v->type == MLXR_VALUE_OBJECT)
        return mlxr_sc_norm_node(out, s, child, variant);
    if ((st = mlxr_sc_formula_of(&f, s, child, variant == MLXR_SC_NEGATIVE)) != MLXR_OK) return st;
    return mlxr_sc_norm_formula(out, s, f);
}

static mlxr_status norm_at(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k,
                           mlxr_sc_variant variant)
{
    const mlxr_sc_node *child;
    mlxr_status st = mlxr_sc_child(&child, s, n, k, NULL, 0, n->kw[k]);

    return st == MLXR_OK ? norm_child(out, s, child, variant) : st;
}

static mlxr_status norm_index(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k,
                              size_t i, mlxr_sc_variant variant)
{
    const mlxr_sc_node *child;
    mlxr_status st = mlxr_sc_child_index(&child, s, n, k, i, n->kw[k]->items[i]);

    return st == MLXR_OK ? norm_child(out, s, child, variant) : st;
}

static mlxr_status norm_or(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_norm *a, const mlxr_sc_norm *b)
{
    mlxr_sc_list l = {0};
    mlxr_status st;

    if ((st = mlxr_sc_add_norm(s, &l, a)) != MLXR_OK || (st = mlxr_sc_add_norm(s, &l, b)) != MLXR_OK)
        return st;
    return mlxr_sc_done(out, s, &l);
}

/* The opposite of a schema evaluates nothing. */
static mlxr_status forget(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_sc_list l = {0};
    mlxr_status st;

    for (size_t i = 0; i < n->n; i++) {
        const mlxr_sc_case *c = n->cases[i];
        mlxr_sc_case *copy;
        if (c->type >= MLXR_VALUE_ARRAY && !c->free) {
            if ((st = mlxr_sc_new_case(&copy, s, c->type, c->where)) != MLXR_OK) return st;
            *copy = *c;
            if (c->type == MLXR_VALUE_ARRAY) {
                copy->array.n_evaluated = 0;
            } else {
                copy->object.all_evaluated = false;
                copy->object.n_evaluated = copy->object.n_evaluated_in = 0;
            }
            c = copy;
        }
        if ((st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
    }
    return mlxr_sc_done(out, s, &l);
}

static mlxr_status norm_negative(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                                 mlxr_sc_keyword k, bool tracked)
{
    mlxr_status st = norm_at(out, s, n, k, MLXR_SC_NEGATIVE);

    return st == MLXR_OK && tracked ? forget(out, s, *out) : st;
}

static mlxr_status is_empty_norm(bool *out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_status st = MLXR_OK;

    *out = true;
    for (size_t i = 0; i < n->n && *out && st == MLXR_OK; i++)
        st = mlxr_sc_case_is_empty(out, s, n->cases[i], PROBE_DEPTH);
    return st;
}

static mlxr_status any_of(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                          mlxr_sc_variant variant)
{
    const mlxr_value *v = n->kw[MLXR_KW_ANY_OF];
    const mlxr_sc_norm *sum = NULL, *one, *both;
    mlxr_sc_list l = {0};
    mlxr_status st;

    if (variant == MLXR_SC_TRACKED && v->n > MOST_TRACKED)
        return mlxr_sc_fail(s, n, "anyOf", MLXR_E_UNSUPPORTED,
                            "more than %d branches beside unevaluatedProperties or unevaluatedItems",
                            MOST_TRACKED);
    for (size_t i = 0; i < v->n; i++) {
        if ((st = norm_index(&one, s, n, MLXR_KW_ANY_OF, i, variant)) != MLXR_OK) return st;
        if (variant != MLXR_SC_TRACKED) {
            if ((st = mlxr_sc_add_norm(s, &l, one)) != MLXR_OK) return st;
        } else if (!sum) {
            sum = one;
        } else {
            if ((st = mlxr_sc_and(&both, s, sum, one)) != MLXR_OK ||
                (st = norm_or(&sum, s, sum, one)) != MLXR_OK || (st = norm_or(&sum, s, sum, both)) != MLXR_OK)
                return st;
        }
    }
    if (!sum) return mlxr_sc_done(out, s, &l);
    *out = sum;
    return MLXR_OK;
}

/* Each branch without the others; those that no value can share with it need no taking away. */
static mlxr_status one_of(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                          mlxr_sc_variant variant)
{
    size_t n_branches = n->kw[MLXR_KW_ONE_OF]->n;
    const mlxr_sc_norm **branches = mlxr_arena_calloc(&s->arena, n_branches, sizeof *branches);
    bool *overlap = mlxr_calloc_array(n_branches, n_branches);
    const mlxr_sc_norm *both, *not ;
    mlxr_sc_list l = {0};
    mlxr_status st;

    if (!branches || !overlap) {
        st = mlxr_sc_nomem(s);
        goto done;
    }
    for (size_t i = 0; i < n_branches; i++)
        if ((st = norm_index(&branches[i], s, n, MLXR_KW_ONE_OF, i, variant)) != MLXR_OK) goto done;
    for (size_t i = 0; i < n_branches; i++) {
        for (size_t j = 0; j < i; j++) {
            bool empty;
            if ((st = mlxr_sc_and(&both, s, branches[i], branches[j])) != MLXR_OK ||
                (st = is_empty_norm(&empty, s, both)) != MLXR_OK)
                goto done;
            overlap[i * n_branches + j] = overlap[j * n_branches + i] = !empty;
        }
    }
    for (size_t i = 0; i < n_branches; i++) {
        const mlxr_sc_norm *one = branches[i];
        for (size_t j = 0; j < n_branches; j++) {
            if (!overlap[i * n_branches + j]) continue;
            if ((st = norm_index(&not, s, n, MLXR_KW_ONE_OF, j, MLXR_SC_NEGATIVE)) != MLXR_OK) goto done;
            if (variant == MLXR_SC_TRACKED && (st = forget(&not, s, not )) != MLXR_OK) goto done;
            if ((st = mlxr_sc_and(&one, s, one, not )) != MLXR_OK) goto done;
        }
        if ((st = mlxr_sc_add_norm(s, &l, one)) != MLXR_OK) goto done;
    }
    st = mlxr_sc_done(out, s, &l);
done:
    free(overlap);
    return st;
}

/* None of the branches, or two of them. */
static mlxr_status not_one_of(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n)
{
    size_t n_branches = n->kw[MLXR_KW_ONE_OF]->n;
    const mlxr_sc_norm *none = s->any, *a, *b;
    mlxr_status st;

    for (size_t i = 0; i < n_branches; i++) {
        if ((st = norm_index(&a, s, n, MLXR_KW_ONE_OF, i, MLXR_SC_NEGATIVE)) != MLXR_OK ||
            (st = mlxr_sc_and(&none, s, none, a)) != MLXR_OK ||
            (st = norm_index(&a, s, n, MLXR_KW_ONE_OF, i, MLXR_SC_POSITIVE)) != MLXR_OK)
            return st;
        for (size_t j = 0; j < i; j++) {
            if ((st = norm_index(&b, s, n, MLXR_KW_ONE_OF, j, MLXR_SC_POSITIVE)) != MLXR_OK ||
                (st = mlxr_sc_and(&b, s, a, b)) != MLXR_OK || (st = mlxr_sc_add_norm(s, l, b)) != MLXR_OK)
                return st;
        }
    }
    return mlxr_sc_add_norm(s, l, none);
}

static mlxr_status if_then_else(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                                mlxr_sc_variant variant)
{
    const mlxr_sc_norm *yes, *no, *then = s->any, *otherwise = s->any;
    bool negative = variant == MLXR_SC_NEGATIVE;
    mlxr_sc_list l = {0};
    mlxr_status st;

    *out = s->any;
    if (!n->kw[MLXR_KW_THEN] && !n->kw[MLXR_KW_ELSE] && variant == MLXR_SC_POSITIVE) return MLXR_OK;
    if ((st = norm_at(&yes, s, n, MLXR_KW_IF, negative ? MLXR_SC_POSITIVE : variant)) != MLXR_OK ||
        (st = norm_negative(&no, s, n, MLXR_KW_IF, variant == MLXR_SC_TRACKED)) != MLXR_OK)
        return st;
    if (n->kw[MLXR_KW_THEN] && (st = norm_at(&then, s, n, MLXR_KW_THEN, variant)) != MLXR_OK) return st;
    if (n->kw[MLXR_KW_ELSE] && (st = norm_at(&otherwise, s, n, MLXR_KW_ELSE, variant)) != MLXR_OK) return st;
    if (!negative || n->kw[MLXR_KW_THEN]) {
        if ((st = mlxr_sc_and(&yes, s, yes, then)) != MLXR_OK ||
            (st = mlxr_sc_add_norm(s, &l, yes)) != MLXR_OK)
            return st;
    }
    if (!negative || n->kw[MLXR_KW_ELSE]) {
        if ((st = mlxr_sc_and(&no, s, no, otherwise)) != MLXR_OK ||
            (st = mlxr_sc_add_norm(s, &l, no)) != MLXR_OK)
            return st;
    }
    return mlxr_sc_done(out, s, &l);
}

/* Everything but objects that have a member; and objects that have it. */
static mlxr_status add_without(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_node *n, uint32_t name)
{
    mlxr_status st = MLXR_OK;

    for (int t = MLXR_VALUE_NULL; t < MLXR_VALUE_OBJECT && st == MLXR_OK; t++)
        st = mlxr_sc_add(s, l, s->any->cases[t]);
    return st == MLXR_OK ? add_member(s, l, n, name, false, MLXR_SC_FALSE) : st;
}

static mlxr_status norm_with(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n, uint32_t name)
{
    mlxr_sc_list l = {0};
    mlxr_status st = add_member(s, &l, n, name, true, MLXR_SC_TRUE);

    return st == MLXR_OK ? mlxr_sc_done(out, s, &l) : st;
}

/* One entry of dependentRequired (v is a list) or dependentSchemas: its union, or its opposite's. */
static mlxr_status dependency(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k,
                              const struct mlxr_value_name *key, const mlxr_value *v, mlxr_sc_variant variant)
{
    const mlxr_sc_norm *with, *then;
    const mlxr_sc_node *child;
    mlxr_sc_list l = {0};
    uint32_t name;
    mlxr_status st;

    if ((st = mlxr_sc_name(&name, s, key->text, key->n_text)) != MLXR_OK ||
        (st = norm_with(&with, s, n, name)) != MLXR_OK)
        return st;
    if (v->type == MLXR_VALUE_ARRAY) {
        mlxr_sc_list missing = {0};
        then = s->any;
        if ((st = want_names(s, n, k, v)) != MLXR_OK) return st;
        for (size_t i = 0; i < v->n; i++) {
            const mlxr_sc_norm *one;
            uint32_t other;
            if ((st = mlxr_sc_name(&other, s, v->items[i]->text, v->items[i]->n_text)) != MLXR_OK) return st;
            if (variant == MLXR_SC_NEGATIVE) {
                st = add_member(s, &missing, n, other, false, MLXR_SC_FALSE);
            } else if ((st = norm_with(&one, s, n, other)) == MLXR_OK) {
                st = mlxr_sc_and(&then, s, then, one);
            }
            if (st != MLXR_OK) return st;
        }
        if (variant == MLXR_SC_NEGATIVE && (st = mlxr_sc_done(&then, s, &missing)) != MLXR_OK) return st;
    } else {
        if ((st = mlxr_sc_child(&child, s, n, k, key->text, key->n_text, v)) != MLXR_OK ||
            (st = norm_child(&then, s, child, variant)) != MLXR_OK)
            return st;
    }
    if ((st = mlxr_sc_and(&with, s, with, then)) != MLXR_OK ||
        (st = mlxr_sc_add_norm(s, &l, with)) != MLXR_OK)
        return st;
    if (variant != MLXR_SC_NEGATIVE && (st = add_without(s, &l, n, name)) != MLXR_OK) return st;
    return mlxr_sc_done(out, s, &l);
}

/* ---- unevaluated ---- */

static mlxr_status unevaluated_items(mlxr_sc_array *a, bool *empty, mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_sc_formula *prefix, f;
    size_t n_prefix = a->n_prefix > a->n_evaluated ? a->n_prefix : a->n_evaluated;
    mlxr_status st;

    if (a->n_evaluated == SIZE_MAX) return MLXR_OK;
    st = child_formula(&f, s, n, MLXR_KW_UNEVALUATED_ITEMS, NULL, 0, n->kw[MLXR_KW_UNEVALUATED_ITEMS], false);
    if (st != MLXR_OK || f == MLXR_SC_TRUE) return st;
    /* Items that contains has found are evaluated too: what is left must be among these. */
    if (a->n_contains) {
        if (a->n_contains > 1 || f != MLXR_SC_FALSE || a->contains->from)
            return mlxr_sc_fail(s, n, "unevaluatedItems", MLXR_E_UNSUPPORTED,
                                "cannot be enforced together with contains, but for false");
        f = a->contains->yes;
    }
    if ((st = mlxr_sc_step(s, n_prefix)) != MLXR_OK) return st;
    if (!(prefix = mlxr_arena_calloc(&s->arena, n_prefix + 1, sizeof *prefix))) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < n_prefix; i++) {
        prefix[i] = i < a->n_prefix ? a->prefix[i] : a->rest;
        if (i >= a->n_evaluated && (st = mlxr_sc_both(&prefix[i], s, prefix[i], f)) != MLXR_OK) return st;
    }
    if ((st = mlxr_sc_both(&a->rest, s, a->rest, f)) != MLXR_OK) return st;
    a->prefix = prefix;
    a->n_prefix = n_prefix;
    mlxr_sc_tidy_array(a, empty);
    return MLXR_OK;
}

static mlxr_status unevaluated_properties(mlxr_sc_object *o, bool *empty, mlxr_sc *s, const mlxr_sc_node *n)
{
    mlxr_sc_name_rule *rules;
    mlxr_sc_formula f;
    mlxr_status st;

    if (o->all_evaluated) return MLXR_OK;
    st = child_formula(&f, s, n, MLXR_KW_UNEVALUATED, NULL, 0, n->kw[MLXR_KW_UNEVALUATED], false);
    if (st != MLXR_OK || f == MLXR_SC_TRUE) return st;
    if (!(rules = mlxr_arena_calloc(&s->arena, o->n_rules + 1, sizeof *rules))) return mlxr_sc_nomem(s);
    if (o->n_rules) memcpy(rules, o->rules, o->n_rules * sizeof *rules);
    rules[o->n_rules++] = (mlxr_sc_name_rule){.names = {.not_names = o->evaluated,
                                                        .n_not_names = o->n_evaluated,
                                                        .not_in = o->evaluated_in,
                                                        .n_not_in = o->n_evaluated_in},
                                              .f = f};
    o->rules = rules;
    for (size_t i = 0; i < o->n_members && !*empty; i++) {
        if (!o->members[i].required) continue;
        if ((st = mlxr_sc_member_formula(&f, s, o, &o->members[i])) != MLXR_OK) return st;
        *empty = f == MLXR_SC_FALSE;
    }
    return MLXR_OK;
}

static mlxr_status unevaluated(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                               const mlxr_sc_norm *all)
{
    mlxr_sc_list l = {0};
    mlxr_status st;

    for (size_t i = 0; i < all->n; i++) {
        const mlxr_sc_case *c = all->cases[i];
        bool items = c->type == MLXR_VALUE_ARRAY && n->kw[MLXR_KW_UNEVALUATED_ITEMS],
             members = c->type == MLXR_VALUE_OBJECT && n->kw[MLXR_KW_UNEVALUATED], empty = false;
        if (items || members) {
            mlxr_sc_case *copy;
            if ((st = mlxr_sc_new_case(&copy, s, c->type, n)) != MLXR_OK) return st;
            *copy = *c;
            copy->free = false;
            if (items) {
                st = unevaluated_items(&copy->array, &empty, s, n);
                copy->array.n_evaluated = SIZE_MAX;
            } else {
                st = unevaluated_properties(&copy->object, &empty, s, n);
                copy->object.all_evaluated = true;
            }
            if (st != MLXR_OK) return st;
            c = copy;
        }
        if (!empty && (st = mlxr_sc_add(s, &l, c)) != MLXR_OK) return st;
    }
    return mlxr_sc_done(out, s, &l);
}

/* ---- a schema ---- */

static mlxr_status refuse_old(mlxr_sc *s, const mlxr_sc_node *n)
{
    static const mlxr_sc_keyword old[] = {MLXR_KW_DISALLOW, MLXR_KW_DIVISIBLE_BY, MLXR_KW_EXTENDS,
                                          MLXR_KW_FORMAT_MINIMUM, MLXR_KW_FORMAT_MAXIMUM};

    for (size_t i = 0; i < MLXR_COUNT(old); i++)
        if (n->kw[old[i]])
            return mlxr_sc_fail(s, n, mlxr_sc_keyword_name(old[i]), MLXR_E_UNSUPPORTED,
                                "this keyword of an old draft is not supported");
    return MLXR_OK;
}

static mlxr_status check_shapes(mlxr_sc *s, const mlxr_sc_node *n)
{
    static const mlxr_sc_keyword lists[] = {MLXR_KW_ALL_OF, MLXR_KW_ANY_OF, MLXR_KW_ONE_OF};
    static const mlxr_sc_keyword maps[] = {MLXR_KW_DEPENDENT_REQUIRED, MLXR_KW_DEPENDENT_SCHEMAS,
                                           MLXR_KW_DEPENDENCIES};
    mlxr_status st = refuse_old(s, n);

    for (size_t i = 0; i < MLXR_COUNT(lists) && st == MLXR_OK; i++) st = want_list(s, n, lists[i], false);
    for (size_t i = 0; i < MLXR_COUNT(maps) && st == MLXR_OK; i++) st = want_map(s, n, maps[i]);
    if (st == MLXR_OK) st = want_list(s, n, MLXR_KW_ENUM, true);
    if (st == MLXR_OK && n->kw[MLXR_KW_DEPENDENT_REQUIRED]) {
        const mlxr_value *v = n->kw[MLXR_KW_DEPENDENT_REQUIRED];
        for (size_t i = 0; i < v->n && st == MLXR_OK; i++)
            st = want_names(s, n, MLXR_KW_DEPENDENT_REQUIRED, v->items[i]);
    }
    return st;
}

/* One keyword's union (or its opposite's). BASE stands for all the typed keywords. */
#define BASE MLXR_KW_PROPERTIES

static mlxr_status norm_keyword(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                                mlxr_sc_keyword k, mlxr_sc_variant variant)
{
    bool negative = variant == MLXR_SC_NEGATIVE;
    const mlxr_value *v = n->kw[k];
    const mlxr_sc_norm *one;
    const mlxr_sc_node *target;
    mlxr_sc_list l = {0};
    mlxr_status st;

    switch (k) {
    case MLXR_KW_ENUM:
    case MLXR_KW_CONST: {
        const mlxr_value *const *values = k == MLXR_KW_CONST ? &n->kw[k] : v->items;
        size_t n_values = k == MLXR_KW_CONST ? 1 : v->n;
        if (negative) return mlxr_sc_not_values(out, s, n, values, n_values);
        st = mlxr_sc_values(s, &l, n, values, n_values);
        return st == MLXR_OK ? mlxr_sc_done(out, s, &l) : st;
    }
    case MLXR_KW_REF:
    case MLXR_KW_DYNAMIC_REF:
    case MLXR_KW_RECURSIVE_REF:
        if ((st = mlxr_sc_target(&target, s, n, k)) != MLXR_OK) return st;
        return norm_child(out, s, target, variant);
    case MLXR_KW_ALL_OF:
        *out = s->any;
        for (size_t i = 0; i < v->n; i++) {
            if ((st = norm_index(&one, s, n, k, i, variant)) != MLXR_OK) return st;
            st = negative ? mlxr_sc_add_norm(s, &l, one) : mlxr_sc_and(out, s, *out, one);
            if (st != MLXR_OK) return st;
        }
        return negative ? mlxr_sc_done(out, s, &l) : MLXR_OK;
    case MLXR_KW_ANY_OF:
        if (!negative) return any_of(out, s, n, variant);
        *out = s->any;
        for (size_t i = 0; i < v->n; i++) {
            if ((st = norm_index(&one, s, n, k, i, variant)) != MLXR_OK ||
                (st = mlxr_sc_and(out, s, *out, one)) != MLXR_OK)
                return st;
        }
        return MLXR_OK;
    case MLXR_KW_ONE_OF:
        if (!negative) return one_of(out, s, n, variant);
        st = not_one_of(s, &l, n);
        return st == MLXR_OK ? mlxr_sc_done(out, s, &l) : st;
    case MLXR_KW_NOT:
        if (negative) return norm_at(out, s, n, k, MLXR_SC_POSITIVE);
        return norm_negative(out, s, n, k, variant == MLXR_SC_TRACKED);
    case MLXR_KW_IF: return if_then_else(out, s, n, variant);
    case MLXR_KW_DEPENDENT_REQUIRED:
    case MLXR_KW_DEPENDENT_SCHEMAS:
    case MLXR_KW_DEPENDENCIES:
        *out = s->any;
        for (size_t i = 0; i < v->n; i++) {
            if ((st = dependency(&one, s, n, k, &v->names[i], v->items[i], variant)) != MLXR_OK) return st;
            st = negative ? mlxr_sc_add_norm(s, &l, one) : mlxr_sc_and(out, s, *out, one);
            if (st != MLXR_OK) return st;
        }
        return negative ? mlxr_sc_done(out, s, &l) : MLXR_OK;
    default: /* BASE */
        if (!negative) return base(out, s, n);
        st = not_base(s, &l, n);
        return st == MLXR_OK ? mlxr_sc_done(out, s, &l) : st;
    }
}

/* The keywords whose unions make a schema, in the order in which they are written: so are members. */
static size_t order_keywords(mlxr_sc_keyword out[MLXR_KW_COUNT], const mlxr_sc_node *n)
{
    static const mlxr_sc_keyword all[] = {BASE,
                                          MLXR_KW_ENUM,
                                          MLXR_KW_CONST,
                                          MLXR_KW_REF,
                                          MLXR_KW_DYNAMIC_REF,
                                          MLXR_KW_RECURSIVE_REF,
                                          MLXR_KW_ALL_OF,
                                          MLXR_KW_ANY_OF,
                                          MLXR_KW_ONE_OF,
                                          MLXR_KW_NOT,
                                          MLXR_KW_IF,
                                          MLXR_KW_DEPENDENT_REQUIRED,
                                          MLXR_KW_DEPENDENT_SCHEMAS,
                                          MLXR_KW_DEPENDENCIES};
    const mlxr_value *v = n->key.v;
    size_t at[MLXR_COUNT(all)], count = 0;

    for (size_t k = 0; k < MLXR_COUNT(all); k++) {
        size_t place = all[k] == BASE ? 0 : SIZE_MAX, i;
        if (all[k] != BASE && !n->kw[all[k]]) continue;
        for (i = 0; n->kw[all[k]] && i < v->n; i++)
            if (v->items[i] == n->kw[all[k]]) place = i;
        for (i = count++; i > 0 && at[i - 1] > place; i--) {
            at[i] = at[i - 1];
            out[i] = out[i - 1];
        }
        at[i] = place;
        out[i] = all[k];
    }
    return count;
}

static mlxr_status make_node_norm(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                                  mlxr_sc_variant variant)
{
    bool negative = variant == MLXR_SC_NEGATIVE,
         looks = n->kw[MLXR_KW_UNEVALUATED] || n->kw[MLXR_KW_UNEVALUATED_ITEMS];
    mlxr_sc_keyword order[MLXR_KW_COUNT];
    const mlxr_sc_norm *one;
    mlxr_sc_list l = {0};
    size_t count;
    mlxr_status st;

    if (n->key.is_value) {
        if (negative) return mlxr_sc_not_values(out, s, n, &n->key.v, 1);
        st = mlxr_sc_values(s, &l, n, &n->key.v, 1);
        return st == MLXR_OK ? mlxr_sc_done(out, s, &l) : st;
    }
    if ((st = check_shapes(s, n)) != MLXR_OK) return st;
    if (looks && negative)
        return mlxr_sc_fail(s, n, n->kw[MLXR_KW_UNEVALUATED] ? "unevaluatedProperties" : "unevaluatedItems",
                            MLXR_E_UNSUPPORTED, "its opposite (under not, if or oneOf) cannot be enforced");
    if (looks) {
        variant = MLXR_SC_TRACKED;
        s->n_tracking++;
    }
    *out = s->any;
    count = order_keywords(order, n);
    for (size_t i = 0; i < count && st == MLXR_OK; i++) {
        if ((st = norm_keyword(&one, s, n, order[i], variant)) != MLXR_OK) break;
        st = negative ? mlxr_sc_add_norm(s, &l, one) : mlxr_sc_and(out, s, *out, one);
    }
    if (st == MLXR_OK && negative) st = mlxr_sc_done(out, s, &l);
    if (looks) {
        if (st == MLXR_OK) st = unevaluated(out, s, n, *out);
        s->n_tracking--;
    }
    return st;
}

mlxr_status mlxr_sc_norm_node(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *node,
                              mlxr_sc_variant variant)
{
    /* Nodes are the maker's own; they are const to everyone else. */
    mlxr_sc_node *n = (mlxr_sc_node *)(uintptr_t)node;
    mlxr_status st;

    if (!n->key.is_value && n->key.v->type != MLXR_VALUE_OBJECT) {
        mlxr_sc_formula f;
        if ((st = mlxr_sc_formula_of(&f, s, n, variant == MLXR_SC_NEGATIVE)) != MLXR_OK) return st;
        return mlxr_sc_norm_formula(out, s, f);
    }
    if (n->norm[variant]) {
        *out = n->norm[variant];
        return MLXR_OK;
    }
    if (n->busy[variant]) {
        if (n->busy[variant] - 1 < s->probe) return MLXR_SC_UNKNOWN;
        return mlxr_sc_fail(s, n, NULL, MLXR_E_FORMAT, "applies itself to the same value without an end");
    }
    if (s->depth >= MLXR_SC_MAX_DEPTH)
        return mlxr_sc_fail(s, n, NULL, MLXR_E_LIMIT, "more than %d schemas within each other for one value",
                            MLXR_SC_MAX_DEPTH);
    n->busy[variant] = s->probe + 1;
    s->depth++;
    s->n_tracking += variant == MLXR_SC_TRACKED;
    st = make_node_norm(out, s, n, variant);
    s->n_tracking -= variant == MLXR_SC_TRACKED;
    s->depth--;
    n->busy[variant] = 0;
    if (st == MLXR_OK) n->norm[variant] = *out;
    return st;
}

mlxr_status mlxr_sc_norm_formula(const mlxr_sc_norm **out, mlxr_sc *s, mlxr_sc_formula f)
{
    const mlxr_sc_norm *all, *one;
    mlxr_sc_list none = {0};
    mlxr_status st = MLXR_OK;

    if (f == MLXR_SC_TRUE) {
        *out = s->any;
        return MLXR_OK;
    }
    if (f == MLXR_SC_FALSE) return mlxr_sc_done(out, s, &none);
    if (!s->formulas[f].norm) {
        all = s->any;
        for (size_t i = 0; i < s->formulas[f].n; i++) {
            mlxr_sc_lit lit = s->formulas[f].lits[i];
            st = mlxr_sc_norm_node(&one, s, s->nodes[lit / 2], lit % 2 ? MLXR_SC_NEGATIVE : MLXR_SC_POSITIVE);
            if (st != MLXR_OK || (st = mlxr_sc_and(&all, s, all, one)) != MLXR_OK) return st;
        }
        s->formulas[f].norm = all;
    }
    *out = s->formulas[f].norm;
    return MLXR_OK;
}

mlxr_status mlxr_sc_is_empty(bool *out, mlxr_sc *s, mlxr_sc_formula f, unsigned depth)
{
    const mlxr_sc_norm *norm;
    mlxr_status st;

    *out = f == MLXR_SC_FALSE;
    if (f <= MLXR_SC_FALSE || depth == 0 || s->formulas[f].asked >= depth) return MLXR_OK;
    if (s->formulas[f].empty) {
        *out = true;
        return MLXR_OK;
    }
    s->probe++;
    st = mlxr_sc_norm_formula(&norm, s, f);
    *out = st == MLXR_OK;
    for (size_t i = 0; st == MLXR_OK && *out && i < norm->n; i++)
        st = mlxr_sc_case_is_empty(out, s, norm->cases[i], depth - 1);
    s->probe--;
    if (st == MLXR_SC_UNKNOWN || st == MLXR_E_UNSUPPORTED) {
        *out = false; /* whoever writes f says what is wrong with it */
        return MLXR_OK;
    }
    if (st != MLXR_OK) return st;
    if (*out)
        s->formulas[f].empty = true;
    else
        s->formulas[f].asked = (uint8_t)depth;
    return MLXR_OK;
}
