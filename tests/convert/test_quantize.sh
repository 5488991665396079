#!/usr/bin/env bash
# mlxctl quantize: what it says and refuses, and that what it writes answers nearly as the original does.
# usage: test_quantize.sh BIN_DIR SOURCE_DIR SHARED_CASES_DIR
set -u
bin=$1
src=$2
shared=$3
models=$src/tests/model/models
tiny=$src/tests/runner/fixtures/tiny_chat
adapters=$src/tests/convert/fixtures/adapters
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
    head -5 "$tmp/out" "$tmp/err" | cut -c1-400 | sed 's/^/    /'
}
good() { passed=$((passed + 1)); }
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@"; then good; else bad "$name"; fi
}

# expect NAME CODE STDOUT-REGEX STDERR-REGEX -- ARGUMENT...; a regex "-" is for nothing at all.
expect() {
    local name=$1 code=$2 out=$3 err=$4 got
    shift 5
    "$bin/mlxctl" quantize "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" -ne "$code" ]; then
        bad "$name: exit code $got, wanted $code"
    elif [ "$out" = - ] && [ -s "$tmp/out" ]; then
        bad "$name: there is output"
    elif [ "$out" != - ] && ! grep -qE -- "$out" "$tmp/out"; then
        bad "$name: standard output is not $out"
    elif [ "$err" = - ] && [ -s "$tmp/err" ]; then
        bad "$name: there is standard error"
    elif [ "$err" != - ] && ! grep -qE -- "$err" "$tmp/err"; then
        bad "$name: standard error is not $err"
    else
        good
    fi
}

# The root mean square of the difference of two models' logits, as a share of the deviation of the first's, in thousandths.
distance() { # MODEL MODEL
    local m ids='{"ids":[1,7,3,19,4,23,8,2,11,30,5,9],"last":0}'
    for m in "$1" "$2"; do
        "$bin/mlxctl" logits "$m" --device ref <<<"$ids" | tr -c '0-9eE.+\n-' '\n' | grep -E '[0-9]' >"$tmp/$([ "$m" = "$1" ] && echo a || echo b)"
    done
    paste "$tmp/a" "$tmp/b" | awk '{ n++; s += $1; q += $1 * $1; d += ($1 - $2) * ($1 - $2) }
        END { print n < 100 ? 999999 : int(1000 * sqrt(d / (q - s * s / n))) }'
}
close_to() { # NAME MODEL MODEL THOUSANDTHS
    local d
    d=$(distance "$2" "$3")
    if [ "$d" -le "$4" ]; then good; else bad "$1: logits differ by $d thousandths of their deviation, at most $4 were wanted"; fi
}

expect "help" 0 'MODEL DIR .*--bits' - -- --help
expect "no folder" 2 - 'MODEL and DIR are needed' -- "$tiny"
expect "bits" 2 - 'affine has no 7 bits' -- "$tiny" "$tmp/x" --bits 7
expect "group" 2 - 'affine has no 4 bits in groups of 16' -- "$tiny" "$tmp/x" --group-size 16
expect "bits of a float mode" 2 - 'mxfp4 has no 8 bits' -- "$tiny" "$tmp/x" --mode mxfp4 --bits 8
expect "mode" 2 - 'mode' -- "$tiny" "$tmp/x" --mode q4_k
expect "both" 2 - 'goes without' -- "$tiny" "$tmp/x" --dequantize --bits 4
expect "no model" 1 - 'nowhere' -- "$tmp/nowhere" "$tmp/x"
expect "no adapter" 1 - 'no such folder' -- "$tiny" "$tmp/x" --adapter "$tmp/nowhere"
expect "an adapter of another model" 1 - 'do not fit the model' -- "$tiny" "$tmp/x" --adapter "$adapters/lora_experts"
[ -e "$tmp/x" ] && bad "a refused model left something behind"

# A model in float32 first, so that nothing but the quantization tells two apart; then the distances that tiny random models have been
# seen to have, and half as much again.
for m in q4_g32 qwen3_q4 gpt_oss_q4 mixtral_q4 gemma4_moe_q4; do
    expect "$m dequantized" 0 "^$tmp/$m  32.00 bits a weight, [0-9]+ bytes" - -- "$models/$m" "$tmp/$m" --dequantize --dtype f32
    close_to "$m dequantized" "$models/$m" "$tmp/$m" 1
    expect "$m in 8 bits" 0 "^$tmp/$m-8  1[0-9.]+ bits a weight" - -- "$tmp/$m" "$tmp/$m-8" --bits 8 --group-size 32
    close_to "$m in 8 bits" "$tmp/$m" "$tmp/$m-8" 50
    expect "$m in 4 bits" 0 "^$tmp/$m-4  [67][0-9.]+ bits a weight" - -- "$tmp/$m" "$tmp/$m-4" --group-size=32
    close_to "$m in 4 bits" "$tmp/$m" "$tmp/$m-4" 450
    expect "$m in mxfp8" 0 "^$tmp/$m-f  [89][0-9.]+ bits a weight" - -- "$tmp/$m" "$tmp/$m-f" --mode mxfp8
    close_to "$m in mxfp8" "$tmp/$m" "$tmp/$m-f" 300
done
# The distance itself can tell models apart.
check "4 bits are as close as 8" [ "$(distance "$tmp/q4_g32" "$tmp/q4_g32-4")" -ge 51 ]

expect "quantized anew" 0 "^$tmp/again" 'warning: the model is quantized already: 15 of its matrices' -- "$tiny" "$tmp/again" --bits 8 --group-size 32
expect "as it is" 0 "^$tmp/same" - -- "$tiny" "$tmp/same" --bits 4 --group-size 32
for f in tokenizer.json tokenizer_config.json generation_config.json; do
    check "$f is not copied" cmp -s "$tiny/$f" "$tmp/again/$f"
done
"$bin/mlxctl" run "$tmp/again" "hello" --temperature 0 --max-tokens 4 >"$tmp/out" 2>"$tmp/err"
check "the new model does not answer" [ -s "$tmp/out" ]
expect "JSON" 0 '^\{"model": ?"[^"]*/json".*"bits_per_weight": ?[0-9.]+' - -- "$tmp/q4_g32" "$tmp/json" --bits 3 --group-size 64 --json
expect "a folder that is full" 1 - 'not empty' -- "$tiny" "$tmp/json"

# Merging alone leaves the storage as it is.
expect "an adapter" 0 "^$tmp/merged  " - -- "$tiny" "$tmp/merged" --adapter "$adapters/lora_quantized"
bits() { "$bin/mlxctl" show "$1" --json | grep -o '"weight_bytes": *[0-9]*' | head -1; }
check "merging changed the storage" [ "$(bits "$tmp/merged")" = "$(bits "$tiny")" ]
check "merging changed nothing" [ "$(distance "$tiny" "$tmp/merged")" -ge 10 ]
expect "an adapter, dequantized" 0 "^$tmp/merged2  16.00 bits" - -- "$tiny" "$tmp/merged2" --adapter "$adapters/lora_quantized" --dequantize
expect "a type alone" 0 "^$tmp/bf16  16.00 bits" - -- "$tmp/q4_g32" "$tmp/bf16" --dtype bf16

if [ -d "$shared/models" ]; then
    for archive in "$shared"/models/*.tar.xz; do
        m=$(basename "$archive" .tar.xz)
        tar -xJf "$archive" -C "$tmp" || { bad "$archive"; continue; }
        expect "$m dequantized" 0 "^$tmp/$m/plain" - -- "$tmp/$m/model" "$tmp/$m/plain" --dequantize --dtype f32
        close_to "$m dequantized" "$tmp/$m/model" "$tmp/$m/plain" 1
        expect "$m in 8 bits" 0 "^$tmp/$m/q8" - -- "$tmp/$m/plain" "$tmp/$m/q8" --bits 8 --group-size 32
        close_to "$m in 8 bits" "$tmp/$m/plain" "$tmp/$m/q8" 50
    done
else
    echo "SKIP: there is no $shared/models"
fi

echo "$passed passed, $failed failed"
exit $((failed > 0))
