/* generate: one prompt to one answer on standard output, as mlx-demo and mlxctl run do it. */
#ifndef MLXR_GENERATE_H
#define MLXR_GENERATE_H

#include "cli.h"

struct generate_options {
    const char *program;
    const char *runner, *device, *precision, *kv, *paths_json, *model, *prompt, *system;
    int64_t max_tokens, context, threads, top_k, repeat_last_n, seed, mock_token_ms;
    double temperature, top_p, min_p, repeat_penalty;
    struct cli_list stop;
    bool raw, ignore_eos, verbose;
    bool done_line; /* end in "[done] N tokens ..." on standard output */
};
void generate_options_init(struct generate_options *g, const char *program);

/* The option table over g, the same in both programs. */
enum { GENERATE_N_OPTIONS = 23 };
void generate_option_table(struct cli_option table[GENERATE_N_OPTIONS], struct generate_options *g);

/* Exit code: 0; 1 after an error line; 130 or 143 when a signal cancelled. */
int generate_run(const struct generate_options *g);

#endif
