# SPDX-License-Identifier: Apache-2.0
"""What a run saves: checkpoints, and the files that belong to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rigl import files
from rigl.distribution.replicas import Replicas
from rigl.training import unreported
from rigl.training.train_state import TrainState
from rigl.training.unreported import Unreported


class Companion(Protocol):
  """Something that is saved with every checkpoint, in a file of its own."""

  def restore(self, iteration: int) -> None:
    """Restores the content that it had at an iteration."""

  def save(self) -> None:
    """Writes the file."""


class Saver:
  """Writes the checkpoints of a run, and knows how far it is saved.

  Args:
    state: the train state.
    path: the directory of the run.
    replicas: the devices that train; the chief alone writes.
    companions: objects that are saved with every checkpoint.
    keep: how many checkpoints to keep; 0 keeps all.
    writes_checkpoints: whether checkpoints are written.
  """

  def __init__(
    self,
    state: TrainState,
    path: files.Path,
    replicas: Replicas,
    companions: Sequence[Companion],
    keep: int,
    writes_checkpoints: bool,
  ) -> None:
    self._state = state
    self._path, self._replicas = path, replicas
    self._companions, self._keep = companions, keep
    self._writes_checkpoints = writes_checkpoints
    self._kept_at: int | None = None

  @property
  def has_state(self) -> bool:
    """Whether a checkpoint holds the train state as it is."""
    return self._state.iteration == self._kept_at

  def note_restored(self) -> None:
    """Notes that the state is that of a checkpoint, or the initial one."""
    self._kept_at = self._state.iteration

  def restore_companions(self) -> None:
    """Restores the companions as they were at the state's iteration."""
    for companion in self._companions:
      companion.restore(self._state.iteration)

  def save_unreported(self, left: Unreported) -> None:
    """Writes what the checkpoint of this iteration does not hold.

    Args:
      left: what the run did since its last report.
    """
    if self._replicas.is_chief and self._writes_checkpoints:
      unreported.save(self._path, self._state.iteration, left)

  def save(self, position: int, is_reported: bool = True) -> None:
    """Writes a checkpoint, after the files that belong to it.

    The variables must hold what was trained (`Executor.synchronize`).

    Args:
      position: how far the run is.
      is_reported: whether nothing is unreported. If not, call
        `save_unreported` before.
    """
    is_chief = self._replicas.is_chief
    for companion in self._companions if is_chief else ():
      companion.save()
    if is_chief and is_reported:
      unreported.remove(self._path)
    if self._writes_checkpoints:
      self._state.save(self._path, position, self._keep, is_chief)
    self._kept_at = self._state.iteration
