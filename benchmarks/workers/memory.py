# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a piece of work, as the operating system sees it.

It reads /proc of Linux. On other systems the result is None.
"""

import contextlib
import ctypes
import gc
import re
from collections.abc import Callable
from typing import Any

_KIB = 1 / 1024


def peak_growth_mib(work: Callable[[], Any]) -> float | None:
  """Runs `work` and measures by how much the resident set grew at its peak.

  What was allocated before does not count, unless it was freed and its pages
  were still held; so freed pages are handed back first.

  Args:
    work: the function to run.

  Returns:
    Mebibytes; None if unknown. `work` has run in either case.
  """
  gc.collect()
  _hand_freed_pages_back()
  before = _reset_peak()
  work()
  return None if before is None else (_status("VmHWM") - before) * _KIB


def _reset_peak() -> int | None:
  """Makes the peak the current resident set, and returns it in KiB."""
  try:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
      file.write("5")
  except OSError:
    return None
  return _status("VmRSS")


def _status(field: str) -> int:
  with open("/proc/self/status", encoding="ascii") as file:
    return int(re.search(rf"^{field}:\s*(\d+) kB", file.read(), re.M)[1])


def _hand_freed_pages_back() -> None:
  # Only the GNU C library has this function.
  with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).malloc_trim(0)
