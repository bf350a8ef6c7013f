# SPDX-License-Identifier: Apache-2.0
"""Every method of `rigl.keras` on sparse layers, against masked training.

The random numbers are the same, so the same connections are dropped and grown;
sums are rounded differently.
"""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from sparse_keras import (
  CLASSES,
  FREQUENCY,
  IMAGES,
  INNER,
  INPUTS,
  LABELS,
  METHODS,
  SPARSITY,
  Pair,
  compile_,
  make_model,
  state,
)

import rigl.keras
import rigl.sparse
from rigl.sparse.keras import SparseDense

N_ITERATIONS = 3 * FREQUENCY + 4


@pytest.mark.parametrize("method", METHODS)
def test_the_same_connections_as_in_masked_training(method):
  pair = Pair(method)
  for i in range(N_ITERATIONS):
    pair.train(1, start=i)
    pair.check()
  active = [layer.mask().sum() for layer in pair.sparse.layers]
  assert sum(active) < 0.6 * 2 * 96
  optimizer = pair.sparse.optimizer
  assert optimizer.summary() == pair.masked.optimizer.summary()
  assert optimizer.sparsities == pytest.approx(pair.masked.optimizer.sparsities)


@pytest.mark.parametrize("inner", [i for i in INNER if i != "momentum"])
def test_every_wrapped_optimizer(inner):
  pair = Pair("rigl", inner)
  pair.train(N_ITERATIONS)
  pair.check()


@pytest.mark.parametrize("method", ["rigl", "snfs", "snip"])
def test_eager_training_with_accumulated_gradients(method):
  options = {"gradient_accumulation_steps": 2}
  pair = Pair(method, eager=True, inner_options=options)
  pair.train(2 * N_ITERATIONS)
  pair.check()


@pytest.mark.parametrize("accumulation", [None, 2])
@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_a_scaled_loss_and_a_regularizer(method, accumulation):
  # New weights start at the gradient, which shows its scale.
  grow = {"grow_init": "grad_scale"} if method == "rigl" else {}
  pair = Pair(
    method,
    layer_options={"kernel_regularizer": keras.regularizers.L2(0.1)},
    inner_options={
      "loss_scale_factor": 8.0,
      "gradient_accumulation_steps": accumulation,
    },
    **grow,
  )
  pair.train(2 * FREQUENCY * (accumulation or 1) + 4)
  pair.check()


def test_nothing_is_traced_again_while_connections_move():
  pair = Pair("rigl")
  counts = []
  for i in range(N_ITERATIONS):
    pair.train(1, start=i)
    counts.append(
      pair.sparse.train_function.experimental_get_tracing_count()
      if hasattr(pair.sparse.train_function, "experimental_get_tracing_count")
      else 0
    )
  assert counts[-1] == counts[1]


def test_backward_passes_are_forgotten():
  for method in ("rigl", "set"):
    pair = Pair(method)
    pair.train(N_ITERATIONS)
    assert not any(la.take_batches() for la in pair.sparse.layers)


def test_backward_passes_are_kept_as_long_as_the_optimizer_lives():
  layer = SparseDense(CLASSES)
  layer.build([None, INPUTS])
  first, second = rigl.keras.RigL("sgd"), rigl.keras.RigL("sgd")
  first.build(layer.trainable_variables)
  second.build(layer.trainable_variables)
  del first
  gc.collect()
  assert layer.product.keeps_batches
  del second
  gc.collect()
  assert not layer.product.keeps_batches


def test_frozen_layers_forget_their_backward_passes():
  model = rigl.sparse.convert(make_model(), SPARSITY)
  optimizer = rigl.keras.RigL("sgd", begin_step=50, mask_engine="numpy")
  optimizer.build(model.trainable_variables)
  model.layers[1].trainable = False
  compile_(model, optimizer, run_eagerly=True)
  for i in range(3):
    model.train_on_batch(IMAGES[i], LABELS[i])
  assert not any(layer.take_batches() for layer in model.layers)


def test_fit_with_several_steps_per_execution():
  results = []
  for steps in (1, 4):
    model = rigl.sparse.convert(make_model(), SPARSITY, seed=1)
    optimizer = rigl.keras.RigL("adam", frequency=3, mask_engine="numpy")
    compile_(model, optimizer, steps_per_execution=steps)
    x, y = IMAGES.reshape(-1, INPUTS), LABELS.reshape(-1)
    model.fit(x[:256], y[:256], batch_size=16, shuffle=False, verbose=0)
    results.append([layer.mask() for layer in model.layers])
    assert int(optimizer.iterations) == 12
  np.testing.assert_array_equal(results[0][0], results[1][0])
  np.testing.assert_array_equal(results[0][1], results[1][1])


def test_dense_and_sparse_layers_in_one_model():
  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input([INPUTS]),
      SparseDense(10, "relu", sparsity=0.8, seed=1, name="stored"),
      keras.layers.Dense(10, "relu", name="masked"),
      keras.layers.Dense(CLASSES, name="logits"),
    ]
  )
  optimizer = rigl.keras.RigL(
    keras.optimizers.SGD(0.1),
    distribution={"masked": 0.5, "logits": 0.0},
    frequency=2,
    mask_engine="numpy",
  )
  compile_(model, optimizer)
  for i in range(6):
    model.train_on_batch(IMAGES[i], LABELS[i])
    found = {p.split("/")[-2]: s for p, s in optimizer.sparsities.items()}
    assert found == pytest.approx({"stored": 0.8, "masked": 0.5, "logits": 0})
  assert min(list(optimizer.changed_in_last_update().values())[:2]) > 0
  config = optimizer.get_config()
  assert {p.split("/")[-2] for p in config["distribution"]} == {
    "masked",
    "logits",
  }


@pytest.mark.parametrize("method", ["rigl", "snfs", "pruning"])
@pytest.mark.parametrize("way", ["keras", "weights", "checkpoint"])
def test_a_resumed_run_has_the_same_bits(method, way, tmp_path):
  def make():
    sparsity = 0.0 if method == "pruning" else SPARSITY
    keras.utils.set_random_seed(9)
    model = keras.Sequential(
      [
        keras.Input([INPUTS]),
        SparseDense(8, "relu", sparsity=sparsity, seed=1),
        SparseDense(CLASSES, sparsity=sparsity, seed=2),
      ]
    )
    optimizer = rigl.keras.METHODS[method](
      INNER["adamw"](), SPARSITY, mask_engine="numpy", **METHODS[method]
    )
    return compile_(model, optimizer)

  def train(model, first, last):
    for i in range(first, last):
      model.train_on_batch(IMAGES[i], LABELS[i])

  whole = make()
  train(whole, 0, 8)
  again = make()
  if way == "keras":
    whole.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
  elif way == "weights":
    whole.save_weights(tmp_path / "model.weights.h5")
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
  else:
    prefix = tf.train.Checkpoint(model=whole).save(str(tmp_path / "model"))
    again.optimizer.build(again.trainable_variables)
    tf.train.Checkpoint(model=again).restore(prefix).assert_consumed()
  np.testing.assert_equal(state(again), state(whole))
  train(whole, 8, 15)
  train(again, 8, 15)
  np.testing.assert_equal(state(again), state(whole))


def test_misuse_is_refused():
  def build(optimizer, **options):
    model = keras.Sequential(
      [keras.Input([8]), SparseDense(4, name="layer", **options)]
    )
    optimizer.build(model.trainable_variables)

  with pytest.raises(ValueError, match="keeps a weight of every connection"):
    build(rigl.keras.DNW("sgd"), sparsity=0.0)
  with pytest.raises(ValueError, match="SNIP starts dense, but .* 4 of 32"):
    build(rigl.keras.SNIP("sgd"))
  with pytest.raises(ValueError, match="`structure` must be None.*2:4"):
    build(rigl.keras.RigL("sgd", structure="2:4"))
  with pytest.raises(ValueError, match="must not be 'initial_dist'"):
    build(rigl.keras.SET("sgd", grow_init="initial_dist"))
  with pytest.raises(ValueError, match="`distribution` must have keys"):
    build(rigl.keras.RigL("sgd", distribution={"layer": 0.5}))
  optimizer = rigl.keras.RigL("sgd")
  scaled = keras.optimizers.LossScaleOptimizer(optimizer)
  with pytest.raises(ValueError, match="inside a LossScaleOptimizer"):
    build(optimizer)
  del scaled
  strategy = tf.distribute.MirroredStrategy(["CPU:0"])
  with strategy.scope():
    build(rigl.keras.RigL("sgd"))  # One replica.


@pytest.mark.parametrize("method", ["rigl", "set", "snfs", "fixed_mask"])
def test_layers_with_no_and_with_one_connection(method):
  model = keras.Sequential(
    [keras.Input([INPUTS])]
    + [SparseDense(CLASSES, connections=n, seed=n) for n in (1, 0)]
  )
  options = METHODS[method]
  if method != "fixed_mask":
    options = options | {"drop_fraction": 1.0}
  optimizer = rigl.keras.METHODS[method](
    INNER["adam"](), mask_engine="numpy", **options
  )
  compile_(model, optimizer, run_eagerly=True)
  optimizer.build(model.trainable_variables)
  for i in range(2 * FREQUENCY):
    loss = model.train_on_batch(IMAGES[i], LABELS[i])
    assert np.isfinite(loss)
    assert [layer.mask().sum() for layer in model.layers] == [1, 0]


def test_growth_continues_after_pruning():
  model = rigl.sparse.convert(make_model(), masks={"logits": np.ones([8, 12])})
  sparse = model.layers[1]
  for optimizer in (
    rigl.keras.SNIP("adam", 0.5, filters="logits"),
    rigl.keras.RigL("adam", filters="logits", frequency=1),
  ):
    compile_(model, optimizer, run_eagerly=True)
    optimizer.build(model.trainable_variables)
    before = sparse.mask()
    for i in range(3):
      model.train_on_batch(IMAGES[i], LABELS[i])
    assert sparse.values.shape == (96,) and sparse.mask().sum() == 48
    assert (sparse.mask() != before).any()
    assert optimizer.sparsities == {sparse.values.path: 0.5}


def test_growth_without_a_backward_pass_is_refused():
  model = compile_(
    keras.Sequential([keras.Input([INPUTS]), SparseDense(CLASSES)]),
    rigl.keras.RigL("sgd", frequency=1),
    run_eagerly=True,
  )
  gradients = [tf.zeros_like(v) for v in model.trainable_variables]
  model.optimizer.build(model.trainable_variables)
  with pytest.raises(RuntimeError, match="no backward pass"):
    model.optimizer.apply(gradients)
