/* The engine against recorded renderings of the reference: language.jsonl and chats.jsonl beside this file, and the
 * shared cases where they are. Closes with "N passed, N failed". */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "base/json.h"

enum { NOW = 1741503903 }; /* 2025-03-09 07:05:03 UTC */

typedef struct tally {
    size_t passed, failed;
} tally;

/* The text of a member's value in a line that is one JSON object; false when there is none. Contexts are handed on
 * as text: keys may hold characters that the JSON library refuses. */
static bool member(const char *line, const char *key, const char **from, size_t *n)
{
    const char *p = strchr(line, '{');
    size_t n_key = strlen(key);
    if (!p) return false;
    p++;
    while (*p && *p != '}') {
        const char *k, *v;
        bool here;
        int depth = 0;
        while (*p == ' ' || *p == ',') p++;
        if (*p != '"') return false;
        k = ++p;
        while (*p && *p != '"') p += *p == '\\' && p[1] ? 2 : 1;
        here = (size_t)(p - k) == n_key && memcmp(k, key, n_key) == 0;
        p++;
        while (*p == ' ' || *p == ':') p++;
        v = p;
        for (; *p; p++) {
            if (*p == '"') {
                for (p++; *p && *p != '"';) p += *p == '\\' && p[1] ? 2 : 1;
                if (!*p) return false;
            } else if (*p == '{' || *p == '[') {
                depth++;
            } else if ((*p == '}' || *p == ']' || *p == ',') && depth == 0) {
                break;
            } else if (*p == '}' || *p == ']') {
                depth--;
            }
        }
        if (here) {
            *from = v;
            *n = (size_t)(p - v);
            return true;
        }
    }
    return false;
}

static json_t *member_string(const char *line, const char *key)
{
    const char *from;
    size_t n;
    json_t *j = NULL;
    if (!member(line, key, &from, &n)) return NULL;
    if (mlxr_json_parse(&j, from, n, key, NULL) != MLXR_OK || !json_is_string(j)) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static void check(tally *t, const char *name, const char *source, size_t n_source, const char *context,
                  size_t n_context, const char *line)
{
    mlxr_template *tpl = NULL;
    mlxr_error err = {0};
    char *text = NULL;
    size_t n = 0;
    json_t *want = member_string(line, "expected"), *raised = member_string(line, "raised");
    mlxr_status st = mlxr_template_create(&tpl, source, n_source, name, &err);
    bool ok;

    if (st == MLXR_OK) st = mlxr_template_render(&text, &n, tpl, context, n_context, NOW, NULL, &err);
    if (want)
        ok = st == MLXR_OK && n == json_string_length(want) && memcmp(text, json_string_value(want), n) == 0;
    else
        ok = st != MLXR_OK && (!raised || strstr(err.message, json_string_value(raised)));
    if (ok) {
        t->passed++;
    } else {
        t->failed++;
        if (t->failed <= 10)
            printf("FAIL %s: %.*s\n  want %s\n  got  %s\n", name, (int)(n_source < 200 ? n_source : 200),
                   source, want ? json_string_value(want) : "an error", st == MLXR_OK ? text : err.message);
    }
    mlxr_free(text);
    mlxr_template_free(tpl);
    json_decref(want);
    json_decref(raised);
}

static void run_line(tally *t, const char *dir, const char *line, const char **shared_context)
{
    json_t *tpl = member_string(line, "template"), *name = member_string(line, "name");
    const char *context;
    size_t n_context;
    mlxr_buf file = {0};

    if (!member(line, "context", &context, &n_context)) goto done;
    if (name && strcmp(json_string_value(name), "@") == 0) {
        *shared_context = context;
        goto done;
    }
    if (n_context == 3 && *shared_context) { /* "@": the context of the first line */
        context = *shared_context;
        n_context = strlen(context);
        while (n_context && context[n_context - 1] != '}') n_context--;
        n_context--; /* the line's own brace */
    }
    if (!tpl) goto done;
    if (name) {
        check(t, json_string_value(name), json_string_value(tpl), json_string_length(tpl), context, n_context,
              line);
    } else {
        char *path = mlxr_asprintf("%s/%s.jinja", dir, json_string_value(tpl));
        if (path && mlxr_file_read(&file, path, 1 << 20, NULL) == MLXR_OK)
            check(t, json_string_value(tpl), file.data ? file.data : "", file.len, context, n_context, line);
        else
            t->failed++;
        free(path);
    }
done:
    mlxr_buf_clear(&file);
    json_decref(tpl);
    json_decref(name);
}

/* Lines of f; dir holds the templates that cases name. */
static void run_stream(tally *t, FILE *f, const char *dir)
{
    char *line = NULL, *first = NULL;
    const char *shared_context = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0) {
        run_line(t, dir, line, &shared_context);
        if (shared_context && !first) { /* it points into the line: keep that */
            first = line;
            line = NULL;
            cap = 0;
        }
    }
    free(line);
    free(first);
}

static void run_file(tally *t, const char *path, const char *dir)
{
    FILE *f = fopen(path, "r");
    tally before = *t;
    if (!f) {
        printf("cannot read %s\n", path);
        t->failed++;
        return;
    }
    run_stream(t, f, dir);
    fclose(f);
    printf("%s: %zu passed, %zu failed\n", path, t->passed - before.passed, t->failed - before.failed);
}

int main(void)
{
    tally t = {0};
    const char *shared = MLXR_SHARED_DIR "/cases/templates";

    setenv("TZ", "UTC", 1);
    tzset();
    run_file(&t, MLXR_TEST_DIR "/language.jsonl", MLXR_TEST_DIR);
    run_file(&t, MLXR_TEST_DIR "/chats.jsonl", MLXR_TEST_DIR "/chats");
    if (mlxr_path_is_dir(shared)) {
        FILE *f = popen("xz -dc '" MLXR_SHARED_DIR "/cases/templates/chat.jsonl.xz'", "r");
        tally before;
        run_file(&t, MLXR_SHARED_DIR "/cases/templates/language.jsonl", shared);
        before = t;
        if (f) {
            run_stream(&t, f, shared);
            if (pclose(f) != 0 || t.passed == before.passed)
                printf("SKIP: the shared chat cases need xz\n");
            else
                printf("chat.jsonl.xz: %zu passed, %zu failed\n", t.passed - before.passed,
                       t.failed - before.failed);
        }
    } else {
        printf("SKIP: no shared cases at %s\n", shared);
    }
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    return t.failed || !t.passed;
}
