# SPDX-License-Identifier: Apache-2.0
"""The owner of the masks: chooses and creates them.

`gradient_steps.GradientSteps` adds the steps under them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from rigl import sparse_utils
from rigl.checks import check_mapping
from rigl.sparse_optimizers import graph_control, restored
from rigl.sparse_optimizers.kernels import (
  block_layers,
  check_masks,
  compact_layers,
  mask_initial_value,
  name_layers,
  scope_of,
)
from rigl.sparse_optimizers.restored_masks import RestoredMasks, marks_of
from rigl.sparse_optimizers.sparse_layer import (
  BlockLayer,
  CompactLayer,
  SparseLayer,
)
from rigl.sparse_optimizers.structured import (
  groups_of_masks,
  structured_masks,
)
from rigl.structures import Groups
from rigl.tensor_names import MASK
from rigl.types import Tensor, Variable


class MaskOwner(RestoredMasks):
  """A wrapping optimizer with one mask per sparse kernel.

  Attributes:
    takes_compact_layers: whether the method trains layers that store only
      their active connections (`rigl.sparse`).
    why_no_compact_layers: the reason, where it does not.
    takes_block_layers: whether it trains those that store only their active
      blocks.
  """

  takes_compact_layers = True
  takes_block_layers = False
  why_no_compact_layers = "it needs something of every connection at every step"

  def sparsify(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    method: str = "erdos_renyi_kernel",
    default_sparsity: float = 0.9,
    custom_sparsity_map: Mapping[str, float] | None = None,
    erk_power_scale: float = 1.0,
  ) -> dict[str, float]:
    """Gives every kernel a random mask and zeroes its pruned weights.

    A kernel that is as sparse already, such as one that was restored, keeps
    its weights: the mask covers them and is random elsewhere. That is so
    without a `structure` and in eager mode. In a graph for a session the
    initial weights are masked: run the initializers afterwards.

    Args:
      kernels: the kernels to sparsify, by layer name or as a sequence, whose
        layer names are then the variables' names without the last component.
      method: how the sparsity is distributed over layers: `random` (the same
        in all), `erdos_renyi`, `erdos_renyi_kernel` or `str`; the formulas are
        those of `sparse_utils.get_sparsities`.
      default_sparsity: share of zeros over all layers, in [0, 1).
      custom_sparsity_map: {layer name: sparsity in [0, 1)} of layers with a
        sparsity of their own. None: there are none.
      erk_power_scale: exponent of the densities of `erdos_renyi_kernel`, at
        least 0; 0 gives all layers the same density.

    Returns:
      {layer name: sparsity}.

    Raises:
      ValueError: if an argument is not as described, names are not unique, one
        kernel is named twice, or a kernel cannot have the `structure` of this
        optimizer. Nothing is changed then.
      RuntimeError: if there are masks already, or inside a `tf.function`.
    """
    named = name_layers(kernels)
    if compact_layers(kernels) or block_layers(kernels):
      raise ValueError(
        "`kernels` must not hold layers that have their connections already: "
        "call create_masks() with them."
      )
    arguments = (method, default_sparsity, custom_sparsity_map or {})
    sparsities = sparse_utils.get_sparsities(named, *arguments, erk_power_scale)
    masks = sparse_utils.get_mask_init_fn(
      {name: kernel.shape for name, kernel in named.items()},
      *arguments,
      erk_power_scale=erk_power_scale,
      seed=self._seed,
    )()
    if self._structure is not None:
      masks |= structured_masks(
        {name: tuple(kernel.shape) for name, kernel in named.items()},
        sparsities,
        self._structure,
        self._seed,
      )
    elif tf.executing_eagerly():
      masks = {
        name: restored.mask_with_weights(
          graph_control.read_on_host(named[name]), mask
        )
        for name, mask in masks.items()
      }
    self.create_masks(named, masks)
    return sparsities | self._restored_sparsities()

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels and zeroes the pruned weights.

    A mask that a checkpoint restored wins over the given one. Call it once,
    inside the scope of the `tf.distribute` strategy if there is one, and before
    the first step.

    Args:
      kernels: the sparse kernels, by layer name or as a sequence, whose layer
        names are then the variables' names without the last component. Layers
        of `rigl.sparse` stand for their kernels.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active; layers of `rigl.sparse` are left out. None: everything is
        active.

    Raises:
      ValueError: if a mask is missing, unknown, of another shape, or without
        the `structure` of this optimizer. Nothing is changed then.
      RuntimeError: if there are masks already, or inside a `tf.function`.
    """
    if self._layers:
      raise RuntimeError("This optimizer has masks already.")
    in_graph = graph_control.is_session_graph()
    named = name_layers(kernels)
    compact, blocks = compact_layers(kernels), block_layers(kernels)
    given: Mapping[str, Tensor] = {} if masks is None else masks
    full = {
      name: kernel
      for name, kernel in named.items()
      if masks is None or id(kernel) in compact | blocks
    }
    if compact or blocks:
      check_mapping("masks", given, "{layer name: array}")
      of_layers = {name: given[name] for name in full if name in given}
      if compact:
        self._check_compact(of_layers, in_graph)
      if blocks:
        self._check_blocks(of_layers, in_graph)
    if full:
      ones = {name: tf.ones(k.shape, tf.bool) for name, k in full.items()}
      given = ones | dict(given)
    masks = given
    check_masks(named, masks)
    groups = self._layer_groups(named, masks)
    num_own = len(self._own_variables)
    with scope_of(named.values()):
      try:
        for name, kernel in named.items():
          mask = tf.cast(masks[name], tf.bool)
          self._add_layer(
            name,
            kernel,
            mask,
            groups.get(name),
            compact.get(id(kernel)),
            blocks.get(id(kernel)),
          )
        self._create_state()
        # Now, because a compiled update resets only the slots that it finds.
        self.create_slots(list(named.values()))
      except Exception:
        self._layers.clear()
        self._layer_of.clear()
        del self._own_variables[num_own:]
        raise
      self._marks = {layer.name: marks_of(layer) for layer in self._layers}
      if in_graph:
        for layer in self._layers:
          mask = tf.cast(masks[layer.name], tf.bool)
          mask_initial_value(layer.kernel, mask)
      else:
        for layer in self._layers:
          of_kernel, of_mask = self._marks[layer.name]
          if of_kernel >= 0 and of_mask >= 0:
            self._adopt(layer, True, True)
          else:
            self._cleared(layer, layer.mask.read_value())

  def _check_compact(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    """Raises ValueError unless layers without a mask can be trained so.

    Args:
      masks: those that were given for these layers.
      in_graph: whether this is a graph for a session.
    """
    if not self.takes_compact_layers:
      raise ValueError(
        f"{type(self).__name__} cannot train layers that store only their "
        f"active connections, because {self.why_no_compact_layers}."
      )
    self._check_arguments_of_compact(masks, in_graph)

  def _check_blocks(self, masks: Mapping[str, Tensor], in_graph: bool) -> None:
    """Raises ValueError unless layers of blocks can be trained so."""
    if not self.takes_block_layers:
      raise ValueError(
        f"{type(self).__name__} cannot train layers that store only their "
        "active blocks: RigL, SET, static and fixed masks can."
      )
    self._check_arguments_of_compact(masks, in_graph)

  def _check_arguments_of_compact(
    self, masks: Mapping[str, Tensor], in_graph: bool
  ) -> None:
    if self._structure is not None or masks or in_graph:
      raise ValueError(
        "Layers that store only their active connections have no `structure` "
        "and no `masks`, and need eager execution or tf.function."
      )

  def _layer_groups(
    self, kernels: Mapping[str, Variable], masks: Mapping[str, Tensor]
  ) -> dict[str, Groups]:
    """Hook: {layer name: its groups} of the layers that have a structure."""
    del kernels
    if self._structure is None:
      return {}
    return groups_of_masks(masks, self._structure)

  def _add_layer(
    self,
    name: str,
    kernel: Variable,
    mask: Tensor,
    groups: Groups | None,
    compact: CompactLayer | None,
    blocks: BlockLayer | None,
  ) -> None:
    # That of other layers says which of their values are in use.
    kind = MASK if compact is None and blocks is None else "in_use"
    variable = self._new_state(mask, f"{name}/{kind}")
    layer = SparseLayer(name, kernel, variable, groups, compact, blocks)
    self._layers.append(layer)
    self._layer_of[id(kernel)] = layer
    self._prepare_layer(layer)

  def _prepare_layer(self, layer: SparseLayer) -> None:
    """Hook: sees a layer before its pruned weights become zero."""

  def _create_state(self) -> None:
    """Hook: creates the variables that do not belong to one layer."""
