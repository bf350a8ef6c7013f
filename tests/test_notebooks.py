# SPDX-License-Identifier: Apache-2.0
"""The notebooks run, also without TensorFlow, and hold no functions."""

import ast
import importlib.util
import json
import pathlib
import sys
import types

import pytest
from without_tensorflow import run_without_tensorflow

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
# The others train, with other results on another processor; .ci/run runs them.
COUNTING = [path for path in NOTEBOOKS if "Counting" in path.stem]


def code_cells(path):
  cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
  return [cell for cell in cells if cell["cell_type"] == "code"]


def source_of(cell):
  """The code of a cell without the commands of Jupyter."""
  lines = "".join(cell["source"]).splitlines()
  return "\n".join(
    line.split("%")[0] + "pass" if line.lstrip().startswith("%") else line
    for line in lines
  )


def printed(cell):
  return "".join(
    "".join(output["text"])
    for output in cell["outputs"]
    if output["output_type"] == "stream" and output["name"] == "stdout"
  )


def test_all_notebooks_are_there():
  assert [path.stem for path in NOTEBOOKS] == [
    "Keras_RigL",
    "MobileNet_Counting",
    "Resnet_50_Param_Flops_Counting",
  ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept(path):
  cells = code_cells(path)
  counts = [cell["execution_count"] for cell in cells]
  assert counts == list(range(1, len(cells) + 1))
  outputs = [output for cell in cells for output in cell["outputs"]]
  assert not any(n["output_type"] == "error" for n in outputs)
  pictures = [n for n in outputs if "image/png" in n.get("data", {})]
  assert len(pictures) >= 3
  assert sum(bool(printed(cell)) for cell in cells) >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("in_checkout", [True, False])
def test_first_cell_installs(
  path, installed, in_checkout, tmp_path, monkeypatch
):
  folder = tmp_path / "colabs"
  folder.mkdir()
  if in_checkout:
    (tmp_path / "pyproject.toml").touch()
  monkeypatch.chdir(folder)
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: find_spec(name) if installed or name != "rigl" else None,
  )
  text = "".join(code_cells(path)[0]["source"])
  command = '%pip install --quiet "$SOURCE"'
  assert text.count("%") == text.count(command) == 1
  commands = []
  names = {"commands": commands}
  exec(text.replace(command, "commands.append(SOURCE)"), names)
  address = "git+https://github.com/google-research/rigl"
  source = ".." if in_checkout else address
  assert commands == ([] if installed else [source])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_functions_in_notebooks(path):
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  for cell in code_cells(path):
    tree = ast.parse(source_of(cell))
    assert not any(isinstance(node, kinds) for node in ast.walk(tree))


@pytest.mark.parametrize("path", COUNTING, ids=lambda path: path.stem)
def test_notebook_prints_what_is_kept(path):
  # Without Jupyter, which only .ci/run installs.
  cells = code_cells(path)
  between = "--- the next cell ---\n"
  code = f"print({between!r}, end='')\n".join(
    f"{source_of(cell)}\n" for cell in cells
  )
  result = run_without_tensorflow(code, cwd=path.parent)
  assert result.returncode == 0, result.stderr
  assert result.stdout.split(between) == [printed(cell) for cell in cells]


def read_like_nbformat(path, as_version):
  """Looks for the version and the cells, as nbformat does first."""
  found = json.loads(path.read_text(encoding="utf-8"))
  found.get("nbformat")
  return [*found["cells"]]


@pytest.mark.parametrize(
  "content", ["[]", "3", "null", '{"cells": 3}', "{", '"text"']
)
def test_a_file_that_is_no_notebook_is_named_in_one_line(
  content, tmp_path, monkeypatch, capsys
):
  # Jupyter's packages are not installed with the others.
  nothing = type("Nothing", (Exception,), {})
  for name, members in {
    "ipykernel": {},
    "nbformat": {
      "read": read_like_nbformat,
      "ValidationError": nothing,
      "NotebookNode": object,
    },
    "nbclient": {"NotebookClient": None},
    "nbclient.exceptions": {
      "CellExecutionError": nothing,
      "DeadKernelError": nothing,
    },
  }.items():
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
  place = ROOT / "scripts" / "run_notebooks.py"
  spec = importlib.util.spec_from_file_location("run_notebooks", place)
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  monkeypatch.setattr(script, "COLABS", tmp_path)
  (tmp_path / "x.ipynb").write_text(content)
  assert script.main([]) == 1
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.startswith("error: x.ipynb: ")
  assert printed.err.count("\n") == 1
