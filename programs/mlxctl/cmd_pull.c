/* mlxctl pull NAME */
#include <stdlib.h>

#include "mlxctl.h"
#include "store_ui.h"

int cmd_pull(int argc, char **argv)
{
    enum { N_OWN = 2, N_OPTIONS = N_OWN + REMOTE_CLI_N_OPTIONS };
    const char *as = NULL;
    bool json = false;
    struct remote_cli remote;
    struct cli_option table[N_OPTIONS] = {
        {"as", CLI_STRING, "NAME", &as, 0, 0, "what it is called here (default: the same)"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl pull mlx-community/Qwen3-4B-4bit", "a model of Hugging Face's hub", "hub"},
        {"mlxctl pull mlx-community/Qwen3-4B-4bit --revision main --as qwen",
         "... at a revision, under a name of your own", "hub"},
        {"mlxctl pull localhost:5000/team/smollm2:latest", "a model of an OCI registry", "registry"},
    };
    const struct cli cli = {
        .program = "mlxctl pull",
        .synopsis = "NAME [--as NAME] [options]",
        .summary =
            "Brings a model into the store: org/repo[:revision] from a Hugging Face hub (HF_ENDPOINT, "
            "HF_TOKEN), "
            "host/repository[:tag] from an OCI registry, where the first part has a dot or a colon or is "
            "localhost. Only files that a runtime needs are fetched, and only those the store has not; each "
            "is "
            "checked by its digest. A pull that was stopped, or killed, goes on where it was when it is "
            "called again.\n\n"
            "Registries are logged into with --user and --password-stdin, else with what docker, podman or "
            "skopeo "
            "login wrote down (REGISTRY_AUTH_FILE, DOCKER_CONFIG). With --json: lines "
            "{\"event\": \"progress\"}, at the end {\"event\": \"result\", \"name\", \"digest\", "
            "\"total_bytes\", \"moved_bytes\", \"present_bytes\"} or {\"event\": \"error\", \"error\"}.",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    const char *args[1];
    char *name = NULL;
    mlxr_transfer moved = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter;
    size_t n_args;
    int code;

    remote_cli_init(&remote);
    remote_cli_table(table + N_OWN, &remote);
    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "NAME is needed");
    if ((st = remote_cli_finish(&remote, &err)) != MLXR_OK) goto done;
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    st = mlxr_store_pull(&moved, store, args[0], as, &remote.options, &meter.job, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    name = store_display_name(as ? as : args[0]);
    st = store_print_transfer("pulled", name ? name : args[0], &moved, json, &err);
done:
    free(name);
    mlxr_store_close(store);
    remote_cli_clear(&remote);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
