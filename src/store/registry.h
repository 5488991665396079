/* registry: one repository of an OCI registry, as https://github.com/opencontainers/distribution-spec (1.1) has it: requests with their
 * authorization, manifests, and what pull (registry.c) and push (upload.c) share. */
#ifndef MLXR_STORE_REGISTRY_H
#define MLXR_STORE_REGISTRY_H

#include "store/auth.h"
#include "store/remote.h"

/* Fixed once open; threads share one, each with an mlxr_http of its own. */
typedef struct mlxr_registry {
    char *host;       /* as names have it: "localhost:5000" */
    char *base;       /* "http://localhost:5000" */
    char *repository; /* "team/llama" */
    char *scope;      /* "repository:team/llama:pull", or "...:pull,push" */
    mlxr_auth *auth;
    const mlxr_remote_options *options; /* the caller's */
    const mlxr_store_job *job;
    mlxr_http_options http_options;
} mlxr_registry;

/* Finds out how the host is to be reached: https; on this machine, and with insecure, also http. A repository that no registry takes
 * (letters in upper case ...) is MLXR_E_INVALID_ARGUMENT before anything is asked. */
mlxr_status mlxr_registry_open(mlxr_registry **out, const char *host, const char *repository, bool push,
                               const mlxr_remote_options *options, const mlxr_store_job *job,
                               const mlxr_log *log, mlxr_error *err);
void mlxr_registry_close(mlxr_registry *r);

/* Whether registries take this path as a repository; says which part they do not take. */
mlxr_status mlxr_registry_repository_check(const char *repository, mlxr_error *err);

/* A request with the authorization for scope (NULL: the registry's own); that of rq is not looked at. Answers of 401 are followed until
 * there is nothing better to say. An url of another origin gets no authorization. */
mlxr_status mlxr_registry_do(mlxr_http_answer *out, mlxr_registry *r, mlxr_http *http,
                             const mlxr_http_request *rq, const char *scope, mlxr_error *err);
/* An answer that is none of the good ones, as a failure: "registry HOST/REPOSITORY: WHAT: ...". */
mlxr_status mlxr_registry_fail(mlxr_registry *r, const mlxr_http_answer *answer, const char *what,
                               mlxr_error *err);
/* BASE/v2/REPOSITORY/<path>; NULL when out of memory. */
char *mlxr_registry_url(const mlxr_registry *r, const char *fmt, ...) MLXR_PRINTF(2, 3);
/* What a Location says, absolute or relative to the request's url. One on the registry's own host goes by its scheme (servers behind a
 * TLS proxy often say http). Without TLS to another host: MLXR_E_DENIED unless the registry is without it too. */
mlxr_status mlxr_registry_location(char **out, const mlxr_registry *r, const char *request_url,
                                   const char *location, mlxr_error *err);

/* How messages call a model there: "HOST/REPOSITORY:TAG", or "...@sha256:...". free it. */
char *mlxr_registry_reference(const mlxr_registry *r, const char *reference);
/* Host and repository of such a text. */
mlxr_status mlxr_registry_reference_split(char **host, char **repository, const char *text, mlxr_error *err);

#endif
