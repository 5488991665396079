/* endpoint: see endpoint.h. */
#include "serve/endpoint.h"

#include <stdlib.h>

#include "serve/anthropic.h"
#include "serve/native.h"
#include "serve/openai.h"
#include "serve/openapi.h"

static const mlxr_endpoints *const parts[] = {&mlxr_native_endpoints,      &mlxr_native_model_endpoints,
                                              &mlxr_native_text_endpoints, &mlxr_openai_endpoints,
                                              &mlxr_anthropic_endpoints,   &mlxr_operation_endpoints,
                                              &mlxr_describe_endpoints};

bool mlxr_endpoint_at(size_t i, const mlxr_endpoint **out)
{
    for (size_t p = 0; p < MLXR_COUNT(parts); p++) {
        if (i < parts[p]->n) {
            *out = &parts[p]->list[i];
            return true;
        }
        i -= parts[p]->n;
    }
    return false;
}

static bool below(const char *path, const char *top)
{
    size_t n = strlen(top);

    return strncmp(path, top, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

mlxr_api mlxr_api_of_path(const char *path)
{
    if (below(path, "/v1/messages")) return MLXR_API_ANTHROPIC;
    return below(path, "/v1") ? MLXR_API_OPENAI : MLXR_API_NATIVE;
}

void mlxr_api_fail(mlxr_request_in *r, mlxr_api api, int status, const char *text)
{
    switch (api) {
    case MLXR_API_NATIVE: mlxr_native_fail(r, status, text); break;
    case MLXR_API_OPENAI: mlxr_openai_fail(r, status, text, NULL); break;
    case MLXR_API_ANTHROPIC: mlxr_anthropic_fail(r, status, text); break;
    }
}
