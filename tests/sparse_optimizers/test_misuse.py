# SPDX-License-Identifier: Apache-2.0
"""Wrong order and wrong kinds are refused with words that help."""

import subprocess

import pytest
import tensorflow as tf
import warm_python

from rigl import sparse_optimizers


def _inner():
  return tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)


def _kernel(dtype=tf.float32):
  return tf.Variable(tf.cast(tf.ones([4, 4]), dtype), name="layer/weights")


@pytest.mark.parametrize(
  "make",
  [
    lambda: sparse_optimizers.SparseSnipOptimizer(_inner(), 0.5, "random"),
    lambda: sparse_optimizers.SparseDNWOptimizer(_inner(), 0.5, "random"),
    lambda: sparse_optimizers.SparsePruningOptimizer(_inner(), 0, 9, 1, 0.5),
  ],
)
class TestMethodsThatStartDense:
  def test_sparsify_is_refused_and_leaves_the_weights(self, make):
    kernel = _kernel()
    with pytest.raises(RuntimeError, match="call create_masks"):
      make().sparsify([kernel], "random", 0.9)
    assert tf.math.count_nonzero(kernel) == 16

  def test_step_before_the_masks_is_refused(self, make):
    kernel = _kernel()
    with pytest.raises(RuntimeError, match="Create the masks first"):
      make().apply_gradients([(tf.ones([4, 4]), kernel)])


def test_kernels_of_other_dtypes_are_refused_when_masks_are_made():
  optimizer = sparse_optimizers.SparseRigLOptimizer(_inner(), 0, 9, 1)
  for dtype in (tf.int32, tf.complex64, tf.bool):
    with pytest.raises(ValueError, match=f"layer.*float32.*got {dtype.name}"):
      optimizer.sparsify([_kernel(dtype)], "random", 0.5)


def test_compute_gradients_are_those_of_the_wrapped_optimizer():
  class Doubling(tf.compat.v1.train.GradientDescentOptimizer):
    def compute_gradients(self, *args, **kwargs):
      pairs = super().compute_gradients(*args, **kwargs)
      return [(2.0 * gradient, variable) for gradient, variable in pairs]

  kernel = _kernel()
  optimizer = sparse_optimizers.SparseFixedMaskOptimizer(Doubling(1.0))
  optimizer.minimize(lambda: tf.reduce_sum(kernel), var_list=[kernel])
  assert (kernel.numpy() == -1.0).all()


@pytest.mark.slow
def test_many_layer_sizes_bring_no_retracing_warnings():
  program = """
import tensorflow as tf
from rigl import sparse_optimizers
inner = tf.compat.v1.train.GradientDescentOptimizer(0.1)
optimizer = sparse_optimizers.SparseRigLOptimizer(inner, 0, 9, 1, 0.3)
kernels = [tf.Variable(tf.ones([n, 4]), name=f"l{n}/w") for n in range(2, 9)]
optimizer.sparsify(kernels, "random", 0.5)
optimizer.apply_gradients([(tf.ones(k.shape), k) for k in kernels])
"""
  done = subprocess.run(
    warm_python.command("-c", program), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "retracing" not in done.stderr
