/* Any text as a Modelfile. A failure says where it is; what is one and can be written is the same when it is read again. */
#include <stdlib.h>

#include "store/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_recipe r, again;
    mlxr_error err = {0};
    mlxr_buf first = {0}, second = {0};

    (void)mlxr_recipe_is_modelfile((const char *)data, size);
    if (mlxr_modelfile_parse(&r, (const char *)data, size, "fuzz", &err) != MLXR_OK) {
        if (err.code == MLXR_OK || strncmp(err.message, "fuzz:", 5) != 0) abort();
        return 0;
    }
    if (!r.base_repo == !r.base_path) abort();
    if (mlxr_modelfile_write(&first, &r, "base", NULL) == MLXR_OK && first.len <= MLXR_RECIPE_MAX_BYTES) {
        if (mlxr_modelfile_parse(&again, first.data, first.len, "written", NULL) != MLXR_OK ||
            mlxr_modelfile_write(&second, &again, "base", NULL) != MLXR_OK || first.len != second.len ||
            memcmp(first.data, second.data, first.len) != 0)
            abort();
        mlxr_recipe_clear(&again);
    }
    mlxr_buf_clear(&first);
    mlxr_buf_clear(&second);
    mlxr_recipe_clear(&r);
    return 0;
}
