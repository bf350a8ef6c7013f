# SPDX-License-Identifier: Apache-2.0
"""Start of a script: parses flags, prints help, turns errors into one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags

from rigl.config import stop_signals
from rigl.config.help_text import help_text

# Start of the text that gin appends to error messages.
_GIN_CALL = "\n  In call to configurable"
_HELP = {"--help", "-help", "--helpshort", "-helpshort", "-h", "--h", "-?"}


def run(
  main: Callable[[Sequence[str]], Any], define: Callable[[], None]
) -> None:
  """Defines the flags, parses them and runs `main`.

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

  with stop_signals.installed():
    app.run(main, flags_parser=parse)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Turns errors of the user's input into one line and exit code 1.

  Use it around checks and preparation, and not around training: an error there
  is a fault of the program, which should show where it happened.
  """
  try:
    yield
  except (ValueError, OSError) as error:
    fail(_text(error))
  except TypeError as error:
    # Gin may supply an argument of a wrong name or type.
    if _GIN_CALL not in str(error) or not _gin_is_used():
      raise
    where = str(error).split(_GIN_CALL)[1].split("'")[1]
    fail(f"`--gin_config`/`--gin_bindings`: {where}: {_text(error)}")


def fail(message: str) -> NoReturn:
  """Prints `error: message` in one line and exits with code 1."""
  print("error: " + " ".join(message.split()), file=sys.stderr)
  sys.exit(1)


def _text(error: Exception) -> str:
  """The message without the address of the function that gin called."""
  return str(error).split(_GIN_CALL)[0]


def _gin_is_used() -> bool:
  values = flags.FLAGS
  names = ("gin_config", "gin_bindings")
  return any(name in values and values[name].value for name in names)


def _parse(arguments: Sequence[str]) -> list[str]:
  try:
    rest = flags.FLAGS(list(arguments))
  except flags.Error as error:
    fail(str(error))
  if len(rest) > 1:
    fail(
      f"unexpected positional argument: {' '.join(rest[1:])!r} (only --flags "
      "are accepted)."
    )
  return rest
