/* native_models: GET /, /api/version, /api/status, /api/health, /api/tags, /api/ps; POST /api/copy; DELETE /api/delete; and the table of all
 * endpoints about models. What reads or changes the store runs on a worker. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "serve/native_store.h"
#include "store/keep.h"

/* ---- what needs nothing ---- */

void mlxr_native_root(mlxr_request_in *http, void *ud)
{
    mlxr_reply_text(http, 200, "text/plain; charset=utf-8", "Ollama is running");
}

void mlxr_native_version(mlxr_request_in *http, void *ud)
{
    mlxr_buf out = {0};

    /* Clients compare it with Ollama's; ours stands beside it. */
    mlxr_buf_printf(&out, "{\"version\":\"0.14.0\",\"mlxr\":\"%s\"}", mlxr_version());
    mlxr_serve_answer(http, &out);
}

void mlxr_native_status(mlxr_request_in *http, void *ud)
{
    mlxr_reply_text(http, 200, "application/json; charset=utf-8",
                    "{\"cloud\":{\"disabled\":true,\"source\":\"config\"}}");
}

void mlxr_native_health(mlxr_request_in *http, void *ud)
{
    mlxr_serve *s = ud;
    mlxr_residency_counts c = mlxr_residency_count(s->residency);
    mlxr_buf out = {0};

    mlxr_buf_printf(&out, "{\"status\":\"ok\",\"version\":\"%s\",\"loaded\":%zu,\"queue\":%zu}",
                    mlxr_version(), c.n_loaded, c.n_waiting);
    mlxr_serve_answer(http, &out);
}

/* ---- lists ---- */

static void tags(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_shelf_model *models = NULL;
    size_t n = 0;
    mlxr_error err = {0};
    mlxr_buf out = {0};
    mlxr_status st = mlxr_shelf_list(&models, &n, s->shelf, &err);

    if (st != MLXR_OK) {
        mlxr_native_fail(http, mlxr_serve_http_status(st), err.message);
        return;
    }
    mlxr_buf_str(&out, "{\"models\":[");
    for (size_t i = 0; i < n; i++) {
        const mlxr_shelf_model *m = &models[i];
        mlxr_buf_str(&out, i ? ",{\"name\":" : "{\"name\":");
        mlxr_native_put_name(&out, &m->name);
        mlxr_buf_str(&out, ",\"model\":");
        mlxr_native_put_name(&out, &m->name);
        mlxr_buf_str(&out, ",\"modified_at\":");
        mlxr_native_put_local_time(&out, m->modified_ns);
        mlxr_buf_printf(&out,
                        ",\"size\":%llu,\"digest\":\"%s\",\"details\":", (unsigned long long)m->facts.n_bytes,
                        m->facts.digest + 7);
        mlxr_native_put_details(&out, &m->facts);
        mlxr_native_put_capabilities(&out, m->facts.capabilities);
        mlxr_buf_char(&out, '}');
    }
    mlxr_buf_str(&out, "]}");
    free(models);
    mlxr_serve_answer(http, &out);
}

void mlxr_native_tags(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, tags);
}

/* What is known of a loaded model; one that has lost its name since is known by its digest. */
static void facts_of(mlxr_model_facts *f, mlxr_serve *s, const mlxr_resident_info *r)
{
    mlxr_shelf_model m;

    *f = (mlxr_model_facts){.context_length = r->context_length};
    if (r->digest && *r->digest) {
        snprintf(f->digest, sizeof f->digest, "%s", r->digest);
        if (mlxr_shelf_recall(f, s->shelf, r->digest)) return;
    }
    if (s->mock) {
        snprintf(f->family, sizeof f->family, "mock");
        return;
    }
    if (mlxr_shelf_find(&m, NULL, s->shelf, r->name, NULL) == MLXR_OK &&
        (!f->digest[0] || strcmp(f->digest, m.facts.digest) == 0))
        *f = m.facts;
}

/* The context of engines, which they know once they are open. */
struct contexts {
    mlxr_resident_info *infos;
    size_t n;
};

static void visit_context(void *ud, const mlxr_resident_info *r)
{
    struct contexts *c = ud;

    for (size_t i = 0; i < c->n && r->model; i++)
        if (strcmp(c->infos[i].name, r->name) == 0 && strcmp(c->infos[i].digest, r->digest) == 0 &&
            c->infos[i].model == r->model)
            c->infos[i].context_length = mlxr_served_context(r->model);
}

static void put_loaded(mlxr_buf *out, mlxr_serve *s, const mlxr_resident_info *r)
{
    /* "For ever" is a date that clients can still read. */
    int64_t left = r->expires_ns == MLXR_KEEP_FOREVER ? (int64_t)292 * 365 * 86400
                                                      : r->expires_ns / 1000000000;
    mlxr_model_facts facts;
    uint64_t n_bytes;
    const char *digest;

    facts_of(&facts, s, r);
    /* Weights lie in the mapped files: what no plan has counted takes their size. */
    n_bytes = r->n_bytes ? r->n_bytes : facts.n_bytes;
    digest = strncmp(facts.digest, "sha256:", 7) == 0 ? facts.digest + 7 : facts.digest;
    mlxr_buf_str(out, "{\"name\":");
    mlxr_put_string(out, r->name);
    mlxr_buf_str(out, ",\"model\":");
    mlxr_put_string(out, r->name);
    mlxr_buf_printf(out, ",\"size\":%llu,\"digest\":", (unsigned long long)n_bytes);
    mlxr_put_string(out, digest);
    mlxr_buf_str(out, ",\"details\":");
    mlxr_native_put_details(out, &facts);
    mlxr_buf_str(out, ",\"expires_at\":\"");
    mlxr_put_seconds(out, (int64_t)time(NULL) + left);
    mlxr_buf_printf(out, "\",\"size_vram\":0,\"context_length\":%zu,\"requests\":%zu}", r->context_length,
                    r->n_users);
}

static void ps(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_resident_info *infos;
    size_t n;
    mlxr_error err = {0};
    mlxr_buf out = {0};

    if (mlxr_residency_list(&infos, &n, s->residency, &err) != MLXR_OK) {
        mlxr_native_fail(http, 500, err.message);
        return;
    }
    mlxr_residency_each(s->residency, visit_context, &(struct contexts){infos, n});
    mlxr_buf_str(&out, "{\"models\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) mlxr_buf_char(&out, ',');
        put_loaded(&out, s, &infos[i]);
    }
    mlxr_buf_str(&out, "]}");
    mlxr_resident_infos_free(infos, n);
    mlxr_serve_answer(http, &out);
}

void mlxr_native_ps(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, ps);
}

/* ---- changes ---- */

struct change {
    const char *model, *name, *source, *destination;
};

static const mlxr_field copy_fields[] = {
    {.name = "source",
     .types = MLXR_FIELD_STRING,
     .offset = offsetof(struct change, source),
     .help = "name of a model of the store"},
    {.name = "destination",
     .types = MLXR_FIELD_STRING,
     .offset = offsetof(struct change, destination),
     .help = "the name it gets besides"},
};
static const mlxr_fields copy_table = {copy_fields, MLXR_COUNT(copy_fields), "request"};

static const mlxr_field delete_fields[] = {
    {.name = "model",
     .types = MLXR_FIELD_STRING,
     .offset = offsetof(struct change, model),
     .help = "name of a model of the store"},
    {.name = "name",
     .types = MLXR_FIELD_STRING,
     .offset = offsetof(struct change, name),
     .help = "the same under its old name"},
};
static const mlxr_fields delete_table = {delete_fields, MLXR_COUNT(delete_fields), "request"};

static void fail_with_name(mlxr_request_in *http, int status, const char *what, const char *name,
                           const char *is)
{
    mlxr_error text = {0};

    mlxr_fail(&text, MLXR_OK, "%s \"%.300s\" %s", what, name, is);
    mlxr_native_fail(http, status, text.message);
}

/* Nothing is in these answers; what was passed over stands in a header. */
static void answer_nothing(mlxr_request_in *http, const json_t *warnings)
{
    mlxr_buf none = {0};

    for (size_t i = 0; i < json_array_size(warnings) && i < 4; i++)
        mlxr_reply_header(http, "X-Mlxr-Warning", json_string_value(json_array_get(warnings, i)));
    mlxr_reply(http, 200, NULL, &none);
}

static void copy(mlxr_serve *s, mlxr_request_in *http)
{
    struct change c = {0};
    json_t *body, *warnings;
    mlxr_name name;
    mlxr_error err = {0};
    mlxr_status st;

    if (!mlxr_native_read(&body, &warnings, &c, s, http, &copy_table)) return;
    if (!c.source) c.source = "";
    if (!c.destination) c.destination = "";
    if (mlxr_name_parse(&name, c.source, NULL) != MLXR_OK && strncmp(c.source, "sha256:", 7) != 0)
        fail_with_name(http, 400, "source", c.source, "is invalid");
    else if (mlxr_name_parse(&name, c.destination, NULL) != MLXR_OK)
        fail_with_name(http, 400, "destination", c.destination, "is invalid");
    else if (!s->store)
        fail_with_name(http, 404, "model", c.source, "not found");
    else if ((st = mlxr_store_copy(s->store, c.source, c.destination, &err)) == MLXR_E_NOT_FOUND)
        fail_with_name(http, 404, "model", c.source, "not found");
    else if (st != MLXR_OK)
        mlxr_native_fail(http, mlxr_serve_http_status(st), err.message);
    else
        answer_nothing(http, warnings);
    json_decref(body);
    json_decref(warnings);
}

void mlxr_native_copy(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, copy);
}

/* Who uses it now goes on, its files being open; then it is put down. */
static void unload(mlxr_serve *s, const char *given, const mlxr_name *name)
{
    mlxr_buf text = {0};

    mlxr_name_display(&text, name);
    mlxr_residency_unload(s->residency, given);
    if (!text.failed && strcmp(text.data, given) != 0) mlxr_residency_unload(s->residency, text.data);
    mlxr_buf_clear(&text);
}

static void delete_model(mlxr_serve *s, mlxr_request_in *http)
{
    struct change c = {0};
    json_t *body, *warnings;
    const char *name;
    mlxr_name spelled;
    mlxr_error err = {0};
    mlxr_status st = MLXR_E_NOT_FOUND;

    if (!mlxr_native_read(&body, &warnings, &c, s, http, &delete_table)) return;
    if ((name = mlxr_native_model_of(s, http, c.model, c.name, true)) == NULL) goto done;
    if (s->store && (st = mlxr_store_resolve(&spelled, s->store, name, &err)) == MLXR_OK)
        st = mlxr_store_remove(s->store, name, NULL, &err);
    if (st != MLXR_OK) {
        mlxr_native_model_fail(http, st, name, &err);
        goto done;
    }
    unload(s, name, &spelled);
    answer_nothing(http, warnings);
done:
    json_decref(body);
    json_decref(warnings);
}

void mlxr_native_delete(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, delete_model);
}

static const mlxr_endpoint endpoints[] = {
    {.method = "GET",
     .path = "/",
     .summary = "That it runs",
     .handler = mlxr_native_root,
     .content_type = "text/plain"},
    {.method = "HEAD", .path = "/", .handler = mlxr_native_root, .hidden = true},
    {.method = "GET",
     .path = "/api/version",
     .summary = "Its version",
     .handler = mlxr_native_version,
     .answer = "Version"},
    {.method = "HEAD", .path = "/api/version", .handler = mlxr_native_version, .hidden = true},
    {.method = "GET",
     .path = "/api/status",
     .summary = "Whether there is a cloud",
     .handler = mlxr_native_status,
     .answer = "Status"},
    {.method = "GET",
     .path = "/api/health",
     .summary = "Whether it is well",
     .handler = mlxr_native_health,
     .answer = "Health"},
    {.method = "GET",
     .path = "/api/tags",
     .summary = "The models of the store",
     .handler = mlxr_native_tags,
     .answer = "Tags"},
    {.method = "HEAD", .path = "/api/tags", .handler = mlxr_native_tags, .hidden = true},
    {.method = "GET",
     .path = "/api/ps",
     .summary = "The models that are loaded",
     .handler = mlxr_native_ps,
     .answer = "Ps"},
    {.method = "POST",
     .path = "/api/show",
     .summary = "What a model is, without loading it",
     .handler = mlxr_native_show,
     .fields = &mlxr_native_show_fields,
     .answer = "Show"},
    {.method = "POST",
     .path = "/api/copy",
     .summary = "Give a model a second name",
     .handler = mlxr_native_copy,
     .fields = &copy_table},
    {.method = "DELETE",
     .path = "/api/delete",
     .summary = "Take a name away, and the files that no other model has",
     .handler = mlxr_native_delete,
     .fields = &delete_table},
    {.method = "HEAD",
     .path = "/api/blobs/",
     .summary = "Whether a file is there",
     .handler = mlxr_native_blob_head,
     .tail = "digest"},
    {.method = "POST",
     .path = "/api/blobs/",
     .summary = "Upload a file for a create",
     .handler = mlxr_native_blob_post,
     .tail = "digest",
     .max_body = (size_t)1 << 46,
     .body = mlxr_native_blob_body},
    {.method = "POST",
     .path = "/api/create",
     .summary = "Make a model of another, or of uploaded files",
     .handler = mlxr_native_create,
     .fields = &mlxr_native_create_fields,
     .answer = "Progress",
     .line = "ProgressLine"},
    {.method = "POST",
     .path = "/api/pull",
     .summary = "Bring a model from a hub or a registry",
     .handler = mlxr_native_pull,
     .fields = &mlxr_native_pull_fields,
     .answer = "Progress",
     .line = "ProgressLine"},
    {.method = "POST",
     .path = "/api/push",
     .summary = "Send a model to a registry",
     .handler = mlxr_native_push,
     .fields = &mlxr_native_push_fields,
     .answer = "Progress",
     .line = "ProgressLine"},
    {.method = "POST",
     .path = "/api/verify",
     .summary = "Check models of the store, and repair them",
     .handler = mlxr_native_verify,
     .fields = &mlxr_native_verify_fields,
     .answer = "Verified",
     .line = "VerifiedLine"},
};
const mlxr_endpoints mlxr_native_model_endpoints = {endpoints, MLXR_COUNT(endpoints)};
