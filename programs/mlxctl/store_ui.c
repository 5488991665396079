/* store_ui: see store_ui.h. */
#include "store_ui.h"

#include <ctype.h>
#include <stdlib.h>

#include "store/name.h"

char *store_display_name(const char *text)
{
    mlxr_buf out = {0};
    mlxr_name name;

    if (mlxr_name_parse(&name, text, NULL) != MLXR_OK) return mlxr_strdup(text);
    mlxr_name_display(&out, &name);
    return mlxr_buf_take(&out, NULL);
}

/* A part of a name from a part of a path: what a name cannot have becomes "-", a first letter that it cannot begin with goes. */
static void append_part(mlxr_buf *out, const char *text, size_t n)
{
    enum { MOST = 128 };
    size_t from = out->len;

    for (size_t i = 0; i < n && out->len - from < MOST; i++) {
        unsigned char c = (unsigned char)text[i];
        bool inner = c == '-' || c == '.';
        if ((isalnum(c) && c < 0x80) || c == '_' || (inner && out->len > from))
            mlxr_buf_char(out, (char)c);
        else if (out->len > from)
            mlxr_buf_char(out, '-');
    }
    while (out->len > from && (out->data[out->len - 1] == '-' || out->data[out->len - 1] == '.'))
        out->data[--out->len] = '\0';
}

mlxr_status store_default_name(char **out, const char *path, mlxr_error *err)
{
    char *real = realpath(path, NULL), *end;
    const char *hub, *base;
    mlxr_buf name = {0};
    mlxr_status st;

    *out = NULL;
    if (!real) return mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: there is no such file or folder", path);
    hub = strstr(real, "/models--"); /* .../models--org--repo/snapshots/<commit> of a hub's cache */
    if (hub && strstr(hub, "/snapshots/")) {
        const char *org = hub + strlen("/models--"), *stop = strchr(org, '/'), *repo = strstr(org, "--");
        if (repo && repo < stop) {
            append_part(&name, org, (size_t)(repo - org));
            mlxr_buf_char(&name, '/');
            org = repo + 2;
        }
        append_part(&name, org, (size_t)(stop - org));
    } else {
        base = strrchr(real, '/') + 1;
        end = strrchr(real, '.');
        append_part(&name, base, end && strcasecmp(end, ".gguf") == 0 ? (size_t)(end - base) : strlen(base));
    }
    st = mlxr_buf_check(&name, "name", err);
    if (st == MLXR_OK && name.len == 0)
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: gives no name: say NAME too", path);
    if (st == MLXR_OK) *out = mlxr_buf_take(&name, NULL);
    mlxr_buf_clear(&name);
    free(real);
    return st;
}

mlxr_status store_print_result(json_t *result, bool json, const char *text, mlxr_error *err)
{
    report_json r = {.root = json_object(), .failed = !result};
    mlxr_status st = MLXR_OK;

    if (json) {
        report_put(&r, r.root, "event", json_string("result"));
        if (result && json_object_update(r.root, result) != 0) r.failed = true;
        st = report_write_json(&r, err);
    } else if (!cli_quiet()) {
        mlxr_buf line = {0};
        mlxr_buf_printf(&line, "%s\n", text);
        st = report_write_text(&line, err);
        mlxr_buf_clear(&line);
    }
    json_decref(r.root);
    json_decref(result);
    return st;
}

int store_print_failure(const char *program, bool json, const mlxr_error *err)
{
    report_json r = {.root = json_object()};

    if (json) {
        report_put(&r, r.root, "event", json_string("error"));
        report_put(&r, r.root, "error", report_string(err->message));
        report_write_json(&r, NULL);
    }
    json_decref(r.root);
    return cli_store_fail(program, err);
}

mlxr_status store_print_transfer(const char *did, const char *name, const mlxr_transfer *t, bool json,
                                 mlxr_error *err)
{
    char total[32], moved[32], text[1024];
    json_t *result = json_pack("{ss ss sI sI sI}", "name", name, "digest", t->digest, "total_bytes",
                               (json_int_t)t->total_bytes, "moved_bytes", (json_int_t)t->moved_bytes,
                               "present_bytes", (json_int_t)t->present_bytes);

    words_size(total, t->total_bytes);
    words_size(moved, t->moved_bytes);
    snprintf(text, sizeof text, "%s %s: %s, %s over the network", did, name, total, moved);
    return store_print_result(result, json, text, err);
}
