/* lines: what a user types, line by line: with libedit's editing and a history on a terminal, plainly from a pipe. */
#ifndef MLXR_LINES_H
#define MLXR_LINES_H

#include "base/base.h"

struct lines;

enum lines_result { LINES_GOT, LINES_END, LINES_INTERRUPTED };

/* history_file: read now, written by close; NULL: none. interrupted: a signal handler's flag, which ends a read; the
 * handler calls lines_wake after it has set it. NULL when out of memory or of file descriptors. */
struct lines *lines_open(const char *history_file, const volatile int *interrupted);
void lines_close(struct lines *l);
/* Makes a read that waits look at the flag. Safe in a signal handler; NULL is nobody. */
void lines_wake(const struct lines *l);
/* Whether someone sits at a terminal: then there are prompts. */
bool lines_interactive(const struct lines *l);

/* The next line without its end, borrowed until the next call. What follows the last newline is a line too. */
enum lines_result lines_read(struct lines *l, const char *prompt, const char **line);
/* Into the history. */
void lines_remember(struct lines *l, const char *line);

/* Bytes as they are typed: above 0 their number, 0 at the end, below 0 when interrupted. */
ptrdiff_t lines_read_bytes(struct lines *l, char *to, size_t n);
/* Whether a byte is there without waiting for it. */
bool lines_waiting(const struct lines *l);

/* ---- the editing part: lines_edit.c with libedit, lines_noedit.c without ---- */
struct line_editor;
/* NULL: there is no editing here. */
struct line_editor *line_editor_open(struct lines *l, const char *history_file);
void line_editor_close(struct line_editor *e);
/* LINES_END also when interrupted. */
enum lines_result line_editor_read(struct line_editor *e, const char *prompt, mlxr_buf *line);
void line_editor_remember(struct line_editor *e, const char *line);

#endif
