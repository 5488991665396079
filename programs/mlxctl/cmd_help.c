/* mlxctl help [COMMAND]: the help text of a command; --json: the table of all commands, as tests and tools take it. */
#include "mlxctl.h"
#include "report.h"

static json_t *option_json(report_json *r, const struct cli_option *o)
{
    static const char *const kinds[] = {"flag", "string", "list", "int", "real", "choice"};
    json_t *j = json_object();

    report_put(r, j, "name", json_string(o->name));
    report_put(r, j, "kind", json_string(kinds[o->kind]));
    if (o->value) report_put(r, j, "value", json_string(o->value));
    report_put(r, j, "help", json_string(o->help));
    return j;
}

static void put_text(report_json *r, json_t *o, const char *key, const char *text)
{
    if (text) report_put(r, o, key, json_string(text));
}

struct dump {
    report_json json;
    json_t *command; /* of the one that is described, borrowed */
};

static void dump_table(const struct cli *cli, void *ud)
{
    struct dump *d = ud;
    report_json *r = &d->json;
    json_t *o = d->command, *list;
    struct cli_exit e;

    put_text(r, o, "program", cli->program);
    put_text(r, o, "synopsis", cli->synopsis);
    put_text(r, o, "summary", cli->summary);
    put_text(r, o, "arguments", cli->arguments);
    list = report_put(r, o, "options", json_array());
    for (size_t i = 0; i < cli->n_options; i++) report_add(r, list, option_json(r, &cli->options[i]));
    list = report_put(r, o, "examples", json_array());
    for (size_t i = 0; i < cli->n_examples; i++) {
        json_t *x = report_add(r, list, json_object());
        put_text(r, x, "line", cli->examples[i].line);
        put_text(r, x, "help", cli->examples[i].help);
        put_text(r, x, "needs", cli->examples[i].needs);
    }
    list = report_put(r, o, "exit_codes", json_array());
    for (size_t i = 0; cli_exit_at(cli, i, &e); i++) {
        json_t *x = report_add(r, list, json_object());
        report_put(r, x, "code", json_integer(e.code));
        put_text(r, x, "help", e.help);
    }
}

static mlxr_status dump(mlxr_error *err)
{
    struct dump d = {.json = {.root = json_object()}};
    const struct cli_option *globals;
    const struct command *c;
    size_t n_globals = cli_globals(&globals);
    json_t *list = report_put(&d.json, d.json.root, "commands", json_array());
    mlxr_status st;

    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        d.command = report_add(&d.json, list, json_object());
        put_text(&d.json, d.command, "name", c->name);
        put_text(&d.json, d.command, "alias", c->alias);
        put_text(&d.json, d.command, "help", c->help);
        put_text(&d.json, d.command, "group", command_group_title(c->group));
        command_describe(c, dump_table, &d);
    }
    list = report_put(&d.json, d.json.root, "options", json_array());
    for (size_t i = 0; i < n_globals; i++) report_add(&d.json, list, option_json(&d.json, &globals[i]));
    st = report_write_json(&d.json, err);
    json_decref(d.json.root);
    return st;
}

static void print(const struct cli *cli, void *ud)
{
    cli_print_help(cli, ud);
}

int cmd_help(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "the table of all commands as one JSON object"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl help store import", "how models are taken into the store", NULL},
        {"mlxctl help --json | grep -c '\"name\"'", "every command with its options, for programs", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl help",
        .synopsis = "[COMMAND] [--json]",
        .summary = "What a command does, its options, examples and exit codes; without COMMAND the list of "
                   "commands.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "command...",
    };
    const char *args[2];
    const struct command *c;
    mlxr_error err = {0};
    char name[128];
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (json) return dump(&err) == MLXR_OK ? 0 : cli_fail(cli.program, &err);
    if (n_args == 0) {
        command_print_help(NULL, stdout);
        return 0;
    }
    snprintf(name, sizeof name, "%s%s%s", args[0], n_args > 1 ? " " : "", n_args > 1 ? args[1] : "");
    if ((c = command_find(name)) != NULL) {
        command_describe(c, print, stdout);
        return 0;
    }
    for (size_t i = 0; (c = command_at(i)) != NULL && n_args == 1; i++) {
        size_t n = strlen(name);
        if (strncmp(c->name, name, n) != 0 || c->name[n] != ' ') continue;
        command_print_help(name, stdout);
        return 0;
    }
    return cli_usage(&cli, "there is no command \"%s\"", name);
}
