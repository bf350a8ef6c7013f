# SPDX-License-Identifier: Apache-2.0
import damage
import imagenet_files
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.input import preprocessing
from rigl.predict import images


def decoded(jpeg):
  return tf.io.decode_jpeg(jpeg, channels=3).numpy().astype(np.float32)


def test_normalisation_is_the_published_one():
  images = np.array([[[[0, 0, 0], [255, 255, 255]]]])
  found = preprocessing.normalise(images)
  assert found.dtype == tf.float32
  mean = np.array([123.675, 116.28, 103.53])
  stddev = np.array([58.395, 57.12, 57.375])
  np.testing.assert_allclose(found, (images - mean) / stddev, rtol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (300, 400), (333, 270)])
def test_evaluation_takes_the_central_square(shape):
  jpeg = imagenet_files.jpeg_of(0, height=shape[0], width=shape[1])
  side = int(224 / 256 * min(shape))
  top, left = ((size - side + 1) // 2 for size in shape)
  window = decoded(jpeg)[top : top + side, left : left + side]
  found = preprocessing.evaluation_image(jpeg).numpy()
  assert found.shape == (224, 224, 3) and found.dtype == np.float32
  if side == 224:  # Not resized.
    # At the edge the colours' resolution is raised without what is outside.
    np.testing.assert_allclose(found, window, atol=3)
    np.testing.assert_array_equal(found[:, 2:-2], window[:, 2:-2])
  expected = tf.compat.v1.image.resize_bicubic(window[None], [224, 224])[0]
  np.testing.assert_allclose(found, expected, atol=4)
  inside = np.s_[4:-4, 4:-4]
  np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)


def crop_of(jpeg, number, size=64):
  seed = tf.constant([7, number], tf.int64)
  return preprocessing.training_image(jpeg, seed, size).numpy()


def test_training_crops_are_a_function_of_the_seed():
  jpeg = imagenet_files.jpeg_of(1, height=100, width=120)
  crops = [crop_of(jpeg, number) for number in range(20)]
  for number, crop in enumerate(crops):
    assert crop.shape == (64, 64, 3)
    np.testing.assert_array_equal(crop_of(jpeg, number), crop)
  different = {crop.tobytes() for crop in crops}
  assert len(different) == 20


def test_training_crops_have_the_published_sizes_and_are_mirrored():
  # Colours that tell the place: red grows downwards, green to the right.
  rows, columns = np.mgrid[0:200, 0:200]
  image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
  jpeg = tf.io.encode_jpeg(image, quality=100).numpy()
  areas, ratios, mirrored = [], [], []
  for number in range(300):
    crop = crop_of(jpeg, number, size=32)
    height = np.ptp(crop[..., 0].mean(1)) * 32 / 31
    width = np.ptp(crop[..., 1].mean(0)) * 32 / 31
    areas.append(height * width / 200**2)
    ratios.append(width / height)
    mirrored.append(crop[16, 0, 1] > crop[16, -1, 1])
  assert 0.06 < min(areas) < 0.15 and 0.85 < max(areas) < 1.05
  assert 0.7 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
  assert 0.4 < np.mean(mirrored) < 0.6


def test_crop_that_fails_is_the_central_one():
  # No window of this aspect ratio covers 8 % of so narrow an image.
  jpeg = imagenet_files.jpeg_of(2, height=400, width=20)
  central = preprocessing.evaluation_image(jpeg, 16).numpy()
  crop = crop_of(jpeg, 0, 16)
  close = [np.allclose(c, central, atol=1) for c in (crop, crop[:, ::-1])]
  assert any(close)


def of_size(jpeg, height, width):
  """A JPEG whose header claims another size."""
  start = jpeg.index(b"\xff\xc0") + 5
  size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
  return jpeg[:start] + size + jpeg[start + 4 :]


@pytest.mark.parametrize(
  "read",
  [
    preprocessing.evaluation_image,
    lambda jpeg: preprocessing.training_image(
      jpeg, tf.constant([1, 2], tf.int64)
    ),
    lambda jpeg: images._decode(jpeg, (None, None, 3)),
    lambda jpeg: images._decode(jpeg, (32, 32, 3)),
    lambda jpeg: images._decode(jpeg, (784,)),
  ],
)
def test_a_header_that_claims_more_than_the_jpeg_can_hold_is_refused(read):
  jpeg = imagenet_files.jpeg_of(1)
  assert read(jpeg) is not None
  before = damage.peak_memory()
  with pytest.raises(
    tf.errors.InvalidArgumentError, match="claims more pixels"
  ):
    read(of_size(jpeg, 65_000, 65_000))
  assert damage.peak_memory() - before < 500e6
