# SPDX-License-Identifier: Apache-2.0
"""Arguments of all sparse Keras optimizers, and views of their masks.

`masks.MaskOwner` creates the masks.
"""

from __future__ import annotations

from typing import Any

import keras

from rigl.checks import check_integer
from rigl.keras.kernels import Filters, check_filters, path_of
from rigl.keras.mask_settings import MaskSettings
from rigl.keras.sparse_kernel import SparseKernel, stored_masks
from rigl.keras.sparsities import Distribution, check_distribution, defaults
from rigl.keras.wrapper import WrappingOptimizer
from rigl.mask_ops import EngineName, MaskEngine
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.summary import summary
from rigl.structures import Structure, parse_structure
from rigl.types import Variable


class MaskState(WrappingOptimizer):
  """A wrapping optimizer that shows the masks of its sparse variables.

  Args:
    sparsity: overall share of zeros in the sparse variables, in [0, 1). None:
      0.9, or what `structure` fixes.
    distribution: how it is distributed over the variables: `erk`
      (Erdos-Renyi-kernel), `erdos_renyi`, `uniform`, or {path or regex:
      sparsity}, where variables that no key names get `sparsity`. None: `erk`,
      or `uniform` if `structure` fixes the sparsity.
    filters: which variables are sparse. None: all kernels, which are weights
      of rank 2 and more that a layer calls `kernel`, `recurrent_kernel` or
      `pointwise_kernel`, but not those of depthwise convolutions. A regex or a
      list of regexes: the kernels in whose path one is found; a full path also
      chooses a variable that is no kernel. A function: the kernels for whose
      path it returns true.
    seed: seed of all random numbers, at least 0.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla`, `batched`, `numpy` (not inside `jit_compile=True`), or
      `auto` by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. None: only that per variable is fixed.

  Raises:
    ValueError: if an argument is not as described.
  """

  def __init__(
    self,
    optimizer: Any,
    sparsity: float | None = None,
    *,
    distribution: Distribution | None = None,
    filters: Filters = None,
    seed: int = 0,
    mask_engine: EngineName = "auto",
    structure: str | None = None,
    name: str | None = None,
    **kwargs: Any,
  ) -> None:
    parsed = parse_structure(structure)
    sparsity, distribution = defaults(sparsity, distribution, parsed)
    check_distribution(distribution, sparsity)
    check_filters(filters)
    check_integer("seed", seed, 0)
    engine = MaskEngine(mask_engine)
    super().__init__(optimizer, name, **kwargs)
    self._settings = MaskSettings(
      sparsity, distribution, filters, seed, mask_engine, parsed
    )
    self._engine = engine
    self._kernels: tuple[SparseKernel, ...] = ()
    self._kernel_at: dict[int, SparseKernel] = {}
    # Whether the variables may have the weights of a file when they get masks.
    self._loads = False

  @property
  def masks(self) -> dict[str, keras.Variable]:
    """{path: bool variable of the shape}; empty before the optimizer is built.

    True means an active connection. Do not assign them. For a layer that stores
    only its active connections it is a tensor, made for this call.
    """
    return {kernel.path: kernel.whole_mask for kernel in self._kernels}

  @property
  def structure(self) -> Structure | None:
    """The structure of the masks, from the argument `structure`."""
    return self._settings.structure

  @property
  def sparse_kernels(self) -> tuple[SparseKernel, ...]:
    """The sparse variables; none before the optimizer is built."""
    return self._kernels

  @property
  def trained_paths(self) -> set[str]:
    """The paths of the variables that it was built with."""
    return {path_of(variable) for variable in self._trainable_variables}

  @property
  def sparsities(self) -> dict[str, float]:
    """{path: share of zeros in the mask now}."""
    return {
      kernel.path: 1 - kernel.count_active() / kernel.size
      for kernel in self._kernels
    }

  def summary(self) -> str:
    """A table of the sparse variables, as text.

    It shows each variable's shape, active connections, sparsity and the share
    of its connections that the last mask update turned on or off.

    Raises:
      RuntimeError: if the optimizer is not built yet.
    """
    if not self.built:
      raise RuntimeError(
        "The optimizer is not built yet, so there is no summary."
      )
    layers = [
      SparseLayer(
        k.path, k.variable, k.mask, compact=k.compact, blocks=k.blocks
      )
      for k in self._kernels
    ]
    return summary(
      layers, self.changed_in_last_update(), self._explored_counts()
    )

  def _explored_counts(self) -> dict[str, int] | None:
    """Hook: {path: connections that were ever active}; None if untracked."""
    return None

  def changed_in_last_update(self) -> dict[str, int] | None:
    """The connections that the last mask update turned on or off.

    Returns:
      {path: count}; None before any update.
    """
    return None

  @property
  def counters(self) -> dict[str, keras.Variable]:
    """{name in the checkpoints of the scripts: int64 scalar} of what it counts.

    `iteration` counts the calls of `apply`. Others exist once it is built.
    """
    return {"iteration": self._iterations}

  def _own_state(self) -> list[Variable]:
    return [*self._variables, *stored_masks(self._kernels)]
