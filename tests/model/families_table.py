"""What the lists of checkpoints share: families_llama.py, families_gemma.py, families_moe.py and families_hybrid.py.

Configs have the fields that real ones of the family carry, with tiny numbers. A few numbers differ from the real ones
so that a mistake shows at this size: epsilons of the norms that matter, windows and original lengths shorter than the
prompts, softcaps that bend. Names are <family>_<feature>_<type of the weights>; sixteen of llama leave out the family.
"""

import dataclasses
import zlib

README = """# Tiny checkpoints

Made by `../make_models.py`, which says what the files are; written from its table. Unless a line says otherwise
weights are random, prompts have 1, 7 and 41 ids, and the reference is mlx-lm in float32. mlx-lm is also the authority
where it differs from other runtimes: longrope always takes the long factors, starcoder2's gelu is the exact one.
"""


@dataclasses.dataclass
class Model:
    name: str
    part: str  # heading in README.md
    what: str
    config: dict
    dtype: str
    quant: dict | None = None
    overrides: dict = dataclasses.field(default_factory=dict)  # by layer, as in config.json
    quant_only: str | None = None  # layers outside of it stay plain, unmentioned
    layout: str | None = None  # of checkpoint_layouts.py
    n_shards: int = 1
    special: tuple = ()  # more of checkpoint_layouts.SPECIAL
    drop: str | None = None  # weights that mlx-lm's class has and this checkpoint has not
    keep_float32: str | None = None
    invisible: str | None = None  # weights that cannot change the logits
    hf_quantization: dict | None = None
    gemma2_window: int | None = None
    token_by_token: bool = False  # how the reference is fed
    note: str = ""  # on the reference
    load_config: dict = dataclasses.field(default_factory=dict)  # for mlx-lm alone
    seed: int = 0
    sort_keys: bool = True

    @property
    def vocab_size(self):
        return (self.config | self.config.get("text_config", {}))["vocab_size"]


MODELS = []


def q(bits, group_size, mode="affine"):
    return dict(bits=bits, group_size=group_size, mode=mode)


MXFP4, NVFP4, MXFP8 = q(4, 32, "mxfp4"), q(4, 16, "nvfp4"), q(8, 32, "mxfp8")


def add(name, part, what, config, dtype, quant=None, **other):
    config = dict(config)
    for c in (config, config.get("text_config", {})):
        for key in ("torch_dtype", "dtype"):
            if key in c:
                c[key] = dtype
    MODELS.append(Model(name, part, what, config, dtype, quant, seed=zlib.crc32(name.encode()), **other))


# ---- what the families share ----

UNTIED = dict(tie_word_embeddings=False)
SMALL = dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=48, rms_norm_eps=0.01)
D32 = SMALL | dict(hidden_size=32, intermediate_size=40)
F24 = SMALL | dict(hidden_size=24, intermediate_size=40, num_attention_heads=3, num_key_value_heads=1)
Q32 = SMALL | dict(hidden_size=32, intermediate_size=64)
D64 = SMALL | dict(hidden_size=64, intermediate_size=96)
D64_64 = SMALL | dict(hidden_size=64, intermediate_size=64)
COMMON = dict(
    attention_dropout=0.0,
    bos_token_id=1,
    eos_token_id=2,
    hidden_act="silu",
    initializer_range=0.02,
    torch_dtype="bfloat16",
    transformers_version="4.51.3",
    use_cache=True,
)
YARN = dict(
    rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=1.0, beta_slow=0.04, mscale=1.0,
    mscale_all_dim=0.5,
)  # fmt: skip


def without(config, *names):
    return {k: v for k, v in config.items() if k not in names}
