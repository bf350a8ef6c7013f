# SPDX-License-Identifier: Apache-2.0
"""The owner of the masks: creates, describes and saves them.

`base.SparseOptimizer` adds training steps and mask updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.mask_ops import EngineName, MaskEngine
from rigl.sparse_optimizers.sparse_layer import (
  SparseLayer,
  bare_name,
  check_masks,
  name_layers,
)
from rigl.sparse_optimizers.structured import (
  groups_of_masks,
  structured_masks,
)
from rigl.sparse_optimizers.summary import summary
from rigl.sparse_optimizers.wrapper import WrappingOptimizer
from rigl.structures import Groups, parse_structure
from rigl.types import Tensor, Variable


class MaskOwner(WrappingOptimizer):
  """A wrapping optimizer with one mask per sparse kernel.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the gradient
      steps.
    use_locking: unused; part of the interface of `tf.compat.v1.train`.
    name: name of this optimizer. None: the name of the class.
    seed: seed of all random numbers, together with layer names and steps.
    mask_engine: how connections are chosen, which changes the speed alone:
      `xla` layer by layer, `batched` all layers at once, `numpy` on the host,
      `auto` by the devices that TensorFlow has.
    structure: `N:M` or `fan_in`, how many connections of every output are
      active; None: only the number per layer is fixed.

  Raises:
    ValueError: if an argument is not as described.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool,
    name: str | None,
    seed: int,
    mask_engine: EngineName,
    structure: str | None,
  ) -> None:
    super().__init__(optimizer, use_locking, name)
    self._structure = parse_structure(structure)
    self._seed = seed
    self._engine = MaskEngine(mask_engine)
    self._layers: list[SparseLayer] = []
    self._layer_of: dict[int, SparseLayer] = {}
    self._own_step: Variable | None = None
    self._changed: Sequence[Tensor | int] | None = None

  def sparsify(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    method: str = "erdos_renyi_kernel",
    default_sparsity: float = 0.9,
    custom_sparsity_map: Mapping[str, float] | None = None,
    erk_power_scale: float = 1.0,
  ) -> dict[str, float]:
    """Gives every kernel a random mask and zeroes its pruned weights.

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
      ValueError: if an argument is not as described, names are not unique, or
        a kernel cannot have the `structure` of this optimizer.
    """
    named = name_layers(kernels)
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
    self.create_masks(named, masks)
    return sparsities

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels and zeroes the pruned weights.

    Call it once, inside the scope of the `tf.distribute` strategy if there is
    one, and before the first step.

    Args:
      kernels: the sparse kernels, by layer name or as a sequence, whose layer
        names are then the variables' names without the last component.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active. None: everything is active.

    Raises:
      ValueError: if a mask is missing, unknown, of another shape, or without
        the `structure` of this optimizer.
      RuntimeError: if there are masks already.
    """
    if self._layers:
      raise RuntimeError("This optimizer has masks already.")
    named = name_layers(kernels)
    if masks is None:
      masks = {name: tf.ones(k.shape, tf.bool) for name, k in named.items()}
    check_masks(named, masks)
    _check_dtypes(named)
    groups = self._layer_groups(named, masks)
    for name, kernel in named.items():
      mask = tf.cast(masks[name], tf.bool)
      self._add_layer(name, kernel, mask, groups.get(name))
    self._create_state()
    # Now, because a compiled update resets only the slots that it finds.
    self.create_slots(list(named.values()))

  def _layer_groups(
    self, kernels: Mapping[str, Variable], masks: Mapping[str, Tensor]
  ) -> dict[str, Groups]:
    """Hook: {layer name: its groups} of the layers that have a structure."""
    del kernels
    if self._structure is None:
      return {}
    return groups_of_masks(masks, self._structure)

  def _add_layer(
    self, name: str, kernel: Variable, mask: Tensor, groups: Groups | None
  ) -> None:
    variable = self._new_state(mask, f"{name}/mask")
    layer = SparseLayer(name, kernel, variable, groups)
    self._layers.append(layer)
    self._layer_of[id(kernel)] = layer
    self._prepare_layer(layer)
    kernel.assign(tf.where(mask, kernel, tf.zeros_like(kernel)))

  def _prepare_layer(self, layer: SparseLayer) -> None:
    """Hook: sees a layer before its pruned weights become zero."""

  def _create_state(self) -> None:
    """Hook: creates the variables that do not belong to one layer."""

  @property
  def layers(self) -> tuple[SparseLayer, ...]:
    """The sparse layers, in the order of creation."""
    return tuple(self._layers)

  @property
  def seed(self) -> int:
    """The seed of the random numbers."""
    return self._seed

  @property
  def global_step(self) -> Variable:
    """The step counter used where no `global_step` is given; int64."""
    if self._own_step is None:
      with tf.init_scope():
        self._own_step = self._new_state(np.int64(0), "global_step")
    return self._own_step

  @property
  def mask_engine(self) -> MaskEngine:
    """Chooses the connections of all layers."""
    return self._engine

  def use_mask_engine(
    self, name: EngineName, threads: int | None = None
  ) -> None:
    """Replaces the mask engine, for executors, which know the device.

    Call it before the first update: functions that are traced already keep
    the engine they have.

    Args:
      name: `xla`, `batched`, `numpy` or `auto`, as for the constructor.
      threads: layers at a time of `numpy` outside of graphs, at least 1. None:
        one per processor.

    Raises:
      ValueError: if an argument is not as described.
    """
    self._engine = MaskEngine(name, threads)

  def mask_state(self) -> dict[str, Variable]:
    """The mask variables by their names in checkpoints, `LAYER/mask`."""
    return {bare_name(layer.mask): layer.mask for layer in self._layers}

  def checkpoint_state(self) -> dict[str, Tensor | Variable]:
    """The tensors of the optimizer for a checkpoint, by the published names.

    It is `state()` with the masks as float32, as published checkpoints have
    them.
    """
    masks = {n: tf.cast(m, tf.float32) for n, m in self.mask_state().items()}
    return self.state() | masks

  def changed_in_last_update(self) -> dict[str, int] | None:
    """The number of connections that the last update turned on or off.

    Updates outside of graphs are counted by `update_masks`; a loop that runs
    them in a compiled function tells their counts to `note_update`.

    Returns:
      {layer name: count}; None if no update was seen.
    """
    if self._changed is None:
      return None
    names = [layer.name for layer in self._layers]
    return dict(zip(names, map(int, self._changed), strict=True))

  def note_update(self, changed: Sequence[int]) -> None:
    """Takes the counts of an update that ran in a compiled function.

    Args:
      changed: connections turned on or off in each layer, in the order of
        `layers`.
    """
    if len(changed) != len(self._layers):
      raise ValueError(
        f"`changed` must have {len(self._layers)} counts, got {len(changed)}."
      )
    self._changed = changed

  def summary(self) -> str:
    """A table of the sparse layers, as text.

    It shows each layer's shape, active connections, sparsity, and the share of
    its connections that the last mask update turned on or off; `-` before any
    update.

    Raises:
      RuntimeError: if there are no masks yet.
    """
    if not self._layers:
      raise RuntimeError("There are no masks yet, so there is no summary.")
    return summary(self._layers, self.changed_in_last_update())

  def __repr__(self) -> str:
    connections = sum(la.mask.shape.num_elements() for la in self._layers)
    values = {
      "layers": len(self._layers),
      "connections": connections,
      **self._settings(),
    }
    listed = ", ".join(f"{name}={value!r}" for name, value in values.items())
    inner = type(self._optimizer).__name__
    return f"{type(self).__name__}({inner}, {listed})"

  def _settings(self) -> dict[str, object]:
    """Hook: the settings that `repr` shows."""
    return {}


def _check_dtypes(kernels: Mapping[str, Variable]) -> None:
  for name, kernel in kernels.items():
    if kernel.dtype not in (tf.float32, tf.bfloat16, tf.float16):
      raise ValueError(
        f"The kernel of {name!r} must be float32, bfloat16 or float16, got "
        f"{kernel.dtype.name}."
      )
