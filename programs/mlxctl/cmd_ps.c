/* mlxctl ps: what a daemon has loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../daemon.h"
#include "../stores.h"
#include "mlxctl.h"

/* Seconds since 1970 of "2026-08-21T10:00:00.5+02:00"; false: it is no such time. */
static bool read_time(int64_t *out, const char *text)
{
    int year, month, day, hour, minute, second, n = 0, zone_hours = 0, zone_minutes = 0;
    int64_t y, days;
    char sign = 'Z';

    if (!text ||
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second, &n) != 6)
        return false;
    text += n;
    if (*text == '.') text += 1 + strspn(text + 1, "0123456789");
    if (*text == '+' || *text == '-') {
        sign = *text;
        if (sscanf(text + 1, "%2d:%2d", &zone_hours, &zone_minutes) != 2) return false;
    } else if (*text != 'Z' && *text != 'z') {
        return false;
    }
    if (month < 1 || month > 12 || day < 1 || day > 31) return false;
    /* Days since 1970 in the Gregorian calendar, with years that begin in March. */
    y = year - (month <= 2);
    days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1 -
           719468;
    *out = days * 86400 + hour * 3600 + minute * 60 + second -
           (sign == '-' ? -1 : 1) * (zone_hours * 3600 + zone_minutes * 60);
    return true;
}

/* A constant text of less than 48 bytes. */
static const char *word(char out[48], const char *text)
{
    snprintf(out, 48, "%s", text);
    return out;
}

/* How long it stays: "4 minutes from now", "forever". */
static const char *words_until(char out[48], const char *expires_at, int64_t now)
{
    static const struct {
        int64_t seconds;
        const char *word;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t at, left;
    size_t i = 0;

    if (!read_time(&at, expires_at)) return word(out, "-");
    left = at - now;
    if (left > (int64_t)50 * 365 * 86400) return word(out, "forever");
    if (left <= 0) return word(out, "ends when idle");
    while (left < units[i].seconds) i++;
    left /= units[i].seconds;
    snprintf(out, 48, "%lld %s%s from now", (long long)left, units[i].word, left == 1 ? "" : "s");
    return out;
}

static const char *words_processor(char out[48], double size, double on_gpu)
{
    int gpu;

    if (on_gpu <= 0) return word(out, "100% CPU");
    if (size <= 0 || on_gpu >= size) return word(out, "100% GPU");
    gpu = (int)(on_gpu / size * 100 + 0.5);
    snprintf(out, 48, "%d%%/%d%% CPU/GPU", 100 - gpu, gpu);
    return out;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key)); /* 0 when it is none */
}

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "-";
}

static mlxr_status print_table(const json_t *models, mlxr_error *err)
{
    static const char *const titles[] = {"NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"};
    static const bool right[] = {false, false, true, false, true, false};
    struct table *t = table_create(MLXR_COUNT(titles), titles, right);
    int64_t now = (int64_t)time(NULL);
    mlxr_status st;

    if (!t) return mlxr_fail_nomem(err, "table");
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *m = json_array_get(models, i);
        const char *digest = text(m, "digest");
        double size = number(m, "size"), context = number(m, "context_length");
        char words[48], id[13], bytes[32];
        if (strncmp(digest, "sha256:", 7) == 0) digest += 7;
        snprintf(id, sizeof id, "%s", digest);
        table_cell(t, text(m, "name"));
        table_cell(t, id);
        table_cell(t, words_size(bytes, size > 0 && size < 1e18 ? (uint64_t)size : 0));
        table_cell(t, words_processor(words, size, number(m, "size_vram")));
        snprintf(words, sizeof words, "%.0f", context);
        table_cell(t, context > 0 ? words : "-");
        table_cell(t, words_until(words, json_string_value(json_object_get(m, "expires_at")), now));
    }
    st = table_print(t, stdout, err);
    table_free(t);
    return st;
}

static mlxr_status print_json(const json_t *doc, mlxr_error *err)
{
    char *out = json_dumps(doc, JSON_INDENT(1));

    if (!out) return mlxr_fail_nomem(err, "answer");
    printf("%s\n", out);
    free(out);
    return fflush(stdout) == 0 ? MLXR_OK : mlxr_fail(err, MLXR_E_IO, "the answer could not be written");
}

int cmd_ps(int argc, char **argv)
{
    const char *host = NULL;
    bool json = false;
    const struct cli_option table[] = {
        {"host", CLI_STRING, "HOST", &host, 0, 0, DAEMON_HOST_HELP},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "what the daemon answers, as JSON"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl ps", "of the daemon that serves the store", "daemon"},
        {"mlxctl ps --host 127.0.0.1:11434 --json", "of another, for scripts", "daemon"},
    };
    const struct cli cli = {
        .program = "mlxctl ps",
        .synopsis = "[options]",
        .summary = "The models that a daemon has loaded, and until when each stays so.",
        .options = table,
        .n_options = MLXR_COUNT(table),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    struct daemon *daemon = NULL;
    json_t *doc = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, NULL, 0, &n_args, &code)) return code;
    st = daemon_open_any(&daemon, host, NULL, &err);
    if (st == MLXR_OK) st = daemon_call(&doc, daemon, "/api/ps", NULL, &err);
    if (st == MLXR_OK && !json_is_array(json_object_get(doc, "models")))
        st = mlxr_fail(&err, MLXR_E_NETWORK, "%s does not answer as a daemon does: no list of models",
                       daemon_words(daemon));
    if (st == MLXR_OK) st = json ? print_json(doc, &err) : print_table(json_object_get(doc, "models"), &err);
    json_decref(doc);
    daemon_close(daemon);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
