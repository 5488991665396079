/* check: what check.c (the walk) and check_words.c (its messages) share. */
#ifndef MLXR_GRAMMAR_CHECK_H
#define MLXR_GRAMMAR_CHECK_H

#include "engine/grammar/grammar.h"

/* What could come next, in words; out is a text of at most cap - 1 bytes, cut between characters. What runs out of memory or into a
 * limit on the way is told less exactly, no more. */

/* m: where a JSON value begins. */
void mlxr_words_value(char *out, size_t cap, const mlxr_matcher *m);
/* m: where the name of a member, or the end of the object, may come. false: names are not listed, there are too many. */
bool mlxr_words_member(char *out, size_t cap, const mlxr_matcher *m);
/* m: inside a string or a number, of which `taken` have been read (the opening quote is not one of them). */
void mlxr_words_inside(char *out, size_t cap, const mlxr_matcher *m, const char *taken, size_t n_taken,
                       bool string);
/* m: anywhere; the bytes themselves. */
void mlxr_words_bytes(char *out, size_t cap, const mlxr_matcher *m);

/* Whether the few texts that a value, or a name, could be are all there is: then words_value says more than words_inside. */
bool mlxr_words_few(const mlxr_matcher *m);

#endif
