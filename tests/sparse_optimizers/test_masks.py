# SPDX-License-Identifier: Apache-2.0
"""How masks come to be: counts, names and what is refused."""

import math

import numpy as np
import pytest
import sparse_methods
import tensorflow as tf

from rigl import sparse_utils

MASKS = {"layer1": np.eye(12, 8) == 0, "layer2": np.eye(8, 12) == 0}


def _kernels(*names, shape=(6, 4)):
  return [tf.Variable(tf.ones(shape), name=name) for name in names]


@pytest.mark.parametrize(
  "method", ["random", "erdos_renyi", "erdos_renyi_kernel"]
)
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
def test_sparsify_gives_the_zeros_of_the_distribution(method, sparsity):
  shapes = {"fc": (30, 7), "conv": (3, 3, 5, 6), "last": (7, 11)}
  kernels = {name: tf.Variable(tf.ones(s)) for name, s in shapes.items()}
  optimizer = sparse_methods.make("scratch")
  custom = {"last": 0.25}
  result = optimizer.sparsify(kernels, method, sparsity, custom)
  expected = sparse_utils.get_sparsities(shapes, method, sparsity, custom)
  assert result == expected
  assert [layer.name for layer in optimizer.layers] == list(shapes)
  for layer in optimizer.layers:
    mask = layer.mask.numpy()
    assert mask.dtype == bool and layer.kernel is kernels[layer.name]
    n_zeros = math.floor(expected[layer.name] * mask.size)
    assert mask.size - np.count_nonzero(mask) == n_zeros
    np.testing.assert_array_equal(layer.kernel.numpy(), mask)


def test_sparsify_uses_the_power_scale_of_erdos_renyi_kernel():
  shapes = {"fc": (30, 7), "conv": (3, 3, 5, 6)}
  kernels = {name: tf.Variable(tf.ones(s)) for name, s in shapes.items()}
  arguments = ("erdos_renyi_kernel", 0.8, {}, 0.5)
  result = sparse_methods.make("scratch").sparsify(kernels, *arguments)
  assert result == sparse_utils.get_sparsities(shapes, *arguments)
  assert result != sparse_utils.get_sparsities(shapes, *arguments[:3])


def test_the_seed_and_the_layer_name_decide_random_masks():
  def masks(seed, *names):
    optimizer = sparse_methods.make("scratch", seed=seed)
    optimizer.sparsify(_kernels(*names, shape=(20, 20)), "random", 0.5)
    return [layer.mask.numpy() for layer in optimizer.layers]

  a, b = masks(0, "a/weights", "b/weights")
  np.testing.assert_array_equal(a, masks(0, "a/weights")[0])
  assert np.any(a != b)
  assert np.any(a != masks(1, "a/weights")[0])


@pytest.mark.parametrize("name", ["snip", "dnw", "prune"])
def test_methods_with_a_target_take_it_from_the_distribution(name):
  shapes = {"layer1": (12, 8), "layer2": (8, 12), "last": (30, 6)}
  kernels = {key: tf.Variable(tf.ones(s)) for key, s in shapes.items()}
  options = {
    "mask_init_method": "erdos_renyi",
    "custom_sparsity_map": {"layer1": 0.3},
  }
  optimizer = sparse_methods.make(name, **options)
  optimizer.create_masks(kernels)
  assert optimizer.target_sparsities == sparse_utils.get_sparsities(
    shapes, "erdos_renyi", sparse_methods.SPARSITY, {"layer1": 0.3}
  )
  assert all(layer.mask.numpy().all() for layer in optimizer.layers)


def test_created_masks_zero_the_weights_whatever_their_dtype():
  for dtype in (bool, np.uint8, np.float32):
    model = sparse_methods.Model()
    optimizer = sparse_methods.make("scratch")
    masks = {name: mask.astype(dtype) for name, mask in MASKS.items()}
    before = [kernel.numpy() for kernel in model.kernels]
    optimizer.create_masks(model.kernels, masks)
    for i, layer in enumerate(optimizer.layers):
      np.testing.assert_array_equal(layer.mask.numpy(), MASKS[layer.name])
      expected = before[i] * MASKS[layer.name]
      np.testing.assert_array_equal(layer.kernel.numpy(), expected)


def test_layers_are_named_after_their_kernels_or_by_the_caller():
  for kernels, names in (
    (_kernels("a/b/weights", "c/kernel", "d"), ["a/b", "c", "d"]),
    (dict(zip("xy", _kernels("a/w", "a/w"), strict=True)), ["x", "y"]),
  ):
    optimizer = sparse_methods.make("scratch")
    optimizer.create_masks(kernels)
    assert [layer.name for layer in optimizer.layers] == names
    masks = [layer.mask.name for layer in optimizer.layers]
    assert masks == [f"{name}/mask:0" for name in names]


@pytest.mark.parametrize("name", sparse_methods.MASKED)
def test_layers_named_by_the_caller_may_share_the_kernels_name(name):
  """As kernels of Keras do; the state then goes by the layers."""
  options = {"grow_init": "initial_dist"} if name == "set" else {}
  optimizer = sparse_methods.make(name, **options)
  kernels = dict(zip("xy", _kernels("kernel", "kernel"), strict=True))
  optimizer.create_masks(kernels)
  state = optimizer.state()
  assert len(state) == len(optimizer.variables())
  expected = {"set": "initial", "momentum": "ExponentialMovingAverage"}
  expected["dnw"] = "dense"
  if name in expected:
    assert {f"{layer}/weights/{expected[name]}" for layer in "xy"} <= set(state)


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["a/weights", "a/kernel"], "layer name 'a'"),
    (["a", "a"], "layer name 'a'"),
    ([], "`kernels`"),
  ],
)
def test_layer_names_must_be_unique(names, message):
  for name in ("scratch", "snip"):
    with pytest.raises(ValueError, match=message):
      sparse_methods.make(name).create_masks(_kernels(*names))


@pytest.mark.parametrize(
  ("masks", "message"),
  [
    ({"a": np.ones((6, 4))}, "names"),
    ({"a": np.ones((6, 4)), "c": np.ones((6, 4))}, "names"),
    ({"a": np.ones((6, 4)), "b": np.ones((4, 6))}, "'b'.*shape"),
  ],
)
def test_masks_must_fit_the_kernels(masks, message):
  kernels = _kernels("a/weights", "b/weights")
  with pytest.raises(ValueError, match=message):
    sparse_methods.make("scratch").create_masks(kernels, masks)


def test_masks_are_created_once():
  run = sparse_methods.Run("rigl")
  with pytest.raises(RuntimeError, match="has masks already"):
    run.optimizer.sparsify(run.model.kernels)


@pytest.mark.parametrize("name", sparse_methods.SCHEDULED)
def test_a_schedule_needs_masks_first(name):
  with pytest.raises(RuntimeError, match="Create the masks first"):
    sparse_methods.make(name).steps_to_update(0)


def test_fixed_masks_are_never_updated():
  run = sparse_methods.Run("scratch")
  assert run.optimizer.steps_to_update(0) is None
  assert run.optimizer.drop_fraction_at(0) == 0
  with pytest.raises(RuntimeError, match="never updates"):
    run.optimizer.update_masks()
