/* stores: what the commands that work on the store have in common: where it is, where models come from, a bar that shows how far
 * a call is, tables, sizes and ages in words. */
#ifndef MLXR_STORES_H
#define MLXR_STORES_H

#include <stdio.h>

#include "cli.h"

/* --store, else MLXR_HOME, else ~/.mlxr. free it. */
mlxr_status cli_store_root(char **out, mlxr_error *err);
/* MLXR_STORE_FAULT is looked at here (docs/store.md): "kill@N", "kill:KIND@N", "enospc@N" (from the N-th change on), "count". */
mlxr_status cli_store_open(mlxr_store **out, const char *program, mlxr_error *err);
/* The same with a grace period for mlxr_store_gc; below 0: the default. */
mlxr_status cli_store_open_grace(mlxr_store **out, const char *program, int64_t grace_seconds,
                                 mlxr_error *err);

/* Ctrl-C and SIGTERM set it from the first call on; for mlxr_store_job.cancel. A second one kills as usual. */
const volatile int *cli_cancel_flag(void);
/* The exit code of a call's failure: the error line, or "program: stopped" and 128 + the signal when one came. */
int cli_store_fail(const char *program, const mlxr_error *err);

/* A line that is redrawn on a terminal ("hashing model.safetensors  43 %  2.1 of 4.9 GB  512 MB/s  5 s left", no wider than the terminal);
 * in a pipe a plain line a file ("hashed model.safetensors 4.9 GB"); nothing with --quiet. On standard error. With `json`, set after
 * begin, instead of both a JSON object a step on standard output, also with --quiet:
 * {"event": "progress", "what", "item", "done", "total", "done_all", "total_all"}. */
struct meter {
    mlxr_store_job job; /* give &meter.job to the call */
    bool terminal, quiet, json;
    uint64_t start_ns, shown_ns;
    uint64_t rate_ns, rate_done; /* where the rate was last taken */
    double rate;                 /* bytes a second, smoothed; 0: not known yet */
    uint64_t *told;              /* in a pipe: which items were told */
    size_t n_told;
};
void meter_begin(struct meter *m);
void meter_end(struct meter *m); /* clears the line; may be called again, also between steps */

/* Options of pull, push and repair, and the environment's part: HF_ENDPOINT, HF_TOKEN (else the file of HF_TOKEN_PATH, HF_HOME/token,
 * ~/.cache/huggingface/token), REGISTRY_AUTH_FILE, DOCKER_CONFIG, ~/.docker/config.json, ~/.config/containers/auth.json. */
struct remote_cli {
    mlxr_remote_options options;
    const char *revision, *file, *user;
    bool insecure, password_stdin;
    int64_t n_parallel;
    /* what the options point to */
    char *token, *password, *auth_paths[5];
};
enum {
    REMOTE_CLI_N_OPTIONS = 6,
    REMOTE_CLI_N_HUB = 2 /* the first of them, which pull alone has a use for */
};
void remote_cli_init(struct remote_cli *r);
void remote_cli_table(struct cli_option table[REMOTE_CLI_N_OPTIONS], struct remote_cli *r);
mlxr_status remote_cli_finish(struct remote_cli *r, mlxr_error *err); /* after cli_parse */
void remote_cli_clear(struct remote_cli *r);

/* A table that fits the terminal: columns are shortened (with "…" in the middle of names), the last ones dropped when there is no
 * room. In a pipe full width, separated by two spaces at least. */
struct table;
struct table *table_create(size_t n_columns, const char *const *titles, const bool *right);
void table_cell(struct table *t, const char *text); /* row by row; control characters become '?' */
mlxr_status table_print(struct table *t, FILE *to, mlxr_error *err);
void table_free(struct table *t);

/* "4.9 GB"; decimal, three digits. */
const char *words_size(char out[32], uint64_t n_bytes);
/* "3 minutes ago". */
const char *words_age(char out[32], int64_t modified_seconds, int64_t now_seconds);
/* "8.0B", "135M". */
const char *words_count(char out[32], uint64_t n);
/* Appends text in at most width columns: with "…" in its middle where it has more; control characters become '?'. */
void words_shorten(mlxr_buf *out, const char *text, size_t width);

/* Colours only on a terminal, and not with NO_COLOR or TERM=dumb. */
bool cli_colours(FILE *to);
#endif
