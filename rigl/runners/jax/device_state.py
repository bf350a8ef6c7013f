# SPDX-License-Identifier: Apache-2.0
"""Device state: copies of variables on the devices, where programs use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.distribution.jax_replicas import JaxReplicas
from rigl.types import Tensor, Variable


class DeviceState:
  """Variables and constants on the devices of JAX.

  Programs change the copies on the devices; `store` brings them back to the
  variables. Nothing is copied before it is needed.

  Attributes:
    replicas: the argument.

  Args:
    replicas: the devices.
    variables: the variables that programs may use.
  """

  def __init__(
    self, replicas: JaxReplicas, variables: Iterable[Variable]
  ) -> None:
    self.replicas, self._client = replicas, replicas.client
    self._variables = {id(v.handle): v for v in variables}
    self._arrays: dict[int, Any] = {}
    self._constants: dict[int, tuple[Tensor, Any]] = {}
    self._newer: set[int] = set()  # Where the variable has an old value.

  def forget(self) -> None:
    """Gives up the copies: the variables have new values."""
    self._arrays.clear()
    self._newer.clear()

  def array(self, captured: Tensor) -> Any:
    """The copy of what a program captures.

    Args:
      captured: the handle of a variable, or a tensor, which is constant.

    Raises:
      ValueError: if the variable is not one of these.
    """
    key = id(captured)
    if captured.dtype != tf.resource:
      if key not in self._constants:
        array = self._client.put(captured.numpy())
        self._constants[key] = captured, array
      return self._constants[key][1]
    if key not in self._variables:
      raise ValueError("A program uses a variable that the run does not know.")
    if key not in self._arrays:
      # A copy of its own, because programs overwrite it.
      value = np.array(self._variables[key].numpy())
      self._arrays[key] = self._client.put(value)
    return self._arrays[key]

  def set_arrays(self, handles: Sequence[Tensor], arrays: Sequence) -> None:
    """Replaces the copies of variables by what a program returned."""
    for handle, array in zip(handles, arrays, strict=True):
      self._arrays[id(handle)] = array
      self._newer.add(id(handle))

  def store(self, variables: Iterable[Variable] | None = None) -> None:
    """Copies new values to the variables, those of the first device.

    Args:
      variables: which of them. None: all.
    """
    keys = set(self._newer)
    if variables is not None:
      keys &= {id(v.handle) for v in variables}
    for key in keys:
      self._arrays[key].copy_to_host_async()
    for key in keys:
      self._variables[key].assign(np.asarray(self._arrays[key]))
    self._newer -= keys

  def values(self, variable: Variable) -> list[np.ndarray]:
    """The values of a variable on the devices of this process."""
    return self._client.values(self.array(variable.handle))
