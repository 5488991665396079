/* bench_schema: how long JSON Schemas take to become grammars. bench_schema FILE [REPEATS]: one schema a line, or one in the whole
 * file; a line of the corpus ({"name", "schema", ...}) is taken by its schema. Prints the schemas' sizes, medians and worst times. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "engine/grammar/schema.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(const char *name, const char *text, size_t n, size_t repeats, double *sum)
{
    double *times = malloc(repeats * sizeof *times);
    mlxr_grammar *g = NULL;
    mlxr_error err;
    size_t bytes = 0;

    if (!times) return 1;
    for (size_t i = 0; i < repeats; i++) {
        uint64_t start = mlxr_now_ns();
        mlxr_status st = mlxr_grammar_from_schema(&g, text, n, "schema", NULL, NULL, &err);
        times[i] = (double)(mlxr_now_ns() - start) / 1e6;
        if (st != MLXR_OK) {
            printf("%8zu %9.3f %9s %9s  %.40s: %.120s\n", n, times[i], "-", "-", name, err.message);
            free(times);
            return 0;
        }
        bytes = mlxr_grammar_bytes(g);
        mlxr_grammar_unref(g);
    }
    qsort(times, repeats, sizeof *times, compare);
    printf("%8zu %9.3f %9.3f %9.1f  %.60s\n", n, times[repeats / 2], times[repeats - 1], (double)bytes / 1024,
           name);
    *sum += times[repeats / 2];
    free(times);
    return 0;
}

int main(int argc, char **argv)
{
    size_t repeats = argc > 2 ? strtoul(argv[2], NULL, 10) : 11, n_schemas = 0;
    mlxr_buf text = {0};
    mlxr_error err;
    json_t *whole = NULL;
    double sum = 0;
    int rc = 0;

    if (argc < 2 || repeats < 1) return 2;
    if (mlxr_file_read(&text, argv[1], (size_t)64 << 20, &err) != MLXR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("%8s %9s %9s %9s\n", "bytes", "ms p50", "ms max", "KiB");
    if (mlxr_json_parse(&whole, text.data, text.len, argv[1], &err) == MLXR_OK &&
        !json_object_get(whole, "source")) {
        rc = measure(argv[1], text.data, text.len, repeats, &sum);
        n_schemas = 1;
    } else {
        for (char *line = text.data, *next; line && *line && !rc; line = next) {
            size_t n = strcspn(line, "\n");
            json_t *j = NULL, *schema;
            char *dump = NULL;
            next = line + n + (line[n] == '\n');
            if (mlxr_json_parse(&j, line, n, argv[1], &err) != MLXR_OK) continue;
            schema = json_object_get(j, "source") ? json_object_get(j, "schema") : NULL;
            if (schema) dump = json_dumps(schema, JSON_ENCODE_ANY | JSON_COMPACT);
            rc = measure(dump ? json_string_value(json_object_get(j, "name")) : "", dump ? dump : line,
                         dump ? strlen(dump) : n, repeats, &sum);
            n_schemas++;
            free(dump);
            json_decref(j);
        }
    }
    printf("%zu schemas, %.3f ms in all\n", n_schemas, sum);
    json_decref(whole);
    mlxr_buf_clear(&text);
    return rc;
}
