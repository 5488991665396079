/* chat: what begins with "/". */
#include <stdio.h>
#include <stdlib.h>

#include "chat.h"
#include "runner/settings.h"

/* ---- words ---- */

static const char *skip_spaces(const char *s)
{
    while (*s == ' ' || *s == '\t') s++;
    return s;
}

/* Whether s begins with word; *rest is what follows. */
static bool takes(const char *s, const char *word, const char **rest)
{
    size_t n = strlen(word);

    if (strncmp(s, word, n) != 0 || (s[n] && s[n] != ' ' && s[n] != '\t')) return false;
    *rest = skip_spaces(s + n);
    return true;
}

char *chat_block(struct chat *c, const char *text)
{
    static const char quotes[] = "\"\"\"";
    mlxr_buf b = {0};
    const char *line = text, *end;

    if (strncmp(text, quotes, 3) != 0) return mlxr_strdup(text);
    line += 3;
    while ((end = strstr(line, quotes)) == NULL) {
        enum lines_result r;
        mlxr_buf_str(&b, line);
        r = lines_read(c->lines, "... ", &line);
        if (r == LINES_INTERRUPTED) {
            mlxr_buf_clear(&b);
            return NULL;
        }
        if (r == LINES_END) return mlxr_buf_take(&b, NULL); /* what there is */
        if (b.len) mlxr_buf_char(&b, '\n');
    }
    mlxr_buf_append(&b, line, (size_t)(end - line));
    return mlxr_buf_take(&b, NULL);
}

/* A value in double quotes loses them, and \n, \t, \" and \\ in it become what they stand for. In the arena. */
static const char *unquoted(struct chat *c, const char *s)
{
    size_t n = strlen(s), k = 0;
    char *out = mlxr_arena_strndup(&c->texts, s, n);

    while (out && n && (out[n - 1] == ' ' || out[n - 1] == '\t')) out[--n] = '\0';
    if (!out || n < 2 || out[0] != '"' || out[n - 1] != '"') return out;
    for (size_t i = 1; i + 1 < n; i++) {
        char ch = out[i];
        if (ch == '\\' && i + 2 < n) {
            ch = out[++i];
            ch = ch == 'n' ? '\n' : ch == 't' ? '\t' : ch;
        }
        out[k++] = ch;
    }
    out[k] = '\0';
    return out;
}

static void complain(struct chat *c, const mlxr_error *err)
{
    fflush(stdout);
    fprintf(stderr, "%s\n", err->message);
    if (!lines_interactive(c->lines)) c->failed = true;
}

/* ---- /set ---- */

static void set_parameter(struct chat *c, const char *rest)
{
    size_t n = strcspn(rest, " \t");
    char *name = mlxr_arena_strndup(&c->texts, rest, n);
    const char *value = unquoted(c, skip_spaces(rest + n));
    mlxr_error err = {0};

    if (!name || !value)
        mlxr_fail_nomem(&err, "/set");
    else if (n == 0 || skip_spaces(rest + n)[0] == '\0')
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "/set parameter NAME VALUE; /show parameters lists them");
    else if (strcmp(value, "default") == 0)
        parameters_unset(&c->parameters, name, &err);
    else
        parameters_set(&c->parameters, name, value, &err);
    if (err.code) complain(c, &err);
}

static void set_system(struct chat *c, const char *rest)
{
    char *text = chat_block(c, rest);

    if (!text) return;
    free(c->system);
    c->system = text;
    if (lines_interactive(c->lines)) printf("The system text is %s.\n", *text ? "set" : "empty");
}

static void set(struct chat *c, const char *rest)
{
    mlxr_error err = {0};

    if (takes(rest, "parameter", &rest)) {
        set_parameter(c, rest);
    } else if (takes(rest, "system", &rest)) {
        set_system(c, rest);
    } else if (takes(rest, "think", &rest)) {
        if (!form_think(&c->think, rest)) {
            mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "/set think off, on, low, medium, high or default");
            complain(c, &err);
        }
    } else if (takes(rest, "verbose", &rest)) {
        c->verbose = true;
    } else if (takes(rest, "quiet", &rest)) {
        c->verbose = false;
    } else if (takes(rest, "history", &rest)) {
        c->remembers = true;
    } else if (takes(rest, "nohistory", &rest)) {
        c->remembers = false;
    } else {
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT,
                  "/set parameter NAME VALUE, system TEXT, think WORD, verbose, quiet, history or nohistory");
        complain(c, &err);
    }
}

/* ---- /show ---- */

static void show_info(struct chat *c)
{
    mlxr_engine *engine = answerer_engine(c->answerer);

    printf("model         %s\n", c->model.model ? c->model.model : "mock");
    printf("device        %s\n", answerer_device_name(c->answerer));
    if (engine) {
        mlxr_engine_info info = mlxr_engine_get_info(engine);
        printf("folder        %s\nfamily        %s\nlayers        %zu\nhidden size   %zu\nvocabulary    %zu\n"
               "context       %zu\n",
               info.model_dir, info.family, info.n_layers, info.hidden_size, info.vocab_size,
               info.context_length);
    }
    printf("messages      %zu\n", json_array_size(c->messages));
}

/* What the model's recipe says of a parameter; value stays empty where that is nothing. */
static void own_value(mlxr_buf *value, const mlxr_settings *s, const char *name)
{
    const json_t *v = json_object_get(s->parameters, name);
    size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;

    for (size_t i = 0; i < n; i++) {
        char *text = json_dumps(json_is_array(v) ? json_array_get(v, i) : v,
                                JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        if (text) mlxr_buf_printf(value, "%s%s", i ? " " : "", text);
        free(text);
    }
}

static void show_parameters(const struct chat *c)
{
    mlxr_engine *engine = answerer_engine(c->answerer);
    const char *name, *help;
    mlxr_buf value = {0};

    for (size_t i = 0; parameters_at(&c->parameters, i, &name, &help, &value); i++) {
        bool own = !value.len && engine;
        if (own) own_value(&value, mlxr_engine_settings(engine), name);
        printf("%-22s %-12s %s%s\n", name, value.len ? value.data : "-", help,
               own && value.len ? " [the model's own]" : "");
    }
    mlxr_buf_clear(&value);
}

static void show_messages(const struct chat *c)
{
    mlxr_engine *engine = answerer_engine(c->answerer);
    const json_t *own = engine ? mlxr_engine_settings(engine)->messages : NULL;

    for (size_t i = 0; i < json_array_size(own); i++) {
        const json_t *m = json_array_get(own, i);
        printf("%s: %s [the model's own]\n", json_string_value(json_object_get(m, "role")),
               json_string_value(json_object_get(m, "content")));
    }
    for (size_t i = 0; i < json_array_size(c->messages); i++) {
        const json_t *m = json_array_get(c->messages, i);
        printf("%s: %s\n", json_string_value(json_object_get(m, "role")),
               json_string_value(json_object_get(m, "content")));
    }
}

static void show(struct chat *c, const char *rest)
{
    mlxr_error err = {0};
    char *text = NULL;

    if (*rest == '\0' || takes(rest, "info", &rest)) {
        show_info(c);
    } else if (takes(rest, "parameters", &rest)) {
        show_parameters(c);
    } else if (takes(rest, "system", &rest)) {
        mlxr_engine *engine = answerer_engine(c->answerer);
        const char *own = engine ? mlxr_engine_settings(engine)->system : NULL;
        printf("%s\n", c->system ? c->system : own ? own : "");
    } else if (takes(rest, "template", &rest)) {
        if (answerer_template(&text, c->answerer, &err) == MLXR_OK)
            printf("%s\n", text);
        else
            complain(c, &err);
        free(text);
    } else if (takes(rest, "messages", &rest)) {
        show_messages(c);
    } else {
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "/show info, parameters, system, template or messages");
        complain(c, &err);
    }
}

/* ---- all of them ---- */

static void help(void)
{
    printf("/set parameter NAME VALUE   what chooses the answer's tokens (/show parameters); VALUE default: "
           "as it was\n"
           "/set system TEXT            the system text; without TEXT none\n"
           "/set think WORD             thinking before an answer: off, on, low, medium, high, default\n"
           "/set verbose | quiet        times after each answer, or none\n"
           "/set history | nohistory    whether lines go into the history\n"
           "/show info | parameters | system | template | messages\n"
           "/save FILE                  the conversation, with system text and parameters\n"
           "/load FILE                  the same back\n"
           "/clear                      forgets the conversation\n"
           "/help, /?                   this text\n"
           "/bye                        the end; so is Ctrl-D\n"
           "\"\"\" begins a text of several lines, \"\"\" ends it. Ctrl-C stops an answer.\n");
}

static void with_file(struct chat *c, const char *path, bool save)
{
    mlxr_error err = {0};
    const char *file = unquoted(c, path);

    if (!file)
        mlxr_fail_nomem(&err, path);
    else if (!*file)
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, save ? "/save FILE" : "/load FILE");
    else if ((save ? chat_save(c, file, &err) : chat_load(c, file, &err)) == MLXR_OK &&
             lines_interactive(c->lines))
        printf("%s %zu messages.\n", save ? "Saved" : "Loaded", json_array_size(c->messages));
    if (err.code) complain(c, &err);
}

bool chat_command(struct chat *c, const char *line)
{
    const char *rest;
    mlxr_error err = {0};

    if (takes(line, "/bye", &rest) || takes(line, "/exit", &rest)) return false;
    if (takes(line, "/help", &rest) || takes(line, "/?", &rest)) {
        help();
    } else if (takes(line, "/set", &rest)) {
        set(c, rest);
    } else if (takes(line, "/show", &rest)) {
        show(c, rest);
    } else if (takes(line, "/save", &rest)) {
        with_file(c, rest, true);
    } else if (takes(line, "/load", &rest)) {
        with_file(c, rest, false);
    } else if (takes(line, "/clear", &rest)) {
        json_array_clear(c->messages);
        if (lines_interactive(c->lines)) printf("The conversation is empty.\n");
    } else {
        mlxr_fail(&err, MLXR_E_INVALID_ARGUMENT, "there is no command %.*s; /help lists them",
                  (int)strcspn(line, " \t"), line);
        complain(c, &err);
    }
    return true;
}
