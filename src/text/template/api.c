/* The public calls: creating a template, rendering it. */
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

enum { MAX_SOURCE = 16 << 20 };

mlxr_template_limits mlxr_template_limits_default(void)
{
    return (mlxr_template_limits){
        .max_steps = 50000000,
        .max_output_bytes = (size_t)64 << 20,
        .max_memory_bytes = (size_t)512 << 20,
        .max_depth = 200,
    };
}

mlxr_status mlxr_template_create(mlxr_template **out, const char *source, size_t n_source, const char *name,
                                 mlxr_error *err)
{
    mlxr_template *t = calloc(1, sizeof *t);
    parse p = {.t = t, .err = err};
    mlxr_status st;

    *out = NULL;
    if (!t) return mlxr_fail_nomem(err, "template");
    t->name = mlxr_strdup(name ? name : "<template>");
    if (!t->name) {
        st = mlxr_fail_nomem(err, "template");
        goto done;
    }
    if (n_source > MAX_SOURCE) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "template %s: %zu bytes of source, at most %d are taken", t->name,
                       n_source, MAX_SOURCE);
        goto done;
    }
    if (mlxr_utf8_valid(source, n_source) != n_source) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "template %s: not valid UTF-8 at byte %zu", t->name,
                       mlxr_utf8_valid(source, n_source));
        goto done;
    }
    t->n_source = n_source;
    if (lex_source(&p, source, n_source) && parse_template(&p)) scope_template(&p);
    st = p.status;
    if (st == MLXR_OK) {
        *out = t;
        t = NULL;
    }
done:
    free(p.tokens);
    free((void *)p.tag_stack);
    free((void *)p.end_stack);
    mlxr_template_free(t);
    return st;
}

void mlxr_template_free(mlxr_template *t)
{
    if (!t) return;
    mlxr_arena_clear(&t->arena);
    free(t->name);
    free(t);
}

static const char *exc_name(exc_kind k)
{
    switch (k) {
    case EXC_TYPE: return "TypeError: ";
    case EXC_VALUE: return "ValueError: ";
    case EXC_KEY: return "KeyError: ";
    case EXC_INDEX: return "IndexError: ";
    case EXC_ATTRIBUTE: return "AttributeError: ";
    case EXC_OVERFLOW: return "OverflowError: ";
    case EXC_ZERO_DIVISION: return "ZeroDivisionError: ";
    case EXC_ASSERTION: return "AssertionError: ";
    case EXC_RUNTIME: return "TemplateRuntimeError: ";
    case EXC_UNDEFINED: return "UndefinedError: ";
    case EXC_SECURITY: return "SecurityError: ";
    case EXC_FILTER_ARG: return "FilterArgumentError: ";
    case EXC_NOT_FOUND: return "TemplatesNotFound: ";
    default: return "";
    }
}

static mlxr_status render_failed(const rt *r, mlxr_error *err)
{
    mlxr_status st;
    const char *text = r->exc.message ? r->exc.message : "out of memory";
    switch (r->exc.kind) {
    case EXC_NOMEM: return mlxr_fail_nomem(err, "template");
    case EXC_LIMIT: st = MLXR_E_LIMIT; break;
    case EXC_UNSUPPORTED: st = MLXR_E_UNSUPPORTED; break;
    default: st = MLXR_E_TEMPLATE; break;
    }
    return mlxr_fail(err, st, "template %s: %s%s", r->t ? r->t->name : "context", exc_name(r->exc.kind),
                     text);
}

/* The context's values; the status is err's when nothing was raised. */
static val context_values(rt *r, const render_input *in, mlxr_error *err)
{
    val v = in->json ? v_from_json(r, in->json) : v_from_json_text(r, in->text, in->n_text, err);
    const char *key;
    json_t *x;

    if (IS_ERR(v)) return v;
    if (v.type != T_DICT) {
        mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "template context: not a JSON object");
        return v_err();
    }
    json_object_foreach((json_t *)(uintptr_t)in->defaults, key, x)
    {
        val k = v_cstr(r, key), old, d;
        int found = IS_ERR(k) ? -1 : dict_get(r, v.d, k, &old);
        if (found < 0) return v_err();
        if (found) continue;
        d = v_from_json(r, x);
        if (IS_ERR(d) || !dict_put(r, v.d, k, d)) return v_err();
    }
    return v;
}

static bool has_tools(rt *r)
{
    val k = v_cstr(r, "tools"), v;
    return !IS_ERR(k) && dict_get(r, r->context_dict, k, &v) > 0 && v.type != T_NONE;
}

mlxr_status template_render(char **out_text, size_t *out_n, const render_input *in, int64_t now,
                            const mlxr_template_limits *limits, mlxr_error *err)
{
    rt r = {.t = in->t, .limits = limits ? *limits : mlxr_template_limits_default(), .now = now};
    mlxr_error own; /* the caller's may be NULL, and its code is needed here */
    mlxr_status st = MLXR_OK;
    ctx root = {0};
    sb out = {.heap = true};
    val v;
    env *e;

    *out_text = NULL;
    *out_n = 0;
    if (!err) err = &own;
    r.out = &out;
    r.random = (uint64_t)now * 0x9e3779b97f4a7c15u + 1;
    v = context_values(&r, in, err);
    if (IS_ERR(v)) {
        st = r.exc.kind == EXC_NONE ? err->code : render_failed(&r, err);
        goto done;
    }
    r.context_dict = v.d;
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): without a template there is a choose, see render_input */
    if (!r.t && !(r.t = in->choose(in->ud, has_tools(&r), err))) {
        st = err->code;
        goto done;
    }
    e = env_new(&r, &r.t->root, NULL, &root);
    if (!e) goto failed;
    if (r.t->self_slot != UINT32_MAX) {
        val self = {.type = T_SELF};
        self.ctx = &root;
        e->slots[r.t->self_slot] = self;
    }
    frame_enter(&r, &r.t->root.frame, e);
    if (exec_body(&r, &r.t->body, e) != FLOW_NEXT || out.failed) goto failed;
    sb_char(&r, &out, '\0');
    if (out.failed) goto failed;
    out.n--;
    *out_text = out.p;
    out.p = NULL;
    *out_n = out.n;
    goto done;
failed:
    st = render_failed(&r, err);
done:
    free(out.p);
    mlxr_arena_clear(&r.arena);
    return st;
}

mlxr_status mlxr_template_render(char **out_text, size_t *out_n, const mlxr_template *t,
                                 const char *context_json, size_t n_context, int64_t now,
                                 const mlxr_template_limits *limits, mlxr_error *err)
{
    render_input in = {.t = t, .text = context_json, .n_text = n_context};
    return template_render(out_text, out_n, &in, now, limits, err);
}
