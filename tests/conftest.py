# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests.

TensorFlow is set up as in the scripts, on any processor.
"""

import os
import pathlib
import shlex
from typing import Any

import pytest
import warm_python

from rigl.config import tensorflow_environment  # noqa: F401 - Comes first.

# isort: split
import tensorflow as tf

from rigl.config import stop_signals
from rigl.mask_ops import engine
from rigl.runners.program import Program
from rigl.training import preemption

ROOT = pathlib.Path(__file__).resolve().parents[1]
_ENVIRONMENT = dict(os.environ)


@pytest.fixture(autouse=True)
def same_environment():
  """No variable that a test or our code sets reaches later tests.

  Programs of `warm_python` would start slowly, by an interpreter of their own.
  """
  yield
  for name in {*os.environ, *_ENVIRONMENT}:
    if name.startswith("PYTEST_"):  # Pytest's own.
      continue
    if name not in _ENVIRONMENT:
      del os.environ[name]
    elif os.environ.get(name) != _ENVIRONMENT[name]:
      os.environ[name] = _ENVIRONMENT[name]


@pytest.fixture(autouse=True)
def signals(monkeypatch):
  """No signal ends the process of the tests; handlers do not outlive a test."""
  monkeypatch.setattr(preemption, "_PATIENCE_SECONDS", 3600.0)
  before = stop_signals._watcher
  yield
  left = stop_signals._watcher
  if left is not None and left is not before:
    left.close()
    stop_signals._watcher = before


@pytest.fixture
def without_xla(monkeypatch):
  """Nothing but the top-k is compiled by XLA, which costs seconds a run."""
  tf_function = tf.function

  def plain_function(function: Any, jit_compile: Any = None, **options: Any):
    del jit_compile
    return tf_function(function, **options)

  monkeypatch.setattr(tf, "function", plain_function)


@pytest.fixture
def without_any_xla(monkeypatch, without_xla):
  """Not even the top-k is compiled, which takes seconds for each graph."""
  for name in ("top_k_of_layer", "drop_and_grow_of_layer"):
    function = getattr(engine, name).python_function
    monkeypatch.setattr(engine, name, tf.function(function, autograph=False))


@pytest.fixture
def eagerly(monkeypatch):
  """Nothing is traced or compiled, which costs seconds for each program.

  Optimizers made meanwhile choose connections by NumPy.
  """

  def call(program: Program, *arguments: Any) -> Any:
    return program.function.python_function(*arguments)

  monkeypatch.setattr(Program, "__call__", call)
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


@pytest.fixture
def environment(tmp_path):
  """Variables that make run.sh take this interpreter and install nothing."""
  requirements = "requirements.txt"
  place = tmp_path / "environment"
  (place / "bin").mkdir(parents=True)
  python = place / "bin" / "python"
  words = shlex.join(warm_python.command())
  python.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
  python.chmod(0o755)
  (place / ".installed").write_text(
    (ROOT / requirements).read_text() + (ROOT / "pyproject.toml").read_text()
  )
  return {
    **os.environ,
    "RIGL_ENV": str(place),
    "RIGL_REQUIREMENTS": requirements,
  }
