# SPDX-License-Identifier: Apache-2.0
"""The ImageNet script from command line to files, on tiny networks."""

import csv
import json

import imagenet_files
import numpy as np
import pytest
import tensorflow as tf
from imagenet_golden import published_tensors
from script_runs import assert_same_tensors, final_tensors

from rigl.training import checkpoints
from rigl.training.trainer import Trainer

SHORT = ("--maskupdate_frequency=3", "--iterations_per_loop=100")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp("imagenet")
  imagenet_files.write_split(path, "train", [5, 4, 6])
  imagenet_files.write_split(path, "validation", [4, 3])
  return f"--data_directory={path}"


@pytest.fixture
def rigl(shell, eagerly, data):
  """Trains by RigL in a directory."""

  def train(path, *arguments):
    return shell.done(
      data,
      f"--output_dir={path}",
      "--training_method=rigl",
      "--num_train_images=15",
      *SHORT,
      *arguments,
    )

  return train


@pytest.mark.slow
def test_a_run_in_parts_ends_with_the_same_bits(rigl, tmp_path, monkeypatch):
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  options = ("--train_steps=9", "--steps_per_checkpoint=2")
  out = rigl(whole, *options)
  assert "step 9: train loss" in out and "test loss" not in out
  assert checkpoints.list_numbers(whole) == [2, 4, 6, 8, 9]

  class KilledError(Exception):
    pass

  def kill(self):
    save(self)
    if self.loop.position == 6:
      raise KilledError

  save = Trainer.save
  monkeypatch.setattr(Trainer, "save", kill)
  with pytest.raises(KilledError):
    rigl(parts, *options)
  monkeypatch.setattr(Trainer, "save", save)
  assert checkpoints.list_numbers(parts) == [2, 4, 6]
  assert "Resumed at step 6." in rigl(parts, *options)
  assert_same_tensors(whole, parts)
  assert "is finished" in rigl(parts, *options)
  tensors = final_tensors(parts)
  # 9 steps and updates at 0, 3 and 6 of 4 images; 15 an epoch.
  assert tensors["iteration"] == 12
  assert tensors["data_position"].tolist() == [3, 3]


@pytest.mark.slow
def test_training_with_evaluations_and_the_evaluation_of_its_checkpoints(
  rigl,
  shell,
  data,
  tmp_path,
):
  common = ("--train_steps=4", "--steps_per_checkpoint=2")
  common += ("--keep_checkpoint_max=2", "--log_mask_imgs_each_iteration")
  out = rigl(
    tmp_path,
    "--mode=train_and_eval",
    "--steps_per_eval=2",
    "--use_batch_statistics=false",
    *common,
  )
  assert out.count("test accuracy") == 2 and "Test accuracy:" in out
  with (tmp_path / "metrics.csv").open() as file:
    rows = list(csv.DictReader(file))
  last = rows[-1]
  for name in ("loss", "accuracy", "top_5_accuracy"):
    assert np.isfinite(float(last[name]))
    assert np.isfinite(float(last[f"test_{name}"]))
  for name in ("gradient_norm", "weight_norm", "regularization_loss"):
    assert float(last[name]) > 0
  assert float(last["learning_rate"]) == pytest.approx(0.1 * 4 / 256)
  assert float(last["sparsity"]) == pytest.approx(0.9, abs=0.01)
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["step"] == 4 and result["test_top_5_accuracy"] >= 0
  # Seven images, whatever the size of a batch.
  for size in (4, 3):
    once = shell.done(
      data,
      "--mode=eval_once",
      f"--output_dir={tmp_path}",
      "--training_method=rigl",
      f"--eval_batch_size={size}",
    )
    assert f"Accuracy: {result['test_accuracy']:.4f}" in once
  every = shell.done(
    data,
    "--mode=eval",
    f"--output_dir={tmp_path}",
    "--training_method=rigl",
    "--train_steps=4",
  )
  assert "step 2: test loss" in every and "step 4: test loss" in every


@pytest.mark.slow
def test_a_published_checkpoint_is_trained_on(shell, tmp_path):
  step, before = 500, published_tensors(500, slots=True)
  before |= {
    "global_step": np.int64(step),
    "last_mask_update_step": np.int64(400),
  }
  checkpoints.save(tmp_path, step, before)
  out = shell.done(
    "--use_synthetic_data",
    "--num_label_classes=1000",
    "--training_method=rigl",
    "--first_layer_sparsity=-1",
    "--last_layer_sparsity=0",
    "--train_steps=502",
    f"--output_dir={tmp_path}",
  )
  assert "Resumed at step 500." in out
  after = final_tensors(tmp_path)
  assert after["global_step"] == 502
  # Updates at 0, 100, ..., 500, none of which is a step.
  assert after["iteration"] == 502 + 6
  assert after["last_mask_update_step"] == 500
  # 500 steps of 1024 images, of which this is the third epoch and so on.
  assert after["data_position"].shape == (2,)
  changed = 0
  for name in after:
    if name.endswith("/mask"):
      layer = name.removesuffix("/mask")
      off = after[name] == 0
      assert not after[f"{layer}/weights"][off].any()
      assert not after[f"{layer}/weights/Momentum"][off].any()
      assert after[name].sum() == before[name].sum()
      changed += np.count_nonzero(after[name] != before[name])
  assert changed > 0


@pytest.mark.slow
def test_masks_and_parameters_of_another_run(
  shell,
  eagerly,
  tmp_path,
):
  first, second = tmp_path / "first", tmp_path / "second"
  common = ("--use_synthetic_data", "--training_method=scratch")
  shell.done(*common, f"--output_dir={first}", "--train_steps=2")
  shell.done(
    *common,
    f"--output_dir={second}",
    "--train_steps=1",
    "--seed=5",
    f"--load_mask_dir={first}",
    f"--initial_value_checkpoint={first}",
    "--base_learning_rate=0",
    "--mask_init_method=",
  )
  a, b = final_tensors(first), final_tensors(second)
  for name in a:
    if name.endswith(("/mask", "/weights", "gamma", "beta")):
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
def test_an_exported_model_predicts_from_jpegs(
  shell,
  eagerly,
  tmp_path,
):
  shell.done(
    "--use_synthetic_data",
    "--training_method=baseline",
    f"--output_dir={tmp_path}",
    "--train_steps=3",
    "--export_model_freq=2",
  )
  exports = list((tmp_path / "export").iterdir())
  assert [path.name for path in exports] == ["3"]
  loaded = tf.saved_model.load(str(exports[0]))
  jpegs = tf.constant([imagenet_files.jpeg_of(number) for number in range(3)])
  found = loaded.signatures["serving_default"](image_bytes=jpegs)
  assert found["classes"].shape == (3,)
  np.testing.assert_allclose(
    tf.reduce_sum(found["probabilities"], 1), 1.0, rtol=1e-5
  )


@pytest.mark.slow
def test_a_damaged_image_is_named_or_left_out(
  shell,
  eagerly,
  tmp_path,
):
  imagenet_files.write_split(tmp_path, "train", [6], corrupt=[4])
  arguments = (
    f"--data_directory={tmp_path}",
    "--training_method=baseline",
    "--train_steps=3",
  )
  outcome = shell(*arguments, f"--output_dir={tmp_path / 'a'}")
  assert outcome.code == 1
  assert "train-00000-of-00001, record at byte" in outcome.err
  assert "--skip_corrupt_records" in outcome.err
  shell.done(
    *arguments, f"--output_dir={tmp_path / 'b'}", "--skip_corrupt_records"
  )


@pytest.mark.parametrize(
  "arguments, named",
  [
    (["--training_method=rigl"], "data_directory"),
    (
      ["--training_method=rigl", "--data_directory=nowhere"],
      "has no ImageNet train files",
    ),
    (
      [
        "--mode=eval_once",
        "--data_directory=nowhere",
        "--eval_once_ckpt_prefix=x",
      ],
      "x` is no readable checkpoint",
    ),
    (
      ["--mode=eval", "--data_directory=nowhere"],
      "has no ImageNet validation files",
    ),
    # Without a name, TensorFlow asks the network for minutes.
    (
      ["--use_tpu", "--tpu=grpc://localhost:1"],
      "`tpu` must name a TPU that answers",
    ),
    (["--training_method=rigl", "--mask_init_method="], "mask_init_method"),
    (
      ["--use_synthetic_data", "--training_method=snip", "--load_mask_dir=x"],
      "x",
    ),
    (["--training_method=granet", "--initial_sparsity=0.95"], "0, 0.9]"),
    (["--training_method=granet", "--maskupdate_end_step=-1"], "`end_step`"),
  ],
)
def test_a_wrong_command_line_gets_one_line(
  shell,
  tmp_path,
  arguments,
  named,
):
  outcome = shell(f"--output_dir={tmp_path}", *arguments)
  assert outcome.code == 1
  assert named in outcome.err
  errors = [ln for ln in outcome.err.splitlines() if ln.startswith("error")]
  assert len(errors) == 1


@pytest.mark.parametrize("kind", ["missing", "empty", "no Example"])
def test_images_to_evaluate_on_are_looked_for_before_training(
  shell, tmp_path, kind
):
  data, out = tmp_path / "data", tmp_path / "out"
  data.mkdir()
  imagenet_files.write_split(data, "train", [4])
  if kind != "missing":
    records = [b"no example"] if kind == "no Example" else []
    imagenet_files.write(data / "validation-00000-of-00001", records)
  outcome = shell(
    f"--data_directory={data}",
    f"--output_dir={out}",
    "--mode=train_and_eval",
    "--training_method=baseline",
    *SHORT,
  )
  assert outcome.code == 1
  assert outcome.err.splitlines()[-1].startswith("error: ")
  assert "validation" in outcome.err and "Traceback" not in outcome.err
  assert not out.exists()
