/* text/template: the Jinja language of chat templates. Private to the room.
 *
 * Semantics follow Python's jinja2 3.1 in the immutable sandbox that transformers sets up for chat templates:
 * trim_blocks and lstrip_blocks on, loop controls, the generation tag, autoescape off, no loader.
 *
 *   source -> lexer.c (tokens) -> parser.c (nodes, ast.c) -> scope.c (names become slots) = mlxr_template
 *   mlxr_template + context -> exec.c (statements) and expr.c (expressions) over values -> text
 *
 * A finished template is never written to again, so threads share it. A render owns its rt (one thread): every
 * value made while rendering lies in the rt's arena and goes with it. Values are Python's; an operation that
 * raises returns a value of type T_ERROR, and rt.exc says what was raised.
 */
#ifndef MLXR_TEMPLATE_PRIVATE_H
#define MLXR_TEMPLATE_PRIVATE_H

#include <jansson.h>

#include "base/base.h"

typedef struct rt rt;
typedef struct node node;
typedef struct str str;
typedef struct dict dict;

/* ---- values ---- */

typedef enum vtype {
    T_MISSING, /* no value: an argument not given, a slot not yet set */
    T_ERROR,   /* an exception is on its way: rt.exc */
    T_NONE,
    T_BOOL,
    T_INT,
    T_FLOAT,
    T_STR,
    T_LIST,
    T_TUPLE,
    T_DICT,
    T_RANGE,
    T_UNDEF,
    T_NAMESPACE,
    T_MACRO,
    T_LOOP,
    T_ITER,
    T_VIEW,
    T_METHOD,
    T_FUNC,
    T_CYCLER,
    T_JOINER,
    T_SELF,
    T_BLOCKREF,
    T_SLICE,
    T_BYTES
} vtype;

enum { F_MARKUP = 1, F_GROUP = 2, F_ROOM = 4 }; /* of a string; of a tuple made by groupby; see str_concat */
enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };    /* flag of T_VIEW */

typedef struct val {
    uint8_t type, flag;
    union {
        int64_t i; /* T_INT; T_BOOL: 0 or 1 */
        double f;
        str *s;         /* T_STR, T_BYTES */
        struct list *l; /* T_LIST, T_TUPLE */
        dict *d;        /* T_DICT, T_VIEW, T_NAMESPACE */
        struct range *range;
        struct undef *u;
        struct macro *macro;
        struct loop *loop;
        struct iter *it;
        struct method *m;
        const struct builtin *fn;
        struct cycler *cy;
        struct joiner *jo;
        struct blockref *br;
        struct slice *sl;
        struct ctx *ctx;
    };
} val;

struct str {
    const char *s;  /* not NUL-terminated */
    size_t n;       /* bytes */
    size_t n_chars; /* code points; SIZE_MAX: not counted yet */
    uint64_t hash;  /* 0: not computed yet */
};

typedef struct list {
    val *v;
    size_t n, cap;
} list;

typedef struct range {
    int64_t start, stop, step;
    size_t n;
} range;

typedef struct entry {
    val key, value;
    uint64_t hash;
} entry;

/* Insertion-ordered. Nothing is ever removed. */
struct dict {
    entry *e;
    size_t n, cap;
    uint32_t *index; /* open addressing over e, 0: free, else i + 1; NULL while the dict is small */
    size_t n_index;
};

typedef enum exc_kind {
    EXC_NONE,
    EXC_TYPE,
    EXC_VALUE,
    EXC_KEY,
    EXC_INDEX,
    EXC_ATTRIBUTE,
    EXC_OVERFLOW,
    EXC_ZERO_DIVISION,
    EXC_ASSERTION,
    EXC_RUNTIME,     /* jinja2 TemplateRuntimeError */
    EXC_UNDEFINED,   /* jinja2 UndefinedError */
    EXC_SECURITY,    /* jinja2 SecurityError */
    EXC_FILTER_ARG,  /* jinja2 FilterArgumentError */
    EXC_NOT_FOUND,   /* jinja2 TemplateNotFound */
    EXC_RAISED,      /* raise_exception */
    EXC_UNSUPPORTED, /* the reference has it, this engine does not */
    EXC_LIMIT,
    EXC_NOMEM
} exc_kind;

typedef struct undef {
    const char *hint; /* NULL: built from the rest */
    val obj;          /* T_MISSING: a variable */
    val name;
    exc_kind exc;
} undef;

typedef struct slice {
    val start, stop, step;
} slice;

/* ---- calls ---- */

typedef struct args {
    val *pos;
    size_t n;
    str **kw_name;
    val *kw;
    size_t n_kw;
} args;

enum { BIND_POSONLY = 1, BIND_VARARGS = 2, BIND_UNSAFE = 4, BIND_CLASS = 8 };

/* A function of the language. self: the piped or receiving value. a: one per params, T_MISSING where not given;
 * with BIND_VARARGS a is NULL and raw has everything. */
typedef val (*builtin_fn)(rt *r, val self, val *a, const args *raw);
enum { MAX_PARAMS = 6 };
typedef struct builtin {
    const char *name;
    builtin_fn fn;
    uint8_t n_required, n_params, flags;
    const char *params[MAX_PARAMS];
} builtin;

typedef struct method {
    val self;
    const builtin *fn;
} method;

typedef struct cycler {
    list *items;
    size_t pos;
} cycler;

typedef struct joiner {
    val sep;
    bool used;
} joiner;

/* ---- iteration ---- */

typedef struct iter iter;
typedef int (*iter_fn)(rt *r, iter *it, val *out); /* 1: *out is the next; 0: the end; -1: raised */
struct iter {
    iter_fn next;
    const char *type_name;
    val src;
    size_t i;
    iter *in;
    void *state;
};

/* ---- nodes ---- */

typedef enum node_kind {
    /* expressions */
    N_CONST,
    N_DATA, /* template text, in Output only */
    N_NAME,
    N_NSREF,
    N_TUPLE,
    N_LIST,
    N_DICT, /* items: key, value, key, value */
    N_AND,
    N_OR,
    N_NOT,
    N_NEG,
    N_POS,
    N_ADD,
    N_SUB,
    N_MUL,
    N_DIV,
    N_FLOORDIV,
    N_MOD,
    N_POW,
    N_COMPARE, /* a, then items with ops */
    N_CONCAT,
    N_COND, /* a if test else b (NULL) */
    N_GETATTR,
    N_GETITEM, /* a[b] */
    N_SLICE,   /* a:b:c, each may be NULL */
    N_CALL,    /* a(call) */
    N_FILTER,  /* a (NULL: the block's text) | name(call) */
    N_TEST,    /* a is name(call) */
    /* statements */
    N_OUTPUT,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK, /* a NULL: the generation tag */
    N_FILTERBLOCK,
    N_WITH,
    N_BLOCK,
    N_EXTENDS,
    N_INCLUDE,
    N_IMPORT,
    N_FROMIMPORT,
    N_AUTOESCAPE,
    N_BREAK,
    N_CONTINUE
} node_kind;

typedef enum cmp_op { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOTIN } cmp_op;
enum { CTX_LOAD, CTX_STORE, CTX_PARAM };
enum { ESC_OFF, ESC_ON, ESC_VOLATILE };

typedef struct nodes {
    node **v;
    size_t n, cap;
} nodes;

/* Where a name lives: slot of the function that is `hops` functions out. */
typedef struct ref {
    uint32_t slot;
    uint16_t hops;
} ref;

typedef struct call_args {
    nodes pos;
    str **kw_name;
    nodes kw;
    node *dyn_args, *dyn_kwargs;
} call_args;

/* What entering a scope does, in this order (jinja2's idtracking). */
typedef enum load_action { LOAD_PARAM, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED } load_action;
typedef struct load_op {
    load_action action;
    uint32_t slot;
    ref src;   /* LOAD_ALIAS */
    str *name; /* LOAD_RESOLVE */
} load_op;
typedef struct frame_info {
    load_op *ops;
    size_t n;
} frame_info;

/* A piece with slots of its own: the template, a block, a macro, a recursive loop's body, a loop's filter. */
typedef struct function {
    uint32_t n_slots;
    frame_info frame;
} function;

struct node {
    uint8_t kind, ctx, escape, height_pad;
    bool flag;     /* FOR: recursive; BLOCK: scoped; INCLUDE: ignore missing; CONCAT: constant */
    bool flag2;    /* FOR: extended (uses loop); BLOCK: required */
    bool toplevel; /* assignments are exported to blocks */
    uint32_t line, height;
    str *name;       /* NAME, NSREF, GETATTR, FILTER, TEST, MACRO, BLOCK */
    str *attr;       /* NSREF */
    val value;       /* CONST, DATA */
    ref ref;         /* NAME, NSREF, MACRO, IMPORT */
    node *a, *b, *c; /* as the kind says */
    nodes items;     /* elements, targets */
    nodes body, orelse;
    uint8_t *ops; /* COMPARE: cmp_op per item */
    call_args *call;
    const builtin *fn;           /* FILTER, TEST: NULL when unknown */
    const builtin *attr_of[4];   /* GETATTR: the method of str, list, tuple, dict by this name */
    struct for_info *loop;       /* FOR */
    struct macro_info *macro;    /* MACRO, CALLBLOCK */
    frame_info frame;            /* SETBLOCK, FILTERBLOCK, WITH, AUTOESCAPE */
    frame_info frame2;           /* BLOCK, scoped: the locals it is given */
    function *fn_info;           /* BLOCK */
    struct import_name *imports; /* FROMIMPORT */
    size_t n_imports;
};

typedef struct for_info {
    node *target, *iter, *test;
    node *test_target; /* target as the filter function sees it */
    function test_fn;
    function body_fn; /* recursive */
    frame_info body_frame, else_frame;
    ref loop_ref;
} for_info;

typedef struct macro_info {
    function fn;
    nodes args, defaults; /* names (N_NAME); the last defaults.n of them have defaults */
    ref *arg_refs;        /* slots of this function */
    bool caller, kwargs, varargs, explicit_caller;
    uint32_t caller_slot, kwargs_slot, varargs_slot;
} macro_info;

typedef struct import_name {
    str *name, *alias;
    ref ref;
} import_name;

struct mlxr_template {
    mlxr_arena arena;
    char *name;
    nodes body;
    function root;
    uint32_t self_slot; /* UINT32_MAX: self is not used */
    node **blocks;
    size_t n_blocks;
    size_t n_source;
};

/* ---- parsing ---- */

typedef enum tok {
    TK_EOF,
    TK_DATA,
    TK_BLOCK_BEGIN,
    TK_BLOCK_END,
    TK_VAR_BEGIN,
    TK_VAR_END,
    TK_NAME,
    TK_STRING,
    TK_INTEGER,
    TK_FLOAT,
    TK_ADD,
    TK_SUB,
    TK_DIV,
    TK_FLOORDIV,
    TK_MUL,
    TK_MOD,
    TK_POW,
    TK_TILDE,
    TK_LBRACKET,
    TK_RBRACKET,
    TK_LPAREN,
    TK_RPAREN,
    TK_LBRACE,
    TK_RBRACE,
    TK_EQ,
    TK_NE,
    TK_GT,
    TK_GTEQ,
    TK_LT,
    TK_LTEQ,
    TK_ASSIGN,
    TK_DOT,
    TK_COLON,
    TK_PIPE,
    TK_COMMA,
    TK_SEMICOLON
} tok;

typedef struct token {
    tok type;
    uint32_t line;
    const char *s; /* text of names, data and strings (decoded) */
    size_t n;
    double f;
    int64_t i;
} token;

typedef struct parse parse;
struct parse {
    mlxr_template *t;
    mlxr_error *err;
    mlxr_status status; /* not OK: a failure is on its way */
    token *tokens;      /* malloc'ed */
    size_t n_tokens, cap_tokens, at;
    unsigned depth;
    const char **tag_stack;
    size_t n_tags, cap_tags;
    const void **end_stack;
    size_t n_ends, cap_ends;
    uint64_t work;
};

/* Fails with MLXR_E_TEMPLATE and "... line N". Always false. */
bool parse_fail(parse *p, uint32_t line, const char *fmt, ...) MLXR_PRINTF(3, 4);
bool parse_fail_status(parse *p, mlxr_status st, const char *fmt, ...) MLXR_PRINTF(3, 4);
bool lex_source(parse *p, const char *source, size_t n);
const char *tok_name(tok t); /* as messages describe it */
bool parse_template(parse *p);
bool scope_template(parse *p);

node *node_new(parse *p, node_kind kind, uint32_t line);
bool nodes_add(parse *p, nodes *list_, node *x);
str *parse_str(parse *p, const char *s, size_t n);  /* hash and length computed */
void *parse_alloc(parse *p, size_t n, size_t size); /* zeroed */
/* Calls fn on each child in the order of jinja2's node fields; stops when it returns false. */
bool node_children(const node *x, bool (*fn)(void *ud, node *child), void *ud);
node *node_copy_target(parse *p, const node *x);
node *node_fold(parse *p, node *x); /* tuples and lists of constants become constants */
const builtin *filter_find(const char *name, size_t n);
const builtin *test_find(const char *name, size_t n);
const builtin *method_find(vtype type, const char *name, size_t n);

/* ---- a render ---- */

typedef struct exception {
    exc_kind kind;
    char *message;
} exception;

/* What names resolve to: vars set at top level, then locals, then the context around it. */
typedef struct ctx {
    dict *vars;
    dict *locals;
    struct ctx *parent;
} ctx;

typedef struct env {
    val *slots;
    struct env *parent;
    ctx *ctx;
} env;

typedef struct macro {
    const macro_info *info;
    str *name; /* NULL: anonymous */
    const node *node;
    env *parent;
} macro;

typedef struct loop {
    val iterable;
    iter it;
    int64_t index0, length; /* length -1: not known */
    val after, cur, before, last_changed;
    const node *node; /* recursive only */
    env *parent;
    int64_t depth0;
} loop;

typedef struct blockref {
    const node *block;
    ctx *ctx;
} blockref;

/* Text under construction: in the rt's arena, or, for the output itself, in memory that the caller will own. */
typedef struct sb {
    char *p;
    size_t n, cap;
    bool failed; /* the rt has the exception */
    bool heap;
} sb;

struct rt {
    const mlxr_template *t;
    mlxr_template_limits limits;
    mlxr_arena arena;
    dict *context_dict;
    sb *out;
    exception exc;
    uint64_t steps;
    unsigned depth;  /* macro calls and recursive loops */
    unsigned nest;   /* nodes being evaluated */
    unsigned vdepth; /* nested values being walked */
    bool autoescape;
    int64_t now;
    uint64_t random;
};

enum { MAX_NEST = 2000, MAX_VALUE_DEPTH = 500, MAX_NODE_HEIGHT = 400, MAX_PARSE_DEPTH = 600 };

typedef enum flow { FLOW_ERROR, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

/* Where a render's variables come from, and which template it is. */
typedef struct render_input {
    json_t *json;     /* the context as an object, or NULL and then */
    const char *text; /* as JSON text */
    size_t n_text;
    const json_t *defaults; /* variables for what the context lacks; may be NULL */
    const mlxr_template *t; /* the template, or NULL and then */
    const mlxr_template *(*choose)(void *ud, bool has_tools, mlxr_error *err); /* NULL: err is filled */
    void *ud;
} render_input;
mlxr_status template_render(char **out_text, size_t *out_n, const render_input *in, int64_t now,
                            const mlxr_template_limits *limits, mlxr_error *err);
/* The values of a JSON text; T_ERROR: raised, or EXC_NONE and err filled for text that is no JSON. */
val v_from_json_text(rt *r, const char *text, size_t n, mlxr_error *err);

/* render.c: memory, errors, text */
void *rt_alloc(rt *r, size_t n_bytes); /* NULL: raised */
void *rt_alloc_array(rt *r, size_t n, size_t size);
/* Its symbol is not the C library's, which a program that links this statically may want. */
#define raise mlxr_template_raise
val raise(rt *r, exc_kind kind, const char *fmt, ...) MLXR_PRINTF(3, 4);
void clear_exc(rt *r);
bool is_lookup_error(const rt *r); /* TypeError or LookupError, as getitem catches them */
bool step(rt *r, uint64_t n);
void sb_add(rt *r, sb *b, const char *s, size_t n);
void sb_str(rt *r, sb *b, const char *s);
void sb_char(rt *r, sb *b, char c);
void sb_cp(rt *r, sb *b, uint32_t cp);
void sb_fill(rt *r, sb *b, uint32_t cp, size_t count);
char *sb_reserve(rt *r, sb *b, size_t n);
val sb_val(rt *r, sb *b); /* the text as a string value; T_ERROR when failed */
bool out_add(rt *r, const char *s, size_t n);

/* values */
#define IS_ERR(v) ((v).type == T_ERROR)
static inline val v_err(void)
{
    return (val){.type = T_ERROR};
}
static inline val v_missing(void)
{
    return (val){.type = T_MISSING};
}
static inline val v_none(void)
{
    return (val){.type = T_NONE};
}
static inline val v_bool(bool b)
{
    val v = {.type = T_BOOL};
    v.i = b;
    return v;
} /* .i is 0 or 1 too */
static inline val v_int(int64_t i)
{
    val v = {.type = T_INT};
    v.i = i;
    return v;
}
static inline val v_float(double f)
{
    val v = {.type = T_FLOAT};
    v.f = f;
    return v;
}
static inline val v_of_str(str *s)
{
    val v = {.type = T_STR};
    v.s = s;
    return v;
}
static inline val v_of_list(list *l)
{
    val v = {.type = T_LIST};
    v.l = l;
    return v;
}
static inline val v_of_tuple(list *l)
{
    val v = {.type = T_TUPLE};
    v.l = l;
    return v;
}
static inline val v_of_dict(dict *d)
{
    val v = {.type = T_DICT};
    v.d = d;
    return v;
}
static inline val v_of_iter(iter *it)
{
    val v = {.type = T_ITER};
    v.it = it;
    return v;
}
static inline bool is_int_like(val v)
{
    return v.type == T_INT || v.type == T_BOOL;
}
static inline bool is_number(val v)
{
    return v.type == T_INT || v.type == T_BOOL || v.type == T_FLOAT;
}
static inline bool is_markup(val v)
{
    return v.type == T_STR && (v.flag & F_MARKUP);
}

val v_str_borrow(rt *r, const char *s, size_t n); /* the bytes outlive the render */
val v_str_copy(rt *r, const char *s, size_t n);
val v_cstr(rt *r, const char *s); /* a literal of ours */
val v_cp(rt *r, uint32_t cp);
val v_markup(val v); /* v with the flag */
val v_undef_name(rt *r, str *name);
val v_undef_hint(rt *r, const char *fmt, ...) MLXR_PRINTF(2, 3);
val v_undef_attr(rt *r, val obj, val name);
val v_pair(rt *r, val a, val b);
list *list_new(rt *r, size_t cap);
bool list_add(rt *r, list *l, val v);
const char *type_name(val v);
bool truthy(rt *r, val v, bool *out); /* false: raised */
val to_str(rt *r, val v);             /* str(v) */
val soft_str(rt *r, val v);           /* v itself when it is a string, Markup kept */
bool write_str(rt *r, sb *b, val v);
bool write_repr(rt *r, sb *b, val v);
void write_str_repr(rt *r, sb *b, const str *s);
const char *undef_message(rt *r, const undef *u);
val raise_undef(rt *r, const undef *u);
int equal(rt *r, val a, val b);              /* 1, 0, -1 raised */
int compare(rt *r, cmp_op op, val a, val b); /* 1, 0, -1 raised */
int contains(rt *r, val seq, val x);
bool same(val a, val b); /* Python's "is" */
bool hash_value(rt *r, val v, uint64_t *h);
int64_t length_of(rt *r, val v); /* -1: raised */
val v_from_json(rt *r, json_t *j);
bool value_enter(rt *r);
static inline void value_leave(rt *r)
{
    r->vdepth--;
}
val escape_html(rt *r, val v); /* markupsafe.escape */
bool write_escaped(rt *r, sb *b, const char *s, size_t n);

/* dict.c */
dict *dict_new(rt *r, size_t cap);
bool dict_put(rt *r, dict *d, val key, val value);
int dict_get(rt *r, const dict *d, val key, val *out); /* 1, 0, -1 raised (unhashable) */
val *dict_get_str(const dict *d, const str *key);
bool dict_put_cstr(rt *r, dict *d, const char *key, val v);
uint64_t str_hash(str *s);

/* str.c */
size_t str_len(str *s); /* code points */
static inline bool str_ascii(str *s)
{
    return str_len(s) == s->n;
}
size_t str_offset(str *s, size_t i_char); /* byte offset of a code point; s->n past the end */
val str_sub(rt *r, val s, size_t from_byte, size_t to_byte); /* plain, not Markup */
bool str_eq(const str *a, const str *b);
bool str_is(const str *a, const char *b);
size_t bytes_find(const char *h, size_t nh, const char *n, size_t nn); /* SIZE_MAX: none */
size_t bytes_rfind(const char *h, size_t nh, const char *n, size_t nn);
val str_replace(rt *r, str *s, str *old, str *new_, int64_t count);
val str_repeat(rt *r, val s, int64_t n);
val str_concat(rt *r, val a, val b);
val str_strip(rt *r, val s, val chars, bool left, bool right);
val str_pad(rt *r, val s, int64_t width, uint32_t fill,
            int where); /* -1 left-justify, 0 center, 1 right-justify */
typedef struct line_iter {
    const char *s;
    size_t n, at;
} line_iter;
bool line_next(line_iter *it, size_t *from, size_t *to, size_t *to_keep); /* str.splitlines */
val str_case(rt *r, str *s,
             int how); /* 'u' upper, 'l' lower, 't' title, 'c' capitalize, 's' swapcase, 'f' casefold */

/* unicode.c, as Python's str methods see characters */
bool cp_is_space(uint32_t cp);
bool cp_is_printable(uint32_t cp);
bool cp_is_alpha(uint32_t cp);
bool cp_is_decimal(uint32_t cp);
bool cp_is_digit(uint32_t cp);
bool cp_is_numeric(uint32_t cp);
bool cp_is_upper(uint32_t cp);
bool cp_is_lower(uint32_t cp);
bool cp_is_title(uint32_t cp);
bool cp_is_cased(uint32_t cp);
bool cp_is_case_ignorable(uint32_t cp);
bool cp_is_word(uint32_t cp); /* \w of re */
bool cp_is_id_start(uint32_t cp);
bool cp_is_id_continue(uint32_t cp);
int cp_decimal_value(uint32_t cp); /* -1: none */
size_t cp_upper(uint32_t cp, uint32_t out[3]);
size_t cp_lower(uint32_t cp, uint32_t out[3]);
size_t cp_title(uint32_t cp, uint32_t out[3]);
size_t cp_fold(uint32_t cp, uint32_t out[3]);
static inline uint32_t next_cp(const char *s, size_t n, size_t *i)
{
    unsigned char c = (unsigned char)s[*i];
    uint32_t cp;
    size_t k;
    if (c < 0x80) {
        ++*i;
        return c;
    }
    k = mlxr_utf8_decode(s + *i, n - *i, &cp);
    if (!k) {
        ++*i;
        return 0xfffd;
    }
    *i += k;
    return cp;
}
uint32_t prev_cp(const char *s, size_t *i);

/* number.c */
void write_float_repr(rt *r, sb *b, double f);
size_t format_float_repr(char out[40], double f);
bool parse_py_int(rt *r, str *s, int base, val *out); /* int(str, base); false: raised */
bool parse_py_float(rt *r, str *s, double *out);      /* float(str); false: raised ValueError */
val float_to_int(rt *r, double f);
val py_round(rt *r, val v, val ndigits, bool has_ndigits);
double round_to(double x, int64_t ndigits);
bool index_of(rt *r, val v, int64_t *out); /* an int where Python wants __index__; raises TypeError */

/* arith.c */
val arith(rt *r, node_kind op, val a, val b);
val negate(rt *r, val v);
val positive(rt *r, val v);

/* iter.c */
bool iter_init(rt *r, iter *it, val v); /* raises TypeError when not iterable */
bool is_iterable(val v);
static inline int iter_next(rt *r, iter *it, val *out)
{
    return it->next(r, it, out);
}
list *list_from(rt *r, val v); /* NULL: raised */
val iter_make(rt *r, iter_fn next, const char *type_name_);
val reversed_of(rt *r, val v);            /* reversed(v); TypeError when not reversible */
int loop_next(rt *r, loop *l, val *item); /* LoopContext.__next__ */

/* attr.c */
val get_attr(rt *r, val obj, str *name);
val get_item(rt *r, val obj, val key);
val get_item_strict(rt *r, val obj, val key); /* obj[key] of Python: raises KeyError, IndexError, TypeError */
val get_slice(rt *r, val obj, val start, val stop, val step);
val bound_method(rt *r, val self, const builtin *fn);
val loop_attr(rt *r, loop *l, str *name);
bool has_attribute(val obj, str *name);         /* hasattr, apart from items */
val attr_or_missing(rt *r, val obj, str *name); /* getattr; T_MISSING for AttributeError */

/* bind.c */
val call_builtin(rt *r, const builtin *fn, val self, const args *a);
val call_value(rt *r, val callee, const args *a);
bool is_callable(val v);

/* expr.c, exec.c */
val eval(rt *r, const node *x, env *e);
val eval_filter_on(rt *r, const node *x, val input, env *e);
bool eval_args(rt *r, const call_args *c, env *e, args *out);
flow exec_body(rt *r, const nodes *body, env *e);
bool assign(rt *r, const node *target, env *e, val v);
val macro_call(rt *r, macro *m, const args *a);
val loop_recurse(rt *r, loop *l, val iterable);
val block_call(rt *r, const node *block, ctx *c);
val ctx_resolve(rt *r, ctx *c, str *name); /* T_MISSING when absent */
void frame_enter(rt *r, const frame_info *f, env *e);
void frame_leave(const frame_info *f, env *e);
env *env_new(rt *r, const function *fn, env *parent, ctx *c);
static inline val *slot_of(env *e, ref f)
{
    /* NOLINTBEGIN(clang-analyzer-core.NullDereference): scope.c counts hops and slots over these very frames */
    for (uint16_t i = f.hops; i; i--) e = e->parent;
    return &e->slots[f.slot];
    /* NOLINTEND(clang-analyzer-core.NullDereference) */
}

/* filters and friends */
val call_filter_named(rt *r, val name, val x, const args *a);
val call_test_named(rt *r, val name, val x, const args *a);
val percent_format(rt *r, val fmt, val arg);                  /* fmt % arg */
val brace_format(rt *r, val fmt, const args *a, bool is_map); /* fmt.format(...) */
val format_field(rt *r, val v, str *spec);                    /* format(v, spec) */
val tojson_value(rt *r, val v, bool ensure_ascii, val indent, val separators, bool sort_keys);
val global_find(str *name); /* T_MISSING: none of that name */
val dict_construct(rt *r, const args *a, const char *what);
bool sort_values(rt *r, val *v, val *keys, size_t n, bool reverse);  /* stable; keys may be v */
val attr_path(rt *r, val item, val attribute, val dflt, bool lower); /* make_attrgetter */
typedef struct attr_parts {
    val *parts;
    size_t n;
} attr_parts;
bool attr_prepare(rt *r, val attribute, attr_parts *out);
val attr_fetch(rt *r, const attr_parts *p, val item, val dflt, bool lower);

extern const builtin filter_table[];
extern const size_t n_filters;
extern const builtin test_table[];
extern const size_t n_tests;
extern const builtin str_methods[], list_methods[], tuple_methods[], dict_methods[], range_methods[],
    view_methods[], int_methods[], float_methods[], cycler_methods[], loop_methods[], dict_global_methods[],
    bytes_methods[];
extern const size_t n_str_methods, n_list_methods, n_tuple_methods, n_dict_methods, n_range_methods,
    n_view_methods, n_int_methods, n_float_methods, n_cycler_methods, n_loop_methods, n_dict_global_methods,
    n_bytes_methods;

#endif
