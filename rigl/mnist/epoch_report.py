# SPDX-License-Identifier: Apache-2.0
"""Console lines of the MNIST script: one per epoch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rigl import sparse_utils
from rigl.compression import compress_fully_connected
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.loop import Report
from rigl.training.reporting import metrics_text
from rigl.types import Metrics


def mask_arrays(optimizer: SparseOptimizer) -> dict[str, np.ndarray]:
  """The masks by layer name, bool [inputs, outputs]; none without masks."""
  return {layer.name: layer.mask.numpy() for layer in optimizer.layers}


class EpochLines:
  """Formats loss, accuracy, sparsities and the size of the compressed network.

  Args:
    optimizer: the sparse optimizer, with the masks.
    batches_per_epoch: iterations per epoch.
  """

  reads_state = True

  def __init__(
    self, optimizer: SparseOptimizer, batches_per_epoch: int
  ) -> None:
    self._optimizer, self._batches_per_epoch = optimizer, batches_per_epoch

  def __call__(self, report: Report, train: Metrics, test: Metrics) -> str:
    """Returns the line of a report."""
    epoch = report.iteration // self._batches_per_epoch
    place = f"epoch {epoch}, iteration {report.iteration}"
    if not test:  # The run is stopped within an epoch.
      # Before the first step there is no loss.
      return f"{place}: loss {train['loss']:.4f}" if "loss" in train else place
    line = metrics_text(place, "test", test, ["accuracy"])
    arrays = list(mask_arrays(self._optimizer).values())
    if not arrays:
      return line
    overall = sparse_utils.calculate_sparsity(arrays)
    layers = _list(sparse_utils.calculate_sparsity([m]) for m in arrays[:2])
    left = compress_fully_connected(arrays)
    sizes = "-".join(str(size) for size in left.sizes)
    return (
      f"{line}, sparsity {overall:.4f}\n"
      f"  layers {layers}; compressed {sizes}: {_list(left.sparsities)}"
    )


def _list(values: Iterable[float]) -> str:
  return ", ".join(f"{value:.4f}" for value in values)
