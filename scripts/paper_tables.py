# SPDX-License-Identifier: Apache-2.0
"""Prints the published tables with our FLOPs, sizes and training costs.

  python scripts/paper_tables.py
  python scripts/paper_tables.py --output=docs/flops_tables.md

Every cell has the published number, ours by the published rules, and the
correct count. Nothing is trained here: top-1 accuracies are the published ones.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rigl.config import stop_signals  # noqa: F401

# isort: split
from rigl.flops.paper import tables


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the tables, or writes the page of the documentation."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    help="Markdown file to write instead of printing",
  )
  output = parser.parse_args(arguments).output
  if output is None:
    print(tables.page())
    return 0
  try:
    output.write_text(tables.page(), encoding="utf-8")
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
