#!/usr/bin/env bash
# mlxctl create, spec validate and spec pack as people type them, with the examples that the docs show.
# usage: test_create.sh BIN_DIR SOURCE_DIR
set -u
mlxctl=$1/mlxctl
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MLXR_HOME=$work/store
failed=0
cd "$work" || exit 1

# check NAME EXIT_CODE TEXT -- COMMAND...: the exit code, and TEXT (a pattern of grep -E) in what it prints.
check() {
    local name=$1 code=$2 text=$3 out rc
    shift 4
    out=$("$@" 2>&1 </dev/null)
    rc=$?
    if [ $rc -ne "$code" ] || ! grep -qE -- "$text" <<<"$out"; then
        printf 'FAILED %s: exit code %d, wanted %d and "%s"; it printed:\n%s\n' "$name" $rc "$code" "$text" "$out"
        failed=1
    fi
}
expect() { # NAME, then a command that is to be true
    local name=$1
    shift
    "$@" || { printf 'FAILED %s\n' "$name"; failed=1; }
}

check import 0 'imported smollm2:latest' -- "$mlxctl" store import "$source/tests/runner/fixtures/tiny_chat" smollm2

# The examples.
check 'examples are right' 0 'recipe.yaml: ok' -- "$mlxctl" spec validate "$source/examples/recipe.yaml" "$source/examples/Modelfile"
check 'recipe.yaml' 0 'created team/assistant:1.0: sha256:' -- "$mlxctl" create -f "$source/examples/recipe.yaml"
check 'Modelfile' 0 'created assistant:latest: sha256:' -- "$mlxctl" create assistant -f "$source/examples/Modelfile"
check 'its quantization' 0 '8-bit, groups of 64' -- "$mlxctl" store show team/assistant:1.0
check 'what it shares' 0 'model.safetensors' -- "$mlxctl" store show assistant

# What a model says of itself is in force, and shown.
printf 'FROM smollm2\nPARAMETER num_predict 3\nPARAMETER temperature 0\nSYSTEM Own words.\nMESSAGE user ex\n' >Modelfile
check './Modelfile' 0 '"name": "short:latest"' -- "$mlxctl" create short --quiet --json
check 'num_predict' 0 '"generated_tokens": 3' -- "$mlxctl" run short hi --json
check 'an option is above it' 0 '"generated_tokens": 5' -- "$mlxctl" run short hi --json --max-tokens 5
check 'so is -1' 0 '"generated_tokens": ([4-9]|[1-9][0-9])' -- "$mlxctl" run short hi --json --max-tokens -1
out=$(printf '/show system\n/show parameters\n/show messages\n/set system\n/show system\n/set system Mine.\n/show system\nhi\n' |
    "$mlxctl" chat short 2>&1)
expect 'chat: system' grep -qx 'Own words.' <<<"$out"
expect 'chat: parameters' grep -qE '^num_predict +3 .*\[the model.s own\]' <<<"$out"
expect 'chat: messages' grep -qF 'user: ex [the model' <<<"$out"
expect 'chat: a system text of its own' grep -qx 'Mine.' <<<"$out"

# Made again it is the same; another one in its place is not.
first=$("$mlxctl" create short --json 2>/dev/null | tail -n 1)
second=$("$mlxctl" create short --json 2>/dev/null | tail -n 1)
expect 'the same digest' [ "$first" = "$second" ]
expect 'a result' grep -q '"event": *"result"' <<<"$first"

# Faults: every one of them, each with its place.
printf 'base: smollm2\nsystme: x\ndefaults: {top_p: 2}\n' >bad.yaml
printf 'FROM smollm2\nTEMPLATE {{ .Prompt }}\n' >go
check 'validate: first' 1 '^bad.yaml:2:1: there is no key "systme"' -- "$mlxctl" spec validate bad.yaml
check 'validate: second' 1 '^bad.yaml:3:19: the parameter top_p' -- "$mlxctl" spec validate bad.yaml
check 'validate: Go' 1 '^go:2:10: a template in Go' -- "$mlxctl" spec validate go
check 'validate: some are right' 1 '^Modelfile: ok' -- "$mlxctl" spec validate bad.yaml Modelfile
check 'validate: json' 1 '"faults": \["bad.yaml:2:1' -- "$mlxctl" spec validate --json bad.yaml
printf 'base: ./none\ntokenizer: none\ntemplate: "{%% if %%}"\n' >paths.yaml
check 'validate: paths' 1 'base: there is no \./\./none' -- "$mlxctl" spec validate paths.yaml
check 'validate: template' 1 'paths.yaml: template' -- "$mlxctl" spec validate paths.yaml
check 'validate: no file' 1 'none.yaml' -- "$mlxctl" spec validate none.yaml
check 'validate: nothing' 2 'FILE is needed' -- "$mlxctl" spec validate
check 'create: a fault' 1 '^mlxctl create: bad.yaml:2:1' -- "$mlxctl" create x -f bad.yaml
check 'create: no name' 2 'NAME is missing' -- "$mlxctl" create
printf 'FROM nowhere\n' >nowhere
check 'create: no base' 1 'recipe: the base: .*nowhere' -- "$mlxctl" create x --offline -f nowhere
check 'create: json' 1 '"event": *"error"' -- "$mlxctl" create x --offline --json -f nowhere
check 'nothing of it is there' 1 'x' -- "$mlxctl" store show x

# A packed model is the created one, and leaves nothing beside it.
check 'pack' 0 'packed team/assistant:1.0 into' -- "$mlxctl" spec pack "$source/examples/recipe.yaml" "$work/out/packed"
expect 'an OCI layout' [ -f out/packed/oci-layout ]
expect 'nothing beside it' [ "$(ls -A out)" = packed ]
check 'import of it' 0 'imported again:latest' -- "$mlxctl" store import out/packed again
a=$("$mlxctl" store show team/assistant:1.0 --json | grep -o 'sha256:[0-9a-f]*' | sort | uniq | tr '\n' ' ')
b=$("$mlxctl" store show again --json | grep -o 'sha256:[0-9a-f]*' | sort | uniq | tr '\n' ' ')
expect 'the same files' [ "$a" = "$b" ]
check 'pack: a name of its own' 0 'packed nameless into' -- "$mlxctl" spec pack Modelfile out/nameless
rm -r out/nameless
check 'pack: not empty' 1 'packed' -- "$mlxctl" spec pack "$source/examples/recipe.yaml" "$work/out/packed"
expect 'still nothing beside it' [ "$(ls -A out)" = packed ]
check 'pack: a fault' 1 'bad.yaml:2:1' -- "$mlxctl" spec pack bad.yaml out/bad
expect 'no folder of it' [ ! -e out/bad ]

[ $failed -eq 0 ] && echo "all as wanted"
exit $failed
