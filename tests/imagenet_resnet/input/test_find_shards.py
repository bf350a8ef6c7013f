# SPDX-License-Identifier: Apache-2.0
"""Which files are the images of a split, and what is said of wrong ones."""

import gzip
import io
import logging
import zlib

import imagenet_files
import pytest
import tensorflow as tf
from PIL import Image

from rigl import files
from rigl.imagenet_resnet.input.find_shards import check_images, find_shards

TFDS_KEYS = ("image", "label")


def record(label=1, keys=("image/encoded", "image/class/label"), image=None):
  jpeg = imagenet_files.jpeg_of(label) if image is None else image
  return imagenet_files.example(jpeg, label, keys)


def write(directory, names, records=None):
  directory.mkdir(parents=True, exist_ok=True)
  for name in names:
    imagenet_files.write(directory / name, records or [record()])


def names_of(shards):
  return [files.path(path).name for path in shards.paths]


def write_split(directory, count=2, split="train", records=None):
  names = [f"{split}-{n:05}-of-{count:05}" for n in range(count)]
  write(directory, names, records)
  return [directory / name for name in names]


@pytest.mark.parametrize(
  "name",
  [
    "a b",
    "[0-9]",
    "*",
    "?",
    "ümlaut",
    "%20",
    "line\nbreak",
    "{split}",
    "$HOME",
  ],
)
def test_directory_may_have_any_name(tmp_path, name):
  write_split(tmp_path / name)
  shards = find_shards(str(tmp_path / name), "train")
  check_images(shards, "train")
  assert names_of(shards) == ["train-00000-of-00002", "train-00001-of-00002"]


def test_files_in_a_bucket_are_found():
  directory = "ram://test_find_shards/data"
  tf.io.gfile.makedirs(directory)
  imagenet_files.write(f"{directory}/train-00000-of-00001", [record()])
  shards = find_shards(directory, "train")
  assert shards.paths == (f"{directory}/train-00000-of-00001",)
  check_images(shards, "train")


@pytest.mark.parametrize(
  "ending", [".part", ".gz", ".crc", ".gstmp", ".incomplete"]
)
def test_unfinished_copies_beside_whole_files_are_left_out(tmp_path, ending):
  paths = write_split(tmp_path)
  (tmp_path / (paths[1].name + ending)).write_bytes(b"half")
  assert len(find_shards(str(tmp_path), "train").paths) == 2


def test_files_may_have_one_ending(tmp_path):
  write(tmp_path, [f"train-0000{n}-of-00002.tfrecord" for n in range(2)])
  assert len(find_shards(str(tmp_path), "train").paths) == 2
  write(tmp_path, [f"train-0000{n}-of-00002.copy" for n in range(2)])
  with pytest.raises(ValueError, match="the endings .copy, .tfrecord; leave"):
    find_shards(str(tmp_path), "train")


def test_missing_files_of_a_set_are_named(tmp_path):
  write_split(tmp_path, 4)[2].unlink()
  with pytest.raises(
    ValueError, match="lacks 1 of the 4 train files: train-00002-of-00004"
  ):
    find_shards(str(tmp_path), "train")


def test_a_name_may_claim_any_number_of_files(tmp_path):
  write(tmp_path, ["train-00001-of-99999999999999999999"])
  with pytest.raises(
    ValueError, match="lacks 9{19}8 of the 9{20} train files"
  ) as caught:
    find_shards(str(tmp_path), "train")
  assert "train-00000000000000000000-of-9" in str(caught.value)


def test_two_sets_are_not_mixed(tmp_path):
  write_split(tmp_path, 2)
  write_split(tmp_path, 3)
  with pytest.raises(ValueError, match=r"2 sets of train files, train-\*-of-2"):
    find_shards(str(tmp_path), "train")


def test_two_data_sets_of_tfds_are_not_mixed(tmp_path):
  for name in ("imagenet2012", "imagenet2012_subset"):
    write(tmp_path, [f"{name}-train.tfrecord-00000-of-00001"])
  with pytest.raises(ValueError, match="2 sets of train files, imagenet2012-t"):
    find_shards(str(tmp_path), "train")


def test_folder_in_place_of_a_file_is_named(tmp_path):
  write_split(tmp_path)[0].unlink()
  (tmp_path / "train-00000-of-00002").mkdir()
  with pytest.raises(ValueError, match="train-00000-of-00002' must be a file"):
    find_shards(str(tmp_path), "train")


def test_newest_of_two_versions_is_read_and_said(tmp_path, caplog):
  for version in ("5.1.0", "5.0.0", "10.0.0", "incomplete.XYZ_5.2.0"):
    folder = tmp_path / "imagenet2012" / version
    write(folder, ["imagenet2012-train.tfrecord-00000-of-00001"])
  with caplog.at_level(logging.WARNING):
    shards = find_shards(str(tmp_path), "train")
  assert [files.path(p).parent.name for p in shards.paths] == ["10.0.0"]
  assert "5.0.0, 5.1.0, 10.0.0; 10.0.0 is read" in caplog.text
  assert shards.image_key == "image" and shards.first_label == 0


@pytest.mark.parametrize("kind", ["array_record", "riegeli", "parquet"])
@pytest.mark.parametrize("folder", ["", "5.1.0", "imagenet2012/5.1.0"])
def test_other_formats_of_tfds_have_a_cure(tmp_path, kind, folder):
  name = f"imagenet2012-train.{kind}-00000-of-00001"
  write(tmp_path / folder, [name])
  with pytest.raises(ValueError, match=f"{kind}.*--file_format=tfrecord"):
    find_shards(str(tmp_path), "train")


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("target", ["nowhere", "train-00001-of-00002"])
def test_link_to_no_file_is_named(tmp_path, target, skips):
  path = write_split(tmp_path)[1]
  path.unlink()
  path.symlink_to(tmp_path / target)
  shards = find_shards(str(tmp_path), "train")
  with pytest.raises(ValueError, match="train-00001-of-00002' cannot be read"):
    check_images(shards, "train", skips)


def test_directory_that_is_none_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "loop").symlink_to(tmp_path / "loop")
  for name, what in (("file", "is a file"), ("none", "does not exist")):
    with pytest.raises(
      FileNotFoundError, match=f"{name}' has no .*: it {what}"
    ):
      find_shards(str(tmp_path / name), "train")
  with pytest.raises(OSError):
    find_shards(str(tmp_path / "loop"), "train")
  with pytest.raises(ValueError, match="`data_directory`: `s3://b/x`: Tensor"):
    find_shards("s3://b/x", "train")


def test_directories_of_another_task_are_said_to_have_no_files(tmp_path):
  (tmp_path / "data_batch_1.bin").write_bytes(b"x")
  with pytest.raises(FileNotFoundError, match="no ImageNet train files"):
    find_shards(str(tmp_path), "train")


def content_of(tmp_path):
  imagenet_files.write(tmp_path / "content", [record()])
  return (tmp_path / "content").read_bytes()


WRONG_FILES = {
  "empty": (lambda content: b"", "no train image: the 2 files hold no record"),
  "gzip": (gzip.compress, "compressed with gzip; decompress it with gzip -d"),
  "zlib": (zlib.compress, "compressed with ZLIB"),
  "page": (lambda _: b"\n<!DOCTYPE html><html>", "is a web page"),
  "lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1", "lfs pull"),
  "text": (lambda _: b"some words in a file", "record at byte 0: "),
  "short": (lambda _: b"word", "the 2 files hold no record"),
  "cut": (lambda content: content[:-50], "record at byte 0: "),
}


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("kind", WRONG_FILES)
def test_files_without_an_image_are_refused_at_once(tmp_path, kind, skips):
  make, said = WRONG_FILES[kind]
  content = make(content_of(tmp_path))
  for path in write_split(tmp_path / "data"):
    path.write_bytes(content)
  shards = find_shards(str(tmp_path / "data"), "train")
  with pytest.raises(ValueError, match=said) as caught:
    check_images(shards, "train", skips)
  assert "\n" not in str(caught.value)
  assert "train-00000-of-00002" in str(caught.value)


WRONG_RECORDS = {
  "bytes": (b"\xff\xfe no example", "is no tf.train.Example"),
  "empty": (b"", "lacks the feature image/encoded; its features: none"),
  "tfds": (record(keys=TFDS_KEYS), "image/encoded; its features: image, label"),
  "unlabelled": (
    record(keys=("image/encoded", "x")),
    "lacks the feature image/class/label",
  ),
  "png": (
    record(image=tf.io.encode_png(imagenet_files.picture(0)).numpy()),
    "must hold a JPEG image: it is a PNG image",
  ),
  "gif": (record(image=b"GIF89a..."), "it is a GIF image"),
  "nothing": (record(image=b""), "must hold a JPEG image: it is of an unknown"),
  "cut": (record(image=imagenet_files.jpeg_of(0)[:200]), "record at byte 0: "),
}


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("kind", WRONG_RECORDS)
def test_records_without_an_image_are_refused_at_once(tmp_path, kind, skips):
  content, said = WRONG_RECORDS[kind]
  write_split(tmp_path, records=[content] * 3)
  shards = find_shards(str(tmp_path), "train")
  with pytest.raises(ValueError, match=said) as caught:
    check_images(shards, "train", skips)
  assert "\n" not in str(caught.value)


def test_search_for_an_image_ends(tmp_path):
  write_split(tmp_path, 2, records=[b""] * 300)
  shards = find_shards(str(tmp_path), "train")
  with pytest.raises(ValueError, match="none of the first 256 train records"):
    check_images(shards, "train", skip_corrupt_records=True)


def test_some_empty_files_are_warned_of(tmp_path, caplog):
  paths = write_split(tmp_path, 3)
  paths[0].write_bytes(b"")
  shards = find_shards(str(tmp_path), "train")
  with caplog.at_level(logging.WARNING):
    check_images(shards, "train")
  assert f"1 train files are empty: {paths[0]}" in caplog.text


def test_damaged_files_before_the_first_image_are_left_out(tmp_path):
  paths = write_split(tmp_path, 3)
  paths[0].write_bytes(gzip.compress(b"x"))
  shards = find_shards(str(tmp_path), "train")
  with pytest.raises(ValueError, match="compressed with gzip"):
    check_images(shards, "train")
  check_images(shards, "train", skip_corrupt_records=True)


def cmyk():
  buffer = io.BytesIO()
  image = Image.fromarray(imagenet_files.picture(0))
  image.convert("CMYK").save(buffer, "JPEG")
  return buffer.getvalue()


@pytest.mark.parametrize(
  "image",
  [
    imagenet_files.jpeg_of(0, height=1, width=1),
    imagenet_files.jpeg_of(0, height=1, width=500),
    imagenet_files.jpeg_of(0, height=3000, width=2),
    tf.io.encode_jpeg(imagenet_files.picture(0)[:, :, :1]).numpy(),
    cmyk(),
  ],
  ids=["1x1", "1x500", "3000x2", "grey", "cmyk"],
)
def test_images_of_any_size_are_read(tmp_path, image):
  write_split(tmp_path, 1, records=[record(image=image)])
  check_images(find_shards(str(tmp_path), "train"), "train")
