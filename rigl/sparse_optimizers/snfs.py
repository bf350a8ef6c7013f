"""SNFS: growth by the momentum of the dense gradient."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rigl.configurable import configurable
from rigl.sparse_optimizers import base, graph_control, sparse_layer
from rigl.sparse_optimizers.drop_grow import DropGrowOptimizer
from rigl.types import Tensor, Variable


@configurable()
class SparseMomentumOptimizer(DropGrowOptimizer):
  """SNFS: grows by the moving average of the dense gradient.

  Dettmers & Zettlemoyer, 2019, https://arxiv.org/abs/1907.04840, as in the
  published code: the growth score is |ema|, where every gradient step first
  makes ema = momentum * ema + (1 - momentum) * gradient, from 0, without
  debiasing.

  Args:
    optimizer: this and the arguments up to `grow_init` are those of
      `DropGrowOptimizer`.
    begin_step: see there.
    end_step: see there.
    frequency: see there.
    drop_fraction: see there.
    drop_fraction_anneal: see there.
    use_locking: see there.
    grow_init: see there.
    momentum: decay of the moving average, in [0, 1].
    name: name of the optimizer. None: that of the class.
    **options: `noise_std`, `weight_decay`, `decays`, `seed`; see there.

  Raises:
    ValueError: if an argument is not as described.
  """

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
    momentum: float = 0.9,
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
    if not 0 <= momentum <= 1:
      raise ValueError(f"`momentum` must be in [0, 1], got {momentum}.")
    self._ema_decay = momentum
    self._averages: dict[str, Variable] = {}

  def _prepare_layer(self, layer: sparse_layer.SparseLayer) -> None:
    super()._prepare_layer(layer)
    self._averages[layer.name] = self._new_state(
      tf.zeros(layer.kernel.shape, layer.kernel.dtype),
      f"{layer.kernel_name}/ExponentialMovingAverage",
    )

  def apply_masked_gradients(
    self,
    grads_and_vars: base.GradsAndVars,
    global_step: Variable | None = None,
    reduced: bool = False,
  ) -> tf.Operation | None:
    """Updates the averages, then makes the step; see the base class."""
    pairs = list(grads_and_vars)
    if not reduced:
      pairs = self.reduce_gradients(pairs)
    averaged = []
    for layer in self._layers:
      gradient = self._gradient_of(pairs, layer)
      average = self._averages[layer.name]
      decay = tf.cast(1.0 - self._ema_decay, gradient.dtype)
      change = decay * (gradient - average)
      averaged.append(average.assign(average + change))
    with graph_control.after(*averaged):
      return super().apply_masked_gradients(pairs, global_step, reduced=True)

  def _signal(
    self, layer: sparse_layer.SparseLayer, gradients: list | None
  ) -> Tensor | None:
    return self._averages[layer.name]

  def _grow_scores(
    self, mask: Tensor, signal: Tensor | None, key: Tensor
  ) -> Tensor:
    return tf.abs(signal)
