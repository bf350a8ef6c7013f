# SPDX-License-Identifier: Apache-2.0
import os
import signal

import pytest
import tensorflow as tf
from mnist_runs import SHORT, assert_same_run

from rigl.mnist.mask_recorder import MaskRecorder
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training import checkpoints
from rigl.training.reporting import Reporter
from rigl.training.run_directory import RunDirectory
from rigl.training.trainer import Trainer

COMMON = (
  "--num_epochs=4",
  "--checkpoint_epochs=1",
  "--maskupdate_frequency=7",
  "--mask_record_frequency=5",
)
SLOWER = ["momentum", "prune", "snip", "dnw", "set", "static"]
METHODS = ["rigl", "baseline"] + [
  pytest.param(method, marks=pytest.mark.slow) for method in SLOWER
]


class Killed(BaseException):
  """Ends a run as no code of ours handles it."""


def kill_at(monkeypatch, owner, name, nth, before=True):
  """Makes the nth call of a function end the run, before or after it."""
  function, calls = getattr(owner, name), []

  def wrapper(*args, **kwargs):
    calls.append(name)
    if before and len(calls) == nth:
      raise Killed
    result = function(*args, **kwargs)
    if len(calls) == nth:
      raise Killed
    return result

  monkeypatch.setattr(owner, name, wrapper)
  return calls


def train_killed(shell, monkeypatch, path, *arguments, kills):
  """Trains with one kill after the other, and then to the end."""
  for kill in kills:
    with monkeypatch.context() as patch:
      kill_at(patch, *kill)
      with pytest.raises(Killed):
        shell.train(path, *arguments)
  return shell.train(path, *arguments)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """Runs that are made once a method and compared with by several tests."""
  return tmp_path_factory.mktemp("undisturbed")


def reference(shell, undisturbed, method):
  path = undisturbed / method
  if not path.exists():
    shell.train(path, *COMMON, f"--training_method={method}")
  return path


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("method", METHODS)
def test_run_killed_several_times_ends_with_the_same_bits(
  shell, monkeypatch, tmp_path, undisturbed, method
):
  kills = [
    (Reporter, "report", 2),  # After one checkpoint.
    (Trainer, "save", 1, False),
  ]
  arguments = (*COMMON, f"--training_method={method}")
  out = train_killed(shell, monkeypatch, tmp_path, *arguments, kills=kills)
  assert "Resumed at iteration" in out
  assert_same_run(tmp_path, reference(shell, undisturbed, method))


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
  ("method", "calls"),
  [
    ("rigl", 4),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (("rigl", 1), ("rigl", 7), ("snip", 1), ("prune", 4))
    ),
  ],
)
def test_run_stopped_by_sigterm_is_saved_and_ends_with_the_same_bits(
  shell, monkeypatch, tmp_path, undisturbed, method, calls
):
  arguments = (*COMMON, f"--training_method={method}")
  with monkeypatch.context() as patch:
    advance, made = TensorFlowExecutor.advance, []

    def advance_and_stop(executor, iteration, limit):
      progress = advance(executor, iteration, limit)
      made.append(iteration + progress.iterations)
      if len(made) == calls:
        os.kill(os.getpid(), signal.SIGTERM)
      return progress

    patch.setattr(TensorFlowExecutor, "advance", advance_and_stop)
    outcome = shell(*SHORT, f"--save_path={tmp_path}", *arguments)
  assert outcome.code == 128 + signal.SIGTERM
  assert len(made) == calls  # It did not go on.
  assert f"Stopped at iteration {made[-1]} by SIGTERM." in outcome.out
  assert checkpoints.list_numbers(tmp_path)[-1] == made[-1]
  out = shell.train(tmp_path, *arguments)
  assert f"Resumed at iteration {made[-1]}." in out
  assert_same_run(tmp_path, reference(shell, undisturbed, method))


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
  ("kill", "resumed_at"),
  [
    ((Trainer, "save", 1), None),
    ((Reporter, "report", 1), None),
    ((MaskRecorder, "record", 4), 10),
    ((Reporter, "report", 3, False), 20),
    ((Trainer, "save", 3, False), 30),
    ((RunDirectory, "finish", 1), 40),
  ],
)
def test_run_killed_anywhere_goes_on_from_its_newest_checkpoint(
  shell, monkeypatch, tmp_path, undisturbed, kill, resumed_at
):
  arguments = (*COMMON, "--training_method=scratch")
  out = train_killed(shell, monkeypatch, tmp_path, *arguments, kills=[kill])
  if resumed_at is None:
    assert "Resumed" not in out
  else:
    assert f"Resumed at iteration {resumed_at}." in out
  assert_same_run(tmp_path, reference(shell, undisturbed, "scratch"))


@pytest.mark.usefixtures("without_xla")
def test_run_resumes_whether_or_not_it_goes_on_saving(
  shell, monkeypatch, tmp_path, undisturbed
):
  arguments = (*COMMON, "--training_method=scratch")
  with monkeypatch.context() as patch:
    kill_at(patch, Reporter, "report", 3)
    with pytest.raises(Killed):
      shell.train(tmp_path, *arguments)
  with monkeypatch.context() as patch:
    kill_at(patch, Reporter, "report", 2)
    with pytest.raises(Killed):
      shell.train(tmp_path, *arguments, "--save_model=false")
  assert checkpoints.list_numbers(tmp_path) == [10, 20]
  out = shell.train(tmp_path, *arguments)
  assert "Resumed at iteration 20." in out
  assert_same_run(tmp_path, reference(shell, undisturbed, "scratch"))


def damage(path):
  os.truncate(path, path.stat().st_size // 2)


@pytest.mark.usefixtures("without_xla")
def test_damaged_newest_checkpoint_costs_only_its_iterations(
  shell, tmp_path, undisturbed
):
  arguments = (*COMMON, "--training_method=scratch")
  shell.train(tmp_path, *arguments)
  (tmp_path / "result.json").unlink()
  damage(tmp_path / "model.ckpt-40.data-00000-of-00001")
  assert "Resumed at iteration 30." in shell.train(tmp_path, *arguments)
  assert_same_run(tmp_path, reference(shell, undisturbed, "scratch"))


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
  "name",
  [
    "mask_records.npz",
    "model.ckpt-*.data-00000-of-00001",
    "run.json",
  ],
)
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_run_with_damaged_files_stops_with_one_line_naming_them(
  shell, tmp_path, name, how
):
  arguments = (
    "--training_method=scratch",
    "--mask_record_frequency=5",
    f"--save_path={tmp_path}",
    *SHORT,
    "--num_epochs=1",
  )
  assert shell(*arguments).code == 0
  (tmp_path / "result.json").unlink()
  for path in tmp_path.glob(name):
    path.unlink() if how == "missing" else damage(path)
  before = {p: p.read_bytes() for p in tmp_path.glob("*.*") if p.is_file()}
  found = shell(*arguments)
  if name.startswith("model") and how == "missing":
    assert found.code == 0  # Without a checkpoint it starts over.
    return
  assert found.code == 1
  assert found.err.startswith("error: ") and found.err.count("\n") == 1
  assert str(tmp_path) in found.err
  kept = {p: p.read_bytes() for p in tmp_path.glob("*.*") if p.is_file()}
  assert kept.keys() == before.keys()
  assert all(
    kept[path] == before[path]
    for path in before
    if path.name != "operative_config.gin"
  )


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("text", ["{}", "", '{"sparsity": 0.5}'])
def test_a_damaged_result_is_made_again_from_the_last_checkpoint(
  shell, tmp_path, undisturbed, text
):
  arguments = (*COMMON, "--training_method=scratch")
  shell.train(tmp_path, *arguments)
  (tmp_path / "result.json").write_text(text)
  out = shell.train(tmp_path, *arguments)
  assert "Resumed at iteration 40." in out
  assert (tmp_path / "result.json.damaged").read_text() == text
  assert_same_run(tmp_path, reference(shell, undisturbed, "scratch"))


def check_every_kill(shell, monkeypatch, tmp_path, owner, name, steps, path):
  """Kills at each of the nth calls; returns how many calls there are."""
  arguments = (*COMMON, "--training_method=scratch")
  for nth in steps:
    directory = tmp_path / f"{name}{nth}"
    with monkeypatch.context() as patch:
      calls = kill_at(patch, owner, name, nth)
      try:
        shell.train(directory, *arguments)
      except Killed:
        pass
      else:
        return len(calls)
    # Whatever the moment, TensorFlow finds nothing or a whole checkpoint.
    latest = tf.train.latest_checkpoint(directory)
    assert latest is None or checkpoints.load(latest)
    shell.train(directory, *arguments)
    assert_same_run(directory, path)
    assert not list(directory.glob("*.tmp*"))
  return None


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
  ("owner", "name", "steps"),
  [(os, "replace", (5, 6, 7)), (tf.raw_ops, "SaveV2", (2,))],
)
def test_kill_while_a_checkpoint_is_written(
  shell, monkeypatch, tmp_path, undisturbed, owner, name, steps
):
  path = reference(shell, undisturbed, "scratch")
  check_every_kill(shell, monkeypatch, tmp_path, owner, name, steps, path)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
  ("owner", "name"), [(os, "replace"), (tf.raw_ops, "SaveV2")]
)
def test_kill_at_every_write_of_a_run(
  shell, monkeypatch, tmp_path, undisturbed, owner, name
):
  path = reference(shell, undisturbed, "scratch")
  steps = range(1, 100)
  calls = check_every_kill(
    shell, monkeypatch, tmp_path, owner, name, steps, path
  )
  # Four checkpoints, each of two files and a list of them.
  assert calls is not None and calls >= (4 if name == "SaveV2" else 12)
