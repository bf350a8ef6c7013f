# SPDX-License-Identifier: Apache-2.0
"""The compiler for devices that are not there, without such a compiler.

`tests/tpu_check/test_tpu_compiler.py` compiles programs, where libtpu is.
"""

from types import SimpleNamespace

import pytest

pytest.importorskip("jax")

import jax
from jax.experimental import topologies

from rigl.pjrt.topology_compiler import CompileError, TopologyCompiler

PROGRAM = """
module @m {
  func.func public @main(%a: tensor<2xf32>) -> tensor<2xf32> {
    %0 = stablehlo.add %a, %a : tensor<2xf32>
    return %0 : tensor<2xf32>
  }
}
"""


@pytest.fixture
def compiler(monkeypatch):
  """That of a topology of this CPU, which has no compiler for others."""
  found = SimpleNamespace(devices=jax.devices("cpu"))
  described = []

  def describe(topology, platform, **options):
    described.append((topology, platform, options))
    return found

  monkeypatch.setattr(topologies, "get_topology_desc", describe)
  made = TopologyCompiler("a:1x1", "cpu", {"name": "b"})
  assert described == [("a:1x1", "cpu", {"name": "b"})]
  return made


@pytest.mark.parametrize("platform", ["cpu", "nonsense"])
def test_a_platform_without_topologies_is_refused(platform):
  with pytest.raises(ValueError, match=f"not implemented for {platform}"):
    TopologyCompiler("v5e:2x2", platform, {})


def test_devices_of_the_topology_are_counted(compiler):
  assert compiler.num_devices == len(jax.devices("cpu"))


@pytest.mark.parametrize(
  "text, reason",
  [
    ("module {", "Unable to parse"),
    (PROGRAM.replace("stablehlo.add", "stablehlo.nothing"), "is unknown"),
    (PROGRAM, "cpu"),
  ],
  ids=["no program", "unknown operation", "no compiler"],
)
def test_what_does_not_compile_is_said_in_one_line(compiler, text, reason):
  with pytest.raises(CompileError, match=reason) as error:
    compiler.compile(text)
  assert "\n" not in str(error.value)
