#!/usr/bin/env python3
"""Model folders with random weights in real shapes, for measuring speed where no such model is at hand.

    bench/make_synthetic.py SHAPE DIR [--bits 4] [--group 64] [--layers N] [--seed 1]

Shapes: 1.5b (Qwen2-1.5B), 7b (Llama-2-7B), 8b (Llama-3.1-8B), tiny (for tests). The folder is what MLX would write: affine
codes, float16 scales and biases; weights have the spread of 1 / sqrt(columns), so that activations stay in range. It is
written as a stream: memory stays small whatever the shape. The tokenizer has one token a byte. The text such a model
writes means nothing; config.json comes last. Needs numpy."""

import argparse
import json
import os
import sys

import numpy as np

QWEN2 = dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"], rms_norm_eps=1e-6, rope_theta=1000000.0,
             tie_word_embeddings=True, max_position_embeddings=32768)
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"], rms_norm_eps=1e-5, tie_word_embeddings=False)
SHAPES = {
    "1.5b": dict(QWEN2, hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
                 intermediate_size=8960, vocab_size=151936),
    "7b": dict(LLAMA, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
               intermediate_size=11008, vocab_size=32000, rope_theta=10000.0, max_position_embeddings=4096),
    "8b": dict(LLAMA, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
               intermediate_size=14336, vocab_size=128256, rope_theta=500000.0, max_position_embeddings=131072),
    "tiny": dict(LLAMA, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 intermediate_size=256, vocab_size=320, rope_theta=10000.0, max_position_embeddings=1024),
}
PIECE = 4 << 20  # elements made at a time


def modules(c):
    """(name, kind, rows, columns): matrices, norms and biases in the order of the file."""
    D, F, V = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    head = D // c["num_attention_heads"]
    kv = c["num_key_value_heads"] * head
    yield "model.embed_tokens", "matrix", V, D
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm", "norm", 1, D
        for name, rows in (("q_proj", D), ("k_proj", kv), ("v_proj", kv)):
            yield p + "self_attn." + name, "matrix", rows, D
            if c["model_type"] == "qwen2":
                yield p + "self_attn." + name, "bias", 1, rows
        yield p + "self_attn.o_proj", "matrix", D, D
        yield p + "post_attention_layernorm", "norm", 1, D
        yield p + "mlp.gate_proj", "matrix", F, D
        yield p + "mlp.up_proj", "matrix", F, D
        yield p + "mlp.down_proj", "matrix", D, F
    yield "model.norm", "norm", 1, D
    if not c["tie_word_embeddings"]:
        yield "lm_head", "matrix", V, D


def tensors(c, bits, group):
    """(name, dtype, shape, what to write, columns of the matrix)"""
    for name, kind, rows, cols in modules(c):
        if kind == "matrix":
            yield name + ".weight", "U32", [rows, cols * bits // 32], "codes", cols
            yield name + ".scales", "F16", [rows, cols // group], "scales", cols
            yield name + ".biases", "F16", [rows, cols // group], "biases", cols
        else:
            yield name + (".weight" if kind == "norm" else ".bias"), "F16", [cols], kind, cols


WIDTH = {"U32": 4, "F16": 2}


def header(c, bits, group):
    entries, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, dtype, shape, _, _ in tensors(c, bits, group):
        n = int(np.prod(shape)) * WIDTH[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8), at


def values(what, n, cols, bits, seed, name):
    """n elements of one tensor, in pieces. Scale and bias of a group come from the same random number."""
    rng = np.random.default_rng([seed, *name.rsplit(".", 1)[0].encode()])
    top = 2**bits - 1
    spread = np.sqrt((2.0 ** (2 * bits) - 1) / 12)  # of the codes
    for at in range(0, n, PIECE):
        k = min(PIECE, n - at)
        if what == "codes":
            yield np.frombuffer(rng.bytes(4 * k), dtype="<u4")
        elif what in ("scales", "biases"):
            scale = ((0.5 + rng.random(k)) / (spread * np.sqrt(cols))).astype("<f2")
            yield scale if what == "scales" else (scale.astype(np.float32) * (-top / 2)).astype("<f2")
        elif what == "norm":
            yield (0.5 + rng.random(k)).astype("<f2")
        else:
            yield (0.02 * rng.standard_normal(k)).astype("<f2")


def write_weights(path, c, bits, group, seed):
    head, n_bytes = header(c, bits, group)
    done = 0
    with open(path, "wb") as f:
        f.write(len(head).to_bytes(8, "little"))
        f.write(head)
        for name, dtype, shape, what, cols in tensors(c, bits, group):
            for piece in values(what, int(np.prod(shape)), cols, bits, seed, name):
                f.write(piece.tobytes())
                done += piece.nbytes
            if sys.stderr.isatty():
                print(f"\r{100 * done // n_bytes} %", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    assert done == n_bytes
    return n_bytes


def byte_characters():
    """GPT-2's printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars = {b: chr(b) for b in keep}
    for i, b in enumerate(b for b in range(256) if b not in chars):
        chars[b] = chr(256 + i)
    return [chars[b] for b in range(256)]


def tokenizer():
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    special = {"id": 256, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {ch: i for i, ch in enumerate(byte_characters())}, "merges": []}}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    p.add_argument("shape", choices=sorted(SHAPES))
    p.add_argument("dir")
    p.add_argument("--bits", type=int, choices=[2, 3, 4, 5, 6, 8], default=4)
    p.add_argument("--group", type=int, choices=[32, 64, 128], default=64)
    p.add_argument("--layers", type=int, help="fewer or more than the shape has")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    c = dict(SHAPES[args.shape])
    if args.layers is not None:
        if args.layers < 1:
            p.error("--layers is at least 1")
        c["num_hidden_layers"] = args.layers
    c.update(hidden_act="silu", torch_dtype="float16", bos_token_id=256, eos_token_id=256,
             quantization={"group_size": args.group, "bits": args.bits})
    if c["model_type"] == "llama":
        c.update(attention_bias=False, mlp_bias=False)
    try:
        os.makedirs(args.dir, exist_ok=True)
        if os.path.exists(os.path.join(args.dir, "config.json")):
            sys.exit(f"make_synthetic.py: {args.dir} has a config.json already")
        n_bytes = write_weights(os.path.join(args.dir, "model.safetensors"), c, args.bits, args.group, args.seed)
        write_json(os.path.join(args.dir, "tokenizer.json"), tokenizer())
        write_json(os.path.join(args.dir, "config.json"), c)
    except OSError as e:
        sys.exit(f"make_synthetic.py: {e}")
    print(f"{args.dir}: {args.shape}, {args.bits} bits in groups of {args.group}, {n_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
