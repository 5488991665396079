/* Loading: from files to a tok_source and a configuration. */
#ifndef MLXR_TOKENIZER_LOAD_H
#define MLXR_TOKENIZER_LOAD_H

#include "text/tokenizer/tokenizer.h"

void tok_source_clear(tok_source *src);

/* Reads the text of a tokenizer.json. *config is the file without the vocabulary and the merges, which are in
 * *src (clear it in any case) with strings in `text`, which must stay, or in the arena. json_decref(*config).
 * n_head: bytes before the file's own text, which messages do not count. */
mlxr_status tok_load_json(json_t **config, tok_source *src, mlxr_arena *arena, const char *text, size_t n,
                          size_t n_head, const char *file, mlxr_error *err);
/* A folder without tokenizer.json. */
mlxr_status tok_open_folder(mlxr_tokenizer *tok, const char *dir, mlxr_error *err);

#endif
