# SPDX-License-Identifier: Apache-2.0
"""Loops of a graph: their variables, and the number of their iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from rigl.counting.graphs.constants import Constants
from rigl.counting.graphs.labels import Label, merged
from rigl.types import Tensor

# A loop of more iterations is not counted, because each one is computed.
MAX_ITERATIONS = 20_000


@dataclass(frozen=True)
class LoopVariable:
  """What is known of a variable of a loop.

  Attributes:
    start: its value before the first iteration.
    shape: the sizes that it has in all iterations.
    label: its label in all iterations.
    is_constant: whether it is the same in all of them.
    sizes: `shape` as a tuple, which `==` compares; None: the rank is unknown.
  """

  start: Tensor = field(compare=False)
  shape: tf.TensorShape = field(compare=False)
  label: Label
  is_constant: bool = False
  sizes: tuple[int | None, ...] | None = None

  def __post_init__(self) -> None:
    known = self.shape.rank is not None
    sizes = tuple(self.shape.as_list()) if known else None
    object.__setattr__(self, "sizes", sizes)

  @classmethod
  def before(cls, start: Tensor, label: Label) -> LoopVariable:
    """What is known before the first iteration.

    Args:
      start: the value.
      label: its label.
    """
    return cls(start, start.shape, _without_owner(label))

  def after(
    self, argument: Tensor, result: Tensor, label: Label
  ) -> LoopVariable:
    """What the variable may be in all iterations, given one of them.

    Args:
      argument: the variable before that iteration.
      result: the variable after it.
      label: the label of the result.
    """
    same = result
    while same.op.type == "Identity" and same.name != argument.name:
      same = same.op.inputs[0]
    return LoopVariable(
      self.start,
      self.shape.most_specific_compatible_shape(result.shape),
      _without_owner(merged([self.label, label])),
      same.name == argument.name,
    )


def count_iterations(
  constants: Constants,
  goes_on: Tensor,
  inputs: Sequence[Tensor],
  variables: Sequence[Tensor],
  results: Sequence[Tensor],
) -> int | None:
  """Number of iterations of a loop, or None if it depends on the examples.

  The variables that decide it are computed for every iteration.

  Args:
    constants: computes values that do not depend on the examples.
    goes_on: the condition, computed from `variables`.
    inputs: values of the variables before the loop.
    variables: the variables in any iteration.
    results: the variables after that iteration.
  """
  places = {t.name: i for i, t in enumerate(variables)}
  used: set[str] = set()
  todo = [goes_on]
  while todo:
    names = constants.needs(todo, variables)
    if names is None:
      return None
    todo = [results[places[name]] for name in names - used]
    used |= names
  if not used:  # It runs never, or for ever.
    return None if constants.value(goes_on) else 0
  chosen = [places[name] for name in sorted(used)]
  values = [constants.value(inputs[i]) for i in chosen]
  if any(value is None for value in values):
    return None
  step = constants.function(
    [goes_on, *(results[i] for i in chosen)],
    [variables[i] for i in chosen],
  )
  if step is None:
    return None
  for number in range(MAX_ITERATIONS):
    given = zip((variables[i].name for i in chosen), values, strict=True)
    more, *values = step(dict(given))
    if not more:
      return number
  return None


def _without_owner(label: Label) -> Label:
  return Label(label.varies, () if label.varies else label.sources)
