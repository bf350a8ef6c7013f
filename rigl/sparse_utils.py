"""Per-layer sparsities, initial masks and what they cost, in plain NumPy.

Growing, dropping and the rules of counting live elsewhere; so does every
variable: layers are known here by name and kernel shape only.
"""

import functools
import importlib.resources
import json
import math
import operator
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rigl import counting

DISTRIBUTIONS = ("random", "erdos_renyi", "erdos_renyi_kernel", "str")

# A requested overall sparsity may be this far from the one of an STR table.
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
  if size < 0:
    raise ValueError(f"`size` must be at least 0, got {size}.")
  if not 0 <= sparsity <= 1:
    raise ValueError(f"`sparsity` must be in [0, 1], got {sparsity}.")
  return math.floor(sparsity * size)


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
  arrays = [np.asarray(mask) for mask in values]
  size = sum(array.size for array in arrays)
  if not size:
    raise ValueError("`masks` must hold at least one connection, got none.")
  n_ones = sum(int(np.count_nonzero(array)) for array in arrays)
  return (size - n_ones) / size


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
  become dense and the others pay for them.

  >>> layers = {'wide': (100, 10), 'narrow': (10, 10)}
  >>> get_sparsities(layers, 'random', 0.8)
  {'wide': 0.8, 'narrow': 0.8}

  Args:
    layers: kernel shapes (or objects with a `shape`) by layer name; positive
      dimensions, the last two being inputs and outputs.
    method: one of `DISTRIBUTIONS`.
    default_sparsity: overall share of zeros, in [0, 1); for `str` within 1e-6
      of one that has a table.
    custom_sparsity_map: layer names with a sparsity in [0, 1) of their own.
      They are left out of the distribution, and `str` ignores them.
    erk_power_scale: non-negative exponent, for `erdos_renyi_kernel` only.

  Returns:
    A sparsity in [0, 1] for every layer, in the order of `layers`.

  Raises:
    ValueError: if an argument is not as described, or if there is no layer
      left to distribute the sparsity over.
  """
  shapes = _get_shapes(layers)
  custom = dict(custom_sparsity_map or {})
  _check_sparsities(shapes, default_sparsity, custom)
  if not (math.isfinite(erk_power_scale) and erk_power_scale >= 0):
    raise ValueError(
      "`erk_power_scale` must be finite and not negative, got "
      f"{erk_power_scale}."
    )
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
    dtype: dtype of the mask. The zeros do not depend on it.

  Returns:
    An array of the given shape, 1 (or True) where a connection is active.

  Raises:
    ValueError: if `sparsity` or `seed` is out of its range.
  """
  if seed < 0:
    raise ValueError(f"`seed` must be at least 0, got {seed}.")
  shape = tuple(shape)
  mask = np.ones(math.prod(shape), np.bool_)
  mask[: get_n_zeros(mask.size, sparsity)] = False
  # Not `hash`, which differs between processes.
  sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
  np.random.Generator(np.random.Philox(sequence)).shuffle(mask)
  return mask.reshape(shape).astype(dtype)


def get_mask_init_fn(
  layers: Mapping[str, Any],
  method: str,
  default_sparsity: float,
  custom_sparsity_map: Mapping[str, float] | None = None,
  mask_fn: Callable[..., np.ndarray] = get_mask_random,
  erk_power_scale: float = 1.0,
  seed: int = 0,
) -> Callable[[], dict[str, np.ndarray]]:
  """Prepares the initial masks of all layers (see `get_sparsities`).

  Args:
    layers: kernel shapes, or objects with a `shape`, by layer name. Those
      with an `assign` method (mask variables) are assigned their mask.
    method: one of `DISTRIBUTIONS`.
    default_sparsity: overall share of zeros, in [0, 1).
    custom_sparsity_map: sparsities by layer name, or None.
    mask_fn: makes one mask, called as `mask_fn(shape, sparsity, seed, name)`.
    erk_power_scale: non-negative exponent of `erdos_renyi_kernel`.
    seed: non-negative seed of the run.

  Returns:
    A function without arguments that makes (and assigns, in the dtype of the
    variable) all masks and returns them by layer name.

  Raises:
    ValueError: at once, as `get_sparsities` does, or if `seed` is negative.
  """
  if seed < 0:
    raise ValueError(f"`seed` must be at least 0, got {seed}.")
  shapes = _get_shapes(layers)
  sparsities = get_sparsities(
    layers, method, default_sparsity, custom_sparsity_map, erk_power_scale
  )

  def init_masks() -> dict[str, np.ndarray]:
    masks = {}
    for name, shape in shapes.items():
      mask = masks[name] = mask_fn(shape, sparsities[name], seed, name)
      layer = layers[name]
      if hasattr(layer, "assign"):
        dtype = getattr(layer.dtype, "as_numpy_dtype", layer.dtype)
        layer.assign(mask.astype(dtype))
    return masks

  return init_masks


class Stats(NamedTuple):
  """Cost of a network.

  Attributes:
    total_flops: multiplications and additions of one example.
    total_param_bits: bits of all weights, biases and bit masks.
    real_sparsity: share of zeros among the weights of all kernels, in [0, 1].
  """

  total_flops: float
  total_param_bits: float
  real_sparsity: float


def get_stats(
  layers: Any,
  default_sparsity: float = 0.8,
  method: str = "erdos_renyi",
  custom_sparsities: Mapping[str, float] | None = None,
  is_debug: bool = False,
  width: float = 1.0,
  first_layer_name: str | None = None,
  last_layer_name: str | None = None,
  param_size: int = 32,
  erk_power_scale: float = 1.0,
  published_rules: bool = False,
) -> Stats:
  """Counts the operations and bits of a network of a given sparsity.

  >>> layers = [counting.LayerSpec('fc', 'dense', (100, 10))]
  >>> get_stats(layers, 0.9, 'random').total_param_bits
  4520

  Args:
    layers: a list of `counting.LayerSpec`s or Keras layers, a Keras model, or
      a model with a method `layer_specs`; see `counting.find_layers`.
    default_sparsity: overall share of zeros, in [0, 1).
    method: one of `DISTRIBUTIONS`.
    custom_sparsities: {name of a layer or its kernel: sparsity in [0, 1)}, of
      layers that differ.
    is_debug: whether to print a table of all layers.
    width: what channels are multiplied by.
    first_layer_name: name of the layer whose inputs stay; None for the first.
    last_layer_name: name of the layer whose outputs stay; None for the last.
    param_size: bits of a weight or bias, at least 1.
    erk_power_scale: non-negative exponent of `erdos_renyi_kernel`.
    published_rules: whether to count as the published code does, see
      `counting.count_layer_as_published`. It also distributes the sparsity
      over the layers before `width` scales them.

  Returns:
    The cost, as the named tuple `Stats`.

  Raises:
    ValueError: if an argument is not as described.
  """
  counted = get_layer_counts(
    layers,
    default_sparsity,
    method,
    custom_sparsities,
    width,
    first_layer_name,
    last_layer_name,
    param_size,
    erk_power_scale,
    published_rules,
  )
  if is_debug:
    print(counting.summary(counted))
  count = counting.total_count(counted)
  return Stats(count.flops, count.bits, counting.real_sparsity(counted))


def get_layer_counts(
  layers: Any,
  default_sparsity: float = 0.8,
  method: str = "erdos_renyi",
  custom_sparsities: Mapping[str, float] | None = None,
  width: float = 1.0,
  first_layer_name: str | None = None,
  last_layer_name: str | None = None,
  param_size: int = 32,
  erk_power_scale: float = 1.0,
  published_rules: bool = False,
) -> list[counting.LayerCount]:
  """Counts layer by layer; see `get_stats` for arguments and errors."""
  if param_size < 1:
    raise ValueError(f"`param_size` must be at least 1, got {param_size}.")
  specs = counting.find_layers(layers)
  custom = counting.by_layer(specs, custom_sparsities or {})
  scaled = counting.scale_widths(
    specs, width, first_layer_name, last_layer_name
  )
  shapes = {
    spec.name: spec.kernel_shape
    for spec in (specs if published_rules else scaled)
  }
  sparsities = get_sparsities(
    shapes, method, default_sparsity, custom, erk_power_scale
  )
  return counting.count_layers(scaled, sparsities, param_size, published_rules)


def _get_shapes(layers: Mapping[str, Any]) -> dict[str, Shape]:
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
  unknown = sorted(set(custom) - set(shapes))
  if unknown:
    raise ValueError(
      f"`custom_sparsity_map` must use names out of {sorted(shapes)}, got "
      f"{unknown}."
    )
  if not 0 <= default < 1:
    raise ValueError(f"`default_sparsity` must be in [0, 1), got {default}.")
  for name, sparsity in custom.items():
    if not 0 <= sparsity < 1:
      raise ValueError(
        f"`custom_sparsity_map` must have values in [0, 1), got {sparsity} "
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
def _str_tables() -> dict[float, dict[str, float | None]]:
  path = importlib.resources.files("rigl") / "str_sparsities.json"
  data = json.loads(path.read_text(encoding="utf-8"))
  return {
    float(overall): dict(zip(data["layers"], values, strict=True))
    for overall, values in data["sparsities"].items()
  }


def _str_sparsities(names: Iterable[str], overall: float) -> dict[str, float]:
  tables = _str_tables()
  nearest = min(tables, key=lambda known: abs(known - overall))
  if abs(nearest - overall) > _STR_TOLERANCE:
    raise ValueError(
      f"`default_sparsity` must be in {sorted(tables)} for 'str', got "
      f"{overall}."
    )
  table = tables[nearest]
  found = {name: table.get(name) for name in names}
  sparsities = {name: s for name, s in found.items() if s is not None}
  if len(sparsities) < len(found):
    raise ValueError(
      "`layers` must be layers of ResNet-50 with an STR sparsity at "
      f"{nearest}, got also {sorted(set(found) - set(sparsities))}."
    )
  return sparsities
