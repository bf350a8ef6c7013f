# SPDX-License-Identifier: Apache-2.0
"""Evaluation of published checkpoints, and what is said of others."""

import dataclasses

import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.evaluate import Evaluator, evaluate_once
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.input.imagenet_data import ImagenetData
from rigl.training import checkpoints

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


def test_a_published_checkpoint_is_evaluated(folder, golden_images, capsys):
  found = evaluate_once(flags_of(folder))
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
