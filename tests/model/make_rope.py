#!/usr/bin/env python3
"""Makes rope.json: what mlx-lm's rotary embeddings come to, for test_rope.c.

    python make_rope.py [--out FILE]

Run by hand, with mlx and mlx-lm installed (the versions used are in the file). Each case has the arguments that
initialize_rope of rope_utils.py took, and

    inv_freq    one over the array of periods that the class made. default, linear and dynamic have no such array, they
                hand base and scale to mx.fast.rope: for them it is mx.fast.rope's formula with these, in float32 steps
                with an exp that is rounded once
    mlx         only these three: the same by mx.exp, which is what mx.fast.rope runs on the CPU
    scale       what the rotated values are multiplied with before
    at          dynamic: [position, inv_freq, mlx] as the class asks for when a single token is at this position

Numbers have nine digits, which name one float32.
"""
import argparse
import datetime
import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
from mlx_lm.models import rope_utils

HERE = Path(__file__).resolve().parent
f32 = np.float32

LLAMA3 = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0)
GPT_OSS = dict(
    rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=4096, truncate=False
)
DEEPSEEK = dict(type="yarn", factor=40, beta_fast=32, beta_slow=1, original_max_position_embeddings=4096)


def growing(n, first, step):
    return [round(first + step * i * i / n, 6) for i in range(n)]


def longrope(dims, name="longrope", original=4096):
    half = dims // 2
    scaling = dict(type=name, short_factor=growing(half, 1.0, 0.1), long_factor=growing(half, 1.0299, 2.37))
    if original:
        scaling["original_max_position_embeddings"] = original
    return scaling


# (dims, theta, scaling, max_position_embeddings, original_max_position_embeddings beside the scaling)
CASES = [
    # default
    (2, 10000, None, 0, 0),
    (6, 10000.0, None, 2048, 0),
    (50, 1000000.0, {}, 2048, 0),
    (64, 150000, dict(rope_type="default"), 131072, 0),
    (96, 5000000.0, dict(type="default", rope_type="yarn"), 2048, 0),
    (8, 1.0, None, 2048, 0),
    # linear
    (2, 10000, dict(type="linear", factor=8), 2048, 0),
    (64, 1000000.0, dict(rope_type="linear", factor=8.0), 131072, 0),
    (50, 10000.0, dict(type="linear", rope_type="dynamic", factor=3.0), 4096, 0),
    (6, 5000000, dict(type="linear", factor=0.7), 4096, 0),
    (10, 500000.0, dict(type="", rope_type="linear", factor=2.3), 2048, 0),
    # dynamic
    (4, 10000, dict(type="dynamic", factor=2), 32, 0),
    (6, 1000000.0, dict(rope_type="dynamic", factor=0.5), 100, 0),
    (50, 150000.0, dict(type="dynamic", factor=3.0), 2048, 0),
    (64, 5000000.0, dict(rope_type="dynamic", factor=4.0), 4096, 0),
    # llama3
    (2, 500000.0, LLAMA3 | dict(original_max_position_embeddings=8192), 131072, 0),
    (50, 500000, dict(rope_type="llama3", factor=8), 131072, 0),
    (64, 500000.0, LLAMA3 | dict(original_max_position_embeddings=8192), 131072, 0),
    (96, 150000.0, LLAMA3 | dict(factor=8.0, low_freq_factor=1.5, high_freq_factor=3.7), 131072, 0),
    (128, 10000.0, LLAMA3 | dict(factor=2, original_max_position_embeddings=32), 131072, 0),
    # yarn
    (2, 10000.0, DEEPSEEK, 163840, 0),
    (64, 150000, GPT_OSS, 131072, 0),
    (64, 10000, DEEPSEEK | dict(mscale=1.0, mscale_all_dim=1.0), 163840, 0),
    (64, 10000, DEEPSEEK | dict(type="deepseek_yarn", mscale=0.707, mscale_all_dim=0.5), 163840, 0),
    (50, 1000000.0, dict(type="telechat3-yarn", factor=4.0), 32768, 0),
    (128, 1000000.0, dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=16384), 262144, 0),
    (96, 5000000.0, dict(rope_type="yarn", factor=1.0, mscale=2.0), 4096, 0),
    (10, 10000.0, dict(rope_type="yarn", factor=0.5, original_max_position_embeddings=1), 4096, 0),
    (64, 10000.0, dict(rope_type="yarn", factor=4, original_max_position_embeddings=6), 4096, 0),  # no ramp
    (50, 10.0, dict(rope_type="yarn", factor=4, original_max_position_embeddings=1 << 40), 4096, 0),
    (64, 100.0, dict(rope_type="yarn", factor=4), 4096, 0),  # the ramp ends past the last pair
    (64, 10.0, dict(rope_type="yarn", factor=4, beta_fast=512), 4096, 0),
    (128, 10000.0, dict(rope_type="yarn", factor=4), 4096, 0),
    (34, 10000.0, dict(rope_type="yarn", factor=7.3, beta_fast=64.5, beta_slow=0.9, mscale=0), 4096, 0),
    # longrope
    (2, 10000.0, longrope(2), 131072, 0),
    (96, 10000.0, longrope(96), 131072, 0),
    (96, 10000.0, longrope(96, "su", 0), 131072, 4096),
    (10, 10000.0, longrope(10, "su", 8192), 131072, 4096),
    (50, 1000000.0, longrope(50, "longrope", 8192), 8192, 0),
    (6, 5000000.0, longrope(6, "longrope", 32), 100, 0),
    (18, 150000.0, longrope(18, "longrope", 4096), 2048, 0),
    # proportional
    (64, 1000000.0, dict(rope_type="proportional", partial_rotary_factor=0.25), 131072, 0),
    (50, 10000.0, dict(rope_type="proportional", partial_rotary_factor=0.5, factor=3.0), 131072, 0),
    (10, 5000000.0, dict(type="proportional", partial_rotary_factor=0.9), 4096, 0),
    (6, 10000.0, dict(type="proportional"), 4096, 0),
    (6, 10000.0, dict(type="proportional", partial_rotary_factor=0.1), 4096, 0),
    # mrope
    (64, 5000000.0, dict(rope_type="mrope", mrope_section=[11, 11, 10]), 262144, 0),
]


def digits(a):
    return [float("%.9g" % x) for x in np.asarray(a, dtype=f32)]


def asked_for(rope, dims, offset):
    """base and scale of the call to mx.fast.rope, for one token at position offset."""
    found = {}

    def note(x, dims, *, traditional, base, scale, offset, freqs=None):
        found.update(base=base, scale=scale)
        return x

    real, mx.fast.rope = mx.fast.rope, note
    try:
        rope(mx.zeros((1, 1, 1, dims)), offset=offset)
    finally:
        mx.fast.rope = real
    return found["base"], found["scale"]


def by_formula(dims, base, scale):
    half = dims // 2
    step = np.log(f32(base)) / f32(half)
    exponents = np.arange(0, -half, -1, dtype=f32) * step
    once = np.exp(exponents.astype(np.float64)).astype(f32)
    mlx = np.array(mx.exp(mx.arange(0, -half, -1, dtype=mx.float32) * mx.array(step)))
    return digits(once * f32(scale)), digits(mlx * f32(scale))


def make(dims, theta, scaling, max_positions, original):
    case = dict(dims=dims, theta=theta, scaling=scaling, max_position_embeddings=max_positions)
    case["original_max_position_embeddings"] = original
    if scaling and scaling.get("type") == "su":  # phi3.py
        rope = rope_utils.SuScaledRoPE(
            dims, theta, max_positions, original, scaling["short_factor"], scaling["long_factor"]
        )
    else:
        rope = rope_utils.initialize_rope(dims, theta, False, scaling, max_positions)

    case["scale"] = float("%.9g" % f32(getattr(rope, "mscale", getattr(rope, "_scale", 1.0))))
    if isinstance(rope, (nn.RoPE, rope_utils.DynamicNTKScalingRoPE)):
        case["inv_freq"], case["mlx"] = by_formula(dims, *asked_for(rope, dims, 0))
    else:
        case["inv_freq"] = digits(mx.reciprocal(rope._freqs))
    if isinstance(rope, rope_utils.DynamicNTKScalingRoPE):
        n = max_positions
        case["at"] = [
            [p, *by_formula(dims, *asked_for(rope, dims, p))]
            for p in (0, n - 1, n, n + 1, 2 * n - 1, 3 * n + 5, 1000003)
        ]
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "rope.json")
    args = parser.parse_args()

    mx.set_default_device(mx.cpu)
    cases = [json.dumps(make(*case)) for case in CASES]
    made = "make_rope.py, mlx %s, mlx-lm %s, %s" % (mx.__version__, mlx_lm.__version__, datetime.date.today())
    args.out.write_text('{"made": %s, "cases": [\n%s\n]}\n' % (json.dumps(made), ",\n".join(cases)))


if __name__ == "__main__":
    main()
