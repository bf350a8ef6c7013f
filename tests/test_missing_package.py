# SPDX-License-Identifier: Apache-2.0
"""Commands without a package that they need say what to install."""

import pathlib
import sys

import pytest
from without_tensorflow import ROOT, run_without

from rigl import missing_package
from rigl.missing_package import MissingPackageError

if sys.version_info >= (3, 11):
  import tomllib
else:
  import tomli as tomllib  # pytest brings it.

RUN = (
  "import os, runpy; sys.path.insert(0, os.path.dirname(sys.argv[1])); "
  "runpy.run_path(sys.argv[1], run_name='__main__')"
)
TENSORFLOW = "rigl needs TensorFlow, which is not installed: pip install"
ZOO = "results/mnist/rigl_seed0/model.rigl"


def extras():
  """The packages of each extra."""
  text = pathlib.Path(ROOT, "pyproject.toml").read_text()
  return tomllib.loads(text)["project"]["optional-dependencies"]


def assert_one_line(done, line):
  assert done.returncode == 1
  assert done.stdout == ""
  assert done.stderr.startswith(f"error: {line}"), done.stderr
  assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  "script",
  [
    "rigl/mnist/mnist_train_eval.py",
    "rigl/imagenet_resnet/imagenet_train_eval.py",
    "scripts/predict.py",
    "scripts/tpu_compile_check.py",
    "scripts/train_on_gpu.py",
    "benchmarks/block_accuracy.py",
    "benchmarks/jax_step.py",
    "benchmarks/keras_accuracy.py",
    "benchmarks/sparse_inference.py",
    "benchmarks/workers/ours.py",
  ],
)
def test_a_script_without_tensorflow_says_so(script):
  done = run_without(("tensorflow",), RUN, str(ROOT / script))
  assert_one_line(done, TENSORFLOW)


@pytest.mark.parametrize(
  "script", ["benchmarks/keras_accuracy.py", "benchmarks/sparse_inference.py"]
)
def test_a_benchmark_without_keras_says_so(script):
  done = run_without(("keras",), RUN, str(ROOT / script))
  assert_one_line(done, "keras is not installed: pip install 'rigl[cpu]'")


@pytest.mark.parametrize(
  "script", ["rigl/mnist/visualize_mask_records.py", "scripts/method_study.py"]
)
def test_a_script_without_matplotlib_says_so(script):
  done = run_without(("matplotlib",), RUN, str(ROOT / script))
  assert_one_line(done, "matplotlib is not installed: pip install rigl")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_notebooks_need_an_extra_and_not_rigl(number):
  packages = ["ipykernel", "nbformat", "nbclient"]
  present, missing = packages[:number], packages[number]
  stand_in = "".join(
    f"sys.modules[{name!r}] = type(sys)({name!r}); " for name in present
  )
  script = str(ROOT / "scripts" / "run_notebooks.py")
  done = run_without((missing, "rigl"), f"{stand_in}{RUN}", script)
  extra = "notebooks"
  assert_one_line(done, f"{missing} is not installed: pip install '.[{extra}]'")
  assert any(text.startswith(missing) for text in extras()[extra])


KERAS_2 = "import keras; keras.__version__ = '2.15.0'; "


@pytest.mark.slow
@pytest.mark.parametrize(
  "hidden, before, line",
  [
    (("keras",), "", "keras is not installed: pip install 'rigl[cpu]'"),
    ((), KERAS_2, "rigl.keras needs Keras 3, but Keras 2.15.0 is installed"),
  ],
  ids=["without Keras", "Keras 2"],
)
def test_a_compressed_export_names_the_keras_that_it_needs(
  tmp_path, hidden, before, line
):
  flags = (f"--checkpoint={ZOO}", f"--output={tmp_path / 'x.tflite'}")
  done = run_without(
    hidden,
    f"{before}from rigl import cli; cli.export()",
    *flags,
    "--format=litert",
    "--compress",
  )
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1].startswith(f"error: {line}")
  assert "Traceback" not in done.stderr
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "error, line",
  [
    (MissingPackageError("needs x: pip install y"), "needs x: pip install y"),
    (
      ModuleNotFoundError("No module", name="tensorflow_datasets"),
      "tensorflow_datasets is not installed: pip install rigl",
    ),
    (
      ModuleNotFoundError("No module", name="jax"),
      "jax is not installed: pip install 'rigl[jax]'",
    ),
    # Faults of a program, which keep their traceback.
    (ModuleNotFoundError("No module", name="rigl.nowhere"), None),
    (ModuleNotFoundError("No module", name="jax.nowhere"), None),
    (ImportError("cannot import name 'x'", name="jax"), None),
    (ValueError("x"), None),
  ],
)
def test_the_line_of_an_error(error, line):
  assert missing_package.describe(error) == line


def test_every_extra_that_is_named_exists():
  assert set(missing_package._EXTRAS.values()) - {""} <= set(extras())


def test_a_program_that_imports_rigl_keeps_its_tracebacks():
  code = "import rigl.config; import matplotlib"
  done = run_without(("matplotlib",), code)
  assert "Traceback" in done.stderr
