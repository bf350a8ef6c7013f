# SPDX-License-Identifier: Apache-2.0
"""A run of the CIFAR script in a bucket: TensorFlow's `ram://`."""

from cifar_runs import SHORT

from rigl import files
from rigl.training import checkpoints


def test_a_run_is_trained_and_evaluated_in_a_bucket(
  shell, eagerly, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  place = files.path("ram://cifar/runs")
  arguments = (
    *SHORT,
    "--training_method=static",
    "--max_steps=4",
    "--checkpoint_steps=2",
    "--per_class_metrics=false",
    f"--train_dir={place}",
  )
  shell.done(*arguments)
  assert "is finished" in shell.done(*arguments)
  found = place
  while not (found / "run.json").exists():
    (found,) = (path for path in found.iterdir() if path.is_dir())
  assert found == place / "static/0.9/0/1000/3"
  assert checkpoints.list_numbers(found) == [2, 4]
  shell.done(*arguments, "--mode=eval")
  rows = (found / "evaluations" / "metrics.csv").read_text().splitlines()
  assert [row.split(",")[0] for row in rows] == ["iteration", "2", "4"]
  assert list(tmp_path.iterdir()) == []
