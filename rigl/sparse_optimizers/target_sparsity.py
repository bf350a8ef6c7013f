# SPDX-License-Identifier: Apache-2.0
"""Optimizers with a target sparsity per layer: SNIP, DNW, gradual pruning.

Top-KAST, which has it from the start, derives from it as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl import sparse_utils
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers.base import SparseOptimizer
from rigl.sparse_optimizers.compact import kept_connections
from rigl.sparse_optimizers.kernels import (
  block_layers,
  compact_layers,
  layer_shapes,
  name_layers,
)
from rigl.sparse_optimizers.sparse_layer import CompactLayer, SparseLayer
from rigl.sparse_optimizers.structured import groups_of_targets
from rigl.structures import Groups
from rigl.types import Tensor, Variable


class TargetSparsityOptimizer(SparseOptimizer):
  """Starts dense and brings every layer to a target sparsity.

  Create the masks with `create_masks(kernels)`: all connections are active.

  Args:
    default_sparsity: share of zeros over all layers, in [0, 1).
    mask_init_method: how it is distributed over layers: `random` (the same in
      all), `erdos_renyi`, `erdos_renyi_kernel` or `str`; the formulas are those
      of `sparse_utils.get_sparsities`.
    custom_sparsity_map: {layer name: sparsity in [0, 1)} of layers with a
      sparsity of their own. None: there are none.
    erk_power_scale: exponent of the densities of `erdos_renyi_kernel`, at
      least 0; 0 gives all layers the same density.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where the sparsity cannot be distributed over the layers.
  """

  starts_dense = True

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    default_sparsity: float,
    mask_init_method: str,
    custom_sparsity_map: Mapping[str, float] | None = None,
    use_locking: bool = False,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
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
    self._distribution = (
      mask_init_method,
      default_sparsity,
      custom_sparsity_map,
      erk_power_scale,
    )
    self._targets: dict[str, float] = {}

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels, and the targets of the layers.

    Call it once, inside the scope of the `tf.distribute` strategy if there is
    one, and before the first step.

    Args:
      kernels: the sparse kernels, by layer name or as a sequence, whose layer
        names are then the variables' names without the last component. Layers
        of `rigl.sparse` stand for their kernels; they must have sparsity 0.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active. None: everything is active.

    Raises:
      ValueError: if a mask is missing, unknown or of another shape, or if the
        sparsity cannot be distributed over the layers.
      RuntimeError: if there are masks already.
    """
    shapes = layer_shapes(kernels)
    targets = sparse_utils.get_sparsities(shapes, *self._distribution)
    compact = compact_layers(kernels).values()
    for layer in compact if self.takes_compact_layers else ():
      size, given = math.prod(layer.shape), layer.values.shape[0]
      if given != size:
        raise ValueError(
          f"`kernels`: {type(self).__name__} starts dense, but {layer.name!r} "
          f"has {given} of {size} connections: make it with `sparsity` 0."
        )
    if not self.layers:
      self._targets = targets
      if masks is None and not compact and not block_layers(kernels):
        masks = self._first_masks(name_layers(kernels))
    super().create_masks(kernels, masks)

  def _first_masks(
    self, kernels: Mapping[str, Variable]
  ) -> Mapping[str, Tensor] | None:
    """Hook: the masks to start with, by layer name; None for all connections.

    Args:
      kernels: the kernels by layer name; `target_sparsities` is known.
    """
    del kernels
    return None

  def sparsify(self, *args: Any, **options: Any) -> dict[str, float]:
    """Refuses, because these methods start dense.

    Raises:
      RuntimeError: always.
    """
    raise RuntimeError(
      f"{type(self).__name__} starts dense and was given its sparsity: call "
      "create_masks(kernels) in place of sparsify."
    )

  def _check_created(self) -> None:
    """Raises RuntimeError unless there are masks."""
    if not self.layers:
      raise RuntimeError("Create the masks first, with create_masks(kernels).")

  @property
  def target_sparsities(self) -> dict[str, float]:
    """{layer name: the layer's target sparsity}."""
    return dict(self._targets)

  def _layer_groups(
    self, kernels: Mapping[str, Variable], masks: Mapping[str, Tensor]
  ) -> dict[str, Groups]:
    del masks
    return groups_of_targets(kernels, self._targets, self._structure)

  def _num_ones(self, layer: SparseLayer) -> Tensor:
    """The connections that the target leaves a layer, int32 scalar.

    Of a layer with a structure, those that it leaves every group.
    """
    size = layer.kernel.shape.num_elements()
    target = self._targets[layer.name]
    return tf.constant(self._ones_of(size, layer.groups, target))

  def _ones_of(self, size: int, groups: Groups | None, target: float) -> int:
    """The connections that a target leaves a layer, or every group of it.

    Args:
      size: number of weights of the layer.
      groups: its groups; None if it has none.
      target: share of zeros.
    """
    if self._structure is not None and groups is not None:
      return self._structure.ones_per_group(groups, target)
    return size - sparse_utils.get_n_zeros(size, target)

  def _assign_masks(self, masks: Sequence[Tensor]) -> list[tf.Operation]:
    """Sets flat masks and clears weights and slots of inactive connections."""
    operations = []
    for layer, flat in zip(self.layers, masks, strict=True):
      if layer.compact is not None:
        operations += self._shrink(layer, layer.compact, flat)
        continue
      mask = tf.reshape(flat, layer.mask.shape)
      operations += self._cleared(layer, mask)
      operations.append(layer.mask.assign(mask))
    return operations

  def _shrink(
    self, layer: SparseLayer, compact: CompactLayer, mask: Tensor
  ) -> list[tf.Operation]:
    """Clears the connections that a mask turns off, and moves them back."""
    slots = self._slots_of(layer.kernel)
    stays, positions, values, moved = kept_connections(
      mask,
      compact.positions.read_value(),
      layer.kernel.read_value(),
      [slot.read_value() for slot, _ in slots],
      [start for _, start in slots],
    )
    return [
      *compact.set_connections(positions, values),
      *(slot.assign(new) for (slot, _), new in zip(slots, moved, strict=True)),
      layer.mask.assign(stays),
    ]

  def _settings(self) -> dict[str, object]:
    method, sparsity, *_ = self._distribution
    return {"default_sparsity": sparsity, "mask_init_method": method}
