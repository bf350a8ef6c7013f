# SPDX-License-Identifier: Apache-2.0
"""`compress=True`: fewer channels and neurons in a file, the same results."""

import export_models
import gin
import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import IMAGE_SIZE, NETWORKS

import rigl
from rigl.exporting import keras_source, verification
from rigl.exporting.source import open_checkpoint
from rigl.formats import saved_model
from rigl.formats.litert import flatbuffer, interpreter
from rigl.mnist.mnist_model import MnistFc
from rigl.training import checkpoints


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  """{name: (checkpoint, arguments)} of networks in which much is dead."""
  made = {}

  def source(name):
    if name not in made:
      folder = tmp_path_factory.mktemp(name)
      prefix, task, flags = export_models.checkpoint(folder, name, 0.97)
      size = {"image_size": IMAGE_SIZE} if task == "imagenet" else {}
      made[name] = prefix, {"task": task, "flags": flags, **size}
    return made[name]

  return source


@pytest.mark.parametrize(
  "name",
  [
    name
    if name in ("mnist", "mobilenet_v1")
    else pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long])
    for name in NETWORKS
  ],
)
def test_compressed_networks_of_the_tasks_have_the_same_logits(sources, name):
  prefix, arguments = sources(name)
  source = open_checkpoint(prefix, **arguments)
  small = source.compress()
  assert small.num_parameters < source.num_parameters
  expected = source.arrays.compute(**source.arrays.examples)
  found = small.arrays.compute(**source.arrays.examples)
  assert verification.compare(found, expected).is_small
  if NETWORKS[name][0] == "imagenet":  # It takes JPEG files.
    expected = source.served.compute(**source.served.examples)
    found = small.served.compute(**source.served.examples)
    np.testing.assert_allclose(
      found["probabilities"], expected["probabilities"], atol=1e-5
    )
  for key in ("task", "step", "flags"):
    assert small.metadata[key] == source.metadata[key]


def test_pixels_that_are_left_out_and_other_sizes_are_compressed(tmp_path):
  mask = np.zeros([784, 3], np.float32)
  mask[100:300, 1] = 1
  seen = checkpoints.save(tmp_path, 1, {"layer1/mask": mask})
  network = MnistFc(200, 0, units=(50, 40, 10))
  tensors = {k: v.numpy() for k, v in network.named_variables.items()}
  rng = np.random.default_rng(0)
  for name, kernel in network.kernels.items():
    tensors[f"{name}/mask"] = np.float32(rng.random(kernel.shape) < 0.05)
  source = open_checkpoint(
    checkpoints.save(tmp_path, 2, tensors),
    "mnist",
    {"training_method": "rigl", "input_mask_path": seen},
    gin_bindings=["MnistFc.units = (50, 40, 10)"],
  )
  gin.clear_config()
  small = source.compress()
  assert small.num_parameters < source.num_parameters
  examples = source.arrays.examples
  assert verification.compare(
    small.arrays.compute(**examples), source.arrays.compute(**examples)
  ).is_small


@pytest.mark.parametrize("format", ["savedmodel", "litert", "stablehlo"])
def test_compressed_files_are_verified(sources, tmp_path, format):
  prefix, arguments = sources("mnist")
  place = tmp_path / "out"
  report = rigl.export(prefix, place, format, compress=True, **arguments)
  assert report.notes[0].startswith("Compressed: 266,610 parameters became")
  source = open_checkpoint(prefix, **arguments)
  images = source.arrays.examples["images"]
  expected = source.arrays.compute(images=images)["logits"]
  if format == "savedmodel":
    found = saved_model.load(place)(images=tf.constant(images))["logits"]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert saved_model.read_metadata(place)["task"] == "mnist"
  if format == "litert":
    content = place.read_bytes()
    found = interpreter.run(content, {"images": images[:1]})["logits"]
    np.testing.assert_allclose(found, expected[:1], atol=2e-5)
    assert flatbuffer.read_metadata(content)["sparsity"] < 0.97


def test_compressed_keras_models_are_smaller(tmp_path):
  model = export_models.keras_model(0.99)
  model.save(tmp_path / "small.keras")
  whole = rigl.export(model, tmp_path / "whole", "litert", sparse=False)
  for source in (model, tmp_path / "small.keras"):
    place = tmp_path / "less"
    report = rigl.export(
      source, place, "litert", sparse=False, compress=True, overwrite=True
    )
    assert report.num_bytes < 0.9 * whole.num_bytes
    image = np.random.default_rng(0).random([1, 12, 12, 3], np.float32) * 255
    found = interpreter.run(place.read_bytes(), {"image": image})
    np.testing.assert_allclose(found["output_0"], model(image), atol=1e-4)


class _Subclassed(keras.Model):
  def __init__(self):
    super().__init__()
    self.dense = keras.layers.Dense(2)

  def call(self, x):
    return self.dense(x)


def test_what_cannot_be_compressed_is_one_line(sources, tmp_path):
  prefix, arguments = sources("mnist")
  place = tmp_path / "out"
  with pytest.raises(ValueError, match="`compress` is for formats that hold"):
    rigl.export(prefix, place, "compact", compress=True, **arguments)
  model = _Subclassed()
  model(np.zeros([1, 3], np.float32))
  with pytest.raises(ValueError, match="`(model|checkpoint)` must be a"):
    rigl.export(model, place, "litert", compress=True)
  assert [*tmp_path.iterdir()] == []


def test_a_compression_that_changes_results_is_refused(tmp_path, monkeypatch):
  model = export_models.keras_model(0.9)
  other = export_models.keras_model(0.5)
  monkeypatch.setattr(keras_source.compression, "compress", lambda _: other)
  with pytest.raises(ValueError, match="`compress` changed the results"):
    rigl.export(model, tmp_path / "out", "litert", compress=True)
  assert [*tmp_path.iterdir()] == []
