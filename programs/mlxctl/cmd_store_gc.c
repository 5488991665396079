/* mlxctl store gc */
#include "mlxctl.h"
#include "store_ui.h"

int cmd_store_gc(int argc, char **argv)
{
    bool json = false;
    int64_t grace = mlxr_store_options_default().grace_seconds;
    const struct cli_option options[] = {
        {"grace", CLI_INT, "SECONDS", &grace, 0, 1e9, "leave files that are younger than this (3600)"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object: {\"files\", \"freed_bytes\", \"kept\"}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store gc", "what interrupted calls have left", NULL},
        {"mlxctl store gc --grace 0", "also what was left a moment ago", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store gc",
        .synopsis = "[--grace SECONDS] [--json]",
        .summary =
            "Removes files that no model has and what dead processes left: unfinished downloads, temporary "
            "files. What a call that runs now wants stays, whatever its age.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    mlxr_store_gc_result result = {0};
    report_json r = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter;
    char freed[32];
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, NULL, 0, &n_args, &code)) return code;
    if ((st = cli_store_open_grace(&store, cli.program, grace, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    st = mlxr_store_gc(&result, store, &meter.job, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    if (json) {
        r.root = json_object();
        report_put_count(&r, r.root, "files", result.n_files);
        report_put_count(&r, r.root, "freed_bytes", result.freed_bytes);
        report_put_count(&r, r.root, "kept", result.n_kept);
        st = report_write_json(&r, &err);
        json_decref(r.root);
    } else if (!cli_quiet()) {
        printf("%zu file%s removed, %s freed", result.n_files, result.n_files == 1 ? "" : "s",
               words_size(freed, result.freed_bytes));
        if (result.n_kept) printf("; %zu left alone: young, or wanted by a call that runs", result.n_kept);
        putchar('\n');
    }
done:
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}
