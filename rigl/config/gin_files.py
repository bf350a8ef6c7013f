# SPDX-License-Identifier: Apache-2.0
"""Gin files and bindings of a command line, with one-line errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import gin

from rigl.config import gin_check
from rigl.config.packaged import packaged_config
from rigl.url_path import UrlPath, has_scheme

# So that gin does not break a line.
_LINE = 10**6


def parse_gin(
  files: Iterable[str],
  bindings: Iterable[str],
  imports: bool = False,
  before: Iterable[str] = (),
) -> None:
  """Replaces gin's configuration by that of files and bindings.

  Includes are relative to the folder of the file in `files`.

  Args:
    files: paths as `find_config` takes them. Later files win over earlier.
    bindings: lines such as `SparseRigLOptimizer.noise_std = 0`, which win over
      the files.
    imports: whether they may import modules outside of this package, which
      runs them.
    before: bindings that a run recorded; files and bindings win over them, and
      names that are not known here are left out.

  Raises:
    ValueError: if a file is missing, or a name or value is not known, or an
      import is not allowed.
  """
  checker = gin_check.GinChecker(imports)
  gin.clear_config()
  recorded = "\n".join(before)
  with _one_line_gin_errors("`run.json`"):
    checker.check_text(recorded)
    gin.parse_config(recorded, skip_unknown=True)
  for name in files:
    with _one_line_gin_errors(f"`--gin_config`: {name!r}"):
      if has_scheme(name):
        text = UrlPath(name).read_text()
        checker.check_text(text)
        gin.parse_config(text)
        continue
    path = find_config(name)
    with _one_line_gin_errors(f"`--gin_config`: {name!r}"), _inside(path):
      checker.check_file(os.path.basename(path))
      gin.parse_config_file(os.path.basename(path))
  for binding in bindings:
    with _one_line_gin_errors(f"`--gin_bindings`: {binding!r}"):
      checker.check_text(binding)
      gin.parse_config(binding)
  with _one_line_gin_errors("`--gin_config`/`--gin_bindings`"):
    gin.finalize()  # Finds macros without a value.


@contextlib.contextmanager
def applied(
  files: Iterable[str],
  bindings: Iterable[str],
  imports: bool = False,
  before: Iterable[str] = (),
) -> Iterator[None]:
  """Gives gin another configuration within a block.

  Afterwards gin has the configuration of before again, as far as its text holds
  it. Without files and bindings gin keeps its configuration.

  Args:
    files: as for `parse_gin`.
    bindings: as for `parse_gin`.
    imports: as for `parse_gin`.
    before: as for `parse_gin`.

  Raises:
    ValueError: as `parse_gin` does.
  """
  files, bindings, before = list(files), list(bindings), list(before)
  if not (files or bindings or before):
    yield
    return
  earlier, was_locked = gin.config_str(_LINE), gin.config_is_locked()
  try:
    parse_gin(files, bindings, imports, before)
    yield
  finally:
    gin.clear_config()
    gin.parse_config(earlier, skip_unknown=True)
    if was_locked:
      gin.finalize()


def current_bindings(without: str = "") -> list[str]:
  """The bindings of gin's configuration, one per line, for `parse_gin`.

  Args:
    without: name of a configurable whose bindings are left out.
  """
  left_out = ("#", f"{without}.") if without else ("#",)
  return [
    line
    for line in gin.config_str(max_line_length=_LINE).splitlines()
    if line and not line.startswith(left_out)
  ]


def find_config(name: str) -> str:
  """The path of a gin file.

  Args:
    name: a path, or the name of a file of this package, such as
      `mnist/rigl.gin`. A path that exists wins.

  Raises:
    ValueError: if there is no such file.
  """
  path = name if os.path.isfile(name) else packaged_config(name)
  if path is None:
    raise ValueError(
      f"`--gin_config`: there is no file {name!r}, neither here nor among the "
      "configurations of the package."
    )
  return os.fspath(path)


@contextlib.contextmanager
def _inside(path: str) -> Iterator[None]:
  """Works in the directory of a file, because gin resolves includes there."""
  before = os.getcwd()
  os.chdir(os.path.dirname(path) or ".")
  try:
    yield
  finally:
    os.chdir(before)


@contextlib.contextmanager
def _one_line_gin_errors(where: str) -> Iterator[None]:
  """Turns gin's errors into a ValueError of one line that names the place.

  All of them: whatever a parser raises is an error of the text that it reads,
  and an imported module may raise anything.
  """
  try:
    yield
  except Exception as error:
    raise ValueError(f"{where}: {gin_check.one_line(error)}") from error
