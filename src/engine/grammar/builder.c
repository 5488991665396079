/* builder: expressions and rules as they are said, kept flat. compile.c makes the automaton of them.
 *
 * Every expression knows how deep it nests and about how many nodes it becomes, so that what walks over them may recurse and
 * repeats can choose between being written out and being counted. */
#include <stdlib.h>

#include "engine/grammar/machine.h"

mlxr_grammar_limits mlxr_grammar_limits_default(void)
{
    return (mlxr_grammar_limits){
        .max_nodes = 200000,
        .max_depth = 1000,
        .max_configurations = 2000,
        .max_places = 50000,
        .lang = {.max_states = 20000, .max_steps = 4000000},
    };
}

bool gm_grow(void *array, size_t *cap, size_t n, size_t more, size_t size)
{
    void **a = array, *p;
    size_t want, to = *cap;
    if (!mlxr_add_size(&want, n, more)) return false;
    if (want <= to) return true;
    if (to < 16) to = 16;
    while (to < want)
        if (!mlxr_mul_size(&to, to, 2)) return false;
    p = mlxr_realloc_array(*a, to, size);
    if (!p) return false;
    *a = p;
    *cap = to;
    return true;
}

mlxr_status mlxr_grammar_builder_create(mlxr_grammar_builder **out, const mlxr_grammar_limits *limits,
                                        mlxr_error *err)
{
    mlxr_grammar_builder *b = calloc(1, sizeof *b);
    *out = b;
    if (!b) return mlxr_fail_nomem(err, "grammar");
    b->limits = limits ? *limits : mlxr_grammar_limits_default();
    b->json_chars = GM_NONE;
    return MLXR_OK;
}

void gm_dfa_drop(gm_dfa *d)
{
    if (d->own)
        gm_dfa_free_own(d->d);
    else
        mlxr_dfa_unref(d->d);
    free(d->goes_on);
    free(d->counts);
}

void mlxr_grammar_builder_free(mlxr_grammar_builder *b)
{
    if (!b) return;
    for (size_t i = 0; i < b->n_dfas; i++) gm_dfa_drop(&b->dfas[i]);
    free(b->exprs);
    free(b->pool);
    free(b->texts);
    free(b->dfas);
    free(b->rules);
    mlxr_strtab_clear(&b->dfa_by_hash);
    mlxr_arena_clear(&b->arena);
    free(b);
}

const mlxr_grammar_limits *mlxr_grammar_builder_limits(const mlxr_grammar_builder *b)
{
    return &b->limits;
}

void mlxr_gb_fail(mlxr_grammar_builder *b, mlxr_status st, const char *message)
{
    if (b->failed) return;
    b->failed = true;
    mlxr_fail(&b->error, st, "%s", message);
}

bool mlxr_gb_failed(const mlxr_grammar_builder *b)
{
    return b->failed;
}

/* ---- expressions ---- */

static mlxr_expr nomem(mlxr_grammar_builder *b)
{
    mlxr_gb_fail(b, MLXR_E_NOMEM, "grammar: out of memory");
    return MLXR_EXPR_NONE;
}

static mlxr_expr add(mlxr_grammar_builder *b, gb_expr e)
{
    if (b->failed) return MLXR_EXPR_NONE;
    if (b->finished) {
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: the builder is used up");
        return MLXR_EXPR_NONE;
    }
    if (e.depth > GM_MAX_NESTING) {
        mlxr_gb_fail(b, MLXR_E_LIMIT, "grammar: expressions nest deeper than 2000");
        return MLXR_EXPR_NONE;
    }
    if (b->n_exprs >= UINT32_MAX / 2 || !gm_grow(&b->exprs, &b->cap_exprs, b->n_exprs, 1, sizeof *b->exprs))
        return nomem(b);
    b->exprs[b->n_exprs] = e;
    return (mlxr_expr)b->n_exprs++;
}

/* Marks e as part of something; false: not there, or part of something else already. */
static bool use(mlxr_grammar_builder *b, mlxr_expr e)
{
    if (b->failed) return false;
    if (e >= b->n_exprs) {
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: an expression that was never made");
        return false;
    }
    if (b->exprs[e].used) {
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: an expression is used in two places");
        return false;
    }
    b->exprs[e].used = true;
    return true;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX / 4 || b > UINT64_MAX / 4 ? UINT64_MAX / 4 : a + b;
}

static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) || r > UINT64_MAX / 4 ? UINT64_MAX / 4 : r;
}

mlxr_expr mlxr_gb_empty(mlxr_grammar_builder *b)
{
    return add(b, (gb_expr){.kind = GB_EMPTY});
}

mlxr_expr mlxr_gb_never(mlxr_grammar_builder *b)
{
    return add(b, (gb_expr){.kind = GB_NEVER, .size = 1});
}

static uint32_t keep_text(mlxr_grammar_builder *b, const char *prefix, const void *bytes, size_t n)
{
    size_t n_prefix = strlen(prefix);
    uint32_t at = (uint32_t)b->n_texts;
    if (b->n_texts > UINT32_MAX / 2 || n > UINT32_MAX / 4 ||
        !gm_grow(&b->texts, &b->cap_texts, b->n_texts, n + n_prefix, 1)) {
        nomem(b);
        return 0;
    }
    memcpy(b->texts + at, prefix, n_prefix);
    memcpy(b->texts + at + n_prefix, bytes, n);
    b->n_texts += n + n_prefix;
    return at;
}

mlxr_expr mlxr_gb_text(mlxr_grammar_builder *b, const void *bytes, size_t n)
{
    uint32_t at;
    if (b->failed) return MLXR_EXPR_NONE;
    if (!n) return mlxr_gb_empty(b);
    at = keep_text(b, "", bytes, n);
    return add(b, (gb_expr){.kind = GB_TEXT, .a = at, .n = (uint32_t)n, .size = 1});
}

static mlxr_expr add_dfa(mlxr_grammar_builder *b, mlxr_dfa *d, bool own, gb_kind kind)
{
    size_t i;
    if (!d) mlxr_gb_fail(b, MLXR_E_NOMEM, "grammar: out of memory");
    if (b->failed) goto drop;
    /* The same automaton again: one place in the table, so equal pieces are equal positions. */
    i = mlxr_strtab_get(&b->dfa_by_hash, (const char *)&d->hash, sizeof d->hash);
    if (i != SIZE_MAX && b->dfas[i].own == own && !own && mlxr_dfa_equal(b->dfas[i].d, d)) {
        mlxr_dfa_unref(d);
        return add(b, (gb_expr){.kind = (uint8_t)kind, .a = (uint32_t)i, .size = 1});
    }
    if (!gm_grow(&b->dfas, &b->cap_dfas, b->n_dfas, 1, sizeof *b->dfas) ||
        (!own &&
         !mlxr_strtab_put(&b->dfa_by_hash, (const char *)&d->hash, sizeof d->hash, b->n_dfas, NULL))) {
        nomem(b);
        goto drop;
    }
    b->dfas[b->n_dfas++] = (gm_dfa){.d = d, .own = own};
    return add(b, (gb_expr){.kind = (uint8_t)kind, .a = (uint32_t)(b->n_dfas - 1), .size = 1});
drop:
    if (own)
        gm_dfa_free_own(d);
    else
        mlxr_dfa_unref(d);
    return MLXR_EXPR_NONE;
}

mlxr_expr mlxr_gb_dfa(mlxr_grammar_builder *b, mlxr_dfa *d)
{
    return add_dfa(b, d, false, GB_DFA);
}

mlxr_expr mlxr_gb_unique(mlxr_grammar_builder *b, mlxr_dfa *d)
{
    return add_dfa(b, d, false, GB_UNIQUE);
}

mlxr_expr mlxr_gb_chars(mlxr_grammar_builder *b, size_t min, size_t max)
{
    mlxr_dfa *d = NULL;
    mlxr_expr e;
    if (b->failed) return MLXR_EXPR_NONE;
    if (min > max) return mlxr_gb_never(b);
    if (max == 0) return mlxr_gb_empty(b);
    if (min > 0 || max != SIZE_MAX)
        return add(b, (gb_expr){.kind = GB_CHARS, .min = min, .max = max, .size = 1});
    if (b->json_chars != GM_NONE) return add(b, (gb_expr){.kind = GB_DFA, .a = b->json_chars, .size = 1});
    gm_chars_any(&d);
    e = add_dfa(b, d, true, GB_DFA);
    if (!b->failed) b->json_chars = b->exprs[e].a;
    return e;
}

mlxr_expr mlxr_gb_marker(mlxr_grammar_builder *b, const char *text)
{
    mlxr_expr e[2];
    uint32_t at;
    if (b->failed) return MLXR_EXPR_NONE;
    at = keep_text(b, "\xff", text, strlen(text));
    e[0] = add(b, (gb_expr){.kind = GB_TEXT, .a = at, .n = (uint32_t)strlen(text) + 1, .size = 1});
    e[1] = mlxr_gb_text(b, text, strlen(text));
    return mlxr_gb_alt(b, e, 2);
}

static mlxr_expr search(mlxr_grammar_builder *b, const char *const *texts, size_t n, bool until)
{
    mlxr_dfa *d = NULL;
    mlxr_error err;
    mlxr_status st;
    if (b->failed) return MLXR_EXPR_NONE;
    st = gm_search(&d, texts, n, until, b->limits.lang.max_states, &err);
    if (st != MLXR_OK) {
        mlxr_gb_fail(b, st, err.message);
        return MLXR_EXPR_NONE;
    }
    return add_dfa(b, d, true, GB_DFA);
}

mlxr_expr mlxr_gb_free(mlxr_grammar_builder *b, const char *const *texts, size_t n)
{
    return search(b, texts, n, false);
}

mlxr_expr mlxr_gb_until(mlxr_grammar_builder *b, const char *const *texts, size_t n)
{
    return search(b, texts, n, true);
}

static mlxr_expr add_list(mlxr_grammar_builder *b, const mlxr_expr *e, size_t n, gb_kind kind)
{
    gb_expr x = {.kind = (uint8_t)kind, .a = (uint32_t)b->n_pool, .n = (uint32_t)n, .size = 1};
    if (b->failed) return MLXR_EXPR_NONE;
    if (b->n_pool + n > UINT32_MAX / 2 || !gm_grow(&b->pool, &b->cap_pool, b->n_pool, n, sizeof *b->pool))
        return nomem(b);
    for (size_t i = 0; i < n; i++) {
        if (!use(b, e[i])) return MLXR_EXPR_NONE;
        b->pool[b->n_pool++] = e[i];
        x.size = sum(x.size, b->exprs[e[i]].size);
        if (b->exprs[e[i]].depth >= x.depth) x.depth = (uint16_t)(b->exprs[e[i]].depth + 1);
    }
    return add(b, x);
}

mlxr_expr mlxr_gb_seq(mlxr_grammar_builder *b, const mlxr_expr *e, size_t n)
{
    if (n == 1) return e[0];
    return n ? add_list(b, e, n, GB_SEQ) : mlxr_gb_empty(b);
}

mlxr_expr mlxr_gb_alt(mlxr_grammar_builder *b, const mlxr_expr *e, size_t n)
{
    if (n == 1) return e[0];
    return n ? add_list(b, e, n, GB_ALT) : mlxr_gb_never(b);
}

mlxr_expr mlxr_gb_optional(mlxr_grammar_builder *b, mlxr_expr e)
{
    if (!use(b, e)) return MLXR_EXPR_NONE;
    return add(b, (gb_expr){.kind = GB_OPTIONAL,
                            .a = e,
                            .depth = (uint16_t)(b->exprs[e].depth + 1),
                            .size = sum(b->exprs[e].size, 1)});
}

mlxr_expr mlxr_gb_repeat(mlxr_grammar_builder *b, mlxr_expr e, size_t min, size_t max)
{
    gb_expr x = {.kind = GB_REPEAT, .a = e, .min = min, .max = max};
    uint64_t copies;
    if (!use(b, e)) return MLXR_EXPR_NONE;
    if (min > max) return mlxr_gb_never(b);
    x.depth = (uint16_t)(b->exprs[e].depth + 1);
    copies = max != SIZE_MAX ? max : min ? min : 1;
    x.size = product(sum(b->exprs[e].size, 1), copies);
    x.n = min == 0 && max == SIZE_MAX ? 1 : x.size <= GM_WRITTEN_OUT; /* written out */
    if (!x.n) x.size = 1;
    return add(b, x);
}

mlxr_expr mlxr_gb_graph(mlxr_grammar_builder *b, uint32_t n_states, const mlxr_gb_edge *edges, size_t n_edges,
                        const uint32_t *accepting, size_t n_accepting)
{
    gb_expr x = {.kind = GB_GRAPH, .a = (uint32_t)b->n_pool, .n = n_states, .size = n_states};
    size_t want;
    if (b->failed) return MLXR_EXPR_NONE;
    if (!n_states) return mlxr_gb_never(b);
    if (n_edges > UINT32_MAX / 8 || n_accepting > UINT32_MAX / 8) return nomem(b);
    want = 2 + 3 * n_edges + n_accepting;
    if (b->n_pool + want > UINT32_MAX / 2 ||
        !gm_grow(&b->pool, &b->cap_pool, b->n_pool, want, sizeof *b->pool))
        return nomem(b);
    b->pool[b->n_pool++] = (uint32_t)n_edges;
    b->pool[b->n_pool++] = (uint32_t)n_accepting;
    for (size_t i = 0; i < n_edges; i++) {
        if (edges[i].from >= n_states || edges[i].to >= n_states) goto outside;
        if (!use(b, edges[i].e)) return MLXR_EXPR_NONE;
        b->pool[b->n_pool++] = edges[i].from;
        b->pool[b->n_pool++] = edges[i].to;
        b->pool[b->n_pool++] = edges[i].e;
        x.size = sum(x.size, b->exprs[edges[i].e].size);
        if (b->exprs[edges[i].e].depth >= x.depth) x.depth = (uint16_t)(b->exprs[edges[i].e].depth + 1);
    }
    for (size_t i = 0; i < n_accepting; i++) {
        if (accepting[i] >= n_states) goto outside;
        b->pool[b->n_pool++] = accepting[i];
    }
    return add(b, x);
outside:
    mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT,
                 "grammar: a graph's edge or end names a state that is not there");
    return MLXR_EXPR_NONE;
}

/* ---- rules ---- */

mlxr_rule mlxr_gb_rule(mlxr_grammar_builder *b, const char *name)
{
    gb_rule r = {.body = MLXR_EXPR_NONE};
    if (b->failed) return GM_NONE;
    r.name = mlxr_arena_strndup(&b->arena, name, strlen(name));
    if (!r.name || !gm_grow(&b->rules, &b->cap_rules, b->n_rules, 1, sizeof *b->rules)) {
        nomem(b);
        return GM_NONE;
    }
    b->rules[b->n_rules] = r;
    return (mlxr_rule)b->n_rules++;
}

static bool rule_is(mlxr_grammar_builder *b, mlxr_rule r)
{
    if (b->failed) return false;
    if (r < b->n_rules) return true;
    mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: a rule that was never declared");
    return false;
}

void mlxr_gb_define(mlxr_grammar_builder *b, mlxr_rule r, mlxr_expr body)
{
    if (!rule_is(b, r) || !use(b, body)) return;
    if (b->rules[r].body != MLXR_EXPR_NONE) {
        mlxr_buf m = {0};
        mlxr_buf_printf(&m, "grammar: rule %s is defined twice", b->rules[r].name);
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, m.data ? m.data : "grammar: a rule is defined twice");
        mlxr_buf_clear(&m);
        return;
    }
    b->rules[r].body = body;
}

mlxr_expr mlxr_gb_call(mlxr_grammar_builder *b, mlxr_rule r)
{
    if (!rule_is(b, r)) return MLXR_EXPR_NONE;
    return add(b, (gb_expr){.kind = GB_CALL, .a = r, .size = 1});
}

void mlxr_gb_members(mlxr_grammar_builder *b, mlxr_rule r, const mlxr_text *names, size_t n)
{
    mlxr_text *copy;
    if (!rule_is(b, r)) return;
    copy = mlxr_arena_calloc(&b->arena, n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i].n = names[i].n;
        copy[i].bytes = mlxr_arena_strndup(&b->arena, names[i].bytes, names[i].n);
        if (!copy[i].bytes) copy = NULL;
    }
    if (!copy) {
        nomem(b);
        return;
    }
    b->rules[r].members = copy;
    b->rules[r].n_members = n;
}
