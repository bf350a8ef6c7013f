# SPDX-License-Identifier: Apache-2.0
"""Mask updates of layers of a model that store only their active blocks."""

from __future__ import annotations

import tensorflow as tf

from rigl.keras import replicas
from rigl.keras.sparse_kernel import SparseKernel
from rigl.sparse_optimizers import blocks
from rigl.sparse_optimizers.drop_grow_rule import DropGrowRule
from rigl.sparse_optimizers.sparse_layer import BlockLayer
from rigl.types import Tensor


def move_blocks(
  rule: DropGrowRule,
  kernel: SparseKernel,
  layer: BlockLayer,
  key: Tensor,
  fraction: Tensor,
  largest_fraction: float,
  signal: Tensor | None,
) -> None:
  """Drop and grow of a layer; see `sparse_optimizers.blocks.drop_and_grow`."""
  slots = kernel.slots.all()
  own = [layer.outputs_of, layer.numbers_of, kernel.variable]
  outputs_of, numbers_of, values, *states = (
    tf.convert_to_tensor(each)
    for each in [*own, *(slot.variable for slot in slots)]
  )
  new = blocks.drop_and_grow(
    rule,
    blocks.Blocks(blocks.BlockIndex(outputs_of, numbers_of), values, states),
    [slot.start for slot in slots],
    key,
    fraction,
    largest_fraction,
    signal,
  )
  for variable, value in zip(
    [*own, *(slot.variable for slot in slots)],
    [*new.tables, new.values, *new.slots],
    strict=True,
  ):
    replicas.assign(variable, value)


def gradient_norms(layer: BlockLayer) -> Tensor:
  """The norms of all blocks of the dense gradient, summed over replicas.

  On several replicas the whole dense gradient is formed at once.

  Returns:
    float32 [input blocks, output blocks].
  """
  if not tf.distribute.in_cross_replica_context():
    count = tf.distribute.get_strategy().num_replicas_in_sync
    total = replicas.summed if count > 1 else None
    return blocks.gradient_norms(layer.take_batches(), total)
  gradients = replicas.on_replicas(
    lambda: blocks.dense_gradient(layer.take_batches())
  )
  return blocks.block_norms(replicas.summed([gradients])[0])
