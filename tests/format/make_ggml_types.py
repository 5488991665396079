#!/usr/bin/env python3
"""Makes ggml_types.safetensors, the fixture of test_gguf.c: blocks of random bytes and gguf-py's values of them.

    python3 make_ggml_types.py       (gguf, numpy; made with gguf 0.19.0)

"TYPE.blocks" is U8 [n, bytes], "TYPE.values" F32 [n, elements] from gguf.quants.dequantize.
"""
import os

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

# where the f16 scales of a block lie
SCALES = {T.Q2_K: (80, 82), T.Q3_K: (108,), T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,),
          T.IQ4_XS: (0,), T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,)}
r = np.random.default_rng(5)
out = {}
for t, places in SCALES.items():
    block, n_bytes = GGML_QUANT_SIZES[t]
    n = max(3, 96 // block)
    b = r.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    for p in places:
        b[:, p:p + 2] = (r.standard_normal((n, 1)) * 0.05).astype(np.float16).view(np.uint8)
    out[t.name + ".blocks"] = b
    out[t.name + ".values"] = quants.dequantize(b, t).reshape(n, block).astype(np.float32)


def write(path, tensors):
    import json
    header, data = {}, b""
    for name, a in tensors.items():
        header[name] = {"dtype": {"uint8": "U8", "float32": "F32"}[a.dtype.name], "shape": list(a.shape),
                        "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


write(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml_types.safetensors"), out)
