/* native_store: see native_store.h. */
#include "serve/native_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* ---- pieces ---- */

void mlxr_native_put_details(mlxr_buf *out, const mlxr_model_facts *f)
{
    mlxr_buf_str(out, "{\"parent_model\":\"\",\"format\":\"safetensors\",\"family\":");
    mlxr_put_string(out, f->family);
    mlxr_buf_str(out, ",\"families\":[");
    mlxr_put_string(out, f->family);
    mlxr_buf_str(out, "],\"parameter_size\":");
    mlxr_put_string(out, f->size);
    mlxr_buf_str(out, ",\"quantization_level\":");
    mlxr_put_string(out, f->quant);
    mlxr_put_count_member(out, "context_length", f->context_length);
    mlxr_put_count_member(out, "embedding_length", f->embedding_length);
    mlxr_buf_char(out, '}');
}

void mlxr_native_put_capabilities(mlxr_buf *out, unsigned capabilities)
{
    const char *word;
    unsigned bit;
    size_t n = 0;

    mlxr_buf_str(out, ",\"capabilities\":[");
    for (size_t i = 0; (word = mlxr_capability_word(i, &bit)) != NULL; i++)
        if (capabilities & bit) mlxr_buf_printf(out, "%s\"%s\"", n++ ? "," : "", word);
    mlxr_buf_char(out, ']');
}

void mlxr_native_put_local_time(mlxr_buf *out, int64_t ns)
{
    time_t t = (time_t)(ns / 1000000000);
    struct tm tm;
    char date[40] = "1970-01-01T00:00:00", zone[16] = "+0000";

    if (localtime_r(&t, &tm)) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
        strftime(zone, sizeof zone, "%z", &tm);
    }
    mlxr_buf_printf(out, "\"%s.%09lld", date, (long long)(ns % 1000000000));
    if (strcmp(zone, "+0000") == 0 || strlen(zone) != 5)
        mlxr_buf_str(out, "Z\"");
    else
        mlxr_buf_printf(out, "%.3s:%s\"", zone, zone + 3);
}

void mlxr_native_put_name(mlxr_buf *out, const mlxr_name *name)
{
    mlxr_buf text = {0};

    mlxr_name_display(&text, name);
    if (text.failed)
        out->failed = true;
    else
        mlxr_put_string(out, text.data);
    mlxr_buf_clear(&text);
}

/* ---- requests ---- */

bool mlxr_native_read(json_t **body, json_t **warnings, void *into, mlxr_serve *s, mlxr_request_in *http,
                      const mlxr_fields *fields)
{
    size_t n;
    const char *text = mlxr_request_body(http, &n);
    mlxr_error err = {0};
    mlxr_status st;

    *warnings = NULL;
    st = mlxr_body_object(body, text, n, &err);
    if (st == MLXR_OK && !s->strict && !(*warnings = json_array())) st = mlxr_fail_nomem(&err, "request");
    if (st == MLXR_OK) st = mlxr_fields_read(into, fields, *body, *warnings, NULL, &err);
    if (st == MLXR_OK) return true;
    mlxr_native_fail(http, mlxr_serve_http_status(st), err.message);
    json_decref(*body);
    json_decref(*warnings);
    *body = *warnings = NULL;
    return false;
}

const char *mlxr_native_model_of(mlxr_serve *s, mlxr_request_in *http, const char *model, const char *name,
                                 bool digest_too)
{
    const char *text = model && *model ? model : name;
    mlxr_name parsed;

    if (!text || !*text) {
        mlxr_native_fail(http, 400, "model is required");
        return NULL;
    }
    snprintf(mlxr_request_record(http)->model, sizeof mlxr_request_record(http)->model, "%s", text);
    if (digest_too && strncasecmp(text, "sha256:", 7) == 0) return text;
    if (mlxr_name_parse(&parsed, text, NULL) == MLXR_OK) return text;
    mlxr_native_fail(http, 400, "invalid model name");
    return NULL;
}

void mlxr_native_model_fail(mlxr_request_in *http, mlxr_status st, const char *name, const mlxr_error *err)
{
    mlxr_buf text = {0};

    if (st != MLXR_E_NOT_FOUND) {
        mlxr_native_fail(http, mlxr_serve_http_status(st), err->message);
        return;
    }
    mlxr_buf_printf(&text, "model '%s' not found", name);
    mlxr_native_fail(http, 404, text.failed ? "model not found" : text.data);
    mlxr_buf_clear(&text);
}

/* ---- jobs ---- */

static void on_leave(void *ud)
{
    mlxr_native_job *job = ud;

    job->cancel = 1;
}

/* A state, or how far a file is: at most some 20 a second. */
static void on_step(const mlxr_store_step *step, void *ud)
{
    mlxr_native_job *job = ud;

    if (job->serve->ending) job->cancel = 1;
    if (!job->stream || !job->step) return;
    job->line.len = 0;
    mlxr_buf_char(&job->line, '{');
    if (!job->step(job, &job->line, step)) return;
    mlxr_buf_char(&job->line, '}');
    job->last[0] = '\0';
    mlxr_native_job_push(job);
}

void mlxr_native_job_begin(mlxr_native_job *job, mlxr_serve *s, mlxr_request_in *http, bool stream,
                           json_t *warnings)
{
    job->serve = s;
    job->http = http;
    job->stream = stream;
    job->warnings = warnings;
    job->store = (mlxr_store_job){.on_step = on_step, .ud = job, .cancel = &job->cancel};
    mlxr_request_record(http)->stream = stream;
    mlxr_shelf_job_begin(s->shelf, &job->cancel);
    mlxr_request_on_leave(http, on_leave, job);
}

void mlxr_native_job_push(mlxr_native_job *job)
{
    if (!job->stream || job->line.failed) {
        job->line.len = 0;
        return;
    }
    if (!job->begun) mlxr_reply_begin(job->http, 200, "application/x-ndjson", NULL);
    job->begun = true;
    mlxr_buf_char(&job->line, '\n');
    if (!job->line.failed) mlxr_reply_push(job->http, job->line.data, job->line.len);
    job->line.len = 0;
}

void mlxr_native_job_status(mlxr_native_job *job, const char *text)
{
    if (strcmp(job->last, text) == 0) return;
    snprintf(job->last, sizeof job->last, "%s", text);
    job->line.len = 0;
    mlxr_buf_str(&job->line, "{\"status\":");
    mlxr_put_string(&job->line, text);
    mlxr_buf_char(&job->line, '}');
    mlxr_native_job_push(job);
}

/* Before the last of the answer: after it the request may end, and with it whoever could tell that the client left. */
static void stop_listening(mlxr_native_job *job)
{
    mlxr_request_on_leave(job->http, NULL, NULL);
    mlxr_shelf_job_end(job->serve->shelf, &job->cancel);
}

static void clear_job(mlxr_native_job *job)
{
    json_decref(job->warnings);
    job->warnings = NULL;
    mlxr_buf_clear(&job->line);
}

void mlxr_native_job_fail(mlxr_native_job *job, int status, const char *text)
{
    mlxr_record *record = mlxr_request_record(job->http);

    stop_listening(job);
    snprintf(record->error, sizeof record->error, "%s", text);
    if (!job->begun) {
        mlxr_native_fail(job->http, status, text);
    } else {
        job->line.len = 0;
        mlxr_buf_str(&job->line, "{\"error\":");
        mlxr_put_string(&job->line, text);
        mlxr_buf_char(&job->line, '}');
        mlxr_native_job_push(job);
        mlxr_reply_end(job->http);
    }
    clear_job(job);
}

void mlxr_native_job_end(mlxr_native_job *job, mlxr_status st, const mlxr_error *err, const char *members)
{
    if (st != MLXR_OK) {
        bool ending = st == MLXR_E_CANCELLED && job->serve->ending;
        mlxr_native_job_fail(job, ending ? 503 : mlxr_serve_http_status(st),
                             ending                   ? "the server is shutting down"
                             : st == MLXR_E_CANCELLED ? "request canceled"
                                                      : err->message);
        return;
    }
    stop_listening(job);
    job->line.len = 0;
    mlxr_buf_str(&job->line, "{\"status\":\"success\"");
    if (members) mlxr_buf_str(&job->line, members);
    mlxr_put_json_member(&job->line, "warnings", job->warnings);
    mlxr_buf_char(&job->line, '}');
    if (job->stream) {
        mlxr_native_job_push(job);
        mlxr_reply_end(job->http);
    } else {
        mlxr_serve_answer(job->http, &job->line);
    }
    clear_job(job);
}
