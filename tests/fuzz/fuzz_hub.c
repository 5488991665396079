/* What a hub says of a repository, from hostile bytes: '{' the information, '[' a page of the tree, else a Link header. */
#include <stdlib.h>

#include "store/hub.h"
#include "store/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const mlxr_hub_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const mlxr_hub_file *f = &l->v[i];
        if (!*f->path || (f->lfs && !mlxr_digest_valid(f->digest)) || (!f->lfs && f->digest[0])) abort();
        if (f->git_id[0] && !mlxr_hub_is_hex(f->git_id, 40, 40)) abort();
        /* what is taken stays in its folder */
        if (mlxr_hub_wants(f->path) &&
            (f->path[0] == '/' || f->path[0] == '.' || strstr(f->path, "/.") || strstr(f->path, "//")))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    mlxr_hub_list l = {0};
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;

    if (size > 0 && data[0] == '{') {
        st = mlxr_hub_list_info(&l, text, size, "org/x", &err);
        if (st == MLXR_OK && !mlxr_hub_is_hex(l.commit, 40, 64)) abort();
    } else if (size > 0 && data[0] == '[') {
        st = mlxr_hub_list_tree(&l, text, size, "org/x", &err);
    } else {
        char name[] = "link", *value = mlxr_strndup(text, size), *names[] = {name}, *values[] = {value}, *url;
        mlxr_http_headers h = {names, values, 1};
        if (!value) return 0;
        url = mlxr_hub_link_next(&h);
        if (url) {
            (void)mlxr_url_is_loopback(url);
            (void)mlxr_url_same_origin(url, "https://example.org/");
        }
        free(url);
        free(value);
    }
    if (st != MLXR_OK && !*err.message) abort();
    check(&l);
    (void)mlxr_hub_list_complete(&l);
    mlxr_hub_list_clear(&l);
    return 0;
}
