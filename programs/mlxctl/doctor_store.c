/* doctor: the store's health. What is told is what the other commands would stumble on; nothing is changed, and no file of a model
 * is read (mlxctl store verify does that). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "../stores.h"
#include "base/fs.h"
#include "doctor.h"
#include "store/store.h"

enum { STALE_SECONDS = 7 * 86400, MAX_FOLDER = 100000 };

#define PART "store"

/* Entries of <root>/name with their stat: fn is called for each. */
static void each_entry(const char *root, const char *name,
                       void (*fn)(void *ud, const char *path, const struct stat *sb), void *ud)
{
    char *dir = mlxr_asprintf("%s/%s", root, name);
    DIR *d = dir ? opendir(dir) : NULL;
    const struct dirent *e;
    size_t n = 0;

    while (d && n++ < MAX_FOLDER && (e = readdir(d)) != NULL) {
        struct stat sb;
        char *path = e->d_name[0] == '.' ? NULL : mlxr_path_join(dir, e->d_name);
        if (path && lstat(path, &sb) == 0) fn(ud, path, &sb);
        free(path);
    }
    if (d) closedir(d);
    free(dir);
}

struct tally {
    size_t n, n_old;
    uint64_t bytes;
    int64_t now;
};

/* A session whose lock nobody holds is of a process that is gone. Young ones are not touched: their process may be about to take it. */
static void count_session(void *ud, const char *path, const struct stat *sb)
{
    struct tally *t = ud;
    char *lock;
    int fd;

    if (t->now - (int64_t)sb->st_mtime < 10) return;
    lock = mlxr_path_join(path, "lock");
    fd = lock ? open(lock, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) t->n++;
    if (fd >= 0) close(fd);
    free(lock);
}

static void count_partial(void *ud, const char *path, const struct stat *sb)
{
    struct tally *t = ud;
    size_t n = strlen(path);

    if (!S_ISREG(sb->st_mode) || (n > 6 && strcmp(path + n - 6, ".state") == 0)) return;
    t->n++;
    t->bytes += (uint64_t)sb->st_blocks * 512;
    if (t->now - (int64_t)sb->st_mtime > STALE_SECONDS) t->n_old++;
}

static void check_leftovers(doctor *d, const char *root)
{
    struct tally sessions = {.now = (int64_t)time(NULL)}, partial = sessions;
    char bytes[32];

    each_entry(root, "sessions", count_session, &sessions);
    each_entry(root, "partial", count_partial, &partial);
    if (sessions.n)
        doctor_say(d, DOCTOR_WARN, PART,
                   "%zu folder%s of calls that were killed: mlxctl store gc removes them", sessions.n,
                   sessions.n == 1 ? "" : "s");
    if (partial.n)
        doctor_say(d, partial.n_old ? DOCTOR_WARN : DOCTOR_OK, PART,
                   "%zu unfinished download%s, %s: pull goes on with %s%s", partial.n,
                   partial.n == 1 ? "" : "s", words_size(bytes, partial.bytes),
                   partial.n == 1 ? "it" : "them",
                   partial.n_old ? "; the older ones are a week old, and mlxctl store gc removes them" : "");
}

static void check_models(doctor *d, mlxr_store *store)
{
    mlxr_store_entry *entries = NULL;
    mlxr_error err = {0};
    size_t n = 0, n_broken = 0;

    if (mlxr_store_list(&entries, &n, store, &err) != MLXR_OK) {
        doctor_message(d, DOCTOR_ERROR, PART, &err);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!entries[i].broken) continue;
        n_broken++;
        doctor_say(d, DOCTOR_ERROR, PART, "%s: %s", entries[i].name, entries[i].broken);
    }
    doctor_say(d, DOCTOR_OK, PART, "%zu model%s, %zu of them broken", n, n == 1 ? "" : "s", n_broken);
    mlxr_store_entries_free(entries, n);
}

static void check_room(doctor *d, mlxr_store *store, const char *root)
{
    uint64_t quota = 0, used = 0;
    char a[32], b[32], c[32];
    mlxr_error err = {0};
    struct statvfs s;
    double n_free;

    if (mlxr_store_quota(&quota, &used, store, &err) != MLXR_OK) {
        doctor_message(d, DOCTOR_ERROR, PART, &err);
        return;
    }
    if (statvfs(root, &s) != 0) {
        doctor_say(d, DOCTOR_WARN, PART, "%s: %s", root, strerror(errno));
        return;
    }
    n_free = (double)s.f_bavail * (double)s.f_frsize;
    words_size(a, used);
    words_size(b, (uint64_t)n_free);
    if (quota)
        doctor_say(d, used > quota - quota / 20 ? DOCTOR_WARN : DOCTOR_OK, PART,
                   "%s used of a quota of %s, %s free on the disk", a, words_size(c, quota), b);
    else
        doctor_say(d, n_free < 1e9 ? DOCTOR_WARN : DOCTOR_OK, PART, "%s used, %s free on the disk, no quota",
                   a, b);
}

void doctor_store(doctor *d)
{
    mlxr_store *store = NULL;
    char *root = NULL;
    mlxr_error err = {0};

    if (cli_store_root(&root, &err) != MLXR_OK) {
        doctor_message(d, DOCTOR_WARN, PART, &err);
        return;
    }
    if (access(root, F_OK) != 0 && errno == ENOENT) {
        doctor_say(d, DOCTOR_OK, PART,
                   "%s: not there yet; the first model that is imported or pulled makes it", root);
    } else if (!mlxr_path_is_dir(root)) {
        doctor_say(d, DOCTOR_ERROR, PART, "%s: is no folder", root);
    } else if (access(root, R_OK | X_OK) != 0) {
        doctor_say(d, DOCTOR_ERROR, PART, "%s: cannot be read: %s", root, strerror(errno));
    } else if (cli_store_open(&store, "mlxctl doctor", &err) != MLXR_OK) {
        doctor_message(d, DOCTOR_ERROR, PART, &err);
    } else {
        if (access(root, W_OK) == 0)
            doctor_say(d, DOCTOR_OK, PART, "%s, writable", root);
        else
            doctor_say(d, DOCTOR_WARN, PART, "%s: models can be run, not added: %s", root, strerror(errno));
        check_models(d, store);
        check_leftovers(d, root);
        check_room(d, store, root);
    }
    mlxr_store_close(store);
    free(root);
}
