# SPDX-License-Identifier: Apache-2.0
"""Predictions of a network: computing, writing and printing them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rigl import file_contents, files
from rigl.distribution.jax_replicas import JaxReplicas
from rigl.predict.tasks import Network
from rigl.runners.jax.device_program import DeviceProgram
from rigl.runners.jax.device_state import DeviceState
from rigl.url_path import UrlPath

_BATCH = 32
_TOP = 5


class Predictions(NamedTuple):
  """Predictions of a network for N images.

  Attributes:
    logits: float32 [N, classes].
    classes: int64 [N], the class with the largest logit.
    probabilities: float32 [N, classes], softmax of the logits.
  """

  logits: np.ndarray
  classes: np.ndarray
  probabilities: np.ndarray


def predict(
  network: Network, images: np.ndarray, replicas: JaxReplicas | None = None
) -> Predictions:
  """Predicts the classes of images.

  Args:
    network: the network with its weights.
    images: a batch of images as they are stored.
    replicas: the device of JAX that predicts. None: TensorFlow does.
  """
  function: Callable[[np.ndarray], Any] = tf.function(
    network.logits, jit_compile=network.jit_compile
  )
  if replicas is not None:
    function = _device_function(network, replicas)
  batches = [
    function(images[start : start + _BATCH])
    for start in range(0, len(images), _BATCH)
  ]
  logits = tf.concat(batches, 0)
  return Predictions(
    logits.numpy(), tf.argmax(logits, 1).numpy(), tf.nn.softmax(logits).numpy()
  )


def _device_function(
  network: Network, replicas: JaxReplicas
) -> Callable[[np.ndarray], np.ndarray]:
  """A function of at most `_BATCH` images that JAX's client runs."""
  state = DeviceState(replicas, network.variables.values())
  program = DeviceProgram(
    lambda images: {"logits": network.logits(images)}, state, writes=False
  )

  def logits(images: np.ndarray) -> np.ndarray:
    missing = [(0, _BATCH - len(images))] + [(0, 0)] * (images.ndim - 1)
    found = program(np.pad(images, missing))["logits"]
    return np.asarray(found)[: len(images)]

  return logits


def check_output(path: files.AnyPath, inputs: Sequence[files.AnyPath]) -> None:
  """Checks that a file can be written, before any work is done.

  Args:
    path: the file; an existing one will be replaced.
    inputs: files that must not be replaced.

  Raises:
    ValueError: if the path is one of the inputs, or is not an .npz file in a
      writable folder.
  """
  if path.suffix != ".npz" or path.is_dir():
    raise ValueError(f"`output` must be an .npz file, got {str(path)!r}.")
  is_disk = not isinstance(path, UrlPath)
  if is_disk and not (os.access(path.parent, os.W_OK) and path.parent.is_dir()):
    raise ValueError(
      f"`output` must be in a folder that can be written to, got {str(path)!r}."
    )
  if any(files.are_same(path, other) for other in inputs):
    raise ValueError(
      f"`output` must not be the file with the images, got {str(path)!r}."
    )


def save(predictions: Predictions, path: files.AnyPath) -> None:
  """Writes an .npz file whole or not at all; one that exists is replaced."""
  file_contents.write_arrays(path, predictions._asdict())


def top_classes(
  predictions: Predictions,
  names: Sequence[str],
  class_names: Sequence[str] = (),
) -> str:
  """One line per image with its most probable classes, at most 5.

  Args:
    predictions: predictions for the images.
    names: names of the images.
    class_names: names of the classes, shown after their numbers.
  """
  lines = []
  for name, row in zip(names, predictions.probabilities, strict=True):
    best = np.argsort(-row, kind="stable")[:_TOP]
    titles = {k: f"{k} {class_names[k]}" if class_names else k for k in best}
    found = "  ".join(f"{titles[k]} {100 * row[k]:.2f}%" for k in best)
    lines.append(f"{name}: {found}")
  return "\n".join(lines)
