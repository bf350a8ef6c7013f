# SPDX-License-Identifier: Apache-2.0
"""Kernels that a caller gives: tied, of Keras, of every rank and dtype."""

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf
from sparse_methods import METHODS

_RNG = np.random.default_rng(0)


def _kernel(shape=(6, 4), name="layer/weights", dtype=np.float32):
  return tf.Variable(_RNG.normal(size=shape).astype(dtype), name=name)


def _create(name, optimizer, kernels, sparsity=0.5):
  if METHODS[name].start == "sparse":
    return optimizer.sparsify(kernels, "random", sparsity)
  return optimizer.create_masks(kernels)


# --- One kernel, two names ----------------------------------------------------


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_a_kernel_under_two_names_is_refused_and_left_alone(name):
  embedding = _kernel(name="embedding/table")
  other = _kernel(name="dense/weights")
  before = embedding.numpy(), other.numpy()
  for kernels, message in (
    ({"in": embedding, "mid": other, "out": embedding}, "'in' and 'out'"),
    ([other, embedding, embedding], "kernel of 'embedding' twice"),
  ):
    optimizer = sparse_methods.make(name)
    with pytest.raises(ValueError, match=message):
      _create(name, optimizer, kernels)
    assert not optimizer.layers and not optimizer.state()
  np.testing.assert_array_equal(embedding, before[0])
  np.testing.assert_array_equal(other, before[1])


def test_a_keras_variable_and_its_value_are_one_kernel():
  layer = _keras_dense()
  with pytest.raises(ValueError, match="two names, 'a' and 'b'"):
    sparse_methods.make("set").sparsify(
      {"a": layer.kernel, "b": layer.kernel.value}
    )


# --- Variables of Keras -------------------------------------------------------


def _keras_dense(units=4, inputs=6, name="hidden"):
  keras = pytest.importorskip("keras", minversion="3.0")
  layer = keras.layers.Dense(units, name=name)
  layer.build((None, inputs))
  return layer


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_kernels_of_keras_layers_train(name):
  layers = [_keras_dense(name="first"), _keras_dense(3, 4, name="second")]
  optimizer = sparse_methods.make(name)
  _create(name, optimizer, [layer.kernel for layer in layers])
  assert [la.name for la in optimizer.layers] == ["first", "second"]
  kernels = [layer.kernel for layer in layers]
  before = [kernel.numpy() for kernel in kernels]
  x = tf.constant(_RNG.normal(size=(8, 6)), tf.float32)
  variables = [v for layer in layers for v in layer.trainable_variables]
  for _ in range(7):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(layers[1](layers[0](x)) ** 2)
    values = [variable.value for variable in variables]
    gradients = tape.gradient(loss, values)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    for layer, kernel in zip(optimizer.layers, kernels, strict=True):
      assert not kernel.numpy()[~layer.mask.numpy()].any()
  assert all(
    (a != b.numpy()).any() for a, b in zip(before, kernels, strict=True)
  )
  assert optimizer.get_slot(kernels[0], "momentum") is not None
  assert optimizer.regularization_loss(variables) == 0


def test_minimize_takes_variables_of_keras():
  layer = _keras_dense()
  optimizer = sparse_methods.make("set")
  optimizer.sparsify([layer.kernel], "random", 0.5)
  x = tf.constant(_RNG.normal(size=(8, 6)), tf.float32)

  def loss():
    return tf.reduce_mean(layer(x) ** 2)

  before = float(loss())
  for _ in range(20):
    optimizer.minimize(loss, var_list=layer.trainable_variables)
  assert float(loss()) < 0.5 * before
  mask = optimizer.layers[0].mask.numpy()
  assert not layer.kernel.numpy()[~mask].any()
  pairs = optimizer.compute_gradients(loss, [layer.bias])
  assert pairs[0][1] is layer.bias.value


def test_models_of_keras_name_layers_by_their_paths():
  keras = pytest.importorskip("keras", minversion="3.0")
  model = keras.Sequential(
    [keras.Input([5]), keras.layers.Dense(4), keras.layers.Dense(3)]
  )
  optimizer = sparse_methods.make("rigl")
  kernels = [layer.kernel for layer in model.layers]
  result = optimizer.sparsify(kernels, "erdos_renyi_kernel", 0.5)
  assert list(result) == [k.path.rsplit("/", 1)[0] for k in kernels]
  assert len(set(optimizer.state())) == len(optimizer.variables())


@pytest.mark.parametrize("name", ["rigl", "prune", "scratch"])
def test_what_is_no_variable_is_refused_before_anything_changes(name):
  good = _kernel(name="good/weights")
  before = good.numpy()
  for bad in (None, "kernel", np.ones((6, 4)), tf.ones([6, 4]), _keras_dense()):
    optimizer = sparse_methods.make(name)
    for kernels in ({"good": good, "bad": bad}, [good, bad]):
      with pytest.raises(ValueError, match="must be variables of TensorFlow"):
        _create(name, optimizer, kernels)
    assert not optimizer.layers
  np.testing.assert_array_equal(good, before)


@pytest.mark.parametrize(
  "kernels", [None, 3, _kernel(), {"": _kernel()}, {}, iter([_kernel()])]
)
def test_kernels_must_be_a_mapping_or_a_sequence(kernels):
  with pytest.raises(ValueError, match="`kernels`"):
    sparse_methods.make("set").sparsify(kernels)


# --- Nothing is half done -----------------------------------------------------


@pytest.mark.parametrize(
  "arguments",
  [
    {"method": "magic"},
    {"default_sparsity": 1.0},
    {"default_sparsity": None},
    {"custom_sparsity_map": ["b"]},
    {"custom_sparsity_map": {"c": 0.5}},
    {"custom_sparsity_map": {"b": "half"}},
    {"erk_power_scale": -1.0},
  ],
)
def test_wrong_arguments_leave_all_kernels_and_the_optimizer(arguments):
  kernels = [_kernel(name="a/weights"), _kernel(name="b/weights")]
  before = [kernel.numpy() for kernel in kernels]
  optimizer = sparse_methods.make("rigl")
  with pytest.raises(ValueError, match="`[a-z_]+` must"):
    optimizer.sparsify(kernels, **arguments)
  assert not optimizer.layers and not optimizer.state()
  for kernel, old in zip(kernels, before, strict=True):
    np.testing.assert_array_equal(kernel, old)
  optimizer.sparsify(kernels)


def test_a_failure_of_the_wrapped_optimizer_leaves_all_kernels():
  class Failing(tf.compat.v1.train.MomentumOptimizer):
    fails = True

    def _create_slots(self, var_list):
      if self.fails:
        raise RuntimeError("no slots today")
      super()._create_slots(var_list)

  inner = Failing(0.1, 0.9)
  kernels = [_kernel(name="a/weights"), _kernel(name="b/weights")]
  before = [kernel.numpy() for kernel in kernels]
  arguments = {**METHODS["set"].arguments, "mask_engine": "numpy"}
  optimizer = METHODS["set"].make(inner, **arguments)
  with pytest.raises(RuntimeError, match="no slots today"):
    optimizer.sparsify(kernels, "random", 0.5)
  for kernel, old in zip(kernels, before, strict=True):
    np.testing.assert_array_equal(kernel, old)
  assert not optimizer.layers and not optimizer.state()
  inner.fails = False
  optimizer.sparsify(kernels, "random", 0.5)
  assert [np.count_nonzero(kernel) for kernel in kernels] == [12, 12]
  optimizer.apply_gradients([(tf.ones([6, 4]), k) for k in kernels])


@pytest.mark.parametrize(
  ("masks", "message"),
  [
    ([np.ones((6, 4))], "`masks` must be a mapping"),
    ({"layer": np.full((6, 4), "x")}, "bools or numbers"),
    ({"layer": [[1, 0], [0]]}, "'layer' must be an array"),
    ({"layer": None}, "'layer' must have the shape"),
    ({"layer": np.ones((6, 4)), 3: np.ones((6, 4))}, "names"),
  ],
)
def test_masks_of_wrong_kinds_are_refused(masks, message):
  kernel = _kernel()
  before = kernel.numpy()
  with pytest.raises(ValueError, match=message):
    sparse_methods.make("scratch").create_masks([kernel], masks)
  np.testing.assert_array_equal(kernel, before)


@pytest.mark.parametrize("name", ["rigl", "snip", "momentum"])
def test_names_in_checkpoints_do_not_depend_on_the_callers_scope(name):
  plain, scoped = sparse_methods.make(name), sparse_methods.make(name)
  kernel = _kernel(name="net/layer/weights")
  _create(name, plain, [kernel])
  with tf.name_scope("net"), tf.name_scope("train"):
    _create(name, scoped, [kernel])
    assert scoped.global_step.name == "global_step:0"
  own = {n for n in scoped.state() if "Momentum" not in n} - {"global_step"}
  assert own == {n for n in plain.state() if "Momentum" not in n}
  assert "net/layer/mask" in own


# --- Ranks and dtypes ---------------------------------------------------------


@pytest.mark.parametrize("shape", [(30,), (3, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_kernels_of_every_rank_and_float64_train(name, shape):
  states = []
  for dtype in (np.float64, np.float32):
    rng = np.random.default_rng(5)
    kernel = tf.Variable(rng.normal(size=shape).astype(dtype), name="la/w")
    options = {"noise_std": 0.0} if name in sparse_methods.DROP_GROW else {}
    optimizer = sparse_methods.make(name, weight_decay=0.01, **options)
    _create(name, optimizer, [kernel])
    for _ in range(7):
      gradient = rng.normal(size=shape).astype(dtype)
      optimizer.apply_gradients([(tf.constant(gradient), kernel)])
    mask = optimizer.layers[0].mask.numpy()
    assert kernel.dtype == dtype and not kernel.numpy()[~mask].any()
    states.append((kernel.numpy(), mask))
  (wide, wide_mask), (narrow, mask) = states
  np.testing.assert_array_equal(wide_mask, mask)
  np.testing.assert_allclose(wide, narrow, rtol=1e-4, atol=1e-5)
  assert (wide != narrow)[mask].any()  # It is not computed in float32.


@pytest.mark.parametrize(
  "grow_init",
  ["initial_dist", "random_normal_2", "random_uniform", "grad_scale_3"],
)
def test_float64_kernels_grow_by_every_initialisation(grow_init):
  kernel = _kernel((8, 8), dtype=np.float64)
  optimizer = sparse_methods.make("rigl", grow_init=grow_init)
  optimizer.sparsify([kernel], "erdos_renyi", 0.5)
  optimizer.apply_gradients([(tf.ones([8, 8], tf.float64), kernel)])
  mask = optimizer.layers[0].mask.numpy()
  assert np.count_nonzero(kernel.numpy()[mask]) == 32


def test_scalars_and_empty_kernels_are_refused():
  for shape, message in (((), "scalar"), ((0, 3), "at least one")):
    with pytest.raises(ValueError, match=f"'layer'.*{message}"):
      sparse_methods.make("prune").create_masks([_kernel(shape)])
