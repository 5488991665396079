/* mlxserve: the daemon as a program; `mlxctl serve` is the same. */
#ifndef MLXSERVE_H
#define MLXSERVE_H

/* program: "mlxserve" or "mlxctl serve". The exit code: 0 after a signal, 1 after an error line, 2 for wrong usage. */
int mlxserve_run(const char *program, int argc, char **argv);

#endif
