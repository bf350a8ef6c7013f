# SPDX-License-Identifier: Apache-2.0
"""Networks of the tasks without their dead channels and neurons."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rigl import compression
from rigl.imagenet_resnet.models.model_settings import ModelSettings
from rigl.predict.tasks import Network
from rigl.types import Tensor

if TYPE_CHECKING:
  import keras

_OTHER_NETWORK = (
  "`compress` needs the network that `rigl.keras.networks` makes of the flags, "
  "got another one"
)


class CompressedModel(tf.Module):
  """A compressed Keras model, which is called as the network it comes from.

  Attributes:
    settings: those of that network; None if it has none.

  Args:
    model: the Keras model.
    settings: what `settings` is.
  """

  def __init__(
    self, model: keras.Model, settings: ModelSettings | None
  ) -> None:
    super().__init__(name="compressed")
    self._model, self.settings = model, settings

  def __call__(self, inputs: Tensor) -> Tensor:
    """Maps the inputs of the network to its logits."""
    return self._model(inputs, training=False)


def compress(name: str, network: Network, image_size: int) -> Network:
  """Removes dead inputs, channels and neurons of a task's network.

  Args:
    name: name of the task.
    network: the network, with its weights; it is not changed.
    image_size: height and width of ImageNet's images.

  Returns:
    A network of the same logits, up to the rounding of sums.

  Raises:
    ValueError: if the task's flags do not give the network in Keras.
  """
  from rigl.keras.checkpoint_names import find_names

  model = _in_keras(name, network, image_size)
  try:
    names = find_names(model.weights, network.variables)
  except ValueError as error:
    # Without the argument that it is about, which this caller does not have.
    why = str(error).partition(": ")[2]
    raise ValueError(f"{_OTHER_NETWORK}: {why}") from error
  values = {p: network.variables[n].numpy() for p, n in names.items()}
  for variable in model.weights:
    shape = values[variable.path].shape
    if shape != tuple(variable.shape):
      raise ValueError(
        f"{_OTHER_NETWORK}: {variable.path} must have the shape "
        f"{tuple(variable.shape)}, got {shape}."
      )
  for variable in model.weights:
    variable.assign(values[variable.path])
  small = compression.compress(model)
  return dataclasses.replace(
    network,
    model=CompressedModel(small, getattr(network.model, "settings", None)),
    variables={variable.path: variable.value for variable in small.variables},
    kernels={},
  )


def _in_keras(name: str, network: Network, image_size: int) -> keras.Model:
  """A task's network in Keras, with initial weights."""
  from rigl.keras import networks

  flags: Any = network.flags
  if name == "mnist":
    shapes = [layer.kernel.shape for layer in network.model.layers]
    return networks.mnist_mlp(tuple(s[1] for s in shapes), shapes[0][0])
  if name == "cifar10":
    return networks.wide_resnet(
      flags["resnet_depth"], flags["resnet_width"], flags["num_classes"]
    )
  settings = network.model.settings
  common = {
    "num_classes": settings.num_classes,
    "width": settings.channels(1),
    "image_size": image_size,
  }
  architecture = flags["model_architecture"]
  if architecture == "resnet":
    return networks.resnet(flags["resnet_depth"], **common)
  if architecture == "mobilenet_v1":
    return networks.mobilenet_v1(**common)
  if architecture == "mobilenet_v2":
    factor = flags["expansion_factor"]
    return networks.mobilenet_v2(expansion_factor=factor, **common)
  return networks.vgg(
    architecture, prune_last_layer=settings.prune_last_layer, **common
  )
