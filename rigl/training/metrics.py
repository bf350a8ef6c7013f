# SPDX-License-Identifier: Apache-2.0
"""Metrics files: `metrics.csv` and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import files

_CSV_FILE = "metrics.csv"


class MetricsWriter:
  """Writes rows of metrics to a directory.

  Args:
    directory: the directory; TensorBoard's files go to `train` and `eval`
      below it.
    iteration: rows of later iterations are removed, because a resumed run
      writes them again. TensorBoard's files are only removed at iteration 0;
      otherwise they may hold some points twice.
  """

  def __init__(self, directory: files.Path, iteration: int = 0) -> None:
    place = files.path(directory)
    self._path = place / _CSV_FILE
    self._columns = self._keep_rows(iteration)
    if iteration == 0:
      for kind in ("train", "eval"):
        for old in (place / kind).glob("events.out.*"):
          old.unlink()
    self._writers = {
      kind: tf.summary.create_file_writer(str(place / kind))
      for kind in ("train", "eval")
    }
    self._write_scalars = tf.function(
      self._write_scalars_graph, autograph=False
    )

  def write(
    self,
    step: int,
    place: Mapping[str, Any],
    train: Mapping[str, float],
    test: Mapping[str, float],
  ) -> None:
    """Appends a row; columns missing from it are left empty.

    Args:
      step: the step that TensorBoard shows it at.
      place: columns for the place in the run; `iteration` is the first.
      train: metrics of training.
      test: metrics of the evaluation; in the file their names start with
        `test_`.
    """
    row = {**place, **train, **{f"test_{n}": v for n, v in test.items()}}
    self._append(row)
    for kind, values in (("train", train), ("eval", test)):
      if not values:
        continue
      numbers = np.array(list(values.values()), np.float32)
      self._write_scalars(kind, tuple(values), np.int64(step), numbers)
      self._writers[kind].flush()

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes images for TensorBoard.

    Args:
      step: the step that they are shown at.
      images: uint8 [1, height, width, 1] by name.
    """
    with self._writers["train"].as_default(step=step):
      for name, image in images.items():
        tf.summary.image(name, image)
    self._writers["train"].flush()

  def close(self) -> None:
    """Closes the files."""
    for writer in self._writers.values():
      writer.close()

  def _write_scalars_graph(
    self, kind: str, names: tuple[str, ...], step: Any, numbers: Any
  ) -> None:
    """Writes all scalars in one program, which is faster than singly."""
    with self._writers[kind].as_default(step=step):
      for name, number in zip(names, tf.unstack(numbers), strict=True):
        tf.summary.scalar(name, number)

  def _append(self, row: Mapping[str, Any]) -> None:
    new = [column for column in row if column not in self._columns]
    if new:
      self._add_columns(new)
    with self._path.open("a", encoding="utf-8", newline="") as file:
      file.write(_line([row.get(column, "") for column in self._columns]))

  def _add_columns(self, new: list[str]) -> None:
    """Rewrites the file with more columns at its end."""
    self._columns = self._columns + new
    rows = []
    if self._path.exists():
      text = self._path.read_text(encoding="utf-8")
      rows = list(csv.reader(io.StringIO(text)))[1:]
    rows = [row + [""] * (len(self._columns) - len(row)) for row in rows]
    files.write_text(
      self._path, "".join(_line(row) for row in [self._columns, *rows])
    )

  def _keep_rows(self, iteration: int) -> list[str]:
    """Drops rows after an iteration, and half-written ones."""
    if not self._path.exists():
      return []
    text = self._path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(whole)))
    if not rows or iteration == 0:
      self._path.unlink()
      return []
    kept = [row for row in rows[1:] if int(row[0]) <= iteration]
    files.write_text(self._path, "".join(_line(row) for row in rows[:1] + kept))
    return rows[0]


class NoMetrics:
  """A writer that writes nothing, for processes beside the chief."""

  def write(self, *arguments: Any) -> None:
    """Writes nothing."""

  def write_images(self, *arguments: Any) -> None:
    """Writes nothing."""

  def close(self) -> None:
    """Closes nothing."""


def _line(values: list[Any]) -> str:
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerow(
    f"{v:.6g}" if isinstance(v, float) else v for v in values
  )
  return buffer.getvalue()
