# SPDX-License-Identifier: Apache-2.0
"""Every format of every network, read in a process without this package."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import export_models
import numpy as np
import pytest
import tensorflow as tf
from export_models import IMAGE_SIZE, NETWORKS

import rigl
from rigl.exporting import keras_source
from rigl.exporting.source import open_checkpoint
from rigl.formats import compact, saved_model
from rigl.formats.litert import flatbuffer
from rigl.predict.open_network import make_network, read_task

# It refuses to import `rigl`, so it is not imported here.
READER = pathlib.Path(export_models.__file__).with_name("read_exports.py")
KERAS = "keras"
FORMATS = ("savedmodel", "litert", "stablehlo", "onnx", "compact")
# The others show the same of other networks, at a minute in all.
_CHEAP, _SLOW = ("mnist", KERAS), ("vgg",)


def has_onnx():
  names = ("tf2onnx", "onnxruntime")
  return all(importlib.util.find_spec(name) for name in names)


def marked(name):
  if name in _CHEAP:
    return name
  marks = [pytest.mark.slow]
  if name not in _SLOW:
    marks.append(pytest.mark.long)
  return pytest.param(name, marks=marks)


def opened(folder, name):
  """What `export` takes, its source, and TensorFlow's logits of images."""
  if name == KERAS:
    model = export_models.keras_model()
    source = keras_source.open_model(model)
    return model, {}, source, lambda images: np.asarray(model(images))
  prefix, task, flags = export_models.checkpoint(folder, name)
  arguments = {"task": task, "flags": flags}
  if task == "imagenet":
    arguments["image_size"] = IMAGE_SIZE
  network = make_network(*read_task(prefix, task), flags)
  network.load()
  return (
    prefix,
    arguments,
    open_checkpoint(prefix, **arguments),
    lambda images: network.network.logits(tf.constant(images)).numpy(),
  )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """{network: (folder, its source, its logits, reports)}, when it is used."""
  made = {}

  def export(name):
    if name in made:
      return made[name]
    folder = tmp_path_factory.mktemp(name)
    checkpoint, arguments, source, logits = opened(folder, name)
    reports = {}
    for format_name in FORMATS:
      if format_name == "onnx" and not has_onnx():
        continue
      signature = (
        source.served if format_name == "savedmodel" else source.arrays
      )
      np.savez(folder / f"inputs_{format_name}.npz", **signature.examples)
      options = {"batch_size": 4} if format_name == "stablehlo" else {}
      reports[format_name] = rigl.export(
        checkpoint, folder / format_name, format_name, **arguments, **options
      )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
      [sys.executable, str(READER), str(folder)],
      check=True,
      cwd=folder,
      env=environment,
    )
    made[name] = folder, source, logits, reports
    return made[name]

  return export


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("name", [marked(name) for name in (KERAS, *NETWORKS)])
def test_exports_compute_the_same_without_this_package(
  exported, name, format_name
):
  folder, source, logits, reports = exported(name)
  if format_name not in reports:
    pytest.skip("The extra `onnx` is not installed.")
  assert reports[format_name].difference.is_small
  (images,) = source.arrays.examples.values()
  expected = {"output_0" if name == KERAS else "logits": logits(images)}
  if format_name == "compact":
    if name == KERAS:
      other = export_models.keras_model(0.5)
      rigl.keras.load_compact(other, folder / "compact")
      found = {"output_0": np.asarray(other(images))}
    else:
      network = make_network(*read_task(str(folder / "compact"), None), {})
      network.load()
      found = {"logits": network.network.logits(tf.constant(images)).numpy()}
    np.testing.assert_array_equal(*found.values(), *expected.values())
    return
  if format_name == "savedmodel" and NETWORKS.get(name, ("",))[0] == "imagenet":
    expected = source.served.compute(**source.served.examples)
  with np.load(folder / f"outputs_{format_name}.npz") as found:
    for key, value in expected.items():
      scale = max(1.0, np.abs(value).max())
      np.testing.assert_allclose(
        found[key], value, rtol=0, atol=2e-5 * scale, err_msg=key
      )
    if "probabilities" in found.files:
      np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", _CHEAP)
def test_every_format_says_what_it_holds(exported, name):
  folder, source, _, _ = exported(name)
  manifest = json.loads((folder / "stablehlo" / "rigl.json").read_text())
  for metadata in (
    saved_model.read_metadata(folder / "savedmodel"),
    flatbuffer.read_metadata((folder / "litert").read_bytes()),
    compact.CompactFile(folder / "compact").metadata,
    manifest,
  ):
    assert metadata.items() >= source.metadata.items()
    assert metadata["rigl"] == rigl.__version__
  (image,) = source.arrays.inputs.items()
  assert manifest["inputs"] == [
    {
      "name": image[0],
      "shape": [4, *image[1].shape[1:]],
      "dtype": image[1].dtype.name,
    }
  ]
