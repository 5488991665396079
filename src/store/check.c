/* check: whether files together are a model that can be opened, by what can be said without reading its weights: texts that
 * must be JSON are, the headers of the weights are right for their files, and shards and index agree. Which weights count
 * follows mlxr_checkpoint_open. */
#include <stdio.h>
#include <stdlib.h>

#include "store/bring.h"

enum { MAX_JSON_BYTES = 1 << 30, MAX_NAMED = 3 };

typedef struct checking {
    const mlxr_check_file *files;
    size_t n;
    mlxr_on_bad on_bad;
    void *ud;
    mlxr_checkpoint **open; /* [n] of the weights that could be opened */
    mlxr_error *err;
} checking;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);
    return n > n_end && strcmp(s + n - n_end, end) == 0;
}

static size_t find_title(const checking *c, const char *title)
{
    size_t i = 0;
    while (i < c->n && strcmp(c->files[i].title, title) != 0) i++;
    return i;
}

/* A message that begins with where the file lies is told under its title alone. */
static const char *without_path(const char *message, const char *path)
{
    const char *at = strstr(message, path);

    if (!at) return message;
    at += strlen(path);
    while (*at == ':' || *at == ' ') at++;
    return *at ? at : message;
}

/* MLXR_E_NOMEM goes on, everything else is a finding. */
static mlxr_status tell_error(checking *c, size_t i, mlxr_status st, const mlxr_error *why)
{
    if (st == MLXR_E_NOMEM) return mlxr_fail(c->err, st, "%s", why->message);
    c->on_bad(c->ud, c->files[i].title, NULL, without_path(why->message, c->files[i].path));
    return MLXR_OK;
}

/* ---- JSON ---- */

/* tokenizer.json may have a key twice: readers take one of them, and it is not for us to say that it cannot be used. */
static mlxr_status parse(json_t **out, const mlxr_check_file *f, mlxr_error *err)
{
    mlxr_buf text = {0};
    json_error_t why;
    mlxr_status st;

    if (strcmp(f->title, "tokenizer.json") != 0) return mlxr_json_read(out, f->path, MAX_JSON_BYTES, err);
    *out = NULL;
    st = mlxr_file_read(&text, f->path, MAX_JSON_BYTES, err);
    if (st == MLXR_OK) *out = json_loadb(text.data ? text.data : "", text.len, JSON_ALLOW_NUL, &why);
    if (st == MLXR_OK && !*out)
        st = json_error_code(&why) == json_error_out_of_memory
                 ? mlxr_fail_nomem(err, f->path)
                 : mlxr_fail(err, MLXR_E_FORMAT, "%s: line %d, column %d: %s", f->path, why.line, why.column,
                             why.text);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status check_json(checking *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const mlxr_check_file *f = &c->files[i];
        bool is_config = strcmp(f->title, "config.json") == 0;
        json_t *root = NULL;
        mlxr_error why;
        mlxr_status st;
        if (!f->path || !ends_with(f->title, ".json")) continue;
        st = parse(&root, f, &why);
        if (st == MLXR_OK && is_config && !json_is_object(root))
            c->on_bad(c->ud, f->title, NULL, "not an object");
        json_decref(root);
        if (st != MLXR_OK && (st = tell_error(c, i, st, &why)) != MLXR_OK) return st;
    }
    if (find_title(c, "config.json") == c->n) c->on_bad(c->ud, "config.json", NULL, "is missing");
    return MLXR_OK;
}

/* ---- weights ---- */

static bool is_shard_name(const char *title)
{
    return ends_with(title, ".safetensors") && !strchr(title, '/');
}

/* Opens each, so that all headers are looked at. */
static mlxr_status open_weights(checking *c, size_t *n_weights)
{
    for (size_t i = 0; i < c->n; i++) {
        mlxr_error why;
        mlxr_status st;
        if (!ends_with(c->files[i].title, ".safetensors")) continue;
        *n_weights += is_shard_name(c->files[i].title);
        if (!c->files[i].path) continue;
        st = mlxr_checkpoint_open_file(&c->open[i], c->files[i].path, &why);
        if (st != MLXR_OK && (st = tell_error(c, i, st, &why)) != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static void tell(checking *c, const char *file, const char *tensor, const char *fmt, ...) MLXR_PRINTF(4, 5);
static void tell(checking *c, const char *file, const char *tensor, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    c->on_bad(c->ud, file, tensor, text);
}

/* A name that two files have: which of the two is read would be chance. */
static mlxr_status check_twice(checking *c)
{
    mlxr_strtab names = {0};
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < c->n && st == MLXR_OK; i++) {
        if (!c->open[i] || !is_shard_name(c->files[i].title)) continue;
        for (size_t k = 0; k < mlxr_checkpoint_count(c->open[i]); k++) {
            const mlxr_tensor *t = mlxr_checkpoint_get(c->open[i], k);
            size_t old;
            if (!mlxr_strtab_put(&names, t->name, strlen(t->name), i, &old)) {
                st = mlxr_fail_nomem(c->err, "check");
                break;
            }
            if (old == SIZE_MAX || old == i) continue;
            tell(c, c->files[i].title, t->name, "is in %s too", c->files[old].title);
            break;
        }
    }
    mlxr_strtab_clear(&names);
    return st;
}

/* One finding a shard that is missing, and of each other one those of its first tensors that are. */
static mlxr_status check_index(checking *c, const json_t *map, const char *index)
{
    mlxr_strtab missing = {0}; /* files told already; the keys are the index's */
    size_t *n_lacking = mlxr_calloc_array(c->n, sizeof *n_lacking);
    mlxr_status st = MLXR_OK;
    const char *tensor;
    const json_t *v;

    if (!n_lacking) return mlxr_fail_nomem(c->err, "check");
    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const char *file = json_string_value(v);
        size_t i = file ? find_title(c, file) : c->n, old;
        if (!file) {
            tell(c, index, tensor, "is not mapped to a file's name");
            break;
        }
        if (i == c->n) {
            if (!mlxr_strtab_put(&missing, file, strlen(file), 1, &old)) {
                st = mlxr_fail_nomem(c->err, "check");
                break;
            }
            if (old == SIZE_MAX) tell(c, file, NULL, "is missing, %s names it", index);
        } else if (c->open[i] && !mlxr_checkpoint_find(c->open[i], tensor)) {
            if (++n_lacking[i] <= MAX_NAMED)
                tell(c, file, tensor, "is not in it, although %s says so", index);
        }
    }
    mlxr_strtab_clear(&missing);
    free(n_lacking);
    return st;
}

static mlxr_status check_shards(checking *c)
{
    static const char index[] = "model.safetensors.index.json";
    size_t i = find_title(c, index), n_weights = 0, n_present = 0;
    bool has_single = find_title(c, "model.safetensors") < c->n;
    json_t *root = NULL;
    const json_t *map, *v;
    const char *tensor;
    mlxr_error why;
    mlxr_status st;

    if ((st = open_weights(c, &n_weights)) != MLXR_OK) return st;
    if (n_weights == 0) tell(c, "model.safetensors", NULL, "the model has no weights");
    if ((st = check_twice(c)) != MLXR_OK) return st;
    if (i == c->n || !c->files[i].path) return MLXR_OK;
    st = mlxr_json_read(&root, c->files[i].path, MAX_JSON_BYTES, &why);
    if (st != MLXR_OK)
        return st == MLXR_E_NOMEM ? mlxr_fail(c->err, st, "%s", why.message) : MLXR_OK; /* told */
    map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        tell(c, index, NULL, "has no \"weight_map\" of tensors to files");
    } else {
        json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
        {
            if (json_is_string(v) && find_title(c, json_string_value(v)) < c->n) n_present++;
            if (n_present) break;
        }
        if (n_present || !has_single) st = check_index(c, map, index);
    }
    json_decref(root);
    return st;
}

mlxr_status mlxr_check_files(const mlxr_check_file *files, size_t n, mlxr_on_bad on_bad, void *ud,
                             mlxr_error *err)
{
    checking c = {.files = files, .n = n, .on_bad = on_bad, .ud = ud, .err = err};
    mlxr_status st;

    c.open = mlxr_calloc_array(n, sizeof *c.open);
    if (!c.open) return mlxr_fail_nomem(err, "check");
    st = check_json(&c);
    if (st == MLXR_OK) st = check_shards(&c);
    for (size_t i = 0; i < n; i++) mlxr_checkpoint_close(c.open[i]);
    free(c.open);
    return st;
}
