# SPDX-License-Identifier: Apache-2.0
"""Whether the sparse form of a layer trains faster than the dense one, here."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from rigl.sparse.dense import SparseDense
from rigl.types import Tensor, Variable

_SECONDS, _LEAST_ROUNDS = 0.3, 3


def is_faster(mask: np.ndarray, batch_size: int, threads: int) -> bool:
  """Times forward and backward passes of both forms, alternately.

  Args:
    mask: bool [inputs, outputs], the connections of the layer.
    batch_size: rows that pass through the layer, at least 1.
    threads: how many threads may share a product, at least 1.

  Returns:
    Whether the shortest time of the sparse form is less.
  """
  sparse = SparseDense.from_kernel(mask, mask, threads=threads)
  kernel = tf.Variable(tf.cast(mask, tf.float32))
  x = tf.random.stateless_normal([batch_size, mask.shape[0]], [0, 0])
  steps = [
    _step(x, sparse, sparse.values),
    _step(x, lambda x: tf.matmul(x, kernel), kernel),
  ]
  for step in steps:  # Compiles it.
    step()
  rounds: list[list[float]] = []
  end = time.perf_counter() + _SECONDS
  while len(rounds) < _LEAST_ROUNDS or time.perf_counter() < end:
    rounds.append([_seconds(step) for step in steps])
  of_sparse, of_dense = np.min(rounds, 0)
  return bool(of_sparse < of_dense)


def _step(
  x: Tensor, layer: Callable[[Tensor], Tensor], variable: Variable
) -> Callable[[], Tensor]:
  @tf.function(autograph=False)
  def step() -> Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch([x, variable])
      loss = tf.reduce_sum(layer(x))
    return [loss, *tape.gradient(loss, [x, variable])]

  return step


def _seconds(step: Callable[[], Tensor]) -> float:
  start = time.perf_counter()
  step()[0].numpy()
  return time.perf_counter() - start
