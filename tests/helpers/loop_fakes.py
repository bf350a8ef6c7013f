"""A loop over programs that only note their calls."""

import numpy as np
import tensorflow as tf

from rigl.schedules import UpdateSchedule
from rigl.training.loop import Loop
from rigl.training.progress import Progress

EPOCH = 8  # Batches an epoch.


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


class FakePrograms:
  """Notes the calls: ("step", iteration) and ("update", iteration)."""

  def __init__(self, optimizer, epoch=EPOCH, loss=lambda iteration: 1.0):
    self._optimizer, self._epoch, self._loss = optimizer, epoch, loss
    self.global_step = tf.Variable(0, dtype=tf.int64)
    self.calls, self.done, self.evaluated_at = [], [], []

  def steps_left(self, iteration):
    return self._epoch - iteration % self._epoch

  def train_steps(self, iteration, count):
    assert 1 <= count <= self.steps_left(iteration)
    self.calls.append((iteration, count))
    self.done += [("step", i) for i in range(iteration, iteration + count)]
    self.global_step.assign_add(count)
    losses = [self._loss(i) for i in range(iteration, iteration + count)]
    return {"loss": float(np.sum(losses)), "accuracy": 0.5 * count}

  def update_masks(self, iteration):
    self.done.append(("update", iteration))
    self._optimizer.last = int(self.global_step.numpy())
    return 0.25

  def inspect(self):
    return {"state": 1.0}

  def evaluate(self):
    self.evaluated_at.append(len(self.done))
    return {"loss": 7.0}


def fake_loop(
  update_is_iteration=True,
  evaluate_every=EPOCH,
  begin=0,
  end=-1,
  frequency=3,
  loop_options=None,
  **options,
):
  schedule = UpdateSchedule(begin, end, frequency, 0.3, "constant")
  optimizer = FakeOptimizer(schedule, update_is_iteration)
  programs = FakePrograms(optimizer, **options)
  found = []
  loop = Loop(
    programs,
    optimizer,
    programs.global_step,
    {},
    evaluate_every,
    found.append,
    **(loop_options or {}),
  )
  return loop, programs, found


def run(loop, total):
  progress = Progress(total, loop.position)
  loop.run(total, progress)
  progress.close()
