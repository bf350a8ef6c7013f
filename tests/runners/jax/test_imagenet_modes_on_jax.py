# SPDX-License-Identifier: Apache-2.0
"""The modes of the ImageNet script by the JAX runner, on synthetic images."""

import csv
import json
import shutil

import imagenet_golden
import numpy as np
import pytest
from imagenet_runs import TinyShell
from jax_runs import JAX

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.training import checkpoints

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

FLAGS = (
  "--use_synthetic_data",
  "--training_method=rigl",
  "--num_eval_images=11",
  "--train_steps=4",
)
NAMES = ("loss", "accuracy", "top_5_accuracy")


@pytest.fixture
def shell(monkeypatch, capsys):
  return TinyShell(imagenet_train_eval, ImagenetSettings, monkeypatch, capsys)


@pytest.fixture
def folder(tmp_path):
  """Two checkpoints of a ResNet with batch normalisation."""
  for step, scale in ((2, 1), (4, 1.5)):
    tensors = imagenet_golden.published_tensors(step)
    (name,) = [n for n in tensors if n.endswith("final_dense/weights")]
    tensors[name] = np.float32(scale) * tensors[name]
    checkpoints.save(tmp_path, step, tensors)
  return tmp_path


def evaluated(path):
  """{step: metrics} of `--mode=eval`."""
  with (path / "evaluations" / "metrics.csv").open(newline="") as file:
    return {
      int(row["step"]): [float(row[f"test_{name}"]) for name in NAMES]
      for row in csv.DictReader(file)
    }


def test_checkpoints_are_evaluated_as_by_the_loop(shell, folder):
  flags = (
    *FLAGS,
    "--num_label_classes=1000",
    "--first_layer_sparsity=-1",
    "--last_layer_sparsity=0",
    f"--output_dir={folder}",
  )
  found = {}
  for runner in (("--runner=loop",), JAX):
    out = shell.done(*flags, *runner, "--mode=eval")
    assert "step 2: test loss" in out and "step 4: test loss" in out
    found[runner[0]] = evaluated(folder)
    shutil.rmtree(folder / "evaluations")
  for step, numbers in found["--runner=loop"].items():
    assert found["--runner=jax"][step] == pytest.approx(numbers, rel=1e-4)
  first, last = (found["--runner=jax"][step] for step in (2, 4))
  assert first[0] != pytest.approx(last[0], rel=1e-2)
  for step, numbers in found["--runner=jax"].items():
    prefix = f"--eval_once_ckpt_prefix=model.ckpt-{step}"
    shell.done(*flags, *JAX, "--mode=eval_once", prefix)
    place = folder / f"eval_model.ckpt-{step}" / "result.json"
    result = json.loads(place.read_text())
    assert [result[name] for name in NAMES] == pytest.approx(numbers, rel=1e-6)


def test_training_evaluates_its_checkpoints(shell, tmp_path):
  flags = (
    *FLAGS,
    "--model_architecture=vgg_a",
    "--width=0.1",
    "--steps_per_eval=2",
    "--iterations_per_loop=2",
    "--steps_per_checkpoint=2",
    "--maskupdate_frequency=2",
    f"--output_dir={tmp_path}",
    *JAX,
  )
  out = shell.done(*flags, "--mode=train_and_eval")
  assert out.count("test accuracy") == 2 and "images/s" in out
  with (tmp_path / "metrics.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["test_loss"]]
  trained = {
    int(row["step"]): [float(row[f"test_{name}"]) for name in NAMES]
    for row in rows
  }
  assert sorted(trained) == [2, 4]
  shell.done(*flags, "--mode=eval")
  for step, numbers in evaluated(tmp_path).items():
    assert trained[step] == pytest.approx(numbers, rel=1e-5)
