# SPDX-License-Identifier: Apache-2.0
"""Runs of the MNIST script inside the test process.

They train on synthetic data, 10 iterations an epoch, and nothing but the
top-k is compiled by XLA, which costs seconds a run otherwise.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import script_runs
from script_runs import (
  assert_same_results,
  assert_same_tensors,
  final_tensors,
  metrics,
  without_timing,
)

from rigl.mnist import mnist_train_eval
from rigl.mnist.mask_records import MaskRecords

__all__ = [
  "assert_same_tensors",
  "final_tensors",
  "metrics",
  "without_timing",
]

SCRIPT = pathlib.Path(mnist_train_eval.__file__)
EPOCH = 10

# Schedules that fit into a few epochs of 10 iterations.
SHORT = (
  "--use_synthetic_data",
  "--learning_rate=0.1",
  "--num_epochs=2",
  "--maskupdate_frequency=4",
  "--maskupdate_end_step=1000",
  "--prune_begin_step=2",
  "--prune_end_step=14",
  "--pruning_frequency=3",
)


class Shell(script_runs.Shell):
  """Runs the MNIST script."""

  def train(self, path: pathlib.Path, *arguments: Any) -> str:
    """Runs it on synthetic data in a directory; returns what it printed."""
    return self.done(*SHORT, f"--save_path={path}", *arguments)


def records(path: pathlib.Path) -> dict[int, dict[str, np.ndarray]]:
  """{iteration: {layer: mask}} of mask_records.npz."""
  found = MaskRecords.load(path / "mask_records.npz")
  return {
    int(iteration): {name: found.mask(name, i) for name in found.layer_names}
    for i, iteration in enumerate(found.iterations)
  }


def assert_same_run(first: pathlib.Path, second: pathlib.Path) -> None:
  """Two directories hold the same weights, masks, metrics and results."""
  assert_same_results(first, second)
  both = [(path / "mask_records.npz").exists() for path in (first, second)]
  assert both[0] == both[1]
  if not both[0]:
    return
  a, b = records(first), records(second)
  assert a.keys() == b.keys()
  for iteration in a:
    for name, mask in a[iteration].items():
      np.testing.assert_array_equal(mask, b[iteration][name])
