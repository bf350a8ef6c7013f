# SPDX-License-Identifier: Apache-2.0
"""CIFAR-100: its official files, its classes, and mix-ups with CIFAR-10."""

import json

import numpy as np
import pytest
import tensorflow as tf
from cifar_runs import SHORT, only_run

from rigl.cifar_resnet.cifar_data import VERSIONS, load_cifar, synthetic_cifar
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.training import checkpoints

RECORD = 3074
CIFAR10_FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + [
  "test_batch.bin"
]


def records_of(coarse, fine, images):
  """The bytes of an official file: two labels, then the planes."""
  content = b""
  for first, second, image in zip(coarse, fine, images, strict=True):
    content += bytes([first, second]) + image.transpose(2, 0, 1).tobytes()
  return content


def write(folder, train=6, test=3, seed=0):
  """Writes the files; returns fine labels and images of both."""
  rng = np.random.default_rng(seed)
  folder.mkdir(parents=True, exist_ok=True)
  written = []
  for name, count in (("train.bin", train), ("test.bin", test)):
    fine = rng.integers(0, 100, count)
    images = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    coarse = rng.integers(0, 20, count)
    (folder / name).write_bytes(records_of(coarse, fine, images))
    written += [images, fine]
  return written


@pytest.mark.parametrize("inside", ["", "cifar-100-binary"])
def test_official_files_give_fine_labels_and_images(tmp_path, inside):
  written = write(tmp_path / inside)
  data = load_cifar(tmp_path, "cifar100")
  for found, expected in zip(data, written, strict=True):
    np.testing.assert_array_equal(found, expected)
  assert data.train_labels.dtype == np.int32


def test_files_in_a_bucket_are_read(tmp_path):
  train_images, *_ = write(tmp_path)
  folder = "ram://test_cifar100/data"
  tf.io.gfile.makedirs(folder)
  for name in ("train.bin", "test.bin"):
    with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
      file.write((tmp_path / name).read_bytes())
  data = load_cifar(folder, "cifar100")
  np.testing.assert_array_equal(data.train_images, train_images)


def test_superclasses_are_not_taken_for_classes(tmp_path):
  image = np.zeros((1, 32, 32, 3), np.uint8)
  for name in ("train.bin", "test.bin"):
    (tmp_path / name).write_bytes(records_of([19], [99], image))
  assert load_cifar(tmp_path, "cifar100").train_labels.tolist() == [99]


@pytest.mark.parametrize(
  "content, said",
  [
    (b"", "expected records of 3074 bytes, found 0 bytes"),
    (b"x" * (RECORD - 1), "expected records of 3074 bytes, found 3073 bytes"),
    (b"\x1f\x8b" + b"x" * 50, "found 52 bytes: it is compressed with gzip"),
    (b"<html>" + b"x" * 50, "it is a web page: the download failed"),
    (b"\x00\x00" + b"x" * 3072 + b"\x00\x64" + b"x" * 3072, "100 in record 1"),
  ],
)
@pytest.mark.parametrize("name", ["train.bin", "test.bin"])
def test_damaged_file_is_named(tmp_path, name, content, said):
  write(tmp_path)
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=said) as caught:
    load_cifar(tmp_path, "cifar100")
  assert f"`{tmp_path / name}` is damaged" in str(caught.value)


@pytest.mark.parametrize("name", ["train.bin", "test.bin"])
def test_missing_file_or_a_folder_in_its_place_is_named(tmp_path, name):
  write(tmp_path)
  (tmp_path / name).unlink()
  with pytest.raises(ValueError, match=f"lacks {name}. .*cifar-100-binary"):
    load_cifar(tmp_path, "cifar100")
  (tmp_path / name).mkdir()
  with pytest.raises(ValueError, match=f"lacks {name}. "):
    load_cifar(tmp_path, "cifar100")


@pytest.mark.parametrize("folder", ["", "cifar-100-binary"])
def test_files_of_cifar100_are_not_taken_for_cifar10(tmp_path, folder):
  write(tmp_path / folder)
  with pytest.raises(ValueError, match="CIFAR-100, not.*--dataset=cifar100"):
    load_cifar(tmp_path, "cifar10")


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin"])
def test_files_of_cifar10_are_not_taken_for_cifar100(tmp_path, folder):
  (tmp_path / folder).mkdir(exist_ok=True)
  for name in CIFAR10_FILES:
    (tmp_path / folder / name).write_bytes(b"\x00" * 3073)
  with pytest.raises(ValueError, match="CIFAR-10, not.*--dataset=cifar10"):
    load_cifar(tmp_path, "cifar100")


def test_both_data_sets_may_be_in_one_directory(tmp_path):
  write(tmp_path / "cifar-100-binary")
  (tmp_path / "cifar-10-batches-bin").mkdir()
  for name in CIFAR10_FILES:
    (tmp_path / "cifar-10-batches-bin" / name).write_bytes(b"\x07" * 3073)
  assert load_cifar(tmp_path, "cifar10").train_labels.tolist() == [7] * 5
  assert len(load_cifar(tmp_path, "cifar100").train_labels) == 6


def test_tfds_gives_fine_labels(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  asked = []

  def load(name, split, **_):
    asked.append((name, split))
    return {
      "image": np.zeros((2, 32, 32, 3), np.uint8),
      "label": np.array([99, labels[-1]]),
      "coarse_label": np.array([1, 2]),
    }

  monkeypatch.setattr(tfds, "load", load)
  monkeypatch.setattr(tfds, "as_numpy", lambda found: found)
  labels = [98]
  assert load_cifar(tmp_path, "cifar100").test_labels.tolist() == [99, 98]
  assert asked == [("cifar100", "train"), ("cifar100", "test")]
  for wrong in (100, -1):
    labels.append(wrong)
    with pytest.raises(ValueError, match=rf"\[0, 99\], found {wrong} in train"):
      load_cifar(tmp_path, "cifar100")


def test_unknown_data_set_is_named():
  with pytest.raises(ValueError, match="`dataset` must be one of .*'cifar'"):
    load_cifar("", "cifar")


def test_class_names_are_one_for_each_class():
  names = VERSIONS["cifar100"].class_names
  assert len(names) == len(set(names)) == 100
  assert list(names) == sorted(names)
  assert (names[0], names[1], names[99]) == ("apple", "aquarium_fish", "worm")
  assert VERSIONS["cifar10"].class_names[3] == "cat"


def test_synthetic_images_have_as_many_classes():
  data = synthetic_cifar(2000, 10, dataset="cifar100")
  assert set(data.train_labels.tolist()) == set(range(100))


# --- Settings -----------------------------------------------------------------


def test_number_of_classes_follows_the_data_set():
  assert CifarSettings().num_classes == 10
  assert CifarSettings(dataset="cifar100").num_classes == 100
  assert CifarSettings(dataset="cifar100", num_classes=100).num_classes == 100


@pytest.mark.parametrize(
  "arguments, said",
  [
    (
      ["--num_classes=100"],
      "must be 10 for `dataset`=cifar10, got 100; --data",
    ),
    (["--num_classes=11"], "must be 10 for `dataset`=cifar10, got 11."),
    (
      ["--dataset=cifar100", "--num_classes=10"],
      "must be 100 for `dataset`=cifar100, got 10; --dataset=cifar10 has them",
    ),
    (["--dataset=cifar100", "--num_classes=20"], "must be 100 for"),
    (["--dataset=imagenet"], "--dataset=imagenet"),
  ],
)
def test_classes_of_another_data_set_are_refused(
  shell, tmp_path, arguments, said
):
  outcome = shell(*SHORT, f"--train_dir={tmp_path}", *arguments)
  assert outcome.code == 1
  assert said in outcome.err and outcome.err.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


def test_a_run_trains_100_classes_and_comes_back(shell, eagerly, tmp_path):
  write(tmp_path / "data", train=320, test=20)
  arguments = [
    *SHORT,
    "--use_synthetic_data=false",
    "--dataset=cifar100",
    f"--data_directory={tmp_path / 'data'}",
    f"--train_dir={tmp_path / 'runs'}",
    "--training_method=baseline",
    "--mode=train_and_eval",
    "--per_class_metrics=false",
    "--max_steps=2",
  ]
  shell.done(*arguments)
  run = only_run(tmp_path / "runs")
  settings = json.loads((run / "run.json").read_text())["settings"]
  assert settings["num_classes"] == 100 and "dataset" not in settings
  tensors = checkpoints.load_latest(run)
  assert tensors["resnet_model/logits/logits/biases"].shape == (100,)
  assert "is finished" in shell.done(*arguments, "--num_classes=100")
