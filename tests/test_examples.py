# SPDX-License-Identifier: Apache-2.0
"""Every file in examples/ runs with --quick, is short and is documented."""

import pathlib
import runpy
import sys

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Lines that the output has, as patterns of their start.
PRINTED = {
  "cnn_cifar10": ("Total", "cnn.keras: test accuracy 0."),
  "custom_loop": ("step 60: loss", "test accuracy 0."),
  "mobilenet_finetuning": ("block_1_expand", "Total"),
  "sparse_mlp": ("Total", "weights, positions", "sparse_mlp.keras: test ac"),
  "sparse_transformer": ("mlp_up_0: SparseDense", "logits of the dense model"),
  "tabular_mlp": ("connections of the columns that matter", "of each of the"),
  "vision_transformer": ("multi_head_attention/query/kernel", "Total"),
}
# Networks that XLA compiles for half a minute.
DEEP = ("mobilenet_finetuning", "vision_transformer")


def test_all_of_them_are_known():
  assert sorted(PRINTED) == [path.stem for path in EXAMPLES]


@pytest.fixture
def without_compilation(monkeypatch):
  """Keras trains without XLA, unless a program asks for it."""
  compile_model = keras.Model.compile

  def compile_without(model, *arguments, jit_compile=False, **settings):
    compile_model(model, *arguments, jit_compile=jit_compile, **settings)

  monkeypatch.setattr(keras.Model, "compile", compile_without)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else [])
    for name in PRINTED
  ],
)
def test_example_runs(name, tmp_path, monkeypatch, capsys, request):
  if name in DEEP:
    request.getfixturevalue("without_compilation")
  path = ROOT / "examples" / f"{name}.py"
  monkeypatch.chdir(tmp_path)
  keras.utils.clear_session()  # Which numbers the layers of a process.
  monkeypatch.setattr(sys, "argv", [str(path), "--quick"])
  runpy.run_path(str(path), run_name="__main__")
  lines = capsys.readouterr().out.splitlines()
  for start in PRINTED[name]:
    assert any(line.startswith(start) for line in lines), start
  if name == "cnn_cifar10":
    model = keras.models.load_model("cnn.keras")
    assert type(model.optimizer) is keras.optimizers.SGD
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    active = sum(np.count_nonzero(kernel) for kernel in kernels)
    assert active <= 0.1 * sum(kernel.size for kernel in kernels) + 4


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_in_the_documentation(path):
  text = path.read_text(encoding="utf-8")
  assert len(text.splitlines()) <= 100
  assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
  assert f"python examples/{path.name} --quick" in text
  assert path.name in (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
