# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of what counts."""

import doctest
import importlib
import pathlib

import pytest

import rigl

ROOT = pathlib.Path(rigl.__file__).parent
MODULES = [
  ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
  for part in ("counting", "flops")
  for path in sorted((ROOT / part).rglob("*.py"))
  if path.stem != "__init__"
]


@pytest.mark.parametrize(
  "name", [*MODULES, "rigl.counting.architectures", "rigl.sparse_utils"]
)
def test_examples_are_true(name):
  assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
  modules = [importlib.import_module(name) for name in MODULES]
  assert sum(doctest.testmod(module).attempted for module in modules) >= 15
