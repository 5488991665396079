/* lines: see lines.h. Here: plain reading, and the choice between the two. */
#include "lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct lines {
    struct line_editor *editor; /* NULL: lines are read plainly */
    bool interactive;
    const volatile int *interrupted;
    mlxr_buf line, in; /* in: bytes read, `done` of them given out */
    size_t done;
    bool end;
};

struct lines *lines_open(const char *history_file, const volatile int *interrupted)
{
    struct lines *l = calloc(1, sizeof *l);
    const char *term = getenv("TERM");

    if (!l) return NULL;
    l->interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    l->interrupted = interrupted;
    if (l->interactive && term && strcmp(term, "dumb") != 0)
        l->editor = line_editor_open(history_file, interrupted);
    return l;
}

void lines_close(struct lines *l)
{
    if (!l) return;
    line_editor_close(l->editor);
    mlxr_buf_clear(&l->line);
    mlxr_buf_clear(&l->in);
    free(l);
}

bool lines_interactive(const struct lines *l)
{
    return l->interactive;
}

/* From the file descriptor, not from stdin's buffer: a signal must end the wait. */
static enum lines_result read_plain(struct lines *l)
{
    enum { CHUNK = 1 << 16 };

    for (;;) {
        const char *from = l->in.data ? l->in.data + l->done : "";
        size_t n_left = l->in.len - l->done;
        const char *nl = n_left ? memchr(from, '\n', n_left) : NULL;
        char *p;
        ssize_t n;
        if (nl || (l->end && n_left)) {
            size_t n_line = nl ? (size_t)(nl - from) : n_left;
            mlxr_buf_append(&l->line, from, n_line);
            l->done += n_line + (nl != NULL);
            if (l->line.len && l->line.data[l->line.len - 1] == '\r') l->line.data[--l->line.len] = '\0';
            return l->line.failed ? LINES_END : LINES_GOT;
        }
        if (l->end) return LINES_END;
        if (l->done && l->in.data) {
            memmove(l->in.data, from, n_left);
            l->in.len = n_left;
            l->done = 0;
        }
        if (!(p = mlxr_buf_reserve(&l->in, CHUNK))) return LINES_END;
        n = read(STDIN_FILENO, p, CHUNK);
        if (n < 0 && errno == EINTR) {
            if (mlxr_cancelled(l->interrupted)) return LINES_INTERRUPTED;
            continue;
        }
        if (n <= 0)
            l->end = true;
        else
            l->in.len += (size_t)n;
    }
}

enum lines_result lines_read(struct lines *l, const char *prompt, const char **line)
{
    enum lines_result r;

    l->line.len = 0;
    mlxr_buf_str(&l->line, "");
    if (l->editor) {
        r = line_editor_read(l->editor, prompt, &l->line);
    } else {
        if (l->interactive) {
            fputs(prompt, stdout);
            fflush(stdout);
        }
        r = read_plain(l);
    }
    *line = l->line.data ? l->line.data : "";
    return r;
}

void lines_remember(struct lines *l, const char *line)
{
    if (l->editor) line_editor_remember(l->editor, line);
}
