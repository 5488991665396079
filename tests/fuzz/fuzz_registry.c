/* What a registry and a docker config.json may say, three texts with a NUL between them: a WWW-Authenticate value, a Location,
 * and the file. A bearer challenge has a realm; nothing leads from https to plain http; credentials are of the host that was asked for,
 * or none. */
#include <stdlib.h>
#include <strings.h>

#include "store/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *next_text(const uint8_t **data, size_t *size)
{
    size_t n = 0;
    char *text;
    while (n < *size && (*data)[n]) n++;
    text = mlxr_strndup((const char *)*data, n);
    *data += n < *size ? n + 1 : n;
    *size -= n < *size ? n + 1 : n;
    if (!text) abort();
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *value = next_text(&data, &size), *location = next_text(&data, &size), *url, *host, *repository;
    mlxr_challenge challenge = {0};
    mlxr_credentials credentials = {0};
    mlxr_registry r = {.host = (char *)"registry.example:5000",
                       .base = (char *)"https://registry.example:5000"};
    mlxr_error err;

    if (mlxr_challenge_parse(&challenge, value, &err) != MLXR_OK) abort();
    if (challenge.scheme == MLXR_CHALLENGE_BEARER && !challenge.realm) abort();
    mlxr_challenge_clear(&challenge);

    if (mlxr_registry_location(&url, &r, "https://registry.example:5000/v2/a/blobs/uploads/", location,
                               &err) == MLXR_OK) {
        if (strncasecmp(url, "https://", 8) != 0) abort();
        free(url);
    } else if (url) {
        abort();
    }

    if (mlxr_registry_reference_split(&host, &repository, location, &err) == MLXR_OK) {
        if (strchr(host, '/') || strchr(repository, '@')) abort();
        if (mlxr_registry_repository_check(repository, &err) == MLXR_OK &&
            strpbrk(repository, "?#%: \"\\ABC"))
            abort();
        free(host);
        free(repository);
    }

    if (mlxr_credentials_find(&credentials, (const char *)data, size, "config.json", "registry.example:5000",
                              "team/llama", &err) != MLXR_OK &&
        !mlxr_credentials_empty(&credentials))
        abort();
    if (credentials.user && !credentials.password) abort();
    mlxr_credentials_clear(&credentials);
    free(value);
    free(location);
    return 0;
}
