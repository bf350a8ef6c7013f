# SPDX-License-Identifier: Apache-2.0
"""ImageNet by the JAX runner: streams of images, and evaluations."""

import imagenet_files
import pytest
from imagenet_runs import TinyShell
from jax_runs import JAX, assert_close_runs
from script_runs import assert_same_results

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.runners.jax.executor import JaxExecutor

pytest.importorskip("jax")
pytestmark = [pytest.mark.slow, pytest.mark.long]

FLAGS = (
  # Without batch norm, which makes a last bit of tiny images grow.
  "--model_architecture=vgg_a",
  "--width=0.1",
  "--train_batch_size=8",
  "--training_method=rigl",
  "--num_train_images=30",
  "--num_eval_images=11",
  "--num_label_classes=40",
  "--train_steps=8",
  "--maskupdate_frequency=3",
  "--steps_per_eval=4",
  "--iterations_per_loop=4",
  "--steps_per_checkpoint=4",
  "--base_learning_rate=0.01",
  "--mode=train_and_eval",
  "--gin_bindings=SparseRigLOptimizer.noise_std = 0.0",
)


@pytest.fixture
def shell(monkeypatch, capsys):
  return TinyShell(imagenet_train_eval, ImagenetSettings, monkeypatch, capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  place = tmp_path_factory.mktemp("data")
  imagenet_files.write_split(place, "train", [7, 9, 6, 8])
  imagenet_files.write_split(place, "validation", [5, 6])
  return place


def flags_of(data, path, *arguments):
  return (
    *FLAGS,
    f"--data_directory={data}",
    f"--output_dir={path}",
    *arguments,
  )


def test_run_is_that_of_the_loop_and_resumes_with_the_same_bits(
  shell, data, tmp_path, monkeypatch
):
  ours, usual, killed = (tmp_path / n for n in ("ours", "usual", "killed"))
  shell.done(*flags_of(data, ours, *JAX))
  shell.done(*flags_of(data, usual, "--jit_compile=true"))
  assert_close_runs(ours, usual, atol=1e-4, slot_atol=0.01)

  advance = JaxExecutor.advance
  with monkeypatch.context() as patch:

    def until(executor, iteration, limit):
      if iteration >= 7:
        raise KeyboardInterrupt
      return advance(executor, iteration, limit)

    patch.setattr(JaxExecutor, "advance", until)
    with pytest.raises(KeyboardInterrupt):
      shell.done(*flags_of(data, killed, *JAX))
  assert "Resumed at step 4." in shell.done(*flags_of(data, killed, *JAX))
  assert_same_results(killed, ours)

  # One checkpoint, evaluated by both runners.
  once = flags_of(data, ours, "--mode=eval_once")
  found = [shell.done(*once, *runner) for runner in ((), JAX)]
  lines = [
    [line for line in text.splitlines() if line.startswith("Accuracy")]
    for text in found
  ]
  assert lines[0] == lines[1] and lines[0]
