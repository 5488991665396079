/* The MLX device as the rest of the library knows it: a module that is opened when somebody asks for it (module.h).
 * It is looked for beside the file this code is in and beside the running program, in ../lib of both, then where it
 * was built and where it would be installed. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "device/mlx/module.h"
#include "model/rope.h"

#ifndef MLXR_MLX_FILE
#define MLXR_MLX_FILE "libmlxr_mlx.so"
#endif
#ifndef MLXR_MLX_DIRS
#define MLXR_MLX_DIRS ""
#endif

#define HOW_TO_GET_IT "scripts/setup.sh mlx brings MLX, and building anew then builds the module"

/* dir/FILE, dir/../lib/FILE or such, when there is such a file. */
static bool find_in(char path[static PATH_MAX], const char *dir, size_t n_dir, const char *below)
{
    int n = snprintf(path, PATH_MAX, "%.*s%s/%s", (int)n_dir, dir, below, MLXR_MLX_FILE);
    return n > 0 && n < PATH_MAX && access(path, R_OK) == 0;
}

/* Beside a file whose path may be a link or relative. */
static bool find_beside(char path[static PATH_MAX], const char *file)
{
    static const char *const below[] = {"", "/../lib", "/../lib/mlxr"};
    char *real = realpath(file, NULL), *slash = real ? strrchr(real, '/') : NULL;
    bool found = false;

    for (size_t i = 0; i < MLXR_COUNT(below) && slash && !found; i++)
        found = find_in(path, real, (size_t)(slash - real), below[i]);
    free(real);
    return found;
}

static bool find_module(char path[static PATH_MAX])
{
    Dl_info here;

    if (dladdr(&mlxr_device_mlx, &here) && here.dli_fname && find_beside(path, here.dli_fname)) return true;
#ifdef __linux__
    if (find_beside(path, "/proc/self/exe")) return true;
#endif
    for (const char *dir = MLXR_MLX_DIRS; *dir;) {
        size_t n = strcspn(dir, ":");
        if (n && find_in(path, dir, n, "")) return true;
        dir += n + (dir[n] == ':');
    }
    return false;
}

/* Opens the module once more: it stays in the process, since MLX's threads and statics cannot be taken out of it. */
static mlxr_status get_module(const mlxr_mlx_module **out, const char *library, mlxr_error *err)
{
    static const mlxr_mlx_host host = {.quant_supported = mlxr_quant_supported,
                                       .rope_frequencies_at = mlxr_rope_frequencies_at};
    const mlxr_mlx_module *(*get)(const mlxr_mlx_host *) = NULL;
    char path[PATH_MAX];
    void *handle, *symbol;

    *out = NULL;
    if (!library && !find_module(path))
        return mlxr_fail(err, MLXR_E_DEVICE, "device mlx: there is no %s: %s", MLXR_MLX_FILE, HOW_TO_GET_IT);
    handle = dlopen(library ? library : path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        const char *why = dlerror();
        return mlxr_fail(err, MLXR_E_DEVICE, "device mlx: %s: %s (%s)", library ? library : path,
                         why ? why : "cannot be loaded", HOW_TO_GET_IT);
    }
    symbol = dlsym(handle, MLXR_MLX_SYMBOL);
    if (symbol) memcpy(&get, &symbol, sizeof get);
    dlclose(handle);
    *out = get ? get(&host) : NULL;
    if (!*out || (*out)->fingerprint != mlxr_mlx_fingerprint()) {
        *out = NULL;
        return mlxr_fail(err, MLXR_E_DEVICE, "device mlx: %s is not the module of this build of mlxr",
                         library ? library : path);
    }
    return MLXR_OK;
}

static mlxr_status mlx_open(mlxr_device **out, const mlxr_device_options *options, mlxr_error *err)
{
    const mlxr_mlx_module *module;
    mlxr_status st;

    *out = NULL;
    if (options->kv_type != MLXR_KV_DEFAULT) {
        return mlxr_fail(err, MLXR_E_UNSUPPORTED,
                         "device mlx: it keeps keys and values in the type it computes with, and no other");
    }
    st = get_module(&module, options->mlx_library, err);
    return st == MLXR_OK ? module->ops->open(out, options, err) : st;
}

bool mlxr_device_probe_mlx(char *text, size_t n_text, const char *library)
{
    const mlxr_mlx_module *module;
    mlxr_error err;

    if (get_module(&module, library, &err) == MLXR_OK) return module->describe(text, n_text);
    snprintf(text, n_text, "%s", err.message);
    return false;
}

bool mlxr_device_mlx_memory(size_t *active, size_t *cached, const char *library)
{
    const mlxr_mlx_module *module;
    mlxr_error err;

    *active = *cached = 0;
    if (get_module(&module, library, &err) != MLXR_OK) return false;
    module->memory(active, cached);
    return true;
}

/* Its other operations are the module's own: a device it opened points to them. */
const mlxr_device_ops mlxr_device_mlx = {.name = "mlx", .open = mlx_open};
