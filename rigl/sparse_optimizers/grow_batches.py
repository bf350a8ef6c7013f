# SPDX-License-Identifier: Apache-2.0
"""Growth scores from several batches: sums of the last dense gradients.

The idea is that of rigl-torch (`grad_accumulation_n`): the gradient of one
batch is a noisy score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.checks import check_integer
from rigl.schedules import UpdateSchedule
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.types import Tensor, Variable


def check_grow_batches(grow_batches: int, frequency: int) -> None:
  """Raises ValueError unless so many steps fit between two updates.

  Args:
    grow_batches: batches whose gradients are averaged, at least 1.
    frequency: least number of steps between two updates.
  """
  check_integer("grow_batches", grow_batches, 1)
  if grow_batches > frequency:
    raise ValueError(
      f"`grow_batches` must be at most `frequency` ({frequency}), got "
      f"{grow_batches}."
    )


class GradientSums:
  """The sums of the dense gradients of the last steps before an update.

  It has one variable per layer, of its shape and dtype, and one counter.

  Args:
    schedule: when masks are updated.
    batches: batches per update, at least 2: those of the gradient steps before
      it, and the one of the update itself.
    new_state: creates a variable of the optimizer, of a value and a name.
  """

  def __init__(
    self,
    schedule: UpdateSchedule,
    batches: int,
    new_state: Callable[[Any, str], Variable],
  ) -> None:
    self._schedule, self._steps = schedule, batches - 1
    self._new_state = new_state
    self._sums: dict[int, Variable] = {}
    self._count: Variable | None = None

  def add_layer(self, layer: SparseLayer) -> None:
    """Creates the variables of a layer."""
    self._sums[id(layer.kernel)] = self._new_state(
      tf.zeros(layer.shape, layer.kernel.dtype),
      f"{layer.kernel_name}/grow_gradient",
    )

  def create_counter(self) -> None:
    """Creates the number of gradients in the sums."""
    self._count = self._new_state(np.int64(0), "grow_gradient_batches")

  def collect(
    self,
    gradients: Iterable[tuple[Tensor, Variable]],
    step: Variable,
    last_update_step: Variable,
  ) -> list[tf.Operation]:
    """Adds the gradients of a step, if the next update is near.

    Args:
      gradients: pairs of dense gradients, summed over replicas, and variables.
      step: the value of `global_step` before the step.
      last_update_step: step of the last update.

    Returns:
      The assignments.
    """
    near = self._schedule.precedes_update(
      tf.cast(step, tf.int64),
      tf.convert_to_tensor(last_update_step),
      self._steps,
    )
    known = [
      (g, self._sums[id(v)]) for g, v in gradients if id(v) in self._sums
    ]

    def add() -> list[tf.Operation]:
      return [
        self._counter.assign_add(1),
        *(total.assign_add(gradient) for gradient, total in known),
      ]

    if not tf.distribute.has_strategy():
      chosen = graph_control.branch(
        near, lambda: graph_control.group(add()), None
      )
      return [] if chosen is None else [chosen]
    # Replicas cannot assign variables in a branch.
    count = self._counter.read_value()
    return [
      self._counter.assign(tf.where(near, count + 1, count)),
      *(
        total.assign(tf.where(near, total + gradient, total))
        for gradient, total in known
      ),
    ]

  def mean_with(self, gradient: Tensor, layer: SparseLayer) -> Tensor:
    """The mean of the collected gradients of a layer and one more.

    Args:
      gradient: the gradient of the batch of the update.
      layer: the layer.

    Returns:
      Tensor of the gradient's shape and dtype.
    """
    number = tf.cast(self._counter.read_value() + 1, gradient.dtype)
    total = self._sums[id(layer.kernel)].read_value()
    return (total + gradient) / number

  def clear(self) -> list[tf.Operation]:
    """Starts anew after an update; returns the assignments."""
    return [
      self._counter.assign(tf.zeros([], tf.int64)),
      *(total.assign(tf.zeros_like(total)) for total in self._sums.values()),
    ]

  @property
  def _counter(self) -> Variable:
    if self._count is None:
      raise RuntimeError("Create the masks first.")
    return self._count
