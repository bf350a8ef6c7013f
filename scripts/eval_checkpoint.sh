#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs eval_checkpoint.py, which explains the arguments, in the environment of
# run.sh:
#   bash scripts/eval_checkpoint.sh s90erk5x path/to/imagenet
set -euo pipefail
root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
exec bash "$root/run.sh" python "$root/scripts/eval_checkpoint.py" "$@"
