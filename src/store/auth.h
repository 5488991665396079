/* auth: who we are to an OCI registry, as https://distribution.github.io/distribution/spec/auth/token/ and RFC 7235 have it.
 *
 * Credentials come from the caller's options or from files like docker's config.json. They are sent once a registry asks for them,
 * to the registry itself (Basic) or to the token server that it names (Bearer), and to nobody else; no message has them. Programs
 * that keep credentials (credsStore, credHelpers) are not started: a library that runs what a file names would be a surprise. */
#ifndef MLXR_STORE_AUTH_H
#define MLXR_STORE_AUTH_H

#include "store/http.h"

/* ---- what files say ---- */

typedef struct mlxr_credentials {
    char *user, *password;
    char *identity_token; /* an OAuth 2 refresh token, for the token server */
    char *registry_token; /* a bearer token as it is */
    char *helper;         /* a program has them: docker-credential-<helper> */
} mlxr_credentials;

/* What a docker config.json (its text) knows of a host, in *out (init to {0}): of the keys in "auths" that name the host, with or
 * without scheme and "/v1/", or a path that the repository begins with, the longest. Nothing there is MLXR_OK and an empty
 * *out. what: how messages call the text. */
mlxr_status mlxr_credentials_find(mlxr_credentials *out, const char *text, size_t n, const char *what,
                                  const char *host, const char *repository, mlxr_error *err);
bool mlxr_credentials_empty(const mlxr_credentials *c);
void mlxr_credentials_clear(mlxr_credentials *c);

/* ---- what registries ask for ---- */

typedef struct mlxr_challenge {
    enum { MLXR_CHALLENGE_NONE, MLXR_CHALLENGE_BASIC, MLXR_CHALLENGE_BEARER } scheme;
    char *realm, *service, *scope; /* may be NULL */
} mlxr_challenge;

/* Of one WWW-Authenticate value, which may have several challenges; *out (init to {0}) is replaced by one that is better: Bearer
 * before Basic before none. Anything is MLXR_OK but running out of memory. */
mlxr_status mlxr_challenge_parse(mlxr_challenge *out, const char *value, mlxr_error *err);
void mlxr_challenge_clear(mlxr_challenge *c);

/* ---- one registry ---- */

typedef struct mlxr_auth_options {
    const char *host;       /* of the name, "localhost:5000" */
    const char *alias;      /* another key for it in files, or NULL */
    const char *repository; /* for keys with paths */
    bool loopback;          /* the registry is this machine */
    bool insecure;          /* token servers without TLS are fine */
    const char *user, *password;
    const char *const
        *files; /* the first that knows the host counts; absent ones are passed over, broken ones logged */
    size_t n_files;
    mlxr_http_options http;
} mlxr_auth_options;

/* Threads share one; locked inside, also while a token is fetched, so that one is fetched once. */
typedef struct mlxr_auth mlxr_auth;
mlxr_status mlxr_auth_create(mlxr_auth **out, const mlxr_auth_options *options, mlxr_error *err);
void mlxr_auth_free(mlxr_auth *a);

/* The value of an Authorization header for these scopes ("repository:x:pull", with spaces between several): *out is to be freed, or NULL as
 * long as nobody asked or there is nothing to say. Fetches a token when there is none that lasts a while. */
mlxr_status mlxr_auth_get(char **out, mlxr_auth *a, const char *scope, mlxr_error *err);
/* An answer of 401 to a request that was sent with `used` (may be NULL): learns what is asked for. *again: another try with what
 * mlxr_auth_get says now may do better. */
mlxr_status mlxr_auth_refused(bool *again, mlxr_auth *a, const mlxr_http_headers *headers, const char *used,
                              mlxr_error *err);
/* Forgets a token that was used and refused. */
void mlxr_auth_drop(mlxr_auth *a, const char *used);
/* Adds to a refusal's message as whom we came. */
void mlxr_auth_explain(mlxr_auth *a, mlxr_error *err);

#endif
