# SPDX-License-Identifier: Apache-2.0
"""Archives unpack whole and within their folder, or are refused."""

import io
import pathlib
import random
import stat
import tarfile
import zipfile

import pytest
from tar_support import NEEDS_DATA_FILTER

from rigl.imagenet_resnet.published import archives

pytestmark = NEEDS_DATA_FILTER
FILES = {
  "run/model.ckpt-9.index": b"nine",
  "run/model.ckpt-9.data-00000-of-00001": b"9" * 3000,
  "run/model.ckpt-10.index": b"ten",
  "run/model.ckpt-10.data-00000-of-00001": b"10" * 3000,
}


def tar_of(path, files, *members, mode="w:gz"):
  """An archive of files by name, and of further members."""
  with tarfile.open(path, mode) as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
    for member in members:
      archive.addfile(member)
  return path


def zip_of(path, files):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return path


def link(name, target, kind=tarfile.SYMTYPE):
  member = tarfile.TarInfo(name)
  member.type, member.linkname = kind, target
  return member


def contents(paths, folder):
  """The files by their names below the folder of the archive."""
  found = {}
  for path in paths:
    name = pathlib.Path(*path.relative_to(folder).parts[1:])
    found[name.as_posix()] = path.read_bytes()
  return found


def outside(tmp_path, folder):
  """All that is not within the folder, to see that nothing is added."""
  return {p for p in tmp_path.rglob("*") if folder not in (p, *p.parents)}


@pytest.mark.parametrize(
  "name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip"]
)
def test_every_kind_of_archive_unpacks_to_the_same_files(tmp_path, name):
  path, out = tmp_path / name, tmp_path / "out"
  mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
  if name.endswith(".zip"):
    zip_of(path, FILES)
  else:
    tar_of(path, FILES, mode=mode.get(path.suffix, "w"))
  assert archives.stem(name) == "a"
  assert contents(archives.unpack(path, out), out) == FILES
  assert contents(archives.unpack(path, out), out) == FILES
  assert len([*out.iterdir()]) == 1


def test_two_archives_of_one_name_have_their_own_files(tmp_path):
  found = []
  for content in (b"one", b"two"):
    (tmp_path / content.decode()).mkdir()
    path = tar_of(tmp_path / content.decode() / "a.tar.gz", {"x": content})
    found.append(archives.unpack(path, tmp_path / "out"))
  assert [paths[0].read_bytes() for paths in found] == [b"one", b"two"]


def test_names_may_start_with_a_dash_or_hold_spaces(tmp_path):
  files = {"-rf": b"1", "a b/-delete/$(x)": b"2", "--": b"3", "*": b"4"}
  path = tar_of(tmp_path / "-delete.tar.gz", files)
  out = tmp_path / "-out"
  assert contents(archives.unpack(path, out), out) == files


@pytest.mark.parametrize(
  "change",
  [
    lambda path: path.write_bytes(b"other"),
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.unlink(),
    lambda path: (path.unlink(), path.mkdir()),
    lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
  ],
)
def test_files_that_changed_since_are_named(tmp_path, change):
  archive = tar_of(tmp_path / "a.tar.gz", FILES)
  change(archives.unpack(archive, tmp_path / "out")[1])
  with pytest.raises(ValueError, match=r"model\.ckpt-9\.data.*remove the fold"):
    archives.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
  "name",
  ["../escaped", "a/../../escaped", "/escaped", "//escaped", "C:/x"],
)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_names_outside_of_the_folder_are_refused(tmp_path, name, make):
  path = make(tmp_path / "a.archive", {**FILES, name: b"bad"})
  before = outside(tmp_path, tmp_path / "out")
  with pytest.raises(ValueError, match="outside|absolute"):
    archives.unpack(path, tmp_path / "out")
  assert outside(tmp_path, tmp_path / "out") == before
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  "members",
  [
    [link("run/escape", "../../..")],
    [link("run/escape", "/etc")],
    [link("escape", "/etc/passwd")],
    [link("escape", "../outside", tarfile.LNKTYPE)],
    [link("a", "b"), link("b", "a")],
    [link("a", "a")],
    [link("a", "nothing")],
    [link("pipe", "", tarfile.FIFOTYPE)],
    [link("device", "", tarfile.CHRTYPE)],
  ],
)
def test_links_to_elsewhere_and_devices_are_refused(tmp_path, members):
  (tmp_path / "outside").write_text("kept")
  path = tar_of(tmp_path / "a.tar", FILES, *members, mode="w")
  before = outside(tmp_path, tmp_path / "out")
  with pytest.raises(ValueError, match=r"a\.tar"):
    archives.unpack(path, tmp_path / "out")
  assert outside(tmp_path, tmp_path / "out") == before
  assert (tmp_path / "outside").read_text() == "kept"


def test_a_file_below_a_link_is_not_written_through_it(tmp_path):
  outer = tmp_path / "outer"
  outer.mkdir()
  path = tmp_path / "a.tar"
  with tarfile.open(path, "w") as archive:
    archive.addfile(link("run", str(outer)))
    member = tarfile.TarInfo("run/bad")
    member.size = 3
    archive.addfile(member, io.BytesIO(b"bad"))
  with pytest.raises(ValueError, match=r"a\.tar"):
    archives.unpack(path, tmp_path / "out")
  assert [*outer.iterdir()] == []


def test_links_within_an_archive_become_copies(tmp_path):
  path = tar_of(
    tmp_path / "a.tar.gz",
    FILES,
    link("run/latest.index", "model.ckpt-10.index"),
    link("again", "run/latest.index"),
    link("hard", "run/model.ckpt-9.index", tarfile.LNKTYPE),
    link("folder", "run"),
  )
  out = tmp_path / "out"
  paths = archives.unpack(path, out)
  assert contents(paths, out) == {
    **FILES,
    "run/latest.index": b"ten",
    "again": b"ten",
    "hard": b"nine",
  }
  assert not any(p.is_symlink() for p in out.rglob("*"))


def test_links_of_zip_archives_are_refused(tmp_path):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w") as archive:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")
  with pytest.raises(ValueError, match="link"):
    archives.unpack(path, tmp_path / "out")


@pytest.mark.parametrize("claimed", [10**12, 10**18])
def test_archives_that_claim_more_than_the_disk_holds_are_refused(
  tmp_path, claimed
):
  path = tmp_path / "a.tar"
  with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
    member = tarfile.TarInfo("big")
    member.size = claimed
    archive.addfile(member)
  with pytest.raises(ValueError, match=r"a\.tar"):
    archives.unpack(path, tmp_path / "out")
  assert not any(p.is_file() for p in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "zip"])
def test_damaged_archives_give_the_same_files_or_a_value_error(
  tmp_path, ending
):
  path = tmp_path / f"a.{ending}"
  if ending == "zip":
    zip_of(path, FILES)
  else:
    tar_of(path, FILES, mode="w:gz" if ending == "tar.gz" else "w")
  whole, rng = path.read_bytes(), random.Random(0)
  refused = 0
  for number in range(60):
    damaged = bytearray(whole)
    if number % 3 == 0:
      damaged = damaged[: rng.randrange(len(damaged))]
    else:
      for _ in range(rng.choice([1, 1, 8])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    out = tmp_path / f"out{number}"
    try:
      found = contents(archives.unpack(path, out), out)
    except ValueError:
      refused += 1
      continue
    if ending != "tar":  # Its content has no checksum.
      assert set(found.values()) <= set(FILES.values())
    assert len(found) == len(FILES)
  assert refused > 10


def test_nothing_is_left_of_an_archive_that_cannot_be_unpacked(tmp_path):
  path = tar_of(tmp_path / "a.tar", {**FILES, "run": b"a file and a folder"})
  with pytest.raises(OSError, match="run"):
    archives.unpack(path, tmp_path / "out")
  assert [*(tmp_path / "out").iterdir()] == []


def test_the_newest_checkpoint_with_its_data_is_chosen():
  names = [
    "x/model.ckpt-9.index",
    "x/model.ckpt-9.data-00000-of-00001",
    "y/model.ckpt-10.index",
    "y/model.ckpt-10.data-00000-of-00002",
    "y/._model.ckpt-11.index",
    "y/._model.ckpt-11.data-00000-of-00001",
    "y/model.ckpt-12.index",
    ".index",
  ]
  paths = [pathlib.Path(name) for name in names]
  assert archives.newest_checkpoint(paths) == pathlib.Path("y/model.ckpt-10")
  assert archives.newest_checkpoint(paths[-1:]) is None
  plain = [pathlib.Path("model.index"), pathlib.Path("model.data-0")]
  assert archives.newest_checkpoint(plain) == pathlib.Path("model")
