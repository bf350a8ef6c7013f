# SPDX-License-Identifier: Apache-2.0
"""Sums over the replicas of one XLA program."""

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("jax")

from rigl.distribution import xla_replicas  # noqa: E402
from rigl.distribution.jax_replicas import create_jax_replicas  # noqa: E402
from rigl.runners.jax.device_program import DeviceProgram  # noqa: E402
from rigl.runners.jax.device_state import DeviceState  # noqa: E402
from rigl.runners.program import Program  # noqa: E402
from rigl.runners.stablehlo import lowering  # noqa: E402

VALUES = {
  "a": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.int32(7),
  "c": np.float32(0.5),
  "d": np.ones([1, 2], np.float32),
  "e": np.arange(4, dtype=np.int32).reshape(2, 1, 2),
}


def totals(values):
  return dict(zip(values, xla_replicas.totals([*values.values()]), strict=True))


def test_every_tensor_comes_back_in_its_shape_and_type():
  state = DeviceState(create_jax_replicas("default"), [])
  found = DeviceProgram(totals, state)(VALUES)
  for name, value in VALUES.items():
    np.testing.assert_array_equal(np.asarray(found[name]), value)
    assert np.asarray(found[name]).dtype == value.dtype


def test_tensors_of_a_dtype_are_one_exchange():
  def traced(values):
    with xla_replicas.tracing_for(3):
      return totals(values)

  example = {name: tf.constant(value) for name, value in VALUES.items()}
  lowered = lowering.lower(Program(traced, True), {"values": example})
  assert lowered.text.count("stablehlo.all_reduce") == 2
  assert "[[0, 1, 2]]" in lowered.text
