# SPDX-License-Identifier: Apache-2.0
"""Console lines of the MNIST script: one per epoch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rigl.compression.fully_connected import (
  ActiveConnections,
  compress_fully_connected,
)
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.loop import Report
from rigl.training.reporting import metrics_text
from rigl.types import Metrics


def mask_arrays(optimizer: SparseOptimizer) -> dict[str, np.ndarray]:
  """The masks by layer name, bool [inputs, outputs]; none without masks."""
  masks = {}
  for layer in optimizer.layers:
    mask = np.zeros(layer.size, bool)
    mask[layer.active_positions()] = True
    masks[layer.name] = mask.reshape(layer.shape)
  return masks


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
    found = self._optimizer.layers
    if not found:
      return line
    connections = [
      ActiveConnections(
        (la.shape[0], la.shape[1]),
        *np.divmod(la.active_positions(), la.shape[1]),
      )
      for la in found
    ]
    totals = [la.size for la in found]
    active = [each.inputs.size for each in connections]
    overall = _sparsity(sum(active), sum(totals))
    layers = _list(map(_sparsity, active[:2], totals[:2]))
    left = compress_fully_connected(connections)
    sizes = "-".join(str(size) for size in left.sizes)
    return (
      f"{line}, sparsity {overall:.4f}\n"
      f"  layers {layers}; compressed {sizes}: {_list(left.sparsities)}"
    )


def _sparsity(active: int, total: int) -> float:
  return (total - active) / total


def _list(values: Iterable[float]) -> str:
  return ", ".join(f"{value:.4f}" for value in values)
