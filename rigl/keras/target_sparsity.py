# SPDX-License-Identifier: Apache-2.0
"""Methods that go from dense to a target sparsity: SNIP, DNW, pruning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.keras.scheduled import UpdatingOptimizer
from rigl.keras.sparse_kernel import SparseKernel
from rigl.structures import Groups
from rigl.types import Tensor


class TargetSparsityOptimizer(UpdatingOptimizer):
  """Starts dense and brings every sparse variable to a target sparsity."""

  starts_dense = True

  def _initial_mask(
    self,
    name: str,
    shape: tuple[int, ...],
    sparsity: float,
    groups: Groups | None,
  ) -> np.ndarray:
    return np.ones(shape, np.bool_)

  @property
  def target_sparsities(self) -> dict[str, float]:
    """{path: sparsity that the variable gets}; empty before `build`."""
    return {kernel.path: kernel.sparsity for kernel in self._kernels}

  def _num_ones(self, kernel: SparseKernel) -> Tensor:
    """The connections that the target leaves, int32 scalar.

    Of a variable with a structure, those that it leaves every group.
    """
    return tf.constant(self._ones_of(kernel))

  def _ones_of(self, kernel: SparseKernel) -> int:
    """The number of `_num_ones`, on the host."""
    structure = self._settings.structure
    if structure is not None and kernel.groups is not None:
      return structure.ones_per_group(kernel.groups, kernel.sparsity)
    zeros = sparse_utils.get_n_zeros(kernel.size, kernel.sparsity)
    return kernel.size - zeros

  def _assign_masks(
    self, kernels: Sequence[SparseKernel], masks: Sequence[Tensor]
  ) -> None:
    """Sets flat masks and clears what is inactive."""
    before = [kernel.snapshot() for kernel in kernels]
    for kernel, flat in zip(kernels, masks, strict=True):
      kernel.set_mask(flat)
    self._clear(all_slots=True)
    self._note_changes(kernels, before)
