# SPDX-License-Identifier: Apache-2.0
"""The rule of drop and grow: scores, counts, new weights and slots.

Flat tensors in, flat tensors out: the rule knows no variable and no step. The
wrappers of `tf.compat.v1.train` and of Keras optimizers share it, so that both
choose the same connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from rigl import mask_ops
from rigl.mask_ops import DropGrow, MaskEngine
from rigl.sparse_optimizers.drop_grow_options import DropGrowOptions
from rigl.sparse_optimizers.grow_init import GrowInit, grown_values
from rigl.types import Tensor

# New weights, mask and slots of a layer.
_Updated: TypeAlias = tuple[Tensor, Tensor, list[Tensor]]

# Streams of random numbers within one update of one layer.
_DROP_STREAM, _GROW_STREAM, _NORMAL_STREAM, _UNIFORM_STREAM = range(4)
# From the stream of a normal number's radius to that of its angle.
_TO_ANGLE = 4


class DropGrowRule:
  """How one update changes flat weights, masks and slots.

  A method overrides `_grow_scores`, and may override `_new` (which connections
  start anew) and `_reset_slot`. The public methods are the parts of an update,
  for layers that store only their active connections or blocks.

  Attributes:
    _engine: chooses the connections.
    _noise_std: standard deviation of the noise on |weight| when dropping.
    _grow_init: initial weights of grown connections.
    _options: soft memory, scope and drop scores. With a weight of the gradient,
      the signal of the method must be the gradient.
  """

  _engine: MaskEngine
  _noise_std: float
  _grow_init: GrowInit
  _options: DropGrowOptions

  def _update_all(
    self, layers: list[dict[str, Any]], fraction: Tensor, step: Tensor
  ) -> list[_Updated]:
    """Drop and grow of flat tensors: new weights, mask and slots per layer.

    Args:
      layers: the arguments of `updated` of each layer, its `groups`, and its
        number of connections without a surplus, `target`, if there may be one.
      fraction: float32 scalar, the drop fraction.
      step: int64 scalar, the step of the update.
    """
    if not self._options.changes_counts or not layers:
      return self._engine.map(self._update_layers, layers, fraction)
    shared = fraction, self._options.is_last(step)
    if not self._options.across_layers:
      return self._engine.map(self._update_counts, layers, *shared)
    return self._engine.map(self._update_jointly, [layers], *shared)[0]

  def _update_layers(
    self, layers: list[dict[str, Any]], fraction: Tensor
  ) -> list[_Updated]:
    """As many connections grow in each layer as drop."""
    results = self._engine.drop_and_grow(
      *self._scores(layers), fraction, [each.get("groups") for each in layers]
    )
    return self._all_updated(results, layers)

  def _update_counts(
    self, layers: list[dict[str, Any]], fraction: Tensor, is_last: Tensor
  ) -> list[_Updated]:
    """The options decide how many connections stay and grow."""
    results = self._options.choose(
      self._engine,
      *self._scores(layers),
      [each["target"] for each in layers],
      fraction,
      is_last,
    )
    return self._all_updated(results, layers)

  def _update_jointly(
    self, networks: list[list[dict[str, Any]]], *shared: Tensor
  ) -> list[list[_Updated]]:
    """The layers of a network together, for an engine that maps over it."""
    return [self._update_counts(layers, *shared) for layers in networks]

  def _scores(
    self, layers: list[dict[str, Any]]
  ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Drop scores, masks and growth scores of layers."""
    drop = [self._drop_scores(**each) for each in layers]
    masks = [each["mask"] for each in layers]
    grow = [
      self.grow_scores(each["mask"], each["signal"], each["key"])
      for each in layers
    ]
    return drop, masks, grow

  def _drop_scores(
    self, weights: Tensor, signal: Tensor | None, key: Tensor, **_: Any
  ) -> Tensor:
    scores = self.drop_scores(weights, key)
    if self._options.drop_gradient_weight:
      magnitude = tf.abs(tf.cast(signal, tf.float32))
      scores += self._options.drop_gradient_weight * magnitude
    return scores

  def _all_updated(
    self, results: Sequence[DropGrow], layers: list[dict[str, Any]]
  ) -> list[_Updated]:
    return [
      self.updated(result, **each)
      for result, each in zip(results, layers, strict=True)
    ]

  def drop_scores(
    self, weights: Tensor, key: Tensor, positions: Tensor | None = None
  ) -> Tensor:
    """The scores of which the lowest are dropped, float32 [n].

    Args:
      weights: [n].
      key: uint32 [2], the random key of the layer and step.
      positions: int32 [n], the flat indices of the weights in their layer.
        None: they are the whole layer.
    """
    scores = tf.abs(tf.cast(weights, tf.float32))
    if self._noise_std:
      noise = mask_ops.approximate_normal(
        scores.shape[0], _stream(key, _DROP_STREAM), positions
      )
      scores += self._noise_std * noise
    return scores

  def highest(self, scores: Tensor, number: Tensor) -> Tensor:
    """Where the highest scores are, bool [n]; of equal ones the first.

    Args:
      scores: float [n].
      number: int32 scalar, how many.
    """
    return self._engine.top_k([scores], [number])[0]

  def grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor, start: int = 0
  ) -> Tensor:
    """The scores of which the highest that are not kept grow, float [n].

    Args:
      mask: bool [n], the mask before the update.
      signal: [n], what the method derives scores from, or None.
      key: uint32 [2], the random key of the layer and step.
      start: the index in the layer of the first of these connections.
    """
    stream = _stream(key, _GROW_STREAM)
    if start:
      stream += tf.constant([start, 0], tf.uint32)
    return self._grow_scores(mask, signal, stream)

  def starts_anew(self, result: DropGrow, old_mask: Tensor) -> Tensor:
    """Which connections get a new weight and fresh slots, bool [n].

    Args:
      result: the connections that are active now, and those that grew.
      old_mask: bool [n], the mask before the update.
    """
    return self._new(result, old_mask)

  def updated(
    self,
    result: DropGrow,
    weights: Tensor,
    mask: Tensor,
    signal: Tensor | None,
    initial: Tensor | None,
    slots: list[Tensor],
    slot_starts: Sequence[Tensor | float | None],
    key: Tensor,
    positions: Tensor | None = None,
    **_: Any,
  ) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The weights, mask and slots after an update.

    Args:
      result: the connections that are active now, and those that grew.
      weights: [n], before the update.
      mask: bool [n], before the update.
      signal: [n], what growth scores were derived from, or None.
      initial: [n], weights before training; only `initial_dist` needs them.
      slots: [n] each.
      slot_starts: the initial value of each slot; None if it copies the
        weight.
      key: uint32 [2], the random key of the layer and step.
      positions: int32 [n], the flat indices of the connections in their layer.
        None: they are the whole layer.
    """
    new = self.starts_anew(result, mask)
    values = self._grown_values(weights, mask, signal, initial, key, positions)
    zero = tf.zeros([], weights.dtype)
    weights = tf.where(new, values, tf.where(result.mask, weights, zero))
    # A slot without a start is a copy of the weights.
    starts = [slot_starts[i] for i in range(len(slots))]
    slots = [
      self._reset_slot(
        slot, weights if start is None else start, new, result.mask, signal
      )
      for slot, start in zip(slots, starts, strict=True)
    ]
    return weights, result.mask, slots

  def _grown_values(
    self,
    weights: Tensor,
    mask: Tensor,
    signal: Tensor | None,
    initial: Tensor | None,
    key: Tensor,
    positions: Tensor | None,
  ) -> Tensor:
    size, method = weights.shape[0], self._grow_init.method
    normal = uniform = None
    if method == "random_normal":
      normal = self._random_normal(
        size, _stream(key, _NORMAL_STREAM), positions
      )
    elif method in ("random_uniform", "initial_dist"):
      uniform = self._random_uniform(
        size, _stream(key, _UNIFORM_STREAM), positions
      )
    return grown_values(
      self._grow_init, weights, mask, signal, initial, normal, uniform
    )

  def _reset_slot(
    self,
    slot: Tensor,
    start: Tensor | float,
    new: Tensor,
    mask: Tensor,
    signal: Tensor | None,
  ) -> Tensor:
    """Gives new and inactive connections the slots of the first step."""
    del signal
    return tf.where(mask & ~new, slot, tf.cast(start, slot.dtype))

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    """Hook: float [n]; the highest that are not kept grow."""
    raise NotImplementedError

  def _new(self, result: DropGrow, old_mask: Tensor) -> Tensor:
    """Hook: bool [n], the connections that start anew."""
    return result.grown & ~old_mask

  # Random numbers, in methods that tests can replace.

  def _random_normal(
    self, size: int, key: Tensor, positions: Tensor | None = None
  ) -> Tensor:
    # Box-Muller, because TensorFlow's numbers differ with and without XLA.
    radius = 1.0 - mask_ops.random_uniform(size, key, positions)
    angle = mask_ops.random_uniform(size, _stream(key, _TO_ANGLE), positions)
    angle *= 2.0 * np.pi
    return tf.sqrt(-2.0 * tf.math.log(radius)) * tf.cos(angle)

  def _random_uniform(
    self, size: int, key: Tensor, positions: Tensor | None = None
  ) -> Tensor:
    return mask_ops.random_uniform(size, key, positions)


def _stream(key: Tensor, stream: int) -> Tensor:
  return key + tf.constant([stream * 0x9E3779B1 & 0xFFFFFFFF, 0], tf.uint32)
