# SPDX-License-Identifier: Apache-2.0
"""The tables and plots of the study of all methods, from made-up runs."""

import pathlib
import re
import subprocess
import sys

import pytest
from study_runs import SAVED, STEPS, dense_flops, make_dense, make_run

from rigl.flops.study import page, rows, runs

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "method_study.py"


@pytest.fixture
def study(tmp_path):
  make_dense(tmp_path, 0, 0.94)
  make_dense(tmp_path, 1, 0.95)
  curve = [(1000, 0.5, 0.2), (STEPS, 0.5, 0.6)]
  rigl = make_run(tmp_path, "rigl_itop_erk_0.9", 0, 0.92, curve)
  make_run(tmp_path, "rigl_itop_erk_0.9", 1, 0.93, curve)
  (rigl / "rigl_itop.rigl").write_bytes(b"0" * 3000)
  make_run(
    tmp_path, "static_erk_0.95", 3, end_sparsity=0.95, training_method="static"
  )
  make_run(tmp_path, "rigl_erk_0.9_2x", 0, 0.935, max_steps=2 * STEPS)
  make_run(tmp_path, "set_erk_0.9", 0, None, training_method="set")
  return tmp_path


def cells(text, label):
  """The cells of the rows of a method."""
  return [
    [cell.strip() for cell in line.split("|")[2:-1]]
    for line in text.splitlines()
    if line.startswith(f"| {label} |")
  ]


def test_table_has_a_row_for_each_method(study):
  text = page.table(runs.read_study(study), 0.9)
  (dense,) = cells(text, "dense")
  assert dense[:4] == ["2", "94.50 (94.00..95.00)", "1.000", "1.000"]
  (itop,) = cells(text, "RigL-ITOP")
  assert itop[:2] == ["2", "92.50 (92.00..93.00)"]
  inference = 1 - SAVED / dense_flops()
  assert itop[3] == f"{inference:.3f}"
  # 294,912 bytes less for the zeros, 18,432 more for the mask.
  assert int(dense[4]) - int(itop[4]) == pytest.approx(276, abs=1)
  assert itop[5] == "3"
  (longer,) = cells(text, "RigL, 2x the steps")
  assert longer[:2] == ["1", "93.50"]
  assert longer[5] == ""
  assert not cells(text, "static")


def test_networks_of_other_widths_have_a_table_of_their_own(study):
  wide = {"resnet_width": 4, "training_method": "set"}
  make_run(study, "wrn_22_4_set_erk_0.9", 0, 0.95, **wide)
  make_run(study, "wrn_22_4_set_erk_0.9", 1, 0.96, **wide)
  found = runs.read_study(study)
  assert not cells(page.table(found, 0.9), "SET")
  others = page.table_of_other_networks(found).splitlines()
  assert len(others) == 3
  network, sparsity, label, seeds, accuracy, training, *_ = [
    cell.strip() for cell in others[2].split("|")[1:-1]
  ]
  assert (network, sparsity, label, seeds) == ("WRN-22-4", "0.9", "SET", "2")
  assert accuracy == "95.50 (95.00..96.00)"
  assert float(training) > 3  # Of a network four times as large.
  assert page.page(found, "runs", "study").count("WRN-22-4") == 1
  methods, variants = page.figures(found)["training"].axes
  assert "SET, WRN-22-4" in [line.get_label() for line in variants.lines]
  assert "SET, WRN-22-4" not in [line.get_label() for line in methods.lines]


def test_rows_that_lack_are_named_and_not_made_up(study):
  text = page.page(runs.read_study(study), "runs", "study")
  parts = text.split("## ")
  at = {part.splitlines()[0]: part for part in parts}
  for sparsity, there in (
    ("0.9", {"dense", "RigL-ITOP"}),
    ("0.95", {"dense", "static"}),
    ("0.98", {"dense"}),
  ):
    part = at[f"Sparsity {sparsity}"]
    line = next(n for n in part.splitlines() if n.startswith("Not trained: "))
    named = line.removeprefix("Not trained: ").removesuffix(".").split(", ")
    assert set(named) == set(rows.METHODS.values()) - there
    for label in rows.METHODS.values():
      assert len(cells(part, label)) == (label in there)
  assert "`set_erk_0.9_seed0` (not finished)" in text


def test_without_dense_runs_dense_is_named(tmp_path):
  make_run(tmp_path, "rigl_erk_0.9")
  text = page.page(runs.read_study(tmp_path), "runs", "study")
  assert text.count("Not trained: dense, static") == 3
  assert text.count("| Method |") == 1


@pytest.mark.parametrize(
  "damage, reason",
  [
    (lambda place: (place / "run.json").unlink(), "no run.json"),
    (lambda place: (place / "metrics.csv").unlink(), "no metrics.csv"),
    (lambda place: (place / "run.json").write_text("{"), "run.json is damaged"),
    (
      lambda place: (place / "result.json").write_text("[]"),
      "result.json is damaged",
    ),
    (
      lambda place: (place / "run.json").write_text('{"settings": {}}'),
      "lacks 'training_method'",
    ),
    (
      lambda place: (place / "metrics.csv").write_text("step\n1000\n"),
      "metrics.csv does not end where the run did",
    ),
    (
      lambda place: (place / "metrics.csv").write_text(
        f"step,sparsity/conv\n{STEPS},0.5\n"
      ),
      "the network has no layer 'conv'",
    ),
    (
      lambda place: (place / "metrics.csv").write_text("a\n" + "x" * 200_000),
      "metrics.csv is damaged",
    ),
    (
      lambda place: (place / "metrics.csv").write_text(
        f"step\n2000\n2000\n{STEPS}\n"
      ),
      "do not increase",
    ),
    (
      lambda place: [(place / f"{n}.rigl").write_bytes(b"") for n in "ab"],
      "2 compact files",
    ),
  ],
)
def test_a_damaged_run_is_left_out_and_named(study, damage, reason):
  damage(study / "rigl_itop_erk_0.9_seed1")
  found = runs.read_study(study)
  assert reason in found.left_out["rigl_itop_erk_0.9_seed1"]
  (row,) = cells(page.table(found, 0.9), "RigL-ITOP")
  assert row[:2] == ["1", "92.00"]


@pytest.mark.parametrize(
  "name, settings, reason",
  [
    ("rigl_itop_erk_0.9_seed2", {"max_steps": 9}, "its max_steps is 9, and"),
    ("rigl_itop_erk_0.9_seed2", {"l2": 0.0}, "its l2 is 0.0, and"),
    ("rigl_itop_erk_0.9_seed2", {"seed": 5}, "its seed is 5"),
    ("rigl_erk_0.95_seed2", {}, "its sparsity is 0.9"),
    ("rigl_erk_0.9_seed2", {"training_method": "magic"}, "`method`"),
    ("wrn_22_4_rigl_erk_0.9_seed2", {}, "its network is WRN-22-2"),
    ("notes", {}, "its name does not end with _seed and a number"),
  ],
)
def test_runs_that_do_not_belong_to_a_row_are_left_out(
  study, name, settings, reason
):
  place = make_run(study, "new", **{"seed": 2, **settings})
  place.rename(study / name)
  assert reason in runs.read_study(study).left_out[name]


def test_runs_of_a_row_may_differ_in_what_they_measure(study):
  make_run(study, "rigl_itop_erk_0.9", 2, track_exploration=True)
  assert "rigl_itop_erk_0.9_seed2" not in runs.read_study(study).left_out


def test_plots_have_means_spreads_and_curves(study):
  figures = page.figures(runs.read_study(study))
  assert set(figures) == {"training", "inference", "explored"}
  axes, _ = figures["inference"].axes
  lines = {line.get_label(): line for line in axes.lines}
  assert list(lines["RigL-ITOP"].get_ydata()) == [92.5]
  assert list(lines["dense"].get_ydata()) == [94.5]
  spreads = [
    tuple(n.get_ydata()) for n in axes.lines if len(n.get_xdata()) == 2
  ]
  assert (92.0, 93.0) in spreads
  (axes,) = figures["explored"].axes
  assert axes.get_title() == "sparsity 0.9"
  assert len(axes.lines) == 2
  assert list(axes.lines[0].get_ydata()) == [0.2, 0.6]


def test_a_method_has_one_colour_in_all_plots():
  study = runs.read_study(ROOT / "results" / "cifar10_methods")
  colours = {
    (text.get_text(), handle.get_color())
    for figure in page.figures(study).values()
    for legend in figure.legends
    for text, handle in zip(
      legend.get_texts(), legend.legend_handles, strict=True
    )
  }
  names = [name for name, _ in colours]
  assert len(names) == len(set(names)) > 10


def test_without_a_measurement_there_is_no_plot_of_it(tmp_path):
  make_run(tmp_path, "rigl_erk_0.9")
  study = runs.read_study(tmp_path)
  assert set(page.figures(study)) == {"training", "inference"}
  assert "explored" not in page.page(study, "runs", "study")


def test_results_of_this_repository_are_all_read():
  found = runs.read_study(ROOT / "results" / "cifar10")
  assert not found.left_out
  (rigl,) = cells(page.table(found, 0.9), "RigL")
  assert rigl[:2] == ["2", "93.26 (93.13..93.40)"]


def test_documentation_has_the_page_that_the_script_writes():
  text = (ROOT / "docs" / "method_study.md").read_text(encoding="utf-8")
  command = r"method_study\.py (\S+) --output=docs/method_study\.md"
  directory = re.search(command, text)[1]
  found = runs.read_study(ROOT / directory)
  assert text == page.page(found, directory, "method_study")
  for name in page.figures(found):
    assert (ROOT / "docs" / f"method_study_{name}.png").is_file()


def test_script_prints_and_writes(study, tmp_path_factory):
  place = tmp_path_factory.mktemp("out") / "study.md"

  def run(*arguments):
    return subprocess.run(
      [sys.executable, str(SCRIPT), *map(str, arguments)],
      capture_output=True,
      text=True,
      env={"PYTHONPATH": str(ROOT)},
    )

  printed = run(study)
  assert printed.returncode == 0, printed.stderr
  written = run(study, "--output", place)
  assert written.returncode == 0, written.stderr
  names = {path.name for path in place.parent.iterdir()}
  plots = {"study_training.png", "study_inference.png", "study_explored.png"}
  assert names == {"study.md", *plots}
  text = place.read_text()
  assert all(f"]({name})" in text for name in plots)
  assert cells(text, "dense") == cells(printed.stdout, "dense")
  for wrong in ((study / "no",), (study, "--output", study / "no" / "a.md")):
    refused = run(*wrong)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1
