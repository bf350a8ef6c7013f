#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests --runner=tpu_estimator: creates env-tf215/ with TensorFlow 2.15 (the
# first time, 2 GB), runs the runner's tests there, trains a tiny ResNet with it
# and evaluates that with the loop as well.
#   bash scripts/test_tpu_estimator.sh
# PYTHON names the interpreter of env-tf215/ (3.10 or 3.11), RIGL_ENV another
# place for it, TESTS other tests.
set -euo pipefail
CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

if [ -z "${PYTHON:-}" ]; then
  PYTHON=$(command -v python3.11 || command -v python3.10) || {
    echo "test_tpu_estimator.sh: TensorFlow 2.15 needs Python 3.10 or 3.11," \
      "and none was found; set PYTHON to its path." >&2
    exit 1
  }
fi
export PYTHON
export RIGL_ENV=${RIGL_ENV:-$PWD/env-tf215}
export RIGL_REQUIREMENTS=${RIGL_REQUIREMENTS:-requirements-tf215.txt}

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

imagenet() {
  bash run.sh python rigl/imagenet_resnet/imagenet_train_eval.py \
    --use_synthetic_data --resnet_depth=18 --width=0.25 --image_size=32 \
    --num_label_classes=20 --train_batch_size=4 --eval_batch_size=4 \
    --num_eval_images=10 --export_model_freq=0 --output_dir="$scratch/run" \
    --use_folder_stub=false --mask_init_method=erdos_renyi_kernel \
    --training_method=rigl --maskupdate_frequency=3 --iterations_per_loop=2 \
    --train_steps=6 "$@"
}

bash run.sh python -m pytest -q -n 2 --dist loadfile \
  ${TESTS:-tests/*/test_*estimator*.py}
imagenet --runner=tpu_estimator --mode=train_and_eval --steps_per_eval=6 |
  tee "$scratch/trained"
imagenet --runner=loop --mode=eval_once | tee "$scratch/evaluated"
found=$(sed -n 's/.*test accuracy \([0-9.]*\).*/\1/p' "$scratch/trained")
grep -q "Accuracy: $found," "$scratch/evaluated"
echo "The runner tpu_estimator works."
