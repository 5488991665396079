/* doctor without a model: devices, memory, cache, disk, the model-paths file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "device/device.h"
#include "doctor.h"
#include "mlxctl.h"

enum { MAX_PATHS_FILE = 1 << 20 };

static void check_cpu(doctor *d)
{
    static const char *const isas[] = {"vnni", "avx512", "avx2", "dotprod", "neon", "baseline"};
    mlxr_device_options options = {.n_threads = 1};
    mlxr_device *device = NULL;
    mlxr_error err = {0};
    char have[128] = "";

    for (size_t i = 0; i < MLXR_COUNT(isas); i++) {
        size_t n = strlen(have);
        options.isa = isas[i];
        if (mlxr_device_open(&device, "cpu", &options, &err) == MLXR_OK)
            snprintf(have + n, sizeof have - n, "%s%s", n ? ", " : "", isas[i]);
        mlxr_device_close(device);
    }
    options = (mlxr_device_options){.isa = cli_isa()}; /* as other commands open it */
    if (mlxr_device_open(&device, "cpu", &options, &err) != MLXR_OK)
        doctor_message(d, DOCTOR_ERROR, "device cpu", &err);
    else
        doctor_say(d, DOCTOR_OK, "device cpu", "%s; kernels here: %s", mlxr_device_description(device), have);
    mlxr_device_close(device);
}

static void check_ref(doctor *d)
{
    mlxr_device *device = NULL;
    mlxr_error err = {0};

    if (mlxr_device_open(&device, "ref", NULL, &err) != MLXR_OK)
        doctor_message(d, DOCTOR_ERROR, "device ref", &err);
    else
        doctor_say(d, DOCTOR_OK, "device ref", "%s", mlxr_device_description(device));
    mlxr_device_close(device);
}

static void check_mlx(doctor *d)
{
    static const char prefix[] = "device mlx: "; /* of errors, which the line has already */
    char text[1024] = "";
    bool is_there = mlxr_device_probe_mlx(text, sizeof text, cli_mlx_library());
    size_t n = strncmp(text, prefix, sizeof prefix - 1) == 0 ? sizeof prefix - 1 : 0;

    doctor_say(d, is_there ? DOCTOR_OK : DOCTOR_WARN, "device mlx", "%s", text + n);
}

/* A field of /proc/meminfo in bytes; 0 where there is no such file. */
static uint64_t meminfo(const char *field)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    uint64_t bytes = 0;
    size_t n = strlen(field);

    if (!f) return 0;
    while (!bytes && fgets(line, sizeof line, f))
        if (strncmp(line, field, n) == 0 && line[n] == ':')
            bytes = (uint64_t)strtoull(line + n + 1, NULL, 10) * 1024;
    fclose(f);
    return bytes;
}

static void check_memory(doctor *d)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t available = meminfo("MemAvailable");

    if (pages <= 0 || page <= 0) return;
    if (available)
        doctor_say(d, DOCTOR_OK, "memory", "%.1f GB, %.1f GB available", (double)pages * (double)page / 1e9,
                   (double)available / 1e9);
    else
        doctor_say(d, DOCTOR_OK, "memory", "%.1f GB", (double)pages * (double)page / 1e9);
}

/* The path, or the nearest folder above it that is there; free it. */
static char *nearest_folder(const char *path)
{
    char *p = mlxr_strdup(path);

    while (p && !mlxr_path_is_dir(p) && strcmp(p, "/") != 0 && strcmp(p, ".") != 0) {
        char *up = mlxr_path_dirname(p);
        free(p);
        p = up;
    }
    return p;
}

static void check_disk(doctor *d, const char *folder)
{
    struct statvfs s;
    double n_free;

    if (statvfs(folder, &s) != 0) {
        doctor_say(d, DOCTOR_WARN, "disk", "%s: %s", folder, strerror(errno));
        return;
    }
    n_free = (double)s.f_bavail * (double)s.f_frsize;
    doctor_say(d, n_free < 1e9 ? DOCTOR_WARN : DOCTOR_OK, "disk", "%.1f GB free at %s", n_free / 1e9, folder);
}

static void check_cache(doctor *d)
{
    char *cache = cli_cache_dir(), *folder = cache ? nearest_folder(cache) : NULL;

    if (!cache)
        doctor_say(d, DOCTOR_WARN, "cache",
                   "neither MLXR_HOME nor HOME is set: tokenizers are compiled anew "
                   "each time");
    else if (!folder)
        doctor_say(d, DOCTOR_WARN, "cache", "out of memory");
    else if (access(folder, W_OK | X_OK) != 0 || !mlxr_path_is_dir(folder))
        doctor_say(d, DOCTOR_WARN, "cache", "%s: %s is not writable: %s", cache, folder, strerror(errno));
    else
        doctor_say(d, DOCTOR_OK, "cache", "%s%s", cache,
                   strcmp(cache, folder) == 0 ? ", writable" : ", can be made");
    if (folder) check_disk(d, folder);
    free(cache);
    free(folder);
}

static void check_model_paths(doctor *d)
{
    json_t *paths = NULL, *value;
    const char *id;
    mlxr_error err = {0};
    size_t n = 0;

    if (mlxr_json_read(&paths, CLI_DEFAULT_PATHS, MAX_PATHS_FILE, &err) != MLXR_OK) {
        if (err.code == MLXR_E_NOT_FOUND)
            doctor_say(d, DOCTOR_OK, "model paths", "no %s here: models are named by their folders",
                       CLI_DEFAULT_PATHS);
        else
            doctor_message(d, DOCTOR_ERROR, "model paths", &err);
        return;
    }
    json_object_foreach(paths, id, value)
    {
        char *dir = NULL;
        if (mlxr_model_path_resolve(&dir, CLI_DEFAULT_PATHS, id, getenv("HOME"), &err) == MLXR_OK)
            n++;
        else
            doctor_message(d, DOCTOR_WARN, "model paths", &err);
        free(dir);
    }
    if (!json_is_object(paths))
        doctor_say(d, DOCTOR_ERROR, "model paths", "%s: not a JSON object", CLI_DEFAULT_PATHS);
    else
        doctor_say(d, DOCTOR_OK, "model paths", "%s: %zu of %zu with a folder", CLI_DEFAULT_PATHS, n,
                   json_object_size(paths));
    json_decref(paths);
}

void doctor_machine(doctor *d)
{
    doctor_say(d, DOCTOR_OK, "mlxr", "%s", mlxr_version());
    check_cpu(d);
    check_ref(d);
    check_mlx(d);
    check_memory(d);
    check_cache(d);
    doctor_store(d);
    check_model_paths(d);
}
