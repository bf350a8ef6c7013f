# SPDX-License-Identifier: Apache-2.0
import json
import math
import pathlib

import gin
import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from mnist_runs import (
  EPOCH,
  assert_same_run,
  final_tensors,
  metrics,
  records,
  without_timing,
)

from rigl.mnist import mnist_data
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer
from rigl.sparse_optimizers.registry import METHODS
from rigl.training import checkpoints
from rigl.version import __version__

LAYERS = ("layer1", "layer2", "layer3")
MASKED = [method for method in METHODS if method != "baseline"]
FAST = ("scratch", "rigl", "snip", "prune")  # One of each kind.
SHAPES = {"layer1": (784, 300), "layer2": (300, 100), "layer3": (100, 10)}
# The connections that the published code leaves at the default sparsities.
ONES = {"layer1": 4704, "layer2": 3540, "layer3": 1000}
STATE = {
  name: {
    variable.replace("LAYER", f"{layer}/weights")
    for variable in row.state
    # Only with --track_exploration and --grow_batches.
    if "explored" not in variable and "grow_gradient" not in variable
    for layer in LAYERS
  }
  for name, row in sparse_methods.METHODS.items()
}

pytestmark = pytest.mark.usefixtures("without_xla")


def contents(directory):
  """{path: bytes} of all files below a directory."""
  return {
    path: path.read_bytes() for path in directory.rglob("*") if path.is_file()
  }


def settings(path, **changes):
  values = dict(
    use_synthetic_data=True,
    learning_rate=0.1,
    num_epochs=2,
    training_method="scratch",
    save_path=str(path),
  )
  return MnistSettings(**{**values, **changes})


def expected_names(method):
  kernel, bias = ("weights", "biases")
  if method == "baseline":
    kernel, bias = ("kernel", "bias")
  names = {"global_step", "iteration"} | STATE.get(method, set())
  for name in LAYERS:
    for variable in (f"{name}/{kernel}", f"{name}/{bias}"):
      names |= {variable, f"{variable}/Momentum"}
    if method != "baseline":
      names.add(f"{name}/mask")
  return names


def test_explored_share_is_in_metrics_and_checkpoints(shell, tmp_path):
  shell.train(tmp_path, "--training_method=set", "--track_exploration")
  tensors = final_tensors(tmp_path)
  explored = {name: tensors[f"{name}/weights/explored"] for name in LAYERS}
  row = metrics(tmp_path)[-1]
  for name, ever in explored.items():
    assert ever.dtype == bool
    assert ever[tensors[f"{name}/mask"] != 0].all()
    share = float(row[f"explored/{name}"])
    assert share == pytest.approx(ever.mean(), abs=1e-5)
  assert explored["layer1"].sum() > ONES["layer1"]
  total = sum(ever.sum() for ever in explored.values()) / 266200
  assert float(row["explored"]) == pytest.approx(total, abs=1e-5)


@pytest.mark.slow
def test_flags_of_drop_and_grow_change_training(shell, tmp_path):
  window = ["--maskupdate_frequency=4", "--maskupdate_end_step=14"]
  cases = {
    "rigl": ["--training_method=rigl"],
    "soft": ["--training_method=rigl", "--soft_memory"],
    "across": ["--training_method=rigl", "--across_layers"],
    "floor": [
      "--training_method=rigl",
      "--across_layers",
      "--layer_floor=0.99",
    ],
    "mest": ["--training_method=set", "--soft_memory"],
  }
  ones, weights = {}, []
  for name, flags in cases.items():
    shell.train(tmp_path / name, *window, *flags)
    tensors = final_tensors(tmp_path / name)
    masks = [tensors[f"{layer}/mask"] for layer in LAYERS[:2]]
    ones[name] = [int(mask.sum()) for mask in masks]
    weights.append(tensors["layer1/weights"].tobytes())
  assert len(set(weights)) == len(cases)
  given = [ONES[layer] for layer in LAYERS[:2]]
  for name in ("rigl", "soft", "mest"):  # The last update drops the surplus.
    assert ones[name] == given
  for name in ("across", "floor"):
    assert sum(ones[name]) == sum(given) and ones[name] != given
  assert ones["floor"][1] >= int(0.99 * given[1])


@pytest.mark.slow
def test_a_run_that_ends_with_a_surplus_says_so_and_goes_on(
  shell, tmp_path, caplog
):
  flags = ["--training_method=set", "--soft_memory", "--across_layers"]
  for name, epochs in (("parts", 1), ("parts", 2), ("whole", 2)):
    caplog.clear()
    shell.train(tmp_path / name, *flags, f"--num_epochs={epochs}")
    tensors = final_tensors(tmp_path / name)
    masks = [tensors[f"{layer}/mask"] for layer in LAYERS[:2]]
    ones, given = sum(mask.sum() for mask in masks), 4704 + 3540
    assert 1.29 * given < ones < 1.3 * given  # It falls until step 1000.
    said = f"the network has {int(ones) - given} connections more"
    assert said in caplog.text
  assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("flag", ["--soft_memory", "--across_layers"])
@pytest.mark.parametrize("method", ["momentum", "granet", "baseline"])
def test_flags_that_a_method_does_not_take_are_refused(
  shell, tmp_path, method, flag
):
  outcome = shell(
    f"--training_method={method}", flag, f"--save_path={tmp_path / 'run'}"
  )
  assert outcome.code
  assert f"`{flag[2:]}` must be False for method '{method}'" in outcome.err
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "method",
  [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in MASKED
  ],
)
def test_method_ends_with_its_sparsity_and_all_its_files(
  shell, tmp_path, method
):
  window = ["--maskupdate_end_step=12"] if method == "granet" else []
  out = shell.train(tmp_path, f"--training_method={method}", *window)
  tensors = final_tensors(tmp_path)
  assert tensors.keys() == expected_names(method)
  connections = dict(ONES)
  if method == "granet":  # It chooses over both layers at once.
    connections["layer1"] = int(tensors["layer1/mask"].sum())
    connections["layer2"] = 4704 + 3540 - connections["layer1"]
  for name, ones in connections.items():
    mask, weights = tensors[f"{name}/mask"], tensors[f"{name}/weights"]
    assert mask.shape == weights.shape == SHAPES[name]
    assert mask.sum() == ones
    np.testing.assert_array_equal(weights, weights * mask)
    assert np.count_nonzero(weights) > 0.5 * ones
    if method not in ("dnw", "top_kast"):  # They train inactive weights too.
      slot = tensors[f"{name}/weights/Momentum"]
      np.testing.assert_array_equal(slot, slot * mask)
  rows = metrics(tmp_path)
  assert [row["iteration"] for row in rows] == ["10", "20"]
  assert [row["epoch"] for row in rows] == ["1", "2"]
  sparsity = 1 - sum(ONES.values()) / 266200
  assert float(rows[-1]["sparsity"]) == pytest.approx(sparsity, abs=1e-5)
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["sparsity"] == pytest.approx(sparsity, abs=1e-9)
  assert result["iteration"] == tensors["iteration"] == 20
  assert result["step"] == tensors["global_step"] == int(rows[-1]["step"])
  accuracy = float(rows[-1]["test_accuracy"])
  assert result["test_accuracy"] == pytest.approx(accuracy, abs=1e-5)
  assert f"Test accuracy: {accuracy:.4f}" in out
  assert f"Run directory: {tmp_path}" in out
  latest = tf.train.latest_checkpoint(tmp_path)
  assert latest == str(tmp_path / "model.ckpt-20")
  for kind in ("train", "eval"):
    assert list((tmp_path / kind).glob("events.out.tfevents.*"))
  assert not (tmp_path / "mask_records.npz").exists()


def test_baseline_is_dense_and_has_no_masks(shell, tmp_path):
  shell.train(tmp_path, "--mask_record_frequency=5")
  tensors = final_tensors(tmp_path)
  assert tensors.keys() == expected_names("baseline")
  for name, shape in SHAPES.items():
    assert np.count_nonzero(tensors[f"{name}/kernel"]) == math.prod(shape)
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["sparsity"] == 0
  assert "sparsity" not in metrics(tmp_path)[0]
  assert not (tmp_path / "mask_records.npz").exists()


@pytest.mark.parametrize(("method", "updates"), [("rigl", 4), ("snip", 1)])
def test_iterations_are_steps_and_updates_together(
  shell, tmp_path, method, updates
):
  shell.train(tmp_path, f"--training_method={method}")
  result = json.loads((tmp_path / "result.json").read_text())
  assert (result["iteration"], result["step"]) == (20, 20 - updates)


def test_synthetic_digits_are_learnt(shell, tmp_path):
  shell.train(tmp_path, "--training_method=rigl", "--num_epochs=6")
  assert float(metrics(tmp_path)[-1]["test_accuracy"]) > 0.95


def test_run_file_and_gin_configuration_tell_the_whole_run(shell, tmp_path):
  shell.train(
    tmp_path,
    "--training_method=rigl",
    "--seed=3",
    "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
  )
  record = json.loads((tmp_path / "run.json").read_text())
  assert record["version"] == __version__
  found = record["settings"]
  assert found["seed"] == 3 and found["training_method"] == "rigl"
  assert found["gin_bindings"] == ["SparseRigLOptimizer.noise_std = 0.0"]
  text = (tmp_path / "operative_config.gin").read_text()
  gin.parse_config(text)  # It is a configuration itself.
  assert gin.query_parameter("MnistSettings.maskupdate_frequency") == 4
  assert gin.query_parameter("SparseRigLOptimizer.noise_std") == 0.0
  gin.clear_config()


def test_typed_flag_wins_over_gin(shell, tmp_path):
  shell.train(
    tmp_path,
    "--training_method=scratch",
    "--gin_bindings=MnistSettings.training_method = 'set'",
    "--gin_bindings=MnistSettings.batch_size = 200",
  )
  found = json.loads((tmp_path / "run.json").read_text())["settings"]
  assert found["training_method"] == "scratch"
  assert found["batch_size"] == 200
  assert metrics(tmp_path)[-1]["iteration"] == "10"


def test_same_command_says_that_it_is_finished(shell, tmp_path):
  first = shell.train(tmp_path, "--training_method=scratch")
  before = contents(tmp_path)
  again = shell.train(tmp_path, "--training_method=scratch")
  assert f"The run in {tmp_path} is finished." in again
  assert again.splitlines()[-1] == first.splitlines()[-1]
  after = contents(tmp_path)
  assert {path: after[path] for path in before if path.name != ".lock"} == {
    path: before[path] for path in before if path.name != ".lock"
  }
  assert before.keys() == after.keys()


def test_other_settings_in_the_directory_are_refused(shell, tmp_path):
  shell.train(tmp_path, "--training_method=scratch")
  before = contents(tmp_path)
  found = shell(
    "--use_synthetic_data",
    "--training_method=scratch",
    "--learning_rate=0.3",
    f"--save_path={tmp_path}",
    "--num_epochs=7",
    "--gin_bindings=MnistFc.units = (20, 30, 10)",
  )
  assert found.code == 1
  assert found.err.count("\n") == 1
  for difference in (
    "learning_rate = 0.1 there, 0.3 now",
    "num_epochs = 2 there, 7 now",
    "gin_bindings = [] there, ['MnistFc.units = (20, 30, 10)'] now",
  ):
    assert difference in found.err
  assert contents(tmp_path) == before


def test_other_data_make_another_run(shell, tmp_path, monkeypatch):
  shell.train(tmp_path, "--training_method=scratch")
  make = mnist_data.synthetic_mnist
  monkeypatch.setattr(
    mnist_data, "synthetic_mnist", lambda seed: make(seed=seed + 1)
  )
  found = shell(
    "--use_synthetic_data", "--training_method=scratch", "--num_epochs=2"
  )
  assert found.code == 0
  found = shell(
    "--use_synthetic_data",
    "--training_method=scratch",
    "--num_epochs=2",
    f"--save_path={tmp_path}",
  )
  assert found.code == 1 and "data = " in found.err


@pytest.fixture(autouse=True)
def working_directory(tmp_path_factory, monkeypatch):
  path = tmp_path_factory.mktemp("work")
  monkeypatch.chdir(path)
  return path


def test_default_directory_is_named_by_the_settings(shell, working_directory):
  base = ("--use_synthetic_data", "--num_epochs=1")
  root = working_directory / "rigl_runs" / "mnist"

  def run(*arguments):
    before = set(root.glob("*"))
    found = shell(*base, *arguments)
    assert found.code == 0
    new = {path.name for path in set(root.glob("*")) - before}
    return new.pop() if new else found.out

  first = run("--training_method=scratch", "--end_sparsity=0.95")
  assert first.startswith("scratch_0.95_seed0_")
  assert len(first.rsplit("_", 1)[1]) == 8
  # The same run, however it is asked for.
  for same in (
    ["--end_sparsity=0.95", "--training_method=scratch", "--seed=0"],
    [
      "--training_method=scratch",
      "--gin_bindings=MnistSettings.end_sparsity = 0.95",
    ],
    [
      "--training_method=scratch",
      "--end_sparsity=0.95",
      "--checkpoint_epochs=3",
    ],
  ):
    assert "is finished." in run(*same)
  other = run(
    "--training_method=scratch", "--end_sparsity=0.95", "--lr_drop_epoch=3"
  )
  assert other.startswith("scratch_0.95_seed0_") and other != first
  # TensorFlow's readers find the checkpoint below a relative path.
  directory = pathlib.Path("rigl_runs", "mnist", first)
  latest = tf.train.latest_checkpoint(directory)
  assert latest is not None and checkpoints.load(latest)["iteration"] == 10


def test_one_seed_gives_the_same_bits_and_another_one_others(shell, tmp_path):
  arguments = ("--training_method=rigl", "--mask_record_frequency=7")
  for name, seed in (("one", 0), ("same", 0), ("other", 1)):
    shell.train(tmp_path / name, *arguments, f"--seed={seed}")
    # Random numbers of the process play no part.
    np.random.seed(3)
    tf.random.set_seed(3)
  assert_same_run(tmp_path / "one", tmp_path / "same")
  one, other = (final_tensors(tmp_path / name) for name in ("one", "other"))
  for name in LAYERS:
    assert np.any(one[f"{name}/weights"] != other[f"{name}/weights"])
  assert np.any(one["layer1/mask"] != other["layer1/mask"])


def test_checkpoint_interval_and_saving_change_no_number(shell, tmp_path):
  common = ("--training_method=scratch", "--num_epochs=5")
  shell.train(tmp_path / "one", *common, "--checkpoint_epochs=2")
  shell.train(tmp_path / "two", *common, "--checkpoint_epochs=3")
  shell.train(tmp_path / "three", *common, "--save_model=false")
  assert checkpoints.list_numbers(tmp_path / "one") == [40, 50]
  assert checkpoints.list_numbers(tmp_path / "two") == [30, 50]
  assert checkpoints.list_numbers(tmp_path / "three") == []
  assert_same_run(tmp_path / "one", tmp_path / "two")
  assert without_timing(tmp_path / "one") == without_timing(tmp_path / "three")


def test_records_are_the_masks_of_their_iterations(shell, tmp_path):
  shell.train(tmp_path, "--training_method=set", "--mask_record_frequency=1")
  found = records(tmp_path)
  assert list(found) == list(range(21))
  fresh = build_trainer(settings(tmp_path / "fresh", training_method="set"))
  tensors = final_tensors(tmp_path)
  for layer in fresh.state.optimizer.layers:
    np.testing.assert_array_equal(found[0][layer.name], layer.mask.numpy())
    np.testing.assert_array_equal(
      found[20][layer.name], tensors[f"{layer.name}/mask"]
    )
  changes = [
    sum(int(np.sum(found[i - 1][n] != found[i][n])) for n in LAYERS)
    for i in range(1, 21)
  ]
  # The gradient steps 1, 5, 9, ... are followed by an update.
  updates = [i for i, changed in enumerate(changes, 1) if changed]
  assert updates == [1, 5, 9, 13, 17]
  for epoch, row in enumerate(metrics(tmp_path)):
    total = sum(changes[epoch * EPOCH : (epoch + 1) * EPOCH]) / 266200
    assert float(row["mask_changed"]) == pytest.approx(total, rel=1e-4)


def test_records_are_made_at_their_frequency(shell, tmp_path):
  shell.train(
    tmp_path, "--training_method=scratch", "--mask_record_frequency=6"
  )
  assert list(records(tmp_path)) == [0, 6, 12, 18]


@pytest.mark.parametrize("what", ["directory", "relative", "checkpoint"])
def test_input_mask_leaves_out_pixels_without_connection(
  shell, tmp_path, what, working_directory
):
  sparse = ("--training_method=scratch", "--end_sparsity=0.998")
  shell.train(working_directory / "first", *sparse, "--sparsity_scale=0.5")
  mask = final_tensors(working_directory / "first")["layer1/mask"]
  num_pixels = int(mask.any(axis=1).sum())
  assert 100 < num_pixels < 700
  path = {
    "directory": working_directory / "first",
    "relative": "first",
    "checkpoint": working_directory / "first" / "model.ckpt-20",
  }[what]
  shell.train(
    tmp_path, "--training_method=scratch", f"--input_mask_path={path}"
  )
  tensors = final_tensors(tmp_path)
  assert tensors["layer1/weights"].shape == (num_pixels, 300)


def test_input_mask_of_a_published_checkpoint_keeps_its_pixels(shell, tmp_path):
  mask = np.zeros([784, 3], np.float32)
  pixels = [100, 200, 201, 500]
  mask[pixels, [0, 1, 2, 1]] = 1.0
  prefix = str(tmp_path / "model.ckpt")
  tf.raw_ops.SaveV2(
    prefix=prefix,
    tensor_names=["layer1/mask"],
    shape_and_slices=[""],
    tensors=[mask],
  )
  changes = dict(training_method="baseline", input_mask_path=prefix)
  run = build_trainer(settings(tmp_path / "run", **changes))
  data = mnist_data.synthetic_mnist(seed=0)
  batch = run.executor.source.batch(np.arange(5))
  np.testing.assert_array_equal(
    batch["images"], data.train_images[:5][:, pixels]
  )
  assert run.state.task.model.layers[0].kernel.shape == [4, 300]
