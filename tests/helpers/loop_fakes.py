# SPDX-License-Identifier: Apache-2.0
"""A loop over an executor that only notes its calls."""

import numpy as np
import tensorflow as tf

from rigl.schedules import UpdateSchedule
from rigl.training.executor import (
  Progress,
  StateInVariables,
  next_stretch,
)
from rigl.training.loop import Intervals, Loop
from rigl.training.train_state import TrainState

EPOCH = 8  # Batches per epoch.


class FakeOptimizer:
  """Plans updates by the schedule; has no variables."""

  def __init__(self, schedule, update_is_iteration):
    self.update_is_iteration = update_is_iteration
    self._schedule, self.last = schedule, schedule.initial_last_update_step

  def state(self):
    return {}

  def checkpoint_state(self):
    return self.state()

  def drop_fraction_at(self, step):
    return step / 1000

  def steps_to_update(self, step):
    first = step if self.update_is_iteration else step + 1
    due = self._schedule.next_update_step(first, self.last)
    return None if due is None else due - step


class FakeExecutor(StateInVariables):
  """Notes what it does: ("step", iteration) and ("update", iteration)."""

  def __init__(self, state, epoch=EPOCH, loss=lambda iteration: 1.0):
    self.state, self._epoch, self._loss = state, epoch, loss
    self.calls, self.done, self.evaluated_at = [], [], []

  def advance(self, iteration, limit):
    assert limit >= 1
    state, optimizer = self.state, self.state.optimizer
    limit = min(limit, self._epoch - iteration % self._epoch)
    steps, updates = stretch = next_stretch(optimizer, state.step, limit)
    sums, changed = {}, 0.0
    if steps:
      made = range(iteration, iteration + steps)
      self.calls.append((iteration, steps))
      self.done += [("step", i) for i in made]
      state.global_step.assign_add(steps)
      losses = [self._loss(i) for i in made]
      sums = {"loss": float(np.sum(losses)), "accuracy": 0.5 * steps}
    if updates:
      self.done.append(("update", stretch.update_iteration(iteration)))
      optimizer.last, changed = state.step, 0.25
    return Progress(max(steps, 1), steps, sums, changed)

  def state_metrics(self):
    return {"state": 1.0}

  def evaluate(self):
    self.evaluated_at.append(len(self.done))
    return {"loss": 7.0}


def fake_loop(
  update_is_iteration=True,
  report=EPOCH,
  begin=0,
  end=-1,
  frequency=3,
  events=(),
  intervals=None,
  on_save=None,
  **options,
):
  """Makes a loop, its executor and the list that gets its reports."""
  schedule = UpdateSchedule(begin, end, frequency, 0.3, "constant")
  optimizer = FakeOptimizer(schedule, update_is_iteration)
  step = tf.Variable(0, dtype=tf.int64)
  state = TrainState(None, {}, optimizer, step, None)
  executor, found = FakeExecutor(state, **options), []
  intervals = Intervals(0, report, **(intervals or {}))
  loop = Loop(executor, state, intervals, found.append, on_save, events)
  loop.state = state
  return loop, executor, found


def run(loop, total):
  loop.run(total)
