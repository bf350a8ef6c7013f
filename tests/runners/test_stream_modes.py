# SPDX-License-Identifier: Apache-2.0
"""The TensorFlow executor on streams: batches it takes and sums it makes."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.data.stream_source import DataError, StreamSource
from rigl.distribution.replicas import Replicas
from rigl.runners.evaluations import StreamEvaluation
from rigl.runners.tensorflow_executor import Mode, TensorFlowExecutor
from rigl.sparse_optimizers import (
  SparseFixedMaskOptimizer,
  SparseRigLOptimizer,
  SparseSETOptimizer,
)
from rigl.training.train_state import TrainState

BATCH, WIDTH, FREQUENCY = 4, 6, 3


class Line:
  """A linear layer; the loss is a quarter of the sum of its outputs."""

  metric_names = ("loss", "number")
  eval_metric_names = metric_names

  def __init__(self):
    self.kernel = tf.Variable(
      np.linspace(-1, 1, 12).reshape(WIDTH, 2),
      dtype=tf.float32,
      name="a/weights",
    )
    self.seen = tf.Variable(0.0, trainable=False)

  @property
  def trainable_variables(self):
    return (self.kernel,)

  def metrics(self, batch, iteration=None):
    outputs = tf.reduce_sum(batch["x"] @ self.kernel, 1)
    self.seen.assign_add(1.0)
    return {"loss": outputs / 4, "number": batch["number"]}


def batches(cursor, shard=None):
  """Batch `i` holds the numbers 4i, 4i + 1, and so on."""

  def make(i):
    numbers = tf.cast(BATCH * i + tf.range(BATCH, dtype=tf.int64), tf.float32)
    x = tf.sin(numbers[:, None] + tf.range(WIDTH, dtype=tf.float32))
    return {"x": x, "number": numbers, "i": i}

  return tf.data.Dataset.range(cursor[0], 10**6).map(make)


class Trained:
  """An executor of a small network."""

  def __init__(
    self,
    method=SparseFixedMaskOptimizer,
    make=batches,
    mode=Mode.PER_STEP,
    jit_compile=False,
    diagnose=lambda cursor: None,
    evaluated=lambda shard: None,
    weight_decay=0.0,
  ):
    self.task = Line()
    inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    arguments = {"weight_decay": weight_decay}
    if method is not SparseFixedMaskOptimizer:
      arguments |= dict(
        begin_step=0, end_step=100, frequency=FREQUENCY, drop_fraction=0.5
      )
    self.optimizer = method(inner, **arguments)
    self.optimizer.sparsify({"a": self.task.kernel}, "random", 0.5)
    self.step = tf.Variable(0, dtype=tf.int64)
    replicas = Replicas()
    self.source = StreamSource(
      make, lambda batch: batch["i"][None] + 1, [0], 5.0, replicas, diagnose
    )
    self.executor = TensorFlowExecutor(
      TrainState(self.task, {}, self.optimizer, self.step, None),
      self.source,
      StreamEvaluation(self.task, evaluated, replicas, False),
      replicas,
      jit_compile=jit_compile,
      norms=True,
      mode=mode,
    )

  def train(self, iteration, count):
    """Makes steps with no update between them; returns the sums."""
    progress = self.executor.advance(iteration, count)
    assert progress.steps == progress.iterations == count
    return progress.sums

  def state(self):
    values = [self.task.kernel, *self.optimizer.variables()]
    return [value.numpy().tolist() for value in values]


MODES = pytest.mark.parametrize("mode", [Mode.PER_STEP, Mode.HOST])


@MODES
def test_steps_take_one_batch_after_the_other(mode):
  run = Trained(mode=mode)
  first = run.train(0, 2)
  second = run.train(2, 1)
  assert first["number"] == np.mean(range(4)) + np.mean(range(4, 8))
  assert second["number"] == np.mean(range(8, 12))
  assert run.source.cursor.numpy().tolist() == [3]
  assert run.step.numpy() == 3


def test_it_says_when_it_has_made_steps_that_are_not_counted():
  run = Trained(SparseSETOptimizer, mode=Mode.HOST)
  executor, found = run.executor, []
  update = executor._update_at

  def note(iteration):
    found.append(executor.is_ahead)
    return update(iteration)

  executor._update_at = note
  assert not executor.is_ahead
  assert executor.advance(0, 10).steps
  assert found == [True] and not executor.is_ahead


@MODES
def test_a_mask_update_that_needs_gradients_takes_a_batch(mode):
  run = Trained(SparseRigLOptimizer, mode=mode)
  progress = run.executor.advance(0, 1)
  assert (progress.steps, progress.iterations) == (0, 1)
  assert progress.mask_changed >= 0
  assert run.source.cursor.numpy().tolist() == [1]
  sums = run.train(1, 1)
  assert sums["number"] == np.mean(range(4, 8))
  assert run.step.numpy() == 1


@MODES
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_goes_on_with_the_same_batches(mode, cut):
  whole = Trained(mode=mode)
  whole.train(0, 5)
  first, second = Trained(mode=mode), Trained(mode=mode)
  first.train(0, cut)
  pairs = zip(
    [second.task.kernel, *second.optimizer.variables()],
    [first.task.kernel, *first.optimizer.variables()],
    strict=True,
  )
  for variable, value in pairs:
    variable.assign(value)
  second.source.cursor.assign(first.source.cursor)
  second.train(cut, 5 - cut)
  assert second.state() == whole.state()


def test_a_restored_position_counts_for_an_iterator_in_use():
  run = Trained()
  run.train(0, 1)
  run.source.cursor.assign([5])
  assert run.train(5, 1)["number"] == np.mean(range(20, 24))


@pytest.mark.parametrize("other", [{"jit_compile": True}, {"mode": Mode.HOST}])
@pytest.mark.parametrize(
  "method", [SparseRigLOptimizer, SparseSETOptimizer, SparseFixedMaskOptimizer]
)
def test_xla_and_the_host_compute_the_same(method, other):
  plain, other = Trained(method), Trained(method, **other)
  for run in (plain, other):
    run.progress, iteration = [], 0
    while iteration < 5:
      run.progress.append(run.executor.advance(iteration, 5 - iteration))
      iteration += run.progress[-1].iterations
    run.found = run.executor.state_metrics()
  for a, b in zip(plain.state(), other.state(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
  updates = method is not SparseFixedMaskOptimizer
  assert any(part.mask_changed for part in plain.progress) == updates
  for part, expected in zip(other.progress, plain.progress, strict=True):
    assert part.mask_changed == expected.mask_changed
    assert part.steps == expected.steps
    assert part.sums == pytest.approx(expected.sums, rel=1e-5)
  assert other.found == pytest.approx(plain.found, rel=1e-5)


@MODES
def test_norms_are_those_of_gradient_and_weights(mode):
  run = Trained(mode=mode, weight_decay=0.5)
  weights = np.linalg.norm(run.task.kernel.numpy())
  mask = run.optimizer.layers[0].mask.numpy()
  assert run.executor.state_metrics()["weight_norm"] == pytest.approx(weights)
  x = next(iter(batches([0])))["x"].numpy()
  gradient = np.repeat(x.mean(0)[:, None] / 4, 2, axis=1)
  expected = np.linalg.norm(gradient * mask + 0.5 * run.task.kernel.numpy())
  sums = run.train(0, 1)
  assert sums["gradient_norm"] == pytest.approx(expected, rel=1e-5)


@MODES
def test_damaged_data_is_named(mode):
  def make(cursor, shard):
    good = batches(cursor).take(2)
    bad = batches(cursor).skip(2)
    return good.concatenate(
      bad.map(
        lambda b: {**b, "x": tf.debugging.check_numerics(b["x"] / 0.0, "bad")}
      )
    )

  run = Trained(
    make=make, diagnose=lambda cursor: f"record {cursor[0]}", mode=mode
  )
  with pytest.raises(DataError, match="record 2"):
    run.train(0, 5)


@pytest.mark.parametrize(
  "mode, error",
  [(Mode.PER_STEP, tf.errors.OutOfRangeError), (Mode.HOST, StopIteration)],
)
def test_errors_of_other_kinds_are_not_hidden(mode, error):
  run = Trained(make=lambda cursor, shard: batches(cursor).take(2), mode=mode)
  with pytest.raises(error):
    run.train(0, 5)


def evaluation(task, count, size, **options):
  """An evaluation of images 0 to `count` - 1 in padded batches."""

  def make(shard):
    total = -(-count // size) * size
    numbers = np.arange(total, dtype=np.float32)
    arrays = {
      "x": np.ones([total, WIDTH], np.float32),
      "number": numbers,
      "valid": np.float32(numbers < count),
    }
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

  return StreamEvaluation(task, make, Replicas(), **options)


@pytest.mark.parametrize("size", [1, 3, 7, 10])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_image_counts_once_whatever_the_batch_size(size, jit_compile):
  found = evaluation(Line(), 7, size, jit_compile=jit_compile)()
  assert found["number"] == pytest.approx(3.0)
  assert "count" not in found


def test_an_evaluation_leaves_what_it_must_keep():
  task = Line()
  evaluate = evaluation(task, 4, 2, jit_compile=False, preserve=[task.seen])
  evaluate()
  assert task.seen.numpy() == 0.0


def test_an_evaluation_of_nothing_is_refused():
  with pytest.raises(ValueError, match="no examples"):
    evaluation(Line(), 0, 2, jit_compile=False)()


@pytest.mark.parametrize(
  "method", [SparseFixedMaskOptimizer, SparseRigLOptimizer]
)
def test_programs_of_a_device_take_what_a_stream_gives(method):
  run, other = Trained(method, evaluated=evaluated), Trained(method)
  found = run.executor.lowerable()
  example = batches([0], None).take(1).get_single_element()
  if method is SparseRigLOptimizer:
    arguments = dict(found["update"][1], batch=example)
    changed = found["update"][0](*arguments.values())
    usual = other.executor.advance(0, 1)
    share = (
      int(changed["a"]) / run.optimizer.layers[0].mask.shape.num_elements()
    )
    assert share == pytest.approx(usual.mask_changed)
    other.source.cursor.assign([0])
  for kind in ("train", "evaluate"):
    batch = found[kind][1]["batch"]
    real = example if kind != "evaluate" else evaluated().get_single_element()
    assert batch.keys() == real.keys()
    for name in batch:
      assert batch[name].dtype == real[name].dtype
      assert batch[name].shape == real[name].shape
  # The step is that of the training.
  program, arguments = found["train"]
  sums = program(*dict(arguments, batch=example).values())
  usual = other.train(0, 1)
  assert {n: float(v) for n, v in sums.items()} == pytest.approx(usual)
  # Asking takes no batch.
  assert run.source.cursor.numpy().tolist() == [0]


def evaluated(shard=None):
  valid = tf.ones([BATCH])
  return batches([0], shard).take(1).map(lambda b: {**b, "valid": valid})
