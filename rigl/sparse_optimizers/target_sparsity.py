"""Optimizers that have a target sparsity for every layer.

The common part of SNIP, DNW and gradual pruning, which start dense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from rigl import mask_ops, sparse_utils
from rigl.sparse_optimizers import base, sparse_layer
from rigl.types import Tensor, Variable


class TargetSparsityOptimizer(base.SparseOptimizer):
  """Brings every layer to a sparsity that a distribution gives it.

  Create the masks with `create_masks(kernels)`: everything active.

  Args:
    optimizer: the `tf.compat.v1.train` optimizer that makes the steps.
    default_sparsity: share of zeros, in [0, 1).
    mask_init_method: distribution of it, see `sparse_utils.get_sparsities`.
    custom_sparsity_map: {layer name: sparsity} for layers that differ.
    use_locking: as in `tf.compat.v1.train.Optimizer`.
    name: name of the optimizer. None: that of the class.
    erk_power_scale: exponent scale of `erdos_renyi_kernel`.
    weight_decay: see `SparseOptimizer`.
    decays: see `SparseOptimizer`.
    seed: see `SparseOptimizer`.

  Raises:
    ValueError: if an argument is not as described; of the distribution, when
      the masks are created.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    default_sparsity: float,
    mask_init_method: str,
    custom_sparsity_map: Mapping[str, float] | None = None,
    use_locking: bool = False,
    name: str | None = None,
    *,
    erk_power_scale: float = 1.0,
    weight_decay: float = 0.0,
    decays: Callable[[Variable], bool] | None = None,
    seed: int = 0,
  ) -> None:
    super().__init__(
      optimizer,
      use_locking,
      name,
      weight_decay=weight_decay,
      decays=decays,
      seed=seed,
    )
    self._distribution = (
      mask_init_method,
      default_sparsity,
      custom_sparsity_map,
      erk_power_scale,
    )
    self._targets: dict[str, float] = {}
    self._compiled_mask = mask_ops.compiled_by_shape(self._mask_flat)

  def create_masks(self, kernels: Any, masks: Any = None) -> None:
    """Creates the masks and the targets; see the base class."""
    named = sparse_layer.name_layers(kernels)
    targets = sparse_utils.get_sparsities(named, *self._distribution)
    super().create_masks(named, masks)
    self._targets = targets

  def sparsify(self, *args: Any, **options: Any) -> dict[str, float]:
    """Refuses: these methods start dense.

    Raises:
      RuntimeError: always.
    """
    raise RuntimeError(
      f"{type(self).__name__} starts dense and was given its sparsity: call "
      "create_masks(kernels) in place of sparsify."
    )

  def _check_created(self) -> None:
    """Raises RuntimeError unless there are masks."""
    if not self.layers:
      raise RuntimeError("Create the masks first, with create_masks(kernels).")

  @property
  def target_sparsities(self) -> dict[str, float]:
    """{layer name: the sparsity that the layer comes to}."""
    return dict(self._targets)

  def _num_ones(self, layer: sparse_layer.SparseLayer) -> Tensor:
    """The connections that the target leaves a layer, int32 scalar."""
    size = layer.kernel.shape.num_elements()
    zeros = sparse_utils.get_n_zeros(size, self._targets[layer.name])
    return tf.constant(size - zeros)

  def _mask_flat(self, *tensors: Tensor) -> Tensor:
    """The mask of one layer from flat tensors; compiled once a size."""
    raise NotImplementedError

  def _assign_mask(
    self, layer: sparse_layer.SparseLayer, mask: Tensor
  ) -> list[Any]:
    """Sets the mask and clears weights and slots of inactive connections."""
    mask = tf.reshape(mask, layer.mask.shape)
    pairs = [(layer.kernel, 0.0), *self._slots_of(layer.kernel)]
    cleared = [
      variable.assign(
        tf.where(mask, variable, tf.constant(value, variable.dtype))
      )
      for variable, value in pairs
    ]
    return [*cleared, layer.mask.assign(mask)]
