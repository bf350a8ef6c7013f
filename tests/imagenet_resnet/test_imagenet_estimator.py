# SPDX-License-Identifier: Apache-2.0
"""ImageNet by a TPUEstimator: a small ResNet trains, resumes and evaluates."""

import signal

import estimator_runs
import imagenet_files
import numpy as np
import pytest
import tensorflow as tf
from estimator_runs import (
  BY_ESTIMATOR,
  KilledError,
  assert_close_tensors,
  assert_stopped,
  kill_training_at,
  signal_training_at,
  summaries,
)
from imagenet_golden import published_tensors
from script_runs import assert_same_tensors, final_tensors

from rigl.imagenet_resnet.evaluate import Evaluator
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.make_model import make_model
from rigl.training import checkpoints

pytestmark = [
  *estimator_runs.MARKS,
  pytest.mark.usefixtures("without_any_xla"),
]

RIGL = (
  "--training_method=rigl",
  "--maskupdate_frequency=3",
  "--iterations_per_loop=3",
  "--num_train_images=15",
)
OPTIONS = (
  "--train_steps=6",
  "--steps_per_checkpoint=2",
  "--steps_per_eval=3",
  "--mode=train_and_eval",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp("imagenet")
  imagenet_files.write_split(path, "train", [5, 4, 6])
  imagenet_files.write_split(path, "validation", [4, 3])
  return f"--data_directory={path}"


@pytest.fixture
def rigl(shell, data):
  """Trains by RigL in a directory."""

  def train(path, *arguments):
    return shell.done(data, f"--output_dir={path}", *RIGL, *arguments)

  return train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return tmp_path_factory.mktemp("made")


@pytest.fixture
def by_estimator(rigl, made):
  """A run, and what it printed."""
  path = made / "estimator"
  if not path.exists():
    out = rigl(path, *OPTIONS, BY_ESTIMATOR)
    (made / "out").write_text(out)
  return path, (made / "out").read_text()


def evaluated(shell, data, path, *arguments):
  """What `eval_once` prints of the newest checkpoint."""
  return shell.done(
    data,
    f"--output_dir={path}",
    "--training_method=rigl",
    "--mode=eval_once",
    *arguments,
  )


def graph_logits(prefix, images, flags):
  """Logits by the graph and the saver of the runner."""
  from rigl.runners.tpu_estimator.saver import EstimatorSaver

  with tf.Graph().as_default():
    model = make_model(flags, evaluates=True)
    saver = EstimatorSaver(model.named_variables, 0)
    logits = model(tf.constant(images))
    with tf.compat.v1.Session() as session:
      saver.restore(session, prefix)
      return session.run(logits)


def test_it_trains_as_the_loop_does(rigl, by_estimator, tmp_path):
  ours, out = by_estimator
  theirs = rigl(tmp_path, *OPTIONS)
  assert_close_tensors(tmp_path, ours)
  tensors = final_tensors(ours)
  # 6 steps and updates at 0 and 3 of 4 images; 15 an epoch.
  assert (tensors["iteration"], tensors["global_step"]) == (8, 6)
  assert tensors["data_position"].tolist() == [2, 2]
  assert checkpoints.list_numbers(ours) == [0, 2, 3, 5, 6]
  lines = [line for line in theirs.splitlines() if "test loss" in line]
  assert len(lines) == 2
  for line in lines:
    assert line.rsplit(", ", 1)[0] in out


def test_norms_and_losses_of_a_step_are_those_of_the_loop(
  rigl, by_estimator, tmp_path
):
  rigl(tmp_path, *OPTIONS, "--iterations_per_loop=1")
  theirs, ours = summaries(tmp_path), summaries(by_estimator[0])
  names = ("gradient_norm", "cross_entropy", "loss", "top_5_accuracy")
  places = {place for name, place in ours if name == "gradient_norm"}
  assert len(places) == 2
  for name in names:
    for place in places:
      expected = pytest.approx(theirs[name, place], rel=1e-4)
      assert ours[name, place] == expected, name
  for place in places:
    assert ours["weight_norm", place] == pytest.approx(
      theirs["weight_norm", place], rel=1e-4
    )


def test_masks_keep_their_counts(by_estimator):
  path, _ = by_estimator
  masks = [
    {
      name: value.sum()
      for name, value in checkpoints.load(f"{path}/model.ckpt-{n}").items()
      if name.endswith("/mask")
    }
    for n in (0, 3, 6)
  ]
  assert len(masks[0]) == 21
  assert masks[0] == masks[1] == masks[2]


def test_a_killed_run_ends_with_the_same_bits(
  rigl, by_estimator, monkeypatch, tmp_path
):
  with monkeypatch.context() as patch:
    kill_training_at(patch, 6)  # At step 4, past the checkpoint of step 3.
    with pytest.raises(KilledError):
      rigl(tmp_path, *OPTIONS, BY_ESTIMATOR)
  assert "Resumed at step 3." in rigl(tmp_path, *OPTIONS, BY_ESTIMATOR)
  assert_same_tensors(tmp_path, by_estimator[0])


def test_a_signal_stops_it_between_checkpoints(
  shell, rigl, data, by_estimator, monkeypatch, tmp_path
):
  with monkeypatch.context() as patch:
    signal_training_at(patch, 6, signal.SIGTERM)  # At step 4.
    stopped = shell(
      data, f"--output_dir={tmp_path}", *RIGL, *OPTIONS, BY_ESTIMATOR
    )
  where = assert_stopped(stopped, tmp_path, signal.SIGTERM, "step", (4, 5))
  out = rigl(tmp_path, *OPTIONS, BY_ESTIMATOR)
  assert f"Resumed at {where}." in out
  assert_same_tensors(tmp_path, by_estimator[0])


def test_both_runners_evaluate_a_checkpoint_alike(shell, data, by_estimator):
  path, _ = by_estimator
  theirs = evaluated(shell, data, path)
  ours = evaluated(shell, data, path, BY_ESTIMATOR)
  assert "Total sparsity: 0.9" in ours
  assert ours == theirs


def test_evaluations_count_every_image_once(shell, data, by_estimator):
  path, _ = by_estimator
  outs = {
    evaluated(shell, data, path, BY_ESTIMATOR, f"--eval_batch_size={size}")
    for size in (2, 7, 20)
  }
  assert len(outs) == 1


def test_logits_are_those_of_the_loop(data, by_estimator):
  path, _ = by_estimator
  flags = ImagenetSettings(
    resnet_depth=18,
    width=0.25,
    image_size=32,
    num_label_classes=20,
    training_method="rigl",
    mask_init_method="erdos_renyi_kernel",
    data_directory=data.split("=")[1],
    eval_batch_size=4,
  )
  prefix = f"{path}/model.ckpt-6"
  images = np.random.default_rng(0).normal(size=[4, 32, 32, 3])
  images = images.astype(np.float32)
  evaluator = Evaluator(flags)
  evaluator.evaluate(prefix)
  ours = graph_logits(prefix, images, flags)
  assert np.ptp(ours) > 0.01
  theirs = evaluator.model(images).numpy()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_eval_evaluates_all_checkpoints(shell, data, by_estimator):
  path, _ = by_estimator
  out = shell.done(
    data,
    f"--output_dir={path}",
    "--training_method=rigl",
    "--mode=eval",
    "--train_steps=6",
    BY_ESTIMATOR,
  )
  steps = [
    line.split(":")[0] for line in out.splitlines() if "test loss" in line
  ]
  assert steps == ["step 0", "step 2", "step 3", "step 5", "step 6"]
  assert (path / "evaluations" / "metrics.csv").exists()


def test_a_published_checkpoint_is_trained_on_and_stays(shell, tmp_path):
  step, before = 500, published_tensors(500, slots=True)
  before |= {
    "global_step": np.int64(step),
    "last_mask_update_step": np.int64(400),
  }
  for runner in ("loop", "tpu_estimator"):
    path = tmp_path / runner
    path.mkdir()
    checkpoints.save(path, step, before)
    out = shell.done(
      "--use_synthetic_data",
      "--num_label_classes=1000",
      "--training_method=rigl",
      "--first_layer_sparsity=-1",
      "--last_layer_sparsity=0",
      "--train_steps=502",
      f"--output_dir={path}",
      f"--runner={runner}",
    )
    assert "Resumed at step 500." in out
    kept = checkpoints.load(f"{path}/model.ckpt-500")
    assert kept.keys() == before.keys()
    assert not (path / "start").exists()
  ours, theirs = (tmp_path / r for r in ("tpu_estimator", "loop"))
  # A synthetic position in the data is that of its beginning.
  assert_close_tensors(theirs, ours)


@pytest.mark.parametrize("method", ("baseline", "snip"))
def test_other_methods_train_as_by_the_loop(rigl, tmp_path, method):
  options = (f"--training_method={method}", "--train_steps=2")
  rigl(tmp_path / "loop", *options)
  rigl(tmp_path / "estimator", *options, BY_ESTIMATOR)
  assert_close_tensors(tmp_path / "loop", tmp_path / "estimator")


def test_batches_that_cores_cannot_share_are_refused(shell, data, tmp_path):
  outcome = shell(
    data, f"--output_dir={tmp_path}", BY_ESTIMATOR, "--use_tpu", "--num_cores=3"
  )
  assert outcome.code == 1
  assert "`train_batch_size` must be a multiple of `num_cores`" in outcome.err
