/* mlxctl: one file a subcommand. Each takes its own words (argv[0] is the subcommand's name) and returns the exit
 * code: 0, 1 after an error line, 2 for wrong usage. */
#ifndef MLXCTL_H
#define MLXCTL_H

#include "../cli.h"

int cmd_bench(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_grammar(int argc, char **argv);
int cmd_import_gguf(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

#endif
