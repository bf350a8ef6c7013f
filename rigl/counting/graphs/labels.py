# SPDX-License-Identifier: Apache-2.0
"""What is known of variables, of their uses and of tensors in a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Weights:
  """A variable of a model.

  Attributes:
    name: name of the variable.
    shape: its sizes; None if they are unknown.
    is_trainable: whether it is trained.
    dtype: its type.
    source: the variable itself, or None if only its handle is known.
  """

  name: str
  shape: tuple[int, ...] | None
  is_trainable: bool
  dtype: tf.DType = tf.float32
  source: Any = field(default=None, compare=False)

  @property
  def rank(self) -> int:
    """Number of dimensions; an unknown shape counts as a kernel's."""
    return 2 if self.shape is None else len(self.shape)

  @property
  def size(self) -> int:
    """Number of weights, 0 if unknown."""
    return 0 if self.shape is None else math.prod(self.shape)

  def is_stored_as(self, size: int | None) -> bool:
    """Whether it has as many weights as a kernel has.

    An integer may hold two weights of four bits.
    """
    if size is None or not self.dtype.is_integer:
      return size == self.size
    return self.size <= size <= 2 * self.size

  @property
  def must_count(self) -> bool:
    """Whether no use may be left out."""
    return self.is_trainable and self.rank >= 2

  @property
  def is_table(self) -> bool:
    """Whether it may be a table of embeddings, but one of indices."""
    return self.rank >= 2 and (self.dtype.is_floating or self.dtype.size == 1)


@dataclass(eq=False)
class Use:
  """An operation that uses a variable together with the examples.

  Attributes:
    weights: index of the variable.
    kind: kind of layer.
    operation: the operation.
    multiplications: how many it does with the variable, None if unknown.
    results: number of values that it computes, None if unknown.
    activation: activation of the results.
    use_bias: whether a bias or batch normalization follows.
    shape: sizes of the kernel, if the variable is a list of weights.
    problem: why it cannot be counted, or "".
    order: its place among the uses that were found.
  """

  weights: int
  kind: str
  operation: tf.Operation
  multiplications: float | None = 0
  results: float | None = 0
  activation: str | None = None
  use_bias: bool = False
  shape: tuple[int, ...] | None = None
  problem: str = ""
  order: int = 0

  def times(self, number: float) -> None:
    """Repeats the use."""
    if self.multiplications is not None and self.results is not None:
      self.multiplications *= number
      self.results *= number


@dataclass(frozen=True)
class Label:
  """What is known of a tensor.

  Attributes:
    varies: whether it depends on the examples.
    sources: indices of the variables that it is computed from. If it depends
      on the examples, these only choose which of the weights it has.
    owner: the use whose outputs it has, before their activation.
    sigmoid_of: name of the tensor whose sigmoid it is.
  """

  varies: bool = False
  sources: tuple[int, ...] = ()
  owner: Use | None = field(default=None, compare=False)
  sigmoid_of: str = ""


def merged(labels: Sequence[Label]) -> Label:
  """The label of a tensor that is computed from several."""
  sources = dict.fromkeys(s for n in labels for s in n.sources)
  if any(label.varies for label in labels):
    return Label(True)
  return Label(False, tuple(sources))


def weights_of(handle: Any, variable: Any, index: int) -> Weights | None:
  """The variable of a handle.

  Args:
    handle: the handle.
    variable: its `tf.Variable`. None: it is not known.
    index: number of the variable, for a name if it is not known.

  Returns:
    The variable. None: the handle is of something else.
  """
  if variable is not None:
    shape = variable.shape
    known = shape.is_fully_defined()
    return Weights(
      variable.name,
      tuple(shape.as_list()) if known else None,
      bool(variable.trainable),
      variable.dtype,
      variable,
    )
  try:
    shape = tf.raw_ops.VariableShape(input=handle).numpy()
  except (tf.errors.OpError, TypeError, ValueError):
    return None  # A table of a lookup, for example.
  return Weights(f"variable_{index}", tuple(map(int, shape)), True)
