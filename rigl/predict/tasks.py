# SPDX-License-Identifier: Apache-2.0
"""Networks for prediction, one per task, and their flags.

A network takes images as they are stored and normalises them itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rigl.cifar_resnet import augment
from rigl.cifar_resnet.cifar_data import IMAGE_SHAPE, VERSIONS
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config.settings import Settings
from rigl.imagenet_resnet.input.preprocessing import normalise
from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.mnist.input_mask import used_pixels
from rigl.mnist.mnist_layers import make_empty
from rigl.mnist.mnist_model import MnistFc
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse_optimizers.registry import BASELINE
from rigl.types import Tensor, Variable

_PIXELS = 28 * 28


@dataclasses.dataclass(frozen=True)
class Network:
  """A network with initial weights.

  Attributes:
    model: the network itself, a callable.
    prepare: maps a batch of images as they are stored to what the model takes.
    variables: variables by their names in checkpoints.
    kernels: masked kernels by layer name; empty if checkpoints may be without
      masks.
    jit_compile: whether only XLA can compile it for a CPU.
    class_names: names of the classes by number; empty if they have none.
    pixels: numbers of the pixels that it sees; None for all.
    flags: values of the task's flags that select it.
  """

  model: Any
  prepare: Callable[[Tensor], Tensor]
  variables: Mapping[str, Variable]
  kernels: Mapping[str, Variable]
  jit_compile: bool = False
  class_names: tuple[str, ...] = ()
  pixels: np.ndarray | None = None
  flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def logits(self, images: Tensor) -> Tensor:
    """Maps a batch of images as they are stored to float32 logits."""
    return self.model(self.prepare(images))


@dataclasses.dataclass(frozen=True)
class PredictTask:
  """A task of `rigl-predict`: its flags and its network.

  Attributes:
    settings: dataclass of the flags of its training script.
    flags: names of the flags that select the network.
    make: makes the network from the settings, and the number of connections
      of layers that store no others, by layer name.
    image_shape: shape of an image; None for sizes of any value.
    floats: whether images may also be float numbers in [0, 1].
    complete: adds values that follow from the given ones.
  """

  settings: type[Settings]
  flags: tuple[str, ...]
  make: Callable[[Any, Mapping[str, int]], Network]
  image_shape: tuple[int | None, ...]
  floats: bool = False
  complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict

  def network(
    self, values: Mapping[str, Any], compact: Mapping[str, int] | None = None
  ) -> Network:
    """Makes the network that the flags select.

    Args:
      values: values of flags by name; other flags have their defaults.
      compact: {layer name: number of connections} of the layers of which the
        checkpoint holds only the active connections. None: there are none.

    Raises:
      ValueError: if a flag is out of its range or does not belong to the task.
    """
    unknown = [name for name in values if name not in self.flags]
    if unknown:
      raise ValueError(
        f"`{unknown[0]}` is not for this `task`, whose model has the flags "
        f"{[*self.flags]}; got {values[unknown[0]]!r}."
      )
    settings = self.settings(**self.complete(values))
    used = {name: getattr(settings, name) for name in self.flags}
    return dataclasses.replace(self.make(settings, compact or {}), flags=used)


def _imagenet(flags: ModelFlags, compact: Mapping[str, int]) -> Network:
  del compact  # No such network has layers of this kind.
  model = flags.create_model()
  dense = flags.training_method == BASELINE
  return Network(
    model,
    normalise,
    model.named_variables,
    {} if dense else model.kernels,
    flags.data_format == "channels_first",
  )


def _cifar10(flags: CifarSettings, compact: Mapping[str, int]) -> Network:
  del compact  # No such network has layers of this kind.
  model = flags.create_model()
  return Network(
    model,
    augment.standardize,
    model.named_variables,
    model.kernels,
    class_names=VERSIONS[flags.dataset].class_names,
  )


def _with_dataset(values: Mapping[str, Any]) -> Mapping[str, Any]:
  """Adds the data set that has so many classes; runs record these alone."""
  classes = values.get("num_classes")
  known = [n for n, v in VERSIONS.items() if v.num_classes == classes]
  if "dataset" in values or not known:
    return values
  return {**values, "dataset": known[0]}


def _mnist(flags: MnistSettings, compact: Mapping[str, int]) -> Network:
  used = used_pixels(flags.input_mask_path, _PIXELS)
  dense = flags.training_method == BASELINE
  model = MnistFc(
    len(used),
    flags.seed,
    not dense,
    sparse_layers=lambda shapes: {
      name: make_empty(shape, name, compact[name])
      for name, shape in shapes.items()
      if name in compact
    },
  )
  masked = {n: k for n, k in model.kernels.items() if n not in compact}

  def prepare(pixels: Tensor) -> Tensor:
    scale = 255.0 if pixels.dtype == tf.uint8 else 1.0
    pixels = tf.cast(pixels, tf.float32) / scale
    if len(used) < _PIXELS:
      pixels = tf.gather(pixels, used, axis=1)
    return pixels

  return Network(
    model,
    prepare,
    model.named_variables,
    {} if dense else masked,
    pixels=used if flags.input_mask_path else None,
  )


TASKS = {
  "imagenet": PredictTask(
    ModelFlags,
    tuple(field.name for field in dataclasses.fields(ModelFlags)),
    _imagenet,
    (None, None, 3),
  ),
  "cifar10": PredictTask(
    CifarSettings,
    (
      "resnet_depth",
      "resnet_width",
      "dataset",
      "num_classes",
      "prune_first_layer",
      "prune_last_layer",
      "training_method",
      "precision",
    ),
    _cifar10,
    IMAGE_SHAPE,
    complete=_with_dataset,
  ),
  "mnist": PredictTask(
    MnistSettings,
    ("training_method", "input_mask_path"),
    _mnist,
    (_PIXELS,),
    floats=True,
  ),
}
