/* Times the tokenizer on a file of documents, each ended by a NUL byte; bench/tokenizer_speed.py runs it beside
 * the reference. One line of JSON: the best of the loads and of the encoding rounds, and a checksum of the ids.
 *
 *   bench_tokenizer TOKENIZER_JSON DOCUMENTS ROUNDS [CACHE_DIR] */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

static int fail(const mlxr_error *err)
{
    fprintf(stderr, "bench_tokenizer: %s\n", err->message);
    return 1;
}

int main(int argc, char **argv)
{
    mlxr_error err = {0};
    mlxr_buf text = {0};
    uint64_t load = UINT64_MAX, encode = UINT64_MAX, decode = UINT64_MAX, sum = 0;
    size_t n_ids = 0, n_docs = 0;
    int rounds = argc > 3 ? atoi(argv[3]) : 0;
    mlxr_tokenizer *tok = NULL;
    mlxr_tokenizer_options options = mlxr_tokenizer_options_default();

    if (rounds < 1) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER_JSON DOCUMENTS ROUNDS [CACHE_DIR]\n");
        return 2;
    }
    options.cache_dir = argc > 4 ? argv[4] : NULL;
    if (mlxr_file_read(&text, argv[2], (size_t)1 << 30, &err) != MLXR_OK) return fail(&err);
    for (int r = 0; r < rounds; r++) {
        uint64_t from, ns;
        mlxr_tokenizer_close(tok);
        from = mlxr_now_ns();
        if (mlxr_tokenizer_open_with(&tok, argv[1], &options, &err) != MLXR_OK) return fail(&err);
        ns = mlxr_now_ns() - from;
        if (ns < load) load = ns;
        from = mlxr_now_ns();
        sum = n_ids = n_docs = 0;
        for (size_t at = 0; at < text.len;) {
            size_t n = strnlen(text.data + at, text.len - at), n_doc;
            int32_t *ids;
            if (mlxr_tokenizer_encode(&ids, &n_doc, tok, text.data + at, n, false, &err) != MLXR_OK)
                return fail(&err);
            for (size_t i = 0; i < n_doc; i++) sum = sum * 31 + (uint32_t)ids[i];
            n_ids += n_doc;
            n_docs++;
            mlxr_free(ids);
            at += n + 1;
        }
        ns = mlxr_now_ns() - from;
        if (ns < encode) encode = ns;
    }
    for (int r = 0; r < rounds; r++) {
        int32_t *ids;
        size_t n, n_out;
        char *out;
        uint64_t from, ns;
        if (mlxr_tokenizer_encode(&ids, &n, tok, text.data, strnlen(text.data, text.len), false, &err) !=
            MLXR_OK)
            return fail(&err);
        from = mlxr_now_ns();
        if (mlxr_tokenizer_decode(&out, &n_out, tok, ids, n, false, &err) != MLXR_OK) return fail(&err);
        ns = mlxr_now_ns() - from;
        if (ns < decode) decode = ns;
        mlxr_free(ids);
        mlxr_free(out);
    }
    printf("{\"load_ms\": %.3f, \"encode_ms\": %.3f, \"decode_first_ms\": %.3f, \"documents\": %zu, \"ids\": "
           "%zu, \"sum\": %llu}\n",
           (double)load / 1e6, (double)encode / 1e6, (double)decode / 1e6, n_docs, n_ids,
           (unsigned long long)(sum & 0xffffffffu));
    mlxr_tokenizer_close(tok);
    mlxr_buf_clear(&text);
    return 0;
}
