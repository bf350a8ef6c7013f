# SPDX-License-Identifier: Apache-2.0
"""The table of compiled programs, by a compiler that is made up."""

import tensorflow as tf

from rigl.runners.program import Program
from rigl.tpu_check import chips, compile_report
from rigl.tpu_check.collectives import Collectives
from rigl.tpu_check.compiler import CompiledProgram, CompileError

GOOD = CompiledProgram(
  12.4, 6.16e12, 8.275e10, int(9.01 * chips.GIB), Collectives(1, 102_200_000)
)


class FakeCompiler:
  """Refuses texts with some words."""

  chip = chips.CHIPS["v5e"]

  def __init__(self, **refused):
    self.refused, self.texts = refused, []

  def compile(self, text, num_replicas):
    assert num_replicas == 1
    self.texts.append(text)
    for word, why in self.refused.items():
      if word in text:
        raise CompileError(why)
    return GOOD


def programs():
  x = {"x": tf.ones([4, 4])}
  return {
    "evaluate": (Program(lambda x: {"y": tf.sin(x)}, True), x),
    "update": (Program(lambda x: {"y": tf.cos(x)}, True), x),
    "train": (Program(lambda x: {"y": tf.tanh(x)}, True), x),
    "inspect": (Program(lambda x: {"y": x}, True), x),
  }


def test_programs_are_compiled_in_their_order():
  compiler = FakeCompiler()
  rows = list(compile_report.compile_all(compiler, programs(), updates=True))
  names = ["training step", "mask update", "evaluation"]
  assert [row.name for row in rows] == names
  assert all(row.result == GOOD for row in rows)
  for text, word in zip(
    compiler.texts, ("tanh", "cosine", "sine"), strict=True
  ):
    assert f"stablehlo.{word}" in text
  assert compile_report.failures(rows) == ""


def test_masks_that_are_never_updated_have_no_program():
  rows = compile_report.compile_all(FakeCompiler(), programs(), updates=False)
  assert [row.name for row in rows] == ["training step", "evaluation"]


def test_what_is_refused_is_named_and_the_others_go_on():
  compiler = FakeCompiler(cosine="does not fit: too big", tanh="does not run")
  rows = list(compile_report.compile_all(compiler, programs(), updates=True))
  assert compile_report.failures(rows) == (
    "training step: does not run; mask update: does not fit: too big"
  )
  assert rows[2].result == GOOD
  failed = compile_report.line(rows[1], compiler.chip)
  assert failed == "| mask update | failed |  |  |  |  |"


def test_what_tensorflow_refuses_is_named_too():
  strings = Program(lambda x: {"y": tf.strings.as_string(x)}, False)
  refused = {**programs(), "train": (strings, {"x": tf.ones([2])})}
  rows = list(
    compile_report.compile_all(FakeCompiler(), refused, updates=False)
  )
  assert compile_report.failures(rows).startswith(
    "training step: XLA cannot compile"
  )
  assert "\n" not in compile_report.failures(rows)


def test_table_has_units_and_the_share_of_the_memory():
  chip = chips.CHIPS["v5e"]
  row = compile_report.line(
    compile_report.ProgramRow("mask update", GOOD), chip
  )
  assert row == (
    "| mask update | 12 s | 6.16e+12 | 8.28e+10 | 9.01 GiB (57%) | 1 (102 MB) |"
  )
  head, rule = compile_report.header(chip).splitlines()
  assert "15.75 GiB" in head
  assert head.count("|") == rule.count("|") == row.count("|")


def test_a_program_that_jax_cannot_read_has_its_other_figures():
  row = compile_report.line(
    compile_report.ProgramRow("update", GOOD._replace(collectives=None)),
    chips.CHIPS["v5e"],
  )
  assert "6.16e+12" in row and row.endswith("| unknown |")
