# SPDX-License-Identifier: Apache-2.0
"""Signature: a function of named tensors, with examples of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl.types import Tensor


class Signature(NamedTuple):
  """What an exported network computes.

  Attributes:
    function: named tensors in, tensors by name out.
    inputs: the arguments; their first dimension, of any size, counts examples.
    examples: values of the arguments, to compare an export with TensorFlow.
    variables: the variables that it reads.
  """

  function: Callable[..., dict[str, Tensor]]
  inputs: Mapping[str, tf.TensorSpec]
  examples: Mapping[str, np.ndarray]
  variables: Sequence[Any]

  @property
  def num_examples(self) -> int:
    """The number of examples."""
    return len(next(iter(self.examples.values())))

  def compute(self, **inputs: Any) -> dict[str, np.ndarray]:
    """The results of TensorFlow.

    Args:
      **inputs: values by the names of the arguments.
    """
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    function = tf.function(self.function, autograph=False)
    # A new function for every call is no accident: TensorFlow's warning of it
    # is for calls of `tf.function` alone.
    results = function.get_concrete_function(**tensors)(**tensors)
    return {name: value.numpy() for name, value in results.items()}

  def batches(self, size: int) -> list[dict[str, np.ndarray]]:
    """The examples in batches of one size; the last ones are left out.

    Args:
      size: examples per batch. If there are fewer, they are repeated.
    """
    places = (
      np.arange(max(self.num_examples // size, 1) * size) % self.num_examples
    )
    return [
      {name: value[part] for name, value in self.examples.items()}
      for part in places.reshape(-1, size)
    ]

  def module(self, batch_size: int | None = None) -> tuple[tf.Module, Any]:
    """The function as TensorFlow's exporters take it.

    Args:
      batch_size: examples per call; None for any number.

    Returns:
      A module that holds the variables and must live as long as the function,
      and the `tf.function`, whose positional arguments are `inputs` in order.
    """
    module = tf.Module(name="exported")
    module.exported_variables = list(self.variables)
    arguments = {
      name: tf.TensorSpec([batch_size, *spec.shape[1:]], spec.dtype, name)
      for name, spec in self.inputs.items()
    }
    names = list(arguments)

    def predict(*values: Tensor) -> dict[str, Tensor]:
      return self.function(**dict(zip(names, values, strict=True)))

    module.predict = tf.function(
      predict, input_signature=list(arguments.values()), autograph=False
    )
    return module, module.predict
