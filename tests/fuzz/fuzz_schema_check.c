/* Fuzz entry: a schema, a NUL byte, and an instance. What is taken is so as well when its members are turned around; what is not comes
 * with a word. */
#include "engine/grammar/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The members of v, and of what is in it, in the opposite order. */
static void write_reversed(mlxr_buf *out, const mlxr_value *v)
{
    if (v->type != MLXR_VALUE_ARRAY && v->type != MLXR_VALUE_OBJECT) {
        mlxr_value_write(out, v);
        return;
    }
    mlxr_buf_char(out, v->type == MLXR_VALUE_ARRAY ? '[' : '{');
    for (size_t k = 0; k < v->n; k++) {
        size_t i = v->type == MLXR_VALUE_ARRAY ? k : v->n - 1 - k;
        if (k > 0) mlxr_buf_char(out, ',');
        if (v->type == MLXR_VALUE_OBJECT) {
            const mlxr_value name = {
                .type = MLXR_VALUE_STRING, .text = v->names[i].text, .n_text = v->names[i].n_text};
            mlxr_value_write(out, &name);
            mlxr_buf_char(out, ':');
        }
        write_reversed(out, v->items[i]);
    }
    mlxr_buf_char(out, v->type == MLXR_VALUE_ARRAY ? ']' : '}');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    mlxr_schema_options options = mlxr_schema_options_default();
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    mlxr_value_doc instance = {0}, turned = {0};
    mlxr_schema_checker *c = NULL;
    mlxr_schema_verdict first, second;
    mlxr_grammar *g = NULL;
    mlxr_buf text = {0};
    mlxr_error err;
    size_t n;

    if (!cut) return 0;
    n = (size_t)(cut - data);
    limits.max_nodes = 20000;
    limits.max_configurations = 300;
    limits.max_depth = 100;
    limits.lang.max_states = 2000;
    limits.lang.max_steps = 200000;
    options.max_cases = 1000;
    if (mlxr_value_parse(&instance, (const char *)cut + 1, size - n - 1, "instance", &err) != MLXR_OK)
        return 0;
    if (mlxr_grammar_from_schema(&g, (const char *)data, n, "schema", &options, &limits, &err) != MLXR_OK)
        goto done;
    if (mlxr_schema_checker_create(&c, g, &err) != MLXR_OK) __builtin_trap();
    if (mlxr_schema_check(&first, c, instance.root, &err) != MLXR_OK) goto done;
    if (!first.valid && !first.expected[0]) __builtin_trap();
    write_reversed(&text, instance.root);
    if (mlxr_value_parse(&turned, text.data, text.len, "turned", &err) != MLXR_OK) __builtin_trap();
    if (mlxr_schema_check(&second, c, turned.root, &err) != MLXR_OK) goto done;
    if (first.valid != second.valid) __builtin_trap();
done:
    mlxr_schema_checker_free(c);
    mlxr_grammar_unref(g);
    mlxr_value_clear(&instance);
    mlxr_value_clear(&turned);
    mlxr_buf_clear(&text);
    return 0;
}
