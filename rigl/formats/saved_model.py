# SPDX-License-Identifier: Apache-2.0
"""SavedModels: TensorFlow's own format, which TensorFlow Serving reads."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rigl import files
from rigl.error_text import one_line
from rigl.formats import outputs

# What every SavedModel has; it is written last.
GRAPH_FILE = "saved_model.pb"
METADATA_FILE = "rigl.json"
_EXTRA = "assets.extra"
_SIGNATURE = "serving_default"
# Operations that call functions of the process that made them.
_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")


def save(
  module: tf.Module,
  predict: Any,
  place: files.Path,
  metadata: Mapping[str, Any] | None = None,
) -> None:
  """Writes a SavedModel whole or not at all; one that exists is replaced.

  Args:
    module: holds the variables of the function.
    predict: the `tf.function` of its one signature.
    place: directory of the SavedModel.
    metadata: what JSON can hold, for `assets.extra/rigl.json`.
  """
  with outputs.replacing_directory(place) as temporary:
    write(module, predict, temporary, metadata)


def write(
  module: tf.Module,
  predict: Any,
  place: files.AnyPath,
  metadata: Mapping[str, Any] | None = None,
) -> None:
  """Writes a SavedModel to a directory that does not exist.

  Args:
    module: holds the variables of the function.
    predict: the `tf.function` of its one signature.
    place: the directory.
    metadata: what JSON can hold.

  Raises:
    ValueError: if the function uses what a SavedModel cannot hold.
  """
  if _runs_python(predict):
    raise ValueError(
      "The network does not go into a SavedModel: it runs functions of Python, "
      "which other programs lack. For layers of rigl.sparse that store their "
      "connections, rigl.sparse.to_dense(model) gives a model without them."
    )
  try:
    tf.saved_model.save(module, str(place), signatures={_SIGNATURE: predict})
  except (AssertionError, TypeError) as error:
    raise ValueError(
      f"The network does not go into a SavedModel: {one_line(error, 300)}"
    ) from error
  if metadata is not None:
    extra = place / _EXTRA
    extra.mkdir(parents=True, exist_ok=True)
    files.write_text(extra / METADATA_FILE, json.dumps(metadata, indent=1))


def _runs_python(predict: Any) -> bool:
  """Whether a `tf.function` calls Python, in itself or in functions inside."""
  definition = predict.get_concrete_function().graph.as_graph_def()
  inside = (each.node_def for each in definition.library.function)
  nodes = itertools.chain(definition.node, *inside)
  return any(node.op in _PYTHON for node in nodes)


def load(place: files.Path) -> Any:
  """The function of a SavedModel: named tensors in, tensors by name out.

  Args:
    place: the directory.
  """
  loaded = tf.saved_model.load(str(place))
  function = loaded.signatures[_SIGNATURE]
  function.owner = loaded  # Its variables live as long as the function.
  return function


def read_metadata(place: files.Path) -> dict[str, Any]:
  """The metadata of a SavedModel of this package.

  Args:
    place: the directory.

  Raises:
    ValueError: if it has none.
  """
  file = files.path(place) / _EXTRA / METADATA_FILE
  if not file.is_file():
    raise ValueError(f"`{place}` has no {_EXTRA}/{METADATA_FILE}.")
  found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
  return found
