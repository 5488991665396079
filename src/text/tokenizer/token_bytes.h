/* token_bytes: what one token is in the middle of a text, for those who look at answers token by token before they are written
 * (grammars). */
#ifndef MLXR_TOKEN_BYTES_H
#define MLXR_TOKEN_BYTES_H

#include "base/base.h"

/* Appends the bytes that a token adds to a text when others stand before and behind it; they need not be whole characters. A
 * special added token: the byte 0xFF and then its text. Nothing for an id without a token, and for a token with a byte 0xFF of its own,
 * which is in no UTF-8 text. tokenizer: a const mlxr_tokenizer *. What a decoder does across tokens (cleanup of
 * punctuation, CTC) is not seen here. */
void tok_token_bytes(void *tokenizer, int32_t id, mlxr_buf *out);
/* Whether decoding drops a space at the beginning of a text, which tok_token_bytes gives. */
bool tok_strips_first_space(const mlxr_tokenizer *tok);

#endif
