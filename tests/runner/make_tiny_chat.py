#!/usr/bin/env python3
"""Makes tests/runner/fixtures/tiny_chat: a seeded llama of two layers with a byte-level tokenizer, a chat template and
an EOS set, and tiny_chat.json: greedy answers of mlx-lm in float32 to a few prompts, as token ids.

    pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 tokenizers==0.23.3 jinja2
    python tests/runner/make_tiny_chat.py

Never needed to run the tests.
"""
import json
import shutil
from pathlib import Path

import jinja2
import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = Path(__file__).resolve().parent / "fixtures"
DIR = HERE / "tiny_chat"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PROMPTS = ["Hello", "Grüße, 世界! 🙂", "a b c d e f g", "The the the"]


def make_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = []
    for a, b in [("t", "h"), ("th", "e"), ("Ġ", "the"), ("l", "l"), ("e", "r")]:
        vocab[a + b] = len(vocab)
        merges.append((a, b))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(
        [AddedToken(x, special=True, normalized=False) for x in ("<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|eot|>")]
    )
    return tok


def main():
    mx.random.seed(20260101)
    tok = make_tokenizer()
    eos = [tok.token_to_id("<|end|>"), tok.token_to_id("<|eot|>")]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 512,
        "vocab_size": tok.get_vocab_size(),
        "tie_word_embeddings": True,
        "eos_token_id": 9999,
        "torch_dtype": "float16",
    }
    model = llama.Model(llama.ModelArgs.from_dict(config))
    # Larger than an initialisation's: answers wander instead of repeating, and margins stay wide.
    model.update(tree_map(lambda p: (p * 3 if p.ndim > 1 else p).astype(mx.float16), model.parameters()))
    nn.quantize(model, group_size=32, bits=4)
    config["quantization"] = {"group_size": 32, "bits": 4}
    shutil.rmtree(DIR, ignore_errors=True)
    DIR.mkdir(parents=True)
    mx.save_safetensors(str(DIR / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (DIR / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (DIR / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}) + "\n")
    (DIR / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "<|end|>", "chat_template": TEMPLATE}, indent=1) + "\n"
    )
    tok.save(str(DIR / "tokenizer.json"), pretty=False)

    model.update(tree_map(lambda p: p.astype(mx.float32) if p.dtype == mx.float16 else p, model.parameters()))
    template = jinja2.Environment().from_string(TEMPLATE)
    cases = []
    for prompt in PROMPTS:
        text = template.render(bos_token="<s>", messages=[{"role": "user", "content": prompt}], add_generation_prompt=True)
        ids = tok.encode(text, add_special_tokens=False).ids
        seq, margin = list(ids), []
        for _ in range(24):
            row = model(mx.array([seq]))[0, -1]
            top = mx.sort(row)[-2:]
            margin.append(float(top[1] - top[0]) / float(mx.std(row)))
            seq.append(int(mx.argmax(row)))
        out = seq[len(ids) :]
        cases.append({"prompt": prompt, "rendered": text, "prompt_ids": ids, "greedy": out, "text": tok.decode(out, skip_special_tokens=True), "least_margin": min(margin)})
        print(prompt, out, min(margin))
    doc = {"made_by": "make_tiny_chat.py with mlx %s, mlx-lm 0.32.2, float32" % mx.__version__, "eos": eos, "cases": cases}
    (HERE / "tiny_chat.json").write_text(json.dumps(doc, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
