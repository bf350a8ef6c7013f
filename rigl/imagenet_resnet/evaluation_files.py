# SPDX-License-Identifier: Apache-2.0
"""Files of the evaluation of one checkpoint: `result.json` and TensorBoard."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import NamedTuple

import tensorflow as tf

from rigl import files
from rigl.error_text import one_line
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.training.run_directory import RESULT_FILE

# Settings that decide what a checkpoint is evaluated on, and how.
_SETTINGS = (
  "eval_on_train",
  "num_eval_images",
  "use_batch_statistics",
  "image_size",
  "label_smoothing",
  "weight_decay",
  "use_synthetic_data",
)


class CheckpointResult(NamedTuple):
  """Evaluation of a checkpoint.

  Attributes:
    step: its gradient steps.
    metrics: means over the images.
    sparsities: share of zeros by layer; empty without masks.
    sparsity: share of zeros of all masks.
  """

  step: int
  metrics: dict[str, float]
  sparsities: dict[str, float]
  sparsity: float


def result_file(directory: files.Path, prefix: str) -> files.AnyPath:
  """The path of the result of a checkpoint, `eval_NAME/result.json`.

  Args:
    directory: the directory of the run.
    prefix: prefix of the checkpoint NAME.
  """
  name = pathlib.PurePath(prefix).name
  return files.path(directory) / f"eval_{name}" / RESULT_FILE


def write(
  flags: ImagenetSettings, prefix: str, result: CheckpointResult
) -> files.AnyPath | None:
  """Writes a result to `eval_NAME` in the directory of the run.

  `result.json` holds the last evaluation of the checkpoint NAME, with the
  settings that decide it, TensorBoard's files every one. Where nothing can be
  written, as beside a checkpoint of someone else, a warning says so.

  Args:
    flags: the settings.
    prefix: prefix of the checkpoint.
    result: its evaluation.

  Returns:
    The path of `result.json`; None if it is not written.
  """
  place = result_file(flags.directory, prefix)
  directory = place.parent
  try:
    directory.mkdir(parents=True, exist_ok=True)
    _write_events(directory, result)
    content = {
      "checkpoint": pathlib.PurePath(prefix).name,
      "step": result.step,
      **result.metrics,
      "sparsity": result.sparsity,
      "sparsities": result.sparsities,
      "settings": {name: getattr(flags, name) for name in _SETTINGS},
    }
    files.write_text(place, json.dumps(content, indent=1) + "\n")
  except (OSError, tf.errors.OpError) as error:
    logging.warning(
      "The result is only printed, not written: %s", one_line(error)
    )
    return None
  return place


def _write_events(directory: files.AnyPath, result: CheckpointResult) -> None:
  values = {**result.metrics, "sparsity": result.sparsity}
  for name, sparsity in result.sparsities.items():
    values[f"sparsity/{name}"] = sparsity
  writer = tf.summary.create_file_writer(str(directory))
  with writer.as_default(step=result.step):
    for name, value in values.items():
      tf.summary.scalar(name, value)
  writer.close()
