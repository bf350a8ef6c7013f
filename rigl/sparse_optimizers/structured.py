# SPDX-License-Identifier: Apache-2.0
"""Masks with a structure: initial masks, and the groups that masks imply."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rigl import sparse_utils
from rigl.structures import Groups, Structure
from rigl.types import Tensor, Variable


def structured_masks(
  shapes: Mapping[str, tuple[int, ...]],
  sparsities: Mapping[str, float],
  structure: Structure,
  seed: int,
) -> dict[str, np.ndarray]:
  """Random masks with a structure, of all layers that are not dense.

  Args:
    shapes: {layer name: shape of the kernel}.
    sparsities: {layer name: share of zeros in [0, 1]}.
    structure: the structure.
    seed: non-negative seed of the run.

  Returns:
    {layer name: bool array} of the layers with a sparsity above 0.

  Raises:
    ValueError: if a layer cannot have the structure.
  """
  masks = {}
  for name in structure.sparse_layers(sparsities):
    groups = structure.groups(name, shapes[name])
    ones = structure.ones_per_group(groups, sparsities[name])
    masks[name] = sparse_utils.get_mask_in_groups(
      shapes[name], groups, ones, seed, name
    )
  return masks


def groups_of_targets(
  kernels: Mapping[str, Variable],
  targets: Mapping[str, float],
  structure: Structure | None,
) -> dict[str, Groups]:
  """The groups of all layers that do not stay dense.

  Args:
    kernels: the kernels by layer name.
    targets: {layer name: final share of zeros in [0, 1]}.
    structure: the structure; None has no groups.

  Returns:
    {layer name: its groups}.

  Raises:
    ValueError: if a layer cannot have the structure.
  """
  if structure is None:
    return {}
  return {
    name: structure.groups(name, kernels[name].shape)
    for name in structure.sparse_layers(targets)
  }


def groups_of_masks(
  masks: Mapping[str, Tensor], structure: Structure
) -> dict[str, Groups]:
  """The groups of all layers whose masks are not full.

  Args:
    masks: {layer name: array or tensor}, nonzero for active. An empty mask
      stands for one that a checkpoint will bring.
    structure: the structure that the masks must have.

  Returns:
    {layer name: its groups}.

  Raises:
    ValueError: if a mask that is not full lacks the structure.
  """
  result = {}
  for name, mask in masks.items():
    active = np.asarray(mask) != 0
    if active.all():
      continue
    groups = structure.groups(name, active.shape)
    ones = np.unique(groups.split(active.reshape(-1)).sum(0))
    expected = structure.ones or int(ones[0])
    if active.any() and ones.tolist() != [expected]:
      raise ValueError(
        f"The mask of {name!r} must have {expected} of {groups.size} "
        f"connections active in every group, because `structure` is "
        f"{structure}, got {ones[0]} to {ones[-1]}."
      )
    result[name] = groups
  return result
