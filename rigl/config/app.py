# SPDX-License-Identifier: Apache-2.0
"""Start of a script: parses flags, prints help, turns errors into one line.

`--verbosity=1` prints the traceback of such an error before its line.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from rigl.config import output, stop_signals, system_errors
from rigl.config.help_text import help_text

# Start of the text that gin appends to error messages.
_GIN_CALL = "\n  In call to configurable"
_LENGTH = 2000  # Of a message, in characters.
# A home directory after an equals sign, which shells leave as it is typed.
_HOME = re.compile(r"^(--?\w+=)~(?=/|$)")
_HELP = {"--help", "-help", "--helpshort", "-helpshort", "-h", "--h", "-?"}


def run(
  main: Callable[[Sequence[str]], Any], define: Callable[[], None]
) -> None:
  """Defines the flags, parses them and runs `main`.

  An error of files or devices (a full disk, a removed folder) ends the process
  with one line, whenever it happens.

  Args:
    main: called with the arguments that parsing leaves: the name of the script
      alone. The docstring of its module opens `--help`.
    define: defines the flags. It is not done at import, because one program
      may import two scripts with the same flags.
  """
  values = flags.FLAGS
  before = set(values)
  define()
  names = [name for name in values if name not in before]
  docstring = getattr(main, "__globals__", {}).get("__doc__") or ""

  def parse(arguments: Sequence[str]) -> list[str]:
    if _HELP & set(arguments[1:]):
      print(help_text(docstring, names), end="")
      sys.exit(0)
    return _parse(arguments)

  with stop_signals.installed(), output.lasting(), _one_line_system_errors():
    try:
      app.run(main, flags_parser=parse)
    finally:
      output.flush()  # Here, because the disk may be full.


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Turns errors of the user's input into one line and exit code 1.

  Use it around checks and preparation, and not around training: an error there
  is a fault of the program, which should show where it happened.
  """
  try:
    with _one_line_system_errors():
      yield
  except ValueError as error:
    fail(_text(error))
  except RecursionError as error:
    if not _gin_is_used():
      raise
    fail(f"`--gin_config`/`--gin_bindings`: a value refers to itself: {error}.")
  except Exception as error:
    # Gin may supply an argument of a wrong name or type.
    if _GIN_CALL not in str(error) or not _gin_is_used():
      raise
    where = str(error).split(_GIN_CALL)[1].split("'")[1]
    fail(f"`--gin_config`/`--gin_bindings`: {where}: {_text(error)}")


@contextlib.contextmanager
def _one_line_system_errors() -> Iterator[None]:
  try:
    yield
  except Exception as error:
    text = system_errors.describe(error)
    if text is None:
      raise
    fail(_without_gin(text))


def fail(message: str) -> NoReturn:
  """Prints `error: message` in one line and exits with code 1."""
  if logging.level_debug() and sys.exc_info()[0] is not None:
    traceback.print_exc()
  text = " ".join(message.split())
  if len(text) > _LENGTH:
    text = f"{text[: _LENGTH // 2]} ... {text[-_LENGTH // 2 :]}"
  print(f"error: {text}", file=sys.stderr)
  sys.exit(1)


def _text(error: Exception) -> str:
  """The message without the address of the function that gin called."""
  text = _without_gin(str(error)).split(" in config string:")[0]
  return text or type(error).__name__


def _without_gin(text: str) -> str:
  return text.split(_GIN_CALL)[0].split(_GIN_CALL.strip())[0]


def _gin_is_used() -> bool:
  values = flags.FLAGS
  names = ("gin_config", "gin_bindings")
  return any(name in values and values[name].value for name in names)


def _expanded(match: re.Match[str]) -> str:
  return match[1] + os.path.expanduser("~")


def _parse(arguments: Sequence[str]) -> list[str]:
  try:
    rest = flags.FLAGS([_HOME.sub(_expanded, word) for word in arguments])
  except flags.Error as error:
    fail(str(error))
  if len(rest) > 1:
    fail(
      f"unexpected positional argument: {' '.join(rest[1:])!r} (only --flags "
      "are accepted)."
    )
  return rest
