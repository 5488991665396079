/* Fuzz entry: any text as an answer in any format. The first bytes choose the format, the options and the cuts; control characters
 * in the rest stand for the format's markers, so that few bytes make deep structures. The text given as a whole, byte by byte
 * and cut in places that the input chooses must come out as the same parts. Where it has no thinking, no marker that is dropped
 * and comes to no call, all of it must come out as content, byte for byte. */
#include "text/answers/collect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tools[] = "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
                            "{\"type\": \"object\", \"properties\": {"
                            "\"a\": {\"type\": \"string\"}, \"b\": {\"type\": [\"integer\", \"null\"]}, "
                            "\"c\": {\"anyOf\": [{\"type\": "
                            "\"array\"}, {\"$ref\": \"#/$defs/d\"}]}}, \"$defs\": {\"d\": {\"enum\": [1, "
                            "true, \"x\"]}, \"e\": {\"$ref\": "
                            "\"#/$defs/e\"}}}}}]";

static size_t byte_by_byte(void *ud, size_t at, size_t left)
{
    return 1;
}

static size_t by_input(void *ud, size_t at, size_t left)
{
    uint32_t *x = ud;

    *x = *x * 1664525u + 1013904223u;
    return 1 + (*x >> 24) % 23;
}

static void expand(mlxr_buf *out, const mlxr_answer_format *f, const uint8_t *data, size_t size)
{
    const char *const texts[] = {
        f->think_open,       f->think_close,     f->calls_open,        f->calls_close,
        f->call_open,        f->call_close,      f->calls_open_other,  f->name_open,
        f->name_close,       f->name_end,        f->id_open,           f->arguments_close,
        f->key_open,         f->key_close,       f->value_open,        f->value_close,
        f->body_close,       f->dropped[0],      f->layout.head,       f->layout.middle,
        f->layout.tail,      f->layout.key_open, f->layout.value_open, f->layout.value_close,
        f->layout.calls_open};

    for (size_t i = 0; i < size; i++) {
        size_t k = data[i] < 9 ? data[i] : data[i] - 5u; /* tab, line ends stay themselves */
        bool is_marker = (data[i] > 0 && data[i] < 9) || (data[i] > 13 && data[i] < 30);
        if (!is_marker)
            mlxr_buf_char(out, (char)data[i]);
        else if (k < MLXR_COUNT(texts) && texts[k])
            mlxr_buf_str(out, texts[k]);
    }
}

static void same(const collected *a, const mlxr_answer_parser_options *o, const mlxr_buf *text,
                 collect_cut cut, void *ud)
{
    collected b;

    if (collect_run(&b, o, text->data, text->len, cut, ud, NULL) != MLXR_OK) __builtin_trap();
    if (b.wrong || a->notes.len != b.notes.len || memcmp(a->notes.data, b.notes.data, a->notes.len) != 0)
        __builtin_trap();
    collect_clear(&b);
}

static bool has(const mlxr_buf *text, const char *marker)
{
    return marker && memmem(text->data, text->len, marker, strlen(marker));
}

/* Whether the answer's whole text is its content. */
static bool is_all_content(const collected *a, const mlxr_answer_parser_options *o, const mlxr_buf *text)
{
    const mlxr_answer_format *f = o->format;

    if (a->i_call || o->starts_thinking || f->style == MLXR_CALLS_HARMONY || f->head_open) return false;
    if (has(text, f->think_open) || has(text, f->think_close)) return false;
    for (size_t i = 0; i < MLXR_ANSWER_MAX_DROPPED; i++)
        if (has(text, f->dropped[i])) return false;
    return !memchr(text->data, 0x1e, text->len); /* the notes' separator */
}

static void check_nothing_is_lost(const collected *a, const mlxr_buf *text)
{
    mlxr_buf content = {0};
    const char *s = a->notes.data, *end = s + a->notes.len, *next;

    mlxr_buf_append(&content, "", 0);
    for (; s < end; s = next + 1) {
        next = memchr(s, 0x1e, (size_t)(end - s));
        if (!next) next = end;
        if (*s == 'C') mlxr_buf_append(&content, s + 1, (size_t)(next - s - 1));
    }
    if (content.len != text->len || memcmp(content.data, text->data, text->len) != 0) __builtin_trap();
    mlxr_buf_clear(&content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_answer_parser_options o = mlxr_answer_parser_options_default();
    mlxr_buf text = {0};
    collected a;
    uint32_t seed;

    if (size < 4 || size > 4096) return 0;
    o.format = mlxr_answer_format_at(data[0] % mlxr_answer_format_count());
    o.starts_thinking = data[1] & 1;
    o.calls = !(data[1] & 2) || (data[1] & 4);
    o.tools_json = data[1] & 8 ? tools : NULL;
    seed = (uint32_t)data[2] << 8 | data[3];
    mlxr_buf_append(&text, "", 0);
    expand(&text, o.format, data + 4, size - 4);
    if (collect_run(&a, &o, text.data, text.len, NULL, NULL, NULL) != MLXR_OK) __builtin_trap();
    if (a.wrong) __builtin_trap();
    same(&a, &o, &text, byte_by_byte, NULL);
    same(&a, &o, &text, by_input, &seed);
    if (is_all_content(&a, &o, &text)) check_nothing_is_lost(&a, &text);
    collect_clear(&a);
    mlxr_buf_clear(&text);
    return 0;
}
