# SPDX-License-Identifier: Apache-2.0
"""The graphs of a TPUEstimator for two TPU cores, built where there are none.

They are never run: what a TPU says of itself is made up.
"""

import collections

import estimator_runs
import pytest
import tensorflow as tf

from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.imagenet_resnet.imagenet_trainer import build_trainer
from rigl.runners.tpu_estimator.specs import for_shards

pytestmark = estimator_runs.MARKS

CORES = 2


@pytest.fixture
def two_cores(monkeypatch):
  from tensorflow.python.tpu import tpu_system_metadata
  from tensorflow_estimator.python.estimator.tpu import tpu_context

  found = tpu_system_metadata.TPUSystemMetadata(
    num_cores=CORES,
    num_hosts=1,
    num_of_cores_per_host=CORES,
    topology=None,
    devices=[],
  )
  monkeypatch.setattr(
    tpu_context._InternalTPUContext,
    "_get_tpu_system_metadata",
    lambda _: found,
  )


def build(estimator, batches, mode):
  """The graph that the estimator would run."""
  from tensorflow_estimator.python.estimator.tpu import error_handling

  estimator._rendezvous[mode] = error_handling.ErrorRendezvous(3)
  with tf.Graph().as_default() as graph:
    estimator._create_and_assert_global_step(graph)
    features, labels, _ = estimator._get_features_and_labels_from_input_fn(
      batches, mode
    )
    spec = estimator._call_model_fn(features, labels, mode, estimator.config)
    spec.scaffold.finalize()
  return graph


def nodes(graph):
  """All nodes, also those of functions."""
  definition = graph.as_graph_def()
  found = list(definition.node)
  for function in definition.library.function:
    found += function.node_def
  return found


def variables(graph):
  with graph.as_default():
    return {v.name.split(":")[0] for v in tf.compat.v1.global_variables()}


@pytest.fixture(params=["rigl", "snip", "momentum"])
def run(request, tmp_path):
  flags = ImagenetSettings(
    resnet_depth=18,
    width=0.25,
    image_size=32,
    num_label_classes=20,
    train_batch_size=8,
    eval_batch_size=8,
    num_eval_images=20,
    use_folder_stub=False,
    mask_init_method="erdos_renyi_kernel",
    training_method=request.param,
    use_synthetic_data=True,
    output_dir=str(tmp_path),
    runner="tpu_estimator",
    use_tpu=True,
    num_cores=CORES,
  )
  made = build_trainer(flags)
  yield made
  made.directory.close()


def test_gradients_are_summed_once_and_nothing_is_a_constant(run, two_cores):
  estimator = run.executor.training_estimator(2)
  start = run.executor.train_spec.start()
  graph = build(
    estimator,
    lambda params: for_shards(run.executor.train_spec.batches(start), params),
    tf.compat.v1.estimator.ModeKeys.TRAIN,
  )
  found = nodes(graph)
  kinds = collections.Counter(node.op for node in found)
  trained = len(run.state.task.trainable_variables)
  assert kinds["CrossReplicaSum"] == trained
  assert kinds["TPUReplicateMetadata"] == 1
  # The greatest kernel has 147,456 weights.
  assert max(node.ByteSize() for node in found) < 20_000
  wanted = set(run.state.all_variables) | {"iteration", "data_position"}
  assert variables(graph) == wanted


def test_an_evaluation_builds(run, two_cores, tmp_path):
  evaluation = run.executor.evaluation
  graph = build(
    evaluation.estimator(str(tmp_path)),
    evaluation.batches,
    tf.compat.v1.estimator.ModeKeys.EVAL,
  )
  kinds = collections.Counter(node.op for node in nodes(graph))
  assert kinds["TPUReplicateMetadata"] == 1
  assert kinds["CrossReplicaSum"] == 0
  wanted = {*run.state.task.model.named_variables, "global_step"}
  assert variables(graph) == wanted


def test_each_core_gets_its_part_of_a_batch_and_the_position_of_all(run):
  batches = run.executor.train_spec.batches(run.executor.train_spec.start())
  whole = next(iter(batches))
  parts = list(for_shards(batches, {"batch_size": 4}).take(2))
  for name, value in whole.items():
    joined = tf.concat([part[name] for part in parts], 0)
    tf.debugging.assert_equal(joined, value)
  assert parts[0]["data_position"].shape == [4, 2]
  assert parts[0]["data_position"].dtype == tf.int32
