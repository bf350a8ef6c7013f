"""RigL: growth by the dense gradient of one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rigl.configurable import configurable
from rigl.sparse_optimizers import graph_control, grow_init, sparse_layer
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.types import Tensor, Variable


@configurable()
class SparseRigLOptimizer(DropGrowOptimizer):
  """RigL: grows by the magnitude of the dense gradient of one batch.

  Evci et al., 2020, https://arxiv.org/abs/1911.11134, Alg. 1. An update takes
  the place of a gradient step: its batch serves for the gradient alone, and
  `global_step` does not advance.

  Args:
    optimizer: this and the arguments up to `grow_init` are those of
      `DropGrowOptimizer`.
    begin_step: see there.
    end_step: see there.
    frequency: see there.
    drop_fraction: see there.
    drop_fraction_anneal: see there.
    use_locking: see there.
    grow_init: see there; also `grad_scale[_K]`, the gradient, and
      `grad_sign[_K]`, its sign.
    initial_acc_scale: the slots of new connections start with this times
      their gradient. (For every slot, as in the published code: leave it at 0
      where a slot must not be negative, as with Adam.)
    name: name of the optimizer. None: that of the class.
    **options: `noise_std`, `weight_decay`, `decays`, `seed`; see there.

  Raises:
    ValueError: if an argument is not as described.
  """

  update_is_iteration = True
  grow_inits = grow_init.WEIGHT_METHODS + grow_init.GRADIENT_METHODS

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    begin_step: int,
    end_step: int,
    frequency: int,
    drop_fraction: float = 0.1,
    drop_fraction_anneal: str = "constant",
    use_locking: bool = False,
    grow_init: str = "zeros",
    initial_acc_scale: float = 0.0,
    name: str | None = None,
    **options: Any,
  ) -> None:
    super().__init__(
      optimizer,
      begin_step,
      end_step,
      frequency,
      drop_fraction,
      drop_fraction_anneal,
      use_locking,
      grow_init,
      name,
      **options,
    )
    if not np.isfinite(initial_acc_scale):
      raise ValueError(
        f"`initial_acc_scale` must be finite, got {initial_acc_scale}."
      )
    self._initial_acc_scale = float(initial_acc_scale)

  def _iterate(
    self, gradients: list[tuple[Tensor, Variable]], step: Variable
  ) -> tf.Operation | None:
    return graph_control.branch(
      self._is_due(step),
      lambda: self.update_masks(gradients, step, reduced=True),
      lambda: self.apply_masked_gradients(gradients, step, reduced=True),
    )

  def _signal(
    self, layer: sparse_layer.SparseLayer, gradients: list | None
  ) -> Tensor | None:
    return self._gradient_of(gradients or [], layer)

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)

  def _reset_slot(
    self, slot: Tensor, start: Tensor, new: Tensor, mask: Tensor, signal: Tensor
  ) -> Tensor:
    slot = super()._reset_slot(slot, start, new, mask, signal)
    if not self._initial_acc_scale:
      return slot
    return tf.where(new, slot + signal * self._initial_acc_scale, slot)
