/* stop: text with stop strings in it, as it streams. What could still become a stop string is held back, so that
 * no part of one is ever shown; the text ends before the first one. Owned by one thread. */
#ifndef MLXR_STOP_H
#define MLXR_STOP_H

#include "base/base.h"

typedef struct mlxr_stop mlxr_stop;

/* The strings are copied; empty ones are ignored. With none, text passes through. */
mlxr_status mlxr_stop_create(mlxr_stop **out, const char *const *strings, size_t n, mlxr_error *err);
void mlxr_stop_free(mlxr_stop *s);

/* Adds text; appends to out what is now certain. *matched: index of the stop string that was found (the earliest in the
 * text, the longest of those that start there), or -1. After a match nothing more is taken. */
mlxr_status mlxr_stop_push(mlxr_stop *s, const char *text, size_t n, mlxr_buf *out, int *matched,
                           mlxr_error *err);
/* What comes next is no text (a special token): appends what is held back, no stop string goes on behind it. */
mlxr_status mlxr_stop_flush(mlxr_stop *s, mlxr_buf *out, mlxr_error *err);
/* The index of the string that is this text, or -1. */
int mlxr_stop_find(const mlxr_stop *s, const char *text, size_t n);
/* No more text comes: appends what is held back. */
mlxr_status mlxr_stop_finish(mlxr_stop *s, mlxr_buf *out, mlxr_error *err);

#endif
