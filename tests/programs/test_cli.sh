#!/usr/bin/env bash
# The programs as a user meets them: answers, help, wrong usage, exit codes, signals, a reader that leaves, a full disk.
# usage: test_cli.sh BIN_DIR SOURCE_DIR
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

# expect NAME CODE STDOUT-REGEX STDERR-REGEX COMMAND...: "" asks for an empty stream, "*" for any.
expect() {
    local name=$1 code=$2 out=$3 err=$4 got
    shift 4
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
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

cd "$tmp" || exit 1
export MLXR_HOME=$tmp/home

# --- mlx-demo
expect "mock answers" 0 '^You said: hello there$' '' "$bin/mlx-demo" --runner mock --prompt "hello there"
expect "mock ends in [done]" 0 '^\[done\] 4 tokens in .*stop.*mock$' '' "$bin/mlx-demo" --runner mock --prompt "hello there"
expect "max tokens" 0 '^\[done\] 3 tokens .*\(length\)' '' "$bin/mlx-demo" --runner mock --max-tokens 3 --prompt "a b c"
expect "equals sign" 0 '^You said: x$' '' "$bin/mlx-demo" --runner=mock --prompt=x
expect "stop" 0 '^You said: a $' '' "$bin/mlx-demo" --runner mock --stop b --prompt "a b c"
expect "demo help" 0 '--max-tokens N' '' "$bin/mlx-demo" --help
expect "demo version" 0 '^mlx-demo [0-9]' '' "$bin/mlx-demo" --version
expect "no prompt" 2 '' 'usage: mlx-demo' "$bin/mlx-demo" --runner mock
expect "unknown option" 2 '' 'unknown option --frob' "$bin/mlx-demo" --frob
expect "option without value" 2 '' 'needs a value' "$bin/mlx-demo" --prompt
expect "wrong choice" 2 '' '"turbo" is not one of mock\|local' "$bin/mlx-demo" --runner turbo --prompt x
expect "not a number" 2 '' 'not a whole number' "$bin/mlx-demo" --runner mock --prompt x --max-tokens many
expect "out of range" 2 '' 'not a number from 0 to 1' "$bin/mlx-demo" --runner mock --prompt x --top-p 1.5
expect "stray argument" 2 '' 'unexpected argument' "$bin/mlx-demo" --runner mock --prompt x stray
expect "no model, no file" 1 '' 'no model was named' "$bin/mlx-demo" --prompt x
expect "no such model" 1 '' 'no such folder' "$bin/mlx-demo" --model ghost --prompt x
mkdir -p config
printf '{"tiny": "%s", "gone": "nowhere"}' "$tiny" >config/model-paths.local.json
expect "first id of the file" 0 '^\[done\] 4 tokens' '' "$bin/mlx-demo" --prompt Hello --max-tokens 4
expect "id of the file" 0 '^\[done\] 4 tokens.*ref' '' "$bin/mlx-demo" --model tiny --device ref --prompt Hello --max-tokens 4
expect "path that is gone" 1 '' '"gone".*config/nowhere' "$bin/mlx-demo" --model gone --prompt x
expect "id that is not there" 1 '' '"ghost".*config/model-paths.local.json' "$bin/mlx-demo" --model ghost --prompt x
expect "another file" 1 '' 'other.json' "$bin/mlx-demo" --model-paths-json other.json --model x --prompt x
printf '{"t": ' >broken.json
expect "a broken file" 1 '' 'broken.json.*line 1' "$bin/mlx-demo" --model-paths-json broken.json --model t --prompt x
expect "an unknown device" 1 '' 'quantum' "$bin/mlx-demo" --device quantum --prompt x
expect "an unknown ISA" 1 '' 'mmx' env MLXR_CPU=mmx "$bin/mlx-demo" --prompt x
expect "the baseline ISA" 0 'baseline' '' env MLXR_CPU=baseline "$bin/mlx-demo" --prompt x --max-tokens 2
expect "prompt too long" 1 '' '[0-9]+ tokens.*512' "$bin/mlx-demo" --prompt "$(printf 'x%.0s' $(seq 600))"

printf 'piped prompt\n' | "$bin/mlx-demo" --runner mock --prompt - >"$tmp/out" 2>"$tmp/err"
if grep -q '^You said: piped prompt$' "$tmp/out"; then ok; else bad "prompt from standard input"; fi

# Ctrl-C and SIGTERM: clean, told, within a token; the answer so far stays. (A background job ignores SIGINT: setsid's
# child would inherit that, so the signal's disposition is reset by env --default-signal.)
for signal in INT:130 TERM:143; do
    : >"$tmp/out"
    env --default-signal=INT "$bin/mlx-demo" --runner mock --mock-token-ms 30 --prompt "$(seq -s ' ' 1 2000)" \
        >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    for _ in $(seq 100); do
        [ -s "$tmp/out" ] && break
        sleep 0.05
    done
    kill -s "${signal%:*}" "$pid"
    wait "$pid"
    code=$?
    if [ "$code" -eq "${signal#*:}" ] && grep -q '^\[cancelled\] [0-9]* tokens' "$tmp/out" && grep -q '^You' "$tmp/out"; then
        ok
    else
        bad "SIG${signal%:*}: exit code $code"
    fi
done
: >"$tmp/out"
env --default-signal=INT "$bin/mlx-demo" --model tiny --device ref --ignore-eos --max-tokens -1 --prompt Hello >"$tmp/out" 2>"$tmp/err" &
pid=$!
for _ in $(seq 100); do
    [ -s "$tmp/out" ] && break
    sleep 0.02
done
kill -s INT "$pid" 2>/dev/null
wait "$pid"
code=$?
# A tiny model may have come to its end before the signal: then it says so and that is right as well.
if { [ "$code" -eq 130 ] && grep -q '^\[cancelled\]' "$tmp/out"; } || { [ "$code" -eq 0 ] && grep -q '^\[done\]' "$tmp/out"; }; then
    ok
else
    bad "SIGINT in a real model: exit code $code"
fi

# A reader that leaves, a disk that is full: an error line and exit code 1, no signal, no hang.
"$bin/mlx-demo" --runner mock --mock-token-ms 20 --prompt "$(seq -s ' ' 1 500)" 2>"$tmp/err" | head -c 5 >"$tmp/out"
code=${PIPESTATUS[0]}
if [ "$code" -eq 1 ] && grep -q 'cannot write the answer: Broken pipe' "$tmp/err"; then ok; else bad "reader left: exit code $code"; fi
if [ -w /dev/full ]; then
    "$bin/mlx-demo" --runner mock --prompt x >/dev/full 2>"$tmp/err"
    code=$?
    : >"$tmp/out"
    if [ "$code" -eq 1 ] && grep -q 'cannot write the answer: No space left' "$tmp/err"; then ok; else bad "full disk: exit code $code"; fi
fi

# --- mlxctl
expect "mlxctl alone" 2 '' 'tokenize' "$bin/mlxctl"
expect "mlxctl help" 0 'tokenize' '' "$bin/mlxctl" --help
expect "mlxctl version" 0 '^mlxctl [0-9]' '' "$bin/mlxctl" --version
expect "unknown command" 2 '' 'no command "frobnicate"' "$bin/mlxctl" frobnicate
for command in run chat show doctor tokenize render logits embed perplexity import-gguf; do
    expect "$command --help" 0 "usage: mlxctl $command" '' "$bin/mlxctl" "$command" --help
    expect "$command --frob" 2 '' "usage: mlxctl $command" "$bin/mlxctl" "$command" --frob
    [ "$command" = run ] || [ "$command" = doctor ] || expect "$command of nothing" 2 '' "usage: mlxctl $command" "$bin/mlxctl" "$command"
done
expect "run" 0 '^You said: hi$' '' "$bin/mlxctl" run any hi --runner mock
expect "run prints the answer alone" 0 '*' '' "$bin/mlxctl" run tiny Hello --max-tokens 4
if grep -q 'done' "$tmp/out"; then bad "run prints the answer alone"; else ok; fi
expect "run verbose" 0 '*' '^\[done\] 4 tokens' "$bin/mlxctl" run tiny Hello --max-tokens 4 --verbose
expect "run without a model" 2 '' 'MODEL is missing' "$bin/mlxctl" run
expect "show" 0 'llama' '' "$bin/mlxctl" show "$tiny"
expect "show by id" 0 'llama' '' "$bin/mlxctl" show tiny
expect "show --program" 0 'ATTEND' '' "$bin/mlxctl" show tiny --program
expect "show --json" 0 '"family": ?"llama"' '' "$bin/mlxctl" show --json tiny
expect "show of nothing" 1 '' 'ghost' "$bin/mlxctl" show ghost
for command in chat show tokenize render logits embed; do
    expect "$command of a folder without a model" 1 '' '^mlxctl '"$command"': .*' "$bin/mlxctl" "$command" "$tmp/config"
done
expect "import of nothing" 1 '' 'nothing.gguf' "$bin/mlxctl" import-gguf nothing.gguf "$tmp/new"
expect "import of no GGUF" 1 '' 'broken.json' "$bin/mlxctl" import-gguf broken.json "$tmp/new"

# jsonl NAME WANT INPUT COMMAND...: the answers to a few lines, whole
jsonl() {
    local name=$1 want=$2 input=$3
    shift 3
    printf '%s\n' "$input" | "$@" >"$tmp/out" 2>"$tmp/err"
    if [ "$(sed "s/\([:,]\) /\1/g" "$tmp/out")" = "$want" ]; then ok; else bad "$name: wanted $want"; fi
}
the=$(printf '{"text": "the the", "add_special_tokens": false}')
jsonl "tokenize" '{"ids":[257,258]}' "$the" "$bin/mlxctl" tokenize tiny
jsonl "detokenize" '{"text":"the the"}' '{"ids": [257, 258], "skip_special_tokens": true}' "$bin/mlxctl" tokenize tiny
printf '%s\n' '{"ids": "x"}' 'not json' '{}' "$the" | "$bin/mlxctl" tokenize tiny >"$tmp/out" 2>"$tmp/err"
if [ "$(grep -c '"error"' "$tmp/out")" -eq 3 ] && [ "$(tail -n 1 "$tmp/out")" = '{"ids": [257, 258]}' ]; then ok; else bad "tokenize goes on after errors"; fi
jsonl "render" '{"prompt":"<s><|user|>hi<|end|><|assistant|>"}' \
    '{"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}' "$bin/mlxctl" render tiny
printf '{{ x' >bad.jinja
echo '{}' | "$bin/mlxctl" render bad.jinja >"$tmp/out" 2>"$tmp/err"
if grep -qE '^\{"error": ?".*bad.jinja.*line 1' "$tmp/out"; then ok; else bad "render of a broken template"; fi
expect "render of nothing there" 1 '' 'gone.jinja' "$bin/mlxctl" render gone.jinja
printf '%s\n' '{"ids": [1, 2, 3], "last": 1}' '{"ids": [100000]}' '{"ids": []}' '{"ids": [5]}' |
    "$bin/mlxctl" logits tiny --device ref >"$tmp/out" 2>"$tmp/err"
if [ "$(grep -c '"error"' "$tmp/out")" -eq 2 ] && [ "$(grep -c '"logits"' "$tmp/out")" -eq 2 ]; then ok; else bad "logits goes on after errors"; fi
printf '%s\n' '{"ids": [1, 2, 3]}' | "$bin/mlxctl" logits --greedy 5 tiny >"$tmp/out" 2>"$tmp/err"
if grep -qE '^\{"ids": ?\[[0-9]+(, ?[0-9]+){4}\]\}$' "$tmp/out"; then ok; else bad "logits --greedy"; fi

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
