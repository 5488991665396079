/* doctor: the files of a folder, and the safetensors among them with their index. Which files the loader reads is told in
 * format.h; a file is opened alone first, so that one that is broken does not hide the next. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "doctor.h"

enum { MAX_ENTRIES = 20000, MAX_FILES = 4096, MAX_INDEX_BYTES = 100000000 };

#define INDEX  "model.safetensors.index.json"
#define SINGLE "model.safetensors"

typedef struct names {
    char **v;
    size_t n, cap;
} names;

typedef struct checker {
    doctor *d;
    const char *dir;
    names tensors_files; /* *.safetensors that are regular and can be read, sorted */
    size_t n_unusable;   /* other *.safetensors, each told of already */
    doctor_weights *out;
} checker;

static bool names_add(names *l, const char *name)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        char **v = mlxr_realloc_array(l->v, cap, sizeof *v);
        if (!v) return false;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n] = mlxr_strdup(name);
    return l->v[l->n] && ++l->n;
}

static void names_clear(names *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->v[i]);
    free(l->v);
    *l = (names){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has(const names *l, const char *name)
{
    return l->n && bsearch(&name, l->v, l->n, sizeof *l->v, by_name) != NULL;
}

static bool ends_in(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

static bool is_weights(const char *name)
{
    return ends_in(name, ".safetensors");
}

/* Of a folder without an index only these are read. */
static bool is_model(const char *name)
{
    return strncmp(name, "model", 5) == 0;
}

/* Files that loading or text needs, in some folder or other. */
static bool is_wanted(const char *name)
{
    static const char *const wanted[] = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "chat_template.jinja",
        "chat_template.json",
        INDEX,
    };

    for (size_t i = 0; i < MLXR_COUNT(wanted); i++)
        if (strcmp(name, wanted[i]) == 0) return true;
    return is_weights(name);
}

static bool is_leftover(const char *name)
{
    static const char *const suffixes[] = {".incomplete", ".part", ".partial", ".crdownload", ".aria2"};

    if (strstr(name, ".tmp.")) return true;
    for (size_t i = 0; i < MLXR_COUNT(suffixes); i++)
        if (ends_in(name, suffixes[i])) return true;
    return false;
}

/* A clone without Git LFS has these few lines in the place of each large file. */
static bool is_lfs_pointer(const char *path, off_t n_bytes)
{
    mlxr_buf text = {0};
    bool is = n_bytes < 1024 && mlxr_file_read(&text, path, 1024, NULL) == MLXR_OK && text.data &&
              strncmp(text.data, "version https://git-lfs", 23) == 0;

    mlxr_buf_clear(&text);
    return is;
}

/* One name of the folder; true when its content may be looked at. */
static bool check_entry(checker *c, const char *name, const char *path)
{
    struct stat sb;

    if (stat(path, &sb) != 0) {
        bool is_link = errno == ENOENT && lstat(path, &sb) == 0 && S_ISLNK(sb.st_mode);
        doctor_say(c->d, is_wanted(name) ? DOCTOR_ERROR : DOCTOR_WARN, name, "%s",
                   is_link ? "a link to a file that is not there" : strerror(errno));
    } else if (is_leftover(name)) {
        doctor_say(
            c->d, DOCTOR_WARN, name,
            "left by an interrupted import or download, %lld bytes: nothing reads it, it may be deleted",
            (long long)sb.st_size);
    } else if (!is_wanted(name)) {
        return false;
    } else if (!S_ISREG(sb.st_mode)) {
        doctor_say(c->d, DOCTOR_ERROR, name, "is a %s, wanted a file",
                   S_ISDIR(sb.st_mode) ? "folder" : "special file");
    } else if (access(path, R_OK) != 0) {
        doctor_say(c->d, DOCTOR_ERROR, name, "cannot be read: %s (mode %03o)", strerror(errno),
                   (unsigned)(sb.st_mode & 0777));
    } else if (is_lfs_pointer(path, sb.st_size)) {
        doctor_say(c->d, DOCTOR_ERROR, name,
                   "a Git LFS pointer of %lld bytes, not the file itself: git lfs pull brings it",
                   (long long)sb.st_size);
    } else {
        return true;
    }
    return false;
}

static void check_entries(checker *c)
{
    DIR *dir = opendir(c->dir);
    const struct dirent *e;
    size_t n = 0;

    if (!dir) {
        doctor_say(c->d, DOCTOR_ERROR, "folder", "%s: %s", c->dir, strerror(errno));
        return;
    }
    while ((e = readdir(dir)) != NULL) {
        bool is_usable = false;
        char *path;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (++n > MAX_ENTRIES) {
            doctor_say(c->d, DOCTOR_WARN, "folder", "more than %d entries; the rest was not looked at",
                       MAX_ENTRIES);
            break;
        }
        path = mlxr_path_join(c->dir, e->d_name);
        if (path) is_usable = check_entry(c, e->d_name, path);
        if (is_weights(e->d_name) && !is_usable) c->n_unusable++;
        if (!path || (is_usable && is_weights(e->d_name) && !names_add(&c->tensors_files, e->d_name)))
            doctor_say(c->d, DOCTOR_ERROR, "folder", "out of memory");
        free(path);
    }
    closedir(dir);
    if (c->tensors_files.n) qsort(c->tensors_files.v, c->tensors_files.n, sizeof(char *), by_name);
}

/* ---- the index ---- */

static bool is_plain_name(const json_t *v)
{
    const char *s = json_string_value(v);
    return s && s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) == json_string_length(v);
}

/* What the index says, and its files, each once and sorted. NULL: none that is usable; every fault is told. */
static json_t *read_index(checker *c, names *shards)
{
    char *path = mlxr_path_join(c->dir, INDEX);
    json_t *index = NULL, *map, *v;
    mlxr_strtab seen = {0};
    doctor_names bad = {0};
    mlxr_error err = {0};
    const char *tensor;
    mlxr_status st = path ? mlxr_json_read(&index, path, MAX_INDEX_BYTES, &err)
                          : mlxr_fail_nomem(&err, INDEX);

    free(path);
    if (st == MLXR_E_NOT_FOUND) return NULL;
    if (st != MLXR_OK) {
        doctor_message(c->d, DOCTOR_ERROR, INDEX, &err);
        return NULL;
    }
    map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        doctor_say(c->d, DOCTOR_ERROR, INDEX, "no \"weight_map\" of tensors to files");
        json_decref(index);
        return NULL;
    }
    json_object_foreach(map, tensor, v)
    {
        size_t old = SIZE_MAX;
        if (!is_plain_name(v)) {
            doctor_names_add(&bad, tensor);
            continue;
        }
        if (shards->n >= MAX_FILES) continue;
        if (!mlxr_strtab_put(&seen, json_string_value(v), json_string_length(v), 1, &old)) break;
        if (old == SIZE_MAX && !names_add(shards, json_string_value(v))) break;
    }
    if (bad.n)
        doctor_say(c->d, DOCTOR_ERROR, INDEX, "%zu tensors are mapped to no file of this folder: %s", bad.n,
                   doctor_names_text(&bad));
    if (shards->n >= MAX_FILES)
        doctor_say(c->d, DOCTOR_ERROR, INDEX, "more than %d files; only those were looked at", MAX_FILES);
    if (shards->n) qsort(shards->v, shards->n, sizeof *shards->v, by_name);
    doctor_names_clear(&bad);
    mlxr_strtab_clear(&seen);
    return index;
}

/* Shards that are not there, with how many tensors each would have. */
static void check_shards_there(checker *c, const json_t *map, const names *shards)
{
    size_t *n_tensors = mlxr_calloc_array(shards->n, sizeof *n_tensors);
    const char *tensor;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const char *file = json_string_value(v);
        char **at = file && shards->n ? bsearch(&file, shards->v, shards->n, sizeof *shards->v, by_name)
                                      : NULL;
        if (at && n_tensors) n_tensors[at - shards->v]++;
    }
    for (size_t i = 0; i < shards->n; i++) {
        char *path;
        if (has(&c->tensors_files, shards->v[i])) continue;
        c->out->n_broken++;
        path = mlxr_path_join(c->dir, shards->v[i]);
        if (path && access(path, F_OK) != 0) /* else what is wrong with it is told already */
            doctor_say(c->d, DOCTOR_ERROR, shards->v[i], "not there; the index puts %zu tensors into it",
                       n_tensors ? n_tensors[i] : 0);
        free(path);
    }
    free(n_tensors);
}

/* The index against the files that could be opened. */
static void check_index(checker *c, const json_t *index, const names *good)
{
    const mlxr_checkpoint *all = c->out->checkpoint;
    const json_t *map = json_object_get(index, "weight_map"),
                 *total = json_object_get(json_object_get(index, "metadata"), "total_size");
    doctor_names absent = {0}, elsewhere = {0}, unlisted = {0};
    const char *tensor;
    json_t *v;
    uint64_t n_bytes = 0;

    json_object_foreach((json_t *)(uintptr_t)map, tensor, v)
    {
        const char *file = json_string_value(v);
        const mlxr_tensor *t = mlxr_checkpoint_find(all, tensor);
        if (!file || !has(good, file)) continue;
        if (!t)
            doctor_names_add(&absent, tensor);
        else if (strcmp(t->file, file) != 0)
            doctor_names_add(&elsewhere, tensor);
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(all); i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(all, i);
        n_bytes += t->n_bytes;
        if (!json_object_get(map, t->name)) doctor_names_add(&unlisted, t->name);
    }
    if (absent.n)
        doctor_say(c->d, DOCTOR_ERROR, INDEX, "%zu tensors are in none of the files: %s", absent.n,
                   doctor_names_text(&absent));
    if (elsewhere.n)
        doctor_say(c->d, DOCTOR_ERROR, INDEX, "%zu tensors are in another file than it says: %s", elsewhere.n,
                   doctor_names_text(&elsewhere));
    if (unlisted.n)
        doctor_say(c->d, DOCTOR_WARN, INDEX, "%zu tensors of the files are not in it: %s", unlisted.n,
                   doctor_names_text(&unlisted));
    if (json_is_integer(total) && c->out->n_broken == 0 && (uint64_t)json_integer_value(total) != n_bytes)
        doctor_say(c->d, DOCTOR_WARN, INDEX, "\"total_size\" is %lld, the tensors have %llu bytes",
                   (long long)json_integer_value(total), (unsigned long long)n_bytes);
    if (!absent.n && !elsewhere.n && c->out->n_broken == 0)
        doctor_say(c->d, DOCTOR_OK, INDEX, "%zu tensors in %zu files", json_object_size(map), good->n);
    doctor_names_clear(&absent);
    doctor_names_clear(&elsewhere);
    doctor_names_clear(&unlisted);
}

/* ---- the files ---- */

/* Those of `files` whose header is right and whose bytes are all there. */
static void open_each(checker *c, const names *files, names *good)
{
    for (size_t i = 0; i < files->n; i++) {
        mlxr_checkpoint *one = NULL;
        mlxr_error err = {0};
        char *path;
        if (!has(&c->tensors_files, files->v[i])) continue;
        path = mlxr_path_join(c->dir, files->v[i]);
        if (!path) {
            doctor_say(c->d, DOCTOR_ERROR, files->v[i], "out of memory");
        } else if (mlxr_checkpoint_open_file(&one, path, &err) != MLXR_OK) {
            c->out->n_broken++;
            doctor_message(c->d, DOCTOR_ERROR, files->v[i], &err);
        } else {
            doctor_say(c->d, DOCTOR_OK, files->v[i], "%zu tensors, %llu bytes", mlxr_checkpoint_count(one),
                       (unsigned long long)mlxr_checkpoint_bytes(one));
            if (!names_add(good, files->v[i])) doctor_say(c->d, DOCTOR_ERROR, files->v[i], "out of memory");
        }
        mlxr_checkpoint_close(one);
        free(path);
    }
}

static void open_together(checker *c, const names *good)
{
    char **paths = mlxr_calloc_array(good->n, sizeof *paths);
    mlxr_error err = {0};
    bool all = paths != NULL;

    for (size_t i = 0; i < good->n && all; i++) all = (paths[i] = mlxr_path_join(c->dir, good->v[i])) != NULL;
    if (!all)
        doctor_say(c->d, DOCTOR_ERROR, "weights", "out of memory");
    else if (mlxr_checkpoint_open_files(&c->out->checkpoint, (const char *const *)paths, good->n, &err) !=
             MLXR_OK)
        doctor_message(c->d, DOCTOR_ERROR, "weights", &err);
    for (size_t i = 0; i < good->n && paths; i++) free(paths[i]);
    free(paths);
}

/* An index may give its files any name. */
static void add_oddly_named(checker *c, const names *shards)
{
    for (size_t i = 0; i < shards->n; i++) {
        char *path = is_weights(shards->v[i]) ? NULL : mlxr_path_join(c->dir, shards->v[i]);
        if (path && mlxr_path_is_file(path) && access(path, R_OK) == 0 &&
            !names_add(&c->tensors_files, shards->v[i]))
            doctor_say(c->d, DOCTOR_ERROR, "weights", "out of memory");
        free(path);
    }
    if (c->tensors_files.n) qsort(c->tensors_files.v, c->tensors_files.n, sizeof(char *), by_name);
}

static void check_weights(checker *c)
{
    names shards = {0}, good = {0}, plain = {0};
    const names *files = &plain;
    json_t *index = read_index(c, &shards);
    size_t n_there = 0;

    add_oddly_named(c, &shards);
    for (size_t i = 0; i < shards.n; i++) n_there += has(&c->tensors_files, shards.v[i]);
    if (index && n_there == 0 && has(&c->tensors_files, SINGLE)) {
        doctor_say(c->d, DOCTOR_WARN, INDEX, "names none of the files there: it counts for nothing beside %s",
                   SINGLE);
        json_decref(index);
        index = NULL;
    }
    if (index) {
        check_shards_there(c, json_object_get(index, "weight_map"), &shards);
        files = &shards;
    } else {
        for (size_t i = 0; i < c->tensors_files.n; i++) {
            const char *name = c->tensors_files.v[i];
            if (!is_model(name) || (has(&c->tensors_files, SINGLE) && strcmp(name, SINGLE) != 0)) continue;
            if (!names_add(&plain, name)) doctor_say(c->d, DOCTOR_ERROR, "weights", "out of memory");
        }
    }
    open_each(c, files, &good);
    for (size_t i = 0; i < c->tensors_files.n; i++)
        if (!has(files, c->tensors_files.v[i]))
            doctor_say(c->d, DOCTOR_WARN, c->tensors_files.v[i], "not read: %s",
                       index                            ? "the index does not name it"
                       : has(&c->tensors_files, SINGLE) ? "there is a " SINGLE
                                                        : "without an index only model*.safetensors are");
    if (good.n) open_together(c, &good);
    if (index && c->out->checkpoint) check_index(c, index, &good);
    if (files->n == 0 && c->n_unusable == 0)
        doctor_say(c->d, DOCTOR_ERROR, "weights",
                   "none: looked for " INDEX ", " SINGLE " and model*.safetensors");
    names_clear(&shards);
    names_clear(&good);
    names_clear(&plain);
    json_decref(index);
}

void doctor_files(doctor *d, doctor_weights *out, const char *dir)
{
    checker c = {.d = d, .dir = dir, .out = out};

    *out = (doctor_weights){0};
    check_entries(&c);
    check_weights(&c);
    names_clear(&c.tensors_files);
}

void doctor_weights_clear(doctor_weights *w)
{
    mlxr_checkpoint_close(w->checkpoint);
    *w = (doctor_weights){0};
}
