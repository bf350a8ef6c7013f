# SPDX-License-Identifier: Apache-2.0
"""`rigl-predict --runner=jax`: the predictions of TensorFlow."""

import numpy as np
import predict_files
import pytest

from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.training import checkpoints

pytest.importorskip("jax")

WRN = {
  "task": "cifar10",
  "resnet_depth": 10,
  "resnet_width": 1,
  "training_method": "baseline",
}
# More than one batch, and not two whole ones.
COUNT = 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def wrn_checkpoint(folder):
  model = WideResNet(10, 1, 10, seed=1, masked=False)
  tensors = {n: v.numpy() for n, v in model.named_variables.items()}
  return checkpoints.save(folder, 7, tensors)


@pytest.mark.parametrize("task", ["mnist", "cifar10"])
def test_predictions_are_those_of_tensorflow(tmp_path, task):
  if task == "mnist":
    checkpoint, _ = predict_files.mnist_checkpoint(tmp_path)
    flags, images = predict_files.MNIST, predict_files.pixels(COUNT)
  else:
    checkpoint, flags = wrn_checkpoint(tmp_path), WRN
    shape = (COUNT, 32, 32, 3)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
  place = predict_files.saved(tmp_path, images)
  found, wanted = (
    predict_files.predictions_of(
      tmp_path, checkpoint=checkpoint, images=[place], runner=runner, **flags
    )
    for runner in ("jax", "loop")
  )
  assert found["logits"].shape == (COUNT, 10)
  np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-4)
  np.testing.assert_array_equal(found["classes"], wanted["classes"])


def test_precision_of_a_flag_is_computed_in(tmp_path):
  checkpoint = wrn_checkpoint(tmp_path)
  images = np.full([2, 32, 32, 3], 7, np.uint8)
  images[:, :16] = 90
  place = predict_files.saved(tmp_path, images)
  found, wanted = (
    predict_files.predictions_of(
      tmp_path,
      checkpoint=checkpoint,
      images=[place],
      runner="jax",
      precision=precision,
      **WRN,
    )["logits"]
    for precision in ("bfloat16", "float32")
  )
  assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
