# SPDX-License-Identifier: Apache-2.0
"""Sparse tensors in LiteRT files: the same results from fewer bytes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import with_zeros

from rigl.exporting.keras_source import open_model
from rigl.formats.litert import convert, flatbuffer, interpreter


def converted(model, **options):
  signature = open_model(model).arrays
  module, predict = signature.module(1)
  return convert.convert(predict.get_concrete_function(), module, **options)


def kinds(content):
  model = flatbuffer.read(content)
  return [n.kind for n in flatbuffer.operations(model, model.subgraphs[0])]


def perceptron(sparsity, sizes=(300, 400, 10)):
  model = keras.Sequential(
    [
      keras.Input([sizes[0]], name="x"),
      *(keras.layers.Dense(size, "relu") for size in sizes[1:]),
    ]
  )
  return with_zeros(model, sparsity)


def convolutional(sparsity, channels=300):
  model = keras.Sequential(
    [
      keras.Input([6, 6, 8], name="x"),
      keras.layers.Conv2D(channels, 3, activation="relu"),
      keras.layers.Conv2D(64, 1, activation="relu"),
      keras.layers.Flatten(),
      keras.layers.Dense(20),
    ]
  )
  return with_zeros(model, sparsity)


def results(content, shape):
  inputs = np.random.default_rng(0).normal(size=[1, *shape]).astype("float32")
  (value,) = interpreter.run(content, {"x": inputs}).values()
  return inputs, value


@pytest.fixture(scope="module")
def files():
  """{(network, sparsity, dtype): (model, dense file, sparse file)}."""
  made = {}

  def file(make, sparsity, dtype="float32"):
    key = make, sparsity, dtype
    if key not in made:
      model = make(sparsity)
      dense = converted(model, dtype=dtype, sparse=False)
      made[key] = model, dense, converted(model, dtype=dtype)
    return made[key]

  return file


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_sparse_files_compute_what_dense_ones_do(files, make, sparsity, dtype):
  model, dense, sparse = files(make, sparsity, dtype)
  shape = model.input_shape[1:]
  inputs, found = results(sparse, shape)
  expected = results(dense, shape)[1]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  if dtype == "float32":
    np.testing.assert_allclose(found, model(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [perceptron, convolutional])
@pytest.mark.parametrize("sparsity", [0.9, 0.99])
def test_a_sparse_file_has_six_bytes_per_connection(files, make, sparsity):
  """4 bytes of the value and at most 2 of its column, and row starts."""
  model, dense, sparse = files(make, sparsity)
  active = sum(
    int(np.count_nonzero(np.asarray(v)))
    for v in model.weights
    if len(v.shape) > 1
  )
  rows = sum(
    int(np.prod(v.shape)) // v.shape[-2]
    for v in model.weights
    if len(v.shape) > 1
  )
  assert len(sparse) < 6 * active + 4 * rows + 12_000
  assert len(sparse) < 0.4 * len(dense)


def test_fully_connected_layers_read_sparse_tensors_directly(files):
  assert "DENSIFY" not in kinds(files(perceptron, 0.9)[2])
  assert "DENSIFY" in kinds(files(perceptron, 0.5)[2])  # A dense product wins.
  assert "DENSIFY" in kinds(files(convolutional, 0.9)[2])


def test_layers_without_biases_or_vectors_read_sparse_tensors(tmp_path):
  x = keras.Input([7, 300], name="x")
  y = keras.layers.Dense(200, use_bias=False)(x)
  model = with_zeros(keras.Model(x, keras.layers.Dense(90, "tanh")(y)), 0.95)
  content = converted(model)
  assert "DENSIFY" not in kinds(content)
  inputs, found = results(content, [7, 300])
  np.testing.assert_allclose(found, model(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_kernels_without_a_weight_compute_zero(make):
  model = with_zeros(make(0.9), 0.9)
  for layer in model.layers[-2:]:
    if layer.weights:
      layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
      layer.bias.assign(keras.ops.ones_like(layer.bias))
  content = converted(model)
  inputs, found = results(content, model.input_shape[1:])
  np.testing.assert_allclose(found, model(inputs), rtol=1e-5)
  assert np.all(found == 1)


def test_recurrent_networks_compute_what_keras_does():
  """Their initial states and sequences of results are constants of zeros."""
  x = keras.Input([20, 6], name="x")
  y = keras.layers.LSTM(32, return_sequences=True)(x)
  model = with_zeros(keras.Model(x, keras.layers.GRU(8)(y)), 0.9)
  inputs, found = results(converted(model), model.input_shape[1:])
  np.testing.assert_allclose(found, model(inputs), rtol=1e-4, atol=1e-5)


def test_dense_networks_stay_dense(files):
  _, dense, sparse = files(perceptron, 0.0)
  assert kinds(dense) == kinds(sparse)
  assert abs(len(dense) - len(sparse)) < 100


def test_tensors_are_aligned(files):
  """The schema asks for 16 bytes; some kernels are slower otherwise."""
  content = files(convolutional, 0.9)[2]
  model = flatbuffer.schema.Model.GetRootAs(content, 0)
  checked = 0
  for number in range(model.BuffersLength()):
    buffer = model.Buffers(number)
    if buffer.DataLength() >= 16:
      offset = buffer._tab.Vector(buffer._tab.Offset(4))
      assert offset % 16 == 0
      checked += 1
  assert checked > 5


def typical(model):
  """Inputs by which activations are quantised."""
  rng = np.random.default_rng(0)
  shape = [1, *model.input_shape[1:]]
  return [{"x": rng.normal(size=shape).astype("float32")} for _ in range(4)]


@pytest.mark.parametrize("make", [perceptron, convolutional])
@pytest.mark.parametrize("calibrated", [False, True])
def test_int8_files_are_a_quarter(files, make, calibrated):
  """XNNPACK takes sparse int8 kernels of convolutions of int8 images alone."""
  model, dense, _ = files(make, 0.9)
  options = {"calibration": typical(model)} if calibrated else {}
  content = converted(model, dtype="int8", sparse=False, **options)
  sparse = converted(model, dtype="int8", **options)
  assert len(content) < 0.35 * len(dense)
  if calibrated and make is convolutional:
    assert kinds(sparse).count("DENSIFY") == 2  # Not in the last layer.
    assert len(sparse) < 0.75 * len(content)
  else:
    assert "DENSIFY" not in kinds(sparse)
  shape = model.input_shape[1:]
  expected, found = results(content, shape)[1], results(sparse, shape)[1]
  np.testing.assert_array_equal(found, expected)
  assert np.ptp(expected) > 0


def test_metadata_is_kept():
  metadata = {"task": "x", "sparsities": {"a": 0.5}}
  content = converted(perceptron(0.9, (20, 5)), metadata=metadata)
  assert flatbuffer.read_metadata(content) == metadata
  results(content, [20])  # It still runs.


def test_files_without_metadata_and_other_files_are_named():
  content = converted(perceptron(0.9, (20, 5)))
  with pytest.raises(ValueError, match="no metadata"):
    flatbuffer.read_metadata(content)
  with pytest.raises(ValueError, match="no LiteRT file"):
    flatbuffer.read_metadata(b"PK\x03\x04" + bytes(100))


def test_wrong_types_are_named():
  with pytest.raises(ValueError, match="`dtype`"):
    convert.convert(None, tf.Module(), "int4")
