"""Commands in docs/ have flags and files that exist."""

import dataclasses
import pathlib
import re
import shlex

import pytest

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "cloud_tpu.md").read_text()


def commands(script):
  """The flags of each command that runs a script, with their values."""
  shell = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
  for line in shell.replace("\\\n", " ").splitlines():
    if script in line:
      words = shlex.split(line.split(script)[1], comments=True)
      flags = [word[2:] for word in words if word.startswith("--")]
      yield dict(flag.split("=", 1) for flag in flags)


def test_training_commands_have_settings_that_are_right():
  fields = {f.name: f for f in dataclasses.fields(ImagenetSettings)}
  found = list(commands("imagenet_train_eval.py"))
  assert len(found) >= 3
  for flags in found:
    config = flags.pop("gin_config", None)
    assert config is None or (ROOT / config).is_file()
    values = {
      name: value == "True"
      if isinstance(fields[name].default, bool)
      else type(fields[name].default)(value)
      for name, value in flags.items()
    }
    ImagenetSettings(**values)


def test_steps_are_those_of_the_published_batch():
  flags = next(f for f in commands("train_eval.py") if "train_steps" in f)
  ratio = 4096 / int(flags["train_batch_size"])
  assert int(flags["train_steps"]) == 32000 * ratio
  assert int(flags["maskupdate_end_step"]) == 25000 * ratio
  assert int(flags["maskupdate_frequency"]) == 100 * ratio


@pytest.mark.parametrize(
  "name", re.findall(r"`((?:rigl|configs|scripts)/[^`* ]*)`", TEXT)
)
def test_files_that_the_page_names_exist(name):
  assert (ROOT / name).exists()
