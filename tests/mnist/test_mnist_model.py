# SPDX-License-Identifier: Apache-2.0
import pathlib
import zlib

import gin
import numpy as np
import pytest
import tensorflow as tf

from rigl.layers import Dense, glorot_uniform
from rigl.mnist.mnist_model import MnistFc, MnistTask
from rigl.training import checkpoints

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "mnist_fc.npz"
LAYERS = ("layer1", "layer2", "layer3")
# Of the golden gradients every so many rows and columns are stored.
STRIDES = {"layer1": (26, 14), "layer2": (5, 5), "layer3": (1, 1)}


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN) as file:
    arrays = dict(file)
  for name in LAYERS:  # Only the active weights are stored.
    mask = arrays[f"{name}/mask"]
    weights = np.zeros(mask.shape, np.float32)
    weights[mask] = arrays[f"{name}/weights"]
    arrays[f"{name}/weights"] = weights
  return arrays


@pytest.fixture
def model(golden):
  network = MnistFc(784, seed=0)
  variables = {v.name.split(":")[0]: v for v in network.variables}
  checkpoints.restore(golden, variables)
  return network


def batch_of(golden):
  return {
    "images": tf.constant(golden["images"]),
    "labels": tf.constant(golden["labels"]),
  }


def test_logits_are_those_of_the_published_code(golden, model):
  logits = model(tf.cast(golden["images"], tf.float32) / 255.0)
  np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-5)


def test_metrics_are_those_of_the_published_code(golden, model):
  found = MnistTask(model).metrics(batch_of(golden))
  assert found["loss"].shape == found["accuracy"].shape == [64]
  loss, hits = (tf.reduce_mean(found[n]) for n in ("loss", "accuracy"))
  np.testing.assert_allclose(loss, golden["cross_entropy"], atol=1e-6)
  assert float(hits) == pytest.approx(float(golden["accuracy"]))


def test_dense_gradients_are_those_of_the_published_code(golden, model):
  kernels = list(model.kernels.values())
  with tf.GradientTape() as tape:
    metrics = MnistTask(model).metrics(batch_of(golden), tf.constant(0))
    loss = tf.reduce_mean(metrics["loss"])
  for name, gradient in zip(LAYERS, tape.gradient(loss, kernels), strict=True):
    rows, columns = STRIDES[name]
    np.testing.assert_allclose(
      gradient[::rows, ::columns],
      golden[f"{name}/gradient"],
      rtol=1e-4,
      atol=1e-6,
    )


def test_name_based_checkpoint_is_restored_by_the_published_names(tmp_path):
  rng = np.random.default_rng(0)
  values = {
    "layer1/weights": rng.normal(size=(6, 5)),
    "layer1/biases": rng.normal(size=5),
    "layer2/weights": rng.normal(size=(5, 10)),
    "layer2/biases": rng.normal(size=10),
  }
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name, value in values.items():
      tf.compat.v1.get_variable(name, initializer=np.float32(value))
    # What the published code stores besides.
    tf.compat.v1.get_variable("layer1/threshold", initializer=0.0)
    tf.compat.v1.get_variable("layer1/mask", initializer=tf.ones([6, 5]))
    session.run(tf.compat.v1.global_variables_initializer())
    saver = tf.compat.v1.train.Saver()
    saver.save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
  network = MnistFc(6, seed=0, units=(5, 10))
  variables = {v.name.split(":")[0]: v for v in network.variables}
  latest = tf.train.latest_checkpoint(tmp_path)
  checkpoints.restore(checkpoints.load(latest), variables)
  pixels = rng.random((3, 6)).astype(np.float32)
  hidden = pixels @ values["layer1/weights"] + values["layer1/biases"]
  hidden = np.maximum(hidden, 0)
  expected = hidden @ values["layer2/weights"] + values["layer2/biases"]
  np.testing.assert_allclose(network(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("masked", "kernel", "bias"),
  [(True, "weights", "biases"), (False, "kernel", "bias")],
)
def test_variables_have_the_published_names_and_shapes(masked, kernel, bias):
  network = MnistFc(784, seed=0, masked=masked)
  found = {v.name: tuple(v.shape) for v in network.trainable_variables}
  assert found == {
    f"layer1/{kernel}:0": (784, 300),
    f"layer1/{bias}:0": (300,),
    f"layer2/{kernel}:0": (300, 100),
    f"layer2/{bias}:0": (100,),
    f"layer3/{kernel}:0": (100, 10),
    f"layer3/{bias}:0": (10,),
  }
  assert [k.name for k in network.kernels.values()] == [
    f"{name}/{kernel}:0" for name in LAYERS
  ]


@pytest.mark.parametrize("shape", [(784, 300), (300, 100), (2000, 50)])
def test_kernels_start_glorot_uniform(shape):
  values = glorot_uniform(shape, "layer/weights", seed=3).numpy()
  limit = np.sqrt(6 / (shape[0] + shape[1]))
  assert values.dtype == np.float32 and values.shape == shape
  count = values.size
  # Five standard errors of the mean and of the mean square.
  assert abs(values.mean()) < 5 * limit / np.sqrt(3 * count)
  squares = (values / limit) ** 2
  assert abs(squares.mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / count)
  assert limit * (1 - 50 / count) < np.abs(values).max() <= limit * 1.000001
  # Uniform: as many in every tenth of the range.
  counts, _ = np.histogram(values, 10, (-limit, limit))
  assert np.all(np.abs(counts - count / 10) < 5 * np.sqrt(count * 0.09))


def test_biases_start_at_zero():
  for layer in MnistFc(20, seed=0).layers:
    assert not np.any(layer.bias.numpy())


def test_initial_kernel_is_a_function_of_seed_and_name():
  def kernel(seed, name):
    return Dense(20, 30, name, seed).kernel.numpy()

  first = kernel(0, "layer1")
  tf.random.set_seed(17)
  np.random.seed(17)
  np.testing.assert_array_equal(kernel(0, "layer1"), first)
  others = [kernel(1, "layer1"), kernel(0, "layer2"), kernel(2**31 - 1, "a")]
  for other in others:
    assert np.mean(other == first) < 0.01
    assert abs(np.corrcoef(other.ravel(), first.ravel())[0, 1]) < 0.2


def test_initial_kernel_comes_from_a_stable_hash_of_the_name():
  key = [5, zlib.crc32(b"layer1/weights") & 0x7FFFFFFF]
  limit = np.sqrt(6 / 50)
  expected = tf.random.stateless_uniform(
    [20, 30], key, -limit, limit, alg="philox"
  )
  kernel = Dense(20, 30, "layer1", 5).kernel
  np.testing.assert_allclose(kernel, expected, rtol=1e-6)


def test_gin_sets_the_hidden_units():
  with gin.unlock_config():
    gin.bind_parameter("MnistFc.units", (7, 10))
  try:
    assert [layer.kernel.shape for layer in MnistFc(5, 0).layers] == [
      [5, 7],
      [7, 10],
    ]
  finally:
    gin.clear_config()


@pytest.mark.parametrize(
  ("units", "expected"),
  [
    ((), "`units` must be positive numbers, got"),
    ((300, 0, 10), "`units` must be positive numbers, got"),
    ((300, -1, 10), "`units` must be positive numbers, got"),
    ((300, 100, 9), "`units` must end with 10, got"),
  ],
)
def test_units_that_make_no_classifier_are_refused(units, expected):
  with pytest.raises(ValueError, match=expected):
    MnistFc(784, 0, units=units)
