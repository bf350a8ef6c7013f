# SPDX-License-Identifier: Apache-2.0
"""The shell scripts of ImageNet, run as a user runs them, in a short form."""

import hashlib
import pathlib
import subprocess
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import warm_python

from rigl.imagenet_resnet.model_flags import ModelFlags
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1]

SHORT = ("--image_size=32", "--eval_batch_size=2", "--num_eval_images=2")


def run(name, *arguments, **options):
  return subprocess.run(
    ["bash", str(ROOT / "scripts" / name), *map(str, arguments)],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    **options,
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A checkpoint with masks, as a published archive has it."""
  flags = ModelFlags(
    model_architecture="vgg_a", width=0.1, training_method="rigl"
  )
  model = flags.create_model()
  tensors = {
    **model.named_variables,
    **{
      f"{n}/mask": np.ones(k.shape, np.float32)
      for n, k in model.kernels.items()
    },
    "global_step": np.int64(32000),
  }
  place = tmp_path_factory.mktemp("archive") / "s80erk1x"
  place.mkdir()
  for step in (9000, 32000):
    checkpoints.save(place, step, tensors)
  return place


def archive_of(folder, path):
  with tarfile.open(path, "w:gz") as archive:
    archive.add(folder, folder.name)
  return path


@pytest.mark.slow
def test_an_archive_is_evaluated(folder, environment, tmp_path):
  archive = archive_of(folder, tmp_path / "mine.tar.gz")
  options = dict(env={**environment, "OUT": "kept"}, cwd=tmp_path)
  for name in (archive, folder):
    done = run("eval_checkpoint.sh", name, "synthetic", *SHORT, **options)
    assert done.returncode == 0, done.stderr
    assert "model.ckpt-32000, step 32000: loss" in done.stdout
    assert (
      "Accuracy:" in done.stdout and "Total sparsity: 0.0000" in done.stdout
    )
    assert "--model_architecture=vgg_a" in done.stdout
    assert "--width=0.1" in done.stdout
  assert (tmp_path / "kept" / "mine.unpacked").is_dir()


@pytest.mark.slow
def test_a_published_name_takes_the_archive_that_was_fetched(
  folder, environment, tmp_path
):
  name = "S80erk_nolabelsmooth_1x"
  archive_of(folder, tmp_path / f"{name}.tar.gz")
  options = dict(env={**environment, "OUT": str(tmp_path)}, cwd=tmp_path)
  done = run("eval_checkpoint.sh", name, "synthetic", *SHORT, **options)
  assert done.returncode == 0, done.stderr
  assert "Fetching" not in done.stderr
  assert "--label_smoothing=0" in done.stdout
  assert "Accuracy:" in done.stdout


def test_published_names_are_listed(environment):
  names = run("eval_checkpoint.sh", "--list", env=environment).stdout.split()
  assert len(names) == len(set(names)) == 27
  assert {"s80erk5x", "S95erk_nolabelsmooth_5x", "mbv1_s90_uniform100x"} <= {
    *names
  }


def test_wrong_arguments_of_an_evaluation_are_named(environment, tmp_path):
  options = dict(env=environment, cwd=tmp_path)
  (tmp_path / "empty").mkdir()
  (tmp_path / "text.tar.gz").write_text("no archive")
  before = {*tmp_path.rglob("*")}
  for arguments, named in (
    ([], "needs NAME and DATA"),
    (["s81erk5x", "data"], "no file or folder 's81erk5x'"),
    (["empty", "data"], "holds no checkpoint"),
    (["text.tar.gz", "data"], "no archive that tar can unpack"),
    (["-delete", "synthetic"], "no file or folder '-delete'"),
    (["s80erk1x", "-rf"], "no folder '-rf'"),
    (["--sha256=0", "text.tar.gz", "data"], "64 hexadecimal digits"),
    ([f"--sha256={'0' * 64}", "empty", "data"], "is for archives"),
    ([f"--sha256={'0' * 64}", "text.tar.gz", "data"], "must have the SHA-256"),
    (["s3://bucket/a.tar.gz", "synthetic"], "A URL must"),
    (["http://127.0.0.1:9/a.tar.gz", "synthetic"], "cannot be fetched"),
  ):
    done = run("eval_checkpoint.sh", *arguments, **options)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
  kept = tmp_path / "rigl_runs" / "checkpoints"
  assert {*tmp_path.rglob("*")} - {kept, kept.parent} == before


def test_names_with_a_dash_or_spaces_reach_no_command(environment, tmp_path):
  """A published name wins over no file, and a file may have any name."""
  (tmp_path / "kept").write_text("kept")
  for name in ("-delete", "-rf", "--list x", "-exec rm {} +"):
    (tmp_path / f"{name}.tar.gz").write_text("no archive")
    (tmp_path / name).mkdir()
    for argument in (name, f"{name}.tar.gz"):
      options = dict(env={**environment, "OUT": "-out"}, cwd=tmp_path)
      done = run("eval_checkpoint.sh", argument, "synthetic", **options)
      assert done.returncode == 2
      assert "checkpoint" in done.stderr or "archive" in done.stderr
    assert (tmp_path / name).is_dir()
  assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.slow
def test_a_url_is_fetched_once(folder, environment, tmp_path):
  archive = archive_of(folder, tmp_path / "-a b.tgz")
  options = dict(env={**environment, "OUT": "kept"}, cwd=tmp_path)
  done = run(
    "eval_checkpoint.sh", archive.as_uri(), "synthetic", *SHORT, **options
  )
  assert done.returncode == 0, done.stderr
  assert "Accuracy:" in done.stdout
  (fetched,) = (tmp_path / "kept").glob("*.tgz")
  assert fetched.read_bytes() == archive.read_bytes()
  digest = hashlib.sha256(archive.read_bytes()).hexdigest()
  assert digest in done.stderr
  archive.unlink()
  fetched.write_bytes(fetched.read_bytes()[:-9])
  done = run(
    "eval_checkpoint.sh",
    f"--sha256={digest}",
    archive.as_uri(),
    "synthetic",
    **options,
  )
  assert done.returncode == 2
  assert "Fetching" not in done.stderr and digest in done.stderr


@pytest.mark.slow
def test_a_row_trains_without_a_tpu_if_told_so(environment, tmp_path):
  done = run(
    "imagenet_tpu.sh",
    "mobilenet_v1_rigl_erk_0.9_10x",
    "synthetic",
    "runs",
    "--width=0.1",
    "--train_batch_size=2",
    "--train_steps=2",
    "--training_steps_multiplier=1",
    "--num_label_classes=10",
    "--export_model_freq=0",
    *SHORT,
    env={**environment, "STRATEGY": "default"},
    cwd=tmp_path,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  place = tmp_path / "runs" / "mobilenet_v1_rigl_erk_0.9_10x"
  assert checkpoints.list_numbers(place) == [2]
  assert "Test accuracy:" in done.stdout


def test_rows_of_a_tpu_are_those_of_the_configs():
  rows = run("imagenet_tpu.sh", "--list").stdout.split()
  assert len(rows) == 32
  assert "resnet50_rigl_erk_0.9_5x" in rows and "base" not in rows


def test_wrong_arguments_of_a_training_are_named(environment, tmp_path):
  row = "resnet50_rigl_erk_0.9_5x"
  for arguments, named in (
    ([row], "needs ROW, DATA and OUT"),
    (["base", "synthetic", "out"], "no configs/imagenet/base.gin of a"),
    ([row, "nowhere", "out"], "no folder 'nowhere'"),
    ([row, "gs://", "out"], "names no bucket"),
    ([row, "synthetic", ""], "OUT must be a folder or gs://BUCKET"),
    ([row, "synthetic", "gs://"], "OUT must be a folder or gs://BUCKET"),
  ):
    done = run("imagenet_tpu.sh", *arguments, env=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_cifar10_becomes_tfrecords(tmp_path):
  rng = np.random.default_rng(0)
  records = rng.integers(0, 256, [4, 3073], np.uint8)
  records[:, 0] = [3, 1, 0, 9]
  names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
  for name in names:
    (tmp_path / name).write_bytes(records.tobytes())
  out = tmp_path / "out"
  command = warm_python.command(
    ROOT / "scripts" / "cifar10_to_tfrecords.py",
    f"--data_directory={tmp_path}",
    f"--output_dir={out}",
    "--num_train_images=7",
    "--num_eval_images=3",
    "--num_files=2",
    "--size=40",
  )

  subprocess.run(command, check=True)
  found = {}
  for path in sorted(pathlib.Path(out).iterdir()):
    for record in tf.data.TFRecordDataset(str(path)):
      features = tf.train.Example.FromString(record.numpy()).features.feature
      jpeg = features["image/encoded"].bytes_list.value[0]
      assert tf.io.decode_jpeg(jpeg).shape == (40, 40, 3)
      label = features["image/class/label"].int64_list.value[0]
      found.setdefault(path.name, []).append(label)
  assert found == {
    "train-00000-of-00002": [4, 1, 4, 1],
    "train-00001-of-00002": [2, 10, 2],
    "validation-00000-of-00002": [4, 1],
    "validation-00001-of-00002": [2],
  }
