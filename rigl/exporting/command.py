# SPDX-License-Identifier: Apache-2.0
"""Exports a trained network: SavedModel, LiteRT, compact, StableHLO, ONNX.

  rigl-export --checkpoint=RUN --format=litert --output=digits.tflite

  rigl-export --checkpoint=sparse.keras --format=compact --output=sparse.rigl

The file is read again and its results are compared with TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Sequence

from rigl.config import tensorflow_environment  # noqa: F401

# isort: split
from absl import flags

from rigl.config import app
from rigl.config.settings import define_gin_flags
from rigl.exporting.arguments import DTYPES, FORMATS
from rigl.exporting.export_model import export
from rigl.formats import sections
from rigl.predict.command import define_model_flags, given_flags
from rigl.predict.tasks import TASKS

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the flags; `run` calls it, because imports must not define any."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "What to export: a .keras file; the prefix of a checkpoint, such as "
    "DIR/model.ckpt-3200000, a published one or one of ours; the directory of "
    "a run, whose newest checkpoint and flags are taken; or a compact file.",
  )
  flags.DEFINE_string(
    "output",
    None,
    "File to write; for savedmodel and stablehlo a directory.",
  )
  flags.DEFINE_enum("format", "savedmodel", list(FORMATS), "Format to write.")
  flags.DEFINE_enum(
    "dtype",
    "float32",
    sorted({dtype for dtypes in DTYPES.values() for dtype in dtypes}),
    "Type of the weights in the file; float16 for litert and compact, int8 for "
    "litert.",
  )
  flags.DEFINE_string(
    "task",
    None,
    f"The task: {', '.join(TASKS)}. May be left out for a run's directory.",
  )
  flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width of images: of ImageNet (default: those of the run, or "
    "224), or of a Keras model that leaves them open.",
  )
  flags.DEFINE_integer(
    "batch_size", 1, "Examples per call, for litert and stablehlo."
  )
  flags.DEFINE_boolean(
    "sparse", True, "litert: sparse tensors where they are smaller."
  )
  flags.DEFINE_boolean(
    "compress",
    False,
    "Remove dead inputs, channels and neurons; not for compact.",
  )
  flags.DEFINE_enum(
    "compression",
    "zlib",
    list(sections.COMPRESSIONS),
    "compact: zlib, or none for values that can be memory-mapped.",
  )
  flags.DEFINE_string(
    "calibration_images",
    None,
    "litert, int8: .npz file with the key `images`, by which activations are "
    "quantised. Without it, weights alone are.",
  )
  flags.DEFINE_boolean(
    "overwrite", False, "Replace an export that is there already."
  )
  define_model_flags()
  define_gin_flags()


def main(arguments: Sequence[str]) -> None:
  """Exports, and prints size and verification."""
  del arguments
  with app.one_line_errors():
    for name in ("checkpoint", "output"):
      if not getattr(FLAGS, name):
        raise ValueError(f"`{name}` must be given, got none.")
    report = export(
      FLAGS.checkpoint,
      FLAGS.output,
      FLAGS.format,
      dtype=FLAGS.dtype,
      task=FLAGS.task,
      flags=given_flags(FLAGS),
      gin_config=FLAGS.gin_config,
      gin_bindings=FLAGS.gin_bindings,
      gin_imports=FLAGS.gin_imports,
      image_size=FLAGS.image_size,
      batch_size=FLAGS.batch_size,
      sparse=FLAGS.sparse,
      compress=FLAGS.compress,
      compression=FLAGS.compression,
      calibration_images=FLAGS.calibration_images,
      overwrite=FLAGS.overwrite,
    )
  print(report)


def run() -> None:
  """The command `rigl-export`."""
  app.run(main, define_flags)


if __name__ == "__main__":
  run()
