/* parse_call: from a call's marker to the call itself, and what becomes of it: a call, or content after all. */
#include "text/answers/parser.h"

static void reset(mlxr_answer_parser *p, size_t pos)
{
    call *c = &p->call;

    c->pos = c->from = pos;
    c->named = c->streams = c->in_value = c->triple = c->escaped = c->in_marker = false;
    c->name.len = c->id.len = c->key.len = c->attributes.len = c->json.len = 0;
    c->args = c->args_end = c->streamed = c->name_space = c->function = c->function_end = 0;
    c->depth = 0;
    c->quote = '\0';
}

static void begin(mlxr_answer_parser *p, size_t pos)
{
    call *c = &p->call;

    reset(p, pos);
    c->list = c->one_by_one = c->bare = c->any = c->python_tag = c->quiet = c->past_call_open = false;
    p->state = IN_CALL;
}

/* Words and fences that ordinary text has as well. */
static bool is_plain_text(const char *marker)
{
    return marker[0] != '<' && marker[0] != '[' && !strstr(marker, "tool_code");
}

void answer_call_begin(mlxr_answer_parser *p, marker_kind kind, size_t n_marker)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    const char *m = kind == MARK_CALLS   ? f->calls_open
                    : kind == MARK_OTHER ? f->calls_open_other
                    : kind == MARK_CALL  ? f->call_open
                                         : f->name_open;

    begin(p, p->at + n_marker);
    c->phase = CALL_OPENS;
    c->opened_by = kind;
    if (kind == MARK_OTHER && f->name_open && strcmp(m, f->name_open) == 0) c->opened_by = MARK_NAME;
    c->past_call_open = kind != MARK_CALLS || !f->call_open;
    c->quiet = is_plain_text(m);
    c->python_tag = kind == MARK_CALLS && f->bare;
    if (kind == MARK_CALLS && f->calls_close) p->in_calls = true;
}

void answer_call_begin_bare(mlxr_answer_parser *p)
{
    begin(p, p->at);
    p->call.phase = CALL_PAYLOAD;
    p->call.bare = p->call.quiet = true;
}

void answer_call_begin_arguments(mlxr_answer_parser *p, size_t pos)
{
    begin(p, pos);
    p->call.phase = CALL_ARGUMENTS;
}

/* ---- ends ---- */

step answer_call_fail(mlxr_answer_parser *p, size_t to, const char *why)
{
    if (!p->call.quiet) p->warning = why;
    p->in_calls = false;
    p->lead = p->gap = p->may_think = p->start = false;
    if (p->f->style == MLXR_CALLS_HARMONY) {
        answer_harmony_after_call(p, false);
    } else {
        p->state = IN_CONTENT;
    }
    answer_emit(p, MLXR_PART_CONTENT, p->at, to);
    p->at = p->scan = to;
    return STEP_ON;
}

void answer_call_cut_off(mlxr_answer_parser *p)
{
    if (p->call.any && answer_skip_space(p, p->at) == p->text.len) {
        /* Whole calls, and then nothing that would close their list. */
        p->at = p->scan = p->text.len;
        p->state = IN_CONTENT;
        p->held.len = 0;
        return;
    }
    answer_call_fail(p, p->text.len, "the answer ends within a tool call");
}

static void gap(mlxr_answer_parser *p)
{
    p->scan = p->at;
    if (p->f->style == MLXR_CALLS_HARMONY) {
        answer_harmony_after_call(p, true);
        return;
    }
    p->state = IN_CONTENT;
    p->gap = p->lead = p->may_think = true;
}

static void emit_call(mlxr_answer_parser *p, size_t from, size_t to, const char *text, size_t n, bool ends)
{
    call *c = &p->call;
    mlxr_part_event e = {.part = MLXR_PART_TOOL_CALL,
                         .text = ends ? text : p->text.data + from,
                         .n_text = ends ? n : to - from,
                         .i_call = p->i_call,
                         .name = c->name.data,
                         .id = c->id.len ? c->id.data : NULL,
                         .ends = ends};
    char behind = p->text.data[to];

    p->text.data[to] = '\0';
    if (ends) {
        e.arguments_raw = p->text.data + from;
        e.arguments_json = c->json.data;
    }
    p->o.on_part(&e, p->o.ud);
    p->text.data[to] = behind;
}

void answer_call_stream(mlxr_answer_parser *p, size_t to)
{
    call *c = &p->call;

    if (!c->streams) return;
    to = answer_whole(p, c->streamed, to);
    if (to <= c->streamed) return;
    emit_call(p, c->streamed, to, NULL, 0, false);
    c->streamed = to;
}

step answer_call_done(mlxr_answer_parser *p, size_t raw, size_t raw_end)
{
    call *c = &p->call;
    json_t *parsed = NULL;
    mlxr_status st;
    bool object;

    if (c->json.failed || c->name.failed) return STEP_ON; /* run() sees it */
    st = mlxr_json_parse(&parsed, c->json.data, c->json.len, "arguments", NULL);
    object = json_is_object(parsed);
    json_decref(parsed);
    if (st == MLXR_E_NOMEM) {
        p->failed = st;
        return STEP_ON;
    }
    if (!object) return answer_call_fail(p, c->pos, "a tool call whose arguments are no JSON object");

    emit_call(p, raw, raw_end, c->streams ? "" : c->json.data, c->streams ? 0 : c->json.len, true);
    p->i_call++;
    p->held.len = 0;
    p->start = false;
    p->at = c->pos;
    reset(p, c->pos);
    c->any = true;
    c->quiet = false;
    c->phase = CALL_NEXT;
    if (!c->list && !c->one_by_one) gap(p);
    return STEP_ON;
}

/* ---- names ---- */

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || c == '/' || (unsigned char)c >= 0x80;
}

bool answer_name_ok(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f) return false;
    return n > 0 && n <= MAX_NAME && mlxr_utf8_valid(s, n) == n;
}

bool answer_call_take_name(mlxr_answer_parser *p, size_t from, size_t to)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    const char *s = p->text.data + from;
    size_t n = to - from, n_prefix = f->name_prefix ? strlen(f->name_prefix) : 0, digits;

    if (!answer_name_ok(s, n)) return false;
    if (f->name_is_id) {
        c->id.len = 0;
        mlxr_buf_append(&c->id, s, n);
        digits = n;
        while (digits > 0 && s[digits - 1] >= '0' && s[digits - 1] <= '9') digits--;
        if (digits < n && digits > 0 && s[digits - 1] == ':') n = digits - 1;
    }
    if (n_prefix && n > n_prefix && memcmp(s, f->name_prefix, n_prefix) == 0) {
        s += n_prefix;
        n -= n_prefix;
    }
    if (c->python_tag && n > 5 && memcmp(s + n - 5, ".call", 5) == 0) n -= 5;
    c->name.len = 0;
    mlxr_buf_append(&c->name, s, n);
    c->named = n > 0;
    return n > 0;
}

/* Back from i to where a character begins. */
static size_t char_start(const mlxr_answer_parser *p, size_t i)
{
    for (int k = 0; k < 3 && ((unsigned char)p->text.data[i] & 0xc0) == 0x80; k++) i--;
    return i;
}

match answer_near(mlxr_answer_parser *p, const char *marker, bool final, size_t *found)
{
    call *c = &p->call;
    match r = answer_find(p, c->pos, marker, final, found);

    if (*found - c->from > MAX_NAME) {
        answer_call_fail(p, char_start(p, c->from + MAX_NAME), "a tool call that does not follow its format");
        return NO_MATCH;
    }
    if (r == NO_MATCH) { /* the text is over */
        answer_call_cut_off(p);
        return NO_MATCH;
    }
    if (r == WAIT) c->pos = *found;
    return r;
}

static void append_trimmed(mlxr_answer_parser *p, mlxr_buf *out, size_t from, size_t to)
{
    from = answer_skip_space(p, from);
    while (to > from && answer_is_space(p->text.data[to - 1])) to--;
    if (to > from) mlxr_buf_append(out, p->text.data + from, to - from);
}

static void to_arguments(mlxr_answer_parser *p, size_t pos)
{
    p->call.pos = p->call.from = pos;
    switch (p->f->style) {
    case MLXR_CALLS_XML:
        p->call.phase = p->f->name_end ? CALL_NAME_END : CALL_PARAMETER;
        p->call.args = p->f->name_end ? 0 : pos;
        break;
    case MLXR_CALLS_BRACED: answer_pythonic_begin(p); break;
    default: p->call.phase = CALL_ARGUMENTS;
    }
}

static step name_step(mlxr_answer_parser *p, bool final)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    const char *close = f->style == MLXR_CALLS_BRACED ? "{" : f->name_close;
    bool has_braces = f->style == MLXR_CALLS_NAME_JSON && !f->name_open; /* [ARGS] may lack before them */
    bool bare_end = f->style == MLXR_CALLS_XML && !f->name_close;

    if (c->from == c->pos) c->from = c->pos = answer_skip_space(p, c->pos);
    for (size_t i = c->pos; i < p->text.len; c->pos = ++i) {
        char b = p->text.data[i];
        size_t end = c->name_space ? c->name_space : i;
        match close_here = close ? answer_match(p, i, close, final) : NO_MATCH;
        match id_here = f->id_open ? answer_match(p, i, f->id_open, final) : NO_MATCH;

        if (close_here == WAIT || id_here == WAIT) return STEP_MORE;
        if (close_here == MATCH || id_here == MATCH || (has_braces && b == '{') ||
            (bare_end && (b == '<' || answer_is_space(b)))) {
            size_t behind = i;
            if (!answer_call_take_name(p, c->from, end))
                return answer_call_fail(p, i > p->at ? i : i + 1, "a tool call without a name");
            if (close_here == MATCH) behind += strlen(close);
            if (id_here == MATCH) behind += strlen(f->id_open);
            to_arguments(p, behind);
            if (id_here == MATCH) c->phase = CALL_ID;
            return STEP_ON;
        }
        if (answer_is_space(b)) {
            if (!c->name_space) c->name_space = i;
        } else if (c->name_space || !is_name_byte(b) || i - c->from > MAX_NAME) {
            return answer_call_fail(p, char_start(p, i), "a tool call without a name");
        }
    }
    return STEP_MORE;
}

/* ---- before the call ---- */

static step opens_step(mlxr_answer_parser *p, bool final)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    match r;

    if (!c->past_call_open) {
        c->pos = answer_skip_space(p, c->pos);
        if (c->pos == p->text.len) return STEP_MORE;
        r = answer_match(p, c->pos, f->call_open, final);
        if (r == WAIT) return STEP_MORE;
        if (r == MATCH) {
            c->pos += strlen(f->call_open);
            c->quiet = false;
        } else if (c->quiet || f->style != MLXR_CALLS_PYTHONIC) {
            return answer_call_fail(p, c->pos, "no tool call behind the marker of calls");
        }
        c->past_call_open = true;
        return STEP_ON;
    }
    c->from = c->pos;
    switch (f->style) {
    case MLXR_CALLS_NAME_JSON:
        if (f->name_open && f->call_open) {
            c->phase = CALL_ID_FIRST;
            return STEP_ON;
        }
        c->pos = answer_skip_space(p, c->pos);
        if (c->pos == p->text.len) return STEP_MORE;
        if (!f->calls_open && !f->name_open && (p->text.data[c->pos] == '[' || p->text.data[c->pos] == '{')) {
            c->phase = CALL_PAYLOAD; /* Mistral: the older list of JSON behind the same marker */
            return STEP_ON;
        }
        break;
    case MLXR_CALLS_XML:
    case MLXR_CALLS_BRACED:
        if (!f->name_open || c->opened_by == MARK_NAME) break;
        c->pos = answer_skip_space(p, c->pos);
        if (c->pos == p->text.len) return STEP_MORE;
        r = answer_match(p, c->pos, f->name_open, final);
        if (r == WAIT) return STEP_MORE;
        if (r == NO_MATCH) return answer_call_fail(p, c->pos, "no tool call behind the marker of one");
        c->pos += strlen(f->name_open);
        break;
    default: c->phase = CALL_PAYLOAD; return STEP_ON;
    }
    c->from = c->pos;
    c->phase = CALL_NAME;
    return STEP_ON;
}

static bool has_json(const mlxr_answer_format *f)
{
    return f->name_key || f->style == MLXR_CALLS_NAME_JSON;
}

static step payload_step(mlxr_answer_parser *p)
{
    call *c = &p->call;
    bool pythonic = p->f->values == MLXR_VALUES_PYTHON;
    char b;

    c->pos = answer_skip_space(p, c->pos);
    if (c->pos == p->text.len) return STEP_MORE;
    b = p->text.data[c->pos];
    if (c->phase == CALL_ITEM && b == ']' && c->any) {
        p->at = ++c->pos;
        gap(p);
    } else if (c->phase == CALL_PAYLOAD && b == '[') {
        c->list = true;
        c->pos++;
        c->phase = CALL_ITEM;
    } else if (b == '{' && has_json(p->f)) {
        answer_json_begin_object(p);
    } else if (answer_pythonic_begins(b) &&
               (pythonic || (c->python_tag && c->phase == CALL_PAYLOAD && !c->bare))) {
        c->one_by_one = pythonic && !c->list;
        answer_pythonic_begin(p);
    } else {
        return answer_call_fail(p, c->pos, "no tool call behind the marker of one");
    }
    return STEP_ON;
}

/* Behind a call of a list, or of several on lines of their own. */
static step next_step(mlxr_answer_parser *p)
{
    call *c = &p->call;
    size_t i = answer_skip_space(p, c->pos);
    char b;

    c->pos = i;
    if (i == p->text.len) return STEP_MORE;
    b = p->text.data[i];
    if (b == ',' || (c->one_by_one && b == ';')) {
        c->pos = i + 1;
        c->phase = CALL_ITEM;
    } else if (c->one_by_one) {
        if (answer_pythonic_begins(b)) {
            c->pos = i;
            c->phase = CALL_ITEM;
        } else {
            gap(p);
        }
    } else if (b == ']') {
        p->at = i + 1;
        gap(p);
    } else {
        return answer_call_fail(p, i, "text that is no tool call in a list of them");
    }
    return STEP_ON;
}

step answer_call_step(mlxr_answer_parser *p, bool final)
{
    call *c = &p->call;
    size_t found;

    switch (c->phase) {
    case CALL_OPENS: return opens_step(p, final);
    case CALL_ID_FIRST:
    case CALL_ID: {
        bool first = c->phase == CALL_ID_FIRST;
        const char *marker = first ? p->f->name_open : p->f->name_close;
        match r = answer_near(p, marker, final, &found);
        if (r != MATCH) return r == WAIT ? STEP_MORE : STEP_ON;
        if (!first || p->f->id_first) append_trimmed(p, &c->id, c->from, found);
        if (c->id.len && !answer_name_ok(c->id.data, c->id.len))
            return answer_call_fail(p, found, "a tool call with an id that is none");
        c->pos = c->from = found + strlen(marker);
        c->phase = first ? CALL_NAME : CALL_ARGUMENTS;
        return STEP_ON;
    }
    case CALL_NAME: return name_step(p, final);
    case CALL_NAME_END: {
        match r = answer_near(p, p->f->name_end, final, &found);
        if (r != MATCH) return r == WAIT ? STEP_MORE : STEP_ON;
        c->pos = c->from = c->args = found + strlen(p->f->name_end);
        c->phase = CALL_PARAMETER;
        return STEP_ON;
    }
    case CALL_PAYLOAD:
    case CALL_ITEM: return payload_step(p);
    case CALL_NEXT: return next_step(p);
    case CALL_OBJECT: return answer_json_object(p, final);
    case CALL_ARGUMENTS: return answer_json_arguments(p, final);
    case CALL_PARAMETER:
    case CALL_KEY:
    case CALL_ATTRIBUTES:
    case CALL_VALUE: return answer_xml(p, final);
    case CALL_LITERALS: return answer_pythonic(p, final);
    case CALL_BRACES: return answer_braced(p, final);
    }
    return STEP_MORE;
}
