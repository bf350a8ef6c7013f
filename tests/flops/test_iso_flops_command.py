# SPDX-License-Identifier: Apache-2.0
"""`rigl-flops --iso_flops`: as wide as the FLOPs of the dense network allow."""

import json
import pathlib
import subprocess
import sys

import pytest
from flops_settings import make

from rigl import counting
from rigl.counting import architectures
from rigl.flops import flops_models, flops_report

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*flags, cwd=None):
  return subprocess.run(
    [sys.executable, "-m", "rigl.flops.command", *flags],
    capture_output=True,
    text=True,
    cwd=cwd,
    env={"PYTHONPATH": str(ROOT)},
  )


def test_iso_flops_counts_the_network_of_that_width(tmp_path):
  done = run("--iso_flops", "--model=wrn_22_2", "--sparsity=0.9")
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  header = next(i for i, line in enumerate(lines) if line.startswith("width "))
  width = float(lines[header].split()[1])
  wide = make(model="wrn_22_2", width=width)
  narrow = make(model="wrn_22_2", sparsity=0.0)
  cost = counting.total_count(wide.layers).flops
  dense = counting.total_count(narrow.layers).flops
  assert 0.995 * dense < cost <= dense
  assert lines[header + 1].split()[-1] == f"{cost / dense:.4f}"
  # The rest is the report of that width.
  again = run("--model=wrn_22_2", "--sparsity=0.9", f"--width={width}")
  assert done.stdout.startswith(again.stdout.rstrip("\n"))


def test_iso_flops_has_the_training_cost_beside_it():
  options = {"model": "vgg_a", "iso_flops": True, "first_layer_sparsity": 0.0}
  answer = make(**options)
  content = json.loads(flops_report.as_json(answer))
  found = content["iso_flops"]
  assert found["width"] == content["settings"]["width"] > 1
  sparse, wide = content["total"]["flops"], content["dense"]["flops"]
  assert found["inference_fraction"] == sparse / found["dense_flops"]
  # RigL: the dense gradient is that of the wide network. The run is 2x.
  step = (300 * sparse + 2 * sparse + wide) / 101
  assert found["training_fraction"] == pytest.approx(
    2 * step / (3 * found["dense_flops"])
  )
  assert "iso_flops" not in json.loads(flops_report.as_json(make()))


def test_iso_flops_of_a_file_scales_its_layers(tmp_path):
  path = tmp_path / "layers.json"
  layers = [
    {"name": "a", "kind": "dense", "kernel_shape": [10, 8]},
    {"name": "b", "kind": "dense", "kernel_shape": [8, 4], "activation": None},
  ]
  path.write_text(json.dumps(layers))
  answer = make(model=str(path), sparsity=0.5, method="random", iso_flops=True)
  # As by hand in tests/counting/test_iso_flops.py.
  assert answer.iso_flops.width == 1.875


def test_a_directory_does_not_hide_a_network(tmp_path, monkeypatch):
  (tmp_path / "mobilenet_v1").mkdir()
  monkeypatch.chdir(tmp_path)
  layers_at = flops_models.layers_by_width("mobilenet_v1")
  # Its channels are multiples of 8, those of files are rounded down.
  assert layers_at(1.3) == architectures.network("mobilenet_v1", 1.3)


@pytest.mark.parametrize(
  "options",
  [
    {"published_rules": True},
    {"method": "random", "custom_sparsities": ["layer1=0.99"]},
    {"sparsity": 0.0},
  ],
)
def test_iso_flops_counts_as_the_other_flags_say(options):
  answer = make(iso_flops=True, **options)
  cost = counting.total_count(answer.layers).flops
  dense = counting.total_count(answer.iso_flops.dense).flops
  assert 0.99 * dense < cost <= dense
  assert answer.settings["width"] == answer.iso_flops.width
  assert (answer.iso_flops.width == 1) == (options == {"sparsity": 0.0})


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--width=2"], "`width` must not be given with `iso_flops`, got 2.0"),
    (["--sparsity=file"], "`iso_flops` must not be given with `sparsity=file`"),
    (["--model=one.json"], "`iso_flops` has no answer: no width up to 1000"),
  ],
)
def test_iso_flops_that_cannot_be_solved_is_an_error(flags, words, tmp_path):
  # Neither the inputs nor the outputs of its only layer scale.
  (tmp_path / "one.json").write_text(
    '[{"name": "a", "kind": "dense", "kernel_shape": [10, 8]}]'
  )
  done = run("--iso_flops", "--model=mnist_fc", *flags, cwd=tmp_path)
  assert done.returncode == 1
  assert words in done.stderr
  assert len(done.stderr.splitlines()) == 1
