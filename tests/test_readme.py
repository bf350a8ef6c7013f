"""Everything in the README runs, in a short form."""

import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.models.factory import create_model
from rigl.mnist.mnist_model import MnistFc

_ROOT = pathlib.Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text()
_CIFAR = [
  "--use_synthetic_data",
  "--resnet_depth=10",
  "--resnet_width=1",
  "--batch_size=8",
  "--max_steps=4",
  "--maskupdate_frequency=2",
]
# What makes a command short, by a part of it.
_SHORT = {
  "mnist_train_eval": [
    "--use_synthetic_data",
    "--num_epochs=2",
    "--maskupdate_frequency=5",
  ],
  "resnet_train_eval": _CIFAR,
  "--action=export": _CIFAR,
}

_COMMANDS = {
  "rigl-flops": "rigl.flops.command",
  "rigl-predict": "rigl.predict.command",
}

# The commands that other places run: this suite itself, .ci/run, and
# tests/test_scripts.py.
_ELSEWHERE = {"bash run.sh", "bash scripts/mnist.sh"}


def _blocks(language):
  return re.findall(rf"```{language}\n(.*?)```", _README, re.DOTALL)


def _commands():
  text = "\n".join(_blocks("bash")).replace("\\\n", " ")
  return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _shortened(command):
  """The arguments of `bash run.sh python ...`, for this interpreter."""
  words = shlex.split(command, comments=True)
  if words[0] == "python":
    return [sys.executable, *words[1:], "--platform=cpu"]
  if words[2] in _COMMANDS:
    return [sys.executable, "-m", _COMMANDS[words[2]], *words[3:]]
  assert words[:3] == ["bash", "run.sh", "python"], command
  script, *flags = words[3:]
  flags = [
    flag.replace("rigl_runs/", "").replace("configs/", f"{_ROOT}/configs/")
    for flag in flags
    if flag != "--data_directory=DIRECTORY"
  ]
  short = next((s for name, s in _SHORT.items() if name in command), [])
  if "--mask_record_frequency=100" in flags:
    flags[flags.index("--mask_record_frequency=100")] = (
      "--mask_record_frequency=5"
    )
  return [sys.executable, *map(_here, (script, *flags)), *short]


def _here(word):
  """The interpreter and scripts of a command, where the tests run."""
  if word == "python":
    return sys.executable
  is_script = word.endswith(".py") and not word.startswith("-")
  return str(_ROOT / word) if is_script else word


def _save_network(prefix, model, variables):
  """Writes a checkpoint of a network of which all connections are there."""
  masks = {f"{name}/mask": tf.ones_like(k) for name, k in model.kernels.items()}
  tensors = {**masks, **variables}
  prefix.parent.mkdir()
  tf.raw_ops.SaveV2(
    prefix=str(prefix),
    tensor_names=list(tensors),
    shape_and_slices=[""] * len(tensors),
    tensors=[tf.convert_to_tensor(tensor) for tensor in tensors.values()],
  )


def _make_files(folder):
  """Makes what the commands of the README are about."""
  resnet = create_model("resnet", 50, prune_first_layer=True)
  prefix = folder / "s90erk5x" / "model.ckpt-160000"
  _save_network(prefix, resnet, resnet.named_variables)
  mnist = MnistFc(784, 0)
  variables = {v.name.split(":")[0]: v for v in mnist.variables}
  _save_network(folder / "mnist" / "model.ckpt", mnist, variables)
  photo = tf.zeros([300, 400, 3], tf.uint8)
  (folder / "photo.jpg").write_bytes(tf.io.encode_jpeg(photo).numpy())
  np.savez(folder / "digits.npz", images=np.zeros([2, 784], np.uint8))


def test_python_example_runs_as_written(capsys):
  (example,) = _blocks("python")
  tf.random.set_seed(0)
  exec(compile(example, "README.md", "exec"), {})
  assert "weights 205 of 2048" in capsys.readouterr().out


def test_example_is_short():
  (example,) = _blocks("python")
  body = example.split("\n\n")[-1]
  assert len([line for line in body.splitlines() if line]) <= 16


@pytest.mark.slow
def test_every_command_runs_in_a_short_form(tmp_path):
  commands = [c for c in _commands() if c not in _ELSEWHERE]
  assert len(commands) >= 6
  _make_files(tmp_path)
  for command in commands:
    done = subprocess.run(
      _shortened(command), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
  assert (tmp_path / "records" / "mask_records_layer0.png").exists()
  assert (tmp_path / "predictions.npz").exists()


def test_files_that_the_readme_names_exist():
  names = re.findall(r"\]\((?!https?:)([^)#]+)\)", _README)
  names += re.findall(
    r"`((?:rigl|configs|scripts|tests|benchmarks)/[^`*<> ]*)`", _README
  )
  for name in names:
    assert (_ROOT / name).exists(), name
