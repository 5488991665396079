/* Names to slots, by jinja2's rules of idtracking and its code generator: which scope a name belongs to is decided
 * before anything runs, a scope loads what it needs when it is entered (from the context, from an outer scope, or
 * as not set), and scopes of one level in one function share the slot of a name, as its Python variables do. */
#include <stdlib.h>

#include "text/template/template.h"

enum { MAX_WORK = 400000000 };

/* A slot of a function under construction. */
typedef struct slot_key {
    uint32_t name, level;
} slot_key;

typedef struct fn_build {
    struct fn_build *outer;
    uint16_t depth;
    slot_key *keys;
    size_t n, cap;
} fn_build;

typedef struct ident {
    fn_build *fn;
    uint32_t slot;
} ident;

typedef struct sym_ref {
    uint32_t name;
    ident id;
} sym_ref;

typedef struct sym_load {
    ident id;
    load_action action;
    uint32_t name;
    ident src;
} sym_load;

typedef struct syms {
    struct syms *parent;
    fn_build *fn;
    uint32_t level;
    sym_ref *refs;
    size_t n_refs, cap_refs;
    sym_load *loads;
    size_t n_loads, cap_loads;
    uint32_t *stores;
    size_t n_stores, cap_stores;
} syms;

typedef struct frame {
    syms *s;
    fn_build *fn;
    bool toplevel, rootlevel, block_frame, soft;
    int loops; /* Python loops around, in this function */
    uint8_t escape;
    uint8_t fixed_escape; /* what the last setting known at compile time said */
} frame;

typedef struct scope {
    parse *p;
    mlxr_strtab names;
    str **name_of;
    size_t n_names, cap_names;
    mlxr_arena tmp;
    bool failed_mem;
} scope;

static bool gen(scope *c, node *x, frame *f);
static bool gen_all(scope *c, nodes *l, frame *f);

static bool nomem(scope *c)
{
    return parse_fail_status(c->p, MLXR_E_NOMEM, "out of memory");
}

static bool work(scope *c, uint64_t n)
{
    c->p->work += n + 1;
    if (c->p->work > MAX_WORK) return parse_fail_status(c->p, MLXR_E_LIMIT, "too many names and scopes");
    return true;
}

/* UINT32_MAX: failed */
static uint32_t name_id(scope *c, str *name)
{
    size_t id = mlxr_strtab_get(&c->names, name->s, name->n);
    if (id != SIZE_MAX) return (uint32_t)id;
    if (c->n_names == c->cap_names) {
        size_t cap = c->cap_names ? c->cap_names * 2 : 64;
        str **v = mlxr_realloc_array(c->name_of, cap, sizeof *v);
        if (!v) goto fail;
        c->name_of = v;
        c->cap_names = cap;
    }
    if (!mlxr_strtab_put(&c->names, name->s, name->n, c->n_names, NULL)) goto fail;
    c->name_of[c->n_names] = name;
    return (uint32_t)c->n_names++;
fail:
    nomem(c);
    return UINT32_MAX;
}

static uint32_t literal_id(scope *c, const char *name)
{
    str *s = parse_str(c->p, name, strlen(name));
    return s ? name_id(c, s) : UINT32_MAX;
}

static bool grow(scope *c, void **v, size_t n, size_t *cap, size_t size)
{
    size_t k;
    void *q;
    if (n < *cap) return true;
    k = *cap ? *cap * 2 : 8;
    q = mlxr_arena_calloc(&c->tmp, k, size);
    if (!q) return nomem(c);
    if (n) memcpy(q, *v, n * size);
    *v = q;
    *cap = k;
    return true;
}

static fn_build *fn_new(scope *c, fn_build *outer)
{
    fn_build *f = mlxr_arena_calloc(&c->tmp, 1, sizeof *f);
    if (!f) {
        nomem(c);
        return NULL;
    }
    f->outer = outer;
    f->depth = outer ? (uint16_t)(outer->depth + 1) : 0;
    return f;
}

static bool fn_slot(scope *c, fn_build *f, uint32_t level, uint32_t name, uint32_t *slot)
{
    if (!work(c, f->n)) return false;
    for (size_t i = 0; i < f->n; i++)
        if (f->keys[i].name == name && f->keys[i].level == level) {
            *slot = (uint32_t)i;
            return true;
        }
    if (!grow(c, (void **)&f->keys, f->n, &f->cap, sizeof *f->keys)) return false;
    f->keys[f->n] = (slot_key){name, level};
    *slot = (uint32_t)f->n++;
    return true;
}

static syms *syms_new(scope *c, syms *parent, fn_build *fn)
{
    syms *s = mlxr_arena_calloc(&c->tmp, 1, sizeof *s);
    if (!s) {
        nomem(c);
        return NULL;
    }
    s->parent = parent;
    s->fn = fn;
    s->level = parent ? parent->level + 1 : 0;
    return s;
}

static const ident *own_ref(const syms *s, uint32_t name)
{
    for (size_t i = 0; i < s->n_refs; i++)
        if (s->refs[i].name == name) return &s->refs[i].id;
    return NULL;
}

static const ident *find_ref(scope *c, const syms *s, uint32_t name)
{
    for (; s; s = s->parent) {
        const ident *id = own_ref(s, name);
        work(c, s->n_refs);
        if (id) return id;
    }
    return NULL;
}

static bool same_ident(ident a, ident b)
{
    return a.fn == b.fn && a.slot == b.slot;
}

static bool set_ref(scope *c, syms *s, uint32_t name, ident id)
{
    for (size_t i = 0; i < s->n_refs; i++)
        if (s->refs[i].name == name) {
            s->refs[i].id = id;
            return true;
        }
    if (!grow(c, (void **)&s->refs, s->n_refs, &s->cap_refs, sizeof *s->refs)) return false;
    s->refs[s->n_refs++] = (sym_ref){name, id};
    return work(c, s->n_refs);
}

static bool set_load(scope *c, syms *s, sym_load l)
{
    for (size_t i = 0; i < s->n_loads; i++)
        if (same_ident(s->loads[i].id, l.id)) {
            s->loads[i] = l;
            return true;
        }
    if (!grow(c, (void **)&s->loads, s->n_loads, &s->cap_loads, sizeof *s->loads)) return false;
    s->loads[s->n_loads++] = l;
    return work(c, s->n_loads);
}

static bool define(scope *c, syms *s, uint32_t name, load_action action, ident src)
{
    ident id = {.fn = s->fn};
    if (name == UINT32_MAX || !fn_slot(c, s->fn, s->level, name, &id.slot)) return false;
    return set_ref(c, s, name, id) &&
           set_load(c, s, (sym_load){.id = id, .action = action, .name = name, .src = src});
}

static bool in_stores(const syms *s, uint32_t name)
{
    for (size_t i = 0; i < s->n_stores; i++)
        if (s->stores[i] == name) return true;
    return false;
}

static bool add_store(scope *c, syms *s, uint32_t name)
{
    if (in_stores(s, name)) return true;
    if (!grow(c, (void **)&s->stores, s->n_stores, &s->cap_stores, sizeof *s->stores)) return false;
    s->stores[s->n_stores++] = name;
    return work(c, s->n_stores);
}

static bool sym_store(scope *c, syms *s, uint32_t name)
{
    const ident *outer;
    if (name == UINT32_MAX || !add_store(c, s, name)) return false;
    if (own_ref(s, name)) return true;
    outer = s->parent ? find_ref(c, s->parent, name) : NULL;
    if (outer) return define(c, s, name, LOAD_ALIAS, *outer);
    return define(c, s, name, LOAD_UNDEFINED, (ident){0});
}

static bool sym_param(scope *c, syms *s, uint32_t name)
{
    return name != UINT32_MAX && add_store(c, s, name) && define(c, s, name, LOAD_PARAM, (ident){0});
}

static bool sym_load_name(scope *c, syms *s, uint32_t name)
{
    if (name == UINT32_MAX) return false;
    return find_ref(c, s, name) ? true : define(c, s, name, LOAD_RESOLVE, (ident){0});
}

static bool syms_copy(scope *c, syms *to, const syms *from)
{
    *to = *from;
    if (!work(c, from->n_refs + from->n_loads + from->n_stores)) return false;
#define COPY(field, n_field, cap_field)                                           \
    if (from->n_field) {                                                          \
        to->field = mlxr_arena_alloc(&c->tmp, from->n_field * sizeof *to->field); \
        if (!to->field) return nomem(c);                                          \
        memcpy(to->field, from->field, from->n_field * sizeof *to->field);        \
    }                                                                             \
    to->cap_field = from->n_field;
    COPY(refs, n_refs, cap_refs)
    COPY(loads, n_loads, cap_loads)
    COPY(stores, n_stores, cap_stores)
#undef COPY
    return true;
}

static bool branch_update(scope *c, syms *s, syms branches[3])
{
    uint32_t *fresh = NULL;
    size_t n_fresh = 0, cap = 0;
    for (int b = 0; b < 3; b++)
        for (size_t i = 0; i < branches[b].n_stores; i++) {
            uint32_t name = branches[b].stores[i];
            bool seen = in_stores(s, name);
            for (size_t k = 0; !seen && k < n_fresh; k++) seen = fresh[k] == name;
            if (!work(c, n_fresh + s->n_stores)) return false;
            if (seen) continue;
            if (!grow(c, (void **)&fresh, n_fresh, &cap, sizeof *fresh)) return false;
            fresh[n_fresh++] = name; /* NOLINT(clang-analyzer-core.NullDereference): grow gave it room */
        }
    for (int b = 0; b < 3; b++) {
        const syms *y = &branches[b];
        for (size_t i = 0; i < y->n_refs; i++)
            if (!set_ref(c, s, y->refs[i].name, y->refs[i].id)) return false;
        for (size_t i = 0; i < y->n_loads; i++)
            if (!set_load(c, s, y->loads[i])) return false;
        for (size_t i = 0; i < y->n_stores; i++)
            if (!add_store(c, s, y->stores[i])) return false;
    }
    for (size_t i = 0; i < n_fresh; i++) {
        const ident *target = find_ref(c, s, fresh[i]);
        const ident *outer = s->parent ? find_ref(c, s->parent, fresh[i]) : NULL;
        sym_load l = {.action = LOAD_RESOLVE, .name = fresh[i]};
        if (!target) return false;
        l.id = *target;
        if (outer) {
            l.action = LOAD_ALIAS;
            l.src = *outer;
        }
        if (!set_load(c, s, l)) return false;
    }
    return true;
}

/* ---- the symbols of a scope: FrameSymbolVisitor ---- */

typedef struct visit_ud {
    scope *c;
    syms *s;
    bool as_param;
} visit_ud;

static bool visit(void *ud, node *x);

static bool visit_list(visit_ud *u, const nodes *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (!visit(u, l->v[i])) return false;
    return true;
}

static bool visit_if(visit_ud *u, node *x)
{
    syms *orig = u->s, branch[3];
    const nodes *lists[3] = {&x->body, &x->items, &x->orelse};
    bool ok = visit(u, x->a);
    for (int b = 0; ok && b < 3; b++) {
        ok = syms_copy(u->c, &branch[b], orig);
        u->s = &branch[b];
        if (ok) ok = visit_list(u, lists[b]);
        u->s = orig;
    }
    return ok && branch_update(u->c, orig, branch);
}

static bool visit(void *ud, node *x)
{
    visit_ud *u = ud;
    if (!work(u->c, 1)) return false;
    switch ((node_kind)x->kind) {
    case N_NAME:
        if (u->as_param || x->ctx == CTX_PARAM) return sym_param(u->c, u->s, name_id(u->c, x->name));
        if (x->ctx == CTX_STORE) return sym_store(u->c, u->s, name_id(u->c, x->name));
        return sym_load_name(u->c, u->s, name_id(u->c, x->name));
    case N_NSREF: return sym_load_name(u->c, u->s, name_id(u->c, x->name));
    case N_IF: return visit_if(u, x);
    case N_MACRO: return sym_store(u->c, u->s, name_id(u->c, x->name));
    case N_IMPORT: return visit(u, x->a) && sym_store(u->c, u->s, name_id(u->c, x->name));
    case N_FROMIMPORT:
        if (!visit(u, x->a)) return false;
        for (size_t i = 0; i < x->n_imports; i++)
            if (!sym_store(u->c, u->s, name_id(u->c, x->imports[i].alias))) return false;
        return true;
    case N_SET: return visit(u, x->b) && visit(u, x->a);
    case N_FOR: return visit(u, x->loop->iter);
    case N_CALLBLOCK: return x->a ? visit(u, x->a) : true;
    case N_FILTERBLOCK: return visit(u, x->a);
    case N_WITH: return visit_list(u, &x->orelse);
    case N_SETBLOCK: return visit(u, x->a);
    case N_AUTOESCAPE: /* the reference wraps it in a Scope */
    case N_BLOCK: return true;
    default: return node_children(x, visit, u);
    }
}

/* ---- names that a piece of template reads before it sets them ---- */

typedef struct undeclared {
    const char *const *names; /* up to 3 */
    bool gone[3], found[3];
    size_t n;
} undeclared;

static bool find_undeclared(void *ud, node *x)
{
    undeclared *u = ud;
    if (x->kind == N_BLOCK) return true;
    if (x->kind == N_NAME) {
        bool all = true;
        for (size_t i = 0; i < u->n; i++) {
            if (!str_is(x->name, u->names[i])) continue;
            if (x->ctx == CTX_LOAD && !u->gone[i])
                u->found[i] = true;
            else
                u->gone[i] = true;
        }
        for (size_t i = 0; i < u->n; i++) all &= u->found[i];
        return !all;
    }
    return node_children(x, find_undeclared, u);
}

static void undeclared_in(undeclared *u, const nodes *body)
{
    for (size_t i = 0; i < body->n; i++)
        if (!find_undeclared(u, body->v[i])) return;
}

static bool has_scoped_block(void *ud, node *x)
{
    if (x->kind == N_BLOCK && x->flag) {
        *(bool *)ud = true;
        return false;
    }
    return node_children(x, has_scoped_block, ud);
}

static bool stores_loop(void *ud, node *x)
{
    if (x->kind == N_NAME && x->ctx == CTX_STORE && str_is(x->name, "loop")) {
        *(uint32_t *)ud = x->line;
        return false;
    }
    return node_children(x, stores_loop, ud);
}

/* ---- the second walk: what the code generator does ---- */

static ref ref_from(const frame *f, ident id)
{
    return (ref){.slot = id.slot, .hops = (uint16_t)(f->fn->depth - id.fn->depth)};
}

static bool ref_name(scope *c, frame *f, str *name, ref *out)
{
    uint32_t n = name_id(c, name);
    const ident *id = n == UINT32_MAX ? NULL : find_ref(c, f->s, n);
    if (!id)
        return parse_fail_status(
            c->p, MLXR_E_TEMPLATE,
            "Tried to resolve a name to a reference that was unknown to the frame ('%.*s')",
            (int)(name->n < 100 ? name->n : 100), name->s);
    *out = ref_from(f, *id);
    return true;
}

static bool frame_finish(scope *c, const frame *f, frame_info *out)
{
    const syms *s = f->s;
    size_t k = 0;
    out->n = s->n_loads;
    out->ops = parse_alloc(c->p, s->n_loads, sizeof *out->ops);
    if (!out->ops) return false;
    for (int pass = 0; pass < 2; pass++) /* those without a value are set last, as the generated code does */
        for (size_t i = 0; i < s->n_loads; i++) {
            const sym_load *l = &s->loads[i];
            load_op *op;
            if ((l->action == LOAD_UNDEFINED) != (pass == 1)) continue;
            op = &out->ops[k++];
            op->action = l->action;
            op->slot = l->id.slot;
            if (l->action == LOAD_ALIAS) op->src = ref_from(f, l->src);
            if (l->action == LOAD_RESOLVE) op->name = c->name_of[l->name];
        }
    return true;
}

static frame frame_inner(scope *c, const frame *f, fn_build *fn)
{
    frame g = {
        .fn = fn, .escape = f->escape, .fixed_escape = f->fixed_escape, .loops = fn == f->fn ? f->loops : 0};
    g.s = syms_new(c, f->s, fn);
    return g;
}

static bool analyze(scope *c, frame *f, const nodes *body)
{
    visit_ud u = {.c = c, .s = f->s};
    return visit_list(&u, body);
}

static bool gen_macro(scope *c, node *x, frame *f)
{
    static const char *const special[3] = {"caller", "kwargs", "varargs"};
    macro_info *m = x->macro;
    fn_build *fn = fn_new(c, f->fn);
    frame g;
    undeclared u = {.names = special, .n = 3};
    bool skip[3] = {false};
    uint32_t *slots[3] = {&m->caller_slot, &m->kwargs_slot, &m->varargs_slot};
    bool *uses[3] = {&m->caller, &m->kwargs, &m->varargs};
    visit_ud v;
    ref tmp;

    if (!fn) return false;
    g = frame_inner(c, f, fn);
    if (!g.s) return false;
    v = (visit_ud){.c = c, .s = g.s};
    if (!visit_list(&v, &m->args) || !visit_list(&v, &m->defaults) || !visit_list(&v, &x->body)) return false;
    m->arg_refs = parse_alloc(c->p, m->args.n, sizeof *m->arg_refs);
    if (!m->arg_refs) return false;
    undeclared_in(&u, &x->body);
    for (size_t i = 0; i < m->args.n; i++) {
        str *name = m->args.v[i]->name;
        if (str_is(name, "caller")) {
            m->explicit_caller = true;
            if (u.found[0] && i < m->args.n - m->defaults.n)
                return parse_fail(
                    c->p, x->line,
                    "When defining macros or call blocks the special \"caller\" argument must be "
                    "omitted or be given a default.");
            skip[0] = true;
        }
        if (str_is(name, "kwargs")) skip[1] = true;
        if (str_is(name, "varargs")) skip[2] = true;
    }
    for (int i = 0; i < 3; i++) {
        if (!u.found[i]) continue;
        if (i == 0) *uses[0] = true;
        if (skip[i]) continue;
        *uses[i] = true;
        if (!sym_param(c, g.s, literal_id(c, special[i]))) return false;
    }
    v.s = g.s;
    if (!visit_list(&v, &m->args) || !visit_list(&v, &m->defaults) || !visit_list(&v, &x->body)) return false;
    for (size_t i = 0; i < m->args.n; i++)
        if (!ref_name(c, &g, m->args.v[i]->name, &m->arg_refs[i])) return false;
    for (int i = 0; i < 3; i++) {
        str *name;
        *slots[i] = UINT32_MAX;
        if (!*uses[i] || skip[i]) continue;
        name = parse_str(c->p, special[i], strlen(special[i]));
        if (!name || !ref_name(c, &g, name, &tmp)) return false;
        *slots[i] = tmp.slot;
    }
    if (!gen_all(c, &m->defaults, &g) || !gen_all(c, &x->body, &g)) return false;
    if (!frame_finish(c, &g, &m->fn.frame)) return false;
    m->fn.n_slots = (uint32_t)fn->n;
    return true;
}

static bool gen_for(scope *c, node *x, frame *f)
{
    static const char *const loop_name[1] = {"loop"};
    for_info *l = x->loop;
    undeclared u = {.names = loop_name, .n = 1};
    fn_build *fn = f->fn;
    frame body, other;
    visit_ud v;
    uint32_t bad = 0;
    bool scoped = false;

    undeclared_in(&u, &x->body);
    has_scoped_block(&scoped, x);
    x->flag2 = x->flag || u.found[0] || scoped;
    if (x->flag && !(fn = fn_new(c, f->fn))) return false;
    body = frame_inner(c, f, fn);
    if (!body.s) return false;
    body.loops++;
    if (x->flag2 && !sym_param(c, body.s, literal_id(c, "loop"))) return false;
    v = (visit_ud){.c = c, .s = body.s, .as_param = true};
    if (!visit(&v, l->target)) return false;
    v.as_param = false;
    if (!visit_list(&v, &x->body)) return false;
    if (x->flag2) {
        const ident *id = own_ref(body.s, literal_id(c, "loop"));
        if (!id) return false;
        l->loop_ref = ref_from(&body, *id);
    }
    other = frame_inner(c, f, fn);
    if (!other.s || !analyze(c, &other, &x->orelse)) return false;
    if (l->test) {
        fn_build *test_build = fn_new(c, f->fn);
        frame t;
        if (!test_build) return false;
        t = frame_inner(c, f, test_build);
        if (!t.s || !(l->test_target = node_copy_target(c->p, l->target))) return false;
        v = (visit_ud){.c = c, .s = t.s, .as_param = true};
        if (!visit(&v, l->test_target)) return false;
        v.as_param = false;
        if (!visit(&v, l->test) || !gen(c, l->test_target, &t) || !gen(c, l->test, &t)) return false;
        if (!frame_finish(c, &t, &l->test_fn.frame)) return false;
        l->test_fn.n_slots = (uint32_t)test_build->n;
    }
    if (!stores_loop(&bad, x) && bad)
        return parse_fail(c->p, bad, "Can't assign to special loop variable in for-loop target");
    if (!gen(c, l->iter, f) || !gen(c, l->target, &body) || !gen_all(c, &x->body, &body)) return false;
    if (!gen_all(c, &x->orelse, &other)) return false;
    if (!frame_finish(c, &body, &l->body_frame) || !frame_finish(c, &other, &l->else_frame)) return false;
    if (x->flag) l->body_fn.n_slots = (uint32_t)fn->n;
    return true;
}

static bool gen_set(scope *c, node *x, frame *f)
{
    frame g;
    x->toplevel = f->toplevel;
    if (x->kind == N_SET) return gen(c, x->a, f) && gen(c, x->b, f);
    g = frame_inner(c, f, f->fn);
    if (!g.s || !analyze(c, &g, &x->body) || !gen_all(c, &x->body, &g)) return false;
    if (!gen(c, x->a, f)) return false;
    if (x->b && !gen(c, x->b, &g)) return false;
    return frame_finish(c, &g, &x->frame);
}

/* A statement with a scope around its body. */
static bool gen_scope(scope *c, node *x, frame *f)
{
    frame g = frame_inner(c, f, f->fn);
    visit_ud v = {.c = c, .s = g.s};
    if (!g.s) return false;
    switch ((node_kind)x->kind) {
    case N_FILTERBLOCK:
        if (!visit_list(&v, &x->body) || !visit(&v, x->a)) return false;
        if (!gen_all(c, &x->body, &g) || !gen(c, x->a, &g)) return false;
        break;
    case N_WITH:
        if (!visit_list(&v, &x->items) || !visit_list(&v, &x->body)) return false;
        if (!gen_all(c, &x->items, &g) || !gen_all(c, &x->orelse, f) || !gen_all(c, &x->body, &g))
            return false;
        break;
    default: /* N_AUTOESCAPE */
        if (!visit(&v, x->a) || !visit_list(&v, &x->body) || !gen(c, x->a, &g)) return false;
        g.escape = ESC_VOLATILE;
        if (x->a->kind == N_CONST) {
            bool on;
            if (!truthy(NULL, x->a->value, &on)) return false;
            if (f->escape != ESC_VOLATILE) g.escape = on ? ESC_ON : ESC_OFF;
            g.fixed_escape = on ? ESC_ON : ESC_OFF;
        }
        if (!gen_all(c, &x->body, &g)) return false;
        break;
    }
    return frame_finish(c, &g, &x->frame);
}

static bool gen_block_ref(scope *c, node *x, frame *f)
{
    const syms *s;
    if (!x->flag) return true;
    /* scoped: the block sees the names set around it */
    for (s = f->s; s; s = s->parent) x->frame2.n += s->n_stores;
    x->frame2.ops = parse_alloc(c->p, x->frame2.n, sizeof *x->frame2.ops);
    if (!x->frame2.ops) return false;
    x->frame2.n = 0;
    for (s = f->s; s; s = s->parent)
        for (size_t i = 0; i < s->n_stores; i++) {
            str *name = c->name_of[s->stores[i]];
            load_op *op = &x->frame2.ops[x->frame2.n++];
            op->name = name;
            if (!work(c, x->frame2.n) || !ref_name(c, f, name, &op->src)) return false;
        }
    return true;
}

typedef struct gen_ud {
    scope *c;
    frame *f;
} gen_ud;

static bool gen_child(void *ud, node *x)
{
    gen_ud *u = ud;
    return gen(u->c, x, u->f);
}

static bool gen_all(scope *c, nodes *l, frame *f)
{
    for (size_t i = 0; i < l->n; i++)
        if (!gen(c, l->v[i], f)) return false;
    return true;
}

/* Whether the reference folds x while the setting of autoescape is not known: filters and tests it does not. */
static bool folds(void *ud, node *x)
{
    switch ((node_kind)x->kind) {
    case N_CONST: return true;
    case N_NAME:
    case N_CALL:
    case N_FILTER:
    case N_TEST:
    case N_DATA: return false;
    default: return node_children(x, folds, ud);
    }
}

/* The same where the setting is known: filters are folded too, but for those that want the context. */
static bool folds_known(void *ud, node *x)
{
    static const char *const with_context[] = {"map",        "select",     "reject",
                                               "selectattr", "rejectattr", "random"};
    if (x->kind == N_FILTER || x->kind == N_TEST) {
        if (!x->fn) return false;
        for (size_t i = 0; i < MLXR_COUNT(with_context); i++)
            if (x->kind == N_FILTER && str_is(x->name, with_context[i])) return false;
        return node_children(x, folds_known, ud);
    }
    return x->kind == N_CONST ||
           (x->kind != N_NAME && x->kind != N_CALL && x->kind != N_DATA && node_children(x, folds_known, ud));
}

/* The truth of what is constant: 0, 1, or -1 for not known here. */
static int const_truth(const node *x)
{
    int a, b;
    bool yes;
    switch ((node_kind)x->kind) {
    case N_CONST: return truthy(NULL, x->value, &yes) ? yes : -1;
    case N_NOT: a = const_truth(x->a); return a < 0 ? a : !a;
    case N_AND:
    case N_OR:
        a = const_truth(x->a);
        if (a < 0 || a == (x->kind == N_OR)) return a;
        b = const_truth(x->b);
        return b;
    default: return -1;
    }
}

static bool gen(scope *c, node *x, frame *f)
{
    gen_ud u = {.c = c, .f = f};
    frame soft;

    if (!work(c, 1)) return false;
    x->escape = f->escape;
    switch ((node_kind)x->kind) {
    case N_NAME: return ref_name(c, f, x->name, &x->ref);
    case N_NSREF: return ref_name(c, f, x->name, &x->ref);
    case N_FILTER:
    case N_TEST:
        if (!x->fn && !f->soft)
            return parse_fail(c->p, x->line, "No %s named '%.*s'.", x->kind == N_FILTER ? "filter" : "test",
                              (int)(x->name->n < 100 ? x->name->n : 100), x->name->s);
        break;
    case N_COND:
        soft = *f;
        soft.soft = true;
        u.f = &soft;
        break;
    case N_IF:
        soft = *f;
        soft.rootlevel = false;
        soft.soft = true;
        u.f = &soft;
        break;
    case N_FOR: return gen_for(c, x, f);
    case N_SET:
    case N_SETBLOCK: return gen_set(c, x, f);
    case N_MACRO: x->toplevel = f->toplevel; return gen_macro(c, x, f) && ref_name(c, f, x->name, &x->ref);
    case N_CALLBLOCK: return gen_macro(c, x, f) && (!x->a || gen(c, x->a, f));
    case N_FILTERBLOCK:
    case N_WITH:
    case N_AUTOESCAPE: return gen_scope(c, x, f);
    case N_BLOCK: return gen_block_ref(c, x, f);
    case N_EXTENDS:
        if (!f->toplevel) return parse_fail(c->p, x->line, "cannot use extend from a non top-level scope");
        break;
    case N_IMPORT:
        if (!ref_name(c, f, x->name, &x->ref)) return false;
        break;
    case N_BREAK:
    case N_CONTINUE:
        if (!f->loops)
            return parse_fail(c->p, x->line,
                              x->kind == N_BREAK ? "'break' outside loop"
                                                 : "'continue' not properly in loop");
        return true;
    case N_AND:
    case N_OR:
        /* folded by the reference: a right side that never counts may name filters that do not exist */
        if (const_truth(x->a) == (x->kind == N_OR)) return gen(c, x->a, f);
        break;
    case N_CONCAT:
        /* folded, the pieces are joined as plain text whatever they were */
        x->flag = folds_known(NULL, x);
        break;
    case N_OUTPUT:
        if (!node_children(x, gen_child, &u)) return false;
        for (size_t i = 0; i < x->items.n; i++)
            if (f->escape == ESC_VOLATILE && folds(NULL, x->items.v[i]))
                x->items.v[i]->escape = f->fixed_escape;
        return true;
    default: break;
    }
    return node_children(x, gen_child, &u);
}

static bool collect_blocks(void *ud, node *x)
{
    scope *c = ud;
    mlxr_template *t = c->p->t;
    if (x->kind == N_BLOCK) {
        for (size_t i = 0; i < t->n_blocks; i++)
            if (str_eq(t->blocks[i]->name, x->name))
                return parse_fail(c->p, x->line, "block '%.*s' defined twice",
                                  (int)(x->name->n < 100 ? x->name->n : 100), x->name->s);
        if (!work(c, t->n_blocks)) return false;
        if ((t->n_blocks & (t->n_blocks - 1)) == 0) {
            size_t cap = t->n_blocks ? t->n_blocks * 2 : 1;
            node **v = parse_alloc(c->p, cap, sizeof *v);
            if (!v) return false;
            if (t->n_blocks) memcpy(v, t->blocks, t->n_blocks * sizeof *v);
            t->blocks = v;
        }
        t->blocks[t->n_blocks++] = x;
    }
    return node_children(x, collect_blocks, c);
}

static bool add_self(scope *c, frame *f, const nodes *body, const char *name, uint32_t *slot)
{
    undeclared u = {.names = &name, .n = 1};
    const ident *id;
    *slot = UINT32_MAX;
    undeclared_in(&u, body);
    if (!u.found[0]) return true;
    if (!sym_param(c, f->s, literal_id(c, name))) return false;
    id = own_ref(f->s, literal_id(c, name));
    if (id) *slot = id->slot;
    return id != NULL;
}

static bool scope_body(scope *c, nodes *body, function *fn, uint32_t *self_slot, uint32_t *super_slot)
{
    frame f = {.toplevel = !super_slot, .rootlevel = !super_slot, .block_frame = super_slot != NULL};
    f.fn = fn_new(c, NULL);
    if (!f.fn || !(f.s = syms_new(c, NULL, f.fn))) return false;
    if (!add_self(c, &f, body, "self", self_slot)) return false;
    if (super_slot && !add_self(c, &f, body, "super", super_slot)) return false;
    if (!analyze(c, &f, body) || !gen_all(c, body, &f) || !frame_finish(c, &f, &fn->frame)) return false;
    fn->n_slots = (uint32_t)f.fn->n;
    return true;
}

bool scope_template(parse *p)
{
    scope c = {.p = p};
    mlxr_template *t = p->t;
    bool ok = true;

    for (size_t i = 0; ok && i < t->body.n; i++) ok = collect_blocks(&c, t->body.v[i]);
    ok = ok && scope_body(&c, &t->body, &t->root, &t->self_slot, NULL);
    for (size_t i = 0; ok && i < t->n_blocks; i++) {
        node *b = t->blocks[i];
        /* the slots of "self" and "super" are kept where a name's would be */
        uint32_t self_slot = 0, super_slot = 0;
        ok = scope_body(&c, &b->body, b->fn_info, &self_slot, &super_slot);
        b->ref.slot = self_slot;
        b->height = b->height > 0 ? b->height : 1;
        b->loop = NULL;
        b->macro = NULL;
        b->value = v_int(super_slot);
    }
    mlxr_strtab_clear(&c.names);
    free(c.name_of);
    mlxr_arena_clear(&c.tmp);
    if (!ok && p->status == MLXR_OK) parse_fail_status(p, MLXR_E_INTERNAL, "names could not be resolved");
    return ok;
}
