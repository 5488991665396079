/* files: what of a folder is a model, and the way of these files into the store: looked at, hashed several at a time, then
 * stored one by one. Nothing is stored before all of it has been looked at and hashed.
 *
 * Which files: those that the runner reads (config, weights, tokenizer, templates, generation and pooling), the model's card and
 * licence, and other JSON beside them. Weights are exactly the files that mlxr_checkpoint_open would read. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/pool.h"
#include "store/bring.h"
#include "store/keep.h"

enum {
    MAX_FILES = 4000,          /* fewer than a manifest may have */
    MAX_TEXT_BYTES = 16 << 20, /* a card or a licence is smaller */
    MAX_NEEDED_BYTES = 1 << 30 /* tokenizer.json of 40 MB exist */
};

/* ---- the list ---- */

void mlxr_model_files_clear(mlxr_model_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->v[i].title);
        free(files->v[i].path);
        mlxr_buf_clear(&files->v[i].sums);
    }
    free(files->v);
    *files = (mlxr_model_files){0};
}

mlxr_status mlxr_model_files_add(mlxr_model_files *files, const char *title, const char *path,
                                 const mlxr_layer *layer, mlxr_error *err)
{
    mlxr_model_file f = {.layer = layer};
    char *real = realpath(path, NULL);

    if (!real) return mlxr_io_fail(err, path, "open", errno);
    if (stat(real, &f.seen) != 0 || !S_ISREG(f.seen.st_mode)) {
        free(real);
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: is not a regular file", path);
    }
    if (files->n == MAX_FILES) {
        free(real);
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: more than %d files", path, MAX_FILES);
    }
    if (files->n == files->cap) {
        size_t cap = files->cap ? 2 * files->cap : 16;
        mlxr_model_file *v = mlxr_realloc_array(files->v, cap, sizeof *v);
        if (v) files->v = v;
        if (v) files->cap = cap;
    }
    f.path = real;
    f.title = mlxr_strdup(title);
    if (files->n == files->cap || !f.title) {
        free(f.title);
        free(real);
        return mlxr_fail_nomem(err, path);
    }
    files->v[files->n++] = f;
    return MLXR_OK;
}

uint64_t mlxr_model_files_bytes(const mlxr_model_files *files)
{
    uint64_t n = 0;
    for (size_t i = 0; i < files->n; i++) n += (uint64_t)files->v[i].seen.st_size;
    return n;
}

static bool is_weights(const char *title)
{
    return strcmp(mlxr_media_type(title), MLXR_MEDIA_WEIGHTS) == 0;
}

/* ---- which files of a folder ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);
    return n > n_end && strcmp(s + n - n_end, end) == 0;
}

static bool begins_with(const char *s, const char *begin)
{
    return strncasecmp(s, begin, strlen(begin)) == 0;
}

/* By its name, of a file that is no weights. */
static bool is_wanted(const char *name)
{
    static const char *const ends[] = {".json", ".jinja", ".txt", ".md", ".model", ".tiktoken"},
                             *const begins[] = {"license", "licence", "notice", "copying", "use_policy"};

    if (name[0] == '.' || ends_with(name, "~")) return false;
    if (ends_with(name, ".index.json")) return strcmp(name, "model.safetensors.index.json") == 0;
    for (size_t i = 0; i < MLXR_COUNT(ends); i++)
        if (ends_with(name, ends[i])) return true;
    for (size_t i = 0; i < MLXR_COUNT(begins); i++)
        if (begins_with(name, begins[i]) && !ends_with(name, ".bin")) return true;
    return false;
}

/* Without such a file the model is another one. */
static bool is_needed(const char *title)
{
    return strcmp(mlxr_media_type(title), MLXR_MEDIA_FILE) != 0 || ends_with(title, ".json");
}

/* A name that a manifest can hold; what exactly is allowed in one is the manifest's business. */
static bool is_plain(const char *name)
{
    size_t n = strlen(name);

    for (const char *s = name; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f || *s == '\\') return false;
    return n <= 255 && mlxr_utf8_valid(name, n) == n;
}

/* Adds dir/title when it is a file that can be taken; what is not needed may be passed over. */
static mlxr_status add_file(mlxr_model_files *files, const char *dir, const char *title, const mlxr_log *log,
                            mlxr_error *err)
{
    char *path = mlxr_path_join(dir, title);
    bool needed = is_needed(title);
    struct stat sb;
    mlxr_status st = MLXR_OK;

    if (!path) return mlxr_fail_nomem(err, dir);
    if (!is_plain(title)) {
        mlxr_log_at(log, MLXR_LOG_WARN, "%s: a file with this name is not taken into the store", path);
    } else if (stat(path, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        if (needed)
            st = mlxr_model_files_add(files, title, path, NULL, err); /* says what is wrong */
        else
            mlxr_log_at(log, MLXR_LOG_WARN, "%s: passed over, it is no file that can be read", path);
    } else if (!needed && sb.st_size > MAX_TEXT_BYTES) {
        mlxr_log_at(log, MLXR_LOG_WARN, "%s: passed over, %lld bytes are too many for a text", path,
                    (long long)sb.st_size);
    } else if (!is_weights(title) && sb.st_size > MAX_NEEDED_BYTES) {
        st = mlxr_fail(err, MLXR_E_LIMIT, "%s: %lld bytes, at most %d are taken of such a file", path,
                       (long long)sb.st_size, MAX_NEEDED_BYTES);
    } else {
        st = mlxr_model_files_add(files, title, path, NULL, err);
    }
    free(path);
    return st;
}

/* The wanted files of dir/sub (sub NULL: of dir). only: of this ending, or NULL. */
static mlxr_status add_folder(mlxr_model_files *files, const char *dir, const char *sub, const char *only,
                              const mlxr_log *log, mlxr_error *err)
{
    char *path = sub ? mlxr_path_join(dir, sub) : mlxr_strdup(dir);
    mlxr_status st = MLXR_OK;
    const struct dirent *e;
    DIR *d;

    if (!path) return mlxr_fail_nomem(err, dir);
    d = opendir(path);
    if (!d) {
        if (!sub || (errno != ENOENT && errno != ENOTDIR)) st = mlxr_io_fail(err, path, "open", errno);
        free(path);
        return st;
    }
    while (st == MLXR_OK && (e = readdir(d)) != NULL) {
        struct stat sb;
        char *title;
        if (!is_wanted(e->d_name) || (only && !ends_with(e->d_name, only))) continue;
        title = sub ? mlxr_path_join(sub, e->d_name) : mlxr_strdup(e->d_name);
        if (!title) st = mlxr_fail_nomem(err, dir);
        /* folders may be called anything ("notice board") */
        else if (fstatat(dirfd(d), e->d_name, &sb, 0) != 0 || !S_ISDIR(sb.st_mode))
            st = add_file(files, dir, title, log, err);
        free(title);
    }
    closedir(d);
    free(path);
    return st;
}

static mlxr_model_file *find_file(const mlxr_model_files *files, const char *title)
{
    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->v[i].title, title) == 0) return &files->v[i];
    return NULL;
}

/* Of the folders that modules.json of an embedding model names, their config.json. */
static mlxr_status add_modules(mlxr_model_files *files, const char *dir, const mlxr_log *log, mlxr_error *err)
{
    const mlxr_model_file *f = find_file(files, "modules.json");
    json_t *modules = NULL;
    size_t i;
    const json_t *m;
    mlxr_status st;

    if (!f) return MLXR_OK;
    if ((st = mlxr_json_read(&modules, f->path, MAX_TEXT_BYTES, err)) != MLXR_OK) return st;
    json_array_foreach(modules, i, m)
    {
        const char *path = json_string_value(json_object_get(m, "path"));
        char *title, *whole;
        if (!path || !*path || path[0] == '.' || strchr(path, '/') || !is_plain(path)) continue;
        title = mlxr_path_join(path, "config.json");
        whole = title ? mlxr_path_join(dir, title) : NULL;
        if (!whole)
            st = mlxr_fail_nomem(err, dir);
        else if (access(whole, F_OK) == 0 && !find_file(files, title))
            st = add_file(files, dir, title, log, err);
        free(title);
        free(whole);
        if (st != MLXR_OK) break;
    }
    json_decref(modules);
    return st;
}

/* The files that the checkpoint was read from. */
static mlxr_status add_weights(mlxr_model_files *files, const char *dir, const mlxr_checkpoint *c,
                               mlxr_error *err)
{
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) {
        const char *file = mlxr_checkpoint_get(c, i)->file;
        char *path;
        mlxr_status st;
        if (find_file(files, file)) continue; /* tensors come file by file, so this is the last one mostly */
        path = mlxr_path_join(dir, file);
        st = path ? mlxr_model_files_add(files, file, path, NULL, err) : mlxr_fail_nomem(err, dir);
        free(path);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

/* ---- whether it is a model ---- */

typedef struct first_bad {
    mlxr_status st;
    mlxr_error *err;
    const char *dir;
} first_bad;

static void keep_first(void *ud, const char *file, const char *tensor, const char *text)
{
    first_bad *b = ud;

    if (b->st != MLXR_OK) return;
    b->st = tensor ? mlxr_fail(b->err, MLXR_E_FORMAT, "%s/%s: \"%s\": %s", b->dir, file, tensor, text)
                   : mlxr_fail(b->err, MLXR_E_FORMAT, "%s/%s: %s", b->dir, file, text);
}

mlxr_status mlxr_model_files_check(const mlxr_model_files *files, const char *what, mlxr_error *err)
{
    mlxr_check_file *list = mlxr_calloc_array(files->n, sizeof *list);
    first_bad bad = {.st = MLXR_OK, .err = err, .dir = what};
    mlxr_status st;

    if (!list) return mlxr_fail_nomem(err, what);
    for (size_t i = 0; i < files->n; i++)
        list[i] = (mlxr_check_file){.title = files->v[i].title, .path = files->v[i].path};
    st = mlxr_check_files(list, files->n, keep_first, &bad, err);
    free(list);
    return st != MLXR_OK ? st : bad.st;
}

/* Two titles that some file systems hold for one. */
static mlxr_status check_titles(const mlxr_model_files *files, const char *dir, mlxr_error *err)
{
    for (size_t i = 0; i < files->n; i++)
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(files->v[i].title, files->v[k].title) == 0)
                return mlxr_fail(err, MLXR_E_FORMAT,
                                 "%s: \"%s\" and \"%s\" differ by the case of letters alone", dir,
                                 files->v[k].title, files->v[i].title);
    return MLXR_OK;
}

/* "no config.json" is said otherwise of a folder with a file that could be imported itself. */
static void mention_gguf(const char *dir, mlxr_error *err)
{
    DIR *d = opendir(dir);
    const struct dirent *e;

    while (d && (e = readdir(d)) != NULL)
        if (ends_with(e->d_name, ".gguf")) {
            mlxr_error_append(err, " (%s in it can be imported by its own path)", e->d_name);
            break;
        }
    if (d) closedir(d);
}

mlxr_status mlxr_model_files_of_folder(mlxr_model_files *files, mlxr_description *description,
                                       const char *dir, const mlxr_log *log, mlxr_error *err)
{
    mlxr_checkpoint *c = NULL;
    json_t *config = NULL;
    mlxr_status st;

    *description = (mlxr_description){0};
    if ((st = mlxr_model_config_read(&config, dir, err)) != MLXR_OK) {
        if (st == MLXR_E_FORMAT && err && strstr(err->message, "no config.json")) mention_gguf(dir, err);
        goto done;
    }
    if ((st = mlxr_checkpoint_open(&c, dir, err)) != MLXR_OK) {
        if (st == MLXR_E_NOT_FOUND && err) err->code = MLXR_E_FORMAT;
        if (st == MLXR_E_NOT_FOUND) st = MLXR_E_FORMAT; /* the folder is there, parts of it are not */
        goto done;
    }
    if ((st = mlxr_description_of(description, config, c, dir, err)) != MLXR_OK) goto done;
    if ((st = add_weights(files, dir, c, err)) != MLXR_OK) goto done;
    if ((st = add_folder(files, dir, NULL, NULL, log, err)) != MLXR_OK) goto done;
    if ((st = add_folder(files, dir, "additional_chat_templates", ".jinja", log, err)) != MLXR_OK) goto done;
    if ((st = add_modules(files, dir, log, err)) != MLXR_OK) goto done;
    if ((st = check_titles(files, dir, err)) != MLXR_OK) goto done;
    st = mlxr_model_files_check(files, dir, err);
done:
    if (st != MLXR_OK) mlxr_description_clear(description);
    mlxr_checkpoint_close(c);
    json_decref(config);
    return st;
}

/* ---- hashing ---- */

typedef struct hashing {
    mlxr_model_files *files;
    size_t *order; /* largest first, so that no thread is left with a long one at the end */
    mlxr_store_pace *pace;
    int stopped; /* atomic */
    mlxr_status st;
    mlxr_error err;
} hashing;

static mlxr_status hash_one(mlxr_model_file *f, mlxr_store_pace *pace, mlxr_error *err)
{
    uint64_t size = (uint64_t)f->seen.st_size;
    mlxr_status st;

    if (f->layer && f->layer->size != size)
        return mlxr_fail(err, MLXR_E_CORRUPT, "%s (%s): %llu bytes, the manifest says %llu", f->title,
                         f->path, (unsigned long long)size, (unsigned long long)f->layer->size);
    st = mlxr_hash_file(f->digest, &f->sums, f->path, size, pace, "hashing", f->title, err);
    if (st == MLXR_OK && f->layer && strcmp(f->digest, f->layer->digest) != 0)
        return mlxr_fail(err, MLXR_E_CORRUPT, "%s (%s): its digest is %s, the manifest says %s", f->title,
                         f->path, f->digest, f->layer->digest);
    return st;
}

static void hash_some(void *arg, size_t begin, size_t end, size_t i_thread)
{
    hashing *h = arg;

    for (size_t i = begin; i < end && !__atomic_load_n(&h->stopped, __ATOMIC_RELAXED); i++) {
        mlxr_error err = {0};
        mlxr_status st = hash_one(&h->files->v[h->order[i]], h->pace, &err);
        if (st != MLXR_OK && !__atomic_exchange_n(&h->stopped, 1, __ATOMIC_ACQ_REL)) {
            h->st = st;
            h->err = err;
        }
    }
}

mlxr_status mlxr_model_files_hash(mlxr_model_files *files, mlxr_store_pace *pace, mlxr_error *err)
{
    hashing h = {.files = files, .pace = pace, .st = MLXR_OK};
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n_threads = n_cpus > 0 ? (size_t)n_cpus : 1, n_large = 0;
    mlxr_pool *pool = NULL;
    mlxr_status st;

    h.order = mlxr_calloc_array(files->n, sizeof *h.order);
    if (!h.order) return mlxr_fail_nomem(err, "import");
    for (size_t i = 0; i < files->n; i++) {
        size_t at = i;
        for (; at > 0 && files->v[h.order[at - 1]].seen.st_size < files->v[i].seen.st_size; at--)
            h.order[at] = h.order[at - 1];
        h.order[at] = i;
        n_large += files->v[i].seen.st_size > MLXR_SUMS_CHUNK;
    }
    if (n_threads > n_large) n_threads = n_large;
    if (n_threads > MLXR_POOL_MAX_THREADS) n_threads = MLXR_POOL_MAX_THREADS;
    if (n_threads > 1) {
        if ((st = mlxr_pool_create(&pool, n_threads, err)) != MLXR_OK) goto done;
        mlxr_pool_for(pool, files->n, 1, hash_some, &h);
    } else {
        hash_some(&h, 0, files->n, 0);
    }
    st = h.st;
    if (st != MLXR_OK && err) *err = h.err;
done:
    mlxr_pool_free(pool);
    free(h.order);
    return st;
}

/* ---- storing ---- */

static mlxr_status changed(const mlxr_model_file *f, mlxr_error *err)
{
    return mlxr_fail(err, MLXR_E_BUSY, "%s: changed while it was read", f->path);
}

static bool is_as_seen(const mlxr_model_file *f)
{
    struct stat now;

    return stat(f->path, &now) == 0 && now.st_size == f->seen.st_size && now.st_ino == f->seen.st_ino &&
           now.st_mtim.tv_sec == f->seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == f->seen.st_mtim.tv_nsec;
}

/* A copy in the session's folder becomes the blob: cloned where that can be; else what was written is hashed once more, since
 * a file that somebody else writes to could be another one by now. */
static mlxr_status store_copy(mlxr_session *s, const mlxr_model_file *f, bool replace, mlxr_store_pace *pace,
                              mlxr_error *err)
{
    const mlxr_io *io = &mlxr_session_store(s)->io;
    uint64_t size = (uint64_t)f->seen.st_size;
    char digest[72], *temp = mlxr_session_temp(s);
    mlxr_status st;

    if (!temp) return mlxr_fail_nomem(err, f->path);
    st = mlxr_io_clone(io, f->path, temp, err);
    if (st == MLXR_OK && !is_as_seen(f)) st = changed(f, err);
    if (st == MLXR_E_UNSUPPORTED) {
        st = mlxr_copy_hashed(digest, NULL, io, f->path, temp, size, pace, "copying", f->title, err);
        if (st == MLXR_OK && strcmp(digest, f->digest) != 0) st = changed(f, err);
    }
    if (st == MLXR_OK) st = mlxr_session_commit(s, temp, f->digest, size, replace, err);
    free(temp);
    return st;
}

static mlxr_status store_one(mlxr_session *s, const mlxr_model_file *f, mlxr_files_how how,
                             mlxr_store_pace *pace, mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    uint64_t size = (uint64_t)f->seen.st_size;
    struct stat folder;
    mlxr_blob_state state;
    bool present = false, replace, near;
    mlxr_status st;

    if ((st = mlxr_session_want(s, f->digest, size, &present, err)) != MLXR_OK) return st;
    if ((st = mlxr_blob_state_of(&state, store, f->digest, size, err)) != MLXR_OK) return st;
    /* A link to somewhere else gives way to a file of our own, and stays when links are asked for. */
    replace = state == MLXR_BLOB_LINK && how != MLXR_FILES_LINK;
    near = stat(mlxr_session_dir(s), &folder) == 0 && folder.st_dev == f->seen.st_dev;
    if (present && !replace)
        st = MLXR_OK;
    else if (how == MLXR_FILES_MOVE)
        st = mlxr_session_commit(s, f->path, f->digest, size, replace, err);
    else if (how == MLXR_FILES_LINK && is_weights(f->title))
        st = mlxr_session_link(s, f->path, &f->seen, f->digest, err);
    else if (how == MLXR_FILES_SHARE && is_weights(f->title) && near && !replace)
        st = mlxr_session_take(s, f->path, &f->seen, f->digest, false, err);
    else
        st = store_copy(s, f, replace, pace, err);
    if (st == MLXR_OK) mlxr_sums_write(store, f->digest, size, &f->sums);
    return st;
}

mlxr_status mlxr_model_files_store(mlxr_session *s, mlxr_model_files *files, mlxr_files_how how,
                                   mlxr_store_pace *pace, mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    uint64_t n_new = 0;
    mlxr_status st = MLXR_OK;

    for (size_t i = 0; i < files->n; i++) {
        const mlxr_model_file *f = &files->v[i];
        bool present = false;
        st = mlxr_session_want(s, f->digest, (uint64_t)f->seen.st_size, &present, err);
        if (st != MLXR_OK) return st;
        if (!present && !(how == MLXR_FILES_LINK && is_weights(f->title))) n_new += (uint64_t)f->seen.st_size;
    }
    if ((st = mlxr_store_check_quota(store, n_new, err)) != MLXR_OK) return st;
    for (size_t i = 0; i < files->n && st == MLXR_OK; i++) {
        if (pace && mlxr_store_pace_cancelled(pace))
            st = mlxr_fail(err, MLXR_E_CANCELLED, "import: cancelled");
        else
            st = store_one(s, &files->v[i], how, pace, err);
    }
    return st;
}

/* ---- a folder ---- */

mlxr_status mlxr_model_files_manifest(mlxr_manifest *out, mlxr_session *s, const mlxr_model_files *files,
                                      const mlxr_description *d, const json_t *annotations, mlxr_error *err)
{
    mlxr_layer config = {0}, *layers = mlxr_calloc_array(files->n, sizeof *layers);
    mlxr_buf text = {0};
    mlxr_status st;

    if (!layers) return mlxr_fail_nomem(err, "manifest");
    for (size_t i = 0; i < files->n; i++) { /* borrowed: copied by the manifest */
        const mlxr_model_file *f = &files->v[i];
        layers[i].path = f->title;
        layers[i].media_type = (char *)(uintptr_t)mlxr_media_type(f->title);
        memcpy(layers[i].digest, f->digest, sizeof layers[i].digest);
        layers[i].size = (uint64_t)f->seen.st_size;
    }
    if ((st = mlxr_description_write(&text, d, err)) != MLXR_OK) goto done;
    if ((st = mlxr_session_put(s, &config, text.data, text.len, err)) != MLXR_OK) goto done;
    config.media_type = (char *)(uintptr_t)MLXR_MEDIA_CONFIG;
    st = mlxr_manifest_make(out, &config, layers, files->n, annotations, err);
done:
    mlxr_buf_clear(&text);
    free(layers);
    return st;
}

mlxr_status mlxr_bring_folder(mlxr_manifest *out, mlxr_session *s, const char *dir, mlxr_files_how how,
                              const char *source, const char *base, const json_t *annotations,
                              const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_description d = {0};
    mlxr_model_files files = {0};
    mlxr_store_pace pace = {0};
    bool paced = false;
    mlxr_status st;

    *out = (mlxr_manifest){0};
    if ((st = mlxr_model_files_of_folder(&files, &d, dir, &mlxr_session_store(s)->log, err)) != MLXR_OK)
        goto done;
    d.source = source ? mlxr_strdup(source) : NULL;
    d.base = base ? mlxr_strdup(base) : NULL;
    if ((source && !d.source) || (base && !d.base)) {
        st = mlxr_fail_nomem(err, dir);
        goto done;
    }
    if ((st = mlxr_store_pace_init(&pace, job, mlxr_model_files_bytes(&files), err)) != MLXR_OK) goto done;
    paced = true;
    if ((st = mlxr_model_files_hash(&files, &pace, err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_files_store(s, &files, how, &pace, err)) != MLXR_OK) goto done;
    st = mlxr_model_files_manifest(out, s, &files, &d, annotations, err);
done:
    if (paced) mlxr_store_pace_clear(&pace);
    mlxr_model_files_clear(&files);
    mlxr_description_clear(&d);
    return st;
}
