# SPDX-License-Identifier: Apache-2.0
"""Data, runs and evaluations of the ImageNet script in `ram://`."""

import imagenet_files
import pytest
import tensorflow as tf

from rigl import files
from rigl.training import checkpoints

BASE = (
  "--training_method=rigl",
  "--train_steps=4",
  "--maskupdate_frequency=3",
  "--num_train_images=8",
  "--keep_checkpoint_max=0",
  "--steps_per_checkpoint=2",
  "--export_model_freq=4",
)


@pytest.fixture
def bucket(request, tmp_path, monkeypatch):
  """A directory in a bucket; the working directory must stay empty."""
  monkeypatch.chdir(tmp_path)
  place = files.path(f"ram://imagenet/{request.node.name}")
  place.mkdir()
  yield place
  assert list(tmp_path.iterdir()) == []
  files.remove_tree(place)


def write(folder, split, count=8):
  records = [
    imagenet_files.example(imagenet_files.jpeg_of(n), n + 1)
    for n in range(count)
  ]
  folder.mkdir()
  imagenet_files.write(folder / f"{split}-00000-of-00001", records)


@pytest.mark.slow
def test_a_run_is_trained_evaluated_and_exported_in_a_bucket(
  shell, eagerly, bucket
):
  data, run = bucket / "data", bucket / "run"
  write(data, "train")
  write(data, "validation")
  arguments = (*BASE, f"--data_directory={data}", f"--output_dir={run}")
  shell.done(*arguments)
  assert checkpoints.list_numbers(run) == [2, 4]
  assert "is finished" in shell.done(*arguments)
  once = shell.done(*arguments, "--mode=eval_once")
  assert f"{run}/model.ckpt-4, step 4: loss " in once
  shell.done(*arguments, "--mode=eval")
  rows = (run / "evaluations" / "metrics.csv").read_text().splitlines()
  assert [row.split(",")[0] for row in rows] == ["iteration", "2", "4"]
  exported = run / "export" / "4"
  assert (exported / "saved_model.pb").exists()
  assert [path.name for path in (run / "export").iterdir()] == ["4"]
  served = tf.saved_model.load(str(exported))
  found = served.predict(tf.constant([imagenet_files.jpeg_of(0)]))
  assert found["classes"].shape == (1,)


def test_masks_of_a_run_in_a_bucket_start_another(shell, eagerly, bucket):
  first, second = bucket / "first", bucket / "second"
  synthetic = (
    "--use_synthetic_data",
    "--export_model_freq=0",
    "--training_method=static",
  )
  shell.done(*BASE, *synthetic, f"--output_dir={first}", "--train_steps=2")
  shell.done(
    *BASE,
    *synthetic,
    "--mask_init_method=",
    f"--load_mask_dir={first}",
    f"--initial_value_checkpoint={first}/model.ckpt-2",
    f"--output_dir={second}",
    "--train_steps=1",
  )
  masks = [
    {n: v for n, v in checkpoints.load_latest(run).items() if "/mask" in n}
    for run in (first, second)
  ]
  assert masks[0].keys() == masks[1].keys() != set()
  for name in masks[0]:
    assert masks[0][name].tobytes() == masks[1][name].tobytes()


@pytest.mark.parametrize("mode", ["train", "eval", "eval_once"])
@pytest.mark.parametrize(
  "place, said",
  [
    ("s3://bucket/run", "`output_dir`: `s3://bucket/run`: TensorFlow has no"),
    ("gs:/bucket/run", "`output_dir`: `gs:/bucket/run` must be written as gs"),
    ("hdsf://host/run", "no file system hdsf://"),
  ],
)
def test_output_that_cannot_be_written_is_one_line(
  shell, bucket, mode, place, said
):
  outcome = shell(
    *BASE, "--use_synthetic_data", f"--output_dir={place}", f"--mode={mode}"
  )
  assert outcome.code == 1 and said in outcome.err
  assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1


@pytest.mark.parametrize("mode", ["train", "eval", "eval_once"])
def test_bucket_that_does_not_answer_is_one_line(
  shell, eagerly, bucket, monkeypatch, mode
):
  def fail(*_):
    raise tf.errors.FailedPreconditionError(
      None, None, "Could not resolve host\n\t when reading metadata"
    )

  for place in (
    ["--output_dir=gs://b/run", "--use_synthetic_data"],
    ["--data_directory=gs://b/data"],
  ):
    with monkeypatch.context() as patch:
      for name in ("stat", "makedirs", "listdir", "exists", "glob"):
        patch.setattr(tf.io.gfile, name, fail)
      outcome = shell(*BASE, f"--output_dir={bucket}", f"--mode={mode}", *place)
    assert outcome.code == 1
    assert "Could not resolve host when reading metadata" in outcome.err
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
