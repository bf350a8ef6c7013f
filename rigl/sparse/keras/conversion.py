# SPDX-License-Identifier: Apache-2.0
"""Replaces the dense layers of a model by sparse ones, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from rigl.checks import check_integer
from rigl.keras.compact_layers import set_dense, stored_layers
from rigl.keras.copies import copy_model
from rigl.keras.kernels import Filters
from rigl.keras.sparsities import Distribution
from rigl.sparse.keras.chosen_masks import choose_masks
from rigl.sparse.keras.layer import SparseDense
from rigl.sparse.timing import time_steps

COMPUTE = ("sparse", "auto")


def convert(
  model: keras.Model,
  sparsity: float | None = None,
  *,
  distribution: Distribution | None = None,
  masks: Mapping[str, Any] | None = None,
  filters: Filters = None,
  seed: int = 0,
  compute: Literal["sparse", "auto"] = "sparse",
  batch_size: int = 128,
  threads: int = 1,
) -> keras.Model:
  """Replaces `Dense` layers of a model by `SparseDense` ones.

  The model may be a `Sequential`, a functional or a subclassed one. Layers are
  also replaced in nested models and in layers that hold them as attributes, in
  lists, tuples or dictionaries; shared layers stay shared and frozen ones
  frozen. The model itself is not changed.

  Without `sparsity` and `masks`, the connections are those that the model has:
  the masks of its sparse optimizer if it was compiled with one, else the
  weights that are not zero. Layers without zeros stay dense.

  Args:
    model: a model whose weights exist.
    sparsity: overall share of zeros in the chosen layers, in [0, 1), for random
      masks, those of `rigl.keras.RigL` for a model of `Dense` layers. A kernel
      that is as sparse already keeps its weights; other weights off the masks
      are lost. Layers that get sparsity 0 stay dense.
    distribution: how `sparsity` is distributed over the layers: `erk`,
      `erdos_renyi`, `uniform` or {path or regex: sparsity}. None: `erk`.
    masks: {path of a kernel, or name or path of its layer: array of its shape},
      nonzero where a connection is active, of the layers to replace.
    filters: which layers may be replaced: None for all, a regex, a list of
      regexes, or a function of the path of a kernel.
    seed: seed of random masks, at least 0.
    compute: `sparse` replaces every chosen layer; `auto` times a training step
      of both forms of each layer for about a second and takes the faster. It
      depends on the machine then which layers are replaced.
    batch_size: rows that pass through a layer in a step, for `auto`: examples,
      times positions in a sequence.
    threads: how many threads may share a product, at least 1.

  Returns:
    The new model, not compiled, which computes what the model does with the
    weights off the masks at zero.

  Raises:
    ValueError: if an argument is not as described, there is nothing to replace,
      or a layer cannot be replaced: because its class is derived from `Dense`,
      its settings need the whole kernel, or Keras cannot copy the model that
      uses it.

  Example:
    >>> model = keras.Sequential([keras.Input([64]), keras.layers.Dense(32)])
    >>> sparse = convert(model, sparsity=0.75)
    >>> sparse.layers[0].values.shape, int(to_dense(sparse).count_params())
    (TensorShape([512]), 2080)
  """
  _check_model(model)
  if compute not in COMPUTE:
    raise ValueError(f"`compute` must be one of {COMPUTE}, got {compute!r}.")
  check_integer("batch_size", batch_size, 1)
  check_integer("threads", threads, 1)
  dense = {id(layer): layer for layer in _dense_layers(model)}
  chosen = choose_masks(
    model, list(dense.values()), sparsity, distribution, masks, filters, seed
  )
  new = {
    key: _sparse_layer(dense[key], mask, threads)
    for key, mask in chosen.items()
  }
  if compute == "auto":
    new = {
      key: layer
      for key, layer in new.items()
      if _is_faster(chosen[key], batch_size, threads)
    }
  copy, counterparts = _copied(model, new)
  for key, mask in chosen.items():
    kernel = dense[key].kernel
    if key in new:
      _set_sparse(new[key], dense[key], mask)
    else:
      counterparts[id(kernel)].assign(kernel.numpy() * mask)
  return copy


def to_dense(model: keras.Model) -> keras.Model:
  """Replaces `SparseDense` and `BlockSparseDense` layers by `Dense` ones.

  Args:
    model: a model whose weights exist; it is not changed.

  Returns:
    The new model, not compiled, with the same weights, and zeros where there is
    no connection. A model without such layers is copied.

  Raises:
    ValueError: if Keras cannot copy the model.
  """
  _check_model(model)
  stored = stored_layers(model)
  new = {id(layer): layer.dense_layer() for layer in stored}
  copy, _ = _copied(model, new)
  for layer in stored:
    set_dense(layer, new[id(layer)])
  return copy


def _check_model(model: keras.Model) -> None:
  if not isinstance(model, keras.Model):
    raise ValueError(
      f"`model` must be a Keras model, got {type(model).__name__}."
    )
  if not model.built:
    raise ValueError("`model` must be built: call it on data, or fit it.")


def _dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
  """The layers of `Dense`, in the order of their kernels in the model."""
  variables = [*model.trainable_variables, *model.non_trainable_variables]
  places = {id(variable): place for place, variable in enumerate(variables)}
  found = {
    places[id(layer.kernel)]: layer
    for layer in model._flatten_layers()
    if type(layer) is keras.layers.Dense
    and layer.built
    and id(layer.kernel) in places
  }
  return [found[place] for place in sorted(found)]


def _is_faster(mask: np.ndarray, batch_size: int, threads: int) -> bool:
  """Whether a layer of these connections trains faster than with a mask."""
  inputs, outputs = mask.shape
  active = max(int(np.count_nonzero(mask)), 1)
  times = time_steps(
    inputs, outputs, 1 - active / mask.size, batch_size, threads=threads
  )
  return times.csr < min(times.masked, times.masked_xla)


def _copied(
  model: keras.Model, replacements: Mapping[int, keras.layers.Layer]
) -> tuple[keras.Model, dict[int, keras.Variable]]:
  try:
    return copy_model(model, replacements)
  except ValueError as error:
    raise ValueError(
      "`model` must be one that Keras can copy by its configuration, with "
      f"layers that can be replaced: {error}."
    ) from error


def _sparse_layer(
  dense: keras.layers.Dense, mask: np.ndarray, threads: int
) -> SparseDense:
  """A `SparseDense` of the same settings, not built yet."""
  for name in ("kernel_constraint", "lora_rank", "quantization_mode"):
    if getattr(dense, name, None):
      raise ValueError(
        f"The layer {dense.path!r} cannot become sparse because of its "
        f"`{name}`, which needs the whole kernel: leave it out by `filters`."
      )
  try:
    return SparseDense(
      dense.units,
      dense.activation,
      dense.use_bias,
      connections=int(np.count_nonzero(mask)),
      kernel_initializer=dense.kernel_initializer,
      bias_initializer=dense.bias_initializer,
      kernel_regularizer=dense.kernel_regularizer,
      bias_regularizer=dense.bias_regularizer,
      activity_regularizer=dense.activity_regularizer,
      bias_constraint=dense.bias_constraint,
      seed=0,
      threads=threads,
      name=dense.name,
      dtype=dense.dtype_policy,
      trainable=dense.trainable,
    )
  except ValueError as error:
    raise ValueError(
      f"The layer {dense.path!r} cannot become sparse, so leave it out by "
      f"`filters`: {error}"
    ) from error


def _set_sparse(
  layer: SparseDense, dense: keras.layers.Dense, mask: np.ndarray
) -> None:
  """Gives a sparse layer, which is built, the active weights of a dense one."""
  positions = np.flatnonzero(mask).astype(np.int32)
  layer.set_connections(positions, dense.kernel.numpy().reshape(-1)[positions])
  if layer.bias is not None:
    layer.bias.assign(dense.bias)
