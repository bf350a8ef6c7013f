# SPDX-License-Identifier: Apache-2.0
"""Runs on CIFAR-10 that start with masks or parameters of another run."""

import numpy as np
import pytest
from cifar_runs import SHORT, active
from script_runs import final_tensors

from rigl.training import checkpoints

pytestmark = pytest.mark.usefixtures("eagerly")


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


@pytest.mark.parametrize("method", ["snip", "prune", "dnw", "top_kast"])
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
