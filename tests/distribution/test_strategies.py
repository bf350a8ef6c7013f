# SPDX-License-Identifier: Apache-2.0
"""Which strategy is made, and what is refused."""

import json

import pytest
import tensorflow as tf

from rigl.distribution.strategies import create_strategy


def cluster(*addresses, kind="worker", task=("worker", 0)):
  return json.dumps(
    {
      "cluster": {kind: list(addresses)},
      "task": {"type": task[0], "index": task[1]},
    }
  )


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
  monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize("name", ["auto", "default"])
def test_one_device_has_no_strategy(name):
  strategy = create_strategy(name)
  with strategy.scope():
    assert not tf.distribute.has_strategy()


def test_auto_with_one_worker_has_no_strategy(monkeypatch):
  monkeypatch.setenv("TF_CONFIG", cluster("localhost:1"))
  strategy = create_strategy()
  assert strategy is tf.distribute.get_strategy()


def test_mirrored_takes_all_devices_of_the_machine():
  strategy = create_strategy("mirrored")
  kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
  wanted = len(tf.config.list_logical_devices(kind))
  assert isinstance(strategy, tf.distribute.MirroredStrategy)
  assert strategy.num_replicas_in_sync == wanted


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"strategy": "multi_worker"}, "multi_worker.*TF_CONFIG.*got none"),
    ({"strategy": "tpu", "tpu": "grpc://localhost:1"}, "`tpu` must name.*:1"),
    ({"strategy": "tpu", "tpu": "grpc://nonsense"}, "`tpu` must name"),
    ({"strategy": "tpu", "tpu": "local"}, "`tpu` must name.*local.*'local'"),
    ({"strategy": "mirrored", "tpu": "x"}, "`tpu` needs `strategy`=tpu"),
    ({"virtual_devices": 3}, "`virtual_devices`.*before.*3"),
  ],
)
def test_flags_that_do_not_fit_are_named(settings, message):
  tf.constant(0) + 1  # TensorFlow has started.
  with pytest.raises(ValueError, match=message):
    create_strategy(**settings)
