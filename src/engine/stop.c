/* stop: see stop.h. The held-back text is at most one byte shorter than the longest stop string, so searching it
 * anew with each piece is cheap. */
#include "engine/stop.h"

#include <stdlib.h>

struct mlxr_stop {
    char **strings;
    size_t *lengths;
    size_t n;
    mlxr_buf held; /* begins where a stop string might */
    bool done;
};

mlxr_status mlxr_stop_create(mlxr_stop **out, const char *const *strings, size_t n, mlxr_error *err)
{
    mlxr_stop *s = calloc(1, sizeof *s);

    *out = NULL;
    if (!s) return mlxr_fail_nomem(err, "stop strings");
    s->strings = mlxr_calloc_array(n, sizeof *s->strings);
    s->lengths = mlxr_calloc_array(n, sizeof *s->lengths);
    if (!s->strings || !s->lengths) goto nomem;
    for (size_t i = 0; i < n; i++) {
        s->strings[i] = mlxr_strdup(strings[i]);
        if (!s->strings[i]) goto nomem;
        s->lengths[i] = strlen(strings[i]);
        s->n = i + 1;
    }
    *out = s;
    return MLXR_OK;
nomem:
    mlxr_stop_free(s);
    return mlxr_fail_nomem(err, "stop strings");
}

void mlxr_stop_free(mlxr_stop *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) free(s->strings[i]);
    free(s->strings);
    free(s->lengths);
    mlxr_buf_clear(&s->held);
    free(s);
}

/* What stands at held[at]: a whole stop string (its index), the start of one that the text's end cuts
 * (*partial), or neither. Whole ones win: the text ends here either way. */
static int stop_at(const mlxr_stop *s, size_t at, bool *partial)
{
    size_t left = s->held.len - at, longest = 0;
    int found = -1;

    *partial = false;
    for (size_t i = 0; i < s->n; i++) {
        size_t n = s->lengths[i];
        if (n == 0 || memcmp(s->held.data + at, s->strings[i], n < left ? n : left) != 0) continue;
        if (n > left) {
            *partial = true;
        } else if (n > longest) {
            longest = n;
            found = (int)i;
        }
    }
    return found;
}

mlxr_status mlxr_stop_push(mlxr_stop *s, const char *text, size_t n, mlxr_buf *out, int *matched,
                           mlxr_error *err)
{
    size_t at = 0;

    *matched = -1;
    if (s->done) return MLXR_OK;
    mlxr_buf_append(&s->held, text, n);
    if (s->held.failed) return mlxr_fail_nomem(err, "stop strings");
    for (; at < s->held.len; at++) {
        bool partial;
        int found = stop_at(s, at, &partial);
        if (found >= 0) {
            *matched = found;
            s->done = true;
            break;
        }
        if (partial) break;
    }
    mlxr_buf_append(out, s->held.data, at);
    if (s->done) {
        s->held.len = 0;
    } else if (at > 0) {
        memmove(s->held.data, s->held.data + at, s->held.len - at);
        s->held.len -= at;
    }
    return mlxr_buf_check(out, "stop strings", err);
}

mlxr_status mlxr_stop_flush(mlxr_stop *s, mlxr_buf *out, mlxr_error *err)
{
    if (!s->done && s->held.len) mlxr_buf_append(out, s->held.data, s->held.len);
    s->held.len = 0;
    return mlxr_buf_check(out, "stop strings", err);
}

int mlxr_stop_find(const mlxr_stop *s, const char *text, size_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->lengths[i] == n && memcmp(s->strings[i], text, n) == 0) return (int)i;
    return -1;
}

mlxr_status mlxr_stop_finish(mlxr_stop *s, mlxr_buf *out, mlxr_error *err)
{
    mlxr_status st = mlxr_stop_flush(s, out, err);

    s->done = true;
    return st;
}
