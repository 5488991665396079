/* chat: a conversation with one model. cmd_chat.c has the turns, chat_commands.c what begins with "/", chat_file.c saving and
 * loading. */
#ifndef MLXCTL_CHAT_H
#define MLXCTL_CHAT_H

#include <jansson.h>

#include "../answerer.h"
#include "../lines.h"
#include "mlxctl.h"

struct chat {
    struct model_options model;
    struct parameters parameters; /* over the model's own sampling; texts set here lie in `texts` */
    struct answerer *answerer;
    struct lines *lines;
    json_t *messages; /* the conversation, without the system text */
    char *system;     /* NULL: the model's own, if it has one; "": none */
    mlxr_think think;
    bool verbose, remembers;
    bool failed; /* some turn was not answered */
    mlxr_arena texts;
    const volatile int *interrupted;
};

/* "/name arguments". false: the talk is over. */
bool chat_command(struct chat *c, const char *line);
/* More lines where text begins with three double quotes, up to the next three; else text itself. *out: free it. NULL:
 * interrupted, or out of memory. */
char *chat_block(struct chat *c, const char *text);

mlxr_status chat_save(const struct chat *c, const char *path, mlxr_error *err);
/* On failure nothing has changed. */
mlxr_status chat_load(struct chat *c, const char *path, mlxr_error *err);

#endif
