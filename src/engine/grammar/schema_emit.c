/* schema_emit: formulas to rules.
 *
 * Scalars are written where they stand, but for strings without an end of them, which are shared rules: what a masker finds out about
 * the inside of a string then serves all members. Arrays and objects are rules, one for each case. Rules are defined from a queue,
 * so a schema that nests costs no stack here. */
#include <stdlib.h>

#include "engine/grammar/schema_parts.h"

enum { FEW_STATES = 48 }; /* an automaton of so many is written where it stands */

static mlxr_status push_job(mlxr_sc *s, mlxr_sc_job job)
{
    if (s->n_queue == s->cap_queue) {
        size_t cap = s->cap_queue ? s->cap_queue * 2 : 32;
        mlxr_sc_job *more = mlxr_realloc_array(s->queue, cap, sizeof *more);
        if (!more) return mlxr_sc_nomem(s);
        s->queue = more;
        s->cap_queue = cap;
    }
    s->queue[s->n_queue++] = job;
    return mlxr_sc_step(s, 1);
}

static mlxr_rule new_rule(mlxr_sc *s, const mlxr_sc_node *where)
{
    char *name = mlxr_sc_path(s, where);
    mlxr_rule r;

    if (!name) mlxr_gb_fail(s->b, MLXR_E_NOMEM, "schema: out of memory");
    r = mlxr_gb_rule(s->b, name ? name : "schema");
    free(name);
    return r;
}

static mlxr_status case_rule(mlxr_rule *out, mlxr_sc *s, const mlxr_sc_case *c)
{
    size_t known = mlxr_strtab_get(&s->case_rules, (const char *)&c, sizeof c);
    const mlxr_sc_case **key;

    if (known != SIZE_MAX) {
        *out = (mlxr_rule)known;
        return MLXR_OK;
    }
    if (!(key = mlxr_arena_alloc(&s->arena, sizeof(const mlxr_sc_case *)))) return mlxr_sc_nomem(s);
    *key = c;
    *out = new_rule(s, c->where);
    if (!mlxr_strtab_put(&s->case_rules, (const char *)key, sizeof c, *out, NULL)) return mlxr_sc_nomem(s);
    return push_job(s, (mlxr_sc_job){.rule = *out, .c = c});
}

/* ---- scalars ---- */

/* A string that is written as a word: in the braced notation marks stand around it, which are no text. */
static bool is_listed(const mlxr_sc *s, const mlxr_sc_case *c)
{
    return !c->free && c->string.among.has && s->notation != MLXR_SC_BRACED;
}

/* A text with what is to be avoided in it gets an escape for each of its first characters. */
static void escape_avoided(const mlxr_sc *s, mlxr_buf *text)
{
    mlxr_buf escaped = {0};

    if (!s->avoid || text->failed || !strstr(text->data, s->avoid)) return;
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] == s->avoid[0])
            mlxr_buf_printf(&escaped, "\\u%04x", (unsigned char)text->data[i]);
        else
            mlxr_buf_char(&escaped, text->data[i]);
    }
    mlxr_buf_clear(text);
    *text = escaped;
}

/* The list of texts that null, true, false and all listed strings and numbers of a union are. */
static mlxr_status listed_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_text *texts;
    mlxr_buf text = {0};
    size_t most = 1, count = 0;
    mlxr_status st = MLXR_OK;

    *out = NULL;
    for (size_t i = 0; i < n->n; i++) {
        const mlxr_sc_case *c = n->cases[i];
        most += c->type == MLXR_VALUE_NUMBER   ? c->number.among.n
                : c->type == MLXR_VALUE_STRING ? c->string.among.n
                                               : 1;
    }
    if (!(texts = mlxr_malloc_array(most, sizeof *texts))) return mlxr_sc_nomem(s);
    for (size_t i = 0; i < n->n; i++) {
        const mlxr_sc_case *c = n->cases[i];
        if (c->type < MLXR_VALUE_NUMBER) {
            texts[count++] = (mlxr_text){mlxr_sc_word(s, c->type), strlen(mlxr_sc_word(s, c->type))};
        } else if (c->type == MLXR_VALUE_NUMBER && c->number.among.has) {
            for (size_t k = 0; k < c->number.among.n; k++)
                texts[count++] = (mlxr_text){c->number.among.t[k], strlen(c->number.among.t[k])};
        } else if (c->type == MLXR_VALUE_STRING && is_listed(s, c)) {
            for (size_t k = 0; k < c->string.among.n; k++) {
                mlxr_value v = {.type = MLXR_VALUE_STRING,
                                .text = c->string.among.t[k].bytes,
                                .n_text = c->string.among.t[k].n};
                char *copy;
                text.len = 0;
                mlxr_value_write(&text, &v);
                escape_avoided(s, &text);
                copy = text.failed ? NULL : mlxr_arena_strndup(&s->arena, text.data, text.len);
                if (!copy) {
                    st = mlxr_sc_nomem(s);
                    goto done;
                }
                texts[count++] = (mlxr_text){copy, text.len};
            }
        }
    }
    if (count && (st = mlxr_dfa_literals(out, texts, count, s->err)) == MLXR_OK) st = mlxr_sc_own(s, *out);
done:
    free(texts);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status free_number(mlxr_dfa **out, mlxr_sc *s)
{
    static const mlxr_sc_number all = {0};
    mlxr_status st = MLXR_OK;

    if (!s->any_number) st = mlxr_sc_number_dfa(&s->any_number, s, &all);
    *out = s->any_number;
    return st;
}

/* Lists and numbers of a union as one automaton; NULL: none. */
static mlxr_status words_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_dfa *one;
    mlxr_status st = listed_dfa(out, s, n);

    for (size_t i = 0; i < n->n && st == MLXR_OK; i++) {
        const mlxr_sc_case *c = n->cases[i];
        if (c->type != MLXR_VALUE_NUMBER || c->number.among.has) continue;
        st = c->free ? free_number(&one, s)
                     : mlxr_sc_at(s, c->where, NULL, mlxr_sc_number_dfa(&one, s, &c->number));
        if (st != MLXR_OK || mlxr_dfa_is_empty(one)) continue;
        if (*out)
            st = mlxr_sc_op(out, s, mlxr_dfa_union, *out, one);
        else
            *out = one;
    }
    return st;
}

static mlxr_status string_expr(mlxr_expr *out, mlxr_sc *s, const mlxr_sc_case *c)
{
    const mlxr_sc_string *t = &c->string;
    mlxr_dfa *d, *json;
    mlxr_rule r;
    mlxr_status st;

    if (c->free || (!t->dfa && !t->among.has)) {
        st = mlxr_sc_text_rule_of(&r, s, NULL, c->free ? 0 : t->min, c->free ? SIZE_MAX : t->max);
        if (st == MLXR_OK) *out = mlxr_gb_call(s->b, r);
        return st;
    }
    if ((st = mlxr_sc_string_dfa(&d, s, t)) != MLXR_OK || (st = mlxr_sc_json_text(&json, s, d)) != MLXR_OK)
        return mlxr_sc_at(s, c->where, NULL, st);
    if (json->n_states <= FEW_STATES && mlxr_dfa_count(json) != UINT64_MAX) {
        *out = mlxr_sc_quoted(s, mlxr_sc_use(s, json));
        return MLXR_OK;
    }
    st = mlxr_sc_text_rule_of(&r, s, json, 0, 0);
    if (st == MLXR_OK) *out = mlxr_gb_call(s->b, r);
    return st;
}

/* One form for each number. */
static mlxr_status plain_numbers(mlxr_dfa **out, mlxr_sc *s)
{
    static const char plain[] = "-?(0|[1-9][0-9]*)(\\.[0-9]*[1-9])?";
    static const mlxr_text zero = {"-0", 2};
    mlxr_dfa *all, *not ;
    mlxr_status st;

    if (!s->plain_number) {
        if ((st = mlxr_dfa_regex(&all, plain, sizeof plain - 1, true, s->limits, s->err)) != MLXR_OK ||
            (st = mlxr_sc_own(s, all)) != MLXR_OK ||
            (st = mlxr_dfa_literals(&not, &zero, 1, s->err)) != MLXR_OK ||
            (st = mlxr_sc_own(s, not )) != MLXR_OK ||
            (st = mlxr_sc_op(&all, s, mlxr_dfa_minus, all, not )) != MLXR_OK)
            return st;
        s->plain_number = all;
    }
    *out = s->plain_number;
    return MLXR_OK;
}

mlxr_status mlxr_sc_scalar_dfa(mlxr_dfa **out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_text quote = {"\"", 1};
    mlxr_dfa *d, *one, *quotes, *plain;
    mlxr_status st;

    *out = NULL;
    if (s->notation == MLXR_SC_BRACED) quote = (mlxr_text){MLXR_SC_MARK, strlen(MLXR_SC_MARK)};
    for (size_t i = 0; i < n->n; i++)
        if (n->cases[i]->type >= MLXR_VALUE_ARRAY) return MLXR_OK;
    if ((st = listed_dfa(&d, s, n)) != MLXR_OK) return st;
    if ((st = mlxr_dfa_literals(&quotes, &quote, 1, s->err)) != MLXR_OK ||
        (st = mlxr_sc_own(s, quotes)) != MLXR_OK)
        return st;
    for (size_t i = 0; i < n->n; i++) {
        const mlxr_sc_case *c = n->cases[i];
        if (c->type == MLXR_VALUE_STRING && !is_listed(s, c)) {
            st = c->free ? mlxr_sc_any_text(&one, s) : mlxr_sc_string_dfa(&one, s, &c->string);
            if (st != MLXR_OK || (st = mlxr_sc_json_text(&one, s, one)) != MLXR_OK ||
                (st = mlxr_sc_op(&one, s, mlxr_dfa_concat, quotes, one)) != MLXR_OK ||
                (st = mlxr_sc_op(&one, s, mlxr_dfa_concat, one, quotes)) != MLXR_OK)
                return st;
        } else if (c->type == MLXR_VALUE_NUMBER && (c->free || !c->number.among.has)) {
            st = c->free ? free_number(&one, s) : mlxr_sc_number_dfa(&one, s, &c->number);
            if (st != MLXR_OK || (st = plain_numbers(&plain, s)) != MLXR_OK ||
                (st = mlxr_sc_op(&one, s, mlxr_dfa_intersect, one, plain)) != MLXR_OK)
                return st;
        } else {
            continue;
        }
        if (d && (st = mlxr_sc_op(&one, s, mlxr_dfa_union, d, one)) != MLXR_OK) return st;
        d = one;
    }
    if (!d && ((st = mlxr_dfa_empty(&d, s->err)) != MLXR_OK || (st = mlxr_sc_own(s, d)) != MLXR_OK))
        return st;
    *out = d;
    return MLXR_OK;
}

/* ---- values ---- */

/* The alternatives of a union. */
static mlxr_status parts(mlxr_expr **out, size_t *n_out, mlxr_sc *s, const mlxr_sc_norm *n)
{
    mlxr_expr *e = mlxr_arena_calloc(&s->arena, n->n + 1, sizeof *e);
    size_t count = 0;
    mlxr_dfa *words;
    mlxr_rule r = 0;
    mlxr_status st;

    *out = e;
    if (!e) return mlxr_sc_nomem(s);
    if ((st = words_dfa(&words, s, n)) != MLXR_OK) return st;
    if (words) e[count++] = mlxr_sc_use(s, words);
    for (size_t i = 0; i < n->n; i++) {
        const mlxr_sc_case *c = n->cases[i];
        if (c->type == MLXR_VALUE_STRING && !is_listed(s, c)) {
            if ((st = string_expr(&e[count++], s, c)) != MLXR_OK) return st;
        } else if (c->type >= MLXR_VALUE_ARRAY) {
            mlxr_sc_json(s);
            if (c->free) {
                r = c->type == MLXR_VALUE_ARRAY ? s->json_array : s->json_object;
            } else if ((st = case_rule(&r, s, c)) != MLXR_OK) {
                return st;
            }
            e[count++] = mlxr_gb_call(s->b, r);
        }
    }
    *n_out = count;
    return MLXR_OK;
}

static bool is_any(const mlxr_sc_norm *n)
{
    unsigned types = 0;

    for (size_t i = 0; i < n->n; i++)
        if (n->cases[i]->free || n->cases[i]->type < MLXR_VALUE_NUMBER) types |= 1u << n->cases[i]->type;
    return types == 0x7f;
}

mlxr_status mlxr_sc_value(mlxr_expr *out, mlxr_sc *s, mlxr_sc_formula f)
{
    const mlxr_sc_norm *n;
    mlxr_expr *e;
    size_t count = 0, n_heavy = 0;
    mlxr_status st;

    if ((st = mlxr_sc_norm_formula(&n, s, f)) != MLXR_OK) return st;
    if (is_any(n)) {
        *out = mlxr_gb_call(s->b, mlxr_sc_json(s));
        return MLXR_OK;
    }
    for (size_t i = 0; i < n->n; i++) n_heavy += n->cases[i]->type >= MLXR_VALUE_STRING;
    if (n_heavy > 1) {
        if (!s->formulas[f].has_rule) {
            s->formulas[f].has_rule = true;
            s->formulas[f].rule = new_rule(s, s->nodes[s->formulas[f].lits[0] / 2]);
            st = push_job(s, (mlxr_sc_job){.rule = s->formulas[f].rule, .f = f});
        }
        *out = mlxr_gb_call(s->b, s->formulas[f].rule);
        return st;
    }
    if ((st = parts(&e, &count, s, n)) != MLXR_OK) return st;
    *out = count == 1 ? e[0] : mlxr_gb_alt(s->b, e, count);
    return MLXR_OK;
}

static mlxr_status define(mlxr_sc *s, mlxr_sc_job job)
{
    const mlxr_sc_norm *n;
    mlxr_expr *e;
    size_t count = 0;
    mlxr_status st;

    if (job.c)
        return job.c->type == MLXR_VALUE_ARRAY ? mlxr_sc_define_array(s, job.rule, job.c)
                                               : mlxr_sc_define_object(s, job.rule, job.c);
    if ((st = mlxr_sc_norm_formula(&n, s, job.f)) != MLXR_OK || (st = parts(&e, &count, s, n)) != MLXR_OK)
        return st;
    mlxr_gb_define(s->b, job.rule, mlxr_gb_alt(s->b, e, count));
    return MLXR_OK;
}

mlxr_status mlxr_sc_emit(mlxr_rule *out, mlxr_sc *s, mlxr_sc_formula root)
{
    mlxr_expr e;
    mlxr_status st;

    if ((st = mlxr_sc_prepare(s)) != MLXR_OK) return st;
    *out = mlxr_gb_rule(s->b, s->name);
    if ((st = mlxr_sc_value(&e, s, root)) != MLXR_OK) return st;
    mlxr_gb_define(s->b, *out, e);
    return mlxr_sc_flush(s);
}

mlxr_status mlxr_sc_flush(mlxr_sc *s)
{
    mlxr_status st;

    for (; s->n_defined < s->n_queue && !mlxr_gb_failed(s->b); s->n_defined++)
        if ((st = define(s, s->queue[s->n_defined])) != MLXR_OK) return st;
    return MLXR_OK;
}
