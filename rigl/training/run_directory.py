# SPDX-License-Identifier: Apache-2.0
"""Run directory: the output directory of one run, and its result.

`checkpoints` and `metrics` write the other files in it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import gin

from rigl import checks, file_contents, files
from rigl.training import directory_lock, run_identity
from rigl.training.metrics import METRICS_FILE
from rigl.url_path import UrlPath
from rigl.version import __version__

_RUN_FILE = run_identity.RUN_FILE
RESULT_FILE = "result.json"
_CONFIG_FILE = "operative_config.gin"
_SHOWN = 80  # Characters of a wrong value that are shown.
# Files of a run; a directory that has one without run.json is not ours.
_OTHER_FILES = ("checkpoint", METRICS_FILE, RESULT_FILE, _CONFIG_FILE)


class DamagedResultError(ValueError):
  """The result of a run is damaged; its checkpoint may give it again."""


class RunDirectory:
  """A directory that belongs to one run and is refused to others.

  `run.json` holds the version and all that defines the run, `result.json` the
  result of a finished run, `operative_config.gin` the operative configuration
  of gin. A run that goes on after its end keeps its result as
  `result-POSITION.json`.

  Attributes:
    path: the argument.
    length: the argument.

  Args:
    path: the directory; it is made if it does not exist.
    identity: the values that define the run, from `settings.run_identity`.
    writes: whether this process writes there: if several train together, the
      chief alone does. If not, the directory is not made, and another process
      may train in it.
    adopts: whether checkpoints that are there without `run.json` become this
      run's.
    length: the setting that says how long the run is; a run of another length
      may go on here. Empty: none.
    choices: what the run chose by itself when it began, and keeps when it is
      resumed. It does not define the run.

  Raises:
    ValueError: if the directory holds another run, another process is
      training in it, or TensorFlow knows no such scheme as that of a bucket.
    OSError: if it cannot be made or written to.
  """

  def __init__(
    self,
    path: files.Path,
    identity: dict[str, Any],
    writes: bool = True,
    adopts: bool = False,
    length: str = "",
    choices: Mapping[str, Any] | None = None,
  ) -> None:
    self.path, self.length = files.path(path), length
    self._identity = json.loads(json.dumps(identity))
    self._choices = dict(choices or {})
    self._lock: IO[str] | None = None
    self._adopts = adopts
    self._check_owner()
    self._writes = writes
    if not self._writes:
      return
    self._make()
    self._lock = directory_lock.take(self.path)
    try:
      self._check_owner()  # Again: another run may have come in between.
    except BaseException:
      self.close()
      raise

  def close(self) -> None:
    """Releases the directory for other processes and runs."""
    if self._lock is not None:
      self._lock.close()

  def start(self) -> None:
    """Writes the identity of the run; call it before the first step.

    Also removes half-written files of a killed process.
    """
    if not self._writes:
      return
    files.remove_temporaries(self.path)
    record = {"version": __version__, "settings": self._identity}
    run_file = self.path / _RUN_FILE
    earlier = read_choices(self.path)
    choices = earlier | self._choices
    if choices:
      record[run_identity.CHOICES] = choices
    if (
      not run_file.exists()
      or choices != earlier
      or run_identity.read(run_file) != self._identity
    ):
      files.write_text(run_file, json.dumps(record, indent=2) + "\n")
    files.write_text(self.path / _CONFIG_FILE, gin.operative_config_str())

  def result(self, position: int | None = None) -> dict[str, Any] | None:
    """The result of the run if it is finished, else None.

    Args:
      position: the end of a run that was longer later. None: the last end.

    Raises:
      DamagedResultError: if the file is damaged.
    """
    file = self.path / RESULT_FILE
    if position is not None:
      file = self._earlier(position)
    if not file.exists():
      return None
    try:
      result = file_contents.read_json(file)
      _check_result(result)
    except ValueError as error:
      raise DamagedResultError(f"`{file}` is damaged ({error}).") from error
    return dict(result)

  def set_result_aside(self, position: int | None = None) -> None:
    """Renames the result, so that the run counts as not finished.

    Args:
      position: the end that the result is of. None: the result is damaged.
    """
    file = self.path / RESULT_FILE
    if not self._writes or not file.exists():
      return
    if position is None:
      files.set_aside(file)
    else:
      file.replace(self._earlier(position))

  def _earlier(self, position: int) -> files.AnyPath:
    return self.path / f"result-{position}.json"

  def finish(self, result: dict[str, Any]) -> None:
    """Records the result: the run is finished, and the directory released."""
    if not self._writes:
      return
    files.write_text(
      self.path / RESULT_FILE, json.dumps(result, indent=2) + "\n"
    )
    self.close()

  def _check_owner(self) -> None:
    if self.path.exists() and not self.path.is_dir():
      raise ValueError(f"`{self.path}` must be a directory, got a file.")
    run_file = self.path / _RUN_FILE
    if not run_file.exists():
      found = [name for name in _OTHER_FILES if (self.path / name).exists()]
      found += [path.name for path in self.path.glob("model.ckpt*")]
      if found and not self._adopts:
        raise ValueError(
          f"`{self.path}` holds files that are not of this run ({found[0]}); "
          "choose another directory."
        )
      return
    theirs = run_identity.read(run_file)
    if run_identity.differing(theirs, self._identity, self.length):
      names = run_identity.differing(theirs, self._identity)
      text = run_identity.described(names, theirs, self._identity)
      raise ValueError(
        f"`{self.path}` holds another run ({text}); choose another directory."
      )

  def _make(self) -> None:
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      if isinstance(self.path, UrlPath):
        with files.replacing(self.path / directory_lock.LOCK_FILE) as temporary:
          temporary.write_bytes(b"")
        return
      with tempfile.TemporaryFile(dir=self.path):
        pass
    except OSError as error:
      raise OSError(
        f"`{self.path}` cannot be written to: {error.strerror or error}."
      ) from error


def read_settings(directory: files.Path) -> dict[str, Any] | None:
  """What defines the run in a directory; None if there is none.

  Args:
    directory: the directory.

  Raises:
    ValueError: if its file is damaged.
  """
  run_file = files.path(directory) / _RUN_FILE
  return run_identity.read(run_file) if run_file.is_file() else None


def read_choices(directory: files.Path) -> dict[str, Any]:
  """What the run in a directory chose by itself; empty if there is none.

  Args:
    directory: the directory.

  Raises:
    ValueError: if its file is damaged.
  """
  run_file = files.path(directory) / _RUN_FILE
  return run_identity.read_choices(run_file) if run_file.is_file() else {}


def _check_result(result: Any) -> None:
  """Checks that a result is whole.

  Raises:
    ValueError: naming what is wrong.
  """
  if not isinstance(result, dict):
    raise ValueError("it is no JSON object")
  if not result:
    raise ValueError("it is empty")
  for name, value in result.items():
    if not checks.is_finite(value):
      raise ValueError(f"`{name}` is {value!r}"[:_SHOWN])
