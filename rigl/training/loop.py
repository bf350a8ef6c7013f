"""The loop of a run: runs the compiled programs from event to event.

The host knows every coming event (mask update, evaluation, checkpoint, record,
end) and makes all gradient steps up to the next one in one call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.sparse_optimizers import SparseOptimizer
from rigl.training import checkpoints, files
from rigl.training.programs import Programs
from rigl.training.progress import Progress

Variable = Any

_ITERATION = "iteration"


@dataclass(frozen=True)
class Evaluation:
  """What an evaluation found.

  Attributes:
    iteration: iterations so far: gradient steps, and mask updates that took
      the place of one.
    step: gradient steps so far.
    train: means of the metrics over the gradient steps since the evaluation
      before, and the state of the training.
    test: means of the metrics over the test examples.
    timing: `steps_per_second` since the evaluation before.
  """

  iteration: int
  step: int
  train: dict[str, float]
  test: dict[str, float]
  timing: dict[str, float]


@dataclass(frozen=True)
class Event:
  """Something that happens every so many iterations.

  Attributes:
    every: iterations between two; 0 for never.
    action: gets the number of iterations so far.
    at_start: whether it also happens before the first iteration.
  """

  every: int
  action: Callable[[int], None]
  at_start: bool = False

  def iterations_left(self, iteration: int) -> float:
    """Iterations until it happens next, at least 1."""
    return self.every - iteration % self.every if self.every else math.inf

  def is_due(self, iteration: int) -> bool:
    """Whether it happens after this many iterations."""
    return self.every > 0 and iteration % self.every == 0


class TrainingDivergedError(RuntimeError):
  """A metric is not finite any more."""


class Loop:
  """Trains and evaluates; a resumed run goes on with the same bits.

  Args:
    programs: the compiled programs.
    optimizer: the sparse optimizer that they use.
    global_step: int64 variable that gradient steps advance.
    variables: the model's variables by name; with those of the optimizer
      they are what a checkpoint holds.
    evaluate_every: iterations between evaluations; 0 for none.
    on_evaluation: gets what each evaluation found.
  """

  def __init__(
    self,
    programs: Programs,
    optimizer: SparseOptimizer,
    global_step: Variable,
    variables: dict[str, Variable],
    evaluate_every: int,
    on_evaluation: Callable[[Evaluation], None],
  ) -> None:
    self._programs, self._optimizer = programs, optimizer
    self._global_step = global_step
    self._variables = {
      **variables,
      **optimizer.state(),
      "global_step": global_step,
    }
    self._on_evaluation = on_evaluation
    self._events = [Event(evaluate_every, self._evaluate)]
    self._sums: dict[str, float] = {}
    self._steps, self._changed = 0, 0.0
    self._since = time.monotonic()
    self.iteration = 0
    self.last: Evaluation | None = None

  def add_event(
    self, every: int, action: Callable[[int], None], at_start: bool = False
  ) -> None:
    """Adds an action; those of one iteration run in the order of adding.

    Args:
      every: iterations between two; 0 for never.
      action: gets the number of iterations so far.
      at_start: whether it also happens before the first iteration.
    """
    self._events.append(Event(every, action, at_start))

  def save(self, directory: files.Path, keep: int = 2) -> str:
    """Writes a checkpoint; call it right after an evaluation.

    What was added up for the next evaluation would be lost.

    Args:
      directory: where to.
      keep: how many checkpoints to keep; 0 keeps all.

    Returns:
      The prefix of the checkpoint.
    """
    tensors = {
      # The published checkpoints have their masks as float32.
      name: tf.cast(v, tf.float32) if name.endswith("/mask") else v
      for name, v in self._variables.items()
    }
    tensors[_ITERATION] = np.int64(self.iteration)
    return checkpoints.save(directory, self.iteration, tensors, keep)

  def restore(self, directory: files.Path) -> bool:
    """Restores the newest checkpoint; returns whether there was one.

    Raises:
      ValueError: if it is damaged or does not fit.
    """
    tensors = checkpoints.load_latest(directory)
    if tensors is None:
      return False
    if _ITERATION not in tensors:
      raise ValueError(
        f"`{directory}` holds a checkpoint that is not of this loop: "
        f"{_ITERATION} is missing."
      )
    checkpoints.restore(tensors, self._variables)
    self.iteration = int(tensors[_ITERATION])
    return True

  def run(self, total_iterations: int, progress: Progress) -> None:
    """Trains until this many iterations are made in all."""
    self._since = time.monotonic()
    step = int(self._global_step.numpy())
    for event in self._events:
      if self.iteration == 0 and event.at_start and event.is_due(0):
        event.action(0)
    while self.iteration < total_iterations:
      before = self.iteration
      step = self._advance(step, total_iterations - self.iteration)
      progress.advance(self.iteration - before)
      for event in self._events:
        if event.is_due(self.iteration):
          event.action(self.iteration)

  def _advance(self, step: int, most: int) -> int:
    """Runs the next program or two; returns the new value of global_step."""
    optimizer = self._optimizer
    to_update = optimizer.steps_to_update(step)
    if to_update == 0:
      self._changed += self._programs.update_masks(self.iteration)
      self.iteration += 1
      return step
    limits = [event.iterations_left(self.iteration) for event in self._events]
    limits += [most, self._programs.steps_left(self.iteration)]
    count = int(min(to_update or math.inf, *limits))
    self._train(count)
    if count == to_update and not optimizer.update_is_iteration:
      self._changed += self._programs.update_masks(self.iteration - 1)
    return step + count

  def _train(self, count: int) -> None:
    sums = self._programs.train_steps(self.iteration, count)
    self._check_finite(sums, self.iteration, self.iteration + count)
    for name, value in sums.items():
      self._sums[name] = self._sums.get(name, 0.0) + value
    self._steps += count
    self.iteration += count

  def _check_finite(
    self, metrics: dict[str, float], first: int, last: int
  ) -> None:
    for name, value in metrics.items():
      if not math.isfinite(value):
        raise TrainingDivergedError(
          f"`{name}` became {value} between iterations {first} and {last}; "
          "lower the learning rate."
        )

  def _evaluate(self, iteration: int) -> None:
    step = int(self._global_step.numpy())
    seconds = time.monotonic() - self._since
    steps = max(self._steps, 1)
    means = {name: value / steps for name, value in self._sums.items()}
    means["drop_fraction"] = self._optimizer.drop_fraction(step)
    means["mask_changed"] = self._changed
    timing = {"steps_per_second": self._steps / max(seconds, 1e-9)}
    test = self._programs.evaluate()
    # Before it is reported and saved: the weights are one step further than
    # the metrics of the training.
    self._check_finite(test, iteration - 1, iteration)
    evaluation = Evaluation(iteration, step, means, test, timing)
    self._sums, self._steps, self._changed = {}, 0, 0.0
    self.last = evaluation
    self._on_evaluation(evaluation)
    self._since = time.monotonic()
