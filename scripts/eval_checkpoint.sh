#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates a published checkpoint on ImageNet: fetches its archive, unpacks it,
# finds the checkpoint and the flags of its model, and prints top-1, top-5,
# losses and sparsities.
#   bash scripts/eval_checkpoint.sh NAME DATA [FLAG ...]
#   bash scripts/eval_checkpoint.sh s90erk5x path/to/imagenet
#   bash scripts/eval_checkpoint.sh s90erk5x.tar.gz gs://bucket/imagenet
#   NAME   name of a published archive (--list prints them), or an archive
#          (.tar, .tar.gz, .tgz), or a folder with a checkpoint
#   DATA   as --data_directory of the ImageNet script; "synthetic" needs none
#   FLAG   further flags of that script; they win over those of the
#          checkpoint
#   OUT    (environment) where archives are kept and unpacked
#          (rigl_runs/checkpoints)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

published=https://storage.googleapis.com/gresearch/rigl
names="s80erk5x s80uniform5x s90erk5x s90uniform5x s95erk5x s95uniform5x
s965erk5x s965uniform5x s99erk5x s99erk10x s99erk40x s99erk100x s80erk1x
s80uniform1x s90erk1x s90uniform1x S80erk_nolabelsmooth_1x
S80erk_nolabelsmooth_5x S90erk_nolabelsmooth_1x S90erk_nolabelsmooth_5x
S95erk_nolabelsmooth_1x S95erk_nolabelsmooth_5x mbv1_s90_erk10x mbv1_s90_erk50x
mbv1_s90_uniform10x mbv1_s90_uniform50x mbv1_s90_uniform100x"

fail() {
  echo "eval_checkpoint.sh: $*" >&2
  exit 2
}

if [ "${1:-}" = --list ]; then
  printf '%s\n' $names
  exit
fi
[ $# -ge 2 ] || fail "needs NAME and DATA; see the top of the script."
name=$1 data=$2
shift 2
out=${OUT:-rigl_runs/checkpoints}

# The archive of a published name, fetched if it is missing.
fetch() {
  archive=$out/$1.tar.gz
  [ ! -f "$archive" ] || return 0
  mkdir -p "$out"
  echo "Fetching $published/$1.tar.gz ..." >&2
  curl --fail --location --silent --show-error \
    --output "$archive.part" "$published/$1.tar.gz" ||
    fail "$published/$1.tar.gz cannot be fetched."
  mv "$archive.part" "$archive"
}

unpack() {
  folder=$out/$(basename "$1")
  folder=${folder%.gz} folder=${folder%.tgz} folder=${folder%.tar}.unpacked
  [ ! -d "$folder" ] || return 0
  mkdir -p "$out"
  rm -rf "$folder.part"
  mkdir "$folder.part"
  tar --extract --file="$1" --directory="$folder.part" ||
    fail "$1 is no archive that tar can unpack."
  mv "$folder.part" "$folder"
}

if [ -d "$name" ]; then
  folder=$name
elif [ -f "$name" ]; then
  unpack "$name"
elif printf '%s\n' $names | grep -qxF -- "$name"; then
  fetch "$name"
  unpack "$archive"
else
  fail "NAME: there is no file or folder '$name', and the published names are:" \
    $names
fi

# The checkpoint of the highest step.
index=$(find "$folder" -name '*.index' |
  sed -E 's/^(.*[^0-9])?([0-9]*)\.index$/\2 &/' | sort -n | tail -n 1 |
  sed -E 's/^[0-9]* //')
[ -n "$index" ] || fail "$folder holds no checkpoint (no *.index)."
prefix=${index%.index}

flags=()
found=$(bash "$root/run.sh" python "$root/scripts/checkpoint_flags.py" \
  "$prefix") || exit 1
while IFS= read -r flag; do
  [ -z "$flag" ] || flags+=("$flag")
done <<< "$found"
case $name in
  *nolabelsmooth*) flags+=(--label_smoothing=0) ;;
esac
if [ "$data" = synthetic ]; then
  flags+=(--use_synthetic_data)
else
  flags+=(--data_directory="$data")
fi
command=(python "$root/rigl/imagenet_resnet/imagenet_train_eval.py"
  --mode=eval_once --output_dir="$(dirname "$prefix")"
  --eval_once_ckpt_prefix="$(basename "$prefix")" --use_folder_stub=False
  "${flags[@]}" "$@")
printf '%q ' "${command[@]}"
echo
exec bash "$root/run.sh" "${command[@]}"
