# SPDX-License-Identifier: Apache-2.0
"""A damaged `metrics.csv` is repaired, and nothing of it is lost."""

import csv

import pytest

from rigl.training import event_files, metrics_table
from rigl.training.metrics import MetricsWriter

COLUMNS = "iteration,step,epoch,loss,rate,test_loss"
ROWS = ["4,3,0,0.25,0.5,", "8,7,1,0.125,0.5,0.75", "12,11,1,0.1,0.5,0.7"]
WHOLE = "\n".join([COLUMNS, *ROWS, ""])


def write(writer, iteration):
  losses = {4: 0.25, 8: 0.125, 12: 0.1, 16: 0.05}
  tests = {8: {"loss": 0.75}, 12: {"loss": 0.7}}
  place = {"iteration": iteration, "step": iteration - 1}
  writer.write(
    iteration,
    {**place, "epoch": iteration // 8},
    {"loss": losses[iteration], "rate": 0.5},
    tests.get(iteration, {}),
  )


@pytest.fixture
def path(tmp_path):
  writer = MetricsWriter(tmp_path)
  for iteration in (4, 8, 12):
    write(writer, iteration)
  writer.close()
  file = tmp_path / "metrics.csv"
  assert file.read_text() == WHOLE
  return file


def resume(path, iteration=12):
  MetricsWriter(path.parent, iteration).close()
  return path.read_text()


@pytest.mark.parametrize(
  "text",
  [
    WHOLE.replace("\n8,", "\n\n8,"),
    "\n" + WHOLE,
    WHOLE + "\n\n",
    WHOLE.replace("\n8,", "\n  \n8,"),
    WHOLE.replace("\n", "\r\n"),
    WHOLE + "16,15,2,0.0",
  ],
  ids=["blank", "first", "last", "spaces", "windows", "half"],
)
def test_what_is_no_damage_costs_nothing(path, text, caplog):
  path.write_bytes(text.encode())
  assert resume(path) == WHOLE
  assert caplog.text == ""
  assert not list(path.parent.glob("*.damaged*"))


LOST_PLACE = WHOLE.replace("8,7,1,", "8,,,")


@pytest.mark.parametrize(
  "text, expected",
  [
    # The header is damaged; the rows are whole.
    (WHOLE.replace(COLUMNS, ""), WHOLE),
    (WHOLE.replace(COLUMNS, "iteration,st"), WHOLE),
    (
      WHOLE.replace(COLUMNS, "iter\0tion,step,epoch,loss,rate,test_loss"),
      WHOLE,
    ),
    (WHOLE.replace("epoch,", ","), WHOLE),
    (WHOLE.replace(COLUMNS, COLUMNS.replace("rate", "loss")), WHOLE),
    (WHOLE[len(COLUMNS) :], WHOLE),
    (WHOLE[len(COLUMNS) + 1 :], WHOLE),
    # A row is damaged.
    (
      WHOLE.replace("\n12,", "\n2,"),
      WHOLE.replace("12,11,1,", "12,,,"),
    ),
    (WHOLE + ROWS[0] + "\n", WHOLE),
    (WHOLE.replace("8,7,1,0.125,0.5,0.75\n", "8,7,1,0.1\n"), LOST_PLACE),
    (WHOLE.replace("8,7,1,", "8,x,1,"), LOST_PLACE),
    (WHOLE.replace("8,7,1,", "?,7,1,"), LOST_PLACE),
    (WHOLE.replace("8,7,1,", "8,7,1\0,"), LOST_PLACE),
    (WHOLE.replace("8,7,1,0.125", "8,7,1,0.125,0.125"), LOST_PLACE),
  ],
)
def test_damage_is_repaired_from_tensorboards_files(
  path, text, expected, caplog
):
  path.write_text(text)
  assert resume(path) == expected
  assert path.with_name("metrics.csv.damaged").read_text() == text
  assert f"`{path}`" in caplog.text
  assert "repaired from TensorBoard's files: 3 rows" in caplog.text
  caplog.clear()
  assert resume(path) == expected
  assert caplog.text == ""


@pytest.mark.parametrize("text", [None, "", "\n\n", "\0\0\0", "iteration,st"])
def test_a_lost_file_is_made_again(path, text):
  path.unlink()
  if text is not None:
    path.write_text(text)
  found = resume(path, 8)
  assert found == "\n".join(
    [COLUMNS, "4,,,0.25,0.5,", "8,,,0.125,0.5,0.75", ""]
  )
  copies = [p.name for p in path.parent.glob("metrics.csv.*")]
  assert copies == ([] if text is None else ["metrics.csv.damaged"])


def test_a_repaired_file_goes_on(path):
  path.write_text(WHOLE.replace(COLUMNS, ""))
  writer = MetricsWriter(path.parent, 12)
  write(writer, 16)
  writer.close()
  assert path.read_text() == WHOLE + "16,15,2,0.05,0.5,\n"


def test_without_tensorboards_files_what_is_lost_is_said(path, caplog):
  for file in path.parent.rglob("events.out.*"):
    file.unlink()
  text = WHOLE.replace(COLUMNS, "")
  path.write_text(text)
  MetricsWriter(path.parent, 12)
  assert path.with_name("metrics.csv.damaged").read_text() == text
  assert "the row of iteration 8 is lost" in caplog.text


def test_every_damaged_file_keeps_its_copy(path):
  for number in ("", "2", "3"):
    path.write_text(f"broken{number}\n")
    resume(path)
    copy = path.with_name(f"metrics.csv.damaged{number}")
    assert copy.read_text() == f"broken{number}\n"


def test_rows_that_are_removed_stay_in_a_copy(path):
  assert resume(path, 4) == "\n".join([COLUMNS, ROWS[0], ""])
  assert path.with_name("metrics.csv.old").read_text() == WHOLE
  MetricsWriter(path.parent, 0)
  assert path.read_text() == "iteration\n"
  old = path.with_name("metrics.csv.old").read_text()
  assert old == "\n".join([COLUMNS, ROWS[0], ""])


def test_event_files_of_a_run_that_starts_over_are_kept(path):
  train = path.parent / "train"
  before = {p.read_bytes() for p in train.iterdir()}
  MetricsWriter(path.parent, 0).close()
  assert event_files.read_scalars(train) == {}
  kept = {p.read_bytes() for p in train.iterdir() if "tfevents" not in p.name}
  assert kept == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_damaged_event_files_give_what_comes_before(path, share):
  (file,) = (path.parent / "train").glob("events.out.*")
  whole = event_files.read_scalars(path.parent / "train")
  assert list(whole) == [4, 8, 12]
  content = bytearray(file.read_bytes())
  content[int(share * len(content)) :] = b"\xff" * 20
  file.write_bytes(content)
  found = event_files.read_scalars(path.parent / "train")
  for step, values in found.items():
    assert values.items() <= whole[step].items()


def test_rows_may_be_bounded_by_another_column(path):
  MetricsWriter(path.parent, 7, "step").close()
  with path.open(newline="") as file:
    assert [row["step"] for row in csv.DictReader(file)] == ["3", "7"]


def test_a_table_without_damage_has_no_problems():
  table = metrics_table.parse(WHOLE)
  assert table.columns == COLUMNS.split(",")
  assert [",".join(row) for row in table.rows] == ROWS
  assert table.problems == []
