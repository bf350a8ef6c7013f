# SPDX-License-Identifier: Apache-2.0
"""Every method that trains layers of blocks."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rigl import sparse_optimizers
from rigl.sparse import BlockSparseDense, block_structure
from rigl.sparse_optimizers import blocks

v1 = tf.compat.v1.train
METHODS = {
  "rigl": sparse_optimizers.SparseRigLOptimizer,
  "set": sparse_optimizers.SparseSETOptimizer,
  "static": sparse_optimizers.SparseStaticOptimizer,
  "scratch": sparse_optimizers.SparseFixedMaskOptimizer,
}
DROP_GROW = ["rigl", "set", "static"]
BATCH, SIZES, BLOCK = 12, (24, 24, 24), 4
_RNG = np.random.default_rng(0)
IMAGES = _RNG.normal(size=(120, BATCH, SIZES[0])).astype(np.float32)
LABELS = _RNG.integers(SIZES[-1], size=(120, BATCH)).astype(np.int32)


def make(name, inner=None, frequency=3, **options):
  inner = inner or v1.MomentumOptimizer(0.1, 0.9)
  options = {"mask_engine": "numpy", **options}
  if name != "scratch":
    options = {"drop_fraction": 0.4, **options}
    return METHODS[name](inner, 0, 10**6, frequency, **options)
  return METHODS[name](inner, **options)


class Run:
  """Two layers of blocks in training."""

  def __init__(self, name="rigl", inner=None, **options):
    self.layers = [
      BlockSparseDense(*sizes, 0.5, block=BLOCK, name=f"layer{i}")
      for i, sizes in enumerate(zip(SIZES, SIZES[1:], strict=False))
    ]
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
    self.step = tf.Variable(0, dtype=tf.int64, aggregation=aggregation)
    self.optimizer = make(name, inner, **options)
    self.optimizer.create_masks(self.layers)

  @property
  def variables(self):
    return [v for la in self.layers for v in (la.values, la.bias)]

  def gradients(self, x, y):
    with tf.GradientTape() as tape:
      logits = self.layers[1](tf.nn.relu(self.layers[0](x)))
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
      loss = tf.reduce_sum(losses) / BATCH
    gradients = tape.gradient(loss, self.variables)
    return list(zip(gradients, self.variables, strict=True))

  def iterate(self, x, y):
    self.optimizer.apply_gradients(self.gradients(x, y), self.step)

  def train(self, n, start=0, iterate=None):
    for i in range(start, start + n):
      (iterate or self.iterate)(*map(tf.constant, (IMAGES[i], LABELS[i])))
    return self

  def grids(self):
    return [layer.grid() for layer in self.layers]

  def state(self):
    own = [v for la in self.layers for v in (la.outputs_of, la.numbers_of)]
    variables = [*own, *self.variables, self.step]
    return [v.numpy() for v in variables + self.optimizer.variables()]


def check_tables(layer):
  """The tables belong to each other, and all degrees are the same."""
  grid = layer.grid()
  assert block_structure.degrees_of(grid) == layer.degrees
  outputs_of, numbers_of = block_structure.index_arrays(grid)
  np.testing.assert_array_equal(layer.outputs_of, outputs_of)
  np.testing.assert_array_equal(layer.numbers_of, numbers_of)


@pytest.mark.parametrize("name", DROP_GROW)
def test_degrees_stay_through_a_hundred_updates(name):
  run = Run(name, frequency=1)
  before = run.grids()
  iterate = tf.function(run.iterate, autograph=False)
  for i in range(100):
    run.train(1, start=i, iterate=iterate)
    for layer in run.layers:
      assert block_structure.degrees_of(layer.grid()) == layer.degrees
  for layer, grid in zip(run.layers, before, strict=True):
    check_tables(layer)
    assert layer.sparsity == 0.5
    moved = (layer.grid() != grid).any()
    assert moved == (name != "static")


@settings(deadline=None, max_examples=25)
@given(
  st.integers(1, 6),
  st.integers(1, 6),
  st.floats(0, 0.99),
  st.floats(0, 1),
  st.integers(0, 1000),
)
def test_updates_of_any_grid(rows, columns, sparsity, fraction, seed):
  """Against what the docstring says, with NumPy."""
  layer = BlockSparseDense(
    rows * 2, columns * 2, sparsity, block=2, seed=seed, name="layer"
  )
  rule = make("rigl", noise_std=0.0, drop_fraction=0.5)
  rng = np.random.default_rng(seed)
  values = rng.normal(size=layer.values.shape).astype(np.float32)
  slot = rng.normal(size=values.shape).astype(np.float32)
  signal = rng.gamma(2.0, size=(rows, columns)).astype(np.float32)
  old = layer.grid()
  index = [layer.outputs_of.read_value(), layer.numbers_of.read_value()]
  new = blocks.drop_and_grow(
    rule,
    blocks.Blocks(blocks.BlockIndex(*index), values, [tf.constant(slot)] * 2),
    [0.25, None],
    tf.constant([1, 2], tf.uint32),
    tf.constant(fraction),
    fraction,
    tf.constant(signal),
  )
  assert all(each.dtype == tf.int32 for each in new.tables)
  number = values.shape[0]
  num_dropped = int(np.float32(number) * np.float32(fraction))
  norms = np.sqrt((values**2).sum((1, 2)))
  kept = np.zeros_like(old)
  order = np.argsort(norms)[num_dropped:]
  kept[tuple(np.argwhere(old)[order].T)] = True
  layer.outputs_of.assign(new.tables.columns)
  layer.numbers_of.assign(new.tables.numbers)
  check_tables(layer)
  grid = layer.grid()
  assert grid[kept].all()
  dropped = old & ~kept
  grown = grid & ~kept
  np.testing.assert_array_equal(grown.sum(0), dropped.sum(0))
  np.testing.assert_array_equal(grown.sum(1), dropped.sum(1))
  assert signal[grown].sum() >= signal[dropped].sum() - 1e-4
  for at, (value, first, second) in zip(
    np.argwhere(grid), zip(new.values, *new.slots, strict=True), strict=True
  ):
    if old[tuple(at)]:  # Kept, or grown back at once: the same bits.
      place = int(old.reshape(-1)[: at[0] * columns + at[1]].sum())
      np.testing.assert_array_equal(value, values[place])
      np.testing.assert_array_equal(first, slot[place])
      np.testing.assert_array_equal(second, slot[place])
    else:
      assert not np.any(value) and not np.any(second)
      np.testing.assert_array_equal(first, np.full((2, 2), 0.25))


def test_static_starts_the_smallest_blocks_anew():
  layer = BlockSparseDense(8, 8, 0.5, block=2, name="layer")
  layer.values.assign(
    np.arange(1, 9, dtype=np.float32)[:, None, None] * np.ones((8, 2, 2))
  )
  optimizer = make("static", noise_std=0.0)
  optimizer.create_masks([layer])
  slot = optimizer.get_slot(layer.values, "momentum")
  slot.assign(tf.ones_like(slot))
  before = layer.grid()
  optimizer.update_masks()
  np.testing.assert_array_equal(layer.grid(), before)
  expected = np.array([0, 0, 0, 4, 5, 6, 7, 8])  # int(8 * 0.4) = 3.
  np.testing.assert_array_equal(layer.values[:, 0, 0], expected)
  np.testing.assert_array_equal(slot[:, 1, 1], expected > 0)
  assert optimizer.changed_in_last_update() == {"layer": 0}


def test_rigl_grows_where_the_dense_gradient_is_large():
  layer = BlockSparseDense(8, 8, 0.75, block=2, name="layer", use_bias=False)
  layer.values.assign(1e-3 * tf.ones_like(layer.values))
  old = layer.grid()
  # The best grid of one block per row and column, without the old ones.
  wanted = np.roll(old, 1, axis=1)
  optimizer = make("rigl", noise_std=0.0, drop_fraction=1.0)
  optimizer.create_masks([layer])
  strength = np.where(wanted, 10.0, 1.0) + np.zeros((4, 4))
  upstream = np.repeat(strength, 2, 1)  # [input blocks, outputs]
  with tf.GradientTape() as tape:
    # Input block i alone is 1 in example i.
    y = layer(tf.constant(np.repeat(np.eye(4), 2, 1), tf.float32))
    loss = tf.reduce_sum(y * upstream.astype(np.float32))
  gradient = tape.gradient(loss, layer.values)
  optimizer.update_masks([(gradient, layer.values)])
  np.testing.assert_array_equal(layer.grid(), wanted)
  assert not layer.values.numpy().any()
  assert optimizer.changed_in_last_update() == {"layer": 8 * 4}


@pytest.mark.parametrize("batches", [1, 2])
def test_gradient_norms_are_those_of_the_dense_gradient(batches):
  layer = BlockSparseDense(12, 8, 0.5, block=2, name="layer")
  layer.keep_batches()
  rng = np.random.default_rng(1)
  dense = np.zeros((12, 8))
  for _ in range(batches):
    x = rng.normal(size=(5, 12)).astype(np.float32)
    upstream = rng.normal(size=(5, 8)).astype(np.float32)
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(layer(x) * upstream)
    tape.gradient(loss, layer.values)
    dense += x.T @ upstream
  expected = dense.reshape(6, 2, 4, 2).transpose(0, 2, 1, 3)
  expected = np.sqrt((expected**2).sum((2, 3)))
  taken = layer.take_batches()
  np.testing.assert_allclose(blocks.gradient_norms(taken), expected, rtol=1e-5)
  doubled = blocks.gradient_norms(taken, lambda tensors: [2 * tensors[0]])
  np.testing.assert_allclose(doubled, 2 * expected, rtol=1e-5)
  assert not layer.take_batches()


@pytest.mark.parametrize(
  ("name", "jit_compile"),
  [
    *((name, False) for name in METHODS),
    # Half a minute on a slow machine: XLA compiles a whole iteration.
    pytest.param("rigl", True, marks=pytest.mark.slow),
  ],
)
def test_eager_graph_and_xla_train_the_same(name, jit_compile):
  eager, compiled = Run(name), Run(name, mask_engine="xla")
  iterate = tf.function(
    compiled.iterate, jit_compile=jit_compile, autograph=False
  )
  start = eager.grids()
  eager.train(8)
  compiled.train(2, iterate=iterate)
  traces = iterate.experimental_get_tracing_count()
  compiled.train(6, start=2, iterate=iterate)
  assert iterate.experimental_get_tracing_count() == traces
  for one, other in zip(eager.state(), compiled.state(), strict=True):
    if one.dtype.kind == "f":
      np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    else:
      np.testing.assert_array_equal(one, other)
  moved = any((a != b).any() for a, b in zip(start, eager.grids(), strict=True))
  assert moved == (name in ("rigl", "set"))


@pytest.mark.parametrize("inner", ["sgd", "adam", "adagrad", "rmsprop"])
def test_every_wrapped_optimizer_learns(inner):
  run = Run("rigl", sparse_methods.INNER[inner](), weight_decay=1e-4)
  x, y = map(tf.constant, (IMAGES[0], LABELS[0]))

  def loss():
    logits = run.layers[1](tf.nn.relu(run.layers[0](x)))
    return float(
      tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    )

  first = loss()
  iterate = tf.function(run.iterate, autograph=False)
  for _ in range(30):
    iterate(x, y)
  assert loss() < 0.7 * first


@pytest.mark.parametrize("name", ["rigl", "set"])
def test_a_resumed_run_has_the_same_bits(name, tmp_path):
  def checkpoint(run):
    return tf.train.Checkpoint(
      layers=run.layers, optimizer=run.optimizer, step=run.step
    )

  whole = Run(name).train(8)
  path = checkpoint(whole).save(str(tmp_path / "state"))
  whole.train(8, start=8)
  resumed = Run(name)
  checkpoint(resumed).restore(path).assert_consumed()
  resumed.train(8, start=8)
  np.testing.assert_equal(resumed.state(), whole.state())


def test_the_summary_shows_the_whole_kernel():
  layer = BlockSparseDense(24, 24, 0.75, block=6, name="hidden")
  optimizer = make("set")
  optimizer.create_masks([layer])
  row = optimizer.summary().splitlines()[1].split()
  assert row[:4] == ["hidden", "24x24", "144", "75.00%"]


@pytest.mark.parametrize("name", ["momentum", "dnw", "snip", "prune"])
def test_other_methods_are_refused(name):
  layer = BlockSparseDense(8, 8, 0.0, block=4, name="layer")
  with pytest.raises(ValueError, match="RigL, SET, static and fixed masks can"):
    sparse_methods.make(name).create_masks([layer])


def test_misuse_is_refused():
  layer = BlockSparseDense(8, 8, 0.5, block=4, name="layer")
  with pytest.raises(ValueError, match="call create_masks"):
    make("rigl").sparsify([layer])
  with pytest.raises(ValueError, match="no `masks`"):
    make("rigl").create_masks([layer], {"layer": np.ones((2, 4, 4))})
  with pytest.raises(ValueError, match="no `structure`"):
    make("rigl", structure="fan_in").create_masks([layer])
  with pytest.raises(ValueError, match="must be 'zeros'"):
    make("set", grow_init="random_normal").create_masks([layer])
  with pytest.raises(ValueError, match="`initial_acc_scale` must be 0"):
    make("rigl", initial_acc_scale=0.5).create_masks([layer])


def test_gradients_of_another_function_are_refused():
  run = Run("rigl")
  with pytest.raises(RuntimeError, match="no backward pass went through"):
    pairs = [(tf.zeros_like(v), v) for v in run.variables]
    run.optimizer.update_masks(pairs, run.step)
  gradients = tf.function(
    lambda x, y: [g for g, _ in run.gradients(x, y)], autograph=False
  )
  found = gradients(tf.constant(IMAGES[0]), tf.constant(LABELS[0]))
  with pytest.raises(RuntimeError, match="in the function that calls"):
    pairs = list(zip(found, run.variables, strict=True))
    run.optimizer.update_masks(pairs, run.step)
  # A step needs no dense gradient.
  run.optimizer.apply_masked_gradients(pairs, run.step)


def test_what_an_eager_pass_left_is_no_part_of_the_gradient_of_a_function():
  run, other = Run("rigl"), Run("rigl")
  run.gradients(tf.constant(IMAGES[1]), tf.constant(LABELS[1]))
  start = run.grids()
  run.train(1, iterate=tf.function(run.iterate, autograph=False))
  other.train(1)
  for one, two, before in zip(run.grids(), other.grids(), start, strict=True):
    np.testing.assert_array_equal(one, two)
    assert (one != before).any()
