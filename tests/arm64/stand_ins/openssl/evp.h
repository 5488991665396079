/* What the sources name of libcrypto: declared, never linked. */
#ifndef STAND_IN_EVP_H
#define STAND_IN_EVP_H

#include <stddef.h>

enum { EVP_MAX_MD_SIZE = 64 };
typedef struct evp_md_st EVP_MD;
typedef struct engine_st ENGINE;

const EVP_MD *EVP_sha256(void);
int EVP_Digest(const void *data, size_t n, unsigned char *digest, unsigned *n_digest, const EVP_MD *type,
               ENGINE *engine);

#endif
