# SPDX-License-Identifier: Apache-2.0
"""Types of arguments: what cannot be measured is refused before it is begun."""

import argparse
import os
import pathlib

_FIGURES = (".pdf", ".png", ".svg")


def count(text: str) -> int:
  """A whole number, at least 1."""
  return _at_least(text, 1)


def seed(text: str) -> int:
  """A whole number, at least 0."""
  return _at_least(text, 0)


def _at_least(text: str, low: int) -> int:
  try:
    value = int(text)
  except ValueError:
    value = None
  if value is None or value < low:
    raise argparse.ArgumentTypeError(
      f"must be a whole number, at least {low}, got {text!r}"
    )
  return value


def sparsity(text: str) -> float:
  """A share of zeros, in [0, 1)."""
  value = _number(text)
  if not 0 <= value < 1:
    raise argparse.ArgumentTypeError(f"must be in [0, 1), got {text!r}")
  return value


def share(text: str) -> float:
  """A number in [0, 1]."""
  value = _number(text)
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f"must be in [0, 1], got {text!r}")
  return value


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"must be a number, got {text!r}"
    ) from None


def output(text: str) -> str:
  """A file that can be written, so that no measurement is lost."""
  place = pathlib.Path(text)
  folder = place.parent
  if not folder.is_dir():
    raise argparse.ArgumentTypeError(f"there is no directory {str(folder)!r}")
  if place.is_dir():
    raise argparse.ArgumentTypeError(f"must be a file, and {text!r} is none")
  if not os.access(place if place.exists() else folder, os.W_OK):
    raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
  return text


def figure(text: str) -> str:
  """A file of a picture that can be written."""
  if pathlib.Path(text).suffix.lower() not in _FIGURES:
    raise argparse.ArgumentTypeError(
      f"must end with one of {_FIGURES}, got {text!r}"
    )
  return output(text)
