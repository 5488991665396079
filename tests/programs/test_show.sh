#!/usr/bin/env bash
# mlxctl show: what it says of folders whose making is known.
# usage: test_show.sh BIN_DIR SOURCE_DIR
set -u
bin=$1
src=$2
models=$src/tests/model/models
tiny=$src/tests/runner/fixtures/tiny_chat
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# expect NAME CODE STDOUT-LINE... -- MODEL [OPTION...]: each STDOUT-LINE is a regex that some line of the answer matches, "!" before
# it that none does.
expect() {
    local name=$1 code=$2 got wanted=()
    shift 2
    while [ "$1" != -- ]; do
        wanted+=("$1")
        shift
    done
    shift
    "$bin/mlxctl" show "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" -ne "$code" ]; then
        bad "$name: exit code $got, wanted $code"
        return
    fi
    for line in "${wanted[@]}"; do
        case $line in
        !*) if grep -qE -- "${line#!}" "$tmp/out"; then
            bad "$name: there is a line ${line#!}"
            return
        fi ;;
        *) if ! grep -qE -- "$line" "$tmp/out"; then
            bad "$name: no line $line"
            return
        fi ;;
        esac
    done
    passed=$((passed + 1))
}
bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
    head -40 "$tmp/out" "$tmp/err" | sed 's/^/    /'
}
fails() { # NAME STDERR-REGEX MODEL [OPTION...]
    local name=$1 want=$2
    shift 2
    if "$bin/mlxctl" show "$@" >"$tmp/out" 2>"$tmp/err" </dev/null; then
        bad "$name: exit code 0"
    elif ! grep -qE -- "$want" "$tmp/err"; then
        bad "$name: standard error is not $want"
    else
        passed=$((passed + 1))
    fi
}

expect "a chat model" 0 '^family +llama$' '^parameters +91136$' \
    '^layers +2, hidden size 64, vocabulary 267, context 512$' \
    '^  2 layers +4 heads of 16, 2 of keys and values; feed-forward 128$' \
    '^weights +5\.04 bits each, 50 tensors in 1 file of 62336 bytes$' \
    '^  2 layers +affine 4-bit group 32 F16$' '^  outside +affine 4-bit group 32 F16: model.embed_tokens$' \
    '^memory +cpu, 1 sequence of 512 positions$' \
    '^  default +system yes, tools no, .*thinking no switch$' '^tokenizer +BPE, 267 tokens$' \
    '^  special +bos 261 <s>, eos 262 <\|end\|>$' '^  answers end at 262 <\|end\|>, 266 <\|eot\|>$' -- "$tiny"
expect "layers stored otherwise" 0 \
    '^  1 layer +affine 4-bit group 32 BF16; but affine 8-bit group 64 BF16: self_attn.v_proj; BF16: mlp.down_proj  \[0\]$' \
    '^  1 layer +affine 4-bit group 32 BF16; but affine 3-bit group 32 BF16: mlp.gate_proj  \[1\]$' \
    '^  outside +affine 6-bit group 64 BF16: model.embed_tokens; affine 8-bit group 32 BF16: lm_head$' -- "$models/mixed"
expect "windows" 0 'window 8; feed-forward 64  \[0-1\]$' 'keys and values; feed-forward 64  \[2\]$' -- \
    "$models/gemma3_mixed" --device ref
expect "experts" 0 '^parameters +93120, of which a token uses 56256$' '; 5 experts of 32, 2 a token$' -- \
    "$models/mixtral_mixed"
expect "shards" 0 'tensors in 3 files of ' -- "$models/bf16_shards"
expect "without text" 0 '^template +.*no chat template' '^tokenizer +.*none of tokenizer.json' -- "$models/q4_g32"

# Memory: 2 layers * 2 heads * (16 + 16) floats a position, blocks of 32 positions, to the byte.
expect "memory of a context" 0 '^memory +ref, 3 sequences of 100 positions$' \
    '^  KV cache +196608 bytes  12 blocks of 16384 bytes and 32 positions$' -- \
    "$tiny" --context 100 --sequences 3 --device ref
expect "memory of more than the context" 0 '1000 positions \(more than the model.s context\)' -- "$tiny" --context 1000
expect "memory as JSON" 0 '"context": 64, "sequences": 2,.*"block_bytes": 16384, "blocks": 4, "kv_bytes": 65536' -- \
    "$tiny" --json --device ref --context 64 --sequences 2

# Tensors: each with the weight it is; the program lists the weights by number.
expect "tensors" 0 '^tensors \(50\)$' \
    '^  model\.embed_tokens\.weight +U32 +\[267, 8\] +8544  model.safetensors  weight 0$' \
    '^  model\.embed_tokens\.scales +F16 .*  weight 0 scales$' '!ignored' -- "$tiny" --tensors
expect "a stack from many tensors" 0 'experts\.3\.w2\.scales .* weight [0-9]+ expert 3 scales$' '!ignored' -- \
    "$models/mixtral_hf_q4" --tensors
expect "tensors and program" 0 '^tensors ' '^program llama' '   0  model.embed_tokens.weight' -- \
    "$tiny" --tensors --program
expect "tensors as JSON" 0 '"name": "model.embed_tokens.biases".*"weight": 0, "part": "biases"' -- "$tiny" --tensors --json

# A tensor that is let be: the head of a model whose embeddings are tied.
if command -v python3 >/dev/null; then
    mkdir "$tmp/tied"
    cp "$models/f32/config.json" "$models/f32/model.safetensors" "$tmp/tied"
    python3 - "$tmp/tied/config.json" <<'PY'
import json, sys
c = json.load(open(sys.argv[1]))
c["tie_word_embeddings"] = True
json.dump(c, open(sys.argv[1], "w"))
PY
    expect "ignored tensors" 0 '^  lm_head\.weight .* ignored$' '!embed_tokens.* ignored$' -- "$tmp/tied" --tensors
    expect "ignored tensors as JSON" 0 '"name": "lm_head.weight".*"weight": null' -- "$tmp/tied" --tensors --json
    for model in "$tiny" "$models/mixtral_hf_q4" "$models/gemma3_mixed"; do
        if "$bin/mlxctl" show "$model" --json --tensors --program >"$tmp/out" 2>"$tmp/err" &&
            python3 -c 'import json, sys; json.load(sys.stdin)' <"$tmp/out"; then
            passed=$((passed + 1))
        else
            bad "JSON of $model"
        fi
    done
else
    echo "SKIP: no python3: ignored tensors, JSON"
fi

# Every checkpoint there is can be shown; the bytes of the weights never exceed the files'.
for model in "$models"/*/; do
    [ -f "$model/config.json" ] || continue
    expect "$model" 0 '^family ' '^memory ' '^  together +[0-9]+ bytes' -- "$model" --device ref
    expect "$model as the CPU takes it" 0 '^  together +[0-9]+ bytes' -- "$model"
done

fails "an unknown device" 'device "abacus" is not known' "$tiny" --device abacus
fails "a context that is none" 'is not a whole number from 1' "$tiny" --context 0
fails "a folder without a model" 'config.json' "$tmp"
cp -r "$tiny" "$tmp/evil"
printf '{"chat_template": "{{ messages[0].content }}", "bos_token": "a\\u001b[31mb"}' >"$tmp/evil/tokenizer_config.json"
expect "no control characters come out" 0 "!$(printf '\033')" 'bos a\?\[31mb \(not in the vocabulary\)' -- "$tmp/evil"

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
