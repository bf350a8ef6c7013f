# SPDX-License-Identifier: Apache-2.0
"""Initial masks of layers, in plain NumPy."""

import math
import operator
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rigl.checks import check_integer, check_number, describe
from rigl.sparse_utils.sparsities import (
  get_n_zeros,
  get_sparsities,
  layer_shapes,
)
from rigl.structures import Groups


def calculate_sparsity(masks: Iterable[Any]) -> float:
  """Share of zeros over all masks together.

  Args:
    masks: arrays of any shape and numeric or boolean dtype, or whatever
      `np.asarray` accepts; the values are taken if it is a mapping.

  Returns:
    A fraction in [0, 1], weighted by the sizes of the masks.

  Raises:
    ValueError: if there is no connection at all.
  """
  values = masks.values() if isinstance(masks, Mapping) else masks
  if isinstance(values, str) or not isinstance(values, Iterable):
    raise ValueError(
      f"`masks` must be a mapping or a sequence of arrays, got {values!r}."
    )
  arrays = [np.asarray(mask) for mask in values]
  if any(array.dtype.kind in "OSUM" for array in arrays):
    raise ValueError("`masks` must hold numbers or bools, got other objects.")
  size = sum(array.size for array in arrays)
  if not size:
    raise ValueError("`masks` must hold at least one connection, got none.")
  n_ones = sum(int(np.count_nonzero(array)) for array in arrays)
  return (size - n_ones) / size


def get_mask_random(
  shape: Iterable[int],
  sparsity: float,
  seed: int,
  name: str = "",
  dtype: npt.DTypeLike = np.bool_,
) -> np.ndarray:
  """Random mask with exactly `get_n_zeros(size, sparsity)` zeros.

  Every placement of the zeros is equally likely. The mask is a function of the
  arguments alone, so that all processes of a run agree on it.

  Args:
    shape: shape of the mask.
    sparsity: share of zeros in [0, 1].
    seed: non-negative seed of the run.
    name: name of the layer; layers of the same shape get different masks.
    dtype: dtype of the mask, of NumPy or TensorFlow. The zeros do not depend
      on it.

  Returns:
    An array of the given shape, 1 (or True) where a connection is active.

  Raises:
    ValueError: if `sparsity` or `seed` is out of its range.
  """
  shape = _shape_of(shape)
  check_number("sparsity", sparsity, 0, 1)
  generator = _generator(seed, name)
  mask = np.ones(math.prod(shape), np.bool_)
  mask[: get_n_zeros(mask.size, sparsity)] = False
  generator.shuffle(mask)
  return mask.reshape(shape).astype(_numpy_dtype(dtype))


def get_mask_in_groups(
  shape: Iterable[int], groups: Groups, num_ones: int, seed: int, name: str = ""
) -> np.ndarray:
  """Random mask with exactly `num_ones` ones in every group.

  Args:
    shape: shape of the mask.
    groups: the groups of its connections, of `Structure.groups`.
    num_ones: ones per group, from 0 to the size of the groups.
    seed: non-negative seed of the run.
    name: name of the layer; layers of the same shape get different masks.

  Returns:
    A bool array of the given shape, True where a connection is active.

  Raises:
    ValueError: if `num_ones` or `seed` is out of its range.
  """
  if not 0 <= num_ones <= groups.size:
    raise ValueError(
      f"`num_ones` must be in [0, {groups.size}], got {num_ones}."
    )
  ordered = np.zeros((groups.size, groups.number), np.bool_)
  ordered[:num_ones] = True
  mask = _generator(seed, name).permuted(ordered, axis=0)
  return groups.join(mask).reshape(tuple(shape))


def _generator(seed: int, name: str) -> np.random.Generator:
  _check_seed(seed)
  _check_name(name)
  # Not `hash`, which differs between processes.
  sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
  return np.random.Generator(np.random.Philox(sequence))


def get_mask_init_fn(
  layers: Mapping[str, Any],
  method: str,
  default_sparsity: float,
  custom_sparsity_map: Mapping[str, float] | None = None,
  mask_fn: Callable[..., np.ndarray] = get_mask_random,
  erk_power_scale: float = 1.0,
  seed: int = 0,
) -> Callable[[], dict[str, np.ndarray]]:
  """Prepares the random initial masks of all layers.

  Args:
    layers: kernel shapes, or objects with a `shape`, by layer name. Those
      with an `assign` method (mask variables) are assigned their mask.
    method: how the sparsity is distributed over layers: `random`,
      `erdos_renyi`, `erdos_renyi_kernel` or `str`.
    default_sparsity: overall share of zeros, in [0, 1).
    custom_sparsity_map: {layer name: sparsity in [0, 1)} of layers that
      differ. None: there are none.
    mask_fn: makes one mask, called as `mask_fn(shape, sparsity, seed, name)`.
    erk_power_scale: non-negative exponent of `erdos_renyi_kernel`.
    seed: non-negative seed of the run.

  Returns:
    A function without arguments that makes (and assigns, in the dtype of the
    variable) all masks and returns them by layer name.

  Raises:
    ValueError: at once, if an argument is not as described.
  """
  _check_seed(seed)
  if not callable(mask_fn):
    raise ValueError(
      "`mask_fn` must be a function (shape, sparsity, seed, name) -> array, "
      f"got {describe(mask_fn)}."
    )
  shapes = layer_shapes(layers)
  sparsities = get_sparsities(
    layers, method, default_sparsity, custom_sparsity_map, erk_power_scale
  )

  def init_masks() -> dict[str, np.ndarray]:
    masks = {}
    for name, shape in shapes.items():
      mask = masks[name] = mask_fn(shape, sparsities[name], seed, name)
      layer = layers[name]
      if hasattr(layer, "assign"):
        layer.assign(mask.astype(_numpy_dtype(layer.dtype)))
    return masks

  return init_masks


def _shape_of(shape: Iterable[int]) -> tuple[int, ...]:
  try:
    dims = tuple(operator.index(dim) for dim in shape)
  except TypeError:
    dims = (-1,)
  if min(dims, default=0) < 0:
    raise ValueError(
      "`shape` must be a sequence of integers, such as mask.shape of the "
      f"published API's mask, got {describe(shape)}."
    )
  return dims


def _numpy_dtype(dtype: Any) -> Any:
  return getattr(dtype, "as_numpy_dtype", dtype)


def _check_seed(seed: int) -> None:
  try:
    check_integer("seed", seed, 0)
  except ValueError as error:
    raise ValueError(
      f"{error} (A dtype is the argument `dtype`, and a RandomState of the "
      "published API becomes a seed.)"
      if not isinstance(seed, int)
      else str(error)
    ) from None


def _check_name(name: str) -> None:
  if not isinstance(name, str):
    raise ValueError(f"`name` must be a str, got {describe(name)}.")
