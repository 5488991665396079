"""Small models for the crash tests, made of the tiny chat model: folders with weights in two files, and a GGUF file. Standard library."""

import json
import os
import random
import shutil
import struct
from pathlib import Path


def read_safetensors(path):
    data = Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[8 + n:][t["data_offsets"][0]:t["data_offsets"][1]]) for name, t in header.items()}


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def make_folder(to, tiny, seed=0, more_bytes=0):
    """A model whose first file of weights is the same for all seeds, and whose second is its own; more_bytes makes that larger."""
    to, tiny = Path(to), Path(tiny)
    to.mkdir(parents=True)
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json", "config.json"]:
        shutil.copyfile(tiny / name, to / name)
    tensors = read_safetensors(tiny / "model.safetensors")
    names = sorted(tensors)
    half = names[: len(names) // 2], names[len(names) // 2:]
    r = random.Random(seed)
    second = {}
    for name in half[1]:
        dtype, shape, data = tensors[name]
        if seed and dtype == "F16":
            data = bytearray(data)
            for i in range(0, len(data), 2):
                data[i] ^= r.randrange(4)
            data = bytes(data)
        second[name] = (dtype, shape, data)
    if more_bytes:
        second["zz.more"] = ("U8", [more_bytes], r.randbytes(more_bytes))
    files = [f"model-0000{i + 1}-of-00002.safetensors" for i in range(2)]
    write_safetensors(to / files[0], {n: tensors[n] for n in half[0]})
    write_safetensors(to / files[1], second)
    index = {"metadata": {"total_size": sum(len(t[2]) for t in tensors.values())},
             "weight_map": {n: f for f, part in zip(files, (half[0], list(second))) for n in part}}
    (to / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(to)


def _text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def make_gguf(path, seed=1):
    """A llama of two layers, 64 wide, with six tokens. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""
    U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
    pairs, infos, data = [], [], bytearray()
    r = random.Random(seed)

    def pair(key, kind, value):
        pairs.append(_text(key) + struct.pack("<I", kind) + value)

    def array(kind, items):
        return struct.pack("<IQ", kind, len(items)) + b"".join(items)

    def tensor(name, *shape):
        data.extend(b"\0" * (-len(data) % 32))
        infos.append(_text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape)) +
                     struct.pack("<IQ", 0, len(data)))
        n = 1
        for d in shape:
            n *= d
        data.extend(struct.pack(f"<{n}f", *(r.randrange(-32, 32) / 8 for _ in range(n))))

    pair("general.architecture", STRING, _text("llama"))
    for key, value in [("block_count", 2), ("context_length", 128), ("embedding_length", 64), ("feed_forward_length", 96),
                       ("attention.head_count", 2), ("attention.head_count_kv", 1)]:
        pair("llama." + key, U32, struct.pack("<I", value))
    pair("llama.rope.freq_base", F32, struct.pack("<f", 500000))
    pair("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5))
    pair("tokenizer.ggml.model", STRING, _text("gpt2"))
    pair("tokenizer.ggml.pre", STRING, _text("smollm"))
    pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [_text(t) for t in ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"]]))
    pair("tokenizer.ggml.token_type", ARRAY, array(I32, [struct.pack("<i", t) for t in [3, 3, 3, 1, 1, 1]]))
    pair("tokenizer.ggml.merges", ARRAY, array(STRING, [_text("a b")]))
    pair("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", 1))
    pair("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 2))
    tensor("token_embd.weight", 6, 64)
    tensor("output_norm.weight", 64)
    for i in range(2):
        for module, *shape in [("attn_norm", 64), ("attn_q", 64, 64), ("attn_k", 32, 64), ("attn_v", 32, 64), ("attn_output", 64, 64),
                               ("ffn_norm", 64), ("ffn_gate", 96, 64), ("ffn_up", 96, 64), ("ffn_down", 64, 96)]:
            tensor(f"blk.{i}.{module}.weight", *shape)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32) + data)
    return str(path)


def file_bytes(folder):
    return sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
