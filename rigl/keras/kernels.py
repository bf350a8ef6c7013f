# SPDX-License-Identifier: Apache-2.0
"""Which trainable variables become sparse: kernels, narrowed by `filters`.

An optimizer sees variables, not layers. What a variable is in its layer
follows from its name there ("kernel" in every layer of Keras) and from the
layer, which `live.owners` finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from rigl.keras.compact_layers import storage_owner
from rigl.keras.live import Owners

# A regex, several regexes, or a function of the path of a variable.
Filters: TypeAlias = str | Sequence[str] | Callable[[str], bool] | None

# The names that layers give to matrices that they multiply inputs by.
KERNEL_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel")
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def path_of(variable: Any) -> str:
  """The path of a Keras variable, or the name of a `tf.Variable`."""
  return getattr(variable, "path", None) or variable.name.split(":")[0]


def find_path(key: str, paths: Sequence[str]) -> str | None:
  """The path that a key is in full, maybe with a scope before it.

  Keras builds a `Sequential` of a list in the scope of the model, but one that
  it loads from a file without: `sequential/dense/kernel`, `dense/kernel`.

  >>> find_path("sequential/dense/kernel", ["kernel", "dense/kernel"])
  'dense/kernel'

  Args:
    key: a path, or anything else.
    paths: the paths of variables.

  Returns:
    The longest one that ends the key; None if there is none.
  """
  ends = [path for path in paths if f"/{key}".endswith(f"/{path}")]
  return max(ends, key=len, default=None)


def check_filters(filters: Filters) -> None:
  """Raises ValueError unless `filters` is as `choose_kernels` describes."""
  patterns = [filters] if isinstance(filters, str) else filters
  if patterns is None or callable(patterns):
    return
  if not isinstance(patterns, list | tuple) or not all(
    isinstance(pattern, str) for pattern in patterns
  ):
    raise ValueError(
      "`filters` must be a regex, a list of regexes or a function of a path, "
      f"got {filters!r}."
    )
  for pattern in patterns:
    try:
      re.compile(pattern)
    except re.error as error:
      raise ValueError(
        f"`filters` must hold regular expressions, got {pattern!r}: {error}."
      ) from None


def choose_kernels(
  variables: Sequence[Any],
  owners: Sequence[Owners],
  filters: Filters,
) -> list[int]:
  """The positions of the variables that become sparse.

  Kernels are the variables of rank 2 and more that their layer calls `kernel`,
  `recurrent_kernel` or `pointwise_kernel`, except those of depthwise
  convolutions: kernels of `Dense`, `EinsumDense` (and so of attention),
  convolutions and recurrent cells. The values that a layer of `rigl.sparse`
  stores are a kernel as well. Biases, embeddings and the weights of
  normalizations are no kernels, whatever their rank.

  Args:
    variables: trainable variables.
    owners: the layers of each variable.
    filters: None for all kernels; a regex or a list of regexes, one of which
      must be found in a kernel's path (`re.search`); or a function of the
      path. A path in full, in place of a regex, also chooses a variable that
      is no kernel.

  Returns:
    Ascending positions, at least one.

  Raises:
    ValueError: if no variable is chosen, a pattern matches nothing, or two of
      the chosen ones have the same path.
  """
  paths = [path_of(variable) for variable in variables]
  kernels = _kernels(paths, variables, owners)
  patterns = [filters] if isinstance(filters, str) else filters
  if patterns is None:
    chosen = set(kernels)
  elif callable(patterns):
    chosen = {place for place in kernels if patterns(paths[place])}
  else:
    chosen = set()
    for pattern in patterns:
      whole = find_path(pattern, paths)
      found = [i for i, path in enumerate(paths) if path == whole]
      found = found or [i for i in kernels if re.search(pattern, paths[i])]
      if not found:
        raise ValueError(
          f"`filters` must match paths of kernels, got {pattern!r}, which "
          f"matches none of {[paths[i] for i in kernels]}; all variables: "
          f"{paths}."
        )
      chosen.update(found)
  if not chosen:
    raise ValueError(
      "`filters` must choose at least one variable to make sparse, got "
      f"{filters!r}; kernels: {[paths[i] for i in kernels]}, all variables: "
      f"{paths}."
    )
  _check(variables, paths, sorted(chosen))
  return sorted(chosen)


def _check(
  variables: Sequence[Any], paths: Sequence[str], chosen: Sequence[int]
) -> None:
  seen: set[str] = set()
  for place in chosen:
    path = paths[place]
    dtype = keras.backend.standardize_dtype(variables[place].dtype)
    if dtype not in _FLOATS:
      raise ValueError(
        f"`filters` must choose variables of dtypes {list(_FLOATS)}, got "
        f"{path!r} of dtype {dtype}."
      )
    if path in seen:
      raise ValueError(
        f"Two variables to make sparse have the same path {path!r}: give their "
        "layers different names, or leave them out by `filters`."
      )
    seen.add(path)


def _kernels(
  paths: Sequence[str], variables: Sequence[Any], owners: Sequence[Owners]
) -> list[int]:
  """The positions of the kernels among the variables."""
  return [
    place
    for place, path in enumerate(paths)
    if path.rsplit("/", 1)[-1] in KERNEL_NAMES
    and _is_kernel(variables[place], owners[place])
  ]


def _is_kernel(variable: Any, layers: Owners) -> bool:
  if storage_owner(variable, layers) is not None:
    return True
  return len(variable.shape) >= 2 and not any(
    _is_depthwise(layer, variable) for layer in layers
  )


def _is_depthwise(layer: keras.layers.Layer, kernel: Any) -> bool:
  """Whether each input channel of the layer has filters of its own."""
  if isinstance(layer, _DEPTHWISE):
    return True
  return getattr(layer, "groups", 1) > 1 and kernel.shape[-2] == 1
