/* What the files that turn a JSON Schema into a grammar share. Private to schema*.c.
 *
 *   schema_read.c   a document to nodes: where schemas are, their keywords, $id, $ref
 *   schema_norm.c   a node, or what it forbids, to a union of cases
 *   schema_case.c   cases of one JSON type each: both of two, the opposite of a value, is there any
 *   schema_lang.c   what is regular of them
 *   schema_emit.c   cases to rules of a grammar; schema_object.c, schema_array.c theirs, schema_json.c what all share
 *
 * A literal is a node, taken as it is or negated. A formula is a conjunction of literals: what one part of an instance must
 * be. Parts stay formulas until their rule is written, so recursion through $ref ends by itself: formulas are interned, and a
 * formula has one rule. Negation is pushed down to keywords, and there it is a union of cases again. */
#ifndef MLXR_SCHEMA_PARTS_H
#define MLXR_SCHEMA_PARTS_H

#include "engine/grammar/schema.h"

enum {
    MLXR_SC_MAX_DEPTH = 120,    /* of schemas that apply to one instance, within each other */
    MLXR_SC_MAX_FLAGS = 4,      /* "some member ..." conditions of one object */
    MLXR_SC_MAX_STATES = 20000, /* of one object's or array's automaton */
    MLXR_SC_LISTED_NAMES = 64   /* a language of names with so few is a list of optional members */
};

#define MLXR_SC_KEYWORDS(X)                    \
    X(ANCHOR, "$anchor")                       \
    X(DYNAMIC_ANCHOR, "$dynamicAnchor")        \
    X(DYNAMIC_REF, "$dynamicRef")              \
    X(ID, "$id")                               \
    X(RECURSIVE_ANCHOR, "$recursiveAnchor")    \
    X(RECURSIVE_REF, "$recursiveRef")          \
    X(REF, "$ref")                             \
    X(ADDITIONAL_ITEMS, "additionalItems")     \
    X(ADDITIONAL, "additionalProperties")      \
    X(ALL_OF, "allOf")                         \
    X(ANY_OF, "anyOf")                         \
    X(CONST, "const")                          \
    X(CONTAINS, "contains")                    \
    X(DEPENDENCIES, "dependencies")            \
    X(DEPENDENT_REQUIRED, "dependentRequired") \
    X(DEPENDENT_SCHEMAS, "dependentSchemas")   \
    X(DISALLOW, "disallow")                    \
    X(DIVISIBLE_BY, "divisibleBy")             \
    X(ELSE, "else")                            \
    X(ENUM, "enum")                            \
    X(EXCLUSIVE_MAXIMUM, "exclusiveMaximum")   \
    X(EXCLUSIVE_MINIMUM, "exclusiveMinimum")   \
    X(EXTENDS, "extends")                      \
    X(FORMAT, "format")                        \
    X(FORMAT_MAXIMUM, "formatMaximum")         \
    X(FORMAT_MINIMUM, "formatMinimum")         \
    X(OLD_ID, "id")                            \
    X(IF, "if")                                \
    X(ITEMS, "items")                          \
    X(MAX_CONTAINS, "maxContains")             \
    X(MAX_ITEMS, "maxItems")                   \
    X(MAX_LENGTH, "maxLength")                 \
    X(MAX_PROPERTIES, "maxProperties")         \
    X(MAXIMUM, "maximum")                      \
    X(MIN_CONTAINS, "minContains")             \
    X(MIN_ITEMS, "minItems")                   \
    X(MIN_LENGTH, "minLength")                 \
    X(MIN_PROPERTIES, "minProperties")         \
    X(MINIMUM, "minimum")                      \
    X(MULTIPLE_OF, "multipleOf")               \
    X(NOT, "not")                              \
    X(NULLABLE, "nullable")                    \
    X(ONE_OF, "oneOf")                         \
    X(PATTERN, "pattern")                      \
    X(PATTERN_PROPERTIES, "patternProperties") \
    X(PREFIX_ITEMS, "prefixItems")             \
    X(PROPERTIES, "properties")                \
    X(PROPERTY_NAMES, "propertyNames")         \
    X(REQUIRED, "required")                    \
    X(THEN, "then")                            \
    X(TYPE, "type")                            \
    X(UNEVALUATED_ITEMS, "unevaluatedItems")   \
    X(UNEVALUATED, "unevaluatedProperties")    \
    X(UNIQUE_ITEMS, "uniqueItems")

typedef enum mlxr_sc_keyword {
#define MLXR_SC_KEYWORD_ENUM(id, name) MLXR_KW_##id,
    MLXR_SC_KEYWORDS(MLXR_SC_KEYWORD_ENUM)
#undef MLXR_SC_KEYWORD_ENUM
        MLXR_KW_COUNT
} mlxr_sc_keyword;

/* ---- formulas ---- */

/* A literal: the id of a node, times two, and one more when negated. */
typedef uint32_t mlxr_sc_lit;
typedef uint32_t mlxr_sc_formula;
enum { MLXR_SC_TRUE = 0, MLXR_SC_FALSE = 1 };

/* ---- cases: immutable, in the arena ---- */

/* A finite language is a list, until automata are needed. */
typedef struct mlxr_sc_texts {
    const mlxr_text *t;
    size_t n;
    bool has; /* false: there is no list, any text goes */
} mlxr_sc_texts;

typedef struct mlxr_sc_plains {
    const char **t; /* plain numbers */
    size_t n;
    bool has;
} mlxr_sc_plains;

typedef struct mlxr_sc_number {
    const char *min, *max;
    bool min_exclusive, max_exclusive, integer, fraction;
    mlxr_sc_plains multiple_of, not_multiple_of, except, among;
} mlxr_sc_number;

typedef struct mlxr_sc_string {
    size_t min, max;
    mlxr_dfa *dfa; /* of decoded strings; NULL: any. Owned by the maker */
    mlxr_sc_texts among;
} mlxr_sc_string;

/* `from` and later items that are `yes` number min to max. */
typedef struct mlxr_sc_contains {
    mlxr_sc_formula yes, no;
    size_t from, min, max;
} mlxr_sc_contains;

typedef struct mlxr_sc_array {
    const mlxr_sc_formula *prefix;
    size_t n_prefix;
    mlxr_sc_formula rest;
    size_t min, max;
    const mlxr_sc_contains *contains;
    size_t n_contains;
    const struct mlxr_sc_node *unique; /* who asks for it; NULL: nobody */
    size_t n_evaluated;                /* SIZE_MAX: all */
} mlxr_sc_array;

/* A language of names: d, or with NULL the texts that are none of the names and in none of the languages. */
typedef struct mlxr_sc_names {
    mlxr_dfa *d;
    const uint32_t *not_names;
    size_t n_not_names;
    mlxr_dfa *const *not_in;
    size_t n_not_in;
} mlxr_sc_names;

typedef struct mlxr_sc_member {
    uint32_t name; /* index in the maker's table */
    bool required, declared;
    mlxr_sc_formula f;
} mlxr_sc_member;

typedef struct mlxr_sc_name_rule {
    mlxr_sc_names names;
    mlxr_sc_formula f;
} mlxr_sc_name_rule;

typedef struct mlxr_sc_object {
    const mlxr_sc_member *members; /* in the order in which they are written */
    size_t n_members;
    const mlxr_sc_name_rule *rules; /* all members with such a name, listed or not, are f */
    size_t n_rules;
    const mlxr_sc_name_rule *some; /* there is a member with such a name that is f */
    size_t n_some;
    size_t min, max;
    /* What unevaluatedProperties of a schema around would not look at. */
    bool all_evaluated;
    const uint32_t *evaluated;
    size_t n_evaluated;
    mlxr_dfa *const *evaluated_in;
    size_t n_evaluated_in;
} mlxr_sc_object;

typedef struct mlxr_sc_case {
    mlxr_value_type type;
    bool free;                        /* any value of the type */
    const struct mlxr_sc_node *where; /* what made it, for messages */
    union {
        mlxr_sc_number number;
        mlxr_sc_string string;
        mlxr_sc_array array;
        mlxr_sc_object object;
    };
} mlxr_sc_case;

typedef struct mlxr_sc_norm {
    const mlxr_sc_case **cases;
    size_t n;
} mlxr_sc_norm;

/* A growing list of cases in the arena. */
typedef struct mlxr_sc_list {
    const mlxr_sc_case **cases;
    size_t n, cap;
} mlxr_sc_list;

/* ---- nodes ---- */

typedef enum mlxr_sc_variant {
    MLXR_SC_POSITIVE,
    MLXR_SC_NEGATIVE,
    MLXR_SC_TRACKED, /* positive, and what is evaluated is complete */
    MLXR_SC_VARIANTS
} mlxr_sc_variant;

typedef struct mlxr_sc_node {
    struct {
        const mlxr_value *v;
        uintptr_t is_value; /* 1: the value itself, from enum or const; 0: a schema */
    } key;
    uint32_t id;
    const struct mlxr_sc_node *parent; /* for the path */
    const char *suffix;                /* "/properties/a" below the parent */
    const char *base;                  /* URI, without fragment */
    const mlxr_value *kw[MLXR_KW_COUNT];
    size_t n_kw; /* that say something about instances */
    const mlxr_sc_norm *norm[MLXR_SC_VARIANTS];
    uint32_t busy[MLXR_SC_VARIANTS]; /* the probe, from 1, in which it is being made */
} mlxr_sc_node;

typedef struct mlxr_sc_formula_entry {
    const mlxr_sc_lit *lits;
    size_t n;
    const mlxr_sc_norm *norm;
    uint32_t busy;
    uint8_t asked; /* probes that found no proof of emptiness: the depth they had */
    bool empty;    /* proved */
    mlxr_rule rule;
    bool has_rule;
} mlxr_sc_formula_entry;

typedef struct mlxr_sc_text_rule {
    mlxr_dfa *d; /* NULL: strings of min to max characters */
    size_t min, max;
    mlxr_rule rule;
} mlxr_sc_text_rule;

/* A rule to define: that of a formula, or of one array or object. */
typedef struct mlxr_sc_job {
    mlxr_rule rule;
    mlxr_sc_formula f;
    const mlxr_sc_case *c; /* not NULL: this one */
} mlxr_sc_job;

/* How values are written: as JSON; as Python's literals (True, None, strings with the escapes that both have); as Gemma 4 does (names
 * bare, strings as they are between marks). */
typedef enum mlxr_sc_notation { MLXR_SC_JSON, MLXR_SC_PYTHON, MLXR_SC_BRACED } mlxr_sc_notation;
#define MLXR_SC_MARK "<|\"|>" /* around BRACED strings: `avoid` of them */

typedef struct mlxr_sc {
    mlxr_arena arena;
    mlxr_error *err;
    const char *name;
    mlxr_grammar_builder *b;
    mlxr_schema_options options;
    const mlxr_lang_limits *limits;
    int draft; /* 4, 6, 7, 2019, 2020; 0: not said */

    const mlxr_sc_node **nodes;
    size_t n_nodes, cap_nodes;
    mlxr_strtab node_of;       /* key -> id */
    mlxr_strtab resources;     /* URI, or URI#anchor -> id */
    mlxr_strtab dynamic_names; /* of a $dynamicAnchor -> how many there are */
    bool recursive_anchor;

    mlxr_sc_formula_entry *formulas;
    size_t n_formulas, cap_formulas;
    mlxr_strtab formula_of; /* literals' bytes -> formula */

    mlxr_text *names; /* of members */
    size_t n_names, cap_names;
    mlxr_strtab name_of;

    mlxr_dfa **dfas; /* one reference each */
    size_t n_dfas, cap_dfas;
    mlxr_strtab
        languages; /* "p" and a pattern, "f" and a format, "j" and an automaton's address -> index of dfas */

    size_t n_cases, n_steps;
    uint32_t probe; /* 0 outside */
    size_t depth;
    size_t n_tracking;       /* more than 0: cases tell what they evaluate, and none may be swallowed */
    const mlxr_sc_norm *any; /* all seven types, free */

    /* emitting */
    mlxr_sc_job *queue; /* rules that are called, but not defined yet */
    size_t n_queue, n_defined, cap_queue;
    mlxr_sc_notation notation;
    const char
        *avoid; /* NULL, or a text that must not come in any string: it would end the value around it */
    mlxr_strtab case_rules; /* address of a case -> rule */
    mlxr_sc_text_rule *text_rules;
    size_t n_text_rules, cap_text_rules;
    /* Owned through dfas. Between brackets, behind a comma, behind a colon; names as JSON writes them. */
    mlxr_dfa *any_text, *space, *comma, *colon, *any_name, *any_number, *plain_number, *machine_number;
    bool has_json;
    mlxr_rule json, json_object, json_array;
} mlxr_sc;

/* What a probe answers when it meets what is being made outside of it; never leaves the maker. */
#define MLXR_SC_UNKNOWN MLXR_STATUS_COUNT

/* ---- schema_read.c ---- */

/* Walks the document: nodes for all schemas in it, resources, anchors, the draft. */
mlxr_status mlxr_sc_read(mlxr_sc *s, const mlxr_value *root, const mlxr_sc_node **out);
/* "NAME#PATH[/keyword]: text". keyword NULL: the node itself. */
mlxr_status mlxr_sc_fail(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, mlxr_status st,
                         const char *fmt, ...) MLXR_PRINTF(5, 6);
/* Puts the path before a message that a callee has written. */
mlxr_status mlxr_sc_at(mlxr_sc *s, const mlxr_sc_node *n, const char *keyword, mlxr_status st);
/* "NAME#PATH"; free it. NULL: out of memory. */
char *mlxr_sc_path(mlxr_sc *s, const mlxr_sc_node *n);
mlxr_status mlxr_sc_nomem(mlxr_sc *s);
#ifdef __clang_analyzer__ /* what comes back is no MLXR_OK, see base.h */
#define mlxr_sc_nomem(s) mlxr_failed_with(MLXR_E_NOMEM, mlxr_sc_nomem(s))
#define mlxr_sc_fail(s, n, keyword, st, ...) \
    mlxr_failed_with((st), mlxr_sc_fail((s), (n), (keyword), (st), __VA_ARGS__))
#endif
const char *mlxr_sc_keyword_name(mlxr_sc_keyword k);
/* The node of a schema below another, made when it is new. */
mlxr_status mlxr_sc_node_at(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_value *v,
                            const mlxr_sc_node *parent, const char *suffix);
/* parent/keyword/part or, with part NULL, parent/keyword. */
mlxr_status mlxr_sc_child(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *parent, mlxr_sc_keyword k,
                          const char *part, size_t n_part, const mlxr_value *v);
mlxr_status mlxr_sc_child_index(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *parent,
                                mlxr_sc_keyword k, size_t i, const mlxr_value *v);
mlxr_status mlxr_sc_value_node(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_value *v,
                               const mlxr_sc_node *parent);
/* Where $ref, $dynamicRef or $recursiveRef of n leads. */
mlxr_status mlxr_sc_target(const mlxr_sc_node **out, mlxr_sc *s, const mlxr_sc_node *n, mlxr_sc_keyword k);
mlxr_status mlxr_sc_name(uint32_t *out, mlxr_sc *s, const char *text, size_t n);
/* Whether a draft of that number or a newer one is spoken; when none is named: both. */
bool mlxr_sc_may_be_old(const mlxr_sc *s, int last_draft);

/* The formula of one schema (or value), simple ones looked through. */
mlxr_status mlxr_sc_formula_of(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_node *n, bool negated);
mlxr_status mlxr_sc_both(mlxr_sc_formula *out, mlxr_sc *s, mlxr_sc_formula a, mlxr_sc_formula b);

/* ---- schema_norm.c ---- */

mlxr_status mlxr_sc_norm_formula(const mlxr_sc_norm **out, mlxr_sc *s, mlxr_sc_formula f);
mlxr_status mlxr_sc_norm_node(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *n,
                              mlxr_sc_variant variant);
/* *out: it is certain that no value is f. Looks `depth` levels into arrays and objects. */
mlxr_status mlxr_sc_is_empty(bool *out, mlxr_sc *s, mlxr_sc_formula f, unsigned depth);

/* ---- schema_case.c ---- */

mlxr_status mlxr_sc_step(mlxr_sc *s, size_t n);
mlxr_status mlxr_sc_new_case(mlxr_sc_case **out, mlxr_sc *s, mlxr_value_type type, const mlxr_sc_node *where);
mlxr_status mlxr_sc_add(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_case *c);
mlxr_status mlxr_sc_add_norm(mlxr_sc *s, mlxr_sc_list *l, const mlxr_sc_norm *n);
mlxr_status mlxr_sc_done(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_list *l);
/* What is in both. */
mlxr_status mlxr_sc_and(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_norm *a, const mlxr_sc_norm *b);
/* Takes in what FALSE parts and contains leave; *empty is set when that is nothing. */
void mlxr_sc_tidy_array(mlxr_sc_array *a, bool *empty);
mlxr_status mlxr_sc_case_is_empty(bool *out, mlxr_sc *s, const mlxr_sc_case *c, unsigned depth);
/* A value from enum or const, and what it is not. */
mlxr_status mlxr_sc_values(mlxr_sc *s, mlxr_sc_list *out, const mlxr_sc_node *parent,
                           const mlxr_value *const *values, size_t n);
mlxr_status mlxr_sc_not_values(const mlxr_sc_norm **out, mlxr_sc *s, const mlxr_sc_node *parent,
                               const mlxr_value *const *values, size_t n);
/* What a member with this name must be, by its own entry and by the rules. */
mlxr_status mlxr_sc_member_formula(mlxr_sc_formula *out, mlxr_sc *s, const mlxr_sc_object *o,
                                   const mlxr_sc_member *m);
bool mlxr_sc_names_has(const mlxr_sc *s, const mlxr_sc_names *names, uint32_t name);

/* ---- schema_lang.c ---- */

/* Takes the reference over; it lives as long as the maker. */
mlxr_status mlxr_sc_own(mlxr_sc *s, mlxr_dfa *d);
/* Strings with a pattern (n bytes), of a format. Made once each. */
mlxr_status mlxr_sc_pattern(mlxr_dfa **out, mlxr_sc *s, const char *pattern, size_t n);
mlxr_status mlxr_sc_format(mlxr_dfa **out, mlxr_sc *s, const char *format);
/* Decoded strings of a case; *out is the maker's. Not for those that are free. */
mlxr_status mlxr_sc_string_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_string *c);
bool mlxr_sc_string_has(const mlxr_sc_string *c, const char *text, size_t n);
/* Numbers of a case as they are written. */
mlxr_status mlxr_sc_number_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_number *c);
mlxr_status mlxr_sc_number_keep(mlxr_sc_plains *out, mlxr_sc *s, const mlxr_sc_number *c,
                                const mlxr_sc_plains *among);
mlxr_status mlxr_sc_names_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_names *names);
/* Strings of a union of cases, decoded: the names that propertyNames allows. */
mlxr_status mlxr_sc_strings_of(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n);
typedef mlxr_status (*mlxr_sc_dfa_op)(mlxr_dfa **out, const mlxr_dfa *a, const mlxr_dfa *b,
                                      const mlxr_lang_limits *limits, mlxr_error *err);
mlxr_status mlxr_sc_op(mlxr_dfa **out, mlxr_sc *s, mlxr_sc_dfa_op op, const mlxr_dfa *a, const mlxr_dfa *b);
mlxr_status mlxr_sc_any_text(mlxr_dfa **out, mlxr_sc *s);
/* How JSON writes the strings of d between the quotes; d is the maker's. */
mlxr_status mlxr_sc_json_text(mlxr_dfa **out, mlxr_sc *s, mlxr_dfa *d);

/* ---- schema_emit.c, schema_object.c, schema_array.c, schema_json.c ---- */

/* schema.c: a maker, not yet prepared for emitting. It is to be ended even if that failed. */
mlxr_status mlxr_sc_begin(mlxr_sc *s, mlxr_grammar_builder *b, const char *name,
                          const mlxr_schema_options *options, mlxr_error *err);
void mlxr_sc_end(mlxr_sc *s);
/* Defines the rules that have been called so far. */
mlxr_status mlxr_sc_flush(mlxr_sc *s);
/* null, false or true in the notation. */
const char *mlxr_sc_word(const mlxr_sc *s, mlxr_value_type type);
/* The notation's way to write a name of a member that is a plain word: without quotes, or as any other string. */
bool mlxr_sc_is_bare_name(const mlxr_sc *s, const char *text, size_t n);

/* The rule of a formula, and all that it calls. */
mlxr_status mlxr_sc_emit(mlxr_rule *out, mlxr_sc *s, mlxr_sc_formula root);
/* A value that is f, to be used once. */
mlxr_status mlxr_sc_value(mlxr_expr *out, mlxr_sc *s, mlxr_sc_formula f);
/* All scalars of a union, each written in one way; *out NULL: there is an array or an object among them. */
mlxr_status mlxr_sc_scalar_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n);
mlxr_status mlxr_sc_define_object(mlxr_sc *s, mlxr_rule r, const mlxr_sc_case *c);
mlxr_status mlxr_sc_define_array(mlxr_sc *s, mlxr_rule r, const mlxr_sc_case *c);

/* White space and what is shared; each gives an expression to be used once. */
mlxr_status mlxr_sc_prepare(mlxr_sc *s);
mlxr_expr mlxr_sc_open(mlxr_sc *s, char bracket);  /* a bracket and white space behind it */
mlxr_expr mlxr_sc_close(mlxr_sc *s, char bracket); /* white space and a bracket */
mlxr_expr mlxr_sc_comma(mlxr_sc *s);
mlxr_expr mlxr_sc_colon(mlxr_sc *s); /* what may stand behind it */
mlxr_expr mlxr_sc_quoted(mlxr_sc *s, mlxr_expr inside);
mlxr_expr mlxr_sc_use(mlxr_sc *s, mlxr_dfa *d);
mlxr_rule mlxr_sc_json(mlxr_sc *s); /* any value */
/* Strings of min to max characters, or of a language of JSON texts: a shared rule. */
mlxr_status mlxr_sc_text_rule_of(mlxr_rule *out, mlxr_sc *s, mlxr_dfa *d, size_t min, size_t max);

/* An automaton in the making: mlxr_gb_graph. */
typedef struct mlxr_sc_graph {
    mlxr_sc *s;
    mlxr_gb_edge *edges;
    size_t n, cap;
    bool failed;
} mlxr_sc_graph;
void mlxr_sc_edge(mlxr_sc_graph *g, size_t from, size_t to, mlxr_expr e);
void mlxr_sc_skip(mlxr_sc_graph *g, size_t from, size_t to); /* by the empty text */
mlxr_expr mlxr_sc_graph_done(mlxr_sc_graph *g, size_t n_states, size_t accepting);
void mlxr_sc_graph_clear(mlxr_sc_graph *g);

#endif
