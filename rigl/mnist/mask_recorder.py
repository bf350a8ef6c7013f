# SPDX-License-Identifier: Apache-2.0
"""Recorder of masks during a run: an event, and a file of each checkpoint."""

from __future__ import annotations

from rigl import files
from rigl.mnist.epoch_report import mask_arrays
from rigl.mnist.mask_records import MaskRecords
from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.loop import Event


class MaskRecorder:
  """Records masks during a run; their file is saved with every checkpoint.

  Args:
    optimizer: the sparse optimizer, with the masks.
    path: the file.
    every: iterations between records; 0 for none.
  """

  def __init__(
    self, optimizer: SparseOptimizer, path: files.AnyPath, every: int
  ) -> None:
    self._optimizer, self._path = optimizer, path
    self._every, self._records = every, MaskRecords()

  def event(self) -> Event:
    """Makes the event that records."""
    name = "mask_record_frequency"
    return Event(self._every, self.record, at_start=True, name=name)

  def record(self, iteration: int) -> None:
    """Records the masks, if the network has any.

    Args:
      iteration: number of iterations so far.
    """
    masks = mask_arrays(self._optimizer)
    # A run that was stopped here repeats its events.
    if masks and iteration not in self._records.iterations[-1:]:
      self._records.add(iteration, masks)

  def restore(self, iteration: int) -> None:
    """Reads the file, and drops the records of later iterations.

    Args:
      iteration: number of iterations so far.

    Raises:
      ValueError: if the file is damaged.
      OSError: if it cannot be read.
    """
    if self._every and self._optimizer.layers and iteration:
      self._records = MaskRecords.load(self._path)
      self._records.truncate(iteration)

  def save(self) -> None:
    """Writes the file, if there are records."""
    if self._records.layer_names:
      self._records.save(self._path)
