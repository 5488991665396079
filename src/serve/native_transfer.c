/* native_transfer: POST /api/pull, /api/push and /api/verify: the store's long calls, told line by line. A transfer is stopped when its client
 * leaves; what was fetched stays for the next (store/download.c), and two that want the same file share the work. */
#include <stdio.h>
#include <stdlib.h>

#include "serve/native_store.h"

struct transfer {
    const char *model, *name;
    bool insecure, stream;
    /* verify's */
    bool deep, repair;
};

#define AT(member) offsetof(struct transfer, member)
#define NAME_FIELDS                                                                                \
    {.name = "model", .types = MLXR_FIELD_STRING, .offset = AT(model), .help = "name of a model"}, \
    {                                                                                              \
        .name = "name", .types = MLXR_FIELD_STRING, .offset = AT(name),                            \
        .help = "the same under its old name"                                                      \
    }
#define STREAM_FIELD                                                                          \
    {                                                                                         \
        .name = "stream", .types = MLXR_FIELD_BOOL, .offset = AT(stream), .fallback = "true", \
        .help = "lines of JSON that tell how far it is, or one object at the end"             \
    }
#define REMOTE_FIELDS                                                                                 \
    {.name = "insecure",                                                                              \
     .types = MLXR_FIELD_BOOL,                                                                        \
     .offset = AT(insecure),                                                                          \
     .fallback = "false",                                                                             \
     .help = "plain HTTP, or TLS without checking"},                                                  \
        {.name = "username",                                                                          \
         .types = MLXR_FIELD_STRING,                                                                  \
         .use = MLXR_FIELD_REFUSED,                                                                   \
         .neutral = "\"\"",                                                                           \
         .help = "who the daemon is to a registry its own options say"},                              \
    {                                                                                                 \
        .name = "password", .types = MLXR_FIELD_STRING, .use = MLXR_FIELD_REFUSED, .neutral = "\"\"", \
        .help = "who the daemon is to a registry its own options say"                                 \
    }

static const mlxr_field transfer_fields[] = {NAME_FIELDS, STREAM_FIELD, REMOTE_FIELDS};
static const mlxr_field verify_fields[] = {
    {.name = "model",
     .types = MLXR_FIELD_STRING,
     .offset = AT(model),
     .help = "name of a model; absent: all models"},
    {.name = "name", .types = MLXR_FIELD_STRING, .offset = AT(name), .help = "the same under its old name"},
    {.name = "deep",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(deep),
     .fallback = "false",
     .help = "read every byte; else sizes, headers and offsets"},
    {.name = "repair",
     .types = MLXR_FIELD_BOOL,
     .offset = AT(repair),
     .fallback = "false",
     .help = "bring what is bad again from where the model came from"},
    STREAM_FIELD,
};
const mlxr_fields mlxr_native_pull_fields = {transfer_fields, MLXR_COUNT(transfer_fields), "request"};
const mlxr_fields mlxr_native_push_fields = {transfer_fields, MLXR_COUNT(transfer_fields), "request"};
const mlxr_fields mlxr_native_verify_fields = {verify_fields, MLXR_COUNT(verify_fields), "request"};

/* ---- lines ---- */

static void put_counts(mlxr_buf *out, uint64_t total, uint64_t done)
{
    if (total) mlxr_buf_printf(out, ",\"total\":%llu", (unsigned long long)total);
    if (done) mlxr_buf_printf(out, ",\"completed\":%llu", (unsigned long long)done);
}

/* One bar for the whole model, under the digest that Ollama's clients know from its own safetensors models; beside it the file that
 * moves. ud: "pulling" or "pushing". */
static bool put_transfer(mlxr_native_job *job, mlxr_buf *out, const mlxr_store_step *step)
{
    const char *verb = job->ud;

    if (strcmp(step->what, verb) == 0) {
        mlxr_buf_printf(out, "\"status\":\"%s model\",\"digest\":\"sha256:model\"", verb);
        put_counts(out, step->total_all, step->done_all);
    } else if (strcmp(step->what, "hashing") == 0) {
        mlxr_buf_str(out, "\"status\":\"verifying sha256 digest\"");
    } else {
        mlxr_buf_str(out, "\"status\":");
        mlxr_put_string(out, step->what);
        put_counts(out, step->total_all, step->done_all);
    }
    if (step->item) {
        mlxr_put_text_member(out, "file", step->item);
        mlxr_put_count_member(out, "file_total", step->total);
        mlxr_put_count_member(out, "file_completed", step->done);
    }
    return true;
}

static bool put_verify(mlxr_native_job *job, mlxr_buf *out, const mlxr_store_step *step)
{
    mlxr_buf_str(out, "\"status\":");
    mlxr_put_string(out, step->what);
    put_counts(out, step->total_all, step->done_all);
    mlxr_put_text_member(out, "file", step->item);
    return true;
}

/* ---- pull, push ---- */

static void transfer(mlxr_serve *s, mlxr_request_in *http, bool push)
{
    struct transfer t = {.stream = true};
    mlxr_native_job job = {.step = put_transfer, .ud = push ? "pushing" : "pulling"};
    mlxr_remote_options remote = s->options.remote;
    json_t *body, *warnings;
    mlxr_transfer done = {0};
    mlxr_manifest m;
    mlxr_error err = {0};
    mlxr_buf members = {0};
    const char *name;
    mlxr_status st = MLXR_OK;

    if (!mlxr_native_read(&body, &warnings, &t, s, http,
                          push ? &mlxr_native_push_fields : &mlxr_native_pull_fields))
        return;
    if ((name = mlxr_native_model_of(s, http, t.model, t.name, false)) == NULL) goto done;
    if (!s->store) {
        mlxr_native_fail(http, 400, "there is no store");
        goto done;
    }
    if (push && (st = mlxr_store_find(&m, NULL, s->store, name, &err)) != MLXR_OK) {
        mlxr_native_model_fail(http, st, name, &err);
        goto done;
    }
    if (push) mlxr_manifest_clear(&m);
    remote.insecure |= t.insecure;
    mlxr_native_job_begin(&job, s, http, t.stream, warnings);
    warnings = NULL;
    mlxr_native_job_status(&job, push ? "retrieving manifest" : "pulling manifest");
    st = push ? mlxr_store_push(&done, s->store, name, NULL, &remote, &job.store, &err)
              : mlxr_store_pull(&done, s->store, name, NULL, &remote, &job.store, &err);
    if (st == MLXR_OK && push) {
        mlxr_native_job_status(&job, "pushing manifest");
    } else if (st == MLXR_OK) {
        mlxr_native_job_status(&job, "verifying sha256 digest");
        mlxr_native_job_status(&job, "writing manifest");
    }
    mlxr_put_text_member(&members, "manifest", done.digest);
    mlxr_buf_printf(&members, ",\"total_bytes\":%llu,\"moved_bytes\":%llu,\"present_bytes\":%llu",
                    (unsigned long long)done.total_bytes, (unsigned long long)done.moved_bytes,
                    (unsigned long long)done.present_bytes);
    mlxr_native_job_end(&job, st, &err, members.failed ? NULL : members.data);
    mlxr_buf_clear(&members);
done:
    json_decref(body);
    json_decref(warnings);
}

static void pull(mlxr_serve *s, mlxr_request_in *http)
{
    transfer(s, http, false);
}

static void push(mlxr_serve *s, mlxr_request_in *http)
{
    transfer(s, http, true);
}

void mlxr_native_pull(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, pull);
}

void mlxr_native_push(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, push);
}

/* ---- verify ---- */

struct verifying {
    mlxr_native_job *job;
    mlxr_buf all; /* of an answer that is no stream */
};

static void put_finding(mlxr_buf *out, const char *name, const char *file, const char *tensor,
                        const char *text, bool repaired)
{
    mlxr_buf_str(out, "{\"model\":");
    mlxr_put_string(out, name);
    mlxr_put_text_member(out, "file", file);
    mlxr_put_text_member(out, "tensor", tensor);
    mlxr_put_text_member(out, "text", text);
    mlxr_buf_printf(out, ",\"repaired\":%s}", repaired ? "true" : "false");
}

static void on_finding(const char *name, const char *file, const char *tensor, const char *text,
                       bool repaired, void *ud)
{
    struct verifying *v = ud;

    if (v->job->stream) {
        v->job->line.len = 0;
        mlxr_buf_str(&v->job->line, "{\"status\":\"finding\",\"finding\":");
        put_finding(&v->job->line, name, file, tensor, text, repaired);
        mlxr_buf_char(&v->job->line, '}');
        mlxr_native_job_push(v->job);
        return;
    }
    if (v->all.len) mlxr_buf_char(&v->all, ',');
    put_finding(&v->all, name, file, tensor, text, repaired);
}

static void put_verified(mlxr_buf *out, const struct verifying *v, const mlxr_store_verify_result *r)
{
    mlxr_buf_printf(out,
                    ",\"models\":%zu,\"files\":%zu,\"read_bytes\":%llu,\"fetched_bytes\":%llu,\"bad\":%zu,"
                    "\"repaired\":%zu",
                    r->n_models, r->n_files, (unsigned long long)r->read_bytes,
                    (unsigned long long)r->fetched_bytes, r->n_bad, r->n_repaired);
    if (v->job->stream) return;
    mlxr_buf_str(out, ",\"findings\":[");
    mlxr_buf_append(out, v->all.data ? v->all.data : "", v->all.len);
    mlxr_buf_char(out, ']');
    out->failed |= v->all.failed;
}

static void verify(mlxr_serve *s, mlxr_request_in *http)
{
    struct transfer t = {.stream = true};
    mlxr_native_job job = {.step = put_verify};
    struct verifying v = {.job = &job};
    mlxr_store_verify_options o = mlxr_store_verify_options_default();
    mlxr_store_verify_result result = {0};
    json_t *body, *warnings;
    mlxr_manifest m = {0};
    mlxr_error err = {0};
    mlxr_buf members = {0};
    const char *name = NULL;
    mlxr_status st;

    if (!mlxr_native_read(&body, &warnings, &t, s, http, &mlxr_native_verify_fields)) return;
    if ((t.model && *t.model) || (t.name && *t.name)) {
        if ((name = mlxr_native_model_of(s, http, t.model, t.name, true)) == NULL) goto done;
        st = s->store ? mlxr_store_find(&m, NULL, s->store, name, &err) : MLXR_E_NOT_FOUND;
        mlxr_manifest_clear(&m);
        /* One whose manifest is broken is there, and what verify is for. */
        if (st == MLXR_E_NOT_FOUND || st == MLXR_E_INVALID_ARGUMENT) {
            mlxr_native_model_fail(http, st, name, &err);
            goto done;
        }
    }
    o.deep = t.deep;
    o.repair = t.repair;
    o.remote = &s->options.remote;
    o.on_finding = on_finding;
    o.ud = &v;
    mlxr_native_job_begin(&job, s, http, t.stream, warnings);
    warnings = NULL;
    st = s->store
             ? mlxr_store_verify(&result, s->store, name ? &name : NULL, name ? 1 : 0, &o, &job.store, &err)
             : MLXR_OK;
    if (st == MLXR_OK) {
        put_verified(&members, &v, &result);
        st = mlxr_buf_check(&members, "verify", &err);
    }
    mlxr_native_job_end(&job, st, &err, members.data);
done:
    mlxr_buf_clear(&members);
    mlxr_buf_clear(&v.all);
    json_decref(body);
    json_decref(warnings);
}

void mlxr_native_verify(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, verify);
}
