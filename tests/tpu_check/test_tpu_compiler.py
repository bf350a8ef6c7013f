# SPDX-License-Identifier: Apache-2.0
"""The TPU's compiler; where it is not installed, what stands around it.

`.ci/run` has a stage with libtpu, in which nothing is skipped.
"""

import importlib.util
import re
from types import SimpleNamespace

import pytest

from rigl.tpu_check import chips, compiler

needs_libtpu = pytest.mark.skipif(
  not importlib.util.find_spec("libtpu"), reason="libtpu is not installed"
)
PRODUCT = """
module @m {{
  func.func public @main(%a: tensor<{0}x{0}xf32>) -> tensor<{0}x{0}xf32> {{
    %0 = stablehlo.dot_general %a, %a, contracting_dims = [1] x [0]
      : (tensor<{0}x{0}xf32>, tensor<{0}x{0}xf32>) -> tensor<{0}x{0}xf32>
    return %0 : tensor<{0}x{0}xf32>
  }}
}}
"""


@pytest.mark.parametrize("missing", [["jax"], ["libtpu"], ["jax", "libtpu"]])
def test_missing_package_says_what_to_install(monkeypatch, missing):
  find = lambda name: None if name in missing else SimpleNamespace()  # noqa: E731
  monkeypatch.setattr(importlib.util, "find_spec", find)
  with pytest.raises(ValueError, match="tpu-check") as found:
    compiler.TpuCompiler("v5e:2x2")
  assert str(found.value).startswith(" and ".join(missing))
  assert "\n" not in str(found.value)


def test_unknown_topology_comes_before_a_missing_package(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="`topology` must be"):
    compiler.TpuCompiler("v99:2x2")


def test_error_of_memory_is_told_from_others():
  error = RuntimeError("RESOURCE_EXHAUSTED: Used 20G of 15G.\nSee there.")
  assert compiler.explained(error) == "does not fit: Used 20G of 15G."
  error = RuntimeError("\nUNIMPLEMENTED: no such operation\n")
  assert compiler.explained(error) == (
    "does not compile: UNIMPLEMENTED: no such operation"
  )
  assert compiler.explained(RuntimeError("")).endswith("RuntimeError")


class Executable:
  """What a compiler returns, with this much of temporaries."""

  def __init__(self, temporary):
    self.temporary = temporary

  def hlo_modules(self):
    text = "  %a = f32[4]{0} all-reduce(%x)"
    return [SimpleNamespace(to_string=lambda: text)]

  def cost_analysis(self):
    return {"flops": 3.0, "bytes accessed": 4.0, "other": 5.0}

  def get_compiled_memory_stats(self):
    return SimpleNamespace(
      argument_size_in_bytes=1000,
      output_size_in_bytes=500,
      alias_size_in_bytes=400,
      temp_size_in_bytes=self.temporary,
      generated_code_size_in_bytes=20,
    )


def test_peak_counts_results_in_place_of_arguments_once():
  found = compiler.measured(Executable(3), 2.0, chips.CHIPS["v5e"])
  assert found == compiler.CompiledProgram(2.0, 3.0, 4.0, 1123, (1, 16))


def test_text_that_jax_cannot_read_leaves_exchanges_unknown(monkeypatch):
  def refuse(_):
    raise RuntimeError("INTERNAL: RET_CHECK failure")

  monkeypatch.setattr(Executable, "hlo_modules", refuse)
  found = compiler.measured(Executable(3), 2.0, chips.CHIPS["v5e"])
  assert found == compiler.CompiledProgram(2.0, 3.0, 4.0, 1123, None)


def test_peak_above_the_memory_does_not_fit():
  executable = Executable(20 * chips.GIB)
  with pytest.raises(compiler.CompileError, match="20.00 GiB of .* 15.75 GiB"):
    compiler.measured(executable, 2.0, chips.CHIPS["v5e"])


@needs_libtpu
@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=lambda c: c.name)
def test_every_chip_compiles_and_has_the_memory_of_the_table(chip):
  tpu = compiler.TpuCompiler(chip.example)
  found = tpu.compile(PRODUCT.format(256))
  assert found.flops == 2 * 256**3
  assert 2 * 256**2 * 4 <= found.peak_bytes < 2**27
  with pytest.raises(compiler.CompileError) as error:
    tpu.compile(PRODUCT.format(2**20))
  assert str(error.value).startswith("does not fit: ")
  (available,) = re.findall(r"available HBM \(([\d.]+)G\)", str(error.value))
  # Its last digit differs from version to version.
  assert float(available) == pytest.approx(chip.hbm_gib, abs=0.05)


@needs_libtpu
def test_text_that_is_no_program_does_not_compile():
  tpu = compiler.TpuCompiler("v5e:2x2")
  with pytest.raises(compiler.CompileError, match="does not compile: "):
    tpu.compile("module {")
  unknown = PRODUCT.format(8).replace("stablehlo.dot_general", "foo.bar")
  with pytest.raises(compiler.CompileError, match="does not compile: "):
    tpu.compile(unknown)


@needs_libtpu
def test_chips_that_make_no_topology_are_named():
  with pytest.raises(ValueError, match="libtpu does not take 'v5e:3x3': "):
    compiler.TpuCompiler("v5e:3x3")
