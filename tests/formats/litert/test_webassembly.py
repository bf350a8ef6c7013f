# SPDX-License-Identifier: Apache-2.0
"""Exported files compute in WebAssembly, as in browsers, what they shall."""

import keras
import numpy as np
import pytest
from export_models import keras_model, scaled, with_zeros
from workers import litert_node

import rigl
from rigl.formats.litert import interpreter

pytestmark = pytest.mark.skipif(
  litert_node.missing() is not None, reason=str(litert_node.missing())
)


_SLOW = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def node():
  with litert_node.NodeRuntime() as runtime:
    yield runtime


def perceptron(sparsity, activation="relu", units=(64, 32, 10)):
  """Fully connected layers, which read sparse tensors themselves."""
  layers = [keras.layers.Dense(size, activation) for size in units[:-1]]
  model = keras.Sequential(
    [keras.Input([100]), *layers, keras.layers.Dense(units[-1])]
  )
  return with_zeros(model, sparsity)


def tall():
  """Behind 70,000 outputs, rows start at numbers of 32 bits."""
  model = keras.Sequential(
    [keras.Input([8]), keras.layers.Dense(70_000), keras.layers.Dense(2)]
  )
  return with_zeros(model, 0.9)


def mobilenet(sparsity):
  model = rigl.keras.networks.mobilenet_v1(10, 0.25, 64)
  return scaled(with_zeros(model, sparsity))


@pytest.mark.parametrize(
  ("make", "options"),
  [
    (lambda: perceptron(0.9), {}),
    (lambda: perceptron(0.98, None), {"batch_size": 3}),
    (lambda: perceptron(0.95, "tanh"), {}),
    (lambda: perceptron(0.9), {"sparse": False}),
    (lambda: perceptron(0.5), {}),
    (lambda: perceptron(0.9), {"dtype": "float16"}),
    (lambda: perceptron(0.9), {"dtype": "int8"}),
    (tall, {}),
    (keras_model, {}),
    (keras_model, {"dtype": "float16"}),
    (keras_model, {"dtype": "int8"}),
    (lambda: mobilenet(0.9), {}),
    *(
      pytest.param(lambda: mobilenet(0.9), {"dtype": dtype}, marks=_SLOW)
      for dtype in ("float16", "int8")
    ),
    pytest.param(lambda: mobilenet(0.3), {}, marks=_SLOW),
  ],
)
def test_files_compute_in_webassembly_what_the_model_does(
  node, tmp_path, make, options
):
  model, place = make(), tmp_path / "network.tflite"
  rigl.export(model, place, "litert", **options)
  shape = [options.get("batch_size", 1), *model.input_shape[1:]]
  inputs = np.random.default_rng(0).random(shape, np.float32)
  expected = np.asarray(model(inputs))
  number = node.load(place, {model.inputs[0].name: inputs})
  (found,) = node.results(number).values()
  share = {"float16": 1e-2, "int8": 0.25}.get(options.get("dtype"), 1e-5)
  scale = (
    max(1.0, np.abs(expected).max()) if share == 1e-5 else np.ptp(expected)
  )
  np.testing.assert_allclose(found, expected, rtol=0, atol=share * scale)
  assert node.run(number) > 0


def test_sparse_int8_convolutions_are_those_of_python(node, tmp_path):
  layers = keras.layers
  model = with_zeros(
    keras.Sequential(
      [
        keras.Input([16, 16, 3], name="x"),
        layers.Conv2D(64, 3, 2, activation="relu"),
        layers.Conv2D(256, 1, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
      ]
    ),
    0.9,
  )
  images = np.random.default_rng(0).random([8, 16, 16, 3], np.float32)
  np.savez(tmp_path / "typical.npz", images=images)
  options = {"dtype": "int8", "calibration_images": tmp_path / "typical.npz"}
  places = [tmp_path / "dense", tmp_path / "sparse"]
  reports = [
    rigl.export(model, place, "litert", sparse=sparse, **options)
    for place, sparse in zip(places, (False, True), strict=True)
  ]
  assert reports[1].num_bytes < 0.75 * reports[0].num_bytes
  assert "its weights are int8" in reports[1].notes[0]
  inputs = {"x": images[:1]}
  in_python = [interpreter.run(place.read_bytes(), inputs) for place in places]
  in_wasm = [node.results(node.load(place, inputs)) for place in places]
  (expected, same), (found, again) = (
    [next(iter(results.values())) for results in pair]
    for pair in (in_python, in_wasm)
  )
  np.testing.assert_array_equal(same, expected)
  np.testing.assert_array_equal(again, found)
  tolerance = 0.05 * np.ptp(expected)
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_a_damaged_file_is_an_error_and_the_process_goes_on(node, tmp_path):
  place = tmp_path / "network.tflite"
  place.write_bytes(b"\0" * 100)
  with pytest.raises(RuntimeError):
    node.load(place, {})
  with pytest.raises(RuntimeError, match="no-file"):
    node.load(tmp_path / "no-file", {})
