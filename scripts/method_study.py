# SPDX-License-Identifier: Apache-2.0
"""Makes the tables and plots of the study of all methods on CIFAR-10.

  python scripts/method_study.py results/cifar10_methods
  python scripts/method_study.py results/cifar10_methods \
    --output=docs/method_study.md

The first command prints the tables, the second also draws the plots beside the
page. Rows without a finished run are named. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rigl.config import stop_signals  # noqa: F401

# isort: split
from rigl.flops.study import page, runs


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the page, or writes it with its plots."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument("directory", type=pathlib.Path, help="holds the runs")
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    help="Markdown file to write; PNG files are written beside it",
  )
  given = parser.parse_args(arguments)
  directory = given.directory.as_posix()
  try:
    study = runs.read_study(given.directory)
    if given.output is None:
      print(page.page(study, directory, "method_study"), end="")
    else:
      page.write(study, directory, given.output)
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
