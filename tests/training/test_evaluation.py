# SPDX-License-Identifier: Apache-2.0
"""Evaluating checkpoints while they are written."""

import pytest
import tensorflow as tf

from rigl import files
from rigl.training import checkpoints, evaluation
from rigl.training.loop import Intervals


class FakeState:
  """Notes what it was told to load."""

  task = type("Task", (), {"headline_metrics": ("accuracy", "top_5")})

  def __init__(self, removed=()):
    self.loaded, self._removed, self.iteration = [], removed, 0

  def load(self, prefix):
    number = int(prefix.rsplit("-", 1)[1])
    if number in self._removed:
      raise FileNotFoundError(prefix)
    self.loaded.append(number)
    self.iteration = number + 100

  @property
  def step(self):
    return self.loaded[-1]


class FakeTrainer:
  """A run of 30 steps whose checkpoints are in a directory."""

  intervals = Intervals(30, 0)

  def __init__(self, path, removed=()):
    self.state = FakeState(removed)
    self.directory = type("Directory", (), {"path": path})

  def test_metrics(self):
    return {"loss": 1.0 / self.state.step, "accuracy": 0.5}


def save(path, *numbers):
  for number in numbers:
    checkpoints.save(path, number, {"x": 1.0}, keep=0)


def test_every_checkpoint_is_evaluated_in_order(tmp_path, capsys):
  save(tmp_path, 10, 20, 30)
  run = FakeTrainer(tmp_path)
  evaluation.evaluate_checkpoints(run)
  assert run.state.loaded == [10, 20, 30]
  out = capsys.readouterr().out
  text = (tmp_path / "evaluations" / "metrics.csv").read_text().splitlines()
  assert text == [
    "iteration,step,test_loss,test_accuracy",
    "110,10,0.1,0.5",
    "120,20,0.05,0.5",
    "130,30,0.0333333,0.5",
  ]
  assert "step 20: test loss 0.0500, test accuracy 0.5000\n" in out


def test_checkpoint_that_was_removed_is_passed_over(tmp_path):
  save(tmp_path, 10, 20, 30)
  run = FakeTrainer(tmp_path, removed=(10,))
  evaluation.evaluate_checkpoints(run)
  assert run.state.loaded == [20, 30]


@pytest.mark.parametrize("exists", [True, False])
def test_it_waits_for_checkpoints_that_come(
  tmp_path, monkeypatch, exists, capsys
):
  path = tmp_path / "run"
  if exists:
    path.mkdir()
  run, coming, waits = FakeTrainer(path), [(10,), (), (20, 30)], []

  def sleep(seconds):
    waits.append(seconds)
    numbers = coming.pop(0)
    path.mkdir(exist_ok=True)
    save(path, *numbers)

  monkeypatch.setattr(evaluation.time, "sleep", sleep)
  evaluation.evaluate_checkpoints(run, wait=7)
  assert waits == [7, 7, 7]
  assert run.state.loaded == [10, 20, 30]
  waiting = [n for n in capsys.readouterr().out.splitlines() if "Wait" in n]
  assert waiting == [
    "Waiting for a checkpoint; the last one will be model.ckpt-30.",
    "Waiting for a checkpoint after number 10; the last one will be "
    "model.ckpt-30.",
  ]


def test_checkpoints_in_a_bucket_are_evaluated_there(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = files.path("ram://test_evaluation/run")
  path.mkdir()
  save(path, 10, 30)
  run = FakeTrainer(path)
  evaluation.evaluate_checkpoints(run)
  assert run.state.loaded == [10, 30]
  rows = (path / "evaluations" / "metrics.csv").read_text().splitlines()
  assert len(rows) == 3
  assert list(tmp_path.iterdir()) == []


def test_bucket_that_does_not_answer_ends_the_evaluation(monkeypatch):
  def fail(_):
    raise tf.errors.UnavailableError(None, None, "no\nanswer")

  for name in ("stat", "makedirs", "listdir"):
    monkeypatch.setattr(tf.io.gfile, name, fail)
  with pytest.raises(OSError, match="^`gs://b/run.*`: no answer.$"):
    evaluation.evaluate_checkpoints(FakeTrainer(files.path("gs://b/run")))


def test_checkpoints_of_no_directory_are_none(tmp_path):
  assert checkpoints.list_numbers(tmp_path / "absent") == []
  assert checkpoints.load_latest(tmp_path / "absent") is None


def test_a_restart_keeps_the_results_of_removed_checkpoints(tmp_path):
  save(tmp_path, 10, 20)
  first = FakeTrainer(tmp_path)
  first.intervals = Intervals(20, 0, unit="step")
  evaluation.evaluate_checkpoints(first)
  for file in tmp_path.glob("model.ckpt-10.*"):
    file.unlink()
  save(tmp_path, 30)
  second = FakeTrainer(tmp_path)
  second.intervals = Intervals(30, 0, unit="step")
  evaluation.evaluate_checkpoints(second)
  assert second.state.loaded == [20, 30]
  lines = (tmp_path / "evaluations" / "metrics.csv").read_text().splitlines()
  assert [line.split(",")[1] for line in lines] == ["step", "10", "20", "30"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch, caplog):
  save(tmp_path, 10, 20, 30)
  run = FakeTrainer(tmp_path)
  load = run.state.load

  def load_or_fail(prefix):
    if prefix.endswith("-20"):
      raise checkpoints.DamagedError(f"`{prefix}` is damaged.")
    load(prefix)

  monkeypatch.setattr(run.state, "load", load_or_fail)
  evaluation.evaluate_checkpoints(run)
  assert run.state.loaded == [10, 30]
  assert "-20` is damaged. It is passed over." in caplog.text
