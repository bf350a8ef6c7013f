# SPDX-License-Identifier: Apache-2.0
"""A type checker finds wrong arguments of the optimizers."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

PROGRAM = """
import tensorflow as tf
import rigl
from rigl import sparse_optimizers as so
from rigl.sparse_optimizers import SparseRigLOptimizer

inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
SparseRigLOptimizer(inner, 0, 9, 1, drop_fration=0.3)  # wrong
rigl.SparseRigLOptimizer(inner, 0, 9, 1, noise=0.3)  # wrong
so.SparseSETOptimizer(inner, 0, 9, 1, drop_fration=0.3)  # wrong
so.SparseStaticOptimizer(inner, 0, 9, 1, mask_engine="cuda")  # wrong
so.SparseMomentumOptimizer(inner, 0, 9, 1, momentun=0.3)  # wrong
so.SparseSnipOptimizer(inner, 0.9, "random", sed=3)  # wrong
so.SparseDNWOptimizer(inner, "0.9", "random")  # wrong
so.SparsePruningOptimizer(inner, 0, 9, 1, 0.9, decay=3)  # wrong
so.SparseFixedMaskOptimizer(inner, sed=3)  # wrong
SparseRigLOptimizer(inner, 0, 9, 1, 0.3, "cosine", noise_std=0.0, seed=3)
so.SparseSnipOptimizer(inner, 0.9, "random", {"a": 0.5}, mask_engine="numpy")
"""


def test_wrong_arguments_are_found(tmp_path):
  (tmp_path / "program.py").write_text(PROGRAM)
  checked = subprocess.run(
    [sys.executable, "-m", "mypy", "--ignore-missing-imports", "program.py"],
    cwd=tmp_path,
    env={**os.environ, "MYPYPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  found = re.findall(r"^program.py:(\d+): error", checked.stdout, re.MULTILINE)
  wrong = [
    str(number)
    for number, line in enumerate(PROGRAM.splitlines(), 1)
    if line.endswith("# wrong")
  ]
  assert found == wrong, checked.stdout + checked.stderr
