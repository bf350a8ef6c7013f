# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from cifar_runs import SHORT, TINY, active, only_run
from script_runs import (
  assert_same_results,
  assert_same_tensors,
  final_tensors,
  metrics,
  without_timing,
)

from rigl.formats import compact
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.sparse_optimizers.registry import METHODS
from rigl.training import checkpoints, warm_start

pytestmark = pytest.mark.usefixtures("eagerly")
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
PER_CLASS = {
  f"test_{rate}/{name}"
  for rate in ("precision", "recall")
  for name in CLASSES.split()
}


@pytest.mark.slow
def test_train_and_eval_reports_saves_and_says_the_result(shell, tmp_path):
  out = shell.train(tmp_path, "--mode=train_and_eval", "--training_method=rigl")
  path = tmp_path / "rigl" / "0.9" / "0" / "1000" / "3"
  assert only_run(tmp_path) == path
  assert f"Run directory: {path}" in out
  rows = metrics(path)
  # Every 3 steps, at the checkpoints of every 4, and at the end.
  assert [int(row["step"]) for row in rows] == [3, 4, 6, 8]
  # Updates at the steps 0, 3 and 6 are iterations of their own; those at a
  # report come after it.
  assert [int(row["iteration"]) for row in rows] == [4, 6, 8, 11]
  tested = [bool(row["test_accuracy"]) for row in rows]
  assert tested == [False, True, False, True]
  assert set(rows[0]) >= PER_CLASS
  assert all(0 <= float(rows[-1][name]) <= 1 for name in PER_CLASS)
  for row in rows:
    assert float(row["accuracy"]) <= float(row["top_5_accuracy"]) <= 1
    penalty = float(row["loss"]) - float(row["cross_entropy"])
    assert penalty == pytest.approx(float(row["regularization_loss"]), rel=1e-3)
  assert checkpoints.list_numbers(path) == [4, 8]
  result = json.loads((path / "result.json").read_text())
  assert result["step"] == 8 and result["iteration"] == 11
  assert result["sparsity"] == pytest.approx(0.9, abs=1e-3)
  accuracy = float(rows[-1]["test_accuracy"])
  assert result["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
  assert out.endswith(f"Test accuracy: {result['test_accuracy']:.4f}\n")

  again = shell.train(
    tmp_path, "--mode=train_and_eval", "--training_method=rigl"
  )
  assert again.startswith(f"The run in {path} is finished.")


@pytest.mark.slow
def test_train_evaluates_at_the_end_alone_and_trains_the_same(shell, tmp_path):
  shell.train(tmp_path / "one", "--training_method=set")
  shell.train(
    tmp_path / "two", "--training_method=set", "--mode=train_and_eval"
  )
  one, two = (only_run(tmp_path / name) for name in ("one", "two"))
  assert not any("test_" in name for name in metrics(one)[0])
  assert_same_tensors(one, two)
  results = [(path / "result.json").read_text() for path in (one, two)]
  assert results[0] == results[1]
  trained = [
    {k: v for k, v in row.items() if not k.startswith("test_")}
    for row in without_timing(two)
  ]
  assert trained == without_timing(one)


@pytest.mark.slow
def test_eval_writes_what_train_and_eval_found(shell, tmp_path):
  arguments = ("--training_method=scratch", "--keep_checkpoint_max=0")
  shell.train(tmp_path, *arguments, "--mode=train_and_eval")
  path = only_run(tmp_path)
  before = {p: p.read_bytes() for p in path.iterdir() if p.is_file()}
  out = shell.train(tmp_path, *arguments, "--mode=eval")
  assert "step 4: test loss" in out and "step 8: test loss" in out
  evaluated = metrics(path / "evaluations")
  tested = [row for row in metrics(path) if row["test_accuracy"]]
  assert [row["step"] for row in evaluated] == [row["step"] for row in tested]
  for ours, theirs in zip(evaluated, tested, strict=True):
    for name in ("test_loss", "test_accuracy", *sorted(PER_CLASS)):
      assert ours[name] == theirs[name]
  after = {p: p.read_bytes() for p in path.iterdir() if p.is_file()}
  assert after == before


@pytest.mark.slow
def test_eval_of_a_compact_file_gives_the_metrics_of_its_run(shell, tmp_path):
  run, file = tmp_path / "run", tmp_path / "network.rigl"
  shell.train(run, "--training_method=rigl", "--mode=train_and_eval")
  path = only_run(run)
  tensors = checkpoints.load(str(path / "model.ckpt-8"))
  kept = [n for n in tensors if warm_start.is_parameter(n) or "/mask" in n]
  compact.write(file, {name: tensors[name] for name in kept})
  out = shell.train(
    tmp_path / "other",
    "--training_method=rigl",
    "--mode=eval",
    f"--initial_value_checkpoint={file}",
  )
  result = json.loads((path / "result.json").read_text())
  assert f"test accuracy {result['test_accuracy']:.4f}" in out
  assert "test loss" in out
  assert not (tmp_path / "other").exists()
  outcome = shell(
    *SHORT,
    f"--train_dir={tmp_path / 'other'}",
    "--training_method=rigl",
    "--mode=eval",
    "--resnet_depth=16",
    f"--initial_value_checkpoint={file}",
  )
  assert outcome.code == 1 and "does not fit" in outcome.err


def test_eval_may_start_before_the_training(shell, tmp_path):
  """Making the run needs no directory; it waits for checkpoints."""
  arguments = (*SHORT, f"--train_dir={tmp_path / 'later'}")
  run = shell.run_of(*arguments, "--mode=eval")
  assert not (tmp_path / "later").exists()
  assert run.intervals.total == 8


@pytest.mark.slow
def test_checkpoint_that_is_removed_meanwhile_is_passed_over(
  shell, tmp_path, monkeypatch
):
  shell.train(tmp_path)
  path = only_run(tmp_path)
  load = checkpoints.load

  def removed_meanwhile(prefix):
    if prefix.endswith("-4"):
      (path / "model.ckpt-4.index").unlink()
      (path / "model.ckpt-4.data-00000-of-00001").unlink()
    return load(prefix)

  monkeypatch.setattr(checkpoints, "load", removed_meanwhile)
  out = shell.train(tmp_path, "--mode=eval")
  assert "step 4" not in out and "step 8: test loss" in out


def test_baseline_has_the_published_directory_of_zeros(shell, tmp_path):
  run = shell.run_of(
    *SHORT, f"--train_dir={tmp_path}", "--per_class_metrics=false"
  )
  path = tmp_path / "baseline" / "0.0" / "0.0" / "0.0" / "0.0"
  assert run.directory.path == path
  assert run.state.task.eval_metric_names == ("loss", "accuracy")
  assert run.state.optimizer.layers == ()


def test_directory_is_named_by_the_settings_if_none_is_given(
  shell, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  run = shell.run_of(*SHORT, "--training_method=rigl", "--seed=3")
  (found,) = (tmp_path / "rigl_runs" / "cifar10").iterdir()
  assert found.name.startswith("wrn_10_1_rigl_0.9_seed3_")
  assert run.directory.path.name == found.name


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_comes_to_its_sparsity(shell, tmp_path, method):
  shell.train(
    tmp_path,
    f"--training_method={method}",
    "--mode=train_and_eval",
    "--max_steps=30",
    "--sparsity_end_step=20",
    *(["--maskupdate_end_step=20"] if method == "granet" else []),
    "--checkpoint_steps=30",
    "--summaries_steps=10",
    "--end_sparsity=0.5",
  )
  path = only_run(tmp_path)
  losses = [float(row["loss"]) for row in metrics(path)]
  assert losses[-1] < losses[0] - 0.1
  result = json.loads((path / "result.json").read_text())
  expected = 0.0 if method == "baseline" else 0.5
  assert result["sparsity"] == pytest.approx(expected, abs=1e-3)
  tensors = final_tensors(path)
  for layer, mask in active(tensors).items():
    assert not np.any(tensors[f"{layer}/weights"][~mask])


WINDOWS = (
  "--maskupdate_begin_step=10",
  "--maskupdate_end_step=60",
  "--maskupdate_frequency=7",
  "--sparsity_begin_step=21",
  "--sparsity_end_step=81",
  "--pruning_frequency=9",
)


@pytest.mark.parametrize("multiplier", [0.5, 2.0])
@pytest.mark.parametrize("method", ["rigl", "set", "prune"])
def test_multiplier_stretches_steps_updates_and_learning_rate(
  shell, tmp_path, method, multiplier
):
  run = shell.run_of(
    *TINY,
    *WINDOWS,
    f"--train_dir={tmp_path}",
    f"--training_method={method}",
    "--max_steps=100",
    f"--training_steps_multiplier={multiplier}",
  )
  assert run.intervals.total == 100 * multiplier
  schedule = run.state.optimizer.schedule
  begin, end, every = (21, 81, 9) if method == "prune" else (10, 60, 7)
  found = (schedule.begin_step, schedule.end_step, schedule.frequency)
  assert found == (int(begin * multiplier), int(end * multiplier), every)
  drop = int(30000 * multiplier)
  assert float(run.state.learning_rate.at(drop)) == pytest.approx(0.1)
  assert float(run.state.learning_rate.at(drop + 1)) == pytest.approx(0.02)


@pytest.mark.parametrize(
  "method, multiplier, place",
  [
    ("rigl", 1.0, "rigl/0.8/10/60/7"),
    ("momentum", 2.0, "momentum/0.8/20/120/7"),
    ("static", 0.5, "static/0.8/5/30/7"),
    ("top_kast", 2.0, "top_kast/0.8/20/120/7"),
    ("prune", 1.0, "prune/0.8/21/81/9"),
    ("prune", 0.5, "prune/0.8/10/40/9"),
    ("snip", 1.0, "snip/0.0/0.0/0.0/0.0"),
    ("scratch", 2.0, "scratch/0.0/0.0/0.0/0.0"),
    ("dnw", 1.0, "dnw/0.0/0.0/0.0/0.0"),
  ],
)
def test_directory_has_the_published_name(
  shell, tmp_path, method, multiplier, place
):
  run = shell.run_of(
    *TINY,
    *WINDOWS,
    f"--train_dir={tmp_path}",
    f"--training_method={method}",
    "--end_sparsity=0.8",
    f"--training_steps_multiplier={multiplier}",
  )
  assert run.directory.path == tmp_path / place


def test_another_sparsity_in_a_directory_of_zeros_is_refused(shell, tmp_path):
  arguments = (*TINY, f"--train_dir={tmp_path}", "--training_method=snip")
  shell.run_of(*arguments, "--end_sparsity=0.8").directory.start()
  refused = shell(*arguments, "--end_sparsity=0.9")
  assert refused.code == 1 and refused.err.count("\n") == 1
  assert "end_sparsity" in refused.err


def test_flag_without_effect_is_said_to_have_none(shell, tmp_path, caplog):
  shell.run_of(*SHORT, f"--train_dir={tmp_path}", "--master=local")
  assert "--master has no effect" in caplog.text


# --- Resuming -----------------------------------------------------------------


class Killed(BaseException):
  """Ends a run as no code of ours handles it."""


def kill_after(monkeypatch, nth):
  """Ends the run after the nth time that gradient steps were made."""
  advance, calls = TensorFlowExecutor.advance, []

  def wrapper(executor, iteration, limit):
    progress = advance(executor, iteration, limit)
    if progress.steps:
      calls.append(iteration)
    if len(calls) == nth:
      raise Killed
    return progress

  monkeypatch.setattr(TensorFlowExecutor, "advance", wrapper)


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bits_and_metrics(
  shell, monkeypatch, tmp_path
):
  """The host chooses the connections; tests/mnist kills the fused program."""
  arguments = ("--training_method=rigl", "--mode=train_and_eval")
  shell.train(tmp_path / "whole", *arguments)
  with monkeypatch.context() as patch:
    kill_after(patch, 4)  # After the step past the checkpoint at step 4.
    with pytest.raises(Killed):
      shell.train(tmp_path / "killed", *arguments)
  out = shell.train(tmp_path / "killed", *arguments)
  assert "Resumed at step 4." in out
  assert_same_results(*(only_run(tmp_path / n) for n in ("killed", "whole")))


@pytest.mark.slow
def test_run_that_is_finished_but_for_its_result_is_evaluated(shell, tmp_path):
  shell.train(tmp_path)
  path = only_run(tmp_path)
  result = (path / "result.json").read_text()
  (path / "result.json").unlink()
  assert "Resumed at step 8." in shell.train(tmp_path)
  assert (path / "result.json").read_text() == result
