# SPDX-License-Identifier: Apache-2.0
"""Source: a trained network that can be exported, and where it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rigl import files
from rigl.exporting import compressed
from rigl.exporting.signature import Signature
from rigl.imagenet_resnet import evaluation_files
from rigl.imagenet_resnet.export_model import ServedModel
from rigl.imagenet_resnet.input.preprocessing import IMAGE_SIZE
from rigl.mnist.input_mask import PIXELS
from rigl.predict.open_network import Opened, make_network, read_task
from rigl.predict.tasks import TASKS
from rigl.tensor_names import GLOBAL_STEP, is_mask, mask_of, weights_of
from rigl.training import warm_start
from rigl.training.run_directory import RESULT_FILE
from rigl.types import Tensor
from rigl.version import __version__

_EXAMPLES = 4
_IMAGENET = "imagenet"
# Exported operations have the channels last and compute in float32, as every
# reader can.
_AS_EXPORTED = {"data_format": "channels_last", "precision": "float32"}


@dataclasses.dataclass(frozen=True)
class Source:
  """A trained network.

  Attributes:
    served: the signature of SavedModels.
    arrays: the signature of other formats, which take no JPEG files.
    variables: the variables by name, to load a compact file into.
    tensors: what a compact file holds, arrays by name.
    metadata: what every format holds, for readers.
    compress: gives the same without dead inputs, channels and neurons.
  """

  served: Signature
  arrays: Signature
  variables: Mapping[str, Any]
  tensors: Mapping[str, np.ndarray]
  metadata: Mapping[str, Any]
  compress: Callable[[], Source]

  @property
  def num_parameters(self) -> int:
    """The number of its weights and statistics, zero or not."""
    return sum(int(np.prod(v.shape)) for v in self.variables.values())


def open_checkpoint(
  checkpoint: str,
  task: str | None = None,
  flags: Mapping[str, Any] | None = None,
  gin_config: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_imports: bool = False,
  image_size: int | None = None,
) -> Source:
  """Opens a checkpoint, a run or a compact file of a task.

  Args:
    checkpoint: prefix of a checkpoint, directory of a run, or a compact file.
    task: name of the task; None: that of the run or file.
    flags: flags of the network that win over those of the run.
    gin_config: gin files.
    gin_bindings: gin bindings.
    gin_imports: whether they may import modules outside of this package.
    image_size: ImageNet: height and width of the images; None: that of the run,
      224 without one.

  Raises:
    ValueError: if there is none, it is damaged, or does not fit the flags.
  """
  name, run = read_task(checkpoint, task)
  flags = dict(flags or {})
  kept = {**run.values, **flags}
  known = TASKS[name].flags
  flags |= {k: v for k, v in _AS_EXPORTED.items() if k in known}
  if name != _IMAGENET and image_size is not None:
    raise ValueError(
      f"`image_size` is for the task imagenet, got {image_size} for {name}."
    )
  opened = make_network(name, run, flags, gin_config, gin_bindings, gin_imports)
  size = int(image_size or run.settings.get("image_size") or IMAGE_SIZE)
  loaded = opened.load()
  described: dict[str, Any] = {
    "rigl": __version__,
    "task": name,
    "flags": {k: kept.get(k, v) for k, v in opened.network.flags.items()},
    "gin_bindings": [*opened.gin_bindings],
    "step": int(loaded.get(GLOBAL_STEP, 0)),
    **_accuracy(run.prefix, run.settings, int(loaded.get(GLOBAL_STEP, -1))),
  }
  if name == _IMAGENET:
    described["image_size"] = size
  if opened.network.pixels is not None:
    described["flags"].pop("input_mask_path", None)

  def source(opened: Opened, tensors: Mapping[str, np.ndarray]) -> Source:
    return Source(
      *_signatures(opened, size),
      opened.network.variables,
      tensors,
      {**described, **sparsities(tensors)},
      compress,
    )

  def compress() -> Source:
    network = compressed.compress(name, opened.network, size)
    return source(
      opened._replace(network=network),
      {key: variable.numpy() for key, variable in network.variables.items()},
    )

  return source(opened, _kept(opened, loaded))


def sparsities(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The sparsity of all kernels, and that of each one.

  Args:
    tensors: arrays by name; those of two and more dimensions are kernels.
  """
  kernels = {
    name: tensor
    for name, tensor in tensors.items()
    if tensor.ndim >= 2
    and tensor.dtype.kind in "fV"
    and tensor.size
    and not is_mask(name)
  }
  zeros = {n: t.size - np.count_nonzero(t) for n, t in kernels.items()}
  total = sum(tensor.size for tensor in kernels.values())
  return {
    "sparsity": round(sum(zeros.values()) / total, 6) if total else 0.0,
    "sparsities": {
      name: round(float(count / kernels[name].size), 6)
      for name, count in zeros.items()
    },
  }


def _kept(
  opened: Opened, loaded: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Weights, masks and step of a checkpoint, without an optimizer's state."""
  weights = warm_start.effective_weights(loaded)
  kept = {name: weights[name] for name in opened.network.variables}
  for layer in opened.network.kernels:
    kept[mask_of(layer)] = loaded[mask_of(layer)]
  for name in loaded:  # Masks that are there, but need not be.
    if is_mask(name) and weights_of(name) in kept:
      kept[name] = loaded[name]
  if opened.network.pixels is not None:
    kept[PIXELS] = opened.network.pixels
  if GLOBAL_STEP in loaded:
    kept[GLOBAL_STEP] = loaded[GLOBAL_STEP]
  return kept


def _accuracy(
  prefix: str, settings: Mapping[str, Any], step: int
) -> dict[str, float]:
  """The accuracy of a checkpoint, if it is known.

  The result of a run is that of its last checkpoint; an evaluation of one
  checkpoint has a directory of its own.
  """
  if "accuracy" in settings:
    return {"accuracy": float(settings["accuracy"])}
  directory = files.path(prefix).parent
  for file, name in (
    (evaluation_files.result_file(directory, prefix), "accuracy"),
    (directory / RESULT_FILE, "test_accuracy"),
  ):
    try:
      result = json.loads(file.read_text()) if file.is_file() else {}
      if result.get("step") == step and isinstance(result[name], float):
        return {"accuracy": result[name]}
    except (OSError, ValueError, KeyError, AttributeError):
      continue  # A damaged result says nothing.
  return {}


def _signatures(opened: Opened, size: int) -> tuple[Signature, Signature]:
  """The signatures of SavedModels and of other formats."""
  network = opened.network
  if network.jit_compile:
    raise AssertionError("Exported networks have the channels last.")
  variables = [*network.variables.values()]
  shape = [side or size for side in opened.task.image_shape]
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, [_EXAMPLES, *shape], dtype=np.uint8)
  inputs = {"images": tf.TensorSpec([None, *shape], tf.uint8)}

  def logits(images: Tensor) -> dict[str, Tensor]:
    return {"logits": network.logits(images)}

  def predict(images: Tensor) -> dict[str, Tensor]:
    found = network.logits(images)
    return {
      "logits": found,
      "classes": tf.argmax(found, 1),
      "probabilities": tf.nn.softmax(found),
    }

  arrays = Signature(logits, inputs, {"images": pixels}, variables)
  if opened.name != _IMAGENET:
    served = Signature(predict, inputs, {"images": pixels}, variables)
    return served, arrays
  model = ServedModel(network.model, size)
  served = Signature(
    lambda image_bytes: model.predict(image_bytes),
    {"image_bytes": tf.TensorSpec([None], tf.string)},
    {"image_bytes": np.array([_jpeg(image) for image in pixels], object)},
    variables,
  )
  return served, arrays


def _jpeg(image: np.ndarray) -> bytes:
  content: bytes = tf.io.encode_jpeg(image, quality=95).numpy()
  return content
