# SPDX-License-Identifier: Apache-2.0
"""Times the ImageNet script from its start to its first gradient step.

`README.md` describes the measurement and how to read it.
"""

import argparse
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

_SCRIPT = pathlib.Path(__file__).parents[1] / (
  "rigl/imagenet_resnet/imagenet_train_eval.py"
)
_FLAGS = (
  "--use_synthetic_data",
  "--training_method=rigl",
  "--mask_init_method=erdos_renyi_kernel",
  "--end_sparsity=0.8",
  "--first_layer_sparsity=-1",
  "--train_batch_size=16",
  "--train_steps=4",
  "--iterations_per_loop=1",
  "--export_model_freq=0",
  "--use_folder_stub=false",
)
_QUICK = ("--resnet_depth=18", "--width=0.1", "--image_size=32")
_STEP = re.compile(r"step (\d+): train loss")


def seconds_to_steps(flags: tuple[str, ...]) -> tuple[float, float, float]:
  """Runs the script.

  Args:
    flags: its flags; it makes four steps and reports each.

  Returns:
    Seconds to the first step and its report, the seconds of the last step, and
    the cores that others kept busy meanwhile (0 if unknown).

  Raises:
    SystemExit: if it fails.
  """
  with tempfile.TemporaryDirectory() as directory:
    command = [sys.executable, str(_SCRIPT), *flags]
    start = time.perf_counter()
    process = subprocess.Popen(
      [*command, f"--output_dir={directory}/run"],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    meter, times = quiet.OthersMeter(process.pid), {}
    for line in process.stdout or ():
      if match := _STEP.match(line):
        times[int(match[1])] = time.perf_counter() - start
        if len(times) == 4:
          others = meter.cores() or 0.0
    if process.wait() or len(times) < 4:
      sys.exit(f"error: {shlex.join(command)} failed.")
  return times[1], times[4] - times[3], others


def main() -> None:
  """Prints the seconds of every round and their median."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=argument_types.count, default=3)
  parser.add_argument(
    "--quick", action="store_true", help="one small round, to see that it works"
  )
  args = parser.parse_args()
  flags, rounds = _FLAGS, args.rounds
  if args.quick:
    flags, rounds = (*_FLAGS, *_QUICK), 1
  found = []
  for _ in range(rounds):
    first, step, others = seconds_to_steps(flags)
    found.append(first)
    print(
      f"first step after {first:.1f} s; the fourth took {step:.2f} s, others "
      f"kept {others:.2f} cores busy",
      flush=True,
    )
  print(f"median: {statistics.median(found):.1f} s")


if __name__ == "__main__":
  main()
