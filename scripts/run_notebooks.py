# SPDX-License-Identifier: Apache-2.0
"""Runs the notebooks in colabs/ from start to end.

  python scripts/run_notebooks.py            checks that they run
  python scripts/run_notebooks.py --write    keeps their new outputs

It needs the extra `notebooks`: pip install '.[notebooks]'. It does not need
rigl, which the first cell of a notebook installs.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

try:
  import ipykernel  # noqa: F401 - The kernel of the notebooks.
  import nbformat
  from nbclient import NotebookClient
  from nbclient.exceptions import CellExecutionError, DeadKernelError
except ModuleNotFoundError as error:
  sys.exit(f"error: {error.name} is not installed: pip install '.[notebooks]'")

COLABS = pathlib.Path(__file__).resolve().parent.parent / "colabs"
_TIMEOUT_SECONDS = 300
# What else can be wrong with a notebook, or with the machine.
_FAILURES = (DeadKernelError, nbformat.ValidationError, OSError, ValueError)


def read(path: pathlib.Path) -> nbformat.NotebookNode:
  """Reads a notebook.

  Raises:
    ValueError, nbformat.ValidationError: if it is no notebook.
    OSError: if it cannot be read.
  """
  try:
    return nbformat.read(path, as_version=4)
  except (AttributeError, TypeError) as error:
    # nbformat has no error of its own for JSON that is no object, or has
    # another value where it expects an object or a list.
    raise ValueError(f"it is no notebook: {error}") from error


def run(path: pathlib.Path) -> nbformat.NotebookNode:
  """Runs a notebook in its folder; returns it with its outputs.

  Raises:
    CellExecutionError: if a cell fails.
    DeadKernelError: if the process of the kernel ends.
    ValueError, nbformat.ValidationError: if it is no notebook.
    OSError: if it cannot be read, or a cell takes too long.
  """
  notebook = read(path)
  NotebookClient(
    notebook,
    timeout=_TIMEOUT_SECONDS,
    kernel_name="python3",
    resources={"metadata": {"path": str(path.parent)}},
  ).execute()
  for cell in notebook.cells:
    # Times of this run, which would differ in every version of the file.
    cell.metadata.pop("execution", None)
    if cell.cell_type == "code":  # Nor what libraries log.
      cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
  # The version of this Python.
  notebook.metadata.language_info = {"name": "python"}
  return notebook


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs all notebooks."""
  parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
  parser.add_argument(
    "--write", action="store_true", help="keep the outputs in the notebooks"
  )
  write = parser.parse_args(arguments).write
  paths = sorted(COLABS.glob("*.ipynb"))
  if not paths:
    print(f"error: no notebooks in {COLABS}.", file=sys.stderr)
    return 1
  for path in paths:
    try:
      notebook = run(path)
      if write:
        nbformat.write(notebook, path)
    except CellExecutionError as error:  # Its text shows the cell.
      print(f"error: {path.name}: {error}", file=sys.stderr)
      return 1
    except _FAILURES as error:
      text = str(error).strip() or type(error).__name__
      print(f"error: {path.name}: {text.splitlines()[0]}", file=sys.stderr)
      return 1
    print(f"{path.name}: {len(notebook.cells)} cells ran.")
  return 0


if __name__ == "__main__":
  sys.exit(main())
