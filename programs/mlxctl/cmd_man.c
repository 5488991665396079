/* mlxctl man [DIR]: manual pages out of the table of commands. Macros as man(7) has them. */
#include <ctype.h>
#include <stdlib.h>

#include "../mlxserve/mlxserve.h"
#include "base/fs.h"
#include "mlxctl.h"
#include "report.h"

/* ---- roff ---- */

/* Text within a line: nothing in it is taken for a request or an escape. */
static void text(mlxr_buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool first = i == 0 && (out->len == 0 || out->data[out->len - 1] == '\n');
        if (first && (s[i] == '.' || s[i] == '\'')) mlxr_buf_str(out, "\\&");
        if (s[i] == '\\')
            mlxr_buf_str(out, "\\e");
        else if (s[i] == '-')
            mlxr_buf_str(out, "\\-");
        else if (s[i] == '\'')
            mlxr_buf_str(out, "\\(aq");
        else if (s[i] == '`')
            mlxr_buf_str(out, "\\(ga");
        else if (s[i] == '^')
            mlxr_buf_str(out, "\\(ha");
        else if (s[i] == '~')
            mlxr_buf_str(out, "\\(ti");
        else
            mlxr_buf_char(out, s[i]);
    }
}

static void words(mlxr_buf *out, const char *s)
{
    text(out, s, strlen(s));
}

static void line(mlxr_buf *out, const char *s)
{
    words(out, s);
    mlxr_buf_char(out, '\n');
}

static void verbatim(mlxr_buf *out, const char *s)
{
    mlxr_buf_str(out, ".EX\n");
    line(out, s);
    mlxr_buf_str(out, ".EE\n");
}

/* Paragraphs and lines that stay as they are, as struct cli has them. */
static void paragraphs(mlxr_buf *out, const char *s)
{
    bool kept = false;

    while (*s) {
        size_t n = strcspn(s, "\n");
        bool keep = *s == ' ';
        if (keep != kept) mlxr_buf_str(out, keep ? ".EX\n" : ".EE\n");
        kept = keep;
        if (n == 0) {
            mlxr_buf_str(out, ".PP\n");
        } else {
            text(out, s, n);
            mlxr_buf_char(out, '\n');
        }
        s += n + (s[n] == '\n');
    }
    if (kept) mlxr_buf_str(out, ".EE\n");
}

static void options(mlxr_buf *out, const struct cli_option *o, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mlxr_buf_printf(out, ".TP\n\\fB%s", o[i].name[1] ? "\\-\\-" : "\\-");
        words(out, o[i].name);
        mlxr_buf_str(out, "\\fR");
        if (o[i].value) {
            mlxr_buf_str(out, " \\fI");
            words(out, o[i].value);
            mlxr_buf_str(out, "\\fR");
        }
        mlxr_buf_char(out, '\n');
        line(out, o[i].help);
    }
}

/* ---- pages ---- */

/* "store list" -> "mlxctl-store-list" */
static void page_name(mlxr_buf *out, const char *command)
{
    mlxr_buf_str(out, "mlxctl-");
    for (; *command; command++) mlxr_buf_char(out, *command == ' ' ? '-' : *command);
}

static void heading(mlxr_buf *out, const char *page, const char *help)
{
    mlxr_buf_str(out, ".TH \"");
    for (const char *p = page; *p; p++) mlxr_buf_char(out, (char)toupper((unsigned char)*p));
    mlxr_buf_printf(out, "\" 1 \"\" \"mlxr %s\" \"mlxctl\"\n.SH NAME\n", mlxr_version());
    words(out, page);
    mlxr_buf_str(out, " \\- ");
    line(out, help);
}

struct page {
    mlxr_buf *out;
    const struct command *command;
    const char *name;
};

static void command_page(const struct cli *cli, void *ud)
{
    struct page *p = ud;
    mlxr_buf *out = p->out;
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    struct cli_exit e;

    heading(out, p->name, p->command->help);
    mlxr_buf_str(out, ".SH SYNOPSIS\n\\fB");
    words(out, cli->program);
    mlxr_buf_str(out, "\\fR ");
    line(out, cli->synopsis);
    mlxr_buf_str(out, ".SH DESCRIPTION\n");
    paragraphs(out, cli->summary);
    mlxr_buf_str(out, ".SH OPTIONS\n");
    options(out, cli->options, cli->n_options);
    if (cli->n_options) mlxr_buf_str(out, ".PP\nFor every command:\n");
    options(out, globals, n_globals);
    if (cli->n_examples) mlxr_buf_str(out, ".SH EXAMPLES\n");
    for (size_t i = 0; i < cli->n_examples; i++) {
        if (i) mlxr_buf_str(out, ".PP\n");
        line(out, cli->examples[i].help);
        mlxr_buf_str(out, ".PP\n");
        verbatim(out, cli->examples[i].line);
    }
    mlxr_buf_str(out, ".SH \"EXIT STATUS\"\n");
    for (size_t i = 0; cli_exit_at(cli, i, &e); i++) {
        mlxr_buf_printf(out, ".TP\n%d\n", e.code);
        line(out, e.help);
    }
    mlxr_buf_str(out, ".SH \"SEE ALSO\"\n\\fBmlxctl\\fR(1)\n");
}

static void main_page(mlxr_buf *out)
{
    static const struct {
        const char *name, *help;
    } variables[] = {
        {"MLXR_HOME", "the store's folder, where --store does not say another; ~/.mlxr without it"},
        {"MLXR_CPU", "the CPU's kernels: vnni, avx512, avx2, dotprod, neon or baseline"},
        {"MLXR_MLX_LIB", "the MLX module's file"},
        {"HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME",
         "the hub that models are pulled from, and the token for it"},
        {"REGISTRY_AUTH_FILE, DOCKER_CONFIG", "where logins of registries are written down"},
        {"https_proxy, no_proxy", "proxies, as curl takes them"},
        {"NO_COLOR, COLUMNS", "no colours; how wide the terminal is"},
    };
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    const struct command *c;

    heading(out, "mlxctl", "models in MLX and Hugging Face folders: kept in a store, run, looked into");
    mlxr_buf_str(
        out, ".SH SYNOPSIS\n\\fBmlxctl\\fR \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n.SH DESCRIPTION\n"
             "mlxctl keeps language models in a content\\-addressed store, brings them from hubs and "
             "registries, runs "
             "them, and tells what is in them. Each command has a page of its own. Where a command takes\n"
             ".IR MODEL ,\n"
             "it is a model folder, an id in the model\\-paths file, or the name of a model of the store; an "
             "existing "
             "folder wins. Names are\n"
             ".IR [host/][namespace/]name[:tag] ;\n"
             "the tag is\n.I latest\nwhere none is said.\n");
    for (int g = 0; g < GROUP_HIDDEN; g++) {
        char title[64];
        snprintf(title, sizeof title, "%s", command_group_title((enum command_group)g));
        for (char *p = title; *p; p++) *p = (char)toupper((unsigned char)*p);
        mlxr_buf_printf(out, ".SH \"COMMANDS: %s\"\n", title);
        for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
            mlxr_buf name = {0};
            if ((int)c->group != g) continue;
            page_name(&name, c->name);
            mlxr_buf_str(out, ".TP\n\\fB");
            words(out, name.data ? name.data : "");
            mlxr_buf_str(out, "\\fR(1)\n");
            line(out, c->help);
            mlxr_buf_clear(&name);
        }
    }
    mlxr_buf_str(out, ".SH OPTIONS\n");
    options(out, globals, n_globals);
    mlxr_buf_str(out, ".TP\n\\fB\\-\\-version\\fR\nthe version\n.TP\n\\fB\\-\\-help\\fR\nthe list of "
                      "commands; behind a command "
                      "what it does\n.SH \"EXIT STATUS\"\n0 done, 1 an error, 2 wrong usage, 130 and 143 "
                      "stopped by a signal. "
                      "Errors are one line on standard error.\n.SH ENVIRONMENT\n");
    for (size_t i = 0; i < MLXR_COUNT(variables); i++) {
        mlxr_buf_str(out, ".TP\n");
        line(out, variables[i].name);
        line(out, variables[i].help);
    }
}

/* The i-th page into *out with its name; false past the end. */
static bool page_at(size_t i, mlxr_buf *name, mlxr_buf *out)
{
    const struct command *c = i ? command_at(i - 1) : NULL;

    if (i > 1 && !c && command_at(i - 2)) {
        struct page p = {out, command_find("serve"), "mlxserve"};
        char *argv[] = {(char *)(uintptr_t) "mlxserve", NULL};
        mlxr_buf_str(name, "mlxserve");
        cli_describe(command_page, &p);
        mlxserve_run("mlxserve", 1, argv);
        cli_describe(NULL, NULL);
        return true;
    }
    if (i && !c) return false;
    if (i == 0) {
        mlxr_buf_str(name, "mlxctl");
        main_page(out);
    } else if (c->alias) {
        page_name(name, c->name);
        mlxr_buf_str(out, ".so man1/");
        page_name(out, c->alias);
        mlxr_buf_str(out, ".1\n");
    } else if (c->group != GROUP_HIDDEN) {
        struct page p = {out, c, NULL};
        page_name(name, c->name);
        p.name = name->data ? name->data : "";
        command_describe(c, command_page, &p);
    }
    return true;
}

static mlxr_status write_pages(const char *dir, mlxr_error *err)
{
    mlxr_status st = mlxr_make_dirs(dir, err);
    bool more = true;

    for (size_t i = 0; st == MLXR_OK && more; i++) {
        mlxr_buf name = {0}, out = {0};
        char *path = NULL;
        more = page_at(i, &name, &out);
        st = mlxr_buf_check(&name, "man", err);
        if (st == MLXR_OK) st = mlxr_buf_check(&out, "man", err);
        if (st == MLXR_OK && out.len) {
            path = mlxr_asprintf("%s/%s.1", dir, name.data);
            st = path ? mlxr_file_write(path, out.data, out.len, err) : mlxr_fail_nomem(err, "man");
        }
        free(path);
        mlxr_buf_clear(&name);
        mlxr_buf_clear(&out);
    }
    return st;
}

/* Of "store list", "store-list" or "mlxctl-store-list". MLXR_E_NOT_FOUND: there is none. */
static mlxr_status print_page(const char *wanted, mlxr_error *err)
{
    mlxr_status st = MLXR_E_NOT_FOUND;
    bool more = true;

    for (size_t i = 0; st == MLXR_E_NOT_FOUND && more; i++) {
        mlxr_buf name = {0}, out = {0};
        more = page_at(i, &name, &out);
        if (name.data && out.len &&
            (strcmp(name.data, wanted) == 0 ||
             (strncmp(name.data, "mlxctl-", 7) == 0 && strcmp(name.data + 7, wanted) == 0)))
            st = report_write_text(&out, err);
        mlxr_buf_clear(&name);
        mlxr_buf_clear(&out);
    }
    if (st == MLXR_E_NOT_FOUND) mlxr_fail(err, st, "there is no page \"%s\"", wanted);
    return st;
}

int cmd_man(int argc, char **argv)
{
    const char *page = NULL;
    const struct cli_option table[] = {
        {"page", CLI_STRING, "PAGE", &page, 0, 0, "this one, to standard output (\"store-list\")"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl man ~/.local/share/man/man1", "all pages, where man finds them", NULL},
        {"mlxctl man --page store-list > page.1", "one of them; man -l page.1 shows it", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl man",
        .synopsis = "DIR | [--page PAGE]",
        .summary = "Writes the manual pages to DIR: mlxctl.1, mlxctl-store-list.1 ... Without DIR one page "
                   "to standard output: "
                   "mlxctl.1, or PAGE.",
        .options = table,
        .n_options = MLXR_COUNT(table),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "dir",
    };
    const char *args[1];
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (page && n_args > 0) return cli_usage(&cli, "DIR and --page are both given");
    st = n_args > 0 ? write_pages(args[0], &err) : print_page(page ? page : "mlxctl", &err);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
