# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of the optimizers and the engine run."""

import doctest

import pytest
import tensorflow as tf

from rigl import mask_ops, sparse_optimizers

CLASSES = [
  mask_ops.MaskEngine,
  *(
    getattr(sparse_optimizers, name)
    for name in sparse_optimizers.__all__
    if name.startswith("Sparse")
    and name not in ("SparseLayer", "SparseOptimizer")
  ),
]


@pytest.mark.parametrize("documented", CLASSES, ids=lambda c: c.__name__)
def test_example_of_a_class_runs(documented):
  example = doctest.DocTestParser().get_doctest(
    documented.__doc__,
    {"tf": tf, documented.__name__: documented},
    documented.__name__,
    None,
    None,
  )
  results = doctest.DocTestRunner().run(example)
  assert results.attempted >= 3
  assert results.failed == 0
