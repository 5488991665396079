/* mlxctl: the table of commands, and the way to one of them. */
#include "mlxctl.h"

#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    {"pull", cmd_pull, GROUP_MODELS, "bring a model from a hub or a registry"},
    {"push", cmd_push, GROUP_MODELS, "send a model to a registry"},
    {"store import", cmd_store_import, GROUP_MODELS, "take a folder or a GGUF file into the store"},
    {"store export", cmd_store_export, GROUP_MODELS, "write a model out as a folder"},
    {"create", cmd_create, GROUP_MODELS, "make a model from another by a recipe or a Modelfile"},
    {"store list", cmd_store_list, GROUP_MODELS, "the models of the store (or: list, ls)"},
    {"list", cmd_store_list, GROUP_HIDDEN, NULL, "store list"},
    {"ls", cmd_store_list, GROUP_HIDDEN, NULL, "store list"},
    {"store show", cmd_store_show, GROUP_MODELS, "one of them: digest, files, source"},
    {"store cp", cmd_cp, GROUP_MODELS, "a second name for a model (or: cp)"},
    {"cp", cmd_cp, GROUP_HIDDEN, NULL, "store cp"},
    {"store rm", cmd_store_rm, GROUP_MODELS, "remove models (or: rm)"},
    {"rm", cmd_store_rm, GROUP_HIDDEN, NULL, "store rm"},
    {"store verify", cmd_store_verify, GROUP_MODELS, "find damage, and repair it"},
    {"store gc", cmd_store_gc, GROUP_MODELS, "remove what no model has"},
    {"store quota", cmd_store_quota, GROUP_MODELS, "how large the store may become"},
    {"store names", cmd_store_names, GROUP_HIDDEN, "names of the store's models, for completions"},
    {"run", cmd_run, GROUP_RUNNING, "answer one prompt"},
    {"chat", cmd_chat, GROUP_RUNNING, "talk with a model"},
    {"serve", cmd_serve, GROUP_RUNNING, "answer over HTTP, as mlxserve does"},
    {"ps", cmd_ps, GROUP_RUNNING, "what a daemon has loaded"},
    {"stop", cmd_stop, GROUP_RUNNING, "have a daemon put models down"},
    {"replay", cmd_replay, GROUP_RUNNING, "make an answer again from its receipt, and compare"},
    {"embed", cmd_embed, GROUP_RUNNING, "vectors of texts, JSONL"},
    {"show", cmd_show, GROUP_FILES, "what a model folder holds, and the memory it takes"},
    {"tokenize", cmd_tokenize, GROUP_FILES, "text to ids and back, JSONL"},
    {"render", cmd_render, GROUP_FILES, "chat templates, JSONL"},
    {"grammar", cmd_grammar, GROUP_FILES, "what a schema or a grammar lets an answer be"},
    {"spec validate", cmd_spec_validate, GROUP_FILES, "whether recipes and Modelfiles are right"},
    {"spec pack", cmd_spec_pack, GROUP_FILES, "a recipe's model as an OCI image layout"},
    {"import-gguf", cmd_import_gguf, GROUP_FILES, "turn a GGUF file into a model folder"},
    {"quantize", cmd_quantize, GROUP_FILES, "quantize a model folder, or merge an adapter into it"},
    {"doctor", cmd_doctor, GROUP_TOOLS, "what is wrong with a model, or here"},
    {"bench", cmd_bench, GROUP_TOOLS, "how fast a model runs here"},
    {"perplexity", cmd_perplexity, GROUP_TOOLS, "how well a model foretells a text"},
    {"logits", cmd_logits, GROUP_TOOLS, "logits or greedy continuations of ids, JSONL"},
    {"help", cmd_help, GROUP_TOOLS, "what a command does, with examples"},
    {"completion", cmd_completion, GROUP_TOOLS, "completion for bash, zsh and fish"},
    {"man", cmd_man, GROUP_TOOLS, "the manual pages"},
};

const struct command *command_at(size_t i)
{
    return i < MLXR_COUNT(commands) ? &commands[i] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < MLXR_COUNT(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return &commands[i];
    return NULL;
}

const char *command_group_title(enum command_group group)
{
    static const char *const titles[GROUP_COUNT] = {"models in the store", "running a model", "files",
                                                    "tools", ""};
    return titles[group];
}

void command_describe(const struct command *c, void (*visit)(const struct cli *cli, void *ud), void *ud)
{
    char *argv[] = {(char *)(uintptr_t)c->name, NULL};

    cli_describe(visit, ud);
    c->run(1, argv);
    cli_describe(NULL, NULL);
}

/* Whether the name is one of "store ...". */
static bool is_of(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 && name[n] == ' ';
}

void command_print_help(const char *prefix, FILE *to)
{
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);

    fprintf(to, "usage: mlxctl %s%s [ARGUMENTS]\n", prefix ? prefix : "", prefix ? " COMMAND" : "COMMAND");
    if (prefix) fputs("\ncommands:\n", to);
    for (int g = 0; g < GROUP_HIDDEN; g++) {
        if (!prefix) fprintf(to, "\n%s:\n", command_group_title((enum command_group)g));
        for (size_t i = 0; i < MLXR_COUNT(commands); i++)
            if ((int)commands[i].group == g && (!prefix || is_of(commands[i].name, prefix)))
                fprintf(to, "  %-15s %s\n", commands[i].name, commands[i].help);
    }
    fputs("\nfor every command:\n", to);
    for (size_t i = 0; i < n_globals; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", globals[i].name, globals[i].value ? globals[i].value : "");
        fprintf(to, "  %-15s %s\n", left, globals[i].help);
    }
    fprintf(to, "  %-15s what it does, its options, examples, exit codes\n", "--help");
    if (!prefix) fprintf(to, "\nmlxctl --version prints the version.\n");
}

/* Letters that differ, at least: enough to tell a slip of the finger. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], n = strlen(b);

    if (n + 1 > MLXR_COUNT(row) || strlen(a) > 31) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t up = row[j + 1], best = diagonal + (a[i] != b[j]);
            if (up + 1 < best) best = up + 1;
            if (row[j] + 1 < best) best = row[j] + 1;
            row[j + 1] = best;
            diagonal = up;
        }
    }
    return row[n];
}

static int no_command(const char *name)
{
    const char *near = NULL;
    size_t best = 3;

    for (size_t i = 0; i < MLXR_COUNT(commands); i++) {
        size_t d = distance(name, commands[i].name);
        if (d < best && d < strlen(name)) {
            best = d;
            near = commands[i].name;
        }
    }
    fprintf(stderr, "mlxctl: there is no command \"%s\"", name);
    if (near) fprintf(stderr, "; is it \"%s\"?", near);
    fprintf(stderr, "\nmlxctl --help lists the commands\n");
    return CLI_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const struct cli cli = {.program = "mlxctl", .synopsis = "COMMAND [ARGUMENTS]"};
    const struct command *c;
    char both[128];
    int n;

    if (!cli_take_globals(&cli, argc, argv, &n)) return CLI_EXIT_USAGE;
    argc -= n;
    argv += n;
    if (argc < 2) {
        command_print_help(NULL, stderr);
        return CLI_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        command_print_help(NULL, stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("mlxctl %s\n", mlxr_version());
        return 0;
    }
    if ((c = command_find(argv[1])) != NULL) return c->run(argc - 1, argv + 1);
    for (size_t i = 0; i < MLXR_COUNT(commands); i++) {
        const char *prefix = argv[1];
        if (!is_of(commands[i].name, prefix)) continue;
        if (!cli_take_globals(&cli, argc - 1, argv + 1, &n)) return CLI_EXIT_USAGE;
        argc -= n + 1;
        argv += n + 1;
        if (argc < 2 || argv[1][0] == '-') {
            bool is_help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
            command_print_help(prefix, is_help ? stdout : stderr);
            return is_help ? 0 : CLI_EXIT_USAGE;
        }
        snprintf(both, sizeof both, "%s %s", prefix, argv[1]);
        if ((c = command_find(both)) != NULL) return c->run(argc - 1, argv + 1);
        return no_command(both);
    }
    return no_command(argv[1]);
}
