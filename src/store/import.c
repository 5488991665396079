/* import: mlxr_store_import. A folder as it lies, a GGUF file through a folder of the session's, an OCI image layout; in each case
 * one session, whose last step gives the model its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/bring.h"

typedef enum source_kind { KIND_NONE, KIND_FOLDER, KIND_LAYOUT, KIND_GGUF } source_kind;

/* By what lies there: "GGUF" at a file's beginning. A pipe is not waited for. */
static mlxr_status kind_of(source_kind *out, const char *path, mlxr_error *err)
{
    char magic[4] = {0};
    struct stat sb;
    int fd;

    *out = KIND_NONE;
    if (stat(path, &sb) != 0) return mlxr_io_fail(err, path, "open", errno);
    if (S_ISDIR(sb.st_mode)) {
        bool is_layout;
        mlxr_status st = mlxr_is_oci_layout(&is_layout, path, err);
        *out = is_layout ? KIND_LAYOUT : KIND_FOLDER;
        return st;
    }
    if (!S_ISREG(sb.st_mode))
        return mlxr_fail(err, MLXR_E_FORMAT, "%s: is a special file; wanted a folder or a GGUF file", path);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return mlxr_io_fail(err, path, "open", errno);
    if (pread(fd, magic, sizeof magic, 0) == sizeof magic && memcmp(magic, "GGUF", 4) == 0) *out = KIND_GGUF;
    close(fd);
    if (*out == KIND_NONE)
        return mlxr_fail(err, MLXR_E_FORMAT,
                         "%s: is not a GGUF file; wanted a model folder, an OCI image layout or a GGUF file",
                         path);
    return MLXR_OK;
}

typedef struct converting {
    mlxr_store_pace *pace;
    const char *item;
    uint64_t told;
} converting;

static void on_converted(uint64_t done, uint64_t total, void *ud)
{
    converting *c = ud;

    (void)mlxr_store_pace_add(c->pace, "converting", c->item, done - c->told, done, total, NULL);
    c->told = done;
}

/* The file as a folder in the session's, whose files are then moved: nothing is copied. */
static mlxr_status bring_gguf(mlxr_manifest *out, mlxr_session *s, const char *path,
                              const mlxr_store_import_options *options, const mlxr_store_job *job,
                              mlxr_error *err)
{
    mlxr_gguf_import_options o = mlxr_gguf_import_options_default();
    const char *slash = strrchr(path, '/');
    char *dir = mlxr_path_join(mlxr_session_dir(s), "gguf");
    mlxr_store_pace pace = {0};
    converting c = {.pace = &pace, .item = slash ? slash + 1 : path};
    struct stat sb;
    mlxr_status st;

    if (!dir) return mlxr_fail_nomem(err, path);
    if (stat(path, &sb) != 0) {
        st = mlxr_io_fail(err, path, "open", errno);
        goto done;
    }
    if ((st = mlxr_store_check_quota(mlxr_session_store(s), (uint64_t)sb.st_size / 2, err)) != MLXR_OK)
        goto done;
    if ((st = mlxr_store_pace_init(&pace, job, 0, err)) != MLXR_OK) goto done;
    o.requantize = options->requantize;
    o.progress = (mlxr_progress){on_converted, &c};
    o.cancel = job ? job->cancel : NULL;
    o.log = mlxr_session_store(s)->log;
    st = mlxr_gguf_import(path, dir, &o, err);
    mlxr_store_pace_clear(&pace);
    if (st == MLXR_OK) st = mlxr_bring_folder(out, s, dir, MLXR_FILES_MOVE, NULL, NULL, NULL, job, err);
done:
    free(dir);
    return st;
}

mlxr_status mlxr_store_import(char **out_digest, mlxr_store *store, const char *path, const char *name,
                              const mlxr_store_import_options *options, const mlxr_store_job *job,
                              mlxr_error *err)
{
    mlxr_store_import_options o = options ? *options : mlxr_store_import_options_default();
    mlxr_files_how how = o.link ? MLXR_FILES_LINK : o.copy ? MLXR_FILES_COPY : MLXR_FILES_SHARE;
    mlxr_session *s = NULL;
    mlxr_manifest m = {0};
    source_kind kind;
    mlxr_name parsed;
    mlxr_status st;

    if (out_digest) *out_digest = NULL;
    if ((st = mlxr_name_parse(&parsed, name, err)) != MLXR_OK) return st;
    if (o.link && o.copy)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "import: link and copy exclude each other");
    if ((st = kind_of(&kind, path, err)) != MLXR_OK) return st;
    if (kind == KIND_GGUF && o.link)
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "%s: a GGUF file is converted, so nothing of it can be linked", path);
    if ((st = mlxr_session_begin(&s, store, err)) != MLXR_OK) goto done;
    if (kind == KIND_GGUF)
        st = bring_gguf(&m, s, path, &o, job, err);
    else if (kind == KIND_LAYOUT)
        st = mlxr_bring_layout(&m, s, path, &parsed, how, job, err);
    else
        st = mlxr_bring_folder(&m, s, path, how, NULL, NULL, NULL, job, err);
    if (st == MLXR_OK && job && mlxr_cancelled(job->cancel))
        st = mlxr_fail(err, MLXR_E_CANCELLED, "import: cancelled");
    if (st != MLXR_OK) goto done;
    if (out_digest && !(*out_digest = mlxr_strdup(m.digest))) {
        st = mlxr_fail_nomem(err, "import");
        goto done;
    }
    if ((st = mlxr_session_name(s, &parsed, &m, err)) != MLXR_OK && out_digest) {
        free(*out_digest);
        *out_digest = NULL;
    }
done:
    mlxr_session_end(s);
    mlxr_manifest_clear(&m);
    return st;
}
