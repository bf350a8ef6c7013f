# SPDX-License-Identifier: Apache-2.0
"""The owner of the masks of Keras variables: creates and clears them.

`saved_masks.SavedMasks` writes them to files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.keras import replicas, slots
from rigl.keras.compact_layers import (
  SparseStorage,
  check_trainable,
  keep_batches_for,
  own_sparsities,
  storage_owner,
)
from rigl.keras.kernels import choose_kernels, path_of
from rigl.keras.live import owners
from rigl.keras.mask_state import MaskState
from rigl.keras.saving import MaskBits
from rigl.keras.sparse_kernel import SparseKernel, make_mask, stored_masks
from rigl.keras.sparsities import distribute
from rigl.keras.structured import kernel_groups, structured_mask
from rigl.keras.wrapper import check_parts, check_unbuilt
from rigl.sparse_optimizers.sparse_layer import BlockLayer, CompactLayer
from rigl.structures import Groups
from rigl.types import Variable


class MaskOwner(MaskState):
  """A wrapping optimizer with one mask per sparse variable.

  Attributes:
    starts_dense: whether all connections are active at the start.
    needs_batches: whether layers that store only their active connections must
      keep what their dense gradient is made of.
    takes_compact_layers: whether the method trains such layers.
    why_no_compact_layers: the reason, where it does not.
    takes_block_layers: whether it trains those that store their active blocks.

  Raises:
    ValueError: if an argument is not as described.
  """

  starts_dense = False
  needs_batches = False
  takes_compact_layers = True
  takes_block_layers = False
  why_no_compact_layers = "it keeps a weight of every connection"

  @tf.autograph.experimental.do_not_convert
  def build(self, variables: Sequence[Variable]) -> None:
    """Creates masks and slots, and zeroes the pruned weights.

    The first `apply` calls it. In a graph (`fit` makes one) that is before
    anything runs, so the first forward pass is sparse already. In eager mode
    the first gradient is that of the dense weights, unless this is called
    before. Call it in the scope of the `tf.distribute` strategy, if any.

    A variable that is as sparse already, such as one that another sparse
    optimizer trained, keeps its weights: its mask covers them and is random
    elsewhere (not with `structure`).

    Args:
      variables: the trainable variables of the model.

    Raises:
      ValueError: if no variable can be made sparse, or the inner optimizer is
        built already.
    """
    if self.built:
      return
    variables = list(variables)
    if not variables:
      raise ValueError(
        "`variables` must hold the trainable variables of the model, got none. "
        "(Keras cannot restore an optimizer from a legacy .h5 file: save as "
        ".keras, or load with compile=False.)"
      )
    check_unbuilt(self.inner_optimizer)
    settings = self._settings
    layers = owners(variables)
    chosen = choose_kernels(variables, layers, settings.filters)
    paths = [path_of(variables[place]) for place in chosen]
    stored = [
      storage_owner(variables[place], layers[place]) for place in chosen
    ]
    shapes = [
      tuple((variables[place] if layer is None else layer).shape)
      for place, layer in zip(chosen, stored, strict=True)
    ]
    sparsities = self._distribute(
      dict(zip(paths, shapes, strict=True)),
      {p: la for p, la in zip(paths, stored, strict=True) if la is not None},
    )
    names = [str(number) for number in range(len(chosen))]
    groups = kernel_groups(
      settings.structure,
      [variables[place] for place in chosen],
      [layers[place] for place in chosen],
      paths,
      sparsities,
    )
    with self._variable_scope(), keras.name_scope(self.name):
      self.inner_optimizer.build(variables)
      check_parts(self.inner_optimizer)
      found = slots.find_slots(
        self.inner_optimizer, [variables[place] for place in chosen]
      )
      kernels = [
        SparseKernel(
          path=path,
          name=name,
          variable=variables[place],
          slots=found[i],
          sparsity=sparsities[path],
          stored_mask=make_mask(
            path, self._initial_mask(name, shape, sparsities[path], groups[i])
          )
          if stored[i] is None
          else None,
          groups=groups[i],
          compact=_if_a(stored[i], CompactLayer),
          blocks=_if_a(stored[i], BlockLayer),
        )
        for i, (path, name, shape, place) in enumerate(
          zip(paths, names, shapes, chosen, strict=True)
        )
      ]
      for kernel in kernels:
        kernel.move_mask()
      self._kernels = tuple(kernels)
      self._kernel_at = dict(zip(chosen, kernels, strict=True))
      # Changed in place: Keras would take an assigned list of variables for
      # state of this optimizer.
      self._trainable_variables.extend(variables)
      for place, variable in enumerate(variables):
        self._trainable_variables_indices[self._var_key(variable)] = place
      self._create_state()
      # `tf.train.Checkpoint` finds it by the name of the attribute.
      self._mask_bits = MaskBits(stored_masks(kernels))
      # By the variables, which a checkpoint may have restored by now.
      if not self._loads:
        self._clear(all_slots=True)
    if self.needs_batches:
      keep_batches_for(self, stored)
    self.built = True

  def sparse_paths(self, variables: Sequence[Variable]) -> set[str]:
    """The paths of the variables that are sparse, or become so in `build`.

    Args:
      variables: the trainable variables of the model.

    Raises:
      ValueError: if no variable can be made sparse.
    """
    if self.built:
      return {kernel.path for kernel in self._kernels}
    filters = self._settings.filters
    chosen = choose_kernels(variables, owners(variables), filters)
    return {path_of(variables[place]) for place in chosen}

  def start_slots_anew(self) -> None:
    """Starts slots, and what is noted of mask updates, anew.

    Weights, masks and `iterations` stay. Averages of weights start as the
    weights. `load_checkpoint` calls it for what a checkpoint may lack.
    """
    with self._variable_scope():
      slots.start_anew(self.inner_optimizer)

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    stored: Mapping[str, SparseStorage],
  ) -> dict[str, float]:
    """The sparsity of each variable, by its path.

    Args:
      shapes: the shapes of all kernels.
      stored: the layers that have their connections already, by their paths.
    """
    settings = self._settings
    given: dict[str, float] = {}
    if stored:
      check_trainable(self, stored, settings.structure)
      method = type(self).__name__
      given = own_sparsities(stored, self.starts_dense, method)
    if self.starts_dense:
      given = {}
    open_shapes = {p: s for p, s in shapes.items() if p not in given}
    if not open_shapes and isinstance(settings.distribution, str):
      return given
    return given | distribute(
      settings.distribution, settings.sparsity, open_shapes
    )

  def _variable_scope(self) -> contextlib.ExitStack:
    """A context where variables are made eagerly, on all devices."""
    return replicas.variable_scope(self._distribution_strategy)

  def _initial_mask(
    self,
    name: str,
    shape: tuple[int, ...],
    sparsity: float,
    groups: Groups | None,
  ) -> np.ndarray:
    """Hook: the mask that a kernel starts with."""
    seed, structure = self._settings.seed, self._settings.structure
    if structure is not None and groups is not None:
      return structured_mask(structure, groups, shape, sparsity, seed, name)
    return sparse_utils.get_mask_random(shape, sparsity, seed, name)

  def _create_state(self) -> None:
    """Hook: creates variables of the method, with `_kernels` known.

    Weights are not masked yet.
    """

  def _move_masks(self) -> None:
    """Hook: moves masks to weights that a file gave the variables."""
    for kernel in self._kernels:
      kernel.move_mask()

  def _start_from_weights(self) -> None:
    """Hook: starts from weights of a file that has no masks."""
    self._move_masks()

  def _new_copy(self, kernel: SparseKernel, name: str) -> keras.Variable:
    """Creates a variable of the state that starts as a copy of the weights."""
    # Not assigned: a checkpoint may restore it as soon as it exists.
    return self.add_variable_from_reference(
      kernel.variable,
      name,
      lambda shape, dtype: tf.cast(
        tf.convert_to_tensor(kernel.variable), dtype
      ),
    )

  def _new_counter(self, value: int, name: str) -> keras.Variable:
    """Creates an int64 scalar of the state."""
    return self.add_variable(
      shape=(),
      initializer=keras.initializers.Constant(value),
      dtype="int64",
      aggregation="only_first_replica",
      name=name,
    )

  def _clear(self, all_slots: bool = False) -> None:
    """Sets weights and slots of inactive connections to their start.

    The inner optimizer may have moved them although their gradient is zero, as
    Muon does, or a constraint or an average.

    Args:
      all_slots: whether to clear slots that no step changes, too.
    """
    for kernel in self._kernels:
      kernel.clear(all_slots)


def _if_a(layer: Any, kind: Any) -> Any:
  return layer if isinstance(layer, kind) else None
