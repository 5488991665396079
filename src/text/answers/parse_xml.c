/* parse_xml: calls whose arguments stand one by one between markers, as bare text. Not XML: nothing is escaped, and a value ends with
 * the first marker that closes one. */
#include "text/answers/parser.h"

/* What an attribute between key and value says about its type: string="true", type="number". */
static int attribute_is_string(const char *s, size_t n)
{
    static const struct {
        const char *text;
        int is_string;
    } said[] = {{"string=\"true\"", 1}, {"string=\"false\"", 0}, {"type=\"string\"", 1}, {"type=\"", 0}};

    for (size_t k = 0; k < MLXR_COUNT(said); k++) {
        size_t m = strlen(said[k].text);
        for (size_t i = 0; i + m <= n; i++)
            if (memcmp(s + i, said[k].text, m) == 0) return said[k].is_string;
    }
    return -1;
}

static step call_ends(mlxr_answer_parser *p, const char *marker)
{
    call *c = &p->call;
    size_t end = c->pos;

    c->pos += strlen(marker);
    if (!c->json.len) mlxr_buf_char(&c->json, '{');
    mlxr_buf_char(&c->json, '}');
    return answer_call_done(p, c->args ? c->args : end, end);
}

static step parameter_step(mlxr_answer_parser *p, bool final)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    const char *const next[] = {f->key_open, f->body_close, f->call_close, f->calls_close};
    bool wait = false;

    c->pos = answer_skip_space(p, c->pos);
    if (c->pos == p->text.len) return STEP_MORE;
    for (size_t k = 0; k < MLXR_COUNT(next); k++) {
        match r = next[k] ? answer_match(p, c->pos, next[k], final) : NO_MATCH;
        wait = wait || r == WAIT;
        if (r != MATCH) continue;
        if (k > 0) return call_ends(p, next[k]);
        c->pos = c->from = c->pos + strlen(next[k]);
        c->phase = CALL_KEY;
        return STEP_ON;
    }
    if (wait) return STEP_MORE;
    return answer_call_fail(p, c->pos, "a tool call with text between its parameters");
}

static void add_value(mlxr_answer_parser *p, size_t end)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    size_t from = c->from, n = strlen(f->layout.value_open);
    const char *s = p->text.data;

    /* The line ends that belong to the markers, where the format puts them on lines of their own. */
    if (n && f->layout.value_open[n - 1] == '\n') {
        if (from < end && s[from] == '\r') from++;
        if (from < end && s[from] == '\n') from++;
        if (end > from && s[end - 1] == '\n') end--;
        if (end > from && s[end - 1] == '\r') end--;
    }
    mlxr_buf_char(&c->json, c->json.len ? ',' : '{');
    mlxr_json_escape(&c->json, c->key.data, c->key.len);
    mlxr_buf_char(&c->json, ':');
    answer_value_bare(p, &c->json, c->key.data, s + from, end - from,
                      attribute_is_string(c->attributes.data, c->attributes.len));
}

step answer_xml(mlxr_answer_parser *p, bool final)
{
    const mlxr_answer_format *f = p->f;
    call *c = &p->call;
    size_t found, from, to;
    match r;

    switch (c->phase) {
    case CALL_PARAMETER: return parameter_step(p, final);
    case CALL_KEY:
        r = answer_near(p, f->key_close, final, &found);
        if (r != MATCH) return r == WAIT ? STEP_MORE : STEP_ON;
        from = answer_skip_space(p, c->from);
        for (to = found; to > from && answer_is_space(p->text.data[to - 1]);) to--;
        if (from >= to || mlxr_utf8_valid(p->text.data + from, to - from) != to - from)
            return answer_call_fail(p, found, "a tool call with a parameter without a name");
        c->key.len = c->attributes.len = 0;
        mlxr_buf_append(&c->key, p->text.data + from, to - from);
        c->pos = c->from = found + strlen(f->key_close);
        c->phase = f->value_open ? CALL_ATTRIBUTES : CALL_VALUE;
        return STEP_ON;
    case CALL_ATTRIBUTES:
        r = answer_near(p, f->value_open, final, &found);
        if (r != MATCH) return r == WAIT ? STEP_MORE : STEP_ON;
        mlxr_buf_append(&c->attributes, p->text.data + c->from, found - c->from);
        c->pos = c->from = found + strlen(f->value_open);
        c->phase = CALL_VALUE;
        return STEP_ON;
    default:
        r = answer_find(p, c->pos, f->value_close, final, &found);
        if (r != MATCH) {
            c->pos = found;
            return STEP_MORE;
        }
        if (mlxr_utf8_valid(p->text.data + c->from, found - c->from) != found - c->from)
            return answer_call_fail(p, found, "a tool call whose value is not UTF-8");
        add_value(p, found);
        c->pos = found + strlen(f->value_close);
        c->phase = CALL_PARAMETER;
        return STEP_ON;
    }
}
