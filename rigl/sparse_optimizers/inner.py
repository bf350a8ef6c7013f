# SPDX-License-Identifier: Apache-2.0
"""The wrapped optimizer: what is inside of it, its slots, what it keeps at 0.

An optimizer may wrap another one (loss scaling, moving averages, the sum over
TPU shards). Slots belong to the innermost one, whichever of them answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl.types import Variable

_V1 = tf.compat.v1.train
_Averages = tf.train.ExponentialMovingAverage
# A step of these leaves a weight of 0 at 0 if its gradient is 0 and its slots
# have their initial values. It is not known of classes derived from them.
_KEEP_ZEROS = (
  _V1.AdadeltaOptimizer,
  _V1.AdagradOptimizer,
  _V1.AdamOptimizer,
  _V1.FtrlOptimizer,
  _V1.GradientDescentOptimizer,
  _V1.MomentumOptimizer,
  _V1.ProximalAdagradOptimizer,
  _V1.ProximalGradientDescentOptimizer,
  _V1.RMSPropOptimizer,
  tf.compat.v1.mixed_precision.MixedPrecisionLossScaleOptimizer,
  tf.compat.v1.tpu.CrossShardOptimizer,
)


class Slot(NamedTuple):
  """A variable of the wrapped optimizer with a value for every weight.

  Attributes:
    variable: the slot, of the kernel's shape.
    start: its initial value. None: it starts as a copy of the weight.
  """

  variable: Variable
  start: float | None


class InnerOptimizer:
  """What an optimizer consists of.

  Args:
    optimizer: a `tf.compat.v1.train` optimizer.

  Raises:
    ValueError: if it is none, or cannot be inside of a sparse optimizer.
  """

  def __init__(self, optimizer: Any) -> None:
    _check(optimizer)
    self.parts: list[Any] = list(_reachable(optimizer, _V1.Optimizer))
    self._averages: list[Any] = [
      average for part in self.parts for average in _held(part, _Averages)
    ]
    self._starts: dict[int, float | None] = {}

  def keeps_zeros(self, dtype: tf.DType) -> bool:
    """Whether weights of zero gradient and fresh slots stay exactly zero.

    If not, they have to be set to zero after every step.

    Args:
      dtype: dtype of the weights. In float16 the usual epsilons are 0, and
        0 / 0 is no zero.
    """
    return all(
      type(part) in _KEEP_ZEROS and _has_epsilon(part, dtype)
      for part in self.parts
    )

  def create_slots(self, variables: Sequence[Variable]) -> None:
    """Creates the slots of all parts, and notes their initial values."""
    before = {id(slot) for v in variables for *_, slot in self._named_slots(v)}
    for part in self.parts:
      # The hook that v1 optimizers document for subclasses; apply_gradients
      # calls it in the same way.
      part._create_slots(list(variables))
    for variable in variables:
      for part, _, slot in self._named_slots(variable):
        if id(slot) not in before and not _is_of_tensorflow(part):
          self._starts[id(slot)] = _initial_value(slot, variable)

  def slots_of(self, kernel: Variable) -> list[Slot]:
    """The slots of a kernel that have its shape."""
    slots = [
      Slot(slot, self._start(part, name, slot))
      for part, name, slot in self._named_slots(kernel)
      if slot.shape == kernel.shape
    ]
    averages = [each.average(kernel) for each in self._averages]
    return slots + [Slot(each, None) for each in averages if each is not None]

  def variables(self) -> list[Variable]:
    """All variables of the parts, each once."""
    found: dict[int, Variable] = {}
    for part in self.parts:
      found |= {id(variable): variable for variable in part.variables()}
    return list(found.values())

  def to_track(self) -> list[Any]:
    """The parts that a `tf.train.Checkpoint` has to be told.

    A part that answers for the slots of another one is not among them: a
    checkpoint refuses slots that have two owners.
    """
    told: list[Any] = []
    known: set[int] = set()
    for part in self.parts:
      if id(part) in known or (
        len(list(_reachable(part, _V1.Optimizer))) > 1
        and type(part).get_slot_names is not _V1.Optimizer.get_slot_names
      ):
        continue
      told.append(part)
      known |= {id(child) for child in part._trackable_children().values()}
    return told

  def _named_slots(
    self, variable: Variable
  ) -> Iterator[tuple[Any, str, Variable]]:
    """Part, name and slot of every slot; the innermost part that answers."""
    seen: set[int] = set()
    for part in reversed(self.parts):
      for name in part.get_slot_names():
        slot = part.get_slot(variable, name)
        if slot is not None and id(slot) not in seen:
          seen.add(id(slot))
          yield part, name, slot

  def _start(self, part: Any, name: str, slot: Variable) -> float | None:
    """The initial value of a slot: 0, except for some sums of squares."""
    if id(slot) in self._starts:
      return self._starts[id(slot)]
    if name in ("accumulator", "accum"):
      return float(getattr(part, "_initial_accumulator_value", 0.0))
    if name == "gradient_squared_accumulator":
      value = getattr(part, "_initial_gradient_squared_accumulator_value", 0.0)
      return float(value)
    return 1.0 if name == "rms" else 0.0


def _check(optimizer: Any) -> None:
  if not isinstance(optimizer, _V1.Optimizer):
    kind = optimizer if inspect.isclass(optimizer) else type(optimizer)
    modules = [base.__module__ for base in kind.__mro__]
    hint = ""
    if any("keras" in module for module in modules):
      hint = " For Keras optimizers there is `rigl.keras`."
    elif inspect.isclass(optimizer) and issubclass(optimizer, _V1.Optimizer):
      hint = f" Give an instance, such as {kind.__name__}(0.1)."
    raise ValueError(
      "`optimizer` must be a tf.compat.v1.train optimizer, got "
      f"{'the class ' if inspect.isclass(optimizer) else ''}{kind.__name__}."
      f"{hint}"
    )
  sums = tf.compat.v1.tpu.CrossShardOptimizer
  first, *inside = _reachable(optimizer, _V1.Optimizer)
  if any(isinstance(part, sums) for part in inside):
    raise ValueError(
      "`optimizer`: a CrossShardOptimizer must be the outermost one, because "
      "masks follow from summed gradients, got it inside "
      f"{type(first).__name__}."
    )


def _reachable(item: Any, kind: type) -> Iterator[Any]:
  """An item and those of its kind that it holds, the outermost first."""
  seen, waiting = {id(item)}, [item]
  while waiting:
    item = waiting.pop(0)
    yield item
    for held in _held(item, kind):
      if id(held) not in seen:
        seen.add(id(held))
        waiting.append(held)


def _held(item: Any, kind: type) -> Iterator[Any]:
  """The attributes of an item that are of a kind, also within lists."""
  for value in getattr(item, "__dict__", {}).values():
    values: Iterable[Any] = [value]
    if isinstance(value, Mapping):
      values = list(value.values())
    elif isinstance(value, (list, tuple, set)):
      values = value
    yield from (each for each in values if isinstance(each, kind))


def _has_epsilon(part: Any, dtype: tf.DType) -> bool:
  """Whether the epsilon of a part, if it has one, is above 0 in a dtype."""
  epsilon = getattr(part, "_epsilon", 1.0)
  if not isinstance(epsilon, (int, float, np.number)):
    return False
  return float(np.asarray(epsilon).astype(dtype.as_numpy_dtype)) > 0


def _is_of_tensorflow(part: Any) -> bool:
  return type(part).__module__.partition(".")[0] == "tensorflow"


def _initial_value(slot: Variable, variable: Variable) -> float | None:
  """The value that a new slot has everywhere; None if that of the weights."""
  with tf.init_scope():
    if not tf.executing_eagerly():
      found = tf.get_static_value(slot.initial_value)
      same = False
    else:
      found = np.asarray(slot.read_value())
      same = found.shape == variable.shape and bool(
        np.array_equal(found, np.asarray(variable.read_value()))
      )
  if found is None or not np.size(found):
    return 0.0
  first = float(np.ravel(found)[0])
  if np.all(found == first):
    return first
  return None if same else 0.0
