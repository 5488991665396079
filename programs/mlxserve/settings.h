/* settings: everything that can be set of the daemon, as one table: each row is an option, a variable of the environment and a key of
 * the config file (YAML, a flat map), with default and range. What counts: option, then variable, then file, then default.
 *
 * docs/operations.md lists the table. */
#ifndef MLXSERVE_SETTINGS_H
#define MLXSERVE_SETTINGS_H

#include "../cli.h"

typedef enum setting_kind {
    SETTING_FLAG,   /* bool */
    SETTING_TEXT,   /* const char *, NULL when it is not set */
    SETTING_CHOICE, /* const char *, one of the words in `value` */
    SETTING_INT,    /* int64_t */
    SETTING_SIZE,   /* int64_t bytes: "64M", "1.5GiB"; units are powers of 1024 */
    SETTING_SPAN,   /* int64_t nanoseconds: "5m", "300ms", "1h30m", a number of seconds; INT64_MAX: forever */
    SETTING_LIST    /* struct cli_list; in variables separated by commas */
} setting_kind;

struct setting {
    const char *name; /* of the option and of the key; MLXSERVE_NAME is the variable */
    setting_kind kind;
    const char *value;     /* how the help calls it */
    const char *otherwise; /* the default as a text; NULL: not set */
    const char *second;    /* another variable of the same meaning, or NULL */
    size_t offset;         /* in struct settings */
    double min, max;       /* numbers, bytes, seconds */
    bool forever;          /* of a span: a negative one is forever */
    const char *help;
};

struct settings {
    const char *host, *tls_cert, *tls_key, *api_key_file;
    const char *runner, *model_paths_json, *device, *isa, *precision, *kv;
    const char *log, *log_level;
    struct cli_list origins, preload;
    bool no_auth, strict, log_bodies;
    int64_t port, mock_token_ms, threads, context_length, parallel, max_models, max_queue, max_connections,
        http_threads, pull_tries;
    int64_t max_body, kv_memory, prefix_cache, max_memory;
    int64_t idle_timeout, heartbeat, load_timeout, keep_alive, drain_timeout;
    char *store; /* the folder */

    /* Where each row's value comes from: "--port", "MLXSERVE_PORT", "FILE:3", or "default"; by row. */
    const char **from;
    int *rank;        /* 3 an option, 2 a variable, 1 the file, 0 the default */
    const char *file; /* the config file, or NULL */
    const char *store_from;
    mlxr_arena arena;
};

size_t setting_count(void);
const struct setting *setting_at(size_t i);

/* Reads all of them. false: end with *exit_code (help was printed, or what is wrong was told). Clear s in either case. */
bool settings_read(struct settings *s, const struct cli *cli, int argc, char **argv, bool *check, bool *json,
                   int *exit_code);
void settings_clear(struct settings *s);
/* The row of a member of struct settings: for messages. */
const char *settings_from(const struct settings *s, const char *name);
int settings_rank(const struct settings *s, const char *name);
/* What is set, with where each value comes from. */
mlxr_status settings_print(const struct settings *s, bool json, mlxr_error *err);

#endif
