/* mlxctl run MODEL [PROMPT]: the answer alone on standard output. */
#include <unistd.h>

#include "../generate.h"
#include "mlxctl.h"

int cmd_run(int argc, char **argv)
{
    struct generate_options g;
    struct cli_option table[GENERATE_N_OPTIONS];
    const struct cli cli = {
        .program = "mlxctl run",
        .synopsis = "MODEL [PROMPT] [options]",
        .summary =
            "Streams a model's answer to a prompt. MODEL is a folder or an id in the model-paths file; with\n"
            "--runner mock any word. Without PROMPT, or with -, the prompt is read from standard input; what "
            "is\n"
            "piped in beside a PROMPT stands behind it. Ctrl-C stops the answer (exit code 130).",
        .options = table,
        .n_options = GENERATE_N_OPTIONS,
    };
    const char *args[2] = {0};
    size_t n_args;
    int code;

    generate_options_init(&g, cli.program);
    generate_option_table(table, &g);
    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (!g.model.model && n_args > 0) {
        g.model.model = args[0];
        args[0] = args[1];
        n_args--;
    }
    if (!g.model.model) return cli_usage(&cli, "MODEL is missing");
    if (n_args > 1) return cli_usage(&cli, "unexpected argument \"%s\"", args[1]);
    if (n_args > 0) {
        if (g.prompt) return cli_usage(&cli, "the prompt is given twice");
        g.prompt = args[0];
    }
    if (g.form.messages && g.prompt) return cli_usage(&cli, "PROMPT and --messages are both given");
    if (g.form.messages) g.prompt = "";
    if (!g.prompt) {
        if (isatty(STDIN_FILENO)) return cli_usage(&cli, "PROMPT is missing");
        g.prompt = "-";
    }
    g.append_stdin = !g.form.messages;
    return generate_run(&g);
}
