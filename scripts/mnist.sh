#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains every method on MNIST, one after the other, and prints a table of the
# test accuracies. Run it again to resume.
#   bash scripts/mnist.sh
#   EPOCHS=20 SEEDS="0 1 2" METHODS="rigl set" OUT=my_runs bash scripts/mnist.sh
#   EPOCHS       epochs per run (200: about 3 minutes on two cores)
#   SEEDS        seeds; every method runs once per seed ("0")
#   METHODS      methods: files in configs/mnist/ (all)
#   OUT          directory of the runs, their logs and table.md
#                (rigl_runs/mnist_table)
#   EXTRA_FLAGS  further flags of the training script, for every run
set -euo pipefail
root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

out=${OUT:-rigl_runs/mnist_table}
read -r -a seeds <<< "${SEEDS:-0}"
read -r -a methods <<< \
  "${METHODS:-baseline scratch static set momentum rigl snip dnw prune}"
read -r -a flags <<< "--num_epochs=${EPOCHS:-200} ${EXTRA_FLAGS:-}"
task_script=rigl/mnist/mnist_train_eval.py
config_dir=configs/mnist
path_flag=save_path
. "$root/scripts/train_all.sh"
