# SPDX-License-Identifier: Apache-2.0
"""`SparsitySummaries`: curves of sparsity and masks for TensorBoard."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl.checks import check_integer
from rigl.keras.drop_grow import DropGrowOptimizer
from rigl.keras.scheduled import (
  LAST_UPDATE,
  ScheduledOptimizer,
  UpdatingOptimizer,
)
from rigl.keras.wrapped import number_of, sparse_optimizer_of


class SparsitySummaries(keras.callbacks.Callback):
  """Writes scalars about the masks of a sparse optimizer for TensorBoard.

  Every scalar has a tag per sparse variable, such as `sparsity/dense/kernel`,
  and one for all variables together, such as `sparsity/total`:

  * `sparsity`: share of inactive connections.
  * `mask_change`: share of connections that are active and were not, or the
    other way round, since the last point of the curve.
  * `explored`: share of connections that were active at any time since the
    first training with this callback, or, if the optimizer has
    `track_exploration`, since the start (R_s of Liu et al., 2021,
    https://arxiv.org/abs/2102.02887). It is at least the density.
  * `drop_fraction`, one curve only: share of the active connections that an
    update at this step drops; for methods that drop and grow.

  The steps are `optimizer.iterations`. With `steps_per_execution` above 1, the
  callback sees only the last masks of an execution.

  Args:
    log_dir: directory of the event files.
    update_freq: `epoch` writes at the end of every epoch, `batch` after every
      batch, an integer N >= 1 after every N batches.

  Raises:
    ValueError: if an argument is not as described; at the start of training,
      if the optimizer of the model is not a sparse one.
  """

  def __init__(
    self,
    log_dir: str | os.PathLike = "logs",
    update_freq: str | int = "epoch",
  ) -> None:
    super().__init__()
    self._every = _batches(update_freq)
    if not isinstance(log_dir, str | os.PathLike):
      raise ValueError(f"`log_dir` must be a path, got {log_dir!r}.")
    self._log_dir = os.fspath(log_dir)
    self._writer: Any = None
    self._recorded: dict[str, np.ndarray] = {}
    self._explored: dict[str, np.ndarray] = {}
    self._batches = 0
    self._last_update: int | None = None

  def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
    """Opens the file, and takes the masks as they are."""
    del logs
    optimizer = sparse_optimizer_of(self.model)  # Raises if there is none.
    optimizer.build(self.model.trainable_variables)
    if self._writer is None:
      self._writer = tf.summary.create_file_writer(self._log_dir)
    if not self._recorded:
      self._recorded = self._look()

  def on_train_batch_end(
    self, batch: int, logs: dict[str, Any] | None = None
  ) -> None:
    """Notes which connections are active, and writes if it is time."""
    del batch, logs
    self._batches += 1
    if self._every and self._batches % self._every == 0:
      self._write()
    elif self._may_have_changed():
      self._look()

  def on_epoch_end(
    self, epoch: int, logs: dict[str, Any] | None = None
  ) -> None:
    """Writes, if that is once per epoch."""
    del epoch, logs
    if not self._every:
      self._write()

  def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
    """Makes all points visible."""
    del logs
    self._writer.flush()

  def _may_have_changed(self) -> bool:
    """Whether the masks may be others than those seen last.

    Masks are large; the step of the last update is one number.
    """
    optimizer = sparse_optimizer_of(self.model)
    if not isinstance(optimizer, UpdatingOptimizer):
      return False
    if not isinstance(optimizer, ScheduledOptimizer):
      return True
    before = self._last_update
    self._last_update = number_of(optimizer.counters[LAST_UPDATE])
    return before != self._last_update

  def _look(self) -> dict[str, np.ndarray]:
    """Reads the masks, and adds them to what is explored."""
    masks, optimizer = {}, sparse_optimizer_of(self.model)
    tracked = getattr(optimizer, "explored", {})
    for path, mask in optimizer.masks.items():
      masks[path] = mask.numpy()
      known = self._explored.get(path, False)
      if path in tracked:
        known = tracked[path].numpy()
      self._explored[path] = np.logical_or(known, masks[path])
    return masks

  def _write(self) -> None:
    """Writes a point of every curve."""
    optimizer = sparse_optimizer_of(self.model)
    masks = self._look()
    counts = {
      "sparsity": {p: np.count_nonzero(~m) for p, m in masks.items()},
      "mask_change": {
        p: np.count_nonzero(m != self._recorded.get(p, m))
        for p, m in masks.items()
      },
      "explored": {p: np.count_nonzero(self._explored[p]) for p in masks},
    }
    self._recorded = masks
    step = number_of(optimizer.iterations)
    total = sum(mask.size for mask in masks.values())
    with self._writer.as_default(step=step):
      for tag, values in counts.items():
        for path, count in values.items():
          tf.summary.scalar(f"{tag}/{path}", count / masks[path].size)
        tf.summary.scalar(f"{tag}/total", sum(values.values()) / total)
      if isinstance(optimizer, DropGrowOptimizer):
        fraction = optimizer.schedule.drop_fraction_at(step)
        tf.summary.scalar("drop_fraction", fraction)
    self._writer.flush()


def _batches(update_freq: str | int) -> int:
  """The batches between two points of a curve; 0 for once per epoch."""
  if update_freq == "epoch":
    return 0
  if update_freq == "batch":
    return 1
  try:
    check_integer("update_freq", update_freq, 1)
  except ValueError:
    raise ValueError(
      "`update_freq` must be 'epoch', 'batch' or an integer >= 1, got "
      f"{update_freq!r}."
    ) from None
  return int(update_freq)
