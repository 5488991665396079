/* catalog: names to manifests. A name lies at manifests/<host>/<namespace>/<name>/<tag>; what lies there under another kind of path is
 * nobody's and passed over. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "store/keep.h"

enum { MIN_DIGEST_HEX = 8, MAX_NEAR = 4, MAX_NAMED = 6 };

/* ---- what there is ---- */

struct walk {
    mlxr_buf names; /* of mlxr_name */
    size_t n_skip;  /* bytes of a path before host/... */
    unsigned depth;
};

static mlxr_status walk_step(void *ud, const char *name, const char *path, mlxr_error *err)
{
    struct walk *w = ud;
    mlxr_name n;
    mlxr_status st = MLXR_OK;

    if (name[0] == '.') return MLXR_OK;
    if (w->depth < 3) {
        struct stat sb;
        if (stat(path, &sb) != 0 || !S_ISDIR(sb.st_mode)) return MLXR_OK;
        w->depth++;
        st = mlxr_dir_each(path, walk_step, w, err);
        w->depth--;
    } else if (mlxr_name_from_path(&n, path + w->n_skip)) {
        mlxr_buf_append(&w->names, &n, sizeof n);
        st = mlxr_buf_check(&w->names, "store", err);
    }
    return st;
}

mlxr_status mlxr_names_read(mlxr_name **out, size_t *out_n, const mlxr_store *store, mlxr_error *err)
{
    char *dir = mlxr_store_path(store, "manifests");
    struct walk w = {0};
    mlxr_status st;

    *out = NULL;
    *out_n = 0;
    if (!dir) return mlxr_fail_nomem(err, "store");
    w.n_skip = strlen(dir) + 1;
    st = mlxr_dir_each(dir, walk_step, &w, err);
    free(dir);
    if (st == MLXR_OK) {
        *out_n = w.names.len / sizeof **out;
        *out = (mlxr_name *)(void *)w.names.data; /* as malloc gave it */
    } else {
        mlxr_buf_clear(&w.names);
    }
    return st;
}

char *mlxr_manifest_path(const mlxr_store *store, const mlxr_name *name)
{
    mlxr_buf b = {0};
    char *path;

    mlxr_name_path(&b, name);
    path = b.failed ? NULL : mlxr_store_path(store, "manifests/%s", b.data);
    mlxr_buf_clear(&b);
    return path;
}

mlxr_status mlxr_manifest_load(mlxr_manifest *out, const mlxr_store *store, const mlxr_name *name,
                               mlxr_error *err)
{
    char *path = mlxr_manifest_path(store, name);
    mlxr_buf text = {0};
    mlxr_status st;

    *out = (mlxr_manifest){0};
    if (!path) return mlxr_fail_nomem(err, "store");
    st = mlxr_file_read(&text, path, MLXR_MANIFEST_MAX_BYTES, err);
    if (st == MLXR_OK) st = mlxr_manifest_parse(out, text.data, text.len, path, err);
    mlxr_buf_clear(&text);
    free(path);
    return st;
}

/* By folded text, and where that is the same by bytes: an order that does not depend on the file system. */
static int compare_text(const char *a, const char *b)
{
    const char *x = a, *y = b;
    for (;; x++, y++) {
        int p = *x >= 'A' && *x <= 'Z' ? *x - 'A' + 'a' : (unsigned char)*x;
        int q = *y >= 'A' && *y <= 'Z' ? *y - 'A' + 'a' : (unsigned char)*y;
        if (p != q) return p < q ? -1 : 1;
        if (!p) return strcmp(a, b);
    }
}

static int compare_names(const void *pa, const void *pb)
{
    const mlxr_name *a = pa, *b = pb;
    /* What is displayed without a host comes first. */
    int by_host = mlxr_name_is_hub(b) - mlxr_name_is_hub(a), c;

    if (by_host) return by_host;
    if ((c = compare_text(a->host, b->host)) != 0) return c;
    if (mlxr_name_is_hub(a)) { /* "library" is not shown */
        bool la = strcmp(a->namespace_, MLXR_NAME_NAMESPACE) == 0,
             lb = strcmp(b->namespace_, MLXR_NAME_NAMESPACE) == 0;
        const char *fa = la ? a->name : a->namespace_, *fb = lb ? b->name : b->namespace_;
        if (la != lb && (c = compare_text(fa, fb)) != 0) return c;
        if (la != lb) return lb - la;
    }
    if ((c = compare_text(a->namespace_, b->namespace_)) != 0) return c;
    if ((c = compare_text(a->name, b->name)) != 0) return c;
    return compare_text(a->tag, b->tag);
}

mlxr_status mlxr_catalog_read(mlxr_catalog *out, mlxr_store *store, mlxr_error *err)
{
    mlxr_catalog c = {0};
    mlxr_name *names = NULL;
    size_t n_names;
    mlxr_status st = mlxr_names_read(&names, &n_names, store, err);

    *out = c;
    if (st != MLXR_OK) return st;
    if (n_names) qsort(names, n_names, sizeof *names, compare_names);
    c.items = mlxr_calloc_array(n_names, sizeof *c.items);
    if (!c.items) st = mlxr_fail_nomem(err, "store");
    for (size_t i = 0; i < n_names && st == MLXR_OK; i++) {
        mlxr_catalog_item *item = &c.items[c.n];
        char *path = mlxr_manifest_path(store, &names[i]);
        struct stat sb;
        mlxr_error why;
        if (!path) {
            st = mlxr_fail_nomem(err, "store");
            break;
        }
        item->name = names[i];
        item->modified_seconds = stat(path, &sb) == 0 ? (int64_t)sb.st_mtime : 0;
        free(path);
        st = mlxr_manifest_load(&item->manifest, store, &names[i], &why);
        c.n++;
        if (st == MLXR_E_NOT_FOUND) { /* it went meanwhile */
            c.n--;
            st = MLXR_OK;
        } else if (st == MLXR_E_NOMEM) {
            st = mlxr_fail(err, st, "%s", why.message);
        } else if (st != MLXR_OK) {
            item->broken = mlxr_strdup(why.message);
            st = item->broken ? MLXR_OK : mlxr_fail_nomem(err, "store");
        }
    }
    if (st == MLXR_OK)
        *out = c;
    else
        mlxr_catalog_clear(&c);
    free(names);
    return st;
}

void mlxr_catalog_clear(mlxr_catalog *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) {
        mlxr_manifest_clear(&c->items[i].manifest);
        free(c->items[i].broken);
    }
    free(c->items);
    *c = (mlxr_catalog){0};
}

/* ---- near misses ---- */

static size_t min3(size_t a, size_t b, size_t c)
{
    if (b < a) a = b;
    return c < a ? c : a;
}

/* Letters to change, put in or leave out to make b of a, without regard to case. */
static size_t distance(const char *a, const char *b)
{
    size_t row[130], n = strlen(b), m = strlen(a);

    if (n >= MLXR_COUNT(row)) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            int differ = a[i - 1] ^ b[j - 1]; /* 0x20 in names: a letter's case */
            row[j] = min3(above + 1, row[j - 1] + 1, corner + (differ && differ != 0x20));
            corner = above;
        }
    }
    return row[n];
}

/* 0: not near; else the more the nearer. */
static unsigned nearness(const mlxr_name *wanted, const mlxr_name *is)
{
    size_t n = strlen(wanted->name), d = distance(wanted->name, is->name);
    bool inside = n >= 3 && (strcasestr(is->name, wanted->name) || strcasestr(wanted->name, is->name));
    unsigned near = 0;

    if (d == 0)
        near = 100;
    else if (inside)
        near = 60;
    else if (d <= (n < 3 ? 1 : n / 3 + 1))
        near = 50 - (unsigned)(d < 40 ? d : 40);
    if (near && strcmp(wanted->tag, is->tag) == 0) near += 2;
    if (near && strcmp(wanted->namespace_, is->namespace_) == 0) near += 1;
    return near;
}

static mlxr_status not_found(mlxr_error *err, const mlxr_store *store, const char *text,
                             const mlxr_name *wanted, const mlxr_name *names, size_t n_names)
{
    const mlxr_name *best[MAX_NEAR] = {0};
    unsigned score[MAX_NEAR] = {0};
    mlxr_status st;

    st = mlxr_fail(err, MLXR_E_NOT_FOUND, "store %s: no model \"%.300s\"%s", store->root, text,
                   n_names ? "" : "; it is empty");
    for (size_t i = 0; i < n_names; i++) {
        unsigned near = nearness(wanted, &names[i]);
        for (size_t k = 0; near && k < MAX_NEAR; k++) {
            if (near < score[k] || (near == score[k] && compare_names(best[k], &names[i]) < 0)) continue;
            memmove(best + k + 1, best + k, (MAX_NEAR - k - 1) * sizeof *best);
            memmove(score + k + 1, score + k, (MAX_NEAR - k - 1) * sizeof *score);
            best[k] = &names[i];
            score[k] = near;
            break;
        }
    }
    for (size_t k = 0; k < MAX_NEAR && best[k]; k++) {
        mlxr_buf b = {0};
        mlxr_name_display(&b, best[k]);
        if (!b.failed) mlxr_error_append(err, "%s%s", k ? ", " : "; near: ", b.data);
        mlxr_buf_clear(&b);
    }
    return st;
}

/* ---- finding ---- */

/* "sha256:" and hex digits, enough of them. */
static bool is_digest_text(const char *text)
{
    size_t n;

    if (strncasecmp(text, "sha256:", 7) != 0) return false;
    n = strspn(text + 7, "0123456789abcdefABCDEF");
    return n >= MIN_DIGEST_HEX && n <= 64 && !text[7 + n];
}

static mlxr_status resolve_digest(mlxr_name *out, mlxr_store *store, const char *text, mlxr_error *err)
{
    const mlxr_catalog_item *found = NULL;
    mlxr_catalog c;
    size_t n_named = 0;
    mlxr_status st = mlxr_catalog_read(&c, store, err);

    if (st != MLXR_OK) return st;
    st = MLXR_E_NOT_FOUND;
    for (size_t i = 0; i < c.n; i++) {
        const mlxr_catalog_item *item = &c.items[i];
        mlxr_buf b = {0};
        if (item->broken || strncasecmp(item->manifest.digest, text, strlen(text)) != 0) continue;
        if (!found) {
            found = item;
            st = MLXR_OK;
            continue;
        }
        if (st == MLXR_OK && strcmp(item->manifest.digest, found->manifest.digest) == 0) continue;
        if (st == MLXR_OK) {
            st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                           "store %s: \"%s\" begins the digests of several models: ", store->root, text);
            mlxr_name_display(&b, &found->name);
            n_named = 1;
            if (!b.failed) mlxr_error_append(err, "%s", b.data);
            b.len = 0;
        }
        if (n_named++ < MAX_NAMED) {
            mlxr_name_display(&b, &item->name);
            if (!b.failed) mlxr_error_append(err, ", %s", b.data);
        }
        mlxr_buf_clear(&b);
    }
    if (st == MLXR_OK) *out = found->name;
    if (st == MLXR_E_NOT_FOUND)
        st = mlxr_fail(err, st, "store %s: no model has a digest that begins with \"%s\"", store->root, text);
    mlxr_catalog_clear(&c);
    return st;
}

mlxr_status mlxr_store_resolve(mlxr_name *out, mlxr_store *store, const char *text, mlxr_error *err)
{
    mlxr_name wanted, *names = NULL;
    size_t n_names;
    struct stat sb;
    char *path;
    mlxr_status st;

    *out = (mlxr_name){0};
    if (is_digest_text(text)) return resolve_digest(out, store, text, err);
    if ((st = mlxr_name_parse(&wanted, text, err)) != MLXR_OK) return st;
    path = mlxr_manifest_path(store, &wanted);
    if (!path) return mlxr_fail_nomem(err, "store");
    if (lstat(path, &sb) == 0) {
        *out = wanted;
        free(path);
        return MLXR_OK;
    }
    free(path);
    if ((st = mlxr_names_read(&names, &n_names, store, err)) != MLXR_OK) return st;
    st = MLXR_E_NOT_FOUND;
    for (size_t i = 0; i < n_names; i++) {
        if (!mlxr_name_same(&wanted, &names[i])) continue;
        if (st != MLXR_OK || compare_names(&names[i], out) < 0) *out = names[i];
        st = MLXR_OK;
    }
    if (st != MLXR_OK) st = not_found(err, store, text, &wanted, names, n_names);
    free(names);
    return st;
}

mlxr_status mlxr_store_find(mlxr_manifest *out, mlxr_name *out_name, mlxr_store *store, const char *name,
                            mlxr_error *err)
{
    mlxr_name spelled;
    mlxr_status st;

    *out = (mlxr_manifest){0};
    for (int tries = 0;; tries++) {
        if ((st = mlxr_store_resolve(&spelled, store, name, err)) != MLXR_OK) return st;
        st = mlxr_manifest_load(out, store, &spelled, err);
        if (st != MLXR_E_NOT_FOUND || tries == 8)
            break; /* it went in between: once more, for a message that is right */
    }
    if (st == MLXR_OK && out_name) *out_name = spelled;
    return st;
}

mlxr_status mlxr_name_spelling(mlxr_name *out, const mlxr_store *store, const mlxr_name *name,
                               mlxr_error *err)
{
    mlxr_name *names, as;
    size_t n_names;
    int best = 0; /* parts of it that are spelled already */
    mlxr_status st = mlxr_names_read(&names, &n_names, store, err);

    *out = *name;
    if (st != MLXR_OK) return st;
    for (size_t i = 0; i < n_names && best < 4; i++) {
        int parts = 0;
        as = *name;
        memcpy(as.namespace_, names[i].namespace_, sizeof as.namespace_);
        if (strcmp(as.host, names[i].host) != 0 || !mlxr_name_same(&as, name)) continue;
        parts = 1;
        memcpy(as.name, names[i].name, sizeof as.name);
        if (mlxr_name_same(&as, name)) parts = 2;
        memcpy(as.tag, names[i].tag, sizeof as.tag);
        if (parts == 2 && mlxr_name_same(&as, name))
            parts = memcmp(&names[i], name, sizeof *name) == 0 ? 4 : 3;
        if (parts <= best) continue;
        best = parts;
        *out = *name;
        memcpy(out->namespace_, names[i].namespace_, sizeof out->namespace_);
        if (parts >= 2) memcpy(out->name, names[i].name, sizeof out->name);
        if (parts >= 3) memcpy(out->tag, names[i].tag, sizeof out->tag);
    }
    free(names);
    return MLXR_OK;
}

/* ---- the calls ---- */

/* What the config says, as far as it can be read; MLXR_E_NOMEM alone is a failure. */
static mlxr_status describe(mlxr_store_entry *e, const mlxr_store *store, const mlxr_manifest *m,
                            mlxr_error *err)
{
    char *path = mlxr_store_blob_path(store, m->config.digest);
    mlxr_description d = {0};
    mlxr_buf text = {0};
    mlxr_status st;

    if (!path) return mlxr_fail_nomem(err, "store");
    st = mlxr_file_read(&text, path, MLXR_CONFIG_MAX_BYTES, err);
    if (st == MLXR_OK) st = mlxr_description_parse(&d, text.data, text.len, path, err);
    if (st == MLXR_OK) {
        e->family = d.family;
        e->quantization = d.quantization;
        d.family = d.quantization = NULL;
        e->n_parameters = d.n_parameters;
    } else if (st != MLXR_E_NOMEM && !e->broken) {
        e->broken = mlxr_asprintf("its config cannot be read: %s", err ? err->message : mlxr_status_text(st));
        if (!e->broken) st = mlxr_fail_nomem(err, "store");
    }
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    free(path);
    return st == MLXR_E_NOMEM ? st : MLXR_OK;
}

/* How many models each blob is of; two names of one model count as one. */
struct share {
    size_t n_models, last; /* the model that counted it last, from 1 */
};
struct shares {
    mlxr_strtab by_digest, models;
    struct share *shares;
    size_t n;
};

static mlxr_status count_shares(struct shares *s, const mlxr_catalog *c, mlxr_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) n += c->items[i].manifest.n_layers + 1;
    s->shares = mlxr_calloc_array(n, sizeof *s->shares);
    if (!s->shares) return mlxr_fail_nomem(err, "store");
    for (size_t i = 0; i < c->n; i++) {
        const mlxr_manifest *m = &c->items[i].manifest;
        size_t had;
        if (!m->n_text) continue;
        if (!mlxr_strtab_put(&s->models, m->digest, 71, i, &had)) return mlxr_fail_nomem(err, "store");
        if (had != SIZE_MAX) continue;
        for (size_t k = 0; k <= m->n_layers; k++) {
            const mlxr_layer *l = k < m->n_layers ? &m->layers[k] : &m->config;
            size_t at = mlxr_strtab_get(&s->by_digest, l->digest, 71);
            if (at == SIZE_MAX) {
                at = s->n++;
                if (!mlxr_strtab_put(&s->by_digest, l->digest, 71, at, NULL))
                    return mlxr_fail_nomem(err, "store");
            }
            if (s->shares[at].last == i + 1) continue;
            s->shares[at].last = i + 1;
            s->shares[at].n_models++;
        }
    }
    for (size_t i = 0; i < s->n; i++) s->shares[i].last = 0;
    return MLXR_OK;
}

static mlxr_status fill_entry(mlxr_store_entry *e, const mlxr_store *store, const mlxr_catalog_item *item,
                              size_t i, struct shares *s, mlxr_error *err)
{
    const mlxr_manifest *m = &item->manifest;
    mlxr_buf name = {0}, trouble = {0};
    mlxr_status st = MLXR_OK;

    mlxr_name_display(&name, &item->name);
    e->name = mlxr_buf_take(&name, NULL);
    e->digest = mlxr_strdup(m->digest);
    e->modified_seconds = item->modified_seconds;
    e->size_bytes = m->n_bytes;
    if (item->broken) e->broken = mlxr_strdup(item->broken);
    if (!e->name || !e->digest || (item->broken && !e->broken)) return mlxr_fail_nomem(err, "store");
    for (size_t k = 0; m->n_text && k <= m->n_layers && st == MLXR_OK; k++) {
        const mlxr_layer *l = k < m->n_layers ? &m->layers[k] : &m->config;
        struct share *share = &s->shares[mlxr_strtab_get(&s->by_digest, l->digest, 71)];
        mlxr_blob_state state;
        if (share->last == i + 1) continue;
        share->last = i + 1;
        if (share->n_models > 1) e->shared_bytes += l->size;
        if ((st = mlxr_blob_state_of(&state, store, l->digest, l->size, err)) != MLXR_OK) break;
        if (state == MLXR_BLOB_LINK || state == MLXR_BLOB_LINK_CHANGED) e->linked_bytes += l->size;
        if (!trouble.len) mlxr_blob_trouble(&trouble, store, l, state);
    }
    if (st == MLXR_OK && trouble.len) {
        e->broken = mlxr_buf_take(&trouble, NULL);
        if (!e->broken) st = mlxr_fail_nomem(err, "store");
    }
    if (st == MLXR_OK && m->n_text) st = describe(e, store, m, err);
    if (st == MLXR_OK && !e->family) e->family = mlxr_strdup("");
    if (st == MLXR_OK && !e->quantization) e->quantization = mlxr_strdup("");
    if (st == MLXR_OK && (!e->family || !e->quantization)) st = mlxr_fail_nomem(err, "store");
    mlxr_buf_clear(&trouble);
    return st;
}

static mlxr_status list(mlxr_store_entry **out, size_t *out_n, mlxr_store *store, mlxr_error *err)
{
    mlxr_store_entry *entries = NULL;
    struct shares s = {0};
    mlxr_catalog c;
    mlxr_status st;

    *out = NULL;
    *out_n = 0;
    if ((st = mlxr_catalog_read(&c, store, err)) != MLXR_OK) return st;
    if ((st = count_shares(&s, &c, err)) != MLXR_OK) goto done;
    entries = mlxr_calloc_array(c.n, sizeof *entries);
    if (!entries) {
        st = mlxr_fail_nomem(err, "store");
        goto done;
    }
    for (size_t i = 0; i < c.n && st == MLXR_OK; i++)
        st = fill_entry(&entries[i], store, &c.items[i], i, &s, err);
    if (st != MLXR_OK) goto done;
    *out = entries;
    *out_n = c.n;
    entries = NULL;
done:
    mlxr_store_entries_free(entries, c.n);
    mlxr_strtab_clear(&s.by_digest);
    mlxr_strtab_clear(&s.models);
    free(s.shares);
    mlxr_catalog_clear(&c);
    return st;
}

mlxr_status mlxr_store_list(mlxr_store_entry **out, size_t *out_n, mlxr_store *store, mlxr_error *err)
{
    mlxr_error local;
    mlxr_status st;
    bool broken = false;
    int lock;

    if (!err) err = &local;
    if ((st = list(out, out_n, store, err)) != MLXR_OK) return st;
    for (size_t i = 0; i < *out_n; i++) broken |= (*out)[i].broken != NULL;
    /* Once more while nobody removes: what just went looks broken. A store that cannot be locked is not changed by us either. */
    if (!broken || mlxr_store_lock(&lock, store, false, NULL, NULL) != MLXR_OK) return MLXR_OK;
    mlxr_store_entries_free(*out, *out_n);
    st = list(out, out_n, store, err);
    mlxr_io_unlock(lock);
    return st;
}

void mlxr_store_entries_free(mlxr_store_entry *entries, size_t n)
{
    for (size_t i = 0; entries && i < n; i++) {
        free(entries[i].name);
        free(entries[i].digest);
        free(entries[i].family);
        free(entries[i].quantization);
        free(entries[i].broken);
    }
    free(entries);
}
