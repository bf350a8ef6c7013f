"""Prints the published tables with our FLOPs, sizes and training costs.

  python scripts/paper_tables.py
  python scripts/paper_tables.py --readme README.md

Every cell has the published number, ours by the published rules, and the
correct count. Nothing is trained here: top-1 accuracies are the published ones.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rigl.flops.paper import tables


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the tables, or writes them into a file between its markers."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--readme",
    type=pathlib.Path,
    help="file to write the tables into, between its markers",
  )
  readme = parser.parse_args(arguments).readme
  text = tables.render()
  total, agreeing = tables.counts()
  if readme is None:
    print(text)
  else:
    try:
      tables.replace_in(readme, text)
    except (OSError, ValueError) as error:
      print(f"error: {error}", file=sys.stderr)
      return 1
  print(f"\n{agreeing} of {total} cells agree in the printed digits.")
  return 0


if __name__ == "__main__":
  sys.exit(main())
