/* mlxctl create [NAME] -f FILE */
#include <stdlib.h>

#include "convert/convert.h"
#include "mlxctl.h"
#include "store_ui.h"

int cmd_create(int argc, char **argv)
{
    const char *file = NULL;
    bool json = false, offline = false;
    struct remote_cli remote;
    const struct cli_option options[] = {
        {"f", CLI_STRING, "FILE", &file, 0, 0, "the recipe or Modelfile (default: ./Modelfile)"},
        {"offline", CLI_FLAG, NULL, &offline, 0, 0,
         "a base that the store has not is an error; else it is pulled"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl create assistant -f recipe.yaml", "a model by a recipe", "recipe"},
        {"mlxctl create team/assistant:1.0 -f Modelfile",
         "... by an Ollama Modelfile whose TEMPLATE, if any, is Jinja", "recipe"},
    };
    const struct cli cli = {
        .program = "mlxctl create",
        .synopsis = "[NAME] [-f FILE] [--offline] [--json]",
        .summary =
            "Makes a model of the store from another one. FILE says from which, and what is different: "
            "quantization, an "
            "adapter's weights merged in, tokenizer, chat template, system text, default parameters, "
            "messages, "
            "licences. It is a recipe in YAML or JSON, or an Ollama Modelfile. Files that stay as they are "
            "in the base are "
            "shared with it, so that a model with another system text takes a few kilobytes.\n\n"
            "The base is a name of the store, a model folder, a GGUF file, or a name to pull as `mlxctl "
            "pull` "
            "does. Without NAME the recipe's is taken. A model of that name is replaced. Relative paths in "
            "FILE count from its "
            "folder. `mlxctl spec validate` tells what is wrong with a recipe without making anything.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    const char *args[1] = {0};
    char *dir = NULL, *name = NULL, *shown = NULL, *digest = NULL, text[1024];
    mlxr_create_options create = {0};
    mlxr_recipe recipe = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    struct meter meter;
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (!file) file = "Modelfile";
    remote_cli_init(&remote);
    if ((st = mlxr_recipe_read(&recipe, file, &err)) != MLXR_OK) goto done;
    if (n_args == 0 && !recipe.name) {
        code = cli_usage(&cli, "NAME is missing, and %s has none", file);
        mlxr_recipe_clear(&recipe);
        remote_cli_clear(&remote);
        return code;
    }
    if ((st = mlxr_recipe_name(&name, &recipe, n_args ? args[0] : NULL, &err)) != MLXR_OK) goto done;
    if (!(dir = mlxr_path_dirname(file))) {
        st = mlxr_fail_nomem(&err, file);
        goto done;
    }
    if ((st = remote_cli_finish(&remote, &err)) != MLXR_OK) goto done;
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    create.recipe_dir = dir;
    create.remote = offline ? NULL : &remote.options;
    create.job = &meter.job;
    create.log = cli_log(cli.program, false);
    st = mlxr_create(&digest, store, name, &recipe, &create, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    shown = store_display_name(name);
    snprintf(text, sizeof text, "created %s: %s", shown ? shown : name, digest);
    st = store_print_result(json_pack("{ss? ss}", "name", shown, "digest", digest), json, text, &err);
done:
    mlxr_store_close(store);
    mlxr_recipe_clear(&recipe);
    remote_cli_clear(&remote);
    mlxr_free(digest);
    free(shown);
    free(name);
    free(dir);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
