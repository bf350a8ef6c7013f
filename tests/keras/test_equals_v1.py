# SPDX-License-Identifier: Apache-2.0
"""The masks are those of the `tf.compat.v1` optimizers from the same state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rigl
import rigl.keras as sparse_keras

v1 = tf.compat.v1.train
SHAPES = ((12, 8), (8, 12), (3, 3, 4, 5))
STEPS = 12
SCHEDULE = {"begin_step": 1, "end_step": 9, "frequency": 3}
DROP_GROW = {"drop_fraction": 0.4, "seed": 3}
TARGET = {"default_sparsity": 0.7, "mask_init_method": "erdos_renyi_kernel"}

# For each method: the arguments of both, and the class of tf.compat.v1.
METHODS = {
  "rigl": (rigl.SparseRigLOptimizer, DROP_GROW | SCHEDULE, "cosine"),
  "set": (rigl.SparseSETOptimizer, DROP_GROW | SCHEDULE, "exponential"),
  "snfs": (rigl.SparseMomentumOptimizer, DROP_GROW | SCHEDULE, "constant"),
  "static": (rigl.SparseStaticOptimizer, DROP_GROW | SCHEDULE, "cosine"),
  "mest": (
    rigl.SparseSETOptimizer,
    DROP_GROW | SCHEDULE | {"soft_memory": True, "drop_gradient_weight": 0.3},
    "cosine",
  ),
  "chase": (
    rigl.SparseRigLOptimizer,
    DROP_GROW | SCHEDULE | {"soft_memory": True, "across_layers": True},
    "cosine",
  ),
  "granet": (
    rigl.SparseGraNetOptimizer,
    DROP_GROW | SCHEDULE | {"initial_sparsity": 0.2},
    "cosine",
  ),
  "snip": (rigl.SparseSnipOptimizer, {}, None),
  "dnw": (rigl.SparseDNWOptimizer, {}, None),
  "top_kast": (
    rigl.SparseTopKASTOptimizer,
    SCHEDULE | {"backward_sparsity": 0.3, "exploration_penalty": 0.3},
    None,
  ),
  "pruning": (rigl.SparsePruningOptimizer, SCHEDULE, None),
  "fixed_mask": (rigl.SparseFixedMaskOptimizer, {}, None),
}

# The class of Keras, where it has another name.
CLASSES = {"mest": "set", "chase": "rigl"}


def initial():
  random = np.random.RandomState(5)
  return [random.randn(*shape).astype("float32") for shape in SHAPES]


def gradients(step):
  random = np.random.RandomState(100 + step)
  return [random.randn(*shape).astype("float32") for shape in SHAPES]


def keras_optimizer(method, kernels, arguments, anneal, grow_init):
  options = dict(arguments)
  if anneal:
    options |= {"anneal": anneal, "grow_init": grow_init}
  optimizer = sparse_keras.METHODS[CLASSES.get(method, method)](
    keras.optimizers.SGD(0.1),
    0.7,
    distribution="erk",
    mask_engine="numpy",
    **options,
  )
  optimizer.build(kernels)
  return optimizer


def v1_optimizer(method, variables, arguments, anneal, grow_init, masks):
  inner = v1.GradientDescentOptimizer(0.1)
  kind = METHODS[method][0]
  options = dict(arguments) | {"mask_engine": "numpy"}
  if anneal:
    options |= {"drop_fraction_anneal": anneal, "grow_init": grow_init}
  if method in ("pruning", "granet"):
    options |= {
      "target_sparsity": 0.7,
      "mask_init_method": "erdos_renyi_kernel",
    }
  elif method in ("snip", "dnw", "top_kast"):
    options |= TARGET
  optimizer = kind(inner, **options)
  optimizer.create_masks(
    {str(i): v for i, v in enumerate(variables)},
    {str(i): mask for i, mask in enumerate(masks)},
  )
  return optimizer


CASES = [
  (method, grow_init)
  for method in METHODS
  for grow_init in ("zeros", "random_normal", "initial_dist_2", "grad_scale_10")
  if grow_init == "zeros"
  or (METHODS[method][2] and (method == "rigl" or "grad" not in grow_init))
]


@pytest.mark.parametrize(("method", "grow_init"), CASES)
def test_masks_and_weights_are_those_of_v1(method, grow_init):
  _, arguments, anneal = METHODS[method]
  kernels = [keras.Variable(value, name="kernel") for value in initial()]
  for i, kernel in enumerate(kernels):
    kernel._path = f"layer{i}/kernel"
  ours = keras_optimizer(method, kernels, arguments, anneal, grow_init)
  masks = [mask.numpy() for mask in ours.masks.values()]
  variables = [tf.Variable(value) for value in initial()]
  theirs = v1_optimizer(method, variables, arguments, anneal, grow_init, masks)
  changed = False
  for step in range(STEPS):
    ours.apply([tf.constant(g) for g in gradients(step)], kernels)
    theirs.apply_gradients(
      [
        (tf.constant(g), v)
        for g, v in zip(gradients(step), variables, strict=True)
      ]
    )
    assert int(ours.iterations) == int(theirs.global_step.numpy())
    for old, mask, layer, kernel in zip(
      masks, ours.masks.values(), theirs.layers, kernels, strict=True
    ):
      np.testing.assert_array_equal(mask.numpy(), layer.mask.numpy())
      np.testing.assert_array_equal(kernel.numpy(), layer.kernel.numpy())
      changed |= not np.array_equal(old, mask.numpy())
  assert changed == (method not in ("static", "fixed_mask"))
