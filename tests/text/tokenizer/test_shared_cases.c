/* The reference cases beside the project, when they are there: the real tokenizers' (archives unpacked to a folder
 * of the test's own) and the synthetic ones'. */
#include <dirent.h>
#include <unistd.h>

#include "text/tokenizer/cases.h"
#include "text/tokenizer/tests.h"

#include "base/fs.h"

static void check_one(tally *t, const char *model, const char *cases, const char *name)
{
    mlxr_error err = {0};
    mlxr_tokenizer *tok = NULL;
    mlxr_status st = mlxr_tokenizer_open(&tok, model, &err);
    judge(t, st == MLXR_OK, name, 0, "open", err.message);
    if (st == MLXR_OK) check_lines(t, tok, cases, name);
    mlxr_tokenizer_close(tok);
}

int main(void)
{
    tally t = {0};
    char folder[] = "/tmp/mlxr-shared-XXXXXX", command[1024];
    DIR *dir = opendir(MLXR_SHARED_DIR "/cases/synthetic_tokenizers");
    struct dirent *e;

    if (!dir) {
        printf("SKIP: no reference cases in %s\n", MLXR_SHARED_DIR);
        return 77;
    }
    while ((e = readdir(dir)) != NULL) {
        char *model = mlxr_asprintf("%s/cases/synthetic_tokenizers/%s", MLXR_SHARED_DIR, e->d_name);
        char *cases = mlxr_path_join(model, "cases.jsonl");
        if (mlxr_path_is_file(cases)) check_one(&t, model, cases, e->d_name);
        free(model);
        free(cases);
    }
    closedir(dir);
    dir = opendir(MLXR_SHARED_DIR "/cases/tokenizers");
    if (!dir || !mkdtemp(folder)) return 1;
    while ((e = readdir(dir)) != NULL) {
        size_t n = strlen(e->d_name);
        char *model, *cases;
        if (n < 7 || strcmp(e->d_name + n - 6, ".jsonl") != 0) continue;
        e->d_name[n - 6] = '\0';
        snprintf(command, sizeof command, "tar -xJf '%s/tokenizers/%s.tar.xz' -C %s 2>/dev/null",
                 MLXR_SHARED_DIR, e->d_name, folder);
        model = mlxr_asprintf("%s/%s", folder, e->d_name);
        cases = mlxr_asprintf("%s/cases/tokenizers/%s.jsonl", MLXR_SHARED_DIR, e->d_name);
        if (system(command) == 0)
            check_one(&t, model, cases, e->d_name);
        else
            printf("SKIP: %s: its archive cannot be unpacked (tar with xz)\n", e->d_name);
        free(model);
        free(cases);
    }
    closedir(dir);
    if (system_rm(folder) != 0) printf("%s stays\n", folder);
    printf("%zu passed, %zu failed\n", t.passed, t.failed);
    return t.failed || !t.passed;
}
