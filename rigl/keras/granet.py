# SPDX-License-Identifier: Apache-2.0
"""GraNet for Keras: gradual pruning with regrowth by gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.keras.compact_layers import SparseStorage
from rigl.keras.kernels import Filters
from rigl.keras.rigl import RigL
from rigl.keras.sparse_kernel import SparseKernel
from rigl.keras.sparsities import (
  Distribution,
  check_distribution,
  defaults,
  distribute,
)
from rigl.keras.update_schedules import update_schedule
from rigl.mask_ops import EngineName
from rigl.schedules import PruningSchedule
from rigl.sparse_optimizers.granet_rule import (
  check_start,
  pruned_masks,
  pruning_schedule,
)
from rigl.structures import Groups, parse_structure
from rigl.types import Tensor


@keras.saving.register_keras_serializable(package="rigl")
class GraNet(RigL):
  """GraNet: prunes gradually, and regrows connections by the dense gradient.

  Training starts with all connections, or with random ones of
  `initial_sparsity`. An update replaces a gradient step, as in RigL: its batch
  gives the gradient only. At the step t of an update, with N connections in
  all sparse variables together,

      p      = (t - begin_step) / (last pruning step - begin_step), at most 1
      s      = target + (initial - target) * (1 - p) ** 3
      pruned = all but the round(N * (1 - s)) active connections of largest
               |weight|, over all variables at once, but not the last of one

  and then, in every variable of n connections that are left,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of largest |gradient| among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed (zero-cost neuroregeneration). Pruned
  connections can grow back; like others that grow they start at `grow_init`.

  Liu et al., 2021, https://arxiv.org/abs/2106.10404, by their code: pruning by
  global magnitude, regeneration within each variable, also after the target is
  reached, drop fraction 0.5 with cosine annealing, a dense start or an ERK mask
  of density 0.5. Chosen here: the update takes the place of a gradient step, as
  in RigL; a variable keeps at least one connection; and the distribution of
  `sparsity` gives each variable the target from which the global number of
  connections is summed up, of which those with the target 0 stay dense.

  Args:
    sparsity: final share of zeros in the sparse variables, in [0, 1). None:
      0.9.
    end_step: last value of `iterations` that may update, at least
      `begin_step` + `frequency`.
    initial_sparsity: first share of zeros, in [0, sparsity].
    distribution: how both are distributed over the variables: `erk`
      (Erdos-Renyi-kernel), `erdos_renyi`, `uniform`, or {path or regex: final
      sparsity}, where variables that no key names get `sparsity`; all start at
      `initial_sparsity / sparsity` of it then.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. None: only that per variable is fixed. With one, a variable is
      pruned within its groups, by its own target, and `initial_sparsity` must
      be 0.
    pruning_end_step: last value of `iterations` that may prune, from
      `begin_step` + `frequency` to `end_step`; the last update that it leaves
      room for reaches the target, and later ones regenerate only. None:
      `end_step`.

  Raises:
    ValueError: if an argument is not as described. `build` raises it if a
      sparsity cannot be distributed over the variables.

  Example:
    >>> optimizer = GraNet("adamw", sparsity=0.9, end_step=2000)
    >>> model.compile(optimizer, "mse")
  """

  starts_dense = True
  takes_compact_layers = False
  takes_block_layers = False
  takes_options = False
  why_no_compact_layers = "it changes the number of connections"

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    end_step: int,
    initial_sparsity: float = 0.0,
    distribution: Distribution | None = None,
    begin_step: int = 0,
    frequency: int = 100,
    drop_fraction: float = 0.5,
    anneal: str = "cosine",
    grow_init: str = "zeros",
    filters: Filters = None,
    seed: int = 0,
    noise_std: float = 1e-5,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    grow_batches: int = 1,
    track_exploration: bool = False,
    pruning_end_step: int | None = None,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    parsed = parse_structure(structure)
    sparsity, distribution = defaults(sparsity, distribution, parsed)
    check_distribution(distribution, sparsity)
    updates = update_schedule(
      begin_step, end_step, frequency, drop_fraction, anneal
    )
    try:
      pruning = pruning_schedule(
        updates, sparsity, initial_sparsity, pruning_end_step
      )
    except ValueError as error:
      text = str(error).replace("`target_sparsity`", "`sparsity`")
      raise ValueError(text) from None
    check_start(initial_sparsity, structure)
    super().__init__(
      optimizer,
      sparsity,
      distribution=distribution,
      begin_step=begin_step,
      end_step=end_step,
      frequency=frequency,
      drop_fraction=drop_fraction,
      anneal=anneal,
      grow_init=grow_init,
      filters=filters,
      seed=seed,
      noise_std=noise_std,
      mask_engine=mask_engine,
      structure=structure,
      grow_batches=grow_batches,
      track_exploration=track_exploration,
      name=name,
      **kwargs,
    )
    self._pruning, self._pruning_end_step = pruning, pruning_end_step
    self._starts: dict[str, float] = {}

  @property
  def pruning_schedule(self) -> PruningSchedule:
    """The sparsity over the steps of training."""
    return self._pruning

  @property
  def target_sparsities(self) -> dict[str, float]:
    """{path: its share in the target}; variables may end at another one."""
    return {kernel.path: kernel.sparsity for kernel in self._kernels}

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    return super().get_config() | {
      "initial_sparsity": self._pruning.initial_sparsity,
      "pruning_end_step": self._pruning_end_step,
    }

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    stored: Mapping[str, SparseStorage],
  ) -> dict[str, float]:
    targets = super()._distribute(shapes, stored)
    initial = self._pruning.initial_sparsity
    distribution = self._settings.distribution
    if isinstance(distribution, str):
      self._starts = distribute(distribution, initial, shapes)
    else:
      share = initial / (self._pruning.target_sparsity or 1.0)
      self._starts = {p: target * share for p, target in targets.items()}
    return targets

  def _initial_mask(
    self,
    name: str,
    shape: tuple[int, ...],
    sparsity: float,
    groups: Groups | None,
  ) -> np.ndarray:
    # The name of a kernel is its number.
    start = list(self._starts.values())[int(name)]
    return sparse_utils.get_mask_random(shape, start, self._settings.seed, name)

  def _thin_out(
    self,
    kernels: Sequence[SparseKernel],
    inputs: Sequence[dict[str, Any]],
    step: Tensor,
  ) -> None:
    masks = pruned_masks(
      self._engine,
      self._pruning,
      tf.cast(step, tf.float32),
      [each["weights"] for each in inputs],
      [each["mask"] for each in inputs],
      [kernel.groups for kernel in kernels],
      [kernel.sparsity for kernel in kernels],
      [self._starts[kernel.path] for kernel in kernels],
    )
    for each, mask in zip(inputs, masks, strict=True):
      each["mask"] = mask
