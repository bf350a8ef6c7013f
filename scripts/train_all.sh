# SPDX-License-Identifier: Apache-2.0
# Trains gin files of a task, one after the other, and prints a table of the
# test accuracies; mnist.sh and cifar10.sh source it and set:
#   root          the repository
#   task_script   training script, below the root
#   config_dir    folder of the gin files, below the root
#   path_flag     flag of the directory of a run
#   methods, seeds, out, flags   what to train, where to, further flags
set -euo pipefail

name=$(basename -- "$0")
if [ $# -ne 0 ]; then
  echo "$name: takes no arguments but environment variables; see the top" \
    "of the script." >&2
  exit 2
fi
for method in "${methods[@]}"; do
  if [ ! -f "$root/$config_dir/$method.gin" ]; then
    echo "$name: METHODS: there is no $config_dir/$method.gin." >&2
    exit 2
  fi
done

run_python() {
  bash "$root/run.sh" python "$@" </dev/null
}

mkdir -p -- "$out"
for seed in "${seeds[@]}"; do
  for method in "${methods[@]}"; do
    run=$out/${method}_seed$seed
    printf '%s, seed %s ... ' "$method" "$seed"
    # A finished run only prints its result again.
    if ! run_python "$root/$task_script" \
      --gin_config="$root/$config_dir/$method.gin" --seed="$seed" \
      --"$path_flag"="$run" ${flags[@]+"${flags[@]}"} >> "$run.log" 2>&1; then
      echo "failed; the end of $run.log:"
      tail -n 5 -- "$run.log" >&2
      exit 1
    fi
    tail -n 1 -- "$run.log"
  done
done
run_python "$root/scripts/results_table.py" -- "$out" > "$out/table.md"
echo
cat -- "$out/table.md"
