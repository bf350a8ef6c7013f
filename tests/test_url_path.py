# SPDX-License-Identifier: Apache-2.0
"""Files of a scheme that only TensorFlow reads: `ram://`, kept in memory."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from rigl import file_contents, files
from rigl.url_path import UrlPath


@pytest.fixture
def bucket(request):
  place = files.path(f"ram://bucket/{request.node.name}")
  place.mkdir()
  yield place
  files.remove_tree(place)


@pytest.mark.parametrize(
  "place", ["run", "/tmp/a:b/c", "a:b", "C:/run", "C:\\run", "ümlaut %20\n"]
)
def test_path_without_scheme_is_a_path_on_a_disk(place):
  assert files.path(place) == pathlib.Path(place)


def test_file_scheme_is_a_path_on_a_disk():
  assert files.path("file:///tmp/run") == pathlib.Path("/tmp/run")


@pytest.mark.parametrize(
  "place, said",
  [
    ("s3://bucket/run", "s3://.*copy the files to a disk"),
    ("hdfs://host/run", "hdfs://.*copy the files to a disk"),
    ("https://host/run", "https://.*copy the files to a disk"),
    ("gcs://bucket/run", "did you mean gs://"),
    ("Gs://bucket/run", "did you mean gs://"),
    ("gss://bucket/run", "did you mean gs://"),
    ("flie:///run", "did you mean file://"),
    ("gs:/bucket/run", "two slashes"),
    ("gs:///bucket/run", "two slashes"),
    ("gs://", "two slashes and a name"),
  ],
)
def test_scheme_that_cannot_be_read_is_refused_with_a_cure(place, said):
  with pytest.raises(ValueError, match=said) as caught:
    files.path(place)
  assert "\n" not in str(caught.value)
  with pytest.raises(ValueError, match="`data_directory`: "):
    files.path(place, "data_directory")


def test_what_only_python_writes_is_on_a_disk():
  assert files.on_disk("run", "folder") == pathlib.Path("run")
  assert files.on_disk("file:///run", "folder") == pathlib.Path("/run")
  with pytest.raises(ValueError, match="`folder` must be on a disk, got 'ram:"):
    files.on_disk("ram://run/x", "folder")


def test_parts_of_a_path():
  path = files.path("ram://bucket/run/model.npz/")
  assert str(path) == os.fspath(path) == "ram://bucket/run/model.npz"
  assert (path.name, path.suffix) == ("model.npz", ".npz")
  assert path.parent == UrlPath("ram://bucket/run")
  assert path.parent.parent.parent == UrlPath("ram://bucket")
  assert path.parent / "a b%20" == path.with_name("a b%20")
  assert path.parent.joinpath("x", "y") == UrlPath("ram://bucket/run/x/y")


def test_text_is_written_replaced_and_appended(bucket):
  path = bucket / "zwölf %20.txt"
  for text in ("one\n", "zwölf\n", ""):
    files.write_text(path, text)
    assert path.read_text() == text
  with path.open("a") as file:
    file.write("more")
  assert path.read_bytes() == b"more"
  assert [found.name for found in bucket.iterdir()] == [path.name]


def test_failed_block_leaves_everything_as_it_was(bucket):
  path = bucket / "file.txt"
  files.write_text(path, "old")
  with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
    temporary.write_text("half of the n")
    raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert [found.name for found in bucket.iterdir()] == ["file.txt"]


def test_arrays_are_written_as_an_archive(bucket):
  for compressed in (False, True):
    file_contents.write_arrays(
      bucket / "a.npz", {"x": np.arange(3)}, compressed
    )
    with (bucket / "a.npz").open("rb") as file, np.load(file) as archive:
      np.testing.assert_array_equal(archive["x"], [0, 1, 2])


def test_kinds_of_files_are_told_apart(bucket):
  files.write_text(bucket / "file", "text")
  (bucket / "folder").mkdir()
  kinds = {
    name: (place.exists(), place.is_file(), place.is_dir())
    for name in ("file", "folder", "none")
    for place in [bucket / name]
  }
  assert kinds == {
    "file": (True, True, False),
    "folder": (True, False, True),
    "none": (False, False, False),
  }


def test_names_are_matched_and_removed(bucket):
  for name in ("a.png", "b.png", "c.npz", "x.tmp12"):
    files.write_text(bucket / name, name)
  assert files.matching(f"{bucket}/*.png") == [
    bucket / "a.png",
    bucket / "b.png",
  ]
  assert files.matching(f"{bucket}/*.gif") == [bucket / "*.gif"]
  assert list((bucket / "none").glob("*")) == []
  files.remove_temporaries(bucket)
  assert not (bucket / "x.tmp12").exists()
  files.remove_tree(bucket / "none")
  files.remove_tree(bucket)
  assert not (bucket / "a.png").exists()


def test_missing_files_are_errors_of_python(bucket):
  with pytest.raises(FileNotFoundError, match="`ram://bucket/.*none`: "):
    (bucket / "none").read_text()
  with pytest.raises(FileNotFoundError):
    (bucket / "none").unlink()
  (bucket / "none").unlink(missing_ok=True)
  with pytest.raises(FileNotFoundError):
    list((bucket / "none").iterdir())


@pytest.mark.parametrize(
  "error", [tf.errors.FailedPreconditionError, tf.errors.PermissionDeniedError]
)
def test_unreachable_bucket_is_an_error_of_one_line(error, monkeypatch):
  def fail(path):
    raise error(None, None, f"Could not resolve host\n\twhen reading {path}")

  monkeypatch.setattr(tf.io.gfile, "stat", fail)
  for ask in (UrlPath.exists, UrlPath.is_dir, UrlPath.is_file):
    with pytest.raises(
      OSError, match="`gs://b/run`: Could not .* reading"
    ) as e:
      ask(UrlPath("gs://b/run"))
    assert "\n" not in str(e.value)


def test_pattern_of_a_file_on_a_disk_may_be_its_name(tmp_path):
  for name in ("a[1].png", "a1.png"):
    (tmp_path / name).write_text("")
  assert files.matching(str(tmp_path / "a[1].png")) == [tmp_path / "a[1].png"]
  assert files.matching(str(tmp_path / "a[12].png")) == [tmp_path / "a1.png"]
