# SPDX-License-Identifier: Apache-2.0
"""`rigl.export`: every format of every network, verified and read again."""

import json
import os
import pathlib
import shutil
import sys

import export_models
import keras
import numpy as np
import predict_files
import pytest
import tensorflow as tf
from export_models import IMAGE_SIZE, NETWORKS

import rigl
from rigl.exporting import stablehlo, verification
from rigl.formats import compact, saved_model
from rigl.formats.litert import flatbuffer, interpreter
from rigl.predict.open_network import make_network, read_task
from rigl.sparse.keras import SparseDense
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  """{name: (checkpoint, arguments of `export`)}, made when they are used."""
  made = {}

  def source(name):
    if name not in made:
      folder = tmp_path_factory.mktemp(name)
      prefix, task, flags = export_models.checkpoint(folder, name)
      arguments = {"task": task, "flags": flags}
      if task == "imagenet":
        arguments["image_size"] = IMAGE_SIZE
      made[name] = prefix, arguments
    return made[name]

  return source


def logits_of(prefix, arguments, images):
  """What TensorFlow computes with weights times masks, without exporting."""
  name, run = read_task(prefix, arguments["task"])
  opened = make_network(name, run, arguments["flags"])
  opened.load()
  return opened.network.logits(tf.constant(images)).numpy()


def images_for(name, count=2):
  task = NETWORKS[name][0]
  shape = {"mnist": [784], "cifar10": [32, 32, 3]}
  rng = np.random.default_rng(8)
  size = [count, *shape.get(task, [IMAGE_SIZE, IMAGE_SIZE, 3])]
  return rng.integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize(
  "name",
  [
    name
    if name in ("mnist", "resnet")
    else pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long])
    for name in NETWORKS
  ],
)
def test_compact_files_predict_bit_by_bit(sources, tmp_path, name):
  prefix, arguments = sources(name)
  place = tmp_path / "network.rigl"
  report = rigl.export(prefix, place, "compact", **arguments)
  assert report.difference.largest == 0
  assert report.num_bytes == place.stat().st_size
  images = images_for(name)
  task, run = read_task(str(place), None)
  opened = make_network(task, run, {})  # All flags are in the file.
  opened.load()
  np.testing.assert_array_equal(
    opened.network.logits(tf.constant(images)).numpy(),
    logits_of(prefix, arguments, images),
  )
  tensors = compact.CompactFile(place).tensors()
  assert not any(key.endswith("Momentum") for key in tensors)
  old = checkpoints.load(prefix)
  for key in tensors:
    if key.endswith("/mask"):
      np.testing.assert_array_equal(tensors[key], old[key])


def test_the_pixels_that_a_network_sees_are_in_its_compact_file(tmp_path):
  mask = np.zeros([784, 3], np.float32)
  mask[100:300, 1] = 1
  (tmp_path / "first").mkdir()
  (tmp_path / "second").mkdir()
  first = checkpoints.save(tmp_path / "first", 1, {"layer1/mask": mask})
  prefix, model = predict_files.mnist_checkpoint(
    tmp_path / "second", inputs=200
  )
  flags = {"training_method": "rigl", "input_mask_path": first}
  place = tmp_path / "network.rigl"
  rigl.export(prefix, place, "compact", task="mnist", flags=flags)
  shutil.rmtree(tmp_path / "first")
  task, run = read_task(str(place), None)
  opened = make_network(task, run, {})
  opened.load()
  images = images_for("mnist")
  expected = model(images[:, 100:300] / np.float32(255))
  found = opened.network.logits(tf.constant(images))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
  model = export_models.keras_model()
  place = tmp_path_factory.mktemp("keras") / "small.keras"
  model.save(place)
  return place, model


@pytest.mark.parametrize("format", ["savedmodel", "litert", "stablehlo"])
def test_keras_files_are_exported(keras_file, tmp_path, format):
  place, model = keras_file
  output = tmp_path / "out"
  report = rigl.export(place, output, format)
  assert report.difference.is_small
  image = np.random.default_rng(0).random([1, 12, 12, 3], np.float32) * 255
  if format == "savedmodel":
    found = saved_model.load(output)(image=tf.constant(image))
  elif format == "litert":
    found = interpreter.run(output.read_bytes(), {"image": image})
  else:
    found = stablehlo.load(output)(image=image)
  np.testing.assert_allclose(
    np.asarray(found["output_0"]), model(image), rtol=1e-4, atol=2e-5
  )


def test_functions_of_python_do_not_go_into_a_saved_model(tmp_path):
  """It would work in this process, and in no other one."""
  model = keras.Sequential([keras.Input([6]), SparseDense(4, sparsity=0.5)])
  with pytest.raises(ValueError, match="functions of Python.*to_dense"):
    rigl.export(model, tmp_path / "out", "savedmodel")
  assert not (tmp_path / "out").exists()
  dense = rigl.sparse.to_dense(model)
  assert rigl.export(dense, tmp_path / "out", "savedmodel").difference.is_small


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_keras_models_go_into_compact_files(keras_file, tmp_path, dtype):
  _, model = keras_file
  output = tmp_path / "small.rigl"
  rigl.export(model, output, "compact", dtype=dtype)
  fresh = keras.models.clone_model(model)
  rigl.keras.load_compact(fresh, output)
  for old, new in zip(model.weights, fresh.weights, strict=True):
    tolerance = 1e-3 if dtype == "float16" else 0
    np.testing.assert_allclose(old, new, rtol=tolerance, atol=tolerance / 99)
    zeros = np.asarray(old) == 0
    np.testing.assert_array_equal(np.asarray(new)[zeros], 0)


def test_a_compact_file_of_another_network_changes_nothing(
  keras_file, tmp_path
):
  _, model = keras_file
  output = tmp_path / "small.rigl"
  rigl.export(model, output, "compact")
  other = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
  before = [np.array(value) for value in other.get_weights()]
  with pytest.raises(ValueError, match="does not fit") as caught:
    rigl.keras.load_compact(other, output)
  assert "\n" not in str(caught.value)
  for old, new in zip(before, other.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)


def multiple():
  """Two inputs, two named results."""
  a, b = keras.Input([4], name="a"), keras.Input([3], name="b")
  x = keras.layers.Concatenate()([a, b])
  return keras.Model(
    {"a": a, "b": b},
    {"y": keras.layers.Dense(2)(x), "z": keras.layers.Dense(5)(a)},
  )


def embedding():
  """Integers in, a mean of vectors out."""
  tokens = keras.Input([7], dtype="int32", name="tokens")
  x = keras.layers.Embedding(30, 8)(tokens)
  x = keras.layers.GlobalAveragePooling1D()(x)
  return keras.Model(tokens, keras.layers.Dense(3)(x))


def open_size():
  """Images of any size."""
  image = keras.Input([None, None, 3], name="image")
  x = keras.layers.Conv2D(4, 3)(image)
  return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


class Subclassed(keras.Model):
  """Its input is known by its first call alone."""

  def __init__(self):
    super().__init__()
    self.last = keras.layers.Dense(3)

  def call(self, x):
    return self.last(x)


def called():
  model = Subclassed()
  model(np.ones([2, 5, 4], "float32"))
  return model


@pytest.mark.parametrize("make", [multiple, embedding, open_size, called])
@pytest.mark.parametrize("format", ["savedmodel", "litert", "compact"])
def test_other_keras_models_are_exported(tmp_path, make, format):
  size = 16 if make is open_size else None
  report = rigl.export(make(), tmp_path / "out", format, image_size=size)
  assert report.difference.is_small


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_smaller_types_stay_near(keras_file, tmp_path, dtype):
  place, _ = keras_file
  output = tmp_path / "out.tflite"
  report = rigl.export(place, output, "litert", dtype=dtype)
  assert 0 < report.difference.largest <= report.difference.tolerance


def test_int8_activations_follow_typical_images(tmp_path):
  model = export_models.keras_model()
  images = np.random.default_rng(0).random([20, 12, 12, 3], np.float32) * 255
  np.savez(tmp_path / "typical.npz", images=images)
  report = rigl.export(
    model,
    tmp_path / "out.tflite",
    "litert",
    dtype="int8",
    calibration_images=tmp_path / "typical.npz",
  )
  assert report.difference.is_small
  model = flatbuffer.read((tmp_path / "out.tflite").read_bytes())
  kinds = {n.kind for n in flatbuffer.operations(model, model.subgraphs[0])}
  assert "QUANTIZE" in kinds


def test_the_accuracy_of_a_run_is_in_the_metadata(sources, tmp_path):
  prefix, arguments = sources("mnist")
  result = pathlib.Path(prefix).parent / "result.json"
  result.write_text(json.dumps({"step": 5, "test_accuracy": 0.97}))
  rigl.export(prefix, tmp_path / "a.rigl", "compact", **arguments)
  result.write_text(json.dumps({"step": 6, "test_accuracy": 0.97}))
  rigl.export(prefix, tmp_path / "b.rigl", "compact", **arguments)
  result.unlink()
  first, second = (
    compact.CompactFile(tmp_path / name).metadata
    for name in ("a.rigl", "b.rigl")
  )
  assert first["accuracy"] == 0.97 and "accuracy" not in second
  assert first["rigl"] == rigl.__version__
  assert first["sparsities"]["layer1/weights"] == pytest.approx(0.9, abs=0.01)


def test_onnx_files_compute_the_same(keras_file, sources, tmp_path):
  runtime = pytest.importorskip("onnxruntime")
  pytest.importorskip("tf2onnx")
  place, model = keras_file
  assert rigl.export(place, tmp_path / "a.onnx", "onnx").difference.is_small
  image = np.random.default_rng(0).random([3, 12, 12, 3], np.float32) * 255
  session = runtime.InferenceSession(tmp_path / "a.onnx")
  (found,) = session.run(["output_0"], {"image": image})
  np.testing.assert_allclose(found, model(image), rtol=1e-4, atol=2e-5)
  for name in ("mnist", "cifar10", "mobilenet_v1"):
    prefix, arguments = sources(name)
    report = rigl.export(prefix, tmp_path / name, "onnx", **arguments)
    assert report.difference.is_small


@pytest.mark.parametrize("module", ["tf2onnx", "onnxruntime"])
def test_a_missing_extra_is_named(keras_file, tmp_path, monkeypatch, module):
  for name in ("tf2onnx", "onnxruntime"):
    monkeypatch.setitem(sys.modules, name, None if name == module else sys)
  with pytest.raises(ValueError, match=f"needs {module}.*rigl.onnx") as caught:
    rigl.export(keras_file[0], tmp_path / "out", "onnx")
  assert "\n" not in str(caught.value)


# --- What must not happen -----------------------------------------------------


def test_a_wrong_file_is_removed(keras_file, tmp_path, monkeypatch):
  place, _ = keras_file
  monkeypatch.setattr(
    verification,
    "compare",
    lambda *_: verification.Difference(1.0, 1e-5, 0.1),
  )
  for format in ("savedmodel", "litert", "compact", "stablehlo"):
    with pytest.raises(ValueError, match="was removed"):
      rigl.export(place, tmp_path / "out", format)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("format", ["savedmodel", "litert", "compact"])
def test_existing_exports_stay(keras_file, tmp_path, format):
  place, _ = keras_file
  output = tmp_path / "out"
  output.write_text("mine")
  with pytest.raises(ValueError, match="exists"):
    rigl.export(place, output, format)
  assert output.read_text() == "mine"


def test_directories_of_other_files_are_never_replaced(keras_file, tmp_path):
  place, _ = keras_file
  (tmp_path / "mine.txt").write_text("mine")
  for format in ("savedmodel", "stablehlo", "compact"):
    with pytest.raises(ValueError, match="`output`"):
      rigl.export(place, tmp_path, format, overwrite=True)
  assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("format", ["savedmodel", "compact"])
def test_an_export_is_replaced_if_asked(keras_file, tmp_path, format):
  place, _ = keras_file
  output = tmp_path / "out"
  rigl.export(place, output, format)
  rigl.export(place, output, format, overwrite=True)
  assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
  "arguments, named",
  [
    ({"format": "coreml"}, "`format`"),
    ({"dtype": "int4"}, "`dtype`"),
    ({"format": "savedmodel", "dtype": "float16"}, "`dtype`"),
    ({"format": "compact", "dtype": "int8"}, "`dtype`"),
    ({"batch_size": 0}, "`batch_size`"),
    ({"task": "mnist"}, "`task` is for networks of the scripts"),
    ({"flags": {"width": 2.0}}, "`flags` is for networks of the scripts"),
    ({"compression": "lzma"}, "`compression`"),
    ({"calibration_images": "x.npz"}, "`calibration_images`"),
    (
      {"format": "litert", "dtype": "int8", "calibration_images": "none.npz"},
      "`calibration_images`",
    ),
  ],
)
def test_wrong_arguments_are_named(keras_file, tmp_path, arguments, named):
  with pytest.raises(ValueError, match=named) as caught:
    rigl.export(keras_file[0], tmp_path / "out", **arguments)
  assert "\n" not in str(caught.value)
  assert [*tmp_path.iterdir()] == []


def unknown_operation():
  """LiteRT has no such operation."""
  image = keras.Input([8, 8], name="image")
  return keras.Model(image, keras.ops.det(image)[:, None])


@pytest.mark.parametrize(
  "model, arguments, named",
  [
    (unknown_operation, {"format": "litert"}, "LiteRT has no operation for"),
    (open_size, {"format": "litert"}, "`image_size`"),
    (lambda: "none.keras", {}, "no file"),
    (lambda: "none/model.ckpt-1", {"task": "mnist"}, "no readable checkpoint"),
    (lambda: ROOT / "README.md", {"task": "mnist"}, "no readable checkpoint"),
    (lambda: "x", {"task": "other"}, "`task`"),
    (lambda: keras.Sequential([keras.layers.Dense(3)]), {}, "to build it"),
    (Subclassed, {}, "to build it"),
    (lambda: 3, {}, "must be a path or a Keras model, got int"),
  ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path, model, arguments, named):
  with pytest.raises(ValueError, match=named) as caught:
    rigl.export(model(), tmp_path / "out", **arguments)
  assert "\n" not in str(caught.value)
  assert [*tmp_path.iterdir()] == []


def test_another_backend_of_keras_is_one_line(
  keras_file, tmp_path, monkeypatch
):
  monkeypatch.setattr(keras.config, "backend", lambda: "jax")
  for source in (keras_file[0], called()):
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow.*on jax"):
      rigl.export(source, tmp_path / "out")
  assert [*tmp_path.iterdir()] == []


def test_a_damaged_keras_file_is_one_line(tmp_path):
  place = tmp_path / "damaged.keras"
  place.write_bytes(os.urandom(999))
  with pytest.raises(ValueError, match="that Keras can load") as caught:
    rigl.export(place, tmp_path / "out")
  assert "\n" not in str(caught.value)
