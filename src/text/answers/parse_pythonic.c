/* parse_pythonic: calls as Python writes them, name(key=value, ...), alone or in a list; and Gemma 4's name{key:value,...}. Both are
 * cut out first, by their brackets and quotes, and read as a whole. */
#include "text/answers/parser.h"

bool answer_pythonic_begins(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* At the name, or for Gemma 4 behind the brace. */
void answer_pythonic_begin(mlxr_answer_parser *p)
{
    call *c = &p->call;

    c->from = c->pos;
    c->depth = 0;
    c->quote = '\0';
    c->triple = c->escaped = false;
    c->name_space = 0;
    c->phase = p->f->style == MLXR_CALLS_BRACED ? CALL_BRACES : CALL_LITERALS;
    if (c->phase == CALL_BRACES) {
        c->args = c->pos;
        c->depth = 1;
    }
}

static bool is_name_byte(char c)
{
    return answer_pythonic_begins(c) || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

static step literals_done(mlxr_answer_parser *p, size_t end)
{
    call *c = &p->call;
    const char *wrong = answer_pythonic_arguments(&c->json, p->text.data + c->args, end - c->args);

    c->pos = end + 1;
    if (wrong) return answer_call_fail(p, c->pos, wrong);
    return answer_call_done(p, c->args, end);
}

step answer_pythonic(mlxr_answer_parser *p, bool final)
{
    call *c = &p->call;

    for (size_t i = c->pos; i < p->text.len; c->pos = ++i) {
        char b = p->text.data[i];

        if (!c->args) { /* the name */
            if (b == '(') {
                if (!answer_call_take_name(p, c->from, c->name_space ? c->name_space : i))
                    return answer_call_fail(p, i, "a tool call without a name");
                c->args = i + 1;
                c->depth = 1;
            } else if (answer_is_space(b)) {
                if (!c->name_space) c->name_space = i;
            } else if (!is_name_byte(b) || c->name_space || i - c->from > MAX_NAME) {
                return answer_call_fail(p, i, "a tool call without arguments in brackets");
            }
            continue;
        }
        if (c->quote) {
            if (c->escaped) {
                c->escaped = false;
            } else if (b == '\\') {
                c->escaped = true;
            } else if (b == c->quote) {
                if (c->triple) {
                    if (i + 2 >= p->text.len && !final) return STEP_MORE;
                    if (i + 2 >= p->text.len || p->text.data[i + 1] != b || p->text.data[i + 2] != b)
                        continue;
                    i += 2;
                }
                c->quote = '\0';
            }
            continue;
        }
        switch (b) {
        case '"':
        case '\'':
            if (i + 2 >= p->text.len && !final) return STEP_MORE;
            c->quote = b;
            c->triple = i + 2 < p->text.len && p->text.data[i + 1] == b && p->text.data[i + 2] == b;
            if (c->triple) i += 2;
            break;
        case '(':
        case '[':
        case '{':
            if (c->quiet && c->depth == 1 && b == '(' && i == c->args)
                return answer_call_fail(p, i, "a tool call without arguments");
            c->depth++;
            break;
        case ')':
        case ']':
        case '}':
            if (--c->depth == 0) return literals_done(p, i);
            break;
        default: break;
        }
    }
    return STEP_MORE;
}

/* Gemma 4: between the marks <|"|> anything goes. */
step answer_braced(mlxr_answer_parser *p, bool final)
{
    static const char mark[] = "<|\"|>";
    call *c = &p->call;
    const char *wrong;

    for (size_t i = c->pos; i < p->text.len; c->pos = ++i) {
        char b = p->text.data[i];
        match m = c->quote ? NO_MATCH : answer_match(p, i, mark, final);

        if (m == WAIT && b == '<') return STEP_MORE;
        if (m == MATCH) {
            c->in_marker = !c->in_marker;
            i += sizeof mark - 2;
            continue;
        }
        if (c->in_marker) continue;
        if (c->quote) { /* a string as JSON has it */
            if (c->escaped)
                c->escaped = false;
            else if (b == '\\')
                c->escaped = true;
            else if (b == c->quote)
                c->quote = '\0';
        } else if (b == '"') {
            c->quote = b;
        } else if (b == '{' || b == '[') {
            c->depth++;
        } else if ((b == '}' || b == ']') && --c->depth == 0) {
            c->pos = i + 1;
            wrong = answer_braced_arguments(&c->json, p->text.data + c->args, i - c->args);
            return wrong ? answer_call_fail(p, c->pos, wrong) : answer_call_done(p, c->args, i);
        }
    }
    return STEP_MORE;
}
