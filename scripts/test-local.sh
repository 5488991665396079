#!/usr/bin/env bash
# Every test of the project on this machine; see --help. .ci/run is this script.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
    cat <<'EOF'
usage: scripts/test-local.sh [--quick]

Installs what is missing, builds, brings the default model, then runs
  the tests           a build with fatal warnings, ctest
  the sanitizers      the same tests under ASan and UBSan
  the fuzz targets    each for FUZZ_SECONDS (default 10), with clang
  valgrind            one run of mlx-demo
  the linters         clang-format, clang-tidy, cppcheck, shellcheck
  the reference cases those of ../shared (or MLXR_SHARED_CASES), when they are there
One line a stage; a stage's whole output is in .cache/test-local/. The last line is
"N passed, N failed, N skipped" over ctest's entries and the other stages.

--quick   only the tests and the reference cases
EOF
}

quick=false
case "$*" in
"") ;;
--quick) quick=true ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

cd "$MLXR_ROOT"
logs=.cache/test-local
shared=${MLXR_SHARED_CASES:-../shared}
model=models/$MODEL_ID
jobs=$(n_jobs)
n_passed=0 n_failed=0 n_skipped=0
rm -rf "$logs"
mkdir -p "$logs" .cache/fuzz

line() { printf '%-5s %4d s  %s\n' "$1" "$2" "$3"; } # RESULT SECONDS TEXT

skipped() { # NAME REASON
    n_skipped=$((n_skipped + 1))
    line SKIP 0 "$1: $2"
}

# What cannot be run without a tool is skipped; on Debian the set-up has installed them all.
have() { # NAME TOOL...
    local name=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" >/dev/null || {
            skipped "$name" "no $tool here"
            return 1
        }
    done
}

tell_failure() { # LOG
    printf '     the end of %s:\n' "$1"
    tail -n 60 "$1" | sed 's/^/     | /'
}

# stage NAME COMMAND...: one counted stage. ok then says how it went.
stage() {
    local name=$1 start=$SECONDS log
    log=$logs/$(printf %s "$1" | tr -c 'a-zA-Z0-9\n' '-').log
    shift
    if "$@" >"$log" 2>&1 </dev/null; then
        n_passed=$((n_passed + 1))
        line ok $((SECONDS - start)) "$name"
        ok=true
    else
        n_failed=$((n_failed + 1))
        line FAIL $((SECONDS - start)) "$name"
        tell_failure "$log"
        ok=false
    fi
}

# The names in ctest's closing list of what failed.
failed_tests() { sed -n 's/^[[:space:]]*[0-9]* - \([^ ]*\) (.*/\1/p' "$1" | tr '\n' ' '; } # LOG

# What the failed tests printed, or the end of the log where ctest itself failed: of each test the lines that speak of a
# failure, which may stand far from the end, and the last 30.
tell_failed_tests() { # LOG
    local test names text
    names=$(failed_tests "$1")
    [ -n "$names" ] || tell_failure "$1"
    for test in $names; do
        # ctest prints a failed test's output after its line of result, up to the next test's line.
        text=$(awk -v name="$test" '/^ *[0-9]+\/[0-9]+ Test +#/ { on = $4 == name } on && !/^ *Start +[0-9]+: /' "$1")
        printf '     of %s:\n' "$test"
        printf '%s\n' "$text" | grep -E 'ERROR|FAIL|Error|error:|Sanitizer|leak of' | head -n 12 | cut -c 1-1000 | sed 's/^/     > /'
        printf '     and its end:\n'
        printf '%s\n' "$text" | tail -n 30 | cut -c 1-1000 | sed 's/^/     | /'
    done
}

# ctest_stage NAME BUILD-DIR [CTEST-OPTION...]: counts ctest's own entries.
ctest_stage() {
    local name=$1 dir=$2 start=$SECONDS log junit suite total failures skips rc=0
    log=$logs/$(printf %s "$1" | tr -c 'a-zA-Z0-9\n' '-').log
    junit=$MLXR_ROOT/${log%.log}.xml
    shift 2
    ctest --test-dir "$dir" --output-on-failure -j "$jobs" --output-junit "$junit" "$@" \
        >"$log" 2>&1 </dev/null || rc=$?
    suite=$(tr '\n' ' ' <"$junit" 2>/dev/null | sed -n 's/.*<testsuite \([^>]*\)>.*/\1/p')
    attribute() { printf %s "$suite" | sed -n "s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p"; }
    total=$(attribute tests) failures=$(attribute failures) skips=$(attribute skipped)
    total=${total:-0} failures=${failures:-0} skips=${skips:-0}
    if [ "$rc" -ne 0 ] || [ "$total" -eq 0 ]; then
        [ "$failures" -gt 0 ] || failures=1 total=$((total + 1)) # ctest itself failed, or found no test
        line FAIL $((SECONDS - start)) "$name: $failures of $total failed: $(failed_tests "$log")"
        tell_failed_tests "$log"
    else
        line ok $((SECONDS - start)) "$name: $((total - skips)) passed, $skips skipped"
    fi
    # A skipped test says why in its output.
    sed -n 's/^.*SKIP: /             SKIP: /p' "$log" | sort -u
    n_passed=$((n_passed + total - failures - skips))
    n_failed=$((n_failed + failures))
    n_skipped=$((n_skipped + skips))
}

build() { # PRESET [CMAKE-OPTION...]
    local preset=$1
    shift
    cmake --preset "$preset" -DMLXR_TESTS=ON -DMLXR_WERROR=ON -DMLXR_SHARED_CASES="$(absolute "$shared")" "$@" &&
        cmake --build --preset "$preset" -j "$jobs"
}

absolute() { (cd "$1" 2>/dev/null && pwd) || printf '%s\n' "$1"; }

fuzz_targets() { ninja -C build-fuzz -t targets all | sed -n 's/^\(fuzz_[a-z0-9_]*\): phony$/\1/p'; }

build_fuzz() {
    cmake --preset fuzz -DMLXR_TESTS=ON -DMLXR_WERROR=ON || return 1
    # shellcheck disable=SC2046  # target names
    cmake --build build-fuzz -j "$jobs" --target $(fuzz_targets)
}

# New inputs go to .cache/, the committed corpus is only read; a crash leaves its input beside the log.
fuzz_one() { # TARGET
    local name=${1#fuzz_} words=()
    mkdir -p ".cache/fuzz/$name"
    [ ! -f "tests/fuzz/corpus/$name.dict" ] || words=("-dict=tests/fuzz/corpus/$name.dict")
    "build-fuzz/fuzz/$1" -max_total_time="${FUZZ_SECONDS:-10}" -timeout=20 -rss_limit_mb=4096 -max_len=65536 \
        ${words[@]+"${words[@]}"} -print_final_stats=1 -artifact_prefix="$logs/crash-$name-" \
        ".cache/fuzz/$name" "tests/fuzz/corpus/$name" \
        >"$logs/fuzz-$name.log" 2>&1 </dev/null
}

# As many at once as there are cores.
fuzz_all() {
    local target pids="" running=0 start=$SECONDS failed="" n=0
    for target in $(fuzz_targets); do
        fuzz_one "$target" &
        pids="$pids $target:$!"
        n=$((n + 1)) running=$((running + 1))
        if [ "$running" -ge "$jobs" ]; then
            fuzz_wait
            running=0 pids=""
        fi
    done
    fuzz_wait
    n_passed=$((n_passed + n))
    for target in $failed; do
        n_passed=$((n_passed - 1)) n_failed=$((n_failed + 1))
        tell_failure "$logs/fuzz-${target#fuzz_}.log"
    done
    line "$([ -z "$failed" ] && echo ok || echo FAIL)" $((SECONDS - start)) \
        "fuzz: $n targets, ${FUZZ_SECONDS:-10} s each${failed:+; failed:$failed}"
}

fuzz_wait() { # uses fuzz_all's pids and failed
    local pid
    for pid in $pids; do
        wait "${pid#*:}" || failed="$failed ${pid%%:*}"
    done
}

# Tables that a script wrote say so, and keep the form it gave them.
lint_format() {
    git ls-files '*.c' '*.h' '*.cpp' '*.hpp' | grep -v '^tests/fuzz/corpus/' | xargs grep -L 'not by hand' |
        xargs clang-format --dry-run -Werror
}

lint_tidy() {
    git ls-files 'src/*.c' 'programs/*.c' 'examples/*.c' | grep -Fx -f <(compiled_files) |
        xargs -n 4 -P "$jobs" clang-tidy -p build --quiet --extra-arg=-Wno-unknown-warning-option
}

# The sources that this machine's build compiles: kernels of another machine's ISA have no flags here.
compiled_files() { sed -n "s|^ *\"file\": \"$MLXR_ROOT/\(.*\)\",*\$|\1|p" build/compile_commands.json | sort -u; }

# uninitvar is left to the other three that look for it: cppcheck loses arrays filled in a loop. Two variables that
# start with the same value (duplicateAssignExpression) are no mistake.
lint_cppcheck() {
    git ls-files 'src/*.c' 'programs/*.c' |
        xargs cppcheck --quiet -j "$jobs" --std=c11 --error-exitcode=1 --inline-suppr \
            --enable=warning,portability --suppress=missingIncludeSystem --suppress=uninitvar \
            --suppress=duplicateAssignExpression -D__GNUC__ -I include -I src
}

lint_shell() { git ls-files '*.sh' .ci/run | xargs shellcheck -x; }

under_valgrind() { # COMMAND...
    valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=99 "$@"
}

# The first python3 may be one of the user's own, without the packages of the system's.
python_with_numpy() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import numpy' 2>/dev/null; then
            printf '%s\n' "$python"
            return 0
        fi
    done
    return 1
}

start_all=$SECONDS
setup_packages build model test

rc=0
scripts/setup.sh mlx >"$logs/mlx.log" 2>&1 || rc=$?
case $rc in
0) line ok 0 "MLX is there" ;;
75) skipped "MLX" "it could not be downloaded; device mlx is left out" ;;
*)
    n_failed=$((n_failed + 1))
    line FAIL 0 "MLX"
    tell_failure "$logs/mlx.log"
    ;;
esac

stage "build (warnings are errors)" build ci
if ! $ok; then
    printf '%d passed, %d failed, %d skipped\n' "$n_passed" "$n_failed" "$n_skipped"
    exit 1
fi

rc=0
scripts/setup.sh model config >"$logs/model.log" 2>&1 || rc=$?
case $rc in
0) line ok 0 "the default model is there" ;;
75) skipped "the default model" "it could not be downloaded; what needs it is skipped" ;;
*)
    n_failed=$((n_failed + 1))
    line FAIL 0 "the default model"
    tell_failure "$logs/model.log"
    ;;
esac

ctest_stage "ctest" build

if [ ! -d "$shared" ]; then
    skipped "reference cases" "no $shared"
elif have "reference cases" python3; then
    mlxctl=$MLXR_ROOT/build/bin/mlxctl
    stage "reference cases: tokenizers" python3 "$shared/tools/check_tokenizer.py" --mlxctl "$mlxctl"
    stage "reference cases: templates" python3 "$shared/tools/check_template.py" --mlxctl "$mlxctl"
    if python=$(python_with_numpy); then
        stage "reference cases: models" "$python" "$shared/tools/check_models.py" --mlxctl "$mlxctl"
    else
        skipped "reference cases: models" "no python3 with numpy"
    fi
fi

if ! $quick; then
    stage "build with ASan and UBSan" build asan
    if $ok; then
        export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
        ctest_stage "ctest under ASan and UBSan" build-asan
    fi

    if have "fuzz" clang; then
        stage "build of the fuzz targets (clang)" build_fuzz
        if $ok; then fuzz_all; fi
    fi

    if have "valgrind" valgrind; then
        stage "valgrind: mlx-demo, mock" under_valgrind build/bin/mlx-demo --runner mock --prompt "Hello"
        stage "valgrind: mlx-demo, tiny model" under_valgrind build/bin/mlx-demo --runner local \
            --model tests/runner/fixtures/tiny_chat --prompt "Hello" --max-tokens 16
        # Memcheck runs vector code some hundred times slower: a prompt without the template, of a token or two.
        if [ -f "$model/config.json" ]; then
            stage "valgrind: mlx-demo, default model" under_valgrind build/bin/mlx-demo --runner local \
                --model "$model" --raw --prompt "Hi" --max-tokens 2
        else
            skipped "valgrind: mlx-demo, default model" "no $model"
        fi
    fi

    if have "clang-format" clang-format git; then stage "clang-format" lint_format; fi
    if have "shellcheck" shellcheck git; then stage "shellcheck" lint_shell; fi
    if have "cppcheck" cppcheck git; then stage "cppcheck" lint_cppcheck; fi
    if have "clang-tidy" clang-tidy git; then stage "clang-tidy" lint_tidy; fi
fi

printf 'in %d s\n' $((SECONDS - start_all))
printf '%d passed, %d failed, %d skipped\n' "$n_passed" "$n_failed" "$n_skipped"
[ "$n_failed" -eq 0 ]
