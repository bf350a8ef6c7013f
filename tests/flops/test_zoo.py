# SPDX-License-Identifier: Apache-2.0
"""The model zoo: sizes, FLOPs and accuracies of compact files."""

import json
import pathlib
import re
import subprocess
import sys

import export_models
import numpy as np
import pytest
import tensorflow as tf

import rigl
from rigl.flops import zoo
from rigl.formats import compact
from rigl.mnist.mnist_data import load_mnist
from rigl.predict.open_network import make_network, read_task
from rigl.training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "model_zoo.py"
NAMES = {
  "mnist": "784-300-100-10",
  "cifar10": "WRN-10-1",
  "resnet": "resnet18, width 0.1",
  "mobilenet_v1": "mobilenet_v1, width 0.1",
  "mobilenet_v2": "mobilenet_v2, width 0.1",
  "vgg": "vgg_a, width 0.05",
}


def write_mnist(path, **metadata):
  """A network of 784-3-10 units with 30 and 20 connections."""
  path.parent.mkdir(parents=True, exist_ok=True)
  tensors = {
    "layer1/weights": np.zeros([784, 3], np.float32),
    "layer1/biases": np.ones([3], np.float32),
    "layer2/layer2/weights": np.zeros([3, 10], np.float32),
    "layer2/layer2/biases": np.ones([10], np.float32),
  }
  tensors["layer1/weights"][:10] = 0.5
  tensors["layer2/layer2/weights"][:2] = 0.5
  known = {
    "task": "mnist",
    "flags": {},
    "sparsities": {
      "layer1/weights": round(1 - 30 / 2352, 6),
      "layer2/layer2/weights": round(1 - 20 / 30, 6),
    },
    "accuracy": 0.9125,
  }
  compact.write(path, tensors, metadata={**known, **metadata})


def test_counts_by_hand(tmp_path):
  place = tmp_path / "mnist" / "rigl_seed0" / "model.rigl"
  write_mnist(place)
  (entry,), left_out = zoo.read_zoo(tmp_path)
  assert not left_out
  assert (entry.network, entry.task) == ("784-3-10", "mnist")
  assert entry.file == "mnist/rigl_seed0/model.rigl"
  # A multiplication and an addition per connection, as biases take the place
  # of the first addition; and 3 ReLUs.
  assert entry.flops == 2 * 50 + 3
  assert entry.dense_flops == 2 * (2352 + 30) + 3
  assert entry.dense_bytes == 4 * (2352 + 30 + 13)
  assert entry.sparsity == pytest.approx(1 - 50 / 2382)
  assert entry.accuracy == pytest.approx(91.25)
  cells = [
    cell.strip() for cell in zoo.table([entry]).splitlines()[2].split("|")
  ]
  size = place.stat().st_size
  assert cells[1:-1] == [
    "784-3-10, MNIST",
    "`mnist/rigl_seed0/model.rigl`",
    "0.9790",
    f"{size / 1e3:.1f}",
    f"{size / 9580:.3f}",
    "0.000103",
    "0.022",
    "91.25",
  ]


@pytest.mark.parametrize(
  "name",
  [
    name
    if name in ("mnist", "cifar10")
    else pytest.param(name, marks=[pytest.mark.slow])
    for name in NAMES
  ],
)
def test_exports_of_every_network_are_rows(tmp_path, name):
  prefix, task, flags = export_models.checkpoint(tmp_path, name)
  size = {"image_size": 64} if task == "imagenet" else {}
  place = tmp_path / "a_seed0" / "model.rigl"
  place.parent.mkdir()
  rigl.export(prefix, place, "compact", task=task, flags=flags, **size)
  entry = zoo.read_entry(place)
  assert (entry.network, entry.task) == (NAMES[name], task)
  assert entry.bytes == place.stat().st_size
  assert entry.accuracy is None
  # The zeros are those of weights times masks in the checkpoint.
  tensors = checkpoints.load(prefix)
  zeros = weights = 0
  for key, value in tensors.items():
    layer, _, last = key.rpartition("/")
    if last in ("weights", "kernel", "depthwise_weights") and value.ndim > 1:
      mask = tensors.get(f"{layer}/mask", np.ones_like(value))
      zeros += np.count_nonzero(value * mask == 0)
      weights += value.size
  assert entry.sparsity == pytest.approx(zeros / weights, abs=1e-6)
  assert entry.flops < 0.5 * entry.dense_flops


def test_other_files_are_left_out_and_named(tmp_path):
  write_mnist(tmp_path / "good.rigl")
  write_mnist(tmp_path / "keras.rigl", task="keras")
  write_mnist(tmp_path / "wide.rigl", task="cifar10", flags={
    "resnet_depth": 10, "resnet_width": 1, "num_classes": 10
  })  # fmt: skip
  write_mnist(tmp_path / "flags.rigl", task="imagenet")
  write_mnist(tmp_path / "list.rigl", sparsities=[0.5])
  (tmp_path / "text.rigl").write_text("no")
  content = (tmp_path / "good.rigl").read_bytes()
  (tmp_path / "short.rigl").write_bytes(content[:-64])
  entries, left_out = zoo.read_zoo(tmp_path)
  assert [entry.file for entry in entries] == ["good.rigl"]
  assert set(left_out) == {
    f"{name}.rigl"
    for name in ("keras", "wide", "flags", "list", "text", "short")
  }
  assert "its task is 'keras'" in left_out["keras.rigl"]
  assert "its layer 'resnet_model/conv_1'" in left_out["wide.rigl"]
  assert "model_architecture" in left_out["flags.rigl"]
  assert "its metadata is not that" in left_out["list.rigl"]
  text = zoo.page("results", entries, left_out)
  assert "Left out: `flags.rigl` (" in text


def test_the_most_accurate_network_comes_first(tmp_path):
  for name, accuracy in (("a", 0.5), ("b", 0.9), ("c", 0.7)):
    write_mnist(tmp_path / f"{name}.rigl", accuracy=accuracy)
  entries, _ = zoo.read_zoo(tmp_path)
  assert [entry.file for entry in entries] == ["b.rigl", "c.rigl", "a.rigl"]


def test_without_files_the_page_says_so(tmp_path):
  assert "There is no file yet." in zoo.page("x", *zoo.read_zoo(tmp_path))


def test_documentation_has_the_page_that_the_script_writes():
  text = (ROOT / "docs" / "model_zoo.md").read_text(encoding="utf-8")
  directory = re.search(r"model_zoo\.py (\S+) --output", text)[1]
  assert text == zoo.page(directory, *zoo.read_zoo(ROOT / directory))


def test_files_have_the_accuracy_of_their_run():
  for path in (ROOT / "results").rglob("*.rigl"):
    result = json.loads((path.parent / "result.json").read_text())
    entry = zoo.read_entry(path)
    assert entry.accuracy == pytest.approx(100 * result["test_accuracy"])
    assert path.name == "model.rigl"


def test_a_file_of_mnist_has_the_accuracy_that_it_says():
  (path,) = (ROOT / "results" / "mnist").rglob("rigl_seed0/model.rigl")
  task, run = read_task(str(path), None)
  opened = make_network(task, run, {})
  opened.load()
  data = load_mnist()
  logits = opened.network.logits(tf.constant(data.test_images)).numpy()
  right = np.mean(logits.argmax(1) == data.test_labels)
  assert 100 * right == pytest.approx(zoo.read_entry(path).accuracy, abs=0.02)


def test_script_prints_and_writes(tmp_path):
  def run(*arguments):
    return subprocess.run(
      [sys.executable, str(SCRIPT), *map(str, arguments)],
      capture_output=True,
      text=True,
      env={"PYTHONPATH": str(ROOT)},
    )

  write_mnist(tmp_path / "zoo" / "rigl_seed0" / "model.rigl")
  printed = run(tmp_path / "zoo")
  assert printed.returncode == 0, printed.stderr
  assert "| 784-3-10, MNIST | `rigl_seed0/model.rigl` |" in printed.stdout
  assert run(tmp_path / "zoo", "--output", tmp_path / "a.md").returncode == 0
  assert (tmp_path / "a.md").read_text() == printed.stdout
  for wrong in ((tmp_path / "no",), (tmp_path, "--output", tmp_path / "x/y")):
    refused = run(*wrong)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
