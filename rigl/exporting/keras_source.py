# SPDX-License-Identifier: Apache-2.0
"""Keras models as sources of an export."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from rigl import compression, file_contents, files
from rigl.error_text import first_line
from rigl.exporting.signature import Signature
from rigl.exporting.source import Source, sparsities
from rigl.formats import keras_archives
from rigl.types import Tensor
from rigl.version import __version__

if TYPE_CHECKING:
  import keras

SUFFIXES = (".keras", ".h5")
_EXAMPLES = 4


def is_keras_file(place: str) -> bool:
  """Whether the name of a file is that of a Keras model."""
  return pathlib.PurePath(place).suffix in SUFFIXES


def load_model(place: str) -> keras.Model:
  """Loads a Keras file, without its optimizer and loss.

  Args:
    place: a `.keras` or `.h5` file.

  Raises:
    ValueError: if Keras cannot read it, or has another backend.
  """
  import keras

  _check_backend()
  path = files.on_disk(place, "checkpoint")
  if not path.is_file():
    raise ValueError(f"`checkpoint`: there is no file {place!r}.")
  opened = place
  try:
    with keras_archives.readable(path) as file:
      opened = str(file)
      return keras.models.load_model(file, compile=False)
  except file_contents.DamagedError as error:
    raise ValueError(
      f"`checkpoint` is damaged, got {place!r}: {error}"
    ) from error
  except Exception as error:  # Whatever layers raise for their settings.
    text = first_line(error).replace(opened, place)  # It may be a copy.
    advice = keras_archives.advice(place, keras.__version__)
    raise ValueError(
      f"`checkpoint` must be a file that Keras can load, got {place!r}: "
      f"{text[:300]}{advice} A model with layers of your own: call "
      "`rigl.export(model, ...)` in the program that defines them."
    ) from error


def open_model(model: keras.Model, image_size: int | None = None) -> Source:
  """Opens a Keras model.

  Args:
    model: a built model, compiled or not; its optimizer makes no difference.
      One that is neither Sequential nor functional has a single input.
    image_size: the size of all dimensions that the model leaves open, except
      the first; None if it leaves none open.

  Raises:
    ValueError: if it is not built, or `image_size` is not as described.
  """
  inputs: dict[str, tf.TensorSpec] = {}
  given = _inputs_of(model)
  if image_size is not None and all(None not in t.shape[1:] for t in given):
    raise ValueError(
      "`image_size` must not be given for a Keras model that has all sizes, "
      f"got {image_size}."
    )
  for number, tensor in enumerate(given):
    name = str(tensor.name).replace("/", "_").replace(":", "_")
    shape = [None, *(size or image_size for size in tensor.shape[1:])]
    if None in shape[1:]:
      raise ValueError(
        f"`image_size` must give the sizes that the input {name!r} leaves "
        f"open, {tuple(tensor.shape)}, got None."
      )
    if name in inputs:
      name = f"{name}_{number}"
    inputs[name] = tf.TensorSpec(shape, tensor.dtype)
  names = list(inputs)

  def predict(**values: Tensor) -> dict[str, Tensor]:
    given = [values[name] for name in names]
    results = model(_as_called(model, given), training=False)
    return _named(results)

  signature = Signature(
    predict,
    inputs,
    {name: _example(spec, i) for i, (name, spec) in enumerate(inputs.items())},
    [variable.value for variable in model.variables],
  )
  variables = {variable.path: variable for variable in model.variables}
  tensors = {
    path: np.asarray(variable.numpy()) for path, variable in variables.items()
  }
  if len(variables) != len(model.variables):
    raise ValueError("`checkpoint` has two variables of the same path.")
  metadata = {
    "rigl": __version__,
    "task": "keras",
    "model": model.name,
    **sparsities(tensors),
  }
  return Source(
    signature,
    signature,
    variables,
    tensors,
    metadata,
    lambda: open_model(compression.compress(model), image_size),
  )


def _check_backend() -> None:
  import keras

  if keras.config.backend() != "tensorflow":
    raise ValueError(
      "`checkpoint` must be a model of Keras on TensorFlow (KERAS_BACKEND="
      f"tensorflow), got one on {keras.config.backend()}."
    )


def _inputs_of(model: keras.Model) -> list[Any]:
  """The inputs of a model, with names, shapes and dtypes."""
  import keras

  if not isinstance(model, keras.Model):
    raise ValueError(
      "`checkpoint` must be a path or a Keras model, got "
      f"{type(model).__name__}."
    )
  _check_backend()
  inputs = getattr(model, "inputs", None) if model.built else None
  if inputs:
    return list(inputs)
  # What a subclassed model was built by, in a call or from a file.
  shape = (model.get_build_config() or {}).get("input_shape")
  if model.built and shape and not isinstance(shape, dict):
    sizes = list(shape)[1:]
    if all(size is None or isinstance(size, int) for size in shape):
      return [
        keras.KerasTensor([None, *sizes], model.input_dtype, name="inputs")
      ]
  raise ValueError(
    "`checkpoint` must be a Keras model with known inputs: a Sequential or "
    "functional model, or a subclassed model with one input. Call the model on "
    "a batch to build it."
  )


def _as_called(model: keras.Model, values: list[Tensor]) -> Any:
  """The tensors in the structure that the model is called with."""
  if len(values) == 1:
    return values[0]
  structure = getattr(model, "_inputs_struct", None)
  if structure is None:
    return values
  return tf.nest.pack_sequence_as(structure, values)


def _named(results: Any) -> dict[str, Tensor]:
  """Results by name: their own, or `output_0` and so on."""
  if isinstance(results, dict):
    return {str(name): tf.identity(value) for name, value in results.items()}
  flat = tf.nest.flatten(results)
  return {f"output_{i}": tf.identity(value) for i, value in enumerate(flat)}


def _example(spec: tf.TensorSpec, number: int) -> np.ndarray:
  """Values that an input may have: integers 0 and 1, floats in [0, 1)."""
  rng = np.random.default_rng(number)
  shape = [_EXAMPLES, *spec.shape[1:]]
  if spec.dtype.is_floating:
    return rng.random(shape).astype(spec.dtype.as_numpy_dtype)
  if spec.dtype == tf.uint8:
    return rng.integers(0, 256, shape, dtype=np.uint8)
  if spec.dtype == tf.string:
    raise ValueError("`checkpoint` must be a model of numbers, not of texts.")
  return rng.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)
