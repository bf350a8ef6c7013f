# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.layers import BatchNorm


def images_of(shape=(4, 5, 5, 3)):
  rng = np.random.default_rng(0)
  return (rng.normal(size=shape) * [1, 2, 3] + [0, 1, -1]).astype(np.float32)


def normalised(images, mean, variance, epsilon):
  return (images - mean) / np.sqrt(variance + epsilon)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_training_normalises_by_the_batch_and_moves_averages(unbiased, epsilon):
  norm = BatchNorm(3, "norm", unbiased=unbiased, epsilon=epsilon)
  images = images_of()
  mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
  np.testing.assert_allclose(
    norm(images, training=True),
    normalised(images, mean, variance, epsilon),
    atol=1e-4,
  )
  if unbiased:
    variance = variance * 100 / 99
  np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, atol=1e-5)
  np.testing.assert_allclose(
    norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5
  )


def test_evaluation_uses_the_averages_and_leaves_them():
  norm = BatchNorm(3, "norm")
  mean, variance = np.float32([1, 2, 3]), np.float32([0.5, 1, 2])
  norm.moving_mean.assign(mean)
  norm.moving_variance.assign(variance)
  norm.gamma.assign([2.0, 2.0, 2.0])
  norm.beta.assign([1.0, 1.0, 1.0])
  images = images_of()
  np.testing.assert_allclose(
    norm(images, training=False),
    2 * normalised(images, mean, variance, 1e-5) + 1,
    atol=1e-4,
  )
  np.testing.assert_array_equal(norm.moving_mean, mean)
  np.testing.assert_array_equal(norm.moving_variance, variance)


@pytest.mark.parametrize("training", [True, False])
def test_channels_first_computes_the_same(training):
  last, first = BatchNorm(3, "n"), BatchNorm(3, "n", data_format="NCHW")
  images = images_of()
  compiled = tf.function(first, jit_compile=True)
  outputs = compiled(np.transpose(images, [0, 3, 1, 2]), training)
  np.testing.assert_allclose(
    np.transpose(outputs, [0, 2, 3, 1]), last(images, training), atol=1e-4
  )
  for name in ("moving_mean", "moving_variance"):
    np.testing.assert_allclose(
      getattr(first, name), getattr(last, name), rtol=1e-5, atol=1e-6
    )


def test_statistics_are_float32_for_bfloat16_images():
  norm = BatchNorm(3, "norm")
  images = images_of((8, 16, 16, 3))
  outputs = norm(tf.cast(images, tf.bfloat16), training=True)
  assert outputs.dtype == tf.bfloat16
  np.testing.assert_allclose(
    norm.moving_mean, 0.1 * images.mean((0, 1, 2)), atol=1e-3
  )
