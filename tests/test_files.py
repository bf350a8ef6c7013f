# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys

import pytest

from rigl import files


def names(directory):
  return sorted(path.name for path in directory.iterdir())


def test_text_is_written_and_replaced(tmp_path):
  path = tmp_path / "file.txt"
  for text in ("one\n", "zwölf\n", ""):
    files.write_text(path, text)
    assert path.read_text(encoding="utf-8") == text
  assert names(tmp_path) == ["file.txt"]


def test_until_the_end_of_the_block_the_file_is_the_old_one(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with files.replacing(path) as temporary:
    temporary.write_text("new")
    assert temporary.parent == tmp_path
    assert path.read_text() == "old"
  assert path.read_text() == "new"


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt])
def test_exception_in_the_block_leaves_everything_as_it_was(
  tmp_path, existed, exception
):
  path = tmp_path / "file.txt"
  if existed:
    path.write_text("old")
  with pytest.raises(exception), files.replacing(path) as temporary:
    temporary.write_text("half of the n")
    raise exception
  assert names(tmp_path) == ["file.txt"] * existed
  assert not existed or path.read_text() == "old"


def test_block_that_writes_nothing_is_an_error(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with pytest.raises(FileNotFoundError), files.replacing(path):
    pass
  assert path.read_text() == "old"


def test_failing_replace_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "file.txt"
  path.write_text("old")

  def fail(*_):
    raise OSError("no space left")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="no space left"):
    files.write_text(path, "new")
  assert names(tmp_path) == ["file.txt"]
  assert path.read_text() == "old"


def test_missing_directory_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError):
    files.write_text(tmp_path / "missing" / "file.txt", "text")


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
  code = (
    "import os, signal, sys\n"
    "from rigl import files\n"
    "with files.replacing(sys.argv[1]) as temporary:\n"
    "  temporary.write_text('half')\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  command = [sys.executable, "-c", code, str(tmp_path / "file.txt")]
  assert subprocess.run(command).returncode == -signal.SIGKILL
  assert len(names(tmp_path)) == 1
  leftovers = [
    "model.ckpt-5.tmp12.index",
    "model.ckpt-5.tmp12.data-00000-of-00001",
    "model.ckpt-5.tmp12.data-00000-of-00001.tempstate99",
    "mask_records.npz.tmp12",
  ]
  kept = ["checkpoint", "mask_records.npz", "model.ckpt-5.index", "my.tmp"]
  for name in leftovers + kept:
    (tmp_path / name).write_text("")
  files.remove_temporaries(tmp_path)
  assert names(tmp_path) == kept


def test_paths_to_one_place_are_the_same(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "link").symlink_to(tmp_path / "there")
  for other in ("there", "./there", "x/../there", f"file://{tmp_path}/there"):
    assert files.are_same("link", other)
  assert not files.are_same("there", "here")
