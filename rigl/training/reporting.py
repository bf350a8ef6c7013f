# SPDX-License-Identifier: Apache-2.0
"""Reporter: writes what the loop reports to the console and to files.

Console lines of all commands are formatted here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import tqdm

from rigl import files
from rigl.schedules import LearningRate
from rigl.training.loop import Report
from rigl.training.metrics import MetricsWriter, NoMetrics
from rigl.types import Metrics

_LOSS, _PENALTY = "loss", "regularization_loss"
_CROSS_ENTROPY = "cross_entropy"


class LineFormat(Protocol):
  """Formats the console line of a report."""

  @property
  def reads_state(self) -> bool:
    """Whether it reads variables of the train state, such as masks."""

  def __call__(self, report: Report, train: Metrics, test: Metrics) -> str:
    """Returns the line.

    Args:
      report: the report.
      train: metrics of the training, regularization in the loss.
      test: metrics of the test examples; may be empty.
    """


class Reporter:
  """Writes reports to the console, `metrics.csv` and TensorBoard.

  Args:
    learning_rate: the schedule of the learning rate.
    epoch_at: returns the epoch of an iteration.
    line: formats the console line.
    summarize_test: converts the metrics of an evaluation to those to report.
    images: returns images of the state, uint8 [1, height, width, 1] by name,
      which TensorBoard shows. None: no images.
  """

  def __init__(
    self,
    learning_rate: LearningRate,
    epoch_at: Callable[[int], float],
    line: LineFormat,
    summarize_test: Callable[[Metrics], Metrics] = dict,
    images: Callable[[], Mapping[str, np.ndarray]] | None = None,
  ) -> None:
    self._learning_rate, self._epoch_at = learning_rate, epoch_at
    self._line, self._summarize_test = line, summarize_test
    self._images = images
    self._writer: MetricsWriter | NoMetrics = NoMetrics()
    self.bar: ProgressBar | None = None

  @property
  def reads_state(self) -> bool:
    """Whether reports need the variables of the train state."""
    return self._images is not None or self._line.reads_state

  def open(self, directory: files.Path, iteration: int) -> None:
    """Opens the files.

    Args:
      directory: the directory of the files.
      iteration: rows of later iterations are removed.
    """
    self._writer = MetricsWriter(directory, iteration)

  def report(self, report: Report) -> None:
    """Writes and prints a report."""
    train = dict(report.train)
    if _LOSS in train:
      train = _with_penalty(train, train[_PENALTY])
    test: Metrics = {}
    if report.test:
      test = self.test_metrics(report.test, report.train)
    train["learning_rate"] = float(self._learning_rate.at(report.step))
    place = {
      "iteration": report.iteration,
      "step": report.step,
      "epoch": self._epoch_at(report.iteration),
    }
    values = {**train, **report.timing}
    self._writer.write(report.iteration, place, values, test)
    if self._images is not None:
      self._writer.write_images(report.iteration, self._images())
    if self.bar is not None:
      self.bar.say(self._line(report, train, test))

  def test_metrics(self, found: Metrics, state: Metrics) -> Metrics:
    """Returns the metrics that are reported of an evaluation.

    Args:
      found: means of the metrics over the test examples.
      state: metrics of the state, with `regularization_loss`, which is added
        to the loss; `cross_entropy` is the loss without it.
    """
    return _with_penalty(self._summarize_test(found), state[_PENALTY])

  def close(self) -> None:
    """Closes the files."""
    self._writer.close()


def _with_penalty(metrics: Metrics, penalty: float) -> Metrics:
  """Adds the regularization to the loss; `cross_entropy` is without it."""
  loss = metrics[_LOSS]
  return {**metrics, _LOSS: loss + penalty, _CROSS_ENTROPY: loss}


def metrics_text(
  place: str, kind: str, metrics: Metrics, names: Sequence[str]
) -> str:
  """Formats metrics: `step 5: test loss 0.1234, test accuracy 0.9876`.

  Args:
    place: where in the run.
    kind: `train` or `test`.
    metrics: values by name.
    names: the metrics to show, beside `loss`.
  """
  shown = [_LOSS, *names]
  values = (f"{kind} {name} {metrics[name]:.4f}" for name in shown)
  return f"{place}: {', '.join(values)}"


class StepLines:
  """Formats one line for training and, after an evaluation, one for the test.

  Args:
    names: the metrics to show, beside `loss`.
    batch_size: examples per step; the line then also shows examples per second.
      None: it does not.
    test_only: names of further metrics of the test, by their labels in the
      line.
  """

  reads_state = False

  def __init__(
    self,
    names: Sequence[str],
    batch_size: int | None = None,
    test_only: Mapping[str, str] | None = None,
  ) -> None:
    self._names, self._batch_size = names, batch_size
    self._test_only = test_only or {}

  def __call__(self, report: Report, train: Metrics, test: Metrics) -> str:
    """Returns the lines of a report."""
    place, lines = f"step {report.step}", []
    if _LOSS in train:
      line = metrics_text(place, "train", train, self._names)
      line += self._speed(report.timing)
      if "sparsity" in train:
        line += f", sparsity {train['sparsity']:.4f}"
      lines.append(line)
    if test:
      line = metrics_text(place, "test", test, self._names)
      for label, name in self._test_only.items():
        line += f", {label} {test[name]:.4f}"
      lines.append(line)
    # A run may be stopped after a mask update and before the first step.
    return "\n".join(lines) or place

  def _speed(self, timing: Metrics) -> str:
    if not timing:
      return ""
    speed = timing["steps_per_second"]
    if self._batch_size is None:
      return f", {speed:.1f} steps/s"
    images = speed * self._batch_size
    return f", {speed:.2f} steps/s, {images:.1f} images/s"


class ProgressBar:
  """Shows how far a run is.

  On a terminal it is a bar with the remaining time. Elsewhere the remaining
  time is added to the lines that are printed.

  Args:
    total: number of iterations of the whole run.
    initial: iterations that are done already.
    is_shown: whether anything is printed.
  """

  def __init__(
    self, total: int, initial: int = 0, is_shown: bool = True
  ) -> None:
    self._is_shown = is_shown
    self._total, self._initial = total, initial
    self._done, self._started = initial, time.monotonic()
    # disable=None: no bar where the output is not a terminal.
    self._bar = tqdm.tqdm(
      total=total,
      initial=initial,
      unit="it",
      file=sys.stderr,
      disable=None if is_shown else True,
    )

  def advance(self, count: int) -> None:
    """Counts iterations.

    Args:
      count: how many were made.
    """
    self._done += count
    self._bar.update(count)

  def say(self, line: str) -> None:
    """Prints a line above the bar, or with the estimate at its end.

    Args:
      line: the text.
    """
    if not self._is_shown:
      return
    if self._bar.disable:
      print(f"{line}  [{self._estimate()} left]", flush=True)
    else:
      self._bar.write(line, file=sys.stdout)

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def _estimate(self) -> str:
    made = max(self._done - self._initial, 1)
    seconds = (time.monotonic() - self._started) / made
    return tqdm.tqdm.format_interval(seconds * (self._total - self._done))
