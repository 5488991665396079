/* remote: pull and push by what a name is, and where repair gets a file again. */
#include "store/remote.h"

#include <stdlib.h>
#include <unistd.h>

#include "store/hub.h"

enum { ORIGIN_MAX_BYTES = 64 << 10, FIRST_PAUSE_MS = 500 };

mlxr_http_options mlxr_remote_http_options(const mlxr_remote_options *options, const mlxr_store_job *job,
                                           const mlxr_log *log)
{
    mlxr_http_options o = mlxr_http_options_default();

    o.insecure = options->insecure;
    if (options->n_tries) o.n_tries = options->n_tries;
    if (options->stall_seconds) o.stall_seconds = options->stall_seconds;
    o.first_pause_ms = FIRST_PAUSE_MS;
    if (job) o.cancel = job->cancel;
    if (log) o.log = *log;
    return o;
}

/* "host/repository[:tag]@sha256:...": the digest goes where a tag would, for the registry; *name is the rest, as a name here. */
static mlxr_status parse_source(mlxr_name *source, mlxr_name *name, const char *text, mlxr_error *err)
{
    const char *at = strchr(text, '@');
    char *rest = NULL;
    mlxr_status st;

    if (at && mlxr_digest_valid(at + 1) && !(rest = mlxr_strndup(text, (size_t)(at - text))))
        return mlxr_fail_nomem(err, "name");
    if ((st = mlxr_name_parse(name, rest ? rest : text, err)) != MLXR_OK) goto done;
    *source = *name;
    if (!rest) goto done;
    if (mlxr_name_is_hub(name))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: a hub has revisions, digests are of registries",
                       text);
    memcpy(source->tag, at + 1, 72);
done:
    free(rest);
    return st;
}

mlxr_status mlxr_store_pull(mlxr_transfer *out, mlxr_store *store, const char *from, const char *name,
                            const mlxr_remote_options *options, const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_remote_options defaults = mlxr_remote_options_default();
    mlxr_transfer t = {0};
    mlxr_name source, target;
    mlxr_status st;

    if (!options) options = &defaults;
    if (out) *out = t;
    if ((st = parse_source(&source, &target, from, err)) != MLXR_OK) return st;
    if (name && (st = mlxr_name_parse(&target, name, err)) != MLXR_OK) return st;
    if (mlxr_name_is_hub(&source)) {
        st = mlxr_hub_pull(&t, store, &source, &target, options, job, err);
    } else if (options->file || options->revision) {
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                       "%s: a file or a revision can be chosen of a hub alone; a registry has tags", from);
    } else {
        st = mlxr_registry_pull(&t, store, &source, &target, options, job, err);
    }
    if (out) *out = t;
    return st;
}

mlxr_status mlxr_store_push(mlxr_transfer *out, mlxr_store *store, const char *name, const char *to,
                            const mlxr_remote_options *options, const mlxr_store_job *job, mlxr_error *err)
{
    mlxr_remote_options defaults = mlxr_remote_options_default();
    mlxr_transfer t = {0};
    mlxr_name own, target;
    mlxr_manifest m = {0};
    mlxr_status st;

    if (!options) options = &defaults;
    if (out) *out = t;
    if ((st = mlxr_store_find(&m, &own, store, name, err)) != MLXR_OK) goto done;
    target = own;
    if (to && (st = mlxr_name_parse(&target, to, err)) != MLXR_OK) goto done;
    if (mlxr_name_is_hub(&target)) {
        mlxr_buf shown = {0};
        mlxr_name_display(&shown, &target);
        st = mlxr_buf_check(&shown, "name", err);
        if (st == MLXR_OK)
            st = mlxr_fail(err, MLXR_E_UNSUPPORTED,
                           "%s: models are pushed to OCI registries, not to a hub; name one as \"host/%s\"",
                           shown.data, shown.data);
        mlxr_buf_clear(&shown);
        goto done;
    }
    st = mlxr_registry_push(&t, store, &m, &target, options, job, err);
done:
    if (out) *out = t;
    mlxr_manifest_clear(&m);
    return st;
}

/* ---- origins ---- */

static char *origin_path(const mlxr_store *store, const char *manifest_digest)
{
    return mlxr_digest_valid(manifest_digest) ? mlxr_store_path(store, "origins/%s", manifest_digest + 7)
                                              : NULL;
}

mlxr_status mlxr_origin_write(mlxr_store *store, const char *manifest_digest, const char *source,
                              mlxr_error *err)
{
    char *path = origin_path(store, manifest_digest), *dir = mlxr_store_path(store, "origins"), *old = NULL;
    mlxr_buf text = {0};
    mlxr_status st;

    if (!path || !dir) {
        st = mlxr_fail_nomem(err, "origin");
        goto done;
    }
    old = mlxr_origin_read(store, manifest_digest);
    if (old && strcmp(old, source) == 0) {
        st = MLXR_OK;
        goto done;
    }
    mlxr_buf_str(&text, "{\"source\": ");
    mlxr_json_escape(&text, source, strlen(source));
    mlxr_buf_str(&text, "}\n");
    if ((st = mlxr_buf_check(&text, "origin", err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_make_dirs(&store->io, dir, err)) != MLXR_OK) goto done;
    st = mlxr_io_write_file(&store->io, path, text.data, text.len, err);
done:
    mlxr_buf_clear(&text);
    free(old);
    free(dir);
    free(path);
    return st;
}

char *mlxr_origin_read(mlxr_store *store, const char *manifest_digest)
{
    char *path = origin_path(store, manifest_digest), *source = NULL;
    const char *text = NULL;
    json_t *root = NULL;

    if (path && mlxr_json_read(&root, path, ORIGIN_MAX_BYTES, NULL) == MLXR_OK && json_is_object(root) &&
        mlxr_json_get_str(&text, root, "source", path, NULL) == MLXR_OK && text)
        source = mlxr_strdup(text);
    json_decref(root);
    free(path);
    return source;
}

/* ---- repair ---- */

/* What the config says; NULL when it cannot be read. */
static char *config_source(mlxr_store *store, const mlxr_manifest *m)
{
    char *path = mlxr_store_blob_path(store, m->config.digest), *source = NULL;
    mlxr_description d = {0};
    mlxr_buf text = {0};

    if (path && mlxr_file_read(&text, path, MLXR_CONFIG_MAX_BYTES, NULL) == MLXR_OK && text.len > 0 &&
        mlxr_description_parse(&d, text.data, text.len, "config", NULL) == MLXR_OK && d.source)
        source = mlxr_strdup(d.source);
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    free(path);
    return source;
}

/* The config says what the files are, and where they came from: so it can be made again of them, when nobody else has it. */
static mlxr_status remake_config(mlxr_session *s, const mlxr_manifest *m, const char *source, mlxr_error *err)
{
    mlxr_store *store = mlxr_session_store(s);
    char *dir = mlxr_session_temp(s), *path = mlxr_session_temp(s), digest[72] = "sha256:";
    mlxr_description d = {0};
    mlxr_buf text = {0};
    int fd = -1;
    mlxr_status st = MLXR_OK;

    if (!dir || !path) {
        st = mlxr_fail_nomem(err, "config");
        goto done;
    }
    for (size_t i = 0; i < m->n_layers; i++)
        if ((st = mlxr_hub_link(store, dir, m->layers[i].path, m->layers[i].digest, err)) != MLXR_OK)
            goto done;
    if ((st = mlxr_description_of_folder(&d, dir, err)) != MLXR_OK) goto done;
    if (source && !(d.source = mlxr_strdup(source))) {
        st = mlxr_fail_nomem(err, "config");
        goto done;
    }
    if ((st = mlxr_description_write(&text, &d, err)) != MLXR_OK) goto done;
    if ((st = mlxr_sha256_hex(digest + 7, text.data, text.len, err)) != MLXR_OK) goto done;
    if (strcmp(digest, m->config.digest) != 0) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND,
                       "config: it is nowhere else, and the model's files do not give it");
        goto done;
    }
    if ((st = mlxr_io_create(&fd, &store->io, path, true, err)) != MLXR_OK) goto done;
    if ((st = mlxr_io_write(&store->io, fd, path, text.data, text.len, -1, err)) != MLXR_OK) goto done;
    st = mlxr_session_commit(s, path, digest, text.len, true, err);
done:
    if (fd >= 0) close(fd);
    mlxr_description_clear(&d);
    mlxr_buf_clear(&text);
    free(path);
    free(dir);
    return st;
}

mlxr_status mlxr_remote_fetch_layer(mlxr_session *s, const mlxr_manifest *m, const mlxr_layer *layer,
                                    const mlxr_remote_options *options, mlxr_store_pace *pace,
                                    uint64_t *moved, mlxr_error *err)
{
    static const char hub[] = MLXR_NAME_HOST "/";
    mlxr_store *store = mlxr_session_store(s);
    /* A config says what whoever made it wrote: the caller's password is not for a host that it names. */
    mlxr_remote_options defaults = mlxr_remote_options_default(), unknown;
    char *sources[2] = {mlxr_origin_read(store, m->digest), config_source(store, m)};
    const char *item = layer->path ? layer->path : "config";
    mlxr_status st = mlxr_fail(err, MLXR_E_NOT_FOUND, "%s: nothing says where the model came from", item);

    if (!options) options = &defaults;
    unknown = *options;
    unknown.user = unknown.password = NULL;
    for (size_t i = 0; i < MLXR_COUNT(sources); i++) {
        if (!sources[i] || (i > 0 && sources[0] && strcmp(sources[0], sources[i]) == 0)) continue;
        if (strncmp(sources[i], hub, sizeof hub - 1) != 0)
            st = mlxr_registry_fetch_layer(s, sources[i], layer, i == 0 ? options : &unknown, pace, moved,
                                           err);
        else if (layer->path)
            st = mlxr_hub_fetch_layer(s, sources[i], layer, options, pace, moved, err);
        else
            st = remake_config(s, m, sources[i], err);
        if (st == MLXR_OK || st == MLXR_E_CANCELLED || st == MLXR_E_NO_SPACE || st == MLXR_E_NOMEM) break;
    }
    if (st == MLXR_E_NOT_FOUND && !sources[0] && !sources[1] && !layer->path)
        st = remake_config(s, m, NULL, err);
    free(sources[0]);
    free(sources[1]);
    return st;
}
