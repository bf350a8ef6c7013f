# SPDX-License-Identifier: Apache-2.0
"""`export`: writes a trained network in a format, and verifies the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rigl import checks, files
from rigl.exporting import (
  calibrations,
  keras_source,
  onnx_files,
  stablehlo,
  verification,
)
from rigl.exporting.source import Source, open_checkpoint
from rigl.exporting.writers import WRITERS, ExportReport, Options
from rigl.formats import outputs, saved_model, sections

if TYPE_CHECKING:
  import keras

# Types of the weights in files, by format.
DTYPES = {
  "savedmodel": ("float32",),
  "litert": ("float32", "float16", "int8"),
  "compact": ("float32", "float16"),
  "stablehlo": ("float32",),
  "onnx": ("float32",),
}
FORMATS = tuple(DTYPES)
# Arguments that some formats have alone: their default, and these formats.
_OF_FORMATS: dict[str, tuple[Any, tuple[str, ...]]] = {
  "batch_size": (1, ("litert", "stablehlo")),
  "sparse": (True, ("litert",)),
  "compression": ("zlib", ("compact",)),
}
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
  _check(format, dtype)
  _check_options(
    format, batch_size=batch_size, sparse=sparse, compression=compression
  )
  for name, value in (
    ("gin_imports", gin_imports),
    ("compress", compress),
    ("overwrite", overwrite),
  ):
    checks.check_flag(name, value)
  if image_size is not None:
    checks.check_integer("image_size", image_size, 1)
  if calibration_images is not None and (format, dtype) != ("litert", "int8"):
    raise ValueError(
      "`calibration_images` is for `format`=litert and `dtype`=int8, got "
      f"{format} and {dtype}."
    )
  if compress and format == "compact":
    raise ValueError(
      "`compress` is for formats that hold a program, not for `format`=compact."
    )
  if format == "onnx":
    onnx_files.check_installed()
  outputs.check_new(output, overwrite, _FILES_OF.get(format, ()))
  _check_other_place(
    output, checkpoint=checkpoint, calibration_images=calibration_images
  )
  is_model = not isinstance(checkpoint, str | os.PathLike)
  if is_model or keras_source.is_keras_file(os.fspath(checkpoint)):
    _check_no_flags(
      task=task,
      flags=flags,
      gin_config=gin_config,
      gin_bindings=gin_bindings,
      gin_imports=gin_imports,
    )

  if not isinstance(checkpoint, str | os.PathLike):
    source = keras_source.open_model(checkpoint, image_size)
  elif keras_source.is_keras_file(os.fspath(checkpoint)):
    model = keras_source.load_model(os.fspath(checkpoint))
    source = keras_source.open_model(model, image_size)
  else:
    source = open_checkpoint(
      os.fspath(checkpoint),
      task,
      flags,
      gin_config,
      gin_bindings,
      gin_imports,
      image_size,
    )
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


def _check(format: str, dtype: str) -> None:
  if format not in FORMATS:
    raise ValueError(f"`format` must be one of {[*FORMATS]}, got {format!r}.")
  if dtype not in DTYPES[format]:
    raise ValueError(
      f"`dtype` must be one of {[*DTYPES[format]]} for {format}, got {dtype!r}."
    )


def _check_options(
  format: str, *, batch_size: int, sparse: bool, compression: str
) -> None:
  """Checks arguments that some formats have alone.

  Raises:
    ValueError: if one is not as `export` describes it, or `format` lacks it.
  """
  checks.check_integer("batch_size", batch_size, 1)
  checks.check_flag("sparse", sparse)
  if compression not in sections.COMPRESSIONS:
    raise ValueError(
      f"`compression` must be one of {[*sections.COMPRESSIONS]}, got "
      f"{compression!r}."
    )
  given = {
    "batch_size": batch_size,
    "sparse": sparse,
    "compression": compression,
  }
  for name, value in given.items():
    default, formats = _OF_FORMATS[name]
    if value != default and format not in formats:
      raise ValueError(
        f"`{name}` is for `format` {' and '.join(formats)}, got {value!r} for "
        f"{format}."
      )


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


def _check_other_place(output: str | os.PathLike, **inputs: Any) -> None:
  """Checks that the export does not replace what it is made of."""
  for name, value in inputs.items():
    is_path = isinstance(value, str | os.PathLike)
    if is_path and files.are_same(value, output):
      raise ValueError(
        f"`output` must not be the `{name}`, got {os.fspath(output)!r}."
      )


def _check_no_flags(**arguments: Any) -> None:
  """Checks that arguments for networks of the scripts are not given."""
  for name, value in arguments.items():
    if value:
      raise ValueError(
        f"`{name}` is for networks of the scripts, not for Keras models, got "
        f"{value!r}."
      )
