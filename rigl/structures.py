# SPDX-License-Identifier: Apache-2.0
"""Structures of masks: N:M and constant fan-in, as groups of connections.

A structure splits the connections of a kernel into groups of equal size along
its input axes, and fixes how many are active in every group:

* `N:M`, such as `2:4`: N of every M neighbours along the input axis of an
  output (Mishra et al., 2021, https://arxiv.org/abs/2104.08378). With a
  convolution, the input axis is that of the input channels.
* `fan_in`: every output has the same number of active connections (Lasby et
  al., 2023, https://arxiv.org/abs/2305.02299).

Everything here is plain Python and NumPy; the arrays may be TensorFlow's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

# A sparsity may differ by this much from the one that N:M fixes.
_TOLERANCE = 1e-6


class Groups(NamedTuple):
  """How the flat connections of a kernel are split into groups.

  Attributes:
    split_shape: shape of the kernel, its grouped axis split in two.
    order: permutation of the axes of `split_shape`, those within a group first.
    size: connections per group.
  """

  split_shape: tuple[int, ...]
  order: tuple[int, ...]
  size: int

  @property
  def number(self) -> int:
    """The number of groups."""
    return math.prod(self.split_shape) // self.size

  def split(self, flat: Any, ops: ModuleType = np) -> Any:
    """Arranges connections as [size, number], a group per column.

    Args:
      flat: [size * number], in the order of the kernel.
      ops: `numpy` or `tensorflow`, that of `flat`.
    """
    split = ops.transpose(ops.reshape(flat, self.split_shape), self.order)
    return ops.reshape(split, (self.size, self.number))

  def join(self, grouped: Any, ops: ModuleType = np) -> Any:
    """The inverse of `split`.

    Args:
      grouped: [size, number].
      ops: `numpy` or `tensorflow`, that of `grouped`.
    """
    shape = tuple(self.split_shape[axis] for axis in self.order)
    inverse = tuple(int(axis) for axis in np.argsort(self.order))
    joined = ops.transpose(ops.reshape(grouped, shape), inverse)
    return ops.reshape(joined, (self.size * self.number,))


@dataclass(frozen=True)
class Structure:
  """A rule of how many connections are active in every group of a kernel.

  Attributes:
    ones: N of `N:M`; None for `fan_in`, where a layer's sparsity gives it.
    size: M of `N:M`; None for `fan_in`, whose groups are all inputs of an
      output.
  """

  ones: int | None = None
  size: int | None = None

  def __str__(self) -> str:
    return "fan_in" if self.size is None else f"{self.ones}:{self.size}"

  @property
  def sparsity(self) -> float | None:
    """Share of zeros, 1 - N / M; None for `fan_in`, which goes with any."""
    if self.ones is None or self.size is None:
      return None
    return 1.0 - self.ones / self.size

  def groups(
    self,
    name: str,
    shape: Sequence[int],
    input_axes: Sequence[int] | None = None,
  ) -> Groups:
    """The groups of a kernel.

    Args:
      name: the layer's name, for errors.
      shape: shape of the kernel, of rank 2 at least.
      input_axes: axes that an output sums over, the grouped one of `N:M` last.
        None: all axes but the last one, as in dense layers and convolutions.

    Returns:
      For `N:M`, groups of M neighbours along the last input axis; for `fan_in`,
      the inputs of each output.

    Raises:
      ValueError: if the kernel cannot be split so.
    """
    shape = tuple(shape)
    if len(shape) < 2:
      raise ValueError(
        f"`structure` {self} needs kernels of rank 2 or more, but that of "
        f"{name!r} has the shape {shape}."
      )
    inputs = tuple(range(len(shape) - 1) if input_axes is None else input_axes)
    if self.size is None:
      outputs = tuple(axis for axis in range(len(shape)) if axis not in inputs)
      fan_in = math.prod(shape[axis] for axis in inputs)
      return Groups(shape, (*inputs, *outputs), fan_in)
    axis = inputs[-1]
    if shape[axis] % self.size:
      raise ValueError(
        f"`structure` {self} needs a multiple of {self.size} inputs, but the "
        f"kernel of {name!r}, of shape {shape}, has {shape[axis]} along axis "
        f"{axis}: keep this layer dense, or take the structure fan_in."
      )
    split = (*shape[:axis], shape[axis] // self.size, self.size)
    split += shape[axis + 1 :]
    rest = (i for i in range(len(split)) if i != axis + 1)
    return Groups(split, (axis + 1, *rest), self.size)

  def ones_per_group(self, groups: Groups, sparsity: float) -> int:
    """Active connections per group: N, or M - floor(sparsity * M), at least 1.

    Args:
      groups: those of the kernel, of M connections each.
      sparsity: share of zeros of the layer, in [0, 1); used by `fan_in` alone.
    """
    if self.ones is not None:
      return self.ones
    return max(groups.size - math.floor(sparsity * groups.size), 1)

  def sparse_layers(self, sparsities: Mapping[str, float]) -> list[str]:
    """The layers that the structure applies to: all that are not dense.

    Args:
      sparsities: {layer name: share of zeros}.

    Raises:
      ValueError: if a layer's sparsity is neither 0 nor that of `N:M`.
    """
    names = [name for name, each in sparsities.items() if each > 0]
    if self.sparsity is not None:
      for name in names:
        if abs(sparsities[name] - self.sparsity) > _TOLERANCE:
          raise ValueError(
            f"`structure` {self} has the sparsity {self.sparsity:.6g} in every "
            f"layer that is not dense, but {name!r} would have "
            f"{sparsities[name]:.6g}: give the sparsity {self.sparsity:.6g} "
            "and a uniform distribution."
          )
    return names


def parse_structure(value: str | Structure | None) -> Structure | None:
  """Reads the argument `structure`.

  Args:
    value: `N:M` with 0 < N < M, such as `2:4`; `fan_in`; or None.

  Returns:
    The structure; None for None.

  Raises:
    ValueError: if it is something else.
  """
  if value is None or isinstance(value, Structure):
    return value
  if value == "fan_in":
    return Structure()
  match = (
    re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
  )
  if match and 0 < int(match[1]) < int(match[2]):
    return Structure(int(match[1]), int(match[2]))
  raise ValueError(
    "`structure` must be 'N:M' with 0 < N < M, such as '2:4', 'fan_in' or "
    f"None, got {value!r}."
  )
