# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in checkpoints, which several parts of the package read.

They are those of the published checkpoints: a layer `L` has the kernel
`L/weights` and the mask `L/mask`. `global_step` counts the gradient steps.
"""

from __future__ import annotations

GLOBAL_STEP = "global_step"
MASK, WEIGHTS = "mask", "weights"


def mask_of(layer: str) -> str:
  """The name of a layer's mask: `conv_1` -> `conv_1/mask`."""
  return f"{layer}/{MASK}"


def is_mask(name: str) -> bool:
  """Whether a tensor of a checkpoint is the mask of a layer, by its name."""
  return name.endswith(f"/{MASK}")


def layer_of(mask: str) -> str:
  """The layer that a mask belongs to: `conv_1/mask` -> `conv_1`."""
  return mask.removesuffix(f"/{MASK}")


def weights_of(mask: str) -> str:
  """The name of the kernel of a mask: `conv_1/mask` -> `conv_1/weights`."""
  return f"{layer_of(mask)}/{WEIGHTS}"
