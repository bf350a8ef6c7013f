# SPDX-License-Identifier: Apache-2.0
"""N:M and constant fan-in for kernels of Keras layers.

A structure groups the inputs of each output. Which axes of a kernel are inputs
depends on its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from rigl import sparse_utils
from rigl.keras.live import Owners
from rigl.structures import Groups, Structure

# Their kernels have the axes [..., outputs, inputs].
_TRANSPOSED = (
  keras.layers.Conv1DTranspose,
  keras.layers.Conv2DTranspose,
  keras.layers.Conv3DTranspose,
)


def kernel_groups(
  structure: Structure | None,
  variables: Sequence[Any],
  owners: Sequence[Owners],
  paths: Sequence[str],
  sparsities: dict[str, float],
) -> list[Groups | None]:
  """The groups of each sparse variable.

  Args:
    structure: the structure, or None.
    variables: the sparse variables.
    owners: the layers of each variable.
    paths: the paths of the variables.
    sparsities: {path: share of zeros}.

  Returns:
    The groups of each variable; None for dense ones and without a structure.

  Raises:
    ValueError: if a variable cannot have the structure, or its sparsity is not
      that of the structure.
  """
  if structure is None:
    return [None] * len(variables)
  structured = structure.sparse_layers(sparsities)
  return [
    structure.groups(path, tuple(variable.shape), input_axes(layers))
    if path in structured
    else None
    for variable, layers, path in zip(variables, owners, paths, strict=True)
  ]


def input_axes(layers: Owners) -> list[int] | None:
  """The axes of a kernel that its layers sum over.

  Args:
    layers: the layers that own the kernel.

  Returns:
    The axes; None for all but the last one.
  """
  for layer in layers:
    if isinstance(layer, keras.layers.EinsumDense):
      operands, result = layer.equation.replace(" ", "").split("->")
      kernel = operands.split(",")[1]
      return [i for i, axis in enumerate(kernel) if axis not in result]
    if isinstance(layer, _TRANSPOSED):
      rank = layer.rank + 2
      return [*range(rank - 2), rank - 1]
  return None


def structured_mask(
  structure: Structure,
  groups: Groups,
  shape: tuple[int, ...],
  sparsity: float,
  seed: int,
  name: str,
) -> np.ndarray:
  """A random mask with a structure.

  Args:
    structure: the structure.
    groups: the groups of the kernel.
    shape: shape of the kernel.
    sparsity: its share of zeros.
    seed: seed of the run.
    name: name of the kernel.

  Returns:
    bool array of that shape.
  """
  ones = structure.ones_per_group(groups, sparsity)
  return sparse_utils.get_mask_in_groups(shape, groups, ones, seed, name)
