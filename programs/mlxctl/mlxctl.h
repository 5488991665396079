/* mlxctl's subcommands, one file each. argv[0] is the subcommand's name; the result is the exit code: 0, 1 after
 * one line on stderr, 2 after the usage line. */
#ifndef MLXCTL_H
#define MLXCTL_H

int cmd_logits(int argc, char **argv);
int cmd_show(int argc, char **argv);

#endif
