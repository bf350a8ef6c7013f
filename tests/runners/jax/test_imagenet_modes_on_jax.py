# SPDX-License-Identifier: Apache-2.0
"""The modes of the ImageNet script by the JAX runner, with batch norm."""

import csv
import json

import pytest
from imagenet_runs import TinyShell
from jax_runs import JAX

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

STEPS = 4
FLAGS = (
  "--use_synthetic_data",
  "--training_method=rigl",
  "--num_train_images=30",
  "--num_eval_images=11",
  f"--train_steps={STEPS}",
  "--maskupdate_frequency=2",
  "--steps_per_eval=2",
  "--iterations_per_loop=2",
  "--steps_per_checkpoint=2",
)
NAMES = ("loss", "accuracy", "top_5_accuracy")


def evaluated(path):
  """{step: metrics} of `--mode=eval`, with the last value of each step."""
  with (path / "evaluations" / "metrics.csv").open(newline="") as file:
    return {
      int(row["step"]): [float(row[f"test_{name}"]) for name in NAMES]
      for row in csv.DictReader(file)
    }


def test_every_mode_finds_the_same_numbers(tmp_path, monkeypatch, capsys):
  shell = TinyShell(imagenet_train_eval, ImagenetSettings, monkeypatch, capsys)
  flags = (*FLAGS, f"--output_dir={tmp_path}")
  out = shell.done(*flags, *JAX, "--mode=train_and_eval")
  assert out.count("test accuracy") == 2 and "images/s" in out
  trained = json.loads((tmp_path / "result.json").read_text())
  wanted = [trained[f"test_{name}"] for name in NAMES]

  # As another process would do it, and each checkpoint by itself.
  found = {}
  for runner in ("jax", "loop"):
    results = tmp_path / "evaluations" / "metrics.csv"
    results.unlink(missing_ok=True)
    shell.done(*flags, *JAX, f"--runner={runner}", "--mode=eval")
    found[runner] = evaluated(tmp_path)
    assert list(found[runner]) == [2, STEPS]
  for step, numbers in found["loop"].items():
    assert found["jax"][step] == pytest.approx(numbers, rel=1e-3, abs=1e-5)
  for step in (2, STEPS):
    once = shell.done(
      *flags,
      *JAX,
      "--mode=eval_once",
      f"--eval_once_ckpt_prefix=model.ckpt-{step}",
    )
    assert f"Accuracy: {found['jax'][step][1]:.4f}" in once
  # The loss of a checkpoint has the regularization.
  assert found["jax"][STEPS][1:] == pytest.approx(wanted[1:])
