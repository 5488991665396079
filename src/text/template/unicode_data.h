/* Tables of unicode_data.c; unicode.c reads them. */
#ifndef MLXR_UNICODE_DATA_H
#define MLXR_UNICODE_DATA_H

#include <stddef.h>
#include <stdint.h>

typedef struct special_case {
    uint32_t cp, to[3]; /* 0: shorter */
} special_case;

extern const special_case special_upper[], special_lower[], special_title[];
extern const size_t n_special_upper, n_special_lower, n_special_title;
extern const uint32_t other_lower[][2];    /* islower() differs from category Ll */
extern const uint32_t other_upper[][2];    /* isupper() without category Lu */
extern const uint32_t case_ignorable[][2]; /* as the final sigma rule sees it */
extern const uint32_t digit_only[][2];     /* isdigit() without isdecimal() */
extern const uint32_t numeric_only[][2];   /* isnumeric() without isdigit() */
extern const uint32_t decimal_digits[][2];
extern const uint32_t id_start_but[][2];    /* isidentifier() differs from categories L and Nl, and "_" */
extern const uint32_t id_continue_but[][2]; /* ... and these with Mn, Mc, Nd, Pc */
extern const size_t n_id_start_but, n_id_continue_but;
extern const uint32_t newer[][2]; /* assigned in utf8proc's Unicode, not yet in the reference's */
extern const size_t n_other_lower, n_other_upper, n_case_ignorable, n_digit_only, n_numeric_only,
    n_decimal_digits, n_newer;
extern const uint32_t decimal_zeros[];
extern const size_t n_decimal_zeros;

#endif
