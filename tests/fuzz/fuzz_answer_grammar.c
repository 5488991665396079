/* Fuzz entry: tools of a request, in any format of calls and with any choice, to a grammar, and a walk of it. The first byte chooses
 * the format, the second the options, the third how the walk goes; then the tools, and behind a line end of its own (byte 1) what the
 * content must be. Wherever a walk stands it can go on or end. */
#include <stdlib.h>

#include "engine/grammar/tools.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(mlxr_grammar *g, uint32_t seed)
{
    mlxr_masker *k = NULL;
    mlxr_matcher *m = NULL;
    mlxr_error err;

    if (mlxr_masker_create(&k, g, NULL, &err) != MLXR_OK || mlxr_matcher_create(&m, k, &err) != MLXR_OK)
        goto done;
    for (int step = 0; step < 300; step++) {
        bool next[256];
        unsigned n = 0, i;
        size_t taken;
        char byte;
        mlxr_matcher_next_bytes(next, m);
        for (i = 0; i < 256; i++) n += next[i];
        if (!n && !mlxr_matcher_may_end(m)) __builtin_trap();
        if (!n) break;
        seed = seed * 1664525u + 1013904223u;
        n = (seed >> 16) % n;
        for (i = 0; i < 256 && (!next[i] || n-- > 0); i++) {
        }
        byte = (char)i;
        if (mlxr_matcher_push(&taken, m, &byte, 1, &err) != MLXR_OK) break; /* a limit */
        if (taken != 1) __builtin_trap();
    }
done:
    mlxr_matcher_free(m);
    mlxr_masker_free(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_answer_grammar p = mlxr_answer_grammar_default();
    mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    mlxr_grammar *g;
    mlxr_error err;
    char *tools, *content;

    if (size < 3 || size > 4096) return 0;
    tools = mlxr_strndup((const char *)data + 3, size - 3);
    if (!tools) return 0;
    content = strchr(tools, 1);
    if (content) *content++ = '\0';
    p.format = mlxr_answer_format_at(data[0] % mlxr_answer_format_count());
    p.tool_choice = (mlxr_tool_choice_kind)(data[1] & 3);
    p.tool_name = "f";
    p.parallel = data[1] & 4;
    p.may_think = data[1] & 8;
    p.starts_thinking = data[1] & 16;
    p.tools_json = tools;
    if (content && data[1] & 32)
        p.regex = content;
    else if (content && data[1] & 64)
        p.gbnf = content;
    else
        p.schema_json = content;
    limits.max_nodes = 20000;
    limits.max_configurations = 200;
    limits.lang = (mlxr_lang_limits){.max_states = 2000, .max_steps = 200000};
    if (mlxr_grammar_for_answer(&g, &p, &limits, &err) == MLXR_OK) {
        if (g) walk(g, data[2]);
        mlxr_grammar_unref(g);
    } else if (g || !err.message[0]) {
        __builtin_trap();
    }
    free(tools);
    return 0;
}
