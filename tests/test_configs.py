# SPDX-License-Identifier: Apache-2.0
"""The gin files in configs/: they say what the command lines say."""

import dataclasses
import os
import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from rigl.config import settings
from rigl.config.method_optimizer import create_optimizer
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse_optimizers.registry import METHODS

ROOT = pathlib.Path(__file__).resolve().parent.parent
MNIST = ROOT / "configs" / "mnist"
_ITOP = {"drop_fraction": 0.5, "track_exploration": True}
_SURPLUS = {"drop_fraction": 1.0, "soft_memory": True}
# Files of later methods: the method that they change, and how.
VARIANTS = {
  "rigl_itop": ("rigl", {"maskupdate_frequency": 4000, **_ITOP}),
  "set_itop": ("set", {"maskupdate_frequency": 1500, **_ITOP}),
  "mest": ("set", {"maskupdate_frequency": 2000, **_SURPLUS}),
  "rigl_global": (
    "rigl",
    {"maskupdate_frequency": 1000, "across_layers": True, **_SURPLUS},
  ),
}


@pytest.fixture(autouse=True)
def fresh_flags_and_gin():
  with flagsaver.flagsaver():
    if "training_method" not in flags.FLAGS:
      settings.define_flags(MnistSettings)
    yield
  gin.clear_config()


def read(*arguments):
  """The settings of a command line."""
  flags.FLAGS.unparse_flags()
  flags.FLAGS(["mnist_train_eval.py", *arguments])
  return settings.read_flags(MnistSettings)


def config(method):
  return f"--gin_config={MNIST / method}.gin"


def make_optimizer(*arguments):
  flags_read = read(*arguments)
  kernels = {
    f"layer{i + 1}": tf.Variable(np.ones(shape, np.float32))
    for i, shape in enumerate([(20, 30), (30, 10), (10, 5)])
  }
  inner = tf.compat.v1.train.GradientDescentOptimizer(0.1)
  return create_optimizer(flags_read, inner, kernels)


def test_every_method_has_a_file():
  names = {path.stem for path in MNIST.glob("*.gin")} - {"base"}
  assert names == {*METHODS, *VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_differs_in_what_its_paper_changes(name):
  method, changed = VARIANTS[name]
  plain, variant = (
    dataclasses.asdict(read(config(file))) for file in (method, name)
  )
  assert variant == {**plain, **changed}


def flags_of(method):
  """The flags that its file stands for."""
  other = {"dnw": ["--learning_rate=0.05"]}
  return [f"--training_method={method}", *other.get(method, [])]


@pytest.mark.parametrize("method", METHODS)
def test_file_says_what_the_command_line_says(method):
  from_file = read(config(method))
  assert from_file.explicit == frozenset()
  from_flags = read(*flags_of(method))
  assert from_file == from_flags


@pytest.mark.parametrize("method", METHODS)
def test_file_gives_the_run_the_name_of_the_command_line(method):
  by_file = settings.run_identity(read(config(method)))
  by_flags = settings.run_identity(read(*flags_of(method)))
  assert by_file == by_flags


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_file_opens_with_what_it_reproduces_and_how(name):
  text = (MNIST / f"{name}.gin").read_text()
  opening = text[: text.index("\n\n")].splitlines()
  assert all(line.startswith("#") for line in opening)
  command = (
    "python rigl/mnist/mnist_train_eval.py "
    f"--gin_config=configs/mnist/{name}.gin"
  )
  words = " ".join(opening).replace("#", " ").replace("\\", " ").split()
  assert command in " ".join(words)
  for label in ("Hardware:", "Duration:", "Expected:"):
    assert any(line.startswith(f"# {label}") for line in opening)


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.gin")))
def test_file_fits_the_page(path):
  assert max(map(len, path.read_text().splitlines())) <= 80


def test_a_typed_flag_wins_over_the_file():
  found = read(
    config("rigl"), "--end_sparsity=0.5", "--batch_size=32", "--momentum=0.9"
  )
  assert found.explicit == {"end_sparsity", "batch_size", "momentum"}
  assert (found.end_sparsity, found.batch_size) == (0.5, 32)
  expected = read(config("rigl"))
  assert found == dataclasses.replace(expected, end_sparsity=0.5, batch_size=32)


def test_a_binding_wins_over_the_file_and_a_flag_over_the_binding():
  binding = "--gin_bindings=MnistSettings.end_sparsity = 0.5"
  assert read(config("rigl"), binding).end_sparsity == 0.5
  both = read(config("rigl"), binding, "--end_sparsity=0.25")
  assert both.end_sparsity == 0.25


def test_of_two_files_the_later_wins(tmp_path):
  mine = tmp_path / "mine.gin"
  mine.write_text("MnistSettings.num_epochs = 3\n")
  found = read(config("set"), f"--gin_config={mine}")
  assert (found.training_method, found.num_epochs) == ("set", 3)


@pytest.mark.parametrize(
  "line, named",
  [
    ("MnistSettings.drop_fractoin = 0.1", "drop_fractoin"),
    ("MnistSetings.drop_fraction = 0.1", "MnistSetings"),
    ("MnistSettings.drop_fraction = 0.1 0.2", "line 1"),
    ("include 'no_such_base.gin'", "no_such_base.gin"),
  ],
)
@pytest.mark.parametrize("place", ["file", "binding"])
def test_a_typo_is_named(tmp_path, place, line, named):
  file = tmp_path / "typo.gin"
  file.write_text(f"{line}\n")
  argument = (
    f"--gin_config={file}" if place == "file" else f"--gin_bindings={line}"
  )
  with pytest.raises(ValueError, match=named):
    read(argument)


@pytest.mark.parametrize(
  "line, named",
  [
    ("MnistSettings.training_method = 'rigle'", "training_method"),
    ("MnistSettings.end_sparsity = 1.5", "end_sparsity"),
    ("MnistSettings.num_epochs = 2.5", "num_epochs"),
    ("MnistSettings.save_model = 1", "save_model"),
  ],
)
def test_a_wrong_value_is_named(line, named):
  with pytest.raises(ValueError, match=named):
    read(f"--gin_bindings={line}")


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="nowhere.gin"):
    read(f"--gin_config={tmp_path / 'nowhere.gin'}")


def test_includes_are_found_from_another_working_directory(
  tmp_path, monkeypatch
):
  # Files of this test's own: gin remembers where earlier ones were.
  there, here = tmp_path / "there", tmp_path / "here"
  there.mkdir()
  here.mkdir()
  (there / "my_base.gin").write_text("MnistSettings.num_epochs = 7\n")
  (there / "mine.gin").write_text(
    "include 'my_base.gin'\nMnistSettings.training_method = 'set'\n"
  )
  monkeypatch.chdir(here)
  relative = os.path.join("..", "there", "mine.gin")
  for path in (there / "mine.gin", relative):
    found = read(f"--gin_config={path}")
    assert (found.training_method, found.num_epochs) == ("set", 7)


def test_bindings_of_an_optimizer_reach_it():
  optimizer = make_optimizer(
    config("rigl"),
    "--gin_bindings=SparseRigLOptimizer.noise_std = 0",
    "--gin_bindings=SparseRigLOptimizer.drop_fraction = 0.1",
  )
  assert optimizer.drop_fraction_at(0) == pytest.approx(0.1)
  assert optimizer._noise_std == 0


def test_a_typed_flag_wins_over_the_binding_of_an_optimizer():
  optimizer = make_optimizer(
    config("rigl"),
    "--gin_bindings=SparseRigLOptimizer.drop_fraction = 0.1",
    "--drop_fraction=0.2",
  )
  assert optimizer.drop_fraction_at(0) == pytest.approx(0.2)


def test_a_flag_of_another_name_wins_too():
  binding = "--gin_bindings=SparseRigLOptimizer.frequency = 7"
  assert make_optimizer(config("rigl"), binding).schedule.frequency == 7
  typed = make_optimizer(config("rigl"), binding, "--maskupdate_frequency=9")
  assert typed.schedule.frequency == 9


def test_bindings_of_another_method_do_nothing():
  optimizer = make_optimizer(
    config("set"), "--gin_bindings=SparseRigLOptimizer.drop_fraction = 0.1"
  )
  assert optimizer.drop_fraction_at(0) == pytest.approx(0.3)
