/* mlxctl store export NAME DIR */
#include "mlxctl.h"
#include "store_ui.h"

int cmd_store_export(int argc, char **argv)
{
    bool json = false, oci = false;
    const struct cli_option options[] = {
        {"oci", CLI_FLAG, NULL, &oci, 0, 0, "as an OCI image layout, which other tools read too"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store export smollm2 ./smollm2", "a model as a folder, for MLX or any other program", NULL},
        {"mlxctl store export smollm2 ./layout --oci && mlxctl store import ./layout copy",
         "as an OCI image layout, and back", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store export",
        .synopsis = "NAME DIR [--oci] [--json]",
        .summary = "Writes a model's files to DIR under their own names. DIR is made, and must be empty.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name dir",
    };
    const char *args[2];
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter;
    size_t n_args;
    char text[4200];
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, "NAME and DIR are needed");
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    st = mlxr_store_export(store, args[0], args[1], oci, &meter.job, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    snprintf(text, sizeof text, "exported %s to %s", args[0], args[1]);
    st = store_print_result(json_pack("{ss ss sb}", "name", args[0], "dir", args[1], "oci", oci), json, text,
                            &err);
done:
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
