# SPDX-License-Identifier: Apache-2.0
"""Live objects: the layers of a variable, the model of an optimizer.

Keras tells an optimizer neither, so they are looked up among the objects that
the garbage collector knows.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import keras


def owners(variables: Sequence[Any]) -> list[list[keras.layers.Layer]]:
  """The layers that own each variable.

  Args:
    variables: Keras variables, or their TensorFlow variables.
  """
  found: dict[int, list[keras.layers.Layer]] = {id(v): [] for v in variables}
  for layer in _instances(keras.layers.Layer):
    for owned in vars(layer).get("_trainable_variables", ()):
      for key in (id(owned), id(owned.value)):
        if key in found:
          found[key].append(layer)
  return [found[id(variable)] for variable in variables]


def model_of(optimizer: keras.optimizers.Optimizer) -> keras.Model | None:
  """The built model that was compiled with an optimizer; None without one."""
  for model in _instances(keras.Model):
    if model.built and vars(model).get("optimizer") is optimizer:
      return model
  return None


def loss_scaler_of(
  optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.LossScaleOptimizer | None:
  """The `LossScaleOptimizer` around an optimizer; None without one."""
  for scaler in _instances(keras.optimizers.LossScaleOptimizer):
    if vars(scaler).get("inner_optimizer") is optimizer:
      return scaler
  return None


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
