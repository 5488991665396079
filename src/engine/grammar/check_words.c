/* check: what could have come, in words a person can use.
 *
 * The matcher tells bytes. Where these lead to a handful of values or names, all of them are written out by walking every
 * way through copies of the matcher; where there are more, the kind of value is named, or the characters. */
#include "engine/grammar/check.h"

#include <stdio.h>

enum {
    MOST_TEXTS = 8,   /* that are listed */
    MOST_STEPS = 600, /* bytes tried for that */
    MOST_BYTES = 120  /* of one text */
};

/* ---- a text that is cut where it is full ---- */

typedef struct words {
    char *out;
    size_t cap, n;
} words;

static void put_n(words *w, const char *s, size_t n)
{
    while (n > 0 && w->n + 1 < w->cap) {
        uint32_t cp;
        size_t k = mlxr_utf8_decode(s, n, &cp);
        if (k == 0) { /* half a character */
            s++;
            n--;
            continue;
        }
        if (w->n + k + 1 > w->cap) {
            w->cap = w->n + 1; /* nothing comes behind a cut */
            break;
        }
        memcpy(w->out + w->n, s, k);
        w->n += k;
        s += k;
        n -= k;
    }
    w->out[w->n] = '\0';
}

static void put(words *w, const char *s)
{
    put_n(w, s, strlen(s));
}

/* The i-th of n alternatives. */
static void put_between(words *w, size_t i, size_t n)
{
    if (i > 0) put(w, i + 1 == n ? " or " : ", ");
}

static words begin(char *out, size_t cap)
{
    out[0] = '\0';
    return (words){out, cap, 0};
}

/* ---- all texts of a scalar value, or of a name ---- */

typedef struct finder {
    mlxr_buf texts; /* each ends in NUL */
    size_t n_texts, n_steps;
    bool too_many;
    bool names; /* of members: strings alone */
} finder;

static bool number_byte(int c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static bool begins_scalar(int c, bool name)
{
    return c == '"' || (!name && (c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n'));
}

/* Which bytes can come one byte on. */
static void look_behind(bool next[256], const mlxr_matcher *m, char byte)
{
    mlxr_matcher *after;
    size_t n_taken;

    memset(next, 0, 256 * sizeof *next);
    if (mlxr_matcher_clone(&after, m, NULL) != MLXR_OK) return;
    if (mlxr_matcher_push(&n_taken, after, &byte, 1, NULL) == MLXR_OK && n_taken == 1)
        mlxr_matcher_next_bytes(next, after);
    mlxr_matcher_free(after);
}

/* Whether behind a point no digit but zero can come. */
static bool zeros_follow(const mlxr_matcher *m)
{
    bool next[256];

    look_behind(next, m, '.');
    for (int c = '1'; c <= '9'; c++)
        if (next[c]) return false;
    return true;
}

/* Goes on from m, where text[0..n) has been written. Calls itself once a byte, at most MOST_BYTES deep. */
static void find_texts(finder *f, const mlxr_matcher *m, char *text, size_t n)
{
    bool next[256], word = n > 0 && text[0] >= 'a' && text[0] <= 'z', number = n > 0 && number_byte(text[0]);
    bool string = n > 0 && text[0] == '"', whole = false;
    size_t n_next = 0;

    if (f->too_many) return;
    mlxr_matcher_next_bytes(next, m);
    if (string) {
        size_t n_back = 0;
        while (n_back + 2 < n && text[n - 2 - n_back] == '\\') n_back++;
        whole = n > 1 && text[n - 1] == '"' && n_back % 2 == 0;
    } else if (word) {
        whole = (n == 4 && (text[0] == 't' || text[0] == 'n')) || n == 5;
    } else if (number) {
        whole = mlxr_matcher_may_end(m);
        for (int c = 0; c < 256; c++) whole |= next[c] && !number_byte(c);
    }
    if (whole) {
        if (f->n_texts == MOST_TEXTS) {
            f->too_many = true;
            return;
        }
        mlxr_buf_append(&f->texts, text, n);
        mlxr_buf_char(&f->texts, '\0');
        f->n_texts++;
        if (!number) return;
    }
    for (int c = 0; c < 256; c++) {
        if (n == 0 && !begins_scalar(c, f->names)) next[c] = false;
        if (number && !number_byte(c)) next[c] = false;
        /* 1.0, 1.00, ... are 1. */
        if (number && whole && c == '0' && memchr(text, '.', n)) next[c] = false;
        if (number && whole && c == '.' && next[c] && zeros_follow(m)) next[c] = false;
        n_next += next[c];
    }
    if (n == MOST_BYTES || n_next > 40) { /* no list that a person would read */
        f->too_many |= n_next > 0;
        return;
    }
    for (int c = 0; c < 256 && !f->too_many; c++) {
        mlxr_matcher *after;
        size_t n_taken;
        if (!next[c]) continue;
        if (++f->n_steps > MOST_STEPS || mlxr_matcher_clone(&after, m, NULL) != MLXR_OK) {
            f->too_many = true;
            return;
        }
        text[n] = (char)c;
        if (mlxr_matcher_push(&n_taken, after, &text[n], 1, NULL) != MLXR_OK || n_taken != 1)
            f->too_many = true;
        else
            find_texts(f, after, text, n + 1);
        mlxr_matcher_free(after);
    }
}

static void find(finder *f, const mlxr_matcher *m, bool names)
{
    char text[MOST_BYTES + 1];

    *f = (finder){.names = names};
    find_texts(f, m, text, 0);
    if (f->texts.failed) f->too_many = true;
}

bool mlxr_words_few(const mlxr_matcher *m)
{
    finder f;
    bool few;

    find(&f, m, false);
    few = !f.too_many && f.n_texts > 0;
    mlxr_buf_clear(&f.texts);
    return few;
}

void mlxr_words_value(char *out, size_t cap, const mlxr_matcher *m)
{
    words w = begin(out, cap);
    const char *parts[MOST_TEXTS + 8];
    bool next[256], after[256], digit = false, fraction = false;
    size_t n = 0;
    finder f;

    mlxr_matcher_next_bytes(next, m);
    find(&f, m, false);
    if (!f.too_many) {
        for (size_t i = 0, at = 0; i < f.n_texts; i++) {
            parts[n++] = f.texts.data + at;
            at += strlen(f.texts.data + at) + 1;
        }
    } else {
        for (int c = '0'; c <= '9'; c++) {
            digit |= next[c];
            if (!next[c]) continue;
            look_behind(after, m, (char)c);
            fraction |= after['.'];
        }
        if (next['"']) parts[n++] = "a string";
        if (digit || next['-']) parts[n++] = fraction || !digit ? "a number" : "a whole number";
        if (next['t']) parts[n++] = "true";
        if (next['f']) parts[n++] = "false";
        if (next['n']) parts[n++] = "null";
    }
    if (next['[']) parts[n++] = "a list";
    if (next['{']) parts[n++] = "an object";
    if (next[']']) parts[n++] = "the end of the list";
    if (n > 2) put(&w, "one of ");
    for (size_t i = 0; i < n; i++) {
        put_between(&w, i, n);
        put(&w, parts[i]);
    }
    mlxr_buf_clear(&f.texts);
    if (n == 0) mlxr_words_bytes(out, cap, m);
}

bool mlxr_words_member(char *out, size_t cap, const mlxr_matcher *m)
{
    words w = begin(out, cap);
    bool next[256], ends, listed;
    finder f;

    mlxr_matcher_next_bytes(next, m);
    ends = next['}'];
    if (next['"']) {
        find(&f, m, true);
    } else { /* behind a member */
        mlxr_matcher *after = NULL;
        size_t n_taken;
        f = (finder){.too_many = true};
        if (!next[',']) {
            if (ends) put(&w, "\"}\"");
            if (!ends) mlxr_words_bytes(out, cap, m);
            return true;
        }
        if (mlxr_matcher_clone(&after, m, NULL) == MLXR_OK &&
            mlxr_matcher_push(&n_taken, after, ",", 1, NULL) == MLXR_OK && n_taken == 1)
            find(&f, after, true);
        mlxr_matcher_free(after);
    }
    listed = !f.too_many && f.n_texts > 0;
    if (!listed) {
        put(&w, "a member");
    } else {
        put(&w, f.n_texts == 1 ? "the member " : "one of the members ");
        for (size_t i = 0, at = 0; i < f.n_texts; i++) {
            if (i > 0) put(&w, ", ");
            put(&w, f.texts.data + at);
            at += strlen(f.texts.data + at) + 1;
        }
    }
    if (ends) put(&w, " or \"}\"");
    mlxr_buf_clear(&f.texts);
    return listed;
}

/* ---- characters ---- */

static void put_char(words *w, int c)
{
    static const char controls[] = "\n\r\t", names[] = "nrt";
    const char *control = c ? strchr(controls, c) : NULL;
    char text[8];

    if (c == '"') {
        put(w, "'\"'");
    } else if (control) {
        snprintf(text, sizeof text, "\"\\%c\"", names[control - controls]);
        put(w, text);
    } else if (c >= 0x20 && c < 0x7f) {
        snprintf(text, sizeof text, "\"%c\"", c);
        put(w, text);
    } else {
        snprintf(text, sizeof text, "0x%02x", (unsigned)c & 0xff);
        put(w, text);
    }
}

/* Ranges of characters from `from` to 0x7f, and those beyond ASCII; n_before: alternatives that are in w already, last: that one more comes
 * behind. */
static void put_ranges(words *w, const bool next[256], bool more_before)
{
    struct {
        int from, to;
    } ranges[129];
    size_t n = 0;
    bool beyond = false, any = true;

    for (int c = 0x80; c < 256; c++) beyond |= next[c];
    for (int c = 0x20; c < 0x7f; c++) any &= next[c] || c == '"' || c == '\\' || c == '/';
    if (any) {
        if (more_before) put(w, ", ");
        put(w, beyond ? "any character" : "any character of ASCII");
        return;
    }
    for (int c = 0; c < 0x80; c++) {
        bool joins = n > 0 && ranges[n - 1].to == c - 1 && c != '0' && c != ':' && c != 'A' && c != '[' &&
                     c != 'a' && c != '{';
        if (!next[c]) continue;
        if (joins) {
            ranges[n - 1].to = c;
        } else {
            ranges[n].from = ranges[n].to = c;
            n++;
        }
    }
    for (size_t i = 0; i < n; i++) {
        int from = ranges[i].from, to = ranges[i].to;
        if (more_before) put(w, i + 1 == n && !beyond ? " or " : ", ");
        more_before = true;
        if (from == '0' && to == '9') {
            put(w, "a digit");
        } else if (to - from >= 2) {
            put_char(w, from);
            put(w, " to ");
            put_char(w, to);
        } else {
            put_char(w, from);
            if (to > from) put(w, ", ");
            if (to > from) put_char(w, to);
        }
    }
    if (beyond) {
        if (more_before) put(w, " or ");
        put(w, "a character beyond ASCII");
    }
}

void mlxr_words_inside(char *out, size_t cap, const mlxr_matcher *m, const char *taken, size_t n_taken,
                       bool string)
{
    enum { TAIL = 40 }; /* bytes of what was read that are shown */
    words w = begin(out, cap);
    bool next[256], ends = false, more = false;
    size_t cut = n_taken > TAIL ? n_taken - TAIL : 0;

    mlxr_matcher_next_bytes(next, m);
    while (cut < n_taken && ((unsigned char)taken[cut] & 0xc0) == 0x80) cut++;
    if (n_taken > 0) {
        put(&w, string ? "behind \"" : "behind ");
        if (cut > 0) put(&w, "...");
        put_n(&w, taken + cut, n_taken - cut);
        put(&w, string ? "\": " : ": ");
    }
    if (string) {
        ends = next['"'];
        next['"'] = false;
    } else {
        ends = mlxr_matcher_may_end(m);
        for (int c = 0; c < 256; c++)
            if (!number_byte(c)) {
                ends |= next[c];
                next[c] = false;
            }
    }
    if (ends) {
        put(&w, string ? "the end of the string" : "the end of the number");
        more = true;
    }
    put_ranges(&w, next, more);
    if (w.n == 0) put(&w, "nothing");
}

void mlxr_words_bytes(char *out, size_t cap, const mlxr_matcher *m)
{
    words w = begin(out, cap);
    bool next[256], more = false;

    mlxr_matcher_next_bytes(next, m);
    if (mlxr_matcher_may_end(m)) {
        bool any = false;
        for (int c = 0; c < 256; c++) any |= next[c];
        put(&w, any ? "the end" : "nothing more");
        more = true;
    }
    put_ranges(&w, next, more);
}
