/* The tables from which the server, its description and its documents are made: nothing is left out of them, what they name is there, and
 * the answers of the mock are as they say. */
#include <stdio.h>

#include "base/json.h"
#include "serve/openapi.h"
#include "serve/serve.h"
#include "test.h"

static json_t *make(bool strict)
{
    mlxr_openapi_options o = {.strict = strict};
    mlxr_error err = {0};
    json_t *doc;

    assert_ok(mlxr_openapi_create(&doc, &o, &err), &err);
    return doc;
}

static void key_of(char out[128], const mlxr_endpoint *e)
{
    mlxr_buf b = {0};

    mlxr_endpoint_key(&b, e);
    assert_non_null(b.data);
    snprintf(out, 128, "%s", b.data);
    mlxr_buf_clear(&b);
}

/* Each endpoint says what it is for and what it gives; each field what it does. */
static void every_endpoint_is_described(void **state)
{
    const mlxr_endpoint *e;
    int n_bad = 0;
    char key[128];
    json_t *embedded;
    mlxr_error err = {0};

    (void)state;
    assert_ok(mlxr_openapi_embedded(&embedded, &err), &err);
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        key_of(key, e);
        assert_true(!!e->handler != !!e->front);
        if (e->hidden) continue;
        if (!e->summary || !*e->summary || e->summary[strlen(e->summary) - 1] == '.') {
            print_error("%s: no summary, or one with a full stop\n", key);
            n_bad++;
        }
        if (e->front && !e->answer) {
            print_error("%s: no schema of its answer\n", key);
            n_bad++;
        }
        if (e->path[strlen(e->path) - 1] == '/' && e->path[1] && !e->tail) {
            print_error("%s: no name of what stands below it\n", key);
            n_bad++;
        }
        for (size_t j = 0; e->fields && j < e->fields->n; j++) {
            const mlxr_field *f = &e->fields->fields[j];
            json_t *schema = mlxr_field_schema(f);
            if (!schema) {
                print_error("%s: %s: its schema, neutral or fallback is no JSON\n", key, f->name);
                n_bad++;
            }
            json_decref(schema);
            if (mlxr_field_help(f, embedded)) continue;
            print_error("%s: %s: no help\n", key, f->name);
            n_bad++;
        }
    }
    json_decref(embedded);
    assert_int_equal(n_bad, 0);
}

/* Follows each $ref. */
static void check_refs(const json_t *v, const json_t *doc)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach((json_t *)(uintptr_t)v, i, member) check_refs(member, doc);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, member)
    {
        const char *to = json_string_value(member);
        char part[64], name[128];
        if (strcmp(key, "$ref") != 0 || !to) {
            check_refs(member, doc);
            continue;
        }
        if (sscanf(to, "#/components/%63[^/]/%127s", part, name) != 2 ||
            !json_object_get(json_object_get(json_object_get(doc, "components"), part), name))
            fail_msg("there is no %s", to);
    }
}

static void references_lead_somewhere(void **state)
{
    json_t *doc = make(false), *strict = make(true);

    (void)state;
    check_refs(doc, doc);
    check_refs(strict, strict);
    assert_false(json_equal(doc, strict));
    json_decref(doc);
    json_decref(strict);
}

static bool is_endpoint(const char *key, const char *field)
{
    const mlxr_endpoint *e;
    char own[128];

    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        key_of(own, e);
        if (e->hidden || strcmp(own, key) != 0) continue;
        if (!field) return true;
        for (size_t j = 0; e->fields && j < e->fields->n; j++)
            if (strcmp(e->fields->fields[j].name, field) == 0) return true;
    }
    return false;
}

/* What schemas.json says of endpoints and fields is said of ones that there are. */
static void embedded_is_of_the_tables(void **state)
{
    static const char *const parts[] = {"bodies", "operations", "ours", "examples"};
    json_t *embedded, *value, *member;
    const char *key, *name;
    size_t j;
    mlxr_error err = {0};

    (void)state;
    assert_ok(mlxr_openapi_embedded(&embedded, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(parts); i++)
        json_object_foreach(json_object_get(embedded, parts[i]), key, value)
        {
            if (!is_endpoint(key, NULL)) fail_msg("%s: there is no %s", parts[i], key);
            if (strcmp(parts[i], "ours") == 0) json_array_foreach(value, j, member)
                {
                    if (!is_endpoint(key, json_string_value(member)))
                        fail_msg("ours: %s has no %s", key, json_string_value(member));
                }
            if (strcmp(parts[i], "bodies") == 0)
                json_object_foreach(json_object_get(value, "properties"), name, member)
                {
                    if (!is_endpoint(key, name)) fail_msg("bodies: %s has no %s", key, name);
                }
        }
    json_decref(embedded);
}

/* The schema of that name, with what it refers to as definitions of its own. */
static mlxr_json_schema *checker(const json_t *doc, const char *name)
{
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    json_t *s = json_pack("{s:o, s:{s:O}}", "$ref", json_sprintf("#/components/schemas/%s", name),
                          "components", "schemas", schemas);
    char *text = json_dumps(s, JSON_COMPACT);
    mlxr_json_schema *out = NULL;
    mlxr_error err = {0};

    assert_non_null(text);
    if (mlxr_json_schema_create(&out, text, strlen(text), name, &err) != MLXR_OK)
        print_message("not checked against %s: %s\n", name, err.message);
    free(text);
    json_decref(s);
    return out;
}

/* Checks one value; 1 when it was. */
static int check_value(const json_t *doc, const char *name, const char *text, size_t n, const char *key)
{
    mlxr_json_schema *schema = checker(doc, name);
    char *why = NULL;
    bool valid = false;
    mlxr_error err = {0};

    if (!schema) return 0;
    assert_ok(mlxr_json_schema_check(&valid, &why, schema, text, n, &err), &err);
    if (!valid) fail_msg("%s: not as %s says: %s\n%.*s", key, name, why ? why : "", (int)n, text);
    mlxr_free(why);
    mlxr_json_schema_free(schema);
    return 1;
}

/* Each line, or each event's data but [DONE]. */
static int check_stream(const json_t *doc, const mlxr_endpoint *e, const mlxr_exchange *x, const char *key)
{
    bool sse = strncmp(x->content_type, "text/event-stream", 17) == 0;
    int n = 0;

    for (const char *p = x->body; *p;) {
        size_t k = strcspn(p, "\n");
        const char *at = p;
        p += k + (p[k] == '\n');
        if (sse && (k < 6 || strncmp(at, "data: ", 6) != 0 || strncmp(at, "data: [DONE]", 12) == 0)) continue;
        n += check_value(doc, e->line, at + (sse ? 6 : 0), k - (sse ? 6 : 0), key);
    }
    return n;
}

static int ask(mlxr_serve *s, const json_t *doc, const mlxr_endpoint *e, const json_t *body, int stream)
{
    mlxr_exchange x = {0};
    mlxr_error err = {0};
    char key[128], *text = NULL;
    json_t *copy = body ? json_copy((json_t *)(uintptr_t)body) : NULL;
    int n = 0;

    key_of(key, e);
    if (copy && stream >= 0) json_object_set_new(copy, "stream", json_boolean(stream));
    if (copy) text = json_dumps(copy, JSON_COMPACT);
    assert_ok(
        mlxr_server_exchange(&x, s->server, e->method, e->path, NULL, text, text ? strlen(text) : 0, &err),
        &err);
    if (x.status != 200) fail_msg("%s: %d: %s", key, x.status, x.body);
    assert_non_null(strstr(x.headers, "X-Request-Id: req_"));
    if (stream == 1)
        n = check_stream(doc, e, &x, key);
    else if (e->answer)
        n = check_value(doc, e->answer, x.body, x.n_body, key);
    mlxr_exchange_clear(&x);
    free(text);
    json_decref(copy);
    return n;
}

static void answers_are_as_described(void **state)
{
    mlxr_serve_options o = mlxr_serve_options_default();
    mlxr_serve *s;
    mlxr_error err = {0};
    const mlxr_endpoint *e;
    json_t *embedded, *doc = make(false);
    int n_checked = 0;

    (void)state;
    o.server.host = NULL;
    o.mock = true;
    assert_ok(mlxr_serve_open(&s, &o, &err), &err);
    assert_ok(mlxr_openapi_embedded(&embedded, &err), &err);
    for (size_t i = 0; mlxr_endpoint_at(i, &e); i++) {
        const json_t *body;
        char key[128];
        key_of(key, e);
        body = json_object_get(json_object_get(embedded, "examples"), key);
        if (e->hidden) continue;
        if (strcmp(e->method, "GET") == 0 && !e->tail) n_checked += ask(s, doc, e, NULL, -1);
        if (!body) continue;
        n_checked += ask(s, doc, e, body, e->line ? 0 : -1);
        if (e->line) n_checked += ask(s, doc, e, body, 1);
    }
    print_message("%d values checked\n", n_checked);
    assert_true(n_checked > 20);
    json_decref(embedded);
    json_decref(doc);
    mlxr_serve_close(s);
}

/* Made once, with an ETag; nothing is sent to who has it. */
static void description_is_kept(void **state)
{
    mlxr_serve_options o = mlxr_serve_options_default();
    mlxr_serve *s;
    mlxr_error err = {0};
    mlxr_exchange a, b, c;
    char *etag, header[128];
    const char *headers[] = {header, NULL};

    (void)state;
    o.server.host = NULL;
    o.mock = true;
    assert_ok(mlxr_serve_open(&s, &o, &err), &err);
    assert_ok(mlxr_server_exchange(&a, s->server, "GET", "/openapi.json", NULL, NULL, 0, &err), &err);
    assert_ok(mlxr_server_exchange(&b, s->server, "GET", "/openapi.json", NULL, NULL, 0, &err), &err);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, b.body);
    etag = strstr(a.headers, "ETag: ");
    assert_non_null(etag);
    snprintf(header, sizeof header, "If-None-Match: %.34s", etag + 6);
    assert_ok(mlxr_server_exchange(&c, s->server, "GET", "/openapi.json", headers, NULL, 0, &err), &err);
    assert_int_equal(c.status, 304);
    assert_int_equal(c.n_body, 0);
    mlxr_exchange_clear(&a);
    mlxr_exchange_clear(&b);
    mlxr_exchange_clear(&c);
    assert_ok(mlxr_server_exchange(&a, s->server, "PUT", "/api/chat", NULL, "{}", 2, &err), &err);
    assert_int_equal(a.status, 405);
    assert_non_null(strstr(a.headers, "Allow: POST\n"));
    mlxr_exchange_clear(&a);
    mlxr_serve_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_endpoint_is_described), cmocka_unit_test(references_lead_somewhere),
        cmocka_unit_test(embedded_is_of_the_tables),   cmocka_unit_test(answers_are_as_described),
        cmocka_unit_test(description_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
