# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools

import imagenet_files
import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.input import corrupt_records, imagenet_input
from rigl.imagenet_resnet.input.find_shards import find_shards
from rigl.imagenet_resnet.input.input_settings import DataCursor, InputSettings

SIZES = (7, 5, 9, 6)
NUM_RECORDS = sum(SIZES)
SETTINGS = InputSettings(batch_size=4, image_size=16, shuffle_records=5)
# Records that the corrupt files cut in two.
CORRUPT = (3, 14)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("imagenet")
  imagenet_files.write_split(path, "train", SIZES)
  imagenet_files.write_split(path, "validation", SIZES)
  return str(path)


@pytest.fixture(scope="module")
def corrupt_directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("corrupt")
  imagenet_files.write_split(path, "train", SIZES, CORRUPT)
  imagenet_files.write_split(path, "validation", SIZES, CORRUPT)
  return str(path)


def batches(directory, count, settings=SETTINGS, start=None):
  shards = find_shards(directory, "train")
  dataset = imagenet_input.training_dataset(shards, settings, start)
  return list(itertools.islice(dataset, count))


def labels_of(found):
  return np.concatenate([batch["labels"] for batch in found])


def assert_same(a, b):
  for x, y in zip(a, b, strict=True):
    for name in x:
      np.testing.assert_array_equal(x[name], y[name], err_msg=name)


def test_every_epoch_holds_all_images_in_another_order(directory):
  found = batches(directory, 20)
  assert found[0]["images"].shape == (4, 16, 16, 3)
  assert found[0]["images"].dtype == tf.float32
  epochs = np.concatenate([batch["epoch"] for batch in found])
  first, second = (labels_of(found)[epochs == epoch] for epoch in (0, 1))
  assert sorted(first) == sorted(second) == list(range(NUM_RECORDS))
  assert not np.array_equal(first, second)


def test_images_belong_to_their_labels(directory):
  for batch in batches(directory, 8):
    means = np.mean(batch["images"], (1, 2, 3))
    for mean, label in zip(means, batch["labels"].numpy(), strict=True):
      whole = imagenet_files.picture(label).mean()
      assert abs(mean - whole) < 45  # A crop of it.


def test_order_and_crops_are_a_function_of_the_seed(directory):
  first = batches(directory, 9)
  assert_same(batches(directory, 9), first)
  other = batches(directory, 9, dataclasses.replace(SETTINGS, seed=1))
  assert not np.array_equal(labels_of(other), labels_of(first))


def test_the_global_seed_of_tensorflow_changes_no_order(directory):
  first = batches(directory, 9)
  tf.random.set_seed(5)
  try:
    assert_same(batches(directory, 9), first)
  finally:
    tf.random.set_seed(None)


def position_after(batch):
  return DataCursor(int(batch["epoch"][-1]), int(batch["record"][-1]) + 1)


@pytest.mark.parametrize("after", [1, 6, 7, 12])
def test_resumed_data_go_on_where_they_were(directory, after):
  whole = batches(directory, 15)
  cursor = position_after(whole[after - 1])
  rest = batches(directory, 15 - after, start=cursor)
  assert_same(rest, whole[after:])


def test_hosts_share_the_images_of_an_epoch(directory):
  seen = []
  for host in (0, 1):
    settings = dataclasses.replace(SETTINGS, host=host, num_hosts=2)
    found = batches(directory, 8, settings)
    epochs = np.concatenate([batch["epoch"] for batch in found])
    seen += list(labels_of(found)[epochs == 0])
  assert sorted(seen) == list(range(NUM_RECORDS))


@pytest.mark.parametrize("batch_size", [1, 4, 9, 27, 100])
def test_evaluation_covers_all_images_whatever_the_batch_size(
  directory, batch_size
):
  settings = dataclasses.replace(SETTINGS, batch_size=batch_size)
  shards = find_shards(directory, "validation")
  found = list(imagenet_input.evaluation_dataset(shards, settings))
  assert len(found) == -(-NUM_RECORDS // batch_size)
  assert all(b["images"].shape == (batch_size, 16, 16, 3) for b in found)
  valid = np.concatenate([batch["valid"] for batch in found])
  assert valid.sum() == NUM_RECORDS
  assert sorted(labels_of(found)[valid == 1]) == list(range(NUM_RECORDS))


def test_evaluation_can_have_a_fixed_number_of_batches(directory):
  shards = find_shards(directory, "validation")
  seen = []
  for host in range(3):
    settings = dataclasses.replace(SETTINGS, host=host, num_hosts=3)
    found = list(imagenet_input.evaluation_dataset(shards, settings, 6))
    assert len(found) == 6
    valid = np.concatenate([batch["valid"] for batch in found])
    seen += list(labels_of(found)[valid == 1])
  assert sorted(seen) == list(range(NUM_RECORDS))


def test_bfloat16_images_are_the_rounded_ones(directory):
  settings = dataclasses.replace(SETTINGS, bfloat16=True)
  (rounded,), (exact,) = batches(directory, 1, settings), batches(directory, 1)
  assert rounded["images"].dtype == tf.bfloat16
  expected = tf.cast(exact["images"], tf.bfloat16)
  assert bool(tf.reduce_all(rounded["images"] == expected))


@pytest.mark.parametrize(
  "folder", ["", "5.1.0", "imagenet2012/5.1.0"], ids=["version", "name", "data"]
)
def test_tfds_directories_are_read(tmp_path, folder):
  inside = tmp_path / folder
  inside.mkdir(parents=True, exist_ok=True)
  for split in ("train", "validation"):
    for index in range(2):
      records = [
        imagenet_files.example(
          imagenet_files.jpeg_of(number), number, ("image", "label")
        )
        for number in range(3 * index, 3 * index + 3)
      ]
      name = f"imagenet2012-{split}.tfrecord-{index:05}-of-00002"
      imagenet_files.write(inside / name, records)
  found = batches(str(tmp_path), 3, dataclasses.replace(SETTINGS, batch_size=2))
  assert sorted(labels_of(found)) == list(range(6))


def test_missing_files_are_said_to_be_missing(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"looked for train-\*-of-\*"):
    find_shards(str(tmp_path), "train")
  with pytest.raises(ValueError, match="`split` must be one of .*got 'test'"):
    find_shards(str(tmp_path), "test")


def test_corrupt_image_stops_training_and_is_found(corrupt_directory):
  shards = find_shards(corrupt_directory, "train")
  dataset = imagenet_input.training_dataset(shards, SETTINGS)
  cursor = DataCursor()
  with pytest.raises(tf.errors.InvalidArgumentError):
    for batch in dataset:
      cursor = position_after(batch)
  found = corrupt_records.find_corrupt_record(shards, SETTINGS, cursor)
  all_found = list(shards.corrupt_records())
  assert found in all_found and len(all_found) == len(CORRUPT)
  path, offset, *_ = all_found[0]
  assert path.endswith("train-00000-of-00004")
  sizes = [
    len(imagenet_files.example(imagenet_files.jpeg_of(n), n + 1)) + 16
    for n in range(3)
  ]
  assert offset == sum(sizes)
  assert f"{path}, record at byte {offset}: " in str(all_found[0])


def test_corrupt_images_are_left_out_on_request(corrupt_directory):
  settings = dataclasses.replace(SETTINGS, skip_corrupt_records=True)
  seen = []
  for batch in batches(corrupt_directory, 12, settings):
    seen += [
      label
      for label, epoch in zip(
        batch["labels"].numpy(), batch["epoch"].numpy(), strict=True
      )
      if epoch == 0
    ]
  assert sorted(seen) == sorted(set(range(NUM_RECORDS)) - set(CORRUPT))
  shards = find_shards(corrupt_directory, "validation")
  found = imagenet_input.evaluation_dataset(shards, settings)
  assert sum(np.sum(b["valid"]) for b in found) == NUM_RECORDS - len(CORRUPT)


def test_damaged_file_is_named_or_left_at_the_damage(tmp_path):
  imagenet_files.write_split(tmp_path, "train", (4, 4))
  path = tmp_path / "train-00000-of-00002"
  content = bytearray(path.read_bytes())
  sizes = [
    len(imagenet_files.example(imagenet_files.jpeg_of(n), n + 1)) + 16
    for n in range(2)
  ]
  content[sum(sizes) + 40] ^= 0xFF  # In the third record.
  path.write_bytes(content)
  shards = find_shards(str(tmp_path), "train")
  settings = dataclasses.replace(SETTINGS, batch_size=1)
  cursor = DataCursor()
  with pytest.raises(tf.errors.DataLossError):
    for batch in imagenet_input.training_dataset(shards, settings):
      cursor = position_after(batch)
  found = corrupt_records.find_corrupt_record(shards, settings, cursor)
  assert found[:2] == (str(path), sum(sizes))
  (damage,) = shards.corrupt_records(decode=False)
  assert damage[:2] == (str(path), sum(sizes))
  settings = dataclasses.replace(settings, skip_corrupt_records=True)
  found = batches(str(tmp_path), 6, settings)
  assert sorted(labels_of(found)) == [0, 1, 4, 5, 6, 7]


def test_synthetic_images_need_no_files():
  dataset = imagenet_input.synthetic_dataset(SETTINGS, num_classes=3)
  first, second = itertools.islice(dataset, 2)
  assert_same([first], [second])
  assert first["images"].shape == (4, 16, 16, 3)
  assert np.min(first["labels"]) >= 0 and np.max(first["labels"]) < 3
  assert np.min(first["images"]) >= 0 and np.max(first["images"]) <= 255


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
    ({"image_size": 0}, "`image_size` must be >= 1, got 0"),
    ({"num_hosts": 2, "host": 2}, r"`host` must be in \[0, 1\], got 2"),
  ],
)
def test_impossible_settings_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SETTINGS, **arguments)


def test_more_hosts_than_files_are_refused(directory):
  settings = dataclasses.replace(SETTINGS, num_hosts=5)
  with pytest.raises(ValueError, match="`num_hosts` is 5, but .* only 4 files"):
    batches(directory, 1, settings)
