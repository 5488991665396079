/* cli_help: help texts out of the table that the parser goes by, in lines that fit. */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"

enum { WIDTH = 80, MAX_WIDTH = 100, COLUMN = 28 };

size_t cli_width(FILE *to, size_t otherwise)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    long n = columns ? strtol(columns, NULL, 10) : 0;

    if (!isatty(fileno(to))) return otherwise;
    if (n > 0 && n < 10000) return (size_t)n;
    return ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : otherwise;
}

static size_t n_characters(const char *s, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += ((unsigned char)s[i] & 0xc0) != 0x80;
    return k;
}

static void new_line(mlxr_buf *out, size_t indent)
{
    mlxr_buf_char(out, '\n');
    for (size_t i = 0; i < indent; i++) mlxr_buf_char(out, ' ');
}

void cli_wrap(mlxr_buf *out, const char *text, size_t at, size_t indent, size_t width)
{
    bool fresh = true; /* nothing stands on this line yet */

    while (*text) {
        size_t n = strcspn(text, " \n"), k = n_characters(text, n);
        if (!fresh && at + 1 + k > width) {
            new_line(out, indent);
            at = indent;
            fresh = true;
        }
        if (!fresh) {
            mlxr_buf_char(out, ' ');
            at++;
        }
        mlxr_buf_append(out, text, n);
        at += k;
        fresh = fresh && n == 0;
        text += n;
        if (*text == '\n' && (text[1] == '\n' || text[1] == ' ')) {
            if (text[1] == '\n') mlxr_buf_char(out, '\n');
            new_line(out, indent);
            at = indent;
            fresh = true;
            text += text[1] == '\n' ? 2 : 1;
            while (*text == ' ') { /* a line that stays as it is */
                size_t line = strcspn(text, "\n");
                mlxr_buf_append(out, text, line);
                text += line;
                if (!*text) return;
                new_line(out, indent);
                text++;
                if (*text == '\n') {
                    new_line(out, indent);
                    text++;
                }
            }
        } else if (*text) {
            text++;
        }
    }
}

void cli_option_text(mlxr_buf *out, const struct cli_option *o)
{
    mlxr_buf_printf(out, "%s%s", o->name[1] ? "--" : "-", o->name);
    if (o->value) mlxr_buf_printf(out, " %s", o->value);
}

bool cli_exit_at(const struct cli *cli, size_t i, struct cli_exit *out)
{
    static const struct cli_exit common[] = {
        {0, "done"},
        {CLI_EXIT_FAILED, "an error, told in a line on standard error"},
        {CLI_EXIT_USAGE, "wrong usage"},
        {130, "stopped by Ctrl-C (143: by SIGTERM)"},
    };
    size_t n = 0;

    for (size_t k = 0; k < MLXR_COUNT(common); k++) {
        const char *help = common[k].help;
        for (size_t j = 0; j < cli->n_exits; j++)
            if (cli->exits[j].code == common[k].code) help = cli->exits[j].help;
        if (n++ == i) {
            *out = (struct cli_exit){common[k].code, help};
            return true;
        }
    }
    for (size_t j = 0; j < cli->n_exits; j++) {
        bool is_common = false;
        for (size_t k = 0; k < MLXR_COUNT(common); k++) is_common |= cli->exits[j].code == common[k].code;
        if (!is_common && n++ == i) {
            *out = cli->exits[j];
            return true;
        }
    }
    return false;
}

static void option_lines(mlxr_buf *out, const struct cli_option *options, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++) {
        size_t from = out->len, used;
        mlxr_buf_str(out, "  ");
        cli_option_text(out, &options[i]);
        used = out->len - from;
        if (used + 2 > COLUMN) {
            new_line(out, COLUMN);
        } else {
            for (; used < COLUMN; used++) mlxr_buf_char(out, ' ');
        }
        cli_wrap(out, options[i].help, COLUMN, COLUMN, width);
        mlxr_buf_char(out, '\n');
    }
}

void cli_print_help(const struct cli *cli, FILE *to)
{
    static const struct cli_option help = {"help", CLI_FLAG, NULL, NULL, 0, 0, "this text"};
    size_t width = cli_width(to, WIDTH);
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    struct cli_exit e;
    mlxr_buf out = {0};

    if (width > MAX_WIDTH) width = MAX_WIDTH;
    if (width < 40) width = 40;
    mlxr_buf_printf(&out, "usage: %s ", cli->program);
    cli_wrap(&out, cli->synopsis, strlen("usage: ") + strlen(cli->program) + 1, 8, width);
    mlxr_buf_str(&out, "\n\n");
    cli_wrap(&out, cli->summary, 0, 0, width);
    if (cli->n_options) {
        mlxr_buf_str(&out, "\n\noptions:\n");
        option_lines(&out, cli->options, cli->n_options, width);
    } else {
        mlxr_buf_str(&out, "\n");
    }
    mlxr_buf_str(&out, "\nfor every command:\n");
    option_lines(&out, globals, n_globals, width);
    option_lines(&out, &help, 1, width);
    for (size_t i = 0; i < cli->n_examples; i++) {
        mlxr_buf_str(&out, i ? "\n" : "\nexamples:\n");
        mlxr_buf_str(&out, "  # ");
        cli_wrap(&out, cli->examples[i].help, 4, 4, width);
        mlxr_buf_printf(&out, "\n  %s\n", cli->examples[i].line);
    }
    mlxr_buf_str(&out, "\nexit codes:\n");
    for (size_t i = 0; cli_exit_at(cli, i, &e); i++) {
        mlxr_buf_printf(&out, "  %-4d", e.code);
        cli_wrap(&out, e.help, 6, 6, width);
        mlxr_buf_char(&out, '\n');
    }
    if (!out.failed) fwrite(out.data, 1, out.len, to);
    mlxr_buf_clear(&out);
}
