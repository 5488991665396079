/* store_ui: what the commands of the store say alike. */
#ifndef MLXCTL_STORE_UI_H
#define MLXCTL_STORE_UI_H

#include "../stores.h"
#include "report.h"

/* A name as people write it ("llama" -> "llama:latest"); text itself when it is none (a digest). Free it; NULL: out of memory. */
char *store_display_name(const char *text);
/* What a model at this path is called when nobody says: the folder's or the file's last part, of a hub's cache "org/repo". Free it. */
mlxr_status store_default_name(char **out, const char *path, mlxr_error *err);

/* The end of a call: a line of text on standard output, which --quiet leaves out, or {"event": "result"} and what `result` has (taken). */
mlxr_status store_print_result(json_t *result, bool json, const char *text, mlxr_error *err);
/* The same for a failure: the line on standard error, with json also {"event": "error", "error"}. The exit code. */
int store_print_failure(const char *program, bool json, const mlxr_error *err);
/* What pull and push moved, in words and as a result. */
mlxr_status store_print_transfer(const char *did, const char *name, const mlxr_transfer *t, bool json,
                                 mlxr_error *err);

#endif
