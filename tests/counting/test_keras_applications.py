# SPDX-License-Identifier: Apache-2.0
"""Networks of keras.applications, beside TensorFlow's graph profiler."""

import functools
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "keras_applications_table.py"
PAGE = ROOT / "docs" / "keras_applications.md"
# Smallest images, and what is special about the network.
SMALL = {
  "MobileNet": 32,  # Depthwise convolutions.
  "MobileNetV3Small": 32,  # Open sizes, hard swish.
  "Xception": 71,  # Separable convolutions.
  "EfficientNetB0": 32,  # Gates, preprocessing inside.
  "ConvNeXtTiny": 32,  # Grouped convolutions in functions, dense layers.
}


@functools.cache
def table():
  """The script as a module."""
  spec = importlib.util.spec_from_file_location("keras_table", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def lines_of_page():
  """Lines of the table by network."""
  lines = PAGE.read_text(encoding="utf-8").splitlines()
  rows = [n for n in lines if n.startswith("| ")][2:]
  return {row.split("|")[1].strip(): row for row in rows}


@pytest.mark.parametrize("name", SMALL)
def test_multiply_adds_are_those_of_the_profiler(name):
  row = table().count(name, SMALL[name])
  assert row.multiply_adds == row.profiled + row.grouped
  assert (row.grouped > 0) == (name == "ConvNeXtTiny")
  assert row.multiply_adds < row.flops < 2.2 * row.multiply_adds


def test_page_has_all_networks_and_both_counts_are_equal():
  lines = lines_of_page()
  assert list(lines) == table().networks()
  for line in lines.values():
    ours, profiled, grouped = (
      int(cell.replace(",", "").strip() or 0) for cell in line.split("|")[6:9]
    )
    assert ours == profiled + grouped
  text = PAGE.read_text(encoding="utf-8")
  assert text.startswith(table().INTRODUCTION)
  # Howard et al., 2017, https://arxiv.org/abs/1704.04861: 569 million.
  assert lines["MobileNet"].split("|")[6].strip() == "568,740,352"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(lines_of_page()))
def test_page_is_what_the_script_writes(name):
  row = table().count(name)
  assert table().page([row]).splitlines()[-1] == lines_of_page()[name]


def test_unknown_networks_are_refused(capsys):
  assert table().main(["Net"]) == 1
  assert capsys.readouterr().err.startswith("error: `networks` must be out of")


def test_page_that_cannot_be_written_is_not_counted(
  tmp_path, monkeypatch, capsys
):
  def count(name):
    raise AssertionError(name)

  monkeypatch.setattr(table(), "count", count)
  (tmp_path / "file").touch()
  for place in (tmp_path, tmp_path / "no" / "x.md", tmp_path / "file" / "x.md"):
    assert table().main(["MobileNet", f"--output={place}"]) == 1
    error = capsys.readouterr().err
    assert error == (
      "error: `output` must be a file in an existing directory, got "
      f"{str(place)!r}.\n"
    )
