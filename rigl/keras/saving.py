# SPDX-License-Identifier: Apache-2.0
"""The state of a sparse optimizer in files; a mask is one bit per connection.

Keras saves an optimizer and then, by itself, the optimizer inside. So a
wrapper stores what is its own and no more.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.types import Tensor

# The number of sparse variables without a mask, where there are some.
NUM_COMPACT = "num_compact"

_WEIGHTS = np.array([128, 64, 32, 16, 8, 4, 2, 1])


def pack(mask: Tensor) -> Tensor:
  """Bits of a mask in uint8 [ceil(size / 8)], the first one the highest.

  Args:
    mask: bool tensor of static shape.
  """
  size = mask.shape.num_elements()
  bits = tf.pad(tf.cast(tf.reshape(mask, [-1]), tf.int32), [[0, -size % 8]])
  octets = tf.reshape(bits, [-1, 8]) * _WEIGHTS.astype("int32")
  return tf.cast(tf.reduce_sum(octets, 1), tf.uint8)


def unpack(octets: Tensor, shape: Sequence[int]) -> Tensor:
  """The inverse of `pack`: a bool tensor of a shape."""
  bits = tf.bitwise.bitwise_and(
    tf.cast(octets, tf.int32)[:, None], _WEIGHTS.astype("int32")
  )
  size = int(np.prod(shape))
  return tf.reshape(tf.reshape(bits > 0, [-1])[:size], shape)


def save_state(
  store: MutableMapping[str, Any],
  variables: Sequence[keras.Variable],
  masks: Sequence[keras.Variable],
  num_compact: int = 0,
) -> None:
  """Writes variables by number, and masks as bits with their shapes.

  Args:
    store: the place in the file.
    variables: the variables of the optimizer itself.
    masks: bool variables.
    num_compact: the number of sparse variables without a mask, which store
      only their active connections.
  """
  if num_compact:
    store[NUM_COMPACT] = np.int64(num_compact)
  for i, variable in enumerate(variables):
    store[str(i)] = variable.numpy()
  for i, mask in enumerate(masks):
    store[f"mask_{i}"] = np.packbits(mask.numpy())
    store[f"mask_shape_{i}"] = np.array(mask.shape, "int64")


def load_state(
  store: MutableMapping[str, Any],
  variables: Sequence[keras.Variable],
  masks: Sequence[keras.Variable],
  num_compact: int = 0,
) -> None:
  """Reads what `save_state` wrote, with the same arguments.

  Raises:
    ValueError: if the file has other variables or masks, before anything is
      changed.
  """
  numbers = [str(i) for i in range(len(variables))]
  places = range(len(masks))
  wanted = {*numbers, *(f"mask_{i}" for i in places)}
  wanted |= {f"mask_shape_{i}" for i in places}
  wanted |= {NUM_COMPACT} if num_compact else set()
  found = set(store.keys())
  if found != wanted:
    raise ValueError(
      f"The file must hold {len(masks)} masks and {len(variables)} further "
      f"variables of this sparse optimizer, got {_counts(found)}: it was "
      "written with another optimizer, method or model."
    )
  values = [np.asarray(store[number]) for number in numbers]
  shapes = [tuple(np.asarray(store[f"mask_shape_{i}"])) for i in places]
  for variable, shape in zip(
    [*variables, *masks], [*(v.shape for v in values), *shapes], strict=True
  ):
    if tuple(variable.shape) != tuple(shape):
      raise ValueError(
        f"The file must hold {variable.name!r} of shape "
        f"{tuple(variable.shape)}, got {tuple(map(int, shape))}."
      )
  for variable, number in zip(variables, numbers, strict=True):
    variable.assign(store[number])
  for i, mask in zip(places, masks, strict=True):
    size = int(np.prod(mask.shape))
    bits = np.unpackbits(np.asarray(store[f"mask_{i}"]), count=size)
    mask.assign(bits.reshape(tuple(mask.shape)).astype(bool))


def _counts(keys: set[str]) -> str:
  keys = keys - {NUM_COMPACT}
  masks = sum(key.startswith("mask_shape_") for key in keys)
  return f"{masks} masks and {len(keys) - 2 * masks} variables"


class MaskBits(tf.__internal__.tracking.Trackable):
  """The masks of an optimizer, as `tf.train.Checkpoint` stores them.

  Args:
    masks: bool variables.
  """

  def __init__(self, masks: Sequence[keras.Variable]) -> None:
    self._masks = list(masks)

  def _serialize_to_tensors(self) -> dict[str, Tensor]:
    return {
      str(i): pack(tf.convert_to_tensor(mask))
      for i, mask in enumerate(self._masks)
    }

  def _restore_from_tensors(self, restored: dict[str, Tensor]) -> None:
    for i, mask in enumerate(self._masks):
      mask.assign(unpack(restored[str(i)], tuple(mask.shape)))
