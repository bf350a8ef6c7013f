"""Starting a script: flags are parsed and errors become one line.

What the flags are and what the script does is said by the script.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags

# What gin adds to the message of an error.
_GIN_CALL = "\n  In call to configurable"


def run(
  main: Callable[[Sequence[str]], Any], define: Callable[[], None]
) -> None:
  """Defines the flags, parses them and runs `main`.

  Args:
    main: gets what is left of the command line.
    define: defines the flags. (Not at import, so that two scripts with the
      same flags can be imported by one program.) All of them are in `--help`.
  """
  values = flags.FLAGS
  before = set(values)
  define()
  for name in set(values) - before:
    # absl takes those for the script's own that its file defines.
    values.register_key_flag_for_module(sys.argv[0], values[name])
  app.run(main, flags_parser=_parse)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
  """Turns errors of the user's input into one line and exit code 1.

  Put it around what checks and prepares, not around training: an error there
  is one of the program and should show where it comes from.
  """
  try:
    yield
  except (ValueError, OSError) as error:
    fail(_text(error))
  except TypeError as error:
    # What gin passes on may have the wrong name or type.
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
    fail(f"only flags are understood, got {' '.join(rest[1:])!r}.")
  return rest
