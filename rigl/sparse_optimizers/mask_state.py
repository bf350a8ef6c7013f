# SPDX-License-Identifier: Apache-2.0
"""The state of the masks: layers, names in checkpoints, changes, a summary.

`masks.MaskOwner` creates the masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rigl.checks import check_integer
from rigl.mask_ops import EngineName, MaskEngine
from rigl.sparse_optimizers.exploration import Exploration
from rigl.sparse_optimizers.sparse_layer import SparseLayer, bare_name
from rigl.sparse_optimizers.summary import summary
from rigl.sparse_optimizers.wrapper import WrappingOptimizer
from rigl.structures import parse_structure
from rigl.tensor_names import GLOBAL_STEP
from rigl.types import Tensor, Variable


class MaskState(WrappingOptimizer):
  """A wrapping optimizer with sparse layers, as they are seen from outside.

  Args:
    seed: seed of all random numbers, together with layer names and steps.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla` layer by layer, for CPUs; `batched` all layers at once,
      for GPUs and TPUs; `numpy` on the host, with nothing to compile; `auto`
      by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active, for a sparsity of 1 - N / M; `fan_in` keeps the same
      number of connections per output. None: only that per layer is fixed.

  Raises:
    ValueError: if an argument is not as described.
  """

  def __init__(
    self,
    optimizer: tf.compat.v1.train.Optimizer,
    use_locking: bool,
    name: str | None,
    seed: int,
    mask_engine: EngineName,
    structure: str | None,
  ) -> None:
    super().__init__(optimizer, use_locking, name)
    self._structure = parse_structure(structure)
    check_integer("seed", seed, 0)
    self._seed = int(seed)
    self._engine = MaskEngine(mask_engine)
    self._layers: list[SparseLayer] = []
    self._layer_of: dict[int, SparseLayer] = {}
    # {layer name: restore marks of kernel and mask}, as they were last seen.
    self._marks: dict[str, tuple[int, int]] = {}
    self._own_step: Variable | None = None
    self._changed: Sequence[Tensor | int] | None = None
    # Methods that can track which connections were ever active set it.
    self._exploration: Exploration | None = None

  @property
  def layers(self) -> tuple[SparseLayer, ...]:
    """The sparse layers, in the order of creation."""
    return tuple(self._layers)

  @property
  def seed(self) -> int:
    """The seed of the random numbers."""
    return self._seed

  @property
  def global_step(self) -> Variable:
    """The step counter used where no `global_step` is given; int64."""
    if self._own_step is None:
      with tf.init_scope():
        self._own_step = self._new_state(np.int64(0), GLOBAL_STEP)
    return self._own_step

  @property
  def mask_engine(self) -> MaskEngine:
    """Chooses the connections of all layers."""
    return self._engine

  def use_mask_engine(
    self, name: EngineName, threads: int | None = None
  ) -> None:
    """Replaces the mask engine, for executors, which know the device.

    Call it before the first update: functions that are traced already keep
    the engine they have.

    Args:
      name: `xla`, `batched`, `numpy` or `auto`, as for the constructor.
      threads: layers at a time of `numpy` outside of graphs, at least 1. None:
        one per processor.

    Raises:
      ValueError: if an argument is not as described.
    """
    self._engine = MaskEngine(name, threads)

  def mask_state(self) -> dict[str, Variable]:
    """The mask variables by their names in checkpoints, `LAYER/mask`.

    Layers that store only their active connections have none.
    """
    return {
      bare_name(layer.mask): layer.mask
      for layer in self._layers
      if not layer.structure
    }

  def checkpoint_state(self) -> dict[str, Tensor | Variable]:
    """The tensors of the optimizer for a checkpoint, by the published names.

    It is `state()` with the masks as float32, as published checkpoints have
    them, and the shapes of layers that store only what is active.
    """
    masks = {n: tf.cast(m, tf.float32) for n, m in self.mask_state().items()}
    shapes = {
      f"{layer.name}/shape": tf.constant(layer.shape, tf.int64)
      for layer in self._layers
      if layer.structure
    }
    return self.state() | masks | shapes

  def changed_in_last_update(self) -> dict[str, int] | None:
    """The number of connections that the last update turned on or off.

    Updates outside of graphs are counted by `update_masks`; a loop that runs
    them in a compiled function tells their counts to `note_update`.

    Returns:
      {layer name: count}; None if no update was seen.
    """
    if self._changed is None:
      return None
    names = [layer.name for layer in self._layers]
    return dict(zip(names, map(int, self._changed), strict=True))

  def note_update(self, changed: Sequence[int]) -> None:
    """Takes the counts of an update that ran in a compiled function.

    Args:
      changed: connections turned on or off in each layer, in the order of
        `layers`.

    Raises:
      ValueError: if there are not as many counts as layers.
    """
    if len(changed) != len(self._layers):
      raise ValueError(
        f"`changed` must have {len(self._layers)} counts, got {len(changed)}."
      )
    self._changed = changed

  def num_surplus(self) -> int:
    """The connections that soft memory will drop; not in a graph."""
    return 0

  @property
  def tracks_exploration(self) -> bool:
    """Whether the connections that were ever active are known."""
    return self._exploration is not None

  def explored_counts(self) -> dict[str, Tensor]:
    """The number of connections that were active at any time, per layer.

    Returns:
      {layer name: int32 scalar}; empty unless `track_exploration` was asked
      for.
    """
    return self._exploration.counts() if self._exploration else {}

  def explored_shares(self) -> dict[str, float]:
    """The explored share R_s of each layer, at least its density.

    Returns:
      {layer name: share of the connections that were active at any time};
      empty unless `track_exploration` was asked for.

    Raises:
      RuntimeError: in a graph.
    """
    counts = self._exploration.counts_on_host() if self._exploration else {}
    return {
      layer.name: counts[layer.name] / layer.size
      for layer in self._layers
      if counts
    }

  def summary(self) -> str:
    """A table of the sparse layers, as text.

    It shows each layer's shape, active connections, sparsity, and the share of
    its connections that the last mask update turned on or off; `-` before any
    update. With `track_exploration` it also shows the explored share.

    Raises:
      RuntimeError: if there are no masks yet, or in a graph.
    """
    if not self._layers:
      raise RuntimeError("There are no masks yet, so there is no summary.")
    return summary(
      self._layers,
      self.changed_in_last_update(),
      self._exploration.counts_on_host() if self._exploration else None,
    )

  def __repr__(self) -> str:
    connections = sum(layer.size for layer in self._layers)
    values = {
      "layers": len(self._layers),
      "connections": connections,
      **self._settings(),
    }
    listed = ", ".join(f"{name}={value!r}" for name, value in values.items())
    inner = type(self._optimizer).__name__
    return f"{type(self).__name__}({inner}, {listed})"

  def _settings(self) -> dict[str, object]:
    """Hook: the settings that `repr` shows."""
    return {}
