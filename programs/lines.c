/* lines: see lines.h. Here: plain reading, and the choice between the two. */
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct lines {
    struct line_editor *editor; /* NULL: lines are read plainly */
    bool interactive;
    const volatile int *interrupted;
    int in_fd, wake[2];
    mlxr_buf line, in; /* in: bytes read, `done` of them given out */
    size_t done;
    bool end;
};

/* A terminal drops what was typed when Ctrl-C comes, also what poll has just seen: a read must not wait for it. The
 * terminal is opened anew for that, since not to wait would be told to everyone who shares standard input. */
static int open_input(void)
{
    const char *name = isatty(STDIN_FILENO) ? ttyname(STDIN_FILENO) : NULL;
    int fd = name ? open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;

    return fd < 0 ? STDIN_FILENO : fd;
}

struct lines *lines_open(const char *history_file, const volatile int *interrupted)
{
    struct lines *l = calloc(1, sizeof *l);
    const char *term = getenv("TERM");

    if (!l) return NULL;
    if (pipe(l->wake) != 0) {
        free(l);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(l->wake[i], F_SETFD, FD_CLOEXEC);
        fcntl(l->wake[i], F_SETFL, O_NONBLOCK);
    }
    l->in_fd = open_input();
    l->interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    l->interrupted = interrupted;
    if (l->interactive && term && strcmp(term, "dumb") != 0) l->editor = line_editor_open(l, history_file);
    return l;
}

void lines_close(struct lines *l)
{
    if (!l) return;
    line_editor_close(l->editor);
    if (l->in_fd != STDIN_FILENO) close(l->in_fd);
    close(l->wake[0]);
    close(l->wake[1]);
    mlxr_buf_clear(&l->line);
    mlxr_buf_clear(&l->in);
    free(l);
}

bool lines_interactive(const struct lines *l)
{
    return l->interactive;
}

void lines_wake(const struct lines *l)
{
    int kept = errno;

    /* A full pipe wakes as well. */
    if (l && write(l->wake[1], "", 1) < 0) errno = kept;
}

bool lines_waiting(const struct lines *l)
{
    struct pollfd in = {.fd = l->in_fd, .events = POLLIN};

    return poll(&in, 1, 0) == 1 && (in.revents & POLLIN);
}

/* A signal may come at any time, most of it not while a call waits, and to any thread: only what is left in the pipe is
 * sure to end a wait. The flag is looked at after the pipe was emptied and before the wait. */
ptrdiff_t lines_read_bytes(struct lines *l, char *to, size_t n)
{
    struct pollfd fds[2] = {{.fd = l->in_fd, .events = POLLIN}, {.fd = l->wake[0], .events = POLLIN}};
    char none[64];

    for (;;) {
        ssize_t got;
        while (read(l->wake[0], none, sizeof none) > 0) {
        }
        if (mlxr_cancelled(l->interrupted)) return -1;
        if (poll(fds, MLXR_COUNT(fds), -1) < 0) {
            if (errno == EINTR) continue;
            return 0;
        }
        if (fds[0].revents == 0) continue;
        got = read(l->in_fd, to, n);
        if (got >= 0) return got;
        if (errno != EINTR && errno != EAGAIN) return 0;
    }
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
        ptrdiff_t n;
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
        n = lines_read_bytes(l, p, CHUNK);
        if (n < 0) return LINES_INTERRUPTED;
        if (n == 0)
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
        if (r == LINES_END && mlxr_cancelled(l->interrupted)) r = LINES_INTERRUPTED;
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
