# SPDX-License-Identifier: Apache-2.0
"""Scripts that a signal stops in the middle of something end the same."""

import os
import signal

import cifar_runs
import imagenet_runs
import mnist_runs
import pytest
import tensorflow as tf
from script_runs import assert_same_results

from rigl.cifar_resnet import resnet_train_eval
from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.export_model import Exporter
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist import mnist_train_eval
from rigl.mnist.mnist_settings import MnistSettings
from rigl.runners import evaluations
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.training.reporting import Reporter

METHOD = ("--training_method=rigl", "--maskupdate_frequency=3")
# A network that is traced and exported in seconds.
IMAGENET = (
  "--model_architecture=vgg_a",
  "--width=0.1",
  "--use_synthetic_data",
  "--mode=train_and_eval",
  "--train_steps=6",
  "--steps_per_eval=4",
  "--steps_per_checkpoint=100",
  "--iterations_per_loop=4",
  "--num_eval_images=12",
  "--export_model_freq=4",
  "--image_size=32",
)


SLOW = [
  pytest.param(n, marks=pytest.mark.slow) for n in ("cifar10", "imagenet")
]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
  """Where runs are that nobody stopped, one of each script."""
  return tmp_path_factory.mktemp("whole")


@pytest.fixture(params=["mnist", *SLOW])
def command(request, monkeypatch, capsys, tmp_path, whole_runs, eagerly):
  """Runs a script in a directory; returns what it did, and where."""
  if request.param == "mnist":
    shell = mnist_runs.Shell(
      mnist_train_eval, MnistSettings, monkeypatch, capsys
    )
    flags, name = (*mnist_runs.SHORT, "--mask_record_frequency=5"), "save_path"
  elif request.param == "cifar10":
    shell = cifar_runs.Shell(
      resnet_train_eval, CifarSettings, monkeypatch, capsys
    )
    flags = (*cifar_runs.SHORT, "--mode=train_and_eval")
    name = "train_dir"
  else:
    shell = imagenet_runs.TinyShell(
      imagenet_train_eval, ImagenetSettings, monkeypatch, capsys
    )
    flags, name = IMAGENET, "output_dir"

  def run(place):
    path = tmp_path / place
    if place == "whole":
      path = whole_runs / request.param
    outcome = shell(*flags, *METHOD, f"--{name}={path}")
    (found,) = path.rglob("run.json")
    return outcome, found.parent

  return run


def signal_at(patch, owner, name, nth, number, before=True):
  """Sends this process a signal in the nth call of a function."""
  function, calls = getattr(owner, name), []

  def wrapper(*args, **kwargs):
    calls.append(name)
    if before and len(calls) == nth:
      os.kill(os.getpid(), number)
    result = function(*args, **kwargs)
    if not before and len(calls) == nth:
      os.kill(os.getpid(), number)
    return result

  patch.setattr(owner, name, wrapper)
  return calls


SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


KINDS = (evaluations.ArrayEvaluation, evaluations.StreamEvaluation)


def assert_stopped_then_ends_the_same(command, outcome, stopped, number):
  assert outcome.code == 128 + number, outcome.err
  name = signal.Signals(number).name
  assert f" by {name}. The same command resumes it." in outcome.out
  assert outcome.err.strip() == ""
  assert not (stopped / "result.json").exists()
  again, resumed = command("stopped")
  assert again.code == 0
  assert "Resumed at " in again.out
  _, whole = command("whole")
  # Steps after the last report are kept for a longer run, by both.
  left = [(run / "unreported.json").exists() for run in (resumed, whole)]
  assert left[0] == left[1]
  assert_same_results(resumed, whole)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM], ids=["int", "term"])
def test_an_evaluation_stops_at_its_next_batch_and_is_repeated(
  command, monkeypatch, number
):
  batches = []
  with monkeypatch.context() as patch:
    for kind in KINDS:
      evaluate = kind.__call__

      def noisy(self, before_batch, evaluate=evaluate):
        def before():
          batches.append(self)
          if len(batches) == 1:
            os.kill(os.getpid(), number)
          before_batch()

        return evaluate(self, before)

      patch.setattr(kind, "__call__", noisy)
    outcome, stopped = command("stopped")
  assert len(batches) == 1
  assert_stopped_then_ends_the_same(command, outcome, stopped, number)


@pytest.mark.parametrize(
  "owner, name, nth, before",
  [
    (TensorFlowExecutor, "_update_at", 2, True),
    pytest.param(Reporter, "report", 1, False, marks=pytest.mark.slow),
    pytest.param(
      TensorFlowExecutor, "advance", 2, True, marks=pytest.mark.slow
    ),
  ],
  ids=["mask update", "report", "steps"],
)
def test_a_stop_in_the_midst_of_something_changes_no_result(
  command, monkeypatch, owner, name, nth, before
):
  with monkeypatch.context() as patch:
    calls = signal_at(patch, owner, name, nth, SIGTERM, before)
    outcome, stopped = command("stopped")
  assert len(calls) == nth
  assert_stopped_then_ends_the_same(command, outcome, stopped, SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["imagenet"], indirect=True)
def test_an_export_breaks_off_and_is_repeated(command, monkeypatch):
  with monkeypatch.context() as patch:
    saved = signal_at(patch, tf.saved_model, "save", 1, SIGTERM)
    moved = signal_at(patch, Exporter, "export", 99, SIGTERM)
    outcome, stopped = command("stopped")
  assert (len(saved), len(moved)) == (1, 1)
  assert list((stopped / "export").iterdir()) == []
  assert_stopped_then_ends_the_same(command, outcome, stopped, SIGTERM)
  assert [p.name for p in (stopped / "export").iterdir()] == ["6"]
