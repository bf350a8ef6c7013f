# SPDX-License-Identifier: Apache-2.0
"""The steps of the MNIST script against NumPy, and its learning rates."""

import gin
import numpy as np
import pytest
from mnist_runs import (
  EPOCH,
  final_tensors,
  metrics,
)

from rigl.data.array_source import ArraySource
from rigl.mnist import mnist_data
from rigl.mnist.mnist_settings import MnistSettings
from rigl.mnist.mnist_trainer import build_trainer

LAYERS = ("layer1", "layer2", "layer3")

pytestmark = pytest.mark.usefixtures("without_xla", "fresh_gin")


@pytest.fixture
def fresh_gin():
  yield
  gin.clear_config()


def settings(path, **changes):
  values = dict(
    use_synthetic_data=True,
    learning_rate=0.1,
    num_epochs=2,
    training_method="scratch",
    save_path=str(path),
  )
  return MnistSettings(**{**values, **changes})


def numpy_training(run, data, drops):
  """Weights and biases after two epochs, by NumPy in float64."""
  weights, biases = (
    [v.numpy().astype(np.float64) for v in variables]
    for variables in (
      [layer.kernel for layer in run.state.task.model.layers],
      [layer.bias for layer in run.state.task.model.layers],
    )
  )
  masks = [layer.mask.numpy() for layer in run.state.optimizer.layers]
  velocity = [0.0] * 6
  source = ArraySource({"x": data.train_images}, 100, 0)
  for step in range(2 * EPOCH):
    order = source.order(step).numpy()
    numbers = order[step % len(order)]
    labels = data.train_labels[numbers]
    inputs = [data.train_images[numbers] / 255]
    for i in range(3):
      values = inputs[-1] @ weights[i] + biases[i]
      inputs.append(np.maximum(values, 0) if i < 2 else values)
    logits = inputs[-1] - inputs[-1].max(1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (shares - np.eye(10)[labels]) / 100
    gradients = [None] * 6
    for i in (2, 1, 0):
      decay = 1e-4 * weights[i]
      gradients[2 * i] = inputs[i].T @ error * masks[i] + decay
      gradients[2 * i + 1] = error.sum(0)
      error = error @ weights[i].T * (inputs[i] > 0)
    # As by tf.train.piecewise_constant, the step of the drop is before it.
    rate = 0.1 / 3 ** sum(step > drop for drop in drops)
    for i, gradient in enumerate(gradients):
      velocity[i] = 0.9 * velocity[i] + gradient
      change = rate * (gradient + 0.9 * velocity[i])  # Nesterov.
      target = (weights if i % 2 == 0 else biases)[i // 2]
      target -= change
  return weights, biases


def test_training_with_rate_drop_and_nesterov_momentum_is_that_of_numpy(
  tmp_path,
):
  run = build_trainer(settings(tmp_path, lr_drop_epoch=1))
  data = mnist_data.synthetic_mnist(seed=0)
  weights, biases = numpy_training(run, data, drops=[EPOCH])
  run.prepare()
  run.run()
  run.finish()
  for layer, kernel, bias in zip(
    run.state.task.model.layers, weights, biases, strict=True
  ):
    np.testing.assert_allclose(layer.kernel, kernel, rtol=0, atol=2e-4)
    np.testing.assert_allclose(layer.bias, bias, rtol=0, atol=2e-4)
  rates = [float(row["learning_rate"]) for row in metrics(tmp_path)]
  assert rates == pytest.approx([0.1, 0.1 / 3])  # Of the coming step.


@pytest.mark.parametrize(
  ("method", "expected"),
  [
    ("scratch", [(0, 0.2), (75, 0.2 / 3), (95, 0.2 / 9)]),
    ("baseline", [(0, 0.2), (60, 0.2 / 3), (70, 0.2 / 9), (80, 0.2 / 27)]),
  ],
)
def test_learning_rate_drops_after_the_published_epochs(
  tmp_path, method, expected
):
  changes = dict(training_method=method, learning_rate=0.2)
  run = build_trainer(settings(tmp_path, **changes))
  ends = [epoch for epoch, _ in expected[1:]] + [200]
  for (epoch, rate), end in zip(expected, ends, strict=True):
    for step in (epoch * EPOCH + 1, end * EPOCH):
      assert float(run.state.learning_rate.at(step)) == pytest.approx(rate)


@pytest.mark.parametrize("method", ["baseline", "rigl", "snip"])
def test_learning_rate_of_adam_is_constant_and_that_of_sgd_is_not(
  tmp_path, method
):
  for optimizer, expected in (("adam", 0.02), ("sgd", None)):
    changes = dict(training_method=method, optimizer=optimizer)
    path = tmp_path / optimizer
    run = build_trainer(settings(path, learning_rate=0.02, **changes))
    rates = [float(run.state.learning_rate.at(n)) for n in (0, 780, 2000)]
    assert rates[0] == pytest.approx(0.02)
    if expected:
      assert rates == pytest.approx([expected] * 3)
    else:
      assert rates[0] > rates[1] > rates[2]


def test_gin_sets_the_rate_of_adam_unless_its_flag_is_typed(tmp_path):
  gin.parse_config("ConstantRate.rate = 0.5")
  flags = settings(tmp_path / "a", optimizer="adam", learning_rate=0.02)
  assert float(build_trainer(flags).state.learning_rate.at(7)) == 0.5
  flags = settings(tmp_path / "b", optimizer="adam", learning_rate=0.02)
  run = build_trainer(flags.with_explicit(["learning_rate"]))
  assert float(run.state.learning_rate.at(7)) == pytest.approx(0.02)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_other_optimizers_train_and_are_saved(shell, tmp_path, optimizer):
  shell.train(tmp_path, "--training_method=scratch", f"--optimizer={optimizer}")
  names = final_tensors(tmp_path).keys()
  adam = {"layer1/weights/Adam", "layer1/weights/Adam_1", "beta1_power"}
  assert (names & adam) == (adam if optimizer == "adam" else set())
  assert not any(name.endswith("Momentum") for name in names)


def test_reported_losses_count_the_weight_decay(shell, tmp_path):
  shell.train(tmp_path, "--training_method=scratch", "--l2_scale=0.01")
  tensors = final_tensors(tmp_path)
  penalty = 0.01 / 2 * sum(np.sum(tensors[f"{n}/weights"] ** 2) for n in LAYERS)
  row = metrics(tmp_path)[-1]
  assert float(row["regularization_loss"]) == pytest.approx(penalty, rel=1e-3)
  data = mnist_data.synthetic_mnist(seed=0)
  values = data.test_images / 255
  for name in LAYERS:
    values = values @ tensors[f"{name}/weights"] + tensors[f"{name}/biases"]
    values = np.maximum(values, 0) if name != "layer3" else values
  logits = values - values.max(1, keepdims=True)
  log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  loss = -log_shares[np.arange(200), data.test_labels].mean() + penalty
  assert float(row["test_loss"]) == pytest.approx(loss, rel=1e-3)
