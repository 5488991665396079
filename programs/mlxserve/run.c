/* run: the daemon's life: settings, opening, signals, the end. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../stores.h"
#include "base/fs.h"
#include "listen.h"
#include "mlxserve.h"

#define EXAMPLES(program)                                                                                \
    {program, "serves the models of the store at http://127.0.0.1:11434", "server"},                     \
        {program " --host unix:$HOME/mlxr.socket --preload smollm2",                                     \
         "at a Unix socket, with a model loaded from the start", "server"},                              \
        {program " --host 0.0.0.0 --api-key-file keys --tls-cert cert.pem --tls-key key.pem",            \
         "for other machines, who need a key and speak HTTPS", "server"},                                \
        {program " --check-config", "what would be set, and where each value comes from", NULL},         \
    {                                                                                                    \
        "OLLAMA_KEEP_ALIVE=1h " program " --check-config | grep keep", "what the environment says", NULL \
    }
static const struct cli_example examples[] = {EXAMPLES("mlxserve")};
static const struct cli_example command_examples[] = {EXAMPLES("mlxctl serve")};

static const struct cli_exit exits[] = {
    {0, "ended by a signal; or the settings are as they may be"},
    {130, "ended at once by a second Ctrl-C (143: SIGTERM)"},
};

/* ---- what is set, as the library takes it ---- */

static void put_settings(mlxr_serve_options *o, const struct settings *s)
{
    o->server.tls_cert = s->tls_cert;
    o->server.tls_key = s->tls_key;
    o->server.n_threads = (uint32_t)s->http_threads;
    o->server.max_connections = (uint32_t)s->max_connections;
    o->server.idle_seconds = (uint32_t)((s->idle_timeout + 999999999) / 1000000000);
    o->server.heartbeat_seconds = (uint32_t)((s->heartbeat + 999999999) / 1000000000);
    o->server.max_body = (size_t)s->max_body;
    o->gate.origins = s->origins.items;
    o->gate.n_origins = s->origins.n;
    if (s->max_models) o->residency.max_loaded = (size_t)s->max_models;
    o->residency.memory_bytes = (uint64_t)s->max_memory;
    o->residency.max_waiting = (size_t)s->max_queue;
    o->residency.keep_alive_ns = s->keep_alive == INT64_MAX ? MLXR_KEEP_FOREVER : s->keep_alive;
    o->residency.wait_ns = s->load_timeout == INT64_MAX ? 0 : (uint64_t)s->load_timeout;
    o->engine.device = s->device;
    o->engine.isa = s->isa;
    o->engine.mlx_library = cli_mlx_library();
    o->engine.precision = cli_precision(s->precision);
    o->engine.kv_type = cli_kv_type(s->kv);
    o->engine.n_threads = (int32_t)s->threads;
    o->engine.context_length = (size_t)s->context_length;
    if (s->parallel) o->engine.max_sequences = (size_t)s->parallel;
    o->engine.kv_bytes = (size_t)s->kv_memory;
    if (s->prefix_cache >= 0) o->engine.prefix_cache_bytes = (size_t)s->prefix_cache;
    o->model_paths = s->model_paths_json;
    o->home = getenv("HOME");
    o->store_root = s->store;
    o->mock = strcmp(s->runner, "mock") == 0;
    o->mock_token_ms = (uint32_t)s->mock_token_ms;
    o->strict = s->strict;
    o->journal_bodies = s->log_bodies;
    o->journal_level = strcmp(s->log_level, "debug") == 0  ? MLXR_LOG_DEBUG
                       : strcmp(s->log_level, "info") == 0 ? MLXR_LOG_INFO
                                                           : MLXR_LOG_WARN;
    if (s->log) {
        o->journal = s->log;
    } else if (isatty(STDERR_FILENO) && !cli_quiet()) {
        o->journal = "-";
        o->journal_for_people = true;
    }
}

/* What cannot be told of one setting alone. */
static mlxr_status check_settings(const struct settings *s, const struct listen_address *a, mlxr_error *err)
{
    if (!s->tls_cert != !s->tls_key)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "--tls-cert and --tls-key go together: %s is missing",
                         s->tls_cert ? "--tls-key" : "--tls-cert");
    if (s->no_auth && s->api_key_file)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s and %s: keys are wanted, or they are not",
                         settings_from(s, "no-auth"), settings_from(s, "api-key-file"));
    if (!a->loopback && !s->no_auth && !s->api_key_file)
        return mlxr_fail(err, MLXR_E_DENIED,
                         "%s: %s is for other machines too, where anybody could use the models: "
                         "--api-key-file FILE lets in who has a key, --no-auth everybody",
                         settings_from(s, "host"), a->host);
    return MLXR_OK;
}

/* ---- life ---- */

struct life {
    const char *program;
    struct settings settings;
    struct listen_address address;
    struct listen_keys keys;
    struct listen_note note;
    struct remote_cli remote;
    char *cache_dir;
    mlxr_serve *serve;
    pthread_t main, drainer;
    bool draining, drained;
};

static void say(const struct life *l, const char *text)
{
    if (!cli_quiet()) fprintf(stderr, "%s: %s\n", l->program, text);
}

static void warn(const struct life *l, const char *text)
{
    fprintf(stderr, "%s: warning: %s\n", l->program, text);
}

static void *drain(void *ud)
{
    struct life *l = ud;

    l->drained = mlxr_serve_drain(l->serve, (uint32_t)(l->settings.drain_timeout / 1000000));
    pthread_kill(l->main, SIGUSR1);
    return NULL;
}

/* The log is opened anew, keys are read again. Bad keys leave those that are. */
static void reload(struct life *l)
{
    mlxr_error err = {0};

    listen_notify("RELOADING=1");
    mlxr_serve_reopen(l->serve);
    if (l->settings.api_key_file) {
        if (listen_keys_read(&l->keys, l->settings.api_key_file, &err) == MLXR_OK) {
            mlxr_serve_set_keys(l->serve, listen_keys_get(&l->keys));
        } else {
            mlxr_error_append(&err, "; the keys stay as they were");
            warn(l, err.message);
        }
    }
    listen_notify("READY=1");
}

/* Until the end. */
static void live(struct life *l, const sigset_t *signals)
{
    int sig = 0;

    for (;;) {
        if (sigwait(signals, &sig) != 0) continue;
        if (sig == SIGUSR1 && l->draining) break;
        if (sig == SIGHUP) reload(l);
        if (sig != SIGINT && sig != SIGTERM) continue;
        if (l->draining) {
            /* Nothing more is waited for; what would stay behind goes. */
            listen_note_close(&l->note);
            if (strncmp(l->address.host, "unix:", 5) == 0) unlink(l->address.host + 5);
            _exit(128 + sig);
        }
        listen_notify("STOPPING=1");
        say(l, "ends when the answers that run are whole; a second signal ends it at once");
        l->draining = true;
        if (pthread_create(&l->drainer, NULL, drain, l) != 0) {
            mlxr_serve_drain(l->serve, 0);
            return;
        }
    }
    pthread_join(l->drainer, NULL);
    if (!l->drained) warn(l, "answers that still ran were cut off");
}

static void tell_start(const struct life *l, const char *url)
{
    const struct settings *s = &l->settings;
    mlxr_store_entry *entries = NULL;
    size_t n = 0;

    if (cli_quiet()) return;
    if (l->serve->store && mlxr_store_list(&entries, &n, l->serve->store, NULL) != MLXR_OK) n = 0;
    mlxr_store_entries_free(entries, n);
    fprintf(stderr, "%s: listens at %s (version %s, %s, %zu model%s in %s)\n", l->program, url,
            mlxr_version(), l->serve->mock ? "the mock" : s->device, n, n == 1 ? "" : "s", s->store);
}

static mlxr_status start(struct life *l, mlxr_error *err)
{
    const struct settings *s = &l->settings;
    mlxr_serve_options o = mlxr_serve_options_default();
    mlxr_error why = {0};
    mlxr_status st;
    char *url;

    if ((st = remote_cli_finish(&l->remote, err)) != MLXR_OK) return st;
    put_settings(&o, s);
    o.remote = l->remote.options;
    o.remote.n_tries = (uint32_t)s->pull_tries;
    o.server.host = l->address.host;
    o.server.port = l->address.port;
    o.gate.check_host = l->address.loopback;
    if (!o.journal_for_people && !(o.journal && strcmp(o.journal, "-") == 0))
        o.log = cli_log(l->program, false);
    o.store.log = o.log;
    o.engine.log = o.log;
    if (!(l->cache_dir = mlxr_asprintf("%s/cache", s->store))) return mlxr_fail_nomem(err, "server");
    o.engine.cache_dir = l->cache_dir;
    if (s->api_key_file) {
        if ((st = listen_keys_read(&l->keys, s->api_key_file, err)) != MLXR_OK) return st;
        o.gate.keys = listen_keys_get(&l->keys)->keys;
        o.gate.n_keys = listen_keys_get(&l->keys)->n;
    }
    if ((st = mlxr_serve_open(&l->serve, &o, err)) != MLXR_OK) {
        if (st == MLXR_E_BUSY) listen_tell_other(&l->address, err);
        return st;
    }
    if (!(url = listen_url(l->serve->server, s))) return mlxr_fail_nomem(err, "server");
    tell_start(l, url);
    if (listen_note_open(&l->note, s->store, url, &why) != MLXR_OK) {
        mlxr_error_append(&why, "; mlxctl does not find this one by itself");
        warn(l, why.message);
    }
    listen_notify("READY=1");
    for (size_t i = 0; i < s->preload.n; i++) {
        mlxr_error failure = {0};
        if (mlxr_serve_preload(l->serve, s->preload.items[i], &failure) != MLXR_OK) {
            mlxr_error_prefix(&failure, "preload %s: ", s->preload.items[i]);
            warn(l, failure.message);
        }
    }
    free(url);
    return MLXR_OK;
}

int mlxserve_run(const char *program, int argc, char **argv)
{
    const struct cli cli = {
        .program = program,
        .synopsis = "[options]",
        .summary =
            "Serves the models of the store over HTTP, in the ways of Ollama, OpenAI and Anthropic.\n\n"
            "Each option is also a variable of the environment (--max-body is MLXSERVE_MAX_BODY) and a "
            "key of the config file. An option counts before a variable, a variable before the file. "
            "Sizes are 64M or 2GiB, times 300ms, 90s or 1h30m.\n\n"
            "SIGTERM and Ctrl-C end it when the answers that run are whole, a second time at once. SIGHUP "
            "opens the log anew and reads the keys again.",
        .examples = strcmp(program, "mlxserve") == 0 ? examples : command_examples,
        .n_examples = MLXR_COUNT(examples),
        .exits = exits,
        .n_exits = MLXR_COUNT(exits),
        .arguments = "none",
    };
    struct life l = {.program = program, .note = {.lock = -1, .file = -1}};
    mlxr_error err = {0};
    mlxr_status st;
    sigset_t signals;
    bool check, json;
    int code;

    remote_cli_init(&l.remote);
    if (!settings_read(&l.settings, &cli, argc, argv, &check, &json, &code)) {
        settings_clear(&l.settings);
        return code;
    }
    signal(SIGPIPE, SIG_IGN);
    mlxr_map_guard(NULL); /* without it a model file that is cut off ends the process */
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* all threads: main waits for them */
    l.main = pthread_self();
    st = listen_address_read(&l.address, &l.settings, &err);
    if (st == MLXR_OK) st = check_settings(&l.settings, &l.address, &err);
    if (check) {
        mlxr_error why = {0};
        if (st == MLXR_OK && l.settings.api_key_file)
            st = listen_keys_read(&l.keys, l.settings.api_key_file, &err);
        if (settings_print(&l.settings, json, &why) != MLXR_OK && st == MLXR_OK) {
            st = why.code;
            err = why;
        }
    } else {
        if (st == MLXR_OK) st = start(&l, &err);
        if (st == MLXR_OK) live(&l, &signals);
    }
    listen_note_close(&l.note);
    mlxr_serve_close(l.serve);
    code = st == MLXR_OK ? 0 : cli_fail(program, &err);
    listen_keys_clear(&l.keys);
    listen_address_clear(&l.address);
    remote_cli_clear(&l.remote);
    free(l.cache_dir);
    settings_clear(&l.settings);
    return code;
}
