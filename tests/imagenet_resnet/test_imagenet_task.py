# SPDX-License-Identifier: Apache-2.0
"""Losses and metrics of the ImageNet task."""

import imagenet_golden
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.imagenet_task import ImagenetTask


class Logits(tf.Module):
  """Returns the first pixels as logits, and notes how it was called."""

  trainable_variables = ()

  def __call__(self, images, training):
    self.training = training
    return images[:, 0, :, 0]


def batch_of(logits, labels):
  # Undo the normalisation of the first colour.
  pixels = np.zeros([len(logits), 1, len(logits[0]), 3], np.float32)
  scale = imagenet_golden.STDDEV[0]
  pixels[..., 0] = np.array(logits)[:, None] * scale + imagenet_golden.MEAN[0]
  return {"images": tf.constant(pixels), "labels": tf.constant(labels)}


LOGITS = [[5.0, 4, 3, 2, 1, 0], [0.0, 1, 2, 3, 4, 5], [0.0, 1, 2, 3, 4, 5]]


def test_hits_are_the_greatest_and_the_five_greatest_logits():
  task = ImagenetTask(Logits())
  found = task.metrics(batch_of(LOGITS, [0, 1, 0]))
  assert found["accuracy"].numpy().tolist() == [1, 0, 0]
  assert found["top_5_accuracy"].numpy().tolist() == [1, 1, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_smoothed_over_all_classes(smoothing):
  task = ImagenetTask(Logits(), smoothing)
  found = task.metrics(batch_of(LOGITS[:1], [2]))["loss"].numpy()[0]
  logs = LOGITS[0] - np.log(np.sum(np.exp(LOGITS[0])))
  expected = -(1 - smoothing) * logs[2] - smoothing * np.mean(logs)
  assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
  "iteration, of_batch, training",
  [(None, False, False), (None, True, True), (0, False, True)],
)
def test_statistics_of_batches_are_used_where_wanted(
  iteration, of_batch, training
):
  model = Logits()
  task = ImagenetTask(model, use_batch_statistics=of_batch)
  task.metrics(batch_of(LOGITS, [0, 0, 0]), iteration)
  assert model.training == training


@pytest.mark.slow
def test_losses_are_the_published_ones():
  model = imagenet_golden.restored("resnet18")
  task = ImagenetTask(model, 0.1)
  batch = {
    "images": tf.constant(imagenet_golden.arrays("imagenet_images")["images"]),
    "labels": tf.constant(imagenet_golden.labels(), tf.int32),
  }
  loss = tf.reduce_mean(task.metrics(batch)["loss"])
  golden = imagenet_golden.arrays("resnet18")
  np.testing.assert_allclose(loss, golden["cross_loss"], rtol=1e-5)
  training = tf.reduce_mean(task.metrics(batch, tf.constant(0))["loss"])
  steps = imagenet_golden.arrays("resnet18_steps")["losses"]
  np.testing.assert_allclose(training, steps[0], rtol=1e-5)
