/* generate: what mlx-demo, mlxctl run and mlxctl chat have in common: options of a model and of an answer, a model opened, and
 * one prompt answered on standard output. */
#ifndef MLXR_GENERATE_H
#define MLXR_GENERATE_H

#include <stdio.h>

#include "form.h"
#include "parameters.h"

/* Which model, on what. */
struct model_options {
    const char *program;
    const char *runner, *device, *precision, *kv, *paths_json, *model; /* device NULL: cpu */
    int64_t context, threads, mock_token_ms;
    bool verbose;
    /* run and chat may also ask a daemon (answerer.h). */
    bool may_ask_daemon, local;
    const char *host;
};
enum { ENGINE_N_OPTIONS = 6, MODEL_N_OPTIONS = ENGINE_N_OPTIONS + 4 };
void model_options_init(struct model_options *m, const char *program);
void model_option_table(struct cli_option table[MODEL_N_OPTIONS], struct model_options *m);
/* Its part for commands that take a real model alone and say its name and context otherwise. */
void engine_option_table(struct cli_option table[ENGINE_N_OPTIONS], struct model_options *m);
/* --host and --local; sets may_ask_daemon. */
enum { DAEMON_N_OPTIONS = 2 };
void daemon_option_table(struct cli_option table[DAEMON_N_OPTIONS], struct model_options *m);
/* MODEL resolved and loaded. */
mlxr_status model_open(mlxr_runner **out, const struct model_options *m, mlxr_error *err);
mlxr_status engine_open(mlxr_engine **out, const struct model_options *m, mlxr_error *err);

struct generate_options {
    struct model_options model;
    struct parameters parameters;
    struct form_options form;
    const char *prompt, *system;
    int64_t logprobs; /* -1: none are told */
    bool raw, ignore_eos, json;
    bool append_stdin; /* what is piped in stands behind the prompt */
    bool done_line;    /* end in "[done] N tokens ..." on standard output */
};
void generate_options_init(struct generate_options *g, const char *program);

/* The option table over g, the same in both programs. */
enum { GENERATE_N_OPTIONS = MODEL_N_OPTIONS + PARAMETERS_N + FORM_N_OPTIONS + 6 };
void generate_option_table(struct cli_option table[GENERATE_N_OPTIONS], struct generate_options *g);

/* Exit code: 0; 1 after an error line; 130 or 143 when a signal cancelled. */
int generate_run(struct generate_options *g);

/* Where an answer is shown as it comes: content as it is; thinking faint, on a terminal alone; calls as JSON, one a line. */
struct shown {
    bool terminal;
    mlxr_part part; /* of the last piece */
    bool any;       /* something was shown */
};
void generate_show(mlxr_buf *out, struct shown *s, const mlxr_event *event);
/* What ends it, however the answer ended: a terminal is not left faint. */
void generate_show_end(mlxr_buf *out, struct shown *s);

/* "[done] 12 tokens in 0.30 s (stop): prompt ..." */
void generate_print_stats(FILE *to, const char *label, const mlxr_stats *s, const char *device);

#endif
