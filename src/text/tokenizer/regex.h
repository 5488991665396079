/* From Oniguruma's syntax to PCRE2's. */
#ifndef MLXR_TOKENIZER_REGEX_H
#define MLXR_TOKENIZER_REGEX_H

#include "text/tokenizer/tokenizer.h"

/* Appends the PCRE2 pattern that matches what Oniguruma (Ruby-like syntax, UTF-8) matches for source. Needs
 * PCRE2_UTF | PCRE2_MULTILINE and the newline set to LF. compact: large classes stand once, as groups that are
 * called, which is slower but fits where PCRE2 says that a pattern is too large. what: the JSON path, for messages. */
mlxr_status tok_regex_translate(mlxr_buf *out, const char *source, size_t n, bool compact, const char *what,
                                mlxr_error *err);

#endif
