/* parse_json: calls as JSON: {"name": ..., "arguments": {...}} in any order of its members, and bare argument objects. */
#include "text/answers/parser.h"

#include <stdlib.h>

enum { MEMBER_OTHER, MEMBER_NAME, MEMBER_ARGUMENTS, MEMBER_ID, MEMBER_FUNCTION, MEMBER_TYPE };

static bool text_is(const char *s, size_t n, const char *want)
{
    return want && strlen(want) == n && memcmp(s, want, n) == 0;
}

/* Of a key without its quotes. Models mix up the two words for arguments, so both count everywhere. */
static int member_of(const mlxr_answer_format *f, const char *s, size_t n)
{
    if (text_is(s, n, f->name_key) || text_is(s, n, "name")) return MEMBER_NAME;
    if (text_is(s, n, "arguments") || text_is(s, n, "parameters")) return MEMBER_ARGUMENTS;
    if (text_is(s, n, f->id_key) || text_is(s, n, "id")) return MEMBER_ID;
    if (text_is(s, n, "function")) return MEMBER_FUNCTION;
    return text_is(s, n, "type") ? MEMBER_TYPE : MEMBER_OTHER;
}

void answer_json_begin_object(mlxr_answer_parser *p)
{
    call *c = &p->call;

    json_scan_begin(&c->scan);
    c->from = c->pos;
    c->phase = CALL_OBJECT;
}

static void value_begins(mlxr_answer_parser *p, size_t i)
{
    call *c = &p->call;

    c->in_value = true;
    c->value = i;
    if (c->member != MEMBER_ARGUMENTS || c->args) return;
    c->args = i;
    if (!c->named) return;
    c->quiet = false;
    if (p->text.data[i] == '{') {
        c->streams = true;
        c->streamed = i;
    }
}

/* Strings and what is in brackets: numbers end with the next byte, but no member of interest is one. */
static void value_ends(mlxr_answer_parser *p, size_t end)
{
    call *c = &p->call;
    const char *s = p->text.data + c->value;
    size_t n = end - c->value;

    c->in_value = false;
    if (c->member == MEMBER_ARGUMENTS && c->args == c->value) {
        c->args_end = end;
        answer_call_stream(p, end);
    } else if (c->member == MEMBER_NAME || (c->member == MEMBER_FUNCTION && s[0] == '"' && !c->named)) {
        c->name.len = 0;
        c->named = json_unquote(&c->name, s, n) && answer_name_ok(c->name.data, c->name.len);
    } else if (c->member == MEMBER_ID) {
        c->id.len = 0;
        if (!json_unquote(&c->id, s, n)) c->id.len = 0;
    } else if (c->member == MEMBER_FUNCTION && s[0] == '{') {
        c->function = c->value;
        c->function_end = end;
    }
}

/* {"type": "function", "function": {"name": ..., "arguments": ...}}, as OpenAI's API has it. */
static bool dig(mlxr_answer_parser *p)
{
    call *c = &p->call;
    json_t *f = NULL;
    const json_t *name, *args;
    mlxr_status st;
    char *text;
    bool ok = false;

    if (!c->function) return false;
    st = mlxr_json_parse(&f, p->text.data + c->function, c->function_end - c->function, "call", NULL);
    if (st == MLXR_E_NOMEM) p->failed = st;
    if (st != MLXR_OK) return false;
    name = json_object_get(f, "name");
    args = json_object_get(f, "arguments");
    if (!args) args = json_object_get(f, "parameters");
    if (json_is_string(name) && answer_name_ok(json_string_value(name), json_string_length(name)) &&
        (!args || json_is_object(args) || json_is_string(args))) {
        c->name.len = 0;
        mlxr_buf_append(&c->name, json_string_value(name), json_string_length(name));
        if (json_is_string(args)) {
            json_compact(&c->json, json_string_value(args), json_string_length(args));
            ok = true;
        } else if ((text = args ? json_dumps(args, JSON_COMPACT) : mlxr_strdup("{}")) != NULL) {
            mlxr_buf_str(&c->json, text);
            free(text);
            ok = true;
        } else {
            p->failed = MLXR_E_NOMEM;
        }
        c->named = true;
    }
    json_decref(f);
    return ok;
}

static step object_done(mlxr_answer_parser *p)
{
    call *c = &p->call;
    const char *s = p->text.data + c->args;
    size_t n = c->args_end - c->args;

    if (!c->named && dig(p)) return answer_call_done(p, c->function, c->function_end);
    if (!c->named) return answer_call_fail(p, c->pos, "a tool call without a name");
    if (c->args_end && n == 4 && memcmp(s, "null", 4) == 0) c->args = 0;
    if (!c->args) {
        if (c->bare) return answer_call_fail(p, c->pos, NULL);
        mlxr_buf_str(&c->json, "{}");
        return answer_call_done(p, c->pos, c->pos);
    }
    if (c->args_end && s[0] == '"') {
        mlxr_buf text = {0};
        if (json_unquote(&text, s, n) && json_is_value(text.data ? text.data : "", text.len))
            json_compact(&c->json, text.data, text.len);
        if (text.failed) p->failed = MLXR_E_NOMEM;
        mlxr_buf_clear(&text);
    } else if (c->args_end) {
        json_compact(&c->json, s, n);
    }
    if (!c->json.len || c->json.data[0] != '{')
        return answer_call_fail(p, c->pos, "a tool call whose arguments are no JSON object");
    return answer_call_done(p, c->args, c->args_end);
}

step answer_json_object(mlxr_answer_parser *p, bool final)
{
    call *c = &p->call;

    (void) final;
    for (size_t i = c->pos; i < p->text.len; c->pos = ++i) {
        char b = p->text.data[i];
        int state = c->scan.state;
        bool outer = c->scan.depth == 1, in_key = c->scan.in_key;
        json_scan_result r = json_scan_byte(&c->scan, b);

        if (r == JS_BAD) {
            if (!c->args_end) answer_call_stream(p, i);
            return answer_call_fail(p, i, "a tool call that is not valid JSON");
        }
        if (outer && (state == JS_FIRST_KEY || state == JS_KEY) && b == '"') {
            c->from = i + 1;
        } else if (outer && state == JS_STRING && in_key && c->scan.state == JS_COLON) {
            c->member = member_of(p->f, p->text.data + c->from, i - c->from);
            if (c->bare && c->member == MEMBER_OTHER)
                return answer_call_fail(p, i, "a tool call with other members");
        } else if (outer && state == JS_VALUE && !answer_is_space(b)) {
            value_begins(p, i);
        }
        if (c->in_value && c->scan.depth == 1 && c->scan.state == JS_NEXT) value_ends(p, i + 1);
        if (c->in_value && outer && (c->scan.state == JS_KEY || r == JS_END))
            c->in_value = false; /* a number */
        if (r == JS_END) {
            c->pos = i + 1;
            return object_done(p);
        }
    }
    if (c->args && !c->args_end) answer_call_stream(p, p->text.len);
    return STEP_MORE;
}

step answer_json_arguments(mlxr_answer_parser *p, bool final)
{
    call *c = &p->call;

    (void) final;
    if (!c->args) {
        c->pos = answer_skip_space(p, c->pos);
        if (c->pos == p->text.len) return STEP_MORE;
        if (p->text.data[c->pos] != '{')
            return answer_call_fail(p, c->pos, "a tool call whose arguments are no JSON object");
        json_scan_begin(&c->scan);
        c->args = c->streamed = c->pos;
        c->streams = true;
    }
    for (size_t i = c->pos; i < p->text.len; c->pos = ++i) {
        json_scan_result r = json_scan_byte(&c->scan, p->text.data[i]);
        if (r == JS_BAD) {
            answer_call_stream(p, i);
            return answer_call_fail(p, i, "a tool call whose arguments are not valid JSON");
        }
        if (r != JS_END) continue;
        c->pos = c->args_end = i + 1;
        answer_call_stream(p, c->args_end);
        json_compact(&c->json, p->text.data + c->args, c->args_end - c->args);
        return answer_call_done(p, c->args, c->args_end);
    }
    answer_call_stream(p, p->text.len);
    return STEP_MORE;
}
