/* A llama of one layer as a GGUF file. */
#ifndef TESTS_STORE_TINY_GGUF_H
#define TESTS_STORE_TINY_GGUF_H

#include "format/gguf_builder.h"
#include "store/folder.h"

static inline void put_gguf(const char *path)
{
    static const char *const tokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"},
                             *const merges[] = {"a b"};
    static const int32_t token_types[] = {3, 3, 3, 1, 1, 1};
    static const struct {
        const char *name;
        size_t n_rows, n_cols;
    } tensors[] = {{"token_embd.weight", 6, 64},     {"blk.0.attn_norm.weight", 0, 64},
                   {"blk.0.attn_q.weight", 64, 64},  {"blk.0.attn_k.weight", 32, 64},
                   {"blk.0.attn_v.weight", 32, 64},  {"blk.0.attn_output.weight", 64, 64},
                   {"blk.0.ffn_norm.weight", 0, 64}, {"blk.0.ffn_gate.weight", 96, 64},
                   {"blk.0.ffn_up.weight", 96, 64},  {"blk.0.ffn_down.weight", 64, 96},
                   {"output_norm.weight", 0, 64}};
    static float values[96 * 64];
    gguf_builder b = {0};
    mlxr_buf file = {0};

    for (size_t i = 0; i < MLXR_COUNT(values); i++) values[i] = (float)(i % 61) / 8 - 3;
    key_str(&b, "general.architecture", "llama");
    key_u32(&b, "llama.block_count", 1);
    key_u32(&b, "llama.context_length", 128);
    key_u32(&b, "llama.embedding_length", 64);
    key_u32(&b, "llama.feed_forward_length", 96);
    key_u32(&b, "llama.attention.head_count", 2);
    key_u32(&b, "llama.attention.head_count_kv", 1);
    key_f32(&b, "llama.rope.freq_base", 10000.0f);
    key_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_str(&b, "tokenizer.ggml.model", "gpt2");
    key_str(&b, "tokenizer.ggml.pre", "smollm");
    key_strs(&b, "tokenizer.ggml.tokens", tokens, MLXR_COUNT(tokens));
    key_i32s(&b, "tokenizer.ggml.token_type", token_types, MLXR_COUNT(token_types));
    key_strs(&b, "tokenizer.ggml.merges", merges, MLXR_COUNT(merges));
    key_u32(&b, "tokenizer.ggml.bos_token_id", 1);
    key_u32(&b, "tokenizer.ggml.eos_token_id", 2);
    key_str(&b, "tokenizer.chat_template", "{{ \"hi\" }}\n");
    for (size_t i = 0; i < MLXR_COUNT(tensors); i++) {
        size_t n = (tensors[i].n_rows ? tensors[i].n_rows : 1) * tensors[i].n_cols;
        tensor(&b, tensors[i].name, 0, tensors[i].n_rows, tensors[i].n_cols, values,
               n * sizeof *values); /* F32 */
    }
    build(&file, &b);
    put_bytes(path, file.data, file.len);
    mlxr_buf_clear(&file);
}

#endif
