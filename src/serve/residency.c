/* residency: see residency.h. One lock; one thread, which decides, unloads and watches the time, and another while a model is opened, so
 * that meanwhile others are told and expire. A model is READY while its requests come and go; what is to go (expired, evicted,
 * replaced) is taken off the list by the thread alone, so that closing never meets a user.
 *
 * The oldest of those who wait for a model that is not there is next. When models in use are in its way, those whose model is there
 * go on for `patience_ns`; then a model is chosen to make way: who comes for it now waits in turn, and it goes with its last user. */
#include "serve/residency.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef struct waiter {
    struct waiter *next;
    uint64_t ticket, since_ns;
    char *name, *path, *digest;
    mlxr_resident_key key; /* of the texts above */
    mlxr_on_ready on_ready;
    void *ud;
    bool planned;
    uint64_t n_bytes; /* when planned */
} waiter;

struct mlxr_resident {
    mlxr_residency *owner;
    mlxr_resident *next;
    char *name, *path, *digest;
    mlxr_resident_key key;
    void *model;
    uint64_t n_bytes;
    size_t context_length;
    size_t n_users;
    bool leaving;        /* goes as soon as nobody uses it; nobody new gets it */
    bool yields;         /* the same, while somebody waits for its place */
    int64_t keep_ns;     /* of the last release */
    uint64_t expires_ns; /* on the clock, while nobody uses it; UINT64_MAX: never */
};

struct mlxr_residency {
    mlxr_residency_options options;
    pthread_t thread, opener;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;
    bool closing;
    mlxr_resident *residents;
    size_t n_residents;
    uint64_t bytes;
    waiter *first, *last; /* oldest first */
    size_t n_waiting;
    uint64_t next_ticket;
    mlxr_resident *loading; /* what is being opened, or NULL */
    bool loaded;            /* it is: load_status and load_error say how it went */
    mlxr_status load_status;
    mlxr_error load_error;
    int cancel_loading;
    uint64_t blocked_ticket, blocked_ns; /* who is next and finds no place, since when */
    bool changed;                        /* a place may have become free since that was looked at */
    mlxr_residency_counts counts;
};

mlxr_residency_options mlxr_residency_options_default(void)
{
    return (mlxr_residency_options){.max_loaded = 3,
                                    .max_waiting = 512,
                                    .keep_alive_ns = (int64_t)300 * 1000000000,
                                    .patience_ns = 2000000000};
}

static bool key_same(const mlxr_resident_key *a, const mlxr_resident_key *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->path, b->path) == 0 &&
           strcmp(a->digest, b->digest) == 0 && a->context_length == b->context_length;
}

/* false: out of memory; what was copied is in the texts all the same. */
static bool key_copy(mlxr_resident_key *to, char **name, char **path, char **digest,
                     const mlxr_resident_key *from)
{
    *name = mlxr_strdup(from->name);
    *path = mlxr_strdup(from->path);
    *digest = mlxr_strdup(from->digest ? from->digest : "");
    *to = (mlxr_resident_key){*name, *path, *digest, from->context_length};
    return *name && *path && *digest;
}

static void waiter_free(waiter *w)
{
    if (!w) return;
    free(w->name);
    free(w->path);
    free(w->digest);
    free(w);
}

static void resident_free(mlxr_resident *m)
{
    if (!m) return;
    free(m->name);
    free(m->path);
    free(m->digest);
    free(m);
}

/* ---- all with the lock held ---- */

static mlxr_resident *find(const mlxr_residency *r, const mlxr_resident_key *key)
{
    for (mlxr_resident *m = r->residents; m; m = m->next)
        if (!m->leaving && !m->yields && key_same(&m->key, key)) return m;
    return NULL;
}

static void unlink_waiter(mlxr_residency *r, waiter *w)
{
    waiter *before = NULL;

    for (waiter *x = r->first; x != w; x = x->next) before = x;
    if (before)
        before->next = w->next;
    else
        r->first = w->next;
    if (r->last == w) r->last = before;
    w->next = NULL;
    r->n_waiting--;
    if (w->ticket == r->blocked_ticket) { /* its place is not needed any more */
        r->blocked_ticket = 0;
        for (mlxr_resident *m = r->residents; m; m = m->next) m->yields = false;
    }
}

/* Calls back, and takes the lock again. w is freed; m (may be NULL) has a user more. */
static void tell(mlxr_residency *r, waiter *w, mlxr_resident *m, const mlxr_error *err)
{
    uint64_t waited = mlxr_now_ns() - w->since_ns;

    unlink_waiter(r, w);
    if (m) m->n_users++;
    pthread_mutex_unlock(&r->lock);
    w->on_ready(w->ud, m, waited, err);
    waiter_free(w);
    pthread_mutex_lock(&r->lock);
}

/* Everybody who waits for this key. They are looked for anew each time, since telling gives up the lock; who comes meanwhile and finds the
 * model ready does not wait. */
static void tell_all(mlxr_residency *r, const mlxr_resident_key *key, mlxr_resident *m, const mlxr_error *err,
                     uint64_t last_ticket)
{
    for (waiter *w = r->first; w;) {
        if (w->ticket <= last_ticket && key_same(&w->key, key)) {
            tell(r, w, m, err);
            w = r->first;
        } else {
            w = w->next;
        }
    }
}

static bool somebody_waits_for(const mlxr_residency *r, const mlxr_resident_key *key)
{
    for (const waiter *w = r->first; w; w = w->next)
        if (key_same(&w->key, key)) return true;
    return false;
}

/* Closes a model nobody uses. */
static void unload(mlxr_residency *r, mlxr_resident *m)
{
    mlxr_resident **at = &r->residents;

    while (*at != m) at = &(*at)->next;
    *at = m->next;
    m->leaving = true;
    pthread_mutex_unlock(&r->lock);
    mlxr_log_at(&r->options.log, MLXR_LOG_INFO, "model %s: unloaded", m->key.name);
    r->options.close(r->options.ud, m->model);
    pthread_mutex_lock(&r->lock);
    r->n_residents--;
    r->bytes -= m->n_bytes;
    resident_free(m);
}

/* Unloads what has expired or is to leave; *next_ns: when to look again. true: something went, the lists have changed. */
static bool unload_expired(mlxr_residency *r, uint64_t *next_ns)
{
    uint64_t now = mlxr_now_ns();

    *next_ns = UINT64_MAX;
    for (mlxr_resident *m = r->residents; m; m = m->next) {
        if (m->n_users) continue;
        if (m->leaving || m->expires_ns <= now) {
            unload(r, m);
            return true;
        }
        if (m->expires_ns < *next_ns) *next_ns = m->expires_ns;
    }
    return false;
}

/* The idle model that would go first anyway; an older one of the same name before all. */
static mlxr_resident *least_wanted(const mlxr_residency *r, const char *name)
{
    mlxr_resident *best = NULL;

    for (mlxr_resident *m = r->residents; m; m = m->next) {
        if (m->n_users) continue;
        if (strcmp(m->key.name, name) == 0) return m;
        if (!best || m->expires_ns < best->expires_ns) best = m;
    }
    return best;
}

static bool has_room(const mlxr_residency *r, uint64_t n_bytes)
{
    uint64_t limit = r->options.memory_bytes;

    return r->n_residents < r->options.max_loaded &&
           (!limit || (r->bytes <= limit && n_bytes <= limit - r->bytes));
}

/* Whether idle models are enough to go: else none has to. */
static bool room_can_be_made(const mlxr_residency *r, uint64_t n_bytes)
{
    size_t n = r->n_residents;
    uint64_t bytes = r->bytes, limit = r->options.memory_bytes;

    for (const mlxr_resident *m = r->residents; m; m = m->next) {
        if (m->n_users) continue;
        n--;
        bytes -= m->n_bytes;
    }
    return n < r->options.max_loaded && (!limit || (bytes <= limit && n_bytes <= limit - bytes));
}

/* Room for n_bytes more? Unloads idle models for it; false: models in use are in the way. */
static bool make_room(mlxr_residency *r, const char *name, uint64_t n_bytes)
{
    while (!has_room(r, n_bytes)) {
        mlxr_resident *m = room_can_be_made(r, n_bytes) ? least_wanted(r, name) : NULL;
        if (!m) return false;
        r->counts.n_evictions++;
        unload(r, m);
    }
    return true;
}

/* The model with the fewest users makes way, once the next has waited long enough. *next_ns: when that will be. */
static void press(mlxr_residency *r, const waiter *w, uint64_t *next_ns)
{
    uint64_t now = mlxr_now_ns(), until;
    mlxr_resident *best = NULL;

    if (r->blocked_ticket != w->ticket) {
        r->blocked_ticket = w->ticket;
        r->blocked_ns = now;
    }
    until = r->blocked_ns + r->options.patience_ns;
    if (now < until) {
        if (until < *next_ns) *next_ns = until;
        return;
    }
    for (mlxr_resident *m = r->residents; m; m = m->next) {
        if (m->n_users && (m->yields || m->leaving)) return; /* one at a time */
        if (m->n_users && (!best || m->n_users < best->n_users)) best = m;
    }
    if (best) best->yields = true;
}

static void tell_failed(mlxr_residency *r, const mlxr_resident_key *key, mlxr_status st, mlxr_error *err)
{
    if (err->code == MLXR_OK) mlxr_fail(err, st, "model %s: %s", key->name, mlxr_status_text(st));
    tell_all(r, key, NULL, err, r->next_ticket);
}

static void *open_one(void *ud)
{
    mlxr_residency *r = ud;
    mlxr_resident *m = r->loading; /* constant until this thread is joined */
    mlxr_error err = {0};
    void *model = NULL;
    mlxr_status st = r->options.open(r->options.ud, &m->key, &r->cancel_loading, &model, &err);

    pthread_mutex_lock(&r->lock);
    m->model = model;
    r->load_status = st;
    r->load_error = err;
    r->loaded = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Begins to open what w waits for, if there is a place. */
static void begin_load(mlxr_residency *r, waiter *w, uint64_t *next_ns)
{
    mlxr_resident *m = calloc(1, sizeof *m);
    uint64_t limit = r->options.memory_bytes, ticket = w->ticket;
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    r->changed = false;
    if (!m || !key_copy(&m->key, &m->name, &m->path, &m->digest, &w->key)) {
        mlxr_fail_nomem(&err, "model");
        tell(r, w, NULL, &err);
        resident_free(m);
        return;
    }
    m->owner = r;
    if (w->planned) {
        m->n_bytes = w->n_bytes;
    } else if (r->options.plan) {
        pthread_mutex_unlock(&r->lock);
        st = r->options.plan(r->options.ud, &m->key, &m->n_bytes, &err);
        pthread_mutex_lock(&r->lock);
    }
    if (st == MLXR_OK && limit && m->n_bytes > limit)
        st = mlxr_fail(&err, MLXR_E_LIMIT,
                       "model %s needs %.2f GB of memory, and at most %.2f GB may be used for models",
                       m->name, (double)m->n_bytes / 1e9, (double)limit / 1e9);
    if (st != MLXR_OK) {
        tell_failed(r, &m->key, st, &err);
        resident_free(m);
        return;
    }
    if (!somebody_waits_for(r, &m->key)) { /* any more */
        resident_free(m);
        return;
    }
    if (!make_room(r, m->name, m->n_bytes)) {
        /* w may have gone meanwhile; then the next looks for itself. */
        if (r->first && r->first->ticket == ticket) {
            r->first->planned = true;
            r->first->n_bytes = m->n_bytes;
            press(r, r->first, next_ns);
        } else {
            r->changed = true;
        }
        resident_free(m);
        return;
    }
    r->n_residents++; /* its place and its bytes are taken from here on */
    r->bytes += m->n_bytes;
    r->loading = m;
    r->loaded = false;
    __atomic_store_n(&r->cancel_loading, r->closing, __ATOMIC_RELAXED);
    if (pthread_create(&r->opener, NULL, open_one, r) == 0) return;
    r->loading = NULL;
    r->n_residents--;
    r->bytes -= m->n_bytes;
    st = mlxr_fail(&err, MLXR_E_NOMEM, "model %s: no thread could be started, out of memory", m->name);
    tell_failed(r, &m->key, st, &err);
    resident_free(m);
}

/* What was opened is told to all who wait for it. */
static void end_load(mlxr_residency *r)
{
    mlxr_resident *m = r->loading;
    mlxr_status st = r->load_status;
    mlxr_error err = r->load_error;
    uint64_t last_ticket = r->next_ticket;

    pthread_mutex_unlock(&r->lock);
    pthread_join(r->opener, NULL);
    pthread_mutex_lock(&r->lock);
    r->loading = NULL;
    r->changed = true;
    r->counts.n_loads++;
    if (st == MLXR_OK && r->closing) {
        r->options.close(r->options.ud, m->model);
        st = mlxr_fail(&err, MLXR_E_CANCELLED, "model %s: the server ends", m->name);
    }
    if (st != MLXR_OK) {
        r->counts.n_failed_loads++;
        r->n_residents--;
        r->bytes -= m->n_bytes;
        /* It was given up since nobody waited; who came since then has it opened anew. */
        if (st != MLXR_E_CANCELLED || r->closing) tell_failed(r, &m->key, st, &err);
        resident_free(m);
        return;
    }
    m->context_length = r->options.context ? r->options.context(r->options.ud, m->model)
                                           : m->key.context_length;
    m->keep_ns = r->options.keep_alive_ns;
    m->expires_ns = UINT64_MAX;
    m->n_users = 1; /* this thread, while it tells */
    for (mlxr_resident *x = r->residents; x; x = x->next) {
        if (strcmp(x->key.name, m->key.name) == 0) x->leaving = true; /* an older one has had its time */
        x->yields = false;
    }
    m->next = r->residents;
    r->residents = m;
    tell_all(r, &m->key, m, NULL, last_ticket);
    m->n_users--;
    if (!m->n_users && m->expires_ns == UINT64_MAX && m->keep_ns != MLXR_KEEP_FOREVER)
        m->expires_ns = mlxr_now_ns() + (uint64_t)m->keep_ns; /* nobody was left to use it */
}

/* Those whose model is there: it came for another key's sake, or yields no more. */
static bool tell_ready(mlxr_residency *r)
{
    for (waiter *w = r->first; w; w = w->next) {
        mlxr_resident *m = find(r, &w->key);
        if (!m) continue;
        tell(r, w, m, NULL);
        return true;
    }
    return false;
}

static void wait_until(mlxr_residency *r, uint64_t until_ns)
{
    struct timespec t;
    uint64_t now = mlxr_now_ns(), left = until_ns > now ? until_ns - now : 0;

    if (until_ns == UINT64_MAX) {
        pthread_cond_wait(&r->wake, &r->lock);
        return;
    }
    if (left > 1000000000u) left = 1000000000u; /* looked at again, whatever the clock of day does */
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += (long)left;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&r->wake, &r->lock, &t);
}

/* Those who have waited too long. *next_ns: when the next will have. */
static bool tell_late(mlxr_residency *r, uint64_t *next_ns)
{
    uint64_t now = mlxr_now_ns();

    if (!r->options.wait_ns) return false;
    for (waiter *w = r->first; w; w = w->next) {
        uint64_t until = w->since_ns + r->options.wait_ns;
        if (until <= now) {
            mlxr_error err = {0};
            mlxr_fail(&err, MLXR_E_BUSY, "model %s: was not loaded within %.0f s", w->key.name,
                      (double)r->options.wait_ns / 1e9);
            tell(r, w, NULL, &err);
            return true;
        }
        if (until < *next_ns) *next_ns = until;
    }
    return false;
}

static void *run(void *ud)
{
    mlxr_residency *r = ud;
    uint64_t next_ns;

    pthread_mutex_lock(&r->lock);
    while (!r->closing) {
        if (r->loading && r->loaded) {
            end_load(r);
            continue;
        }
        if (unload_expired(r, &next_ns) || tell_late(r, &next_ns) || tell_ready(r)) continue;
        if (r->first && !r->loading) {
            begin_load(r, r->first, &next_ns);
            if (r->loading || r->changed || !r->first || r->blocked_ticket != r->first->ticket) continue;
        }
        wait_until(r, next_ns);
    }
    while (r->loading && !r->loaded) pthread_cond_wait(&r->wake, &r->lock);
    if (r->loading) end_load(r);
    while (r->first) {
        mlxr_error err = {0};
        mlxr_fail(&err, MLXR_E_CANCELLED, "model %s: the server ends", r->first->key.name);
        tell(r, r->first, NULL, &err);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the calls ---- */

mlxr_status mlxr_residency_create(mlxr_residency **out, const mlxr_residency_options *options,
                                  mlxr_error *err)
{
    mlxr_residency *r = calloc(1, sizeof *r);

    *out = NULL;
    if (!r) return mlxr_fail_nomem(err, "residency");
    r->options = *options;
    if (!r->options.max_loaded) r->options.max_loaded = 1;
    if (pthread_mutex_init(&r->lock, NULL) != 0) goto no_lock;
    if (pthread_cond_init(&r->wake, NULL) != 0) goto no_wake;
    if (pthread_create(&r->thread, NULL, run, r) != 0) goto no_thread;
    *out = r;
    return MLXR_OK;
no_thread:
    pthread_cond_destroy(&r->wake);
no_wake:
    pthread_mutex_destroy(&r->lock);
no_lock:
    free(r);
    return mlxr_fail_nomem(err, "residency");
}

void mlxr_residency_free(mlxr_residency *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    __atomic_store_n(&r->cancel_loading, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    while (r->residents) {
        mlxr_resident *m = r->residents;
        r->residents = m->next;
        r->options.close(r->options.ud, m->model);
        resident_free(m);
    }
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

mlxr_status mlxr_residency_acquire(mlxr_residency *r, const mlxr_resident_key *key, mlxr_on_ready on_ready,
                                   void *ud, uint64_t *ticket, mlxr_error *err)
{
    waiter *w = NULL;
    mlxr_resident *m;
    mlxr_status st = MLXR_OK;

    if (ticket) *ticket = 0;
    pthread_mutex_lock(&r->lock);
    if (r->closing) {
        st = mlxr_fail(err, MLXR_E_CANCELLED, "model %s: the server ends", key->name);
    } else if ((m = find(r, key)) != NULL) {
        m->n_users++;
        pthread_mutex_unlock(&r->lock);
        on_ready(ud, m, 0, NULL);
        return MLXR_OK;
    } else if (r->n_waiting >= r->options.max_waiting) {
        st = mlxr_fail(err, MLXR_E_BUSY, "model %s: %zu requests wait already", key->name, r->n_waiting);
    } else if (!(w = calloc(1, sizeof *w)) || !key_copy(&w->key, &w->name, &w->path, &w->digest, key)) {
        st = mlxr_fail_nomem(err, "model");
    } else {
        w->on_ready = on_ready;
        w->ud = ud;
        w->since_ns = mlxr_now_ns();
        w->ticket = ++r->next_ticket;
        if (ticket) *ticket = w->ticket;
        if (r->last)
            r->last->next = w;
        else
            r->first = w;
        r->last = w;
        r->n_waiting++;
        w = NULL;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    waiter_free(w);
    return st;
}

bool mlxr_residency_forget(mlxr_residency *r, uint64_t ticket)
{
    waiter *w;

    pthread_mutex_lock(&r->lock);
    for (w = r->first; w && w->ticket != ticket; w = w->next) {
    }
    if (w) {
        unlink_waiter(r, w);
        if (r->loading && key_same(&r->loading->key, &w->key) && !somebody_waits_for(r, &w->key))
            __atomic_store_n(&r->cancel_loading, 1, __ATOMIC_RELAXED);
        r->changed = true;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    waiter_free(w);
    return w != NULL;
}

void mlxr_resident_release(mlxr_resident *m, int64_t keep_alive_ns)
{
    mlxr_residency *r = m->owner;

    pthread_mutex_lock(&r->lock);
    if (keep_alive_ns == MLXR_KEEP_DEFAULT) keep_alive_ns = r->options.keep_alive_ns;
    m->keep_ns = keep_alive_ns < 0 ? MLXR_KEEP_FOREVER : keep_alive_ns;
    m->expires_ns = m->keep_ns == MLXR_KEEP_FOREVER ? UINT64_MAX : mlxr_now_ns() + (uint64_t)m->keep_ns;
    m->n_users--;
    r->changed = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

void mlxr_resident_keep(mlxr_resident *m, int64_t keep_alive_ns)
{
    mlxr_residency *r = m->owner;

    pthread_mutex_lock(&r->lock);
    if (keep_alive_ns == MLXR_KEEP_DEFAULT) keep_alive_ns = r->options.keep_alive_ns;
    m->keep_ns = keep_alive_ns < 0 ? MLXR_KEEP_FOREVER : keep_alive_ns;
    pthread_mutex_unlock(&r->lock);
}

void *mlxr_resident_model(const mlxr_resident *m)
{
    return m->model;
}

const mlxr_resident_key *mlxr_resident_get_key(const mlxr_resident *m)
{
    return &m->key;
}

size_t mlxr_residency_unload(mlxr_residency *r, const char *name)
{
    size_t n = 0;

    pthread_mutex_lock(&r->lock);
    for (mlxr_resident *m = r->residents; m; m = m->next) {
        if (m->leaving || strcmp(m->key.name, name) != 0) continue;
        m->leaving = true;
        n++;
    }
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    return n;
}

void mlxr_resident_infos_free(mlxr_resident_info *infos, size_t n)
{
    if (!infos) return;
    for (size_t i = 0; i < n; i++) {
        free(infos[i].name);
        free(infos[i].digest);
    }
    free(infos);
}

static int by_remaining(const void *a, const void *b)
{
    int64_t x = ((const mlxr_resident_info *)a)->expires_ns, y = ((const mlxr_resident_info *)b)->expires_ns;
    return x < y ? 1 : x > y ? -1 : 0;
}

mlxr_status mlxr_residency_list(mlxr_resident_info **out, size_t *out_n, mlxr_residency *r, mlxr_error *err)
{
    mlxr_resident_info *infos;
    size_t n = 0;
    bool failed = false;
    uint64_t now = mlxr_now_ns();

    *out = NULL;
    *out_n = 0;
    pthread_mutex_lock(&r->lock);
    infos = mlxr_calloc_array(r->n_residents, sizeof *infos);
    for (mlxr_resident *m = r->residents; m && infos; m = m->next) {
        mlxr_resident_info *i = &infos[n];
        if (m->leaving && !m->n_users) continue;
        n++;
        i->name = mlxr_strdup(m->key.name);
        i->digest = mlxr_strdup(m->key.digest);
        failed |= !i->name || !i->digest;
        i->n_bytes = m->n_bytes;
        i->context_length = m->context_length;
        i->n_users = m->n_users;
        i->model = m->model;
        if (m->keep_ns == MLXR_KEEP_FOREVER)
            i->expires_ns = MLXR_KEEP_FOREVER;
        else if (m->n_users)
            i->expires_ns = m->keep_ns;
        else
            i->expires_ns = m->expires_ns > now ? (int64_t)(m->expires_ns - now) : 0;
    }
    pthread_mutex_unlock(&r->lock);
    if (!infos || failed) {
        mlxr_resident_infos_free(infos, n);
        return mlxr_fail_nomem(err, "models");
    }
    if (n > 1) qsort(infos, n, sizeof *infos, by_remaining);
    *out = infos;
    *out_n = n;
    return MLXR_OK;
}

void mlxr_residency_each(mlxr_residency *r, void (*visit)(void *ud, const mlxr_resident_info *info), void *ud)
{
    pthread_mutex_lock(&r->lock);
    for (mlxr_resident *m = r->residents; m; m = m->next) {
        mlxr_resident_info info = {.name = (char *)(uintptr_t)m->key.name,
                                   .digest = (char *)(uintptr_t)m->key.digest,
                                   .n_bytes = m->n_bytes,
                                   .context_length = m->context_length,
                                   .n_users = m->n_users,
                                   .model = m->model};
        if (!m->leaving || m->n_users) visit(ud, &info);
    }
    pthread_mutex_unlock(&r->lock);
}

mlxr_residency_counts mlxr_residency_count(mlxr_residency *r)
{
    mlxr_residency_counts c;

    pthread_mutex_lock(&r->lock);
    c = r->counts;
    c.n_loaded = r->n_residents;
    c.n_waiting = r->n_waiting;
    c.bytes = r->bytes;
    pthread_mutex_unlock(&r->lock);
    return c;
}
