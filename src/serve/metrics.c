/* metrics: see metrics.h. Counters are kept here, gauges are asked for when somebody reads. */
#include "serve/metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "serve/serve.h"

enum { MAX_SERIES = 1024, MAX_BOUNDS = 20, MAX_ENDPOINTS = 128 };

static const double duration_bounds[] = {.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300};
static const double first_bounds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60};
static const double gap_bounds[] = MLXR_RECORD_GAP_BOUNDS;

struct histogram {
    uint64_t counts[MAX_BOUNDS + 1]; /* by bucket; the last is above all bounds */
    double sum;
};

/* Requests of an endpoint that ended with a status. Texts are constants. */
struct series {
    const char *endpoint, *method;
    int status;
    uint64_t n;
};

struct endpoint {
    const char *path;
    struct histogram duration;
};

struct model {
    char name[160];
    uint64_t n_answers, n_prompt, n_cached, n_generated, n_dropped;
    double queue_seconds, load_seconds, prefill_seconds, decode_seconds;
    struct histogram first, gaps;
};

struct mlxr_metrics {
    pthread_mutex_t lock; /* guards all */
    struct series series[MAX_SERIES];
    size_t n_series;
    struct endpoint endpoints[MAX_ENDPOINTS]; /* the last is for those without room */
    size_t n_endpoints;
    struct model models[MLXR_METRICS_MODELS + 1]; /* the last is "other" */
    size_t n_models;
    bool has_other;
    uint64_t n_bytes, n_left;
};

mlxr_status mlxr_metrics_create(mlxr_metrics **out, mlxr_error *err)
{
    mlxr_metrics *m = calloc(1, sizeof *m);

    *out = NULL;
    if (!m || pthread_mutex_init(&m->lock, NULL) != 0) {
        free(m);
        return mlxr_fail_nomem(err, "metrics");
    }
    *out = m;
    return MLXR_OK;
}

void mlxr_metrics_free(mlxr_metrics *m)
{
    if (!m) return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- counting ---- */

static void observe(struct histogram *h, const double *bounds, size_t n, double x)
{
    size_t i = 0;

    while (i < n && x > bounds[i]) i++;
    h->counts[i]++;
    h->sum += x;
}

/* Methods are a client's text: those of HTTP have a label of their own. */
static const char *method_label(const char *method)
{
    static const char *const known[] = {"GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "PATCH"};

    for (size_t i = 0; i < MLXR_COUNT(known); i++)
        if (strcmp(method, known[i]) == 0) return known[i];
    return "other";
}

static struct series *series_of(mlxr_metrics *m, const char *endpoint, const char *method, int status)
{
    struct series *s;

    for (size_t i = 0; i < m->n_series; i++) {
        s = &m->series[i];
        if (s->status == status && s->method == method && strcmp(s->endpoint, endpoint) == 0) return s;
    }
    if (m->n_series == MAX_SERIES) return &m->series[MAX_SERIES - 1];
    s = &m->series[m->n_series++];
    *s = (struct series){endpoint, method, status, 0};
    return s;
}

static struct endpoint *endpoint_of(mlxr_metrics *m, const char *path)
{
    for (size_t i = 0; i < m->n_endpoints; i++)
        if (strcmp(m->endpoints[i].path, path) == 0) return &m->endpoints[i];
    if (m->n_endpoints == MAX_ENDPOINTS) return &m->endpoints[MAX_ENDPOINTS - 1];
    m->endpoints[m->n_endpoints].path = path;
    return &m->endpoints[m->n_endpoints++];
}

static struct model *model_of(mlxr_metrics *m, const char *name)
{
    for (size_t i = 0; i < m->n_models; i++)
        if (strcmp(m->models[i].name, name) == 0) return &m->models[i];
    if (m->n_models < MLXR_METRICS_MODELS) {
        struct model *own = &m->models[m->n_models++];
        size_t n = mlxr_utf8_valid(name, strnlen(name, sizeof own->name - 1));
        memcpy(own->name, name, n);
        own->name[n] = '\0';
        return own;
    }
    m->has_other = true;
    memcpy(m->models[MLXR_METRICS_MODELS].name, "other", 6);
    return &m->models[MLXR_METRICS_MODELS];
}

static void add_answer(struct model *m, const mlxr_record *r)
{
    m->n_answers++;
    m->n_prompt += r->n_prompt_tokens;
    m->n_cached += r->n_cached_tokens;
    m->n_generated += r->n_generated_tokens;
    m->n_dropped += r->n_dropped_tokens;
    m->queue_seconds += (double)r->queue_ns / 1e9;
    m->load_seconds += (double)r->load_ns / 1e9;
    m->prefill_seconds += (double)r->prefill_ns / 1e9;
    m->decode_seconds += (double)r->decode_ns / 1e9;
    if (r->first_token_ns)
        observe(&m->first, first_bounds, MLXR_COUNT(first_bounds), (double)r->first_token_ns / 1e9);
    for (size_t i = 0; i < MLXR_RECORD_GAPS; i++) m->gaps.counts[i] += r->gaps[i];
    m->gaps.sum += (double)r->gaps_ns / 1e9;
}

void mlxr_metrics_add(mlxr_metrics *m, const mlxr_record *r, const char *method, int status, uint64_t n_sent,
                      uint64_t duration_ns, bool complete)
{
    const char *endpoint = r->endpoint ? r->endpoint : "other", *label = method_label(method);

    pthread_mutex_lock(&m->lock);
    series_of(m, endpoint, label, status)->n++;
    observe(&endpoint_of(m, endpoint)->duration, duration_bounds, MLXR_COUNT(duration_bounds),
            (double)duration_ns / 1e9);
    m->n_bytes += n_sent;
    m->n_left += !complete;
    if (r->has_answer && *r->found) add_answer(model_of(m, r->found), r);
    pthread_mutex_unlock(&m->lock);
}

/* ---- writing ---- */

static void head(mlxr_buf *out, const char *name, const char *type, const char *help)
{
    mlxr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline have escapes; other control characters would break lines of some readers. */
static void value(mlxr_buf *out, const char *s)
{
    mlxr_buf_char(out, '"');
    for (size_t i = 0, n = mlxr_utf8_valid(s, strlen(s)); i < n; i++) {
        if (s[i] == '\\' || s[i] == '"') mlxr_buf_char(out, '\\');
        if (s[i] == '\n')
            mlxr_buf_str(out, "\\n");
        else
            mlxr_buf_char(out, (unsigned char)s[i] < ' ' ? '?' : s[i]);
    }
    mlxr_buf_char(out, '"');
}

static void simple(mlxr_buf *out, const char *name, const char *type, const char *help, double x)
{
    head(out, name, type, help);
    mlxr_buf_printf(out, "%s %.17g\n", name, x);
}

/* The series of one histogram; label NULL: none. */
static void histogram(mlxr_buf *out, const char *name, const char *label, const char *of,
                      const struct histogram *h, const double *bounds, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i <= n; i++) {
        sum += h->counts[i];
        mlxr_buf_printf(out, "%s_bucket{%s=", name, label);
        value(out, of);
        if (i < n)
            mlxr_buf_printf(out, ",le=\"%g\"} %llu\n", bounds[i], (unsigned long long)sum);
        else
            mlxr_buf_printf(out, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
    }
    mlxr_buf_printf(out, "%s_sum{%s=", name, label);
    value(out, of);
    mlxr_buf_printf(out, "} %.17g\n%s_count{%s=", h->sum, name, label);
    value(out, of);
    mlxr_buf_printf(out, "} %llu\n", (unsigned long long)sum);
}

static void write_requests(mlxr_buf *out, const mlxr_metrics *m)
{
    head(out, "mlxr_requests_total", "counter", "Requests that were answered, by endpoint and status.");
    for (size_t i = 0; i < m->n_series; i++) {
        const struct series *s = &m->series[i];
        mlxr_buf_str(out, "mlxr_requests_total{endpoint=");
        value(out, s->endpoint);
        mlxr_buf_printf(out, ",method=\"%s\",status=\"%d\"} %llu\n", s->method, s->status,
                        (unsigned long long)s->n);
    }
    head(out, "mlxr_request_duration_seconds", "histogram",
         "From a request's head to the end of its answer.");
    for (size_t i = 0; i < m->n_endpoints; i++)
        histogram(out, "mlxr_request_duration_seconds", "endpoint", m->endpoints[i].path,
                  &m->endpoints[i].duration, duration_bounds, MLXR_COUNT(duration_bounds));
    simple(out, "mlxr_response_bytes_total", "counter", "Bytes of answers that were sent, heads apart.",
           (double)m->n_bytes);
    simple(out, "mlxr_requests_abandoned_total", "counter",
           "Requests whose client left before its answer was whole.", (double)m->n_left);
}

static const struct model *model_at(const mlxr_metrics *m, size_t i)
{
    if (i < m->n_models) return &m->models[i];
    return i == m->n_models && m->has_other ? &m->models[MLXR_METRICS_MODELS] : NULL;
}

static void write_counts(mlxr_buf *out, const mlxr_metrics *m)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } counts[] =
        {
            {"mlxr_answers_total", "Requests that a model answered, or tried to.",
             offsetof(struct model, n_answers)},
            {"mlxr_prompt_tokens_total", "Tokens of prompts, with those that were cached.",
             offsetof(struct model, n_prompt)},
            {"mlxr_prompt_tokens_cached_total", "Tokens of prompts that were not computed again.",
             offsetof(struct model, n_cached)},
            {"mlxr_prompt_tokens_dropped_total", "Tokens of prompts that were cut off to fit the context.",
             offsetof(struct model, n_dropped)},
            {"mlxr_generated_tokens_total", "Tokens of answers.", offsetof(struct model, n_generated)},
        },
      seconds[] = {
          {"mlxr_queue_seconds_total", "Time that requests waited for the engine.",
           offsetof(struct model, queue_seconds)},
          {"mlxr_load_wait_seconds_total", "Time that requests waited for their model to be loaded.",
           offsetof(struct model, load_seconds)},
          {"mlxr_prefill_seconds_total", "Time in which prompts were computed.",
           offsetof(struct model, prefill_seconds)},
          {"mlxr_decode_seconds_total", "Time in which answers were generated.",
           offsetof(struct model, decode_seconds)},
      };
    const struct model *of;

    for (size_t k = 0; k < MLXR_COUNT(counts); k++) {
        head(out, counts[k].name, "counter", counts[k].help);
        for (size_t i = 0; (of = model_at(m, i)) != NULL; i++) {
            mlxr_buf_printf(out, "%s{model=", counts[k].name);
            value(out, of->name);
            mlxr_buf_printf(out, "} %llu\n",
                            (unsigned long long)*(const uint64_t *)((const char *)of + counts[k].offset));
        }
    }
    for (size_t k = 0; k < MLXR_COUNT(seconds); k++) {
        head(out, seconds[k].name, "counter", seconds[k].help);
        for (size_t i = 0; (of = model_at(m, i)) != NULL; i++) {
            double took;
            mlxr_buf_printf(out, "%s{model=", seconds[k].name);
            value(out, of->name);
            memcpy(&took, (const char *)of + seconds[k].offset, sizeof took);
            mlxr_buf_printf(out, "} %.17g\n", took);
        }
    }
    head(out, "mlxr_time_to_first_token_seconds", "histogram", "From a request's head to its first token.");
    for (size_t i = 0; (of = model_at(m, i)) != NULL; i++)
        histogram(out, "mlxr_time_to_first_token_seconds", "model", of->name, &of->first, first_bounds,
                  MLXR_COUNT(first_bounds));
    head(out, "mlxr_time_between_tokens_seconds", "histogram", "From one token of an answer to the next.");
    for (size_t i = 0; (of = model_at(m, i)) != NULL; i++)
        histogram(out, "mlxr_time_between_tokens_seconds", "model", of->name, &of->gaps, gap_bounds,
                  MLXR_COUNT(gap_bounds));
}

/* ---- what is loaded ---- */

/* A model that is loaded, copied while it cannot go away. */
struct loaded {
    char *name;
    size_t context_length, n_users;
    uint64_t n_bytes;
    bool has_engine;
    mlxr_engine_load load;
};

struct loaded_list {
    struct loaded items[64];
    size_t n;
};

static void copy_loaded(void *ud, const mlxr_resident_info *info)
{
    struct loaded_list *list = ud;
    struct loaded *l = &list->items[list->n];
    mlxr_engine *engine = info->model ? mlxr_served_engine(info->model) : NULL;

    if (list->n == MLXR_COUNT(list->items) || !(l->name = mlxr_strdup(info->name))) return;
    l->context_length = info->context_length;
    l->n_users = info->n_users;
    l->n_bytes = info->n_bytes;
    l->has_engine = engine != NULL;
    if (engine) l->load = mlxr_engine_get_load(engine);
    list->n++;
}

/* One context length a series: two of one name must not be the same one. */
static void of_loaded(mlxr_buf *out, const char *name, const struct loaded *l, const char *label,
                      const char *word, double x)
{
    mlxr_buf_printf(out, "%s{model=", name);
    value(out, l->name);
    mlxr_buf_printf(out, ",context=\"%zu\"", l->context_length);
    if (label) mlxr_buf_printf(out, ",%s=\"%s\"", label, word);
    mlxr_buf_printf(out, "} %.17g\n", x);
}

static void write_loaded(mlxr_buf *out, mlxr_serve *s)
{
    mlxr_residency_counts c = mlxr_residency_count(s->residency);
    struct loaded_list *list = calloc(1, sizeof *list);

    if (!list) {
        out->failed = true;
        return;
    }
    mlxr_residency_each(s->residency, copy_loaded, list);
    simple(out, "mlxr_models_loaded", "gauge", "Models that are loaded.", (double)c.n_loaded);
    simple(out, "mlxr_models_memory_bytes", "gauge", "What they take together.", (double)c.bytes);
    simple(out, "mlxr_queue_length", "gauge", "Requests that wait for a model to be loaded.",
           (double)c.n_waiting);
    simple(out, "mlxr_model_loads_total", "counter", "Models that were loaded.", (double)c.n_loads);
    simple(out, "mlxr_model_load_failures_total", "counter", "Loads that failed.", (double)c.n_failed_loads);
    simple(out, "mlxr_model_evictions_total", "counter", "Models that had to make room for another.",
           (double)c.n_evictions);
    head(out, "mlxr_model_memory_bytes", "gauge", "What a loaded model takes.");
    for (size_t i = 0; i < list->n; i++)
        of_loaded(out, "mlxr_model_memory_bytes", &list->items[i], NULL, NULL,
                  (double)list->items[i].n_bytes);
    head(out, "mlxr_model_users", "gauge", "Requests that use a loaded model.");
    for (size_t i = 0; i < list->n; i++)
        of_loaded(out, "mlxr_model_users", &list->items[i], NULL, NULL, (double)list->items[i].n_users);
    head(out, "mlxr_sequences", "gauge", "Answers that a model works at, and that wait in its engine.");
    for (size_t i = 0; i < list->n; i++) {
        const struct loaded *l = &list->items[i];
        if (!l->has_engine) continue;
        of_loaded(out, "mlxr_sequences", l, "state", "running", (double)l->load.n_running);
        of_loaded(out, "mlxr_sequences", l, "state", "waiting", (double)l->load.n_waiting);
    }
    head(
        out, "mlxr_kv_bytes", "gauge",
        "Memory for keys and values: all there is, of answers that run, of prefixes kept from earlier ones.");
    for (size_t i = 0; i < list->n; i++) {
        const struct loaded *l = &list->items[i];
        if (!l->has_engine) continue;
        of_loaded(out, "mlxr_kv_bytes", l, "state", "total", (double)l->load.kv_bytes);
        of_loaded(out, "mlxr_kv_bytes", l, "state", "used", (double)l->load.kv_bytes_used);
        of_loaded(out, "mlxr_kv_bytes", l, "state", "cached", (double)l->load.kv_bytes_cached);
    }
    head(out, "mlxr_engine_steps_total", "counter", "Steps of a loaded model's device.");
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i].has_engine)
            of_loaded(out, "mlxr_engine_steps_total", &list->items[i], NULL, NULL,
                      (double)list->items[i].load.n_steps);
    for (size_t i = 0; i < list->n; i++) free(list->items[i].name);
    free(list);
}

/* ---- the process ---- */

/* Of /proc; false: there is none. */
static bool memory_pages(double *virtual_pages, double *resident_pages)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    return sscanf(text, "%lf %lf", virtual_pages, resident_pages) == 2;
}

static bool count_fds(double *out)
{
    DIR *dir = opendir("/proc/self/fd");

    if (!dir) return false;
    *out = -1; /* that of the folder itself */
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) *out += e->d_name[0] != '.';
    closedir(dir);
    return true;
}

static void write_process(mlxr_buf *out, const mlxr_serve *s)
{
    struct rusage usage;
    struct rlimit limit;
    double virtual_pages, resident_pages, fds, page = (double)sysconf(_SC_PAGESIZE);

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        simple(out, "process_cpu_seconds_total", "counter", "Time of all cores.",
               (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (memory_pages(&virtual_pages, &resident_pages)) {
        simple(out, "process_virtual_memory_bytes", "gauge", "Addresses in use.", virtual_pages * page);
        simple(out, "process_resident_memory_bytes", "gauge", "Memory in use, mapped files with it.",
               resident_pages * page);
    }
    if (count_fds(&fds)) simple(out, "process_open_fds", "gauge", "Open files and sockets.", fds);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        simple(out, "process_max_fds", "gauge", "How many there may be.", (double)limit.rlim_cur);
    simple(out, "process_start_time_seconds", "gauge", "When the server was started, since 1970.",
           (double)s->start_seconds);
}

void mlxr_metrics_write(mlxr_buf *out, mlxr_metrics *m, mlxr_serve *s)
{
    pthread_mutex_lock(&m->lock);
    write_requests(out, m);
    write_counts(out, m);
    pthread_mutex_unlock(&m->lock);
    simple(out, "mlxr_connections", "gauge", "Open connections.", (double)mlxr_server_connections(s->server));
    simple(out, "mlxr_requests_running", "gauge", "Requests that are not answered yet, this one with them.",
           (double)mlxr_server_requests(s->server));
    write_loaded(out, s);
    simple(out, "mlxr_log_lines_lost_total", "counter", "Lines of the log that could not be written.",
           (double)mlxr_journal_lost(s->journal));
    write_process(out, s);
    head(out, "mlxr_build_info", "gauge", "1; what runs.");
    mlxr_buf_str(out, "mlxr_build_info{version=");
    value(out, mlxr_version());
    mlxr_buf_printf(out, "} 1\n");
}
