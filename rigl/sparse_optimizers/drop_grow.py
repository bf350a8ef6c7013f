# SPDX-License-Identifier: Apache-2.0
"""Drop and grow by a schedule: the base of SET, static, SNFS, RigL and GraNet.

All of them drop by magnitude; the file of each defines its growth scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.checks import check_integer, check_number
from rigl.mask_ops import EngineName
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers import sparse_layer
from rigl.sparse_optimizers.drop_grow_options import (
  LAYER_FLOOR,
  DropGrowOptions,
)
from rigl.sparse_optimizers.drop_grow_stored import StoredDropGrow
from rigl.sparse_optimizers.grow_init import WEIGHT_METHODS, parse_grow_init
from rigl.sparse_optimizers.kernels import initial_value
from rigl.sparse_optimizers.published_arguments import warn_ignored
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.target_counts import TargetCounts
from rigl.types import Tensor, Variable


class DropGrowOptimizer(StoredDropGrow):
  """Drops and grows connections by a schedule; the base of five methods.

  An update is, in every layer of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of highest growth score among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. Grown connections that were inactive
  start at `grow_init`, with fresh slots; the others keep weights and slots.
  `soft_memory` and `across_layers` change the numbers; see
  `drop_grow_options`.

  A method overrides `_grow_scores`, and may override `_signal` (what they are
  derived from), `_new` (which connections start anew) and
  `update_is_iteration`.

  Attributes:
    grow_inits: the values of `grow_init` that the method knows.

  Args:
    begin_step: first value of `global_step` that may update, at least 0.
    end_step: last value of `global_step` that may update; negative for no end.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: share f of the active connections to drop in the first
      update, in [0, 1].
    drop_fraction_anneal: how f falls from `begin_step` to `end_step`, with
      p in [0, 1] the share of that window that has passed: `constant`;
      `cosine`, f * (1 + cos(pi * p)) / 2; or `exponential[_K]`,
      f * (1 - p) ** K with K > 0, or 1 if it is left out. Without an end f is
      constant.
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the layer; `random_normal`, with the
      standard deviation of the active weights; or `random_uniform`, in plus or
      minus their mean magnitude. All but `zeros` may be followed by `_K` to
      divide by K > 0, such as `random_normal_10`.
    use_stateless: ignored with a warning: random numbers are always stateless.
    stateless_seed_offset: added to `seed` in mask updates, so that they differ
      where the initial masks are the same.
    noise_std: standard deviation of the noise on |weight| when dropping, at
      least 0. It breaks ties by chance; 0 breaks them by index.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.
    soft_memory: whether there is a surplus of connections between updates
      (Yuan et al., 2021, https://arxiv.org/abs/2110.14032). An update then
      keeps the n connections of largest |weight + noise|, n being what the
      layer had at the start, and grows int(n * f), at most the whole layer;
      the last update that fits before `end_step` only drops. The sparsity asked
      for is that of n. It needs an end.
    across_layers: whether connections are compared over all layers (Yin et al.,
      2023, https://arxiv.org/abs/2305.19454): all together keep their number,
      and each may win or lose some; those that were given all of their
      connections stay dense. Only for layers of ordinary storage.
    layer_floor: least share of its n connections that a layer keeps with
      `across_layers`, in [0, 1]; at least one.
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).

  Raises:
    ValueError: if an argument is not as described.
  """

  grow_inits: tuple[str, ...] = WEIGHT_METHODS

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    drop_fraction: float = 0.1,
    drop_fraction_anneal: str = "constant",
    use_locking: bool = False,
    grow_init: str = "zeros",
    name: str | None = None,
    use_stateless: bool | None = None,
    stateless_seed_offset: int = 0,
    *,
    noise_std: float = 1e-5,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    track_exploration: bool = False,
    soft_memory: bool = False,
    across_layers: bool = False,
    layer_floor: float = LAYER_FLOOR,
    drop_gradient_weight: float = 0.0,
  ) -> None:
    super().__init__(
      optimizer,
      use_locking,
      name,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
    )
    self._schedule: UpdateSchedule = UpdateSchedule(
      begin_step, end_step, frequency, drop_fraction, drop_fraction_anneal
    )
    self._grow_init = parse_grow_init(grow_init, self.grow_inits)
    check_number("noise_std", noise_std, 0)
    warn_ignored(use_stateless=use_stateless)
    check_integer("stateless_seed_offset", stateless_seed_offset)
    self._seed_offset = int(stateless_seed_offset)
    self._noise_std = float(noise_std)
    self._initial_weights: dict[str, Variable] = {}
    self._track(track_exploration)
    self._options = DropGrowOptions(
      self._schedule,
      soft_memory,
      across_layers,
      layer_floor,
      drop_gradient_weight,
    )
    self._options.check_structure(structure)
    self._target_counts = (
      TargetCounts() if self._options.changes_counts else None
    )
    if drop_gradient_weight:
      self.update_is_iteration = True

  @property
  def schedule(self) -> UpdateSchedule:
    """When updates are due and what share of connections they drop."""
    return self._schedule

  def num_surplus(self) -> int:
    """The connections that soft memory will drop; not in a graph."""
    if self._target_counts is None:
      return 0
    return self._target_counts.num_surplus(self._layers)

  def drop_fraction_at(
    self, step: Tensor | int, ops: ModuleType = np
  ) -> Tensor:
    """The annealed `drop_fraction` at `step`; 0 outside of the window.

    Args:
      step: numbers, or tensors together with `ops=tf`.
      ops: `numpy` or `tensorflow`.

    Returns:
      float32 in [0, 1].
    """
    return self._schedule.drop_fraction_at(step, ops)

  def _settings(self) -> dict[str, object]:
    schedule = self._schedule
    return {
      "begin_step": schedule.begin_step,
      "end_step": schedule.end_step,
      "frequency": schedule.frequency,
      "drop_fraction": schedule.drop_fraction,
      "drop_fraction_anneal": schedule.drop_fraction_anneal,
      **self._options.in_use(),
    }

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    layers = self._updatable(gradients)
    step = tf.cast(tf.convert_to_tensor(step), tf.int64)
    fraction = self._schedule.drop_fraction_at(tf.cast(step, tf.float32), tf)
    seed = self._seed + self._seed_offset
    keys = sparse_layer.layer_keys(layers, seed, step)
    signals = [
      self._signal(layer, gradients)
      if layer.blocks is None
      else self._signal_of_blocks(layer.blocks)
      for layer in layers
    ]
    operations = self.mark_updated(step)
    masked, inputs = [], []
    for layer, key, signal in zip(layers, keys, signals, strict=True):
      update = (signal, key, fraction)
      if layer.compact is not None:
        operations += self._update_compact(layer, layer.compact, *update)
      elif layer.blocks is not None:
        operations += self._update_blocks(layer, layer.blocks, *update)
      else:
        masked.append(layer)
        inputs.append(self._inputs(layer, signal, key))
    self._thin_out(masked, inputs, step)
    results = self._update_all(inputs, fraction, step)
    for layer, result in zip(masked, results, strict=True):
      operations += self._assign(layer, *result)
    return operations

  def _thin_out(
    self,
    layers: Sequence[SparseLayer],
    inputs: Sequence[dict[str, Any]],
    step: Tensor,
  ) -> None:
    """Hook: may remove connections before connections are dropped and grown.

    Args:
      layers: the layers to update, of ordinary shape.
      inputs: their `_inputs`, of which `mask` may be replaced.
      step: int64 scalar, the step of the update.
    """

  def _updatable(
    self, gradients: list[tuple[Tensor, Variable]] | None
  ) -> list[SparseLayer]:
    """The layers to update: where growth needs gradients, those with one.

    Raises:
      ValueError: if gradients are needed, and no sparse layer has one.
    """
    if not self.update_is_iteration:
      return self._layers
    names = [layer.name for layer in self._without_gradient(gradients or [])]
    if len(names) == len(self._layers):
      raise ValueError(f"No gradients are given for the sparse layers {names}.")
    if names:
      warnings.warn(
        f"No gradients are given for the sparse layers {names}, by which "
        f"{type(self).__name__} grows connections: their masks stay.",
        stacklevel=2,
      )
    return [layer for layer in self._layers if layer.name not in names]

  def _inputs(
    self, layer: SparseLayer, signal: Tensor | None, key: Tensor
  ) -> dict[str, Any]:
    """The inputs of the update of a layer, as flat tensors."""
    slots = self._slots_of(layer.kernel)
    inputs = dict(
      weights=layer.kernel.read_value(),
      mask=layer.mask.read_value(),
      signal=signal,
      initial=self._initial_weights.get(layer.name),
      slots=[slot.read_value() for slot, _ in slots],
    )
    return tf.nest.map_structure(_flat, inputs) | dict(
      slot_starts=[
        None if start is None else tf.constant(start, slot.dtype)
        for slot, start in slots
      ],
      key=key,
      groups=layer.groups,
      target=None
      if self._target_counts is None
      else self._target_counts.of(layer),
    )

  def _assign(
    self,
    layer: SparseLayer,
    weights: Tensor,
    mask: Tensor,
    slots: list[Tensor],
  ) -> list[tf.Operation]:
    own = [slot for slot, _ in self._slots_of(layer.kernel)]
    return [
      variable.assign(tf.reshape(value, variable.shape))
      for variable, value in zip(
        [layer.kernel, layer.mask, *own], [weights, mask, *slots], strict=True
      )
    ]

  def _adopt(self, layer: SparseLayer, of_kernel: bool, of_mask: bool) -> None:
    super()._adopt(layer, of_kernel, of_mask)
    if self._target_counts is not None and of_mask:
      self._target_counts.adopt(layer)

  def _prepare_layer(self, layer: SparseLayer) -> None:
    if self._target_counts is not None:
      self._target_counts.add(layer, self._new_state)
    super()._prepare_layer(layer)
    if self._grow_init.method == "initial_dist":
      self._initial_weights[layer.name] = self._new_state(
        initial_value(layer.kernel), f"{layer.kernel_name}/initial"
      )

  def _signal(
    self,
    layer: SparseLayer,
    gradients: list[tuple[Tensor, Variable]] | None,
  ) -> Tensor | None:
    """Hook: what growth scores are derived from, in the kernel's shape."""
    del layer, gradients
    return None


def _flat(value: Any) -> Tensor | None:
  return None if value is None else tf.reshape(value, [-1])
