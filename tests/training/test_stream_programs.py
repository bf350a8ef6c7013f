"""Programs over streams: which batches they take and what they add up."""

import numpy as np
import pytest
import tensorflow as tf

from rigl.data.stream_source import DataError, StreamSource
from rigl.sparse_optimizers import (
  SparseFixedMaskOptimizer,
  SparseRigLOptimizer,
  SparseSETOptimizer,
)
from rigl.training.host_programs import HostPrograms
from rigl.training.stream_programs import StreamEvaluation, StreamPrograms

BATCH, WIDTH = 4, 6


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


def batches(place, share=None):
  """Batch `i` holds the numbers 4i, 4i + 1, and so on."""

  def make(i):
    numbers = tf.cast(BATCH * i + tf.range(BATCH, dtype=tf.int64), tf.float32)
    x = tf.sin(numbers[:, None] + tf.range(WIDTH, dtype=tf.float32))
    return {"x": x, "number": numbers, "i": i}

  return tf.data.Dataset.range(place[0], 10**6).map(make)


class Trained:
  """Programs of a small network."""

  def __init__(self, method=SparseFixedMaskOptimizer, make=batches, **options):
    self.task = Line()
    inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    arguments = {}
    if method is not SparseFixedMaskOptimizer:
      arguments = dict(
        begin_step=0, end_step=100, frequency=2, drop_fraction=0.5
      )
    self.optimizer = method(inner, **arguments)
    self.optimizer.sparsify({"a": self.task.kernel}, "random", 0.5)
    self.step = tf.Variable(0, dtype=tf.int64)
    explain = options.pop("explain", lambda place: None)
    kind = options.pop("kind", StreamPrograms)
    if kind is StreamPrograms:
      options.setdefault("jit_compile", False)
    self.source = StreamSource(
      make, lambda batch: batch["i"][None] + 1, [0], 5.0, explain
    )
    self.programs = kind(
      self.task,
      self.optimizer,
      self.source,
      StreamEvaluation(self.task, lambda share: None, False),
      self.step,
      **{"steps_per_call": 7, **options},
    )

  def state(self):
    values = [self.task.kernel, *self.optimizer.variables()]
    return [value.numpy().tolist() for value in values]


KINDS = pytest.mark.parametrize("kind", [StreamPrograms, HostPrograms])


@KINDS
def test_steps_take_one_batch_after_the_other(kind):
  run = Trained(kind=kind)
  first = run.programs.train_steps(0, 2)
  second = run.programs.train_steps(2, 1)
  assert first["number"] == np.mean(range(4)) + np.mean(range(4, 8))
  assert second["number"] == np.mean(range(8, 12))
  assert run.source.position.numpy().tolist() == [3]
  assert run.step.numpy() == 3


@KINDS
def test_a_mask_update_that_needs_gradients_takes_a_batch(kind):
  run = Trained(SparseRigLOptimizer, kind=kind)
  assert run.programs.update_masks(0) >= 0
  assert run.source.position.numpy().tolist() == [1]
  sums = run.programs.train_steps(1, 1)
  assert sums["number"] == np.mean(range(4, 8))
  assert run.step.numpy() == 1


@KINDS
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_goes_on_with_the_same_batches(kind, cut):
  whole = Trained(kind=kind)
  whole.programs.train_steps(0, 5)
  first, second = Trained(kind=kind), Trained(kind=kind)
  first.programs.train_steps(0, cut)
  pairs = zip(
    [second.task.kernel, *second.optimizer.variables()],
    [first.task.kernel, *first.optimizer.variables()],
    strict=True,
  )
  for variable, value in pairs:
    variable.assign(value)
  second.source.position.assign(first.source.position)
  second.programs.train_steps(cut, 5 - cut)
  assert second.state() == whole.state()


def test_a_restored_position_counts_for_an_iterator_in_use():
  run = Trained()
  run.programs.train_steps(0, 1)
  run.source.position.assign([5])
  assert run.programs.train_steps(5, 1)["number"] == np.mean(range(20, 24))


@pytest.mark.parametrize(
  "other", [{"jit_compile": True}, {"kind": HostPrograms}]
)
@pytest.mark.parametrize(
  "method", [SparseRigLOptimizer, SparseSETOptimizer, SparseFixedMaskOptimizer]
)
def test_xla_and_the_host_compute_the_same(method, other):
  plain, other = Trained(method), Trained(method, **other)
  for run in (plain, other):
    if method is not SparseFixedMaskOptimizer:
      run.changed = run.programs.update_masks(0)
      assert run.changed > 0
    run.sums = run.programs.train_steps(1, 3)
    run.found = run.programs.inspect()
  for a, b in zip(plain.state(), other.state(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
  assert other.__dict__.get("changed") == plain.__dict__.get("changed")
  assert other.sums == pytest.approx(plain.sums, rel=1e-5)
  assert other.found == pytest.approx(plain.found, rel=1e-5)


@KINDS
def test_norms_are_those_of_gradient_and_weights(kind):
  run = Trained(kind=kind)
  weights = np.linalg.norm(run.task.kernel.numpy())
  assert run.programs.inspect()["weight_norm"] == pytest.approx(weights)
  x = next(iter(batches([0])))["x"].numpy()
  gradient = np.repeat(x.mean(0)[:, None] / 4, 2, axis=1)
  sums = run.programs.train_steps(0, 1)
  assert sums["gradient_norm"] == pytest.approx(
    np.linalg.norm(gradient), rel=1e-5
  )


def test_one_call_makes_as_many_steps_as_it_may():
  assert Trained().programs.steps_left(123) == 7


@KINDS
def test_damaged_data_is_named(kind):
  def make(place, share):
    good = batches(place).take(2)
    bad = batches(place).skip(2)
    return good.concatenate(
      bad.map(
        lambda b: {**b, "x": tf.debugging.check_numerics(b["x"] / 0.0, "bad")}
      )
    )

  run = Trained(
    make=make, explain=lambda place: f"record {place[0]}", kind=kind
  )
  with pytest.raises(DataError, match="record 2"):
    run.programs.train_steps(0, 5)


@pytest.mark.parametrize(
  "kind, error",
  [(StreamPrograms, tf.errors.OutOfRangeError), (HostPrograms, StopIteration)],
)
def test_errors_of_other_kinds_are_not_hidden(kind, error):
  run = Trained(make=lambda place, share: batches(place).take(2), kind=kind)
  with pytest.raises(error):
    run.programs.train_steps(0, 5)


def evaluation(task, count, size, **options):
  """An evaluation of images 0 to `count` - 1 in padded batches."""

  def make(share):
    total = -(-count // size) * size
    numbers = np.arange(total, dtype=np.float32)
    arrays = {
      "x": np.ones([total, WIDTH], np.float32),
      "number": numbers,
      "valid": np.float32(numbers < count),
    }
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

  return StreamEvaluation(task, make, **options)


@pytest.mark.parametrize("size", [1, 3, 7, 10])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_every_image_counts_once_whatever_the_batch_size(size, jit_compile):
  found = evaluation(Line(), 7, size, jit_compile=jit_compile)()
  assert found["number"] == pytest.approx(3.0)
  assert "count" not in found


def test_an_evaluation_leaves_what_it_must_keep():
  task = Line()
  evaluate = evaluation(task, 4, 2, jit_compile=False, kept=[task.seen])
  evaluate()
  assert task.seen.numpy() == 0.0


def test_an_evaluation_of_nothing_is_refused():
  with pytest.raises(ValueError, match="no images"):
    evaluation(Line(), 0, 2, jit_compile=False)()


@pytest.mark.parametrize(
  "method", [SparseFixedMaskOptimizer, SparseRigLOptimizer]
)
def test_programs_of_a_device_take_what_a_stream_gives(method):
  run, other = Trained(method), Trained(method)
  run.programs._evaluation = StreamEvaluation(run.task, evaluated, False)
  found = run.programs.on_device()
  example = batches([0], None).take(1).get_single_element()
  kinds = ["train", "evaluate"]
  if method is SparseRigLOptimizer:
    kinds.append("update")
    arguments = dict(found["update"][1], batch=example)
    changed = found["update"][0](*arguments.values())
    assert float(changed["mask_changed"]) == other.programs.update_masks(0)
    other.source.position.assign([0])
  for kind in kinds:
    batch = found[kind][1]["batch"]
    real = example if kind != "evaluate" else evaluated().get_single_element()
    assert batch.keys() == real.keys()
    for name in batch:
      assert batch[name].dtype == real[name].dtype
      assert batch[name].shape == real[name].shape
  # The step is that of the training.
  program, arguments = found["train"]
  sums = program(*dict(arguments, batch=example).values())
  usual = other.programs.train_steps(0, 1)
  assert {n: float(v) for n, v in sums.items()} == pytest.approx(usual)
  # Asking takes no batch.
  assert run.source.position.numpy().tolist() == [0]


def evaluated(share=None):
  valid = tf.ones([BATCH])
  return batches([0], share).take(1).map(lambda b: {**b, "valid": valid})
