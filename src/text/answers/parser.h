/* The parser's inside, private to the room.
 *
 *   push -> text (one buffer) -> parser.c: what is thinking, what content, where a call's marker stands
 *                                parse_call.c: from the marker to the call's own text, then by style
 *                                  parse_json.c, parse_xml.c, parse_pythonic.c, parse_braced.c: one call each
 *                                parse_harmony.c: messages with heads, in place of markers
 *
 * Everything is a step over the text from `at`, which looks as far as it needs and says: done, or more text is needed. A decision
 * is taken only when no text that could follow would change it: that is why cuts do not matter. What a step has looked at
 * it remembers as offsets, so no byte is looked at again and again.
 *
 * Text of a call stays in the buffer until the call is complete, for it may turn out to be content after all. */
#ifndef MLXR_ANSWERS_PARSER_H
#define MLXR_ANSWERS_PARSER_H

#include "base/json.h"
#include "text/answers/answers.h"

/* ---- json_scan.c: one JSON value, byte by byte ---- */

enum { JSON_SCAN_DEPTH = 512 };
typedef enum json_scan_state {
    JS_VALUE,      /* a value must come */
    JS_FIRST_ITEM, /* or "]" */
    JS_FIRST_KEY,  /* or "}" */
    JS_KEY,
    JS_COLON,
    JS_NEXT, /* "," or the end of what is open */
    JS_STRING,
    JS_ESCAPE,
    JS_HEX,
    JS_LITERAL,
    JS_MINUS,
    JS_ZERO,
    JS_INT,
    JS_POINT,
    JS_FRACTION,
    JS_E,
    JS_E_SIGN,
    JS_EXPONENT,
    JS_DONE
} json_scan_state;
typedef struct json_scan {
    uint8_t state, n_hex;
    bool in_key;
    uint16_t depth;
    const char *literal; /* what is left of true, false, null */
    uint64_t objects[JSON_SCAN_DEPTH / 64];
} json_scan;

typedef enum json_scan_result {
    JS_MORE,  /* the byte belongs to the value, which goes on */
    JS_END,   /* the byte is its last */
    JS_ENDED, /* the value (a number) ended before this byte */
    JS_BAD    /* no JSON */
} json_scan_result;

void json_scan_begin(json_scan *s);
json_scan_result json_scan_byte(json_scan *s, char c);
/* All of the text is one value, with white space around it or none. Strict, also where jansson would round or refuse. */
bool json_is_value(const char *text, size_t n);
/* Without the white space between tokens. text is valid. */
void json_compact(mlxr_buf *out, const char *text, size_t n);
/* The characters of a JSON string with its quotes. false: not one, or it has a NUL in it. */
bool json_unquote(mlxr_buf *out, const char *text, size_t n);

/* ---- the parser ---- */

typedef enum step { STEP_ON, STEP_MORE } step;

typedef enum parser_state {
    IN_CONTENT,
    IN_THINKING,
    IN_CALL,
    IN_HEAD, /* harmony */
    IN_BODY  /* harmony */
} parser_state;

/* What a marker does where it is found. */
typedef enum marker_kind {
    MARK_THINK,
    MARK_THINK_END, /* without a beginning */
    MARK_CALLS,     /* calls_open */
    MARK_OTHER,     /* calls_open_other */
    MARK_CALL,      /* call_open */
    MARK_NAME,      /* name_open, where it comes first */
    MARK_CLOSE,     /* behind a call: what may close it, dropped */
    MARK_CALLS_CLOSE,
    MARK_HEAD, /* head_open */
    MARK_DROP
} marker_kind;
typedef struct answer_marker {
    const char *text;
    size_t n;
    marker_kind kind;
    bool first_only; /* only where a part begins */
} answer_marker;
enum { MAX_MARKERS = 24, MAX_NAME = 512, MAX_HEAD = 1024, MAX_LITERAL_DEPTH = 64 };

typedef enum call_phase {
    CALL_OPENS,    /* markers before the call */
    CALL_ID_FIRST, /* text before name_open */
    CALL_NAME,
    CALL_NAME_END,  /* attributes behind it */
    CALL_ID,        /* behind id_open */
    CALL_PAYLOAD,   /* JSON, pythonic: what comes first */
    CALL_ITEM,      /* in a list: an item, or its end */
    CALL_NEXT,      /* behind an item: a comma, another, or the end */
    CALL_OBJECT,    /* a call as a JSON object */
    CALL_ARGUMENTS, /* NAME_JSON, harmony: a JSON object */
    CALL_PARAMETER, /* XML: a key or the end */
    CALL_KEY,
    CALL_ATTRIBUTES,
    CALL_VALUE,
    CALL_LITERALS, /* pythonic: up to the closing bracket */
    CALL_BRACES    /* braced: the same */
} call_phase;

typedef struct call {
    call_phase phase;
    size_t pos;  /* looked at up to here */
    size_t from; /* where what is being looked at began: name, key, value, arguments */
    bool quiet; /* nothing yet tells for certain that this is meant to be a call: if it is none, no warning */
    bool named;
    bool list;       /* within [ ] */
    bool one_by_one; /* pythonic without a list: calls on lines of their own */
    bool bare;
    bool any;        /* a call of this list is done */
    bool python_tag; /* Llama's <|python_tag|>name.call(...) */
    marker_kind opened_by;
    bool past_call_open; /* CALL_OPENS */
    size_t name_space;   /* CALL_NAME: where white space behind the name began, 0: not yet */

    mlxr_buf name, id, key, attributes, json;
    size_t args, args_end; /* of the arguments in the text; args_end 0: not yet */
    bool streams;          /* args have begun to be given out */
    size_t streamed;       /* up to here */

    /* CALL_OBJECT */
    json_scan scan;
    int member;    /* which member's value comes */
    bool in_value; /* it has begun, at value */
    size_t value;
    size_t function, function_end; /* "function": {...} */

    /* CALL_LITERALS, CALL_BRACES */
    unsigned depth;
    char quote;
    bool triple, escaped, in_marker;
} call;

struct mlxr_answer_parser {
    const mlxr_answer_format *f;
    mlxr_answer_parser_options o;
    json_t *tools;
    answer_marker markers[MAX_MARKERS];
    size_t n_markers;
    bool starts[256]; /* bytes that some marker begins with */

    mlxr_buf text;
    size_t at;       /* before it everything is given out */
    size_t scan;     /* no marker begins before it */
    size_t space_to; /* text[at, space_to) is white space, as far as has been looked */
    mlxr_buf held;   /* white space in front of `at`: content if content follows, else dropped */
    parser_state state;
    bool start;     /* nothing has come yet */
    bool may_think; /* no content since the beginning, a call or thinking */
    bool lead;      /* white space at `at` is to be dropped */
    bool gap;       /* behind a call: what closes it is dropped */
    bool in_calls;  /* between calls_open and calls_close */
    bool block_has; /* the thinking block has had text */
    size_t i_call;
    call call;

    /* harmony */
    mlxr_part body; /* what this message's body is */
    int last_part;  /* of the last body that had text; -1: none */
    bool body_has;  /* this one has had text */

    const char *warning; /* for the next piece of content */
    bool finished;
    mlxr_status failed; /* the first failure */
};

/* ---- parser.c ---- */

static inline bool answer_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
static inline size_t answer_skip_space(const mlxr_answer_parser *p, size_t i)
{
    while (i < p->text.len && answer_is_space(p->text.data[i])) i++;
    return i;
}
/* The first byte from `at` on that is no white space; a long run is not looked at again for every byte that follows. */
static inline size_t answer_space_end(mlxr_answer_parser *p)
{
    p->space_to = answer_skip_space(p, p->space_to > p->at ? p->space_to : p->at);
    return p->space_to;
}
/* Where the white space in front of `to` begins, not before `at`. */
static inline size_t answer_trim_end(mlxr_answer_parser *p, size_t to)
{
    if (answer_space_end(p) >= to) return p->at;
    while (answer_is_space(p->text.data[to - 1])) to--;
    return to;
}
/* Gives out text[from, to) as a part; content with what was held before it and the warning that waits. */
void answer_emit(mlxr_answer_parser *p, mlxr_part part, size_t from, size_t to);
/* Without the first bytes of a character whose others have not come. */
size_t answer_whole(const mlxr_answer_parser *p, size_t from, size_t to);

/* Whether the text at i is the marker. WAIT: it could become it. */
typedef enum match { NO_MATCH, MATCH, WAIT } match;
match answer_match(const mlxr_answer_parser *p, size_t i, const char *marker, bool final);
/* The first place from `from` on where the marker is: MATCH with *found; WAIT with where to look on. */
match answer_find(const mlxr_answer_parser *p, size_t from, const char *marker, bool final, size_t *found);

/* ---- parse_call.c ---- */

void answer_call_begin(mlxr_answer_parser *p, marker_kind kind, size_t n_marker);
void answer_call_begin_bare(mlxr_answer_parser *p);
void answer_call_begin_arguments(mlxr_answer_parser *p,
                                 size_t pos); /* harmony: behind the head; then its name */
step answer_call_step(mlxr_answer_parser *p, bool final);
/* The call is none: text up to `to` is content. why: for the warning. */
step answer_call_fail(mlxr_answer_parser *p, size_t to, const char *why);
/* A marker within the next MAX_NAME bytes from call.from on, looked for from call.pos on: MATCH with *found; NO_MATCH: the call has
 * become content. */
match answer_near(mlxr_answer_parser *p, const char *marker, bool final, size_t *found);
/* The end of the answer came before the call's. */
void answer_call_cut_off(mlxr_answer_parser *p);
/* The call is complete at pos, its arguments are in call.json, and text[raw, raw_end) is how they were written. Checks them. */
step answer_call_done(mlxr_answer_parser *p, size_t raw, size_t raw_end);
/* Pieces of the arguments as far as they are there. */
void answer_call_stream(mlxr_answer_parser *p, size_t to);
bool answer_name_ok(const char *s, size_t n);
/* Takes the name from text[from, to), with what the format puts around it taken off. false: no name. */
bool answer_call_take_name(mlxr_answer_parser *p, size_t from, size_t to);

/* ---- by style: each is called with its phase until it says STEP_MORE, or the call is done or failed ---- */

step answer_json_object(mlxr_answer_parser *p, bool final);
step answer_json_arguments(mlxr_answer_parser *p, bool final);
void answer_json_begin_object(mlxr_answer_parser *p);
step answer_xml(mlxr_answer_parser *p, bool final);
step answer_pythonic(mlxr_answer_parser *p, bool final);
step answer_braced(mlxr_answer_parser *p, bool final);
bool answer_pythonic_begins(char c);
void answer_pythonic_begin(mlxr_answer_parser *p);
step answer_harmony_head(mlxr_answer_parser *p, bool final);
step answer_harmony_body(mlxr_answer_parser *p, bool final);
/* The call in this message is over, or was none. */
void answer_harmony_after_call(mlxr_answer_parser *p, bool was_call);

/* ---- values.c ---- */

/* Appends value (bare text) as JSON, typed by the schema of the tool's parameter. is_string: 1 yes, 0 no, -1: not said. */
void answer_value_bare(mlxr_answer_parser *p, mlxr_buf *out, const char *key, const char *s, size_t n,
                       int is_string);
/* "k=v, ..." to a JSON object; "k:v,..." of Gemma 4 likewise. NULL: done; else what was wrong. */
const char *answer_pythonic_arguments(mlxr_buf *out, const char *s, size_t n);
const char *answer_braced_arguments(mlxr_buf *out, const char *s, size_t n);
/* The parameters of a tool by name; NULL: there are none. Borrowed. */
const json_t *answer_tool_parameters(const json_t *tools, const char *name);

#endif
