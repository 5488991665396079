/* capabilities: what a chat template does with the parts of a conversation, found out by rendering.
 *
 * Templates do not declare what they understand, and their sources can be anything, so each part is tried: a small
 * conversation with a word in it that no template has is rendered, and the part is understood when the word
 * comes out. Switches (thinking on or off) have no word: there the same conversation is rendered with both settings,
 * and the template knows the switch when the results differ. */
#ifndef MLXR_CAPABILITIES_H
#define MLXR_CAPABILITIES_H

#include "text/chat_template.h"

typedef enum mlxr_capability {
    MLXR_CAN_NOT,    /* rendered, but what was tried is not in the text */
    MLXR_CAN_REFUSE, /* the template raised an error */
    MLXR_CAN,
} mlxr_capability;
/* "no", "refused", "yes". */
const char *mlxr_capability_name(mlxr_capability c);

typedef struct mlxr_template_capabilities {
    mlxr_capability user;              /* one user message, as text: the least a chat template must do */
    bool needs_tools;                  /* ... which it does only when there are tools */
    mlxr_capability generation_prompt; /* add_generation_prompt changes the text */
    mlxr_capability system;     /* a system message before it; also when it is written into the user's turn */
    mlxr_capability tools;      /* a tool's name, of those offered */
    mlxr_capability tool_calls; /* the assistant's call of one, in the history */
    mlxr_capability tool_results;  /* and its answer, as a message with the role "tool" */
    mlxr_capability content_parts; /* a message whose content is a list of {"type": "text", "text"} */
    mlxr_capability reasoning;     /* "reasoning_content" of the assistant's message after the last user's */
    /* The variable that switches thinking ("enable_thinking", "thinking", "reasoning_effort"), static; or NULL. */
    const char *thinking_switch;
    char why[256]; /* what the template said where user is not MLXR_CAN */
} mlxr_template_capabilities;

/* name: which template; NULL: as rendering chooses. Each try is bounded well below the usual limits of a rendering; one
 * that breaks them counts as refused. Fails only when out of memory. */
mlxr_status mlxr_chat_template_capabilities(mlxr_template_capabilities *out, const mlxr_chat_template *ct,
                                            const char *name, mlxr_error *err);

#endif
