# SPDX-License-Identifier: Apache-2.0
"""The contestants that `jax_step.py` times, and the networks they train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
import jax_trainers
import numpy as np

from rigl.cifar_resnet import augment
from rigl.distribution import xla_replicas
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
    devices: how many make its steps.
    input_only: whether batches are copied to the devices, and no steps made.
  """

  flags: dict[str, Any] = {}
  call: int = 0
  patches: tuple[Any, ...] = ()
  metrics: tuple[str, ...] | None = None
  devices: int = 1
  input_only: bool = False


_NO_CROP = mock.patch.object(
  augment, "random_crop_and_flip", lambda images, key: images
)
_NO_STANDARD = mock.patch.object(
  augment, "standardize", lambda images: images / np.float32(255)
)
_SINGLE_SUMS = mock.patch.object(
  xla_replicas, "totals", lambda values: [*map(xla_replicas.total, values)]
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
_MAIN = ("program", "script", "program, RigL", "script, RigL")
# Every step of a stream is a call.
_STREAMED = {
  name: CONTESTANTS[name]._replace(call=min(CONTESTANTS[name].call, 1))
  for name in _MAIN
}
_DECODED = {"input": Contestant(_DENSE, input_only=True), **_STREAMED}


def on_devices(
  known: dict[str, Contestant], count: int
) -> dict[str, Contestant]:
  """The main contestants on one device and on several.

  Args:
    known: contestants on one device.
    count: number of devices.
  """
  found = {n: c for n, c in known.items() if n in _MAIN or c.input_only}
  single = known["program"]._replace(patches=(_SINGLE_SUMS,))
  several = {**found, "program, single sums": single}
  for name, contestant in several.items():
    found[named(name, count)] = contestant._replace(devices=count)
  return found


def named(name: str, devices: int) -> str:
  """The name of a contestant on several devices.

  Args:
    name: its name on one device.
    devices: number of devices.
  """
  return f"{name}, {devices} devices" if devices > 1 else name


class Model(NamedTuple):
  """A network to train.

  Attributes:
    make: makes the function that builds it.
    contestants: what can be timed.
    steps: steps of a round.
    batch: images per step of a device.
    quick_batch: those of `--quick`.
  """

  make: Callable[..., Callable[..., Trainer]]
  contestants: dict[str, Contestant]
  steps: int
  batch: int
  quick_batch: int


MODELS = {
  "wrn_22_2": Model(jax_trainers.cifar, CONTESTANTS, 300, 128, 4),
  "resnet50_jpegs": Model(jax_trainers.resnet50_jpegs, _DECODED, 100, 256, 2),
  "resnet50": Model(jax_trainers.resnet50, _STREAMED, 100, 256, 2),
}
