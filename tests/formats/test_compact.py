# SPDX-License-Identifier: Apache-2.0
"""Compact files: what is read is what was written, or one clear error."""

import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from damage import damaged, rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigl import file_contents
from rigl.formats import compact

ROOT = pathlib.Path(__file__).resolve().parents[2]


def network(sparsity=0.9, seed=0):
  """Tensors of a checkpoint: a sparse kernel, a dense one, vectors, a step."""
  rng = np.random.default_rng(seed)
  mask = rng.random((3, 3, 40, 30)) >= sparsity
  kernel = np.where(mask, rng.normal(0, 0.05, mask.shape), 0)
  return {
    "conv/weights": kernel.astype(np.float32),
    "conv/mask": mask.astype(np.float32),
    "last/weights": rng.normal(0, 1, (30, 10)).astype(np.float32),
    "last/biases": rng.normal(0, 1, 10).astype(np.float32),
    "global_step": np.int64(7),
  }


def written(folder, tensors=None, **options):
  place = folder / "network.rigl"
  compact.write(place, tensors or network(), overwrite=True, **options)
  return place


def assert_same_bits(found, expected):
  assert set(found) == set(expected)
  for name, value in expected.items():
    value = np.asarray(value)
    assert found[name].dtype == value.dtype, name
    assert found[name].shape == value.shape, name
    assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("compression", ["zlib", "none"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_tensors_are_read_bit_by_bit(tmp_path, sparsity, compression):
  tensors = network(sparsity)
  place = written(tmp_path, tensors, compression=compression)
  assert_same_bits(compact.CompactFile(place).tensors(), tensors)


_SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)


@settings(
  max_examples=60,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
  shape=_SHAPES,
  dtype=st.sampled_from(
    ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"]
  ),
  density=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
  compression=st.sampled_from(["zlib", "none"]),
  seed=st.integers(0, 99),
)
def test_any_tensor_is_read_as_it_was(
  tmp_path, shape, dtype, density, compression, seed
):
  rng = np.random.default_rng(seed)
  mask = rng.random(shape) < density
  values = np.where(mask, rng.normal(0, 9, shape), 0).astype(dtype)
  place = written(tmp_path, {"x": values}, compression=compression)
  assert_same_bits(compact.CompactFile(place).tensors(), {"x": values})


def test_infinities_and_nans_survive(tmp_path):
  values = np.zeros([50, 50], np.float32)
  values[0, :3] = np.inf, -np.inf, np.nan
  place = written(tmp_path, {"x": values})
  assert_same_bits(compact.CompactFile(place).tensors(), {"x": values})


def test_weights_that_a_mask_made_negative_zeros_are_left_out(tmp_path):
  values = -np.ones([50, 50], np.float32) * (np.arange(50) < 5)
  assert np.signbit(values).all()
  file = compact.CompactFile(written(tmp_path, {"x": values}))
  assert len(file.values("x")) == 250
  np.testing.assert_array_equal(file.tensor("x"), values)


def test_active_weights_that_are_zero_stay_active(tmp_path):
  tensors = network()
  active = np.argwhere(tensors["conv/mask"])[0]
  tensors["conv/weights"][tuple(active)] = 0.0
  file = compact.CompactFile(written(tmp_path, tensors))
  assert file.mask("conv/weights")[tuple(active)]
  assert len(file.values("conv/weights")) == tensors["conv/mask"].sum()


def test_uncompressed_values_are_views_of_the_file(tmp_path):
  place = written(tmp_path, compression="none")
  values = compact.CompactFile(place).values("conv/weights")
  assert isinstance(values, np.memmap) and not values.flags.owndata
  tensors = network()
  expected = tensors["conv/weights"][tensors["conv/mask"] != 0]
  np.testing.assert_array_equal(values, expected)


def test_the_uncompressed_size_is_bits_and_values(tmp_path):
  tensors = network()
  place = written(tmp_path, tensors, compression="none")
  active, size = int(tensors["conv/mask"].sum()), tensors["conv/mask"].size
  counted = active * 4 + size / 8 + 300 * 4 + 10 * 4
  assert counted < place.stat().st_size < counted + 1400  # The header.


@pytest.mark.parametrize("sparsity", [0.8, 0.9, 0.98])
def test_compression_comes_near_the_information_of_the_masks(
  tmp_path, sparsity
):
  rng = np.random.default_rng(1)
  mask = rng.random((1000, 1000)) >= sparsity
  tensors = {"x/weights": mask.astype(np.float32), "x/mask": mask}
  size = written(tmp_path, tensors).stat().st_size
  density = mask.mean()
  entropy = -density * np.log2(density) - sparsity * np.log2(sparsity)
  assert size < 1.12 * entropy * mask.size / 8 + 6000


def test_halves_are_rounded_once_and_vectors_are_not(tmp_path):
  tensors = network()
  found = compact.CompactFile(written(tmp_path, tensors, dtype="float16"))
  kernel = tensors["conv/weights"]
  rounded = kernel.astype(np.float16).astype(np.float32)
  np.testing.assert_array_equal(found.tensor("conv/weights"), rounded)
  np.testing.assert_array_equal(
    found.tensor("last/biases"), tensors["last/biases"]
  )
  assert found.values("conv/weights").dtype == np.float16


def test_values_beyond_float16_are_refused(tmp_path):
  tensors = {"x": np.full([20, 20], 1e5, np.float32)}
  with pytest.raises(ValueError, match="`dtype` must be float32 for 'x'"):
    written(tmp_path, tensors, dtype="float16")
  assert [*tmp_path.iterdir()] == []


def test_metadata_is_kept(tmp_path):
  metadata = {"task": "mnist", "nested": {"a": [1, 2.5, None]}}
  place = written(tmp_path, metadata=metadata)
  assert compact.CompactFile(place).metadata == metadata


def test_an_existing_file_is_not_replaced_unless_asked(tmp_path):
  place = written(tmp_path)
  before = place.read_bytes()
  with pytest.raises(ValueError, match="exists"):
    compact.write(place, {"x": np.zeros(3, np.float32)})
  assert place.read_bytes() == before
  compact.write(place, {"x": np.zeros(3, np.float32)}, overwrite=True)
  assert compact.CompactFile(place).names == ["x"]
  with pytest.raises(ValueError, match="exists"):
    compact.write(tmp_path, {}, overwrite=True)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  place = written(tmp_path)
  before = place.read_bytes()

  def fail(self, content):
    self.open("wb").write(content[:100])
    raise OSError("disk full")

  monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
  with pytest.raises(OSError, match="disk full"):
    written(tmp_path)
  monkeypatch.undo()
  assert place.read_bytes() == before
  assert [path.name for path in tmp_path.iterdir()] == ["network.rigl"]


@pytest.mark.parametrize(
  "arguments, named",
  [
    ({"dtype": "int8"}, "`dtype`"),
    ({"compression": "lzma"}, "`compression`"),
    ({"masks": {"y": np.ones(3)}}, "`masks`"),
    ({"masks": {"last/weights": np.ones(3)}}, "'last/weights'"),
    ({"masks": {"last/weights": np.zeros([30, 10])}}, "must be zero"),
  ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, named):
  with pytest.raises(ValueError, match=named):
    written(tmp_path, **arguments)
  assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("dtype", ["complex64", "U3", object])
def test_other_types_are_refused(tmp_path, dtype):
  with pytest.raises(ValueError, match="'x' must have one of the types"):
    written(tmp_path, {"x": np.zeros([2], dtype)})


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_every_damaged_bit_is_noticed(tmp_path, compression):
  place = written(tmp_path, compression=compression)
  content = place.read_bytes()
  rng = random.Random(0)
  places = [*range(100), *(rng.randrange(len(content)) for _ in range(200))]
  places.append(len(content) - 1)  # Of the zeros at the end.
  for number in places:
    flipped = bytearray(content)
    flipped[number] ^= 1 << rng.randrange(8)
    place.write_bytes(flipped)
    with pytest.raises(ValueError, match="compact file") as caught:
      compact.CompactFile(place).tensors()
    assert "\n" not in str(caught.value)


def test_any_damage_ends_in_one_line(tmp_path):
  place = written(tmp_path)
  content = place.read_bytes()
  for seed in range(rounds(200)):
    changed = damaged(content, random.Random(seed))
    if changed == content:
      continue
    place.write_bytes(changed)
    with pytest.raises(ValueError, match="compact file") as caught:
      compact.CompactFile(place).tensors()
    assert "\n" not in str(caught.value)


def with_header(content, change):
  """A file with another header, whose checksum is right."""
  length = struct.unpack_from("<Q", content, 16)[0]
  packed = zlib.decompressobj().decompress(content[32 : 32 + length])
  header = json.loads(packed)
  change(header)
  text = zlib.compress(json.dumps(header).encode())
  text = text.ljust(-(-(32 + len(text)) // 64) * 64 - 32, b"\0")
  rest = content[32 + length :]
  fixed = struct.pack(
    "<8sIIQQ",
    compact.MAGIC,
    1,
    zlib.crc32(text),
    len(text),
    32 + len(text) + len(rest),
  )
  return fixed + text + rest


def _change(*path):
  *places, name, value = path

  def change(header):
    for place in places:
      header = header[place]
    header[name] = value

  return change


_KERNEL = ("tensors", 0)


@pytest.mark.parametrize(
  "change",
  [
    _change("tensors", None),
    _change("tensors", [1]),
    _change("metadata", 3),
    _change(*_KERNEL, "shape", [1 << 60, 1 << 60]),
    _change(*_KERNEL, "shape", [-1]),
    _change(*_KERNEL, "shape", [3, 3, 40, 29]),
    _change(*_KERNEL, "dtype", "object"),
    _change(*_KERNEL, "stored_dtype", "float64"),
    _change(*_KERNEL, "name", None),
    _change(*_KERNEL, "name", "last/weights"),
    _change(*_KERNEL, "values", {}),
    _change(*_KERNEL, "values", "offset", 1 << 62),
    _change(*_KERNEL, "values", "offset", -64),
    _change(*_KERNEL, "values", "length", 1 << 40),
    _change(*_KERNEL, "values", "length", 4),
    _change(*_KERNEL, "values", "codec", "pickle"),
    _change(*_KERNEL, "mask", None),
    _change(*_KERNEL, "mask", "full"),
  ],
)
def test_headers_that_lie_are_refused(tmp_path, change):
  place = written(tmp_path)
  place.write_bytes(with_header(place.read_bytes(), change))
  with pytest.raises(file_contents.DamagedError, match="damaged compact file"):
    compact.CompactFile(place).tensors()


def test_a_later_version_is_named(tmp_path):
  place = written(tmp_path)
  content = bytearray(place.read_bytes())
  content[8] = 2
  place.write_bytes(content)
  with pytest.raises(ValueError, match="version is 2.* reads version 1"):
    compact.CompactFile(place)


@pytest.mark.parametrize(
  "content, named",
  [
    (b"", "something else"),
    (b"\x93RIG", "something else"),
    (b"PK\x03\x04" + b"x" * 99, "ZIP archive"),
    (b"<!doctype html>", "web page"),
    (compact.MAGIC, "ends within"),
  ],
)
def test_other_files_are_told_apart(tmp_path, content, named):
  place = tmp_path / "x.rigl"
  place.write_bytes(content)
  with pytest.raises(ValueError, match=named):
    compact.CompactFile(place)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="There is no compact file"):
    compact.CompactFile(tmp_path / "none.rigl")
  assert not compact.is_compact(tmp_path / "none.rigl")
  assert not compact.is_compact(tmp_path)


def test_files_are_read_without_tensorflow(tmp_path):
  place = written(tmp_path)
  program = (
    "import sys; from rigl.formats.compact import CompactFile; "
    f"print(len(CompactFile({os.fspath(place)!r}).tensors())); "
    "assert 'tensorflow' not in sys.modules and 'pickle' not in vars()"
  )
  run = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
  )
  assert (run.returncode, run.stdout.strip()) == (0, "5"), run.stderr
