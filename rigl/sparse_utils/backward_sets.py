# SPDX-License-Identifier: Apache-2.0
"""Top-KAST's numbers of weights: how many of each layer are trained.

Jayakumar et al., 2020, https://arxiv.org/abs/2106.03517, section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rigl.checks import check_number
from rigl.sparse_utils.sparsities import get_n_zeros, get_sparsities
from rigl.structures import Groups


class BackwardSparsity(NamedTuple):
  """How many weights are not trained.

  Attributes:
    overall: their share of the weights of all layers, in [0, 1).
    ratio: `overall` divided by the sparsity of the network, in [0, 1]; 0 for a
      dense network. It multiplies the fixed sparsities of single layers.
  """

  overall: float
  ratio: float


def value_of_flag(flag: float) -> float | None:
  """The argument `backward_sparsity` by the flag of that name.

  Args:
    flag: the value of the flag; negative for the default.
  """
  return None if flag < 0 else flag


def chosen_backward_sparsity(
  backward: float | None, forward: float
) -> BackwardSparsity:
  """How many weights are not trained.

  By default, twice as many are trained as compute.

  Args:
    backward: share of the weights that are not trained, in [0, `forward`].
      None: max(2 * `forward` - 1, 0).
    forward: share of zeros in the kernels, in [0, 1).

  Raises:
    ValueError: if one of them is out of its range.
  """
  check_number("default_sparsity", forward, 0, 1, below=True)
  if backward is None:
    backward = max(2.0 * forward - 1.0, 0.0)
  check_number("backward_sparsity", backward, 0)
  if backward > forward:
    raise ValueError(
      "`backward_sparsity` must be at most the sparsity of the network, "
      f"{forward}, because the weights that compute are trained, got "
      f"{backward}."
    )
  return BackwardSparsity(
    float(backward), backward / forward if forward else 0.0
  )


def backward_sparsities(
  shapes: Mapping[str, Sequence[int]],
  method: str,
  forward: float,
  custom_sparsity_map: Mapping[str, float] | None,
  erk_power_scale: float,
  backward: float | None,
) -> dict[str, float]:
  """The share of the weights of each layer that are not trained.

  The distribution of the sparsity gives it, for the overall backward sparsity.
  Where layers have fixed sparsities, by a map or by `str`, it is these times
  the ratio of `chosen_backward_sparsity`.

  Args:
    shapes: {layer name: shape of the kernel}.
    method: one of `DISTRIBUTIONS`.
    forward: share of zeros over all layers.
    custom_sparsity_map: {layer name: sparsity in [0, 1)}, or None.
    erk_power_scale: exponent, for `erdos_renyi_kernel` only.
    backward: share of weights that are not trained, over all layers; None for
      the default of `chosen_backward_sparsity`.

  Raises:
    ValueError: if it is out of its range or cannot be distributed over the
      layers.
  """
  overall, ratio = chosen_backward_sparsity(backward, forward)
  arguments = (custom_sparsity_map, erk_power_scale)
  if method == "str":
    found = get_sparsities(shapes, method, forward, *arguments)
    return {name: sparsity * ratio for name, sparsity in found.items()}
  if custom_sparsity_map:
    get_sparsities(shapes, method, forward, *arguments)
    scaled = {n: s * ratio for n, s in custom_sparsity_map.items()}
    arguments = (scaled, erk_power_scale)
  return get_sparsities(shapes, method, overall, *arguments)


def num_backward(
  size: int, groups: Groups | None, sparsity: float, num_forward: int
) -> int:
  """The weights of a layer that are trained, or of every group of it.

  Args:
    size: number of weights of the layer.
    groups: its groups; None if it has none.
    sparsity: share of its weights that are not trained, in [0, 1].
    num_forward: its weights that compute, or those of every group.
  """
  number = size if groups is None else groups.size
  zeros = get_n_zeros(number, sparsity)
  return max(number - zeros, num_forward)
