# SPDX-License-Identifier: Apache-2.0
"""Checks what gin files import and include, before gin reads them.

Gin runs a module for every `import` statement, and the package of a path that
it includes. So a file from elsewhere could run any code.
"""

from __future__ import annotations

import os
import re
import tokenize
from collections.abc import Iterable
from typing import Any

from gin import config_parser

# Parts of gin's messages that help nobody.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_CONFIG = " in config string:"
_PACKAGE = "rigl"
_MAX_DEPTH = 50
_MAX_FILES = 1000


class _References(config_parser.ParserDelegate):
  """Leaves the references in values alone."""

  def configurable_reference(self, name: str, evaluate: bool) -> Any:
    return None

  def macro(self, name: str) -> Any:
    return None


class GinChecker:
  """Checks gin files and bindings.

  Args:
    imports: whether modules outside of this package may be imported.
  """

  def __init__(self, imports: bool) -> None:
    self._imports, self._num_files = imports, 0

  def check_file(self, path: str) -> None:
    """Checks a file and all that it includes.

    Includes are relative to the working directory, as for gin.

    Args:
      path: the file.

    Raises:
      ValueError: if an import is not allowed, or files include each other
        without end.
      OSError: if a file cannot be read.
      Exception: what gin's parser raises for a text that is not gin; a
        `ValueError` that names the file where it is an included one.
    """
    self._check_file(path, ())

  def check_text(self, text: str) -> None:
    """Checks a binding, as `check_file` does."""
    self._check_statements(text, ())

  def _check_file(self, path: str, outer: tuple[str, ...]) -> None:
    real = os.path.realpath(path)
    if real in outer:
      raise ValueError(f"{path!r} includes itself.")
    self._num_files += 1
    if len(outer) >= _MAX_DEPTH or self._num_files > _MAX_FILES:
      raise ValueError(
        f"{path!r}: more than {_MAX_DEPTH} files include each other, or more "
        f"than {_MAX_FILES} files are included."
      )
    with open(path, encoding="utf-8") as file:
      text = file.read()
    self._check_statements(text, (*outer, real))

  def _check_statements(self, text: str, outer: tuple[str, ...]) -> None:
    statements: Iterable[Any] = config_parser.ConfigParser(text, _References())
    for statement in statements:
      if isinstance(statement, config_parser.ImportStatement):
        self._check_import(statement)
      elif isinstance(statement, config_parser.IncludeStatement):
        self._check_include(statement.filename, outer)

  def _check_import(self, statement: Any) -> None:
    module = statement.module
    if self._imports or module.split(".")[0] == _PACKAGE:
      return
    raise ValueError(
      f"`{statement.format()}` would run a module outside of {_PACKAGE}; "
      "`--gin_imports` allows it, for files that you trust."
    )

  def _check_include(self, name: str, outer: tuple[str, ...]) -> None:
    if os.path.isfile(name):
      try:
        self._check_file(name, outer)
      except Exception as error:
        raise ValueError(f"{name!r}: {one_line(error)}") from error
    elif not self._imports:
      # Else gin would look for it in Python packages, which it imports.
      raise ValueError(f"there is no file {name!r} to include.")


def one_line(error: BaseException) -> str:
  """One line about an error of gin, with the line of the file at its end."""
  message = str(error)
  if isinstance(error, tokenize.TokenError):
    message, (line, _) = error.args
    message = f"{message} (line {line - 1})"
  message = _ADDRESS.sub("", message.split(_CONFIG)[0])
  text = " ".join(message.split()) or type(error).__name__
  line = (getattr(error, "text", None) or "").strip()
  return text + (f" in {line!r}" if line else "")
