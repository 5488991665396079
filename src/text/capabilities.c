/* capabilities: see capabilities.h. */
#include "text/capabilities.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

/* The word that is looked for. Lower case, since templates may title or upper-case roles but not texts. */
#define WORD "qzprobe"

const char *mlxr_capability_name(mlxr_capability c)
{
    return c == MLXR_CAN ? "yes" : c == MLXR_CAN_REFUSE ? "refused" : "no";
}

#define USER(text) "{\"role\": \"user\", \"content\": \"" text "\"}"
#define TOOL(name)                                                                                 \
    "{\"type\": \"function\", \"function\": {\"name\": \"" name "\", \"description\": \"Adds.\", " \
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\", "      \
    "\"description\": \"One.\"}}, \"required\": [\"a\"]}}}"
#define CALL_WITH(name, content, arguments)                                                         \
    "{\"role\": \"assistant\", \"content\": " content ", \"tool_calls\": [{\"id\": \"abcdefghi\", " \
    "\"type\": \"function\", \"function\": {\"name\": \"" name "\", \"arguments\": " arguments "}}]}"
/* As transformers documents it, and as OpenAI's API writes it, which some templates were made for. */
#define CALL(name)      CALL_WITH(name, "\"\"", "{\"a\": 1}")
#define TEXT_CALL(name) CALL_WITH(name, "null", "\"{\\\"a\\\": 1}\"")
#define RESULT(text) \
    "{\"role\": \"tool\", \"tool_call_id\": \"abcdefghi\", \"name\": \"add\", \"content\": \"" text "\"}"
#define CONVERSATION(messages) "{\"add_generation_prompt\": true, \"messages\": [" messages "]}"
#define WITH_TOOLS(tools, messages) \
    "{\"add_generation_prompt\": true, \"tools\": [" tools "], \"messages\": [" messages "]}"

static const char plain[] = CONVERSATION(USER("hello"));

typedef struct prober {
    const mlxr_chat_template *ct;
    const char *name;
    mlxr_template_limits limits;
    mlxr_error *err;
    bool failed; /* out of memory: err says so */
} prober;

/* The text of a context, NULL when the template refuses it; free it. why may be NULL. */
static char *render(prober *p, const char *context, mlxr_error *why)
{
    mlxr_error ignored;
    char *text = NULL;
    size_t n;
    mlxr_status st;

    if (p->failed) return NULL;
    st = mlxr_chat_template_render_text(&text, &n, p->ct, context, strlen(context), p->name, 0, &p->limits,
                                        why ? why : &ignored);
    if (st == MLXR_OK) return text;
    if (st == MLXR_E_NOMEM) {
        p->failed = true;
        mlxr_fail_nomem(p->err, "chat template");
    }
    return NULL;
}

/* Whether the word comes out. */
static mlxr_capability find_word(prober *p, const char *context, mlxr_error *why)
{
    char *text = render(p, context, why);
    mlxr_capability c = !text ? MLXR_CAN_REFUSE : strstr(text, WORD) ? MLXR_CAN : MLXR_CAN_NOT;

    mlxr_free(text);
    return c;
}

/* The better answer of two. */
static mlxr_capability find_either(prober *p, const char *context, const char *other)
{
    mlxr_capability c = find_word(p, context, NULL), d;

    if (c == MLXR_CAN) return c;
    d = find_word(p, other, NULL);
    return d == MLXR_CAN ? d : c;
}

/* Whether two contexts render to different texts. */
static mlxr_capability differ(prober *p, const char *context, const char *other)
{
    char *a = render(p, context, NULL), *b = render(p, other, NULL);
    mlxr_capability c = !a || !b ? MLXR_CAN_REFUSE : strcmp(a, b) != 0 ? MLXR_CAN : MLXR_CAN_NOT;

    mlxr_free(a);
    mlxr_free(b);
    return c;
}

#define SWITCHED(name, value) \
    "{\"add_generation_prompt\": true, \"" name "\": " value ", \"messages\": [" USER("hello") "]}"

static const char *find_switch(prober *p)
{
    static const struct {
        const char *name, *on, *off;
    } switches[] = {
        {"enable_thinking", SWITCHED("enable_thinking", "true"), SWITCHED("enable_thinking", "false")},
        {"thinking", SWITCHED("thinking", "true"), SWITCHED("thinking", "false")},
        {"reasoning_effort", SWITCHED("reasoning_effort", "\"high\""),
         SWITCHED("reasoning_effort", "\"low\"")},
    };

    for (size_t i = 0; i < MLXR_COUNT(switches); i++)
        if (differ(p, switches[i].on, switches[i].off) == MLXR_CAN) return switches[i].name;
    return NULL;
}

/* A plain message did not do: templates for tools want those, some for images want a list of parts. */
static void explain(prober *p, mlxr_template_capabilities *c, const mlxr_error *why)
{
    const char *text = c->user == MLXR_CAN_REFUSE     ? why->message
                       : c->content_parts == MLXR_CAN ? "text is in the prompt only as a list of parts"
                                                      : "the user's text is not in the prompt";

    if (find_word(p, WITH_TOOLS(TOOL("add"), USER(WORD)), NULL) == MLXR_CAN) {
        c->user = MLXR_CAN;
        c->needs_tools = true;
        return;
    }
    snprintf(c->why, sizeof c->why, "%.*s", (int)sizeof c->why - 1, text);
    c->why[mlxr_utf8_valid(c->why, strlen(c->why))] = '\0'; /* cut between characters */
}

mlxr_status mlxr_chat_template_capabilities(mlxr_template_capabilities *out, const mlxr_chat_template *ct,
                                            const char *name, mlxr_error *err)
{
    prober p = {.ct = ct, .name = name, .limits = mlxr_template_limits_default(), .err = err};
    mlxr_template_capabilities c = {0};
    mlxr_error why = {0};

    p.limits.max_steps = 2000000;
    p.limits.max_output_bytes = (size_t)4 << 20;
    p.limits.max_memory_bytes = (size_t)64 << 20;
    c.user = find_word(&p, CONVERSATION(USER(WORD)), &why);
    c.generation_prompt = differ(&p, plain, "{\"messages\": [" USER("hello") "]}");
    c.system = find_word(
        &p, CONVERSATION("{\"role\": \"system\", \"content\": \"" WORD "\"}, " USER("hello")), NULL);
    c.tools = find_word(&p, WITH_TOOLS(TOOL(WORD), USER("hello")), NULL);
    c.tool_calls = find_either(&p, WITH_TOOLS(TOOL("add"), USER("hello") ", " CALL(WORD) ", " RESULT("2")),
                               WITH_TOOLS(TOOL("add"), USER("hello") ", " TEXT_CALL(WORD) ", " RESULT("2")));
    c.tool_results = find_either(
        &p, WITH_TOOLS(TOOL("add"), USER("hello") ", " CALL("add") ", " RESULT(WORD)),
        WITH_TOOLS(TOOL("add"), USER("hello") ", " TEXT_CALL("add") ", " RESULT(WORD)));
    c.content_parts = find_word(
        &p, CONVERSATION("{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"" WORD "\"}]}"),
        NULL);
    c.reasoning = find_word(
        &p,
        "{\"messages\": [" USER("hello") ", {\"role\": \"assistant\", \"content\": \"2\", "
                                         "\"reasoning_content\": \"" WORD "\", \"thinking\": \"" WORD "\"}]}",
        NULL);
    c.thinking_switch = find_switch(&p);
    if (c.user != MLXR_CAN) explain(&p, &c, &why);
    if (p.failed) return MLXR_E_NOMEM;
    *out = c;
    return MLXR_OK;
}
