/* Statements: output, branches, loops, scopes, macros, blocks. */
#include "text/template/template.h"

static flow exec(rt *r, const node *x, env *e);

env *env_new(rt *r, const function *fn, env *parent, ctx *c)
{
    env *e = rt_alloc(r, sizeof *e + fn->n_slots * sizeof(val));
    if (!e) return NULL;
    e->slots = (val *)(void *)(e + 1);
    memset(e->slots, 0, fn->n_slots * sizeof(val)); /* T_MISSING is 0 */
    e->parent = parent;
    e->ctx = c;
    return e;
}

val ctx_resolve(rt *r, ctx *c, str *name)
{
    val *p;
    for (; c; c = c->parent) {
        if (c->vars && (p = dict_get_str(c->vars, name)) != NULL) return *p;
        if (c->locals && (p = dict_get_str(c->locals, name)) != NULL) return *p;
    }
    p = dict_get_str(r->context_dict, name);
    return p ? *p : global_find(name);
}

void frame_enter(rt *r, const frame_info *f, env *e)
{
    for (size_t i = 0; i < f->n; i++) {
        const load_op *op = &f->ops[i];
        switch (op->action) {
        case LOAD_PARAM: break;
        case LOAD_RESOLVE: e->slots[op->slot] = ctx_resolve(r, e->ctx, op->name); break;
        case LOAD_ALIAS: e->slots[op->slot] = *slot_of(e, op->src); break;
        case LOAD_UNDEFINED: e->slots[op->slot] = v_missing(); break;
        }
    }
}

void frame_leave(const frame_info *f, env *e)
{
    for (size_t i = 0; i < f->n; i++) e->slots[f->ops[i].slot] = v_missing();
}

/* ---- assignment ---- */

static bool check_namespaces(rt *r, const node *target, env *e)
{
    if (target->kind == N_NSREF && slot_of(e, target->ref)->type != T_NAMESPACE) {
        raise(r, EXC_RUNTIME, "cannot assign attribute on non-namespace object");
        return false;
    }
    for (size_t i = 0; i < target->items.n; i++)
        if (!check_namespaces(r, target->items.v[i], e)) return false;
    return true;
}

static bool assign_attr(rt *r, const node *target, env *e, val v)
{
    val obj = *slot_of(e, target->ref);
    if (obj.type == T_DICT) return dict_put(r, obj.d, v_of_str(target->attr), v); /* set blocks only */
    if (obj.type != T_NAMESPACE) {
        raise(r, EXC_TYPE, "'%s' object does not support item assignment", type_name(obj));
        return false;
    }
    if (target->attr->s[0] == '_') {
        raise(r, EXC_SECURITY,
              "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.*s'. "
              "Please rename the attribute.",
              (int)(target->attr->n < 100 ? target->attr->n : 100), target->attr->s);
        return false;
    }
    return dict_put(r, obj.d, v_of_str(target->attr), v);
}

bool assign(rt *r, const node *target, env *e, val v)
{
    list *l;
    size_t n = target->items.n;
    if (IS_ERR(v)) return false;
    if (target->kind == N_NAME) {
        *slot_of(e, target->ref) = v;
        return true;
    }
    if (target->kind == N_NSREF) return assign_attr(r, target, e, v);
    if (v.type == T_LIST || v.type == T_TUPLE) {
        l = v.l;
    } else {
        iter it;
        val x;
        int c = 0;
        if (!is_iterable(v)) {
            raise(r, EXC_TYPE, "cannot unpack non-iterable %s object", type_name(v));
            return false;
        }
        l = list_new(r, n + 1);
        if (!l || !iter_init(r, &it, v)) return false;
        while (l->n <= n && (c = iter_next(r, &it, &x)) > 0)
            if (!list_add(r, l, x)) return false;
        if (c < 0) return false;
    }
    if (l->n > n) {
        raise(r, EXC_VALUE, "too many values to unpack (expected %zu)", n);
        return false;
    }
    if (l->n < n) {
        raise(r, EXC_VALUE, "not enough values to unpack (expected %zu, got %zu)", n, l->n);
        return false;
    }
    for (size_t i = 0; i < n; i++)
        if (!assign(r, target->items.v[i], e, l->v[i])) return false;
    return true;
}

static bool export_names(rt *r, const node *target, env *e)
{
    if (target->kind == N_NAME) {
        val v = *slot_of(e, target->ref);
        if (!e->ctx->vars && !(e->ctx->vars = dict_new(r, 8))) return false;
        return dict_put(r, e->ctx->vars, v_of_str(target->name), v);
    }
    for (size_t i = 0; i < target->items.n; i++)
        if (!export_names(r, target->items.v[i], e)) return false;
    return true;
}

/* ---- capturing ---- */

/* Runs body with its output going to a text of its own. */
static flow capture(rt *r, const nodes *body, env *e, val *text)
{
    sb b = {0}, *outer = r->out;
    flow f;
    r->out = &b;
    f = exec_body(r, body, e);
    r->out = outer;
    if (f != FLOW_NEXT) return f;
    *text = sb_val(r, &b);
    return IS_ERR(*text) ? FLOW_ERROR : FLOW_NEXT;
}

static bool escape_now(const rt *r, uint8_t escape)
{
    return escape == ESC_ON || (escape == ESC_VOLATILE && r->autoescape);
}

/* A call's or a filter's result as output: it has to be text. */
static flow out_string(rt *r, val v)
{
    if (IS_ERR(v)) return FLOW_ERROR;
    if (v.type != T_STR) {
        raise(r, EXC_TYPE, "sequence item 0: expected str instance, %s found", type_name(v));
        return FLOW_ERROR;
    }
    return out_add(r, v.s->s, v.s->n) ? FLOW_NEXT : FLOW_ERROR;
}

static bool out_value(rt *r, val v)
{
    if (v.type == T_STR) return out_add(r, v.s->s, v.s->n);
    return !IS_ERR(v) && write_str(r, r->out, v) && out_add(r, "", 0);
}

enum { MAX_SUMMANDS = 16 };

/* Writes a + b + c piece by piece as long as all are strings: most output of chat templates is such a sum, and
 * joining it first would copy every message. */
static bool out_sum(rt *r, const node *x, env *e)
{
    const node *right[MAX_SUMMANDS];
    val parts[MAX_SUMMANDS + 1];
    size_t n = 0, k = 1;

    while (x->kind == N_ADD && n < MAX_SUMMANDS) {
        right[n++] = x->b;
        x = x->a;
    }
    parts[0] = eval(r, x, e);
    if (IS_ERR(parts[0])) return false;
    while (n > 0) {
        val v = eval(r, right[--n], e), left = parts[0];
        if (IS_ERR(v)) return false;
        parts[k] = v;
        if (v.type == T_STR && !is_markup(v) && left.type == T_STR && !is_markup(left)) {
            k++;
            continue;
        }
        for (size_t i = 1; i < k; i++) left = arith(r, N_ADD, left, parts[i]);
        parts[0] = arith(r, N_ADD, left, v);
        if (IS_ERR(parts[0])) return false;
        k = 1;
    }
    for (size_t i = 0; i < k; i++)
        if (!out_value(r, parts[i])) return false;
    return true;
}

static bool out_expr(rt *r, const node *y, env *e)
{
    val v;
    if (y->escape == ESC_OFF && y->kind == N_ADD) return out_sum(r, y, e);
    if (y->escape == ESC_OFF && y->kind == N_CONCAT) {
        val parts[MAX_SUMMANDS];
        if (y->items.n <= MAX_SUMMANDS) {
            /* all are evaluated before any is written: the output may not hold half of it */
            for (size_t i = 0; i < y->items.n; i++) {
                parts[i] = eval(r, y->items.v[i], e);
                if (IS_ERR(parts[i])) return false;
            }
            for (size_t i = 0; i < y->items.n; i++)
                if (!out_value(r, parts[i])) return false;
            return true;
        }
    }
    v = eval(r, y, e);
    if (IS_ERR(v)) return false;
    if (escape_now(r, y->escape)) v = escape_html(r, v);
    return out_value(r, v);
}

static flow exec_output(rt *r, const node *x, env *e)
{
    for (size_t i = 0; i < x->items.n; i++) {
        const node *y = x->items.v[i];
        bool ok;
        if (y->kind == N_DATA)
            ok = out_add(r, y->value.s->s, y->value.s->n);
        else if (r->nest >= MAX_NEST)
            ok = !IS_ERR(raise(r, EXC_LIMIT, "evaluation is nested more than %d deep", MAX_NEST));
        else
            ok = out_expr(r, y, e);
        if (!ok) return FLOW_ERROR;
    }
    return FLOW_NEXT;
}

/* ---- loops ---- */

static val target_value(rt *r, const node *target, env *e)
{
    list *l;
    if (target->kind == N_NAME) return *slot_of(e, target->ref);
    l = list_new(r, target->items.n);
    if (!l) return v_err();
    for (size_t i = 0; i < target->items.n; i++) list_add(r, l, target_value(r, target->items.v[i], e));
    return v_of_tuple(l);
}

typedef struct filter_state {
    const node *node;
    env *e;
    bool entered;
} filter_state;

static int next_filtered(rt *r, iter *it, val *out)
{
    filter_state *s = it->state;
    const for_info *l = s->node->loop;
    int c;
    if (!s->entered) {
        s->entered = true;
        frame_enter(r, &l->test_fn.frame, s->e);
        it->in = rt_alloc(r, sizeof *it->in);
        if (!it->in || !iter_init(r, it->in, it->src)) return -1;
    }
    for (;;) {
        val v;
        bool yes;
        c = iter_next(r, it->in, &v);
        if (c <= 0) return c;
        if (!step(r, 1) || !assign(r, l->test_target, s->e, v)) return -1;
        if (!truthy(r, eval(r, l->test, s->e), &yes)) return -1;
        if (!yes) continue;
        *out = target_value(r, l->test_target, s->e);
        return IS_ERR(*out) ? -1 : 1;
    }
}

/* The iterations; e: where the body's slots are; outer: where the filter's closure starts. */
static flow run_loop(rt *r, const node *x, val iterable, env *e, env *outer, int64_t depth0)
{
    const for_info *l = x->loop;
    iter plain, *it = &plain;
    loop *lp = NULL;
    bool none = true;
    flow f = FLOW_NEXT;
    val item;
    int c;

    if (l->test) {
        filter_state *s = rt_alloc(r, sizeof *s);
        val v = iter_make(r, next_filtered, "generator");
        if (!s || IS_ERR(v)) return FLOW_ERROR;
        *s = (filter_state){.node = x, .e = env_new(r, &l->test_fn, outer, outer->ctx)};
        if (!s->e) return FLOW_ERROR;
        v.it->src = iterable;
        v.it->state = s;
        iterable = v;
    }
    if (x->flag2) {
        val self = {.type = T_LOOP};
        lp = rt_alloc(r, sizeof *lp);
        if (!lp) return FLOW_ERROR;
        *lp = (loop){.iterable = iterable, .index0 = -1, .length = -1, .depth0 = depth0, .parent = outer};
        if (x->flag) lp->node = x;
        if (!iter_init(r, &lp->it, iterable)) return FLOW_ERROR;
        self.loop = lp;
        *slot_of(e, l->loop_ref) = v_missing();
        while ((c = loop_next(r, lp, &item)) > 0) {
            if (!step(r, 1) || !assign(r, l->target, e, item)) return FLOW_ERROR;
            *slot_of(e, l->loop_ref) = self;
            frame_enter(r, &l->body_frame, e);
            f = exec_body(r, &x->body, e);
            if (f == FLOW_ERROR || f == FLOW_BREAK) break;
            if (f == FLOW_NEXT) none = false;
        }
    } else {
        if (!iter_init(r, it, iterable)) return FLOW_ERROR;
        while ((c = iter_next(r, it, &item)) > 0) {
            if (!step(r, 1) || !assign(r, l->target, e, item)) return FLOW_ERROR;
            frame_enter(r, &l->body_frame, e);
            f = exec_body(r, &x->body, e);
            if (f == FLOW_ERROR || f == FLOW_BREAK) break;
            if (f == FLOW_NEXT) none = false;
        }
    }
    if (c < 0 || f == FLOW_ERROR) return FLOW_ERROR;
    frame_leave(&l->body_frame, e);
    /* As in the reference, an iteration that was broken or continued does not count for "else". */
    if (none && x->orelse.n) {
        frame_enter(r, &l->else_frame, e);
        f = exec_body(r, &x->orelse, e);
        if (f != FLOW_NEXT) return f;
        frame_leave(&l->else_frame, e);
    }
    return FLOW_NEXT;
}

static val run_recursive(rt *r, const node *x, val iterable, env *outer, int64_t depth0)
{
    sb b = {0}, *out = r->out;
    env *e;
    flow f;
    val v;
    if (r->depth >= r->limits.max_depth)
        return raise(r, EXC_LIMIT, "calls are nested more than %u deep", r->limits.max_depth);
    e = env_new(r, &x->loop->body_fn, outer, outer->ctx);
    if (!e) return v_err();
    r->depth++;
    r->out = &b;
    f = run_loop(r, x, iterable, e, outer, depth0);
    r->out = out;
    r->depth--;
    if (f != FLOW_NEXT) return v_err();
    v = sb_val(r, &b);
    return escape_now(r, x->escape) ? v_markup(v) : v;
}

val loop_recurse(rt *r, loop *l, val iterable)
{
    if (!l->node)
        return raise(r, EXC_TYPE, "The loop must have the 'recursive' marker to be called recursively.");
    return run_recursive(r, l->node, iterable, l->parent, l->depth0 + 1);
}

static flow exec_for(rt *r, const node *x, env *e)
{
    val iterable = eval(r, x->loop->iter, e);
    if (IS_ERR(iterable)) return FLOW_ERROR;
    if (x->flag) return out_string(r, run_recursive(r, x, iterable, e, 0));
    return run_loop(r, x, iterable, e, e, 0);
}

/* ---- macros ---- */

static val macro_new(rt *r, const node *x, env *e)
{
    val v = {.type = T_MACRO};
    v.macro = rt_alloc(r, sizeof *v.macro);
    if (!v.macro) return v_err();
    *v.macro = (macro){.info = x->macro, .name = x->kind == N_MACRO ? x->name : NULL, .node = x, .parent = e};
    return v;
}

static const char *macro_label(rt *r, const macro *m)
{
    sb b = {0};
    val v;
    if (!m->name) return "None";
    write_str_repr(r, &b, m->name);
    sb_char(r, &b, '\0');
    v = sb_val(r, &b);
    return IS_ERR(v) ? "?" : v.s->s;
}

/* Arguments to the slots of the macro's function. */
static bool macro_bind(rt *r, macro *m, const args *a, env *e)
{
    const macro_info *in = m->info;
    bool found_caller = in->explicit_caller, *used;
    size_t left = a->n_kw, off = a->n < in->args.n ? a->n : in->args.n;
    dict *kwargs = NULL;

    used = rt_alloc(r, a->n_kw + 1);
    if (!used) return false;
    memset(used, 0, a->n_kw + 1);
    for (size_t i = 0; i < in->args.n; i++) {
        val v = v_missing();
        if (i < off) {
            v = a->pos[i];
        } else {
            for (size_t k = 0; k < a->n_kw; k++)
                if (!used[k] && str_eq(a->kw_name[k], in->args.v[i]->name)) {
                    v = a->kw[k];
                    used[k] = true;
                    left--;
                    break;
                }
        }
        *slot_of(e, in->arg_refs[i]) = v;
    }
    if (in->caller && !found_caller) {
        val v = v_missing();
        for (size_t k = 0; k < a->n_kw; k++)
            if (!used[k] && str_is(a->kw_name[k], "caller")) {
                v = a->kw[k];
                used[k] = true;
                left--;
                break;
            }
        if (v.type == T_MISSING || v.type == T_NONE) v = v_undef_hint(r, "No caller defined");
        if (IS_ERR(v)) return false;
        if (in->caller_slot != UINT32_MAX) e->slots[in->caller_slot] = v;
    }
    if (in->kwargs) {
        if (!(kwargs = dict_new(r, left))) return false;
        for (size_t k = 0; k < a->n_kw; k++)
            if (!used[k] && !dict_put(r, kwargs, v_of_str(a->kw_name[k]), a->kw[k])) return false;
        e->slots[in->kwargs_slot] = v_of_dict(kwargs);
    } else if (left) {
        const str *first = NULL;
        for (size_t k = 0; k < a->n_kw; k++) {
            if (used[k]) continue;
            if (!first) first = a->kw_name[k];
            if (!str_is(a->kw_name[k], "caller")) continue;
            raise(r, EXC_TYPE,
                  "macro %s was invoked with two values for the special caller argument. This is most likely "
                  "a bug.",
                  macro_label(r, m));
            return false;
        }
        raise(r, EXC_TYPE, "macro %s takes no keyword argument '%.*s'", macro_label(r, m),
              first && first->n < 100 ? (int)first->n : 100, first ? first->s : "");
        return false;
    }
    if (in->varargs) {
        list *l = list_new(r, a->n - off);
        if (!l) return false;
        for (size_t i = off; i < a->n; i++) list_add(r, l, a->pos[i]);
        e->slots[in->varargs_slot] = v_of_tuple(l);
    } else if (a->n > in->args.n) {
        raise(r, EXC_TYPE, "macro %s takes not more than %zu argument(s)", macro_label(r, m), in->args.n);
        return false;
    }
    return true;
}

val macro_call(rt *r, macro *m, const args *a)
{
    const macro_info *in = m->info;
    env *e;
    val text = v_err();
    flow f;

    if (r->depth >= r->limits.max_depth)
        return raise(r, EXC_LIMIT, "calls are nested more than %u deep", r->limits.max_depth);
    e = env_new(r, &in->fn, m->parent, m->parent->ctx);
    if (!e || !macro_bind(r, m, a, e)) return v_err();
    r->depth++;
    frame_enter(r, &in->fn.frame, e);
    for (size_t i = 0; i < in->args.n; i++) {
        val *slot = slot_of(e, in->arg_refs[i]);
        size_t first = in->args.n - in->defaults.n;
        str *name = in->args.v[i]->name;
        if (slot->type != T_MISSING) continue;
        if (i >= first) {
            *slot = eval(r, in->defaults.v[i - first], e);
        } else {
            *slot = v_undef_hint(r, "parameter '%.*s' was not provided", (int)(name->n < 200 ? name->n : 200),
                                 name->s);
        }
        if (IS_ERR(*slot)) {
            r->depth--;
            return v_err();
        }
    }
    f = capture(r, &m->node->body, e, &text);
    r->depth--;
    if (f != FLOW_NEXT) return v_err();
    return r->autoescape ? v_markup(text) : text;
}

static flow exec_call_block(rt *r, const node *x, env *e)
{
    val caller = macro_new(r, x, e), callee;
    args a = {0};
    str *name;

    if (IS_ERR(caller)) return FLOW_ERROR;
    if (!x->a) return out_string(r, macro_call(r, caller.macro, &a)); /* generation */
    callee = eval(r, x->a->a, e);
    if (IS_ERR(callee) || !eval_args(r, x->a->call, e, &a)) return FLOW_ERROR;
    {
        args b = a;
        val key = v_cstr(r, "caller");
        b.kw = rt_alloc_array(r, a.n_kw + 1, sizeof *b.kw);
        b.kw_name = rt_alloc_array(r, a.n_kw + 1, sizeof *b.kw_name);
        if (IS_ERR(key) || !b.kw || !b.kw_name) return FLOW_ERROR;
        name = key.s;
        for (size_t i = 0; i < a.n_kw; i++) {
            if (str_eq(a.kw_name[i], name)) {
                raise(r, EXC_TYPE, "got multiple values for keyword argument 'caller'");
                return FLOW_ERROR;
            }
            b.kw[i] = a.kw[i];
            b.kw_name[i] = a.kw_name[i];
        }
        b.kw[a.n_kw] = caller;
        b.kw_name[a.n_kw] = name;
        b.n_kw = a.n_kw + 1;
        return out_string(r, call_value(r, callee, &b));
    }
}

/* ---- blocks, scopes, the rest ---- */

static flow run_block(rt *r, const node *x, ctx *c)
{
    env *e;
    flow f;
    if (r->depth >= r->limits.max_depth) {
        raise(r, EXC_LIMIT, "calls are nested more than %u deep", r->limits.max_depth);
        return FLOW_ERROR;
    }
    e = env_new(r, x->fn_info, NULL, c);
    if (!e) return FLOW_ERROR;
    if (x->ref.slot != UINT32_MAX) {
        val self = {.type = T_SELF};
        self.ctx = c;
        e->slots[x->ref.slot] = self;
    }
    if (x->value.i != UINT32_MAX) {
        val super = v_undef_hint(r, "there is no parent block called '%.*s'.",
                                 (int)(x->name->n < 200 ? x->name->n : 200), x->name->s);
        if (IS_ERR(super)) return FLOW_ERROR;
        e->slots[x->value.i] = super;
    }
    r->depth++;
    frame_enter(r, &x->fn_info->frame, e);
    f = exec_body(r, &x->body, e);
    r->depth--;
    return f;
}

val block_call(rt *r, const node *block, ctx *c)
{
    sb b = {0}, *out = r->out;
    flow f;
    val v;
    r->out = &b;
    f = run_block(r, block, c);
    r->out = out;
    if (f != FLOW_NEXT) return v_err();
    v = sb_val(r, &b);
    return r->autoescape ? v_markup(v) : v;
}

static flow exec_block(rt *r, const node *x, env *e)
{
    ctx *c = e->ctx;
    if (x->flag) {
        ctx *inner = rt_alloc(r, sizeof *inner);
        if (!inner) return FLOW_ERROR;
        *inner = (ctx){.locals = dict_new(r, x->frame2.n), .parent = c};
        if (!inner->locals) return FLOW_ERROR;
        for (size_t i = x->frame2.n; i-- > 0;) { /* the innermost scope's names come first and stay */
            val v = *slot_of(e, x->frame2.ops[i].src);
            if (v.type == T_MISSING) continue;
            if (!dict_put(r, inner->locals, v_of_str(x->frame2.ops[i].name), v)) return FLOW_ERROR;
        }
        c = inner;
    }
    if (x->flag2) {
        raise(r, EXC_RUNTIME, "Required block '%.*s' not found", (int)(x->name->n < 200 ? x->name->n : 200),
              x->name->s);
        return FLOW_ERROR;
    }
    return run_block(r, x, c);
}

static flow exec_load(rt *r, const node *x, env *e)
{
    val v = eval(r, x->a, e);
    bool yes;
    if (IS_ERR(v)) return FLOW_ERROR;
    if (x->kind == N_INCLUDE && v.type != T_STR && v.type != T_UNDEF) {
        if (!truthy(r, v, &yes)) return FLOW_ERROR;
        if (!yes) {
            if (x->flag) return FLOW_NEXT;
            raise(r, EXC_NOT_FOUND, "Tried to select from an empty list of templates.");
            return FLOW_ERROR;
        }
    }
    raise(r, EXC_TYPE, "no loader for this environment specified");
    return FLOW_ERROR;
}

static flow exec_autoescape(rt *r, const node *x, env *e)
{
    bool old = r->autoescape, on;
    flow f;
    frame_enter(r, &x->frame, e);
    if (!truthy(r, eval(r, x->a, e), &on)) return FLOW_ERROR;
    r->autoescape = on;
    f = exec_body(r, &x->body, e);
    if (f != FLOW_NEXT) return f; /* a loop left in here keeps the setting, as the reference does */
    r->autoescape = old;
    frame_leave(&x->frame, e);
    return f;
}

static flow exec_scope(rt *r, const node *x, env *e)
{
    flow f;
    val text;
    frame_enter(r, &x->frame, e);
    switch ((node_kind)x->kind) {
    case N_WITH:
        for (size_t i = 0; i < x->items.n; i++)
            if (!assign(r, x->items.v[i], e, eval(r, x->orelse.v[i], e))) return FLOW_ERROR;
        f = exec_body(r, &x->body, e);
        break;
    case N_FILTERBLOCK:
        f = capture(r, &x->body, e, &text);
        if (f != FLOW_NEXT) return f;
        if (escape_now(r, x->escape)) text = v_markup(text);
        f = out_string(r, eval_filter_on(r, x->a, text, e));
        break;
    default: /* N_SETBLOCK */
        f = capture(r, &x->body, e, &text);
        if (f != FLOW_NEXT) return f;
        if (x->b) {
            if (escape_now(r, x->escape)) text = v_markup(text);
            text = eval_filter_on(r, x->b, text, e);
        }
        if (!IS_ERR(text) && r->autoescape) text = v_markup(soft_str(r, text));
        if (!assign(r, x->a, e, text)) return FLOW_ERROR;
        if (x->toplevel && r->t->n_blocks && !export_names(r, x->a, e)) return FLOW_ERROR;
        break;
    }
    if (f == FLOW_NEXT) frame_leave(&x->frame, e);
    return f;
}

static flow exec_if(rt *r, const node *x, env *e)
{
    bool yes;
    if (!truthy(r, eval(r, x->a, e), &yes)) return FLOW_ERROR;
    if (yes) return exec_body(r, &x->body, e);
    for (size_t i = 0; i < x->items.n; i++) {
        const node *y = x->items.v[i];
        if (!truthy(r, eval(r, y->a, e), &yes)) return FLOW_ERROR;
        if (yes) return exec_body(r, &y->body, e);
    }
    return exec_body(r, &x->orelse, e);
}

static flow exec_node(rt *r, const node *x, env *e)
{
    val v;
    switch ((node_kind)x->kind) {
    case N_OUTPUT: return exec_output(r, x, e);
    case N_IF: return exec_if(r, x, e);
    case N_FOR: return exec_for(r, x, e);
    case N_SET:
        if (!check_namespaces(r, x->a, e) || !assign(r, x->a, e, eval(r, x->b, e))) return FLOW_ERROR;
        if (x->toplevel && r->t->n_blocks && !export_names(r, x->a, e)) return FLOW_ERROR;
        return FLOW_NEXT;
    case N_SETBLOCK:
    case N_FILTERBLOCK:
    case N_WITH: return exec_scope(r, x, e);
    case N_MACRO:
        v = macro_new(r, x, e);
        if (IS_ERR(v)) return FLOW_ERROR;
        *slot_of(e, x->ref) = v;
        if (x->toplevel && r->t->n_blocks) {
            if (!e->ctx->vars && !(e->ctx->vars = dict_new(r, 8))) return FLOW_ERROR;
            if (!dict_put(r, e->ctx->vars, v_of_str(x->name), v)) return FLOW_ERROR;
        }
        return FLOW_NEXT;
    case N_CALLBLOCK: return exec_call_block(r, x, e);
    case N_BLOCK: return exec_block(r, x, e);
    case N_AUTOESCAPE: return exec_autoescape(r, x, e);
    case N_EXTENDS:
    case N_INCLUDE:
    case N_IMPORT:
    case N_FROMIMPORT: return exec_load(r, x, e);
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: raise(r, EXC_RUNTIME, "not a statement"); return FLOW_ERROR;
    }
}

static flow exec(rt *r, const node *x, env *e)
{
    flow f;
    if (!step(r, 1)) return FLOW_ERROR;
    if (r->nest >= MAX_NEST) {
        raise(r, EXC_LIMIT, "evaluation is nested more than %d deep", MAX_NEST);
        return FLOW_ERROR;
    }
    r->nest++;
    f = exec_node(r, x, e);
    r->nest--;
    return f;
}

flow exec_body(rt *r, const nodes *body, env *e)
{
    for (size_t i = 0; i < body->n; i++) {
        flow f = exec(r, body->v[i], e);
        if (f != FLOW_NEXT) return f;
    }
    return FLOW_NEXT;
}
