# SPDX-License-Identifier: Apache-2.0
"""Commands in the documentation have flags, scripts and files that exist."""

import dataclasses
import functools
import inspect
import pkgutil
import re
import shlex

import pages
import pytest
from pages import PAGES, ROOT

from rigl import keras as rigl_keras
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist.mnist_settings import MnistSettings

_SETTINGS = {
  "imagenet_train_eval.py": ImagenetSettings,
  "resnet_train_eval.py": CifarSettings,
  "mnist_train_eval.py": MnistSettings,
}
# Flags of every script that no settings hold.
_COMMON = {"gin_config", "gin_bindings", "gin_imports"}


@functools.cache
def _commands():
  return [
    (page, command)
    for page in [*PAGES, "CONTRIBUTING.md", "benchmarks/README.md"]
    for language in ("bash", "sh")
    for command in pages.commands(page, language)
  ]


def _training_commands(script, page=None):
  """The flags of each command that runs a script, with their values."""
  for name, command in _commands():
    if script in command and page in (None, name):
      words = shlex.split(re.split(script, command)[1])
      flags = [word[2:] for word in words if word.startswith("--")]
      yield {f.partition("=")[0]: f.partition("=")[2] for f in flags}


def _value(default, text):
  if isinstance(default, bool):
    return text in ("", "True", "true")
  return type(default)(text)


@pytest.mark.parametrize("script", _SETTINGS)
def test_training_commands_have_settings_that_are_right(script):
  fields = {f.name: f for f in dataclasses.fields(_SETTINGS[script])}
  found = list(_training_commands(script))
  assert found
  for flags in found:
    config = flags.get("gin_config")
    assert config is None or (ROOT / config).is_file()
    values = {
      name: _value(fields[name].default, text)
      for name, text in flags.items()
      if name not in _COMMON
    }
    _SETTINGS[script](**values)


def test_steps_on_a_cloud_tpu_are_those_of_the_published_batch():
  commands = _training_commands("imagenet_train_eval.py", "docs/cloud_tpu.md")
  flags = next(f for f in commands if "train_steps" in f)
  ratio = 4096 / int(flags["train_batch_size"])
  assert int(flags["train_steps"]) == 32000 * ratio
  assert int(flags["maskupdate_end_step"]) == 25000 * ratio
  assert int(flags["maskupdate_frequency"]) == 100 * ratio


def test_scripts_of_commands_exist():
  scripts = [
    word
    for _, command in _commands()
    for word in command.split()
    if re.fullmatch(
      r"(rigl|scripts|benchmarks|tests)/\S+\.(py|sh)|\S+\.sh", word
    )
  ]
  assert len(scripts) > 20
  assert [s for s in scripts if not (ROOT / s).is_file()] == []


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_names_of_modules_and_functions_exist(page):
  names = re.findall(r"`(rigl(?:\.\w+)+)", pages.text_of(page))
  for name in sorted(set(names)):
    assert pkgutil.resolve_name(name) is not None


def test_the_page_of_keras_explains_every_argument_of_the_optimizers():
  text = pages.text_of("docs/keras.md")
  part = text.partition("## Arguments\n")[2].partition("\n## ")[0]
  names = {
    name
    for line in part.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`(\w+)`", line.split("|")[1])
  }
  classes = [
    found
    for found in vars(rigl_keras).values()
    if inspect.isclass(found) and issubclass(found, rigl_keras.SparseOptimizer)
  ]
  arguments = {
    name for each in classes for name in inspect.signature(each).parameters
  }
  assert len(classes) > 10
  assert names == arguments - {"name", "kwargs"}
