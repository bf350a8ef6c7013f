# SPDX-License-Identifier: Apache-2.0
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from rigl.training import checkpoints

DATA = ".data-00000-of-00001"

# Saves checkpoint after checkpoint in child processes, each of which it kills
# at a random moment. It runs no TensorFlow itself, so that it may fork.
KILLED_WRITERS = """
import os, pathlib, random, signal, sys, time
import numpy as np
from rigl.training import checkpoints

def write(directory):
  for number in range(1, 10**6):
    tensors = {"number": np.int64(number)}
    tensors["weights"] = np.full([500, 1000], number, np.float32)
    checkpoints.save(directory, number, tensors)

random.seed(int(sys.argv[2]))
for i in range(int(sys.argv[3])):
  directory = pathlib.Path(sys.argv[1]) / str(i)
  directory.mkdir()
  child = os.fork()
  if child == 0:
    write(directory)
  while not checkpoints.list_numbers(directory):
    time.sleep(0.001)
  time.sleep(random.uniform(0, 0.2))
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
"""


def tensors_of(number):
  rng = np.random.default_rng(number)
  return {
    "layer1/weights": rng.normal(size=(30, 20)).astype(np.float32),
    "layer1/mask": rng.random((30, 20)) < 0.5,
    "layer1/weights/Momentum": rng.normal(size=(30, 20)).astype(np.float32),
    "global_step": np.int64(number),
    "is_snipped": np.bool_(number % 2),
    "empty": np.zeros([0, 3], np.int32),
    "half": rng.normal(size=7).astype(np.float16),
  }


def save(directory, *numbers, **options):
  for number in numbers:
    checkpoints.save(directory, number, tensors_of(number), **options)


def assert_is(tensors, number):
  expected = tensors_of(number)
  assert tensors.keys() == expected.keys()
  for name, value in expected.items():
    assert np.asarray(tensors[name]).dtype == value.dtype, name
    np.testing.assert_array_equal(tensors[name], value)


def names(directory):
  return sorted(path.name for path in directory.iterdir())


def files_of(*numbers):
  prefixes = [f"model.ckpt-{number}" for number in numbers]
  return sorted(
    ["checkpoint", *(p + DATA for p in prefixes)]
    + [f"{p}.index" for p in prefixes]
  )


def truncate(path, size=None):
  size = path.stat().st_size // 2 if size is None else size
  os.truncate(path, size)


def test_round_trip_keeps_names_types_and_bits(tmp_path):
  save(tmp_path, 1)
  assert_is(checkpoints.load_latest(tmp_path), 1)


def test_variables_and_tensors_are_saved_by_value(tmp_path):
  tensors = tensors_of(1)
  variables = {name: tf.Variable(value) for name, value in tensors.items()}
  prefix = checkpoints.save(tmp_path, 1, variables)
  for variable in variables.values():
    variable.assign(tf.zeros_like(variable))
  assert_is(checkpoints.load(prefix), 1)


def test_tensorflow_reads_it_by_the_published_names(tmp_path):
  save(tmp_path, 10, 20)
  assert tf.train.latest_checkpoint(tmp_path) == f"{tmp_path}/model.ckpt-20"
  reader = tf.train.load_checkpoint(tmp_path)
  assert reader.get_variable_to_shape_map()["layer1/weights"] == [30, 20]
  np.testing.assert_array_equal(
    reader.get_tensor("layer1/mask"), tensors_of(20)["layer1/mask"]
  )
  assert tf.train.get_checkpoint_state(tmp_path).all_model_checkpoint_paths == [
    f"{tmp_path}/model.ckpt-10",
    f"{tmp_path}/model.ckpt-20",
  ]


@pytest.mark.parametrize("directory", [".", "run", "run/below"])
def test_relative_directory_is_found_from_anywhere(
  tmp_path, monkeypatch, directory
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / directory).mkdir(parents=True, exist_ok=True)
  save(directory, 7)
  for place in (directory, tmp_path / directory):
    latest = tf.train.latest_checkpoint(place)
    assert latest is not None
    assert_is(checkpoints.load(latest), 7)


def test_moved_directory_is_still_read(tmp_path):
  (tmp_path / "old").mkdir()
  save(tmp_path / "old", 7)
  os.rename(tmp_path / "old", tmp_path / "new")
  latest = tf.train.latest_checkpoint(tmp_path / "new")
  assert_is(checkpoints.load(latest), 7)
  assert_is(checkpoints.load_latest(tmp_path / "new"), 7)


@pytest.mark.parametrize(
  ("keep", "kept"), [(1, [30]), (2, [20, 30]), (0, [5, 10, 20, 30])]
)
def test_the_newest_are_kept(tmp_path, keep, kept):
  save(tmp_path, 5, 10, 20, 30, keep=keep)
  assert names(tmp_path) == files_of(*kept)
  assert checkpoints.list_numbers(tmp_path) == kept


def test_numbers_are_ordered_as_numbers(tmp_path):
  save(tmp_path, 9, 10, 100, keep=0)
  assert checkpoints.list_numbers(tmp_path) == [9, 10, 100]
  assert_is(checkpoints.load_latest(tmp_path), 100)


def test_without_checkpoints_there_is_nothing(tmp_path):
  assert checkpoints.load_latest(tmp_path) is None
  (tmp_path / "model.ckpt-5.index").write_text("no data beside it")
  (tmp_path / f"model.ckpt-6{DATA}").write_text("no index beside it")
  assert checkpoints.load_latest(tmp_path) is None


@pytest.mark.parametrize("ending", [DATA, ".index"])
@pytest.mark.parametrize("size", [None, 0, 1])
def test_truncated_file_falls_back_to_the_one_before(
  tmp_path, caplog, ending, size
):
  save(tmp_path, 10, 20)
  truncate(tmp_path / f"model.ckpt-20{ending}", size)
  with caplog.at_level(logging.WARNING):
    assert_is(checkpoints.load_latest(tmp_path), 10)
  assert "model.ckpt-20` is no readable checkpoint" in caplog.text


def test_flipped_bit_falls_back_to_the_one_before(tmp_path, caplog):
  save(tmp_path, 10, 20)
  path = tmp_path / f"model.ckpt-20{DATA}"
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  assert_is(checkpoints.load_latest(tmp_path), 10)
  assert "model.ckpt-20" in caplog.text


def test_if_all_are_damaged_it_is_an_error(tmp_path):
  save(tmp_path, 10, 20)
  for number in (10, 20):
    truncate(tmp_path / f"model.ckpt-{number}{DATA}")
  with pytest.raises(ValueError, match="all checkpoints are damaged") as error:
    checkpoints.load_latest(tmp_path)
  assert str(tmp_path) in str(error.value)


def test_damaged_checkpoint_is_replaced_by_the_resumed_run(tmp_path):
  save(tmp_path, 10, 20)
  truncate(tmp_path / f"model.ckpt-20{DATA}")
  save(tmp_path, 20)
  assert_is(checkpoints.load_latest(tmp_path), 20)


def test_missing_checkpoint_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"model\.ckpt-3` is no readable"):
    checkpoints.load(str(tmp_path / "model.ckpt-3"))


def test_restore_assigns_by_name_and_casts(tmp_path):
  variables = {
    "weights": tf.Variable(tf.zeros([2, 3])),
    "mask": tf.Variable(tf.zeros([3], tf.bool)),
  }
  values = {
    "weights": np.arange(6.0).reshape(2, 3),
    "mask": np.array([0.0, 1.0, 1.0], np.float32),  # As in published ones.
    "unknown": np.zeros(5),
  }
  checkpoints.restore(values, variables)
  assert variables["weights"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
  assert variables["mask"].numpy().tolist() == [False, True, True]


def test_checkpoint_that_does_not_fit_is_refused_before_anything_changes():
  variables = {
    "fits": tf.Variable([1.0]),
    "shape": tf.Variable(tf.zeros([2, 3])),
    "absent": tf.Variable(tf.zeros([4])),
  }
  values = {"fits": np.array([2.0]), "shape": np.zeros([3, 2])}
  with pytest.raises(ValueError) as error:
    checkpoints.restore(values, variables)
  assert "shape has the shape (3, 2) in the checkpoint and (2, 3) in" in str(
    error.value
  )
  assert "absent of shape (4,) is not in the checkpoint" in str(error.value)
  assert variables["fits"].numpy().tolist() == [1.0]


class Killed(BaseException):
  pass


def fail_at(monkeypatch, owner, name, nth):
  """Makes the nth call of a function raise; returns the list of calls."""
  function, calls = getattr(owner, name), []

  def wrapper(*args, **kwargs):
    calls.append(args)
    if len(calls) == nth:
      raise Killed
    return function(*args, **kwargs)

  monkeypatch.setattr(owner, name, wrapper)
  return calls


@pytest.mark.parametrize(
  ("owner", "name", "number_of_calls"),
  [(os, "replace", 3), (os, "fsync", 4), (tf.raw_ops, "SaveV2", 1)],
)
def test_interrupted_write_leaves_a_whole_newest_checkpoint(
  tmp_path, monkeypatch, owner, name, number_of_calls
):
  for nth in range(1, number_of_calls + 2):
    directory = tmp_path / str(nth)
    directory.mkdir()
    save(directory, 10, 20)
    with monkeypatch.context() as patch:
      calls = fail_at(patch, owner, name, nth)
      if nth <= number_of_calls:
        with pytest.raises(Killed):
          save(directory, 30)
      else:
        save(directory, 30)
        assert len(calls) == number_of_calls
    whole = checkpoints.list_numbers(directory)
    assert whole in ([10, 20], [20, 30], [10, 20, 30])
    assert_is(checkpoints.load_latest(directory), whole[-1])
    assert not [file for file in names(directory) if ".tmp" in file]
    latest = tf.train.latest_checkpoint(directory)
    assert latest is not None
    save(directory, 30)
    assert names(directory) == files_of(20, 30)


@pytest.mark.slow
def test_killed_writer_leaves_one_of_the_written_states(tmp_path):
  code = [sys.executable, "-c", KILLED_WRITERS, str(tmp_path), "0", "20"]
  subprocess.run(code, check=True, stderr=subprocess.DEVNULL, timeout=120)
  found = {}
  for directory in tmp_path.iterdir():
    tensors = checkpoints.load_latest(directory)
    number = int(tensors["number"])
    assert number == checkpoints.list_numbers(directory)[-1]
    assert np.all(tensors["weights"] == number)
    assert tf.train.latest_checkpoint(directory) is not None
    found[directory.name] = number
  assert len(found) == 20
  assert max(found.values()) > 1, json.dumps(found)
