# SPDX-License-Identifier: Apache-2.0
"""Wrong input to the CIFAR-10 script: one line, exit code 1, no files."""

import numpy as np
import pytest
from cifar_runs import TINY
from script_runs import refusal

BINDING = "--gin_bindings="


@pytest.fixture
def refused(shell, tmp_path, monkeypatch):
  """Runs a command that must be refused before anything is written."""
  work = tmp_path / "work"
  work.mkdir()
  monkeypatch.chdir(work)

  def run(*arguments, train_dir="run"):
    return refusal(shell, work, f"--train_dir={train_dir}", *arguments)

  return run


@pytest.mark.parametrize(
  ("argument", "named"),
  [
    # Flags that do not parse.
    ("--mode=foo", "--mode=foo"),
    # Out of range.
    ("--resnet_depth=4", "`resnet_depth`"),
    ("--resnet_depth=12", "`depth` must be 10, 16, 22, ... (6n + 4), got 12"),
    ("--resnet_width=0", "`resnet_width`"),
    ("--num_classes=9", "`num_classes`"),
    ("--momentum=1", "`momentum`"),
    ("--l2=-1", "`l2`"),
    ("--max_steps=0", "`max_steps`"),
    ("--batch_size=0", "`batch_size`"),
    ("--batch_size=321", "`batch_size` must be in [1, 320]"),
    ("--dataset_size=0", "`dataset_size`"),
    ("--checkpoint_steps=0", "`checkpoint_steps`"),
    ("--summaries_steps=0", "`summaries_steps`"),
    ("--keep_checkpoint_max=-1", "`keep_checkpoint_max`"),
    ("--sparsity_begin_step=-1", "`sparsity_begin_step`"),
    ("--pruning_frequency=0", "`pruning_frequency`"),
    # Files.
    ("--load_mask_dir=/nowhere", "`/nowhere`"),
    ("--load_mask_dir=s3://b/run", "no file system s3://"),
    ("--train_dir=s3://b/run", "`train_dir`: `s3://b/run`: TensorFlow has no"),
    ("--train_dir=gs:/b/run", "`train_dir`: `gs:/b/run` must be written as"),
    ("--load_mask_dir=/proc", "`/proc` holds no checkpoint"),
    ("--initial_value_checkpoint=/nowhere", "`/nowhere`"),
    ("--initial_value_checkpoint=/proc", "`/proc` holds no checkpoint"),
    # Gin.
    (BINDING + "WideResNet.dropout_rate = 1.0", "`dropout_rate`"),
    (BINDING + "WideResNet.depth = 10", "depth"),
    (BINDING + "cifar_learning_rate.boundaries = (5, 3)", "increase"),
  ],
)
def test_wrong_argument_is_named_and_nothing_is_written(
  refused, argument, named
):
  assert named in refused(*TINY, "--training_method=rigl", argument)


def test_end_of_pruning_before_its_begin_is_refused(refused):
  flags = ("--sparsity_begin_step=20", "--sparsity_end_step=10")
  assert "`end_step`" in refused(*TINY, "--training_method=prune", *flags)


def test_missing_data_directory_is_named(refused):
  line = refused("--data_directory=/nowhere/cifar")
  assert "/nowhere/cifar" in line and "`--data_directory`" in line


def test_damaged_data_file_is_named(refused, tmp_path):
  data = tmp_path / "data"
  data.mkdir()
  for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
    record = np.zeros(3073, np.uint8)
    (data / f"{name}.bin").write_bytes(record.tobytes()[:-1])
  assert "data_batch_1.bin" in refused(f"--data_directory={data}")


def test_directory_that_cannot_be_written_is_named(refused, tmp_path):
  file = tmp_path / "file"
  file.write_text("precious")
  for path in (file / "run", "/proc/rigl_run"):
    assert str(path) in refused(*TINY, train_dir=path)
  assert file.read_text() == "precious"


def test_directory_of_another_run_is_left_alone(shell, tmp_path):
  place = tmp_path.joinpath("baseline", *["0.0"] * 4)
  place.mkdir(parents=True)
  (place / "metrics.csv").write_text("precious")
  found = shell(*TINY, f"--train_dir={tmp_path}")
  assert found.code == 1 and found.err.count("\n") == 1
  assert "metrics.csv" in found.err
  assert [path.name for path in place.iterdir()] == ["metrics.csv"]
