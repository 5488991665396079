#!/usr/bin/env bash
# mlxctl grammar: answers line by line, what is refused, samples, exit codes.
# usage: test_grammar.sh BIN_DIR
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
    head -40 "$tmp/in" "$tmp/out" "$tmp/err" 2>/dev/null | sed 's/^/    /'
}
# answers NAME CODE WANTED ARGUMENTS...: with $tmp/in as standard input the answer is exactly WANTED.
answers() {
    local name=$1 code=$2 wanted=$3 got
    shift 3
    "$bin/mlxctl" grammar "$@" >"$tmp/out" 2>"$tmp/err" <"$tmp/in"
    got=$?
    if [ "$got" -ne "$code" ]; then
        bad "$name: exit code $got, wanted $code"
    elif ! printf '%s\n' "$wanted" | diff - "$tmp/out" >"$tmp/diff"; then
        bad "$name: $(cat "$tmp/diff")"
    else
        passed=$((passed + 1))
    fi
}
# is FILE REGEX: "" asks for an empty file.
is() {
    if [ -z "$2" ]; then [ ! -s "$1" ]; else grep -qE -- "$2" "$1"; fi
}
# fails NAME CODE STDOUT-REGEX STDERR-REGEX ARGUMENTS...
fails() {
    local name=$1 code=$2 out=$3 err=$4 got
    shift 4
    "$bin/mlxctl" grammar "$@" >"$tmp/out" 2>"$tmp/err" <"$tmp/in"
    got=$?
    if [ "$got" -ne "$code" ]; then
        bad "$name: exit code $got, wanted $code"
    elif ! is "$tmp/out" "$out"; then
        bad "$name: standard output is not $out"
    elif ! is "$tmp/err" "$err"; then
        bad "$name: standard error is not $err"
    else
        passed=$((passed + 1))
    fi
}

cat >"$tmp/schema.json" <<'END'
{"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
  "name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
  "kind": {"enum": ["a", "b"]}, "list": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}}}
END
cat >"$tmp/in" <<'END'
{"name": "x"}
{"age": 3, "name": "x"}

{"name": "x", "age": 151}
{"name": "x", "kind": "c"}
{"name": "x", "list": [true, 1]}
{"name": "x", "list": [true, true, true]}
{"name": "x", "other": 1}
{"age": 3}
{"name":
[]
END
answers "a schema" 0 '{"valid": true}
{"valid": true}
{"valid": false, "at": "/age", "expected": "behind 15: the end of the number or \"0\""}
{"valid": false, "at": "/kind", "expected": "\"a\" or \"b\""}
{"valid": false, "at": "/list/1", "expected": "false or true"}
{"valid": false, "at": "/list/2", "expected": "\"]\""}
{"valid": false, "at": "/other", "expected": "one of the members \"age\", \"kind\", \"list\" or \"}\""}
{"valid": false, "at": "", "expected": "the member \"name\""}
{"error": "instance: not valid JSON: line 1 column 9: the text ends too early"}
{"valid": false, "at": "", "expected": "an object"}' check "$tmp/schema.json"

printf '"abc"\n"abd"\n"ab"\n"aéc"\n5\n' >"$tmp/in"
answers "a regular expression" 0 '{"valid": true}
{"valid": false, "at": 2, "expected": "\"c\""}
{"valid": false, "at": 2, "expected": "\"c\""}
{"valid": true}
{"error": "instance: not a JSON string"}' check --regex 'a.c'
printf 'root ::= "a" [0-9]+ "\\n"?\n' >"$tmp/g.gbnf"
printf '"a1"\n"a12\\n"\n"a"\n"b"\n' >"$tmp/in"
answers "a grammar" 0 '{"valid": true}
{"valid": true}
{"valid": false, "at": 1, "expected": "a digit"}
{"valid": false, "at": 0, "expected": "\"a\""}' check --gbnf "$tmp/g.gbnf"

: >"$tmp/in"
echo '{"type": "string", "minLength": "x"}' >"$tmp/wrong.json"
fails "a wrong schema" 1 '^\{"error": "schema#/minLength: .*"\}$' '^mlxctl grammar check: schema#/minLength: ' check "$tmp/wrong.json"
echo '{"type": "array", "uniqueItems": true}' >"$tmp/unique.json"
fails "a schema that cannot be enforced" 1 '^\{"error": "schema#/uniqueItems: .*"\}$' 'uniqueItems' check "$tmp/unique.json"
echo '{"type": ' >"$tmp/cut.json"
fails "a schema that is no JSON" 1 '^\{"error": "schema: not valid JSON' 'not valid JSON' check "$tmp/cut.json"
fails "a schema that is not there" 1 '^\{"error": ".*none\.json' 'none\.json' check "$tmp/none.json"
fails "a wrong pattern" 1 '^\{"error": ' '^mlxctl grammar check: ' check --regex 'a('
fails "a wrong grammar" 1 '^\{"error": ' '^mlxctl grammar check: ' check --gbnf "$tmp/cut.json"
fails "no action" 2 '' 'check or sample is needed'
fails "another action" 2 '' 'there is no "grammar list"' list "$tmp/schema.json"
fails "no schema" 2 '' 'one of SCHEMA.json, --gbnf and --regex' check
fails "two of them" 2 '' 'one of SCHEMA.json, --gbnf and --regex' check "$tmp/schema.json" --regex a
fails "help" 0 'usage: mlxctl grammar' '' --help

"$bin/mlxctl" grammar sample "$tmp/schema.json" -n 200 --seed 7 >"$tmp/in" 2>"$tmp/err"
if [ "$(wc -l <"$tmp/in")" -ne 200 ]; then
    bad "samples: not 200 lines"
elif "$bin/mlxctl" grammar check "$tmp/schema.json" <"$tmp/in" | grep -qv '^{"valid": true}$'; then
    bad "samples: one is not of the schema"
elif [ "$(sort -u "$tmp/in" | wc -l)" -lt 100 ]; then
    bad "samples: too many are the same"
else
    passed=$((passed + 1))
fi
if "$bin/mlxctl" grammar sample "$tmp/schema.json" -n 200 --seed 7 | cmp -s - "$tmp/in"; then passed=$((passed + 1)); else bad "samples: not repeated"; fi
"$bin/mlxctl" grammar sample --regex '[a-c]{2,4}\n' -n 50 >"$tmp/in"
"$bin/mlxctl" grammar check --regex '[a-c]{2,4}\n' <"$tmp/in" >"$tmp/out"
if [ "$(grep -c '^{"valid": true}$' "$tmp/out")" -eq 50 ]; then passed=$((passed + 1)); else bad "samples of a regular expression"; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
