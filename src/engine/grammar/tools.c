/* tools: see tools.h. Here is what an answer is made of and in which order; how calls are written is in call_writer.c.
 *
 *   answer = [thinking] body
 *   body   = content | calls | free text with calls in it
 *
 * Whoever reads an answer finds thinking by its marker, so free text has none of it where it counts (answers.h). */
#include "engine/grammar/tools.h"

#include "engine/grammar/call_writer.h"

/* White space before calls that must come. Bounded, so that nobody can go on with it. */
#define LEAD "[ \\t\\r\\n]{0,4}"
/* Behind thinking whole lines, which are no part of what follows. */
#define LINES "(\\r?\\n){0,4}"

enum { MAX_EDGES = 32, MAX_ACCEPTING = 8 };

typedef struct answer {
    const mlxr_answer_grammar *p;
    const mlxr_answer_format *f;
    mlxr_grammar_builder *b;
    mlxr_tool_list list;
    mlxr_call_writer w;
    mlxr_value_doc schema;
    mlxr_rule content;           /* of a shape */
    bool has_content;            /* there is one */
    bool free, calls;            /* free text and calls are part of the answer */
    bool thinks;                 /* it may begin with thinking */
    mlxr_call_texts apart;       /* what free text must not have in it */
    mlxr_call_texts think_apart; /* what thinking must not: it would end there */
    mlxr_gb_edge edges[MAX_EDGES];
    uint32_t accepting[MAX_ACCEPTING];
    size_t n_edges, n_accepting;
} answer;

mlxr_answer_grammar mlxr_answer_grammar_default(void)
{
    return (mlxr_answer_grammar){.tool_choice = MLXR_TOOLS_AUTO, .parallel = true};
}

/* ---- content of a shape ---- */

static mlxr_status make_content(answer *a, mlxr_error *err)
{
    const mlxr_answer_grammar *p = a->p;
    mlxr_status st = MLXR_OK;
    mlxr_dfa *d;

    if (p->schema_json && !strcmp(p->schema_json, "json")) {
        a->content = mlxr_gb_json(a->b, true, NULL);
    } else if (p->schema_json) {
        st = mlxr_value_parse(&a->schema, p->schema_json, strlen(p->schema_json), "schema", err);
        if (st == MLXR_OK) st = mlxr_gb_schema(&a->content, a->b, a->schema.root, "schema", NULL, err);
    } else if (p->gbnf) {
        st = mlxr_gb_gbnf(&a->content, a->b, p->gbnf, strlen(p->gbnf), "grammar", err);
    } else if (p->regex) {
        st = mlxr_dfa_regex(&d, p->regex, strlen(p->regex), true, &mlxr_grammar_builder_limits(a->b)->lang,
                            err);
        if (st == MLXR_OK) {
            a->content = mlxr_gb_rule(a->b, "expression");
            mlxr_gb_define(a->b, a->content, mlxr_gb_dfa(a->b, d));
        }
    }
    return st;
}

static mlxr_expr two(answer *a, mlxr_expr x, mlxr_expr y)
{
    mlxr_expr e[2] = {x, y};
    return mlxr_gb_seq(a->b, e, 2);
}

static mlxr_expr maybe_marker(answer *a, const char *text)
{
    return mlxr_gb_optional(a->b, mlxr_call_marker(&a->w, text));
}

/* With the frame that the format has around content, which models may leave away. */
static mlxr_expr content(answer *a)
{
    const mlxr_call_layout *l = &a->f->layout;
    mlxr_expr e = mlxr_gb_call(a->b, a->content);

    if (l->content_open[0]) e = two(a, maybe_marker(a, l->content_open), e);
    if (l->content_close[0]) e = two(a, e, maybe_marker(a, l->content_close));
    return e;
}

/* ---- the order of things: a graph ---- */

static void edge(answer *a, uint32_t from, uint32_t to, mlxr_expr e)
{
    if (a->n_edges == MAX_EDGES)
        mlxr_gb_fail(a->b, MLXR_E_INTERNAL, "tools: an answer has too many edges");
    else
        a->edges[a->n_edges++] = (mlxr_gb_edge){from, to, e};
}

static void accept(answer *a, uint32_t state)
{
    if (a->n_accepting < MAX_ACCEPTING) a->accepting[a->n_accepting++] = state;
}

static bool is_white(const char *s)
{
    return s[strspn(s, " \t\r\n")] == 0;
}

enum { BEGIN, START, THINKING, THOUGHT, BODY, TEXT, CALLED, END, N_STATES };

/* A call may come out of thinking that was not closed. */
static bool ends_thinking(const answer *a)
{
    return a->f->think_close && a->f->calls_end_thinking && a->calls && a->w.has_marked;
}

/* Thinking is free text up to what ends it; where content is free too, an answer may end in it. */
static void add_thinking(answer *a, uint32_t to)
{
    const char *behind = a->f->layout.behind_thinking;
    mlxr_expr close;

    edge(a, THINKING, THOUGHT, mlxr_gb_free(a->b, a->think_apart.text, a->think_apart.n));
    close = mlxr_call_marker(&a->w, a->f->think_close);
    edge(a, THOUGHT, to,
         two(a, close, is_white(behind) ? mlxr_call_regex(a->b, LINES) : mlxr_call_marker(&a->w, behind)));
    if (a->free) accept(a, THOUGHT);
}

static void add_calls(answer *a, uint32_t from, mlxr_rule calls)
{
    edge(a, from, END, two(a, mlxr_call_regex(a->b, LEAD), mlxr_gb_call(a->b, calls)));
}

/* Text in which no call begins. */
static mlxr_expr free_text(answer *a, mlxr_call_beginning beginning)
{
    return mlxr_call_free_text(&a->w, &a->apart, beginning);
}

/* What comes behind thinking, or at once. */
static void add_body(answer *a)
{
    const mlxr_answer_format *f = a->f;
    mlxr_call_beginning behind;

    if (a->has_content) edge(a, BODY, END, content(a));
    if (a->calls && (f->bare || !a->free)) add_calls(a, BODY, a->w.calls);
    if (a->calls && f->bare && !a->free && a->w.has_marked) add_calls(a, BODY, a->w.marked);
    if (!a->free) return;
    edge(a, BODY, TEXT, free_text(a, f->bare ? MLXR_CALL_BEGINS_NO_BRACKET : MLXR_CALL_BEGINS_ANYHOW));
    if (f->bare) edge(a, BODY, END, free_text(a, MLXR_CALL_BEGINS_NO_CALL));
    accept(a, TEXT);
    if (!a->calls || !a->w.has_marked) return;
    edge(a, TEXT, CALLED, mlxr_gb_call(a->b, a->w.marked));
    if (!a->p->parallel || !f->parallel || f->bare) return;
    /* Behind a call as JSON whoever reads the answer takes another object for one more. */
    behind = f->style == MLXR_CALLS_JSON || f->style == MLXR_CALLS_JSON_LIST ? MLXR_CALL_BEGINS_NO_BRACKET
                                                                             : MLXR_CALL_BEGINS_ANYHOW;
    edge(a, CALLED, mlxr_call_repeats(f) ? TEXT : END, free_text(a, behind));
    if (mlxr_call_repeats(f) && a->thinks) edge(a, CALLED, THINKING, mlxr_call_marker(&a->w, f->think_open));
}

static mlxr_expr answer_expr(answer *a)
{
    const mlxr_answer_format *f = a->f;

    edge(a, BEGIN, a->p->starts_thinking && f->think_close ? THINKING : START, mlxr_gb_empty(a->b));
    edge(a, START, BODY, mlxr_gb_empty(a->b));
    if (a->thinks) {
        edge(a, START, THINKING, mlxr_call_marker(&a->w, f->think_open));
        if (f->think_anywhere && a->free) edge(a, TEXT, THINKING, mlxr_call_marker(&a->w, f->think_open));
    }
    if (f->think_close) add_thinking(a, BODY);
    if (ends_thinking(a)) edge(a, THOUGHT, CALLED, mlxr_gb_call(a->b, a->w.marked));
    add_body(a);
    accept(a, CALLED);
    accept(a, END);
    return mlxr_gb_graph(a->b, N_STATES, a->edges, a->n_edges, a->accepting, a->n_accepting);
}

/* ---- harmony: every message has a head, which says what it is ---- */

static mlxr_expr three(answer *a, mlxr_expr x, mlxr_expr y, mlxr_expr z)
{
    mlxr_expr e[3] = {x, y, z};
    return mlxr_gb_seq(a->b, e, 3);
}

/* Every one of them ends a message, or begins another. */
static const char *const harmony_marks[] = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
                                            "<|end|>",   "<|return|>",  "<|call|>"};

static mlxr_expr harmony_final(answer *a)
{
    mlxr_expr head = mlxr_call_marker(&a->w, a->f->layout.content_open), body, heads[2];

    if (a->has_content) {
        heads[0] = head;
        heads[1] = mlxr_call_marker(&a->w, "<|channel|>final <|constrain|>json<|message|>");
        head = mlxr_gb_alt(a->b, heads, a->p->schema_json ? 2 : 1);
        body = mlxr_gb_call(a->b, a->content);
    } else {
        body = mlxr_gb_free(a->b, harmony_marks, MLXR_COUNT(harmony_marks));
    }
    return three(a, head, body, maybe_marker(a, a->f->layout.content_close));
}

/* Messages of analysis, and in free text of commentary for the user, then the last: final or a call. */
static mlxr_expr harmony_expr(answer *a)
{
    const mlxr_call_layout *l = &a->f->layout;

    edge(a, BEGIN, a->p->starts_thinking ? THINKING : START, mlxr_gb_empty(a->b));
    if (a->thinks) edge(a, START, THINKING, mlxr_call_marker(&a->w, l->think_open));
    add_thinking(a, START);
    if (a->free && a->calls)
        edge(a, START, THINKING, mlxr_call_marker(&a->w, "<|channel|>commentary<|message|>"));
    if (a->free || a->has_content) edge(a, START, END, harmony_final(a));
    if (a->calls) edge(a, START, END, mlxr_gb_call(a->b, a->w.calls));
    accept(a, END);
    return mlxr_gb_graph(a->b, N_STATES, a->edges, a->n_edges, a->accepting, a->n_accepting);
}

/* ---- the whole ---- */

static mlxr_status check(const mlxr_answer_grammar *p, mlxr_error *err)
{
    int n = !!p->schema_json + !!p->gbnf + !!p->regex;

    if (!p->format) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tools: no answer format");
    if (n > 1)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "tools: one of schema, grammar and regular expression at most, there are %d", n);
    return MLXR_OK;
}

/* The tools that may be called. */
static mlxr_status choose(answer *a, const mlxr_tool **tools, size_t *n_tools, mlxr_error *err)
{
    const mlxr_answer_grammar *p = a->p;
    bool must = p->tool_choice == MLXR_TOOLS_REQUIRED || p->tool_choice == MLXR_TOOLS_NAMED;
    mlxr_status st;

    *tools = NULL;
    *n_tools = 0;
    if (p->tools_json && (st = mlxr_tool_list_read(&a->list, p->tools_json, err)) != MLXR_OK) return st;
    if (must && a->list.n == 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tools: a call is required, and there are no tools");
    if (must && a->f->style == MLXR_CALLS_NONE)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "tools: a call is required, and the answer format \"%s\" has none", a->f->name);
    if (p->tool_choice == MLXR_TOOLS_NAMED) {
        if (!p->tool_name)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "tools: the tool to call has no name");
        if (!(*tools = mlxr_tool_list_find(&a->list, p->tool_name)))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "tools: the tool to call, \"%s\", is not among them", p->tool_name);
        *n_tools = 1;
    } else if (p->tool_choice != MLXR_TOOLS_NONE && a->f->style != MLXR_CALLS_NONE) {
        *tools = a->list.tools;
        *n_tools = a->list.n;
    }
    a->calls = *n_tools > 0;
    a->has_content = !must && (p->schema_json || p->gbnf || p->regex);
    a->free = !must && !a->has_content;
    a->thinks = p->may_think && a->f->think_open && a->f->think_close;
    return MLXR_OK;
}

static mlxr_status make(answer *a, const mlxr_tool *tools, size_t n_tools, mlxr_grammar **out,
                        mlxr_error *err)
{
    const mlxr_answer_format *f = a->f;
    mlxr_status st;
    mlxr_rule root;
    mlxr_expr e;

    if (a->has_content && (st = make_content(a, err)) != MLXR_OK) return st;
    mlxr_call_writer_init(&a->w, a->b, f, tools, n_tools, a->p->parallel);
    mlxr_call_openings(&a->w, &a->apart);
    mlxr_call_inner_openings(&a->w, &a->apart);
    if (f->style == MLXR_CALLS_HARMONY) {
        for (size_t i = 0; i < MLXR_COUNT(harmony_marks); i++)
            mlxr_call_add_text(&a->w, &a->think_apart, harmony_marks[i]);
    } else if (f->think_close) {
        mlxr_call_add_text(&a->w, &a->think_apart, f->think_close);
        if (ends_thinking(a)) mlxr_call_openings(&a->w, &a->think_apart);
    }
    if (f->think_open && f->think_anywhere) mlxr_call_add_text(&a->w, &a->apart, f->think_open);
    root = mlxr_gb_rule(a->b, "answer");
    e = f->style == MLXR_CALLS_HARMONY ? harmony_expr(a) : answer_expr(a);
    mlxr_gb_define(a->b, root, e);
    return mlxr_grammar_finish(out, a->b, root, err);
}

mlxr_status mlxr_grammar_for_answer(mlxr_grammar **out, const mlxr_answer_grammar *params,
                                    const mlxr_grammar_limits *limits, mlxr_error *err)
{
    mlxr_status st;
    answer a = {.p = params, .f = params->format};
    const mlxr_tool *tools;
    size_t n_tools;

    *out = NULL;
    if ((st = check(params, err)) != MLXR_OK) return st;
    if ((st = choose(&a, &tools, &n_tools, err)) != MLXR_OK) goto done;
    /* Free text with no call to hold or to keep out. */
    if (a.free && (a.list.n == 0 || a.f->style == MLXR_CALLS_NONE)) goto done;
    if ((st = mlxr_grammar_builder_create(&a.b, limits, err)) != MLXR_OK) goto done;
    st = make(&a, tools, n_tools, out, err);
done:
    mlxr_call_writer_clear(&a.w);
    mlxr_value_clear(&a.schema);
    mlxr_tool_list_clear(&a.list);
    mlxr_grammar_builder_free(a.b);
    return st;
}
