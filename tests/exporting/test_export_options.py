# SPDX-License-Identifier: Apache-2.0
"""Options of `rigl.export` that do not fit, and what gin makes of a network."""

import dataclasses
import shutil

import export_models
import gin
import numpy as np
import predict_files
import pytest
import tensorflow as tf

import rigl
from rigl.exporting import compressed
from rigl.formats import compact
from rigl.predict.open_network import make_network, read_task
from rigl.predict.tasks import TASKS

IMAGES = np.zeros([3, 12, 12, 3], np.float32)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
  place = tmp_path_factory.mktemp("keras") / "small.keras"
  export_models.keras_model().save(place)
  return place


@pytest.mark.parametrize(
  "arguments, named",
  [
    ({"compression": "none"}, "`compression` is for `format` compact"),
    ({"format": "onnx", "batch_size": 2}, "`batch_size` is for .* litert and"),
    ({"format": "compact", "batch_size": 2}, "`batch_size` is for"),
    ({"format": "stablehlo", "sparse": False}, "`sparse` is for .* litert"),
    ({"overwrite": "no"}, "`overwrite` must be True or False"),
    ({"compress": 1}, "`compress` must be True or False"),
    ({"sparse": None, "format": "litert"}, "`sparse` must be True or False"),
    ({"image_size": 0}, "`image_size` must be an integer of at least 1"),
    ({"image_size": 12}, "`image_size` must not be given"),
    ({"gin_config": ["mnist/rigl.gin"]}, "`gin_config` is for networks of"),
    ({"gin_imports": True}, "`gin_imports` is for networks of the scripts"),
  ],
)
def test_options_that_have_no_effect_are_refused(
  keras_file, tmp_path, arguments, named
):
  with pytest.raises(ValueError, match=named) as caught:
    rigl.export(keras_file, tmp_path / "out", **arguments)
  assert "\n" not in str(caught.value)
  assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
  ("flags", "named"),
  [
    ({"resnet_depth": 16}, "conv_2_1_1/kernel is"),
    ({"resnet_width": 3}, "must have the shape .* got"),
  ],
)
def test_networks_that_keras_has_not_cannot_be_compressed(flags, named):
  network = TASKS["cifar10"].network({"resnet_depth": 10, "resnet_width": 2})
  other = dataclasses.replace(network, flags={**network.flags, **flags})
  expected = f"`compress` needs the network .* got another one: .*{named}"
  with pytest.raises(ValueError, match=expected) as caught:
    compressed.compress("cifar10", other, 32)
  assert "name_map" not in str(caught.value)


def test_calibration_images_fill_a_batch(keras_file, tmp_path):
  np.savez(tmp_path / "few.npz", images=IMAGES)
  with pytest.raises(ValueError, match="at least `batch_size` = 4 .*got 3"):
    rigl.export(
      keras_file,
      tmp_path / "out.tflite",
      "litert",
      dtype="int8",
      batch_size=4,
      calibration_images=tmp_path / "few.npz",
    )
  assert [path.name for path in tmp_path.iterdir()] == ["few.npz"]


def test_what_an_export_is_made_of_is_never_replaced(keras_file, tmp_path):
  place = tmp_path / "model.keras"
  shutil.copy(keras_file, place)
  content = place.read_bytes()
  with pytest.raises(ValueError, match="`output` must not be the `checkpoint`"):
    rigl.export(place, f"{tmp_path}/./model.keras", "compact", overwrite=True)
  images = tmp_path / "typical.npz"
  np.savez(images, images=IMAGES)
  with pytest.raises(ValueError, match="must not be the `calibration_images`"):
    rigl.export(
      place,
      images,
      "litert",
      dtype="int8",
      calibration_images=images,
      overwrite=True,
    )
  assert place.read_bytes() == content and np.load(images)["images"].size


def test_a_compact_file_knows_what_a_gin_file_made_of_its_network(tmp_path):
  config = tmp_path / "small.gin"
  config.write_text(
    "MnistFc.units = (20, 10)\nMnistSettings.training_method = 'rigl'\n"
  )
  prefix, model = predict_files.mnist_checkpoint(tmp_path, units=(20, 10))
  place = tmp_path / "network.rigl"
  before = gin.config_str()
  rigl.export(prefix, place, "compact", task="mnist", gin_config=[str(config)])
  assert gin.config_str() == before
  metadata = compact.CompactFile(place).metadata
  assert metadata["gin_bindings"] == ["MnistFc.units = (20, 10)"]
  config.unlink()
  task, run = read_task(str(place), None)
  opened = make_network(task, run, {})
  opened.load()
  images = predict_files.pixels()
  np.testing.assert_allclose(
    opened.network.logits(tf.constant(images)),
    model(images / np.float32(255)),
    rtol=1e-4,
    atol=1e-5,
  )
