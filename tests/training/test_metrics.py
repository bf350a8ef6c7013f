# SPDX-License-Identifier: Apache-2.0
import collections
import csv

import pytest
import tensorflow as tf

from rigl.training.metrics import MetricsWriter

COLUMNS = ["iteration", "step", "loss", "rate", "test_loss", "test_accuracy"]


def write(writer, iteration):
  writer.write(
    iteration,
    {"iteration": iteration, "step": iteration - 1},
    {"loss": 1 / iteration, "rate": 0.5},
    {"loss": 2 / iteration, "accuracy": 0.25},
  )


def run(directory, iterations, resumed_at=0):
  writer = MetricsWriter(directory, resumed_at)
  for iteration in iterations:
    write(writer, iteration)
  writer.close()


def rows(directory):
  with open(directory / "metrics.csv", newline="") as file:
    return list(csv.reader(file))


def scalars(directory):
  """{tag: {step: value}} of all event files of a directory."""
  found = collections.defaultdict(dict)
  for path in sorted(directory.glob("events.out.tfevents.*")):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        array = tf.make_ndarray(value.tensor)
        found[value.tag][event.step] = float(array)
  return dict(found)


def test_file_has_the_documented_columns_and_a_row_a_call(tmp_path):
  run(tmp_path, [4, 8])
  assert rows(tmp_path) == [
    COLUMNS,
    ["4", "3", "0.25", "0.5", "0.5", "0.25"],
    ["8", "7", "0.125", "0.5", "0.25", "0.25"],
  ]


def test_rows_are_on_the_disk_at_once(tmp_path):
  writer = MetricsWriter(tmp_path)
  write(writer, 4)
  assert len(rows(tmp_path)) == 2
  assert scalars(tmp_path / "eval")


def test_order_of_the_values_does_not_matter(tmp_path):
  writer = MetricsWriter(tmp_path)
  write(writer, 4)
  writer.write(
    8,
    {"step": 7, "iteration": 8},
    {"rate": 0.5, "loss": 0.125},
    {"accuracy": 0.25, "loss": 0.25},
  )
  assert rows(tmp_path)[2] == ["8", "7", "0.125", "0.5", "0.25", "0.25"]


def test_tensorboard_files_hold_train_and_eval_scalars(tmp_path):
  run(tmp_path, [4, 8])
  assert scalars(tmp_path / "train") == {
    "loss": {4: 0.25, 8: 0.125},
    "rate": {4: 0.5, 8: 0.5},
  }
  assert scalars(tmp_path / "eval") == {
    "loss": {4: 0.5, 8: 0.25},
    "accuracy": {4: 0.25, 8: 0.25},
  }


@pytest.mark.parametrize("resumed_at", [4, 8, 12])
def test_resumed_run_forgets_later_rows(tmp_path, resumed_at):
  run(tmp_path, [4, 8, 12])
  again = [n for n in (4, 8, 12, 16) if n > resumed_at]
  run(tmp_path, again, resumed_at)
  run(tmp_path / "undisturbed", [4, 8, 12, 16])
  assert rows(tmp_path) == rows(tmp_path / "undisturbed")


def test_half_written_line_is_forgotten(tmp_path):
  path = tmp_path / "metrics.csv"
  run(tmp_path, [4, 8])
  whole = path.read_text()
  run(tmp_path, [12], resumed_at=8)
  line = path.read_text()[len(whole) :]
  for length in range(len(line)):
    path.write_text(whole + line[:length])
    run(tmp_path, [], resumed_at=12)
    assert path.read_text() == whole


def test_half_written_header_is_forgotten(tmp_path):
  (tmp_path / "metrics.csv").write_text("iteration,st")
  run(tmp_path, [8], resumed_at=4)
  assert [row[0] for row in rows(tmp_path)] == ["iteration", "8"]


def test_run_that_starts_over_forgets_everything(tmp_path):
  run(tmp_path, [4, 8])
  run(tmp_path, [])
  assert rows(tmp_path) == [["iteration"]]
  run(tmp_path, [4])
  assert [row[0] for row in rows(tmp_path)] == ["iteration", "4"]


def test_names_with_commas_and_quotes_survive(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write(1, {"iteration": 1}, {'a,"b"': 1.0}, {})
  run_columns = rows(tmp_path)[0]
  assert run_columns == ["iteration", 'a,"b"']
  MetricsWriter(tmp_path, 1)
  assert rows(tmp_path)[0] == run_columns


def write_row(writer, iteration, train, test):
  writer.write(iteration, {"iteration": iteration}, train, test)


def test_rows_may_have_different_columns(tmp_path):
  """What a row lacks stays empty; new columns come to the end."""
  writer = MetricsWriter(tmp_path)
  write_row(writer, 1, {"loss": 0.5}, {})
  write_row(writer, 2, {"loss": 0.25, "rate": 3.0}, {"loss": 7.0})
  write_row(writer, 3, {"rate": 4.0}, {})
  write_row(writer, 4, {"loss": 0.125}, {"loss": 8.0})
  writer.close()
  assert rows(tmp_path) == [
    ["iteration", "loss", "rate", "test_loss"],
    ["1", "0.5", "", ""],
    ["2", "0.25", "3", "7"],
    ["3", "", "4", ""],
    ["4", "0.125", "", "8"],
  ]
  assert scalars(tmp_path / "eval") == {"loss": {2: 7.0, 4: 8.0}}
  assert not list(tmp_path.glob("*.tmp*"))


def test_resumed_run_keeps_the_columns_of_forgotten_rows(tmp_path):
  writer = MetricsWriter(tmp_path)
  write_row(writer, 1, {"loss": 0.5}, {})
  write_row(writer, 2, {"loss": 0.25}, {"loss": 7.0})
  writer.close()
  writer = MetricsWriter(tmp_path, 1)
  write_row(writer, 2, {"loss": 0.25}, {"loss": 7.0})
  writer.close()
  assert rows(tmp_path) == [
    ["iteration", "loss", "test_loss"],
    ["1", "0.5", ""],
    ["2", "0.25", "7"],
  ]
