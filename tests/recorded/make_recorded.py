# SPDX-License-Identifier: Apache-2.0
r"""Records what the commands do now, for the tests in this directory.

  PYTHONPATH=tests/helpers python tests/recorded/make_recorded.py \
    flags identity runs

writes

- `flags.json`: the flags of every command;
- `run_identity.json.gz`: what every configuration writes before its first
  step;
- `run_directories/NAME.zip`: a run that was stopped, in `run`; its images, in
  `data`, if they are from files; in `end`, the tensors and the other contents
  of the same run at its end.

The recordings are a promise to those who use the package: make them anew only
for a change that the changelog tells them about.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import zipfile

import imagenet_files
import numpy as np
import recordings

# Of the files in an archive, whose bytes would depend on the time otherwise.
_TIME = (2000, 1, 1, 0, 0, 0)
_EVENTS = re.compile(r"tfevents\..*")


def record_flags() -> None:
  """Writes `flags.json`."""
  found = {c: recordings.defined_flags(c) for c in recordings.COMMANDS}
  recordings.FLAGS_FILE.write_text(json.dumps(found, indent=1) + "\n")


def record_identity() -> None:
  """Writes `run_identity.json.gz`; it takes minutes."""
  found = {}
  for line in recordings.configurations():
    with tempfile.TemporaryDirectory() as path, _inside(path):
      found[line] = recordings.written_before_training(line)
  text = json.dumps(found, indent=1) + "\n"
  # Without the time, so that equal recordings are equal files.
  recordings.IDENTITY_FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


def record_runs() -> None:
  """Writes `run_directories/NAME.zip`, of every run."""
  recordings.RUNS_FOLDER.mkdir(exist_ok=True)
  for name, recorded in recordings.RUNS.items():
    with tempfile.TemporaryDirectory() as path, _inside(path):
      _record_run(recorded, recordings.RUNS_FOLDER / f"{name}.zip")


def _record_run(recorded, archive):
  """Makes a run whole and in two parts, which must end with the same bits."""
  if "--data_directory=data" in recorded.command:
    data = pathlib.Path("data")
    data.mkdir()
    imagenet_files.write_split(data, "train", [5, 4, 6])
    imagenet_files.write_split(data, "validation", [4, 3])
  assert recordings.run(*recorded.command) == 0
  whole = recordings.newest_checkpoint(recordings.only_run("run"))
  shutil.rmtree("run")
  recordings.stop_early(recorded)
  stopped = {path: path.read_bytes() for path in _files("run", "data")}
  assert recordings.run(*recorded.command) == 0
  directory = recordings.only_run("run")
  tensors = recordings.newest_checkpoint(directory)
  assert tensors.keys() == whole.keys()
  for name, value in whole.items():
    assert value.tobytes() == tensors[name].tobytes(), name
  pathlib.Path("end").mkdir()
  np.savez_compressed("end/tensors.npz", **tensors)
  left = json.dumps(recordings.what_it_left(directory), indent=1)
  pathlib.Path("end/left.json").write_text(left + "\n")
  stopped |= {path: path.read_bytes() for path in _files("end")}
  with zipfile.ZipFile(archive, "w") as file:
    for path, content in stopped.items():
      # Without the name of the machine.
      name = _EVENTS.sub("tfevents.1.recorded", path.as_posix())
      info = zipfile.ZipInfo(name, _TIME)
      file.writestr(info, content, zipfile.ZIP_DEFLATED, 9)


def _files(*directories):
  return sorted(
    path
    for directory in directories
    for path in pathlib.Path(directory).rglob("*")
    if path.is_file()
  )


@contextlib.contextmanager
def _inside(path):
  """Works in another directory; `contextlib.chdir` is of Python 3.11."""
  before = os.getcwd()
  os.chdir(path)
  try:
    yield
  finally:
    os.chdir(before)


RECORDS = {
  "flags": record_flags,
  "identity": record_identity,
  "runs": record_runs,
}


if __name__ == "__main__":
  for name in sys.argv[1:]:
    RECORDS[name]()
