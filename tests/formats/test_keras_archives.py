# SPDX-License-Identifier: Apache-2.0
"""Keras files are read in bounded time and memory, also damaged ones."""

import json
import subprocess
import time
import zipfile

import damage
import h5py
import numpy as np
import pytest

from rigl.file_contents import DamagedError
from rigl.formats import hdf5_copy, keras_archives

LIMIT = 500e6  # Bytes that a damaged file may take.
SMALL = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3)}


def write(path, arrays=(), **options):
  with h5py.File(path, "w", **options) as file:
    for name, values in dict(arrays).items():
      file[name] = values
  return path


def copied(path):
  target = path.with_name("copy.h5")
  hdf5_copy.copy(path, target)
  return target


def content(path):
  """Everything of a file: {name: (dtype, values)}, with attributes."""
  found = {}

  def note(name, item):
    if isinstance(item, h5py.Dataset):
      empty = item.shape is None
      values = None if empty else np.asarray(item[()]).tolist()
      found[name] = (item.dtype, values)
    else:
      found[name] = ("group", None)
    for key in item.attrs:
      value = item.attrs[key]
      text = np.asarray(value).tolist() if not is_empty(value) else None
      found[f"{name}@{key}"] = (item.attrs.get_id(key).dtype, text)

  with h5py.File(path) as file:
    note("", file)
    file.visititems(note)
  return found


def is_empty(value):
  return isinstance(value, h5py.Empty)


def test_a_copy_has_all_arrays_and_attributes(tmp_path):
  path = tmp_path / "model.h5"
  with h5py.File(path, "w", libver="latest") as file:
    group = file.create_group("layer/inner", track_order=True)
    group["float16"] = np.ones([3, 2], np.float16)
    group["scalar"] = np.int64(7)
    group["none"] = np.zeros([0, 4])
    group["empty"] = h5py.Empty("f4")
    group["text"] = "a word"
    group["words"] = [b"one", b"three"]
    group.create_dataset(
      "packed", data=np.eye(300), compression="gzip", chunks=(100, 100)
    )
    group.create_dataset("raw", data=np.zeros(4, "V2"), dtype="V2")
    file.attrs["config"] = '{"name": "ä"}'
    file.attrs["bytes"] = b"tensorflow"
    file.attrs["names"] = [b"kernel:0", b"bias"]
    file.attrs["words"] = ["kernel", "bias"]
    file.attrs["long"] = np.bytes_(b"x" * 200_000)
    file.attrs["empty"] = h5py.Empty("S10")
    file.attrs["nothing"] = np.zeros([0])
    group.attrs["number"] = 2.5
  found = content(path)
  assert content(copied(path)) == found
  assert len(found) == 19


def test_a_link_is_not_followed(tmp_path):
  other = write(tmp_path / "other.h5", SMALL)
  path = write(tmp_path / "model.h5", SMALL)
  with h5py.File(path, "a") as file:
    file["soft"] = h5py.SoftLink("/weights")
    file["hard"] = file["weights"]
    file["out"] = h5py.ExternalLink(str(other), "/weights")
  names = content(copied(path)).keys()
  assert len(names & {"weights", "hard"}) == 1
  assert not names & {"soft", "out"}


def claims_chunks(file):
  file.create_dataset("a", (2**34,), "f4", chunks=(1000,))


def claims_one_chunk(file):
  values = file.create_dataset(
    "a", (2**20, 2**10), "f4", chunks=(10, 10), compression="gzip"
  )
  values[:10, :10] = 1


def claims_numbers(file):
  file.create_dataset("a", (2**32, 2**20), "f4")


def is_elsewhere(file):
  outside = [(f"{file.filename}.raw", 0, h5py.h5f.UNLIMITED)]
  file.create_dataset("a", (10,), "f4", external=outside)


def is_virtual(file):
  layout = h5py.VirtualLayout((4,), "f4")
  layout[:] = h5py.VirtualSource(f"{file.filename}.other", "a", (4,))
  file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
  "spoil, message",
  [
    (claims_chunks, "/a claims 68719476736 bytes"),
    (claims_one_chunk, "/a claims 4294967296 bytes"),
    (claims_numbers, "/a claims"),
    (is_elsewhere, "are in other files"),
    (is_virtual, "are in other files"),
  ],
)
def test_an_array_that_claims_more_than_the_file_holds_is_refused(
  spoil, message, tmp_path
):
  path = write(tmp_path / "model.h5", SMALL)
  with h5py.File(path, "a") as file:
    spoil(file)
  before = damage.peak_memory()
  with pytest.raises(ValueError, match=message):
    copied(path)
  assert damage.peak_memory() - before < LIMIT


def test_an_array_of_zeros_may_be_packed_as_well_as_it_can_be(tmp_path):
  path = tmp_path / "model.h5"
  with h5py.File(path, "w") as file:
    zeros = np.zeros([40, 2**20], np.float32)
    file.create_dataset("a", data=zeros, compression=9, chunks=(1, 2**20))
  assert path.stat().st_size < 40 * 2**22 / 900
  with h5py.File(copied(path)) as file:
    assert file["a"].nbytes == 40 * 2**22


@pytest.fixture
def program(tmp_path, monkeypatch):
  """Replaces the program that copies."""

  def replace(text):
    path = tmp_path / "program.py"
    path.write_text(text)
    monkeypatch.setattr(hdf5_copy, "__file__", str(path))

  return replace


def test_reading_that_does_not_end_is_ended(program, monkeypatch, tmp_path):
  program("while True: pass")
  monkeypatch.setattr(hdf5_copy, "_SECONDS", 0.3)
  path = write(tmp_path / "model.h5", SMALL)
  began = time.monotonic()
  with pytest.raises(ValueError, match="does not end"):
    copied(path)
  assert time.monotonic() - began < 20


def test_a_crash_of_the_library_is_one_error(program, tmp_path):
  program("import os; os.abort()")
  with pytest.raises(ValueError, match="library cannot read it"):
    copied(write(tmp_path / "model.h5", SMALL))


def test_memory_beyond_what_the_file_needs_is_refused(tmp_path, program):
  source = hdf5_copy.__file__
  program(
    f"import runpy; module = runpy.run_path({source!r}, run_name='copy')\n"
    "module['_limit_memory'](10**6)\n"
    "bytes(10**6)\n"
    "try:\n"
    "  bytes(4 * 10**8)\n"
    "except MemoryError:\n"
    "  print('ValueError: no memory')\n"
  )
  with pytest.raises(ValueError, match="no memory"):
    copied(write(tmp_path / "model.h5", SMALL))


@pytest.mark.parametrize("size", [10_000, 10**9, 10**11])
def test_the_time_grows_with_the_file(size, monkeypatch, tmp_path):
  """Up to 20 seconds for a small file, and a slow disk's for a large one."""
  limits = []

  def run(command, *, timeout, **options):
    limits.append((timeout, int(command[-1])))
    return subprocess.CompletedProcess(command, 0, "", "")

  monkeypatch.setattr(subprocess, "run", run)
  path = tmp_path / "model.h5"
  with path.open("wb") as file:
    file.truncate(size)  # It takes no place on the disk.
  copied(path)
  ((seconds, cpu_seconds),) = limits
  slow = size / 20e6  # Bytes per second.
  assert max(5, slow) < seconds < 15 + 4 * slow
  assert seconds <= cpu_seconds < seconds + 1


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_is_no_archive_is_left_to_keras(suffix, tmp_path):
  path = tmp_path / f"model{suffix}"
  path.write_bytes(b"no model")
  if suffix == ".h5":
    with pytest.raises(OSError, match="signature"):
      keras_archives.readable(path).__enter__()
    return
  with keras_archives.readable(path) as file:
    assert file == path


CODE = ["4wAAAA==", None, None]


@pytest.mark.parametrize(
  ("settings", "is_refused"),
  [
    # Of Keras 2 and of Keras 3.
    ({"function": CODE, "function_type": "lambda"}, True),
    ({"function": {"class_name": "__lambda__", "config": {}}}, True),
    ({"output_shape": CODE, "output_shape_type": "lambda"}, True),
    ({"function": "relu", "function_type": "function"}, False),
    ({"units": 3, "name": "lambda"}, False),
  ],
)
def test_python_code_in_an_hdf5_file_is_refused(tmp_path, settings, is_refused):
  layers = [{"class_name": "Lambda", "config": settings}]
  model = {"class_name": "Sequential", "config": {"layers": layers}}
  path = write(tmp_path / "model.h5")
  with h5py.File(path, "r+") as file:
    file.attrs["model_config"] = json.dumps(model)
  if is_refused:
    with pytest.raises(ValueError, match="Lambda layer holds Python code"):
      keras_archives.readable(path).__enter__()
    return
  with keras_archives.readable(path) as copy:
    assert copy != path


@pytest.mark.parametrize("config", ["no json", b"[", 3, h5py.Empty("f")])
def test_other_settings_of_an_hdf5_file_are_left_to_keras(tmp_path, config):
  path = write(tmp_path / "model.h5")
  with h5py.File(path, "r+") as file:
    file.attrs["model_config"] = config
  with keras_archives.readable(path) as copy:
    assert copy != path


def test_a_wrong_checksum_is_named(tmp_path):
  path = tmp_path / "model.keras"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("config.json", "{}")
    archive.writestr("model.weights.h5", b"weights" * 100)
  with keras_archives.readable(path) as file:
    assert file == path
  data = path.read_bytes()
  path.write_bytes(data.replace(b"weights" * 50, b"weighty" * 50, 1))
  with (
    pytest.raises(DamagedError, match="model.weights.h5 is wrong"),
    keras_archives.readable(path),
  ):
    pass


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path):
  path = tmp_path / "model.keras"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("model.weights.h5", bytes(10**6))
  data = path.read_bytes()
  # Of the central directory, whose size counts.
  claim = (10**6).to_bytes(4, "little")
  path.write_bytes(data[:100] + data[100:].replace(claim, b"\xff\xff\xff\x7f"))
  with (
    pytest.raises(DamagedError, match="unpack to 2147483647"),
    keras_archives.readable(path),
  ):
    pass


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_that_claim_more_than_the_file_holds_are_refused(
  suffix, tmp_path
):
  keras = pytest.importorskip("keras")
  path = tmp_path / f"model{suffix}"
  keras.Sequential([keras.Input([1000]), keras.layers.Dense(5)]).save(path)
  if suffix == ".h5":
    with h5py.File(path, "r+") as file:
      text = file.attrs["model_config"]
      file.attrs["model_config"] = text.replace('"units": 5', '"units": 500000')
  else:
    with zipfile.ZipFile(path) as archive:
      parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
      for name, part in parts.items():
        archive.writestr(name, part.replace(b'"units": 5', b'"units": 500000'))
  before = damage.peak_memory()
  with (
    pytest.raises(DamagedError, match="more weights than the file"),
    keras_archives.readable(path) as file,
  ):
    keras.models.load_model(file, compile=False)
  assert damage.peak_memory() - before < LIMIT


@pytest.mark.parametrize(
  "name, version, sentence",
  [
    (
      "a.keras",
      "2.15.0",
      " (a file of Keras 3 needs Keras 3; installed: 2.15.0).",
    ),
    ("a.h5", "2.15.0", ""),
    ("a.keras", "3.15.0", ""),
  ],
)
def test_a_file_that_an_old_keras_may_not_load_gets_advice(
  name, version, sentence
):
  assert keras_archives.advice(name, version) == sentence
