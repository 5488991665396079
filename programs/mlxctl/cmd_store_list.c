/* mlxctl store list (list, ls): the models of the store. */
#include <ctype.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "mlxctl.h"
#include "store/keep.h"
#include "store_ui.h"

/* Whether name has word in it, without regard to the case of letters. */
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);

    for (; *name; name++)
        if (strncasecmp(name, word, n) == 0) return true;
    return n == 0;
}

static json_t *entry_json(report_json *r, const mlxr_store_entry *e)
{
    json_t *o = json_object();

    report_put(r, o, "name", report_string(e->name));
    report_put(r, o, "digest", e->digest ? report_string(e->digest) : json_null());
    report_put(r, o, "family", e->family ? report_string(e->family) : json_null());
    report_put(r, o, "quantization", e->quantization ? report_string(e->quantization) : json_null());
    report_put_count(r, o, "parameters", e->n_parameters);
    report_put_count(r, o, "size_bytes", e->size_bytes);
    report_put_count(r, o, "shared_bytes", e->shared_bytes);
    report_put_count(r, o, "linked_bytes", e->linked_bytes);
    report_put(r, o, "modified", json_integer(e->modified_seconds));
    report_put(r, o, "broken", e->broken ? report_string(e->broken) : json_null());
    return o;
}

static mlxr_status print_json(const mlxr_store_entry *entries, size_t n, const char *word, mlxr_error *err)
{
    report_json r = {.root = json_object()};
    json_t *list = report_put(&r, r.root, "models", json_array());
    mlxr_status st;

    for (size_t i = 0; i < n; i++)
        if (has_word(entries[i].name, word)) report_add(&r, list, entry_json(&r, &entries[i]));
    st = report_write_json(&r, err);
    json_decref(r.root);
    return st;
}

static void cells(struct table *t, const mlxr_store_entry *e, int64_t now)
{
    char text[32];
    const char *digest = e->digest && strncmp(e->digest, "sha256:", 7) == 0 ? e->digest + 7 : "";

    table_cell(t, e->name);
    table_cell(t, e->family && *e->family ? e->family : "-");
    table_cell(t, e->broken ? "broken" : e->quantization && *e->quantization ? e->quantization : "-");
    table_cell(t, words_size(text, e->size_bytes));
    table_cell(t, e->shared_bytes ? words_size(text, e->shared_bytes) : "-");
    table_cell(t, words_age(text, e->modified_seconds, now));
    snprintf(text, sizeof text, "%.12s", digest);
    table_cell(t, text);
}

static mlxr_status print_table(const mlxr_store_entry *entries, size_t n, const char *word,
                               const char *program, mlxr_error *err)
{
    static const char *const titles[] = {"NAME",   "FAMILY",   "QUANTIZATION", "SIZE",
                                         "SHARED", "MODIFIED", "DIGEST"};
    static const bool right[] = {false, false, false, true, true, false, false};
    struct table *t = table_create(MLXR_COUNT(titles), titles, right);
    int64_t now = (int64_t)time(NULL);
    mlxr_status st;

    for (size_t i = 0; i < n; i++)
        if (has_word(entries[i].name, word)) cells(t, &entries[i], now);
    st = table_print(t, stdout, err);
    table_free(t);
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        mlxr_buf why = {0};
        if (!entries[i].broken || !has_word(entries[i].name, word)) continue;
        report_clean(&why, entries[i].broken);
        fprintf(stderr, "%s: %s cannot be used: %s\n", program, entries[i].name, why.data ? why.data : "");
        mlxr_buf_clear(&why);
    }
    return st;
}

int cmd_store_list(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object: {\"models\": [...]}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store list", "every model, with its size and what it shares with others", NULL},
        {"mlxctl list smol", "those with \"smol\" in their names", NULL},
        {"mlxctl list --json | grep -o '\"size_bytes\": [0-9]*'", "their sizes, for a program", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store list",
        .synopsis = "[WORD] [--json]",
        .summary =
            "The models of the store: name, family, quantization, size, the bytes of it that other models "
            "have "
            "too, age, digest; with WORD those that have it in their names. On a terminal the last columns "
            "are "
            "left out where there is no room for them. Also: mlxctl list, mlxctl ls.\n\n"
            "Keys of --json: name, digest, family, quantization, parameters, size_bytes, shared_bytes, "
            "linked_bytes (lying outside the store), modified (seconds since 1970), broken (null, or why the "
            "model cannot be used).",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    const char *args[1] = {""};
    mlxr_store *store = NULL;
    mlxr_store_entry *entries = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args, n = 0;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_list(&entries, &n, store, &err)) != MLXR_OK) goto done;
    st = json ? print_json(entries, n, args[0], &err) : print_table(entries, n, args[0], cli.program, &err);
done:
    mlxr_store_entries_free(entries, n);
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}

static int by_text(const void *a, const void *b)
{
    return strcasecmp(*(char *const *)a, *(char *const *)b);
}

/* A key that is pressed waits for this: no manifest is read, so that models that cannot be used are among the names. */
static mlxr_status print_names(mlxr_store *store, mlxr_error *err)
{
    mlxr_name *names = NULL;
    char **texts = NULL;
    size_t n = 0;
    mlxr_status st = mlxr_names_read(&names, &n, store, err);

    if (st == MLXR_OK && !(texts = mlxr_calloc_array(n, sizeof *texts))) st = mlxr_fail_nomem(err, "store");
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        mlxr_buf text = {0};
        mlxr_name_display(&text, &names[i]);
        if (!(texts[i] = mlxr_buf_take(&text, NULL))) st = mlxr_fail_nomem(err, "store");
    }
    if (st == MLXR_OK && n) qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        size_t k = strlen(texts[i]), n_tag = strlen(":" MLXR_NAME_TAG);
        bool latest = k > n_tag && strcmp(texts[i] + k - n_tag, ":" MLXR_NAME_TAG) == 0;
        printf("%.*s\n", (int)(latest ? k - n_tag : k), texts[i]);
    }
    for (size_t i = 0; i < n && texts; i++) free(texts[i]);
    free(texts);
    free(names);
    return st;
}

int cmd_store_names(int argc, char **argv)
{
    const struct cli cli = {
        .program = "mlxctl store names",
        .synopsis = "",
        .summary = "The names of the store's models, one a line, as completions want them.",
        .arguments = "none",
    };
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, NULL, 0, &n_args, &code)) return code;
    if ((st = cli_store_open(&store, cli.program, &err)) == MLXR_OK) st = print_names(store, &err);
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}
