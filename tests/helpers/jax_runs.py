# SPDX-License-Identifier: Apache-2.0
"""Runs of `--runner=jax` beside those of other runners."""

from __future__ import annotations

import pathlib

import numpy as np
from script_runs import final_tensors, metrics

JAX = ("--runner=jax", "--strategy=default", "--compilation_cache=none")


def assert_close_runs(
  ours: pathlib.Path,
  usual: pathlib.Path,
  atol: float = 1e-5,
  slot_atol: float | None = None,
) -> None:
  """Masks and numbers are equal, floats close, and so are the metrics."""
  a, b = final_tensors(ours), final_tensors(usual)
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype, name
    if name.endswith("/mask") or a[name].dtype.kind != "f":
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    else:
      is_slot = slot_atol is not None and name.endswith("/Momentum")
      limit = slot_atol if is_slot and slot_atol else atol
      np.testing.assert_allclose(
        a[name], b[name], rtol=1e-3, atol=limit, err_msg=name
      )
  rows, expected = metrics(ours), metrics(usual)
  assert len(rows) == len(expected)
  for row, other in zip(rows, expected, strict=True):
    assert row.keys() == other.keys()
    for name in row.keys() - {"steps_per_second"}:
      if row[name] == "" or other[name] == "":
        assert row[name] == other[name], name
        continue
      found, wanted = float(row[name]), float(other[name])
      limit = 100 * atol + 100 * atol * abs(wanted)
      assert abs(found - wanted) <= limit, (name, found, wanted)
