# SPDX-License-Identifier: Apache-2.0
"""SNIP: one-shot pruning at initialisation by connection sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from rigl.configurable import configurable
from rigl.mask_ops import EngineName
from rigl.sparse_optimizers import graph_control
from rigl.sparse_optimizers.published_arguments import warn_ignored
from rigl.sparse_optimizers.target_sparsity import TargetSparsityOptimizer
from rigl.types import Tensor, Variable


@configurable(unrecorded=["use_tpu", "mask_engine", "structure"])
class SparseSnipOptimizer(TargetSparsityOptimizer):
  """SNIP: prunes once, before training, by connection sensitivity.

  The first iteration, at `global_step` 0, makes no gradient step. In every
  layer,

      mask = the n_ones connections of largest |gradient * weight|,

  where n_ones is what the distribution of `default_sparsity` gives the layer.
  All later iterations are gradient steps with this mask.

  Lee et al., 2019, https://arxiv.org/abs/1810.02340, Algorithm 1; the numbers
  of connections per layer are fixed as in Evci et al., 2020.

  Create the masks with `create_masks(kernels)`: all connections are active.

  Args:
    use_tpu: ignored with a warning: replicas and shards sum their gradients by
      themselves.

  Raises:
    ValueError: if an argument is not as described; `create_masks` raises it
      where the sparsity cannot be distributed over the layers.

  Example:
    >>> inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    >>> optimizer = SparseSnipOptimizer(inner, 0.5, "random")
    >>> kernel = tf.Variable(tf.ones([4, 5]), name="layer1/weights")
    >>> optimizer.create_masks([kernel])
    >>> optimizer.apply_gradients([(tf.ones([4, 5]), kernel)])
  """

  update_is_iteration = True

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    default_sparsity: float,
    mask_init_method: str,
    custom_sparsity_map: Mapping[str, float] | None = None,
    use_locking: bool = False,
    use_tpu: bool | None = None,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    weight_decay_filter: Callable[[Variable], bool] | None = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
  ) -> None:
    super().__init__(
      optimizer,
      default_sparsity,
      mask_init_method,
      custom_sparsity_map,
      use_locking,
      name,
      erk_power_scale=erk_power_scale,
      weight_decay=weight_decay,
      weight_decay_filter=weight_decay_filter,
      seed=seed,
      mask_engine=mask_engine,
      structure=structure,
    )
    warn_ignored(use_tpu=use_tpu)

  _is_snipped: Variable = None

  @property
  def is_snipped(self) -> Variable:
    """Bool variable: whether the masks are set.

    Raises:
      RuntimeError: if the masks are not created yet.
    """
    self._check_created()
    return self._is_snipped

  def steps_to_update(self, step: int) -> int | None:
    """0 before the first iteration, None after it."""
    is_snipped = bool(graph_control.read_on_host(self.is_snipped))
    return 0 if step == 0 and not is_snipped else None

  def num_updates_before(self, step: int) -> int:
    """1 after step 0, where the masks are set; else 0."""
    return int(step > 0)

  def mark_updated(self, step: Tensor) -> list[tf.Operation]:
    """Sets `is_snipped`, without setting the masks."""
    del step
    return [self.is_snipped.assign(True)]

  def _create_state(self) -> None:
    self._is_snipped = self._new_state(False, "is_snipped")

  def _is_due(self, step: Variable) -> Tensor:
    is_first = tf.equal(tf.cast(step, tf.int64), 0)
    return is_first & ~tf.convert_to_tensor(self.is_snipped)

  def _update(
    self, gradients: list[tuple[Tensor, Variable]] | None, step: Variable
  ) -> list[tf.Operation]:
    missing = [layer.name for layer in self._without_gradient(gradients or [])]
    if missing:
      raise ValueError(
        f"SNIP prunes by gradients and needs those of all sparse layers in its "
        f"first iteration, got none for {missing}."
      )
    noted = self.mark_updated(step)
    inputs = [
      dict(
        weights=tf.reshape(layer.kernel.read_value(), [-1]),
        gradient=tf.reshape(self._gradient_of(gradients or [], layer), [-1]),
        num_ones=self._num_ones(layer),
        groups=layer.groups,
      )
      for layer in self.layers
    ]
    masks = self._engine.map(self._most_sensitive, inputs)
    return noted + self._assign_masks(masks)

  def _most_sensitive(self, layers: list[dict[str, Any]]) -> list[Tensor]:
    return self._engine.top_k(
      [tf.abs(each["weights"] * each["gradient"]) for each in layers],
      [each["num_ones"] for each in layers],
      groups=[each["groups"] for each in layers],
    )
