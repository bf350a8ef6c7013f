# SPDX-License-Identifier: Apache-2.0
"""`rigl-predict` with the directory of a run, and flags that would fit."""

import json

import numpy as np
import pytest
import tensorflow as tf
from predict_files import (
  MNIST,
  RESNET,
  mnist_checkpoint,
  pixels,
  predict,
  predictions_of,
  published_checkpoint,
  saved,
)

from rigl.cifar_resnet.augment import standardize
from rigl.cifar_resnet.cifar_data import VERSIONS
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config.settings import run_identity
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse.checkpoints import to_compact
from rigl.training import checkpoints
from rigl.training.run_directory import RunDirectory

TINY = {"resnet_depth": 10, "resnet_width": 1}


def write_run(path, settings, model, numbers=(5,)):
  """A directory as a run of these settings leaves it."""
  directory = RunDirectory(path, run_identity(settings))
  directory.start()
  directory.close()
  tensors = {k: v.numpy() for k, v in model.named_variables.items()}
  for name, kernel in model.kernels.items():
    tensors[f"{name}/mask"] = np.ones(kernel.shape, np.float32)
  for number in numbers:
    checkpoints.save(path, number, tensors, keep=0)
  return str(path)


def cifar_run(path, numbers=(5,), **changes):
  settings = CifarSettings(training_method="rigl", **{**TINY, **changes})
  model = settings.create_model()
  return write_run(path, settings, model, numbers), model


def colours(count=3):
  rng = np.random.default_rng(2)
  return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("given", ["", "/", "/model.ckpt-7"])
def test_flags_of_a_cifar_run_come_from_its_directory(tmp_path, dataset, given):
  run, model = cifar_run(
    tmp_path / "run", (5, 7), dataset=dataset, prune_first_layer=True
  )
  images = colours()
  found = predictions_of(
    tmp_path,
    task=None,
    checkpoint=run + given,
    images=[saved(tmp_path, images)],
  )
  expected = model(standardize(images))
  assert expected.shape == (3, 100 if dataset == "cifar100" else 10)
  np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-4)


def test_newest_checkpoint_of_a_run_is_taken(tmp_path):
  run, model = cifar_run(tmp_path / "run")
  checkpoints.save(run, 9, {"x": np.ones(3)}, keep=0)
  with pytest.raises(ValueError, match="`checkpoint` '.*model.ckpt-9' does"):
    predict(
      task=None,
      checkpoint=run,
      images=[saved(tmp_path, colours())],
      output=str(tmp_path / "out.npz"),
    )


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_names_of_classes_are_printed(tmp_path, dataset):
  (tmp_path / "a.png").write_bytes(tf.io.encode_png(colours()[0]).numpy())
  run, _ = cifar_run(tmp_path / "run", dataset=dataset)
  text = predict(task=None, checkpoint=run, images=[tmp_path / "a.png"])
  words = text.split(": ")[1].split()
  assert len(words) == 15 and words[2].endswith("%")
  names = VERSIONS[dataset].class_names
  assert [names[int(k)] for k in words[::3]] == words[1::3]


def test_flags_and_bindings_of_an_mnist_run_come_from_its_directory(tmp_path):
  (tmp_path / "run").mkdir()
  _, model = mnist_checkpoint(tmp_path / "run", units=(20, 10))
  settings = {
    **run_identity(MnistSettings(training_method="rigl")),
    "gin_bindings": [
      "MnistFc.units = (20, 10)",
      "SparseRigLOptimizer.noise_std = 0.0",
      "NoSuchThing.x = 1",
    ],
  }
  (tmp_path / "run" / "run.json").write_text(
    json.dumps({"version": "1", "settings": settings})
  )
  images = saved(tmp_path, pixels())
  arguments = {"checkpoint": str(tmp_path / "run"), "images": [images]}
  found = predictions_of(tmp_path, task=None, **arguments)
  expected = model(pixels() / np.float32(255))
  np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match=r"layer1/weights has the shape"):
    predictions_of(
      tmp_path,
      task=None,
      gin_bindings=["MnistFc.units = (30, 10)"],
      **arguments,
    )


@pytest.mark.parametrize("compact", [["layer1"], ["layer1", "layer2"]])
def test_layers_of_active_connections_predict_as_masked_ones(tmp_path, compact):
  prefix, model = mnist_checkpoint(tmp_path, units=(20, 15, 10))
  tensors = to_compact(checkpoints.load(prefix), dict.fromkeys(compact))
  prefix = checkpoints.save(tmp_path, 8, tensors)
  arguments = {"checkpoint": prefix, "images": [saved(tmp_path, pixels())]}
  bindings = ["MnistFc.units = (20, 15, 10)"]
  found = predictions_of(tmp_path, **MNIST, gin_bindings=bindings, **arguments)
  expected = model(pixels() / np.float32(255))
  np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="It needs --training_method=rigl"):
    predictions_of(
      tmp_path,
      task="mnist",
      training_method="baseline",
      gin_bindings=bindings,
      **arguments,
    )


def test_flags_of_an_imagenet_run_come_from_its_directory(tmp_path):
  settings = ImagenetSettings(
    training_method="rigl",
    mask_init_method="random",
    model_architecture="resnet",
    resnet_depth=18,
    width=0.1,
    num_label_classes=7,
    last_layer_sparsity=0.0,
  )
  model = settings.create_model()
  run = write_run(tmp_path / "run", settings, model)
  images = np.zeros([1, 32, 32, 3], np.uint8)
  found = predictions_of(
    tmp_path, task=None, checkpoint=run, images=[saved(tmp_path, images)]
  )
  assert found["logits"].shape == (1, 7)


def test_typed_flags_win_over_those_of_the_run(tmp_path):
  run, _ = cifar_run(tmp_path / "run")
  with pytest.raises(ValueError, match="It needs --resnet_depth=10.$"):
    predict(
      task="cifar10",
      resnet_depth=16,
      checkpoint=run,
      images=[saved(tmp_path, colours())],
      output=str(tmp_path / "out.npz"),
    )


@pytest.mark.parametrize(
  "run_file, task, said",
  [
    ("{", None, "run.json` is damaged"),
    ('{"version": "1"}', None, "run.json` is damaged"),
    ("[]", None, "run.json` is damaged"),
    ('{"settings": {"x": 1}}', None, "is of no task that predicts"),
    (None, "mnist", "`task` must be cifar10 for this run, got 'mnist'"),
  ],
)
def test_wrong_directories_are_refused(tmp_path, run_file, task, said):
  run, _ = cifar_run(tmp_path / "run")
  if run_file is not None:
    (tmp_path / "run" / "run.json").write_text(run_file)
  with pytest.raises(ValueError, match=said):
    predict(task=task, checkpoint=run, images=["a.png"])


def test_directory_without_a_checkpoint_is_refused(tmp_path):
  with pytest.raises(ValueError, match="holds no checkpoint model.ckpt-NUM"):
    predict(task=None, checkpoint=str(tmp_path), images=["a.png"])


# --- Flags that would fit -----------------------------------------------------


@pytest.mark.parametrize(
  "made, used, wanted",
  [
    ({}, {}, "--resnet_depth=10 --resnet_width=1"),
    ({"resnet_width": 2}, TINY, "--resnet_width=2"),
    ({"resnet_depth": 16}, TINY, "--resnet_depth=16"),
    ({"prune_first_layer": True}, TINY, "--prune_first_layer=True"),
    ({"prune_last_layer": False}, TINY, "--prune_last_layer=False"),
    ({"dataset": "cifar100"}, TINY, "--dataset=cifar100 --num_classes=100"),
    ({}, {**TINY, "num_classes": 100}, "--dataset=cifar10 --num_classes=10"),
  ],
)
def test_flags_that_fit_a_cifar_checkpoint_are_named(
  tmp_path, made, used, wanted
):
  run, _ = cifar_run(tmp_path / "run", **made)
  (tmp_path / "run" / "run.json").unlink()
  arguments = {
    "task": "cifar10",
    "training_method": "rigl",
    "checkpoint": run,
    "images": [saved(tmp_path, colours())],
    "output": str(tmp_path / "out.npz"),
  }
  with pytest.raises(ValueError) as caught:
    predict(**{**arguments, **used})
  assert str(caught.value).endswith(f" It needs {wanted}.")
  flags = dict(flag[2:].split("=") for flag in wanted.split())
  typed = {
    name: value == "True" if value in ("True", "False") else value
    for name, value in flags.items()
  }
  typed = {n: int(v) if str(v).isdigit() else v for n, v in typed.items()}
  predict(**{**arguments, **used, **typed})


def test_flags_that_fit_an_imagenet_checkpoint_are_named(tmp_path):
  prefix, _ = published_checkpoint(tmp_path, "resnet18")
  images = saved(tmp_path, np.zeros([1, 32, 32, 3], np.uint8))
  arguments = {"checkpoint": prefix, "images": [images]}
  output = str(tmp_path / "out.npz")
  with pytest.raises(ValueError, match="It needs --width=0.25.$"):
    predict(output=output, **{**RESNET, "width": 0.5}, **arguments)
  with pytest.raises(ValueError, match="It needs --first_layer_sparsity=-1.0."):
    predict(output=output, **{**RESNET, "first_layer_sparsity": 0}, **arguments)
  with pytest.raises(ValueError, match="needs --num_label_classes=1000.$"):
    predict(output=output, num_label_classes=7, **RESNET, **arguments)


def test_flags_that_fit_an_mnist_checkpoint_are_named(tmp_path):
  prefix, _ = mnist_checkpoint(tmp_path, inputs=200)
  arguments = {
    "checkpoint": prefix,
    "images": [saved(tmp_path, pixels())],
    "output": str(tmp_path / "out.npz"),
  }
  with pytest.raises(ValueError, match="It needs --input_mask_path=RUN"):
    predict(**MNIST, **arguments)
  prefix, _ = mnist_checkpoint(tmp_path)
  with pytest.raises(ValueError, match="It needs --training_method=rigl.$"):
    predict(
      **{**arguments, "checkpoint": prefix},
      task="mnist",
      training_method="baseline",
    )
