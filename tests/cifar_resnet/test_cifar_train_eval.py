# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from cifar_runs import SHORT, TINY, only_run
from script_runs import (
  assert_same_results,
  assert_same_tensors,
  final_tensors,
  metrics,
  without_timing,
)

from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.sparse_optimizers.registry import METHODS
from rigl.training import checkpoints

pytestmark = pytest.mark.usefixtures("eagerly")
PER_CLASS = {
  f"test_{r}/{k}" for r in ("precision", "recall") for k in range(10)
}


def active(tensors):
  """{layer: mask} of a checkpoint."""
  return {
    name.removesuffix("/mask"): values != 0
    for name, values in tensors.items()
    if name.endswith("/mask")
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


# --- Starting with what another run has ---------------------------------------


@pytest.fixture
def other(shell, tmp_path):
  """The directory of a run with a checkpoint."""
  place = f"--train_dir={tmp_path / 'other'}"
  run = shell.run_of(*SHORT, place, "--training_method=set", "--seed=7")
  run.state.global_step.assign(2)
  for variable in run.state.variables.values():  # Batch normalisation, too.
    zeros = variable.numpy() == 0 if variable.shape.rank > 1 else False
    variable.assign(np.where(zeros, 0, variable.numpy() + 0.01))
  run.state.save(run.directory.path, 2)
  return run.directory.path


@pytest.mark.parametrize("as_prefix", [False, True])
def test_masks_and_parameters_of_another_run_are_taken(
  shell, tmp_path, other, as_prefix
):
  place = other / "model.ckpt-2" if as_prefix else other
  theirs = final_tensors(other)
  run = shell.run_of(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    "--training_method=rigl",
    f"--load_mask_dir={place}",
    f"--initial_value_checkpoint={place}",
  )
  assert len(run.state.optimizer.layers) == 9
  for layer in run.state.optimizer.layers:
    expected = theirs[f"{layer.name}/mask"] != 0
    np.testing.assert_array_equal(layer.mask.numpy(), expected)
  for name, variable in run.state.variables.items():
    np.testing.assert_array_equal(variable.numpy(), theirs[name], err_msg=name)
  assert int(run.state.global_step.numpy()) == 0
  assert not np.any(
    [
      v.numpy().any()
      for n, v in run.state.optimizer.state().items()
      if "Mom" in n
    ]
  )


@pytest.fixture
def initial(other, tmp_path):
  """A published checkpoint of step 0: its weights are nowhere zero."""
  tensors, place = final_tensors(other), tmp_path / "initial"
  place.mkdir()
  generator = np.random.default_rng(0)
  for layer in active(tensors):
    shape = tensors[f"{layer}/weights"].shape
    raw = generator.uniform(0.5, 1.5, shape).astype(np.float32)
    tensors[f"{layer}/weights"] = raw
    tensors[f"{layer}/mask"] = np.ones(shape, np.float32)
    tensors[f"{layer}/mask"][0] = 0
  checkpoints.save(place, 0, tensors)
  return place


@pytest.mark.parametrize("method", ["scratch", "rigl"])
def test_lottery_ticket_has_final_masks_and_initial_weights(
  shell, tmp_path, other, initial, method
):
  run = shell.run_of(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    f"--training_method={method}",
    f"--load_mask_dir={other}",
    f"--initial_value_checkpoint={initial}",
  )
  masks, raw = active(final_tensors(other)), final_tensors(initial)
  assert masks
  for layer, mask in masks.items():
    expected = np.where(mask, raw[f"{layer}/weights"], 0)
    found = run.state.variables[f"{layer}/weights"].numpy()
    np.testing.assert_array_equal(found, expected)
    assert np.any(found[mask & (raw[f"{layer}/mask"] == 0)])


@pytest.mark.parametrize("method", ["prune", "snip"])
def test_method_that_starts_dense_takes_all_raw_weights(
  shell, tmp_path, initial, method
):
  run = shell.run_of(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    f"--training_method={method}",
    f"--initial_value_checkpoint={initial}",
  )
  raw = final_tensors(initial)
  for layer in active(raw):
    found = run.state.variables[f"{layer}/weights"].numpy()
    np.testing.assert_array_equal(found, raw[f"{layer}/weights"])


def test_parameters_that_the_checkpoint_lacks_are_said_in_one_line(
  shell, tmp_path, initial, caplog
):
  # A dense network has other names where the others have masks.
  run = shell.run_of(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    f"--initial_value_checkpoint={initial}",
  )
  (line,) = [r.message for r in caplog.records if "lacks" in r.message]
  assert "lacks 10 of 39 parameters, which keep their initial values" in line
  raw, own = final_tensors(initial), run.state.variables
  taken = [n for n in own if n in raw and n.endswith(("gamma", "beta"))]
  for name in taken:
    np.testing.assert_array_equal(own[name].numpy(), raw[name])
  assert taken


def test_masks_alone_leave_the_initial_weights(shell, tmp_path, other):
  flags = (*SHORT, "--training_method=scratch")
  run, plain = (
    shell.run_of(*flags, f"--train_dir={tmp_path / name}", *more)
    for name, more in (("a", [f"--load_mask_dir={other}"]), ("b", []))
  )
  masks = active(final_tensors(other))
  dense = {la.name: la for la in plain.state.optimizer.layers}
  for layer in run.state.optimizer.layers:
    both = masks[layer.name] & dense[layer.name].mask.numpy()
    assert both.any()
    np.testing.assert_array_equal(
      layer.kernel.numpy()[both], dense[layer.name].kernel.numpy()[both]
    )


@pytest.mark.parametrize("method", ["snip", "prune", "dnw"])
def test_method_that_starts_dense_takes_no_masks(
  shell, tmp_path, other, method
):
  found = shell(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    f"--training_method={method}",
    f"--load_mask_dir={other}",
  )
  assert found.code == 1 and found.err.count("\n") == 1
  assert "`load_mask_dir`" in found.err and method in found.err


@pytest.mark.parametrize(
  ("flag", "named"),
  [
    ("--load_mask_dir", "has no masks of resnet_model/skip_conv_2"),
    ("--initial_value_checkpoint", "does not fit: resnet_model/"),
  ],
)
def test_checkpoint_of_another_width_is_refused(
  shell, tmp_path, other, flag, named
):
  found = shell(
    *SHORT,
    f"--train_dir={tmp_path / 'new'}",
    "--training_method=rigl",
    "--resnet_width=2",
    f"{flag}={other}",
  )
  assert found.code == 1 and found.err.count("\n") == 1
  assert named in found.err


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
