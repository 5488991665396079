/* mlxctl stop NAME...: models a daemon is to put down. */
#include <stdio.h>
#include <strings.h>

#include "../daemon.h"
#include "mlxctl.h"
#include "store/name.h"

/* Names of the store when both are; else letter by letter. */
static bool is_same_name(const char *a, const char *b)
{
    mlxr_name x, y;

    if (mlxr_name_parse(&x, a, NULL) == MLXR_OK && mlxr_name_parse(&y, b, NULL) == MLXR_OK)
        return mlxr_name_same(&x, &y);
    return strcasecmp(a, b) == 0;
}

static mlxr_status is_loaded(bool *out, struct daemon *daemon, const char *name, mlxr_error *err)
{
    json_t *doc = NULL, *models;
    mlxr_status st = daemon_call(&doc, daemon, "/api/ps", NULL, err);

    *out = false;
    models = json_object_get(doc, "models");
    for (size_t i = 0; i < json_array_size(models); i++) {
        const char *loaded = json_string_value(json_object_get(json_array_get(models, i), "name"));
        if (loaded && is_same_name(loaded, name)) *out = true;
    }
    json_decref(doc);
    return st;
}

static mlxr_status stop(struct daemon *daemon, const char *name, mlxr_error *err)
{
    json_t *body = json_pack("{s:s, s:i, s:b}", "model", name, "keep_alive", 0, "stream", 0);
    bool before = false, after = false;
    mlxr_status st = is_loaded(&before, daemon, name, err);

    if (st == MLXR_OK && !body) st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "\"%s\" is no name", name);
    if (st == MLXR_OK) st = daemon_call(NULL, daemon, "/api/generate", body, err);
    if (st == MLXR_OK && before) st = is_loaded(&after, daemon, name, err);
    json_decref(body);
    if (st != MLXR_OK) return st;
    if (!before)
        printf("%s was not loaded\n", name);
    else if (after)
        printf("%s stops when its last answer ends\n", name);
    else
        printf("%s is stopped\n", name);
    return MLXR_OK;
}

int cmd_stop(int argc, char **argv)
{
    enum { MOST = 256 };
    const char *host = NULL, *names[MOST];
    const struct cli_option table[] = {
        {"host", CLI_STRING, "HOST", &host, 0, 0, DAEMON_HOST_HELP},
    };
    static const struct cli_example examples[] = {
        {"mlxctl stop smollm2", "frees its memory", "daemon"},
    };
    const struct cli cli = {
        .program = "mlxctl stop",
        .synopsis = "NAME... [options]",
        .summary = "Has a daemon put models down, so that their memory is free. Answers that run end first.",
        .options = table,
        .n_options = MLXR_COUNT(table),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name...",
    };
    struct daemon *daemon = NULL;
    mlxr_error err = {0};
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, names, MOST, &n_args, &code)) return code;
    if (n_args == 0) return cli_usage(&cli, "NAME is missing");
    if (daemon_open_any(&daemon, host, NULL, &err) != MLXR_OK) return cli_fail(cli.program, &err);
    code = 0;
    for (size_t i = 0; i < n_args; i++)
        if (stop(daemon, names[i], &err) != MLXR_OK) code = cli_fail(cli.program, &err);
    daemon_close(daemon);
    return code;
}
