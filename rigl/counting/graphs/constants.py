# SPDX-License-Identifier: Apache-2.0
"""Values in a graph that depend on neither examples nor variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.types import Tensor

_SHAPES = ("Shape", "ShapeN", "Size", "Rank")


class Constants:
  """Computes the tensors of a graph that are the same for all examples.

  Args:
    graph: the graph; it may grow.
  """

  def __init__(self, graph: tf.Graph) -> None:
    self._graph = graph
    self._session: tf.compat.v1.Session | None = None

  def value(self, tensor: Tensor) -> Any:
    """Value of a tensor, or None if it is not the same for all examples."""
    function = self.function([tensor], [])
    return None if function is None else function({})[0]

  def needs(
    self, results: Iterable[Tensor], arguments: Iterable[Tensor]
  ) -> set[str] | None:
    """Names of the arguments that results depend on, or None if on more."""
    found = self._walk(results, {t.name for t in arguments})
    return None if found is None else found[0]

  def function(
    self, results: Sequence[Tensor], arguments: Sequence[Tensor]
  ) -> Callable[[Mapping[str, Any]], list[Any]] | None:
    """A function that computes tensors from others.

    Args:
      results: what to compute.
      arguments: tensors whose values are given, by their names.

    Returns:
      The function. None if some result also depends on a tensor that is neither
      an argument nor constant.
    """
    found = self._walk(results, {t.name for t in arguments})
    if found is None:
      return None
    shapes = [t for t, _ in found[1]]
    values = [value for _, value in found[1]]
    if self._session is None:
      self._session = tf.compat.v1.Session(
        graph=self._graph,
        config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}),
      )
    call = self._session.make_callable(list(results), [*arguments, *shapes])
    return lambda given: call(*(given[t.name] for t in arguments), *values)

  def close(self) -> None:
    """Frees what computes the values."""
    if self._session is not None:
      self._session.close()

  def _walk(
    self, results: Iterable[Tensor], arguments: set[str]
  ) -> tuple[set[str], list[tuple[Tensor, Any]]] | None:
    """What results need: arguments and known shapes; None if more."""
    used, shapes = set(), []
    todo, seen = list(results), set()
    while todo:
      tensor = todo.pop()
      if tensor.name in seen:
        continue
      seen.add(tensor.name)
      operation = tensor.op
      if tensor.name in arguments:
        used.add(tensor.name)
        continue
      if operation.type in _SHAPES:
        value = _shape_value(tensor)
        if value is not None:
          shapes.append((tensor, value))
          continue
      is_source = not operation.inputs and operation.type != "Const"
      if is_source or operation.op_def.is_stateful:
        return None
      todo += operation.inputs
    return used, shapes


def _shape_value(tensor: Tensor) -> np.ndarray | None:
  """Value of an operation that asks for a shape, if it is known."""
  shape = tensor.op.inputs[tensor.value_index].shape
  kind = tensor.dtype.as_numpy_dtype
  if tensor.op.type == "Rank" and shape.rank is not None:
    return np.asarray(shape.rank, kind)
  if not shape.is_fully_defined():
    return None
  if tensor.op.type == "Size":
    return np.asarray(shape.num_elements(), kind)
  return np.asarray(shape.as_list(), kind)
