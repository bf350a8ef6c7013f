# SPDX-License-Identifier: Apache-2.0
"""Makes the table of the trained networks in results/: size, FLOPs, accuracy.

  python scripts/model_zoo.py results
  python scripts/model_zoo.py results --output=docs/model_zoo.md

The first command prints the page, the second writes it. All compact files below
the directory are rows. Files of other networks are left out and named.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rigl.config import stop_signals  # noqa: F401

# isort: split
from rigl.flops import zoo


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the page, or writes it."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("directory", type=pathlib.Path, help="holds the files")
  parser.add_argument(
    "--output", type=pathlib.Path, help="Markdown file to write"
  )
  given = parser.parse_args(arguments)
  try:
    found = zoo.read_zoo(given.directory)
    text = zoo.page(given.directory.as_posix(), *found)
    if given.output is None:
      print(text, end="")
    else:
      given.output.write_text(text, encoding="utf-8")
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
