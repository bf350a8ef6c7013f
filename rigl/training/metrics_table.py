# SPDX-License-Identifier: Apache-2.0
"""Metrics table: `metrics.csv` as it is read back, checked and repaired."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# The first column, and those that TensorBoard's files do not hold.
ITERATION = "iteration"
_PLACE = (ITERATION, "step", "epoch")
_TEST = "test_"

Scalars = Mapping[int, Mapping[str, float]]


class Table(NamedTuple):
  """The content of a file.

  Attributes:
    columns: names of the columns; empty if the header is damaged.
    rows: the whole rows, as text.
    problems: what is damaged, in words. A last line without its end is not
      damaged: a process was killed while it wrote it.
  """

  columns: list[str]
  rows: list[list[str]]
  problems: list[str]


def parse(text: str) -> Table:
  """Reads a table; damaged lines are left out and named."""
  whole = text[: text.rfind("\n") + 1]
  lines = [(n, line) for n, line in enumerate(whole.split("\n"), 1) if line]
  parsed = [(n, _cells(line)) for n, line in lines if line.strip()]
  if not parsed:
    return Table([], [], ["it has no header"])
  problems = []
  columns = parsed[0][1]
  if _is_header(columns, [cells for _, cells in parsed[1:]]):
    parsed = parsed[1:]
  else:
    problems.append(f"line {parsed[0][0]} is no header")
    if not _is_row(columns):
      parsed = parsed[1:]
    columns = []
  rows: list[list[str]] = []
  for number, cells in parsed:
    if not _is_row(cells) or len(cells) != len(columns or cells):
      problems.append(f"line {number} is no row")
    elif rows and int(cells[0]) <= int(rows[-1][0]):
      problems.append(f"line {number} is out of order")
    else:
      rows.append(cells)
  return Table(columns, rows, problems)


def repaired(table: Table, train: Scalars, test: Scalars) -> Table:
  """Fills in what a table lacks from the scalars of TensorBoard's files.

  Args:
    table: the table.
    train: metrics of the training by iteration and name.
    test: metrics of the evaluations by iteration and name.

  Returns:
    The table with a header and with rows of all iterations, ascending; what
    the scalars do not tell is empty. `problems` holds what is lost.
  """
  steps = sorted({*train, *test})
  known = {n: _scalar_row(train.get(n, {}), test.get(n, {})) for n in steps}
  columns, problems = list(table.columns), []
  if not columns:
    columns = [*_PLACE] if known else []
  for row in known.values():
    columns += [name for name in row if name not in columns]
  width = len(table.columns) or len(columns)
  rows = {}
  for n, row in known.items():
    rows[n] = [str(n), *(row.get(name, "") for name in columns[1:])]
  for cells in table.rows:
    if len(cells) != width:
      if int(cells[0]) not in rows:
        problems.append(f"the row of iteration {cells[0]} is lost")
      continue
    rows[int(cells[0])] = cells + [""] * (len(columns) - width)
  return Table(columns, [rows[n] for n in sorted(rows)], problems)


def render(columns: list[str], rows: Iterable[list[Any]]) -> str:
  """The text of a table."""
  return "".join(line(row) for row in [columns, *rows])


def line(values: Iterable[Any]) -> str:
  """One line of a table."""
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerow(map(_cell, values))
  return buffer.getvalue()


def _cell(value: Any) -> Any:
  return f"{value:.6g}" if isinstance(value, float) else value


def _cells(text: str) -> list[str]:
  try:
    return next(csv.reader([text]), [])
  except csv.Error:
    return []


def _is_header(columns: list[str], others: list[list[str]]) -> bool:
  """Whether a line names the columns of those below."""
  rows = [cells for cells in others if _is_row(cells)]
  fits = not rows or any(len(cells) == len(columns) for cells in rows)
  is_unique = len(set(columns)) == len(columns)
  return columns[:1] == [ITERATION] and all(columns) and is_unique and fits


def _is_row(cells: list[str]) -> bool:
  """Whether there is an iteration, and nothing but numbers behind it."""
  if not cells or not (cells[0].isascii() and cells[0].isdecimal()):
    return False
  try:
    return all(not cell or isinstance(float(cell), float) for cell in cells)
  except ValueError:
    return False


def _scalar_row(
  train: Mapping[str, float], test: Mapping[str, float]
) -> dict[str, str]:
  """The cells of a row that scalars tell, by column."""
  named = {**train, **{_TEST + name: value for name, value in test.items()}}
  return {name: str(_cell(value)) for name, value in named.items()}
