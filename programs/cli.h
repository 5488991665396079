/* cli: what the programs share: an option table that is parser and help text in one, error lines, model names,
 * signals, progress. Programs may print, exit and read the environment; the library may not. */
#ifndef MLXR_CLI_H
#define MLXR_CLI_H

#include "base/base.h"

enum { CLI_EXIT_FAILED = 1, CLI_EXIT_USAGE = 2 };
#define CLI_DEFAULT_PATHS "config/model-paths.local.json"

/* CLI_FLAG: bool; CLI_STRING: const char *; CLI_LIST: struct cli_list; CLI_INT: int64_t; CLI_REAL: double;
 * CLI_CHOICE: const char *, one of the words in `value` ("mock|local"). */
typedef enum cli_kind { CLI_FLAG, CLI_STRING, CLI_LIST, CLI_INT, CLI_REAL, CLI_CHOICE } cli_kind;

struct cli_list {
    const char *items[64];
    size_t n;
};

struct cli_option {
    const char *name; /* "max-tokens"; a single letter makes it "-p" */
    cli_kind kind;
    const char *value; /* how the help calls the value */
    void *out;
    double min, max; /* CLI_INT, CLI_REAL */
    const char *help;
};

struct cli {
    const char *program;  /* "mlx-demo", "mlxctl run" */
    const char *synopsis; /* what follows the program's name */
    const char *summary;  /* a line or more for --help */
    const struct cli_option *options;
    size_t n_options;
};

/* Options may stand before, between and after the arguments; "--" ends them; "--name=value" and "--name value" are the same.
 * true: go on, with *n_args arguments. false: help was printed or the usage is wrong; end with *exit_code. */
bool cli_parse(const struct cli *cli, int argc, char **argv, const char **args, size_t max_args,
               size_t *n_args, int *exit_code);
/* A usage error found later: one line, the usage line, exit code 2. */
int cli_usage(const struct cli *cli, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* "program: message" on stderr; exit code 1. */
int cli_fail(const char *program, const mlxr_error *err);

/* MODEL: a folder, or an id in the model-paths file (paths_json, NULL: CLI_DEFAULT_PATHS if it is there).
 * model NULL: the first of that file. *out: free it. */
mlxr_status cli_model_dir(char **out, const char *model, const char *paths_json, mlxr_error *err);

/* The same for commands that also take a file (tokenizer.json, FILE.jinja) as it is. */
mlxr_status cli_model_file_or_dir(char **out, const char *model, const char *paths_json, mlxr_error *err);

/* "exact" or "fast"; NULL: the device's own. */
mlxr_precision cli_precision(const char *word);
/* "f32", "f16" or "int8"; NULL: the device's own. */
mlxr_kv_type cli_kv_type(const char *word);
#define CLI_KV "how keys and values are kept (cpu: f16, with --precision exact f32)"
/* The ISA that MLXR_CPU asks for, or NULL. */
const char *cli_isa(void);
/* The MLX module that MLXR_MLX_LIB names, or NULL. */
const char *cli_mlx_library(void);
/* What --device takes. */
#define CLI_DEVICES "cpu (default), ref, mlx, mlx:gpu or mlx:cpu"

/* Where compiled tokenizers are kept: MLXR_HOME/cache, ~/.mlxr/cache without MLXR_HOME. free it; NULL without a
 * home or when memory is out: then there is no cache. */
char *cli_cache_dir(void);

/* A text argument: "-" reads standard input whole. *out: free it. */
mlxr_status cli_text(char **out, const char *arg, mlxr_error *err);

/* A bar on a terminal while a model that takes time loads; nothing in a pipe. */
mlxr_progress cli_progress(const char *what);
/* Warnings to stderr as "program: warning: ..."; the rest only with verbose. */
mlxr_log cli_log(const char *program, bool verbose);

/* SIGINT and SIGTERM call fn(ud) once (it must be async-signal-safe); a second one kills as usual. */
void cli_on_interrupt(void (*fn)(void *ud), void *ud);
/* The signal that came, or 0. */
int cli_interrupted(void);

#endif
