/* settings: see settings.h. */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "../stores.h"
#include "base/fs.h"
#include "serve/native.h"
#include "store/yaml.h"

extern char **environ;

#define AT(member) offsetof(struct settings, member)
#define GIB        (1024.0 * 1024 * 1024)
#define DAY        86400.0

static const struct setting table[] = {
    {"host", SETTING_TEXT, "HOST", "127.0.0.1", "OLLAMA_HOST", AT(host), 0, 0, 0,
     "where it listens: HOST, HOST:PORT, :PORT, [V6]:PORT, http://HOST:PORT or unix:PATH; beyond loopback it "
     "wants --api-key-file"},
    {"port", SETTING_INT, "PORT", "11434", NULL, AT(port), 0, 65535, 0,
     "and at which port; 0: any that is free"},
    {"tls-cert", SETTING_TEXT, "FILE", NULL, NULL, AT(tls_cert), 0, 0, 0,
     "speaks HTTPS with this certificate (PEM, with its chain)"},
    {"tls-key", SETTING_TEXT, "FILE", NULL, NULL, AT(tls_key), 0, 0, 0, "and its private key (PEM)"},
    {"api-key-file", SETTING_TEXT, "FILE", NULL, NULL, AT(api_key_file), 0, 0, 0,
     "who asks has to give a key of this file, one a line; read again on SIGHUP"},
    {"no-auth", SETTING_FLAG, NULL, NULL, NULL, AT(no_auth), 0, 0, 0,
     "nobody needs a key, also beyond loopback"},
    {"origins", SETTING_LIST, "ORIGIN", NULL, "OLLAMA_ORIGINS", AT(origins), 0, 0, 0,
     "pages of this origin may ask as well; * stands for any text; repeatable"},
    {"max-body", SETTING_SIZE, "SIZE", "64M", NULL, AT(max_body), 1024, 64 * GIB, 0, "the largest request"},
    {"max-connections", SETTING_INT, "N", "4096", NULL, AT(max_connections), 1, 1000000, 0,
     "connections at a time"},
    {"idle-timeout", SETTING_SPAN, "TIME", "120s", NULL, AT(idle_timeout), 1, DAY, 0,
     "a connection without a request is closed after so long"},
    {"heartbeat", SETTING_SPAN, "TIME", "15s", NULL, AT(heartbeat), 0, DAY, 0,
     "a stream that is silent for so long gets a sign of life; 0: none"},
    {"http-threads", SETTING_INT, "N", "1", NULL, AT(http_threads), 1, 64, 0, "threads that speak HTTP"},
    {"runner", SETTING_CHOICE, "mock|local", "local", NULL, AT(runner), 0, 0, 0,
     "what answers: the models, or a mock that needs none"},
    {"mock-token-ms", SETTING_INT, "N", "0", NULL, AT(mock_token_ms), 0, 60000, 0,
     "a pause before each token of the mock"},
    {"model-paths-json", SETTING_TEXT, "FILE", NULL, NULL, AT(model_paths_json), 0, 0, 0,
     "its ids are names of models too"},
    {"device", SETTING_CHOICE, "cpu|ref|mlx|mlx:gpu|mlx:cpu", "cpu", NULL, AT(device), 0, 0, 0,
     "what models run on"},
    {"isa", SETTING_TEXT, "ISA", NULL, "MLXR_CPU", AT(isa), 0, 0, 0,
     "of the cpu: avx2, avx512 ... (default: the best it has)"},
    {"precision", SETTING_CHOICE, "exact|fast", NULL, NULL, AT(precision), 0, 0, 0,
     "of the cpu's arithmetic (default: the device's own)"},
    {"kv", SETTING_CHOICE, "f32|f16|int8", NULL, NULL, AT(kv), 0, 0, 0, CLI_KV},
    {"threads", SETTING_INT, "N", "0", NULL, AT(threads), 0, 1024, 0, "of a model; 0: one a core"},
    {"context-length", SETTING_INT, "N", "0", "OLLAMA_CONTEXT_LENGTH", AT(context_length), 0, 1 << 28, 0,
     "tokens of context; 0: the model's own, at most 8192"},
    {"parallel", SETTING_INT, "N", "64", "OLLAMA_NUM_PARALLEL", AT(parallel), 0, 4096, 0,
     "answers of one model at a time, further ones wait; 0: 64"},
    {"kv-memory", SETTING_SIZE, "SIZE", "0", NULL, AT(kv_memory), 0, 4096 * GIB, 0,
     "for keys and values of one model; 0: room for 32768 tokens"},
    {"prefix-cache", SETTING_SIZE, "SIZE", NULL, NULL, AT(prefix_cache), 0, 4096 * GIB, 0,
     "of those, what is kept of earlier answers (default: all that is free); 0: nothing"},
    {"max-models", SETTING_INT, "N", "3", "OLLAMA_MAX_LOADED_MODELS", AT(max_models), 0, 1024, 0,
     "models loaded at a time; 0: 3"},
    {"max-memory", SETTING_SIZE, "SIZE", "0", NULL, AT(max_memory), 0, 65536 * GIB, 0,
     "all models together; 0: 80 % of the machine's"},
    {"max-queue", SETTING_INT, "N", "512", "OLLAMA_MAX_QUEUE", AT(max_queue), 1, 1000000, 0,
     "requests that wait for a model; further ones are refused"},
    {"load-timeout", SETTING_SPAN, "TIME", "5m", "OLLAMA_LOAD_TIMEOUT", AT(load_timeout), 0, 365 * DAY, true,
     "a request waits so long for its model at most; 0: as long as it takes"},
    {"keep-alive", SETTING_SPAN, "TIME", "5m", "OLLAMA_KEEP_ALIVE", AT(keep_alive), 0, 365 * DAY, true,
     "a model nobody uses stays loaded for so long; -1: forever"},
    {"drain-timeout", SETTING_SPAN, "TIME", "30s", NULL, AT(drain_timeout), 0, DAY, 0,
     "at the end answers that run have so long to become whole"},
    {"preload", SETTING_LIST, "MODEL", NULL, NULL, AT(preload), 0, 0, 0,
     "is loaded at the start, and stays; repeatable"},
    {"pull-tries", SETTING_INT, "N", "6", NULL, AT(pull_tries), 1, 100, 0,
     "a request of pull, push or create that fails for a moment's reason is made so often"},
    {"strict", SETTING_FLAG, NULL, NULL, NULL, AT(strict), 0, 0, 0,
     "refuses requests with unknown fields, of which it only warns otherwise"},
    {"log", SETTING_TEXT, "FILE", NULL, NULL, AT(log), 0, 0, 0,
     "a line of JSON for each request; -: on standard error (default: lines for people on a terminal, else "
     "none)"},
    {"log-bodies", SETTING_FLAG, NULL, NULL, NULL, AT(log_bodies), 0, 0, 0,
     "with what was asked and answered in it"},
    {"log-level", SETTING_CHOICE, "debug|info|warn", "info", "OLLAMA_DEBUG", AT(log_level), 0, 0, 0,
     "what it says of itself"},
};

enum { N_ROWS = MLXR_COUNT(table), INT_NONE = -1 };

size_t setting_count(void)
{
    return N_ROWS;
}

const struct setting *setting_at(size_t i)
{
    return i < N_ROWS ? &table[i] : NULL;
}

static size_t row_of(const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (strcmp(table[i].name, name) == 0) return i;
    return N_ROWS;
}

const char *settings_from(const struct settings *s, const char *name)
{
    size_t i = row_of(name);
    return i < N_ROWS ? s->from[i] : "";
}

int settings_rank(const struct settings *s, const char *name)
{
    size_t i = row_of(name);
    return i < N_ROWS ? s->rank[i] : 0;
}

/* ---- values ---- */

static bool is_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    while (*words) {
        size_t k = strcspn(words, "|");
        if (k == n && memcmp(words, word, n) == 0) return true;
        words += k + (words[k] == '|');
    }
    return false;
}

/* "64M", "1.5 GiB", "4096". */
static bool read_size(double *out, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    double x = strtod(text, &end);
    const char *unit;

    if (end == text || !isfinite(x) || !(isdigit((unsigned char)*text) || *text == '.') ||
        strpbrk(text, "xXpP"))
        return false;
    while (*end == ' ') end++;
    if (*end && (unit = strchr(units, toupper((unsigned char)*end)))) {
        for (const char *u = units; u <= unit; u++) x *= 1024;
        end++;
        if (*end == 'i') end++;
    }
    if (toupper((unsigned char)*end) == 'B') end++;
    *out = floor(x);
    return !*end;
}

/* "5m", "90" (seconds), "0.5", "-1". */
static bool read_span(double *out, const char *text)
{
    int64_t ns;
    char *end;
    double x = strtod(text, &end);

    if (end != text && !*end && isfinite(x) && !strpbrk(text, "xXpP")) {
        *out = x * 1e9;
        return true;
    }
    if (!mlxr_duration_parse(&ns, text)) return false;
    *out = ns == INT64_MAX ? -1.0 : (double)ns;
    return true;
}

static void *member(struct settings *s, const struct setting *row)
{
    return (char *)s + row->offset;
}

static mlxr_status bad(mlxr_error *err, const char *from, const char *text, const char *wants)
{
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is not %s", from, text, wants);
}

static mlxr_status range(mlxr_error *err, const struct setting *row, const char *from, const char *text)
{
    char low[64], high[64], wants[200];

    switch (row->kind) {
    case SETTING_SIZE:
        words_size(low, (uint64_t)row->min);
        words_size(high, (uint64_t)row->max);
        snprintf(wants, sizeof wants, "a size from %.20s to %.20s, as 64M or 2GiB", low, high);
        break;
    case SETTING_SPAN:
        snprintf(wants, sizeof wants, "a time from %.0fs to %.0fs%s, as 300ms, 90s or 1h30m", row->min,
                 row->max, row->forever ? " or -1, forever" : "");
        break;
    default: snprintf(wants, sizeof wants, "a whole number from %.0f to %.0f", row->min, row->max); break;
    }
    return bad(err, from, text, wants);
}

static mlxr_status set_list(struct settings *s, const struct setting *row, const char *text, const char *from,
                            mlxr_error *err)
{
    struct cli_list *list = member(s, row);

    while (*text) {
        size_t n = strcspn(text, ","), skip;
        const char *word = text;
        text += n + (text[n] == ',');
        for (skip = 0; skip < n && word[skip] == ' '; skip++) {
        }
        while (n > skip && word[n - 1] == ' ') n--;
        if (n == skip) continue;
        if (list->n == MLXR_COUNT(list->items))
            return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %zu of them", from, MLXR_COUNT(list->items));
        list->items[list->n] = mlxr_arena_strndup(&s->arena, word + skip, n - skip);
        if (!list->items[list->n++]) return mlxr_fail_nomem(err, "settings");
    }
    return MLXR_OK;
}

/* Row i from its text; `text` lives as long as the settings. */
static mlxr_status set_text(struct settings *s, size_t i, const char *text, const char *from, int rank,
                            mlxr_error *err)
{
    const struct setting *row = &table[i];
    void *out = member(s, row);
    char *end, wants[200];
    double x;

    if (!from) return mlxr_fail_nomem(err, "settings");
    switch (row->kind) {
    case SETTING_FLAG:
        if (is_word("1|true|yes|on", text))
            *(bool *)out = true;
        else if (is_word("0|false|no|off", text))
            *(bool *)out = false;
        else
            return bad(err, from, text, "true or false");
        break;
    case SETTING_TEXT: *(const char **)out = *text ? text : NULL; break;
    case SETTING_CHOICE:
        if (strcmp(from, "OLLAMA_DEBUG") == 0) /* a number there */
            text = is_word("0|false|f", text) ? "info" : "debug";
        if (!is_word(row->value, text)) {
            snprintf(wants, sizeof wants, "one of %s", row->value);
            return bad(err, from, text, wants);
        }
        *(const char **)out = text;
        break;
    case SETTING_INT: {
        long long n;
        errno = 0;
        n = strtoll(text, &end, 10);
        if (errno || end == text || *end || (double)n < row->min || (double)n > row->max)
            return range(err, row, from, text);
        *(int64_t *)out = n;
        break;
    }
    case SETTING_SIZE:
        if (!read_size(&x, text) || x < row->min || x > row->max) return range(err, row, from, text);
        *(int64_t *)out = (int64_t)x;
        break;
    case SETTING_SPAN:
        if (!read_span(&x, text)) return range(err, row, from, text);
        if (x < 0 && row->forever) {
            *(int64_t *)out = INT64_MAX;
            break;
        }
        if (x < row->min * 1e9 || x > row->max * 1e9) return range(err, row, from, text);
        *(int64_t *)out = (int64_t)x;
        break;
    case SETTING_LIST: {
        mlxr_status st;
        *(struct cli_list *)out = (struct cli_list){0};
        if ((st = set_list(s, row, text, from, err)) != MLXR_OK) return st;
        break;
    }
    }
    s->from[i] = from;
    s->rank[i] = rank;
    return MLXR_OK;
}

/* ---- names that are nearly right ---- */

static size_t distance(const char *a, const char *b)
{
    size_t row[48], n = strlen(b);

    if (n + 1 > MLXR_COUNT(row) || strlen(a) > 47) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t up = row[j + 1], best = diagonal + (a[i] != b[j]);
            if (up + 1 < best) best = up + 1;
            if (row[j] + 1 < best) best = row[j] + 1;
            row[j + 1] = best;
            diagonal = up;
        }
    }
    return row[n];
}

/* The name of a row that is like this one, or NULL. */
static const char *nearest(const char *name)
{
    const char *near = NULL;
    size_t best = strlen(name) / 3 + 2;

    for (size_t i = 0; i < N_ROWS; i++) {
        size_t d = distance(name, table[i].name);
        if (d < best) {
            best = d;
            near = table[i].name;
        }
    }
    return near;
}

/* ---- the environment ---- */

/* MLXSERVE_MAX_BODY of "max-body". */
static void variable_name(char out[64], const char *name)
{
    size_t n = 0;

    for (const char *p = "MLXSERVE_"; *p; p++) out[n++] = *p;
    for (; *name && n < 63; name++) out[n++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    out[n] = '\0';
}

/* Without the spaces and quotes that shells' files and service managers leave around it; NULL: not set, or empty. */
static const char *variable(struct settings *s, const char *name)
{
    static const char around[] = " \t\r\n\"'";
    const char *value = getenv(name);
    size_t n;

    if (!value) return NULL;
    value += strspn(value, around);
    for (n = strlen(value); n && strchr(around, value[n - 1]); n--) {
    }
    return n ? mlxr_arena_strndup(&s->arena, value, n) : NULL;
}

static mlxr_status read_environment(struct settings *s, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < N_ROWS && st == MLXR_OK; i++) {
        char name[64];
        const char *value, *from;
        variable_name(name, table[i].name);
        from = mlxr_arena_strndup(&s->arena, name, strlen(name));
        value = variable(s, name);
        if (!value && table[i].second) {
            from = table[i].second;
            value = variable(s, from);
        }
        if (value) st = set_text(s, i, value, from, 2, err);
    }
    return st;
}

/* MLXSERVE_... that are none: told, since whoever set them expects something. */
static void warn_of_variables(const char *program)
{
    for (char **e = environ; *e; e++) {
        char name[64], other[64];
        const char *near;
        size_t n = strcspn(*e, "=");
        bool known = false;
        if (strncmp(*e, "MLXSERVE_", 9) != 0 || n >= sizeof name) continue;
        memcpy(name, *e, n);
        name[n] = '\0';
        known = strcmp(name, "MLXSERVE_API_KEY") == 0 || strcmp(name, "MLXSERVE_CONFIG") == 0;
        for (size_t i = 0; i < N_ROWS && !known; i++) {
            variable_name(other, table[i].name);
            known = strcmp(name, other) == 0;
        }
        if (known) continue;
        for (size_t i = 9; i < n; i++) name[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
        near = nearest(name + 9);
        if (near) variable_name(other, near);
        fprintf(stderr, "%s: warning: %.*s is no setting%s%s%s\n", program, (int)n, *e,
                near ? "; is it " : "", near ? other : "", near ? "?" : "");
    }
}

/* ---- the file ---- */

enum { MAX_FILE = 1 << 20 };

static mlxr_status set_node(struct settings *s, size_t i, const mlxr_yaml *node, const char *from,
                            const char *where, mlxr_error *err)
{
    const struct setting *row = &table[i];
    mlxr_status st = MLXR_OK;

    if (!from || !where) return mlxr_fail_nomem(err, "settings");
    if (node->kind == MLXR_YAML_NULL) return MLXR_OK;
    if (row->kind == SETTING_LIST && node->kind == MLXR_YAML_LIST) {
        struct cli_list *list = member(s, row);
        *list = (struct cli_list){0};
        for (size_t k = 0; k < node->n; k++) {
            if (node->items[k]->kind == MLXR_YAML_LIST || node->items[k]->kind == MLXR_YAML_MAP)
                return mlxr_fail(err, MLXR_E_FORMAT, "%s: has %s in its list, wants texts", where,
                                 mlxr_yaml_kind_name(node->items[k]->kind));
            if (list->n == MLXR_COUNT(list->items))
                return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %zu of them", where,
                                 MLXR_COUNT(list->items));
            list->items[list->n] = mlxr_arena_strndup(&s->arena, node->items[k]->text,
                                                      node->items[k]->n_text);
            if (!list->items[list->n++]) return mlxr_fail_nomem(err, "settings");
        }
        s->from[i] = from;
        s->rank[i] = 1;
        return MLXR_OK;
    }
    if (node->kind == MLXR_YAML_LIST || node->kind == MLXR_YAML_MAP)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: is %s, which it cannot be", where,
                         mlxr_yaml_kind_name(node->kind));
    st = set_text(s, i, node->text, where, 1, err);
    s->from[i] = from;
    return st;
}

/* Comments alone, or nothing. */
static bool is_blank(const mlxr_buf *text)
{
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] == '#') i += strcspn(text->data + i, "\n");
        if (i < text->len && !isspace((unsigned char)text->data[i])) return false;
    }
    return true;
}

static mlxr_status read_file(struct settings *s, const char *path, mlxr_error *err)
{
    mlxr_buf text = {0};
    mlxr_yaml *doc = NULL;
    mlxr_status st = mlxr_file_read(&text, path, MAX_FILE, err);

    if (st == MLXR_OK && is_blank(&text)) {
        mlxr_buf_clear(&text);
        return MLXR_OK;
    }
    if (st == MLXR_OK) st = mlxr_yaml_parse(&doc, &s->arena, text.data ? text.data : "", text.len, path, err);
    if (st == MLXR_OK && doc->kind != MLXR_YAML_MAP && doc->kind != MLXR_YAML_NULL)
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: is %s, wants \"key: value\" lines", path,
                       mlxr_yaml_kind_name(doc->kind));
    for (size_t k = 0; st == MLXR_OK && doc->kind == MLXR_YAML_MAP && k < doc->n; k++) {
        const mlxr_yaml *key = doc->keys[k];
        const char *near;
        size_t i = row_of(key->text);
        if (strcmp(key->text, "store") == 0) {
            if (doc->items[k]->kind != MLXR_YAML_TEXT)
                st = mlxr_fail(err, MLXR_E_FORMAT, "%s:%zu: store: is %s, wants a folder", path, key->line,
                               mlxr_yaml_kind_name(doc->items[k]->kind));
            else if (!s->store && !(s->store = mlxr_strdup(doc->items[k]->text)))
                st = mlxr_fail_nomem(err, "settings");
            else if (!s->store_from)
                s->store_from = mlxr_arena_printf(&s->arena, "%s:%zu", path, key->line);
        } else if (i < N_ROWS) {
            st = set_node(s, i, doc->items[k], mlxr_arena_printf(&s->arena, "%s:%zu", path, key->line),
                          mlxr_arena_printf(&s->arena, "%s:%zu: %s", path, key->line, table[i].name), err);
        } else {
            near = nearest(key->text);
            st = mlxr_fail(err, MLXR_E_FORMAT, "%s:%zu: there is no setting \"%.100s\"%s%s%s", path,
                           key->line, key->text, near ? "; is it \"" : "", near ? near : "",
                           near ? "\"?" : "");
        }
    }
    mlxr_buf_clear(&text);
    return st;
}

/* --config, MLXSERVE_CONFIG, <store>/mlxserve.yaml, /etc/mlxserve.yaml: the first that is there. */
static mlxr_status find_file(struct settings *s, const char *given, const char *root, mlxr_error *err)
{
    const char *named = given ? given : variable(s, "MLXSERVE_CONFIG"), *of_store;

    if (named) {
        s->file = named;
        return read_file(s, named, err);
    }
    of_store = root ? mlxr_arena_printf(&s->arena, "%s/mlxserve.yaml", root) : NULL;
    if (of_store && access(of_store, F_OK) == 0)
        s->file = of_store;
    else if (access("/etc/mlxserve.yaml", F_OK) == 0)
        s->file = "/etc/mlxserve.yaml";
    return s->file ? read_file(s, s->file, err) : MLXR_OK;
}

/* ---- all together ---- */

/* What the options said; nothing yet. */
struct given {
    bool flag;
    const char *text;
    struct cli_list list;
};

static void option_of(struct cli_option *o, const struct setting *row, struct given *g, mlxr_arena *arena)
{
    static const cli_kind kinds[] = {CLI_FLAG,   CLI_STRING, CLI_CHOICE, CLI_STRING,
                                     CLI_STRING, CLI_STRING, CLI_LIST};

    *o = (struct cli_option){.name = row->name,
                             .kind = kinds[row->kind],
                             .value = row->value,
                             .min = row->min,
                             .max = row->max,
                             .help = row->help};
    /* Where 0 stands for something, the help has said so. */
    if (row->otherwise && strcmp(row->otherwise, "0") != 0)
        o->help = mlxr_arena_printf(arena, "%s (%s)", row->help, row->otherwise);
    if (!o->help) o->help = row->help;
    o->out = row->kind == SETTING_FLAG   ? (void *)&g->flag
             : row->kind == SETTING_LIST ? (void *)&g->list
                                         : (void *)&g->text;
}

static mlxr_status take_options(struct settings *s, const struct given *given, mlxr_error *err)
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < N_ROWS && st == MLXR_OK; i++) {
        const struct setting *row = &table[i];
        const char *from = mlxr_arena_printf(&s->arena, "--%s", row->name);
        if (row->kind == SETTING_LIST && given[i].list.n) {
            *(struct cli_list *)member(s, row) = given[i].list;
            s->from[i] = from;
            s->rank[i] = 3;
        } else if (row->kind == SETTING_FLAG && given[i].flag) {
            st = set_text(s, i, "true", from, 3, err);
        } else if (given[i].text) {
            st = set_text(s, i, given[i].text, from, 3, err);
        }
    }
    return st;
}

bool settings_read(struct settings *s, const struct cli *base, int argc, char **argv, bool *check, bool *json,
                   int *exit_code)
{
    struct given given[N_ROWS] = {{0}};
    struct cli_option options[N_ROWS + 3];
    struct cli cli = *base;
    const char *config = NULL, *home = getenv("MLXR_HOME");
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;
    char *root = NULL;
    size_t n_args;
    bool usage = false;

    *s = (struct settings){.prefix_cache = -1};
    *check = *json = false;
    options[0] = (struct cli_option){"config",
                                     CLI_STRING,
                                     "FILE",
                                     &config,
                                     0,
                                     0,
                                     "settings, YAML (default: mlxserve.yaml in the store's folder, else "
                                     "/etc/mlxserve.yaml)"};
    options[1] = (struct cli_option){"check-config",
                                     CLI_FLAG,
                                     NULL,
                                     check,
                                     0,
                                     0,
                                     "says what is set and where each value comes from, and ends"};
    options[2] = (struct cli_option){"json", CLI_FLAG, NULL, json, 0, 0, "the same as JSON"};
    for (size_t i = 0; i < N_ROWS; i++) option_of(&options[3 + i], &table[i], &given[i], &s->arena);
    cli.options = options;
    cli.n_options = MLXR_COUNT(options);
    if (!cli_parse(&cli, argc, argv, NULL, 0, &n_args, exit_code)) return false;
    *exit_code = CLI_EXIT_FAILED;
    s->from = mlxr_arena_calloc(&s->arena, N_ROWS, sizeof *s->from);
    s->rank = mlxr_arena_calloc(&s->arena, N_ROWS, sizeof *s->rank);
    if (!s->from || !s->rank) st = mlxr_fail_nomem(&err, "settings");
    for (size_t i = 0; i < N_ROWS && st == MLXR_OK; i++) {
        s->from[i] = "default";
        if (table[i].otherwise) st = set_text(s, i, table[i].otherwise, "default", 0, &err);
    }
    if (st == MLXR_OK) st = cli_store_root(&root, &err);
    if (st == MLXR_OK && (cli_store_option() || (home && *home))) {
        s->store = mlxr_strdup(root);
        s->store_from = cli_store_option() ? "--store" : "MLXR_HOME";
    }
    if (st == MLXR_OK) st = find_file(s, config, root, &err);
    if (st == MLXR_OK && !s->store) {
        s->store = root;
        s->store_from = "default";
        root = NULL;
    }
    if (st == MLXR_OK) st = read_environment(s, &err);
    if (st == MLXR_OK && (st = take_options(s, given, &err)) != MLXR_OK) usage = true;
    if (st == MLXR_OK) warn_of_variables(cli.program);
    free(root);
    if (st != MLXR_OK) *exit_code = usage ? cli_usage(&cli, "%s", err.message) : cli_fail(cli.program, &err);
    return st == MLXR_OK;
}

void settings_clear(struct settings *s)
{
    free(s->store);
    mlxr_arena_clear(&s->arena);
    *s = (struct settings){0};
}

/* ---- what is set ---- */

static void span_text(char out[64], int64_t ns)
{
    if (ns == INT64_MAX)
        snprintf(out, 64, "-1");
    else if (ns % 1000000000 == 0)
        snprintf(out, 64, "%llds", (long long)(ns / 1000000000));
    else
        snprintf(out, 64, "%gs", (double)ns / 1e9);
}

static json_t *value_json(const struct settings *s, const struct setting *row)
{
    const void *at = (const char *)s + row->offset;
    char text[64];
    json_t *list;

    switch (row->kind) {
    case SETTING_FLAG: return json_boolean(*(const bool *)at);
    case SETTING_TEXT:
    case SETTING_CHOICE: {
        const char *word = *(const char *const *)at;
        return word ? json_string_nocheck(word) : json_null();
    }
    case SETTING_INT: return json_integer(*(const int64_t *)at);
    case SETTING_SIZE: return *(const int64_t *)at < 0 ? json_null() : json_integer(*(const int64_t *)at);
    case SETTING_SPAN: span_text(text, *(const int64_t *)at); return json_string(text);
    case SETTING_LIST:
        list = json_array();
        for (size_t i = 0; i < ((const struct cli_list *)at)->n; i++)
            json_array_append_new(list, json_string_nocheck(((const struct cli_list *)at)->items[i]));
        return list;
    }
    return NULL;
}

/* A line that a config file may have as well. Takes the value. */
static void print_row(const char *name, json_t *value, const char *from)
{
    char *words = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    int n = printf("%s: %s", name, words ? words : "null");

    printf("%*s # %s\n", n < 40 ? 40 - n : 0, "", from);
    free(words);
    json_decref(value);
}

mlxr_status settings_print(const struct settings *s, bool json, mlxr_error *err)
{
    json_t *root = json_object();
    char *text = NULL;
    mlxr_status st = MLXR_OK;

    json_object_set_new(root, "file", s->file ? json_string_nocheck(s->file) : json_null());
    json_object_set_new(root, "store", json_pack("{s:s, s:s}", "value", s->store, "from", s->store_from));
    if (!json) {
        printf("# config file: %s\n", s->file ? s->file : "none");
        print_row("store", json_string_nocheck(s->store), s->store_from);
    }
    for (size_t i = 0; i < N_ROWS; i++) {
        json_t *value = value_json(s, &table[i]);
        if (!value) st = mlxr_fail_nomem(err, "settings");
        if (json) {
            json_t *o = json_object();
            json_object_set_new(o, "value", value);
            json_object_set_new(o, "from", json_string_nocheck(s->from[i]));
            json_object_set_new(root, table[i].name, o);
        } else if (value) {
            print_row(table[i].name, value, s->from[i]);
        }
    }
    if (json && st == MLXR_OK) {
        text = json_dumps(root, JSON_INDENT(1));
        if (text)
            printf("%s\n", text);
        else
            st = mlxr_fail_nomem(err, "settings");
    }
    free(text);
    json_decref(root);
    if (fflush(stdout) != 0 && st == MLXR_OK)
        st = mlxr_fail(err, MLXR_E_IO, "standard output: %s", strerror(errno));
    return st;
}
