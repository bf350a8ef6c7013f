# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rigl.cifar_resnet import cifar_data
from rigl.cifar_resnet.cifar_data import load_cifar, synthetic_cifar

TRAIN_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEST_FILE = "test_batch.bin"
RECORD = 3073


def records_of(labels, images):
  """The bytes of the official files, an image at a time."""
  content = b""
  for label, image in zip(labels, images, strict=True):
    content += bytes([label])
    for colour in range(3):
      for row in range(32):
        content += bytes(image[row, :, colour].tolist())
  return content


@pytest.fixture
def written(tmp_path):
  """(folder, labels, images): files of two images each, the test's last."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 10, 12)
  images = rng.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
  for i, name in enumerate([*TRAIN_FILES, TEST_FILE]):
    part = slice(2 * i, 2 * i + 2)
    (tmp_path / name).write_bytes(records_of(labels[part], images[part]))
  return tmp_path, labels, images


def check(data, labels, images):
  for name, expected in (
    ("train_images", images[:10]),
    ("train_labels", labels[:10]),
    ("test_images", images[10:]),
    ("test_labels", labels[10:]),
  ):
    found = getattr(data, name)
    assert found.dtype == (np.uint8 if "images" in name else np.int32)
    np.testing.assert_array_equal(found, expected)


def test_binary_files_give_labels_and_planes_in_order(written):
  folder, labels, images = written
  check(load_cifar(folder), labels, images)
  check(load_cifar(str(folder)), labels, images)


def test_folder_of_the_official_archive_is_found(written, tmp_path):
  folder, labels, images = written
  inner = folder / "cifar-10-batches-bin"
  inner.mkdir()
  for name in (*TRAIN_FILES, TEST_FILE):
    (folder / name).rename(inner / name)
  check(load_cifar(folder), labels, images)
  check(load_cifar(inner), labels, images)


@pytest.mark.parametrize("name", [TRAIN_FILES[2], TEST_FILE])
def test_missing_file_is_named(written, name):
  folder = written[0]
  (folder / name).unlink()
  with pytest.raises(ValueError, match=f"lacks {name}") as error:
    load_cifar(folder)
  assert "--data_directory" in str(error.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda content: content[:-1], "expected records of 3073 bytes"),
    (lambda content: content + b"x", "found 6147 bytes"),
    (lambda content: b"", "found 0 bytes"),
    (lambda content: b"\x0a" + content[1:], r"labels in \[0, 9\], found 10"),
    (
      lambda content: content[:RECORD] + b"\xff" + content[RECORD + 1 :],
      "found 255",
    ),
  ],
)
@pytest.mark.parametrize("name", [TRAIN_FILES[4], TEST_FILE])
def test_damaged_file_is_named(written, name, change, message):
  path = written[0] / name
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=message) as error:
    load_cifar(written[0])
  assert f"`{path}` is damaged" in str(error.value)


def test_directory_that_does_not_exist_is_named(tmp_path):
  with pytest.raises(ValueError, match="is not a directory") as error:
    load_cifar(tmp_path / "absent")
  assert "absent" in str(error.value)


def test_directory_without_data_is_named(tmp_path):
  with pytest.raises(ValueError, match="TFDS says") as error:
    load_cifar(tmp_path)
  assert str(tmp_path) in str(error.value)
  assert "--data_directory" in str(error.value)
  assert list(tmp_path.iterdir()) == []


# --- Synthetic ----------------------------------------------------------------


def test_synthetic_data_have_the_shapes_and_dtypes_of_the_real_ones():
  data = synthetic_cifar(30, 20)
  assert data.train_images.shape == (30, *cifar_data.IMAGE_SHAPE)
  assert data.test_images.shape == (20, *cifar_data.IMAGE_SHAPE)
  for images in (data.train_images, data.test_images):
    assert images.dtype == np.uint8
  for labels in (data.train_labels, data.test_labels):
    assert labels.dtype == np.int32
    assert labels.min() >= 0 and labels.max() < 10


def test_synthetic_data_are_a_function_of_the_seed():
  one, again, other = (synthetic_cifar(9, 5, seed) for seed in (0, 0, 1))
  for a, b in zip(one, again, strict=True):
    np.testing.assert_array_equal(a, b)
  assert np.any(one.train_images != other.train_images)
  assert np.any(one.train_images[:5] != one.test_images)


def test_synthetic_classes_are_told_apart_by_their_mean_image():
  data = synthetic_cifar(500, 200)
  means = [data.train_images[data.train_labels == k].mean(0) for k in range(10)]
  distances = [
    [np.square(image - mean).sum() for mean in means]
    for image in data.test_images.astype(float)
  ]
  found = np.argmin(distances, 1)
  assert np.mean(found == data.test_labels) > 0.99


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), (-1, 5)])
def test_no_synthetic_images_are_refused(counts):
  with pytest.raises(ValueError, match="must be at least 1"):
    synthetic_cifar(*counts)
