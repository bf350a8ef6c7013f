# SPDX-License-Identifier: Apache-2.0
"""The sparsity of each layer, from an overall sparsity and a distribution.

Layers are known by name and kernel shape; everything is plain NumPy.
"""

import functools
import importlib.resources
import json
import math
import numbers
import operator
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from rigl.checks import check_integer, check_mapping, check_number, describe

DISTRIBUTIONS = ("random", "erdos_renyi", "erdos_renyi_kernel", "str")

# A requested sparsity may differ by this much from that of an STR table.
_STR_TOLERANCE = 1e-6

Shape = tuple[int, ...]


def get_n_zeros(size: int, sparsity: float) -> int:
  """Number of pruned connections among `size`: `floor(sparsity * size)`.

  Args:
    size: number of connections, at least 0.
    sparsity: share of zeros in [0, 1].

  Returns:
    An integer in [0, size].

  Raises:
    ValueError: if an argument is out of its range.
  """
  check_integer("size", size, 0)
  check_number("sparsity", sparsity, 0, 1)
  return math.floor(sparsity * size)


def get_sparsities(
  layers: Mapping[str, Any],
  method: str,
  default_sparsity: float,
  custom_sparsity_map: Mapping[str, float] | None = None,
  erk_power_scale: float = 1.0,
) -> dict[str, float]:
  """Distributes an overall sparsity over layers.

  * `random`: every layer gets `default_sparsity`.
  * `erdos_renyi` (Mocanu et al., 2018, https://arxiv.org/abs/1707.04780,
    equation 1): density proportional to (n_in + n_out) / (n_in * n_out).
  * `erdos_renyi_kernel` (Evci et al., 2020, https://arxiv.org/abs/1911.11134,
    section 3): density proportional to
    (sum(shape) / prod(shape)) ** erk_power_scale.
  * `str` (Kusupati et al., 2020, https://arxiv.org/abs/2002.03231): the
    sparsities that STR learned for ResNet-50, by layer name.

  Both Erdos-Renyi methods keep the number of connections that `random` would
  keep in the layers they distribute over. Layers whose density would exceed 1
  become dense and the others pay for them. Every layer keeps at least one
  connection: where the formula would leave none (a density below the
  precision of float64), the sparsity is that of one connection, with a
  warning.

  >>> layers = {'wide': (100, 10), 'narrow': (10, 10)}
  >>> get_sparsities(layers, 'random', 0.8)
  {'wide': 0.8, 'narrow': 0.8}

  Args:
    layers: kernel shapes (or objects with a `shape`) by layer name; positive
      dimensions, the last two being inputs and outputs.
    method: one of `DISTRIBUTIONS`.
    default_sparsity: overall share of zeros, in [0, 1); for `str` within 1e-6
      of one that has a table.
    custom_sparsity_map: {layer name: sparsity in [0, 1)} of layers with a
      sparsity of their own. They are left out of the distribution, and `str`
      ignores them.
    erk_power_scale: non-negative exponent, for `erdos_renyi_kernel` only.

  Returns:
    A sparsity in [0, 1] for every layer, in the order of `layers`.

  Raises:
    ValueError: if an argument is not as described, or if there is no layer
      left to distribute the sparsity over.
  """
  shapes = layer_shapes(layers)
  if custom_sparsity_map is not None:
    check_mapping(
      "custom_sparsity_map", custom_sparsity_map, "{layer name: sparsity}"
    )
  custom = dict(custom_sparsity_map or {})
  _check_sparsities(shapes, default_sparsity, custom)
  check_number("erk_power_scale", erk_power_scale, 0)
  sparsities = _distributed(
    shapes, method, default_sparsity, custom, erk_power_scale
  )
  return {
    name: _keeping_one(name, math.prod(shapes[name]), sparsity)
    for name, sparsity in sparsities.items()
  }


def _distributed(
  shapes: Mapping[str, Shape],
  method: str,
  default_sparsity: float,
  custom: dict[str, float],
  erk_power_scale: float,
) -> dict[str, float]:
  """The sparsities by the formulas of `get_sparsities`."""
  if method == "random":
    return {name: custom.get(name, default_sparsity) for name in shapes}
  if method == "str":
    return _str_sparsities(shapes, default_sparsity)
  if method not in DISTRIBUTIONS:
    raise ValueError(f"`method` must be in {DISTRIBUTIONS}, got {method!r}.")
  others = {name: s for name, s in shapes.items() if name not in custom}
  if not others:
    raise ValueError(
      "`custom_sparsity_map` must leave a layer to distribute "
      f"`default_sparsity` over with {method!r}, got all of {sorted(custom)}."
    )
  if method == "erdos_renyi":
    scores = {name: _er_score(name, s) for name, s in others.items()}
  else:
    scores = {n: _erk_score(s, erk_power_scale) for n, s in others.items()}
  sizes = {name: math.prod(shape) for name, shape in others.items()}
  custom.update(_distribute(sizes, scores, default_sparsity))
  return {name: custom[name] for name in shapes}


def _keeping_one(name: str, size: int, sparsity: float) -> float:
  """The sparsity, or that of one connection where it would leave none."""
  if get_n_zeros(size, sparsity) < size:
    return sparsity
  warn_of_one_connection(name, size, sparsity)
  return 1.0 - 0.5 / size  # Whose zeros, rounded down, are size - 1.


def warn_of_one_connection(name: str, size: int, sparsity: float) -> None:
  """Warns that a layer keeps one connection where rounding would leave none.

  Args:
    name: name of the layer.
    size: number of its weights.
    sparsity: the share of zeros that was asked for.
  """
  warnings.warn(
    f"The sparsity {sparsity:.6g} of layer {name!r} would leave none of its "
    f"{size} weights. It keeps one connection.",
    stacklevel=3,
  )


def layer_shapes(layers: Mapping[str, Any]) -> dict[str, Shape]:
  """The kernel shapes of layers.

  Args:
    layers: kernel shapes, or objects with a `shape`, by layer name.

  Raises:
    ValueError: if there is no layer or a dimension is unknown or below 1.
  """
  if not isinstance(layers, Mapping):
    raise ValueError(
      "`layers` must be a mapping {layer name: kernel shape}, such as "
      "{mask.name: mask.shape for mask in masks} for the masks of the "
      f"published API, got {describe(layers)}."
    )
  if not layers:
    raise ValueError("`layers` must name at least one layer, got none.")
  shapes = {}
  for name, layer in layers.items():
    dims = getattr(layer, "shape", layer)
    try:
      shapes[name] = tuple(operator.index(dim) for dim in dims)
    except (TypeError, ValueError):  # Unknown dimension, unknown rank.
      shapes[name] = ()
    if min(shapes[name], default=0) < 1:
      raise ValueError(
        "`layers` must have known, positive dimensions, got "
        f"{dims} for {name!r}."
      )
  return shapes


def _check_sparsities(
  shapes: Mapping[str, Shape], default: float, custom: Mapping[str, float]
) -> None:
  unknown = sorted(map(str, set(custom) - set(shapes)))
  if unknown:
    raise ValueError(
      f"`custom_sparsity_map` must use names out of {sorted(shapes)}, got "
      f"{unknown}."
    )
  check_number("default_sparsity", default, 0, 1, below=True)
  for name, sparsity in custom.items():
    is_number = isinstance(sparsity, numbers.Real)
    if not is_number or not 0 <= sparsity < 1:
      raise ValueError(
        f"`custom_sparsity_map` must have values in [0, 1), got {sparsity!r} "
        f"for {name!r}."
      )


def _er_score(name: str, shape: Shape) -> float:
  if len(shape) < 2:
    raise ValueError(
      "`layers` must have at least two dimensions for 'erdos_renyi', got "
      f"{shape} for {name!r}."
    )
  n_in, n_out = shape[-2:]
  return (n_in + n_out) / (n_in * n_out)


def _erk_score(shape: Shape, power_scale: float) -> float:
  try:
    return (sum(shape) / math.prod(shape)) ** power_scale
  except OverflowError:
    return math.inf


def _distribute(
  sizes: Mapping[str, int], scores: Mapping[str, float], default: float
) -> dict[str, float]:
  """Sparsities 1 - epsilon * score that keep the number of connections.

  Epsilon follows from: sum of (epsilon * score * size) over the layers that
  are not dense = connections to keep - connections of the dense layers.
  """
  budget = sum(size - get_n_zeros(size, default) for size in sizes.values())
  sparse = dict(scores)
  while sparse:
    norm = sum(score * sizes[name] for name, score in sparse.items())
    epsilon = budget / norm if norm else math.inf
    if not 0 < epsilon < math.inf:
      raise ValueError(
        "`erk_power_scale` must be small enough for densities in (0, 1], got "
        f"an epsilon of {epsilon} for the scores {sparse}."
      )
    largest = max(sparse.values())
    if epsilon * largest <= 1:
      break
    for name in [n for n, score in sparse.items() if score == largest]:
      budget -= sizes[name]
      del sparse[name]
  return {n: 1 - epsilon * sparse[n] if n in sparse else 0.0 for n in sizes}


@functools.cache
def _str_tables() -> dict[float, dict[str, float]]:
  """{overall sparsity: {layer of ResNet-50: its sparsity}}."""
  path = importlib.resources.files("rigl") / "str_sparsities.json"
  data = json.loads(path.read_text(encoding="utf-8"))
  return {
    float(overall) / 100: {
      name: value / 100
      for name, value in zip(data["layers"], values, strict=True)
    }
    for overall, values in data["percent"].items()
  }


def _str_sparsities(names: Iterable[str], overall: float) -> dict[str, float]:
  tables = _str_tables()
  nearest = min(tables, key=lambda known: abs(known - overall))
  if abs(nearest - overall) > _STR_TOLERANCE:
    known = [round(table, 4) for table in sorted(tables)]
    raise ValueError(
      f"`default_sparsity` must be in {known} for 'str', got {overall}."
    )
  table, names = tables[nearest], list(names)
  unknown = sorted(set(names) - set(table))
  if unknown:
    raise ValueError(
      f"`layers` must be layers of ResNet-50 for 'str', got also {unknown}."
    )
  return {name: table[name] for name in names}
