/* mlxctl store show NAME: what the store knows of a model, without opening it. */
#include <stdlib.h>
#include <time.h>

#include "base/fs.h"
#include "mlxctl.h"
#include "store/remote.h"
#include "store_ui.h"

struct shown {
    mlxr_store *store;
    mlxr_manifest manifest;
    mlxr_name name;
    mlxr_description description;
    mlxr_catalog catalog;
    char *source; /* or NULL */
};

static void clear(struct shown *s)
{
    free(s->source);
    mlxr_catalog_clear(&s->catalog);
    mlxr_description_clear(&s->description);
    mlxr_manifest_clear(&s->manifest);
}

static mlxr_status gather_once(struct shown *s, const char *name, mlxr_error *err)
{
    mlxr_buf config = {0};
    char *path = NULL;
    mlxr_status st = mlxr_store_find(&s->manifest, &s->name, s->store, name, err);

    if (st != MLXR_OK) return st;
    path = mlxr_store_blob_path(s->store, s->manifest.config.digest);
    st = path ? mlxr_file_read(&config, path, MLXR_CONFIG_MAX_BYTES, err) : mlxr_fail_nomem(err, "store");
    if (st == MLXR_OK)
        st = mlxr_description_parse(&s->description, config.data ? config.data : "", config.len, name, err);
    if (st == MLXR_OK) st = mlxr_catalog_read(&s->catalog, s->store, err);
    if (st == MLXR_OK) {
        s->source = mlxr_origin_read(s->store, s->manifest.digest);
        if (!s->source && s->description.source) s->source = mlxr_strdup(s->description.source);
    }
    mlxr_buf_clear(&config);
    free(path);
    return st;
}

/* A model that another process removes or replaces meanwhile is looked for anew: then it is not there, or whole. */
static mlxr_status gather(struct shown *s, const char *name, mlxr_error *err)
{
    mlxr_status st = gather_once(s, name, err);

    for (int i = 0; i < 3 && st == MLXR_E_NOT_FOUND && s->manifest.n_text; i++) {
        clear(s);
        *s = (struct shown){.store = s->store};
        st = gather_once(s, name, err);
    }
    return st;
}

/* How many other models have this file. */
static size_t n_others(const struct shown *s, const char *digest)
{
    size_t n = 0;

    for (size_t i = 0; i < s->catalog.n; i++) {
        const mlxr_manifest *m = &s->catalog.items[i].manifest;
        if (strcmp(m->digest, s->manifest.digest) == 0) continue; /* another name of the same model */
        for (size_t k = 0; k < m->n_layers; k++) {
            if (strcmp(m->layers[k].digest, digest) != 0) continue;
            n++;
            break;
        }
    }
    return n;
}

/* The other names of this model, each by fn. */
static void each_other_name(const struct shown *s, void (*fn)(void *ud, const char *name), void *ud)
{
    for (size_t i = 0; i < s->catalog.n; i++) {
        const mlxr_catalog_item *item = &s->catalog.items[i];
        mlxr_buf name = {0};
        if (strcmp(item->manifest.digest, s->manifest.digest) != 0 || mlxr_name_same(&item->name, &s->name))
            continue;
        mlxr_name_display(&name, &item->name);
        if (!name.failed) fn(ud, name.data);
        mlxr_buf_clear(&name);
    }
}

static void name_text(void *ud, const char *name)
{
    mlxr_buf *out = ud;

    if (out->len) mlxr_buf_str(out, ", ");
    mlxr_buf_str(out, name);
}

struct names {
    report_json *json;
    json_t *list;
};

static void name_json(void *ud, const char *name)
{
    struct names *n = ud;
    report_add(n->json, n->list, report_string(name));
}

static const char *state_word(mlxr_blob_state state)
{
    switch (state) {
    case MLXR_BLOB_ABSENT: return "missing";
    case MLXR_BLOB_WHOLE: return "";
    case MLXR_BLOB_WRONG_SIZE: return "wrong size";
    case MLXR_BLOB_LINK: return "linked";
    case MLXR_BLOB_LINK_CHANGED: return "linked, changed";
    }
    return "";
}

static int64_t modified(const struct shown *s)
{
    for (size_t i = 0; i < s->catalog.n; i++)
        if (mlxr_name_same(&s->catalog.items[i].name, &s->name)) return s->catalog.items[i].modified_seconds;
    return 0;
}

static json_t *text_json(const char *s)
{
    return s ? report_string(s) : json_null();
}

static mlxr_status print_json(const struct shown *s, const char *name, mlxr_error *err)
{
    const mlxr_manifest *m = &s->manifest;
    report_json r = {.root = json_object()};
    json_t *files;
    uint64_t shared = 0;
    struct names names;
    mlxr_status st;

    report_put(&r, r.root, "name", report_string(name));
    names = (struct names){&r, report_put(&r, r.root, "other_names", json_array())};
    each_other_name(s, name_json, &names);
    report_put(&r, r.root, "digest", json_string(m->digest));
    report_put(&r, r.root, "family", text_json(s->description.family));
    report_put(&r, r.root, "quantization", text_json(s->description.quantization));
    report_put(&r, r.root, "dtype", text_json(s->description.dtype));
    report_put_count(&r, r.root, "parameters", s->description.n_parameters);
    report_put_count(&r, r.root, "context_length", s->description.context_length);
    report_put_count(&r, r.root, "size_bytes", mlxr_manifest_bytes(m));
    report_put(&r, r.root, "modified", json_integer(modified(s)));
    report_put(&r, r.root, "source", text_json(s->source));
    report_put(&r, r.root, "base", text_json(s->description.base));
    files = report_put(&r, r.root, "files", json_array());
    for (size_t i = 0; i < m->n_layers; i++) {
        const mlxr_layer *l = &m->layers[i];
        const char *state = state_word(mlxr_blob_look(s->store, l->digest, l->size));
        size_t n = n_others(s, l->digest);
        json_t *o = report_add(&r, files, json_object());
        report_put(&r, o, "path", report_string(l->path));
        report_put(&r, o, "digest", json_string(l->digest));
        report_put_count(&r, o, "size_bytes", l->size);
        report_put(&r, o, "media_type", report_string(l->media_type));
        report_put_count(&r, o, "other_models", n);
        report_put(&r, o, "state", json_string(*state ? state : "whole"));
        if (n) shared += l->size;
    }
    report_put_count(&r, r.root, "shared_bytes", shared);
    st = report_write_json(&r, err);
    json_decref(r.root);
    return st;
}

static void line(mlxr_buf *out, const char *label, const char *text)
{
    mlxr_buf_printf(out, "%-14s", label);
    report_clean(out, text);
    mlxr_buf_char(out, '\n');
}

static mlxr_status print_text(const struct shown *s, const char *name, mlxr_error *err)
{
    static const char *const titles[] = {"FILE", "SIZE", "DIGEST", "SHARED WITH", "STATE"};
    static const bool right[] = {false, true, false, true, false};
    const mlxr_manifest *m = &s->manifest;
    struct table *t = table_create(MLXR_COUNT(titles), titles, right);
    char words[32], text[64];
    mlxr_buf out = {0}, names = {0};
    mlxr_status st;

    line(&out, "name", name);
    each_other_name(s, name_text, &names);
    if (names.len && !names.failed) line(&out, "also", names.data);
    mlxr_buf_clear(&names);
    line(&out, "digest", m->digest);
    if (s->description.family) line(&out, "family", s->description.family);
    if (s->description.quantization) line(&out, "quantization", s->description.quantization);
    if (s->description.n_parameters)
        line(&out, "parameters", words_count(words, s->description.n_parameters));
    if (s->description.context_length) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)s->description.context_length);
        line(&out, "context", text);
    }
    line(&out, "size", words_size(words, mlxr_manifest_bytes(m)));
    if (modified(s)) line(&out, "modified", words_age(words, modified(s), (int64_t)time(NULL)));
    if (s->source) line(&out, "source", s->source);
    if (s->description.base) line(&out, "made from", s->description.base);
    mlxr_buf_char(&out, '\n');
    st = report_write_text(&out, err);
    mlxr_buf_clear(&out);
    for (size_t i = 0; i < m->n_layers; i++) {
        const mlxr_layer *l = &m->layers[i];
        size_t n = n_others(s, l->digest);
        table_cell(t, l->path);
        table_cell(t, words_size(words, l->size));
        snprintf(text, sizeof text, "%.12s", l->digest + strlen("sha256:"));
        table_cell(t, text);
        snprintf(text, sizeof text, n ? "%zu" : "-", n);
        table_cell(t, text);
        table_cell(t, state_word(mlxr_blob_look(s->store, l->digest, l->size)));
    }
    if (st == MLXR_OK) st = table_print(t, stdout, err);
    table_free(t);
    return st;
}

int cmd_store_show(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store show smollm2", "digest, quantization, files", NULL},
        {"mlxctl store show smollm2 --json | grep -o '\"source\": [^,]*'", "where a model came from", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store show",
        .synopsis = "NAME [--json]",
        .summary = "What the store knows of a model: name, digest, family, quantization, parameters, where "
                   "it came from, and "
                   "its files with sizes, digests, how many other models have them, and whether they are "
                   "missing, of a "
                   "wrong size, or linked from outside. mlxctl show NAME looks into the model itself.\n\n"
                   "Keys of --json: name, other_names, digest, family, quantization, dtype, parameters, "
                   "context_length, "
                   "size_bytes, "
                   "shared_bytes, modified, source, base (the digest of the model it was made from), and "
                   "files, each with "
                   "path, digest, size_bytes, media_type, other_models, state (whole, missing, wrong size, "
                   "linked, or linked, "
                   "changed).",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "name",
    };
    const char *args[1];
    struct shown s = {0};
    mlxr_buf name = {0};
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "NAME is needed");
    if ((st = cli_store_open(&s.store, cli.program, &err)) != MLXR_OK) goto done;
    if ((st = gather(&s, args[0], &err)) != MLXR_OK) goto done;
    mlxr_name_display(&name, &s.name);
    if ((st = mlxr_buf_check(&name, "store", &err)) != MLXR_OK) goto done;
    st = json ? print_json(&s, name.data, &err) : print_text(&s, name.data, &err);
done:
    clear(&s);
    mlxr_buf_clear(&name);
    mlxr_store_close(s.store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}
