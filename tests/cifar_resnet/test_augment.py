# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from rigl.cifar_resnet.augment import random_crop_and_flip, standardize

SHAPE = (6, 32, 32, 3)


def images_of(shape=SHAPE, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def key_of(*words):
  return tf.constant(words, tf.int64)


# --- standardize --------------------------------------------------------------


def numpy_standardize(images):
  images = images.astype(np.float64)
  mean = images.mean((1, 2, 3), keepdims=True)
  least = 1 / np.sqrt(np.prod(images.shape[1:]))
  return (images - mean) / np.maximum(
    images.std((1, 2, 3), keepdims=True), least
  )


@pytest.mark.parametrize("shape", [SHAPE, (1, 5, 7, 2)], ids=str)
def test_standardize_gives_mean_0_and_standard_deviation_1(shape):
  images = images_of(shape)
  found = standardize(tf.constant(images))
  assert found.dtype == tf.float32
  np.testing.assert_allclose(found, numpy_standardize(images), atol=2e-6)


def test_standardize_is_that_of_the_library():
  images = np.concatenate([images_of(), np.full((1, 32, 32, 3), 7, np.uint8)])
  # All but equal: the standard deviation counts as the least one.
  images[0], images[0, 3, 4, 1] = 90, 91
  expected = tf.image.per_image_standardization(images)
  np.testing.assert_allclose(standardize(images), expected, atol=2e-6)


def test_standardize_gives_zeros_for_an_image_of_one_colour():
  assert not np.any(standardize(np.full(SHAPE, 255, np.uint8)))


# --- random_crop_and_flip -----------------------------------------------------


def padded_crop(image, down, right, flip):
  """The crop that starts at (down, right) of the padded image."""
  height, width, _ = image.shape
  padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="symmetric")
  crop = padded[down : down + height, right : right + width]
  return crop[:, ::-1] if flip else crop


def find_crop(image, found):
  """The only (down, right, flip) of 81 x 2 that gives what was found."""
  matches = [
    (down, right, flip)
    for down in range(9)
    for right in range(9)
    for flip in (False, True)
    if np.array_equal(padded_crop(image, down, right, flip), found)
  ]
  assert len(matches) == 1
  return matches[0]


@pytest.mark.parametrize("shape", [SHAPE, (5, 9, 12, 1)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_image_is_a_crop_of_the_mirrored_one(shape, dtype):
  images = images_of(shape).astype(dtype)
  found = random_crop_and_flip(tf.constant(images), key_of(1, 2)).numpy()
  assert found.dtype == dtype and found.shape == shape
  crops = [find_crop(*pair) for pair in zip(images, found, strict=True)]
  assert len(set(crops)) > 1


def crops_of(count, key):
  """The crops of a batch of one image."""
  image = images_of((1, 10, 10, 1))[0]
  batch = np.broadcast_to(image, (count, *image.shape))
  table = {
    padded_crop(image, down, right, flip).tobytes(): (down, right, flip)
    for down in range(9)
    for right in range(9)
    for flip in (False, True)
  }
  found = random_crop_and_flip(tf.constant(batch), key).numpy()
  return np.array([table[image.tobytes()] for image in found])


def test_shifts_and_flips_are_uniform_and_independent():
  count = 81 * 2 * 100
  crops = crops_of(count, key_of(3, 4))
  counts = np.bincount(crops @ [18, 2, 1], minlength=162)
  statistic = np.sum((counts - 100) ** 2) / 100
  assert abs(statistic - 161) < 5 * (2 * 161) ** 0.5


def test_neighbours_in_a_batch_are_independent():
  crops = crops_of(5000, key_of(3, 4)).astype(float)
  for column in crops.T:
    correlation = np.corrcoef(column[1:], column[:-1])[0, 1]
    assert abs(correlation) < 5 / 5000**0.5


def test_crops_are_a_function_of_the_key():
  base = crops_of(500, key_of(3, 4))
  np.testing.assert_array_equal(base, crops_of(500, key_of(3, 4)))
  for other in ((3, 5), (4, 4), (3, 4 + 2**20)):
    same = np.all(base == crops_of(500, key_of(*other)), 1)
    assert same.mean() < 0.05


def test_eager_graph_and_xla_give_the_same_images():
  images = tf.constant(images_of())
  eager = random_crop_and_flip(images, key_of(5, 6)).numpy()
  for jit_compile in (False, True):
    compiled = tf.function(random_crop_and_flip, jit_compile=jit_compile)
    np.testing.assert_array_equal(compiled(images, key_of(5, 6)), eager)
