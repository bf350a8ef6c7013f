#!/usr/bin/env bash
# Trains every method on MNIST, one after the other, and prints a table of the
# test accuracies. Run it again to go on after an interruption.
#   bash scripts/mnist.sh
#   EPOCHS=20 SEEDS="0 1 2" METHODS="rigl set" OUT=my_runs bash scripts/mnist.sh
#   EPOCHS       epochs a run (200: about 3 minutes on two cores)
#   SEEDS        seeds, each a run of every method ("0")
#   METHODS      methods: files in configs/mnist/ (all)
#   OUT          directory of the runs, their logs and table.md
#                (rigl_runs/mnist_table)
#   EXTRA_FLAGS  further flags of the training script, for every run
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

epochs=${EPOCHS:-200}
out=${OUT:-rigl_runs/mnist_table}
read -r -a seeds <<< "${SEEDS:-0}"
read -r -a methods <<< \
  "${METHODS:-baseline scratch static set momentum rigl snip dnw prune}"
read -r -a extra_flags <<< "${EXTRA_FLAGS:-}"

if [ $# -ne 0 ]; then
  echo "mnist.sh: takes no arguments but environment variables; see the top" \
    "of the script." >&2
  exit 2
fi
for method in "${methods[@]}"; do
  if [ ! -f "$root/configs/mnist/$method.gin" ]; then
    echo "mnist.sh: METHODS: there is no configs/mnist/$method.gin." >&2
    exit 2
  fi
done

run_python() {
  bash "$root/run.sh" python "$@" </dev/null
}

mkdir -p "$out"
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    run=$out/${method}_seed$seed
    printf '%s, seed %s ... ' "$method" "$seed"
    # A finished run only says its result again.
    if ! run_python "$root/rigl/mnist/mnist_train_eval.py" \
      --gin_config="$root/configs/mnist/$method.gin" --num_epochs="$epochs" \
      --seed="$seed" --save_path="$run" ${extra_flags[@]+"${extra_flags[@]}"} \
      >> "$run.log" 2>&1; then
      echo "failed; the end of $run.log:"
      tail -n 5 "$run.log" >&2
      exit 1
    fi
    tail -n 1 "$run.log"
  done
done
run_python "$root/scripts/mnist_table.py" "$out" > "$out/table.md"
echo
cat "$out/table.md"
