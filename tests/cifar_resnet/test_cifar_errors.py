# SPDX-License-Identifier: Apache-2.0
"""Wrong input to the CIFAR-10 script: one line, exit code 1, no files."""

import numpy as np
import pytest
from cifar_runs import TINY

BINDING = "--gin_bindings="


@pytest.fixture
def refused(shell, tmp_path, monkeypatch):
  """Runs a command that must be refused before anything is written."""
  work = tmp_path / "work"
  work.mkdir()
  monkeypatch.chdir(work)

  def run(*arguments, train_dir="run"):
    found = shell(f"--train_dir={train_dir}", *arguments)
    assert found.code == 1
    assert found.out == ""
    assert found.err.startswith("error: "), found.err
    assert found.err.count("\n") == 1 and found.err.endswith("\n")
    assert " at 0x" not in found.err
    assert [
      p for p in work.rglob("*") if p.is_file() and p.stat().st_size
    ] == []
    return found.err

  return run


@pytest.mark.parametrize(
  ("argument", "named"),
  [
    # Flags that do not parse.
    ("--training_method=foo", "--training_method=foo"),
    ("--mode=foo", "--mode=foo"),
    ("--jit_compile=foo", "--jit_compile=foo"),
    ("--mask_init_method=foo", "--mask_init_method=foo"),
    ("--max_steps=1.5", "--max_steps=1.5"),
    ("--prune_last_layer=perhaps", "--prune_last_layer=perhaps"),
    ("--trainig_method=rigl", "training_method"),
    ("stray", "'stray'"),
    # Out of range.
    ("--end_sparsity=1", "`end_sparsity` must be in [0.0, 1.0), got 1.0"),
    ("--end_sparsity=nan", "`end_sparsity`"),
    ("--resnet_depth=4", "`resnet_depth`"),
    ("--resnet_depth=12", "`depth` must be 10, 16, 22, ... (6n + 4), got 12"),
    ("--resnet_width=0", "`resnet_width`"),
    ("--num_classes=9", "`num_classes`"),
    ("--momentum=1", "`momentum`"),
    ("--l2=-1", "`l2`"),
    ("--seed=-1", "`seed`"),
    ("--seed=2147483648", "`seed`"),
    ("--max_steps=0", "`max_steps`"),
    ("--training_steps_multiplier=-1", "`training_steps_multiplier`"),
    ("--training_steps_multiplier=inf", "`training_steps_multiplier`"),
    ("--training_steps_multiplier=0", "* `max_steps` must be at least 1"),
    ("--batch_size=0", "`batch_size`"),
    ("--batch_size=321", "`batch_size` must be in [1, 320]"),
    ("--dataset_size=0", "`dataset_size`"),
    ("--checkpoint_steps=0", "`checkpoint_steps`"),
    ("--summaries_steps=0", "`summaries_steps`"),
    ("--keep_checkpoint_max=-1", "`keep_checkpoint_max`"),
    ("--sparsity_begin_step=-1", "`sparsity_begin_step`"),
    ("--pruning_frequency=0", "`pruning_frequency`"),
    ("--drop_fraction=1.5", "`drop_fraction`"),
    ("--s_momentum=1.5", "`s_momentum`"),
    ("--rigl_acc_scale=inf", "`rigl_acc_scale`"),
    ("--maskupdate_frequency=0", "`maskupdate_frequency`"),
    ("--maskupdate_begin_step=-1", "`maskupdate_begin_step`"),
    # Unknown words.
    ("--drop_fraction_anneal=foo", "`drop_fraction_anneal`"),
    ("--grow_init=foo", "`grow_init`"),
    # Files.
    ("--load_mask_dir=/nowhere", "`/nowhere`"),
    ("--load_mask_dir=/proc", "`/proc` holds no checkpoint"),
    ("--initial_value_checkpoint=/nowhere", "`/nowhere`"),
    ("--initial_value_checkpoint=/proc", "`/proc` holds no checkpoint"),
    ("--gin_config=nowhere.gin", "nowhere.gin"),
    # Gin.
    (BINDING + "CifarSettings.sede = 1", "sede"),
    (BINDING + "CifarSettings.seed = 1.5", "must be of type int"),
    (BINDING + "WideResNet.dropout_rate = 1.0", "`dropout_rate`"),
    (BINDING + "WideResNet.depth = 10", "depth"),
    (BINDING + "cifar_learning_rate.boundaries = (5, 3)", "increase"),
    (BINDING + "SparseRigLOptimizer.noise_std = -1", "`noise_std`"),
  ],
)
def test_wrong_argument_is_named_and_nothing_is_written(
  refused, argument, named
):
  assert named in refused(*TINY, "--training_method=rigl", argument)


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (["--training_method=prune", "--sparsity_end_step=10"], "`end_step`"),
    (["--training_method=rigl", "--maskupdate_end_step=5"], "`end_step`"),
    (["--training_method=set", "--grow_init=grad_sign"], "`grow_init`"),
    (["--training_method=set", "--mask_init_method=str"], "`default_sparsity`"),
  ],
)
def test_settings_that_do_not_go_together_are_refused(
  refused, arguments, named
):
  begin = ("--maskupdate_begin_step=6", "--sparsity_begin_step=20")
  assert named in refused(*TINY, *begin, *arguments)


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
