# SPDX-License-Identifier: Apache-2.0
"""Layers of the MNIST network that store only what is active.

Those of single connections begin with the weights and masks of masked layers.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from rigl.layers import Dense, glorot_uniform_at, make_variable
from rigl.sparse import BlockSparseDense, SparseDense
from rigl.sparse.sampling import random_positions

Layer: TypeAlias = Dense | SparseDense | BlockSparseDense


def make_sparse(
  shape: tuple[int, int],
  name: str,
  sparsity: float,
  seed: int,
  threads: int,
  is_first: bool = False,
) -> SparseDense:
  """Makes a layer that begins as the masked one of the same name and seed.

  Args:
    shape: inputs and outputs.
    name: name of the layer.
    sparsity: share of inactive connections, in [0, 1).
    seed: seed of the run.
    threads: threads that share a product, at least 1.
    is_first: whether its input is data, which has no gradient.
  """
  positions = random_positions(shape, sparsity, seed, name)
  values = glorot_uniform_at(shape, f"{name}/weights", seed, positions)
  return _make(shape, name, positions, values, threads, not is_first)


def make_blocks(
  shape: tuple[int, int], name: str, sparsity: float, seed: int, largest: int
) -> BlockSparseDense:
  """Makes a layer of the largest blocks that divide its sizes.

  Args:
    shape: inputs and outputs.
    name: name of the layer.
    sparsity: share of inactive blocks, in [0, 1).
    seed: seed of the run.
    largest: the most inputs, and outputs, of a block.
  """
  common = math.gcd(*shape)
  size = max(n for n in range(1, min(common, largest) + 1) if common % n == 0)
  layer = BlockSparseDense(
    *shape, sparsity, block=size, use_bias=False, seed=seed, name=name
  )
  # By the name that it has in other layers.
  layer.bias = make_variable(tf.zeros([shape[1]]), f"{name}/biases")
  return layer


def make_empty(
  shape: tuple[int, int], name: str, number: int, threads: int = 1
) -> SparseDense:
  """Makes a layer with room for connections that a checkpoint will give.

  Args:
    shape: inputs and outputs.
    name: name of the layer.
    number: how many connections it has room for.
    threads: threads that share a product, at least 1.
  """
  values = np.zeros(number, np.float32)
  return _make(shape, name, np.arange(number), values, threads)


def _make(
  shape: tuple[int, int],
  name: str,
  positions: np.ndarray,
  values: np.ndarray,
  threads: int,
  input_gradient: bool = True,
) -> SparseDense:
  return SparseDense.from_connections(
    shape,
    positions,
    values,
    np.zeros(shape[1], np.float32),
    name=name,
    bias_name="biases",
    threads=threads,
    input_gradient=input_gradient,
  )
