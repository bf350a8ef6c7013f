# SPDX-License-Identifier: Apache-2.0
"""`import rigl`: what it exports, what it loads, what it needs."""

import ast
import doctest
import inspect
import pathlib
import subprocess
import sys

import pytest
from without_tensorflow import ROOT, run_without_tensorflow

import rigl

OPTIMIZERS = [name for name in rigl.__all__ if name.endswith("Optimizer")]


def assert_is_our_sentence(line):
  assert "rigl needs TensorFlow, which is not installed" in line
  assert "pip install 'rigl[cpu]'" in line


def test_every_export_is_there_once():
  assert sorted(set(rigl.__all__)) == sorted(rigl.__all__)
  for name in rigl.__all__:
    assert getattr(rigl, name) is not None
    assert name in dir(rigl)
  from rigl import sparse_optimizers

  assert rigl.SparseRigLOptimizer is sparse_optimizers.SparseRigLOptimizer
  assert rigl.sparse_optimizers is sparse_optimizers


def test_every_optimizer_is_exported():
  from rigl import sparse_optimizers

  known = {n for n in sparse_optimizers.__all__ if n.endswith("Optimizer")}
  assert set(OPTIMIZERS) == known


def test_unknown_attribute_is_an_attribute_error():
  with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
    rigl.nonsense  # noqa: B018


def test_type_checkers_see_what_is_exported():
  tree = ast.parse(pathlib.Path(rigl.__file__).read_text())
  (block,) = (
    node
    for node in tree.body
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
  )
  imported = {alias.name for node in block.body for alias in node.names}
  # `keras` needs Keras 3: `from rigl import *` leaves it alone.
  assert imported | {"__version__"} == set(rigl.__all__) | {"keras"}


def test_documentation_has_every_export_and_its_example_runs():
  for name in set(rigl.__all__) - {"__version__"}:
    assert name in rigl.__doc__
  result = doctest.testmod(rigl, optionflags=doctest.ELLIPSIS)
  assert result.attempted > 8
  assert result.failed == 0
  assert all(len(line) <= 80 for line in inspect.getdoc(rigl).splitlines())


def test_import_loads_nothing_that_takes_time():
  code = "import rigl, sys; print(*sys.modules)"
  modules = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  loaded = {name.split(".")[0] for name in modules}
  assert "rigl" in loaded
  assert not loaded & {"tensorflow", "keras", "numpy", "absl", "gin"}


# --- Without TensorFlow -------------------------------------------------------


def test_what_needs_no_tensorflow_works_without():
  result = run_without_tensorflow(
    "import rigl\n"
    "layer = rigl.LayerSpec('a', 'dense', (64, 32))\n"
    "print(rigl.get_stats([layer], 0.9, 'random').total_flops)\n"
    "print('SparseRigLOptimizer' in dir(rigl), 'get_stats' in dir(rigl))\n"
    "help(rigl)\n"
  )
  assert result.returncode == 0, result.stderr
  flops, names, *page = result.stdout.splitlines()
  assert flops == "442"
  assert names == "False True"
  assert page[0] == "Help on package rigl:"


@pytest.mark.parametrize(
  "line",
  [
    "import rigl; rigl.SparseRigLOptimizer",
    "from rigl import sparse_optimizers",
    "from rigl import mask_ops",
    "import rigl; rigl.keras",
    "import rigl.sparse_optimizers",
    "import rigl.mnist.mnist_train_eval",
    "import rigl.cifar_resnet.resnet_train_eval",
    "import rigl.imagenet_resnet.imagenet_train_eval",
  ],
)
def test_what_needs_tensorflow_says_what_to_install(line):
  result = run_without_tensorflow(line)
  last = result.stderr.strip().splitlines()[-1]
  assert result.returncode == 1
  assert last.startswith("rigl.missing_package.MissingPackageError: ")
  assert_is_our_sentence(last)
  # Not the second of two errors.
  assert result.stderr.count("Traceback") == 1


@pytest.mark.parametrize("command", ["mnist", "cifar10", "imagenet", "predict"])
@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_command_without_tensorflow_ends_in_one_line(command, arguments):
  result = run_without_tensorflow(
    f"from rigl import cli; cli.{command}()", *arguments
  )
  assert result.returncode == 1
  assert result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: ")
  assert_is_our_sentence(line)


def test_flops_are_counted_without_tensorflow(tmp_path):
  plot = tmp_path / "plot.png"
  result = run_without_tensorflow(
    "from rigl import cli; cli.flops()",
    "--model=mnist_fc",
    f"--plot={plot}",
  )
  assert result.returncode == 0, result.stderr
  assert "inference FLOPs" in result.stdout
  assert plot.read_bytes().startswith(b"\x89PNG")


def test_keras_file_without_keras_is_an_error_of_one_line(tmp_path):
  path = tmp_path / "model.keras"
  path.write_bytes(b"")
  result = run_without_tensorflow(
    "from rigl import cli; cli.flops()", f"--model={path}"
  )
  assert result.returncode == 1
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: `model`: reading a Keras file")
  assert "pip install 'rigl[cpu]'" in line
