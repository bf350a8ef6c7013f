# SPDX-License-Identifier: Apache-2.0
"""ImageNet on several devices and workers: who reads which images."""

import csv
import importlib.util

import imagenet_files
import numpy as np
import pytest
import runs_of_replicas
import warm_python
from runs_of_replicas import ROOT

from rigl.training import checkpoints

# A process each, with XLA's compilations.
pytestmark = [pytest.mark.slow, pytest.mark.long]

STEPS = 8
# Without batch norm, whose statistics would be those of the replicas.
FLAGS = (
  "--model_architecture=vgg_a",
  "--width=0.1",
  "--image_size=32",
  "--num_label_classes=40",
  "--train_batch_size=8",
  "--eval_batch_size=5",
  "--num_train_images=30",
  "--num_eval_images=11",
  "--export_model_freq=0",
  "--use_folder_stub=false",
  "--mask_init_method=erdos_renyi_kernel",
  "--training_method=rigl",
  "--base_learning_rate=0.3",
  "--mode=train_and_eval",
  f"--train_steps={STEPS}",
  "--maskupdate_frequency=3",
  "--steps_per_eval=4",
  "--iterations_per_loop=4",
  "--steps_per_checkpoint=4",
  "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
)
UPDATES = 3  # At the steps 0, 3 and 6.
CASES = {
  "one": ("--strategy=default",),
  "two": ("--strategy=mirrored", "--virtual_devices=2"),
  "workers": ("--strategy=multi_worker",),
  "jax-2": (
    "--runner=jax",
    "--virtual_devices=2",
    "--compilation_cache=none",
  ),
}
SEVERAL = [
  "two",
  "workers",
  pytest.param(
    "jax-2",
    marks=pytest.mark.skipif(
      not importlib.util.find_spec("jax"), reason="JAX is not installed"
    ),
  ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  place = tmp_path_factory.mktemp("data")
  imagenet_files.write_split(place, "train", [7, 9, 6, 8])
  imagenet_files.write_split(place, "validation", [5, 6])
  return place


def train(data, place, case):
  output, directory = place / "states", place / "run"
  flags = (
    *FLAGS,
    *CASES[case],
    f"--data_directory={data}",
    f"--output_dir={directory}",
  )
  command = runs_of_replicas.command("imagenet", output, flags)
  if case == "workers":
    command = runs_of_replicas.workers_command(2, 0, command)
  runs_of_replicas.run(command)
  return runs_of_replicas.states(output, directory)


@pytest.fixture(scope="module")
def results(tmp_path_factory, data):
  done = {}

  def result(case):
    if case not in done:
      done[case] = train(data, tmp_path_factory.mktemp(case), case)
    return done[case]

  return result


def evaluations_of(found):
  """(loss, accuracy) of every evaluation."""
  with (found.directory / "metrics.csv").open(newline="") as file:
    return [
      (float(row["test_loss"]), float(row["test_accuracy"]))
      for row in csv.DictReader(file)
      if row["test_loss"]
    ]


@pytest.mark.parametrize("case", SEVERAL)
def test_every_replica_ends_with_the_same_bits(results, case):
  found = results(case)
  assert len(found.replicas) == 2
  runs_of_replicas.assert_same_replicas(found)


@pytest.mark.parametrize("case", [SEVERAL[0], SEVERAL[2]])
def test_two_devices_see_the_images_of_one(results, case):
  found, wanted = results(case), results("one")
  assert found.masks.keys() == wanted.masks.keys()
  assert len(wanted.masks) == UPDATES
  for iteration, masks in wanted.masks.items():
    for layer, mask in masks.items():
      np.testing.assert_array_equal(found.masks[iteration][layer], mask)
  for name, value in wanted.replicas[0].items():
    np.testing.assert_allclose(
      found.replicas[0][name], value, atol=1e-5, err_msg=name
    )


@pytest.mark.parametrize("case", SEVERAL)
def test_every_image_is_evaluated_once(results, data, case):
  found = results(case)
  loss, accuracy = evaluations_of(found)[-1]
  out = runs_of_replicas.run(
    warm_python.command(
      ROOT / "rigl" / "imagenet_resnet" / "imagenet_train_eval.py",
      *FLAGS,
      "--mode=eval_once",  # By one device; it wins over that of before.
      f"--output_dir={found.directory}",
      f"--data_directory={data}",
    )
  )
  assert f"Accuracy: {accuracy:.4f}" in out
  assert f"loss {loss:.4f}" in out


def test_workers_take_their_places_in_the_data_up_again(results, data):
  found = results("workers")
  wanted = checkpoints.load(str(found.directory / f"model.ckpt-{STEPS}"))
  assert wanted["data_position"].shape == (2, 2)
  for name in (f"model.ckpt-{STEPS}.index", "result.json"):
    (found.directory / name).unlink()
  again = train(data, found.directory.parent, "workers")
  tensors = checkpoints.load_latest(again.directory)
  for name, value in wanted.items():
    np.testing.assert_array_equal(tensors[name], value, err_msg=name)
