/* mlxctl: the table of subcommands. */
#include "mlxctl.h"

#include <stdio.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", cmd_run, "answer one prompt"},
    {"chat", cmd_chat, "talk with a model"},
    {"embed", cmd_embed, "vectors of texts, JSONL"},
    {"perplexity", cmd_perplexity, "how well a model foretells a text"},
    {"show", cmd_show, "what a model folder holds, and the memory it takes"},
    {"doctor", cmd_doctor, "what is wrong with a model folder, or here"},
    {"tokenize", cmd_tokenize, "text to ids and back, JSONL"},
    {"render", cmd_render, "chat templates, JSONL"},
    {"grammar", cmd_grammar, "what a schema or a grammar lets an answer be, JSONL"},
    {"logits", cmd_logits, "logits or greedy continuations of ids, JSONL"},
    {"bench", cmd_bench, "how fast a model runs here"},
    {"import-gguf", cmd_import_gguf, "turn a GGUF file into a model folder"},
};

static void print_help(FILE *to)
{
    fprintf(to, "usage: mlxctl COMMAND [ARGUMENTS]\n\ncommands:\n");
    for (size_t i = 0; i < MLXR_COUNT(commands); i++)
        fprintf(to, "  %-14s%s\n", commands[i].name, commands[i].help);
    fprintf(to, "\nmlxctl COMMAND --help tells more. mlxctl --version prints the version.\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        printf("mlxctl %s\n", mlxr_version());
        return 0;
    }
    for (size_t i = 0; i < MLXR_COUNT(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (argc > 1) fprintf(stderr, "mlxctl: there is no command \"%s\"\n", name);
    print_help(stderr);
    return CLI_EXIT_USAGE;
}
