# SPDX-License-Identifier: Apache-2.0
"""Times a step of `--runner=jax`, and what it consists of.

  python benchmarks/jax_step.py                   # On the device that JAX sees.
  python benchmarks/jax_step.py "--only=script;program"
  python benchmarks/jax_step.py --model=resnet50

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
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import numpy as np
import quiet
import rounds

from rigl.cifar_resnet import augment, cifar_trainer
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet import imagenet_trainer
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.runners.jax.executor import JaxExecutor
from rigl.training.trainer import Trainer

_CALL = 100  # Steps that a call of a program makes by default.


class Contestant(NamedTuple):
  """A way to make steps.

  Attributes:
    flags: settings of the script that differ.
    call: steps per call of the bare program; 0: the executor makes the steps,
      as in a run, mask updates included.
    patches: what is replaced while the program is traced.
    metrics: the metrics that are added up. None: all.
  """

  flags: dict[str, Any] = {}
  call: int = 0
  patches: tuple[Any, ...] = ()
  metrics: tuple[str, ...] | None = None


_NO_CROP = mock.patch.object(
  augment, "random_crop_and_flip", lambda images, key: images
)
_NO_STANDARD = mock.patch.object(
  augment, "standardize", lambda images: images / np.float32(255)
)
_DENSE: dict[str, Any] = {"training_method": "baseline"}
_BFLOAT16: dict[str, Any] = {"precision": "bfloat16"}
CONTESTANTS = {
  "program": Contestant(_DENSE, _CALL),
  "script": Contestant(_DENSE),
  "script, RigL": Contestant(),
  "script, 1024 images": Contestant({**_DENSE, "use_synthetic_data": True}),
  "program, RigL": Contestant(call=_CALL),
  "program, 10 a call": Contestant(_DENSE, 10),
  "program, 1000 a call": Contestant(_DENSE, 1000),
  "program, no crops": Contestant(_DENSE, _CALL, (_NO_CROP,)),
  "program, raw images": Contestant(_DENSE, _CALL, (_NO_CROP, _NO_STANDARD)),
  "program, loss only": Contestant(_DENSE, _CALL, metrics=("loss",)),
  "program, bfloat16": Contestant({**_DENSE, **_BFLOAT16}, _CALL),
  "script, bfloat16": Contestant({**_DENSE, **_BFLOAT16}),
  "script, RigL, bfloat16": Contestant(_BFLOAT16),
}
# Every step of a stream is a call.
_STREAMED = {
  name: contestant._replace(call=min(contestant.call, 1))
  for name, contestant in CONTESTANTS.items()
  if name in ("program", "script", "script, RigL", "program, RigL")
}


class Worker:
  """Makes the steps of a contestant.

  Args:
    contestant: the contestant.
    build: builds the trainer of settings.
    steps: how many `run` makes.
  """

  def __init__(
    self, contestant: Contestant, build: Callable[..., Trainer], steps: int
  ) -> None:
    trainer = build(**contestant.flags)
    trainer.directory.close()
    executor = trainer.executor
    assert isinstance(executor, JaxExecutor)
    self._executor, self._call, self._steps = executor, contestant.call, steps
    self._iteration = 0
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
    count = self._by_calls() if self._call else self._by_executor()
    return (time.perf_counter() - start) / count

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
      sums = self._executor._make_steps(self._iteration, self._call)
      self._iteration += self._call
      count += self._call
    assert sums is not None
    for value in sums.values():
      float(value)
    return count


def cifar(folder: pathlib.Path, quick: bool) -> Callable[..., Trainer]:
  """Builds WRN-22-2 on as many random images as CIFAR-10 has."""
  rng = np.random.default_rng(0)
  size = 1 + 32 * 32 * 3
  for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
    rows = rng.integers(0, 256, [10_000, size], np.uint8)
    rows[:, 0] %= 10
    (folder / f"{name}.bin").write_bytes(rows.tobytes())
  sizes = {"resnet_depth": 22, "resnet_width": 2, "batch_size": 128}
  if quick:
    sizes = {"resnet_depth": 10, "resnet_width": 1, "batch_size": 4}

  def build(**flags: Any) -> Trainer:
    place = tempfile.mkdtemp(dir=folder)
    values = dict(
      runner="jax",
      strategy="default",
      training_method="rigl",
      mask_init_method="erdos_renyi_kernel",
      maskupdate_frequency=_CALL,
      data_directory=str(folder),
      train_dir=place,
      **sizes,
    )
    return cifar_trainer.build_trainer(CifarSettings(**{**values, **flags}))

  return build


def resnet50(folder: pathlib.Path, quick: bool) -> Callable[..., Trainer]:
  """Builds ResNet-50 in bfloat16, batch 256, on images that are not decoded."""
  sizes: dict[str, Any] = {"train_batch_size": 256}
  if quick:
    sizes = {"train_batch_size": 2, "width": 0.1, "image_size": 32}

  def build(**flags: Any) -> Trainer:
    values = dict(
      runner="jax",
      strategy="default",
      training_method="rigl",
      mask_init_method="erdos_renyi_kernel",
      end_sparsity=0.9,
      maskupdate_frequency=_CALL,
      precision="bfloat16",
      use_synthetic_data=True,
      use_folder_stub=False,
      mode="train",
      output_dir=tempfile.mkdtemp(dir=folder),
      **sizes,
    )
    settings = ImagenetSettings(**{**values, **flags})
    return imagenet_trainer.build_trainer(settings)

  return build


MODELS = {"wrn_22_2": (cifar, CONTESTANTS), "resnet50": (resnet50, _STREAMED)}


def main() -> None:
  """Times the contestants in rounds, in one process, in random order."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", choices=sorted(MODELS), default="wrn_22_2")
  parser.add_argument("--only", help="names of contestants, by semicolons")
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--steps", type=int, default=300, help="of a round")
  parser.add_argument("--quick", action="store_true", help="small, 2 rounds")
  args = parser.parse_args()
  make, known = MODELS[args.model]
  chosen = args.only.split(";") if args.only else [*known]
  if unknown := [name for name in chosen if name not in known]:
    parser.error(f"--only: there is no {unknown[0]!r}, only {[*known]}.")
  if args.quick:
    args.rounds, args.steps = 2, 4
  with tempfile.TemporaryDirectory() as folder:
    build = make(pathlib.Path(folder), args.quick)
    workers, results = {}, {}
    for name in chosen:
      start = time.perf_counter()
      contestant = known[name]
      if args.quick and contestant.call:
        contestant = contestant._replace(call=min(contestant.call, 2))
      workers[name] = Worker(contestant, build, args.steps)
      passed = time.perf_counter() - start
      results[name] = rounds.Result(name, {"seconds": passed})
      print(f"{name}: ready after {passed:.0f} s", flush=True)
    shuffle = random.Random(0).shuffle
    order = [*chosen]
    for _ in range(args.rounds):
      shuffle(order)
      for name in order:
        meter = quiet.OthersMeter(os.getpid())
        results[name].seconds.append(workers[name].run())
        results[name].others.append(meter.cores())
  print(rounds.table([*results.values()], chosen[0]), flush=True)


if __name__ == "__main__":
  main()
