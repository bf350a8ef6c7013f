# SPDX-License-Identifier: Apache-2.0
"""Every reader of files that a user or another program may have damaged."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import imagenet_files
import numpy as np
import run_files
import tensorflow as tf
from run_files import Reader

from rigl.cifar_resnet import cifar_data
from rigl.config import gin_files
from rigl.distribution import cluster
from rigl.flops import flops_models
from rigl.imagenet_resnet.input import (
  corrupt_records,
  find_shards,
  imagenet_input,
  record_order,
)
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings
from rigl.imagenet_resnet.published import archives
from rigl.mnist import mnist_data
from rigl.predict import images
from rigl.predict.tasks import TASKS

_RNG = np.random.default_rng(0)
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
_GIN = "include 'base.gin'\nMnistFc.units = (20, 10)\nX = {'a': [1, -2.5e3]}\n"
_CLUSTER = {
  "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"], "ps": ["d:4"]},
  "task": {"type": "worker", "index": 1},
}


def idx(*sizes: int) -> bytes:
  """An IDX file of random bytes."""
  header = bytes([0, 0, 8, len(sizes)]) + np.array(sizes, ">u4").tobytes()
  return header + _RNG.integers(0, 256, sizes, np.uint8).tobytes()


def keras_file(path: pathlib.Path) -> None:
  """Writes a small Keras model."""
  import keras

  keras.Sequential(
    [
      keras.layers.Input([8, 8, 3]),
      keras.layers.Conv2D(4, 3),
      keras.layers.Flatten(),
      keras.layers.Dense(5),
    ]
  ).save(path)


def _content(make: Callable[[], bytes | str]) -> Callable[[Any], None]:
  def write(path: pathlib.Path) -> None:
    content = make()
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(data)

  return write


def _cifar_records(name: str) -> bytes:
  version = cifar_data.VERSIONS[name]
  records = _RNG.integers(0, 256, [3, version.record_bytes], np.uint8)
  records[:, : version.label_bytes] %= version.num_classes
  return records.tobytes()


def _read_cifar(name: str) -> Callable[[Any], Any]:
  version = cifar_data.VERSIONS[name]
  return lambda path: cifar_data._read_binary(path, version)


def _npz(values: np.ndarray, compressed: bool = False) -> bytes:
  content = io.BytesIO()
  (np.savez_compressed if compressed else np.savez)(content, images=values)
  return content.getvalue()


def _picture(encode: Callable[[Any], Any]) -> bytes:
  pixels = _RNG.integers(0, 256, [40, 30, 3], np.uint8)
  return bytes(encode(pixels).numpy())


def _tfrecords(path: pathlib.Path) -> None:
  records = [
    imagenet_files.example(imagenet_files.jpeg_of(n), n + 1) for n in range(3)
  ]
  imagenet_files.write(path, records)


@functools.cache
def _batches(directory: str, split: str, skips: bool) -> Any:
  """An input: its files, settings and batches; only the files may change."""
  settings = InputSettings(
    2, 32, skip_corrupt_records=skips, parallel_calls=1, shuffle_records=4
  )
  shards = find_shards.find_shards(directory, split, 20)
  if split == "train":
    batches = imagenet_input.training_dataset(shards, settings).take(3)
  else:
    batches = imagenet_input.evaluation_dataset(shards, settings)
  return shards, settings, batches


def _train_on(skips: bool) -> Callable[[pathlib.Path], None]:
  """Reads as a training does: checks first, and names the damage then."""

  def read(path: pathlib.Path) -> None:
    found = find_shards.find_shards(str(path.parent), "train", 20)
    find_shards.check_images(found, "train", skips)
    shards, settings, batches = _batches(str(path.parent), "train", skips)
    cursor = DataCursor()
    try:
      for batch in batches:
        epoch, record = int(batch["epoch"][-1]), int(batch["record"][-1])
        cursor = DataCursor(epoch, record + 1)
    except tf.errors.OpError as error:
      _name_damage(shards, settings, cursor, error)

  return read


def _evaluate_on(skips: bool) -> Callable[[pathlib.Path], None]:
  """Reads as an evaluation does."""

  def read(path: pathlib.Path) -> None:
    found = find_shards.find_shards(str(path.parent), "validation", 20)
    find_shards.check_images(found, "validation", skips)
    shards, settings, batches = _batches(str(path.parent), "validation", skips)
    try:
      for _ in batches:
        pass
    except tf.errors.OpError as error:
      _name_damage(shards, settings, None, error)

  return read


# A pipeline is built once, which takes longer than to read a file.
_epochs = functools.cache(record_order.epochs)


def _name_damage(
  shards: Any, settings: Any, cursor: Any, error: Exception
) -> None:
  with mock.patch.object(record_order, "epochs", _epochs):
    found = corrupt_records.find_corrupt_record(shards, settings, cursor)
  if found is None:
    raise AssertionError("the damage is not found") from error
  raise ValueError(found.advice) from error


def _saved_model(path: pathlib.Path) -> None:
  module = tf.Module()
  module.kernel = tf.Variable(tf.ones([4, 3]))
  spec = tf.TensorSpec([None, 4])
  call = tf.function(lambda x: x @ module.kernel, input_signature=[spec])
  tf.saved_model.save(module, str(path.parent), {"serving_default": call})


def _archive(mode: str) -> Callable[[pathlib.Path], None]:
  def make(path: pathlib.Path) -> None:
    files = {
      f"run/{run_files.CHECKPOINT}.index": b"i" * 50,
      f"run/{run_files.CHECKPOINT}.data-0": b"d" * 500,
    }
    if not mode:
      with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
          archive.writestr(name, content)
      return
    with tarfile.open(path, mode) as tar:
      for name, content in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))

  return make


def _unpack(path: pathlib.Path) -> None:
  out = path.parent / "out"
  archives.newest_checkpoint(archives.unpack(path, out))
  inside = {p for p in path.parent.rglob("*") if out in p.parents}
  assert {*path.parent.rglob("*")} <= {path, out} | inside


def _roles(path: pathlib.Path) -> None:
  text = path.read_bytes().decode("utf-8", "replace").replace("\0", "")
  with mock.patch.dict(os.environ, {cluster.TF_CONFIG: text}):
    found = cluster.read()
    assert found.role


def _gin_files(path: pathlib.Path) -> None:
  (path.parent / "base.gin").write_text("MnistFc.units = (20, 30)\n")
  path.write_text(_GIN)


def _flops(path: pathlib.Path) -> None:
  flops_models.load_layers(str(path))


_ROWS = (
  Reader("idx", _content(lambda: idx(3, 28, 28)), mnist_data.read_idx),
  Reader(
    "idx.gz",
    _content(lambda: gzip.compress(idx(3, 28, 28))),
    mnist_data.read_idx,
  ),
  *(
    Reader(f"{n}.bin", _content(lambda n=n: _cifar_records(n)), _read_cifar(n))
    for n in cifar_data.VERSIONS
  ),
  Reader("train-00000-of-00001", _tfrecords, _train_on(False), samples=3),
  Reader(
    "train-00000-of-00001", _tfrecords, _train_on(True), "skipped", samples=3
  ),
  Reader(
    "validation-00000-of-00001", _tfrecords, _evaluate_on(False), samples=3
  ),
  Reader(
    "validation-00000-of-00001",
    _tfrecords,
    _evaluate_on(True),
    "skipped",
    samples=3,
  ),
  Reader(
    "bytes.npz",
    _content(lambda: _npz(np.zeros([2, 784], np.uint8))),
    lambda path: images.load_array(path, TASKS["mnist"]),
  ),
  Reader(
    "packed.npz",
    _content(lambda: _npz(np.ones([2, 784], np.float32), True)),
    lambda path: images.load_array(path, TASKS["mnist"]),
  ),
  Reader(
    "photo.png",
    _content(lambda: _picture(tf.io.encode_png)),
    lambda path: images.load_files([path], TASKS["cifar10"]),
  ),
  Reader(
    "photo.jpg",
    _content(lambda: _picture(tf.io.encode_jpeg)),
    lambda path: images.load_files([path], TASKS["imagenet"]),
  ),
  Reader(
    "layers.json", _content(lambda: json.dumps(SPECS)), _flops, is_text=True
  ),
  Reader("model.keras", keras_file, _flops),
  Reader("model.h5", keras_file, _flops, samples=3),
  Reader(
    "saved_model.pb",
    _saved_model,
    lambda path: _flops(path.parent),
    samples=20,
  ),
  Reader(
    "config.gin",
    _gin_files,
    lambda path: gin_files.parse_gin([str(path)], []),
    is_text=True,
  ),
  Reader(
    "base.gin",
    lambda path: _gin_files(path.parent / "config.gin"),
    lambda path: gin_files.parse_gin([str(path.parent / "config.gin")], []),
    is_text=True,
  ),
  Reader("archive.tar", _archive("w"), _unpack),
  Reader("archive.tar.gz", _archive("w:gz"), _unpack),
  Reader("archive.zip", _archive(""), _unpack),
  Reader(
    "TF_CONFIG", _content(lambda: json.dumps(_CLUSTER)), _roles, is_text=True
  ),
)
READERS = {reader.key: reader for reader in (*_ROWS, *run_files.READERS)}
