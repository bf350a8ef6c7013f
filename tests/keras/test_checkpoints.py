# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the scripts in Keras models, and back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras as rk
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.cifar_resnet.cifar_trainer import build_trainer as build_cifar_trainer
from rigl.keras import networks
from rigl.mnist.mnist_data import synthetic_mnist
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer
from rigl.training import checkpoints

FREQUENCY = 4
RATE = 0.1
NO_MASK = "masks of all sparse variables, got none of last/kernel"


def trainer(path, **changes):
  settings = {
    "save_path": str(path),
    "training_method": "rigl",
    "use_synthetic_data": True,
    "learning_rate": RATE,
    "num_epochs": 4,
    "maskupdate_frequency": FREQUENCY,
    "l2_scale": 0.0,
  }
  run = build_trainer(MnistSettings(**settings | changes))
  # The noise that breaks ties is not the same here and there.
  run.state.optimizer._noise_std = 0.0
  return run


def mnist_mlp(optimizer=None, method=rk.RigL, **changes):
  settings = {
    "distribution": {"layer2": 0.98 * 0.9, "layer3": 0.0},
    "sparsity": 0.98,
    "end_step": 50_000,
    "frequency": FREQUENCY,
    **({"noise_std": 0.0} if method is rk.RigL else {}),
  }
  model = networks.mnist_mlp()
  inner = optimizer or keras.optimizers.SGD(RATE, 0.9, nesterov=True)
  model.compile(method(inner, **settings | changes), loss_function())
  return model


def loss_function():
  return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def stopped(tmp_path, without_any_xla):
  """A run of the MNIST script that was stopped after half of its epochs."""
  run = trainer(tmp_path / "run")
  run.prepare()
  run.run(20)
  run.save()
  run.directory.close()
  return run


def batches(count):
  data = synthetic_mnist(seed=5)
  for i in range(count):
    place = slice(100 * i, 100 * i + 100)
    yield data.train_images[place], data.train_labels[place]


def train_script(state, count):
  model, optimizer = state.task.model, state.optimizer
  for images, labels in batches(count):
    with tf.GradientTape() as tape:
      batch = {"images": images, "labels": labels}
      loss = tf.reduce_mean(state.task.metrics(batch)["loss"])
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(
      zip(gradients, variables, strict=True), state.global_step
    )


def train_keras(model, count):
  loss_of = loss_function()
  for images, labels in batches(count):
    with tf.GradientTape() as tape:
      loss = loss_of(labels, model(images / np.float32(255)))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))


def assert_same(model, state):
  optimizer = model.optimizer
  assert int(optimizer.iterations) == state.step
  named = state.all_variables
  for i in (1, 2, 3):
    mask = named[f"layer{i}/mask"].numpy()
    np.testing.assert_array_equal(
      optimizer.masks[f"layer{i}/kernel"].numpy(), mask
    )
    kernel, bias = model.get_layer(f"layer{i}").weights
    for ours, name in ((kernel, "weights"), (bias, "biases")):
      theirs = named[f"layer{i}/{name}"].numpy()
      np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_state_of_options_is_kept(tmp_path, without_any_xla):
  options = {"track_exploration": True, "grow_batches": 4, "soft_memory": True}
  run = trainer(tmp_path / "run", **options)
  run.prepare()
  run.run(20)
  run.save()
  run.directory.close()
  state = {n: v.numpy() for n, v in run.state.optimizer.state().items()}
  model = mnist_mlp(**options)
  rk.load_checkpoint(model, tmp_path / "run")
  optimizer = model.optimizer
  assert state["grow_gradient_batches"] == int(optimizer._grow_count) > 0
  for i, path in enumerate(optimizer.masks, 1):
    for suffix, variables in (
      ("explored", optimizer.explored),
      ("grow_gradient", optimizer.grow_gradients),
      ("target_connections", optimizer.target_connections),
    ):
      expected = state[f"layer{i}/weights/{suffix}"]
      assert expected.any()
      np.testing.assert_array_equal(variables[path], expected)
  train_keras(model, 5)
  rk.save_checkpoint(model, tmp_path / "run")
  found = checkpoints.load_latest(tmp_path / "run")
  for i, path in enumerate(optimizer.masks, 1):
    np.testing.assert_array_equal(
      found[f"layer{i}/weights/explored"], optimizer.explored[path]
    )
    given = found[f"layer{i}/weights/target_connections"]
    assert given == int(optimizer.target_connections[path])


def test_without_it_counting_starts_at_the_masks(stopped, tmp_path):
  del tmp_path
  model = mnist_mlp(track_exploration=True, grow_batches=2, soft_memory=True)
  rk.load_checkpoint(model, stopped.directory.path)
  optimizer = model.optimizer
  for path, mask in optimizer.masks.items():
    np.testing.assert_array_equal(optimizer.explored[path], mask)
    assert not np.any(optimizer.grow_gradients[path])
    assert int(optimizer.target_connections[path]) == mask.numpy().sum()


@pytest.mark.parametrize("is_built", [False, True])
def test_keras_goes_on_as_the_script_does(stopped, is_built):
  model = mnist_mlp()
  if is_built:
    train_keras(model, 3)
  rk.load_checkpoint(model, stopped.directory.path)
  assert_same(model, stopped.state)
  images = synthetic_mnist(seed=5).test_images.astype(np.float32) / 255
  np.testing.assert_allclose(
    model(images), stopped.state.task.model(images), rtol=1e-5, atol=1e-5
  )
  count = 2 * FREQUENCY + 3  # Two mask updates.
  train_script(stopped.state, count)
  train_keras(model, count)
  assert_same(model, stopped.state)


def test_the_script_goes_on_as_keras_does(stopped, tmp_path):
  path = tmp_path / "run"
  model = mnist_mlp()
  rk.load_checkpoint(model, path)
  train_keras(model, 7)
  prefix = rk.save_checkpoint(model, path)
  assert prefix == str(path / "model.ckpt-27")
  before = checkpoints.load(str(path / "model.ckpt-20"))
  after = checkpoints.load(prefix)
  assert {n: (t.dtype, t.shape) for n, t in before.items()} == {
    n: (t.dtype, t.shape) for n, t in after.items()
  }
  resumed = trainer(path)
  resumed.prepare()
  assert resumed.state.iteration == 27
  assert_same(model, resumed.state)
  train_script(resumed.state, FREQUENCY + 2)
  train_keras(model, FREQUENCY + 2)
  assert_same(model, resumed.state)


def test_a_converted_run_ends_with_its_result(stopped, tmp_path):
  model = mnist_mlp()
  rk.load_checkpoint(model, tmp_path / "run")
  train_keras(model, 5)
  rk.save_checkpoint(model, tmp_path / "run")
  run = trainer(tmp_path / "run")
  run.train()
  assert run.directory.result()["iteration"] == 40
  masks = [layer.mask.numpy() for layer in run.state.optimizer.layers]
  ours = model.optimizer.masks.values()
  assert [m.sum() for m in masks] == [m.numpy().sum() for m in ours]


def test_moments_of_adam_are_kept(tmp_path, without_any_xla):
  run = trainer(tmp_path, optimizer="adam", learning_rate=1e-3)
  run.prepare()
  run.run(10)
  run.save()
  run.directory.close()
  model = mnist_mlp(keras.optimizers.Adam(1e-3, epsilon=1e-8))
  rk.load_checkpoint(model, tmp_path)
  train_script(run.state, 6)
  train_keras(model, 6)
  assert_same(model, run.state)
  prefix = rk.save_checkpoint(model, tmp_path)
  for name, value in run.state.optimizer.checkpoint_state().items():
    np.testing.assert_allclose(
      checkpoints.load(prefix)[name], value, rtol=1e-4, atol=1e-7, err_msg=name
    )


def small_model(optimizer=None):
  inputs = keras.Input([6])
  hidden = keras.layers.Dense(5, "relu", name="first")(inputs)
  model = keras.Model(inputs, keras.layers.Dense(2, name="last")(hidden))
  if optimizer is not None:
    model.compile(optimizer, "mse")
  return model


def published(masked=("first", "last")):
  """A checkpoint as TensorFlow 1 wrote it: raw weights, thresholds."""
  rng = np.random.default_rng(0)
  tensors = {"global_step": np.int64(7)}
  for name, shape in (("first", (6, 5)), ("last", (5, 2))):
    tensors[f"net/{name}/weights"] = rng.normal(size=shape).astype("float32")
    tensors[f"net/{name}/biases"] = rng.normal(size=shape[1:]).astype("float32")
    if name in masked:
      mask = (rng.uniform(size=shape) < 0.4).astype("float32")
      tensors[f"net/{name}/mask"] = mask
      tensors[f"net/{name}/threshold"] = np.float32(0.1)
  return tensors


def write(path, tensors, number=7):
  path.mkdir(exist_ok=True)
  return checkpoints.save(path, number, tensors)


@pytest.mark.parametrize("optimizer", [None, lambda: keras.optimizers.Adam()])
def test_a_dense_model_gets_masked_weights(tmp_path, optimizer):
  tensors = published()
  model = small_model(optimizer and optimizer())
  rk.load_checkpoint(model, write(tmp_path, tensors))
  kernel, bias = model.get_layer("first").get_weights()
  masked = tensors["net/first/weights"] * tensors["net/first/mask"]
  np.testing.assert_array_equal(kernel, masked)
  np.testing.assert_array_equal(bias, tensors["net/first/biases"])


@pytest.mark.parametrize(
  "method", [rk.RigL, rk.SET, rk.Static, rk.FixedMask, rk.GradualPruning]
)
def test_a_sparse_model_gets_masks_and_steps(tmp_path, method):
  tensors = published()
  settings = {"end_step": 100} if method is rk.GradualPruning else {}
  model = small_model(method("rmsprop", 0.5, **settings))
  rk.load_checkpoint(model, write(tmp_path, tensors))
  for name in ("first", "last"):
    mask = tensors[f"net/{name}/mask"] != 0
    path = f"{name}/kernel"
    np.testing.assert_array_equal(model.optimizer.masks[path].numpy(), mask)
    kernel = model.get_layer(name).kernel.numpy()
    np.testing.assert_array_equal(kernel, tensors[f"net/{name}/weights"] * mask)
  assert int(model.optimizer.iterations) == 7
  model.fit(np.ones([4, 6]), np.ones([4, 2]), verbose=0)
  ones = sum(m.numpy().sum() for m in model.optimizer.masks.values())
  assert ones == sum(tensors[f"net/{n}/mask"].sum() for n in ("first", "last"))


@pytest.mark.parametrize(
  ("change", "optimizer", "message"),
  [
    ({"net/first/biases": None}, None, "first/bias is missing"),
    (
      {"net/first/weights": np.zeros((6, 4), "float32")},
      None,
      r"\(6, 4\) in the checkpoint and \(6, 5\) in the model",
    ),
    (
      {"net/more/weights": np.zeros((2, 2), "float32")},
      None,
      "net/more/weights of shape .* is not in the model",
    ),
    ({"net/last/mask": None}, lambda: rk.RigL("sgd", 0.5), NO_MASK),
    ({"net/last/mask": np.ones(3)}, lambda: rk.RigL("sgd", 0.5), NO_MASK),
    (
      {},
      lambda: rk.RigL("sgd", 0.5, filters="first"),
      "masks of sparse variables only, got one of last/kernel",
    ),
    ({}, lambda: rk.RigL("sgd", 0.5, structure="fan_in"), "got fan_in"),
    ({}, lambda: rk.SNFS("sgd", 0.5), "got SNFS"),
    ({}, lambda: rk.DNW("sgd", 0.5), "got DNW"),
    ({}, lambda: rk.SNIP("sgd", 0.5), "got SNIP"),
  ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
  tmp_path, change, optimizer, message
):
  tensors = {n: t for n, t in (published() | change).items() if t is not None}
  model = small_model(optimizer and optimizer())
  before = model.get_weights()
  with pytest.raises(ValueError, match=message):
    rk.load_checkpoint(model, write(tmp_path, tensors))
  for ours, theirs in zip(model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert optimizer is None or not model.optimizer.built


def test_weights_off_the_masks_are_reported_and_zero(stopped, tmp_path, caplog):
  tensors = checkpoints.load(str(stopped.directory.path / "model.ckpt-20"))
  tensors["layer1/weights"] += 1
  prefix = checkpoints.save(tmp_path, 20, tensors)
  for model in (networks.mnist_mlp(), mnist_mlp()):
    caplog.clear()
    rk.load_checkpoint(model, prefix)
    (said,) = caplog.messages
    assert "mask and weights of 'layer1' disagree" in said
    kernel = model.get_layer("layer1").kernel.numpy()
    np.testing.assert_array_equal(kernel[tensors["layer1/mask"] == 0], 0)


def test_a_place_without_a_checkpoint_is_refused(tmp_path):
  for path in (tmp_path, tmp_path / "model.ckpt-1"):
    with pytest.raises(ValueError, match="checkpoint"):
      rk.load_checkpoint(small_model(), path)


def test_a_new_directory_gets_the_names_of_masked_layers(tmp_path):
  model = small_model(rk.RigL(keras.optimizers.SGD(0.1, 0.9), 0.5))
  with pytest.raises(ValueError, match="`model` must have trained"):
    rk.save_checkpoint(model, tmp_path)
  model.fit(np.ones([4, 6]), np.ones([4, 2]), epochs=3, verbose=0)
  scopes = {"first": "net/first", "last": "net/last"}
  prefix = rk.save_checkpoint(model, tmp_path / "new", scopes)
  found = checkpoints.load(prefix)
  assert set(found) == {
    *(
      f"net/{layer}/{name}"
      for layer in ("first", "last")
      for name in (
        "weights",
        "weights/Momentum",
        "biases",
        "biases/Momentum",
        "mask",
      )
    ),
    "global_step",
    "iteration",
    "last_mask_update_step",
  }
  assert found["net/first/mask"].dtype == np.float32
  # An update took the place of the first step.
  assert (found["global_step"], found["iteration"]) == (2, 3)
  assert prefix.endswith("model.ckpt-2")
  again = small_model(rk.RigL(keras.optimizers.SGD(0.1, 0.9), 0.5))
  rk.load_checkpoint(again, tmp_path / "new", scopes)
  for ours, theirs in zip(
    again.optimizer.inner_optimizer.variables,
    model.optimizer.inner_optimizer.variables,
    strict=True,
  ):
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


def test_a_checkpoint_that_is_as_far_is_not_overwritten(tmp_path):
  model = small_model(rk.RigL("sgd", 0.5))
  rk.load_checkpoint(model, write(tmp_path, published()))
  with pytest.raises(ValueError, match="no checkpoint at or after 7"):
    rk.save_checkpoint(model, tmp_path)
  model.fit(np.ones([4, 6]), np.ones([4, 2]), epochs=2, verbose=0)
  assert rk.save_checkpoint(model, tmp_path).endswith("model.ckpt-8")
  for _ in range(2):  # Older ones are kept.
    model.fit(np.ones([4, 6]), np.ones([4, 2]), verbose=0)
    rk.save_checkpoint(model, tmp_path)
  assert checkpoints.list_numbers(tmp_path) == [7, 8, 9, 10]


def test_state_that_the_model_lacks_is_not_dropped(tmp_path):
  write(tmp_path, published() | {"net/first/weights/Average": np.zeros(1)})
  model = small_model(rk.RigL("sgd", 0.5))
  model.fit(np.ones([4, 6]), np.ones([4, 2]), epochs=9, verbose=0)
  with pytest.raises(ValueError, match="net/first/weights/Average"):
    rk.save_checkpoint(model, tmp_path)
  assert checkpoints.list_numbers(tmp_path) == [7]


@pytest.mark.slow
def test_a_run_on_cifar10_goes_through_keras(tmp_path):
  settings = CifarSettings(
    train_dir=str(tmp_path),
    training_method="rigl",
    mask_init_method="erdos_renyi",
    end_sparsity=0.8,
    use_synthetic_data=True,
    resnet_depth=10,
    resnet_width=1,
    batch_size=8,
    dataset_size=80,
    max_steps=8,
    maskupdate_frequency=3,
  )
  run = build_cifar_trainer(settings)
  run.prepare()
  run.run(4)
  run.save()
  run.directory.close()
  model = networks.wide_resnet(10, 1)
  optimizer = rk.RigL(
    keras.optimizers.SGD(0.1, 0.9, nesterov=True),
    sparsity=0.8,
    filters=lambda path: not path.startswith("conv_1"),
    frequency=3,
  )
  model.compile(optimizer, loss_function())
  rk.load_checkpoint(model, run.directory.path)
  images = np.random.default_rng(0).normal(size=[4, 32, 32, 3])
  images = images.astype(np.float32)
  np.testing.assert_allclose(
    model(images), run.state.task.model(images), rtol=1e-4, atol=1e-5
  )
  model.fit(images, np.zeros(4), 4, epochs=2, verbose=0)
  rk.save_checkpoint(model, run.directory.path)
  resumed = build_cifar_trainer(settings)
  resumed.prepare()
  assert (resumed.state.step, resumed.state.iteration) == (6, 8)
  np.testing.assert_allclose(
    model(images), resumed.state.task.model(images), rtol=1e-4, atol=1e-5
  )
  resumed.run()
  assert resumed.state.step == 8
