# SPDX-License-Identifier: Apache-2.0
"""Times a step of `--runner=jax`, and what it consists of.

  python benchmarks/jax_step.py                   # On the device that JAX sees.
  python benchmarks/jax_step.py "--only=script;program"
  python benchmarks/jax_step.py --model=resnet50
  python benchmarks/jax_step.py --model=resnet50 --devices=2
  python benchmarks/jax_step.py --model=resnet50_jpegs

With several devices, contestants run on one and on all of them, each of which
has the batch of one. Afterwards the variables of all devices are compared bit
by bit; the exit code is 1 if some differ.

`README.md` describes the contestants. `XLA_FLAGS` in the environment tries
options of the compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import argument_types
import numpy as np
import quiet
import rounds
from jax_contestants import MODELS, Contestant, named, on_devices

from rigl.pjrt import initialization
from rigl.runners.jax.executor import JaxExecutor
from rigl.tpu_check.collectives import find_collectives
from rigl.training.trainer import Trainer


class Worker:
  """Makes the steps of a contestant.

  Args:
    contestant: the contestant.
    build: builds the trainer of settings for a number of devices.
    steps: how many `run` makes.

  Raises:
    ValueError: if JAX sees another number of devices.
  """

  def __init__(
    self, contestant: Contestant, build: Callable[..., Trainer], steps: int
  ) -> None:
    flags = {**contestant.flags, "strategy": "default"}
    if contestant.devices > 1:
      flags["strategy"] = "mirrored"
    trainer = build(contestant.devices, **flags)
    trainer.directory.close()
    trainer.replicas.check_count(contestant.devices, "--devices")
    executor = trainer.executor
    assert isinstance(executor, JaxExecutor)
    self._executor, self._call, self._steps = executor, contestant.call, steps
    self._input_only = contestant.input_only
    self._iteration = 0
    self._batch: Any = None  # Of a stream whose program is timed alone.
    if contestant.metrics is not None:
      task: Any = trainer.state.task
      task.metric_names = contestant.metrics
    with contextlib.ExitStack() as stack:
      for patch in contestant.patches:
        stack.enter_context(patch)
      self.run()
    self.run()

  def run(self) -> float:
    """Makes the steps; returns the seconds of one."""
    start = time.perf_counter()
    if self._input_only:
      count = self._by_input()
    else:
      count = self._by_calls() if self._call else self._by_executor()
    return (time.perf_counter() - start) / count

  def compare_devices(self) -> str:
    """Says which variables are equal, bit by bit, and what a step exchanges.

    Raises:
      ValueError: if some differ.
    """
    executor = self._executor
    if names := executor.unequal_variables():
      raise ValueError(
        f"{len(names)} variables differ between devices: {', '.join(names)}"
      )
    state = executor.state
    exchanged = find_collectives(executor.compiled_step())
    return (
      f"equal bits on all devices ({len(state.task.trainable_variables)} "
      f"weights, {len(state.optimizer.layers)} masks, "
      f"{len(state.all_variables)} variables in all); exchanges in a step: "
      f"{exchanged.number}, {exchanged.num_bytes:,} bytes"
    )

  def _by_input(self) -> int:
    """Copies batches to the devices, and waits for each."""
    feed = self._executor._feed
    assert feed is not None
    for _ in range(self._steps):
      for array in feed.take().values():
        array.block_until_ready()
    return self._steps

  def _by_executor(self) -> int:
    count = 0
    while count < self._steps:
      progress = self._executor.advance(self._iteration, self._steps - count)
      self._iteration += progress.iterations
      count += progress.steps
    return count

  def _by_calls(self) -> int:
    """Waits for the device at the end alone."""
    count, sums = 0, None
    while count < self._steps:
      sums = self._called(sums)
      self._iteration += self._call
      count += self._call
    assert sums is not None
    for value in sums.values():
      float(value)
    return count

  def _called(self, sums: dict[str, Any] | None) -> dict[str, Any]:
    """Calls the program; that of a stream with one batch again and again."""
    executor = self._executor
    feed = executor._feed
    if feed is None:
      return executor._make_steps(self._iteration, self._call)
    if self._batch is None:
      self._batch = feed.take()
      feed.restart()
    if sums is None:
      sums = {name: v.numpy() for name, v in executor._zero_sums().items()}
    return executor._train(sums, self._batch, np.int64(self._iteration))


def speeds(
  results: Iterable[rounds.Result],
  contestants: Mapping[str, Contestant],
  batch: int,
) -> str:
  """Images per second as text, and how many times those of one device.

  Args:
    results: the results of the contestants.
    contestants: these, by their names in the results.
    batch: images per step of a device.
  """
  medians = {r.name: r.median for r in results}
  width = max(map(len, medians))
  lines = [f"{'images/s':{width}} {'median':>10} {'times one':>10}"]
  for name, median in medians.items():
    count = contestants[name].devices
    one = medians.get(name.removesuffix(named("", count)))
    times = f"{count * one / median:10.3f}" if one and count > 1 else ""
    lines.append(f"{name:{width}} {count * batch / median:10.0f} {times}")
  return "\n".join(line.rstrip() for line in lines)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--model", choices=sorted(MODELS), default="wrn_22_2")
  parser.add_argument(
    "--devices",
    type=argument_types.count,
    default=1,
    help="all GPUs, or parts of the CPU",
  )
  parser.add_argument("--only", help="names of contestants, by semicolons")
  parser.add_argument("--rounds", type=argument_types.count, default=10)
  parser.add_argument(
    "--steps",
    type=argument_types.count,
    help="of a round; default: 300, or 100 of ResNet-50",
  )
  parser.add_argument("--quick", action="store_true", help="small, 2 rounds")
  args = parser.parse_args()
  model = MODELS[args.model]
  known = model.contestants
  if args.devices > 1:
    known = on_devices(known, args.devices)
  names = args.only.split(";") if args.only else [*known]
  if unknown := [name for name in names if name not in known]:
    parser.error(f"--only: there is no {unknown[0]!r}, only {[*known]}.")
  args.contestants = {name: known[name] for name in names}
  args.steps, args.batch = args.steps or model.steps, model.batch
  if args.quick:
    args.rounds, args.steps, args.batch = 2, 4, model.quick_batch
    for name, contestant in args.contestants.items():
      call = min(contestant.call, 2)
      args.contestants[name] = contestant._replace(call=call)
  return args


def main() -> None:
  """Times the contestants in rounds, in one process, in random order."""
  args = _arguments()
  initialization.split_cpu(args.devices)
  workers: dict[str, Worker] = {}
  results: dict[str, rounds.Result] = {}
  with tempfile.TemporaryDirectory() as folder:
    build = MODELS[args.model].make(
      pathlib.Path(folder), args.batch, args.quick
    )
    for name, contestant in args.contestants.items():
      start = time.perf_counter()
      try:
        workers[name] = Worker(contestant, build, args.steps)
      except ValueError as error:
        sys.exit(f"{name}: {error}")
      passed = time.perf_counter() - start
      results[name] = rounds.Result(name, {"seconds": passed})
      print(f"{name}: ready after {passed:.0f} s", flush=True)
    shuffle = random.Random(0).shuffle
    order = [*workers]
    for _ in range(args.rounds):
      shuffle(order)
      for name in order:
        meter = quiet.OthersMeter(os.getpid())
        results[name].seconds.append(workers[name].run())
        results[name].others.append(meter.cores())
  print(rounds.table([*results.values()], next(iter(results))), flush=True)
  print(speeds(results.values(), args.contestants, args.batch), flush=True)
  for name, worker in workers.items():
    if args.contestants[name].devices > 1:
      try:
        print(f"{name}: {worker.compare_devices()}", flush=True)
      except ValueError as error:
        sys.exit(f"{name}: {error}")


if __name__ == "__main__":
  main()
