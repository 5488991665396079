/* lines: built without libedit. */
#include "lines.h"

struct line_editor *line_editor_open(struct lines *l, const char *history_file)
{
    (void)l, (void)history_file;
    return NULL;
}

void line_editor_close(struct line_editor *e)
{
    (void)e;
}

enum lines_result line_editor_read(struct line_editor *e, const char *prompt, mlxr_buf *line)
{
    (void)e, (void)prompt, (void)line;
    return LINES_END;
}

void line_editor_remember(struct line_editor *e, const char *line)
{
    (void)e, (void)line;
}
