/* Fuzz entry: a JSON text. What is read is written back, and read again it is the same value in the same text; the library's
 * other JSON reader takes nothing that this one refuses for its form (but for jansson's passing over of NUL bytes between
 * tokens). */
#include "base/json.h"
#include "engine/grammar/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_value_doc a, b;
    mlxr_buf first = {0}, second = {0};
    mlxr_error err;
    json_t *other;
    mlxr_status st = mlxr_value_parse(&a, (const char *)data, size, "fuzz", &err);

    if (st != MLXR_OK) {
        if (st != MLXR_E_FORMAT || (size && memchr(data, 0, size))) return 0;
        if (mlxr_json_parse(&other, (const char *)data, size, "fuzz", NULL) == MLXR_OK) __builtin_trap();
        return 0;
    }
    mlxr_value_write(&first, a.root);
    if (mlxr_value_parse(&b, first.data, first.len, "written", &err) != MLXR_OK) __builtin_trap();
    if (!mlxr_value_equal(a.root, b.root) || !mlxr_value_equal(b.root, a.root)) __builtin_trap();
    mlxr_value_write(&second, b.root);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0) __builtin_trap();
    if (a.root->type == MLXR_VALUE_OBJECT)
        for (size_t i = 0; i < a.root->n; i++)
            if (mlxr_value_get_n(a.root, a.root->names[i].text, a.root->names[i].n_text) != a.root->items[i])
                __builtin_trap();
    mlxr_value_clear(&a);
    mlxr_value_clear(&b);
    mlxr_buf_clear(&first);
    mlxr_buf_clear(&second);
    return 0;
}
