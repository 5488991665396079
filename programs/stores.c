/* stores: see stores.h. Where the store is, how it is opened and stopped, what a remote needs of the environment. */
#include "stores.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "base/fs.h"

/* ---- the store ---- */

mlxr_status cli_store_root(char **out, mlxr_error *err)
{
    const char *given = cli_store_option(), *root = getenv("MLXR_HOME"), *home = getenv("HOME");

    *out = NULL;
    if (given && !*given) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "--store: wants a folder, not \"\"");
    if (given)
        *out = mlxr_strdup(given);
    else if (root && *root)
        *out = mlxr_strdup(root);
    else if (home && *home)
        *out = mlxr_asprintf("%s/.mlxr", home);
    else
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "no folder for the store: neither --store nor MLXR_HOME nor HOME is set");
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "store");
}

/* MLXR_STORE_FAULT, for tests: what happens at which change of the file system. The store's threads share it. */
static struct fault {
    enum { FAULT_COUNT, FAULT_KILL, FAULT_FROM, FAULT_ONCE } what;
    int errno_value;
    char kind[16]; /* "": of any kind */
    unsigned long at, n;
} fault;

static int on_change(const char *kind, const char *path, void *ud)
{
    unsigned long n;

    (void)path;
    (void)ud;
    if (fault.kind[0] && strcmp(kind, fault.kind) != 0) return 0;
    n = __atomic_add_fetch(&fault.n, 1, __ATOMIC_RELAXED);
    switch (fault.what) {
    case FAULT_COUNT: return 0;
    case FAULT_KILL:
        if (n == fault.at) raise(SIGKILL);
        return 0;
    case FAULT_FROM: return n >= fault.at ? fault.errno_value : 0;
    case FAULT_ONCE: return n == fault.at ? fault.errno_value : 0;
    }
    return 0;
}

static void print_count(void)
{
    fprintf(stderr, "%lu changes\n", fault.n);
}

static mlxr_status read_fault(const char *text, mlxr_error *err)
{
    static const struct {
        const char *word;
        int what, errno_value;
    } words[] = {{"kill", FAULT_KILL, 0}, {"enospc", FAULT_FROM, ENOSPC}, {"eio", FAULT_ONCE, EIO}};
    size_t n = strcspn(text, ":@");
    const char *at = strchr(text, '@');
    char *end;

    if (strcmp(text, "count") == 0) {
        fault.what = FAULT_COUNT;
        atexit(print_count);
        return MLXR_OK;
    }
    for (size_t i = 0; i < MLXR_COUNT(words) && at; i++) {
        size_t n_kind = text[n] == ':' ? (size_t)(at - text) - n - 1 : 0;
        if (strlen(words[i].word) != n || memcmp(words[i].word, text, n) != 0) continue;
        if (n_kind >= sizeof fault.kind) break;
        memcpy(fault.kind, text + n + 1, n_kind);
        fault.kind[n_kind] = '\0';
        fault.what = words[i].what;
        fault.errno_value = words[i].errno_value;
        fault.at = strtoul(at + 1, &end, 10);
        if (end > at + 1 && !*end && fault.at) return MLXR_OK;
    }
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                     "MLXR_STORE_FAULT: \"%s\" is none of kill@N, kill:KIND@N, enospc@N, eio@N and count",
                     text);
}

mlxr_status cli_store_open(mlxr_store **out, const char *program, mlxr_error *err)
{
    return cli_store_open_grace(out, program, -1, err);
}

mlxr_status cli_store_open_grace(mlxr_store **out, const char *program, int64_t grace_seconds,
                                 mlxr_error *err)
{
    mlxr_store_options options = mlxr_store_options_default();
    const char *faults = getenv("MLXR_STORE_FAULT");
    static bool has_fault; /* a program may open the store twice and still counts on */
    char *root;
    mlxr_status st;

    *out = NULL;
    options.log = cli_log(program, false);
    if (grace_seconds >= 0) options.grace_seconds = grace_seconds;
    if (faults && *faults) {
        if (!has_fault && (st = read_fault(faults, err)) != MLXR_OK) return st;
        has_fault = true;
        options.fault = on_change;
    }
    if ((st = cli_store_root(&root, err)) != MLXR_OK) return st;
    st = mlxr_store_open(out, root, &options, err);
    free(root);
    return st;
}

/* ---- stopping ---- */

static volatile int cancelled;

static void on_cancel(void *ud)
{
    (void)ud;
    __atomic_store_n(&cancelled, 1, __ATOMIC_RELAXED);
}

const volatile int *cli_cancel_flag(void)
{
    cli_on_interrupt(on_cancel, NULL);
    return &cancelled;
}

int cli_store_fail(const char *program, const mlxr_error *err)
{
    if (err->code != MLXR_E_CANCELLED || !cli_interrupted()) return cli_fail(program, err);
    fprintf(stderr, "%s: stopped\n", program);
    return 128 + cli_interrupted();
}

/* ---- remotes ---- */

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

void remote_cli_init(struct remote_cli *r)
{
    *r = (struct remote_cli){.options = mlxr_remote_options_default()};
    r->n_parallel = r->options.n_parallel;
}

void remote_cli_table(struct cli_option table[REMOTE_CLI_N_OPTIONS], struct remote_cli *r)
{
    const struct cli_option options[] = {
        {"revision", CLI_STRING, "REV", &r->revision, 0, 0,
         "of a hub: branch, tag or commit (default: main)"},
        {"file", CLI_STRING, "GGUF", &r->file, 0, 0,
         "of a hub: this GGUF file of the repository, not its safetensors"},
        {"user", CLI_STRING, "NAME", &r->user, 0, 0, "of a registry; with --password-stdin"},
        {"password-stdin", CLI_FLAG, NULL, &r->password_stdin, 0, 0,
         "the password, or token, is on standard input"},
        {"insecure", CLI_FLAG, NULL, &r->insecure, 0, 0, "plain HTTP, and TLS without checking certificates"},
        {"parallel", CLI_INT, "N", &r->n_parallel, 1, 32, "connections at a time (4)"},
    };

    _Static_assert(MLXR_COUNT(options) == REMOTE_CLI_N_OPTIONS, "the table's size");
    memcpy(table, options, sizeof options);
}

/* A line of a file that holds a secret; NULL: there is none. */
static char *first_line(const char *path)
{
    mlxr_buf text = {0};
    char *line = NULL;

    if (path && mlxr_file_read(&text, path, 1 << 16, NULL) == MLXR_OK && text.data) {
        size_t n = strcspn(text.data, "\r\n");
        if (n) line = mlxr_strndup(text.data, n);
    }
    mlxr_buf_clear(&text);
    return line;
}

/* The hub's token, as its own tools keep it. */
static char *hub_token(void)
{
    const char *home = env("HOME"), *cache = env("XDG_CACHE_HOME");
    char *path, *token;

    if (env("HF_TOKEN")) return mlxr_strdup(env("HF_TOKEN"));
    if (env("HF_TOKEN_PATH"))
        path = mlxr_strdup(env("HF_TOKEN_PATH"));
    else if (env("HF_HOME"))
        path = mlxr_asprintf("%s/token", env("HF_HOME"));
    else if (cache)
        path = mlxr_asprintf("%s/huggingface/token", cache);
    else
        path = home ? mlxr_asprintf("%s/.cache/huggingface/token", home) : NULL;
    token = first_line(path);
    free(path);
    return token;
}

/* Files that do not exist are passed over by whoever reads them. */
static mlxr_status add_auth(struct remote_cli *r, char *path, mlxr_error *err)
{
    if (!path) return mlxr_fail_nomem(err, "registry");
    r->auth_paths[r->options.n_auth_files++] = path;
    return MLXR_OK;
}

static mlxr_status find_auth(struct remote_cli *r, mlxr_error *err)
{
    const char *home = env("HOME"), *runtime = env("XDG_RUNTIME_DIR");
    mlxr_status st = MLXR_OK;

    if (env("REGISTRY_AUTH_FILE")) st = add_auth(r, mlxr_strdup(env("REGISTRY_AUTH_FILE")), err);
    if (st == MLXR_OK && env("DOCKER_CONFIG"))
        st = add_auth(r, mlxr_asprintf("%s/config.json", env("DOCKER_CONFIG")), err);
    else if (st == MLXR_OK && home)
        st = add_auth(r, mlxr_asprintf("%s/.docker/config.json", home), err);
    if (st == MLXR_OK && runtime) st = add_auth(r, mlxr_asprintf("%s/containers/auth.json", runtime), err);
    if (st == MLXR_OK && home) st = add_auth(r, mlxr_asprintf("%s/.config/containers/auth.json", home), err);
    r->options.auth_files = (const char *const *)r->auth_paths;
    return st;
}

mlxr_status remote_cli_finish(struct remote_cli *r, mlxr_error *err)
{
    mlxr_status st;

    if (!r->user != !r->password_stdin)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "--user and --password-stdin go together");
    if (env("HF_ENDPOINT")) r->options.hub_endpoint = env("HF_ENDPOINT");
    r->token = hub_token();
    r->options.hub_token = r->token;
    r->options.revision = r->revision;
    r->options.file = r->file;
    r->options.user = r->user;
    r->options.insecure = r->insecure;
    r->options.n_parallel = (uint32_t)r->n_parallel;
    if (r->password_stdin && (st = cli_text(&r->password, "-", err)) != MLXR_OK) return st;
    r->options.password = r->password;
    return find_auth(r, err);
}

void remote_cli_clear(struct remote_cli *r)
{
    for (size_t i = 0; i < MLXR_COUNT(r->auth_paths); i++) free(r->auth_paths[i]);
    free(r->token);
    free(r->password);
    *r = (struct remote_cli){0};
}
