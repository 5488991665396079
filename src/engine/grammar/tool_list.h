/* tool_list: the tools of a request, read and checked once. Private to the files of tools.h. */
#ifndef MLXR_GRAMMAR_TOOL_LIST_H
#define MLXR_GRAMMAR_TOOL_LIST_H

#include "engine/grammar/value.h"

enum { MLXR_MAX_TOOLS = 512 };

/* Borrowed from its list. */
typedef struct mlxr_tool {
    const char *name;
    size_t n_name;
    /* What the arguments must be: a schema whose values are objects (it has "type": "object"). NULL: any object. */
    const mlxr_value *parameters;
    const char *label; /* "tools[2].function.parameters": what messages call that schema */
    size_t i;          /* in the request */
} mlxr_tool;

typedef struct mlxr_tool_list {
    mlxr_value_doc doc;
    mlxr_arena arena;
    mlxr_tool *tools; /* each name once */
    size_t n;
} mlxr_tool_list;

/* json: a list of {"type": "function", "function": {"name", "parameters", ...}} or of the inner objects; members that say nothing
 * about a call ("description", "strict", ...) are passed over. What is wrong is MLXR_E_FORMAT naming tools[i]: no name, a name that is
 * there twice with different parameters, parameters that are no schema of an object. More than MLXR_MAX_TOOLS: MLXR_E_LIMIT. */
mlxr_status mlxr_tool_list_read(mlxr_tool_list *out, const char *json, mlxr_error *err);
void mlxr_tool_list_clear(mlxr_tool_list *l); /* {0} is fine */
/* NULL: there is none. */
const mlxr_tool *mlxr_tool_list_find(const mlxr_tool_list *l, const char *name);

#endif
