# SPDX-License-Identifier: Apache-2.0
"""Random numbers for masks: functions of a seed, a layer's name and a step.

A counter-based generator made of integer operations alone, so that XLA, eager
TensorFlow and every replica agree bit for bit. It breaks ties and chooses
connections; it is not for cryptography.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rigl.checks import check_integer
from rigl.types import Tensor

_ROW = 1024
_HASH_STEPS = ((16, 0x7FEB352D), (15, 0x846CA68B))


def hash_key(seed: int, name_hash: int | Sequence[int], step: Tensor) -> Tensor:
  """Returns the uint32 [2] key of the random numbers of one layer and step.

  Args:
    seed: the seed of the run, a Python int.
    name_hash: a hash of the layer's name that is the same in every process,
      such as CRC-32; or the hashes of n layers, whose keys are made at once.
    step: int scalar.

  Returns:
    uint32 [2], the `key` of `random_bits`; for n layers [n, 2].

  Raises:
    ValueError: if `seed` is no integer.
  """
  check_integer("seed", seed)
  low = tf.bitwise.bitwise_and(tf.cast(step, tf.int64), 0x7FFFFFFF)
  step_bits = tf.bitcast(tf.cast(low, tf.int32), tf.uint32)
  first = _mix(_uint32(seed) + _uint32(name_hash) * _uint32(0x9E3779B9))
  second = _mix(first + _mix(step_bits + _uint32(0x85EBCA6B)))
  return tf.stack([_mix(first ^ second), second], -1)


def random_bits(
  size: int, key: Tensor, positions: Tensor | None = None
) -> Tensor:
  """Returns 32 random bits per index, the same on every device.

  The index is hashed twice, with the two words of the key. That is several
  times faster than the generators of TensorFlow, which matters in mask updates
  of large layers.

  Args:
    size: how many.
    key: uint32 [2].
    positions: int32 [size], the indices, to get some of the numbers of a large
      layer. None: 0 to size - 1.

  Returns:
    uint32 [size].

  Raises:
    ValueError: if an argument is not as described.
  """
  check_integer("size", size, 0)
  if not tf.is_tensor(key) or key.dtype != tf.uint32 or key.shape != (2,):
    raise ValueError(f"`key` must be uint32 [2], as of `hash_key`, got {key}.")
  if positions is not None:
    index = tf.bitcast(positions, tf.uint32) + key[0]
    return _mix(_mix(index) + key[1])
  # Row by row: TensorFlow would turn one range of all indices into a constant
  # of that size.
  rows = _ROW * tf.range(-(-size // _ROW), dtype=tf.int32)
  rows, columns = (
    tf.bitcast(part, tf.uint32) for part in (rows, tf.range(_ROW))
  )
  index = (rows + key[0])[:, None] + columns  # Plus the key, modulo 2**32.
  return _mix(_mix(tf.reshape(index, [-1])[:size]) + key[1])


def random_uniform(
  size: int, key: Tensor, positions: Tensor | None = None
) -> Tensor:
  """Returns float32 [size], uniform in [0, 1) with 24 random bits each.

  Args:
    size: how many.
    key: uint32 [2].
    positions: as in `random_bits`.
  """
  bits = random_bits(size, key, positions)
  bits = tf.bitwise.right_shift(bits, _uint32(8))
  return tf.cast(tf.bitcast(bits, tf.int32), tf.float32) * (1.0 / 2**24)


def approximate_normal(
  size: int, key: Tensor, positions: Tensor | None = None
) -> Tensor:
  """Returns float32 [size], approximately normal: mean 0, deviation 1.

  The sum of four uniform 16-bit numbers (two of them hashed from the same
  bits): bell-shaped, bounded by +-3.47. Enough for noise that breaks ties.

  Args:
    size: how many.
    key: uint32 [2].
    positions: as in `random_bits`.
  """
  bits = random_bits(size, key, positions)
  more = bits * _uint32(0x9E3779B9)
  total = sum(
    tf.bitwise.bitwise_and(word, _uint32(0xFFFF))
    + tf.bitwise.right_shift(word, _uint32(16))
    for word in (bits, more)
  )
  centred = tf.cast(tf.bitcast(total, tf.int32), tf.float32) - 2.0 * 65535
  return centred * (1.0 / 37837.2)  # sqrt(4 * (2**32 - 1) / 12)


def _uint32(value: int | Sequence[int]) -> Tensor:
  if isinstance(value, Sequence):
    return tf.constant([int(each) & 0xFFFFFFFF for each in value], tf.uint32)
  return tf.constant(int(value) & 0xFFFFFFFF, tf.uint32)


def _mix(bits: Tensor) -> Tensor:
  """A bijective 32-bit finalizer of two multiply-and-xorshift rounds."""
  for shift, factor in _HASH_STEPS:
    bits = bits ^ tf.bitwise.right_shift(bits, _uint32(shift))
    bits = bits * _uint32(factor)
  return bits ^ tf.bitwise.right_shift(bits, _uint32(16))
