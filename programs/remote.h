/* remote: answers of a daemon as if they came from a runner: requests as POST /api/generate or /api/chat, the objects that come back
 * as events. What the API has no word for is refused by name. */
#ifndef MLXR_REMOTE_PROGRAM_H
#define MLXR_REMOTE_PROGRAM_H

#include "answerer.h"
#include "daemon.h"

struct remote;
/* What of m a daemon decides by itself is refused here. The daemon is taken, also on failure. */
mlxr_status remote_open(struct remote **out, struct daemon *daemon, const struct model_options *m,
                        mlxr_error *err);
void remote_close(struct remote *r);
mlxr_status remote_load(struct remote *r, mlxr_error *err);
mlxr_status remote_generate(struct remote *r, const mlxr_request *request, const struct parameters *given,
                            mlxr_on_event on_event, void *ud, mlxr_stats *stats, mlxr_error *err);
mlxr_status remote_template(char **out, struct remote *r, mlxr_error *err);
const char *remote_name(const struct remote *r);
const struct token_texts *remote_token_texts(const struct remote *r);

#endif
