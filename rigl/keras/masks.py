# SPDX-License-Identifier: Apache-2.0
"""The owner of the masks of Keras variables: makes, shows and clears them.

`base.SparseOptimizer` adds training steps.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.keras import replicas
from rigl.keras.compact_layers import (
  check_trainable,
  compact_layers_of,
  keep_batches_for,
  own_sparsities,
)
from rigl.keras.kernels import (
  Filters,
  check_filters,
  choose_kernels,
  path_of,
)
from rigl.keras.live import model_of
from rigl.keras.mask_settings import MaskSettings
from rigl.keras.saving import NUM_COMPACT, MaskBits, load_state, save_state
from rigl.keras.slots import find_slots
from rigl.keras.sparse_kernel import SparseKernel, make_mask, stored_masks
from rigl.keras.sparsities import (
  Distribution,
  check_distribution,
  defaults,
  distribute,
)
from rigl.keras.structured import kernel_groups, structured_mask
from rigl.keras.wrapper import (
  WrappingOptimizer,
  check_parts,
  check_unbuilt,
)
from rigl.mask_ops import EngineName, MaskEngine
from rigl.sparse_optimizers.sparse_layer import (
  BlockLayer,
  CompactLayer,
  SparseLayer,
)
from rigl.sparse_optimizers.summary import summary
from rigl.structures import Groups, parse_structure
from rigl.types import Variable


class MaskOwner(WrappingOptimizer):
  """A wrapping optimizer with one mask per sparse variable.

  Attributes:
    starts_dense: whether all connections are active at the start.
    needs_batches: whether layers that store only their active connections must
      keep what their dense gradient is made of.
    takes_compact_layers: whether the method trains such layers.
    why_no_compact_layers: the reason, where it does not.
    takes_block_layers: whether it trains those that store their active blocks.

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

  starts_dense = False
  needs_batches = False
  takes_compact_layers = True
  takes_block_layers = False
  why_no_compact_layers = "it keeps a weight of every connection"

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
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
      raise ValueError(
        f"`seed` must be an integer of at least 0, got {seed!r}."
      )
    engine = MaskEngine(mask_engine)
    super().__init__(optimizer, name, **kwargs)
    self._settings = MaskSettings(
      sparsity, distribution, filters, seed, mask_engine, parsed
    )
    self._engine = engine
    self._kernels: tuple[SparseKernel, ...] = ()
    self._kernel_at: dict[int, SparseKernel] = {}
    self._loads = False

  @tf.autograph.experimental.do_not_convert
  def build(self, variables: Sequence[Variable]) -> None:
    """Creates masks and slots, and zeroes the pruned weights.

    The first `apply` calls it. In a graph (`fit` makes one) that is before
    anything runs, so the first forward pass is sparse already. In eager mode
    the first gradient is that of the dense weights, unless this is called
    before. Call it in the scope of the `tf.distribute` strategy, if any.

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
    chosen = choose_kernels(variables, settings.filters)
    paths = [path_of(variables[place]) for place in chosen]
    compact = compact_layers_of([variables[place] for place in chosen])
    shapes = [
      tuple((variables[place] if layer is None else layer).shape)
      for place, layer in zip(chosen, compact, strict=True)
    ]
    sparsities = self._distribute(
      dict(zip(paths, shapes, strict=True)),
      {p: la for p, la in zip(paths, compact, strict=True) if la is not None},
    )
    names = [str(number) for number in range(len(chosen))]
    groups = kernel_groups(
      settings.structure,
      [variables[place] for place in chosen],
      paths,
      sparsities,
    )
    with self._variable_scope(), keras.name_scope(self.name):
      self.inner_optimizer.build(variables)
      check_parts(self.inner_optimizer)
      slots = find_slots(
        self.inner_optimizer, [variables[place] for place in chosen]
      )
      kernels = [
        SparseKernel(
          path=path,
          name=name,
          variable=variables[place],
          slots=slots[i],
          sparsity=sparsities[path],
          stored_mask=make_mask(
            path, self._initial_mask(name, shape, sparsities[path], groups[i])
          )
          if compact[i] is None
          else None,
          groups=groups[i],
          compact=_if_a(compact[i], CompactLayer),
          blocks=_if_a(compact[i], BlockLayer),
        )
        for i, (path, name, shape, place) in enumerate(
          zip(paths, names, shapes, chosen, strict=True)
        )
      ]
      self._kernels = tuple(kernels)
      self._kernel_at = dict(zip(chosen, kernels, strict=True))
      # Changed in place: Keras would take an assigned list of variables for
      # state of this optimizer.
      self._trainable_variables.extend(variables)
      for place, variable in enumerate(variables):
        self._trainable_variables_indices[self._var_key(variable)] = place
      self._create_state()
      self._mask_bits = MaskBits(stored_masks(kernels))
      # By the variables, which a checkpoint may have restored by now.
      if not self._loads:
        self._clear(all_slots=True)
    if self.needs_batches:
      keep_batches_for(self, compact)
    self.built = True

  def _distribute(
    self,
    shapes: dict[str, tuple[int, ...]],
    compact: dict[str, Any],
  ) -> dict[str, float]:
    """The sparsity of each variable, by its path.

    Args:
      shapes: the shapes of all kernels.
      compact: the layers that have their connections already.
    """
    settings = self._settings
    given: dict[str, float] = {}
    if compact:
      check_trainable(self, compact, settings.structure)
      method = type(self).__name__
      given = own_sparsities(compact, self.starts_dense, method)
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

  @property
  def masks(self) -> dict[str, keras.Variable]:
    """{path: bool variable of the shape}; empty before the optimizer is built.

    True means an active connection. Do not assign them. For a layer that stores
    only its active connections it is a tensor, made for this call.
    """
    return {kernel.path: kernel.whole_mask for kernel in self._kernels}

  @property
  def sparse_kernels(self) -> tuple[SparseKernel, ...]:
    """The sparse variables; none before the optimizer is built."""
    return self._kernels

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

  def get_config(self) -> dict[str, Any]:
    """The configuration, from which `from_config` makes an equal optimizer."""
    settings = self._settings
    filters, distribution = settings.filters, settings.distribution
    if self._kernels:  # Paths stay true where Keras loads other scopes.
      if filters is not None:
        filters = [kernel.path for kernel in self._kernels]
      if not isinstance(distribution, str):
        distribution = {
          k.path: k.sparsity
          for k in self._kernels
          if k.stored_mask is not None or self.starts_dense
        }
    elif callable(filters):
      filters = keras.saving.serialize_keras_object(filters)
    return super().get_config() | {
      "sparsity": settings.sparsity,
      "distribution": distribution
      if isinstance(distribution, str)
      else dict(distribution),
      "filters": filters,
      "seed": settings.seed,
      "mask_engine": settings.mask_engine,
      "structure": settings.structure and str(settings.structure),
    }

  def _own_state(self) -> list[Variable]:
    return [*self._variables, *stored_masks(self._kernels)]

  def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
    """Writes masks and counters; Keras saves the inner optimizer by itself.

    Args:
      store: the place in the file.
    """
    masks = stored_masks(self._kernels)
    save_state(store, self._variables, masks, self._count_compact())

  def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
    """Reads masks and counters; Keras loads the inner optimizer by itself.

    An optimizer that is not built yet is built for its model first.

    Args:
      store: the place in the file; empty if the file has no optimizer, which
        changes nothing.

    Raises:
      ValueError: if state would be lost, because the file holds other state or
        the optimizer cannot be built.
    """
    if not store.keys():
      if self.built:
        warnings.warn(
          f"The file holds no state of {self.name!r}, which keeps its masks: "
          "the next step sets weights that they leave out to zero.",
          stacklevel=2,
        )
      return
    if not self.built:
      if not set(store.keys()) & {"mask_0", NUM_COMPACT}:
        return  # Written before this optimizer was built, too.
      self._build_to_load()
    masks = stored_masks(self._kernels)
    load_state(store, self._variables, masks, self._count_compact())
    # Keras loads the layers of a model before its optimizer.
    if any([kernel.warn_of_lost_weights() for kernel in self._kernels]):
      self._clear()

  def _count_compact(self) -> int:
    return sum(kernel.stored_mask is None for kernel in self._kernels)

  def _build_to_load(self) -> None:
    model = model_of(self)
    if model is None:
      raise ValueError(
        "The file holds the state of an optimizer, but this one is not built: "
        "call model.optimizer.build(model.trainable_variables) before loading."
      )
    # The weights may be those of the file already.
    self._loads = True
    try:
      self.build(model.trainable_variables)
    finally:
      self._loads = False

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
