# SPDX-License-Identifier: Apache-2.0
"""A `Saver` whose checkpoints are interchangeable with those of `TrainState`.

Names and types are the same: masks are float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

# What a Saver saves besides variables. TensorFlow documents it as the way to
# do so, but has no public name for it.
from tensorflow.python.training.saving import saveable_object

from rigl.types import Tensor, Variable


class EstimatorSaver(tf.compat.v1.train.Saver):
  """Saves and restores variables under given names.

  Args:
    variables: the variables by name.
    keep: how many checkpoints to keep; 0 keeps all.
    masks: those of `variables` that are masks: bool, stored as float32.
  """

  def __init__(
    self,
    variables: Mapping[str, Variable],
    keep: int,
    masks: Collection[str] = (),
  ) -> None:
    self._restored = ""
    super().__init__(
      {
        name: _MaskSaveable(name, v) if name in masks else v
        for name, v in variables.items()
      },
      max_to_keep=keep,
    )

  def restore(self, sess: Any, save_path: str) -> None:
    """Restores, and remembers which checkpoint it was."""
    super().restore(sess, save_path)
    self._restored = save_path.rpartition("-")[2]

  def save(
    self, sess: Any, save_path: str, global_step: Any = None, **options: Any
  ) -> str:
    """Saves, unless the checkpoint was just restored.

    An Estimator first saves what it restored. That would replace the file by
    another layout of the same, or replace a published checkpoint.
    """
    if str(global_step) == self._restored:
      return f"{save_path}-{global_step}"
    return super().save(sess, save_path, global_step, **options)


class _MaskSaveable(saveable_object.SaveableObject):
  """A bool variable that checkpoints hold as float32."""

  def __init__(self, name: str, mask: Variable) -> None:
    spec = saveable_object.SaveSpec(
      lambda: tf.cast(mask.read_value(), tf.float32),
      "",
      name,
      dtype=tf.float32,
      device=mask.device,
    )
    super().__init__(mask, [spec], name)

  def restore(
    self, restored_tensors: list[Tensor], restored_shapes: Any
  ) -> tf.Operation:
    """Assigns the restored values."""
    del restored_shapes
    return self.op.assign(tf.cast(restored_tensors[0], tf.bool)).op
