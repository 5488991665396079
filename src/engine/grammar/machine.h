/* machine: the inside of grammar.h, for builder.c, compile.c, pieces.c, places.c, matcher.c, vocabulary.c, mask.c, masker.c.
 *
 *   expressions --compile--> nodes --places--> determinised places --matcher--> configurations --mask--> tokens
 *
 * A node of the automaton reads a text or a piece of a regular language, calls a rule, or ends a body. A position is a node
 * and how far it has been read; a place is a set of positions of one body that the same bytes lead to, found as it is met
 * and remembered. A configuration is a place and a stack.
 *
 * Stacks, used names and names are objects of the masker: immutable, each there once (equal ones have one number), collected
 * when there are many. */
#ifndef MLXR_GRAMMAR_MACHINE_H
#define MLXR_GRAMMAR_MACHINE_H

#include "engine/grammar/grammar.h"

#define GM_NONE UINT32_MAX

/* ---- compiled grammar ---- */

typedef enum gm_kind {
    GM_ACCEPT, /* of a body */
    GM_SPLIT,  /* goes on at every one of its edges, without reading */
    GM_TEXT,   /* reads bytes */
    GM_DFA,    /* reads a text of a language */
    GM_CHARS,  /* reads min to max characters of a JSON string */
    GM_UNIQUE, /* reads a text of a language that is not among the used names */
    GM_CALL,   /* of a rule */
    GM_REPEAT  /* of a body, counted */
} gm_kind;

typedef struct gm_node {
    uint8_t kind;
    uint32_t rule; /* whose body it is in */
    uint32_t out;  /* the node behind it; SPLIT: the first of its edges */
    uint32_t
        a; /* SPLIT: number of edges; TEXT: offset of the bytes; DFA, UNIQUE: index; CALL, REPEAT: rule */
    uint32_t b; /* TEXT: number of bytes; CHARS, REPEAT: index of the bounds */
} gm_node;

typedef struct gm_bounds {
    uint64_t min, max; /* UINT64_MAX: none */
} gm_bounds;

typedef struct gm_dfa {
    mlxr_dfa *d;
    bool own;         /* made by pieces.c, not counted */
    uint8_t *goes_on; /* [n_states]: whether some byte leads on from there */
    uint64_t
        *counts; /* [n_states] of texts from there on, UINT64_MAX no end; NULL where no UNIQUE reads it */
} gm_dfa;

typedef struct gm_rule {
    char *name;
    uint32_t entry, accept; /* nodes */
    uint32_t from;          /* the builder's number */
    uint32_t owner;         /* itself; of the body of a counted repeat: the rule it is part of */
    bool counted;           /* body of a counted repeat: */
    uint32_t repeat;        /* its node */
    bool nullable;          /* takes the text of no bytes */
    bool has_unique;        /* itself, or one of its counted bodies, has a GM_UNIQUE */
    uint32_t first_need, n_needs;
    mlxr_text *members;
    size_t n_members;
} gm_rule;

/* Of the names of one finite language in one body: how many any way from each node to the end must still read. */
typedef struct gm_need {
    uint32_t dfa;
    uint64_t count;  /* texts of the language */
    uint32_t max;    /* of least[] */
    uint32_t first;  /* node of the body */
    uint32_t *least; /* [nodes of the body], UINT32_MAX: no way */
} gm_need;

struct mlxr_grammar {
    unsigned n_refs; /* atomic */
    mlxr_grammar_limits limits;
    gm_node *nodes;
    uint32_t *edges;
    char *texts;
    gm_bounds *bounds;
    gm_dfa *dfas;
    gm_rule *rules;
    gm_need *needs;
    uint32_t n_nodes, n_edges, n_texts, n_bounds, n_dfas, n_rules, n_needs;
    uint32_t root;       /* rule */
    uint32_t json_chars; /* index of the automaton that mlxr_gb_chars(0, no bound) is, GM_NONE: not used */
    bool has_nullable_repeat; /* a counted one */
    uint8_t class_of[256];    /* bytes that no piece tells apart */
    uint8_t byte_of[256];     /* one of each class */
    unsigned n_classes;
    mlxr_arena arena; /* names, members */
    size_t n_bytes;
};

static inline uint32_t gm_dfa_step(const gm_dfa *d, uint32_t state, uint8_t byte)
{
    return mlxr_dfa_step(d->d, state, byte);
}

/* ---- pieces (pieces.c): automata of our own ---- */

/* Characters of a JSON string with all its escapes: between two in state 0. */
enum { GM_CHARS_STATES = 20, GM_CHARS_DEAD = 255 };
uint8_t gm_chars_step(uint8_t state, uint8_t byte);
bool gm_chars_any(mlxr_dfa **out);
/* Texts with none of the given in them (until false), or that end with the first of them. false: out of memory. */
mlxr_status gm_search(mlxr_dfa **out, const char *const *texts, size_t n, bool until, size_t max_states,
                      mlxr_error *err);
void gm_dfa_free_own(mlxr_dfa *d);
void gm_dfa_drop(gm_dfa *d); /* builder.c */

/* ---- builder's expressions (builder.c), for compile.c ---- */

typedef enum gb_kind {
    GB_EMPTY,
    GB_NEVER,
    GB_TEXT,
    GB_DFA,
    GB_CHARS,
    GB_UNIQUE,
    GB_SEQ,
    GB_ALT,
    GB_OPTIONAL,
    GB_REPEAT,
    GB_GRAPH,
    GB_CALL
} gb_kind;

typedef struct gb_expr {
    uint8_t kind;
    bool used;      /* part of another expression or of a rule */
    uint16_t depth; /* of nesting */
    uint32_t a,
        n; /* TEXT: offset, bytes. DFA, UNIQUE: index. SEQ, ALT: first child in pool, number. OPTIONAL, REPEAT: child.
                       * GRAPH: place in pool, states. CALL: rule */
    uint64_t size;   /* nodes that it becomes, about */
    size_t min, max; /* CHARS, REPEAT */
} gb_expr;

typedef struct gb_rule {
    char *name;
    mlxr_expr body;
    mlxr_text *members;
    size_t n_members;
} gb_rule;

struct mlxr_grammar_builder {
    mlxr_grammar_limits limits;
    mlxr_arena arena;
    gb_expr *exprs;
    uint32_t *pool;
    char *texts;
    gm_dfa *dfas;
    gb_rule *rules;
    size_t n_exprs, cap_exprs, n_pool, cap_pool, n_texts, cap_texts, n_dfas, cap_dfas, n_rules, cap_rules;
    mlxr_strtab dfa_by_hash; /* equal automata are kept once */
    uint32_t json_chars;
    mlxr_error error;
    bool failed, finished;
};

/* A repeat is written out when it becomes no more nodes than this, else it is counted. */
enum { GM_WRITTEN_OUT = 64, GM_MAX_NESTING = 2000 };
/* One call may look at max_configurations times so many configurations. */
enum { GM_STEPS = 3000 };

/* array[cap] of elements of `size` grows so that n + more fit. */
bool gm_grow(void *array, size_t *cap, size_t n, size_t more, size_t size);

/* ---- masker's objects (places.c) ---- */

typedef enum gm_obj_kind {
    GM_FREE,
    GM_FRAME_CALL,   /* a: the place to go on at, b: the names used there */
    GM_FRAME_REPEAT, /* a: the node, n: runs so far */
    GM_USED,         /* a: the name that was added to parent */
    GM_NAME          /* a: the byte that was added to parent */
} gm_obj_kind;

enum {
    GM_FRAME_BOTTOM = 0, /* of an answer */
    GM_FRAME_OPEN = 1,   /* whatever is under the configuration a mask is made for */
    GM_USED_NONE = 0,
    GM_USED_OPEN = 2, /* whatever was used there: k->open_used */
    GM_NAME_EMPTY = 0,
    GM_OBJ_FIRST = 3
};

typedef struct gm_obj {
    uint8_t kind, mark;
    uint32_t parent, a, b;
    uint32_t depth; /* frames, names: how many */
    uint32_t next;  /* in its slot, or in the free list */
    uint64_t n;
    uint64_t uid; /* never used again */
} gm_obj;

/* ---- places ---- */

enum { GM_DEAD = 0, GM_UNKNOWN = UINT32_MAX };

typedef struct gm_exit {
    uint32_t rule; /* called */
    uint32_t ret;  /* the place behind it, or GM_UNKNOWN */
} gm_exit;

typedef struct gm_place {
    uint32_t *next; /* [n_classes] or NULL */
    bool simple;    /* nothing but positions that read */
    bool alive, mark;
    bool accepts, has_special;
    bool only_accepts; /* nothing but that */
    bool knows_first;
    uint32_t n_items, n_reading, n_exits;
    uint64_t *items;  /* [n_items] node << 32 | how far, sorted */
    gm_exit *exits;   /* calls */
    uint32_t rule;    /* whose body */
    uint32_t variant; /* what is left of finite sets of names: see gm_variant */
    uint32_t hash_next;
    uint64_t first[4]; /* bytes that its own positions read, once knows_first */
    uint64_t uid;
} gm_place;

/* How many names of each of a rule's finite languages (gm_need) are left, where they may not be enough: places of a variant
 * lack the positions that need more. */
typedef struct gm_variant {
    uint32_t owner;
    uint64_t *left; /* [n_needs] */
} gm_variant;

/* ---- configurations ---- */

typedef struct gm_config {
    uint32_t kind; /* GM_ACCEPT: a place; GM_CHARS, GM_UNIQUE: inside of one of these */
    uint32_t at;   /* place or node */
    uint32_t frame, used;
    uint32_t state, name; /* CHARS, UNIQUE; name of UNIQUE */
    uint64_t count;       /* CHARS: characters that are complete */
} gm_config;
enum { GM_PLACE = GM_ACCEPT };

typedef struct gm_set {
    gm_config *c;
    uint32_t *fresh; /* frames on top that were pushed without reading since */
    size_t n, cap;
    uint32_t *slots; /* [n_slots] index + 1, when large */
    size_t n_slots;
    bool ends; /* a text is complete here */
} gm_set;

struct gm_memo;

struct mlxr_masker {
    mlxr_grammar *g;
    const mlxr_vocabulary *v;
    struct mlxr_matcher *matchers;
    /* A failure on the way; calls that find one give up. */
    mlxr_status status;
    mlxr_error error;

    gm_place *places;
    size_t n_places, cap_places; /* slots, the first is GM_DEAD's */
    size_t n_alive;
    uint32_t free_place;
    uint32_t *place_slots;
    size_t n_place_slots;
    uint32_t *node_place; /* [n_nodes] the place of a node with no variant */
    struct gm_recent {
        uint32_t node, variant, place; /* variant 0: free */
    } recent[256];                     /* those with one, the last for each slot */
    uint64_t next_uid;

    gm_obj *objs;
    size_t n_objs, cap_objs, n_free_objs;
    uint32_t free_obj;
    uint32_t *obj_slots;
    size_t n_obj_slots;
    size_t collect_at; /* objects */

    struct gm_variant *variants; /* the first is every rule's with enough names left */
    size_t n_variants, cap_variants;
    mlxr_buf bytes; /* scratch */

    /* Scratch of closures. */
    uint32_t *stamp; /* [n_nodes] */
    uint32_t now;
    uint32_t *stack;
    size_t n_stack, cap_stack;
    uint64_t *items;
    size_t n_items, cap_items;

    gm_set set[3];
    uint32_t *work;
    size_t n_work, cap_work;

    /* While a mask is made: */
    uint32_t open_used;  /* what GM_USED_OPEN stands for */
    bool open_consulted; /* it mattered */
    bool lenient;        /* ways that break a limit are left out */
    bool left_out;       /* there was one */
    size_t n_steps;      /* configurations looked at in this call */
    uint32_t *left;      /* ends at GM_FRAME_OPEN: the names used there */
    size_t n_left, cap_left;
    size_t table_bytes;   /* of places and objects */
    struct gm_memo *memo; /* masks (mask.c) */
};

struct mlxr_matcher {
    mlxr_masker *k;
    struct mlxr_matcher *prev, *next;
    gm_set set;
    bool at_start; /* one more space may come */
};

/* vocabulary.c */
bool gm_vocabulary_strips(const mlxr_vocabulary *v);

/* places.c */
bool gm_tables_init(mlxr_masker *k);
void gm_tables_free(mlxr_masker *k);
/* The following give 0 (GM_DEAD) or GM_NONE and set k->status when they fail. */
uint32_t gm_place_of_node(mlxr_masker *k, uint32_t node, uint32_t variant);
/* The place without one of its positions. */
uint32_t gm_place_without(mlxr_masker *k, uint32_t place, uint64_t item);
uint32_t gm_place_next(mlxr_masker *k, uint32_t place, uint8_t byte);
uint32_t gm_exit_return(mlxr_masker *k, uint32_t place, uint32_t i_exit);
void gm_place_first(mlxr_masker *k, uint32_t place);
uint32_t gm_obj_make(mlxr_masker *k, gm_obj_kind kind, uint32_t parent, uint32_t a, uint32_t b, uint64_t n);
/* Notes that a choice depends on the names of the chain. */
void gm_consult(mlxr_masker *k, uint32_t used);
bool gm_is_used(mlxr_masker *k, uint32_t used, uint32_t name);
/* The variant of a rule's places behind these names. */
uint32_t gm_variant_of(mlxr_masker *k, uint32_t rule, uint32_t used);
/* Whether enough names are left for the run of a counted repeat behind `count` ones, and all that must come behind it. */
bool gm_enough_for_run(mlxr_masker *k, const gm_node *node, uint64_t count, uint32_t used);
/* Whether a text of the language could still end well: the inside of a GM_UNIQUE. */
bool gm_unique_open(mlxr_masker *k, const gm_node *node, uint32_t state, uint32_t name, uint32_t used);
/* Gives back what no matcher needs. At safe points alone. */
void gm_collect(mlxr_masker *k, bool places_too);
mlxr_status gm_fail(mlxr_masker *k, mlxr_status st, const char *message);
/* Whether work that failed may go on without what failed. */
bool gm_pardon(mlxr_masker *k);
mlxr_status gm_told(mlxr_masker *k, mlxr_error *err);
uint32_t gm_place_behind(mlxr_masker *k, const gm_node *n, uint32_t used);
bool gm_reads(const mlxr_masker *k, const gm_config *c);
uint32_t *gm_place_row(mlxr_masker *k, uint32_t place); /* all GM_UNKNOWN at first; NULL: out of memory */

/* mask.c */
enum { GM_MEMO_BYTES = 96 << 20 }; /* the most that masks take before old ones are given back */
void gm_memo_free(mlxr_masker *k);
size_t gm_memo_bytes(const mlxr_masker *k);
void gm_memo_trim(mlxr_masker *k, size_t bytes);

/* matcher.c */
void gm_set_clear(gm_set *s);
void gm_set_free(gm_set *s);
bool gm_set_copy(gm_set *to, const gm_set *from);
/* Adds c and all that it leads to without reading. */
bool gm_set_add(mlxr_masker *k, gm_set *s, const gm_config *c, uint32_t fresh);
/* The end of a run of a counted repeat's body, whose frame is f, on a stack of which `below` is the top. */
bool gm_add_run(mlxr_masker *k, gm_set *s, const gm_obj *f, uint32_t below, uint32_t used);
/* What c becomes by a byte, added to s. */
bool gm_step_config(mlxr_masker *k, gm_set *s, const gm_config *c, uint8_t byte);
bool gm_step(mlxr_masker *k, gm_set *to, const gm_set *from, uint8_t byte);
bool gm_start(mlxr_masker *k, gm_set *s);
/* Gives back what has become too much; between calls alone. */
void gm_safe_point(mlxr_masker *k);
/* Moves m on by bytes that fit; else *fits false and m stays. */
mlxr_status gm_accept_bytes(mlxr_matcher *m, const uint8_t *bytes, size_t n, bool *fits, mlxr_error *err);
/* The bytes that a configuration reads next, added to first[4]. */
void gm_config_first(mlxr_masker *k, const gm_config *c, uint64_t first[4]);

#endif
