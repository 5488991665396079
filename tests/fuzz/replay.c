/* Runs a fuzz entry over every file of the folders and files named: the corpus as a plain regression test. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_run;

static int replay(const char *path)
{
    mlxr_error err;
    mlxr_buf text = {0};
    uint8_t *copy;

    if (mlxr_file_read(&text, path, (size_t)64 << 20, &err) != MLXR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    copy = malloc(text.len ? text.len : 1); /* exact size, so that a read past the end is seen */
    if (!copy) return 1;
    if (text.len) memcpy(copy, text.data, text.len);
    LLVMFuzzerTestOneInput(copy, text.len);
    free(copy);
    mlxr_buf_clear(&text);
    n_run++;
    return 0;
}

int main(int argc, char **argv)
{
    int bad = 0;

    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        struct dirent *e;
        if (!dir) {
            bad |= replay(argv[i]);
            continue;
        }
        while ((e = readdir(dir)) != NULL) {
            char *path = e->d_name[0] == '.' ? NULL : mlxr_path_join(argv[i], e->d_name);
            if (path) bad |= replay(path);
            free(path);
        }
        closedir(dir);
    }
    printf("%zu inputs replayed\n", n_run);
    return bad || n_run == 0;
}
