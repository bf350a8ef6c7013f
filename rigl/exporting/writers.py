# SPDX-License-Identifier: Apache-2.0
"""Writers of exports: one per format, each of which verifies what it wrote.

A file is read again, and its results are compared with TensorFlow's. If they
differ too much, nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rigl import files
from rigl.exporting import calibrations, onnx_files, stablehlo, verification
from rigl.exporting.source import Source
from rigl.exporting.verification import Difference
from rigl.formats import compact, outputs, saved_model
from rigl.url_path import UrlPath

# Batches of the calibration that an int8 file is verified with.
_VERIFIED = 4


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
  """How a file is written.

  Attributes:
    dtype: type of the weights in the file.
    batch_size: examples per call, for LiteRT and StableHLO.
    sparse: whether LiteRT stores sparse tensors where they are smaller.
    compression: of a compact file, `zlib` or `none`.
    calibration: typical inputs, by which int8 files quantise activations.
  """

  dtype: str = "float32"
  batch_size: int = 1
  sparse: bool = True
  compression: str = "zlib"
  calibration: np.ndarray | None = None


def _verified(difference: Difference, what: str) -> Difference:
  """Returns the difference of an export.

  Args:
    difference: the difference.
    what: the export, for the message.

  Raises:
    ValueError: if the difference is too large.
  """
  if not difference.is_small:
    raise ValueError(
      f"The {what} was removed, because its results are not those of "
      f"TensorFlow: {difference}."
    )
  return difference


def _write_saved_model(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  del options  # This format has none.
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
  """Whether XNNPACK's sparse kernels compute a file, and if not, why."""
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
  """The results of several batches as those of one."""
  return {
    name: np.concatenate([np.atleast_1d(result[name]) for result in results])
    for name in results[0]
  }


def _write_compact(
  source: Source, place: files.AnyPath, options: Options
) -> ExportReport:
  with files.replacing(place) as temporary:
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
  return ExportReport(str(place), _size(place), difference)


def _compact_difference(
  source: Source, place: files.AnyPath, dtype: str
) -> Difference:
  """How far results with the weights of a compact file are from the others."""
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
  del options  # This format has none.
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


Writer: TypeAlias = Callable[[Source, files.AnyPath, Options], ExportReport]
# The writer of each format.
WRITERS: dict[str, Writer] = {
  "savedmodel": _write_saved_model,
  "litert": _write_litert,
  "compact": _write_compact,
  "stablehlo": _write_stablehlo,
  "onnx": _write_onnx,
}
