# SPDX-License-Identifier: Apache-2.0
"""Values that a checkpoint restored: how they are noticed and kept."""

from __future__ import annotations

import warnings

import numpy as np

from rigl.types import Variable


def restore_mark(variable: Variable) -> int:
  """A number that changes when `tf.train.Checkpoint` restores a variable.

  It is -1 before. TensorFlow has no public name for it. Values that are
  assigned, by name or by a `Saver`, do not change it.
  """
  return int(getattr(variable, "_update_uid", -1))


def mask_with_weights(weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Moves a mask to the weights of a kernel that is sparse already.

  Args:
    weights: the kernel.
    mask: bool, of its shape.

  Returns:
    A mask with as many ones. If the kernel has weights, and no more than that
    are not zero, they are all active; the rest is active where `mask` is, as
    far as possible, and then by index. Otherwise it is `mask` itself.
  """
  active = np.asarray(weights).reshape(-1) != 0
  flat = np.asarray(mask, bool).reshape(-1)
  num_ones = np.count_nonzero(flat)
  if not 0 < np.count_nonzero(active) <= num_ones:
    return mask
  order = np.argsort(-(2 * active.astype(int) + flat), kind="stable")
  moved = np.zeros(flat.size, bool)
  moved[order[:num_ones]] = True
  return moved.reshape(np.shape(mask))


def warn_of_lost_weights(
  name: str, weights: np.ndarray, mask: np.ndarray
) -> bool:
  """Warns if a kernel has weights off its mask, which become zero.

  Args:
    name: name of the layer.
    weights: the kernel.
    mask: bool, of its shape.

  Returns:
    Whether there are such weights.
  """
  lost = int(np.count_nonzero(weights[~mask]))
  if lost:
    warnings.warn(
      f"The restored mask and kernel of layer {name!r} disagree: {lost} "
      "weights off the mask are not zero, and are set to zero. Restore both "
      "from one checkpoint.",
      stacklevel=4,
    )
  return lost > 0
