"""The notebooks run, print what is kept in them, and hold no functions."""

import ast
import contextlib
import io
import json
import pathlib

import matplotlib
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))


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


def test_both_notebooks_are_there():
  assert [path.stem for path in NOTEBOOKS] == [
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
def test_first_cell_installs(path):
  text = "".join(code_cells(path)[0]["source"])
  assert 'find_spec("rigl") is None' in text
  assert "%pip install" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_functions_in_notebooks(path):
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  for cell in code_cells(path):
    tree = ast.parse(source_of(cell))
    assert not any(isinstance(node, kinds) for node in ast.walk(tree))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_prints_what_is_kept(path):
  # Without Jupyter, which only .ci/run installs.
  matplotlib.use("agg")
  names = {}
  for cell in code_cells(path):
    with contextlib.redirect_stdout(io.StringIO()) as out:
      exec(compile(source_of(cell), path.name, "exec"), names)
    assert out.getvalue() == printed(cell)
