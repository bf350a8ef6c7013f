# SPDX-License-Identifier: Apache-2.0
"""Every configuration writes the `run.json` and gin file of the recording."""

import pytest
from recordings import (
  IDENTITY_FILE,
  ROOT,
  gin_sections,
  load_json,
  read_settings,
  split,
  written_before_training,
)

RECORDED = load_json(IDENTITY_FILE)
# Those that make their network in less than a second and differ in kind.
FAST = (
  "cifar10/baseline.gin",
  "cifar10/momentum_erk_0.9.gin",
  "cifar10/prune_erk_0.9.gin",
  "cifar10/rigl_erk_0.9_2x.gin",
  "cifar10/snip_erk_0.9.gin",
  "cifar10 --use_synthetic_data --training_method=dnw",
  "imagenet/mobilenet_v1_baseline.gin",
  "imagenet/mobilenet_v1_rigl_erk_0.9_50x.gin",
  "imagenet/mobilenet_v1_rigl_uniform_0.9_10x.gin",
)
# Of these, files of other sparsities are written in the same way.
SAME_KIND = (
  "_0.76x.gin",
  "_0.95.gin",
  "_0.98.gin",
  "sparse_ift_rigl_0.75.gin",
)


def marks(line):
  if line.startswith("rigl-mnist") or line.endswith(FAST):
    return []
  long = [pytest.mark.long] if line.endswith(SAME_KIND) else []
  return [pytest.mark.slow, *long]


CASES = [pytest.param(line, id=line, marks=marks(line)) for line in RECORDED]


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def test_every_recorded_file_is_in_the_repository():
  arguments = {argument for line in RECORDED for argument in split(line)}
  recorded = {a for a in arguments if a.startswith("--gin_config=")}
  found = {f"--gin_config={path}" for path in ROOT.glob("configs/*/*.gin")}
  assert recorded and recorded <= found


# No file holds the first masks, so that XLA need not choose them.
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("line", CASES)
def test_run_writes_the_files_of_the_recording(line):
  found, recorded = written_before_training(line), RECORDED[line]
  assert found["settings"] == recorded["settings"]
  assert found["gin"] == recorded["gin"]
  assert found["directory"] == recorded["directory"]


@pytest.mark.parametrize("line", RECORDED, ids=str)
def test_settings_are_those_of_the_recording(line):
  found, recorded = read_settings(line), RECORDED[line]
  expected = dict(recorded["settings"])
  del expected["data"]
  assert found["settings"] == expected
  sections = gin_sections(recorded["gin"])
  for name, text in gin_sections(found["gin"]).items():
    assert sections[name] == text
