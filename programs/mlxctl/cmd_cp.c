/* mlxctl store cp (cp) FROM TO */
#include <stdlib.h>

#include "mlxctl.h"
#include "store_ui.h"

int cmd_cp(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object: {\"from\", \"to\"}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl cp smollm2 team/assistant:1.0", "a second name; no file is copied", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store cp",
        .synopsis = "FROM TO [--json]",
        .summary =
            "Gives a model a second name, which takes no room. A model that has the name TO is replaced. "
            "Also: mlxctl cp.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name name",
    };
    const char *args[2];
    char *to = NULL;
    report_json r = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, "FROM and TO are needed");
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_copy(store, args[0], args[1], &err)) != MLXR_OK) goto done;
    to = store_display_name(args[1]);
    if (json) {
        r.root = json_pack("{ss ss?}", "from", args[0], "to", to);
        st = report_write_json(&r, &err);
        json_decref(r.root);
    } else if (!cli_quiet()) {
        printf("%s is %s too\n", args[0], to ? to : args[1]);
    }
done:
    free(to);
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}
