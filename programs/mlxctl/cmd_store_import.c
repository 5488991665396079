/* mlxctl store import PATH [NAME] */
#include <stdlib.h>

#include "mlxctl.h"
#include "store_ui.h"

int cmd_store_import(int argc, char **argv)
{
    mlxr_store_import_options import = mlxr_store_import_options_default();
    bool json = false;
    const struct cli_option options[] = {
        {"link", CLI_FLAG, NULL, &import.link, 0, 0,
         "weights stay where they are, and their digests are written down; the model ends when they change"},
        {"copy", CLI_FLAG, NULL, &import.copy, 0, 0,
         "copies, never hard links: the files become the store's own"},
        {"requantize", CLI_FLAG, NULL, &import.requantize, 0, 0,
         "GGUF: types that no MLX form holds exactly are quantized anew (4 bits)"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store import SmolLM2-135M-Instruct-4bit", "a model folder, under the folder's name", NULL},
        {"mlxctl store import model.gguf team/assistant:8b", "a GGUF file, under a name of your own", NULL},
        {"mlxctl store import --link ~/.cache/huggingface/hub/models--org--repo/snapshots/main",
         "a model in a hub's cache, run where it lies; it is called org/repo", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store import",
        .synopsis = "DIR|FILE.gguf [NAME] [--link|--copy] [--requantize] [--json]",
        .summary =
            "Takes a model folder, a GGUF file or an OCI image layout into the store. Every file is hashed "
            "and "
            "kept by its digest, so that what the store has already takes no room again: as a reflink or a "
            "hard "
            "link where the file system can, else as a copy. A hard-linked file that is later changed in "
            "place "
            "changes in the store too (verify --deep finds it); --copy is safe from that. Without NAME the "
            "path's last part is the name, without .gguf. A model of that name is replaced.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "file none",
    };
    const char *args[2] = {0};
    char *name = NULL, *shown = NULL, *digest = NULL;
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter = {0};
    size_t n_args;
    char text[1024];
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "DIR or FILE.gguf is needed");
    if (import.link && import.copy) return cli_usage(&cli, "--link and --copy are both given");
    if (n_args > 1 && !(name = mlxr_strdup(args[1])))
        st = mlxr_fail_nomem(&err, "name");
    else
        st = name ? MLXR_OK : store_default_name(&name, args[0], &err);
    if (st != MLXR_OK || (st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    st = mlxr_store_import(&digest, store, args[0], name, &import, &meter.job, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    shown = store_display_name(name);
    snprintf(text, sizeof text, "imported %s: %s", shown ? shown : name, digest);
    st = store_print_result(json_pack("{ss? ss}", "name", shown, "digest", digest), json, text, &err);
done:
    mlxr_store_close(store);
    mlxr_free(digest);
    free(shown);
    free(name);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
