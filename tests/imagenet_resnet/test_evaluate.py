# SPDX-License-Identifier: Apache-2.0
"""Evaluation of published checkpoints, and what is said of others."""

import dataclasses
import json

import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl.formats import compact
from rigl.imagenet_resnet.evaluate import Evaluator, evaluate_once
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.training import checkpoints, warm_start

STEP = 3200000
FLAGS = ImagenetSettings(
  mode="eval_once",
  resnet_depth=18,
  width=0.25,
  training_method="rigl",
  mask_init_method="erdos_renyi_kernel",
  first_layer_sparsity=-1.0,
  last_layer_sparsity=0.0,
  use_folder_stub=False,
  eval_once_ckpt_prefix=f"model.ckpt-{STEP}",
  use_synthetic_data=True,
  eval_batch_size=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("published")
  checkpoints.save(path, STEP, imagenet_golden.published_tensors(STEP))
  return path


@pytest.fixture
def golden_images(monkeypatch):
  """The golden images, in batches of 3 of which the last is filled up."""
  images = imagenet_golden.arrays("imagenet_images")["images"]
  labels = imagenet_golden.labels()
  arrays = {
    "images": np.float32(np.concatenate([images, 0 * images[:2]])),
    "labels": np.int32([*labels, 0, 0]),
    "valid": np.float32([1, 1, 1, 1, 0, 0]),
  }
  monkeypatch.setattr(
    ImagenetData,
    "evaluation_batches",
    lambda *_: tf.data.Dataset.from_tensor_slices(arrays).batch(3),
  )


def flags_of(folder, **changes):
  return dataclasses.replace(FLAGS, output_dir=str(folder), **changes)


def test_a_published_checkpoint_is_evaluated(
  folder, golden_images, capsys, caplog
):
  found = evaluate_once(flags_of(folder))
  assert "disagree" not in caplog.text
  golden = imagenet_golden.arrays("resnet18")
  labels = imagenet_golden.labels()
  expected = np.mean(np.argmax(golden["logits"], 1) == labels)
  assert found.step == STEP
  assert found.metrics["accuracy"] == expected
  assert found.metrics["cross_entropy"] == pytest.approx(
    float(golden["cross_loss"][0]), rel=1e-5
  )
  assert found.sparsity == pytest.approx(0.9, abs=1e-3)
  printed = capsys.readouterr().out
  assert f"model.ckpt-{STEP}, step {STEP}: loss" in printed
  assert "top-5 accuracy" in printed and "Total sparsity: 0.9" in printed
  masks = imagenet_golden.network("resnet18")[1]
  for name, mask in masks.items():
    assert found.sparsities[name] == pytest.approx(1 - mask.mean())
    assert f"{name}: sparsity {1 - mask.mean():.4f}" in printed


def test_weights_off_the_masks_of_our_checkpoints_are_reported(
  tmp_path, golden_images, caplog
):
  tensors = imagenet_golden.published_tensors(STEP)
  checkpoints.save(tmp_path, STEP, {**tensors, "iteration": np.int64(STEP)})
  evaluate_once(flags_of(tmp_path))
  (name, *_) = imagenet_golden.network("resnet18")[1]
  assert f"mask and weights of '{name}' disagree" in caplog.text


def test_a_compact_file_is_evaluated_as_its_checkpoint(
  folder, golden_images, tmp_path
):
  tensors = checkpoints.load(str(folder / f"model.ckpt-{STEP}"))
  weights = warm_start.effective_weights(tensors)
  kept = {k: v for k, v in weights.items() if not k.endswith("Momentum")}
  compact.write(tmp_path / "network.rigl", kept)
  flags = flags_of(tmp_path, eval_once_ckpt_prefix="network.rigl")
  assert evaluate_once(flags) == evaluate_once(flags_of(folder))


def events_of(path):
  """{tag: [(step, value), ...]} of the TensorBoard files in a folder."""
  found = {}
  for file in path.glob("events.out.*"):
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      for value in event.summary.value:
        number = float(tf.make_ndarray(value.tensor))
        found.setdefault(value.tag, []).append((event.step, number))
  return found


def test_a_result_is_written_to_a_file_and_events(
  folder, golden_images, capsys
):
  found = evaluate_once(flags_of(folder))
  place = folder / f"eval_model.ckpt-{STEP}"
  assert f"Result: {place / 'result.json'}" in capsys.readouterr().out
  result = json.loads((place / "result.json").read_text())
  assert result["checkpoint"] == f"model.ckpt-{STEP}"
  assert result["step"] == STEP
  assert result["settings"]["eval_on_train"] is False
  assert result["sparsities"] == found.sparsities
  expected = {
    **found.metrics,
    "sparsity": found.sparsity,
    **{f"sparsity/{name}": s for name, s in found.sparsities.items()},
  }
  for name, value in found.metrics.items():
    assert result[name] == value
  before = {tag: len(values) for tag, values in events_of(place).items()}
  assert before.keys() == expected.keys()
  evaluate_once(flags_of(folder))  # Another one loses nothing.
  for tag, values in events_of(place).items():
    assert len(values) == before[tag] + 1
    assert all(step == STEP for step, _ in values)
    assert values[-1][1] == pytest.approx(expected[tag], rel=1e-5)


def test_a_result_that_cannot_be_written_is_printed(
  folder, golden_images, tmp_path, capsys, caplog
):
  # A file stands where the folder would be made.
  for path in folder.glob("model.ckpt*"):
    (tmp_path / path.name).symlink_to(path)
  (tmp_path / f"eval_model.ckpt-{STEP}").write_text("mine")
  found = evaluate_once(flags_of(tmp_path))
  printed = capsys.readouterr().out
  assert f"Accuracy: {found.metrics['accuracy']:.4f}" in printed
  assert "Result:" not in printed
  (record,) = [r for r in caplog.records if "only printed" in r.message]
  assert "\n" not in record.message
  assert (tmp_path / f"eval_model.ckpt-{STEP}").read_text() == "mine"


@pytest.mark.parametrize("data", ["", "nowhere"])
@pytest.mark.parametrize(
  "changes, named",
  [
    (dict(eval_once_ckpt_prefix="model.ckpt-7"), "model.ckpt-7"),
    (dict(width=0.5), "initial_conv/weights has the shape"),
    (dict(training_method="baseline", resnet_depth=34), "is not in the"),
    ({}, "data_directory|nowhere"),
  ],
)
def test_the_checkpoint_is_looked_at_before_the_data(
  folder, data, changes, named
):
  flags = flags_of(folder, use_synthetic_data=False, data_directory=data)
  with pytest.raises((ValueError, OSError), match=named):
    evaluate_once(dataclasses.replace(flags, **changes))


@pytest.mark.parametrize(
  "changes, named",
  [
    (
      dict(width=0.5),
      r"initial_conv/weights has the shape \(7, 7, 3, 16\) in the checkpoint",
    ),
    (
      dict(last_layer_sparsity=-1.0),
      "final_dense/weights of shape .* is not in the checkpoint",
    ),
    (dict(model_architecture="mobilenet_v1"), "is not in the model"),
    (dict(resnet_depth=34), "block_group1_2_1/weights .* is not in the"),
    (
      dict(num_label_classes=10),
      r"biases has the shape \(1000,\) .* and \(10,\) in",
    ),
    (dict(eval_once_ckpt_prefix="model.ckpt-7"), "model.ckpt-7"),
  ],
)
def test_a_checkpoint_that_does_not_fit_is_named(folder, changes, named):
  with pytest.raises(ValueError, match=named):
    evaluate_once(flags_of(folder, **changes))


def test_the_newest_checkpoint_is_taken_without_a_prefix(folder):
  flags = flags_of(folder, eval_once_ckpt_prefix="", image_size=32)
  found = evaluate_once(dataclasses.replace(flags, num_eval_images=2))
  assert found.step == STEP


def test_a_folder_without_checkpoints_is_named(tmp_path):
  flags = flags_of(tmp_path / "nowhere", eval_once_ckpt_prefix="")
  with pytest.raises(ValueError, match="nowhere.*holds no checkpoint"):
    evaluate_once(flags)


def test_statistics_of_batches_change_the_result_but_not_the_averages(
  folder, golden_images
):
  flags = flags_of(folder, use_batch_statistics=True)
  evaluator = Evaluator(flags)
  prefix = str(folder / f"model.ckpt-{STEP}")
  found = evaluator.evaluate(prefix)
  assert found.metrics["cross_entropy"] != pytest.approx(
    float(imagenet_golden.arrays("resnet18")["cross_loss"][0]), rel=1e-3
  )
  tensors, _ = imagenet_golden.network("resnet18")
  for name, variable in evaluator.model.named_variables.items():
    if "moving" in name:
      np.testing.assert_array_equal(variable.numpy(), tensors[name])
