# SPDX-License-Identifier: Apache-2.0
"""The text of an error of another library, for a message of one line."""

from __future__ import annotations


def one_line(error: BaseException, length: int | None = None) -> str:
  """The whole text of an error in one line.

  Args:
    error: the error. Without a text it is told by the name of its class.
    length: how many characters are kept. None: all.
  """
  text = " ".join(str(error).split()) or type(error).__name__
  return text[:length]


def first_line(error: BaseException, length: int | None = None) -> str:
  """The first line of an error that is not empty; others may be its stack.

  Args:
    error: the error. Without a text it is told by the name of its class.
    length: how many characters are kept. None: all.
  """
  lines = filter(None, map(str.strip, str(error).splitlines()))
  return next(lines, type(error).__name__)[:length]
