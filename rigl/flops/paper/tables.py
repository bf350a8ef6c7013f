"""The published tables beside ours, as Markdown."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rigl.flops.paper import paper_rows
from rigl.flops.paper.published_values import TABLES, Table

BEGIN = "<!-- Made by scripts/paper_tables.py: begin -->"
END = "<!-- Made by scripts/paper_tables.py: end -->"

_HEADER = (
  "Distribution",
  "Sparsity",
  "Length",
  "Training FLOPs (x dense)",
  "Inference FLOPs (x dense)",
  "Size (MB)",
  "Top-1 (%)",
  "Note",
)
_COLUMNS = ("training", "inference", "size")


def render(tables: Sequence[Table] = TABLES) -> str:
  """Markdown of the tables; reasons are notes below them.

  Each cell has the published number, ours by the published rules, and the
  correct count. Where the first two differ the cell is bold.
  """
  notes: list[str] = []
  parts = [_table(table, notes) for table in tables]
  listed = "\n".join(f"{i + 1}. {note}" for i, note in enumerate(notes))
  return "\n\n".join([*parts, listed]) if notes else "\n\n".join(parts)


def counts(tables: Sequence[Table] = TABLES) -> tuple[int, int]:
  """How many cells there are, and how many agree in the printed digits."""
  total = agreeing = 0
  for table in tables:
    _, dense = paper_rows.compare_dense(table)
    rows = [compared.disagreeing for compared in paper_rows.compare(table)]
    for disagreeing in (dense, *rows):
      total += len(_COLUMNS)
      agreeing += len(_COLUMNS) - len(disagreeing)
  return total, agreeing


def replace_in(path: pathlib.Path, text: str) -> None:
  """Puts the text between the markers of a file.

  Raises:
    ValueError: if the file has no markers.
  """
  content = path.read_text(encoding="utf-8")
  before, begin, rest = content.partition(BEGIN)
  _, end, after = rest.partition(END)
  if not (begin and end):
    raise ValueError(f"`path` must have the lines {BEGIN!r}, got {path}.")
  path.write_text(
    f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8"
  )


def _table(table: Table, notes: list[str]) -> str:
  values, differing = paper_rows.compare_dense(table)
  dense = [
    _cell(getattr(table.dense, name), [values[name]], name in differing)
    for name in _COLUMNS
  ]
  lines = [
    _line(_HEADER),
    _line(("---",) * len(_HEADER)),
    _line(("dense", "0", "1x", *dense, f"{table.dense.top1:g}", "")),
  ]
  for compared in paper_rows.compare(table):
    row = compared.row
    cells = [
      _cell(
        getattr(row, name),
        [getattr(compared.ours, name), getattr(compared.correct, name)],
        name in compared.disagreeing,
      )
      for name in _COLUMNS
    ]
    start = (row.distribution, f"{row.sparsity:g}", f"{row.length}x")
    note = _numbers(compared.reasons, notes)
    lines.append(_line((*start, *cells, f"{row.top1:.2f}", note)))
  return f"**{table.title}**\n\n" + "\n".join(lines)


def _cell(printed: str, values: Sequence[float], differs: bool) -> str:
  shown = [
    printed,
    *(paper_rows.as_printed(printed, value) for value in values),
  ]
  text = " / ".join(shown)
  return f"**{text}**" if differs else text


def _numbers(reasons: Sequence[str], notes: list[str]) -> str:
  """Numbers of the notes with these texts, which are added where new."""
  notes += [reason for reason in reasons if reason not in notes]
  return ", ".join(str(notes.index(reason) + 1) for reason in reasons)


def _line(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"
