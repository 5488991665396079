/* lines: editing and history by libedit, through its own interface: that of readline which it has too cannot be left by
 * Ctrl-C without a jump out of it. */
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#include "lines.h"

enum { HISTORY_LINES = 1000 };

struct line_editor {
    EditLine *el;
    History *history;
    HistEvent event;
    char *history_file;
    const char *prompt;
    struct lines *lines;
};

static char *prompt_of(EditLine *el)
{
    struct line_editor *e;

    el_get(el, EL_CLIENTDATA, &e);
    return (char *)(uintptr_t)e->prompt;
}

/* One character of the terminal. libedit's own would go on reading after a signal. */
static int read_char(EditLine *el, wchar_t *out)
{
    struct line_editor *e;
    mbstate_t state = {0};

    el_get(el, EL_CLIENTDATA, &e);
    for (;;) {
        char c;
        ptrdiff_t n = lines_read_bytes(e->lines, &c, 1);
        size_t k;
        if (n <= 0) return (int)n;
        k = mbrtowc(out, &c, 1, &state);
        if (k == (size_t)-2) continue; /* more bytes of it are to come */
        if (k == (size_t)-1) {         /* no text: passed over */
            state = (mbstate_t){0};
            continue;
        }
        return 1;
    }
}

struct line_editor *line_editor_open(struct lines *l, const char *history_file)
{
    struct line_editor *e = calloc(1, sizeof *e);

    if (!e) return NULL;
    /* Editing counts characters, so it must know how they are written; text here is UTF-8. */
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    e->lines = l;
    e->prompt = "";
    e->el = el_init("mlxctl", stdin, stdout, stderr);
    e->history = history_init();
    if (history_file) e->history_file = mlxr_strdup(history_file);
    if (!e->el || !e->history) {
        line_editor_close(e);
        return NULL;
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT, prompt_of);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_GETCFN, read_char);
    history(e->history, &e->event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &e->event, H_SETUNIQUE, 1);
    el_set(e->el, EL_HIST, history, e->history);
    if (e->history_file) history(e->history, &e->event, H_LOAD, e->history_file);
    el_source(e->el, NULL); /* the user's ~/.editrc */
    return e;
}

void line_editor_close(struct line_editor *e)
{
    if (!e) return;
    /* A history that cannot be written is lost, and no reason to complain at the end of a talk. libedit makes the
     * file the user's alone. */
    if (e->history && e->history_file) history(e->history, &e->event, H_SAVE, e->history_file);
    if (e->history) history_end(e->history);
    if (e->el) el_end(e->el);
    free(e->history_file);
    free(e);
}

enum lines_result line_editor_read(struct line_editor *e, const char *prompt, mlxr_buf *line)
{
    const char *got;
    int n = 0;

    e->prompt = prompt;
    got = el_gets(e->el, &n);
    if (!got || n <= 0) return LINES_END;
    mlxr_buf_append(line, got, (size_t)n);
    while (line->len && (line->data[line->len - 1] == '\n' || line->data[line->len - 1] == '\r'))
        line->data[--line->len] = '\0';
    return line->failed ? LINES_END : LINES_GOT;
}

void line_editor_remember(struct line_editor *e, const char *line)
{
    history(e->history, &e->event, H_ENTER, line);
}
