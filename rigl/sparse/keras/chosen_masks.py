# SPDX-License-Identifier: Apache-2.0
"""Which dense layers become sparse, and with which connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from rigl import sparse_utils
from rigl.checks import check_integer
from rigl.keras.kernels import Filters, check_filters, choose_kernels, find_path
from rigl.keras.sparsities import Distribution, check_distribution, distribute
from rigl.keras.wrapped import find_sparse_optimizer
from rigl.sparse_optimizers.restored import mask_with_weights


def choose_masks(
  model: keras.Model,
  layers: Sequence[keras.layers.Dense],
  sparsity: float | None,
  distribution: Distribution | None,
  masks: Mapping[str, Any] | None,
  filters: Filters,
  seed: int,
) -> dict[int, np.ndarray]:
  """The masks of the layers that become sparse.

  Args:
    model: the model.
    layers: its dense layers, each once.
    sparsity: for random masks: overall share of zeros.
    distribution: how it is distributed; None for `erk`.
    masks: {path or name: mask}, in place of random ones.
    filters: which layers may become sparse.
    seed: seed of random masks.

  Returns:
    {id of a layer: bool [inputs, outputs]}, at least one.

  Raises:
    ValueError: if an argument is wrong, or there is no such layer.
  """
  check_filters(filters)
  check_integer("seed", seed, 0)
  if masks is not None and sparsity is not None:
    raise ValueError("`sparsity` must be None where `masks` are given.")
  if distribution is not None and sparsity is None:
    raise ValueError(
      f"`distribution` needs a `sparsity` to distribute, got {distribution!r}."
    )
  if sparsity is not None:
    check_distribution(distribution or "erk", sparsity)
  if not layers:
    raise ValueError("`model` must have a layer of keras.layers.Dense.")
  chosen = list(layers)
  if filters is not None:
    kernels = [layer.kernel for layer in layers]
    places = choose_kernels(kernels, [[layer] for layer in layers], filters)
    chosen = [layers[place] for place in places]
  if masks is not None:
    found = _given(chosen, masks)
  elif sparsity is not None:
    found = _random(chosen, sparsity, distribution or "erk", seed)
  else:
    found = _existing(model, chosen)
  if not found:
    raise ValueError(
      "`model` must have a dense layer with zeros, or `sparsity` or `masks` "
      "must ask for some."
    )
  return found


def _given(
  layers: Sequence[keras.layers.Dense], masks: Mapping[str, Any]
) -> dict[int, np.ndarray]:
  """Masks by the paths of kernels, or the paths or names of layers."""
  if not isinstance(masks, Mapping):
    raise ValueError(
      f"`masks` must be a dictionary, got {type(masks).__name__}."
    )
  found: dict[int, np.ndarray] = {}
  paths = [layer.kernel.path for layer in layers]
  for key, value in masks.items():
    whole = find_path(key, paths)
    matching = [
      layer
      for layer, path in zip(layers, paths, strict=True)
      if path == whole or key in (layer.path, layer.name)
    ]
    if len(matching) != 1 or id(matching[0]) in found:
      raise ValueError(
        "`masks` must name each dense layer by one key, got "
        f"{key!r}; the kernels are {paths}."
      )
    mask, shape = np.asarray(value) != 0, tuple(matching[0].kernel.shape)
    if mask.shape != shape:
      raise ValueError(
        f"`masks` of {key!r} must have the shape {shape}, got {mask.shape}."
      )
    found[id(matching[0])] = mask
  return found


def _random(
  layers: Sequence[keras.layers.Dense],
  sparsity: float,
  distribution: Distribution,
  seed: int,
) -> dict[int, np.ndarray]:
  """Masks that sparse optimizers draw from the seed, by the layers' numbers."""
  shapes = {layer.kernel.path: tuple(layer.kernel.shape) for layer in layers}
  if len(shapes) < len(layers):
    raise ValueError(
      "Two dense layers have the same path: give them different names, or "
      f"leave them out by `filters`; the paths are {list(shapes)}."
    )
  sparsities = distribute(distribution, sparsity, shapes)
  found = {}
  for number, layer in enumerate(layers):
    share = sparsities[layer.kernel.path]
    shape = shapes[layer.kernel.path]
    if share:
      mask = sparse_utils.get_mask_random(shape, share, seed, str(number))
      found[id(layer)] = mask_with_weights(layer.kernel.numpy(), mask)
  return found


def _existing(
  model: keras.Model, layers: Sequence[keras.layers.Dense]
) -> dict[int, np.ndarray]:
  """The connections that the model has."""
  optimizer = find_sparse_optimizer(model)
  kernels = optimizer.sparse_kernels if optimizer is not None else ()
  masks = {id(k.variable): k.mask_with_weights() for k in kernels}
  found = {}
  for layer in layers:
    mask = masks.get(id(layer.kernel))
    active = layer.kernel.numpy() != 0 if mask is None else mask
    if not active.all():
      found[id(layer)] = active
  return found
