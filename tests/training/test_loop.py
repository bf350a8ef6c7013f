import numpy as np
import pytest
import tensorflow as tf
from loop_fakes import EPOCH, fake_loop, run

from rigl.data.array_source import ArraySource
from rigl.data.shuffling import epoch_order
from rigl.sparse_optimizers import (
  SparseFixedMaskOptimizer,
  SparseRigLOptimizer,
  SparseSETOptimizer,
)
from rigl.training.loop import Loop
from rigl.training.programs import Programs

PIXELS, CLASSES, BATCH = 6, 4, 5
TRAIN, TEST = BATCH * EPOCH + 2, 23
RATE, DECAY = 0.3, 0.01


def one_by_one(update_is_iteration, total, begin, end, frequency):
  """What happens in which iteration, decided anew before every one."""
  done, step, last = [], 0, -frequency
  for iteration in range(total):
    if update_is_iteration:
      if in_window(step, last, begin, end, frequency):
        done.append(("update", iteration))
        last = step
        continue
      done.append(("step", iteration))
      step += 1
    else:
      done.append(("step", iteration))
      step += 1
      if in_window(step, last, begin, end, frequency):
        done.append(("update", iteration))
        last = step
  return done


def in_window(step, last, begin, end, frequency):
  inside = step >= begin and (end < 0 or step <= end)
  return inside and step >= last + frequency


WINDOWS = [(0, -1, 3), (0, -1, 1), (5, 17, 4), (0, 9, 100), (30, 40, 2)]


@pytest.mark.parametrize("update_is_iteration", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("record_every", [0, 1, 5])
def test_every_iteration_does_what_the_schedule_says(
  update_is_iteration, window, record_every
):
  begin, end, frequency = window
  loop, programs, _ = fake_loop(
    update_is_iteration, begin=begin, end=end, frequency=frequency
  )
  loop.add_event(record_every, lambda _: None)
  run(loop, 43)
  expected = one_by_one(update_is_iteration, 43, begin, end, frequency)
  assert programs.done == expected
  steps = sum(kind == "step" for kind, _ in expected)
  assert int(programs.global_step.numpy()) == steps


def test_iterations_of_rigl_are_steps_and_updates_together():
  loop, programs, found = fake_loop(True)
  run(loop, 16)
  updates = sum(kind == "update" for kind, _ in programs.done)
  assert loop.iteration == 16
  assert found[-1].step + updates == found[-1].iteration == 16
  assert updates == 4


@pytest.mark.parametrize("update_is_iteration", [True, False])
def test_events_happen_at_their_iterations(update_is_iteration):
  loop, programs, found = fake_loop(update_is_iteration)
  seen = {every: [] for every in (0, 1, 5, 16)}
  for every, iterations in seen.items():
    loop.add_event(every, iterations.append, at_start=every == 16)
  run(loop, 33)
  assert seen == {
    0: [],
    1: list(range(1, 34)),
    5: [5, 10, 15, 20, 25, 30],
    16: [0, 16, 32],
  }
  assert [report.iteration for report in found] == [8, 16, 24, 32, 33]


def test_actions_see_exactly_the_iterations_before_them():
  loop, programs, _ = fake_loop(True)
  seen = []
  loop.add_event(5, lambda iteration: seen.append(len(programs.done)))
  run(loop, 16)
  assert seen == [5, 10, 15]
  assert programs.evaluated_at == [8, 16]


def test_actions_of_one_iteration_run_in_the_order_of_adding():
  loop, _, found = fake_loop()
  seen = []
  loop.add_event(8, lambda i: seen.append(("one", i, len(found))))
  loop.add_event(4, lambda i: seen.append(("two", i, len(found))))
  run(loop, 8)
  assert seen == [
    ("two", 4, 0),
    ("one", 8, 1),  # The evaluation comes first.
    ("two", 8, 1),
  ]


def test_calls_are_as_long_as_events_allow():
  loop, programs, _ = fake_loop(True, frequency=7)
  loop.add_event(6, lambda _: None)
  run(loop, 18)
  # Updates in iterations 0 and 8, and 16; epochs of 8; an event every 6.
  assert programs.calls == [(1, 5), (6, 2), (9, 3), (12, 4), (17, 1)]


def test_calls_end_with_the_epoch_also_without_evaluation():
  loop, programs, found = fake_loop(False, evaluate_every=0, frequency=100)
  run(loop, 20)
  assert programs.calls == [(0, 1), (1, 7), (8, 8), (16, 4)]
  assert found == [] and loop.last is None


def test_run_goes_on_where_it_stopped():
  whole, programs, _ = fake_loop(True)
  run(whole, 30)
  parts, again, _ = fake_loop(True)
  for total in (7, 8, 8, 21, 30):
    run(parts, total)
    assert parts.iteration == total
  assert again.done == programs.done


def test_events_at_the_start_happen_only_once():
  loop, _, _ = fake_loop()
  seen = []
  loop.add_event(4, seen.append, at_start=True)
  run(loop, 4)
  run(loop, 8)
  assert seen == [0, 4, 8]


def test_evaluation_holds_means_since_the_one_before():
  loop, _, found = fake_loop(True, loss=float)
  run(loop, 16)
  # Updates in iterations 0, 4, 8 and 12.
  steps = [[1, 2, 3, 5, 6, 7], [9, 10, 11, 13, 14, 15]]
  for evaluation, own in zip(found, steps, strict=True):
    assert evaluation.train["loss"] == pytest.approx(np.mean(own))
    assert evaluation.train["accuracy"] == pytest.approx(0.5)
    assert evaluation.train["mask_changed"] == pytest.approx(0.5)
    assert evaluation.train["drop_fraction"] == evaluation.step / 1000
    assert evaluation.test == {"loss": 7.0}
    assert evaluation.timing["steps_per_second"] > 0
  assert [evaluation.step for evaluation in found] == [6, 12]
  assert loop.last is found[-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite_stops_the_run_naming_where(bad):
  loop, programs, found = fake_loop(
    True, frequency=4, loss=lambda i: bad if i == 12 else 1.0
  )
  with pytest.raises(RuntimeError) as error:
    run(loop, 24)
  text = str(error.value)
  assert f"`loss` became {bad} between iterations 11 and 15" in text
  assert "learning rate" in text
  assert len(found) == 1
  assert programs.done[-1] == ("step", 14)


# The real programs, on a linear classifier.


class LinearTask:
  metric_names = eval_metric_names = ("loss", "accuracy")

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
    self.train = ArraySource(examples(TRAIN, 0), BATCH, seed=5)
    self.programs = Programs(
      self.task,
      self.optimizer,
      self.train,
      ArraySource(examples(TEST, 1), 1, seed=5),
      self.step,
      eval_batch_size,
      jit_compile,
    )
    self.found = []
    self.loop = Loop(
      self.programs,
      self.optimizer,
      self.step,
      {v.name.split(":")[0]: v for v in self.task.trainable_variables},
      EPOCH,
      self.found.append,
    )

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
  found = run_.programs.evaluate()
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
  one.programs.train_steps(2, 5)
  for iteration in range(2, 7):
    several.programs.train_steps(iteration, 1)
  assert one.bits() == several.bits()


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_update_returns_the_share_of_connections_that_changed(name):
  run_ = RealRun(name)
  run_.programs.train_steps(0, 2)
  before, ones = run_.mask, run_.mask.sum()
  share = run_.programs.update_masks(2)
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
  run_.programs.update_masks(11)
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
  assert not second.loop.restore(tmp_path)
  run(whole.loop, 5 * EPOCH)
  run(first.loop, stop)
  first.loop.save(tmp_path)
  run(first.loop, stop + 3)  # What comes after the checkpoint is lost.
  assert second.loop.restore(tmp_path)
  assert second.loop.iteration == stop
  run(second.loop, 5 * EPOCH)
  assert second.bits() == whole.bits()
  assert second.found[-1].test == whole.found[-1].test
  assert second.found[-1].train == whole.found[-1].train
