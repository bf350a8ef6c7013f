# SPDX-License-Identifier: Apache-2.0
"""Masks in files: one bit for each connection."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from rigl.types import Tensor

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
