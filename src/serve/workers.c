/* workers: see workers.h. */
#include "serve/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { IDLE_SECONDS = 10 };

typedef struct task {
    struct task *next;
    void (*fn)(void *ud);
    void *ud;
} task;

struct mlxr_workers {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;  /* a task, or the end */
    pthread_cond_t gone;  /* a thread ended */
    size_t max_threads, n_threads, n_idle;
    task *first, *last;
    size_t n_tasks; /* not begun */
    bool closing;
    bool has_ended; /* a thread that nobody has joined yet; it joins the one that ended before it */
    pthread_t ended;
};

mlxr_status mlxr_workers_create(mlxr_workers **out, size_t max_threads, mlxr_error *err)
{
    mlxr_workers *w = calloc(1, sizeof *w);

    *out = NULL;
    if (!w) return mlxr_fail_nomem(err, "workers");
    w->max_threads = max_threads ? max_threads : 1;
    if (pthread_mutex_init(&w->lock, NULL) != 0) goto no_lock;
    if (pthread_cond_init(&w->wake, NULL) != 0) goto no_wake;
    if (pthread_cond_init(&w->gone, NULL) != 0) goto no_gone;
    *out = w;
    return MLXR_OK;
no_gone:
    pthread_cond_destroy(&w->wake);
no_wake:
    pthread_mutex_destroy(&w->lock);
no_lock:
    free(w);
    return mlxr_fail_nomem(err, "workers");
}

static void *run(void *ud)
{
    mlxr_workers *w = ud;
    pthread_t before;
    bool is_first;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        task *t = w->first;
        if (t) {
            w->first = t->next;
            if (!w->first) w->last = NULL;
            w->n_tasks--;
            pthread_mutex_unlock(&w->lock);
            t->fn(t->ud);
            free(t);
            pthread_mutex_lock(&w->lock);
        } else if (w->closing) {
            break;
        } else {
            struct timespec until;
            int late;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_sec += IDLE_SECONDS;
            w->n_idle++;
            late = pthread_cond_timedwait(&w->wake, &w->lock, &until) == ETIMEDOUT;
            w->n_idle--;
            if (late && !w->first) break;
        }
    }
    before = w->ended;
    is_first = !w->has_ended;
    w->ended = pthread_self();
    w->has_ended = true;
    w->n_threads--;
    pthread_cond_broadcast(&w->gone);
    pthread_mutex_unlock(&w->lock);
    if (!is_first) pthread_join(before, NULL);
    return NULL;
}

bool mlxr_workers_post(mlxr_workers *w, void (*fn)(void *ud), void *ud)
{
    task *t = calloc(1, sizeof *t);
    bool ok = true;

    if (!t) return false;
    t->fn = fn;
    t->ud = ud;
    pthread_mutex_lock(&w->lock);
    if (w->n_idle <= w->n_tasks && w->n_threads < w->max_threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, w) == 0) w->n_threads++;
    }
    ok = w->n_threads > 0;
    if (ok) {
        if (w->last)
            w->last->next = t;
        else
            w->first = t;
        w->last = t;
        w->n_tasks++;
        t = NULL;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    free(t);
    return ok;
}

void mlxr_workers_free(mlxr_workers *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->wake);
    while (w->n_threads > 0) pthread_cond_wait(&w->gone, &w->lock);
    pthread_mutex_unlock(&w->lock);
    /* Not only their work: what libraries keep for each thread goes with it. */
    if (w->has_ended) pthread_join(w->ended, NULL);
    pthread_cond_destroy(&w->gone);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
