# SPDX-License-Identifier: Apache-2.0
"""Shares and sums over replicas, on virtual devices of a process of its own."""

import subprocess
import sys

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
import warm_python

from rigl.cifar_resnet import augment
from rigl.distribution import replicas

COUNT = 2


def test_without_a_strategy_there_is_one_replica():
  found = replicas.Replicas()
  assert (found.count, found.num_hosts, found.host) == (1, 1, 0)
  assert found.is_chief and not found.is_distributed
  assert found.all_gather_scalar(7) == [7]
  values = {"a": tf.constant(3.0)}
  assert replicas.all_reduce_sum(values) is values
  assert replicas.local_shard(values["a"]) is values["a"]
  assert found.run(lambda x: x + 1, (2,)) == 3


def _arrays():
  rng = np.random.default_rng(0)
  return {
    "uint8": rng.integers(0, 256, [6, 5, 3]).astype(np.uint8),
    "labels": rng.integers(0, 10, 6).astype(np.int32),
    "float": rng.normal(size=[6, 2]).astype(np.float32),
  }


def _on_replicas():
  """What two replicas compute."""
  found, out = replicas.Replicas(), {}
  numbers = tf.constant([5, 0, 3, 2])
  shared = {
    name: replicas.replicate(array) for name, array in _arrays().items()
  }
  images = tf.constant(
    np.random.default_rng(1).normal(size=[4, 8, 8, 3]), tf.float32
  )

  @tf.function(autograph=False)
  def program():
    def compute():
      own = replicas.local_shard(numbers)
      rows = {n: replicas.gather(a, own) for n, a in shared.items()}
      number = tf.cast(replicas.replica_number(), tf.float32)
      values = {"a": number, "b": 3.0 + number}
      cropped = augment.random_crop_and_flip(
        replicas.local_shard(images), tf.constant([1, 2], tf.int64)
      )
      return own, rows, values, cropped

    def reduce():
      number = tf.cast(replicas.replica_number(), tf.float32)
      values = {"a": number, "b": 3.0 + number}
      return replicas.all_reduce_sum(values)

    strategy = tf.distribute.get_strategy()
    return strategy.run(compute), strategy.run(reduce)

  (own, rows, _, cropped), reduced = program()
  out["numbers"] = np.stack([v.numpy() for v in found.local(own)])
  for name, value in rows.items():
    out[f"rows/{name}"] = np.concatenate(
      [v.numpy() for v in found.local(value)]
    )
  out["cropped"] = np.concatenate([v.numpy() for v in found.local(cropped)])
  for name, value in reduced.items():
    out[f"sum/{name}"] = np.stack([v.numpy() for v in found.local(value)])
  return out


def _main(path):
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * COUNT
  )
  strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(COUNT)])
  with strategy.scope():
    found = _on_replicas()
    try:
      replicas.Replicas().share(7, "batch_size")
    except ValueError as error:
      found["error"] = np.array(str(error))
    found["share"] = np.array(replicas.Replicas().share(8, "batch_size"))
  np.savez(path, **found)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  path = tmp_path_factory.mktemp("replicas") / "found.npz"
  process = subprocess.run(
    warm_python.command(__file__, str(path)),
    env=sparse_methods.child_environment(),
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr[-2000:]
  with np.load(path) as file:
    return dict(file)


def test_replicas_share_a_batch_in_its_order(found):
  np.testing.assert_array_equal(found["numbers"], [[5, 0], [3, 2]])


@pytest.mark.parametrize("name", _arrays())
def test_every_replica_reads_the_rows_of_its_share(found, name):
  wanted = _arrays()[name][[5, 0, 3, 2]]
  assert found[f"rows/{name}"].dtype == wanted.dtype
  np.testing.assert_array_equal(found[f"rows/{name}"], wanted)


def test_sums_are_the_same_on_all(found):
  np.testing.assert_array_equal(found["sum/a"], [1, 1])
  np.testing.assert_array_equal(found["sum/b"], [7, 7])


def test_shares_are_cropped_as_the_whole_batch_is(found):
  images = tf.constant(
    np.random.default_rng(1).normal(size=[4, 8, 8, 3]), tf.float32
  )
  wanted = augment.random_crop_and_flip(images, tf.constant([1, 2], tf.int64))
  np.testing.assert_array_equal(found["cropped"], wanted.numpy())


def test_a_batch_that_cannot_be_shared_is_refused(found):
  assert "`batch_size` must be a multiple" in str(found["error"])
  assert "2, got 7" in str(found["error"])
  assert found["share"] == 4


if __name__ == "__main__":
  _main(sys.argv[1])
