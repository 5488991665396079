/* Fuzz entry: any bytes as a regular expression, under small bounds. What it matches is text, and matches the same when the automaton
 * went through an operation that changes nothing. */
#include "engine/grammar/lang.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_lang_limits limits = {.max_states = 2000, .max_steps = 100000};
    mlxr_dfa *find = NULL, *whole = NULL, *any = NULL, *same = NULL;
    mlxr_error err;

    if (size > 2000) return 0;
    if (mlxr_dfa_regex(&find, (const char *)data, size, false, &limits, &err) != MLXR_OK) goto done;
    if (mlxr_dfa_regex(&whole, (const char *)data, size, true, &limits, &err) != MLXR_OK) goto done;
    if (mlxr_dfa_any(&any, &err) != MLXR_OK) goto done;
    limits.max_states = 40000;
    limits.max_steps = 10000000;
    if (mlxr_dfa_intersect(&same, find, any, &limits, &err) != MLXR_OK || !mlxr_dfa_equal(same, find))
        __builtin_trap(); /* UTF-8 alone */
    mlxr_dfa_unref(same);
    if (mlxr_dfa_union(&same, whole, find, &limits, &err) != MLXR_OK || !mlxr_dfa_equal(same, find))
        __builtin_trap(); /* what matches as a whole is found */
    mlxr_dfa_unref(same);
    if (mlxr_dfa_repeat(&same, find, 1, 1, &limits, &err) != MLXR_OK || !mlxr_dfa_equal(same, find))
        __builtin_trap();
    mlxr_dfa_unref(same);
    same = NULL;
    if (mlxr_dfa_json_string(&same, whole, &limits, &err) != MLXR_OK ||
        mlxr_dfa_count(same) != mlxr_dfa_count(whole))
        __builtin_trap(); /* one way to write each */
done:
    mlxr_dfa_unref(find);
    mlxr_dfa_unref(whole);
    mlxr_dfa_unref(any);
    mlxr_dfa_unref(same);
    return 0;
}
