/* openai_models: GET /v1/models, GET /v1/models/{id}; and what is asked about responses that were not kept. */
#include <stdlib.h>

#include "serve/openai.h"
#include "serve/shelf.h"
#include "store/name.h"

static void put_model(mlxr_buf *out, const char *id, long long created)
{
    mlxr_name name;

    mlxr_buf_str(out, "{\"id\":");
    mlxr_put_string(out, id);
    mlxr_buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":", created);
    mlxr_put_string(out, mlxr_name_parse(&name, id, NULL) == MLXR_OK && *name.namespace_ ? name.namespace_
                                                                                         : "library");
    mlxr_buf_char(out, '}');
}

static void list_models(mlxr_serve *s, mlxr_request_in *http)
{
    mlxr_shelf_model *models = NULL;
    size_t n = 0;
    mlxr_error err = {0};
    mlxr_buf out = {0};

    if (s->store && mlxr_shelf_list(&models, &n, s->shelf, &err) != MLXR_OK) {
        mlxr_openai_fail(http, 500, err.message, NULL);
        return;
    }
    mlxr_buf_str(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < n; i++) {
        mlxr_buf name = {0};
        mlxr_name_display(&name, &models[i].name);
        if (i) mlxr_buf_char(&out, ',');
        put_model(&out, name.failed ? "" : name.data, (long long)(models[i].modified_ns / 1000000000));
        mlxr_buf_clear(&name);
    }
    mlxr_buf_str(&out, "]}");
    free(models);
    mlxr_serve_answer(http, &out);
}

void mlxr_openai_list_models(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, list_models);
}

static void get_model(mlxr_serve *s, mlxr_request_in *http)
{
    const char *id = mlxr_request_tail(http);
    long long created = (long long)s->start_seconds;
    mlxr_shelf_model m;
    mlxr_resident_key key;
    mlxr_arena arena = {0};
    mlxr_error err = {0};
    mlxr_buf out = {0};
    mlxr_status st = mlxr_serve_resolve(&key, s, &arena, id, &err);

    mlxr_arena_clear(&arena);
    if (st != MLXR_OK) {
        mlxr_turn_error e = {.status = st == MLXR_E_INVALID_ARGUMENT ? 404 : mlxr_serve_http_status(st),
                             .message = err.message,
                             .field = "model",
                             .code = MLXR_E_NOT_FOUND};
        mlxr_buf_str(&out, "{\"error\":");
        mlxr_openai_put_error(&out, e.status, e.message, e.field, mlxr_openai_error_code(&e));
        mlxr_buf_char(&out, '}');
        mlxr_reply(http, e.status, "application/json; charset=utf-8", &out);
        return;
    }
    if (s->store && mlxr_shelf_find(&m, NULL, s->shelf, id, NULL) == MLXR_OK)
        created = (long long)(m.modified_ns / 1000000000);
    put_model(&out, id, created);
    mlxr_serve_answer(http, &out);
}

void mlxr_openai_get_model(mlxr_request_in *http, void *ud)
{
    mlxr_serve_post(ud, http, get_model);
}

void mlxr_openai_no_response(mlxr_request_in *http, void *ud)
{
    mlxr_buf text = {0};

    (void)ud;
    mlxr_buf_printf(&text, "Response with id '%.200s' not found: responses are not kept here",
                    mlxr_request_tail(http));
    mlxr_openai_fail(http, 404, text.data && !text.failed ? text.data : "not found", NULL);
    mlxr_buf_clear(&text);
}
