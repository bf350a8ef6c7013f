# SPDX-License-Identifier: Apache-2.0
"""Networks with batch normalisation on several devices of JAX.

Each device normalises its part of a batch, so masks may differ from those of
one device. What holds: all devices have the same bits, the moving averages are
means over devices, and a run that ended early resumes with the same bits.
"""

import imagenet_files
import numpy as np
import pytest
import runs_of_replicas
import tensorflow as tf
from cifar_runs import only_run
from script_runs import assert_same_results

from rigl.cifar_resnet import augment, cifar_data
from rigl.cifar_resnet.cifar_task import CifarTask
from rigl.cifar_resnet.wide_resnet import WideResNet
from rigl.data.shuffling import epoch_order
from rigl.training import checkpoints

pytest.importorskip("jax")
# A process each, with XLA's compilations.
pytestmark = pytest.mark.slow

BATCH, EXAMPLES = 8, 80
CIFAR = (
  "--use_synthetic_data",
  "--resnet_depth=10",
  "--resnet_width=1",
  f"--batch_size={BATCH}",
  f"--dataset_size={EXAMPLES}",
  "--checkpoint_steps=6",
  "--summaries_steps=4",
)
IMAGENET = (
  "--resnet_depth=18",
  "--width=0.25",
  "--image_size=32",
  "--num_label_classes=40",
  f"--train_batch_size={BATCH}",
  f"--eval_batch_size={BATCH}",
  "--num_train_images=30",
  "--num_eval_images=11",
  "--export_model_freq=0",
  "--use_folder_stub=false",
  "--train_steps=8",
  "--steps_per_eval=4",
  "--iterations_per_loop=4",
  "--steps_per_checkpoint=4",
)
RIGL = (
  "--mode=train_and_eval",
  "--training_method=rigl",
  "--mask_init_method=erdos_renyi_kernel",
  "--maskupdate_frequency=3",
)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
  """Trains on a number of devices of JAX; programs are compiled once."""
  cache = tmp_path_factory.mktemp("cache")

  def train(task, devices, place, *flags, end="", code=0):
    directory = "output_dir" if task == "imagenet" else "train_dir"
    flags = (
      "--runner=jax",
      f"--virtual_devices={devices}",
      f"--compilation_cache={cache}",
      f"--{directory}={place / 'run'}",
      *flags,
    )
    command = runs_of_replicas.command(task, place / "states", flags)
    runs_of_replicas.run(command, end, code)
    return runs_of_replicas.states(place / "states", place / "run")

  return train


@pytest.mark.long
@pytest.mark.parametrize(
  ("task", "devices"),
  [("cifar10", 2), ("cifar10", 4), ("imagenet", 2), ("imagenet files", 4)],
)
def test_devices_have_the_same_bits_also_if_the_run_ended_early(
  train, tmp_path, task, devices
):
  task, _, files = task.partition(" ")
  flags = (*IMAGENET, *RIGL)
  if task == "cifar10":
    flags = (*CIFAR, *RIGL, "--max_steps=12")
  elif files:
    data = tmp_path / "data"
    data.mkdir()
    imagenet_files.write_split(data, "train", [7, 9, 6, 8])
    imagenet_files.write_split(data, "validation", [5, 6])
    flags = (*flags, f"--data_directory={data}")
  else:
    flags = (*flags, "--use_synthetic_data")
  whole, early = tmp_path / "whole", tmp_path / "early"
  for place in (whole, early):
    place.mkdir()
  found = train(task, devices, whole, *flags)
  assert len(found.replicas) == devices and len(found.masks) >= 3
  runs_of_replicas.assert_same_replicas(found)
  averages = [n for n in found.replicas[0] if n.endswith("moving_mean")]
  assert averages
  train(task, devices, early, *flags, end="SIGTERM:5", code=143)
  train(task, devices, early, *flags, end="SIGKILL:9", code=-9)
  again = train(task, devices, early, *flags)
  runs_of_replicas.assert_same_replicas(again)
  assert_same_results(only_run(early), only_run(whole))


def test_averages_are_means_over_devices(train, tmp_path):
  flags = (*CIFAR, "--training_method=baseline", "--max_steps=1", "--seed=3")
  runs_of_replicas.assert_same_replicas(train("cifar10", 2, tmp_path, *flags))
  found = checkpoints.load_latest(only_run(tmp_path))
  # The inputs of the first normalisation, by TensorFlow.
  model = WideResNet(10, 1, 10, seed=3, masked=False)
  data = cifar_data.synthetic_cifar(seed=3)
  numbers = epoch_order(3, 0, EXAMPLES, BATCH)[0]
  key = CifarTask(model, 3, 10)._key(tf.constant(0, tf.int64), 0)
  images = augment.random_crop_and_flip(
    augment.standardize(tf.constant(data.train_images[numbers])), key
  )
  inputs = model.first(images).numpy()
  parts = [inputs[: BATCH // 2], inputs[BATCH // 2 :]]
  mean = np.mean([part.mean((0, 1, 2)) for part in parts], 0)
  variance = np.mean([part.var((0, 1, 2)) for part in parts], 0)
  norm = "resnet_model/batch_normalization"
  np.testing.assert_allclose(
    found[f"{norm}/moving_mean"], 0.1 * mean, atol=3e-6
  )
  np.testing.assert_allclose(
    found[f"{norm}/moving_variance"], 0.9 + 0.1 * variance, atol=3e-6
  )
  # One device would have other ones.
  assert 0.1 * np.abs(inputs.var((0, 1, 2)) - variance).max() > 3e-5
