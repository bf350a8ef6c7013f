# SPDX-License-Identifier: Apache-2.0
"""Runs of the CIFAR-10 script inside the test process, on tiny networks."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import script_runs

from rigl.cifar_resnet import resnet_train_eval

SCRIPT = pathlib.Path(resnet_train_eval.__file__)

TINY = (
  "--use_synthetic_data",
  "--resnet_depth=10",
  "--resnet_width=1",
  "--batch_size=32",
  "--dataset_size=320",
  "--max_steps=3",
)
# Schedules that fit into a few steps.
SHORT = (
  *TINY,
  "--max_steps=8",
  "--checkpoint_steps=4",
  "--summaries_steps=3",
  "--maskupdate_frequency=3",
  "--maskupdate_end_step=1000",
  "--sparsity_begin_step=1",
  "--sparsity_end_step=6",
  "--pruning_frequency=2",
)


class Shell(script_runs.Shell):
  """Runs the CIFAR-10 script."""

  def train(self, path: pathlib.Path, *arguments: Any) -> str:
    """Runs it on synthetic data below a directory; returns what it printed."""
    return self.done(*SHORT, f"--train_dir={path}", *arguments)


def only_run(path: pathlib.Path) -> pathlib.Path:
  """The directory of the only run below a --train_dir."""
  (found,) = path.rglob("run.json")
  return found.parent


def active(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """{layer: mask} of a checkpoint."""
  return {
    name.removesuffix("/mask"): values != 0
    for name, values in tensors.items()
    if name.endswith("/mask")
  }
