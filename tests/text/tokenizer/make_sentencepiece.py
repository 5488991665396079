#!/usr/bin/env python3
"""Makes fixtures/sentencepiece_*: two tiny SentencePiece models (folders with a tokenizer.model) and what the same
model gives in the reference library after transformers' conversion. Run by hand; needs `sentencepiece`, `tokenizers`
and `transformers`:  python3 make_sentencepiece.py"""
import json
import os
import random

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers.convert_slow_tokenizer import SpmConverter, generate_merges

import fuzz_vs_hf as f

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")


class Slow:
    add_prefix_space = True
    legacy = True


def bpe(sp):
    """What LlamaConverter builds."""
    scores = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    vocab = {w: i for i, (w, _) in enumerate(scores)}
    tok = Tokenizer(models.BPE(vocab, generate_merges(vocab, scores), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)])
    return tok


def main():
    r = random.Random(1)
    lines = [" ".join(r.choice(f.WORDS) for _ in range(12)) for _ in range(1500)]
    for kind in ("bpe", "unigram"):
        d = os.path.join(HERE, "sentencepiece_" + kind)
        os.makedirs(d, exist_ok=True)
        os.chdir(d)  # the model file records the prefix: no path of this machine
        spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix="tokenizer", vocab_size=520, model_type=kind, byte_fallback=kind == "bpe",
                                       user_defined_symbols=["<x>"], normalization_rule_name="identity", hard_vocab_limit=False, num_threads=1, minloglevel=2)
        os.remove(os.path.join(d, "tokenizer.vocab"))
        slow = Slow()
        slow.vocab_file = os.path.join(d, "tokenizer.model")
        sp = spm.SentencePieceProcessor(model_file=slow.vocab_file)
        tok = bpe(sp) if kind == "bpe" else SpmConverter(slow).converted()
        tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
        tok.add_tokens([AddedToken("<x>", normalized=False)])
        with open(os.path.join(d, "cases.jsonl"), "w") as out:
            for _ in range(60):
                text = f.text(r, ["<x>", "<s>", "▁"])
                ids = tok.encode(text, add_special_tokens=False).ids
                case = {"text": text, "add_special_tokens": False, "ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False), "decoded_skip": tok.decode(ids)}
                out.write(json.dumps(case) + "\n")


main()
