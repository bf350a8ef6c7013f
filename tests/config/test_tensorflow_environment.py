# SPDX-License-Identifier: Apache-2.0
"""Scripts choose their kernels themselves and start without a message."""

import pathlib
import subprocess
import sys

import pytest

from rigl.config import tensorflow_environment as environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = (
  "rigl/cifar_resnet/resnet_train_eval.py",
  "rigl/exporting/command.py",
  "rigl/flops/command.py",
  "rigl/imagenet_resnet/imagenet_train_eval.py",
  "rigl/mnist/mnist_train_eval.py",
  "rigl/mnist/visualize_mask_records.py",
  "rigl/predict/command.py",
  "scripts/checkpoint_flags.py",
  "scripts/cifar10_to_tfrecords.py",
  "scripts/keras_applications_table.py",
  "scripts/method_study.py",
  "scripts/train_all.py",
  "scripts/model_zoo.py",
  "scripts/paper_tables.py",
  "scripts/predict.py",
  "scripts/results_table.py",
  "scripts/run_workers.py",
  "scripts/tpu_compile_check.py",
  "scripts/train_on_gpu.py",
)
# They start without TensorFlow.
OTHERS = (
  "rigl/formats/hdf5_copy.py",
  "rigl/runners/stablehlo/exported_run.py",
  "scripts/eval_checkpoint.py",
  "scripts/run_notebooks.py",
)
ONEDNN = "oneDNN custom operations are on"


def run_python(*arguments, **variables):
  return subprocess.run(
    [sys.executable, *arguments],
    capture_output=True,
    text=True,
    env={"PYTHONPATH": str(ROOT), **variables},
  )


def test_all_scripts_are_looked_at():
  found = [*ROOT.glob("rigl/**/*.py"), *ROOT.glob("scripts/*.py")]
  scripts = {
    str(path.relative_to(ROOT))
    for path in found
    if '\nif __name__ == "__main__":' in path.read_text()
  }
  assert scripts == {*SCRIPTS, *OTHERS}


def marks_of(script):
  """All start by the same module; test_mnist_errors.py has a fast process."""
  others = [] if script.startswith("rigl/") else [pytest.mark.long]
  return [pytest.mark.slow, *others]


@pytest.mark.parametrize(
  "script", [pytest.param(name, marks=marks_of(name)) for name in SCRIPTS]
)
def test_nothing_is_said_before_a_script_speaks(script):
  found = run_python(str(ROOT / script), "--help")
  assert found.stdout and found.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["keras_files", "saved_models"])
def test_counting_a_file_says_nothing_of_tensorflow(reader):
  code = f"""
import pathlib
from rigl.flops import {reader}
try:
  {reader}.load(pathlib.Path("none.h5"), None)
except ValueError as error:
  print(error)
"""
  found = run_python("-c", code)
  assert found.stdout.startswith("`model`") and found.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["0", "1", None])
def test_the_program_and_the_user_choose_onednn(chosen):
  variables = {} if chosen is None else {"TF_ENABLE_ONEDNN_OPTS": chosen}
  script = str(ROOT / "rigl" / "mnist" / "mnist_train_eval.py")
  found = run_python(
    script,
    "--use_synthetic_data",
    "--seed=-1",
    TF_CPP_MIN_LOG_LEVEL="0",
    **variables,
  )
  assert found.returncode == 1
  assert (ONEDNN in found.stderr) == (chosen != "0")


def filtered(code):
  """What is left of the standard error of code within the filter."""
  lines = "import os, sys\n"
  lines += "from rigl.config.tensorflow_environment import filtered_stderr\n"
  lines += (
    f"with filtered_stderr(2):\n  {code}\nprint('after', file=sys.stderr)"
  )
  return run_python("-c", lines, TF_CPP_MIN_LOG_LEVEL="0").stderr


NOTICE = "I0000 00:00:1700000000.000000   12 port.cc:153] oneDNN is on.\\n"


def test_filter_ends_with_its_block():
  code = f"os.write(2, b'{NOTICE}first\\n'); sys.stderr.write('second\\n')"
  assert filtered(code) == "first\nsecond\nafter\n"


def test_filter_loses_nothing_when_the_process_is_aborted():
  assert filtered(f"os.write(2, b'{NOTICE}why'); os.abort()") == "why"


def test_filter_shows_an_error_of_python():
  text = filtered("raise ImportError('no TensorFlow')")
  assert text.endswith("ImportError: no TensorFlow\n")


def test_filter_does_without_a_standard_error():
  found = run_python(
    "-c",
    "import os; os.close(2)\n"
    "from rigl.config.tensorflow_environment import filtered_stderr\n"
    "with filtered_stderr(2):\n  print('works')",
    TF_CPP_MIN_LOG_LEVEL="0",
  )
  assert found.stdout == "works\n"


@pytest.mark.parametrize(
  "line, level",
  [
    ("I0000 00:00:1795630751.927189    3851 port.cc:153] oneDNN", 1),
    ("2024-08-10 09:16:11.569780: I tensorflow/core/util/port.cc:153] one", 1),
    ("2023-08-29 12:35:31.755679: W tensorflow/utils/py_utils.cc:38] TRT", 2),
    ("E0000 00:00:1747138512.527893      10 other.cc:1] Broken.", 3),
  ],
)
def test_lines_are_hidden_by_their_severity(line, level):
  assert environment.is_hidden(line.encode(), level)
  assert not environment.is_hidden(line.encode(), level - 1)


def test_notices_without_a_meaning_are_hidden():
  for line in (
    b"WARNING: All log messages before absl::InitializeLog() is called are "
    b"written to STDERR\n",
    b"E0000 00:00:1747138512.527893      10 cuda_dnn.cc:8579] Unable to "
    b"register cuDNN factory: Attempting to register factory for plugin cuDNN "
    b"when one has already been registered\n",
  ):
    assert environment.is_hidden(line, 1) and not environment.is_hidden(line, 0)


@pytest.mark.parametrize(
  "line",
  [
    b"",
    b"\n",
    b"Traceback (most recent call last):\n",
    b"F0000 00:00:1747138512.527893      10 other.cc:1] Check failed.\n",
    b"Illegal instruction\n",
    b"file.py:12: DeprecationWarning: I am old\n",
  ],
)
def test_other_lines_are_shown_at_every_level(line):
  assert not any(environment.is_hidden(line, level) for level in range(6))
