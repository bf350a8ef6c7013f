"""Progress bar: a bar on a terminal, plain lines elsewhere.

It counts iterations and estimates the rest; metrics are printed by the task.
"""

from __future__ import annotations

import sys
import time

import tqdm


class ProgressBar:
  """Shows how far a run is.

  On a terminal it is a bar with the remaining time. Elsewhere a line with the
  remaining time is added to what is printed.

  Args:
    total: number of iterations of the whole run.
    initial: iterations that are done already.
    is_shown: whether anything is shown and said.
  """

  def __init__(
    self, total: int, initial: int = 0, is_shown: bool = True
  ) -> None:
    self._is_shown = is_shown
    self._total, self._initial = total, initial
    self._done, self._started = initial, time.monotonic()
    # disable=None: no bar where the output is not a terminal.
    self._bar = tqdm.tqdm(
      total=total,
      initial=initial,
      unit="it",
      file=sys.stderr,
      disable=None if is_shown else True,
    )

  def advance(self, count: int) -> None:
    """Counts iterations that were made."""
    self._done += count
    self._bar.update(count)

  def say(self, line: str) -> None:
    """Prints a line above the bar, or with the estimate at its end."""
    if not self._is_shown:
      return
    if self._bar.disable:
      print(f"{line}  [{self._estimate()} left]", flush=True)
    else:
      self._bar.write(line, file=sys.stdout)

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def _estimate(self) -> str:
    made = max(self._done - self._initial, 1)
    seconds = (time.monotonic() - self._started) / made
    return tqdm.tqdm.format_interval(seconds * (self._total - self._done))
