# SPDX-License-Identifier: Apache-2.0
"""Copies HDF5 files in a process of its own, which bounds time and memory.

The HDF5 library reads some damaged files without end, takes the memory that
they claim, or ends the process. What it has copied, it can read.
"""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys
from typing import Any

# For the start of the process, and what a slow disk reads and writes.
_SECONDS = 12.0
_BYTES_PER_SECOND = 10e6
# Beyond what the process has when it starts, the size of the file, and twice
# that of the array which is being copied.
_MEMORY = 256 * 1024 * 1024
# An array is at most so many times larger than its compressed form, or smaller
# than this.
_MAX_COMPRESSION, _SMALL = 1032, 16 * 1024 * 1024
# The kinds of numbers and texts; references would refer to the old file.
_KINDS = "biufcSUOV"


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies the groups, arrays, numbers and texts of an HDF5 file.

  Links to other places are left out.

  Args:
    source: the file.
    target: a file that does not exist. It is larger if arrays are compressed.

  Raises:
    ValueError: if the file is damaged: reading it does not end, or an array
      claims more than the file can hold.
    OSError: if it is no HDF5 file.
  """
  seconds = _SECONDS + source.stat().st_size / _BYTES_PER_SECOND
  command = [sys.executable, __file__, source, target, str(math.ceil(seconds))]
  try:
    done = subprocess.run(
      [*map(str, command)],
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      errors="replace",
      timeout=seconds,
    )
  except subprocess.TimeoutExpired as error:
    raise ValueError("reading it does not end.") from error
  kind, _, text = done.stdout.strip().partition(": ")
  if kind == "OSError":
    raise OSError(text)
  if kind:
    raise ValueError(text)
  if done.returncode:
    raise ValueError("the HDF5 library cannot read it.")


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a file in this process."""
  import h5py  # Only this process needs it.

  size = source.stat().st_size
  _limit_memory(size)
  with (
    h5py.File(source, "r") as old,
    # Older versions of the format hold no long attributes.
    h5py.File(target, "w", libver="latest") as new,
  ):

    def copy_object(name: str, item: Any) -> None:
      if isinstance(item, h5py.Group):
        made = new.require_group(name)
      elif isinstance(item, h5py.Dataset):
        _limit_memory(size + 2 * _claimed_bytes(item, size))
        made = new.create_dataset(name, data=item[()], dtype=item.dtype)
      else:
        return  # A type without values.
      _copy_attributes(item, made, size)

    _copy_attributes(old, new, size)
    old.visititems(copy_object)


def _copy_attributes(old: Any, new: Any, size: int) -> None:
  for name in old.attrs:
    attribute = old.attrs.get_id(name)
    if attribute.dtype.kind not in _KINDS or _is_reference(attribute.dtype):
      continue
    claimed = math.prod(attribute.shape or (1,)) * attribute.dtype.itemsize
    _check_claim(name, claimed, size)
    new.attrs.create(name, old.attrs[name], attribute.shape, attribute.dtype)


def _is_reference(dtype: Any) -> bool:
  import h5py

  return h5py.check_ref_dtype(dtype) is not None


def _claimed_bytes(array: Any, size: int) -> int:
  """The bytes of an array, after they were compared with those in the file."""
  if array.shape is None:
    return 0
  if array.external or array.is_virtual:
    raise ValueError(f"the numbers of {array.name} are in other files.")
  stored = array.id.get_storage_size()
  _check_claim(array.name, stored, size)
  claimed = math.prod(array.shape) * array.dtype.itemsize
  is_packed = array.chunks is not None
  stored *= _MAX_COMPRESSION if is_packed else 1
  _check_claim(array.name, claimed, max(stored, _SMALL))
  return claimed


def _check_claim(name: str, claimed: int, stored: int) -> None:
  if claimed > stored:
    raise ValueError(
      f"{name} claims {claimed} bytes, and the file cannot hold more than "
      f"{stored}."
    )


def _limit_memory(extra: int) -> None:
  """Limits the memory of this process, where the system can."""
  try:
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
      pages = int(file.read().split()[0])
  except (ImportError, OSError):
    return
  used = pages * resource.getpagesize()
  _, most = resource.getrlimit(resource.RLIMIT_AS)
  limit = used + _MEMORY + extra
  if most == resource.RLIM_INFINITY or limit < most:
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _limit_seconds(seconds: int) -> None:
  """Ends this process even if nobody waits for it any more."""
  try:
    import resource
  except ImportError:
    return
  _, most = resource.getrlimit(resource.RLIMIT_CPU)
  resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def main() -> None:
  """Copies the file of the command line; prints what is wrong with it."""
  del sys.path[0]  # The folder of this file, whose modules are no others.
  source, target, seconds = sys.argv[1:]
  _limit_seconds(int(seconds))
  try:
    _copy(pathlib.Path(source), pathlib.Path(target))
  except Exception as error:  # Whatever the library raises for damage.
    kind = "OSError" if isinstance(error, OSError) else "ValueError"
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"{kind}: {text}")
    sys.exit(1)


if __name__ == "__main__":
  main()
