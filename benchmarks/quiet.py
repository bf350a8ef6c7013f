# SPDX-License-Identifier: Apache-2.0
"""Meter of other processes: whether the machine was quiet in a measurement.

It reads /proc of Linux. On other systems the result is None.
"""

import os
import time


class OthersMeter:
  """Measures how many cores others than one process keep busy.

  A second busy process does not make everything slower alike: on two cores it
  slowed one contestant by two and another by twenty.

  Args:
    pid: the process that is not counted.
  """

  def __init__(self, pid: int) -> None:
    self._pid = pid
    self._start = self._others_seconds()
    self._start_time = time.perf_counter()

  def cores(self) -> float | None:
    """Busy cores since construction, on average; None if unknown."""
    if self._start is None:
      return None
    passed = time.perf_counter() - self._start_time
    return max(self._others_seconds() - self._start, 0.0) / passed

  def _others_seconds(self) -> float | None:
    """CPU seconds since boot, also those stolen from a virtual machine."""
    try:
      with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(
          int, file.readline().split()[1:9]
        )
      with open(f"/proc/{self._pid}/stat", encoding="utf-8") as file:
        own = file.read().rpartition(")")[2].split()[11:13]
    except (OSError, ValueError):
      return None
    ticks = user + nice + system + irq + softirq + steal - sum(map(int, own))
    return ticks / os.sysconf("SC_CLK_TCK")
