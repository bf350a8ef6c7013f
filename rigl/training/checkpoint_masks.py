# SPDX-License-Identifier: Apache-2.0
"""Masks of a checkpoint that disagree with its weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

# Name of the number of iterations in checkpoints. Those of the published code
# lack it, and hold raw weights also where a mask is 0.
ITERATION = "iteration"


def disagree(
  what: str,
  tensors: Mapping[str, np.ndarray],
  kernels: Mapping[str, str],
) -> bool:
  """Whether weights of a checkpoint of ours are not zero off its masks.

  Each layer where they are not is named in a warning.

  Args:
    what: name of the checkpoint in messages.
    tensors: its tensors by name.
    kernels: names of the kernels by those of their masks; what the checkpoint
      lacks is passed over.

  Raises:
    ValueError: if a mask holds other values than 0 and 1.
  """
  if ITERATION not in tensors:
    return False
  found = False
  for mask_name, kernel in kernels.items():
    if mask_name not in tensors:
      continue
    layer, mask = mask_name.rpartition("/")[0], np.asarray(tensors[mask_name])
    if not np.all((mask == 0) | (mask == 1)):
      raise ValueError(
        f"{what}: the mask of {layer!r} must hold 0 and 1 alone."
      )
    weights = np.asarray(tensors.get(kernel, 0.0))
    lost = int(np.count_nonzero((mask == 0) & (weights != 0)))
    if lost:
      logging.warning(
        "%s: mask and weights of %r disagree: %d weights off the mask are "
        "not zero, and are set to zero.",
        what,
        layer,
        lost,
      )
      found = True
  return found
