# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow executor on examples in memory, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from loop_fakes import EPOCH, run

from rigl.data.array_source import ArraySource
from rigl.data.shuffling import epoch_order
from rigl.distribution.replicas import Replicas
from rigl.runners.evaluations import ArrayEvaluation
from rigl.runners.tensorflow_executor import TensorFlowExecutor
from rigl.sparse_optimizers import (
  SparseFixedMaskOptimizer,
  SparseRigLOptimizer,
  SparseSETOptimizer,
)
from rigl.training.loop import Intervals, Loop
from rigl.training.train_state import TrainState

PIXELS, CLASSES, BATCH = 6, 4, 5
TRAIN, TEST = BATCH * EPOCH + 2, 23
RATE, DECAY = 0.3, 0.01


class LinearTask:
  metric_names = eval_metric_names = ("loss", "accuracy")
  headline_metrics = ("accuracy",)

  def __init__(self):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(PIXELS, CLASSES)).astype(np.float32)
    self.weights = tf.Variable(weights, name="linear/weights")
    self.biases = tf.Variable(tf.zeros([CLASSES]), name="linear/biases")
    self.trainable_variables = (self.weights, self.biases)

  def metrics(self, batch, iteration=None):
    del iteration
    logits = batch["images"] @ self.weights + self.biases
    labels = batch["labels"]
    hits = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return {"loss": loss, "accuracy": tf.cast(hits, tf.float32)}


def examples(count, seed):
  rng = np.random.default_rng(seed)
  images = rng.normal(size=(count, PIXELS)).astype(np.float32)
  labels = (images[:, :CLASSES] + 0.1).argmax(1).astype(np.int32)
  return {"images": images, "labels": labels}


def make_optimizer(name):
  inner = tf.compat.v1.train.GradientDescentOptimizer(RATE)
  common = dict(weight_decay=DECAY, seed=3)
  if name == "fixed":
    return SparseFixedMaskOptimizer(inner, **common)
  make = {"rigl": SparseRigLOptimizer, "set": SparseSETOptimizer}[name]
  # Compiling an update takes a second each time.
  common["mask_engine"] = "numpy"
  return make(inner, 0, -1, 3, drop_fraction=0.4, **common)


class RealRun:
  def __init__(self, name="fixed", eval_batch_size=10, jit_compile=False):
    self.task, self.optimizer = LinearTask(), make_optimizer(name)
    self.optimizer.sparsify([self.task.weights], "random", 0.5)
    self.step = tf.Variable(0, dtype=tf.int64, name="global_step")
    variables = self.task.trainable_variables
    names = {v.name.split(":")[0]: v for v in variables}
    self.state = TrainState(self.task, names, self.optimizer, self.step, None)
    replicas = Replicas()
    test = ArraySource(examples(TEST, 1), 1, seed=5)
    self.executor = TensorFlowExecutor(
      self.state,
      ArraySource(examples(TRAIN, 0), BATCH, seed=5),
      ArrayEvaluation(self.task, test, replicas, eval_batch_size, jit_compile),
      replicas,
      jit_compile=jit_compile,
    )
    self.found = []
    intervals = Intervals(0, EPOCH)
    self.loop = Loop(self.executor, self.state, intervals, self.found.append)

  @property
  def mask(self):
    return self.optimizer.layers[0].mask.numpy()

  def bits(self):
    variables = [*self.task.trainable_variables, *self.optimizer.variables()]
    return [v.numpy().tobytes() for v in (*variables, self.step)]


def numpy_metrics(weights, biases, data):
  """Mean loss and accuracy, and the gradient of the loss."""
  logits = data["images"].astype(np.float64) @ weights + biases
  labels = data["labels"]
  shifted = logits - logits.max(1, keepdims=True)
  shares = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
  loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
  accuracy = (logits.argmax(1) == labels).mean()
  error = (shares - np.eye(CLASSES)[labels]) / len(labels)
  return loss, accuracy, (data["images"].T @ error, error.sum(0))


@pytest.mark.parametrize("eval_batch_size", [1, 4, 22, 23, 24, 1000])
def test_evaluation_counts_every_example_whatever_the_batch_size(
  eval_batch_size,
):
  run_ = RealRun(eval_batch_size=eval_batch_size)
  weights, biases = (v.numpy() for v in run_.task.trainable_variables)
  loss, accuracy, _ = numpy_metrics(weights, biases, examples(TEST, 1))
  found = run_.executor.evaluate()
  assert found["loss"] == pytest.approx(loss, rel=1e-5)
  assert found["accuracy"] == pytest.approx(accuracy, rel=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_is_that_of_numpy(jit_compile):
  run_ = RealRun(jit_compile=jit_compile)
  mask = run_.mask
  weights, biases = (
    v.numpy().astype(np.float64) for v in run_.task.trainable_variables
  )
  np.testing.assert_array_equal(weights, weights * mask)
  run(run_.loop, 2 * EPOCH)
  data, sums = examples(TRAIN, 0), []
  for iteration in range(2 * EPOCH):
    order = epoch_order(5, iteration // EPOCH, TRAIN, BATCH)
    numbers = order[iteration % EPOCH]
    batch = {name: array[numbers] for name, array in data.items()}
    loss, accuracy, gradient = numpy_metrics(weights, biases, batch)
    sums.append((loss, accuracy))
    weights -= RATE * (gradient[0] * mask + DECAY * weights)
    biases -= RATE * gradient[1]
  np.testing.assert_allclose(run_.task.weights.numpy(), weights, atol=1e-5)
  np.testing.assert_allclose(run_.task.biases.numpy(), biases, atol=1e-5)
  assert int(run_.step.numpy()) == 2 * EPOCH
  for epoch, evaluation in enumerate(run_.found):
    expected = np.mean(sums[epoch * EPOCH : (epoch + 1) * EPOCH], 0)
    assert evaluation.train["loss"] == pytest.approx(expected[0], rel=1e-4)
    assert evaluation.train["accuracy"] == pytest.approx(expected[1])
  assert run_.found[1].test["loss"] < run_.found[0].test["loss"]


def test_steps_in_one_call_are_those_of_several():
  one, several = RealRun(), RealRun()
  assert one.executor.advance(2, 5).steps == 5
  for iteration in range(2, 7):
    several.executor.advance(iteration, 1)
  assert one.bits() == several.bits()


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_update_returns_the_share_of_connections_that_changed(name):
  run_ = RealRun(name)
  run_.executor.advance(0, 2)
  run_.executor.advance(1, 2)
  run_.optimizer.last_update_step.assign(-3)
  before, ones = run_.mask, run_.mask.sum()
  progress = run_.executor.advance(3, 1)
  share = progress.mask_changed
  changed = (before != run_.mask).sum()
  assert share == pytest.approx(changed / before.size)
  assert changed > 0
  assert run_.mask.sum() == ones
  weights = run_.task.weights.numpy()
  np.testing.assert_array_equal(weights, weights * run_.mask)


def test_rigl_grows_by_the_gradient_of_the_batch_of_its_iteration():
  run_ = RealRun("rigl")
  before = run_.mask
  weights, biases = (v.numpy() for v in run_.task.trainable_variables)
  numbers = epoch_order(5, 11 // EPOCH, TRAIN, BATCH)[11 % EPOCH]
  batch = {k: v[numbers] for k, v in examples(TRAIN, 0).items()}
  gradient = numpy_metrics(weights, biases, batch)[2][0]
  assert run_.executor.advance(11, 1).steps == 0
  kept = before & run_.mask
  size = np.where(kept, -1.0, np.abs(gradient))
  num_grown = int(run_.mask.sum() - kept.sum())
  # What was dropped may grow back at once, so the largest are searched among
  # all that are inactive now or new.
  grown = run_.mask & ~before
  assert grown.sum() == num_grown > 0
  smallest = size[grown].min()
  assert np.all(size[~run_.mask & ~before] <= smallest)


@pytest.mark.parametrize("name", ["fixed", "rigl", "set"])
def test_resumed_run_ends_with_the_same_bits(tmp_path, name):
  stop = 3 * EPOCH
  whole, first, second = RealRun(name), RealRun(name), RealRun(name)
  assert not second.state.restore(tmp_path)
  run(whole.loop, 5 * EPOCH)
  run(first.loop, stop)
  first.state.save(tmp_path, stop)
  run(first.loop, stop + 3)  # What comes after the checkpoint is lost.
  assert second.state.restore(tmp_path)
  assert second.state.iteration == stop
  run(second.loop, 5 * EPOCH)
  assert second.bits() == whole.bits()
  assert second.found[-1].test == whole.found[-1].test
  assert second.found[-1].train == whole.found[-1].train
