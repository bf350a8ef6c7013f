# SPDX-License-Identifier: Apache-2.0
"""`Network`: layers with the zeros of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rigl import counting


@dataclass(frozen=True)
class Network:
  """Layers of a network.

  Attributes:
    layers: the layers.
    zeros: number of weights that are zero by layer name; None if the network
      comes without weights.
  """

  layers: list[counting.LayerSpec]
  zeros: dict[str, int] | None = None


def with_zeros(found: Sequence[tuple[counting.LayerSpec, Any]]) -> Network:
  """The network of layers and their variables."""
  return Network(
    [spec for spec, _ in found],
    {spec.name: _zeros(variable, spec) for spec, variable in found},
  )


def check_image_size(path: Any, image_size: int | None, is_open: bool) -> None:
  """Raises a ValueError if a file does not need the size, or needs one.

  Args:
    path: the file, for the message.
    image_size: the size that is given; None: there is none.
    is_open: whether the model of the file leaves sizes open.
  """
  if image_size is None:
    if is_open:
      raise ValueError(
        "`image_size` must be given for a file that leaves sizes open, got "
        f"none for {str(path)!r}."
      )
    return
  if image_size < 1:
    raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
  if not is_open:
    raise ValueError(
      "`image_size` must not be given for a file that has all sizes, got "
      f"{image_size} for {str(path)!r}."
    )


def _zeros(variable: Any, spec: counting.LayerSpec) -> int:
  """Number of zeros of a variable, as a share of the layer's weights."""
  values = variable.numpy()
  return int((values == 0).sum() * spec.size // values.size)
