/* parser: thinking, content and where calls begin. What a call is, is parse_call.c's. */
#include "text/answers/parser.h"

#include <stdlib.h>

mlxr_answer_parser_options mlxr_answer_parser_options_default(void)
{
    return (mlxr_answer_parser_options){.calls = true};
}

/* ---- text ---- */

size_t answer_whole(const mlxr_answer_parser *p, size_t from, size_t to)
{
    for (size_t n = 1; n <= 3 && from + n <= to; n++) {
        unsigned char c = (unsigned char)p->text.data[to - n];
        if (c < 0x80) break;
        if (c >= 0xc0) return mlxr_utf8_is_partial(p->text.data + to - n, n) ? to - n : to;
    }
    return to;
}

/* Strings of events are NUL-terminated: the byte behind them is put back afterwards. */
static void emit_bytes(mlxr_answer_parser *p, mlxr_part part, char *s, size_t n)
{
    mlxr_part_event e = {.part = part, .text = s, .n_text = n};
    char behind = s[n];

    if (part == MLXR_PART_CONTENT) {
        e.warning = p->warning;
        p->warning = NULL;
    }
    s[n] = '\0';
    if (p->o.on_part) p->o.on_part(&e, p->o.ud);
    s[n] = behind;
}

void answer_emit(mlxr_answer_parser *p, mlxr_part part, size_t from, size_t to)
{
    if (from >= to) return;
    if (part == MLXR_PART_CONTENT) {
        if (p->held.len) emit_bytes(p, part, p->held.data, p->held.len);
        p->may_think = p->lead = p->gap = false;
    }
    p->held.len = 0;
    p->start = false;
    emit_bytes(p, part, p->text.data + from, to - from);
}

match answer_match(const mlxr_answer_parser *p, size_t i, const char *marker, bool final)
{
    size_t n = strlen(marker), left = p->text.len - i;

    if (left >= n) return memcmp(p->text.data + i, marker, n) == 0 ? MATCH : NO_MATCH;
    return !final && (left == 0 || memcmp(p->text.data + i, marker, left) == 0) ? WAIT : NO_MATCH;
}

match answer_find(const mlxr_answer_parser *p, size_t from, const char *marker, bool final, size_t *found)
{
    for (size_t i = from; i < p->text.len; i++) {
        const char *hit = memchr(p->text.data + i, marker[0], p->text.len - i);
        match m;
        if (!hit) break;
        i = (size_t)(hit - p->text.data);
        m = answer_match(p, i, marker, final);
        if (m == NO_MATCH) continue;
        *found = i;
        return m;
    }
    *found = p->text.len;
    return final ? NO_MATCH : WAIT;
}

/* ---- markers ---- */

static void add_marker(mlxr_answer_parser *p, const char *text, marker_kind kind, bool first_only)
{
    if (!text || p->n_markers == MAX_MARKERS) return;
    p->markers[p->n_markers++] = (answer_marker){
        .text = text, .n = strlen(text), .kind = kind, .first_only = first_only};
    p->starts[(unsigned char)text[0]] = true;
}

static void add_markers(mlxr_answer_parser *p)
{
    const mlxr_answer_format *f = p->f;

    if (f->think_open) {
        add_marker(p, f->think_open, MARK_THINK, !f->think_anywhere);
        add_marker(p, f->think_close, MARK_THINK_END, true);
    }
    if (p->o.calls && f->style != MLXR_CALLS_NONE) {
        add_marker(p, f->calls_open, MARK_CALLS, false);
        /* Of two markers the second counts by itself too, unless it is a mere fence. */
        if (!f->calls_open || (f->call_open && f->call_open[0] != '`'))
            add_marker(p, f->call_open, MARK_CALL, false);
        if (!f->call_open) add_marker(p, f->name_open, MARK_NAME, f->calls_open != NULL);
        add_marker(p, f->calls_open_other, MARK_OTHER, false);
        add_marker(p, f->body_close, MARK_CLOSE, true);
        add_marker(p, f->arguments_close, MARK_CLOSE, true);
        add_marker(p, f->call_close, MARK_CLOSE, true);
        add_marker(p, f->calls_close, MARK_CALLS_CLOSE, true);
        if (f->style == MLXR_CALLS_JSON) add_marker(p, f->call_separator, MARK_CLOSE, true);
    }
    add_marker(p, f->head_open, MARK_HEAD, true);
    for (size_t i = 0; i < MLXR_ANSWER_MAX_DROPPED; i++) add_marker(p, f->dropped[i], MARK_DROP, false);
}

static bool marker_counts(const mlxr_answer_parser *p, const answer_marker *m)
{
    switch (m->kind) {
    case MARK_THINK: return !m->first_only || p->may_think;
    case MARK_HEAD: return p->may_think;
    case MARK_THINK_END: return p->start;
    case MARK_CLOSE:
    case MARK_CALLS_CLOSE: return p->gap;
    case MARK_NAME: return !m->first_only || (p->gap && p->in_calls);
    default: return true;
    }
}

/* The first marker from `from` on; *where: its place, or with WAIT where one may begin, else the end. */
static match find_marker(const mlxr_answer_parser *p, size_t from, size_t first, bool final, size_t *where,
                         const answer_marker **which)
{
    for (size_t i = from; i < p->text.len; i++) {
        size_t wait = 0;
        if (!p->starts[(unsigned char)p->text.data[i]]) continue;
        *which = NULL;
        for (size_t k = 0; k < p->n_markers; k++) {
            const answer_marker *m = &p->markers[k];
            match r;
            if ((m->first_only && i != first) || !marker_counts(p, m)) continue;
            r = answer_match(p, i, m->text, final);
            if (r == WAIT && m->n > wait) wait = m->n;
            /* Of two with one text (a fence), the one that closes. */
            if (r == MATCH && (!*which || m->n > (*which)->n || (m->n == (*which)->n && m->first_only)))
                *which = m;
        }
        *where = i;
        if (wait && (!*which || wait > (*which)->n)) return WAIT;
        if (*which) return MATCH;
    }
    *where = p->text.len;
    return NO_MATCH;
}

/* ---- content ---- */

static void think_begins(mlxr_answer_parser *p)
{
    p->held.len = 0;
    p->state = IN_THINKING;
    p->block_has = p->start = p->gap = false;
}

static void think_ends(mlxr_answer_parser *p)
{
    p->state = IN_CONTENT;
    p->start = p->gap = false;
    p->lead = p->may_think = true;
}

/* Drops the head at p->at; one that is none is content. MORE: its end has not come. */
static step head_step(mlxr_answer_parser *p, bool final)
{
    size_t from = p->at + strlen(p->f->head_open), i = from;
    match m = NO_MATCH;

    while (i < p->text.len && i - from < MAX_NAME && !answer_is_space(p->text.data[i]) &&
           p->text.data[i] != '<')
        i++;
    if (i == p->text.len ? !final && i - from < MAX_NAME : p->text.data[i] == '<')
        m = answer_match(p, i, p->f->head_close, final);
    if (m == WAIT) return STEP_MORE;
    if (m == NO_MATCH) {
        answer_emit(p, MLXR_PART_CONTENT, p->at, from);
        p->at = from;
    } else {
        p->at = i + strlen(p->f->head_close);
        p->held.len = 0;
        p->lead = p->may_think = true;
    }
    p->scan = p->at;
    return STEP_ON;
}

static void at_marker(mlxr_answer_parser *p, const answer_marker *m)
{
    switch (m->kind) {
    case MARK_THINK:
        p->at += m->n;
        think_begins(p);
        break;
    case MARK_THINK_END:
        p->at += m->n;
        p->held.len = 0;
        think_ends(p);
        break;
    case MARK_CALLS_CLOSE: p->in_calls = false; /* fall through */
    case MARK_CLOSE:
        p->at += m->n;
        p->held.len = 0;
        break;
    case MARK_DROP:
        p->at += m->n;
        if (p->f->head_open) p->may_think = p->lead = true; /* the next message */
        break;
    default: answer_call_begin(p, m->kind, m->n); break;
    }
    p->scan = p->at;
}

/* Whether a call begins here without any marker: where the format has none, and an object behind a call, since some models (and
 * templates) write the marker once for several. */
static bool bare_begins(const mlxr_answer_parser *p, char c)
{
    bool json = p->f->style == MLXR_CALLS_JSON || p->f->style == MLXR_CALLS_JSON_LIST;

    if (!p->o.calls || !p->may_think) return false;
    if (!p->f->bare) return json && p->gap && c == '{';
    return c == '[' || (c == '{' && p->f->style != MLXR_CALLS_PYTHONIC);
}

/* Where white space behind a marker ends: its last line end, so that a line keeps its indentation. */
static size_t behind_lead(const mlxr_answer_parser *p, size_t first)
{
    size_t i = first;

    while (i > p->at && p->text.data[i - 1] != '\n' && p->text.data[i - 1] != '\r') i--;
    return i > p->at ? i : first;
}

static step content_step(mlxr_answer_parser *p, bool final)
{
    size_t first = answer_space_end(p), where, tail;
    const answer_marker *m = NULL;
    match r;

    if (p->scan < p->at) p->scan = p->at;
    if (first < p->text.len && p->scan <= first && bare_begins(p, p->text.data[first])) {
        if (!p->lead) mlxr_buf_append(&p->held, p->text.data + p->at, first - p->at);
        p->at = first;
        answer_call_begin_bare(p);
        return STEP_ON;
    }
    r = find_marker(p, p->scan, first, final, &where, &m);
    if (p->lead) {
        if (first >= where) { /* nothing but white space */
            p->scan = where;
            if (r == MATCH) p->at = where;
            if (r == NO_MATCH && final) p->at = where;
        } else {
            p->at = behind_lead(p, first);
            p->lead = p->gap = false;
        }
    }
    if (!p->lead) {
        tail = answer_trim_end(p, where);
        if (r != MATCH && where == p->text.len && !final) tail = answer_whole(p, p->at, tail);
        if ((r == NO_MATCH && final) || !p->n_markers) tail = where;
        if (!p->n_markers && !final) tail = answer_whole(p, p->at, tail);
        answer_emit(p, MLXR_PART_CONTENT, p->at, tail);
        p->at = tail;
        if (r == MATCH) {
            mlxr_buf_append(&p->held, p->text.data + tail, where - tail);
            p->at = where;
        }
    }
    if (r == MATCH && m->kind == MARK_HEAD) {
        p->scan = p->at;
        return head_step(p, final);
    }
    if (r == MATCH) {
        at_marker(p, m);
        return STEP_ON;
    }
    p->scan = where;
    return STEP_MORE;
}

/* ---- thinking ---- */

/* The marker at i that ends thinking or is to be passed over in it. */
static match thinking_match(const mlxr_answer_parser *p, size_t i, size_t first, bool final, answer_marker *m)
{
    const mlxr_answer_format *f = p->f;
    const struct {
        const char *text;
        marker_kind kind;
        bool counts;
    } ends[] = {
        {f->think_close, MARK_THINK_END, true},
        {f->think_open, MARK_THINK, !p->block_has && i == first},
        {f->calls_open, MARK_CALLS, f->calls_end_thinking && p->o.calls},
    };
    match r = NO_MATCH;

    for (size_t k = 0; k < MLXR_COUNT(ends); k++) {
        match one;
        if (!ends[k].text || !ends[k].counts) continue;
        one = answer_match(p, i, ends[k].text, final);
        if (one == MATCH) {
            *m = (answer_marker){.text = ends[k].text, .n = strlen(ends[k].text), .kind = ends[k].kind};
            return MATCH;
        }
        if (one == WAIT) r = WAIT;
    }
    return r;
}

static step thinking_step(mlxr_answer_parser *p, bool final)
{
    size_t first, where, tail;
    answer_marker m = {0};
    match r = NO_MATCH;

    if (!p->block_has) p->at = answer_skip_space(p, p->at);
    first = p->at;
    if (p->scan < p->at) p->scan = p->at;
    for (where = p->scan; where < p->text.len; where++)
        if (p->starts[(unsigned char)p->text.data[where]] &&
            (r = thinking_match(p, where, first, final, &m)) != NO_MATCH)
            break;
    tail = answer_trim_end(p, where);
    if (r != MATCH && where == p->text.len && !final) tail = answer_whole(p, p->at, tail);
    if (r == NO_MATCH && final) tail = where;
    if (tail > p->at) p->block_has = true;
    answer_emit(p, MLXR_PART_THINKING, p->at, tail);
    p->at = tail;
    p->scan = where;
    if (r != MATCH) return STEP_MORE;
    p->at = where;
    if (m.kind == MARK_CALLS) {
        think_ends(p);
    } else {
        p->at += m.n;
        if (m.kind == MARK_THINK_END) think_ends(p);
    }
    p->scan = p->at;
    return STEP_ON;
}

/* ---- the parser ---- */

static void run(mlxr_answer_parser *p, bool final)
{
    step s = STEP_ON;

    while (s == STEP_ON && p->failed == MLXR_OK) {
        switch (p->state) {
        case IN_CONTENT: s = content_step(p, final); break;
        case IN_THINKING: s = thinking_step(p, final); break;
        case IN_CALL:
            s = answer_call_step(p, final);
            if (s == STEP_MORE && final) {
                answer_call_cut_off(p);
                s = STEP_ON;
            }
            break;
        case IN_HEAD: s = answer_harmony_head(p, final); break;
        case IN_BODY: s = answer_harmony_body(p, final); break;
        }
        if (p->text.failed || p->held.failed || p->call.name.failed || p->call.id.failed ||
            p->call.key.failed || p->call.attributes.failed || p->call.json.failed)
            p->failed = MLXR_E_NOMEM;
    }
    /* What is given out goes, now and then. A call has offsets into the text. */
    if (p->state != IN_CALL && p->at > 4096 && p->at > p->text.len / 2) {
        memmove(p->text.data, p->text.data + p->at, p->text.len - p->at);
        p->text.len -= p->at;
        p->text.data[p->text.len] = '\0';
        p->scan = p->scan > p->at ? p->scan - p->at : 0;
        p->space_to = p->space_to > p->at ? p->space_to - p->at : 0;
        p->at = 0;
    }
}

mlxr_status mlxr_answer_parser_create(mlxr_answer_parser **out, const mlxr_answer_parser_options *options,
                                      mlxr_error *err)
{
    mlxr_answer_parser *p;
    mlxr_status st;

    *out = NULL;
    if (!options->format || !options->on_part)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "answer parser: it needs a format and a callback");
    p = calloc(1, sizeof *p);
    if (!p) return mlxr_fail_nomem(err, "answer parser");
    p->o = *options;
    p->f = options->format;
    p->start = p->may_think = true;
    p->last_part = -1;
    if (options->tools_json) {
        st = mlxr_json_parse(&p->tools, options->tools_json, strlen(options->tools_json), "tools", err);
        if (st == MLXR_OK && !json_is_array(p->tools))
            st = mlxr_fail(err, MLXR_E_FORMAT, "tools: not a list");
        if (st != MLXR_OK) {
            mlxr_answer_parser_free(p);
            return st;
        }
    }
    p->o.tools_json = NULL;
    add_markers(p);
    if (p->f->style == MLXR_CALLS_HARMONY)
        p->state = IN_HEAD;
    else if (options->starts_thinking && p->f->think_open)
        p->state = IN_THINKING;
    *out = p;
    return MLXR_OK;
}

bool mlxr_answer_parser_is_thinking(const mlxr_answer_parser *p)
{
    return p->state == IN_THINKING || (p->state == IN_BODY && p->body == MLXR_PART_THINKING);
}

void mlxr_answer_parser_free(mlxr_answer_parser *p)
{
    if (!p) return;
    json_decref(p->tools);
    mlxr_buf_clear(&p->text);
    mlxr_buf_clear(&p->held);
    mlxr_buf_clear(&p->call.name);
    mlxr_buf_clear(&p->call.id);
    mlxr_buf_clear(&p->call.key);
    mlxr_buf_clear(&p->call.attributes);
    mlxr_buf_clear(&p->call.json);
    free(p);
}

/* Whether a special token is a marker of the format, or part of one. */
static bool is_part_of_marker(const mlxr_answer_format *f, const char *s, size_t n)
{
    const char *const all[] = {
        f->think_open,      f->think_close,      f->calls_open,
        f->calls_close,     f->call_open,        f->call_close,
        f->call_separator,  f->calls_open_other, f->name_open,
        f->name_close,      f->name_end,         f->id_open,
        f->arguments_close, f->key_open,         f->key_close,
        f->value_open,      f->value_close,      f->body_close,
        f->head_open,       f->head_close,       f->values == MLXR_VALUES_BRACED ? "<|\"|>" : NULL};

    for (size_t k = 0; k < MLXR_COUNT(all) + MLXR_ANSWER_MAX_DROPPED; k++) {
        const char *m = k < MLXR_COUNT(all) ? all[k] : f->dropped[k - MLXR_COUNT(all)];
        size_t n_m = m ? strlen(m) : 0;
        for (size_t i = 0; n && n <= n_m && i + n <= n_m; i++)
            if (memcmp(m + i, s, n) == 0) return true;
    }
    return false;
}

static mlxr_status after(mlxr_answer_parser *p, mlxr_error *err)
{
    return p->failed == MLXR_OK ? MLXR_OK : mlxr_fail_nomem(err, "answer parser");
}

mlxr_status mlxr_answer_parser_push(mlxr_answer_parser *p, const char *text, size_t n, bool special,
                                    mlxr_error *err)
{
    if (p->finished) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "answer parser: text behind the end");
    if (p->failed != MLXR_OK || n == 0) return after(p, err);
    if (special && !is_part_of_marker(p->f, text, n)) return MLXR_OK;
    mlxr_buf_append(&p->text, text, n);
    if (p->text.failed) p->failed = MLXR_E_NOMEM;
    if (p->failed == MLXR_OK) run(p, false);
    return after(p, err);
}

mlxr_status mlxr_answer_parser_finish(mlxr_answer_parser *p, mlxr_error *err)
{
    if (p->finished || p->failed != MLXR_OK) return after(p, err);
    p->finished = true;
    if (!p->text.data) mlxr_buf_append(&p->text, "", 0);
    run(p, true);
    if (p->failed == MLXR_OK && p->held.len && !p->lead)
        emit_bytes(p, MLXR_PART_CONTENT, p->held.data, p->held.len);
    p->held.len = 0;
    return after(p, err);
}
