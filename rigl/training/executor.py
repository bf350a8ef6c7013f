# SPDX-License-Identifier: Apache-2.0
"""Executor protocol: the interface between the loop and the runners.

`Loop` decides how far it is to the next event. An executor decides how to get
there: with which programs, on which device, and where a mask update is due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from rigl.sparse_optimizers import SparseOptimizer
from rigl.training.train_state import TrainState
from rigl.types import Metrics

# The most gradient steps of one `advance`: between two calls the loop can stop.
MAX_STEPS = 100
# Name of the number of skipped steps among the sums of `Progress`.
SKIPPED = "skipped_steps"


class Progress(NamedTuple):
  """Result of `Executor.advance`.

  Attributes:
    iterations: iterations that were made: gradient steps, and mask updates
      that took the place of one.
    steps: gradient steps among them.
    sums: sums of the batch means of the metrics over these steps. Empty if the
      executor does not bring them back.
    mask_changed: share of all connections whose mask changed, added up over
      the mask updates. None if the executor does not know it.
  """

  iterations: int
  steps: int
  sums: Metrics
  mask_changed: float | None = None


class StoppedError(Exception):
  """An evaluation or an event was stopped; it will be repeated."""


class Executor(Protocol):
  """Trains and evaluates; implemented in `rigl.runners`.

  Attributes:
    is_stopped: whether the run shall stop; an evaluation asks it before every
      batch, on all hosts alike. The trainer sets it.
  """

  is_stopped: Callable[[], bool]

  @property
  def is_ahead(self) -> bool:
    """Whether `advance` has made steps that the train state does not count yet.

    Any thread may ask.
    """

  def advance(self, iteration: int, limit: int) -> Progress:
    """Trains towards the next event.

    Args:
      iteration: number of iterations before.
      limit: the most positions to advance, at least 1. Positions count
        iterations, or gradient steps in a run that counts those.
    """

  def evaluate(self) -> Metrics:
    """Returns the means of the metrics over all test examples.

    Raises:
      StoppedError: if the run shall stop.
    """

  def state_metrics(self) -> Metrics:
    """Returns the metrics that need no data.

    They are `regularization_loss` and, if there are masks, the sparsity of all
    of them (`sparsity`) and of each (`sparsity/LAYER`); with
    `--track_exploration` also the explored shares (`explored`,
    `explored/LAYER`).
    """

  def non_finite(self) -> str | None:
    """The name of the first variable with a value that is not finite."""

  def synchronize(self) -> None:
    """Gives the variables of the train state their present values.

    The trainer calls it before something else than the executor reads them.
    """


class StateInVariables:
  """An executor whose train state is always in its variables.

  Attributes:
    state: the train state.
  """

  state: TrainState

  def non_finite(self) -> str | None:
    """The name of the first variable with a value that is not finite."""
    return self.state.non_finite()

  def synchronize(self) -> None:
    """Does nothing: the variables have their present values."""


def never() -> bool:
  """Says no: what `is_stopped` is before a trainer sets it."""
  return False


class Stretch(NamedTuple):
  """The next iterations: gradient steps, a mask update, or both in this order.

  Attributes:
    steps: number of gradient steps.
    updates_masks: whether a mask update follows.
  """

  steps: int
  updates_masks: bool

  def update_iteration(self, iteration: int) -> int:
    """The iteration of the mask update.

    Args:
      iteration: number of iterations before this stretch.
    """
    return iteration + max(self.steps - 1, 0)


def next_stretch(optimizer: SparseOptimizer, step: int, limit: int) -> Stretch:
  """Plans up to the next mask update.

  Args:
    optimizer: the sparse optimizer, whose schedule decides.
    step: number of gradient steps before.
    limit: the most gradient steps, at least 1.
  """
  to_update = optimizer.steps_to_update(step)
  if to_update == 0:
    return Stretch(0, True)
  steps = min(limit, MAX_STEPS, to_update or limit)
  is_due = steps == to_update and not optimizer.update_is_iteration
  return Stretch(steps, is_due)
