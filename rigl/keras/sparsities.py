# SPDX-License-Identifier: Apache-2.0
"""The sparsity of each variable, from the argument `distribution`."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rigl import sparse_utils
from rigl.keras.kernels import find_path
from rigl.structures import Structure

# A method, or {path or regex: sparsity}.
Distribution: TypeAlias = str | Mapping[str, float]

_METHODS = {
  "uniform": "random",
  "erdos_renyi": "erdos_renyi",
  "erk": "erdos_renyi_kernel",
}


def defaults(
  sparsity: float | None,
  distribution: Distribution | None,
  structure: Structure | None,
) -> tuple[float, Distribution]:
  """The sparsity and distribution where they are None.

  Args:
    sparsity: None for 0.9, or for the sparsity that `structure` fixes.
    distribution: None for `erk`, or for `uniform` if `structure` fixes the
      sparsity of every variable.
    structure: None, or the structure of the masks.
  """
  fixed = None if structure is None else structure.sparsity
  if sparsity is None:
    sparsity = 0.9 if fixed is None else fixed
  if distribution is None:
    distribution = "erk" if fixed is None else "uniform"
  return sparsity, distribution


def check_distribution(distribution: Distribution, sparsity: float) -> None:
  """Raises ValueError unless both are as `distribute` describes them."""
  _check_sparsity("`sparsity`", sparsity)
  if isinstance(distribution, Mapping):
    for pattern, value in distribution.items():
      if not isinstance(pattern, str):
        raise ValueError(
          f"`distribution` must have paths or regexes as keys, got {pattern!r}."
        )
      try:
        re.compile(pattern)
      except re.error as error:
        raise ValueError(
          "`distribution` must have paths or regular expressions as keys, got "
          f"{pattern!r}: {error}."
        ) from None
      _check_sparsity(f"`distribution` of {pattern!r}", value)
  elif not isinstance(distribution, str) or distribution not in _METHODS:
    raise ValueError(
      f"`distribution` must be one of {list(_METHODS)} or a dictionary of "
      f"paths or regexes and sparsities, got {distribution!r}."
    )


def distribute(
  distribution: Distribution,
  sparsity: float,
  shapes: Mapping[str, Sequence[int]],
) -> dict[str, float]:
  """The sparsity of each variable.

  Args:
    distribution: `uniform`, the same in all variables; `erdos_renyi` or `erk`
      (Erdos-Renyi-kernel), by the formulas of `sparse_utils.get_sparsities`,
      which keep `sparsity` as the overall one; or {path or regex: sparsity in
      [0, 1)}: a key that is a path, maybe with scopes before it, means that
      variable, any other key those in whose path it is found as a regex
      (`re.search`).
    sparsity: overall share of zeros, in [0, 1); with a dictionary, the
      sparsity of the variables that it does not name.
    shapes: {path: shape} of the variables.

  Returns:
    {path: sparsity}, in the order of `shapes`.

  Raises:
    ValueError: if a key matches no variable, or two paths or two regexes match
      one.
  """
  if not isinstance(distribution, Mapping):
    return sparse_utils.get_sparsities(shapes, _METHODS[distribution], sparsity)
  paths = list(shapes)
  keys: dict[str, str] = {}  # Of variables that one is the path of.
  regexes = []
  for key in distribution:
    whole = find_path(key, paths)
    if whole is None:
      regexes.append(key)
    elif whole in keys:
      raise ValueError(
        "`distribution` must give each variable one sparsity, but "
        f"{[keys[whole], key]} both end in {whole!r}; the sparse variables are "
        f"{paths}."
      )
    else:
      keys[whole] = key
  found = {path: distribution[key] for path, key in keys.items()}
  for regex in regexes:
    if not any(re.search(regex, path) for path in paths):
      raise ValueError(
        "`distribution` must have keys that match sparse variables, got "
        f"{regex!r}, which matches none of {paths}."
      )
  for path in paths:
    matching = [regex for regex in regexes if re.search(regex, path)]
    if path in found:
      continue
    if len(matching) > 1:
      raise ValueError(
        f"`distribution` must give each variable one sparsity, but {matching} "
        f"match {path!r}; the sparse variables are {paths}."
      )
    found[path] = distribution[matching[0]] if matching else sparsity
  return {path: float(found[path]) for path in paths}


def _check_sparsity(what: str, value: float) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise ValueError(f"{what} must be a number in [0, 1), got {value!r}.")
  if not 0 <= value < 1:
    raise ValueError(f"{what} must be in [0, 1), got {value}.")
