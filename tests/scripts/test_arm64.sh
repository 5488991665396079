#!/usr/bin/env bash
# The kernels for 64-bit ARM on another processor: cross-compiles tests/arm64 with fatal warnings and runs it under qemu-user, on
# a processor with everything and on one without the dot product instructions. test_arm64.sh SOURCE BUILD CMAKE; BUILD is kept
# from run to run.
set -euo pipefail
source=$1 build=$2 cmake=$3
libc=/usr/aarch64-linux-gnu

skip() {
    printf 'SKIP: %s (scripts/setup.sh test-packages brings it)\n' "$*"
    exit 77
}
for tool in aarch64-linux-gnu-gcc qemu-aarch64 ninja; do
    command -v "$tool" >/dev/null || skip "no $tool here"
done
[ -f "$libc/include/stdio.h" ] || skip "no C library for arm64 here"

"$cmake" -G Ninja -S "$source/tests/arm64" -B "$build" \
    -DCMAKE_TOOLCHAIN_FILE="$source/cmake/aarch64-linux-gnu.cmake" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
ninja -C "$build" >"$build.log" 2>&1 || { tail -n 40 "$build.log"; exit 1; }

n_wrong=0
run() { # CPU TEST TEXT...: the test passes and says each text
    local cpu=$1 test=$2 out
    shift 2
    if ! out=$(qemu-aarch64 -L "$libc" -cpu "$cpu" "$build/tests/$test" 2>&1); then
        printf '%s on %s:\n%s\n' "$test" "$cpu" "$out"
        n_wrong=$((n_wrong + 1))
        return
    fi
    for text in "$@"; do
        case $out in
        *"$text"*) ;;
        *)
            printf '%s on %s does not say "%s":\n%s\n' "$test" "$cpu" "$text" "$out"
            n_wrong=$((n_wrong + 1))
            ;;
        esac
    done
    printf '%s on %s: ok\n' "$test" "$cpu"
}
# It has no dot products: an instruction too new for a level would end the program. The level above has the same kernels for
# floats, so they run only here.
run cortex-a53 test_cpu_kernels "isa: neon, baseline"
run cortex-a53 test_ints "SKIP: no integer kernels"
run max test_ints "ok      kernels_equal_the_sums" "ok      integers_are_the_same_everywhere"
run max test_device
[ "$n_wrong" -eq 0 ]
