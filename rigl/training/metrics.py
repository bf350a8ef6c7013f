# SPDX-License-Identifier: Apache-2.0
"""Metrics files: `metrics.csv` and TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.training import event_files, metrics_table

METRICS_FILE = "metrics.csv"


class MetricsWriter:
  """Writes rows of metrics to a directory.

  Args:
    directory: the directory; TensorBoard's files go to `train` and `eval`
      below it.
    iteration: rows of later iterations are removed, because a resumed run
      writes them again. At 0 TensorBoard's files are set aside; otherwise they
      may hold some points twice.
    column: the column whose number `iteration` bounds.

  A file that is damaged is repaired from TensorBoard's files. What it was
  before stays in `metrics.csv.damaged`, and what it was before rows were
  removed in `metrics.csv.old`.

  Raises:
    ValueError: if `train` or `eval` is a file.
    OSError: if a file cannot be read or written.
  """

  def __init__(
    self,
    directory: files.Path,
    iteration: int = 0,
    column: str = metrics_table.ITERATION,
  ) -> None:
    self._directory = files.path(directory)
    self._path = self._directory / METRICS_FILE
    for folder in (self._directory / "train", self._directory / "eval"):
      if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{folder}` must be a directory, got a file.")
    self._columns = self._keep_rows(iteration, column)
    if iteration == 0:
      for kind in ("train", "eval"):
        event_files.set_aside(self._directory / kind)
    self._writers = {
      kind: tf.summary.create_file_writer(str(self._directory / kind))
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
      cells = [row.get(column, "") for column in self._columns]
      file.write(metrics_table.line(cells))

  def _add_columns(self, new: list[str]) -> None:
    """Rewrites the file with more columns at its end."""
    self._columns = self._columns + new
    rows = []
    if self._path.exists():
      text = self._path.read_text(encoding="utf-8")
      rows = metrics_table.parse(text).rows
    rows = [row + [""] * (len(self._columns) - len(row)) for row in rows]
    files.write_text(self._path, metrics_table.render(self._columns, rows))

  def _keep_rows(self, iteration: int, column: str) -> list[str]:
    """Drops later rows and half-written ones; returns the columns."""
    if iteration == 0:
      self._directory.mkdir(parents=True, exist_ok=True)
      # It exists from the start, so that a missing one is a damage.
      first = [metrics_table.ITERATION]
      header = metrics_table.line(first)
      if self._path.exists() and self._path.read_bytes() != header.encode():
        self._path.replace(self._old)
      files.write_text(self._path, header)
      return first
    before, table = self._read()
    if not table.columns:
      return []
    place = table.columns.index(column) if column in table.columns else 0
    kept = [row for row in table.rows if float(row[place] or 0) <= iteration]
    text = metrics_table.render(table.columns, kept)
    if text != before:
      if before and len(kept) < len(table.rows):
        files.write_text(self._old, before)
      files.write_text(self._path, text)
    return table.columns

  @property
  def _old(self) -> files.AnyPath:
    return self._path.with_name(f"{METRICS_FILE}.old")

  def _read(self) -> tuple[str, metrics_table.Table]:
    """Reads the file, and repairs it if it is damaged or missing.

    Returns:
      Its text, empty if it was damaged, and the table.
    """
    text, table = "", metrics_table.Table([], [], ["it is missing"])
    if self._path.exists():
      text = self._path.read_bytes().decode("utf-8", "replace")
      table = metrics_table.parse(text)
    if not table.problems:
      return text, table
    scalars = [
      event_files.read_scalars(self._directory / kind)
      for kind in ("train", "eval")
    ]
    found = metrics_table.repaired(table, *scalars)
    if not text and not found.columns:
      return "", found  # A run that has not reported yet.
    copy = ""
    if text or self._path.exists():
      copy = f" (now `{files.set_aside(self._path).name}`)"
    logging.warning(
      "`%s`%s: %s. It is repaired from TensorBoard's files: %s.",
      self._path,
      copy,
      "; ".join(table.problems),
      "; ".join(found.problems) or f"{len(found.rows)} rows",
    )
    return "", found


class NoMetrics:
  """A writer that writes nothing, for processes beside the chief."""

  def write(self, *arguments: Any) -> None:
    """Writes nothing."""

  def write_images(self, *arguments: Any) -> None:
    """Writes nothing."""

  def close(self) -> None:
    """Closes nothing."""
