/* tool_list: see tool_list.h. The form is that of OpenAI's "tools". */
#include "engine/grammar/tool_list.h"

static const char *type_name(const mlxr_value *v)
{
    static const char *const names[] = {"null",     "false",  "true",     "a number",
                                        "a string", "a list", "an object"};
    return v ? names[v->type] : "nothing";
}

static bool is_text(const mlxr_value *v, const char *text)
{
    return v && v->type == MLXR_VALUE_STRING && v->n_text == strlen(text) &&
           !memcmp(v->text, text, v->n_text);
}

/* A copy of an object in which the member `name` is `value`. */
static const mlxr_value *with_member(mlxr_arena *a, const mlxr_value *v, const char *name,
                                     const mlxr_value *value)
{
    mlxr_value *r = mlxr_arena_calloc(a, 1, sizeof *r);
    const mlxr_value **items = mlxr_arena_calloc(a, v->n + 1, sizeof(*items));
    struct mlxr_value_name *names = mlxr_arena_calloc(a, v->n + 1, sizeof *names);
    size_t i, n_name = strlen(name);
    bool found = false;

    if (!r || !items || !names) return NULL;
    for (i = 0; i < v->n; i++) {
        bool same = v->names[i].n_text == n_name && !memcmp(v->names[i].text, name, n_name);
        names[i] = v->names[i];
        items[i] = same ? value : v->items[i];
        found = found || same;
    }
    if (!found) {
        names[i].text = name;
        names[i].n_text = n_name;
        items[i++] = value;
    }
    r->type = MLXR_VALUE_OBJECT;
    r->line = v->line;
    r->items = items;
    r->names = names;
    r->n = i;
    return r;
}

/* Arguments are objects: a schema that leaves the type open is closed here, so that whoever writes them need not ask again. */
static mlxr_status read_parameters(mlxr_tool *t, mlxr_tool_list *l, const mlxr_value *v, mlxr_error *err)
{
    static const mlxr_value object_type = {.type = MLXR_VALUE_STRING, .text = "object", .n_text = 6};
    const mlxr_value *type;
    size_t i;

    t->parameters = NULL;
    if (!v || v->type == MLXR_VALUE_NULL || v->type == MLXR_VALUE_TRUE) return MLXR_OK;
    if (v->type != MLXR_VALUE_OBJECT)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: found %s, wanted a JSON Schema", t->label, type_name(v));
    if (v->n == 0) return MLXR_OK;
    type = mlxr_value_get(v, "type");
    if (is_text(type, "object")) {
        t->parameters = v;
        return MLXR_OK;
    }
    if (type && type->type == MLXR_VALUE_ARRAY) {
        for (i = 0; i < type->n && !is_text(type->items[i], "object"); i++) {
        }
        if (i == type->n)
            return mlxr_fail(err, MLXR_E_FORMAT,
                             "%s#/type: arguments are objects, and this list has no \"object\"", t->label);
    } else if (type) {
        return mlxr_fail(err, MLXR_E_FORMAT, "%s#/type: arguments are objects, so \"object\" was wanted",
                         t->label);
    }
    t->parameters = with_member(&l->arena, v, "type", &object_type);
    return t->parameters ? MLXR_OK : mlxr_fail_nomem(err, t->label);
}

static bool same_parameters(const mlxr_tool *a, const mlxr_tool *b)
{
    if (!a->parameters || !b->parameters) return a->parameters == b->parameters;
    return mlxr_value_equal(a->parameters, b->parameters);
}

static mlxr_status read_tool(mlxr_tool *t, mlxr_tool_list *l, const mlxr_value *v, size_t i, mlxr_error *err)
{
    const mlxr_value *inner, *name, *type;
    const char *where = "";

    if (v->type != MLXR_VALUE_OBJECT)
        return mlxr_fail(err, MLXR_E_FORMAT, "tools[%zu]: found %s, wanted an object", i, type_name(v));
    inner = mlxr_value_get(v, "function");
    type = mlxr_value_get(v, "type");
    /* Some send the inner object with the "type" of the outer one. A schema's "type" would not stand here. */
    if (type && type->type != MLXR_VALUE_NULL && !is_text(type, "function"))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "tools[%zu].type: found %s%s%s, wanted \"function\"", i,
                         type->type == MLXR_VALUE_STRING ? "\"" : "",
                         type->type == MLXR_VALUE_STRING ? type->text : type_name(type),
                         type->type == MLXR_VALUE_STRING ? "\"" : "");
    if (inner) {
        where = ".function";
        if (inner->type != MLXR_VALUE_OBJECT)
            return mlxr_fail(err, MLXR_E_FORMAT, "tools[%zu].function: found %s, wanted an object", i,
                             type_name(inner));
    } else {
        inner = v;
    }
    name = mlxr_value_get(inner, "name");
    if (!name || name->type != MLXR_VALUE_STRING)
        return mlxr_fail(err, MLXR_E_FORMAT, "tools[%zu]%s.name: found %s, wanted a string", i, where,
                         type_name(name));
    if (name->n_text == 0 || memchr(name->text, 0, name->n_text))
        return mlxr_fail(err, MLXR_E_FORMAT, "tools[%zu]%s.name: is empty or holds a NUL character", i,
                         where);
    t->name = name->text;
    t->n_name = name->n_text;
    t->i = i;
    t->label = mlxr_arena_printf(&l->arena, "tools[%zu]%s.parameters", i, where);
    if (!t->label) return mlxr_fail_nomem(err, "tools");
    return read_parameters(t, l, mlxr_value_get(inner, "parameters"), err);
}

mlxr_status mlxr_tool_list_read(mlxr_tool_list *out, const char *json, mlxr_error *err)
{
    mlxr_status st;
    mlxr_tool_list l = {0};
    mlxr_strtab names = {0};
    size_t i;

    *out = (mlxr_tool_list){0};
    if ((st = mlxr_value_parse(&l.doc, json, strlen(json), "tools", err)) != MLXR_OK) goto done;
    if (l.doc.root->type != MLXR_VALUE_ARRAY) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "tools: found %s, wanted a list", type_name(l.doc.root));
        goto done;
    }
    if (l.doc.root->n > MLXR_MAX_TOOLS) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "tools: there are %zu, the limit is %d", l.doc.root->n,
                       MLXR_MAX_TOOLS);
        goto done;
    }
    if (!(l.tools = mlxr_arena_calloc(&l.arena, l.doc.root->n + 1, sizeof *l.tools))) {
        st = mlxr_fail_nomem(err, "tools");
        goto done;
    }
    for (i = 0; i < l.doc.root->n; i++) {
        mlxr_tool *t = &l.tools[l.n];
        size_t before;
        if ((st = read_tool(t, &l, l.doc.root->items[i], i, err)) != MLXR_OK) goto done;
        before = mlxr_strtab_get(&names, t->name, t->n_name);
        if (before == SIZE_MAX) {
            if (!mlxr_strtab_put(&names, t->name, t->n_name, l.n, NULL)) {
                st = mlxr_fail_nomem(err, "tools");
                goto done;
            }
            l.n++;
        } else if (!same_parameters(&l.tools[before], t)) {
            st = mlxr_fail(err, MLXR_E_FORMAT,
                           "tools[%zu]: the name \"%s\" is that of tools[%zu], with other parameters", i,
                           t->name, l.tools[before].i);
            goto done;
        }
    }
    *out = l;
    l = (mlxr_tool_list){0};
done:
    mlxr_strtab_clear(&names);
    mlxr_tool_list_clear(&l);
    return st;
}

void mlxr_tool_list_clear(mlxr_tool_list *l)
{
    if (!l) return;
    mlxr_value_clear(&l->doc);
    mlxr_arena_clear(&l->arena);
    *l = (mlxr_tool_list){0};
}

const mlxr_tool *mlxr_tool_list_find(const mlxr_tool_list *l, const char *name)
{
    size_t i, n = strlen(name);
    for (i = 0; i < l->n; i++)
        if (l->tools[i].n_name == n && !memcmp(l->tools[i].name, name, n)) return &l->tools[i];
    return NULL;
}
