/* mlx-demo: streams one answer from one model. */
#include <stdio.h>

#include "generate.h"

int main(int argc, char **argv)
{
    struct generate_options g;
    struct cli_option table[GENERATE_N_OPTIONS];
    const struct cli cli = {
        .program = "mlx-demo",
        .synopsis = "[--runner mock|local] [--model ID] --prompt TEXT [options]",
        .summary = "Streams a model's answer to a prompt, then a line \"[done] N tokens ...\" with times.\n"
                   "Ctrl-C cancels. Exit code: 0, 1 after an error, 2 for wrong usage, 130 when cancelled.",
        .options = table,
        .n_options = GENERATE_N_OPTIONS,
    };
    size_t n_args;
    int code;

    generate_options_init(&g, cli.program);
    generate_option_table(table, &g);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("mlx-demo %s\n", mlxr_version());
        return 0;
    }
    if (!cli_parse(&cli, argc, argv, NULL, 0, &n_args, &code)) return code;
    if (!g.prompt) return cli_usage(&cli, "--prompt is missing");
    g.done_line = true;
    return generate_run(&g);
}
