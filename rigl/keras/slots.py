# SPDX-License-Identifier: Apache-2.0
"""Slots of Keras optimizers: their state for each weight.

Keras has no interface to them. Its optimizers keep lists of variables that are
parallel to the list of trainable variables; an example optimizer of the same
class shows what each list starts with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from rigl.keras.wrapper import parts_of

# Lists of a Keras optimizer that hold no slots.
_NO_SLOTS = ("_variables", "_trainable_variables")
_AVERAGES = "_model_variables_moving_average"
_ACCUMULATORS = "_accumulated_gradients"
# Slots that a step changes where gradient, weight and slots are zero. Other
# slots of these classes stay as they are there; nothing is known of others.
_CHANGING: dict[str, tuple[str, ...]] = {
  "Adadelta": (),
  "Adafactor": ("_v",),
  "Adagrad": (),
  "Adam": (),
  "AdamW": (),
  "Adamax": (),
  "Ftrl": (),
  "Lamb": (),
  "Lion": (),
  "Muon": (),
  "Nadam": (),
  "RMSprop": (),
  "SGD": (),
  "ScheduleFreeAdamW": (),
}


@dataclass(frozen=True, eq=False)
class Slot:
  """A variable that an optimizer keeps for one weight, of the same shape.

  Attributes:
    name: the attribute of the optimizer whose list holds it.
    variable: the slot.
    start: its value before the first step; None where that is the weight.
    changes: whether a step may change it where gradient, weight and slots are
      zero.
  """

  name: str
  variable: keras.Variable
  start: float | None
  changes: bool


@dataclass(frozen=True, eq=False)
class Slots:
  """The slots of one weight.

  Attributes:
    states: slots with a constant start.
    copies: slots that start as a copy of the weight, and moving averages.
    accumulator: sum of the gradients of this step so far, or None.
  """

  states: tuple[Slot, ...]
  copies: tuple[Slot, ...]
  accumulator: keras.Variable | None

  def all(self) -> list[Slot]:
    """States and copies."""
    return [*self.states, *self.copies]

  def changing(self) -> list[Slot]:
    """Those that a step may change where everything is zero."""
    return [slot for slot in self.all() if slot.changes]


def find_slots(
  optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]
) -> list[Slots]:
  """The slots of each variable.

  Args:
    optimizer: a built optimizer.
    variables: variables that it was built with.
  """
  parts = parts_of(optimizer)
  starts = {id(part): _starts(part) for part in parts}
  found = []
  for variable in variables:
    part = next(p for p in parts if _knows(p, variable))
    found.append(_slots_of(part, variable, starts[id(part)]))
  return found


def start_anew(optimizer: keras.optimizers.Optimizer) -> None:
  """Sets the slots of all variables to their values before the first step.

  Slots that start as a copy of the weight, and averages, become the weight.

  Args:
    optimizer: a built optimizer.
  """
  for part in parts_of(optimizer):
    if not part.built:
      continue
    variables = part._trainable_variables
    example = _example(part)
    example.build(variables)
    slots = _lists(part)
    for name, starts in _lists(example).items():
      values = variables if name == _AVERAGES else starts
      for slot, value in zip(slots[name], values, strict=True):
        if slot is not None:
          slot.assign(value)


def _example(
  optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
  """A new optimizer of the same class and configuration."""
  config = optimizer.get_config() | {"learning_rate": 0.5}
  return type(optimizer).from_config(config)


def _knows(optimizer: keras.optimizers.Optimizer, variable: Any) -> bool:
  key = optimizer._var_key(variable)
  return optimizer.built and key in optimizer._trainable_variables_indices


def _lists(optimizer: keras.optimizers.Optimizer) -> dict[str, Sequence[Any]]:
  """The lists of the optimizer that are parallel to its variables."""
  length = len(optimizer._trainable_variables)
  return {
    name: value
    for name, value in vars(optimizer).items()
    if name not in _NO_SLOTS
    and isinstance(value, list | tuple)
    and len(value) == length
    and any(isinstance(each, keras.Variable) for each in value)
  }


def _slots_of(
  optimizer: keras.optimizers.Optimizer,
  variable: Any,
  starts: dict[str, float | None],
) -> Slots:
  place = optimizer._get_variable_index(variable)
  kind = type(optimizer)
  changing = _CHANGING.get(kind.__name__)
  if getattr(keras.optimizers, kind.__name__, None) is not kind:
    changing = None
  states: list[Slot] = []
  copies: list[Slot] = []
  accumulator = None
  for name, values in _lists(optimizer).items():
    found = values[place]
    if found is None or tuple(found.shape) != tuple(variable.shape):
      continue
    if name == _ACCUMULATORS:
      accumulator = found
      continue
    start = None if name == _AVERAGES else starts.get(name, 0.0)
    changes = name == _AVERAGES or changing is None or name in changing
    slot = Slot(name, found, start, changes)
    (copies if start is None else states).append(slot)
  return Slots(tuple(states), tuple(copies), accumulator)


def _starts(
  optimizer: keras.optimizers.Optimizer,
) -> dict[str, float | None]:
  """The start of the slots in each list, seen in an optimizer of that class.

  The slots themselves may have been restored from a checkpoint already.
  """
  example = _example(optimizer)
  weights = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
  variable = keras.Variable(weights, name="example")
  example.build([variable])
  starts: dict[str, float | None] = {}
  for name, values in _lists(example).items():
    slot = values[0]
    if slot is None or tuple(slot.shape) != weights.shape:
      continue
    value = slot.numpy()
    if np.array_equal(value, weights):
      starts[name] = None
    else:
      starts[name] = float(value.flat[0])
  return starts
