"""A model small enough to be made by each test, and whose answers can be foretold: what follows a token depends on that token alone.

Its layer adds nothing (all zeros), so the logits are lm_head times the embedding of the last token. Embeddings are random signs, and each row
of lm_head is the sum of the embeddings of the tokens that it should follow: strongly (logit about 30) along the script below, weakly
(about 4) from any other character to another one, so that free text wanders and seeds make a difference.

    assistant turn            <think>Let me see</think>The answer is 42.<|im_end|>
    without thinking          The answer is 42.
    with tools                <tool_call> of get_weather with {"city": "Paris"}
    behind a tool's result    as without tools

Standard library only.
"""

import json
import random
import struct
from pathlib import Path

DIM = 256
CONTEXT = 2048
CALL = ['\n{"name": "', "get_weather", '", "arguments": ', '{"city": "Paris"}', "}\n"]
THINKING = ["Let", " me", " see"]
ANSWER = ["The", " answer", " is", " 42"]
TEXT = "".join(ANSWER) + "."
THOUGHT = "".join(THINKING)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|answer|>", "<|direct|>", "<|call|>"]
TEMPLATE = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}# Tools
You may call functions. Their signatures are within <tools></tools>:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Return a JSON object for each call within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% elif m.role == 'user' or (m.role == 'system' and not loop.first) %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% elif m.role == 'assistant' %}<|im_start|>assistant
{% if m.reasoning_content is string and loop.last %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content if m.content is string else '' }}
{%- if m.tool_calls %}{% for call in m.tool_calls %}{% set call = call.function if call.function else call %}
<tool_call>
{"name": "{{ call.name }}", "arguments": {{ call.arguments if call.arguments is string else call.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if tools and messages[-1].role != 'tool' %}<|call|>
{%- elif enable_thinking is defined and enable_thinking is false %}<think>

</think>

<|direct|>
{%- else %}<|answer|>
{%- endif %}{% endif %}"""


def make(folder, tokenizer_json):
    """Writes the model into folder (made). tokenizer_json: of tests/runner/fixtures/tiny_chat, whose bytes and merges it takes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tok = json.loads(Path(tokenizer_json).read_text(encoding="utf-8"))
    vocab = tok["model"]["vocab"]
    tok["added_tokens"], ids = [], dict(vocab)
    for text in [*SPECIAL, "<think>", "</think>", "<tool_call>", "</tool_call>", *CALL, *THINKING, *ANSWER]:
        ids[text] = len(vocab) + len(tok["added_tokens"])
        tok["added_tokens"].append({"id": ids[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                                    "normalized": False, "special": text in SPECIAL})
    size = len(vocab) + len(tok["added_tokens"])
    (folder / "tokenizer.json").write_text(json.dumps(tok, ensure_ascii=False), encoding="utf-8")

    rng = random.Random(20261123)
    signs = [[1 if rng.getrandbits(1) else -1 for _ in range(DIM)] for _ in range(size)]
    after = {}  # token: (the one behind it, how strongly)
    letters = [i for t, i in vocab.items() if len(t) == 1 and ("a" <= t <= "z" or t == "Ġ")]
    for i in range(len(vocab)):
        after[i] = (rng.choice(letters), 4)
    after[vocab['"']] = (ids["<|im_end|>"], 12)
    after[vocab["{"]] = (vocab["}"], 30)
    after[vocab["["]] = (vocab["]"], 30)
    for t in "}]0123456789":
        after[vocab[t]] = (ids["<|im_end|>"], 30)
    for chain in (["<|answer|>", "<think>", *THINKING, "</think>", *ANSWER, ".", "<|im_end|>"], ["<|direct|>", "The"],
                  ["<|call|>", "<tool_call>", *CALL, "</tool_call>", "<|im_end|>"]):
        for a, b in zip(chain, chain[1:]):
            after[ids[a]] = (ids[b], 30)
    head = [[0.0] * DIM for _ in range(size)]
    for a, (b, strength) in after.items():
        row, sign = head[b], signs[a]
        for k in range(DIM):
            row[k] += strength * sign[k] / DIM

    q = 64
    tensors = {"model.embed_tokens.weight": ([size, DIM], [x for r in signs for x in r]), "lm_head.weight": ([size, DIM], [x for r in head for x in r]),
               "model.norm.weight": ([DIM], [1] * DIM)}
    for name, shape in {"self_attn.q_proj": [q, DIM], "self_attn.k_proj": [q, DIM], "self_attn.v_proj": [q, DIM], "self_attn.o_proj": [DIM, q],
                        "mlp.gate_proj": [q, DIM], "mlp.up_proj": [q, DIM], "mlp.down_proj": [DIM, q], "input_layernorm": [DIM],
                        "post_attention_layernorm": [DIM]}.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        tensors[f"model.layers.0.{name}.weight"] = (shape, [1 if len(shape) == 1 else 0] * n)
    header, data = {"__metadata__": {"format": "mlx"}}, bytearray()
    for name, (shape, values) in tensors.items():
        begin = len(data)
        data += struct.pack(f"<{len(values)}e", *values)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": DIM, "intermediate_size": q, "num_hidden_layers": 1,
              "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "max_position_embeddings": CONTEXT, "vocab_size": size, "tie_word_embeddings": False, "eos_token_id": ids["<|im_end|>"],
              "torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids["<|im_end|>"]]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}))
    return folder


if __name__ == "__main__":
    import sys

    make(sys.argv[1], Path(__file__).resolve().parents[2] / "runner" / "fixtures" / "tiny_chat" / "tokenizer.json")
