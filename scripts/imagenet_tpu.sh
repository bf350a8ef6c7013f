#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains a row of the published tables on a Cloud TPU, with evaluations. Run it
# again to resume.
#   bash scripts/imagenet_tpu.sh ROW DATA OUT [FLAG ...]
#   TPU=my-tpu bash scripts/imagenet_tpu.sh resnet50_rigl_erk_0.9_1x \
#     gs://bucket/imagenet runs
#   ROW       a file of configs/imagenet without .gin (--list prints them)
#   DATA      as --data_directory of the ImageNet script; "synthetic" needs none
#   OUT       directory of the runs, also gs://...; this run is in OUT/ROW
#   FLAG      further flags of that script
#   TPU       (environment) as --tpu: name of the TPU, or local on a TPU VM
#             (local)
#   STRATEGY  (environment) as --strategy; all others train without a TPU,
#             to try it (tpu)
# On a TPU VM, RIGL_ENV may name an environment with '.[tpu]' installed.
# Otherwise this script creates one.
set -euo pipefail
root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
configs=$root/configs/imagenet

fail() {
  echo "imagenet_tpu.sh: $*" >&2
  exit 2
}

rows() {
  grep -lE '^# python ' "$configs"/*.gin | sed -E 's|.*/(.*)\.gin|\1|'
}

if [ "${1:-}" = --list ]; then
  rows
  exit
fi
[ $# -ge 3 ] || fail "needs ROW, DATA and OUT; see the top of the script."
row=$1 data=$2 out=$3
shift 3
rows | grep -qxF -- "$row" ||
  fail "ROW: there is no configs/imagenet/$row.gin of a published row;" \
    "--list prints them."
case $data in
  synthetic | gs://?*) ;;
  gs://) fail "DATA: 'gs://' names no bucket." ;;
  *) [ -d "$data" ] || fail "DATA: there is no folder '$data'." ;;
esac
case $out in
  '' | gs://) fail "OUT must be a folder or gs://BUCKET/FOLDER, got '$out'." ;;
esac

flags=(--mode=train_and_eval --use_folder_stub=False)
flags+=(--output_dir="$out/$row" --gin_config="$configs/$row.gin")
if [ "$data" = synthetic ]; then
  flags+=(--use_synthetic_data)
else
  flags+=(--data_directory="$data")
fi
strategy=${STRATEGY:-tpu}
flags+=(--strategy="$strategy")
if [ "$strategy" = tpu ]; then
  flags+=(--tpu="${TPU:-local}" --precision=bfloat16)
  export RIGL_REQUIREMENTS=${RIGL_REQUIREMENTS:-requirements-tpu.txt}
  export RIGL_ENV=${RIGL_ENV:-$root/env-tpu}
fi
exec bash "$root/run.sh" python \
  "$root/rigl/imagenet_resnet/imagenet_train_eval.py" "${flags[@]}" "$@"
