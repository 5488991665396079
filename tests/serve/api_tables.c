/* api_tables: the tables of docs/api.md, made of the tables of endpoints and fields.
 *
 *   api_tables FILE           whether the tables in FILE are as they should be; says which is not
 *   api_tables --write FILE   makes them so
 *
 * A table stands between the lines <!-- table: NAME --> and <!-- end -->. NAME: "endpoints native", "errors openai", "options", or an endpoint
 * ("POST /api/chat"). Each endpoint with fields must have its table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/parameters.h"
#include "serve/endpoint.h"
#include "serve/openapi.h"

static const char *const api_names[] = {"native", "openai", "anthropic"};

static void cell(mlxr_buf *out, const char *s)
{
    for (; s && *s; s++) {
        if (*s == '|' || *s == '<' || *s == '*' || *s == '_') mlxr_buf_char(out, '\\');
        mlxr_buf_char(out, *s);
    }
}

static void put_code(mlxr_buf *out, const char *s)
{
    if (!s || !*s) return;
    mlxr_buf_char(out, '`');
    for (; *s; s++) mlxr_buf_str(out, *s == '|' ? "\\|" : (char[]){*s, '\0'});
    mlxr_buf_char(out, '`');
}

static void put_types(mlxr_buf *out, const mlxr_field *f)
{
    static const struct {
        unsigned type;
        const char *name;
    } names[] = {{MLXR_FIELD_STRING, "text"}, {MLXR_FIELD_BOOL, "boolean"},  {MLXR_FIELD_INT, "integer"},
                 {MLXR_FIELD_REAL, "number"}, {MLXR_FIELD_OBJECT, "object"}, {MLXR_FIELD_LIST, "list"}};
    unsigned types = f->types & MLXR_FIELD_REAL ? f->types & ~(unsigned)MLXR_FIELD_INT : f->types;
    size_t n = 0;

    if (f->types == MLXR_FIELD_ANY) {
        mlxr_buf_str(out, "any");
        return;
    }
    for (size_t i = 0; i < MLXR_COUNT(names); i++)
        if (types & names[i].type) mlxr_buf_printf(out, "%s%s", n++ ? ", " : "", names[i].name);
    if (f->words) {
        mlxr_buf_str(out, ": ");
        put_code(out, f->words);
    }
    if (f->min != 0 || f->max != 0) mlxr_buf_printf(out, ", %.10g to %.10g", f->min, f->max);
}

static bool is_ours(const json_t *embedded, const char *key, const char *name)
{
    const json_t *list = json_object_get(json_object_get(embedded, "ours"), key);
    size_t i;
    json_t *v;

    json_array_foreach((json_t *)(uintptr_t)list, i, v)
    {
        if (strcmp(json_string_value(v), name) == 0) return true;
    }
    return false;
}

static void put_fields(mlxr_buf *out, const mlxr_endpoint *e, const char *key, const json_t *embedded)
{
    mlxr_buf_str(out, "| field | type | default | here | |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < e->fields->n; i++) {
        const mlxr_field *f = &e->fields->fields[i];
        mlxr_buf_str(out, "| ");
        put_code(out, f->name);
        mlxr_buf_str(out, " | ");
        put_types(out, f);
        mlxr_buf_str(out, f->required ? ", required | " : " | ");
        put_code(out, f->fallback);
        mlxr_buf_str(out, " | ");
        if (f->use == MLXR_FIELD_REFUSED) {
            mlxr_buf_str(out, "refused");
            if (f->neutral) mlxr_buf_str(out, " unless ");
            put_code(out, f->neutral);
        } else {
            mlxr_buf_str(out, f->use == MLXR_FIELD_WARNED       ? "no effect, warned of"
                              : is_ours(embedded, key, f->name) ? "ours"
                                                                : "honoured");
        }
        mlxr_buf_str(out, " | ");
        cell(out, mlxr_field_help(f, embedded));
        mlxr_buf_str(out, " |\n");
    }
}

static void put_endpoints(mlxr_buf *out, size_t api)
{
    const mlxr_endpoint *e;

    mlxr_buf_str(out, "| endpoint | | answer | stream |\n|---|---|---|---|\n");
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        mlxr_buf key = {0};
        if ((size_t)e->api != api || e->hidden) continue;
        mlxr_endpoint_key(&key, e);
        mlxr_buf_str(out, "| ");
        put_code(out, key.data);
        mlxr_buf_str(out, " | ");
        cell(out, e->summary);
        mlxr_buf_str(out, " | ");
        put_code(out, e->answer ? e->answer : e->content_type ? e->content_type : "");
        mlxr_buf_str(out, " | ");
        put_code(out, e->line);
        mlxr_buf_str(out, " |\n");
        mlxr_buf_clear(&key);
    }
}

static void put_options(mlxr_buf *out)
{
    const mlxr_parameter *p;

    mlxr_buf_str(out, "| option | here | value |\n|---|---|---|\n");
    for (size_t i = 0; (p = mlxr_parameter_at(i)) != NULL; i++) {
        mlxr_buf_str(out, "| ");
        put_code(out, p->name);
        mlxr_buf_printf(out, " | %s | ",
                        p->kind == MLXR_PARAMETER_OTHER ? "no effect, warned of" : "honoured");
        cell(out, p->wants);
        mlxr_buf_str(out, " |\n");
    }
}

/* The table of that name; false: there is none. */
static bool put_table(mlxr_buf *out, const char *name, const json_t *embedded)
{
    const mlxr_endpoint *e;

    if (strcmp(name, "options") == 0) {
        put_options(out);
        return true;
    }
    for (size_t i = 0; i < MLXR_COUNT(api_names); i++)
        if (strncmp(name, "endpoints ", 10) == 0 && strcmp(name + 10, api_names[i]) == 0) {
            put_endpoints(out, i);
            return true;
        }
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        mlxr_buf key = {0};
        bool found;
        mlxr_endpoint_key(&key, e);
        found = e->fields && !e->hidden && key.data && strcmp(key.data, name) == 0;
        if (found) put_fields(out, e, name, embedded);
        mlxr_buf_clear(&key);
        if (found) return true;
    }
    return false;
}

/* The file with its tables made anew; the number of what is wrong with the marks. */
static int remake(mlxr_buf *out, const char *text, const json_t *embedded)
{
    static const char open[] = "<!-- table: ", close[] = "<!-- end -->\n";
    int n_bad = 0;
    const char *at;
    const mlxr_endpoint *e;

    while ((at = strstr(text, open)) != NULL) {
        const char *name = at + sizeof open - 1, *end = strstr(name, " -->\n"), *rest;
        char *own;
        if (!end || !(rest = strstr(end, close))) {
            fprintf(stderr, "api_tables: a table without an end\n");
            n_bad++;
            break;
        }
        own = mlxr_strndup(name, (size_t)(end - name));
        mlxr_buf_append(out, text, (size_t)(end + 5 - text));
        if (!own || !put_table(out, own, embedded)) {
            fprintf(stderr, "api_tables: there is no table \"%s\"\n", own ? own : "");
            n_bad++;
        }
        free(own);
        mlxr_buf_str(out, close);
        text = rest + sizeof close - 1;
    }
    mlxr_buf_str(out, text);
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        mlxr_buf mark = {0};
        if (e->hidden || !e->fields) continue;
        mlxr_buf_str(&mark, open);
        mlxr_endpoint_key(&mark, e);
        mlxr_buf_str(&mark, " -->");
        if (!out->data || !mark.data || !strstr(out->data, mark.data)) {
            fprintf(stderr, "api_tables: no table: %s\n", mark.data ? mark.data : "");
            n_bad++;
        }
        mlxr_buf_clear(&mark);
    }
    return n_bad;
}

int main(int argc, char **argv)
{
    bool write = argc == 3 && strcmp(argv[1], "--write") == 0;
    const char *path = argv[argc - 1];
    mlxr_buf text = {0}, made = {0};
    json_t *embedded = NULL;
    mlxr_error err = {0};
    int bad = 1;
    FILE *f;

    if (argc != 2 && !write) {
        fprintf(stderr, "usage: api_tables [--write] FILE\n");
        return 2;
    }
    if (mlxr_file_read(&text, path, 1 << 24, &err) != MLXR_OK ||
        mlxr_openapi_embedded(&embedded, &err) != MLXR_OK) {
        fprintf(stderr, "api_tables: %s\n", err.message);
        goto done;
    }
    mlxr_buf_char(&text, '\0');
    bad = remake(&made, text.data, embedded);
    if (made.failed) bad = 1;
    if (bad || strcmp(made.data, text.data) == 0) goto done;
    if (!write) {
        fprintf(stderr, "api_tables: %s is not as the tables of the code are: build the target api-tables\n",
                path);
        bad = 1;
        goto done;
    }
    if (!(f = fopen(path, "wb")) || fwrite(made.data, 1, made.len, f) != made.len || fclose(f) != 0) {
        fprintf(stderr, "api_tables: %s: %s\n", path, strerror(errno));
        bad = 1;
    }
done:
    json_decref(embedded);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&made);
    return bad != 0;
}
