/* Rendering speed of one template with one context: template_speed FILE.jinja CONTEXT.json [N].
 * Prints nanoseconds as JSON: compiling (best of 20), and medians of N renders with the compiled template, from the
 * context's JSON text to the prompt; read_ns is the same for an empty template, so reading the context alone.
 * bench/template_speed.py runs it beside jinja2. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The median of n renders; 0: failed. */
static uint64_t median(const mlxr_template *t, const mlxr_buf *context, size_t n, size_t *n_text,
                       mlxr_error *err)
{
    uint64_t *ns = calloc(n, sizeof *ns), m = 0;
    if (!ns) return 0;
    for (size_t i = 0; i < n; i++) {
        char *text;
        uint64_t t0 = mlxr_now_ns();
        if (mlxr_template_render(&text, n_text, t, context->data, context->len, 1741503903, NULL, err) !=
            MLXR_OK)
            goto done;
        mlxr_free(text);
        ns[i] = mlxr_now_ns() - t0;
    }
    qsort(ns, n, sizeof *ns, by_value);
    m = ns[n / 2];
done:
    free(ns);
    return m;
}

int main(int argc, char **argv)
{
    mlxr_buf source = {0}, context = {0};
    mlxr_template *t = NULL, *nothing = NULL;
    mlxr_error err = {0};
    size_t n = argc > 3 ? (size_t)atoi(argv[3]) : 200, n_text = 0, n_none;
    uint64_t compile_best = UINT64_MAX, render, read;
    int rc = 1;

    if (argc < 3 || n < 1) {
        fputs("usage: template_speed FILE.jinja CONTEXT.json [N]\n", stderr);
        return 2;
    }
    if (mlxr_file_read(&source, argv[1], 1 << 24, &err) != MLXR_OK ||
        mlxr_file_read(&context, argv[2], 1 << 26, &err) != MLXR_OK ||
        mlxr_template_create(&nothing, "", 0, "empty", &err) != MLXR_OK)
        goto done;
    for (size_t i = 0; i < 20; i++) {
        uint64_t t0 = mlxr_now_ns();
        mlxr_template_free(t);
        if (mlxr_template_create(&t, source.data, source.len, argv[1], &err) != MLXR_OK) goto done;
        t0 = mlxr_now_ns() - t0;
        if (t0 < compile_best) compile_best = t0;
    }
    if (!(render = median(t, &context, n, &n_text, &err)) ||
        !(read = median(nothing, &context, n, &n_none, &err)))
        goto done;
    printf("{\"compile_ns\": %llu, \"render_ns\": %llu, \"read_ns\": %llu, \"bytes\": %zu}\n",
           (unsigned long long)compile_best, (unsigned long long)render, (unsigned long long)read, n_text);
    rc = 0;
done:
    if (rc) fprintf(stderr, "template_speed: %s\n", err.message);
    mlxr_template_free(t);
    mlxr_template_free(nothing);
    mlxr_buf_clear(&source);
    mlxr_buf_clear(&context);
    return rc;
}
