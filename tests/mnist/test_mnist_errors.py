# SPDX-License-Identifier: Apache-2.0
"""Wrong input to the MNIST script: one line, exit code 1, nothing written."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from mnist_runs import SCRIPT
from script_runs import refusal

FILES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)
BINDING = "--gin_bindings="


@pytest.fixture
def refused(shell, tmp_path, monkeypatch):
  """Runs a command that must be refused before anything is written."""
  work = tmp_path / "work"
  work.mkdir()
  monkeypatch.chdir(work)

  def run(*arguments, save_path="run"):
    line = refusal(shell, work, *arguments, f"--save_path={save_path}")
    assert list(work.iterdir()) == []
    return line

  return run


@pytest.mark.parametrize(
  ("argument", "named"),
  [
    # Flags that do not parse.
    ("--optimizer=foo", "--optimizer=foo"),
    ("--network_type=conv", "--network_type=conv"),
    # Out of range.
    ("--sparsity_scale=1.5", "`sparsity_scale` * `end_sparsity`"),
    ("--learning_rate=-1", "`learning_rate`"),
    ("--learning_rate=inf", "`learning_rate`"),
    ("--momentum=1", "`momentum`"),
    ("--l2_scale=-1", "`l2_scale`"),
    ("--pruning_frequency=0", "`pruning_frequency`"),
    ("--mask_init_method=", "`mask_init_method` must be given for method"),
    ("--mask_record_frequency=-1", "`mask_record_frequency`"),
    ("--num_epochs=0", "`num_epochs`"),
    ("--checkpoint_epochs=0", "`checkpoint_epochs`"),
    ("--batch_size=0", "`batch_size`"),
    ("--batch_size=1001", "`batch_size` must be in [1, 1000]"),
    # Files.
    ("--input_mask_path=/nowhere", "`--input_mask_path`"),
    ("--input_mask_path=/proc", "`--input_mask_path`"),
    # Gin.
    (BINDING + "MnistSettings.sede = 1", "sede"),
    (BINDING + "MnistFc.units = (300, 100, 5)", "`units`"),
    (BINDING + "MnistFc.units = 5", "MnistFc"),
    (BINDING + "mnist_learning_rate.drop_epochs = (5, 3)", "increase"),
  ],
)
def test_wrong_argument_is_named_and_nothing_is_written(
  refused, argument, named
):
  # RigL unless the argument says otherwise, for it looks at most of them.
  line = refused("--use_synthetic_data", "--training_method=rigl", argument)
  assert named in line


def test_end_of_pruning_before_its_begin_is_refused(refused):
  flags = ("--prune_begin_step=20", "--prune_end_step=10")
  method = "--training_method=prune"
  assert "`end_step`" in refused("--use_synthetic_data", method, *flags)


@pytest.mark.parametrize(
  ("flags", "named"),
  [
    ("top_kast --backward_sparsity=0.99", "`backward_sparsity`"),
    ("granet --initial_sparsity=0.99", "`initial_sparsity`"),
    ("set --soft_memory --maskupdate_end_step=-1", "`end_step`"),
    ("rigl --grow_batches=101", "`grow_batches`"),
    ("set --drop_gradient_weight=-1", "`drop_gradient_weight`"),
    ("rigl --drop_gradient_weight=inf", "`drop_gradient_weight`"),
    (f"rigl {BINDING}SparseRigLOptimizer.noise_std=-1.0", "`noise_std`"),
  ],
)
def test_wrong_argument_of_a_method_is_refused(refused, flags, named):
  method, *others = flags.split()
  given = ("--use_synthetic_data", f"--training_method={method}", *others)
  assert named in refused(*given)


def test_batch_larger_than_mnist_is_refused(refused):
  line = refused("--batch_size=70000")
  assert "`batch_size` must be in [1, 60000]" in line


@pytest.fixture
def data(tmp_path):
  """A directory with a few digits in the files of MNIST."""
  directory = tmp_path / "data"
  directory.mkdir()
  for name, count in zip(FILES, (20, 20, 10, 10), strict=True):
    shape = (count, 28, 28) if "images" in name else (count,)
    header = bytes([0, 0, 8, len(shape)])
    header += np.array(shape, ">u4").tobytes()
    content = header + np.ones(shape, np.uint8).tobytes()
    (directory / f"{name}.gz").write_bytes(gzip.compress(content))
  return directory


def test_small_data_set_of_the_user_is_read(shell, data, tmp_path):
  found = shell(
    f"--mnist={data}",
    "--batch_size=21",
    f"--save_path={tmp_path / 'run'}",
  )
  assert "`batch_size` must be in [1, 20]" in found.err


def test_missing_data_directory_is_named(refused):
  line = refused("--mnist=/nowhere/mnist")
  assert "/nowhere/mnist" in line and "--mnist" in line


@pytest.mark.parametrize("name", FILES)
def test_missing_data_file_is_named(refused, data, name):
  (data / f"{name}.gz").unlink()
  assert name in refused(f"--mnist={data}")


@pytest.mark.parametrize(
  ("change", "what"),
  [
    (lambda content: content[:-5], "truncated"),
    (lambda content: content[:3], "truncated"),
    (lambda content: content + b"0", "trailing"),
    (lambda content: b"\0\0\x0d\3" + content[4:], "wrong magic number"),
    (lambda content: b"", "truncated"),
  ],
)
def test_damaged_data_file_is_named(refused, data, change, what):
  path = data / f"{FILES[0]}.gz"
  content = gzip.decompress(path.read_bytes())
  path.write_bytes(change(content))
  line = refused(f"--mnist={data}")
  assert str(path) in line and what in line


def test_truncated_compressed_file_is_named(refused, data):
  path = data / f"{FILES[1]}.gz"
  path.write_bytes(path.read_bytes()[:-6])
  line = refused(f"--mnist={data}")
  assert str(path) in line and "truncated" in line


def test_directory_that_cannot_be_written_is_named(refused, tmp_path):
  file = tmp_path / "file"
  file.write_text("precious")
  for path in (file, file / "run", "/proc/rigl_run"):
    assert str(path) in refused("--use_synthetic_data", save_path=path)
  assert file.read_text() == "precious"


def test_directory_with_other_files_is_left_alone(shell, tmp_path):
  (tmp_path / "metrics.csv").write_text("precious")
  found = shell("--use_synthetic_data", f"--save_path={tmp_path}")
  assert found.code == 1 and found.err.count("\n") == 1
  assert "metrics.csv" in found.err
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_process_ends_with_one_line_and_exit_code_1(tmp_path):
  found = subprocess.run(
    [sys.executable, str(SCRIPT), "--use_synthetic_data", "--seed=-1"],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env={"PYTHONPATH": str(SCRIPT.parents[2])},
  )
  assert (found.returncode, found.stdout) == (1, "")
  assert found.stderr == "error: `seed` must be in [0, 2147483648), got -1.\n"
  assert list(tmp_path.iterdir()) == []
