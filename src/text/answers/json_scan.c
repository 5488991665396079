/* json_scan: RFC 8259, one byte at a time, so that the end of a value is known with its last byte, and a mistake with its first. */
#include "text/answers/parser.h"

void json_scan_begin(json_scan *s)
{
    s->state = JS_VALUE;
    s->n_hex = 0;
    s->in_key = false;
    s->depth = 0;
    s->literal = NULL;
}

static json_scan_result value_ends(json_scan *s)
{
    s->state = s->depth ? JS_NEXT : JS_DONE;
    return s->depth ? JS_MORE : JS_END;
}

static json_scan_result open_bracket(json_scan *s, bool object)
{
    uint64_t bit;

    if (s->depth == JSON_SCAN_DEPTH) return JS_BAD;
    bit = (uint64_t)1 << (s->depth % 64);
    if (object)
        s->objects[s->depth / 64] |= bit;
    else
        s->objects[s->depth / 64] &= ~bit;
    s->depth++;
    s->state = object ? JS_FIRST_KEY : JS_FIRST_ITEM;
    return JS_MORE;
}

static bool in_object(const json_scan *s)
{
    return (s->objects[(s->depth - 1u) / 64] >> ((s->depth - 1u) % 64)) & 1;
}

static json_scan_result begin_value(json_scan *s, char c)
{
    switch (c) {
    case '{': return open_bracket(s, true);
    case '[': return open_bracket(s, false);
    case '"':
        s->in_key = false;
        s->state = JS_STRING;
        return JS_MORE;
    case 't': s->literal = "rue"; break;
    case 'f': s->literal = "alse"; break;
    case 'n': s->literal = "ull"; break;
    case '-': s->state = JS_MINUS; return JS_MORE;
    case '0': s->state = JS_ZERO; return JS_MORE;
    default:
        if (c < '1' || c > '9') return JS_BAD;
        s->state = JS_INT;
        return JS_MORE;
    }
    s->state = JS_LITERAL;
    return JS_MORE;
}

static json_scan_result next_byte(json_scan *s, char c)
{
    if (c == ',') {
        s->state = in_object(s) ? JS_KEY : JS_VALUE;
        return JS_MORE;
    }
    if (c != (in_object(s) ? '}' : ']')) return JS_BAD;
    s->depth--;
    return value_ends(s);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The byte that ends a number is looked at again as what follows it. */
static json_scan_result number_ends(json_scan *s, char c)
{
    if (!s->depth) {
        s->state = JS_DONE;
        return JS_ENDED;
    }
    s->state = JS_NEXT;
    return json_scan_byte(s, c);
}

json_scan_result json_scan_byte(json_scan *s, char c)
{
    switch ((json_scan_state)s->state) {
    case JS_STRING:
        if (c == '"') {
            if (!s->in_key) return value_ends(s);
            s->state = JS_COLON;
        } else if (c == '\\') {
            s->state = JS_ESCAPE;
        } else if ((unsigned char)c < 0x20) {
            return JS_BAD;
        }
        return JS_MORE;
    case JS_ESCAPE:
        if (c == 'u') {
            s->n_hex = 0;
            s->state = JS_HEX;
            return JS_MORE;
        }
        if (c == '\0' || !strchr("\"\\/bfnrt", c)) return JS_BAD;
        s->state = JS_STRING;
        return JS_MORE;
    case JS_HEX:
        if (!is_hex(c)) return JS_BAD;
        if (++s->n_hex == 4) s->state = JS_STRING;
        return JS_MORE;
    case JS_LITERAL:
        if (c != *s->literal) return JS_BAD;
        return *++s->literal ? JS_MORE : value_ends(s);
    case JS_MINUS:
        if (!is_digit(c)) return JS_BAD;
        s->state = c == '0' ? JS_ZERO : JS_INT;
        return JS_MORE;
    case JS_INT:
        if (is_digit(c)) return JS_MORE;
        /* fall through */
    case JS_ZERO:
        if (c == '.') {
            s->state = JS_POINT;
            return JS_MORE;
        }
        if (c == 'e' || c == 'E') {
            s->state = JS_E;
            return JS_MORE;
        }
        return number_ends(s, c);
    case JS_POINT:
        if (!is_digit(c)) return JS_BAD;
        s->state = JS_FRACTION;
        return JS_MORE;
    case JS_FRACTION:
        if (is_digit(c)) return JS_MORE;
        if (c == 'e' || c == 'E') {
            s->state = JS_E;
            return JS_MORE;
        }
        return number_ends(s, c);
    case JS_E:
        if (c == '+' || c == '-') {
            s->state = JS_E_SIGN;
            return JS_MORE;
        }
        /* fall through */
    case JS_E_SIGN:
        if (!is_digit(c)) return JS_BAD;
        s->state = JS_EXPONENT;
        return JS_MORE;
    case JS_EXPONENT: return is_digit(c) ? JS_MORE : number_ends(s, c);
    default: break;
    }
    if (answer_is_space(c)) return s->state == JS_DONE ? JS_ENDED : JS_MORE;
    switch ((json_scan_state)s->state) {
    case JS_FIRST_ITEM:
        if (c == ']') return next_byte(s, c);
        /* fall through */
    case JS_VALUE: return begin_value(s, c);
    case JS_FIRST_KEY:
        if (c == '}') return next_byte(s, c);
        /* fall through */
    case JS_KEY:
        if (c != '"') return JS_BAD;
        s->in_key = true;
        s->state = JS_STRING;
        return JS_MORE;
    case JS_COLON:
        if (c != ':') return JS_BAD;
        s->state = JS_VALUE;
        return JS_MORE;
    case JS_NEXT: return next_byte(s, c);
    default: return JS_BAD;
    }
}

bool json_is_value(const char *text, size_t n)
{
    json_scan s;
    size_t i = 0;
    json_scan_result r = JS_MORE;

    json_scan_begin(&s);
    while (i < n && r == JS_MORE) r = json_scan_byte(&s, text[i++]);
    if (r == JS_MORE) {
        /* A number ends with the text. */
        return s.depth == 0 &&
               (s.state == JS_ZERO || s.state == JS_INT || s.state == JS_FRACTION || s.state == JS_EXPONENT);
    }
    if (r == JS_BAD) return false;
    if (r == JS_ENDED) i--;
    while (i < n && answer_is_space(text[i])) i++;
    return i == n;
}

void json_compact(mlxr_buf *out, const char *text, size_t n)
{
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            mlxr_buf_char(out, c);
            if (c == '\\' && i + 1 < n)
                mlxr_buf_char(out, text[++i]);
            else if (c == '"')
                in_string = false;
        } else if (!answer_is_space(c)) {
            mlxr_buf_char(out, c);
            in_string = c == '"';
        }
    }
}

static uint32_t hex4(const char *s)
{
    uint32_t v = 0;

    for (int i = 0; i < 4; i++)
        v = v * 16 + (uint32_t)(is_digit(s[i]) ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
    return v;
}

bool json_unquote(mlxr_buf *out, const char *text, size_t n)
{
    uint32_t cp;

    if (n < 2 || text[0] != '"' || !json_is_value(text, n)) return false;
    while (n > 1 && text[n - 1] != '"') n--;
    for (size_t i = 1; i + 1 < n; i++) {
        if (text[i] != '\\') {
            mlxr_buf_char(out, text[i]);
            continue;
        }
        switch (text[++i]) {
        case 'b': mlxr_buf_char(out, '\b'); break;
        case 'f': mlxr_buf_char(out, '\f'); break;
        case 'n': mlxr_buf_char(out, '\n'); break;
        case 'r': mlxr_buf_char(out, '\r'); break;
        case 't': mlxr_buf_char(out, '\t'); break;
        case 'u':
            cp = hex4(text + i + 1);
            i += 4;
            if (cp >= 0xd800 && cp < 0xdc00 && i + 6 < n && text[i + 1] == '\\' && text[i + 2] == 'u') {
                uint32_t low = hex4(text + i + 3);
                if (low < 0xdc00 || low > 0xdfff) return false;
                cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
                i += 6;
            } else if (cp >= 0xd800 && cp < 0xe000) {
                return false;
            }
            if (cp == 0) return false;
            mlxr_buf_utf8(out, cp);
            break;
        default: mlxr_buf_char(out, text[i]);
        }
    }
    return true;
}
