#!/usr/bin/env bash
# mlxctl bench: its JSON, its table, what it refuses, Ctrl-C.
# usage: test_bench.sh BIN_DIR SOURCE_DIR
set -u
bin=$1
src=$2
tiny=$src/tests/runner/fixtures/tiny_chat
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
    sed 's/^/    /' "$tmp/out" "$tmp/err" 2>/dev/null | head -20
}

# expect NAME CODE STDOUT-REGEX STDERR-REGEX ARGUMENT...: "" asks for an empty stream, "*" for any.
expect() {
    local name=$1 code=$2 out=$3 err=$4 got
    shift 4
    "$bin/mlxctl" bench "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" -ne "$code" ]; then
        bad "$name: exit code $got, wanted $code"
    elif ! matches "$tmp/out" "$out"; then
        bad "$name: standard output is not $out"
    elif ! matches "$tmp/err" "$err"; then
        bad "$name: standard error is not $err"
    else
        ok
    fi
}
matches() {
    case $2 in
    '*') return 0 ;;
    '') [ ! -s "$1" ] ;;
    *) grep -qE -- "$2" "$1" ;;
    esac
}

# number KEY: its value in the JSON of the last run; empty when it is not there or not a number.
number() { sed -n "s/.*\"$1\":\(-\{0,1\}[0-9][0-9.e+]*\)[,}].*/\1/p" "$tmp/out"; }

# above KEY LEAST: the number is there and larger.
above() {
    local value
    value=$(number "$1")
    if [ -n "$value" ] && awk -v a="$value" -v b="$2" 'BEGIN { exit !(a > b) }'; then ok; else bad "$1 is \"$value\", wanted above $2"; fi
}
equal() {
    if [ "$(number "$1")" = "$2" ]; then ok; else bad "$1 is \"$(number "$1")\", wanted $2"; fi
}

cd "$tmp" || exit 1
export MLXR_HOME=$tmp/home

expect "json" 0 '^\{.*\}$' '' "$tiny" -p 40 -n 6 -t 2 -b 3 -d 10 -r 2 --json
if [ "$(wc -l <"$tmp/out")" -eq 1 ]; then ok; else bad "one line of JSON"; fi
if command -v python3 >/dev/null; then
    if python3 -m json.tool <"$tmp/out" >/dev/null 2>"$tmp/err"; then ok; else bad "is no JSON"; fi
fi
for key in prefill_tokens_per_second decode_tokens_per_second bytes_per_token bandwidth_gb_s load_ms first_token_ms; do
    above "$key" 0
done
above peak_bandwidth_gb_s 0.01
above peak_memory_bytes 1000000
above file_bytes 1000
equal threads 2
equal batch 3
equal context 10
MLXR_CPU=baseline expect "isa and device" 0 '"isa":"baseline","device":"cpu"' '' "$tiny" -p 8 -n 2 -r 1 --json

# More sequences in a batch share the weights, so that a token reads less.
expect "alone" 0 '*' '' "$tiny" -p 0 -n 2 -r 1 --json
alone=$(number bytes_per_token)
expect "a batch" 0 '*' '' "$tiny" -p 0 -n 2 -b 8 -r 1 --json
if awk -v a="$alone" -v b="$(number bytes_per_token)" 'BEGIN { exit !(b > 0 && b < a / 2) }'; then ok; else bad "bytes a token of a batch"; fi

expect "table" 0 '^decode .* tokens/s, 4 tokens at 0, batch of 1' '' "$tiny" -p 8 -n 4 -r 2
expect "prefill alone" 0 '^prefill .* 8 tokens' '' "$tiny" -p 8 -n 0 -r 1
if grep -q '^decode' "$tmp/out"; then bad "-n 0 decodes"; else ok; fi
expect "profile" 0 'LINEAR .*,' '' "$tiny" -p 8 -n 2 -r 1 --profile
for row in ATTEND "(between steps)" "  all "; do
    if [ "$(grep -cF -- "$row" "$tmp/out")" -ge 2 ]; then ok; else bad "profile: no \"$row\""; fi
done
expect "profile as JSON" 0 '"profile":\{"prefill":\[\{"step":"[^"]+","calls":[0-9]+,"ms":[0-9.]+' '' "$tiny" -p 8 -n 2 -r 1 --profile --json
expect "no profile" 0 '*' '' "$tiny" -p 8 -n 2 -r 1 --json
if grep -q profile "$tmp/out"; then bad "a profile nobody asked for"; else ok; fi
expect "ref" 0 '"device":"ref"' '' "$tiny" -p 8 -n 2 -r 1 --json --device ref
expect "exact" 0 '"precision":"exact"' '' "$tiny" -p 8 -n 2 -r 1 --json --precision exact

expect "help" 0 'usage: mlxctl bench MODEL' '' --help
expect "no model" 2 '' 'MODEL is needed'
expect "no such model" 1 '' 'ghost' ghost
expect "unknown option" 2 '' 'unknown option --frob' "$tiny" --frob
expect "not a number" 2 '' '-p: "many" is not a whole number' "$tiny" -p many
expect "no batch" 2 '' '-b: "0" is not a whole number from 1' "$tiny" -b 0
expect "no repeats" 2 '' '-r: "0"' "$tiny" -r 0
expect "nothing to do" 2 '' 'leave nothing to measure' "$tiny" -p 0 -n 0
expect "wrong precision" 2 '' 'exact\|fast' "$tiny" --precision some
expect "an unknown device" 1 '' 'quantum' "$tiny" --device quantum
expect "a long prompt" 1 '' 'a prompt of 100000 tokens .* does not fit the model.s context of [0-9]+' "$tiny" -p 100000
expect "a long context" 1 '' '4 tokens \(-n\) after 99999 \(-d\) do not fit the model.s context of [0-9]+' "$tiny" -n 4 -d 99999

# Ctrl-C ends it within a step, with the shell's exit code for it. (A background job ignores SIGINT.)
env --default-signal=INT "$bin/mlxctl" bench "$tiny" -p 400 -n 100 -r 1000 >"$tmp/out" 2>"$tmp/err" &
pid=$!
sleep 1
kill -s INT "$pid"
wait "$pid"
code=$?
if [ "$code" -eq 130 ] && grep -q 'cancelled' "$tmp/err" && [ ! -s "$tmp/out" ]; then ok; else bad "SIGINT: exit code $code"; fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
