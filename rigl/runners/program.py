# SPDX-License-Identifier: Apache-2.0
"""Program: a TensorFlow function for arguments of fixed shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from rigl.types import Tensor


class Program:
  """A function that is compiled at its first call, for those shapes alone.

  TensorFlow then does not search for a matching trace, which halves the time
  of a call.

  Attributes:
    function: the `tf.function`.

  Args:
    function: of eager tensors, always of the same shapes and dtypes.
    jit_compile: whether XLA compiles it.
  """

  def __init__(self, function: Callable[..., Any], jit_compile: bool) -> None:
    self.function = tf.function(
      function, jit_compile=jit_compile, autograph=False
    )
    self._compiled: Callable[..., Any] | None = None

  def __call__(self, *arguments: Any) -> Any:
    """Runs it."""
    if self._compiled is None:
      self._compiled = self.function.get_concrete_function(*arguments)
    return self._compiled(*arguments)


class Traceable(Protocol):
  """What can be lowered: it has a `tf.function`."""

  @property
  def function(self) -> Any:
    """The `tf.function`."""


# A program and example arguments by name, to compile it for a device.
Lowerable: TypeAlias = tuple[Traceable, dict[str, Any]]
# Makes a program of a function and of whether XLA compiles it.
ProgramMaker: TypeAlias = Callable[[Callable[..., Any], bool], Any]


def int64(value: int) -> Tensor:
  """A number as an argument of a program."""
  return tf.constant(value, tf.int64)


def resolve_jit(jit_compile: str, channels_first: bool = False) -> bool:
  """Returns whether XLA compiles the steps.

  `auto` means XLA on a GPU. On a CPU the convolutions of TensorFlow's library
  are faster than XLA's, but only the latter take channels first.

  Args:
    jit_compile: `auto`, `true` or `false`.
    channels_first: whether images have their channels first.

  Raises:
    ValueError: if neither computes the convolutions.
  """
  if tf.config.list_physical_devices("GPU"):
    return jit_compile != "false"
  if channels_first and jit_compile == "false":
    raise ValueError(
      "`data_format` channels_first needs a GPU or XLA; got `jit_compile` "
      "false."
    )
  return jit_compile == "true" or channels_first
