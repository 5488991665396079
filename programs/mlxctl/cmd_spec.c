/* mlxctl spec validate FILE..., mlxctl spec pack FILE OUT_DIR */
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "convert/convert.h"
#include "mlxctl.h"
#include "store_ui.h"

/* ---- validate ---- */

struct validation {
    json_t *faults; /* texts */
    bool failed;    /* out of memory */
};

static void add_fault(const char *message, void *ud)
{
    struct validation *v = ud;

    if (json_array_append_new(v->faults, report_string(message)) != 0) v->failed = true;
}

static void add_error(struct validation *v, const char *file, const mlxr_error *err)
{
    char *text = mlxr_asprintf("%s: %s", file, err->message);

    if (text)
        add_fault(text, v);
    else
        v->failed = true;
    free(text);
}

static void check_path(struct validation *v, const char *file, const char *dir, const char *key,
                       const char *path)
{
    char *whole = path ? mlxr_path_join(dir, path) : NULL;
    mlxr_error err;

    if (!path) return;
    if (!whole) {
        v->failed = true;
    } else if (access(whole, F_OK) != 0) {
        mlxr_fail(&err, MLXR_E_NOT_FOUND, "%s: there is no %s", key, whole);
        add_error(v, file, &err);
    }
    free(whole);
}

static void check_template(struct validation *v, const char *file, const char *dir, const mlxr_recipe *r)
{
    char *path = r->template_path ? mlxr_path_join(dir, r->template_path) : NULL;
    mlxr_buf held = {0};
    mlxr_template *t = NULL;
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    if (r->template_path && !path) {
        v->failed = true;
        return;
    }
    if (path)
        st = mlxr_file_read(&held, path, 16 << 20, &err);
    else if (r->template_text)
        mlxr_buf_str(&held, r->template_text);
    if (st == MLXR_OK && (path || r->template_text))
        st = mlxr_template_create(&t, held.data ? held.data : "", held.len, "template", &err);
    if (st != MLXR_OK) add_error(v, file, &err);
    mlxr_template_free(t);
    mlxr_buf_clear(&held);
    free(path);
}

/* What can be told without the base. */
static void validate(struct validation *v, const char *file)
{
    char *dir = mlxr_path_dirname(file);
    mlxr_recipe r;

    if (!dir) {
        v->failed = true;
        return;
    }
    if (mlxr_recipe_read_with(&r, file, add_fault, v, NULL) == MLXR_OK) {
        check_path(v, file, dir, "base", r.base_path);
        check_path(v, file, dir, "tokenizer", r.tokenizer);
        check_path(v, file, dir, "adapter", r.adapter);
        check_template(v, file, dir, &r);
    }
    mlxr_recipe_clear(&r);
    free(dir);
}

int cmd_spec_validate(int argc, char **argv)
{
    enum { MAX_FILES = 256 };
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0,
         "as one JSON object: {\"files\": [{\"file\", \"ok\", \"faults\"}]}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl spec validate recipe.yaml Modelfile", "what is wrong with them, with line and column",
         "recipe"},
    };
    static const struct cli_exit exits[] = {{1, "some file has a fault"}};
    const struct cli cli = {
        .program = "mlxctl spec validate",
        .synopsis = "FILE... [--json]",
        .summary = "Reads recipes and Modelfiles and tells what is wrong with them, a line a fault: "
                   "FILE:LINE:COLUMN and what. Paths "
                   "are looked for, templates compiled; the base itself is not opened, and nothing is made.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .exits = exits,
        .n_exits = MLXR_COUNT(exits),
        .arguments = "file...",
    };
    const char *args[MAX_FILES];
    report_json r = {0};
    json_t *files;
    mlxr_buf text = {0};
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args, n_faulty = 0;
    int code;

    if (!cli_parse(&cli, argc, argv, args, MAX_FILES, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "FILE is needed");
    r.root = json_object();
    files = report_put(&r, r.root, "files", json_array());
    for (size_t i = 0; i < n_args; i++) {
        struct validation v = {.faults = json_array()};
        json_t *one = report_add(&r, files, json_object());
        size_t n;
        validate(&v, args[i]);
        n = json_array_size(v.faults);
        n_faulty += n > 0;
        if (!json)
            for (size_t k = 0; k < n; k++)
                fprintf(stderr, "%s\n", json_string_value(json_array_get(v.faults, k)));
        if (n == 0) mlxr_buf_printf(&text, "%s: ok\n", args[i]);
        report_put(&r, one, "file", report_string(args[i]));
        report_put(&r, one, "ok", json_boolean(n == 0));
        report_put(&r, one, "faults", v.faults);
        if (v.failed) r.failed = true;
    }
    if (r.failed)
        st = mlxr_fail_nomem(&err, "spec validate");
    else if (json)
        st = report_write_json(&r, &err);
    else
        st = text.len && !cli_quiet() ? report_write_text(&text, &err) : MLXR_OK;
    json_decref(r.root);
    mlxr_buf_clear(&text);
    if (st != MLXR_OK) return cli_fail(cli.program, &err);
    return n_faulty ? CLI_EXIT_FAILED : 0;
}

/* ---- pack ---- */

/* A store of its own beside what is written, on the same file system. */
static mlxr_status make_store(mlxr_store **out, char **root, const char *out_dir, mlxr_error *err)
{
    char *parent = mlxr_path_dirname(out_dir);
    mlxr_status st;

    if (!parent || !(*root = mlxr_asprintf("%s/.mlxr-pack-XXXXXX", parent))) {
        st = mlxr_fail_nomem(err, "spec pack");
    } else if ((st = mlxr_make_dirs(parent, err)) == MLXR_OK && !mkdtemp(*root)) {
        st = mlxr_fail(err, MLXR_E_IO, "spec pack: %s: a folder to work in cannot be made here", parent);
        free(*root);
        *root = NULL;
    }
    free(parent);
    return st == MLXR_OK ? mlxr_store_open(out, *root, NULL, err) : st;
}

int cmd_spec_pack(int argc, char **argv)
{
    const char *name = NULL;
    bool json = false, offline = false;
    struct remote_cli remote;
    const struct cli_option options[] = {
        {"name", CLI_STRING, "NAME", &name, 0, 0,
         "the model's name (default: the recipe's, else OUT_DIR's last part)"},
        {"offline", CLI_FLAG, NULL, &offline, 0, 0,
         "a base that the store has not is an error; else it is pulled"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "progress and result as JSON, one object a line"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl spec pack recipe.yaml ./assistant",
         "a folder that `mlxctl store import`, skopeo and others read", "recipe"},
    };
    const struct cli cli = {
        .program = "mlxctl spec pack",
        .synopsis = "FILE OUT_DIR [--name NAME] [--offline] [--json]",
        .summary = "Makes a recipe's model as `mlxctl create` does, and writes it to OUT_DIR as an OCI image "
                   "layout instead of into the "
                   "store, which is only looked into for the base. OUT_DIR is made and must be empty. While "
                   "it works, a folder "
                   ".mlxr-pack-* lies beside it.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "file dir",
    };
    const char *args[2] = {0};
    char *dir = NULL, *out = NULL, *root = NULL, *own = NULL, *digest = NULL, text[1024];
    mlxr_create_options create = {0};
    mlxr_recipe recipe = {0};
    mlxr_store *store = NULL, *bases = NULL;
    mlxr_error err = {0};
    struct meter meter;
    mlxr_status st;
    size_t n_args, n;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, "FILE and OUT_DIR are needed");
    remote_cli_init(&remote);
    if ((st = mlxr_recipe_read(&recipe, args[0], &err)) != MLXR_OK) goto done;
    n = strlen(args[1]);
    while (n > 1 && args[1][n - 1] == '/') n--;
    dir = mlxr_path_dirname(args[0]);
    out = mlxr_strndup(args[1], n);
    if (!dir || !out) {
        st = mlxr_fail_nomem(&err, args[0]);
        goto done;
    }
    if (name || recipe.name)
        st = mlxr_recipe_name(&own, &recipe, name, &err);
    else
        st = mlxr_recipe_name(&own, &recipe, strrchr(out, '/') ? strrchr(out, '/') + 1 : out, &err);
    if (st != MLXR_OK) goto done;
    if ((st = remote_cli_finish(&remote, &err)) != MLXR_OK) goto done;
    if ((st = cli_store_open(&bases, cli.program, &err)) != MLXR_OK) goto done;
    if ((st = make_store(&store, &root, out, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.json = json;
    create.recipe_dir = dir;
    create.remote = offline ? NULL : &remote.options;
    create.bases = bases;
    create.job = &meter.job;
    create.log = cli_log(cli.program, false);
    st = mlxr_create(&digest, store, own, &recipe, &create, &err);
    if (st == MLXR_OK) st = mlxr_store_export(store, digest, out, true, &meter.job, &err);
    meter_end(&meter);
    if (st != MLXR_OK) goto done;
    snprintf(text, sizeof text, "packed %s into %s: %s", own, out, digest);
    st = store_print_result(json_pack("{ss ss ss}", "name", own, "dir", out, "digest", digest), json, text,
                            &err);
done:
    mlxr_store_close(store);
    mlxr_store_close(bases);
    if (root) mlxr_io_remove_tree(NULL, root, NULL);
    mlxr_recipe_clear(&recipe);
    remote_cli_clear(&remote);
    mlxr_free(digest);
    free(root);
    free(own);
    free(out);
    free(dir);
    return st == MLXR_OK ? 0 : store_print_failure(cli.program, json, &err);
}
