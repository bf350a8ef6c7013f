# SPDX-License-Identifier: Apache-2.0
"""Times whole MNIST trainings of a wide MLP, truly sparse and masked.

`README.md` describes the measurement and how to read it.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import argument_types
import quiet
import rounds

_SCRIPT = pathlib.Path(__file__).parents[1] / "rigl/mnist/mnist_train_eval.py"
# Flags of the contestants; the first one is what ratios refer to.
_FORMS = {
  "csr": ("--sparse_compute=csr",),
  "masked": ("--sparse_compute=none", "--jit_compile=false"),
  "masked_xla": ("--sparse_compute=none",),
}


def main() -> None:
  """Trains with every form and seed, and prints two tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--width", type=argument_types.count, default=4000)
  parser.add_argument("--sparsity", type=argument_types.sparsity, default=0.95)
  parser.add_argument("--epochs", type=argument_types.count, default=2)
  parser.add_argument(
    "--seeds", type=argument_types.count, default=3, help="how many runs each"
  )
  parser.add_argument("--forms", nargs="+", choices=_FORMS, default=[*_FORMS])
  parser.add_argument(
    "--json",
    type=argument_types.output,
    help="file to write all measurements to",
  )
  parser.add_argument(
    "--quick", action="store_true", help="one small run, to see that it works"
  )
  args = parser.parse_args()
  if args.quick:
    args.width, args.epochs, args.seeds = 64, 1, 1
  print(
    f"784-{args.width}-{args.width}-10, {args.sparsity:.1%} sparse, RigL, "
    f"{args.epochs} epoch(s) of MNIST, batch 100: whole runs of the script."
  )
  results = {name: rounds.Result(name, {}) for name in args.forms}
  accuracies: dict[str, list[float]] = {name: [] for name in args.forms}
  peaks: dict[str, list[float]] = {name: [] for name in args.forms}
  for seed in range(args.seeds):
    for name in args.forms[seed % 2 :] + args.forms[: seed % 2]:
      seconds, others, accuracy, peak = run(flags_of(name, seed, args))
      results[name].seconds.append(seconds)
      results[name].others.append(others)
      accuracies[name].append(accuracy)
      peaks[name].append(peak)
      print(
        f"{name}, seed {seed}: {seconds:.1f} s, test accuracy "
        f"{accuracy:.2%}, peak {peak:.0f} MiB",
        flush=True,
      )
  print(rounds.table([*results.values()], args.forms[0]))
  print(table(accuracies, peaks))
  if args.json:
    content = {
      "settings": vars(args),
      "seconds": {name: r.seconds for name, r in results.items()},
      "others": {name: r.others for name, r in results.items()},
      "accuracy": accuracies,
      "peak_mib": peaks,
    }
    text = json.dumps(content, indent=2) + "\n"
    pathlib.Path(args.json).write_text(text, "utf-8")


def flags_of(name: str, seed: int, args: argparse.Namespace) -> list[str]:
  """The flags of a run.

  Args:
    name: a key of `_FORMS`.
    seed: seed of the run.
    args: the arguments of this script.
  """
  units = f"({args.width}, {args.width}, 10)"
  return [
    "--training_method=rigl",
    f"--end_sparsity={args.sparsity}",
    "--sparsity_scale=1",
    "--learning_rate=0.05",
    f"--num_epochs={args.epochs}",
    "--checkpoint_epochs=1",
    f"--maskupdate_end_step={450 * args.epochs}",
    f"--seed={seed}",
    f"--gin_bindings=MnistFc.units = {units}",
    *_FORMS[name],
  ]


def run(flags: list[str]) -> tuple[float, float | None, float, float]:
  """Runs the script to its end.

  Args:
    flags: its flags.

  Returns:
    Seconds, the cores that others kept busy, the test accuracy, and the peak
    of the resident memory in MiB.

  Raises:
    SystemExit: if it fails.
  """
  with tempfile.TemporaryDirectory() as directory:
    command = [sys.executable, str(_SCRIPT), *flags, f"--save_path={directory}"]
    start = time.perf_counter()
    process = subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    meter = quiet.OthersMeter(process.pid)
    output = process.stdout.read()
    others, seconds = meter.cores(), time.perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"Test accuracy: ([\d.]+)", output)
    if process.returncode or not found:
      sys.exit(f"error: {shlex.join(command)} failed.")
  return seconds, others, float(found[1]), usage.ru_maxrss / 1024


def table(
  accuracies: dict[str, list[float]], peaks: dict[str, list[float]]
) -> str:
  """Mean and range of the accuracies, and the highest peak, as text.

  Args:
    accuracies: of each seed, by form.
    peaks: peaks of resident memory in MiB, by form.
  """
  width = max(map(len, accuracies))
  rows = [f"{'':{width}} {'accuracy':>10} {'min':>10} {'max':>10} {'MiB':>10}"]
  for name, found in accuracies.items():
    cells = (statistics.mean(found), min(found), max(found))
    text = " ".join(f"{100 * value:10.2f}" for value in cells)
    rows.append(f"{name:{width}} {text} {max(peaks[name]):10.0f}")
  return "\n".join(rows)


if __name__ == "__main__":
  main()
