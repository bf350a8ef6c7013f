# SPDX-License-Identifier: Apache-2.0
"""`--help` lists the flags by group, with an example command on top."""

import re
import sys

import gin
import pytest
from absl import flags

from rigl.cifar_resnet import resnet_train_eval
from rigl.config import app, settings
from rigl.config.help_text import GROUPS, help_text
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.mnist import mnist_train_eval

SCRIPTS = {
  "mnist": mnist_train_eval,
  "cifar10": resnet_train_eval,
  "imagenet": imagenet_train_eval,
}
# Those of the published scripts, and those that all scripts understand.
DIRECTORIES = {
  "mnist": {"output_dir": "save_path", "data_directory": "mnist"},
  "cifar10": {"output_dir": "train_dir"},
  "imagenet": {},
}


@pytest.fixture(autouse=True)
def fresh_flags_and_gin():
  before = set(flags.FLAGS)
  yield
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)
  gin.clear_config()


def help_of(name, monkeypatch, capsys, argument="--help"):
  script = SCRIPTS[name]
  monkeypatch.setattr(sys, "argv", [script.__file__, argument])
  with pytest.raises(SystemExit) as end:
    app.run(script.main, script.define_flags)
  assert not end.value.code
  return capsys.readouterr().out


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_lists_every_flag_once_by_group(name, monkeypatch, capsys):
  text = help_of(name, monkeypatch, capsys)
  before = set(flags.FLAGS)
  listed = re.findall(r"^  --(\w+)=", text, re.MULTILINE)
  assert len(listed) == len(set(listed)) > 30
  aliases = {alias for alias in DIRECTORIES[name] if f"Also --{alias}." in text}
  assert aliases == set(DIRECTORIES[name])
  missing = [n for n in before if flags.FLAGS[n].help and n not in listed]
  ours = settings.__name__
  defined = {flag.name for flag in flags.FLAGS.flags_by_module_dict()[ours]}
  assert defined & set(missing) == aliases
  headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
  assert headings == [h for h in GROUPS.values() if h in headings]
  assert {"Data", "Model", "Sparse training method", "Output"} <= {*headings}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_opens_with_an_example_and_fits_the_terminal(
  name, monkeypatch, capsys
):
  lines = help_of(name, monkeypatch, capsys, "-h").splitlines()
  assert lines[0].endswith(".")
  assert lines[2].startswith("  python rigl/")
  assert max(map(len, lines)) <= 100


def test_a_switch_without_a_default_shows_none():
  flags.DEFINE_boolean("toy_unset", None, "A switch.")
  flags.DEFINE_boolean("toy_off", False, "Another.")
  text = help_text("Toys.", ["toy_unset", "toy_off"])
  assert re.search(r"^  --toy_unset= +A switch\.$", text, re.MULTILINE)
  assert re.search(r"^  --toy_off=false +Another\.$", text, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("common", ["output_dir", "data_directory"])
def test_directories_have_names_that_all_scripts_understand(name, common):
  SCRIPTS[name].define_flags()
  own = DIRECTORIES[name].get(common, common)
  flags.FLAGS(["script", f"--{common}=somewhere"])
  classes = {
    "mnist": mnist_train_eval.MnistSettings,
    "cifar10": resnet_train_eval.CifarSettings,
    "imagenet": imagenet_train_eval.ImagenetSettings,
  }
  found = settings.read_flags(classes[name])
  assert getattr(found, own) == "somewhere"
  assert found.explicit == {own}
  assert common not in set(settings.run_identity(found)) - {own}
