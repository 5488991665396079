/* hub: what a Hugging Face hub says of a repository, read from its answers (hub_list.c), and what remote.c
 * needs of hub.c. */
#ifndef MLXR_STORE_HUB_H
#define MLXR_STORE_HUB_H

#include "store/http.h"
#include "store/store.h"

enum { MLXR_HUB_MAX_FILES = 200000 };

typedef struct mlxr_hub_file {
    char *path;           /* as the hub has it: nothing is checked */
    uint64_t size;        /* UINT64_MAX: not told */
    char git_id[41];      /* of a file that is not LFS; "" when it is not told */
    char digest[72];      /* "" while it is not known */
    bool lfs;             /* kept by LFS: digest is known */
    bool chosen, present; /* hub.c: it is of the model; it is in the store already */
} mlxr_hub_file;

/* init to {0}, clear it */
typedef struct mlxr_hub_list {
    char commit[65];
    mlxr_hub_file *v;
    size_t n, cap;
} mlxr_hub_list;

/* The answer to /api/models/REPO/revision/REV: fills commit and appends files. repo: how messages call it. */
mlxr_status mlxr_hub_list_info(mlxr_hub_list *list, const char *text, size_t n, const char *repo,
                               mlxr_error *err);
/* A page of the answer to /api/models/REPO/tree/REV: appends files. */
mlxr_status mlxr_hub_list_tree(mlxr_hub_list *list, const char *text, size_t n, const char *repo,
                               mlxr_error *err);
/* There are files, and of each a size and what it can be checked by are known. */
bool mlxr_hub_list_complete(const mlxr_hub_list *list);
void mlxr_hub_list_clear(mlxr_hub_list *list); /* the files: commit stays */

/* The url of a header "Link: <url>; rel=next" (RFC 8288); free it. NULL when there is none. */
char *mlxr_hub_link_next(const mlxr_http_headers *headers);
/* Lower-case hex digits, min to max of them. */
bool mlxr_hub_is_hex(const char *s, size_t min, size_t max);

/* dir/path becomes a link to the blob; folders above it are made. */
mlxr_status mlxr_hub_link(const mlxr_store *store, const char *dir, const char *path, const char *digest,
                          mlxr_error *err);

#endif
