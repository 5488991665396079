/* mlxctl run MODEL [PROMPT]: the answer alone on standard output. */
#include <unistd.h>

#include "../generate.h"
#include "mlxctl.h"

int cmd_run(int argc, char **argv)
{
    struct generate_options g;
    struct cli_option table[GENERATE_N_OPTIONS + DAEMON_N_OPTIONS];
    static const struct cli_example examples[] = {
        {"mlxctl run smollm2 'Why is the sky blue?'", "an answer, as it comes", NULL},
        {"mlxctl run smollm2 'Sum this up:' < text.txt", "what is piped in stands behind the prompt", NULL},
        {"mlxctl run smollm2 'Someone made up' --format schema.json --max-tokens 40",
         "an answer that a JSON Schema describes", NULL},
        {"mlxctl run SmolLM2-135M-Instruct-4bit Hello --temperature 0.8 --seed 1 --json",
         "a model folder; events as JSON lines", NULL},
        {"mlxctl run any Hello --runner mock",
         "no model: the same words each time, for scripts that are tried out", NULL},
        {"mlxctl run smollm2 Hello --host 127.0.0.1:11434", "asks a daemon", "daemon"},
    };
    const struct cli cli = {
        .program = "mlxctl run",
        .synopsis = "MODEL [PROMPT] [options]",
        .summary = "Streams a model's answer to a prompt. MODEL is a folder, an id in the model-paths file "
                   "or a name of the store; with --runner mock any word. Without PROMPT, or with -, the "
                   "prompt is read from standard input; what is piped in beside a PROMPT stands behind it. "
                   "Ctrl-C stops the answer (exit code 130). A daemon that --host or the environment names, "
                   "or that serves the store, answers instead of this process (mlxctl ps).",
        .options = table,
        .n_options = MLXR_COUNT(table),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model none",
    };
    const char *args[2] = {0};
    size_t n_args;
    int code;

    generate_options_init(&g, cli.program);
    generate_option_table(table, &g);
    daemon_option_table(table + GENERATE_N_OPTIONS, &g.model);
    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (!g.model.model && n_args > 0) {
        g.model.model = args[0];
        args[0] = args[1];
        n_args--;
    }
    if (!g.model.model) return cli_usage(&cli, "MODEL is missing");
    if (g.model.host && g.model.local) return cli_usage(&cli, "--host and --local are both given");
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
