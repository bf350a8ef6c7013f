# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the published code, made into what our runs restore.

They lack the count of iterations and the position in the data, and hold raw
weights and slots also where the mask is 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.train_state import ITERATION
from rigl.training.warm_start import effective_weights

_MASK, _WEIGHTS = "/mask", "/weights"
# SNFS: the average of the gradient with respect to a layer's masked weights.
_AVERAGE = re.compile(
  r"train/gradients.*/(?P<layer>[^/]+)/[^/]+_grad/tuple/"
  r"control_dependency\w*/ExponentialMovingAverage"
)


def is_published(tensors: Mapping[str, Any]) -> bool:
  """Whether a checkpoint, tensors by name, is not one of our runs'."""
  return ITERATION not in tensors


def adapted(
  tensors: Mapping[str, np.ndarray],
  optimizer: SparseOptimizer,
  steps_per_epoch: float,
) -> dict[str, np.ndarray]:
  """Adds what a run needs to go on from a published checkpoint.

  Args:
    tensors: the checkpoint; one of our own stays as it is.
    optimizer: the optimizer of the run.
    steps_per_epoch: steps an epoch.

  Returns:
    Tensors by our names: weights times masks, slots alike, the number of
    iterations that made so many steps, and the start of the epoch that they
    had come to.
  """
  if not is_published(tensors):
    return dict(tensors)
  found = effective_weights(tensors)
  found.update(_averages(tensors))
  for name, value in tensors.items():
    if name.endswith(_MASK):
      weights = name.removesuffix(_MASK) + _WEIGHTS
      _mask_slots(found, weights, value != 0)
      if weights in tensors:
        found[f"{weights}/dense"] = tensors[weights]  # DNW keeps them.
  step = int(tensors.get("global_step", 0))
  updates = _num_updates(tensors, optimizer)
  found[ITERATION] = np.array(step + updates, np.int64)
  found["data_position"] = np.array([step // steps_per_epoch, 0], np.int64)
  return found


def _averages(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The averaged gradients of SNFS by our names."""
  layers = [n.removesuffix(_MASK) for n in tensors if n.endswith(_MASK)]
  scopes = {layer.rsplit("/", 1)[-1]: layer for layer in layers}
  found = {}
  for name, value in tensors.items():
    match = _AVERAGE.fullmatch(name)
    if match and match["layer"] in scopes:
      scope = scopes[match["layer"]]
      found[f"{scope}{_WEIGHTS}/ExponentialMovingAverage"] = value
  return found


def _mask_slots(
  found: dict[str, np.ndarray], weights: str, mask: np.ndarray
) -> None:
  for name, value in found.items():
    if (
      name.startswith(f"{weights}/")
      and np.shape(value) == mask.shape
      and not name.endswith("/ExponentialMovingAverage")
    ):
      found[name] = np.where(mask, value, 0)


def _num_updates(
  tensors: Mapping[str, np.ndarray], optimizer: SparseOptimizer
) -> int:
  """How many mask updates took the place of a step."""
  if not optimizer.update_is_iteration:
    return 0
  if "is_snipped" in tensors:
    return int(tensors["is_snipped"])
  last = int(tensors.get("last_mask_update_step", -1))
  return optimizer.num_updates_before(last + 1)
