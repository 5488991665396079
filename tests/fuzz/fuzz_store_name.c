/* Names from hostile texts: what is a name comes round through its display, its full text and its path; what is a path of a name is the path
 * of that name. */
#include <stdlib.h>

#include "store/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const mlxr_name *name, void (*write)(mlxr_buf *, const mlxr_name *))
{
    mlxr_buf b = {0};
    mlxr_name again;

    write(&b, name);
    if (b.failed) exit(0);
    if (mlxr_name_parse(&again, b.data, NULL) != MLXR_OK || memcmp(&again, name, sizeof again) != 0) abort();
    mlxr_buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mlxr_strndup((const char *)data, size);
    mlxr_name name, again;
    mlxr_error err = {0};
    mlxr_buf b = {0};

    if (!text) return 0;
    (void)mlxr_digest_valid(text);
    if (mlxr_name_parse(&name, text, &err) == MLXR_OK) {
        check(&name, mlxr_name_display);
        check(&name, mlxr_name_full);
        mlxr_name_path(&b, &name);
        if (strstr(b.data, "/../") || strstr(b.data, "/./") || strstr(b.data, "//") || b.data[0] == '/')
            abort();
        if (!mlxr_name_from_path(&again, b.data) || memcmp(&again, &name, sizeof name) != 0) abort();
        if (!mlxr_name_same(&again, &name)) abort();
    } else if (err.code != MLXR_E_INVALID_ARGUMENT || !*err.message) {
        abort();
    }
    b.len = 0;
    if (mlxr_name_from_path(&name, text)) {
        mlxr_name_path(&b, &name);
        if (strcmp(b.data, text) != 0) abort();
        check(&name, mlxr_name_display);
    }
    mlxr_buf_clear(&b);
    free(text);
    return 0;
}
