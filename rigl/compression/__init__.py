# SPDX-License-Identifier: Apache-2.0
"""Structural compression: networks without their dead channels and neurons.

`compress` makes a smaller Keras model with the same outputs. It needs Keras 3,
which is loaded at its first call; sizes follow from masks without TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rigl.compression.fully_connected import (
  CompressedNetwork,
  compress_fully_connected,
)

if TYPE_CHECKING:
  import keras

__all__ = ["CompressedNetwork", "compress", "compress_fully_connected"]


def compress(model: keras.Model) -> keras.Model:
  """Removes dead inputs, channels and neurons from a Keras model.

  A channel is dead if its value is the same for every example (no connection
  that varies leads to it), or if no connection leads from it to an output. What
  constant channels contribute is added to biases. Removal makes further
  channels dead, which are removed as well; a layer keeps at least one. The
  results are those of the model, up to the rounding of sums.

  The inputs keep their shape: those that are dead are left out within the new
  model. Layers that are not known stay as they are, with all of their inputs
  and outputs. Known are fully connected layers, convolutions and depthwise
  convolutions with the channels last, batch normalizations, element-wise
  activations, pooling, padding, flattening and additions.

  Args:
    model: a built Sequential or functional model; it is not changed.

  Returns:
    A functional model, not compiled.

  Raises:
    ValueError: if the model is of another kind or not built.
  """
  from rigl import needs_tensorflow  # noqa: F401
  from rigl.compression import keras_model

  return keras_model.compress(model)
