# SPDX-License-Identifier: Apache-2.0
"""Pipelines give every host its batches, and end as soon as they are left.

Sources whose runs resume are tested with the runners and ImageNet's input.
"""

import types

import pytest
import tensorflow as tf

from rigl.data.stream_source import InputShard, pipelines
from rigl.distribution.replicas import Replicas

ALONE = InputShard(num_replicas=1, num_hosts=1, host=0)
LAST_OF_THREE = InputShard(num_replicas=6, num_hosts=3, host=2)


def on_the_last_host(make):
  return make(tf.distribute.InputContext(3, 2, 6))


DISTRIBUTED = types.SimpleNamespace(
  is_distributed=True,
  count=6,
  strategy=types.SimpleNamespace(
    distribute_datasets_from_function=on_the_last_host
  ),
)


def numbers(shard):
  options = tf.data.Options()
  options.deterministic = False
  first = 10 * shard.host
  return tf.data.Dataset.range(first, first + 3).with_options(options)


@pytest.mark.parametrize(
  "replicas, shard, expected",
  [(Replicas(), ALONE, [0, 1, 2]), (DISTRIBUTED, LAST_OF_THREE, [20, 21, 22])],
  ids=["alone", "distributed"],
)
def test_a_host_gets_its_batches_from_a_pipeline_that_ends_at_once(
  replicas, shard, expected
):
  shards = []

  def make(found):
    shards.append(found)
    return numbers(found)

  batches = pipelines(replicas, make)
  assert [int(number) for number in batches] == expected
  assert shards == [shard]
  # A thread that tunes it may sleep for a minute before it can be deleted.
  assert batches.options().autotune.enabled is False
  # What else the pipeline asks for stays.
  assert batches.options().deterministic is False


def test_the_devices_of_a_strategy_share_the_batches():
  with tf.distribute.OneDeviceStrategy("CPU:0").scope():
    batches = pipelines(Replicas(), numbers)
    assert [int(number) for number in batches] == [0, 1, 2]
