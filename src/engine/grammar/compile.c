/* compile: from a builder's rules to a grammar: the automaton of every body written down from its end to its beginning (Thompson,
 * 1968), what can never be completed cut away, left recursion found. All of it linear in the size of the result. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/machine.h"

typedef struct compiler {
    mlxr_grammar_builder *b;
    mlxr_grammar *g;
    size_t cap_nodes, cap_edges, cap_bounds, cap_rules;
    uint32_t *number_of; /* [b->n_rules]: the grammar's rule, GM_NONE: not met yet */
    uint32_t *from;      /* [rules of g]: the builder's */
    uint32_t n_called;   /* rules of g that are rules of the builder and await their bodies */
    uint32_t rule;       /* whose body is written */
    uint32_t *pred, *first_pred;
    uint32_t *work;
    bool *forbidden; /* [n_nodes]: needs more names than there are */
    mlxr_status st;
    mlxr_error *err;
} compiler;

static uint32_t failed(compiler *c, mlxr_status st, const char *fmt, ...) MLXR_PRINTF(3, 4);
static uint32_t failed(compiler *c, mlxr_status st, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->st == MLXR_OK) c->st = mlxr_fail(c->err, st, "%s", text);
    return GM_NONE;
}

static uint32_t nomem(compiler *c)
{
    if (c->st == MLXR_OK) c->st = mlxr_fail_nomem(c->err, "grammar");
    return GM_NONE;
}

static uint32_t node(compiler *c, gm_kind kind, uint32_t out, uint32_t a, uint32_t b)
{
    mlxr_grammar *g = c->g;
    size_t cap = c->cap_nodes;
    if (c->st != MLXR_OK) return GM_NONE;
    if (g->n_nodes >= g->limits.max_nodes || g->n_nodes >= UINT32_MAX / 4)
        return failed(c, MLXR_E_LIMIT, "grammar: needs more than %zu nodes", g->limits.max_nodes);
    if (!gm_grow(&g->nodes, &cap, g->n_nodes, 1, sizeof *g->nodes)) return nomem(c);
    c->cap_nodes = cap;
    g->nodes[g->n_nodes] = (gm_node){.kind = (uint8_t)kind, .rule = c->rule, .out = out, .a = a, .b = b};
    return g->n_nodes++;
}

/* A split with room for n edges, all GM_NONE yet. */
static uint32_t split(compiler *c, size_t n)
{
    mlxr_grammar *g = c->g;
    uint32_t first = g->n_edges;
    if (c->st != MLXR_OK) return GM_NONE;
    if (n > UINT32_MAX / 4 || g->n_edges > UINT32_MAX / 4 ||
        !gm_grow(&g->edges, &c->cap_edges, g->n_edges, n, sizeof *g->edges))
        return nomem(c);
    for (size_t i = 0; i < n; i++) g->edges[first + i] = GM_NONE;
    g->n_edges += (uint32_t)n;
    return node(c, GM_SPLIT, first, (uint32_t)n, 0);
}

static uint32_t bounds(compiler *c, size_t min, size_t max)
{
    mlxr_grammar *g = c->g;
    if (!gm_grow(&g->bounds, &c->cap_bounds, g->n_bounds, 1, sizeof *g->bounds)) return nomem(c);
    g->bounds[g->n_bounds] = (gm_bounds){min, max == SIZE_MAX ? UINT64_MAX : max};
    return g->n_bounds++;
}

/* A rule of g: from a rule of the builder, or GM_NONE: the body of a counted repeat in the rule that is being written. */
static uint32_t new_rule(compiler *c, uint32_t from)
{
    mlxr_grammar *g = c->g;
    size_t cap = c->cap_rules;
    gm_rule r = {.entry = GM_NONE, .accept = GM_NONE, .owner = g->n_rules};
    if (c->st != MLXR_OK) return GM_NONE;
    if (!gm_grow(&g->rules, &cap, g->n_rules, 1, sizeof *g->rules)) return nomem(c);
    if (cap != c->cap_rules || !c->from) {
        uint32_t *p = mlxr_realloc_array(c->from, cap, sizeof *c->from);
        if (!p) return nomem(c);
        c->from = p;
        c->cap_rules = cap;
    }
    if (from == GM_NONE) {
        r.owner = g->rules[c->rule].owner;
        r.name = g->rules[r.owner].name;
        r.counted = true;
        r.from = g->rules[r.owner].from;
    } else {
        const gb_rule *br = &c->b->rules[from];
        r.name = br->name;
        r.from = from;
        r.members = br->members;
        r.n_members = br->n_members;
    }
    c->from[g->n_rules] = from;
    g->rules[g->n_rules] = r;
    return g->n_rules++;
}

static uint32_t rule_of(compiler *c, uint32_t from)
{
    if (c->number_of[from] == GM_NONE) c->number_of[from] = new_rule(c, from);
    return c->number_of[from];
}

/* The node where e begins, when `out` comes behind it. Recursion is bounded by GM_MAX_NESTING. */
static uint32_t write_expr(compiler *c, mlxr_expr e, uint32_t out);

static uint32_t write_split(compiler *c, mlxr_expr e, uint32_t out)
{
    uint32_t s = split(c, 2), to;
    if (s == GM_NONE) return s;
    c->g->edges[c->g->nodes[s].out + 1] = out;
    to = write_expr(c, e, out);
    c->g->edges[c->g->nodes[s].out] = to;
    return s;
}

static uint32_t write_star(compiler *c, mlxr_expr e, uint32_t out)
{
    uint32_t s = split(c, 2), to;
    if (s == GM_NONE) return s;
    c->g->edges[c->g->nodes[s].out + 1] = out;
    to = write_expr(c, e, s);
    c->g->edges[c->g->nodes[s].out] = to;
    return s;
}

static uint32_t write_repeat(compiler *c, const gb_expr *x, uint32_t out)
{
    size_t min = x->min, max = x->max;
    uint32_t body, outer = c->rule, to = out, r, b;
    if (max == 0) return out;
    if (x->n) {
        if (max == SIZE_MAX) {
            out = write_star(c, x->a, out);
            max = min;
        }
        for (size_t i = max; i > min && c->st == MLXR_OK; i--) {
            /* (e (e (e)?)?)?: what may be left out is left out to the end. */
            uint32_t s = split(c, 2);
            if (s == GM_NONE) return s;
            if (i == max) to = out;
            to = write_expr(c, x->a, to);
            c->g->edges[c->g->nodes[s].out] = to;
            c->g->edges[c->g->nodes[s].out + 1] = out;
            to = s;
        }
        if (max > min) out = to;
        for (size_t i = 0; i < min && c->st == MLXR_OK; i++) out = write_expr(c, x->a, out);
        return out;
    }
    body = new_rule(c, GM_NONE);
    if (body == GM_NONE) return body;
    c->rule = body;
    r = node(c, GM_ACCEPT, GM_NONE, 0, 0);
    c->g->rules[body].accept = r;
    r = write_expr(c, x->a, r);
    c->g->rules[body].entry = r;
    c->rule = outer;
    b = bounds(c, min, max);
    if (b == GM_NONE) return b;
    r = node(c, GM_REPEAT, out, body, b);
    c->g->rules[body].repeat = r;
    return r;
}

static uint32_t write_graph(compiler *c, const gb_expr *x, uint32_t out)
{
    const uint32_t *p = c->b->pool + x->a, *edge = p + 2, *end = edge + 3 * (size_t)p[0];
    uint32_t n_states = x->n, *states = mlxr_malloc_array(n_states, sizeof *states);
    uint32_t *degree = mlxr_calloc_array(n_states, sizeof *degree), first = GM_NONE;
    if (!states || !degree) {
        nomem(c);
        goto done;
    }
    for (size_t i = 0; i < p[0]; i++) degree[edge[3 * i]]++;
    for (size_t i = 0; i < p[1]; i++) degree[end[i]]++;
    for (uint32_t i = 0; i < n_states; i++) {
        states[i] = split(c, degree[i]);
        if (states[i] == GM_NONE) goto done;
    }
    memset(degree, 0, n_states * sizeof *degree);
    for (size_t i = 0; i < p[0] && c->st == MLXR_OK; i++) {
        uint32_t from = edge[3 * i], to = write_expr(c, edge[3 * i + 2], states[edge[3 * i + 1]]);
        c->g->edges[c->g->nodes[states[from]].out + degree[from]++] = to;
    }
    for (size_t i = 0; i < p[1]; i++) c->g->edges[c->g->nodes[states[end[i]]].out + degree[end[i]]++] = out;
    first = states[0];
done:
    free(states);
    free(degree);
    return c->st == MLXR_OK ? first : GM_NONE;
}

static uint32_t write_expr(compiler *c, mlxr_expr e, uint32_t out)
{
    const gb_expr x = c->b->exprs[e];
    uint32_t s, to;
    if (c->st != MLXR_OK) return GM_NONE;
    switch ((gb_kind)x.kind) {
    case GB_EMPTY: return out;
    case GB_NEVER: return split(c, 0);
    case GB_TEXT: return node(c, GM_TEXT, out, x.a, x.n);
    case GB_DFA: return node(c, GM_DFA, out, x.a, 0);
    case GB_UNIQUE:
        c->g->rules[c->g->rules[c->rule].owner].has_unique = true;
        return node(c, GM_UNIQUE, out, x.a, 0);
    case GB_CHARS: s = bounds(c, x.min, x.max); return s == GM_NONE ? s : node(c, GM_CHARS, out, 0, s);
    case GB_SEQ:
        for (size_t i = x.n; i > 0 && c->st == MLXR_OK; i--)
            out = write_expr(c, c->b->pool[x.a + i - 1], out);
        return out;
    case GB_ALT:
        s = split(c, x.n);
        for (size_t i = 0; i < x.n && c->st == MLXR_OK; i++) {
            to = write_expr(c, c->b->pool[x.a + i], out);
            c->g->edges[c->g->nodes[s].out + i] = to;
        }
        return s;
    case GB_OPTIONAL: return write_split(c, x.a, out);
    case GB_REPEAT: return write_repeat(c, &x, out);
    case GB_GRAPH: return write_graph(c, &x, out);
    case GB_CALL: s = rule_of(c, x.a); return s == GM_NONE ? s : node(c, GM_CALL, out, s, 0);
    }
    return GM_NONE;
}

/* Bodies of the root and of all rules that are called. */
static void write_rules(compiler *c, uint32_t root)
{
    mlxr_grammar *g = c->g;
    g->root = rule_of(c, root);
    for (uint32_t r = 0; r < g->n_rules && c->st == MLXR_OK; r++) {
        mlxr_expr body;
        uint32_t n;
        if (g->rules[r].counted) continue; /* written with the rule it is part of */
        body = c->b->rules[c->from[r]].body;
        if (body == MLXR_EXPR_NONE) {
            failed(c, MLXR_E_INVALID_ARGUMENT, "grammar: rule %s is not defined", g->rules[r].name);
            return;
        }
        c->rule = r;
        n = node(c, GM_ACCEPT, GM_NONE, 0, 0);
        g->rules[r].accept = n;
        n = write_expr(c, body, n);
        g->rules[r].entry = n;
    }
}

/* ---- what holds of a node when it holds of those behind it ---- */

static bool dfa_accepts_empty(const gm_dfa *d)
{
    return d->d->n_states && d->d->accepts[0];
}

/* How many of the nodes that n depends on must have the property before n has it; GM_NONE: never. */
static uint32_t wanted(const mlxr_grammar *g, const gm_node *n, bool nullable)
{
    switch (n->kind) {
    case GM_ACCEPT: return 0;
    case GM_SPLIT: return n->a ? 1 : GM_NONE;
    case GM_TEXT: return nullable ? GM_NONE : 1;
    case GM_DFA:
    case GM_UNIQUE:
        if (!g->dfas[n->a].d->n_states) return GM_NONE;
        return nullable && !dfa_accepts_empty(&g->dfas[n->a]) ? GM_NONE : 1;
    case GM_CHARS: return nullable && g->bounds[n->b].min ? GM_NONE : 1;
    case GM_CALL: return 2;
    case GM_REPEAT: return g->bounds[n->b].min ? 2 : 1;
    default: return GM_NONE;
    }
}

/* The nodes that n depends on, one after the other; GM_NONE at the end. */
static uint32_t depends_on(const mlxr_grammar *g, const gm_node *n, uint32_t i)
{
    switch (n->kind) {
    case GM_ACCEPT: return GM_NONE;
    case GM_SPLIT: return i < n->a ? g->edges[n->out + i] : GM_NONE;
    case GM_CALL: return i == 0 ? n->out : i == 1 ? g->rules[n->a].entry : GM_NONE;
    case GM_REPEAT: return i == 0 ? n->out : i == 1 && g->bounds[n->b].min ? g->rules[n->a].entry : GM_NONE;
    default: return i == 0 ? n->out : GM_NONE;
    }
}

static bool list_dependants(compiler *c)
{
    mlxr_grammar *g = c->g;
    uint32_t to;
    size_t total = 0;
    free(c->first_pred);
    free(c->pred);
    c->pred = NULL;
    c->first_pred = mlxr_calloc_array((size_t)g->n_nodes + 2, sizeof *c->first_pred);
    if (!c->first_pred) return false;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; (to = depends_on(g, &g->nodes[i], k)) != GM_NONE; k++, total++)
            c->first_pred[to + 2]++;
    if (total >= UINT32_MAX) return false;
    c->pred = mlxr_malloc_array(total, sizeof *c->pred);
    if (!c->pred) return false;
    for (uint32_t i = 0; i < g->n_nodes; i++) c->first_pred[i + 2] += c->first_pred[i + 1];
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; (to = depends_on(g, &g->nodes[i], k)) != GM_NONE; k++)
            c->pred[c->first_pred[to + 1]++] = i;
    return true;
}

/* has[n_nodes]: whether an accepting node can be reached (nullable: without reading). */
static bool solve(compiler *c, bool *has, bool nullable)
{
    const mlxr_grammar *g = c->g;
    uint32_t *left = mlxr_malloc_array(g->n_nodes, sizeof *left);
    size_t n_work = 0;
    if (!left || !list_dependants(c)) {
        free(left);
        return false;
    }
    memset(has, 0, g->n_nodes);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        left[i] = c->forbidden[i] ? GM_NONE : wanted(g, &g->nodes[i], nullable);
        if (left[i] == 0) {
            has[i] = true;
            c->work[n_work++] = i;
        }
    }
    while (n_work) {
        uint32_t n = c->work[--n_work];
        for (uint32_t k = c->first_pred[n]; k < c->first_pred[n + 1]; k++) {
            uint32_t p = c->pred[k];
            if (has[p] || left[p] == GM_NONE || --left[p]) continue;
            has[p] = true;
            c->work[n_work++] = p;
        }
    }
    free(left);
    return true;
}

static void cut(compiler *c, const bool *productive)
{
    mlxr_grammar *g = c->g;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        gm_node *n = &g->nodes[i];
        if (n->kind == GM_SPLIT) {
            uint32_t k = 0;
            for (uint32_t e = 0; e < n->a; e++)
                if (productive[g->edges[n->out + e]]) g->edges[n->out + k++] = g->edges[n->out + e];
            n->a = k;
        } else if (n->kind == GM_REPEAT && productive[i] && !productive[g->rules[n->a].entry]) {
            uint32_t out = n->out; /* of nothing, any number of times: none */
            if (!gm_grow(&g->edges, &c->cap_edges, g->n_edges, 1, sizeof *g->edges)) {
                nomem(c);
                return;
            }
            g->edges[g->n_edges] = out;
            *n = (gm_node){.kind = GM_SPLIT, .rule = n->rule, .out = g->n_edges++, .a = 1};
        }
    }
}

/* ---- left recursion: strongly connected nodes, by edges that read nothing (Tarjan, 1972) ---- */

static uint32_t behind(const mlxr_grammar *g, const gm_node *n, uint32_t i, const bool *nullable)
{
    switch (n->kind) {
    case GM_SPLIT: return i < n->a ? g->edges[n->out + i] : GM_NONE;
    case GM_DFA:
    case GM_UNIQUE: return i == 0 && dfa_accepts_empty(&g->dfas[n->a]) ? n->out : GM_NONE;
    case GM_CHARS: return i == 0 && !g->bounds[n->b].min ? n->out : GM_NONE;
    case GM_CALL:
    case GM_REPEAT:
        if (i == 0) return g->rules[n->a].entry;
        if (i > 1) return GM_NONE;
        if (n->kind == GM_REPEAT && !g->bounds[n->b].min) return n->out;
        return nullable[g->rules[n->a].entry] ? n->out : GM_NONE;
    default: return GM_NONE;
    }
}

static bool find_left_recursion(compiler *c, const bool *productive, const bool *nullable)
{
    mlxr_grammar *g = c->g;
    size_t n = g->n_nodes, n_path = 0, n_comp = 0;
    uint32_t *index = mlxr_calloc_array(n, sizeof *index), *low = mlxr_calloc_array(n, sizeof *low);
    uint32_t *comp = mlxr_malloc_array(n, sizeof *comp), *path = mlxr_malloc_array(n, sizeof *path);
    uint32_t *at = mlxr_calloc_array(n, sizeof *at), *open = mlxr_malloc_array(n, sizeof *open);
    uint32_t counter = 0, n_comps = 0, to;
    bool ok = index && low && comp && path && at && open;
    if (!ok) goto done;
    memset(comp, 0xff, n * sizeof *comp);
    for (uint32_t root = 0; root < n; root++) {
        if (index[root] || !productive[root]) continue;
        path[n_path++] = root;
        index[root] = low[root] = ++counter;
        open[n_comp++] = root;
        while (n_path) {
            uint32_t u = path[n_path - 1];
            to = behind(g, &g->nodes[u], at[u], nullable);
            if (to != GM_NONE) {
                at[u]++;
                if (!productive[to]) continue;
                if (!index[to]) {
                    index[to] = low[to] = ++counter;
                    path[n_path++] = to;
                    open[n_comp++] = to;
                } else if (comp[to] == GM_NONE && index[to] < low[u]) {
                    low[u] = index[to];
                }
                continue;
            }
            n_path--;
            if (n_path && low[u] < low[path[n_path - 1]]) low[path[n_path - 1]] = low[u];
            if (low[u] != index[u]) continue;
            do {
                to = open[--n_comp];
                comp[to] = n_comps;
            } while (to != u);
            n_comps++;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        const gm_node *m = &g->nodes[i];
        if (m->kind != GM_CALL || !productive[i] || comp[i] != comp[g->rules[m->a].entry]) continue;
        failed(c, MLXR_E_INVALID_ARGUMENT,
               "grammar: rule %s can call itself before it has read anything (left recursion)",
               g->rules[m->a].name);
        break;
    }
done:
    free(index);
    free(low);
    free(comp);
    free(path);
    free(at);
    free(open);
    return ok;
}

/* ---- finite sets of names: how many a body still needs from a node on ---- */

/* From the end backwards, layer by layer of names read; a repeat takes what its body needs at its entry, min times. */
static bool need_of(compiler *c, gm_need *need, uint32_t first, uint32_t end, const bool *productive)
{
    mlxr_grammar *g = c->g;
    bool again = true;
    need->least = mlxr_malloc_array(g->n_nodes, sizeof *need->least);
    if (!need->least) return false;
    memset(need->least, 0xff, g->n_nodes * sizeof *need->least);
    /* Few rounds: nodes are numbered from the end of a body to its beginning, but for loops. */
    while (again) {
        again = false;
        for (uint32_t i = first; i < end; i++) {
            const gm_node *n = &g->nodes[i];
            uint64_t v = UINT32_MAX;
            if (!productive[i]) continue;
            if (n->kind == GM_ACCEPT) {
                v = 0;
            } else if (n->kind == GM_SPLIT) {
                for (uint32_t e = 0; e < n->a; e++)
                    if (need->least[g->edges[n->out + e]] < v) v = need->least[g->edges[n->out + e]];
            } else {
                v = need->least[n->out];
                if (v != UINT32_MAX && n->kind == GM_UNIQUE && n->a == need->dfa) v++;
                if (v != UINT32_MAX && n->kind == GM_REPEAT && g->bounds[n->b].min) {
                    uint64_t body = need->least[g->rules[n->a].entry];
                    if (body && (body == UINT32_MAX || g->bounds[n->b].min > 1000000 / body))
                        v = UINT32_MAX;
                    else
                        v += body * g->bounds[n->b].min;
                }
            }
            if (v < need->least[i]) {
                need->least[i] = (uint32_t)v;
                again = true;
            }
        }
    }
    /* Until here the body of a counted repeat ends at its own end; what comes behind the repeat comes behind it too. Outer
     * bodies have the lower numbers. */
    for (uint32_t r = 0; r < g->n_rules; r++) {
        uint32_t after;
        if (!g->rules[r].counted || g->nodes[g->rules[r].repeat].kind != GM_REPEAT ||
            g->rules[r].repeat < first || g->rules[r].repeat >= end)
            continue;
        after = need->least[g->nodes[g->rules[r].repeat].out];
        for (uint32_t i = first; i < end; i++)
            if (g->nodes[i].rule == r && need->least[i] != UINT32_MAX)
                need->least[i] = after > UINT32_MAX - 1 - need->least[i] ? UINT32_MAX
                                                                         : need->least[i] + after;
    }
    need->max = 0;
    for (uint32_t i = first; i < end; i++)
        if (need->least[i] != UINT32_MAX && need->least[i] > need->max) need->max = need->least[i];
    memmove(need->least, need->least + first, (end - first) * sizeof *need->least);
    {
        uint32_t *p = mlxr_realloc_array(need->least, end - first, sizeof *p);
        if (p) need->least = p;
    }
    need->first = first;
    return true;
}

static bool find_needs(compiler *c, const bool *productive)
{
    mlxr_grammar *g = c->g;
    size_t cap = 0;
    uint32_t first = 0, end;
    for (; first < g->n_nodes; first = end) {
        uint32_t owner = g->rules[g->nodes[first].rule].owner;
        gm_rule *r = &g->rules[owner];
        for (end = first + 1; end < g->n_nodes && g->rules[g->nodes[end].rule].owner == owner;) end++;
        r->first_need = g->n_needs;
        if (!r->has_unique) continue;
        for (uint32_t i = first; i < end; i++) {
            const gm_node *n = &g->nodes[i];
            uint32_t k;
            if (n->kind != GM_UNIQUE || !productive[i] || !g->dfas[n->a].counts ||
                g->dfas[n->a].counts[0] == UINT64_MAX)
                continue;
            for (k = r->first_need; k < g->n_needs && g->needs[k].dfa != n->a;) k++;
            if (k < g->n_needs) continue;
            if (!gm_grow(&g->needs, &cap, g->n_needs, 1, sizeof *g->needs)) return false;
            g->needs[g->n_needs] = (gm_need){.dfa = n->a, .count = g->dfas[n->a].counts[0]};
            if (!need_of(c, &g->needs[g->n_needs], first, end, productive)) {
                free(g->needs[g->n_needs].least);
                return false;
            }
            g->n_needs++;
        }
        r->n_needs = g->n_needs - r->first_need;
    }
    return true;
}

/* Forbids what needs more names than its language has; false: nothing new. */
static bool forbid(compiler *c, const bool *productive)
{
    mlxr_grammar *g = c->g;
    bool some = false;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const gm_rule *r = &g->rules[g->rules[g->nodes[i].rule].owner];
        for (uint32_t k = 0; k < r->n_needs && productive[i] && !c->forbidden[i]; k++) {
            const gm_need *need = &g->needs[r->first_need + k];
            if (need->least[i - need->first] > need->count) some = c->forbidden[i] = true;
        }
    }
    return some;
}

static void drop_needs(mlxr_grammar *g)
{
    for (uint32_t i = 0; i < g->n_needs; i++) free(g->needs[i].least);
    free(g->needs);
    g->needs = NULL;
    g->n_needs = 0;
    for (uint32_t i = 0; i < g->n_rules; i++) g->rules[i].n_needs = 0;
}

/* ---- tables ---- */

static bool prepare_dfas(mlxr_grammar *g)
{
    bool *unique = calloc((size_t)g->n_dfas + 1, sizeof *unique);
    bool ok = unique != NULL;
    for (uint32_t i = 0; ok && i < g->n_nodes; i++)
        if (g->nodes[i].kind == GM_UNIQUE) unique[g->nodes[i].a] = true;
    for (uint32_t i = 0; ok && i < g->n_dfas; i++) {
        gm_dfa *d = &g->dfas[i];
        size_t n_states = d->d->n_states, n_classes = d->d->n_classes;
        d->goes_on = calloc(n_states + 1, 1);
        if (!d->goes_on) ok = false;
        for (size_t s = 0; ok && s < n_states; s++)
            for (size_t k = 0; k < n_classes && !d->goes_on[s]; k++)
                d->goes_on[s] = d->d->next[s * n_classes + k] != MLXR_DFA_NONE;
        if (ok && unique[i]) {
            d->counts = mlxr_calloc_array(n_states + 1, sizeof *d->counts);
            if (d->counts)
                mlxr_dfa_counts(d->counts, d->d);
            else
                ok = false;
        }
    }
    free(unique);
    return ok;
}

static void refine(mlxr_grammar *g, const uint8_t by[256], uint32_t *table, uint32_t *stamp)
{
    unsigned n = 0;
    /* table[old class, new class]: the class of both, from stamp * 256 on. */
    (*stamp)++;
    for (unsigned b = 0; b < 256; b++) {
        uint32_t *t = &table[g->class_of[b] * 256u + by[b]];
        if (*t >> 8 != *stamp) *t = *stamp << 8 | n++;
        g->class_of[b] = (uint8_t)*t;
    }
    g->n_classes = n;
}

static bool find_classes(mlxr_grammar *g)
{
    uint32_t *table = mlxr_calloc_array((size_t)256 * 256, sizeof *table), stamp = 0;
    bool *used = calloc((size_t)g->n_dfas + 1, sizeof *used);
    uint8_t by[256] = {0};
    bool chars = false, ok = table && used;
    unsigned n = 0;
    if (!ok) goto done;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const gm_node *m = &g->nodes[i];
        if (m->kind == GM_DFA || m->kind == GM_UNIQUE) used[m->a] = true;
        if (m->kind == GM_CHARS) chars = true;
        if (m->kind != GM_TEXT) continue;
        for (uint32_t k = 0; k < m->b; k++) {
            uint8_t c = (uint8_t)g->texts[m->a + k];
            if (!by[c] && n < 255) by[c] = (uint8_t)++n;
        }
    }
    refine(g, by, table, &stamp);
    for (uint32_t i = 0; i < g->n_dfas; i++)
        if (used[i]) refine(g, g->dfas[i].d->class_of, table, &stamp);
    if (chars) {
        mlxr_dfa *d;
        ok = gm_chars_any(&d);
        if (ok) refine(g, d->class_of, table, &stamp);
        gm_dfa_free_own(d);
    }
    for (unsigned b = 256; b-- > 0;) g->byte_of[g->class_of[b]] = (uint8_t)b;
done:
    free(table);
    free(used);
    return ok;
}

static void prepare_rules(mlxr_grammar *g, const bool *nullable)
{
    for (uint32_t r = 0; r < g->n_rules; r++) {
        g->rules[r].nullable = nullable[g->rules[r].entry];
        g->rules[r].has_unique = g->rules[g->rules[r].owner].has_unique;
    }
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].kind == GM_REPEAT && g->rules[g->nodes[i].a].nullable) {
            g->bounds[g->nodes[i].b].min = 0; /* the missing ones are empty */
            g->has_nullable_repeat = true;
        }
}

static void count_bytes(mlxr_grammar *g)
{
    g->n_bytes = sizeof *g + g->n_nodes * sizeof *g->nodes + g->n_edges * sizeof *g->edges + g->n_texts +
                 g->n_bounds * sizeof *g->bounds + g->n_dfas * sizeof *g->dfas +
                 g->n_rules * sizeof *g->rules + g->arena.used_bytes;
    for (uint32_t i = 0; i < g->n_dfas; i++)
        g->n_bytes += sizeof *g->dfas[i].d +
                      (size_t)g->dfas[i].d->n_states * (g->dfas[i].d->n_classes * sizeof(uint32_t) + 2);
}

mlxr_status mlxr_grammar_finish(mlxr_grammar **out, mlxr_grammar_builder *b, mlxr_rule root, mlxr_error *err)
{
    compiler c = {.b = b, .err = err, .st = MLXR_OK};
    mlxr_grammar *g = NULL;
    bool *productive = NULL, *nullable = NULL;

    *out = NULL;
    if (!b->failed && b->finished)
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: the builder is used up");
    if (!b->failed && root >= b->n_rules)
        mlxr_gb_fail(b, MLXR_E_INVALID_ARGUMENT, "grammar: a rule that was never declared");
    if (b->failed) return mlxr_fail(err, b->error.code, "%s", b->error.message);
    b->finished = true;

    c.g = g = calloc(1, sizeof *g);
    c.number_of = mlxr_malloc_array(b->n_rules, sizeof *c.number_of);
    if (g) g->n_refs = 1;
    if (!g || !c.number_of) {
        nomem(&c);
        goto done;
    }
    memset(c.number_of, 0xff, b->n_rules * sizeof *c.number_of);
    g->limits = b->limits;
    g->arena = b->arena;
    g->texts = b->texts;
    g->n_texts = (uint32_t)b->n_texts;
    g->dfas = b->dfas;
    g->n_dfas = (uint32_t)b->n_dfas;
    g->json_chars = b->json_chars;
    b->arena = (mlxr_arena){0};
    b->texts = NULL;
    b->dfas = NULL;
    b->n_texts = b->n_dfas = b->cap_texts = b->cap_dfas = 0;

    write_rules(&c, root);
    if (c.st == MLXR_OK && (!g->rules || !g->nodes)) failed(&c, MLXR_E_INTERNAL, "grammar: no rules");
    if (c.st != MLXR_OK) goto done;
    productive = mlxr_calloc_array(g->n_nodes, sizeof *productive);
    nullable = mlxr_calloc_array(g->n_nodes, sizeof *nullable);
    c.forbidden = mlxr_calloc_array(g->n_nodes, sizeof *c.forbidden);
    c.work = mlxr_malloc_array(g->n_nodes, sizeof *c.work);
    if (!productive || !nullable || !c.forbidden || !c.work || !prepare_dfas(g)) {
        nomem(&c);
        goto done;
    }
    do {
        drop_needs(g);
        if (!solve(&c, productive, false)) {
            nomem(&c);
            goto done;
        }
        if (!productive[g->rules[g->root].entry]) {
            failed(&c, MLXR_E_INVALID_ARGUMENT, "grammar: no text can be completed (rule %s)",
                   g->rules[g->root].name);
            goto done;
        }
        cut(&c, productive);
        if (c.st == MLXR_OK && !find_needs(&c, productive)) nomem(&c);
        if (c.st != MLXR_OK) goto done;
    } while (forbid(&c, productive));
    if (!solve(&c, nullable, true) || !find_left_recursion(&c, productive, nullable) || !find_classes(g))
        nomem(&c);
    if (c.st != MLXR_OK) goto done;
    prepare_rules(g, nullable);
    count_bytes(g);
    *out = g;
    g = NULL;
done:
    free(productive);
    free(nullable);
    free(c.forbidden);
    free(c.number_of);
    free(c.from);
    free(c.pred);
    free(c.first_pred);
    free(c.work);
    mlxr_grammar_unref(g);
    return c.st;
}

mlxr_grammar *mlxr_grammar_ref(mlxr_grammar *g)
{
    if (g) __atomic_add_fetch(&g->n_refs, 1, __ATOMIC_RELAXED);
    return g;
}

void mlxr_grammar_unref(mlxr_grammar *g)
{
    if (!g || __atomic_sub_fetch(&g->n_refs, 1, __ATOMIC_ACQ_REL)) return;
    for (uint32_t i = 0; i < g->n_dfas; i++) gm_dfa_drop(&g->dfas[i]);
    drop_needs(g);
    free(g->nodes);
    free(g->edges);
    free(g->texts);
    free(g->bounds);
    free(g->dfas);
    free(g->rules);
    mlxr_arena_clear(&g->arena);
    free(g);
}

size_t mlxr_grammar_bytes(const mlxr_grammar *g)
{
    return g->n_bytes;
}
