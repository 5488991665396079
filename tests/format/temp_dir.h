/* A folder of a test's own, removed with all that is in it. */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static char temp_dir[] = P_tmpdir "/mlxr-format-XXXXXX";

static int temp_dir_make(void **state)
{
    strcpy(temp_dir + sizeof temp_dir - 7, "XXXXXX");
    return mkdtemp(temp_dir) ? 0 : -1;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        char *inner;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        inner = mlxr_path_join(path, e->d_name);
        if (inner && unlink(inner) != 0) remove_tree(inner);
        free(inner);
    }
    if (d) closedir(d);
    (void)rmdir(path);
}

static int temp_dir_remove(void **state)
{
    remove_tree(temp_dir);
    return 0;
}

/* A path inside it, good until the next but three calls. */
static const char *temp_path(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *p = paths[turn++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", temp_dir, name);
    return p;
}

static inline size_t count_files(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    size_t n = 0;
    while (d && (e = readdir(d)) != NULL) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

#endif
