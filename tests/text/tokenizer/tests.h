/* cmocka with what it needs before it, and small helpers of the tokenizer's tests. */
#ifndef MLXR_TEST_TOKENIZER_TESTS_H
#define MLXR_TEST_TOKENIZER_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Removes a folder of the test's own with all that is in it. */
static inline int system_rm(const char *dir)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

#endif
