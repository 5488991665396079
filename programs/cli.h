/* cli: what the programs share: a table of options and examples that is parser, help text, completion and man page in one,
 * error lines, model names, signals, progress. Programs may print, exit and read the environment; the library may not. */
#ifndef MLXR_CLI_H
#define MLXR_CLI_H

#include <stdio.h>

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

/* A line as it is typed into a shell, which tests/programs/test_examples.py runs as it stands, in a folder and with a store where what
 * docs/mlxctl.md lists is prepared: models "smollm2" (the store, and the folder ./SmolLM2-135M-Instruct-4bit) and others. */
struct cli_example {
    const char *line; /* "mlxctl run smollm2 'Why is the sky blue?'" */
    const char *help; /* what it does, in a line */
    /* NULL: the test runs it. Else words for what it wants beside that: "hub", "registry", "daemon", "network" (a server of
     * that kind; without one the line is parsed alone), "terminal", "slow". */
    const char *needs;
};

/* What an exit code says; 0, 1, 2, 130 and 143 have words of their own that need not be given. */
struct cli_exit {
    int code;
    const char *help;
};

/* summary: a newline is a space (texts are broken where the terminal ends), an empty line begins a paragraph, and a line that begins with a
 * space stays as it is. The first sentence says what the command does. */
struct cli {
    const char *program;  /* "mlx-demo", "mlxctl run" */
    const char *synopsis; /* what follows the program's name */
    const char *summary;  /* a line or more for --help */
    const struct cli_option *options;
    size_t n_options;
    const struct cli_example *examples;
    size_t n_examples;
    const struct cli_exit *exits;
    size_t n_exits;
    /* For completion, what each argument is: "model" (a folder, an id, a name of the store), "name" (of the store), "file", "dir",
     * "command" (of mlxctl), "a|b" (one of these words), "none"; "..." at the end: the last one again and again. NULL: files. Options
     * are completed by their kind and value: FILE..., DIR, MODEL, ID, NAME. */
    const char *arguments;
};

/* Options may stand before, between and after the arguments; "--" ends them; "--name=value" and "--name value" are the same. The global
 * ones below are taken as well.
 * true: go on, with *n_args arguments. false: help was printed or the usage is wrong; end with *exit_code. So do nothing that costs
 * or changes anything before: generators of help, man pages and completions call each command to get its table from here. */
bool cli_parse(const struct cli *cli, int argc, char **argv, const char **args, size_t max_args,
               size_t *n_args, int *exit_code);
/* While visit is not NULL, cli_parse calls it with its table, then returns false with *exit_code 0. */
void cli_describe(void (*visit)(const struct cli *cli, void *ud), void *ud);

/* Global options: --store DIR, --quiet, and --parse-only (for tests: cli_parse ends with 0 where it would have gone on). */
size_t cli_globals(const struct cli_option **out);
/* Takes those at the beginning of argv[1...]; false: wrong usage, told. *n_taken: words. */
bool cli_take_globals(const struct cli *cli, int argc, char **argv, int *n_taken);
/* What --store said, or NULL. */
const char *cli_store_option(void);
/* --quiet was given: no progress, no notes beside the answer. */
bool cli_quiet(void);

/* usage, summary, options, examples, exit codes; as wide as the terminal (80 in a pipe, at most 100). */
void cli_print_help(const struct cli *cli, FILE *to);
/* "-p", "--max-tokens N" */
void cli_option_text(mlxr_buf *out, const struct cli_option *o);
/* The i-th exit code with its words, of the table or common; false past the end. */
bool cli_exit_at(const struct cli *cli, size_t i, struct cli_exit *out);
/* Appends text in lines no wider than width, the first from column `at`, each later one indented by `indent`; ends without a newline. */
void cli_wrap(mlxr_buf *out, const char *text, size_t at, size_t indent, size_t width);
/* Columns of the terminal (COLUMNS, else what it says), or `otherwise` where there is none. */
size_t cli_width(FILE *to, size_t otherwise);

/* A usage error found later: one line, the usage line, exit code 2. */
int cli_usage(const struct cli *cli, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* "program: message" on stderr; exit code 1. */
int cli_fail(const char *program, const mlxr_error *err);

/* MODEL: a folder; else an id in the model-paths file (paths_json, NULL: CLI_DEFAULT_PATHS if it is there); else a name of the
 * store. model NULL: the first of that file. The error of a model that is nowhere says where it was looked for. *out: free it. */
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

/* Where compiled tokenizers are kept: cache/ of the store's folder. free it; NULL without a home or when memory is out: then
 * there is no cache. */
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
