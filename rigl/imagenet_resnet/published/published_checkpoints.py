# SPDX-License-Identifier: Apache-2.0
"""Converter of published checkpoints into ones that our runs restore.

Published checkpoints lack the number of iterations and the data cursor, and
hold raw weights and slots also where the mask is 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rigl.sparse_optimizers import SparseOptimizer
from rigl.tensor_names import GLOBAL_STEP, is_mask, layer_of, weights_of
from rigl.training.train_state import ITERATION
from rigl.training.warm_start import effective_weights

# SNFS: the average of the gradient with respect to a layer's masked weights.
_AVERAGE = re.compile(
  r"train/gradients.*/(?P<layer>[^/]+)/[^/]+_grad/tuple/"
  r"control_dependency\w*/ExponentialMovingAverage"
)


def is_published(tensors: Mapping[str, Any]) -> bool:
  """Whether the published code wrote a checkpoint, given as tensors by name."""
  return ITERATION not in tensors


def adapted(
  tensors: Mapping[str, np.ndarray],
  optimizer: SparseOptimizer,
  steps_per_epoch: float,
) -> dict[str, np.ndarray]:
  """Adds the tensors that a run needs to resume from a published checkpoint.

  Args:
    tensors: the checkpoint; one of our own stays as it is.
    optimizer: the optimizer of the run.
    steps_per_epoch: steps per epoch.

  Returns:
    Tensors by our names: masked weights and slots, the number of iterations up
    to that step, and the cursor of the start of its epoch.
  """
  if not is_published(tensors):
    return dict(tensors)
  found = effective_weights(tensors)
  found.update(_averages(tensors))
  for name, value in tensors.items():
    if is_mask(name):
      weights = weights_of(name)
      _mask_slots(found, weights, value != 0)
      if weights in tensors:
        found[f"{weights}/dense"] = tensors[weights]  # DNW keeps them.
  step = int(tensors.get(GLOBAL_STEP, 0))
  updates = _num_updates(tensors, optimizer)
  found[ITERATION] = np.array(step + updates, np.int64)
  found["data_position"] = np.array([step // steps_per_epoch, 0], np.int64)
  return found


def _averages(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The averaged gradients of SNFS by our names."""
  masks = {layer_of(n).rsplit("/", 1)[-1]: n for n in tensors if is_mask(n)}
  found = {}
  for name, value in tensors.items():
    match = _AVERAGE.fullmatch(name)
    if match and match["layer"] in masks:
      weights = weights_of(masks[match["layer"]])
      found[f"{weights}/ExponentialMovingAverage"] = value
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
