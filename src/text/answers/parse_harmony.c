/* parse_harmony: messages with heads, as gpt-oss writes them.
 *
 *   <|start|>assistant<|channel|>CHANNEL to=RECIPIENT <|constrain|>json<|message|>BODY<|end|> | <|call|> | <|return|>
 *
 * The recipient may stand before the channel; the first head of an answer lacks what the prompt has written. Channel analysis is
 * thinking, a message to a function is a call, all else is content. Bodies of one kind that follow each other are joined by a
 * line end. OpenAI's description of the format: github.com/openai/harmony, docs/format.md. */
#include "text/answers/parser.h"

static const char *const ends[] = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"};
enum { N_CLOSING = 3 }; /* of them: the others begin the next message */

static void to_head(mlxr_answer_parser *p, size_t at)
{
    p->state = IN_HEAD;
    p->at = p->scan = at;
}

static void to_body(mlxr_answer_parser *p, mlxr_part part, size_t at)
{
    p->state = IN_BODY;
    p->body = part;
    p->body_has = false;
    p->at = p->scan = at;
}

/* The end of the word at i. */
static size_t word_end(const mlxr_answer_parser *p, size_t i, size_t to)
{
    while (i < to && !answer_is_space(p->text.data[i]) && p->text.data[i] != '<') i++;
    return i;
}

/* text[from, to): a head up to <|message|>, which ends at body. */
static step head_done(mlxr_answer_parser *p, size_t from, size_t to, size_t body)
{
    const char *s = p->text.data;
    size_t channel = 0, n_channel = 0, recipient = 0, n_recipient = 0;
    bool analysis, to_reader;

    for (size_t i = from; i < to; i++) {
        if (!recipient && to - i > 3 && memcmp(s + i, "to=", 3) == 0 &&
            (i == from || answer_is_space(s[i - 1]) || s[i - 1] == '>')) {
            recipient = i + 3;
            n_recipient = word_end(p, recipient, to) - recipient;
        }
        if (to - i > 11 && memcmp(s + i, "<|channel|>", 11) == 0) {
            channel = i + 11;
            n_channel = word_end(p, channel, to) - channel;
        }
    }
    analysis = n_channel == 8 && memcmp(s + channel, "analysis", 8) == 0;
    to_reader = n_recipient == 0 || (n_recipient == 4 && memcmp(s + recipient, "user", 4) == 0) ||
                (n_recipient == 3 && memcmp(s + recipient, "all", 3) == 0);
    if (to_reader || !p->o.calls) {
        to_body(p, analysis && to_reader ? MLXR_PART_THINKING : MLXR_PART_CONTENT, body);
        return STEP_ON;
    }
    answer_call_begin_arguments(p, body);
    if (!answer_call_take_name(p, recipient, recipient + n_recipient))
        return answer_call_fail(p, body, "a tool call without a name");
    return STEP_ON;
}

/* The head is none: text up to `to` is content, and so is what follows up to the next marker. */
static step head_fails(mlxr_answer_parser *p, size_t first, size_t to)
{
    for (int k = 0; k < 3 && to < p->text.len && ((unsigned char)p->text.data[to] & 0xc0) == 0x80; k++) to--;
    p->warning = "a message without a body";
    answer_emit(p, MLXR_PART_CONTENT, first, to);
    to_body(p, MLXR_PART_CONTENT, to);
    p->body_has = true;
    p->last_part = MLXR_PART_CONTENT;
    return STEP_ON;
}

step answer_harmony_head(mlxr_answer_parser *p, bool final)
{
    static const char *const begins[] = {"<|start|>",     "<|channel|>", "<|message|>",
                                         "<|constrain|>", "to=",         "assistant"};
    size_t first = answer_space_end(p), i;
    bool wait = false, is_head = false;

    if (first == p->text.len) {
        if (final && p->start) answer_emit(p, MLXR_PART_CONTENT, p->at, first);
        if (final) p->at = first;
        return STEP_MORE;
    }
    /* What closes a message or a call, once more. */
    for (size_t k = 0; k < N_CLOSING; k++) {
        match m = answer_match(p, first, ends[k], final);
        wait = wait || m == WAIT;
        if (m != MATCH) continue;
        to_head(p, first + strlen(ends[k]));
        return STEP_ON;
    }
    for (size_t k = 0; k < MLXR_COUNT(begins); k++) {
        match m = answer_match(p, first, begins[k], final);
        wait = wait || m == WAIT;
        is_head = is_head || m == MATCH;
    }
    if (!is_head) {
        if (wait) return STEP_MORE;
        to_body(p, MLXR_PART_CONTENT, p->start ? p->at : first); /* an answer without a head */
        return STEP_ON;
    }
    for (i = p->scan > first ? p->scan : first; i < p->text.len; i++) {
        match m;
        if (i - first > MAX_HEAD) return head_fails(p, first, first + MAX_HEAD);
        if (p->text.data[i] != '<') continue;
        m = answer_match(p, i, "<|message|>", final);
        if (m == MATCH) {
            p->at = first;
            return head_done(p, first, i, i + 11);
        }
        for (size_t k = 0; k < N_CLOSING; k++) {
            match e = answer_match(p, i, ends[k], final);
            if (e == MATCH) return head_fails(p, first, i);
            if (e == WAIT) m = WAIT;
        }
        if (m == WAIT) break;
    }
    if (final) return head_fails(p, first, p->text.len);
    p->scan = i;
    return STEP_MORE;
}

/* Text of a body; a line end before it where the last message was of the same part. */
static void emit_body(mlxr_answer_parser *p, size_t from, size_t to)
{
    if (from >= to) return;
    if (!p->body_has && p->last_part == (int)p->body) {
        mlxr_part_event e = {.part = p->body, .text = "\n", .n_text = 1};
        p->o.on_part(&e, p->o.ud);
    }
    p->body_has = true;
    p->last_part = (int)p->body;
    answer_emit(p, p->body, from, to);
}

step answer_harmony_body(mlxr_answer_parser *p, bool final)
{
    size_t i, tail;
    match m = NO_MATCH;
    size_t k = 0;

    if (p->scan < p->at) p->scan = p->at;
    for (i = p->scan; i < p->text.len; i++) {
        bool wait = false;
        if (p->text.data[i] != '<') continue;
        for (k = 0; k < MLXR_COUNT(ends); k++) {
            m = answer_match(p, i, ends[k], final);
            if (m == MATCH) break;
            wait = wait || m == WAIT;
        }
        if (m == MATCH) break;
        m = wait ? WAIT : NO_MATCH;
        if (wait) break;
    }
    tail = i;
    if (p->body == MLXR_PART_THINKING) {
        if (!p->body_has) {
            size_t from = answer_skip_space(p, p->at);
            p->at = from < i ? from : i;
        }
        tail = answer_trim_end(p, tail);
    }
    if (m != MATCH && i == p->text.len && !final) tail = answer_whole(p, p->at, tail);
    if (m != MATCH && final) tail = i;
    emit_body(p, p->at, tail);
    p->at = tail;
    p->scan = i;
    if (m != MATCH) return STEP_MORE;
    to_head(p, k < N_CLOSING ? i + strlen(ends[k]) : i);
    return STEP_ON;
}

void answer_harmony_after_call(mlxr_answer_parser *p, bool was_call)
{
    if (was_call) {
        to_head(p, p->at);
    } else {
        to_body(p, MLXR_PART_CONTENT, p->at);
        p->body_has = true;
        p->last_part = MLXR_PART_CONTENT;
    }
}
