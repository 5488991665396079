#!/usr/bin/env bash
# mlxctl logits over the checkpoints of models/: greedy ids equal mlx-lm's, and any number of last positions is the
# same numbers, for prompts longer than one step takes.
# usage: test_logits.sh MLXCTL MODELS_DIR DEVICE...
set -u
mlxctl=$1
models=$2
shift 2
failed=0

bad() {
    failed=$((failed + 1))
    printf 'FAIL %s\n' "$*"
}

# The rows of one answer, a line each.
rows() { sed -e 's/^{"logits":\[\[//' -e 's/\]\]}$//' -e 's/\],\[/\n/g'; }

for device in "$@"; do
    for dir in "$models"/*/; do
        name=$(basename "$dir")
        # "greedy": [{"ids": [...], "next": [...], "margins": [...]}, ...] as json.dumps writes it
        runs=$(grep -o '"ids": \[[0-9, ]*\], "next": \[[0-9, ]*\]' "$dir/expected.json")
        want=$(sed -e 's/.*"next": /{"ids":/' -e 's/$/}/' -e 's/ //g' <<<"$runs")
        got=$(sed -e 's/, "next".*/}/' -e 's/^/{/' <<<"$runs" |
            "$mlxctl" logits "$dir" --device "$device" --precision exact --greedy 24)
        if [ "$(wc -l <<<"$runs")" -ne 2 ] || [ "$got" != "$want" ]; then
            bad "$name on $device: greedy ids are $got"
        fi
    done

    ids=$(seq -s , 0 149),$(seq -s , 0 49) # 200 ids; a step takes 128
    answer() { printf '{"ids":[%s],"last":%s}\n' "$ids" "$1" | "$mlxctl" logits "$models/q4_g32" --device "$device"; }
    all=$(answer 0 | rows)
    [ "$(wc -l <<<"$all")" -eq 200 ] || bad "$device: last 0 gives $(wc -l <<<"$all") rows"
    for last in 1 71 72 73 199 200 1000; do
        [ "$(answer $last | rows)" = "$(tail -n $last <<<"$all")" ] || bad "$device: last $last differs"
    done
done

[ $failed -eq 0 ] && echo "all passed"
exit $((failed > 0))
