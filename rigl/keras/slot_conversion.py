# SPDX-License-Identifier: Apache-2.0
"""Slots of Keras optimizers as those of `tf.compat.v1.train`, and back.

Only what both have in the same meaning is converted: momentum of SGD, and the
moments of Adam.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from rigl.keras.wrapped import number_of

_MOMENTUM = "Momentum"
_ADAM = ("Adam", "Adam_1")


def to_tensors(
  optimizer: keras.optimizers.Optimizer, names: Mapping[str, str]
) -> dict[str, np.ndarray]:
  """The slots of a Keras optimizer under the names of TensorFlow 1.

  Keras moves a weight by v = m * v - rate * g, TensorFlow 1 by -rate * a with
  a = m * a + g. So a = -v / rate, with the rate of the next step; it is zero
  where that is.

  Args:
    optimizer: a built optimizer, not a sparse one.
    names: {path of a variable: its name in the checkpoint}.

  Returns:
    Arrays by name; none for an optimizer that has no counterpart.
  """
  tensors: dict[str, np.ndarray] = {}
  for path, slots in _slots(optimizer).items():
    for suffix, slot in slots.items():
      tensors[f"{names[path]}/{suffix}"] = slot.numpy()
  if _has_momentum(optimizer):
    rate = _rate(optimizer)
    for name, value in tensors.items():
      tensors[name] = -value / rate if rate else np.zeros_like(value)
  if _is_adam(optimizer):
    step = number_of(optimizer.iterations) + 1
    for number in (1, 2):
      beta = getattr(optimizer, f"beta_{number}")
      tensors[f"beta{number}_power"] = np.array(beta**step, np.float32)
  return tensors


def read_tensors(
  optimizer: keras.optimizers.Optimizer,
  tensors: Mapping[str, np.ndarray],
  names: Mapping[str, str],
) -> dict[int, np.ndarray]:
  """The values of the slots of a Keras optimizer from a checkpoint.

  Args:
    optimizer: a built optimizer, not a sparse one. Its `iterations` are those
      of the checkpoint already.
    tensors: the checkpoint.
    names: {path of a variable: its name in the checkpoint}.

  Returns:
    {id of a slot: value}; empty if the checkpoint has not all slots of the
    optimizer.
  """
  factor = np.float32(-_rate(optimizer) if _has_momentum(optimizer) else 1.0)
  values = {}
  for path, slots in _slots(optimizer).items():
    for suffix, slot in slots.items():
      name = f"{names[path]}/{suffix}"
      if name not in tensors:
        return {}
      values[id(slot)] = factor * tensors[name]
  return values


def _slots(
  optimizer: keras.optimizers.Optimizer,
) -> dict[str, dict[str, keras.Variable]]:
  """{path of a variable: {suffix in TensorFlow 1: slot}}."""
  if _has_momentum(optimizer):
    lists = {_MOMENTUM: optimizer.momentums}
  elif _is_adam(optimizer):
    moments = (optimizer._momentums, optimizer._velocities)
    lists = dict(zip(_ADAM, moments, strict=True))
  else:
    return {}
  return {
    variable.path: {suffix: slots[i] for suffix, slots in lists.items()}
    for i, variable in enumerate(optimizer._trainable_variables)
  }


def _has_momentum(optimizer: Any) -> bool:
  return isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum > 0


def _is_adam(optimizer: Any) -> bool:
  is_one = isinstance(optimizer, keras.optimizers.Adam)
  return is_one and not optimizer.amsgrad


def _rate(optimizer: keras.optimizers.Optimizer) -> float:
  """The learning rate of the next step."""
  return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
