# SPDX-License-Identifier: Apache-2.0
"""Programs as StableHLO text."""

import pytest
import tensorflow as tf

from rigl.runners.program import Program
from rigl.runners.stablehlo import lowering

_IS_OLD = tf.__version__.startswith("2.15.")
needs_stablehlo = pytest.mark.skipif(_IS_OLD, reason="It writes no StableHLO.")


@needs_stablehlo
def test_parameters_results_and_changed_variables_are_told():
  first, second = (tf.Variable(tf.ones([3]), name=n) for n in "ab")

  def step(batch, number):
    second.assign_add(first * batch["x"])
    return {"z": tf.reduce_sum(second), "number": number + 1}

  lowered = lowering.lower(
    Program(step, False),
    {"batch": {"x": tf.ones([3])}, "number": tf.constant(1, tf.int64)},
  )
  assert lowered.results == ("number", "z")
  captured = [id(tensor) for tensor in lowered.captured]
  assert sorted(captured) == sorted([id(first.handle), id(second.handle)])
  # Two arguments come first, two results, too.
  assert lowered.aliases == {2: 2 + captured.index(id(second.handle))}
  (main,) = (line for line in lowered.text.splitlines() if "@main" in line)
  assert main.count("%arg") == 4


@needs_stablehlo
def test_text_has_no_locations_and_no_counted_constants():
  function = Program(lambda x: {"y": x * tf.range(5000)}, True)
  text = lowering.lower(function, {"x": tf.ones([5000], tf.int32)}).text
  assert " loc(" not in text
  assert "stablehlo.iota" in text
  assert len(text) < 5000


def test_what_xla_cannot_compile_is_said():
  function = Program(lambda x: {"y": tf.unique(x).y}, False)
  with pytest.raises(ValueError, match="XLA cannot compile it: ") as found:
    lowering.lower(function, {"x": tf.strings.as_string(tf.range(3))})
  assert len(str(found.value)) < 500 and "\n" not in str(found.value)


@pytest.mark.skipif(not _IS_OLD, reason="It writes StableHLO.")
def test_a_tensorflow_that_writes_none_is_named():
  with pytest.raises(ValueError, match="2.15.* writes no StableHLO; 2.21"):
    lowering.lower(Program(lambda x: {"y": x}, True), {"x": tf.ones([3])})
