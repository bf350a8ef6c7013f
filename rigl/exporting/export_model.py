# SPDX-License-Identifier: Apache-2.0
"""`export`: writes a trained network in a format, and verifies the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rigl import checks, files
from rigl.exporting import (
  arguments,
  calibrations,
  keras_source,
  onnx_files,
  stablehlo,
  verification,
)
from rigl.exporting.source import Source, open_checkpoint
from rigl.exporting.writers import WRITERS, ExportReport, Options
from rigl.formats import outputs, saved_model

if TYPE_CHECKING:
  import keras

# Files by which a directory of a format is recognised.
_FILES_OF = {
  "savedmodel": (saved_model.GRAPH_FILE,),
  "stablehlo": stablehlo.FILES,
}


def export(
  checkpoint: str | os.PathLike | keras.Model,
  output: str | os.PathLike,
  format: str = "savedmodel",
  *,
  dtype: str = "float32",
  task: str | None = None,
  flags: Mapping[str, Any] | None = None,
  gin_config: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_imports: bool = False,
  image_size: int | None = None,
  batch_size: int = 1,
  sparse: bool = True,
  compress: bool = False,
  compression: str = "zlib",
  calibration_images: str | os.PathLike | None = None,
  overwrite: bool = False,
) -> ExportReport:
  """Exports a trained network, and verifies what was written.

  The file is read again and its results are compared with TensorFlow's: to
  1e-5 (for results above 1 as a share of the largest), float16 to 1e-2 and int8
  to 0.25 of the range of the results. If they differ more, nothing is left.

  >>> rigl.export("rigl_runs/mnist/RUN", "digits.tflite", "litert")

  Args:
    checkpoint: a Keras model or its `.keras` file; or for networks of the
      scripts the prefix of a checkpoint, also a published one, the directory of
      a run, or a compact file.
    output: the file or, for `savedmodel` and `stablehlo`, directory to write.
    format: `savedmodel`, `litert`, `compact`, `stablehlo` or `onnx`.
    dtype: type of the weights in the file: `float32`; `float16` for `litert`
      and `compact`; `int8` for `litert`.
    task: `imagenet`, `cifar10` or `mnist`; None: that of the run.
    flags: flags that select the network, by name, as of `rigl-predict`.
    gin_config: gin files.
    gin_bindings: gin bindings.
    gin_imports: whether these may import modules outside of this package.
    image_size: height and width of the images of ImageNet (None: those of the
      run, or 224), or the sizes that a Keras model leaves open, at least 1.
    batch_size: examples per call, for `litert` and `stablehlo`, at least 1.
    sparse: whether `litert` stores sparse tensors where they are smaller.
    compress: whether dead inputs, channels and neurons are removed, as
      `rigl.compress` does it; not for `compact`, which holds no program.
    compression: compression of `compact`: `zlib`, or `none` for a file whose
      values can be memory-mapped.
    calibration_images: an `.npz` file with the key `images`, typical inputs, at
      least `batch_size` of them, by which `litert` quantises activations for
      `int8`. None: weights alone.
    overwrite: whether to replace a file, or the directory of an export, that is
      there; never `checkpoint` and `calibration_images`.

  Returns:
    Size and difference of what was written.

  Raises:
    ValueError: if an argument or the checkpoint is not as described, the format
      lacks an operation of the network, or the results differ.
    OSError: if the output cannot be written.
  """
  arguments.check_format(
    format,
    dtype,
    batch_size=batch_size,
    sparse=sparse,
    compress=compress,
    compression=compression,
    calibration_images=calibration_images,
  )
  checks.check_flag("gin_imports", gin_imports)
  checks.check_flag("overwrite", overwrite)
  if image_size is not None:
    checks.check_integer("image_size", image_size, 1)
  if format == "onnx":
    onnx_files.check_installed()
  outputs.check_new(output, overwrite, _FILES_OF.get(format, ()))
  arguments.check_other_place(
    output, checkpoint=checkpoint, calibration_images=calibration_images
  )
  of_scripts = {
    "task": task,
    "flags": flags,
    "gin_config": gin_config,
    "gin_bindings": gin_bindings,
    "gin_imports": gin_imports,
  }
  source = _opened(checkpoint, image_size, of_scripts)
  notes: tuple[str, ...] = ()
  if compress:
    source, note = _compressed(source)
    notes = (note,)
  calibration = None
  if calibration_images is not None:
    calibration = calibrations.read(
      calibration_images, source.arrays, batch_size
    )
  options = Options(dtype, batch_size, sparse, compression, calibration)
  report = WRITERS[format](source, files.path(output), options)
  return report._replace(notes=(*notes, *report.notes))


def _opened(
  checkpoint: str | os.PathLike | keras.Model,
  image_size: int | None,
  of_scripts: Mapping[str, Any],
) -> Source:
  """Opens what is exported.

  Args:
    checkpoint: as for `export`.
    image_size: as for `export`.
    of_scripts: the arguments for networks of the scripts, by name.
  """
  if not isinstance(checkpoint, str | os.PathLike):
    arguments.check_no_flags(**of_scripts)
    return keras_source.open_model(checkpoint, image_size)
  place = os.fspath(checkpoint)
  if not keras_source.is_keras_file(place):
    return open_checkpoint(place, image_size=image_size, **of_scripts)
  arguments.check_no_flags(**of_scripts)
  return keras_source.open_model(keras_source.load_model(place), image_size)


def _compressed(source: Source) -> tuple[Source, str]:
  """Removes dead inputs, channels and neurons of a network.

  Returns:
    The smaller network, and a note on the numbers of parameters.

  Raises:
    ValueError: if it cannot be compressed, or its results change.
  """
  small = source.compress()
  examples = source.arrays.examples
  difference = verification.compare(
    small.arrays.compute(**examples), source.arrays.compute(**examples)
  )
  if not difference.is_small:
    raise ValueError(
      f"`compress` changed the results of the network: {difference}."
    )
  return small, (
    f"Compressed: {source.num_parameters:,} parameters became "
    f"{small.num_parameters:,}."
  )
