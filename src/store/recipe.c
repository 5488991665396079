/* recipe: see recipe.h. The YAML form and what both forms share; modelfile.c has the other. */
#include "store/recipe.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/parameters.h"
#include "format/quant.h"
#include "store/name.h"
#include "store/recipe_read.h"
#include "store/yaml.h"

enum { MAX_LICENSES = 64 };

/* ---- both forms ---- */

void mlxr_recipe_fault(recipe_reader *r, mlxr_status code, recipe_place at, const char *fmt, ...)
{
    mlxr_error err = {0};
    char text[sizeof err.message];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    mlxr_fail(&err, code, "%s:%zu:%zu: %s", r->what, at.line, at.column, text);
    if (r->status == MLXR_OK) {
        r->status = code;
        if (r->err) *r->err = err;
    }
    if (r->on_fault) r->on_fault(err.message, r->ud);
}

void mlxr_recipe_nomem(recipe_reader *r)
{
    if (r->status == MLXR_OK) r->status = mlxr_fail_nomem(r->err, r->what);
}

void mlxr_recipe_set(recipe_reader *r, char **to, const char *text, size_t n)
{
    char *copy = mlxr_strndup(text, n);

    if (!copy) {
        mlxr_recipe_nomem(r);
        return;
    }
    free(*to);
    *to = copy;
}

/* What is wrong with it, or NULL; *value NULL: it is passed over. */
static const char *check_parameter(const char *name, json_t **value, bool from_text)
{
    const mlxr_parameter *p = mlxr_parameter_find(name);
    const char *wants;

    if (!p) return "is no parameter";
    if ((wants = mlxr_parameter_check(p, value, from_text)) != NULL) return wants;
    if (p->kind == MLXR_PARAMETER_OTHER) {
        json_decref(*value);
        *value = NULL;
    }
    return NULL;
}

const char *mlxr_recipe_check_parameter(const char *name, json_t **value)
{
    return check_parameter(name, value, true);
}

void mlxr_recipe_set_parameter(recipe_reader *r, const char *name, json_t *value, recipe_place at,
                               bool from_text)
{
    const char *wrong = NULL;
    json_t *there;

    if (!value || (!r->out->defaults && !(r->out->defaults = json_object()))) {
        mlxr_recipe_nomem(r);
        json_decref(value);
        return;
    }
    there = json_object_get(r->out->defaults, name);
    if (!mlxr_parameter_find(name)) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, at, "there is no parameter \"%.200s\"", name);
    } else if ((wrong = check_parameter(name, &value, from_text)) != NULL) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, at, "the parameter %s wants %s", name, wrong);
    } else if (value && json_is_array(value) && json_is_array(there) && from_text) {
        if (json_array_size(there) + json_array_size(value) > MLXR_PARAMETER_MAX_TEXTS)
            mlxr_recipe_fault(r, MLXR_E_LIMIT, at, "the parameter %s has more than %d texts", name,
                              (int)MLXR_PARAMETER_MAX_TEXTS);
        else if (json_array_extend(there, value) != 0)
            mlxr_recipe_nomem(r);
    } else if (value && json_object_set(r->out->defaults, name, value) != 0) {
        mlxr_recipe_nomem(r);
    }
    json_decref(value);
}

void mlxr_recipe_add_message(recipe_reader *r, const char *role, const char *content, recipe_place at)
{
    json_t *message;

    if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, at, "the role \"%.200s\" is none of system, user and assistant",
                          role);
        return;
    }
    if (!r->out->messages) r->out->messages = json_array();
    message = json_pack("{s:s, s:s}", "role", role, "content", content);
    if (!r->out->messages || !message || json_array_append(r->out->messages, message) != 0)
        mlxr_recipe_nomem(r);
    json_decref(message);
}

void mlxr_recipe_add_license(recipe_reader *r, const char *text, size_t n)
{
    char **grown = mlxr_realloc_array(r->out->licenses, r->out->n_licenses + 1, sizeof *grown);

    if (!grown) {
        mlxr_recipe_nomem(r);
        return;
    }
    r->out->licenses = grown;
    grown[r->out->n_licenses] = NULL;
    mlxr_recipe_set(r, &grown[r->out->n_licenses], text, n);
    if (grown[r->out->n_licenses]) r->out->n_licenses++;
}

/* Templates of Go's text/template, which Ollama writes: an action begins with a field, a variable, or one of its words, and
 * Jinja writes none of them between "{{" and "}}". */
static bool is_go_template(const char *text)
{
    static const char *const words[] = {"if", "range", "end", "else", "with", "define", "template", "block"};
    bool jinja = strstr(text, "{%") != NULL;

    for (const char *s = text; (s = strstr(s, "{{")) != NULL;) {
        s += 2;
        if (*s == '-') s++;
        while (isspace((unsigned char)*s)) s++;
        if (*s == '.' || *s == '$') return true;
        for (size_t i = 0; i < MLXR_COUNT(words) && !jinja; i++) {
            size_t n = strlen(words[i]);
            if (strncmp(s, words[i], n) == 0 && (s[n] == ' ' || s[n] == '\t' || s[n] == '}' || s[n] == '-'))
                return true;
        }
    }
    return false;
}

void mlxr_recipe_set_template(recipe_reader *r, const char *text, size_t n, recipe_place at)
{
    mlxr_recipe_set(r, &r->out->template_text, text, n);
    if (r->out->template_text && is_go_template(r->out->template_text))
        mlxr_recipe_fault(r, MLXR_E_UNSUPPORTED, at,
                          "a template in Go's language, as Ollama has them; templates are in Jinja here, and "
                          "without one the "
                          "base's own is used");
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static bool looks_like_path(const char *s)
{
    return s[0] == '/' || strncmp(s, "./", 2) == 0 || strncmp(s, "../", 3) == 0 || strcmp(s, ".") == 0 ||
           strcmp(s, "..") == 0 || ends_in(s, "/") || ends_in(s, ".gguf") || ends_in(s, ".GGUF");
}

void mlxr_recipe_set_base(recipe_reader *r, const char *text, size_t n)
{
    char *base = mlxr_strndup(text, n);

    if (!base) {
        mlxr_recipe_nomem(r);
        return;
    }
    free(r->out->base_path);
    free(r->out->base_repo);
    r->out->base_path = looks_like_path(base) ? base : NULL;
    r->out->base_repo = r->out->base_path ? NULL : base;
}

void mlxr_recipe_clear(mlxr_recipe *r)
{
    if (!r) return;
    free(r->name);
    free(r->version);
    free(r->base_repo);
    free(r->base_revision);
    free(r->base_path);
    free(r->format);
    free(r->quant_mode);
    free(r->tokenizer);
    free(r->adapter);
    free(r->template_path);
    free(r->template_text);
    free(r->system);
    json_decref(r->defaults);
    json_decref(r->messages);
    for (size_t i = 0; i < r->n_licenses; i++) free(r->licenses[i]);
    free(r->licenses);
    json_decref(r->metadata);
    memset(r, 0, sizeof *r);
}

/* ---- YAML: values ---- */

static recipe_place place_of(const mlxr_yaml *node)
{
    return (recipe_place){node->line, node->column};
}

static void wants(recipe_reader *r, const mlxr_yaml *node, const char *key, const char *what)
{
    mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node), "\"%s\" is %s, wanted %s", key,
                      mlxr_yaml_kind_name(node->kind), what);
}

/* A text that is not empty. */
static bool take_text(recipe_reader *r, char **to, const mlxr_yaml *node, const char *key)
{
    if (node->kind != MLXR_YAML_TEXT || node->n_text == 0) {
        wants(r, node, key, node->kind == MLXR_YAML_TEXT ? "one that is not empty" : "a text");
        return false;
    }
    mlxr_recipe_set(r, to, node->text, node->n_text);
    return true;
}

/* A text, or a number as it is written. */
static const char *as_written(const mlxr_yaml *node)
{
    return node->kind == MLXR_YAML_TEXT || node->kind == MLXR_YAML_INT || node->kind == MLXR_YAML_REAL
               ? node->text
               : NULL;
}

/* The value of a key that may be absent; NULL: it is. Keys of a map that are none of `known` are faults. */
static bool is_map_of(recipe_reader *r, const mlxr_yaml *node, const char *key, const char *const *known,
                      size_t n)
{
    if (node->kind != MLXR_YAML_MAP) {
        wants(r, node, key, "a map");
        return false;
    }
    for (size_t i = 0; i < node->n; i++) {
        size_t k = 0;
        while (k < n && strcmp(node->keys[i]->text, known[k]) != 0) k++;
        if (k == n)
            mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node->keys[i]),
                              "there is no key \"%.200s\" in \"%s\"", node->keys[i]->text, key);
    }
    return true;
}

static const mlxr_yaml *member(const mlxr_yaml *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->keys[i]->text, key) == 0) return map->items[i];
    return NULL;
}

/* ---- YAML: keys ---- */

static void read_name(recipe_reader *r, const mlxr_yaml *node)
{
    mlxr_name name;
    mlxr_error err = {0};

    if (take_text(r, &r->out->name, node, "name") && r->out->name &&
        mlxr_name_parse(&name, r->out->name, &err) != MLXR_OK)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node), "%s", err.message);
}

static void read_version(recipe_reader *r, const mlxr_yaml *node)
{
    const char *text = as_written(node);

    if (!text || !*text)
        wants(r, node, "version", "a text that is not empty");
    else
        mlxr_recipe_set(r, &r->out->version, text, strlen(text));
}

static void read_base(recipe_reader *r, const mlxr_yaml *node)
{
    static const char *const keys[] = {"repo", "revision", "path"};
    const mlxr_yaml *repo, *revision, *path;

    if (node->kind == MLXR_YAML_TEXT && node->n_text) {
        mlxr_recipe_set_base(r, node->text, node->n_text);
        return;
    }
    if (node->kind != MLXR_YAML_MAP) {
        wants(r, node, "base", "a name, a path, or a map with \"repo\" or \"path\"");
        return;
    }
    if (!is_map_of(r, node, "base", keys, MLXR_COUNT(keys))) return;
    repo = member(node, "repo");
    revision = member(node, "revision");
    path = member(node, "path");
    if (!repo == !path)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node),
                          "\"base\" has %s \"repo\" and \"path\", wanted one of them",
                          repo ? "both" : "neither");
    if (revision && !repo)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(revision),
                          "\"revision\" is of a \"repo\", and there is none");
    if (repo) take_text(r, &r->out->base_repo, repo, "repo");
    if (revision) take_text(r, &r->out->base_revision, revision, "revision");
    if (path) take_text(r, &r->out->base_path, path, "path");
}

static void read_format(recipe_reader *r, const mlxr_yaml *node)
{
    if (node->kind != MLXR_YAML_TEXT || (strcmp(node->text, "mlx") != 0 && strcmp(node->text, "gguf") != 0))
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node), "\"format\" wants mlx or gguf");
    else
        mlxr_recipe_set(r, &r->out->format, node->text, node->n_text);
}

/* "4bit": affine, its own group size. A mode by its name. false: neither. */
static bool quant_word(recipe_reader *r, const char *word)
{
    if (word[0] >= '2' && word[0] <= '8' && strcmp(word + 1, "bit") == 0) {
        r->out->quant_bits = (uint32_t)(word[0] - '0');
        word = "affine";
    } else if (strcmp(word, "mxfp4") != 0 && strcmp(word, "nvfp4") != 0 && strcmp(word, "mxfp8") != 0 &&
               strcmp(word, "none") != 0) {
        return false;
    }
    mlxr_recipe_set(r, &r->out->quant_mode, word, strlen(word));
    return true;
}

static bool take_bits(recipe_reader *r, uint32_t *out, const mlxr_yaml *map, const char *key)
{
    const mlxr_yaml *node = member(map, key);

    if (!node) return true;
    if (node->kind != MLXR_YAML_INT || node->integer < 1 || node->integer > 1024) {
        wants(r, node, key, "a whole number");
        return false;
    }
    *out = (uint32_t)node->integer;
    return true;
}

static void read_quantization(recipe_reader *r, const mlxr_yaml *node)
{
    static const char *const keys[] = {"bits", "group_size", "mode"};
    const char *mode = "affine";
    const mlxr_yaml *m;
    mlxr_quant q = {.mode = MLXR_QUANT_AFFINE, .bits = 4, .group_size = 64};
    bool ok = true;

    r->out->quantize = true;
    if (node->kind == MLXR_YAML_TEXT) {
        if (!quant_word(r, node->text)) {
            mlxr_recipe_fault(
                r, MLXR_E_FORMAT, place_of(node),
                "the quantization \"%.200s\" is none of 2bit to 8bit, mxfp4, nvfp4, mxfp8 and none",
                node->text);
            return;
        }
        if (r->out->quant_mode) mode = r->out->quant_mode;
    } else {
        if (!is_map_of(r, node, "quantization", keys, MLXR_COUNT(keys))) return;
        if ((m = member(node, "mode")) != NULL) {
            mode = m->kind == MLXR_YAML_TEXT ? m->text : "";
            if (strcmp(mode, "affine") != 0 && (!quant_word(r, mode) || strstr(mode, "bit"))) {
                mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(m),
                                  "\"mode\" wants affine, mxfp4, nvfp4, mxfp8 or none");
                return;
            }
        }
        ok = take_bits(r, &r->out->quant_bits, node, "bits");
        ok = take_bits(r, &r->out->quant_group_size, node, "group_size") && ok;
        mlxr_recipe_set(r, &r->out->quant_mode, mode, strlen(mode));
    }
    if (!ok) return;
    if (strcmp(mode, "none") == 0) {
        if (r->out->quant_bits || r->out->quant_group_size)
            mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node), "\"mode\" none has no bits and no groups");
        return;
    }
    q.mode = mlxr_quant_mode_from_name(mode);
    if (q.mode != MLXR_QUANT_AFFINE) {
        q.bits = strcmp(mode, "mxfp8") == 0 ? 8 : 4;
        q.group_size = strcmp(mode, "nvfp4") == 0 ? 16 : 32;
    }
    if (r->out->quant_bits) q.bits = r->out->quant_bits;
    if (r->out->quant_group_size) q.group_size = r->out->quant_group_size;
    if (!mlxr_quant_supported(q))
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(node),
                          "there is no quantization %s of %u bits in groups of %u (affine: 2, 3, 4, 5, 6 or "
                          "8 bits, groups of "
                          "32, 64 or 128)",
                          mode, (unsigned)q.bits, (unsigned)q.group_size);
}

static void read_tokenizer(recipe_reader *r, const mlxr_yaml *node)
{
    take_text(r, &r->out->tokenizer, node, "tokenizer");
}

static void read_template(recipe_reader *r, const mlxr_yaml *node)
{
    if (node->kind != MLXR_YAML_TEXT || node->n_text == 0)
        take_text(r, &r->out->template_path, node, "template");
    else if (strchr(node->text, '\n') || strstr(node->text, "{{") || strstr(node->text, "{%"))
        mlxr_recipe_set_template(r, node->text, node->n_text, place_of(node));
    else
        mlxr_recipe_set(r, &r->out->template_path, node->text, node->n_text);
}

static void read_system(recipe_reader *r, const mlxr_yaml *node)
{
    if (node->kind != MLXR_YAML_TEXT)
        wants(r, node, "system", "a text");
    else
        mlxr_recipe_set(r, &r->out->system, node->text, node->n_text);
}

static void read_defaults(recipe_reader *r, const mlxr_yaml *node)
{
    if (node->kind != MLXR_YAML_MAP) {
        wants(r, node, "defaults", "a map");
        return;
    }
    for (size_t i = 0; i < node->n; i++)
        mlxr_recipe_set_parameter(
            r, node->keys[i]->text, mlxr_yaml_to_json(node->items[i]),
            place_of(mlxr_parameter_find(node->keys[i]->text) ? node->items[i] : node->keys[i]), false);
}

static void read_messages(recipe_reader *r, const mlxr_yaml *node)
{
    static const char *const keys[] = {"role", "content"};

    if (node->kind != MLXR_YAML_LIST) {
        wants(r, node, "messages", "a list");
        return;
    }
    for (size_t i = 0; i < node->n; i++) {
        const mlxr_yaml *item = node->items[i], *role, *content;
        if (!is_map_of(r, item, "messages", keys, MLXR_COUNT(keys))) continue;
        role = member(item, "role");
        content = member(item, "content");
        if (!role || !content || role->kind != MLXR_YAML_TEXT || content->kind != MLXR_YAML_TEXT)
            mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(item),
                              "a message wants \"role\" and \"content\" as texts");
        else
            mlxr_recipe_add_message(r, role->text, content->text, place_of(role));
    }
}

static void read_adapter(recipe_reader *r, const mlxr_yaml *node)
{
    take_text(r, &r->out->adapter, node, "adapter");
}

static void read_license(recipe_reader *r, const mlxr_yaml *node)
{
    size_t n = node->kind == MLXR_YAML_LIST ? node->n : 1;

    if (n > MAX_LICENSES) {
        mlxr_recipe_fault(r, MLXR_E_LIMIT, place_of(node), "more than %d licenses", (int)MAX_LICENSES);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const mlxr_yaml *item = node->kind == MLXR_YAML_LIST ? node->items[i] : node;
        if (item->kind != MLXR_YAML_TEXT || item->n_text == 0)
            wants(r, item, "license", "a text, a path, or a list of them");
        else
            mlxr_recipe_add_license(r, item->text, item->n_text);
    }
}

static void read_metadata(recipe_reader *r, const mlxr_yaml *node)
{
    if (node->kind != MLXR_YAML_MAP) {
        wants(r, node, "metadata", "a map");
        return;
    }
    if (!r->out->metadata && !(r->out->metadata = json_object())) {
        mlxr_recipe_nomem(r);
        return;
    }
    for (size_t i = 0; i < node->n; i++) {
        const char *text = as_written(node->items[i]);
        if (!text)
            wants(r, node->items[i], node->keys[i]->text, "a text");
        else if (json_object_set_new(r->out->metadata, node->keys[i]->text, json_string(text)) != 0)
            mlxr_recipe_nomem(r);
    }
}

static const struct {
    const char *key;
    void (*read)(recipe_reader *r, const mlxr_yaml *node);
} keys[] = {
    {"name", read_name},
    {"version", read_version},
    {"base", read_base},
    {"format", read_format},
    {"quantization", read_quantization},
    {"tokenizer", read_tokenizer},
    {"template", read_template},
    {"system", read_system},
    {"defaults", read_defaults},
    {"messages", read_messages},
    {"adapter", read_adapter},
    {"license", read_license},
    {"metadata", read_metadata},
};

/* A version that is to be a tag is one. */
static void check_whole_name(recipe_reader *r, const mlxr_yaml *root)
{
    mlxr_error err = {0};
    mlxr_name name;
    char *whole;

    if (r->status != MLXR_OK || !r->out->name || !r->out->version) return;
    if (mlxr_recipe_name(&whole, r->out, NULL, NULL) != MLXR_OK)
        mlxr_recipe_nomem(r);
    else if (mlxr_name_parse(&name, whole, &err) != MLXR_OK)
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(member(root, "version")),
                          "the version becomes the tag: %s", err.message);
    free(whole);
}

static void read_recipe(recipe_reader *r, const mlxr_yaml *root)
{
    bool has_base = false;

    if (root->kind != MLXR_YAML_MAP) {
        mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(root), "a recipe is a map, and this is %s",
                          mlxr_yaml_kind_name(root->kind));
        return;
    }
    for (size_t i = 0; i < root->n; i++) {
        const char *key = root->keys[i]->text;
        size_t k = 0;
        while (k < MLXR_COUNT(keys) && strcmp(keys[k].key, key) != 0) k++;
        has_base |= strcmp(key, "base") == 0;
        if (k == MLXR_COUNT(keys))
            mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(root->keys[i]),
                              "there is no key \"%.200s\" in a recipe", key);
        else if (root->items[i]->kind != MLXR_YAML_NULL) /* a key without a value is one that is not there */
            keys[k].read(r, root->items[i]);
        else if (strcmp(key, "base") == 0)
            has_base = false;
    }
    check_whole_name(r, root);
    if (!has_base) mlxr_recipe_fault(r, MLXR_E_FORMAT, place_of(root), "a recipe wants a \"base\"");
}

/* ---- parsing ---- */

static void parse_yaml(recipe_reader *r, const char *text, size_t n)
{
    mlxr_arena arena = {0};
    mlxr_yaml *root;
    mlxr_error err = {0};

    r->status = mlxr_yaml_parse(&root, &arena, text, n, r->what, &err);
    if (r->status == MLXR_OK) {
        read_recipe(r, root);
    } else {
        if (r->err) *r->err = err;
        if (r->on_fault) r->on_fault(err.message, r->ud);
    }
    mlxr_arena_clear(&arena);
}

static mlxr_status parse(mlxr_recipe *out, const char *text, size_t n, const char *what, bool modelfile,
                         mlxr_recipe_on_fault on_fault, void *ud, mlxr_error *err)
{
    recipe_reader r = {.what = what, .err = err, .on_fault = on_fault, .ud = ud, .out = out};

    *out = (mlxr_recipe){0};
    if (modelfile)
        mlxr_modelfile_read(&r, text, n);
    else
        parse_yaml(&r, text, n);
    if (r.status != MLXR_OK) mlxr_recipe_clear(out);
    return r.status;
}

mlxr_status mlxr_recipe_parse(mlxr_recipe *out, const char *text, size_t n, const char *what, mlxr_error *err)
{
    return parse(out, text, n, what, false, NULL, NULL, err);
}

mlxr_status mlxr_modelfile_parse(mlxr_recipe *out, const char *text, size_t n, const char *what,
                                 mlxr_error *err)
{
    return parse(out, text, n, what, true, NULL, NULL, err);
}

mlxr_status mlxr_recipe_parse_with(mlxr_recipe *out, const char *text, size_t n, const char *what,
                                   mlxr_recipe_on_fault on_fault, void *ud, mlxr_error *err)
{
    return parse(out, text, n, what, mlxr_recipe_is_modelfile(text, n), on_fault, ud, err);
}

/* ---- files ---- */

/* A license that names a file is what the file holds. */
static mlxr_status read_licenses(mlxr_recipe *r, const char *path, mlxr_error *err)
{
    char *dir = mlxr_path_dirname(path);
    mlxr_status st = dir ? MLXR_OK : mlxr_fail_nomem(err, path);

    for (size_t i = 0; i < r->n_licenses && st == MLXR_OK; i++) {
        char *text = r->licenses[i], *file;
        bool sure = looks_like_path(text) || ends_in(text, ".txt") || ends_in(text, ".md");
        mlxr_buf held = {0};
        if (strlen(text) > 255 || strchr(text, '\n')) continue;
        if (!(file = mlxr_path_join(dir, text))) {
            st = mlxr_fail_nomem(err, path);
        } else if (sure || mlxr_path_is_file(file)) {
            st = mlxr_file_read(&held, file, MLXR_RECIPE_MAX_BYTES, err);
            if (st == MLXR_OK && (mlxr_utf8_valid(held.data ? held.data : "", held.len) != held.len ||
                                  memchr(held.data ? held.data : "", 0, held.len)))
                st = mlxr_fail(err, MLXR_E_FORMAT, "%s: a license, and no text in UTF-8", file);
            if (st != MLXR_OK) mlxr_error_prefix(err, "%s: license: ", path);
            if (st == MLXR_OK && !(text = mlxr_buf_take(&held, NULL))) st = mlxr_fail_nomem(err, path);
            if (st == MLXR_OK) {
                free(r->licenses[i]);
                r->licenses[i] = text;
            }
        }
        mlxr_buf_clear(&held);
        free(file);
    }
    free(dir);
    return st;
}

mlxr_status mlxr_recipe_read_with(mlxr_recipe *out, const char *path, mlxr_recipe_on_fault on_fault, void *ud,
                                  mlxr_error *err)
{
    mlxr_buf text = {0};
    bool modelfile = false, parsed = false;
    mlxr_error own = {0};
    mlxr_status st;

    *out = (mlxr_recipe){0};
    st = mlxr_file_read(&text, path, MLXR_RECIPE_MAX_BYTES, &own);
    if (st == MLXR_OK) {
        modelfile = mlxr_recipe_is_modelfile(text.data ? text.data : "", text.len);
        st = parse(out, text.data ? text.data : "", text.len, path, modelfile, on_fault, ud, &own);
        parsed = st != MLXR_OK;
    }
    if (st == MLXR_OK && !modelfile) st = read_licenses(out, path, &own);
    if (st != MLXR_OK) {
        if (!parsed && on_fault) on_fault(own.message, ud);
        if (err) *err = own;
        mlxr_recipe_clear(out);
    }
    mlxr_buf_clear(&text);
    return st;
}

mlxr_status mlxr_recipe_read(mlxr_recipe *out, const char *path, mlxr_error *err)
{
    return mlxr_recipe_read_with(out, path, NULL, NULL, err);
}

mlxr_status mlxr_recipe_name(char **out, const mlxr_recipe *r, const char *given, mlxr_error *err)
{
    const char *name = given ? given : r->name, *slash, *last;
    bool tagged;

    *out = NULL;
    if (!name)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "recipe: no name is given, and the recipe has none");
    slash = strrchr(name, '/');
    last = slash ? slash + 1 : name;
    tagged = given || !r->version || strchr(last, ':');
    *out = mlxr_asprintf("%s%s%s", name, tagged ? "" : ":", tagged ? "" : r->version);
    return *out ? MLXR_OK : mlxr_fail_nomem(err, "recipe");
}

/* ---- mlxr.json ---- */

mlxr_status mlxr_recipe_folder_json(mlxr_buf *out, const mlxr_recipe *r, mlxr_error *err)
{
    json_t *doc, *const parts[] = {r->defaults, r->messages, r->metadata};
    static const char *const names[] = {"parameters", "messages", "metadata"};
    bool ok, any = r->system != NULL;
    char *text = NULL;

    ok = (doc = json_pack("{s:i}", "mlxr", 1)) != NULL;
    if (ok && r->system) ok = json_object_set_new(doc, "system", json_string(r->system)) == 0;
    for (size_t i = 0; i < MLXR_COUNT(parts) && ok; i++) {
        if (!parts[i] || (json_object_size(parts[i]) == 0 && json_array_size(parts[i]) == 0)) continue;
        ok = json_object_set(doc, names[i], parts[i]) == 0;
        any = true;
    }
    if (ok && any)
        ok = (text = json_dumps(doc, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15))) != NULL;
    if (ok && any) {
        mlxr_buf_str(out, text);
        mlxr_buf_char(out, '\n');
    }
    json_decref(doc);
    free(text);
    return ok ? mlxr_buf_check(out, "mlxr.json", err) : mlxr_fail_nomem(err, "mlxr.json");
}
