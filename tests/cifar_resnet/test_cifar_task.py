# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.cifar_resnet import augment
from rigl.cifar_resnet.cifar_task import CifarTask, with_precision_and_recall
from rigl.cifar_resnet.class_names import CIFAR10, CIFAR100
from rigl.cifar_resnet.wide_resnet import WideResNet

SIZE, CLASSES = 6, 10


class FakeModel:
  """Gives logits that it was told, and keeps what it was called with."""

  trainable_variables = ()

  def __init__(self, logits):
    self._logits, self.calls = tf.constant(logits, tf.float32), []

  def __call__(self, images, key=None):
    self.calls.append((images, key))
    return self._logits


def batch_of(labels, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (len(labels), 32, 32, 3)).astype(np.uint8)
  return {
    "images": tf.constant(images),
    "labels": tf.constant(labels, tf.int32),
  }


# The labels and what the network takes the images for.
LABELS = [0, 0, 1, 2, 2, 2]
PREDICTIONS = [0, 1, 1, 2, 0, 2]


def fake_task(per_class=True):
  model = FakeModel(3.0 * np.eye(CLASSES)[PREDICTIONS])
  return CifarTask(model, 5, CLASSES, per_class), model


def test_counts_of_classes_are_those_of_the_batch():
  found = fake_task()[0].metrics(batch_of(LABELS))
  sums = {name: float(tf.reduce_sum(values)) for name, values in found.items()}
  worked = {
    "labels": [2, 1, 3],
    "predictions": [2, 2, 2],
    "hits": [1, 1, 2],
  }
  for count, numbers in worked.items():
    padded = numbers + [0] * (CLASSES - len(numbers))
    assert [sums[f"{count}/{k}"] for k in range(CLASSES)] == padded
  assert sums["accuracy"] == 4
  # Of logits 3 and nine zeros.
  right, total = -3 + np.log(np.exp(3) + 9), np.log(np.exp(3) + 9)
  assert sums["loss"] == pytest.approx(4 * right + 2 * total, rel=1e-6)


def test_evaluation_has_exactly_the_named_metrics():
  for per_class, count in ((True, 2 + 30), (False, 2)):
    task = fake_task(per_class)[0]
    found = task.metrics(batch_of(LABELS))
    assert set(found) == set(task.eval_metric_names)
    assert len(task.eval_metric_names) == count
    assert all(values.shape == (SIZE,) for values in found.values())
    training = task.metrics(batch_of(LABELS), tf.constant(1, tf.int64))
    assert set(training) == set(task.metric_names)


def test_precision_and_recall_are_the_hand_worked_ones():
  found = {
    "loss": 1.5,
    "accuracy": 0.4,
    "labels/0": 0.4,
    "labels/1": 0.6,
    "labels/2": 0.0,
    "predictions/0": 0.8,
    "predictions/1": 0.0,
    "predictions/2": 0.2,
    "hits/0": 0.3,
    "hits/1": 0.0,
    "hits/2": 0.0,
  }
  assert with_precision_and_recall(found, CIFAR10) == {
    "loss": 1.5,
    "accuracy": 0.4,
    "precision/airplane": pytest.approx(0.375),
    "precision/automobile": 0.0,  # Never predicted.
    "precision/bird": 0.0,
    "recall/airplane": pytest.approx(0.75),
    "recall/automobile": 0.0,
    "recall/bird": 0.0,  # No example has the label.
  }


def test_classes_have_the_names_of_their_data_set():
  counts = ("labels", "predictions", "hits")
  found = {f"{count}/{k}": 0.5 for count in counts for k in (0, 9, 99)}
  assert set(with_precision_and_recall(found, CIFAR100)) == {
    f"{rate}/{name}"
    for rate in ("precision", "recall")
    for name in ("apple", "bottle", "worm")
  }


@pytest.mark.parametrize(
  "logits, hit",
  [
    ([9, 8, 7, 6, 5, 4], True),
    ([9, 8, 7, 6, 10, 5], False),
    ([9, 9, 9, 9, 5, 5], True),  # As good as another.
    ([9, 8, 7, 6, 6, 5], False),
  ],
)
def test_top_5_accuracy_is_for_training(logits, hit):
  logits = np.float32([*logits, 1, 2, 3, 4])
  label = 4 if logits[4] == 5 else 5
  task = CifarTask(FakeModel(logits[None]), 5, CLASSES)
  batch = {name: value[:1] for name, value in batch_of(LABELS).items()}
  batch["labels"] = np.int32([label])
  found = task.metrics(batch, tf.constant(3, tf.int64))
  assert found["top_5_accuracy"].numpy().tolist() == [float(hit)]
  assert "top_5_accuracy" not in task.metrics(batch)


def test_without_counts_there_is_no_precision():
  plain = {"loss": 1.5, "accuracy": 0.4}
  assert with_precision_and_recall(plain, CIFAR10) == plain


def test_evaluation_sees_the_standardised_images_and_no_key():
  task, model = fake_task()
  batch = batch_of(LABELS)
  task.metrics(batch)
  ((images, key),) = model.calls
  np.testing.assert_array_equal(images, augment.standardize(batch["images"]))
  assert key is None


def test_training_crops_standardised_images_anew_in_every_iteration():
  """Standardised before the crop, as published."""
  task, model = fake_task()
  batch = batch_of(LABELS)
  for iteration in (0, 0, 1):
    task.metrics(batch, tf.constant(iteration, tf.int64))
  first, again, other = (images.numpy() for images, _ in model.calls)
  np.testing.assert_array_equal(first, again)
  assert np.any(first != other)
  pixels = augment.standardize(batch["images"]).numpy()
  for image, found in zip(pixels, first, strict=True):
    assert np.isin(found, image).all()


def test_keys_of_dropout_never_meet_within_a_run():
  task, model = fake_task()
  batch = batch_of(LABELS)
  for iteration in (0, 1, 2**31):
    task.metrics(batch, tf.constant(iteration, tf.int64))
  keys = [key.numpy() for _, key in model.calls]
  assert all(key[0] == 5 for key in keys)
  numbers = np.array([key[1] for key in keys])
  # A network uses a number a block from its key on; Philox counts up by one
  # for every four words that it draws.
  assert np.all(np.diff(numbers) >= 2**20)


# --- The network --------------------------------------------------------------


def small(**options):
  return WideResNet(10, 1, CLASSES, 0, **options)


def test_blocks_draw_different_dropout():
  """Two blocks of one shape zero other positions."""
  model = WideResNet(16, 1, CLASSES, 0, dropout_rate=0.5)
  seen = []
  for block in model.blocks[:2]:
    block.norm2.beta.assign(tf.fill([16], 10.0))  # No zeros of its own.
    original = block.conv2

    def noting(features, original=original):
      seen.append(features.numpy())
      return original(features)

    block.conv2 = noting
  images = tf.random.stateless_normal([4, 32, 32, 3], [1, 2])
  model(images, tf.constant([0, 0], tf.int64))
  first, second = ((features == 0).ravel() for features in seen)
  assert 0.49 < np.mean(first) < 0.51
  # Nor is one the other at other positions.
  for shift in range(65):
    different = first[: first.size - shift] != second[shift:]
    assert 0.48 < np.mean(different) < 0.52


def test_evaluation_depends_on_no_key_and_moves_nothing():
  model = small()
  images = tf.random.stateless_normal([4, 32, 32, 3], [1, 2])
  before = [v.numpy() for v in model.variables]
  np.testing.assert_array_equal(model(images), model(images))
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)


def test_no_dropout_makes_training_a_function_of_the_images():
  model = small(dropout_rate=0.0)
  images = tf.random.stateless_normal([4, 32, 32, 3], [1, 2])
  one, other = (
    model(images, tf.constant([0, number], tf.int64)) for number in (1, 2)
  )
  np.testing.assert_array_equal(one, other)
  dropping = small(dropout_rate=0.3)
  one, other = (
    dropping(images, tf.constant([0, number], tf.int64)) for number in (1, 2)
  )
  assert np.any(one != other)


def test_moving_averages_are_of_mean_and_biased_variance():
  model = small(dropout_rate=0.0)
  images = tf.random.stateless_normal([3, 32, 32, 3], [1, 2])
  features = model.first(images).numpy().reshape(-1, 16).astype(np.float64)
  norm = model.blocks[0].norm1
  mean, variance = np.zeros(16), np.ones(16)
  for _ in range(2):
    model(images, tf.constant([0, 0], tf.int64))
    mean = 0.9 * mean + 0.1 * features.mean(0)
    variance = 0.9 * variance + 0.1 * features.var(0)
  np.testing.assert_allclose(norm.moving_mean, mean, atol=1e-6)
  np.testing.assert_allclose(norm.moving_variance, variance, atol=1e-6)


def test_last_average_of_few_values_is_biased():
  """The unbiased variance of a batch of one 8x8 image is 1.6 % larger."""
  model = small(dropout_rate=0.0)
  seen = []
  original = model.norm

  def noting(features, training):
    seen.append(features.numpy())
    return original(features, training)

  model.norm = noting
  images = tf.random.stateless_normal([1, 32, 32, 3], [1, 2])
  model(images, tf.constant([0, 0], tf.int64))
  features = seen[0].reshape(-1, 64)
  assert len(features) == 64
  expected = 0.9 + 0.1 * features.var(0)
  np.testing.assert_allclose(original.moving_variance, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"depth": 4}, r"`depth` must be 10, 16, 22, ... .* got 4"),
    ({"depth": 12}, "`depth` .* got 12"),
    ({"width": 0}, "`width` must be at least 1, got 0"),
    ({"num_classes": 0}, "`num_classes` must be at least 1, got 0"),
    ({"dropout_rate": 1.0}, r"`dropout_rate` .* \[0, 1\), got 1.0"),
  ],
)
def test_wrong_argument_is_refused_by_name(changes, message):
  arguments = dict(depth=10, width=1, num_classes=10, seed=0)
  with pytest.raises(ValueError, match=message):
    WideResNet(**{**arguments, **changes})
