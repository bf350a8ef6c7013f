# SPDX-License-Identifier: Apache-2.0
"""The command `rigl-export`: what it prints, and its errors of one line."""

import sys

import export_models
import numpy as np
import pytest
from absl import flags

from rigl.config import app
from rigl.exporting import command
from rigl.formats import compact


@pytest.fixture
def shell(monkeypatch, capsys):
  """Runs the command in this process; returns code, output and errors."""

  def run(*arguments):
    monkeypatch.setattr(sys, "argv", ["rigl-export", *map(str, arguments)])
    before = set(flags.FLAGS)
    capsys.readouterr()
    try:
      app.run(command.main, command.define_flags)
    except SystemExit as error:
      code = error.code or 0
    finally:
      for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    return code, *capsys.readouterr()

  return run


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
  return export_models.checkpoint(tmp_path_factory.mktemp("mnist"), "mnist")[0]


def test_size_and_verification_are_printed(shell, prefix, tmp_path):
  output = tmp_path / "digits.rigl"
  code, out, _ = shell(
    f"--checkpoint={prefix}",
    "--task=mnist",
    "--training_method=rigl",
    "--format=compact",
    "--dtype=float16",
    f"--output={output}",
  )
  assert code == 0
  first, second = out.splitlines()
  assert first == f"Wrote {output}: {output.stat().st_size:,} bytes"
  assert second.startswith("Verified: largest difference to TensorFlow")
  file = compact.CompactFile(output)
  assert file.values("layer1/weights").dtype == np.float16
  assert file.metadata["flags"]["training_method"] == "rigl"


def test_what_compression_removed_is_printed(shell, prefix, tmp_path):
  output = tmp_path / "digits"
  code, out, _ = shell(
    f"--checkpoint={prefix}",
    "--task=mnist",
    "--training_method=rigl",
    "--compress",
    f"--output={output}",
  )
  assert code == 0
  assert out.splitlines()[2].startswith("Compressed: 266,610 parameters became")
  code, _, err = shell(
    f"--checkpoint={prefix}",
    f"--output={output}",
    "--format=compact",
    "--compress",
  )
  assert code == 1 and "`compress` is for formats" in err


@pytest.mark.parametrize(
  "arguments, named",
  [
    (["--output=x"], "`checkpoint` must be given"),
    (["--checkpoint=x"], "`output` must be given"),
    (["--checkpoint=none", "--output=x", "--task=mnist"], "no readable"),
    (["--checkpoint=none", "--output=x"], "`task` must be one of"),
    (["--checkpoint=none", "--output=x", "--format=tf"], "--format"),
    (["--checkpoint=none", "--output=no/where/x"], "directory"),
    (["--checkpoint=none.keras", "--output=x"], "no file"),
    (["--checkpoint=c", "--output=x", "--task=mnist", "--width=2"], "`width`"),
  ],
)
def test_errors_are_one_line(shell, tmp_path, monkeypatch, arguments, named):
  monkeypatch.chdir(tmp_path)
  code, out, err = shell(*arguments)
  lines = [line for line in err.splitlines() if line.startswith("error")]
  assert code == 1 and out == ""
  assert len(lines) == 1 and named in lines[0], err
  assert [*tmp_path.iterdir()] == []


def test_flags_that_do_not_fit_are_named(shell, prefix, tmp_path):
  code, _, err = shell(
    f"--checkpoint={prefix}",
    "--task=mnist",
    "--training_method=baseline",
    f"--output={tmp_path / 'out'}",
  )
  assert code == 1 and "It needs --training_method=rigl" in err


def test_damaged_and_other_compact_files_are_one_line(shell, tmp_path):
  place = tmp_path / "network.rigl"
  compact.write(place, {"x": np.zeros([3, 3], np.float32)}, metadata={})
  code, _, err = shell(f"--checkpoint={place}", f"--output={tmp_path / 'out'}")
  assert code == 1 and "is of no task that predicts" in err
  place.write_bytes(place.read_bytes()[:-1])
  code, _, err = shell(f"--checkpoint={place}", f"--output={tmp_path / 'out'}")
  assert code == 1 and "damaged compact file" in err
  assert "Traceback" not in err
