/* mlxctl push NAME [TARGET] */
#include "mlxctl.h"
#include "store_ui.h"

int cmd_push(int argc, char **argv)
{
    enum { N_OWN = 1, N_OPTIONS = N_OWN + REMOTE_CLI_N_OPTIONS - REMOTE_CLI_N_HUB };
    bool json = false;
    struct remote_cli remote;
    struct cli_option remotes[REMOTE_CLI_N_OPTIONS],
        table[N_OPTIONS] = {
            {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
        };
    static const struct cli_example examples[] = {
        {"mlxctl push smollm2 localhost:5000/team/smollm2", "a model to a team's registry", "registry"},
        {"mlxctl cp smollm2 localhost:5000/team/smollm2:1.0 && mlxctl push localhost:5000/team/smollm2:1.0",
         "by a name that says where it goes", "registry"},
    };
    const struct cli cli = {
        .program = "mlxctl push",
        .synopsis = "NAME [TARGET] [options]",
        .summary = "Sends a model to an OCI registry: to TARGET, host/repository[:tag], without it to where "
                   "its own name "
                   "says. Files that the registry has are not sent. A push that was stopped goes on with the "
                   "next one. "
                   "Logging in and --json are as with pull.",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name none",
    };
    const char *args[2];
    mlxr_transfer moved = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter;
    size_t n_args;
    int code;

    remote_cli_init(&remote);
    remote_cli_table(remotes, &remote);
    memcpy(table + N_OWN, remotes + REMOTE_CLI_N_HUB, (N_OPTIONS - N_OWN) * sizeof *table);
    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "NAME is needed");
    if ((st = remote_cli_finish(&remote, &err)) != MLXR_OK) goto done;
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    st = mlxr_store_push(&moved, store, args[0], n_args > 1 ? args[1] : NULL, &remote.options, &meter.job,
                         &err);
    meter_end(&meter);
    if (st == MLXR_OK)
        st = store_print_transfer("pushed", n_args > 1 ? args[1] : args[0], &moved, json, &err);
done:
    mlxr_store_close(store);
    remote_cli_clear(&remote);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
