/* mlxctl store rm (rm) NAME... */
#include "mlxctl.h"
#include "store_ui.h"

enum { MAX_NAMES = 1024 };

int cmd_store_rm(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0,
         "as one JSON object: {\"removed\": [{\"name\", \"freed_bytes\"}]}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl rm smollm2", "a model, and the files that no other model has", NULL},
        {"mlxctl rm tiny mlx-community/Qwen3-4B-4bit", "two of them", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store rm",
        .synopsis = "NAME... [--json]",
        .summary =
            "Removes models: their names, and the files that no other model has. A model may also be named "
            "by "
            "its digest (sha256: and at least 8 digits). Files outside the store (import --link) stay. What "
            "cannot be removed is told, and the rest goes on. Also: mlxctl rm.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name...",
    };
    const char *args[MAX_NAMES];
    report_json r = {0};
    json_t *list;
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    uint64_t freed = 0;
    int code;

    if (!cli_parse(&cli, argc, argv, args, MAX_NAMES, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "NAME is needed");
    if (cli_store_open(&store, cli.program, &err) != MLXR_OK) return cli_fail(cli.program, &err);
    r.root = json_object();
    list = report_put(&r, r.root, "removed", json_array());
    code = 0;
    for (size_t i = 0; i < n_args; i++) {
        uint64_t bytes = 0;
        char words[32];
        if (mlxr_store_remove(store, args[i], &bytes, &err) != MLXR_OK) {
            code = cli_store_fail(cli.program, &err);
            continue;
        }
        freed += bytes;
        if (json) {
            json_t *o = report_add(&r, list, json_object());
            report_put(&r, o, "name", report_string(args[i]));
            report_put_count(&r, o, "freed_bytes", bytes);
        } else if (!cli_quiet()) {
            printf("removed %s: %s freed\n", args[i], words_size(words, bytes));
        }
    }
    report_put_count(&r, r.root, "freed_bytes", freed);
    st = json ? report_write_json(&r, &err) : MLXR_OK;
    json_decref(r.root);
    mlxr_store_close(store);
    return st == MLXR_OK ? code : cli_fail(cli.program, &err);
}
