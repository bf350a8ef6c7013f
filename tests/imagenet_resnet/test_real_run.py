# SPDX-License-Identifier: Apache-2.0
"""A run on real images: digits of MNIST as JPEGs in TFRecords.

Killed and resumed once. docs/imagenet.md has the same with CIFAR-10, longer.
"""

import importlib.util
import json
import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest
import warm_python

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.mnist.mnist_data import load_mnist
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
NETWORK = (
  "--resnet_depth=18",
  "--width=0.25",
  "--image_size=32",
  "--num_label_classes=10",
  "--training_method=rigl",
  "--end_sparsity=0.8",
  "--mask_init_method=erdos_renyi_kernel",
  "--first_layer_sparsity=-1",
  "--use_folder_stub=false",
  "--num_eval_images=500",
  "--eval_batch_size=100",
)
TRAINING = (
  "--mode=train_and_eval",
  "--num_train_images=2000",
  "--train_batch_size=32",
  "--train_steps=240",
  "--base_learning_rate=0.8",
  "--maskupdate_end_step=180",
  "--drop_fraction_anneal=cosine",
  "--maskupdate_frequency=50",
  "--iterations_per_loop=40",
  "--steps_per_eval=240",
  "--steps_per_checkpoint=80",
  "--export_model_freq=0",
)


def converter():
  """The script that writes CIFAR-10, which has the writer."""
  path = ROOT / "scripts" / "cifar10_to_tfrecords.py"
  spec = importlib.util.spec_from_file_location("cifar10_to_tfrecords", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  path, mnist = tmp_path_factory.mktemp("digits"), load_mnist()
  for split, images, labels, count in (
    ("train", mnist.train_images, mnist.train_labels, 2000),
    ("validation", mnist.test_images, mnist.test_labels, 500),
  ):
    digits = images[:count].reshape(-1, 28, 28, 1)
    # Evaluations see the inner half of an image of 32 pixels.
    bordered = np.pad(digits, [[0, 0], [14, 14], [14, 14], [0, 0]])
    converter().write_split(
      path, split, np.repeat(bordered, 3, 3), labels[:count], 64, 4
    )
  return path


def command(data, run, *flags):
  script = imagenet_train_eval.__file__
  places = (f"--data_directory={data}", f"--output_dir={run}")
  return warm_python.command(script, *NETWORK, *places, *flags)


@pytest.mark.slow
def test_a_killed_run_learns_and_its_checkpoint_is_as_good(
  shell, data, tmp_path
):
  run = tmp_path / "run"
  process = subprocess.Popen(
    command(data, run, *TRAINING),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while not (run.exists() and checkpoints.list_numbers(run)):
    assert process.poll() is None
    time.sleep(0.1)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (run / "result.json").exists()
  resumed = subprocess.run(
    command(data, run, *TRAINING), capture_output=True, text=True
  )
  assert resumed.returncode == 0, resumed.stderr
  assert "Resumed at step" in resumed.stdout
  found = json.loads((run / "result.json").read_text())
  assert found["step"] == 240
  assert found["sparsity"] == pytest.approx(0.8, abs=1e-3)
  assert found["test_accuracy"] > 0.4
  once = shell.done(*command(data, run, "--mode=eval_once")[2:])
  assert f"Accuracy: {found['test_accuracy']:.4f}," in once
