# SPDX-License-Identifier: Apache-2.0
"""Drop and grow by a schedule: the base of RigL, SET, SNFS and static.

The rule is that of the `tf.compat.v1` optimizers; this module gives it the
variables of Keras.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from rigl import mask_ops
from rigl.checks import check_number
from rigl.keras import replicas
from rigl.keras.drop_grow_stored import StoredDropGrow
from rigl.keras.exploration import ExploringOptimizer
from rigl.keras.kernels import Filters
from rigl.keras.sparse_kernel import SparseKernel
from rigl.keras.sparsities import Distribution
from rigl.keras.update_schedules import update_schedule
from rigl.mask_ops import EngineName
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers.drop_grow_options import (
  LAYER_FLOOR,
  DropGrowOptions,
)
from rigl.sparse_optimizers.grow_init import WEIGHT_METHODS, parse_grow_init
from rigl.types import Tensor


class DropGrowOptimizer(StoredDropGrow, ExploringOptimizer):
  """Drops and grows connections by a schedule.

  An update is, in every sparse variable of n active connections,

      dropped = the int(n * f) active connections of smallest |weight + noise|
      grown   = as many of highest growth score among all that are not kept
      mask    = (mask - dropped) + grown,

  where f is `drop_fraction`, annealed. Grown connections that were inactive
  start at `grow_init`, with fresh slots; the others keep weights and slots.

  Attributes:
    grow_inits: the values of `grow_init` that the method knows.
    takes_options: whether it has the arguments of `DropGrowOptions`.

  Args:
    begin_step: first value of `iterations` that may update, at least 0.
    end_step: last value of `iterations` that may update; the paper uses 3/4 of
      all steps. None: no end, and then f stays constant.
    frequency: least number of steps between two updates, at least 1.
    drop_fraction: share f of the active connections to drop in the first
      update, in [0, 1].
    anneal: how f falls from `begin_step` to `end_step`, with p in [0, 1] the
      share of that window that has passed: `cosine`, f * (1 + cos(pi * p)) / 2;
      `constant`; or `exponential[_K]`, f * (1 - p) ** K with K > 0.
    grow_init: initial weights of grown connections: `zeros`; `initial_dist`,
      drawn from the initial weights of the variable; `random_normal`, with the
      standard deviation of the active weights; or `random_uniform`, in plus or
      minus their mean magnitude. All but `zeros` may be followed by `_K` to
      divide by K > 0, such as `random_normal_10`.
    noise_std: standard deviation of the noise on |weight| when dropping, at
      least 0. It breaks ties by chance; 0 breaks them by index.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.
    soft_memory: for RigL and SET, as the next three: whether there is a surplus
      of connections between updates (Yuan et al., 2021,
      https://arxiv.org/abs/2110.14032). An update then keeps the n connections
      of largest |weight + noise|, n being what the variable had at the start,
      and grows int(n * f), at most the whole variable; the last update that
      fits before `end_step` only drops. `sparsity` is that of n. It needs an
      end.
    across_layers: whether connections are compared over all variables (Yin et
      al., 2023, https://arxiv.org/abs/2305.19454): all together keep their
      number, and each may win or lose some; those that were given all of their
      connections stay dense. Only for layers of ordinary storage.
    layer_floor: least share of its n connections that a variable keeps with
      `across_layers`, in [0, 1]; at least one.
    drop_gradient_weight: at least 0; this times |gradient| is added to
      |weight + noise| when dropping (Yuan et al., 2021).

  Raises:
    ValueError: if an argument is not as described.
  """

  grow_inits: tuple[str, ...] = WEIGHT_METHODS
  takes_options = False

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    distribution: Distribution | None = None,
    begin_step: int = 0,
    end_step: int | None = None,
    frequency: int = 100,
    drop_fraction: float = 0.3,
    anneal: str = "cosine",
    grow_init: str = "zeros",
    filters: Filters = None,
    seed: int = 0,
    noise_std: float = 1e-5,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    track_exploration: bool = False,
    soft_memory: bool = False,
    across_layers: bool = False,
    layer_floor: float = LAYER_FLOOR,
    drop_gradient_weight: float = 0.0,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    schedule = update_schedule(
      begin_step, end_step, frequency, drop_fraction, anneal
    )
    parsed = parse_grow_init(grow_init, self.grow_inits)
    check_number("noise_std", noise_std, 0)
    options = DropGrowOptions(
      schedule, soft_memory, across_layers, layer_floor, drop_gradient_weight
    )
    if not self.takes_options:
      options.check_unused(type(self).__name__)
    options.check_structure(structure)
    super().__init__(
      optimizer,
      sparsity,
      distribution=distribution,
      filters=filters,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
      name=name,
      **kwargs,
    )
    self._schedule = schedule
    self._grow_init_name = grow_init
    self._grow_init = parsed
    self._noise_std = float(noise_std)
    self._options = options
    if drop_gradient_weight:
      self.update_is_iteration = True
    self._target_counts: dict[str, keras.Variable] = {}
    self._initial: dict[str, keras.Variable] = {}
    self._track(track_exploration)

  @property
  def schedule(self) -> UpdateSchedule:
    """When updates are due and what share of connections they drop."""
    return self._schedule

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    schedule = self._schedule
    options = self._options.arguments() if self.takes_options else {}
    return super().get_config() | {
      "begin_step": schedule.begin_step,
      "end_step": None if schedule.end_step < 0 else schedule.end_step,
      "frequency": schedule.frequency,
      "drop_fraction": schedule.drop_fraction,
      "anneal": schedule.drop_fraction_anneal,
      "grow_init": self._grow_init_name,
      "noise_std": self._noise_std,
      "track_exploration": self._tracks_exploration,
      **options,
    }

  def _create_state(self) -> None:
    super()._create_state()
    if self._options.changes_counts:
      for kernel in self._kernels:
        self._target_counts[kernel.path] = self.add_variable(
          shape=(),
          initializer=functools.partial(_number, kernel),
          dtype="int64",
          aggregation="only_first_replica",
          name=f"target_connections_{kernel.name}",
        )
    if self._grow_init.method == "initial_dist":
      for kernel in self._kernels:
        self._initial[kernel.path] = self._new_copy(kernel, "initial")
    self._create_explored()

  @property
  def target_connections(self) -> dict[str, keras.Variable]:
    """{path: int64 variable, the number of connections without a surplus}.

    Empty without `soft_memory` and `across_layers`, or before the optimizer is
    built.
    """
    return dict(self._target_counts)

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    fraction = self._schedule.drop_fraction_at(tf.cast(step, tf.float32), tf)
    self._mark_updated(step)
    kernels = [k for k in self._kernels if k.path in present]
    hashes = [kernel.name_hash for kernel in kernels]
    keys = mask_ops.hash_key(self._settings.seed, hashes, step)
    signals = self._signals(kernels, present)
    # Before as well, because masks may have been assigned.
    self._note_explored()
    before = [kernel.snapshot() for kernel in kernels]
    masked, inputs = [], []
    for kernel, signal, key in zip(
      kernels, signals, tf.unstack(keys), strict=True
    ):
      if kernel.blocks is not None:
        self._move_blocks(kernel, kernel.blocks, key, fraction)
      elif kernel.compact is not None:
        self._move(kernel, kernel.compact, signal, key, fraction)
      else:
        masked.append(kernel)
        inputs.append(self._inputs(kernel, signal, key))
    self._thin_out(masked, inputs, step)
    results = self._update_all(inputs, fraction, step)
    for kernel, result in zip(masked, results, strict=True):
      self._assign(kernel, *result)
    self._note_explored()
    self._note_changes(kernels, before)

  def _thin_out(
    self,
    kernels: Sequence[SparseKernel],
    inputs: Sequence[dict[str, Any]],
    step: Tensor,
  ) -> None:
    """Hook: may remove connections before connections are dropped and grown.

    Args:
      kernels: the kernels to update, of ordinary shape.
      inputs: their `_inputs`, of which `mask` may be replaced.
      step: int64 scalar, the step of the update.
    """

  def _inputs(
    self, kernel: SparseKernel, signal: Tensor | None, key: Tensor
  ) -> dict[str, Any]:
    """The inputs of the update of a kernel, as flat tensors."""
    slots = kernel.slots.all()
    inputs = dict(
      weights=kernel.variable,
      mask=kernel.mask,
      signal=signal,
      initial=self._initial.get(kernel.path),
      slots=[slot.variable for slot in slots],
    )
    return {name: _flat(value) for name, value in inputs.items()} | dict(
      slot_starts=[
        None if slot.start is None else tf.constant(slot.start, tf.float32)
        for slot in slots
      ],
      key=key,
      groups=kernel.groups,
      target=self._target_of(kernel),
    )

  def _target_of(self, kernel: SparseKernel) -> Tensor | None:
    if not self._target_counts:
      return None
    return tf.cast(
      tf.convert_to_tensor(self._target_counts[kernel.path]), tf.int32
    )

  def _assign(
    self,
    kernel: SparseKernel,
    weights: Tensor,
    mask: Tensor,
    slots: Sequence[Tensor],
  ) -> None:
    own = [slot.variable for slot in kernel.slots.all()]
    for variable, value in zip(
      [kernel.variable, kernel.mask, *own],
      [weights, mask, *slots],
      strict=True,
    ):
      replicas.assign(variable, tf.reshape(value, variable.shape))

  def _signals(
    self, kernels: Sequence[SparseKernel], present: Mapping[str, Any]
  ) -> list[Tensor | None]:
    """Hook: what growth scores are derived from, in each kernel's shape."""
    del present
    return [None for _ in kernels]


def _number(kernel: SparseKernel, *_: Any, **__: Any) -> Tensor:
  """The number of active connections, as an initializer of a variable."""
  return tf.cast(
    mask_ops.count_ones(tf.convert_to_tensor(kernel.whole_mask)), tf.int64
  )


def _flat(value: Any) -> Any:
  if value is None:
    return None
  if isinstance(value, list):
    return [_flat(each) for each in value]
  return tf.reshape(tf.convert_to_tensor(value), [-1])
