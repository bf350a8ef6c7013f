# SPDX-License-Identifier: Apache-2.0
"""Errors of the system: full disks, missing folders, rights, packages.

Python raises them as `OSError`. TensorFlow, which reads and writes data and
checkpoints by itself, raises them as `tf.errors.OpError` with the text of the
operating system. JAX tells of a device that has too little memory.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from rigl import missing_package
from rigl.error_text import first_line, one_line

_NUMBERS = (
  errno.EACCES,
  errno.EBUSY,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EIO,
  errno.EISDIR,
  errno.ELOOP,
  errno.EMFILE,
  errno.ENAMETOOLONG,
  errno.ENFILE,
  errno.ENOENT,
  errno.ENOSPC,
  errno.ENOTDIR,
  errno.ENOTEMPTY,
  errno.EPERM,
  errno.EROFS,
  errno.ESTALE,
)
_TEXTS = (
  *map(os.strerror, _NUMBERS),
  "File system scheme",  # One that TensorFlow does not know, as `s3`.
)
# What TensorFlow adds about the operation.
_OPERATION = re.compile(
  r"^\{\{.*?\}\}\s*|\s*\[(Op:|\[?\{\{).*|\s*name: *$", re.DOTALL
)
# In an error of JAX about a device that has too little memory.
_NO_MEMORY = "RESOURCE_EXHAUSTED"


def describe(error: BaseException) -> str | None:
  """One line about an error of files, devices or packages; None for others."""
  if isinstance(error, ImportError):
    return missing_package.describe(error)
  if isinstance(error, OSError):
    return one_line(error)
  # An error of a compilation names JAX's as its cause.
  found = error if is_of_jax(error) else error.__cause__
  if found is not None and is_of_jax(found):
    if _NO_MEMORY not in str(found):
      return None
    line = first_line(found)
    return f"a device has too little memory; smaller batches need less ({line})"
  # Without TensorFlow, which takes seconds to load, it is no error of that.
  tensorflow = sys.modules.get("tensorflow")
  if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
    return None
  if isinstance(error, tensorflow.errors.DataLossError) or any(
    text.casefold() in error.message.casefold() for text in _TEXTS
  ):
    text = _OPERATION.sub("", error.message.split("\n")[0])
    return " ".join(text.split()) or type(error).__name__
  return None


def is_of_jax(error: BaseException | None) -> bool:
  """Whether an error comes from the devices of JAX."""
  jax = sys.modules.get("jax")  # As TensorFlow.
  return jax is not None and isinstance(error, jax.errors.JaxRuntimeError)
