# SPDX-License-Identifier: Apache-2.0
"""Wrong ImageNet data end the script with one line, in every mode."""

import imagenet_files
import pytest

from rigl.training import checkpoints

BASE = ("--training_method=baseline", "--train_steps=3")


def write(directory, split, labels, name="{}-00000-of-00001"):
  keys = ("image/encoded", "image/class/label")
  records = [
    imagenet_files.example(imagenet_files.jpeg_of(0), label, keys)
    for label in labels
  ]
  imagenet_files.write(directory / name.format(split), records)


def refused(shell, *arguments):
  """Runs a command that must fail; returns its line."""
  outcome = shell(*arguments)
  assert outcome.code == 1
  (line,) = [n for n in outcome.err.splitlines() if n.startswith("error: ")]
  assert "Traceback" not in outcome.err
  return line


@pytest.mark.parametrize("skips", ["true", "false"])
def test_empty_files_end_the_script_before_it_trains(shell, tmp_path, skips):
  (tmp_path / "train-00000-of-00001").write_bytes(b"")
  line = refused(
    shell,
    *BASE,
    f"--data_directory={tmp_path}",
    f"--output_dir={tmp_path / 'run'}",
    f"--skip_corrupt_records={skips}",
  )
  assert "`data_directory` holds no train image" in line
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("skips", ["true", "false"])
def test_label_without_a_class_ends_training(shell, eagerly, tmp_path, skips):
  write(tmp_path, "train", [1, 20, 0, 3])
  line = refused(
    shell,
    *BASE,
    f"--data_directory={tmp_path}",
    f"--output_dir={tmp_path / 'run'}",
    f"--skip_corrupt_records={skips}",
  )
  assert "train-00000-of-00001, record at byte " in line
  assert "image/class/label is 0, but labels go from 1 to 20" in line
  assert "--skip_corrupt_records" not in line


def test_label_without_a_class_ends_an_evaluation(shell, eagerly, tmp_path):
  write(tmp_path, "train", [1, 2, 3, 4])
  write(tmp_path, "validation", [1, 2, 3, 21])
  run = tmp_path / "run"
  arguments = (*BASE, f"--data_directory={tmp_path}", f"--output_dir={run}")
  shell.done(*arguments)
  assert checkpoints.list_numbers(run) == [3]
  for mode in ("eval_once", "eval"):
    line = refused(shell, *arguments, f"--mode={mode}")
    assert "validation-00000-of-00001, record at byte " in line
    assert "image/class/label is 21, but labels go from 1 to 20" in line
