# SPDX-License-Identifier: Apache-2.0
"""ImageNet by the JAX runner: streams of images, and evaluations."""

import imagenet_files
import pytest
from imagenet_runs import TinyShell
from jax_runs import JAX, assert_close_runs
from script_runs import assert_same_results, assert_same_tensors

from rigl.imagenet_resnet import imagenet_train_eval
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.runners.jax.executor import JaxExecutor

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

FLAGS = (
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


def test_damaged_image_ends_the_run_with_one_line(shell, tmp_path):
  data = tmp_path / "data"
  data.mkdir()
  imagenet_files.write_split(data, "train", [6, 6], corrupt=[7])
  imagenet_files.write_split(data, "validation", [5])
  found = shell(*flags_of(data, tmp_path / "run", *JAX))
  assert found.code == 1
  assert found.err.count("error: ") == 1 and "train-00001" in found.err


def test_synthetic_images_need_no_data(shell, tmp_path):
  flags = (*FLAGS[:-2], "--use_synthetic_data", "--precision=bfloat16")
  paths = [tmp_path / "one", tmp_path / "two"]
  for path in paths:
    out = shell.done(*flags, *JAX, f"--output_dir={path}")
    assert "images/s" in out
  assert_same_tensors(*paths)


def test_batch_statistics_leave_the_averages_alone(shell, data, tmp_path):
  path = tmp_path / "run"
  shell.done(*flags_of(data, path, *JAX))
  once = flags_of(data, path, "--mode=eval_once", "--use_batch_statistics")
  found = [shell.done(*once, *runner) for runner in ((), JAX, JAX)]
  lines = [[x for x in t.splitlines() if x[:8] == "Accuracy"] for t in found]
  assert lines[0] == lines[1] == lines[2]
