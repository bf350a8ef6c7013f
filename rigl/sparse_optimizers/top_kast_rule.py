# SPDX-License-Identifier: Apache-2.0
"""Top-KAST's rule: which weights compute, and which are trained.

It knows no variables, so that `rigl.keras` shares it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rigl.mask_ops import MaskEngine
from rigl.sparse_utils.backward_sets import num_backward
from rigl.structures import Groups
from rigl.types import Tensor


class TopKASTRule:
  """Chooses the forward and the backward set of layers by magnitude.

  The layers that its functions take are the results of `set_inputs`.
  """

  _engine: MaskEngine

  def _both_sets(self, layers: list[dict[str, Any]]) -> list[list[Tensor]]:
    """The sets A and B of each layer, bool [n]."""
    sets = (self._largest(layers), self._largest(layers, "num_backward"))
    return [list(pair) for pair in zip(*sets, strict=True)]

  def _largest(
    self, layers: list[dict[str, Any]], number: str = "num_forward"
  ) -> list[Tensor]:
    """The largest weights of each layer, as many as its entry `number`."""
    return self._engine.top_k(
      [tf.abs(each["weights"]) for each in layers],
      [each[number] for each in layers],
      groups=[each["groups"] for each in layers],
    )

  def _largest_around(self, layers: list[dict[str, Any]]) -> list[Tensor]:
    """The set B of layers that also have a `mask`, which it holds."""
    scores = []
    for each in layers:
      size = tf.abs(each["weights"])
      infinity = tf.constant(float("inf"), size.dtype)
      scores.append(tf.where(each["mask"], infinity, size))
    chosen = self._engine.top_k(
      scores,
      [each["num_backward"] for each in layers],
      groups=[each["groups"] for each in layers],
    )
    return [
      each["mask"] | new for each, new in zip(layers, chosen, strict=True)
    ]


def penalty_factors(
  mask: Tensor, penalty: float, density: float, dtype: tf.DType
) -> Tensor:
  """What the penalty multiplies weights with: c in A, c / D outside.

  Args:
    mask: bool, the forward set A of a layer.
    penalty: c.
    density: D, the share of the weights in A.
    dtype: the type of the result, which has the shape of the mask.
  """
  return tf.where(
    mask, tf.constant(penalty, dtype), tf.constant(penalty / density, dtype)
  )


def set_inputs(
  weights: Tensor,
  groups: Groups | None,
  num_forward: int,
  backward_sparsity: float,
) -> dict[str, Any]:
  """What `TopKASTRule` chooses the sets of a layer by.

  Args:
    weights: all weights of the layer.
    groups: its groups; None if it has none.
    num_forward: the weights of A, or those of every group.
    backward_sparsity: share of the weights outside of B, in [0, 1].
  """
  flat = tf.reshape(weights, [-1])
  backward = num_backward(flat.shape[0], groups, backward_sparsity, num_forward)
  return dict(
    weights=flat,
    num_forward=tf.constant(num_forward),
    num_backward=tf.constant(backward),
    groups=groups,
  )


def reset_outside(
  backward: Tensor, slot: Tensor, start: float | None, dense: Tensor
) -> Tensor:
  """A slot whose values outside of B are those before the first step.

  Args:
    backward: the set B, bool.
    slot: its values, of the same shape.
    start: the value before the first step; None where that is the weight.
    dense: all weights.
  """
  if start is None:
    rest = tf.cast(dense, slot.dtype)
  else:
    rest = tf.constant(start, slot.dtype)
  return tf.where(backward, slot, rest)
