/* cli: see cli.h. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "stores.h"

/* What the command line said beside the command's own options. */
static struct {
    const char *store;
    bool quiet, parse_only;
    void (*visit)(const struct cli *cli, void *ud);
    void *visit_ud;
} global;

/* ---- options ---- */

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "%s: ", cli->program);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fprintf(stderr, "usage: %s %s\n", cli->program, cli->synopsis);
    return CLI_EXIT_USAGE;
}

int cli_fail(const char *program, const mlxr_error *err)
{
    fprintf(stderr, "%s: %s\n", program, err->message);
    return CLI_EXIT_FAILED;
}

size_t cli_globals(const struct cli_option **out)
{
    static const struct cli_option options[] = {
        {"store", CLI_STRING, "DIR", &global.store, 0, 0,
         "the model store (default: MLXR_HOME, else ~/.mlxr)"},
        {"quiet", CLI_FLAG, NULL, &global.quiet, 0, 0, "no progress and no notes beside the answer"},
    };

    *out = options;
    return MLXR_COUNT(options);
}

const char *cli_store_option(void)
{
    return global.store;
}

bool cli_quiet(void)
{
    return global.quiet;
}

void cli_describe(void (*visit)(const struct cli *cli, void *ud), void *ud)
{
    global.visit = visit;
    global.visit_ud = ud;
}

static const struct cli_option *find_in(const struct cli_option *options, size_t n_options, const char *name,
                                        size_t n)
{
    for (size_t i = 0; i < n_options; i++)
        if (strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0) return &options[i];
    return NULL;
}

static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t n)
{
    static const struct cli_option parse_only = {"parse-only", CLI_FLAG, NULL, &global.parse_only, 0, 0, ""};
    const struct cli_option *o = find_in(cli->options, cli->n_options, name, n), *globals;

    if (!o) {
        size_t n_globals = cli_globals(&globals);
        o = find_in(globals, n_globals, name, n);
    }
    return o ? o : find_in(&parse_only, 1, name, n);
}

static bool is_choice(const char *words, const char *word)
{
    size_t n = strlen(word);
    while (*words) {
        size_t k = strcspn(words, "|");
        if (k == n && memcmp(words, word, n) == 0) return true;
        words += k + (words[k] == '|');
    }
    return false;
}

static int set_option(const struct cli *cli, const struct cli_option *o, const char *given, const char *value)
{
    char *end;

    errno = 0;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->out = true; return 0;
    case CLI_STRING: *(const char **)o->out = value; return 0;
    case CLI_LIST: {
        struct cli_list *list = o->out;
        if (list->n == MLXR_COUNT(list->items))
            return cli_usage(cli, "%s: given more than %zu times", given, MLXR_COUNT(list->items));
        list->items[list->n++] = value;
        return 0;
    }
    case CLI_CHOICE:
        if (!is_choice(o->value, value))
            return cli_usage(cli, "%s: \"%s\" is not one of %s", given, value, o->value);
        *(const char **)o->out = value;
        return 0;
    case CLI_INT: {
        long long x = strtoll(value, &end, 10);
        if (errno || end == value || *end || (double)x < o->min || (double)x > o->max)
            return cli_usage(cli, "%s: \"%s\" is not a whole number from %.0f to %.0f", given, value, o->min,
                             o->max);
        *(int64_t *)o->out = x;
        return 0;
    }
    case CLI_REAL: {
        double x = strtod(value, &end);
        if (end == value || *end || !isfinite(x) || x < o->min || x > o->max)
            return cli_usage(cli, "%s: \"%s\" is not a number from %g to %g", given, value, o->min, o->max);
        *(double *)o->out = x;
        return 0;
    }
    }
    return 0;
}

/* The option at argv[i], with the word behind it where that is its value. How many words it was; 0: wrong usage, told. */
static int take_option(const struct cli *cli, int argc, char **argv, int i)
{
    const char *a = argv[i], *value = NULL;
    size_t dashes = a[1] == '-' ? 2 : 1;
    const char *eq = dashes == 2 ? strchr(a, '=') : NULL;
    const struct cli_option *o = find_option(cli, a + dashes,
                                             eq ? (size_t)(eq - a) - dashes : strlen(a + dashes));
    int n = 1;

    if (!o || (o->name[1] == '\0') != (dashes == 1)) {
        cli_usage(cli, "unknown option %s", a);
        return 0;
    }
    if (o->kind == CLI_FLAG && eq) {
        cli_usage(cli, "--%s takes no value", o->name);
        return 0;
    }
    if (o->kind != CLI_FLAG) {
        value = eq ? eq + 1 : i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) {
            cli_usage(cli, "%s needs a value: %s", a, o->value);
            return 0;
        }
        n += !eq;
    }
    return set_option(cli, o, a, value) == 0 ? n : 0;
}

bool cli_take_globals(const struct cli *cli, int argc, char **argv, int *n_taken)
{
    *n_taken = 0;
    while (1 + *n_taken < argc) {
        const char *a = argv[1 + *n_taken];
        int n;
        if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0 || strcmp(a, "--version") == 0) return true;
        if (a[0] != '-' || a[1] == '\0') return true;
        if ((n = take_option(cli, argc, argv, 1 + *n_taken)) == 0) return false;
        *n_taken += n;
    }
    return true;
}

bool cli_parse(const struct cli *cli, int argc, char **argv, const char **args, size_t max_args,
               size_t *n_args, int *exit_code)
{
    bool only_args = false;

    *n_args = 0;
    *exit_code = 0;
    if (global.visit) {
        global.visit(cli, global.visit_ud);
        return false;
    }
    *exit_code = CLI_EXIT_USAGE;
    for (int i = 1; i < argc;) {
        const char *a = argv[i];
        int n = 1;

        if (only_args || a[0] != '-' || a[1] == '\0') {
            if (*n_args == max_args) {
                cli_usage(cli, "unexpected argument \"%s\"", a);
                return false;
            }
            args[(*n_args)++] = a;
        } else if (strcmp(a, "--") == 0) {
            only_args = true;
        } else if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            cli_print_help(cli, stdout);
            *exit_code = 0;
            return false;
        } else if ((n = take_option(cli, argc, argv, i)) == 0) {
            return false;
        }
        i += n;
    }
    if (global.parse_only) {
        *exit_code = 0;
        return false;
    }
    return true;
}

/* ---- models, texts ---- */

/* Whether the model-paths file has this id; a file that cannot be read has none. */
static bool has_id(const char *paths_json, const char *model)
{
    json_t *paths = NULL;
    bool has = mlxr_json_read(&paths, paths_json, 1 << 20, NULL) != MLXR_OK || !json_is_object(paths) ||
               json_object_get(paths, model);

    json_decref(paths);
    return has;
}

/* "org/name", as hubs and registries have it, and no path. */
static bool looks_remote(const char *model)
{
    const char *slash = strchr(model, '/');

    return slash && slash > model && slash[1] && model[0] != '.' && model[0] != '~' && model[0] != '/';
}

/* The model of the store by this name. What cannot be a name is as absent as one that is not there. */
static mlxr_status store_model(char **out, char **root, const char *model, mlxr_error *err)
{
    mlxr_store *store = NULL;
    mlxr_status st;

    *root = NULL;
    if (err) err->message[0] = '\0';
    if (cli_store_root(root, NULL) != MLXR_OK) return MLXR_E_NOT_FOUND; /* no home: there is no store */
    if ((st = cli_store_open(&store, "mlxctl", err)) == MLXR_OK)
        st = mlxr_store_model_path(out, store, model, err);
    mlxr_store_close(store);
    return st == MLXR_E_INVALID_ARGUMENT ? MLXR_E_NOT_FOUND : st;
}

mlxr_status cli_model_dir(char **out, const char *model, const char *paths_json, mlxr_error *err)
{
    bool has_file = paths_json || mlxr_path_is_file(CLI_DEFAULT_PATHS);
    const char *file = paths_json ? paths_json : CLI_DEFAULT_PATHS;
    char *root = NULL;
    mlxr_status st;

    *out = NULL;
    if (model && mlxr_path_is_dir(model)) {
        *out = mlxr_strdup(model);
        return *out ? MLXR_OK : mlxr_fail_nomem(err, "model");
    }
    if (!model && !has_file)
        return mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING,
                         "no model was named, and there is no %s that names one (scripts/demo.sh writes it)",
                         CLI_DEFAULT_PATHS);
    if (!model || (has_file && has_id(file, model)))
        return mlxr_model_path_resolve(out, file, model, getenv("HOME"), err);
    st = store_model(out, &root, model, err);
    if (st == MLXR_E_NOT_FOUND) {
        const char *near = err ? strstr(err->message, "\"; ")
                               : NULL; /* names of the store that are like it */
        char hint[512] = "";
        if (near) snprintf(hint, sizeof hint, "%s", near + 1);
        st = mlxr_fail(err, MLXR_E_MODEL_PATH_MISSING,
                       "model \"%s\": no such folder, no such id in %s%s, and no such model in the store %s",
                       model, file, has_file ? "" : " (which is not there)",
                       root ? root : "(neither MLXR_HOME nor HOME is set)");
        mlxr_error_append(err, "%s", hint);
        if (looks_remote(model)) mlxr_error_append(err, "; mlxctl pull %s brings it", model);
    }
    free(root);
    return st;
}

mlxr_status cli_model_file_or_dir(char **out, const char *model, const char *paths_json, mlxr_error *err)
{
    if (!mlxr_path_is_file(model)) return cli_model_dir(out, model, paths_json, err);
    *out = mlxr_strdup(model);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "model");
}

mlxr_precision cli_precision(const char *word)
{
    if (!word) return MLXR_PRECISION_DEFAULT;
    return strcmp(word, "exact") == 0 ? MLXR_PRECISION_EXACT : MLXR_PRECISION_FAST;
}

mlxr_kv_type cli_kv_type(const char *word)
{
    if (!word) return MLXR_KV_DEFAULT;
    return strcmp(word, "f32") == 0 ? MLXR_KV_F32 : strcmp(word, "f16") == 0 ? MLXR_KV_F16 : MLXR_KV_INT8;
}

const char *cli_isa(void)
{
    const char *isa = getenv("MLXR_CPU");
    return isa && *isa ? isa : NULL;
}

const char *cli_mlx_library(void)
{
    const char *path = getenv("MLXR_MLX_LIB");
    return path && *path ? path : NULL;
}

char *cli_cache_dir(void)
{
    char *root = NULL, *cache = NULL;

    if (cli_store_root(&root, NULL) == MLXR_OK) cache = mlxr_asprintf("%s/cache", root);
    free(root);
    return cache;
}

mlxr_status cli_text(char **out, const char *arg, mlxr_error *err)
{
    enum { MAX_TEXT = 64 << 20 };
    mlxr_buf text = {0};
    mlxr_status st = MLXR_OK;

    *out = NULL;
    if (strcmp(arg, "-") != 0) {
        mlxr_buf_str(&text, arg);
    } else {
        for (;;) {
            char *p = mlxr_buf_reserve(&text, 1 << 16);
            size_t n;
            if (!p) break;
            n = fread(p, 1, 1 << 16, stdin);
            text.len += n;
            p[n] = '\0';
            if (n == 0) break;
            if (text.len > MAX_TEXT) {
                st = mlxr_fail(err, MLXR_E_LIMIT, "standard input: more than %d bytes", MAX_TEXT);
                break;
            }
        }
        if (ferror(stdin)) st = mlxr_fail(err, MLXR_E_IO, "standard input: %s", strerror(errno));
        if (st == MLXR_OK && text.len && memchr(text.data, '\0', text.len))
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "standard input: has a NUL byte");
        /* The newline that ends a line of input is not part of the prompt. */
        if (text.len && text.data[text.len - 1] == '\n') text.data[--text.len] = '\0';
    }
    if (st == MLXR_OK && !(*out = mlxr_buf_take(&text, NULL))) st = mlxr_fail_nomem(err, "text");
    mlxr_buf_clear(&text);
    return st;
}

/* ---- progress, log ---- */

enum { SHOW_PROGRESS_FROM = 256 << 20 };

static void show_progress(uint64_t done, uint64_t total, void *ud)
{
    if (total < SHOW_PROGRESS_FROM) return;
    if (done >= total)
        fprintf(stderr, "\r\033[K");
    else
        fprintf(stderr, "\r%s %3d %%  %.1f of %.1f GB", (const char *)ud, (int)(done * 100 / total),
                (double)done / 1e9, (double)total / 1e9);
    fflush(stderr);
}

mlxr_progress cli_progress(const char *what)
{
    mlxr_progress p = {.ud = (void *)(uintptr_t)what};
    if (!global.quiet && isatty(STDERR_FILENO)) p.fn = show_progress;
    return p;
}

static void print_warning(mlxr_log_level level, const char *message, void *ud)
{
    if (level == MLXR_LOG_WARN) fprintf(stderr, "%s: warning: %s\n", (const char *)ud, message);
}

static void print_log(mlxr_log_level level, const char *message, void *ud)
{
    fprintf(stderr, "%s: %s%s\n", (const char *)ud, level == MLXR_LOG_WARN ? "warning: " : "", message);
}

mlxr_log cli_log(const char *program, bool verbose)
{
    return (mlxr_log){.fn = verbose ? print_log : print_warning, .ud = (void *)(uintptr_t)program};
}

/* ---- signals: the only state of the process kept here, since a handler has no other way to it ---- */

static volatile sig_atomic_t interrupted;
static void (*interrupt_fn)(void *ud);
static void *interrupt_ud;

static void on_signal(int sig)
{
    interrupted = sig;
    if (interrupt_fn) interrupt_fn(interrupt_ud);
}

void cli_on_interrupt(void (*fn)(void *ud), void *ud)
{
    /* A write to a terminal that takes nothing just then goes on afterwards, so that the answer's end is written too. */
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};

    interrupt_fn = fn;
    interrupt_ud = ud;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

int cli_interrupted(void)
{
    return interrupted;
}
