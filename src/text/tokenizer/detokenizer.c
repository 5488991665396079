/* The streaming detokenizer: the decoder's state and the text it has let go. */
#include <stdlib.h>

#include "text/tokenizer/tokenizer.h"

struct mlxr_detokenizer {
    const mlxr_tokenizer *tok;
    tok_decode_state *state;
    mlxr_buf piece;
    bool skip_special_tokens;
};

mlxr_status mlxr_detokenizer_create(mlxr_detokenizer **out, const mlxr_tokenizer *tok,
                                    bool skip_special_tokens, mlxr_error *err)
{
    mlxr_detokenizer *d = calloc(1, sizeof *d);
    mlxr_status st;

    *out = NULL;
    if (!d) return mlxr_fail_nomem(err, "detokenizer");
    d->tok = tok;
    d->skip_special_tokens = skip_special_tokens;
    st = tok_decode_begin(&d->state, tok->decoder, err);
    if (st == MLXR_OK) {
        *out = d;
        d = NULL;
    }
    mlxr_detokenizer_free(d);
    return st;
}

void mlxr_detokenizer_free(mlxr_detokenizer *d)
{
    if (!d) return;
    tok_decode_free(d->state);
    mlxr_buf_clear(&d->piece);
    free(d);
}

static mlxr_status give(mlxr_detokenizer *d, mlxr_status st, const char **piece, size_t *n_piece,
                        mlxr_error *err)
{
    if (st == MLXR_OK) st = mlxr_buf_check(&d->piece, "detokenizer", err);
    *piece = st == MLXR_OK && d->piece.len ? d->piece.data : "";
    *n_piece = st == MLXR_OK ? d->piece.len : 0;
    if (st == MLXR_OK && d->piece.len) d->piece.data[d->piece.len] = '\0';
    return st;
}

mlxr_status mlxr_detokenizer_push(mlxr_detokenizer *d, int32_t id, const char **piece, size_t *n_piece,
                                  mlxr_error *err)
{
    tok_str t = tok_decode_token(d->tok, id, d->skip_special_tokens);
    d->piece.len = 0;
    d->piece.failed = false;
    return give(d, t.s ? tok_decode_push(d->state, t, &d->piece, err) : MLXR_OK, piece, n_piece, err);
}

mlxr_status mlxr_detokenizer_finish(mlxr_detokenizer *d, const char **piece, size_t *n_piece, mlxr_error *err)
{
    d->piece.len = 0;
    d->piece.failed = false;
    return give(d, tok_decode_finish(d->state, &d->piece, err), piece, n_piece, err);
}
