/* shelf: see shelf.h. Two tables: facts by the digest of a manifest, which never change; and for each name what its manifest's file looked
 * like when it was read last, so that a list of hundreds of models costs a stat each. */
#include "serve/shelf.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "runner/prompt.h"
#include "serve/native.h"
#include "store/bring.h"
#include "store/keep.h"

enum { MAX_FACTS = 4096, MAX_JOBS = 256, MAX_KEPT = 256 }; /* each that is kept has a file open */

/* A manifest's file as it was seen. */
typedef struct seen {
    int64_t mtime_ns, size;
    uint64_t inode;
    char digest[72];
} seen;

typedef struct kept {
    struct kept *next;
    char digest[72];
    mlxr_session *session;
    int64_t until; /* seconds, monotonic */
} kept;

struct mlxr_shelf {
    mlxr_store *store;    /* NULL: none */
    pthread_mutex_t lock; /* guards what is below */
    mlxr_arena arena;     /* of the two tables */
    mlxr_strtab facts;    /* digest -> mlxr_model_facts * */
    mlxr_strtab seen;     /* path of a name -> seen * */
    kept *kept;
    volatile int *jobs[MAX_JOBS];
    size_t n_jobs;
    bool stopped;
};

mlxr_status mlxr_shelf_create(mlxr_shelf **out, mlxr_store *store, mlxr_error *err)
{
    mlxr_shelf *s = calloc(1, sizeof *s);

    *out = NULL;
    if (!s || pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return mlxr_fail_nomem(err, "store");
    }
    s->store = store;
    *out = s;
    return MLXR_OK;
}

static void clear_tables(mlxr_shelf *s)
{
    mlxr_strtab_clear(&s->facts);
    mlxr_strtab_clear(&s->seen);
    mlxr_arena_clear(&s->arena);
}

void mlxr_shelf_free(mlxr_shelf *s)
{
    if (!s) return;
    while (s->kept) {
        kept *k = s->kept;
        s->kept = k->next;
        mlxr_session_end(k->session);
        free(k);
    }
    clear_tables(s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- what a model is ---- */

const char *mlxr_capability_word(size_t i, unsigned *bit)
{
    static const char *const words[] = {"completion", "tools", "thinking", "insert", "embedding"};

    if (i >= MLXR_COUNT(words)) return NULL;
    *bit = 1u << i;
    return words[i];
}

/* "4-bit, groups of 64" to "int4", "bf16" to "BF16"; the modes of small floats stay. */
static void quant_word(char *out, size_t n, const char *text)
{
    char *end;
    unsigned long bits = strtoul(text, &end, 10);

    if (end != text && strncmp(end, "-bit", 4) == 0) {
        snprintf(out, n, "int%lu", bits);
        return;
    }
    snprintf(out, n, "%s", text);
    if (strcmp(text, "bf16") == 0 || strcmp(text, "f16") == 0 || strcmp(text, "f32") == 0)
        for (char *p = out; *p; p++)
            if (*p >= 'a' && *p <= 'z') *p = (char)(*p - 'a' + 'A');
}

static void size_word(char *out, size_t n, uint64_t count)
{
    double x = (double)count;

    if (count >= 1000000000)
        snprintf(out, n, "%.1fB", x / 1e9);
    else if (count >= 1000000)
        snprintf(out, n, "%.2fM", x / 1e6);
    else if (count >= 1000)
        snprintf(out, n, "%.0fK", x / 1e3);
    else
        snprintf(out, n, "%llu", (unsigned long long)count);
}

static mlxr_status template_capabilities(unsigned *out, const char *dir, mlxr_error *err)
{
    mlxr_chat_template *chat = NULL;
    mlxr_prompt_builder *p = NULL;
    bool tools = false;
    mlxr_status st = mlxr_chat_template_open(&chat, dir, err);

    mlxr_chat_template_close(chat);
    if (st != MLXR_OK) return st == MLXR_E_NOMEM ? st : MLXR_OK; /* none, or one that cannot be used */
    /* It has a template, so no tokenizer is needed to choose one. */
    if ((st = mlxr_prompt_builder_open(&p, dir, NULL, err)) != MLXR_OK)
        return st == MLXR_E_NOMEM ? st : MLXR_OK;
    st = mlxr_prompt_knows_tools(&tools, p, err);
    if (tools) *out |= MLXR_HAS_TOOLS;
    if (mlxr_prompt_thinks(p, mlxr_prompt_answer_format(p))) *out |= MLXR_HAS_THINKING;
    mlxr_prompt_builder_close(p);
    return st;
}

struct text {
    const char *data;
    size_t n;
};

static bool has_token(void *ud, const char *token)
{
    const struct text *t = ud;
    mlxr_buf quoted = {0};
    bool found;

    mlxr_put_string(&quoted, token);
    found = !quoted.failed && memmem(t->data, t->n, quoted.data, quoted.len) != NULL;
    mlxr_buf_clear(&quoted);
    return found;
}

/* Added tokens stand at the beginning of tokenizer.json: a look there, since opening hundreds of tokenizers for a list takes too long. */
static void fim_capability(unsigned *out, const char *dir)
{
    enum { HEAD_BYTES = 1 << 20 };
    char *path = mlxr_path_join(dir, "tokenizer.json");
    mlxr_map map = {0};
    struct text t;

    if (path && mlxr_map_open(&map, path, NULL) == MLXR_OK) {
        t = (struct text){(const char *)map.data, map.n_bytes < HEAD_BYTES ? map.n_bytes : HEAD_BYTES};
        if (mlxr_native_knows_fim(has_token, &t)) *out |= MLXR_HAS_INSERT;
    }
    mlxr_map_close(&map);
    free(path);
}

static mlxr_status read_config(mlxr_model_facts *f, const char *dir, mlxr_error *err)
{
    static const char *const keys[] = {"hidden_size", "n_embd", "d_model", "dim"};
    json_t *config = NULL;
    const json_t *places[2];
    mlxr_status st = mlxr_model_config_read(&config, dir, err);

    if (st != MLXR_OK) return st;
    places[0] = config;
    places[1] = json_object_get(config, "text_config");
    for (size_t p = 0; p < 2 && !f->embedding_length; p++)
        for (size_t k = 0; k < MLXR_COUNT(keys) && !f->embedding_length; k++) {
            const json_t *v = json_object_get(places[p], keys[k]);
            if (json_is_integer(v) && json_integer_value(v) > 0)
                f->embedding_length = (uint64_t)json_integer_value(v);
        }
    json_decref(config);
    return MLXR_OK;
}

/* The model's folder of links; made where it is not there. *out: free it. */
static mlxr_status folder_of(char **out, mlxr_shelf *s, const mlxr_manifest *m, mlxr_error *err)
{
    char *dir = mlxr_store_path(s->store, "views/%s", m->digest + 7);

    *out = NULL;
    if (!dir) return mlxr_fail_nomem(err, "store");
    if (mlxr_path_is_dir(dir)) {
        *out = dir;
        return MLXR_OK;
    }
    free(dir);
    return mlxr_store_model_path(out, s->store, m->digest, err);
}

static mlxr_status read_facts(mlxr_model_facts *f, mlxr_shelf *s, const mlxr_manifest *m, mlxr_error *err)
{
    char *path = mlxr_store_blob_path(s->store, m->config.digest), *dir = NULL;
    mlxr_description d = {0};
    mlxr_buf text = {0};
    mlxr_status st;

    *f = (mlxr_model_facts){.n_bytes = m->n_bytes};
    memcpy(f->digest, m->digest, sizeof f->digest);
    if (!path) return mlxr_fail_nomem(err, "store");
    if ((st = mlxr_file_read(&text, path, MLXR_CONFIG_MAX_BYTES, err)) != MLXR_OK) goto done;
    if ((st = mlxr_description_parse(&d, text.data, text.len, path, err)) != MLXR_OK) goto done;
    snprintf(f->family, sizeof f->family, "%s", d.family ? d.family : "");
    quant_word(f->quant, sizeof f->quant, d.quantization ? d.quantization : "");
    size_word(f->size, sizeof f->size, d.n_parameters);
    f->n_parameters = d.n_parameters;
    f->context_length = d.context_length;
    if ((st = folder_of(&dir, s, m, err)) != MLXR_OK) goto done;
    if ((st = read_config(f, dir, err)) != MLXR_OK) goto done;
    if (mlxr_manifest_find(m, "modules.json"))
        f->capabilities = MLXR_HAS_EMBEDDING; /* sentence-transformers': what it makes are vectors */
    else {
        f->capabilities = MLXR_HAS_COMPLETION;
        fim_capability(&f->capabilities, dir);
        st = template_capabilities(&f->capabilities, dir, err);
    }
done:
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    mlxr_free(dir);
    free(path);
    return st;
}

/* ---- keeping it in mind: failing to is no harm ---- */

bool mlxr_shelf_recall(mlxr_model_facts *out, mlxr_shelf *s, const char *digest)
{
    size_t at;

    if (!s) return false;
    pthread_mutex_lock(&s->lock);
    at = mlxr_strtab_get(&s->facts, digest, strlen(digest));
    if (at != SIZE_MAX) *out = *(const mlxr_model_facts *)(uintptr_t)at;
    pthread_mutex_unlock(&s->lock);
    return at != SIZE_MAX;
}

static void remember_facts(mlxr_shelf *s, const mlxr_model_facts *f)
{
    mlxr_model_facts *own;

    pthread_mutex_lock(&s->lock);
    if (s->facts.n >= MAX_FACTS) clear_tables(s);
    if (mlxr_strtab_get(&s->facts, f->digest, strlen(f->digest)) == SIZE_MAX &&
        (own = mlxr_arena_alloc(&s->arena, sizeof *own)) != NULL) {
        *own = *f;
        (void)mlxr_strtab_put(&s->facts, own->digest, strlen(own->digest), (size_t)(uintptr_t)own, NULL);
    }
    pthread_mutex_unlock(&s->lock);
}

static mlxr_status facts_of(mlxr_model_facts *out, mlxr_shelf *s, const mlxr_manifest *m, mlxr_error *err)
{
    mlxr_status st;

    if (mlxr_shelf_recall(out, s, m->digest)) return MLXR_OK;
    if ((st = read_facts(out, s, m, err)) == MLXR_OK) remember_facts(s, out);
    return st;
}

static int64_t mtime_ns(const struct stat *sb)
{
#ifdef __APPLE__
    return (int64_t)sb->st_mtimespec.tv_sec * 1000000000 + sb->st_mtimespec.tv_nsec;
#else
    return (int64_t)sb->st_mtim.tv_sec * 1000000000 + sb->st_mtim.tv_nsec;
#endif
}

/* Whether the file at path is what was read last; its facts then. */
static bool recall_seen(mlxr_model_facts *out, mlxr_shelf *s, const char *path, const struct stat *sb)
{
    const seen *k;
    size_t at;
    bool same = false;

    pthread_mutex_lock(&s->lock);
    at = mlxr_strtab_get(&s->seen, path, strlen(path));
    if (at != SIZE_MAX) {
        k = (const seen *)(uintptr_t)at;
        same = k->mtime_ns == mtime_ns(sb) && k->size == (int64_t)sb->st_size && k->inode == sb->st_ino;
        at = same ? mlxr_strtab_get(&s->facts, k->digest, strlen(k->digest)) : SIZE_MAX;
        same = at != SIZE_MAX;
        if (same) *out = *(const mlxr_model_facts *)(uintptr_t)at;
    }
    pthread_mutex_unlock(&s->lock);
    return same;
}

static void remember_seen(mlxr_shelf *s, const char *path, const struct stat *sb, const char *digest)
{
    size_t n = strlen(path), at;
    seen *k = NULL;
    char *key;

    pthread_mutex_lock(&s->lock);
    if (s->seen.n >= MAX_FACTS) clear_tables(s);
    if ((at = mlxr_strtab_get(&s->seen, path, n)) != SIZE_MAX) {
        k = (seen *)(uintptr_t)at;
    } else if ((key = mlxr_arena_strndup(&s->arena, path, n)) != NULL &&
               (k = mlxr_arena_alloc(&s->arena, sizeof *k)) != NULL) {
        if (!mlxr_strtab_put(&s->seen, key, n, (size_t)(uintptr_t)k, NULL)) k = NULL;
    }
    if (k) {
        *k = (seen){mtime_ns(sb), (int64_t)sb->st_size, (uint64_t)sb->st_ino, ""};
        snprintf(k->digest, sizeof k->digest, "%s", digest);
    }
    pthread_mutex_unlock(&s->lock);
}

/* m: NULL, or gets the manifest. */
static mlxr_status look(mlxr_shelf_model *out, mlxr_manifest *m, mlxr_shelf *s, const mlxr_name *name,
                        mlxr_error *err)
{
    char *path = mlxr_manifest_path(s->store, name);
    mlxr_manifest own = {0};
    struct stat sb;
    mlxr_status st = MLXR_OK;

    *out = (mlxr_shelf_model){.name = *name};
    if (!path) return mlxr_fail_nomem(err, "store");
    /* Before it is read: what is replaced in between is read again next time. */
    if (stat(path, &sb) != 0) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "store: no model \"%s\"", name->name);
        goto done;
    }
    out->modified_ns = mtime_ns(&sb);
    if (!m && recall_seen(&out->facts, s, path, &sb)) goto done;
    if ((st = mlxr_manifest_load(&own, s->store, name, err)) != MLXR_OK) goto done;
    if ((st = facts_of(&out->facts, s, &own, err)) != MLXR_OK) goto done;
    remember_seen(s, path, &sb, own.digest);
    if (m) {
        *m = own;
        own = (mlxr_manifest){0};
    }
done:
    mlxr_manifest_clear(&own);
    free(path);
    return st;
}

static int newest_first(const void *a, const void *b)
{
    const mlxr_shelf_model *x = a, *y = b;

    if (x->modified_ns != y->modified_ns) return x->modified_ns < y->modified_ns ? 1 : -1;
    return strcmp(x->name.name, y->name.name) ? strcmp(x->name.name, y->name.name)
                                              : memcmp(&x->name, &y->name, sizeof x->name);
}

mlxr_status mlxr_shelf_list(mlxr_shelf_model **out, size_t *out_n, mlxr_shelf *s, mlxr_error *err)
{
    mlxr_shelf_model *models = NULL;
    mlxr_name *names = NULL;
    size_t n_names = 0, n = 0;
    mlxr_status st = MLXR_OK;

    *out = NULL;
    *out_n = 0;
    if (s->store && (st = mlxr_names_read(&names, &n_names, s->store, err)) != MLXR_OK) return st;
    if (!(models = mlxr_malloc_array(n_names, sizeof *models))) st = mlxr_fail_nomem(err, "store");
    for (size_t i = 0; i < n_names && st == MLXR_OK; i++) {
        mlxr_error why = {0};
        mlxr_status one = look(&models[n], NULL, s, &names[i], &why);
        if (one == MLXR_OK)
            n++;
        else if (one == MLXR_E_NOMEM)
            st = mlxr_fail_nomem(err, "store");
        else
            mlxr_log_at(&s->store->log, MLXR_LOG_DEBUG, "%s", why.message);
    }
    free(names);
    if (st != MLXR_OK) {
        free(models);
        return st;
    }
    if (n > 1) qsort(models, n, sizeof *models, newest_first);
    *out = models;
    *out_n = n;
    return MLXR_OK;
}

mlxr_status mlxr_shelf_find(mlxr_shelf_model *out, mlxr_manifest *m, mlxr_shelf *s, const char *name,
                            mlxr_error *err)
{
    mlxr_name spelled;
    mlxr_status st;

    if (m) *m = (mlxr_manifest){0};
    if (!s->store) return mlxr_fail(err, MLXR_E_NOT_FOUND, "there is no store");
    for (int tries = 0;; tries++) { /* it may go, or be replaced, in between */
        if ((st = mlxr_store_resolve(&spelled, s->store, name, err)) != MLXR_OK) return st;
        if ((st = look(out, m, s, &spelled, err)) != MLXR_E_NOT_FOUND || tries == 4) return st;
    }
}

/* ---- uploads ---- */

static int64_t now_seconds(void)
{
    return (int64_t)(mlxr_now_ns() / 1000000000);
}

/* Takes those out that are of this digest, or whose time is over; newest first, the list keeps no more than there may be. */
static kept *take_kept(mlxr_shelf *s, const char *digest)
{
    kept *gone = NULL, **at = &s->kept;
    int64_t now = now_seconds();
    size_t n = 0;

    while (*at) {
        kept *k = *at;
        if ((digest && strcmp(k->digest, digest) == 0) || k->until <= now || ++n >= MAX_KEPT) {
            *at = k->next;
            k->next = gone;
            gone = k;
        } else {
            at = &k->next;
        }
    }
    return gone;
}

static void free_kept(kept *k)
{
    while (k) {
        kept *next = k->next;
        mlxr_session_end(k->session);
        free(k);
        k = next;
    }
}

void mlxr_shelf_keep(mlxr_shelf *s, const char *digest, mlxr_session *session)
{
    kept *k = calloc(1, sizeof *k), *gone;

    if (!k) { /* the grace period of the blob's own keeps it as well */
        mlxr_session_end(session);
        return;
    }
    snprintf(k->digest, sizeof k->digest, "%s", digest);
    k->session = session;
    k->until = now_seconds() + s->store->grace_seconds;
    pthread_mutex_lock(&s->lock);
    gone = take_kept(s, digest);
    k->next = s->kept;
    s->kept = k;
    pthread_mutex_unlock(&s->lock);
    free_kept(gone);
}

void mlxr_shelf_release(mlxr_shelf *s, const char *digest)
{
    kept *gone;

    pthread_mutex_lock(&s->lock);
    gone = take_kept(s, digest);
    pthread_mutex_unlock(&s->lock);
    free_kept(gone);
}

/* ---- jobs ---- */

void mlxr_shelf_job_begin(mlxr_shelf *s, volatile int *cancel)
{
    pthread_mutex_lock(&s->lock);
    if (s->stopped) *cancel = 1;
    if (s->n_jobs < MAX_JOBS) s->jobs[s->n_jobs++] = cancel; /* more than workers there are */
    pthread_mutex_unlock(&s->lock);
}

void mlxr_shelf_job_end(mlxr_shelf *s, volatile int *cancel)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_jobs; i++)
        if (s->jobs[i] == cancel) {
            s->jobs[i] = s->jobs[--s->n_jobs];
            break;
        }
    pthread_mutex_unlock(&s->lock);
}

void mlxr_shelf_stop(mlxr_shelf *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    for (size_t i = 0; i < s->n_jobs; i++) *s->jobs[i] = 1;
    pthread_mutex_unlock(&s->lock);
}
