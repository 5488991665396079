/* journal: the log of requests, a line of JSON each, in a file or on standard error. A full disk loses lines, which are counted and told
 * when there is room again; it never holds a request up: lines go through a queue to a thread of the journal's own. Any thread.
 * docs/operations.md lists the keys. */
#ifndef MLXR_SERVE_JOURNAL_H
#define MLXR_SERVE_JOURNAL_H

#include "serve/record.h"
#include "serve/server.h"

typedef struct mlxr_journal mlxr_journal;

typedef struct mlxr_journal_options {
    const char *path;     /* "-" is standard error; a file is made with mode 0600 */
    bool with_bodies;     /* what was asked and answered stands in it as well */
    bool for_people;      /* short lines in place of JSON */
    mlxr_log_level level; /* of messages: those below are left out */
} mlxr_journal_options;

mlxr_status mlxr_journal_open(mlxr_journal **out, const mlxr_journal_options *options, mlxr_error *err);
/* Writes what is queued, for two seconds at most; NULL is fine. */
void mlxr_journal_close(mlxr_journal *j);
/* The file is opened anew (logrotate, SIGHUP): soon, by the journal's thread. NULL is fine. */
void mlxr_journal_reopen(mlxr_journal *j);
bool mlxr_journal_has_bodies(const mlxr_journal *j);
/* A request is over. */
void mlxr_journal_request(mlxr_journal *j, const mlxr_request_in *r, const mlxr_record *record, int status,
                          uint64_t n_sent, uint64_t duration_ns, bool complete);
/* What the server itself has to say. */
void mlxr_journal_text(mlxr_journal *j, mlxr_log_level level, const char *text);
/* Lines that could not be written, in all. NULL: 0. */
uint64_t mlxr_journal_lost(const mlxr_journal *j);

#endif
