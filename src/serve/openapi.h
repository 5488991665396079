/* openapi: the description of everything in the table of endpoints, as OpenAPI 3.1, at GET /openapi.json. What the tables do not say (schemas
 * of messages, of answers, of lines of streams; rules between fields; examples) is in schemas.json, which is part of the library:
 *
 *   schemas     name -> JSON Schema: components of the description, to which fields and endpoints refer by name
 *   bodies      "POST /api/chat" -> what is merged into the schema made from the endpoint's table of fields
 *   operations  "POST /api/chat" -> what is merged into the operation
 *   help        "temperature" -> what a field of that name is, where its table does not say
 *   ours        "POST /api/chat" -> names of fields that the API does not have elsewhere
 *   examples    "POST /api/chat" -> a body, or a list of them
 *
 * Merged as RFC 7396 says: objects member by member, null takes away, all else replaces. */
#ifndef MLXR_SERVE_OPENAPI_H
#define MLXR_SERVE_OPENAPI_H

#include "serve/endpoint.h"

typedef struct mlxr_openapi_options {
    bool strict; /* unknown fields are refused */
    bool keys;   /* a key is needed */
} mlxr_openapi_options;

/* The whole description. *out: json_decref it. The same tables give the same text. */
mlxr_status mlxr_openapi_create(json_t **out, const mlxr_openapi_options *options, mlxr_error *err);
/* schemas.json. *out: json_decref it. */
mlxr_status mlxr_openapi_embedded(json_t **out, mlxr_error *err);
/* What a field is: of its table, or of schemas.json; NULL: nobody says. Borrowed from the two. */
const char *mlxr_field_help(const mlxr_field *field, const json_t *embedded);
/* "POST /api/chat", "GET /v1/models/{model}": how schemas.json and people call an endpoint. Appended to out. */
void mlxr_endpoint_key(mlxr_buf *out, const mlxr_endpoint *e);

/* The text that a server sends, made by the first request for it. Locked inside. */
typedef struct mlxr_openapi_text mlxr_openapi_text;
mlxr_status mlxr_openapi_text_create(mlxr_openapi_text **out, mlxr_error *err);
void mlxr_openapi_text_free(mlxr_openapi_text *o);

extern const mlxr_endpoints mlxr_describe_endpoints;

#endif
