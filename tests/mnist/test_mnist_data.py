# SPDX-License-Identifier: Apache-2.0
import gzip
import hashlib
import shutil
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from rigl.mnist import mnist_data
from rigl.mnist.mnist_data import load_mnist, read_idx, synthetic_mnist

# The well-known checksums of the four original files.
MD5 = {
  "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
  "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
  "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
  "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx_bytes(array):
  """An IDX file written byte by byte from the description of the format."""
  header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return header + array.astype(np.uint8).tobytes()


def write_mnist(directory, suffix="", num_labels=5, labels=None, side=28):
  """Writes four small files and returns the arrays of the training split."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, [5, side, side])
  if labels is None:
    labels = np.arange(num_labels) % 10
  pack = gzip.compress if suffix == ".gz" else bytes
  for name in MD5:
    array = images if "images" in name else labels
    (directory / (name + suffix)).write_bytes(pack(idx_bytes(array)))
  return images, labels


@pytest.mark.parametrize("name", MD5)
def test_packaged_files_are_the_original_ones(name):
  path = mnist_data.PACKAGED_DIRECTORY / f"{name}.gz"
  content = gzip.decompress(path.read_bytes())
  assert hashlib.md5(content).hexdigest() == MD5[name]


@pytest.mark.parametrize("directory", [None, ""])
def test_packaged_data_loads_by_default(directory):
  data = load_mnist(directory)
  assert data.train_images.shape == (60000, 784)
  assert data.test_images.shape == (10000, 784)
  assert data.train_images.dtype == data.test_images.dtype == np.uint8
  assert data.train_labels.dtype == data.test_labels.dtype == np.int32
  assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
  assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
  # A file without its 16 bytes of header is the images, row after row.
  path = mnist_data.PACKAGED_DIRECTORY / "t10k-images-idx3-ubyte.gz"
  content = gzip.decompress(path.read_bytes())
  assert content[16:] == data.test_images.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_any_number_of_images_loads_packed_or_not(tmp_path, suffix):
  images, labels = write_mnist(tmp_path, suffix)
  data = load_mnist(str(tmp_path))
  np.testing.assert_array_equal(data.train_images, images.reshape(5, 784))
  np.testing.assert_array_equal(data.test_labels, labels)


def test_read_idx_keeps_the_shape_of_the_header(tmp_path):
  array = np.arange(24).reshape(2, 3, 4)
  (tmp_path / "file").write_bytes(idx_bytes(array))
  result = read_idx(tmp_path / "file")
  assert result.dtype == np.uint8
  np.testing.assert_array_equal(result, array)


def damage(content, how):
  packed = gzip.compress(content)
  flipped = packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]
  return {
    "empty": b"",
    "header cut": content[:6],
    "short": content[:-1],
    "short, packed": gzip.compress(content[:-1]),
    "gzip cut": packed[:-9],
    "gzip start only": packed[:5],
    "gzip checksum": flipped,
    "gzip garbage": packed[:10] + b"\xff" * 20,
    "magic": b"\x00\x00\x0d\x01" + content[4:],
    "no dimensions": b"\x00\x00\x08\x00" + content[4:],
    "text": b"<html>not found</html>",
    "long": content + b"\x00\x00",
  }[how]


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ("empty", "truncated: expected .* 4 bytes, found 0 bytes"),
    ("header cut", "truncated: expected a header of 8 bytes, found 6"),
    ("short", "truncated: expected 18 bytes, found 17"),
    ("short, packed", "truncated: expected 18 bytes, found 17"),
    ("gzip cut", "truncated: expected a whole gzip stream, found"),
    ("gzip start only", "truncated: expected a whole gzip stream, found"),
    ("gzip checksum", "corrupt: expected a valid gzip stream, found"),
    ("gzip garbage", "corrupt: expected a valid gzip stream, found"),
    ("magic", "magic number: expected 0x000008NN .*, found 0x00000d01"),
    ("no dimensions", "magic number: expected 0x000008NN .*found 0x00000800"),
    ("text", "magic number: expected 0x000008NN .*, found 0x3c68746d"),
    ("long", r"trailing bytes: expected 18 bytes .*\(10,\), found 20"),
  ],
)
def test_damaged_file_is_named_with_expected_and_found(tmp_path, how, message):
  path = tmp_path / "labels.gz"
  path.write_bytes(damage(idx_bytes(np.arange(10)), how))
  with pytest.raises(ValueError, match=message) as caught:
    read_idx(path)
  assert f"`{path}`" in str(caught.value)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "content, said",
  [
    (b"\n <!DOCTYPE html><html>...", ": it is a web page: the download failed"),
    (b"PK\x03\x04" + b"x" * 30, ": it is a ZIP archive; unpack it"),
    (gzip.compress(gzip.compress(b"x")), ": it is compressed with gzip; decom"),
    (zlib.compress(b"x"), ": it is compressed with ZLIB"),
  ],
  ids=["web page", "ZIP", "gzip", "ZLIB"],
)
def test_file_of_another_kind_is_named_with_a_cure(tmp_path, content, said):
  path = tmp_path / "train-images-idx3-ubyte"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="wrong magic number.*" + said):
    read_idx(path)


def test_folder_in_place_of_a_file_is_no_file(tmp_path):
  write_mnist(tmp_path)
  (tmp_path / "train-labels-idx1-ubyte").unlink()
  (tmp_path / "train-labels-idx1-ubyte").mkdir()
  with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte.gz or"):
    load_mnist(tmp_path)


def test_wrong_label_is_named_with_its_image(tmp_path):
  write_mnist(tmp_path, labels=np.array([0, 1, 200, 3, 10]))
  with pytest.raises(ValueError, match="found 200 for image 2"):
    load_mnist(tmp_path)


@pytest.mark.parametrize("name", ["a b", "%20", "ü", "[x]", "line\nbreak"])
def test_directory_may_have_any_name(tmp_path, name):
  (tmp_path / name).mkdir()
  write_mnist(tmp_path / name)
  assert len(load_mnist(tmp_path / name).train_images) == 5


def test_files_in_a_bucket_are_read(tmp_path):
  write_mnist(tmp_path)
  folder = "ram://test_mnist_data/data"
  tf.io.gfile.makedirs(folder)
  for path in tmp_path.iterdir():
    with tf.io.gfile.GFile(f"{folder}/{path.name}", "wb") as file:
      file.write(path.read_bytes())
  for a, b in zip(load_mnist(folder), load_mnist(tmp_path), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", ["s3://b/mnist", "gs:/b/mnist", "hdfs://h/m"])
def test_scheme_that_cannot_be_read_is_one_clear_line(place):
  with pytest.raises(ValueError, match="`mnist`: `.*://") as caught:
    load_mnist(place)
  assert "\n" not in str(caught.value)


def test_read_idx_names_a_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="`.*nothing`"):
    read_idx(tmp_path / "nothing")


def test_missing_directory_is_one_clear_line(tmp_path):
  with pytest.raises(FileNotFoundError) as caught:
    load_mnist(tmp_path / "nowhere")
  message = str(caught.value)
  assert "\n" not in message
  assert "nowhere" in message
  assert "leave `--mnist` out" in message
  assert all(name in message for name in MD5)


def test_missing_files_are_all_listed(tmp_path):
  write_mnist(tmp_path)
  (tmp_path / "t10k-images-idx3-ubyte").unlink()
  (tmp_path / "train-labels-idx1-ubyte").unlink()
  with pytest.raises(FileNotFoundError) as caught:
    load_mnist(tmp_path)
  message = str(caught.value)
  assert "t10k-images-idx3-ubyte.gz or t10k-images-idx3-ubyte" in message
  assert "train-labels-idx1-ubyte" in message
  assert "train-images" not in message
  assert "leave `--mnist` out" in message


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_labels": 4}, r"one label for each of the 5 images .*\(4,\)"),
    ({"labels": np.array([0, 1, 2, 3, 10])}, r"in \[0, 9\], found 10"),
    ({"side": 27}, r"28, 28\), found shape \(5, 27, 27\)"),
    ({"labels": np.zeros([5, 2])}, r"found shape \(5, 2\)"),
  ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, settings, message):
  write_mnist(tmp_path, **settings)
  with pytest.raises(ValueError, match=message):
    load_mnist(tmp_path)


def test_a_split_without_images_is_refused(tmp_path):
  write_mnist(tmp_path)
  path = tmp_path / "t10k-images-idx3-ubyte"
  path.write_bytes(idx_bytes(np.zeros([0, 28, 28])))
  with pytest.raises(ValueError, match="count >= 1"):
    load_mnist(tmp_path)


def test_swapped_images_and_labels_are_refused(tmp_path):
  write_mnist(tmp_path)
  images, labels = list(MD5)[:2]
  shutil.copy(tmp_path / labels, tmp_path / images)
  with pytest.raises(ValueError, match=r"`.*train-images.*found shape \(5,\)"):
    load_mnist(tmp_path)


def test_synthetic_data_has_the_types_of_the_real_data():
  data = synthetic_mnist(num_train=30, num_test=7)
  assert data.train_images.shape == (30, 784)
  assert data.test_images.shape == (7, 784)
  assert data.train_images.dtype == np.uint8
  assert data.train_labels.shape == (30,)
  assert data.test_labels.dtype == np.int32


def test_synthetic_data_depends_on_the_seed_only():
  first = synthetic_mnist(50, 10, seed=3)
  np.random.seed(1)
  np.random.random(5)
  for one, other in zip(first, synthetic_mnist(50, 10, seed=3), strict=True):
    np.testing.assert_array_equal(one, other)
  assert np.any(first.train_images != synthetic_mnist(50, 10, 4).train_images)
  assert np.any(first.train_images[:10] != first.test_images)


def test_synthetic_data_is_learnable_by_class_means():
  data = synthetic_mnist()
  images = data.train_images.astype(float)
  means = [images[data.train_labels == digit].mean(0) for digit in range(10)]
  distances = ((data.test_images[:, None] - np.array(means)) ** 2).sum(-1)
  assert np.mean(distances.argmin(1) == data.test_labels) > 0.95


@pytest.mark.parametrize(
  "settings", [{"num_train": 0}, {"num_test": -1}, {"seed": -1}]
)
def test_synthetic_data_refuses_arguments_out_of_range(settings):
  (name,) = settings
  with pytest.raises(ValueError, match=f"`{name}` must be"):
    synthetic_mnist(**settings)
