# SPDX-License-Identifier: Apache-2.0
"""Trainer: runs one experiment and writes its checkpoints and result.

A task supplies the parts: train state, executor, events and reporter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from rigl.config import app, unread_bindings
from rigl.distribution.replicas import Replicas
from rigl.training import unreported
from rigl.training.executor import Executor, StoppedError
from rigl.training.loop import Event, Intervals, Loop, Report
from rigl.training.preemption import Notice, PreemptedError
from rigl.training.process_end import one_line_ends
from rigl.training.reporting import ProgressBar, Reporter
from rigl.training.run_directory import DamagedResultError, RunDirectory
from rigl.training.saving import Companion, Saver
from rigl.training.train_state import TrainState
from rigl.types import Metrics


class Trainer:
  """Trains a task to its end.

  Attributes:
    state, executor, directory, replicas, intervals, reporter, events: the
      arguments.
    notice: requests to stop.
    loop: runs the executor.

  Args:
    state: the train state.
    executor: trains and evaluates.
    directory: the run directory.
    replicas: the devices that train.
    intervals: distances between events, and the end.
    reporter: writes reports.
    events: further actions during the run.
    companions: objects that are saved with every checkpoint.
    keep: how many checkpoints to keep; 0 keeps all.
    writes_checkpoints: whether checkpoints are written.
    result_metrics: metrics of the test that the result holds. None: the
      headline metrics of the task.
  """

  def __init__(
    self,
    state: TrainState,
    executor: Executor,
    directory: RunDirectory,
    replicas: Replicas,
    intervals: Intervals,
    reporter: Reporter,
    *,
    events: Sequence[Event] = (),
    companions: Sequence[Companion] = (),
    keep: int = 2,
    writes_checkpoints: bool = True,
    result_metrics: Sequence[str] | None = None,
  ) -> None:
    self.state, self.executor = state, executor
    self.directory, self.replicas = directory, replicas
    self.intervals, self.reporter = intervals, reporter
    self.events = tuple(events)
    self._saver = Saver(
      state,
      directory.path,
      replicas,
      companions,
      keep,
      writes_checkpoints,
    )
    if result_metrics is None:
      result_metrics = state.task.headline_metrics
    self._result_metrics = tuple(result_metrics)
    self.notice = Notice()
    executor.is_stopped = self._is_stopped
    self.loop = Loop(
      executor,
      state,
      intervals,
      self._report,
      self.save,
      [self._prepared(event) for event in events],
      self._is_stopped,
    )

  def _report(self, report: Report) -> None:
    if self.reporter.reads_state:
      self.executor.synchronize()
    self.reporter.report(report)

  def train(self) -> None:
    """Trains to the end and prints the result; errors become one line.

    If the run is finished already, it prints that. A run that is stopped ends
    the process with the exit code of SIGTERM.
    """
    with app.one_line_errors():
      result = self._start()
    if result is None:
      with one_line_ends(self.notice, self.replicas, self._is_saved):
        self.loop.run(self.intervals.total, self._open_bar().advance)
        result = self.finish()
    name = self.state.task.headline_metrics[0]
    if self.replicas.is_chief and f"test_{name}" in result:
      print(f"Test {name}: {result[f'test_{name}']:.4f}")

  def _start(self) -> dict[str, Any] | None:
    """Prepares the run, or returns the result of a finished one."""
    path, is_chief = self.directory.path, self.replicas.is_chief
    try:
      result = self.directory.result()
      if result is not None and self.intervals.unit not in result:
        raise DamagedResultError(
          f"`{path}/result.json` is damaged (`{self.intervals.unit}` is "
          "missing)."
        )
    except DamagedResultError as error:
      logging.warning("%s The run resumes from its newest checkpoint.", error)
      self.directory.set_result_aside()
      result = None
    result = self._result_of_end(result)
    if is_chief and result is None:
      print(f"Run directory: {path}", flush=True)
    elif is_chief:
      print(f"The run in {path} is finished.")
    if result is None:
      self.prepare()
    return result

  def _result_of_end(
    self, result: dict[str, Any] | None
  ) -> dict[str, Any] | None:
    """The result at the end that the run has now, if there is one.

    Args:
      result: the result at the last end that it had.

    Raises:
      ValueError: if the run is longer already.
    """
    total, unit = self.intervals.total, self.intervals.unit
    if result is None or result[unit] == total:
      return result
    earlier = self.directory.result(total)
    if earlier is None and result[unit] > total:
      raise self._too_short(result[unit])
    return earlier

  def _too_short(self, position: int) -> ValueError:
    """The error of a run whose end lies before its position."""
    unit, name = self.intervals.unit, self.directory.length or "The length"
    return ValueError(
      f"`{name}` ends the run at {unit} {self.intervals.total}, but the one in "
      f"`{self.directory.path}` is at {unit} {position} already; raise "
      f"`{name}` or choose another directory."
    )

  def prepare(self) -> None:
    """Restores the newest checkpoint, if there is one, and opens the files.

    Raises:
      ValueError: if a file of the run is damaged, the run is longer already,
        or workers have different directories.
      OSError: if a file cannot be read or written.
    """
    state, path = self.state, self.directory.path
    is_resumed = state.restore(path)
    iterations = self.replicas.all_gather_scalar(state.iteration)
    if len(set(iterations)) > 1:
      raise ValueError(
        f"`{path}` must be the same directory for all workers, got checkpoints "
        f"of the iterations {iterations}."
      )
    if self.loop.position > self.intervals.total:
      raise self._too_short(self.loop.position)
    left = unreported.load(path, state.iteration)
    self.loop.resume(left)
    has_report_left = left.next_event is not None and not left.is_reported
    self._saver.note_restored()
    earlier = self.directory.result()
    if earlier is not None:  # The run goes on after its end.
      self.directory.set_result_aside(earlier[self.intervals.unit])
    self.directory.start()
    if self.replicas.is_chief:
      unread_bindings.warn()
      self.reporter.open(path, state.iteration - has_report_left)
      if is_resumed:
        where = f"{self.intervals.unit} {self.loop.position}"
        print(f"Resumed at {where}.", flush=True)
    self._saver.restore_companions()

  def run(self, total: int | None = None, loop: Loop | None = None) -> None:
    """Trains up to a position; `prepare` it first, and `finish` it at the end.

    Args:
      total: the position. None: the end.
      loop: runs instead of the trainer's own loop.
    """
    total = self.intervals.total if total is None else total
    (loop or self.loop).run(total, self._open_bar(total).advance)

  def _open_bar(self, total: int | None = None) -> ProgressBar:
    total = self.intervals.total if total is None else total
    position = self.loop.position
    self.reporter.bar = ProgressBar(total, position, self.replicas.is_chief)
    return self.reporter.bar

  def finish(self, loop: Loop | None = None) -> dict[str, Any]:
    """Writes the result of a run that is at its end.

    Args:
      loop: the loop that ran, if not the trainer's own.

    Returns:
      The result, which `result.json` then holds.

    Raises:
      PreemptedError: if it was stopped before; it is saved then.
    """
    loop = loop or self.loop
    if self.reporter.bar is not None:
      self.reporter.bar.close()
    if loop.is_stopped or loop.position < self.intervals.total:
      self._stop(loop)
    try:
      result = self._result(loop.last.test if loop.last else {})
    except StoppedError:
      self._stop(loop)
    self.reporter.close()
    left = loop.unreported
    if left.steps:
      # A longer run reports these steps together with those that follow.
      self._saver.save_unreported(left)
    self.directory.finish(result)
    return result

  def _stop(self, loop: Loop) -> NoReturn:
    """Saves a run before its end, and releases it.

    Args:
      loop: the loop that ran.

    Raises:
      PreemptedError: always.
    """
    if not self._saver.has_state:
      loop.check_state()
      self._saver.save_unreported(loop.unreported)
      self.executor.synchronize()
      self._saver.save(loop.position, is_reported=False)
    self.reporter.close()
    self.directory.close()
    raise PreemptedError(
      f"Stopped at {self.intervals.unit} {loop.position} by "
      f"{self.notice.reason or 'another worker'}."
    )

  def _result(self, test: Metrics) -> dict[str, Any]:
    """The content of `result.json`.

    Args:
      test: the last evaluation; empty if there was none, as after a kill right
        after the last checkpoint.
    """
    if self._result_metrics and not test:
      test = self.executor.evaluate()
    self.executor.synchronize()
    layers = self.state.optimizer.layers
    size = sum(layer.size for layer in layers)
    ones = sum(np.count_nonzero(layer.mask.numpy()) for layer in layers)
    surplus = self.state.optimizer.num_surplus()
    if surplus > 0:
      logging.warning(
        "Training ended before the last mask update, which drops the surplus "
        "of soft memory: the network has %d connections more than was asked "
        "for.",
        surplus,
      )
    return {
      "iteration": self.state.iteration,
      "step": self.state.step,
      **{f"test_{name}": test[name] for name in self._result_metrics},
      "sparsity": (size - int(ones)) / size if size else 0.0,
    }

  def test_metrics(self) -> Metrics:
    """Evaluates the network as it is; the loss includes regularization."""
    found = self.executor.evaluate()
    return self.reporter.test_metrics(found, self.executor.state_metrics())

  def save(self) -> None:
    """Writes a checkpoint, after the files that belong to it.

    Raises:
      TrainingDivergedError: if the state is not finite; nothing is written.
    """
    self.loop.check_state()
    self.executor.synchronize()
    self._saver.save(self.loop.position)

  def _prepared(self, event: Event) -> Event:
    """Lets an event see the present state, and a signal break it off.

    A signal does that where it may, and with a single host.
    """
    may_break_off = event.may_break_off and self.replicas.num_hosts == 1

    def action(position: int) -> None:
      self.executor.synchronize()
      breaking_off: contextlib.AbstractContextManager = contextlib.nullcontext()
      if may_break_off:
        breaking_off = self.notice.breaking_off()
      with breaking_off:
        event.action(position)

    return dataclasses.replace(event, action=action)

  def _is_stopped(self) -> bool:
    """Whether one of the hosts was asked to stop."""
    return any(self.replicas.all_gather_scalar(int(self.notice.is_given)))

  def _is_saved(self) -> bool:
    """Whether a checkpoint holds all that was trained."""
    return self._saver.has_state and not self.executor.is_ahead
