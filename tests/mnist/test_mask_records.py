# SPDX-License-Identifier: Apache-2.0
import io
import os
import zipfile

import numpy as np
import pytest

from rigl.mnist.mask_records import MaskRecords

SHAPES = {"layer1": (7, 5), "layer2": (5, 3)}


def random_masks(seed):
  rng = np.random.default_rng(seed)
  return {name: rng.random(shape) < 0.4 for name, shape in SHAPES.items()}


def make_records(num_records):
  records = MaskRecords()
  for index in range(num_records):
    records.add(100 * index, random_masks(index))
  return records


def assert_holds_random_masks(records, num_records):
  assert records.layer_names == list(SHAPES)
  assert records.iterations.dtype == np.int64
  assert records.iterations.tolist() == [100 * i for i in range(num_records)]
  for name, shape in SHAPES.items():
    assert records.masks(name).shape == (num_records, *shape)
    assert records.masks(name).dtype == bool
    for index in range(num_records):
      expected = random_masks(index)[name]
      np.testing.assert_array_equal(records.masks(name)[index], expected)
      np.testing.assert_array_equal(records.mask(name, index), expected)


@pytest.mark.parametrize("num_records", [1, 6])
def test_file_round_trip(tmp_path, num_records):
  path = tmp_path / "mask_records.npz"
  make_records(num_records).save(path)
  assert_holds_random_masks(MaskRecords.load(path), num_records)


@pytest.mark.parametrize("truncated", [False, True])
def test_file_round_trip_without_records(tmp_path, truncated):
  records = MaskRecords()
  if truncated:
    records.add(1, random_masks(0))
    records.truncate(0)
  records.save(tmp_path / "file.npz")
  loaded = MaskRecords.load(tmp_path / "file.npz")
  assert loaded.iterations.tolist() == []
  assert loaded.layer_names == (list(SHAPES) if truncated else [])


def test_file_has_the_documented_arrays_and_needs_no_pickle(tmp_path):
  make_records(4).save(tmp_path / "file.npz")
  with np.load(tmp_path / "file.npz", allow_pickle=False) as archive:
    arrays = dict(archive)
  assert set(arrays) == {
    "iterations",
    *SHAPES,
    *(f"{name}_shape" for name in SHAPES),
  }
  assert arrays["iterations"].dtype == np.int64
  for name, shape in SHAPES.items():
    size = shape[0] * shape[1]
    assert arrays[f"{name}_shape"].dtype == np.int64
    assert arrays[f"{name}_shape"].tolist() == list(shape)
    assert arrays[name].dtype == np.uint8
    assert arrays[name].shape == (4, int(np.ceil(size / 8)))
    bits = np.unpackbits(arrays[name], axis=1)[:, :size].reshape(4, *shape)
    np.testing.assert_array_equal(bits[3], random_masks(3)[name])


def test_masks_are_copied_when_recorded():
  masks = random_masks(0)
  records = MaskRecords()
  records.add(0, masks)
  masks["layer1"][:] = False
  expected = random_masks(0)["layer1"]
  np.testing.assert_array_equal(records.mask("layer1", 0), expected)


@pytest.mark.parametrize(
  ("iteration", "kept"), [(-1, 0), (0, 1), (250, 3), (300, 4), (999, 6)]
)
def test_truncate_keeps_records_up_to_the_iteration(iteration, kept):
  records = make_records(6)
  records.truncate(iteration)
  assert_holds_random_masks(records, kept)


def test_resumed_run_ends_with_the_records_of_an_unbroken_one(tmp_path):
  path = tmp_path / "file.npz"
  # The killed run got to iteration 400, its last checkpoint is of 250.
  killed = make_records(3)
  killed.add(300, random_masks(77))
  killed.add(400, random_masks(78))
  killed.save(path)
  resumed = MaskRecords.load(path)
  resumed.truncate(250)
  for index in range(3, 6):
    resumed.add(100 * index, random_masks(index))
  resumed.save(path)
  assert_holds_random_masks(MaskRecords.load(path), 6)


def test_save_leaves_no_other_file_and_usual_permissions(tmp_path):
  make_records(2).save(tmp_path / "file.npz")
  make_records(3).save(tmp_path / "file.npz")
  (tmp_path / "plain").touch()
  assert sorted(os.listdir(tmp_path)) == ["file.npz", "plain"]
  modes = {path.stat().st_mode for path in tmp_path.iterdir()}
  assert len(modes) == 1


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "file.npz"
  make_records(2).save(path)

  def fail(_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "fsync", fail)
  with pytest.raises(OSError, match="disk full"):
    make_records(5).save(path)
  assert os.listdir(tmp_path) == ["file.npz"]
  assert_holds_random_masks(MaskRecords.load(path), 2)


def test_save_names_a_missing_directory(tmp_path):
  with pytest.raises(FileNotFoundError, match="`.*nowhere` is not a directory"):
    make_records(1).save(tmp_path / "nowhere" / "file.npz")


@pytest.mark.parametrize("iteration", [100, 99, -5])
def test_iterations_must_increase(iteration):
  records = make_records(2)
  with pytest.raises(ValueError, match=f"last record, 100, got {iteration}"):
    records.add(iteration, random_masks(0))
  assert_holds_random_masks(records, 2)


@pytest.mark.parametrize(
  ("masks", "message"),
  [
    ({"layer1": np.ones([7, 5], bool)}, "must hold the layers"),
    ({**random_masks(0), "layer3": np.ones([3, 2], bool)}, "must hold the lay"),
    ({**random_masks(0), "layer2": np.ones([3, 5], bool)}, r"\(5, 3\) as befo"),
    ({**random_masks(0), "layer2": np.ones([5, 3])}, "bool .* got float64"),
  ],
)
def test_masks_unlike_the_first_are_refused_whole(masks, message):
  records = make_records(1)
  with pytest.raises(ValueError, match=message):
    records.add(1, masks)
  assert_holds_random_masks(records, 1)


@pytest.mark.parametrize("name", ["iterations", "file", "layer1_shape"])
def test_names_that_the_format_needs_are_refused(name):
  with pytest.raises(ValueError, match=f"got '{name}'"):
    MaskRecords().add(0, {name: np.ones([2, 2], bool)})


def test_unknown_layer_or_record_is_refused():
  records = make_records(3)
  with pytest.raises(ValueError, match="one of .*'layer1'.*, got 'other'"):
    records.masks("other")
  with pytest.raises(ValueError, match=r"in \[-3, 3\) .*, got 3"):
    records.mask("layer1", 3)
  last = random_masks(2)["layer1"]
  np.testing.assert_array_equal(records.mask("layer1", -1), last)


def npz_bytes(**arrays):
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  return buffer.getvalue()


def valid_arrays():
  return {
    "iterations": np.array([0, 5]),
    "layer1": np.zeros([2, 2], np.uint8),
    "layer1_shape": np.array([3, 4]),
  }


def test_arrays_of_the_documented_format_load(tmp_path):
  (tmp_path / "file").write_bytes(npz_bytes(**valid_arrays()))
  records = MaskRecords.load(tmp_path / "file")
  assert records.masks("layer1").shape == (2, 3, 4)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"iterations": None}, "lacks the array 'iterations'"),
    ({"layer1_shape": None}, "lacks the array 'layer1_shape'"),
    ({"iterations": np.array([5, 5])}, "strictly increasing"),
    ({"iterations": np.array([0.0, 1.0])}, "int64 iterations"),
    ({"iterations": np.array([0, 1, 2])}, r"expected uint8 \(3, 2\)"),
    ({"layer1": np.zeros([2, 3], np.uint8)}, r"expected uint8 \(2, 2\)"),
    ({"layer1": np.zeros([2, 2])}, r"found float64"),
    ({"layer1_shape": np.array([12])}, "two sizes"),
    ({"layer1_shape": np.array([-3, -4])}, "two sizes"),
    ({"layer1": np.array([[{}]])}, "pickle"),
  ],
)
def test_other_archives_are_told_apart(tmp_path, change, message):
  arrays = valid_arrays() | change
  arrays = {name: a for name, a in arrays.items() if a is not None}
  (tmp_path / "file").write_bytes(npz_bytes(**arrays))
  with pytest.raises(ValueError, match=f"not a mask-record file: .*{message}"):
    MaskRecords.load(tmp_path / "file")


def damage(content, how):
  if how == "bit flipped":
    # The first member's compressed data starts behind its header.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      start = archive.infolist()[0].header_offset + 30
    middle = start + 60
    flipped = bytes([content[middle] ^ 0xFF])
    return content[:middle] + flipped + content[middle + 1 :]
  return {
    "cut": content[: len(content) // 2],
    "empty": b"",
    "text": b"hello",
    "npy": b"\x93NUMPY\x01\x00" + bytes(100),
  }[how]


@pytest.mark.parametrize(
  ("how", "message"),
  [
    ("bit flipped", "is corrupt"),
    ("cut", "is corrupt"),
    ("empty", "expected an npz archive"),
    ("text", "expected an npz archive"),
    ("npy", "expected an npz archive"),
  ],
)
def test_damaged_file_is_one_clear_line(tmp_path, how, message):
  path = tmp_path / "file.npz"
  make_records(20).save(path)
  path.write_bytes(damage(path.read_bytes(), how))
  with pytest.raises(ValueError, match=message) as caught:
    MaskRecords.load(path)
  assert f"`{path}`" in str(caught.value)
  assert "\n" not in str(caught.value)


def test_load_names_a_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="`.*nothing.npz`"):
    MaskRecords.load(tmp_path / "nothing.npz")
