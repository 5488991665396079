/* verify: whether what lies in the store is what came into it, and how that is said: by model, file and tensor.
 *
 * A blob is looked at once, however many models have it: its size, and deep its bytes, by sums where there are any, so that a
 * place is known. Then each model by itself: what check.c says of its files. What is bad is fetched again from where the model came
 * from, when that is asked for; a file outside the store never is, for it is not ours.
 *
 * Models may go and be replaced meanwhile: a finding is only told of a name that still stands for the same manifest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/bring.h"
#include "store/keep.h"
#include "store/remote.h"

enum { MAX_NAMED = 8, FILE_NAME_BYTES = 1100 };

/* What stands for a file in findings about what is none of the model's files. */
#define MANIFEST_FILE "(manifest)"
#define CONFIG_FILE   "(config)"

typedef struct model {
    mlxr_name name;
    char *display;
    mlxr_manifest manifest;
    char *broken;      /* why the manifest cannot be read, or NULL */
    size_t n_findings; /* that are not repaired */
    bool gone;         /* the name stands for something else by now */
} model;

typedef struct blob {
    const mlxr_layer *layer; /* of the first model that has it */
    bool bad, checked;       /* checked: its bytes were read */
} blob;

typedef struct verifying {
    mlxr_store *store;
    const mlxr_store_verify_options *options;
    const mlxr_store_job *job;
    mlxr_store_verify_result result;
    model *models;
    size_t n_models;
    blob *blobs;
    size_t n_blobs;
    mlxr_strtab by_digest; /* index in blobs */
    mlxr_session *session; /* for repairs; begun when the first is made */
    mlxr_store_pace pace;
    size_t n_threads;
} verifying;

/* ---- which models, which blobs ---- */

static mlxr_status add_model(verifying *v, const mlxr_name *name, mlxr_error *err)
{
    model *m = &v->models[v->n_models];
    mlxr_buf display = {0};
    mlxr_error why;
    mlxr_status st;

    for (size_t i = 0; i < v->n_models; i++)
        if (mlxr_name_same(&v->models[i].name, name)) return MLXR_OK;
    *m = (model){.name = *name};
    st = mlxr_manifest_load(&m->manifest, v->store, name, &why);
    if (st == MLXR_E_NOT_FOUND) return MLXR_OK; /* it went meanwhile */
    if (st == MLXR_E_NOMEM) return mlxr_fail(err, st, "%s", why.message);
    mlxr_name_display(&display, name);
    m->display = mlxr_buf_take(&display, NULL);
    if (st != MLXR_OK) m->broken = mlxr_strdup(why.message);
    v->n_models++;
    return m->display && (st == MLXR_OK || m->broken) ? MLXR_OK : mlxr_fail_nomem(err, "verify");
}

static mlxr_status read_models(verifying *v, const char *const *names, size_t n_names, mlxr_error *err)
{
    mlxr_name *all = NULL, one;
    size_t n = n_names;
    mlxr_status st = MLXR_OK;

    if (!names && (st = mlxr_names_read(&all, &n, v->store, err)) != MLXR_OK) return st;
    v->models = mlxr_calloc_array(n, sizeof *v->models);
    if (!v->models) st = mlxr_fail_nomem(err, "verify");
    for (size_t i = 0; i < n && st == MLXR_OK; i++) {
        if (names) st = mlxr_store_resolve(&one, v->store, names[i], err);
        if (st == MLXR_OK) st = add_model(v, names ? &one : &all[i], err);
    }
    free(all);
    return st;
}

static int by_display(const void *a, const void *b)
{
    return strcmp(((const model *)a)->display, ((const model *)b)->display);
}

static const mlxr_layer *layer_at(const mlxr_manifest *m, size_t i)
{
    return i < m->n_layers ? &m->layers[i] : &m->config;
}

static mlxr_status collect_blobs(verifying *v, mlxr_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < v->n_models; i++) n += v->models[i].manifest.n_layers + 1;
    v->blobs = mlxr_calloc_array(n, sizeof *v->blobs);
    if (!v->blobs) return mlxr_fail_nomem(err, "verify");
    for (size_t i = 0; i < v->n_models; i++) {
        const mlxr_manifest *m = &v->models[i].manifest;
        for (size_t k = 0; k <= m->n_layers && !v->models[i].broken; k++) {
            const mlxr_layer *l = layer_at(m, k);
            if (mlxr_strtab_get(&v->by_digest, l->digest, 71) != SIZE_MAX) continue;
            if (!mlxr_strtab_put(&v->by_digest, l->digest, 71, v->n_blobs, NULL))
                return mlxr_fail_nomem(err, "verify");
            v->blobs[v->n_blobs++].layer = l;
        }
    }
    return MLXR_OK;
}

static blob *blob_of(const verifying *v, const mlxr_layer *l)
{
    return &v->blobs[mlxr_strtab_get(&v->by_digest, l->digest, 71)];
}

static const char *file_of(const mlxr_layer *l)
{
    return l->path ? l->path : CONFIG_FILE;
}

/* ---- findings ---- */

/* Whether the name still stands for what was looked at. */
static bool still_there(verifying *v, model *m)
{
    mlxr_manifest now = {0};
    mlxr_status st;

    if (m->gone) return false;
    st = mlxr_manifest_load(&now, v->store, &m->name, NULL);
    if (st == MLXR_E_NOMEM) return true; /* better told once too often */
    m->gone = m->broken ? st == MLXR_OK || st == MLXR_E_NOT_FOUND
                        : st != MLXR_OK || strcmp(now.digest, m->manifest.digest) != 0;
    mlxr_manifest_clear(&now);
    return !m->gone;
}

static void tell(verifying *v, model *m, const char *file, const char *tensor, const char *text,
                 bool repaired)
{
    if (!still_there(v, m)) return;
    v->result.n_bad++;
    if (repaired)
        v->result.n_repaired++;
    else
        m->n_findings++;
    if (v->options->on_finding)
        v->options->on_finding(m->display, file, tensor, text, repaired, v->options->ud);
}

/* Of every file that is this blob. */
static void tell_blob(verifying *v, const blob *b, const char *tensor, const char *text, bool repaired)
{
    for (size_t i = 0; i < v->n_models; i++) {
        model *m = &v->models[i];
        for (size_t k = 0; k <= m->manifest.n_layers && !m->broken; k++) {
            const mlxr_layer *l = layer_at(&m->manifest, k);
            if (strcmp(l->digest, b->layer->digest) == 0) tell(v, m, file_of(l), tensor, text, repaired);
        }
    }
}

/* ---- where in a file ---- */

/* The names of the tensors that lie in bad (pairs of begin and end), joined; "" for none. *header: some of it lies in the header. */
static mlxr_status name_tensors(mlxr_buf *names, bool *header, const mlxr_checkpoint *c, uint64_t n_header,
                                const mlxr_buf *bad, mlxr_error *err)
{
    const mlxr_tensor *first = mlxr_checkpoint_get(c, 0);
    size_t n = 0;

    *header = false;
    for (size_t p = 0; p < bad->len; p += 16) {
        uint64_t range[2];
        memcpy(range, bad->data + p, sizeof range);
        *header |= range[0] < n_header;
    }
    for (size_t i = 0; i < mlxr_checkpoint_count(c); i++) {
        const mlxr_tensor *t = mlxr_checkpoint_get(c, i);
        uint64_t begin = n_header + (uint64_t)((const uint8_t *)t->data - (const uint8_t *)first->data),
                 end = begin + t->n_bytes;
        bool touched = false;
        for (size_t p = 0; p < bad->len && !touched; p += 16) {
            uint64_t range[2];
            memcpy(range, bad->data + p, sizeof range);
            touched = begin < range[1] && range[0] < end;
        }
        if (!touched) continue;
        if (n < MAX_NAMED) mlxr_buf_printf(names, "%s%s", n ? ", " : "", t->name);
        n++;
    }
    if (n > MAX_NAMED) mlxr_buf_printf(names, " and %zu more", n - MAX_NAMED);
    return mlxr_buf_check(names, "verify", err);
}

/* What is wrong in a blob whose bytes are not those of its digest; tensors: their names, joined. */
static mlxr_status describe_damage(mlxr_buf *text, mlxr_buf *tensors, const blob *b, const char *path,
                                   const mlxr_buf *bad, mlxr_error *err)
{
    uint64_t n_bad = 0, range[2] = {0, 0}, n_header = 0;
    size_t n_ranges = bad->len / 16, n_path = b->layer->path ? strlen(b->layer->path) : 0;
    bool whole, header = false,
                is_weights = n_path > 12 && !strcmp(b->layer->path + n_path - 12, ".safetensors");
    mlxr_checkpoint *c = NULL;
    mlxr_status st = MLXR_OK;
    FILE *f;

    for (size_t p = 0; p < bad->len; p += 16) {
        memcpy(range, bad->data + p, sizeof range);
        n_bad += range[1] - range[0];
    }
    memcpy(range, bad->data, sizeof range);
    whole = n_bad == b->layer->size;
    mlxr_buf_str(text, "is damaged: ");
    if (whole)
        mlxr_buf_str(text, "its bytes are not those of its digest");
    else if (n_ranges == 1)
        mlxr_buf_printf(text, "bytes %llu to %llu are wrong", (unsigned long long)range[0],
                        (unsigned long long)range[1]);
    else
        mlxr_buf_printf(text, "%llu bytes in %zu places are wrong, the first at %llu",
                        (unsigned long long)n_bad, n_ranges, (unsigned long long)range[0]);
    if (!is_weights) goto done;
    f = fopen(path, "rbe");
    if (!f || fread(&n_header, 8, 1, f) != 1) n_header = 0;
    if (f) fclose(f);
    st = mlxr_checkpoint_open_file(&c, path, err);
    if (st == MLXR_E_NOMEM) goto done;
    if (st != MLXR_OK) {
        mlxr_buf_str(text, "; they hold its header, which cannot be read");
        st = MLXR_OK;
        goto done;
    }
    if (whole && b->layer->size > (64 << 10)) { /* no sums: everything would be named */
        mlxr_buf_str(text, "; which tensors they are of is not known");
        goto done;
    }
    if ((st = name_tensors(tensors, &header, c, n_header + 8, bad, err)) != MLXR_OK) goto done;
    if (header)
        mlxr_buf_printf(text, "; %sits header",
                        tensors->len ? "they are of these tensors or of " : "they are of ");
done:
    mlxr_checkpoint_close(c);
    if (st == MLXR_OK) st = mlxr_buf_check(text, "verify", err);
    return st;
}

/* ---- repair ---- */

/* Fetches the blob from where some model that has it came from. *done false: text says why not. */
static mlxr_status repair(bool *done, verifying *v, blob *b, mlxr_buf *text, mlxr_error *err)
{
    mlxr_remote_options defaults = mlxr_remote_options_default();
    const mlxr_remote_options *remote = v->options->remote ? v->options->remote : &defaults;
    mlxr_error why = {0};
    mlxr_status st = MLXR_OK;

    *done = false;
    if (!v->session && (st = mlxr_session_begin(&v->session, v->store, &why)) != MLXR_OK) {
        mlxr_buf_printf(text, "; not repaired: %s", why.message);
        return st == MLXR_E_NOMEM ? mlxr_fail(err, st, "%s", why.message) : MLXR_OK;
    }
    for (size_t i = 0; i < v->n_models && !*done; i++) {
        const mlxr_manifest *m = &v->models[i].manifest;
        for (size_t k = 0; k <= m->n_layers && !*done && !v->models[i].broken; k++) {
            uint64_t moved = 0;
            if (strcmp(layer_at(m, k)->digest, b->layer->digest) != 0) continue;
            st = mlxr_remote_fetch_layer(v->session, m, layer_at(m, k), remote, &v->pace, &moved, &why);
            v->result.fetched_bytes += moved;
            if (st == MLXR_E_CANCELLED || st == MLXR_E_NOMEM) return mlxr_fail(err, st, "%s", why.message);
            *done = st == MLXR_OK;
            break;
        }
    }
    if (*done)
        b->bad = false;
    else
        mlxr_buf_printf(text, "; not repaired: %s", why.message);
    return MLXR_OK;
}

/* ---- blobs ---- */

/* A file outside the store with another time of change, or one that is not what was linked to. Its record is made anew when its
 * content is the same after all and repair is asked for; the file itself is left as it is. */
static mlxr_status check_link(verifying *v, blob *b, const char *path, bool changed, mlxr_error *err)
{
    char digest[72] = "", *target = realpath(path, NULL);
    mlxr_buf text = {0}, sums = {0};
    bool repaired = false, same = false;
    mlxr_error why = {0};
    struct stat sb;
    mlxr_status st = MLXR_OK;

    if (!target || stat(target, &sb) != 0 || !S_ISREG(sb.st_mode)) {
        mlxr_buf_printf(&text, "lies outside the store%s%s, and is gone", target ? ", at " : "",
                        target ? target : "");
        b->bad = true;
    } else {
        if ((uint64_t)sb.st_size == b->layer->size && (v->options->deep || v->options->repair)) {
            st = mlxr_hash_file(digest, &sums, target, b->layer->size, &v->pace, "verifying",
                                file_of(b->layer), &why);
            v->result.read_bytes += b->layer->size;
            if (st == MLXR_E_CANCELLED || st == MLXR_E_NOMEM) goto done;
            same = st == MLXR_OK && strcmp(digest, b->layer->digest) == 0;
            st = MLXR_OK;
        }
        b->checked = true;
        if (same && !changed) goto done;
        b->bad = !same;
        if (same) {
            mlxr_buf_printf(&text,
                            "lies outside the store, at %s, and was touched since; its content is the same",
                            target);
            if (v->options->repair) {
                if (!v->session) st = mlxr_session_begin(&v->session, v->store, &why);
                if (st == MLXR_OK) st = mlxr_session_link(v->session, target, &sb, b->layer->digest, &why);
                if (st == MLXR_E_NOMEM) goto done;
                repaired = st == MLXR_OK;
                if (!repaired) mlxr_buf_printf(&text, "; not repaired: %s", why.message);
            }
        } else if ((uint64_t)sb.st_size != b->layer->size) {
            mlxr_buf_printf(
                &text, "lies outside the store, at %s, and has changed since: %lld bytes, %llu are wanted",
                target, (long long)sb.st_size, (unsigned long long)b->layer->size);
        } else {
            mlxr_buf_printf(&text, "lies outside the store, at %s, and %s", target,
                            digest[0] ? "its content is another by now" : "was changed since");
        }
    }
    if (!repaired && !same) mlxr_buf_str(&text, "; import the model again");
    if ((st = mlxr_buf_check(&text, "verify", &why)) == MLXR_OK) tell_blob(v, b, NULL, text.data, repaired);
done:
    if (st != MLXR_OK) st = mlxr_fail(err, st, "%s", why.message);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&sums);
    free(target);
    return st;
}

/* Reads the blob's bytes. bad: the parts that are wrong. */
static mlxr_status read_blob(mlxr_buf *bad, verifying *v, blob *b, const char *path, mlxr_buf *text,
                             mlxr_error *err)
{
    mlxr_error why;
    mlxr_status st = mlxr_sums_check(bad, v->store, b->layer->digest, b->layer->size, path, v->n_threads,
                                     &v->pace, file_of(b->layer), &why);

    b->checked = true;
    if (st == MLXR_OK) v->result.read_bytes += b->layer->size;
    if (st == MLXR_E_NOMEM || st == MLXR_E_CANCELLED) return mlxr_fail(err, st, "%s", why.message);
    if (st != MLXR_OK) { /* it could not be opened */
        b->bad = true;
        mlxr_buf_str(text, why.message);
    } else if (bad->len) {
        b->bad = true;
    }
    return MLXR_OK;
}

/* deep: read its bytes. */
static mlxr_status check_blob(verifying *v, blob *b, bool deep, mlxr_error *err)
{
    char *path = mlxr_store_blob_path(v->store, b->layer->digest);
    mlxr_buf text = {0}, tensors = {0}, bad = {0};
    mlxr_blob_state state;
    struct stat sb;
    bool repaired = false;
    mlxr_status st;

    if (!path) return mlxr_fail_nomem(err, "verify");
    if ((st = mlxr_blob_state_of(&state, v->store, b->layer->digest, b->layer->size, err)) != MLXR_OK)
        goto done;
    if (state == MLXR_BLOB_LINK_CHANGED || (state == MLXR_BLOB_LINK && deep)) {
        st = check_link(v, b, path, state == MLXR_BLOB_LINK_CHANGED, err);
        goto done;
    }
    if (state == MLXR_BLOB_ABSENT) {
        mlxr_buf_str(&text, "is missing");
        b->bad = true;
    } else if (state == MLXR_BLOB_WRONG_SIZE) {
        if (lstat(path, &sb) == 0 && S_ISREG(sb.st_mode))
            mlxr_buf_printf(&text, "has %lld bytes, %llu are wanted", (long long)sb.st_size,
                            (unsigned long long)b->layer->size);
        else
            mlxr_buf_str(&text, "is no file in the store");
        b->bad = true;
    } else if (deep && state == MLXR_BLOB_WHOLE) {
        if ((st = read_blob(&bad, v, b, path, &text, err)) != MLXR_OK) goto done;
        if (bad.len && (st = describe_damage(&text, &tensors, b, path, &bad, err)) != MLXR_OK) goto done;
    }
    if (!b->bad) goto done;
    if (v->options->repair && (st = repair(&repaired, v, b, &text, err)) != MLXR_OK) goto done;
    if ((st = mlxr_buf_check(&text, "verify", err)) != MLXR_OK) goto done;
    tell_blob(v, b, tensors.len ? tensors.data : NULL, text.data, repaired);
done:
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&tensors);
    mlxr_buf_clear(&bad);
    free(path);
    return st;
}

/* ---- models ---- */

typedef struct content {
    verifying *v;
    model *m;
    bool only_mark; /* the files are marked, and told of later */
    bool *marked;   /* [n_layers] */
} content;

static void on_content(void *ud, const char *file, const char *tensor, const char *text)
{
    content *c = ud;

    for (size_t k = 0; c->only_mark && k < c->m->manifest.n_layers; k++)
        c->marked[k] |= strcmp(c->m->manifest.layers[k].path, file) == 0;
    if (!c->only_mark) tell(c->v, c->m, file, tensor, text, false);
}

static mlxr_status check_content(verifying *v, model *m, content *c, mlxr_error *err)
{
    size_t n = m->manifest.n_layers;
    mlxr_check_file *files = mlxr_calloc_array(n, sizeof *files);
    mlxr_status st = files ? MLXR_OK : mlxr_fail_nomem(err, "verify");

    for (size_t k = 0; k < n && st == MLXR_OK; k++) {
        const mlxr_layer *l = &m->manifest.layers[k];
        files[k].title = l->path;
        if (blob_of(v, l)->bad) continue;
        files[k].path = mlxr_store_blob_path(v->store, l->digest);
        if (!files[k].path) st = mlxr_fail_nomem(err, "verify");
    }
    if (st == MLXR_OK) st = mlxr_check_files(files, n, on_content, c, err);
    for (size_t k = 0; files && k < n; k++) free((char *)(uintptr_t)files[k].path);
    free(files);
    return st;
}

static mlxr_status check_config(verifying *v, model *m, mlxr_error *err)
{
    char *path;
    mlxr_description d = {0};
    mlxr_buf text = {0};
    mlxr_error why;
    mlxr_status st;

    if (blob_of(v, &m->manifest.config)->bad) return MLXR_OK;
    path = mlxr_store_blob_path(v->store, m->manifest.config.digest);
    if (!path) return mlxr_fail_nomem(err, "verify");
    st = mlxr_file_read(&text, path, MLXR_CONFIG_MAX_BYTES, &why);
    if (st == MLXR_OK)
        st = mlxr_description_parse(&d, text.data ? text.data : "", text.len, "the model's config", &why);
    if (st == MLXR_E_NOMEM)
        st = mlxr_fail(err, st, "%s", why.message);
    else if (st != MLXR_OK)
        st = (tell(v, m, CONFIG_FILE, NULL, why.message, false), MLXR_OK);
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    free(path);
    return st;
}

/* A view that somebody changed is made anew; one that is not there is made when the model is used. */
static void renew_view(verifying *v, const model *m)
{
    char *view = mlxr_store_path(v->store, "views/%s", m->manifest.digest + 7), *made = NULL;

    if (view && mlxr_path_is_dir(view))
        (void)mlxr_store_model_path(&made, v->store, m->manifest.digest, NULL);
    free(made);
    free(view);
}

static mlxr_status check_model(verifying *v, model *m, mlxr_error *err)
{
    content c = {.v = v, .m = m};
    mlxr_error why;
    mlxr_status st;

    if (m->broken) {
        tell(v, m, MANIFEST_FILE, NULL, m->broken, false);
        return MLXR_OK;
    }
    st = mlxr_manifest_recall(v->store, &m->name, m->manifest.digest, &why);
    if (st == MLXR_E_NOMEM) return mlxr_fail(err, st, "%s", why.message);
    if (st != MLXR_OK) tell(v, m, MANIFEST_FILE, NULL, why.message, false);
    if (v->options->repair &&
        !v->options->deep) { /* what looks bad is read, and fetched when it is not as it came */
        c.only_mark = true;
        c.marked = mlxr_calloc_array(m->manifest.n_layers, sizeof *c.marked);
        if (!c.marked) return mlxr_fail_nomem(err, "verify");
        st = check_content(v, m, &c, err);
        for (size_t k = 0; k < m->manifest.n_layers && st == MLXR_OK; k++) {
            blob *b = blob_of(v, &m->manifest.layers[k]);
            if (c.marked[k] && !b->checked) st = check_blob(v, b, true, err);
        }
        c.only_mark = false;
        free(c.marked);
        if (st != MLXR_OK) return st;
    }
    if ((st = check_content(v, m, &c, err)) != MLXR_OK) return st;
    if ((st = check_config(v, m, err)) != MLXR_OK) return st;
    if (m->n_findings == 0) renew_view(v, m);
    return MLXR_OK;
}

mlxr_status mlxr_store_verify(mlxr_store_verify_result *out, mlxr_store *store, const char *const *names,
                              size_t n_names, const mlxr_store_verify_options *options,
                              const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_store_verify_options defaults = mlxr_store_verify_options_default();
    verifying v = {.store = store, .options = options ? options : &defaults, .job = job};
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t total = 0;
    bool paced = false;
    mlxr_status st;

    if (out) *out = v.result;
    v.n_threads = n_cpus > 0 ? (size_t)n_cpus : 1;
    if ((st = read_models(&v, names, n_names, err)) != MLXR_OK) goto done;
    if (v.n_models) qsort(v.models, v.n_models, sizeof *v.models, by_display);
    if ((st = collect_blobs(&v, err)) != MLXR_OK) goto done;
    for (size_t i = 0; i < v.n_blobs && v.options->deep; i++) total += v.blobs[i].layer->size;
    if ((st = mlxr_store_pace_init(&v.pace, job, total, err)) != MLXR_OK) goto done;
    paced = true;
    v.result.n_models = v.n_models;
    v.result.n_files = v.n_blobs;
    for (size_t i = 0; i < v.n_blobs; i++) {
        if (mlxr_store_pace_cancelled(&v.pace)) {
            st = mlxr_fail(err, MLXR_E_CANCELLED, "verify: cancelled");
            goto done;
        }
        if ((st = check_blob(&v, &v.blobs[i], v.options->deep, err)) != MLXR_OK) goto done;
    }
    for (size_t i = 0; i < v.n_models; i++) {
        if (mlxr_store_pace_cancelled(&v.pace)) {
            st = mlxr_fail(err, MLXR_E_CANCELLED, "verify: cancelled");
            goto done;
        }
        if ((st = check_model(&v, &v.models[i], err)) != MLXR_OK) goto done;
    }
done:
    if (out) *out = v.result; /* as far as it came */
    mlxr_session_end(v.session);
    if (paced) mlxr_store_pace_clear(&v.pace);
    for (size_t i = 0; i < v.n_models; i++) {
        free(v.models[i].display);
        free(v.models[i].broken);
        mlxr_manifest_clear(&v.models[i].manifest);
    }
    free(v.models);
    free(v.blobs);
    mlxr_strtab_clear(&v.by_digest);
    return st;
}
