# SPDX-License-Identifier: Apache-2.0
"""Console lines of reports, and what a reporter adds to metrics."""

import pytest

from rigl.training.loop import Report
from rigl.training.reporting import Reporter, StepLines

TRAIN = {"loss": 0.5, "accuracy": 0.25, "regularization_loss": 0.125}
TEST = {"loss": 0.75, "accuracy": 0.5, "top_5": 0.875}


def report(train=TRAIN, test=None, timing=None):
  return Report(3, 2, train, test or {}, timing or {})


def line(lines, **parts):
  made = report(**parts)
  return lines(made, made.train, made.test)


def test_a_line_shows_the_training_and_one_more_the_test():
  lines = StepLines(["accuracy"], test_only={"top-5": "top_5"})
  train = "step 2: train loss 0.5000, train accuracy 0.2500"
  assert line(lines) == train
  assert line(lines, test=TEST) == (
    f"{train}\nstep 2: test loss 0.7500, test accuracy 0.5000, top-5 0.8750"
  )


def test_a_line_shows_the_speed_and_the_sparsity():
  parts = dict(
    train={**TRAIN, "sparsity": 0.9}, timing={"steps_per_second": 2.0}
  )
  start = "step 2: train loss 0.5000, train accuracy 0.2500"
  assert line(StepLines(["accuracy"]), **parts) == (
    f"{start}, 2.0 steps/s, sparsity 0.9000"
  )
  assert line(StepLines(["accuracy"], batch_size=4), **parts) == (
    f"{start}, 2.00 steps/s, 8.0 images/s, sparsity 0.9000"
  )


def test_a_report_without_any_step_shows_where_it_is():
  """As of a run that is stopped after a mask update at its start."""
  assert line(StepLines(["accuracy"]), train={"sparsity": 0.9}) == "step 2"


class ConstantRate:
  def at(self, step, ops=None):
    return 0.1 * step


def test_losses_are_reported_with_the_regularization(tmp_path):
  printed = []

  def note(_, train, test):
    printed.append((train["loss"], train["learning_rate"], test))
    return ""

  reporter = Reporter(ConstantRate(), float, note)
  reporter.open(tmp_path, 0)
  reporter.bar = type("Bar", (), {"say": lambda self, text: None})()
  reporter.report(report(test=TEST))
  reporter.close()
  expected = {**TEST, "loss": 0.875, "cross_entropy": 0.75}
  assert printed == [(0.625, pytest.approx(0.2), expected)]
  header, row = (tmp_path / "metrics.csv").read_text().splitlines()
  values = dict(zip(header.split(","), row.split(","), strict=True))
  assert values["iteration"] == values["epoch"].removesuffix(".0") == "3"
  assert (values["loss"], values["test_loss"]) == ("0.625", "0.875")
