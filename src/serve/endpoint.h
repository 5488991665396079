/* endpoint: everything the server answers to, as one table, from which come the routes, the OpenAPI description, the tables of
 * docs/api.md, and what the fuzzers feed. Each API has its part of it in its own file. */
#ifndef MLXR_SERVE_ENDPOINT_H
#define MLXR_SERVE_ENDPOINT_H

#include "serve/fields.h"
#include "serve/turn.h"

/* Which API an endpoint belongs to: the shape of its errors. */
typedef enum mlxr_api { MLXR_API_NATIVE, MLXR_API_OPENAI, MLXR_API_ANTHROPIC } mlxr_api;

typedef struct mlxr_endpoint {
    const char *method, *path; /* as mlxr_route; what ends in "/" takes what is below */
    mlxr_api api;
    const char *summary; /* a sentence without a full stop */
    /* One of the two: a handler, whose ud is the mlxr_serve, or the front of a turn. */
    mlxr_handler handler;
    const mlxr_front *front;
    const mlxr_fields *fields; /* of the body; NULL: there is none, or it is no JSON */
    /* Names of schemas in schemas.json: of a whole answer with status 200, and of a stream's lines or events. NULL: the answer is
     * empty, or no JSON (then content_type says what); there is no stream. */
    const char *answer, *line;
    const char *content_type; /* of an answer that is no JSON; NULL: it is, or is empty */
    const char *tail;         /* what stands below a path that ends in "/": "model", "digest" */
    bool hidden;              /* an old name of another one, or a form of it: answered, not described */
    size_t max_body;
    mlxr_status (*body)(mlxr_request_in *r, void *ud, const void *data, size_t n, mlxr_error *err);
} mlxr_endpoint;

typedef struct mlxr_endpoints {
    const mlxr_endpoint *list;
    size_t n;
} mlxr_endpoints;

extern const mlxr_endpoints mlxr_native_endpoints, mlxr_native_model_endpoints, mlxr_native_text_endpoints,
    mlxr_openai_endpoints, mlxr_anthropic_endpoints, mlxr_operation_endpoints;

/* All of them, part by part; false past the end. */
bool mlxr_endpoint_at(size_t i, const mlxr_endpoint **out);
/* Which API's errors a path gets, known or not: /v1/messages and what is below it is Anthropic's, the rest of /v1/ OpenAI's. */
mlxr_api mlxr_api_of_path(const char *path);
/* Answers with the error of that API. */
void mlxr_api_fail(mlxr_request_in *r, mlxr_api api, int status, const char *text);

#endif
