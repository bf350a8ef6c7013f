# SPDX-License-Identifier: Apache-2.0
"""The owner of the masks of Keras variables: makes, shows and clears them.

`base.SparseOptimizer` adds training steps.
"""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rigl import sparse_utils
from rigl.keras import replicas
from rigl.keras.kernels import (
  Filters,
  check_filters,
  choose_kernels,
  path_of,
)
from rigl.keras.live import model_of
from rigl.keras.saving import MaskBits, load_state, save_state
from rigl.keras.slots import Slot, Slots, find_slots
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
from rigl.sparse_optimizers.sparse_layer import SparseLayer
from rigl.sparse_optimizers.summary import summary
from rigl.structures import Groups, Structure, parse_structure
from rigl.types import Tensor, Variable


@dataclass(frozen=True, eq=False)
class SparseKernel:
  """A sparse variable, its mask and its slots.

  Attributes:
    path: path of the variable; masks and sparsities are keyed by it.
    name: its number among the sparse variables, which random numbers are
      derived from. Paths would not do: Keras numbers layers through all models
      of a process, and a model from a file may have other paths.
    variable: the weights, zero wherever the mask is.
    mask: bool variable of the same shape; true means active.
    slots: the slots that the inner optimizer keeps for the weights.
    sparsity: share of zeros that the distribution gives it.
    groups: groups of connections that each keep their number of active ones;
      None where only the variable does.
  """

  path: str
  name: str
  variable: keras.Variable
  mask: keras.Variable
  slots: Slots
  sparsity: float
  groups: Groups | None

  @property
  def name_hash(self) -> int:
    """CRC-32 of the name: the same in every process, unlike hash()."""
    return zlib.crc32(self.name.encode())

  @property
  def size(self) -> int:
    """The number of connections, active or not."""
    return int(np.prod(self.variable.shape))


class MaskOwner(WrappingOptimizer):
  """A wrapping optimizer with one mask per sparse variable.

  Args:
    optimizer: the Keras optimizer that makes the gradient steps, its name or
      its configuration.
    sparsity: overall share of zeros in the sparse variables, in [0, 1). None:
      0.9, or what `structure` fixes.
    distribution: how it is distributed over the variables: `erk`,
      `erdos_renyi`, `uniform`, or {path or regex: sparsity}; see
      `sparsities.distribute`. None: `erk`, or `uniform` if `structure` fixes
      the sparsity.
    filters: which variables are sparse: None for all kernels, a regex, a list
      of regexes, or a function of a path; see `kernels.choose_kernels`.
    seed: seed of all random numbers, at least 0.
    mask_engine: how connections are chosen, which changes the speed and not
      the choice: `xla`, `batched`, `numpy` (not inside `jit_compile=True`), or
      `auto` by the devices that TensorFlow has.
    structure: `N:M`, such as `2:4`, keeps N of every M neighbouring inputs of
      an output active; `fan_in` keeps the same number of connections per
      output. None: only that per variable is fixed.
    name: name of this optimizer. None: one that Keras makes.
    **kwargs: none; arguments of Keras optimizers belong to `optimizer`.

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
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
      raise ValueError(
        f"`seed` must be an integer of at least 0, got {seed!r}."
      )
    engine = MaskEngine(mask_engine)
    super().__init__(optimizer, name, **kwargs)
    self._settings = _Settings(
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
    shapes = [tuple(variables[place].shape) for place in chosen]
    sparsities = distribute(
      settings.distribution,
      settings.sparsity,
      dict(zip(paths, shapes, strict=True)),
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
          mask=_mask_variable(
            path,
            self._initial_mask(name, tuple(shape), sparsities[path], groups[i]),
          ),
          slots=slots[i],
          sparsity=sparsities[path],
          groups=groups[i],
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
      self._mask_bits = MaskBits([kernel.mask for kernel in kernels])
      # By the variables, which a checkpoint may have restored by now.
      if not self._loads:
        self._clear(all_slots=True)
    self.built = True

  def _variable_scope(self) -> contextlib.ExitStack:
    """A context where variables are made eagerly, on all devices."""
    strategy = self._distribution_strategy
    if tf.distribute.has_strategy():
      strategy = tf.distribute.get_strategy()
    stack = contextlib.ExitStack()
    stack.enter_context(tf.init_scope())
    if strategy is not _DEFAULT_STRATEGY:
      stack.enter_context(strategy.scope())
    return stack

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

    True means an active connection. Do not assign them.
    """
    return {kernel.path: kernel.mask for kernel in self._kernels}

  @property
  def sparsities(self) -> dict[str, float]:
    """{path: share of zeros in the mask now}."""
    return {
      kernel.path: sparse_utils.calculate_sparsity([kernel.mask.numpy()])
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
    layers = [SparseLayer(k.path, k.variable, k.mask) for k in self._kernels]
    return summary(layers, self.changed_in_last_update())

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
        distribution = {k.path: k.sparsity for k in self._kernels}
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
    return [*self._variables, *(kernel.mask for kernel in self._kernels)]

  def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
    """Writes masks and counters; Keras saves the inner optimizer by itself.

    Args:
      store: the place in the file.
    """
    save_state(store, self._variables, [k.mask for k in self._kernels])

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
      if not set(store.keys()) & {"mask_0"}:
        return  # Written before this optimizer was built, too.
      self._build_to_load()
    load_state(store, self._variables, [k.mask for k in self._kernels])

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
      replicas.update(kernel.variable, keep_masked, kernel.mask)
      slots = kernel.slots
      for slot in slots.all() if all_slots else slots.changing():
        _clear_slot(slot, kernel.mask)


@dataclass(frozen=True)
class _Settings:
  """The arguments of a sparse optimizer, checked."""

  sparsity: float
  distribution: Distribution
  filters: Filters
  seed: int
  mask_engine: EngineName
  structure: Structure | None


def _mask_variable(path: str, mask: np.ndarray) -> keras.Variable:
  return keras.Variable(
    mask,
    dtype="bool",
    trainable=False,
    aggregation="only_first_replica",
    name=f"{path.replace('/', '_')}_mask",
  )


def keep_masked(variable: Variable, mask: Tensor, start: float = 0.0) -> None:
  """Sets a variable to `start` wherever the mask is false."""
  value = tf.convert_to_tensor(variable)
  variable.assign(tf.where(mask, value, tf.constant(start, value.dtype)))


def _clear_slot(slot: Slot, mask: keras.Variable) -> None:
  start = slot.start or 0.0  # A copy of an inactive weight is zero.
  replicas.update(
    slot.variable,
    lambda variable, kept: keep_masked(variable, kept, start),
    mask,
  )


_DEFAULT_STRATEGY = tf.distribute.get_strategy()
