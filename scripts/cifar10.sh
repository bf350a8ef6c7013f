#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the CIFAR-10 study, WRN-22-2, one run after the other, and prints a
# table of the test accuracies. Run it again to resume.
#   bash scripts/cifar10.sh
#   METHODS="rigl_erk_0.9 set_erk_0.9" SEEDS="0 1" DATA=cifar OUT=my_runs \
#     bash scripts/cifar10.sh
#   SEEDS        seeds; every method runs once per seed ("0")
#   METHODS      gin files in configs/cifar10/ (the rows of docs/cifar10.md)
#   DATA         directory of CIFAR-10 (default: TFDS downloads it)
#   OUT          directory of the runs, their logs and table.md
#                (rigl_runs/cifar10_table)
#   EXTRA_FLAGS  further flags of the training script, for every run
# It trains on a GPU if TensorFlow sees one. Otherwise use
# scripts/train_on_gpu.py.
set -euo pipefail
root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

out=${OUT:-rigl_runs/cifar10_table}
read -r -a seeds <<< "${SEEDS:-0}"
default="baseline"
for sparsity in 0.5 0.8 0.9 0.95; do
  for method in rigl static prune; do
    default+=" ${method}_erk_$sparsity"
  done
done
default+=" set_erk_0.9 set_erk_0.95 momentum_erk_0.9 snip_erk_0.9"
read -r -a methods <<< "${METHODS:-$default}"
read -r -a flags <<< \
  "--mode=train_and_eval --data_directory=${DATA:-} ${EXTRA_FLAGS:-}"
task_script=rigl/cifar_resnet/resnet_train_eval.py
config_dir=configs/cifar10
path_flag=train_dir
. "$root/scripts/train_all.sh"
