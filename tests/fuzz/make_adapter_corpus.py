#!/usr/bin/env python3
"""Makes corpus/adapter: adapters for the model of fuzz_adapter.c that fit, and some that do not.

    python make_adapter_corpus.py
"""

import json
import struct
from pathlib import Path

OUT = Path(__file__).resolve().parent / "corpus" / "adapter"
MLX = dict(fine_tune_type="lora", num_layers=1, lora_parameters=dict(rank=2, scale=2.0))
PEFT = dict(peft_type="LORA", r=2, lora_alpha=4)
Q, TABLE = "model.layers.0.self_attn.q_proj", "model.embed_tokens"
EXPERTS = "model.layers.0.mlp.switch_mlp.up_proj"


def seed(name, peft, config, tensors):
    header, data = {}, b""
    for tensor, shape in tensors.items():
        n = 4
        for d in shape:
            n *= d
        header[tensor] = dict(dtype="F32", shape=list(shape), data_offsets=[len(data), len(data) + n])
        data += bytes([0, 0, 0x80, 0x3C]) * (n // 4)
    text = json.dumps(header, separators=(",", ":")).encode()
    config = config if isinstance(config, str) else json.dumps(config, separators=(",", ":"))
    (OUT / name).write_bytes(bytes([48 + peft]) + config.encode() + b"\0" + struct.pack("<Q", len(text)) + text + data)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lora = {f"{Q}.lora_a": (32, 2), f"{Q}.lora_b": (2, 16)}
    seed("lora", 0, MLX, lora)
    seed("dora", 0, MLX | dict(fine_tune_type="dora"), lora | {f"{Q}.m": (16,)})
    seed("table", 0, MLX, {f"{TABLE}.lora_a": (40, 2), f"{TABLE}.lora_b": (2, 32)})
    seed("experts", 0, MLX, {f"{EXPERTS}.lora_a": (2, 2, 32), f"{EXPERTS}.lora_b": (2, 32, 2)})
    seed("full", 0, dict(fine_tune_type="full"), {f"{Q}.weight": (16, 32), "model.norm.weight": (32,)})
    seed("half", 0, MLX, {f"{Q}.lora_a": (32, 2)})
    seed("misshapen", 0, MLX, {f"{Q}.lora_a": (32, 3), "x.lora_b": (2, 32), "y": (1,)})
    base = "base_model.model."
    peft = {f"{base}{Q}.lora_A.weight": (2, 32), f"{base}{Q}.lora_B.weight": (16, 2)}
    seed("peft", 1, PEFT, peft)
    seed("peft_dora", 1, PEFT | dict(use_dora=True), peft | {f"{base}{Q}.lora_magnitude_vector": (16,)})
    seed("peft_table", 1, PEFT | dict(use_rslora=True),
         {f"{base}{TABLE}.lora_embedding_A": (2, 40), f"{base}{TABLE}.lora_embedding_B": (32, 2)})
    seed("peft_patterns", 1, dict(PEFT, r=8, rank_pattern={"q_proj": 2}, alpha_pattern={"self_attn.q_proj": 3}),
         peft | {f"{base}model.norm.modules_to_save.weight": (32,)})
    seed("no_config", 1, "", peft)
    seed("no_object", 0, "[]", lora)


if __name__ == "__main__":
    main()
