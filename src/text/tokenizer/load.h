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
/* tok_build with the added tokens that the configuration lists. */
mlxr_status tok_build_all(mlxr_tokenizer *tok, const json_t *config, const tok_source *src, const char *file,
                          mlxr_error *err);

/* The compiled form of a tokenizer.json (cache.c). *hit false: there is none to use; tok may then hold parts, and
 * is to be thrown away. digest: the source's, "" while it is not known. */
mlxr_status tok_cache_open(mlxr_tokenizer *tok, bool *hit, char digest[65], const char *dir,
                           const char *source, const mlxr_log *log, mlxr_error *err);
/* Failing to write is told to the log alone. */
void tok_cache_write(const mlxr_tokenizer *tok, const json_t *config, const tok_added_list *added,
                     const char *digest, const char *dir, const char *source, const mlxr_log *log);

/* A SentencePiece model. */
mlxr_status tok_open_sentencepiece(mlxr_tokenizer *tok, const char *path, mlxr_error *err);
/* A folder without tokenizer.json. */
mlxr_status tok_open_folder(mlxr_tokenizer *tok, const char *dir, mlxr_error *err);

#endif
