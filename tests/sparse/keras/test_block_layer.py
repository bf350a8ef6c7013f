# SPDX-License-Identifier: Apache-2.0
"""Keras layers of blocks: what they compute, training, and files."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl.keras
from rigl.sparse import BlockSparseDense as Module
from rigl.sparse import block_product, block_structure
from rigl.sparse.keras import BlockSparseDense

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 24)).astype("float32")
Y = RNG.integers(4, size=64)


def make_model(**options):
  return keras.Sequential(
    [
      keras.Input([24]),
      BlockSparseDense(24, "relu", sparsity=0.5, block=4, seed=1, **options),
      keras.layers.Dense(4),
    ]
  )


def compiled(method="RigL", frequency=2, inner=None, **options):
  keras.utils.set_random_seed(0)
  model = make_model()
  arguments = dict(filters=["block"], mask_engine="numpy")
  if method != "FixedMask":
    arguments |= dict(frequency=frequency, drop_fraction=0.4)
  optimizer = getattr(rigl.keras, method)(
    inner or keras.optimizers.SGD(0.1, momentum=0.9), **arguments, **options
  )
  model.compile(
    optimizer,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=False,
  )
  return model


def fit(model, epochs=1):
  return model.fit(X, Y, 16, epochs, shuffle=False, verbose=0).history["loss"]


def test_the_layer_computes_what_its_kernel_says():
  keras.utils.set_random_seed(0)
  layer = BlockSparseDense(12, "relu", sparsity=0.5, block=2)
  x = X[:, :8].reshape(4, 16, 8)
  y = layer(x)
  kernel = layer.kernel()
  assert layer.mask().mean() == 0.5 and not kernel[~layer.mask()].any()
  np.testing.assert_allclose(y, np.maximum(x @ kernel, 0), atol=1e-5)
  assert layer.compute_output_shape(x.shape) == y.shape == (4, 16, 12)
  # The core is that of the module, and so are its numbers.
  other = Module.from_kernel(kernel, layer.mask(), block=2)
  np.testing.assert_array_equal(other.values, layer.values)
  np.testing.assert_array_equal(other.numbers_of, layer.numbers_of)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
  layer = BlockSparseDense(12, sparsity=0.5, block=2, dtype=policy)
  y = layer(X[:, :8])
  assert layer.values.dtype == "float32" and y.dtype == policy[6:]
  np.testing.assert_allclose(
    tf.cast(y, tf.float32), X[:, :8] @ layer.kernel(), rtol=0.05, atol=0.05
  )


@pytest.mark.parametrize("method", ["RigL", "SET", "Static", "FixedMask"])
def test_every_method_keeps_the_degrees(method):
  model = compiled(method)
  layer = model.layers[0]
  before = layer.grid()
  losses = fit(model, 3)
  assert losses[-1] < losses[0]
  grid = layer.grid()
  assert block_structure.degrees_of(grid) == layer.degrees
  expected = block_structure.index_arrays(grid)
  np.testing.assert_array_equal(layer.outputs_of, expected[0])
  np.testing.assert_array_equal(layer.numbers_of, expected[1])
  assert (grid != before).any() == (method in ("RigL", "SET"))
  optimizer = model.optimizer
  (path,) = optimizer.masks
  np.testing.assert_array_equal(optimizer.masks[path], layer.mask())
  assert optimizer.sparsities == {path: 0.5}
  assert "24x24" in optimizer.summary()
  if method == "RigL":
    assert optimizer.changed_in_last_update()[path] % 16 == 0


def test_rigl_moves_what_the_other_optimizer_moves():
  model = compiled("RigL", noise_std=0.0)
  layer = model.layers[0]
  other = Module.from_kernel(layer.kernel(), layer.mask(), block=4)
  inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
  optimizer = rigl.SparseRigLOptimizer(
    *(inner, 0, -1, 2, 0.4), noise_std=0.0, mask_engine="numpy"
  )
  optimizer.create_masks([other])
  variables = [other.values, layer.bias.value, *model.layers[1].weights]
  copies = [v if v is other.values else tf.Variable(v) for v in variables]
  for i in range(4):
    x, y = X[16 * i : 16 * i + 16], Y[16 * i : 16 * i + 16]
    with tf.GradientTape() as tape:
      hidden = tf.nn.relu(other(x) + copies[1])
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        y, hidden @ copies[2] + copies[3]
      )
      loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, copies)
    optimizer.apply_gradients(zip(gradients, copies, strict=True))
  fit(model)
  np.testing.assert_array_equal(layer.grid(), other.grid())
  np.testing.assert_allclose(layer.kernel(), other.kernel(), atol=1e-4)


def test_a_saved_model_continues_as_it_would_have(tmp_path):
  model = compiled("RigL", inner=keras.optimizers.Adam(0.01))
  fit(model)
  model.save(tmp_path / "model.keras")
  loaded = keras.saving.load_model(tmp_path / "model.keras")
  np.testing.assert_array_equal(loaded.layers[0].grid(), model.layers[0].grid())
  assert fit(loaded) == fit(model)
  np.testing.assert_array_equal(
    loaded.layers[0].kernel(), model.layers[0].kernel()
  )


@pytest.mark.slow  # XLA compiles a whole iteration.
def test_xla_compiles_training():
  model = compiled("RigL")
  model.optimizer._engine = rigl.mask_ops.MaskEngine("xla")
  model.compile(model.optimizer, model.loss, jit_compile=True)
  before = model.layers[0].grid()
  losses = fit(model, 2)
  assert losses[1] < losses[0]
  assert (model.layers[0].grid() != before).any()


@pytest.mark.parametrize("method", ["SNFS", "SNIP", "DNW", "GradualPruning"])
def test_other_methods_are_refused(method):
  model = make_model()
  options = {"end_step": 9} if method == "GradualPruning" else {}
  optimizer = getattr(rigl.keras, method)("sgd", filters=["block"], **options)
  with pytest.raises(ValueError, match="cannot train layers that store only"):
    optimizer.build(model.trainable_variables)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(structure="2:4"), "`structure` must be None"),
    (dict(grow_init="random_normal"), "`grow_init` must be 'zeros'"),
  ],
)
def test_settings_that_need_single_connections_are_refused(options, message):
  optimizer = rigl.keras.SET("sgd", filters=["block"], **options)
  with pytest.raises(ValueError, match=message):
    optimizer.build(make_model().trainable_variables)


def test_accumulated_gradients_are_refused_where_blocks_grow_by_them():
  inner = keras.optimizers.SGD(gradient_accumulation_steps=2)
  optimizer = rigl.keras.RigL(inner, filters=["block"])
  with pytest.raises(ValueError, match="`gradient_accumulation_steps` must be"):
    optimizer.build(make_model().trainable_variables)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (dict(units=0), "`units` must be an integer of at least 1"),
    (dict(sparsity=1), r"`sparsity` must be in \[0, 1\)"),
    (dict(block=5), "allowed are 1, 2, 4, 8, got 5"),
    (dict(seed=-1), "`seed` must be an integer of at least 0"),
  ],
)
def test_bad_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    BlockSparseDense(**{"units": 8, "block": 4, **arguments})


def test_inputs_that_blocks_do_not_divide_are_refused():
  layer = BlockSparseDense(8, block=4)
  with pytest.raises(ValueError, match="`inputs` = 6 and `outputs` = 8"):
    layer.build((None, 6))


def test_backward_passes_are_kept_as_long_as_the_optimizer_lives(monkeypatch):
  """Another optimizer does not take them, so they would fill the memory."""
  monkeypatch.setattr(block_product, "_MOST_BATCHES", 3)
  model = compiled("RigL")
  optimizer = model.optimizer
  optimizer.build(model.trainable_variables)
  model.compile("sgd", model.loss, run_eagerly=True)
  with pytest.raises(RuntimeError, match="without a call of its optimizer"):
    fit(model, 2)
  del optimizer
  gc.collect()
  fit(model, 2)


def test_strip_gives_a_dense_layer_and_dense_slots(tmp_path):
  model = compiled("RigL", inner=keras.optimizers.Adam(0.01))
  fit(model, 2)
  layer = model.layers[0]
  plain = rigl.keras.strip(model)
  dense = plain.layers[0]
  assert type(dense) is keras.layers.Dense
  np.testing.assert_array_equal(dense.kernel, layer.kernel())
  np.testing.assert_array_equal(dense.bias, layer.bias)
  # The moments of active connections are kept; the others start at 0.
  ours, theirs = model.optimizer.inner_optimizer, plain.optimizer
  assert int(theirs.iterations) == int(ours.iterations) > 0
  (mine,) = [k.slots for k in model.optimizer.sparse_kernels]
  found = [v for v in theirs.variables if tuple(v.shape) == (24, 24)]
  assert len(found) == len(mine.states) == 2
  for slot, whole in zip(mine.states, found, strict=True):
    expected = layer.whole(slot.variable.numpy())
    assert not expected[~layer.mask()].any() and expected.any()
    np.testing.assert_array_equal(whole, expected)
  plain.save(tmp_path / "plain.keras")
  assert "rigl" not in plain.to_json()
  loaded = keras.models.load_model(tmp_path / "plain.keras")
  np.testing.assert_allclose(loaded(X), model(X), rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="`in_place` must be False.*to_dense"):
    rigl.keras.strip(model, in_place=True)


def test_to_dense_keeps_what_the_model_computes():
  keras.utils.set_random_seed(0)
  model = make_model(kernel_regularizer="l2", name="blocks")
  dense = rigl.sparse.to_dense(model)
  assert type(dense.get_layer("blocks")) is keras.layers.Dense
  np.testing.assert_allclose(dense(X), model(X), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(sum(dense.losses), sum(model.losses), rtol=1e-5)


def test_the_table_of_costs_counts_all_connections():
  model = compiled("SET")
  table = rigl.keras.summarize_sparsity(model)
  first = table.layers[0]
  assert (first.shape, first.active) == ((24, 24), 24 * 24 // 2)
  assert first.sparse_flops < first.dense_flops
  dense = rigl.sparse.to_dense(model)
  assert str(rigl.keras.summarize_sparsity(dense)) == str(table)
