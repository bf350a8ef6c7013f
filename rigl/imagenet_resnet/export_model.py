# SPDX-License-Identifier: Apache-2.0
"""Exports a network as a SavedModel that takes JPEG files."""

from __future__ import annotations

import tensorflow as tf

from rigl import files
from rigl.formats import saved_model
from rigl.imagenet_resnet.input import preprocessing
from rigl.imagenet_resnet.models.image_model import ImageModel
from rigl.types import Tensor

_TEMPORARY = ".tmp"


class Exporter:
  """Writes SavedModels to a directory, the newest of which stays.

  Args:
    model: the network.
    directory: where to; a SavedModel gets its step as a name there.
    image_size: height and width of the network's images.
  """

  def __init__(
    self, model: ImageModel, directory: files.AnyPath, image_size: int
  ) -> None:
    self._model, self._image_size = model, image_size
    self._directory = directory
    self._served: ServedModel | None = None

  def export(self, step: int) -> None:
    """Writes the network as it is.

    Args:
      step: number of gradient steps, the name of the SavedModel.
    """
    if self._served is None:
      self._served = ServedModel(self._model, self._image_size)
    self._directory.mkdir(parents=True, exist_ok=True)
    place = self._directory / str(step)
    saved_model.save(self._served, self._served.predict, place)
    for other in self._directory.iterdir():
      if other != place and (other.name.isdigit() or _TEMPORARY in other.name):
        files.remove_tree(other)


class ServedModel(tf.Module):
  """A network with the published preprocessing of evaluations.

  Args:
    model: the network.
    image_size: height and width of its images.
  """

  def __init__(self, model: ImageModel, image_size: int) -> None:
    super().__init__(name="served_model")
    self.model, self._image_size = model, image_size
    # Without a GPU only XLA's convolutions take channels first.
    first = model.settings.data_format == "channels_first"
    self._logits = tf.function(model, jit_compile=True) if first else model

  @tf.function(
    input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")]
  )
  def predict(self, image_bytes: Tensor) -> dict[str, Tensor]:
    """Classifies images.

    Args:
      image_bytes: JPEG files.

    Returns:
      `classes`, int64 [batch], and `probabilities`, float32 [batch, classes].
    """
    images = tf.map_fn(
      lambda jpeg: preprocessing.evaluation_image(jpeg, self._image_size),
      image_bytes,
      fn_output_signature=tf.float32,
    )
    logits = self._logits(preprocessing.normalise(images))
    return {
      "classes": tf.argmax(logits, 1),
      "probabilities": tf.nn.softmax(logits),
    }
