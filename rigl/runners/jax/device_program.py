# SPDX-License-Identifier: Apache-2.0
"""Device program: a TensorFlow function that JAX's client compiles and runs."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rigl.distribution import xla_replicas
from rigl.distribution.jax_replicas import PerReplica
from rigl.pjrt.jax_client import Executable
from rigl.runners.jax.device_state import DeviceState
from rigl.runners.program import Lowerable
from rigl.runners.stablehlo import lowering
from rigl.runners.stablehlo.lowering import LoweredProgram
from rigl.types import Tensor

# Calls that may wait for the devices; each holds its arguments.
_MAX_RUNNING = 2


class DeviceProgram:
  """A function for arguments of fixed shapes, on all devices.

  It is compiled at its first call. A call returns before the devices are done.

  Attributes:
    function: the `tf.function`, which is traced and not run.

  Args:
    function: returns a dict of tensors; it may read and assign variables.
    state: the variables on the devices.
    writes: whether variables that it assigns get their new values. If not,
      the devices keep the old ones.
  """

  def __init__(
    self,
    function: Callable[..., dict[str, Tensor]],
    state: DeviceState,
    writes: bool = True,
  ) -> None:
    self._function, self._state, self._writes = function, state, writes
    self.function = tf.function(self._traced, jit_compile=True, autograph=False)
    self._client = state.replicas.client
    self._run: Executable | None = None
    self._lowered: LoweredProgram | None = None
    self._running: collections.deque[Any] = collections.deque()

  def __call__(self, *arguments: Any) -> dict[str, Any]:
    """Starts it.

    Args:
      *arguments: arrays, tensors or results of programs, or dicts of them; the
        same for all devices, unless they are `PerReplica`.

    Returns:
      Arrays on the devices by name.
    """
    flat = [self._put(value) for value in tf.nest.flatten(arguments)]
    if self._run is None or self._lowered is None:
      self._compile(tf.nest.pack_sequence_as(arguments, flat))
    assert self._run is not None and self._lowered is not None
    while len(self._running) >= _MAX_RUNNING:
      self._running.popleft().block_until_ready()
    captured = self._lowered.captured
    found = self._run([*flat, *(self._state.array(c) for c in captured)])
    names = self._lowered.results
    if self._writes:
      aliases = self._lowered.aliases
      changed = [captured[aliases[i] - len(flat)] for i in sorted(aliases)]
      self._state.set_arrays(changed, found[len(names) :])
    if names:
      self._running.append(found[0])
    return dict(zip(names, found, strict=False))

  def compiled_text(self) -> str:
    """The compiled program as XLA's own text; empty before the first call."""
    return self._run.text() if self._run is not None else ""

  def lowerable(self, *arguments: Any) -> Lowerable:
    """The program as `lowering.lower` takes it, with example arguments."""
    return self, {str(i): value for i, value in enumerate(arguments)}

  def _put(self, value: Any) -> Any:
    if isinstance(value, PerReplica):
      return self._client.put_each(value.values)
    return self._client.put(value)

  def _compile(self, arguments: Any) -> None:
    examples = tf.nest.map_structure(
      lambda a: tf.zeros(a.shape, tf.as_dtype(a.dtype)), arguments
    )
    lowered = lowering.lower(*self.lowerable(*examples))
    first, count = len(lowered.results), len(tf.nest.flatten(arguments))
    aliases = lowered.aliases
    if sorted(aliases) != list(range(first, first + len(aliases))) or any(
      parameter < count for parameter in aliases.values()
    ):
      raise ValueError("The outputs of a program are not as expected.")
    text = lowered.text
    if not self._writes:
      text = lowering.without_aliases(text)
    self._run = self._client.compile(text)
    self._lowered = lowered._replace(text="")

  def _traced(self, *arguments: Any) -> dict[str, Tensor]:
    with xla_replicas.tracing_for(self._state.replicas.count):
      return self._function(*arguments)
