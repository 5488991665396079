/* native_create: POST /api/create: a model of another, of uploaded files (a folder of safetensors, or a GGUF file), or of a Modelfile's
 * text. The request becomes a recipe (store/recipe.h), which convert/create.c carries out.
 *
 * No path of a request is ever a path of this machine: `from` is a name of the store, files are blobs by their digests, which lie as links
 * in the folder of a session while the model is made, and relative paths of the recipe count from there. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "convert/convert.h"
#include "format/quant.h"
#include "serve/native_store.h"
#include "store/keep.h"
#include "store/recipe_read.h"

enum { MAX_FILES = 4096 };

struct create {
    const char *model, *name, *from, *template_, *system, *quantize, *modelfile;
    const json_t *files, *adapters, *license, *parameters, *messages;
    bool stream;
    /* what becomes of it */
    mlxr_native_job job;
    mlxr_session *session;
    mlxr_recipe recipe;
    mlxr_manifest before; /* what the base, or the model of that name, had: its files are not new */
};

#define AT(member) offsetof(struct create, member)
static const mlxr_field create_fields[] = {
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of the new model"},
    {.name = "name", .types = MLXR_FIELD_STRING, .offset = AT(name), .help = "the same under its old name"},
    {.name = "from",
     .types = MLXR_FIELD_STRING,
     .offset = AT(from),
     .help = "a model of the store, or one to pull; never a path"},
    {.name = "files",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(files),
     .help =
         "relative paths and the digests of their uploaded files: a folder of safetensors, or one GGUF file"},
    {.name = "adapters",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(adapters),
     .help = "the same of a LoRA adapter, which is merged into the weights"},
    {.name = "template",
     .types = MLXR_FIELD_STRING,
     .offset = AT(template_),
     .help = "a chat template in Jinja"},
    {.name = "system",
     .types = MLXR_FIELD_STRING,
     .offset = AT(system),
     .help = "system text of requests without one"},
    {.name = "license",
     .types = MLXR_FIELD_STRING | MLXR_FIELD_LIST,
     .offset = AT(license),
     .help = "a text, or a list of them"},
    {.name = "parameters",
     .types = MLXR_FIELD_OBJECT,
     .offset = AT(parameters),
     .help = "options that requests begin with, as docs/sampling.md lists them"},
    {.name = "messages",
     .types = MLXR_FIELD_LIST,
     .offset = AT(messages),
     .help = "what stands before every conversation"},
    {.name = "quantize",
     .types = MLXR_FIELD_STRING,
     .offset = AT(quantize),
     .help = "2bit to 8bit, mxfp4, nvfp4, mxfp8, none; Ollama's words for such (q4_K_M, int4, fp16) are "
             "taken too"},
    {.name = "quantization",
     .types = MLXR_FIELD_STRING,
     .offset = AT(quantize),
     .help = "the same under its old name"},
    {.name = "modelfile",
     .types = MLXR_FIELD_STRING,
     .offset = AT(modelfile),
     .help = "all of this as a Modelfile, whose FROM is a name; as show gives it"},
    {.name = "stream",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(stream),
     .fallback = "true",
     .help = "lines of JSON that tell how far it is, or one object at the end"},
    {.name = "path",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "\"\"",
     .help = "no path of this machine is taken; upload the files"},
    {.name = "remote_host",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_REFUSED,
     .neutral = "\"\"",
     .help = "models run here"},
    {.name = "draft_files", .types = MLXR_FIELD_OBJECT, .use = MLXR_FIELD_REFUSED, .neutral = "{}"},
    {.name = "draft_quantize", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_REFUSED, .neutral = "\"\""},
    {.name = "renderer",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_WARNED,
     .neutral = "\"\"",
     .help = "the chat template says it"},
    {.name = "parser",
     .types = MLXR_FIELD_STRING,
     .use = MLXR_FIELD_WARNED,
     .neutral = "\"\"",
     .help = "the chat template says it"},
    {.name = "requires", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_WARNED, .neutral = "\"\""},
    {.name = "info",
     .types = MLXR_FIELD_OBJECT,
     .use = MLXR_FIELD_WARNED,
     .neutral = "{}",
     .help = "config.json and the weights say it"},
};
const mlxr_fields mlxr_native_create_fields = {create_fields, MLXR_COUNT(create_fields), "request"};

static void create_clear(struct create *c)
{
    mlxr_session_end(c->session);
    mlxr_recipe_clear(&c->recipe);
    mlxr_manifest_clear(&c->before);
}

/* ---- the recipe ---- */

/* Ours, and Ollama's by what they have in common: so many bits. */
static const struct {
    const char *word, *mode;
    uint32_t bits, group_size; /* 0: the mode's own */
} quants[] = {
    {"2bit", "affine", 2, 0},   {"3bit", "affine", 3, 0},   {"4bit", "affine", 4, 0},
    {"5bit", "affine", 5, 0},   {"6bit", "affine", 6, 0},   {"8bit", "affine", 8, 0},
    {"mxfp4", "mxfp4", 0, 0},   {"nvfp4", "nvfp4", 0, 0},   {"mxfp8", "mxfp8", 0, 0},
    {"none", "none", 0, 0},     {"int4", "affine", 4, 0},   {"int8", "affine", 8, 0},
    {"q2_K", "affine", 2, 0},   {"q3_K_S", "affine", 3, 0}, {"q3_K_M", "affine", 3, 0},
    {"q3_K_L", "affine", 3, 0}, {"q4_0", "affine", 4, 32},  {"q4_1", "affine", 4, 32},
    {"q4_K_S", "affine", 4, 0}, {"q4_K_M", "affine", 4, 0}, {"q5_0", "affine", 5, 32},
    {"q5_1", "affine", 5, 32},  {"q5_K_S", "affine", 5, 0}, {"q5_K_M", "affine", 5, 0},
    {"q6_K", "affine", 6, 0},   {"q8_0", "affine", 8, 32},  {"f16", "none", 0, 0},
    {"fp16", "none", 0, 0},     {"bf16", "none", 0, 0},
};

static mlxr_status set_quantize(mlxr_recipe *r, const char *word, mlxr_error *err)
{
    for (size_t i = 0; i < MLXR_COUNT(quants); i++) {
        if (strcasecmp(quants[i].word, word) != 0) continue;
        r->quantize = true;
        r->quant_bits = quants[i].bits;
        r->quant_group_size = quants[i].group_size;
        free(r->quant_mode);
        r->quant_mode = mlxr_strdup(quants[i].mode);
        return r->quant_mode ? MLXR_OK : mlxr_fail_nomem(err, "create");
    }
    return mlxr_fail(
        err, MLXR_E_INVALID_ARGUMENT,
        "unsupported quantization type %.60s: wanted 2bit to 8bit, mxfp4, nvfp4, mxfp8, none, or "
        "such as q4_K_M",
        word);
}

static mlxr_status set_licenses(recipe_reader *r, const json_t *license, mlxr_error *err)
{
    if (json_is_string(license))
        mlxr_recipe_add_license(r, json_string_value(license), json_string_length(license));
    for (size_t i = 0; i < json_array_size(license); i++) {
        const json_t *text = json_array_get(license, i);
        if (!json_is_string(text))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: \"license\" has a part that is no text");
        mlxr_recipe_add_license(r, json_string_value(text), json_string_length(text));
    }
    return MLXR_OK;
}

static mlxr_status set_messages(recipe_reader *r, const json_t *messages, mlxr_error *err)
{
    static const char roles[] = "|system|user|assistant|";

    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role")),
                   *content = json_string_value(json_object_get(m, "content"));
        char *sought = role ? mlxr_asprintf("|%s|", role) : NULL;
        bool known = sought && strstr(roles, sought) && !strchr(role, '|');
        free(sought);
        if (!known || !content)
            return mlxr_fail(
                err, MLXR_E_INVALID_ARGUMENT,
                "request: \"messages\" wants objects with \"role\" (system, user, assistant) and "
                "\"content\", texts");
        mlxr_recipe_add_message(r, role, content, (recipe_place){1, 1});
    }
    return MLXR_OK;
}

static mlxr_status set_parameters(mlxr_recipe *r, const json_t *parameters, mlxr_error *err)
{
    const char *name;
    json_t *value;

    if (!json_object_size(parameters)) return MLXR_OK;
    if (!r->defaults && !(r->defaults = json_object())) return mlxr_fail_nomem(err, "create");
    json_object_foreach((json_t *)(uintptr_t)parameters, name, value)
    {
        json_t *own = json_incref(value);
        const char *wrong = json_is_null(value) ? NULL : mlxr_recipe_check_parameter(name, &own);
        mlxr_status st = MLXR_OK;
        if (wrong)
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "parameter \"%.100s\" %s", name, wrong);
        else if (own && !json_is_null(own) && json_object_set(r->defaults, name, own) != 0)
            st = mlxr_fail_nomem(err, "create");
        json_decref(own);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* A Modelfile's text: names alone, no paths. */
static mlxr_status read_modelfile(struct create *c, mlxr_error *err)
{
    mlxr_recipe *r = &c->recipe;
    mlxr_status st = mlxr_modelfile_parse(r, c->modelfile, strlen(c->modelfile), "modelfile", err);

    if (st != MLXR_OK) return st;
    if (r->base_path || r->adapter || r->tokenizer || r->template_path)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                         "modelfile: no path of this machine is taken: FROM is a model of the store; upload "
                         "files and name them in \"files\" or \"adapters\"");
    if (!c->from || !*c->from) {
        c->from = r->base_repo;
    } else {
        free(r->base_repo);
        r->base_repo = NULL;
    }
    return MLXR_OK;
}

static mlxr_status make_recipe(struct create *c, mlxr_error *err)
{
    recipe_reader r = {.what = "request", .err = err, .out = &c->recipe};
    mlxr_status st = MLXR_OK;

    if (c->modelfile && *c->modelfile && (st = read_modelfile(c, err)) != MLXR_OK) return st;
    if (c->quantize && *c->quantize && (st = set_quantize(&c->recipe, c->quantize, err)) != MLXR_OK)
        return st;
    if (c->template_ && *c->template_)
        mlxr_recipe_set_template(&r, c->template_, strlen(c->template_), (recipe_place){1, 1});
    if (c->system && *c->system) mlxr_recipe_set(&r, &c->recipe.system, c->system, strlen(c->system));
    if ((st = set_licenses(&r, c->license, err)) != MLXR_OK) return st;
    if ((st = set_messages(&r, c->messages, err)) != MLXR_OK) return st;
    if (r.status != MLXR_OK) return r.status;
    return set_parameters(&c->recipe, c->parameters, err);
}

/* ---- uploaded files ---- */

static bool is_relative(const char *path)
{
    if (!*path || *path == '/' || strlen(path) > 1024) return false;
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        for (size_t i = 0; i < n; i++)
            if (p[i] == '\\' || (unsigned char)p[i] < ' ') return false;
        p += n;
        if (*p == '/' && !*++p) return false;
    }
    return true;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcasecmp(s + n - k, end) == 0;
}

/* A link to the blob, which the session keeps. */
static mlxr_status stage_file(struct create *c, const char *dir, const char *path, const char *text,
                              mlxr_error *err)
{
    mlxr_store *store = c->job.serve->store;
    char digest[72], *blob = NULL, *real = NULL, *to = NULL, *parent = NULL;
    bool present;
    struct stat sb;
    mlxr_status st;

    if (!is_relative(path)) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "file path must be relative");
    if (!text || !mlxr_native_digest(digest, text))
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "invalid digest format");
    if ((st = mlxr_session_want(c->session, digest, 0, &present, err)) != MLXR_OK) return st;
    blob = mlxr_store_blob_path(store, digest);
    to = mlxr_path_join(dir, path);
    parent = to ? mlxr_path_dirname(to) : NULL;
    if (!blob || !parent)
        st = mlxr_fail_nomem(err, "create");
    else if (stat(blob, &sb) != 0 || !S_ISREG(sb.st_mode) || !(real = realpath(blob, NULL)))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "file %.200s: there is no blob %s; upload it first",
                       path, digest);
    if (st == MLXR_OK) st = mlxr_io_make_dirs(&store->io, parent, err);
    if (st == MLXR_OK) st = mlxr_io_symlink(&store->io, real, to, err);
    free(blob);
    free(real);
    free(to);
    free(parent);
    return st;
}

/* The files as a folder of the session's; *out: free it. gguf (may be NULL): the path of one that is a GGUF file. */
static mlxr_status stage(struct create *c, char **out, char **gguf, const char *name, const json_t *files,
                         mlxr_error *err)
{
    char *dir = mlxr_path_join(mlxr_session_dir(c->session), name);
    const char *path, *found = NULL;
    json_t *digest;
    mlxr_status st = MLXR_OK;

    *out = dir;
    if (!dir) return mlxr_fail_nomem(err, "create");
    if (json_object_size(files) > MAX_FILES)
        return mlxr_fail(err, MLXR_E_LIMIT, "request: more than %d files", (int)MAX_FILES);
    json_object_foreach((json_t *)(uintptr_t)files, path, digest)
    {
        if ((st = stage_file(c, dir, path, json_string_value(digest), err)) != MLXR_OK) return st;
        if (ends_in(path, ".gguf")) found = path;
    }
    if (!found || !gguf) return MLXR_OK;
    if (json_object_size(files) > 1)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "request: a GGUF file is a whole model: \"files\" has %zu files, wanted it alone",
                         json_object_size(files));
    *gguf = mlxr_path_join(dir, found);
    return *gguf ? MLXR_OK : mlxr_fail_nomem(err, "create");
}

static mlxr_status stage_all(struct create *c, mlxr_error *err)
{
    char *dir = NULL, *gguf = NULL, *adapter = NULL;
    mlxr_status st = MLXR_OK;

    if (json_object_size(c->files)) {
        free(c->recipe.base_repo);
        c->recipe.base_repo = NULL;
        st = stage(c, &dir, &gguf, "files", c->files, err);
        if (st == MLXR_OK) {
            c->recipe.base_path = gguf ? gguf : dir;
            if (gguf)
                gguf = NULL;
            else
                dir = NULL;
        }
    }
    if (st == MLXR_OK && json_object_size(c->adapters)) {
        st = stage(c, &adapter, NULL, "adapters", c->adapters, err);
        if (st == MLXR_OK) {
            c->recipe.adapter = adapter;
            adapter = NULL;
        }
    }
    free(dir);
    free(gguf);
    free(adapter);
    return st;
}

/* ---- carrying it out ---- */

static bool put_step(mlxr_native_job *job, mlxr_buf *out, const mlxr_store_step *step)
{
    const char *status = strcmp(step->what, "converting") == 0 ? "converting model"
                         : strcmp(step->what, "hashing") == 0  ? "verifying sha256 digest"
                         : strcmp(step->what, "pulling") == 0  ? "pulling model"
                                                               : step->what;

    mlxr_buf_str(out, "\"status\":");
    mlxr_put_string(out, status);
    if (strcmp(step->what, "pulling") == 0) mlxr_buf_str(out, ",\"digest\":\"sha256:model\"");
    mlxr_put_count_member(out, "total", step->total_all);
    mlxr_put_count_member(out, "completed", step->done_all);
    mlxr_put_text_member(out, "file", step->item);
    return true;
}

/* `from` is in the store from here on, under a name. */
static mlxr_status have_base(struct create *c, mlxr_error *err)
{
    mlxr_serve *s = c->job.serve;
    mlxr_error first = {0};
    mlxr_status st = mlxr_store_find(&c->before, NULL, s->store, c->from, &first);

    if (st == MLXR_E_NOT_FOUND && strncasecmp(c->from, "sha256:", 7) != 0) {
        mlxr_native_job_status(&c->job, "pulling manifest");
        st = mlxr_store_pull(NULL, s->store, c->from, NULL, &s->options.remote, &c->job.store, err);
        if (st == MLXR_OK) st = mlxr_store_find(&c->before, NULL, s->store, c->from, err);
    } else if (st != MLXR_OK && err) {
        *err = first;
    }
    if (st == MLXR_OK && !c->recipe.base_repo && !(c->recipe.base_repo = mlxr_strdup(c->from)))
        st = mlxr_fail_nomem(err, "create");
    return st;
}

static void tell_layers(struct create *c, const char *name)
{
    mlxr_manifest m = {0};

    if (!c->job.stream || mlxr_store_find(&m, NULL, c->job.serve->store, name, NULL) != MLXR_OK) return;
    for (size_t i = 0; i < m.n_layers; i++) {
        char text[160];
        bool old = json_object_size(c->files) && is_relative(m.layers[i].path) &&
                   json_object_get(c->files, m.layers[i].path);
        for (size_t k = 0; k < c->before.n_layers && !old; k++)
            old = strcmp(c->before.layers[k].digest, m.layers[i].digest) == 0;
        snprintf(text, sizeof text, "%s layer %s", old ? "using existing" : "creating new",
                 m.layers[i].digest);
        mlxr_native_job_status(&c->job, text);
    }
    mlxr_manifest_clear(&m);
}

static void release_uploads(struct create *c)
{
    const json_t *const lists[] = {c->files, c->adapters};
    const char *path;
    json_t *digest;
    char own[72];

    for (size_t i = 0; i < MLXR_COUNT(lists); i++)
        json_object_foreach((json_t *)(uintptr_t)lists[i], path, digest)
        {
            if (json_is_string(digest) && mlxr_native_digest(own, json_string_value(digest)))
                mlxr_shelf_release(c->job.serve->shelf, own);
        }
}

static mlxr_status run(struct create *c, const char *name, mlxr_error *err)
{
    mlxr_serve *s = c->job.serve;
    mlxr_create_options o = {
        .recipe_dir = mlxr_session_dir(c->session), .job = &c->job.store, .log = s->options.log};
    mlxr_status st;

    if (c->recipe.base_path) {
        mlxr_native_job_status(&c->job,
                               ends_in(c->recipe.base_path, ".gguf") ? "parsing GGUF" : "converting model");
    } else if ((st = have_base(c, err)) != MLXR_OK) {
        return st;
    }
    if (c->recipe.adapter) mlxr_native_job_status(&c->job, "converting adapter");
    if (c->recipe.quantize) {
        char text[80];
        snprintf(text, sizeof text, "quantizing model to %.40s", c->quantize ? c->quantize : "");
        mlxr_native_job_status(&c->job, text);
    }
    if ((st = mlxr_create(NULL, s->store, name, &c->recipe, &o, err)) != MLXR_OK) return st;
    release_uploads(c);
    tell_layers(c, name);
    mlxr_native_job_status(&c->job, "writing manifest");
    return MLXR_OK;
}

/* What can be told without work; false: it has been answered. */
static bool check(struct create *c, mlxr_serve *s, mlxr_request_in *http, mlxr_error *err)
{
    mlxr_name parsed;
    mlxr_status st;

    if (!s->store) {
        mlxr_native_fail(http, 400, "there is no store");
        return false;
    }
    if ((st = make_recipe(c, err)) != MLXR_OK) {
        mlxr_native_fail(http, mlxr_serve_http_status(st), err->message);
        return false;
    }
    if (!json_object_size(c->files) && (!c->from || !*c->from)) {
        mlxr_native_fail(http, 400, "neither 'from' or 'files' was specified");
        return false;
    }
    if (json_object_size(c->files)) {
        if (!c->from || !*c->from || (c->modelfile && *c->modelfile)) return true;
        mlxr_native_fail(http, 400, "request: \"from\" and \"files\" exclude each other");
        return false;
    }
    if (mlxr_name_parse(&parsed, c->from, NULL) == MLXR_OK || strncasecmp(c->from, "sha256:", 7) == 0)
        return true;
    mlxr_fail(err, MLXR_OK, "request: \"from\" is \"%.200s\", wanted the name of a model; files are uploaded",
              c->from);
    mlxr_native_fail(http, 400, err->message);
    return false;
}

static void create(mlxr_serve *s, mlxr_request_in *http)
{
    struct create c = {.stream = true, .job = {.step = put_step}};
    json_t *body, *warnings;
    const char *name;
    mlxr_error err = {0};
    mlxr_status st;

    if (!mlxr_native_read(&body, &warnings, &c, s, http, &mlxr_native_create_fields)) return;
    if ((name = mlxr_native_model_of(s, http, c.model, c.name, false)) == NULL) goto done;
    if (!check(&c, s, http, &err)) goto done;
    c.job.serve = s;
    if ((st = mlxr_session_begin(&c.session, s->store, &err)) == MLXR_OK) st = stage_all(&c, &err);
    if (st != MLXR_OK) {
        mlxr_native_fail(http, mlxr_serve_http_status(st), err.message);
        goto done;
    }
    mlxr_native_job_begin(&c.job, s, http, c.stream, warnings);
    warnings = NULL;
    st = run(&c, name, &err);
    /* Before the answer: who has it finds nothing of the work left over. */
    create_clear(&c);
    c.session = NULL;
    mlxr_native_job_end(&c.job, st, &err, NULL);
done:
    create_clear(&c);
    json_decref(body);
    json_decref(warnings);
}

void mlxr_native_create(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, create);
}
