"""SNIP: one-shot pruning at initialisation by connection sensitivity.

The masks are set once, by the first batch, and stay.
"""

from __future__ import annotations

import tensorflow as tf

from rigl import mask_ops
from rigl.configurable import configurable
from rigl.sparse_optimizers import base, graph_control, target_sparsity
from rigl.types import Tensor, Variable


@configurable()
class SparseSnipOptimizer(target_sparsity.TargetSparsityOptimizer):
  """SNIP (Lee et al., 2019, https://arxiv.org/abs/1810.02340).

  The first iteration, at `global_step` 0, keeps in every layer the
  connections of highest |gradient * weight|, as many as the distribution
  gives the layer, and makes no gradient step. All others are gradient steps.
  The arguments are those of `TargetSparsityOptimizer`.
  """

  update_is_iteration = True

  _is_snipped: Variable = None

  @property
  def is_snipped(self) -> Variable:
    """Bool variable: whether the masks are set."""
    self._check_created()
    return self._is_snipped

  def _create_state(self) -> None:
    self._is_snipped = self._new_state(False, "is_snipped")

  def steps_to_update(self, step: int) -> int | None:
    """See the base class."""
    return 0 if step == 0 and not bool(self.is_snipped.numpy()) else None

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """See the base class."""
    del step
    return [self.is_snipped.assign(True)]

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    is_first = tf.equal(tf.cast(step, tf.int64), 0)
    return graph_control.branch(
      is_first & ~tf.convert_to_tensor(self.is_snipped),
      lambda: self.update_masks(gradients, step, reduced=True),
      lambda: self.apply_masked_gradients(gradients, step, reduced=True),
    )

  def update_masks(
    self,
    grads_and_vars: base.GradsAndVars | None = None,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Keeps the most sensitive connections; see the base class."""
    if grads_and_vars is None:
      raise ValueError("`grads_and_vars` is needed to set SNIP's masks.")
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    operations = self.mark_updated(global_step)
    for layer in self.layers:
      gradient = tf.reshape(self._gradient_of(pairs, layer), [-1])
      weights = tf.reshape(layer.kernel, [-1])
      mask = self._compiled_mask(weights, gradient, self._num_ones(layer))
      operations += self._assign_mask(layer, mask)
    return graph_control.group(operations)

  def _mask_flat(
    self, weights: Tensor, gradient: Tensor, num_ones: Tensor
  ) -> Tensor:
    return mask_ops.top_k_mask(tf.abs(weights * gradient), num_ones)
