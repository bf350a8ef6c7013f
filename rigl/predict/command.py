# SPDX-License-Identifier: Apache-2.0
"""Predicts the classes of images with a published checkpoint or one of ours.

  rigl-predict --task=imagenet --resnet_depth=50 --first_layer_sparsity=-1 \
    --checkpoint=path/to/model.ckpt-3200000 --images=images.npz \
    --output=predictions.npz

`--images` may also be JPEG or PNG files; then the five most probable classes of
each are printed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from absl import flags

from rigl import files
from rigl.config import app
from rigl.config.device_flags import JAX, LOOP, compilation_cache
from rigl.config.settings import DEFINERS, define_gin_flags
from rigl.distribution import jax_replicas, strategies
from rigl.predict import images, predictions
from rigl.predict.open_network import make_network, read_task
from rigl.predict.tasks import TASKS

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags; `run` calls it, because imports must not define any."""
  flags.DEFINE_string(
    "task",
    None,
    f"The task: {', '.join(TASKS)}. May be left out for a run's directory.",
  )
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Prefix of a checkpoint, such as DIR/model.ckpt-3200000, a published one "
    "or one of ours; the directory of a run, whose newest checkpoint and "
    "flags are taken; or a compact file of rigl-export.",
  )
  flags.DEFINE_list(
    "images",
    [],
    "An .npz file with the key `images` (imagenet: uint8 [N, height, width, "
    "3]; cifar10: uint8 [N, 32, 32, 3]; mnist: uint8 or float in [0, 1] [N, "
    "784]), or JPEG and PNG files, separated by commas; patterns such as *.png "
    "are expanded.",
  )
  flags.DEFINE_string(
    "output",
    None,
    "File to write, .npz with the keys logits, classes and probabilities; one "
    "that exists is replaced. May be left out for JPEG and PNG files.",
  )
  flags.DEFINE_enum(
    "runner",
    LOOP,
    [LOOP, JAX],
    "What predicts: loop, TensorFlow; jax, a GPU, TPU or CPU that JAX sees.",
  )
  define_model_flags()
  define_gin_flags()


def define_model_flags() -> None:
  """Defines the flags that select the network of a checkpoint."""
  for name, (kind, text) in _model_flags().items():
    DEFINERS[kind](name, None, text)


def given_flags(values: Any) -> dict[str, Any]:
  """The flags that select the network, as far as they are given.

  Args:
    values: object with an attribute for each flag, None if it is not given.
  """
  given = {name: getattr(values, name) for name in _model_flags()}
  return {name: value for name, value in given.items() if value is not None}


def _model_flags() -> dict[str, tuple[type, str]]:
  """Type and help text of the flags of models, by name."""
  found: dict[str, tuple[type, str]] = {}
  for task_name, task in TASKS.items():
    for field in dataclasses.fields(task.settings):
      if field.name in task.flags:
        kind, before = found.get(field.name, (type(field.default), ""))
        text = f"{task_name}: {field.metadata['help']}"
        if field.metadata["choices"]:
          text += f" One of {', '.join(field.metadata['choices'])}."
        text = f"{before} {text} (default: {json.dumps(field.default)})".strip()
        found[field.name] = (kind, text)
  return found


def predict_files(values: Any) -> str:
  """Predicts the images and writes the output file, if one is given.

  Args:
    values: object with an attribute for each flag, None if it is not given.

  Returns:
    Text to print: one line per JPEG or PNG file.

  Raises:
    ValueError: if a flag, an image or the checkpoint is invalid.
  """
  for name in ("checkpoint", "images"):
    if not getattr(values, name):
      raise ValueError(f"`{name}` must be given, got none.")
  name, run = read_task(values.checkpoint, values.task)
  paths = _paths(values.images)
  arrays = [path for path in paths if path.suffix == ".npz"]
  if arrays and len(paths) > 1:
    raise ValueError(
      f"`images` must be one .npz file or other files, got {values.images}."
    )
  output = files.path(values.output) if values.output else None
  if output is not None:
    predictions.check_output(output, paths)
  elif arrays:
    raise ValueError("`output` must be given for an .npz file, got none.")
  opened = make_network(
    name,
    run,
    given_flags(values),
    values.gin_config,
    values.gin_bindings,
    getattr(values, "gin_imports", False),
    # XLA, which JAX needs, cannot compile them.
    keeps_compact=getattr(values, "runner", LOOP) != JAX,
  )
  if arrays:
    batch = images.load_array(paths[0], opened.task)
  else:
    batch = images.load_files(paths, opened.task)
  opened.load()
  replicas = None
  if getattr(values, "runner", LOOP) == JAX:
    cache = compilation_cache("")
    replicas = jax_replicas.create_jax_replicas(strategies.DEFAULT, cache=cache)
  found = predictions.predict(opened.network, batch, replicas)
  if output is not None:
    predictions.save(found, output)
  if arrays:
    return ""
  return predictions.top_classes(
    found, [str(path) for path in paths], opened.network.class_names
  )


def main(arguments: Sequence[str]) -> None:
  """Predicts, and prints the classes of JPEG and PNG files."""
  del arguments
  with app.one_line_errors():
    text = predict_files(FLAGS)
  if text:
    print(text)


def _paths(names: Sequence[str]) -> list[files.AnyPath]:
  """Files of names and patterns; a name without a match is kept."""
  return [path for name in names for path in files.matching(name)]


def run() -> None:
  """The command `rigl-predict`."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
