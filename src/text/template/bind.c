/* Calls: arguments to parameters, and who can be called. */
#include "text/template/template.h"

static val unexpected(rt *r, const builtin *fn, const str *name)
{
    return raise(r, EXC_TYPE, "%s() got an unexpected keyword argument '%.*s'", fn->name,
                 (int)(name->n < 100 ? name->n : 100), name->s);
}

/* What a call may cost beyond its own step: most functions read their strings and lists once. */
static bool charge(rt *r, val v)
{
    if (v.type == T_STR) return v.s->n < 256 || step(r, v.s->n >> 8);
    if (v.type == T_LIST || v.type == T_TUPLE) return v.l->n < 16 || step(r, v.l->n >> 4);
    return true;
}

val call_builtin(rt *r, const builtin *fn, val self, const args *a)
{
    val bound[MAX_PARAMS];

    if (!charge(r, self)) return v_err();
    for (size_t i = 0; i < a->n; i++)
        if (!charge(r, a->pos[i])) return v_err();
    if (fn->flags & BIND_VARARGS) return fn->fn(r, self, NULL, a);
    if (a->n > fn->n_params)
        return raise(r, EXC_TYPE, "%s() takes at most %d argument(s) (%zu given)", fn->name, fn->n_params,
                     a->n);
    if ((fn->flags & BIND_POSONLY) && a->n_kw)
        return raise(r, EXC_TYPE, "%s() takes no keyword arguments", fn->name);
    for (size_t i = 0; i < fn->n_params; i++) bound[i] = i < a->n ? a->pos[i] : v_missing();
    for (size_t k = 0; k < a->n_kw; k++) {
        size_t i = 0;
        while (i < fn->n_params && !str_is(a->kw_name[k], fn->params[i])) i++;
        if (i == fn->n_params) return unexpected(r, fn, a->kw_name[k]);
        if (bound[i].type != T_MISSING)
            return raise(r, EXC_TYPE, "%s() got multiple values for argument '%s'", fn->name, fn->params[i]);
        bound[i] = a->kw[k];
    }
    for (size_t i = 0; i < fn->n_required; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): n_required <= n_params */
        if (bound[i].type == T_MISSING)
            return raise(r, EXC_TYPE, "%s() missing required argument: '%s'", fn->name,
                         fn->params[i] ? fn->params[i] : "?");
    return fn->fn(r, self, bound, a);
}

bool is_callable(val v)
{
    switch ((vtype)v.type) {
    case T_FUNC:
    case T_METHOD:
    case T_MACRO:
    case T_LOOP:
    case T_JOINER:
    case T_BLOCKREF:
    case T_UNDEF: return true; /* Undefined has __call__, which raises */
    default: return false;
    }
}

val call_value(rt *r, val callee, const args *a)
{
    switch ((vtype)callee.type) {
    case T_FUNC: return call_builtin(r, callee.fn, v_missing(), a);
    case T_METHOD: return call_builtin(r, callee.m->fn, callee.m->self, a);
    case T_MACRO: return macro_call(r, callee.macro, a);
    case T_LOOP:
        if (a->n != 1 || a->n_kw) {
            if (a->n == 0 && a->n_kw == 1 && str_is(a->kw_name[0], "iterable"))
                return loop_recurse(r, callee.loop, a->kw[0]);
            return raise(r, EXC_TYPE,
                         "LoopContext.__call__() takes 2 positional arguments but %zu were given", a->n + 1);
        }
        return loop_recurse(r, callee.loop, a->pos[0]);
    case T_JOINER:
        if (a->n || a->n_kw) return raise(r, EXC_TYPE, "Joiner.__call__() takes 1 positional argument");
        if (callee.jo->used) return callee.jo->sep;
        callee.jo->used = true;
        return v_cstr(r, "");
    case T_BLOCKREF:
        if (a->n || a->n_kw)
            return raise(r, EXC_TYPE, "BlockReference.__call__() takes 1 positional argument");
        return block_call(r, callee.br->block, callee.br->ctx);
    case T_UNDEF: return raise_undef(r, callee.u);
    case T_ERROR: return callee;
    default: return raise(r, EXC_TYPE, "'%s' object is not callable", type_name(callee));
    }
}
