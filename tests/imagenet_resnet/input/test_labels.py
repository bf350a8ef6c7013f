# SPDX-License-Identifier: Apache-2.0
"""Labels that no class of the network has: they are found and named."""

import dataclasses

import imagenet_files
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.input import corrupt_records, imagenet_input
from rigl.imagenet_resnet.input.find_shards import find_shards
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings

CLASSES = 5
SETTINGS = InputSettings(batch_size=2, image_size=16, shuffle_records=1)
KEYS = {
  "train-00000-of-00001": ("image/encoded", "image/class/label"),
  "imagenet2012-train.tfrecord-00000-of-00001": ("image", "label"),
}
NAMES = dict(zip(("published", "tfds"), KEYS, strict=True))


def write(directory, name, labels):
  """Writes a file of records; returns where the last one is."""
  records = [
    imagenet_files.example(imagenet_files.jpeg_of(0), label, KEYS[name])
    for label in labels
  ]
  return imagenet_files.write(directory / name, records)[-1]


def fail_of(dataset):
  with pytest.raises(tf.errors.InvalidArgumentError, match="has no class"):
    for _ in dataset.take(10):
      pass


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(
  "kind, label, allowed",
  [
    ("published", 0, "1 to 5"),
    ("published", 6, "1 to 5"),
    ("published", -3, "1 to 5"),
    ("published", 2**32 + 1, "1 to 5"),
    ("tfds", 5, "0 to 4"),
    ("tfds", -1, "0 to 4"),
    ("tfds", -(2**63), "0 to 4"),
  ],
)
def test_label_without_a_class_is_named(tmp_path, kind, label, allowed, skips):
  name = NAMES[kind]
  offset = write(tmp_path, name, [1, 2, 3, label])
  shards = find_shards(str(tmp_path), "train", CLASSES)
  settings = dataclasses.replace(SETTINGS, skip_corrupt_records=skips)
  fail_of(imagenet_input.training_dataset(shards, settings))
  fail_of(imagenet_input.evaluation_dataset(shards, settings))
  for cursor in (DataCursor(0, 2), None):
    found = corrupt_records.find_corrupt_record(shards, settings, cursor)
    assert found[:2] == (str(tmp_path / name), offset)
    assert f"{KEYS[name][1]} is {label}, but labels go from {allowed}" in str(
      found
    )
    assert "--num_label_classes=5" in found.advice
    assert "--skip_corrupt_records" not in found.advice


@pytest.mark.parametrize("kind, labels", [("published", 1), ("tfds", 0)])
def test_all_labels_of_the_classes_are_read(tmp_path, kind, labels):
  write(tmp_path, NAMES[kind], range(labels, labels + CLASSES))
  shards = find_shards(str(tmp_path), "train", CLASSES)
  dataset = imagenet_input.evaluation_dataset(shards, SETTINGS)
  found = [b["labels"].numpy()[b["valid"].numpy() > 0] for b in dataset]
  assert sorted(int(label) for part in found for label in part) == [*range(5)]


def test_damaged_images_before_a_wrong_label_are_passed_over(tmp_path):
  name = NAMES["published"]
  good, cut = imagenet_files.jpeg_of(0), imagenet_files.jpeg_of(0)[:200]
  offsets = imagenet_files.write(
    tmp_path / name,
    [imagenet_files.example(cut, 1)] * 7
    + [imagenet_files.example(good, 1), imagenet_files.example(good, 9)],
  )
  shards = find_shards(str(tmp_path), "train", CLASSES)
  settings = dataclasses.replace(SETTINGS, skip_corrupt_records=True)
  fail_of(imagenet_input.training_dataset(shards, settings))
  for cursor in (DataCursor(), None):
    found = corrupt_records.find_corrupt_record(shards, settings, cursor)
    assert found.offset == offsets[-1] and found.is_label


def test_without_a_number_of_classes_only_the_first_label_counts(tmp_path):
  write(tmp_path, NAMES["published"], [1, 70_000, 0])
  shards = find_shards(str(tmp_path), "train")
  found = corrupt_records.find_corrupt_record(shards, SETTINGS)
  assert "is 0, but labels start at 1" in str(found)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("change", ["removed", "emptied", "cut"])
def test_files_that_lose_their_records_end_the_stream(tmp_path, change, skips):
  paths = [tmp_path / f"train-0000{n}-of-00002" for n in range(2)]
  for path in paths:
    write(tmp_path, NAMES["published"], [1, 2, 3])
    (tmp_path / NAMES["published"]).rename(path)
  shards = find_shards(str(tmp_path), "train", CLASSES)
  settings = dataclasses.replace(SETTINGS, skip_corrupt_records=skips)
  batches = iter(imagenet_input.training_dataset(shards, settings))
  next(batches)
  for path in paths:
    if change == "removed":
      path.unlink()
    else:
      path.write_bytes(b"" if change == "emptied" else path.read_bytes()[:40])
  with pytest.raises(tf.errors.OpError):
    for _ in range(1000):
      next(batches)


@pytest.mark.parametrize("removed", [0, 1])
def test_removed_file_is_left_out_with_damaged_records(tmp_path, removed):
  paths = [tmp_path / f"train-0000{n}-of-00002" for n in range(2)]
  for label, path in enumerate(paths, start=1):
    write(tmp_path, NAMES["published"], [label] * 3)
    (tmp_path / NAMES["published"]).rename(path)
  shards = find_shards(str(tmp_path), "train", CLASSES)
  paths[removed].unlink()
  settings = dataclasses.replace(SETTINGS, skip_corrupt_records=True)
  for make in (
    imagenet_input.training_dataset,
    imagenet_input.evaluation_dataset,
  ):
    found = make(shards, settings).take(3)
    labels = {int(n) for batch in found for n in batch["labels"][:1]}
    assert labels == {1 - removed}


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 2)])
def test_images_of_any_size_are_trained_on(tmp_path, size):
  jpeg = imagenet_files.jpeg_of(0, height=size[0], width=size[1])
  imagenet_files.write(
    tmp_path / NAMES["published"], [imagenet_files.example(jpeg, 1)]
  )
  shards = find_shards(str(tmp_path), "train", CLASSES)
  (batch,) = imagenet_input.training_dataset(shards, SETTINGS).take(1)
  assert batch["images"].shape == (2, 16, 16, 3)
