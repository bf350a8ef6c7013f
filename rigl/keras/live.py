# SPDX-License-Identifier: Apache-2.0
"""Live objects: the layers of a variable, the model of an optimizer.

Keras tells an optimizer neither, so they are looked up among the objects that
the garbage collector knows. That takes up to 0.1 s in a large process: look
once, and pass on what was found.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras

# The layers that own a variable: one, or several that share it.
Owners: TypeAlias = Sequence[keras.layers.Layer]


def owners(variables: Sequence[Any]) -> list[Owners]:
  """The layers that own each variable.

  Args:
    variables: Keras variables, or their TensorFlow variables.

  Returns:
    A list of layers for each variable, empty if no layer has the variable.
  """
  found = _owners(variables)
  if not all(found) and gc.get_freeze_count():
    with _unfrozen():
      found = _owners(variables)
  return found


def model_of(optimizer: keras.optimizers.Optimizer) -> keras.Model | None:
  """The built model that was compiled with an optimizer.

  Args:
    optimizer: the optimizer, which may be inside a `LossScaleOptimizer`.

  Returns:
    The model; None without one.
  """

  def has_it(model: keras.Model) -> bool:
    outer = vars(model).get("optimizer") if model.built else None
    if isinstance(outer, keras.optimizers.LossScaleOptimizer):
      outer = outer.inner_optimizer
    return outer is optimizer

  return _first(keras.Model, has_it)


def loss_scaler_of(
  optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.LossScaleOptimizer | None:
  """The `LossScaleOptimizer` around an optimizer; None without one."""
  return _first(
    keras.optimizers.LossScaleOptimizer,
    lambda scaler: vars(scaler).get("inner_optimizer") is optimizer,
  )


def _owners(variables: Sequence[Any]) -> list[Owners]:
  found: dict[int, list[keras.layers.Layer]] = {id(v): [] for v in variables}
  for layer in _instances(keras.layers.Layer):
    for owned in vars(layer).get("_trainable_variables", ()):
      for key in (id(owned), id(owned.value)):
        if key in found:
          found[key].append(layer)
  return [found[id(variable)] for variable in variables]


def _first(kind: type, is_wanted: Callable[[Any], bool]) -> Any:
  """The first instance of a class that is wanted; None without one."""
  found = next(filter(is_wanted, _instances(kind)), None)
  if found is None and gc.get_freeze_count():
    with _unfrozen():
      found = next(filter(is_wanted, _instances(kind)), None)
  return found


@contextlib.contextmanager
def _unfrozen() -> Iterator[None]:
  """Within it, objects are found that `gc.freeze` has put aside.

  Freezing them again takes in all that lives, so garbage is collected before.
  """
  gc.unfreeze()
  try:
    yield
  finally:
    gc.collect()
    gc.freeze()


def _instances(kind: type) -> Iterator[Any]:
  """The live instances of a class and of all that derive from it."""
  kinds = _subclasses(kind)
  # By `type`, because objects of other packages may answer `isinstance` by
  # loading something.
  return (each for each in gc.get_objects() if type(each) in kinds)


def _subclasses(kind: type) -> set[type]:
  kinds: set[type] = {kind}
  derived: type
  for derived in kind.__subclasses__():
    kinds |= _subclasses(derived)
  return kinds
