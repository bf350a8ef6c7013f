# SPDX-License-Identifier: Apache-2.0
"""Times a training step of a layer, with and without inactive connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rigl.sparse.dense import SparseDense
from rigl.sparse_optimizers.fixed_mask import SparseFixedMaskOptimizer
from rigl.types import Tensor, Variable

# Of larger kernels a part of the outputs is timed, in proportion to which the
# time of a whole layer is taken to be.
_LARGEST = 2**22
_SECONDS, _LEAST_ROUNDS = 0.3, 3


class StepTimes(NamedTuple):
  """Seconds of a training step of one layer.

  Attributes:
    csr: of its active connections alone.
    masked: of a dense kernel and a mask.
    masked_xla: the same, compiled by XLA.
  """

  csr: float
  masked: float
  masked_xla: float


def time_steps(
  inputs: int,
  outputs: int,
  sparsity: float,
  batch_size: int,
  *,
  threads: int = 1,
  is_first: bool = False,
) -> StepTimes:
  """Times steps of a layer in its forms, alternately, for about a second.

  A step is the forward and backward pass and a step of Nesterov momentum.

  Args:
    inputs: number of inputs of the layer, at least 1.
    outputs: number of outputs, at least 1.
    sparsity: share of inactive connections, in [0, 1).
    batch_size: examples per step, at least 1.
    threads: threads that share a product of the active connections.
    is_first: whether no gradient of its input is needed.

  Returns:
    The shortest times that were seen.
  """
  part = max(1, min(outputs, _LARGEST // inputs))
  x = tf.random.stateless_normal([batch_size, inputs], [0, 0])
  upstream = tf.random.stateless_normal([batch_size, part], [0, 1])
  sparse = SparseDense(
    inputs,
    part,
    sparsity,
    use_bias=False,
    name="timed",
    threads=threads,
    input_gradient=not is_first,
  )
  kernel = tf.Variable(sparse.kernel(), name="timed/kernel")

  def step(
    layer: Callable[[Tensor], Tensor], variable: Variable, xla: bool
  ) -> Callable[[], Tensor]:
    optimizer = SparseFixedMaskOptimizer(
      tf.compat.v1.train.MomentumOptimizer(1e-3, 0.9, use_nesterov=True)
    )
    if variable is kernel:
      optimizer.create_masks({"timed": kernel}, {"timed": sparse.mask()})
    else:
      optimizer.create_masks({"timed": sparse})
    watched = [variable] if is_first else [variable, x]

    @tf.function(jit_compile=xla, autograph=False)
    def train() -> Tensor:
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        loss = tf.reduce_sum(layer(x) * upstream)
      gradient, *others = tape.gradient(loss, watched)
      optimizer.apply_masked_gradients([(gradient, variable)])
      return loss + sum(map(tf.reduce_sum, others))

    return train

  def product(x: Tensor) -> Tensor:
    return x @ kernel

  times = _alternately(
    [
      step(sparse, sparse.values, False),
      step(product, kernel, False),
      step(product, kernel, True),
    ]
  )
  return StepTimes(*(seconds * outputs / part for seconds in times))


def _alternately(steps: list[Callable[[], Tensor]]) -> list[float]:
  """The shortest time of each step, of several rounds."""
  for each in steps:  # Compiles it.
    each()
  rounds: list[list[float]] = []
  end = time.perf_counter() + _SECONDS
  while len(rounds) < _LEAST_ROUNDS or time.perf_counter() < end:
    rounds.append([_seconds(each) for each in steps])
  return np.min(rounds, 0).tolist()


def _seconds(step: Callable[[], Tensor]) -> float:
  start = time.perf_counter()
  float(step())
  return time.perf_counter() - start
