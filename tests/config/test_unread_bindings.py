# SPDX-License-Identifier: Apache-2.0
"""Warnings about gin bindings that nothing of a run reads."""

import pathlib

import gin
import mnist_runs
import pytest

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.config import gin_files, unread_bindings
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse_optimizers import registry

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SETTINGS = {
  "mnist": MnistSettings,
  "cifar10": CifarSettings,
  "imagenet": ImagenetSettings,
}


@pytest.fixture
def warnings(without_xla, monkeypatch, capsys, tmp_path, caplog):
  """Trains MNIST with some flags; returns the warnings about gin."""
  del without_xla
  shell = mnist_runs.Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys)

  def train(*flags, file=None):
    if file is not None:
      (tmp_path / "file.gin").write_text(file)
      flags = (f"--gin_config={tmp_path / 'file.gin'}", *flags)
    caplog.clear()
    shell.train(tmp_path / "run", "--num_epochs=1", *flags)
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if text.startswith("gin: ")]

  return train


def test_an_optimizer_that_is_not_in_use_is_named(warnings):
  assert warnings(
    "--training_method=set",
    "--gin_bindings=SparseRigLOptimizer.noise_std = 0.5",
    "--gin_bindings=SparseSETOptimizer.grow_init = 'random_normal'",
  ) == [
    "gin: this run does not read `SparseRigLOptimizer.noise_std`; it has no "
    "effect."
  ]


def test_everything_that_nothing_reads_is_named_in_one_line(warnings):
  (found,) = warnings(
    "--training_method=rigl",
    "--drop_fraction=0.2",
    "--gin_bindings=rigl.SparseRigLOptimizer.drop_fraction = 0.5",
    file="""
RATE = 0.5
USED = 0.25
SparseRigLOptimizer.noise_std = %USED
scope/MnistFc.units = (20, 10)
DropsByEpoch.stretch = %RATE
SparseSETOptimizer.noise_std = 0.5
MnistSettings.momentum = 0.5
""",
  )
  names = ["RATE", "scope/MnistFc.units", "DropsByEpoch.stretch"]
  names.append("SparseRigLOptimizer.drop_fraction")
  for name in names:
    assert f"`{name}`" in found
  assert found.count("`") == 2 * len(names)
  assert found.endswith("they have no effect.")


def test_a_file_for_several_methods_gives_no_warning(warnings):
  text = """
SparseRigLOptimizer.noise_std = 0.5
SparseSETOptimizer.noise_std = 0.5
"""
  assert warnings("--training_method=set", file=text) == []


def test_a_file_for_other_methods_alone_is_named(warnings):
  text = """
SparseRigLOptimizer.noise_std = 0.5
SparseMomentumOptimizer.noise_std = 0.5
"""
  (found,) = warnings("--training_method=set", file=text)
  assert "`SparseRigLOptimizer.noise_std`" in found
  assert "`SparseMomentumOptimizer.noise_std`" in found


@pytest.mark.parametrize(
  "name", sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.gin"))
)
def test_settings_read_all_of_a_config_of_this_package(name):
  try:
    gin_files.parse_gin([str(CONFIGS / name)], [])
    settings = SETTINGS[name.split("/")[0]]()
    # The optimizer of the method is made later, and reads its own.
    optimizer = registry.METHODS.get(settings.training_method)
    own = f"{optimizer.__name__}." if optimizer else "none"
    unread = unread_bindings.unread()
    assert [each for each in unread if not each.startswith(own)] == []
  finally:
    gin.clear_config()
