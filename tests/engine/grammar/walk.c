/* walk: random texts of a schema's grammar, byte by byte, for a look or for a judge.
 *
 * usage: walk COUNT SEED [--compact] < SCHEMAS    one schema a line; each answer is a line: the texts as a JSON list of strings,
 *                                                 or {"error": ...}
 *        walk --push SCHEMA TEXT                  how many bytes of TEXT fit, and what could come next */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "engine/grammar/schema.h"

enum { MOST_BYTES = 4000, PATIENCE = 300 };

static mlxr_error err;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The bytes that get to an end when they are preferred: quotes and brackets that close. */
static int choose(const bool next[256], size_t len, uint64_t *rng)
{
    static const char closing[] = "\"}]:";
    int all[256], n = 0, some[256], n_some = 0;

    for (int c = 0; c < 256; c++) {
        if (!next[c]) continue;
        all[n++] = c;
        if (strchr(closing, c) && c) some[n_some++] = c;
    }
    if (!n) return -1;
    if (n_some && next_random(rng) % PATIENCE < 60 + len) return some[next_random(rng) % (uint64_t)n_some];
    if (next_random(rng) % 4) { /* rarely anything but ASCII */
        int n_plain = 0;
        for (int i = 0; i < n; i++) n_plain += all[i] < 128;
        if (n_plain) return all[next_random(rng) % (uint64_t)n_plain];
    }
    return all[next_random(rng) % (uint64_t)n];
}

static bool walk_once(mlxr_buf *out, mlxr_masker *k, uint64_t *rng)
{
    mlxr_matcher *m = NULL;
    bool next[256], ok = false;

    if (mlxr_matcher_create(&m, k, &err) != MLXR_OK) return false;
    out->len = 0;
    mlxr_buf_append(out, "", 0);
    for (size_t i = 0; i < MOST_BYTES; i++) {
        size_t taken;
        int c;
        char byte;
        if (mlxr_matcher_must_end(m) || (mlxr_matcher_may_end(m) && next_random(rng) % 3 == 0)) {
            ok = true;
            break;
        }
        mlxr_matcher_next_bytes(next, m);
        if ((c = choose(next, i, rng)) < 0) {
            ok = mlxr_matcher_may_end(m);
            if (!ok) mlxr_fail(&err, MLXR_E_INTERNAL, "a dead end");
            if (!ok) mlxr_buf_str(out, " <- DEAD END");
            ok = true;
            break;
        }
        byte = (char)c;
        if (mlxr_matcher_push(&taken, m, &byte, 1, &err) != MLXR_OK || taken != 1) break;
        mlxr_buf_char(out, byte);
    }
    mlxr_matcher_free(m);
    return ok;
}

static int push(const char *schema, const char *text)
{
    mlxr_grammar *g = NULL;
    mlxr_masker *k = NULL;
    mlxr_matcher *m = NULL;
    bool next[256];
    size_t taken;

    if (mlxr_grammar_from_schema(&g, schema, strlen(schema), "schema", NULL, NULL, &err) != MLXR_OK ||
        mlxr_masker_create(&k, g, NULL, &err) != MLXR_OK || mlxr_matcher_create(&m, k, &err) != MLXR_OK ||
        mlxr_matcher_push(&taken, m, text, strlen(text), &err) != MLXR_OK) {
        printf("%s\n", err.message);
    } else {
        mlxr_matcher_next_bytes(next, m);
        printf("%zu of %zu bytes, %s; next:", taken, strlen(text),
               mlxr_matcher_must_end(m)  ? "ends"
               : mlxr_matcher_may_end(m) ? "may end"
                                         : "goes on");
        for (int c = 0; c < 256; c++)
            if (next[c]) printf(c > 32 && c < 127 ? " %c" : " %02x", (unsigned)c);
        printf("\n");
    }
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
    mlxr_grammar_unref(g);
    return 0;
}

int main(int argc, char **argv)
{
    mlxr_schema_options options = mlxr_schema_options_default();
    size_t cap = 0, count;
    uint64_t rng;
    char *line = NULL;
    ssize_t n;

    if (argc == 4 && strcmp(argv[1], "--push") == 0) return push(argv[2], argv[3]);
    if (argc < 3) return 2;
    count = strtoul(argv[1], NULL, 10);
    rng = strtoull(argv[2], NULL, 10);
    options.white_space = argc < 4;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        mlxr_grammar *g = NULL;
        mlxr_masker *k = NULL;
        mlxr_buf text = {0}, out = {0};
        if (mlxr_grammar_from_schema(&g, line, (size_t)n, "schema", &options, NULL, &err) != MLXR_OK ||
            mlxr_masker_create(&k, g, NULL, &err) != MLXR_OK) {
            mlxr_buf_str(&out, "{\"error\": ");
            mlxr_json_escape(&out, err.message, strlen(err.message));
            mlxr_buf_str(&out, "}");
        } else {
            size_t written = 0;
            mlxr_buf_str(&out, "[");
            for (size_t i = 0; i < count; i++) {
                if (!walk_once(&text, k, &rng)) continue;
                if (written++) mlxr_buf_str(&out, ", ");
                mlxr_json_escape(&out, text.data, text.len);
            }
            mlxr_buf_str(&out, "]");
        }
        puts(out.data);
        mlxr_buf_clear(&text);
        mlxr_buf_clear(&out);
        mlxr_masker_free(k);
        mlxr_grammar_unref(g);
    }
    free(line);
    return 0;
}
