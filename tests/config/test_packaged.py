# SPDX-License-Identifier: Apache-2.0
"""Configurations are found in a checkout and in an installed wheel."""

import pathlib

import pytest

from rigl.config import packaged

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", ["mnist/rigl.gin", "configs/mnist/rigl.gin"])
def test_configuration_is_found(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = packaged.packaged_config(name)
  assert path == ROOT / "configs" / "mnist" / "rigl.gin"


@pytest.mark.parametrize(
  "name",
  [
    "mnist/rigle.gin",
    "mnist",
    "configs",
    "",
    "../README.md",
    "configs/../README.md",
    str(ROOT / "configs" / "mnist" / "rigl.gin"),
  ],
)
def test_anything_else_is_not(name):
  assert packaged.packaged_config(name) is None


def test_configurations_of_a_wheel_come_first(tmp_path, monkeypatch):
  inside, beside = tmp_path / "rigl" / "configs", tmp_path / "configs"
  for folder in (inside, beside):
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist" / "rigl.gin").touch()
  (beside / "other.gin").touch()
  monkeypatch.setattr(packaged, "_FOLDERS", (inside, beside))
  path = packaged.packaged_config("configs/mnist/rigl.gin")
  assert path == inside / "mnist" / "rigl.gin"
  # Of another project, whose folder has the same name.
  assert packaged.packaged_config("other.gin") is None


def test_package_without_configurations(tmp_path, monkeypatch):
  monkeypatch.setattr(packaged, "_FOLDERS", (tmp_path / "a", tmp_path / "b"))
  assert packaged.packaged_config("mnist/rigl.gin") is None
