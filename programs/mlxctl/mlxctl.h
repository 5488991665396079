/* mlxctl: one file a subcommand. Each takes its own words (argv[0] is the subcommand's last word) and returns the exit
 * code: 0, 1 after an error line, 2 for wrong usage.
 *
 * A new command is a cmd_* that gives its table to cli_parse before it does anything else, and a line in main.c. Help, man page and
 * completion come of that table; docs/mlxctl.md tells more. */
#ifndef MLXCTL_H
#define MLXCTL_H

#include "../cli.h"

/* Where `mlxctl --help` lists a command. */
enum command_group {
    GROUP_MODELS,
    GROUP_RUNNING,
    GROUP_FILES,
    GROUP_TOOLS,
    GROUP_HIDDEN, /* nowhere: for completions and the like */
    GROUP_COUNT
};

struct command {
    const char *name; /* "run", "store list" */
    int (*run)(int argc, char **argv);
    enum command_group group;
    const char
        *help; /* half a line for `mlxctl --help`; NULL: an alias, which has that of what it stands for */
    const char *alias; /* the name it stands for, or NULL */
};

/* The i-th; NULL past the end. */
const struct command *command_at(size_t i);
const struct command *command_find(const char *name);
const char *command_group_title(enum command_group group);
/* "what its options, arguments and examples are": visit is called with the command's table. */
void command_describe(const struct command *c, void (*visit)(const struct cli *cli, void *ud), void *ud);
/* `mlxctl --help`, or what there is of "store ...". */
void command_print_help(const char *prefix, FILE *to);

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_grammar(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_import_gguf(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_man(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_spec_pack(int argc, char **argv);
int cmd_spec_validate(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_store_export(int argc, char **argv);
int cmd_store_gc(int argc, char **argv);
int cmd_store_import(int argc, char **argv);
int cmd_store_list(int argc, char **argv);
int cmd_store_names(int argc, char **argv);
int cmd_store_quota(int argc, char **argv);
int cmd_store_rm(int argc, char **argv);
int cmd_store_show(int argc, char **argv);
int cmd_store_verify(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

#endif
