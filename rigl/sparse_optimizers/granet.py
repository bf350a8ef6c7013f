# SPDX-License-Identifier: Apache-2.0
"""GraNet: gradual pruning with regrowth by gradients, from dense to sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rigl import sparse_utils
from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.schedules import PruningSchedule
from rigl.sparse_optimizers.granet_rule import (
  check_start,
  pruned_masks,
  pruning_schedule,
)
from rigl.sparse_optimizers.kernels import (
  block_layers,
  compact_layers,
  layer_shapes,
)
from rigl.sparse_optimizers.rigl import SparseRigLOptimizer
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.structured import groups_of_targets
from rigl.structures import Groups
from rigl.types import Tensor, Variable


@configurable(
  unrecorded=[
    "custom_sparsity_map",
    "use_locking",
    "name",
    "erk_power_scale",
    "stateless_seed_offset",
    "noise_std",
    "weight_decay",
    "weight_decay_filter",
    "seed",
    "mask_engine",
    "structure",
    "grow_batches",
    "track_exploration",
    "pruning_end_step",
  ]
)
class SparseGraNetOptimizer(SparseRigLOptimizer):
  """GraNet: prunes gradually, and regrows connections by the dense gradient.

  Training starts with all connections, or with random ones of
  `initial_sparsity`. An update replaces a gradient step, as in RigL: its batch
  gives the gradient only. At the step t of an update, with N connections in
  all layers together,

      p      = (t - begin_step) / (last pruning step - begin_step), at most 1
      s      = target + (initial - target) * (1 - p) ** 3
      pruned = all but the round(N * (1 - s)) active connections of largest
               |weight|, over all layers at once, but not the last of a layer

  and then, in every layer of n connections that are left,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |gradient| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed (zero-cost neuroregeneration). Pruned
  connections can grow back; like others that grow they start at `grow_init`.

  Liu et al., 2021, https://arxiv.org/abs/2106.10404, by their code: pruning by
  global magnitude, regeneration within each layer, also after the target is
  reached, drop fraction 0.5 with cosine annealing, a dense start or an ERK mask
  of density 0.5. Chosen here: the update takes the place of a gradient step, as
  in RigL; a layer keeps at least one connection; and the distribution of
  `target_sparsity` gives each layer the target from which the global number of
  connections is summed up, of which those with the target 0 stay dense.

  Create the masks with `create_masks(kernels)`.

  Args:
    end_step: last value of `global_step` that may update, at least
      `begin_step` + `frequency`.
    target_sparsity: final share of zeros over all layers, in [0, 1).
    initial_sparsity: first share of zeros, in [0, target_sparsity].
    mask_init_method: how both are distributed over layers: `random` (the same
      in all), `erdos_renyi`, `erdos_renyi_kernel` or `str`; the formulas are
      those of `sparse_utils.get_sparsities`.
    custom_sparsity_map: {layer name: final sparsity in [0, 1)} of layers with a
      target of their own; they start at `initial_sparsity / target_sparsity`
      of it. None: there are none.
    drop_fraction_anneal: how f falls from `begin_step` to `end_step`, with
      p in [0, 1] the share of that window that has passed: `constant`;
      `cosine`, f * (1 + cos(pi * p)) / 2; or `exponential[_K]`,
      f * (1 - p) ** K with K > 0, or 1 if it is left out.
    erk_power_scale: exponent of the densities of `erdos_renyi_kernel`, at
      least 0; 0 gives all layers the same density.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active, for a sparsity of 1 - N / M; `fan_in` keeps the same
      number of connections per output. None: only that per layer is fixed.
      With one, a layer is pruned within its groups, by its own target, and
      `initial_sparsity` must be 0.
    pruning_end_step: last value of `global_step` that may prune, from
      `begin_step` + `frequency` to `end_step`; the last update that it leaves
      room for reaches the target, and later ones regenerate only. None:
      `end_step`.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where a sparsity cannot be distributed over the layers.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseGraNetOptimizer(
    ...   inner, begin_step=0, end_step=25000, frequency=100,
    ...   target_sparsity=0.9,
    ... )
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.create_masks([kernel])
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  starts_dense = True
  takes_compact_layers = False
  takes_block_layers = False
  why_no_compact_layers = "it changes the number of connections"

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    target_sparsity: float,
    initial_sparsity: float = 0.0,
    mask_init_method: str = "random",
    custom_sparsity_map: Mapping[str, float] | None = None,
    drop_fraction: float = 0.5,
    drop_fraction_anneal: str = "cosine",
    use_locking: bool = False,
    grow_init: str = "zeros",
    initial_acc_scale: float = 0.0,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    stateless_seed_offset: int = 0,
    noise_std: float = 1e-5,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    grow_batches: int = 1,
    track_exploration: bool = False,
    pruning_end_step: int | None = None,
  ) -> None:
    super().__init__(
      optimizer,
      begin_step,
      end_step,
      frequency,
      drop_fraction,
      drop_fraction_anneal,
      use_locking,
      grow_init,
      initial_acc_scale,
      name=name,
      stateless_seed_offset=stateless_seed_offset,
      noise_std=noise_std,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
      grow_batches=grow_batches,
      track_exploration=track_exploration,
    )
    self._pruning = pruning_schedule(
      self._schedule, target_sparsity, initial_sparsity, pruning_end_step
    )
    check_start(initial_sparsity, structure)
    self._distribution = (mask_init_method, erk_power_scale)
    self._custom = custom_sparsity_map
    self._targets: dict[str, float] = {}
    self._starts: dict[str, float] = {}

  @property
  def pruning_schedule(self) -> PruningSchedule:
    """The sparsity over the steps of training."""
    return self._pruning

  @property
  def target_sparsities(self) -> dict[str, float]:
    """{layer name: its share in the target}; layers may end at another one."""
    return dict(self._targets)

  def create_masks(
    self,
    kernels: Mapping[str, Variable] | Sequence[Variable],
    masks: Mapping[str, Tensor] | None = None,
  ) -> None:
    """Creates the masks of these kernels, of the initial sparsity.

    Call it once, inside the scope of the `tf.distribute` strategy if there is
    one, and before the first step.

    Args:
      kernels: the sparse kernels, by layer name or as a sequence, whose layer
        names are then the variables' names without the last component.
      masks: {layer name: array or tensor of the kernel's shape}, nonzero for
        active. None: random ones of `initial_sparsity`.

    Raises:
      ValueError: if a mask is missing, unknown or of another shape, or if a
        sparsity cannot be distributed over the layers.
      RuntimeError: if there are masks already.
    """
    shapes = layer_shapes(kernels)
    method, erk_power_scale = self._distribution
    pruning = self._pruning
    targets = sparse_utils.get_sparsities(
      shapes, method, pruning.target_sparsity, self._custom, erk_power_scale
    )
    share = pruning.initial_sparsity / (pruning.target_sparsity or 1.0)
    custom = {n: s * share for n, s in (self._custom or {}).items()}
    arguments = (method, pruning.initial_sparsity, custom)
    starts = sparse_utils.get_sparsities(shapes, *arguments, erk_power_scale)
    stored = compact_layers(kernels) | block_layers(kernels)
    if masks is None and pruning.initial_sparsity and not stored:
      masks = sparse_utils.get_mask_init_fn(
        shapes,
        *arguments,
        erk_power_scale=erk_power_scale,
        seed=self._seed,
      )()
    if not self.layers:
      self._targets, self._starts = targets, starts
    super().create_masks(kernels, masks)

  def _layer_groups(
    self, kernels: Mapping[str, Variable], masks: Mapping[str, Tensor]
  ) -> dict[str, Groups]:
    del masks
    return groups_of_targets(kernels, self._targets, self._structure)

  def sparsify(self, *args: Any, **options: Any) -> dict[str, float]:
    """Refuses, because the method was given its sparsities.

    Raises:
      RuntimeError: always.
    """
    raise RuntimeError(
      f"{type(self).__name__} was given its sparsities: call "
      "create_masks(kernels) in place of sparsify."
    )

  def _thin_out(
    self,
    layers: Sequence[SparseLayer],
    inputs: Sequence[dict[str, Any]],
    step: Tensor,
  ) -> None:
    masks = pruned_masks(
      self._engine,
      self._pruning,
      tf.cast(step, tf.float32),
      [each["weights"] for each in inputs],
      [each["mask"] for each in inputs],
      [layer.groups for layer in layers],
      [self._targets[layer.name] for layer in layers],
      [self._starts[layer.name] for layer in layers],
    )
    for each, mask in zip(inputs, masks, strict=True):
      each["mask"] = mask

  def _settings(self) -> dict[str, object]:
    return super()._settings() | {
      "target_sparsity": self._pruning.target_sparsity,
      "initial_sparsity": self._pruning.initial_sparsity,
    }
