"""Mask arithmetic: exact top-k masks, drop and grow, and position hashes.

Tensors in, tensors out; variables, names, schedules and flags live elsewhere.

The k-th largest score is found without sorting. Scores become integers of the
same order, and the bits of the k-th largest are fixed one by one, from the
highest, by counting how many scores reach a candidate. Every pass has static
shapes and reads the scores once, so that it compiles under XLA for CPU, GPU
and TPU; ties are broken by position. The number of ones is always exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

Tensor = Any  # tf.Tensor; an alias, because TensorFlow ships no types.

# Below every key of a real score: what must not be taken.
LOWEST_KEY = -(2**31)
BITS = 32
# Counting adds ones as float32 in rows, which is exact and, as a product with
# a vector of ones, about five times faster than an integer sum on a CPU. Rows
# that need no filling up save a copy.
_ROW, _ROW_RANGE = 1024, range(2048, 255, -1)
_HASH_STEPS = ((16, 0x7FEB352D), (15, 0x846CA68B))


class DropGrow(NamedTuple):
  """The result of one drop and grow of a layer.

  Attributes:
    mask: bool, shape of the weights; the new mask.
    grown: bool, same shape; connections that the growth chose. The part of
      them that was inactive before is `grown & ~old_mask`.
  """

  mask: Tensor
  grown: Tensor


def top_k_mask(
  scores: Tensor, k: Tensor, candidates: Tensor | None = None
) -> Tensor:
  """Returns a mask of the `k` highest scores; exact, ties by position.

  The order is that of the real numbers, with +0 equal to -0 and NaN below
  -inf, so a NaN is taken only when nothing else is left; the lowest int32
  equals the one above it. Of equal scores, the one with the lower flat
  (row-major) index is taken first.

  Args:
    scores: float32, bfloat16, float16 or int32 tensor of any static shape.
    k: int32 scalar, the number of ones, from 0 to the number of candidates
      (a larger k is clipped to it).
    candidates: bool tensor of the same shape; only these can be taken. None:
      all.

  Returns:
    bool tensor with the shape of `scores`.

  Raises:
    ValueError: if the shape is not static or the dtype is not one of these.
  """
  scores = tf.convert_to_tensor(scores)
  if not scores.shape.is_fully_defined():
    raise ValueError(
      f"`scores` must have a static shape, got {scores.shape}; set it with "
      "tf.ensure_shape."
    )
  if candidates is not None and candidates.shape != scores.shape:
    raise ValueError(
      f"`candidates` must have the shape of `scores`, {scores.shape}, got "
      f"{candidates.shape}."
    )
  k = tf.cast(tf.minimum(tf.cast(k, tf.int64), 2**31 - 1), tf.int32)
  size = scores.shape.num_elements()
  available = (
    tf.constant(size) if candidates is None else count_ones(candidates)
  )
  if size == 0:
    return tf.zeros(scores.shape, tf.bool)
  allowed = tf.ones([1], tf.bool)
  if candidates is not None:
    allowed = tf.reshape(candidates, [-1])
  k = tf.clip_by_value(k, 0, available)
  mask = _top_k_flat(tf.reshape(scores, [-1]), allowed, k)
  return tf.reshape(mask, scores.shape)


def random_mask(shape: Any, num_ones: Tensor, key: Tensor) -> Tensor:
  """Returns a mask with exactly `num_ones` ones at random positions.

  Args:
    shape: static shape of the mask.
    num_ones: int32 scalar from 0 to the number of positions.
    key: uint32 [2]; the mask is a function of it and of the shape.

  Returns:
    bool tensor of that shape.
  """
  shape = tf.TensorShape(shape)
  bits = tf.bitcast(random_bits(shape.num_elements(), key), tf.int32)
  return tf.reshape(top_k_mask(bits, num_ones), shape)


def drop_and_grow(
  drop_scores: Tensor,
  mask: Tensor,
  grow_scores: Tensor,
  drop_fraction: Tensor,
) -> DropGrow:
  """Drops the lowest active connections and grows as many of the highest.

  With n_ones active connections, n_prune = int(float32(n_ones) *
  drop_fraction) is computed in float32 and truncated. The n_ones - n_prune
  active connections of the highest drop score are kept; n_prune are grown
  among all that are not kept, so that a connection can be dropped and grown
  back at once (Evci et al., 2020, https://arxiv.org/abs/1911.11134, Alg. 1).
  Only active connections can be kept, whatever noise the drop scores hold.

  Args:
    drop_scores: float tensor; large values are kept.
    mask: bool tensor of the same shape, the current mask.
    grow_scores: float or int32 tensor of the same shape; large values grow.
    drop_fraction: float32 scalar in [0, 1].

  Returns:
    The new mask, with exactly as many ones as `mask`, and what was grown.
  """
  mask = tf.convert_to_tensor(mask)
  if mask.shape.num_elements() == 0:
    return DropGrow(mask=mask, grown=mask)
  flat = (tf.reshape(t, [-1]) for t in (drop_scores, mask, grow_scores))
  new, grown = _drop_and_grow_flat(*flat, tf.cast(drop_fraction, tf.float32))
  return DropGrow(
    mask=tf.reshape(new, mask.shape), grown=tf.reshape(grown, mask.shape)
  )


def count_ones(mask: Tensor) -> Tensor:
  """Returns the number of ones of a bool tensor as an int32 scalar."""
  mask = tf.convert_to_tensor(mask)
  size = mask.shape.num_elements()
  length = size and _row_length(size)
  if not length or size % length:
    return tf.reduce_sum(tf.cast(mask, tf.int32))
  return tf.reduce_sum(_count_in_rows(tf.reshape(mask, [-1, length])))


def hash_key(seed: int, name_hash: int | Sequence[int], step: Tensor) -> Tensor:
  """Returns the uint32 [2] key of the random numbers of one layer and step.

  Args:
    seed: the seed of the run, a Python int.
    name_hash: a hash of the layer's name that is the same in every process,
      such as CRC-32; or those of n layers, whose keys are made at once.
    step: int scalar.

  Returns:
    uint32 [2], to be given to `random_bits`; or [n, 2].
  """
  low = tf.bitwise.bitwise_and(tf.cast(step, tf.int64), 0x7FFFFFFF)
  step_bits = tf.bitcast(tf.cast(low, tf.int32), tf.uint32)
  first = _mix(_uint32(seed) + _uint32(name_hash) * _uint32(0x9E3779B9))
  second = _mix(first + _mix(step_bits + _uint32(0x85EBCA6B)))
  return tf.stack([_mix(first ^ second), second], -1)


def random_bits(size: int, key: Tensor) -> Tensor:
  """Returns 32 random bits a position, the same on every device.

  A counter-based generator: the position is hashed twice with the two words
  of the key. It is made of integer operations alone, so that XLA, eager
  TensorFlow and every replica agree bit for bit, and is several times faster
  than the library's generators, which mask updates of large layers need. It
  serves to break ties and to choose connections, not for cryptography.

  Args:
    size: number of positions.
    key: uint32 [2].

  Returns:
    uint32 [size].
  """
  # Row by row: of one range of all positions, TensorFlow would put a constant
  # of that size into the program.
  rows = _ROW * tf.range(-(-size // _ROW), dtype=tf.int32)
  rows, columns = (
    tf.bitcast(part, tf.uint32) for part in (rows, tf.range(_ROW))
  )
  position = (rows + key[0])[:, None] + columns  # Plus the key, modulo 2**32.
  return _mix(_mix(tf.reshape(position, [-1])[:size]) + key[1])


def random_uniform(size: int, key: Tensor) -> Tensor:
  """Returns float32 [size], uniform in [0, 1) with 24 random bits each."""
  bits = tf.bitwise.right_shift(random_bits(size, key), _uint32(8))
  return tf.cast(tf.bitcast(bits, tf.int32), tf.float32) * (1.0 / 2**24)


def random_bell(size: int, key: Tensor) -> Tensor:
  """Returns float32 [size] of mean 0, standard deviation 1, nearly normal.

  The sum of four uniform 16-bit numbers (two of them hashed from the same
  bits): bell-shaped, bounded by +-3.47. Enough for noise against ties.
  """
  bits = random_bits(size, key)
  more = bits * _uint32(0x9E3779B9)
  total = sum(
    tf.bitwise.bitwise_and(word, _uint32(0xFFFF))
    + tf.bitwise.right_shift(word, _uint32(16))
    for word in (bits, more)
  )
  centred = tf.cast(tf.bitcast(total, tf.int32), tf.float32) - 2.0 * 65535
  return centred * (1.0 / 37837.2)  # sqrt(4 * (2**32 - 1) / 12)


def _uint32(value: int | Sequence[int]) -> Tensor:
  if isinstance(value, int):
    return tf.constant(value & 0xFFFFFFFF, tf.uint32)
  return tf.constant([each & 0xFFFFFFFF for each in value], tf.uint32)


def _mix(bits: Tensor) -> Tensor:
  """A bijective 32-bit finalizer of two multiply-and-xorshift rounds."""
  for shift, factor in _HASH_STEPS:
    bits = bits ^ tf.bitwise.right_shift(bits, _uint32(shift))
    bits = bits * _uint32(factor)
  return bits ^ tf.bitwise.right_shift(bits, _uint32(16))


def order_keys(scores: Tensor) -> Tensor:
  """Maps scores to int32 keys of the same order, NaN to the lowest but one.

  Args:
    scores: float32, bfloat16, float16 or int32 tensor.

  Returns:
    int32 of the same shape, above `LOWEST_KEY`.

  Raises:
    ValueError: if the dtype is not one of these.
  """
  if scores.dtype == tf.int32:
    return tf.maximum(scores, LOWEST_KEY + 1)
  if scores.dtype not in (tf.float32, tf.bfloat16, tf.float16):
    raise ValueError(
      "`scores` must be float32, bfloat16, float16 or int32, got "
      f"{scores.dtype.name}."
    )
  scores = tf.cast(scores, tf.float32)
  bits = tf.bitcast(scores, tf.int32)
  bits = tf.where(tf.equal(bits, LOWEST_KEY), 0, bits)  # -0 equals +0.
  # Floats order like sign and magnitude; flip the magnitude of negatives.
  sign = tf.bitwise.right_shift(bits, 31)
  keys = bits ^ tf.bitwise.bitwise_and(sign, 0x7FFFFFFF)
  return tf.where(tf.math.is_nan(scores), LOWEST_KEY + 1, keys)


def compiled_by_shape(function: Callable[..., Any]) -> Any:
  """Compiles a function of tensors with XLA, one program for each shape.

  Args:
    function: pure function of (nested) tensors of static shapes, or None.

  Returns:
    The `tf.function`.
  """
  compiled = tf.function(function, jit_compile=True, autograph=False)
  # A network has kernels of many shapes: that each is traced once is meant
  # and no reason for a warning. (TensorFlow has no public switch for it.)
  compiled._omit_frequent_tracing_warning = True
  return compiled


@compiled_by_shape
def _top_k_flat(scores: Tensor, allowed: Tensor, k: Tensor) -> Tensor:
  """The mask of the k highest of the allowed scores, bool [n]."""
  keys = tf.where(allowed, order_keys(scores), LOWEST_KEY)
  return _from_rows(_top_k_rows(_to_rows(keys), k), scores.shape[0])


@compiled_by_shape
def _drop_and_grow_flat(
  drop_scores: Tensor, mask: Tensor, grow_scores: Tensor, fraction: Tensor
) -> tuple[Tensor, Tensor]:
  """The new mask and what was grown of flat tensors; see `drop_and_grow`.

  Everything in between stays in rows, which are made once.
  """
  drop_keys = tf.where(mask, order_keys(drop_scores), LOWEST_KEY)
  grow_keys = _to_rows(order_keys(grow_scores))
  num_ones = count_ones(mask)
  num_prune = tf.cast(tf.cast(num_ones, tf.float32) * fraction, tf.int32)
  kept = _top_k_rows(_to_rows(drop_keys), num_ones - num_prune)
  grown = _top_k_rows(tf.where(kept, LOWEST_KEY, grow_keys), num_prune)
  size = mask.shape[0]
  return _from_rows(kept | grown, size), _from_rows(grown, size)


def _row_length(size: int) -> int:
  """A length of rows that fits the size, or that of rows to fill up."""
  return next((n for n in _ROW_RANGE if size % n == 0), _ROW)


def _to_rows(keys: Tensor) -> Tensor:
  """Lays int32 [n] keys out in rows, filled up with keys below all others."""
  size = keys.shape[0]
  length = _row_length(size)
  if missing := -size % length:
    keys = tf.pad(keys, [[0, missing]], constant_values=LOWEST_KEY)
  return tf.reshape(keys, [-1, length])


def _from_rows(rows: Tensor, size: int) -> Tensor:
  flat = tf.reshape(rows, [-1])
  return flat if flat.shape[0] == size else flat[:size]


def _top_k_rows(rows: Tensor, k: Tensor) -> Tensor:
  """The mask of the k highest keys, with the shape of the rows."""
  threshold, rows = _kth_highest(rows, k)
  last_tie = _position_of_last_tie(rows, threshold, k)
  position = tf.reshape(tf.range(rows.shape.num_elements()), rows.shape)
  tie = tf.equal(rows, threshold) & (position <= last_tie)
  return (rows > threshold) | tie


def _kth_highest(rows: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
  """Finds the k-th highest key, bit by bit; also returns the rows.

  The rows pass through the loop so that XLA keeps them in memory instead of
  computing them anew in every later use.
  """

  def fix_bit(
    i: Tensor, threshold: Tensor, _: Tensor, rows: Tensor
  ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    candidate = threshold ^ tf.bitwise.left_shift(1, BITS - 1 - i)
    count = tf.reduce_sum(_count_in_rows(rows >= candidate))
    threshold = tf.where(count >= k, candidate, threshold)
    return i + 1, threshold, tf.equal(count, k), rows

  # A candidate that exactly k keys reach will do: no more bits are needed.
  _, threshold, _, rows = tf.while_loop(
    lambda i, _, is_exact, rows: (i < BITS) & ~is_exact,
    fix_bit,
    (0, tf.constant(LOWEST_KEY), False, rows),
  )
  return threshold, rows


def _position_of_last_tie(rows: Tensor, threshold: Tensor, k: Tensor) -> Tensor:
  """The flat position of the last key equal to the threshold that is taken.

  Returns -1 when none is taken. Found in two steps, the row and then the
  place in it, so that no running sum over all keys is needed.
  """
  needed = k - tf.reduce_sum(_count_in_rows(rows > threshold))
  of_rows = _count_in_rows(tf.equal(rows, threshold))
  row = _reaching(of_rows, needed)
  needed -= tf.reduce_sum(tf.where(_before(of_rows, row), of_rows, 0))
  ties = tf.cast(tf.equal(tf.gather(rows, row), threshold), tf.int32)
  column = _reaching(ties, needed)
  return tf.where(needed > 0, row * rows.shape[1] + column, -1)


def _reaching(counts: Tensor, total: Tensor) -> Tensor:
  """The first position up to which counts add up to a total.

  A search over the bits of the position, because XLA takes longer to compile a
  running sum than all the rest.

  Args:
    counts: int32 [n].
    total: int32 scalar, at most the sum of all; of 0 the position is 0.
  """
  num_bits = max(counts.shape[0] - 1, 1).bit_length()

  def fix_bit(i: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    candidate = position + tf.bitwise.left_shift(1, num_bits - 1 - i)
    before = tf.reduce_sum(tf.where(_before(counts, candidate), counts, 0))
    return i + 1, tf.where(before < total, candidate, position)

  return tf.while_loop(lambda i, _: i < num_bits, fix_bit, (0, 0))[1]


def _before(values: Tensor, position: Tensor) -> Tensor:
  """Whether a position of a vector comes before another one."""
  return tf.range(values.shape[0]) < position


def _count_in_rows(condition: Tensor) -> Tensor:
  """The number of true values in each row of a bool matrix, int32."""
  ones = tf.where(condition, 1.0, 0.0)
  ones_of_row = tf.ones([condition.shape[1]])
  return tf.cast(tf.linalg.matvec(ones, ones_of_row), tf.int32)
