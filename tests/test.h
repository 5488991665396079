/* What every test program needs before cmocka. */
#ifndef MLXR_TEST_H
#define MLXR_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

/* A call that must succeed; prints its error when it does not. */
#define assert_ok(call, err)                                                        \
    do {                                                                            \
        mlxr_status assert_ok_status = (call);                                      \
        if (assert_ok_status != MLXR_OK)                                            \
            fail_msg("%s: %s", mlxr_status_name(assert_ok_status), (err)->message); \
    } while (0)

/* A call that must fail with `status` and a message that holds `text`. */
#define assert_fails(call, status, text, err)                                                       \
    do {                                                                                            \
        mlxr_status assert_fails_status;                                                            \
        (err)->message[0] = '\0';                                                                   \
        assert_fails_status = (call);                                                               \
        if (assert_fails_status != (status) || !strstr((err)->message, text))                       \
            fail_msg("got %s \"%s\", wanted %s with \"%s\"", mlxr_status_name(assert_fails_status), \
                     (err)->message, mlxr_status_name(status), text);                               \
    } while (0)

#endif
