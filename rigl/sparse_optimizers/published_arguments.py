# SPDX-License-Identifier: Apache-2.0
"""Arguments of the published optimizers that have no effect here."""

from __future__ import annotations

import warnings

_REASONS = {
  "use_stateless": "random numbers are always stateless and follow from `seed`",
  "use_tpu": "gradients are summed over replicas and shards in any case",
}


def warn_ignored(**arguments: bool | None) -> None:
  """Warns of published arguments that a caller gives and that do nothing.

  Args:
    **arguments: their values. None: not given.

  Raises:
    ValueError: if a value is no bool, which shifted positions would bring.
  """
  for name, value in arguments.items():
    if value is None:
      continue
    if not isinstance(value, bool):
      raise ValueError(f"`{name}` must be a bool or None, got {value!r}.")
    warnings.warn(f"`{name}` is ignored: {_REASONS[name]}.", stacklevel=4)
