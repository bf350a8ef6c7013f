# SPDX-License-Identifier: Apache-2.0
"""Any wrapped optimizer: kernels stay masked, and slots that are seen rest."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf

from rigl import sparse_optimizers

v1 = tf.compat.v1.train
LossScale = tf.compat.v1.mixed_precision.MixedPrecisionLossScaleOptimizer


def _momentum():
  return v1.MomentumOptimizer(0.1, 0.9)


class Delegating(v1.Optimizer):
  """A wrapper that answers for the optimizer inside, but makes no slots."""

  def __init__(self, inside):
    super().__init__(False, "Delegating")
    self.hidden = [inside]

  def get_slot(self, var, name):
    return self.hidden[0].get_slot(var, name)

  def get_slot_names(self):
    return self.hidden[0].get_slot_names()

  def variables(self):
    return self.hidden[0].variables()

  def apply_gradients(self, pairs, global_step=None, name=None):
    return self.hidden[0].apply_gradients(pairs, global_step)


class Averaging(v1.Optimizer):
  """Keeps moving averages of the weights, as one of tf.contrib did."""

  def __init__(self, inside):
    super().__init__(False, "Averaging")
    self._optimizer, self._ema = inside, tf.train.ExponentialMovingAverage(0.9)

  def apply_gradients(self, pairs, global_step=None, name=None):
    pairs = list(pairs)
    applied = self._optimizer.apply_gradients(pairs, global_step)
    self._ema.apply([variable for _, variable in pairs])
    return applied


class Lookahead(v1.Optimizer):
  """Pulls the weights to slow ones, a slot that starts as their copy."""

  def __init__(self, inside):
    super().__init__(False, "Lookahead")
    self._opt = inside

  def _create_slots(self, var_list):
    for variable in var_list:
      self._get_or_make_slot(variable, variable.read_value(), "slow", "slow")

  def apply_gradients(self, pairs, global_step=None, name=None):
    pairs = list(pairs)
    applied = self._opt.apply_gradients(pairs, global_step)
    with tf.init_scope():
      self._create_slots([variable for _, variable in pairs])
    for _, variable in pairs:
      slow = self.get_slot(variable, "slow")
      slow.assign(0.5 * (slow + variable))
      variable.assign(slow.read_value())
    return applied


class Unseen(v1.Optimizer):
  """Holds an optimizer that nobody can find."""

  def __init__(self, inside):
    super().__init__(False, "Unseen")
    self._step = lambda pairs, step: inside.apply_gradients(pairs, step)

  def apply_gradients(self, pairs, global_step=None, name=None):
    return self._step(pairs, global_step)


class Drifting(v1.GradientDescentOptimizer):
  """Moves every weight, also those of zero gradient."""

  def _resource_apply_dense(self, grad, handle):
    return handle.assign_sub(0.1 * grad + 0.01)


class Rprop(v1.Optimizer):
  """Has step sizes of its own for every weight, which start at 0.5."""

  def __init__(self):
    super().__init__(False, "Rprop")

  def _create_slots(self, var_list):
    for variable in var_list:
      start = tf.fill(variable.shape, 0.5)
      self._get_or_make_slot(variable, start, "size", "Rprop")

  def _resource_apply_dense(self, grad, handle):
    size = self.get_slot(handle, "size")
    size = size.assign(0.9 * size)
    return handle.assign_sub(0.01 * size * tf.sign(grad))


INNER = {
  "loss scale": lambda: LossScale(_momentum(), 128.0),
  "dynamic loss scale": lambda: LossScale(v1.AdamOptimizer(0.01), "dynamic"),
  "two wrappers": lambda: Delegating(LossScale(_momentum(), 2.0)),
  "delegating": lambda: Delegating(_momentum()),
  "averaging": lambda: Averaging(v1.AdamOptimizer(0.01)),
  "lookahead": lambda: Lookahead(_momentum()),
  "unseen": lambda: Unseen(_momentum()),
  "drifting": lambda: Drifting(0.1),
  "rprop": Rprop,
  "adam without epsilon": lambda: v1.AdamOptimizer(0.01, epsilon=0.0),
  "adadelta": lambda: v1.AdadeltaOptimizer(1.0),
  "ftrl": lambda: v1.FtrlOptimizer(0.1),
  "proximal": lambda: v1.ProximalAdagradOptimizer(
    0.1, l1_regularization_strength=0.01
  ),
}
STARTS = {
  ("rprop", "size"): 0.5,
  ("ftrl", "accum"): 0.1,
  ("proximal", "accumulator"): 0.1,
}


class Trained:
  """A 16x8 kernel in training, 26 of 128 connections."""

  def __init__(self, method, inner, dtype=tf.float32, **options):
    self.rng = np.random.default_rng(3)
    values = self.rng.normal(size=(16, 8))
    self.kernel = tf.Variable(tf.cast(values, dtype), name="layer/weights")
    arguments = dict(sparse_methods.METHODS[method].arguments)
    arguments.pop("initial_acc_scale", None)
    if sparse_methods.METHODS[method].start == "dense":
      arguments["mask_init_method"] = "random"
    self.optimizer = sparse_methods.METHODS[method].make(
      inner, **{**arguments, "mask_engine": "numpy", **options}
    )
    if sparse_methods.METHODS[method].start == "sparse":
      self.optimizer.sparsify([self.kernel], "random", 0.8)
    else:
      self.optimizer.create_masks([self.kernel])
    self.apply = self._apply

  def _apply(self, gradient):
    self.optimizer.apply_gradients([(gradient, self.kernel)])

  def step(self):
    gradient = self.rng.normal(size=self.kernel.shape)
    self.apply(tf.cast(gradient, self.kernel.dtype))

  @property
  def mask(self):
    return self.optimizer.layers[0].mask.numpy()

  def off_mask(self):
    weights = self.kernel.numpy().astype(np.float32)
    return weights[~self.mask]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("inner", INNER)
def test_rigl_keeps_kernels_masked_and_slots_at_rest(inner, compiled):
  run = Trained("rigl", INNER[inner]())
  if compiled:
    run.apply = tf.function(run.apply, autograph=False)
  first = run.mask
  for _ in range(13):
    run.step()
    assert not run.off_mask().any()
    assert np.count_nonzero(run.mask) == 26
    for name in run.optimizer.get_slot_names():
      slot = run.optimizer.get_slot(run.kernel, name).numpy()
      rest = np.float32(STARTS.get((inner, name), 0.0))
      np.testing.assert_array_equal(slot[~run.mask], rest, err_msg=name)
  assert (first != run.mask).any()
  assert np.isfinite(run.kernel.numpy()).all()


@pytest.mark.parametrize("method", sparse_methods.MASKED)
@pytest.mark.parametrize("inner", ["unseen", "drifting", "lookahead"])
def test_every_method_keeps_kernels_masked(method, inner):
  run = Trained(method, INNER[inner]())
  for _ in range(8):
    run.step()
    assert not run.off_mask().any()
  assert run.mask.any()


def test_wrapped_slots_are_the_same_as_those_of_the_optimizer_alone():
  """Loss scaling by powers of two changes no bit."""
  plain = Trained("rigl", _momentum())
  wrapped = Trained("rigl", LossScale(_momentum(), 128.0))
  for _ in range(12):
    plain.step()
    wrapped.step()
  states = [run.optimizer.state() for run in (plain, wrapped)]
  assert set(states[0]) == set(states[1])
  for name, value in states[0].items():
    np.testing.assert_array_equal(value, states[1][name], err_msg=name)
  np.testing.assert_array_equal(plain.kernel, wrapped.kernel)


def test_new_connections_of_a_copy_start_at_their_weight():
  run = Trained("set", Lookahead(_momentum()), grow_init="random_normal")
  for _ in range(5):
    run.step()
  old = run.mask
  while (old == run.mask).all():
    old = run.mask
    run.step()
  slow = run.optimizer.get_slot(run.kernel, "slow").numpy()
  new = run.mask & ~old
  assert np.all(slow[new] != 0)
  np.testing.assert_array_equal(slow[new], run.kernel.numpy()[new])


def test_moving_averages_forget_dropped_connections():
  inner = Averaging(_momentum())
  run = Trained("set", inner)
  for _ in range(14):
    run.step()
  average = inner._ema.average(run.kernel).numpy()
  assert not average[~run.mask].any() and average[run.mask].any()


@pytest.mark.parametrize("make", [v1.AdamOptimizer, v1.RMSPropOptimizer])
def test_float16_whose_epsilon_is_zero_brings_no_nan_off_the_mask(make):
  run = Trained("scratch", make(0.01), tf.float16)
  for _ in range(3):
    run.step()
  assert not run.off_mask().any()


@pytest.mark.parametrize("name", ["momentum", "adam", "sgd", "rmsprop"])
def test_a_step_with_an_optimizer_of_tensorflow_writes_a_kernel_once(name):
  """No pass over the kernels is added where slots are seen."""
  run = Trained("scratch", sparse_methods.INNER[name]())
  program = tf.function(run.apply, autograph=False)
  gradient = tf.TensorSpec(run.kernel.shape)
  graph = program.get_concrete_function(gradient).graph.as_graph_def()
  kinds = [node.op for node in graph.node]
  assert sum(kind.startswith("ResourceApply") for kind in kinds) == 1
  assigned = [k for k in kinds if k.startswith("Assign") and "Add" not in k]
  assert len(assigned) == (2 if name == "adam" else 0)  # Powers of the betas.


def test_checkpoints_hold_the_slots_of_wrapped_optimizers(tmp_path):
  for key, make in INNER.items():
    if key in ("unseen", "averaging"):
      continue
    runs = [Trained("set", make()) for _ in range(2)]
    for _ in range(7):
      runs[0].step()
    checkpoints = [
      tf.train.Checkpoint(optimizer=run.optimizer, kernel=run.kernel)
      for run in runs
    ]
    path = checkpoints[0].write(str(tmp_path / key.replace(" ", "_")))
    checkpoints[1].read(path).assert_existing_objects_matched()
    for name, value in runs[0].optimizer.state().items():
      restored = runs[1].optimizer.state().get(name)
      if restored is not None:
        np.testing.assert_array_equal(value, restored, err_msg=f"{key} {name}")
    np.testing.assert_array_equal(runs[0].kernel, runs[1].kernel)


# --- Used optimizers ----------------------------------------------------------


@pytest.mark.parametrize("inner", ["momentum", "nesterov", "adam", "rmsprop"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_optimizer_that_has_stepped_starts_anew_off_the_mask(inner, wrapped):
  used = sparse_methods.INNER[inner]()
  kernel = tf.Variable(tf.ones([10, 10]), name="layer/weights")
  for _ in range(3):
    used.apply_gradients([(tf.ones([10, 10]), kernel)])
  before = [used.get_slot(kernel, n).numpy() for n in used.get_slot_names()]
  optimizer = sparse_optimizers.SparseFixedMaskOptimizer(
    LossScale(used, 4.0) if wrapped else used
  )
  optimizer.sparsify([kernel], "random", 0.8)
  mask = optimizer.layers[0].mask.numpy()
  for name, old in zip(used.get_slot_names(), before, strict=True):
    slot = used.get_slot(kernel, name).numpy()
    np.testing.assert_array_equal(slot[~mask], float(name == "rms"))
    np.testing.assert_array_equal(slot[mask], old[mask])
  for _ in range(4):
    optimizer.apply_gradients([(tf.zeros([10, 10]), kernel)])
  assert np.count_nonzero(kernel) == 20
  assert not kernel.numpy()[~mask].any()


# --- What is refused ----------------------------------------------------------


class _FakeKerasOptimizer:
  __module__ = "tf_keras.src.optimizers"


@pytest.mark.parametrize("name", sparse_methods.METHODS)
def test_keras_optimizers_are_referred_to_rigl_keras(name):
  keras = pytest.importorskip("keras", minversion="3.0")
  method = sparse_methods.METHODS[name]
  for inner in (
    keras.optimizers.SGD(0.1),
    keras.optimizers.Adam(),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
    _FakeKerasOptimizer(),
  ):
    with pytest.raises(ValueError, match="`optimizer`.*`rigl.keras`"):
      method.make(inner, **method.arguments)


def test_classes_sparse_optimizers_and_inner_sums_are_refused():
  make = sparse_optimizers.SparseFixedMaskOptimizer
  with pytest.raises(ValueError, match="class MomentumOptimizer.*instance"):
    make(v1.MomentumOptimizer)
  for inner in (make(_momentum()), LossScale(make(_momentum()), 2.0)):
    with pytest.raises(ValueError, match="must not be or hold a sparse opt"):
      make(inner)
  shards = tf.compat.v1.tpu.CrossShardOptimizer(_momentum())
  with pytest.raises(ValueError, match="outermost.*MixedPrecision"):
    make(LossScale(shards, 2.0))


def test_a_sparse_optimizer_may_itself_be_wrapped():
  run = Trained("rigl", _momentum())
  outside = LossScale(run.optimizer, 8.0)
  for _ in range(12):
    gradient = tf.cast(run.rng.normal(size=run.kernel.shape), tf.float32)
    outside.apply_gradients([(gradient, run.kernel)])
    assert not run.off_mask().any()
