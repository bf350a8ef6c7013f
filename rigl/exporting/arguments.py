# SPDX-License-Identifier: Apache-2.0
"""Arguments of `rigl.export`: formats, and checks before anything is read."""

from __future__ import annotations

import os
from typing import Any

from rigl import checks, files
from rigl.formats import sections

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


def check_format(
  format: str,
  dtype: str,
  *,
  batch_size: int,
  sparse: bool,
  compress: bool,
  compression: str,
  calibration_images: str | os.PathLike | None,
) -> None:
  """Checks a format, and the arguments that not every format has.

  Args:
    format: as for `export`.
    dtype: as for `export`.
    batch_size: as for `export`.
    sparse: as for `export`.
    compress: as for `export`.
    compression: as for `export`.
    calibration_images: as for `export`.

  Raises:
    ValueError: if one is not as `export` describes it, or the format lacks it.
  """
  if format not in FORMATS:
    raise ValueError(f"`format` must be one of {[*FORMATS]}, got {format!r}.")
  if dtype not in DTYPES[format]:
    raise ValueError(
      f"`dtype` must be one of {[*DTYPES[format]]} for {format}, got {dtype!r}."
    )
  checks.check_integer("batch_size", batch_size, 1)
  checks.check_flag("sparse", sparse)
  checks.check_flag("compress", compress)
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
  for name, (default, formats) in _OF_FORMATS.items():
    if given[name] != default and format not in formats:
      raise ValueError(
        f"`{name}` is for `format` {' and '.join(formats)}, got "
        f"{given[name]!r} for {format}."
      )
  if calibration_images is not None and (format, dtype) != ("litert", "int8"):
    raise ValueError(
      "`calibration_images` is for `format`=litert and `dtype`=int8, got "
      f"{format} and {dtype}."
    )
  if compress and format == "compact":
    raise ValueError(
      "`compress` is for formats that hold a program, not for `format`=compact."
    )


def check_other_place(output: str | os.PathLike, **inputs: Any) -> None:
  """Checks that an export does not replace what it is made of.

  Args:
    output: where it is written.
    **inputs: arguments by name; those that are paths are looked at.

  Raises:
    ValueError: if `output` is one of them.
  """
  for name, value in inputs.items():
    is_path = isinstance(value, str | os.PathLike)
    if is_path and files.are_same(value, output):
      raise ValueError(
        f"`output` must not be the `{name}`, got {os.fspath(output)!r}."
      )


def check_no_flags(**arguments: Any) -> None:
  """Checks that arguments for networks of the scripts are not given.

  Args:
    **arguments: the arguments by name.

  Raises:
    ValueError: if one is not empty.
  """
  for name, value in arguments.items():
    if value:
      raise ValueError(
        f"`{name}` is for networks of the scripts, not for Keras models, got "
        f"{value!r}."
      )
