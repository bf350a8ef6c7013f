# SPDX-License-Identifier: Apache-2.0
"""Pace: how many steps a call makes, so that a run can stop soon after it."""

from __future__ import annotations

from rigl.training.executor import MAX_STEPS

# A call is meant to be shorter than this.
_SECONDS = 2.0


class Pace:
  """Limits the steps of a call to about two seconds, by those before.

  Attributes:
    limit: the most steps of the next call, from 1 to `MAX_STEPS`.

  Args:
    first: the limit before the speed is known.
  """

  def __init__(self, first: int) -> None:
    self.limit = first
    self._has_compiled = False

  def note(self, steps: int, seconds: float) -> None:
    """Notes how long a call took.

    Args:
      steps: its steps, at least 1. The first call is ignored, because it
        compiles.
      seconds: its duration.
    """
    if not self._has_compiled:
      self._has_compiled = True
      return
    wanted = _SECONDS * steps / max(seconds, 1e-9)
    self.limit = int(min(max(wanted, 1), MAX_STEPS))
