# SPDX-License-Identifier: Apache-2.0
"""Exact top-k masks and drop and grow of one layer of any shape.

Compiled by XLA once per size of layer; `MaskEngine` does the same for all
layers of a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rigl.mask_ops.engine import (
  check_fraction,
  drop_and_grow_of_layer,
  top_k_of_layer,
)
from rigl.mask_ops.random import random_bits
from rigl.mask_ops.selection import DropGrow
from rigl.types import Tensor


def top_k_mask(
  scores: Tensor, k: Tensor | int, candidates: Tensor | None = None
) -> Tensor:
  """Returns a mask of the `k` highest scores; exact, ties by index.

  The order is that of the real numbers, with +0 equal to -0 and NaN below
  -inf, so a NaN is chosen only when nothing else is left; the lowest int32
  equals the one above it. Of equal scores, the one with the lower flat
  (row-major) index is chosen first.

  Args:
    scores: float32, float64, bfloat16, float16 or int32 tensor of any static
      shape. float64 is compared as float32.
    k: int32 scalar, the number of ones, from 0 to the number of candidates
      (a larger k is clipped to it).
    candidates: bool tensor of the same shape; only these can be chosen. None:
      all.

  Returns:
    bool tensor with the shape of `scores`.

  Raises:
    ValueError: if the shape is not static or the dtype is not one of these.
  """
  scores = _tensor("scores", scores)
  if not scores.shape.is_fully_defined():
    raise ValueError(
      f"`scores` must have a static shape, got {scores.shape}; set it with "
      "tf.ensure_shape."
    )
  if candidates is not None:
    candidates = _tensor("candidates", candidates, tf.bool)
    if candidates.shape != scores.shape:
      raise ValueError(
        f"`candidates` must have the shape of `scores`, {scores.shape}, got "
        f"{candidates.shape}."
      )
    candidates = tf.reshape(candidates, [-1])
  if not scores.shape.num_elements():
    return tf.zeros(scores.shape, tf.bool)
  k = _tensor("k", k)
  if not k.dtype.is_integer or k.shape.rank not in (0, None):
    raise ValueError(f"`k` must be an integer, got {k}.")
  k = tf.cast(tf.clip_by_value(tf.cast(k, tf.int64), 0, 2**31 - 1), tf.int32)
  mask = top_k_of_layer(tf.reshape(scores, [-1]), k, candidates)
  return tf.reshape(mask, scores.shape)


def random_mask(
  shape: Sequence[int], num_ones: Tensor | int, key: Tensor
) -> Tensor:
  """Returns a mask with exactly `num_ones` ones at random places.

  Args:
    shape: static shape of the mask.
    num_ones: int32 scalar from 0 to the number of elements.
    key: uint32 [2]; the mask is a function of it and of the shape.

  Returns:
    bool tensor of that shape.

  Raises:
    ValueError: if an argument is not as described.
  """
  try:
    static = tf.TensorShape(shape)
  except (TypeError, ValueError):
    static = tf.TensorShape(None)
  if not static.is_fully_defined():
    raise ValueError(f"`shape` must be a static shape, got {shape}.")
  bits = tf.bitcast(random_bits(static.num_elements(), key), tf.int32)
  return tf.reshape(top_k_mask(bits, num_ones), static)


def drop_and_grow(
  drop_scores: Tensor,
  mask: Tensor,
  grow_scores: Tensor,
  drop_fraction: Tensor | float,
) -> DropGrow:
  """Drops the lowest active connections and grows as many of the highest.

  With n_ones active connections, n_drop = int(float32(n_ones) *
  drop_fraction) is computed in float32 and truncated. The n_ones - n_drop
  active connections of the highest drop score are kept; n_drop are grown
  among all that are not kept, so that a connection can be dropped and grown
  back at once (Evci et al., 2020, https://arxiv.org/abs/1911.11134, Alg. 1).
  Only active connections can be kept, whatever noise the drop scores hold.

  Args:
    drop_scores: float tensor; large values are kept.
    mask: bool tensor of the same shape, the current mask.
    grow_scores: float or int32 tensor of the same shape; large values grow.
    drop_fraction: float32 scalar in [0, 1].

  Returns:
    The new mask, with exactly as many ones as `mask`, and the grown
    connections.

  Raises:
    ValueError: if shapes differ, a dtype is not as described, or
      `drop_fraction` is a number outside of [0, 1].
  """
  mask = _tensor("mask", mask, tf.bool)
  drop_scores = _tensor("drop_scores", drop_scores)
  grow_scores = _tensor("grow_scores", grow_scores)
  for name, scores in (
    ("drop_scores", drop_scores),
    ("grow_scores", grow_scores),
  ):
    if scores.shape != mask.shape:
      raise ValueError(
        f"`{name}` must have the shape of `mask`, {mask.shape}, got "
        f"{scores.shape}."
      )
  check_fraction(drop_fraction)
  if mask.shape.num_elements() == 0:
    return DropGrow(mask=mask, grown=mask)
  flat = (tf.reshape(t, [-1]) for t in (drop_scores, mask, grow_scores))
  result = drop_and_grow_of_layer(*flat, tf.cast(drop_fraction, tf.float32))
  return DropGrow(*(tf.reshape(part, mask.shape) for part in result))


def _tensor(name: str, value: Any, dtype: tf.DType | None = None) -> Tensor:
  """A tensor, which an error calls by the name of its argument."""
  try:
    tensor = tf.convert_to_tensor(value)
  except (TypeError, ValueError):
    raise ValueError(f"`{name}` must be a tensor, got {value!r}.") from None
  if dtype is not None and tensor.dtype != dtype:
    raise ValueError(f"`{name}` must be {dtype.name}, got {tensor.dtype.name}.")
  return tensor
