/* answers: the text of an answer to its parts: thinking, content, tool calls.
 *
 * Each family of models has its own way to write these. A format (formats.c) says which markers and which shape of a call;
 * the parser (parser.c) takes text as it is generated, cut anywhere, and gives out parts as soon as they are certain: what could
 * still become a marker is held back. However the text is cut, the parts add up to the same.
 *
 * Nothing is lost: a call that does not follow its format comes out as content, as it was written, with a warning.
 *
 * White space. Between parts it belongs to nobody: it is dropped at both ends of thinking, before and between calls, and behind
 * thinking and calls up to the last line end of it (the indentation of the line that follows stays), or all of it where it has no
 * line end. Everywhere else, also at the beginning and the end of an answer, it is content. docs/answers.md has examples. */
#ifndef MLXR_ANSWERS_H
#define MLXR_ANSWERS_H

#include "base/base.h"

/* ---- formats: static, immutable ---- */

/* How a call is written, between its markers. */
typedef enum mlxr_call_style {
    MLXR_CALLS_NONE,
    MLXR_CALLS_JSON,      /* {"name": ..., "arguments": {...}}, with the keys that the format names */
    MLXR_CALLS_JSON_LIST, /* a list of such */
    MLXR_CALLS_NAME_JSON, /* NAME, a separator, the arguments as JSON */
    MLXR_CALLS_PYTHONIC,  /* [name(key=value, ...), ...] */
    MLXR_CALLS_XML,       /* <function=NAME><parameter=KEY>VALUE</parameter></function> and what is like it */
    MLXR_CALLS_HARMONY, /* <|start|>assistant<|channel|>commentary to=functions.NAME ...<|message|>{...}<|call|> */
    MLXR_CALLS_BRACED /* call:NAME{key:value,...}, strings between markers of their own (Gemma 4) */
} mlxr_call_style;

/* How one value of an argument is written, in the styles that write them one by one (XML, PYTHONIC, BRACED). */
typedef enum mlxr_value_style {
    MLXR_VALUES_JSON, /* as JSON, strings too */
    MLXR_VALUES_BARE, /* strings (by the tool's schema) as they are, without quotes or escapes; all else as JSON */
    MLXR_VALUES_PYTHON, /* literals: 'a', "a", 1, -2.5, True, False, None, [..], {..: ..} */
    MLXR_VALUES_BRACED  /* <|"|>text<|"|> without escapes, 1, true, null, [v,v], {key:v} */
} mlxr_value_style;

/* Exactly what the models' own templates write when they render calls back: the form to produce.
 *
 *   calls_open  CALL between CALL ...  calls_close
 *   CALL: head NAME middle ARGUMENTS tail
 *   ARGUMENTS, by the style: JSON, JSON_LIST, NAME_JSON, HARMONY: one JSON object. XML, PYTHONIC, BRACED:
 *     key_open KEY value_open VALUE value_close, between two of them value_between; VALUE as `values` says
 *
 * Every byte of it counts, line ends too; "" where there is nothing. In head, middle and value_open stand, for what is no fixed
 * text: $I an index of the call (digits, from the template's first number on), $D an id (10 lower-case letters or digits), $S
 * "true" for a string and "false" for all else, $T the value's JSON type ("string", "number", "boolean", "null", "object",
 * "array"), $N the name once more. The parser takes more than this: white space (line ends, blanks) around every marker and, in
 * JSON, where JSON has it. */
typedef struct mlxr_call_layout {
    /* Thinking, with the line ends inside of it, and what stands between it and what follows (content, a call). */
    const char *think_open, *think_close, *behind_thinking;
    /* Around content, where the format frames it; in harmony needed, elsewhere models may leave them away. */
    const char *content_open, *content_close;
    const char *before; /* between content and the first call (models write it; not needed but in harmony) */
    const char *calls_open, *between, *calls_close;
    const char *head, *middle, *tail;
    const char *key_open, *value_open, *value_close, *value_between;
    /* Only one call in one calls_open .. calls_close; further ones repeat all of it behind `between`. */
    bool one_call;
} mlxr_call_layout;

enum { MLXR_ANSWER_MAX_DROPPED = 8 };

typedef struct mlxr_answer_format {
    const char *name;     /* what --answer-format takes; the list is docs/answers.md */
    const char *families; /* in words, for people */
    /* Markers around thinking; NULL: the format has none. think_anywhere: a block may begin behind content too (markers that no
     * ordinary text has); otherwise only before any content, and behind calls. */
    const char *think_open, *think_close;
    bool think_anywhere;
    bool calls_end_thinking; /* the marker of a call ends thinking that was not closed */
    mlxr_call_style style;
    /* Markers around all calls of an answer, around each, and between two; NULL where there is none. Of white space free: what
     * line ends stand beside them is in `layout`. */
    const char *calls_open, *calls_close, *call_open, *call_separator, *call_close;
    const char *calls_open_other; /* what some models write in place of the first of these, or NULL */
    /* No marker before a call is needed: the answer (behind thinking) begins with the call itself. */
    bool bare;
    /* JSON styles: "name", "arguments" or "parameters", an id's or NULL. */
    const char *name_key, *arguments_key, *id_key;
    const char *name_open, *name_close; /* NAME_JSON, XML: what stands before and behind the name */
    const char *id_open;                /* NAME_JSON: what stands before an id, behind the name; or NULL */
    /* XML: where attributes behind the name end; NULL: there are none, name_close ends it. */
    const char *name_end;
    /* Part of the written name that is not the function's ("functions."), dropped; or NULL. */
    const char *name_prefix;
    bool name_is_id; /* NAME_JSON: the written name is the call's id: name_prefix NAME ":" index */
    bool id_first;   /* NAME_JSON: what stands between call_open and name_open is the call's id */
    /* NAME_JSON: text behind the arguments, before call_close ("```"); or NULL. */
    const char *arguments_close;
    /* XML: around keys and values. Between key_close and value_open may stand white space, or attributes that say the value's
     * type (string="true", type="number"). value_open NULL: key_close is followed by the value. */
    const char *key_open, *key_close, *value_open, *value_close;
    const char *body_close; /* XML: ends the values ("</function>"); or NULL: call_close does */
    mlxr_value_style values;
    bool parallel;      /* several calls in one answer are part of the format */
    bool values_quoted; /* XML: strings are written as JSON has them; false: bare text */
    /* What begins every message of an answer, where a format has such: head_open RECIPIENT head_close. Dropped. */
    const char *head_open, *head_close;
    /* Markers that frame content (<|START_RESPONSE|>) or end a turn: dropped, wherever they come outside of calls. */
    const char *dropped[MLXR_ANSWER_MAX_DROPPED];
    mlxr_call_layout layout;
} mlxr_answer_format;

size_t mlxr_answer_format_count(void);
const mlxr_answer_format *mlxr_answer_format_at(size_t i);
const mlxr_answer_format *mlxr_answer_format_find(const char *name); /* NULL: there is none */
/* From what a chat template says itself: the markers in its text. Never NULL: "plain" where it tells nothing ("think" where it
 * has <think> and nothing else). NULL is as an empty text. */
const mlxr_answer_format *mlxr_answer_format_detect(const char *template_source);
/* Whether a prompt ends inside of thinking, so that the answer begins there (templates that write the opening marker). */
bool mlxr_answer_prompt_opens_thinking(const mlxr_answer_format *f, const char *prompt, size_t n_prompt);

/* ---- parser: one answer's. One thread ---- */

/* Strings are NUL-terminated besides their lengths and borrowed during the callback. */
typedef struct mlxr_part_event {
    mlxr_part part;
    /* CONTENT, THINKING: a piece of whole characters. TOOL_CALL: a piece of the arguments as JSON. Where the format writes JSON
     * behind the name they come as the model writes them, with its white space, and the last event has none; for others
     * the whole of them comes with the end. All pieces of a call together are its arguments as JSON. */
    const char *text;
    size_t n_text;
    size_t i_call;             /* TOOL_CALL: from 0 */
    const char *name;          /* TOOL_CALL: the function's, in every event of the call */
    const char *id;            /* TOOL_CALL: the model's own id for it, or NULL */
    bool ends;                 /* TOOL_CALL: the call is complete, and: */
    const char *arguments_raw; /* as the model wrote them */
    const char
        *arguments_json; /* a JSON object, compact; numbers as they were written; mlxr_json_parse takes it */
    /* not NULL: what was wrong with the text that comes as content here (and goes on in the next pieces). If a call had begun
     * to come (TOOL_CALL events without `ends`), it is withdrawn by this; the next call has the same i_call. */
    const char *warning;
} mlxr_part_event;
typedef void (*mlxr_on_part)(const mlxr_part_event *event, void *ud);

/* Fill it with _default first. */
typedef struct mlxr_answer_parser_options {
    const mlxr_answer_format *format;
    bool starts_thinking; /* see mlxr_answer_prompt_opens_thinking */
    bool calls;           /* whether tools were offered: false, and what looks like a call is content */
    /* The tools, a JSON list as in the request; for the types of bare values (XML); or NULL. */
    const char *tools_json;
    mlxr_on_part on_part;
    void *ud;
} mlxr_answer_parser_options;
mlxr_answer_parser_options mlxr_answer_parser_options_default(void);

typedef struct mlxr_answer_parser mlxr_answer_parser;
mlxr_status mlxr_answer_parser_create(mlxr_answer_parser **out, const mlxr_answer_parser_options *options,
                                      mlxr_error *err);
void mlxr_answer_parser_free(mlxr_answer_parser *p);
/* special: the text of one special token, which is a marker of the format (or part of one) or dropped; else any piece of UTF-8, cut
 * anywhere. A marker in ordinary text counts as much: many vocabularies have <think> and <tool_call> as ordinary tokens. */
mlxr_status mlxr_answer_parser_push(mlxr_answer_parser *p, const char *text, size_t n, bool special,
                                    mlxr_error *err);
/* Whether the text so far ends within thinking. */
bool mlxr_answer_parser_is_thinking(const mlxr_answer_parser *p);
/* The end of the answer: what is held back comes out; a call that was cut off comes as content. */
mlxr_status mlxr_answer_parser_finish(mlxr_answer_parser *p, mlxr_error *err);

#endif
