/* Python's dict without removal: entries in insertion order, an index once there are more than a few. */
#include "text/template/template.h"

enum { SMALL = 8 };

uint64_t str_hash(str *s)
{
    if (!s->hash) {
        uint64_t h = mlxr_hash_bytes(s->s, s->n, 0x7e3d51a9c4f02b86u);
        s->hash = h ? h : 1;
    }
    return s->hash;
}

dict *dict_new(rt *r, size_t cap)
{
    dict *d = rt_alloc(r, sizeof *d);
    if (!d) return NULL;
    *d = (dict){0};
    if (cap) {
        d->e = rt_alloc_array(r, cap, sizeof *d->e);
        if (!d->e) return NULL;
        d->cap = cap;
    }
    return d;
}

static void index_put(dict *d, size_t i)
{
    size_t k = d->e[i].hash & (d->n_index - 1);
    while (d->index[k]) k = (k + 1) & (d->n_index - 1);
    d->index[k] = (uint32_t)(i + 1);
}

static bool reindex(rt *r, dict *d)
{
    size_t n = 32;
    while (n < d->cap * 2) n *= 2;
    d->index = rt_alloc_array(r, n, sizeof *d->index);
    if (!d->index) return false;
    memset(d->index, 0, n * sizeof *d->index);
    d->n_index = n;
    for (size_t i = 0; i < d->n; i++) index_put(d, i);
    return true;
}

/* The entry of key: 1 with *at, 0 absent, -1 raised. */
static int find(rt *r, const dict *d, val key, uint64_t hash, size_t *at)
{
    size_t k = d->n_index ? hash & (d->n_index - 1) : 0, i = 0;
    for (;;) {
        const entry *e;
        if (d->n_index) {
            if (!d->index[k]) return 0;
            i = d->index[k] - 1;
            k = (k + 1) & (d->n_index - 1);
        } else if (i >= d->n) {
            return 0;
        }
        e = &d->e[i];
        if (e->hash == hash) {
            int eq;
            if (e->key.type == T_STR && key.type == T_STR)
                eq = str_eq(e->key.s, key.s);
            else
                eq = same(e->key, key) ? 1 : equal(r, e->key, key);
            if (eq < 0) return -1;
            if (eq) {
                *at = i;
                return 1;
            }
        }
        if (!d->n_index) i++;
    }
}

bool dict_put(rt *r, dict *d, val key, val value)
{
    uint64_t hash;
    size_t at;
    int found;

    if (!hash_value(r, key, &hash)) return false;
    found = find(r, d, key, hash, &at);
    if (found < 0) return false;
    if (found) {
        d->e[at].value = value;
        return true;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        entry *e;
        if (cap > UINT32_MAX / 4) {
            raise(r, EXC_LIMIT, "a dict is too large");
            return false;
        }
        e = rt_alloc_array(r, cap, sizeof *e);
        if (!e) return false;
        if (d->n) memcpy(e, d->e, d->n * sizeof *e);
        d->e = e;
        d->cap = cap;
    }
    d->e[d->n++] = (entry){key, value, hash};
    if (d->n_index && d->n * 2 <= d->n_index) {
        index_put(d, d->n - 1);
        return true;
    }
    return d->n <= SMALL || reindex(r, d);
}

int dict_get(rt *r, const dict *d, val key, val *out)
{
    uint64_t hash;
    size_t at;
    int found;
    if (!hash_value(r, key, &hash)) return -1;
    found = find(r, d, key, hash, &at);
    if (found > 0) *out = d->e[at].value;
    return found;
}

val *dict_get_str(const dict *d, const str *key)
{
    uint64_t hash = key->hash;
    if (!d->n_index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->e[i].hash == hash && d->e[i].key.type == T_STR && str_eq(d->e[i].key.s, key))
                return &d->e[i].value;
        return NULL;
    }
    for (size_t k = hash & (d->n_index - 1); d->index[k]; k = (k + 1) & (d->n_index - 1)) {
        entry *e = &d->e[d->index[k] - 1];
        if (e->hash == hash && e->key.type == T_STR && str_eq(e->key.s, key)) return &e->value;
    }
    return NULL;
}

bool dict_put_cstr(rt *r, dict *d, const char *key, val v)
{
    val k = v_cstr(r, key);
    return !IS_ERR(k) && dict_put(r, d, k, v);
}
