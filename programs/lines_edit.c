/* lines: editing and history by libedit, through its own interface: that of readline which it has too cannot be left by
 * Ctrl-C without a jump out of it.
 *
 * A paste of several lines is one text: while a line is read the terminal is asked to say where a paste begins and ends
 * (xterm's "bracketed paste mode": ESC [200~ and ESC [201~), and what is between goes into the line as it is, line ends
 * included. libedit knows nothing of that, but it can bind a function to the first of the two. */
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#include "lines.h"

enum { HISTORY_LINES = 1000, CTRL_D = 4 };

struct line_editor {
    EditLine *el;
    History *history;
    HistEvent event;
    char *history_file;
    const char *prompt;
    struct lines *lines;
    bool pastes;   /* it knows where a paste begins */
    bool at_start; /* no character of the line has been read */
};

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

static char *prompt_of(EditLine *el)
{
    struct line_editor *e;

    el_get(el, EL_CLIENTDATA, &e);
    return (char *)(uintptr_t)e->prompt;
}

/* One character of the terminal. libedit's own would go on reading after a signal.
 * A Ctrl-D typed ahead, while the terminal was not the editor's, is an end of input to the terminal, which it hands on
 * as a NUL once it gives out single keys. One that waits there before the line has begun is that Ctrl-D; typed at the
 * prompt a NUL is the key Ctrl-Space. */
static int read_char(EditLine *el, wchar_t *out)
{
    struct line_editor *e;
    mbstate_t state = {0};
    bool ahead;

    el_get(el, EL_CLIENTDATA, &e);
    ahead = e->at_start && lines_waiting(e->lines);
    e->at_start = false;
    for (;;) {
        char c;
        ptrdiff_t n = lines_read_bytes(e->lines, &c, 1);
        size_t k;
        if (n <= 0) return (int)n;
        if (ahead && c == '\0') c = CTRL_D;
        k = mbrtowc(out, &c, 1, &state);
        if (k == (size_t)-2) continue; /* more bytes of it are to come */
        if (k == (size_t)-1) {         /* no text: passed over */
            state = (mbstate_t){0};
            continue;
        }
        return 1;
    }
}

/* The text of a paste up to its end, from behind its beginning, NUL-terminated: what ends a line is a newline, and
 * other control characters but tabs are left out. NULL: there is no more to read, or no memory. *out: free it. */
static wchar_t *read_paste(EditLine *el)
{
    static const wchar_t end[] = L"\033[201~";
    enum { N_END = MLXR_COUNT(end) - 1 };
    wchar_t *text = NULL, c;
    size_t n = 0, cap = 0, n_matched = 0;

    while (n_matched < N_END) {
        if (el_wgetc(el, &c) != 1) goto failed;
        n_matched = c == end[n_matched] ? n_matched + 1 : c == end[0];
        if (n + 2 > cap) {
            wchar_t *bigger;
            cap = cap ? 2 * cap : 1024;
            if (!(bigger = mlxr_realloc_array(text, cap, sizeof *text))) goto failed;
            text = bigger;
        }
        if (c == L'\r' || c == L'\n')
            text[n++] = L'\n';
        else if (c == L'\t' || (c >= 0x20 && c < 0x7f) || c >= 0xa0)
            text[n++] = c;
    }
    n -= N_END - 1; /* of the end all but its ESC are in the text */
    text[n] = L'\0';
    return text;
failed:
    free(text);
    return NULL;
}

static unsigned char paste(EditLine *el, int c)
{
    wchar_t *text = read_paste(el);
    unsigned char verdict = CC_REFRESH;

    (void)c;
    if (!text) return CC_EOF;
    if (*text && el_winsertstr(el, text) != 0) verdict = CC_ERROR;
    free(text);
    return verdict;
}

/* In vi's manner ESC is a key of its own, which a binding that begins with it would take away. The function is added by
 * el_wset, which keeps the names it is given: el_set makes copies that nobody frees. */
static bool bind_paste(EditLine *el)
{
    const char *editor = NULL;

    return el_get(el, EL_EDITOR, &editor) == 0 && editor && strcmp(editor, "emacs") == 0 &&
           el_wset(el, EL_ADDFN, L"mlxr-paste", L"Insert what is pasted", paste) == 0 &&
           el_set(el, EL_BIND, "\\e[200~", "mlxr-paste", NULL) == 0;
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
    e->pastes = bind_paste(e->el);
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
    e->at_start = true;
    if (e->pastes) fputs(paste_on, stdout);
    got = el_gets(e->el, &n);
    if (e->pastes) {
        fputs(paste_off, stdout);
        fflush(stdout);
    }
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
