# SPDX-License-Identifier: Apache-2.0
"""The published tables: every cell agrees or its row says why it cannot."""

import functools
import pathlib
import subprocess
import sys

import pytest

from rigl import sparse_utils
from rigl.flops.paper import paper_rows, published_values, tables
from rigl.flops.paper.published_values import TABLES

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "paper_tables.py"
ROWS = [(table, row) for table in TABLES for row in table.rows]

# Cells of ResNet-50 that cannot agree; all others do.
DIFFERENT = {
  ("ERK", 0.8): {"size"},
  ("Uniform", 0.8): {"size"},
  ("ERK", 0.965): {"size"},
}


@functools.cache
def all_compared():
  return {table.title: paper_rows.compare(table) for table in TABLES}


def compared(table, row):
  return next(c for c in all_compared()[table.title] if c.row is row)


@pytest.mark.parametrize("table, row", ROWS)
def test_cell_agrees_or_has_a_reason(table, row):
  answer = compared(table, row)
  assert bool(answer.disagreeing) == bool(answer.reasons)
  for column in ("training", "inference", "size"):
    printed, ours = getattr(row, column), getattr(answer.ours, column)
    digits = len(printed.partition(".")[2])
    off = abs(float(printed) - ours) > 0.5 * 10**-digits * (1 + 1e-9)
    assert off == (column in answer.disagreeing), column
  assert not any("not explained" in reason for reason in answer.reasons)


@pytest.mark.parametrize("table, row", ROWS)
def test_differences_are_the_known_ones(table, row):
  known = set(DIFFERENT.get((row.distribution, row.sparsity), ()))
  if row.sparsity == 0.9 and row.distribution == "ERK" and row.length == 1:
    known = {"training"}
  if table is published_values.MOBILENET_V1:
    known = {"training", "inference", "size"}
  assert set(compared(table, row).disagreeing) == known


def test_dense_rows_agree():
  for table in TABLES:
    values, differing = paper_rows.compare_dense(table)
    assert differing == ()
    assert values["size"] == pytest.approx(float(table.dense.size), abs=5e-4)


def test_reasons_hold():
  # Uniform 0.8 has the size of Erdos-Renyi, and ERK 0.965 that of a dense
  # first layer.
  for row, method, dense_first, size in (
    (published_values.RESNET_50.rows[1], "erdos_renyi", False, "23.685"),
    (published_values.RESNET_50.rows[6], "erdos_renyi_kernel", True, "6.904"),
  ):
    setting = paper_rows.setting_of(row, "resnet50")
    custom = {setting.layers[0].name: 0.0} if dense_first else {}
    stats = sparse_utils.get_stats(
      setting.layers, row.sparsity, method, custom, published_rules=True
    )
    assert f"{stats.total_param_bits / 8e6:.3f}" == size == row.size


def test_correct_count_stands_beside_the_published_rules():
  for table, row in ROWS:
    answer = compared(table, row)
    assert answer.correct != answer.ours
    assert answer.correct.inference == pytest.approx(
      answer.ours.inference, rel=0.06
    )


def test_printed_digits_are_rounded():
  assert paper_rows.as_printed("23.683", 23.68364) == "23.684"
  assert paper_rows.as_printed("8.2e9", 8202340776.0) == "8.2e9"
  assert paper_rows.as_printed("4.5e17", 4.44e17) == "4.4e17"
  assert paper_rows.as_printed("5.8", 5.7903) == "5.8"


def test_documentation_has_the_page_that_the_script_writes():
  page = (ROOT / "docs" / "flops_tables.md").read_text(encoding="utf-8")
  assert page == tables.page()
  total, agreeing = tables.counts()
  for name in ("README.md", "docs/flops.md", "docs/flops_tables.md"):
    text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
    assert f"{agreeing} of {total} cells" in text, name


def test_a_changed_cell_is_noticed():
  row = published_values.RESNET_50.rows[2]
  table = published_values.RESNET_50._replace(
    rows=(row._replace(inference="0.25"),)
  )
  (answer,) = paper_rows.compare(table)
  assert answer.disagreeing == ("inference",)
  assert "0.2431" in answer.reasons[0]


def test_notes_are_numbered_once():
  text = tables.render(
    [published_values.RESNET_50, published_values.RESNET_50_1X]
  )
  notes = [line for line in text.splitlines() if line[:2] in ("1.", "2.", "3.")]
  assert len(notes) == len(set(notes)) == 3
  assert "| ERK | 0.8 | 1x |" in text


def run_script(*arguments):
  return subprocess.run(
    [sys.executable, str(SCRIPT), *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env={"PYTHONPATH": str(ROOT)},
  )


def test_script_prints_and_writes_the_tables(tmp_path):
  printed = run_script()
  assert printed.returncode == 0, printed.stderr
  assert tables.render() in printed.stdout
  page = tmp_path / "tables.md"
  assert run_script("--output", str(page)).returncode == 0
  assert page.read_text(encoding="utf-8") == tables.page()
  refused = run_script("--output", str(tmp_path / "missing" / "tables.md"))
  assert refused.returncode == 1
  assert refused.stderr.startswith("error: ")
  assert len(refused.stderr.splitlines()) == 1
