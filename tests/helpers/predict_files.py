# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, images and a short way to predict, for the tests beside it."""

import json
import pathlib
import types

import numpy as np
import tensorflow as tf

from rigl.mnist.mnist_model import MnistFc
from rigl.predict import command
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
RESNET = {
  "task": "imagenet",
  "resnet_depth": 18,
  "width": 0.25,
  "first_layer_sparsity": -1.0,
  "last_layer_sparsity": 0.0,
  "training_method": "rigl",
}
VGG = {"task": "imagenet", "model_architecture": "vgg_16", "width": 0.25}
MNIST = {"task": "mnist", "training_method": "rigl"}


def packed_tensors(name):
  """Variables of a golden network as in a published checkpoint.

  Pruned weights are noise, so that a network without masks fails.
  """
  with np.load(GOLDEN / f"{name}.npz") as file:
    values, bits = file["values"], np.unpackbits(file["masks"])
    index, logits = json.loads(file["index"].tobytes()), file["logits"]
  rng = np.random.default_rng(0)
  tensors = {"global_step": np.int64(1)}
  for variable, shape, masked in index:
    size = int(np.prod(shape))
    if masked:
      mask, bits = bits[:size].reshape(shape) != 0, bits[size:]
      tensor = rng.normal(0, 0.05, shape).astype(np.float32)
      count = np.count_nonzero(mask)
      tensor[mask], values = values[:count], values[count:]
      layer = variable.rsplit("/", 1)[0]
      tensors[f"{layer}/mask"] = mask.astype(np.float32)
    else:
      tensor, values = values[:size].reshape(shape), values[size:]
    tensors[variable] = tensor
    tensors[f"{variable}/Momentum"] = tensor
  return tensors, logits


def published_checkpoint(folder, name):
  """A published checkpoint; returns its prefix and the logits."""
  tensors, logits = packed_tensors(name)
  return checkpoints.save(folder, 3200000, tensors), logits


def predict(**values):
  known = {name: None for name in command._model_flags()}
  rest = {"output": None, "gin_config": [], "gin_bindings": []}
  values = {**known, **rest, **values}
  values["images"] = [str(path) for path in values["images"]]
  return command.predict_files(types.SimpleNamespace(**values))


def predictions_of(tmp_path, **values):
  output = tmp_path / "predictions.npz"
  assert predict(output=str(output), **values) == ""
  with np.load(output) as file:
    return dict(file)


def mnist_checkpoint(folder, units=(300, 100, 10), inputs=784, **changes):
  model = MnistFc(inputs, seed=1, units=units)
  tensors = {v.name.split(":")[0]: v.numpy() for v in model.variables}
  rng = np.random.default_rng(0)
  for name, kernel in model.kernels.items():
    mask = rng.random(kernel.shape) < 0.3
    tensors[f"{name}/mask"] = mask.astype(np.float32)
    kernel.assign(tf.where(mask, kernel, 0))
  tensors.update(changes)
  tensors = {k: v for k, v in tensors.items() if v is not None}
  return checkpoints.save(folder, 7, tensors), model


def pixels(count=40, size=784):
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (count, size), dtype=np.uint8)


def saved(folder, images, name="in.npz", key="images"):
  np.savez(folder / name, **{key: images})
  return folder / name
