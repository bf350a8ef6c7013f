# SPDX-License-Identifier: Apache-2.0
"""Guarded steps: one whose numbers are not finite changes nothing.

The values of before come back, in the same program. It serves all methods,
because it does not look at what a step changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tensorflow as tf

from rigl.training.train_state import TrainState
from rigl.types import Tensor, Variable


class Guard:
  """Remembers the values of a state, and restores them if a step was bad.

  Make it before the step, in the same graph and replica. The number of steps
  and the place in the data go on.

  Args:
    variables: what `guarded_variables` returned.
  """

  def __init__(self, variables: Sequence[Variable]) -> None:
    self._variables = variables
    self._before = [variable.read_value() for variable in self._variables]

  def restore_unless_finite(self, tensors: Iterable[Tensor]) -> Tensor:
    """Restores the state if something is not finite.

    Args:
      tensors: numbers of the step, such as its loss and gradients; the same on
        all replicas.

    Returns:
      Bool scalar, whether these and the values of the new state are finite.
    """
    after = [variable.read_value() for variable in self._variables]
    is_good = are_finite([*tensors, *after])
    for variable, old, new in zip(
      self._variables, self._before, after, strict=True
    ):
      variable.assign(tf.where(is_good, new, old))
    return is_good


def guarded_variables(state: TrainState) -> list[Variable]:
  """The variables that a bad step leaves alone; call it outside of programs.

  Args:
    state: the train state, with slots.
  """
  return [
    *(v for v in state.variables.values() if v.dtype.is_floating),
    *(v for layer in state.optimizer.layers for v in layer.structure),
    *state.optimizer.state().values(),
  ]


def are_finite(tensors: Sequence[Tensor]) -> Tensor:
  """Bool scalar: whether all floating-point numbers are finite."""
  floats = [t for t in tensors if t.dtype.is_floating]
  if not floats:
    return tf.constant(True)
  return tf.reduce_all(
    tf.stack([tf.reduce_all(tf.math.is_finite(t)) for t in floats])
  )
