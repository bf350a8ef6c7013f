# SPDX-License-Identifier: Apache-2.0
"""Event files: the scalars that TensorBoard shows, read back."""

from __future__ import annotations

import contextlib

import numpy as np
import tensorflow as tf

from rigl import files

# How event files are named, and how those of a run that starts over.
PATTERN = "events.out.tfevents.*"
_WORD, _OLD_WORD = "tfevents", "old"


def read_scalars(directory: files.Path) -> dict[int, dict[str, float]]:
  """Reads the scalars of all event files in a directory.

  Args:
    directory: the directory; it may be missing.

  Returns:
    {step: {name: value}}, steps ascending. Of a point that was written twice,
    the later one counts. What follows a damaged record is left out.
  """
  place = files.path(directory)
  found: dict[int, dict[str, float]] = {}
  for path in _paths(place):
    with contextlib.suppress(tf.errors.OpError, ValueError):
      for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        _add(found, tf.compat.v1.Event.FromString(record))
  return dict(sorted(found.items()))


def _add(found: dict[int, dict[str, float]], event: tf.compat.v1.Event) -> None:
  for value in event.summary.value:
    array = np.asarray(tf.make_ndarray(value.tensor))
    if array.ndim == 0 and array.dtype.kind == "f":
      found.setdefault(event.step, {})[value.tag] = float(array)


def _paths(directory: files.AnyPath) -> list[files.AnyPath]:
  """The event files of a directory, the oldest first."""
  if not directory.is_dir():
    return []
  found: list[files.AnyPath] = [*directory.glob(PATTERN)]
  return sorted(found, key=str)


def set_aside(directory: files.Path) -> None:
  """Renames event files so that TensorBoard passes over them."""
  for path in _paths(files.path(directory)):
    path.replace(path.with_name(path.name.replace(_WORD, _OLD_WORD)))
