# SPDX-License-Identifier: Apache-2.0
"""The script that compiles a training for a TPU."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from script_runs import Shell

from rigl.cifar_resnet.cifar_settings import CifarSettings
from rigl.imagenet_resnet.imagenet_settings import ImagenetSettings
from rigl.mnist.mnist_settings import MnistSettings
from rigl.sparse_optimizers.registry import METHODS
from rigl.tpu_check import chips, compiler
from rigl.tpu_check.compiler import CompiledProgram

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "tpu_compile_check.py"
TINY = (
  "--model=resnet18",
  "--width=0.25",
  "--image_size=32",
  "--num_label_classes=20",
  "--per_core_batch=4",
)


def load_script():
  spec = importlib.util.spec_from_file_location("tpu_compile_check", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class FakeCompiler:
  """Takes all programs but those with a word."""

  refused = None

  def __init__(self, topology):
    self.chip, self.num_devices = chips.parse(topology), 1

  def compile(self, text, num_replicas):
    if self.refused and self.refused in text:
      raise compiler.CompileError("does not fit: too big")
    return CompiledProgram(1.0, 2.0, 3.0, 4)


@pytest.fixture
def check(monkeypatch, capsys):
  """Runs the script without libtpu; the first argument is the settings."""
  script = load_script()
  monkeypatch.setattr(script, "TpuCompiler", FakeCompiler)

  def run(settings, *arguments):
    own = ("topology", "cores", "model", "per_core_batch")
    return Shell(script, settings, monkeypatch, capsys, own)(*arguments)

  return run


def programs_of(text):
  rows = [line.split("|")[1].strip() for line in text.splitlines()]
  return rows[2:]


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    (["--topology=v9:2x2"], "`topology` must be"),
    (["--topology=v5e"], "`topology` must be"),
    (["--model=resnet51"], "`model` must be one of ['resnet18'"),
    (["--model", "wrn_22"], "got 'wrn_22'"),
    (["--model=resnet18", "--per_core_batch=-1"], "`per_core_batch`"),
    (["--output_dir=x"], "`output_dir` cannot be given"),
    (["--train_batch_size=8"], "`train_batch_size` cannot be given"),
    (["--runner=loop"], "`runner` cannot be given"),
    (["--cores=65"], "`cores` must be in [0, 64]"),
    (["--cores=2"], "`cores` must be at most 1"),
    (["--training_method=prune"], "training_method"),
    (["--end_sparsity=1"], "`end_sparsity`"),
    (["--precision=float64"], "precision"),
    (["--gin_config=nowhere.gin"], "'nowhere.gin'"),
    (["--model=mnist", "--width=2"], "width"),
    (["x"], "only --flags"),
  ],
)
def test_wrong_flag_is_named_in_one_line(
  check, monkeypatch, tmp_path, arguments, named
):
  monkeypatch.chdir(tmp_path)
  mnist = "--model=mnist" in arguments
  found = check(MnistSettings if mnist else ImagenetSettings, *arguments)
  assert (found.code, found.out) == (1, "")
  assert found.err.startswith("error: ") and found.err.count("\n") == 1
  assert named in found.err
  assert list(tmp_path.iterdir()) == []


def test_missing_libtpu_is_said_before_anything_is_built(monkeypatch, capsys):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda n: None if n == "libtpu" else find(n)
  )
  script = load_script()
  monkeypatch.setattr(
    "rigl.training.run_directory.RunDirectory.__init__",
    lambda *_, **__: pytest.fail("a run was made"),
  )
  own = ("topology", "cores", "model", "per_core_batch")
  found = Shell(script, ImagenetSettings, monkeypatch, capsys, own)()
  assert found.code == 1 and found.err.count("\n") == 1
  assert found.err.startswith("error: libtpu must be installed")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_programs(check, method):
  arguments = ["--model=mnist", f"--training_method={method}"]
  found = check(MnistSettings, *arguments)
  assert found.code == 0, found.err
  updates = method not in ("baseline", "scratch", "dnw")
  assert programs_of(found.out) == [
    "training step",
    *(["mask update"] if updates else []),
    "evaluation",
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("settings", "arguments", "expected"),
  [
    (
      ImagenetSettings,
      (*TINY, "--precision=bfloat16"),
      ("tensor<4x32x32x3xbf16>", "x20xf32>"),
    ),
    (
      ImagenetSettings,
      ("--model=mobilenet_v2", *TINY[1:], "--training_method=snip"),
      ("tensor<4x32x32x3xf32>",),
    ),
    (
      CifarSettings,
      ("--model=wrn_10_1", "--training_method=prune"),
      ("tensor<50000x32x32x3xui8>", "tensor<390x128xi32>"),
    ),
  ],
)
def test_programs_are_those_of_the_flags(
  check, monkeypatch, settings, arguments, expected
):
  texts = []
  original = FakeCompiler.compile
  monkeypatch.setattr(
    FakeCompiler,
    "compile",
    lambda self, text, count: texts.append(text) or original(self, text, count),
  )
  found = check(settings, *arguments)
  assert found.code == 0, found.err
  assert len(texts) == 3
  for part in expected:
    assert part in texts[0]
  if "--precision=bfloat16" in arguments:  # RigL.
    # As on a TPU, all layers at once: a few loops, not two a layer.
    assert texts[1].count("stablehlo.while") <= 8


@pytest.mark.slow
def test_program_that_is_refused_makes_the_script_fail(check, monkeypatch):
  monkeypatch.setattr(FakeCompiler, "refused", "dot_general")
  found = check(MnistSettings, "--model=mnist")
  assert found.code == 1
  assert len(programs_of(found.out)) == 3
  assert found.err.count("\n") == 1
  assert "does not fit: too big" in found.err
  assert "training step" in found.err


@pytest.mark.slow
@pytest.mark.skipif(
  not importlib.util.find_spec("libtpu"), reason="libtpu is not installed"
)
@pytest.mark.parametrize(
  "arguments",
  [
    ("--model=mnist", "--training_method=rigl"),
    (*TINY, "--training_method=rigl", "--precision=bfloat16"),
  ],
)
def test_small_training_compiles_for_a_tpu(arguments):
  found = subprocess.run(
    [sys.executable, SCRIPT, "--topology=v5e:2x2", *arguments],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert found.returncode == 0, found.stderr
  names = ["training step", "mask update", "evaluation"]
  assert programs_of(found.stdout) == names
  assert "failed" not in found.stdout and "GiB" in found.stdout
