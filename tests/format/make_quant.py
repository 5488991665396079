#!/usr/bin/env python3
"""Makes quant.safetensors and quant_fp.safetensors, the fixtures of test_quant.c: what MLX's quantization does.

    python3 make_quant.py            (mlx, numpy, safetensors; made with mlx 0.32.4 on a CPU)

For each dtype T of float32, float16, bfloat16 there is "T.w", a [rows, 128] array, and for each width and group size
"T.B.G.packed", ".scales", ".biases" from mx.quantize(w, G, B), and ".dequantized", the SHA-256 (64 hex digits) of
the float32 bytes of mx.dequantize(packed, scales.astype(float32), biases.astype(float32), G, B).

Then scales and biases that no quantizer makes: "odd.codes" [64, 128] bytes, of whose rows every width takes its first
16 * B bytes; "T.odd.scales" and "T.odd.biases" [64, 4], of which G takes its first 128 / G columns; "T.B.G.odd", the
digest. In digests every NaN counts as 7fc00000.

quant_fp.safetensors: for each mode M of mxfp4, nvfp4, mxfp8, "T.M.packed", ".scales" from mx.quantize("T.w", mode=M)
and ".dequantized"; "M.every", the digest of 256 rows, row i of scale code i throughout and of the bytes 0 to 255;
"nvfp4.global" [n] float32, global scales, and "nvfp4.every.I", the digest of the same rows with the I-th of them.
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


def digest(values):
    v = np.array(values, dtype="<f4")
    bits = np.where(np.isnan(v), np.uint32(0x7fc00000), v.view("<u4"))
    return mx.array(np.frombuffer(hashlib.sha256(bits.tobytes()).hexdigest().encode(), dtype=np.uint8))


def save(name, tensors):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    mx.save_safetensors(path, tensors, {"mlx": mx.__version__})


def odd_scales(dtype):
    odd = [0.0, -0.0, 1.0, -0.1, 3e-3, np.inf, -np.inf, np.nan, 65504.0, -65504.0, 2.0 ** -14, 2.0 ** -24,
           -(2.0 ** -24)]
    if dtype != mx.float16:
        odd += [3.3e38, -3.3e38, 1.5e36, 2.0 ** -126, 2.0 ** -133, -(2.0 ** -133)]
    if dtype == mx.float32:
        odd += [2.0 ** -149, -(2.0 ** -149), 3.4028234663852886e38]
    return np.random.default_rng(11).choice(odd, (2, 64, 4)).astype(np.float32)


tensors, sources = {}, {}
codes = np.random.default_rng(9).integers(0, 256, (64, 128), dtype=np.uint8)
tensors["odd.codes"] = mx.array(codes)
for name, dtype in [("f32", mx.float32), ("f16", mx.float16), ("bf16", mx.bfloat16)]:
    values = rows()
    if name != "f16":  # as far as the range goes without overflowing hi - lo
        values = np.concatenate([values, values[-2:-1] / 65504.0 * 1.5e38])
    w = sources[name] = tensors[f"{name}.w"] = mx.array(values).astype(dtype)
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            packed, scales, biases = mx.quantize(w, group_size=group, bits=bits)
            back = mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32), group, bits)
            key = f"{name}.{bits}.{group}"
            tensors[key + ".packed"] = packed
            tensors[key + ".scales"] = scales
            tensors[key + ".biases"] = biases
            tensors[key + ".dequantized"] = digest(back)
    odd = mx.array(odd_scales(dtype)).astype(dtype)
    tensors[f"{name}.odd.scales"], tensors[f"{name}.odd.biases"] = odd[0], odd[1]
    wide = odd.astype(mx.float32)
    for bits in (2, 3, 4, 5, 6, 8):
        packed = mx.array(np.ascontiguousarray(codes[:, :16 * bits]).view(np.uint32))
        for group in (32, 64, 128):
            n = 128 // group
            tensors[f"{name}.{bits}.{group}.odd"] = digest(
                mx.dequantize(packed, wide[0, :, :n], wide[1, :, :n], group, bits))
save("quant.safetensors", tensors)

tensors = {"nvfp4.global": mx.array(
    [1.0, 3.0, 0.1, 2688.0, 83.65, 7.7, 0.013, -2.0, 3e38, 1e-37, 1e-44, np.inf, np.nan], dtype=mx.float32)}
every = mx.array(np.tile(np.arange(256, dtype=np.uint8), (256, 1)).view(np.uint32))
for mode, bits, group in [("mxfp4", 4, 32), ("nvfp4", 4, 16), ("mxfp8", 8, 32)]:
    scales = mx.array(np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 256 * 8 // bits // group)))
    tensors[f"{mode}.every"] = digest(mx.dequantize(every, scales, mode=mode, dtype=mx.float32))
    if mode == "nvfp4":
        for i, g in enumerate(tensors["nvfp4.global"]):
            tensors[f"{mode}.every.{i}"] = digest(
                mx.dequantize(every, scales, mode=mode, global_scale=g, dtype=mx.float32))
    for name, w in sources.items():
        packed, scales = mx.quantize(w, mode=mode)
        key = f"{name}.{mode}"
        tensors[key + ".packed"], tensors[key + ".scales"] = packed, scales
        tensors[key + ".dequantized"] = digest(mx.dequantize(packed, scales, mode=mode, dtype=mx.float32))
save("quant_fp.safetensors", tensors)
