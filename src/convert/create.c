/* create: a model of the store from a recipe.
 *
 *   base: a name, a folder, a GGUF, a name to pull -> layers in the session's store
 *     -> new weights -> tokenizer -> template -> licences -> mlxr.json -> manifest -> name
 *
 * Each step replaces layers of the list or adds some; what no step touches is the base's. All is in one session: whatever ends
 * it, the name stands for what it stood for. */
#include <dirent.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/fs.h"
#include "convert/convert.h"
#include "store/bring.h"

enum { MAX_TEMPLATE = 16 << 20 };

#define MLXR_JSON     "mlxr.json"
#define TEMPLATE_FILE "chat_template.jinja"

typedef struct creating {
    mlxr_store *store;
    mlxr_session *session;
    const mlxr_recipe *recipe;
    const mlxr_create_options *options;
    mlxr_error *err;
    mlxr_layer *layers; /* each with room for one more behind n */
    size_t n, cap;
    mlxr_description description;
} creating;

/* ---- small things ---- */

/* A path of the recipe as the process sees it; NULL: out of memory, told. */
static char *recipe_path(creating *c, const char *path)
{
    char *out = c->options->recipe_dir ? mlxr_path_join(c->options->recipe_dir, path) : mlxr_strdup(path);

    if (!out) mlxr_fail_nomem(c->err, "recipe");
    return out;
}

static char *session_path(creating *c, const char *name)
{
    char *out = mlxr_path_join(mlxr_session_dir(c->session), name);

    if (!out) mlxr_fail_nomem(c->err, "recipe");
    return out;
}

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcasecmp(path + n - 5, ".gguf") == 0;
}

typedef struct converting {
    const mlxr_store_job *job;
} converting;

static void on_convert(uint64_t done, uint64_t total, void *ud)
{
    const converting *k = ud;
    mlxr_store_step step = {
        .what = "converting", .done = done, .total = total, .done_all = done, .total_all = total};

    if (k->job && k->job->on_step) k->job->on_step(&step, k->job->ud);
}

/* ---- layers ---- */

static mlxr_layer *find_layer(creating *c, const char *path)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->layers[i].path, path) == 0) return &c->layers[i];
    return NULL;
}

/* Names of files that differ in the case of letters alone cannot be in one model. */
static bool is_taken(const creating *c, const char *path)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcasecmp(c->layers[i].path, path) == 0) return true;
    return false;
}

/* In place of the one that is there. */
static mlxr_status set_layer(creating *c, const char *path, const char *digest, uint64_t size)
{
    mlxr_layer *l = find_layer(c, path), *grown;

    if (!l) {
        if (c->n == c->cap) {
            size_t cap = c->cap ? 2 * c->cap : 32;
            if (!(grown = mlxr_realloc_array(c->layers, cap, sizeof *grown)))
                return mlxr_fail_nomem(c->err, "recipe");
            c->layers = grown;
            c->cap = cap;
        }
        l = &c->layers[c->n];
        *l = (mlxr_layer){.path = mlxr_strdup(path), .media_type = mlxr_strdup(mlxr_media_type(path))};
        c->n++;
        if (!l->path || !l->media_type) return mlxr_fail_nomem(c->err, "recipe");
    }
    memcpy(l->digest, digest, sizeof l->digest);
    l->size = size;
    return MLXR_OK;
}

static void remove_layers(creating *c, bool (*goes)(const mlxr_layer *l))
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) {
        if (goes(&c->layers[i])) {
            free(c->layers[i].path);
            free(c->layers[i].media_type);
        } else {
            c->layers[n++] = c->layers[i];
        }
    }
    c->n = n;
}

static mlxr_status put_text(creating *c, const char *path, const char *text, size_t n)
{
    mlxr_layer made = {0};
    mlxr_status st = mlxr_session_put(c->session, &made, text, n, c->err);

    return st == MLXR_OK ? set_layer(c, path, made.digest, made.size) : st;
}

static mlxr_status add_layers(creating *c, const mlxr_manifest *m, bool (*wanted)(const mlxr_layer *l))
{
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < m->n_layers && st == MLXR_OK; i++)
        if (!wanted || wanted(&m->layers[i]))
            st = set_layer(c, m->layers[i].path, m->layers[i].digest, m->layers[i].size);
    return st;
}

/* The text of a blob that is small. */
static mlxr_status read_blob(creating *c, mlxr_buf *out, const mlxr_layer *l)
{
    char *path = mlxr_store_blob_path(c->store, l->digest);
    mlxr_status st = path ? mlxr_file_read(out, path, MLXR_RECIPE_MAX_BYTES * 4, c->err)
                          : mlxr_fail_nomem(c->err, "recipe");

    free(path);
    return st;
}

/* The layers as a folder of links. */
static mlxr_status link_folder(creating *c, const char *dir)
{
    const mlxr_io *io = &c->store->io;
    mlxr_status st = mlxr_io_make_dirs(io, dir, c->err);

    for (size_t i = 0; i < c->n && st == MLXR_OK; i++) {
        char *blob = mlxr_store_blob_path(c->store, c->layers[i].digest),
             *real = blob ? realpath(blob, NULL) : NULL;
        char *path = mlxr_path_join(dir, c->layers[i].path), *sub = path ? mlxr_path_dirname(path) : NULL;
        if (!blob || !path || !sub)
            st = mlxr_fail_nomem(c->err, "recipe");
        else if (!real)
            st = mlxr_fail(c->err, MLXR_E_CORRUPT, "recipe: %s of the base is missing", c->layers[i].path);
        if (st == MLXR_OK) st = mlxr_io_make_dirs(io, sub, c->err);
        if (st == MLXR_OK) st = mlxr_io_symlink(io, real, path, c->err);
        free(blob);
        free(real);
        free(path);
        free(sub);
    }
    return st;
}

/* ---- the base ---- */

static mlxr_status read_description(creating *c, const mlxr_manifest *m)
{
    mlxr_buf text = {0};
    mlxr_status st = read_blob(c, &text, &m->config);

    mlxr_description_clear(&c->description);
    if (st == MLXR_OK)
        st = mlxr_description_parse(&c->description, text.data, text.len, "the base's config", c->err);
    mlxr_buf_clear(&text);
    return st;
}

/* A layer of a model of `from`, which may be another store. */
static mlxr_status want_layer(creating *c, mlxr_store *from, const mlxr_layer *l, const char *name)
{
    const char *file = l->path ? l->path : "its config";
    struct stat seen;
    char *path;
    bool present;
    mlxr_status st = mlxr_session_want(c->session, l->digest, l->size, &present, c->err);

    if (st != MLXR_OK || present) return st;
    if (from == c->store)
        return mlxr_fail(c->err, MLXR_E_CORRUPT, "recipe: %s of the base %s is missing or has the wrong size",
                         file, name);
    if (!(path = mlxr_store_blob_path(from, l->digest))) return mlxr_fail_nomem(c->err, "recipe");
    if (stat(path, &seen) != 0 || (uint64_t)seen.st_size != l->size)
        st = mlxr_fail(c->err, MLXR_E_CORRUPT, "recipe: %s of the base %s is missing or has the wrong size",
                       file, name);
    else
        st = mlxr_session_take(c->session, path, &seen, l->digest, false, c->err);
    free(path);
    return st;
}

static mlxr_status take_stored(creating *c, mlxr_store *from, const mlxr_manifest *m, const char *name)
{
    mlxr_status st = want_layer(c, from, &m->config, name);

    for (size_t i = 0; i < m->n_layers && st == MLXR_OK; i++) st = want_layer(c, from, &m->layers[i], name);
    if (st == MLXR_OK) st = read_description(c, m);
    if (st == MLXR_OK) {
        free(c->description.base);
        if (!(c->description.base = mlxr_strdup(m->digest))) st = mlxr_fail_nomem(c->err, "recipe");
    }
    return st == MLXR_OK ? add_layers(c, m, NULL) : st;
}

static mlxr_status take_folder(creating *c, const char *dir, mlxr_files_how how)
{
    mlxr_manifest m;
    mlxr_status st = mlxr_bring_folder(&m, c->session, dir, how, NULL, NULL, NULL, c->options->job, c->err);

    if (st == MLXR_OK) st = read_description(c, &m);
    if (st == MLXR_OK) st = add_layers(c, &m, NULL);
    mlxr_manifest_clear(&m);
    return st;
}

static mlxr_status take_gguf(creating *c, const char *path)
{
    mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
    converting k = {c->options->job};
    char *dir = session_path(c, "gguf");
    mlxr_status st;

    if (!dir) return MLXR_E_NOMEM;
    o.progress = (mlxr_progress){on_convert, &k};
    o.log = c->options->log;
    /* Types that no MLX form holds exactly may change when the recipe quantizes anyway. */
    if (c->recipe->quantize && strcmp(c->recipe->quant_mode, "affine") == 0) {
        o.requantize = true;
        if (c->recipe->quant_bits) o.requantize_bits = c->recipe->quant_bits;
        if (c->recipe->quant_group_size) o.requantize_group_size = c->recipe->quant_group_size;
    }
    if ((st = mlxr_gguf_import(path, dir, &o, c->err)) == MLXR_OK) st = take_folder(c, dir, MLXR_FILES_MOVE);
    free(dir);
    return st;
}

static mlxr_status take_path(creating *c, const char *given)
{
    const char *format = c->recipe->format;
    char *path = recipe_path(c, given);
    bool dir;
    mlxr_status st;

    if (!path) return MLXR_E_NOMEM;
    dir = mlxr_path_is_dir(path);
    if (!dir && !mlxr_path_is_file(path))
        st = mlxr_fail(c->err, MLXR_E_NOT_FOUND, "recipe: the base %s: there is no such folder or file",
                       path);
    else if (format && strcmp(format, "gguf") == 0 && dir)
        st = mlxr_fail(c->err, MLXR_E_FORMAT,
                       "recipe: the base %s is a folder, and the recipe's format is gguf", path);
    else if (format && strcmp(format, "mlx") == 0 && !dir)
        st = mlxr_fail(c->err, MLXR_E_FORMAT, "recipe: the base %s is a file, and the recipe's format is mlx",
                       path);
    else if (!dir && !is_gguf(path))
        st = mlxr_fail(c->err, MLXR_E_UNSUPPORTED,
                       "recipe: the base %s is neither a model folder nor a GGUF file", path);
    else
        st = dir ? take_folder(c, path, MLXR_FILES_SHARE) : take_gguf(c, path);
    free(path);
    return st;
}

/* A name of a store, else something that lies at this path, else something to pull. */
static mlxr_status take_name(creating *c)
{
    const mlxr_recipe *r = c->recipe;
    const char *slash = strrchr(r->base_repo, '/'), *last = slash ? slash + 1 : r->base_repo;
    bool add = r->base_revision && !strchr(last, ':');
    char *name = mlxr_asprintf("%s%s%s", r->base_repo, add ? ":" : "", add ? r->base_revision : "");
    char *path = recipe_path(c, r->base_repo);
    mlxr_manifest m = {0};
    mlxr_store *from = c->store;
    mlxr_error first = {0}, *err = c->err;
    mlxr_status st;

    if (!name || !path) {
        st = mlxr_fail_nomem(err, "recipe");
        goto done;
    }
    if (r->base_revision && !add) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "recipe: the base %s has a tag, and the recipe a revision",
                       r->base_repo);
        goto done;
    }
    st = mlxr_store_find(&m, NULL, from, name, &first);
    if (st == MLXR_E_NOT_FOUND && c->options->bases)
        st = mlxr_store_find(&m, NULL, from = c->options->bases, name, NULL);
    if ((st == MLXR_E_NOT_FOUND || st == MLXR_E_INVALID_ARGUMENT) && !r->base_revision &&
        (mlxr_path_is_dir(path) || (is_gguf(path) && mlxr_path_is_file(path)))) {
        st = take_path(c, r->base_repo);
        goto done;
    }
    if (st == MLXR_E_NOT_FOUND && c->options->remote) {
        st = mlxr_store_pull(NULL, from = c->store, name, NULL, c->options->remote, c->options->job, err);
        if (st == MLXR_OK) st = mlxr_store_find(&m, NULL, from, name, err);
        if (st == MLXR_OK) st = take_stored(c, from, &m, name);
    } else if (st != MLXR_OK) {
        if (err) *err = first;
        mlxr_error_prefix(err, "recipe: the base: ");
    } else {
        st = take_stored(c, from, &m, name);
    }
    if (st == MLXR_OK && r->format && strcmp(r->format, "gguf") == 0)
        st = mlxr_fail(err, MLXR_E_FORMAT,
                       "recipe: the base %s is a model folder, and the recipe's format is gguf", name);
done:
    mlxr_manifest_clear(&m);
    free(name);
    free(path);
    return st;
}

/* ---- weights ---- */

static bool is_weights(const mlxr_layer *l)
{
    return strcmp(l->media_type, MLXR_MEDIA_WEIGHTS) == 0 ||
           strcmp(l->path, "model.safetensors.index.json") == 0;
}

static bool is_of_weights(const mlxr_layer *l)
{
    return is_weights(l) || strcmp(l->path, "config.json") == 0;
}

static mlxr_quant wanted_quant(const mlxr_recipe *r)
{
    mlxr_quant q = mlxr_quant_default(mlxr_quant_mode_from_name(r->quant_mode));

    if (r->quant_bits) q.bits = r->quant_bits;
    if (r->quant_group_size) q.group_size = r->quant_group_size;
    return q;
}

/* Whether config.json says that the weights are so already, all of them alike. */
static mlxr_status is_so_already(bool *out, creating *c)
{
    const mlxr_layer *l = find_layer(c, "config.json");
    bool none = strcmp(c->recipe->quant_mode, "none") == 0;
    mlxr_quant q = wanted_quant(c->recipe);
    mlxr_buf text = {0};
    json_t *config = NULL;
    const json_t *now;
    mlxr_status st = MLXR_OK;

    *out = false;
    if (!l) return MLXR_OK;
    if ((st = read_blob(c, &text, l)) != MLXR_OK) goto done;
    if ((st = mlxr_json_parse(&config, text.data, text.len, "config.json of the base", c->err)) != MLXR_OK)
        goto done;
    now = json_object_get(config, "quantization");
    if (!now) now = json_object_get(config, "quantization_config");
    if (none) {
        *out = !now && !json_object_get(config, "text_config");
    } else if (now) {
        const char *mode = json_string_value(json_object_get(now, "mode"));
        size_t n = 2 + (mode != NULL);
        *out = json_object_size(now) == n && strcmp(mode ? mode : "affine", c->recipe->quant_mode) == 0 &&
               json_integer_value(json_object_get(now, "bits")) == (json_int_t)q.bits &&
               json_integer_value(json_object_get(now, "group_size")) == (json_int_t)q.group_size;
    }
done:
    json_decref(config);
    mlxr_buf_clear(&text);
    return st;
}

static mlxr_status make_weights(creating *c)
{
    const mlxr_recipe *r = c->recipe;
    mlxr_convert_options o = mlxr_convert_options_default();
    converting k = {c->options->job};
    char *from = session_path(c, "base"), *to = session_path(c, "converted");
    char *adapter = r->adapter ? recipe_path(c, r->adapter) : NULL, *base = NULL;
    mlxr_manifest m = {0};
    mlxr_status st = MLXR_E_NOMEM;

    if (!from || !to || (r->adapter && !adapter)) goto done;
    if (adapter && !mlxr_path_is_dir(adapter)) {
        st = mlxr_fail(c->err, mlxr_path_is_file(adapter) ? MLXR_E_UNSUPPORTED : MLXR_E_NOT_FOUND,
                       "recipe: the adapter %s is no folder with adapter_config.json", adapter);
        goto done;
    }
    o.quantize = r->quantize;
    if (r->quantize) o.quant = wanted_quant(r);
    o.adapter = adapter;
    o.progress = (mlxr_progress){on_convert, &k};
    o.cancel = c->options->job ? c->options->job->cancel : NULL;
    o.log = c->options->log;
    if ((st = link_folder(c, from)) != MLXR_OK) goto done;
    if ((st = mlxr_convert(from, to, &o, c->err)) != MLXR_OK) goto done;
    st = mlxr_bring_folder(&m, c->session, to, MLXR_FILES_MOVE, NULL, NULL, NULL, c->options->job, c->err);
    if (st != MLXR_OK) goto done;
    remove_layers(c, is_weights);
    if ((st = add_layers(c, &m, is_of_weights)) != MLXR_OK) goto done;
    /* What it is now; where the base came from has no such weights. */
    base = c->description.base;
    c->description.base = NULL;
    if ((st = read_description(c, &m)) != MLXR_OK) goto done;
    free(c->description.base);
    c->description.base = base;
    base = NULL;
done:
    mlxr_manifest_clear(&m);
    free(base);
    free(from);
    free(to);
    free(adapter);
    return st;
}

static mlxr_status do_weights(creating *c)
{
    bool same = false;
    mlxr_status st = MLXR_OK;

    if (!c->recipe->quantize && !c->recipe->adapter) return MLXR_OK;
    if (c->recipe->quantize && !c->recipe->adapter) st = is_so_already(&same, c);
    return st == MLXR_OK && !same ? make_weights(c) : st;
}

/* ---- tokenizer ---- */

static bool is_tokenizer(const char *name)
{
    return strcmp(mlxr_media_type(name), MLXR_MEDIA_TOKENIZER) == 0 &&
           strcmp(name, "chat_template.json") != 0;
}

/* Its configuration stays unless the new one has its own: it says how the model ends texts. */
static bool is_old_tokenizer(const mlxr_layer *l)
{
    return is_tokenizer(l->path) && strcmp(l->path, "tokenizer_config.json") != 0;
}

static mlxr_status list_tokenizer(mlxr_model_files *files, const char *dir, mlxr_error *err)
{
    const struct dirent *e;
    DIR *d = opendir(dir);
    mlxr_status st = MLXR_OK;

    if (!d) return mlxr_fail(err, MLXR_E_NOT_FOUND, "recipe: the tokenizer %s cannot be read", dir);
    while (st == MLXR_OK && (e = readdir(d)) != NULL) {
        char *path = is_tokenizer(e->d_name) ? mlxr_path_join(dir, e->d_name) : NULL;
        if (!is_tokenizer(e->d_name)) continue;
        st = path ? mlxr_model_files_add(files, e->d_name, path, NULL, err) : mlxr_fail_nomem(err, "recipe");
        free(path);
    }
    closedir(d);
    if (st == MLXR_OK && files->n == 0)
        st = mlxr_fail(err, MLXR_E_NOT_FOUND,
                       "recipe: the tokenizer %s: the folder has no tokenizer.json or the like", dir);
    return st;
}

static mlxr_status do_tokenizer(creating *c)
{
    mlxr_model_files files = {0};
    mlxr_store_pace pace = {0};
    mlxr_tokenizer *tok = NULL;
    char *path, *dir = NULL;
    const char *name;
    bool paced = false, whole;
    mlxr_status st = MLXR_OK;

    if (!c->recipe->tokenizer) return MLXR_OK;
    if (!(path = recipe_path(c, c->recipe->tokenizer))) return MLXR_E_NOMEM;
    whole = mlxr_path_is_dir(path);
    name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (whole)
        st = list_tokenizer(&files, path, c->err);
    else if (!mlxr_path_is_file(path))
        st = mlxr_fail(c->err, MLXR_E_NOT_FOUND, "recipe: the tokenizer %s: there is no such folder or file",
                       path);
    else if (!is_tokenizer(name))
        st = mlxr_fail(c->err, MLXR_E_FORMAT, "recipe: the tokenizer %s: no file of a tokenizer is called so",
                       path);
    else
        st = mlxr_model_files_add(&files, name, path, NULL, c->err);
    if (st != MLXR_OK) goto done;
    if ((st = mlxr_store_pace_init(&pace, c->options->job, mlxr_model_files_bytes(&files), c->err)) !=
        MLXR_OK)
        goto done;
    paced = true;
    if ((st = mlxr_model_files_hash(&files, &pace, c->err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_files_store(c->session, &files, MLXR_FILES_COPY, &pace, c->err)) != MLXR_OK)
        goto done;
    if (whole) remove_layers(c, is_old_tokenizer);
    for (size_t i = 0; i < files.n && st == MLXR_OK; i++)
        st = set_layer(c, files.v[i].title, files.v[i].digest, (uint64_t)files.v[i].seen.st_size);
    if (st != MLXR_OK) goto done;
    if (!(dir = session_path(c, "tokenizer"))) {
        st = MLXR_E_NOMEM;
        goto done;
    }
    if ((st = link_folder(c, dir)) != MLXR_OK) goto done;
    if ((st = mlxr_tokenizer_open(&tok, dir, c->err)) != MLXR_OK)
        mlxr_error_prefix(c->err, "recipe: the tokenizer %s: ", path);
done:
    mlxr_tokenizer_close(tok);
    if (paced) mlxr_store_pace_clear(&pace);
    mlxr_model_files_clear(&files);
    free(path);
    free(dir);
    return st;
}

/* ---- texts ---- */

static bool is_old_template(const mlxr_layer *l)
{
    return strcmp(l->path, "chat_template.json") == 0 ||
           strncmp(l->path, "additional_chat_templates/", 26) == 0;
}

static mlxr_status do_template(creating *c)
{
    const mlxr_recipe *r = c->recipe;
    const char *text = r->template_text, *name = "recipe: the template";
    char *path = NULL;
    mlxr_buf held = {0};
    mlxr_template *t = NULL;
    size_t n;
    mlxr_status st;

    if (!r->template_text && !r->template_path) return MLXR_OK;
    if (r->template_path) {
        if (!(path = recipe_path(c, r->template_path))) return MLXR_E_NOMEM;
        if ((st = mlxr_file_read(&held, path, MAX_TEMPLATE, c->err)) != MLXR_OK) {
            mlxr_error_prefix(c->err, "recipe: the template: ");
            goto done;
        }
        text = held.data ? held.data : "";
        name = path;
    }
    n = r->template_path ? held.len : strlen(text);
    if ((st = mlxr_template_create(&t, text, n, name, c->err)) != MLXR_OK) goto done;
    remove_layers(c, is_old_template);
    st = put_text(c, TEMPLATE_FILE, text, n);
done:
    mlxr_template_free(t);
    mlxr_buf_clear(&held);
    free(path);
    return st;
}

/* Under the first of LICENSE, LICENSE-2, ... that is free, unless the base has the same. */
static mlxr_status add_license(creating *c, const char *text)
{
    mlxr_layer made = {0};
    char title[32] = "LICENSE";
    mlxr_status st = mlxr_session_put(c->session, &made, text, strlen(text), c->err);

    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->layers[i].media_type, MLXR_MEDIA_LICENSE) == 0 &&
            strcmp(c->layers[i].digest, made.digest) == 0)
            return MLXR_OK;
    for (unsigned i = 2; is_taken(c, title); i++) snprintf(title, sizeof title, "LICENSE-%u", i);
    return set_layer(c, title, made.digest, made.size);
}

/* Over the base's: two names of one thing are one. */
static bool merge_parameters(json_t *into, const json_t *own)
{
    if (json_object_get(own, "max_tokens") || json_object_get(own, "num_predict")) {
        json_object_del(into, "max_tokens");
        json_object_del(into, "num_predict");
    }
    return json_object_update(into, (json_t *)(uintptr_t)own) == 0;
}

static mlxr_status do_settings(creating *c)
{
    const mlxr_recipe *r = c->recipe;
    const mlxr_layer *l = find_layer(c, MLXR_JSON);
    mlxr_recipe merged = {0};
    mlxr_buf text = {0};
    json_t *doc = NULL;
    static const char *const objects[] = {"parameters", "metadata"};
    const char *system = NULL;
    bool ok;
    mlxr_status st = MLXR_OK;

    if (l) {
        if ((st = read_blob(c, &text, l)) != MLXR_OK) goto done;
        st = mlxr_json_parse(&doc, text.data, text.len, "mlxr.json of the base", c->err);
        if (st == MLXR_OK && !json_is_object(doc))
            st = mlxr_fail(c->err, MLXR_E_FORMAT, "mlxr.json of the base: is not a JSON object");
        for (size_t i = 0; i < 2 && st == MLXR_OK; i++) {
            const json_t *v = json_object_get(doc, objects[i]);
            if (v && !json_is_object(v))
                st = mlxr_fail(c->err, MLXR_E_FORMAT, "mlxr.json of the base: \"%s\" is not an object",
                               objects[i]);
        }
        if (st == MLXR_OK) st = mlxr_json_get_str(&system, doc, "system", "mlxr.json of the base", c->err);
        if (st != MLXR_OK) goto done;
        text.len = 0;
    }
    if (r->system) system = r->system;
    merged.system = system ? mlxr_strdup(system) : NULL;
    merged.defaults = json_object_get(doc, "parameters") ? json_copy(json_object_get(doc, "parameters"))
                                                         : json_object();
    merged.metadata = json_object_get(doc, "metadata") ? json_copy(json_object_get(doc, "metadata"))
                                                       : json_object();
    merged.messages = json_incref(r->messages ? r->messages : json_object_get(doc, "messages"));
    ok = (!system || merged.system) && merged.defaults && merged.metadata;
    if (ok && r->defaults) ok = merge_parameters(merged.defaults, r->defaults);
    if (ok && r->metadata) ok = json_object_update(merged.metadata, r->metadata) == 0;
    if (!ok) {
        st = mlxr_fail_nomem(c->err, "recipe");
        goto done;
    }
    if ((st = mlxr_recipe_folder_json(&text, &merged, c->err)) != MLXR_OK) goto done;
    if (text.len) st = put_text(c, MLXR_JSON, text.data, text.len);
done:
    mlxr_recipe_clear(&merged);
    mlxr_buf_clear(&text);
    json_decref(doc);
    return st;
}

/* ---- all of it ---- */

static mlxr_status resolve_name(mlxr_name *out, const char *given, const mlxr_recipe *r, mlxr_error *err)
{
    char *name;
    mlxr_status st = mlxr_recipe_name(&name, r, given, err);

    if (st == MLXR_OK) st = mlxr_name_parse(out, name, err);
    free(name);
    return st;
}

static mlxr_status make_layers(creating *c)
{
    mlxr_status st;

    if (c->recipe->base_path)
        st = take_path(c, c->recipe->base_path);
    else if (c->recipe->base_repo)
        st = take_name(c);
    else
        st = mlxr_fail(c->err, MLXR_E_INVALID_ARGUMENT, "recipe: the recipe has no base");
    if (st == MLXR_OK) st = do_weights(c);
    if (st == MLXR_OK) st = do_tokenizer(c);
    if (st == MLXR_OK) st = do_template(c);
    for (size_t i = 0; i < c->recipe->n_licenses && st == MLXR_OK; i++)
        st = add_license(c, c->recipe->licenses[i]);
    return st == MLXR_OK ? do_settings(c) : st;
}

static mlxr_status write_config(creating *c, mlxr_layer *out)
{
    mlxr_buf text = {0};
    mlxr_status st = mlxr_description_write(&text, &c->description, c->err);

    if (st == MLXR_OK) st = mlxr_session_put(c->session, out, text.data, text.len, c->err);
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_create(char **out_digest, mlxr_store *store, const char *name, const mlxr_recipe *recipe,
                        const mlxr_create_options *options, mlxr_error *err)
{
    const mlxr_create_options none = {0};
    mlxr_error own = {0};
    creating c = {
        .store = store, .recipe = recipe, .options = options ? options : &none, .err = err ? err : &own};
    mlxr_layer config = {.media_type = (char[]){MLXR_MEDIA_CONFIG}};
    mlxr_manifest m = {0};
    mlxr_name n;
    json_t *annotations = NULL;
    mlxr_status st;

    if (out_digest) *out_digest = NULL;
    if ((st = resolve_name(&n, name, recipe, c.err)) != MLXR_OK) return st;
    if ((st = mlxr_session_begin(&c.session, store, c.err)) != MLXR_OK) return st;
    if ((st = make_layers(&c)) != MLXR_OK) goto done;
    if ((st = write_config(&c, &config)) != MLXR_OK) goto done;
    if (recipe->version &&
        !(annotations = json_pack("{s:s}", "org.opencontainers.image.version", recipe->version))) {
        st = mlxr_fail_nomem(c.err, "recipe");
        goto done;
    }
    if ((st = mlxr_manifest_make(&m, &config, c.layers, c.n, annotations, c.err)) != MLXR_OK) goto done;
    if (c.options->job && mlxr_cancelled(c.options->job->cancel)) {
        st = mlxr_fail(c.err, MLXR_E_CANCELLED, "recipe: stopped");
        goto done;
    }
    if (out_digest && !(*out_digest = mlxr_strdup(m.digest))) {
        st = mlxr_fail_nomem(c.err, "recipe");
        goto done;
    }
    st = mlxr_session_name(c.session, &n, &m, c.err);
done:
    if (st != MLXR_OK && out_digest) {
        free(*out_digest);
        *out_digest = NULL;
    }
    json_decref(annotations);
    mlxr_manifest_clear(&m);
    mlxr_layers_free(c.layers, c.n);
    mlxr_description_clear(&c.description);
    mlxr_session_end(c.session);
    return st;
}
