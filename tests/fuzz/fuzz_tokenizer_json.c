/* Any bytes as tokenizer.json: opened or refused, and what was opened must encode, decode and stream alike. */
#include <stdlib.h>

#include "text/tokenizer/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const mlxr_tokenizer *tok)
{
    static const char text[] =
        "Hello  world's 123 caf\xc3\xa9 e\xcc\x81 \xe4\xb8\xad\xe6\x96\x87\n<s> \xf0\x9f\x98\x80 ...";
    mlxr_text_pair pair = {text, "a b", sizeof text - 1, 3};
    int32_t *ids = NULL;
    char *out = NULL;
    size_t n = 0, n_out;
    for (int special = 0; special < 2; special++) {
        if (mlxr_tokenizer_encode(&ids, &n, tok, text, sizeof text - 1, special, NULL) == MLXR_OK &&
            mlxr_tokenizer_decode(&out, &n_out, tok, ids, n, special, NULL) == MLXR_OK) {
            if (mlxr_utf8_valid(out, n_out) != n_out) abort();
        }
        mlxr_free(ids);
        mlxr_free(out);
        ids = NULL;
        out = NULL;
    }
    if (mlxr_tokenizer_encode_pair(&ids, &n, tok, &pair, true, NULL) == MLXR_OK) mlxr_free(ids);
    (void)mlxr_tokenizer_token_to_id(tok, "a", 1);
    for (int32_t i = -1; i < 20; i++) (void)mlxr_tokenizer_id_to_token(tok, i, &n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mlxr_tokenizer *tok = calloc(1, sizeof *tok);
    mlxr_arena arena = {0};
    tok_source src = {0};
    json_t *config = NULL;
    mlxr_error err;

    if (!tok) return 0;
    if (tok_load_json(&config, &src, &arena, (const char *)data, size, 0, "input", &err) == MLXR_OK &&
        tok_build_all(tok, config, &src, "input", &err) == MLXR_OK)
        use(tok);
    tok_source_clear(&src);
    json_decref(config);
    mlxr_arena_clear(&arena);
    mlxr_tokenizer_close(tok);
    return 0;
}
