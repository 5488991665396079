/* mlxctl completion SHELL: scripts out of the table of commands, which complete commands, options, choices, files and names of the
 * store. What stands still is written into the script; names come of `mlxctl store names` when they are asked for. */
#include <stdlib.h>

#include "mlxctl.h"
#include "report.h"

/* What completes a word: "flag" (nothing follows), "none", "file", "dir", "model", "name", "command", or words with "|" between. */
static const char *option_kind(const struct cli_option *o)
{
    const char *v = o->value ? o->value : "";

    switch (o->kind) {
    case CLI_FLAG: return "flag";
    case CLI_CHOICE: return v;
    case CLI_INT:
    case CLI_REAL: return "none";
    case CLI_STRING:
    case CLI_LIST: break;
    }
    if (strstr(v, "FILE") || strstr(v, ".json")) return "file";
    if (strcmp(v, "DIR") == 0) return "dir";
    return strcmp(v, "MODEL") == 0 || strcmp(v, "ID") == 0 ? "model" : "none";
}

/* The i-th word of "a b...", without its dots. rest: it has some. false past the end; NULL is "file...". */
static bool argument_at(const struct cli *cli, size_t i, char out[128], bool *rest)
{
    const char *s = cli->arguments ? cli->arguments : "file...";
    size_t n;

    for (; i > 0; i--) {
        s += strcspn(s, " ");
        s += strspn(s, " ");
    }
    n = strcspn(s, " ");
    *rest = n > 3 && memcmp(s + n - 3, "...", 3) == 0;
    if (*rest) n -= 3;
    if (n == 0 || n >= 128) return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return true;
}

/* Text within '...' of a shell; fish has escapes in there, the others leave and come back. */
static void quote(mlxr_buf *out, const char *text, bool fish)
{
    mlxr_buf_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            mlxr_buf_str(out, fish ? "\\'" : "'\\''");
        else if (fish && *text == '\\')
            mlxr_buf_str(out, "\\\\");
        else
            mlxr_buf_char(out, *text == '\n' ? ' ' : *text);
    }
    mlxr_buf_char(out, '\'');
}

static bool is_told(const struct command *c)
{
    return c->group != GROUP_HIDDEN || c->alias;
}

static const char *help_of(const struct command *c)
{
    const struct command *of = c->alias ? command_find(c->alias) : NULL;
    return of ? of->help : c->help;
}

/* The first word of "store list" in a new string; NULL: it has one word. */
static const char *second_word(const char *name, size_t *n_first)
{
    const char *space = strchr(name, ' ');

    *n_first = space ? (size_t)(space - name) : strlen(name);
    return space ? space + 1 : NULL;
}

/* Calls fn for each first word of several ("store"), once. */
static void each_prefix(void (*fn)(const char *prefix, mlxr_buf *out), mlxr_buf *out)
{
    const struct command *c, *before;

    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        char prefix[64];
        size_t n, k;
        bool seen = false;
        if (!second_word(c->name, &n) || n >= sizeof prefix) continue;
        for (k = 0; k < i && !seen; k++) {
            before = command_at(k);
            seen = strncmp(before->name, c->name, n + 1) == 0;
        }
        if (seen) continue;
        memcpy(prefix, c->name, n);
        prefix[n] = '\0';
        fn(prefix, out);
    }
}

/* Commands of a prefix ("": of none) and, for none, the prefixes themselves. */
static void each_command(const char *prefix, void (*fn)(const char *word, const char *help, mlxr_buf *out),
                         mlxr_buf *out)
{
    const struct command *c;

    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t n;
        const char *second = second_word(c->name, &n);
        if (!is_told(c)) continue;
        if (!*prefix && !second) fn(c->name, help_of(c), out);
        if (*prefix && second && strlen(prefix) == n && memcmp(prefix, c->name, n) == 0)
            fn(second, help_of(c), out);
    }
}

static void list_word(const char *word, const char *help, mlxr_buf *out)
{
    (void)help;
    mlxr_buf_printf(out, "%s%s", out->len ? ", " : "", word);
}

/* What a prefix is, to people: "import, export, list ..." */
static void prefix_help(const char *prefix, mlxr_buf *out)
{
    each_command(prefix, list_word, out);
    mlxr_buf_str(out, "");
}

/* ---- bash ---- */

static void bash_word(const char *word, const char *help, mlxr_buf *out)
{
    (void)help;
    mlxr_buf_printf(out, "%s ", word);
}

static void bash_prefix_word(const char *prefix, mlxr_buf *out)
{
    mlxr_buf_printf(out, "%s ", prefix);
}

static void bash_prefix(const char *prefix, mlxr_buf *out)
{
    mlxr_buf_printf(out, "    '%s') commands='", prefix);
    each_command(prefix, bash_word, out);
    mlxr_buf_str(out, "' ;;\n");
}

static void bash_options(const struct cli_option *options, size_t n, mlxr_buf *out)
{
    for (size_t i = 0; i < n; i++)
        mlxr_buf_printf(out, " %s%s=%s", options[i].name[1] ? "--" : "-", options[i].name,
                        option_kind(&options[i]));
}

static void bash_table(const struct cli *cli, void *ud)
{
    mlxr_buf *out = ud;
    char kind[128];
    bool rest = false;

    mlxr_buf_str(out, "options='");
    bash_options(cli->options, cli->n_options, out);
    mlxr_buf_str(out, "' arguments='");
    for (size_t i = 0; argument_at(cli, i, kind, &rest); i++)
        mlxr_buf_printf(out, "%s%s%s", i ? " " : "", kind, rest ? "..." : "");
    mlxr_buf_str(out, "' ;;\n");
}

static void bash(mlxr_buf *out)
{
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    const struct command *c;

    mlxr_buf_str(out,
                 "# Completion of mlxctl for bash; made by `mlxctl completion bash`.\n"
                 "\n"
                 "# Words that may follow \"store\" and the like; with nothing before them all first words.\n"
                 "__mlxctl_commands() {\n    commands=\n    case $1 in\n    '') commands='");
    each_command("", bash_word, out);
    each_prefix(bash_prefix_word, out);
    mlxr_buf_str(out, "' ;;\n");
    each_prefix(bash_prefix, out);
    mlxr_buf_str(out, "    esac\n}\n\n"
                      "# Options with the kind of their values, and the kinds of arguments.\n"
                      "__mlxctl_table() {\n    options= arguments=\n    case $1 in\n");
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        if (!is_told(c)) continue;
        mlxr_buf_printf(out, "    '%s') ", c->name);
        command_describe(c, bash_table, out);
    }
    mlxr_buf_str(out, "    esac\n    options+='");
    bash_options(globals, n_globals, out);
    mlxr_buf_str(
        out,
        " --help=flag'\n}\n\n"
        "# Candidates of a kind for $cur into COMPREPLY.\n"
        "__mlxctl_offer() {\n"
        "    local kind=$1 word IFS=$'\\n'\n"
        "    case $kind in\n"
        "    none) ;;\n"
        "    file | dir)\n"
        "        compopt -o filenames 2>/dev/null\n"
        "        COMPREPLY+=($(compgen -$([ \"$kind\" = dir ] && echo d || echo f) -- \"$cur\"))\n"
        "        ;;\n"
        "    name | model)\n"
        "        for word in $(\"$program\" \"${store[@]}\" store names 2>/dev/null); do\n"
        "            [[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\")\n"
        "        done\n"
        "        if [ \"$kind\" = model ] && [ ${#COMPREPLY[@]} -eq 0 ]; then __mlxctl_offer dir; fi\n"
        "        ;;\n"
        "    command)\n"
        "        __mlxctl_commands ''\n"
        "        IFS=$' \\n'\n"
        "        COMPREPLY+=($(compgen -W \"$commands\" -- \"$cur\"))\n"
        "        ;;\n"
        "    *) COMPREPLY+=($(compgen -W \"${kind//|/$'\\n'}\" -- \"$cur\")) ;;\n"
        "    esac\n"
        "}\n\n"
        "_mlxctl() {\n"
        "    local program=${COMP_WORDS[0]} cur= command= commands= options= arguments= kind= word option\n"
        "    local -a words=() store=() kinds=()\n"
        "    local i n=0 rest=\n"
        "    COMPREPLY=()\n"
        "    # bash takes \"name:tag\" and \"--option=value\" for three words each: glued together again.\n"
        "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
        "        word=${COMP_WORDS[i]}\n"
        "        if [[ ${#words[@]} -gt 0 && ($word == [:=]* || ${words[${#words[@]} - 1]} == *[:=]) ]]; "
        "then\n"
        "            words[${#words[@]} - 1]+=$word\n"
        "        else\n"
        "            words+=(\"$word\")\n"
        "        fi\n"
        "    done\n"
        "    [ ${#words[@]} -gt 0 ] && cur=${words[${#words[@]} - 1]}\n"
        "    for ((i = 0; i + 1 < ${#words[@]}; i++)); do\n"
        "        word=${words[i]}\n"
        "        if [ -n \"$rest\" ]; then\n"
        "            n=$((n + 1))\n"
        "        elif [ \"$word\" = -- ]; then\n"
        "            rest=1\n"
        "        elif [[ $word == -* ]]; then\n"
        "            __mlxctl_table \"$command\"\n"
        "            [[ $word == --store=* ]] && store=(\"$word\")\n"
        "            [[ $word == *=* ]] && continue\n"
        "            for option in $options; do\n"
        "                [ \"${option%%=*}\" = \"$word\" ] || continue\n"
        "                kind=${option#*=}\n"
        "                [ \"$kind\" = flag ] && break\n"
        "                if ((i + 2 == ${#words[@]})); then\n"
        "                    __mlxctl_offer \"$kind\"\n"
        "                    __mlxctl_trim\n"
        "                    return\n"
        "                fi\n"
        "                i=$((i + 1))\n"
        "                [ \"$word\" = --store ] && store=(--store \"${words[i]}\")\n"
        "                break\n"
        "            done\n"
        "        elif [ -z \"$command\" ]; then\n"
        "            command=$word\n"
        "        else\n"
        "            __mlxctl_commands \"$command\"\n"
        "            if [ -n \"$commands\" ]; then command+=\" $word\"; else n=$((n + 1)); fi\n"
        "        fi\n"
        "    done\n"
        "    __mlxctl_table \"$command\"\n"
        "    if [[ -z $rest && $cur == --*=* ]]; then\n"
        "        for option in $options; do\n"
        "            [ \"${option%%=*}\" = \"${cur%%=*}\" ] && kind=${option#*=}\n"
        "        done\n"
        "        word=${cur%%=*}=\n"
        "        cur=${cur#*=}\n"
        "        [ -n \"$kind\" ] && [ \"$kind\" != flag ] && __mlxctl_offer \"$kind\"\n"
        "        cur=$word$cur\n"
        "        COMPREPLY=(\"${COMPREPLY[@]/#/$word}\")\n"
        "        [ ${#COMPREPLY[@]} -eq 1 ] && [ \"${COMPREPLY[0]}\" = \"$word\" ] && COMPREPLY=()\n"
        "    elif [[ -z $rest && $cur == -* ]]; then\n"
        "        for option in $options; do\n"
        "            [[ ${option%%=*} == \"$cur\"* ]] && COMPREPLY+=(\"${option%%=*}\")\n"
        "        done\n"
        "    else\n"
        "        __mlxctl_commands \"$command\"\n"
        "        if [ -n \"$commands\" ]; then\n"
        "            COMPREPLY=($(compgen -W \"$commands\" -- \"$cur\"))\n"
        "        else\n"
        "            read -r -a kinds <<<\"$arguments\"\n"
        "            if ((n >= ${#kinds[@]})); then\n"
        "                n=$((${#kinds[@]} - 1))\n"
        "                [[ $n -ge 0 && ${kinds[n]} == *... ]] || return\n"
        "            fi\n"
        "            __mlxctl_offer \"${kinds[n]%...}\"\n"
        "        fi\n"
        "    fi\n"
        "    __mlxctl_trim\n"
        "}\n\n"
        "# bash puts what it gets behind the last \":\" or \"=\".\n"
        "__mlxctl_trim() {\n"
        "    local i head=\n"
        "    case $COMP_WORDBREAKS in *:*) [[ $cur == *:* ]] && head=${cur%\"${cur##*:}\"} ;; esac\n"
        "    case $COMP_WORDBREAKS in *=*) [[ -z $head && $cur == *=* ]] && head=${cur%\"${cur##*=}\"} ;; "
        "esac\n"
        "    for i in \"${!COMPREPLY[@]}\"; do COMPREPLY[i]=${COMPREPLY[i]#\"$head\"}; done\n"
        "}\n\n"
        "complete -F _mlxctl mlxctl\n\n"
        "# mlxserve is mlxctl serve.\n"
        "_mlxserve() {\n"
        "    COMP_WORDS=(mlxctl serve \"${COMP_WORDS[@]:1}\")\n"
        "    COMP_CWORD=$((COMP_CWORD + 1))\n"
        "    _mlxctl\n"
        "}\n\n"
        "complete -F _mlxserve mlxserve\n");
}

/* ---- zsh ---- */

/* Text within [...] of a specification of _arguments that stands within '...'. */
static void zsh_text(mlxr_buf *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("[]:\\", *text)) mlxr_buf_char(out, '\\');
        if (*text == '\'')
            mlxr_buf_str(out, "'\\''");
        else
            mlxr_buf_char(out, *text == '\n' ? ' ' : *text);
    }
}

static void zsh_action(mlxr_buf *out, const char *kind)
{
    if (strcmp(kind, "none") == 0)
        mlxr_buf_str(out, " ");
    else if (strcmp(kind, "file") == 0)
        mlxr_buf_str(out, "_files");
    else if (strcmp(kind, "dir") == 0)
        mlxr_buf_str(out, "_files -/");
    else if (strcmp(kind, "name") == 0 || strcmp(kind, "model") == 0 || strcmp(kind, "command") == 0)
        mlxr_buf_printf(out, "__mlxctl_%ss", kind);
    else {
        mlxr_buf_char(out, '(');
        for (; *kind; kind++) mlxr_buf_char(out, *kind == '|' ? ' ' : *kind);
        mlxr_buf_char(out, ')');
    }
}

static void zsh_options(const struct cli_option *options, size_t n, mlxr_buf *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct cli_option *o = &options[i];
        bool flag = o->kind == CLI_FLAG;
        mlxr_buf_printf(out, " \\\n        '%s%s%s%s[", o->kind == CLI_LIST ? "*" : "",
                        o->name[1] ? "--" : "-", o->name,
                        flag         ? ""
                        : o->name[1] ? "="
                                     : "+");
        zsh_text(out, o->help);
        mlxr_buf_char(out, ']');
        if (!flag) {
            mlxr_buf_char(out, ':');
            zsh_text(out, o->kind == CLI_CHOICE ? o->name : o->value);
            mlxr_buf_char(out, ':');
            zsh_action(out, option_kind(o));
        }
        mlxr_buf_char(out, '\'');
    }
}

static void zsh_table(const struct cli *cli, void *ud)
{
    mlxr_buf *out = ud;
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    char kind[128];
    bool rest = false;

    mlxr_buf_str(out, "        _arguments -s");
    zsh_options(cli->options, cli->n_options, out);
    zsh_options(globals, n_globals, out);
    mlxr_buf_str(out, " \\\n        '--help[this text]'");
    for (size_t i = 0; !rest && argument_at(cli, i, kind, &rest); i++) {
        mlxr_buf_str(out, " \\\n        '");
        if (rest)
            mlxr_buf_str(out, "*");
        else
            mlxr_buf_printf(out, "%zu", i + 1);
        mlxr_buf_printf(out, ":%s:", strchr(kind, '|') ? "word" : kind);
        zsh_action(out, kind);
        mlxr_buf_char(out, '\'');
    }
    mlxr_buf_str(out, "\n        ;;\n");
}

static void zsh_word(const char *word, const char *help, mlxr_buf *out)
{
    mlxr_buf_printf(out, "        '%s:", word);
    zsh_text(out, help);
    mlxr_buf_str(out, "'\n");
}

static void zsh_prefix_word(const char *prefix, mlxr_buf *out)
{
    mlxr_buf help = {0};

    prefix_help(prefix, &help);
    if (!help.failed) zsh_word(prefix, help.data, out);
    mlxr_buf_clear(&help);
}

static void zsh_prefix(const char *prefix, mlxr_buf *out)
{
    const struct command *c;

    mlxr_buf_printf(out, "    %s)\n        if (( CURRENT == 2 )); then\n            words2=(\n", prefix);
    each_command(prefix, zsh_word, out);
    mlxr_buf_str(
        out,
        "            )\n            _describe -t commands command words2\n            return\n        fi\n"
        "        shift words\n        (( CURRENT-- ))\n        case $words[1] in\n");
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t n;
        const char *second = second_word(c->name, &n);
        if (!is_told(c) || !second || strlen(prefix) != n || memcmp(prefix, c->name, n) != 0) continue;
        mlxr_buf_printf(out, "        %s)\n", second);
        command_describe(c, zsh_table, out);
    }
    mlxr_buf_str(out, "        esac\n        ;;\n");
}

static void zsh(mlxr_buf *out)
{
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    const struct command *c;

    mlxr_buf_str(out, "#compdef mlxctl mlxserve\n"
                      "# Completion of mlxctl for zsh; made by `mlxctl completion zsh`.\n\n"
                      "__mlxctl_names() {\n"
                      "    local -a names at\n"
                      "    local i\n"
                      "    for (( i = 1; i < ${#__mlxctl_words}; i++ )); do\n"
                      "        [[ $__mlxctl_words[i] == --store ]] && at=(--store $__mlxctl_words[i+1])\n"
                      "        [[ $__mlxctl_words[i] == --store=* ]] && at=($__mlxctl_words[i])\n"
                      "    done\n"
                      "    names=(${(f)\"$($__mlxctl_words[1] $at store names 2>/dev/null)\"})\n"
                      "    compadd -a names\n"
                      "}\n\n"
                      "__mlxctl_models() {\n"
                      "    __mlxctl_names\n"
                      "    _files -/\n"
                      "}\n\n"
                      "__mlxctl_commands() {\n"
                      "    local -a list\n"
                      "    list=(\n");
    each_command("", zsh_word, out);
    each_prefix(zsh_prefix_word, out);
    mlxr_buf_str(out, "    )\n"
                      "    _describe -t commands command list\n"
                      "}\n\n"
                      "_mlxctl() {\n"
                      "    local curcontext=$curcontext state line\n"
                      "    local -a words2 __mlxctl_words\n"
                      "    typeset -A opt_args\n"
                      "    if [[ $service == mlxserve ]]; then\n"
                      "        words=(mlxctl serve \"${(@)words[2,-1]}\")\n"
                      "        (( CURRENT++ ))\n"
                      "    fi\n"
                      "    __mlxctl_words=($words)\n"
                      "    _arguments -C");
    zsh_options(globals, n_globals, out);
    mlxr_buf_str(out, " \\\n        '--help[this text]' '--version[the version]' \\\n"
                      "        '1: :__mlxctl_commands' '*:: :->rest' && return\n"
                      "    [[ $state == rest ]] || return\n"
                      "    case $words[1] in\n");
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t n;
        if (!is_told(c) || second_word(c->name, &n)) continue;
        mlxr_buf_printf(out, "    %s)\n", c->name);
        command_describe(c, zsh_table, out);
    }
    each_prefix(zsh_prefix, out);
    mlxr_buf_str(out, "    esac\n}\n\n"
                      "if [ \"$funcstack[1]\" = _mlxctl ]; then\n    _mlxctl \"$@\"\nelse\n    compdef "
                      "_mlxctl mlxctl mlxserve\nfi\n");
}

/* ---- fish ---- */

struct fish {
    mlxr_buf *out;
    const char *name;
};

static void fish_word(const char *word, const char *help, mlxr_buf *out)
{
    mlxr_buf_printf(out, " -a %s -d ", word);
    quote(out, help, true);
    mlxr_buf_char(out, '\n');
}

static void fish_first(const char *word, const char *help, mlxr_buf *out)
{
    mlxr_buf_str(out, "complete -c mlxctl -n '__mlxctl_at \"\"'");
    fish_word(word, help, out);
}

static void fish_prefix(const char *prefix, mlxr_buf *out)
{
    const struct command *c;
    mlxr_buf help = {0};

    prefix_help(prefix, &help);
    if (!help.failed) fish_first(prefix, help.data, out);
    mlxr_buf_clear(&help);
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        size_t n;
        const char *second = second_word(c->name, &n);
        if (!is_told(c) || !second || strlen(prefix) != n || memcmp(prefix, c->name, n) != 0) continue;
        mlxr_buf_printf(out, "complete -c mlxctl -n '__mlxctl_at %s'", prefix);
        fish_word(second, help_of(c), out);
    }
}

static void fish_kind(mlxr_buf *out, const char *kind)
{
    if (strcmp(kind, "file") == 0)
        mlxr_buf_str(out, " -F");
    else if (strcmp(kind, "dir") == 0)
        mlxr_buf_str(out, " -a '(__fish_complete_directories (commandline -ct))'");
    else if (strcmp(kind, "name") == 0)
        mlxr_buf_str(out, " -a '(__mlxctl_names)'");
    else if (strcmp(kind, "model") == 0)
        mlxr_buf_str(out, " -a '(__mlxctl_names) (__fish_complete_directories (commandline -ct))'");
    else if (strcmp(kind, "command") == 0)
        mlxr_buf_str(out, " -a '(__mlxctl_words)'");
    else if (strcmp(kind, "none") != 0) {
        mlxr_buf_str(out, " -a '");
        for (; *kind; kind++) mlxr_buf_char(out, *kind == '|' ? ' ' : *kind);
        mlxr_buf_char(out, '\'');
    }
}

static void fish_options(const char *condition, const struct cli_option *options, size_t n, mlxr_buf *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct cli_option *o = &options[i];
        mlxr_buf_printf(out, "complete -c mlxctl%s -%c %s", condition, o->name[1] ? 'l' : 's', o->name);
        if (o->kind != CLI_FLAG) {
            const char *kind = option_kind(o);
            mlxr_buf_str(out, strcmp(kind, "file") == 0 ? " -r" : " -x");
            fish_kind(out, kind);
        }
        mlxr_buf_str(out, " -d ");
        quote(out, o->help, true);
        mlxr_buf_char(out, '\n');
    }
}

static void fish_table(const struct cli *cli, void *ud)
{
    struct fish *f = ud;
    char condition[160], kind[128];
    bool rest = false;

    snprintf(condition, sizeof condition, " -n '__mlxctl_is \"%s\"'", f->name);
    fish_options(condition, cli->options, cli->n_options, f->out);
    for (size_t i = 0; !rest && argument_at(cli, i, kind, &rest); i++) {
        if (strcmp(kind, "none") == 0) continue;
        mlxr_buf_printf(f->out, "complete -c mlxctl -n '__mlxctl_argument \"%s\" %zu%s'", f->name, i + 1,
                        rest ? " rest" : "");
        fish_kind(f->out, kind);
        mlxr_buf_char(f->out, '\n');
    }
}

/* The options of a command that take a value, for counting arguments. */
static void fish_values(const struct cli *cli, void *ud)
{
    struct fish *f = ud;

    mlxr_buf_printf(f->out, "        case '%s'\n            echo --store", f->name);
    for (size_t i = 0; i < cli->n_options; i++)
        if (cli->options[i].kind != CLI_FLAG)
            mlxr_buf_printf(f->out, " %s%s", cli->options[i].name[1] ? "--" : "-", cli->options[i].name);
    mlxr_buf_str(f->out, " | string split ' '\n");
}

static void fish_prefix_word(const char *prefix, mlxr_buf *out)
{
    mlxr_buf_printf(out, " %s", prefix);
}

static void fish_list_word(const char *word, const char *help, mlxr_buf *out)
{
    (void)help;
    mlxr_buf_printf(out, " %s", word);
}

static void fish(mlxr_buf *out)
{
    const struct cli_option *globals;
    size_t n_globals = cli_globals(&globals);
    const struct command *c;

    mlxr_buf_str(out, "# Completion of mlxctl for fish; made by `mlxctl completion fish`.\n\n"
                      "function __mlxctl_words\n    string split -n ' ' '");
    each_command("", fish_list_word, out);
    each_prefix(fish_prefix_word, out);
    mlxr_buf_str(out, "'\nend\n\n"
                      "# Options of a command that have a value.\n"
                      "function __mlxctl_values\n    switch $argv[1]\n");
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        struct fish f = {out, c->name};
        if (is_told(c)) command_describe(c, fish_values, &f);
    }
    mlxr_buf_str(out, "        case '*'\n            echo --store\n"
                      "    end\nend\n\n"
                      "# The command so far, and behind it the arguments.\n"
                      "function __mlxctl_parse\n"
                      "    set -l words (commandline -opc)[2..-1]\n"
                      "    set -l command\n"
                      "    set -l arguments\n"
                      "    set -l values --store\n"
                      "    set -l skip 0\n"
                      "    for word in $words\n"
                      "        if test $skip = 1\n"
                      "            set skip 0\n"
                      "        else if string match -q -- '-*' $word\n"
                      "            contains -- $word $values; and set skip 1\n"
                      "        else if test -z \"$command\"\n"
                      "            set command $word\n"
                      "            set values (__mlxctl_values $command)\n"
                      "        else if contains -- $command");
    each_prefix(fish_prefix_word, out);
    mlxr_buf_str(
        out, "\n"
             "            set command \"$command $word\"\n"
             "            set values (__mlxctl_values $command)\n"
             "        else\n"
             "            set -a arguments $word\n"
             "        end\n"
             "    end\n"
             "    echo $command\n"
             "    count $arguments\n"
             "end\n\n"
             "function __mlxctl_at\n"
             "    test (__mlxctl_parse)[1] = $argv[1]\n"
             "end\n\n"
             "function __mlxctl_is\n"
             "    test (__mlxctl_parse)[1] = $argv[1]\n"
             "end\n\n"
             "# The word that is typed is this argument of this command, or one behind it with \"rest\".\n"
             "function __mlxctl_argument\n"
             "    set -l state (__mlxctl_parse)\n"
             "    test $state[1] = $argv[1]; or return 1\n"
             "    set -l at (math $state[2] + 1)\n"
             "    test $at = $argv[2]; and return 0\n"
             "    test \"$argv[3]\" = rest; and test $at -gt $argv[2]\n"
             "end\n\n"
             "function __mlxctl_names\n"
             "    set -l words (commandline -opc)\n"
             "    set -l at\n"
             "    for i in (seq (count $words))\n"
             "        string match -q -- '--store=*' $words[$i]; and set at $words[$i]\n"
             "        test \"$words[$i]\" = --store; and test $i -lt (count $words); and set at --store "
             "$words[(math $i + 1)]\n"
             "    end\n"
             "    $words[1] $at store names 2>/dev/null\n"
             "end\n\n"
             "complete -c mlxctl -f\n");
    fish_options("", globals, n_globals, out);
    mlxr_buf_str(out, "complete -c mlxctl -l help -d 'this text'\n");
    each_command("", fish_first, out);
    each_prefix(fish_prefix, out);
    for (size_t i = 0; (c = command_at(i)) != NULL; i++) {
        struct fish f = {out, c->name};
        if (is_told(c)) command_describe(c, fish_table, &f);
    }
    mlxr_buf_str(out, "complete -c mlxserve -w 'mlxctl serve'\n");
}

int cmd_completion(int argc, char **argv)
{
    static const struct cli_example examples[] = {
        {"mlxctl completion bash > mlxctl.bash && . ./mlxctl.bash",
         "bash, for now; for good: to ~/.local/share/bash-completion/completions/mlxctl", NULL},
        {"mkdir -p ~/.zfunc && mlxctl completion zsh > ~/.zfunc/_mlxctl",
         "zsh, with fpath+=~/.zfunc before compinit in ~/.zshrc", NULL},
        {"mkdir -p ~/.config/fish/completions && mlxctl completion fish > "
         "~/.config/fish/completions/mlxctl.fish",
         "fish", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl completion",
        .synopsis = "bash|zsh|fish",
        .summary = "Writes the completion of a shell to standard output: commands, options and their "
                   "choices, files, and the "
                   "names of the store's models.",
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "bash|zsh|fish",
    };
    const char *args[1];
    mlxr_buf out = {0};
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "bash, zsh or fish is needed");
    if (strcmp(args[0], "bash") == 0)
        bash(&out);
    else if (strcmp(args[0], "zsh") == 0)
        zsh(&out);
    else if (strcmp(args[0], "fish") == 0)
        fish(&out);
    else
        return cli_usage(&cli, "\"%s\" is not one of bash, zsh and fish", args[0]);
    st = report_write_text(&out, &err);
    mlxr_buf_clear(&out);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
