# SPDX-License-Identifier: Apache-2.0
"""Every method on sparse layers, against masked training of the same network.

The random numbers are the same, so the same connections are dropped and grown;
sums are rounded differently.
"""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import FREQUENCY, INNER, METHODS, Model, Run

from rigl import sparse_optimizers
from rigl.sparse import SparseDense, product

NAMES = ["rigl", "set", "static", "momentum", "snip", "prune", "scratch"]
N_ITERATIONS = 26


@pytest.fixture(params=["numba", "tensorflow"])
def computed_by(request, monkeypatch):
  if request.param == "numba":
    pytest.importorskip("numba")
  monkeypatch.setattr(product, "has_numba", lambda: request.param == "numba")


class SparseRun:
  """The network of `sparse_methods`, of sparse layers."""

  def __init__(self, name, inner="momentum", compiled=False, **options):
    self.masked = Run(name, inner, **options)
    self.optimizer = sparse_methods.make(name, inner, **options)
    self.step = tf.Variable(0, dtype=tf.int64)
    masks = [layer.mask for layer in self.masked.optimizer.layers]
    model = Model()
    self.layers = [
      SparseDense.from_kernel(kernel, mask, bias, name=f"layer{i}")
      for i, (kernel, mask, bias) in enumerate(
        zip(model.kernels, masks, model.biases, strict=True), 1
      )
    ]
    self.optimizer.create_masks(self.layers)
    self.losses = []
    self._iterate = self.iterate
    if compiled:
      self._iterate = tf.function(self.iterate, autograph=False)

  @property
  def variables(self):
    layers = self.layers
    return [la.values for la in layers] + [la.bias for la in layers]

  def iterate(self, x, y):
    with tf.GradientTape() as tape:
      logits = self.layers[1](tf.nn.relu(self.layers[0](x)))
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
      loss = tf.reduce_sum(losses) / sparse_methods.BATCH
    gradients = tape.gradient(loss, self.variables)
    pairs = list(zip(gradients, self.variables, strict=True))
    self.optimizer.apply_gradients(pairs, self.step)
    return loss

  def train(self, n):
    for i in range(n):
      loss = self._iterate(sparse_methods.IMAGES[i], sparse_methods.LABELS[i])
      self.losses.append(float(loss))
      self.masked.iterate(i)
      yield i

  def check(self):
    """Compares with masked training: masks, weights and slots."""
    for mine, other, mask in zip(
      self.layers,
      self.masked.model.kernels,
      self.masked.masks(),
      strict=True,
    ):
      kernel = mine.kernel()
      np.testing.assert_array_equal(kernel != 0, other.numpy() != 0)
      assert not kernel[~mask].any()
      np.testing.assert_allclose(kernel, other, rtol=2e-4, atol=2e-5)
      for slot in self.optimizer.get_slot_names():
        dense = self.masked.optimizer.get_slot(other, slot).numpy()
        stored = self.optimizer.get_slot(mine.values, slot).numpy()
        positions = mine.positions.numpy()
        used = (positions < dense.size) & (mine.values.numpy() != 0)
        np.testing.assert_allclose(
          stored[used], dense.reshape(-1)[positions[used]], rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_same_connections_as_in_masked_training(name, computed_by):
  options = {"initial_acc_scale": 0.0} if name == "rigl" else {}
  run = SparseRun(name, weight_decay=1e-3, **options)
  for _ in run.train(N_ITERATIONS):
    run.check()


@pytest.mark.parametrize("inner", [i for i in INNER if i != "momentum"])
@pytest.mark.parametrize("name", ["rigl", "prune"])
def test_every_wrapped_optimizer(name, inner):
  options = {"initial_acc_scale": 0.0} if name == "rigl" else {}
  run = SparseRun(name, inner, **options)
  for _ in run.train(2 * FREQUENCY):
    pass
  run.check()


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_loop_does_the_same_without_tracing_again(name):
  run = (
    SparseRun(name, compiled=True, noise_std=0.0)
    if name in ("rigl", "set", "static", "momentum")
    else SparseRun(name, compiled=True)
  )
  traces = []
  for _ in run.train(N_ITERATIONS):
    traces.append(run._iterate.experimental_get_tracing_count())
  run.check()
  assert traces[-1] == traces[1]


@pytest.mark.parametrize(
  "grow_init", ["random_normal", "random_uniform_2", "grad_sign", "grad_scale"]
)
def test_new_connections_start_as_in_masked_training(grow_init):
  run = SparseRun("rigl", grow_init=grow_init, initial_acc_scale=0.3)
  for _ in run.train(2 * FREQUENCY + 2):
    pass
  run.check()


@pytest.mark.parametrize("name", ["rigl", "momentum"])
@pytest.mark.parametrize("block", [1, 8, 24])
def test_blocks_change_nothing(block, name, monkeypatch):
  monkeypatch.setattr(sparse_optimizers.dense_rows, "BLOCK_SIZE", block)
  run = SparseRun(name)
  for _ in run.train(2 * FREQUENCY + 2):
    pass
  run.check()


def test_ties_are_broken_by_position(monkeypatch):
  # All growth scores are equal: the first inactive connections grow.
  monkeypatch.setattr(sparse_optimizers.dense_rows, "BLOCK_SIZE", 4)
  kernel = np.zeros((4, 3), np.float32)
  kernel[3] = [1.0, 2.0, 3.0]
  layer = SparseDense.from_kernel(kernel, kernel != 0, name="layer")
  optimizer = sparse_optimizers.SparseRigLOptimizer(
    tf.compat.v1.train.GradientDescentOptimizer(0.1),
    *(0, 10, 1, 0.7),
    noise_std=0.0,
  )
  optimizer.create_masks([layer])
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(tf.ones([1, 4])))
  optimizer.update_masks([(tape.gradient(loss, layer.values), layer.values)])
  # int(3 * 0.7) = 2 are dropped, 1.0 and 2.0.
  assert np.flatnonzero(layer.mask()).tolist() == [0, 1, 11]
  assert layer.kernel()[3].tolist() == [0.0, 0.0, 3.0]
  assert optimizer.changed_in_last_update() == {"layer": 4}


def test_a_resumed_run_has_the_same_bits(tmp_path):
  def state(run):
    variables = run.variables + [la.positions for la in run.layers]
    return [v.numpy() for v in variables + run.optimizer.variables()]

  def checkpoint(run):
    return tf.train.Checkpoint(
      layers=run.layers, optimizer=run.optimizer, step=run.step
    )

  whole = SparseRun("rigl")
  for i in whole.train(N_ITERATIONS):
    if i == 12:
      path = checkpoint(whole).save(str(tmp_path / "state"))
  resumed = SparseRun("rigl")
  checkpoint(resumed).restore(path)
  for i in range(13, N_ITERATIONS):
    resumed.iterate(sparse_methods.IMAGES[i], sparse_methods.LABELS[i])
  np.testing.assert_equal(state(resumed), state(whole))


def test_a_method_that_needs_every_weight_is_refused():
  layer = SparseDense(8, 4, 0.0, name="layer")
  with pytest.raises(ValueError, match="cannot train layers that store only"):
    sparse_methods.make("dnw").create_masks([layer])


def test_misuse_is_refused():
  layer = SparseDense(8, 4, 0.5, name="layer")
  optimizer = sparse_methods.make("rigl")
  with pytest.raises(ValueError, match="call create_masks"):
    optimizer.sparsify([layer])
  with pytest.raises(ValueError, match="no `masks`"):
    optimizer.create_masks({"layer": layer}, {"layer": np.ones(16)})
  with pytest.raises(ValueError, match="no `structure`"):
    sparse_methods.make("rigl", structure="2:4").create_masks([layer])
  with pytest.raises(ValueError, match="must not be 'initial_dist'"):
    sparse_methods.make("rigl", grow_init="initial_dist").create_masks([layer])
  optimizer.create_masks([layer])
  gradient = tf.zeros_like(layer.values)
  with pytest.raises(RuntimeError, match="no backward pass"):
    optimizer.update_masks([(gradient, layer.values)])


def test_the_summary_shows_the_whole_kernel():
  layer = SparseDense(10, 10, 0.75, name="hidden")
  optimizer = sparse_methods.make("set")
  optimizer.create_masks([layer])
  row = optimizer.summary().splitlines()[1].split()
  assert row[:4] == ["hidden", "10x10", "25", "75.00%"]
  optimizer.update_masks()
  assert optimizer.summary().splitlines()[1].split()[4] != "0.00%"


def test_empty_rows_columns_and_layers_train():
  kernel = np.zeros((5, 4), np.float32)
  kernel[1, 2] = 1.0
  layers = [
    SparseDense.from_kernel(kernel, kernel != 0, np.zeros(4), name="a"),
    SparseDense.from_kernel(np.ones((4, 1)), None, np.zeros(1), name="b"),
  ]
  optimizer = sparse_methods.make("rigl", noise_std=0.0)
  optimizer.create_masks(layers)
  variables = [v for layer in layers for v in layer.trainable_variables]
  for _ in range(7):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(layers[1](layers[0](tf.ones([3, 5]))) ** 2)
    gradients = tape.gradient(loss, variables)
    optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
  assert layers[0].mask().sum() == 1 and layers[1].mask().all()


def test_options_of_the_table_are_those_of_the_suite():
  others = {"dnw", "granet", "top_kast", "baseline", *sparse_methods.BUDGETED}
  assert set(NAMES) | others == set(METHODS)
