/* Status names and the text of errors. */
#include <stdio.h>

#include "base/base.h"

#undef mlxr_fail /* the analyzer's forms */
#undef mlxr_fail_nomem

const char *mlxr_status_name(mlxr_status status)
{
    static const char *const names[] = {
#define NAME(name, text) "MLXR_" #name,
        MLXR_STATUS_LIST(NAME)
#undef NAME
    };
    return (unsigned)status < MLXR_STATUS_COUNT ? names[status] : "MLXR_E_UNKNOWN";
}

const char *mlxr_status_text(mlxr_status status)
{
    static const char *const texts[] = {
#define TEXT(name, text) text,
        MLXR_STATUS_LIST(TEXT)
#undef TEXT
    };
    return (unsigned)status < MLXR_STATUS_COUNT ? texts[status] : "unknown status";
}

const char *mlxr_version(void)
{
    return MLXR_VERSION;
}

/* A message is one line of valid UTF-8 whatever a hostile file put into it: control characters (C1, which terminals
 * obey as well, and DEL included) become '?', and a text cut by the buffer's end loses its broken last character. */
static void tidy(char *s, bool cut)
{
    size_t n = strlen(s), i = 0;

    if (cut && n >= 4) {
        n -= 3;
        while (n > 0 && ((unsigned char)s[n] & 0xc0u) == 0x80u) n--;
        memcpy(s + n, "...", 4);
        n += 3;
    }
    while (i < n) {
        uint32_t cp;
        size_t k = mlxr_utf8_decode(s + i, n - i, &cp);
        if (k == 0) {
            s[i] = '?';
            k = 1;
        } else if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            memset(s + i, cp == '\n' ? ' ' : '?', k);
        }
        i += k;
    }
}

mlxr_status mlxr_fail(mlxr_error *err, mlxr_status code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        int n;
        err->code = code;
        va_start(ap, fmt);
        n = vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        if (n < 0) err->message[0] = '\0';
        tidy(err->message, n >= (int)sizeof err->message);
    }
    return code;
}

mlxr_status mlxr_fail_nomem(mlxr_error *err, const char *what)
{
    return mlxr_fail(err, MLXR_E_NOMEM, "%s: out of memory", what);
}

void mlxr_error_prefix(mlxr_error *err, const char *fmt, ...)
{
    char text[sizeof err->message];
    size_t n, old;
    bool cut;
    va_list ap;

    if (!err) return;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    n = strlen(text);
    old = strlen(err->message);
    cut = n + old >= sizeof err->message;
    if (cut) old = sizeof err->message - 1 - n;
    memmove(err->message + n, err->message, old);
    err->message[n + old] = '\0';
    memcpy(err->message, text, n);
    tidy(err->message, cut);
}

void mlxr_error_append(mlxr_error *err, const char *fmt, ...)
{
    size_t old;
    int n;
    va_list ap;

    if (!err) return;
    old = strlen(err->message);
    va_start(ap, fmt);
    n = vsnprintf(err->message + old, sizeof err->message - old, fmt, ap);
    va_end(ap);
    if (n < 0) err->message[old] = '\0';
    tidy(err->message, n >= 0 && (size_t)n >= sizeof err->message - old);
}

void mlxr_log_at(const mlxr_log *log, mlxr_log_level level, const char *fmt, ...)
{
    char text[1024];
    int n;
    va_list ap;

    if (!log || !log->fn) return;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) text[0] = '\0';
    tidy(text, n >= (int)sizeof text);
    log->fn(level, text, log->ud);
}
