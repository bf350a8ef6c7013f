# SPDX-License-Identifier: Apache-2.0
"""Initializers of kernels: functions of a shape, a name and a seed.

The variable's name and the seed of the run decide the values, so they do not
depend on the order in which a network is built.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from rigl.checks import check_number
from rigl.types import Tensor

# (shape, name, seed) -> float32 of that shape.
Initializer = Callable[[Sequence[int], str, int], Tensor]

_PHILOX = 1  # Number of the algorithm in TensorFlow.
# Weights that `glorot_uniform_at` draws at once, a multiple of 4.
_BLOCK = 2**22

# Standard deviation of a standard normal that is cut off at +-2.
_TRUNCATED_STDDEV = 0.87962566103423978


def glorot_uniform(shape: Sequence[int], name: str, seed: int) -> Tensor:
  """Uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio, 2010).

  Args:
    shape: (window..., inputs, outputs). For a convolution, both numbers are
      multiplied by the size of the window.
    name: name of the variable; with the seed it decides the values.
    seed: seed of the run.

  Returns:
    float32 of that shape.
  """
  window = math.prod(shape[:-2])
  limit = math.sqrt(6.0 / (window * (shape[-2] + shape[-1])))
  return tf.random.stateless_uniform(
    shape, _key(name, seed), -limit, limit, tf.float32, alg="philox"
  )


def glorot_uniform_at(
  shape: Sequence[int], name: str, seed: int, positions: np.ndarray
) -> np.ndarray:
  """The values of `glorot_uniform` at some positions, without the others.

  Memory is that of the result and a block of the kernel.

  Args:
    shape: (inputs, outputs) of the kernel.
    name: name of the variable.
    seed: seed of the run.
    positions: int [n], index into the flat kernel, ascending.

  Returns:
    float32 [n].
  """
  limit = tf.constant(math.sqrt(6.0 / sum(shape)))
  size, values = math.prod(shape), np.empty(len(positions), np.float32)
  bounds = np.searchsorted(positions, np.arange(0, size + _BLOCK, _BLOCK))
  with tf.device("CPU:0"):
    key, start = tf.raw_ops.StatelessRandomGetKeyCounter(seed=_key(name, seed))
    for i, (begin, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
      if begin == end:
        continue
      # Philox makes four numbers from each value of its counter, whose lower
      # half starts at zero.
      passed = tf.constant([i * (_BLOCK // 4), 0], tf.uint64)
      block = tf.raw_ops.StatelessRandomUniformV2(
        shape=[min(_BLOCK, size - i * _BLOCK)],
        key=key,
        counter=start + passed,
        alg=_PHILOX,
        dtype=tf.float32,
      )
      uniform = tf.gather(block, positions[begin:end] - i * _BLOCK)
      # Rounded as in TensorFlow: uniform * (high - low) + low.
      values[begin:end] = uniform * (limit - -limit) + -limit
  return values


def variance_scaling(shape: Sequence[int], name: str, seed: int) -> Tensor:
  """Normal with variance 1 / fan_in, cut off at two standard deviations.

  The normal before the cut is wider, so that the variance is right after it.

  Args:
    shape: (window..., inputs, outputs); fan_in is the product of all but the
      last.
    name: name of the variable; with the seed it decides the values.
    seed: seed of the run.

  Returns:
    float32 of that shape.
  """
  stddev = math.sqrt(1.0 / math.prod(shape[:-1])) / _TRUNCATED_STDDEV
  return _truncated_normal(shape, name, seed, stddev)


def vgg_scaling(shape: Sequence[int], name: str, seed: int) -> Tensor:
  """Normal of uncut variance 2.6 / fan_in, cut off at two deviations.

  After the cut the variance is about 2 / fan_in (He et al., 2015). The
  published VGG has 2.6 instead of 2.585 from TF-Slim.

  Args:
    shape: (window..., inputs, outputs); fan_in is the product of all but the
      last.
    name: name of the variable; with the seed it decides the values.
    seed: seed of the run.

  Returns:
    float32 of that shape.
  """
  stddev = math.sqrt(2.6 / math.prod(shape[:-1]))
  return _truncated_normal(shape, name, seed, stddev)


def random_normal(stddev: float) -> Initializer:
  """An initializer: normal with mean 0.

  Args:
    stddev: standard deviation, at least 0.
  """

  def initialize(shape: Sequence[int], name: str, seed: int) -> Tensor:
    return tf.random.stateless_normal(
      shape, _key(name, seed), 0.0, stddev, tf.float32, alg="philox"
    )

  return initialize


def sparse(initializer: Initializer, sparsity: float) -> Initializer:
  """Scales an initializer for the connections that will be active.

  A share 1 - sparsity of a kernel's fan_in will be active. Weights scaled by
  1 / sqrt(1 - sparsity) keep the variance of the outputs.

  Args:
    initializer: initializer of the dense kernel.
    sparsity: share of zeros that the kernel will have, in [0, 1).

  Returns:
    An initializer. It sets no zeros: the optimizer owns the masks.

  Raises:
    ValueError: if `sparsity` is not as described.
  """
  check_number("sparsity", sparsity, 0, 1, below=True)
  scale = 1.0 / math.sqrt(1.0 - sparsity)

  def initialize(shape: Sequence[int], name: str, seed: int) -> Tensor:
    return initializer(shape, name, seed) * scale

  return initialize


def _truncated_normal(
  shape: Sequence[int], name: str, seed: int, stddev: float
) -> Tensor:
  return tf.random.stateless_truncated_normal(
    shape, _key(name, seed), 0.0, stddev, tf.float32, alg="philox"
  )


def _key(name: str, seed: int) -> list[int]:
  return [seed & 0x7FFFFFFF, zlib.crc32(name.encode()) & 0x7FFFFFFF]
