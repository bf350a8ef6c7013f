# SPDX-License-Identifier: Apache-2.0
"""Top-KAST for Keras: always sparse, with more weights that are trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from rigl.checks import check_number
from rigl.keras import replicas
from rigl.keras.compact_layers import SparseStorage
from rigl.keras.dense_weights import DenseWeightsOptimizer
from rigl.keras.exploration import ExploringOptimizer
from rigl.keras.kernels import Filters
from rigl.keras.scheduled import ScheduledOptimizer
from rigl.keras.sparse_kernel import SparseKernel
from rigl.keras.sparsities import (
  Distribution,
  check_distribution,
  defaults,
  distribute,
)
from rigl.keras.update_schedules import checked_end_step
from rigl.mask_ops import EngineName
from rigl.schedules.update_window import UpdateWindow
from rigl.sparse_optimizers.top_kast_rule import (
  TopKASTRule,
  penalty_factors,
  reset_outside,
  set_inputs,
)
from rigl.sparse_utils.backward_sets import chosen_backward_sparsity
from rigl.structures import parse_structure
from rigl.types import Tensor, Variable


@keras.saving.register_keras_serializable(package="rigl")
class TopKAST(
  TopKASTRule, ScheduledOptimizer, ExploringOptimizer, DenseWeightsOptimizer
):
  """Top-KAST: computes with the largest weights, trains some more of them.

  All weights of a sparse variable are kept in another one beside it. Two sets
  of them are chosen again at every update,

      forward set A  = the n_A weights of largest |weight|,
      backward set B = the n_B weights of largest |weight|, which holds A,

  where n_A and n_B are what the distribution of `sparsity` and of
  `backward_sparsity` gives the variable. With g the dense gradient of the model
  whose kernels are the weights of A, a gradient step is, in every variable of
  density D = n_A / size,

      weights = step(weights, g + c * weights)      in A
      weights = step(weights, g + c / D * weights)  in B without A
      weights = weights                             outside of B
      kernel  = weights in A, else 0,

  where step is that of the inner optimizer and c is `exploration_penalty`.
  That L2 penalty shrinks what is trained, so that weights outside of B come in.

  Jayakumar et al., 2020, https://arxiv.org/abs/2106.03517, sections 2.1 to 2.3,
  who choose the sets at every step, and find every 100 steps as good. Chosen
  here: D is the density of the variable itself; slots (momentum, Adam moments)
  of weights outside of B have their initial value; and after `end_step` A stays
  as it is, which ends the exploration. The first A are the largest initial
  weights. A weight decay of the inner optimizer comes on top of the penalty.

  Args:
    backward_sparsity: share of the weights outside of B over all sparse
      variables, in [0, `sparsity`]; 0 trains all weights. None: that of twice
      as many weights as in A, max(2 * `sparsity` - 1, 0).
    exploration_penalty: factor c of the penalty
      c / 2 * (sum of w^2 in A + sum of w^2 in B without A / D), at least 0.
    distribution: how both are distributed over the variables: `erk`
      (Erdos-Renyi-kernel), `erdos_renyi`, `uniform`, or {path or regex:
      sparsity}, where variables that no key names get `sparsity`; B has
      `backward_sparsity / sparsity` times the sparsity of A then. None: `erk`,
      or `uniform` if `structure` fixes the sparsity.
    begin_step: first value of `iterations` at which the sets are chosen again,
      at least 0.
    end_step: last such value. None: no end.
    frequency: least number of steps between two updates, at least 1.
    seed: unused: nothing is random here.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. B then has the same number in every group as well. None: only
      that per variable is fixed.
    track_exploration: whether to note which connections were ever active, for
      `explored_shares`. It costs one byte per connection, in checkpoints as
      well, and no time outside of mask updates.

  Raises:
    ValueError: if an argument is not as described, or `optimizer` averages
      weights (`use_ema`), which would average inactive ones into the model.

  Example:
    >>> optimizer = TopKAST("adamw", sparsity=0.9, backward_sparsity=0.8)
    >>> model.compile(optimizer, "mse")
  """

  _schedule: UpdateWindow

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    backward_sparsity: float | None = None,
    exploration_penalty: float = 1e-4,
    distribution: Distribution | None = None,
    begin_step: int = 0,
    end_step: int | None = None,
    frequency: int = 100,
    filters: Filters = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    track_exploration: bool = False,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    parsed = parse_structure(structure)
    sparsity, distribution = defaults(sparsity, distribution, parsed)
    check_distribution(distribution, sparsity)
    chosen = chosen_backward_sparsity(backward_sparsity, sparsity)
    check_number("exploration_penalty", exploration_penalty, 0)
    schedule = UpdateWindow(begin_step, checked_end_step(end_step), frequency)
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
    self._track(track_exploration)
    self._schedule = schedule
    self._given_backward, self._chosen_backward = backward_sparsity, chosen
    self._penalty = float(exploration_penalty)
    self._backward_targets: dict[str, float] = {}
    self._backward: dict[str, keras.Variable] = {}

  @property
  def schedule(self) -> UpdateWindow:
    """When the sets are chosen again."""
    return self._schedule

  @property
  def backward_masks(self) -> dict[str, keras.Variable]:
    """{path: the set B, a bool variable}; empty before `build`."""
    return dict(self._backward)

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    schedule = self._schedule
    return super().get_config() | {
      "backward_sparsity": self._given_backward,
      "exploration_penalty": self._penalty,
      "begin_step": schedule.begin_step,
      "end_step": None if schedule.end_step < 0 else schedule.end_step,
      "frequency": schedule.frequency,
      "track_exploration": self._tracks_exploration,
    }

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    stored: Mapping[str, SparseStorage],
  ) -> dict[str, float]:
    targets = super()._distribute(shapes, stored)
    distribution, backward = self._settings.distribution, self._chosen_backward
    if isinstance(distribution, str):
      self._backward_targets = distribute(
        distribution, backward.overall, shapes
      )
    else:
      self._backward_targets = {
        path: target * backward.ratio for path, target in targets.items()
      }
    return targets

  def _create_state(self) -> None:
    inputs = [
      self._inputs(k, tf.convert_to_tensor(k.variable)) for k in self._kernels
    ]
    sets = self._engine.map(self._both_sets, inputs)
    for kernel, (forward, _) in zip(self._kernels, sets, strict=True):
      kernel.set_mask(forward)
    super()._create_state()
    self._create_explored()
    for kernel, (_, backward) in zip(self._kernels, sets, strict=True):
      # Not assigned: a checkpoint may restore it as soon as it exists.
      self._backward[kernel.path] = self.add_variable(
        shape=kernel.shape,
        initializer=lambda shape, dtype, b=backward: tf.reshape(b, shape),
        dtype="bool",
        aggregation="only_first_replica",
        name=f"backward_mask_{kernel.name}",
      )

  def _move_masks(self) -> None:
    """Leaves them as they are, because B holds them."""

  def _start_from_weights(self) -> None:
    super()._start_from_weights()
    self._choose_sets()

  def _of_step(self, gradient: Any, variable: Variable) -> Tensor:
    kernel = self._sparse_kernel_of(variable)
    if kernel is None:
      return super()._of_step(gradient, variable)
    gradient = tf.convert_to_tensor(gradient)
    if self._penalty:
      size = kernel.size if kernel.groups is None else kernel.groups.size
      factors = penalty_factors(
        tf.convert_to_tensor(kernel.mask),
        self._penalty_per_call(),
        self._ones_of(kernel) / size,
        gradient.dtype,
      )
      gradient += factors * tf.convert_to_tensor(self._dense[kernel.path])
    backward = tf.convert_to_tensor(self._backward[kernel.path])
    return tf.where(backward, gradient, tf.zeros_like(gradient))

  def _penalty_per_call(self) -> float:
    """The penalty of this replica: the inner optimizer adds up and rescales."""
    share = 1.0 / tf.distribute.get_strategy().num_replicas_in_sync
    return self._penalty * share * (self.loss_scale_factor or 1.0)

  def _after_step(self) -> None:
    for kernel in self._kernels:
      replicas.update(
        self._dense[kernel.path],
        lambda dense, inside, stepped: dense.assign(
          tf.where(
            inside, tf.convert_to_tensor(stepped), tf.convert_to_tensor(dense)
          )
        ),
        self._backward[kernel.path],
        kernel.variable,
      )
    self._clear()

  def _clear(self, all_slots: bool = False) -> None:
    """Masks the weights by A, and starts slots outside of B anew."""
    super()._clear(all_slots)
    for kernel in self._kernels:
      dense, inside = self._dense[kernel.path], self._backward[kernel.path]
      for slot in kernel.slots.all():
        reset = functools.partial(_reset_outside, slot.start)
        replicas.update(slot.variable, reset, inside, dense)

  def _update(self, present: Mapping[str, Any], step: Tensor) -> None:
    del present
    self._mark_updated(step)
    self._note_explored()
    before = [kernel.snapshot() for kernel in self._kernels]
    self._choose_sets()
    for kernel in self._kernels:
      dense = self._dense[kernel.path]
      replicas.update(kernel.variable, lambda w, d: w.assign(d), dense)
    self._clear()
    self._note_explored()
    self._note_changes(self._kernels, before)

  def _choose_sets(self) -> None:
    """Sets the masks of A and B by the dense weights."""
    inputs = [
      self._inputs(kernel, tf.convert_to_tensor(self._dense[kernel.path]))
      for kernel in self._kernels
    ]
    sets = self._engine.map(self._both_sets, inputs)
    for kernel, (forward, backward) in zip(self._kernels, sets, strict=True):
      kernel.set_mask(forward)
      inside = self._backward[kernel.path]
      replicas.assign(inside, tf.reshape(backward, kernel.shape))

  def _inputs(self, kernel: SparseKernel, dense: Tensor) -> dict[str, Any]:
    backward = self._backward_targets[kernel.path]
    return set_inputs(dense, kernel.groups, self._ones_of(kernel), backward)


def _reset_outside(
  start: float | None, slot: Variable, inside: Any, dense: Any
) -> None:
  inside, value, weights = map(tf.convert_to_tensor, (inside, slot, dense))
  slot.assign(reset_outside(inside, value, start, weights))
