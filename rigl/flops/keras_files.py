# SPDX-License-Identifier: Apache-2.0
"""Reads Keras models from files, including those that Keras 2 wrote."""

from __future__ import annotations

import importlib
import inspect
import json
import operator
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from rigl import file_contents
from rigl.error_text import first_line
from rigl.flops.network import Network, check_image_size, with_zeros
from rigl.formats import keras_archives

_LENGTH = 200  # Of the text of Keras's error, in characters.
# Settings of any layer.
_COMMON = {"batch_input_shape", "batch_shape", "input_dim", "input_shape"}
# Keras 2 stores operations on tensors as layers. Those that only compute:
_MODULES = ("linalg", "math", "nn")
_OPERATIONS = (
  "abs",
  "cast",
  "clip_by_value",
  "concat",
  "convert_to_tensor",
  "einsum",
  "expand_dims",
  "gather",
  "identity",
  "matmul",
  "ones_like",
  "pad",
  "repeat",
  "reshape",
  "reverse",
  "shape",
  "slice",
  "split",
  "squeeze",
  "stack",
  "tensordot",
  "tile",
  "transpose",
  "unstack",
  "where",
  "zeros_like",
)


def load(path: pathlib.Path, image_size: int | None) -> Network:
  """Reads the layers and zeros of a Keras model.

  Args:
    path: a `.keras` or `.h5` file.
    image_size: the size of all that the model leaves open.

  Raises:
    ValueError: if it cannot be read or counted.
  """
  model = load_model(path)
  from rigl.counting import keras_layers  # It needs TensorFlow.

  check_image_size(path, image_size, keras_layers.is_open(model))
  shape = keras_layers.filled_shape(model, image_size) if image_size else None
  return with_zeros(keras_layers.find_kernels(model, shape))


def load_model(path: pathlib.Path) -> Any:
  """Loads a model, without its optimizer and loss.

  Args:
    path: a `.keras` or `.h5` file.

  Raises:
    ValueError: if Keras is missing or cannot read the file.
  """
  try:
    # They take seconds, and only this kind of file needs them.
    from rigl.config import tensorflow_environment  # noqa: F401

    keras: Any = importlib.import_module("keras")  # It loads TensorFlow.
  except ImportError as error:
    raise ValueError(
      f"`model`: reading a Keras file needs Keras, got {str(path)!r}: "
      "pip install 'rigl[cpu]'."
    ) from error
  try:
    with keras_archives.readable(path) as file:
      if path.suffix == ".h5" and not keras.__version__.startswith("2."):
        return _load_h5(file, keras)
      return keras.models.load_model(file, compile=False)
  except file_contents.DamagedError as error:
    raise ValueError(
      f"`model` is damaged, got {str(path)!r}: {error}"
    ) from error
  except OSError as error:
    raise ValueError(
      f"`model` must be a Keras file, got {str(path)!r}: "
      f"{first_line(error, _LENGTH)}"
    ) from error
  except Exception as error:  # Whatever layers raise for their settings.
    advice = keras_archives.advice(path, keras.__version__)
    raise ValueError(_explanation(path, error, advice)) from error


def _explanation(path: pathlib.Path, error: Exception, advice: str) -> str:
  """What a user can do about a file that Keras does not read.

  Args:
    path: the file.
    error: what Keras raised.
    advice: words about versions of Keras, or nothing.
  """
  text = str(error)
  in_python = "count it from Python, with `rigl.get_stats`"
  if "ambda" in text and ("unsafe" in text or "safe_mode" in text):
    return (
      f"`model` has a Lambda layer, whose Python code is not run from a file, "
      f"got {str(path)!r}. If you trust it, load it with "
      f"`keras.models.load_model(path, safe_mode=False)` and {in_python}."
    )
  if "No model config" in text:
    return f"`model` must hold a model, got only weights in {str(path)!r}."
  return (
    f"`model` must be a file that Keras can load, got {str(path)!r}: "
    f"{first_line(error, _LENGTH)}{advice} A model with classes of its own: "
    f"{in_python}."
  )


def _load_h5(path: pathlib.Path, keras: Any) -> Any:
  """Loads an HDF5 file, which any version of Keras may have written.

  Args:
    path: the file; its settings are replaced by those that Keras 3 knows.
    keras: the module.
  """
  import h5py  # Keras needs it, too.

  with h5py.File(path, "r+") as file:
    stored = file.attrs.get("model_config")
    if stored is None:
      raise ValueError("No model config")
    text = stored.decode() if isinstance(stored, bytes) else stored
    config = _renamed(_modern(json.loads(text), keras.layers))
    file.attrs["model_config"] = json.dumps(config)
  return keras.models.load_model(
    path, compile=False, custom_objects=_operation_layers(keras)
  )


def _modern(config: Any, layers: Any) -> Any:
  """A model's settings without what only Keras 2 knows.

  A setting is left out only where it has no effect, as `groups=1`.
  """
  if isinstance(config, list):
    return [_modern(part, layers) for part in config]
  if not isinstance(config, Mapping):
    return config
  name, settings = config.get("class_name"), config.get("config")
  if name == "Policy" and isinstance(settings, Mapping):
    return settings["name"]
  new = {key: _modern(value, layers) for key, value in config.items()}
  new.pop("build_config", None)  # Layers learn sizes from their inputs.
  if isinstance(config.get("inbound_nodes"), list):
    new["inbound_nodes"] = [_call(node) for node in config["inbound_nodes"]]
  cls = getattr(layers, str(name), None)
  if inspect.isclass(cls) and isinstance(settings, Mapping):
    known = _COMMON.union(
      *(
        inspect.signature(vars(base)["__init__"]).parameters
        for base in cls.__mro__[:-1]
        if "__init__" in vars(base)
      )
    )
    new["config"] = {
      key: value
      for key, value in new["config"].items()
      if key in known or not _has_no_effect(key, value)
    }
  return new


def _call(node: Any) -> Any:
  """The arguments of a layer's call, as Keras 3 writes them."""
  if isinstance(node, Mapping):
    return node  # Of Keras 3.
  named: dict[str, Any] = {}
  value = _argument(node, named)
  if isinstance(value, list) and len(value) == 1:
    (value,) = value
  if isinstance(value, (list, Mapping)):
    return {"args": [value], "kwargs": named}
  # Keras 3 takes tensors only without a name.
  return {"args": [], "kwargs": {"first": value, **named}}


def _argument(part: Any, named: dict[str, Any]) -> Any:
  """An argument of a call; tensors are [layer, node, index, named others]."""
  if isinstance(part, Mapping):
    return {key: _argument(value, named) for key, value in part.items()}
  if not isinstance(part, list):
    return part
  if len(part) not in (3, 4) or not isinstance(part[0], str):
    return [_argument(inner, named) for inner in part]
  layer, node, index = part[:3]
  others = part[3] if len(part) == 4 else {}
  named |= {key: _argument(value, named) for key, value in others.items()}
  if layer == "_CONSTANT_VALUE":
    return index
  config = {
    "shape": [None],  # That of the layer's result takes its place.
    "dtype": "float32",
    "keras_history": [layer, node, index],
  }
  return {"class_name": "__keras_tensor__", "config": config}


def _has_no_effect(key: str, value: Any) -> bool:
  """Whether a setting that Keras 3 does not know may be left out."""
  is_start = key.endswith(("_initializer", "_regularizer", "_constraint"))
  is_size = key.endswith("_shape")  # The inputs say it.
  is_one = (key, value) == ("groups", 1)
  return is_start or is_size or is_one or value in (None, False)


def _renamed(config: Any) -> Any:
  """Settings whose names have no slashes, which Keras 3 does not allow."""
  names: set[str] = set()

  def collect(part: Any) -> None:
    if isinstance(part, Mapping):
      own = part.get("config")
      if "class_name" in part and isinstance(own, Mapping):
        names.add(str(own.get("name", "")))
      part = list(part.values())
    if isinstance(part, list):
      for inner in part:
        collect(inner)

  def rename(part: Any) -> Any:
    if isinstance(part, Mapping):
      return {key: rename(value) for key, value in part.items()}
    if isinstance(part, list):
      return [rename(inner) for inner in part]
    is_name = isinstance(part, str) and part in names
    return part.replace("/", "_") if is_name else part

  collect(config)
  return rename(config)


def _operation_layers(keras: Any) -> dict[str, Any]:
  """Layers that stand for operations on tensors in files of Keras 2."""

  class Operation(keras.layers.Layer):
    """Applies a function of TensorFlow."""

    def __init__(self, function: str, **settings: Any) -> None:
      super().__init__(**settings)
      self._apply = _function(function)

    def call(
      self, *values: Any, first: Any = None, name: Any = None, **others: Any
    ) -> Any:
      """Applies the function to what the file says."""
      if first is not None:
        values = (first, *values)
      return self._apply(*values, **others)

  class Slice(Operation):
    """Takes a part of a tensor."""

    def call(self, values: Any, slice_spec: Any) -> Any:  # type: ignore[override]
      """Applies `values[...]`."""
      return values[tuple(map(_slice_part, slice_spec))]

  return {"TFOpLambda": Operation, "SlicingOpLambda": Slice}


def _slice_part(part: Any) -> Any:
  if isinstance(part, Mapping):
    return slice(part.get("start"), part.get("stop"), part.get("step"))
  return part


def _function(name: str) -> Callable[..., Any]:
  """A function of TensorFlow that only computes."""
  import tensorflow as tf

  module, _, last = name.rpartition(".")
  if module == "__operators__":
    # The second operand has a name; `rsub` is `sub` of turned operands.
    turned = last in ("radd", "rmul", "rsub", "rtruediv", "rpow", "rmatmul")
    apply = getattr(operator, last[1:] if turned else last)
    order = -1 if turned else 1
    return lambda *values, **others: apply(
      *[*values, *others.values()][::order]
    )
  if module in _MODULES:
    return getattr(getattr(tf, module), last)
  if not module and (last in _OPERATIONS or last.startswith("reduce_")):
    return getattr(tf, last)
  raise ValueError(f"the function {name!r} of a file is not known")
