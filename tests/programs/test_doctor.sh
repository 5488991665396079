#!/usr/bin/env bash
# mlxctl doctor: a whole folder, the same folder broken in many ways, several at once, and bytes turned at random.
# usage: test_doctor.sh BIN_DIR SOURCE_DIR
set -u
bin=$1
src=$2
tiny=$src/tests/runner/fixtures/tiny_chat
shards=$src/tests/model/models/bf16_shards
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0
export MLXR_HOME=$tmp/home
# A sanitizer's report is no finding of doctor's.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}exitcode=99" UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}exitcode=99"

bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
    head -40 "$tmp/out" "$tmp/err" | sed 's/^/    /'
}

# expect NAME CODE LINE... -- ARGUMENT...: each LINE is a regex that some line matches, with "!" before it none. Nothing
# is said on standard error.
expect() {
    local name=$1 code=$2 got wanted=()
    shift 2
    while [ "$1" != -- ]; do
        wanted+=("$1")
        shift
    done
    shift
    "$bin/mlxctl" doctor "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" -ne "$code" ] || [ -s "$tmp/err" ]; then
        bad "$name: exit code $got, wanted $code and no standard error"
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

# fresh [FOLDER]: $m is a copy of it
fresh() {
    m=$tmp/m
    rm -rf "$m"
    cp -r "${1:-$tiny}" "$m"
    chmod -R u+w "$m"
    rm -f "$m"/expected.*
}
edit() { # FILE SED-SCRIPT
    sed "$2" "$m/$1" >"$tmp/edited" && cp "$tmp/edited" "$m/$1"
}

# --- this machine
expect "this machine" 0 '^ok +device cpu: cpu ' '^ok +device ref: ref' '^(ok|warn) +device mlx: ' '^ok +memory: ' \
    '^ok +cache: .*can be made$' '^(ok|warn) +disk: ' '^[0-9]+ errors, [0-9]+ warnings?$' --
expect "this machine as JSON" 0 '"errors": 0,.*"part": "device cpu"' -- --json
MLXR_CPU=sse9 expect "an ISA that is not there" 1 '^error +device cpu: .*sse9' --
mkdir -p "$tmp/cwd/config"
echo '{"a": "nowhere"}' >"$tmp/cwd/config/model-paths.local.json"
(cd "$tmp/cwd" && "$bin/mlxctl" doctor >"$tmp/out" 2>"$tmp/err")
if grep -qE '^warn +model paths: model "a" in .*nowhere' "$tmp/out"; then passed=$((passed + 1)); else bad "a model path without a folder"; fi

# --- a whole folder
fresh
edit config.json 's/9999/262/'
expect "a whole folder" 0 '^ok +model.safetensors: 50 tensors, 62336 bytes$' '^ok +config.json: llama, 2 layers' \
    '^ok +tensors: all there' '^ok +device cpu: runs it$' '^ok +tokenizer: BPE, 267 tokens$' \
    '^ok +tokenizer_config.json: 2 special' '^ok +chat template: default renders; system yes, tools no' \
    '^ok +end of answers: 262 <\|end\|>, 266' '^0 errors, 0 warnings$' '!^(warn|error)' -- "$m"
expect "a whole folder as JSON" 0 '^\{"errors": 0, "warnings": 0, "untold": 0, "findings": \[\{"level": "ok"' -- "$m" --json
cp "$m/model.safetensors" "$tmp/whole.safetensors"

# --- config.json
rm "$m/config.json"
expect "no config.json" 1 '^error +config.json: not there$' '^ok +tokenizer: ' '^ok +model.safetensors' -- "$m"
fresh
echo '{"model_type": ' >"$m/config.json"
expect "config.json is no JSON" 1 '^error +config.json: .*not valid JSON' -- "$m"
echo '[1]' >"$m/config.json"
expect "config.json is a list" 1 '^error +config.json: not a JSON object$' -- "$m"
echo '{}' >"$m/config.json"
expect "config.json without model_type" 1 '^error +config.json: no "model_type"; supported: .*llama' -- "$m"
rm "$m/config.json"
mkdir "$m/config.json"
expect "config.json is a folder" 1 '^error +config.json: is a folder' -- "$m"
rmdir "$m/config.json"
mkfifo "$m/config.json"
expect "config.json is a pipe" 1 '^error +config.json: is a special file' -- "$m"
fresh
edit config.json 's/"model_type": "llama"/"model_type": "frobnicator"/'
expect "an unknown family" 1 '^error +config.json: model_type "frobnicator" is not supported; supported: ' \
    '^warn +tensors: not compared' '^ok +chat template' -- "$m"
fresh
edit config.json 's/"num_attention_heads": 4/"num_attention_heads": -4/'
expect "a field out of range" 1 '^error +config.json: .*num_attention_heads' -- "$m"
fresh
edit config.json 's/"intermediate_size": 128/"intermediate_size": 160/; s/"num_hidden_layers": 2/"num_hidden_layers": 3/'
expect "tensors that do not fit" 1 '^error +tensors: 9 missing: model.layers.2' \
    '^error +tensors: 6 of another shape: model.layers.0.mlp.gate_proj.weight \[128, 8\] U32' -- "$m"
fresh
edit config.json 's/"num_hidden_layers": 2/"num_hidden_layers": 1/'
expect "tensors too many" 1 '^error +tensors: 23 too many: model.layers.1' -- "$m"
fresh
edit config.json 's/"bits": 4/"bits": 7/'
expect "a quantization that is not there" 1 '^error +config.json: quantization: affine to 7 bits in groups of 32 is not supported' -- "$m"

# --- weights
fresh
head -c 40000 "$tmp/whole.safetensors" >"$m/model.safetensors"
expect "a file cut short" 1 '^error +model.safetensors: .*outside the file.*\(cut short\?\)' \
    '^error +tensors: none of the [0-9]+ of config.json' -- "$m"
edit config.json 's/"bits": 4/"bits": 7/'
expect "a file cut short and a wrong quantization" 1 '^error +model.safetensors: ' '^error +config.json: quantization' -- "$m"
fresh
head -c 100 "$tmp/whole.safetensors" >"$m/model.safetensors"
expect "a header cut short" 1 '^error +model.safetensors: a header of [0-9]+ bytes in a file of 100' -- "$m"
: >"$m/model.safetensors"
expect "an empty file" 1 '^error +model.safetensors: 0 bytes, too short' -- "$m"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n' >"$m/model.safetensors"
expect "a Git LFS pointer" 1 '^error +model.safetensors: a Git LFS pointer of 64 bytes' '!^error +weights' -- "$m"
rm "$m/model.safetensors"
expect "no weights" 1 '^error +weights: none: looked for model.safetensors.index.json, model.safetensors and' -- "$m"
ln -s ../gone.safetensors "$m/model.safetensors"
expect "a link to nothing" 1 '^error +model.safetensors: a link to a file that is not there$' -- "$m"
fresh
cp "$m/model.safetensors" "$m/consolidated.safetensors"
expect "a file that is not read" 0 '^warn +consolidated.safetensors: not read: there is a model.safetensors$' -- "$m"
if [ "$(id -u)" -ne 0 ]; then
    chmod 000 "$m/model.safetensors" "$m/tokenizer.json"
    expect "files that may not be read" 1 '^error +model.safetensors: cannot be read: .*\(mode 000\)$' \
        '^error +tokenizer.json: cannot be read' -- "$m"
    chmod 600 "$m"/*
else
    echo "SKIP: files that may not be read: run as root, who may"
fi

# --- shards and their index
fresh "$shards"
index=model.safetensors.index.json
expect "whole shards" 1 "^ok +$index: 30 tensors in 3 files$" '^ok +tensors: all there' \
    '^error +tokenizer: none of tokenizer.json|^error +tokenizer: .*none of tokenizer.json' '^1 error, 1 warning$' -- "$m"
rm "$m/model-00002-of-00003.safetensors"
expect "a shard is missing" 1 '^error +model-00002-of-00003.safetensors: not there; the index puts 10 tensors into it$' \
    '^ok +model-00003' '^error +tensors: 10 missing \(files are missing or broken\): model.layers' -- "$m"
head -c 500 "$shards/model-00003-of-00003.safetensors" >"$m/model-00003-of-00003.safetensors"
expect "a shard is missing and one is broken" 1 '^error +model-00002-of' '^error +model-00003-of.*cut short' \
    '^error +tensors: 20 missing' -- "$m"
fresh "$shards"
edit $index 's/"model.norm.weight"/"model.gone.weight"/'
expect "the index has a tensor that the files have not" 1 "^error +$index: 1 tensors are in none of the files: model.gone.weight$" \
    "^warn +$index: 1 tensors of the files are not in it: model.norm.weight$" '^ok +tensors: all there' -- "$m"
fresh "$shards"
cp "$m/model-00001-of-00003.safetensors" "$m/model-00009-of-00003.safetensors"
edit $index 's/00001-of/00002-of/'
expect "the index has another file" 1 "^error +$index: 10 tensors are in none of the files: |^error +$index: 10 tensors are in another" \
    '^warn +model-00009-of-00003.safetensors: not read: the index does not name it$' -- "$m"
fresh "$shards"
edit $index 's/model-00001-of-00003/..\/model-00001-of-00003/'
expect "the index leaves the folder" 1 "^error +$index: 10 tensors are mapped to no file of this folder: " -- "$m"
fresh "$shards"
echo '{"weight_map": {' >"$m/$index"
expect "the index is no JSON" 1 "^error +$index: .*not valid JSON" '^ok +model-00001' '^ok +tensors: all there' -- "$m"
echo '{"weight_map": []}' >"$m/$index"
expect "the index has no map" 1 "^error +$index: no \"weight_map\"" -- "$m"
fresh "$shards"
cp "$m/model-00001-of-00003.safetensors" "$m/model-00002-of-00003.safetensors"
expect "a tensor twice" 1 '^error +weights: .*is in model-00001-of-00003.safetensors already' -- "$m"
fresh
echo '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}' >"$m/$index"
expect "an index left behind" 0 "^warn +$index: names none of the files there" '^ok +tensors: all there' -- "$m"

# --- leftovers
fresh
: >"$m/model.safetensors.tmp.0badcafe"
: >"$m/x.incomplete"
expect "leftovers" 0 '^warn +model.safetensors.tmp.0badcafe: left by an interrupted import' '^warn +x.incomplete: left' -- "$m"

# --- tokenizer
fresh
rm "$m/tokenizer.json"
expect "no tokenizer" 1 '^error +tokenizer: .*none of tokenizer.json, vocab.json' '^ok +chat template' -- "$m"
fresh
head -c 1000 "$tiny/tokenizer.json" >"$m/tokenizer.json"
expect "a tokenizer cut short" 1 '^error +tokenizer: .*tokenizer.json' -- "$m"
fresh
edit tokenizer_config.json 's/"eos_token": "<|end|>"/"eos_token": "<|stop|>"/'
expect "a special token that is none" 0 '^warn +tokenizer_config.json: "eos_token" <\|stop\|> is not in the vocabulary$' -- "$m"
echo '{"eos_token": 5' >"$m/tokenizer_config.json"
expect "tokenizer_config.json is no JSON" 1 '^error +tokenizer_config.json: .*not valid JSON' '^warn +chat template: not looked for' -- "$m"
echo '{{ messages[0].content }}' >"$m/chat_template.jinja"
expect "... but the template has its own file" 1 '^error +tokenizer_config.json: ' '^ok +chat template: default renders' -- "$m"
fresh
edit tokenizer.json 's/"special":true}\]/"special":true},{"id":267,"content":"<new>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]/'
edit tokenizer_config.json 's/"bos_token": "<s>"/"bos_token": "<new>"/'
expect "tokens beyond the vocabulary" 1 '^warn +tokenizer: 1 tokens are beyond the model.s vocabulary of 267: 267 <new>$' \
    '^error +tokenizer_config.json: "bos_token" <new> has id 267, the model has 267$' -- "$m"

# --- templates
fresh
edit tokenizer_config.json 's/{% endfor %}//'
expect "a template with a mistake" 1 '^error +chat template: .*tokenizer_config.json.*line 1' '^ok +tokenizer: ' -- "$m"
fresh
edit tokenizer_config.json "s/{{ bos_token }}/{{ raise_exception('not today') }}/"
expect "a template that refuses" 1 "^error +chat template: default does not render a user's message: .*not today" -- "$m"
fresh
echo '{}' >"$m/tokenizer_config.json"
expect "no template" 0 '^warn +chat template: none in the folder' '^ok +chat template: default \(built in\) renders' -- "$m"

# --- generation
fresh
expect "an id of config.json that does not count" 0 '^warn +config.json: "eos_token_id": the model.s ids are 0 to 266, not 9999$' -- "$m"
rm "$m/generation_config.json"
expect "an id of config.json that counts" 1 '^error +config.json: "eos_token_id": .* not 9999$' -- "$m"
echo '{"eos_token_id": [262, 5000, -1]}' >"$m/generation_config.json"
expect "ids out of range" 1 '^error +generation_config.json: "eos_token_id": the model.s ids are 0 to 266, not 5000, -1$' -- "$m"
echo '{"eos_token_id": "262", "top_p": "x", "top_k": 1.5, "temperature": -1, "do_sample": 3}' >"$m/generation_config.json"
expect "wrong types" 1 '^error +generation_config.json: "eos_token_id" is not a token id' \
    '^warn +generation_config.json: "top_p" is not a number$' '^warn +generation_config.json: "top_k" is not a whole number$' \
    '^warn +generation_config.json: "temperature" is -1, wanted 0 to 100$' '^warn +.*"do_sample" is not true or false$' -- "$m"
echo 'x' >"$m/generation_config.json"
expect "generation_config.json is no JSON" 1 '^error +generation_config.json: .*not valid JSON' -- "$m"

# --- all at once
fresh "$shards"
cp "$tiny"/tokenizer.json "$m"
rm "$m/model-00001-of-00003.safetensors"
head -c 300 "$shards/model-00002-of-00003.safetensors" >"$m/model-00002-of-00003.safetensors"
edit config.json 's/"num_hidden_layers": 3/"num_hidden_layers": "three"/'
echo '{{ x' >"$m/chat_template.jinja"
echo '{"eos_token_id": {}}' >"$m/generation_config.json"
echo '[]' >"$m/tokenizer_config.json"
: >"$m/config.json.tmp.12345678"
expect "everything at once" 1 '^error +model-00001-of' '^error +model-00002-of' '^ok +model-00003-of' \
    '^error +config.json: .*num_hidden_layers' '^warn +tensors: not compared' '^error +tokenizer_config.json: not a JSON object' \
    '^error +chat template: ' '^error +generation_config.json: "eos_token_id"' '^warn +config.json.tmp' '^6 errors, ' -- "$m"
expect "everything at once as JSON" 1 '^\{"errors": 6, ' -- "$m" --json
if command -v python3 >/dev/null; then
    if python3 -c 'import json, sys; assert len(json.load(sys.stdin)["findings"]) > 8' <"$tmp/out"; then
        passed=$((passed + 1))
    else
        bad "everything at once is JSON"
    fi
fi

# --- hostile names
fresh
: >"$m/$(printf 'a\033[2Jb').incomplete"
: >"$m/$(printf 'a\377b').incomplete"
expect "names are harmless" 0 "!$(printf '\033')" '^warn +a\?\[2Jb.incomplete: left' '^warn +a\?b.incomplete' -- "$m"
expect "names are harmless as JSON" 0 '"part": "a\?b.incomplete"' -- "$m" --json
fresh
for i in $(seq 1 600); do : >"$m/$i.part"; done
expect "findings are bounded" 0 '^\.\.\. and [0-9]+ more findings$' '^0 errors, 601 warnings$' -- "$m"

# --- bytes turned at random: an answer each time, exit code 0 or 1
if command -v python3 >/dev/null; then
    n=0
    while [ "$n" -lt 60 ]; do
        n=$((n + 1))
        if [ $((n % 2)) -eq 0 ]; then fresh; else fresh "$shards"; fi
        python3 - "$m" "$n" <<'PY'
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
r = random.Random(seed)
for name in r.sample(sorted(os.listdir(folder)), 2):
    path = os.path.join(folder, name)
    data = bytearray(open(path, "rb").read())
    for _ in range(r.choice([1, 3, 20])):
        if not data:
            break
        i = r.randrange(min(len(data), 4000))
        what = r.randrange(3)
        if what == 0:
            data[i] = r.randrange(256)
        elif what == 1:
            data[i:i] = bytes(r.choice(b'0123456789"[]{},-e') for _ in range(r.randrange(1, 6)))
        else:
            del data[i : i + r.randrange(1, 40)]
    open(path, "wb").write(data)
PY
        timeout 60 "$bin/mlxctl" doctor "$m" >"$tmp/out" 2>"$tmp/err" </dev/null
        code=$?
        if [ "$code" -gt 1 ] || [ -s "$tmp/err" ] || ! grep -qE '^[0-9]+ errors?, [0-9]+ warnings?$' "$tmp/out"; then
            bad "bytes turned, seed $n: exit code $code"
        else
            passed=$((passed + 1))
        fi
    done
else
    echo "SKIP: no python3: bytes turned at random"
fi

# --- usage
"$bin/mlxctl" doctor "$tmp/nothing" >"$tmp/out" 2>"$tmp/err"
code=$?
if [ "$code" -eq 1 ] && grep -q '^mlxctl doctor: ' "$tmp/err"; then passed=$((passed + 1)); else bad "a folder that is not there"; fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
