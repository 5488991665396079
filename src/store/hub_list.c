/* hub_list: see hub.h. https://huggingface.co/docs/hub/api */
#include "store/hub.h"

#include <stdlib.h>

#include "base/json.h"

bool mlxr_hub_is_hex(const char *s, size_t min, size_t max)
{
    size_t n = strspn(s, "0123456789abcdef");
    return s[n] == '\0' && n >= min && n <= max;
}

void mlxr_hub_list_clear(mlxr_hub_list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->v[i].path);
    free(l->v);
    l->v = NULL;
    l->n = l->cap = 0;
}

/* One entry of it: "rfilename", "blobId" and "lfs": {"sha256"} of the one call, "path", "oid" and "lfs": {"oid"} of the other. */
static mlxr_status add_file(mlxr_hub_list *l, const json_t *e, const char *repo, mlxr_error *err)
{
    const char *path = NULL, *git = NULL, *sha = NULL;
    const json_t *lfs = json_object_get(e, "lfs");
    int64_t size = -1;
    mlxr_hub_file f = {0};
    mlxr_status st;

    if (!json_is_object(e))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: the list of its files has an entry that is none", repo);
    if ((st = mlxr_json_get_str(&path, e, json_object_get(e, "rfilename") ? "rfilename" : "path", repo,
                                err)) != MLXR_OK)
        return st;
    if ((st = mlxr_json_get_str(&git, e, json_object_get(e, "blobId") ? "blobId" : "oid", repo, err)) !=
        MLXR_OK)
        return st;
    if ((st = mlxr_json_get_int(&size, e, "size", 0, INT64_MAX >> 1, repo, err)) != MLXR_OK) return st;
    if (json_is_object(lfs)) {
        if ((st = mlxr_json_get_str(&sha, lfs, json_object_get(lfs, "sha256") ? "sha256" : "oid", repo,
                                    err)) != MLXR_OK)
            return st;
        if ((st = mlxr_json_get_int(&size, lfs, "size", 0, INT64_MAX >> 1, repo, err)) != MLXR_OK) return st;
        if (!sha || !mlxr_hub_is_hex(sha, 64, 64))
            return mlxr_fail(err, MLXR_E_FORMAT, "%s: \"%.200s\" has a SHA-256 that is none", repo,
                             path ? path : "");
    }
    if (!path || !*path)
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: the list of its files has one without a name", repo);
    if (l->n == MLXR_HUB_MAX_FILES)
        return mlxr_fail(err, MLXR_E_LIMIT, "%s: has more than %d files", repo, MLXR_HUB_MAX_FILES);
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        mlxr_hub_file *files = mlxr_realloc_array(l->v, cap, sizeof *files);
        if (!files) return mlxr_fail_nomem(err, "hub");
        l->v = files;
        l->cap = cap;
    }
    f.size = size < 0 ? UINT64_MAX : (uint64_t)size;
    f.lfs = sha != NULL;
    if (sha) {
        memcpy(f.digest, "sha256:", 7);
        memcpy(f.digest + 7, sha, 65);
    } else if (git && mlxr_hub_is_hex(git, 40, 40)) {
        memcpy(f.git_id, git, 41);
    }
    if (!(f.path = mlxr_strdup(path))) return mlxr_fail_nomem(err, "hub");
    l->v[l->n++] = f;
    return MLXR_OK;
}

bool mlxr_hub_list_complete(const mlxr_hub_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].size == UINT64_MAX || (!l->v[i].lfs && !l->v[i].git_id[0])) return false;
    return l->n > 0;
}

mlxr_status mlxr_hub_list_info(mlxr_hub_list *l, const char *text, size_t n, const char *repo,
                               mlxr_error *err)
{
    const char *sha = NULL;
    const json_t *e;
    json_t *root = NULL;
    size_t i;
    mlxr_status st = mlxr_json_parse(&root, text, n, repo, err);

    if (st != MLXR_OK) return st;
    if (!json_is_object(root)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: what the hub says of it is no object", repo);
        goto done;
    }
    if ((st = mlxr_json_get_str(&sha, root, "sha", repo, err)) != MLXR_OK) goto done;
    if (!sha || !mlxr_hub_is_hex(sha, 40, sizeof l->commit - 1)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the hub names no commit", repo);
        goto done;
    }
    memcpy(l->commit, sha, strlen(sha) + 1);
    json_array_foreach(json_object_get(root, "siblings"), i, e)
    {
        if ((st = add_file(l, e, repo, err)) != MLXR_OK) goto done;
    }
done:
    json_decref(root);
    return st;
}

mlxr_status mlxr_hub_list_tree(mlxr_hub_list *l, const char *text, size_t n, const char *repo,
                               mlxr_error *err)
{
    const json_t *e;
    json_t *root = NULL;
    size_t i;
    mlxr_status st = mlxr_json_parse(&root, text, n, repo, err);

    if (st != MLXR_OK) return st;
    if (!json_is_array(root)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "%s: the hub's list of its files is no list", repo);
        goto done;
    }
    json_array_foreach(root, i, e)
    {
        const char *type = json_string_value(json_object_get(e, "type"));
        if (type && strcmp(type, "file") != 0) continue;
        if ((st = add_file(l, e, repo, err)) != MLXR_OK) goto done;
    }
done:
    json_decref(root);
    return st;
}

char *mlxr_hub_link_next(const mlxr_http_headers *headers)
{
    const char *v = mlxr_http_header(headers, "Link");

    while (v && (v = strchr(v, '<'))) {
        const char *end = strchr(v, '>'), *stop;
        if (!end) return NULL;
        stop = strchr(end, '<');
        for (const char *p = end; (p = strstr(p, "rel=")) && (!stop || p < stop); p++)
            if (strncmp(p, "rel=\"next\"", 10) == 0 || strncmp(p, "rel=next", 8) == 0)
                return mlxr_strndup(v + 1, (size_t)(end - v - 1));
        v = end;
    }
    return NULL;
}
