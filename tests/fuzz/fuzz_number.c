/* Fuzz entry: lines of numbers. The first byte says which of them are bounds, multiples and exceptions; each number is then in the
 * set's language if and only if it fits the bounds and is no exception (and, where there are multiples, only if). */
#include "engine/grammar/lang.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_NUMBERS = 8, MAX_DIGITS = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_lang_limits limits = {.max_states = 5000, .max_steps = 500000};
    mlxr_buf texts[MAX_NUMBERS] = {{0}};
    const char *list[MAX_NUMBERS], *step;
    size_t n = 0;
    mlxr_number_set set = {0};
    mlxr_dfa *d = NULL;
    mlxr_error err;
    uint8_t flags;

    if (size == 0 || size > 1000) return 0;
    flags = data[0];
    for (size_t at = 1; at < size && n < MAX_NUMBERS;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t len = end ? (size_t)(end - (data + at)) : size - at;
        if (mlxr_number_plain(&texts[n], (const char *)data + at, len, MAX_DIGITS)) {
            mlxr_buf again = {0};
            if (texts[n].failed) goto done;
            if (!mlxr_number_plain(&again, texts[n].data, texts[n].len, MAX_DIGITS) || again.failed ||
                strcmp(again.data, texts[n].data) != 0)
                __builtin_trap();
            mlxr_buf_clear(&again);
            list[n] = texts[n].data;
            n++;
        }
        at += len + 1;
    }
    if (n < 4) goto done;
    if (flags & 1) set.min = list[0];
    if (flags & 2) set.max = list[1];
    set.min_exclusive = flags & 4;
    set.max_exclusive = flags & 8;
    set.integer = flags & 16;
    step = list[2];
    if ((flags & 32) && step[0] != '-' && strcmp(step, "0") != 0) {
        set.multiple_of = &step;
        set.n_multiple_of = 1;
    }
    if (flags & 64) {
        set.except = &list[3];
        set.n_except = 1;
    }
    if (mlxr_dfa_number(&d, &set, &limits, &err) != MLXR_OK) goto done;
    for (size_t i = 0; i < n; i++) {
        bool in = true, has = mlxr_dfa_has(d, list[i], strlen(list[i]));
        int low = mlxr_number_compare(list[i], list[0]), high = mlxr_number_compare(list[i], list[1]);
        if (low != -mlxr_number_compare(list[0], list[i])) __builtin_trap();
        if (set.min) in &= low > 0 || (low == 0 && !set.min_exclusive);
        if (set.max) in &= high < 0 || (high == 0 && !set.max_exclusive);
        if (set.integer) in &= strchr(list[i], '.') == NULL;
        if (set.n_except) in &= strcmp(list[i], list[3]) != 0;
        if (set.n_multiple_of ? has && !in : has != in) __builtin_trap();
    }
done:
    mlxr_dfa_unref(d);
    for (size_t i = 0; i < MAX_NUMBERS; i++) mlxr_buf_clear(&texts[i]);
    return 0;
}
