# SPDX-License-Identifier: Apache-2.0
import fcntl
import json
import pathlib
import subprocess
import sys

import gin
import pytest

from rigl.training.run_directory import RunDirectory
from rigl.version import __version__

IDENTITY = {"rate": 0.1, "kind": "a", "sizes": (1, 2), "gin_bindings": []}

HOLD_LOCK = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
  return tmp_path / "below" / "run"


def start(path, **changes):
  directory = RunDirectory(path, IDENTITY | changes)
  directory.start()
  return directory


def stop(path, **changes):
  start(path, **changes).close()


@pytest.mark.parametrize(
  "place, said",
  [
    (pathlib.Path("gs://bucket/run"), "two slashes"),  # It leaves one slash.
    ("s3://bucket/run", "no file system s3://"),
    ("gcs://bucket/run", r"did you mean gs://\?"),
  ],
)
def test_url_that_cannot_be_written_becomes_no_folder(
  place, said, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=said):
    RunDirectory(place, IDENTITY)
  assert list(tmp_path.iterdir()) == []


def test_directory_in_a_bucket_is_made_written_and_refused_to_others():
  path = "ram://test_run_directory/run"
  directory = RunDirectory(path, IDENTITY)
  directory.start()
  directory.finish({"iteration": 3})
  again = RunDirectory(path, IDENTITY)
  assert again.result() == {"iteration": 3}
  assert {file.name for file in again.path.iterdir()} == {
    ".lock",
    "operative_config.gin",
    "result.json",
    "run.json",
  }
  with pytest.raises(ValueError, match="rate = 0.1 there, 0.2 now"):
    RunDirectory(path, IDENTITY | {"rate": 0.2})


def test_start_writes_version_settings_and_gin_configuration(path):
  stop(path)
  record = json.loads((path / "run.json").read_text())
  assert record == {
    "version": __version__,
    "settings": IDENTITY | {"sizes": [1, 2]},
  }
  config = (path / "operative_config.gin").read_text()
  assert config == gin.operative_config_str()


def test_nothing_but_the_lock_is_written_before_start(path):
  RunDirectory(path, IDENTITY)
  assert [file.name for file in path.iterdir()] == [".lock"]


def test_same_run_may_come_back(path):
  stop(path)
  before = (path / "run.json").read_bytes()
  stop(path)
  assert (path / "run.json").read_bytes() == before


def test_start_removes_what_a_killed_process_left(path):
  stop(path)
  (path / "run.json.tmp123").write_text("{")
  stop(path)
  assert not (path / "run.json.tmp123").exists()


def test_another_run_is_refused_naming_all_differences(path):
  stop(path)
  before = {file: file.read_bytes() for file in path.iterdir()}
  with pytest.raises(ValueError) as error:
    RunDirectory(path, IDENTITY | {"rate": 0.2, "kind": "b"})
  text = str(error.value)
  assert "rate = 0.1 there, 0.2 now" in text
  assert "kind = 'a' there, 'b' now" in text
  assert "sizes" not in text
  assert str(path) in text
  assert {file: file.read_bytes() for file in path.iterdir()} == before


def test_setting_that_only_one_of_two_runs_has_is_a_difference(path):
  stop(path, extra=1)
  with pytest.raises(ValueError, match="extra = 1 there, the default now"):
    RunDirectory(path, IDENTITY)


@pytest.mark.parametrize(
  "name", ["checkpoint", "metrics.csv", "result.json", "operative_config.gin"]
)
def test_directory_with_files_of_something_else_is_refused(path, name):
  path.mkdir(parents=True)
  (path / name).write_text("precious")
  with pytest.raises(ValueError, match=f"not of this run \\({name}\\)"):
    RunDirectory(path, IDENTITY)
  assert [file.name for file in path.iterdir()] == [name]
  assert (path / name).read_text() == "precious"


def test_directory_with_unrelated_files_is_used(path):
  path.mkdir(parents=True)
  (path / "notes.txt").write_text("mine")
  stop(path)
  assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
  "text",
  [
    *("", "{", "[]", "{}", '{"settings": 3}', '{"settings": null}', "\0"),
    *('{"settings": [["a", 1]]}', "[" * 100_000),
  ],
)
def test_damaged_run_file_is_named_and_left_alone(path, text):
  path.mkdir(parents=True)
  (path / "run.json").write_text(text)
  with pytest.raises(ValueError, match=r"run\.json` is damaged"):
    RunDirectory(path, IDENTITY)
  assert [file.name for file in path.iterdir()] == ["run.json"]


def test_file_in_place_of_the_directory_is_refused(tmp_path):
  file = tmp_path / "file"
  file.write_text("precious")
  with pytest.raises(ValueError, match="must be a directory, got a file"):
    RunDirectory(file, IDENTITY)
  assert file.read_text() == "precious"


def test_directory_that_cannot_be_written_to_is_named(tmp_path):
  file = tmp_path / "file"
  file.write_text("precious")
  for path in (file / "run", "/proc/rigl_run", "/proc"):
    with pytest.raises(OSError, match=f"`{path}` cannot be written to"):
      RunDirectory(path, IDENTITY)


def test_directory_in_which_another_process_trains_is_refused(path):
  stop(path)
  other = subprocess.Popen(
    [sys.executable, "-c", HOLD_LOCK, str(path / ".lock")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert other.stdout.readline() == "locked\n"
  with pytest.raises(ValueError, match="another process is training"):
    RunDirectory(path, IDENTITY)
  other.communicate("")
  stop(path)


def test_lock_is_held_until_it_is_closed(path):
  directory = start(path)
  command = [sys.executable, "-c", HOLD_LOCK, str(path / ".lock")]
  options = dict(stdin=subprocess.DEVNULL, capture_output=True)
  assert subprocess.run(command, **options).returncode != 0
  with pytest.raises(ValueError, match="another process is training"):
    RunDirectory(path, IDENTITY)
  directory.close()
  assert subprocess.run(command, **options).returncode == 0


def test_owner_is_checked_again_under_the_lock(path, monkeypatch):
  lock = fcntl.flock

  def slowly(file, operation):
    monkeypatch.undo()
    stop(path, rate=0.2)  # Another run is there and gone meanwhile.
    lock(file, operation)

  monkeypatch.setattr(fcntl, "flock", slowly)
  with pytest.raises(ValueError, match="rate = 0.2 there, 0.1 now"):
    RunDirectory(path, IDENTITY)
  stop(path, rate=0.2)


def test_result_makes_a_run_finished_and_releases_the_directory(path):
  directory = start(path)
  assert directory.result() is None
  directory.finish({"accuracy": 0.5})
  assert start(path).result() == {"accuracy": 0.5}


@pytest.mark.parametrize(
  "text",
  [
    *("", "{", "3", "{}", "[]", "null", '{"iteration": NaN}', '{"step": "x"}'),
    *('{"step": ' + "9" * 400 + "}", "[" * 100_000, "\0"),
    *('{"iteration": null}', '{"iteration": true}', '{"iteration": [1]}'),
  ],
)
def test_damaged_result_is_named(path, text):
  directory = start(path)
  (path / "result.json").write_text(text)
  with pytest.raises(ValueError, match=r"result\.json` is damaged"):
    directory.result()
