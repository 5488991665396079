/* mlxctl store verify [NAME...] */
#include "mlxctl.h"
#include "store_ui.h"

enum { MAX_NAMES = 1024 };

struct findings {
    report_json json;
    json_t *list;
    bool as_json;
    struct meter *meter;
};

static void on_finding(const char *name, const char *file, const char *tensor, const char *text,
                       bool repaired, void *ud)
{
    struct findings *f = ud;
    mlxr_buf line = {0};

    if (f->as_json) {
        json_t *o = report_add(&f->json, f->list, json_object());
        report_put(&f->json, o, "name", report_string(name ? name : ""));
        report_put(&f->json, o, "file", file ? report_string(file) : json_null());
        report_put(&f->json, o, "tensor", tensor ? report_string(tensor) : json_null());
        report_put(&f->json, o, "text", report_string(text));
        report_put(&f->json, o, "repaired", json_boolean(repaired));
        return;
    }
    meter_end(f->meter);
    if (cli_colours(stdout)) mlxr_buf_str(&line, repaired ? "\033[32m" : "\033[31m");
    mlxr_buf_str(&line, repaired ? "repaired" : "bad");
    if (cli_colours(stdout)) mlxr_buf_str(&line, "\033[0m");
    mlxr_buf_str(&line, repaired ? "  " : "       ");
    report_clean(&line, name ? name : "");
    if (file) {
        mlxr_buf_str(&line, ": ");
        report_clean(&line, file);
    }
    if (tensor) {
        mlxr_buf_str(&line, ": ");
        report_clean(&line, tensor);
    }
    mlxr_buf_str(&line, ": ");
    report_clean(&line, text);
    if (!line.failed) printf("%s\n", line.data);
    fflush(stdout);
    mlxr_buf_clear(&line);
}

static mlxr_status print(struct findings *f, const mlxr_store_verify_result *v, bool deep, mlxr_error *err)
{
    report_json *r = &f->json;
    char read[32], fetched[32];

    if (f->as_json) {
        report_put_count(r, r->root, "models", v->n_models);
        report_put_count(r, r->root, "files", v->n_files);
        report_put_count(r, r->root, "read_bytes", v->read_bytes);
        report_put_count(r, r->root, "fetched_bytes", v->fetched_bytes);
        report_put_count(r, r->root, "bad", v->n_bad);
        report_put_count(r, r->root, "repaired", v->n_repaired);
        return report_write_json(r, err);
    }
    if (cli_quiet()) return MLXR_OK;
    printf("%zu model%s, %zu file%s: ", v->n_models, v->n_models == 1 ? "" : "s", v->n_files,
           v->n_files == 1 ? "" : "s");
    if (v->n_bad == 0)
        fputs("all whole", stdout);
    else
        printf("%zu bad, %zu of them repaired", v->n_bad, v->n_repaired);
    if (deep) printf(", %s read", words_size(read, v->read_bytes));
    if (v->fetched_bytes) printf(", %s fetched", words_size(fetched, v->fetched_bytes));
    putchar('\n');
    return MLXR_OK;
}

int cmd_store_verify(int argc, char **argv)
{
    enum { N_OWN = 3, N_OPTIONS = N_OWN + REMOTE_CLI_N_OPTIONS - REMOTE_CLI_N_HUB };
    mlxr_store_verify_options verify = mlxr_store_verify_options_default();
    struct findings f = {0};
    struct remote_cli remote;
    struct cli_option remotes[REMOTE_CLI_N_OPTIONS],
        table[N_OPTIONS] = {
            {"deep", CLI_FLAG, NULL, &verify.deep, 0, 0,
             "read every byte; without it sizes, headers and offsets"},
            {"repair", CLI_FLAG, NULL, &verify.repair, 0, 0,
             "fetch what is bad again from where the model came from, and only that"},
            {"json", CLI_FLAG, NULL, &f.as_json, 0, 0, "as one JSON object with \"findings\""},
        };
    static const struct cli_example examples[] = {
        {"mlxctl store verify", "every model, in moments", NULL},
        {"mlxctl store verify --deep smollm2", "every byte of one", NULL},
        {"mlxctl store verify --deep --repair", "mend what is damaged from the hub or the registry", NULL},
    };
    static const struct cli_exit exits[] = {{0, "everything is whole, or was repaired"},
                                            {1, "something is bad, or an error"}};
    const struct cli cli = {
        .program = "mlxctl store verify",
        .synopsis = "[NAME...] [--deep] [--repair] [--json]",
        .summary = "Looks whether models are whole: every model, or those named. A line for each thing that "
                   "is wrong, with "
                   "the model, the file and the tensor it is in; then a line that counts.\n\n"
                   "Keys of --json: models, files, read_bytes, fetched_bytes, bad, repaired, and findings, "
                   "each with name, "
                   "file, tensor, text, repaired.",
        .options = table,
        .n_options = N_OPTIONS,
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .exits = exits,
        .n_exits = MLXR_COUNT(exits),
        .arguments = "name...",
    };
    const char *args[MAX_NAMES];
    mlxr_store_verify_result result = {0};
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    struct meter meter;
    size_t n_args;
    int code;

    remote_cli_init(&remote);
    remote_cli_table(remotes, &remote);
    memcpy(table + N_OWN, remotes + REMOTE_CLI_N_HUB, (N_OPTIONS - N_OWN) * sizeof *table);
    if (!cli_parse(&cli, argc, argv, args, MAX_NAMES, &n_args, &code)) return code;
    f.json.root = json_object();
    f.list = report_put(&f.json, f.json.root, "findings", json_array());
    f.meter = &meter;
    verify.remote = &remote.options;
    verify.on_finding = on_finding;
    verify.ud = &f;
    if ((st = remote_cli_finish(&remote, &err)) != MLXR_OK) goto done;
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    meter_begin(&meter);
    meter.quiet |= !meter.terminal || f.as_json; /* a pipe wants what is bad, not what is whole */
    st = mlxr_store_verify(&result, store, n_args ? args : NULL, n_args, &verify, &meter.job, &err);
    meter_end(&meter);
    if (st == MLXR_OK) st = print(&f, &result, verify.deep, &err);
done:
    json_decref(f.json.root);
    mlxr_store_close(store);
    remote_cli_clear(&remote);
    if (st != MLXR_OK) return cli_store_fail(cli.program, &err);
    return result.n_bad > result.n_repaired ? CLI_EXIT_FAILED : 0;
}
