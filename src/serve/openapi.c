/* openapi: see openapi.h. Follows the OpenAPI Specification 3.1 and JSON Schema 2020-12.
 *
 * The document is made by the first request for it and kept as the text that is sent, with its ETag: the tables do not change while the
 * server runs. */
#include "serve/openapi.h"
#include "serve/gate.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/parameters.h"
#include "base/sha256.h"
#include "serve/native.h"
#include "serve/serve.h"

extern const char mlxr_schemas_json[];
extern const size_t mlxr_schemas_json_n;

#define REF "#/components/"

/* What is being made. `failed` stays set once memory has run out or a table holds what is no JSON; all calls go on. */
struct build {
    const mlxr_openapi_options *options;
    json_t *doc, *schemas, *embedded; /* schemas: of doc, borrowed */
    bool failed;
    char why[200]; /* "" : out of memory */
};

static void blame(struct build *b, const char *what, const char *name)
{
    if (!b->failed) snprintf(b->why, sizeof b->why, "%s of %.120s", what, name);
    b->failed = true;
}

/* object[key] = value, which is taken. */
static void put(struct build *b, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) b->failed = true;
}

static json_t *ref(const char *where, const char *name)
{
    return json_pack("{s:o}", "$ref", json_sprintf(REF "%s/%s", where, name));
}

/* RFC 7396. The depth is that of schemas.json, which is ours. */
static void merge(struct build *b, json_t *into, const json_t *patch)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        json_t *there = json_object_get(into, key);
        if (json_is_null(value))
            json_object_del(into, key);
        else if (json_is_object(value) && json_is_object(there))
            merge(b, there, value);
        else
            put(b, into, key, json_deep_copy(value));
    }
}

static const json_t *embedded(const struct build *b, const char *part, const char *key)
{
    return json_object_get(json_object_get(b->embedded, part), key);
}

/* ---- names ---- */

static void put_path(mlxr_buf *out, const mlxr_endpoint *e)
{
    size_t n = strlen(e->path);

    mlxr_buf_str(out, e->path);
    if (n > 1 && e->path[n - 1] == '/') mlxr_buf_printf(out, "{%s}", e->tail ? e->tail : "tail");
}

void mlxr_endpoint_key(mlxr_buf *out, const mlxr_endpoint *e)
{
    mlxr_buf_printf(out, "%s ", e->method);
    put_path(out, e);
}

/* "postApiChat", "getV1ModelsModel" */
static void put_operation_id(mlxr_buf *out, const mlxr_endpoint *e)
{
    bool upper = true;
    mlxr_buf path = {0};

    for (const char *p = e->method; *p; p++) mlxr_buf_char(out, (char)tolower((unsigned char)*p));
    put_path(&path, e);
    for (const char *p = path.data; p && *p; p++) {
        if (isalnum((unsigned char)*p)) mlxr_buf_char(out, upper ? (char)toupper((unsigned char)*p) : *p);
        upper = !isalnum((unsigned char)*p);
    }
    if (strcmp(e->path, "/") == 0) mlxr_buf_str(out, "Root");
    out->failed |= path.failed;
    mlxr_buf_clear(&path);
}

static const char *api_name(mlxr_api api)
{
    return api == MLXR_API_OPENAI ? "openai" : api == MLXR_API_ANTHROPIC ? "anthropic" : "native";
}

/* ---- options: the table of parameters ---- */

static json_t *number_option(const char *type, double min, double max, const char *wants)
{
    json_t *lo = min == (double)(json_int_t)min ? json_integer((json_int_t)min) : json_real(min);
    json_t *hi = max == (double)(json_int_t)max ? json_integer((json_int_t)max) : json_real(max);

    return json_pack("{s:[s,s], s:o, s:o, s:s}", "type", type, "null", "minimum", lo, "maximum", hi,
                     "description", wants);
}

/* A text, or a list of them. */
static json_t *texts_option(const char *ref_name, const char *wants)
{
    return json_pack("{s:[o,{s:s, s:i, s:o},{s:s}], s:s}", "anyOf", ref("schemas", ref_name), "type", "array",
                     "maxItems", MLXR_PARAMETER_MAX_TEXTS, "items", ref("schemas", ref_name), "type", "null",
                     "description", wants);
}

static json_t *option_schema(const mlxr_parameter *p)
{
    const char *type;

    switch (p->kind) {
    case MLXR_PARAMETER_REAL: return number_option("number", p->min, p->max, p->wants);
    case MLXR_PARAMETER_INT:
    case MLXR_PARAMETER_REQUEST:
    case MLXR_PARAMETER_SEED:
    case MLXR_PARAMETER_CONTEXT:
        if (mlxr_native_option_is_open(p)) /* what is below counts as the least */
            return json_pack("{s:[s,s], s:I, s:s}", "type", "integer", "null", "maximum", (json_int_t)p->max,
                             "description", p->wants);
        return number_option("integer", p->min, p->max, p->wants);
    case MLXR_PARAMETER_OVERFLOW:
        return json_pack("{s:[s,s,s,n], s:s}", "enum", "error", "truncate", "shift", "description", p->wants);
    case MLXR_PARAMETER_STOP:
    case MLXR_PARAMETER_BREAKERS: return texts_option("StopText", p->wants);
    case MLXR_PARAMETER_BIASES: return texts_option("BiasText", p->wants);
    case MLXR_PARAMETER_OTHER: break;
    }
    type = mlxr_native_option_type(p);
    return json_pack("{s:[s,s], s:s}", "type", *type == 'b' ? "boolean" : "number", "null", "description",
                     "of another runner: no effect here, which warnings say");
}

static void put_options(struct build *b)
{
    json_t *s = json_pack("{s:s, s:{}, s:s}", "type", "object", "properties", "description",
                          "Sampling and limits; docs/sampling.md says what each does. null is as absent.");
    json_t *properties = json_object_get(s, "properties");
    const mlxr_parameter *p;

    for (size_t i = 0; (p = mlxr_parameter_at(i)) != NULL; i++) put(b, properties, p->name, option_schema(p));
    if (b->options->strict) put(b, s, "additionalProperties", json_false());
    put(b, b->schemas, "Options", s);
}

/* "x-closed" marks objects whose unknown members a strict server refuses, "x-lenient" the alternatives of a list that it refuses. The depth
 * is that of schemas.json, which is ours. */
static void settle(struct build *b, json_t *schema)
{
    const char *key;
    json_t *value;
    void *next;

    for (size_t i = json_array_size(schema); i-- > 0;) {
        value = json_array_get(schema, i);
        if (json_object_get(value, "x-lenient") && b->options->strict)
            json_array_remove(schema, i);
        else
            settle(b, value);
    }
    if (json_object_get(schema, "x-closed") && b->options->strict)
        put(b, schema, "additionalProperties", json_false());
    json_object_del(schema, "x-closed");
    json_object_del(schema, "x-lenient");
    json_object_foreach_safe(schema, next, key, value)
    {
        settle(b, value);
    }
}

/* ---- answers ---- */

static json_t *response(const char *description)
{
    return json_pack("{s:s, s:{s:o}}", "description", description, "headers", "X-Request-Id",
                     ref("headers", "RequestId"));
}

static json_t *content_of(const char *type, json_t *schema)
{
    return json_pack("{s:{s:o}}", type, "schema", schema);
}

static bool is_head(const mlxr_endpoint *e)
{
    return strcmp(e->method, "HEAD") == 0;
}

/* done: the last event says [DONE], as those of OpenAI's older endpoints do. */
static json_t *item_schema(const char *stream, const char *name, bool done)
{
    json_t *data;

    if (strcmp(stream, "text/event-stream") != 0) return ref("schemas", name);
    data = json_pack("{s:s, s:s, s:o}", "type", "string", "contentMediaType", "application/json",
                     "contentSchema", ref("schemas", name));
    if (done) data = json_pack("{s:[o,{s:s}]}", "anyOf", data, "const", "[DONE]");
    return json_pack("{s:s, s:[s], s:{s:{s:s}, s:o}}", "type", "object", "required", "data", "properties",
                     "event", "type", "string", "data", data);
}

static json_t *success(struct build *b, const mlxr_endpoint *e)
{
    json_t *r = response(e->summary ? e->summary : ""), *content = json_object();
    const char *stream = e->front && e->front->stream_type ? e->front->stream_type : "application/x-ndjson";

    if (e->answer)
        put(b, content, "application/json", json_pack("{s:o}", "schema", ref("schemas", e->answer)));
    if (e->line) {
        /* 3.1 has no word for the items of a stream: the schema is that of a line, or of an event, as 3.2 sees it. */
        put(b, content, stream,
            json_pack("{s:o}", "schema",
                      item_schema(stream, e->line,
                                  e->api == MLXR_API_OPENAI && strcmp(e->line, "ResponseEvent") != 0)));
        put(b, r, "description",
            json_sprintf("%s. As a stream: %s, each as the schema says.", e->summary ? e->summary : "",
                         strcmp(stream, "text/event-stream") == 0 ? "events with JSON as their data"
                                                                  : "lines of JSON"));
    }
    if (e->content_type) put(b, content, e->content_type, json_pack("{s:{}}", "schema"));
    if (json_object_size(content) && !is_head(e))
        put(b, r, "content", content);
    else
        json_decref(content);
    return r;
}

static void put_error(struct build *b, json_t *responses, const mlxr_endpoint *e, int status)
{
    char code[8], name[48];

    snprintf(code, sizeof code, "%d", status);
    if (is_head(e))
        snprintf(name, sizeof name, "head%d", status);
    else
        snprintf(name, sizeof name, "%s%d", status == 403 ? "gate" : api_name(e->api), status);
    put(b, responses, code, ref("responses", name));
}

static bool has_body(const mlxr_endpoint *e)
{
    return e->fields || e->body;
}

static bool has_field(const mlxr_endpoint *e, const char *name)
{
    for (size_t i = 0; e->fields && i < e->fields->n; i++)
        if (strcmp(e->fields->fields[i].name, name) == 0) return true;
    return false;
}

static json_t *responses_of(struct build *b, const mlxr_endpoint *e)
{
    json_t *out = json_object();

    put(b, out, "200", success(b, e));
    if (has_body(e) || e->tail) put_error(b, out, e, 400);
    put_error(b, out, e, 401);
    put_error(b, out, e, 403);
    if (e->tail || has_field(e, "model") || has_field(e, "name") || has_field(e, "source"))
        put_error(b, out, e, 404);
    put_error(b, out, e, 405);
    if (has_body(e)) put_error(b, out, e, 413);
    put_error(b, out, e, 500);
    put_error(b, out, e, 503);
    return out;
}

/* The answers to what went wrong, an API each. */
static void put_error_responses(struct build *b, json_t *responses)
{
    static const struct {
        int status;
        const char *text;
    } errors[] = {{400, "The request is not as described; the text says what is wrong"},
                  {401, "The server wants a key, and the request has none that it knows"},
                  {404, "There is no such model"},
                  {405, "The path is known, the method is not"},
                  {409, "It is in use, or is being changed"},
                  {413, "The body is too large"},
                  {500, "The model could not be loaded, or failed"},
                  {502, "Another server did not answer, or not as it should"},
                  {503, "Too much is waiting, or memory has run out"},
                  {507, "The disk is full"}};
    static const mlxr_api apis[] = {MLXR_API_NATIVE, MLXR_API_OPENAI, MLXR_API_ANTHROPIC};
    static const char *const schemas[] = {"NativeError", "OpenaiError", "AnthropicError"};
    json_t *r;
    char name[48];

    for (size_t a = 0; a < MLXR_COUNT(apis) + 1; a++) {
        bool head = a == MLXR_COUNT(apis);
        for (size_t i = 0; i < MLXR_COUNT(errors); i++) {
            snprintf(name, sizeof name, "%s%d", head ? "head" : api_name(apis[a]), errors[i].status);
            r = response(errors[i].text);
            if (errors[i].status == 405)
                put(b, json_object_get(r, "headers"), "Allow", ref("headers", "Allow"));
            if (errors[i].status == 503)
                put(b, json_object_get(r, "headers"), "Retry-After", ref("headers", "RetryAfter"));
            if (!head && apis[a] == MLXR_API_NATIVE && errors[i].status == 405)
                put(b, r, "content", content_of("text/plain", json_pack("{s:s}", "type", "string")));
            else if (!head)
                put(b, r, "content", content_of("application/json", ref("schemas", schemas[a])));
            put(b, responses, name, r);
        }
    }
    put(b, responses, "gate403",
        response("The Host header names neither this machine nor loopback, or the Origin is not one that is "
                 "let in"));
    put(b, responses, "stored", response("It is stored"));
    put(b, responses, "head403", response("The Host or the Origin is not one that is let in"));
}

/* ---- operations ---- */

const char *mlxr_field_help(const mlxr_field *f, const json_t *all)
{
    return f->help && *f->help ? f->help
                               : json_string_value(json_object_get(json_object_get(all, "help"), f->name));
}

static void put_help(struct build *b, json_t *properties, const mlxr_fields *fields)
{
    for (size_t i = 0; i < fields->n; i++) {
        const char *help = mlxr_field_help(&fields->fields[i], b->embedded);
        json_t *p = json_object_get(properties, fields->fields[i].name);
        if (help && p && !json_object_get(p, "description")) put(b, p, "description", json_string(help));
    }
}

/* Schema of the body; its name among the components is returned in name. */
static void put_body_schema(struct build *b, const mlxr_endpoint *e, const char *key, const char *id,
                            json_t *operation)
{
    json_t *s, *media = json_object(), *content;
    const json_t *examples = embedded(b, "examples", key);

    if (!e->fields) {
        json_decref(media);
        put(b, operation, "requestBody",
            json_pack("{s:b, s:{s:{}}}", "required", 1, "content", "application/octet-stream"));
        return;
    }
    if (!(s = mlxr_fields_schema(e->fields, b->options->strict))) {
        json_decref(media);
        blame(b, "the fields", key);
        return;
    }
    merge(b, s, embedded(b, "bodies", key));
    put_help(b, json_object_get(s, "properties"), e->fields);
    if (json_object_set_new(b->schemas, id, s) != 0) b->failed = true;
    put(b, media, "schema", ref("schemas", id));
    if (json_is_array(examples)) {
        json_t *named = json_object();
        for (size_t i = 0; i < json_array_size(examples); i++) {
            char name[32];
            snprintf(name, sizeof name, "example%zu", i + 1);
            put(b, named, name, json_pack("{s:O}", "value", json_array_get(examples, i)));
        }
        put(b, media, "examples", named);
    } else if (examples) {
        put(b, media, "example", json_deep_copy(examples));
    }
    content = json_pack("{s:o}", "application/json", media);
    put(b, operation, "requestBody", json_pack("{s:b, s:o}", "required", 1, "content", content));
}

static void put_operation(struct build *b, json_t *paths, const mlxr_endpoint *e)
{
    mlxr_buf key = {0}, id = {0}, path = {0}, body = {0};
    json_t *o = json_object(), *item;
    char method[12];
    size_t i;

    mlxr_endpoint_key(&key, e);
    put_operation_id(&id, e);
    put_path(&path, e);
    if (id.data) mlxr_buf_printf(&body, "Body_%s", id.data);
    if (key.failed || id.failed || path.failed || body.failed || !o) {
        b->failed = true;
        json_decref(o);
        goto done;
    }
    for (i = 0; e->method[i] && i + 1 < sizeof method; i++)
        method[i] = (char)tolower((unsigned char)e->method[i]);
    method[i] = '\0';
    put(b, o, "operationId", json_string(id.data));
    put(b, o, "tags", json_pack("[s]", api_name(e->api)));
    if (e->summary) put(b, o, "summary", json_string(e->summary));
    if (mlxr_gate_is_open(e->path)) put(b, o, "security", json_array());
    if (e->tail) {
        char name[64];
        snprintf(name, sizeof name, "Path_%s", e->tail);
        put(b, o, "parameters",
            json_pack("[{s:s, s:s, s:b, s:o}]", "name", e->tail, "in", "path", "required", 1, "schema",
                      ref("schemas", name)));
    }
    if (has_body(e)) put_body_schema(b, e, key.data, body.data, o);
    put(b, o, "responses", responses_of(b, e));
    merge(b, o, embedded(b, "operations", key.data));
    if (!(item = json_object_get(paths, path.data))) {
        item = json_object();
        put(b, paths, path.data, item);
    }
    put(b, item, method, o);
done:
    mlxr_buf_clear(&key);
    mlxr_buf_clear(&id);
    mlxr_buf_clear(&path);
    mlxr_buf_clear(&body);
}

/* ---- the whole ---- */

static json_t *headers(void)
{
    return json_pack("{s:{s:s, s:b, s:{s:s, s:s}}, s:{s:s, s:b, s:{s:s}}, s:{s:s, s:{s:s, s:i}}}",
                     "RequestId", "description", "Of this request, as the journal has it", "required", 1,
                     "schema", "type", "string", "pattern", "^req_[0-9a-f]{24}$", "Allow", "description",
                     "The methods that the path has", "required", 1, "schema", "type", "string", "RetryAfter",
                     "description", "Seconds after which it is worth another try", "schema", "type",
                     "integer", "minimum", 0);
}

static json_t *security_schemes(void)
{
    return json_pack("{s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "bearer", "type", "http", "scheme", "bearer",
                     "apiKey", "type", "apiKey", "in", "header", "name", "x-api-key");
}

static void put_document(struct build *b)
{
    json_t *paths = json_object(), *components = json_object(), *responses = json_object();
    const json_t *schemas = json_object_get(b->embedded, "schemas");
    const mlxr_endpoint *e;

    put(b, b->doc, "openapi", json_string("3.1.0"));
    put(b, b->doc, "info", json_deep_copy(json_object_get(b->embedded, "info")));
    put(b, json_object_get(b->doc, "info"), "version", json_string(mlxr_version()));
    put(b, b->doc, "servers", json_pack("[{s:s}]", "url", "/"));
    put(b, b->doc, "tags", json_deep_copy(json_object_get(b->embedded, "tags")));
    put(b, b->doc, "paths", paths);
    put(b, b->doc, "components", components);
    b->schemas = json_deep_copy(schemas);
    put(b, components, "schemas", b->schemas);
    if (b->failed) {
        json_decref(responses);
        return;
    }
    put_options(b);
    put(b, components, "responses", responses);
    put_error_responses(b, responses);
    put(b, components, "headers", headers());
    put(b, components, "securitySchemes", security_schemes());
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++)
        if (!e->hidden) put_operation(b, paths, e);
    settle(b, b->schemas);
    /* {}: nothing is needed. */
    put(b, b->doc, "security",
        b->options->keys ? json_pack("[{s:[]},{s:[]}]", "bearer", "apiKey")
                         : json_pack("[{},{s:[]},{s:[]}]", "bearer", "apiKey"));
}

mlxr_status mlxr_openapi_embedded(json_t **out, mlxr_error *err)
{
    return mlxr_json_parse(out, mlxr_schemas_json, mlxr_schemas_json_n, "schemas.json", err);
}

mlxr_status mlxr_openapi_create(json_t **out, const mlxr_openapi_options *options, mlxr_error *err)
{
    struct build b = {.options = options};
    mlxr_status st;

    *out = NULL;
    if ((st = mlxr_openapi_embedded(&b.embedded, err)) != MLXR_OK) return st;
    if (!(b.doc = json_object()))
        b.failed = true;
    else
        put_document(&b);
    json_decref(b.embedded);
    if (!b.failed) {
        *out = b.doc;
        return MLXR_OK;
    }
    json_decref(b.doc);
    if (b.why[0]) return mlxr_fail(err, MLXR_E_FORMAT, "openapi: no schema can be made of %s", b.why);
    return mlxr_fail_nomem(err, "openapi");
}

/* ---- GET /openapi.json ---- */

struct mlxr_openapi_text {
    pthread_mutex_t lock;
    char *text; /* NULL: not made yet; guarded by lock, constant from then on */
    size_t n;
    char etag[72];
};

static mlxr_status make_text(mlxr_serve *s, mlxr_openapi_text *o, mlxr_error *err)
{
    mlxr_openapi_options options = {.strict = s->strict,
                                    .keys = s->options.gate.n_keys > 0 || s->options.gate.current};
    json_t *doc;
    mlxr_sha256 sha;
    char hex[65];
    mlxr_status st;

    if ((st = mlxr_openapi_create(&doc, &options, err)) != MLXR_OK) return st;
    o->text = json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(doc);
    if (!o->text) return mlxr_fail_nomem(err, "openapi");
    o->n = strlen(o->text);
    mlxr_sha256_init(&sha);
    mlxr_sha256_update(&sha, o->text, o->n);
    mlxr_sha256_final(hex, &sha);
    snprintf(o->etag, sizeof o->etag, "\"%.32s\"", hex);
    return MLXR_OK;
}

mlxr_status mlxr_openapi_text_create(mlxr_openapi_text **out, mlxr_error *err)
{
    mlxr_openapi_text *o = calloc(1, sizeof *o);

    *out = NULL;
    if (!o || pthread_mutex_init(&o->lock, NULL) != 0) {
        free(o);
        return mlxr_fail_nomem(err, "openapi");
    }
    *out = o;
    return MLXR_OK;
}

void mlxr_openapi_text_free(mlxr_openapi_text *o)
{
    if (!o) return;
    pthread_mutex_destroy(&o->lock);
    free(o->text);
    free(o);
}

static void send_text(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_openapi_text *o = s->openapi;
    const char *known = mlxr_request_header(http, "If-None-Match");
    mlxr_buf out = {0};
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    pthread_mutex_lock(&o->lock);
    if (!o->text) st = make_text(s, o, &err);
    pthread_mutex_unlock(&o->lock);
    if (st != MLXR_OK) {
        mlxr_api_fail(http, MLXR_API_NATIVE, mlxr_serve_http_status(st), err.message);
        return;
    }
    mlxr_reply_header(http, "ETag", o->etag);
    mlxr_reply_header(http, "Cache-Control", "no-cache");
    if (known && (strcmp(known, "*") == 0 || strstr(known, o->etag))) {
        mlxr_reply(http, 304, NULL, &out);
        return;
    }
    mlxr_buf_append(&out, o->text, o->n);
    mlxr_serve_answer(http, &out);
}

static void openapi(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, send_text);
}

static const mlxr_endpoint endpoints[] = {
    {.method = "GET",
     .path = "/openapi.json",
     .summary = "This description",
     .handler = openapi,
     .answer = "OpenApi"},
};
const mlxr_endpoints mlxr_describe_endpoints = {endpoints, MLXR_COUNT(endpoints)};
