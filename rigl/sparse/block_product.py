# SPDX-License-Identifier: Apache-2.0
"""The product of a block-sparse kernel: batched matrix products and gathers.

Features come first, [blocks, b, tokens]: with tokens first, the gathers and
products were two to four times slower on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rigl.types import Tensor

# Backward passes that are kept for an optimizer that has not asked for them.
_MOST_BATCHES = 1024

Batches = list[tuple[Tensor, Tensor]]


def multiply(
  x: Tensor,
  values: Tensor,
  outputs_of: Tensor,
  numbers_of: Tensor,
  keep: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
  """The transposed kernel times x, with gradients for x and values.

  Every input block is multiplied by all blocks that read it, in one product per
  input block. Each output block is the sum of its partial results:

      partial[n] = values[n] x[n // (blocks per input)]
      result[i] = sum over k of partial[numbers_of[i, k]].

  Backwards, the gradients of the outputs are gathered once, for the gradient of
  x and for that of the values. So nothing is scattered, in either direction.

  Args:
    x: float [input blocks, b, tokens].
    values: [blocks, b, b] of the dtype of x, ordered by input block; a block of
      the transposed kernel, [its outputs, its inputs].
    outputs_of: int32 [input blocks, blocks per input], the output blocks that
      read each input block.
    numbers_of: int32 [output blocks, blocks per output], the numbers n of the
      blocks of each output block.
    keep: is given x and the gradient of the result in the backward pass.

  Returns:
    [output blocks, b, tokens], of the dtype of x, in which the partial results
    are rounded.
  """
  num_inputs, per_input = outputs_of.shape
  number, size, _ = values.shape
  tokens = tf.shape(x)[2]

  @tf.custom_gradient
  def product(x: Tensor, values: Tensor) -> Any:
    by_input = tf.reshape(values, [num_inputs, per_input * size, size])

    def grad(upstream: Tensor) -> tuple[Tensor, Tensor]:
      if keep is not None:
        keep(x, upstream)
      gathered = tf.reshape(
        tf.gather(upstream, outputs_of),
        [num_inputs, per_input * size, tokens],
      )
      of_x = tf.matmul(by_input, gathered, transpose_a=True)
      of_values = tf.matmul(gathered, x, transpose_b=True)
      return of_x, tf.reshape(of_values, values.shape)

    partial = tf.reshape(tf.matmul(by_input, x), [number, size, tokens])
    return tf.reduce_sum(tf.gather(partial, numbers_of), 1), grad

  return product(x, values)


class KeptBatches:
  """Backward passes of a layer, from which its dense gradient can be formed.

  They are tensors of the function that computes the gradient, so they can be
  taken in the same function alone, or in a branch of it. Replicas have lists
  of their own.
  """

  def __init__(self) -> None:
    self._batches: dict[int, Batches] = {}
    self._num_takers = 0

  @property
  def is_wanted(self) -> bool:
    """Whether an optimizer takes them."""
    return self._num_takers > 0

  def want(self, wanted: bool) -> None:
    """Notes that an optimizer takes them from now on, or no longer does.

    Args:
      wanted: False ends what another call has begun. What was kept stays: the
        end may come, by garbage collection, just before another optimizer
        takes it.
    """
    self._num_takers += 1 if wanted else -1

  def keep(self, x: Tensor, upstream: Tensor) -> None:
    """Keeps a backward pass.

    Args:
      x: [input blocks, b, tokens].
      upstream: [output blocks, b, tokens], gradient of the output.

    Raises:
      RuntimeError: if too many passes were kept and none was taken.
    """
    batches = self._batches.setdefault(_replica(), [])
    batches.append((x, upstream))
    if len(batches) > _MOST_BATCHES:
      batches.clear()
      raise RuntimeError(
        f"A sparse layer made {_MOST_BATCHES} backward passes without a call "
        "of its optimizer, which takes them to grow connections."
      )

  def keep_latest(self, x: Tensor, upstream: Tensor) -> None:
    """Keeps a backward pass, and forgets those of other functions.

    For layers whose optimizer may ask for them only after the first pass.
    Outside of functions, the last pass alone is kept.

    Args:
      x: [input blocks, b, tokens].
      upstream: [output blocks, b, tokens], gradient of the output.
    """
    others: Batches = []
    if _is_symbolic(upstream):
      others = [
        batch
        for batch in self._batches.get(_replica(), [])
        if _is_symbolic(batch[1]) and batch[1].graph is upstream.graph
      ]
    self._batches[_replica()] = [*others, (x, upstream)]

  def take(self) -> Batches:
    """Returns and forgets the backward passes of this function or branch."""
    batches = self._batches.pop(_replica(), [])
    return [batch for batch in batches if _is_reachable(batch[1])]


def _replica() -> int:
  """The number of this replica; 0 where one function is made for all."""
  if tf.distribute.in_cross_replica_context():
    return 0
  context = tf.distribute.get_replica_context()
  # A constant, but on TPUs, where the replicas share a function.
  number = tf.get_static_value(context.replica_id_in_sync_group)
  return 0 if number is None else int(number)


def _is_reachable(tensor: Tensor) -> bool:
  """Whether operations that are made now can use a tensor."""
  if tf.executing_eagerly():
    return not _is_symbolic(tensor)
  if not _is_symbolic(tensor):
    return False  # It would be taken for a constant.
  graph = tf.compat.v1.get_default_graph()
  while graph is not None and graph is not tensor.graph:
    graph = getattr(graph, "outer_graph", None)
  return graph is not None


def _is_symbolic(tensor: Tensor) -> bool:
  return not isinstance(tensor, tf.__internal__.EagerTensor)
