#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Creates the virtual environment env/ if it is missing, and then
#   bash run.sh               runs the fast tests,
#   bash run.sh COMMAND ...   runs COMMAND in it, for example
#   bash run.sh python rigl/mnist/mnist_train_eval.py --training_method=rigl
# PYTHON names the interpreter that creates the environment (3.10 to 3.13).
set -euo pipefail
call_dir=$PWD
CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
root=$PWD

env_dir=${RIGL_ENV:-$root/env}
if [[ $env_dir != /* ]]; then
  env_dir=$call_dir/$env_dir
fi
requirements=${RIGL_REQUIREMENTS:-requirements.txt}

# The interpreter in PYTHON; without it, the first one of a supported version.
find_python() {
  local candidates=(python3 python3.13 python3.12 python3.11 python3.10)
  if [ -n "${PYTHON:-}" ]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "run.sh: Python 3.10 to 3.13 is needed and was not found; set PYTHON" \
    "to its path${PYTHON:+ ($PYTHON is not)}." >&2
  exit 1
}

# The stamp holds the installed requirements, so that changed ones are installed
# and an interrupted installation is repeated.
stamp=$env_dir/.installed
wanted=$(cat -- "$requirements" pyproject.toml)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  python=$(find_python)
  echo "run.sh: installing into $env_dir (about 2 GB) ..." >&2
  "$python" -m venv "$env_dir"
  "$env_dir/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$requirements" >&2
  printf '%s\n' "$wanted" > "$stamp"
fi

export PATH="$env_dir/bin:$PATH" VIRTUAL_ENV="$env_dir"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
if [ $# -eq 0 ]; then
  exec python -m pytest -q -n 2 --dist loadfile -m "not slow"
fi
CDPATH="" cd -- "$call_dir"
exec -- "$@"
