# SPDX-License-Identifier: Apache-2.0
"""Every reader gets damaged files: the right values, or one clear error.

`RIGL_DAMAGE_ROUNDS=100` tries a hundred times as many.
"""

import gzip
import io
import json
import random
import warnings
import zipfile

import damage
import keras
import numpy as np
import pytest
import tensorflow as tf

from rigl import files
from rigl.cifar_resnet import cifar_data
from rigl.config import gin_files
from rigl.flops import flops_models
from rigl.mnist import mnist_data
from rigl.mnist.mask_records import MaskRecords
from rigl.predict import images
from rigl.predict.tasks import TASKS
from rigl.training import checkpoints

_RNG = np.random.default_rng(0)
MEMORY = 500e6
TENSORS = {
  "layer1/weights": _RNG.normal(size=[20, 10]).astype(np.float32),
  "layer1/mask": _RNG.random([20, 10]) > 0.5,
  "global_step": np.int64(7),
}
SPECS = [
  {
    "name": "a",
    "kind": "conv2d",
    "kernel_shape": [3, 3, 3, 8],
    "input_size": 32,
    "strides": [1, 1],
    "activation": "relu",
    "use_bias": True,
  },
  {"name": "b", "kind": "dense", "kernel_shape": [8, 10]},
]


def idx():
  sizes = np.array([3, 28, 28], ">u4")
  pixels = _RNG.integers(0, 256, sizes, np.uint8)
  return b"\0\0\x08\x03" + sizes.tobytes() + pixels.tobytes()


def cifar_binary():
  records = _RNG.integers(0, 256, [3, 3073], np.uint8)
  records[:, 0] %= 10
  return records.tobytes()


def npz(values, compressed=False):
  content = io.BytesIO()
  (np.savez_compressed if compressed else np.savez)(content, images=values)
  return content.getvalue()


def photo(encode):
  pixels = _RNG.integers(0, 256, [40, 30, 3], np.uint8)
  return encode(pixels).numpy()


def records(tmp_path):
  found = MaskRecords()
  for iteration in range(3):
    found.add(iteration, {"layer1": _RNG.random((20, 10)) > 0.5})
  found.save(tmp_path / "whole.npz")
  return (tmp_path / "whole.npz").read_bytes()


def keras_file(tmp_path, name):
  model = keras.Sequential(
    [
      keras.layers.Input([8, 8, 3]),
      keras.layers.Conv2D(4, 3),
      keras.layers.Flatten(),
      keras.layers.Dense(5),
    ]
  )
  model.save(tmp_path / name)
  return (tmp_path / name).read_bytes()


def mnist_images(path):
  return images.load_array(path, TASKS["mnist"])


# Content and reader, by file name.
READERS = {
  "idx": (lambda _: idx(), mnist_data.read_idx),
  "idx.gz": (lambda _: gzip.compress(idx()), mnist_data.read_idx),
  "cifar.bin": (
    lambda _: cifar_binary(),
    lambda path: cifar_data._read_binary(path, cifar_data.VERSIONS["cifar10"]),
  ),
  "bytes.npz": (lambda _: npz(np.zeros([2, 784], np.uint8)), mnist_images),
  "packed.npz": (
    lambda _: npz(np.ones([2, 784], np.float32), True),
    mnist_images,
  ),
  "records.npz": (records, MaskRecords.load),
  "photo.png": (
    lambda _: photo(tf.io.encode_png),
    lambda path: images.load_files([path], TASKS["cifar10"]),
  ),
  "photo.jpg": (
    lambda _: photo(tf.io.encode_jpeg),
    lambda path: images.load_files([path], TASKS["imagenet"]),
  ),
  "layers.json": (
    lambda _: json.dumps(SPECS).encode(),
    lambda path: flops_models.load_layers(str(path)),
  ),
  "model.keras": (
    lambda tmp_path: keras_file(tmp_path, "whole.keras"),
    lambda path: flops_models.load_layers(str(path)),
  ),
  "model.h5": (
    lambda tmp_path: keras_file(tmp_path, "whole.h5"),
    lambda path: flops_models.load_layers(str(path)),
  ),
  "config.gin": (
    lambda _: b"include 'base.gin'\nMnistFc.units = (20, 10)\nX = {'a': [1]}\n",
    lambda path: gin_files.parse_gin([str(path)], []),
  ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_error(name, tmp_path):
  make, read = READERS[name]
  whole, path = make(tmp_path), tmp_path / name
  (tmp_path / "base.gin").write_text("MnistFc.units = (20, 30)\n")
  rng, before, refused = random.Random(name), damage.peak_memory(), 0
  path.write_bytes(whole)
  read(path)
  for _ in range(damage.rounds(60)):
    path.write_bytes(damage.damaged(whole, rng))
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
    except (ValueError, OSError) as error:
      assert str(error)
      refused += 1
  assert refused
  assert damage.peak_memory() - before < MEMORY


def same(found):
  return found.keys() == TENSORS.keys() and all(
    found[name].tobytes() == np.asarray(value).tobytes()
    and (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
    for name, value in TENSORS.items()
  )


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_a_damaged_checkpoint_never_gives_other_values(ending, tmp_path):
  prefix = checkpoints.save(tmp_path, 7, TENSORS)
  path = tmp_path / f"model.ckpt-7{ending}"
  whole, rng, refused = path.read_bytes(), random.Random(ending), 0
  for _ in range(damage.rounds(150)):
    path.write_bytes(damage.damaged(whole, rng))
    try:
      assert same(checkpoints.load(prefix))
    except ValueError:
      refused += 1
  assert refused
  path.unlink()
  with pytest.raises(ValueError, match="no readable checkpoint"):
    checkpoints.load(prefix)


@pytest.mark.parametrize(
  ("shape", "dtype"),
  [
    ((10**12, 784), "|u1"),
    ((10**6, 10**6), "<f4"),
    ((2**62, 4), "|u1"),
  ],
)
def test_an_array_that_claims_more_than_its_file_has_is_refused(
  shape, dtype, tmp_path
):
  header = io.BytesIO()
  description = {"descr": dtype, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(header, description)
  path = tmp_path / "claims.npz"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("images.npy", header.getvalue() + bytes(784))
  before = damage.peak_memory()
  with pytest.raises(ValueError, match=r"claims \d+ bytes"):
    files.read_arrays(path)
  assert damage.peak_memory() - before < MEMORY


def test_a_packed_idx_file_is_unpacked_no_further_than_it_claims(tmp_path):
  path = tmp_path / "bomb.gz"
  header = b"\0\0\x08\x01\0\0\0\x05"
  zeros = gzip.compress(bytes(10**6)) * 2000  # 2 GB
  path.write_bytes(gzip.compress(header) + zeros)
  before = damage.peak_memory()
  with pytest.raises(ValueError, match="trailing bytes"):
    mnist_data.read_idx(path)
  assert damage.peak_memory() - before < MEMORY


@pytest.mark.parametrize(
  "change",
  [
    lambda config: config.replace('"Dense"', '"NoSuchLayer"'),
    lambda config: config.replace('"keras.layers"', '"os"'),
    lambda config: "{}",
    lambda config: "no json",
    lambda config: None,
  ],
)
def test_keras_files_of_unknown_layers_are_refused(change, tmp_path):
  keras_file(tmp_path, "whole.keras")
  with (
    zipfile.ZipFile(tmp_path / "whole.keras") as whole,
    zipfile.ZipFile(tmp_path / "other.keras", "w") as other,
  ):
    for name in whole.namelist():
      content = whole.read(name)
      if name == "config.json":
        content = change(content.decode())
      if content is not None:
        other.writestr(name, content)
  with pytest.raises(ValueError, match="`model` must"):
    flops_models.load_layers(str(tmp_path / "other.keras"))
