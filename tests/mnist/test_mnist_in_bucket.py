# SPDX-License-Identifier: Apache-2.0
"""A whole run of the MNIST script in a bucket: TensorFlow's `ram://`."""

import io

import numpy as np
import pytest
from mnist_runs import SHORT
from predict_files import pixels, predict, saved

from rigl import files
from rigl.mnist.mask_records import MaskRecords
from rigl.training import checkpoints
from rigl.training.trainer import Trainer

ARGUMENTS = (
  *SHORT,
  "--training_method=rigl",
  "--mask_record_frequency=5",
  "--checkpoint_epochs=1",
)


class Killed(BaseException):
  """Ends a run like SIGKILL."""


@pytest.fixture
def bucket(request, tmp_path, monkeypatch):
  """A directory in a bucket; the working directory must stay empty."""
  work = tmp_path / "work"
  work.mkdir()
  monkeypatch.chdir(work)
  place = files.path(f"ram://mnist/{request.node.name}")
  yield place
  assert list(work.iterdir()) == []
  files.remove_tree(place)


def assert_same(first, second):
  """Two runs end with the same bits and rows."""
  a, b = (checkpoints.load_latest(path) for path in (first, second))
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].tobytes() == b[name].tobytes(), name
  records = [MaskRecords.load(p / "mask_records.npz") for p in (first, second)]
  np.testing.assert_array_equal(*(r.iterations for r in records))
  for name in ("result.json", "run.json", "checkpoint"):
    assert (first / name).read_text() == (second / name).read_text(), name
  rows = [(p / "metrics.csv").read_text().splitlines() for p in (first, second)]
  assert [len(row.split(",")) for row in rows[0]] == [
    len(row.split(",")) for row in rows[1]
  ]
  assert [row.split(",")[:4] for row in rows[0]] == [
    row.split(",")[:4] for row in rows[1]
  ]


def test_killed_run_in_a_bucket_ends_as_one_on_a_disk(
  shell, eagerly, bucket, tmp_path, monkeypatch
):
  disk = tmp_path / "run"
  shell.done(*ARGUMENTS, f"--save_path={disk}")
  save = Trainer.save

  def save_and_die(trainer):
    save(trainer)
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(Trainer, "save", save_and_die)
    with pytest.raises(Killed):
      shell(*ARGUMENTS, f"--save_path={bucket}/")
  (bucket / "model.ckpt-10.tmp99.index").write_text("of a killed process")
  out = shell.done(*ARGUMENTS, f"--save_path={bucket}")
  assert "Resumed at iteration 10." in out
  assert not (bucket / "model.ckpt-10.tmp99.index").exists()
  assert_same(bucket, disk)
  for kind in ("train", "eval"):
    assert list((bucket / kind).glob("events.out.*"))
  out = shell.done(*ARGUMENTS, f"--save_path={bucket}")
  assert f"The run in {bucket} is finished." in out


def test_another_run_in_the_bucket_is_refused(shell, eagerly, bucket):
  shell.done(*ARGUMENTS, f"--save_path={bucket}", "--num_epochs=1")
  outcome = shell(*ARGUMENTS, f"--save_path={bucket}", "--seed=7")
  assert outcome.code == 1
  assert "holds another run (" in outcome.err


def test_checkpoint_data_and_predictions_may_be_in_a_bucket(
  shell, eagerly, bucket, tmp_path
):
  arguments = (*ARGUMENTS, "--num_epochs=1", f"--save_path={bucket}")
  shell.done(*arguments)
  images = pixels(3)
  content = io.BytesIO()
  np.savez(content, images=images)
  (bucket / "in.npz").write_bytes(content.getvalue())
  values = {
    "task": "mnist",
    "training_method": "rigl",
    "checkpoint": f"{bucket}/model.ckpt-10",
  }
  predict(
    images=[f"{bucket}/in.npz"], output=f"{bucket}/predictions.npz", **values
  )
  disk = tmp_path / "predictions.npz"
  predict(images=[saved(tmp_path, images)], output=str(disk), **values)
  found = io.BytesIO((bucket / "predictions.npz").read_bytes())
  with np.load(found) as first, np.load(disk) as second:
    for name in ("logits", "classes", "probabilities"):
      np.testing.assert_array_equal(first[name], second[name])


def test_pixels_of_a_run_in_a_bucket_are_kept(shell, eagerly, bucket):
  shell.done(*ARGUMENTS, "--num_epochs=1", f"--save_path={bucket}/first")
  second = f"--save_path={bucket}/second"
  shell.done(
    *ARGUMENTS, "--num_epochs=1", f"--input_mask_path={bucket}/first", second
  )
  tensors = checkpoints.load_latest(bucket / "second")
  mask = checkpoints.load_latest(bucket / "first")["layer1/mask"]
  assert len(tensors["layer1/weights"]) == int(mask.any(1).sum())


def test_gin_file_may_be_in_a_bucket(shell, eagerly, bucket):
  bucket.mkdir()
  (bucket / "a.gin").write_text("MnistSettings.seed = 5\n")
  shell.done(
    *ARGUMENTS,
    "--num_epochs=1",
    f"--save_path={bucket}/run",
    f"--gin_config={bucket}/a.gin",
  )
  assert '"seed": 5' in (bucket / "run" / "run.json").read_text()
  outcome = shell(*ARGUMENTS, f"--gin_config={bucket}/none.gin")
  assert outcome.code == 1
  assert "`--gin_config`: " in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize(
  "flag, named",
  [
    ("--save_path=s3://bucket/run", "`save_path`: `s3://bucket/run`: Tensor"),
    ("--save_path=gs:/bucket/run", "`save_path`: `gs:/bucket/run` must be"),
    ("--save_path=gss://bucket/run", "did you mean gs://?"),
    ("--gin_config=s3://bucket/a.gin", "no file system s3://"),
    ("--input_mask_path=s3://bucket/run", "no file system s3://"),
  ],
)
def test_scheme_that_cannot_be_used_is_one_line(shell, bucket, flag, named):
  outcome = shell(*ARGUMENTS, f"--save_path={bucket}", flag)
  assert outcome.code == 1 and named in outcome.err
  assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
