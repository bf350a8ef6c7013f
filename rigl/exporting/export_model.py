# SPDX-License-Identifier: Apache-2.0
"""`export`: writes a trained network in a format, and verifies the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rigl import checks, files
from rigl.exporting import (
  calibrations,
  keras_source,
  onnx_files,
  stablehlo,
  verification,
)
from rigl.exporting.source import Source, open_checkpoint
from rigl.exporting.verification import Difference
from rigl.formats import compact, outputs, saved_model, sections
from rigl.url_path import UrlPath

if TYPE_CHECKING:
  import keras

FORMATS = ("savedmodel", "litert", "compact", "stablehlo", "onnx")
DTYPES = {
  "savedmodel": ("float32",),
  "litert": ("float32", "float16", "int8"),
  "compact": ("float32", "float16"),
  "stablehlo": ("float32",),
  "onnx": ("float32",),
}
# What tells a directory of a format from others.
_FILES_OF = {
  "savedmodel": (saved_model.GRAPH_FILE,),
  "stablehlo": stablehlo.FILES,
}
_VERIFIED = 4  # Batches of the calibration that an int8 file is verified with.


class ExportReport(NamedTuple):
  """An export that was verified.

  Attributes:
    place: the file or directory.
    num_bytes: its size.
    difference: how far its results are from TensorFlow's.
    notes: more to know, one line each.
  """

  place: str
  num_bytes: int
  difference: Difference
  notes: tuple[str, ...] = ()

  def __str__(self) -> str:
    size = f"Wrote {self.place}: {self.num_bytes:,} bytes"
    return "\n".join([size, f"Verified: {self.difference}", *self.notes])


class Options(NamedTuple):
  """How a file is written; see `export`."""

  dtype: str = "float32"
  batch_size: int = 1
  sparse: bool = True
  compression: str = "zlib"
  calibration: np.ndarray | None = None


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
      run, or 224), or the sizes that a Keras model leaves open.
    batch_size: examples per call, for `litert` and `stablehlo`.
    sparse: whether `litert` stores sparse tensors where they are smaller.
    compress: whether dead inputs, channels and neurons are removed, as
      `rigl.compress` does it; not for `compact`, which holds no program.
    compression: of `compact`: `zlib`, or `none` for a file whose values can be
      memory-mapped.
    calibration_images: an `.npz` file with the key `images`, typical inputs by
      which `litert` quantises activations for `int8`. None: weights alone.
    overwrite: whether to replace an export that is there.

  Returns:
    Size and difference of what was written.

  Raises:
    ValueError: if an argument or the checkpoint is not as described, the format
      lacks an operation of the network, or the results differ.
    OSError: if the output cannot be written.
  """
  _check(format, dtype, batch_size, compression)
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
  is_model = not isinstance(checkpoint, str | os.PathLike)
  if is_model or keras_source.is_keras_file(os.fspath(checkpoint)):
    _check_no_flags(task=task, flags=flags, gin_bindings=gin_bindings)

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
    calibration = calibrations.read(calibration_images, source.arrays)
  options = Options(dtype, batch_size, sparse, compression, calibration)
  report = _WRITERS[format](source, files.path(output), options)
  return report._replace(notes=(*notes, *report.notes))


def _check(format: str, dtype: str, batch_size: int, compression: str) -> None:
  if format not in FORMATS:
    raise ValueError(f"`format` must be one of {[*FORMATS]}, got {format!r}.")
  if dtype not in DTYPES[format]:
    raise ValueError(
      f"`dtype` must be one of {[*DTYPES[format]]} for {format}, got {dtype!r}."
    )
  checks.check_integer("batch_size", batch_size, 1)
  if compression not in sections.COMPRESSIONS:
    raise ValueError(
      f"`compression` must be one of {[*sections.COMPRESSIONS]}, got "
      f"{compression!r}."
    )


def _compressed(source: Source) -> tuple[Source, str]:
  """The source without what is dead, and a note of what that did.

  Raises:
    ValueError: if it cannot be compressed, or computes something else then.
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


def _check_no_flags(**arguments: Any) -> None:
  """Checks that arguments for networks of the scripts are not given."""
  for name, value in arguments.items():
    if value:
      raise ValueError(
        f"`{name}` is for networks of the scripts, not for Keras models, got "
        f"{value!r}."
      )


def _verified(difference: Difference, what: str) -> Difference:
  if not difference.is_small:
    raise ValueError(
      f"The {what} was removed, because its results are not those of "
      f"TensorFlow: {difference}."
    )
  return difference


def _write_saved_model(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  del options  # None is for this format.
  signature = source.served
  with outputs.replacing_directory(place) as temporary:
    module, predict = signature.module()
    saved_model.write(module, predict, temporary, source.metadata)
    found = saved_model.load(temporary)(
      **{
        name: _tensor(value, signature.inputs[name].dtype)
        for name, value in signature.examples.items()
      }
    )
    difference = _verified(
      verification.compare(
        {name: value.numpy() for name, value in found.items()},
        signature.compute(**signature.examples),
      ),
      "SavedModel",
    )
  return ExportReport(str(place), _size(place), difference)


def _tensor(value: np.ndarray, dtype: Any) -> Any:
  import tensorflow as tf

  return tf.constant(value, dtype)


def _write_litert(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  # They need flatbuffers, which comes with TensorFlow.
  from rigl.formats.litert import convert, interpreter

  signature = source.arrays
  module, predict = signature.module(options.batch_size)
  typical = calibrations.batches(
    options.calibration, signature, options.batch_size
  )
  content = convert.convert(
    predict.get_concrete_function(),
    module,
    options.dtype,
    options.sparse,
    source.metadata,
    typical,
  )
  batches = typical[:_VERIFIED] or signature.batches(options.batch_size)
  found = [interpreter.run(content, batch) for batch in batches]
  expected = [signature.compute(**batch) for batch in batches]
  difference = _verified(
    verification.compare(_joined(found), _joined(expected), options.dtype),
    "LiteRT file",
  )
  with files.replacing(place) as temporary:
    temporary.write_bytes(content)
  return ExportReport(
    str(place), len(content), difference, _litert_notes(content)
  )


def _litert_notes(content: bytes) -> tuple[str, ...]:
  from rigl.formats.litert import sparse_path

  if not sparse_path.has_convolutions(content):
    return ()
  problem = sparse_path.find_problem(content)
  if problem is None:
    return (
      "XNNPACK's sparse kernels (WebAssembly, Arm) compute its 1x1 "
      "convolutions.",
    )
  return (f"XNNPACK's sparse kernels are not used. {problem}.",)


def _joined(results: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {
    name: np.concatenate([np.atleast_1d(result[name]) for result in results])
    for name in results[0]
  }


def _write_compact(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  temporary = place.with_name(f"{place.name}.tmp{os.getpid()}")
  try:
    compact.write(
      temporary,
      source.tensors,
      metadata=source.metadata,
      dtype=options.dtype,
      compression=options.compression,
    )
    difference = _verified(
      _compact_difference(source, temporary, options.dtype), "compact file"
    )
    files.move(temporary, place)
  finally:
    temporary.unlink(missing_ok=True)
  return ExportReport(str(place), _size(place), difference)


def _compact_difference(
  source: Source, place: files.AnyPath, dtype: str
) -> Difference:
  """Computes with the weights of a compact file, then with the old ones."""
  tensors = compact.CompactFile(place).tensors()
  signature = source.arrays
  expected = signature.compute(**signature.examples)
  before = {n: np.array(v.numpy()) for n, v in source.variables.items()}
  try:
    for name, variable in source.variables.items():
      variable.assign(tensors[name].astype(before[name].dtype))
    found = signature.compute(**signature.examples)
  finally:
    for name, variable in source.variables.items():
      variable.assign(before[name])
  difference = verification.compare(found, expected, dtype)
  return (
    difference._replace(tolerance=0.0) if dtype == "float32" else difference
  )


def _write_stablehlo(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  signature, size = source.arrays, options.batch_size
  with outputs.replacing_directory(place) as temporary:
    stablehlo.write(signature, temporary, size, source.metadata)
    call = stablehlo.load(temporary)
    batches = signature.batches(size)
    difference = _verified(
      verification.compare(
        _joined([call(**batch) for batch in batches]),
        _joined([signature.compute(**batch) for batch in batches]),
      ),
      "StableHLO folder",
    )
  return ExportReport(str(place), _size(place), difference)


def _write_onnx(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  del options  # None is for this format.
  signature = source.arrays
  content = onnx_files.convert(signature, source.metadata)
  difference = _verified(
    verification.compare(
      onnx_files.run(content, signature.examples),
      signature.compute(**signature.examples),
    ),
    "ONNX file",
  )
  with files.replacing(place) as temporary:
    temporary.write_bytes(content)
  return ExportReport(str(place), len(content), difference)


def _size(place: files.AnyPath) -> int:
  """The bytes of a file, or of all files in a directory."""
  if place.is_dir():
    return sum(_size(inner) for inner in place.iterdir())
  if isinstance(place, UrlPath):
    return len(place.read_bytes())
  return place.stat().st_size


_WRITERS: dict[
  str, Callable[[Source, files.AnyPath, Options], ExportReport]
] = {
  "savedmodel": _write_saved_model,
  "litert": _write_litert,
  "compact": _write_compact,
  "stablehlo": _write_stablehlo,
  "onnx": _write_onnx,
}
