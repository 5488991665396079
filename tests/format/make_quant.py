#!/usr/bin/env python3
"""Makes quant.safetensors, the fixture of test_quant.c: what MLX's affine quantization does.

    python3 make_quant.py            (mlx, numpy, safetensors; made with mlx 0.32.4 on a CPU)

For each dtype T of float32, float16, bfloat16 there is "T.w", a [rows, 128] array, and for each width and group size
"T.B.G.packed", ".scales", ".biases" from mx.quantize(w, G, B), and ".dequantized", the SHA-256 (64 hex digits) of
the float32 bytes of mx.dequantize(packed, scales.astype(float32), biases.astype(float32), G, B).
"""
import hashlib
import os

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
COLS = 128


def rows():
    r = np.random.default_rng(7)
    normal = r.standard_normal((3, COLS)) * np.array([[0.02], [1.0], [300.0]])
    outlier = r.standard_normal(COLS) * 1e-3
    outlier[17] = 900.0
    outlier[90] = -31.5
    mixed = np.where(np.arange(COLS) % 2, 0.0, -0.0)
    mixed[40:44] = 1e-9
    out = [*normal, outlier, np.zeros(COLS), -np.zeros(COLS), np.full(COLS, 0.3), np.full(COLS, -2.0), mixed]
    out.append(np.abs(r.standard_normal(COLS)) + 5)   # zero is outside the range
    out.append(-np.abs(r.standard_normal(COLS)) - 5)
    out.append(np.arange(COLS) * 2.0 ** -140)          # denormal in float32, zero in float16
    out.append(np.arange(COLS) * 2.0 ** -24)           # denormal in float16
    huge = r.standard_normal(COLS)
    huge /= np.abs(huge).max()
    out.append(huge * 65504.0)
    out.append((np.arange(COLS) % 5 - 2) * 0.5)        # ties
    return np.stack(out).astype(np.float32)


tensors = {}
for name, dtype in [("f32", mx.float32), ("f16", mx.float16), ("bf16", mx.bfloat16)]:
    values = rows()
    if name != "f16":  # as far as the range goes without overflowing hi - lo
        values = np.concatenate([values, values[-2:-1] / 65504.0 * 1.5e38])
    w = mx.array(values).astype(dtype)
    tensors[f"{name}.w"] = w
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            packed, scales, biases = mx.quantize(w, group_size=group, bits=bits)
            back = mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32), group, bits)
            digest = hashlib.sha256(np.array(back).astype("<f4").tobytes()).hexdigest()
            key = f"{name}.{bits}.{group}"
            tensors[key + ".packed"] = packed
            tensors[key + ".scales"] = scales
            tensors[key + ".biases"] = biases
            tensors[key + ".dequantized"] = mx.array(np.frombuffer(digest.encode(), dtype=np.uint8))
mx.save_safetensors(os.path.join(os.path.dirname(os.path.abspath(__file__)), "quant.safetensors"), tensors,
                    {"mlx": mx.__version__})
