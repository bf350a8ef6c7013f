# SPDX-License-Identifier: Apache-2.0
"""The active connections of a layer: their positions, by input and by output.

Plain NumPy; an object never changes, so that threads can share it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import dataclass

import numpy as np

# Positions are int32.
MAX_SIZE = 2**31 - 1

# The activations of so many inputs stay in the cache of a core. But a group of
# inputs must have enough connections to an output to be worth another pass.
_GROUP, _LEAST_CONNECTIONS = 1024, 16


def check_size(inputs: int, outputs: int) -> None:
  """Raises ValueError if a kernel has more weights than positions reach."""
  if inputs * outputs > MAX_SIZE:
    raise ValueError(
      f"A kernel must have at most {MAX_SIZE} weights, active or not, got "
      f"`inputs` * `outputs` = {inputs} * {outputs}."
    )


def digest_of(positions: np.ndarray) -> int:
  """A number in [0, 2**63) that differs for different positions."""
  hashed = hashlib.blake2b(positions.tobytes(), digest_size=8).digest()
  return int.from_bytes(hashed, "little") >> 1


@dataclass(frozen=True, eq=False)
class Connections:
  """The positions of the active connections of a kernel.

  Attributes:
    shape: (inputs, outputs) of the kernel.
    positions: int32 [connections], index into the flat kernel, ascending:
      input * outputs + output.

  Raises:
    ValueError: if positions are not ascending or outside of the kernel, or if
      the kernel has more than `MAX_SIZE` weights.
  """

  shape: tuple[int, int]
  positions: np.ndarray

  def __post_init__(self) -> None:
    inputs, outputs = self.shape
    positions = self.positions
    check_size(inputs, outputs)
    if positions.size and not (
      positions[0] >= 0
      and positions[-1] < inputs * outputs
      and np.all(positions[1:] > positions[:-1])
    ):
      raise ValueError(
        "`positions` must be ascending, without repetition, and below "
        f"{inputs} * {outputs}."
      )

  @property
  def number(self) -> int:
    """The number of active connections."""
    return self.positions.size

  @functools.cached_property
  def digest(self) -> int:
    """The number that `digest_of` gives the positions."""
    return digest_of(self.positions)

  @functools.cached_property
  def input_starts(self) -> np.ndarray:
    """int64 [inputs + 1], the first connection of each input."""
    rows = np.arange(self.shape[0] + 1, dtype=np.int64) * self.shape[1]
    return np.searchsorted(self.positions, rows).astype(np.int64)

  @functools.cached_property
  def output_starts(self) -> np.ndarray:
    """int64 [outputs + 1], how many connections the outputs before have."""
    outputs = self.positions % np.int32(self.shape[1])
    counts = np.bincount(outputs, minlength=self.shape[1])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

  @functools.cached_property
  def by_output(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same connections, by groups of inputs, and ordered by output there.

    Groups have about as many inputs each.

    Returns:
      int64 [groups, outputs + 1], the first connection of each output in each
      group, and the end of the group; int32 [connections], the input of each;
      int32 [connections], its place in `positions`.
    """
    num_inputs, num_outputs = self.shape
    worth = self.number // (num_outputs * _LEAST_CONNECTIONS)
    num_groups = max(1, min(-(-num_inputs // _GROUP), worth))
    bounds = np.arange(num_groups + 1) * num_inputs // num_groups
    inputs, outputs = np.divmod(self.positions, np.int32(num_outputs))
    # NumPy sorts 16 bits by radix, ten times faster than 32 bits.
    keys = outputs.astype(np.uint16) if num_outputs <= 2**16 else outputs
    starts = np.empty((num_groups, num_outputs + 1), np.int64)
    places = np.empty(self.number, np.int32)
    for group, (first, last) in enumerate(
      itertools.pairwise(self.input_starts[bounds])
    ):
      places[first:last] = first + np.argsort(keys[first:last], kind="stable")
      counts = np.bincount(outputs[first:last], minlength=num_outputs)
      starts[group, 0] = first
      starts[group, 1:] = first + np.cumsum(counts)
    return starts, inputs[places], places

  def mask(self) -> np.ndarray:
    """Bool [inputs, outputs], true where a connection is active."""
    flat = np.zeros(self.shape[0] * self.shape[1], bool)
    flat[self.positions] = True
    return flat.reshape(self.shape)

  def ranges(self, starts: np.ndarray, parts: int) -> list[tuple[int, int]]:
    """Splits rows into ranges of about as many connections each.

    Args:
      starts: `input_starts` or `output_starts`.
      parts: number of ranges, at least 1.

    Returns:
      Pairs of the first row and the end of each range; together all rows.
    """
    wanted = starts[-1] * np.arange(1, parts) / parts
    cuts = np.searchsorted(starts, wanted)
    bounds = [0, *cuts.tolist(), starts.size - 1]
    return [
      (first, last)
      for first, last in zip(bounds, bounds[1:], strict=False)
      if last > first
    ] or [(0, 0)]
