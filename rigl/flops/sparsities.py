# SPDX-License-Identifier: Apache-2.0
"""The sparsity of each layer that the flags of `rigl-flops` ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rigl import counting, sparse_utils
from rigl.flops import flops_models, options
from rigl.sparse_utils import backward_sets


def layer_sparsities(
  values: Any, network: flops_models.Network
) -> dict[str, float]:
  """The sparsity of each layer: of the flags or of the file.

  Args:
    values: object with the flags as attributes.
    network: the layers, and the zeros of a file.

  Raises:
    ValueError: if a flag is out of its range, or there is no file.
  """
  layers, zeros = network.layers, network.zeros
  if values.sparsity == options.FILE:
    if zeros is None:
      raise ValueError(
        f"`sparsity` must be a number for a model without weights, got "
        f"{options.FILE!r} for {values.model!r}."
      )
    return {n.name: _share(zeros[n.name], n.size) for n in layers}
  return _distributed(values, layers, values.sparsity)


def backward_sparsities(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  asked: Mapping[str, float],
) -> dict[str, float]:
  """The share of the weights of each layer that Top-KAST does not train.

  Args:
    values: object with the flags as attributes.
    layers: the layers.
    asked: the sparsity of each layer.

  Raises:
    ValueError: if `backward_sparsity` is out of its range.
  """
  forward = values.sparsity
  if forward == options.FILE:
    zeros = sum(asked[layer.name] * layer.size for layer in layers)
    forward = zeros / sum(layer.size for layer in layers)
  given = backward_sets.value_of_flag(values.backward_sparsity)
  overall, ratio = backward_sets.chosen_backward_sparsity(given, forward)
  if values.sparsity == options.FILE or values.method == "str":
    return {name: each * ratio for name, each in asked.items()}
  return _distributed(values, layers, overall, ratio)


def _distributed(
  values: Any,
  layers: Sequence[counting.LayerSpec],
  sparsity: float,
  share: float = 1.0,
) -> dict[str, float]:
  """A sparsity over all layers, with a share of the flags' of single layers."""
  custom = _custom_sparsities(values, layers)
  counted = sparse_utils.get_layer_counts(
    layers,
    sparsity,
    values.method,
    {name: each * share for name, each in custom.items()},
    param_size=values.param_size,
    erk_power_scale=values.erk_power_scale,
  )
  return {n.spec.name: n.sparsity for n in counted}


def _custom_sparsities(
  values: Any, layers: Sequence[counting.LayerSpec]
) -> dict[str, float]:
  custom = {}
  for entry in values.custom_sparsities:
    name, _, sparsity = entry.rpartition("=")
    try:
      custom[name] = float(sparsity)
    except ValueError:
      name = ""
    if not name:
      raise ValueError(
        f"`custom_sparsities` must be NAME=SPARSITY, got {entry!r}."
      )
  ends = (
    ("first_layer_sparsity", layers[0]),
    ("last_layer_sparsity", layers[-1]),
  )
  for flag, layer in ends:
    sparsity = getattr(values, flag)
    if sparsity != -1:
      if not 0 <= sparsity < 1:
        raise ValueError(f"`{flag}` must be -1 or in [0, 1), got {sparsity}.")
      custom[layer.name] = sparsity
  return custom


def _share(zeros: int, size: int) -> float:
  """The share of zeros, of which `floor(share * size)` are as many."""
  share = zeros / size
  if math.floor(share * size) < zeros:
    share = math.nextafter(share, 1.0)
  return share
