# SPDX-License-Identifier: Apache-2.0
"""What the scripts do in the role that `TF_CONFIG` gives their process."""

import json

import cifar_runs
import imagenet_runs
import mnist_runs
import pytest

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings

IMAGENET = (
  "--use_synthetic_data",
  "--train_steps=1",
  "--num_eval_images=4",
  "--mode=train",
)
CLUSTER = {"chief": ["localhost:1"], "worker": [], "ps": ["localhost:2"]}


@pytest.fixture(params=["mnist", "cifar10", "imagenet"])
def command(request, monkeypatch, capsys, tmp_path):
  """Runs a script in a directory; gets the type of the task."""
  shell, flags = {
    "mnist": (
      mnist_runs.Shell(mnist_train_eval, MnistSettings, monkeypatch, capsys),
      (*mnist_runs.SHORT, f"--save_path={tmp_path / 'run'}"),
    ),
    "cifar10": (
      cifar_runs.Shell(resnet_train_eval, CifarSettings, monkeypatch, capsys),
      (*cifar_runs.TINY, "--mode=train", f"--train_dir={tmp_path / 'run'}"),
    ),
    "imagenet": (
      imagenet_runs.TinyShell(
        imagenet_train_eval, ImagenetSettings, monkeypatch, capsys
      ),
      (*IMAGENET, f"--output_dir={tmp_path / 'run'}"),
    ),
  }[request.param]

  def run(kind):
    task = {"type": kind, "index": "0"}
    config = json.dumps({"cluster": CLUSTER, "task": task})
    monkeypatch.setenv("TF_CONFIG", config)
    return shell.done(*flags)

  return run


def test_a_chief_trains_and_an_evaluator_evaluates_its_checkpoints(
  command, tmp_path
):
  command("chief")
  (result,) = tmp_path.rglob("result.json")
  before = {f: f.read_bytes() for f in result.parent.iterdir() if f.is_file()}
  out = command("evaluator")
  assert "TF_CONFIG: this is the evaluator of the run.\n" in out
  assert ": test loss " in out
  for file, content in before.items():
    assert file.read_bytes() == content
  (found,) = tmp_path.rglob("evaluations/metrics.csv")
  assert len(found.read_text().splitlines()) > 1


def test_a_parameter_server_ends_with_one_line(command, tmp_path):
  assert command("ps") == (
    "TF_CONFIG: training does not need the type `ps`; this process ends.\n"
  )
  assert list(tmp_path.iterdir()) == []
