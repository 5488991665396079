/* check: could the grammar have written this value, the order of members aside?
 *
 * A value is written in its possible forms, and the matcher, which is a set of places in the grammar, reads each: a number plain
 * and as it stands in the instance, everything else in the one compact form, which every grammar of JSON takes. Members: the rules
 * that the matcher may be in behind "{" tell the orders they write; the instance's members are put in each of
 * these orders on a copy, and what the copies come to is merged. So alternatives that order members differently are all
 * tried, and everything else about alternatives is the matcher's own business.
 *
 * The failure that is told is the one of the way that got furthest, counted in bytes of the value. */
#include "engine/grammar/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/schema.h"

/* What a check may cost: so many bytes pushed (a copy counts as COPY_STEPS), and so many for each byte of the instance. */
enum { STEPS_BASE = 1000000, STEPS_PER_BYTE = 100, COPY_STEPS = 16 };

typedef struct part {
    const struct mlxr_value_name *name; /* NULL: item i */
    size_t i;
} part;

struct mlxr_schema_checker {
    mlxr_masker *masker;
    /* One check's: */
    mlxr_error *err;
    mlxr_schema_verdict *verdict;
    size_t steps_left;
    part path[MLXR_VALUE_MAX_DEPTH + 1];
    size_t n_path;
    bool failed; /* somewhere, with the verdict as of the furthest */
    bool nomem;  /* while telling where */
    size_t furthest;
};

mlxr_status mlxr_schema_checker_create(mlxr_schema_checker **out, mlxr_grammar *g, mlxr_error *err)
{
    mlxr_schema_checker *c = calloc(1, sizeof *c);
    mlxr_status st;

    *out = NULL;
    if (!c) return mlxr_fail_nomem(err, "grammar check");
    if ((st = mlxr_masker_create(&c->masker, g, NULL, err)) != MLXR_OK) {
        mlxr_schema_checker_free(c);
        return st;
    }
    *out = c;
    return MLXR_OK;
}

void mlxr_schema_checker_free(mlxr_schema_checker *c)
{
    if (!c) return;
    mlxr_masker_free(c->masker);
    free(c);
}

/* ---- one way through the grammar ---- */

typedef struct way {
    mlxr_matcher *m; /* NULL: nothing fits any more */
    size_t n_bytes;  /* of the value, so far */
} way;

static mlxr_status spend(mlxr_schema_checker *c, size_t n)
{
    if (c->steps_left < n)
        return mlxr_fail(c->err, MLXR_E_LIMIT,
                         "grammar check: too many ways to write the value had to be tried");
    c->steps_left -= n;
    return MLXR_OK;
}

static mlxr_status copy(mlxr_schema_checker *c, mlxr_matcher **out, const mlxr_matcher *m)
{
    mlxr_status st = spend(c, COPY_STEPS);

    *out = NULL;
    return st != MLXR_OK ? st : mlxr_matcher_clone(out, m, c->err);
}

static void drop(way *w)
{
    mlxr_matcher_free(w->m);
    w->m = NULL;
}

/* Adds the places of `more` (used up) to those of w. */
static mlxr_status add(mlxr_schema_checker *c, way *w, way *more)
{
    mlxr_status st = MLXR_OK;

    if (!w->m) {
        *w = *more;
    } else if (more->m) {
        st = mlxr_matcher_merge(w->m, more->m, c->err);
        mlxr_matcher_free(more->m);
    }
    more->m = NULL;
    return st;
}

static mlxr_status push(mlxr_schema_checker *c, size_t *n_taken, mlxr_matcher *m, const char *text, size_t n)
{
    mlxr_status st = spend(c, n);

    *n_taken = 0;
    return st != MLXR_OK ? st : mlxr_matcher_push(n_taken, m, text, n, c->err);
}

/* ---- failures ---- */

static void write_pointer(mlxr_buf *out, const mlxr_schema_checker *c)
{
    for (size_t i = 0; i < c->n_path; i++) {
        const part *p = &c->path[i];
        mlxr_buf_char(out, '/');
        if (!p->name) {
            mlxr_buf_printf(out, "%zu", p->i);
            continue;
        }
        for (size_t k = 0; k < p->name->n_text; k++) {
            char b = p->name->text[k];
            if (b == '~' || b == '/')
                mlxr_buf_str(out, b == '~' ? "~0" : "~1");
            else if (b == '\0')
                mlxr_buf_str(out, "\\u0000");
            else
                mlxr_buf_char(out, b);
        }
    }
}

/* true: this failure, n_bytes into the value, is the furthest, `at` is set, and `expected` is wanted. */
static bool furthest(mlxr_schema_checker *c, size_t n_bytes)
{
    mlxr_buf at = {0};
    size_t n;

    if (c->failed && n_bytes <= c->furthest) return false;
    c->failed = true;
    c->furthest = n_bytes;
    write_pointer(&at, c);
    c->nomem |= at.failed;
    n = at.failed ? 0 : at.len;
    if (n >= sizeof c->verdict->at) { /* its end says more than its beginning */
        size_t cut = n - (sizeof c->verdict->at - 4);
        while (cut < n && ((unsigned char)at.data[cut] & 0xc0) == 0x80) cut++;
        snprintf(c->verdict->at, sizeof c->verdict->at, "...%s", at.data + cut);
    } else {
        snprintf(c->verdict->at, sizeof c->verdict->at, "%s", n ? at.data : "");
    }
    mlxr_buf_clear(&at);
    c->verdict->expected[0] = '\0';
    return true;
}

#define EXPECTED(c) (c)->verdict->expected, sizeof(c)->verdict->expected

/* ---- values ---- */

/* Behind a number that may go on: whether it may also end. */
static bool number_may_end(const mlxr_matcher *m)
{
    bool next[256];

    if (mlxr_matcher_may_end(m)) return true;
    mlxr_matcher_next_bytes(next, m);
    for (int b = 0; b < 256; b++) {
        bool in_number = (b >= '0' && b <= '9') || b == '+' || b == '-' || b == '.' || b == 'e' || b == 'E';
        if (next[b] && !in_number) return true;
    }
    return false;
}

/* One form of a scalar, on a copy of from, added to w. n: what the value counts as. */
static mlxr_status try_text(mlxr_schema_checker *c, way *w, const way *from, const char *text, size_t n_text,
                            const mlxr_value *v, size_t n)
{
    way way_on = {NULL, from->n_bytes + n};
    bool string = v->type == MLXR_VALUE_STRING, fits;
    size_t n_taken;
    mlxr_status st = copy(c, &way_on.m, from->m);

    if (st == MLXR_OK) st = push(c, &n_taken, way_on.m, text, n_text);
    if (st != MLXR_OK) goto done;
    fits = n_taken == n_text && (v->type != MLXR_VALUE_NUMBER || number_may_end(way_on.m));
    if (fits) {
        st = add(c, w, &way_on);
    } else if (furthest(c, from->n_bytes + (n_taken < n ? n_taken : n))) {
        size_t n_quote = string ? 1 : 0;
        if (n_taken <= n_quote || (!string && v->type != MLXR_VALUE_NUMBER) || mlxr_words_few(from->m))
            mlxr_words_value(EXPECTED(c), from->m);
        else
            mlxr_words_inside(EXPECTED(c), way_on.m, text + n_quote, n_taken - n_quote, string);
    }
done:
    drop(&way_on);
    return st;
}

static mlxr_status check_scalar(mlxr_schema_checker *c, way *w, const mlxr_value *v)
{
    way from = *w;
    mlxr_buf text = {0};
    mlxr_status st;

    *w = (way){NULL, from.n_bytes};
    mlxr_value_write(&text, v);
    if ((st = mlxr_buf_check(&text, "grammar check", c->err)) != MLXR_OK) goto done;
    st = try_text(c, w, &from, text.data, text.len, v, text.len);
    if (st == MLXR_OK && v->type == MLXR_VALUE_NUMBER && v->plain && strcmp(v->plain, v->text) != 0)
        st = try_text(c, w, &from, v->text, v->n_text, v, text.len);
done:
    drop(&from);
    mlxr_buf_clear(&text);
    return st;
}

/* One byte that belongs to lists and objects. */
static mlxr_status take(mlxr_schema_checker *c, bool *fits, way *w, char byte)
{
    size_t n_taken;
    mlxr_status st = push(c, &n_taken, w->m, &byte, 1);

    *fits = st == MLXR_OK && n_taken == 1;
    if (*fits) w->n_bytes++;
    return st;
}

static mlxr_status check_value(mlxr_schema_checker *c, way *w, const mlxr_value *v);

static mlxr_status check_array(mlxr_schema_checker *c, way *w, const mlxr_value *v)
{
    bool fits;
    mlxr_status st = take(c, &fits, w, '[');

    if (st != MLXR_OK) return st;
    if (!fits) {
        if (furthest(c, w->n_bytes)) mlxr_words_value(EXPECTED(c), w->m);
        drop(w);
        return MLXR_OK;
    }
    c->n_path++;
    for (size_t i = 0; i < v->n && w->m; i++) {
        c->path[c->n_path - 1] = (part){NULL, i};
        if (i > 0) {
            if ((st = take(c, &fits, w, ',')) != MLXR_OK) break;
            if (!fits) {
                if (furthest(c, w->n_bytes)) snprintf(EXPECTED(c), "\"]\"");
                drop(w);
                break;
            }
        }
        if ((st = check_value(c, w, v->items[i])) != MLXR_OK) break;
    }
    c->n_path--;
    if (st != MLXR_OK || !w->m) return st;
    if ((st = take(c, &fits, w, ']')) != MLXR_OK || fits) return st;
    if (furthest(c, w->n_bytes)) {
        if (v->n > 0)
            snprintf(EXPECTED(c), "another item");
        else
            mlxr_words_value(EXPECTED(c), w->m);
    }
    drop(w);
    return MLXR_OK;
}

/* ---- objects ---- */

/* Orders of an instance's members: indices, n of them each. */
typedef struct orders {
    mlxr_schema_checker *c;
    const mlxr_value *v;
    mlxr_strtab index; /* of the names */
    uint32_t *all;
    size_t n_orders, cap;
    bool *listed; /* scratch */
    bool nomem;
} orders;

static bool add_order(orders *o)
{
    if (o->n_orders == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 4, n;
        uint32_t *grown;
        if (!mlxr_mul_size(&n, cap, o->v->n)) return false;
        if (!(grown = mlxr_realloc_array(o->all, n, sizeof *grown))) return false;
        o->all = grown;
        o->cap = cap;
    }
    o->n_orders++;
    return true;
}

/* The order of one rule, unless it is there. */
static void on_order(mlxr_rule rule, const mlxr_text *names, size_t n_names, void *ud)
{
    orders *o = ud;
    uint32_t *order;
    size_t n = 0;

    (void)rule;
    if (o->nomem) return;
    if (!add_order(o)) {
        o->nomem = true;
        return;
    }
    order = o->all + (o->n_orders - 1) * o->v->n;
    memset(o->listed, 0, o->v->n * sizeof *o->listed);
    for (size_t k = 0; k < n_names; k++) {
        size_t i = mlxr_strtab_get(&o->index, names[k].bytes, names[k].n);
        if (i == SIZE_MAX || o->listed[i]) continue;
        o->listed[i] = true;
        order[n++] = (uint32_t)i;
    }
    for (size_t i = 0; i < o->v->n; i++)
        if (!o->listed[i]) order[n++] = (uint32_t)i;
    for (size_t k = 0; k + 1 < o->n_orders; k++)
        if (memcmp(o->all + k * o->v->n, order, o->v->n * sizeof *order) == 0) {
            o->n_orders--;
            return;
        }
}

static mlxr_status find_orders(orders *o, const mlxr_matcher *m)
{
    o->listed = mlxr_calloc_array(o->v->n, sizeof *o->listed);
    if (!o->listed) goto nomem;
    for (size_t i = 0; i < o->v->n; i++)
        if (!mlxr_strtab_put(&o->index, o->v->names[i].text, o->v->names[i].n_text, i, NULL)) goto nomem;
    mlxr_matcher_member_orders(m, on_order, o);
    if (o->n_orders == 0 && !o->nomem) on_order(0, NULL, 0, o); /* no rule minds */
    if (!o->nomem) return MLXR_OK;
nomem:
    return mlxr_fail_nomem(o->c->err, "grammar check");
}

static void clear_orders(orders *o)
{
    mlxr_strtab_clear(&o->index);
    free(o->all);
    free(o->listed);
}

/* The name of a member, with what stands around it. */
static mlxr_status check_name(mlxr_schema_checker *c, way *w, const struct mlxr_value_name *name, bool first)
{
    mlxr_value v = {.type = MLXR_VALUE_STRING, .text = name->text, .n_text = name->n_text};
    mlxr_matcher *before = NULL;
    mlxr_buf text = {0};
    bool next[256];
    size_t n_taken;
    mlxr_status st;

    if (!first) mlxr_buf_char(&text, ',');
    mlxr_value_write(&text, &v);
    mlxr_buf_char(&text, ':');
    if ((st = mlxr_buf_check(&text, "grammar check", c->err)) != MLXR_OK) goto done;
    if ((st = copy(c, &before, w->m)) != MLXR_OK) goto done;
    if ((st = push(c, &n_taken, w->m, text.data, text.len)) != MLXR_OK) goto done;
    if (n_taken == text.len) {
        w->n_bytes += text.len;
        goto done;
    }
    /* A name that does not fit where the object might end is one too many; else it is another one that is missing. */
    mlxr_matcher_next_bytes(next, before);
    if (!next['}']) c->n_path--;
    /* How much of the name fits counts for nothing: it may be no more than the quote. */
    if (furthest(c, w->n_bytes)) {
        bool listed = mlxr_words_member(EXPECTED(c), before);
        size_t n_before = first ? 1 : 2;
        if (!listed && n_taken > n_before && n_taken < text.len)
            mlxr_words_inside(EXPECTED(c), w->m, text.data + n_before, n_taken - n_before, true);
    }
    if (!next['}']) c->n_path++;
    drop(w);
done:
    mlxr_matcher_free(before);
    mlxr_buf_clear(&text);
    return st;
}

/* All members in one order (NULL: there are none), w behind "{". */
static mlxr_status check_members(mlxr_schema_checker *c, way *w, const mlxr_value *v, const uint32_t *order)
{
    mlxr_status st = MLXR_OK;
    bool fits;

    c->n_path++;
    for (size_t k = 0; order && k < v->n && w->m; k++) {
        c->path[c->n_path - 1] = (part){&v->names[order[k]], 0};
        if ((st = check_name(c, w, &v->names[order[k]], k == 0)) != MLXR_OK) break;
        if (w->m && (st = check_value(c, w, v->items[order[k]])) != MLXR_OK) break;
    }
    c->n_path--;
    if (st != MLXR_OK || !w->m) return st;
    if ((st = take(c, &fits, w, '}')) != MLXR_OK || fits) return st;
    if (furthest(c, w->n_bytes)) mlxr_words_member(EXPECTED(c), w->m);
    drop(w);
    return MLXR_OK;
}

static mlxr_status check_object(mlxr_schema_checker *c, way *w, const mlxr_value *v)
{
    orders o = {.c = c, .v = v};
    way from = {0}, all;
    bool fits;
    mlxr_status st = take(c, &fits, w, '{');

    if (st != MLXR_OK) return st;
    if (!fits) {
        if (furthest(c, w->n_bytes)) mlxr_words_value(EXPECTED(c), w->m);
        drop(w);
        return MLXR_OK;
    }
    if (v->n == 0) return check_members(c, w, v, NULL);
    if ((st = find_orders(&o, w->m)) != MLXR_OK) goto done;
    from = *w;
    *w = (way){0};
    all = (way){NULL, from.n_bytes};
    for (size_t k = 0; k < o.n_orders && st == MLXR_OK; k++) {
        way one = {NULL, from.n_bytes};
        if (k + 1 == o.n_orders) { /* the last one needs no copy */
            one = from;
            from.m = NULL;
        } else {
            st = copy(c, &one.m, from.m);
        }
        if (st == MLXR_OK) st = check_members(c, &one, v, o.all + k * v->n);
        if (st == MLXR_OK) st = add(c, &all, &one);
        drop(&one);
    }
    *w = all;
done:
    drop(&from);
    clear_orders(&o);
    return st;
}

/* Moves w over v; w->m NULL: it does not fit. On failure w is for the caller to drop, too. */
static mlxr_status check_value(mlxr_schema_checker *c, way *w, const mlxr_value *v)
{
    if (v->type == MLXR_VALUE_ARRAY) return check_array(c, w, v);
    if (v->type == MLXR_VALUE_OBJECT) return check_object(c, w, v);
    return check_scalar(c, w, v);
}

/* Of its text; an instance is at most MLXR_VALUE_MAX_DEPTH deep. */
static size_t count_bytes(const mlxr_value *v)
{
    size_t n = v->n_text + 4;

    for (size_t i = 0; i < v->n; i++) {
        n += count_bytes(v->items[i]);
        if (v->type == MLXR_VALUE_OBJECT) n += v->names[i].n_text + 4;
    }
    return n;
}

mlxr_status mlxr_schema_check(mlxr_schema_verdict *out, mlxr_schema_checker *c, const mlxr_value *instance,
                              mlxr_error *err)
{
    way w = {0};
    mlxr_status st;

    *out = (mlxr_schema_verdict){0};
    c->err = err;
    c->verdict = out;
    c->n_path = 0;
    c->failed = c->nomem = false;
    c->furthest = 0;
    c->steps_left = STEPS_BASE + count_bytes(instance) * STEPS_PER_BYTE;
    if ((st = mlxr_matcher_create(&w.m, c->masker, err)) != MLXR_OK) return st;
    if ((st = check_value(c, &w, instance)) != MLXR_OK) goto done;
    if (w.m && !mlxr_matcher_may_end(w.m)) {
        if (furthest(c, w.n_bytes)) mlxr_words_bytes(EXPECTED(c), w.m);
        drop(&w);
    }
    if (w.m)
        *out = (mlxr_schema_verdict){.valid = true};
    else if (c->nomem)
        st = mlxr_fail_nomem(err, "grammar check");
done:
    drop(&w);
    c->verdict = NULL;
    c->err = NULL;
    return st;
}

mlxr_status mlxr_schema_check_text(mlxr_schema_verdict *out, mlxr_schema_checker *c, const char *text,
                                   size_t n, mlxr_error *err)
{
    mlxr_matcher *m;
    size_t n_taken, n_chars = 0;
    mlxr_status st;

    *out = (mlxr_schema_verdict){0};
    if ((st = mlxr_matcher_create(&m, c->masker, err)) != MLXR_OK) return st;
    if ((st = mlxr_matcher_push(&n_taken, m, text, n, err)) != MLXR_OK) goto done;
    out->valid = n_taken == n && mlxr_matcher_may_end(m);
    if (!out->valid) {
        for (size_t i = 0; i < n_taken; i++) n_chars += ((unsigned char)text[i] & 0xc0) != 0x80;
        snprintf(out->at, sizeof out->at, "%zu", n_chars);
        mlxr_words_bytes(out->expected, sizeof out->expected, m);
    }
done:
    mlxr_matcher_free(m);
    return st;
}
