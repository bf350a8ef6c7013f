# SPDX-License-Identifier: Apache-2.0
"""Every reader gets damaged files: the right values, or one clear error.

`RIGL_DAMAGE_ROUNDS=100` tries a hundred times as many, and
`tests/helpers/fuzz_readers.py` tries them for as long as is wanted.
"""

import gzip
import io
import time
import zipfile

import damage
import fuzz_readers
import numpy as np
import pytest
import reader_cases
import run_files
from tar_support import NEEDS_DATA_FILTER

from rigl import file_contents
from rigl.flops import flops_models
from rigl.mnist import mnist_data
from rigl.training import checkpoints

READERS = [
  pytest.param(name, marks=NEEDS_DATA_FILTER if ".tar" in name else ())
  for name in reader_cases.READERS
]


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_error(name, tmp_path):
  samples = reader_cases.READERS[name].samples
  numbers = range(damage.rounds(samples))
  counts = fuzz_readers.fuzz(name, iter(numbers), tmp_path)
  assert counts.findings == []
  assert counts.tried == len(numbers)


def wrong_error(path):
  raise KeyError(path)


def no_text(path):
  raise ValueError


def too_long(path):
  time.sleep(9)


@pytest.mark.parametrize(
  ("read", "found"),
  [
    (wrong_error, "KeyError"),
    (no_text, "without a text"),
    (too_long, "more than 1 seconds"),
    (None, "more than 500 MB"),
  ],
)
def test_the_fuzzer_finds_what_is_wrong(read, found, tmp_path, monkeypatch):
  monkeypatch.setattr(fuzz_readers, "SECONDS", 1)
  whole = reader_cases.READERS["idx"]
  calls = []

  def at_second_call(path):
    calls.append(path)
    if read is not None and len(calls) == 2:
      read(path)

  if read is None:  # Memory that is really taken would blind later tests.
    monkeypatch.setattr(
      damage, "peak_memory", lambda: 6e8 if len(calls) == 2 else 0
    )
  reader = run_files.Reader("idx", whole.make, at_second_call)
  monkeypatch.setitem(reader_cases.READERS, "idx", reader)
  (finding,) = fuzz_readers.fuzz("idx", iter([7, 8]), tmp_path).findings
  assert finding.startswith("idx, 7: ") and found in finding


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_a_part_of_a_checkpoint_that_is_missing_is_named(ending, tmp_path):
  prefix = checkpoints.save(tmp_path, 7, run_files.TENSORS)
  assert run_files.is_whole(checkpoints.load(prefix))
  (tmp_path / f"model.ckpt-7{ending}").unlink()
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
    file_contents.read_arrays(path)
  assert damage.peak_memory() - before < fuzz_readers.MEMORY


def test_a_packed_idx_file_is_unpacked_no_further_than_it_claims(tmp_path):
  path = tmp_path / "bomb.gz"
  header = b"\0\0\x08\x01\0\0\0\x05"
  zeros = gzip.compress(bytes(10**6)) * 2000  # 2 GB
  path.write_bytes(gzip.compress(header) + zeros)
  before = damage.peak_memory()
  with pytest.raises(ValueError, match="trailing bytes"):
    mnist_data.read_idx(path)
  assert damage.peak_memory() - before < fuzz_readers.MEMORY


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
  reader_cases.keras_file(tmp_path / "whole.keras")
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
